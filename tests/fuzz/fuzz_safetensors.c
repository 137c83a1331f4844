/* Any bytes as a safetensors file, through a host's reader. */
#include <string.h>

#include "format/safetensors.h"
#include "fuzz.h"

struct bytes {
    const uint8_t *data;
    size_t size;
};

static int32_t memory_open(void *user, const char *path, void **file, uint64_t *size)
{
    (void)path;
    *file = user;
    *size = ((const struct bytes *)user)->size;
    return 0;
}

static int32_t memory_read(void *user, void *file, uint64_t offset, void *buffer, size_t n)
{
    const struct bytes *b = file;
    (void)user;
    FUZZ_CHECK(offset <= b->size && n <= b->size - offset);
    if (n > 0)
        memcpy(buffer, b->data + offset, n);
    return 0;
}

static void memory_close(void *user, void *file)
{
    (void)user;
    (void)file;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes bytes = {data, size};
    struct mk_env env = {.reader_open = memory_open, .reader_read = memory_read,
                         .reader_close = memory_close, .reader_user = &bytes};
    struct mk_arena arena;
    struct mk_file *file = NULL;
    struct mk_st_tensor *tensors = NULL;
    size_t n = 0;
    mk_arena_init(&arena, &env.alloc);
    if (mk_file_open(&file, &env, "model.safetensors") == MINKE_OK && file != NULL) {
        if (mk_st_read(&tensors, &n, &arena, file) == MINKE_OK)
            for (size_t i = 0; i < n; i++)
                FUZZ_CHECK(tensors[i].offset <= size &&
                           tensors[i].size <= size - tensors[i].offset);
        mk_file_close(file);
    }
    mk_arena_free(&arena);
    return 0;
}
