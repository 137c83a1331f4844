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
#include "base/utf8.h"
#include "text/tokenizer_internal.h"

#define TOKREAD_RAW        16u    /* added, matched in the text as it is */
#define TOKREAD_NORMALIZED 32u    /* added, matched in normalized text, after the others */

#define TOKREAD_BOS "<\357\275\234begin\342\226\201of\342\226\201sentence\357\275\234>"
#define TOKREAD_EOS "<\357\275\234end\342\226\201of\342\226\201sentence\357\275\234>"

#define TOKREAD_N_CHARACTERS 324  /* 256 byte symbols lie below */
#define TOKREAD_SLAB 65536

struct tokread_merge {
    struct mk_view left, right;
};

struct tokread {
    struct mk_tokenizer *tok;     /* NULL: only texts, flags and merges are wanted */
    struct mk_arena *scratch;
    enum mk_pretoken_kind kind;
    struct mk_view *texts;       /* (n_tokens,) by id; data NULL = none */
    uint32_t *flags;              /* (n_tokens,) MK_BPE_*, TOKREAD_* */
    size_t n_tokens;
    struct tokread_merge *merges; /* (n_merges,) by rank */
    size_t n_merges;
    char *slab;                   /* memory for short texts, from the tokenizer's arena */
    size_t slab_left;
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

/* n bytes that live as long as the tokenizer. */
static char *tokread_keep(struct tokread *r, size_t n)
{
    char *kept;

    if (n > TOKREAD_SLAB / 8)
        return mk_arena_alloc(&r->tok->arena, n, 1);
    if (n > r->slab_left) {
        r->slab = mk_arena_alloc(&r->tok->arena, TOKREAD_SLAB, 1);
        r->slab_left = r->slab != NULL ? TOKREAD_SLAB : 0;
    }
    if (r->slab == NULL)
        return NULL;
    kept = r->slab;
    r->slab += n;
    r->slab_left -= n;
    return kept;
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
        bytes = tokread_keep(r, r->texts[id].len + 1);
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

static int tokread_compare(const struct mk_added *a, const struct mk_added *b)
{
    const int order = memcmp(a->content.data, b->content.data,
                             mk_min(a->content.len, b->content.len));

    return order != 0 ? order : (a->content.len > b->content.len)
                              - (a->content.len < b->content.len);
}

/* Heap sort: in place, and no input makes it slow. */
static void tokread_sort(struct mk_added *items, size_t n)
{
    for (size_t top = n / 2, end = n; end > 1;) {
        struct mk_added value;
        size_t i, child;

        if (top > 0) {
            value = items[--top];
        } else {
            value = items[--end];
            items[end] = items[0];
        }
        for (i = top; (child = 2 * i + 1) < end; i = child) {
            if (child + 1 < end && tokread_compare(&items[child], &items[child + 1]) < 0)
                child++;
            if (tokread_compare(&value, &items[child]) >= 0)
                break;
            items[i] = items[child];
        }
        items[i] = value;
    }
}

static int32_t tokread_build_added(struct tokread *r, struct mk_added_set *set, uint32_t flag)
{
    uint32_t n = 0;

    for (size_t id = 0; id < r->n_tokens; id++)
        n += (r->flags[id] & flag) != 0;
    set->items = mk_arena_alloc(&r->tok->arena, n, sizeof(*set->items));
    if (set->items == NULL)
        return MINKE_ENOMEM;
    for (size_t id = 0; id < r->n_tokens; id++) {
        struct mk_added *item = &set->items[set->n];
        char *text;

        if ((r->flags[id] & flag) == 0)
            continue;
        if (r->texts[id].len > MK_ADDED_MAX_LEN)
            return mk_fail(MINKE_EUNSUPPORTED, "added token %zu: %zu bytes; %d are accepted",
                           id, r->texts[id].len, MK_ADDED_MAX_LEN);
        if ((text = tokread_keep(r, r->texts[id].len)) == NULL)
            return MINKE_ENOMEM;
        memcpy(text, r->texts[id].data, r->texts[id].len);
        item->content.data = text;
        item->content.len = r->texts[id].len;
        item->id = (int32_t)id;
        set->n += item->content.len > 0;
    }
    tokread_sort(set->items, set->n);
    for (uint32_t i = 0; i < set->n; i++) {
        if (i > 0 && tokread_compare(&set->items[i - 1], &set->items[i]) == 0)
            return mk_fail(MINKE_EFORMAT, "added tokens %d and %d are the same",
                           set->items[i - 1].id, set->items[i].id);
        set->first[(unsigned char)set->items[i].content.data[0] + 1] = i + 1;
    }
    for (int c = 1; c <= 256; c++)
        if (set->first[c] < set->first[c - 1])
            set->first[c] = set->first[c - 1];
    return MINKE_OK;
}

static int32_t tokread_build_merges(struct tokread *r)
{
    char left[2 * MK_ADDED_MAX_LEN], right[2 * MK_ADDED_MAX_LEN];

    for (size_t rank = 0; rank < r->n_merges; rank++) {
        const struct tokread_merge *m = &r->merges[rank];
        size_t n_left, n_right;
        int32_t rc;

        if (m->left.len > sizeof(left) || m->right.len > sizeof(right))
            return mk_fail(MINKE_EUNSUPPORTED, "merge %zu: parts of %zu and %zu bytes", rank,
                           m->left.len, m->right.len);
        if (!tokread_map(r, m->left, left, &n_left)
            || !tokread_map(r, m->right, right, &n_right))
            return mk_fail(MINKE_EFORMAT, "merge %zu: \"%.*s\" \"%.*s\" names no token", rank,
                           (int)mk_min(m->left.len, 100), m->left.data,
                           (int)mk_min(m->right.len, 100), m->right.data);
        rc = mk_bpe_add_merge(&r->tok->bpe, (uint32_t)rank, left, n_left, right, n_right);
        if (rc < 0)
            return rc;
    }
    return MINKE_OK;
}

/* An added token may repeat a text of the vocabulary only under the same id. */
static int32_t tokread_check_added(const struct tokread *r, const struct mk_added_set *set)
{
    const struct mk_bpe *bpe = &r->tok->bpe;

    for (uint32_t i = 0; i < set->n; i++) {
        const int32_t id = set->items[i].id;
        const struct mk_bpe_token *t = &bpe->tokens[id];
        const int32_t other = mk_bpe_find(bpe, t->bytes, t->len);

        if (other >= 0 && other != id && r->texts[other].len == r->texts[id].len
            && memcmp(r->texts[other].data, r->texts[id].data, r->texts[id].len) == 0)
            return mk_fail(MINKE_EFORMAT, "added token %d is token %d of the vocabulary", id,
                           other);
    }
    return MINKE_OK;
}

static int32_t tokread_build(struct tokread *r)
{
    struct mk_tokenizer *tok = r->tok;
    int32_t rc = tokread_build_tokens(r);

    tok->kind = r->kind;
    if (rc == MINKE_OK)
        rc = tokread_build_added(r, &tok->added[0], TOKREAD_RAW);
    if (rc == MINKE_OK)
        rc = tokread_build_added(r, &tok->added[1], TOKREAD_NORMALIZED);
    if (rc == MINKE_OK)
        rc = mk_bpe_init(&tok->bpe, &tok->arena, (uint32_t)r->n_merges);
    for (int k = 0; k < 2 && rc == MINKE_OK; k++)
        rc = tokread_check_added(r, &tok->added[k]);
    if (rc == MINKE_OK)
        rc = tokread_build_merges(r);
    return rc == MINKE_OK ? mk_bpe_finish(&tok->bpe, &tok->alloc) : rc;
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

/* Everything around vocabulary and merges that would change what they mean. */
static int32_t tokread_check_kind(const struct mk_json *root, const struct mk_json *model)
{
    static const char *const off[] = {
        "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback",
        "ignore_merges"
    };
    const struct mk_json *v = mk_json_get(root, "normalizer"), *list, *type;
    double dropout;

    list = mk_json_get(v, "normalizers");
    type = mk_json_get(v, "type");
    if (!tokread_is_null(v) && !(list != NULL && list->type == MK_JSON_ARRAY
                                 && list->n_items == 0))
        return mk_fail(MINKE_EUNSUPPORTED, "tokenizer.json: normalizer %s: none is accepted",
                       type != NULL && type->type == MK_JSON_STRING ? type->text.data : "?");
    v = mk_json_get(root, "decoder");
    type = mk_json_get(v, "type");
    if (!tokread_is_null(v) && !mk_json_is(type, "ByteLevel"))
        return mk_fail(MINKE_EUNSUPPORTED, "tokenizer.json: decoder %s: ByteLevel is accepted",
                       type != NULL && type->type == MK_JSON_STRING ? type->text.data : "?");
    type = mk_json_get(model, "type");
    if (!mk_json_is(type, "BPE"))
        return mk_fail(MINKE_EUNSUPPORTED, "tokenizer.json: model %s: BPE is accepted",
                       type != NULL && type->type == MK_JSON_STRING ? type->text.data : "?");
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
                       (int)mk_min(name.len, 100), name.data, is_number ? v->text.data : "(none)",
                       MK_BPE_MAX_ID);
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
    for (const struct mk_json *v = added != NULL ? added->first : NULL; v; v = v->next) {
        const struct mk_json *content = mk_json_get(v, "content");

        if (content == NULL || content->type != MK_JSON_STRING || content->text.len == 0)
            return mk_fail(MINKE_EFORMAT, "tokenizer.json: an added token has no content");
        if ((rc = tokread_id(mk_json_get(v, "id"), content->text, &id)) < 0)
            return rc;
        r->n_tokens = mk_max(r->n_tokens, id + 1);
    }
    r->texts = mk_arena_alloc(r->scratch, r->n_tokens, sizeof(*r->texts));
    r->flags = mk_arena_alloc(r->scratch, r->n_tokens, sizeof(*r->flags));
    return r->texts != NULL && r->flags != NULL ? MINKE_OK : MINKE_ENOMEM;
}

/* Give an id its text; an added token may repeat what the vocabulary says. */
static int32_t tokread_put(struct tokread *r, size_t id, struct mk_view text, uint32_t flags)
{
    const struct mk_view *old = &r->texts[id];

    if (old->data != NULL
        && (r->flags[id] != MK_BPE_VOCAB || (flags & MK_BPE_VOCAB) != 0
            || old->len != text.len || memcmp(old->data, text.data, text.len) != 0))
        return mk_fail(MINKE_EFORMAT, "tokenizer.json: id %zu: \"%.*s\" and \"%.*s\"", id,
                       (int)mk_min(old->len, 100), old->data, (int)mk_min(text.len, 100),
                       text.data);
    r->texts[id] = text;
    r->flags[id] |= flags;
    return MINKE_OK;
}

static int32_t tokread_added_token(struct tokread *r, const struct mk_json *v)
{
    static const char *const off[] = {"single_word", "lstrip", "rstrip"};
    const struct mk_json *content = mk_json_get(v, "content");
    const struct mk_json *normalized = mk_json_get(v, "normalized");
    const struct mk_json *special = mk_json_get(v, "special");
    int is_special, is_raw;
    uint32_t flags;
    size_t id = 0;
    int32_t rc;

    for (size_t i = 0; i < MK_COUNT(off); i++)
        if (!tokread_is_off(mk_json_get(v, off[i])))
            return mk_fail(MINKE_EUNSUPPORTED, "tokenizer.json: added token \"%.*s\": %s",
                           (int)mk_min(content->text.len, 100), content->text.data, off[i]);
    is_special = special != NULL && special->type == MK_JSON_TRUE;
    /* A token that does not say is normalized unless it is special. */
    is_raw = normalized != NULL ? normalized->type != MK_JSON_TRUE : is_special;
    flags = (is_raw ? TOKREAD_RAW : TOKREAD_NORMALIZED) | (is_special ? MK_BPE_SPECIAL : 0);
    if ((rc = tokread_id(mk_json_get(v, "id"), content->text, &id)) < 0)
        return rc;
    return tokread_put(r, id, content->text, flags);
}

/* "left right", or [left, right]. */
static int32_t tokread_split_merge(struct tokread_merge *m, struct mk_view text, size_t rank)
{
    const char *space = memchr(text.data, ' ', text.len);

    if (space == NULL || memchr(space + 1, ' ', text.len - (size_t)(space + 1 - text.data)))
        return mk_fail(MINKE_EFORMAT, "merge %zu: \"%.*s\" is not two tokens", rank,
                       (int)mk_min(text.len, 100), text.data);
    m->left.data = text.data;
    m->left.len = (size_t)(space - text.data);
    m->right.data = space + 1;
    m->right.len = text.len - m->left.len - 1;
    return MINKE_OK;
}

static int32_t tokread_merges(struct tokread *r, const struct mk_json *merges)
{
    size_t rank = 0;

    if (merges->n_items > MK_BPE_MAX_MERGES)
        return mk_fail(MINKE_EFORMAT, "tokenizer.json: %zu merges", merges->n_items);
    r->n_merges = merges->n_items;
    r->merges = mk_arena_alloc(r->scratch, r->n_merges, sizeof(*r->merges));
    if (r->merges == NULL)
        return MINKE_ENOMEM;
    for (const struct mk_json *v = merges->first; v != NULL; v = v->next, rank++) {
        const struct mk_json *left = v->type == MK_JSON_ARRAY ? v->first : NULL;

        if (v->type == MK_JSON_STRING) {
            const int32_t rc = tokread_split_merge(&r->merges[rank], v->text, rank);

            if (rc < 0)
                return rc;
        } else if (left != NULL && v->n_items == 2 && left->type == MK_JSON_STRING
                   && left->next->type == MK_JSON_STRING) {
            r->merges[rank].left = left->text;
            r->merges[rank].right = left->next->text;
        } else {
            return mk_fail(MINKE_EFORMAT, "merge %zu: not two tokens", rank);
        }
    }
    return MINKE_OK;
}

/* Texts, flags and merges from the tree. */
static int32_t tokread_json(struct tokread *r, const struct mk_json *root)
{
    const struct mk_json *model = mk_json_get(root, "model");
    const struct mk_json *vocab = mk_json_get(model, "vocab");
    const struct mk_json *merges = mk_json_get(model, "merges");
    const struct mk_json *added = mk_json_get(root, "added_tokens");
    int32_t rc;

    if (model == NULL || model->type != MK_JSON_OBJECT)
        return mk_fail(MINKE_EFORMAT, "tokenizer.json: model: an object expected");
    if ((rc = mk_pretoken_recognise(&r->kind, mk_json_get(root, "pre_tokenizer"))) < 0
        || (rc = tokread_check_kind(root, model)) < 0)
        return rc;
    if (vocab == NULL || vocab->type != MK_JSON_OBJECT || vocab->n_items == 0)
        return mk_fail(MINKE_EFORMAT, "tokenizer.json: vocab: an object with tokens expected");
    if (merges == NULL || merges->type != MK_JSON_ARRAY)
        return mk_fail(MINKE_EFORMAT, "tokenizer.json: merges: an array expected");
    if (added != NULL && added->type != MK_JSON_ARRAY)
        return mk_fail(MINKE_EFORMAT, "tokenizer.json: added_tokens: an array expected");
    if ((rc = tokread_size(r, vocab, added)) < 0)
        return rc;
    for (const struct mk_json *v = vocab->first; v != NULL && rc >= 0; v = v->next) {
        size_t id = 0;

        if ((rc = tokread_id(v, v->key, &id)) >= 0)
            rc = tokread_put(r, id, v->key, MK_BPE_VOCAB);
    }
    for (const struct mk_json *v = added != NULL ? added->first : NULL; v && rc >= 0;
         v = v->next)
        rc = tokread_added_token(r, v);
    return rc < 0 ? rc : tokread_merges(r, merges);
}

/* ---- Lists ---- */

static int32_t tokread_lists(struct tokread *r, const struct mk_vocabulary *lists)
{
    int32_t rc = mk_pretoken_named(&r->kind, lists->pre);

    if (rc < 0)
        return rc;
    if (lists->n_tokens == 0 || lists->n_tokens > MK_BPE_MAX_ID + (size_t)1
        || lists->n_merges > MK_BPE_MAX_MERGES)
        return mk_fail(MINKE_EFORMAT, "tokenizer: %zu tokens, %zu merges", lists->n_tokens,
                       lists->n_merges);
    r->n_tokens = lists->n_tokens;
    r->n_merges = lists->n_merges;
    r->texts = mk_arena_alloc(r->scratch, r->n_tokens, sizeof(*r->texts));
    r->flags = mk_arena_alloc(r->scratch, r->n_tokens, sizeof(*r->flags));
    r->merges = mk_arena_alloc(r->scratch, r->n_merges, sizeof(*r->merges));
    if (r->texts == NULL || r->flags == NULL || r->merges == NULL)
        return MINKE_ENOMEM;
    for (size_t id = 0; id < r->n_tokens; id++) {
        const int32_t type = lists->types != NULL ? lists->types[id] : MK_TOKEN_NORMAL;
        const struct mk_view text = lists->tokens[id];

        if (type == MK_TOKEN_UNUSED || text.len == 0)
            continue;
        if (mk_utf8_valid(text.data, text.len) < text.len)
            return mk_fail(MINKE_EFORMAT, "tokenizer: token %zu is not UTF-8", id);
        r->texts[id] = text;
        r->flags[id] = type == MK_TOKEN_CONTROL ? TOKREAD_RAW | MK_BPE_SPECIAL
                     : type == MK_TOKEN_USER ? TOKREAD_RAW : MK_BPE_VOCAB;
    }
    for (size_t rank = 0; rank < r->n_merges && rc >= 0; rank++) {
        const struct mk_view text = lists->merges[rank];

        if (mk_utf8_valid(text.data, text.len) < text.len)
            return mk_fail(MINKE_EFORMAT, "tokenizer: merge %zu is not UTF-8", rank);
        rc = tokread_split_merge(&r->merges[rank], text, rank);
    }
    return rc;
}

/* ---- tokenizer_config.json ---- */

/* Id of a special token: by the text that the settings give (a string, or an object with its
 * content), else by the family's own text, else as the model's config says. */
static int32_t tokread_special(const struct mk_tokenizer *tok, const struct mk_json *config,
                               const char *key, const char *own, int32_t last)
{
    const struct mk_json *v = mk_json_get(config, key);
    int32_t id = -1;

    if (v != NULL && v->type == MK_JSON_OBJECT)
        v = mk_json_get(v, "content");
    if (v != NULL && v->type == MK_JSON_STRING)
        id = mk_tokenizer_find(tok, v->text.data, v->text.len);
    if (id < 0)
        id = mk_tokenizer_find(tok, own, strlen(own));
    return id >= 0 ? id : last;
}

/* The chat template: a string, or a list of them of which "default" is meant. */
static const struct mk_json *tokread_template(const struct mk_json *config)
{
    const struct mk_json *v = mk_json_get(config, "chat_template"), *found = NULL;

    if (v != NULL && v->type == MK_JSON_ARRAY) {
        for (const struct mk_json *item = v->first; item != NULL; item = item->next)
            if (found == NULL || mk_json_is(mk_json_get(item, "name"), "default"))
                found = mk_json_get(item, "template");
        v = found;
    }
    return v != NULL && v->type == MK_JSON_STRING ? v : NULL;
}

static int32_t tokread_settings(struct tokread *r, const struct mk_vocabulary *v)
{
    const int is_listed = v->json.data == NULL;
    const struct mk_json *config = NULL, *in_config;
    struct mk_view chat = v->chat_template;
    struct mk_tokenizer *tok = r->tok;
    int32_t rc = MINKE_OK;

    if (v->config.data != NULL)
        rc = mk_json_parse(&config, r->scratch, v->config.data, v->config.len,
                           "tokenizer_config.json");
    if (rc < 0)
        return rc;
    if (config != NULL && config->type != MK_JSON_OBJECT)
        return mk_fail(MINKE_EFORMAT, "tokenizer_config.json: an object expected");
    tok->bos = is_listed && v->bos >= 0
             ? v->bos : tokread_special(tok, config, "bos_token", TOKREAD_BOS, v->bos);
    tok->eos = is_listed && v->eos >= 0
             ? v->eos : tokread_special(tok, config, "eos_token", TOKREAD_EOS, v->eos);
    in_config = tokread_template(config);
    if (chat.data == NULL && in_config != NULL)
        chat = in_config->text;
    if (chat.data == NULL)
        return MINKE_OK;
    tok->chat_template = mk_arena_text(&tok->arena, chat.data, chat.len);
    tok->chat_template_len = chat.len;
    return tok->chat_template == NULL ? MINKE_ENOMEM : MINKE_OK;
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
    rc = tokread_vocabulary(&r, vocabulary);
    if (rc == MINKE_OK)
        rc = tokread_build(&r);
    if (rc == MINKE_OK)
        rc = tokread_settings(&r, vocabulary);
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
    char *text = mk_arena_alloc(arena, m->left.len + m->right.len + 2, 1);

    if (text == NULL)
        return MINKE_ENOMEM;
    memcpy(text, m->left.data, m->left.len);
    text[m->left.len] = ' ';
    memcpy(text + m->left.len + 1, m->right.data, m->right.len);
    *out = (struct mk_view){text, m->left.len + 1 + m->right.len};
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
                  : r.texts[id].data != NULL ? MK_TOKEN_NORMAL : MK_TOKEN_UNUSED;
    for (size_t rank = 0; rank < r.n_merges && rc == MINKE_OK; rank++)
        rc = tokread_join(&merges[rank], arena, &r.merges[rank]);
    v->tokens = r.texts;
    v->types = types;
    v->n_tokens = r.n_tokens;
    v->merges = merges;
    v->n_merges = r.n_merges;
    return rc;
}
