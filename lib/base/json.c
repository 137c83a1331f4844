/* A bounded JSON reader (RFC 8259). */
#include "base/json.h"

#include <string.h>

#include "base/env.h"
#include "base/error.h"

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
static uint64_t json_hash(const uint64_t key[2], const char *text, size_t len)
{
    uint64_t v[4] = {
        key[0] ^ UINT64_C(0x736f6d6570736575), key[1] ^ UINT64_C(0x646f72616e646f6d),
        key[0] ^ UINT64_C(0x6c7967656e657261), key[1] ^ UINT64_C(0x7465646279746573)
    };
    uint64_t word, last = (uint64_t)len << 56;
    size_t i = 0;

    for (; i + 8 <= len; i += 8) {
        memcpy(&word, text + i, 8);
        v[3] ^= word;
        json_sip_round(v);
        v[0] ^= word;
    }
    for (int shift = 0; i < len; i++, shift += 8)
        last |= (uint64_t)(unsigned char)text[i] << shift;
    v[3] ^= last;
    json_sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xFF;
    for (int r = 0; r < 3; r++)
        json_sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static int json_key_is(const struct mk_json *v, const char *key, size_t len)
{
    return v->key.len == len && memcmp(v->key.data, key, len) == 0;
}

/* The slot of a key: of its member, or the empty one where it belongs. */
static const struct mk_json **json_slot(const struct mk_json_index *index, const char *key,
                                        size_t len)
{
    size_t i = (size_t)json_hash(index->key, key, len) & index->mask;

    while (index->slots[i] != NULL && !json_key_is(index->slots[i], key, len))
        i = (i + 1) & index->mask;
    return &index->slots[i];
}

const struct mk_json *mk_json_get(const struct mk_json *obj, const char *key)
{
    const size_t len = strlen(key);

    if (obj == NULL || obj->type != MK_JSON_OBJECT)
        return NULL;
    if (obj->index != NULL)
        return *json_slot(obj->index, key, len);
    for (const struct mk_json *v = obj->first; v != NULL; v = v->next)
        if (json_key_is(v, key, len))
            return v;
    return NULL;
}

int mk_json_is(const struct mk_json *string, const char *text)
{
    const size_t len = strlen(text);

    return string != NULL && string->type == MK_JSON_STRING && string->text.len == len
        && memcmp(string->text.data, text, len) == 0;
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

static int json_is_space(unsigned char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static void json_space(struct json_parser *p)
{
    while (p->at < p->len && json_is_space(p->text[p->at]))
        p->at++;
}

/* Bytes of the UTF-8 character at p->at, which is no ASCII; 0 when there is none. */
static size_t json_utf8(const struct json_parser *p)
{
    const unsigned char *s = p->text + p->at;
    const size_t left = p->len - p->at;
    const unsigned c = s[0];
    size_t n = c < 0xC2 ? 0 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : c < 0xF5 ? 4 : 0;

    if (n == 0 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    if ((c == 0xE0 && s[1] < 0xA0) || (c == 0xED && s[1] > 0x9F) || (c == 0xF0 && s[1] < 0x90)
        || (c == 0xF4 && s[1] > 0x8F))
        return 0;
    return n;
}

/* The four hexadecimal digits at offset at; -1 when there are none. */
static int32_t json_hex(const struct json_parser *p, size_t at)
{
    int32_t v = 0;

    if (at > p->len || p->len - at < 4)
        return -1;
    for (size_t i = at; i < at + 4; i++) {
        const unsigned char c = p->text[i];
        const int d = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;

        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
}

static void json_put_utf8(struct json_parser *p, uint32_t c)
{
    if (c < 0x80) {
        *p->out++ = (char)c;
        return;
    }
    if (c < 0x800) {
        *p->out++ = (char)(0xC0 | c >> 6);
    } else {
        if (c < 0x10000) {
            *p->out++ = (char)(0xE0 | c >> 12);
        } else {
            *p->out++ = (char)(0xF0 | c >> 18);
            *p->out++ = (char)(0x80 | (c >> 12 & 0x3F));
        }
        *p->out++ = (char)(0x80 | (c >> 6 & 0x3F));
    }
    *p->out++ = (char)(0x80 | (c & 0x3F));
}

/* The escape at p->at, a backslash. */
static int32_t json_escape(struct json_parser *p)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const size_t start = p->at++;
    const char *name = p->at < p->len && p->text[p->at] != '\0'
                     ? strchr(names, p->text[p->at]) : NULL;

    if (name != NULL) {
        *p->out++ = values[name - names];
        p->at++;
        return MINKE_OK;
    }
    if (p->at >= p->len || p->text[p->at] != 'u')
        return json_fail(p, start, "unknown escape");
    int32_t c = json_hex(p, p->at + 1);

    if (c < 0)
        return json_fail(p, start, "four hexadecimal digits expected after \\u");
    p->at += 5;
    if (c >= 0xD800 && c <= 0xDFFF) {
        const int pair = c < 0xDC00 && p->len - p->at >= 2 && p->text[p->at] == '\\'
                      && p->text[p->at + 1] == 'u';
        const int32_t low = pair ? json_hex(p, p->at + 2) : -1;

        if (low < 0xDC00 || low > 0xDFFF)
            return json_fail(p, start, "lone surrogate");
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
        p->at += 6;
    }
    json_put_utf8(p, (uint32_t)c);
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
    while (p->at < p->len) {
        const unsigned char c = p->text[p->at];

        if (c < 0x20 || c >= 0x80 || c == '"' || c == '\\')
            return;
        *p->out++ = (char)c;
        p->at++;
    }
}

/* The string at p->at, behind its opening quote. */
static int32_t json_string(struct json_parser *p, struct mk_view *text)
{
    const size_t start = p->at;
    char *const begin = p->out;

    for (;;) {
        json_plain(p);
        if (p->at >= p->len)
            return json_fail(p, start - 1, "string without end");
        const unsigned char c = p->text[p->at];

        if (c == '"')
            break;
        if (c == '\\') {
            const int32_t rc = json_escape(p);

            if (rc < 0)
                return rc;
        } else if (c < 0x20) {
            return json_fail(p, p->at, "control character in a string");
        } else {
            const size_t n = json_utf8(p);

            if (n == 0)
                return json_fail(p, p->at, "not UTF-8");
            memcpy(p->out, p->text + p->at, n);
            p->out += n;
            p->at += n;
        }
    }
    p->at++;
    *text = (struct mk_view){begin, (size_t)(p->out - begin)};
    *p->out++ = '\0';
    return MINKE_OK;
}

static size_t json_digits(const struct json_parser *p, size_t at)
{
    while (at < p->len && p->text[at] >= '0' && p->text[at] <= '9')
        at++;
    return at;
}

static int32_t json_number(struct json_parser *p, struct mk_json *v)
{
    const size_t start = p->at;
    size_t i = start + (p->text[start] == '-'), digits = i;

    i = i < p->len && p->text[i] == '0' ? i + 1 : json_digits(p, i);
    if (i == digits)
        return json_fail(p, start, "digit expected");
    if (i < p->len && p->text[i] == '.') {
        digits = ++i;
        i = json_digits(p, i);
        if (i == digits)
            return json_fail(p, i, "digit expected");
    }
    if (i < p->len && (p->text[i] == 'e' || p->text[i] == 'E')) {
        i++;
        i += i < p->len && (p->text[i] == '+' || p->text[i] == '-');
        digits = i;
        i = json_digits(p, i);
        if (i == digits)
            return json_fail(p, i, "digit expected");
    }
    v->type = MK_JSON_NUMBER;
    v->text.data = p->out;
    v->text.len = i - start;
    memcpy(p->out, p->text + start, i - start);
    p->out += i - start;
    *p->out++ = '\0';
    p->at = i;
    return MINKE_OK;
}

static int32_t json_word(struct json_parser *p, struct mk_json *v, const char *word,
                         enum mk_json_type type)
{
    const size_t n = strlen(word);

    if (p->len - p->at < n || memcmp(p->text + p->at, word, n) != 0)
        return json_fail(p, p->at, "value expected");
    v->type = type;
    p->at += n;
    return MINKE_OK;
}

/* A value that holds no others, at p->at. */
static int32_t json_scalar(struct json_parser *p, struct mk_json *v)
{
    switch (p->text[p->at]) {
    case '"':
        p->at++;
        v->type = MK_JSON_STRING;
        return json_string(p, &v->text);
    case 'n':
        return json_word(p, v, "null", MK_JSON_NULL);
    case 't':
        return json_word(p, v, "true", MK_JSON_TRUE);
    case 'f':
        return json_word(p, v, "false", MK_JSON_FALSE);
    case '-': case '0': case '1': case '2': case '3': case '4':
    case '5': case '6': case '7': case '8': case '9':
        return json_number(p, v);
    default:
        return json_fail(p, p->at, "value expected");
    }
}

static int32_t json_repeated(const struct json_parser *p, const struct mk_json *v)
{
    return mk_fail(MINKE_EFORMAT, "%s: byte %zu: key \"%.*s\" is repeated", p->what, p->at,
                   (int)(v->key.len < 80 ? v->key.len : 80), v->key.data);
}

/* At the end of an object: its table, and no key twice. */
static int32_t json_finish_object(struct json_parser *p, struct mk_json *obj)
{
    struct mk_json_index *index;
    size_t n_slots = 4 * JSON_FEW;

    if (obj->n_items <= JSON_FEW) {
        for (const struct mk_json *a = obj->first; a != NULL; a = a->next)
            for (const struct mk_json *b = obj->first; b != a; b = b->next)
                if (json_key_is(b, a->key.data, a->key.len))
                    return json_repeated(p, a);
        return MINKE_OK;
    }
    while (n_slots / 2 < obj->n_items)
        n_slots *= 2;
    index = mk_arena_alloc(p->arena, 1, sizeof(*index));
    if (index == NULL)
        return MINKE_ENOMEM;
    index->slots = mk_arena_alloc(p->arena, n_slots, sizeof(*index->slots));
    if (index->slots == NULL)
        return MINKE_ENOMEM;
    index->mask = n_slots - 1;
    index->key[0] = mk_time_ns();
    index->key[1] = (uint64_t)(uintptr_t)index;
    for (const struct mk_json *v = obj->first; v != NULL; v = v->next) {
        const struct mk_json **slot = json_slot(index, v->key.data, v->key.len);

        if (*slot != NULL)
            return json_repeated(p, v);
        *slot = v;
    }
    obj->index = index;
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

/* A new item of the container on top of the stack, with its key if it is a member; p->at
 * moves to its value. */
static int32_t json_item(struct json_parser *p, struct mk_json **out)
{
    struct mk_json *v = json_node(p);

    if (v == NULL)
        return MINKE_ENOMEM;
    if (p->depth > 0) {
        struct json_level *top = &p->stack[p->depth - 1];

        if (top->node->type == MK_JSON_OBJECT) {
            if (p->at >= p->len || p->text[p->at] != '"')
                return json_fail(p, p->at, "key expected");
            p->at++;
            const int32_t rc = json_string(p, &v->key);

            if (rc < 0)
                return rc;
            json_space(p);
            if (p->at >= p->len || p->text[p->at] != ':')
                return json_fail(p, p->at, "':' expected");
            p->at++;
            json_space(p);
        }
        if (top->last != NULL)
            top->last->next = v;
        else
            top->node->first = v;
        top->last = v;
        top->node->n_items++;
    }
    *out = v;
    return MINKE_OK;
}

/* Behind an item: close what ends here.  *more: another item follows. */
static int32_t json_close(struct json_parser *p, int *more)
{
    *more = 0;
    while (p->depth > 0) {
        struct json_level *top = &p->stack[p->depth - 1];
        const int is_object = top->node->type == MK_JSON_OBJECT;

        json_space(p);
        const unsigned char c = p->at < p->len ? p->text[p->at] : 0;

        if (c == ',' && top->last != NULL) {
            p->at++;
            json_space(p);
            *more = 1;
            return MINKE_OK;
        }
        if (c != (is_object ? '}' : ']'))
            return json_fail(p, p->at, is_object ? "',' or '}' expected" : "',' or ']' expected");
        p->at++;
        if (is_object) {
            const int32_t rc = json_finish_object(p, top->node);

            if (rc < 0)
                return rc;
        }
        p->depth--;
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
    p->stack[p->depth].node = v;
    p->stack[p->depth].last = NULL;
    p->depth++;
    p->at++;
    json_space(p);
    *more = p->at < p->len && p->text[p->at] != (is_object ? '}' : ']');
    return MINKE_OK;
}

static int32_t json_document(struct json_parser *p, const struct mk_json **out)
{
    struct mk_json *root = NULL, *v = NULL;
    int more = 1;

    json_space(p);
    while (more) {
        int32_t rc = json_item(p, &v);

        if (rc < 0)
            return rc;
        root = root == NULL ? v : root;
        if (p->at >= p->len)
            return json_fail(p, p->at, "value expected");
        if (p->text[p->at] == '{' || p->text[p->at] == '[') {
            rc = json_open(p, v, &more);
            if (rc < 0)
                return rc;
            if (more)
                continue;
        } else {
            rc = json_scalar(p, v);
            if (rc < 0)
                return rc;
        }
        rc = json_close(p, &more);
        if (rc < 0)
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
    p.at = 0;
    p.slab = NULL;
    p.n_slab = 0;
    p.depth = 0;
    p.out = mk_arena_alloc(arena, len + 1, 1);
    if (p.out == NULL)
        return MINKE_ENOMEM;
    return json_document(&p, out);
}
