/* Packed weights, rounded activations, and what kernels exchange.
 *
 * A packed matrix is a sequence of groups of 16 rows.  Vector lanes are rows, so that a sum
 * runs along K in one order whatever the number of activations.  A group is a sequence of
 * units, a stored block of each row, interleaved by dwords: what is one dword in the file
 * becomes 16 dwords, a line of 64 bytes, which puts four neighbouring weights of K beside the
 * same four of the next row.  A type whose block has a lone f16 scale keeps those apart, a
 * line for two units, so that lines stay aligned:
 *
 *     without head   (units, words, 16) dwords
 *     with head      (pairs of units) of (2, 16) f16, (2, words, 16) dwords;
 *                    an odd last unit has a whole line of scales, half of it used
 *
 * Kernels read a group from its first byte to its last: hardware prefetchers follow one
 * stream well and several badly.  Hence the order of lines of Q5_K and Q6_K, see pack.c.
 * Three small changes help the kernels: Q8_0 is stored with 128 added to each weight, Q5_0
 * keeps the fifth bit of weight 4 i + b in bit i of byte b, and within 16 bytes of F8_E4M3
 * (4 rows by 4 k) the first two k of the four rows come first. */
#ifndef MK_PACKED_H
#define MK_PACKED_H

#include "kernels/kernels.h"
#include "tensor/tensor.h"

#define MK_ACT_BLOCK 32u       /* activations that share a scale */
#define MK_PANEL_BLOCKS 16u    /* 32-blocks of K that a tile works through; even */
#define MK_PANEL_FLOATS 128u   /* the same for float weights; the size of an FP8 scale block */
#define MK_TILE_TOKENS 6u
#define MK_TILE_FLOAT_TOKENS 12u

/* How the weights of an expanded panel are meant; see struct mk_panel. */
enum mk_panel_kind {
    MK_PANEL_NONE,    /* no integer form: float activations */
    MK_PANEL_SIGNED,  /* w = s (q - 128), one s per 32 */
    MK_PANEL_MIN,     /* w = s q - m, q < 32, one s and m per 32 */
    MK_PANEL_HALVES   /* w = s (q - 128), one s per 16 */
};

/* What packing and products know of a number type: a row of the table in pack.c. */
struct mk_pack_info {
    uint32_t unit;       /* weights per unit; 0: the type has no packed form */
    uint32_t words;      /* dwords per row and unit */
    uint32_t head;       /* 1: a lone f16 kept in front of the group */
    uint32_t head_at;    /* its byte in the stored block */
    uint32_t words_at;   /* byte of the first dword in the stored block */
    enum mk_panel_kind kind;
    /* The line of a unit to which dword i of a stored block goes; NULL: line i. */
    uint32_t (*line)(uint32_t i);
    /* Change the lines of a unit, or of many units of one line each, once they are in place;
     * NULL: they stay.  stored: dword i of the stored block of a row again. */
    void (*change)(uint32_t *lines, size_t n_lines);
    uint32_t (*stored)(const uint32_t *lines, uint32_t i, size_t row);
};
const struct mk_pack_info *mk_pack_info(enum mk_type type);

/* Bytes of one group of rows of n_in weights. */
size_t mk_pack_group_bytes(enum mk_type type, size_t n_in);

/* Bytes from a group's start to the lines of unit u, and to its 16 f16. */
static inline size_t mk_pack_unit_at(const struct mk_pack_info *p, size_t u)
{
    return u * p->words * 64 + (p->head ? (u / 2 + 1) * 64 : 0);
}

static inline size_t mk_pack_head_at(const struct mk_pack_info *p, size_t u)
{
    return u / 2 * (2 * p->words + 1) * 64 + u % 2 * 32;
}

/* Where weight k of row r of an F8_E4M3 group is. */
static inline size_t mk_pack_e4m3_at(size_t k, size_t r)
{
    return k / 4 * 64 + r / 4 * 16 + k % 4 / 2 * 8 + r % 4 * 2 + k % 2;
}

/* Blocks of a panel are 512 bytes, with a gap of 64 after every second one, as in a group of
 * Q8_0. */
static inline size_t mk_panel_at(size_t b)
{
    return b * 512 + b / 2 * 64;
}
#define MK_PANEL_BYTES (MK_PANEL_BLOCKS * 544)

#endif
