/* Number types, and a linear layer's weight. */
#ifndef MK_TENSOR_H
#define MK_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"

/* The types of stored weights, in the order of the table.  Values are internal. */
enum mk_type {
#define MK_TYPE(name, ...) MK_##name,
#include "tensor/type_rows.h"
#undef MK_TYPE
    MK_N_TYPES
};

/* out = the floats of n numbers, or of one block. */
typedef void mk_decode_numbers_fn(float *out, const uint8_t *in, size_t n);
typedef void mk_decode_block_fn(float *out, const uint8_t *in);
/* The other way.  x: a block of floats; w: weighs each one's squared error, all above 0. */
typedef void mk_encode_numbers_fn(uint8_t *out, const float *x, size_t n);
typedef void mk_encode_block_fn(uint8_t *out, const float *x, const float *w);

/* A row of the table, whose columns type_rows.h explains. */
struct mk_type_info {
    const char *name;        /* "Q8_0" */
    uint32_t block_len;      /* weights per block; 1: single numbers */
    uint32_t block_bytes;
    int32_t gguf, file_type; /* in GGUF files; -1: none */
    enum mk_type instead;    /* where rows are no multiple of the block */
    uint32_t special;        /* bits that NaN and infinity have all set; of numbers */
    mk_decode_numbers_fn *decode_numbers;
    mk_encode_numbers_fn *encode_numbers;
    mk_decode_block_fn *decode_block;
    mk_encode_block_fn *encode_block;   /* NULL: only read */
};
const struct mk_type_info *mk_type_info(enum mk_type type);

/* The type of a number in GGUF files, or of a dtype in safetensors files; MK_N_TYPES when no
 * type has it. */
enum mk_type mk_type_of_gguf(uint32_t number);
enum mk_type mk_type_of_dtype(const char *dtype);

/* Bytes of a row of n weights; 0 when n is no multiple of the block or the size wraps. */
size_t mk_type_row_bytes(enum mk_type type, size_t n);

/* out[0..n) = the floats that n stored weights stand for (n a multiple of the block).
 * F8_E4M3 is decoded without its scale.  Bit for bit as the format's definition. */
void mk_decode(float *out, const void *in, size_t n, enum mk_type type);

/* Whether none of n stored weights is NaN or infinite. */
int mk_all_finite(const void *in, size_t n, enum mk_type type);

/* Floats to stored weights, for the types that can be written (others: MINKE_EUNSUPPORTED).
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
