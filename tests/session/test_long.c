/* Long prompts: progress, stopping anywhere, capacity that runs out, prefixes that are kept. */
#include "small_model.h"

#include <pthread.h>
#include <time.h>

#define N_TEXT 300u

static minke_context *exact;         /* sparse, with a prediction layer, deterministic */
static int32_t text[N_TEXT + 50];
static float expected[CK_VOCAB];     /* logits behind the text, of the kind at hand */

struct kind {
    uint32_t attention, window, cache_type, flags;
};

static const struct kind kinds[] = {
    {0, 0, MINKE_CACHE_F32, MINKE_SESSION_MTP},
    {MINKE_ATTENTION_DENSE, 0, MINKE_CACHE_BF16, 0},
    {MINKE_ATTENTION_WINDOW, 30, MINKE_CACHE_FP8, MINKE_SESSION_MTP},
};
#define N_KINDS (sizeof kinds / sizeof *kinds)

/* What a progress callback saw, and when it stops. */
struct watch {
    uint64_t done[N_TEXT + 1], total[N_TEXT + 1];
    size_t n, stop_at;               /* at the stop_at-th call; 0 = never */
};

static int32_t watch_progress(void *user, uint64_t done, uint64_t total)
{
    struct watch *w = user;

    w->done[w->n] = done;
    w->total[w->n] = total;
    return ++w->n == w->stop_at;
}

static minke_session *open_kind(const struct kind *k, uint32_t max_tokens, uint32_t chunk,
                                struct watch *w)
{
    minke_session_params p;
    minke_session *s = NULL;

    minke_session_params_init(&p, sizeof p);
    p.max_tokens = max_tokens;
    p.prefill_chunk = chunk;
    p.attention = k->attention;
    p.window = k->window;
    p.cache_type = k->cache_type;
    p.flags = k->flags;
    p.progress = w != NULL ? watch_progress : NULL;
    p.progress_user = w;
    CHECK_INT(minke_session_open(&s, exact, &p), MINKE_OK);
    return s;
}

static void check_logits(const minke_session *s, const float *row)
{
    const float *logits = NULL;

    CHECK_INT(minke_session_logits(s, &logits, NULL), MINKE_OK);
    CHECK(logits != NULL && memcmp(logits, row, CK_VOCAB * sizeof(float)) == 0);
}

static void keep_logits(const minke_session *s, float *row)
{
    const float *logits = NULL;

    CHECK_INT(minke_session_logits(s, &logits, NULL), MINKE_OK);
    if (logits != NULL)
        memcpy(row, logits, CK_VOCAB * sizeof(float));
}

/* Evaluate the text in one call and remember its logits. */
static void expect(const struct kind *k)
{
    minke_session *s = open_kind(k, N_TEXT, N_TEXT, NULL);

    CHECK_INT(minke_session_eval(s, text, N_TEXT), MINKE_OK);
    keep_logits(s, expected);
    minke_session_free(s);
}

TEST(progress_counts_whole_chunks)
{
    static const uint32_t chunks[] = {1, 7, 64, 299, 300, 0};

    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        const size_t chunk = chunks[i] > 0 ? chunks[i] : 256;
        struct watch w = {.n = 0};
        minke_session *s = open_kind(&kinds[0], N_TEXT, chunks[i], &w);

        CHECK_INT(minke_session_eval(s, text, N_TEXT), MINKE_OK);
        CHECK_INT(w.n, (N_TEXT + chunk - 1) / chunk);
        for (size_t j = 0; j < w.n; j++) {
            CHECK_INT(w.done[j], (j + 1) * chunk < N_TEXT ? (j + 1) * chunk : N_TEXT);
            CHECK_INT(w.total[j], N_TEXT);
        }
        minke_session_free(s);
    }
}

TEST(a_prompt_stopped_after_any_chunk_goes_on_with_the_same_bits)
{
    for (size_t i = 0; i < N_KINDS; i++) {
        expect(&kinds[i]);
        for (size_t stop = 1; stop <= 8; stop++) {
            struct watch w = {.stop_at = stop};
            minke_session *s = open_kind(&kinds[i], N_TEXT, 40, &w);
            const size_t kept = stop * 40 < N_TEXT ? stop * 40 : N_TEXT;
            const float *logits;
            size_t reused = 0;

            CHECK_INT(minke_session_eval(s, text, N_TEXT), MINKE_ECANCELED);
            CHECK_INT(minke_session_length(s), kept);
            CHECK_INT(minke_session_logits(s, &logits, NULL), MINKE_EINVAL);
            CHECK_INT(minke_session_sync(s, text, N_TEXT, &reused), MINKE_OK);
            CHECK_INT(reused, kept < N_TEXT ? kept : N_TEXT - 1);
            check_logits(s, expected);
            minke_session_free(s);
        }
    }
}

static void *cancel_later(void *arg)
{
    static unsigned turn;
    const struct timespec wait = {0, 100000 + (long)(turn++ * 7919 % 50) * 60000};

    nanosleep(&wait, NULL);
    minke_session_cancel(arg);
    return NULL;
}

TEST(a_cancel_at_any_moment_leaves_whole_chunks)
{
    const struct kind *k = &kinds[0];
    size_t n_stopped = 0;

    expect(k);
    for (unsigned i = 0; i < 40; i++) {
        minke_session *s = open_kind(k, N_TEXT, 20, NULL);
        pthread_t t;
        int32_t rc;

        pthread_create(&t, NULL, cancel_later, s);
        rc = minke_session_eval(s, text, N_TEXT);
        pthread_join(t, NULL);
        CHECK(rc == MINKE_OK || rc == MINKE_ECANCELED);
        n_stopped += rc < 0;
        CHECK(rc == MINKE_OK ? minke_session_length(s) == N_TEXT
                             : minke_session_length(s) % 20 == 0);
        /* One that came too late stops the next call instead, which is then made again. */
        if (minke_session_sync(s, text, N_TEXT, NULL) < 0)
            CHECK_INT(minke_session_sync(s, text, N_TEXT, NULL), MINKE_OK);
        check_logits(s, expected);
        minke_session_free(s);
    }
    CHECK(n_stopped > 0);
}

static int32_t ignore_row(void *user, uint64_t token, const float *row, size_t n)
{
    (void)user, (void)token, (void)row, (void)n;
    return 0;
}

TEST(a_full_session_stays_usable)
{
    static float rows[10 * CK_VOCAB];

    for (size_t i = 0; i < N_KINDS; i++) {
        minke_session *s = open_kind(&kinds[i], 100, 16, NULL);
        minke_session *t = open_kind(&kinds[i], N_TEXT, 16, NULL);
        float row[CK_VOCAB];

        CHECK_INT(minke_session_eval(s, text, 98), MINKE_OK);
        keep_logits(s, row);
        CHECK_INT(minke_session_eval(s, text + 98, 3), MINKE_EFULL);
        CHECK_INT(minke_session_eval_all(s, text + 98, 3, rows, 10 * CK_VOCAB), MINKE_EFULL);
        CHECK_INT(minke_session_eval_rows(s, text + 98, 3, ignore_row, NULL), MINKE_EFULL);
        CHECK_INT(minke_session_sync(s, text, 101, NULL), MINKE_EFULL);
        CHECK_INT(minke_session_fill(s, 3, 1), MINKE_EFULL);
        CHECK_INT(minke_session_length(s), 98);
        check_logits(s, row);
        CHECK_INT(minke_session_eval(s, text + 98, 2), MINKE_OK);
        CHECK_INT(minke_session_eval(s, text, 1), MINKE_EFULL);
        CHECK_INT(minke_session_eval(t, text, 100), MINKE_OK);
        keep_logits(t, row);
        check_logits(s, row);
        /* Room is made and used again. */
        CHECK_INT(minke_session_truncate(s, 40), MINKE_OK);
        CHECK_INT(minke_session_eval(s, text + 200, 60), MINKE_OK);
        CHECK_INT(minke_session_truncate(t, 40), MINKE_OK);
        CHECK_INT(minke_session_eval(t, text + 200, 60), MINKE_OK);
        keep_logits(t, row);
        check_logits(s, row);
        minke_session_free(s);
        minke_session_free(t);
    }
}

TEST(sync_keeps_the_longest_common_prefix)
{
    static const size_t parts[] = {0, 1, 5, 63, 64, 65, 149, 150};

    for (size_t i = 0; i < N_KINDS; i++) {
        minke_session *s = open_kind(&kinds[i], N_TEXT, 32, NULL);
        minke_session *t = open_kind(&kinds[i], N_TEXT, 32, NULL);
        int32_t other[200];
        float row[CK_VOCAB];

        for (size_t j = 0; j < sizeof parts / sizeof *parts; j++) {
            size_t reused = 999;

            CHECK_INT(minke_session_sync(s, text, 150, NULL), MINKE_OK);
            memcpy(other, text, sizeof other);
            for (size_t k = parts[j]; k < 200; k++)
                other[k] = (text[k] + 1) % CK_VOCAB;
            CHECK_INT(minke_session_sync(s, other, 200, &reused), MINKE_OK);
            CHECK_INT(reused, parts[j]);
            CHECK_INT(minke_session_length(s), 200);
            CHECK_INT(minke_session_truncate(t, 0), MINKE_OK);
            CHECK_INT(minke_session_eval(t, other, 200), MINKE_OK);
            keep_logits(t, row);
            check_logits(s, row);
            /* A prefix of what is held costs one token. */
            CHECK_INT(minke_session_sync(s, other, 120, &reused), MINKE_OK);
            CHECK_INT(reused, 119);
        }
        minke_session_free(s);
        minke_session_free(t);
    }
}

int main(void)
{
    small_begin();
    small_write("model", 1, 1, 0);
    exact = small_open("model", 1, MINKE_CONTEXT_DETERMINISTIC);
    small_text(text, N_TEXT + 50);
    RUN(progress_counts_whole_chunks);
    RUN(a_prompt_stopped_after_any_chunk_goes_on_with_the_same_bits);
    RUN(a_cancel_at_any_moment_leaves_whole_chunks);
    RUN(a_full_session_stays_usable);
    RUN(sync_keeps_the_longest_common_prefix);
    minke_context_free(exact);
    small_end();
    return test_result();
}
