/* Products of many activations by oneDNN's BF16 matmul: only in builds with -Donednn=enabled.
 *
 * Weights are decoded and, like activations, rounded to bf16; sums are f32, in an order that
 * oneDNN chooses.  So this belongs to MINKE_CONTEXT_FAST, never to MINKE_CONTEXT_DETERMINISTIC,
 * and a row among many has other bits than alone. */
#ifndef MK_ONEDNN_H
#define MK_ONEDNN_H

#include "kernels/matmul.h"

#ifdef MINKE_ONEDNN
#define MK_ONEDNN_SCRATCH ((size_t)640 << 10)   /* bytes of each worker */
#define MK_ONEDNN_SLACK 15u      /* rows read behind the last activation, of any content */

/* forced = 0: only where it wins.  *out is NULL when it does not, or oneDNN cannot. */
int32_t mk_onednn_open(struct mk_onednn **out, const struct mk_allocator *a, uint32_t features,
                       int forced);
void mk_onednn_free(struct mk_onednn *d);

/* Whether a product of n_rows activations goes through it; d may be NULL. */
int mk_onednn_takes(struct mk_onednn *d, const struct mk_mat *w, size_t n_rows);

/* Round x, row t of n_rows, to acts: room for n_in up to a multiple of 32 bf16 each row. */
void mk_onednn_round(uint32_t *acts, size_t n_rows, size_t t, const float *x, size_t n_in);

/* Groups [begin, end) of a product of rounded activations.  scratch: aligned to 64.  On the
 * calling thread alone, whatever the settings of OpenMP are, which stay. */
void mk_onednn_multiply(struct mk_onednn *d, const struct mk_kernels *k,
                        const struct mk_product *p, const uint32_t *acts, size_t begin,
                        size_t end, void *scratch);
#else
#define MK_ONEDNN_SCRATCH ((size_t)0)
#define MK_ONEDNN_SLACK 0u

static inline int32_t mk_onednn_open(struct mk_onednn **out, const struct mk_allocator *a,
                                     uint32_t features, int forced)
{
    (void)a;
    (void)features;
    (void)forced;
    *out = NULL;
    return 0;
}

static inline void mk_onednn_free(struct mk_onednn *d)
{
    (void)d;
}

static inline int mk_onednn_takes(struct mk_onednn *d, const struct mk_mat *w, size_t n_rows)
{
    (void)d;
    (void)w;
    (void)n_rows;
    return 0;
}

static inline void mk_onednn_round(uint32_t *acts, size_t n_rows, size_t t, const float *x,
                                   size_t n_in)
{
    (void)acts;
    (void)n_rows;
    (void)t;
    (void)x;
    (void)n_in;
}

static inline void mk_onednn_multiply(struct mk_onednn *d, const struct mk_kernels *k,
                                      const struct mk_product *p, const uint32_t *acts,
                                      size_t begin, size_t end, void *scratch)
{
    (void)d;
    (void)k;
    (void)p;
    (void)acts;
    (void)begin;
    (void)end;
    (void)scratch;
}
#endif

#endif
