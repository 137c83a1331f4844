/* Rows of the caches, in f32. */
#include "model/kv.h"

#include <string.h>

size_t mk_kv_latent_bytes(const struct mk_config *config)
{
    return ((size_t)config->kv_lora_rank + config->qk_rope_head_dim) * sizeof(float);
}

size_t mk_kv_index_bytes(const struct mk_config *config)
{
    return config->index_topk > 0 ? config->index_head_dim * sizeof(float) : 0;
}

void mk_kv_put_latent(struct mk_kv *kv, size_t t, const float *latent)
{
    memcpy((float *)kv->latent + t * kv->latent_dim, latent, kv->latent_dim * sizeof(float));
}

void mk_kv_put_index(struct mk_kv *kv, size_t t, const float *index)
{
    memcpy((float *)kv->index + t * kv->index_dim, index, kv->index_dim * sizeof(float));
}

const float *mk_kv_latents(const struct mk_kv *kv, float *out, const int32_t *list, size_t t,
                           size_t n)
{
    const float *rows = kv->latent;
    const size_t dim = kv->latent_dim;

    if (list == NULL)
        return rows + t * dim;
    for (size_t i = 0; i < n; i++)
        memcpy(out + i * dim, rows + (size_t)list[i] * dim, dim * sizeof(float));
    return out;
}

const float *mk_kv_indices(const struct mk_kv *kv, float *out, size_t t, size_t n)
{
    (void)out;
    (void)n;
    return (const float *)kv->index + t * kv->index_dim;
}
