/* Plain C kernels: the twins that define what every other level computes. */
#include "kernels/kernels.h"

#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/cpu.h"
#include "kernels/kernels_math.h"
#include "kernels/packed.h"

/* Sixteen running sums, so that compilers may use vectors and wider levels agree closely. */
static float kc_sum16(const float *s)
{
    float t[8];

    for (int i = 0; i < 8; i++)
        t[i] = s[i] + s[i + 8];
    for (int i = 0; i < 4; i++)
        t[i] += t[i + 4];
    return (t[0] + t[2]) + (t[1] + t[3]);
}

static float kc_dot(const float *a, const float *b, size_t n)
{
    float s[16] = {0};
    size_t i = 0;

    for (; i + 16 <= n; i += 16)
        for (size_t j = 0; j < 16; j++)
            s[j] += a[i + j] * b[i + j];
    for (size_t j = 0; i + j < n; j++)
        s[j] += a[i + j] * b[i + j];
    return kc_sum16(s);
}

static void kc_axpy(float *y, float s, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += s * x[i];
}

static void kc_rms_norm(float *y, const float *x, const float *w, float eps, size_t n)
{
    const float scale = 1.0f / sqrtf(kc_dot(x, x, n) / (float)n + eps);

    for (size_t i = 0; i < n; i++)
        y[i] = w[i] * (x[i] * scale);
}

static void kc_softmax(float *x, size_t n)
{
    float max = -INFINITY, s[16] = {0};

    for (size_t i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    if (max == -INFINITY) {
        memset(x, 0, n * sizeof(*x));
        return;
    }
    for (size_t i = 0; i < n; i++) {
        x[i] = mk_exp(x[i] - max);
        s[i % 16] += x[i];
    }
    const float scale = 1.0f / kc_sum16(s);
    for (size_t i = 0; i < n; i++)
        x[i] *= scale;
}

static void kc_swiglu(float *y, const float *g, const float *u, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = g[i] / (1.0f + mk_exp(-g[i])) * u[i];
}

static void kc_quantize(struct mk_act *out, const float *x, size_t n)
{
    for (; n > 0; n--, out++, x += 32) {
        float max = 0.0f;
        int32_t half[2] = {0, 0};

        for (int i = 0; i < 32; i++)
            max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
        /* Scales that would be denormal slow the products down: such a block is zero. */
        const float inverse = max > MK_ACT_TINY ? 127.0f / max : 0.0f;

        memset(out, 0, sizeof(*out));
        out->d = max > MK_ACT_TINY ? max / 127.0f : 0.0f;
        for (int i = 0; i < 32; i++) {
            /* Adding 1.5 * 2^23 leaves no bits below the unit: round to nearest even. */
            const float r = (x[i] * inverse + 12582912.0f) - 12582912.0f;

            out->q[i] = (int8_t)(r >= -127.0f && r <= 127.0f ? r : 0.0f);
            half[i / 16] += out->q[i];
        }
        out->zh[0] = -128 * half[0];
        out->zh[1] = -128 * half[1];
        out->z = out->zh[0] + out->zh[1];
        out->ds = out->d * (float)(half[0] + half[1]);
    }
}

static void kc_interleave(uint32_t *out, const uint8_t *rows, size_t stride, size_t n_rows,
                          size_t n_words)
{
    if (n_rows < MK_LANES)
        memset(out, 0, n_words * 4 * MK_LANES);
    for (size_t r = 0; r < n_rows; r++)
        for (size_t i = 0; i < n_words; i++)
            memcpy(&out[i * MK_LANES + r], rows + r * stride + 4 * i, 4);
}

/* ---- Panels of integer weights ------------------------------------------ */

static void kc_f16_row(float *out, const uint8_t *in)
{
    for (int r = 0; r < 16; r++) {
        uint16_t h;

        memcpy(&h, in + 2 * r, 2);
        out[r] = mk_f16_to_f32(h);
    }
}

/* Scales of blocks [b, b + n) of a type of 32-blocks. */
static void kc_heads(float *s, const uint8_t *group, size_t b, size_t n, enum mk_type type)
{
    for (size_t i = 0; i < n; i++)
        kc_f16_row(s + i * 16, group + mk_pack_head_at(mk_pack_info(type), b + i));
}

static void kc_expand_q8_0(struct mk_panel *p, const uint8_t *group, size_t b, size_t n,
                           uint8_t *q, float *s, float *m)
{
    (void)q;
    (void)m;
    kc_heads(s, group, b, n, MK_Q8_0);
    *p = (struct mk_panel){group + mk_pack_unit_at(mk_pack_info(MK_Q8_0), b), s, NULL};
}

/* Low nibbles are the first 16 weights of a block, high ones the others; w = q - 8, and
 * panels hold w + 128. */
static void kc_expand_q4_0(struct mk_panel *p, const uint8_t *group, size_t b, size_t n,
                           uint8_t *q, float *s, float *m)
{
    (void)m;
    kc_heads(s, group, b, n, MK_Q4_0);
    *p = (struct mk_panel){q, s, NULL};
    for (size_t u = 0; u < n; u++) {
        const uint8_t *in = group + mk_pack_unit_at(mk_pack_info(MK_Q4_0), b + u);
        uint8_t *out = q + mk_panel_at(u);

        for (int i = 0; i < 256; i++) {
            out[i] = (uint8_t)((in[i] & 15) + 120);
            out[i + 256] = (uint8_t)((in[i] >> 4) + 120);
        }
    }
}

/* Bit i of the first 64 bytes is the fifth bit of the i-th four weights. */
static void kc_expand_q5_0(struct mk_panel *p, const uint8_t *group, size_t b, size_t n,
                           uint8_t *q, float *s, float *m)
{
    (void)m;
    kc_heads(s, group, b, n, MK_Q5_0);
    *p = (struct mk_panel){q, s, NULL};
    for (size_t u = 0; u < n; u++) {
        const uint8_t *in = group + mk_pack_unit_at(mk_pack_info(MK_Q5_0), b + u);
        uint8_t *out = q + mk_panel_at(u);

        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 64; j++) {
                const int low = in[64 + 64 * i + j] & 15, high = in[64 + 64 * i + j] >> 4;

                out[64 * i + j] = (uint8_t)((low | ((in[j] >> i) & 1) << 4) + 112);
                out[64 * (i + 4) + j] = (uint8_t)((high | ((in[j] >> (i + 4)) & 1) << 4) + 112);
            }
    }
}

/* The 6-bit scale and minimum of sub-block j from 12 bytes, which lie 64 apart by dword. */
static void kc_scale_min(int *scale, int *min, const uint8_t *in, int j)
{
    if (j < 4) {
        *scale = in[j] & 63;
        *min = in[64 + j] & 63;
    } else {
        *scale = (in[128 + j - 4] & 15) | (in[j - 4] >> 6) << 4;
        *min = in[128 + j - 4] >> 4 | (in[64 + j - 4] >> 6) << 4;
    }
}

/* Scales and minima of a Q4_K or Q5_K unit: d * scale and dmin * min. */
static void kc_k_scales(float *s, float *m, const uint8_t *unit)
{
    for (int r = 0; r < 16; r++) {
        uint16_t h[2];

        memcpy(h, unit + 4 * r, 4);
        const float d = mk_f16_to_f32(h[0]), dmin = mk_f16_to_f32(h[1]);
        for (int j = 0; j < 8; j++) {
            int scale, min;

            kc_scale_min(&scale, &min, unit + 64 + 4 * r, j);
            s[16 * j + r] = d * (float)scale;
            m[16 * j + r] = dmin * (float)min;
        }
    }
}

static void kc_expand_q4_k(struct mk_panel *p, const uint8_t *group, size_t b, size_t n,
                           uint8_t *q, float *s, float *m)
{
    *p = (struct mk_panel){q, s, m};
    for (size_t u = 0; u < n; u += 8) {
        const uint8_t *unit = group + (b + u) / 8 * (36 * 64);

        kc_k_scales(s + 16 * u, m + 16 * u, unit);
        for (size_t j = 0; j < 8; j += 2)
            for (size_t i = 0; i < 512; i++) {
                const uint8_t x = unit[256 + 256 * j + i];

                q[mk_panel_at(u + j) + i] = x & 15;
                q[mk_panel_at(u + j + 1) + i] = x >> 4;
            }
    }
}

/* The first 8 lines of low bits alternate with the lines of fifth bits. */
static void kc_expand_q5_k(struct mk_panel *p, const uint8_t *group, size_t b, size_t n,
                           uint8_t *q, float *s, float *m)
{
    *p = (struct mk_panel){q, s, m};
    for (size_t u = 0; u < n; u += 8) {
        const uint8_t *unit = group + (b + u) / 8 * (44 * 64);

        kc_k_scales(s + 16 * u, m + 16 * u, unit);
        for (size_t j = 0; j < 8; j += 2)
            for (size_t i = 0; i < 512; i++) {
                const size_t line = j == 0 ? i / 64 * 2 : 8 + 4 * j + i / 64;
                const int x = unit[256 + 64 * line + i % 64];
                const int h = unit[256 + 64 * (i / 64 * 2 + 1) + i % 64] >> j;

                q[mk_panel_at(u + j) + i] = (uint8_t)((x & 15) | (h & 1) << 4);
                q[mk_panel_at(u + j + 1) + i] = (uint8_t)(x >> 4 | (h >> 1 & 1) << 4);
            }
    }
}

/* w = q - 32 with a scale per 16.  A half of a unit is 4 blocks, the first two in low nibbles;
 * its first 8 lines of low bits alternate with the lines of high bits. */
static void kc_expand_q6_k(struct mk_panel *p, const uint8_t *group, size_t b, size_t n,
                           uint8_t *q, float *s, float *m)
{
    (void)m;
    *p = (struct mk_panel){q, s, NULL};
    for (size_t u = 0; u < n; u += 8, s += 256) {
        const uint8_t *unit = group + mk_pack_unit_at(mk_pack_info(MK_Q6_K), (b + u) / 8);
        float d[16];

        kc_f16_row(d, group + mk_pack_head_at(mk_pack_info(MK_Q6_K), (b + u) / 8));
        for (size_t j = 0; j < 16; j++)
            for (size_t r = 0; r < 16; r++)
                s[16 * j + r] = d[r] * (float)(int8_t)unit[j / 4 * 64 + 4 * r + j % 4];
        for (size_t c = 0; c < 8; c++)
            for (size_t i = 0; i < 512; i++) {
                const uint8_t *half = unit + (4 + c / 4 * 24) * 64;
                const size_t line = c % 2 == 0 ? i / 64 * 2 : 16 + i / 64;
                const int low = half[64 * line + i % 64] >> (c & 2) * 2 & 15;
                const int high = half[64 * (i / 64 * 2 + 1) + i % 64] >> (c & 3) * 2 & 3;

                q[mk_panel_at(u + c) + i] = (uint8_t)((low | high << 4) + 96);
            }
    }
}

static void kc_expand_iq4_xs(struct mk_panel *p, const uint8_t *group, size_t b, size_t n,
                             uint8_t *q, float *s, float *m)
{
    (void)m;
    *p = (struct mk_panel){q, s, NULL};
    for (size_t u = 0; u < n; u += 8, s += 128) {
        const uint8_t *unit = group + (b + u) / 8 * (34 * 64);

        for (size_t r = 0; r < 16; r++) {
            uint16_t h[2];

            memcpy(h, unit + 4 * r, 4);
            const float d = mk_f16_to_f32(h[0]);
            for (size_t j = 0; j < 8; j++) {
                const int low = unit[64 + 4 * r + j / 2] >> 4 * (j & 1) & 15;

                s[16 * j + r] = d * (float)((low | (h[1] >> 2 * j & 3) << 4) - 32);
            }
        }
        for (size_t j = 0; j < 8; j++)
            for (size_t i = 0; i < 256; i++) {
                const uint8_t x = unit[128 + 256 * j + i];

                q[mk_panel_at(u + j) + i] = mk_iq4_shifted[x & 15];
                q[mk_panel_at(u + j) + 256 + i] = mk_iq4_shifted[x >> 4];
            }
    }
}

/* ---- Tiles -------------------------------------------------------------- */

/* Integer sums of 16 rows over groups [i0, i1) of four weights, from start. */
static void kc_sums(int32_t *c, const uint8_t *q, const int8_t *a, int i0, int i1, int32_t start)
{
    for (int r = 0; r < 16; r++)
        c[r] = start;
    for (int i = i0; i < i1; i++)
        for (int r = 0; r < 16; r++)
            for (int j = 0; j < 4; j++)
                c[r] += (int32_t)q[64 * i + 4 * r + j] * a[4 * i + j];
}

static void kc_tile_block(float *y, const struct mk_panel *p, const struct mk_act *a, size_t b,
                          enum mk_panel_kind kind)
{
    const uint8_t *q = p->q + mk_panel_at(b);
    int32_t c[16], c1[16];

    if (kind == MK_PANEL_HALVES) {
        const float *s = p->s + b * 32;

        kc_sums(c, q, a->q, 0, 4, a->zh[0]);
        kc_sums(c1, q, a->q, 4, 8, a->zh[1]);
        for (size_t r = 0; r < 16; r++)
            y[r] = fmaf(fmaf((float)c1[r], s[16 + r], (float)c[r] * s[r]), a->d, y[r]);
        return;
    }
    kc_sums(c, q, a->q, 0, 8, kind == MK_PANEL_MIN ? 0 : a->z);
    for (size_t r = 0; r < 16; r++)
        y[r] = fmaf((float)c[r] * p->s[b * 16 + r], a->d, y[r]);
    if (kind == MK_PANEL_MIN)
        for (size_t r = 0; r < 16; r++)
            y[r] = fmaf(-p->m[b * 16 + r], a->ds, y[r]);
}

static void kc_tile(float *y, size_t ldy, const struct mk_panel *p, const struct mk_act *a,
                    size_t lda, size_t n_tokens, size_t n, size_t n_rows, int first,
                    enum mk_panel_kind kind)
{
    for (size_t t = 0; t < n_tokens; t++)
        for (size_t r = 0; r < n_rows; r += 16) {
            const size_t n_used = mk_min(n_rows - r, 16) * sizeof(float);
            float sum[16] = {0};

            if (!first)
                memcpy(sum, y + t * ldy + r, n_used);
            for (size_t b = 0; b < n; b++)
                kc_tile_block(sum, &p[r / 16], &a[t * lda + b], b, kind);
            memcpy(y + t * ldy + r, sum, n_used);
        }
}

static void kc_tile_signed(float *y, size_t ldy, const struct mk_panel *p,
                           const struct mk_act *a, size_t lda, size_t n_tokens, size_t n,
                           size_t n_rows, int first)
{
    kc_tile(y, ldy, p, a, lda, n_tokens, n, n_rows, first, MK_PANEL_SIGNED);
}

static void kc_tile_min(float *y, size_t ldy, const struct mk_panel *p, const struct mk_act *a,
                        size_t lda, size_t n_tokens, size_t n, size_t n_rows, int first)
{
    kc_tile(y, ldy, p, a, lda, n_tokens, n, n_rows, first, MK_PANEL_MIN);
}

static void kc_tile_halves(float *y, size_t ldy, const struct mk_panel *p,
                           const struct mk_act *a, size_t lda, size_t n_tokens, size_t n,
                           size_t n_rows, int first)
{
    kc_tile(y, ldy, p, a, lda, n_tokens, n, n_rows, first, MK_PANEL_HALVES);
}

/* ---- Float weights ------------------------------------------------------ */

static const float *kc_expand_f32(float *out, const uint8_t *group, size_t k, size_t n)
{
    (void)out;
    (void)n;
    return (const float *)(const void *)group + k * 16;
}

static const float *kc_expand_f16(float *out, const uint8_t *group, size_t k, size_t n)
{
    const uint16_t *in = (const uint16_t *)(const void *)group;

    for (size_t i = 0; i < n; i++)
        for (size_t r = 0; r < 16; r++)
            out[i * 16 + r] = mk_f16_to_f32(in[((k + i) / 2 * 16 + r) * 2 + (k + i) % 2]);
    return out;
}

static const float *kc_expand_bf16(float *out, const uint8_t *group, size_t k, size_t n)
{
    const uint16_t *in = (const uint16_t *)(const void *)group;

    for (size_t i = 0; i < n; i++)
        for (size_t r = 0; r < 16; r++)
            out[i * 16 + r] = mk_bf16_to_f32(in[((k + i) / 2 * 16 + r) * 2 + (k + i) % 2]);
    return out;
}

static const float *kc_expand_e4m3(float *out, const uint8_t *group, size_t k, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t r = 0; r < 16; r++)
            out[i * 16 + r] = mk_e4m3_to_f32(group[mk_pack_e4m3_at(k + i, r)]);
    return out;
}

static void kc_tile_float(float *y, size_t ldy, const float *w0, const float *w1, const float *x,
                          size_t ldx, size_t n_tokens, size_t n, size_t n_rows, float scale,
                          int first)
{
    for (size_t t = 0; t < n_tokens; t++)
        for (size_t r = 0; r < n_rows; r++) {
            const float *w = r < 16 ? w0 + r : w1 + r - 16;
            float sum = 0.0f;

            for (size_t k = 0; k < n; k++)
                sum = fmaf(w[k * 16], x[t * ldx + k], sum);
            y[t * ldy + r] = fmaf(scale, sum, first ? 0.0f : y[t * ldy + r]);
        }
}

/* ---- Float weights by 16-bit activations --------------------------------- */

/* x / step to nearest even, exactly: the inverse of a step is a power of two. */
static uint32_t kc_round16(float x, float inverse)
{
    const float r = (x * inverse + 12582912.0f) - 12582912.0f;

    return r >= -4096.0f && r <= 4096.0f ? (uint32_t)(int32_t)r & 0xFFFFu : 0u;
}

/* w (n, 16) as dwords of two; shared: all rows have the step of the largest. */
static void kc_words16(uint32_t *out, float *step, const float *w, size_t n, float scale,
                       int shared)
{
    float max[16] = {0};

    for (size_t i = 0; i < n; i++)
        for (size_t r = 0; r < 16; r++) {
            float *m = &max[shared ? 0 : r];

            *m = fabsf(w[16 * i + r]) <= *m ? *m : fabsf(w[16 * i + r]);
            if (w[16 * i + r] != w[16 * i + r])
                *m = INFINITY;
        }
    memset(out, 0, (n + 1) / 2 * 16 * sizeof(*out));
    for (size_t r = 0; r < 16; r++) {
        const float power = mk_round16_power(max[shared ? 0 : r]);

        for (size_t i = 0; i < n; i++)
            out[i / 2 * 16 + r] |= kc_round16(w[16 * i + r], 1.0f / power) << (i % 2 ? 16 : 0);
        step[r] = power * scale;
    }
}

#define KC_EXPAND16(name, shared)                                                               \
static void kc_expand16_##name(uint32_t *out, float *step, const uint8_t *group, size_t k,      \
                               size_t n, float scale, const uint8_t *next)                      \
{                                                                                               \
    float w[MK_PANEL_FLOATS * 16];                                                              \
                                                                                                \
    (void)next;                                                                                 \
    kc_words16(out, step, kc_expand_##name(w, group, k, n), n, scale, shared);                  \
}
KC_EXPAND16(f32, 0)
KC_EXPAND16(f16, 0)
KC_EXPAND16(bf16, 0)
KC_EXPAND16(e4m3, 1)

static void kc_tile16(float *y, size_t ldy, const uint32_t *w0, const uint32_t *w1,
                      const float *w_step, const uint32_t *a, const float *a_step, size_t lda,
                      size_t n_tokens, size_t words, size_t n_rows, int first)
{
    for (size_t t = 0; t < n_tokens; t++)
        for (size_t r = 0; r < n_rows; r++) {
            const uint32_t *w = r < 16 ? w0 + r : w1 + r - 16;
            int32_t sum = 0;

            for (size_t i = 0; i < words; i++)
                sum += (int16_t)(w[i * 16] & 0xFFFFu) * (int16_t)(a[t * lda + i] & 0xFFFFu)
                     + (int16_t)(w[i * 16] >> 16) * (int16_t)(a[t * lda + i] >> 16);
            y[t * ldy + r] = fmaf((float)sum, a_step[t * lda] * w_step[r],
                                  first ? 0.0f : y[t * ldy + r]);
        }
}

void mk_kernels_init(struct mk_kernels *k, uint32_t features)
{
    *k = (struct mk_kernels){
        .features = features,
        .dot = kc_dot,
        .axpy = kc_axpy,
        .rms_norm = kc_rms_norm,
        .softmax = kc_softmax,
        .swiglu = kc_swiglu,
        .quantize = kc_quantize,
        .interleave = kc_interleave,
        .expand = {
            [MK_Q8_0] = kc_expand_q8_0, [MK_Q4_0] = kc_expand_q4_0,
            [MK_Q5_0] = kc_expand_q5_0, [MK_Q4_K] = kc_expand_q4_k,
            [MK_Q5_K] = kc_expand_q5_k, [MK_Q6_K] = kc_expand_q6_k,
            [MK_IQ4_XS] = kc_expand_iq4_xs,
        },
        .tile = {NULL, kc_tile_signed, kc_tile_min, kc_tile_halves},
        .expand_float = {
            [MK_F32] = kc_expand_f32, [MK_F16] = kc_expand_f16,
            [MK_BF16] = kc_expand_bf16, [MK_F8_E4M3] = kc_expand_e4m3,
        },
        .tile_float = kc_tile_float,
        .expand16 = {
            [MK_F32] = kc_expand16_f32, [MK_F16] = kc_expand16_f16,
            [MK_BF16] = kc_expand16_bf16, [MK_F8_E4M3] = kc_expand16_e4m3,
        },
        .tile16 = kc_tile16,
    };
    mk_attend_init_c(k);
    mk_kernels_init_avx2(k);
    mk_attend_init_avx2(k);
    mk_kernels_init_avx512(k);
    mk_attend_init_avx512(k);
    mk_kernels_init_neon(k);
}
