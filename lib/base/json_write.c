/* JSON as Python's json.dumps(ensure_ascii=False) writes it. */
#include <string.h>

#include "base/json.h"

/* The escape of a byte that a string cannot hold as it is; returns its length, 0 = none. */
static size_t json_escape_of(char out[6], char byte)
{
    static const char names[] = "btn_fr";    /* from U+0008 */
    const unsigned c = (unsigned char)byte;

    if (c >= 0x20 && c != '"' && c != '\\')
        return 0;
    out[0] = '\\';
    out[1] = c >= 0x20 ? byte : c >= 8 && c <= 13 && c != 11 ? names[c - 8] : 'u';
    if (out[1] != 'u')
        return 2;
    out[2] = out[3] = '0';
    out[4] = (char)('0' + c / 16);
    out[5] = "0123456789abcdef"[c % 16];
    return 6;
}

void mk_text_add_quoted(struct mk_text *t, const char *bytes, size_t n)
{
    size_t start = 0, len;
    char escape[6];

    mk_text_add(t, "\"", 1);
    for (size_t i = 0; i < n; i++) {
        if ((len = json_escape_of(escape, bytes[i])) == 0)
            continue;
        mk_text_add(t, bytes + start, i - start);
        mk_text_add(t, escape, len);
        start = i + 1;
    }
    if (n > start)
        mk_text_add(t, bytes + start, n - start);
    mk_text_add(t, "\"", 1);
}

/* Integers digit for digit; Python has no minus zero among them.  What is beyond the range
 * of a double is kept as it is. */
static void json_add_number(struct mk_text *t, const struct mk_json *v)
{
    char buffer[32];
    double d;

    if (v->text.len == strcspn(v->text.data, ".eE"))
        mk_text_add_view(t, mk_view_is(v->text, "-0") ? mk_view("0") : v->text);
    else if (mk_json_double(v, &d) != 0)
        mk_text_add_view(t, v->text);
    else
        mk_text_add(t, buffer, mk_number_write(buffer, d));
}

static void json_add_scalar(struct mk_text *t, const struct mk_json *v)
{
    static const char *const words[] = {
        [MK_JSON_NULL] = "null", [MK_JSON_FALSE] = "false", [MK_JSON_TRUE] = "true",
        [MK_JSON_ARRAY] = "[]", [MK_JSON_OBJECT] = "{}"
    };

    if (v->type == MK_JSON_NUMBER)
        json_add_number(t, v);
    else if (v->type == MK_JSON_STRING)
        mk_text_add_quoted(t, v->text.data, v->text.len);
    else
        mk_text_adds(t, words[v->type]);
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
