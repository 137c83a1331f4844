/* Packing weights for the kernels, and reading rows back from any layout. */
#include "kernels/packed.h"

#include <string.h>

#include "base/checked.h"
#include "kernels/matmul.h"

/* The largest stored block is Q6_K's, 210 bytes. */
#define PACK_MAX_BLOCK 256u

/* ---- What types do in their own way ------------------------------------- */

static void pack_q8_0(uint32_t *lines, size_t n_lines)
{
    for (size_t i = 0; i < n_lines * MK_LANES; i++)
        lines[i] ^= 0x80808080u;
}

static uint32_t pack_q8_0_stored(const uint32_t *lines, uint32_t i, size_t row)
{
    return lines[i * MK_LANES + row] ^ 0x80808080u;
}

/* Q5_0's fifth bits: bit e belongs to weight e = 4 i + b; it moves to bit 8 b + i, and back.
 * Seen as a matrix of 8 x 4 bits this is a transposition, done by exchanging bits. */
static uint32_t pack_q5_0_bits(uint32_t x)
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

static void pack_q5_0(uint32_t *lines, size_t n_lines)
{
    (void)n_lines;
    for (size_t i = 0; i < MK_LANES; i++)
        lines[i] = pack_q5_0_bits(lines[i]);
}

static uint32_t pack_q5_0_stored(const uint32_t *lines, uint32_t i, size_t row)
{
    const uint32_t y = lines[i * MK_LANES + row];
    uint32_t x = 0;

    if (i > 0)
        return y;
    for (uint32_t e = 0; e < 32; e++)
        x |= ((y >> (8 * (e & 3) + (e >> 2))) & 1) << e;
    return x;
}

/* Within 16 bytes, 4 rows by 4 k: pairs of k of the four rows, and back.  As words, a
 * transposition of 4 x 2. */
static void pack_e4m3(uint32_t *lines, size_t n_lines)
{
    for (uint32_t *x = lines; x < lines + n_lines * MK_LANES; x += 4) {
        const uint32_t a = x[0], b = x[1], c = x[2], d = x[3];

        x[0] = (a & 0xFFFFu) | b << 16;
        x[1] = (c & 0xFFFFu) | d << 16;
        x[2] = a >> 16 | (b & 0xFFFF0000u);
        x[3] = c >> 16 | (d & 0xFFFF0000u);
    }
}

static uint32_t pack_e4m3_stored(const uint32_t *lines, uint32_t i, size_t row)
{
    const uint32_t *x = lines + i * MK_LANES + row / 4 * 4 + row % 4 / 2;
    const uint32_t shift = row % 2 * 16;

    return (x[0] >> shift & 0xFFFFu) | (x[2] >> shift & 0xFFFFu) << 16;
}

/* Scales; then the first 8 lines of low bits, each before its line of fifth bits; stored are 4
 * dwords of scales, 8 of fifth bits, 32 of low bits. */
static uint32_t pack_q5_k_line(uint32_t i)
{
    return i < 4 ? i : i < 12 ? 4 + 2 * (i - 4) + 1 : i < 20 ? 4 + 2 * (i - 12) : i;
}

/* Scales; then per half 8 lines of low bits, each before its line of high bits, and 8 more of
 * low bits; stored are 32 dwords of low bits, 16 of high bits, 4 of scales. */
static uint32_t pack_q6_k_line(uint32_t i)
{
    if (i >= 48)
        return i - 48;
    if (i >= 32)
        return 4 + (i - 32) / 8 * 24 + 2 * (i % 8) + 1;
    return 4 + i / 16 * 24 + (i % 16 < 8 ? 2 * (i % 8) : i % 16 + 8);
}

/* ---- The table ---------------------------------------------------------- */

static const struct mk_pack_info pack_table[MK_N_TYPES] = {
    /*              unit words head at  words_at kind */
    [MK_F32]     = {  1,   1,   0,   0,   0, MK_PANEL_NONE, NULL, NULL, NULL },
    [MK_F16]     = {  2,   1,   0,   0,   0, MK_PANEL_NONE, NULL, NULL, NULL },
    [MK_BF16]    = {  2,   1,   0,   0,   0, MK_PANEL_NONE, NULL, NULL, NULL },
    [MK_F8_E4M3] = {  4,   1,   0,   0,   0, MK_PANEL_NONE, NULL, pack_e4m3, pack_e4m3_stored },
    [MK_Q8_0]    = { 32,   8,   1,   0,   2, MK_PANEL_SIGNED, NULL, pack_q8_0, pack_q8_0_stored },
    [MK_Q4_0]    = { 32,   4,   1,   0,   2, MK_PANEL_SIGNED, NULL, NULL, NULL },
    [MK_Q5_0]    = { 32,   5,   1,   0,   2, MK_PANEL_SIGNED, NULL, pack_q5_0, pack_q5_0_stored },
    [MK_IQ4_XS]  = {256,  34,   0,   0,   0, MK_PANEL_SIGNED, NULL, NULL, NULL },
    [MK_Q4_K]    = {256,  36,   0,   0,   0, MK_PANEL_MIN, NULL, NULL, NULL },
    [MK_Q5_K]    = {256,  44,   0,   0,   0, MK_PANEL_MIN, pack_q5_k_line, NULL, NULL },
    [MK_Q6_K]    = {256,  52,   1, 208,   0, MK_PANEL_HALVES, pack_q6_k_line, NULL, NULL },
};

const struct mk_pack_info *mk_pack_info(enum mk_type type)
{
    return &pack_table[type];
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

/* ---- Packing ------------------------------------------------------------ */

/* Single numbers: one dword per unit; the last one may reach beyond the row. */
static void pack_numbers(uint32_t *out, const struct mk_mat *w, const uint8_t *rows,
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
    if (pack_table[w->type].change != NULL)
        pack_table[w->type].change(out, n_whole + (n_rest > 0));
}

/* Blocks: the units one after the other, each with its head where the type has one. */
static void pack_blocks(uint8_t *out, const struct mk_mat *w, const uint8_t *block,
                        size_t n_rows, const struct mk_kernels *k)
{
    const struct mk_pack_info *p = &pack_table[w->type];
    const size_t n_units = w->n_in / p->unit;
    uint32_t scratch[PACK_MAX_BLOCK / 4 * MK_LANES];

    for (size_t u = 0; u < n_units; u++, block += mk_type_info(w->type)->block_bytes) {
        uint32_t *lines = (uint32_t *)(void *)(out + mk_pack_unit_at(p, u));

        if (p->head) {
            uint8_t *head = out + mk_pack_head_at(p, u);

            if (u % 2 == 0)
                memset(head, 0, 64);
            for (size_t r = 0; r < n_rows; r++)
                memcpy(head + 2 * r, block + r * w->row_bytes + p->head_at, 2);
        }
        k->interleave(p->line == NULL ? lines : scratch, block + p->words_at, w->row_bytes,
                      n_rows, p->words);
        for (uint32_t i = 0; p->line != NULL && i < p->words; i++)
            memcpy(lines + p->line(i) * MK_LANES, scratch + i * MK_LANES, 4 * MK_LANES);
        if (p->change != NULL)
            p->change(lines, p->words);
    }
}

void mk_mat_pack(void *out, const struct mk_mat *w, const void *rows, size_t begin, size_t end,
                 const struct mk_kernels *k)
{
    const size_t group_bytes = mk_pack_group_bytes(w->type, w->n_in);

    for (size_t r = begin; r < end; r += MK_LANES) {
        uint8_t *group = (uint8_t *)out + r / MK_LANES * group_bytes;
        const uint8_t *row = (const uint8_t *)rows + (r - begin) * w->row_bytes;

        if (mk_type_info(w->type)->block_len == 1)
            pack_numbers((uint32_t *)(void *)group, w, row, mk_min(end - r, MK_LANES), k);
        else
            pack_blocks(group, w, row, mk_min(end - r, MK_LANES), k);
    }
}

/* The stored block u of row r of a packed matrix. */
static void pack_block_back(uint8_t *block, const struct mk_mat *w, size_t r, size_t u)
{
    const struct mk_pack_info *p = &pack_table[w->type];
    const size_t lane = r % MK_LANES;
    const uint8_t *group = (const uint8_t *)w->data
                         + r / MK_LANES * mk_pack_group_bytes(w->type, w->n_in);
    const uint32_t *lines = (const uint32_t *)(const void *)(group + mk_pack_unit_at(p, u));

    if (p->head)
        memcpy(block + p->head_at, group + mk_pack_head_at(p, u) + 2 * lane, 2);
    for (uint32_t i = 0; i < p->words; i++) {
        const uint32_t x = p->stored != NULL ? p->stored(lines, i, lane)
                         : lines[(p->line != NULL ? p->line(i) : i) * MK_LANES + lane];
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
