/* Snapshots and forks: the same bits afterwards, and files that are not right are refused. */
#include "small_model.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/hash.h"
#include "session/session.h"

#define N_TEXT 600u
#define HEAD_BYTES 104u      /* of a snapshot, its checksum last */

/* Sparse, with a prediction layer; the exact ones are deterministic, with 1 and 2 threads. */
static minke_context *ctx, *exact, *exact2;
static int32_t text[N_TEXT];

struct kind {
    uint32_t attention, window, cache_type, index_type, flags;
};

static const struct kind kinds[] = {
    {0, 0, 0, 0, 0},
    {0, 0, 0, 0, MINKE_SESSION_MTP},
    {MINKE_ATTENTION_DENSE, 0, MINKE_CACHE_BF16, 0, MINKE_SESSION_MTP},
    {MINKE_ATTENTION_WINDOW, 20, MINKE_CACHE_FP8, 0, 0},
    {0, 0, MINKE_CACHE_NATIVE, MINKE_INDEX_NATIVE, MINKE_SESSION_MTP},
    {0, 0, MINKE_CACHE_BF16, MINKE_INDEX_RESCORED, 0},
};
#define N_KINDS (sizeof kinds / sizeof *kinds)

static minke_session *open_kind(minke_context *c, const struct kind *k, uint32_t max_tokens,
                                uint32_t chunk)
{
    minke_session_params p;
    minke_session *s = NULL;

    minke_session_params_init(&p, sizeof p);
    p.max_tokens = max_tokens;
    p.prefill_chunk = chunk;
    p.attention = k->attention;
    p.window = k->window;
    p.cache_type = k->cache_type;
    p.index_type = k->index_type;
    p.flags = k->flags;
    CHECK_INT(minke_session_open(&s, c, &p), MINKE_OK);
    return s;
}

static const float *logits_of(const minke_session *s)
{
    static const float none[CK_VOCAB];
    const float *logits = none;

    CHECK_INT(minke_session_logits(s, &logits, NULL), MINKE_OK);
    return logits;
}

static int same_logits(const minke_session *a, const minke_session *b)
{
    return memcmp(logits_of(a), logits_of(b), CK_VOCAB * sizeof(float)) == 0;
}

static unsigned char *read_all(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    unsigned char *data;

    if (f == NULL)
        return NULL;
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    data = malloc(*size + 1);
    CHECK_INT(fread(data, 1, *size, f), *size);
    fclose(f);
    return data;
}

static void write_all(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");

    if (f == NULL || fwrite(data, 1, size, f) != size || fclose(f) != 0)
        exit(1);
}

static int same_files(const char *a, const char *b)
{
    size_t n = 0, m = 1;
    unsigned char *x = read_all(a, &n), *y = read_all(b, &m);
    const int same = x != NULL && y != NULL && n == m && memcmp(x, y, n) == 0;

    free(x);
    free(y);
    return same;
}

/* Files in the folder that a save has left half done. */
static int parts_left(void)
{
    char command[160];

    snprintf(command, sizeof command, "ls %s | grep -q part-", small_folder);
    return system(command) == 0;
}

/* ---- Going on ------------------------------------------------------------ */

TEST(a_loaded_session_goes_on_with_the_same_bits)
{
    float row[CK_VOCAB], other[CK_VOCAB];

    for (size_t i = 0; i < N_KINDS; i++) {
        minke_session *s = open_kind(exact, &kinds[i], 200, 0);
        minke_session *t = open_kind(exact, &kinds[i], 150, 7);

        CHECK_INT(minke_session_eval(s, text, 90), MINKE_OK);
        CHECK_INT(minke_session_save(s, small_path("a")), MINKE_OK);
        CHECK_INT(minke_session_eval(t, text + 50, 100), MINKE_OK);
        CHECK_INT(minke_session_load(t, small_path("a")), MINKE_OK);
        CHECK_INT(minke_session_length(t), 90);
        CHECK(memcmp(minke_session_tokens(t), text, 90 * sizeof *text) == 0);
        CHECK(same_logits(s, t));
        if (kinds[i].flags & MINKE_SESSION_MTP) {
            CHECK_INT(minke_session_mtp(s, text[90], row, CK_VOCAB), MINKE_OK);
            CHECK_INT(minke_session_mtp(t, text[90], other, CK_VOCAB), MINKE_OK);
            CHECK(memcmp(row, other, sizeof row) == 0);
        }
        CHECK_INT(minke_session_eval(s, text + 90, 40), MINKE_OK);
        CHECK_INT(minke_session_eval(t, text + 90, 40), MINKE_OK);
        CHECK(same_logits(s, t));
        if (kinds[i].flags & MINKE_SESSION_MTP) {
            CHECK_INT(minke_session_mtp(s, text[130], row, CK_VOCAB), MINKE_OK);
            CHECK_INT(minke_session_mtp(t, text[130], other, CK_VOCAB), MINKE_OK);
            CHECK(memcmp(row, other, sizeof row) == 0);
        }
        /* What is saved depends on nothing but what the session holds. */
        CHECK_INT(minke_session_save(s, small_path("a")), MINKE_OK);
        CHECK_INT(minke_session_save(t, small_path("b")), MINKE_OK);
        CHECK(same_files(small_path("a"), small_path("b")));
        minke_session_free(s);
        minke_session_free(t);
    }
    CHECK(!parts_left());
}

TEST(sessions_without_tokens_or_logits_are_saved_as_they_are)
{
    minke_session *s = open_kind(exact, &kinds[1], 100, 0);
    minke_session *t = open_kind(exact, &kinds[1], 100, 0), *u = NULL;
    const float *logits;

    CHECK_INT(minke_session_save(s, small_path("empty")), MINKE_OK);
    CHECK_INT(minke_session_eval(s, text, 60), MINKE_OK);
    CHECK_INT(minke_session_truncate(s, 45), MINKE_OK);
    CHECK_INT(minke_session_save(s, small_path("cut")), MINKE_OK);
    CHECK_INT(minke_session_load(t, small_path("cut")), MINKE_OK);
    CHECK_INT(minke_session_fork(&u, t, NULL), MINKE_OK);
    CHECK_INT(minke_session_length(t), 45);
    CHECK_INT(minke_session_logits(t, &logits, NULL), MINKE_EINVAL);
    CHECK_INT(minke_session_logits(u, &logits, NULL), MINKE_EINVAL);
    CHECK_INT(minke_session_eval(s, text + 45, 20), MINKE_OK);
    CHECK_INT(minke_session_eval(t, text + 45, 20), MINKE_OK);
    CHECK_INT(minke_session_eval(u, text + 45, 20), MINKE_OK);
    CHECK(same_logits(s, t));
    CHECK(same_logits(s, u));
    CHECK_INT(minke_session_load(t, small_path("empty")), MINKE_OK);
    CHECK_INT(minke_session_length(t), 0);
    CHECK_INT(minke_session_logits(t, &logits, NULL), MINKE_EINVAL);
    CHECK_INT(minke_session_eval(t, text, 65), MINKE_OK);
    CHECK(same_logits(s, t));
    minke_session_free(s);
    minke_session_free(t);
    minke_session_free(u);
}

/* Evaluate the text, n tokens a call, saving and loading or forking on the way. */
static void check_way(const struct kind *k, uint32_t chunk, size_t step, const float *expected)
{
    minke_session *s = open_kind(exact, k, N_TEXT, chunk), *t = NULL;

    for (size_t i = 0; i < N_TEXT; i += step) {
        const size_t n = N_TEXT - i < step ? N_TEXT - i : step;

        CHECK_INT(minke_session_eval(s, text + i, n), MINKE_OK);
        if (i / step % 7 == 3) {
            CHECK_INT(minke_session_fork(&t, s, NULL), MINKE_OK);
            minke_session_free(s);
            s = t;
        } else if (i / step % 7 == 5) {
            CHECK_INT(minke_session_save(s, small_path("way")), MINKE_OK);
            minke_session_free(s);
            s = open_kind(exact, k, N_TEXT + 10, chunk);
            CHECK_INT(minke_session_load(s, small_path("way")), MINKE_OK);
        }
    }
    CHECK(memcmp(logits_of(s), expected, CK_VOCAB * sizeof(float)) == 0);
    minke_session_free(s);
}

TEST(with_the_deterministic_flag_any_way_to_a_length_gives_the_same_bits)
{
    static const uint32_t chunks[] = {1, 64, 512, N_TEXT};

    for (size_t i = 0; i < N_KINDS; i++) {
        minke_session *s = open_kind(exact2, &kinds[i], N_TEXT, N_TEXT);

        CHECK_INT(minke_session_eval(s, text, N_TEXT), MINKE_OK);
        for (size_t j = 0; j < sizeof chunks / sizeof *chunks; j++) {
            check_way(&kinds[i], chunks[j], N_TEXT, logits_of(s));
            check_way(&kinds[i], chunks[j], 53, logits_of(s));
        }
        minke_session_free(s);
    }
}

TEST(truncating_anywhere_leads_to_the_same_bits)
{
    minke_session *s = open_kind(exact, &kinds[1], N_TEXT, 64);
    minke_session *t = open_kind(exact, &kinds[1], N_TEXT, 64);

    CHECK_INT(minke_session_eval(s, text, 140), MINKE_OK);
    CHECK_INT(minke_session_eval(t, text, 140), MINKE_OK);
    for (size_t n = 0; n < 140; n += n < 70 ? 1 : 11) {
        size_t reused = 0;

        CHECK_INT(minke_session_truncate(s, n), MINKE_OK);
        CHECK_INT(minke_session_length(s), n);
        CHECK_INT(minke_session_sync(s, text, 140, &reused), MINKE_OK);
        CHECK_INT(reused, n);
        CHECK(same_logits(s, t));
    }
    minke_session_free(s);
    minke_session_free(t);
}

/* ---- Forks --------------------------------------------------------------- */

TEST(forks_know_nothing_of_each_other)
{
    for (size_t i = 0; i < N_KINDS; i++) {
        minke_session *s = open_kind(exact, &kinds[i], 100, 0), *a = NULL, *b = NULL;
        minke_session *alone = open_kind(exact, &kinds[i], 100, 0);
        minke_session_params p;

        CHECK_INT(minke_session_eval(s, text, 50), MINKE_OK);
        CHECK_INT(minke_session_fork(&a, s, NULL), MINKE_OK);
        minke_session_params_init(&p, sizeof p);
        p.max_tokens = 70;
        p.attention = kinds[i].attention;
        p.window = kinds[i].window;
        p.cache_type = kinds[i].cache_type;
        p.index_type = kinds[i].index_type;
        p.flags = kinds[i].flags;
        CHECK_INT(minke_session_fork(&b, a, &p), MINKE_OK);
        CHECK(same_logits(a, b));
        /* Each goes its own way, the parent last. */
        CHECK_INT(minke_session_eval(a, text + 100, 30), MINKE_OK);
        CHECK_INT(minke_session_eval(b, text + 200, 20), MINKE_OK);
        CHECK_INT(minke_session_eval(b, text, 1), MINKE_EFULL);
        CHECK_INT(minke_session_eval(s, text + 50, 30), MINKE_OK);
        CHECK_INT(minke_session_eval(alone, text, 80), MINKE_OK);
        CHECK(same_logits(s, alone));
        minke_session_free(s);
        CHECK_INT(minke_session_sync(b, text, 70, NULL), MINKE_OK);
        CHECK_INT(minke_session_sync(a, text, 80, NULL), MINKE_OK);
        CHECK(same_logits(a, alone));
        minke_session_free(a);
        minke_session_free(b);
        minke_session_free(alone);
    }
}

static int32_t fork_in_callback(void *user, uint64_t done, uint64_t total)
{
    minke_session **s = user, *child = NULL;

    (void)done, (void)total;
    CHECK_INT(minke_session_fork(&child, *s, NULL), MINKE_EBUSY);
    CHECK(child == NULL);
    CHECK_INT(minke_session_save(*s, small_path("busy")), MINKE_EBUSY);
    CHECK_INT(minke_session_load(*s, small_path("a")), MINKE_EBUSY);
    CHECK_INT(minke_session_fill(*s, 1, 1), MINKE_EBUSY);
    return 0;
}

TEST(what_is_suspended_is_neither_forked_nor_saved)
{
    minke_session *s = open_kind(exact, &kinds[0], 100, 0), *child = NULL, *whole;

    CHECK_INT(minke_session_eval(s, text, 30), MINKE_OK);
    CHECK_INT(minke_session_save(s, small_path("a")), MINKE_OK);
    CHECK_INT(mk_session_queue(s, text + 30, 20, &child), MINKE_OK);
    CHECK_INT(mk_session_step(s, 1, 1), MINKE_OK);
    CHECK(s->pending.queued > 0);
    CHECK_INT(minke_session_fork(&child, s, NULL), MINKE_EBUSY);
    CHECK_INT(minke_session_save(s, small_path("b")), MINKE_EBUSY);
    CHECK_INT(minke_session_load(s, small_path("a")), MINKE_EBUSY);
    CHECK_INT(minke_session_fill(s, 1, 1), MINKE_EBUSY);
    CHECK_INT(mk_session_step(s, 0, 0), MINKE_OK);
    whole = open_kind(exact, &kinds[0], 100, 0);
    CHECK_INT(minke_session_eval(whole, text, 50), MINKE_OK);
    CHECK(same_logits(s, whole));
    CHECK_INT(minke_session_fork(&child, s, NULL), MINKE_OK);
    minke_session_free(child);
    minke_session_free(whole);
    minke_session_free(s);
}

TEST(what_a_fork_may_not_change_is_refused)
{
    static const struct kind others[] = {
        {MINKE_ATTENTION_DENSE, 0, 0, 0, 0}, {MINKE_ATTENTION_WINDOW, 5, 0, 0, 0},
        {0, 0, MINKE_CACHE_BF16, 0, 0}, {0, 0, 0, 0, MINKE_SESSION_MTP}};
    minke_session_params p;
    minke_session *s = open_kind(ctx, &kinds[0], 100, 0), *child = NULL;

    CHECK_INT(minke_session_eval(s, text, 50), MINKE_OK);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        minke_session_params_init(&p, sizeof p);
        p.attention = others[i].attention;
        p.window = others[i].window;
        p.cache_type = others[i].cache_type;
        p.flags = others[i].flags;
        CHECK_INT(minke_session_fork(&child, s, &p), MINKE_EINVAL);
    }
    minke_session_params_init(&p, sizeof p);
    p.max_tokens = 49;
    CHECK_INT(minke_session_fork(&child, s, &p), MINKE_EFULL);
    p.struct_size = 3;
    CHECK_INT(minke_session_fork(&child, s, &p), MINKE_EINVAL);
    CHECK_INT(minke_session_fork(NULL, s, NULL), MINKE_EINVAL);
    CHECK_INT(minke_session_fork(&child, NULL, NULL), MINKE_EINVAL);
    CHECK(child == NULL);
    minke_session_free(s);
    minke_session_params_init(&p, sizeof p);
    p.max_tokens = 100;
    p.progress = fork_in_callback;
    p.progress_user = &s;
    CHECK_INT(minke_session_open(&s, ctx, &p), MINKE_OK);
    CHECK_INT(minke_session_eval(s, text, 50), MINKE_OK);
    minke_session_free(s);
}

/* ---- Filling ------------------------------------------------------------- */

TEST(a_filled_session_is_the_same_for_any_threads_and_goes_on)
{
    for (size_t i = 0; i < N_KINDS; i++) {
        minke_context *one = small_open("model", 1, 0);
        minke_session *s = open_kind(ctx, &kinds[i], 300, 0);
        minke_session *t = open_kind(one, &kinds[i], 300, 0);
        const float *logits;
        float row[CK_VOCAB];

        CHECK_INT(minke_session_eval(s, text, 10), MINKE_OK);
        CHECK_INT(minke_session_fill(s, 200, 7), MINKE_OK);
        CHECK_INT(minke_session_length(s), 210);
        CHECK_INT(minke_session_logits(s, &logits, NULL), MINKE_EINVAL);
        CHECK_INT(minke_session_eval(t, text, 10), MINKE_OK);
        CHECK_INT(minke_session_fill(t, 200, 7), MINKE_OK);
        CHECK(memcmp(minke_session_tokens(s), minke_session_tokens(t), 840) == 0);
        CHECK_INT(minke_session_eval(s, text, 5), MINKE_OK);
        CHECK_INT(minke_session_eval(t, text, 5), MINKE_OK);
        CHECK(same_logits(s, t));
        if (kinds[i].flags & MINKE_SESSION_MTP)
            CHECK_INT(minke_session_mtp(s, 3, row, CK_VOCAB), MINKE_OK);
        CHECK_INT(minke_session_truncate(t, 10), MINKE_OK);
        CHECK_INT(minke_session_fill(t, 200, 8), MINKE_OK);
        CHECK_INT(minke_session_eval(t, text, 5), MINKE_OK);
        CHECK(!same_logits(s, t));
        CHECK_INT(minke_session_fill(s, 86, 7), MINKE_EFULL);
        CHECK_INT(minke_session_length(s), 215);
        CHECK(logits_of(s) != NULL);
        CHECK_INT(minke_session_fill(s, 0, 7), MINKE_OK);
        minke_session_cancel(s);
        CHECK_INT(minke_session_fill(s, 5, 7), MINKE_ECANCELED);
        CHECK_INT(minke_session_length(s), 215);
        CHECK_INT(minke_session_fill(s, 85, 7), MINKE_OK);
        CHECK_INT(minke_session_eval(s, text, 1), MINKE_EFULL);
        CHECK_INT(minke_session_truncate(s, 299), MINKE_OK);
        CHECK_INT(minke_session_eval(s, text, 1), MINKE_OK);
        minke_session_free(s);
        minke_session_free(t);
        minke_context_free(one);
    }
}

/* ---- Files that are not right -------------------------------------------- */

/* A session that holds something, a snapshot of it, and one of another session. */
struct victim {
    minke_session *s;
    unsigned char *data;         /* of the other snapshot, small_path("other") */
    size_t size;
};

static struct victim victim_open(const struct kind *k)
{
    struct victim v = {open_kind(ctx, k, 40, 0), NULL, 0};
    minke_session *other = open_kind(ctx, k, 40, 0);

    CHECK_INT(minke_session_eval(other, text + 9, 5), MINKE_OK);
    CHECK_INT(minke_session_save(other, small_path("other")), MINKE_OK);
    minke_session_free(other);
    v.data = read_all(small_path("other"), &v.size);
    CHECK_INT(minke_session_eval(v.s, text, 20), MINKE_OK);
    CHECK_INT(minke_session_save(v.s, small_path("before")), MINKE_OK);
    return v;
}

/* The victim must be what it was, and still able to load what is whole. */
static void victim_close(struct victim *v)
{
    CHECK_INT(minke_session_save(v->s, small_path("after")), MINKE_OK);
    CHECK(same_files(small_path("before"), small_path("after")));
    write_all(small_path("other"), v->data, v->size);
    CHECK_INT(minke_session_load(v->s, small_path("other")), MINKE_OK);
    CHECK_INT(minke_session_length(v->s), 5);
    minke_session_free(v->s);
    free(v->data);
}

static void check_refused(struct victim *v, const void *data, size_t size)
{
    write_all(small_path("bad"), data, size);
    CHECK_INT(minke_session_load(v->s, small_path("bad")), MINKE_ESNAPSHOT);
}

TEST(a_byte_flipped_anywhere_is_refused)
{
    struct victim v = victim_open(&kinds[1]);
    minke_session *empty = open_kind(ctx, &kinds[1], 40, 0);
    FILE *f;

    write_all(small_path("bad"), v.data, v.size);
    f = fopen(small_path("bad"), "r+b");
    setvbuf(f, NULL, _IONBF, 0);
    for (size_t i = 0; i < v.size; i++) {
        const unsigned char flipped = v.data[i] ^ (unsigned char)(1u << i % 8);

        fseek(f, (long)i, SEEK_SET);
        fwrite(&flipped, 1, 1, f);
        CHECK_INT(minke_session_load(v.s, small_path("bad")), MINKE_ESNAPSHOT);
        if (i % 50 == 0) {
            CHECK_INT(minke_session_load(empty, small_path("bad")), MINKE_ESNAPSHOT);
            CHECK_INT(minke_session_length(empty), 0);
        }
        fseek(f, (long)i, SEEK_SET);
        fwrite(v.data + i, 1, 1, f);
    }
    fclose(f);
    minke_session_free(empty);
    victim_close(&v);
}

TEST(a_file_cut_at_any_length_is_refused)
{
    struct victim v = victim_open(&kinds[1]);

    write_all(small_path("bad"), v.data, v.size);
    for (size_t n = v.size; n-- > 0;) {
        CHECK_INT(truncate(small_path("bad"), (off_t)n), 0);
        CHECK_INT(minke_session_load(v.s, small_path("bad")), MINKE_ESNAPSHOT);
    }
    v.data = realloc(v.data, v.size + 9);
    memset(v.data + v.size, 0, 9);
    for (size_t n = 1; n < 10; n++)
        check_refused(&v, v.data, v.size + n);
    victim_close(&v);
}

/* A head that was changed by somebody who knows its checksum. */
static void check_forged(struct victim *v, size_t at, uint64_t value, size_t width)
{
    unsigned char *data = malloc(v->size);
    uint64_t sum;

    memcpy(data, v->data, v->size);
    memcpy(data + at, &value, width);
    sum = mk_hash(1, data, HEAD_BYTES - 8);
    memcpy(data + HEAD_BYTES - 8, &sum, 8);
    check_refused(v, data, v->size);
    free(data);
}

TEST(forged_heads_are_refused)
{
    struct victim v = victim_open(&kinds[1]);
    static const uint64_t values[] = {0, 1, 2, 3, 4, 5, 6, 7, 48, 160, 255, 256, 1023, 65535, 65536,
                                      INT32_MAX, UINT32_MAX, (uint64_t)1 << 33, INT64_MAX,
                                      UINT64_MAX};

    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        for (size_t at = 8; at < HEAD_BYTES - 8; at += 4) {
            uint32_t now;

            memcpy(&now, v.data + at, 4);
            if (now != (uint32_t)values[i])
                check_forged(&v, at, values[i], 4);
        }
        for (size_t at = 16; at < 40; at += 8) {
            uint64_t now;

            memcpy(&now, v.data + at, 8);
            if (now != values[i])
                check_forged(&v, at, values[i], 8);
        }
    }
    victim_close(&v);
}

TEST(tokens_that_the_model_lacks_are_refused)
{
    struct victim v = victim_open(&kinds[1]);
    uint64_t sum;
    const int32_t bad[] = {CK_VOCAB, -1, INT32_MAX};

    /* The first block holds the five tokens; its checksum goes on from the head's. */
    for (size_t i = 0; i < 3; i++) {
        memcpy(v.data + HEAD_BYTES + 8, &bad[i], 4);
        memcpy(&sum, v.data + HEAD_BYTES - 8, 8);
        sum = mk_hash(sum, v.data + HEAD_BYTES, 20);
        memcpy(v.data + HEAD_BYTES + 20, &sum, 8);
        check_refused(&v, v.data, v.size);
        CHECK_HAS(minke_last_error(), "token 2: id");
    }
    free(v.data);
    v.data = read_all(small_path("other"), &v.size);
    victim_close(&v);
}

static void check_foreign(minke_context *c, const struct kind *k, const char *message)
{
    minke_session *s = open_kind(c, k, 100, 0);

    CHECK_INT(minke_session_eval(s, text, 11), MINKE_OK);
    CHECK_INT(minke_session_load(s, small_path("other")), MINKE_ESNAPSHOT);
    CHECK_HAS(minke_last_error(), message);
    CHECK_INT(minke_session_length(s), 11);
    CHECK(logits_of(s) != NULL);
    minke_session_free(s);
}

TEST(snapshots_of_other_models_and_sessions_are_refused)
{
    static const struct kind fp8 = {0, 0, MINKE_CACHE_FP8, 0, 0};
    static const struct kind dense = {MINKE_ATTENTION_DENSE, 0, 0, 0, 0};
    struct victim v = victim_open(&kinds[0]);
    minke_context *variant = small_open("variant", 1, 0);
    minke_session *small = open_kind(ctx, &kinds[0], 4, 0);
    uint32_t version = 2;

    check_foreign(variant, &kinds[0], "of model ");
    check_foreign(ctx, &kinds[1], "without the prediction layer's caches");
    check_foreign(ctx, &kinds[3], "attention 3, window 0; 2 and 20 expected");
    check_foreign(ctx, &dense, "attention 3, window 0; 1 and 0 expected");
    check_foreign(ctx, &fp8, "caches of type 0");
    CHECK_INT(minke_session_load(small, small_path("other")), MINKE_EFULL);
    CHECK_HAS(minke_last_error(), "5 tokens do not fit 4");
    minke_session_free(small);
    minke_context_free(variant);
    memcpy(v.data + 8, &version, 4);
    check_refused(&v, v.data, v.size);
    CHECK_HAS(minke_last_error(), "version 2; 1 expected");
    version = 1;
    memcpy(v.data + 8, &version, 4);
    check_refused(&v, "{\"model_type\": 1}", 17);
    CHECK_HAS(minke_last_error(), "too short");
    check_refused(&v, text, sizeof text);
    CHECK_HAS(minke_last_error(), "no snapshot");
    victim_close(&v);
}

TEST(missing_files_and_arguments_are_refused)
{
    struct victim v = victim_open(&kinds[0]);

    CHECK_INT(minke_session_load(v.s, small_path("no-such-file")), MINKE_EIO);
    CHECK(minke_session_load(v.s, small_folder) < 0);
    CHECK_INT(minke_session_load(v.s, NULL), MINKE_EINVAL);
    CHECK_INT(minke_session_load(NULL, small_path("other")), MINKE_EINVAL);
    CHECK_INT(minke_session_save(v.s, small_path("no-such-folder/a")), MINKE_EIO);
    CHECK_INT(minke_session_save(v.s, NULL), MINKE_EINVAL);
    CHECK_INT(minke_session_save(NULL, small_path("a")), MINKE_EINVAL);
    CHECK_INT(minke_session_fill(NULL, 1, 1), MINKE_EINVAL);
    victim_close(&v);
}

/* ---- Disks and processes that give up ------------------------------------ */

TEST(a_full_disk_leaves_the_old_file)
{
    struct victim v = victim_open(&kinds[1]);
    struct rlimit old, limit;
    size_t before_size = 0;

    free(read_all(small_path("before"), &before_size));
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    for (size_t n = 0; n <= before_size; n += before_size / 13) {
        int32_t rc;

        limit = old;
        limit.rlim_cur = n < before_size ? n : before_size - 1;
        CHECK_INT(setrlimit(RLIMIT_FSIZE, &limit), 0);
        rc = minke_session_save(v.s, small_path("other"));
        setrlimit(RLIMIT_FSIZE, &old);
        CHECK_INT(rc, MINKE_EIO);
        CHECK(!parts_left());
    }
    write_all(small_path("whole"), v.data, v.size);
    CHECK(same_files(small_path("whole"), small_path("other")));
    victim_close(&v);
}

/* In a process of its own: save two sessions in turn, for ever. */
static void save_for_ever(void)
{
    minke_context *own = small_open("model", 1, 0);
    minke_session *s[2];

    for (int i = 0; i < 2; i++) {
        s[i] = open_kind(own, &kinds[0], 500, 0);
        if (minke_session_fill(s[i], 500, (uint64_t)i) < 0)
            _exit(3);
    }
    for (size_t i = 0;; i++)
        if (minke_session_save(s[i % 2], small_path("killed")) < 0)
            _exit(4);
}

TEST(a_process_killed_while_saving_leaves_a_whole_file)
{
    minke_session *s[3];
    char command[128];
    size_t n_loaded = 0;

    for (int i = 0; i < 3; i++) {
        s[i] = open_kind(ctx, &kinds[0], 500, 0);
        CHECK_INT(minke_session_fill(s[i], 500, (uint64_t)i), MINKE_OK);
    }
    CHECK_INT(minke_session_save(s[0], small_path("killed")), MINKE_OK);
    for (unsigned i = 0; i < 12; i++) {
        const pid_t child = fork();
        int status = 0;

        if (child == 0)
            save_for_ever();
        usleep(30000 + 7777 * i);
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        CHECK(WIFSIGNALED(status));
        CHECK_INT(minke_session_load(s[2], small_path("killed")), MINKE_OK);
        for (int j = 0; j < 2; j++)
            n_loaded += memcmp(minke_session_tokens(s[2]), minke_session_tokens(s[j]),
                               500 * sizeof(int32_t)) == 0;
    }
    CHECK_INT(n_loaded, 12);
    snprintf(command, sizeof command, "rm -f %s/killed.part-*", small_folder);
    CHECK_INT(system(command), 0);
    for (int i = 0; i < 3; i++)
        minke_session_free(s[i]);
}

struct counter {
    size_t n, fail_at, live;
};

static void *count_alloc(void *user, size_t size, size_t align)
{
    struct counter *c = user;
    void *p = NULL;

    if (++c->n == c->fail_at || posix_memalign(&p, align < 16 ? 16 : align, size) != 0)
        return NULL;
    c->live += size;
    return p;
}

static void count_free(void *user, void *ptr, size_t size)
{
    ((struct counter *)user)->live -= size;
    free(ptr);
}

TEST(a_failing_allocator_is_survived_at_every_point)
{
    struct counter c = {0, 0, 0};
    minke_context_params p;
    minke_context *own = NULL;
    minke_session *s, *child;

    minke_context_params_init(&p, sizeof p);
    p.n_threads = 1;
    p.alloc = count_alloc;
    p.free = count_free;
    p.alloc_user = &c;
    CHECK_INT(minke_context_open(&own, small_path("model"), &p), MINKE_OK);
    s = open_kind(own, &kinds[1], 60, 0);
    CHECK_INT(minke_session_eval(s, text, 30), MINKE_OK);
    for (int what = 0; what < 4; what++) {
        int32_t rc = MINKE_ENOMEM;

        for (size_t at = 1; rc == MINKE_ENOMEM && at < 100; at++) {
            const size_t live = c.live;

            child = NULL;
            c.n = 0;
            c.fail_at = at;
            rc = what == 0 ? minke_session_save(s, small_path("memory"))
               : what == 1 ? minke_session_load(s, small_path("memory"))
               : what == 2 ? minke_session_fork(&child, s, NULL) : minke_session_fill(s, 2, 1);
            CHECK(rc == MINKE_OK || rc == MINKE_ENOMEM);
            CHECK(rc == MINKE_OK || child == NULL);
            minke_session_free(child);
            CHECK_INT(c.live, live);
            CHECK_INT(minke_session_length(s), what == 3 && rc == MINKE_OK ? 32 : 30);
        }
        CHECK_INT(rc, MINKE_OK);
    }
    c.fail_at = 0;
    minke_session_free(s);
    minke_context_free(own);
    CHECK_INT(c.live, 0);
}

int main(void)
{
    small_begin();
    small_write("model", 1, 1, 0);
    small_write("variant", 1, 1, 1);
    small_text(text, N_TEXT);
    /* Processes are forked first, while there are no other threads. */
    ctx = small_open("model", 1, 0);
    RUN(a_process_killed_while_saving_leaves_a_whole_file);
    minke_context_free(ctx);
    ctx = small_open("model", 2, 0);
    exact = small_open("model", 1, MINKE_CONTEXT_DETERMINISTIC);
    exact2 = small_open("model", 2, MINKE_CONTEXT_DETERMINISTIC);
    RUN(a_loaded_session_goes_on_with_the_same_bits);
    RUN(sessions_without_tokens_or_logits_are_saved_as_they_are);
    RUN(with_the_deterministic_flag_any_way_to_a_length_gives_the_same_bits);
    RUN(truncating_anywhere_leads_to_the_same_bits);
    RUN(forks_know_nothing_of_each_other);
    RUN(what_is_suspended_is_neither_forked_nor_saved);
    RUN(what_a_fork_may_not_change_is_refused);
    RUN(a_filled_session_is_the_same_for_any_threads_and_goes_on);
    RUN(a_byte_flipped_anywhere_is_refused);
    RUN(a_file_cut_at_any_length_is_refused);
    RUN(forged_heads_are_refused);
    RUN(tokens_that_the_model_lacks_are_refused);
    RUN(snapshots_of_other_models_and_sessions_are_refused);
    RUN(missing_files_and_arguments_are_refused);
    RUN(a_full_disk_leaves_the_old_file);
    RUN(a_failing_allocator_is_survived_at_every_point);
    minke_context_free(ctx);
    minke_context_free(exact);
    minke_context_free(exact2);
    small_end();
    return test_result();
}
