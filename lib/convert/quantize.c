/* minke_quantize: a model in, a GGUF file out, a piece of a tensor in memory at a time. */
#include "convert/quantize.h"

#include <stddef.h>
#include <string.h>

#include "base/checked.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/params.h"

/* Weights of one piece: 64 MiB as f32, read and written beside it. */
#define QUANT_PIECE (1u << 24)

struct quant {
    struct mk_env env;
    struct mk_q_source source;
    struct mk_q_plan plan;
    struct mk_q_importance importance;
    struct mk_q_columns columns;    /* of the output at hand */
    struct mk_gguf_writer writer;
    struct mk_pool *pool;
    minke_progress_fn progress;
    void *progress_user;
    uint64_t done, total;           /* bytes of output */
    uint8_t *stored, *encoded;
    float *floats;                  /* rows of a piece, or all of a kv_b_proj */
    size_t stored_bytes, encoded_bytes, n_floats;
};

/* ---- A piece, by all threads --------------------------------------------------------------- */

struct quant_job {
    const struct mk_q_tensor *from; /* NULL: floats are there already */
    const float *scale;             /* of F8_E4M3, or NULL */
    uint64_t row, scale_cols;
    const struct mk_q_columns *columns;
    uint64_t first;                 /* row of the output that row 0 of the tensor becomes */
    const uint8_t *stored;
    float *floats;
    uint8_t *encoded;
    size_t cols;
    enum mk_type type;
    int32_t failed;                 /* 1 + the row that could not be encoded; atomic */
};

/* Row r of the piece: stored bytes to floats. */
static void quant_decode_row(const struct quant_job *j, size_t r)
{
    const size_t bytes = mk_type_row_bytes(j->from->type, j->cols);
    float *x = j->floats + r * j->cols;

    mk_decode(x, j->stored + r * bytes, j->cols, j->from->type);
    if (j->scale == NULL)
        return;
    /* weight_scale_inv: one factor per 128 x 128 weights. */
    const float *scale = j->scale + (j->row + r) / 128 * j->scale_cols;
    for (size_t i = 0; i < j->cols; i++)
        x[i] *= scale[i / 128];
}

/* What weighs the columns of row r of the piece. */
static const float *quant_columns(const struct quant_job *j, size_t r)
{
    const struct mk_q_columns *c = j->columns;

    if (c == NULL || c->values == NULL)
        return NULL;
    return c->n_mats == 1 ? c->values
         : c->values + (size_t)(j->first + j->row + r) / c->rows * j->cols;
}

static void quant_rows(void *arg, size_t begin, size_t end, uint32_t w)
{
    struct quant_job *j = arg;
    const size_t bytes = mk_type_row_bytes(j->type, j->cols);

    (void)w;
    for (size_t r = begin; r < end; r++) {
        if (j->from != NULL)
            quant_decode_row(j, r);
        if (j->encoded != NULL && mk_encode(j->encoded + r * bytes, j->floats + r * j->cols,
                                            j->cols, j->type, quant_columns(j, r)) < 0)
            mk_atomic_store(&j->failed, (int32_t)r + 1);
    }
}

static int32_t quant_run(struct quant *q, struct quant_job *job, size_t n, const char *name)
{
    struct mk_team team;
    size_t row;

    mk_team_begin(&team, q->pool);
    mk_team_run(&team, quant_rows, job, n, 1);
    mk_team_end(&team);
    if (job->failed == 0)
        return MINKE_OK;
    /* Messages belong to threads: once more on this one. */
    row = (size_t)job->failed - 1;
    mk_encode(job->encoded + row * mk_type_row_bytes(job->type, job->cols),
              job->floats + row * job->cols, job->cols, job->type, NULL);
    return mk_fail(MINKE_EFORMAT, "tensor %s: NaN, or a weight too large for type %s", name,
                   mk_type_info(job->type)->name);
}

/* Room for at least n bytes; what was there is lost. */
static int32_t quant_room(const struct quant *q, void **buffer, size_t *size, size_t n)
{
    if (n <= *size)
        return MINKE_OK;
    mk_free(&q->env.alloc, *buffer);
    *size = 0;
    *buffer = mk_alloc(&q->env.alloc, n, 1);
    if (*buffer == NULL)
        return MINKE_ENOMEM;
    *size = n;
    return MINKE_OK;
}

static int32_t quant_rooms(struct quant *q, size_t stored, size_t floats, size_t encoded)
{
    size_t bytes = 0, have = q->n_floats * sizeof(float);
    int32_t rc = mk_mul(&bytes, floats, sizeof(float)) ? MINKE_ENOMEM : MINKE_OK;

    if (rc == MINKE_OK)
        rc = quant_room(q, (void **)&q->stored, &q->stored_bytes, stored);
    if (rc == MINKE_OK)
        rc = quant_room(q, (void **)&q->floats, &have, bytes);
    q->n_floats = have / sizeof(float);
    if (rc == MINKE_OK)
        rc = quant_room(q, (void **)&q->encoded, &q->encoded_bytes, encoded);
    return rc;
}

/* ---- Tensors ------------------------------------------------------------------------------- */

/* The scales of an F8_E4M3 tensor, from the arena; NULL for other types. */
static int32_t quant_scales(struct quant *q, const struct mk_q_tensor *t, float **out,
                            uint64_t *n_cols)
{
    const uint64_t rows = (t->rows + 127) / 128, cols = (t->dims[0] + 127) / 128;
    const struct mk_q_tensor *s;
    char name[192];
    void *stored;
    int32_t rc;

    *out = NULL;
    *n_cols = cols;
    if (t->type != MK_F8_E4M3)
        return MINKE_OK;
    mk_format(name, sizeof(name), "%s_scale_inv", t->name.data);
    s = mk_q_source_find(&q->source, name);
    if (s == NULL)
        return mk_fail(MINKE_EFORMAT, "tensor %s: missing", name);
    if (s->rows != rows || s->dims[0] != cols || mk_type_info(s->type)->block_len != 1)
        return mk_fail(MINKE_EFORMAT, "tensor %s: shape (%llu, %llu) expected", name,
                       (unsigned long long)rows, (unsigned long long)cols);
    stored = mk_alloc(&q->env.alloc, (size_t)(rows * cols), 4);
    *out = mk_alloc(&q->env.alloc, (size_t)(rows * cols), sizeof(**out));
    rc = stored == NULL || *out == NULL ? MINKE_ENOMEM
                                        : mk_q_source_read(s, 0, (size_t)rows, stored);
    if (rc == MINKE_OK)
        mk_decode(*out, stored, (size_t)(rows * cols), s->type);
    mk_free(&q->env.alloc, stored);
    return rc;
}

static int32_t quant_write(struct quant *q, const void *data, size_t n)
{
    const int32_t rc = mk_gguf_write_data(&q->writer, data, n);

    q->done += n;
    if (rc == MINKE_OK && q->progress != NULL
        && q->progress(q->progress_user, q->done, q->total) != 0)
        return mk_fail(MINKE_ECANCELED, "stopped by the progress callback");
    return rc;
}

/* One source tensor after another, a piece of rows at a time.  Equal types are copied. */
static int32_t quant_rows_of(struct quant *q, const struct mk_q_output *o,
                             const struct mk_q_tensor *t, uint64_t first)
{
    const size_t cols = (size_t)t->dims[0], in_bytes = mk_type_row_bytes(t->type, cols);
    const size_t out_bytes = mk_type_row_bytes(o->type, cols);
    const size_t step = mk_max(1, QUANT_PIECE / cols);
    const size_t most = (size_t)(t->rows < step ? t->rows : step);
    struct quant_job job = {.from = t, .cols = cols, .type = o->type, .columns = &q->columns,
                            .first = first};
    const int copies = o->type == t->type;
    float *scale = NULL;
    int32_t rc = quant_scales(q, t, &scale, &job.scale_cols);

    if (rc == MINKE_OK)
        rc = quant_rooms(q, most * in_bytes, copies ? 0 : most * cols,
                         copies ? 0 : most * out_bytes);
    job.scale = scale;
    job.stored = q->stored;
    job.floats = q->floats;
    job.encoded = q->encoded;
    for (; job.row < t->rows && rc == MINKE_OK; job.row += step) {
        const size_t n = (size_t)(t->rows - job.row < step ? t->rows - job.row : step);
        rc = mk_q_source_read(t, job.row, n, q->stored);
        if (rc == MINKE_OK && !copies)
            rc = quant_run(q, &job, n, t->name.data);
        if (rc == MINKE_OK)
            rc = quant_write(q, copies ? q->stored : q->encoded, n * out_bytes);
    }
    mk_free(&q->env.alloc, scale);
    return rc;
}

/* All of a kv_b_proj as floats, into the first part of q->floats. */
static int32_t quant_load_kv_b(struct quant *q, const struct mk_q_tensor *t, size_t encoded)
{
    const size_t cols = (size_t)t->dims[0], rows = (size_t)t->rows;
    struct quant_job job = {.from = t, .cols = cols, .type = MK_F32};
    float *scale = NULL;
    int32_t rc = quant_scales(q, t, &scale, &job.scale_cols);

    if (rc == MINKE_OK)
        rc = quant_rooms(q, rows * mk_type_row_bytes(t->type, cols), 2 * rows * cols,
                         encoded);
    if (rc == MINKE_OK)
        rc = mk_q_source_read(t, 0, rows, q->stored);
    job.scale = scale;
    job.stored = q->stored;
    job.floats = q->floats;
    if (rc == MINKE_OK)
        rc = quant_run(q, &job, rows, t->name.data);
    mk_free(&q->env.alloc, scale);
    return rc;
}

/* Heads' parts of kv_b_proj (H (N + V), L): attn_k_b[h][l][n] = kv_b[h (N + V) + n][l],
 * attn_v_b[h][v][l] = kv_b[h (N + V) + N + v][l]. */
static int32_t quant_kv_b(struct quant *q, const struct mk_q_output *o)
{
    const struct mk_q_tensor *t = o->from[0];
    const size_t nope = q->source.config.qk_nope_head_dim, l = (size_t)t->dims[0];
    const size_t head = nope + q->source.config.v_head_dim;
    const size_t cols = (size_t)o->dims[0], rows = (size_t)o->dims[1], heads = (size_t)o->dims[2];
    const size_t out_bytes = heads * rows * mk_type_row_bytes(o->type, cols);
    struct quant_job job = {.cols = cols, .type = o->type, .columns = &q->columns};
    int32_t rc = quant_load_kv_b(q, t, out_bytes);

    if (rc < 0)
        return rc;
    job.floats = q->floats + (size_t)t->rows * l;
    job.encoded = q->encoded;
    for (size_t h = 0; h < heads; h++) {
        for (size_t r = 0; r < rows; r++) {
            const float *from = q->floats + h * head * l;
            float *to = job.floats + (h * rows + r) * cols;
            if (o->how == MK_Q_V_B)
                memcpy(to, from + (nope + r) * l, cols * sizeof(*to));
            for (size_t i = 0; o->how == MK_Q_K_B && i < cols; i++)
                to[i] = from[i * l + r];
        }
    }
    rc = quant_run(q, &job, heads * rows, t->name.data);
    return rc < 0 ? rc : quant_write(q, q->encoded, out_bytes);
}

static int32_t quant_output(struct quant *q, const struct mk_q_output *o)
{
    int32_t rc = mk_q_importance_find(&q->importance, o, &q->columns);

    if (rc == MINKE_OK && o->how != MK_Q_ROWS)
        rc = quant_kv_b(q, o);
    for (uint32_t i = 0; o->how == MK_Q_ROWS && i < o->n_from && rc == MINKE_OK; i++)
        rc = quant_rows_of(q, o, o->from[i], i * o->from[i]->rows);
    return rc < 0 ? rc : mk_gguf_write_pad(&q->writer);
}

/* ---- The whole ----------------------------------------------------------------------------- */

static int32_t quant_types(struct mk_q_plan *plan, const minke_quantize_params *p)
{
    const char *const names[MK_GGUF_N_PARTS] = {p->embed, p->head, p->attention, p->dense,
                                                p->shared, p->gate_up, p->down};
    int32_t rc = mk_q_preset(plan, p->preset == NULL ? "q8_0" : p->preset);

    for (int i = 0; i < MK_GGUF_N_PARTS && rc == MINKE_OK; i++)
        if (names[i] != NULL)
            rc = mk_q_type(&plan->types[i], names[i]);
    return rc;
}

static int32_t quant_announce(struct quant *q, const char *in_path)
{
    int32_t rc = mk_q_metadata(&q->writer, &q->source, in_path, q->plan.file_type);

    for (size_t i = 0; i < q->plan.n && rc == MINKE_OK; i++) {
        const struct mk_q_output *o = &q->plan.outputs[i];
        rc = mk_gguf_put_tensor(&q->writer, o->name, o->type, o->dims, o->n_dims);
        if (rc == MINKE_OK)
            q->total += mk_type_row_bytes(o->type, (size_t)o->dims[0]) * o->dims[1] * o->dims[2]
                  * o->dims[3];
    }
    return rc;
}

static int32_t quant_all(struct quant *q, const char *out_path, const char *in_path,
                         const minke_quantize_params *p)
{
    uint32_t n_threads = p->n_threads;
    int32_t rc = quant_types(&q->plan, p);

    if (rc == MINKE_OK)
        rc = mk_q_source_open(&q->source, &q->env, in_path);
    if (rc == MINKE_OK && p->importance != NULL)
        rc = mk_q_importance_open(&q->importance, &q->env, p->importance);
    if (rc == MINKE_OK)
        rc = mk_q_plan(&q->plan, &q->source);
    if (rc == MINKE_OK)
        rc = quant_announce(q, in_path);
    if (n_threads == 0)
        n_threads = mk_cpu_threads();
    if (rc == MINKE_OK)
        rc = mk_pool_open(&q->pool, &q->env.alloc, n_threads, NULL, NULL);
    if (rc == MINKE_OK)
        rc = mk_gguf_write_header(&q->writer, out_path);
    for (size_t i = 0; i < q->plan.n && rc == MINKE_OK; i++)
        rc = quant_output(q, &q->plan.outputs[i]);
    return rc < 0 ? rc : mk_gguf_write_commit(&q->writer);
}

void minke_quantize_params_init(minke_quantize_params *params, size_t size)
{
    mk_params_init(params, size);
}

int32_t minke_quantize(const char *out_path, const char *in_path,
                       const minke_quantize_params *params)
{
    minke_quantize_params p;
    struct quant q;
    struct mk_fpu fpu;
    int32_t rc = mk_params_read(&p, sizeof(p), params, sizeof(p));

    if (rc < 0)
        return rc;
    if (out_path == NULL || in_path == NULL)
        return mk_fail(MINKE_EINVAL, "a path is NULL");
    if ((p.alloc == NULL) != (p.free == NULL) || p.n_threads > 1024)
        return p.n_threads > 1024
             ? mk_fail(MINKE_EINVAL, "n_threads: %u; at most 1024 expected", p.n_threads)
             : mk_fail(MINKE_EINVAL, "alloc and free: set both");
    memset(&q, 0, sizeof(q));
    q.env.alloc.alloc = p.alloc;
    q.env.alloc.free = p.free;
    q.env.alloc.user = p.alloc_user;
    q.env.log = p.log;
    q.env.log_user = p.log_user;
    q.progress = p.progress;
    q.progress_user = p.progress_user;
    mk_fpu_enter(&fpu);
    mk_gguf_writer_init(&q.writer, &q.env.alloc);
    rc = quant_all(&q, out_path, in_path, &p);
    mk_gguf_writer_free(&q.writer);
    mk_q_importance_close(&q.importance);
    mk_q_source_close(&q.source);
    mk_pool_free(q.pool);
    mk_free(&q.env.alloc, q.stored);
    mk_free(&q.env.alloc, q.floats);
    mk_free(&q.env.alloc, q.encoded);
    mk_fpu_leave(&fpu);
    return rc;
}
