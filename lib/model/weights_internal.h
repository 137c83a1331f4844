/* What binding tensors to fields and loading them share. */
#ifndef MK_WEIGHTS_INTERNAL_H
#define MK_WEIGHTS_INTERNAL_H

#include "format/source.h"
#include "model/weights.h"

enum mk_weights_kind {
    MK_WEIGHTS_MATRIX,   /* field: struct mk_mat */
    MK_WEIGHTS_VECTOR,   /* field: const float * */
    MK_WEIGHTS_KV_B,     /* field: struct mk_attention_weights, whose heads are filled */
    MK_WEIGHTS_HEADS     /* the same, from k_b_proj (H, L, N) and v_b_proj (H, V, L) */
};

/* A tensor that was found and has the right shape, and where it belongs. */
struct mk_weights_item {
    struct mk_stored t;
    struct mk_stored scale;      /* file NULL when the type has none */
    struct mk_stored values;     /* v_b_proj; t is k_b_proj then */
    void *field;
    size_t n_out, n_in;
    uint32_t group;              /* items of a group share a block */
    uint8_t kind, part;
    uint8_t keep_rows;           /* rows are looked up: not packed */
};

struct mk_weights_plan {
    struct mk_weights_item *items;       /* in order of groups */
    size_t n, capacity;
    uint32_t n_groups;
};

/* Read, verify and pack everything in the plan. */
int32_t mk_weights_fill(struct mk_weights *w, const struct mk_env *env,
                        const struct mk_config *config, const struct mk_weights_plan *plan,
                        const struct mk_load_options *options);

#endif
