/* Latent attention in its naive form: keys and values per head, a block of tokens at a time.
 * Lanes are rows of the chunk, so that no matrix of all scores is ever held. */
#include "model/mla.h"

#include <math.h>
#include <string.h>

#include "base/checked.h"

struct naive_job {
    const struct mk_mla *j;
    size_t key, n_keys;          /* the block at hand */
    size_t head, n_heads;        /* and the heads that it is made for */
};

#define NAIVE_ROWS ((size_t)MK_LANES * MK_HEAD_VECS)    /* rows that share a tile */

/* Whether rows of a group see the block's keys: all, some, or none. */
enum { NAIVE_ALL, NAIVE_SOME, NAIVE_NONE };

static size_t naive_padded(const struct mk_forward *f)
{
    return mk_round_up(f->n, MK_LANES);
}

/* The queries of (head, vector of rows) pairs, lanes beside each other; rounded if so wished. */
static void naive_pack(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct naive_job *b = arg;
    const struct mk_forward *f = b->j->f;
    const struct mk_config *c = &f->model->config;
    const struct mk_kernels *k = f->ops.k;
    const struct mk_attend *a = &f->work->attend[worker];
    const size_t H = c->num_attention_heads, dim = c->qk_nope_head_dim + c->qk_rope_head_dim;
    const size_t n_vecs = naive_padded(f) / MK_LANES, words = mk_words16(dim);

    for (size_t at = begin; at < end; at++) {
        const size_t h = at / n_vecs, i = at % n_vecs * MK_LANES, n = mk_min(MK_LANES, f->n - i);
        const float *q = f->work->q + (i * H + h) * dim;

        if (!f->work->shape.attend16) {
            k->interleave((uint32_t *)(void *)(f->work->qa + at * dim * MK_LANES),
                          (const uint8_t *)q, H * dim * sizeof(float), n, dim);
            continue;
        }
        memset(f->work->q_step + at * MK_LANES, 0, MK_LANES * sizeof(float));
        k->round16(a->keys16, words, f->work->q_step + at * MK_LANES, NULL, 0, 0, q, H * dim,
                   n, dim);
        k->interleave((uint32_t *)(void *)f->work->qa + at * words * MK_LANES,
                      (const uint8_t *)a->keys16, words * sizeof(uint32_t), n, words);
    }
}

/* What row i sees of the block, into column l of bias (n_keys, ldb): 0, or -inf. */
static void naive_bias_row(const struct naive_job *b, size_t i, float *bias, size_t ldb)
{
    const struct mk_mla_span span = mk_mla_span(b->j->f, i);
    const size_t end = b->key + b->n_keys;
    size_t lo = 0, hi = span.n;

    if (span.list == NULL) {
        for (size_t t = 0; t < b->n_keys; t++)
            bias[t * ldb] = b->key + t >= span.begin && b->key + t < span.begin + span.n
                          ? 0.0f : -INFINITY;
        return;
    }
    for (size_t t = 0; t < b->n_keys; t++)
        bias[t * ldb] = -INFINITY;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;

        if ((size_t)span.list[mid] < b->key)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < span.n && (size_t)span.list[lo] < end; lo++)
        bias[((size_t)span.list[lo] - b->key) * ldb] = 0.0f;
}

/* Items are groups of rows. */
static void naive_bias(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct naive_job *b = arg;
    const struct mk_forward *f = b->j->f;
    const size_t last = b->key + b->n_keys;

    (void)worker;
    for (size_t g = begin; g < end; g++) {
        const size_t i0 = g * NAIVE_ROWS, i1 = mk_min(i0 + NAIVE_ROWS, f->n);
        float *bias = f->work->bias + g * MK_EXPAND * NAIVE_ROWS;
        int32_t *kind = &f->work->bias_kind[g];

        *kind = f->first + i1 <= b->key || mk_mla_begin(f, i0) >= last ? NAIVE_NONE
              : f->index_topk == 0 && f->first + i0 + 1 >= last
                && mk_mla_begin(f, i1 - 1) <= b->key ? NAIVE_ALL : NAIVE_SOME;
        if (*kind == NAIVE_SOME) {
            memset(bias, 0, b->n_keys * NAIVE_ROWS * sizeof(*bias));
            for (size_t i = i0; i < i1; i++)
                naive_bias_row(b, i, bias + (i - i0), NAIVE_ROWS);
        }
    }
}

/* Head h of a group of rows against keys [t, t + n) of the block: scores into s. */
static void naive_dots(const struct naive_job *b, size_t h, size_t g, size_t t, size_t n,
                       size_t n_vec, uint32_t worker)
{
    const struct mk_forward *f = b->j->f;
    const struct mk_config *c = &f->model->config;
    const struct mk_work *work = f->work;
    const struct mk_attend *a = &work->attend[worker];
    const size_t dim = c->qk_nope_head_dim + c->qk_rope_head_dim, words = mk_words16(dim);
    const size_t at = h * naive_padded(f) + g * NAIVE_ROWS;

    /* s = q . k, of the part without positions and of the rotated one */
    if (work->shape.attend16)
        f->ops.k->attend_dots16(a->s, NAIVE_ROWS, (const uint32_t *)(void *)work->qa + at * words,
                                words * MK_LANES, work->q_step + at, n_vec, a->keys16 + t * words,
                                words, a->key_step + t, n, words);
    else
        f->ops.k->attend_dots(a->s, NAIVE_ROWS, work->qa + at * dim, dim * MK_LANES, n_vec,
                              work->k_block + ((h - b->head) * MK_EXPAND + t) * dim, dim, n, dim,
                              1);
    if (work->bias_kind[g] == NAIVE_SOME)
        f->ops.k->axpy(a->s, 1.0f, work->bias + (g * MK_EXPAND + t) * NAIVE_ROWS,
                       n * NAIVE_ROWS);
}

/* Head h of a group of rows against the block. */
static void naive_tile(const struct naive_job *b, size_t h, size_t g, uint32_t worker)
{
    const struct mk_forward *f = b->j->f;
    const struct mk_kernels *k = f->ops.k;
    const struct mk_work *work = f->work;
    const struct mk_attend *a = &work->attend[worker];
    const size_t V = f->model->config.v_head_dim, ldp = mk_round_up(V, MK_LANES);
    const size_t at = h * naive_padded(f) + g * NAIVE_ROWS;
    const size_t n_rows = mk_min(NAIVE_ROWS, f->n - g * NAIVE_ROWS);
    const size_t n_vec = mk_ceil_div(n_rows, MK_LANES);
    /* What lies behind the last row is seen by none. */
    const size_t n_keys = mk_min(b->n_keys, f->first + g * NAIVE_ROWS + n_rows - b->key);
    float *max = work->stats + at + h * naive_padded(f), *sum = max + naive_padded(f);
    float *acc = work->acc + at * V, shrink[NAIVE_ROWS], back[NAIVE_ROWS];

    for (size_t t = 0; t < n_keys; t += MK_KEY_BLOCK) {
        const size_t n = mk_min(MK_KEY_BLOCK, n_keys - t);

        naive_dots(b, h, g, t, n, n_vec, worker);
        k->attend_soften(a->s, NAIVE_ROWS, n_vec, n, f->model->rope.softmax_scale, max, sum,
                         shrink);
        /* o = shrink o + p v */
        if (work->shape.attend16) {
            k->attend_weights16(a->s, NAIVE_ROWS, n_vec, back, a->value_step + t, n);
            k->attend_values16(acc, V, (const uint32_t *)(const void *)a->s, NAIVE_ROWS, back,
                               shrink, n_rows, a->pairs + t / 2 * ldp, ldp, mk_ceil_div(n, 2), V);
        } else {
            k->attend_values(acc, V, a->s, NAIVE_ROWS, shrink, n_rows,
                             work->v_block + ((h - b->head) * MK_EXPAND + t) * V, V, n, V);
        }
    }
}

/* Round the block's keys and values of head h. */
static void naive_round(const struct naive_job *b, size_t h, uint32_t worker)
{
    const struct mk_config *c = &b->j->f->model->config;
    const struct mk_kernels *k = b->j->f->ops.k;
    const struct mk_work *work = b->j->f->work;
    const struct mk_attend *a = &work->attend[worker];
    const size_t dim = c->qk_nope_head_dim + c->qk_rope_head_dim, V = c->v_head_dim;

    k->round16(a->keys16, mk_words16(dim), a->key_step, NULL, 0, 0,
               work->k_block + (h - b->head) * MK_EXPAND * dim, dim, b->n_keys, dim);
    k->round16(NULL, 0, a->value_step, a->pairs, mk_round_up(V, MK_LANES), V,
               work->v_block + (h - b->head) * MK_EXPAND * V, V, b->n_keys, V);
}

/* Items are (head at hand, group of rows) pairs. */
static void naive_tiles(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct naive_job *b = arg;
    const struct mk_work *work = b->j->f->work;
    const size_t n_groups = mk_ceil_div(b->j->f->n, NAIVE_ROWS);
    size_t rounded = SIZE_MAX;

    for (size_t at = begin; at < end; at++) {
        const size_t h = b->head + at / n_groups, g = at % n_groups;

        if (work->bias_kind[g] == NAIVE_NONE)
            continue;
        if (work->shape.attend16 && h != rounded)
            naive_round(b, rounded = h, worker);
        naive_tile(b, h, g, worker);
    }
}

/* The rotated part of keys, the same for all heads.  Items are heads at hand. */
static void naive_rope(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct naive_job *b = arg;
    const struct mk_config *c = &b->j->f->model->config;
    const struct mk_work *work = b->j->f->work;
    const size_t N = c->qk_nope_head_dim, R = c->qk_rope_head_dim, L = c->kv_lora_rank;

    (void)worker;
    for (size_t h = begin; h < end; h++)
        for (size_t t = 0; t < b->n_keys; t++)
            memcpy(work->k_block + (h * MK_EXPAND + t) * (N + R) + N,
                   work->block + t * (L + R) + L, R * sizeof(float));
}

/* Some heads' keys and values of the block, and what rows make of them. */
static void naive_heads(struct naive_job *b)
{
    struct mk_forward *f = b->j->f;
    const struct mk_config *c = &f->model->config;
    const struct mk_attention_weights *w = b->j->w;
    struct mk_work *work = f->work;
    const size_t N = c->qk_nope_head_dim, V = c->v_head_dim, R = c->qk_rope_head_dim;
    const size_t dim = c->kv_lora_rank + R;

    /* k_nope = k_up c, v = v_b c, head by head */
    for (size_t i = 0; i < b->n_heads; i++) {
        work->products[2 * i] = (struct mk_product){
            work->k_block + i * MK_EXPAND * (N + R), N + R, &w->k_up[b->head + i], work->block,
            dim, b->n_keys};
        work->products[2 * i + 1] = (struct mk_product){
            work->v_block + i * MK_EXPAND * V, V, &w->v_b[b->head + i], work->block, dim,
            b->n_keys};
    }
    mk_matmul_many(&f->ops, work->products, 2 * b->n_heads);
    mk_team_run(&f->ops.team, naive_rope, b, b->n_heads, 1);
    mk_team_run(&f->ops.team, naive_tiles, b, b->n_heads * mk_ceil_div(f->n, NAIVE_ROWS), 1);
}

static void naive_block(struct naive_job *b)
{
    struct mk_forward *f = b->j->f;
    const struct mk_config *c = &f->model->config;
    struct mk_work *work = f->work;
    const size_t H = c->num_attention_heads, dim = c->kv_lora_rank + c->qk_rope_head_dim;
    const float *latents = mk_kv_latents(b->j->kv, f->ops.k, work->block, NULL, b->key,
                                         b->n_keys);

    if (latents != work->block)
        memcpy(work->block, latents, b->n_keys * dim * sizeof(float));
    mk_team_run(&f->ops.team, naive_bias, b, mk_ceil_div(f->n, NAIVE_ROWS), 1);
    for (b->head = 0; b->head < H; b->head += b->n_heads) {
        b->n_heads = mk_min(MK_EXPAND_HEADS, H - b->head);
        naive_heads(b);
    }
}

/* Sums of heads begin at nothing. */
static void naive_begin(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct naive_job *b = arg;
    const struct mk_work *work = b->j->f->work;
    const size_t V = b->j->f->model->config.v_head_dim, padded = naive_padded(b->j->f);

    (void)worker;
    memset(work->acc + begin * padded * V, 0, (end - begin) * padded * V * sizeof(float));
    for (size_t h = begin; h < end; h++)
        for (size_t i = 0; i < padded; i++) {
            work->stats[h * 2 * padded + i] = -INFINITY;
            work->stats[(h * 2 + 1) * padded + i] = 0.0f;
        }
}

/* o = acc / sum, rows by rows. */
static void naive_finish(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct naive_job *b = arg;
    const struct mk_forward *f = b->j->f;
    const struct mk_work *work = f->work;
    const size_t H = f->model->config.num_attention_heads, V = f->model->config.v_head_dim;
    const size_t padded = naive_padded(f);

    (void)worker;
    for (size_t at = begin; at < end; at++) {
        const size_t i = at / H, h = at % H;
        const float inverse = 1.0f / work->stats[(h * 2 + 1) * padded + i];
        float *out = work->o + at * V;

        memset(out, 0, V * sizeof(float));
        f->ops.k->axpy(out, inverse, work->acc + (h * padded + i) * V, V);
    }
}

void mk_mla_naive(const struct mk_mla *j)
{
    struct mk_forward *f = j->f;
    const size_t H = f->model->config.num_attention_heads, n_keys = f->first + f->n;
    const uint64_t start = mk_time_ns();
    struct naive_job b = {.j = j};

    mk_team_run(&f->ops.team, naive_begin, &b, H, 1);
    mk_team_run(&f->ops.team, naive_pack, &b, H * naive_padded(f) / MK_LANES, 1);
    for (b.key = mk_mla_begin(f, 0); b.key < n_keys; b.key += MK_EXPAND) {
        b.n_keys = mk_min(MK_EXPAND, n_keys - b.key);
        naive_block(&b);
    }
    mk_team_run(&f->ops.team, naive_finish, &b, f->n * H, 1);
    f->work->times.attention += mk_time_ns() - start;
}
