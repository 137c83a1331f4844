/*
 * Reading a tokenizer: tokenizer.json and tokenizer_config.json as Hugging Face tokenizers 0.23
 * and transformers write them, or the lists of GGUF metadata.
 *
 * Either becomes texts by id and merges by rank in scratch memory; what encoding needs is then
 * built from these.
 */
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/sort.h"
#include "base/utf8.h"
#include "text/tokenizer_internal.h"

#define TOKREAD_RAW        16u    /* added, matched in the text as it is */
#define TOKREAD_NORMALIZED 32u    /* added, matched in normalized text, after the others */

#define TOKREAD_BOS "<\357\275\234begin\342\226\201of\342\226\201sentence\357\275\234>"
#define TOKREAD_EOS "<\357\275\234end\342\226\201of\342\226\201sentence\357\275\234>"

#define TOKREAD_N_CHARACTERS 324  /* 256 byte symbols lie below */

struct tokread_merge {
    struct mk_view left, right;
};

/* Where the id of a special token comes from, in this order; what lacks is -1 or empty. */
struct tokread_special {
    int32_t id;                   /* as the lists say */
    struct mk_view text;          /* as the settings say */
    int32_t last;                 /* as the model's config says, where the family's is unknown */
};

struct tokread {
    struct mk_tokenizer *tok;     /* NULL: texts, flags and merges are all that is wanted */
    struct mk_arena *scratch;
    enum mk_pretoken_kind kind;
    struct mk_view *texts;       /* (n_tokens,) by id; data NULL = none */
    uint32_t *flags;              /* (n_tokens,) MK_BPE_*, TOKREAD_* */
    size_t n_tokens;
    struct tokread_merge *merges; /* (n_merges,) by rank */
    size_t n_merges;
    struct tokread_special bos, eos;
    struct mk_view chat_template; /* data NULL = none */
    int16_t byte_of[TOKREAD_N_CHARACTERS];   /* by code point; -1 = none */
};

/* Printable Latin-1 characters stand for their own byte, and the other bytes for the characters
 * from U+0100 on.  Reference: bytes_to_unicode, GPT-2 src/encoder.py @9b63575. */
static void tokread_byte_table(struct tokread *r)
{
    int next = 256;

    memset(r->byte_of, 0xFF, sizeof(r->byte_of));
    for (int b = 0; b < 256; b++) {
        const int printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;

        r->byte_of[printable ? b : next++] = (int16_t)b;
    }
}

/* Bytes that a text in byte-level characters stands for.  Returns whether every character
 * stands for one; otherwise the text stands for itself.  out holds text.len bytes. */
static int tokread_map(const struct tokread *r, struct mk_view text, char *out, size_t *len)
{
    const unsigned char *s = (const unsigned char *)text.data;

    *len = 0;
    for (size_t i = 0, n; i < text.len; i += n) {
        const uint32_t c = mk_utf8_decode(s + i, &n);

        if (c >= TOKREAD_N_CHARACTERS || r->byte_of[c] < 0) {
            memcpy(out, text.data, text.len);
            *len = text.len;
            return 0;
        }
        out[(*len)++] = (char)r->byte_of[c];
    }
    return 1;
}

/* ---- What encoding needs ---- */

static int32_t tokread_build_tokens(struct tokread *r)
{
    struct mk_bpe *bpe = &r->tok->bpe;

    bpe->tokens = mk_arena_alloc(&r->tok->arena, r->n_tokens, sizeof(*bpe->tokens));
    if (bpe->tokens == NULL)
        return MINKE_ENOMEM;
    bpe->n_tokens = (uint32_t)r->n_tokens;
    for (size_t id = 0; id < r->n_tokens; id++) {
        struct mk_bpe_token *t = &bpe->tokens[id];
        size_t len;
        char *bytes;

        if (r->texts[id].data == NULL)
            continue;
        bytes = mk_arena_bytes(&r->tok->arena, r->texts[id].len + 1);
        if (bytes == NULL)
            return MINKE_ENOMEM;
        t->flags = r->flags[id] & (MK_BPE_VOCAB | MK_BPE_SPECIAL);
        if (tokread_map(r, r->texts[id], bytes, &len))
            t->flags |= MK_BPE_MAPPED;
        bytes[len] = '\0';
        t->bytes = bytes;
        t->len = (uint32_t)len;
    }
    return MINKE_OK;
}

static int tokread_compare(const void *x, const void *y)
{
    const struct mk_view a = ((const struct mk_added *)x)->content;
    const struct mk_view b = ((const struct mk_added *)y)->content;
    const int order = memcmp(a.data, b.data, mk_min(a.len, b.len));

    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* The added tokens that have the flag. */
static int32_t tokread_collect(struct tokread *r, struct mk_added_set *set, uint32_t flag)
{
    struct mk_added *item;
    uint32_t n = 0;

    for (size_t id = 0; id < r->n_tokens; id++)
        n += (r->flags[id] & flag) != 0;
    item = mk_arena_alloc(&r->tok->arena, n, sizeof(*item));
    set->items = mk_arena_alloc(&r->tok->arena, n, sizeof(const struct mk_added *));
    if (item == NULL || set->items == NULL)
        return MINKE_ENOMEM;
    for (size_t id = 0; id < r->n_tokens; id++) {
        const struct mk_view text = r->texts[id];
        const char *copy;

        if ((r->flags[id] & flag) == 0 || text.len == 0)
            continue;
        if (text.len > MK_ADDED_MAX_LEN)
            return mk_fail(MINKE_EUNSUPPORTED, "added token %zu: %zu bytes; %d are accepted",
                           id, text.len, MK_ADDED_MAX_LEN);
        if ((copy = mk_arena_text(&r->tok->arena, text.data, text.len)) == NULL)
            return MINKE_ENOMEM;
        *item = (struct mk_added){{copy, text.len}, (int32_t)id};
        set->items[set->n++] = item++;
    }
    return MINKE_OK;
}

static int32_t tokread_build_added(struct tokread *r, struct mk_added_set *set, uint32_t flag)
{
    const int32_t rc = tokread_collect(r, set, flag);

    if (rc < 0)
        return rc;
    mk_sort((const void **)set->items, set->n, tokread_compare);
    for (uint32_t i = 0; i < set->n; i++) {
        if (i > 0 && tokread_compare(set->items[i - 1], set->items[i]) == 0)
            return mk_fail(MINKE_EFORMAT, "added tokens %d and %d are the same",
                           set->items[i - 1]->id, set->items[i]->id);
        set->first[(unsigned char)set->items[i]->content.data[0] + 1] = i + 1;
    }
    for (int c = 1; c <= 256; c++)
        if (set->first[c] < set->first[c - 1])
            set->first[c] = set->first[c - 1];
    return MINKE_OK;
}

static int32_t tokread_build_merges(struct tokread *r)
{
    char left[2 * MK_ADDED_MAX_LEN], right[2 * MK_ADDED_MAX_LEN];
    struct mk_view a = {left, 0}, b = {right, 0};
    int32_t rc = MINKE_OK;

    for (size_t rank = 0; rank < r->n_merges && rc == MINKE_OK; rank++) {
        const struct tokread_merge *m = &r->merges[rank];

        if (m->left.len > sizeof(left) || m->right.len > sizeof(right))
            return mk_fail(MINKE_EUNSUPPORTED, "merge %zu: parts of %zu and %zu bytes", rank,
                           m->left.len, m->right.len);
        if (!tokread_map(r, m->left, left, &a.len) || !tokread_map(r, m->right, right, &b.len))
            return mk_fail(MINKE_EFORMAT, "merge %zu: \"%.*s\" \"%.*s\" names no token", rank,
                           MK_SHOW(m->left), MK_SHOW(m->right));
        rc = mk_bpe_add_merge(&r->tok->bpe, (uint32_t)rank, a, b);
    }
    return rc;
}

/* An added token may repeat a text of the vocabulary only under the same id. */
static int32_t tokread_check_added(const struct tokread *r, const struct mk_added_set *set)
{
    const struct mk_bpe *bpe = &r->tok->bpe;

    for (uint32_t i = 0; i < set->n; i++) {
        const int32_t id = set->items[i]->id;
        const int32_t other = mk_bpe_find(bpe, mk_bpe_view(&bpe->tokens[id]));

        if (other >= 0 && other != id && mk_view_equal(r->texts[other], r->texts[id]))
            return mk_fail(MINKE_EFORMAT, "added token %d is token %d of the vocabulary", id,
                           other);
    }
    return MINKE_OK;
}

static int32_t tokread_find_special(const struct mk_tokenizer *tok,
                                    const struct tokread_special *from, const char *own)
{
    int32_t id = from->id;

    if (id < 0)
        id = mk_tokenizer_find(tok, from->text);
    if (id < 0)
        id = mk_tokenizer_find(tok, mk_view(own));
    return id >= 0 ? id : from->last;
}

static int32_t tokread_build(struct tokread *r)
{
    struct mk_tokenizer *tok = r->tok;
    int32_t rc;

    if ((rc = tokread_build_tokens(r)) < 0
        || (rc = tokread_build_added(r, &tok->added[0], TOKREAD_RAW)) < 0
        || (rc = tokread_build_added(r, &tok->added[1], TOKREAD_NORMALIZED)) < 0
        || (rc = mk_bpe_init(&tok->bpe, &tok->arena, (uint32_t)r->n_merges)) < 0
        || (rc = tokread_check_added(r, &tok->added[0])) < 0
        || (rc = tokread_check_added(r, &tok->added[1])) < 0
        || (rc = tokread_build_merges(r)) < 0
        || (rc = mk_bpe_finish(&tok->bpe, &tok->alloc)) < 0)
        return rc;
    tok->kind = r->kind;
    tok->bos = tokread_find_special(tok, &r->bos, TOKREAD_BOS);
    tok->eos = tokread_find_special(tok, &r->eos, TOKREAD_EOS);
    if (r->chat_template.data == NULL)
        return MINKE_OK;
    tok->chat_template = (struct mk_view){
        mk_arena_text(&tok->arena, r->chat_template.data, r->chat_template.len),
        r->chat_template.len};
    return tok->chat_template.data == NULL ? MINKE_ENOMEM : MINKE_OK;
}

/* ---- What is read into ---- */

/* Once the lists' lengths are known. */
static int32_t tokread_room(struct tokread *r)
{
    r->texts = mk_arena_alloc(r->scratch, r->n_tokens, sizeof(*r->texts));
    r->flags = mk_arena_alloc(r->scratch, r->n_tokens, sizeof(*r->flags));
    r->merges = mk_arena_alloc(r->scratch, r->n_merges, sizeof(*r->merges));
    return r->texts != NULL && r->flags != NULL && r->merges != NULL ? MINKE_OK : MINKE_ENOMEM;
}

/* "left right" */
static int32_t tokread_split_merge(struct tokread *r, size_t rank, struct mk_view text)
{
    const struct mk_view space = MK_VIEW(" ");
    const size_t at = mk_view_find(text, 0, space);

    if (at == text.len || mk_view_find(text, at + 1, space) < text.len)
        return mk_fail(MINKE_EFORMAT, "merge %zu: \"%.*s\" is not two tokens", rank,
                       MK_SHOW(text));
    r->merges[rank] = (struct tokread_merge){mk_view_part(text, 0, at),
                                             mk_view_part(text, at + 1, text.len)};
    return MINKE_OK;
}

/* ---- tokenizer.json ---- */

static int tokread_is_null(const struct mk_json *v)
{
    return v == NULL || v->type == MK_JSON_NULL;
}

/* Null, an empty text, or false: what a model without that feature says. */
static int tokread_is_off(const struct mk_json *v)
{
    return tokread_is_null(v) || v->type == MK_JSON_FALSE || mk_json_is(v, "");
}

/* A part of the file, by its type. */
static int32_t tokread_refuse(const char *part, const struct mk_json *v, const char *accepted)
{
    const struct mk_json *type = mk_json_get(v, "type");

    return mk_fail(MINKE_EUNSUPPORTED, "tokenizer.json: %s %s: %s is accepted", part,
                   type != NULL && type->type == MK_JSON_STRING ? type->text.data : "?", accepted);
}

/* Everything around vocabulary and merges that would change what they mean. */
static int32_t tokread_check_kind(const struct mk_json *root, const struct mk_json *model)
{
    static const char *const off[] = {
        "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback",
        "ignore_merges"
    };
    const struct mk_json *v = mk_json_get(root, "normalizer"), *list;
    double dropout;

    list = mk_json_get(v, "normalizers");
    if (!tokread_is_null(v) && !(list != NULL && list->type == MK_JSON_ARRAY
                                 && list->n_items == 0))
        return tokread_refuse("normalizer", v, "none");
    v = mk_json_get(root, "decoder");
    if (!tokread_is_null(v) && !mk_json_is(mk_json_get(v, "type"), "ByteLevel"))
        return tokread_refuse("decoder", v, "ByteLevel");
    if (!mk_json_is(mk_json_get(model, "type"), "BPE"))
        return tokread_refuse("model", model, "BPE");
    v = mk_json_get(model, "dropout");
    if (!tokread_is_null(v) && (mk_json_double(v, &dropout) < 0 || dropout != 0.0))
        return mk_fail(MINKE_EUNSUPPORTED, "tokenizer.json: model dropout: none is accepted");
    for (size_t i = 0; i < MK_COUNT(off); i++)
        if (!tokread_is_off(mk_json_get(model, off[i])))
            return mk_fail(MINKE_EUNSUPPORTED, "tokenizer.json: model %s: not accepted", off[i]);
    return MINKE_OK;
}

/* An id; name is for the message. */
static int32_t tokread_id(const struct mk_json *v, struct mk_view name, size_t *id)
{
    const int is_number = v != NULL && v->type == MK_JSON_NUMBER;
    int64_t n;

    if (!is_number || mk_json_int(v, &n) < 0 || n < 0 || n > MK_BPE_MAX_ID)
        return mk_fail(MINKE_EFORMAT, "tokenizer.json: token \"%.*s\": id %s is not in 0..%d",
                       MK_SHOW(name), is_number ? v->text.data : "(none)", MK_BPE_MAX_ID);
    *id = (size_t)n;
    return MINKE_OK;
}

/* The lists' length: one more than the highest id. */
static int32_t tokread_size(struct tokread *r, const struct mk_json *vocab,
                            const struct mk_json *added)
{
    size_t id = 0;
    int32_t rc;

    for (const struct mk_json *v = vocab->first; v != NULL; v = v->next) {
        if ((rc = tokread_id(v, v->key, &id)) < 0)
            return rc;
        r->n_tokens = mk_max(r->n_tokens, id + 1);
    }
    for (const struct mk_json *v = added; v != NULL; v = v->next) {
        const struct mk_json *content = mk_json_get(v, "content");

        if (content == NULL || content->type != MK_JSON_STRING || content->text.len == 0)
            return mk_fail(MINKE_EFORMAT, "tokenizer.json: an added token has no content");
        if ((rc = tokread_id(mk_json_get(v, "id"), content->text, &id)) < 0)
            return rc;
        r->n_tokens = mk_max(r->n_tokens, id + 1);
    }
    return MINKE_OK;
}

/* Give an id its text; an added token may repeat what the vocabulary says. */
static int32_t tokread_put(struct tokread *r, const struct mk_json *number, struct mk_view text,
                           uint32_t flags)
{
    size_t id = 0;
    const int32_t rc = tokread_id(number, text, &id);

    if (rc < 0)
        return rc;
    if (r->texts[id].data != NULL
        && (r->flags[id] != MK_BPE_VOCAB || (flags & MK_BPE_VOCAB) != 0
            || !mk_view_equal(r->texts[id], text)))
        return mk_fail(MINKE_EFORMAT, "tokenizer.json: id %zu: \"%.*s\" and \"%.*s\"", id,
                       MK_SHOW(r->texts[id]), MK_SHOW(text));
    r->texts[id] = text;
    r->flags[id] |= flags;
    return MINKE_OK;
}

static int32_t tokread_added_token(struct tokread *r, const struct mk_json *v)
{
    static const char *const off[] = {"single_word", "lstrip", "rstrip"};
    const struct mk_view text = mk_json_get(v, "content")->text;
    const struct mk_json *normalized = mk_json_get(v, "normalized");
    const struct mk_json *special = mk_json_get(v, "special");
    const int is_special = special != NULL && special->type == MK_JSON_TRUE;
    /* A token that does not say is normalized unless it is special. */
    const int is_raw = normalized != NULL ? normalized->type != MK_JSON_TRUE : is_special;

    for (size_t i = 0; i < MK_COUNT(off); i++)
        if (!tokread_is_off(mk_json_get(v, off[i])))
            return mk_fail(MINKE_EUNSUPPORTED, "tokenizer.json: added token \"%.*s\": %s",
                           MK_SHOW(text), off[i]);
    return tokread_put(r, mk_json_get(v, "id"), text,
                       (is_raw ? TOKREAD_RAW : TOKREAD_NORMALIZED)
                           | (is_special ? MK_BPE_SPECIAL : 0));
}

/* "left right", or [left, right]. */
static int32_t tokread_merge_json(struct tokread *r, size_t rank, const struct mk_json *v)
{
    const struct mk_json *left = v->type == MK_JSON_ARRAY ? v->first : NULL;

    if (v->type == MK_JSON_STRING)
        return tokread_split_merge(r, rank, v->text);
    if (left == NULL || v->n_items != 2 || left->type != MK_JSON_STRING
        || left->next->type != MK_JSON_STRING)
        return mk_fail(MINKE_EFORMAT, "merge %zu: not two tokens", rank);
    r->merges[rank] = (struct tokread_merge){left->text, left->next->text};
    return MINKE_OK;
}

/* The items of a member that is of the given type and has at least some. */
static int32_t tokread_lists_of(const struct mk_json *v, const char *name, enum mk_json_type type,
                                size_t least)
{
    if (v != NULL && v->type == type && v->n_items >= least)
        return MINKE_OK;
    return mk_fail(MINKE_EFORMAT, "tokenizer.json: %s: an %s expected", name,
                   type == MK_JSON_ARRAY ? "array" : least > 0 ? "object with tokens" : "object");
}

/* Texts, flags and merges from the tree. */
static int32_t tokread_json(struct tokread *r, const struct mk_json *root)
{
    const struct mk_json *model = mk_json_get(root, "model");
    const struct mk_json *vocab = mk_json_get(model, "vocab");
    const struct mk_json *merges = mk_json_get(model, "merges");
    const struct mk_json *added = mk_json_get(root, "added_tokens"), *v;
    size_t rank = 0;
    int32_t rc;

    if ((rc = tokread_lists_of(model, "model", MK_JSON_OBJECT, 0)) < 0
        || (rc = mk_pretoken_recognise(&r->kind, mk_json_get(root, "pre_tokenizer"))) < 0
        || (rc = tokread_check_kind(root, model)) < 0
        || (rc = tokread_lists_of(vocab, "vocab", MK_JSON_OBJECT, 1)) < 0
        || (rc = tokread_lists_of(merges, "merges", MK_JSON_ARRAY, 0)) < 0
        || (added != NULL
            && (rc = tokread_lists_of(added, "added_tokens", MK_JSON_ARRAY, 0)) < 0))
        return rc;
    added = added != NULL ? added->first : NULL;
    r->n_merges = merges->n_items;
    if (r->n_merges > MK_BPE_MAX_MERGES)
        return mk_fail(MINKE_EFORMAT, "tokenizer.json: %zu merges", r->n_merges);
    if ((rc = tokread_size(r, vocab, added)) < 0 || (rc = tokread_room(r)) < 0)
        return rc;
    for (v = vocab->first; v != NULL && rc == MINKE_OK; v = v->next)
        rc = tokread_put(r, v, v->key, MK_BPE_VOCAB);
    for (v = added; v != NULL && rc == MINKE_OK; v = v->next)
        rc = tokread_added_token(r, v);
    for (v = merges->first; v != NULL && rc == MINKE_OK; v = v->next)
        rc = tokread_merge_json(r, rank++, v);
    return rc;
}

/* ---- Lists ---- */

/* What a token of a type is; 0 = no token. */
static uint32_t tokread_type_flags(int32_t type)
{
    switch (type) {
    case MK_TOKEN_UNUSED:  return 0;
    case MK_TOKEN_CONTROL: return TOKREAD_RAW | MK_BPE_SPECIAL;
    case MK_TOKEN_USER:    return TOKREAD_RAW;
    default:               return MK_BPE_VOCAB;
    }
}

static int32_t tokread_lists(struct tokread *r, const struct mk_vocabulary *lists)
{
    int32_t rc = mk_pretoken_named(&r->kind, lists->pre);

    if (rc < 0)
        return rc;
    r->n_tokens = lists->n_tokens;
    r->n_merges = lists->n_merges;
    if (r->n_tokens == 0 || r->n_tokens > MK_BPE_MAX_ID + (size_t)1
        || r->n_merges > MK_BPE_MAX_MERGES)
        return mk_fail(MINKE_EFORMAT, "tokenizer: %zu tokens, %zu merges", r->n_tokens,
                       r->n_merges);
    if ((rc = tokread_room(r)) < 0)
        return rc;
    for (size_t id = 0; id < r->n_tokens; id++) {
        const struct mk_view text = lists->tokens[id];
        const uint32_t flags = tokread_type_flags(lists->types != NULL ? lists->types[id]
                                                                       : MK_TOKEN_NORMAL);

        if (flags == 0 || text.len == 0)
            continue;
        if (mk_utf8_valid(text.data, text.len) < text.len)
            return mk_fail(MINKE_EFORMAT, "tokenizer: token %zu is not UTF-8", id);
        r->texts[id] = text;
        r->flags[id] = flags;
    }
    for (size_t rank = 0; rank < r->n_merges && rc == MINKE_OK; rank++) {
        const struct mk_view text = lists->merges[rank];

        rc = mk_utf8_valid(text.data, text.len) == text.len ? tokread_split_merge(r, rank, text)
           : mk_fail(MINKE_EFORMAT, "tokenizer: merge %zu is not UTF-8", rank);
    }
    return rc;
}

/* ---- tokenizer_config.json ---- */

/* A special token: a string, or an object with its content. */
static struct mk_view tokread_token_text(const struct mk_json *v)
{
    if (v != NULL && v->type == MK_JSON_OBJECT)
        v = mk_json_get(v, "content");
    return v != NULL && v->type == MK_JSON_STRING ? v->text : (struct mk_view){NULL, 0};
}

/* The chat template: a string, or a list of them of which "default" is meant. */
static struct mk_view tokread_template(const struct mk_json *v)
{
    const struct mk_json *found = NULL;

    if (v != NULL && v->type == MK_JSON_ARRAY) {
        for (const struct mk_json *item = v->first; item != NULL; item = item->next)
            if (found == NULL || mk_json_is(mk_json_get(item, "name"), "default"))
                found = mk_json_get(item, "template");
        v = found;
    }
    return v != NULL && v->type == MK_JSON_STRING ? v->text : (struct mk_view){NULL, 0};
}

static int32_t tokread_settings(struct tokread *r, const struct mk_vocabulary *v)
{
    const int is_listed = v->json.data == NULL;
    const struct mk_json *config = NULL;
    int32_t rc = MINKE_OK;

    if (v->config.data != NULL)
        rc = mk_json_parse(&config, r->scratch, v->config.data, v->config.len,
                           "tokenizer_config.json");
    if (rc < 0)
        return rc;
    if (config != NULL && config->type != MK_JSON_OBJECT)
        return mk_fail(MINKE_EFORMAT, "tokenizer_config.json: an object expected");
    r->bos = (struct tokread_special){is_listed ? v->bos : -1,
                                      tokread_token_text(mk_json_get(config, "bos_token")), v->bos};
    r->eos = (struct tokread_special){is_listed ? v->eos : -1,
                                      tokread_token_text(mk_json_get(config, "eos_token")), v->eos};
    r->chat_template = v->chat_template.data != NULL ? v->chat_template
                     : tokread_template(mk_json_get(config, "chat_template"));
    return MINKE_OK;
}

/* ---- Opening ---- */

static int32_t tokread_vocabulary(struct tokread *r, const struct mk_vocabulary *v)
{
    const struct mk_json *root = NULL;
    int32_t rc;

    if (v->json.data == NULL)
        return tokread_lists(r, v);
    rc = mk_json_parse(&root, r->scratch, v->json.data, v->json.len, "tokenizer.json");
    return rc < 0 ? rc : tokread_json(r, root);
}

int32_t mk_tokenizer_open(struct mk_tokenizer **out, const struct mk_env *env,
                          const struct mk_vocabulary *vocabulary)
{
    struct mk_arena scratch;
    struct tokread r = {.tok = mk_alloc(&env->alloc, 1, sizeof(*r.tok)), .scratch = &scratch};
    int32_t rc;

    if (r.tok == NULL)
        return MINKE_ENOMEM;
    r.tok->alloc = env->alloc;
    mk_arena_init(&r.tok->arena, &r.tok->alloc);
    mk_arena_init(&scratch, &r.tok->alloc);
    tokread_byte_table(&r);
    if ((rc = tokread_vocabulary(&r, vocabulary)) == MINKE_OK
        && (rc = tokread_settings(&r, vocabulary)) == MINKE_OK)
        rc = tokread_build(&r);
    mk_arena_free(&scratch);
    if (rc < 0)
        mk_tokenizer_free(r.tok);
    else
        *out = r.tok;
    return rc;
}

/* ---- Texts as lists ---- */

static int32_t tokread_join(struct mk_view *out, struct mk_arena *arena,
                            const struct tokread_merge *m)
{
    const size_t len = m->left.len + 1 + m->right.len;
    char *text = mk_arena_bytes(arena, len);

    if (text == NULL)
        return MINKE_ENOMEM;
    memcpy(text, m->left.data, m->left.len);
    text[m->left.len] = ' ';
    memcpy(text + m->left.len + 1, m->right.data, m->right.len);
    *out = (struct mk_view){text, len};
    return MINKE_OK;
}

int32_t mk_vocabulary_list(struct mk_vocabulary *v, struct mk_arena *arena)
{
    struct tokread r = {.scratch = arena};
    struct mk_view *merges;
    int32_t *types, rc = tokread_vocabulary(&r, v);

    if (rc < 0)
        return rc;
    types = mk_arena_alloc(arena, r.n_tokens, sizeof(*types));
    merges = mk_arena_alloc(arena, r.n_merges, sizeof(*merges));
    if (types == NULL || merges == NULL)
        return MINKE_ENOMEM;
    for (size_t id = 0; id < r.n_tokens; id++)
        types[id] = r.flags[id] & MK_BPE_SPECIAL ? MK_TOKEN_CONTROL
                  : r.flags[id] & (TOKREAD_RAW | TOKREAD_NORMALIZED) ? MK_TOKEN_USER
                  : r.flags[id] & MK_BPE_VOCAB ? MK_TOKEN_NORMAL : MK_TOKEN_UNUSED;
    for (size_t rank = 0; rank < r.n_merges && rc == MINKE_OK; rank++)
        rc = tokread_join(&merges[rank], arena, &r.merges[rank]);
    v->tokens = r.texts;
    v->types = types;
    v->n_tokens = r.n_tokens;
    v->merges = merges;
    v->n_merges = r.n_merges;
    return rc;
}
