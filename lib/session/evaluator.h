/* Who evaluates: a workspace and the forward pass in it.  A session opened by itself has one of
 * its own.  Two threads never share one. */
#ifndef MK_EVALUATOR_H
#define MK_EVALUATOR_H

#include "base/carve.h"
#include "model/forward.h"

#define MK_LOGIT_ROWS 16u          /* rows of logits computed at a time for callbacks */

struct mk_evaluator {
    struct mk_work work;
    struct mk_row *rows;           /* (work.shape.n_rows,) of the pass at hand */
    float *logits;                 /* (MK_LOGIT_ROWS, vocab_size) */
    struct mk_forward f;           /* of the call under way */
    struct mk_fpu fpu;
    uint64_t start;
};

/* Lay the memory out in c.  MINKE_ENOMEM when its size does not fit size_t. */
int32_t mk_evaluator_layout(struct mk_evaluator *e, struct mk_carve *c, const minke_context *model,
                            const struct mk_work_shape *shape);

/* A public call that computes begins: workers, floating-point state, the clock.  seq is who may
 * have taps, cancel stops it. */
void mk_evaluator_begin(struct mk_evaluator *e, const minke_context *model,
                        const struct mk_sequence *seq, int32_t *cancel);
/* It ends; returns rc. */
int32_t mk_evaluator_end(struct mk_evaluator *e, int32_t rc);

/* The rows of the next pass: n tokens of a sequence from pos on. */
void mk_evaluator_rows(struct mk_evaluator *e, const struct mk_sequence *seq, size_t pos,
                       const int32_t *tokens, size_t n);

#endif
