/* What one layer remembers of past tokens, a row each: the only place that knows how rows
 * are stored. */
#ifndef MK_KV_H
#define MK_KV_H

#include <stddef.h>
#include <stdint.h>

#include "format/config.h"

struct mk_kv {
    uint32_t latent_dim;     /* L + R: normed latent, then the rotated rope key */
    uint32_t index_dim;      /* 0 without indexer */
    void *latent;            /* (max_tokens, L + R) f32 */
    void *index;             /* (max_tokens, index_dim) f32 */
};

/* Bytes of a row. */
size_t mk_kv_latent_bytes(const struct mk_config *config);
size_t mk_kv_index_bytes(const struct mk_config *config);

/* Store the row of token t: latent (L + R,), index (index_dim,). */
void mk_kv_put_latent(struct mk_kv *kv, size_t t, const float *latent);
void mk_kv_put_index(struct mk_kv *kv, size_t t, const float *index);

/* n rows as floats (n, L + R) or (n, index_dim): of the tokens list[i], or of t + i when list
 * is NULL.  Returns out (room for n rows) or a pointer into the cache. */
const float *mk_kv_latents(const struct mk_kv *kv, float *out, const int32_t *list, size_t t,
                           size_t n);
const float *mk_kv_indices(const struct mk_kv *kv, float *out, size_t t, size_t n);

#endif
