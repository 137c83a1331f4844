/* Scales and codes for weights that share them: see fit.h. */
#include "tensor/fit.h"

float mk_fit_largest(const float *x, uint32_t n)
{
    float largest = 0.0f;

    for (uint32_t i = 0; i < n; i++)
        if (x[i] > largest || -x[i] > largest)
            largest = x[i] < 0.0f ? -x[i] : x[i];
    return largest < 1e-15f ? 0.0f : largest;
}

float mk_fit_symmetric(const struct mk_fit *f)
{
    const float largest = mk_fit_largest(f->x, f->n);
    float best_d = 0.0f, best = 0.0f;

    if (largest == 0.0f)
        return 0.0f;
    for (int side = 0; side < 2; side++) {
        for (int k = -4; k <= 4; k++) {
            /* The largest weight reaches the longer side's end, or nearly. */
            const float inverse = ((float)-f->low + 0.2f * (float)k) / (side ? largest : -largest);
            float xq = 0.0f, qq = 0.0f;
            for (uint32_t i = 0; i < f->n; i++) {
                const float q = (float)mk_fit_clamp(mk_fit_round(f->x[i] * inverse), f->low,
                                                    f->high);
                xq += f->w[i] * f->x[i] * q;
                qq += f->w[i] * q * q;
            }
            /* The error with d = xq / qq is sum w x^2 - xq^2 / qq. */
            if (qq > 0.0f && xq * xq > best * qq) {
                best = xq * xq / qq;
                best_d = xq / qq;
            }
        }
    }
    return best_d;
}

float mk_fit_error(const struct mk_fit *f, float d, float m)
{
    const float inverse = mk_fit_inverse(d);
    float error = 0.0f;

    for (uint32_t i = 0; i < f->n; i++) {
        const float q = (float)mk_fit_clamp(mk_fit_round((f->x[i] + m) * inverse), f->low,
                                            f->high);
        const float e = d * q - m - f->x[i];
        error += f->w[i] * e * e;
    }
    return error;
}

void mk_fit_codes(uint8_t *q, const struct mk_fit *f, float d, float m)
{
    const float *x = f->x, inverse = mk_fit_inverse(d);
    const int low = f->low, high = f->high;
    const uint32_t n = f->n;

    for (uint32_t i = 0; i < n; i++)
        q[i] = (uint8_t)(mk_fit_clamp(mk_fit_round((x[i] + m) * inverse), low, high) - low);
}

/* d and m of the least error for fixed codes q; as they were where these say too little. */
static void fit_affine_solve(float *d, float *m, const struct mk_fit *f, const uint8_t *codes,
                             int signed_m)
{
    float s = 0.0f, sx = 0.0f, sq = 0.0f, sqq = 0.0f, sxq = 0.0f;

    for (uint32_t i = 0; i < f->n; i++) {
        const float x = f->x[i], w = f->w[i], q = (float)codes[i];
        s += w;
        sx += w * x;
        sq += w * q;
        sqq += w * q * q;
        sxq += w * x * q;
    }
    const float det = s * sqq - sq * sq;
    if (!(det > 1e-6f * s * sqq))
        return;
    *d = (s * sxq - sx * sq) / det;
    *m = (sq * sxq - sqq * sx) / det;
    if (!signed_m && *m < 0.0f) {
        *m = 0.0f;
        *d = sxq / sqq;
    }
    if (*d < 0.0f)
        *d = 0.0f;
}

void mk_fit_affine(float *out_d, float *out_m, const struct mk_fit *f, int signed_m)
{
    float low = signed_m ? f->x[0] : 0.0f, high = f->x[0], best;
    uint8_t q[32];

    for (uint32_t i = 0; i < f->n; i++) {
        low = f->x[i] < low ? f->x[i] : low;
        high = f->x[i] > high ? f->x[i] : high;
    }
    *out_d = 0.0f;
    *out_m = -low;
    if (high - low < 1e-15f)
        return;
    *out_d = (high - low) / (float)f->high;
    best = mk_fit_error(f, *out_d, *out_m);
    for (int k = -4; k <= 4; k++) {
        float d = (high - low) / ((float)f->high + 0.2f * (float)k), m = -low;
        for (int round = 0; round < 2; round++) {
            mk_fit_codes(q, f, d, m);
            fit_affine_solve(&d, &m, f, q, signed_m);
        }
        const float error = mk_fit_error(f, d, m);
        if (error < best) {
            best = error;
            *out_d = d;
            *out_m = m;
        }
    }
}
