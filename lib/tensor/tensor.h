/* Number formats, and a linear layer's weight. */
#ifndef MK_TENSOR_H
#define MK_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"

/* Formats of stored weights.  Values are internal; files name types in their own way. */
enum mk_type {
    MK_F32, MK_F16, MK_BF16, MK_F8_E4M3,
    MK_Q4_0, MK_Q4_1, MK_Q5_0, MK_Q5_1, MK_Q8_0,
    MK_Q2_K, MK_Q3_K, MK_Q4_K, MK_Q5_K, MK_Q6_K,
    MK_IQ2_XXS, MK_IQ2_XS, MK_IQ3_XXS, MK_IQ1_S, MK_IQ4_NL, MK_IQ3_S, MK_IQ2_S, MK_IQ4_XS,
    MK_IQ1_M, MK_TQ1_0, MK_TQ2_0, MK_MXFP4, MK_NVFP4,
    MK_N_TYPES
};

/* One row per type: consecutive weights share a block. */
struct mk_type_info {
    const char *name;        /* "Q8_0" */
    uint32_t block_len;      /* weights per block */
    uint32_t block_bytes;
};
const struct mk_type_info *mk_type_info(enum mk_type type);

/* Bytes of a row of n weights; 0 when n is no multiple of the block or the size wraps. */
size_t mk_type_row_bytes(enum mk_type type, size_t n);

/* out[0..n) = the floats that n stored weights stand for (n a multiple of the block).
 * F8_E4M3 is decoded without its scale.  Bit for bit as the format's definition. */
void mk_decode(float *out, const void *in, size_t n, enum mk_type type);

/* The other way, for the types that can be written (others return MINKE_EUNSUPPORTED).
 * importance (n,) weighs each column's squared error; NULL = all alike. */
int32_t mk_encode(void *out, const float *in, size_t n, enum mk_type type,
                  const float *importance);

/* Single numbers; round to nearest even, E4M3 saturates at 448 and has no infinity. */
float mk_f16_to_f32(uint16_t h);
uint16_t mk_f32_to_f16(float f);
float mk_bf16_to_f32(uint16_t h);
uint16_t mk_f32_to_bf16(float f);
float mk_e4m3_to_f32(uint8_t c);
uint8_t mk_f32_to_e4m3(float f);

/* A linear layer y = W x.  W is (n_out, n_in), row-major, rows row_bytes apart, unless the
 * layout says that it was packed for this machine's kernels. */
struct mk_mat {
    enum mk_type type;
    uint32_t layout;         /* MK_LAYOUT_* */
    size_t n_out, n_in;
    size_t row_bytes;
    const void *data;        /* borrowed from the file's block or the packed one */
    const float *scale;      /* F8_E4M3: (ceil(n_out/128), ceil(n_in/128)), else NULL */
    int exact;               /* never meets activations of 16 bits: what it gives decides */
};

#define MK_LAYOUT_ROWS   0u  /* as in the file */
#define MK_LAYOUT_PACKED 1u  /* as mk_mat_pack writes it */

#define MK_SCALE_TILE 128u   /* rows and columns of F8_E4M3 that share a scale */

/* x (n,) = row `row` of such a matrix, decoded without scale (ceil(rows/128), ceil(n/128)):
 * apply it.  Nothing happens when scale is NULL. */
void mk_scale_row(float *x, const float *scale, size_t row, size_t n);

/* out (n_in, n_out) = in (n_out, n_in) transposed, items of 2 or 4 bytes. */
void mk_transpose(void *out, const void *in, size_t n_out, size_t n_in, size_t size);

#endif
