/* minke_quantize: a model in, a GGUF file out, a piece of a tensor in memory at a time. */
#include "convert/quantize.h"

#include <stddef.h>
#include <string.h>

#include "base/checked.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/params.h"
#include "base/pool.h"

/* Weights of one piece: 64 MiB as f32, read and written beside it. */
#define QUANT_PIECE (1u << 24)

struct quant_buffer {
    void *data;
    size_t size;                    /* bytes */
};

struct quant {
    struct mk_env env;
    struct mk_checkpoint checkpoint;
    struct mk_q_plan plan;
    struct mk_q_importance importance;
    struct mk_q_columns columns;    /* of the output at hand */
    struct mk_gguf_writer writer;
    struct mk_pool *pool;
    minke_progress_fn progress;
    void *progress_user;
    uint64_t done, total;           /* bytes of output */
    struct quant_buffer stored, encoded, floats;
};

/* ---- A piece, by all threads --------------------------------------------------------------- */

/* Rows of one length: decoded, where stored is given, and encoded, where there is room. */
struct quant_job {
    const uint8_t *stored;
    float *floats;
    uint8_t *encoded;
    size_t cols;
    enum mk_type from, type;
    const float *scale;             /* of F8_E4M3, or NULL */
    uint64_t row;                   /* of the tensor, that row 0 of the piece is */
    const struct mk_q_columns *columns;
    uint64_t out_row;               /* of the output, that row 0 of the piece becomes */
    int32_t failed;                 /* some row could not be encoded; atomic */
};

/* What weighs the columns of row r of the piece. */
static const float *quant_columns(const struct quant_job *j, size_t r)
{
    const struct mk_q_columns *c = j->columns;

    if (c->values == NULL || c->n_mats == 1)
        return c->values;
    return c->values + (size_t)(j->out_row + r) / c->rows * j->cols;
}

static void quant_rows(void *arg, size_t begin, size_t end, uint32_t w)
{
    struct quant_job *j = arg;
    const size_t in_bytes = mk_type_row_bytes(j->from, j->cols);
    const size_t out_bytes = mk_type_row_bytes(j->type, j->cols);

    (void)w;
    for (size_t r = begin; r < end; r++) {
        float *x = j->floats + r * j->cols;

        if (j->stored != NULL) {
            mk_decode(x, j->stored + r * in_bytes, j->cols, j->from);
            mk_scale_row(x, j->scale, (size_t)j->row + r, j->cols);
        }
        if (j->encoded != NULL && mk_encode(j->encoded + r * out_bytes, x, j->cols, j->type,
                                            quant_columns(j, r)) < 0)
            mk_atomic_store(&j->failed, 1);
    }
}

static int32_t quant_run(struct quant *q, struct quant_job *job, size_t n,
                         const struct mk_stored *t)
{
    struct mk_team team;

    mk_team_begin(&team, q->pool);
    mk_team_run(&team, quant_rows, job, n, 1);
    mk_team_end(&team);
    if (job->failed == 0)
        return MINKE_OK;
    return mk_fail(MINKE_EFORMAT, "tensor %s: NaN, or a weight too large for type %s",
                   t->name.data, mk_type_info(job->type)->name);
}

/* Room for at least n bytes; what was there is lost. */
static int32_t quant_room(const struct quant *q, struct quant_buffer *b, size_t n)
{
    if (n <= b->size)
        return MINKE_OK;
    mk_free(&q->env.alloc, b->data);
    b->data = mk_alloc(&q->env.alloc, n, 1);
    b->size = b->data == NULL ? 0 : n;
    return b->data == NULL ? MINKE_ENOMEM : MINKE_OK;
}

/* ---- Tensors ------------------------------------------------------------------------------- */

/* The scales of an F8_E4M3 tensor, for mk_free; NULL for other types. */
static int32_t quant_scales(struct quant *q, const struct mk_stored *t, float **out)
{
    struct mk_stored s;
    int32_t rc;

    *out = NULL;
    if (t->type != MK_F8_E4M3)
        return MINKE_OK;
    rc = mk_checkpoint_take_scale(&q->checkpoint, t, &s);
    if (rc < 0)
        return rc;
    *out = mk_alloc(&q->env.alloc, mk_stored_count(&s), sizeof(**out));
    return *out == NULL ? MINKE_ENOMEM : mk_stored_floats(*out, &s, &q->env.alloc);
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

/* n rows of t from job.row on, turned or not, as encoded rows of the output.  Equal types are
 * copied. */
static int32_t quant_piece(struct quant *q, const struct mk_stored *t, struct quant_job job,
                           size_t n, int turns)
{
    const size_t in_bytes = n * mk_type_row_bytes(job.from, job.cols);
    const size_t n_out = turns ? job.cols : n, cols = turns ? n : job.cols;
    const size_t out_bytes = n_out * mk_type_row_bytes(job.type, cols);
    size_t floats;
    int32_t rc;

    if ((rc = quant_room(q, &q->stored, in_bytes)) < 0
        || (rc = mk_file_read(t->file, t->offset + job.row * (in_bytes / n), q->stored.data,
                              in_bytes)) < 0)
        return rc;
    if (job.type == job.from && !turns)
        return quant_write(q, q->stored.data, in_bytes);
    if (mk_mul(&floats, (n << turns) * sizeof(float), job.cols))
        return mk_fail_memory(n, t->name.data);
    if ((rc = quant_room(q, &q->floats, floats)) < 0
        || (rc = quant_room(q, &q->encoded, out_bytes)) < 0)
        return rc;
    job.stored = q->stored.data;
    job.floats = q->floats.data;
    job.encoded = turns ? NULL : q->encoded.data;
    if ((rc = quant_run(q, &job, n, t)) >= 0 && turns) {
        mk_transpose(job.floats + n * n_out, job.floats, n, n_out, sizeof(float));
        job = (struct quant_job){.floats = job.floats + n * n_out, .encoded = q->encoded.data,
                                 .cols = cols, .type = job.type, .columns = job.columns,
                                 .out_row = job.out_row};
        rc = quant_run(q, &job, n_out, t);
    }
    return rc < 0 ? rc : quant_write(q, q->encoded.data, out_bytes);
}

/* The rows that o takes of t, a piece at a time, from its own row *out_row on. */
static int32_t quant_tensor(struct quant *q, const struct mk_q_output *o,
                            const struct mk_stored *t, uint64_t *out_row)
{
    const struct mk_q_rows *rows = &o->rows;
    struct quant_job job = {.from = t->type, .type = o->type, .columns = &q->columns,
                            .cols = t->n_dims > 0 ? (size_t)t->shape[t->n_dims - 1] : 1};
    const size_t step = rows->is_turned ? (size_t)rows->n : mk_max(1, QUANT_PIECE / job.cols);
    float *scale = NULL;
    int32_t rc = quant_scales(q, t, &scale);

    job.scale = scale;
    for (uint64_t run = 0; run < rows->n_runs && rc == MINKE_OK; run++)
        for (uint64_t r = 0; r < rows->n && rc == MINKE_OK; r += step) {
            const size_t n = (size_t)(rows->n - r < step ? rows->n - r : step);

            job.row = rows->first + run * rows->apart + r;
            job.out_row = *out_row;
            rc = quant_piece(q, t, job, n, rows->is_turned);
            *out_row += rows->is_turned ? job.cols : n;
        }
    mk_free(&q->env.alloc, scale);
    return rc;
}

static int32_t quant_output(struct quant *q, const struct mk_q_output *o)
{
    uint64_t out_row = 0;
    int32_t rc = mk_q_importance_find(&q->importance, o, &q->columns);

    for (uint32_t i = 0; i < o->n_from && rc == MINKE_OK; i++)
        rc = quant_tensor(q, o, &o->from[i], &out_row);
    return rc < 0 ? rc : mk_gguf_write_pad(&q->writer);
}

/* ---- The whole ----------------------------------------------------------------------------- */

static int32_t quant_types(struct mk_q_plan *plan, const minke_quantize_params *p)
{
    const char *const names[MK_N_CHOSEN] = {p->embed, p->head, p->attention, p->dense,
                                            p->shared, p->gate_up, p->down};
    int32_t rc = mk_q_preset(plan, p->preset == NULL ? "q8_0" : p->preset);

    for (int i = 0; i < MK_N_CHOSEN && rc == MINKE_OK; i++)
        if (names[i] != NULL)
            rc = mk_q_type(&plan->types[i], names[i]);
    return rc;
}

static int32_t quant_announce(struct quant *q)
{
    int32_t rc = mk_q_metadata(&q->writer, &q->checkpoint, q->plan.file_type);

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
    const uint32_t n_threads = p->n_threads > 0 ? p->n_threads : mk_cpu_threads();
    int32_t rc;

    if ((rc = quant_types(&q->plan, p)) < 0
        || (rc = mk_checkpoint_open(&q->checkpoint, &q->env, in_path, 1)) < 0
        || (p->importance != NULL
            && (rc = mk_q_importance_open(&q->importance, &q->env, p->importance)) < 0)
        || (rc = mk_q_plan(&q->plan, &q->checkpoint)) < 0 || (rc = quant_announce(q)) < 0
        || (rc = mk_pool_open(&q->pool, &q->env.alloc, n_threads, NULL, NULL)) < 0
        || (rc = mk_gguf_write_header(&q->writer, out_path)) < 0)
        return rc;
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
    mk_free(&q.env.alloc, q.plan.outputs);
    mk_checkpoint_close(&q.checkpoint);
    mk_pool_free(q.pool);
    mk_free(&q.env.alloc, q.stored.data);
    mk_free(&q.env.alloc, q.floats.data);
    mk_free(&q.env.alloc, q.encoded.data);
    mk_fpu_leave(&fpu);
    return rc;
}
