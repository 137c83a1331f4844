/* Types of blocks of 32 weights with codes of 4, 5 or 8 bits.  Layouts: ggml's ggml-common.h.  A
 * product of scale and code is exact in single precision, so that only the sum with the minimum
 * rounds. */
#include "tensor/fit.h"

/* 32 codes: low 4 bits of i and i + 16 in a byte; fifth bits where high is not NULL. */
static void q32_store(uint8_t *low, uint8_t *high, const uint8_t *q)
{
    for (uint32_t i = 0; i < 16; i++)
        low[i] = (uint8_t)((q[i] & 15u) | (q[i + 16] & 15u) << 4);
    if (high == NULL)
        return;
    memset(high, 0, 4);
    for (uint32_t i = 0; i < 32; i++)
        high[i / 8] = (uint8_t)(high[i / 8] | (q[i] >> 4) << i % 8);
}

/* q = codes of 32 weights x ~ d q + m, d and m at out. */
static void q32_affine(uint8_t *q, uint8_t *out, const float *x, const float *w, int high)
{
    const struct mk_fit f = {x, w, 32, 0, high};
    float d, m;

    mk_fit_affine(&d, &m, &f, 1);
    d = mk_store_f16(out, d);
    m = -mk_store_f16(out + 2, -m);
    mk_fit_codes(q, &f, d, m);
}

/* q = codes less low of 32 weights x ~ d q, d at out. */
static void q32_symmetric(uint8_t *q, uint8_t *out, const float *x, const float *w, int low)
{
    const struct mk_fit f = {x, w, 32, low, -low - 1};

    mk_fit_codes(q, &f, mk_store_f16(out, mk_fit_symmetric(&f)), 0.0f);
}

/* x = d (q - 8) */
void mk_decode_q4_0(float *out, const uint8_t *in)
{
    const float d = mk_load_f16(in);

    for (uint32_t i = 0; i < 16; i++) {
        out[i] = d * (float)((in[2 + i] & 15) - 8);
        out[i + 16] = d * (float)((in[2 + i] >> 4) - 8);
    }
}

void mk_encode_q4_0(uint8_t *out, const float *x, const float *w)
{
    uint8_t q[32];

    q32_symmetric(q, out, x, w, -8);
    q32_store(out + 2, NULL, q);
}

/* x = d q + m */
void mk_decode_q4_1(float *out, const uint8_t *in)
{
    const float d = mk_load_f16(in), m = mk_load_f16(in + 2);

    for (uint32_t i = 0; i < 16; i++) {
        out[i] = d * (float)(in[4 + i] & 15) + m;
        out[i + 16] = d * (float)(in[4 + i] >> 4) + m;
    }
}

void mk_encode_q4_1(uint8_t *out, const float *x, const float *w)
{
    uint8_t q[32];

    q32_affine(q, out, x, w, 15);
    q32_store(out + 4, NULL, q);
}

/* x = d (q - 16); the fifth bits come first. */
void mk_decode_q5_0(float *out, const uint8_t *in)
{
    const float d = mk_load_f16(in);
    const uint32_t high = mk_load32(in + 2);

    for (uint32_t i = 0; i < 32; i++) {
        const uint32_t low = in[6 + i % 16] >> (i / 16 * 4) & 15u;
        out[i] = d * ((float)(low | (high >> i & 1u) << 4) - 16.0f);
    }
}

void mk_encode_q5_0(uint8_t *out, const float *x, const float *w)
{
    uint8_t q[32];

    q32_symmetric(q, out, x, w, -16);
    q32_store(out + 6, out + 2, q);
}

/* x = d q + m */
void mk_decode_q5_1(float *out, const uint8_t *in)
{
    const float d = mk_load_f16(in), m = mk_load_f16(in + 2);
    const uint32_t high = mk_load32(in + 4);

    for (uint32_t i = 0; i < 32; i++) {
        const uint32_t low = in[8 + i % 16] >> (i / 16 * 4) & 15u;
        out[i] = d * (float)(low | (high >> i & 1u) << 4) + m;
    }
}

void mk_encode_q5_1(uint8_t *out, const float *x, const float *w)
{
    uint8_t q[32];

    q32_affine(q, out, x, w, 31);
    q32_store(out + 8, out + 4, q);
}

/* x = d q */
void mk_decode_q8_0(float *out, const uint8_t *in)
{
    const float d = mk_load_f16(in);

    for (uint32_t i = 0; i < 32; i++)
        out[i] = d * (float)(int8_t)in[2 + i];
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
    inverse = mk_fit_inverse(mk_store_f16(out, top / 127.0f));
    for (uint32_t i = 0; i < 32; i++)
        out[2 + i] = (uint8_t)mk_fit_clamp(mk_fit_round(x[i] * inverse), -127, 127);
}
