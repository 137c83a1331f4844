/* Encoding: added tokens, pre-tokenizer, byte-pair encoding.  Look-ups. */
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/utf8.h"
#include "text/tokenizer_internal.h"

void mk_tokenizer_free(struct mk_tokenizer *tok)
{
    if (tok == NULL)
        return;
    const struct mk_allocator alloc = tok->alloc;

    mk_arena_free(&tok->arena);
    mk_free(&alloc, tok);
}

const char *mk_tokenizer_kind(const struct mk_tokenizer *tok)
{
    return mk_pretoken_name(tok->kind);
}

size_t mk_tokenizer_size(const struct mk_tokenizer *tok)
{
    return tok->bpe.n_tokens;
}

int32_t mk_tokenizer_bos(const struct mk_tokenizer *tok)
{
    return tok->bos;
}

int32_t mk_tokenizer_eos(const struct mk_tokenizer *tok)
{
    return tok->eos;
}

const char *mk_tokenizer_template(const struct mk_tokenizer *tok, size_t *len)
{
    *len = tok->chat_template_len;
    return tok->chat_template;
}

const char *mk_tokenizer_bytes(const struct mk_tokenizer *tok, int32_t id, size_t *len)
{
    const struct mk_bpe_token *t;

    *len = 0;
    if (id < 0 || (uint32_t)id >= tok->bpe.n_tokens)
        return "";
    t = &tok->bpe.tokens[id];
    *len = t->len;
    return t->bytes != NULL ? t->bytes : "";
}

int mk_tokenizer_is_special(const struct mk_tokenizer *tok, int32_t id)
{
    return id >= 0 && (uint32_t)id < tok->bpe.n_tokens
        && (tok->bpe.tokens[id].flags & MK_BPE_SPECIAL) != 0;
}

int32_t mk_tokenizer_find(const struct mk_tokenizer *tok, const char *text, size_t len)
{
    for (int k = 0; k < 2 && len > 0; k++) {
        const struct mk_added *match = mk_added_match(&tok->added[k], text, 0, len);

        if (match != NULL && match->content.len == len)
            return match->id;
    }
    return len > 0 ? mk_bpe_find(&tok->bpe, text, len) : -1;
}

/* ---- Added tokens ---- */

/* Narrows the range of tokens that agree with the text, byte by byte. */
const struct mk_added *mk_added_match(const struct mk_added_set *set, const char *text,
                                      size_t i, size_t limit)
{
    const unsigned char *s = (const unsigned char *)text;
    const struct mk_added *match = NULL;
    uint32_t lo = set->first[s[i]], hi = set->first[s[i] + 1];

    for (size_t depth = 1; lo < hi; depth++) {
        uint32_t left = lo, right = hi;

        if (set->items[lo].content.len == depth)
            match = &set->items[lo++];
        if (lo == hi || i + depth == limit)
            break;
        for (right = hi, left = lo; left < right;) {
            const uint32_t mid = left + (right - left) / 2;

            if ((unsigned char)set->items[mid].content.data[depth] < s[i + depth])
                left = mid + 1;
            else
                right = mid;
        }
        lo = left;
        for (right = hi; left < right;) {
            const uint32_t mid = left + (right - left) / 2;

            if ((unsigned char)set->items[mid].content.data[depth] <= s[i + depth])
                left = mid + 1;
            else
                right = mid;
        }
        hi = left;
    }
    return match;
}

/* ---- Encoding ---- */

struct tok_encoder {
    const struct mk_tokenizer *tok;
    const char *text;            /* valid UTF-8 */
    const struct mk_span *plain;
    size_t n_plain;
    struct mk_bpe_work work;
    struct mk_ids out;
};

static int32_t tok_piece(void *user, size_t begin, size_t end)
{
    struct tok_encoder *enc = user;

    return mk_bpe_encode(&enc->tok->bpe, &enc->work, enc->text + begin, end - begin,
                         &enc->out);
}

/* The first plain span that ends behind a position. */
static size_t tok_first_plain(const struct tok_encoder *enc, size_t position)
{
    size_t lo = 0, hi = enc->n_plain;

    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;

        if (enc->plain[mid].end <= position)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Bytes [begin, end) with the added tokens of set k and later ones matched.  Leftmost, then
 * longest; a match ends before the next plain span and begins in none. */
static int32_t tok_segment(struct tok_encoder *enc, int k, size_t begin, size_t end)
{
    const struct mk_added_set *set = k < 2 ? &enc->tok->added[k] : NULL;
    size_t rest = begin, i = begin, p = tok_first_plain(enc, begin);
    int32_t rc = MINKE_OK;

    if (k == 2)
        return mk_pretoken_split(enc->tok->kind, enc->text, begin, end, tok_piece, enc);
    while (i < end && set->n > 0) {
        const unsigned char c = (unsigned char)enc->text[i];
        const struct mk_added *match;
        size_t limit = end;

        if (set->first[c] == set->first[c + 1]) {
            i++;
            continue;
        }
        while (p < enc->n_plain && enc->plain[p].end <= mk_max(i, enc->plain[p].begin))
            p++;
        if (p < enc->n_plain && enc->plain[p].begin <= i) {
            i = enc->plain[p].end;
            continue;
        }
        if (p < enc->n_plain)
            limit = mk_min(end, enc->plain[p].begin);
        match = mk_added_match(set, enc->text, i, limit);
        if (match == NULL) {
            i++;
            continue;
        }
        if (i > rest && (rc = tok_segment(enc, k + 1, rest, i)) < 0)
            return rc;
        if ((rc = mk_ids_add(&enc->out, match->id)) < 0)
            return rc;
        i += match->content.len;
        rest = i;
    }
    return rest < end ? tok_segment(enc, k + 1, rest, end) : MINKE_OK;
}

/* A copy of text whose broken parts are U+FFFD, with the plain spans moved along. */
struct tok_lossy {
    char *text;
    size_t len;
    struct mk_span *plain;
};

/* The unit of old bytes [i, i + n) stands at new bytes [j, j + m).  Borders inside a broken
 * unit move outwards. */
static void tok_move_spans(struct tok_lossy *out, const struct mk_span *plain, size_t n_plain,
                           size_t *next, size_t i, size_t n, size_t j, size_t m)
{
    for (size_t p = *next; p < n_plain && plain[p].begin < i + n; p++) {
        if (plain[p].begin >= i)
            out->plain[p].begin = j + (n == m ? plain[p].begin - i : 0);
        if (plain[p].end <= i + n)
            out->plain[p].end = j + (n == m ? plain[p].end - i : m);
        else
            break;
        *next = p + 1;
    }
}

static int32_t tok_lossy_copy(struct tok_lossy *out, const struct mk_allocator *a,
                              const char *text, size_t len, const struct mk_span *plain,
                              size_t n_plain)
{
    size_t size, next = 0;

    if (mk_mul(&size, len, 3) < 0)
        return mk_fail_memory(len, "text");
    out->text = mk_alloc(a, size, 1);
    out->plain = mk_alloc(a, n_plain, sizeof(*out->plain));
    if (out->text == NULL || out->plain == NULL)
        return MINKE_ENOMEM;
    for (size_t i = 0, n; i < len; i += n) {
        enum mk_utf8_state state;
        size_t m = 3;

        n = mk_utf8_unit(text + i, len - i, &state);
        if (state == MK_UTF8_VALID)
            memcpy(out->text + out->len, text + i, m = n);
        else
            memcpy(out->text + out->len, "\357\277\275", m);
        tok_move_spans(out, plain, n_plain, &next, i, n, out->len, m);
        out->len += m;
    }
    return MINKE_OK;
}

/* Hand over what was encoded. */
static int32_t tok_output(const struct tok_encoder *enc, int32_t *tokens, size_t capacity,
                          size_t *n_out)
{
    *n_out = enc->out.n;
    if (enc->out.n > capacity)
        return mk_fail(MINKE_ENOSPC, "%zu tokens, room for %zu", enc->out.n, capacity);
    if (enc->out.n > 0)
        mk_ids_copy(&enc->out, tokens);
    return MINKE_OK;
}

int32_t mk_tokenizer_encode(const struct mk_tokenizer *tok, const char *text, size_t len,
                            uint32_t flags, const struct mk_span *plain, size_t n_plain,
                            int32_t *tokens, size_t capacity, size_t *n_out)
{
    struct tok_encoder enc = {
        .tok = tok, .text = text, .plain = plain, .n_plain = n_plain,
        .work = {.a = &tok->alloc}, .out = {.a = &tok->alloc, .limit = capacity}
    };
    struct tok_lossy lossy = {NULL, 0, NULL};
    int32_t rc = MINKE_OK;

    if (len > 0 && mk_utf8_valid(text, len) < len) {
        rc = tok_lossy_copy(&lossy, &tok->alloc, text, len, plain, n_plain);
        enc.text = lossy.text;
        enc.plain = lossy.plain;
        len = lossy.len;
    }
    if (rc == MINKE_OK && len > 0)
        rc = tok_segment(&enc, (flags & MK_TOKENIZE_SPECIAL) != 0 ? 0 : 2, 0, len);
    if (rc == MINKE_OK)
        rc = tok_output(&enc, tokens, capacity, n_out);
    mk_free(&tok->alloc, lossy.text);
    mk_free(&tok->alloc, lossy.plain);
    mk_bpe_work_free(&enc.work);
    mk_ids_free(&enc.out);
    return rc;
}
