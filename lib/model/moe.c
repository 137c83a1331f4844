/* Feed-forward parts: dense, and a mixture of experts.
 *
 * Reference: DeepSeek-V3.2-Exp inference/model.py @8631a81, Gate.forward and MoE.forward;
 * transformers' deepseek_v2 for the groups of V2.  Differs: ties go to the lowest index. */
#include "model/forward.h"

#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "kernels/kernels_math.h"

/* ---- The router --------------------------------------------------------- */

/* Index of the largest value, the lowest among equals.  NaN marks what was taken. */
static size_t moe_best(const float *x, size_t n)
{
    size_t best = n;

    for (size_t i = 0; i < n; i++)
        if (best == n ? x[i] == x[i] : x[i] > x[best])
            best = i;
    return best == n ? 0 : best;
}

/* A group's score: the sum of its two best (noaux_tc), or its best (V2). */
static float moe_group_score(const float *x, size_t n, int two)
{
    float first = -INFINITY, second = -INFINITY;

    for (size_t i = 0; i < n; i++) {
        if (x[i] > first) {
            second = first;
            first = x[i];
        } else if (x[i] > second) {
            second = x[i];
        }
    }
    return two && n > 1 ? first + second : first;
}

/* Leave only the experts of the best groups; the others become -inf. */
static void moe_keep_groups(float *choice, float *score, const struct mk_config *c)
{
    const size_t size = c->n_routed_experts / c->n_group;
    uint32_t n_kept = 0;

    for (uint32_t g = 0; g < c->n_group; g++)
        score[g] = moe_group_score(choice + g * size, size, c->topk_method == MK_TOPK_NOAUX);
    /* Group g stays when fewer than topk_group precede it, an earlier one winning a tie. */
    for (uint32_t g = 0; g < c->n_group; g++) {
        uint32_t n_before = 0;

        for (uint32_t o = 0; o < c->n_group; o++)
            n_before += score[o] > score[g] || (o < g && score[o] == score[g]);
        if (n_before < c->topk_group && n_kept < c->topk_group) {
            n_kept++;
            continue;
        }
        for (size_t e = 0; e < size; e++)
            choice[g * size + e] = -INFINITY;
    }
}

/* Whether a tap of row t's sequence says which experts it takes. */
static int moe_told(const struct mk_row *row, uint32_t l, int32_t *experts)
{
    for (const struct mk_tap *tap = row->seq->taps; tap != NULL; tap = tap->next)
        if (tap->experts != NULL && tap->experts(tap->user, l, row->pos, experts))
            return 1;
    return 0;
}

/* The best by s + bias, within the best groups. */
static void moe_choose(const struct mk_forward *f, const float *bias, size_t t)
{
    const struct mk_config *c = &f->model->config;
    const struct mk_work *w = f->work;
    const size_t E = c->n_routed_experts, K = c->num_experts_per_tok;
    const float *s = w->router + t * E;
    float *choice = w->choice + t * E;

    for (size_t e = 0; e < E; e++)
        choice[e] = bias != NULL ? s[e] + bias[e] : s[e];
    if (c->n_group > 1 && c->topk_method != MK_TOPK_GREEDY)
        moe_keep_groups(choice, w->group_scores + t * c->n_group, c);
    for (size_t k = 0; k < K; k++) {
        const size_t e = moe_best(choice, E);

        w->experts[t * K + k] = (int32_t)e;
        choice[e] = NAN;
    }
}

struct moe_job {
    struct mk_forward *f;
    const struct mk_layer_weights *w;
    uint32_t l;
    size_t width;                /* of gate and up */
};

/* One row: scores s from logits, selection by s + bias or by a tap, weights from s. */
static void moe_route_row(const struct moe_job *j, size_t t)
{
    const struct mk_forward *f = j->f;
    const struct mk_config *c = &f->model->config;
    const struct mk_work *w = f->work;
    const size_t E = c->n_routed_experts, K = c->num_experts_per_tok;
    float *s = w->router + t * E;
    float *weights = w->expert_weights + t * K, sum = 0.0f;
    int32_t *experts = w->experts + t * K;

    if (c->scoring_func == MK_SCORING_SIGMOID)
        for (size_t e = 0; e < E; e++)
            s[e] = 1.0f / (1.0f + mk_exp(-s[e]));
    else
        f->ops.k->softmax(s, E);
    if (!moe_told(&f->rows[t], j->l, experts))
        moe_choose(f, j->w->e_score_correction_bias, t);
    for (size_t k = 0; k < K; k++) {
        weights[k] = s[experts[k]];
        sum += weights[k];
    }
    for (size_t k = 0; k < K; k++)
        weights[k] = (c->norm_topk_prob ? weights[k] / sum : weights[k])
                   * (float)c->routed_scaling_factor;
}

static void moe_route_rows(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct moe_job *j = arg;

    (void)worker;
    for (size_t t = begin; t < end; t++)
        moe_route_row(j, t);
}

/* Sort the (token, expert) pairs by expert, tokens ascending within. */
static void moe_sort_pairs(struct mk_forward *f)
{
    const struct mk_config *c = &f->model->config;
    struct mk_work *w = f->work;
    const size_t E = c->n_routed_experts, K = c->num_experts_per_tok;
    int32_t *first = w->first_pair;

    memset(first, 0, (E + 1) * sizeof(*first));
    for (size_t i = 0; i < f->n * K; i++)
        first[w->experts[i] + 1]++;
    for (size_t e = 0; e < E; e++)
        first[e + 1] += first[e];
    for (size_t i = 0; i < f->n * K; i++) {
        const int32_t pair = first[w->experts[i]]++;

        w->pair_token[pair] = (int32_t)(i / K);
        w->pair_weight[pair] = w->expert_weights[i];
    }
    /* first[e] is now the end of e, the start of e + 1. */
    memmove(first + 1, first, E * sizeof(*first));
    first[0] = 0;
    memset(w->n_token_pairs, 0, f->n * sizeof(*w->n_token_pairs));
    for (size_t i = 0; i < f->n * K; i++) {
        const size_t t = (size_t)w->pair_token[i];

        w->token_pairs[t * K + (size_t)w->n_token_pairs[t]++] = (int32_t)i;
    }
}

/* ---- Experts ------------------------------------------------------------ */

static void moe_swiglu_rows(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct moe_job *j = arg;
    const struct mk_work *w = j->f->work;

    (void)worker;
    /* silu(gate) * up, in place */
    for (size_t at = begin * j->width; at < end * j->width; at += j->width)
        j->f->ops.k->swiglu(w->gate + at, w->gate + at, w->up + at, j->width);
}

static void moe_gather_rows(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct moe_job *j = arg;
    const struct mk_work *w = j->f->work;
    const size_t D = j->f->model->config.hidden_size;

    (void)worker;
    for (size_t i = begin; i < end; i++)
        memcpy(w->pairs + i * D, w->h + (size_t)w->pair_token[i] * D, D * sizeof(float));
}

/* y[t] += sum over its experts, ascending, of weight * output. */
static void moe_scatter_rows(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct moe_job *j = arg;
    const struct mk_work *w = j->f->work;
    const struct mk_config *c = &j->f->model->config;
    const size_t D = c->hidden_size, K = c->num_experts_per_tok;

    (void)worker;
    for (size_t t = begin; t < end; t++)
        for (size_t i = 0; i < K; i++) {
            const size_t pair = (size_t)w->token_pairs[t * K + i];

            j->f->ops.k->axpy(w->y + t * D, w->pair_weight[pair], w->pairs + pair * D, D);
        }
}

/* gate and up of every expert that has tokens, and of the shared ones, as one job. */
static void moe_products_in(struct mk_forward *f, const struct mk_layer_weights *w,
                            float *shared_gate, float *shared_up)
{
    const struct mk_config *c = &f->model->config;
    struct mk_work *work = f->work;
    const size_t D = c->hidden_size, I = c->moe_intermediate_size;
    size_t n = 0;

    for (size_t e = 0; e < c->n_routed_experts; e++) {
        const size_t at = (size_t)work->first_pair[e];
        const size_t rows = (size_t)work->first_pair[e + 1] - at;
        const struct mk_mlp_weights *mlp = &w->experts[e];
        /* A lone token is read in place, so that a single row is rounded once for all. */
        const float *x = rows == 1 ? work->h + (size_t)work->pair_token[at] * D
                                   : work->pairs + at * D;

        if (rows == 0)
            continue;
        work->products[n++] = (struct mk_product){work->gate + at * I, I, &mlp->gate_proj, x, D,
                                                  rows};
        work->products[n++] = (struct mk_product){work->up + at * I, I, &mlp->up_proj, x, D,
                                                  rows};
    }
    if (w->shared_experts.gate_proj.data != NULL) {
        const struct mk_mlp_weights *mlp = &w->shared_experts;
        const size_t wide = mlp->gate_proj.n_out;

        work->products[n++] = (struct mk_product){shared_gate, wide, &mlp->gate_proj, work->h, D,
                                                  f->n};
        work->products[n++] = (struct mk_product){shared_up, wide, &mlp->up_proj, work->h, D,
                                                  f->n};
    }
    mk_matmul_many(&f->ops, work->products, n);
}

/* down of the same; routed outputs to pairs, the shared one to y. */
static void moe_products_out(struct mk_forward *f, const struct mk_layer_weights *w,
                             const float *shared)
{
    const struct mk_config *c = &f->model->config;
    struct mk_work *work = f->work;
    const size_t D = c->hidden_size, I = c->moe_intermediate_size;
    size_t n = 0;

    for (size_t e = 0; e < c->n_routed_experts; e++) {
        const size_t at = (size_t)work->first_pair[e];
        const size_t rows = (size_t)work->first_pair[e + 1] - at;

        if (rows > 0)
            work->products[n++] = (struct mk_product){work->pairs + at * D, D,
                                                      &w->experts[e].down_proj,
                                                      work->gate + at * I, I, rows};
    }
    if (w->shared_experts.down_proj.data != NULL)
        work->products[n++] = (struct mk_product){work->y, D, &w->shared_experts.down_proj,
                                                  shared, w->shared_experts.down_proj.n_in,
                                                  f->n};
    else
        memset(work->y, 0, f->n * D * sizeof(float));
    mk_matmul_many(&f->ops, work->products, n);
}

/* y = Shared(h) + sum over chosen e of weight_e * Expert_e(h) */
void mk_moe_run(struct mk_forward *f, const struct mk_layer_weights *w, uint32_t l)
{
    const struct mk_config *c = &f->model->config;
    struct mk_work *work = f->work;
    const size_t n_pairs = f->n * c->num_experts_per_tok, I = c->moe_intermediate_size;
    struct moe_job job = {f, w, l, I};

    /* logits = gate h */
    mk_matmul(&f->ops, work->router, c->n_routed_experts, &w->gate, work->h, c->hidden_size,
              f->n);
    mk_team_run(&f->ops.team, moe_route_rows, &job, f->n, 1);
    moe_sort_pairs(f);
    if (f->n > 1)
        mk_team_run(&f->ops.team, moe_gather_rows, &job, n_pairs, 1);

    moe_products_in(f, w, work->gate + n_pairs * I, work->up + n_pairs * I);
    /* The shared experts' rows lie behind the pairs, n_shared_experts * I wide. */
    mk_team_run(&f->ops.team, moe_swiglu_rows, &job, n_pairs + f->n * c->n_shared_experts, 1);
    moe_products_out(f, w, work->gate + n_pairs * I);
    mk_team_run(&f->ops.team, moe_scatter_rows, &job, f->n, 1);
}

/* y = down_proj (silu(gate_proj h) * up_proj h) */
void mk_mlp_run(struct mk_forward *f, const struct mk_mlp_weights *w)
{
    struct mk_work *work = f->work;
    const size_t D = f->model->config.hidden_size, I = w->gate_proj.n_out;
    struct moe_job job = {f, NULL, 0, I};
    const struct mk_product p[2] = {
        {work->gate, I, &w->gate_proj, work->h, D, f->n},
        {work->up, I, &w->up_proj, work->h, D, f->n},
    };

    mk_matmul_many(&f->ops, p, 2);
    mk_team_run(&f->ops.team, moe_swiglu_rows, &job, f->n, 1);
    mk_matmul(&f->ops, work->y, D, &w->down_proj, work->gate, I, f->n);
}
