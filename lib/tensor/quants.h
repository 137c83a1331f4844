/* One block of each quantized type: the functions behind mk_decode and mk_encode. */
#ifndef MK_QUANTS_H
#define MK_QUANTS_H

#include <stdint.h>
#include <string.h>

#include "tensor/tensor.h"

/* out = the floats of one stored block. */
typedef void mk_decode_block_fn(float *out, const uint8_t *in);
/* The block of 32 or 256 floats; weight: of each float's squared error, all above 0. */
typedef void mk_encode_block_fn(uint8_t *out, const float *in, const float *weight);

mk_decode_block_fn mk_decode_q4_0, mk_decode_q4_1, mk_decode_q5_0, mk_decode_q5_1,
    mk_decode_q8_0, mk_decode_q2_k, mk_decode_q3_k, mk_decode_q4_k, mk_decode_q5_k,
    mk_decode_q6_k, mk_decode_tq1_0, mk_decode_tq2_0, mk_decode_mxfp4, mk_decode_nvfp4,
    mk_decode_iq2_xxs, mk_decode_iq2_xs, mk_decode_iq2_s, mk_decode_iq3_xxs, mk_decode_iq3_s,
    mk_decode_iq1_s, mk_decode_iq1_m, mk_decode_iq4_nl, mk_decode_iq4_xs;

mk_encode_block_fn mk_encode_q4_0, mk_encode_q4_1, mk_encode_q5_0, mk_encode_q5_1,
    mk_encode_q8_0, mk_encode_q2_k, mk_encode_q3_k, mk_encode_q4_k, mk_encode_q5_k,
    mk_encode_q6_k, mk_encode_iq4_nl, mk_encode_iq4_xs;

/* The 16 values of the IQ4 types. */
extern const int8_t mk_iq4_values[16];

/* 6-bit scale and minimum j < 8 of a Q4_K or Q5_K block's 12 bytes. */
static inline void mk_k4_scale(uint32_t *scale, uint32_t *min, const uint8_t *s, uint32_t j)
{
    if (j < 4) {
        *scale = s[j] & 63u;
        *min = s[j + 4] & 63u;
    } else {
        *scale = (s[j + 4] & 15u) | (uint32_t)(s[j - 4] >> 6) << 4;
        *min = (uint32_t)(s[j + 4] >> 4) | (uint32_t)(s[j] >> 6) << 4;
    }
}

static inline uint32_t mk_load16(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8;
}

static inline uint32_t mk_load32(const uint8_t *p)
{
    return mk_load16(p) | mk_load16(p + 2) << 16;
}

static inline void mk_store16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline float mk_load_f16(const uint8_t *p)
{
    return mk_f16_to_f32((uint16_t)mk_load16(p));
}

#endif
