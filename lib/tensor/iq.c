/* Types whose codes name words of a codebook, IQ1 to IQ3.  Layouts: ggml's ggml-common.h.  Every
 * product of scale and integers is exact in single precision. */
#include "tensor/blocks.h"
#include "tensor/iq_tables.h"

static const float iq_levels2[4] = {8.0f, 25.0f, 43.0f, 0.0f};
static const float iq_levels3[8] = {4.0f, 12.0f, 20.0f, 28.0f, 36.0f, 44.0f, 52.0f, 62.0f};

/* Seven signs are stored; the eighth makes their number even. */
static uint32_t iq_signs(uint32_t seven)
{
    uint32_t parity = seven ^ seven >> 4;

    parity ^= parity >> 2;
    parity ^= parity >> 1;
    return seven | (parity & 1u) << 7;
}

/* out[i] = scale level[i], negative where bit i of signs is set. */
static void iq_word8(float *out, float scale, uint32_t word, uint32_t signs)
{
    for (uint32_t i = 0; i < 8; i++) {
        const float v = scale * iq_levels2[(word >> 2 * i) & 3u];
        out[i] = (signs >> i) & 1u ? -v : v;
    }
}

/* d, then per 32 weights: 4 bytes of codewords, 4 x 7 signs and a 4-bit scale. */
void mk_decode_iq2_xxs(float *out, const uint8_t *in)
{
    const float d = mk_load_f16(in);

    for (uint32_t b = 0; b < 8; b++) {
        const uint8_t *q = in + 2 + 8 * b;
        const uint32_t signs = mk_load32(q + 4);
        const float scale = d * (0.5f + (float)(signs >> 28)) * 0.25f;
        for (uint32_t i = 0; i < 4; i++)
            iq_word8(out + 32 * b + 8 * i, scale, iq_grid2_xxs[q[i]],
                     iq_signs((signs >> 7 * i) & 127u));
    }
}

/* d, 32 x (9 bits codeword, 7 signs), 16 4-bit scales. */
void mk_decode_iq2_xs(float *out, const uint8_t *in)
{
    const float d = mk_load_f16(in);

    for (uint32_t i = 0; i < 32; i++) {
        const uint32_t q = mk_load16(in + 2 + 2 * i), s = in[66 + i / 4] >> (i / 2 % 2 * 4) & 15u;
        iq_word8(out + 8 * i, d * (0.5f + (float)s) * 0.25f, iq_grid2_xs[q & 511u],
                 iq_signs(q >> 9));
    }
}

/* d, 32 codewords' low bytes, 32 bytes of signs, 32 x 2 high bits, 16 4-bit scales. */
void mk_decode_iq2_s(float *out, const uint8_t *in)
{
    const float d = mk_load_f16(in);

    for (uint32_t i = 0; i < 32; i++) {
        const uint32_t high = in[66 + i / 4] >> (2 * (i % 4)) & 3u;
        const uint32_t s = in[74 + i / 4] >> (i / 2 % 2 * 4) & 15u;
        iq_word8(out + 8 * i, d * (0.5f + (float)s) * 0.25f, iq_grid2_s[in[2 + i] | high << 8],
                 in[34 + i]);
    }
}

/* d, 64 codewords of 4, then per 32 weights 4 x 7 signs and a 4-bit scale. */
void mk_decode_iq3_xxs(float *out, const uint8_t *in)
{
    const float d = mk_load_f16(in);

    for (uint32_t i = 0; i < 256; i++) {
        const uint32_t tail = mk_load32(in + 66 + i / 32 * 4);
        const uint32_t word = iq_grid3_xxs[in[2 + i / 4]];
        const float scale = d * (0.5f + (float)(tail >> 28)) * 0.5f;
        const float v = scale * iq_levels3[(word >> 3 * (i % 4)) & 7u];
        out[i] = iq_signs((tail >> i / 8 % 4 * 7) & 127u) >> i % 8 & 1u ? -v : v;
    }
}

/* d, 64 codewords' low bytes, 64 high bits, 32 bytes of signs, 8 4-bit scales. */
void mk_decode_iq3_s(float *out, const uint8_t *in)
{
    const float d = mk_load_f16(in);

    for (uint32_t i = 0; i < 256; i++) {
        const uint32_t high = in[66 + i / 32] >> (i / 4 % 8) & 1u;
        const uint32_t word = iq_grid3_s[in[2 + i / 4] | high << 8];
        const uint32_t s = in[106 + i / 64] >> (i / 32 % 2 * 4) & 15u;
        const float v = d * (float)(2 * s + 1) * (float)(2 * ((word >> 3 * (i % 4)) & 7u) + 1);
        out[i] = in[74 + i / 8] >> i % 8 & 1u ? -v : v;
    }
}

static void iq_word1(float *out, float scale, uint32_t word, float delta)
{
    for (uint32_t i = 0; i < 8; i++)
        out[i] = scale * ((float)((word >> 2 * i) & 3u) - 1.0f + delta);
}

/* d, 32 codewords' low bytes, then per 32 weights 4 x 3 high bits, a 3-bit scale and the
 * sign of the offset 1/8. */
void mk_decode_iq1_s(float *out, const uint8_t *in)
{
    const float d = mk_load_f16(in);

    for (uint32_t i = 0; i < 32; i++) {
        const uint32_t h = mk_load16(in + 34 + i / 4 * 2);
        const uint32_t word = iq_grid1[in[2 + i] | (h >> 3 * (i % 4) & 7u) << 8];
        iq_word1(out + 8 * i, d * (float)(2 * (h >> 12 & 7u) + 1), word,
                 h & 0x8000u ? -0.125f : 0.125f);
    }
}

/* 32 codewords' low bytes, 32 x (3 high bits, sign of the offset), 4 x (4 3-bit scales, 4 bits
 * of d). */
void mk_decode_iq1_m(float *out, const uint8_t *in)
{
    const uint8_t *scales = in + 48;
    uint32_t half = 0;
    float d;

    for (uint32_t i = 0; i < 4; i++)
        half |= (mk_load16(scales + 2 * i) >> 12) << 4 * i;
    d = mk_f16_to_f32((uint16_t)half);
    for (uint32_t i = 0; i < 32; i++) {
        const uint32_t h = in[32 + i / 2] >> (i % 2 * 4);
        const uint32_t s = mk_load16(scales + i / 8 * 2) >> (i / 2 % 4 * 3) & 7u;
        iq_word1(out + 8 * i, d * (float)(2 * s + 1), iq_grid1[in[i] | (h & 7u) << 8],
                 h & 8u ? -0.125f : 0.125f);
    }
}
