/* Rotary position embedding with YaRN. */
#include "model/rope.h"

#include <math.h>

/* g(s, m) = 0.1 m ln s + 1, and 1 where the context is not stretched. */
static double rope_mscale(double factor, double mscale)
{
    return factor <= 1.0 ? 1.0 : 0.1 * mscale * log(factor) + 1.0;
}

/* The pair that turns `rotations` times over the original context, as a real number. */
static double rope_corr(const struct mk_config *c, double rotations)
{
    const double two_pi = 6.283185307179586476925;

    return c->qk_rope_head_dim
         * log(c->rope_original_max_position_embeddings / (rotations * two_pi))
         / (2.0 * log(c->rope_theta));
}

/*
 * Reference: DeepSeek-V3 inference/model.py @9b4e978, precompute_freqs_cis; the scales of
 * transformers' deepseek_v3.  Differs: everything in double, and YaRN applies whenever the
 * config asks for it.
 */
void mk_rope_init(struct mk_rope *rope, const struct mk_config *config)
{
    const uint32_t dim = config->qk_rope_head_dim;
    double low = 0.0, high = 0.0, scale;

    rope->dim = dim;
    rope->magnitude = 1.0;
    scale = 1.0 / sqrt((double)config->qk_nope_head_dim + dim);
    if (config->rope_yarn) {
        low = fmax(floor(rope_corr(config, config->rope_beta_fast)), 0.0);
        high = fmin(ceil(rope_corr(config, config->rope_beta_slow)), dim - 1.0);
        if (low == high)
            high += 0.001;
        if (config->rope_mscale_all_dim != 0.0)
            scale *= pow(rope_mscale(config->rope_factor, config->rope_mscale_all_dim), 2.0);
        rope->magnitude = rope_mscale(config->rope_factor, config->rope_mscale)
                        / rope_mscale(config->rope_factor, config->rope_mscale_all_dim);
    }
    rope->softmax_scale = (float)scale;
    for (uint32_t i = 0; i < dim / 2; i++) {
        const double f = pow(config->rope_theta, -2.0 * i / dim);
        double ramp;

        rope->freq[i] = f;
        if (!config->rope_yarn)
            continue;
        /* f' = f / s where the pair turns slowly, f where it turns fast. */
        ramp = fmin(fmax((i - low) / (high - low), 0.0), 1.0);
        rope->freq[i] = f / config->rope_factor * ramp + f * (1.0 - ramp);
    }
}

void mk_rope_angles(const struct mk_rope *rope, float *cos_sin, uint64_t pos)
{
    const uint32_t half = rope->dim / 2;

    for (uint32_t i = 0; i < half; i++) {
        const double angle = (double)pos * rope->freq[i];

        cos_sin[i] = (float)(cos(angle) * rope->magnitude);
        cos_sin[half + i] = (float)(sin(angle) * rope->magnitude);
    }
}

void mk_rope_apply(float *x, const float *cos_sin, uint32_t dim, int interleaved)
{
    const uint32_t half = dim / 2, step = interleaved ? 2 : 1, apart = interleaved ? 1 : half;

    for (uint32_t i = 0; i < half; i++) {
        float *u = x + i * step, *v = u + apart;
        const float c = cos_sin[i], s = cos_sin[half + i], a = *u, b = *v;

        *u = a * c - b * s;
        *v = a * s + b * c;
    }
}
