/* Constants and scalar functions that all levels of kernels share. */
#ifndef MK_KERNELS_MATH_H
#define MK_KERNELS_MATH_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

/* A block of activations below this rounds to zeros; above, no product is denormal. */
#define MK_ACT_TINY 1e-25f

/* exp(x) = 2^n exp(r), n = x / ln 2 to nearest, |r| <= ln 2 / 2.  ln 2 in two parts, the first
 * short enough that n times it is exact; the polynomial is the minimax one of degree 5 for
 * (exp(r) - 1 - r) / r^2 (coefficients of Cephes' expf). */
#define MK_EXP_MIN (-87.0f)
#define MK_EXP_MAX 88.0f
#define MK_EXP_LOG2E 1.44269504088896341f
#define MK_EXP_LN2_HIGH 0.693359375f
#define MK_EXP_LN2_LOW (-2.12194440e-4f)
#define MK_EXP_P0 1.9875691500e-4f
#define MK_EXP_P1 1.3981999507e-3f
#define MK_EXP_P2 8.3334519073e-3f
#define MK_EXP_P3 4.1665795894e-2f
#define MK_EXP_P4 1.6666665459e-1f
#define MK_EXP_P5 5.0000001201e-1f

/* exp for x in [-87, 88]; 0 below, exp(88) above; NaN stays NaN. */
static inline float mk_exp(float x)
{
    if (x < MK_EXP_MIN)
        return 0.0f;
    if (x > MK_EXP_MAX)
        x = MK_EXP_MAX;
    const float n = (x * MK_EXP_LOG2E + 12582912.0f) - 12582912.0f;
    const float r = (x - n * MK_EXP_LN2_HIGH) - n * MK_EXP_LN2_LOW;
    float p = MK_EXP_P0;

    p = p * r + MK_EXP_P1;
    p = p * r + MK_EXP_P2;
    p = p * r + MK_EXP_P3;
    p = p * r + MK_EXP_P4;
    p = p * r + MK_EXP_P5;
    p = p * r * r + r + 1.0f;

    /* n is in [-126, 127] here, NaN aside: build 2^n from its exponent. */
    const uint32_t bits = (uint32_t)(int32_t)(n == n ? n + 127.0f : 0.0f) << 23;
    float two_n;

    memcpy(&two_n, &bits, sizeof(two_n));
    return n == n ? p * two_n : n;
}

/* What a 16-bit step is worth in a row of this sum of squares and largest magnitude. */
#define MK_ROUND16_NORM 46000.0f
#define MK_ROUND16_MAX 32767.0f
#define MK_ROUND16_TINY 1e-30f     /* sums of squares, or of weights, that are taken for 0 */
#define MK_ROUND16_SUM 65000.0f

static inline float mk_round16_step(float squares, float max)
{
    const float by_norm = sqrtf(squares) / MK_ROUND16_NORM, by_max = max / MK_ROUND16_MAX;

    if (squares <= MK_ROUND16_TINY)
        return 0.0f;
    if (!(squares <= FLT_MAX))
        return NAN;
    return by_norm > by_max ? by_norm : by_max;
}

/* The step of weights in 16 bits whose largest magnitude is max: of 12 bits, a power of two. */
#define MK_ROUND16_LEAST 0x1p-60f   /* times any step of activations it is no denormal number */

static inline float mk_round16_power(float max)
{
    uint32_t bits;
    float power;

    if (!(max <= FLT_MAX))
        return NAN;
    memcpy(&bits, &max, sizeof(bits));
    bits &= 0x7F800000u;
    memcpy(&power, &bits, sizeof(power));
    power *= 0x1p-11f;
    return power > MK_ROUND16_LEAST ? power : MK_ROUND16_LEAST;
}

/* The sixteen values of IQ4_NL and IQ4_XS, with 128 added. */
static const uint8_t mk_iq4_shifted[16] = {
    1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241
};

/* The bf16 bits of each E4M3 number without its sign, high and low bytes; the last is NaN. */
static const uint8_t mk_e4m3_high[128] = {
    0, 59, 59, 59, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60,
    61, 61, 61, 61, 61, 61, 61, 61, 61, 61, 61, 61, 61, 61, 61, 61,
    62, 62, 62, 62, 62, 62, 62, 62, 62, 62, 62, 62, 62, 62, 62, 62,
    63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63,
    64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64,
    65, 65, 65, 65, 65, 65, 65, 65, 65, 65, 65, 65, 65, 65, 65, 65,
    66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66,
    67, 67, 67, 67, 67, 67, 67, 67, 67, 67, 67, 67, 67, 67, 67, 127,
};
static const uint8_t mk_e4m3_low[128] = {
    0, 0, 128, 192, 0, 32, 64, 96, 128, 144, 160, 176, 192, 208, 224, 240,
    0, 16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240,
    0, 16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240,
    0, 16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240,
    0, 16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240,
    0, 16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240,
    0, 16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240,
    0, 16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 192,
};

/* E4M3 numbers without their sign in steps of 1/8, for a largest one of 256 and more; from
 * entry 8 or 16 on in steps of 1/16 or 1/32, for one of 128 or 64 and more, which is why the
 * code of NaN counts as a number.  Low and high bytes. */
static const uint8_t mk_e4m3_low16[144] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1,
    1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 4, 4, 4, 4, 5, 6, 6, 6, 7, 8, 8, 9, 10, 11, 12, 13,
    14, 15, 16, 18, 20, 22, 24, 26, 28, 30, 32, 36, 40, 44, 48, 52, 56, 60, 64, 72, 80, 88, 96,
    104, 112, 120, 128, 144, 160, 176, 192, 208, 224, 240, 0, 32, 64, 96, 128, 160, 192, 224, 0,
    64, 128, 192, 0, 64, 128, 192, 0, 128, 0, 128, 0, 128, 0, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
};
static const uint8_t mk_e4m3_high16[144] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13,
    14, 15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
};

#endif
