/* What one layer remembers of past tokens, a row each: the only place that knows how rows
 * are stored. */
#ifndef MK_KV_H
#define MK_KV_H

#include <stddef.h>
#include <stdint.h>

#include "base/carve.h"
#include "format/config.h"
#include "kernels/kernels.h"

/* A cache is a few planes, each with one row per token; a row of a plane is row_bytes bytes
 * that mean the same wherever they are copied.  What copies or saves a cache goes over the
 * planes and needs to know no more of them.
 *
 *   latent       f32 or bf16: L latents, then R rope keys.  FP8, the layout that V3.2's
 *                kernels use: L e4m3, an f32 scale (a power of two) per 128 of them, R bf16;
 *                656 bytes where L is 512 and R is 64.
 *   index        f32: the index key.  int8: the key after a Hadamard rotation (where its
 *                length is a power of two), rounded, with 128 added; padded to four.
 *   index_scale  int8 only: f32, what a step is worth.
 *   index_exact  int8 with keys for re-scoring only: the key in bf16, not rotated. */
enum mk_kv_plane { MK_KV_LATENT, MK_KV_INDEX, MK_KV_INDEX_SCALE, MK_KV_INDEX_EXACT,
                   MK_KV_N_PLANES };

enum mk_kv_cache { MK_KV_F32, MK_KV_BF16, MK_KV_FP8 };
enum mk_kv_index { MK_KV_INDEX_F32, MK_KV_INDEX_INT8, MK_KV_INDEX_RESCORED };

struct mk_kv_format {
    enum mk_kv_cache cache_type;
    enum mk_kv_index index_type;
    uint32_t latent_dim;                 /* L */
    uint32_t rope_dim;                   /* R */
    uint32_t index_dim;                  /* 0 = without index keys */
    size_t row_bytes[MK_KV_N_PLANES];    /* 0 = the format has no such plane */
};

/* The cache of one layer. */
struct mk_kv {
    struct mk_kv_format format;
    uint8_t *plane[MK_KV_N_PLANES];      /* (max_tokens, row_bytes), aligned to 64 */
};

/* cache_type MINKE_CACHE_*, index_type MINKE_INDEX_* of include/minke.h, MINKE_CACHE_NATIVE and
 * MINKE_INDEX_NATIVE resolved for this model.  with_index 0: no index keys are kept. */
void mk_kv_format_init(struct mk_kv_format *format, const struct mk_config *config,
                       uint32_t cache_type, uint32_t index_type, int with_index);

/* Caches of n_layers layers for max_tokens tokens each, from c; kv (n_layers,) or NULL to count
 * only. */
void mk_kv_layout(struct mk_kv *kv, struct mk_carve *c, const struct mk_kv_format *format,
                  size_t n_layers, size_t max_tokens);

/* Bytes that a token takes in one layer. */
size_t mk_kv_token_bytes(const struct mk_kv_format *format);

/* Rows [t, t + n) of a plane: n * row_bytes bytes.  NULL where the format lacks the plane. */
static inline uint8_t *mk_kv_rows(const struct mk_kv *kv, enum mk_kv_plane plane, size_t t)
{
    return kv->format.row_bytes[plane] == 0 ? NULL
         : kv->plane[plane] + t * kv->format.row_bytes[plane];
}

/* Store the row of token t: latent (L + R,), index (index_dim,), both as computed.  index may
 * be changed. */
void mk_kv_put_latent(const struct mk_kv *kv, size_t t, const float *latent);
void mk_kv_put_index(const struct mk_kv *kv, size_t t, float *index);

/* n rows as floats (n, L + R) into out: of the tokens list[i], or of t + i when list is
 * NULL.  The same floats at every level of k.  Returns out, or a pointer into the cache. */
const float *mk_kv_latents(const struct mk_kv *kv, const struct mk_kernels *k, float *out,
                           const int32_t *list, size_t t, size_t n);

/* Start fetching the rows that mk_kv_latents will read. */
void mk_kv_prefetch(const struct mk_kv *kv, const int32_t *list, size_t t, size_t n);

/* n index keys as floats (n, index_dim), from f32 or exact rows; otherwise as above. */
const float *mk_kv_indices(const struct mk_kv *kv, const struct mk_kernels *k, float *out,
                           const int32_t *list, size_t t, size_t n);

/* Round x (n,) as index keys are: rotate it in place where n is a power of two, then
 * q[i] = round(x[i] / s), s = max |x| / 127; q is 0 behind n up to a multiple of 4 and may
 * begin where x does.  Returns s; 0 (and zeros) when all is (nearly) zero. */
float mk_kv_round_index(int8_t *q, float *x, size_t n);

#endif
