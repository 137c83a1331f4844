/* Any bytes as config.json. */
#include "format/config.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct mk_allocator a = {NULL, NULL, NULL};
    struct mk_arena arena;
    struct mk_config config;
    const struct mk_json *v = NULL;
    mk_arena_init(&arena, &a);
    if (mk_json_parse(&v, &arena, (const char *)data, size, "config.json") == MINKE_OK &&
        mk_config_read(&config, v) == MINKE_OK)
        FUZZ_CHECK(mk_config_check(&config) == MINKE_OK);
    mk_arena_free(&arena);
    return 0;
}
