/* Sessions of any length without evaluating them, for benchmarks. */
#include "session/session.h"

#include "base/checked.h"
#include "base/hash.h"

struct fill_job {
    const struct mk_kv *kv;
    size_t first;          /* position of item 0 */
    uint64_t seed;         /* of the layer */
    float *rows;           /* (n_threads, dim) */
    size_t dim;
};

/* Numbers that look normal, mean 0 and variance 1: each the sum of four uniform ones.  Reference:
 * Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014 (SplitMix). */
static void fill_random(float *x, size_t n, uint64_t state)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t v = state += 0x9e3779b97f4a7c15u;

        v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9u;
        v = (v ^ v >> 27) * 0x94d049bb133111ebu;
        v ^= v >> 31;
        const uint64_t sum = (v & 0xffff) + (v >> 16 & 0xffff) + (v >> 32 & 0xffff) + (v >> 48);

        /* mean 4 65535 / 2, variance 4 65536^2 / 12 */
        x[i] = ((float)sum - 131070.0f) * (1.7320508f / 65536.0f);
    }
}

static void fill_rows(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct fill_job *j = arg;
    const struct mk_kv_format *f = &j->kv->format;
    float *row = j->rows + worker * j->dim;

    for (size_t t = j->first + begin; t < j->first + end; t++) {
        const uint64_t state = mk_hash_u64(j->seed, t);

        fill_random(row, (size_t)f->latent_dim + f->rope_dim, state);
        mk_kv_put_latent(j->kv, t, row);
        if (f->index_dim == 0)
            continue;
        fill_random(row, f->index_dim, ~state);
        mk_kv_put_index(j->kv, t, row);
    }
}

static int32_t fill_caches(struct minke_session *s, size_t n, uint64_t seed, float *rows,
                           size_t dim)
{
    struct mk_fpu fpu;
    struct mk_team team;
    int32_t rc = MINKE_OK;

    s->busy = 1;
    mk_fpu_enter(&fpu);
    mk_team_begin(&team, s->model->pool);
    for (size_t l = 0; rc == MINKE_OK && l < s->n_layers; l++) {
        struct fill_job job = {&s->seq.kv[l], s->length, mk_hash_u64(seed, l), rows, dim};

        mk_team_run(&team, fill_rows, &job, n, 1);
        if (mk_atomic_swap(&s->cancel, 0) != 0)
            rc = mk_fail(MINKE_ECANCELED, "stopped by minke_session_cancel");
    }
    mk_team_end(&team);
    mk_fpu_leave(&fpu);
    s->busy = 0;
    return rc;
}

int32_t minke_session_fill(minke_session *s, size_t n, uint64_t seed)
{
    const struct mk_allocator *a;
    size_t dim;
    float *rows;
    int32_t rc = mk_session_check(s);

    if (rc < 0)
        return rc;
    if (n > s->params.max_tokens - s->length)
        return mk_fail(MINKE_EFULL, "%zu tokens held, %zu more do not fit %u", s->length, n,
                       s->params.max_tokens);
    a = &s->model->env.alloc;
    dim = mk_max((size_t)s->kv_format.latent_dim + s->kv_format.rope_dim, s->kv_format.index_dim);
    /* Rows a cache line apart, so that workers do not share one. */
    dim = mk_round_up(dim, 16);
    rows = mk_alloc(a, mk_pool_threads(s->model->pool), dim * sizeof(float));
    if (rows == NULL)
        return MINKE_ENOMEM;
    rc = fill_caches(s, n, seed, rows, dim);
    mk_free(a, rows);
    if (rc < 0 || n == 0)
        return rc;
    for (size_t t = s->length; t < s->length + n; t++)
        s->tokens[t] = (int32_t)(mk_hash_u64(seed, ~(uint64_t)t) % s->model->config.vocab_size);
    s->length += n;
    s->has_logits = 0;
    if (s->recorder.replaced != NULL)
        s->recorder.replaced(s->recorder.user, s->tokens, s->length);
    return MINKE_OK;
}
