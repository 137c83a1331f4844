/* Products of many activations by oneDNN's BF16 matmul; without -DMINKE_ONEDNN this is empty.
 *
 * Each worker decodes a tile of its groups of W, DNN_N rows by DNN_K columns, to bf16 and has
 * oneDNN multiply it with the activations, DNN_M rows at a time.  The layout that oneDNN calls
 * BA16a16b2a, blocks of 16 columns (our rows of W) and pairs along K, is that of our packed
 * groups.  Tiles of few shapes need few primitives, which the context keeps. */
#include "kernels/onednn.h"

#ifdef MINKE_ONEDNN

#include <dnnl.h>
#include <immintrin.h>
#include <string.h>

#include "base/checked.h"
#include "base/cpu.h"
#include "base/env.h"
#include "base/os.h"
#include "kernels/packed.h"

#define DNN_GROUPS 8u                     /* groups of a tile */
#define DNN_N (DNN_GROUPS * MK_LANES)     /* rows of W */
#define DNN_K 768u                        /* columns; a power of two would share cache sets */
#define DNN_M 128u                        /* activation rows of a call */
#define DNN_CHUNK 512u                    /* activation rows that a decoded tile meets */
#define DNN_PAD ((size_t)64 << 10)        /* bytes of oneDNN's own scratch */
#define DNN_ROWS 32u                      /* activation rows that it is ever used for */
#define DNN_MAX_ENTRIES 512u
#define DNN_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define DNN_INLINE static inline DNN_TARGET __attribute__((always_inline))

#if DNNL_CPU_RUNTIME == DNNL_RUNTIME_OMP
/* Of the OpenMP runtime that oneDNN brings: they count for the calling thread. */
extern int omp_get_max_threads(void);
extern void omp_set_num_threads(int n);
#elif DNNL_CPU_RUNTIME == DNNL_RUNTIME_SEQ
#define omp_get_max_threads() 1
#define omp_set_num_threads(n) ((void)(n))
#else
#error "oneDNN with OpenMP or without threads is needed"
#endif

/* y (m, n) (+)= a (m, k) w (k, n): activation rows, rows of W, columns. */
struct dnn_shape {
    uint16_t m, n, k;
    uint16_t more;               /* 1: add to what is there */
};

struct dnn_entry {
    struct dnn_shape shape;
    dnnl_primitive_t primitive;  /* NULL: oneDNN has only slow code */
    dnnl_dim_t pad;              /* bytes of scratch that it needs */
};

struct mk_onednn {
    struct mk_allocator alloc;
    dnnl_engine_t engine;
    struct mk_lock lock;         /* held to add an entry */
    int32_t n_entries;           /* atomic; entries before it never change */
    struct dnn_entry entries[DNN_MAX_ENTRIES];
};

struct dnn_area {
    uint32_t w[DNN_N * DNN_K / 2];       /* (groups, k / 2, 16) pairs of bf16 */
    float y[DNN_CHUNK * DNN_N];
    uint8_t pad[DNN_PAD];
    uint8_t q[MK_PANEL_BYTES];
    float s[MK_PANEL_BLOCKS * 32], m[MK_PANEL_BLOCKS * 16];
    float f[MK_PANEL_FLOATS * MK_LANES];
};
_Static_assert(sizeof(struct dnn_area) <= MK_ONEDNN_SCRATCH, "MK_ONEDNN_SCRATCH is too small");
_Static_assert(MK_ONEDNN_SLACK == 15, "rows of a call are rounded up to 16");

/* ---- Primitives ---------------------------------------------------------- */

/* Rows of a without gaps: for others oneDNN has no fast code. */
static int dnn_describe(dnnl_memory_desc_t md[3], const struct dnn_shape *s)
{
    const dnnl_dims_t a = {s->m, s->k}, w = {s->k, s->n}, y = {s->m, s->n};

    return dnnl_memory_desc_init_by_tag(&md[0], 2, a, dnnl_bf16, dnnl_ab) == dnnl_success
        && dnnl_memory_desc_init_by_tag(&md[1], 2, w, dnnl_bf16, dnnl_BA16a16b2a) == dnnl_success
        && dnnl_memory_desc_init_by_tag(&md[2], 2, y, dnnl_f32, dnnl_ab) == dnnl_success;
}

static int dnn_attributes(dnnl_primitive_attr_t attr, int more)
{
    dnnl_post_ops_t ops = NULL;
    int ok = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user)
             == dnnl_success && dnnl_post_ops_create(&ops) == dnnl_success;

    if (ok && more)
        ok = dnnl_post_ops_append_sum(ops, 1.0f) == dnnl_success
          && dnnl_primitive_attr_set_post_ops(attr, ops) == dnnl_success;
    dnnl_post_ops_destroy(ops);
    return ok;
}

static void dnn_create(struct dnn_entry *e, dnnl_engine_t engine, const struct dnn_shape *shape)
{
    const int threads = omp_get_max_threads();
    const char *name = "";
    dnnl_memory_desc_t md[3];
    dnnl_matmul_desc_t desc;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    int ok;

    omp_set_num_threads(1);      /* the other workers are ours */
    ok = dnn_describe(md, shape) && dnnl_primitive_attr_create(&attr) == dnnl_success
        && dnn_attributes(attr, shape->more)
        && dnnl_matmul_desc_init(&desc, &md[0], &md[1], NULL, &md[2]) == dnnl_success
        && dnnl_primitive_desc_create(&pd, &desc, attr, engine, NULL) == dnnl_success
        && dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name) == dnnl_success
        && strncmp(name, "brg", 3) == 0;
    *e = (struct dnn_entry){.shape = *shape};
    if (ok) {
        const dnnl_memory_desc_t *pad = dnnl_primitive_desc_query_md(pd,
                                                                     dnnl_query_scratchpad_md, 0);

        e->pad = (dnnl_dim_t)dnnl_memory_desc_get_size(pad);
        if (e->pad > (dnnl_dim_t)DNN_PAD
            || dnnl_primitive_create(&e->primitive, pd) != dnnl_success)
            e->primitive = NULL;
    }
    dnnl_primitive_desc_destroy(pd);
    dnnl_primitive_attr_destroy(attr);
    omp_set_num_threads(threads);
}

static const struct dnn_entry *dnn_find(const struct mk_onednn *d, const struct dnn_shape *shape)
{
    const int32_t n = mk_atomic_load(&d->n_entries);

    for (int32_t i = 0; i < n; i++)
        if (memcmp(&d->entries[i].shape, shape, sizeof(*shape)) == 0)
            return &d->entries[i];
    return NULL;
}

/* The entry of a shape, made when it is new; NULL when oneDNN is slow or the table full. */
static const struct dnn_entry *dnn_entry(struct mk_onednn *d, const struct dnn_shape *shape)
{
    const struct dnn_entry *e = dnn_find(d, shape);

    if (e == NULL) {
        mk_lock_enter(&d->lock);
        e = dnn_find(d, shape);
        if (e == NULL && d->n_entries < (int32_t)DNN_MAX_ENTRIES) {
            dnn_create(&d->entries[d->n_entries], d->engine, shape);
            e = &d->entries[d->n_entries];
            mk_atomic_add(&d->n_entries, 1);
        }
        mk_lock_leave(&d->lock);
    }
    return e != NULL && e->primitive != NULL ? e : NULL;
}

/* What oneDNN does, for when it cannot: out of memory, mostly. */
static void dnn_plain(float *y, const struct dnn_shape *s, const uint16_t *a, const uint16_t *w)
{
    for (size_t t = 0; t < s->m; t++)
        for (size_t r = 0; r < s->n; r++) {
            const uint16_t *row = w + r / 16 * s->k * 16 + r % 16 * 2;
            float sum = s->more ? y[t * s->n + r] : 0.0f;

            for (size_t k = 0; k < s->k; k++)
                sum += mk_bf16_to_f32(a[t * s->k + k])
                     * mk_bf16_to_f32(row[k / 2 * 32 + k % 2]);
            y[t * s->n + r] = sum;
        }
}

static void dnn_call(struct mk_onednn *d, dnnl_stream_t stream, const struct dnn_shape *shape,
                     const uint32_t *a, struct dnn_area *area, float *y)
{
    static const int names[4] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST,
                                 DNNL_ARG_SCRATCHPAD};
    void *const data[4] = {mk_unconst(a), area->w, y, area->pad};
    const struct dnn_entry *e = stream != NULL ? dnn_entry(d, shape) : NULL;
    dnnl_memory_t memory[4] = {NULL, NULL, NULL, NULL};
    dnnl_memory_desc_t md[4];
    dnnl_exec_arg_t args[4];
    int n = e == NULL ? 0 : e->pad > 0 ? 4 : 3, ok = n > 0 && dnn_describe(md, shape);

    if (ok && n == 4) {
        const dnnl_dims_t pad = {e->pad};

        ok = dnnl_memory_desc_init_by_tag(&md[3], 1, pad, dnnl_u8, dnnl_a) == dnnl_success;
    }
    for (int i = 0; ok && i < n; i++) {
        ok = dnnl_memory_create(&memory[i], &md[i], d->engine, data[i]) == dnnl_success;
        args[i] = (dnnl_exec_arg_t){names[i], memory[i]};
    }
    if (!ok || dnnl_primitive_execute(e->primitive, stream, n, args) != dnnl_success
        || dnnl_stream_wait(stream) != dnnl_success)
        dnn_plain(y, shape, (const uint16_t *)a, (const uint16_t *)area->w);
    for (int i = 0; i < 4; i++)
        dnnl_memory_destroy(memory[i]);
}

/* ---- Rounding ------------------------------------------------------------ */

/* To nearest even, in the upper half of each lane; what is in the lower is of no use. */
DNN_INLINE __m512i dnn_high(__m512 x)
{
    const __m512i u = _mm512_castps_si512(x), one = _mm512_set1_epi32(1);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), one);
    const __m512i up = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7FFF)), odd);

    return _mm512_mask_or_epi32(up, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), u,
                                _mm512_set1_epi32(0x400000));
}

/* Lanes of two numbers along K. */
DNN_INLINE void dnn_put(uint32_t *out, __m512 low, __m512 high)
{
    _mm512_storeu_si512(out, _mm512_mask_blend_epi16(0xAAAAAAAAu,
                                                     _mm512_srli_epi32(dnn_high(low), 16),
                                                     dnn_high(high)));
}

/* Columns from b on that a call takes, and with zeros behind them. */
static size_t dnn_columns(size_t n_in, size_t b)
{
    return mk_min(DNN_K, n_in - b);
}

static DNN_TARGET void dnn_round(uint32_t *out, const float *x, size_t n)
{
    for (size_t i = 0; i < mk_round_up(n, 32); i += 16) {
        const size_t left = n - mk_min(i, n);
        const __mmask16 mask = (__mmask16)(left >= 16 ? 0xFFFFu : (1u << left) - 1u);
        const __m512i high = dnn_high(_mm512_maskz_loadu_ps(mask, x + mk_min(i, n)));

        _mm256_storeu_si256((__m256i *)(void *)(out + i / 2),
                            _mm512_cvtepi32_epi16(_mm512_srli_epi32(high, 16)));
    }
}

void mk_onednn_round(uint32_t *acts, size_t n_rows, size_t t, const float *x, size_t n_in)
{
    for (size_t b = 0, n; b < n_in; b += n) {
        n = dnn_columns(n_in, b);
        dnn_round(acts + n_rows * (b / 2) + t * (mk_round_up(n, 32) / 2), x + b, n);
    }
}

static DNN_TARGET void dnn_from_floats(uint32_t *out, const float *w, size_t n, float scale)
{
    const __m512 s = _mm512_set1_ps(scale);
    size_t i = 0;

    for (; i + 2 <= n; i += 2)
        dnn_put(out + 8 * i, _mm512_mul_ps(s, _mm512_loadu_ps(w + 16 * i)),
                _mm512_mul_ps(s, _mm512_loadu_ps(w + 16 * i + 16)));
    if (i < n)
        dnn_put(out + 8 * i, _mm512_mul_ps(s, _mm512_loadu_ps(w + 16 * i)),
                _mm512_setzero_ps());
}

/* Weights of an integer panel, see enum mk_panel_kind: w = s q + c. */
static DNN_TARGET void dnn_from_panel(uint32_t *out, const struct mk_panel *p,
                                      enum mk_panel_kind kind, size_t n_blocks)
{
    const size_t halves = kind == MK_PANEL_HALVES ? 2 : 1;
    const __m512i byte = _mm512_set1_epi32(255);

    for (size_t i = 0; i < n_blocks * 8; i++) {
        const size_t b = i / 8;
        const __m512 s = _mm512_loadu_ps(p->s + 16 * (halves * b + (halves == 2 ? i % 8 / 4 : 0)));
        const __m512 c = kind == MK_PANEL_MIN
                       ? _mm512_sub_ps(_mm512_setzero_ps(), _mm512_loadu_ps(p->m + 16 * b))
                       : _mm512_mul_ps(_mm512_set1_ps(-128.0f), s);
        const __m512i q = _mm512_loadu_si512(p->q + mk_panel_at(b) + i % 8 * 64);
        __m512 w[4];

        w[0] = _mm512_cvtepi32_ps(_mm512_and_si512(q, byte));
        w[1] = _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32(q, 8), byte));
        w[2] = _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32(q, 16), byte));
        w[3] = _mm512_cvtepi32_ps(_mm512_srli_epi32(q, 24));
        for (int j = 0; j < 4; j += 2)
            dnn_put(out + 32 * i + 8 * j, _mm512_fmadd_ps(s, w[j], c),
                    _mm512_fmadd_ps(s, w[j + 1], c));
    }
}

/* Columns [begin, begin + n) of a group as pairs (n / 2, 16), up to a multiple of 32. */
static void dnn_decode(uint32_t *out, const struct mk_kernels *k, const struct mk_mat *w,
                       size_t group, size_t begin, size_t n, struct dnn_area *area)
{
    const uint8_t *in = (const uint8_t *)w->data
                      + group * mk_pack_group_bytes(w->type, w->n_in);
    const enum mk_panel_kind kind = mk_pack_info(w->type)->kind;
    const float *scale = w->scale == NULL ? NULL
                       : w->scale + group * MK_LANES / 128 * mk_ceil_div(w->n_in, 128);
    const size_t step = kind != MK_PANEL_NONE ? MK_PANEL_BLOCKS * 32 : MK_PANEL_FLOATS;

    memset(out + n / 2 * 16, 0, (mk_round_up(n, 32) - n / 2 * 2) * 32);
    if (w->type == MK_BF16 && n % 2 == 0) {
        memcpy(out, in + begin * 32, n * 32);
        return;
    }
    for (size_t i = 0, some; i < n; i += some) {
        const size_t at = begin + i;

        some = mk_min(step, n - i);
        if (kind != MK_PANEL_NONE) {
            struct mk_panel panel;

            k->expand[w->type](&panel, in, at / 32, some / 32, area->q, area->s, area->m);
            dnn_from_panel(out + 8 * i, &panel, kind, some / 32);
        } else {
            dnn_from_floats(out + 8 * i, k->expand_float[w->type](area->f, in, at, some), some,
                            scale != NULL ? scale[at / 128] : 1.0f);
        }
    }
}

/* ---- Products ------------------------------------------------------------ */

/* The call for activation rows t and on of n_rows, columns b and on, n_groups of W. */
static struct dnn_shape dnn_shape(size_t n_rows, size_t t, size_t n_in, size_t b, size_t n_groups)
{
    const size_t step = mk_round_up(mk_ceil_div(n_rows, mk_ceil_div(n_rows, DNN_M)), 16);

    return (struct dnn_shape){
        .m = (uint16_t)mk_round_up(mk_min(step, n_rows - t), 16),
        .n = (uint16_t)(n_groups > DNN_GROUPS / 2 ? DNN_N : DNN_N / 2),
        .k = (uint16_t)mk_round_up(dnn_columns(n_in, b), 32),
        .more = b > 0,
    };
}

/* Groups [group, group + n) by activation rows [t0, t0 + n_rows). */
static void dnn_tile(struct mk_onednn *d, dnnl_stream_t stream, const struct mk_kernels *k,
                     const struct mk_product *p, const uint32_t *acts, size_t group, size_t n,
                     size_t t0, size_t n_rows, struct dnn_area *area)
{
    const size_t n_in = p->w->n_in, row = group * MK_LANES;
    const size_t n_out = mk_min(n * MK_LANES, p->w->n_out - row);
    size_t width = 0;

    for (size_t b = 0; b < n_in; b += DNN_K) {
        const size_t columns = dnn_columns(n_in, b), padded = mk_round_up(columns, 32);

        for (size_t i = 0; i < n; i++)
            dnn_decode(area->w + i * padded * 8, k, p->w, group + i, b, columns, area);
        for (size_t t = 0, nt; t < n_rows; t += nt) {
            const struct dnn_shape shape = dnn_shape(n_rows, t, n_in, b, n);

            width = shape.n;
            nt = shape.m;
            dnn_call(d, stream, &shape, acts + p->n_rows * (b / 2) + (t0 + t) * (padded / 2), area,
                     area->y + t * width);
        }
    }
    for (size_t t = 0; t < n_rows; t++)
        memcpy(p->y + (t0 + t) * p->ldy + row, area->y + t * width, n_out * sizeof(float));
}

void mk_onednn_multiply(struct mk_onednn *d, const struct mk_kernels *k,
                        const struct mk_product *p, const uint32_t *acts, size_t begin,
                        size_t end, void *scratch)
{
    struct dnn_area *area = scratch;
    const int threads = omp_get_max_threads();
    dnnl_stream_t stream = NULL;

    omp_set_num_threads(1);
    if (dnnl_stream_create(&stream, d->engine, dnnl_stream_default_flags) != dnnl_success)
        stream = NULL;
    for (size_t t = 0, nt; t < p->n_rows; t += nt) {
        nt = mk_min(DNN_CHUNK, p->n_rows - t);
        for (size_t i = begin, n; i < end; i += n) {
            n = mk_min(DNN_GROUPS, end - i);
            dnn_tile(d, stream, k, p, acts, i, n, t, nt, area);
        }
    }
    dnnl_stream_destroy(stream);
    omp_set_num_threads(threads);
}

/* Whether it wins: with AMX, if oneDNN uses it too (the system may refuse tiles).  AMX does 1024
 * products of bf16 a cycle where VNNI does 256 of int8, so that decoding any type should pay: by
 * these rates, not by measurement.
 * Not with AVX-512 BF16, measured on a core of Zen 4 with 2048 x 2048 weights, GOP/s at 48, 96
 * and 512 rows: BF16 157, 171, 180 beside 137, 141, 150 by 16-bit integers, whose error is 14
 * times smaller; F8_E4M3 143, 167, 175 beside 143, 147, 150; Q8_0 165 at 512 beside 303 by 8-bit
 * integers, Q4_K 175 beside 283. */
static int dnn_wins(uint32_t features)
{
    const unsigned amx = dnnl_cpu_isa_avx512_core_amx;

    return (features & MK_CPU_AMX_BF16)
        && ((unsigned)dnnl_get_effective_cpu_isa() & amx) == amx;
}

/* Whether oneDNN has fast code for all calls of a product, which are made here. */
static int dnn_has(struct mk_onednn *d, size_t n_rows, size_t n_in)
{
    for (size_t t0 = 0; t0 < n_rows; t0 += DNN_CHUNK) {
        const size_t rows = mk_min(DNN_CHUNK, n_rows - t0);

        if (t0 > 0 && rows == DNN_CHUNK)
            continue;
        for (size_t t = 0; t < rows; t += dnn_shape(rows, t, n_in, 0, 1).m)
            for (size_t b = 0; b < n_in; b += DNN_K)
                for (size_t n = 1; n <= DNN_GROUPS; n += DNN_GROUPS - 1) {
                    const struct dnn_shape shape = dnn_shape(rows, t, n_in, b, n);

                    if (dnn_entry(d, &shape) == NULL)
                        return 0;
                }
    }
    return 1;
}

int mk_onednn_takes(struct mk_onednn *d, const struct mk_mat *w, size_t n_rows)
{
    if (d == NULL || w->exact || w->layout != MK_LAYOUT_PACKED)
        return 0;
    return n_rows >= DNN_ROWS && dnn_has(d, n_rows, w->n_in);
}

int32_t mk_onednn_open(struct mk_onednn **out, const struct mk_allocator *a, uint32_t features,
                       int forced)
{
    struct mk_onednn *d;

    *out = NULL;
    if (!(features & MK_CPU_AVX512) || (!forced && !dnn_wins(features)))
        return MINKE_OK;
    d = mk_alloc(a, 1, sizeof(*d));
    if (d == NULL)
        return MINKE_ENOMEM;
    d->alloc = *a;
    mk_lock_init(&d->lock);
    if (dnnl_engine_create(&d->engine, dnnl_cpu, 0) == dnnl_success
        && dnn_has(d, DNN_CHUNK, 2 * DNN_K)) {
        *out = d;
        return MINKE_OK;
    }
    mk_onednn_free(d);
    return MINKE_OK;
}

void mk_onednn_free(struct mk_onednn *d)
{
    if (d == NULL)
        return;
    for (int32_t i = 0; i < d->n_entries; i++)
        dnnl_primitive_destroy(d->entries[i].primitive);
    dnnl_engine_destroy(d->engine);
    mk_lock_free(&d->lock);
    const struct mk_allocator a = d->alloc;
    mk_free(&a, d);
}

#endif
