/* A bounded JSON reader (RFC 8259). */
#include "base/json.h"

#include <string.h>

#include "base/checked.h"
#include "base/env.h"
#include "base/error.h"
#include "base/utf8.h"

/* ---- Members by name ----------------------------------------------------- */

/* Objects with more members get a table. */
#define JSON_FEW 8u

/* Open addressing, at most half full. */
struct mk_json_index {
    uint64_t key[2];
    size_t mask;
    const struct mk_json **slots;
};

static uint64_t json_rotate(uint64_t x, int n)
{
    return x << n | x >> (64 - n);
}

static void json_sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = json_rotate(v[1], 13) ^ v[0];
    v[0] = json_rotate(v[0], 32);
    v[2] += v[3];
    v[3] = json_rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = json_rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = json_rotate(v[1], 17) ^ v[2];
    v[2] = json_rotate(v[2], 32);
}

/* Reference: Aumasson and Bernstein, "SipHash", INDOCRYPT 2012; the 1-3 variant.  A keyed
 * hash, so that no file can be written whose keys all fall into one slot. */
static uint64_t json_hash(const uint64_t key[2], struct mk_view text)
{
    uint64_t v[4] = {
        key[0] ^ UINT64_C(0x736f6d6570736575), key[1] ^ UINT64_C(0x646f72616e646f6d),
        key[0] ^ UINT64_C(0x6c7967656e657261), key[1] ^ UINT64_C(0x7465646279746573)
    };
    uint64_t word, last = (uint64_t)text.len << 56;
    size_t i = 0;

    for (; i + 8 <= text.len; i += 8) {
        memcpy(&word, text.data + i, 8);
        v[3] ^= word;
        json_sip_round(v);
        v[0] ^= word;
    }
    for (int shift = 0; i < text.len; i++, shift += 8)
        last |= (uint64_t)(unsigned char)text.data[i] << shift;
    v[3] ^= last;
    json_sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xFF;
    for (int r = 0; r < 3; r++)
        json_sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* The slot of a key: of its member, or the empty one where it belongs. */
static const struct mk_json **json_slot(const struct mk_json_index *index, struct mk_view key)
{
    size_t i = (size_t)json_hash(index->key, key) & index->mask;

    while (index->slots[i] != NULL && !mk_view_equal(index->slots[i]->key, key))
        i = (i + 1) & index->mask;
    return &index->slots[i];
}

/* Member among those from first to before last (NULL = to the end). */
static const struct mk_json *json_member(const struct mk_json *first, const struct mk_json *last,
                                         struct mk_view key)
{
    while (first != last && !mk_view_equal(first->key, key))
        first = first->next;
    return first != last ? first : NULL;
}

const struct mk_json *mk_json_get(const struct mk_json *obj, const char *key)
{
    if (obj == NULL || obj->type != MK_JSON_OBJECT)
        return NULL;
    return obj->index != NULL ? *json_slot(obj->index, mk_view(key))
                              : json_member(obj->first, NULL, mk_view(key));
}

int mk_json_is(const struct mk_json *string, const char *text)
{
    return string != NULL && string->type == MK_JSON_STRING && mk_view_is(string->text, text);
}

/* ---- Parser -------------------------------------------------------------- */

#define JSON_SLAB 256u       /* nodes taken from the arena at a time */

struct json_level {
    struct mk_json *node, *last;     /* the container, and its newest item */
};

struct json_parser {
    struct mk_arena *arena;
    const char *what;
    const unsigned char *text;
    size_t len, at;
    char *out;               /* decoded text: never longer than its source and a NUL */
    struct mk_json *slab;
    size_t n_slab;
    size_t depth;
    struct json_level stack[MK_JSON_MAX_DEPTH];
};

static int32_t json_fail(const struct json_parser *p, size_t at, const char *why)
{
    return mk_fail(MINKE_EFORMAT, "%s: byte %zu: %s", p->what, at, why);
}

/* The next byte; 0, which nothing but a string may hold, at the end. */
static unsigned char json_peek(const struct json_parser *p)
{
    return p->at < p->len ? p->text[p->at] : 0;
}

/* Whether the next byte is c, which is then read. */
static int json_take(struct json_parser *p, char c)
{
    if (json_peek(p) != (unsigned char)c)
        return 0;
    p->at++;
    return 1;
}

static void json_space(struct json_parser *p)
{
    unsigned char c;

    while ((c = json_peek(p)) == ' ' || c == '\n' || c == '\r' || c == '\t')
        p->at++;
}

/* The four hexadecimal digits at p->at, which moves behind them; -1 when there are none. */
static int32_t json_hex(struct json_parser *p)
{
    static const char digits[] = "0123456789abcdefABCDEF";
    int32_t v = 0;

    if (p->len - p->at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        const char *d = memchr(digits, p->text[p->at + (size_t)i], sizeof(digits) - 1);

        if (d == NULL)
            return -1;
        v = v * 16 + (int32_t)(d - digits < 16 ? d - digits : d - digits - 6);
    }
    p->at += 4;
    return v;
}

/* What stands behind \u: a character, or two halves of one. */
static int32_t json_unicode(struct json_parser *p, size_t start)
{
    int32_t c = json_hex(p);

    if (c < 0)
        return json_fail(p, start, "four hexadecimal digits expected after \\u");
    if (c >= 0xD800 && c <= 0xDFFF) {
        const int32_t low = c < 0xDC00 && json_take(p, '\\') && json_take(p, 'u') ? json_hex(p)
                                                                                  : -1;

        if (low < 0xDC00 || low > 0xDFFF)
            return json_fail(p, start, "lone surrogate");
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    }
    p->out += mk_utf8_encode(p->out, (uint32_t)c);
    return MINKE_OK;
}

/* The escape at p->at, a backslash. */
static int32_t json_escape(struct json_parser *p)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const size_t start = p->at++;
    const char *name = memchr(names, json_peek(p), sizeof(names) - 1);

    if (name == NULL)
        return json_take(p, 'u') ? json_unicode(p, start) : json_fail(p, start, "unknown escape");
    *p->out++ = values[name - names];
    p->at++;
    return MINKE_OK;
}

/* Copy characters that stand for themselves, eight at a time while all are ASCII. */
static void json_plain(struct json_parser *p)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones << 7;

    while (p->len - p->at >= 8) {
        uint64_t w;

        memcpy(&w, p->text + p->at, 8);
        const uint64_t quote = w ^ ones * '"', slash = w ^ ones * '\\';
        const uint64_t found = (w - ones * 0x20) | (quote - ones) | (slash - ones) | w;

        if (found & tops)    /* possibly one of those: look closely */
            break;
        memcpy(p->out, &w, 8);
        p->out += 8;
        p->at += 8;
    }
    for (unsigned char c; (c = json_peek(p)) >= 0x20 && c < 0x80 && c != '"' && c != '\\';) {
        *p->out++ = (char)c;
        p->at++;
    }
}

/* Any other character than those; MINKE_EFORMAT also at the end. */
static int32_t json_other(struct json_parser *p, size_t start)
{
    enum mk_utf8_state state;

    if (p->at == p->len)
        return json_fail(p, start - 1, "string without end");
    if (p->text[p->at] < 0x20)
        return json_fail(p, p->at, "control character in a string");
    const size_t n = mk_utf8_unit((const char *)p->text + p->at, p->len - p->at, &state);

    if (state != MK_UTF8_VALID)
        return json_fail(p, p->at, "not UTF-8");
    memcpy(p->out, p->text + p->at, n);
    p->out += n;
    p->at += n;
    return MINKE_OK;
}

/* The string at p->at, behind its opening quote. */
static int32_t json_string(struct json_parser *p, struct mk_view *text)
{
    const size_t start = p->at;
    char *const begin = p->out;

    for (json_plain(p); !json_take(p, '"'); json_plain(p)) {
        const int32_t rc = json_peek(p) == '\\' ? json_escape(p) : json_other(p, start);

        if (rc < 0)
            return rc;
    }
    *text = (struct mk_view){begin, (size_t)(p->out - begin)};
    *p->out++ = '\0';
    return MINKE_OK;
}

/* Reads digits; whether there was one. */
static int json_digits(struct json_parser *p)
{
    const size_t start = p->at;

    for (unsigned char c; (c = json_peek(p)) >= '0' && c <= '9';)
        p->at++;
    return p->at > start;
}

static int32_t json_number(struct json_parser *p, struct mk_json *v)
{
    const size_t start = p->at;

    json_take(p, '-');
    if (!json_take(p, '0') && !json_digits(p))
        return json_fail(p, start, "digit expected");
    if (json_take(p, '.') && !json_digits(p))
        return json_fail(p, p->at, "digit expected");
    if (json_take(p, 'e') || json_take(p, 'E')) {
        if (!json_take(p, '+'))
            json_take(p, '-');
        if (!json_digits(p))
            return json_fail(p, p->at, "digit expected");
    }
    v->text = (struct mk_view){p->out, p->at - start};
    memcpy(p->out, p->text + start, v->text.len);
    p->out += v->text.len;
    *p->out++ = '\0';
    return MINKE_OK;
}

/* A value that holds no others, at p->at. */
static int32_t json_scalar(struct json_parser *p, struct mk_json *v)
{
    static const struct {
        struct mk_view text;
        enum mk_json_type type;
    } words[] = {{MK_VIEW("null"), MK_JSON_NULL}, {MK_VIEW("false"), MK_JSON_FALSE},
                 {MK_VIEW("true"), MK_JSON_TRUE}};
    const struct mk_view all = {(const char *)p->text, p->len};
    const unsigned char c = json_peek(p);

    v->type = MK_JSON_STRING;
    if (json_take(p, '"'))
        return json_string(p, &v->text);
    v->type = MK_JSON_NUMBER;
    if (c == '-' || (c >= '0' && c <= '9'))
        return json_number(p, v);
    for (size_t i = 0; i < MK_COUNT(words); i++)
        if (mk_view_has(all, p->at, words[i].text)) {
            v->type = words[i].type;
            p->at += words[i].text.len;
            return MINKE_OK;
        }
    return json_fail(p, p->at, "value expected");
}

static int32_t json_repeated(const struct json_parser *p, const struct mk_json *v)
{
    return mk_fail(MINKE_EFORMAT, "%s: byte %zu: key \"%.*s\" is repeated", p->what, p->at,
                   (int)(v->key.len < 80 ? v->key.len : 80), v->key.data);
}

/* The table of a large object. */
static int32_t json_index(struct json_parser *p, struct mk_json *obj)
{
    struct mk_json_index *index = mk_arena_alloc(p->arena, 1, sizeof(*index));
    size_t n_slots = 4 * JSON_FEW;

    while (n_slots / 2 < obj->n_items)
        n_slots *= 2;
    if (index == NULL
        || (index->slots = mk_arena_alloc(p->arena, n_slots, sizeof(*index->slots))) == NULL)
        return MINKE_ENOMEM;
    index->mask = n_slots - 1;
    index->key[0] = mk_time_ns();
    index->key[1] = (uint64_t)(uintptr_t)index;
    for (const struct mk_json *v = obj->first; v != NULL; v = v->next) {
        const struct mk_json **slot = json_slot(index, v->key);

        if (*slot != NULL)
            return json_repeated(p, v);
        *slot = v;
    }
    obj->index = index;
    return MINKE_OK;
}

/* At the end of an object: no key twice. */
static int32_t json_finish_object(struct json_parser *p, struct mk_json *obj)
{
    if (obj->n_items > JSON_FEW)
        return json_index(p, obj);
    for (const struct mk_json *v = obj->first; v != NULL; v = v->next)
        if (json_member(obj->first, v, v->key) != NULL)
            return json_repeated(p, v);
    return MINKE_OK;
}

static struct mk_json *json_node(struct json_parser *p)
{
    if (p->n_slab == 0) {
        p->slab = mk_arena_alloc(p->arena, JSON_SLAB, sizeof(*p->slab));
        if (p->slab == NULL)
            return NULL;
        p->n_slab = JSON_SLAB;
    }
    p->n_slab--;
    return p->slab++;
}

/* The key at p->at and its colon. */
static int32_t json_key(struct json_parser *p, struct mk_view *key)
{
    int32_t rc;

    if (!json_take(p, '"'))
        return json_fail(p, p->at, "key expected");
    if ((rc = json_string(p, key)) < 0)
        return rc;
    json_space(p);
    if (!json_take(p, ':'))
        return json_fail(p, p->at, "':' expected");
    json_space(p);
    return MINKE_OK;
}

/* A new item of the container on top of the stack, with its key if it is a member; p->at
 * moves to its value. */
static int32_t json_item(struct json_parser *p, struct mk_json **out)
{
    struct json_level *top = p->depth > 0 ? &p->stack[p->depth - 1] : NULL;
    struct mk_json *v = json_node(p);
    int32_t rc;

    if (v == NULL)
        return MINKE_ENOMEM;
    *out = v;
    if (top == NULL)
        return MINKE_OK;
    if (top->node->type == MK_JSON_OBJECT && (rc = json_key(p, &v->key)) < 0)
        return rc;
    if (top->last != NULL)
        top->last->next = v;
    else
        top->node->first = v;
    top->last = v;
    top->node->n_items++;
    return MINKE_OK;
}

/* Behind an item: close what ends here.  *more: another item follows. */
static int32_t json_close(struct json_parser *p, int *more)
{
    for (*more = 0; p->depth > 0; p->depth--) {
        struct json_level *top = &p->stack[p->depth - 1];
        const int is_object = top->node->type == MK_JSON_OBJECT;
        int32_t rc;

        json_space(p);
        *more = top->last != NULL && json_take(p, ',');
        if (*more) {
            json_space(p);
            return MINKE_OK;
        }
        if (!json_take(p, is_object ? '}' : ']'))
            return json_fail(p, p->at, is_object ? "',' or '}' expected" : "',' or ']' expected");
        if (is_object && (rc = json_finish_object(p, top->node)) < 0)
            return rc;
    }
    return MINKE_OK;
}

/* Begin a container at p->at.  *more: it has items. */
static int32_t json_open(struct json_parser *p, struct mk_json *v, int *more)
{
    const int is_object = p->text[p->at] == '{';

    if (p->depth == MK_JSON_MAX_DEPTH)
        return json_fail(p, p->at, "nested too deeply");
    v->type = is_object ? MK_JSON_OBJECT : MK_JSON_ARRAY;
    p->stack[p->depth++] = (struct json_level){v, NULL};
    p->at++;
    json_space(p);
    *more = p->at < p->len && p->text[p->at] != (is_object ? '}' : ']');
    return MINKE_OK;
}

static int32_t json_document(struct json_parser *p, const struct mk_json **out)
{
    struct mk_json *root = NULL, *v = NULL;
    int more = 1;
    int32_t rc;

    json_space(p);
    while (more) {
        if ((rc = json_item(p, &v)) < 0)
            return rc;
        root = root == NULL ? v : root;
        more = json_peek(p) == '{' || json_peek(p) == '[';
        if ((rc = more ? json_open(p, v, &more) : json_scalar(p, v)) < 0
            || (!more && (rc = json_close(p, &more)) < 0))
            return rc;
    }
    json_space(p);
    if (p->at < p->len)
        return json_fail(p, p->at, "nothing expected behind the value");
    *out = root;
    return MINKE_OK;
}

int32_t mk_json_parse(const struct mk_json **out, struct mk_arena *arena, const char *text,
                      size_t len, const char *what)
{
    struct json_parser p;

    if (len >= SIZE_MAX / 2)
        return mk_fail(MINKE_EFORMAT, "%s: too large", what);
    p.arena = arena;
    p.what = what;
    p.text = (const unsigned char *)text;
    p.len = len;
    p.at = p.n_slab = p.depth = 0;
    p.out = mk_arena_alloc(arena, len + 1, 1);
    if (p.out == NULL)
        return MINKE_ENOMEM;
    return json_document(&p, out);
}
