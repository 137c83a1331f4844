/* AVX2 kernels, with FMA and F16C: a line of 16 rows is two registers. */
#include "kernels/kernels.h"

#include "base/cpu.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#include "kernels/kernels_math.h"
#include "kernels/packed.h"

#define K2_TARGET __attribute__((target("avx2,fma,f16c")))
#define K2_INLINE static inline K2_TARGET __attribute__((always_inline))

K2_INLINE __m256i k2_load(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

K2_INLINE void k2_store(void *p, __m256i x)
{
    _mm256_storeu_si256((__m256i *)p, x);
}

K2_INLINE __m256 k2_f16(const void *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

K2_INLINE __m256 k2_abs(__m256 x)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}

K2_INLINE float k2_sum(__m256 x)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));

    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

K2_INLINE float k2_max(__m256 x)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));

    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

K2_INLINE int32_t k2_sum_i32(__m256i x)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));

    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1)));
}

/* The first n lanes. */
K2_INLINE __m256i k2_mask(size_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n < 8 ? (int)n : 8),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* ---- Vectors ------------------------------------------------------------ */

static K2_TARGET float k2_dot(const float *a, const float *b, size_t n)
{
    __m256 s0 = _mm256_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    size_t i = 0;

    for (; i + 32 <= n; i += 32) {
        s0 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), s0);
        s1 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8), s1);
        s2 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 16), _mm256_loadu_ps(b + i + 16), s2);
        s3 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 24), _mm256_loadu_ps(b + i + 24), s3);
    }
    for (; i < n; i += 8) {
        const __m256i m = k2_mask(n - i);

        s0 = _mm256_fmadd_ps(_mm256_maskload_ps(a + i, m), _mm256_maskload_ps(b + i, m), s0);
    }
    return k2_sum(_mm256_add_ps(_mm256_add_ps(s0, s1), _mm256_add_ps(s2, s3)));
}

static K2_TARGET void k2_axpy(float *y, float s, const float *x, size_t n)
{
    const __m256 sv = _mm256_set1_ps(s);

    for (size_t i = 0; i < n; i += 8) {
        const __m256i m = k2_mask(n - i);

        _mm256_maskstore_ps(y + i, m, _mm256_fmadd_ps(sv, _mm256_maskload_ps(x + i, m),
                                                      _mm256_maskload_ps(y + i, m)));
    }
}

static K2_TARGET void k2_rms_norm(float *y, const float *x, const float *w, float eps, size_t n)
{
    const float mean = k2_dot(x, x, n) / (float)n;
    const float scale = 1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(mean + eps)));
    const __m256 sv = _mm256_set1_ps(scale);

    for (size_t i = 0; i < n; i += 8) {
        const __m256i m = k2_mask(n - i);

        _mm256_maskstore_ps(y + i, m, _mm256_mul_ps(_mm256_maskload_ps(w + i, m),
                            _mm256_mul_ps(_mm256_maskload_ps(x + i, m), sv)));
    }
}

/* mk_exp in each lane. */
K2_INLINE __m256 k2_exp(__m256 x)
{
    const __m256 dead = _mm256_cmp_ps(x, _mm256_set1_ps(MK_EXP_MIN), _CMP_LT_OQ);
    const __m256 c = _mm256_min_ps(_mm256_set1_ps(MK_EXP_MAX), x);
    const __m256 n = _mm256_round_ps(_mm256_mul_ps(c, _mm256_set1_ps(MK_EXP_LOG2E)), 8);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(MK_EXP_LN2_HIGH), c);
    __m256 p = _mm256_set1_ps(MK_EXP_P0);

    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(MK_EXP_LN2_LOW), r);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(MK_EXP_P1));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(MK_EXP_P2));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(MK_EXP_P3));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(MK_EXP_P4));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(MK_EXP_P5));
    p = _mm256_add_ps(_mm256_fmadd_ps(_mm256_mul_ps(p, r), r, r), _mm256_set1_ps(1.0f));
    const __m256i bits = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n),
                                                            _mm256_set1_epi32(127)), 23);
    return _mm256_andnot_ps(dead, _mm256_mul_ps(p, _mm256_castsi256_ps(bits)));
}

static K2_TARGET void k2_softmax(float *x, size_t n)
{
    const __m256 none = _mm256_set1_ps(-__builtin_inff());
    __m256 max = none, sum = _mm256_setzero_ps();

    for (size_t i = 0; i < n; i += 8) {
        const __m256i m = k2_mask(n - i);

        max = _mm256_max_ps(_mm256_blendv_ps(none, _mm256_maskload_ps(x + i, m),
                                             _mm256_castsi256_ps(m)), max);
    }
    const float top = k2_max(max);
    if (top == -__builtin_inff()) {
        __builtin_memset(x, 0, n * sizeof(*x));
        return;
    }
    max = _mm256_set1_ps(top);
    for (size_t i = 0; i < n; i += 8) {
        const __m256i m = k2_mask(n - i);
        const __m256 v = _mm256_blendv_ps(none, _mm256_maskload_ps(x + i, m),
                                          _mm256_castsi256_ps(m));
        const __m256 e = k2_exp(_mm256_sub_ps(v, max));

        _mm256_maskstore_ps(x + i, m, e);
        sum = _mm256_add_ps(sum, e);
    }
    const __m256 scale = _mm256_set1_ps(1.0f / k2_sum(sum));
    for (size_t i = 0; i < n; i += 8) {
        const __m256i m = k2_mask(n - i);

        _mm256_maskstore_ps(x + i, m, _mm256_mul_ps(_mm256_maskload_ps(x + i, m), scale));
    }
}

static K2_TARGET void k2_swiglu(float *y, const float *g, const float *u, size_t n)
{
    const __m256 one = _mm256_set1_ps(1.0f);

    for (size_t i = 0; i < n; i += 8) {
        const __m256i m = k2_mask(n - i);
        const __m256 gv = _mm256_maskload_ps(g + i, m);
        const __m256 e = k2_exp(_mm256_sub_ps(_mm256_setzero_ps(), gv));

        _mm256_maskstore_ps(y + i, m, _mm256_mul_ps(_mm256_div_ps(gv, _mm256_add_ps(one, e)),
                                                    _mm256_maskload_ps(u + i, m)));
    }
}

static K2_TARGET void k2_quantize(struct mk_act *out, const float *x, size_t n)
{
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);

    for (; n > 0; n--, out++, x += 32) {
        const __m256 x0 = _mm256_loadu_ps(x), x1 = _mm256_loadu_ps(x + 8);
        const __m256 x2 = _mm256_loadu_ps(x + 16), x3 = _mm256_loadu_ps(x + 24);
        const float max = k2_max(_mm256_max_ps(_mm256_max_ps(k2_abs(x0), k2_abs(x1)),
                                               _mm256_max_ps(k2_abs(x2), k2_abs(x3))));
        const int some = max > MK_ACT_TINY;
        const __m256 inverse = _mm256_set1_ps(some ? 127.0f / max : 0.0f);
        const __m256i q0 = _mm256_cvtps_epi32(_mm256_mul_ps(x0, inverse));
        const __m256i q1 = _mm256_cvtps_epi32(_mm256_mul_ps(x1, inverse));
        const __m256i q2 = _mm256_cvtps_epi32(_mm256_mul_ps(x2, inverse));
        const __m256i q3 = _mm256_cvtps_epi32(_mm256_mul_ps(x3, inverse));
        const int32_t s0 = k2_sum_i32(_mm256_add_epi32(q0, q1));
        const int32_t s1 = k2_sum_i32(_mm256_add_epi32(q2, q3));
        const __m256i q = _mm256_packs_epi16(_mm256_packs_epi32(q0, q1),
                                             _mm256_packs_epi32(q2, q3));

        k2_store(out->q, _mm256_permutevar8x32_epi32(q, order));
        out->d = some ? max / 127.0f : 0.0f;
        out->ds = out->d * (float)(s0 + s1);
        out->z = -128 * (s0 + s1);
        out->zh[0] = -128 * s0;
        out->zh[1] = -128 * s1;
        out->pad[0] = out->pad[1] = out->pad[2] = 0;
    }
}

/* ---- Packing ------------------------------------------------------------ */

/* 8 x 8 dwords of rows r.. to lanes r.. of eight lines. */
K2_INLINE void k2_transpose(uint32_t *out, const uint8_t *rows, size_t stride)
{
    __m256i x[8], y[8];

    for (size_t r = 0; r < 8; r++)
        x[r] = k2_load(rows + r * stride);
    for (int i = 0; i < 8; i += 2) {
        y[i] = _mm256_unpacklo_epi32(x[i], x[i + 1]);
        y[i + 1] = _mm256_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        x[i] = _mm256_unpacklo_epi64(y[i], y[i + 2]);
        x[i + 1] = _mm256_unpackhi_epi64(y[i], y[i + 2]);
        x[i + 2] = _mm256_unpacklo_epi64(y[i + 1], y[i + 3]);
        x[i + 3] = _mm256_unpackhi_epi64(y[i + 1], y[i + 3]);
    }
    for (size_t i = 0; i < 4; i++) {
        k2_store(out + i * 16, _mm256_permute2x128_si256(x[i], x[i + 4], 0x20));
        k2_store(out + (i + 4) * 16, _mm256_permute2x128_si256(x[i], x[i + 4], 0x31));
    }
}

static K2_TARGET void k2_interleave(uint32_t *out, const uint8_t *rows, size_t stride,
                                    size_t n_rows, size_t n_words)
{
    size_t i = 0;

    if (n_rows == 16)
        for (; i + 8 <= n_words; i += 8) {
            k2_transpose(out + i * 16, rows + 4 * i, stride);
            k2_transpose(out + i * 16 + 8, rows + 4 * i + 8 * stride, stride);
        }
    for (; i < n_words; i++)
        for (size_t r = 0; r < 16; r++) {
            uint32_t x = 0;

            if (r < n_rows)
                __builtin_memcpy(&x, rows + r * stride + 4 * i, 4);
            out[i * 16 + r] = x;
        }
}

/* ---- Panels of integer weights ------------------------------------------ */

#define K2_NIBBLES _mm256_set1_epi8(15)

K2_INLINE __m256i k2_high(__m256i x)
{
    return _mm256_and_si256(_mm256_srli_epi16(x, 4), K2_NIBBLES);
}

/* (byte >> shift & mask) << left, shift and left small and within bytes after the mask. */
K2_INLINE __m256i k2_bits(__m256i x, int shift, int mask, int left)
{
    x = _mm256_srl_epi16(x, _mm_cvtsi32_si128(shift));
    x = _mm256_and_si256(x, _mm256_set1_epi8((char)mask));
    return _mm256_sll_epi16(x, _mm_cvtsi32_si128(left));
}

K2_INLINE void k2_heads(float *s, const uint8_t *group, size_t b, size_t n, enum mk_type type)
{
    const struct mk_pack_info *info = mk_pack_info(type);

    for (size_t u = 0; u < n; u++, s += 16) {
        const uint8_t *head = group + mk_pack_head_at(info, b + u);

        _mm256_storeu_ps(s, k2_f16(head));
        _mm256_storeu_ps(s + 8, k2_f16(head + 16));
    }
}

static K2_TARGET void k2_expand_q8_0(struct mk_panel *p, const uint8_t *group, size_t b,
                                     size_t n, uint8_t *q, float *s, float *m)
{
    (void)q;
    (void)m;
    k2_heads(s, group, b, n, MK_Q8_0);
    *p = (struct mk_panel){group + mk_pack_unit_at(mk_pack_info(MK_Q8_0), b), s, NULL};
}

static K2_TARGET void k2_expand_q4_0(struct mk_panel *p, const uint8_t *group, size_t b,
                                     size_t n, uint8_t *q, float *s, float *m)
{
    const __m256i bias = _mm256_set1_epi8(120);

    (void)m;
    k2_heads(s, group, b, n, MK_Q4_0);
    *p = (struct mk_panel){q, s, NULL};
    for (size_t u = 0; u < n; u++) {
        const uint8_t *in = group + mk_pack_unit_at(mk_pack_info(MK_Q4_0), b + u);
        uint8_t *out = q + mk_panel_at(u);

        for (size_t i = 0; i < 256; i += 32) {
            const __m256i x = k2_load(in + i);

            k2_store(out + i, _mm256_add_epi8(_mm256_and_si256(x, K2_NIBBLES), bias));
            k2_store(out + 256 + i, _mm256_add_epi8(k2_high(x), bias));
        }
    }
}

static K2_TARGET void k2_expand_q5_0(struct mk_panel *p, const uint8_t *group, size_t b,
                                     size_t n, uint8_t *q, float *s, float *m)
{
    const __m256i bias = _mm256_set1_epi8(112);

    (void)m;
    k2_heads(s, group, b, n, MK_Q5_0);
    *p = (struct mk_panel){q, s, NULL};
    for (size_t u = 0; u < n; u++) {
        const uint8_t *in = group + mk_pack_unit_at(mk_pack_info(MK_Q5_0), b + u);
        uint8_t *out = q + mk_panel_at(u);

        for (size_t i = 0; i < 256; i += 32) {
            const __m256i x = k2_load(in + 64 + i), h = k2_load(in + i % 64);
            const __m256i low = _mm256_or_si256(_mm256_and_si256(x, K2_NIBBLES),
                                                k2_bits(h, (int)(i / 64), 1, 4));
            const __m256i high = _mm256_or_si256(k2_high(x), k2_bits(h, (int)(i / 64) + 4, 1, 4));

            k2_store(out + i, _mm256_add_epi8(low, bias));
            k2_store(out + 256 + i, _mm256_add_epi8(high, bias));
        }
    }
}

/* f16 in the low half of each lane. */
K2_INLINE __m256 k2_f16_low(__m256i x)
{
    const __m256i y = _mm256_packus_epi32(_mm256_and_si256(x, _mm256_set1_epi32(0xFFFF)),
                                          _mm256_setzero_si256());

    return _mm256_cvtph_ps(_mm256_castsi256_si128(_mm256_permute4x64_epi64(y, 0x08)));
}

/* Byte j of each lane as a float. */
K2_INLINE __m256 k2_byte(__m256i x, int j)
{
    return _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srl_epi32(x, _mm_cvtsi32_si128(8 * j)),
                                               _mm256_set1_epi32(255)));
}

/* Scales and minima of a Q4_K or Q5_K unit. */
K2_INLINE void k2_k_scales(float *s, float *m, const uint8_t *unit)
{
    const __m256i six = _mm256_set1_epi8(63);

    for (size_t half = 0; half < 64; half += 32) {
        const __m256i h = k2_load(unit + half), s0 = k2_load(unit + 64 + half);
        const __m256i s1 = k2_load(unit + 128 + half), s2 = k2_load(unit + 192 + half);
        const __m256 d = k2_f16_low(h), dmin = k2_f16_low(_mm256_srli_epi32(h, 16));
        const __m256i sc[2] = {_mm256_and_si256(s0, six),
                               _mm256_or_si256(_mm256_and_si256(s2, K2_NIBBLES),
                                               k2_bits(s0, 6, 3, 4))};
        const __m256i mc[2] = {_mm256_and_si256(s1, six),
                               _mm256_or_si256(k2_high(s2), k2_bits(s1, 6, 3, 4))};

        for (int j = 0; j < 8; j++) {
            _mm256_storeu_ps(s + 16 * j + half / 4, _mm256_mul_ps(d, k2_byte(sc[j / 4], j % 4)));
            _mm256_storeu_ps(m + 16 * j + half / 4,
                             _mm256_mul_ps(dmin, k2_byte(mc[j / 4], j % 4)));
        }
    }
}

static K2_TARGET void k2_expand_q4_k(struct mk_panel *p, const uint8_t *group, size_t b,
                                     size_t n, uint8_t *q, float *s, float *m)
{
    *p = (struct mk_panel){q, s, m};
    for (size_t u = 0; u < n; u += 8) {
        const uint8_t *unit = group + (b + u) / 8 * (36 * 64);

        k2_k_scales(s + 16 * u, m + 16 * u, unit);
        for (size_t j = 0; j < 8; j += 2)
            for (size_t i = 0; i < 512; i += 32) {
                const __m256i x = k2_load(unit + 256 + 256 * j + i);

                k2_store(q + mk_panel_at(u + j) + i, _mm256_and_si256(x, K2_NIBBLES));
                k2_store(q + mk_panel_at(u + j + 1) + i, k2_high(x));
            }
    }
}

static K2_TARGET void k2_expand_q5_k(struct mk_panel *p, const uint8_t *group, size_t b,
                                     size_t n, uint8_t *q, float *s, float *m)
{
    *p = (struct mk_panel){q, s, m};
    for (size_t u = 0; u < n; u += 8) {
        const uint8_t *unit = group + (b + u) / 8 * (44 * 64);

        k2_k_scales(s + 16 * u, m + 16 * u, unit);
        for (size_t j = 0; j < 8; j += 2)
            for (size_t i = 0; i < 512; i += 32) {
                const size_t line = j == 0 ? i / 64 * 2 : 8 + 4 * j + i / 64;
                const __m256i x = k2_load(unit + 256 + 64 * line + i % 64);
                const __m256i h = k2_load(unit + 256 + 64 * (i / 64 * 2 + 1) + i % 64);

                k2_store(q + mk_panel_at(u + j) + i,
                         _mm256_or_si256(_mm256_and_si256(x, K2_NIBBLES),
                                         k2_bits(h, (int)j, 1, 4)));
                k2_store(q + mk_panel_at(u + j + 1) + i,
                         _mm256_or_si256(k2_high(x), k2_bits(h, (int)j + 1, 1, 4)));
            }
    }
}

static K2_TARGET void k2_expand_q6_k(struct mk_panel *p, const uint8_t *group, size_t b,
                                     size_t n, uint8_t *q, float *s, float *m)
{
    const __m256i bias = _mm256_set1_epi8(96);

    (void)m;
    *p = (struct mk_panel){q, s, NULL};
    for (size_t u = 0; u < n; u += 8, s += 256) {
        const uint8_t *unit = group + mk_pack_unit_at(mk_pack_info(MK_Q6_K), (b + u) / 8);
        const uint8_t *head = group + mk_pack_head_at(mk_pack_info(MK_Q6_K), (b + u) / 8);

        for (size_t j = 0; j < 32; j++) {
            const __m256i x = k2_load(unit + j / 8 * 64 + j % 2 * 32);
            const __m128i left = _mm_cvtsi32_si128((int)(24 - j / 2 % 4 * 8));
            const __m256i v = _mm256_srai_epi32(_mm256_sll_epi32(x, left), 24);

            _mm256_storeu_ps(s + 8 * j, _mm256_mul_ps(k2_f16(head + j % 2 * 16),
                                                      _mm256_cvtepi32_ps(v)));
        }
        for (size_t c = 0; c < 8; c++)
            for (size_t i = 0; i < 512; i += 32) {
                const uint8_t *half = unit + (4 + c / 4 * 24) * 64;
                const size_t line = c % 2 == 0 ? i / 64 * 2 : 16 + i / 64;
                const __m256i low = k2_bits(k2_load(half + 64 * line + i % 64),
                                            (int)(c & 2) * 2, 15, 0);
                const __m256i high = k2_bits(k2_load(half + 64 * (i / 64 * 2 + 1) + i % 64),
                                             (int)(c & 3) * 2, 3, 4);

                k2_store(q + mk_panel_at(u + c) + i,
                         _mm256_add_epi8(_mm256_or_si256(low, high), bias));
            }
    }
}

static K2_TARGET void k2_expand_iq4_xs(struct mk_panel *p, const uint8_t *group, size_t b,
                                       size_t n, uint8_t *q, float *s, float *m)
{
    const __m256i table = _mm256_broadcastsi128_si256(
        _mm_loadu_si128((const __m128i *)(const void *)mk_iq4_shifted));

    (void)m;
    *p = (struct mk_panel){q, s, NULL};
    for (size_t u = 0; u < n; u += 8, s += 128) {
        const uint8_t *unit = group + (b + u) / 8 * (34 * 64);

        for (size_t half = 0; half < 64; half += 32) {
            const __m256i h = k2_load(unit + half), l = k2_load(unit + 64 + half);
            const __m256 d = k2_f16_low(h);

            for (int j = 0; j < 8; j++) {
                const __m256i low = _mm256_and_si256(
                    _mm256_srl_epi32(l, _mm_cvtsi32_si128(4 * j)), _mm256_set1_epi32(15));
                const __m256i high = _mm256_and_si256(_mm256_srl_epi32(h,
                    _mm_cvtsi32_si128(16 + 2 * j)), _mm256_set1_epi32(3));
                const __m256i v = _mm256_sub_epi32(_mm256_or_si256(low,
                    _mm256_slli_epi32(high, 4)), _mm256_set1_epi32(32));

                _mm256_storeu_ps(s + 16 * j + half / 4, _mm256_mul_ps(d, _mm256_cvtepi32_ps(v)));
            }
        }
        for (size_t j = 0; j < 8; j++)
            for (size_t i = 0; i < 256; i += 32) {
                const __m256i x = k2_load(unit + 128 + 256 * j + i);
                uint8_t *out = q + mk_panel_at(u + j) + i;

                k2_store(out, _mm256_shuffle_epi8(table, _mm256_and_si256(x, K2_NIBBLES)));
                k2_store(out + 256, _mm256_shuffle_epi8(table, k2_high(x)));
            }
    }
}

/* ---- Tiles --------------------------------------------------------------
 * Products of unsigned by signed bytes saturate at 16 bits, so signed weights take the form
 * |w| times a with w's sign; unsigned ones of up to five bits do not reach the limit. */

K2_INLINE __m256i k2_four(const int8_t *a)
{
    int32_t x;

    __builtin_memcpy(&x, a, 4);
    return _mm256_set1_epi32(x);
}

/* sum += weights q times activations a, four per lane. */
K2_INLINE __m256i k2_madd(__m256i sum, __m256i w, __m256i size, __m256i a, int is_signed)
{
    const __m256i v = is_signed ? _mm256_sign_epi8(a, w) : a;

    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(size, v),
                                                   _mm256_set1_epi16(1)));
}

/* Sums of 16 rows by T tokens over lines [i0, i1) of a block. */
K2_INLINE void k2_sums(__m256i (*c)[2], const uint8_t *q, const struct mk_act *a, size_t lda,
                       size_t i0, size_t i1, const int T, int is_signed)
{
    for (int t = 0; t < T; t++)
        c[t][0] = c[t][1] = _mm256_setzero_si256();
    for (size_t i = i0; i < i1; i++)
        for (int h = 0; h < 2; h++) {
            __m256i w = k2_load(q + 64 * i + 32 * h), size = w;

            if (is_signed) {
                w = _mm256_xor_si256(w, _mm256_set1_epi8((char)0x80));
                size = _mm256_abs_epi8(w);
            }
            for (int t = 0; t < T; t++)
                c[t][h] = k2_madd(c[t][h], w, size, k2_four(a[(size_t)t * lda].q + 4 * i),
                                  is_signed);
        }
}

K2_INLINE void k2_block(__m256 (*f)[2], const struct mk_panel *p, size_t b,
                        const struct mk_act *a, size_t lda, const int T,
                        const enum mk_panel_kind kind)
{
    const uint8_t *q = p->q + mk_panel_at(b);
    const float *s = p->s + (kind == MK_PANEL_HALVES ? 32 : 16) * b;
    const float *m = kind == MK_PANEL_MIN ? p->m + 16 * b : NULL;
    __m256i c[3][2], c1[3][2];

    if (kind == MK_PANEL_HALVES) {
        k2_sums(c, q, a, lda, 0, 4, T, 1);
        k2_sums(c1, q, a, lda, 4, 8, T, 1);
    } else {
        k2_sums(c, q, a, lda, 0, 8, T, kind == MK_PANEL_SIGNED);
    }
    for (int t = 0; t < T; t++)
        for (int h = 0; h < 2; h++) {
            const __m256 d = _mm256_set1_ps(a[(size_t)t * lda].d);
            __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(c[t][h]), _mm256_loadu_ps(s + 8 * h));

            if (kind == MK_PANEL_HALVES)
                v = _mm256_fmadd_ps(_mm256_cvtepi32_ps(c1[t][h]),
                                    _mm256_loadu_ps(s + 16 + 8 * h), v);
            f[t][h] = _mm256_fmadd_ps(v, d, f[t][h]);
            if (kind == MK_PANEL_MIN)
                f[t][h] = _mm256_fnmadd_ps(_mm256_loadu_ps(m + 8 * h),
                                           _mm256_set1_ps(a[(size_t)t * lda].ds), f[t][h]);
        }
}

/* One panel by T <= 3 tokens; T and kind are constants where it is inlined. */
K2_INLINE void k2_tile(float *y, size_t ldy, const struct mk_panel *p, const struct mk_act *a,
                       size_t lda, size_t n, size_t n_rows, int first, const int T,
                       const enum mk_panel_kind kind)
{
    const __m256i mask[2] = {k2_mask(n_rows), k2_mask(n_rows > 8 ? n_rows - 8 : 0)};
    __m256 f[3][2];

    for (int t = 0; t < T; t++)
        for (int h = 0; h < 2; h++)
            f[t][h] = first ? _mm256_setzero_ps()
                            : _mm256_maskload_ps(y + (size_t)t * ldy + 8 * h, mask[h]);
    for (size_t b = 0; b < n; b++)
        k2_block(f, p, b, a + b, lda, T, kind);
    for (int t = 0; t < T; t++)
        for (int h = 0; h < 2; h++)
            _mm256_maskstore_ps(y + (size_t)t * ldy + 8 * h, mask[h], f[t][h]);
}

#define K2_TILE_KIND(name, KIND)                                                                \
static K2_TARGET void k2_tile_##name(float *y, size_t ldy, const struct mk_panel *p,            \
                                     const struct mk_act *a, size_t lda, size_t n_tokens,       \
                                     size_t n, size_t n_rows, int first)                        \
{                                                                                               \
    for (size_t r = 0; r < n_rows; r += 16, p++)                                                \
        for (size_t t = 0; t < n_tokens;) {                                                     \
            const size_t left = n_rows - r < 16 ? n_rows - r : 16;                              \
            float *out = y + t * ldy + r;                                                       \
                                                                                                \
            if (n_tokens - t >= 3) {                                                            \
                k2_tile(out, ldy, p, a + t * lda, lda, n, left, first, 3, KIND);                \
                t += 3;                                                                         \
            } else {                                                                            \
                k2_tile(out, ldy, p, a + t * lda, lda, n, left, first, 1, KIND);                \
                t += 1;                                                                         \
            }                                                                                   \
        }                                                                                       \
}

K2_TILE_KIND(signed, MK_PANEL_SIGNED)
K2_TILE_KIND(min, MK_PANEL_MIN)
K2_TILE_KIND(halves, MK_PANEL_HALVES)

/* ---- Float weights ------------------------------------------------------ */

/* Words of each row's lane apart: even ones to out, odd ones to out + 16. */
K2_INLINE void k2_f16_pairs(float *out, __m256i x, float factor, int has_odd)
{
    const __m256 f = _mm256_set1_ps(factor);

    _mm256_storeu_ps(out, _mm256_mul_ps(k2_f16_low(x), f));
    if (has_odd)
        _mm256_storeu_ps(out + 16, _mm256_mul_ps(k2_f16_low(_mm256_srli_epi32(x, 16)), f));
}

static K2_TARGET const float *k2_expand_f16(float *out, const uint8_t *group, size_t k, size_t n)
{
    for (size_t i = 0; i < n; i += 2)
        for (size_t h = 0; h < 2; h++)
            k2_f16_pairs(out + i * 16 + 8 * h, k2_load(group + (k + i) / 2 * 64 + 32 * h), 1.0f,
                         i + 1 < n);
    return out;
}

static K2_TARGET const float *k2_expand_bf16(float *out, const uint8_t *group, size_t k,
                                             size_t n)
{
    for (size_t i = 0; i < n; i += 2)
        for (size_t h = 0; h < 2; h++) {
            const __m256i x = k2_load(group + (k + i) / 2 * 64 + 32 * h);

            k2_store(out + i * 16 + 8 * h, _mm256_slli_epi32(x, 16));
            if (i + 1 < n)
                k2_store(out + i * 16 + 16 + 8 * h,
                         _mm256_and_si256(x, _mm256_set1_epi32((int)0xFFFF0000u)));
        }
    return out;
}

/* E4M3 in the bits of f16 is 2^-8 times its value: sign, then seven bits one place lower. */
static K2_TARGET const float *k2_expand_e4m3(float *out, const uint8_t *group, size_t k,
                                             size_t n)
{
    const __m256i sign = _mm256_set1_epi16((short)0x8000), rest = _mm256_set1_epi16(0x3F80);

    for (size_t i = 0; i < n; i += 4)
        for (size_t h = 0; h < 2; h++) {
            const __m256i x = k2_load(group + (k + i) / 4 * 64 + 32 * h);

            for (size_t j = 0; j < 4 && i + j < n; j += 2) {
                const __m256i zero = _mm256_setzero_si256();
                const __m256i y = j == 0 ? _mm256_unpacklo_epi8(zero, x)
                                         : _mm256_unpackhi_epi8(zero, x);
                const __m256i z = _mm256_or_si256(_mm256_and_si256(y, sign),
                    _mm256_and_si256(_mm256_srli_epi16(y, 1), rest));

                k2_f16_pairs(out + (i + j) * 16 + 8 * h, z, 256.0f, i + j + 1 < n);
            }
        }
    return out;
}

/* 16 rows by T <= 6 tokens. */
K2_INLINE void k2_float_tile(float *y, size_t ldy, const float *w, const float *x, size_t ldx,
                             size_t n, size_t n_rows, float scale, int first, const int T)
{
    const __m256i mask[2] = {k2_mask(n_rows), k2_mask(n_rows > 8 ? n_rows - 8 : 0)};
    __m256 f[6][2];

    for (int t = 0; t < T; t++)
        f[t][0] = f[t][1] = _mm256_setzero_ps();
    for (size_t k = 0; k < n; k++) {
        const __m256 w0 = _mm256_loadu_ps(w + 16 * k), w1 = _mm256_loadu_ps(w + 16 * k + 8);

        for (int t = 0; t < T; t++) {
            const __m256 v = _mm256_set1_ps(x[(size_t)t * ldx + k]);

            f[t][0] = _mm256_fmadd_ps(w0, v, f[t][0]);
            f[t][1] = _mm256_fmadd_ps(w1, v, f[t][1]);
        }
    }
    for (int t = 0; t < T; t++)
        for (int h = 0; h < 2; h++) {
            float *out = y + (size_t)t * ldy + 8 * h;
            const __m256 old = first ? _mm256_setzero_ps() : _mm256_maskload_ps(out, mask[h]);

            _mm256_maskstore_ps(out, mask[h],
                                _mm256_fmadd_ps(_mm256_set1_ps(scale), f[t][h], old));
        }
}

static K2_TARGET void k2_tile_float(float *y, size_t ldy, const float *w0, const float *w1,
                                    const float *x, size_t ldx, size_t n_tokens, size_t n,
                                    size_t n_rows, float scale, int first)
{
    for (size_t r = 0; r < n_rows; r += 16)
        for (size_t t = 0; t < n_tokens;) {
            const size_t left = n_rows - r < 16 ? n_rows - r : 16;
            const float *w = r == 0 ? w0 : w1, *in = x + t * ldx;
            float *out = y + t * ldy + r;

            if (n_tokens - t >= 6) {
                k2_float_tile(out, ldy, w, in, ldx, n, left, scale, first, 6);
                t += 6;
            } else if (n_tokens - t >= 2) {
                k2_float_tile(out, ldy, w, in, ldx, n, left, scale, first, 2);
                t += 2;
            } else {
                k2_float_tile(out, ldy, w, in, ldx, n, left, scale, first, 1);
                t += 1;
            }
        }
}

void mk_kernels_init_avx2(struct mk_kernels *k)
{
    if (!(k->features & MK_CPU_AVX2))
        return;
    k->dot = k2_dot;
    k->axpy = k2_axpy;
    k->rms_norm = k2_rms_norm;
    k->softmax = k2_softmax;
    k->swiglu = k2_swiglu;
    k->quantize = k2_quantize;
    k->interleave = k2_interleave;
    k->expand[MK_Q8_0] = k2_expand_q8_0;
    k->expand[MK_Q4_0] = k2_expand_q4_0;
    k->expand[MK_Q5_0] = k2_expand_q5_0;
    k->expand[MK_Q4_K] = k2_expand_q4_k;
    k->expand[MK_Q5_K] = k2_expand_q5_k;
    k->expand[MK_Q6_K] = k2_expand_q6_k;
    k->expand[MK_IQ4_XS] = k2_expand_iq4_xs;
    k->tile[MK_PANEL_SIGNED] = k2_tile_signed;
    k->tile[MK_PANEL_MIN] = k2_tile_min;
    k->tile[MK_PANEL_HALVES] = k2_tile_halves;
    k->expand_float[MK_F16] = k2_expand_f16;
    k->expand_float[MK_BF16] = k2_expand_bf16;
    k->expand_float[MK_F8_E4M3] = k2_expand_e4m3;
    k->tile_float = k2_tile_float;
}

#else

void mk_kernels_init_avx2(struct mk_kernels *k)
{
    (void)k;
}

#endif
