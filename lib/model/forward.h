/* A chunk of tokens through the model. */
#ifndef MK_FORWARD_H
#define MK_FORWARD_H

#include "model/kv.h"
#include "model/handle.h"
#include "model/work.h"

enum mk_form { MK_FORM_AUTO, MK_FORM_NAIVE, MK_FORM_ABSORBED };

/* What was chosen for tokens [0, n), by position: written down, or followed. */
struct mk_trail {
    size_t n;
    uint32_t n_moe, n_experts;   /* layers with experts; experts of each that a token takes */
    uint32_t n_layers, top_k;    /* of the selection */
    uint8_t *experts8;           /* (n, n_moe, n_experts), one of these, or neither */
    uint16_t *experts16;
    int32_t *selected;           /* (n, n_layers, top_k), -1 behind the last; or NULL */
};

struct mk_forward {
    const minke_context *model;
    struct mk_ops ops;
    struct mk_work *work;
    struct mk_kv *kv;            /* one per layer, the prediction layer last */
    enum mk_form form;
    uint32_t index_topk;         /* tokens that the indexer keeps; 0 = it does not run */
    size_t window;               /* tokens that a row sees, its own included; 0 = all */
    size_t first, n;             /* positions [first, first + n), n <= work->shape.n_rows */
    int32_t *cancel;             /* atomic; non-zero stops */
    minke_observer_fn observer;  /* NULL = none */
    void *observer_user;
    uint32_t observe;            /* MINKE_OBSERVE_*, 0 without observer */
    struct mk_trail *record;     /* to write to, with room for this chunk; NULL = none */
    const struct mk_trail *replay;   /* to follow where it reaches; NULL = none */
    uint32_t moe_layer;          /* index among the layers with experts of the one at work */
    uint32_t layer;              /* that comes next */
    uint64_t deadline;           /* of mk_time_ns, behind which no layer begins; 0 = none */
    uint64_t slowest;            /* nanoseconds of the slowest layer, with a deadline */
};

/* Tokens (n,) through all layers; caches are written at their positions.  Leaves the hidden
 * states after the final norm in rows 1 to n of work->hidden.  MINKE_ECANCELED when asked to
 * stop, by the flag or by the observer; nothing but the rows of this chunk is then touched.
 *
 * Goes from f->layer on, at least one layer and none that begins behind the deadline; done when
 * f->layer is the number of layers.  Until then the workspace holds the state. */
int32_t mk_forward_run(struct mk_forward *f, const int32_t *tokens);

/* logits[i] = lm_head hidden[i], i < n: hidden (n, D), logits (n, vocab_size). */
void mk_forward_logits(struct mk_forward *f, float *logits, const float *hidden, size_t n);

/* y = RMSNorm(x) over the rows of the chunk, D wide. */
void mk_forward_norm(struct mk_forward *f, float *y, const float *x, const float *w);
/* Rotations of the chunk's positions, into work->rope. */
void mk_forward_angles(struct mk_forward *f);

/* One layer over work->x, in place.  l names it, kv is its cache. */
int32_t mk_forward_layer(struct mk_forward *f, const struct mk_layer_weights *w, uint32_t l,
                         struct mk_kv *kv);

/* The prediction layer for positions [first, first + n): hidden (n, D) after the model's final
 * norm, next (n,) the tokens that follow.  Leaves its normed output in work->h. */
int32_t mk_mtp_run(struct mk_forward *f, const float *hidden, const int32_t *next);

/* y = Attention(h), writing this chunk's rows of kv. */
void mk_mla_run(struct mk_forward *f, const struct mk_attention_weights *w, struct mk_kv *kv);

/* Choose the cached tokens that each row attends to, from index_q and index_w. */
void mk_dsa_run(struct mk_forward *f, const struct mk_kv *kv);
/* The n_keep best of scores (n,), ties to the lowest index, ascending; scratch (2, n + 32).
 * Returns how many were kept: min(n_keep, n) unless scores hold NaN. */
size_t mk_dsa_select(const struct mk_kernels *k, int32_t *kept, const float *scores, size_t n,
                     size_t n_keep, int32_t *scratch);

/* y = MoE(h), and y = MLP(h). */
void mk_moe_run(struct mk_forward *f, const struct mk_layer_weights *w);
void mk_mlp_run(struct mk_forward *f, const struct mk_mlp_weights *w);

#endif
