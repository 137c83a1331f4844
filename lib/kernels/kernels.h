/* The kernel table: filled once, plain C first, then upward by CPU features. */
#ifndef MK_KERNELS_H
#define MK_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "tensor/tensor.h"

#define MK_LANES 16u     /* what shares a vector: rows of a matrix, heads, or tokens */

/* 32 activations rounded to 8 bits, x = d q, with what kernels start their sums from. */
struct mk_act {
    int8_t q[32];
    float d;             /* max |x| / 127; 0 for a block of (nearly) zeros */
    float ds;            /* d * sum of q */
    int32_t z;           /* -128 * sum of q */
    int32_t zh[2];       /* the same of each half */
    int32_t pad[3];
};

/* 16 rows by a few 32-blocks of integer weights, ready for tiles; see packed.h. */
struct mk_panel {
    const uint8_t *q;    /* blocks of (8, 16, 4), see mk_panel_at */
    const float *s;      /* (blocks, 16), or (blocks, 2, 16) for halves */
    const float *m;      /* (blocks, 16) for MK_PANEL_MIN */
};

/* A token's index queries, ready for scores: lanes are heads, n_vec times 16 of them.  Rounded
 * ones (q8) or exact ones (q). */
struct mk_index_query {
    size_t n_vec;
    size_t words;            /* dwords of a rounded key: ceil(dim / 4) */
    int8_t *q8;              /* (n_vec, words, 16, 4) */
    int32_t *start;          /* (n_vec, 16): -128 * sum of q8 */
    float *w8;               /* (n_vec, 16): head weight times the scale of q8; 0 in padding */
    float *q;                /* (n_vec, dim, 16) */
    float *w;                /* (n_vec, 16): head weight; 0 in padding */
};

#define MK_ATTEND16_KEYS 128u    /* keys whose rounded weights are summed before they are scaled */

/* Every slot has a C twin that defines its result.  All sums run in one fixed order, so that
 * a row gives the same bits alone and among many. */
struct mk_kernels {
    uint32_t features;       /* MK_CPU_* in use */
    size_t ahead;            /* bytes that streams prefetch ahead on this processor */

    /* Sum of a[i] * b[i], i < n. */
    float (*dot)(const float *a, const float *b, size_t n);
    /* y[i] += s * x[i], i < n. */
    void (*axpy)(float *y, float s, const float *x, size_t n);
    /* y[i] = w[i] * x[i] / sqrt(mean(x^2) + eps), i < n. */
    void (*rms_norm)(float *y, const float *x, const float *w, float eps, size_t n);
    /* x[i] = exp(x[i] - max) / sum, i < n.  -inf gives 0; all -inf gives zeros.  exp within
     * 3e-7 relative, the same polynomial at every level; below e^-87 it is 0. */
    void (*softmax)(float *x, size_t n);
    /* y[i] = silu(g[i]) * u[i], i < n; exp as above. */
    void (*swiglu)(float *y, const float *g, const float *u, size_t n);

    /* out[i] = the float of bf16 or e4m3 number i, e4m3 times scale, i < n; exact. */
    void (*widen_bf16)(float *out, const uint8_t *in, size_t n);
    void (*widen_e4m3)(float *out, const uint8_t *in, float scale, size_t n);

    /* Attention, a block of keys at a time.  Lanes are heads that share keys, or rows of one
     * head: n_vec vectors of 16, vector v of q (dim, 16) at q + v ldq.
     *
     * s[t][16 v + l] (+)= sum of q[v][d][l] keys[t][d] over d, by fma in ascending d; first: s
     * starts at 0.  Rows of s are lds apart, of keys ldk. */
    void (*attend_dots)(float *s, size_t lds, const float *q, size_t ldq, size_t n_vec,
                        const float *keys, size_t ldk, size_t n_keys, size_t dim, int first);
    /* Per lane, with m the larger of max and scale * s[t] over all t: shrink = exp(max - m),
     * s[t] = exp(scale * s[t] - m), sum = shrink * sum + s[0] + s[1] + ..., max = m.  A lane
     * that has only seen -inf gives zeros. */
    void (*attend_soften)(float *s, size_t lds, size_t n_vec, size_t n_keys, float scale,
                          float *max, float *sum, float *shrink);
    /* acc[h][d] = shrink[h] * acc[h][d], then + p[t][h] values[t][d] by fma in ascending t, for
     * n_heads lanes and d < dim. */
    void (*attend_values)(float *acc, size_t lda, const float *p, size_t ldp,
                          const float *shrink, size_t n_heads, const float *values, size_t ldv,
                          size_t n_keys, size_t dim);

    /* 16-bit integers, whose sums are exact in any order.  A row x (dim,) is step * q, q whole
     * numbers to nearest even, none above 32767 and their norm at most 46000: so no sum of
     * products of two rows passes 2^31.  A row whose norm is below 1e-15 is zeros; one that
     * holds NaN, or is above 1e19, has step NaN.  Stored in dwords of two numbers, q[2 i] low
     * and q[2 i + 1] high in dword i, ceil(dim / 32) * 16 of them, zeros behind dim.
     *
     * Round n rows of x, ldx apart, into out, ldo apart, and step.  pairs: q[d] of row 2 t low
     * and of row 2 t + 1 high in dword d of row t, d < n_pairs up to a multiple of 16, ldp
     * apart; zeros for a row behind n.  out or pairs may be NULL. */
    void (*round16)(uint32_t *out, size_t ldo, float *step, uint32_t *pairs, size_t ldp,
                    size_t n_pairs, const float *x, size_t ldx, size_t n, size_t dim);

    /* Attention with them. */
    int attend16;            /* they are faster than the above on this processor */
    /* s[t][16 v + l] = sum * key_step[t] * q_step[16 v + l], of lane l of rounded rows q[v]
     * (words, 16) and keys[t] (words,). */
    void (*attend_dots16)(float *s, size_t lds, const uint32_t *q, size_t ldq,
                          const float *q_step, size_t n_vec, const uint32_t *keys, size_t ldk,
                          const float *key_step, size_t n_keys, size_t words);
    /* Round s[t][l] * step[t] >= 0, t < n_keys <= MK_ATTEND16_KEYS, to back[l] * p, no p above
     * 32767 and their sum about 65000 at most: row 2 t low and 2 t + 1 high in row t, in place
     * of s.  All are 0 where the sum is below 1e-30. */
    void (*attend_weights16)(float *s, size_t lds, size_t n_vec, float *back, const float *step,
                             size_t n_keys);
    /* acc[h][d] = fma(back[h], sum, shrink[h] * acc[h][d]), sum over the two numbers of p[t][h]
     * times those of pairs[t][d] and over t < n_pairs. */
    void (*attend_values16)(float *acc, size_t lda, const uint32_t *p, size_t ldp,
                            const float *back, const float *shrink, size_t n_heads,
                            const uint32_t *pairs, size_t ldv, size_t n_pairs, size_t dim);

    /* scores[t] = sum of w[h] relu(dot of head h and key t): of dots s (n_keys, n_vec * 16), or
     * of rounded keys (n_keys, words * 4), stored with 128 added, times scale[t].  Lanes sum
     * over vectors by fma, then in a fixed tree. */
    void (*index_sum)(float *scores, const float *s, size_t lds, const float *w, size_t n_vec,
                      size_t n_keys);
    void (*index_scores)(float *scores, const struct mk_index_query *q, const uint8_t *keys,
                         const float *scale, size_t n_keys);
    /* Indices i < n with x[i] >= pivot, ascending; returns how many.  out: room for n + 16. */
    size_t (*index_above)(int32_t *out, const float *x, size_t n, float pivot);

    /* Round n 32-blocks of activations: d = max |x| / 127, q = x / d to nearest even. */
    void (*quantize)(struct mk_act *out, const float *x, size_t n);

    /* Interleave dwords: word 16 i + r of out = word i of row r, i < n_words, r < n_rows <= 16;
     * 0 for the other r.  Rows are stride bytes apart, of any alignment; out is aligned to 64. */
    void (*interleave)(uint32_t *out, const uint8_t *rows, size_t stride, size_t n_rows,
                       size_t n_words);

    /* Integer types: blocks [b, b + n) of one packed group as a panel.  q, s, m are scratch of
     * MK_PANEL_BLOCKS blocks; the panel may point into the group instead.  b and n are
     * multiples of the type's unit / 32, b of 2. */
    void (*expand[MK_N_TYPES])(struct mk_panel *p, const uint8_t *group, size_t b, size_t n,
                               uint8_t *q, float *s, float *m);

    /* Integer types, one activation row: y[16 i + r] of groups i < n_groups, group_bytes apart;
     * only n_rows values of y are written.  ahead: bytes to prefetch ahead.  The same bits as
     * tile gives.  NULL: use tile. */
    void (*gemv[MK_N_TYPES])(float *y, const uint8_t *groups, size_t group_bytes,
                             size_t n_groups, size_t n_rows, size_t n_units,
                             const struct mk_act *a, size_t ahead);

    /* y[t][r] (+)= W a[t] for n_rows <= 32 rows (two panels when above 16), n_tokens <=
     * MK_TILE_TOKENS activation rows lda blocks apart and n blocks; first: y starts at 0.
     * By kind.  Per 32-block, i the integer sum:
     *   signed  y = fma(i s, d, y)           min  y = fma(-m, ds, fma(i s, d, y))
     *   halves  y = fma(fma(i1, s1, i0 s0), d, y)                                        */
    void (*tile[4])(float *y, size_t ldy, const struct mk_panel *p, const struct mk_act *a,
                    size_t lda, size_t n_tokens, size_t n, size_t n_rows, int first);

    /* Float types: weights [k, k + n) of one packed group as floats out (n, 16), without the
     * scale of F8_E4M3.  k and n are multiples of 4, or n ends the row.  Returns out, or a
     * pointer into the group. */
    const float *(*expand_float[MK_N_TYPES])(float *out, const uint8_t *group, size_t k,
                                             size_t n);

    /* Float types, one activation row, as gemv.  scale: one per MK_PANEL_FLOATS weights of
     * these groups' rows, or NULL for 1.  The same bits as tile_float.  NULL: use the tile. */
    void (*gemv_float[MK_N_TYPES])(float *y, const uint8_t *groups, size_t group_bytes,
                                   size_t n_groups, size_t n_rows, size_t n_in, const float *x,
                                   const float *scale, size_t ahead);

    /* y[t][r] (+)= scale * sum of w[k][r] x[t][k] over k < n <= MK_PANEL_FLOATS, the sum by fma
     * from 0 in ascending k, then y = fma(scale, sum, y).  w: one or two panels (n, 16), the
     * second for rows 16 and on; n_tokens <= MK_TILE_FLOAT_TOKENS rows of x, ldx apart. */
    void (*tile_float)(float *y, size_t ldy, const float *w0, const float *w1, const float *x,
                       size_t ldx, size_t n_tokens, size_t n, size_t n_rows, float scale,
                       int first);

    /* Float types by activations of 16 bits, see round16: a panel of n <= MK_PANEL_FLOATS
     * activations is a row of its own.  A row's n weights are step * q, q whole numbers to
     * nearest even, none above 4096: so their norm is at most 46341 and no sum passes 2^31.
     * Their step is a power of two, 2^-60 at least: numbers of 8 bits (BF16) are exact down to
     * a sixteenth of the largest, those of 4 (F8_E4M3) to a 256th.  NaN where one is not finite. */
    int matmul16;            /* they are faster than floats on this processor */
    /* Weights [k, k + n) of one packed group in dwords (ceil(n / 2), 16), q[2 i] low and q[2 i +
     * 1] high in dword i, and step[r] times scale for each row; F8_E4M3 has one step for all 16
     * rows.  k is a multiple of MK_PANEL_FLOATS, and n one of 4, or n ends the row.  out has
     * room for an even number of dwords of each row.  next: as many bytes of other weights,
     * which it asks for meanwhile. */
    void (*expand16[MK_N_TYPES])(uint32_t *out, float *step, const uint8_t *group, size_t k,
                                 size_t n, float scale, const uint8_t *next);
    /* y[t][r] (+)= sum * (a_step[t] * w_step[r]), by fma, the sum over words dwords of two
     * numbers each.  Panels w as in tile_float, w_step (2, 16); n_tokens <= MK_TILE_FLOAT_TOKENS
     * rows of a and of a_step, both lda dwords apart; first: y starts at 0. */
    void (*tile16)(float *y, size_t ldy, const uint32_t *w0, const uint32_t *w1,
                   const float *w_step, const uint32_t *a, const float *a_step, size_t lda,
                   size_t n_tokens, size_t words, size_t n_rows, int first);
};

/* Fill for a set of features (a subset of mk_cpu_features(), or 0 for plain C). */
void mk_kernels_init(struct mk_kernels *k, uint32_t features);

/* What each level puts into the table; a file compiled for another machine adds nothing. */
void mk_attend_init_c(struct mk_kernels *k);
void mk_attend_init_avx2(struct mk_kernels *k);
void mk_attend_init_avx512(struct mk_kernels *k);
void mk_kernels_init_avx2(struct mk_kernels *k);
void mk_kernels_init_avx512(struct mk_kernels *k);
void mk_kernels_init_neon(struct mk_kernels *k);

#endif
