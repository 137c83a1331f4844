/* Importance of weights: a file of mean squared inputs, one per column, as llama.cpp's imatrix
 * program writes it, in its older format (.dat) or as GGUF.
 *
 * Reference: llama.cpp tools/imatrix/imatrix.cpp (IMatrixCollector::save_imatrix, both forms)
 * and tools/quantize/quantize.cpp (load_imatrix). */
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/sort.h"
#include "convert/quantize.h"

#define QIMP_MAX_FILE ((uint64_t)8 << 30)
#define QIMP_MAX_NAME 256u

static int32_t qimp_fail(const char *path, const char *name, const char *what)
{
    return mk_fail(MINKE_EFORMAT, "%s: %s: %s", path, name, what);
}

/* Sums (n_mats, cols) and how often each matrix was used become means.  What was never used
 * says nothing: all its columns count alike. */
static int32_t qimp_finish(float *values, const float *counts, size_t n_mats, size_t cols)
{
    for (size_t m = 0; m < n_mats; m++)
        for (size_t i = 0; i < cols; i++) {
            float *v = &values[m * cols + i];

            /* Also false for NaN. */
            if (!(*v >= 0.0f && *v <= 1e30f && counts[m] >= 0.0f && counts[m] <= 1e30f))
                return -1;
            *v = counts[m] > 0.0f ? *v / counts[m] : 1.0f;
        }
    return 0;
}

static struct mk_q_importance_item *qimp_add(struct mk_q_importance *out, const char *name,
                                             size_t name_len, size_t n)
{
    struct mk_q_importance_item *item;

    if (mk_grow(out->arena.a, (void **)&out->items, &out->capacity, out->n + 1,
                sizeof(*out->items)) < 0)
        return NULL;
    item = &out->items[out->n];
    item->name.data = mk_arena_text(&out->arena, name, name_len);
    item->name.len = name_len;
    item->n = n;
    item->values = mk_arena_alloc(&out->arena, n, sizeof(float));
    if (item->name.data == NULL || item->values == NULL)
        return NULL;
    out->n++;
    return item;
}

/* ---- GGUF: NAME.in_sum2 (cols, mats) and NAME.counts (1, mats) ---------------------------- */

static int32_t qimp_gguf_item(struct mk_q_importance *out, const struct mk_gguf *g,
                              const struct mk_stored *t, size_t name_len, const char *path)
{
    const uint64_t cols = t->n_dims > 0 ? t->shape[t->n_dims - 1] : 1;
    const uint64_t n_mats = t->size / 4 / cols;
    const struct mk_stored *c;
    struct mk_q_importance_item *item;
    char name[QIMP_MAX_NAME];
    float *counts;
    int32_t rc;

    if (name_len + sizeof(".counts") > sizeof(name))
        return qimp_fail(path, t->name.data, "name too long");
    mk_format(name, sizeof(name), "%.*s.counts", (int)name_len, t->name.data);
    c = mk_gguf_tensor(g, name);
    if (c == NULL || t->type != MK_F32 || c->type != MK_F32 || c->size != 4 * n_mats)
        return qimp_fail(path, name, "missing, or not a number for each matrix");
    item = qimp_add(out, t->name.data, name_len, (size_t)(t->size / 4));
    counts = mk_arena_alloc(&out->arena, (size_t)n_mats, sizeof(*counts));
    if (item == NULL || counts == NULL)
        return MINKE_ENOMEM;
    rc = mk_file_read(t->file, t->offset, item->values, (size_t)t->size);
    if (rc == MINKE_OK)
        rc = mk_file_read(c->file, c->offset, counts, (size_t)c->size);
    if (rc == MINKE_OK
        && qimp_finish(item->values, counts, (size_t)n_mats, (size_t)cols) < 0)
        return qimp_fail(path, t->name.data, "a number that is no sum of squares");
    return rc;
}

static int32_t qimp_gguf(struct mk_q_importance *out, const struct mk_env *env, const char *path)
{
    static const char suffix[] = ".in_sum2";
    const size_t suffix_len = sizeof(suffix) - 1;
    struct mk_gguf g;
    int32_t rc = mk_gguf_open(&g, env, path);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < g.n_tensors && rc == MINKE_OK; i++) {
        const struct mk_stored *t = &g.tensors[i];
        const size_t len = t->name.len;

        if (len > suffix_len && memcmp(t->name.data + len - suffix_len, suffix, suffix_len) == 0)
            rc = qimp_gguf_item(out, &g, t, len - suffix_len, path);
    }
    mk_gguf_close(&g);
    return rc;
}

/* ---- .dat: a count of entries; of each the name, calls, and sums times calls -------------- */

struct qimp_reader {
    struct mk_file *file;
    const char *path;
    uint64_t at, size;
};

static int32_t qimp_read(struct qimp_reader *r, void *out, size_t n)
{
    if (n > r->size - r->at)
        return mk_fail(MINKE_EFORMAT, "%s: ends early", r->path);
    r->at += n;
    return mk_file_read(r->file, r->at - n, out, n);
}

static int32_t qimp_read_i32(struct qimp_reader *r, int64_t *out)
{
    uint8_t b[4];
    const int32_t rc = qimp_read(r, b, sizeof(b));

    if (rc < 0)
        return rc;
    *out = (int32_t)(b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24);
    return MINKE_OK;
}

/* A count in [low, high] that the rest of the file can hold. */
static int32_t qimp_read_count(struct qimp_reader *r, size_t *out, int64_t low, uint64_t high)
{
    int64_t v = 0;
    const int32_t rc = qimp_read_i32(r, &v);

    if (rc < 0)
        return rc;
    if (v < low || (uint64_t)v > high)
        return mk_fail(MINKE_EFORMAT, "%s: no importance data: a count of %lld", r->path, (long long)v);
    *out = (size_t)v;
    return MINKE_OK;
}

static int32_t qimp_dat_item(struct mk_q_importance *out, struct qimp_reader *r)
{
    struct mk_q_importance_item *item;
    char name[QIMP_MAX_NAME];
    size_t len = 0, calls = 0, n = 0;
    int32_t rc = qimp_read_count(r, &len, 1, sizeof(name) - 1);

    if (rc == MINKE_OK)
        rc = qimp_read(r, name, len);
    if (rc == MINKE_OK)
        rc = qimp_read_count(r, &calls, 0, INT32_MAX);
    if (rc == MINKE_OK)
        rc = qimp_read_count(r, &n, 1, (r->size - r->at) / 4);
    if (rc < 0)
        return rc;
    item = qimp_add(out, name, len, n);
    if (item == NULL)
        return MINKE_ENOMEM;
    rc = qimp_read(r, item->values, n * sizeof(float));
    const float count = (float)calls;
    if (rc == MINKE_OK && qimp_finish(item->values, &count, 1, n) < 0)
        return qimp_fail(r->path, item->name.data, "a number that is no sum of squares");
    return rc;
}

static int32_t qimp_dat(struct mk_q_importance *out, struct mk_file *file, const char *path)
{
    struct qimp_reader r = {file, path, 0, mk_file_size(file)};
    size_t n = 0;
    int32_t rc = qimp_read_count(&r, &n, 1, r.size / 16);

    for (size_t i = 0; i < n && rc == MINKE_OK; i++)
        rc = qimp_dat_item(out, &r);
    return rc;
}

/* ---- Either ------------------------------------------------------------------------------- */

int32_t mk_q_importance_open(struct mk_q_importance *out, const struct mk_env *env,
                             const char *path)
{
    struct mk_file *file = NULL;
    char magic[4] = {0};
    const struct mk_q_importance_item *twice;
    int32_t rc = mk_file_open(&file, env, path);

    memset(out, 0, sizeof(*out));
    mk_arena_init(&out->arena, &env->alloc);
    if (rc < 0)
        return rc;
    if (file == NULL)
        return mk_fail(MINKE_EIO, "%s: no such file", path);
    if (mk_file_size(file) > QIMP_MAX_FILE)
        rc = mk_fail(MINKE_EFORMAT, "%s: too large", path);
    if (rc == MINKE_OK && mk_file_size(file) >= sizeof(magic))
        rc = mk_file_read(file, 0, magic, sizeof(magic));
    if (rc == MINKE_OK)
        rc = memcmp(magic, "GGUF", 4) == 0 ? qimp_gguf(out, env, path)
                                           : qimp_dat(out, file, path);
    mk_file_close(file);
    if (rc == MINKE_OK && out->n == 0)
        rc = mk_fail(MINKE_EFORMAT, "%s: holds no importance", path);
    twice = rc == MINKE_OK ? mk_names_sort(out->items, out->n, sizeof(*out->items)) : NULL;
    if (twice != NULL)
        rc = qimp_fail(path, twice->name.data, "appears twice");
    if (rc < 0)
        mk_q_importance_close(out);
    return rc;
}

void mk_q_importance_close(struct mk_q_importance *m)
{
    if (m->items != NULL)
        mk_free(m->arena.a, m->items);
    if (m->arena.a != NULL)
        mk_arena_free(&m->arena);
    memset(m, 0, sizeof(*m));
}

/* Rows of o are cols wide; a matrix of its own for each of the outermost dimension, or one
 * for all. */
int32_t mk_q_importance_find(const struct mk_q_importance *m, const struct mk_q_output *o,
                             struct mk_q_columns *out)
{
    const struct mk_q_importance_item *item = m->n == 0 ? NULL
        : mk_names_find(m->items, m->n, sizeof(*m->items), o->name);
    const uint64_t cols = o->dims[0], mats = o->n_dims >= 3 ? o->dims[2] : 1;

    memset(out, 0, sizeof(*out));
    if (item == NULL)
        return MINKE_OK;
    if (item->n != cols && item->n != cols * mats)
        return mk_fail(MINKE_EFORMAT, "importance of %s: %zu numbers, %llu expected", o->name,
                       item->n, (unsigned long long)(cols * mats));
    out->values = item->values;
    out->n_mats = item->n / (size_t)cols;
    out->rows = (size_t)o->dims[1];
    return MINKE_OK;
}
