/* The multi-token-prediction layer. */
#include "model/forward.h"

/*
 * Reference: DeepSeek-V3 technical report, equations 21 to 23; vLLM's deepseek_mtp for what
 * they leave open: the embedding half comes first in eh_proj, and the hidden state is the one
 * after the final norm.
 */
int32_t mk_mtp_run(struct mk_forward *f, const float *hidden)
{
    const struct mk_config *c = &f->model->config;
    const struct mk_mtp_weights *w = f->model->weights.mtp;
    const size_t D = c->hidden_size;
    const float eps = (float)c->rms_norm_eps;
    struct mk_work *work = f->work;
    int32_t rc;

    mk_forward_angles(f);
    for (size_t i = 0; i < f->n; i++) {
        float *row = work->mtp + i * 2 * D;

        /* [RMSNorm(embedding of the next token) ; RMSNorm(hidden)] */
        mk_mat_row(work->h, &f->model->weights.embed_tokens, (size_t)f->rows[i].token);
        f->ops.k->rms_norm(row, work->h, w->enorm, eps, D);
        f->ops.k->rms_norm(row + D, hidden + i * D, w->hnorm, eps, D);
    }
    /* x = eh_proj [e ; h] */
    mk_matmul(&f->ops, work->x, D, &w->eh_proj, work->mtp, 2 * D, f->n);
    rc = mk_forward_layer(f, &w->layer, c->num_hidden_layers);
    if (rc < 0)
        return rc;
    mk_forward_norm(f, work->h, work->x, w->shared_head_norm);
    return MINKE_OK;
}
