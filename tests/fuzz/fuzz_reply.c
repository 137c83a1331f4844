/* Any bytes as a reply, whole and byte by byte: the same message. */
#include <string.h>

#include "fuzz.h"
#include "minke.h"

static size_t reply_of(const char *encoding, uint32_t thinking, const char *text, size_t n,
                       size_t step, char *message, size_t size)
{
    minke_reply_params p;
    minke_reply *r = NULL;
    size_t n_out = 0;

    minke_reply_params_init(&p, sizeof(p));
    p.encoding = encoding;
    p.thinking = thinking;
    FUZZ_CHECK(minke_reply_open(&r, NULL, &p) == MINKE_OK);
    for (size_t i = 0; i < n; i += step)
        FUZZ_CHECK(minke_reply_text(r, text + i, step < n - i ? step : n - i) == MINKE_OK);
    FUZZ_CHECK(minke_reply_finish(r, NULL) == MINKE_OK);
    if (minke_reply_message(r, message, size, &n_out) < 0)
        n_out = 0;
    minke_reply_free(r);
    return n_out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char whole[1 << 16], bytes[1 << 16];

    for (size_t i = 0; minke_chat_encoding_name(i) != NULL; i++) {
        const char *name = minke_chat_encoding_name(i), *text = (const char *)data;
        const uint32_t thinking = 1 + size % 2;
        const size_t n = reply_of(name, thinking, text, size, size + 1, whole, sizeof(whole));
        const size_t m = reply_of(name, thinking, text, size, 1, bytes, sizeof(bytes));

        FUZZ_CHECK(n == m && memcmp(whole, bytes, n) == 0);
    }
    return 0;
}
