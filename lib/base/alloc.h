/* Every byte the library holds comes from here: the host's allocator or the C library's. */
#ifndef MK_ALLOC_H
#define MK_ALLOC_H

#include <stddef.h>
#include <stdint.h>

#include "minke.h"

/* alloc NULL means the C library. */
struct mk_allocator {
    minke_alloc_fn alloc;
    minke_free_fn free;
    void *user;
};

/* count * size bytes, zeroed, aligned to 64.  NULL with the thread's error set to
 * MINKE_ENOMEM when it fails or the product wraps; count or size 0 gives a valid block.
 * The size is kept in front of the block, so free needs none. */
void *mk_alloc(const struct mk_allocator *a, size_t count, size_t size);
void mk_free(const struct mk_allocator *a, void *ptr);

/* Grow (or make, from NULL) an array of *capacity items to at least need items, doubling.
 * The old block is kept when it fails.  New items are zero.  Returns MINKE_OK or
 * MINKE_ENOMEM. */
int32_t mk_grow(const struct mk_allocator *a, void **items, size_t *capacity, size_t need,
                size_t item_size);

/* The one place where const comes off: what p points to is memory that may be written, and is not
 * but for a count of references, or is only read by an interface that does not say so. */
static inline void *mk_unconst(const void *p)
{
    return (void *)(uintptr_t)p;
}

/* A large block, aligned to 2 MiB, from huge pages where the system gives them.  Not
 * zeroed: first touch decides which NUMA node holds it. */
struct mk_block {
    void *data;
    size_t size;
};
int32_t mk_block_alloc(struct mk_block *out, const struct mk_allocator *a, size_t size);
void mk_block_free(struct mk_block *b, const struct mk_allocator *a);

/* Many small things with one life: freed together. */
struct mk_arena_chunk;
struct mk_arena {
    const struct mk_allocator *a;
    struct mk_arena_chunk *chunks;
    size_t used, end, size;      /* of the newest chunk: bytes [used, end) of size are free */
};
void mk_arena_init(struct mk_arena *arena, const struct mk_allocator *a);
/* As mk_alloc, aligned to 16, living until mk_arena_free. */
void *mk_arena_alloc(struct mk_arena *arena, size_t count, size_t size);
/* n bytes, zero, aligned to nothing. */
char *mk_arena_bytes(struct mk_arena *arena, size_t n);
/* Copy of n bytes with a NUL behind. */
char *mk_arena_text(struct mk_arena *arena, const char *text, size_t n);
void mk_arena_free(struct mk_arena *arena);

#endif
