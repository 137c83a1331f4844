/* What a session did while it wrote: tokens, probabilities, choices. */
#ifndef MK_ROLLOUT_H
#define MK_ROLLOUT_H

#include "base/env.h"
#include "model/forward.h"

#define MK_ROLLOUT_N_ARRAYS 8    /* keys from 1 */

struct minke_rollout {
    struct mk_allocator alloc;
    int32_t refs;                /* atomic: the caller, sessions */
    minke_rollout_params p;      /* with defaults filled in */
    uint32_t n_vocab, n_routed;  /* of the model it is of */
    char identity[17], model_type[64];
    size_t n;                    /* tokens */
    size_t capacity;             /* tokens that fit: one more than a session of p.max_tokens holds */
    int32_t *tokens;             /* (capacity,) */
    uint8_t *sampled;            /* (capacity,) 1 where a sampler drew it */
    float *logprobs;             /* (capacity,) under the distribution drawn from, else 0 */
    float *logprobs_full;        /* (capacity,) under the softmax of the logits, else 0 */
    int64_t *offsets;            /* (capacity + 1,) of rows of allowed; NULL = not kept */
    int32_t *allowed;            /* (p.max_allowed,) ascending in a row; an empty row = all */
    struct mk_trail trail;       /* of tokens that were evaluated */
    minke_sampler_params sampling;   /* without its pointers; struct_size 0 = nothing was drawn */
    int32_t finish;              /* MINKE_FINISH_*, 0 = not said */
    int lost;                    /* the session went on in ways that were not seen */
};

/* One array as the file has it. */
struct mk_rollout_array {
    const char *name, *dtype;
    const void *data;
    uint64_t shape[3];
    uint32_t n_dims;
    size_t bytes;
};

/* Memory for n tokens and n_allowed ids; *bytes counts it.  With r NULL only counts. */
int32_t mk_rollout_layout(struct minke_rollout *r, const minke_context *m,
                          const minke_rollout_params *p, uint64_t *bytes);
void mk_rollout_unref(struct minke_rollout *r);

/* MINKE_EINVAL unless r is of a model of the session's shape. */
int32_t mk_rollout_fits(const struct minke_rollout *r, const struct minke_session *s);

/* By MINKE_ROLLOUT_* key from 1 on; MINKE_EVERSION, or MINKE_EINVAL when it is not kept. */
int32_t mk_rollout_array(struct mk_rollout_array *out, const struct minke_rollout *r,
                         int32_t key);

#endif
