/* Multi-head latent attention, in two forms that are equal in exact arithmetic.
 *
 * Reference: DeepSeek-V3 inference/model.py @9b4e978, MLA.forward.  Differs: keys are worked
 * through in blocks with a running softmax, and only those that were selected. */
#include "model/forward.h"

#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "tensor/kernels_math.h"

struct mla_job {
    struct mk_forward *f;
    const struct mk_attention_weights *w;
    struct mk_kv *kv;
    size_t key, n_keys;          /* naive: the block at hand */
};

/* Whether row i attends to a list of tokens; otherwise to all from mla_begin up to itself. */
static int mla_is_sparse(const struct mk_forward *f, size_t i)
{
    return f->index_topk > 0 && f->work->n_selected[i] < f->first + i + 1;
}

/* The first token that row i sees. */
static size_t mla_begin(const struct mk_forward *f, size_t i)
{
    const size_t seen = f->first + i + 1;

    return f->window > 0 && seen > f->window ? seen - f->window : 0;
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
    const struct mla_job *j = arg;
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
    const struct mla_job *j = arg;
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

static void mla_project(struct mla_job *j)
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

/* ---- The running softmax ------------------------------------------------ */

/* Turn scores s (n,) into weights against the maximum so far: acc (dim,) and *sum shrink by
 * what the maximum grew. */
static void mla_soften(float *s, size_t n, float *max, float *sum, float *acc, size_t dim)
{
    float top = *max, added = 0.0f;

    for (size_t i = 0; i < n; i++)
        top = s[i] > top ? s[i] : top;
    if (top > *max) {
        const float shrink = mk_exp(*max - top);

        for (size_t i = 0; i < dim; i++)
            acc[i] *= shrink;
        *sum *= shrink;
        *max = top;
    }
    for (size_t i = 0; i < n; i++) {
        s[i] = mk_exp(s[i] - top);
        added += s[i];
    }
    *sum += added;
}

/* ---- Absorbed: queries meet the latents themselves ---------------------- */

/* Heads [h0, h1) of row i against the latents that it attends to; qa becomes o'. */
static void mla_absorbed_row(const struct mla_job *j, size_t i, size_t h0, size_t h1,
                             float *block, float *acc)
{
    const struct mk_forward *f = j->f;
    const struct mk_config *c = &f->model->config;
    const struct mk_kernels *k = f->ops.k;
    const struct mk_work *work = f->work;
    const size_t H = c->num_attention_heads, L = c->kv_lora_rank;
    const size_t dim = L + c->qk_rope_head_dim, stride = L + 2;
    const int sparse = mla_is_sparse(f, i);
    const size_t begin = mla_begin(f, i);
    const size_t n_keys = sparse ? work->n_selected[i] : f->first + i + 1 - begin;
    const int32_t *list = sparse ? work->selected + i * work->selected_stride : NULL;

    for (size_t h = h0; h < h1; h++) {
        memset(acc + h * stride, 0, stride * sizeof(*acc));
        acc[h * stride + L] = -INFINITY;
    }
    for (size_t b = 0; b < n_keys; b += MK_KEY_BLOCK) {
        const size_t n = mk_min(MK_KEY_BLOCK, n_keys - b);
        const float *keys = mk_kv_latents(j->kv, k, block, sparse ? list + b : NULL, begin + b, n);

        for (size_t h = h0; h < h1; h++) {
            const float *q = work->qa + (i * H + h) * dim;
            float s[MK_KEY_BLOCK], *a = acc + h * stride;

            /* s = (q' . c + q_pe . k_pe) * scale */
            for (size_t t = 0; t < n; t++)
                s[t] = k->dot(q, keys + t * dim, dim) * f->model->rope.softmax_scale;
            mla_soften(s, n, &a[L], &a[L + 1], a, L);
            /* o' += p c */
            for (size_t t = 0; t < n; t++)
                k->axpy(a, s[t], keys + t * dim, L);
        }
    }
    for (size_t h = h0; h < h1; h++) {
        const float *a = acc + h * stride;
        float *out = work->qa + (i * H + h) * dim;

        for (size_t d = 0; d < L; d++)
            out[d] = a[d] / a[L + 1];
    }
}

/* Items are (row, head) pairs. */
static void mla_absorbed_part(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct mla_job *j = arg;
    const struct mk_config *c = &j->f->model->config;
    const size_t H = c->num_attention_heads, L = c->kv_lora_rank;
    float *block = j->f->work->block
                 + (size_t)worker * MK_KEY_BLOCK * (L + c->qk_rope_head_dim);
    float *acc = j->f->work->acc + (size_t)worker * H * (L + 2);

    for (size_t at = begin; at < end;) {
        const size_t i = at / H, h0 = at % H, h1 = mk_min(H, h0 + end - at);

        mla_absorbed_row(j, i, h0, h1, block, acc);
        at += h1 - h0;
    }
}

static void mla_absorbed(struct mla_job *j)
{
    struct mk_forward *f = j->f;
    const struct mk_config *c = &f->model->config;
    const struct mk_attention_weights *w = j->w;
    struct mk_work *work = f->work;
    const size_t H = c->num_attention_heads, N = c->qk_nope_head_dim, L = c->kv_lora_rank;
    const size_t R = c->qk_rope_head_dim, V = c->v_head_dim, n = f->n;

    /* q' = k_b q_nope, head by head; the rope part goes along as it is */
    for (size_t h = 0; h < H; h++)
        work->products[h] = (struct mk_product){work->qa + h * (L + R), H * (L + R), &w->k_b[h],
                                                work->q + h * (N + R), H * (N + R), n};
    mk_matmul_many(&f->ops, work->products, H);
    for (size_t i = 0; i < n * H; i++)
        memcpy(work->qa + i * (L + R) + L, work->q + i * (N + R) + N, R * sizeof(float));

    mk_team_run(&f->ops.team, mla_absorbed_part, j, n * H, 1);

    /* o = v_b o' */
    for (size_t h = 0; h < H; h++)
        work->products[h] = (struct mk_product){work->o + h * V, H * V, &w->v_b[h],
                                                work->qa + h * (L + R), H * (L + R), n};
    mk_matmul_many(&f->ops, work->products, H);
}

/* ---- Naive: keys and values per head ------------------------------------ */

/* The part of row i's list that lies in the block: its first item, and how many. */
static size_t mla_in_block(const struct mla_job *j, size_t i, const int32_t **list)
{
    const struct mk_work *work = j->f->work;
    const int32_t *l = work->selected + i * work->selected_stride;
    size_t lo = 0, hi = work->n_selected[i], n = 0;

    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;

        if ((size_t)l[mid] < j->key)
            lo = mid + 1;
        else
            hi = mid;
    }
    *list = l + lo;
    while (lo + n < work->n_selected[i] && (size_t)l[lo + n] < j->key + j->n_keys)
        n++;
    return n;
}

/* Head h of row i against n keys of the block: those of list, or from the from-th on. */
static void mla_naive_head(const struct mla_job *j, size_t i, size_t h, const int32_t *list,
                           size_t from, size_t n)
{
    const struct mk_forward *f = j->f;
    const struct mk_config *c = &f->model->config;
    const struct mk_kernels *k = f->ops.k;
    const struct mk_work *work = f->work;
    const size_t H = c->num_attention_heads, N = c->qk_nope_head_dim, V = c->v_head_dim;
    const size_t R = c->qk_rope_head_dim, L = c->kv_lora_rank;
    const float *q = work->q + (i * H + h) * (N + R);
    float *stats = work->stats + (i * H + h) * 2, *acc = work->o + (i * H + h) * V;
    float s[MK_KEY_BLOCK];

    /* s = (q_nope . k_nope + q_pe . k_pe) * scale */
    for (size_t t = 0; t < n; t++) {
        const size_t key = list != NULL ? (size_t)list[t] - j->key : from + t;

        s[t] = (k->dot(q, work->k_block + (key * H + h) * N, N)
                + k->dot(q + N, work->block + key * (L + R) + L, R))
             * f->model->rope.softmax_scale;
    }
    mla_soften(s, n, &stats[0], &stats[1], acc, V);
    /* o += p v */
    for (size_t t = 0; t < n; t++) {
        const size_t key = list != NULL ? (size_t)list[t] - j->key : from + t;

        k->axpy(acc, s[t], work->v_block + (key * H + h) * V, V);
    }
}

/* Items are (row, head) pairs. */
static void mla_naive_part(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct mla_job *j = arg;
    const size_t H = j->f->model->config.num_attention_heads;

    (void)worker;
    for (size_t at = begin; at < end; at++) {
        const size_t i = at / H, last = j->f->first + i;
        const int32_t *list = NULL;
        const size_t end_key = mk_min(j->key + j->n_keys, last + 1);
        const size_t key = mk_max(j->key, mla_begin(j->f, i));
        size_t n = end_key > key ? end_key - key : 0;

        if (n > 0 && mla_is_sparse(j->f, i))
            n = mla_in_block(j, i, &list);
        if (n > 0)
            mla_naive_head(j, i, at % H, list, key - j->key, n);
    }
}

static void mla_naive_block(struct mla_job *j)
{
    struct mk_forward *f = j->f;
    const struct mk_config *c = &f->model->config;
    struct mk_work *work = f->work;
    const size_t H = c->num_attention_heads, N = c->qk_nope_head_dim, V = c->v_head_dim;
    const size_t dim = c->kv_lora_rank + c->qk_rope_head_dim;
    const float *latents = mk_kv_latents(j->kv, f->ops.k, work->block, NULL, j->key, j->n_keys);

    if (latents != work->block)
        memcpy(work->block, latents, j->n_keys * dim * sizeof(float));
    /* k_nope = k_up c, v = v_b c, head by head */
    for (size_t h = 0; h < H; h++) {
        work->products[2 * h] = (struct mk_product){work->k_block + h * N, H * N, &j->w->k_up[h],
                                                    work->block, dim, j->n_keys};
        work->products[2 * h + 1] = (struct mk_product){work->v_block + h * V, H * V,
                                                        &j->w->v_b[h], work->block, dim,
                                                        j->n_keys};
    }
    mk_matmul_many(&f->ops, work->products, 2 * H);
    mk_team_run(&f->ops.team, mla_naive_part, j, f->n * H, 1);
}

static void mla_naive(struct mla_job *j)
{
    const struct mk_forward *f = j->f;
    const struct mk_work *work = f->work;
    const size_t H = f->model->config.num_attention_heads, V = f->model->config.v_head_dim;
    const size_t n_keys = f->first + f->n;

    memset(work->o, 0, f->n * H * V * sizeof(float));
    for (size_t i = 0; i < f->n * H; i++) {
        work->stats[2 * i] = -INFINITY;
        work->stats[2 * i + 1] = 0.0f;
    }
    for (j->key = mla_begin(f, 0); j->key < n_keys; j->key += MK_KEY_BLOCK) {
        j->n_keys = mk_min(MK_KEY_BLOCK, n_keys - j->key);
        mla_naive_block(j);
    }
    for (size_t i = 0; i < f->n * H; i++)
        for (size_t d = 0; d < V; d++)
            work->o[i * V + d] /= work->stats[2 * i + 1];
}

/* ---- Both --------------------------------------------------------------- */

/* Naive pays (N + V) L products to expand a key for all rows of the chunk, and saves
 * 2 L - N - V per row and attended key. */
static int mla_prefers_naive(const struct mk_forward *f)
{
    const struct mk_config *c = &f->model->config;
    const double n = (double)(f->first + f->n - mla_begin(f, 0)), L = c->kv_lora_rank;
    const double width = (double)c->qk_nope_head_dim + c->v_head_dim;
    const size_t limit = f->index_topk > 0 ? f->index_topk : f->window;
    const double attended = limit > 0 && (double)limit < n ? (double)limit : n;

    if (f->form != MK_FORM_AUTO)
        return f->form == MK_FORM_NAIVE;
    return n * width * L < (double)f->n * attended * (2.0 * L - width);
}

void mk_mla_run(struct mk_forward *f, const struct mk_attention_weights *w, struct mk_kv *kv)
{
    const struct mk_config *c = &f->model->config;
    struct mla_job job = {f, w, kv, 0, 0};

    mla_project(&job);
    if (f->index_topk > 0)
        mk_dsa_run(f, kv);
    if (mla_prefers_naive(f))
        mla_naive(&job);
    else
        mla_absorbed(&job);
    /* y = o_proj o */
    mk_matmul(&f->ops, f->work->y, c->hidden_size, &w->o_proj, f->work->o, w->o_proj.n_in,
              f->n);
}
