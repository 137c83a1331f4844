/* Rotary position embedding with YaRN. */
#ifndef MK_ROPE_H
#define MK_ROPE_H

#include <stddef.h>
#include <stdint.h>

#include "format/config.h"

#define MK_ROPE_MAX_DIM 256

struct mk_rope {
    uint32_t dim;                        /* qk_rope_head_dim */
    double freq[MK_ROPE_MAX_DIM / 2];    /* radians per position */
    double magnitude;                    /* of cos and sin */
    float softmax_scale;                 /* (N + R)^-0.5 * mscale^2 */
};

void mk_rope_init(struct mk_rope *rope, const struct mk_config *config);

/* cos_sin (dim,): dim/2 cosines, then dim/2 sines, of position pos; angles in double. */
void mk_rope_angles(const struct mk_rope *rope, float *cos_sin, uint64_t pos);

/* Rotate x (dim,) in place: pairs (2i, 2i+1) interleaved, else (i, i + dim/2). */
void mk_rope_apply(float *x, const float *cos_sin, uint32_t dim, int interleaved);

#endif
