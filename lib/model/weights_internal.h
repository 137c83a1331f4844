/* What binding tensors to fields and loading them share. */
#ifndef MK_WEIGHTS_INTERNAL_H
#define MK_WEIGHTS_INTERNAL_H

#include "model/weights.h"

/* A tensor that was found and has the right shape, and where it belongs. */
struct mk_weights_item {
    struct mk_stored t;
    struct mk_stored scale;      /* file NULL when the type has none */
    struct mk_stored values;     /* v_b_proj, where t is k_b_proj */
    void *field;                 /* const float *, struct mk_mat, or of kv_b_proj and its parts
                                  * struct mk_attention_weights, whose heads are filled */
    size_t n_out, n_in;          /* n_in 0: a vector */
    uint32_t group;              /* items of a group share a block */
    uint8_t kind, part;          /* enum mk_tensor_kind, enum mk_part */
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
