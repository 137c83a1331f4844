/* Caches of every form: layers from the reference's residual, the same bits in any company. */
#include "golden.h"

#include "session/session.h"

static struct golden g;

static const uint32_t caches[] = {MINKE_CACHE_F32, MINKE_CACHE_BF16, MINKE_CACHE_FP8};
static const char *const cache_names[] = {"f32", "bf16", "fp8"};

static minke_session *open_caches(minke_context *ctx, uint32_t cache_type, uint32_t index_type,
                                  uint32_t chunk)
{
    minke_session_params p;
    minke_session *s = NULL;

    minke_session_params_init(&p, sizeof(p));
    p.max_tokens = (uint32_t)g.prompt.rows + 8;
    p.prefill_chunk = chunk;
    p.cache_type = cache_type;
    p.index_type = index_type;
    CHECK_INT(minke_session_open(&s, ctx, &p), MINKE_OK);
    return s;
}

/* ---- Layers by themselves ------------------------------------------------ */

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* By how much rows of layer l's output lie off the reference when its input is the reference's,
 * relative to what the layer adds: the worst of the best three quarters of rows.  Where rounding
 * has a row choose other experts, it is off by more. */
static double layer_error(minke_context *ctx, uint32_t l, uint32_t cache_type, enum mk_form form)
{
    const struct golden_tensor want = golden_layer(&g, l, "residual");
    const struct golden_tensor in = golden_layer(&g, l - 1, "residual");
    const size_t n = g.prompt.rows, D = want.cols;
    minke_session *s = open_caches(ctx, cache_type, MINKE_INDEX_F32, (uint32_t)n);
    struct mk_forward *f = &s->evaluator.f;
    struct mk_work *work = &s->evaluator.work;
    double *rows = calloc(n, sizeof(*rows));

    s->seq.form = form;
    mk_evaluator_begin(&s->evaluator, s->model, &s->seq, &s->cancel);
    f->ops.round16 = (s->model->flags & MINKE_CONTEXT_FAST) != 0;
    mk_evaluator_rows(&s->evaluator, &s->seq, 0, g.prompt.i, n);
    mk_forward_angles(f);
    if (l == 0)
        for (size_t i = 0; i < n; i++)
            mk_mat_row(work->x + i * D, &s->model->weights.embed_tokens,
                       (size_t)g.prompt.i[i]);
    else
        memcpy(work->x, in.f, n * D * sizeof(float));
    float *before = malloc(n * D * sizeof(float));
    memcpy(before, work->x, n * D * sizeof(float));
    CHECK_INT(mk_forward_layer(f, &s->model->weights.layers[l], l), MINKE_OK);
    for (size_t i = 0; i < n; i++) {
        double off = 0.0, added = 0.0;

        for (size_t j = i * D; j < (i + 1) * D; j++) {
            const double d = (double)work->x[j] - want.f[j], a = (double)want.f[j] - before[j];

            off += d * d;
            added += a * a;
        }
        rows[i] = sqrt(off / added);
    }
    qsort(rows, n, sizeof(*rows), by_size);
    const double off = rows[n * 3 / 4];
    mk_evaluator_end(&s->evaluator, MINKE_OK);
    minke_session_free(s);
    free(before);
    free(rows);
    return off;
}

TEST(layers_are_the_references_within_the_rounding_of_the_cache)
{
    /* bf16 keeps 8 bits of a number, e4m3 keeps 4: 2^-9.2 and 2^-5.2 in the root mean square.
     * On its way through softmax, projections and experts the error of these models grows up to
     * threefold. */
    static const double bounds[] = {1e-5, 3 * 1.7e-3, 3 * 2.7e-2};
    minke_context *ctx = golden_open(g.path, 2, 0);
    int64_t n_layers = 0;

    CHECK_INT(minke_context_info(ctx, MINKE_INFO_N_LAYERS, &n_layers), MINKE_OK);
    for (size_t c = 0; g.first_row == 0 && golden_is_clear(&g) && c < 3; c++)
        for (uint32_t l = 0; l < n_layers; l++)
            for (int form = MK_FORM_NAIVE; form <= MK_FORM_ABSORBED; form++) {
                const double off = layer_error(ctx, l, caches[c], (enum mk_form)form);

                CHECK(off <= bounds[c]);
                if (!(off <= bounds[c]) || getenv("MINKE_TEST_VERBOSE"))
                    fprintf(stderr, "%s layer %u, %s, %s: off by %.2e\n", g.path, l,
                            cache_names[c], form == MK_FORM_NAIVE ? "naive" : "absorbed", off);
            }
    minke_context_free(ctx);
}

TEST(layers_are_the_references_within_the_rounding_of_16_bit_products)
{
    /* Twice what the worst of these layers is off by. */
    const double bound = 2e-3;
    minke_context *ctx = golden_open(g.path, 2, MINKE_CONTEXT_FAST);
    int64_t n_layers = 0;

    CHECK_INT(minke_context_info(ctx, MINKE_INFO_N_LAYERS, &n_layers), MINKE_OK);
    for (uint32_t l = 0; g.first_row == 0 && golden_is_clear(&g) && l < n_layers; l++)
        for (int form = MK_FORM_NAIVE; form <= MK_FORM_ABSORBED; form++) {
            const double off = layer_error(ctx, l, MINKE_CACHE_F32, (enum mk_form)form);

            CHECK(off <= bound);
            if (!(off <= bound) || getenv("MINKE_TEST_VERBOSE"))
                fprintf(stderr, "%s layer %u, 16 bits, %s: off by %.2e\n", g.path, l,
                        form == MK_FORM_NAIVE ? "naive" : "absorbed", off);
        }
    minke_context_free(ctx);
}

/* ---- The same bits ------------------------------------------------------- */

/* Logits of all rows, in steps of `step` tokens and chunks of `chunk`; caller frees. */
static float *all_rows(minke_context *ctx, uint32_t cache_type, uint32_t index_type,
                       uint32_t chunk, size_t step)
{
    const size_t n = g.prompt.rows, vocab = g.logits.cols;
    float *rows = malloc(n * vocab * sizeof(float));
    minke_session *s = open_caches(ctx, cache_type, index_type, chunk);

    for (size_t i = 0; i < n; i += step) {
        const size_t now = n - i < step ? n - i : step;

        CHECK_INT(minke_session_eval_all(s, g.prompt.i + i, now, rows + i * vocab, now * vocab),
                  MINKE_OK);
    }
    minke_session_free(s);
    return rows;
}

static void check_chunking(uint32_t context_flags, size_t n_caches)
{
    static const uint32_t indices[] = {MINKE_INDEX_F32, MINKE_INDEX_INT8, MINKE_INDEX_RESCORED};
    static const struct { uint32_t threads, chunk; size_t step; } ways[] = {
        {1, 64, 1000}, {2, 512, 1000}, {3, 7, 1000}, {2, 1, 1000}, {2, 64, 50},
    };
    const size_t size = g.prompt.rows * g.logits.cols * sizeof(float);
    minke_context *ctx[4];

    for (uint32_t t = 1; t <= 3; t++)
        ctx[t] = golden_open(g.path, t, MINKE_CONTEXT_DETERMINISTIC | context_flags);
    const int dsa = ctx[1]->config.index_topk > 0;
    for (size_t c = 0; c < n_caches; c++)
        for (size_t i = 0; i < (dsa ? 3 : 1); i++) {
            float *first = all_rows(ctx[1], caches[c], indices[i], 512, 1000);

            for (size_t w = 0; w < sizeof(ways) / sizeof(ways[0]); w++) {
                float *rows = all_rows(ctx[ways[w].threads], caches[c], indices[i],
                                       ways[w].chunk, ways[w].step);

                CHECK(memcmp(first, rows, size) == 0);
                free(rows);
            }
            free(first);
        }
    for (uint32_t t = 1; t <= 3; t++)
        minke_context_free(ctx[t]);
}

TEST(same_bits_for_any_chunking_and_any_number_of_threads)
{
    check_chunking(0, 3);
}

TEST(same_bits_for_any_chunking_with_16_bit_products)
{
    check_chunking(MINKE_CONTEXT_FAST, 1);
}

/* Without the flag: any number of threads, the same chunking. */
static void check_threads(uint32_t context_flags, size_t n_caches)
{
    const size_t size = g.prompt.rows * g.logits.cols * sizeof(float);
    minke_context *one = golden_open(g.path, 1, context_flags);
    minke_context *three = golden_open(g.path, 3, context_flags);

    for (size_t c = 0; c < n_caches; c++)
        for (uint32_t chunk = 5; chunk <= 150; chunk += 145) {
            float *a = all_rows(one, caches[c], MINKE_INDEX_NATIVE, chunk, 1000);
            float *b = all_rows(three, caches[c], MINKE_INDEX_NATIVE, chunk, 1000);

            CHECK(memcmp(a, b, size) == 0);
            free(a);
            free(b);
        }
    minke_context_free(one);
    minke_context_free(three);
}

TEST(same_bits_for_any_number_of_threads_in_every_form)
{
    check_threads(0, 3);
}

TEST(same_bits_for_any_number_of_threads_with_16_bit_products)
{
    check_threads(MINKE_CONTEXT_FAST, 1);
}

/* ---- Memory, time -------------------------------------------------------- */

TEST(memory_told_beforehand_follows_the_bytes_of_a_row)
{
    minke_context *ctx = golden_open(g.path, 1, 0);
    const struct mk_config *c = &ctx->config;
    const size_t L = c->kv_lora_rank, R = c->qk_rope_head_dim, D = c->index_head_dim;
    const size_t latent[] = {4 * (L + R), 2 * (L + R), L + (L + 127) / 128 * 4 + 2 * R};
    const size_t index[] = {4 * D, D + 4, D + 4 + 2 * D};
    minke_session_params p;
    uint64_t small, large;

    minke_session_params_init(&p, sizeof(p));
    p.prefill_chunk = 1;
    for (uint32_t a = 0; a < 3; a++)
        for (uint32_t i = 0; i < 3; i++) {
            const size_t row = (latent[a] + (c->index_topk ? index[i] : 0)) * c->num_hidden_layers;
            /* Of a token also: its id, and scores and candidates of the indexer. */
            const size_t beside = 4 + (c->index_topk ? 12 : 0);

            p.cache_type = a;
            p.index_type = i;
            p.max_tokens = 1024;
            CHECK_INT(minke_session_memory(ctx, &p, &small), MINKE_OK);
            p.max_tokens = 3 * 1024;
            CHECK_INT(minke_session_memory(ctx, &p, &large), MINKE_OK);
            CHECK_INT(large - small, 2048 * (row + beside));
        }
    p.cache_type = MINKE_CACHE_NATIVE + 1;
    CHECK_INT(minke_session_memory(ctx, &p, &small), MINKE_EVERSION);
    p.cache_type = 0;
    p.index_type = MINKE_INDEX_NATIVE + 1;
    CHECK_INT(minke_session_memory(ctx, &p, &small), MINKE_EVERSION);
    minke_context_free(ctx);
}

TEST(time_is_told_by_part)
{
    minke_context *ctx = golden_open(g.path, 1, 0);
    minke_session *s = open_caches(ctx, MINKE_CACHE_NATIVE, MINKE_INDEX_NATIVE, 64);
    uint64_t ns[6] = {0}, untouched = 7;

    for (int32_t key = MINKE_TIME_TOTAL; key <= MINKE_TIME_FFN; key++) {
        CHECK_INT(minke_session_time(s, key, &ns[key]), MINKE_OK);
        CHECK_INT(ns[key], 0);
    }
    CHECK_INT(minke_session_eval(s, g.prompt.i, g.prompt.rows), MINKE_OK);
    for (int32_t key = MINKE_TIME_TOTAL; key <= MINKE_TIME_FFN; key++)
        CHECK_INT(minke_session_time(s, key, &ns[key]), MINKE_OK);
    CHECK(ns[MINKE_TIME_ATTENTION] > 0 && ns[MINKE_TIME_FFN] > 0);
    CHECK((ns[MINKE_TIME_INDEX] > 0) == (ctx->config.index_topk > 0));
    CHECK(ns[MINKE_TIME_INDEX] + ns[MINKE_TIME_SELECT] + ns[MINKE_TIME_ATTENTION]
          + ns[MINKE_TIME_FFN] <= ns[MINKE_TIME_TOTAL]);
    CHECK_INT(minke_session_time(s, MINKE_TIME_FFN + 1, &untouched), MINKE_EVERSION);
    CHECK_INT(untouched, 7);
    CHECK_INT(minke_session_time(s, MINKE_TIME_FFN, NULL), MINKE_EINVAL);
    CHECK_INT(minke_session_time(NULL, MINKE_TIME_FFN, &untouched), MINKE_EINVAL);
    minke_session_free(s);
    minke_context_free(ctx);
}

int main(void)
{
    size_t n_seen = 0;

    for (size_t i = 0; i < GOLDEN_N; i++) {
        if (golden_load(&g, golden_cases[i]) != 0)
            continue;
        n_seen++;
        RUN(layers_are_the_references_within_the_rounding_of_the_cache);
        RUN(layers_are_the_references_within_the_rounding_of_16_bit_products);
        if (g.prompt.rows <= 400) {
            RUN(same_bits_for_any_chunking_and_any_number_of_threads);
            RUN(same_bits_for_any_chunking_with_16_bit_products);
            RUN(same_bits_for_any_number_of_threads_in_every_form);
            RUN(same_bits_for_any_number_of_threads_with_16_bit_products);
        }
        RUN(memory_told_beforehand_follows_the_bytes_of_a_row);
        RUN(time_is_told_by_part);
        golden_free(&g);
    }
    printf("%zu cases, %d checks failed\n", n_seen, test_failures);
    return test_failures ? 1 : n_seen ? 0 : 77;
}
