#define _POSIX_C_SOURCE 200809L /* posix_memalign, fork, signals */
/* Sessions: same bits, forgetting, stopping, running out. */
#include <fenv.h>
#include <locale.h>
#include <pthread.h>
#if defined(__x86_64__)
#  include <immintrin.h>
#endif

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
    minke_session *s = NULL;
    size_t n_opens = 0;
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
    c.fail_at = 0;
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
    c.n = 0;
    CHECK_INT(minke_session_eval(s, g.prompt.i, 40), MINKE_OK);
    CHECK_INT(c.n, 0);
    minke_context_free(own);
    CHECK_INT(minke_session_eval(s, g.prompt.i, 2), MINKE_OK);
    minke_session_free(s);
    CHECK_INT(c.live, 0);
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

TEST(the_callers_rounding_and_flushing_modes_do_not_matter)
{
    float *plain = fresh_rows(ctx, 0, 1000, 0), *other;

    fesetround(FE_UPWARD);
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | 0x8040);       /* flush to zero, denormals are zero */
    const unsigned mode = _mm_getcsr() & 0xffc0;
#endif
    other = fresh_rows(ctx, 0, 1000, 0);
    CHECK_INT(fegetround(), FE_UPWARD);
#if defined(__x86_64__)
    CHECK_INT(_mm_getcsr() & 0xffc0, mode);
    _mm_setcsr(_mm_getcsr() & ~0x8040u);
#endif
    fesetround(FE_TONEAREST);
    CHECK(same_rows(plain, other));
    free(other);
    free(plain);
}

TEST(a_locale_with_a_decimal_comma_does_not_matter)
{
    float *plain = fresh_rows(ctx, 0, 1000, 0), *other;
    minke_context *c;

    if (setlocale(LC_ALL, "de_DE.UTF-8") == NULL)
        printf("no locale with a comma: the test runs in the C locale\n");
    c = golden_open(g.path, 2, 0);
    other = fresh_rows(c, 0, 1000, 0);
    setlocale(LC_ALL, "C");
    CHECK(same_rows(plain, other));
    free(other);
    free(plain);
    minke_context_free(c);
}

int main(void)
{
    static const char *const cases[] = {"tests/golden/v32", "tests/golden/v2-lite",
                                        "../shared/golden/v32", "../shared/golden/v32-fp8",
                                        "../shared/golden/v2-lite"};
    size_t n_seen = 0;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]) && n_seen < 2; i++) {
        if (golden_load(&g, cases[i]) != 0)
            continue;
        n_seen++;
        ctx = golden_open(g.path, 2, 0);
        exact = golden_open(g.path, 2, MINKE_CONTEXT_DETERMINISTIC);
        RUN(one_and_two_and_three_threads_give_the_same_bits);
        RUN(with_the_deterministic_flag_any_chunking_gives_the_same_bits);
        RUN(truncate_then_eval_matches_fresh);
        RUN(rows_arrive_in_order_and_may_stop_the_eval);
        RUN(bad_tokens_and_full_sessions_change_nothing);
        if (g.prompt.rows > 84)
            RUN(cancel_keeps_whole_chunks_and_the_session_goes_on);
        RUN(an_observer_may_stop_the_eval);
        RUN(a_failing_allocator_is_survived_at_every_point);
        RUN(memory_is_known_before_the_session_is_opened);
        RUN(two_sessions_in_two_threads_do_not_disturb_each_other);
        RUN(the_callers_rounding_and_flushing_modes_do_not_matter);
        RUN(a_locale_with_a_decimal_comma_does_not_matter);
        minke_context_free(ctx);
        minke_context_free(exact);
        golden_free(&g);
    }
    printf("%zu cases, %d checks failed\n", n_seen, test_failures);
    return test_failures ? 1 : n_seen ? 0 : 77;
}
