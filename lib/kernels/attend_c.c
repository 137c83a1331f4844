/* Attention and the indexer in plain C: what defines the results of every level. */
#include "kernels/kernels.h"

#include <math.h>
#include <string.h>

#include "kernels/kernels_math.h"

#define ATC_LANES 16u

/* ---- Cached rows -------------------------------------------------------- */

static void atc_widen_bf16(float *out, const uint8_t *in, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t h;

        memcpy(&h, in + 2 * i, sizeof(h));
        out[i] = mk_bf16_to_f32(h);
    }
}

static void atc_widen_e4m3(float *out, const uint8_t *in, float scale, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = mk_e4m3_to_f32(in[i]) * scale;
}

/* ---- Attention ---------------------------------------------------------- */

static void atc_dots(float *s, size_t lds, const float *q, size_t ldq, size_t n_vec,
                     const float *keys, size_t ldk, size_t n_keys, size_t dim, int first)
{
    for (size_t t = 0; t < n_keys; t++)
        for (size_t v = 0; v < n_vec; v++) {
            float *out = s + t * lds + v * ATC_LANES;
            float sum[ATC_LANES] = {0};

            if (!first)
                memcpy(sum, out, sizeof(sum));
            for (size_t d = 0; d < dim; d++)
                for (size_t l = 0; l < ATC_LANES; l++)
                    sum[l] = fmaf(q[v * ldq + d * ATC_LANES + l], keys[t * ldk + d], sum[l]);
            memcpy(out, sum, sizeof(sum));
        }
}

static void atc_soften(float *s, size_t lds, size_t n_vec, size_t n_keys, float scale, float *max,
                       float *sum, float *shrink)
{
    for (size_t l = 0; l < n_vec * ATC_LANES; l++) {
        float top = max[l];

        for (size_t t = 0; t < n_keys; t++) {
            const float x = s[t * lds + l] * scale;

            top = x > top ? x : top;
        }
        const float base = top == -INFINITY ? 0.0f : top;

        shrink[l] = mk_exp(max[l] - base);
        sum[l] *= shrink[l];
        max[l] = top;
        for (size_t t = 0; t < n_keys; t++) {
            const float p = mk_exp(s[t * lds + l] * scale - base);

            s[t * lds + l] = p;
            sum[l] += p;
        }
    }
}

static void atc_values(float *acc, size_t lda, const float *p, size_t ldp, const float *shrink,
                       size_t n_heads, const float *values, size_t ldv, size_t n_keys, size_t dim)
{
    for (size_t h = 0; h < n_heads; h++) {
        float *a = acc + h * lda;

        for (size_t d = 0; d < dim; d++)
            a[d] *= shrink[h];
        for (size_t t = 0; t < n_keys; t++)
            for (size_t d = 0; d < dim; d++)
                a[d] = fmaf(p[t * ldp + h], values[t * ldv + d], a[d]);
    }
}

/* The sum of 16 lanes in a fixed tree. */
static float atc_sum16(const float *s)
{
    float t[8];

    for (int i = 0; i < 8; i++)
        t[i] = s[i] + s[i + 8];
    for (int i = 0; i < 4; i++)
        t[i] += t[i + 4];
    return (t[0] + t[2]) + (t[1] + t[3]);
}

/* ---- Attention with 16-bit integers ------------------------------------- */

/* x / step to nearest even, in 16 bits; 0 for NaN. */
static uint32_t atc_round16(float x, float inverse)
{
    const float r = (x * inverse + 12582912.0f) - 12582912.0f;

    return r >= -MK_ROUND16_MAX && r <= MK_ROUND16_MAX ? (uint32_t)(int32_t)r & 0xFFFFu : 0u;
}

static float atc_round_step(const float *x, size_t dim)
{
    float lanes[2 * ATC_LANES] = {0}, max = 0.0f;

    for (size_t d = 0; d < dim; d++) {
        lanes[d % (2 * ATC_LANES)] = fmaf(x[d], x[d], lanes[d % (2 * ATC_LANES)]);
        max = fabsf(x[d]) > max ? fabsf(x[d]) : max;
    }
    for (size_t l = 0; l < ATC_LANES; l++)
        lanes[l] += lanes[l + ATC_LANES];
    return mk_round16_step(atc_sum16(lanes), max);
}

static void atc_round(uint32_t *out, size_t ldo, float *step, uint32_t *pairs, size_t ldp,
                      size_t n_pairs, const float *x, size_t ldx, size_t n, size_t dim)
{
    for (size_t t = 0; t < n; t++, x += ldx) {
        uint32_t *row = out == NULL ? NULL : out + t * ldo;

        step[t] = atc_round_step(x, dim);
        const float inverse = step[t] == 0.0f ? 0.0f : 1.0f / step[t];

        if (row != NULL)
            memset(row, 0, (dim + 31) / 32 * ATC_LANES * sizeof(*row));
        for (size_t d = 0; d < dim && row != NULL; d++)
            row[d / 2] |= atc_round16(x[d], inverse) << (d % 2 == 0 ? 0 : 16);
        for (size_t d = 0; d < (n_pairs + 15) / 16 * 16 && pairs != NULL; d++) {
            const uint32_t q = d < dim ? atc_round16(x[d], inverse) : 0u;
            uint32_t *pair = pairs + t / 2 * ldp + d;

            *pair = t % 2 == 0 ? q : *pair | q << 16;
        }
    }
}

/* The sum of products of two numbers each. */
static int32_t atc_two(uint32_t a, uint32_t b)
{
    return (int16_t)(a & 0xFFFFu) * (int16_t)(b & 0xFFFFu)
         + (int16_t)(a >> 16) * (int16_t)(b >> 16);
}

static void atc_dots16(float *s, size_t lds, const uint32_t *q, size_t ldq, const float *q_step,
                       size_t n_vec, const uint32_t *keys, size_t ldk, const float *key_step,
                       size_t n_keys, size_t words)
{
    for (size_t t = 0; t < n_keys; t++)
        for (size_t l = 0; l < n_vec * ATC_LANES; l++) {
            const uint32_t *lane = q + l / ATC_LANES * ldq + l % ATC_LANES;
            int32_t sum = 0;

            for (size_t w = 0; w < words; w++)
                sum += atc_two(lane[w * ATC_LANES], keys[t * ldk + w]);
            s[t * lds + l] = (float)sum * key_step[t] * q_step[l];
        }
}

static void atc_weights16(float *s, size_t lds, size_t n_vec, float *back, const float *step,
                          size_t n_keys)
{
    for (size_t l = 0; l < n_vec * ATC_LANES; l++) {
        float sum = 0.0f, top = 0.0f;

        for (size_t t = 0; t < n_keys; t++) {
            const float w = s[t * lds + l] * step[t];

            sum += w;
            top = w > top ? w : top;
        }
        const float by_top = top / MK_ROUND16_MAX, by_sum = sum / MK_ROUND16_SUM;

        back[l] = sum <= MK_ROUND16_TINY ? 0.0f : by_top > by_sum ? by_top : by_sum;
        const float inverse = back[l] == 0.0f ? 0.0f : 1.0f / back[l];
        for (size_t t = 0; t < n_keys; t += 2) {
            const uint32_t low = atc_round16(s[t * lds + l] * step[t], inverse);
            const uint32_t high = t + 1 == n_keys ? 0u
                                : atc_round16(s[(t + 1) * lds + l] * step[t + 1], inverse);
            const uint32_t pair = low | high << 16;

            memcpy(&s[t / 2 * lds + l], &pair, sizeof(pair));
        }
    }
}

static void atc_values16(float *acc, size_t lda, const uint32_t *p, size_t ldp,
                         const float *back, const float *shrink, size_t n_heads,
                         const uint32_t *pairs, size_t ldv, size_t n_pairs, size_t dim)
{
    for (size_t h = 0; h < n_heads; h++)
        for (size_t d = 0; d < dim; d++) {
            int32_t sum = 0;

            for (size_t t = 0; t < n_pairs; t++)
                sum += atc_two(p[t * ldp + h], pairs[t * ldv + d]);
            acc[h * lda + d] = fmaf(back[h], (float)sum, shrink[h] * acc[h * lda + d]);
        }
}

/* ---- The indexer -------------------------------------------------------- */

static void atc_index_sum(float *scores, const float *s, size_t lds, const float *w,
                          size_t n_vec, size_t n_keys)
{
    for (size_t t = 0; t < n_keys; t++, s += lds) {
        float sum[ATC_LANES] = {0};

        for (size_t i = 0; i < n_vec * ATC_LANES; i++)
            sum[i % ATC_LANES] = fmaf(s[i] > 0.0f ? s[i] : 0.0f, w[i], sum[i % ATC_LANES]);
        scores[t] = atc_sum16(sum);
    }
}

static void atc_index_scores(float *scores, const struct mk_index_query *q, const uint8_t *keys,
                             const float *scale, size_t n_keys)
{
    for (size_t t = 0; t < n_keys; t++, keys += 4 * q->words) {
        float sum[ATC_LANES] = {0};

        for (size_t v = 0; v < q->n_vec; v++) {
            const int8_t *in = q->q8 + v * q->words * 64;
            int32_t dot[ATC_LANES];

            memcpy(dot, q->start + v * ATC_LANES, sizeof(dot));
            for (size_t i = 0; i < q->words; i++)
                for (size_t l = 0; l < ATC_LANES; l++)
                    for (size_t j = 0; j < 4; j++)
                        dot[l] += in[i * 64 + l * 4 + j] * keys[i * 4 + j];
            for (size_t l = 0; l < ATC_LANES; l++)
                sum[l] = fmaf((float)(dot[l] > 0 ? dot[l] : 0), q->w8[v * ATC_LANES + l],
                              sum[l]);
        }
        scores[t] = atc_sum16(sum) * scale[t];
    }
}

static size_t atc_index_above(int32_t *out, const float *x, size_t n, float pivot)
{
    size_t n_out = 0;

    for (size_t i = 0; i < n; i++) {
        out[n_out] = (int32_t)i;
        n_out += x[i] >= pivot;
    }
    return n_out;
}

void mk_attend_init_c(struct mk_kernels *k)
{
    k->widen_bf16 = atc_widen_bf16;
    k->widen_e4m3 = atc_widen_e4m3;
    k->attend_dots = atc_dots;
    k->attend_soften = atc_soften;
    k->attend_values = atc_values;
    k->round16 = atc_round;
    k->attend_dots16 = atc_dots16;
    k->attend_weights16 = atc_weights16;
    k->attend_values16 = atc_values16;
    k->index_sum = atc_index_sum;
    k->index_scores = atc_index_scores;
    k->index_above = atc_index_above;
}
