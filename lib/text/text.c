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
    size_t n = 0;
    int32_t rc = text_begin(ctx, &tok);

    if (rc < 0 || (rc = text_check_flags(flags, MINKE_TOKENIZE_SPECIAL
                                                    | MINKE_TOKENIZE_BOS)) < 0)
        return rc;
    if ((text == NULL && text_len > 0) || (tokens == NULL && capacity > 0) || n_out == NULL)
        return mk_fail(MINKE_EINVAL, "text, tokens or n_out is NULL");
    if (n_bos > 0 && mk_tokenizer_bos(tok) < 0)
        return mk_fail(MINKE_EUNSUPPORTED, "no beginning-of-sentence token");
    rc = mk_tokenizer_encode(tok, text, text_len,
                             (flags & MINKE_TOKENIZE_SPECIAL) != 0 ? MK_TOKENIZE_SPECIAL : 0,
                             NULL, 0, room > 0 ? tokens + n_bos : NULL, room, &n);
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

/* Bytes of the code point that has begun wait in pending; out NULL only counts. */
struct text_decoder {
    char *out;
    size_t n;
    char pending[4];
    size_t n_pending;
};

static void text_write(struct text_decoder *d, const char *bytes, size_t n)
{
    if (d->out != NULL)
        memcpy(d->out + d->n, bytes, n);
    d->n += n;
}

/* Write what pending holds in full; what is broken becomes U+FFFD, and with last set what is
 * incomplete too. */
static void text_settle(struct text_decoder *d, int last)
{
    while (d->n_pending > 0) {
        enum mk_utf8_state state;
        const size_t n = mk_utf8_unit(d->pending, d->n_pending, &state);

        if (state == MK_UTF8_INCOMPLETE && !last)
            return;
        if (state == MK_UTF8_VALID)
            text_write(d, d->pending, n);
        else
            text_write(d, "\357\277\275", 3);
        d->n_pending -= n;
        memmove(d->pending, d->pending + n, d->n_pending);
    }
}

static void text_feed(struct text_decoder *d, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n;) {
        const size_t valid = d->n_pending == 0 ? mk_utf8_valid(bytes + i, n - i) : 0;

        text_write(d, bytes + i, valid);
        i += valid;
        if (i < n) {
            d->pending[d->n_pending++] = bytes[i++];
            text_settle(d, 0);
        }
    }
}

/* Decode into out (NULL = count); returns the bytes.  *n_used: how many tokens these are. */
static size_t text_decode(const struct mk_tokenizer *tok, const int32_t *tokens, size_t n,
                          uint32_t flags, char *out, size_t *n_used)
{
    struct text_decoder d = {.out = out};
    size_t n_whole = 0;

    *n_used = 0;
    for (size_t i = 0; i < n; i++) {
        size_t len;
        const char *bytes = mk_tokenizer_bytes(tok, tokens[i], &len);

        if ((flags & MINKE_DETOKENIZE_SKIP_SPECIAL) == 0
            || !mk_tokenizer_is_special(tok, tokens[i]))
            text_feed(&d, bytes, len);
        if (d.n_pending == 0) {
            n_whole = d.n;
            *n_used = i + 1;
        }
    }
    if ((flags & MINKE_DETOKENIZE_PARTIAL) != 0)
        return n_whole;
    *n_used = n;
    text_settle(&d, 1);
    return d.n;
}

int32_t minke_detokenize(const minke_context *ctx, const int32_t *tokens, size_t n,
                         uint32_t flags, char *text, size_t capacity, size_t *n_out,
                         size_t *n_used)
{
    const struct mk_tokenizer *tok;
    size_t n_ids, size, used;
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
    size = text_decode(tok, tokens, n, flags, NULL, &used);
    *n_out = size;
    if (size > capacity)
        return mk_fail(MINKE_ENOSPC, "%zu bytes, room for %zu", size, capacity);
    /* Only whole tokens are written, which decode by themselves to just that text. */
    if (size > 0)
        text_decode(tok, tokens, used, flags & ~MINKE_DETOKENIZE_PARTIAL, text, &used);
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
    *bytes = mk_tokenizer_bytes(tok, token, len);
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
    *token = mk_tokenizer_find(tok, text, text_len);
    return MINKE_OK;
}
