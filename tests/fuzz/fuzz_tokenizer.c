/* Any bytes as tokenizer.json; one that opens encodes its own file, and decodes that.  And any
 * text is cut into pieces without gaps. */
#include "base/utf8.h"
#include "fuzz.h"
#include "text/pretoken.h"
#include "text/tokenizer.h"

#define MAX_TOKENS 4096

static int32_t next_piece(void *user, struct mk_view piece)
{
    const char **at = user;

    FUZZ_CHECK(piece.data == *at && piece.len > 0);
    *at += piece.len;
    return MINKE_OK;
}

static void cut(const char *text, size_t len)
{
    for (int kind = MK_PRETOKEN_V3; kind <= MK_PRETOKEN_LLM; kind++) {
        const char *at = text;

        FUZZ_CHECK(mk_pretoken_split((enum mk_pretoken_kind)kind, (struct mk_view){text, len},
                                     next_piece, &at) == MINKE_OK);
        FUZZ_CHECK(at == text + len);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int32_t ids[MAX_TOKENS];
    struct mk_env env = {.log = NULL};
    const struct mk_vocabulary v = {.json = {(const char *)data, size}, .bos = -1, .eos = -1};
    struct mk_tokenizer *tok = NULL;
    const struct mk_tokenize in = {{(const char *)data, size < MAX_TOKENS ? size : MAX_TOKENS},
                                   MINKE_TOKENIZE_SPECIAL, NULL, 0};
    size_t n = 0;

    cut((const char *)data, mk_utf8_valid((const char *)data, size));
    if (mk_tokenizer_open(&tok, &env, &v) != MINKE_OK)
        return 0;
    if (mk_tokenizer_encode(tok, &in, ids, MAX_TOKENS, &n) == MINKE_OK)
        for (size_t i = 0; i < n; i++)
            FUZZ_CHECK(ids[i] >= 0 && (size_t)ids[i] < mk_tokenizer_size(tok) &&
                       mk_tokenizer_bytes(tok, ids[i]).data != NULL);
    mk_tokenizer_free(tok);
    return 0;
}
