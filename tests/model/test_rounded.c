/* Attention with 16-bit products against float64, on rows of several kinds; the same bits for any
 * number of workers. */
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
static void fill(struct layer *b, size_t n, int set, float spread)
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
    b->f.index_topk = 0;
    b->f.first = n - 1;
    b->f.n = 1;
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
                struct mk_mla j = {.f = &b.f, .kv = &b.kv};

                layer_open(&b, 2, n, HEADS, caches[c], MINKE_INDEX_INT8, 1, 1);
                fill(&b, n, set, spreads[s]);
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
        struct mk_mla j = {.f = &b.f, .kv = &b.kv};

        kd_state = 77;
        layer_open(&b, n_threads, n, HEADS, MINKE_CACHE_BF16, MINKE_INDEX_INT8, 1, 1);
        fill(&b, n, GAUSSIAN, 1.0f);
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
    struct mk_mla j = {.f = &b.f, .kv = &b.kv};

    layer_open(&b, 1, n, HEADS, MINKE_CACHE_F32, MINKE_INDEX_INT8, 1, 1);
    fill(&b, n, GAUSSIAN, 1.0f);
    row[5] = NAN;
    mk_kv_put_latent(&b.kv, 40, row);
    mk_mla_attend_absorbed(&j);
    for (size_t h = 0; h < HEADS; h++)
        CHECK(b.work.qa[h * DIM] != b.work.qa[h * DIM]);
    layer_close(&b);
}

static void run(void)
{
    RUN(errors_of_16_bit_products_stay_below_5e_3);
    RUN(one_worker_and_three_give_the_same_bits_with_16_bit_products);
    RUN(a_row_that_holds_no_number_shows_in_every_head);
}

TEST_MAIN(run())
