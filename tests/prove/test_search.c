#define _POSIX_C_SOURCE 200809L /* posix_memalign */
/* Searches with scripted models: what they ask, choose, keep in journals, and survive. */
#include <math.h>

#include "minke.h"
#include "test.h"

#if defined(_WIN32)
#include <process.h>
#define getpid _getpid
#else
#include <unistd.h>
#endif

#define HERE "Here is my evaluation of the solution:\n"
#define BASED "\nBased on my evaluation, the final overall score should be:\n\n\\boxed{"

/* ---- A scripted model ---- */

enum kind {
    IMPROVES,   /* a refined solution is one level up; from level 3 on it is right */
    NEVER,      /* always as bad */
    GARBAGE,    /* no sections, no scores, NaN, bytes that are no text */
    TIMES_OUT,  /* nothing is finished: cut, or not handed over */
    FLAKY,      /* improves, but for garbage and time-outs between */
    THREE       /* verifications of three scores, solutions never right */
};

struct script {
    enum kind kind;
    int stop_after;          /* completions, -1 = never: as if the process had been killed */
    int n_taken, n_requests, n_by_ask[6];
    uint64_t first_seed;
    char prompt[65536];      /* of the last request that refines */
    int n_shown[64];         /* evaluations in each of these prompts */
    int n_refine;
    minke_search *search;    /* to be disturbed, or NULL */
};

static uint64_t mix(uint64_t v)
{
    v = (v ^ v >> 33) * 0xff51afd7ed558ccdu;
    v = (v ^ v >> 33) * 0xc4ceb9fe1a85ec53u;
    return v ^ v >> 33;
}

/* The highest "level N." that text speaks of, -1 for none. */
static int level_of(const char *text)
{
    int best = -1;

    for (const char *at = text; (at = strstr(at, "level ")) != NULL; at++) {
        const int k = atoi(at + 6);

        best = k > best ? k : best;
    }
    return best;
}

static int count_of(const char *text, const char *what)
{
    int n = 0;

    for (; (text = strstr(text, what)) != NULL; text++)
        n++;
    return n;
}

static const char *const scores[3] = {"0", "0.5", "1"};

static int write_reply(const struct script *m, int32_t ask, const char *prompt, uint64_t r,
                       char *out, size_t size)
{
    static const char *const garbage[5] = {"", "no sections", "\xff\xfe \xc3", "\\boxed{nan}",
                                           "## Solution\n\n## Self Evaluation\n\\boxed{2}"};
    const int level = level_of(prompt), next = m->kind == IMPROVES || m->kind == FLAKY;

    if (m->kind == GARBAGE || (m->kind == FLAKY && r % 5 == 0))
        return snprintf(out, size, "%s", garbage[r / 5 % 5]);
    if (ask == MINKE_ASK_VERIFY || ask == MINKE_ASK_META)
        return snprintf(out, size, HERE "note %llu" BASED "%s}", (unsigned long long)(r % 1000),
                        m->kind == THREE ? scores[r % 3] : !next || level == 1 ? scores[r % 2]
                        : level >= 3 ? "1" : level == 2 ? "0.5" : "0");
    const int mine = next && ask == MINKE_ASK_REFINE ? level + 1 : 0;

    return snprintf(out, size, "<think>%.*s</think>## Solution\nlevel %d. \\boxed{%d}\nway %llu\n\n"
                    "## Self Evaluation\n" HERE "hm" BASED "%s}", (int)(r % 40),
                    "0123456789012345678901234567890123456789", mine, mine,
                    (unsigned long long)(r % 7), mine >= 3 ? "1" : scores[r % 2]);
}

static int32_t model(void *user, int32_t ask, uint64_t seed, const char *prompt,
                     size_t prompt_len, uint32_t n, minke_take_fn take, void *sink)
{
    struct script *m = user;
    char *text = malloc(prompt_len + 1), reply[1024];

    memcpy(text, prompt, prompt_len);
    text[prompt_len] = '\0';
    if (m->n_requests++ == 0)
        m->first_seed = seed;
    m->n_by_ask[ask] += (int)n;
    if (ask == MINKE_ASK_REFINE && prompt_len < sizeof m->prompt) {
        memcpy(m->prompt, text, prompt_len + 1);
        if (m->n_refine < 64)
            m->n_shown[m->n_refine++] = count_of(text, "=== Evaluation ");
    }
    if (m->search != NULL) {
        size_t len;

        CHECK_INT(minke_search_run(m->search, model, m), MINKE_EBUSY);
        CHECK_INT(minke_search_result(m->search, NULL, 0, &len), MINKE_EBUSY);
    }
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t r = mix(seed + i);
        int32_t reason = MINKE_FINISH_STOP;

        if (m->stop_after >= 0 && m->n_taken >= m->stop_after) {
            free(text);
            return 1;
        }
        if (m->kind == TIMES_OUT || (m->kind == FLAKY && r % 7 == 0)) {
            reason = r % 2 ? MINKE_FINISH_LENGTH : MINKE_FINISH_CANCELED;
            if (r % 3 == 0)
                break;                   /* this one and the rest did not come */
        }
        const int len = write_reply(m, ask, text, r, reply, sizeof reply);

        m->n_taken++;
        if (take(sink, reply, (size_t)len, reason, 0) != 0)
            break;
    }
    free(text);
    return 0;
}

/* ---- Searches ---- */

static char result[1 << 20], journal[256];

static minke_search_params settings(uint32_t driver)
{
    minke_search_params p;

    minke_search_params_init(&p, sizeof p);
    p.driver = driver;
    p.seed = 7;
    p.n_first = driver == MINKE_SEARCH_DRIVER_SEQUENTIAL ? 2 : 4;
    p.n_verifications = 3;
    p.n_best = 2;
    p.n_analyses = 2;
    p.n_samples = 1;
    p.max_rounds = 6;
    return p;
}

static minke_search *open_search(const minke_search_params *p)
{
    minke_search *s = NULL;
    static const char problem[] = "Show that {proof} holds.";

    CHECK_INT(minke_search_open(&s, problem, sizeof problem - 1, p), MINKE_OK);
    return s;
}

static void keep_result(const minke_search *s)
{
    size_t n = 0;

    CHECK_INT(minke_search_result(s, result, sizeof result - 1, &n), MINKE_OK);
    result[n < sizeof result ? n : 0] = '\0';
}

/* A whole search, its result kept. */
static struct script search(const minke_search_params *p, enum kind kind)
{
    struct script m = {.kind = kind, .stop_after = -1};
    minke_search *s = open_search(p);

    CHECK_INT(minke_search_run(s, model, &m), MINKE_OK);
    keep_result(s);
    minke_search_free(s);
    return m;
}

/* ---- What the drivers do ---- */

TEST(a_model_that_improves_is_refined_until_it_gives_itself_1)
{
    minke_search_params p = settings(MINKE_SEARCH_DRIVER_SEQUENTIAL);
    struct script m = search(&p, NEVER);

    CHECK_HAS(result, "\"solved\": false, \"finished\": true, \"rounds\": 6");
    CHECK_INT(m.n_taken, 12);
    p.n_first = 1;
    p.max_rounds = 8;
    m = search(&p, IMPROVES);
    CHECK_HAS(result, "\"solved\": true");
    CHECK_HAS(result, "\"round\": 4, \"chain\": 0, \"parent\": 3");
    CHECK_HAS(result, "\"answer\": \"3\"");
    CHECK_INT(m.n_by_ask[MINKE_ASK_PROOF], 1);
    CHECK_INT(m.n_by_ask[MINKE_ASK_REFINE], 3);
    CHECK_INT(m.n_by_ask[MINKE_ASK_VERIFY], 0);
}

TEST(what_gives_itself_no_score_is_refined_to_the_last_round)
{
    minke_search_params p = settings(MINKE_SEARCH_DRIVER_SEQUENTIAL);
    struct script m;

    m = search(&p, GARBAGE);
    CHECK_HAS(result, "\"solved\": false, \"finished\": true, \"rounds\": 6");
    CHECK_HAS(result, "\"best\": null");
    CHECK_INT(m.n_taken, 12);
    CHECK_INT(m.n_by_ask[MINKE_ASK_REFINE], 0);
    m = search(&p, TIMES_OUT);
    CHECK_HAS(result, "\"unfinished\": 12");
    CHECK_HAS(result, "\"proofs\": []");
    p.driver = MINKE_SEARCH_DRIVER_POOL;
    m = search(&p, TIMES_OUT);
    CHECK_INT(m.n_by_ask[MINKE_ASK_VERIFY], 0);
    CHECK_HAS(result, "\"rounds\": 6");
    m = search(&p, GARBAGE);
    CHECK_INT(m.n_by_ask[MINKE_ASK_VERIFY], 0);
    CHECK_HAS(result, "\"best\": null");
}

TEST(the_pool_is_refined_until_a_proof_passes)
{
    for (uint32_t preset = 0; preset < 2; preset++) {
        minke_search_params p = settings(MINKE_SEARCH_DRIVER_POOL);
        struct script m;

        p.preset = preset;
        p.n_verifications = 16;   /* so that chance passes nothing */
        m = search(&p, IMPROVES);
        CHECK_HAS(result, "\"solved\": true, \"finished\": true, \"rounds\": 4");
        CHECK_HAS(result, "\"score\": 1.0, \"answer\": \"3\"");
        CHECK(m.n_by_ask[MINKE_ASK_VERIFY] > 0);
        m = search(&p, NEVER);
        CHECK_HAS(result, "\"solved\": false, \"finished\": true, \"rounds\": 6");
        CHECK_INT(count_of(result, "{\"id\": "), 7);   /* seven ways, each once */
        search(&p, FLAKY);
        CHECK_HAS(result, "\"finished\": true");
    }
}

TEST(the_repository_shows_4_4_4_or_8_evaluations)
{
    minke_search_params p = settings(MINKE_SEARCH_DRIVER_POOL);
    struct script m;

    p.preset = MINKE_SEARCH_PRESET_REPOSITORY;
    p.n_first = p.n_best = p.n_analyses = 0;   /* as the preset has them */
    p.n_verifications = 64;
    p.max_rounds = 2;
    m = search(&p, THREE);
    CHECK_INT(m.n_by_ask[MINKE_ASK_PROOF], 128);
    CHECK_INT(m.n_refine, 7);                  /* seven different solutions */
    for (int i = 0; i < m.n_refine; i++)
        CHECK_INT(m.n_shown[i], 12);
    const char *zero = strstr(m.prompt, "{0}"), *half = strstr(m.prompt, "{0.5}");
    const char *one = strstr(m.prompt, "{1}");
    CHECK(zero != NULL && zero < half && half < one);
    m = search(&p, NEVER);                     /* 0 and 0.5 */
    for (int i = 0; i < m.n_refine; i++)
        CHECK_INT(m.n_shown[i], 8);
    p.n_verifications = 1;                     /* one score, one evaluation */
    m = search(&p, NEVER);
    CHECK_INT(m.n_shown[0], 1);
    p.n_verifications = 20;
    m = search(&p, FLAKY);
    CHECK(m.n_shown[0] > 0 && m.n_shown[0] <= 8);
}

TEST(the_paper_pairs_each_proof_with_single_evaluations_low_ones_first)
{
    minke_search_params p = settings(MINKE_SEARCH_DRIVER_POOL);
    struct script m;

    p.n_first = 1;
    p.n_verifications = 30;
    p.n_analyses = 0;
    p.max_rounds = 2;
    m = search(&p, THREE);
    CHECK_INT(m.n_refine, 8);
    for (int i = 0; i < m.n_refine; i++)
        CHECK_INT(m.n_shown[i], 1);
    CHECK(strstr(m.prompt, "BASED{1}") == NULL);
    const char *shown = strstr(m.prompt, "=== Evaluation ");
    CHECK(shown != NULL && strstr(shown, "\\boxed{1}") == NULL);
}

TEST(analyses_of_evaluations_are_reported_and_choose_nothing)
{
    minke_search_params p = settings(MINKE_SEARCH_DRIVER_POOL);
    struct script m;

    p.n_meta = 2;
    m = search(&p, NEVER);
    CHECK(m.n_by_ask[MINKE_ASK_META] > 0);
    CHECK_HAS(result, "\"qualities\": [");
}

TEST(samples_are_chosen_by_votes_self_score_or_length_of_thinking)
{
    minke_search_params p = settings(MINKE_SEARCH_DRIVER_VOTE);

    p.n_first = 0;
    search(&p, IMPROVES);
    CHECK_HAS(result, "\"completions\": 8");
    CHECK_HAS(result, "\"best\": 1, \"score\": 1.0, \"answer\": \"0\"");
    CHECK_HAS(result, "\"votes\": 8");
    p.driver = MINKE_SEARCH_DRIVER_BEST;
    search(&p, IMPROVES);
    CHECK_HAS(result, "\"score\": 0.5");
    p.driver = MINKE_SEARCH_DRIVER_LONGEST;
    search(&p, IMPROVES);
    long longest = 0, chosen = 0, id;
    const char *best = strstr(result, "\"best\": ");
    const char *at = result;
    CHECK(best != NULL);
    for (id = 1; (at = strstr(at, "\"thinking\": ")) != NULL; at++, id++) {
        const long n = atol(at + 12);

        longest = n > longest ? n : longest;
        if (best != NULL && id == atol(best + 8))
            chosen = n;
    }
    CHECK(longest > 8 && chosen == longest);
    search(&p, GARBAGE);
    CHECK_HAS(result, "\"finished\": true");
}

/* Replies that are no proofs, by seed modulo 3. */
static int32_t answers(void *user, int32_t ask, uint64_t seed, const char *prompt,
                       size_t prompt_len, uint32_t n, minke_take_fn take, void *sink)
{
    static const char *const text[5] = {"\\boxed{4}", "It is \\boxed{4.0}.", "\\boxed{5}",
                                        "five", "\\boxed{ 5 }"};

    (void)user, (void)ask, (void)seed, (void)prompt, (void)prompt_len;
    for (uint32_t i = 0; i < n && i < 5; i++)
        take(sink, text[i], strlen(text[i]), MINKE_FINISH_STOP, 100 - i);
    return 0;
}

TEST(votes_compare_numbers_and_ties_go_to_the_first)
{
    minke_search_params p = settings(MINKE_SEARCH_DRIVER_VOTE);
    minke_search *s;
    const char *text;
    size_t n;
    double score;

    p.n_first = 5;
    s = open_search(&p);
    CHECK_INT(minke_search_best(s, &text, &n, &score), MINKE_OK);
    CHECK(text == NULL && n == 0 && score == -1);
    CHECK_INT(minke_search_run(s, answers, NULL), MINKE_OK);
    CHECK_INT(minke_search_best(s, &text, &n, &score), MINKE_OK);
    CHECK(n == 9 && memcmp(text, "\\boxed{4}", 9) == 0);
    CHECK(fabs(score - 0.4) < 1e-12);
    minke_search_free(s);
}

TEST(a_search_depends_on_its_seed_and_nothing_else)
{
    minke_search_params p = settings(MINKE_SEARCH_DRIVER_POOL);
    static char first[sizeof result];

    search(&p, FLAKY);
    memcpy(first, result, sizeof first);
    search(&p, FLAKY);
    CHECK_STR(result, first);
    p.seed = 8;
    search(&p, FLAKY);
    CHECK(strcmp(result, first) != 0);
}

/* ---- Journals ---- */

static char file[1 << 20];

static size_t read_journal(void)
{
    FILE *f = fopen(journal, "rb");
    const size_t n = f != NULL ? fread(file, 1, sizeof file, f) : 0;

    if (f != NULL)
        fclose(f);
    return n;
}

static void write_journal(const char *text, size_t n)
{
    FILE *f = fopen(journal, "wb");

    CHECK(f != NULL && fwrite(text, 1, n, f) == n);
    if (f != NULL)
        fclose(f);
}

TEST(a_kill_at_every_step_and_a_resume_find_the_same)
{
    for (uint32_t k = 0; k <= MINKE_SEARCH_DRIVER_LONGEST + 1; k++) {   /* the pool both ways */
        minke_search_params p = settings(k <= MINKE_SEARCH_DRIVER_LONGEST
                                             ? k : MINKE_SEARCH_DRIVER_POOL);
        static char whole[sizeof result];
        struct script m;
        int total;

        p.preset = k == MINKE_SEARCH_DRIVER_POOL ? MINKE_SEARCH_PRESET_REPOSITORY
                                                 : MINKE_SEARCH_PRESET_PAPER;
        p.max_rounds = 3;
        total = search(&p, FLAKY).n_taken;
        memcpy(whole, result, sizeof whole);
        p.journal = journal;
        for (int stop = 0; stop <= total; stop++) {
            minke_search *s;

            remove(journal);
            m = (struct script){.kind = FLAKY, .stop_after = stop};
            s = open_search(&p);
            CHECK_INT(minke_search_run(s, model, &m), stop < total ? MINKE_ECANCELED : MINKE_OK);
            minke_search_free(s);
            m = search(&p, FLAKY);
            CHECK_INT(m.n_taken, total - stop);
            CHECK_STR(result, whole);
        }
        m = search(&p, FLAKY);
        CHECK_INT(m.n_requests, 0);          /* all is in the journal */
        CHECK_STR(result, whole);
    }
    remove(journal);
}

TEST(a_journal_that_is_cut_anywhere_is_resumed)
{
    minke_search_params p = settings(MINKE_SEARCH_DRIVER_POOL);
    static char whole[sizeof result], all[sizeof file];
    size_t n;

    p.max_rounds = 2;
    p.n_verifications = 1;
    p.journal = journal;
    remove(journal);
    search(&p, FLAKY);
    memcpy(whole, result, sizeof whole);
    n = read_journal();
    memcpy(all, file, n);
    CHECK(n > 1000);
    for (size_t cut = 0; cut <= n; cut += cut + 200 < n ? 61 : 7) {
        write_journal(all, cut);
        search(&p, FLAKY);
        CHECK_STR(result, whole);
        CHECK_INT(read_journal(), n);
        CHECK(memcmp(file, all, n) == 0);
    }
    remove(journal);
}

static int32_t reopen(const minke_search_params *p, const char *problem)
{
    minke_search *s = NULL;
    const int32_t status = minke_search_open(&s, problem, strlen(problem), p);

    minke_search_free(s);
    return status;
}

TEST(a_journal_of_something_else_is_refused_and_stays_as_it_is)
{
    minke_search_params p = settings(MINKE_SEARCH_DRIVER_POOL), q;
    static const char problem[] = "Show that {proof} holds.";
    static char all[sizeof file];
    size_t n;

    p.journal = journal;
    p.max_rounds = 2;
    remove(journal);
    search(&p, FLAKY);
    n = read_journal();
    memcpy(all, file, n);
    CHECK_INT(reopen(&p, problem), MINKE_OK);
    CHECK_INT(reopen(&p, "Another one."), MINKE_EINVAL);
    CHECK_HAS(minke_last_error(), "another problem");
    q = p;
    q.seed++;
    CHECK_INT(reopen(&q, problem), MINKE_EINVAL);
    CHECK_HAS(minke_last_error(), "other settings");
    q = p;
    q.prompts = "@prompt proof\n{problem}";
    q.prompts_len = strlen(q.prompts);
    CHECK_INT(reopen(&q, problem), MINKE_EINVAL);
    CHECK_INT(read_journal(), n);
    CHECK(memcmp(file, all, n) == 0);
    write_journal("{\"a\": 1}\n", 9);
    CHECK_INT(reopen(&p, problem), MINKE_EFORMAT);
    write_journal("my notes", 8);
    CHECK_INT(reopen(&p, problem), MINKE_EFORMAT);
    CHECK_HAS(minke_last_error(), "not the journal");
    CHECK_INT(read_journal(), 8);
    p.journal = "/nowhere/at/all";
    CHECK_INT(reopen(&p, problem), MINKE_EIO);
    remove(journal);
}

TEST(a_damaged_line_is_named_unless_it_is_the_last)
{
    minke_search_params p = settings(MINKE_SEARCH_DRIVER_SEQUENTIAL);
    static const char problem[] = "Show that {proof} holds.";
    static char all[sizeof file];
    size_t n, second, last;

    p.journal = journal;
    remove(journal);
    search(&p, NEVER);
    n = read_journal();
    memcpy(all, file, n);
    second = (size_t)((char *)memchr(all, '\n', n) - all) + 1;
    for (last = n - 1; all[last - 1] != '\n'; last--)
        ;
    CHECK(second < last);
    memcpy(file, all, n);
    file[second + 30] ^= 1;
    write_journal(file, n);
    CHECK_INT(reopen(&p, problem), MINKE_EFORMAT);
    CHECK_HAS(minke_last_error(), "line 2");
    memcpy(file, all, n);
    file[last + 30] ^= 1;
    write_journal(file, n);
    CHECK_INT(reopen(&p, problem), MINKE_OK);
    CHECK_INT(read_journal(), last);
    /* A line less in the middle: the next one does not follow it. */
    const size_t third = second + (size_t)((char *)memchr(all + second, '\n', n - second)
                                           - (all + second)) + 1;
    if (third < last) {
        memcpy(file, all, second);
        memcpy(file + second, all + third, n - third);
        write_journal(file, n - third + second);
        CHECK_INT(reopen(&p, problem), MINKE_EFORMAT);
    }
    /* The same lines twice: more than the search asks for, or out of order. */
    memcpy(file, all, n);
    memcpy(file + n, all + second, n - second);
    write_journal(file, 2 * n - second);
    CHECK_INT(reopen(&p, problem), MINKE_EFORMAT);
    remove(journal);
}

/* ---- Faults ---- */

struct faulty {
    long left, held;             /* allocations until one fails; blocks */
};

static void *faulty_alloc(void *user, size_t size, size_t align)
{
    struct faulty *f = user;
    void *p = NULL;

    if (f->left-- == 0)
        return NULL;
#if defined(_WIN32)
    p = _aligned_malloc(size, align);
#else
    if (posix_memalign(&p, align, size) != 0)
        return NULL;
#endif
    f->held++;
    return p;
}

static void faulty_free(void *user, void *ptr, size_t size)
{
    struct faulty *f = user;

    (void)size;
    f->held--;
#if defined(_WIN32)
    _aligned_free(ptr);
#else
    free(ptr);
#endif
}

TEST(any_failing_allocation_is_an_error_and_the_search_goes_on)
{
    for (uint32_t driver = 0; driver < 3; driver++) {
        minke_search_params p = settings(driver);
        static char whole[sizeof result];
        long fail = 0;
        int done = 0;

        p.n_first = driver == MINKE_SEARCH_DRIVER_VOTE ? 16 : 4;
        p.max_rounds = 3;
        p.n_meta = 1;
        search(&p, FLAKY);
        memcpy(whole, result, sizeof whole);
        for (; !done && fail < 5000; fail += 1 + fail / 16) {
            struct faulty f = {fail, 0};
            struct script m = {.kind = FLAKY, .stop_after = -1};
            minke_search *s = NULL;
            int32_t status;

            p.alloc = faulty_alloc;
            p.free = faulty_free;
            p.alloc_user = &f;
            p.journal = driver == MINKE_SEARCH_DRIVER_SEQUENTIAL ? journal : NULL;
            remove(journal);
            status = minke_search_open(&s, "Show that {proof} holds.", 24, &p);
            if (status == MINKE_OK)
                status = minke_search_run(s, model, &m);
            done = status == MINKE_OK;
            CHECK(done || status == MINKE_ENOMEM);
            f.left = -1;
            if (s != NULL) {
                CHECK_INT(minke_search_run(s, model, &m), MINKE_OK);
                keep_result(s);
                CHECK_STR(result, whole);
            }
            minke_search_free(s);
            CHECK_INT(f.held, 0);
        }
        CHECK(done && fail > 20);
    }
    remove(journal);
}

TEST(texts_beyond_max_bytes_are_refused)
{
    minke_search_params p = settings(MINKE_SEARCH_DRIVER_POOL);
    struct script m = {.kind = NEVER, .stop_after = -1};
    minke_search *s;

    p.max_bytes = 1000;
    s = open_search(&p);
    CHECK_INT(minke_search_run(s, model, &m), MINKE_ENOMEM);
    CHECK_HAS(minke_last_error(), "max_bytes");
    minke_search_free(s);
}

TEST(a_host_that_misbehaves_does_no_harm)
{
    minke_search_params p = settings(MINKE_SEARCH_DRIVER_SEQUENTIAL);
    struct script m = {.kind = IMPROVES, .stop_after = -1};
    minke_search *s = open_search(&p), *none = NULL;

    m.search = s;
    CHECK_INT(minke_search_run(s, model, &m), MINKE_OK);
    CHECK_INT(minke_search_run(s, NULL, NULL), MINKE_EINVAL);
    CHECK_INT(minke_search_run(NULL, model, &m), MINKE_EINVAL);
    minke_search_free(s);
    minke_search_free(NULL);
    p.driver = 9;
    CHECK_INT(minke_search_open(&none, "x", 1, &p), MINKE_EVERSION);
    p = settings(MINKE_SEARCH_DRIVER_POOL);
    p.mode = MINKE_PROOF_MODE_RELEASED;
    CHECK_INT(minke_search_open(&none, "x", 1, &p), MINKE_EINVAL);
    p = settings(MINKE_SEARCH_DRIVER_POOL);
    p.n_best = 1u << 20;
    CHECK_INT(minke_search_open(&none, "x", 1, &p), MINKE_EINVAL);
    CHECK_INT(minke_search_open(&none, "\xff", 1, NULL), MINKE_EINVAL);
    CHECK(none == NULL);
}

int main(void)
{
    snprintf(journal, sizeof journal, "/tmp/minke-test-search-%d.jsonl", (int)getpid());
    RUN(a_model_that_improves_is_refined_until_it_gives_itself_1);
    RUN(what_gives_itself_no_score_is_refined_to_the_last_round);
    RUN(the_pool_is_refined_until_a_proof_passes);
    RUN(the_repository_shows_4_4_4_or_8_evaluations);
    RUN(the_paper_pairs_each_proof_with_single_evaluations_low_ones_first);
    RUN(analyses_of_evaluations_are_reported_and_choose_nothing);
    RUN(samples_are_chosen_by_votes_self_score_or_length_of_thinking);
    RUN(votes_compare_numbers_and_ties_go_to_the_first);
    RUN(a_search_depends_on_its_seed_and_nothing_else);
    RUN(a_kill_at_every_step_and_a_resume_find_the_same);
    RUN(a_journal_that_is_cut_anywhere_is_resumed);
    RUN(a_journal_of_something_else_is_refused_and_stays_as_it_is);
    RUN(a_damaged_line_is_named_unless_it_is_the_last);
    RUN(any_failing_allocation_is_an_error_and_the_search_goes_on);
    RUN(texts_beyond_max_bytes_are_refused);
    RUN(a_host_that_misbehaves_does_no_harm);
    return test_result();
}
