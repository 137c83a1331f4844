/* JSON as Python's json.dumps(ensure_ascii=False) writes it. */
#include <string.h>

#include "base/json.h"

static int json_needs_escape(unsigned char c)
{
    return c < 0x20 || c == '"' || c == '\\';
}

void mk_text_add_quoted(struct mk_text *t, const char *bytes, size_t n)
{
    static const char names[] = "btn_fr";    /* from U+0008 */
    size_t start = 0;

    mk_text_add(t, "\"", 1);
    for (size_t i = 0; i <= n; i++) {
        if (i < n && !json_needs_escape((unsigned char)bytes[i]))
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
static void json_add_number(struct mk_text *t, const struct mk_json *v)
{
    char buffer[32];
    double d;
    int whole = 1;

    for (size_t i = 0; i < v->text.len; i++)
        if (v->text.data[i] == '.' || v->text.data[i] == 'e' || v->text.data[i] == 'E')
            whole = 0;
    if (whole && v->text.len == 2 && memcmp(v->text.data, "-0", 2) == 0)
        mk_text_add(t, "0", 1);
    else if (whole || mk_json_double(v, &d) != 0)
        mk_text_add(t, v->text.data, v->text.len);
    else
        mk_text_add(t, buffer, mk_number_write(buffer, d));
}

static void json_add_scalar(struct mk_text *t, const struct mk_json *v)
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
        json_add_number(t, v);
        break;
    case MK_JSON_STRING:
        mk_text_add_quoted(t, v->text.data, v->text.len);
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
            mk_text_add_quoted(t, v->key.data, v->key.len);
            mk_text_add(t, ": ", 2);
        }
        if (v->first != NULL && depth < MK_JSON_MAX_DEPTH) {
            mk_text_add(t, v->type == MK_JSON_OBJECT ? "{" : "[", 1);
            stack[depth++] = v;
            v = v->first;
            continue;
        }
        json_add_scalar(t, v);
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
