/* AVX2 kernels of attention and the indexer: 16 lanes are two registers. */
#include "kernels/kernels.h"

#include "base/cpu.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#include "kernels/kernels_math.h"

#define AT2_TARGET __attribute__((target("avx2,fma,f16c,popcnt")))
#define AT2_INLINE static inline AT2_TARGET __attribute__((always_inline))
#define AT2_UNROLL _Pragma("GCC unroll 6")
#define AT2_PANEL 128u

/* ---- Cached rows -------------------------------------------------------- */

static AT2_TARGET void at2_widen_bf16(float *out, const uint8_t *in, size_t n)
{
    size_t i = 0;

    for (; i + 8 <= n; i += 8) {
        const __m128i h = _mm_loadu_si128((const __m128i *)(const void *)(in + 2 * i));

        _mm256_storeu_si256((__m256i *)(void *)(out + i),
                            _mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
    }
    for (; i < n; i++) {
        const uint32_t bits = (uint32_t)in[2 * i] << 16 | (uint32_t)in[2 * i + 1] << 24;

        __builtin_memcpy(out + i, &bits, sizeof(bits));
    }
}

/* As f16 with the exponent's bias 8 too high, which the scale undoes; the last code is NaN. */
AT2_INLINE __m256 at2_e4m3(__m128i x, __m256 scale256)
{
    const __m128i w = _mm_cvtepu8_epi16(x);
    const __m128i low = _mm_and_si128(w, _mm_set1_epi16(0x7F));
    const __m128i sign = _mm_slli_epi16(_mm_andnot_si128(_mm_set1_epi16(0x7F), w), 8);
    const __m128i f16 = _mm_or_si128(_mm_slli_epi16(low, 7), sign);
    const __m128i nan = _mm_and_si128(_mm_cmpeq_epi16(low, _mm_set1_epi16(0x7F)),
                                      _mm_set1_epi16(0x7E00));

    return _mm256_mul_ps(_mm256_cvtph_ps(_mm_or_si128(f16, nan)), scale256);
}

static AT2_TARGET void at2_widen_e4m3(float *out, const uint8_t *in, float scale, size_t n)
{
    const __m256 s = _mm256_set1_ps(256.0f * scale);
    size_t i = 0;

    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(out + i, at2_e4m3(_mm_loadl_epi64((const __m128i *)(const void *)
                                                           (in + i)), s));
    if (i < n) {
        uint8_t rest[16] = {0};
        float wide[8];

        __builtin_memcpy(rest, in + i, n - i);
        _mm256_storeu_ps(wide, at2_e4m3(_mm_loadu_si128((const __m128i *)(const void *)rest),
                                        s));
        __builtin_memcpy(out + i, wide, (n - i) * sizeof(float));
    }
}

/* ---- Attention ---------------------------------------------------------- */

/* NK keys against one vector of 16 lanes. */
#define AT2_DOTS(NK)                                                                            \
static AT2_TARGET void at2_dots_##NK(float *s, size_t lds, const float *q, const float *keys,   \
                                     size_t ldk, size_t dim, int first)                         \
{                                                                                               \
    __m256 a[NK][2];                                                                            \
                                                                                                \
    AT2_UNROLL                                                                                  \
    for (size_t t = 0; t < NK; t++) {                                                           \
        a[t][0] = first ? _mm256_setzero_ps() : _mm256_loadu_ps(s + t * lds);                   \
        a[t][1] = first ? _mm256_setzero_ps() : _mm256_loadu_ps(s + t * lds + 8);               \
    }                                                                                           \
    for (size_t d = 0; d < dim; d++) {                                                          \
        const __m256 x0 = _mm256_loadu_ps(q + 16 * d), x1 = _mm256_loadu_ps(q + 16 * d + 8);    \
                                                                                                \
        AT2_UNROLL                                                                              \
        for (size_t t = 0; t < NK; t++) {                                                       \
            const __m256 y = _mm256_broadcast_ss(keys + t * ldk + d);                           \
                                                                                                \
            a[t][0] = _mm256_fmadd_ps(x0, y, a[t][0]);                                          \
            a[t][1] = _mm256_fmadd_ps(x1, y, a[t][1]);                                          \
        }                                                                                       \
    }                                                                                           \
    AT2_UNROLL                                                                                  \
    for (size_t t = 0; t < NK; t++) {                                                           \
        _mm256_storeu_ps(s + t * lds, a[t][0]);                                                 \
        _mm256_storeu_ps(s + t * lds + 8, a[t][1]);                                             \
    }                                                                                           \
}
AT2_DOTS(6)
AT2_DOTS(1)

static AT2_TARGET void at2_dots(float *s, size_t lds, const float *q, size_t ldq, size_t n_vec,
                                const float *keys, size_t ldk, size_t n_keys, size_t dim,
                                int first)
{
    for (size_t v = 0; v < n_vec; v++, s += 16, q += ldq)
        for (size_t d = 0; d < dim; d += AT2_PANEL) {
            const size_t n_d = dim - d < AT2_PANEL ? dim - d : AT2_PANEL;
            size_t t = 0;

            for (; t + 6 <= n_keys; t += 6)
                at2_dots_6(s + t * lds, lds, q + 16 * d, keys + t * ldk + d, ldk, n_d,
                           first && d == 0);
            for (; t < n_keys; t++)
                at2_dots_1(s + t * lds, lds, q + 16 * d, keys + t * ldk + d, ldk, n_d,
                           first && d == 0);
        }
}

/* mk_exp in each lane; the exponent is built in two halves, so that it may be 128. */
AT2_INLINE __m256 at2_exp(__m256 x)
{
    const __m256 alive = _mm256_cmp_ps(x, _mm256_set1_ps(MK_EXP_MIN), _CMP_NLT_UQ);
    const __m256 c = _mm256_max_ps(_mm256_set1_ps(MK_EXP_MIN), x);
    const __m256 n = _mm256_round_ps(_mm256_mul_ps(c, _mm256_set1_ps(MK_EXP_LOG2E)),
                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(MK_EXP_LN2_HIGH), c);
    __m256 p = _mm256_set1_ps(MK_EXP_P0);
    const __m256i bits = _mm256_slli_epi32(
        _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);

    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(MK_EXP_LN2_LOW), r);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(MK_EXP_P1));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(MK_EXP_P2));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(MK_EXP_P3));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(MK_EXP_P4));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(MK_EXP_P5));
    p = _mm256_add_ps(_mm256_fmadd_ps(_mm256_mul_ps(p, r), r, r), _mm256_set1_ps(1.0f));
    return _mm256_and_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(bits)), alive);
}

static AT2_TARGET void at2_soften(float *s, size_t lds, size_t n_vec, size_t n_keys, float scale,
                                  float *max, float *sum, float *shrink)
{
    const __m256 none = _mm256_set1_ps(-__builtin_inff()), scales = _mm256_set1_ps(scale);

    for (size_t v = 0; v < 2 * n_vec; v++, s += 8, max += 8, sum += 8, shrink += 8) {
        const __m256 before = _mm256_loadu_ps(max);
        __m256 top = before, added;

        for (size_t t = 0; t < n_keys; t++)
            top = _mm256_max_ps(_mm256_mul_ps(_mm256_loadu_ps(s + t * lds), scales), top);
        const __m256 base = _mm256_and_ps(top, _mm256_cmp_ps(top, none, _CMP_NEQ_UQ));
        const __m256 less = at2_exp(_mm256_sub_ps(before, base));

        added = _mm256_mul_ps(_mm256_loadu_ps(sum), less);
        for (size_t t = 0; t < n_keys; t++) {
            const __m256 x = _mm256_mul_ps(_mm256_loadu_ps(s + t * lds), scales);
            const __m256 p = at2_exp(_mm256_sub_ps(x, base));

            _mm256_storeu_ps(s + t * lds, p);
            added = _mm256_add_ps(added, p);
        }
        _mm256_storeu_ps(max, top);
        _mm256_storeu_ps(sum, added);
        _mm256_storeu_ps(shrink, less);
    }
}

/* NH heads, 16 of the values. */
#define AT2_VALUES(NH)                                                                          \
static AT2_TARGET void at2_values_##NH(float *acc, size_t lda, const float *p, size_t ldp,      \
                                       const float *shrink, const float *values, size_t ldv,    \
                                       size_t n_keys)                                           \
{                                                                                               \
    __m256 a[NH][2];                                                                            \
                                                                                                \
    AT2_UNROLL                                                                                  \
    for (size_t h = 0; h < NH; h++) {                                                           \
        const __m256 y = _mm256_broadcast_ss(shrink + h);                                       \
                                                                                                \
        a[h][0] = _mm256_mul_ps(_mm256_loadu_ps(acc + h * lda), y);                             \
        a[h][1] = _mm256_mul_ps(_mm256_loadu_ps(acc + h * lda + 8), y);                         \
    }                                                                                           \
    for (size_t t = 0; t < n_keys; t++) {                                                       \
        const __m256 x0 = _mm256_loadu_ps(values + t * ldv);                                    \
        const __m256 x1 = _mm256_loadu_ps(values + t * ldv + 8);                                \
                                                                                                \
        AT2_UNROLL                                                                              \
        for (size_t h = 0; h < NH; h++) {                                                       \
            const __m256 y = _mm256_broadcast_ss(p + t * ldp + h);                              \
                                                                                                \
            a[h][0] = _mm256_fmadd_ps(x0, y, a[h][0]);                                          \
            a[h][1] = _mm256_fmadd_ps(x1, y, a[h][1]);                                          \
        }                                                                                       \
    }                                                                                           \
    AT2_UNROLL                                                                                  \
    for (size_t h = 0; h < NH; h++) {                                                           \
        _mm256_storeu_ps(acc + h * lda, a[h][0]);                                               \
        _mm256_storeu_ps(acc + h * lda + 8, a[h][1]);                                           \
    }                                                                                           \
}
AT2_VALUES(6)
AT2_VALUES(1)

/* One head, one of the values: what is left. */
static AT2_TARGET void at2_value(float *acc, const float *p, size_t ldp, float shrink,
                                 const float *values, size_t ldv, size_t n_keys)
{
    __m128 a = _mm_mul_ss(_mm_set_ss(*acc), _mm_set_ss(shrink));

    for (size_t t = 0; t < n_keys; t++)
        a = _mm_fmadd_ss(_mm_set_ss(p[t * ldp]), _mm_set_ss(values[t * ldv]), a);
    *acc = _mm_cvtss_f32(a);
}

static AT2_TARGET void at2_values(float *acc, size_t lda, const float *p, size_t ldp,
                                  const float *shrink, size_t n_heads, const float *values,
                                  size_t ldv, size_t n_keys, size_t dim)
{
    size_t d = 0;

    for (; d + 16 <= dim; d += 16) {
        size_t h = 0;

        for (; h + 6 <= n_heads; h += 6)
            at2_values_6(acc + h * lda + d, lda, p + h, ldp, shrink + h, values + d, ldv,
                         n_keys);
        for (; h < n_heads; h++)
            at2_values_1(acc + h * lda + d, lda, p + h, ldp, shrink + h, values + d, ldv,
                         n_keys);
    }
    for (; d < dim; d++)
        for (size_t h = 0; h < n_heads; h++)
            at2_value(acc + h * lda + d, p + h, ldp, shrink[h], values + d, ldv, n_keys);
}

/* The sum of 16 lanes, in the order of the C twin. */
AT2_INLINE float at2_sum16(__m256 a, __m256 b)
{
    const __m256 y = _mm256_add_ps(a, b);
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));

    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

/* ---- Attention with 16-bit integers ------------------------------------- */

/* Masks of the first n dwords: at2_first + 8 - n. */
static const int32_t at2_first[16] = {-1, -1, -1, -1, -1, -1, -1, -1};

/* n < 8: only so many of them. */
AT2_INLINE __m256 at2_some(const float *x, size_t n)
{
    return n >= 8 ? _mm256_loadu_ps(x)
         : n == 0 ? _mm256_setzero_ps()
                  : _mm256_maskload_ps(x, _mm256_loadu_si256((const __m256i *)(const void *)
                                                             (at2_first + 8 - n)));
}

/* The low halves of a's dwords and of b's. */
AT2_INLINE __m256i at2_pair(__m256i a, __m256i b)
{
    return _mm256_blend_epi16(a, _mm256_slli_epi32(b, 16), 0xAA);
}

/* The low halves of a's dwords, then of b's, one after the other. */
AT2_INLINE __m256i at2_join(__m256i a, __m256i b)
{
    const __m256i low = _mm256_set1_epi32(0xFFFF);

    return _mm256_permute4x64_epi64(_mm256_packus_epi32(_mm256_and_si256(a, low),
                                                        _mm256_and_si256(b, low)), 0xD8);
}

AT2_INLINE __m256i at2_round16(__m256 x, __m256 inverse)
{
    return _mm256_cvtps_epi32(_mm256_mul_ps(x, inverse));
}

AT2_INLINE void at2_put(uint32_t *out, __m256i x)
{
    _mm256_storeu_si256((__m256i *)(void *)out, x);
}

/* Up to 32 numbers of a row, zeros behind n. */
struct at2_row {
    __m256 x[4];
};

AT2_INLINE struct at2_row at2_row(const float *x, size_t n)
{
    struct at2_row r;

    AT2_UNROLL
    for (size_t i = 0; i < 4; i++)
        r.x[i] = n >= 32 ? _mm256_loadu_ps(x + 8 * i)
                         : at2_some(x + 8 * i, n > 8 * i ? n - 8 * i : 0);
    return r;
}

/* Sums of squares in 32 lanes, then as the C twin sums them. */
struct at2_size {
    __m256 s[4], max;
};

AT2_INLINE void at2_measure(struct at2_size *size, const struct at2_row *r)
{
    const __m256 positive = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF));

    AT2_UNROLL
    for (size_t i = 0; i < 4; i++) {
        size->s[i] = _mm256_fmadd_ps(r->x[i], r->x[i], size->s[i]);
        /* NaN comes first, or it would stay: the sum tells of it. */
        size->max = _mm256_max_ps(_mm256_and_ps(r->x[i], positive), size->max);
    }
}

static AT2_TARGET float at2_round_step(const float *x, size_t dim)
{
    const size_t full = dim / 32 * 32;
    struct at2_size size;
    float tops[8], top = 0.0f;

    for (int i = 0; i < 4; i++)
        size.s[i] = _mm256_setzero_ps();
    size.max = _mm256_setzero_ps();
    for (size_t d = 0; d < full; d += 32) {
        const struct at2_row r = at2_row(x + d, 32);

        at2_measure(&size, &r);
    }
    if (full < dim) {
        const struct at2_row r = at2_row(x + full, dim - full);

        at2_measure(&size, &r);
    }
    _mm256_storeu_ps(tops, size.max);
    for (int i = 0; i < 8; i++)
        top = tops[i] > top ? tops[i] : top;
    return mk_round16_step(at2_sum16(_mm256_add_ps(size.s[0], size.s[2]),
                                     _mm256_add_ps(size.s[1], size.s[3])), top);
}

/* Numbers [d, d + 32) of two rows; a, b and pairs are where their dwords go, or NULL. */
AT2_INLINE void at2_round_32(uint32_t *a, uint32_t *b, uint32_t *pairs, size_t n_pairs,
                             struct at2_row x, struct at2_row y, __m256 fx, __m256 fy, size_t d)
{
    __m256i i[4], k[4];

    AT2_UNROLL
    for (size_t v = 0; v < 4; v++) {
        i[v] = at2_round16(x.x[v], fx);
        k[v] = at2_round16(y.x[v], fy);
    }
    if (a != NULL) {
        at2_put(a + d / 2, at2_join(i[0], i[1]));
        at2_put(a + d / 2 + 8, at2_join(i[2], i[3]));
    }
    if (b != NULL) {
        at2_put(b + d / 2, at2_join(k[0], k[1]));
        at2_put(b + d / 2 + 8, at2_join(k[2], k[3]));
    }
    if (pairs != NULL && d < n_pairs) {
        at2_put(pairs + d, at2_pair(i[0], k[0]));
        at2_put(pairs + d + 8, at2_pair(i[1], k[1]));
    }
    if (pairs != NULL && d + 16 < n_pairs) {
        at2_put(pairs + d + 16, at2_pair(i[2], k[2]));
        at2_put(pairs + d + 24, at2_pair(i[3], k[3]));
    }
}

static AT2_TARGET void at2_round(uint32_t *out, size_t ldo, float *step, uint32_t *pairs,
                                 size_t ldp, size_t n_pairs, const float *x, size_t ldx,
                                 size_t n, size_t dim)
{
    const size_t full = dim / 32 * 32;

    for (size_t t = 0; t < n; t += 2, x += 2 * ldx) {
        const int two = t + 1 < n;
        const float *y = two ? x + ldx : x;
        uint32_t *const a = out == NULL ? NULL : out + t * ldo;
        uint32_t *const b = a == NULL || !two ? NULL : a + ldo;
        uint32_t *const p = pairs == NULL ? NULL : pairs + t / 2 * ldp;
        float steps[2] = {at2_round_step(x, dim), 0.0f};

        step[t] = steps[0];
        if (two)
            step[t + 1] = steps[1] = at2_round_step(y, dim);
        const __m256 fx = _mm256_set1_ps(steps[0] == 0.0f ? 0.0f : 1.0f / steps[0]);
        const __m256 fy = _mm256_set1_ps(steps[1] == 0.0f ? 0.0f : 1.0f / steps[1]);
        for (size_t d = 0; d < full; d += 32)
            at2_round_32(a, b, p, n_pairs, at2_row(x + d, 32), at2_row(y + d, 32), fx, fy, d);
        if (full < dim)
            at2_round_32(a, b, p, n_pairs, at2_row(x + full, dim - full),
                         at2_row(y + full, dim - full), fx, fy, full);
    }
}

AT2_INLINE __m256i at2_get(const uint32_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

/* sum += products of two numbers each.  In one piece, as gcc moves products forward until it has no
 * registers left for sums. */
AT2_INLINE void at2_dpw(__m256i *sum, __m256i a, __m256i b)
{
    __m256i two;

    __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(*sum), "=&x"(two)
            : "x"(a), "x"(b));
}

/* NK keys against one vector of 16 lanes. */
#define AT2_DOTS16(NK)                                                                          \
static AT2_TARGET void at2_dots16_##NK(float *s, size_t lds, const uint32_t *q,                 \
                                       const float *q_step, const uint32_t *keys, size_t ldk,   \
                                       const float *key_step, size_t words)                     \
{                                                                                               \
    __m256i a[NK][2];                                                                           \
                                                                                                \
    AT2_UNROLL                                                                                  \
    for (size_t t = 0; t < NK; t++)                                                             \
        a[t][0] = a[t][1] = _mm256_setzero_si256();                                             \
    for (size_t w = 0; w < words; w++) {                                                        \
        const __m256i x0 = at2_get(q + 16 * w), x1 = at2_get(q + 16 * w + 8);                   \
                                                                                                \
        AT2_UNROLL                                                                              \
        for (size_t t = 0; t < NK; t++) {                                                       \
            const __m256i y = _mm256_set1_epi32((int32_t)keys[t * ldk + w]);                    \
                                                                                                \
            at2_dpw(&a[t][0], x0, y);                                                           \
            at2_dpw(&a[t][1], x1, y);                                                           \
        }                                                                                       \
    }                                                                                           \
    AT2_UNROLL                                                                                  \
    for (size_t t = 0; t < NK; t++) {                                                           \
        const __m256 y = _mm256_set1_ps(key_step[t]);                                           \
                                                                                                \
        _mm256_storeu_ps(s + t * lds,                                                           \
                         _mm256_mul_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(a[t][0]), y),           \
                                       _mm256_loadu_ps(q_step)));                               \
        _mm256_storeu_ps(s + t * lds + 8,                                                       \
                         _mm256_mul_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(a[t][1]), y),           \
                                       _mm256_loadu_ps(q_step + 8)));                           \
    }                                                                                           \
}
AT2_DOTS16(5)
AT2_DOTS16(1)

static AT2_TARGET void at2_dots16(float *s, size_t lds, const uint32_t *q, size_t ldq,
                                  const float *q_step, size_t n_vec, const uint32_t *keys,
                                  size_t ldk, const float *key_step, size_t n_keys, size_t words)
{
    for (size_t v = 0; v < n_vec; v++, s += 16, q += ldq, q_step += 16) {
        size_t t = 0;

        for (; t + 5 <= n_keys; t += 5)
            at2_dots16_5(s + t * lds, lds, q, q_step, keys + t * ldk, ldk, key_step + t, words);
        for (; t < n_keys; t++)
            at2_dots16_1(s + t * lds, lds, q, q_step, keys + t * ldk, ldk, key_step + t, words);
    }
}

static AT2_TARGET void at2_weights16(float *s, size_t lds, size_t n_vec, float *back,
                                     const float *step, size_t n_keys)
{
    const __m256 zero = _mm256_setzero_ps();

    for (size_t l = 0; l < 16 * n_vec; l += 8, s += 8, back += 8) {
        __m256 sum = zero, top = zero;

        for (size_t t = 0; t < n_keys; t++) {
            const __m256 w = _mm256_mul_ps(_mm256_loadu_ps(s + t * lds),
                                           _mm256_set1_ps(step[t]));

            sum = _mm256_add_ps(sum, w);
            top = _mm256_max_ps(w, top);
        }
        const __m256 some = _mm256_cmp_ps(sum, _mm256_set1_ps(MK_ROUND16_TINY), _CMP_NLE_UQ);
        const __m256 unit = _mm256_and_ps(some,
            _mm256_max_ps(_mm256_div_ps(top, _mm256_set1_ps(MK_ROUND16_MAX)),
                          _mm256_div_ps(sum, _mm256_set1_ps(MK_ROUND16_SUM))));
        const __m256 inverse = _mm256_and_ps(some, _mm256_div_ps(_mm256_set1_ps(1.0f), unit));

        _mm256_storeu_ps(back, unit);
        for (size_t t = 0; t < n_keys; t += 2) {
            const __m256i a = at2_round16(_mm256_mul_ps(_mm256_loadu_ps(s + t * lds),
                                                        _mm256_set1_ps(step[t])), inverse);
            __m256i b = _mm256_setzero_si256();

            if (t + 1 < n_keys)
                b = at2_round16(_mm256_mul_ps(_mm256_loadu_ps(s + (t + 1) * lds),
                                              _mm256_set1_ps(step[t + 1])), inverse);
            _mm256_storeu_si256((__m256i *)(void *)(s + t / 2 * lds), at2_pair(a, b));
        }
    }
}

/* acc = shrink acc + back sum */
AT2_INLINE void at2_add16(float *acc, __m256i sum, const float *shrink, const float *back)
{
    const __m256 old = _mm256_mul_ps(_mm256_set1_ps(*shrink), _mm256_loadu_ps(acc));

    _mm256_storeu_ps(acc, _mm256_fmadd_ps(_mm256_set1_ps(*back), _mm256_cvtepi32_ps(sum), old));
}

/* NH heads, 16 of the values. */
#define AT2_VALUES16(NH)                                                                        \
static AT2_TARGET void at2_values16_##NH(float *acc, size_t lda, const uint32_t *p, size_t ldp, \
                                         const float *back, const float *shrink,                \
                                         const uint32_t *pairs, size_t ldv, size_t n_pairs)     \
{                                                                                               \
    __m256i a[NH][2];                                                                           \
                                                                                                \
    AT2_UNROLL                                                                                  \
    for (size_t h = 0; h < NH; h++)                                                             \
        a[h][0] = a[h][1] = _mm256_setzero_si256();                                             \
    for (size_t t = 0; t < n_pairs; t++) {                                                      \
        const __m256i x0 = at2_get(pairs + t * ldv), x1 = at2_get(pairs + t * ldv + 8);         \
                                                                                                \
        AT2_UNROLL                                                                              \
        for (size_t h = 0; h < NH; h++) {                                                       \
            const __m256i y = _mm256_set1_epi32((int32_t)p[t * ldp + h]);                       \
                                                                                                \
            at2_dpw(&a[h][0], x0, y);                                                           \
            at2_dpw(&a[h][1], x1, y);                                                           \
        }                                                                                       \
    }                                                                                           \
    AT2_UNROLL                                                                                  \
    for (size_t h = 0; h < NH; h++) {                                                           \
        at2_add16(acc + h * lda, a[h][0], shrink + h, back + h);                                \
        at2_add16(acc + h * lda + 8, a[h][1], shrink + h, back + h);                            \
    }                                                                                           \
}
AT2_VALUES16(5)
AT2_VALUES16(1)

/* One head, one of the values: what is left. */
static AT2_TARGET void at2_value16(float *acc, const uint32_t *p, size_t ldp, float back,
                                   float shrink, const uint32_t *pairs, size_t ldv,
                                   size_t n_pairs)
{
    __m128i sum = _mm_setzero_si128();

    for (size_t t = 0; t < n_pairs; t++)
        sum = _mm_add_epi32(sum, _mm_madd_epi16(_mm_cvtsi32_si128((int32_t)p[t * ldp]),
                                                _mm_cvtsi32_si128((int32_t)pairs[t * ldv])));
    *acc = _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(back),
                                      _mm_cvtepi32_ps(sum),
                                      _mm_mul_ss(_mm_set_ss(shrink), _mm_set_ss(*acc))));
}

static AT2_TARGET void at2_values16(float *acc, size_t lda, const uint32_t *p, size_t ldp,
                                    const float *back, const float *shrink, size_t n_heads,
                                    const uint32_t *pairs, size_t ldv, size_t n_pairs,
                                    size_t dim)
{
    size_t d = 0;

    for (; d + 16 <= dim; d += 16) {
        size_t h = 0;

        for (; h + 5 <= n_heads; h += 5)
            at2_values16_5(acc + h * lda + d, lda, p + h, ldp, back + h, shrink + h, pairs + d,
                           ldv, n_pairs);
        for (; h < n_heads; h++)
            at2_values16_1(acc + h * lda + d, lda, p + h, ldp, back + h, shrink + h, pairs + d,
                           ldv, n_pairs);
    }
    for (; d < dim; d++)
        for (size_t h = 0; h < n_heads; h++)
            at2_value16(acc + h * lda + d, p + h, ldp, back[h], shrink[h], pairs + d, ldv,
                        n_pairs);
}

/* ---- The indexer -------------------------------------------------------- */

static AT2_TARGET void at2_index_sum(float *scores, const float *s, size_t lds, const float *w,
                                     size_t n_vec, size_t n_keys)
{
    const __m256 zero = _mm256_setzero_ps();

    for (size_t t = 0; t < n_keys; t++, s += lds) {
        __m256 a = zero, b = zero;

        for (size_t i = 0; i < 16 * n_vec; i += 16) {
            a = _mm256_fmadd_ps(_mm256_max_ps(_mm256_loadu_ps(s + i), zero),
                                _mm256_loadu_ps(w + i), a);
            b = _mm256_fmadd_ps(_mm256_max_ps(_mm256_loadu_ps(s + i + 8), zero),
                                _mm256_loadu_ps(w + i + 8), b);
        }
        scores[t] = at2_sum16(a, b);
    }
}

/* Products of |k| and sign(k) q: as both are at most 127, two of them fit 16 bits. */
AT2_INLINE __m256i at2_four(__m256i sum, __m256i key, __m256i size, const int8_t *q)
{
    const __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)q);
    const __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(x, key));

    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

static AT2_TARGET void at2_index_scores(float *scores, const struct mk_index_query *q,
                                        const uint8_t *keys, const float *scale, size_t n_keys)
{
    const __m256i zero = _mm256_setzero_si256();
    const size_t words = q->words;

    for (size_t t = 0; t < n_keys; t++, keys += 4 * words) {
        __m256 s0 = _mm256_setzero_ps(), s1 = s0;

        for (size_t v = 0; v < q->n_vec; v++) {
            const int8_t *in = q->q8 + v * words * 64;
            __m256i a0 = zero, a1 = zero;

            for (size_t i = 0; i < words; i++) {
                int32_t four;

                __builtin_memcpy(&four, keys + 4 * i, 4);
                const __m256i key = _mm256_xor_si256(_mm256_set1_epi32(four),
                                                     _mm256_set1_epi8((char)-128));
                const __m256i size = _mm256_abs_epi8(key);

                a0 = at2_four(a0, key, size, in + 64 * i);
                a1 = at2_four(a1, key, size, in + 64 * i + 32);
            }
            s0 = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_max_epi32(a0, zero)),
                                 _mm256_loadu_ps(q->w8 + 16 * v), s0);
            s1 = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_max_epi32(a1, zero)),
                                 _mm256_loadu_ps(q->w8 + 16 * v + 8), s1);
        }
        scores[t] = at2_sum16(s0, s1) * scale[t];
    }
}

static AT2_TARGET size_t at2_index_above(int32_t *out, const float *x, size_t n, float pivot)
{
    const __m256 pivots = _mm256_set1_ps(pivot);
    size_t n_out = 0, i = 0;

    for (; i + 8 <= n; i += 8) {
        unsigned m = (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(x + i), pivots,
                                                                _CMP_GE_OQ));

        for (; m != 0; m &= m - 1)
            out[n_out++] = (int32_t)(i + (size_t)__builtin_ctz(m));
    }
    for (; i < n; i++)
        if (x[i] >= pivot)
            out[n_out++] = (int32_t)i;
    return n_out;
}

void mk_attend_init_avx2(struct mk_kernels *k)
{
    if (!(k->features & MK_CPU_AVX2))
        return;
    k->widen_bf16 = at2_widen_bf16;
    k->widen_e4m3 = at2_widen_e4m3;
    k->attend_dots = at2_dots;
    k->attend_soften = at2_soften;
    k->attend_values = at2_values;
    k->attend16 = 1;
    k->round16 = at2_round;
    k->attend_dots16 = at2_dots16;
    k->attend_weights16 = at2_weights16;
    k->attend_values16 = at2_values16;
    k->index_sum = at2_index_sum;
    k->index_scores = at2_index_scores;
    k->index_above = at2_index_above;
}

#else

void mk_attend_init_avx2(struct mk_kernels *k)
{
    (void)k;
}

#endif
