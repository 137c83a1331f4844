/* What the types' files share: the functions that rows name, and fields of stored blocks. */
#ifndef MK_BLOCKS_H
#define MK_BLOCKS_H

#include <stdint.h>
#include <string.h>

#include "tensor/tensor.h"

/* mk_decode_ and mk_encode_ of every row. */
#define MK_NUMBER(fn, special) mk_decode_numbers_fn mk_decode_##fn; \
                               mk_encode_numbers_fn mk_encode_##fn;
#define MK_BLOCK(fn) mk_decode_block_fn mk_decode_##fn; mk_encode_block_fn mk_encode_##fn;
#define MK_STORED(fn) mk_decode_block_fn mk_decode_##fn;
#define MK_TYPE(name, weights, bytes, gguf, file, instead, codec) codec
#include "tensor/type_rows.h"
#undef MK_TYPE
#undef MK_STORED
#undef MK_BLOCK
#undef MK_NUMBER

/* All fields are little-endian. */
static inline uint32_t mk_load16(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8;
}

static inline uint32_t mk_load32(const uint8_t *p)
{
    return mk_load16(p) | mk_load16(p + 2) << 16;
}

static inline void mk_store16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline float mk_load_f16(const uint8_t *p)
{
    return mk_f16_to_f32((uint16_t)mk_load16(p));
}

/* Store v in half precision; returns what is stored. */
static inline float mk_store_f16(uint8_t *p, float v)
{
    const uint16_t h = mk_f32_to_f16(v);

    mk_store16(p, h);
    return mk_f16_to_f32(h);
}

#endif
