/* One block of memory, laid out once in named pieces. */
#include "base/carve.h"

#include "base/checked.h"

void *mk_carve(struct mk_carve *c, size_t count, size_t item_size)
{
    const size_t at = c->size;
    size_t bytes, end;

    if (mk_mul(&bytes, count, item_size) != 0 || bytes > SIZE_MAX / 2
        || mk_add(&end, at, mk_round_up(bytes, 64)) != 0) {
        c->failed = 1;
        return NULL;
    }
    c->size = end;
    return c->base == NULL ? NULL : c->base + at;
}

void *mk_carve2(struct mk_carve *c, size_t a, size_t b, size_t item_size)
{
    size_t n = 0;

    if (mk_mul(&n, a, b) != 0)
        c->failed = 1;
    return mk_carve(c, n, item_size);
}
