/* The table of number types, and rows of stored weights by way of it. */
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "tensor/blocks.h"

static const struct mk_type_info type_table[MK_N_TYPES] = {
#define MK_NUMBER(fn, bits) .special = bits, .decode_numbers = mk_decode_##fn, \
                            .encode_numbers = mk_encode_##fn
#define MK_BLOCK(fn) .decode_block = mk_decode_##fn, .encode_block = mk_encode_##fn
#define MK_STORED(fn) .decode_block = mk_decode_##fn
#define MK_TYPE(name, weights, bytes, gguf, file, instead, codec) \
    [MK_##name] = {#name, weights, bytes, gguf, file, MK_##instead, codec},
#include "tensor/type_rows.h"
#undef MK_TYPE
#undef MK_STORED
#undef MK_BLOCK
#undef MK_NUMBER
};

const struct mk_type_info *mk_type_info(enum mk_type type)
{
    return &type_table[type];
}

enum mk_type mk_type_of_gguf(uint32_t number)
{
    for (int type = 0; type < MK_N_TYPES; type++)
        if (type_table[type].gguf == (int64_t)number)
            return (enum mk_type)type;
    return MK_N_TYPES;
}

enum mk_type mk_type_of_dtype(const char *dtype)
{
    for (int type = 0; type < MK_N_TYPES; type++)
        if (type_table[type].block_len == 1 && strcmp(type_table[type].name, dtype) == 0)
            return (enum mk_type)type;
    return MK_N_TYPES;
}

size_t mk_type_row_bytes(enum mk_type type, size_t n)
{
    const struct mk_type_info *info = &type_table[type];
    size_t bytes;

    if (n % info->block_len != 0 || mk_mul(&bytes, n / info->block_len, info->block_bytes))
        return 0;
    return bytes;
}

void mk_decode(float *out, const void *in, size_t n, enum mk_type type)
{
    const struct mk_type_info *info = &type_table[type];
    const uint8_t *block = in;

    if (info->block_len == 1) {
        info->decode_numbers(out, in, n);
        return;
    }
    for (size_t i = 0; i < n; i += info->block_len, block += info->block_bytes)
        info->decode_block(out + i, block);
}

/* Whether one of n numbers of size bytes has all bits of special set. */
static inline int type_has_special(const uint8_t *in, size_t n, size_t size, uint32_t special)
{
    uint32_t found = 0;

    for (size_t i = 0; i < n; i++, in += size) {
        const uint32_t v = size == 1 ? in[0] : size == 2 ? mk_load16(in) : mk_load32(in);
        found |= (v & special) == special;
    }
    return (int)found;
}

static int type_numbers_are_finite(const uint8_t *in, size_t n, const struct mk_type_info *info)
{
    /* Compilers make vectors of each when they know the size. */
    return !(info->block_bytes == 1 ? type_has_special(in, n, 1, info->special)
           : info->block_bytes == 2 ? type_has_special(in, n, 2, info->special)
                                    : type_has_special(in, n, 4, info->special));
}

int mk_all_finite(const void *in, size_t n, enum mk_type type)
{
    const struct mk_type_info *info = &type_table[type];
    const uint8_t *block = in;
    float decoded[256];
    int finite = 1;

    if (info->block_len == 1)
        return type_numbers_are_finite(in, n, info);
    for (size_t i = 0; i < n; i += info->block_len, block += info->block_bytes) {
        info->decode_block(decoded, block);
        finite &= type_numbers_are_finite((const uint8_t *)decoded, info->block_len,
                                          &type_table[MK_F32]);
    }
    return finite;
}

/* The weights of a block's squared errors: importance where given, with a little for columns
 * that had none; else 1. */
static void type_error_weights(float *weight, const float *importance, size_t n)
{
    float sum = 0.0f;

    for (size_t i = 0; importance != NULL && i < n; i++)
        sum += importance[i] > 0.0f && importance[i] < 1e30f ? importance[i] : 0.0f;
    for (size_t i = 0; i < n; i++) {
        const int usable = sum > 0.0f && importance[i] > 0.0f && importance[i] < 1e30f;
        weight[i] = sum > 0.0f ? (usable ? importance[i] : 0.0f) * (float)n / sum + 1e-3f : 1.0f;
    }
}

int32_t mk_encode(void *out, const float *in, size_t n, enum mk_type type,
                  const float *importance)
{
    const struct mk_type_info *info = &type_table[type];
    uint8_t *block = out;
    float weight[256];

    if (info->block_len == 1) {
        info->encode_numbers(out, in, n);
        return MINKE_OK;
    }
    if (info->encode_block == NULL)
        return mk_fail(MINKE_EUNSUPPORTED, "type %s can be read but not written", info->name);
    for (size_t i = 0; i < n; i += info->block_len, block += info->block_bytes) {
        for (size_t j = i; j < i + info->block_len; j++)
            if (!(in[j] >= -65504.0f && in[j] <= 65504.0f))
                return mk_fail(MINKE_EFORMAT, "weight %zu: %g does not fit into %s", j,
                               (double)in[j], info->name);
        type_error_weights(weight, importance == NULL ? NULL : importance + i, info->block_len);
        info->encode_block(block, in + i, weight);
    }
    return MINKE_OK;
}
