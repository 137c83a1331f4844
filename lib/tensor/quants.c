/* Decoding the integer types.  Layouts: ggml's ggml-common.h; all fields little-endian.  A
 * product of scales and integers is exact in single precision, so that only the sum with the
 * minimum rounds. */
#include "tensor/quants.h"

/* x = d (q - 8) */
void mk_decode_q4_0(float *out, const uint8_t *in)
{
    const float d = mk_load_f16(in);

    for (uint32_t i = 0; i < 16; i++) {
        out[i] = d * (float)((in[2 + i] & 15) - 8);
        out[i + 16] = d * (float)((in[2 + i] >> 4) - 8);
    }
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

void mk_decode_q8_0(float *out, const uint8_t *in)
{
    const float d = mk_load_f16(in);

    for (uint32_t i = 0; i < 32; i++)
        out[i] = d * (float)(int8_t)in[2 + i];
}

/* Where 2-bit fields of weight i lie in Q2_K and Q3_K: byte and shift. */
static uint32_t q_two_bits(const uint8_t *q, uint32_t i)
{
    return q[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3u;
}

/* 16 x (scale, min) of 4 bits, 2-bit codes, d, dmin: x = d s q - dmin m */
void mk_decode_q2_k(float *out, const uint8_t *in)
{
    const float d = mk_load_f16(in + 80), dmin = mk_load_f16(in + 82);

    for (uint32_t i = 0; i < 256; i++) {
        const float scale = d * (float)(in[i / 16] & 15), min = dmin * (float)(in[i / 16] >> 4);
        out[i] = scale * (float)q_two_bits(in + 16, i) - min;
    }
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
            out[i] = scale * ((float)(q_two_bits(in + 32, i) | bit << 2) - 4.0f);
        }
    }
}

/* d, dmin, 8 x (scale, min) of 6 bits, 4-bit codes: x = d s q - dmin m */
void mk_decode_q4_k(float *out, const uint8_t *in)
{
    const float d = mk_load_f16(in), dmin = mk_load_f16(in + 2);

    for (uint32_t b = 0; b < 8; b++) {
        const uint8_t *q = in + 16 + b / 2 * 32;
        uint32_t s, m;
        mk_k4_scale(&s, &m, in + 4, b);
        const float scale = d * (float)s, min = dmin * (float)m;
        for (uint32_t i = 0; i < 32; i++)
            out[32 * b + i] = scale * (float)(q[i] >> (b % 2 * 4) & 15) - min;
    }
}

/* As Q4_K with the fifth bits before the codes. */
void mk_decode_q5_k(float *out, const uint8_t *in)
{
    const float d = mk_load_f16(in), dmin = mk_load_f16(in + 2);
    const uint8_t *high = in + 16;

    for (uint32_t b = 0; b < 8; b++) {
        const uint8_t *q = in + 48 + b / 2 * 32;
        uint32_t s, m;
        mk_k4_scale(&s, &m, in + 4, b);
        const float scale = d * (float)s, min = dmin * (float)m;
        for (uint32_t i = 0; i < 32; i++) {
            const uint32_t low = q[i] >> (b % 2 * 4) & 15u, bit = high[i] >> b & 1u;
            out[32 * b + i] = scale * (float)(low | bit << 4) - min;
        }
    }
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

/* Digit n < 5 of the five ternary digits in a byte, as a fraction of 256: the first of them
 * is the highest. */
static float q_trit(uint32_t byte, uint32_t n)
{
    static const uint32_t power[5] = {1, 3, 9, 27, 81};

    return (float)((byte * power[n] & 255u) * 3 >> 8) - 1.0f;
}

/* 32 bytes of 5 digits, 16 bytes of 5, 4 bytes of 4, d */
void mk_decode_tq1_0(float *out, const uint8_t *in)
{
    const float d = mk_load_f16(in + 52);

    for (uint32_t i = 0; i < 160; i++)
        out[i] = q_trit(in[i % 32], i / 32) * d;
    for (uint32_t i = 0; i < 80; i++)
        out[160 + i] = q_trit(in[32 + i % 16], i / 16) * d;
    for (uint32_t i = 0; i < 16; i++)
        out[240 + i] = q_trit(in[48 + i % 4], i / 4) * d;
}

void mk_decode_tq2_0(float *out, const uint8_t *in)
{
    const float d = mk_load_f16(in + 64);

    for (uint32_t i = 0; i < 256; i++)
        out[i] = ((float)q_two_bits(in, i) - 1.0f) * d;
}

/* Twice the values of E2M1. */
static const float q_e2m1[16] = {0.0f, 1.0f, 2.0f, 3.0f, 4.0f, 6.0f, 8.0f, 12.0f,
                                 0.0f, -1.0f, -2.0f, -3.0f, -4.0f, -6.0f, -8.0f, -12.0f};

/* A power of two (E8M0, bias 127), then E2M1 codes. */
void mk_decode_mxfp4(float *out, const uint8_t *in)
{
    /* 2^(e - 128): half of the scale, because the values are doubled. */
    const uint32_t e = in[0], bits = e < 2 ? 0x200000u << e : (e - 1) << 23;
    float d;

    memcpy(&d, &bits, sizeof(d));
    for (uint32_t i = 0; i < 16; i++) {
        out[i] = q_e2m1[in[1 + i] & 15u] * d;
        out[i + 16] = q_e2m1[in[1 + i] >> 4] * d;
    }
}

/* Four scales in E4M3 without sign, then four times 16 E2M1 codes. */
void mk_decode_nvfp4(float *out, const uint8_t *in)
{
    for (uint32_t b = 0; b < 4; b++) {
        const uint8_t *q = in + 4 + 8 * b;
        const uint8_t code = in[b] & 0x7fu;
        const float d = code == 0x7f ? 0.0f : mk_e4m3_to_f32(code) * 0.5f;
        for (uint32_t i = 0; i < 8; i++) {
            out[16 * b + i] = q_e2m1[q[i] & 15u] * d;
            out[16 * b + i + 8] = q_e2m1[q[i] >> 4] * d;
        }
    }
}
