/* Types of single numbers: IEEE 754 binary32 and binary16, bfloat16 (the upper half of binary32),
 * and E4M3 of "FP8 Formats for Deep Learning" (arXiv 2209.05433).  All round to nearest, ties to
 * even. */
#include <string.h>

#include "tensor/blocks.h"

static uint32_t num_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof(u));
    return u;
}

static float num_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof(f));
    return f;
}

/* v / 2^shift, 1 <= shift <= 31, to nearest, ties to even. */
static uint32_t num_shift_round(uint32_t v, uint32_t shift)
{
    const uint32_t half = 1u << (shift - 1), rest = v & ((half << 1) - 1);
    uint32_t q = v >> shift;

    if (rest > half || (rest == half && (q & 1)))
        q++;
    return q;
}

/* 1 sign, 5 exponent (bias 15), 10 mantissa bits. */
float mk_f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16, e = (h >> 10) & 31u, m = h & 0x3ffu;

    if (e == 31)
        return num_float(sign | 0x7f800000u | m << 13);
    if (e == 0) {
        /* m 2^-24, exact in single precision. */
        const float f = (float)m * 0x1p-24f;
        return sign ? -f : f;
    }
    return num_float(sign | (e + 112) << 23 | m << 13);
}

uint16_t mk_f32_to_f16(float f)
{
    const uint32_t u = num_bits(f), sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
    uint32_t h;

    if (a > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | ((a >> 13) & 0x3ffu));
    if (a >= 0x47800000u)                  /* 2^16 and more */
        h = 0x7c00u;
    else if (a >= 0x38800000u)             /* 2^-14, the smallest normal: rebias 127 to 15;
                                            * a carry runs into the exponent, up to infinity */
        h = num_shift_round(a - (112u << 23), 13);
    else if (a >= 0x33000000u)             /* 2^-25, half of the smallest number */
        h = num_shift_round((a & 0x7fffffu) | 0x800000u, 126 - (a >> 23));
    else
        h = 0;
    return (uint16_t)(sign | h);
}

float mk_bf16_to_f32(uint16_t h)
{
    return num_float((uint32_t)h << 16);
}

uint16_t mk_f32_to_bf16(float f)
{
    const uint32_t u = num_bits(f);

    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 0x40u);    /* stays a NaN */
    return (uint16_t)num_shift_round(u, 16);
}

/* 1 sign, 4 exponent (bias 7), 3 mantissa bits; all ones is NaN, there is no infinity. */
float mk_e4m3_to_f32(uint8_t c)
{
    const uint32_t sign = (uint32_t)(c & 0x80u) << 24, e = (c >> 3) & 15u, m = c & 7u;

    if ((c & 0x7fu) == 0x7fu)
        return num_float(sign | 0x7fc00000u);
    if (e == 0) {
        const float f = (float)m * 0x1p-9f;
        return sign ? -f : f;
    }
    return num_float(sign | (e + 120) << 23 | m << 20);
}

uint8_t mk_f32_to_e4m3(float f)
{
    const uint32_t u = num_bits(f), sign = (u >> 24) & 0x80u, a = u & 0x7fffffffu;
    uint32_t c;

    if (a > 0x7f800000u)
        return (uint8_t)(sign | 0x7fu);
    if (a >= 0x43e00000u)                  /* 448, the largest: saturate */
        c = 0x7e;
    else if (a >= 0x3c800000u)             /* 2^-6, the smallest normal: rebias 127 to 7 */
        c = num_shift_round(a - (120u << 23), 20);
    else if (a >= 0x3a800000u)             /* 2^-10, half of the smallest number */
        c = num_shift_round((a & 0x7fffffu) | 0x800000u, 141 - (a >> 23));
    else
        c = 0;
    return (uint8_t)(sign | c);
}

void mk_decode_f32(float *out, const uint8_t *in, size_t n)
{
    memcpy(out, in, n * sizeof(*out));
}

void mk_encode_f32(uint8_t *out, const float *x, size_t n)
{
    memcpy(out, x, n * sizeof(*x));
}

void mk_decode_f16(float *out, const uint8_t *in, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = mk_load_f16(in + 2 * i);
}

void mk_encode_f16(uint8_t *out, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        mk_store16(out + 2 * i, mk_f32_to_f16(x[i]));
}

void mk_decode_bf16(float *out, const uint8_t *in, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = mk_bf16_to_f32((uint16_t)mk_load16(in + 2 * i));
}

void mk_encode_bf16(uint8_t *out, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        mk_store16(out + 2 * i, mk_f32_to_bf16(x[i]));
}

void mk_decode_e4m3(float *out, const uint8_t *in, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = mk_e4m3_to_f32(in[i]);
}

void mk_encode_e4m3(uint8_t *out, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = mk_f32_to_e4m3(x[i]);
}
