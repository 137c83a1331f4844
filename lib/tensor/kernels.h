/* The kernel table: filled once, plain C first, then upward by CPU features. */
#ifndef MK_KERNELS_H
#define MK_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "tensor/tensor.h"

/* Every slot has a C twin that defines its result.  All sums run in one fixed order, so that
 * a row gives the same bits alone and among many. */
struct mk_kernels {
    uint32_t features;       /* MK_CPU_* in use */

    /* Sum of a[i] * b[i], i < n. */
    float (*dot)(const float *a, const float *b, size_t n);
    /* y[i] += s * x[i], i < n. */
    void (*axpy)(float *y, float s, const float *x, size_t n);
    /* y[i] = w[i] * x[i] / sqrt(mean(x^2) + eps), i < n. */
    void (*rms_norm)(float *y, const float *x, const float *w, float eps, size_t n);
    /* x[i] = exp(x[i] - max) / sum, i < n.  -inf gives 0; all -inf gives zeros. */
    void (*softmax)(float *x, size_t n);
    /* y[i] = silu(g[i]) * u[i], i < n. */
    void (*swiglu)(float *y, const float *g, const float *u, size_t n);
};

/* Fill for a set of features (a subset of mk_cpu_features(), or 0 for plain C). */
void mk_kernels_init(struct mk_kernels *k, uint32_t features);

#endif
