/* Types of blocks of 256 weights in parts of 16 or 32, whose scales are codes too.  Layouts: ggml's
 * ggml-common.h.  A product of scales and code is exact in single precision, so that only the
 * difference to the minimum rounds. */
#include "tensor/fit.h"

/* ---- Scales and codes, by search ----------------------------------------------------------- */

/* A block under work: n_sub parts of len weights, part s of them x ~ d scale[s] q - dmin min[s]
 * where low is 0, else x ~ d scale[s] q. */
struct q256_block {
    const float *x, *w;
    uint32_t n_sub, len;
    int low, high;              /* of the codes */
    int scale_low, scale_high;  /* of the scales; minima from 0 to scale_high */
    float d, dmin;
    int scale[16], min[16];
    uint8_t q[256];             /* less low */
};

static struct mk_fit q256_part(const struct q256_block *b, uint32_t s)
{
    return (struct mk_fit){b->x + s * b->len, b->w + s * b->len, b->len, b->low, b->high};
}

/* The best codes of every part for the scales as they stand. */
static void q256_codes(struct q256_block *b)
{
    for (uint32_t s = 0; s < b->n_sub; s++) {
        const struct mk_fit f = q256_part(b, s);
        mk_fit_codes(b->q + s * b->len, &f, b->d * (float)b->scale[s],
                     b->dmin * (float)b->min[s]);
    }
}

/* d and dmin of the least error for the codes as they stand; as they were where these say too
 * little. */
static void q256_solve(struct q256_block *b)
{
    float aa = 0.0f, ab = 0.0f, bb = 0.0f, ax = 0.0f, bx = 0.0f;

    for (uint32_t i = 0; i < 256; i++) {
        const uint32_t s = i / b->len;
        const float u = (float)b->scale[s] * (float)(b->q[i] + b->low);
        const float v = -(float)b->min[s];
        aa += b->w[i] * u * u;
        ab += b->w[i] * u * v;
        bb += b->w[i] * v * v;
        ax += b->w[i] * u * b->x[i];
        bx += b->w[i] * v * b->x[i];
    }
    const float det = aa * bb - ab * ab;
    if (bb > 0.0f && det > 1e-6f * aa * bb) {
        const float d = (ax * bb - bx * ab) / det, dmin = (aa * bx - ab * ax) / det;
        if (d > 0.0f && dmin >= 0.0f) {
            b->d = d;
            b->dmin = dmin;
            return;
        }
    }
    if (aa > 0.0f) {
        const float d = (ax - ab * b->dmin) / aa;
        if (b->low < 0 || d > 0.0f)
            b->d = d;
    }
}

/* Step a part's scale and minimum to the neighbour with the least error, which is returned. */
static float q256_step(struct q256_block *b, uint32_t s)
{
    const struct mk_fit f = q256_part(b, s);
    const int scale = b->scale[s], min = b->min[s], reach = b->low == 0;
    float best = -1.0f;

    for (int i = scale - 1; i <= scale + 1; i++) {
        for (int j = min - reach; j <= min + reach; j++) {
            if (i < b->scale_low || i > b->scale_high || j < 0 || j > b->scale_high)
                continue;
            const float error = mk_fit_error(&f, b->d * (float)i, b->dmin * (float)j);
            if (best < 0.0f || error < best) {
                best = error;
                b->scale[s] = i;
                b->min[s] = j;
            }
        }
    }
    return best;
}

static float q256_step_all(struct q256_block *b)
{
    float total = 0.0f;

    for (uint32_t s = 0; s < b->n_sub; s++)
        total += q256_step(b, s);
    return total;
}

/* Scales and minima of each part alone, then in units of common ones. */
static void q256_start(struct q256_block *b)
{
    float d[16], m[16] = {0.0f}, top = 0.0f, top_m = 0.0f;

    for (uint32_t s = 0; s < b->n_sub; s++) {
        const struct mk_fit f = q256_part(b, s);
        if (b->low == 0)
            mk_fit_affine(&d[s], &m[s], &f, 0);
        else
            d[s] = mk_fit_symmetric(&f);
        if ((d[s] < 0.0f ? -d[s] : d[s]) > (top < 0.0f ? -top : top))
            top = d[s];
        top_m = m[s] > top_m ? m[s] : top_m;
    }
    b->d = mk_fit_half(top / (float)(b->low == 0 ? b->scale_high : b->scale_low));
    b->dmin = mk_fit_half(top_m / (float)b->scale_high);
    for (uint32_t s = 0; s < b->n_sub; s++) {
        b->scale[s] = mk_fit_clamp(mk_fit_round(d[s] * mk_fit_inverse(b->d)), b->scale_low,
                                   b->scale_high);
        b->min[s] = mk_fit_clamp(mk_fit_round(m[s] * mk_fit_inverse(b->dmin)), 0, b->scale_high);
    }
}

/* Scales, minima and codes of a block; d and dmin go to at_d and at_min (NULL: no minima). */
static void q256_fit(struct q256_block *b, uint8_t *at_d, uint8_t *at_min)
{
    q256_start(b);
    float error = q256_step_all(b);
    for (int round = 0; round < 2; round++) {
        struct q256_block next = *b;
        q256_codes(&next);
        q256_solve(&next);
        next.d = mk_fit_half(next.d);
        next.dmin = mk_fit_half(next.dmin);
        const float next_error = q256_step_all(&next);
        if (!(next_error < error))
            break;
        error = next_error;
        *b = next;
    }
    q256_codes(b);
    mk_store_f16(at_d, b->d);
    if (at_min != NULL)
        mk_store_f16(at_min, b->dmin);
}

/* ---- Fields that types share --------------------------------------------------------------- */

/* The 2-bit field of weight i of Q2_K, Q3_K and TQ2_0. */
static uint32_t q256_two_bits(const uint8_t *q, uint32_t i)
{
    return q[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3u;
}

static void q256_store_two_bits(uint8_t *out, const uint8_t *q)
{
    memset(out, 0, 64);
    for (uint32_t i = 0; i < 256; i++) {
        uint8_t *p = &out[i / 128 * 32 + i % 32];
        *p = (uint8_t)(*p | (q[i] & 3u) << (i / 32 % 4 * 2));
    }
}

/* 6-bit scale and minimum j < 8 of a Q4_K or Q5_K block's 12 bytes. */
static void q256_scale_min(uint32_t *scale, uint32_t *min, const uint8_t *s, uint32_t j)
{
    if (j < 4) {
        *scale = s[j] & 63u;
        *min = s[j + 4] & 63u;
    } else {
        *scale = (s[j + 4] & 15u) | (uint32_t)(s[j - 4] >> 6) << 4;
        *min = (uint32_t)(s[j + 4] >> 4) | (uint32_t)(s[j] >> 6) << 4;
    }
}

static void q256_store_scale_min(uint8_t *out, const struct q256_block *b)
{
    for (uint32_t j = 0; j < 4; j++) {
        const uint32_t s = (uint32_t)b->scale[j], m = (uint32_t)b->min[j];
        const uint32_t s4 = (uint32_t)b->scale[j + 4], m4 = (uint32_t)b->min[j + 4];
        out[j] = (uint8_t)(s | (s4 >> 4) << 6);
        out[j + 4] = (uint8_t)(m | (m4 >> 4) << 6);
        out[j + 8] = (uint8_t)((s4 & 15u) | (m4 & 15u) << 4);
    }
}

/* Low 4 bits of Q4_K's and Q5_K's codes: 32 of one part beside 32 of the next. */
static void q256_store_nibbles(uint8_t *out, const uint8_t *q)
{
    for (uint32_t i = 0; i < 128; i++) {
        const uint8_t *pair = q + i / 32 * 64 + i % 32;
        out[i] = (uint8_t)((pair[0] & 15u) | (pair[32] & 15u) << 4);
    }
}

/* ---- The K types --------------------------------------------------------------------------- */

/* 16 x (scale, min) of 4 bits, 2-bit codes, d, dmin: x = d s q - dmin m */
void mk_decode_q2_k(float *out, const uint8_t *in)
{
    const float d = mk_load_f16(in + 80), dmin = mk_load_f16(in + 82);

    for (uint32_t i = 0; i < 256; i++) {
        const float scale = d * (float)(in[i / 16] & 15), min = dmin * (float)(in[i / 16] >> 4);
        out[i] = scale * (float)q256_two_bits(in + 16, i) - min;
    }
}

void mk_encode_q2_k(uint8_t *out, const float *x, const float *w)
{
    struct q256_block b = {.x = x, .w = w, .n_sub = 16, .len = 16, .high = 3, .scale_high = 15};

    q256_fit(&b, out + 80, out + 82);
    for (uint32_t s = 0; s < 16; s++)
        out[s] = (uint8_t)(b.scale[s] | b.min[s] << 4);
    q256_store_two_bits(out + 16, b.q);
}

/* High bits, 2-bit codes, 16 6-bit scales, d: x = d (s - 32) (q - 4) */
void mk_decode_q3_k(float *out, const uint8_t *in)
{
    const uint8_t *scales = in + 96;
    const float d = mk_load_f16(in + 108);

    for (uint32_t b = 0; b < 16; b++) {
        const uint32_t low = scales[b % 8] >> (b / 8 * 4) & 15u;
        const uint32_t high = scales[8 + b % 4] >> (b / 4 * 2) & 3u;
        const float scale = d * ((float)(low | high << 4) - 32.0f);
        for (uint32_t i = 16 * b; i < 16 * b + 16; i++) {
            const uint32_t bit = in[i % 32] >> i / 32 & 1u;
            out[i] = scale * ((float)(q256_two_bits(in + 32, i) | bit << 2) - 4.0f);
        }
    }
}

void mk_encode_q3_k(uint8_t *out, const float *x, const float *w)
{
    struct q256_block b = {.x = x, .w = w, .n_sub = 16, .len = 16, .low = -4, .high = 3,
                         .scale_low = -32, .scale_high = 31};

    q256_fit(&b, out + 108, NULL);
    memset(out, 0, 32);
    for (uint32_t i = 0; i < 256; i++)
        out[i % 32] = (uint8_t)(out[i % 32] | (b.q[i] >> 2) << i / 32);
    q256_store_two_bits(out + 32, b.q);
    memset(out + 96, 0, 12);
    for (uint32_t s = 0; s < 16; s++) {
        const uint32_t v = (uint32_t)(b.scale[s] + 32);
        uint8_t *low = out + 96 + s % 8, *high = out + 104 + s % 4;
        *low = (uint8_t)(*low | (v & 15u) << (s / 8 * 4));
        *high = (uint8_t)(*high | (v >> 4) << (s / 4 * 2));
    }
}

/* d, dmin, 8 x (scale, min) of 6 bits, 4-bit codes: x = d s q - dmin m */
void mk_decode_q4_k(float *out, const uint8_t *in)
{
    const float d = mk_load_f16(in), dmin = mk_load_f16(in + 2);

    for (uint32_t b = 0; b < 8; b++) {
        const uint8_t *q = in + 16 + b / 2 * 32;
        uint32_t s, m;
        q256_scale_min(&s, &m, in + 4, b);
        const float scale = d * (float)s, min = dmin * (float)m;
        for (uint32_t i = 0; i < 32; i++)
            out[32 * b + i] = scale * (float)(q[i] >> (b % 2 * 4) & 15) - min;
    }
}

void mk_encode_q4_k(uint8_t *out, const float *x, const float *w)
{
    struct q256_block b = {.x = x, .w = w, .n_sub = 8, .len = 32, .high = 15, .scale_high = 63};

    q256_fit(&b, out, out + 2);
    q256_store_scale_min(out + 4, &b);
    q256_store_nibbles(out + 16, b.q);
}

/* As Q4_K with the fifth bits before the codes. */
void mk_decode_q5_k(float *out, const uint8_t *in)
{
    const float d = mk_load_f16(in), dmin = mk_load_f16(in + 2);
    const uint8_t *high = in + 16;

    for (uint32_t b = 0; b < 8; b++) {
        const uint8_t *q = in + 48 + b / 2 * 32;
        uint32_t s, m;
        q256_scale_min(&s, &m, in + 4, b);
        const float scale = d * (float)s, min = dmin * (float)m;
        for (uint32_t i = 0; i < 32; i++) {
            const uint32_t low = q[i] >> (b % 2 * 4) & 15u, bit = high[i] >> b & 1u;
            out[32 * b + i] = scale * (float)(low | bit << 4) - min;
        }
    }
}

void mk_encode_q5_k(uint8_t *out, const float *x, const float *w)
{
    struct q256_block b = {.x = x, .w = w, .n_sub = 8, .len = 32, .high = 31, .scale_high = 63};

    q256_fit(&b, out, out + 2);
    q256_store_scale_min(out + 4, &b);
    memset(out + 16, 0, 32);
    for (uint32_t i = 0; i < 256; i++)
        out[16 + i % 32] = (uint8_t)(out[16 + i % 32] | (b.q[i] >> 4) << i / 32);
    q256_store_nibbles(out + 48, b.q);
}

/* Low 4 bits, high 2 bits, 16 8-bit scales, d: x = d s (q - 32) */
void mk_decode_q6_k(float *out, const uint8_t *in)
{
    const float d = mk_load_f16(in + 208);

    for (uint32_t i = 0; i < 256; i++) {
        const float scale = d * (float)(int8_t)in[192 + i / 16];
        const uint32_t low = in[i / 128 * 64 + i % 64] >> (i / 64 % 2 * 4) & 15u;
        const uint32_t high = in[128 + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3u;
        out[i] = scale * ((float)(low | high << 4) - 32.0f);
    }
}

void mk_encode_q6_k(uint8_t *out, const float *x, const float *w)
{
    struct q256_block b = {.x = x, .w = w, .n_sub = 16, .len = 16, .low = -32, .high = 31,
                         .scale_low = -128, .scale_high = 127};

    q256_fit(&b, out + 208, NULL);
    memset(out, 0, 192);
    for (uint32_t i = 0; i < 256; i++) {
        uint8_t *low = out + i / 128 * 64 + i % 64, *high = out + 128 + i / 128 * 32 + i % 32;
        *low = (uint8_t)(*low | (b.q[i] & 15u) << (i / 64 % 2 * 4));
        *high = (uint8_t)(*high | (b.q[i] >> 4) << (i / 32 % 4 * 2));
    }
    for (uint32_t s = 0; s < 16; s++)
        out[192 + s] = (uint8_t)b.scale[s];
}

/* ---- The ternary types --------------------------------------------------------------------- */

/* Digit n < 5 of the five ternary digits in a byte, as a fraction of 256: the first of them
 * is the highest. */
static float q256_trit(uint32_t byte, uint32_t n)
{
    static const uint32_t power[5] = {1, 3, 9, 27, 81};

    return (float)((byte * power[n] & 255u) * 3 >> 8) - 1.0f;
}

/* 32 bytes of 5 digits, 16 bytes of 5, 4 bytes of 4, d */
void mk_decode_tq1_0(float *out, const uint8_t *in)
{
    const float d = mk_load_f16(in + 52);

    for (uint32_t i = 0; i < 160; i++)
        out[i] = q256_trit(in[i % 32], i / 32) * d;
    for (uint32_t i = 0; i < 80; i++)
        out[160 + i] = q256_trit(in[32 + i % 16], i / 16) * d;
    for (uint32_t i = 0; i < 16; i++)
        out[240 + i] = q256_trit(in[48 + i % 4], i / 4) * d;
}

/* 2-bit fields, d */
void mk_decode_tq2_0(float *out, const uint8_t *in)
{
    const float d = mk_load_f16(in + 64);

    for (uint32_t i = 0; i < 256; i++)
        out[i] = ((float)q256_two_bits(in, i) - 1.0f) * d;
}
