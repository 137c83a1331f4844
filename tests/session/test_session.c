#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* posix_memalign, fork, signals, mkdtemp */
#endif
/* Sessions: same bits, forgetting, stopping, running out, whoever calls. */
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__x86_64__)
#  include <immintrin.h>
#endif

#include "comma.h"
#include "golden.h"

static struct golden g;
static minke_context *ctx, *exact;   /* 2 threads; the deterministic flag as well */

static float *rows_of(minke_session *s, size_t step)
{
    const size_t n = g.prompt.rows, vocab = g.logits.cols;
    float *rows = malloc(n * vocab * sizeof(float));

    for (size_t i = 0; i < n; i += step) {
        const size_t now = n - i < step ? n - i : step;

        CHECK_INT(minke_session_eval_all(s, g.prompt.i + i, now, rows + i * vocab, now * vocab),
                  MINKE_OK);
    }
    return rows;
}

/* Logits of every row of the prompt, in a session of its own. */
static float *fresh_rows(minke_context *c, uint32_t chunk, size_t step, uint32_t flags)
{
    minke_session *s = golden_session(c, (uint32_t)g.prompt.rows, chunk, flags);
    float *rows = rows_of(s, step);

    minke_session_free(s);
    return rows;
}

static int same_rows(const float *a, const float *b)
{
    return memcmp(a, b, g.prompt.rows * g.logits.cols * sizeof(float)) == 0;
}

TEST(one_and_two_and_three_threads_give_the_same_bits)
{
    float *two = fresh_rows(ctx, 0, 1000, 0), *other;

    for (uint32_t n = 1; n <= 3; n += 2) {
        minke_context *c = golden_open(g.path, n, 0);

        other = fresh_rows(c, 0, 1000, 0);
        CHECK(same_rows(two, other));
        free(other);
        minke_context_free(c);
    }
    free(two);
}

TEST(with_the_deterministic_flag_any_chunking_gives_the_same_bits)
{
    static const struct { uint32_t chunk; size_t step; } way[] = {
        {1, 1000}, {7, 1000}, {64, 1000}, {0, 50}, {5, 33},
    };
    float *all = fresh_rows(exact, 0, 1000, 0);

    for (size_t i = 0; i < sizeof(way) / sizeof(way[0]); i++) {
        float *other = fresh_rows(exact, way[i].chunk, way[i].step, 0);

        CHECK(same_rows(all, other));
        free(other);
    }
    free(all);
}

TEST(truncate_then_eval_matches_fresh)
{
    const size_t n = g.prompt.rows, vocab = g.logits.cols;
    const float *logits;
    float *all = fresh_rows(exact, 0, 1000, 0);
    minke_session *s = golden_session(exact, (uint32_t)n, 0, 0);
    int32_t other[3] = {5, 6, 7};
    size_t reused = 99;

    CHECK_INT(minke_session_eval(s, g.prompt.i, 10), MINKE_OK);
    CHECK_INT(minke_session_eval(s, other, 3), MINKE_OK);
    CHECK_INT(minke_session_truncate(s, 10), MINKE_OK);
    CHECK_INT(minke_session_length(s), 10);
    CHECK_INT(minke_session_logits(s, &logits, NULL), MINKE_EINVAL);
    CHECK_INT(minke_session_eval(s, g.prompt.i + 10, n - 10), MINKE_OK);
    CHECK_INT(minke_session_logits(s, &logits, NULL), MINKE_OK);
    CHECK(memcmp(logits, all + (n - 1) * vocab, vocab * sizeof(float)) == 0);

    /* sync does the same by itself. */
    CHECK_INT(minke_session_truncate(s, 20), MINKE_OK);
    CHECK_INT(minke_session_eval(s, other, 3), MINKE_OK);
    CHECK_INT(minke_session_sync(s, g.prompt.i, n, &reused), MINKE_OK);
    CHECK(reused >= 20 && reused <= 21);
    CHECK_INT(minke_session_logits(s, &logits, NULL), MINKE_OK);
    CHECK(memcmp(logits, all + (n - 1) * vocab, vocab * sizeof(float)) == 0);
    CHECK_INT(minke_session_sync(s, g.prompt.i, n, &reused), MINKE_OK);
    CHECK_INT(reused, n);
    CHECK_INT(minke_session_sync(s, g.prompt.i, 15, &reused), MINKE_OK);
    CHECK_INT(reused, 14);
    CHECK_INT(minke_session_length(s), 15);
    CHECK(memcmp(minke_session_tokens(s), g.prompt.i, 15 * sizeof(int32_t)) == 0);
    minke_session_free(s);
    free(all);
}

struct row_check {
    const float *all;
    size_t next, stop_at;
    minke_session *s;
};

static int32_t on_row(void *user, uint64_t token, const float *row, size_t n)
{
    struct row_check *r = user;

    CHECK_INT(token, r->next);
    CHECK(memcmp(row, r->all + r->next * n, n * sizeof(float)) == 0);
    CHECK_INT(minke_session_truncate(r->s, 0), MINKE_EBUSY);
    return ++r->next == r->stop_at;
}

TEST(rows_arrive_in_order_and_may_stop_the_eval)
{
    const size_t n = g.prompt.rows;
    float *all = fresh_rows(exact, 0, 1000, 0);
    struct row_check r = {all, 0, 0, NULL};
    const float *logits;

    r.s = golden_session(exact, (uint32_t)n, 32, 0);
    CHECK_INT(minke_session_eval_rows(r.s, g.prompt.i, n, on_row, &r), MINKE_OK);
    CHECK_INT(r.next, n);
    CHECK_INT(minke_session_logits(r.s, &logits, NULL), MINKE_OK);
    CHECK_INT(minke_session_truncate(r.s, 0), MINKE_OK);
    r.next = 0;
    r.stop_at = 40;
    CHECK_INT(minke_session_eval_rows(r.s, g.prompt.i, n, on_row, &r), MINKE_ECANCELED);
    CHECK_INT(minke_session_length(r.s), 64 < n ? 64 : n);
    CHECK_INT(minke_session_logits(r.s, &logits, NULL), MINKE_EINVAL);
    minke_session_free(r.s);
    free(all);
}

TEST(bad_tokens_and_full_sessions_change_nothing)
{
    const int32_t bad[3] = {1, 2, (int32_t)g.logits.cols}, negative = -1;
    minke_session *s = golden_session(ctx, 20, 0, 0);
    const float *logits;
    float one;

    CHECK_INT(minke_session_eval(s, bad, 3), MINKE_EINVAL);
    CHECK_HAS(minke_last_error(), "token 2: id");
    CHECK_INT(minke_session_eval(s, &negative, 1), MINKE_EINVAL);
    CHECK_HAS(minke_last_error(), "id -1");
    CHECK_INT(minke_session_eval(s, bad, 0), MINKE_EINVAL);
    CHECK_INT(minke_session_eval(s, NULL, 1), MINKE_EINVAL);
    CHECK_INT(minke_session_eval(NULL, bad, 1), MINKE_EINVAL);
    CHECK_INT(minke_session_length(s), 0);
    CHECK_INT(minke_session_eval(s, g.prompt.i, 18), MINKE_OK);
    CHECK_INT(minke_session_eval(s, g.prompt.i, 3), MINKE_EFULL);
    CHECK_INT(minke_session_length(s), 18);
    CHECK_INT(minke_session_logits(s, &logits, NULL), MINKE_OK);
    CHECK_INT(minke_session_eval_all(s, g.prompt.i, 1, &one, 1), MINKE_ENOSPC);
    CHECK_INT(minke_session_sync(s, g.prompt.i, 21, NULL), MINKE_EFULL);
    CHECK_INT(minke_session_length(s), 18);
    CHECK_INT(minke_session_eval(s, g.prompt.i, 2), MINKE_OK);
    CHECK_INT(minke_session_eval(s, g.prompt.i, 1), MINKE_EFULL);
    CHECK_INT(minke_session_truncate(s, 5), MINKE_OK);
    CHECK_INT(minke_session_eval(s, g.prompt.i, 15), MINKE_OK);
    minke_session_free(s);
}

/* ---- Stopping ----------------------------------------------------------- */

static void *cancel_soon(void *arg)
{
    minke_session_cancel(arg);
    return NULL;
}

static int cancels_left;

static int32_t cancel_from_thread(void *user, uint64_t done, uint64_t total)
{
    pthread_t t;

    (void)total;
    if (done == 32 && cancels_left-- > 0) {
        pthread_create(&t, NULL, cancel_soon, *(minke_session **)user);
        pthread_join(t, NULL);
    }
    return 0;
}

TEST(cancel_keeps_whole_chunks_and_the_session_goes_on)
{
    const size_t n = g.prompt.rows, vocab = g.logits.cols;
    float *all = fresh_rows(exact, 0, 1000, 0);
    minke_session_params p;
    minke_session *s;
    const float *logits;

    cancels_left = 2;
    minke_session_params_init(&p, sizeof(p));
    p.max_tokens = (uint32_t)n;
    p.prefill_chunk = 16;
    p.progress = cancel_from_thread;
    p.progress_user = &s;
    CHECK_INT(minke_session_open(&s, exact, &p), MINKE_OK);
    CHECK_INT(minke_session_eval(s, g.prompt.i, n), MINKE_ECANCELED);
    CHECK_INT(minke_session_length(s), 32);
    CHECK_INT(minke_session_logits(s, &logits, NULL), MINKE_EINVAL);
    /* Before a call, a cancel waits for it. */
    minke_session_cancel(s);
    CHECK_INT(minke_session_eval(s, g.prompt.i + 32, 1), MINKE_ECANCELED);
    CHECK_INT(minke_session_length(s), 32);
    CHECK_INT(minke_session_eval(s, g.prompt.i + 32, 16), MINKE_OK);
    CHECK_INT(minke_session_eval(s, g.prompt.i + 48, n - 48), MINKE_ECANCELED);
    CHECK_INT(minke_session_length(s), 80);
    CHECK_INT(minke_session_sync(s, g.prompt.i, n, NULL), MINKE_OK);
    CHECK_INT(minke_session_logits(s, &logits, NULL), MINKE_OK);
    CHECK(memcmp(logits, all + (n - 1) * vocab, vocab * sizeof(float)) == 0);
    minke_session_free(s);
    free(all);
}

TEST(a_canceled_eval_writes_the_rows_of_whole_chunks)
{
    const size_t n = g.prompt.rows, vocab = g.logits.cols;
    float *all = fresh_rows(exact, 0, 1000, 0), *rows = malloc(n * vocab * sizeof(float));
    minke_session_params p;
    minke_session *s;

    cancels_left = 1;
    for (size_t i = 0; i < n * vocab; i++)
        rows[i] = 7.0f;
    minke_session_params_init(&p, sizeof(p));
    p.prefill_chunk = 16;
    p.max_tokens = (uint32_t)n;
    p.progress = cancel_from_thread;
    p.progress_user = &s;
    CHECK_INT(minke_session_open(&s, exact, &p), MINKE_OK);
    CHECK_INT(minke_session_eval_all(s, g.prompt.i, n, rows, n * vocab), MINKE_ECANCELED);
    CHECK_INT(minke_session_length(s), 32);
    CHECK(memcmp(rows, all, 32 * vocab * sizeof(float)) == 0);
    for (size_t i = 32 * vocab; i < n * vocab; i++)
        CHECK(rows[i] == 7.0f);
    minke_session_free(s);
    free(rows);
    free(all);
}

static int32_t stop_at_layer(void *user, uint32_t kind, uint32_t layer, uint64_t token,
                             const int32_t *ids, const float *values, size_t n)
{
    (void)kind, (void)ids, (void)values, (void)n;
    return layer == 1 && token == *(const uint64_t *)user;
}

TEST(an_observer_may_stop_the_eval)
{
    uint64_t token = 20;
    minke_session_params p;
    minke_session *s;

    minke_session_params_init(&p, sizeof(p));
    p.max_tokens = 64;
    p.prefill_chunk = 16;
    p.observer = stop_at_layer;
    p.observer_user = &token;
    p.observe = MINKE_OBSERVE_RESIDUAL;
    CHECK_INT(minke_session_open(&s, ctx, &p), MINKE_OK);
    CHECK_INT(minke_session_eval(s, g.prompt.i, 40), MINKE_ECANCELED);
    CHECK_INT(minke_session_length(s), 16);
    minke_session_free(s);
}

static int32_t free_within(void *user, uint64_t token, const float *row, size_t n)
{
    (void)token, (void)row, (void)n;
    minke_session_free(user);
    return 0;
}

TEST(a_callback_cannot_free_its_session)
{
    minke_session *s = golden_session(ctx, 64, 0, 0);

    CHECK_INT(minke_session_eval_rows(s, g.prompt.i, 3, free_within, s), MINKE_OK);
    CHECK_INT(minke_session_length(s), 3);
    minke_session_free(s);
}

/* ---- Memory ------------------------------------------------------------- */

struct counter {
    size_t n, fail_at, bytes, live;
};

static void *count_alloc(void *user, size_t size, size_t align)
{
    struct counter *c = user;
    void *p = NULL;

    if (++c->n == c->fail_at || posix_memalign(&p, align < 16 ? 16 : align, size) != 0)
        return NULL;
    c->bytes += size;
    c->live += size;
    return p;
}

static void count_free(void *user, void *ptr, size_t size)
{
    struct counter *c = user;

    c->live -= size;
    free(ptr);
}

TEST(a_failing_allocator_is_survived_at_every_point)
{
    struct counter c = {0, 0, 0, 0};
    minke_context_params p;
    minke_context *own = NULL;
    minke_session *s = NULL, *other = NULL;
    size_t n_opens = 0;
    float *rows;
    int32_t rc;

    minke_context_params_init(&p, sizeof(p));
    p.n_threads = 2;
    p.alloc = count_alloc;
    p.free = count_free;
    p.alloc_user = &c;
    do {
        c.n = 0;
        c.fail_at = ++n_opens;
        rc = minke_context_open(&own, g.path, &p);
        CHECK(rc == MINKE_OK || rc == MINKE_ENOMEM);
        if (rc < 0)
            CHECK_INT(c.live, 0);
    } while (rc == MINKE_ENOMEM);
    CHECK(n_opens > 10);
    for (size_t at = 1; s == NULL && at < 100; at++) {
        const size_t live = c.live;

        c.n = 0;
        c.fail_at = at;
        rc = minke_session_open(&s, own, NULL);
        CHECK(rc == MINKE_OK || rc == MINKE_ENOMEM);
        if (rc < 0)
            CHECK_INT(c.live, live);
    }
    CHECK(s != NULL);
    /* Evaluating allocates nothing, so that nothing fails when memory has run out. */
    c.n = 0;
    c.fail_at = 1;
    rows = malloc(40 * g.logits.cols * sizeof(float));
    CHECK_INT(minke_session_eval(s, g.prompt.i, 40), MINKE_OK);
    CHECK_INT(minke_session_eval_all(s, g.prompt.i, 40, rows, 40 * g.logits.cols), MINKE_OK);
    CHECK_INT(minke_session_sync(s, g.prompt.i, 60, NULL), MINKE_OK);
    CHECK_INT(minke_session_eval(s, g.prompt.i + 60, 1), MINKE_OK);
    CHECK_INT(c.n, 0);
    CHECK_INT(minke_session_fork(&other, s, NULL), MINKE_ENOMEM);
    CHECK(other == NULL);
    minke_context_free(own);
    CHECK_INT(minke_session_eval(s, g.prompt.i, 2), MINKE_OK);
    minke_session_free(s);
    CHECK_INT(c.live, 0);
    free(rows);
}

TEST(memory_is_known_before_the_session_is_opened)
{
    struct counter c = {0, 0, 0, 0};
    minke_context_params p;
    minke_session_params sp;
    minke_context *own = NULL;
    minke_session *s;
    uint64_t bytes = 0;

    minke_context_params_init(&p, sizeof(p));
    p.alloc = count_alloc;
    p.free = count_free;
    p.alloc_user = &c;
    CHECK_INT(minke_context_open(&own, g.path, &p), MINKE_OK);
    minke_session_params_init(&sp, sizeof(sp));
    sp.max_tokens = 1000;
    CHECK_INT(minke_session_memory(own, &sp, &bytes), MINKE_OK);
    c.bytes = 0;
    CHECK_INT(minke_session_open(&s, own, &sp), MINKE_OK);
    CHECK(c.bytes >= bytes && c.bytes <= bytes + 4096);
    minke_session_free(s);
    minke_context_free(own);
}

/* ---- Whoever calls ------------------------------------------------------ */

static void *eval_thread(void *arg)
{
    *(float **)arg = fresh_rows(ctx, 16, 1000, 0);
    return NULL;
}

TEST(two_sessions_in_two_threads_do_not_disturb_each_other)
{
    float *alone = fresh_rows(ctx, 16, 1000, 0), *rows[2];
    pthread_t t[2];

    for (int i = 0; i < 2; i++)
        pthread_create(&t[i], NULL, eval_thread, &rows[i]);
    for (int i = 0; i < 2; i++) {
        pthread_join(t[i], NULL);
        CHECK(same_rows(alone, rows[i]));
        free(rows[i]);
    }
    free(alone);
}

/* Logits of a context of its own, opened in this very state. */
static float *opened_rows(void)
{
    minke_context *c = golden_open(g.path, 2, 0);
    float *rows = fresh_rows(c, 0, 1000, 0);

    minke_context_free(c);
    return rows;
}

TEST(the_callers_rounding_and_flushing_modes_do_not_matter)
{
    static const int modes[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    float *plain = fresh_rows(ctx, 0, 1000, 0);

    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        float *other;

        fesetround(modes[i]);
#if defined(__x86_64__)
        _mm_setcsr(_mm_getcsr() | 0x8040);   /* flush to zero, denormals are zero */
        const unsigned mode = _mm_getcsr() & 0xffc0;
#endif
        other = opened_rows();
        CHECK_INT(fegetround(), modes[i]);
#if defined(__x86_64__)
        CHECK_INT(_mm_getcsr() & 0xffc0, mode);
        _mm_setcsr(_mm_getcsr() & ~0x8040u);
#endif
        fesetround(FE_TONEAREST);
        CHECK(same_rows(plain, other));
        free(other);
    }
    free(plain);
}

TEST(a_locale_with_a_decimal_comma_does_not_matter)
{
    float *plain = fresh_rows(ctx, 0, 1000, 0), *other;
    char half[8];

    if (!locale_with_comma()) {
        free(plain);
        SKIP("no locale with a decimal comma can be made here");
    }
    snprintf(half, sizeof(half), "%.1f", 0.5);
    CHECK_STR(half, "0,5");
    other = opened_rows();
    locale_leave();
    CHECK(same_rows(plain, other));
    free(other);
    free(plain);
}

static volatile sig_atomic_t n_alarms;

static void on_alarm(int number)
{
    (void)number;
    n_alarms++;
}

static void *blocked_thread(void *arg)
{
    sigset_t all, after;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    *(float **)arg = opened_rows();
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    CHECK(sigismember(&after, SIGTERM) && sigismember(&after, SIGALRM));
    return NULL;
}

/* Handlers are installed without SA_RESTART: calls of the system return early. */
TEST(neither_blocked_nor_arriving_signals_matter)
{
    const struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
    struct sigaction action = {.sa_handler = on_alarm}, before;
    float *plain = fresh_rows(ctx, 0, 1000, 0), *other;
    pthread_t t;

    pthread_create(&t, NULL, blocked_thread, &other);
    pthread_join(t, NULL);
    CHECK(same_rows(plain, other));
    free(other);
    sigaction(SIGALRM, &action, &before);
    n_alarms = 0;
    setitimer(ITIMER_REAL, &often, NULL);
    do {
        other = opened_rows();
        CHECK(same_rows(plain, other));
        free(other);
    } while (n_alarms == 0);
    setitimer(ITIMER_REAL, &never, NULL);
    sigaction(SIGALRM, &before, NULL);
    free(plain);
}

static int32_t fork_in_child(minke_session *s)
{
    minke_session_params p;
    minke_session *other = NULL;
    const float *logits;
    uint64_t bytes;
    float row;
    int32_t bad = 0;

    minke_session_params_init(&p, sizeof(p));
    bad |= minke_session_eval(s, g.prompt.i, 1) != MINKE_EFORK;
    bad |= minke_session_eval_all(s, g.prompt.i, 1, &row, 1) != MINKE_EFORK;
    bad |= minke_session_sync(s, g.prompt.i, 5, NULL) != MINKE_EFORK;
    bad |= minke_session_truncate(s, 1) != MINKE_EFORK;
    bad |= minke_session_logits(s, &logits, NULL) != MINKE_EFORK;
    bad |= minke_session_fork(&other, s, NULL) != MINKE_EFORK;
    bad |= minke_session_memory(ctx, &p, &bytes) != MINKE_EFORK;
    bad |= minke_session_open(&other, ctx, &p) != MINKE_EFORK || other != NULL;
    bad |= strstr(minke_last_error(), "process") == NULL;
    minke_session_free(s);
    return bad;
}

TEST(a_child_after_fork_gets_errors_and_the_parent_goes_on)
{
    minke_session *s = golden_session(ctx, (uint32_t)g.prompt.rows, 0, 0);
    float *all = fresh_rows(ctx, 0, 1000, 0);
    const float *logits;
    int status = -1;

    CHECK_INT(minke_session_eval(s, g.prompt.i, 10), MINKE_OK);
    const pid_t child = fork();

    if (child == 0) {
        alarm(20);
        _exit(fork_in_child(s) != 0);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_INT(minke_session_length(s), 10);
    CHECK_INT(minke_session_sync(s, g.prompt.i, g.prompt.rows, NULL), MINKE_OK);
    CHECK_INT(minke_session_logits(s, &logits, NULL), MINKE_OK);
    CHECK(golden_worst(logits, all + (g.prompt.rows - 1) * g.logits.cols, g.logits.cols) < 1e-4f);
    minke_session_free(s);
    free(all);
}

/* ---- Cases -------------------------------------------------------------- */

static void run_case(void)
{
    ctx = golden_open(g.path, 2, 0);
    exact = golden_open(g.path, 2, MINKE_CONTEXT_DETERMINISTIC);
    RUN(one_and_two_and_three_threads_give_the_same_bits);
    RUN(with_the_deterministic_flag_any_chunking_gives_the_same_bits);
    RUN(truncate_then_eval_matches_fresh);
    RUN(rows_arrive_in_order_and_may_stop_the_eval);
    RUN(bad_tokens_and_full_sessions_change_nothing);
    if (g.prompt.rows > 84) {
        RUN(cancel_keeps_whole_chunks_and_the_session_goes_on);
        RUN(a_canceled_eval_writes_the_rows_of_whole_chunks);
    }
    RUN(an_observer_may_stop_the_eval);
    RUN(a_callback_cannot_free_its_session);
    RUN(a_failing_allocator_is_survived_at_every_point);
    RUN(memory_is_known_before_the_session_is_opened);
    RUN(two_sessions_in_two_threads_do_not_disturb_each_other);
    RUN(the_callers_rounding_and_flushing_modes_do_not_matter);
    RUN(a_locale_with_a_decimal_comma_does_not_matter);
    RUN(neither_blocked_nor_arriving_signals_matter);
    RUN(a_child_after_fork_gets_errors_and_the_parent_goes_on);
    minke_context_free(ctx);
    minke_context_free(exact);
}

int main(void)
{
    static const char *const cases[] = {
        "tests/golden/v32", "tests/golden/v2-lite", "tests/golden/v32-fp8", "../shared/golden/v32",
        "../shared/golden/v32-fp8", "../shared/golden/v2-lite",
    };
    size_t n_seen = 0;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]) && n_seen < 3; i++) {
        if (golden_load(&g, cases[i]) != 0)
            continue;
        n_seen++;
        run_case();
        golden_free(&g);
    }
    printf("%zu cases, %d tests skipped, %d checks failed\n", n_seen, test_skips, test_failures);
    return test_failures ? 1 : n_seen ? 0 : 77;
}
