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

/* y = RMSNorm(x) over the rows of the chunk. */
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

/* Tell the observer about token i of the chunk, after layer l. */
static int32_t forward_observe_row(const struct mk_forward *f, uint32_t l, int is_moe, size_t i)
{
    const struct mk_work *w = f->work;
    const struct mk_config *c = &f->model->config;
    const uint64_t token = f->first + i;
    const size_t K = c->num_experts_per_tok, D = c->hidden_size;
    int32_t stop = 0;

    if ((f->observe & MINKE_OBSERVE_SELECTED) && f->index_topk > 0)
        stop = f->observer(f->observer_user, MINKE_OBSERVE_SELECTED, l, token,
                           w->selected + i * w->selected_stride,
                           w->selected_scores + i * w->selected_stride, w->n_selected[i]);
    if (!stop && (f->observe & MINKE_OBSERVE_EXPERTS) && is_moe)
        stop = f->observer(f->observer_user, MINKE_OBSERVE_EXPERTS, l, token,
                           w->experts + i * K, w->expert_weights + i * K, K);
    if (!stop && (f->observe & MINKE_OBSERVE_RESIDUAL))
        stop = f->observer(f->observer_user, MINKE_OBSERVE_RESIDUAL, l, token, NULL,
                           w->x + i * D, D);
    return stop ? mk_fail(MINKE_ECANCELED, "stopped by the observer at layer %u", l) : MINKE_OK;
}

/* Write down what layer l chose for the rows of the chunk. */
static void forward_record(const struct mk_forward *f, uint32_t l, int is_moe)
{
    const struct mk_trail *r = f->record;
    const struct mk_work *w = f->work;
    const size_t K = r->n_experts;

    for (size_t i = 0; is_moe && i < f->n; i++) {
        const size_t at = ((f->first + i) * r->n_moe + f->moe_layer) * K;

        for (size_t k = 0; k < K; k++) {
            if (r->experts8 != NULL)
                r->experts8[at + k] = (uint8_t)w->experts[i * K + k];
            else if (r->experts16 != NULL)
                r->experts16[at + k] = (uint16_t)w->experts[i * K + k];
        }
    }
    for (size_t i = 0; r->selected != NULL && i < f->n; i++) {
        int32_t *out = r->selected + ((f->first + i) * r->n_layers + l) * r->top_k;
        const size_t n = w->n_selected[i], seen = f->first + i + 1;

        /* Rows that see no more than top-k tokens take all, and are not listed. */
        for (size_t k = 0; k < r->top_k; k++)
            out[k] = k >= n ? -1 : seen <= r->top_k ? (int32_t)k
                   : w->selected[i * w->selected_stride + k];
    }
}

/* How many layers with experts come before layer l. */
static uint32_t forward_moe_layer(const struct mk_forward *f, uint32_t l)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < l; i++)
        n += f->model->weights.layers[i].experts != NULL;
    return n;
}

/* Reference: DeepSeek-V3.2-Exp inference/model.py @8631a81, Block.forward. */
int32_t mk_forward_layer(struct mk_forward *f, const struct mk_layer_weights *w, uint32_t l,
                         struct mk_kv *kv)
{
    struct mk_work *work = f->work;
    const int is_moe = w->experts != NULL;
    uint64_t start;
    int32_t rc = forward_canceled(f);

    if (rc < 0)
        return rc;
    /* x += Attention(RMSNorm(x)) */
    mk_forward_norm(f, work->h, work->x, w->input_layernorm);
    mk_mla_run(f, &w->self_attn, kv);
    forward_add(f);

    /* x += FFN(RMSNorm(x)) */
    mk_forward_norm(f, work->h, work->x, w->post_attention_layernorm);
    start = mk_time_ns();
    if (f->record != NULL || f->replay != NULL)
        f->moe_layer = forward_moe_layer(f, l);
    if (is_moe)
        mk_moe_run(f, w);
    else
        mk_mlp_run(f, &w->mlp);
    work->times.ffn += mk_time_ns() - start;
    forward_add(f);

    if (f->record != NULL)
        forward_record(f, l, is_moe);
    for (size_t i = 0; f->observe != 0 && i < f->n; i++)
        if ((rc = forward_observe_row(f, l, is_moe, i)) < 0)
            return rc;
    return MINKE_OK;
}

/* Rotations of every position of the chunk. */
void mk_forward_angles(struct mk_forward *f)
{
    const size_t R = f->model->config.qk_rope_head_dim;

    for (size_t i = 0; i < f->n; i++)
        mk_rope_angles(&f->model->rope, f->work->rope + i * R, f->first + i);
}

int32_t mk_forward_run(struct mk_forward *f, const int32_t *tokens)
{
    const struct mk_weights *w = &f->model->weights;
    const uint32_t n_layers = f->model->config.num_hidden_layers;
    const size_t D = f->model->config.hidden_size;
    struct mk_work *work = f->work;
    uint64_t begin = f->deadline != 0 ? mk_time_ns() : 0;

    if (f->layer == 0) {
        mk_forward_angles(f);
        for (size_t i = 0; i < f->n; i++)
            mk_mat_row(work->x + i * D, &w->embed_tokens, (size_t)tokens[i]);
    }
    while (f->layer < n_layers) {
        const int32_t rc = mk_forward_layer(f, &w->layers[f->layer], f->layer, &f->kv[f->layer]);

        if (rc < 0)
            return rc;
        f->layer++;
        if (f->deadline != 0) {
            const uint64_t now = mk_time_ns();

            if (now - begin > f->slowest)
                f->slowest = now - begin;
            if (now >= f->deadline && f->layer < n_layers)
                return MINKE_OK;
            begin = now;
        }
    }
    mk_forward_norm(f, work->hidden + D, work->x, w->norm);
    return forward_canceled(f);
}

void mk_forward_logits(struct mk_forward *f, float *logits, const float *hidden, size_t n)
{
    const struct mk_mat *head = &f->model->weights.lm_head;

    /* logits = lm_head hidden */
    mk_matmul(&f->ops, logits, head->n_out, head, hidden, head->n_in, n);
}
