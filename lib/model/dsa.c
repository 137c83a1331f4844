/* DeepSeek sparse attention: the lightning indexer and its selection.
 *
 * Reference: DeepSeek-V3.2-Exp inference/model.py @8631a81, Indexer.forward.  Differs: no
 * Hadamard rotation and no rounding, which cancel in exact arithmetic; ties. */
#include "model/forward.h"

#include <string.h>

#include "base/checked.h"

#define DSA_KEYS 128u      /* keys that a worker scores at a time, at least */

struct dsa_job {
    const struct mk_forward *f;
    const struct mk_kv *kv;
    size_t row, n_rows;    /* rows of the chunk whose scores are held */
};

/* The k-th largest of a[0..n), 1 <= k <= n; reorders a. */
static float dsa_kth_largest(float *a, size_t n, size_t k)
{
    size_t lo = 0, hi = n - 1, at = k - 1;

    while (lo < hi) {
        /* The middle as pivot: sorted and constant inputs are common and split evenly. */
        const float pivot = a[lo + (hi - lo) / 2];
        size_t i = lo, j = hi;

        for (;; i++, j--) {
            while (a[i] > pivot)
                i++;
            while (a[j] < pivot)
                j--;
            if (i >= j)
                break;
            const float swap = a[i];
            a[i] = a[j];
            a[j] = swap;
        }
        if (at <= j)
            hi = j;
        else
            lo = j + 1;
    }
    return a[at];
}

/* torch.topk leaves order and ties open; here equal scores go to the earlier token and the
 * result is ascending, so that the choice is the same on every machine. */
size_t mk_dsa_select(int32_t *kept, const float *scores, size_t n, size_t k, float *scratch)
{
    size_t n_kept = 0, n_above = 0, n_equal;
    float threshold;

    if (k == 0 || n == 0)
        return 0;
    if (k >= n) {
        for (size_t t = 0; t < n; t++)
            kept[t] = (int32_t)t;
        return n;
    }
    memcpy(scratch, scores, n * sizeof(*scratch));
    threshold = dsa_kth_largest(scratch, n, k);
    for (size_t t = 0; t < n; t++)
        n_above += scores[t] > threshold;
    n_equal = n_above < k ? k - n_above : 0;
    for (size_t t = 0; t < n && n_kept < k; t++) {
        if (scores[t] > threshold) {
            kept[n_kept++] = (int32_t)t;
        } else if (scores[t] == threshold && n_equal > 0) {
            kept[n_kept++] = (int32_t)t;
            n_equal--;
        }
    }
    return n_kept;
}

/* Scores of the cached tokens [begin, end) for the rows at hand:
 * I[t][s] = sum over heads of w[t][h] relu(q[t][h] . k[s]). */
static void dsa_score_keys(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct dsa_job *j = arg;
    const struct mk_config *c = &j->f->model->config;
    const struct mk_kernels *k = j->f->ops.k;
    const struct mk_work *work = j->f->work;
    const size_t H = c->index_n_heads, D = c->index_head_dim;
    const float *keys = mk_kv_indices(j->kv, k, NULL, NULL, begin, end - begin);

    (void)worker;
    for (size_t s = begin; s < end; s++, keys += D)
        for (size_t r = 0; r < j->n_rows; r++) {
            const size_t i = j->row + r;
            const float *q = work->index_q + i * H * D, *w = work->index_w + i * H;
            float sum = 0.0f;

            if (s > j->f->first + i)
                continue;
            for (size_t h = 0; h < H; h++) {
                const float dot = k->dot(q + h * D, keys, D);

                sum += w[h] * (dot > 0.0f ? dot : 0.0f);
            }
            work->scores[r * work->shape.max_tokens + s] = sum;
        }
}

static void dsa_select_rows(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct dsa_job *j = arg;
    struct mk_work *work = j->f->work;
    const size_t max = work->shape.max_tokens;

    for (size_t r = begin; r < end; r++) {
        const size_t i = j->row + r;
        const float *scores = work->scores + r * max;
        int32_t *kept = work->selected + i * work->selected_stride;

        work->n_selected[i] = mk_dsa_select(kept, scores, j->f->first + i + 1,
                                            work->selected_stride, work->select + worker * max);
        if (work->selected_scores == NULL)
            continue;
        for (size_t s = 0; s < work->n_selected[i]; s++)
            work->selected_scores[i * work->selected_stride + s] = scores[kept[s]];
    }
}

void mk_dsa_run(struct mk_forward *f, const struct mk_kv *kv)
{
    struct mk_work *work = f->work;
    struct dsa_job job = {f, kv, 0, 0};
    size_t i = 0;

    /* Rows that see no more than top-k tokens select them all, unscored. */
    if ((f->observe & MINKE_OBSERVE_SELECTED) == 0)
        for (; i < f->n && f->first + i + 1 <= work->selected_stride; i++)
            work->n_selected[i] = f->first + i + 1;
    for (; i < f->n; i += job.n_rows) {
        job.row = i;
        job.n_rows = mk_min(f->n - i, MK_INDEX_ROWS);
        mk_team_run(&f->ops.team, dsa_score_keys, &job, f->first + i + job.n_rows, DSA_KEYS);
        mk_team_run(&f->ops.team, dsa_select_rows, &job, job.n_rows, 1);
    }
}
