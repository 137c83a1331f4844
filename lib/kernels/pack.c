/* Packing weights for the kernels, and reading rows back from any layout. */
#include "kernels/packed.h"

#include <string.h>

#include "base/checked.h"
#include "kernels/matmul.h"

/* The largest stored block is Q6_K's, 210 bytes. */
#define PACK_MAX_BLOCK 256u

static const struct mk_pack_info pack_table[MK_N_TYPES] = {
    /*              unit words head at  words_at kind */
    [MK_F32]     = {  1,   1,   0,   0,   0, MK_PANEL_NONE },
    [MK_F16]     = {  2,   1,   0,   0,   0, MK_PANEL_NONE },
    [MK_BF16]    = {  2,   1,   0,   0,   0, MK_PANEL_NONE },
    [MK_F8_E4M3] = {  4,   1,   0,   0,   0, MK_PANEL_NONE },
    [MK_Q8_0]    = { 32,   8,   1,   0,   2, MK_PANEL_SIGNED },
    [MK_Q4_0]    = { 32,   4,   1,   0,   2, MK_PANEL_SIGNED },
    [MK_Q5_0]    = { 32,   5,   1,   0,   2, MK_PANEL_SIGNED },
    [MK_IQ4_XS]  = {256,  34,   0,   0,   0, MK_PANEL_SIGNED },
    [MK_Q4_K]    = {256,  36,   0,   0,   0, MK_PANEL_MIN },
    [MK_Q5_K]    = {256,  44,   0,   0,   0, MK_PANEL_MIN },
    [MK_Q6_K]    = {256,  52,   1, 208,   0, MK_PANEL_HALVES },
};

const struct mk_pack_info *mk_pack_info(enum mk_type type)
{
    return &pack_table[type];
}

/* The line of a unit to which dword i of a stored block goes: as kernels read them. */
static uint32_t pack_line(enum mk_type type, uint32_t i)
{
    if (type == MK_Q5_K) {
        /* Scales; then the first 8 lines of low bits, each before its line of fifth bits;
         * stored are 4 dwords of scales, 8 of fifth bits, 32 of low bits. */
        return i < 4 ? i : i < 12 ? 4 + 2 * (i - 4) + 1 : i < 20 ? 4 + 2 * (i - 12) : i;
    }
    if (type == MK_Q6_K) {
        /* Scales; then per half 8 lines of low bits, each before its line of high bits, and 8
         * more of low bits; stored are 32 dwords of low bits, 16 of high bits, 4 of scales. */
        if (i >= 48)
            return i - 48;
        if (i >= 32)
            return 4 + (i - 32) / 8 * 24 + 2 * (i % 8) + 1;
        return 4 + i / 16 * 24 + (i % 16 < 8 ? 2 * (i % 8) : i % 16 + 8);
    }
    return i;
}

size_t mk_pack_group_bytes(enum mk_type type, size_t n_in)
{
    const struct mk_pack_info *p = &pack_table[type];
    const size_t n_units = mk_ceil_div(n_in, p->unit);

    return n_units * p->words * 64 + (p->head ? mk_ceil_div(n_units, 2) * 64 : 0);
}

size_t mk_mat_packed_bytes(enum mk_type type, size_t n_out, size_t n_in)
{
    size_t bytes;

    /* A row in memory takes at most 8 bytes a weight. */
    if (pack_table[type].unit == 0 || mk_mul(&bytes, n_in, 8 * MK_LANES) != 0)
        return 0;
    bytes = mk_pack_group_bytes(type, n_in);
    return mk_mul(&bytes, bytes, mk_ceil_div(n_out, MK_LANES)) != 0 ? 0 : bytes;
}

/* Q5_0's fifth bits: bit e belongs to weight e = 4 i + b; it moves to bit 8 b + i, and back.
 * Seen as a matrix of 8 x 4 bits this is a transposition, done by exchanging bits. */
static uint32_t pack_bits(uint32_t x)
{
    uint32_t y = 0;

    for (uint32_t b = 0; b < 4; b++) {
        uint32_t t = (x >> b) & 0x11111111u;      /* bit 4 i */

        t = (t | t >> 3) & 0x03030303u;           /* pairs: bits 0, 1 of each byte */
        t = (t | t >> 6) & 0x000F000Fu;
        t = (t | t >> 12) & 0x000000FFu;
        y |= t << 8 * b;
    }
    return y;
}

static uint32_t pack_bits_back(uint32_t y)
{
    uint32_t x = 0;

    for (uint32_t e = 0; e < 32; e++)
        x |= ((y >> (8 * (e & 3) + (e >> 2))) & 1) << e;
    return x;
}

/* Within 16 bytes, 4 rows by 4 k: pairs of k of the four rows, and back.  As words, a
 * transposition of 4 x 2. */
static void pack_e4m3(uint32_t *line)
{
    for (size_t i = 0; i < MK_LANES; i += 4) {
        const uint32_t a = line[i], b = line[i + 1], c = line[i + 2], d = line[i + 3];

        line[i] = (a & 0xFFFFu) | b << 16;
        line[i + 1] = (c & 0xFFFFu) | d << 16;
        line[i + 2] = a >> 16 | (b & 0xFFFF0000u);
        line[i + 3] = c >> 16 | (d & 0xFFFF0000u);
    }
}

/* Plain float types: one dword per unit; the last one may reach beyond the row. */
static void pack_plain(uint32_t *out, const struct mk_mat *w, const uint8_t *rows,
                       size_t n_rows, const struct mk_kernels *k)
{
    const size_t used_bytes = w->n_in * mk_type_info(w->type)->block_bytes;
    const size_t n_whole = used_bytes / 4, n_rest = used_bytes % 4;

    k->interleave(out, rows, w->row_bytes, n_rows, n_whole);
    if (n_rest > 0) {
        memset(out + n_whole * MK_LANES, 0, 4 * MK_LANES);
        for (size_t r = 0; r < n_rows; r++)
            memcpy(&out[n_whole * MK_LANES + r], rows + r * w->row_bytes + 4 * n_whole, n_rest);
    }
    if (w->type == MK_F8_E4M3)
        for (size_t i = 0; i < n_whole + (n_rest > 0); i++)
            pack_e4m3(out + i * MK_LANES);
}

static void pack_unit(uint32_t *out, enum mk_type type, const uint8_t *block, size_t row_bytes,
                      size_t n_rows, const struct mk_kernels *k)
{
    const struct mk_pack_info *p = &pack_table[type];
    uint32_t lines[PACK_MAX_BLOCK / 4 * MK_LANES];

    if (type != MK_Q5_K && type != MK_Q6_K) {
        k->interleave(out, block + p->words_at, row_bytes, n_rows, p->words);
    } else {
        k->interleave(lines, block + p->words_at, row_bytes, n_rows, p->words);
        for (uint32_t i = 0; i < p->words; i++)
            memcpy(out + pack_line(type, i) * MK_LANES, lines + i * MK_LANES, 4 * MK_LANES);
    }
    if (type == MK_Q8_0)
        for (size_t i = 0; i < 8 * MK_LANES; i++)
            out[i] ^= 0x80808080u;
    else if (type == MK_Q5_0)
        for (size_t i = 0; i < MK_LANES; i++)
            out[i] = pack_bits(out[i]);
}

static void pack_group(uint8_t *out, const struct mk_mat *w, const uint8_t *rows, size_t n_rows,
                       const struct mk_kernels *k)
{
    const struct mk_pack_info *p = &pack_table[w->type];
    const size_t n_units = mk_ceil_div(w->n_in, p->unit);
    const size_t block_bytes = mk_type_info(w->type)->block_bytes;

    if (p->unit <= 4) {
        pack_plain((uint32_t *)(void *)out, w, rows, n_rows, k);
        return;
    }
    for (size_t u = 0; u < n_units; u++) {
        const uint8_t *block = rows + u * block_bytes;

        if (p->head) {
            uint8_t *head = out + mk_pack_head_at(p, u);

            if (u % 2 == 0)
                memset(head, 0, 64);
            for (size_t r = 0; r < n_rows; r++)
                memcpy(head + 2 * r, block + r * w->row_bytes + p->head_at, 2);
        }
        pack_unit((uint32_t *)(void *)(out + mk_pack_unit_at(p, u)), w->type, block,
                  w->row_bytes, n_rows, k);
    }
}

void mk_mat_pack(void *out, const struct mk_mat *w, const void *rows, size_t begin, size_t end,
                 const struct mk_kernels *k)
{
    const size_t group_bytes = mk_pack_group_bytes(w->type, w->n_in);

    for (size_t r = begin; r < end; r += MK_LANES)
        pack_group((uint8_t *)out + r / MK_LANES * group_bytes, w,
                   (const uint8_t *)rows + (r - begin) * w->row_bytes,
                   mk_min(end - r, MK_LANES), k);
}

/* The stored block u of row r of a packed matrix. */
static void pack_block_back(uint8_t *block, const struct mk_mat *w, size_t r, size_t u)
{
    const struct mk_pack_info *p = &pack_table[w->type];
    const size_t lane = r % MK_LANES;
    const uint8_t *group = (const uint8_t *)w->data
                         + r / MK_LANES * mk_pack_group_bytes(w->type, w->n_in);
    const uint32_t *words = (const uint32_t *)(const void *)(group + mk_pack_unit_at(p, u));

    if (w->type == MK_F8_E4M3) {
        for (size_t i = 0; i < 4; i++)
            block[i] = group[mk_pack_e4m3_at(4 * u + i, lane)];
        return;
    }
    if (p->head)
        memcpy(block + p->head_at, group + mk_pack_head_at(p, u) + 2 * lane, 2);
    for (uint32_t i = 0; i < p->words; i++) {
        uint32_t x = words[pack_line(w->type, i) * MK_LANES + lane];

        if (w->type == MK_Q8_0)
            x ^= 0x80808080u;
        else if (w->type == MK_Q5_0 && i == 0)
            x = pack_bits_back(x);
        memcpy(block + p->words_at + 4 * i, &x, 4);
    }
}

void mk_mat_row(float *out, const struct mk_mat *w, size_t r)
{
    if (w->layout == MK_LAYOUT_ROWS) {
        mk_decode(out, (const uint8_t *)w->data + r * w->row_bytes, w->n_in, w->type);
    } else {
        const size_t unit = pack_table[w->type].unit;
        uint8_t block[PACK_MAX_BLOCK];

        for (size_t k = 0; k < w->n_in; k += unit) {
            pack_block_back(block, w, r, k / unit);
            mk_decode(out + k, block, mk_min(unit, w->n_in - k), w->type);
        }
    }
    mk_scale_row(out, w->scale, r, w->n_in);
}
