/* The caches of a session: rows of every layer, one block. */
#ifndef MK_CACHE_H
#define MK_CACHE_H

#include "model/kv.h"
#include "model/work.h"

/* Lay out the caches of n_layers layers for max_tokens tokens in c; kv (n_layers,) or NULL to
 * count only. */
void mk_cache_init(struct mk_kv *kv, struct mk_carve *c, const struct mk_kv_format *format,
                   size_t n_layers, size_t max_tokens);

#endif
