/* Rows of one or many sequences through the model. */
#ifndef MK_FORWARD_H
#define MK_FORWARD_H

#include "model/handle.h"
#include "model/kv.h"
#include "model/work.h"

/* What a layer made of a row, borrowed for the call. */
struct mk_seen {
    uint32_t layer;              /* the prediction layer follows the last */
    size_t pos;                  /* of the row in its sequence */
    const int32_t *experts;      /* (n_experts,) best first; NULL where the layer has none */
    const float *expert_weights;
    size_t n_experts;
    const int32_t *selected;     /* (n_selected,) ascending; NULL: the n_selected first tokens */
    const float *scores;         /* of these, or NULL */
    size_t n_selected;           /* 0 where nothing selects */
    const float *residual;       /* (D,) */
    size_t hidden_size;          /* D */
};

/* Who looks on at a sequence, or decides for it.  Every function may be NULL, and runs on the
 * thread that evaluates; experts on any of its workers. */
struct mk_tap {
    const struct mk_tap *next;
    void *user;
    int scores;                  /* wants what was selected listed, with scores */
    /* The experts (K,), best first, that a token takes in layer l.  1 when written, 0 where the
     * model is to choose. */
    int (*experts)(void *user, uint32_t l, size_t pos, int32_t *experts);
    /* The tokens, ascending and at most top-k, that it attends to; their number, or 0. */
    size_t (*selected)(void *user, uint32_t l, size_t pos, int32_t *selected);
    /* After each layer; an error ends the pass. */
    int32_t (*seen)(void *user, const struct mk_seen *seen);
    /* Before each product that rows of the sequence are part of. */
    void (*product)(void *user, const struct mk_product *p);
};

enum mk_form { MK_FORM_AUTO, MK_FORM_NAIVE, MK_FORM_ABSORBED };

struct mk_sequence {
    struct mk_kv *kv;            /* (layers,) the prediction layer's last */
    enum mk_form form;           /* of attention */
    uint32_t index_topk;         /* tokens that the indexer keeps; 0 = it does not run */
    size_t window;               /* tokens that a row sees, its own included; 0 = all */
    const struct mk_tap *taps;   /* a list; NULL = nobody */
};

/* A token at a position of its sequence; it sees itself and those that the caches hold before. */
struct mk_row {
    const struct mk_sequence *seq;
    size_t pos;
    int32_t token;
    int32_t again;               /* was evaluated before: taps decide, and do not hear of it */
};

struct mk_forward {
    const minke_context *model;
    struct mk_ops ops;
    struct mk_work *work;
    const struct mk_row *rows;   /* (n,) those of a sequence side by side, ascending */
    size_t n;                    /* at most work->shape.n_rows */
    int32_t *cancel;             /* atomic; non-zero stops */
    uint32_t layer;              /* that comes next */
    uint64_t deadline;           /* of mk_time_ns, behind which no layer begins; 0 = none */
    uint64_t slowest;            /* nanoseconds of the slowest layer, with a deadline */
};

/* Rows through all layers; caches are written at their positions.  Leaves the hidden states
 * after the final norm in work->hidden.  MINKE_ECANCELED when asked to stop, by the flag or by a
 * tap; nothing but these rows of the caches is then touched.
 *
 * Goes from f->layer on, at least one layer and none that begins behind the deadline; done when
 * f->layer is the number of layers.  Until then the workspace holds the state. */
int32_t mk_forward_run(struct mk_forward *f);

/* logits[i] = lm_head hidden[i], i < n: hidden (n, D), logits (n, vocab_size). */
void mk_forward_logits(struct mk_forward *f, float *logits, const float *hidden, size_t n);

/* y = RMSNorm(x) over the rows, D wide. */
void mk_forward_norm(struct mk_forward *f, float *y, const float *x, const float *w);
/* Rotations of the rows' positions, into work->rope. */
void mk_forward_angles(struct mk_forward *f);

/* Layer l over work->x, in place. */
int32_t mk_forward_layer(struct mk_forward *f, const struct mk_layer_weights *w, uint32_t l);

/* The prediction layer: rows hold the tokens that follow their positions, hidden (n, D) what the
 * model's final norm made there.  Leaves its normed output in work->h. */
int32_t mk_mtp_run(struct mk_forward *f, const float *hidden);

/* y = Attention(h), writing the rows of layer l's caches. */
void mk_mla_run(struct mk_forward *f, const struct mk_attention_weights *w, uint32_t l);

/* Choose the cached tokens that each row attends to, from index_q and index_w. */
void mk_dsa_run(struct mk_forward *f, uint32_t l);
/* The n_keep best of scores (n,), ties to the lowest index, ascending; scratch (2, n + 32).
 * Returns how many were kept: min(n_keep, n) unless scores hold NaN. */
size_t mk_dsa_select(const struct mk_kernels *k, int32_t *kept, const float *scores, size_t n,
                     size_t n_keep, int32_t *scratch);

/* y = MoE(h), and y = MLP(h). */
void mk_moe_run(struct mk_forward *f, const struct mk_layer_weights *w, uint32_t l);
void mk_mlp_run(struct mk_forward *f, const struct mk_mlp_weights *w);

#endif
