/* Types whose 4-bit codes name values of a table, IQ4.  Layouts: ggml's ggml-common.h.  A product
 * of scales and value is exact in single precision. */
#include "tensor/fit.h"

static const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                      1, 13, 25, 38, 53, 69, 89, 113};

/* The code whose value is nearest to v. */
static uint8_t iq4_code(float v)
{
    uint32_t code = 0;

    /* By halves: above the middle of two neighbours it is the upper or beyond. */
    for (uint32_t step = 8; step > 0; step /= 2)
        code += 2.0f * v > (float)(iq4_values[code + step - 1] + iq4_values[code + step])
              ? step : 0;
    return (uint8_t)code;
}

static float iq4_error(const float *x, const float *w, float d)
{
    const float inverse = mk_fit_inverse(d);
    float error = 0.0f;

    for (uint32_t i = 0; i < 32; i++) {
        const float e = d * (float)iq4_values[iq4_code(x[i] * inverse)] - x[i];
        error += w[i] * e * e;
    }
    return error;
}

/* The scale of the least error for 32 weights, as mk_fit_symmetric. */
static float iq4_fit(const float *x, const float *w)
{
    const float largest = mk_fit_largest(x, 32);
    float best_d = 0.0f, best = 0.0f;

    if (largest == 0.0f)
        return 0.0f;
    for (int side = 0; side < 2; side++) {
        for (int k = -4; k <= 4; k++) {
            const float inverse = (127.0f + 6.0f * (float)k) / (side ? largest : -largest);
            float xq = 0.0f, qq = 0.0f;
            for (uint32_t i = 0; i < 32; i++) {
                const float q = (float)iq4_values[iq4_code(x[i] * inverse)];
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

static void iq4_codes(uint8_t *out, const float *x, float d)
{
    const float inverse = mk_fit_inverse(d);

    for (uint32_t i = 0; i < 16; i++)
        out[i] = (uint8_t)(iq4_code(x[i] * inverse) | iq4_code(x[i + 16] * inverse) << 4);
}

/* x = d value */
void mk_decode_iq4_nl(float *out, const uint8_t *in)
{
    const float d = mk_load_f16(in);

    for (uint32_t i = 0; i < 16; i++) {
        out[i] = d * (float)iq4_values[in[2 + i] & 15u];
        out[i + 16] = d * (float)iq4_values[in[2 + i] >> 4];
    }
}

void mk_encode_iq4_nl(uint8_t *out, const float *x, const float *w)
{
    iq4_codes(out + 2, x, mk_store_f16(out, iq4_fit(x, w)));
}

/* d, 8 x 2 high bits and 8 x 4 low bits of scales less 32, then 8 x 32 codes. */
void mk_decode_iq4_xs(float *out, const uint8_t *in)
{
    const float d = mk_load_f16(in);
    const uint32_t high = mk_load16(in + 2);

    for (uint32_t b = 0; b < 8; b++) {
        const uint32_t s = (in[4 + b / 2] >> (b % 2 * 4) & 15u) | (high >> 2 * b & 3u) << 4;
        const float scale = d * ((float)s - 32.0f);
        const uint8_t *q = in + 8 + 16 * b;
        for (uint32_t i = 0; i < 16; i++) {
            out[32 * b + i] = scale * (float)iq4_values[q[i] & 15u];
            out[32 * b + i + 16] = scale * (float)iq4_values[q[i] >> 4];
        }
    }
}

/* Quantized scales of the 8 parts, each the best of its neighbours; the error. */
static float iq4_scales(int *scale, const float *ds, const float *x, const float *w, float d)
{
    float total = 0.0f;

    for (uint32_t b = 0; b < 8; b++) {
        const int at = mk_fit_round(ds[b] * mk_fit_inverse(d));
        float best = -1.0f;
        for (int s = at - 1; s <= at + 1; s++) {
            const int v = mk_fit_clamp(s, -32, 31);
            const float error = iq4_error(x + 32 * b, w + 32 * b, d * (float)v);
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
        ds[b] = iq4_fit(x + 32 * b, w + 32 * b);
        if ((ds[b] < 0.0f ? -ds[b] : ds[b]) > (top < 0.0f ? -top : top))
            top = ds[b];
    }
    for (int k = 0; k < 4; k++) {
        const float try_d = mk_fit_half(top / (-32.0f + (float)k));
        int try_scale[8];
        const float error = iq4_scales(try_scale, ds, x, w, try_d);
        if (best < 0.0f || error < best) {
            best = error;
            d = try_d;
            memcpy(scale, try_scale, sizeof(scale));
        }
    }
    mk_store_f16(out, d);
    memset(out + 4, 0, 4);
    for (uint32_t b = 0; b < 8; b++) {
        const uint32_t s = (uint32_t)(scale[b] + 32);
        high |= (s >> 4) << 2 * b;
        out[4 + b / 2] = (uint8_t)(out[4 + b / 2] | (s & 15u) << (b % 2 * 4));
        iq4_codes(out + 8 + 16 * b, x + 32 * b, d * (float)scale[b]);
    }
    mk_store16(out + 2, high);
}
