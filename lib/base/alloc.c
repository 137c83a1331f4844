/* Every byte the library holds. */
#include "base/alloc.h"

#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/os.h"

#define ALLOC_ALIGN 64u

static void *alloc_raw(const struct mk_allocator *a, size_t size)
{
    return a->alloc != NULL ? a->alloc(a->user, size, ALLOC_ALIGN)
                            : mk_os_alloc(size, ALLOC_ALIGN);
}

static void alloc_raw_free(const struct mk_allocator *a, void *p, size_t size)
{
    if (a->alloc != NULL)
        a->free(a->user, p, size);
    else
        mk_os_free(p);
}

void *mk_alloc(const struct mk_allocator *a, size_t count, size_t size)
{
    size_t n, whole;

    if (mk_mul(&n, count, size) != 0 || mk_add(&whole, n, ALLOC_ALIGN) != 0) {
        mk_fail(MINKE_ENOMEM, "out of memory: %zu times %zu bytes", count, size);
        return NULL;
    }
    unsigned char *p = alloc_raw(a, whole);

    if (p == NULL) {
        mk_fail(MINKE_ENOMEM, "out of memory: %zu bytes", whole);
        return NULL;
    }
    memset(p, 0, whole);
    memcpy(p, &whole, sizeof(whole));
    return p + ALLOC_ALIGN;
}

void mk_free(const struct mk_allocator *a, void *ptr)
{
    size_t whole;

    if (ptr == NULL)
        return;
    unsigned char *p = (unsigned char *)ptr - ALLOC_ALIGN;

    memcpy(&whole, p, sizeof(whole));
    alloc_raw_free(a, p, whole);
}

int32_t mk_grow(const struct mk_allocator *a, void **items, size_t *capacity, size_t need,
                size_t item_size)
{
    if (need <= *capacity)
        return MINKE_OK;
    size_t n = *capacity < 8 ? 8 : *capacity;

    while (n < need)
        n = n > SIZE_MAX / 2 ? need : n * 2;
    void *grown = mk_alloc(a, n, item_size);

    if (grown == NULL)
        return MINKE_ENOMEM;
    if (*capacity > 0)
        memcpy(grown, *items, *capacity * item_size);
    mk_free(a, *items);
    *items = grown;
    *capacity = n;
    return MINKE_OK;
}

/* ---- Large blocks -------------------------------------------------------- */

int32_t mk_block_alloc(struct mk_block *out, const struct mk_allocator *a, size_t size)
{
    const size_t n = size > 0 ? size : 1;
    void *data = a->alloc != NULL ? a->alloc(a->user, n, MK_OS_HUGE) : mk_os_pages(n);

    if (data == NULL)
        return mk_fail_memory(n, "weights or caches");
    out->data = data;
    out->size = n;
    return MINKE_OK;
}

void mk_block_free(struct mk_block *b, const struct mk_allocator *a)
{
    if (b->data == NULL)
        return;
    if (a->alloc != NULL)
        a->free(a->user, b->data, b->size);
    else
        mk_os_pages_free(b->data, b->size);
    b->data = NULL;
    b->size = 0;
}

/* ---- Arena --------------------------------------------------------------- */

#define ARENA_MIN ((size_t)4 << 10)
#define ARENA_MAX ((size_t)1 << 20)

/* Its items follow behind, from byte 16. */
struct mk_arena_chunk {
    struct mk_arena_chunk *next;
};

void mk_arena_init(struct mk_arena *arena, const struct mk_allocator *a)
{
    *arena = (struct mk_arena){.a = a};
}

/* Room for n more bytes in the newest chunk; 0, or -1 with the error set. */
static int arena_room(struct mk_arena *arena, size_t n)
{
    const size_t usual = mk_min(mk_max(2 * arena->size, ARENA_MIN), ARENA_MAX);
    const size_t size = n < SIZE_MAX - 16 ? mk_max(usual, n + 16) : SIZE_MAX;

    if (n <= arena->end - arena->used)
        return 0;
    struct mk_arena_chunk *chunk = mk_alloc(arena->a, size, 1);

    if (chunk == NULL)
        return -1;
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    arena->used = 16;
    arena->end = arena->size = size;
    return 0;
}

void *mk_arena_alloc(struct mk_arena *arena, size_t count, size_t size)
{
    size_t n, whole;

    if (mk_mul(&n, count, size) != 0 || mk_add(&whole, n, 16) != 0)
        return mk_alloc(arena->a, count, size);     /* which says so */
    n = mk_round_up(n > 0 ? n : 1, 16);
    if (arena_room(arena, n) != 0)
        return NULL;
    arena->used += n;
    return (unsigned char *)arena->chunks + arena->used - n;
}

char *mk_arena_bytes(struct mk_arena *arena, size_t n)
{
    if (arena_room(arena, n) != 0)
        return NULL;
    arena->end -= n;
    return (char *)arena->chunks + arena->end;
}

char *mk_arena_text(struct mk_arena *arena, const char *text, size_t n)
{
    char *copy = n < SIZE_MAX ? mk_arena_bytes(arena, n + 1) : NULL;

    if (copy != NULL && n > 0)
        memcpy(copy, text, n);
    return copy;
}

void mk_arena_free(struct mk_arena *arena)
{
    struct mk_arena_chunk *chunk = arena->chunks;

    while (chunk != NULL) {
        struct mk_arena_chunk *next = chunk->next;

        mk_free(arena->a, chunk);
        chunk = next;
    }
    mk_arena_init(arena, arena->a);
}
