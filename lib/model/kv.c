/* Rows of the caches. */
#include "model/kv.h"

#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "minke.h"
#include "tensor/tensor.h"

#define KV_FP8_GROUP 128u      /* latents that share a scale */

void mk_kv_format_init(struct mk_kv_format *format, const struct mk_config *config,
                       uint32_t cache_type, uint32_t index_type, int with_index)
{
    const size_t L = config->kv_lora_rank, R = config->qk_rope_head_dim;
    const size_t D = with_index ? config->index_head_dim : 0;

    /* V3.2 was trained with latents rounded to FP8 and index keys rounded to 8 bits, the
     * others in bf16. */
    if (cache_type == MINKE_CACHE_NATIVE)
        cache_type = config->index_topk > 0 ? MINKE_CACHE_FP8 : MINKE_CACHE_BF16;
    if (index_type == MINKE_INDEX_NATIVE)
        index_type = MINKE_INDEX_INT8;
    *format = (struct mk_kv_format){
        .cache_type = cache_type == MINKE_CACHE_FP8 ? MK_KV_FP8
                    : cache_type == MINKE_CACHE_BF16 ? MK_KV_BF16 : MK_KV_F32,
        .index_type = index_type == MINKE_INDEX_INT8 ? MK_KV_INDEX_INT8
                    : index_type == MINKE_INDEX_RESCORED ? MK_KV_INDEX_RESCORED
                                                         : MK_KV_INDEX_F32,
        .latent_dim = (uint32_t)L,
        .rope_dim = (uint32_t)R,
        .index_dim = (uint32_t)D,
    };
    format->row_bytes[MK_KV_LATENT] =
        format->cache_type == MK_KV_F32 ? (L + R) * sizeof(float)
        : format->cache_type == MK_KV_BF16 ? (L + R) * 2
                                           : L + mk_ceil_div(L, KV_FP8_GROUP) * 4 + R * 2;
    if (D > 0 && format->index_type == MK_KV_INDEX_F32) {
        format->row_bytes[MK_KV_INDEX] = D * sizeof(float);
    } else if (D > 0) {
        format->row_bytes[MK_KV_INDEX] = mk_round_up(D, 4);
        format->row_bytes[MK_KV_INDEX_SCALE] = sizeof(float);
        if (format->index_type == MK_KV_INDEX_RESCORED)
            format->row_bytes[MK_KV_INDEX_EXACT] = D * 2;
    }
}

void mk_kv_layout(struct mk_kv *kv, struct mk_carve *c, const struct mk_kv_format *format,
                  size_t n_layers, size_t max_tokens)
{
    for (size_t l = 0; l < n_layers; l++) {
        struct mk_kv layer = {.format = *format};

        for (int p = 0; p < MK_KV_N_PLANES; p++)
            layer.plane[p] = mk_carve(c, max_tokens, format->row_bytes[p]);
        if (kv != NULL)
            kv[l] = layer;
    }
}

size_t mk_kv_token_bytes(const struct mk_kv_format *format)
{
    size_t sum = 0;

    for (int p = 0; p < MK_KV_N_PLANES; p++)
        sum += format->row_bytes[p];
    return sum;
}

/* ---- Latents ------------------------------------------------------------ */

static void kv_put_bf16(uint8_t *row, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const uint16_t h = mk_f32_to_bf16(x[i]);

        memcpy(row + 2 * i, &h, sizeof(h));
    }
}

/*
 * Reference: DeepSeek-V3.2-Exp inference/kernel.py @8631a81, act_quant with power-of-two scales:
 * the smallest that brings max |x|, 1e-4 at least, to 448 or below.
 */
static float kv_fp8_scale(const float *x, size_t n)
{
    float max = 1e-4f;
    int exponent;

    for (size_t i = 0; i < n; i++)
        max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
    if (!(max < INFINITY))
        return 1.0f;
    /* max / 448 = m 2^e, 0.5 <= m < 1: the power above is 2^e unless m is 0.5 itself. */
    if (frexpf(max / 448.0f, &exponent) == 0.5f)
        exponent--;
    return ldexpf(1.0f, exponent);
}

static void kv_put_fp8(const struct mk_kv_format *f, uint8_t *row, const float *x)
{
    const size_t L = f->latent_dim;
    uint8_t *scales = row + L;

    for (size_t i = 0; i < L; i += KV_FP8_GROUP, scales += sizeof(float)) {
        const size_t n = mk_min(KV_FP8_GROUP, L - i);
        const float scale = kv_fp8_scale(x + i, n);

        for (size_t j = i; j < i + n; j++)
            row[j] = mk_f32_to_e4m3(x[j] / scale);
        memcpy(scales, &scale, sizeof(scale));
    }
    kv_put_bf16(scales, x + L, f->rope_dim);
}

void mk_kv_put_latent(const struct mk_kv *kv, size_t t, const float *latent)
{
    const struct mk_kv_format *f = &kv->format;
    uint8_t *row = mk_kv_rows(kv, MK_KV_LATENT, t);

    if (f->cache_type == MK_KV_F32)
        memcpy(row, latent, f->row_bytes[MK_KV_LATENT]);
    else if (f->cache_type == MK_KV_BF16)
        kv_put_bf16(row, latent, (size_t)f->latent_dim + f->rope_dim);
    else
        kv_put_fp8(f, row, latent);
}

static void kv_widen_fp8(const struct mk_kv_format *f, const struct mk_kernels *k, float *out,
                         const uint8_t *row)
{
    const size_t L = f->latent_dim;
    const uint8_t *scales = row + L;

    for (size_t i = 0; i < L; i += KV_FP8_GROUP, scales += sizeof(float)) {
        float scale;

        memcpy(&scale, scales, sizeof(scale));
        k->widen_e4m3(out + i, row + i, scale, mk_min(KV_FP8_GROUP, L - i));
    }
    k->widen_bf16(out + L, scales, f->rope_dim);
}

const float *mk_kv_latents(const struct mk_kv *kv, const struct mk_kernels *k, float *out,
                           const int32_t *list, size_t t, size_t n)
{
    const struct mk_kv_format *f = &kv->format;
    const size_t dim = (size_t)f->latent_dim + f->rope_dim;

    if (f->cache_type == MK_KV_F32 && list == NULL)
        return (const float *)(const void *)mk_kv_rows(kv, MK_KV_LATENT, t);
    for (size_t i = 0; i < n; i++) {
        const uint8_t *row = mk_kv_rows(kv, MK_KV_LATENT, list ? (size_t)list[i] : t + i);

        if (f->cache_type == MK_KV_F32)
            memcpy(out + i * dim, row, dim * sizeof(float));
        else if (f->cache_type == MK_KV_BF16)
            k->widen_bf16(out + i * dim, row, dim);
        else
            kv_widen_fp8(f, k, out + i * dim, row);
    }
    return out;
}

void mk_kv_prefetch(const struct mk_kv *kv, const int32_t *list, size_t t, size_t n)
{
#ifdef __GNUC__
    for (size_t i = 0; i < n; i++) {
        const uint8_t *row = mk_kv_rows(kv, MK_KV_LATENT, list ? (size_t)list[i] : t + i);

        for (size_t b = 0; b < kv->format.row_bytes[MK_KV_LATENT]; b += 64)
            __builtin_prefetch(row + b, 0, 2);
    }
#else
    (void)kv, (void)list, (void)t, (void)n;
#endif
}

/* ---- Index keys --------------------------------------------------------- */

/* x = H x / sqrt(n), H the Hadamard matrix in Sylvester's order. */
static void kv_rotate(float *x, size_t n)
{
    const float scale = 1.0f / sqrtf((float)n);

    for (size_t half = 1; half < n; half *= 2)
        for (size_t i = 0; i < n; i += 2 * half)
            for (size_t j = i; j < i + half; j++) {
                const float a = x[j], b = x[j + half];

                x[j] = a + b;
                x[j + half] = a - b;
            }
    for (size_t i = 0; i < n; i++)
        x[i] *= scale;
}

float mk_kv_round_index(int8_t *q, float *x, size_t n)
{
    float max = 0.0f;

    if ((n & (n - 1)) == 0)
        kv_rotate(x, n);
    for (size_t i = 0; i < n; i++)
        max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
    if (!(max > 1e-25f && max < INFINITY)) {
        memset(q, 0, mk_round_up(n, 4));
        return 0.0f;
    }
    for (size_t i = 0; i < n; i++) {
        /* Adding 1.5 * 2^23 leaves no bits below the unit: round to nearest even. */
        const float r = (x[i] * (127.0f / max) + 12582912.0f) - 12582912.0f;

        q[i] = (int8_t)(r >= -127.0f && r <= 127.0f ? r : 0.0f);
    }
    memset(q + n, 0, mk_round_up(n, 4) - n);
    return max / 127.0f;
}

void mk_kv_put_index(const struct mk_kv *kv, size_t t, float *index)
{
    const struct mk_kv_format *f = &kv->format;
    const size_t D = f->index_dim, bytes = f->row_bytes[MK_KV_INDEX];
    uint8_t *row = mk_kv_rows(kv, MK_KV_INDEX, t);
    float scale;

    if (f->index_type == MK_KV_INDEX_F32) {
        memcpy(row, index, bytes);
        return;
    }
    if (f->index_type == MK_KV_INDEX_RESCORED)
        kv_put_bf16(mk_kv_rows(kv, MK_KV_INDEX_EXACT, t), index, D);
    scale = mk_kv_round_index((int8_t *)row, index, D);
    for (size_t i = 0; i < bytes; i++)
        row[i] ^= 128;
    memcpy(mk_kv_rows(kv, MK_KV_INDEX_SCALE, t), &scale, sizeof(scale));
}

const float *mk_kv_indices(const struct mk_kv *kv, const struct mk_kernels *k, float *out,
                           const int32_t *list, size_t t, size_t n)
{
    const size_t D = kv->format.index_dim;
    const int is_f32 = kv->format.index_type == MK_KV_INDEX_F32;
    const enum mk_kv_plane plane = is_f32 ? MK_KV_INDEX : MK_KV_INDEX_EXACT;

    if (is_f32 && list == NULL)
        return (const float *)(const void *)mk_kv_rows(kv, plane, t);
    for (size_t i = 0; i < n; i++) {
        const uint8_t *row = mk_kv_rows(kv, plane, list ? (size_t)list[i] : t + i);

        if (is_f32)
            memcpy(out + i * D, row, D * sizeof(float));
        else
            k->widen_bf16(out + i * D, row, D);
    }
    return out;
}
