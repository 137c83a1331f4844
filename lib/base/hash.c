/* A checksum of 64 bits. */
#include "base/hash.h"

#include <string.h>

#define HASH_LANES 4u      /* words under way at once: a multiplication takes a few cycles */

/* One-to-one in v for any h and in h for any v, so that a difference never vanishes.  The
 * factor is odd, with its bits spread evenly. */
static inline uint64_t hash_step(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9fb21c651e98df25u;
    return h ^ h >> 32;
}

uint64_t mk_hash_u64(uint64_t h, uint64_t v)
{
    h = hash_step(h, v);
    return hash_step(h, 0xa24baed4963ee407u);
}

uint64_t mk_hash(uint64_t h, const void *data, size_t n)
{
    const unsigned char *p = data;
    uint64_t lane[HASH_LANES], v;
    const size_t n_bytes = n;

    for (size_t i = 0; i < HASH_LANES; i++)
        lane[i] = h + i;
    for (; n >= sizeof(lane); n -= sizeof(lane), p += sizeof(lane))
        for (size_t i = 0; i < HASH_LANES; i++) {
            memcpy(&v, p + i * sizeof(v), sizeof(v));
            lane[i] = hash_step(lane[i], v);
        }
    for (size_t i = 0; i < HASH_LANES; i++)
        h = hash_step(h, lane[i]);
    for (; n >= sizeof(v); n -= sizeof(v), p += sizeof(v)) {
        memcpy(&v, p, sizeof(v));
        h = hash_step(h, v);
    }
    if (n > 0) {
        v = 0;
        memcpy(&v, p, n);
        h = hash_step(h, v);
    }
    return mk_hash_u64(h, n_bytes);
}
