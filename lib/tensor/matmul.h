/* Products of activations with stored weights. */
#ifndef MK_MATMUL_H
#define MK_MATMUL_H

#include "base/pool.h"
#include "tensor/kernels.h"
#include "tensor/tensor.h"

/* What every product needs: the team, the table, and scratch of the session. */
struct mk_ops {
    struct mk_team team;
    const struct mk_kernels *k;
    uint8_t *scratch;        /* mk_matmul_scratch bytes for the largest call */
    size_t scratch_bytes;
};

/* Scratch bytes that products of up to n_rows activations of up to n_in numbers need with
 * n_threads workers. */
size_t mk_matmul_scratch(size_t n_rows, size_t n_in, uint32_t n_threads);

/* y[t] = W x[t], t < n_rows.  x (n_rows, n_in) rows ldx floats apart, y (n_rows, n_out)
 * rows ldy apart.  Same bits for a row alone and among many, and for any team. */
void mk_matmul(struct mk_ops *ops, float *y, size_t ldy, const struct mk_mat *w,
               const float *x, size_t ldx, size_t n_rows);

/* Several products as one job: their outputs are split among the workers together. */
struct mk_product {
    float *y;
    size_t ldy;
    const struct mk_mat *w;
    const float *x;
    size_t ldx;
    size_t n_rows;
};
void mk_matmul_many(struct mk_ops *ops, const struct mk_product *p, size_t n);

/* Row r of W as floats (n_in,), in any layout. */
void mk_mat_row(float *out, const struct mk_mat *w, size_t r);

#endif
