/* The forward pass: embedding, layers, final norm, head. */
#include "model/forward.h"

#include <string.h>

static int32_t forward_canceled(const struct mk_forward *f)
{
    if (mk_atomic_load(f->cancel) == 0 || mk_atomic_swap(f->cancel, 0) == 0)
        return MINKE_OK;
    return mk_fail(MINKE_ECANCELED, "stopped by minke_session_cancel");
}

struct forward_norm_job {
    const struct mk_forward *f;
    float *y;
    const float *x, *w;
};

static void forward_norm_rows(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct forward_norm_job *j = arg;
    const struct mk_config *c = &j->f->model->config;
    const size_t D = c->hidden_size;

    (void)worker;
    for (size_t t = begin; t < end; t++)
        j->f->ops.k->rms_norm(j->y + t * D, j->x + t * D, j->w, (float)c->rms_norm_eps, D);
}

void mk_forward_norm(struct mk_forward *f, float *y, const float *x, const float *w)
{
    struct forward_norm_job job = {f, y, x, w};

    mk_team_run(&f->ops.team, forward_norm_rows, &job, f->n, 1);
}

/* x += y */
static void forward_add(struct mk_forward *f)
{
    f->ops.k->axpy(f->work->x, 1.0f, f->work->y, f->n * f->model->config.hidden_size);
}

/* Tell who listens to row i what layer l made of it. */
static int32_t forward_tell(const struct mk_forward *f, uint32_t l, int is_moe, size_t i)
{
    const struct mk_work *w = f->work;
    const struct mk_config *c = &f->model->config;
    const struct mk_row *row = &f->rows[i];
    const size_t K = c->num_experts_per_tok, D = c->hidden_size;
    const int selects = row->seq->index_topk > 0, listed = selects && w->listed[i] != MK_LISTED_NOT;
    const struct mk_seen seen = {
        .layer = l, .pos = row->pos,
        .experts = is_moe ? w->experts + i * K : NULL,
        .expert_weights = is_moe ? w->expert_weights + i * K : NULL,
        .n_experts = is_moe ? K : 0,
        .selected = listed ? w->selected + i * w->selected_stride : NULL,
        .scores = listed && w->selected_scores != NULL
                ? w->selected_scores + i * w->selected_stride : NULL,
        .n_selected = selects ? w->n_selected[i] : 0,
        .residual = w->x + i * D, .hidden_size = D,
    };
    int32_t rc = MINKE_OK;

    for (const struct mk_tap *tap = row->seq->taps; rc == MINKE_OK && tap != NULL; tap = tap->next)
        if (tap->seen != NULL)
            rc = tap->seen(tap->user, &seen);
    return rc;
}

/* Reference: DeepSeek-V3.2-Exp inference/model.py @8631a81, Block.forward. */
int32_t mk_forward_layer(struct mk_forward *f, const struct mk_layer_weights *w, uint32_t l)
{
    struct mk_work *work = f->work;
    const int is_moe = w->experts != NULL;
    uint64_t start;
    int32_t rc = forward_canceled(f);

    if (rc < 0)
        return rc;
    /* x += Attention(RMSNorm(x)) */
    mk_forward_norm(f, work->h, work->x, w->input_layernorm);
    mk_mla_run(f, &w->self_attn, l);
    forward_add(f);

    /* x += FFN(RMSNorm(x)) */
    mk_forward_norm(f, work->h, work->x, w->post_attention_layernorm);
    start = mk_time_ns();
    if (is_moe)
        mk_moe_run(f, w, l);
    else
        mk_mlp_run(f, &w->mlp);
    work->times.ffn += mk_time_ns() - start;
    forward_add(f);

    for (size_t i = 0; i < f->n && rc == MINKE_OK; i++)
        if (f->rows[i].seq->taps != NULL && !f->rows[i].again)
            rc = forward_tell(f, l, is_moe, i);
    return rc;
}

void mk_forward_angles(struct mk_forward *f)
{
    const size_t R = f->model->config.qk_rope_head_dim;

    for (size_t i = 0; i < f->n; i++)
        mk_rope_angles(&f->model->rope, f->work->rope + i * R, f->rows[i].pos);
}

/* Note how long a layer took that began then; whether the time is over. */
static int forward_late(struct mk_forward *f, uint64_t *begin)
{
    const uint64_t now = mk_time_ns(), took = now - *begin;

    f->slowest = took > f->slowest ? took : f->slowest;
    *begin = now;
    return now >= f->deadline;
}

int32_t mk_forward_run(struct mk_forward *f)
{
    const struct mk_weights *w = &f->model->weights;
    const uint32_t n_layers = f->model->config.num_hidden_layers;
    const size_t D = f->model->config.hidden_size;
    struct mk_work *work = f->work;
    uint64_t begin = f->deadline != 0 ? mk_time_ns() : 0;

    if (f->layer == 0) {
        mk_forward_angles(f);
        for (size_t i = 0; i < f->n; i++)
            mk_mat_row(work->x + i * D, &w->embed_tokens, (size_t)f->rows[i].token);
    }
    while (f->layer < n_layers) {
        const int32_t rc = mk_forward_layer(f, &w->layers[f->layer], f->layer);

        if (rc < 0)
            return rc;
        f->layer++;
        if (f->deadline != 0 && forward_late(f, &begin) && f->layer < n_layers)
            return MINKE_OK;
    }
    mk_forward_norm(f, work->hidden, work->x, w->norm);
    return forward_canceled(f);
}

void mk_forward_logits(struct mk_forward *f, float *logits, const float *hidden, size_t n)
{
    const struct mk_mat *head = &f->model->weights.lm_head;

    /* logits = lm_head hidden */
    mk_matmul(&f->ops, logits, head->n_out, head, hidden, head->n_in, n);
}
