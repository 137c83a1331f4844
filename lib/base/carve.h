/* One block of memory, laid out once in named pieces. */
#ifndef MK_CARVE_H
#define MK_CARVE_H

#include <stddef.h>
#include <stdint.h>

/* Takes pieces aligned to 64 off a block; with base NULL it only counts. */
struct mk_carve {
    uint8_t *base;
    size_t size;       /* taken so far */
    int failed;        /* a size wrapped: the count is too large to be allocated */
};

/* count items of item_size bytes, and a * b of them; NULL while counting. */
void *mk_carve(struct mk_carve *c, size_t count, size_t item_size);
void *mk_carve2(struct mk_carve *c, size_t a, size_t b, size_t item_size);

#endif
