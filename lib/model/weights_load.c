/* The bytes behind bound tensors: read or mapped, verified, decoded, packed. */
#include <string.h>

#include "base/checked.h"
#include "model/weights_internal.h"
#include "kernels/matmul.h"

#define LOAD_ALIGN 64u
#define LOAD_CHUNK ((size_t)512 << 10)   /* what a worker reads at a time: stays in its cache */
#define LOAD_SMALL ((size_t)64 << 10)    /* parts below this are not worth a worker */
#define LOAD_STEPS 512u                  /* calls of progress, about */

struct load_state {
    struct mk_weights *w;
    const struct mk_env *env;
    const struct mk_config *config;
    const struct mk_load_options *options;
    struct mk_team team, alone;
    uint8_t *scratch;        /* (team.n, scratch_bytes) */
    size_t scratch_bytes;
    uint64_t done, total, reported;
};

/* ---- Verification -------------------------------------------------------- */

static int32_t load_fail_bad(const struct mk_stored *t)
{
    return mk_fail(MINKE_EFORMAT, "tensor %s: holds NaN or infinity", t->name.data);
}

/* ---- Progress ------------------------------------------------------------ */

static int32_t load_progress(struct load_state *s, uint64_t bytes)
{
    const struct mk_load_options *o = s->options;

    s->done += bytes;
    if (o->progress == NULL
        || (s->done < s->total && s->done - s->reported < s->total / LOAD_STEPS))
        return MINKE_OK;
    s->reported = s->done;
    if (o->progress(o->progress_user, s->done, s->total) != 0)
        return mk_fail(MINKE_ECANCELED, "loading was stopped by its progress callback");
    return MINKE_OK;
}

/* ---- Vectors and scales -------------------------------------------------- */

/* A whole small tensor as floats in the arena. */
static int32_t load_floats(struct load_state *s, const float **out, const struct mk_stored *t)
{
    const size_t n = mk_stored_count(t);
    float *floats = mk_arena_alloc(&s->w->arena, n, sizeof(float));
    const int32_t rc = floats == NULL ? MINKE_ENOMEM
                                      : mk_stored_floats(floats, t, &s->env->alloc);

    if (rc < 0)
        return rc;
    *out = floats;
    return (s->options->flags & MINKE_CONTEXT_VERIFY) && !mk_all_finite(floats, n, MK_F32)
         ? load_fail_bad(t) : MINKE_OK;
}

/* ---- Work shared among the threads --------------------------------------- */

/* Jobs run on workers, whose error messages would be lost: the first one is kept. */
struct load_job {
    struct load_state *s;
    const struct mk_weights_item *item;
    struct mk_mat *mat;      /* of a matrix */
    uint8_t *out;
    const uint8_t *mapped;   /* the tensor in memory, or NULL to read it */
    const float *scale;
    int32_t failed, rc;
    char message[512];
};

static void load_job_fail(struct load_job *job, int32_t rc)
{
    if (mk_atomic_swap(&job->failed, 1) != 0)
        return;
    job->rc = rc;
    mk_format(job->message, sizeof(job->message), "%s", minke_last_error());
}

static int32_t load_job_run(struct load_job *job, mk_job_fn fn, size_t n, size_t grain)
{
    struct load_state *s = job->s;
    const int shared = job->mapped != NULL || mk_file_is_shared(job->item->t.file);

    mk_team_run(shared ? &s->team : &s->alone, fn, job, n, grain);
    return job->failed ? mk_fail(job->rc, "%s", job->message) : MINKE_OK;
}

/* Rows [begin, end) of t as stored: mapped, or read into buffer.  NULL after a failure. */
static const uint8_t *load_rows(struct load_job *job, const struct mk_stored *t, size_t begin,
                                size_t end, uint8_t *buffer)
{
    const size_t n_in = (size_t)t->shape[t->n_dims - 1];
    const size_t row_bytes = mk_type_row_bytes(t->type, n_in);
    const uint64_t at = (uint64_t)begin * row_bytes;
    const uint8_t *rows = buffer;
    int32_t rc = MINKE_OK;

    if (job->mapped != NULL)
        rows = job->mapped + at;
    else
        rc = mk_file_read(t->file, t->offset + at, buffer, (end - begin) * row_bytes);
    if (rc == MINKE_OK && (job->s->options->flags & MINKE_CONTEXT_VERIFY)
        && !mk_all_finite(rows, (end - begin) * n_in, t->type))
        rc = load_fail_bad(t);
    if (rc == MINKE_OK)
        return rows;
    load_job_fail(job, rc);
    return NULL;
}

/* ---- Matrices ------------------------------------------------------------ */

static int load_is_packed(const struct load_state *s, const struct mk_weights_item *item)
{
    return s->options->kernels != NULL && !(s->options->flags & MINKE_CONTEXT_MMAP)
        && !item->keep_rows && mk_mat_packed_bytes(item->t.type, item->n_out, item->n_in) > 0;
}

/* A mapping is used as it lies, unless its file puts numbers at odd places. */
static int load_is_mapped(const struct load_state *s, const struct mk_weights_item *item)
{
    const struct mk_type_info *info = mk_type_info(item->t.type);
    const uint64_t align = info->block_len == 1 ? info->block_bytes : 2;

    return (s->options->flags & MINKE_CONTEXT_MMAP) && item->t.offset % align == 0;
}

static void load_matrix_job(void *arg, size_t begin, size_t end, uint32_t worker)
{
    struct load_job *job = arg;
    const struct load_state *s = job->s;
    const struct mk_mat *mat = job->mat;
    const int packed = load_is_packed(s, job->item);
    uint8_t *scratch = s->scratch + worker * s->scratch_bytes;
    const size_t fit = mk_max(s->scratch_bytes / mat->row_bytes, 1);
    const size_t step = fit >= MK_LANES ? fit / MK_LANES * MK_LANES : fit;

    for (size_t r = begin; r < end && !mk_atomic_load(&job->failed); r += step) {
        const size_t last = mk_min(r + step, end);
        /* Mapped rows stay where they are: there is no out then. */
        uint8_t *buffer = packed || job->out == NULL ? scratch : job->out + r * mat->row_bytes;
        const uint8_t *rows = load_rows(job, &job->item->t, r, last, buffer);

        if (rows != NULL && packed)
            mk_mat_pack(job->out, mat, rows, r, last, s->options->kernels);
    }
}

/* A matrix in rows, without data. */
static struct mk_mat load_shape(enum mk_type type, size_t n_out, size_t n_in)
{
    return (struct mk_mat){.type = type, .layout = MK_LAYOUT_ROWS, .n_out = n_out, .n_in = n_in,
                           .row_bytes = mk_type_row_bytes(type, n_in)};
}

static int32_t load_matrix(struct load_state *s, const struct mk_weights_item *item,
                           uint8_t *out)
{
    struct load_job job = {.s = s, .item = item, .mat = item->field, .out = out};
    struct mk_mat *mat = item->field;
    const void *file = NULL;
    int32_t rc = MINKE_OK;

    *mat = load_shape(item->t.type, item->n_out, item->n_in);
    mat->exact = item->kind == MK_KIND_DECIDES || item->kind == MK_KIND_SCORES;
    if ((item->scale.file != NULL && (rc = load_floats(s, &mat->scale, &item->scale)) < 0)
        || (load_is_mapped(s, item) && (rc = mk_file_map(item->t.file, &file)) < 0))
        return rc;
    if (file != NULL)
        job.mapped = (const uint8_t *)file + item->t.offset;
    if (file == NULL || (s->options->flags & MINKE_CONTEXT_VERIFY)) {
        const size_t grain = mk_round_up(LOAD_SMALL / mat->row_bytes + 1, MK_LANES);

        rc = load_job_run(&job, load_matrix_job, mat->n_out, grain);
    }
    mat->data = file != NULL ? job.mapped : out;
    if (load_is_packed(s, item))
        mat->layout = MK_LAYOUT_PACKED;
    return rc;
}

/* ---- Heads --------------------------------------------------------------- */

/* What a head's matrices are kept as; the letters are those of weights.h. */
struct load_head {
    struct mk_mat k_b, v_b, k_up;    /* (L, N), (V, L), (N, L), without data */
};

/* Single numbers without a scale that lies elsewhere. */
static int load_is_plain(enum mk_type type)
{
    return mk_type_info(type)->block_len == 1 && type != MK_F8_E4M3;
}

/* The type of a matrix of n_in columns that the file holds the other way round.  Quantized
 * weights meet activations of 8 bits anyway, so 8 bits are enough for it. */
static enum mk_type load_turned_type(enum mk_type stored, size_t n_in)
{
    if (load_is_plain(stored))
        return stored;
    return stored == MK_F8_E4M3 || n_in % mk_type_info(MK_Q8_0)->block_len != 0 ? MK_F32
                                                                                : MK_Q8_0;
}

static struct load_head load_head(const struct load_state *s, const struct mk_weights_item *item)
{
    const size_t N = s->config->qk_nope_head_dim, V = s->config->v_head_dim;
    const size_t L = s->config->kv_lora_rank;
    const enum mk_type stored = item->t.type, whole = stored == MK_F8_E4M3 ? MK_F32 : stored;

    if (item->kind == MK_KIND_HEADS)
        return (struct load_head){load_shape(stored, L, N), load_shape(item->values.type, V, L),
                                  load_shape(load_turned_type(stored, L), N, L)};
    return (struct load_head){load_shape(load_turned_type(stored, N), L, N),
                              load_shape(whole, V, L), load_shape(whole, N, L)};
}

static size_t load_mat_bytes(const struct load_state *s, const struct mk_mat *m)
{
    const size_t packed = s->options->kernels == NULL ? 0
                        : mk_mat_packed_bytes(m->type, m->n_out, m->n_in);

    return mk_round_up(packed > 0 ? packed : m->n_out * m->row_bytes, LOAD_ALIGN);
}

static size_t load_head_bytes(const struct load_state *s, const struct load_head *head)
{
    return load_mat_bytes(s, &head->k_b) + load_mat_bytes(s, &head->v_b)
         + load_mat_bytes(s, &head->k_up);
}

/* Bytes of one part of a worker's scratch: what a head takes as floats at most.  There are three
 * parts: rows as stored, these as floats, and turned. */
static size_t load_head_scratch(const struct mk_config *c)
{
    const size_t rows = (size_t)c->qk_nope_head_dim + c->v_head_dim;

    return mk_round_up(rows * c->kv_lora_rank * sizeof(float), LOAD_ALIGN);
}

/* The matrix, of these rows, kept at *out, which moves behind it. */
static struct mk_mat load_keep(const struct load_state *s, struct mk_mat mat, uint8_t **out,
                               const uint8_t *rows)
{
    mat.data = *out;
    if (s->options->kernels != NULL && mk_mat_packed_bytes(mat.type, mat.n_out, mat.n_in) > 0) {
        mk_mat_pack(*out, &mat, rows, 0, mat.n_out, s->options->kernels);
        mat.layout = MK_LAYOUT_PACKED;
    } else {
        memcpy(*out, rows, mat.n_out * mat.row_bytes);
    }
    *out += load_mat_bytes(s, &mat);
    return mat;
}

/* The rows of a matrix as its transpose in another type: what load_turned_type says.  The result
 * is in one of the two buffers. */
static const uint8_t *load_turn(uint8_t *floats, uint8_t *turned, const uint8_t *rows,
                                const struct mk_mat *mat, enum mk_type type)
{
    const size_t n = mat->n_out * mat->n_in;

    if (load_is_plain(mat->type)) {
        mk_transpose(turned, rows, mat->n_out, mat->n_in, mk_type_info(mat->type)->block_bytes);
        return turned;
    }
    mk_decode((float *)(void *)floats, rows, n, mat->type);
    mk_transpose(turned, floats, mat->n_out, mat->n_in, sizeof(float));
    if (type == MK_F32)
        return turned;
    mk_encode(floats, (const float *)(const void *)turned, n, type, NULL);
    return floats;
}

/* Rows [row, row + n) of an F8_E4M3 kv_b_proj as floats. */
static void load_scaled_rows(const struct load_job *job, uint8_t *out, const uint8_t *rows,
                             size_t row, size_t n)
{
    const size_t L = job->item->n_in;
    float *floats = (float *)(void *)out;

    for (size_t r = 0; r < n; r++) {
        mk_decode(floats + r * L, rows + r * L, L, MK_F8_E4M3);
        mk_scale_row(floats + r * L, job->scale, row + r, L);
    }
}

/* Heads [begin, end).  Head h of kv_b_proj (H * (N + V), L) is N rows for keys, V for
 * values:  k_up = the first, v_b = the second, k_b = k_up transposed. */
static void load_kv_b_job(void *arg, size_t begin, size_t end, uint32_t worker)
{
    struct load_job *job = arg;
    const struct load_state *s = job->s;
    const struct load_head head = load_head(s, job->item);
    const size_t each = load_head_bytes(s, &head), n = head.k_up.n_out + head.v_b.n_out;
    struct mk_attention_weights *attn = job->item->field;
    uint8_t *stored = s->scratch + worker * s->scratch_bytes;
    uint8_t *floats = stored + load_head_scratch(s->config);
    uint8_t *turned = floats + load_head_scratch(s->config);

    for (size_t h = begin; h < end && !mk_atomic_load(&job->failed); h++) {
        const uint8_t *rows = load_rows(job, &job->item->t, h * n, (h + 1) * n, stored);
        uint8_t *out = job->out + h * each;

        if (rows == NULL)
            return;
        if (job->item->t.type == MK_F8_E4M3) {
            load_scaled_rows(job, floats, rows, h * n, n);
            rows = floats;
        }
        attn->v_b[h] = load_keep(s, head.v_b, &out, rows + head.k_up.n_out * head.k_up.row_bytes);
        attn->k_up[h] = load_keep(s, head.k_up, &out, rows);
        rows = load_turn(floats, turned, rows, &head.k_up, head.k_b.type);
        attn->k_b[h] = load_keep(s, head.k_b, &out, rows);
    }
}

/* The same, where the file took kv_b_proj apart:  k_b (H, L, N) and v_b (H, V, L) as they are,
 * k_up = k_b transposed. */
static void load_split_job(void *arg, size_t begin, size_t end, uint32_t worker)
{
    struct load_job *job = arg;
    const struct load_state *s = job->s;
    const struct load_head head = load_head(s, job->item);
    const size_t each = load_head_bytes(s, &head), L = head.k_b.n_out, V = head.v_b.n_out;
    struct mk_attention_weights *attn = job->item->field;
    uint8_t *stored = s->scratch + worker * s->scratch_bytes;
    uint8_t *floats = stored + load_head_scratch(s->config);
    uint8_t *turned = floats + load_head_scratch(s->config);

    for (size_t h = begin; h < end && !mk_atomic_load(&job->failed); h++) {
        const uint8_t *rows = load_rows(job, &job->item->t, h * L, (h + 1) * L, stored);
        uint8_t *out = job->out + h * each;

        if (rows == NULL)
            return;
        attn->k_b[h] = load_keep(s, head.k_b, &out, rows);
        rows = load_turn(floats, turned, rows, &head.k_b, head.k_up.type);
        attn->k_up[h] = load_keep(s, head.k_up, &out, rows);
        rows = load_rows(job, &job->item->values, h * V, (h + 1) * V, stored);
        if (rows == NULL)
            return;
        attn->v_b[h] = load_keep(s, head.v_b, &out, rows);
    }
}

static int32_t load_heads(struct load_state *s, const struct mk_weights_item *item, uint8_t *out)
{
    struct load_job job = {.s = s, .item = item, .out = out};
    const int32_t rc = item->scale.file == NULL ? MINKE_OK
                                                : load_floats(s, &job.scale, &item->scale);

    return rc < 0 ? rc : load_job_run(&job, item->kind == MK_KIND_KV_B ? load_kv_b_job
                                                                       : load_split_job,
                                      s->config->num_attention_heads, 1);
}

/* ---- Everything ---------------------------------------------------------- */

static int load_is_heads(const struct mk_weights_item *item)
{
    return item->kind == MK_KIND_KV_B || item->kind == MK_KIND_HEADS;
}

/* Bytes that an item takes of its group's block. */
static size_t load_item_bytes(const struct load_state *s, const struct mk_weights_item *item)
{
    if (item->kind == MK_KIND_VECTOR)
        return 0;
    if (load_is_heads(item)) {
        const struct load_head head = load_head(s, item);

        return s->config->num_attention_heads * load_head_bytes(s, &head);
    }
    if (load_is_packed(s, item))
        return mk_round_up(mk_mat_packed_bytes(item->t.type, item->n_out, item->n_in),
                           LOAD_ALIGN);
    return load_is_mapped(s, item) ? 0 : mk_round_up((size_t)item->t.size, LOAD_ALIGN);
}

/* Scratch that a worker needs for an item: whole groups of rows, or a head thrice. */
static size_t load_item_scratch(const struct load_state *s, const struct mk_weights_item *item)
{
    if (load_is_heads(item))
        return 3 * load_head_scratch(s->config);
    return item->kind == MK_KIND_VECTOR || !load_is_packed(s, item)
         ? 0 : mk_min(MK_LANES, item->n_out) * mk_type_row_bytes(item->t.type, item->n_in);
}

static int32_t load_item(struct load_state *s, const struct mk_weights_item *item, uint8_t *out,
                         size_t bytes)
{
    uint64_t held = bytes;
    int32_t rc;

    if (item->kind == MK_KIND_VECTOR) {
        rc = load_floats(s, item->field, &item->t);
        held = item->n_out * sizeof(float);
    } else if (load_is_heads(item)) {
        rc = load_heads(s, item, out);
    } else {
        rc = load_matrix(s, item, out);
        held = bytes > 0 ? bytes : item->t.size;
        if (item->scale.file != NULL)
            held += mk_stored_count(&item->scale) * sizeof(float);
    }
    if (item->kind != MK_KIND_VECTOR && !item->keep_rows) {
        s->w->types |= (uint64_t)1 << item->t.type;
        if (item->kind == MK_KIND_HEADS)
            s->w->types |= (uint64_t)1 << item->values.type;
    }
    s->w->part_bytes[item->part] += held;
    s->w->bytes += held;
    return rc == MINKE_OK ? load_progress(s, item->t.size + item->values.size) : rc;
}

/* Items [begin, end) of one group, in one block. */
static int32_t load_group(struct load_state *s, const struct mk_weights_item *items, size_t n)
{
    struct mk_block *block = &s->w->blocks[s->w->n_blocks];
    size_t size = 0, at = 0;
    int32_t rc = MINKE_OK;

    for (size_t i = 0; i < n; i++)
        if (mk_add(&size, size, load_item_bytes(s, &items[i])) != 0)
            return mk_fail(MINKE_ENOMEM, "out of memory: weights do not fit an address space");
    if (size > 0) {
        rc = mk_block_alloc(block, &s->env->alloc, size);
        if (rc < 0)
            return rc;
        s->w->n_blocks++;
    }
    for (size_t i = 0; i < n && rc == MINKE_OK; i++) {
        const size_t bytes = load_item_bytes(s, &items[i]);

        rc = load_item(s, &items[i], size > 0 ? (uint8_t *)block->data + at : NULL, bytes);
        at += bytes;
    }
    return rc;
}

int32_t mk_weights_fill(struct mk_weights *w, const struct mk_env *env,
                        const struct mk_config *config, const struct mk_weights_plan *plan,
                        const struct mk_load_options *options)
{
    struct load_state s = {.w = w, .env = env, .config = config, .options = options,
                           .alone = {NULL, 1}, .scratch_bytes = LOAD_CHUNK};
    int32_t rc = MINKE_ENOMEM;
    size_t end;

    for (size_t i = 0; i < plan->n; i++) {
        s.total += plan->items[i].t.size + plan->items[i].values.size;
        s.scratch_bytes = mk_max(s.scratch_bytes, load_item_scratch(&s, &plan->items[i]));
    }
    s.scratch_bytes = mk_round_up(s.scratch_bytes, LOAD_ALIGN);
    mk_team_begin(&s.team, options->pool);
    s.scratch = mk_alloc(&env->alloc, s.team.n, s.scratch_bytes);
    w->blocks = mk_arena_alloc(&w->arena, plan->n_groups, sizeof(*w->blocks));
    if (s.scratch == NULL || w->blocks == NULL)
        goto done;
    rc = load_progress(&s, 0);
    for (size_t i = 0; i < plan->n && rc == MINKE_OK; i = end) {
        for (end = i + 1; end < plan->n && plan->items[end].group == plan->items[i].group;)
            end++;
        rc = load_group(&s, plan->items + i, end - i);
    }

done:
    mk_free(&env->alloc, s.scratch);
    mk_team_end(&s.team);
    return rc;
}
