#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* mkdtemp, fork */
#endif
/* Contexts: what opens, what is refused and with which words, and that nothing is lost. */
#include <fenv.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "minke.h"
#include "test.h"

#include "checkpoint.h"

static char folder[64];
static char tokenizer[1 << 17], tokenizer_config[1 << 13];

static void remove_folder(void)
{
    char command[128];

    if (folder[0] == '\0')
        return;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command) != 0)
        exit(1);
    folder[0] = '\0';
}

static void new_folder(void)
{
    remove_folder();
    strcpy(folder, "/tmp/minke-context-XXXXXX");
    if (mkdtemp(folder) == NULL)
        exit(1);
}

static void read_text(char *text, size_t size, const char *path)
{
    FILE *f = fopen(path, "rb");

    if (f == NULL) {
        fprintf(stderr, "%s is missing; run in the source folder\n", path);
        exit(1);
    }
    text[fread(text, 1, size - 1, f)] = '\0';
    fclose(f);
}

static void write_text(const char *name, const char *text)
{
    ck_write_text(folder, name, text, strlen(text));
}

static void write_tokenizer(void)
{
    write_text("tokenizer.json", tokenizer);
    write_text("tokenizer_config.json", tokenizer_config);
}

/* A small model, and a tokenizer that knows more tokens than it. */
static void write_model(void)
{
    struct ck *c = ck_new(MK_BF16, 1, 1, 1, 1);

    new_folder();
    ck_write(c, folder);
    write_tokenizer();
    ck_free(c);
}

static minke_context_params params(uint32_t flags)
{
    minke_context_params p;

    minke_context_params_init(&p, sizeof p);
    p.n_threads = 2;
    p.flags = flags;
    return p;
}

static void check_refused(const minke_context_params *p, int32_t status, const char *message)
{
    minke_context *ctx = (minke_context *)folder;

    CHECK_INT(minke_context_open(&ctx, folder, p), status);
    CHECK(ctx == (minke_context *)folder);
    CHECK_HAS(minke_last_error(), message);
}

static minke_context *open_with(const minke_context_params *p)
{
    minke_context *ctx = NULL;

    CHECK_INT(minke_context_open(&ctx, folder, p), MINKE_OK);
    if (ctx == NULL) {
        fprintf(stderr, "%s\n", minke_last_error());
        exit(1);
    }
    return ctx;
}

static int64_t info(const minke_context *ctx, int32_t key)
{
    int64_t v = -99;

    CHECK_INT(minke_context_info(ctx, key, &v), MINKE_OK);
    return v;
}

static const char *text(const minke_context *ctx, int32_t key)
{
    const char *t = NULL;

    CHECK_INT(minke_context_text(ctx, key, &t), MINKE_OK);
    return t != NULL ? t : "NULL";
}

TEST(a_model_opens_and_tells_about_itself)
{
    const minke_context_params p = params(0);
    int64_t v = 77;
    const char *t = "same";

    write_model();
    minke_context *ctx = open_with(&p);
    CHECK_INT(info(ctx, MINKE_INFO_N_VOCAB), CK_VOCAB);
    CHECK_INT(info(ctx, MINKE_INFO_N_LAYERS), CK_LAYERS);
    CHECK_INT(info(ctx, MINKE_INFO_N_DENSE_LAYERS), 1);
    CHECK_INT(info(ctx, MINKE_INFO_N_MTP_LAYERS), 1);
    CHECK_INT(info(ctx, MINKE_INFO_MAX_TOKENS), 256);
    CHECK_INT(info(ctx, MINKE_INFO_HIDDEN_SIZE), CK_D);
    CHECK_INT(info(ctx, MINKE_INFO_N_EXPERTS), CK_EXPERTS);
    CHECK_INT(info(ctx, MINKE_INFO_INDEX_TOPK), 4);
    CHECK_INT(info(ctx, MINKE_INFO_N_THREADS), 2);
    CHECK_INT(info(ctx, MINKE_INFO_N_SURPLUS), 0);
    CHECK(info(ctx, MINKE_INFO_N_TOKENS) > 256);
    CHECK_INT(info(ctx, MINKE_INFO_WEIGHT_BYTES),
              info(ctx, MINKE_INFO_BYTES_EMBED) + info(ctx, MINKE_INFO_BYTES_ATTENTION)
              + info(ctx, MINKE_INFO_BYTES_EXPERTS) + info(ctx, MINKE_INFO_BYTES_OTHER));
    CHECK(info(ctx, MINKE_INFO_N_PARAMS_ACTIVE) < info(ctx, MINKE_INFO_N_PARAMS));
    CHECK(info(ctx, MINKE_INFO_BYTES_DECODE) > info(ctx, MINKE_INFO_N_PARAMS_ACTIVE));
    CHECK(info(ctx, MINKE_INFO_BYTES_DECODE)
          < info(ctx, MINKE_INFO_WEIGHT_BYTES) - info(ctx, MINKE_INFO_BYTES_EMBED) / 2);
    CHECK_STR(text(ctx, MINKE_TEXT_MODEL_TYPE), "deepseek_v32");
    CHECK_STR(text(ctx, MINKE_TEXT_WEIGHT_TYPE), "BF16");
    CHECK_STR(text(ctx, MINKE_TEXT_TOKENIZER_ERROR), "");
    CHECK(strlen(text(ctx, MINKE_TEXT_TOKENIZER)) > 0 && strlen(text(ctx, MINKE_TEXT_CPU)) > 0);
    CHECK_INT(minke_context_info(ctx, 9999, &v), MINKE_EVERSION);
    CHECK_INT(minke_context_text(ctx, 9999, &t), MINKE_EVERSION);
    CHECK_INT(minke_context_info(NULL, 1, &v), MINKE_EINVAL);
    CHECK_INT(minke_context_info(ctx, 1, NULL), MINKE_EINVAL);
    CHECK(v == 77 && strcmp(t, "same") == 0);
    CHECK(minke_context_surplus(ctx, 0) == NULL && minke_context_surplus(NULL, 0) == NULL);
    minke_context_free(ctx);
    minke_context_free(NULL);
    ctx = open_with(NULL);
    CHECK(info(ctx, MINKE_INFO_N_THREADS) >= 1);
    minke_context_free(ctx);
}

TEST(missing_and_damaged_files_are_told_apart)
{
    const minke_context_params p = params(0);
    char path[128];

    write_model();
    write_text("config.json", "{\"model_type\": ");
    check_refused(&p, MINKE_EFORMAT, "config.json: byte 15");
    write_text("config.json", "{\"model_type\": \"deepseek_v2\"}");
    check_refused(&p, MINKE_EFORMAT, "config.json: vocab_size: missing");
    write_text("config.json", "{\"model_type\": \"llama\"}");
    check_refused(&p, MINKE_EUNSUPPORTED, "model_type: \"llama\"");
    new_folder();
    check_refused(&p, MINKE_EIO, "config.json: no such file");
    write_model();
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    unlink(path);
    check_refused(&p, MINKE_EIO, "neither model.safetensors nor this index");
    write_text("model.safetensors", "short");
    check_refused(&p, MINKE_EFORMAT, "5 bytes are too few");
    remove_folder();
    strcpy(folder, "/no/such/folder");
    check_refused(&p, MINKE_EIO, "/no/such/folder");
    folder[0] = '\0';
}

TEST(arguments_that_break_the_contract_are_refused)
{
    minke_context_params p = params(0);
    minke_context *ctx = NULL;

    write_model();
    CHECK_INT(minke_context_open(NULL, folder, &p), MINKE_EINVAL);
    CHECK_INT(minke_context_open(&ctx, NULL, &p), MINKE_EINVAL);
    p.n_threads = 1u << 20;
    check_refused(&p, MINKE_EINVAL, "n_threads");
    p = params(1u << 30);
    check_refused(&p, MINKE_EVERSION, "flags");
    p = params(0);
    p.free = (minke_free_fn)(void (*)(void))remove_folder;
    check_refused(&p, MINKE_EINVAL, "alloc");
    p = params(0);
    p.reader_close = (minke_reader_close_fn)(void (*)(void))remove_folder;
    check_refused(&p, MINKE_EINVAL, "reader");
}

TEST(a_foreign_or_missing_tokenizer_only_silences_text)
{
    const minke_context_params p = params(0), alone = params(MINKE_CONTEXT_TOKENIZER_ONLY);
    char path[128];
    size_t n = 5;

    for (int missing = 0; missing < 2; missing++) {
        write_model();
        snprintf(path, sizeof path, "%s/tokenizer.json", folder);
        if (missing)
            unlink(path);
        else
            write_text("tokenizer.json", "{\"version\": \"1.0\", \"model\": {\"type\": \"Unigram\","
                                         " \"vocab\": []}, \"added_tokens\": []}");
        CHECK_INT(minke_context_info(NULL, 1, NULL), MINKE_EINVAL);
        minke_context *ctx = open_with(&p);
        CHECK_STR(minke_last_error(), "context is NULL");    /* success leaves it alone */
        CHECK(strlen(text(ctx, MINKE_TEXT_TOKENIZER_ERROR)) > 0);
        CHECK_STR(text(ctx, MINKE_TEXT_TOKENIZER), "");
        CHECK_INT(info(ctx, MINKE_INFO_N_TOKENS), 0);
        CHECK_INT(info(ctx, MINKE_INFO_TOKEN_EOS), 1);      /* as config.json says */
        CHECK_INT(minke_tokenize(ctx, "a", 1, 0, NULL, 0, &n), MINKE_EUNSUPPORTED);
        CHECK_STR(minke_last_error(), text(ctx, MINKE_TEXT_TOKENIZER_ERROR));
        CHECK_INT(n, 5);
        minke_context_free(ctx);
        check_refused(&alone, missing ? MINKE_EIO : MINKE_EUNSUPPORTED, "");
    }
}

TEST(a_tokenizer_opens_alone)
{
    const minke_context_params p = params(MINKE_CONTEXT_TOKENIZER_ONLY);
    minke_session *s = NULL;
    int32_t ids[16];
    size_t n = 0;

    new_folder();
    write_tokenizer();
    write_text("config.json", "{ not even JSON");
    minke_context *ctx = open_with(&p);
    CHECK_INT(minke_tokenize(ctx, "hello", 5, 0, ids, 16, &n), MINKE_OK);
    CHECK(n > 0);
    CHECK(info(ctx, MINKE_INFO_N_TOKENS) > 256 && info(ctx, MINKE_INFO_N_LAYERS) == 0);
    CHECK_STR(text(ctx, MINKE_TEXT_WEIGHT_TYPE), "");
    CHECK(minke_session_open(&s, ctx, NULL) < 0 && s == NULL);
    minke_context_free(ctx);
}

TEST(surplus_tensors_are_listed_and_logged)
{
    struct ck *c = ck_new(MK_BF16, 0, 0, 0, 0);
    minke_context_params p = params(0);

    ck_plain(c, "", "extra.weight", MK_BF16, 3, 5);
    new_folder();
    ck_write(c, folder);
    minke_context *ctx = open_with(&p);
    CHECK_INT(info(ctx, MINKE_INFO_N_SURPLUS), 1);
    CHECK_STR(minke_context_surplus(ctx, 0), "extra.weight");
    CHECK(minke_context_surplus(ctx, 1) == NULL);
    minke_context_free(ctx);
    p.flags = MINKE_CONTEXT_STRICT;
    check_refused(&p, MINKE_EFORMAT, "extra.weight");
    ck_free(c);
}

/* ---- The host's services ------------------------------------------------- */

struct host {
    size_t held, calls, fail_at;
    int open_files, n_lines, stop_at, n_progress;
    char log[4096];
};

static void *host_alloc(void *user, size_t size, size_t align)
{
    struct host *h = user;
    void *p = NULL;

    if (h->calls++ == h->fail_at || posix_memalign(&p, align, size) != 0)
        return NULL;
    memset(p, 0x55, size);
    h->held += size;
    return p;
}

static void host_free(void *user, void *p, size_t size)
{
    ((struct host *)user)->held -= size;
    free(p);
}

static void host_log(void *user, int32_t level, const char *line)
{
    struct host *h = user;

    CHECK(level >= MINKE_LOG_ERROR && level <= MINKE_LOG_INFO);
    CHECK(strchr(line, '\n') == NULL);
    h->n_lines++;
    strncat(h->log, line, sizeof h->log - strlen(h->log) - 1);
}

static int32_t host_progress(void *user, uint64_t done, uint64_t total)
{
    struct host *h = user;

    CHECK(done <= total);
    return ++h->n_progress == h->stop_at ? 1 : 0;
}

static int32_t host_reader_open(void *user, const char *path, void **file, uint64_t *size)
{
    char full[256];

    snprintf(full, sizeof full, "%s%s", folder, path + strlen("archive"));
    FILE *f = fopen(full, "rb");

    if (f == NULL)
        return 1;
    fseek(f, 0, SEEK_END);
    *size = (uint64_t)ftell(f);
    *file = f;
    ((struct host *)user)->open_files++;
    return 0;
}

static int32_t host_reader_read(void *user, void *file, uint64_t offset, void *buffer, size_t n)
{
    (void)user;
    return fseek(file, (long)offset, SEEK_SET) == 0 && fread(buffer, 1, n, file) == n ? 0 : -1;
}

static void host_reader_close(void *user, void *file)
{
    ((struct host *)user)->open_files--;
    fclose(file);
}

static minke_context_params host_params(struct host *h, uint32_t flags)
{
    minke_context_params p = params(flags);

    p.alloc = host_alloc;
    p.free = host_free;
    p.alloc_user = h;
    p.log = host_log;
    p.log_user = h;
    p.progress = host_progress;
    p.progress_user = h;
    return p;
}

TEST(a_hosts_reader_serves_all_files)
{
    struct host h = {.fail_at = SIZE_MAX};
    minke_context_params p = host_params(&h, MINKE_CONTEXT_VERIFY);
    minke_context *ctx = NULL;

    write_model();
    p.reader_open = host_reader_open;
    p.reader_read = host_reader_read;
    p.reader_close = host_reader_close;
    p.reader_user = &h;
    CHECK_INT(minke_context_open(&ctx, "archive", &p), MINKE_OK);
    if (ctx == NULL)
        return;
    CHECK(info(ctx, MINKE_INFO_N_TOKENS) > 256);
    CHECK_INT(h.open_files, 0);
    minke_context_free(ctx);
    CHECK_INT(h.held, 0);
    p.flags = MINKE_CONTEXT_MMAP;
    check_refused(&p, MINKE_EINVAL, "MMAP");
}

TEST(progress_and_log_are_told_and_progress_can_stop)
{
    struct host h = {.fail_at = SIZE_MAX};
    const minke_context_params p = host_params(&h, 0);

    write_model();
    minke_context_free(open_with(&p));
    CHECK(h.n_progress > 1 && h.n_lines > 0);
    CHECK_HAS(h.log, "deepseek_v32");
    CHECK_INT(h.held, 0);
    h.n_progress = 0;
    h.stop_at = 2;
    check_refused(&p, MINKE_ECANCELED, "progress");
    CHECK_INT(h.held, 0);
}

TEST(each_failing_allocation_is_told_and_leaks_nothing)
{
    static const uint32_t flags[] = {0, MINKE_CONTEXT_MMAP, MINKE_CONTEXT_TOKENIZER_ONLY};

    write_model();
    for (int f = 0; f < 3; f++) {
        struct host h = {0};
        minke_context_params p = host_params(&h, flags[f]);
        int32_t status = MINKE_ENOMEM;

        p.n_threads = 1;
        for (size_t n = 0; status != MINKE_OK && n < 10000; n++) {
            minke_context *ctx = NULL;

            h.calls = 0;
            h.fail_at = n;
            status = minke_context_open(&ctx, folder, &p);
            if (status != MINKE_OK) {
                CHECK_INT(status, MINKE_ENOMEM);
                CHECK_HAS(minke_last_error(), "out of memory");
                CHECK(ctx == NULL);
            }
            minke_context_free(ctx);
            CHECK_INT(h.held, 0);
        }
        CHECK_INT(status, MINKE_OK);
    }
}

/* ---- The host's state ---------------------------------------------------- */

TEST(the_callers_rounding_mode_stays_and_does_not_matter)
{
    const minke_context_params p = params(0);

    write_model();
    fesetround(FE_DOWNWARD);
    minke_context *ctx = open_with(&p);
    CHECK_INT(fegetround(), FE_DOWNWARD);
    fesetround(FE_TONEAREST);
    minke_context_free(ctx);
}

/* The thread sanitizer allows no new threads after a fork. */
#if defined(__has_feature)
#  if __has_feature(thread_sanitizer)
#    define THREADS_AFTER_FORK 1
#  endif
#endif
#if !defined(THREADS_AFTER_FORK) && defined(__SANITIZE_THREAD__)
#  define THREADS_AFTER_FORK 1
#elif !defined(THREADS_AFTER_FORK)
#  define THREADS_AFTER_FORK 2
#endif

TEST(a_child_after_fork_gets_an_error_and_can_free)
{
    minke_context_params p = params(0);
    int status = -1;

    write_model();
    minke_context *ctx = open_with(&p);
    const pid_t child = fork();

    if (child == 0) {
        minke_session *s = NULL;
        minke_context *own = NULL;
        int64_t v = 0;
        size_t n = 0;
        int bad = 0;

        alarm(20);
        p.n_threads = THREADS_AFTER_FORK;
        bad |= minke_context_info(ctx, 1, &v) != MINKE_EFORK;
        bad |= minke_tokenize(ctx, "a", 1, 0, NULL, 0, &n) != MINKE_EFORK;
        bad |= minke_session_open(&s, ctx, NULL) != MINKE_EFORK;
        bad |= minke_context_open(&own, folder, &p) != MINKE_OK;
        minke_context_free(own);
        minke_context_free(ctx);
        _exit(bad);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_INT(info(ctx, MINKE_INFO_N_LAYERS), CK_LAYERS);
    minke_context_free(ctx);
}

static void *open_and_free(void *arg)
{
    (void)arg;
    for (int i = 0; i < 5; i++) {
        const minke_context_params p = params(i % 2 ? MINKE_CONTEXT_MMAP : 0);

        minke_context_free(open_with(&p));
    }
    return NULL;
}

TEST(contexts_open_in_several_threads)
{
    pthread_t threads[3];

    write_model();
    for (int i = 0; i < 3; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, open_and_free, NULL), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}

static void begin(void)
{
    read_text(tokenizer, sizeof tokenizer, "tests/golden/tokenizer/tokenizer.json");
    read_text(tokenizer_config, sizeof tokenizer_config,
              "tests/golden/tokenizer/tokenizer_config.json");
}

TEST_MAIN(begin(), RUN(a_model_opens_and_tells_about_itself),
          RUN(missing_and_damaged_files_are_told_apart),
          RUN(arguments_that_break_the_contract_are_refused),
          RUN(a_foreign_or_missing_tokenizer_only_silences_text), RUN(a_tokenizer_opens_alone),
          RUN(surplus_tensors_are_listed_and_logged), RUN(a_hosts_reader_serves_all_files),
          RUN(progress_and_log_are_told_and_progress_can_stop),
          RUN(each_failing_allocation_is_told_and_leaks_nothing),
          RUN(the_callers_rounding_mode_stays_and_does_not_matter),
          RUN(a_child_after_fork_gets_an_error_and_can_free),
          RUN(contexts_open_in_several_threads), remove_folder())
