/* Any bytes as JSON: what is read must be written as JSON that reads the same. */
#include <string.h>

#include "base/json.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct mk_allocator a = {NULL, NULL, NULL};
    struct mk_arena arena;
    struct mk_text first, second;
    const struct mk_json *v = NULL;
    mk_arena_init(&arena, &a);
    mk_text_init(&first, &a);
    mk_text_init(&second, &a);
    if (mk_json_parse(&v, &arena, (const char *)data, size, "input") == MINKE_OK) {
        mk_text_add_json(&first, v);
        FUZZ_CHECK(first.failed || mk_json_parse(&v, &arena, first.data, first.len, "again") ==
                                       MINKE_OK);
        mk_text_add_json(&second, v);
        FUZZ_CHECK(first.failed || second.failed ||
                   (first.len == second.len && memcmp(first.data, second.data, first.len) == 0));
    }
    mk_text_free(&first);
    mk_text_free(&second);
    mk_arena_free(&arena);
    return 0;
}
