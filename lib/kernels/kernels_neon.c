/* NEON kernels: a line of 16 rows is four registers.  Three levels: baseline, dot products
 * (dotprod), and dot products of unsigned weights by signed activations (i8mm).  The last two
 * need a compiler that enables them per function: gcc 10, clang 16.  Older ones give the
 * baseline. */
#include "kernels/kernels.h"

#include "base/cpu.h"

#if defined(__aarch64__) && defined(__GNUC__) && !defined(__AARCH64EB__)

#include <arm_neon.h>

#include "kernels/kernels_math.h"
#include "kernels/packed.h"

#if (defined(__clang__) && __clang_major__ >= 16) || (!defined(__clang__) && __GNUC__ >= 10)
#  define KN_HAVE_DOT 1
#endif

#define KN_INLINE static inline __attribute__((always_inline))

/* ---- Vectors ------------------------------------------------------------ */

static float kn_dot(const float *a, const float *b, size_t n)
{
    float32x4_t s0 = vdupq_n_f32(0.0f), s1 = s0, s2 = s0, s3 = s0;
    float tail = 0.0f;
    size_t i = 0;

    for (; i + 16 <= n; i += 16) {
        s0 = vfmaq_f32(s0, vld1q_f32(a + i), vld1q_f32(b + i));
        s1 = vfmaq_f32(s1, vld1q_f32(a + i + 4), vld1q_f32(b + i + 4));
        s2 = vfmaq_f32(s2, vld1q_f32(a + i + 8), vld1q_f32(b + i + 8));
        s3 = vfmaq_f32(s3, vld1q_f32(a + i + 12), vld1q_f32(b + i + 12));
    }
    for (; i < n; i++)
        tail += a[i] * b[i];
    return vaddvq_f32(vaddq_f32(vaddq_f32(s0, s1), vaddq_f32(s2, s3))) + tail;
}

static void kn_axpy(float *y, float s, const float *x, size_t n)
{
    size_t i = 0;

    for (; i + 4 <= n; i += 4)
        vst1q_f32(y + i, vfmaq_n_f32(vld1q_f32(y + i), vld1q_f32(x + i), s));
    for (; i < n; i++)
        y[i] += s * x[i];
}

static void kn_quantize(struct mk_act *out, const float *x, size_t n)
{
    for (; n > 0; n--, out++, x += 32) {
        float32x4_t v[8], max4 = vdupq_n_f32(0.0f);
        int32_t half[2] = {0, 0};

        for (int i = 0; i < 8; i++) {
            v[i] = vld1q_f32(x + 4 * i);
            max4 = vmaxnmq_f32(max4, vabsq_f32(v[i]));
        }
        const float max = vmaxnmvq_f32(max4);
        const int some = max > MK_ACT_TINY;
        const float inverse = some ? 127.0f / max : 0.0f;

        for (int i = 0; i < 8; i += 2) {
            const int32x4_t q0 = vcvtnq_s32_f32(vmulq_n_f32(v[i], inverse));
            const int32x4_t q1 = vcvtnq_s32_f32(vmulq_n_f32(v[i + 1], inverse));

            half[i / 4] += vaddvq_s32(vaddq_s32(q0, q1));
            vst1_s8(out->q + 4 * i, vqmovn_s16(vcombine_s16(vqmovn_s32(q0), vqmovn_s32(q1))));
        }
        out->d = some ? max / 127.0f : 0.0f;
        out->ds = out->d * (float)(half[0] + half[1]);
        out->z = -128 * (half[0] + half[1]);
        out->zh[0] = -128 * half[0];
        out->zh[1] = -128 * half[1];
        out->pad[0] = out->pad[1] = out->pad[2] = 0;
    }
}

/* ---- Tiles --------------------------------------------------------------
 * A macro per level gives the sum of four products in every lane of a register. */

/* sum[r] += four weights of row r times four activations, r < 4: by 16-bit products, whose
 * pairs land in two registers until kn_join. */
struct kn_pair {
    int32x4_t low, high;
};

KN_INLINE struct kn_pair kn_mla_base(struct kn_pair s, int8x16_t w, int32_t a4)
{
    const int8x8_t a = vreinterpret_s8_s32(vdup_n_s32(a4));

    s.low = vpadalq_s16(s.low, vmull_s8(vget_low_s8(w), a));
    s.high = vpadalq_s16(s.high, vmull_s8(vget_high_s8(w), a));
    return s;
}

KN_INLINE int32x4_t kn_join_base(struct kn_pair s)
{
    return vpaddq_s32(s.low, s.high);
}

KN_INLINE int8x16_t kn_weights(const uint8_t *q, uint8_t flip)
{
    return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(q), vdupq_n_u8(flip)));
}

KN_INLINE int32_t kn_four(const int8_t *a)
{
    int32_t x;

    __builtin_memcpy(&x, a, 4);
    return x;
}

/* Sums of 16 rows over lines [i0, i1) of a block. */
KN_INLINE void kn_sums_base(int32x4_t *c, const uint8_t *q, const int8_t *a, int i0, int i1,
                            int is_signed)
{
    for (int r = 0; r < 4; r++) {
        struct kn_pair s = {vdupq_n_s32(0), vdupq_n_s32(0)};

        for (int i = i0; i < i1; i++)
            s = kn_mla_base(s, kn_weights(q + 64 * i + 16 * r, is_signed ? 0x80 : 0),
                            kn_four(a + 4 * i));
        c[r] = kn_join_base(s);
    }
}

#ifdef KN_HAVE_DOT
#define KN_DOT __attribute__((target("arch=armv8.2-a+dotprod")))
#define KN_I8MM __attribute__((target("arch=armv8.2-a+dotprod+i8mm")))

static inline KN_DOT __attribute__((always_inline))
void kn_sums_dot(int32x4_t *c, const uint8_t *q, const int8_t *a, int i0, int i1, int is_signed)
{
    for (int r = 0; r < 4; r++)
        c[r] = vdupq_n_s32(0);
    for (int i = i0; i < i1; i++) {
        const int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(kn_four(a + 4 * i)));

        for (int r = 0; r < 4; r++)
            c[r] = vdotq_s32(c[r], kn_weights(q + 64 * i + 16 * r, is_signed ? 0x80 : 0), x);
    }
}

/* Weights stay unsigned, and the sum of the 128 added to each is taken off at the start. */
static inline KN_I8MM __attribute__((always_inline))
void kn_sums_i8mm(int32x4_t *c, const uint8_t *q, const int8_t *a, int i0, int i1, int is_signed)
{
    int32_t start = 0;

    for (int i = 4 * i0; is_signed && i < 4 * i1; i++)
        start -= 128 * a[i];
    for (int r = 0; r < 4; r++)
        c[r] = vdupq_n_s32(start);
    for (int i = i0; i < i1; i++) {
        const int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(kn_four(a + 4 * i)));

        for (int r = 0; r < 4; r++)
            c[r] = vusdotq_s32(c[r], vld1q_u8(q + 64 * i + 16 * r), x);
    }
}
#endif

#define KN_NO_TARGET

#define KN_TILE_LEVEL(level, TARGET)                                                            \
static inline TARGET __attribute__((always_inline))                                             \
void kn_block_##level(float32x4_t *f, const struct mk_panel *p, const struct mk_act *a,         \
                      size_t b, const enum mk_panel_kind kind)                                  \
{                                                                                               \
    const uint8_t *q = p->q + mk_panel_at(b);                                                   \
    int32x4_t c[4], c1[4];                                                                      \
                                                                                                \
    if (kind == MK_PANEL_HALVES) {                                                              \
        kn_sums_##level(c, q, a->q, 0, 4, 1);                                                   \
        kn_sums_##level(c1, q, a->q, 4, 8, 1);                                                  \
    } else {                                                                                    \
        kn_sums_##level(c, q, a->q, 0, 8, kind == MK_PANEL_SIGNED);                             \
    }                                                                                           \
    for (int r = 0; r < 4; r++) {                                                               \
        const float *s = p->s + (kind == MK_PANEL_HALVES ? 32 : 16) * b + 4 * r;                \
        float32x4_t v = vmulq_f32(vcvtq_f32_s32(c[r]), vld1q_f32(s));                           \
                                                                                                \
        if (kind == MK_PANEL_HALVES)                                                            \
            v = vfmaq_f32(v, vcvtq_f32_s32(c1[r]), vld1q_f32(s + 16));                          \
        f[r] = vfmaq_n_f32(f[r], v, a->d);                                                      \
        if (kind == MK_PANEL_MIN)                                                               \
            f[r] = vfmsq_n_f32(f[r], vld1q_f32(p->m + 16 * b + 4 * r), a->ds);                  \
    }                                                                                           \
}                                                                                               \
                                                                                                \
static inline TARGET __attribute__((always_inline))                                             \
void kn_tile_##level(float *y, size_t ldy, const struct mk_panel *p, const struct mk_act *a,    \
                     size_t lda, size_t n_tokens, size_t n, size_t n_rows, int first,           \
                     const enum mk_panel_kind kind)                                             \
{                                                                                               \
    for (size_t r = 0; r < n_rows; r += 16, p++)                                                \
        for (size_t t = 0; t < n_tokens; t++) {                                                 \
            const size_t used = (n_rows - r < 16 ? n_rows - r : 16) * sizeof(float);            \
            float *out = y + t * ldy + r, sum[16] = {0};                                        \
            float32x4_t f[4];                                                                   \
                                                                                                \
            if (!first)                                                                         \
                __builtin_memcpy(sum, out, used);                                               \
            for (int i = 0; i < 4; i++)                                                         \
                f[i] = vld1q_f32(sum + 4 * i);                                                  \
            for (size_t b = 0; b < n; b++)                                                      \
                kn_block_##level(f, p, a + t * lda + b, b, kind);                               \
            for (int i = 0; i < 4; i++)                                                         \
                vst1q_f32(sum + 4 * i, f[i]);                                                   \
            __builtin_memcpy(out, sum, used);                                                   \
        }                                                                                       \
}                                                                                               \
                                                                                                \
static TARGET void kn_signed_##level(float *y, size_t ldy, const struct mk_panel *p,            \
                                     const struct mk_act *a, size_t lda, size_t n_tokens,       \
                                     size_t n, size_t n_rows, int first)                        \
{                                                                                               \
    kn_tile_##level(y, ldy, p, a, lda, n_tokens, n, n_rows, first, MK_PANEL_SIGNED);            \
}                                                                                               \
                                                                                                \
static TARGET void kn_min_##level(float *y, size_t ldy, const struct mk_panel *p,               \
                                  const struct mk_act *a, size_t lda, size_t n_tokens,          \
                                  size_t n, size_t n_rows, int first)                           \
{                                                                                               \
    kn_tile_##level(y, ldy, p, a, lda, n_tokens, n, n_rows, first, MK_PANEL_MIN);               \
}                                                                                               \
                                                                                                \
static TARGET void kn_halves_##level(float *y, size_t ldy, const struct mk_panel *p,            \
                                     const struct mk_act *a, size_t lda, size_t n_tokens,       \
                                     size_t n, size_t n_rows, int first)                        \
{                                                                                               \
    kn_tile_##level(y, ldy, p, a, lda, n_tokens, n, n_rows, first, MK_PANEL_HALVES);            \
}

KN_TILE_LEVEL(base, KN_NO_TARGET)
#ifdef KN_HAVE_DOT
KN_TILE_LEVEL(dot, KN_DOT)
KN_TILE_LEVEL(i8mm, KN_I8MM)
#endif

/* ---- Float weights ------------------------------------------------------ */

static const float *kn_expand_f16(float *out, const uint8_t *group, size_t k, size_t n)
{
    for (size_t i = 0; i < n; i += 2)
        for (size_t r = 0; r < 16; r += 4) {
            const uint16x4x2_t x = vld2_u16((const uint16_t *)(const void *)
                                            (group + (k + i) / 2 * 64 + 4 * r));

            vst1q_f32(out + i * 16 + r, vcvt_f32_f16(vreinterpret_f16_u16(x.val[0])));
            if (i + 1 < n)
                vst1q_f32(out + i * 16 + 16 + r, vcvt_f32_f16(vreinterpret_f16_u16(x.val[1])));
        }
    return out;
}

static const float *kn_expand_bf16(float *out, const uint8_t *group, size_t k, size_t n)
{
    for (size_t i = 0; i < n; i += 2)
        for (size_t r = 0; r < 16; r += 4) {
            const uint32x4_t x = vld1q_u32((const uint32_t *)(const void *)
                                           (group + (k + i) / 2 * 64 + 4 * r));
            const uint32x4_t odd = vandq_u32(x, vdupq_n_u32(0xFFFF0000u));

            vst1q_f32(out + i * 16 + r, vreinterpretq_f32_u32(vshlq_n_u32(x, 16)));
            if (i + 1 < n)
                vst1q_f32(out + i * 16 + 16 + r, vreinterpretq_f32_u32(odd));
        }
    return out;
}

/* 16 rows by T <= 4 tokens. */
KN_INLINE void kn_float_tile(float *y, size_t ldy, const float *w, const float *x, size_t ldx,
                             size_t n, size_t n_rows, float scale, int first, const int T)
{
    float32x4_t f[4][4];

    for (int t = 0; t < T; t++)
        for (int r = 0; r < 4; r++)
            f[t][r] = vdupq_n_f32(0.0f);
    for (size_t k = 0; k < n; k++)
        for (int r = 0; r < 4; r++) {
            const float32x4_t v = vld1q_f32(w + 16 * k + 4 * r);

            for (int t = 0; t < T; t++)
                f[t][r] = vfmaq_n_f32(f[t][r], v, x[(size_t)t * ldx + k]);
        }
    for (int t = 0; t < T; t++) {
        const size_t used = (n_rows < 16 ? n_rows : 16) * sizeof(float);
        float *out = y + (size_t)t * ldy, sum[16] = {0};

        if (!first)
            __builtin_memcpy(sum, out, used);
        for (int r = 0; r < 4; r++)
            vst1q_f32(sum + 4 * r, vfmaq_n_f32(vld1q_f32(sum + 4 * r), f[t][r], scale));
        __builtin_memcpy(out, sum, used);
    }
}

static void kn_tile_float(float *y, size_t ldy, const float *w0, const float *w1, const float *x,
                          size_t ldx, size_t n_tokens, size_t n, size_t n_rows, float scale,
                          int first)
{
    for (size_t r = 0; r < n_rows; r += 16) {
        const float *w = r == 0 ? w0 : w1;
        size_t t = 0;

        for (; t + 4 <= n_tokens; t += 4)
            kn_float_tile(y + t * ldy + r, ldy, w, x + t * ldx, ldx, n, n_rows - r, scale, first,
                          4);
        for (; t < n_tokens; t++)
            kn_float_tile(y + t * ldy + r, ldy, w, x + t * ldx, ldx, n, n_rows - r, scale, first,
                          1);
    }
}

void mk_kernels_init_neon(struct mk_kernels *k)
{
    if (!(k->features & MK_CPU_NEON))
        return;
    k->dot = kn_dot;
    k->axpy = kn_axpy;
    k->quantize = kn_quantize;
    k->tile[MK_PANEL_SIGNED] = kn_signed_base;
    k->tile[MK_PANEL_MIN] = kn_min_base;
    k->tile[MK_PANEL_HALVES] = kn_halves_base;
    k->expand_float[MK_F16] = kn_expand_f16;
    k->expand_float[MK_BF16] = kn_expand_bf16;
    k->tile_float = kn_tile_float;
#ifdef KN_HAVE_DOT
    if (k->features & MK_CPU_DOTPROD) {
        k->tile[MK_PANEL_SIGNED] = kn_signed_dot;
        k->tile[MK_PANEL_MIN] = kn_min_dot;
        k->tile[MK_PANEL_HALVES] = kn_halves_dot;
    }
    if (k->features & MK_CPU_I8MM) {
        k->tile[MK_PANEL_SIGNED] = kn_signed_i8mm;
        k->tile[MK_PANEL_MIN] = kn_min_i8mm;
        k->tile[MK_PANEL_HALVES] = kn_halves_i8mm;
    }
#endif
}

#else

void mk_kernels_init_neon(struct mk_kernels *k)
{
    (void)k;
}

#endif
