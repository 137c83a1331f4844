/* AVX-512 kernels: 16 rows of W in the lanes of a register.  See packed.h for the layout. */
#include "kernels/kernels.h"

#include "base/cpu.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <cpuid.h>
#include <immintrin.h>

#include "kernels/kernels_math.h"
#include "kernels/packed.h"

#define K5_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")))
#define K5_INLINE static inline K5_TARGET __attribute__((always_inline))

K5_INLINE __m512i k5_load(const void *p)
{
    return _mm512_loadu_si512(p);
}

K5_INLINE void k5_prefetch(const void *p)
{
    _mm_prefetch((const char *)p, _MM_HINT_T1);
}

/* p + ahead, of unknown origin to the compiler: it would keep a pointer for every line that is
 * prefetched. */
K5_INLINE const uint8_t *k5_far(const uint8_t *p, size_t ahead)
{
    p += ahead;
    __asm__("" : "+r"(p));
    return p;
}

/* Four activations in every lane. */
K5_INLINE __m512i k5_four(const int8_t *a)
{
    int32_t x;

    __builtin_memcpy(&x, a, 4);
    return _mm512_set1_epi32(x);
}

K5_INLINE __m512 k5_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

/* f16 in the low half of each lane. */
K5_INLINE __m512 k5_f16_low(__m512i x)
{
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(x));
}

K5_INLINE __mmask16 k5_mask(size_t n)
{
    return (__mmask16)(n >= 16 ? 0xFFFFu : (1u << n) - 1u);
}

/* ---- Vectors ------------------------------------------------------------ */

static K5_TARGET float k5_dot(const float *a, const float *b, size_t n)
{
    __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    size_t i = 0;

    for (; i + 64 <= n; i += 64) {
        s0 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), s0);
        s1 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 16), _mm512_loadu_ps(b + i + 16), s1);
        s2 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 32), _mm512_loadu_ps(b + i + 32), s2);
        s3 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 48), _mm512_loadu_ps(b + i + 48), s3);
    }
    for (; i < n; i += 16) {
        const __mmask16 m = k5_mask(n - i);

        s0 = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(m, a + i), _mm512_maskz_loadu_ps(m, b + i),
                             s0);
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3)));
}

static K5_TARGET void k5_axpy(float *y, float s, const float *x, size_t n)
{
    const __m512 sv = _mm512_set1_ps(s);

    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 m = k5_mask(n - i);

        _mm512_mask_storeu_ps(y + i, m, _mm512_fmadd_ps(sv, _mm512_maskz_loadu_ps(m, x + i),
                                                        _mm512_maskz_loadu_ps(m, y + i)));
    }
}

static K5_TARGET void k5_rms_norm(float *y, const float *x, const float *w, float eps, size_t n)
{
    const float mean = k5_dot(x, x, n) / (float)n;
    const float scale = 1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(mean + eps)));
    const __m512 sv = _mm512_set1_ps(scale);

    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 m = k5_mask(n - i);

        _mm512_mask_storeu_ps(y + i, m, _mm512_mul_ps(_mm512_maskz_loadu_ps(m, w + i),
                              _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), sv)));
    }
}

/* mk_exp in each lane. */
K5_INLINE __m512 k5_exp(__m512 x)
{
    const __mmask16 alive = _mm512_cmp_ps_mask(x, _mm512_set1_ps(MK_EXP_MIN), _CMP_NLT_UQ);
    /* With x second, NaN passes through min. */
    const __m512 c = _mm512_min_ps(_mm512_set1_ps(MK_EXP_MAX), x);
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(c, _mm512_set1_ps(MK_EXP_LOG2E)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(MK_EXP_LN2_HIGH), c);
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

static K5_TARGET void k5_softmax(float *x, size_t n)
{
    const __m512 none = _mm512_set1_ps(-__builtin_inff());
    __m512 max = none, sum = _mm512_setzero_ps();

    for (size_t i = 0; i < n; i += 16)
        max = _mm512_max_ps(_mm512_mask_loadu_ps(none, k5_mask(n - i), x + i), max);
    const float top = _mm512_reduce_max_ps(max);
    if (top == -__builtin_inff()) {
        __builtin_memset(x, 0, n * sizeof(*x));
        return;
    }
    max = _mm512_set1_ps(top);
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 m = k5_mask(n - i);
        const __m512 e = k5_exp(_mm512_sub_ps(_mm512_mask_loadu_ps(none, m, x + i), max));

        _mm512_mask_storeu_ps(x + i, m, e);
        sum = _mm512_add_ps(sum, e);
    }
    const __m512 scale = _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(sum));
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 m = k5_mask(n - i);

        _mm512_mask_storeu_ps(x + i, m, _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), scale));
    }
}

static K5_TARGET void k5_swiglu(float *y, const float *g, const float *u, size_t n)
{
    const __m512 one = _mm512_set1_ps(1.0f);

    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 m = k5_mask(n - i);
        const __m512 gv = _mm512_maskz_loadu_ps(m, g + i);
        const __m512 e = k5_exp(_mm512_sub_ps(_mm512_setzero_ps(), gv));

        _mm512_mask_storeu_ps(y + i, m, _mm512_mul_ps(_mm512_div_ps(gv, _mm512_add_ps(one, e)),
                                                      _mm512_maskz_loadu_ps(m, u + i)));
    }
}

static K5_TARGET void k5_quantize(struct mk_act *out, const float *x, size_t n)
{
    for (; n > 0; n--, out++, x += 32) {
        const __m512 x0 = _mm512_loadu_ps(x), x1 = _mm512_loadu_ps(x + 16);
        const float max = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(x0),
                                                             _mm512_abs_ps(x1)));
        const int some = max > MK_ACT_TINY;
        const __m512 inverse = _mm512_set1_ps(some ? 127.0f / max : 0.0f);
        const __m512i q0 = _mm512_cvtps_epi32(_mm512_mul_ps(x0, inverse));
        const __m512i q1 = _mm512_cvtps_epi32(_mm512_mul_ps(x1, inverse));
        const int32_t s0 = _mm512_reduce_add_epi32(q0), s1 = _mm512_reduce_add_epi32(q1);

        _mm_storeu_si128((__m128i *)(void *)out->q, _mm512_cvtsepi32_epi8(q0));
        _mm_storeu_si128((__m128i *)(void *)(out->q + 16), _mm512_cvtsepi32_epi8(q1));
        out->d = some ? max / 127.0f : 0.0f;
        out->ds = out->d * (float)(s0 + s1);
        out->z = -128 * (s0 + s1);
        out->zh[0] = -128 * s0;
        out->zh[1] = -128 * s1;
        out->pad[0] = out->pad[1] = out->pad[2] = 0;
    }
}

/* ---- Packing ------------------------------------------------------------ */

/* 16 x 16 dwords transposed, in four rounds of exchanges. */
K5_INLINE void k5_transpose(__m512i *x)
{
    __m512i y[16];

    for (int i = 0; i < 16; i += 2) {
        y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
        x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
        x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
        x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        y[i] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x88);
        y[i + 4] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xDD);
        y[i + 8] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0x88);
        y[i + 12] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0xDD);
    }
    for (int i = 0; i < 4; i++) {
        x[i] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0x88);
        x[i + 8] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0xDD);
        x[i + 4] = _mm512_shuffle_i32x4(y[i + 4], y[i + 12], 0x88);
        x[i + 12] = _mm512_shuffle_i32x4(y[i + 4], y[i + 12], 0xDD);
    }
}

/* At most eight words of 16 rows: rows r and r + 8 share a register. */
static K5_TARGET void k5_interleave8(uint32_t *out, const uint8_t *rows, size_t stride,
                                     size_t n_words)
{
    const __m512i low = _mm512_set_epi64(13, 12, 5, 4, 9, 8, 1, 0);
    const __m512i high = _mm512_set_epi64(15, 14, 7, 6, 11, 10, 3, 2);
    const __mmask8 m = (__mmask8)((1u << n_words) - 1u);
    __m512i x[8], y[8];

    for (size_t r = 0; r < 8; r++)
        x[r] = _mm512_inserti64x4(
            _mm512_castsi256_si512(_mm256_maskz_loadu_epi32(m, rows + r * stride)),
            _mm256_maskz_loadu_epi32(m, rows + (r + 8) * stride), 1);
    for (int i = 0; i < 8; i += 2) {
        y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
        x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
        x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
        x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
    }
    for (size_t i = 0; i < 4; i++) {
        if (i < n_words)
            _mm512_storeu_si512(out + 16 * i, _mm512_permutex2var_epi64(x[i], low, x[i + 4]));
        if (i + 4 < n_words)
            _mm512_storeu_si512(out + 16 * (i + 4),
                                _mm512_permutex2var_epi64(x[i], high, x[i + 4]));
    }
}

static K5_TARGET void k5_interleave(uint32_t *out, const uint8_t *rows, size_t stride,
                                    size_t n_rows, size_t n_words)
{
    if (n_rows == 16 && n_words <= 8) {
        k5_interleave8(out, rows, stride, n_words);
        return;
    }
    for (size_t i = 0; i < n_words; i += 16, out += 256) {
        const size_t n = n_words - i < 16 ? n_words - i : 16;
        const __mmask16 m = k5_mask(n);
        __m512i x[16];

        for (size_t r = 0; r < 16; r++)
            x[r] = _mm512_maskz_loadu_epi32(r < n_rows ? m : 0, rows + r * stride + 4 * i);
        k5_transpose(x);
        for (size_t j = 0; j < 16; j++)
            if (j < n)
                _mm512_storeu_si512(out + 16 * j, x[j]);
    }
}

/* ---- Integer weights ----------------------------------------------------
 * A decoder gives block j of a unit as eight registers of four weights per row; the same
 * code feeds panels and streams. */

#define K5_UNROLL4 _Pragma("GCC unroll 4")
#define K5_UNROLL8 _Pragma("GCC unroll 8")
#define K5_NIBBLES _mm512_set1_epi8(15)

K5_INLINE void k5_q8_0_weights(__m512i *w, const uint8_t *unit, int j)
{
    (void)j;
    K5_UNROLL8
    for (int i = 0; i < 8; i++)
        w[i] = k5_load(unit + 64 * i);
}

K5_INLINE __m512i k5_high(__m512i x)
{
    return _mm512_and_si512(_mm512_srli_epi16(x, 4), K5_NIBBLES);
}

K5_INLINE void k5_q4_0_weights(__m512i *w, const uint8_t *unit, int j)
{
    const __m512i bias = _mm512_set1_epi8(120);

    (void)j;
    K5_UNROLL8
    for (int i = 0; i < 4; i++) {
        const __m512i x = k5_load(unit + 64 * i);

        w[i] = _mm512_add_epi8(_mm512_and_si512(x, K5_NIBBLES), bias);
        w[i + 4] = _mm512_add_epi8(k5_high(x), bias);
    }
}

/* x | (bit `bit` of each byte of h) << 4. */
K5_INLINE __m512i k5_fifth(__m512i x, __m512i h, int bit)
{
    const __m512i at4 = bit < 4 ? _mm512_slli_epi16(h, (unsigned)(4 - bit) & 15)
                                : _mm512_srli_epi16(h, (unsigned)(bit - 4) & 15);

    return _mm512_ternarylogic_epi32(x, at4, _mm512_set1_epi8(16), 0xF8);   /* x | (at4 & 16) */
}

K5_INLINE void k5_q5_0_weights(__m512i *w, const uint8_t *unit, int j)
{
    const __m512i bias = _mm512_set1_epi8(112), h = k5_load(unit);

    (void)j;
    K5_UNROLL8
    for (int i = 0; i < 4; i++) {
        const __m512i x = k5_load(unit + 64 + 64 * i);

        w[i] = _mm512_add_epi8(k5_fifth(_mm512_and_si512(x, K5_NIBBLES), h, i), bias);
        w[i + 4] = _mm512_add_epi8(k5_fifth(k5_high(x), h, i + 4), bias);
    }
}

K5_INLINE void k5_q4_k_weights(__m512i *w, const uint8_t *unit, int j)
{
    K5_UNROLL8
    for (int i = 0; i < 8; i++) {
        const __m512i x = k5_load(unit + 256 + j / 2 * 512 + 64 * i);

        w[i] = j % 2 == 0 ? _mm512_and_si512(x, K5_NIBBLES) : k5_high(x);
    }
}

K5_INLINE void k5_q5_k_weights(__m512i *w, const uint8_t *unit, int j)
{
    K5_UNROLL8
    for (int i = 0; i < 8; i++) {
        const __m512i x = k5_load(unit + (j < 2 ? 256 + 128 * i : 768 + j / 2 * 512 + 64 * i));
        const __m512i h = k5_load(unit + 256 + 128 * i + 64);

        w[i] = k5_fifth(j % 2 == 0 ? _mm512_and_si512(x, K5_NIBBLES) : k5_high(x), h, j);
    }
}

K5_INLINE void k5_q6_k_weights(__m512i *w, const uint8_t *unit, int j)
{
    const uint8_t *half = unit + (4 + j / 4 * 24) * 64;
    const __m512i bias = _mm512_set1_epi8(96), two = _mm512_set1_epi8(0x30);

    K5_UNROLL8
    for (int i = 0; i < 8; i++) {
        const __m512i x = k5_load(half + 64 * (j % 2 == 0 ? 2 * i : 16 + i));
        const __m512i h = k5_load(half + 64 * (2 * i + 1));
        const __m512i h4 = (j & 3) == 3 ? _mm512_srli_epi16(h, 2)
                                        : _mm512_slli_epi16(h, (unsigned)(4 - 2 * (j & 3)) & 15);
        const __m512i q = (j & 2) == 0 ? _mm512_and_si512(x, K5_NIBBLES) : k5_high(x);

        w[i] = _mm512_add_epi8(_mm512_ternarylogic_epi32(q, h4, two, 0xF8), bias);
    }
}

K5_INLINE void k5_iq4_xs_weights(__m512i *w, const uint8_t *unit, int j)
{
    const __m512i table = _mm512_broadcast_i32x4(
        _mm_loadu_si128((const __m128i *)(const void *)mk_iq4_shifted));

    K5_UNROLL8
    for (int i = 0; i < 4; i++) {
        const __m512i x = k5_load(unit + 128 + 256 * j + 64 * i);

        w[i] = _mm512_shuffle_epi8(table, _mm512_and_si512(x, K5_NIBBLES));
        w[i + 4] = _mm512_shuffle_epi8(table, k5_high(x));
    }
}

/* Byte j of each lane as a float. */
K5_INLINE __m512 k5_byte(__m512i x, int j)
{
    if (j > 0)
        x = _mm512_srli_epi32(x, (unsigned)(8 * j) & 31);
    return _mm512_cvtepi32_ps(j < 3 ? _mm512_and_si512(x, _mm512_set1_epi32(255)) : x);
}

/* What a unit's scales are computed from, once per unit. */
struct k5_scales {
    __m512 d, dmin;
    __m512i s[2], m[2];          /* four bytes per lane each */
};

K5_INLINE void k5_k_open(struct k5_scales *c, const uint8_t *unit)
{
    const __m512i six = _mm512_set1_epi8(63), four = K5_NIBBLES, top = _mm512_set1_epi8(0x30);
    const __m512i h = k5_load(unit), s0 = k5_load(unit + 64), s1 = k5_load(unit + 128);
    const __m512i s2 = k5_load(unit + 192);

    c->d = k5_f16_low(h);
    c->dmin = k5_f16_low(_mm512_srli_epi32(h, 16));
    c->s[0] = _mm512_and_si512(s0, six);
    c->m[0] = _mm512_and_si512(s1, six);
    c->s[1] = _mm512_ternarylogic_epi32(_mm512_and_si512(s2, four), _mm512_srli_epi16(s0, 2),
                                        top, 0xF8);
    c->m[1] = _mm512_ternarylogic_epi32(k5_high(s2), _mm512_srli_epi16(s1, 2), top, 0xF8);
}

K5_INLINE __m512 k5_k_scale(const struct k5_scales *c, int j)
{
    return _mm512_mul_ps(c->d, k5_byte(c->s[j / 4], j % 4));
}

K5_INLINE __m512 k5_k_min(const struct k5_scales *c, int j)
{
    return _mm512_mul_ps(c->dmin, k5_byte(c->m[j / 4], j % 4));
}

K5_INLINE void k5_iq4_open(struct k5_scales *c, const uint8_t *unit)
{
    const __m512i h = k5_load(unit);

    c->d = k5_f16_low(h);
    c->s[0] = _mm512_srli_epi32(h, 16);
    c->s[1] = k5_load(unit + 64);
}

K5_INLINE __m512 k5_iq4_scale(const struct k5_scales *c, int j)
{
    const __m512i low = _mm512_and_si512(_mm512_srli_epi32(c->s[1], (unsigned)(4 * j) & 31),
                                         _mm512_set1_epi32(15));
    const __m512i high = _mm512_and_si512(_mm512_slli_epi32(_mm512_srli_epi32(c->s[0],
                                          (unsigned)(2 * j) & 31), 4), _mm512_set1_epi32(48));
    const __m512i s = _mm512_sub_epi32(_mm512_or_si512(low, high), _mm512_set1_epi32(32));

    return _mm512_mul_ps(c->d, _mm512_cvtepi32_ps(s));
}

/* All four lines of scales at once: reading them one by one later would step back in the
 * stream, and hardware prefetchers lose it there. */
K5_INLINE void k5_q6_open(struct k5_scales *c, const uint8_t *unit, const uint8_t *head)
{
    c->d = k5_f16(head);
    c->s[0] = k5_load(unit);
    c->s[1] = k5_load(unit + 64);
    c->m[0] = k5_load(unit + 128);
    c->m[1] = k5_load(unit + 192);
}

/* Signed scale of the 16 weights of half h of block j. */
K5_INLINE __m512 k5_q6_scale(const struct k5_scales *c, int j, int h)
{
    /* Block 4 n + c of a unit uses scales 8 n + 2 c and the next. */
    const int at = j / 4 * 8 + (j & 3) * 2 + h;
    const __m512i x = at < 8 ? c->s[at / 4] : c->m[at / 4 - 2];
    const __m512i s = _mm512_srai_epi32(
        _mm512_slli_epi32(x, (unsigned)(24 - at % 4 * 8) & 31), 24);

    return _mm512_mul_ps(c->d, _mm512_cvtepi32_ps(s));
}

/* y = fma(i s, d, y): one block into the running sums. */
K5_INLINE __m512 k5_add(__m512 y, __m512i sum, __m512 s, float d)
{
    return _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), s), _mm512_set1_ps(d), y);
}

K5_INLINE __m512i k5_sums(const __m512i *w, const int8_t *a, int i0, int i1, __m512i start)
{
    __m512i odd = _mm512_setzero_si512();

    K5_UNROLL8
    for (int i = i0; i < i1; i += 2) {
        start = _mm512_dpbusd_epi32(start, w[i], k5_four(a + 4 * i));
        odd = _mm512_dpbusd_epi32(odd, w[i + 1], k5_four(a + 4 * i + 4));
    }
    return _mm512_add_epi32(start, odd);
}

K5_INLINE __m512 k5_signed(__m512 y, const __m512i *w, __m512 s, const struct mk_act *a)
{
    return k5_add(y, k5_sums(w, a->q, 0, 8, _mm512_set1_epi32(a->z)), s, a->d);
}

K5_INLINE __m512 k5_min(__m512 y, const __m512i *w, __m512 s, __m512 m, const struct mk_act *a)
{
    y = k5_add(y, k5_sums(w, a->q, 0, 8, _mm512_setzero_si512()), s, a->d);
    return _mm512_fnmadd_ps(m, _mm512_set1_ps(a->ds), y);
}

/* Blocks are read one after the other: reads that a compiler moves about end the runs that
 * hardware prefetchers follow. */
#define K5_IN_ORDER() __asm__ volatile("" ::: "memory")

K5_INLINE void k5_prefetch_lines(const uint8_t *far, int begin, int end)
{
    for (int i = begin; i < end; i++)
        k5_prefetch(far + 64 * i);
}

/* One 32-block of a stream: its f16 scales and its lines. */
#define K5_SMALL_STEP(name, LINES)                                                              \
K5_INLINE __m512 k5_step_##name(__m512 sum, const uint8_t *head, const uint8_t *unit,           \
                                const struct mk_act *a)                                         \
{                                                                                               \
    __m512i w[8];                                                                               \
                                                                                                \
    k5_##name##_weights(w, unit, 0);                                                            \
    return k5_signed(sum, w, k5_f16(head), a);                                                  \
}

/* Types of 32-blocks: pairs of units behind a line of f16 scales. */
#define K5_SMALL_TYPE(name, TYPE, LINES)                                                        \
K5_SMALL_STEP(name, LINES)                                                                      \
static K5_TARGET void k5_gemv_##name(float *y, const uint8_t *groups, size_t group_bytes,       \
                                     size_t n_groups, size_t n_rows, size_t n_units,            \
                                     const struct mk_act *a, size_t ahead)                      \
{                                                                                               \
    for (size_t g = 0; g < n_groups; g++) {                                                     \
        const uint8_t *p = groups + g * group_bytes;                                            \
        __m512 sum = _mm512_setzero_ps();                                                       \
        size_t u = 0;                                                                           \
                                                                                                \
        for (; u + 2 <= n_units; u += 2, p += 64 + 2 * 64 * LINES) {                            \
            k5_prefetch_lines(k5_far(p, ahead), 0, 1 + 2 * LINES);                              \
            sum = k5_step_##name(sum, p, p + 64, a + u);                                        \
            sum = k5_step_##name(sum, p + 32, p + 64 + 64 * LINES, a + u + 1);                  \
        }                                                                                       \
        if (u < n_units)                                                                        \
            sum = k5_step_##name(sum, p, p + 64, a + u);                                        \
        _mm512_mask_storeu_ps(y + 16 * g, k5_mask(n_rows - 16 * g), sum);                       \
    }                                                                                           \
}                                                                                               \
                                                                                                \
static K5_TARGET void k5_expand_##name(struct mk_panel *p, const uint8_t *group, size_t b,      \
                                       size_t n, uint8_t *q, float *s, float *m)                \
{                                                                                               \
    const struct mk_pack_info *info = mk_pack_info(TYPE);                                       \
    const int direct = LINES == 8;                                                              \
                                                                                                \
    (void)m;                                                                                    \
    *p = (struct mk_panel){direct ? group + mk_pack_unit_at(info, b) : q, s, NULL};             \
    for (size_t u = 0; u < n; u++) {                                                            \
        __m512i w[8];                                                                           \
                                                                                                \
        _mm512_storeu_ps(s + 16 * u, k5_f16(group + mk_pack_head_at(info, b + u)));             \
        if (direct)                                                                             \
            continue;                                                                           \
        k5_##name##_weights(w, group + mk_pack_unit_at(info, b + u), 0);                        \
        K5_UNROLL8                                                                              \
        for (int i = 0; i < 8; i++)                                                             \
            _mm512_storeu_si512(q + mk_panel_at(u) + 64 * i, w[i]);                             \
    }                                                                                           \
}

K5_SMALL_TYPE(q8_0, MK_Q8_0, 8)
K5_SMALL_TYPE(q4_0, MK_Q4_0, 4)
K5_SMALL_TYPE(q5_0, MK_Q5_0, 5)

/* Types of 256-blocks.  OPEN reads what the scales need, ADD is one block of a stream. */
#define K5_LARGE_GEMV(name, LINES, OPEN, ADD)                                                   \
static K5_TARGET void k5_gemv_##name(float *y, const uint8_t *groups, size_t group_bytes,       \
                                     size_t n_groups, size_t n_rows, size_t n_units,            \
                                     const struct mk_act *a, size_t ahead)                      \
{                                                                                               \
    for (size_t g = 0; g < n_groups; g++) {                                                     \
        const uint8_t *unit = groups + g * group_bytes;                                         \
        const struct mk_act *act = a;                                                           \
        __m512 sum = _mm512_setzero_ps();                                                       \
                                                                                                \
        for (size_t u = 0; u < n_units; u++, unit += 64 * LINES, act += 8) {                    \
            const uint8_t *far = k5_far(unit, ahead);                                           \
            struct k5_scales c;                                                                 \
                                                                                                \
            OPEN;                                                                               \
            K5_UNROLL8                                                                          \
            for (int j = 0; j < 8; j++) {                                                       \
                __m512i w[8];                                                                   \
                                                                                                \
                K5_IN_ORDER();                                                                  \
                k5_prefetch_lines(far, j * LINES / 8, (j + 1) * LINES / 8);                     \
                k5_##name##_weights(w, unit, j);                                                \
                ADD;                                                                            \
            }                                                                                   \
        }                                                                                       \
        _mm512_mask_storeu_ps(y + 16 * g, k5_mask(n_rows - 16 * g), sum);                       \
    }                                                                                           \
}

/* SCALE stores the scales of block j of a panel. */
#define K5_LARGE_EXPAND(name, TYPE, MIN_AT, OPEN, SCALE)                                        \
static K5_TARGET void k5_expand_##name(struct mk_panel *p, const uint8_t *group, size_t b,      \
                                       size_t n, uint8_t *q, float *s, float *m)                \
{                                                                                               \
    const struct mk_pack_info *info = mk_pack_info(TYPE);                                       \
                                                                                                \
    *p = (struct mk_panel){q, s, MIN_AT};                                                       \
    for (size_t v = 0; v < n; v += 8) {                                                         \
        const uint8_t *unit = group + mk_pack_unit_at(info, (b + v) / 8);                       \
        const uint8_t *head = group + mk_pack_head_at(info, (b + v) / 8);                       \
        struct k5_scales c;                                                                     \
                                                                                                \
        OPEN;                                                                                   \
        K5_UNROLL8                                                                              \
        for (int j = 0; j < 8; j++) {                                                           \
            __m512i w[8];                                                                       \
                                                                                                \
            SCALE;                                                                              \
            k5_##name##_weights(w, unit, j);                                                    \
            K5_UNROLL8                                                                          \
            for (int i = 0; i < 8; i++)                                                         \
                _mm512_storeu_si512(q + mk_panel_at(v + (size_t)j) + 64 * i, w[i]);             \
        }                                                                                       \
        (void)head;                                                                             \
    }                                                                                           \
    (void)m;                                                                                    \
}

#define K5_K_ADD sum = k5_min(sum, w, k5_k_scale(&c, j), k5_k_min(&c, j), act + j)
#define K5_K_SCALE                                                                              \
    _mm512_storeu_ps(s, k5_k_scale(&c, j));                                                     \
    _mm512_storeu_ps(m, k5_k_min(&c, j));                                                       \
    s += 16;                                                                                    \
    m += 16
#define K5_Q6_SCALE                                                                             \
    _mm512_storeu_ps(s, k5_q6_scale(&c, j, 0));                                          \
    _mm512_storeu_ps(s + 16, k5_q6_scale(&c, j, 1));                                     \
    s += 32
#define K5_IQ4_SCALE                                                                            \
    _mm512_storeu_ps(s, k5_iq4_scale(&c, j));                                                   \
    s += 16

K5_LARGE_GEMV(q4_k, 36, k5_k_open(&c, unit), K5_K_ADD)
K5_LARGE_GEMV(q5_k, 44, k5_k_open(&c, unit), K5_K_ADD)
K5_LARGE_GEMV(iq4_xs, 34, k5_iq4_open(&c, unit),
              sum = k5_signed(sum, w, k5_iq4_scale(&c, j), act + j))
K5_LARGE_EXPAND(q4_k, MK_Q4_K, m, k5_k_open(&c, unit), K5_K_SCALE)
K5_LARGE_EXPAND(q5_k, MK_Q5_K, m, k5_k_open(&c, unit), K5_K_SCALE)
K5_LARGE_EXPAND(q6_k, MK_Q6_K, NULL, k5_q6_open(&c, unit, head), K5_Q6_SCALE)
K5_LARGE_EXPAND(iq4_xs, MK_IQ4_XS, NULL, k5_iq4_open(&c, unit), K5_IQ4_SCALE)

/* Sums of blocks first, first + 1 of a half unit of Q6_K: bits of the low and the high nibbles
 * of eight lines.  sum[0], sum[1]: halves of the one block, sum[2], sum[3]: of the other. */
K5_INLINE void k5_q6_sums(__m512i *sum, const __m512i *x, const __m512i *h, int odd,
                          const struct mk_act *low, const struct mk_act *high)
{
    const __m512i two = _mm512_set1_epi8(0x30);

    for (int i = 0; i < 2; i++) {
        /* w = q - 32: -32 times the sum of activations */
        sum[i] = _mm512_set1_epi32(low->zh[i] / 4);
        sum[i + 2] = _mm512_set1_epi32(high->zh[i] / 4);
    }
    K5_UNROLL8
    for (int i = 0; i < 8; i++) {
        const __m512i h0 = _mm512_slli_epi16(h[i], odd ? 2 : 4);
        const __m512i h1 = odd ? _mm512_srli_epi16(h[i], 2) : h[i];
        const __m512i w0 = _mm512_ternarylogic_epi32(_mm512_and_si512(x[i], K5_NIBBLES), h0, two,
                                                     0xF8);
        const __m512i w1 = _mm512_ternarylogic_epi32(k5_high(x[i]), h1, two, 0xF8);

        sum[i / 4] = _mm512_dpbusd_epi32(sum[i / 4], w0, k5_four(low->q + 4 * i));
        sum[2 + i / 4] = _mm512_dpbusd_epi32(sum[2 + i / 4], w1, k5_four(high->q + 4 * i));
    }
}

/* Half h of a unit, four blocks, every line read once and in order. */
K5_INLINE __m512 k5_q6_half(__m512 y, const struct k5_scales *c, const uint8_t *half, int h,
                            const struct mk_act *a)
{
    __m512i sum[4][2], x[8], high[8], s[4];

    K5_UNROLL8
    for (int i = 0; i < 8; i++) {
        x[i] = k5_load(half + 128 * i);
        high[i] = k5_load(half + 128 * i + 64);
    }
    K5_IN_ORDER();
    k5_q6_sums(s, x, high, 0, a, a + 2);
    for (int i = 0; i < 2; i++) {
        sum[0][i] = s[i];
        sum[2][i] = s[i + 2];
    }
    K5_UNROLL8
    for (int i = 0; i < 8; i++)
        x[i] = k5_load(half + 1024 + 64 * i);
    k5_q6_sums(s, x, high, 1, a + 1, a + 3);
    for (int i = 0; i < 2; i++) {
        sum[1][i] = s[i];
        sum[3][i] = s[i + 2];
    }
    K5_UNROLL4
    for (int j = 0; j < 4; j++) {
        const __m512 t = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[j][1]),
                                         k5_q6_scale(c, 4 * h + j, 1),
                                         _mm512_mul_ps(_mm512_cvtepi32_ps(sum[j][0]),
                                                       k5_q6_scale(c, 4 * h + j, 0)));

        y = _mm512_fmadd_ps(t, _mm512_set1_ps(a[j].d), y);
    }
    return y;
}

static K5_TARGET void k5_gemv_q6_k(float *y, const uint8_t *groups, size_t group_bytes,
                                   size_t n_groups, size_t n_rows, size_t n_units,
                                   const struct mk_act *a, size_t ahead)
{
    for (size_t g = 0; g < n_groups; g++) {
        const uint8_t *unit = groups + g * group_bytes, *head = unit;
        __m512 sum = _mm512_setzero_ps();

        for (size_t u = 0; u < n_units; u++, head += 32, unit += 64 * 52) {
            struct k5_scales c;

            if (u % 2 == 0) {
                k5_prefetch(unit + ahead);
                head = unit;
                unit += 64;
            }
            const uint8_t *far = k5_far(unit, ahead);

            k5_q6_open(&c, unit, head);
            K5_IN_ORDER();
            k5_prefetch_lines(far, 0, 26);
            sum = k5_q6_half(sum, &c, unit + 256, 0, a + 8 * u);
            K5_IN_ORDER();
            k5_prefetch_lines(far, 26, 52);
            sum = k5_q6_half(sum, &c, unit + 256 + 1536, 1, a + 8 * u + 4);
        }
        _mm512_mask_storeu_ps(y + 16 * g, k5_mask(n_rows - 16 * g), sum);
    }
}

/* ---- Tiles -------------------------------------------------------------- */

/* R panels of 16 rows by T tokens; R, T and kind are constants where it is inlined. */
K5_INLINE void k5_tile(float *y, size_t ldy, const struct mk_panel *p, const struct mk_act *a,
                       size_t lda, size_t n, size_t n_rows, int first, const int R, const int T,
                       const enum mk_panel_kind kind)
{
    const __mmask16 mask[2] = {k5_mask(n_rows), k5_mask(n_rows > 16 ? n_rows - 16 : 0)};
    __m512 f[2][6];

#define K5_TILE_T _Pragma("GCC unroll 6") for (int t = 0; t < T; t++)
#define K5_TILE_R _Pragma("GCC unroll 2") for (int r = 0; r < R; r++)
    K5_TILE_R K5_TILE_T
        f[r][t] = first ? _mm512_setzero_ps()
                        : _mm512_maskz_loadu_ps(mask[r], y + (size_t)t * ldy + 16 * r);
    for (size_t b = 0; b < n; b++) {
        __m512i c[2][6];
        __m512 part[2][6];

        K5_TILE_R K5_TILE_T
            c[r][t] = kind == MK_PANEL_MIN ? _mm512_setzero_si512()
                    : _mm512_set1_epi32(kind == MK_PANEL_HALVES ? a[(size_t)t * lda + b].zh[0]
                                                                : a[(size_t)t * lda + b].z);
        K5_UNROLL8
        for (int i = 0; i < 8; i++) {
            __m512i w[2];

            K5_TILE_R
                w[r] = k5_load(p[r].q + mk_panel_at(b) + 64 * i);
            K5_TILE_T {
                const __m512i x = k5_four(a[(size_t)t * lda + b].q + 4 * i);

                K5_TILE_R
                    c[r][t] = _mm512_dpbusd_epi32(c[r][t], w[r], x);
            }
            if (kind == MK_PANEL_HALVES && i == 3)
                K5_TILE_R {
                    const __m512 s = _mm512_loadu_ps(p[r].s + b * 32);

                    K5_TILE_T {
                        part[r][t] = _mm512_mul_ps(_mm512_cvtepi32_ps(c[r][t]), s);
                        c[r][t] = _mm512_set1_epi32(a[(size_t)t * lda + b].zh[1]);
                    }
                }
        }
        K5_TILE_R {
            const __m512 s = _mm512_loadu_ps(p[r].s + (kind == MK_PANEL_HALVES ? b * 32 + 16
                                                                               : b * 16));

            K5_TILE_T {
                const __m512 v = _mm512_cvtepi32_ps(c[r][t]);
                const __m512 v1 = kind == MK_PANEL_HALVES ? _mm512_fmadd_ps(v, s, part[r][t])
                                                          : _mm512_mul_ps(v, s);

                f[r][t] = _mm512_fmadd_ps(v1, _mm512_set1_ps(a[(size_t)t * lda + b].d), f[r][t]);
            }
            if (kind == MK_PANEL_MIN) {
                const __m512 m = _mm512_loadu_ps(p[r].m + b * 16);

                K5_TILE_T
                    f[r][t] = _mm512_fnmadd_ps(m, _mm512_set1_ps(a[(size_t)t * lda + b].ds),
                                               f[r][t]);
            }
        }
    }
    K5_TILE_R K5_TILE_T
        _mm512_mask_storeu_ps(y + (size_t)t * ldy + 16 * r, mask[r], f[r][t]);
}

#define K5_TILE_CASE(R, T, KIND)                                                                \
    case (R) * 8 + (T): k5_tile(y, ldy, p, a, lda, n, n_rows, first, R, T, KIND); break;
#define K5_TILE_KIND(name, KIND)                                                                \
static K5_TARGET void k5_tile_##name(float *y, size_t ldy, const struct mk_panel *p,            \
                                     const struct mk_act *a, size_t lda, size_t n_tokens,       \
                                     size_t n, size_t n_rows, int first)                        \
{                                                                                               \
    switch ((n_rows > 16 ? 16 : 8) + n_tokens) {                                                \
    K5_TILE_CASE(1, 1, KIND) K5_TILE_CASE(1, 2, KIND) K5_TILE_CASE(1, 3, KIND)                  \
    K5_TILE_CASE(1, 4, KIND) K5_TILE_CASE(1, 5, KIND) K5_TILE_CASE(1, 6, KIND)                  \
    K5_TILE_CASE(2, 1, KIND) K5_TILE_CASE(2, 2, KIND) K5_TILE_CASE(2, 3, KIND)                  \
    K5_TILE_CASE(2, 4, KIND) K5_TILE_CASE(2, 5, KIND) K5_TILE_CASE(2, 6, KIND)                  \
    }                                                                                           \
}

K5_TILE_KIND(signed, MK_PANEL_SIGNED)
K5_TILE_KIND(min, MK_PANEL_MIN)
K5_TILE_KIND(halves, MK_PANEL_HALVES)

/* ---- Float weights ------------------------------------------------------ */

/* E4M3 in the bits of f16 is 2^-8 times its value: sign, then seven bits one place lower.  x
 * has a weight in the high byte of each word. */
K5_INLINE __m512i k5_e4m3_halves(__m512i x)
{
    const __m512i sign = _mm512_set1_epi16((short)0x8000), rest = _mm512_set1_epi16(0x3F80);

    /* (x & sign) | (x >> 1 & rest) */
    return _mm512_ternarylogic_epi32(_mm512_and_si512(_mm512_srli_epi16(x, 1), rest), x, sign,
                                     0xF8);
}

/* Even words to the first 16 places, odd ones to the last. */
K5_INLINE __m512i k5_unzip(__m512i x)
{
    const __m512i order = _mm512_set_epi16(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5,
                                           3, 1, 30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8,
                                           6, 4, 2, 0);

    return _mm512_permutexvar_epi16(order, x);
}

K5_INLINE void k5_f16_pair(__m512 *w, __m512i x)
{
    w[0] = _mm512_cvtph_ps(_mm512_castsi512_si256(x));
    w[1] = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(x, 1));
}

K5_INLINE void k5_f32_weights(__m512 *w, const uint8_t *unit)
{
    w[0] = _mm512_loadu_ps((const float *)(const void *)unit);
}

K5_INLINE void k5_f16_weights(__m512 *w, const uint8_t *unit)
{
    k5_f16_pair(w, k5_unzip(k5_load(unit)));
}

K5_INLINE void k5_bf16_weights(__m512 *w, const uint8_t *unit)
{
    const __m512i x = k5_load(unit);

    w[0] = _mm512_castsi512_ps(_mm512_slli_epi32(x, 16));
    w[1] = _mm512_castsi512_ps(_mm512_and_si512(x, _mm512_set1_epi32((int)0xFFFF0000u)));
}

/* Interleaving zeros below the bytes leaves two k in the words of each row's lane. */
K5_INLINE void k5_e4m3_weights(__m512 *w, const uint8_t *unit)
{
    const __m512i x = k5_load(unit), zero = _mm512_setzero_si512();

    k5_f16_pair(w, k5_unzip(k5_e4m3_halves(_mm512_unpacklo_epi8(zero, x))));
    k5_f16_pair(w + 2, k5_unzip(k5_e4m3_halves(_mm512_unpackhi_epi8(zero, x))));
}

/* Whole and partial units of G groups at once, so that their chains of sums overlap. */
#define K5_FLOAT_GROUPS(name, UNIT, TARGET)                                                     \
static inline TARGET __attribute__((always_inline))                                             \
void k5_stream_##name(float *y, const uint8_t *groups, size_t group_bytes, size_t n_rows,       \
                      size_t n_in, const float *x, const float *scale, float factor,            \
                      size_t ahead, const int G)                                                \
{                                                                                               \
    __m512 total[4];                                                                            \
                                                                                                \
    K5_UNROLL4                                                                                  \
    for (int g = 0; g < G; g++)                                                                 \
        total[g] = _mm512_setzero_ps();                                                         \
    for (size_t b = 0; b < n_in; b += MK_PANEL_FLOATS) {                                        \
        const size_t end = n_in - b < MK_PANEL_FLOATS ? n_in : b + MK_PANEL_FLOATS;             \
        const __m512 s = _mm512_set1_ps(scale ? scale[b / MK_PANEL_FLOATS] * factor : factor);  \
        __m512 sum[4];                                                                          \
        size_t k = b;                                                                           \
                                                                                                \
        K5_UNROLL4                                                                              \
        for (int g = 0; g < G; g++)                                                             \
            sum[g] = _mm512_setzero_ps();                                                       \
        for (; k + UNIT <= end; k += UNIT) {                                                    \
            K5_UNROLL4                                                                          \
            for (int g = 0; g < G; g++) {                                                       \
                const uint8_t *unit = groups + (size_t)g * group_bytes + k / UNIT * 64;         \
                __m512 w[UNIT];                                                                 \
                                                                                                \
                k5_prefetch(unit + ahead);                                                      \
                k5_##name##_weights(w, unit);                                                   \
                K5_UNROLL4                                                                      \
                for (size_t i = 0; i < UNIT; i++)                                               \
                    sum[g] = _mm512_fmadd_ps(w[i], _mm512_set1_ps(x[k + i]), sum[g]);           \
            }                                                                                   \
        }                                                                                       \
        if (k < end)                                                                            \
            for (int g = 0; g < G; g++) {                                                       \
                __m512 w[UNIT];                                                                 \
                                                                                                \
                k5_##name##_weights(w, groups + (size_t)g * group_bytes + k / UNIT * 64);       \
                for (size_t i = 0; i < end - k; i++)                                            \
                    sum[g] = _mm512_fmadd_ps(w[i], _mm512_set1_ps(x[k + i]), sum[g]);           \
            }                                                                                   \
        K5_UNROLL4                                                                              \
        for (int g = 0; g < G; g++)                                                             \
            total[g] = _mm512_fmadd_ps(s, sum[g], total[g]);                                    \
    }                                                                                           \
    K5_UNROLL4                                                                                  \
    for (int g = 0; g < G; g++)                                                                 \
        _mm512_mask_storeu_ps(y + 16 * g, k5_mask(n_rows - 16 * (size_t)g), total[g]);          \
}                                                                                               \
                                                                                                \
static TARGET void k5_gemv_##name(float *y, const uint8_t *groups, size_t group_bytes,          \
                                  size_t n_groups, size_t n_rows, size_t n_in, const float *x,  \
                                  const float *scale, size_t ahead)                             \
{                                                                                               \
    const float factor = k5_##name##_factor;                                                    \
    size_t g = 0;                                                                               \
                                                                                                \
    for (; g + K5_FLOAT_G <= n_groups; g += K5_FLOAT_G)                                         \
        k5_stream_##name(y + 16 * g, groups + g * group_bytes, group_bytes, n_rows - 16 * g,    \
                         n_in, x, scale, factor, ahead, K5_FLOAT_G);                            \
    for (; g < n_groups; g++)                                                                   \
        k5_stream_##name(y + 16 * g, groups + g * group_bytes, group_bytes, n_rows - 16 * g,    \
                         n_in, x, scale, factor, ahead, 1);                                     \
}                                                                                               \
                                                                                                \
static TARGET const float *k5_expand_##name(float *out, const uint8_t *group, size_t k,         \
                                            size_t n)                                           \
{                                                                                               \
    const __m512 factor = _mm512_set1_ps(k5_##name##_factor);                                   \
                                                                                                \
    if (UNIT == 1)                                                                              \
        return (const float *)(const void *)group + k * 16;                                     \
    for (size_t i = 0; i < n; i += UNIT) {                                                      \
        __m512 w[UNIT];                                                                         \
                                                                                                \
        k5_##name##_weights(w, group + (k + i) / UNIT * 64);                                    \
        for (size_t j = 0; j < UNIT; j++)                                                       \
            if (i + j < n)                                                                      \
                _mm512_storeu_ps(out + (i + j) * 16, _mm512_mul_ps(w[j], factor));              \
    }                                                                                           \
    return out;                                                                                 \
}

/* Groups streamed together. */
#define K5_FLOAT_G 4

/* What decoded weights are multiplied by to give their values. */
static const float k5_f32_factor = 1.0f, k5_f16_factor = 1.0f, k5_bf16_factor = 1.0f;
static const float k5_e4m3_factor = 256.0f, k5_e4m3v_factor = 1.0f;

K5_FLOAT_GROUPS(f32, 1, K5_TARGET)
K5_FLOAT_GROUPS(f16, 2, K5_TARGET)
K5_FLOAT_GROUPS(bf16, 2, K5_TARGET)
K5_FLOAT_GROUPS(e4m3, 4, K5_TARGET)

/* With VBMI, two tables of 128 bytes give the halves of a weight's bf16 form, which every
 * E4M3 number has. */
#define K5_VBMI                                                                                 \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,fma,f16c")))

static inline K5_VBMI __attribute__((always_inline))
void k5_e4m3v_weights(__m512 *w, const uint8_t *unit)
{
    const __m512i x = k5_load(unit), top = _mm512_set1_epi32((int)0xFFFF0000u);
    __m512i high = _mm512_permutex2var_epi8(k5_load(mk_e4m3_high), x, k5_load(mk_e4m3_high + 64));
    const __m512i low = _mm512_permutex2var_epi8(k5_load(mk_e4m3_low), x,
                                                 k5_load(mk_e4m3_low + 64));

    high = _mm512_ternarylogic_epi32(high, x, _mm512_set1_epi8((char)0x80), 0xF8);
    const __m512i a = _mm512_unpacklo_epi8(low, high), b = _mm512_unpackhi_epi8(low, high);
    w[0] = _mm512_castsi512_ps(_mm512_slli_epi32(a, 16));
    w[1] = _mm512_castsi512_ps(_mm512_and_si512(a, top));
    w[2] = _mm512_castsi512_ps(_mm512_slli_epi32(b, 16));
    w[3] = _mm512_castsi512_ps(_mm512_and_si512(b, top));
}

K5_FLOAT_GROUPS(e4m3v, 4, K5_VBMI)

K5_INLINE void k5_float_tile(float *y, size_t ldy, const float *w0, const float *w1,
                             const float *x, size_t ldx, size_t n, size_t n_rows, float scale,
                             int first, const int R, const int T)
{
    const __mmask16 mask[2] = {k5_mask(n_rows), k5_mask(n_rows > 16 ? n_rows - 16 : 0)};
    const __m512 s = _mm512_set1_ps(scale);
    __m512 f[2][12];

#define K5_TILE_T12 _Pragma("GCC unroll 12") for (int t = 0; t < T; t++)
    K5_TILE_R K5_TILE_T12
        f[r][t] = _mm512_setzero_ps();
    for (size_t k = 0; k < n; k++) {
        __m512 w[2];

        w[0] = _mm512_loadu_ps(w0 + 16 * k);
        if (R == 2)
            w[1] = _mm512_loadu_ps(w1 + 16 * k);
        K5_TILE_T12 {
            const __m512 v = _mm512_set1_ps(x[(size_t)t * ldx + k]);

            K5_TILE_R
                f[r][t] = _mm512_fmadd_ps(w[r], v, f[r][t]);
        }
    }
    K5_TILE_R K5_TILE_T12 {
        float *out = y + (size_t)t * ldy + 16 * r;
        const __m512 old = first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask[r], out);

        _mm512_mask_storeu_ps(out, mask[r], _mm512_fmadd_ps(s, f[r][t], old));
    }
}

#define K5_FLOAT_CASE(R, T)                                                                     \
    case (R) * 16 + (T):                                                                        \
        k5_float_tile(y, ldy, w0, w1, x, ldx, n, n_rows, scale, first, R, T);                   \
        break;
#define K5_FLOAT_CASES(R)                                                                       \
    K5_FLOAT_CASE(R, 1) K5_FLOAT_CASE(R, 2) K5_FLOAT_CASE(R, 3) K5_FLOAT_CASE(R, 4)             \
    K5_FLOAT_CASE(R, 5) K5_FLOAT_CASE(R, 6) K5_FLOAT_CASE(R, 7) K5_FLOAT_CASE(R, 8)             \
    K5_FLOAT_CASE(R, 9) K5_FLOAT_CASE(R, 10) K5_FLOAT_CASE(R, 11) K5_FLOAT_CASE(R, 12)

static K5_TARGET void k5_tile_float(float *y, size_t ldy, const float *w0, const float *w1,
                                    const float *x, size_t ldx, size_t n_tokens, size_t n,
                                    size_t n_rows, float scale, int first)
{
    switch ((n_rows > 16 ? 32 : 16) + n_tokens) {
    K5_FLOAT_CASES(1)
    K5_FLOAT_CASES(2)
    }
}

/* ---- Float weights by 16-bit activations --------------------------------- */

/* Largest magnitudes of rows, of lines of each type. */
K5_INLINE __m512 k5_largest_f32(const uint8_t *in, size_t n_lines)
{
    const __m512i rest = _mm512_set1_epi32(0x7FFFFFFF);
    __m512i max = _mm512_setzero_si512();

    for (size_t i = 0; i < n_lines; i++)
        max = _mm512_max_epu32(max, _mm512_and_si512(k5_load(in + 64 * i), rest));
    return _mm512_castsi512_ps(max);
}

/* The same of two numbers of 16 bits a lane, whose bits without the sign are ordered as they. */
K5_INLINE __m512i k5_largest_16(const uint8_t *in, size_t n_lines)
{
    const __m512i rest = _mm512_set1_epi16(0x7FFF);
    __m512i a = _mm512_setzero_si512(), b = a;
    size_t i = 0;

    for (; i + 2 <= n_lines; i += 2) {
        a = _mm512_max_epu16(a, _mm512_and_si512(k5_load(in + 64 * i), rest));
        b = _mm512_max_epu16(b, _mm512_and_si512(k5_load(in + 64 * i + 64), rest));
    }
    if (i < n_lines)
        a = _mm512_max_epu16(a, _mm512_and_si512(k5_load(in + 64 * i), rest));
    a = _mm512_max_epu16(a, b);
    return _mm512_max_epu16(_mm512_srli_epi32(a, 16),
                            _mm512_and_si512(a, _mm512_set1_epi32(0xFFFF)));
}

K5_INLINE __m512 k5_largest_bf16(const uint8_t *in, size_t n_lines)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(k5_largest_16(in, n_lines), 16));
}

K5_INLINE __m512 k5_largest_f16(const uint8_t *in, size_t n_lines)
{
    return k5_f16_low(k5_largest_16(in, n_lines));
}

/* The largest of all rows. */
K5_INLINE uint8_t k5_largest_code(const uint8_t *in, size_t n_lines)
{
    const __m512i rest = _mm512_set1_epi8(0x7F);
    __m512i max = _mm512_setzero_si512();

    for (size_t i = 0; i < n_lines; i++)
        max = _mm512_max_epu8(max, _mm512_and_si512(k5_load(in + 64 * i), rest));
    max = _mm512_max_epu16(_mm512_srli_epi16(max, 8),
                           _mm512_and_si512(max, _mm512_set1_epi16(0xFF)));
    return (uint8_t)_mm512_reduce_max_epu32(_mm512_max_epu16(_mm512_srli_epi32(max, 16),
                                            _mm512_and_si512(max, _mm512_set1_epi32(0xFF))));
}

K5_INLINE __m512 k5_largest_e4m3(const uint8_t *in, size_t n_lines)
{
    const uint8_t code = k5_largest_code(in, n_lines);
    const uint32_t bf16 = (uint32_t)mk_e4m3_high[code] << 8 | mk_e4m3_low[code];

    return _mm512_castsi512_ps(_mm512_set1_epi32((int32_t)(bf16 << 16)));
}

/* mk_round16_power in each lane, times scale, to step; returns its inverse, 0 for NaN. */
K5_INLINE __m512 k5_power16(float *step, __m512 max, float scale)
{
    const __m512i exponents = _mm512_and_si512(_mm512_castps_si512(max),
                                               _mm512_set1_epi32(0x7F800000));
    const __mmask16 finite = _mm512_cmpneq_epi32_mask(exponents, _mm512_set1_epi32(0x7F800000));
    const __m512i powers = _mm512_max_epi32(
        _mm512_sub_epi32(exponents, _mm512_set1_epi32(11 << 23)),
        _mm512_castps_si512(_mm512_set1_ps(MK_ROUND16_LEAST)));

    _mm512_storeu_ps(step, _mm512_mul_ps(
        _mm512_mask_mov_ps(_mm512_set1_ps(NAN), finite, _mm512_castsi512_ps(powers)),
        _mm512_set1_ps(scale)));
    return _mm512_castsi512_ps(_mm512_maskz_sub_epi32(finite, _mm512_set1_epi32(254 << 23),
                                                      powers));
}

/* Two vectors of weights as dwords of two whole numbers: adding 1.5 * 2^23 leaves them in the low
 * bits. */
K5_INLINE void k5_put16(uint32_t *out, __m512 low, __m512 high, __m512 inverse)
{
    const __m512 magic = _mm512_set1_ps(12582912.0f);
    const __m512i a = _mm512_castps_si512(_mm512_fmadd_ps(low, inverse, magic));
    const __m512i b = _mm512_castps_si512(_mm512_fmadd_ps(high, inverse, magic));

    _mm512_storeu_si512(out, _mm512_mask_blend_epi16(0xAAAAAAAAu, a, _mm512_slli_epi32(b, 16)));
}

static K5_TARGET void k5_expand16_f32(uint32_t *out, float *step, const uint8_t *group, size_t k,
                                      size_t n, float scale, const uint8_t *next)
{
    const uint8_t *in = group + 64 * k;
    const __m512 inverse = k5_power16(step, k5_largest_f32(in, n), scale);
    size_t i = 0;

    for (; i + 2 <= n; i += 2) {
        k5_prefetch(next + 64 * i);
        k5_prefetch(next + 64 * i + 64);
        k5_put16(out + 8 * i, _mm512_castsi512_ps(k5_load(in + 64 * i)),
                 _mm512_castsi512_ps(k5_load(in + 64 * i + 64)), inverse);
    }
    if (i < n)
        k5_put16(out + 8 * i, _mm512_castsi512_ps(k5_load(in + 64 * i)), _mm512_setzero_ps(),
                 inverse);
}

#define K5_EXPAND16(name, UNIT)                                                                 \
static K5_TARGET void k5_expand16_##name(uint32_t *out, float *step, const uint8_t *group,      \
                                         size_t k, size_t n, float scale, const uint8_t *next)  \
{                                                                                               \
    const uint8_t *in = group + k / UNIT * 64;                                                  \
    const size_t n_lines = (n + UNIT - 1) / UNIT;                                               \
    __m512 inverse = k5_power16(step, k5_largest_##name(in, n_lines), scale);                   \
                                                                                                \
    inverse = _mm512_mul_ps(inverse, _mm512_set1_ps(k5_##name##_factor));                       \
    for (size_t i = 0; i < n_lines; i++) {                                                      \
        __m512 w[UNIT];                                                                         \
                                                                                                \
        k5_prefetch(next + 64 * i);                                                             \
        k5_##name##_weights(w, in + 64 * i);                                                    \
        K5_UNROLL4                                                                              \
        for (size_t j = 0; j < UNIT; j += 2)                                                    \
            k5_put16(out + (UNIT * i + j) * 8, w[j], w[j + 1], inverse);                        \
    }                                                                                           \
}
K5_EXPAND16(f16, 2)
K5_EXPAND16(bf16, 2)
K5_EXPAND16(e4m3, 4)

/* With VBMI the tables give whole numbers at once, where the largest is 64 at least. */
static K5_VBMI void k5_expand16_e4m3v(uint32_t *out, float *step, const uint8_t *group, size_t k,
                                      size_t n, float scale, const uint8_t *next)
{
    const uint8_t *in = group + k * 16;
    const size_t n_lines = (n + 3) / 4;
    const uint8_t code = k5_largest_code(in, n_lines);

    if (code < 13 << 3 || code == 0x7F) {
        k5_expand16_e4m3(out, step, group, k, n, scale, next);
        return;
    }
    const uint8_t *low = mk_e4m3_low16 + 8 * (15 - (code >> 3));
    const uint8_t *high = mk_e4m3_high16 + 8 * (15 - (code >> 3));
    const __m512i low0 = k5_load(low), low1 = k5_load(low + 64);
    const __m512i high0 = k5_load(high), high1 = k5_load(high + 64);
    const __m512i sign = _mm512_set1_epi8((char)0x80), top = _mm512_set1_epi16((short)0x8000);

    _mm512_storeu_ps(step, _mm512_set1_ps((float)(1 << (code >> 3)) * 0x1p-18f * scale));
    for (size_t i = 0; i < n_lines; i++) {
        const __m512i x = k5_load(in + 64 * i);
        const __m512i l = _mm512_permutex2var_epi8(low0, x, low1);
        const __m512i h = _mm512_ternarylogic_epi32(_mm512_permutex2var_epi8(high0, x, high1), x,
                                                    sign, 0xF8);
        const __m512i a = _mm512_unpacklo_epi8(l, h), b = _mm512_unpackhi_epi8(l, h);

        k5_prefetch(next + 64 * i);
        /* Sign and magnitude to two's complement. */
        _mm512_storeu_si512(out + 32 * i, _mm512_mask_sub_epi16(a, _mm512_movepi16_mask(a), top,
                                                                a));
        _mm512_storeu_si512(out + 32 * i + 16,
                            _mm512_mask_sub_epi16(b, _mm512_movepi16_mask(b), top, b));
    }
}

/* sum += products of two numbers each.  gcc keeps copies of the sums of its own function for it
 * in memory. */
K5_INLINE void k5_dpw(__m512i *sum, __m512i a, __m512i b)
{
    __asm__("vpdpwssd %2, %1, %0" : "+v"(*sum) : "v"(a), "v"(b));
}

/* Few tokens have S chains of sums each, since one would wait for itself. */
K5_INLINE void k5_tile16(float *y, size_t ldy, const uint32_t *w0, const uint32_t *w1,
                         const float *w_step, const uint32_t *a, const float *a_step, size_t lda,
                         size_t words, size_t n_rows, int first, const int R, const int T,
                         const size_t S)
{
    const __mmask16 mask[2] = {k5_mask(n_rows), k5_mask(n_rows > 16 ? n_rows - 16 : 0)};
    __m512i c[4][2][12];
    size_t i = 0;

    K5_UNROLL4
    for (size_t s = 0; s < S; s++)
        K5_TILE_R K5_TILE_T12
            c[s][r][t] = _mm512_setzero_si512();
    for (; i + S <= words; i += S) {
        K5_UNROLL4
        for (size_t s = 0; s < S; s++) {
            const __m512i w[2] = {k5_load(w0 + 16 * (i + s)),
                                  R == 2 ? k5_load(w1 + 16 * (i + s)) : _mm512_setzero_si512()};

            K5_TILE_T12 {
                const __m512i v = _mm512_set1_epi32((int32_t)a[(size_t)t * lda + i + s]);

                K5_TILE_R
                    k5_dpw(&c[s][r][t], w[r], v);
            }
        }
    }
    for (; i < words; i++)
        K5_TILE_R K5_TILE_T12
            k5_dpw(&c[0][r][t], k5_load((r ? w1 : w0) + 16 * i),
                   _mm512_set1_epi32((int32_t)a[(size_t)t * lda + i]));
    K5_UNROLL4
    for (size_t s = 1; s < S; s++)
        K5_TILE_R K5_TILE_T12
            c[0][r][t] = _mm512_add_epi32(c[0][r][t], c[s][r][t]);
    K5_TILE_R K5_TILE_T12 {
        float *out = y + (size_t)t * ldy + 16 * r;
        const __m512 old = first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask[r], out);
        const __m512 step = _mm512_mul_ps(_mm512_set1_ps(a_step[(size_t)t * lda]),
                                          _mm512_loadu_ps(w_step + 16 * r));

        _mm512_mask_storeu_ps(out, mask[r], _mm512_fmadd_ps(_mm512_cvtepi32_ps(c[0][r][t]), step,
                                                            old));
    }
}

#define K5_CASE16(R, T, S)                                                                      \
    case (R) * 16 + (T):                                                                        \
        k5_tile16(y, ldy, w0, w1, w_step, a, a_step, lda, words, n_rows, first, R, T, S);       \
        break;
#define K5_CASES16(R)                                                                           \
    K5_CASE16(R, 1, 4) K5_CASE16(R, 2, 2) K5_CASE16(R, 3, 2) K5_CASE16(R, 4, 1)                 \
    K5_CASE16(R, 5, 1) K5_CASE16(R, 6, 1) K5_CASE16(R, 7, 1) K5_CASE16(R, 8, 1)                 \
    K5_CASE16(R, 9, 1) K5_CASE16(R, 10, 1) K5_CASE16(R, 11, 1) K5_CASE16(R, 12, 1)

static K5_TARGET void k5_tiles16(float *y, size_t ldy, const uint32_t *w0, const uint32_t *w1,
                                 const float *w_step, const uint32_t *a, const float *a_step,
                                 size_t lda, size_t n_tokens, size_t words, size_t n_rows,
                                 int first)
{
    switch ((n_rows > 16 ? 32 : 16) + n_tokens) {
    K5_CASES16(1)
    K5_CASES16(2)
    }
}

/* Intel's cores gain from prefetches 8 KB ahead (0.83 to 0.96 of the read rate); AMD's follow a
 * single stream by themselves, and far prefetches disturb them. */
static size_t k5_ahead(void)
{
    unsigned a, b = 0, c, d;

    __cpuid(0, a, b, c, d);
    return b == signature_INTEL_ebx ? 8192 : 1024;
}

void mk_kernels_init_avx512(struct mk_kernels *k)
{
    if (!(k->features & MK_CPU_AVX512) || !(k->features & MK_CPU_VNNI))
        return;
    k->dot = k5_dot;
    k->axpy = k5_axpy;
    k->rms_norm = k5_rms_norm;
    k->softmax = k5_softmax;
    k->swiglu = k5_swiglu;
    k->quantize = k5_quantize;
    k->interleave = k5_interleave;
    k->expand[MK_Q8_0] = k5_expand_q8_0;
    k->expand[MK_Q4_0] = k5_expand_q4_0;
    k->expand[MK_Q5_0] = k5_expand_q5_0;
    k->expand[MK_Q4_K] = k5_expand_q4_k;
    k->expand[MK_Q5_K] = k5_expand_q5_k;
    k->expand[MK_Q6_K] = k5_expand_q6_k;
    k->expand[MK_IQ4_XS] = k5_expand_iq4_xs;
    k->gemv[MK_Q8_0] = k5_gemv_q8_0;
    k->gemv[MK_Q4_0] = k5_gemv_q4_0;
    k->gemv[MK_Q5_0] = k5_gemv_q5_0;
    k->gemv[MK_Q4_K] = k5_gemv_q4_k;
    k->gemv[MK_Q5_K] = k5_gemv_q5_k;
    k->gemv[MK_Q6_K] = k5_gemv_q6_k;
    k->gemv[MK_IQ4_XS] = k5_gemv_iq4_xs;
    k->tile[MK_PANEL_SIGNED] = k5_tile_signed;
    k->tile[MK_PANEL_MIN] = k5_tile_min;
    k->tile[MK_PANEL_HALVES] = k5_tile_halves;
    k->expand_float[MK_F32] = k5_expand_f32;
    k->expand_float[MK_F16] = k5_expand_f16;
    k->expand_float[MK_BF16] = k5_expand_bf16;
    k->expand_float[MK_F8_E4M3] = k5_expand_e4m3;
    k->gemv_float[MK_F32] = k5_gemv_f32;
    k->gemv_float[MK_F16] = k5_gemv_f16;
    k->gemv_float[MK_BF16] = k5_gemv_bf16;
    k->gemv_float[MK_F8_E4M3] = k5_gemv_e4m3;
    k->tile_float = k5_tile_float;
    k->matmul16 = 1;
    k->expand16[MK_F32] = k5_expand16_f32;
    k->expand16[MK_F16] = k5_expand16_f16;
    k->expand16[MK_BF16] = k5_expand16_bf16;
    k->expand16[MK_F8_E4M3] = k5_expand16_e4m3;
    k->tile16 = k5_tiles16;
    if (k->features & MK_CPU_VBMI) {
        k->expand_float[MK_F8_E4M3] = k5_expand_e4m3v;
        k->gemv_float[MK_F8_E4M3] = k5_gemv_e4m3v;
        k->expand16[MK_F8_E4M3] = k5_expand16_e4m3v;
    }
    k->ahead = k5_ahead();
}

#else

void mk_kernels_init_avx512(struct mk_kernels *k)
{
    (void)k;
}

#endif
