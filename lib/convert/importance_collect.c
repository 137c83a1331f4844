/* Importance of weights: the squares of what each column is multiplied by, summed over a text.
 * The file is that of llama.cpp's imatrix program; see importance_read.c. */
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/sort.h"
#include "format/gguf_write.h"
#include "session/session.h"
#include "kernels/matmul.h"

#define IMP_CHUNK 512u

/* One matrix. */
struct imp_entry {
    const struct mk_mat *w;
    float *sums;                 /* (w->n_in,) */
    uint64_t count;              /* rows multiplied so far */
};

/* One tensor of the file. */
struct imp_tensor {
    char name[MK_TENSOR_NAME];
    struct imp_entry *entries;   /* (n,) of one layer's heads or experts */
    size_t n;
};

struct imp {
    minke_context *model;
    struct mk_arena arena;
    struct imp_tensor *tensors;
    size_t n_tensors, capacity;
    struct imp_entry **sorted;   /* all entries, by w */
    size_t n_entries;
};

/* The matrices of a product that can be quantized, as a tensor of the file. */
static int32_t imp_add(void *user, const struct mk_weight *w)
{
    struct imp *m = user;
    const struct mk_tensor *row = &mk_tensors[w->id.tensor];
    struct imp_tensor *t;

    if (w->mats == NULL || row->kind == MK_KIND_SCORES || row->part == MK_PART_EMBED
        || w->id.layer == m->model->config.num_hidden_layers)
        return MINKE_OK;
    if (mk_grow(&m->model->env.alloc, (void **)&m->tensors, &m->capacity, m->n_tensors + 1,
                sizeof(*m->tensors)) < 0)
        return MINKE_ENOMEM;
    t = &m->tensors[m->n_tensors++];
    mk_tensor_gguf_name(t->name, w->id);
    t->n = w->n;
    t->entries = mk_arena_alloc(&m->arena, w->n, sizeof(*t->entries));
    for (size_t i = 0; t->entries != NULL && i < w->n; i++) {
        const struct mk_mat *mat = mk_weight_mat(w, i);
        float *sums = mk_arena_alloc(&m->arena, mat->n_in, sizeof(*sums));

        if (sums == NULL)
            return MINKE_ENOMEM;
        t->entries[i] = (struct imp_entry){mat, sums, 0};
    }
    if (t->entries == NULL)
        return MINKE_ENOMEM;
    m->n_entries += w->n;
    if (w->id.tensor == MK_T_WQ_B) {
        /* These files have the indexer's queries before its keys. */
        const struct imp_tensor keys = t[-1];

        t[-1] = t[0];
        t[0] = keys;
    }
    return MINKE_OK;
}

/* ---- Watching ------------------------------------------------------------ */

static int imp_order(const void *a, const void *b)
{
    const struct mk_mat *x = ((const struct imp_entry *)a)->w;
    const struct mk_mat *y = ((const struct imp_entry *)b)->w;

    return (x > y) - (x < y);
}

static int32_t imp_prepare(struct imp *m)
{
    const int32_t rc = mk_weights_walk(&m->model->weights, &m->model->config, imp_add, m);
    size_t n = 0;

    if (rc < 0)
        return rc;
    m->sorted = mk_arena_alloc(&m->arena, m->n_entries, sizeof(struct imp_entry *));
    if (m->sorted == NULL)
        return MINKE_ENOMEM;
    for (size_t t = 0; t < m->n_tensors; t++)
        for (size_t i = 0; i < m->tensors[t].n; i++)
            m->sorted[n++] = &m->tensors[t].entries[i];
    mk_sort((const void **)m->sorted, m->n_entries, imp_order);
    return MINKE_OK;
}

/* sums += x^2 over the rows of a product. */
static void imp_watch(void *user, const struct mk_product *p)
{
    const struct imp *m = user;
    size_t lo = 0, hi = m->n_entries;

    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;

        if (m->sorted[mid]->w < p->w)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == m->n_entries || m->sorted[lo]->w != p->w)
        return;
    struct imp_entry *e = m->sorted[lo];
    for (size_t t = 0; t < p->n_rows; t++) {
        const float *x = p->x + t * p->ldx;

        for (size_t i = 0; i < p->w->n_in; i++)
            e->sums[i] += x[i] * x[i];
    }
    e->count += p->n_rows;
}

/* ---- Writing ------------------------------------------------------------- */

static int32_t imp_announce(const struct imp *m, struct mk_gguf_writer *w, uint32_t chunk,
                            uint32_t n_chunks)
{
    const struct mk_view dataset = {"text", 4};
    char name[MK_TENSOR_NAME + 16];
    int32_t rc = MINKE_OK;

    mk_gguf_put_string(w, "general.type", "imatrix", 7);
    mk_gguf_put_string_array(w, "imatrix.datasets", &dataset, 1);
    mk_gguf_put_u32(w, "imatrix.chunk_count", n_chunks);
    mk_gguf_put_u32(w, "imatrix.chunk_size", chunk);
    for (size_t i = 0; i < m->n_tensors && rc == MINKE_OK; i++) {
        const struct imp_tensor *t = &m->tensors[i];
        const uint64_t sums[2] = {t->entries[0].w->n_in, t->n}, counts[2] = {1, t->n};

        mk_format(name, sizeof(name), "%s.in_sum2", t->name);
        rc = mk_gguf_put_tensor(w, name, MK_F32, sums, 2);
        mk_format(name, sizeof(name), "%s.counts", t->name);
        if (rc == MINKE_OK)
            rc = mk_gguf_put_tensor(w, name, MK_F32, counts, 2);
    }
    return rc;
}

static int32_t imp_write_tensor(struct mk_gguf_writer *w, const struct imp_tensor *t)
{
    int32_t rc = MINKE_OK;

    for (size_t i = 0; i < t->n && rc == MINKE_OK; i++)
        rc = mk_gguf_write_data(w, t->entries[i].sums, t->entries[i].w->n_in * sizeof(float));
    if (rc == MINKE_OK)
        rc = mk_gguf_write_pad(w);
    for (size_t i = 0; i < t->n && rc == MINKE_OK; i++) {
        const float count = (float)t->entries[i].count;

        rc = mk_gguf_write_data(w, &count, sizeof(count));
    }
    return rc < 0 ? rc : mk_gguf_write_pad(w);
}

static int32_t imp_write(const struct imp *m, const char *path, uint32_t chunk,
                         uint32_t n_chunks)
{
    struct mk_gguf_writer w;
    int32_t rc;

    mk_gguf_writer_init(&w, &m->model->env.alloc);
    rc = imp_announce(m, &w, chunk, n_chunks);
    if (rc == MINKE_OK)
        rc = mk_gguf_write_header(&w, path);
    for (size_t i = 0; i < m->n_tensors && rc == MINKE_OK; i++)
        rc = imp_write_tensor(&w, &m->tensors[i]);
    if (rc == MINKE_OK)
        rc = mk_gguf_write_commit(&w);
    mk_gguf_writer_free(&w);
    return rc;
}

/* ---- The whole ----------------------------------------------------------- */

/* Pieces of the text, each behind BOS where the tokenizer has one. */
static int32_t imp_run(struct minke_session *s, const int32_t *tokens, size_t n, uint32_t chunk,
                       uint32_t *n_chunks, minke_progress_fn progress, void *user)
{
    int64_t bos = -1;
    int32_t rc = minke_context_info(s->model, MINKE_INFO_TOKEN_BOS, &bos);
    const size_t piece = chunk - (bos >= 0);
    const int32_t first = (int32_t)bos;

    for (size_t at = 0; at < n && rc == MINKE_OK; at += piece) {
        rc = minke_session_truncate(s, 0);
        if (rc == MINKE_OK && bos >= 0)
            rc = minke_session_eval(s, &first, 1);
        if (rc == MINKE_OK)
            rc = minke_session_eval(s, tokens + at, mk_min(piece, n - at));
        if (rc == MINKE_OK && progress != NULL && progress(user, mk_min(at + piece, n), n))
            rc = mk_fail(MINKE_ECANCELED, "stopped by the progress callback");
        *n_chunks += 1;
    }
    return rc;
}

int32_t minke_importance(minke_context *ctx, const int32_t *tokens, size_t n, uint32_t chunk,
                         const char *out_path, minke_progress_fn progress, void *progress_user)
{
    struct minke_session *s = NULL;
    minke_session_params params;
    struct imp m;
    uint32_t n_chunks = 0;
    int32_t rc = mk_context_check(ctx);

    if (rc < 0)
        return rc;
    if (tokens == NULL || n == 0 || out_path == NULL || chunk == 1)
        return mk_fail(MINKE_EINVAL, "tokens, n or out_path is missing, or chunk is 1");
    memset(&m, 0, sizeof(m));
    m.model = ctx;
    mk_arena_init(&m.arena, &m.model->env.alloc);
    minke_session_params_init(&params, sizeof(params));
    params.max_tokens = params.prefill_chunk = chunk == 0 ? IMP_CHUNK : chunk;
    params.flags = MINKE_SESSION_ABSORBED;   /* which meets k_b and v_b as files have them */
    rc = minke_session_open(&s, ctx, &params);
    if (rc == MINKE_OK)
        rc = imp_prepare(&m);
    if (rc == MINKE_OK) {
        mk_session_set_recorder(s, &s->recorder, &(struct mk_recorder){
            .user = &m, .tap = {.user = &m, .product = imp_watch}});
        rc = imp_run(s, tokens, n, params.max_tokens, &n_chunks, progress, progress_user);
    }
    if (rc == MINKE_OK)
        rc = imp_write(&m, out_path, params.max_tokens, n_chunks);
    minke_session_free(s);
    mk_free(&m.model->env.alloc, m.tensors);
    mk_arena_free(&m.arena);
    return rc;
}
