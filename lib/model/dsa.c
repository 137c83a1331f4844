/* DeepSeek sparse attention: the lightning indexer and its selection.
 *
 * Reference: DeepSeek-V3.2-Exp inference/model.py @8631a81, Indexer.forward.  Differs: with f32
 * keys no Hadamard rotation and no rounding, which cancel in exact arithmetic; with 8-bit keys
 * int8 in place of e4m3; ties.
 *
 * Every key is scored.  Bounds over blocks of keys (their box, or their centre and radius) would
 * skip some exactly, but in 128 dimensions they are too wide: none of the blocks of 16 or of 64
 * among 65536 keys, random, of low rank, in clusters or drifting, falls below the threshold, and
 * 4 to 16 % where a thousand neighbours are nearly equal. */
#include "model/forward.h"

#include <math.h>
#include <string.h>

#include "base/checked.h"

#define DSA_KEYS 256u          /* keys that a worker scores at a time, at least */
#define DSA_SAMPLE 2048u       /* scores that the first guess of the threshold looks at */

struct dsa_job {
    const struct mk_forward *f;
    const struct mk_kv *kv;
    size_t row, n_rows;        /* rows of the chunk whose scores are held */
};

/* ---- Selection ---------------------------------------------------------- */

/* Floats as integers of the same order; -0 equals 0. */
static uint32_t dsa_order(float x)
{
    uint32_t bits;

    x += 0.0f;
    memcpy(&bits, &x, sizeof(bits));
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static float dsa_unorder(uint32_t key)
{
    const uint32_t bits = key & 0x80000000u ? key & 0x7FFFFFFFu : ~key;
    float x;

    memcpy(&x, &bits, sizeof(x));
    return x;
}

/* The k-th largest of keys (n,), 1 <= k <= n, by 11, 11 and 10 bits; *above of them are
 * larger.  Reorders keys. */
static uint32_t dsa_kth_largest(uint32_t *keys, size_t n, size_t k, size_t *above)
{
    static const int shifts[3] = {21, 10, 0}, bits[3] = {11, 11, 10};
    uint32_t counts[2048], found = 0;

    *above = 0;
    for (int pass = 0; pass < 3; pass++) {
        const uint32_t mask = (1u << bits[pass]) - 1u;
        uint32_t digit = mask;
        size_t kept = 0;

        memset(counts, 0, sizeof(counts));
        for (size_t i = 0; i < n; i++)
            counts[keys[i] >> shifts[pass] & mask]++;
        for (; counts[digit] < k; digit--) {
            k -= counts[digit];
            *above += counts[digit];
        }
        for (size_t i = 0; i < n; i++) {
            keys[kept] = keys[i];
            kept += (keys[i] >> shifts[pass] & mask) == digit;
        }
        n = kept;
        found |= digit << shifts[pass];
    }
    return found;
}

/* A number that about n_keep of the scores, and rather more, reach: from a sample, four
 * deviations below the expected rank.  Only speed depends on it. */
static float dsa_guess(const float *scores, size_t n, size_t n_keep, uint32_t *keys)
{
    const double rank = (double)n_keep * DSA_SAMPLE / (double)n;
    const double safe = rank + 4.0 * sqrt(rank) + 4.0;
    size_t above;

    if (n < 4 * DSA_SAMPLE || safe > DSA_SAMPLE / 2)
        return -INFINITY;
    for (size_t i = 0; i < DSA_SAMPLE; i++)
        keys[i] = dsa_order(scores[i * n / DSA_SAMPLE]);
    return dsa_unorder(dsa_kth_largest(keys, DSA_SAMPLE, (size_t)safe, &above));
}

/* torch.topk leaves order and ties open; here equal scores go to the earlier token and the
 * result is ascending, so that the choice is the same on every machine. */
size_t mk_dsa_select(const struct mk_kernels *k, int32_t *kept, const float *scores, size_t n,
                     size_t n_keep, int32_t *scratch)
{
    uint32_t *keys = (uint32_t *)(void *)(scratch + n + 32);
    size_t n_found, n_kept = 0, above, equal;
    uint32_t threshold;

    if (n_keep == 0 || n == 0)
        return 0;
    if (n_keep >= n) {
        for (size_t t = 0; t < n; t++)
            kept[t] = (int32_t)t;
        return n;
    }
    n_found = k->index_above(scratch, scores, n, dsa_guess(scores, n, n_keep, keys));
    if (n_found < n_keep)
        n_found = k->index_above(scratch, scores, n, -INFINITY);
    if (n_found <= n_keep) {
        memcpy(kept, scratch, n_found * sizeof(*kept));
        return n_found;
    }
    for (size_t i = 0; i < n_found; i++)
        keys[i] = dsa_order(scores[scratch[i]]);
    threshold = dsa_kth_largest(keys, n_found, n_keep, &above);
    equal = n_keep - above;
    for (size_t i = 0; n_kept < n_keep; i++) {
        const uint32_t key = dsa_order(scores[scratch[i]]);

        if (key < threshold || (key == threshold && equal == 0))
            continue;
        equal -= key == threshold;
        kept[n_kept++] = scratch[i];
    }
    return n_kept;
}

/* ---- Queries ------------------------------------------------------------ */

/* Heads [h, h + 16) of a row's index queries, rounded, lanes beside each other.  Changes q. */
static void dsa_round_heads(const struct mk_kernels *k, struct mk_index_query *out, float *q,
                            const float *w, size_t D, size_t h, size_t n_heads)
{
    const size_t v = h / MK_LANES, bytes = 4 * out->words;
    float *lanes = out->w8 + h;

    for (size_t l = 0; l < MK_LANES; l++) {
        int8_t *q8 = (int8_t *)(q + l * D);
        int32_t sum = 0;

        out->start[h + l] = 0;
        lanes[l] = 0.0f;
        if (l >= n_heads)
            continue;
        /* Rounded numbers take the place of the floats that they come from. */
        lanes[l] = mk_kv_round_index(q8, q + l * D, D) * w[l];
        for (size_t i = 0; i < D; i++)
            sum += q8[i];
        out->start[h + l] = -128 * sum;
    }
    k->interleave((uint32_t *)(void *)(out->q8 + v * bytes * MK_LANES), (const uint8_t *)q,
                  D * sizeof(float), n_heads, out->words);
}

/* Items are (row at hand, vector of heads) pairs. */
static void dsa_prepare(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct dsa_job *j = arg;
    const struct mk_config *c = &j->f->model->config;
    const struct mk_work *work = j->f->work;
    const struct mk_kernels *k = j->f->ops.k;
    const size_t H = c->index_n_heads, D = c->index_head_dim, n_vec = mk_ceil_div(H, MK_LANES);

    (void)worker;
    for (size_t at = begin; at < end; at++) {
        const size_t i = j->row + at / n_vec, v = at % n_vec, h = v * MK_LANES;
        const size_t n_heads = mk_min(MK_LANES, H - h);
        struct mk_index_query *out = &work->queries[at / n_vec];
        float *q = work->index_q + (i * H + h) * D, *w = work->index_w + i * H + h;

        if (out->q != NULL) {
            memset(out->w + h, 0, MK_LANES * sizeof(float));
            memcpy(out->w + h, w, n_heads * sizeof(float));
            k->interleave((uint32_t *)(void *)(out->q + h * D), (const uint8_t *)q,
                          D * sizeof(float), n_heads, D);
        }
        if (out->q8 != NULL)
            dsa_round_heads(k, out, q, w, D, h, n_heads);
    }
}

/* ---- Scores ------------------------------------------------------------- */

/* Exact scores of n <= MK_INDEX_BLOCK keys (n, D) for one query:
 * I[s] = sum over heads of w[h] relu(q[h] . k[s]). */
static void dsa_exact(const struct dsa_job *j, float *scores, const struct mk_index_query *q,
                      const float *keys, size_t n, uint32_t worker)
{
    const size_t D = j->f->model->config.index_head_dim, lds = q->n_vec * MK_LANES;
    const struct mk_kernels *k = j->f->ops.k;
    float *s = j->f->work->attend[worker].index_s;

    k->attend_dots(s, lds, q->q, D * MK_LANES, q->n_vec, keys, D, n, D, 1);
    k->index_sum(scores, s, lds, q->w, q->n_vec, n);
}

/* Scores of the cached tokens [begin, end) for the rows at hand. */
static void dsa_score_keys(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct dsa_job *j = arg;
    const struct mk_work *work = j->f->work;
    const struct mk_kernels *k = j->f->ops.k;
    const int exact = j->kv->format.index_type == MK_KV_INDEX_F32;
    const size_t step = exact ? MK_INDEX_BLOCK : DSA_KEYS;

    for (size_t s = begin; s < end; s += step)
        for (size_t r = 0; r < j->n_rows; r++) {
            const size_t seen = j->f->first + j->row + r + 1;
            const size_t n = seen <= s ? 0 : mk_min(mk_min(step, end - s), seen - s);
            float *scores = work->scores + r * work->shape.max_tokens + s;

            if (n == 0)
                continue;
            if (exact)
                dsa_exact(j, scores, &work->queries[r],
                          mk_kv_indices(j->kv, k, NULL, NULL, s, n), n, worker);
            else
                k->index_scores(scores, &work->queries[r], mk_kv_rows(j->kv, MK_KV_INDEX, s),
                                (const float *)(const void *)
                                mk_kv_rows(j->kv, MK_KV_INDEX_SCALE, s), n);
        }
}

/* Items are (row at hand, block of candidates) pairs. */
static void dsa_score_again(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct dsa_job *j = arg;
    const struct mk_work *work = j->f->work;
    const size_t n_blocks = mk_ceil_div(work->n_candidates, MK_INDEX_BLOCK);

    for (size_t at = begin; at < end; at++) {
        const size_t r = at / n_blocks, s = at % n_blocks * MK_INDEX_BLOCK;
        const size_t n_found = work->n_selected[j->row + r];
        const int32_t *list = work->candidates + r * work->n_candidates + s;

        if (s >= n_found)
            continue;
        const size_t n = mk_min(MK_INDEX_BLOCK, n_found - s);

        dsa_exact(j, work->exact + r * work->n_candidates + s, &work->queries[r],
                  mk_kv_indices(j->kv, j->f->ops.k, work->attend[worker].index_keys, list, 0, n),
                  n, worker);
    }
}

/* ---- The chunk ---------------------------------------------------------- */

/* Items are rows at hand: the best by the scores of all keys. */
static void dsa_select_rows(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct dsa_job *j = arg;
    struct mk_work *work = j->f->work;
    const int again = work->n_candidates > 0;

    for (size_t r = begin; r < end; r++) {
        const size_t i = j->row + r;
        const float *scores = work->scores + r * work->shape.max_tokens;
        int32_t *kept = again ? work->candidates + r * work->n_candidates
                              : work->selected + i * work->selected_stride;

        work->n_selected[i] = mk_dsa_select(j->f->ops.k, kept, scores, j->f->first + i + 1,
                                            again ? work->n_candidates : work->selected_stride,
                                            work->attend[worker].select);
        if (work->selected_scores == NULL || again)
            continue;
        for (size_t s = 0; s < work->n_selected[i]; s++)
            work->selected_scores[i * work->selected_stride + s] = scores[kept[s]];
    }
}

/* Items are rows at hand: the best of the candidates by their exact scores. */
static void dsa_select_again(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct dsa_job *j = arg;
    struct mk_work *work = j->f->work;

    for (size_t r = begin; r < end; r++) {
        const size_t i = j->row + r;
        const float *exact = work->exact + r * work->n_candidates;
        int32_t *kept = work->selected + i * work->selected_stride;

        work->n_selected[i] = mk_dsa_select(j->f->ops.k, kept, exact, work->n_selected[i],
                                            work->selected_stride, work->attend[worker].select);
        for (size_t s = 0; s < work->n_selected[i]; s++) {
            if (work->selected_scores != NULL)
                work->selected_scores[i * work->selected_stride + s] = exact[kept[s]];
            kept[s] = work->candidates[r * work->n_candidates + (size_t)kept[s]];
        }
    }
}

/* Rows whose selection a record has take it.  Returns whether all rows of the chunk do. */
static int dsa_replayed(struct mk_forward *f)
{
    const struct mk_trail *r = f->replay;
    struct mk_work *work = f->work;
    size_t i = 0;

    if (r == NULL || r->selected == NULL || f->layer >= r->n_layers)
        return 0;
    for (; i < f->n && f->first + i < r->n; i++) {
        const int32_t *from = r->selected + ((f->first + i) * r->n_layers + f->layer) * r->top_k;
        size_t n = 0;

        while (n < r->top_k && from[n] >= 0)
            n++;
        memcpy(work->selected + i * work->selected_stride, from, n * sizeof(*from));
        work->n_selected[i] = n;
    }
    return i == f->n;
}

void mk_dsa_run(struct mk_forward *f, const struct mk_kv *kv)
{
    struct mk_work *work = f->work;
    const size_t n_vec = mk_ceil_div(f->model->config.index_n_heads, MK_LANES);
    struct dsa_job job = {f, kv, 0, 0};
    size_t i = 0;

    if (f->observe == 0 && dsa_replayed(f))
        return;
    /* Rows that see no more than top-k tokens select them all, unscored. */
    if ((f->observe & MINKE_OBSERVE_SELECTED) == 0)
        for (; i < f->n && f->first + i + 1 <= work->selected_stride; i++)
            work->n_selected[i] = f->first + i + 1;
    for (; i < f->n; i += job.n_rows) {
        const uint64_t start = mk_time_ns();
        uint64_t scored;

        job.row = i;
        job.n_rows = mk_min(f->n - i, MK_INDEX_ROWS);
        mk_team_run(&f->ops.team, dsa_prepare, &job, job.n_rows * n_vec, 1);
        mk_team_run(&f->ops.team, dsa_score_keys, &job, f->first + i + job.n_rows, DSA_KEYS);
        scored = mk_time_ns();
        work->times.index += scored - start;
        mk_team_run(&f->ops.team, dsa_select_rows, &job, job.n_rows, 1);
        if (work->n_candidates > 0) {
            mk_team_run(&f->ops.team, dsa_score_again, &job,
                        job.n_rows * mk_ceil_div(work->n_candidates, MK_INDEX_BLOCK), 1);
            mk_team_run(&f->ops.team, dsa_select_again, &job, job.n_rows, 1);
        }
        work->times.select += mk_time_ns() - scored;
    }
    dsa_replayed(f);
}
