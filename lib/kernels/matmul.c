/* Products of activations with stored weights: who computes what, in which order.
 *
 * The unit of work is a group of 16 rows of W.  Every worker takes one contiguous range of
 * groups over all products of a job, so that it streams through its own part of memory.  For
 * one activation row a group is multiplied straight from memory; for more, panels of K are
 * expanded once into scratch that stays in cache and meet the activations in tiles.  Either
 * way the sum of a row runs along K in the same order.  Where rounding is allowed, float weights
 * and more than MM_STREAMED activation rows are rounded to 16 bits, panel by panel: fewer rows
 * wait for memory, not for products, and stay exact. */
#include "kernels/matmul.h"

#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "kernels/onednn.h"
#include "kernels/packed.h"

#define MM_MAX_ITEMS 256u        /* products in one job */
#define MM_PARALLEL_ROUNDING 65536u   /* activations from which rounding is shared out */
#define MM_SHORT_RUN ((size_t)32 << 10)   /* bytes */
#define MM_STREAMED 3u           /* activation rows up to which weights are not expanded */
#define MM_CHUNK 132u            /* activation rows that stay in cache: 22 tiles of 6 */

/* Scratch of one worker: two expanded panels, then one group packed on the fly. */
struct mm_area {
    uint8_t q[2][MK_PANEL_BYTES];
    float s[2][MK_PANEL_BLOCKS * 32], m[2][MK_PANEL_BLOCKS * 16];
    float f[2][MK_PANEL_FLOATS * MK_LANES];
    float sums[MM_CHUNK * 2 * MK_LANES];
    float row[MK_LANES][256];
};

struct mm_item {
    struct mk_product p;
    enum mk_type type;           /* that kernels meet: F32 where the stored one is not packed */
    struct mk_act *acts;         /* n_rows of n_in / 32, NULL for float activations */
    uint32_t *words;             /* of 16 bits, or NULL: n_rows of panels, then their steps */
    struct mk_onednn *onednn;    /* NULL, or who multiplies: then words are bf16 */
    size_t lda;                  /* blocks, or dwords, from row to row */
    int owns_acts;
    size_t n_groups, group_bytes;
    uint64_t cost, start;        /* of a group; of the groups before this item */
};

struct mm_job {
    const struct mk_kernels *k;
    struct mm_item *items;
    size_t n_items;
    int round16;                 /* float weights meet rounded activations */
    struct mk_onednn *onednn;    /* or NULL */
    uint64_t cost;
    uint32_t n_parts;
    uint8_t *areas;
    size_t area_bytes;
};

/* Groups in packed form, wherever they are. */
struct mm_groups {
    const uint8_t *data;
    size_t bytes;                /* of one group */
    size_t first, n;             /* index in W, count */
    enum mk_type type;
};

static size_t mm_area_bytes(size_t n_in)
{
    return mk_round_up(sizeof(struct mm_area), 64) + MK_ONEDNN_SCRATCH
         + mk_round_up(n_in, 64) * 4 * MK_LANES + 64;
}

/* An odd number of cache lines, so that rows do not fall on the same sets. */
static size_t mm_lda(size_t n_in)
{
    return mk_ceil_div(n_in, MK_ACT_BLOCK) | 1;
}

/* Panels of 16-bit activations, MM_WORDS dwords each, and their steps. */
#define MM_WORDS (MK_PANEL_FLOATS / 2)

static size_t mm_ldw(size_t n_in)
{
    const size_t n_panels = mk_ceil_div(n_in, MK_PANEL_FLOATS);

    return (mk_ceil_div(n_panels * (MM_WORDS + 1), 16) | 1) * 16;
}

static size_t mm_acts_bytes(size_t n_rows, size_t n_in)
{
    return n_rows * mk_max(mm_lda(n_in) * sizeof(struct mk_act), mm_ldw(n_in) * sizeof(uint32_t));
}

size_t mk_matmul_scratch(size_t n_rows, size_t n_in, uint32_t n_threads)
{
    return 64 + MM_MAX_ITEMS * sizeof(struct mm_item) + n_threads * mm_area_bytes(n_in)
         + mm_acts_bytes(n_rows + MK_ONEDNN_SLACK, n_in);
}

static int mm_is_integer(enum mk_type type)
{
    return mk_pack_info(type)->kind != MK_PANEL_NONE;
}

/* ---- Groups times activations ------------------------------------------- */

static size_t mm_tile_size(size_t left, size_t max)
{
    return mk_ceil_div(left, mk_ceil_div(left, max));
}

/* What the next panels will read, asked for while the tiles of this one are computed. */
struct mm_next {
    const uint8_t *at[2];
    size_t n_lines;              /* of each */
};

/* Share t of n of the lines. */
static void mm_prefetch(const struct mm_next *next, size_t t, size_t nt, size_t n)
{
#if defined(__GNUC__)
    const size_t begin = next->n_lines * t / n, end = next->n_lines * (t + nt) / n;

    for (size_t j = 0; j < 2 && next->at[j] != NULL; j++)
        for (size_t i = begin; i < end; i++)
            __builtin_prefetch(next->at[j] + 64 * i, 0, 2);
#else
    (void)next;
    (void)t;
    (void)nt;
    (void)n;
#endif
}

/* Two groups of W (or one) by a chunk of activation rows, through sums that lie together: y's
 * rows may be any distance apart. */
static void mm_integer_pair(const struct mk_kernels *k, const struct mm_item *item,
                            const struct mm_groups *g, size_t i, size_t t0, size_t n_tokens,
                            struct mm_area *area)
{
    const struct mk_product *p = &item->p;
    const enum mk_panel_kind kind = mk_pack_info(g->type)->kind;
    const size_t n_blocks = p->w->n_in / MK_ACT_BLOCK, row = (g->first + i) * MK_LANES;
    const size_t n_panels = mk_min(2, g->n - i), ldy = 2 * MK_LANES;
    const size_t n_rows = mk_min(n_panels * MK_LANES, p->w->n_out - row);

    for (size_t b = 0; b < n_blocks; b += MK_PANEL_BLOCKS) {
        const size_t n = mk_min(MK_PANEL_BLOCKS, n_blocks - b);
        struct mk_panel panel[2] = {{NULL, NULL, NULL}, {NULL, NULL, NULL}};
        struct mm_next next = {{NULL, NULL}, g->bytes * n / n_blocks / 64};

        for (size_t j = 0; j < n_panels; j++) {
            k->expand[g->type](&panel[j], g->data + (i + j) * g->bytes, b, n, area->q[j],
                               area->s[j], area->m[j]);
            /* The next panel of the group, or the first of the next pair. */
            next.at[j] = b + n < n_blocks
                       ? g->data + (i + j) * g->bytes + g->bytes * (b + n) / n_blocks / 64 * 64
                       : i + 2 + j < g->n ? g->data + (i + 2 + j) * g->bytes : NULL;
        }
        for (size_t t = 0, nt; t < n_tokens; t += nt) {
            nt = mm_tile_size(n_tokens - t, MK_TILE_TOKENS);
            mm_prefetch(&next, t, nt, n_tokens);
            k->tile[kind](area->sums + t * ldy, ldy, panel, item->acts + (t0 + t) * item->lda + b,
                          item->lda, nt, n, n_rows, b == 0);
        }
    }
    for (size_t t = 0; t < n_tokens; t++) {
        float *y = p->y + (t0 + t) * p->ldy + row;

        if (n_rows == ldy)   /* a size that the compiler knows is copied inline */
            memcpy(y, area->sums + t * ldy, 2 * MK_LANES * sizeof(float));
        else
            memcpy(y, area->sums + t * ldy, n_rows * sizeof(float));
    }
}

static void mm_integer_tiles(const struct mk_kernels *k, const struct mm_item *item,
                             const struct mm_groups *g, struct mm_area *area)
{
    for (size_t t = 0, nt; t < item->p.n_rows; t += nt) {
        nt = mm_tile_size(item->p.n_rows - t, MM_CHUNK);
        for (size_t i = 0; i < g->n; i += 2)
            mm_integer_pair(k, item, g, i, t, nt, area);
    }
}

static const float *mm_scale(const struct mk_mat *w, size_t group)
{
    return w->scale == NULL ? NULL
         : w->scale + group * MK_LANES / 128 * mk_ceil_div(w->n_in, 128);
}

static void mm_float_tiles(const struct mk_kernels *k, const struct mk_product *p,
                           const struct mm_groups *g, struct mm_area *area)
{
    const size_t n_in = p->w->n_in;

    for (size_t i = 0; i < g->n; i += 2) {
        const size_t row = (g->first + i) * MK_LANES;
        /* Both groups of a tile share a scale: an FP8 block has 8 groups. */
        const size_t n_panels = (g->first + i) % 2 == 0 ? mk_min(2, g->n - i) : 1;
        const size_t n_rows = mk_min(n_panels * MK_LANES, p->w->n_out - row);
        const float *scale = mm_scale(p->w, g->first + i);

        for (size_t b = 0; b < n_in; b += MK_PANEL_FLOATS) {
            const size_t n = mk_min(MK_PANEL_FLOATS, n_in - b);
            const float *panel[2] = {NULL, NULL};

            for (size_t j = 0; j < n_panels; j++)
                panel[j] = k->expand_float[g->type](area->f[j], g->data + (i + j) * g->bytes,
                                                    b, n);
            for (size_t t = 0, nt; t < p->n_rows; t += nt) {
                nt = mm_tile_size(p->n_rows - t, MK_TILE_FLOAT_TOKENS);
                k->tile_float(p->y + t * p->ldy + row, p->ldy, panel[0], panel[1],
                              p->x + t * p->ldx + b, p->ldx, nt, n, n_rows,
                              scale ? scale[b / 128] : 1.0f, b == 0);
            }
        }
        i -= 2 - n_panels;
    }
}

/* The same by activations of 16 bits. */
static void mm_tiles16(const struct mk_kernels *k, const struct mm_item *item,
                       const struct mm_groups *g, struct mm_area *area)
{
    const struct mk_product *p = &item->p;
    const size_t n_in = p->w->n_in, steps = mk_ceil_div(n_in, MK_PANEL_FLOATS) * MM_WORDS;
    uint32_t *const panel[2] = {(uint32_t *)(void *)area->f[0], (uint32_t *)(void *)area->f[1]};

    for (size_t i = 0, n_panels; i < g->n; i += n_panels) {
        const size_t row = (g->first + i) * MK_LANES;
        const float *scale = mm_scale(p->w, g->first + i);

        n_panels = mk_min(2, g->n - i);
        const size_t n_rows = mk_min(n_panels * MK_LANES, p->w->n_out - row);

        for (size_t b = 0; b < n_in; b += MK_PANEL_FLOATS) {
            const size_t n = mk_min(MK_PANEL_FLOATS, n_in - b), at = b / MK_PANEL_FLOATS;

            for (size_t j = 0; j < n_panels; j++) {
                const uint8_t *group = g->data + (i + j) * g->bytes;
                const size_t size = g->bytes * n / n_in / 64 * 64;
                /* The next panel of the group, or the first of the next pair. */
                const uint8_t *next = b + n < n_in ? group + (at + 1) * size
                                    : i + j + 2 < g->n ? group + 2 * g->bytes : group;

                k->expand16[g->type](panel[j], area->s[0] + j * MK_LANES, group, b, n,
                                     scale ? mm_scale(p->w, g->first + i + j)[at] : 1.0f, next);
            }
            for (size_t t = 0, nt; t < p->n_rows; t += nt) {
                const uint32_t *a = item->words + t * item->lda;

                nt = mm_tile_size(p->n_rows - t, MK_TILE_FLOAT_TOKENS);
                k->tile16(p->y + t * p->ldy + row, p->ldy, panel[0], panel[1], area->s[0],
                          a + at * MM_WORDS, (const float *)(const void *)(a + steps) + at,
                          item->lda, nt, mk_ceil_div(n, 2), n_rows, b == 0);
            }
        }
    }
}

/* Groups [i, i + n) by activation row t. */
static void mm_stream_integer(const struct mk_kernels *k, const struct mm_item *item,
                              const struct mm_groups *g, size_t i, size_t n, size_t t)
{
    const struct mk_mat *w = item->p.w;
    const size_t row = (g->first + i) * MK_LANES;
    /* A short run ends before hardware has caught up with it: while the last row has its turn,
     * what comes next is asked for. */
    const int asks = item->p.n_rows > 1 && t + 1 == item->p.n_rows && n * g->bytes <= MM_SHORT_RUN;

    k->gemv[g->type](item->p.y + t * item->p.ldy + row, g->data + i * g->bytes, g->bytes, n,
                     mk_min(n * MK_LANES, w->n_out - row),
                     w->n_in / mk_pack_info(g->type)->unit, item->acts + t * item->lda,
                     asks ? n * g->bytes : k->ahead);
}

static void mm_stream_float(const struct mk_kernels *k, const struct mm_item *item,
                            const struct mm_groups *g, size_t i, size_t n, size_t t)
{
    const struct mk_mat *w = item->p.w;
    const size_t row = (g->first + i) * MK_LANES;

    k->gemv_float[g->type](item->p.y + t * item->p.ldy + row, g->data + i * g->bytes, g->bytes,
                           n, mk_min(n * MK_LANES, w->n_out - row), w->n_in,
                           item->p.x + t * item->p.ldx, mm_scale(w, g->first + i), k->ahead);
}

/* One activation row is streamed, where the level has a kernel for it; of two and three each
 * takes its turn while the weights are in cache. */
static int mm_stream(const struct mk_kernels *k, const struct mm_item *item,
                     const struct mm_groups *g)
{
    const struct mk_mat *w = item->p.w;
    const size_t n_rows = item->p.n_rows;
    const int integer = item->acts != NULL;
    size_t step = n_rows == 1 ? g->n : integer ? 1 : 4;

    if (n_rows > MM_STREAMED
        || (integer ? k->gemv[g->type] == NULL : k->gemv_float[g->type] == NULL))
        return 0;
    for (size_t i = 0, n; i < g->n; i += n) {
        n = mk_min(step, g->n - i);
        if (w->scale != NULL)    /* a scale covers 8 groups */
            n = mk_min(n, 8 - (g->first + i) % 8);
        for (size_t t = 0; t < n_rows; t++)
            if (integer)
                mm_stream_integer(k, item, g, i, n, t);
            else
                mm_stream_float(k, item, g, i, n, t);
    }
    return 1;
}

static void mm_packed(const struct mk_kernels *k, const struct mm_item *item,
                      const struct mm_groups *g, struct mm_area *area)
{
    if (item->words != NULL) {
        mm_tiles16(k, item, g, area);
        return;
    }
    if (mm_stream(k, item, g))
        return;
    if (item->acts != NULL)
        mm_integer_tiles(k, item, g, area);
    else
        mm_float_tiles(k, &item->p, g, area);
}

/* A group of a type without packed form becomes packed floats. */
static void mm_decode_group(const struct mk_kernels *k, float *out, const struct mk_mat *w,
                            size_t row, struct mm_area *area)
{
    const struct mk_type_info *info = mk_type_info(w->type);
    const size_t n_rows = mk_min(MK_LANES, w->n_out - row);

    for (size_t c = 0; c < w->n_in; c += 256) {
        const size_t n = mk_min(256, w->n_in - c);

        for (size_t r = 0; r < n_rows; r++)
            mk_decode(area->row[r], (const uint8_t *)w->data + (row + r) * w->row_bytes
                      + c / info->block_len * info->block_bytes, n, w->type);
        k->interleave((uint32_t *)(void *)(out + c * MK_LANES),
                      (const uint8_t *)area->row, sizeof(area->row[0]), n_rows, n);
    }
}

/* Groups [begin, end) of one product. */
static void mm_range(const struct mk_kernels *k, const struct mm_item *item, size_t begin,
                     size_t end, struct mm_area *area)
{
    const struct mk_mat *w = item->p.w;
    uint8_t *rest = (uint8_t *)area + mk_round_up(sizeof(*area), 64);
    uint8_t *group = rest + MK_ONEDNN_SCRATCH;

    if (item->onednn != NULL) {
        mk_onednn_multiply(item->onednn, k, &item->p, item->words, begin, end, rest);
        return;
    }
    if (w->layout == MK_LAYOUT_PACKED) {
        const struct mm_groups g = {(const uint8_t *)w->data + begin * item->group_bytes,
                                    item->group_bytes, begin, end - begin, item->type};
        mm_packed(k, item, &g, area);
        return;
    }
    for (size_t i = begin; i < end; i++) {
        const size_t row = i * MK_LANES;
        const struct mm_groups g = {group, item->group_bytes, i, 1, item->type};

        if (item->type != w->type)
            mm_decode_group(k, (float *)(void *)group, w, row, area);
        else
            mk_mat_pack(group, w, (const uint8_t *)w->data + row * w->row_bytes, 0,
                        mk_min(MK_LANES, w->n_out - row), k);
        mm_packed(k, item, &g, area);
    }
}

/* ---- Jobs --------------------------------------------------------------- */

/* First group of the item whose cost begins at or after c. */
static size_t mm_bound(const struct mm_item *item, uint64_t c)
{
    const uint64_t ahead = c > item->start ? c - item->start : 0;

    return mk_min(item->n_groups, (size_t)((ahead + item->cost - 1) / item->cost));
}

static void mm_multiply(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct mm_job *job = arg;
    struct mm_area *area = (struct mm_area *)(void *)(job->areas + worker * job->area_bytes);
    const uint64_t per_part = job->cost / job->n_parts, rest = job->cost % job->n_parts;
    const uint64_t lo = per_part * begin + mk_min(begin, rest);
    const uint64_t hi = per_part * end + mk_min(end, rest);

    for (size_t i = 0; i < job->n_items; i++) {
        const struct mm_item *item = &job->items[i];
        const size_t g0 = mm_bound(item, lo), g1 = mm_bound(item, hi);

        if (g0 < g1)
            mm_range(job->k, item, g0, g1, area);
    }
}

/* A row in panels of 16 bits. */
static void mm_round_words(const struct mk_kernels *k, const struct mm_item *item, size_t t)
{
    const size_t n_in = item->p.w->n_in, n = n_in / MK_PANEL_FLOATS, rest = n_in % MK_PANEL_FLOATS;
    const float *x = item->p.x + t * item->p.ldx;
    uint32_t *out = item->words + t * item->lda;

    if (item->onednn != NULL) {
        mk_onednn_round(item->words, item->p.n_rows, t, x, n_in);
        return;
    }
    float *steps = (float *)(void *)(out + mk_ceil_div(n_in, MK_PANEL_FLOATS) * MM_WORDS);

    k->round16(out, MM_WORDS, steps, NULL, 0, 0, x, MK_PANEL_FLOATS, n, MK_PANEL_FLOATS);
    if (rest > 0)
        k->round16(out + n * MM_WORDS, MM_WORDS, steps + n, NULL, 0, 0, x + n * MK_PANEL_FLOATS,
                   MK_PANEL_FLOATS, 1, rest);
}

/* Round rows [begin, end), counted over the items that own their activations. */
static void mm_round(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct mm_job *job = arg;
    size_t row = 0;

    (void)worker;
    for (size_t i = 0; i < job->n_items && row < end; i++) {
        const struct mm_item *item = &job->items[i];

        if (!item->owns_acts)
            continue;
        const size_t n_blocks = item->p.w->n_in / MK_ACT_BLOCK;
        for (size_t t = row < begin ? begin - row : 0;
             t < item->p.n_rows && row + t < end; t++)
            if (item->words != NULL)
                mm_round_words(job->k, item, t);
            else
                job->k->quantize(item->acts + t * item->lda, item->p.x + t * item->p.ldx,
                                 n_blocks);
        row += item->p.n_rows;
    }
}

static void mm_run(const struct mk_ops *ops, struct mm_job *job)
{
    size_t n_rows = 0, n_rounded = 0;

    for (size_t i = 0; i < job->n_items; i++)
        if (job->items[i].owns_acts) {
            n_rows += job->items[i].p.n_rows;
            n_rounded += job->items[i].p.n_rows * job->items[i].p.w->n_in;
        }
    if (n_rounded >= MM_PARALLEL_ROUNDING)
        mk_team_run(&ops->team, mm_round, job, n_rows, 1);
    else
        mm_round(job, 0, n_rows, 0);
    mk_team_run(&ops->team, mm_multiply, job, job->n_parts, 1);
}

/* An earlier item that already rounds the same activations, to 16 bits or not, or NULL. */
static const struct mm_item *mm_sharer(const struct mm_job *job, const struct mm_item *new,
                                       int to16)
{
    const struct mk_product *p = &new->p;

    for (size_t i = job->n_items; i > 0 && job->n_items - i < 4; i--) {
        const struct mm_item *item = &job->items[i - 1];

        if ((to16 ? item->words != NULL : item->acts != NULL) && item->p.x == p->x
            && item->onednn == new->onednn && item->p.ldx == p->ldx
            && item->p.n_rows == p->n_rows
            && item->p.w->n_in == p->w->n_in)
            return item;
    }
    return NULL;
}

/* Have the item's activations rounded, as many rows as scratch holds; 0 when it holds too few. */
static int mm_add_rounding(struct mm_job *job, struct mm_item *item, int to16, uint8_t **acts,
                           size_t *acts_left)
{
    const size_t n_in = item->p.w->n_in, row_bytes = mm_acts_bytes(1, n_in);
    const struct mm_item *sharer = mm_sharer(job, item, to16);
    const size_t n_rows = mk_min(item->p.n_rows, *acts_left / row_bytes);

    item->lda = to16 ? mm_ldw(n_in) : mm_lda(n_in);
    if (sharer != NULL) {
        item->acts = sharer->acts;
        item->words = sharer->words;
        return 1;
    }
    /* A part of the rows only when the job is otherwise empty. */
    if (n_rows == 0 || (n_rows < item->p.n_rows && job->n_items > 0))
        return 0;
    item->p.n_rows = n_rows;
    item->owns_acts = 1;
    if (to16)
        item->words = (uint32_t *)(void *)*acts;
    else
        item->acts = (struct mk_act *)(void *)*acts;
    *acts += n_rows * row_bytes;
    *acts_left -= n_rows * row_bytes;
    return 1;
}

/* Add rows of a product, which has n_whole in all, to the job: as many as scratch holds.
 * Returns how many. */
static size_t mm_add(struct mm_job *job, const struct mk_product *p, size_t n_whole,
                     uint8_t **acts, size_t *acts_left)
{
    const struct mk_mat *w = p->w;
    struct mm_item *item = &job->items[job->n_items];

    if (job->n_items == MM_MAX_ITEMS)
        return 0;
    *item = (struct mm_item){.p = *p, .type = mk_pack_info(w->type)->unit > 0 ? w->type : MK_F32};
    item->onednn = mk_onednn_takes(job->onednn, w, p->n_rows) ? job->onednn : NULL;
    const int to16 = item->onednn != NULL
                  || (job->round16 && n_whole > MM_STREAMED && !w->exact
                      && job->k->expand16[w->type] != NULL);
    if ((to16 || mm_is_integer(w->type)) && !mm_add_rounding(job, item, to16, acts, acts_left))
        return 0;
    item->n_groups = mk_ceil_div(w->n_out, MK_LANES);
    item->group_bytes = mk_pack_group_bytes(item->type, w->n_in);
    item->cost = item->group_bytes + 64
               + item->p.n_rows * w->n_in * (item->acts ? 2 : item->words ? 3 : 6);
    item->start = job->cost;
    job->cost += item->cost * item->n_groups;
    job->n_items++;
    return item->p.n_rows;
}

void mk_matmul_many(struct mk_ops *ops, const struct mk_product *p, size_t n)
{
    size_t done = 0, row = 0, n_in = 0;

    for (size_t i = 0; i < n; i++) {
        n_in = mk_max(n_in, p[i].w->n_in);
        if (ops->watch != NULL)
            ops->watch(ops->watch_user, &p[i]);
    }

    uint8_t *at = ops->scratch + (64 - (uintptr_t)ops->scratch % 64) % 64;
    struct mm_job job = {.k = ops->k, .round16 = ops->round16 && ops->k->matmul16,
                         .onednn = ops->onednn,
                         .n_parts = ops->team.n};
    job.items = (struct mm_item *)(void *)at;
    job.areas = at + mk_round_up(MM_MAX_ITEMS * sizeof(struct mm_item), 64);
    job.area_bytes = mm_area_bytes(n_in);
    uint8_t *acts = job.areas + ops->team.n * job.area_bytes;
    const size_t acts_bytes = ops->scratch_bytes - (size_t)(acts - ops->scratch)
                            - mm_acts_bytes(MK_ONEDNN_SLACK, n_in);

    mk_assert((size_t)(acts - ops->scratch) <= ops->scratch_bytes);
    while (done < n) {
        uint8_t *acts_at = acts;
        size_t acts_left = acts_bytes;

        job.n_items = 0;
        job.cost = 0;
        while (done < n) {
            struct mk_product part = p[done];

            part.x += row * part.ldx;
            part.y += row * part.ldy;
            part.n_rows -= row;
            if (part.n_rows > 0) {
                const size_t added = mm_add(&job, &part, p[done].n_rows, &acts_at, &acts_left);

                if (added < part.n_rows) {
                    row += added;
                    break;
                }
            }
            row = 0;
            done++;
        }
        mk_assert(job.n_items > 0 || done == n);
        if (job.n_items > 0)
            mm_run(ops, &job);
    }
}

void mk_matmul(struct mk_ops *ops, float *y, size_t ldy, const struct mk_mat *w, const float *x,
               size_t ldx, size_t n_rows)
{
    const struct mk_product p = {y, ldy, w, x, ldx, n_rows};

    mk_matmul_many(ops, &p, 1);
}
