/* Multi-head latent attention: what both of its forms share.
 *
 * Reference: DeepSeek-V3 inference/model.py @9b4e978, MLA.forward.  Differs: keys are worked
 * through in blocks with a running softmax, and only those that were selected. */
#include "model/mla.h"

#include <math.h>

#include "base/checked.h"

/* ---- Which tokens a row sees -------------------------------------------- */

size_t mk_mla_begin(const struct mk_forward *f, size_t i)
{
    const size_t seen = f->first + i + 1;

    return f->window > 0 && seen > f->window ? seen - f->window : 0;
}

struct mk_mla_span mk_mla_span(const struct mk_forward *f, size_t i)
{
    const struct mk_work *work = f->work;
    const size_t begin = mk_mla_begin(f, i), seen = f->first + i + 1;

    if (f->index_topk > 0 && work->n_selected[i] < seen)
        return (struct mk_mla_span){work->selected + i * work->selected_stride, 0,
                                    work->n_selected[i]};
    return (struct mk_mla_span){NULL, begin, seen - begin};
}

/* ---- Queries, latents, keys --------------------------------------------- */

/* y = w * (x - mean) / sqrt(variance + 1e-6) + b, in place. */
static void mla_layer_norm(float *x, const float *w, const float *b, size_t n)
{
    float mean = 0.0f, var = 0.0f;

    for (size_t i = 0; i < n; i++)
        mean += x[i];
    mean /= (float)n;
    for (size_t i = 0; i < n; i++)
        var += (x[i] - mean) * (x[i] - mean);
    const float scale = 1.0f / sqrtf(var / (float)n + 1e-6f);
    for (size_t i = 0; i < n; i++)
        x[i] = w[i] * ((x[i] - mean) * scale) + b[i];
}

/* What comes straight from h: norms, rotations, cache rows. */
static void mla_rows_down(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct mk_mla *j = arg;
    const struct mk_forward *f = j->f;
    const struct mk_config *c = &f->model->config;
    const struct mk_work *work = f->work;
    const uint32_t L = c->kv_lora_rank, R = c->qk_rope_head_dim, Q = c->q_lora_rank;
    const float eps = (float)c->rms_norm_eps;

    (void)worker;
    for (size_t i = begin; i < end; i++) {
        float *kv = work->kv + i * (L + R), *qr = work->qr + i * Q;

        if (Q > 0)
            f->ops.k->rms_norm(qr, qr, j->w->q_a_layernorm, eps, Q);
        f->ops.k->rms_norm(kv, kv, j->w->kv_a_layernorm, eps, L);
        mk_rope_apply(kv + L, work->rope + i * R, R, 1);
        mk_kv_put_latent(j->kv, f->first + i, kv);
        if (f->index_topk > 0) {
            float *k = work->index_k + i * c->index_head_dim;

            /* The index key: LayerNorm first, then rotation of its leading dimensions. */
            mla_layer_norm(k, j->w->indexer.k_norm, j->w->indexer.k_norm_bias,
                           c->index_head_dim);
            mk_rope_apply(k, work->rope + i * R, R, c->indexer_rope_interleave);
            mk_kv_put_index(j->kv, f->first + i, k);
        }
    }
}

/* Rotate the queries: the last R of a head in attention, the first R in the indexer. */
static void mla_rows_up(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct mk_mla *j = arg;
    const struct mk_config *c = &j->f->model->config;
    const struct mk_work *work = j->f->work;
    const uint32_t N = c->qk_nope_head_dim, R = c->qk_rope_head_dim, D = c->index_head_dim;
    const size_t H = c->num_attention_heads, n_index = j->f->index_topk > 0 ? c->index_n_heads : 0;
    const float scale = n_index > 0 ? 1.0f / sqrtf((float)n_index * (float)D) : 0.0f;

    (void)worker;
    for (size_t i = begin; i < end; i++) {
        const float *angles = work->rope + i * R;

        for (size_t h = 0; h < H; h++)
            mk_rope_apply(work->q + (i * H + h) * (N + R) + N, angles, R, 1);
        for (size_t h = 0; h < n_index; h++) {
            mk_rope_apply(work->index_q + (i * n_index + h) * D, angles, R,
                          c->indexer_rope_interleave);
            work->index_w[i * n_index + h] *= scale;
        }
    }
}

static void mla_project(struct mk_mla *j)
{
    struct mk_forward *f = j->f;
    const struct mk_config *c = &f->model->config;
    const struct mk_attention_weights *w = j->w;
    const struct mk_indexer_weights *ix = &w->indexer;
    struct mk_work *work = f->work;
    const size_t D = c->hidden_size, Q = c->q_lora_rank, n = f->n;
    struct mk_product p[4];
    size_t n_p = 0;

    /* qr = q_a_proj h, kv = kv_a_proj h, and of the indexer k = wk h, w = weights_proj h */
    p[n_p++] = (struct mk_product){work->kv, w->kv_a_proj_with_mqa.n_out,
                                   &w->kv_a_proj_with_mqa, work->h, D, n};
    if (Q > 0)
        p[n_p++] = (struct mk_product){work->qr, Q, &w->q_a_proj, work->h, D, n};
    else
        p[n_p++] = (struct mk_product){work->q, w->q_proj.n_out, &w->q_proj, work->h, D, n};
    if (f->index_topk > 0) {
        p[n_p++] = (struct mk_product){work->index_k, ix->wk.n_out, &ix->wk, work->h, D, n};
        p[n_p++] = (struct mk_product){work->index_w, ix->weights_proj.n_out,
                                       &ix->weights_proj, work->h, D, n};
    }
    mk_matmul_many(&f->ops, p, n_p);
    mk_team_run(&f->ops.team, mla_rows_down, j, n, 1);

    /* q = q_b_proj RMSNorm(qr), and of the indexer q = wq_b RMSNorm(qr) */
    n_p = 0;
    if (Q > 0)
        p[n_p++] = (struct mk_product){work->q, w->q_b_proj.n_out, &w->q_b_proj, work->qr, Q, n};
    if (f->index_topk > 0)
        p[n_p++] = (struct mk_product){work->index_q, ix->wq_b.n_out, &ix->wq_b, work->qr, Q,
                                       n};
    if (n_p > 0)
        mk_matmul_many(&f->ops, p, n_p);
    mk_team_run(&f->ops.team, mla_rows_up, j, n, 1);
}

/* ---- Which form --------------------------------------------------------------- */

/* Multiply-adds per head decide.  Naive makes keys and values of every token in sight from its
 * latent, once for all rows of the chunk, then meets them all, those not selected too: N + R + V
 * a row and token.  Absorbed pays 2 L + R, for selected tokens alone.  Measured with 128 heads
 * (tests/kernels/bench_attend.c), in units of a multiply-add of the absorbed form: one of a
 * product with integer weights, with others, and one of the naive form's attention, which does
 * fewer of them between loads.  With 16-bit products the unit is cheaper, keys are not. */
static const struct mla_cost {
    double integer, other, naive;
} mla_costs[2] = {{0.42, 1.1, 1.05}, {0.62, 1.9, 1.2}};

static int mla_prefers_naive(const struct mk_forward *f, const struct mk_attention_weights *w)
{
    const struct mk_config *c = &f->model->config;
    const size_t limit = f->index_topk > 0 ? f->index_topk : f->window;
    const double n = (double)(f->first + f->n - mk_mla_begin(f, 0)), rows = (double)f->n;
    const double L = c->kv_lora_rank, R = c->qk_rope_head_dim;
    const double width = (double)c->qk_nope_head_dim + c->v_head_dim;
    const double attended = limit > 0 && (double)limit < n ? (double)limit : n;
    const int integer = mk_type_info(w->k_up[0].type)->block_len > 1;

    const struct mla_cost *cost = &mla_costs[f->work->shape.attend16 ? 1 : 0];

    if (f->form != MK_FORM_AUTO)
        return f->form == MK_FORM_NAIVE;
    return n * width * L * (integer ? cost->integer : cost->other)
         + cost->naive * rows * n * (width + R)
         < rows * attended * (2.0 * L + R);
}

void mk_mla_run(struct mk_forward *f, const struct mk_attention_weights *w, struct mk_kv *kv)
{
    const struct mk_config *c = &f->model->config;
    struct mk_mla job = {f, w, kv};

    mla_project(&job);
    if (f->index_topk > 0)
        mk_dsa_run(f, kv);
    if (mla_prefers_naive(f, w))
        mk_mla_naive(&job);
    else
        mk_mla_absorbed(&job);
    /* y = o_proj o */
    mk_matmul(&f->ops, f->work->y, c->hidden_size, &w->o_proj, f->work->o, w->o_proj.n_in,
              f->n);
}
