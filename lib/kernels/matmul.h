/* Products of activations with stored weights. */
#ifndef MK_MATMUL_H
#define MK_MATMUL_H

#include "base/pool.h"
#include "kernels/kernels.h"
#include "tensor/tensor.h"

struct mk_product;
struct mk_onednn;

/* What every product needs: the team, the table, and scratch of the session. */
struct mk_ops {
    struct mk_team team;
    const struct mk_kernels *k;
    uint8_t *scratch;        /* mk_matmul_scratch bytes for the largest call */
    size_t scratch_bytes;
    int round16;             /* float weights meet activations of 16 bits, where that is faster */
    struct mk_onednn *onednn;   /* NULL, or takes products of many rows, see onednn.h */
    /* Told of every product before it is computed, by the calling thread; NULL = nobody. */
    void (*watch)(void *user, const struct mk_product *p);
    void *watch_user;
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

/* Row r of W as floats (n_in,), in any layout (F8_E4M3 with its scale). */
void mk_mat_row(float *out, const struct mk_mat *w, size_t r);

/* Packing: done once while loading, in place of the file's copy.  Groups of MK_LANES rows
 * lie one after the other, so that a matrix can be packed piece by piece and by several
 * threads. */

/* Bytes of a matrix in MK_LAYOUT_PACKED: those of the file, rounded up to whole groups.  0
 * when the type has no packed form and stays in MK_LAYOUT_ROWS. */
size_t mk_mat_packed_bytes(enum mk_type type, size_t n_out, size_t n_in);

/* Pack rows [begin, end) of the matrix w (its type, n_out, n_in, row_bytes count), begin a
 * multiple of MK_LANES, end too unless it is n_out.  rows: the stored row `begin`, the
 * others row_bytes apart.  out: the whole packed matrix, aligned to 64.  When all rows are
 * packed, the caller sets w->data = out and w->layout = MK_LAYOUT_PACKED. */
void mk_mat_pack(void *out, const struct mk_mat *w, const void *rows, size_t begin, size_t end,
                 const struct mk_kernels *k);

#endif
