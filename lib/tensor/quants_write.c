/* Encoding to the integer types: scales by search over a few candidates, each followed by
 * least squares; the last codes are chosen for the scales as stored.
 *
 * Everywhere x (n,) are the weights, w (n,) those of their squared errors. */
#include "tensor/quants.h"

#define QW_LARGEST 1e-15f     /* blocks with nothing above this are zeros */

/* To the nearest integer, ties to even, |v| < 2^22: the sum has no bits below 1. */
static int qw_round(float v)
{
    const float sum = v + 12582912.0f;
    int32_t bits;

    memcpy(&bits, &sum, sizeof(bits));
    return (bits & 0x7fffff) - 0x400000;
}

static int qw_clamp(int v, int low, int high)
{
    return v < low ? low : v > high ? high : v;
}

static float qw_store_f16(uint8_t *p, float v)
{
    const uint16_t h = mk_f32_to_f16(v);

    mk_store16(p, h);
    return mk_f16_to_f32(h);
}

/* 1 / d, or 0 for d so small that it is no number. */
static float qw_inverse(float d)
{
    return d > 1e-30f || d < -1e-30f ? 1.0f / d : 0.0f;
}

/* q = x / d in [low, high] for the d of the least error, x ~ d q.  Returns d. */
static float qw_fit(const float *x, const float *w, uint32_t n, int low, int high, int steps)
{
    float largest = 0.0f, best_d = 0.0f, best = 0.0f;

    for (uint32_t i = 0; i < n; i++)
        if (x[i] > largest || -x[i] > largest)
            largest = x[i] < 0.0f ? -x[i] : x[i];
    if (largest < QW_LARGEST)
        return 0.0f;
    for (int side = 0; side < 2; side++) {
        for (int k = -steps; k <= steps; k++) {
            /* The largest weight reaches the longer side's end, or nearly. */
            const float inverse = ((float)-low + 0.2f * (float)k) / (side ? largest : -largest);
            float xq = 0.0f, qq = 0.0f;
            for (uint32_t i = 0; i < n; i++) {
                const float q = (float)qw_clamp(qw_round(x[i] * inverse), low, high);
                xq += w[i] * x[i] * q;
                qq += w[i] * q * q;
            }
            /* The error with d = xq / qq is sum w x^2 - xq^2 / qq. */
            if (qq > 0.0f && xq * xq > best * qq) {
                best = xq * xq / qq;
                best_d = xq / qq;
            }
        }
    }
    return best_d;
}

/* The weighted squared error of x ~ d q - m with q in [0, top]. */
static float qw_affine_error(const float *x, const float *w, uint32_t n, int top, float d,
                             float m)
{
    const float inverse = qw_inverse(d);
    float error = 0.0f;

    for (uint32_t i = 0; i < n; i++) {
        const float q = (float)qw_clamp(qw_round((x[i] + m) * inverse), 0, top);
        const float e = d * q - m - x[i];
        error += w[i] * e * e;
    }
    return error;
}

/* d and m of the least error for fixed codes q; m at least 0 unless free. */
static void qw_affine_solve(float *d, float *m, const float *x, const float *w, uint32_t n,
                            const float *q, int free_sign)
{
    float s = 0.0f, sx = 0.0f, sq = 0.0f, sqq = 0.0f, sxq = 0.0f;

    for (uint32_t i = 0; i < n; i++) {
        s += w[i];
        sx += w[i] * x[i];
        sq += w[i] * q[i];
        sqq += w[i] * q[i] * q[i];
        sxq += w[i] * x[i] * q[i];
    }
    const float det = s * sqq - sq * sq;
    if (!(det > 1e-6f * s * sqq))
        return;
    *d = (s * sxq - sx * sq) / det;
    *m = (sq * sxq - sqq * sx) / det;
    if (!free_sign && *m < 0.0f) {
        *m = 0.0f;
        *d = sxq / sqq;
    }
    if (*d < 0.0f)
        *d = 0.0f;
}

/* x ~ d q - m, q in [0, top], n <= 32. */
static void qw_fit_affine(float *out_d, float *out_m, const float *x, const float *w, uint32_t n,
                          int top, int free_sign, int steps)
{
    float low = free_sign ? x[0] : 0.0f, high = x[0], best, q[32];

    for (uint32_t i = 0; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    *out_d = 0.0f;
    *out_m = -low;
    if (high - low < QW_LARGEST)
        return;
    *out_d = (high - low) / (float)top;
    best = qw_affine_error(x, w, n, top, *out_d, *out_m);
    for (int k = -steps; k <= steps; k++) {
        float d = (high - low) / ((float)top + 0.2f * (float)k), m = -low;
        for (int round = 0; round < 2; round++) {
            const float inverse = qw_inverse(d);
            for (uint32_t i = 0; i < n; i++)
                q[i] = (float)qw_clamp(qw_round((x[i] + m) * inverse), 0, top);
            qw_affine_solve(&d, &m, x, w, n, q, free_sign);
        }
        const float error = qw_affine_error(x, w, n, top, d, m);
        if (error < best) {
            best = error;
            *out_d = d;
            *out_m = m;
        }
    }
}

static void qw_symmetric_codes(uint8_t *q, const float *x, uint32_t n, float d, int low, int high)
{
    const float inverse = qw_inverse(d);

    for (uint32_t i = 0; i < n; i++)
        q[i] = (uint8_t)(qw_clamp(qw_round(x[i] * inverse), low, high) - low);
}

static void qw_affine_codes(uint8_t *q, const float *x, uint32_t n, float d, float m, int top)
{
    const float inverse = qw_inverse(d);

    for (uint32_t i = 0; i < n; i++)
        q[i] = (uint8_t)qw_clamp(qw_round((x[i] + m) * inverse), 0, top);
}

/* 32 codes: low 4 bits of i and i + 16 in a byte; fifth bits where high is not NULL. */
static void qw_nibbles(uint8_t *low, uint8_t *high, const uint8_t *q)
{
    for (uint32_t i = 0; i < 16; i++)
        low[i] = (uint8_t)((q[i] & 15u) | (q[i + 16] & 15u) << 4);
    if (high == NULL)
        return;
    memset(high, 0, 4);
    for (uint32_t i = 0; i < 32; i++)
        high[i / 8] = (uint8_t)(high[i / 8] | (q[i] >> 4) << i % 8);
}

void mk_encode_q4_0(uint8_t *out, const float *x, const float *w)
{
    uint8_t q[32];
    const float d = qw_store_f16(out, qw_fit(x, w, 32, -8, 7, 4));

    qw_symmetric_codes(q, x, 32, d, -8, 7);
    qw_nibbles(out + 2, NULL, q);
}

void mk_encode_q4_1(uint8_t *out, const float *x, const float *w)
{
    uint8_t q[32];
    float d, m;

    qw_fit_affine(&d, &m, x, w, 32, 15, 1, 4);
    d = qw_store_f16(out, d);
    m = -qw_store_f16(out + 2, -m);
    qw_affine_codes(q, x, 32, d, m, 15);
    qw_nibbles(out + 4, NULL, q);
}

void mk_encode_q5_0(uint8_t *out, const float *x, const float *w)
{
    uint8_t q[32];
    const float d = qw_store_f16(out, qw_fit(x, w, 32, -16, 15, 4));

    qw_symmetric_codes(q, x, 32, d, -16, 15);
    qw_nibbles(out + 6, out + 2, q);
}

void mk_encode_q5_1(uint8_t *out, const float *x, const float *w)
{
    uint8_t q[32];
    float d, m;

    qw_fit_affine(&d, &m, x, w, 32, 31, 1, 4);
    d = qw_store_f16(out, d);
    m = -qw_store_f16(out + 2, -m);
    qw_affine_codes(q, x, 32, d, m, 31);
    qw_nibbles(out + 8, out + 4, q);
}

/* The plain rule: the largest weight becomes 127.  A search gains nothing at 8 bits.  Written
 * so that compilers make vectors of it: models are opened by it too. */
void mk_encode_q8_0(uint8_t *out, const float *x, const float *w)
{
    int32_t bits[32], largest = 0;
    float top, inverse;

    (void)w;
    memcpy(bits, x, sizeof(bits));
    for (uint32_t i = 0; i < 32; i++) {
        const int32_t size = bits[i] & 0x7fffffff;      /* of |x|, in the order of floats */
        largest = size > largest ? size : largest;
    }
    memcpy(&top, &largest, sizeof(top));
    inverse = qw_inverse(qw_store_f16(out, top / 127.0f));
    for (uint32_t i = 0; i < 32; i++) {
        const int q = qw_round(x[i] * inverse);
        out[2 + i] = (uint8_t)(q > 127 ? 127 : q < -127 ? -127 : q);
    }
}

/* ---- Blocks of 256: scales of sub-blocks in units of a common one ---------------------- */

/* A block under work: n_sub parts of len weights, x ~ d scale (q - 0) - dmin min, or
 * x ~ d scale q where symmetric. */
struct qw_block {
    const float *x, *w;
    uint32_t n_sub, len;
    int low, high;              /* of the codes */
    int scale_low, scale_high;  /* of the scales; minima from 0 to scale_high */
    float d, dmin;
    int scale[16], min[16];
    uint8_t q[256];             /* less low */
};

/* The best codes of every part for the scales as they stand. */
static void qw_block_codes(struct qw_block *b)
{
    for (uint32_t s = 0; s < b->n_sub; s++) {
        const uint32_t at = s * b->len;
        const float d = b->d * (float)b->scale[s];
        if (b->low == 0)
            qw_affine_codes(b->q + at, b->x + at, b->len, d, b->dmin * (float)b->min[s], b->high);
        else
            qw_symmetric_codes(b->q + at, b->x + at, b->len, d, b->low, b->high);
    }
}

/* d and dmin of the least error for the codes as they stand, into in[0] and in[1]. */
static void qw_block_solve(const struct qw_block *b, float *d, float *dmin)
{
    float aa = 0.0f, ab = 0.0f, bb = 0.0f, ax = 0.0f, bx = 0.0f;

    for (uint32_t i = 0; i < 256; i++) {
        const uint32_t s = i / b->len;
        const float u = (float)b->scale[s] * (float)(b->q[i] + b->low);
        const float v = b->low == 0 ? -(float)b->min[s] : 0.0f;
        aa += b->w[i] * u * u;
        ab += b->w[i] * u * v;
        bb += b->w[i] * v * v;
        ax += b->w[i] * u * b->x[i];
        bx += b->w[i] * v * b->x[i];
    }
    const float det = aa * bb - ab * ab;
    if (bb > 0.0f && det > 1e-6f * aa * bb) {
        const float new_d = (ax * bb - bx * ab) / det, new_min = (aa * bx - ab * ax) / det;
        if (new_d > 0.0f && new_min >= 0.0f) {
            *d = new_d;
            *dmin = new_min;
            return;
        }
    }
    if (aa > 0.0f) {
        const float new_d = (ax - ab * *dmin) / aa;
        if (b->low < 0 || new_d > 0.0f)
            *d = new_d;
    }
}

static float qw_symmetric_error(const float *x, const float *w, uint32_t n, int low, int high,
                                float d)
{
    const float inverse = qw_inverse(d);
    float error = 0.0f;

    for (uint32_t i = 0; i < n; i++) {
        const float e = d * (float)qw_clamp(qw_round(x[i] * inverse), low, high) - x[i];
        error += w[i] * e * e;
    }
    return error;
}

/* Step each part's scale and minimum to the neighbour with the least error. */
static float qw_block_neighbours(struct qw_block *b)
{
    float total = 0.0f;

    for (uint32_t s = 0; s < b->n_sub; s++) {
        const float *x = b->x + s * b->len, *w = b->w + s * b->len;
        const int scale = b->scale[s], min = b->min[s];
        float best = -1.0f;
        for (int i = -1; i <= 1; i++) {
            for (int j = b->low == 0 ? -1 : 0; j <= (b->low == 0); j++) {
                const int sc = scale + i, m = min + j;
                if (sc < b->scale_low || sc > b->scale_high || m < 0 || m > b->scale_high)
                    continue;
                const float error = b->low == 0
                    ? qw_affine_error(x, w, b->len, b->high, b->d * (float)sc, b->dmin * (float)m)
                    : qw_symmetric_error(x, w, b->len, b->low, b->high, b->d * (float)sc);
                if (best < 0.0f || error < best) {
                    best = error;
                    b->scale[s] = sc;
                    b->min[s] = m;
                }
            }
        }
        total += best;
    }
    return total;
}

/* Find scales: of each part alone, then in units of d and dmin, which are stored in half
 * precision at at_d and at_min (NULL without minima), then improved together. */
static void qw_block_fit(struct qw_block *b, uint8_t *at_d, uint8_t *at_min, int steps)
{
    float ds[16], ms[16], top = 0.0f, top_min = 0.0f;

    for (uint32_t s = 0; s < b->n_sub; s++) {
        const float *x = b->x + s * b->len, *w = b->w + s * b->len;
        ms[s] = 0.0f;
        if (b->low == 0)
            qw_fit_affine(&ds[s], &ms[s], x, w, b->len, b->high, 0, steps);
        else
            ds[s] = qw_fit(x, w, b->len, b->low, b->high, steps);
        if ((ds[s] < 0.0f ? -ds[s] : ds[s]) > (top < 0.0f ? -top : top))
            top = ds[s];
        top_min = ms[s] > top_min ? ms[s] : top_min;
    }
    b->d = mk_f16_to_f32(mk_f32_to_f16(b->low == 0 ? top / (float)b->scale_high
                                                   : top / (float)b->scale_low));
    b->dmin = mk_f16_to_f32(mk_f32_to_f16(top_min / (float)b->scale_high));
    for (uint32_t s = 0; s < b->n_sub; s++) {
        b->scale[s] = qw_clamp(qw_round(ds[s] * qw_inverse(b->d)), b->scale_low, b->scale_high);
        b->min[s] = qw_clamp(qw_round(ms[s] * qw_inverse(b->dmin)), 0, b->scale_high);
    }
    float error = qw_block_neighbours(b);
    for (int round = 0; round < 2; round++) {
        struct qw_block next = *b;
        qw_block_codes(&next);
        qw_block_solve(&next, &next.d, &next.dmin);
        next.d = mk_f16_to_f32(mk_f32_to_f16(next.d));
        next.dmin = mk_f16_to_f32(mk_f32_to_f16(next.dmin));
        const float next_error = qw_block_neighbours(&next);
        if (!(next_error < error))
            break;
        error = next_error;
        *b = next;
    }
    qw_block_codes(b);
    qw_store_f16(at_d, b->d);
    if (at_min != NULL)
        qw_store_f16(at_min, b->dmin);
}

/* 2-bit fields as Q2_K and Q3_K lay them out. */
static void qw_two_bits(uint8_t *out, const uint8_t *q)
{
    memset(out, 0, 64);
    for (uint32_t i = 0; i < 256; i++) {
        uint8_t *p = &out[i / 128 * 32 + i % 32];
        *p = (uint8_t)(*p | (q[i] & 3u) << (i / 32 % 4 * 2));
    }
}

void mk_encode_q2_k(uint8_t *out, const float *x, const float *w)
{
    struct qw_block b = {.x = x, .w = w, .n_sub = 16, .len = 16, .high = 3, .scale_high = 15};

    qw_block_fit(&b, out + 80, out + 82, 4);
    for (uint32_t s = 0; s < 16; s++)
        out[s] = (uint8_t)(b.scale[s] | b.min[s] << 4);
    qw_two_bits(out + 16, b.q);
}

void mk_encode_q3_k(uint8_t *out, const float *x, const float *w)
{
    struct qw_block b = {.x = x, .w = w, .n_sub = 16, .len = 16, .low = -4, .high = 3,
                         .scale_low = -32, .scale_high = 31};

    qw_block_fit(&b, out + 108, NULL, 4);
    memset(out, 0, 32);
    for (uint32_t i = 0; i < 256; i++)
        out[i % 32] = (uint8_t)(out[i % 32] | (b.q[i] >> 2) << i / 32);
    qw_two_bits(out + 32, b.q);
    memset(out + 96, 0, 12);
    for (uint32_t s = 0; s < 16; s++) {
        const uint32_t v = (uint32_t)(b.scale[s] + 32);
        uint8_t *low = out + 96 + s % 8, *high = out + 104 + s % 4;
        *low = (uint8_t)(*low | (v & 15u) << (s / 8 * 4));
        *high = (uint8_t)(*high | (v >> 4) << (s / 4 * 2));
    }
}

/* 8 scales and minima of 6 bits in 12 bytes; see mk_k4_scale. */
static void qw_k4_scales(uint8_t *out, const struct qw_block *b)
{
    for (uint32_t j = 0; j < 4; j++) {
        const uint32_t s = (uint32_t)b->scale[j], m = (uint32_t)b->min[j];
        const uint32_t s4 = (uint32_t)b->scale[j + 4], m4 = (uint32_t)b->min[j + 4];
        out[j] = (uint8_t)(s | (s4 >> 4) << 6);
        out[j + 4] = (uint8_t)(m | (m4 >> 4) << 6);
        out[j + 8] = (uint8_t)((s4 & 15u) | (m4 & 15u) << 4);
    }
}

/* Low 4 bits of the codes: 32 of one part beside 32 of the next. */
static void qw_k4_codes(uint8_t *out, const uint8_t *q)
{
    for (uint32_t i = 0; i < 128; i++) {
        const uint8_t *pair = q + i / 32 * 64 + i % 32;
        out[i] = (uint8_t)((pair[0] & 15u) | (pair[32] & 15u) << 4);
    }
}

void mk_encode_q4_k(uint8_t *out, const float *x, const float *w)
{
    struct qw_block b = {.x = x, .w = w, .n_sub = 8, .len = 32, .high = 15, .scale_high = 63};

    qw_block_fit(&b, out, out + 2, 4);
    qw_k4_scales(out + 4, &b);
    qw_k4_codes(out + 16, b.q);
}

void mk_encode_q5_k(uint8_t *out, const float *x, const float *w)
{
    struct qw_block b = {.x = x, .w = w, .n_sub = 8, .len = 32, .high = 31, .scale_high = 63};

    qw_block_fit(&b, out, out + 2, 4);
    qw_k4_scales(out + 4, &b);
    memset(out + 16, 0, 32);
    for (uint32_t i = 0; i < 256; i++)
        out[16 + i % 32] = (uint8_t)(out[16 + i % 32] | (b.q[i] >> 4) << i / 32);
    qw_k4_codes(out + 48, b.q);
}

void mk_encode_q6_k(uint8_t *out, const float *x, const float *w)
{
    struct qw_block b = {.x = x, .w = w, .n_sub = 16, .len = 16, .low = -32, .high = 31,
                         .scale_low = -128, .scale_high = 127};

    qw_block_fit(&b, out + 208, NULL, 4);
    memset(out, 0, 192);
    for (uint32_t i = 0; i < 256; i++) {
        uint8_t *low = out + i / 128 * 64 + i % 64, *high = out + 128 + i / 128 * 32 + i % 32;
        *low = (uint8_t)(*low | (b.q[i] & 15u) << (i / 64 % 2 * 4));
        *high = (uint8_t)(*high | (b.q[i] >> 4) << (i / 32 % 4 * 2));
    }
    for (uint32_t s = 0; s < 16; s++)
        out[192 + s] = (uint8_t)b.scale[s];
}

/* ---- The IQ4 types: codes name values of a table ---------------------------------------- */

/* The code whose value is nearest to v. */
static uint8_t qw_iq4_code(float v)
{
    uint32_t code = 0;

    /* By halves: above the middle of two neighbours it is the upper or beyond. */
    for (uint32_t step = 8; step > 0; step /= 2)
        code += 2.0f * v > (float)(mk_iq4_values[code + step - 1] + mk_iq4_values[code + step])
              ? step : 0;
    return (uint8_t)code;
}

static float qw_iq4_error(const float *x, const float *w, float d)
{
    const float inverse = qw_inverse(d);
    float error = 0.0f;

    for (uint32_t i = 0; i < 32; i++) {
        const float e = d * (float)mk_iq4_values[qw_iq4_code(x[i] * inverse)] - x[i];
        error += w[i] * e * e;
    }
    return error;
}

/* The scale of the least error for 32 weights, as qw_fit. */
static float qw_iq4_fit(const float *x, const float *w)
{
    float largest = 0.0f, best_d = 0.0f, best = 0.0f;

    for (uint32_t i = 0; i < 32; i++)
        if (x[i] > largest || -x[i] > largest)
            largest = x[i] < 0.0f ? -x[i] : x[i];
    if (largest < QW_LARGEST)
        return 0.0f;
    for (int side = 0; side < 2; side++) {
        for (int k = -4; k <= 4; k++) {
            const float inverse = (127.0f + 6.0f * (float)k) / (side ? largest : -largest);
            float xq = 0.0f, qq = 0.0f;
            for (uint32_t i = 0; i < 32; i++) {
                const float q = (float)mk_iq4_values[qw_iq4_code(x[i] * inverse)];
                xq += w[i] * x[i] * q;
                qq += w[i] * q * q;
            }
            if (qq > 0.0f && xq * xq > best * qq) {
                best = xq * xq / qq;
                best_d = xq / qq;
            }
        }
    }
    return best_d;
}

static void qw_iq4_codes(uint8_t *out, const float *x, float d)
{
    const float inverse = qw_inverse(d);

    for (uint32_t i = 0; i < 16; i++)
        out[i] = (uint8_t)(qw_iq4_code(x[i] * inverse)
                           | qw_iq4_code(x[i + 16] * inverse) << 4);
}

void mk_encode_iq4_nl(uint8_t *out, const float *x, const float *w)
{
    qw_iq4_codes(out + 2, x, qw_store_f16(out, qw_iq4_fit(x, w)));
}

/* Quantized scales of the 8 parts, each the best of its neighbours; the error. */
static float qw_iq4_scales(int *scale, const float *ds, const float *x, const float *w, float d)
{
    float total = 0.0f;

    for (uint32_t b = 0; b < 8; b++) {
        const int at = qw_round(ds[b] * qw_inverse(d));
        float best = -1.0f;
        for (int s = at - 1; s <= at + 1; s++) {
            const int v = qw_clamp(s, -32, 31);
            const float error = qw_iq4_error(x + 32 * b, w + 32 * b, d * (float)v);
            if (best < 0.0f || error < best) {
                best = error;
                scale[b] = v;
            }
        }
        total += best;
    }
    return total;
}

void mk_encode_iq4_xs(uint8_t *out, const float *x, const float *w)
{
    float ds[8], d = 0.0f, best = -1.0f, top = 0.0f;
    int scale[8] = {0};
    uint32_t high = 0;

    for (uint32_t b = 0; b < 8; b++) {
        ds[b] = qw_iq4_fit(x + 32 * b, w + 32 * b);
        if ((ds[b] < 0.0f ? -ds[b] : ds[b]) > (top < 0.0f ? -top : top))
            top = ds[b];
    }
    for (int k = 0; k < 4; k++) {
        const float try_d = mk_f16_to_f32(mk_f32_to_f16(top / (-32.0f + (float)k)));
        int try_scale[8];
        const float error = qw_iq4_scales(try_scale, ds, x, w, try_d);
        if (best < 0.0f || error < best) {
            best = error;
            d = try_d;
            memcpy(scale, try_scale, sizeof(scale));
        }
    }
    qw_store_f16(out, d);
    memset(out + 4, 0, 4);
    for (uint32_t b = 0; b < 8; b++) {
        const uint32_t s = (uint32_t)(scale[b] + 32);
        high |= (s >> 4) << 2 * b;
        out[4 + b / 2] = (uint8_t)(out[4 + b / 2] | (s & 15u) << (b % 2 * 4));
        qw_iq4_codes(out + 8 + 16 * b, x + 32 * b, d * (float)scale[b]);
    }
    mk_store16(out + 2, high);
}
