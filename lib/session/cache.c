/* The caches of a session. */
#include "session/cache.h"

void mk_cache_init(struct mk_kv *kv, struct mk_carve *c, const struct mk_kv_format *format,
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
