/* Latent attention in its absorbed form.
 *
 * The keys of a row are cut into splits of a fixed length.  Each has a softmax of its own, and
 * they are merged in order: the same sums whoever computes which split, and whether a row has
 * all workers or one. */
#include "model/mla.h"

#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "kernels/kernels_math.h"

/* Keys between which the next block's are fetched where keys are not widened: a multiple of what
 * every tile of dots takes. */
#define ABSORBED_SLICE 24u

/* Some heads' softmax under way: room for `heads` of them. */
struct absorbed_sum {
    float *acc;              /* (heads, L) weighted latents */
    float *max, *sum;        /* (heads,) */
};

/* One row with all workers. */
struct absorbed_row {
    const struct mk_mla *j;
    struct mk_mla_span span;
    size_t i;                /* row of the chunk */
    size_t split, n_splits;  /* of the wave */
};

static size_t absorbed_vecs(const struct mk_mla *j)
{
    return mk_ceil_div(j->f->model->config.num_attention_heads, MK_LANES);
}

/* Place n of heads at base: (n, heads, L), then maxima and sums. */
static struct absorbed_sum absorbed_sum_at(float *base, size_t n, size_t heads, size_t L)
{
    float *acc = base + n * heads * (L + 2);

    return (struct absorbed_sum){acc, acc + heads * L, acc + heads * (L + 1)};
}

static struct absorbed_sum absorbed_sum_from(struct absorbed_sum s, size_t h, size_t L)
{
    return (struct absorbed_sum){s.acc + h * L, s.max + h, s.sum + h};
}

static void absorbed_clear(struct absorbed_sum s, size_t heads, size_t L)
{
    memset(s.acc, 0, heads * L * sizeof(float));
    for (size_t h = 0; h < heads; h++) {
        s.max[h] = -INFINITY;
        s.sum[h] = 0.0f;
    }
}

/* Some heads of one row against one split of its keys. */
struct absorbed_part {
    const struct mk_mla *j;
    const struct mk_attend *a;
    struct mk_mla_span span;
    size_t end;              /* of the split's keys in the span */
    size_t n_vec, heads;     /* vectors of heads, heads in them */
};

/* Queries of the row's heads from h on, lanes beside each other; rounded if so wished. */
static void absorbed_queries(const struct absorbed_part *p, size_t i, size_t h)
{
    const struct mk_mla *j = p->j;
    const struct mk_kernels *k = j->f->ops.k;
    const struct mk_config *c = &j->f->model->config;
    const size_t dim = (size_t)c->kv_lora_rank + c->qk_rope_head_dim, words = mk_words16(dim);

    for (size_t n = 0; n < p->heads; n += MK_LANES) {
        const size_t n_rows = mk_min(MK_LANES, p->heads - n);
        const float *q = j->f->work->qa + (i * c->num_attention_heads + h + n) * dim;

        if (!j->f->work->shape.attend16) {
            k->interleave((uint32_t *)(void *)(p->a->q + n * dim), (const uint8_t *)q,
                          dim * sizeof(float), n_rows, dim);
            continue;
        }
        memset(p->a->q_step + n, 0, MK_LANES * sizeof(float));
        k->round16(p->a->keys16, words, p->a->q_step + n, NULL, 0, 0, q, dim, n_rows, dim);
        k->interleave(p->a->q16 + n * words, (const uint8_t *)p->a->keys16,
                      words * sizeof(uint32_t), n_rows, words);
    }
}

/* Fetch n keys from `next` on. */
static void absorbed_fetch(const struct absorbed_part *p, size_t next, size_t n)
{
    next = mk_min(next, p->end);
    mk_kv_prefetch(p->j->kv, p->span.list ? p->span.list + next : NULL, p->span.begin + next,
                   mk_min(n, p->end - next));
}

/* Keys [b, b + n) of the span as floats, in out or where they lie. */
static const float *absorbed_keys(const struct absorbed_part *p, size_t b, float *out, size_t n)
{
    return mk_kv_latents(p->j->kv, p->j->f->ops.k, out, p->span.list ? p->span.list + b : NULL,
                         p->span.begin + b, n);
}

static void absorbed_block(const struct absorbed_part *p, size_t b, size_t n,
                           struct absorbed_sum out)
{
    const struct mk_forward *f = p->j->f;
    const struct mk_config *c = &f->model->config;
    const struct mk_kernels *k = f->ops.k;
    const struct mk_attend *a = p->a;
    const size_t L = c->kv_lora_rank, dim = L + c->qk_rope_head_dim, lds = p->n_vec * MK_LANES;
    const float *keys = absorbed_keys(p, b, a->keys, mk_min(2, n));
    const int in_place = keys != a->keys;
    float shrink[MK_LANES * MK_HEAD_VECS];

    /* The next block is fetched between: in longer bursts it comes too late. */
    for (size_t t = 0; t < n && !in_place; t += 2) {
        absorbed_fetch(p, b + MK_KEY_BLOCK + t, 2);
        absorbed_keys(p, b + t, a->keys + t * dim, mk_min(2, n - t));
    }
    for (size_t t = 0; t < n; t += ABSORBED_SLICE) {
        if (in_place)
            absorbed_fetch(p, b + MK_KEY_BLOCK + t, ABSORBED_SLICE);
        /* s = q' . c + q_pe . k_pe */
        k->attend_dots(a->s + t * lds, lds, a->q, dim * MK_LANES, p->n_vec, keys + t * dim, dim,
                       mk_min(ABSORBED_SLICE, n - t), dim, 1);
    }
    k->attend_soften(a->s, lds, p->n_vec, n, f->model->rope.softmax_scale, out.max, out.sum,
                     shrink);
    /* o' = shrink o' + p c */
    k->attend_values(out.acc, L, a->s, lds, shrink, p->heads, keys, dim, n, L);
}

/* The same with 16-bit products: keys are rounded once for all heads of the part. */
static void absorbed_block16(const struct absorbed_part *p, size_t b, size_t n,
                             struct absorbed_sum out)
{
    const struct mk_forward *f = p->j->f;
    const struct mk_config *c = &f->model->config;
    const struct mk_kernels *k = f->ops.k;
    const struct mk_attend *a = p->a;
    const size_t L = c->kv_lora_rank, dim = L + c->qk_rope_head_dim, lds = p->n_vec * MK_LANES;
    const size_t words = mk_words16(dim), ldp = mk_round_up(L, MK_LANES);
    float shrink[MK_LANES * MK_HEAD_VECS], back[MK_LANES * MK_HEAD_VECS];

    for (size_t t = 0; t < n; t += 2) {
        const size_t n_rows = mk_min(2, n - t);

        absorbed_fetch(p, b + MK_KEY_BLOCK16 + t, 2);
        k->round16(a->keys16 + t * words, words, a->key_step + t, a->pairs + t / 2 * ldp,
                   ldp, L, absorbed_keys(p, b + t, a->keys, n_rows), dim, n_rows, dim);
    }
    /* s = q' . c + q_pe . k_pe */
    k->attend_dots16(a->s, lds, a->q16, words * MK_LANES, a->q_step, p->n_vec, a->keys16, words,
                     a->key_step, n, words);
    k->attend_soften(a->s, lds, p->n_vec, n, f->model->rope.softmax_scale, out.max, out.sum,
                     shrink);
    k->attend_weights16(a->s, lds, p->n_vec, back, a->key_step, n);
    /* o' = shrink o' + p c */
    k->attend_values16(out.acc, L, (const uint32_t *)(const void *)a->s, lds, back, shrink,
                       p->heads, a->pairs, ldp, mk_ceil_div(n, 2), L);
}

/* Vectors [v, v + n_vec) of row i's heads against one split of its keys; out starts anew. */
static void absorbed_split(const struct mk_mla *j, size_t i, struct mk_mla_span span,
                           size_t split, size_t v, size_t n_vec, struct absorbed_sum out,
                           uint32_t worker)
{
    const struct mk_config *c = &j->f->model->config;
    const struct mk_work *work = j->f->work;
    const struct absorbed_part p = {
        j, &work->attend[worker], span, mk_min(span.n, (split + 1) * MK_SPLIT), n_vec,
        mk_min(n_vec * MK_LANES, c->num_attention_heads - v * MK_LANES)};
    const size_t step = work->shape.attend16 ? MK_KEY_BLOCK16 : MK_KEY_BLOCK;

    absorbed_queries(&p, i, v * MK_LANES);
    absorbed_clear(out, n_vec * MK_LANES, c->kv_lora_rank);
    for (size_t b = split * MK_SPLIT; b < p.end; b += step) {
        const size_t n = mk_min(step, p.end - b);

        if (work->shape.attend16)
            absorbed_block16(&p, b, n, out);
        else
            absorbed_block(&p, b, n, out);
    }
}

/* to += from: both shrink to the larger maximum. */
static void absorbed_merge(const struct mk_mla *j, struct absorbed_sum to,
                           struct absorbed_sum from, size_t heads)
{
    const size_t L = j->f->model->config.kv_lora_rank;

    for (size_t h = 0; h < heads; h++) {
        const float top = to.max[h] > from.max[h] ? to.max[h] : from.max[h];
        const float old = mk_exp(to.max[h] - top), new = mk_exp(from.max[h] - top);

        j->f->ops.k->attend_values(to.acc + h * L, L, &new, 1, &old, 1, from.acc + h * L, L, 1,
                                   L);
        to.sum[h] = fmaf(from.sum[h], new, to.sum[h] * old);
        to.max[h] = top;
    }
}

/* o' = acc / sum, in place of the queries of row i. */
static void absorbed_finish(const struct mk_mla *j, size_t i, size_t h, size_t heads,
                            struct absorbed_sum s)
{
    const struct mk_config *c = &j->f->model->config;
    const size_t L = c->kv_lora_rank, dim = L + c->qk_rope_head_dim;

    for (size_t n = 0; n < heads; n++) {
        const float inverse = 1.0f / s.sum[n];
        float *out = j->f->work->qa + (i * c->num_attention_heads + h + n) * dim;

        memset(out, 0, L * sizeof(float));
        j->f->ops.k->attend_values(out, L, &inverse, 1, &inverse, 1, s.acc + n * L, L, 1, L);
    }
}

/* ---- A row per worker --------------------------------------------------- */

/* Items are (row, vector of heads) pairs. */
static void absorbed_rows(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct mk_mla *j = arg;
    const struct mk_config *c = &j->f->model->config;
    const size_t L = c->kv_lora_rank, n_vecs = absorbed_vecs(j);
    const size_t room = MK_HEAD_VECS * MK_LANES;
    const struct absorbed_sum part = absorbed_sum_at(j->f->work->attend[worker].sums, 0, room, L);
    const struct absorbed_sum all = absorbed_sum_at(j->f->work->attend[worker].sums, 1, room, L);

    for (size_t at = begin, n; at < end; at += n) {
        const size_t i = at / n_vecs, v = at % n_vecs, h = v * MK_LANES;
        const struct mk_mla_span span = mk_mla_span(j->f, i);

        n = mk_min(mk_min(MK_HEAD_VECS, n_vecs - v), end - at);
        const size_t heads = mk_min(n * MK_LANES, c->num_attention_heads - h);

        absorbed_clear(all, n * MK_LANES, L);
        for (size_t split = 0; split * MK_SPLIT < span.n; split++) {
            absorbed_split(j, i, span, split, v, n, part, worker);
            absorbed_merge(j, all, part, heads);
        }
        absorbed_finish(j, i, h, heads, all);
    }
}

/* ---- All workers on a row ----------------------------------------------- */

/* Items are (split of the wave, vector of heads) pairs. */
static void absorbed_wave(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct absorbed_row *r = arg;
    const size_t L = r->j->f->model->config.kv_lora_rank, n_vecs = absorbed_vecs(r->j);

    for (size_t at = begin, n; at < end; at += n) {
        const size_t split = at / n_vecs, v = at % n_vecs;
        const struct absorbed_sum out = absorbed_sum_at(r->j->f->work->parts, split + 1,
                                                        n_vecs * MK_LANES, L);

        n = mk_min(mk_min(MK_HEAD_VECS, n_vecs - v), end - at);
        absorbed_split(r->j, r->i, r->span, r->split + split, v, n,
                       absorbed_sum_from(out, v * MK_LANES, L), worker);
    }
}

/* Items are heads. */
static void absorbed_merge_wave(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct absorbed_row *r = arg;
    const size_t L = r->j->f->model->config.kv_lora_rank;
    const size_t heads = absorbed_vecs(r->j) * MK_LANES;
    float *parts = r->j->f->work->parts;
    const struct absorbed_sum all = absorbed_sum_from(absorbed_sum_at(parts, 0, heads, L),
                                                      begin, L);

    (void)worker;
    for (size_t n = 0; n < r->n_splits; n++)
        absorbed_merge(r->j, all,
                       absorbed_sum_from(absorbed_sum_at(parts, n + 1, heads, L), begin, L),
                       end - begin);
    if ((r->split + r->n_splits) * MK_SPLIT >= r->span.n)
        absorbed_finish(r->j, r->i, begin, end - begin, all);
}

static void absorbed_one_row(const struct mk_mla *j, size_t i)
{
    const struct mk_config *c = &j->f->model->config;
    const size_t n_vecs = absorbed_vecs(j);
    struct absorbed_row r = {.j = j, .span = mk_mla_span(j->f, i), .i = i};
    const size_t n_splits = mk_ceil_div(r.span.n, MK_SPLIT);

    absorbed_clear(absorbed_sum_at(j->f->work->parts, 0, n_vecs * MK_LANES, c->kv_lora_rank),
                   n_vecs * MK_LANES, c->kv_lora_rank);
    for (r.split = 0; r.split < n_splits; r.split += r.n_splits) {
        r.n_splits = mk_min(MK_WAVE, n_splits - r.split);
        mk_team_run(&j->f->ops.team, absorbed_wave, &r, r.n_splits * n_vecs, 1);
        mk_team_run(&j->f->ops.team, absorbed_merge_wave, &r, c->num_attention_heads, 1);
    }
}

void mk_mla_attend_absorbed(const struct mk_mla *j)
{
    struct mk_forward *f = j->f;
    struct mk_mla rows = *j;
    const uint64_t start = mk_time_ns();

    if (f->n >= 4 * (size_t)f->ops.team.n)
        mk_team_run(&f->ops.team, absorbed_rows, &rows, f->n * absorbed_vecs(j), 1);
    else
        for (size_t i = 0; i < f->n; i++)
            absorbed_one_row(j, i);
    f->work->times.attention += mk_time_ns() - start;
}

void mk_mla_absorbed(const struct mk_mla *j)
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

    mk_mla_attend_absorbed(j);

    /* o = v_b o' */
    for (size_t h = 0; h < H; h++)
        work->products[h] = (struct mk_product){work->o + h * V, H * V, &w->v_b[h],
                                                work->qa + h * (L + R), H * (L + R), n};
    mk_matmul_many(&f->ops, work->products, H);
}
