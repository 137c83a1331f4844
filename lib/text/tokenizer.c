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

struct mk_view mk_tokenizer_template(const struct mk_tokenizer *tok)
{
    return tok->chat_template;
}

/* NULL for an id without one. */
static const struct mk_bpe_token *tok_token(const struct mk_tokenizer *tok, int32_t id)
{
    return id >= 0 && (uint32_t)id < tok->bpe.n_tokens && tok->bpe.tokens[id].bytes != NULL
         ? &tok->bpe.tokens[id] : NULL;
}

struct mk_view mk_tokenizer_bytes(const struct mk_tokenizer *tok, int32_t id)
{
    const struct mk_bpe_token *t = tok_token(tok, id);

    return t != NULL ? mk_bpe_view(t) : (struct mk_view){"", 0};
}

int mk_tokenizer_is_special(const struct mk_tokenizer *tok, int32_t id)
{
    const struct mk_bpe_token *t = tok_token(tok, id);

    return t != NULL && (t->flags & MK_BPE_SPECIAL) != 0;
}

/* ---- Added tokens ---- */

/* Of items [lo, hi), which agree in depth bytes and have more: the first whose next byte is c or
 * a later one. */
static uint32_t tok_bound(const struct mk_added_set *set, uint32_t lo, uint32_t hi, size_t depth,
                          unsigned c)
{
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;

        if ((unsigned char)set->items[mid]->content.data[depth] < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Longest added token that text, which is not empty, begins with; NULL if none.  Narrows the
 * range of tokens that agree with the text, byte by byte. */
static const struct mk_added *tok_match(const struct mk_added_set *set, struct mk_view text)
{
    const unsigned char *s = (const unsigned char *)text.data;
    const struct mk_added *match = NULL;
    uint32_t lo = set->first[s[0]], hi = set->first[s[0] + 1];

    for (size_t depth = 1; lo < hi; depth++) {
        if (set->items[lo]->content.len == depth)
            match = set->items[lo++];
        if (depth == text.len)
            break;
        lo = tok_bound(set, lo, hi, depth, s[depth]);
        hi = tok_bound(set, lo, hi, depth, s[depth] + 1u);
    }
    return match;
}

int32_t mk_tokenizer_find(const struct mk_tokenizer *tok, struct mk_view text)
{
    for (int k = 0; k < 2 && text.len > 0; k++) {
        const struct mk_added *match = tok_match(&tok->added[k], text);

        if (match != NULL && match->content.len == text.len)
            return match->id;
    }
    return text.len > 0 ? mk_bpe_find(&tok->bpe, text) : -1;
}

/* ---- Encoding ---- */

struct tok_encoder {
    const struct mk_tokenizer *tok;
    struct mk_tokenize in;       /* its text valid UTF-8 */
    struct mk_bpe_work work;
};

static int32_t tok_piece(void *user, struct mk_view piece)
{
    return mk_bpe_encode(user, piece);
}

/* The first plain span that ends behind a position. */
static size_t tok_first_plain(const struct mk_tokenize *in, size_t position)
{
    size_t lo = 0, hi = in->n_plain;

    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;

        if (in->plain[mid].end <= position)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* The leftmost, then longest added token at or behind *at and before end, where it then stands; a
 * match ends before the next plain span and begins in none.  *p: the span that may be next. */
static const struct mk_added *tok_find(const struct mk_tokenize *in,
                                       const struct mk_added_set *set, size_t *at, size_t end,
                                       size_t *p)
{
    const struct mk_added *match = NULL;

    for (size_t i = *at; i < end && match == NULL && set->n > 0; i++) {
        const unsigned char c = (unsigned char)in->text.data[i];
        size_t limit = end;

        if (set->first[c] == set->first[c + 1])
            continue;
        while (*p < in->n_plain && in->plain[*p].end <= mk_max(i, in->plain[*p].begin))
            ++*p;
        if (*p < in->n_plain && in->plain[*p].begin <= i) {
            i = in->plain[*p].end - 1;
            continue;
        }
        if (*p < in->n_plain)
            limit = mk_min(end, in->plain[*p].begin);
        match = tok_match(set, mk_view_part(in->text, i, limit));
        *at = i;
    }
    return match;
}

/* Bytes [begin, end) with the added tokens of set k and later ones matched. */
static int32_t tok_segment(struct tok_encoder *enc, int k, size_t begin, size_t end)
{
    const struct mk_added *match;
    size_t p = tok_first_plain(&enc->in, begin);
    int32_t rc;

    if (k == 2)
        return mk_pretoken_split(enc->tok->kind, mk_view_part(enc->in.text, begin, end),
                                 tok_piece, &enc->work);
    for (size_t i = begin; (match = tok_find(&enc->in, &enc->tok->added[k], &i, end, &p)) != NULL;
         begin = i) {
        if ((i > begin && (rc = tok_segment(enc, k + 1, begin, i)) < 0)
            || (rc = mk_ids_add(&enc->work.out, match->id)) < 0)
            return rc;
        i += match->content.len;
    }
    return begin < end ? tok_segment(enc, k + 1, begin, end) : MINKE_OK;
}

/* A copy of a text whose broken parts are U+FFFD, with the plain spans moved along. */
struct tok_lossy {
    char *text;
    size_t len;
    struct mk_span *plain;
    size_t next;             /* the span under way */
};

/* The unit of n old bytes at i becomes the next m.  Borders inside a broken unit move outwards. */
static void tok_move_spans(struct tok_lossy *out, const struct mk_tokenize *in, size_t i,
                           size_t n, size_t m)
{
    const size_t j = out->len;

    for (; out->next < in->n_plain && in->plain[out->next].begin < i + n; out->next++) {
        const struct mk_span *from = &in->plain[out->next];
        struct mk_span *to = &out->plain[out->next];

        if (from->begin >= i)
            to->begin = j + (n == m ? from->begin - i : 0);
        if (from->end > i + n)
            return;
        to->end = j + (n == m ? from->end - i : m);
    }
}

/* in becomes what out holds. */
static int32_t tok_make_valid(struct tok_lossy *out, struct mk_tokenize *in,
                              const struct mk_allocator *a)
{
    size_t size;

    if (mk_mul(&size, in->text.len, 3) < 0)
        return mk_fail_memory(in->text.len, "text");
    out->text = mk_alloc(a, size, 1);
    out->plain = mk_alloc(a, in->n_plain, sizeof(*out->plain));
    if (out->text == NULL || out->plain == NULL)
        return MINKE_ENOMEM;
    for (size_t i = 0, n; i < in->text.len; i += n) {
        enum mk_utf8_state state;
        const char *unit = in->text.data + i;

        n = mk_utf8_unit(unit, in->text.len - i, &state);
        const size_t m = state == MK_UTF8_VALID ? n : sizeof(MK_UTF8_REPLACEMENT) - 1;

        memcpy(out->text + out->len, state == MK_UTF8_VALID ? unit : MK_UTF8_REPLACEMENT, m);
        tok_move_spans(out, in, i, n, m);
        out->len += m;
    }
    in->text = (struct mk_view){out->text, out->len};
    in->plain = out->plain;
    return MINKE_OK;
}

int32_t mk_tokenizer_encode(const struct mk_tokenizer *tok, const struct mk_tokenize *in,
                            int32_t *tokens, size_t capacity, size_t *n_out)
{
    struct tok_encoder enc = {
        .tok = tok, .in = *in,
        .work = {.bpe = &tok->bpe, .out = {.a = &tok->alloc, .limit = capacity}}
    };
    struct tok_lossy lossy = {.text = NULL};
    int32_t rc = MINKE_OK;

    if (mk_utf8_valid(in->text.data, in->text.len) < in->text.len)
        rc = tok_make_valid(&lossy, &enc.in, &tok->alloc);
    if (rc == MINKE_OK && in->text.len > 0)
        rc = tok_segment(&enc, (in->flags & MINKE_TOKENIZE_SPECIAL) != 0 ? 0 : 2, 0,
                         enc.in.text.len);
    if (rc == MINKE_OK) {
        *n_out = enc.work.out.n;
        if (*n_out > capacity)
            rc = mk_fail(MINKE_ENOSPC, "%zu tokens, room for %zu", *n_out, capacity);
        else if (*n_out > 0)
            mk_ids_copy(&enc.work.out, tokens);
    }
    mk_free(&tok->alloc, lossy.text);
    mk_free(&tok->alloc, lossy.plain);
    mk_bpe_work_free(&enc.work);
    return rc;
}
