/* Packed weights, rounded activations, and what kernels exchange.
 *
 * A packed matrix is a sequence of groups of 16 rows.  Vector lanes are rows, so that a sum
 * runs along K in one order whatever the number of activations.  A group holds the stored
 * blocks of its rows unchanged, but interleaved: dword i of a block of row r comes to
 * dword 16 i + r, which puts four neighbouring weights of K beside the same four of the next
 * row.  A type whose block begins or ends with a lone f16 scale keeps those in front:
 *
 *     [units][16] f16, padded to 64 bytes     when mk_pack_info.head
 *     [units][words][16] dwords
 *
 * A unit is a block, or 4 / sizeof weights of a plain float type.  Two small changes help the
 * kernels: Q8_0 is stored with 128 added to each weight, and Q5_0 keeps the fifth bit of
 * weight 4 i + b in bit i of byte b. */
#ifndef MK_PACKED_H
#define MK_PACKED_H

#include "tensor/kernels.h"
#include "tensor/tensor.h"

#define MK_LANES 16u
#define MK_ACT_BLOCK 32u       /* activations that share a scale */
#define MK_PANEL_BLOCKS 16u    /* 32-blocks of K that a tile works through */
#define MK_PANEL_FLOATS 128u   /* the same for float weights; the size of an FP8 scale block */
#define MK_TILE_TOKENS 6u
#define MK_TILE_FLOAT_TOKENS 12u

/* How the weights of an expanded panel are meant; see struct mk_panel. */
enum mk_panel_kind {
    MK_PANEL_NONE,    /* no integer form: float activations */
    MK_PANEL_SIGNED,  /* w = s (q - 128), one s per 32 */
    MK_PANEL_MIN,     /* w = s q - m, one s and m per 32 */
    MK_PANEL_HALVES   /* w = s (q - 128), one s per 16 */
};

struct mk_pack_info {
    uint32_t unit;       /* weights per unit; 0: the type has no packed form */
    uint32_t words;      /* dwords per row and unit */
    uint32_t head;       /* 1: a lone f16 kept in front of the group */
    uint32_t head_at;    /* its byte in the stored block */
    uint32_t words_at;   /* byte of the first dword in the stored block */
    enum mk_panel_kind kind;
};
const struct mk_pack_info *mk_pack_info(enum mk_type type);

/* Bytes of one group of rows of n_in weights. */
size_t mk_pack_group_bytes(enum mk_type type, size_t n_in);

/* Bytes from a group's start to its dwords. */
static inline size_t mk_pack_head_bytes(const struct mk_pack_info *p, size_t n_units)
{
    return p->head ? (n_units * 2 * MK_LANES + 63) / 64 * 64 : 0;
}

#endif
