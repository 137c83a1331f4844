/* Rows of several sequences in one forward pass; hidden rows that outlive a truncation; taps. */
#include "golden.h"
#include "session/session.h"

#define MAX_TOKENS 160u

/* A sequence of its own length; rows are what it evaluates together with others. */
struct part {
    size_t held, rows;
    uint32_t attention, window;
};

static const struct part parts[] = {
    {90, 1, MINKE_ATTENTION_DEFAULT, 0}, {3, 40, MINKE_ATTENTION_DEFAULT, 0},
    {0, 5, MINKE_ATTENTION_WINDOW, 7},   {64, 2, MINKE_ATTENTION_DENSE, 0},
    {120, 1, MINKE_ATTENTION_DEFAULT, 0},
};
#define N_PARTS (sizeof(parts) / sizeof(parts[0]))

static int32_t token_of(size_t part, size_t t, int64_t n_vocab)
{
    return (int32_t)((part * 131 + t * 7 + t * t * 3) % (size_t)n_vocab);
}

static minke_session *open_part(minke_context *ctx, const struct part *p, uint32_t cache_type)
{
    minke_session_params params;
    minke_session *s = NULL;

    minke_session_params_init(&params, sizeof(params));
    params.max_tokens = MAX_TOKENS;
    params.attention = p->attention;
    params.window = p->window;
    params.cache_type = cache_type;
    CHECK_INT(minke_session_open(&s, ctx, &params), MINKE_OK);
    return s;
}

/* Hidden rows (n, D) of all parts in one pass through the first session's evaluator. */
static size_t together(minke_session *const *s, float *hidden, int64_t n_vocab, size_t D)
{
    struct mk_evaluator *e = &s[0]->evaluator;
    size_t n = 0;

    mk_evaluator_begin(e, s[0]->model, &s[0]->seq, &s[0]->cancel);
    for (size_t p = 0; p < N_PARTS; p++)
        for (size_t i = 0; i < parts[p].rows; i++)
            e->rows[n++] = (struct mk_row){&s[p]->seq, parts[p].held + i,
                                           token_of(p, parts[p].held + i, n_vocab), 0};
    e->f.n = n;
    CHECK_INT(mk_forward_run(&e->f), MINKE_OK);
    memcpy(hidden, e->work.hidden, n * D * sizeof(*hidden));
    mk_evaluator_end(e, MINKE_OK);
    return n;
}

/* The same, each in its own. */
static void alone(minke_session *const *s, float *hidden, int64_t n_vocab, size_t D)
{
    for (size_t p = 0; p < N_PARTS; p++) {
        struct mk_evaluator *e = &s[p]->evaluator;
        int32_t tokens[MAX_TOKENS];

        for (size_t i = 0; i < parts[p].rows; i++)
            tokens[i] = token_of(p, parts[p].held + i, n_vocab);
        mk_evaluator_begin(e, s[p]->model, &s[p]->seq, &s[p]->cancel);
        mk_evaluator_rows(e, &s[p]->seq, parts[p].held, tokens, parts[p].rows);
        CHECK_INT(mk_forward_run(&e->f), MINKE_OK);
        memcpy(hidden, e->work.hidden, parts[p].rows * D * sizeof(*hidden));
        hidden += parts[p].rows * D;
        mk_evaluator_end(e, MINKE_OK);
    }
}

static void compare(const char *path, uint32_t flags, uint32_t cache_type, uint32_t n_threads)
{
    minke_context *ctx = golden_open(path, n_threads, flags);
    const size_t D = ctx->config.hidden_size;
    const int64_t n_vocab = ctx->config.vocab_size;
    float *a = calloc(64 * D, sizeof(*a)), *b = calloc(64 * D, sizeof(*b));
    minke_session *s[N_PARTS];
    size_t n;

    for (size_t p = 0; p < N_PARTS; p++) {
        int32_t tokens[MAX_TOKENS];

        s[p] = open_part(ctx, &parts[p], cache_type);
        for (size_t t = 0; t < parts[p].held; t++)
            tokens[t] = token_of(p, t, n_vocab);
        if (parts[p].held > 0)
            CHECK_INT(minke_session_eval(s[p], tokens, parts[p].held), MINKE_OK);
    }
    n = together(s, a, n_vocab, D);
    alone(s, b, n_vocab, D);
    CHECK(memcmp(a, b, n * D * sizeof(*a)) == 0);
    for (size_t p = 0; p < N_PARTS; p++)
        minke_session_free(s[p]);
    minke_context_free(ctx);
    free(a);
    free(b);
}

TEST(rows_of_many_sequences_have_the_bits_they_have_alone)
{
    static const char *const models[] = {"tests/golden/v2-lite", "tests/golden/v3",
                                         "tests/golden/v32", "tests/golden/v3-fp8"};
    static const uint32_t caches[] = {MINKE_CACHE_F32, MINKE_CACHE_NATIVE};

    for (size_t m = 0; m < sizeof(models) / sizeof(models[0]); m++)
        for (size_t c = 0; c < 2; c++)
            for (uint32_t n_threads = 1; n_threads <= 2; n_threads++) {
                compare(models[m], 0, caches[c], n_threads);
                compare(models[m], MINKE_CONTEXT_DETERMINISTIC, caches[c], n_threads);
                compare(models[m], MINKE_CONTEXT_DETERMINISTIC | MINKE_CONTEXT_FAST, caches[c],
                        n_threads);
            }
}

/* ---- Truncation ---------------------------------------------------------- */

static size_t n_passes;      /* rows that went through the head layers' first product */
static const struct mk_mat *first_matrix;

static void count_rows(void *user, const struct mk_product *p)
{
    (void)user;
    if (p->w == first_matrix)
        n_passes += p->n_rows;
}

static minke_session *open_mtp(minke_context *ctx)
{
    minke_session_params params;
    minke_session *s = NULL;

    minke_session_params_init(&params, sizeof(params));
    params.max_tokens = MAX_TOKENS;
    params.prefill_chunk = 16;
    params.flags = MINKE_SESSION_MTP;
    CHECK_INT(minke_session_open(&s, ctx, &params), MINKE_OK);
    return s;
}

/* Rows that an eval of one token takes behind a truncation from `held` to `kept`; its logits and
 * the prediction layer's must be those of a session that never held more. */
static size_t rows_behind(minke_context *ctx, size_t held, size_t kept)
{
    const int64_t n_vocab = ctx->config.vocab_size;
    minke_session *s = open_mtp(ctx), *fresh = open_mtp(ctx);
    const struct mk_recorder counter = {.user = &n_passes,
                                        .tap = {.user = &n_passes, .product = count_rows}};
    float *a = calloc((size_t)n_vocab, sizeof(*a)), *b = calloc((size_t)n_vocab, sizeof(*b));
    const float *x = NULL, *y = NULL;
    int32_t tokens[MAX_TOKENS];

    for (size_t t = 0; t < held; t++)
        tokens[t] = token_of(1, t, n_vocab);
    first_matrix = &ctx->weights.layers[0].self_attn.kv_a_proj_with_mqa;
    CHECK_INT(minke_session_eval(s, tokens, held), MINKE_OK);
    CHECK_INT(minke_session_truncate(s, kept), MINKE_OK);
    mk_session_set_recorder(s, &s->recorder, &counter);
    n_passes = 0;
    tokens[kept] = 5;
    CHECK_INT(minke_session_eval(s, tokens + kept, 1), MINKE_OK);
    CHECK_INT(minke_session_eval(fresh, tokens, kept + 1), MINKE_OK);
    CHECK_INT(minke_session_logits(s, &x, NULL), MINKE_OK);
    CHECK_INT(minke_session_logits(fresh, &y, NULL), MINKE_OK);
    CHECK(memcmp(x, y, (size_t)n_vocab * sizeof(*x)) == 0);
    CHECK_INT(minke_session_mtp(s, 9, a, (size_t)n_vocab), MINKE_OK);
    CHECK_INT(minke_session_mtp(fresh, 9, b, (size_t)n_vocab), MINKE_OK);
    CHECK(memcmp(a, b, (size_t)n_vocab * sizeof(*a)) == 0);
    minke_session_free(s);
    minke_session_free(fresh);
    free(a);
    free(b);
    return n_passes;
}

TEST(dropping_rows_of_the_last_chunk_costs_no_pass)
{
    minke_context *ctx = golden_open("tests/golden/v3-fp8", 2, MINKE_CONTEXT_DETERMINISTIC);

    /* Chunks of 16: the last one begins at 32, and the token before it is kept too. */
    CHECK_INT(rows_behind(ctx, 40, 39), 1);
    CHECK_INT(rows_behind(ctx, 40, 33), 1);
    CHECK_INT(rows_behind(ctx, 40, 32), 1);
    CHECK_INT(rows_behind(ctx, 40, 31), 2);
    CHECK_INT(rows_behind(ctx, 40, 5), 2);
    CHECK_INT(rows_behind(ctx, 16, 1), 1);
    minke_context_free(ctx);
}

/* ---- Taps ---------------------------------------------------------------- */

#define TOLD 8u

/* Tells which tokens are selected, every step-th, and writes down what layer 0 made of it. */
struct teller {
    int32_t step;
    int32_t ids[TOLD];
    float scores[TOLD];
};

static size_t tell(void *user, uint32_t l, size_t pos, int32_t *selected)
{
    const struct teller *t = user;

    if (l != 0 || pos < 60)
        return 0;
    for (size_t i = 0; i < TOLD; i++)
        selected[i] = (int32_t)i * t->step;
    return TOLD;
}

static int32_t hear(void *user, const struct mk_seen *seen)
{
    struct teller *t = user;

    if (seen->layer != 0 || seen->pos < 60)
        return MINKE_OK;
    CHECK_INT(seen->n_selected, TOLD);
    memcpy(t->ids, seen->selected, sizeof(t->ids));
    memcpy(t->scores, seen->scores, sizeof(t->scores));
    return MINKE_OK;
}

static int32_t see_nothing(void *user, uint32_t kind, uint32_t layer, uint64_t token,
                           const int32_t *ids, const float *values, size_t n)
{
    (void)user, (void)kind, (void)layer, (void)token, (void)ids, (void)values, (void)n;
    return 0;
}

TEST(a_selection_that_is_told_is_seen_with_its_own_scores)
{
    minke_context *ctx = golden_open("tests/golden/v32", 2, 0);
    struct teller t[2] = {{.step = 2}, {.step = 4}};
    minke_session_params params;
    int32_t tokens[64];

    for (size_t i = 0; i < 64; i++)
        tokens[i] = token_of(2, i, ctx->config.vocab_size);
    minke_session_params_init(&params, sizeof(params));
    params.max_tokens = MAX_TOKENS;
    params.observe = MINKE_OBSERVE_SELECTED;
    params.observer = see_nothing;
    for (int k = 0; k < 2; k++) {
        const struct mk_recorder teller = {.user = &t[k], .tap = {
            .user = &t[k], .selected = tell, .seen = hear, .scores = 1}};
        minke_session *s = NULL;

        CHECK_INT(minke_session_open(&s, ctx, &params), MINKE_OK);
        mk_session_set_recorder(s, &s->recorder, &teller);
        CHECK_INT(minke_session_eval(s, tokens, 64), MINKE_OK);
        minke_session_free(s);
    }
    /* Tokens 0, 4, 8 and 12 were told both times. */
    for (size_t i = 0; i < TOLD / 2; i++) {
        CHECK_INT(t[0].ids[2 * i], t[1].ids[i]);
        CHECK(t[0].scores[2 * i] == t[1].scores[i]);
    }
    CHECK(t[0].scores[1] != t[1].scores[1]);
    minke_context_free(ctx);
}

TEST_MAIN(RUN(rows_of_many_sequences_have_the_bits_they_have_alone),
          RUN(dropping_rows_of_the_last_chunk_costs_no_pass),
          RUN(a_selection_that_is_told_is_seen_with_its_own_scores))
