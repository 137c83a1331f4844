/* The caches of a session. */
#include "session/cache.h"

void mk_cache_init(struct mk_kv *kv, struct mk_carve *c, const struct mk_config *config,
                   size_t n_layers, size_t max_tokens, int with_index)
{
    const size_t latent_bytes = mk_kv_latent_bytes(config);
    const size_t index_bytes = with_index ? mk_kv_index_bytes(config) : 0;

    for (size_t l = 0; l < n_layers; l++) {
        struct mk_kv layer = {
            .latent_dim = config->kv_lora_rank + config->qk_rope_head_dim,
            .index_dim = with_index ? config->index_head_dim : 0,
        };

        layer.latent = mk_carve(c, max_tokens, latent_bytes);
        layer.index = mk_carve(c, max_tokens, index_bytes);
        if (kv != NULL)
            kv[l] = layer;
    }
}
