/* Attention with 16-bit products against float64, on rows of several kinds; the same bits for any
 * number of workers; its two forms against each other, with these products and with exact ones. */
#include "layer.h"

#include <math.h>

#include "test.h"

#define HEADS 20u                /* a vector and a quarter */
#define DIM 576u
#define LATENT 512u

/* Mean 0 and variance 1. */
static float normal(void)
{
    float sum = 0.0f;

    for (int i = 0; i < 12; i++)
        sum += kd_float();
    return 0.5f * sum;
}

enum { GAUSSIAN, OUTLIERS, LARGE_ROWS, COMMON_MEAN, N_SETS };
static const char *const set_names[] = {"gaussian", "outliers", "large rows", "common mean"};

/* A cached row or a query. */
static void draw(float *x, int set, int is_query)
{
    float sum = 0.0f;

    for (size_t i = 0; i < DIM; i++)
        x[i] = normal();
    if (set == OUTLIERS)
        for (size_t i = 7; i < DIM; i += 96)
            x[i] *= 30.0f;
    if (set == LARGE_ROWS && !is_query && kd_u32() % 16 == 0)
        for (size_t i = 0; i < DIM; i++)
            x[i] *= 20.0f;
    if (set == COMMON_MEAN && !is_query)
        for (size_t i = 0; i < DIM; i++)
            x[i] += 3.0f * (float)(i % 3);
    for (size_t i = 0; i < DIM; i++)
        sum += x[i] * x[i];
    /* Queries of one length, that scores are spread as the caller says. */
    for (size_t i = 0; i < DIM && is_query; i++)
        x[i] *= sqrtf((float)DIM / sum);
}

/* What a row sees of cached latents, in float64: out (HEADS, LATENT). */
static void reference(double *out, const struct layer *b, const float *q, size_t n)
{
    const struct mk_mla_span span = mk_mla_span(&b->f, 0);
    float *keys = malloc(n * DIM * sizeof(*keys));
    double *p = malloc(n * sizeof(*p));

    for (size_t t = 0; t < n; t++) {
        const int32_t at = span.list ? span.list[t] : (int32_t)(span.begin + t);

        memcpy(keys + t * DIM, mk_kv_latents(&b->kv, &b->model.kernels, keys + t * DIM, &at, 0, 1),
               DIM * sizeof(*keys));
    }
    for (size_t h = 0; h < HEADS; h++) {
        double top = -INFINITY, sum = 0.0;

        for (size_t t = 0; t < n; t++) {
            p[t] = 0.0;
            for (size_t d = 0; d < DIM; d++)
                p[t] += (double)q[h * DIM + d] * keys[t * DIM + d];
            p[t] *= b->model.rope.softmax_scale;
            top = p[t] > top ? p[t] : top;
        }
        memset(out + h * LATENT, 0, LATENT * sizeof(*out));
        for (size_t t = 0; t < n; t++) {
            const double w = exp(p[t] - top);

            sum += w;
            for (size_t d = 0; d < LATENT; d++)
                out[h * LATENT + d] += w * keys[t * DIM + d];
        }
        for (size_t d = 0; d < LATENT; d++)
            out[h * LATENT + d] /= sum;
    }
    free(keys);
    free(p);
}

/* Error over all heads, relative to the size of the output. */
static double error_of(const struct layer *b, const double *want)
{
    double off = 0.0, all = 0.0;

    for (size_t h = 0; h < HEADS; h++)
        for (size_t d = 0; d < LATENT; d++) {
            const double w = want[h * LATENT + d], e = b->work.qa[h * DIM + d] - w;

            off += e * e;
            all += w * w;
        }
    return sqrt(off / all);
}

/* A layer of n rows of a kind, its queries scaled so that scores deviate by about `spread`. */
static struct mk_mla fill(struct layer *b, size_t n, int set, float spread)
{
    float row[DIM];

    for (size_t t = 0; t < n; t++) {
        draw(row, set, 0);
        mk_kv_put_latent(&b->kv, t, row);
    }
    for (size_t h = 0; h < HEADS; h++) {
        float *q = b->work.qa + h * DIM;

        draw(q, set, 1);
        for (size_t d = 0; d < DIM; d++)
            q[d] *= spread / (24.0f * b->model.rope.softmax_scale);
    }
    b->seq.index_topk = 0;
    return layer_rows(b, n - 1, 1, NULL);
}

TEST(errors_of_16_bit_products_stay_below_5e_3)
{
    static const float spreads[] = {0.3f, 1.0f, 3.0f};
    static const uint32_t caches[] = {MINKE_CACHE_F32, MINKE_CACHE_FP8};
    const size_t n = 2047;
    double *want = malloc(HEADS * LATENT * sizeof(*want));
    float *q = malloc(HEADS * DIM * sizeof(*q));

    for (int set = 0; set < N_SETS; set++)
        for (size_t s = 0; s < 3; s++)
            for (size_t c = 0; c < 2; c++) {
                struct layer b;
                struct mk_mla j;

                layer_open(&b, 2, n, HEADS, caches[c], MINKE_INDEX_INT8, 1, 1);
                j = fill(&b, n, set, spreads[s]);
                memcpy(q, b.work.qa, HEADS * DIM * sizeof(*q));
                reference(want, &b, q, n);
                mk_mla_attend_absorbed(&j);
                const double off = error_of(&b, want);

                CHECK(off < 5e-3);
                if (!(off < 5e-3) || getenv("MINKE_TEST_VERBOSE"))
                    fprintf(stderr, "%s, scores deviate by %.1f, %s: off by %.2e\n",
                            set_names[set], (double)spreads[s], c ? "fp8" : "f32", off);
                layer_close(&b);
            }
    free(want);
    free(q);
}

TEST(one_worker_and_three_give_the_same_bits_with_16_bit_products)
{
    const size_t n = 3000;
    float *first = malloc(HEADS * DIM * sizeof(*first));

    for (uint32_t n_threads = 1; n_threads <= 3; n_threads += 2) {
        struct layer b;
        struct mk_mla j;

        kd_state = 77;
        layer_open(&b, n_threads, n, HEADS, MINKE_CACHE_BF16, MINKE_INDEX_INT8, 1, 1);
        j = fill(&b, n, GAUSSIAN, 1.0f);
        mk_mla_attend_absorbed(&j);
        if (n_threads == 1)
            memcpy(first, b.work.qa, HEADS * DIM * sizeof(*first));
        CHECK(memcmp(first, b.work.qa, HEADS * DIM * sizeof(*first)) == 0);
        layer_close(&b);
    }
    free(first);
}

TEST(a_row_that_holds_no_number_shows_in_every_head)
{
    const size_t n = 100;
    float row[DIM] = {0};
    struct layer b;
    struct mk_mla j;

    layer_open(&b, 1, n, HEADS, MINKE_CACHE_F32, MINKE_INDEX_INT8, 1, 1);
    j = fill(&b, n, GAUSSIAN, 1.0f);
    row[5] = NAN;
    mk_kv_put_latent(&b.kv, 40, row);
    mk_mla_attend_absorbed(&j);
    for (size_t h = 0; h < HEADS; h++)
        CHECK(b.work.qa[h * DIM] != b.work.qa[h * DIM]);
    layer_close(&b);
}

/* ---- Both forms --------------------------------------------------------- */

#define MANY 35u                 /* heads: more than keys are made for at a time */

/* A row-major matrix of f32, and its transpose. */
static void weights(struct mk_mat *w, struct mk_mat *turned, size_t n_out, size_t n_in)
{
    float *x = kd_floats(n_out * n_in, 0.07f), *y = kd_floats(n_out * n_in, 0.0f);

    for (size_t i = 0; i < n_out; i++)
        for (size_t k = 0; k < n_in; k++)
            y[k * n_out + i] = x[i * n_in + k];
    *w = (struct mk_mat){MK_F32, MK_LAYOUT_ROWS, n_out, n_in, 4 * n_in, (uint8_t *)x, NULL, 0};
    *turned = (struct mk_mat){MK_F32, MK_LAYOUT_ROWS, n_in, n_out, 4 * n_out, (uint8_t *)y, NULL, 0};
}

/* By how much the forms differ over n_rows rows behind `first` tokens. */
static double form_gap(size_t first, size_t n_rows, size_t window, int attend16)
{
    static struct mk_mat k_up[MANY], k_b[MANY], v_b[MANY], turned;
    const struct mk_attention_weights w = {.k_up = k_up, .k_b = k_b, .v_b = v_b};
    const size_t n = n_rows * MANY * 128;
    float row[DIM], *naive = malloc(n * sizeof(*naive));
    double off = 0.0, all = 0.0;
    struct layer b;
    struct mk_mla j;

    if (v_b[0].data == NULL)
        for (size_t h = 0; h < MANY; h++) {
            weights(&k_up[h], &k_b[h], 128, LATENT);
            weights(&v_b[h], &turned, 128, LATENT);
        }
    layer_open(&b, 2, first + n_rows, MANY, MINKE_CACHE_BF16, MINKE_INDEX_INT8, n_rows, attend16);
    b.seq.index_topk = 0;
    b.seq.window = window;
    j = layer_rows(&b, first, n_rows, &w);
    for (size_t t = 0; t < first + n_rows; t++) {
        draw(row, GAUSSIAN, 0);
        mk_kv_put_latent(&b.kv, t, row);
    }
    for (size_t i = 0; i < n_rows * MANY * 192; i++)
        b.work.q[i] = normal();
    mk_mla_naive(&j);
    memcpy(naive, b.work.o, n * sizeof(*naive));
    mk_mla_absorbed(&j);
    for (size_t i = 0; i < n; i++) {
        const double e = (double)naive[i] - b.work.o[i];

        off += e * e;
        all += (double)b.work.o[i] * b.work.o[i];
    }
    layer_close(&b);
    free(naive);
    return sqrt(off / all);
}

TEST(both_forms_agree_over_several_blocks_of_keys_and_heads)
{
    static const struct { size_t first, n_rows, window; } cases[] = {
        {0, 70, 0}, {1100, 65, 0}, {505, 9, 0}, {600, 130, 90}, {1023, 3, 0},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (int attend16 = 0; attend16 < 2; attend16++) {
            const double gap = form_gap(cases[i].first, cases[i].n_rows, cases[i].window,
                                        attend16);

            CHECK(gap < (attend16 ? 5e-3 : 1e-5));
            if (!(gap < (attend16 ? 5e-3 : 1e-5)) || getenv("MINKE_TEST_VERBOSE"))
                fprintf(stderr, "%zu rows behind %zu, %d bits: forms differ by %.2e\n",
                        cases[i].n_rows, cases[i].first, attend16 ? 16 : 32, gap);
        }
}

static void run(void)
{
    RUN(errors_of_16_bit_products_stay_below_5e_3);
    RUN(one_worker_and_three_give_the_same_bits_with_16_bit_products);
    RUN(both_forms_agree_over_several_blocks_of_keys_and_heads);
    RUN(a_row_that_holds_no_number_shows_in_every_head);
}

TEST_MAIN(run())
