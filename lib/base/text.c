/* Text that grows, and JSON as Python's json.dumps(ensure_ascii=False) writes it. */
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/json.h"

void mk_text_init(struct mk_text *t, const struct mk_allocator *a)
{
    memset(t, 0, sizeof(*t));
    t->a = a;
}

void mk_text_free(struct mk_text *t)
{
    mk_free(t->a, t->data);
    t->data = NULL;
    t->len = t->capacity = 0;
}

/* Room for n more bytes and the NUL. */
static int32_t text_reserve(struct mk_text *t, size_t n)
{
    void *data = t->data;
    size_t need;

    if (mk_add(&need, t->len, n) != 0 || mk_add(&need, need, 1) != 0)
        return MINKE_ENOMEM;
    const int32_t status = mk_grow(t->a, &data, &t->capacity, need, 1);
    t->data = data;   /* as it was when that failed */
    return status;
}

void mk_text_add(struct mk_text *t, const char *bytes, size_t n)
{
    if (t->failed)
        return;
    if (text_reserve(t, n) != MINKE_OK) {
        t->failed = 1;
        return;
    }
    if (n > 0)
        memcpy(t->data + t->len, bytes, n);
    t->len += n;
    t->data[t->len] = '\0';
}

void mk_text_adds(struct mk_text *t, const char *nul_terminated)
{
    mk_text_add(t, nul_terminated, strlen(nul_terminated));
}

static int text_needs_escape(unsigned char c)
{
    return c < 0x20 || c == '"' || c == '\\';
}

void mk_text_add_quoted(struct mk_text *t, const char *bytes, size_t n)
{
    static const char names[] = "btn_fr";    /* from U+0008 */
    size_t start = 0;

    mk_text_add(t, "\"", 1);
    for (size_t i = 0; i <= n; i++) {
        if (i < n && !text_needs_escape((unsigned char)bytes[i]))
            continue;
        if (i > start)
            mk_text_add(t, bytes + start, i - start);
        start = i + 1;
        if (i == n)
            break;
        const unsigned char c = (unsigned char)bytes[i];
        char escape[6] = {'\\', (char)c};
        size_t len = 2;

        if (c >= 8 && c <= 13 && c != 11) {
            escape[1] = names[c - 8];
        } else if (c < 0x20) {
            memcpy(escape + 1, "u00", 3);
            escape[4] = (char)('0' + c / 16);
            escape[5] = "0123456789abcdef"[c % 16];
            len = 6;
        }
        mk_text_add(t, escape, len);
    }
    mk_text_add(t, "\"", 1);
}

/* Integers digit for digit; Python has no minus zero among them.  What is beyond the range
 * of a double is kept as it is. */
static void text_add_number(struct mk_text *t, const struct mk_json *v)
{
    char buffer[32];
    double d;
    int whole = 1;

    for (size_t i = 0; i < v->text_len; i++)
        if (v->text[i] == '.' || v->text[i] == 'e' || v->text[i] == 'E')
            whole = 0;
    if (whole && v->text_len == 2 && memcmp(v->text, "-0", 2) == 0)
        mk_text_add(t, "0", 1);
    else if (whole || mk_json_double(v, &d) != 0)
        mk_text_add(t, v->text, v->text_len);
    else
        mk_text_add(t, buffer, mk_number_write(buffer, d));
}

static void text_add_scalar(struct mk_text *t, const struct mk_json *v)
{
    switch (v->type) {
    case MK_JSON_NULL:
        mk_text_adds(t, "null");
        break;
    case MK_JSON_FALSE:
        mk_text_adds(t, "false");
        break;
    case MK_JSON_TRUE:
        mk_text_adds(t, "true");
        break;
    case MK_JSON_NUMBER:
        text_add_number(t, v);
        break;
    case MK_JSON_STRING:
        mk_text_add_quoted(t, v->text, v->text_len);
        break;
    default:
        mk_text_adds(t, v->type == MK_JSON_ARRAY ? "[]" : "{}");
        break;
    }
}

void mk_text_add_json(struct mk_text *t, const struct mk_json *v)
{
    const struct mk_json *stack[MK_JSON_MAX_DEPTH];
    size_t depth = 0;

    for (;;) {
        if (depth > 0 && stack[depth - 1]->type == MK_JSON_OBJECT) {
            mk_text_add_quoted(t, v->key, v->key_len);
            mk_text_add(t, ": ", 2);
        }
        if (v->first != NULL && depth < MK_JSON_MAX_DEPTH) {
            mk_text_add(t, v->type == MK_JSON_OBJECT ? "{" : "[", 1);
            stack[depth++] = v;
            v = v->first;
            continue;
        }
        text_add_scalar(t, v);
        while (depth > 0 && v->next == NULL) {
            v = stack[--depth];
            mk_text_add(t, v->type == MK_JSON_OBJECT ? "}" : "]", 1);
        }
        if (depth == 0)
            return;
        v = v->next;
        mk_text_add(t, ", ", 2);
    }
}
