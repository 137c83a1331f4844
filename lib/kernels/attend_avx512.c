/* AVX-512 kernels of attention and the indexer.  Lanes are heads: a key's number is broadcast,
 * so that every lane sums in ascending order whatever the blocking. */
#include "kernels/kernels.h"

#include "base/cpu.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#include "kernels/kernels_math.h"

#define AT5_TARGET \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c,popcnt")))
#define AT5_INLINE static inline AT5_TARGET __attribute__((always_inline))
#define AT5_UNROLL _Pragma("GCC unroll 16")
#define AT5_PANEL 64u      /* dims of the queries that stay in the first-level cache */

AT5_INLINE __mmask16 at5_mask(size_t n)
{
    return (__mmask16)(n >= 16 ? 0xFFFFu : (1u << n) - 1u);
}

/* ---- Cached rows -------------------------------------------------------- */

static AT5_TARGET void at5_widen_bf16(float *out, const uint8_t *in, size_t n)
{
    size_t i = 0;

    for (; i + 16 <= n; i += 16) {
        const __m256i h = _mm256_loadu_si256((const __m256i *)(const void *)(in + 2 * i));

        _mm512_storeu_si512(out + i, _mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
    }
    if (i < n) {
        const __mmask16 m = at5_mask(n - i);
        const __m256i h = _mm256_maskz_loadu_epi16(m, in + 2 * i);

        _mm512_mask_storeu_epi32(out + i, m, _mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
    }
}

/* As f16 with the exponent's bias 8 too high, which the scale undoes; the last code is NaN. */
AT5_INLINE __m512 at5_e4m3(__m128i x, __m512 scale256)
{
    const __m256i w = _mm256_cvtepu8_epi16(x);
    const __m256i low = _mm256_and_si256(w, _mm256_set1_epi16(0x7F));
    const __m256i sign = _mm256_slli_epi16(_mm256_andnot_si256(_mm256_set1_epi16(0x7F), w), 8);
    const __m256i f16 = _mm256_or_si256(_mm256_slli_epi16(low, 7), sign);
    const __mmask16 nan = _mm256_cmpeq_epi16_mask(low, _mm256_set1_epi16(0x7F));

    return _mm512_mul_ps(_mm512_cvtph_ps(_mm256_mask_set1_epi16(f16, nan, 0x7E00)), scale256);
}

static AT5_TARGET void at5_widen_e4m3(float *out, const uint8_t *in, float scale, size_t n)
{
    const __m512 s = _mm512_set1_ps(256.0f * scale);
    size_t i = 0;

    for (; i + 16 <= n; i += 16)
        _mm512_storeu_ps(out + i, at5_e4m3(_mm_loadu_si128((const __m128i *)(const void *)
                                                           (in + i)), s));
    if (i < n) {
        const __mmask16 m = at5_mask(n - i);

        _mm512_mask_storeu_ps(out + i, m, at5_e4m3(_mm_maskz_loadu_epi8(m, in + i), s));
    }
}

/* ---- Attention ---------------------------------------------------------- */

/* NK keys against NV vectors of lanes. */
#define AT5_DOTS(NV, NK)                                                                        \
static AT5_TARGET void at5_dots_##NV##_##NK(float *s, size_t lds, const float *q, size_t ldq,   \
                                            const float *keys, size_t ldk, size_t dim,          \
                                            int first)                                          \
{                                                                                               \
    __m512 a[NK][NV];                                                                           \
                                                                                                \
    AT5_UNROLL                                                                                  \
    for (size_t t = 0; t < NK; t++)                                                             \
        AT5_UNROLL                                                                              \
        for (size_t v = 0; v < NV; v++)                                                         \
            a[t][v] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(s + t * lds + 16 * v);      \
    for (size_t d = 0; d < dim; d++) {                                                          \
        __m512 x[NV];                                                                           \
                                                                                                \
        AT5_UNROLL                                                                              \
        for (size_t v = 0; v < NV; v++)                                                         \
            x[v] = _mm512_loadu_ps(q + v * ldq + 16 * d);                                       \
        AT5_UNROLL                                                                              \
        for (size_t t = 0; t < NK; t++) {                                                       \
            const __m512 y = _mm512_set1_ps(keys[t * ldk + d]);                                 \
                                                                                                \
            AT5_UNROLL                                                                          \
            for (size_t v = 0; v < NV; v++)                                                     \
                a[t][v] = _mm512_fmadd_ps(x[v], y, a[t][v]);                                    \
        }                                                                                       \
    }                                                                                           \
    AT5_UNROLL                                                                                  \
    for (size_t t = 0; t < NK; t++)                                                             \
        AT5_UNROLL                                                                              \
        for (size_t v = 0; v < NV; v++)                                                         \
            _mm512_storeu_ps(s + t * lds + 16 * v, a[t][v]);                                    \
}
AT5_DOTS(4, 6) AT5_DOTS(4, 4) AT5_DOTS(4, 1)
AT5_DOTS(2, 12) AT5_DOTS(2, 4) AT5_DOTS(2, 1)
AT5_DOTS(1, 8) AT5_DOTS(1, 4) AT5_DOTS(1, 1)

typedef void (*at5_dots_fn)(float *, size_t, const float *, size_t, const float *, size_t,
                            size_t, int);

/* Tiles for 4, 2 and 1 vectors: the largest number of keys that leaves no register unused, and
 * what is left. */
static const struct at5_dots_tile {
    size_t n_vec, n_keys[3];
    at5_dots_fn fn[3];
} at5_dots_tiles[3] = {
    {4, {6, 4, 1}, {at5_dots_4_6, at5_dots_4_4, at5_dots_4_1}},
    {2, {12, 4, 1}, {at5_dots_2_12, at5_dots_2_4, at5_dots_2_1}},
    {1, {8, 4, 1}, {at5_dots_1_8, at5_dots_1_4, at5_dots_1_1}},
};

static AT5_TARGET void at5_dots(float *s, size_t lds, const float *q, size_t ldq, size_t n_vec,
                                const float *keys, size_t ldk, size_t n_keys, size_t dim,
                                int first)
{
    for (size_t v = 0, n_v; v < n_vec; v += n_v) {
        const struct at5_dots_tile *tile = &at5_dots_tiles[n_vec - v >= 4 ? 0
                                                           : n_vec - v >= 2 ? 1 : 2];

        n_v = tile->n_vec;
        for (size_t d = 0; d < dim; d += AT5_PANEL) {
            const size_t n_d = dim - d < AT5_PANEL ? dim - d : AT5_PANEL;
            size_t t = 0;

            for (int i = 0; i < 3; i++)
                for (; t + tile->n_keys[i] <= n_keys; t += tile->n_keys[i])
                    tile->fn[i](s + t * lds + 16 * v, lds, q + v * ldq + 16 * d, ldq,
                                keys + t * ldk + d, ldk, n_d, first && d == 0);
        }
    }
}

/* mk_exp in each lane; NaN and +inf do not matter here but stay what they are. */
AT5_INLINE __m512 at5_exp(__m512 x)
{
    const __mmask16 alive = _mm512_cmp_ps_mask(x, _mm512_set1_ps(MK_EXP_MIN), _CMP_NLT_UQ);
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(MK_EXP_LOG2E)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(MK_EXP_LN2_HIGH), x);
    __m512 p = _mm512_set1_ps(MK_EXP_P0);

    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(MK_EXP_LN2_LOW), r);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(MK_EXP_P1));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(MK_EXP_P2));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(MK_EXP_P3));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(MK_EXP_P4));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(MK_EXP_P5));
    p = _mm512_add_ps(_mm512_fmadd_ps(_mm512_mul_ps(p, r), r, r), _mm512_set1_ps(1.0f));
    return _mm512_maskz_scalef_ps(alive, p, n);
}

static AT5_TARGET void at5_soften(float *s, size_t lds, size_t n_vec, size_t n_keys, float scale,
                                  float *max, float *sum, float *shrink)
{
    const __m512 none = _mm512_set1_ps(-__builtin_inff()), scales = _mm512_set1_ps(scale);

    for (size_t v = 0; v < n_vec; v++, s += 16, max += 16, sum += 16, shrink += 16) {
        const __m512 before = _mm512_loadu_ps(max);
        __m512 top = before, added;

        for (size_t t = 0; t < n_keys; t++)
            top = _mm512_max_ps(_mm512_mul_ps(_mm512_loadu_ps(s + t * lds), scales), top);
        const __m512 base = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(top, none, _CMP_NEQ_UQ), top);
        const __m512 less = at5_exp(_mm512_sub_ps(before, base));

        added = _mm512_mul_ps(_mm512_loadu_ps(sum), less);
        for (size_t t = 0; t < n_keys; t++) {
            const __m512 x = _mm512_mul_ps(_mm512_loadu_ps(s + t * lds), scales);
            const __m512 p = at5_exp(_mm512_sub_ps(x, base));

            _mm512_storeu_ps(s + t * lds, p);
            added = _mm512_add_ps(added, p);
        }
        _mm512_storeu_ps(max, top);
        _mm512_storeu_ps(sum, added);
        _mm512_storeu_ps(shrink, less);
    }
}

/* NH heads, NV vectors of the values; mask is of the last vector. */
#define AT5_VALUES(NV, NH)                                                                      \
static AT5_TARGET void at5_values_##NV##_##NH(float *acc, size_t lda, const float *p,           \
                                              size_t ldp, const float *shrink,                  \
                                              const float *values, size_t ldv, size_t n_keys,   \
                                              __mmask16 mask)                                   \
{                                                                                               \
    __m512 a[NH][NV];                                                                           \
                                                                                                \
    AT5_UNROLL                                                                                  \
    for (size_t h = 0; h < NH; h++)                                                             \
        AT5_UNROLL                                                                              \
        for (size_t v = 0; v < NV; v++)                                                         \
            a[h][v] = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, acc + h * lda + 16 * v),        \
                                    _mm512_set1_ps(shrink[h]));                                 \
    for (size_t t = 0; t < n_keys; t++) {                                                       \
        __m512 x[NV];                                                                           \
                                                                                                \
        AT5_UNROLL                                                                              \
        for (size_t v = 0; v < NV; v++)                                                         \
            x[v] = _mm512_maskz_loadu_ps(mask, values + t * ldv + 16 * v);                      \
        AT5_UNROLL                                                                              \
        for (size_t h = 0; h < NH; h++) {                                                       \
            const __m512 y = _mm512_set1_ps(p[t * ldp + h]);                                    \
                                                                                                \
            AT5_UNROLL                                                                          \
            for (size_t v = 0; v < NV; v++)                                                     \
                a[h][v] = _mm512_fmadd_ps(x[v], y, a[h][v]);                                    \
        }                                                                                       \
    }                                                                                           \
    AT5_UNROLL                                                                                  \
    for (size_t h = 0; h < NH; h++)                                                             \
        AT5_UNROLL                                                                              \
        for (size_t v = 0; v < NV; v++)                                                         \
            _mm512_mask_storeu_ps(acc + h * lda + 16 * v, mask, a[h][v]);                       \
}
AT5_VALUES(4, 6) AT5_VALUES(4, 4) AT5_VALUES(4, 1)
AT5_VALUES(1, 6) AT5_VALUES(1, 4) AT5_VALUES(1, 1)

typedef void (*at5_values_fn)(float *, size_t, const float *, size_t, const float *,
                              const float *, size_t, size_t, __mmask16);

static const size_t at5_values_heads[3] = {6, 4, 1};
static const at5_values_fn at5_values_tiles[2][3] = {
    {at5_values_4_6, at5_values_4_4, at5_values_4_1},
    {at5_values_1_6, at5_values_1_4, at5_values_1_1},
};

static AT5_TARGET void at5_values(float *acc, size_t lda, const float *p, size_t ldp,
                                  const float *shrink, size_t n_heads, const float *values,
                                  size_t ldv, size_t n_keys, size_t dim)
{
    for (size_t d = 0; d < dim;) {
        const int narrow = dim - d < 64;
        const __mmask16 mask = narrow ? at5_mask(dim - d) : 0xFFFF;
        size_t h = 0;

        for (int i = 0; i < 3; i++)
            for (; h + at5_values_heads[i] <= n_heads; h += at5_values_heads[i])
                at5_values_tiles[narrow][i](acc + h * lda + d, lda, p + h, ldp, shrink + h,
                                            values + d, ldv, n_keys, mask);
        d += narrow ? 16 : 64;
    }
}

/* ---- Attention with 16-bit integers ------------------------------------- */

/* The low halves of a's lanes and of b's. */
AT5_INLINE __m512i at5_pair(__m512i a, __m512i b)
{
    return _mm512_mask_blend_epi16(0xAAAAAAAAu, a, _mm512_slli_epi32(b, 16));
}

/* The low halves of a's lanes, then of b's, one after the other. */
AT5_INLINE __m512i at5_join(__m512i a, __m512i b)
{
    const __m512i even = _mm512_set_epi16(62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36,
                                          34, 32, 30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8,
                                          6, 4, 2, 0);

    return _mm512_permutex2var_epi16(a, even, b);
}

AT5_INLINE __m512i at5_round16(__m512 x, __m512 inverse)
{
    return _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse));
}

/* Two rows at a time: sums of squares in 32 lanes each, largest magnitudes (range_ps with 11). */
struct at5_rows {
    const float *a, *b;
    __m512 a0, a1, b0, b1, max_a, max_b;
};

AT5_INLINE void at5_measure(struct at5_rows *r, size_t d, __mmask16 m0, __mmask16 m1)
{
    const __m512 a0 = _mm512_maskz_loadu_ps(m0, r->a + d);
    const __m512 a1 = _mm512_maskz_loadu_ps(m1, r->a + d + 16);
    const __m512 b0 = _mm512_maskz_loadu_ps(m0, r->b + d);
    const __m512 b1 = _mm512_maskz_loadu_ps(m1, r->b + d + 16);

    r->a0 = _mm512_fmadd_ps(a0, a0, r->a0);
    r->a1 = _mm512_fmadd_ps(a1, a1, r->a1);
    r->b0 = _mm512_fmadd_ps(b0, b0, r->b0);
    r->b1 = _mm512_fmadd_ps(b1, b1, r->b1);
    r->max_a = _mm512_range_ps(_mm512_range_ps(r->max_a, a0, 11), a1, 11);
    r->max_b = _mm512_range_ps(_mm512_range_ps(r->max_b, b0, 11), b1, 11);
}

AT5_INLINE float at5_step(__m512 s0, __m512 s1, __m512 max)
{
    return mk_round16_step(_mm512_reduce_add_ps(_mm512_add_ps(s0, s1)),
                           _mm512_reduce_max_ps(max));
}

/* Where two rounded rows go: all may be NULL. */
struct at5_rounded {
    uint32_t *a, *b, *pairs;
    size_t n_pairs;
    __m512 inverse_a, inverse_b;
};

AT5_INLINE void at5_round_32(const struct at5_rounded *r, const float *a, const float *b,
                             size_t d, __mmask16 m0, __mmask16 m1)
{
    const __m512i a0 = at5_round16(_mm512_maskz_loadu_ps(m0, a + d), r->inverse_a);
    const __m512i a1 = at5_round16(_mm512_maskz_loadu_ps(m1, a + d + 16), r->inverse_a);
    const __m512i b0 = at5_round16(_mm512_maskz_loadu_ps(m0, b + d), r->inverse_b);
    const __m512i b1 = at5_round16(_mm512_maskz_loadu_ps(m1, b + d + 16), r->inverse_b);

    if (r->a != NULL)
        _mm512_storeu_si512(r->a + d / 2, at5_join(a0, a1));
    if (r->b != NULL)
        _mm512_storeu_si512(r->b + d / 2, at5_join(b0, b1));
    if (d < r->n_pairs)
        _mm512_storeu_si512(r->pairs + d, at5_pair(a0, b0));
    if (d + 16 < r->n_pairs)
        _mm512_storeu_si512(r->pairs + d + 16, at5_pair(a1, b1));
}

static AT5_TARGET void at5_round(uint32_t *out, size_t ldo, float *step, uint32_t *pairs,
                                 size_t ldp, size_t n_pairs, const float *x, size_t ldx,
                                 size_t n, size_t dim)
{
    const size_t full = dim / 32 * 32;
    const __mmask16 m0 = at5_mask(dim - full);
    const __mmask16 m1 = at5_mask(dim - full > 16 ? dim - full - 16 : 0);
    const __m512 zero = _mm512_setzero_ps();

    for (size_t t = 0; t < n; t += 2, x += 2 * ldx) {
        const int two = t + 1 < n;
        struct at5_rows in = {x, two ? x + ldx : x, zero, zero, zero, zero, zero, zero};
        struct at5_rounded r = {out == NULL ? NULL : out + t * ldo,
                                out == NULL || !two ? NULL : out + (t + 1) * ldo,
                                pairs == NULL ? NULL : pairs + t / 2 * ldp,
                                pairs == NULL ? 0 : n_pairs, zero, zero};

        for (size_t d = 0; d < full; d += 32)
            at5_measure(&in, d, 0xFFFF, 0xFFFF);
        if (full < dim)
            at5_measure(&in, full, m0, m1);
        step[t] = at5_step(in.a0, in.a1, in.max_a);
        if (step[t] != 0.0f)
            r.inverse_a = _mm512_set1_ps(1.0f / step[t]);
        if (two) {
            step[t + 1] = at5_step(in.b0, in.b1, in.max_b);
            if (step[t + 1] != 0.0f)
                r.inverse_b = _mm512_set1_ps(1.0f / step[t + 1]);
        }
        for (size_t d = 0; d < full; d += 32)
            at5_round_32(&r, in.a, in.b, d, 0xFFFF, 0xFFFF);
        if (full < dim)
            at5_round_32(&r, in.a, in.b, full, m0, m1);
    }
}

AT5_INLINE __m512i at5_dword(const uint32_t *p)
{
    return _mm512_set1_epi32((int32_t)*p);
}

/* sum += products of two numbers each.  gcc keeps copies of the sums of its own function for it
 * in memory. */
AT5_INLINE void at5_dpw(__m512i *sum, __m512i a, __m512i b)
{
    __asm__("vpdpwssd %2, %1, %0" : "+v"(*sum) : "v"(a), "v"(b));
}

/* NK keys against NV vectors of lanes; sums are integers in s until the last panel. */
#define AT5_DOTS16(NV, NK)                                                                      \
static AT5_TARGET void at5_dots16_##NV##_##NK(float *s, size_t lds, const uint32_t *q,          \
                                              size_t ldq, const float *q_step,                  \
                                              const uint32_t *keys, size_t ldk,                 \
                                              const float *key_step, size_t words, int first,   \
                                              int last)                                         \
{                                                                                               \
    __m512i a[NK][NV];                                                                          \
                                                                                                \
    AT5_UNROLL                                                                                  \
    for (size_t t = 0; t < NK; t++)                                                             \
        AT5_UNROLL                                                                              \
        for (size_t v = 0; v < NV; v++)                                                         \
            a[t][v] = first ? _mm512_setzero_si512()                                            \
                            : _mm512_loadu_si512(s + t * lds + 16 * v);                         \
    for (size_t w = 0; w < words; w++) {                                                        \
        __m512i x[NV];                                                                          \
                                                                                                \
        AT5_UNROLL                                                                              \
        for (size_t v = 0; v < NV; v++)                                                         \
            x[v] = _mm512_loadu_si512(q + v * ldq + 16 * w);                                    \
        AT5_UNROLL                                                                              \
        for (size_t t = 0; t < NK; t++) {                                                       \
            const __m512i y = at5_dword(keys + t * ldk + w);                                    \
                                                                                                \
            AT5_UNROLL                                                                          \
            for (size_t v = 0; v < NV; v++)                                                     \
                at5_dpw(&a[t][v], x[v], y);                                                     \
        }                                                                                       \
    }                                                                                           \
    AT5_UNROLL                                                                                  \
    for (size_t t = 0; t < NK; t++) {                                                           \
        const __m512 y = _mm512_set1_ps(key_step[t]);                                           \
                                                                                                \
        AT5_UNROLL                                                                              \
        for (size_t v = 0; v < NV; v++)                                                         \
            if (last)                                                                           \
                _mm512_storeu_ps(s + t * lds + 16 * v,                                          \
                                 _mm512_mul_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(a[t][v]), y),   \
                                               _mm512_loadu_ps(q_step + 16 * v)));              \
            else                                                                                \
                _mm512_storeu_si512(s + t * lds + 16 * v, a[t][v]);                             \
    }                                                                                           \
}
AT5_DOTS16(4, 6) AT5_DOTS16(4, 4) AT5_DOTS16(4, 1)
AT5_DOTS16(2, 12) AT5_DOTS16(2, 4) AT5_DOTS16(2, 1)
AT5_DOTS16(1, 8) AT5_DOTS16(1, 4) AT5_DOTS16(1, 1)

typedef void (*at5_dots16_fn)(float *, size_t, const uint32_t *, size_t, const float *,
                              const uint32_t *, size_t, const float *, size_t, int, int);

static const struct at5_dots16_tile {
    size_t n_vec, n_keys[3];
    at5_dots16_fn fn[3];
} at5_dots16_tiles[3] = {
    {4, {6, 4, 1}, {at5_dots16_4_6, at5_dots16_4_4, at5_dots16_4_1}},
    {2, {12, 4, 1}, {at5_dots16_2_12, at5_dots16_2_4, at5_dots16_2_1}},
    {1, {8, 4, 1}, {at5_dots16_1_8, at5_dots16_1_4, at5_dots16_1_1}},
};

static AT5_TARGET void at5_dots16(float *s, size_t lds, const uint32_t *q, size_t ldq,
                                  const float *q_step, size_t n_vec, const uint32_t *keys,
                                  size_t ldk, const float *key_step, size_t n_keys, size_t words)
{
    for (size_t v = 0, n_v; v < n_vec; v += n_v) {
        const struct at5_dots16_tile *tile = &at5_dots16_tiles[n_vec - v >= 4 ? 0
                                                               : n_vec - v >= 2 ? 1 : 2];

        n_v = tile->n_vec;
        for (size_t w = 0; w < words; w += AT5_PANEL) {
            const size_t n_w = words - w < AT5_PANEL ? words - w : AT5_PANEL;
            size_t t = 0;

            for (int i = 0; i < 3; i++)
                for (; t + tile->n_keys[i] <= n_keys; t += tile->n_keys[i])
                    tile->fn[i](s + t * lds + 16 * v, lds, q + v * ldq + 16 * w, ldq,
                                q_step + 16 * v, keys + t * ldk + w, ldk, key_step + t, n_w,
                                w == 0, w + n_w == words);
        }
    }
}

static AT5_TARGET void at5_weights16(float *s, size_t lds, size_t n_vec, float *back,
                                     const float *step, size_t n_keys)
{
    const __m512 zero = _mm512_setzero_ps();

    for (size_t v = 0; v < n_vec; v++, s += 16, back += 16) {
        __m512 sum = zero, top = zero;

        for (size_t t = 0; t < n_keys; t++) {
            const __m512 w = _mm512_mul_ps(_mm512_loadu_ps(s + t * lds),
                                           _mm512_set1_ps(step[t]));

            sum = _mm512_add_ps(sum, w);
            top = _mm512_max_ps(w, top);
        }
        const __mmask16 some = _mm512_cmp_ps_mask(sum, _mm512_set1_ps(MK_ROUND16_TINY),
                                                  _CMP_NLE_UQ);
        const __m512 unit = _mm512_maskz_max_ps(some,
                                _mm512_div_ps(top, _mm512_set1_ps(MK_ROUND16_MAX)),
                                _mm512_div_ps(sum, _mm512_set1_ps(MK_ROUND16_SUM)));
        const __m512 inverse = _mm512_maskz_div_ps(some, _mm512_set1_ps(1.0f), unit);

        _mm512_storeu_ps(back, unit);
        for (size_t t = 0; t < n_keys; t += 2) {
            const __m512i a = at5_round16(_mm512_mul_ps(_mm512_loadu_ps(s + t * lds),
                                                        _mm512_set1_ps(step[t])), inverse);
            __m512i b = _mm512_setzero_si512();

            if (t + 1 < n_keys)
                b = at5_round16(_mm512_mul_ps(_mm512_loadu_ps(s + (t + 1) * lds),
                                              _mm512_set1_ps(step[t + 1])), inverse);
            _mm512_storeu_si512(s + t / 2 * lds, at5_pair(a, b));
        }
    }
}

/* acc = shrink acc + back sum */
AT5_INLINE void at5_add16(float *acc, __mmask16 mask, __m512i sum, const float *shrink,
                          const float *back)
{
    const __m512 old = _mm512_mul_ps(_mm512_set1_ps(*shrink), _mm512_maskz_loadu_ps(mask, acc));

    _mm512_mask_storeu_ps(acc, mask, _mm512_fmadd_ps(_mm512_set1_ps(*back),
                                                     _mm512_cvtepi32_ps(sum), old));
}

/* NH heads, NV vectors of the values; mask is of the last vector. */
#define AT5_VALUES16(NV, NH)                                                                    \
static AT5_TARGET void at5_values16_##NV##_##NH(float *acc, size_t lda, const uint32_t *p,      \
                                                size_t ldp, const float *back,                  \
                                                const float *shrink, const uint32_t *pairs,     \
                                                size_t ldv, size_t n_pairs, __mmask16 mask)     \
{                                                                                               \
    __m512i a[NH][NV];                                                                          \
                                                                                                \
    AT5_UNROLL                                                                                  \
    for (size_t h = 0; h < NH; h++)                                                             \
        AT5_UNROLL                                                                              \
        for (size_t v = 0; v < NV; v++)                                                         \
            a[h][v] = _mm512_setzero_si512();                                                   \
    for (size_t t = 0; t < n_pairs; t++) {                                                      \
        __m512i x[NV];                                                                          \
                                                                                                \
        AT5_UNROLL                                                                              \
        for (size_t v = 0; v < NV; v++)                                                         \
            x[v] = _mm512_maskz_loadu_epi32(mask, pairs + t * ldv + 16 * v);                    \
        AT5_UNROLL                                                                              \
        for (size_t h = 0; h < NH; h++) {                                                       \
            const __m512i y = at5_dword(p + t * ldp + h);                                       \
                                                                                                \
            AT5_UNROLL                                                                          \
            for (size_t v = 0; v < NV; v++)                                                     \
                at5_dpw(&a[h][v], x[v], y);                                                     \
        }                                                                                       \
    }                                                                                           \
    AT5_UNROLL                                                                                  \
    for (size_t h = 0; h < NH; h++)                                                             \
        AT5_UNROLL                                                                              \
        for (size_t v = 0; v < NV; v++)                                                         \
            at5_add16(acc + h * lda + 16 * v, mask, a[h][v], shrink + h, back + h);             \
}
AT5_VALUES16(4, 6) AT5_VALUES16(4, 4) AT5_VALUES16(4, 1)
AT5_VALUES16(1, 6) AT5_VALUES16(1, 4) AT5_VALUES16(1, 1)

typedef void (*at5_values16_fn)(float *, size_t, const uint32_t *, size_t, const float *,
                                const float *, const uint32_t *, size_t, size_t, __mmask16);

static const at5_values16_fn at5_values16_tiles[2][3] = {
    {at5_values16_4_6, at5_values16_4_4, at5_values16_4_1},
    {at5_values16_1_6, at5_values16_1_4, at5_values16_1_1},
};

static AT5_TARGET void at5_values16(float *acc, size_t lda, const uint32_t *p, size_t ldp,
                                    const float *back, const float *shrink, size_t n_heads,
                                    const uint32_t *pairs, size_t ldv, size_t n_pairs,
                                    size_t dim)
{
    for (size_t d = 0; d < dim;) {
        const int narrow = dim - d < 64;
        const __mmask16 mask = narrow ? at5_mask(dim - d) : 0xFFFF;
        size_t h = 0;

        for (int i = 0; i < 3; i++)
            for (; h + at5_values_heads[i] <= n_heads; h += at5_values_heads[i])
                at5_values16_tiles[narrow][i](acc + h * lda + d, lda, p + h, ldp, back + h,
                                              shrink + h, pairs + d, ldv, n_pairs, mask);
        d += narrow ? 16 : 64;
    }
}

/* ---- The indexer -------------------------------------------------------- */

static AT5_TARGET void at5_index_sum(float *scores, const float *s, size_t lds, const float *w,
                                     size_t n_vec, size_t n_keys)
{
    const __m512 zero = _mm512_setzero_ps();

    for (size_t t = 0; t < n_keys; t++, s += lds) {
        __m512 sum = zero;

        for (size_t v = 0; v < n_vec; v++)
            sum = _mm512_fmadd_ps(_mm512_max_ps(_mm512_loadu_ps(s + 16 * v), zero),
                                  _mm512_loadu_ps(w + 16 * v), sum);
        scores[t] = _mm512_reduce_add_ps(sum);
    }
}

AT5_INLINE __m512i at5_four(const uint8_t *p)
{
    int32_t x;

    __builtin_memcpy(&x, p, 4);
    return _mm512_set1_epi32(x);
}

/* Four keys: sum[t] += w relu(dot) over vectors [v, v + NV) of heads. */
#define AT5_INDEX(NV)                                                                           \
AT5_INLINE void at5_index_##NV(__m512 sum[4], const struct mk_index_query *q, size_t v0,        \
                               const uint8_t *const key[4])                                     \
{                                                                                               \
    const size_t words = q->words;                                                              \
    const int8_t *in = q->q8 + v0 * words * 64;                                                 \
    const __m512i zero = _mm512_setzero_si512();                                                \
    __m512i a[4][NV];                                                                           \
                                                                                                \
    AT5_UNROLL                                                                                  \
    for (size_t t = 0; t < 4; t++)                                                              \
        AT5_UNROLL                                                                              \
        for (size_t v = 0; v < NV; v++)                                                         \
            a[t][v] = _mm512_loadu_si512(q->start + (v0 + v) * 16);                             \
    for (size_t i = 0; i < words; i++) {                                                        \
        __m512i x[NV];                                                                          \
                                                                                                \
        AT5_UNROLL                                                                              \
        for (size_t v = 0; v < NV; v++)                                                         \
            x[v] = _mm512_loadu_si512(in + (v * words + i) * 64);                               \
        AT5_UNROLL                                                                              \
        for (size_t t = 0; t < 4; t++) {                                                        \
            const __m512i y = at5_four(key[t] + 4 * i);                                         \
                                                                                                \
            AT5_UNROLL                                                                          \
            for (size_t v = 0; v < NV; v++)                                                     \
                a[t][v] = _mm512_dpbusd_epi32(a[t][v], y, x[v]);                                \
        }                                                                                       \
    }                                                                                           \
    AT5_UNROLL                                                                                  \
    for (size_t v = 0; v < NV; v++) {                                                           \
        const __m512 w = _mm512_loadu_ps(q->w8 + (v0 + v) * 16);                                \
                                                                                                \
        AT5_UNROLL                                                                              \
        for (size_t t = 0; t < 4; t++)                                                          \
            sum[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_max_epi32(a[t][v], zero)), w,    \
                                     sum[t]);                                                   \
    }                                                                                           \
}
AT5_INDEX(4)
AT5_INDEX(2)
AT5_INDEX(1)

AT5_INLINE __m128 at5_fold(__m512 x)
{
    const __m256 y = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));

    return _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
}

/* The sums of four registers' lanes, in the order of _mm512_reduce_add_ps. */
AT5_INLINE __m128 at5_sum4(const __m512 s[4])
{
    const __m128 a = at5_fold(s[0]), b = at5_fold(s[1]), c = at5_fold(s[2]), d = at5_fold(s[3]);
    const __m128 ab = _mm_add_ps(_mm_movelh_ps(a, b), _mm_movehl_ps(b, a));
    const __m128 cd = _mm_add_ps(_mm_movelh_ps(c, d), _mm_movehl_ps(d, c));

    return _mm_add_ps(_mm_shuffle_ps(ab, cd, 0x88), _mm_shuffle_ps(ab, cd, 0xDD));
}

static AT5_TARGET void at5_index_scores(float *scores, const struct mk_index_query *q,
                                        const uint8_t *keys, const float *scale, size_t n_keys)
{
    const size_t bytes = 4 * q->words;

    for (size_t t = 0; t < n_keys; t += 4) {
        const size_t n = n_keys - t < 4 ? n_keys - t : 4;
        const __mmask8 mask = (__mmask8)((1u << n) - 1u);
        const uint8_t *const key[4] = {
            keys + t * bytes, keys + (t + (n > 1 ? 1 : 0)) * bytes,
            keys + (t + (n > 2 ? 2 : 0)) * bytes, keys + (t + (n > 3 ? 3 : 0)) * bytes};
        __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),
                         _mm512_setzero_ps()};
        size_t v = 0;

        for (; v + 4 <= q->n_vec; v += 4)
            at5_index_4(sum, q, v, key);
        if (v + 2 <= q->n_vec) {
            at5_index_2(sum, q, v, key);
            v += 2;
        }
        if (v < q->n_vec)
            at5_index_1(sum, q, v, key);
        _mm_mask_storeu_ps(scores + t, mask,
                           _mm_mul_ps(at5_sum4(sum), _mm_maskz_loadu_ps(mask, scale + t)));
    }
}

static AT5_TARGET size_t at5_index_above(int32_t *out, const float *x, size_t n, float pivot)
{
    const __m512 pivots = _mm512_set1_ps(pivot);
    __m512i at = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    size_t n_out = 0;

    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 valid = at5_mask(n - i);
        const __mmask16 m = _mm512_mask_cmp_ps_mask(valid, _mm512_maskz_loadu_ps(valid, x + i),
                                                    pivots, _CMP_GE_OQ);

        /* Compressing into a register and storing all of it: the store that compresses is
         * slow on some processors. */
        _mm512_storeu_si512(out + n_out, _mm512_maskz_compress_epi32(m, at));
        n_out += (size_t)__builtin_popcount(m);
        at = _mm512_add_epi32(at, _mm512_set1_epi32(16));
    }
    return n_out;
}

void mk_attend_init_avx512(struct mk_kernels *k)
{
    if (!(k->features & MK_CPU_AVX512) || !(k->features & MK_CPU_VNNI))
        return;
    k->widen_bf16 = at5_widen_bf16;
    k->widen_e4m3 = at5_widen_e4m3;
    k->attend_dots = at5_dots;
    k->attend_soften = at5_soften;
    k->attend_values = at5_values;
    k->attend16 = 1;
    k->round16 = at5_round;
    k->attend_dots16 = at5_dots16;
    k->attend_weights16 = at5_weights16;
    k->attend_values16 = at5_values16;
    k->index_sum = at5_index_sum;
    k->index_scores = at5_index_scores;
    k->index_above = at5_index_above;
}

#else

void mk_attend_init_avx512(struct mk_kernels *k)
{
    (void)k;
}

#endif
