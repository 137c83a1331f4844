/* Random inputs for kernels: buffers that end at a guard page, and blocks of stored weights
 * with sane scales. */
#ifndef MK_KERNEL_DATA_H
#define MK_KERNEL_DATA_H

#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/matmul.h"
#include "kernels/packed.h"
#include "tensor/tensor.h"

static uint64_t kd_state = 0x9E3779B97F4A7C15u;

static inline uint32_t kd_u32(void)
{
    kd_state ^= kd_state << 13;
    kd_state ^= kd_state >> 7;
    kd_state ^= kd_state << 17;
    return (uint32_t)(kd_state >> 32);
}

/* Uniform in [-1, 1). */
static inline float kd_float(void)
{
    return (float)(int32_t)kd_u32() * 0x1p-31f;
}

/* n bytes whose last one is followed by a page that cannot be touched.  Never freed: a test
 * program is short.  The start is aligned only as n is. */
static inline void *kd_guarded(size_t n)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t size = (n + page - 1) / page * page;
    uint8_t *p = mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                      -1, 0);

    if (p == MAP_FAILED || mprotect(p + size, page, PROT_NONE) != 0) {
        perror("mmap");
        exit(1);
    }
    return p + size - n;
}

static inline float *kd_floats(size_t n, float scale)
{
    float *x = kd_guarded(n * sizeof(*x));

    for (size_t i = 0; i < n; i++)
        x[i] = scale == 0.0f ? 0.0f : scale * kd_float();
    return x;
}

/* The types with a packed form, in the order of the table: single numbers first.  How many. */
static inline size_t kd_packed_types(int types[MK_N_TYPES])
{
    size_t n = 0;

    for (int type = 0; type < MK_N_TYPES; type++)
        if (mk_pack_info((enum mk_type)type)->unit != 0)
            types[n++] = type;
    return n;
}

/* Byte offsets of the f16 scales of a block, -1 for none. */
static inline void kd_scales(enum mk_type type, int at[2])
{
    at[0] = at[1] = -1;
    switch (type) {
    case MK_Q4_1: case MK_Q5_1: case MK_Q4_K: case MK_Q5_K:
        at[1] = 2;   /* fall through */
    case MK_Q4_0: case MK_Q5_0: case MK_Q8_0: case MK_IQ4_NL: case MK_IQ4_XS:
        at[0] = 0;
        break;
    case MK_Q2_K:
        at[0] = 80;
        at[1] = 82;
        break;
    case MK_Q3_K:
        at[0] = 108;
        break;
    case MK_Q6_K:
        at[0] = 208;
        break;
    default:
        break;
    }
}

/* n stored weights of about unit size. */
static inline void kd_weights(uint8_t *out, size_t n, enum mk_type type)
{
    const struct mk_type_info *info = mk_type_info(type);
    const size_t n_blocks = n / info->block_len;
    int at[2];

    kd_scales(type, at);
    for (size_t b = 0; b < n_blocks; b++, out += info->block_bytes) {
        for (size_t i = 0; i < info->block_bytes; i++)
            out[i] = (uint8_t)(kd_u32() >> 7);
        if (type == MK_F32) {
            const float f = kd_float();
            memcpy(out, &f, 4);
        } else if (type == MK_F16) {
            const uint16_t h = mk_f32_to_f16(kd_float());
            memcpy(out, &h, 2);
        } else if (type == MK_BF16) {
            const uint16_t h = mk_f32_to_bf16(kd_float());
            memcpy(out, &h, 2);
        } else if (type == MK_F8_E4M3 && (out[0] & 0x7F) == 0x7F) {
            out[0] = 0x3A;
        }
        for (int i = 0; i < 2; i++)
            if (at[i] >= 0) {
                const uint16_t h = mk_f32_to_f16(kd_float() * 0.01f);
                memcpy(out + at[i], &h, 2);
            }
    }
}

/* A matrix as a file stores it; packed = another form of it, data NULL when there is none. */
static inline void kd_matrix(struct mk_mat *rows, struct mk_mat *packed, enum mk_type type,
                             size_t n_out, size_t n_in, const struct mk_kernels *k)
{
    const size_t row_bytes = mk_type_row_bytes(type, n_in);
    const size_t packed_bytes = mk_mat_packed_bytes(type, n_out, n_in);
    uint8_t *data = kd_guarded(n_out * row_bytes);
    float *scale = NULL;

    for (size_t r = 0; r < n_out; r++)
        kd_weights(data + r * row_bytes, n_in, type);
    if (type == MK_F8_E4M3) {
        const size_t n = (n_out + 127) / 128 * ((n_in + 127) / 128);
        scale = kd_guarded(n * sizeof(*scale));
        for (size_t i = 0; i < n; i++)
            scale[i] = 0.01f + 0.01f * kd_float();
    }
    *rows = (struct mk_mat){type, MK_LAYOUT_ROWS, n_out, n_in, row_bytes, data, scale, 0};
    *packed = *rows;
    packed->data = NULL;
    if (packed_bytes > 0) {
        uint8_t *out = kd_guarded(packed_bytes + 63 - (packed_bytes + 63) % 64);
        mk_mat_pack(out, rows, data, 0, n_out, k);
        packed->data = out;
        packed->layout = MK_LAYOUT_PACKED;
    }
}

#endif
