/* Scales and codes for weights that share them.  Reference: ggml's ggml-quants.c, make_qx_quants
 * and make_qkx2_quants: a few candidates, each followed by least squares.  Differs: candidates
 * for both ends of the codes; minima of either sign; types of 256 weights improve the scales of
 * all parts together (blocks_256.c). */
#ifndef MK_FIT_H
#define MK_FIT_H

#include "tensor/blocks.h"

/* n <= 32 weights x (n,), w (n,) of their squared errors: x ~ d q - m, codes q in [low, high]. */
struct mk_fit {
    const float *x, *w;
    uint32_t n;
    int low, high;
};

/* d of the least error for m = 0, and either sign. */
float mk_fit_symmetric(const struct mk_fit *f);

/* d and m of the least error for low = 0; m is at least 0 unless signed_m. */
void mk_fit_affine(float *d, float *m, const struct mk_fit *f, int signed_m);

/* The weighted squared error of the best codes for d and m, and these codes less low. */
float mk_fit_error(const struct mk_fit *f, float d, float m);
void mk_fit_codes(uint8_t *q, const struct mk_fit *f, float d, float m);

/* The largest |x[i]|, or 0 where there is next to nothing. */
float mk_fit_largest(const float *x, uint32_t n);

/* To the nearest integer, ties to even, |v| < 2^22: the sum has no bits below 1. */
static inline int mk_fit_round(float v)
{
    const float sum = v + 12582912.0f;
    int32_t bits;

    memcpy(&bits, &sum, sizeof(bits));
    return (bits & 0x7fffff) - 0x400000;
}

static inline int mk_fit_clamp(int v, int low, int high)
{
    return v < low ? low : v > high ? high : v;
}

/* 1 / d, or 0 for d so small that it is no number. */
static inline float mk_fit_inverse(float d)
{
    return d > 1e-30f || d < -1e-30f ? 1.0f / d : 0.0f;
}

/* v as half precision keeps it. */
static inline float mk_fit_half(float v)
{
    return mk_f16_to_f32(mk_f32_to_f16(v));
}

#endif
