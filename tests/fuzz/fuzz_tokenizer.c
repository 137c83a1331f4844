/* Any bytes as tokenizer.json; one that opens encodes its own file, and decodes that.  And any
 * text is cut into pieces without gaps. */
#include "base/utf8.h"
#include "fuzz.h"
#include "text/pretoken.h"
#include "text/tokenizer.h"

#define MAX_TOKENS 4096

static int32_t next_piece(void *user, size_t begin, size_t end)
{
    size_t *at = user;

    FUZZ_CHECK(begin == *at && end > begin);
    *at = end;
    return MINKE_OK;
}

static void cut(const char *text, size_t len)
{
    for (int kind = MK_PRETOKEN_V3; kind <= MK_PRETOKEN_LLM; kind++) {
        size_t at = 0;

        FUZZ_CHECK(mk_pretoken_split((enum mk_pretoken_kind)kind, text, 0, len, next_piece, &at)
                   == MINKE_OK);
        FUZZ_CHECK(at == len);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int32_t ids[MAX_TOKENS];
    struct mk_env env = {.log = NULL};
    const struct mk_vocabulary v = {.json = {(const char *)data, size}, .bos = -1, .eos = -1};
    struct mk_tokenizer *tok = NULL;
    size_t n = 0, len = 0;
    const size_t text = size < MAX_TOKENS ? size : MAX_TOKENS;

    cut((const char *)data, mk_utf8_valid((const char *)data, size));
    if (mk_tokenizer_open(&tok, &env, &v) != MINKE_OK)
        return 0;
    if (mk_tokenizer_encode(tok, (const char *)data, text, MK_TOKENIZE_SPECIAL, NULL, 0, ids,
                            MAX_TOKENS, &n) == MINKE_OK)
        for (size_t i = 0; i < n; i++)
            FUZZ_CHECK(ids[i] >= 0 && (size_t)ids[i] < mk_tokenizer_size(tok) &&
                       mk_tokenizer_bytes(tok, ids[i], &len) != NULL);
    mk_tokenizer_free(tok);
    return 0;
}
