/* Any bytes as messages, in every encoding: a prompt or an error, and the same twice. */
#include <string.h>

#include "fuzz.h"
#include "minke.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char first[1 << 16], second[1 << 16];

    for (size_t i = 0; minke_chat_encoding_name(i) != NULL; i++) {
        minke_chat_params p;
        size_t n = 0, m = 0;

        minke_chat_params_init(&p, sizeof(p));
        p.encoding = minke_chat_encoding_name(i);
        p.thinking = size % 3;
        p.retention = (uint32_t)(size % 4);
        if (minke_chat_render(NULL, (const char *)data, size, &p, first, sizeof(first), &n) < 0)
            continue;
        FUZZ_CHECK(minke_chat_render(NULL, (const char *)data, size, &p, second, sizeof(second),
                                     &m) == MINKE_OK);
        FUZZ_CHECK(n == m && memcmp(first, second, n) == 0);
    }
    return 0;
}
