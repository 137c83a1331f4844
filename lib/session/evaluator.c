/* Who evaluates: a workspace and the forward pass in it. */
#include "session/evaluator.h"

int32_t mk_evaluator_layout(struct mk_evaluator *e, struct mk_carve *c, const minke_context *model,
                            const struct mk_work_shape *shape)
{
    e->rows = mk_carve(c, shape->n_rows, sizeof(*e->rows));
    e->logits = mk_carve2(c, MK_LOGIT_ROWS, model->config.vocab_size, sizeof(float));
    return mk_work_init(&e->work, c, &model->config, shape);
}

void mk_evaluator_begin(struct mk_evaluator *e, const minke_context *model,
                        const struct mk_sequence *seq, int32_t *cancel)
{
    const uint32_t rounds = model->flags & (MINKE_CONTEXT_FAST | MINKE_CONTEXT_DETERMINISTIC);

    e->f = (struct mk_forward){
        .model = model,
        .ops = {.k = &model->kernels, .scratch = e->work.scratch,
                .scratch_bytes = e->work.scratch_bytes,
                .round16 = rounds == MINKE_CONTEXT_FAST, .onednn = model->onednn},
        .work = &e->work,
        .rows = e->rows,
        .cancel = cancel,
    };
    for (const struct mk_tap *tap = seq->taps; tap != NULL; tap = tap->next)
        if (tap->product != NULL) {
            e->f.ops.watch = tap->product;
            e->f.ops.watch_user = tap->user;
        }
    e->start = mk_time_ns();
    mk_fpu_enter(&e->fpu);
    mk_team_begin(&e->f.ops.team, model->pool);
}

int32_t mk_evaluator_end(struct mk_evaluator *e, int32_t rc)
{
    mk_team_end(&e->f.ops.team);
    mk_fpu_leave(&e->fpu);
    e->work.times.total += mk_time_ns() - e->start;
    return rc;
}

void mk_evaluator_rows(struct mk_evaluator *e, const struct mk_sequence *seq, size_t pos,
                       const int32_t *tokens, size_t n)
{
    for (size_t i = 0; i < n; i++)
        e->rows[i] = (struct mk_row){seq, pos + i, tokens[i], 0};
    e->f.n = n;
}
