/* Number formats: single numbers, and rows by way of one block at a time. */
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "tensor/quants.h"
#include "tensor/tensor.h"

static uint32_t fmt_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof(u));
    return u;
}

static float fmt_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof(f));
    return f;
}

/* v / 2^shift, 1 <= shift <= 31, to nearest, ties to even. */
static uint32_t fmt_shift_round(uint32_t v, uint32_t shift)
{
    const uint32_t half = 1u << (shift - 1), rest = v & ((half << 1) - 1);
    uint32_t q = v >> shift;

    if (rest > half || (rest == half && (q & 1)))
        q++;
    return q;
}

/* IEEE 754 binary16: 1 sign, 5 exponent (bias 15), 10 mantissa bits. */
float mk_f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16, e = (h >> 10) & 31u, m = h & 0x3ffu;

    if (e == 31)
        return fmt_float(sign | 0x7f800000u | m << 13);
    if (e == 0) {
        /* m 2^-24, exact in single precision. */
        const float f = (float)m * 0x1p-24f;
        return sign ? -f : f;
    }
    return fmt_float(sign | (e + 112) << 23 | m << 13);
}

uint16_t mk_f32_to_f16(float f)
{
    const uint32_t u = fmt_bits(f), sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
    uint32_t h;

    if (a > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | ((a >> 13) & 0x3ffu));
    if (a >= 0x47800000u)                  /* 2^16 and more */
        h = 0x7c00u;
    else if (a >= 0x38800000u)             /* 2^-14, the smallest normal: rebias 127 to 15;
                                            * a carry runs into the exponent, up to infinity */
        h = fmt_shift_round(a - (112u << 23), 13);
    else if (a >= 0x33000000u)             /* 2^-25, half of the smallest number */
        h = fmt_shift_round((a & 0x7fffffu) | 0x800000u, 126 - (a >> 23));
    else
        h = 0;
    return (uint16_t)(sign | h);
}

float mk_bf16_to_f32(uint16_t h)
{
    return fmt_float((uint32_t)h << 16);
}

uint16_t mk_f32_to_bf16(float f)
{
    const uint32_t u = fmt_bits(f);

    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 0x40u);    /* stays a NaN */
    return (uint16_t)fmt_shift_round(u, 16);
}

/* E4M3 of "FP8 Formats for Deep Learning" (arXiv 2209.05433): 1 sign, 4 exponent (bias 7),
 * 3 mantissa bits; all ones is NaN, there is no infinity. */
float mk_e4m3_to_f32(uint8_t c)
{
    const uint32_t sign = (uint32_t)(c & 0x80u) << 24, e = (c >> 3) & 15u, m = c & 7u;

    if ((c & 0x7fu) == 0x7fu)
        return fmt_float(sign | 0x7fc00000u);
    if (e == 0) {
        const float f = (float)m * 0x1p-9f;
        return sign ? -f : f;
    }
    return fmt_float(sign | (e + 120) << 23 | m << 20);
}

uint8_t mk_f32_to_e4m3(float f)
{
    const uint32_t u = fmt_bits(f), sign = (u >> 24) & 0x80u, a = u & 0x7fffffffu;
    uint32_t c;

    if (a > 0x7f800000u)
        return (uint8_t)(sign | 0x7fu);
    if (a >= 0x43e00000u)                  /* 448, the largest: saturate */
        c = 0x7e;
    else if (a >= 0x3c800000u)             /* 2^-6, the smallest normal: rebias 127 to 7 */
        c = fmt_shift_round(a - (120u << 23), 20);
    else if (a >= 0x3a800000u)             /* 2^-10, half of the smallest number */
        c = fmt_shift_round((a & 0x7fffffu) | 0x800000u, 141 - (a >> 23));
    else
        c = 0;
    return (uint8_t)(sign | c);
}

static const struct mk_type_info fmt_types[MK_N_TYPES] = {
    [MK_F32] = {"F32", 1, 4},           [MK_F16] = {"F16", 1, 2},
    [MK_BF16] = {"BF16", 1, 2},         [MK_F8_E4M3] = {"F8_E4M3", 1, 1},
    [MK_Q4_0] = {"Q4_0", 32, 18},       [MK_Q4_1] = {"Q4_1", 32, 20},
    [MK_Q5_0] = {"Q5_0", 32, 22},       [MK_Q5_1] = {"Q5_1", 32, 24},
    [MK_Q8_0] = {"Q8_0", 32, 34},       [MK_Q2_K] = {"Q2_K", 256, 84},
    [MK_Q3_K] = {"Q3_K", 256, 110},     [MK_Q4_K] = {"Q4_K", 256, 144},
    [MK_Q5_K] = {"Q5_K", 256, 176},     [MK_Q6_K] = {"Q6_K", 256, 210},
    [MK_IQ2_XXS] = {"IQ2_XXS", 256, 66}, [MK_IQ2_XS] = {"IQ2_XS", 256, 74},
    [MK_IQ3_XXS] = {"IQ3_XXS", 256, 98}, [MK_IQ1_S] = {"IQ1_S", 256, 50},
    [MK_IQ4_NL] = {"IQ4_NL", 32, 18},   [MK_IQ3_S] = {"IQ3_S", 256, 110},
    [MK_IQ2_S] = {"IQ2_S", 256, 82},    [MK_IQ4_XS] = {"IQ4_XS", 256, 136},
    [MK_IQ1_M] = {"IQ1_M", 256, 56},    [MK_TQ1_0] = {"TQ1_0", 256, 54},
    [MK_TQ2_0] = {"TQ2_0", 256, 66},    [MK_MXFP4] = {"MXFP4", 32, 17},
    [MK_NVFP4] = {"NVFP4", 64, 36},
};

static mk_decode_block_fn *const fmt_decoders[MK_N_TYPES] = {
    [MK_Q4_0] = mk_decode_q4_0, [MK_Q4_1] = mk_decode_q4_1, [MK_Q5_0] = mk_decode_q5_0,
    [MK_Q5_1] = mk_decode_q5_1, [MK_Q8_0] = mk_decode_q8_0, [MK_Q2_K] = mk_decode_q2_k,
    [MK_Q3_K] = mk_decode_q3_k, [MK_Q4_K] = mk_decode_q4_k, [MK_Q5_K] = mk_decode_q5_k,
    [MK_Q6_K] = mk_decode_q6_k, [MK_IQ2_XXS] = mk_decode_iq2_xxs,
    [MK_IQ2_XS] = mk_decode_iq2_xs, [MK_IQ3_XXS] = mk_decode_iq3_xxs,
    [MK_IQ1_S] = mk_decode_iq1_s, [MK_IQ4_NL] = mk_decode_iq4_nl,
    [MK_IQ3_S] = mk_decode_iq3_s, [MK_IQ2_S] = mk_decode_iq2_s,
    [MK_IQ4_XS] = mk_decode_iq4_xs, [MK_IQ1_M] = mk_decode_iq1_m,
    [MK_TQ1_0] = mk_decode_tq1_0, [MK_TQ2_0] = mk_decode_tq2_0, [MK_MXFP4] = mk_decode_mxfp4,
    [MK_NVFP4] = mk_decode_nvfp4,
};

static mk_encode_block_fn *const fmt_encoders[MK_N_TYPES] = {
    [MK_Q4_0] = mk_encode_q4_0, [MK_Q4_1] = mk_encode_q4_1, [MK_Q5_0] = mk_encode_q5_0,
    [MK_Q5_1] = mk_encode_q5_1, [MK_Q8_0] = mk_encode_q8_0, [MK_Q2_K] = mk_encode_q2_k,
    [MK_Q3_K] = mk_encode_q3_k, [MK_Q4_K] = mk_encode_q4_k, [MK_Q5_K] = mk_encode_q5_k,
    [MK_Q6_K] = mk_encode_q6_k, [MK_IQ4_NL] = mk_encode_iq4_nl,
    [MK_IQ4_XS] = mk_encode_iq4_xs,
};

const struct mk_type_info *mk_type_info(enum mk_type type)
{
    return &fmt_types[type];
}

size_t mk_type_row_bytes(enum mk_type type, size_t n)
{
    const struct mk_type_info *info = &fmt_types[type];
    size_t bytes;

    if (n % info->block_len != 0 || mk_mul(&bytes, n / info->block_len, info->block_bytes))
        return 0;
    return bytes;
}

static void fmt_decode_number(float *out, const uint8_t *in, size_t n, enum mk_type type)
{
    uint16_t h;

    switch (type) {
    case MK_F32:
        memcpy(out, in, n * sizeof(*out));
        break;
    case MK_F16:
        for (size_t i = 0; i < n; i++) {
            memcpy(&h, in + 2 * i, 2);
            out[i] = mk_f16_to_f32(h);
        }
        break;
    case MK_BF16:
        for (size_t i = 0; i < n; i++) {
            memcpy(&h, in + 2 * i, 2);
            out[i] = mk_bf16_to_f32(h);
        }
        break;
    default:
        for (size_t i = 0; i < n; i++)
            out[i] = mk_e4m3_to_f32(in[i]);
    }
}

void mk_decode(float *out, const void *in, size_t n, enum mk_type type)
{
    const struct mk_type_info *info = &fmt_types[type];
    mk_decode_block_fn *decode = fmt_decoders[type];
    const uint8_t *block = in;

    if (decode == NULL) {
        fmt_decode_number(out, in, n, type);
        return;
    }
    for (size_t i = 0; i < n; i += info->block_len, block += info->block_bytes)
        decode(out + i, block);
}

static void fmt_encode_number(uint8_t *out, const float *in, size_t n, enum mk_type type)
{
    uint16_t h;

    switch (type) {
    case MK_F32:
        memcpy(out, in, n * sizeof(*in));
        break;
    case MK_F16:
        for (size_t i = 0; i < n; i++) {
            h = mk_f32_to_f16(in[i]);
            memcpy(out + 2 * i, &h, 2);
        }
        break;
    case MK_BF16:
        for (size_t i = 0; i < n; i++) {
            h = mk_f32_to_bf16(in[i]);
            memcpy(out + 2 * i, &h, 2);
        }
        break;
    default:
        for (size_t i = 0; i < n; i++)
            out[i] = mk_f32_to_e4m3(in[i]);
    }
}

/* The weights of a block's squared errors: importance where given, with a little for columns
 * that had none; else 1. */
static void fmt_error_weights(float *weight, const float *importance, size_t n)
{
    float sum = 0.0f;

    for (size_t i = 0; importance != NULL && i < n; i++)
        sum += importance[i] > 0.0f && importance[i] < 1e30f ? importance[i] : 0.0f;
    for (size_t i = 0; i < n; i++) {
        const int usable = sum > 0.0f && importance[i] > 0.0f && importance[i] < 1e30f;
        weight[i] = sum > 0.0f ? (usable ? importance[i] : 0.0f) * (float)n / sum + 1e-3f : 1.0f;
    }
}

int32_t mk_encode(void *out, const float *in, size_t n, enum mk_type type,
                  const float *importance)
{
    const struct mk_type_info *info = &fmt_types[type];
    mk_encode_block_fn *encode = fmt_encoders[type];
    uint8_t *block = out;
    float weight[256], x[256];

    if (info->block_len == 1) {
        fmt_encode_number(out, in, n, type);
        return MINKE_OK;
    }
    if (encode == NULL)
        return mk_fail(MINKE_EUNSUPPORTED, "type %s can be read but not written", info->name);
    for (size_t i = 0; i < n; i += info->block_len, block += info->block_bytes) {
        for (uint32_t j = 0; j < info->block_len; j++) {
            if (!(in[i + j] >= -65504.0f && in[i + j] <= 65504.0f))
                return mk_fail(MINKE_EFORMAT, "weight %zu: %g does not fit into %s", i + j,
                               (double)in[i + j], info->name);
            x[j] = in[i + j];
        }
        fmt_error_weights(weight, importance == NULL ? NULL : importance + i, info->block_len);
        encode(block, x, weight);
    }
    return MINKE_OK;
}
