/* The public text functions. */
#include <string.h>

#include "base/error.h"
#include "base/utf8.h"
#include "model/handle.h"
#include "text/tokenizer.h"

/* Ids below this are asked for without error: the model's, or the tokenizer's when it was
 * opened alone. */
static size_t text_n_ids(const minke_context *ctx, const struct mk_tokenizer *tok)
{
    return ctx->flags & MINKE_CONTEXT_TOKENIZER_ONLY ? mk_tokenizer_size(tok)
                                                     : ctx->config.vocab_size;
}

const struct mk_tokenizer *mk_context_tokenizer(const minke_context *ctx)
{
    if (ctx->tokenizer == NULL)
        mk_fail(MINKE_EUNSUPPORTED, "%s", ctx->tokenizer_error);
    return ctx->tokenizer;
}

/* The tokenizer of a context that may be used here. */
static int32_t text_begin(const minke_context *ctx, const struct mk_tokenizer **tok)
{
    const int32_t rc = mk_context_check(ctx);

    if (rc < 0)
        return rc;
    *tok = mk_context_tokenizer(ctx);
    return *tok != NULL ? MINKE_OK : MINKE_EUNSUPPORTED;
}

static int32_t text_check_flags(uint32_t flags, uint32_t known)
{
    if ((flags & ~known) != 0)
        return mk_fail(MINKE_EVERSION, "flags 0x%x: this build knows 0x%x", flags, known);
    return MINKE_OK;
}

static int32_t text_check_id(int32_t id, size_t n_ids)
{
    if (id < 0 || (size_t)id >= n_ids)
        return mk_fail(MINKE_EINVAL, "token %d: the vocabulary has %zu", id, n_ids);
    return MINKE_OK;
}

int32_t minke_tokenize(const minke_context *ctx, const char *text, size_t text_len,
                       uint32_t flags, int32_t *tokens, size_t capacity, size_t *n_out)
{
    const struct mk_tokenizer *tok;
    const size_t n_bos = (flags & MINKE_TOKENIZE_BOS) != 0;
    const size_t room = capacity > n_bos ? capacity - n_bos : 0;
    const struct mk_tokenize in = {{text, text_len}, flags & MINKE_TOKENIZE_SPECIAL, NULL, 0};
    size_t n = 0;
    int32_t rc = text_begin(ctx, &tok);

    if (rc < 0 || (rc = text_check_flags(flags, MINKE_TOKENIZE_SPECIAL
                                                    | MINKE_TOKENIZE_BOS)) < 0)
        return rc;
    if ((text == NULL && text_len > 0) || (tokens == NULL && capacity > 0) || n_out == NULL)
        return mk_fail(MINKE_EINVAL, "text, tokens or n_out is NULL");
    if (n_bos > 0 && mk_tokenizer_bos(tok) < 0)
        return mk_fail(MINKE_EUNSUPPORTED, "no beginning-of-sentence token");
    rc = mk_tokenizer_encode(tok, &in, room > 0 ? tokens + n_bos : NULL, room, &n);
    if (rc < 0 && rc != MINKE_ENOSPC)
        return rc;
    *n_out = n + n_bos;
    if (n + n_bos > capacity)
        return mk_fail(MINKE_ENOSPC, "%zu tokens, room for %zu", n + n_bos, capacity);
    if (n_bos > 0)
        tokens[0] = mk_tokenizer_bos(tok);
    return MINKE_OK;
}

/* ---- Decoding ---- */

/* out NULL only counts. */
struct text_decoder {
    struct mk_utf8_stream stream;
    char *out;
    size_t n;
};

static void text_feed(struct text_decoder *d, struct mk_view bytes, int last)
{
    for (struct mk_view part; (part = mk_utf8_next(&d->stream, &bytes, last)).len > 0;) {
        if (d->out != NULL)
            memcpy(d->out + d->n, part.data, part.len);
        d->n += part.len;
    }
}

/* Decode into out (NULL = count); returns the bytes.  *n: how many tokens there are, and how
 * many these are. */
static size_t text_decode(const struct mk_tokenizer *tok, const int32_t *tokens, size_t *n,
                          uint32_t flags, char *out)
{
    struct text_decoder d = {.out = out};
    size_t n_whole = 0, n_used = 0;

    for (size_t i = 0; i < *n; i++) {
        if ((flags & MINKE_DETOKENIZE_SKIP_SPECIAL) == 0
            || !mk_tokenizer_is_special(tok, tokens[i]))
            text_feed(&d, mk_tokenizer_bytes(tok, tokens[i]), 0);
        if (d.stream.n_held == 0) {
            n_whole = d.n;
            n_used = i + 1;
        }
    }
    if ((flags & MINKE_DETOKENIZE_PARTIAL) != 0) {
        *n = n_used;
        return n_whole;
    }
    text_feed(&d, (struct mk_view){"", 0}, 1);
    return d.n;
}

int32_t minke_detokenize(const minke_context *ctx, const int32_t *tokens, size_t n,
                         uint32_t flags, char *text, size_t capacity, size_t *n_out,
                         size_t *n_used)
{
    const struct mk_tokenizer *tok;
    size_t n_ids, size, used = n;
    int32_t rc = text_begin(ctx, &tok);

    if (rc < 0 || (rc = text_check_flags(flags, MINKE_DETOKENIZE_SKIP_SPECIAL
                                                    | MINKE_DETOKENIZE_PARTIAL)) < 0)
        return rc;
    if ((tokens == NULL && n > 0) || (text == NULL && capacity > 0) || n_out == NULL)
        return mk_fail(MINKE_EINVAL, "tokens, text or n_out is NULL");
    n_ids = text_n_ids(ctx, tok);
    for (size_t i = 0; i < n; i++)
        if ((rc = text_check_id(tokens[i], n_ids)) < 0)
            return rc;
    size = text_decode(tok, tokens, &used, flags, NULL);
    *n_out = size;
    if (size > capacity)
        return mk_fail(MINKE_ENOSPC, "%zu bytes, room for %zu", size, capacity);
    /* Only whole tokens are written, which decode by themselves to just that text. */
    if (size > 0)
        text_decode(tok, tokens, &used, flags & ~MINKE_DETOKENIZE_PARTIAL, text);
    if (n_used != NULL)
        *n_used = used;
    return MINKE_OK;
}

int32_t minke_token_bytes(const minke_context *ctx, int32_t token, const char **bytes,
                          size_t *len)
{
    const struct mk_tokenizer *tok;
    int32_t rc = text_begin(ctx, &tok);

    if (rc < 0)
        return rc;
    if (bytes == NULL || len == NULL)
        return mk_fail(MINKE_EINVAL, "bytes or len is NULL");
    if ((rc = text_check_id(token, text_n_ids(ctx, tok))) < 0)
        return rc;
    const struct mk_view view = mk_tokenizer_bytes(tok, token);

    *bytes = view.data;
    *len = view.len;
    return MINKE_OK;
}

int32_t minke_token_find(const minke_context *ctx, const char *text, size_t text_len,
                         int32_t *token)
{
    const struct mk_tokenizer *tok;
    const int32_t rc = text_begin(ctx, &tok);

    if (rc < 0)
        return rc;
    if ((text == NULL && text_len > 0) || token == NULL)
        return mk_fail(MINKE_EINVAL, "text or token is NULL");
    *token = mk_tokenizer_find(tok, (struct mk_view){text, text_len});
    return MINKE_OK;
}
