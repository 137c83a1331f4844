/* Any bytes as a GGUF file, through a host's reader; then its description and tokenizer. */
#include <string.h>

#include "format/gguf.h"
#include "fuzz.h"
#include "text/tokenizer.h"

struct gguf_bytes {
    const uint8_t *data;
    size_t size;
};

static int32_t memory_open(void *user, const char *path, void **file, uint64_t *size)
{
    (void)path;
    *file = user;
    *size = ((const struct gguf_bytes *)user)->size;
    return 0;
}

static int32_t memory_read(void *user, void *file, uint64_t offset, void *buffer, size_t n)
{
    const struct gguf_bytes *b = file;
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
    struct gguf_bytes bytes = {data, size};
    struct mk_env env = {.reader_open = memory_open, .reader_read = memory_read,
                         .reader_close = memory_close, .reader_user = &bytes};
    struct mk_tokenizer *tok = NULL;
    struct mk_vocabulary v;
    struct mk_config config;
    struct mk_arena arena;
    struct mk_gguf g;

    if (mk_gguf_open(&g, &env, "m-00001-of-00002.gguf") != MINKE_OK)
        return 0;
    for (size_t i = 0; i < g.n_tensors; i++)
        FUZZ_CHECK(g.tensors[i].offset <= size && g.tensors[i].size <= size - g.tensors[i].offset);
    for (size_t i = 0; i < g.n_values; i++)
        FUZZ_CHECK(mk_gguf_find(&g, g.values[i].key.data) == &g.values[i]);
    if (mk_gguf_config(&config, &g) == MINKE_OK)
        FUZZ_CHECK(config.num_hidden_layers > 0);
    mk_arena_init(&arena, &env.alloc);
    if (mk_gguf_vocabulary(&v, &arena, &g) == MINKE_OK
        && mk_tokenizer_open(&tok, &env, &v) == MINKE_OK)
        mk_tokenizer_free(tok);
    mk_arena_free(&arena);
    mk_gguf_close(&g);
    return 0;
}
