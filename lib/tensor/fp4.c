/* Types of 4-bit floats.  Reference: OCP Microscaling Formats (MX) Specification 1.0 for E2M1 and
 * E8M0, ggml's ggml-common.h for the layouts. */
#include "tensor/blocks.h"

/* Twice the values of E2M1. */
static const float fp4_e2m1[16] = {0.0f, 1.0f, 2.0f, 3.0f, 4.0f, 6.0f, 8.0f, 12.0f,
                                   0.0f, -1.0f, -2.0f, -3.0f, -4.0f, -6.0f, -8.0f, -12.0f};

/* A power of two (E8M0, bias 127), then E2M1 codes. */
void mk_decode_mxfp4(float *out, const uint8_t *in)
{
    /* 2^(e - 128): half of the scale, because the values are doubled. */
    const uint32_t e = in[0], bits = e < 2 ? 0x200000u << e : (e - 1) << 23;
    float d;

    memcpy(&d, &bits, sizeof(d));
    for (uint32_t i = 0; i < 16; i++) {
        out[i] = fp4_e2m1[in[1 + i] & 15u] * d;
        out[i + 16] = fp4_e2m1[in[1 + i] >> 4] * d;
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
            out[16 * b + i] = fp4_e2m1[q[i] & 15u] * d;
            out[16 * b + i + 8] = fp4_e2m1[q[i] >> 4] * d;
        }
    }
}
