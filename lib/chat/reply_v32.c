/* DeepSeek's parser of V3.2 replies, error for error.
 * Reference: DeepSeek-V3.2 encoding/encoding_dsv32.py, parse_message_from_completion_text. */
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "chat/reply.h"

#define P32_CALLS "\n\n<" MK_CHAT_DSML "function_calls"
#define P32_CALLS_END "</" MK_CHAT_DSML "function_calls>"
#define P32_INVOKE "<" MK_CHAT_DSML "invoke"
#define P32_INVOKE_END "</" MK_CHAT_DSML "invoke"
#define P32_PARAMETER "<" MK_CHAT_DSML "parameter"
#define P32_PARAMETER_END "/" MK_CHAT_DSML "parameter"

struct p32 {
    const char *text;
    size_t len, at;
    struct mk_view read;        /* what the last read passed over */
    const char *stop;            /* the marker it ended at, NULL at the end of the text */
    struct mk_text calls;        /* items of tool_calls, joined */
    const struct mk_allocator *a;
};

static int32_t p32_fail(const char *why)
{
    return mk_fail(MINKE_EFORMAT, "%s", why);
}

/* Read up to and over the first of two markers (b may be NULL). */
static void p32_until(struct p32 *p, const char *a, const char *b)
{
    const size_t na = strlen(a), nb = b != NULL ? strlen(b) : 0;
    const size_t from = p->at;

    p->stop = NULL;
    for (size_t i = from; i < p->len && p->stop == NULL; i++) {
        if (p->len - i >= na && memcmp(p->text + i, a, na) == 0)
            p->stop = a;
        else if (b != NULL && p->len - i >= nb && memcmp(p->text + i, b, nb) == 0)
            p->stop = b;
        if (p->stop != NULL)
            p->at = i;
    }
    if (p->stop == NULL)
        p->at = p->len;
    p->read = (struct mk_view){p->text + from, p->at - from};
    if (p->stop != NULL)
        p->at += strlen(p->stop);
}

static int p32_is(struct mk_view s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

/* Position of part in s at or behind from, or SIZE_MAX. */
static size_t p32_find(struct mk_view s, size_t from, const char *part)
{
    const size_t n = strlen(part);

    for (size_t i = from; i + n <= s.len; i++)
        if (memcmp(s.data + i, part, n) == 0)
            return i;
    return SIZE_MAX;
}

/* ' name="NAME">\n': Python's ^\s*name="(.*?)">\n$, where $ also stands before a last line
 * feed. */
static int32_t p32_name(struct mk_view s, struct mk_view *name)
{
    size_t i = 0, end;

    while (i < s.len && (s.data[i] == ' ' || (s.data[i] >= '\t' && s.data[i] <= '\r')
                         || (s.data[i] >= 0x1C && s.data[i] <= 0x1F)))
        i++;
    if (s.len - i < 6 || memcmp(s.data + i, "name=\"", 6) != 0)
        return p32_fail("Tool name format error");
    i += 6;
    end = p32_find(s, i, "\">\n");
    while (end != SIZE_MAX && end + 3 != s.len
           && !(end + 4 == s.len && s.data[end + 3] == '\n'))
        end = p32_find(s, end + 1, "\">\n");
    if (end == SIZE_MAX)
        return p32_fail("Tool name format error");
    *name = (struct mk_view){s.data + i, end - i};
    return MINKE_OK;
}

/* ' name="NAME" string="true">VALUE<': ^ name="(.*?)" string="(true|false)">(.*?)<$ */
static int32_t p32_parameter(struct mk_view s, struct mk_view *name, struct mk_view *value,
                             int *string)
{
    const size_t head = strlen(" name=\"");
    size_t yes, no, begin, end = s.len;

    if (s.len < head || memcmp(s.data, " name=\"", head) != 0)
        return p32_fail("Parameter format error");
    yes = p32_find(s, head, "\" string=\"true\">");
    no = p32_find(s, head, "\" string=\"false\">");
    if (yes == SIZE_MAX && no == SIZE_MAX)
        return p32_fail("Parameter format error");
    *string = yes < no;
    *name = (struct mk_view){s.data + head, (*string ? yes : no) - head};
    begin = *string ? yes + strlen("\" string=\"true\">") : no + strlen("\" string=\"false\">");
    if (end > begin + 1 && s.data[end - 1] == '\n' && s.data[end - 2] == '<')
        end--;
    if (end <= begin || s.data[end - 1] != '<')
        return p32_fail("Parameter format error");
    *value = (struct mk_view){s.data + begin, end - 1 - begin};
    return MINKE_OK;
}

/* The names of one call's parameters, to refuse a second of the same. */
struct p32_names {
    struct mk_view *items;
    size_t n, capacity;
};

static int32_t p32_take_name(struct p32 *p, struct p32_names *names, struct mk_view name)
{
    int32_t rc;

    for (size_t i = 0; i < names->n; i++)
        if (names->items[i].len == name.len
            && memcmp(names->items[i].data, name.data, name.len) == 0)
            return p32_fail("Duplicate parameter name");
    rc = mk_grow(p->a, (void **)&names->items, &names->capacity, names->n + 1,
                 sizeof(*names->items));
    if (rc == MINKE_OK)
        names->items[names->n++] = name;
    return rc;
}

static int32_t p32_parameters(struct p32 *p, struct mk_text *arguments, struct p32_names *names)
{
    while (p->stop != NULL && strcmp(p->stop, P32_PARAMETER) == 0) {
        struct mk_view name = {"", 0}, value = {"", 0};
        int string = 0;
        int32_t rc;

        p32_until(p, P32_PARAMETER_END, NULL);
        if ((rc = p32_parameter(p->read, &name, &value, &string)) < 0
            || (rc = p32_take_name(p, names, name)) < 0)
            return rc;
        if (names->n > 1)
            mk_text_adds(arguments, ", ");
        mk_text_add_quoted(arguments, name.data, name.len);
        mk_text_adds(arguments, ": ");
        if (string)
            mk_text_add_quoted(arguments, value.data, value.len);
        else
            mk_text_add(arguments, value.data, value.len);
        p32_until(p, P32_PARAMETER, P32_INVOKE_END);
        if (!p32_is(p->read, ">\n"))
            return p32_fail("Parameter format error");
    }
    return MINKE_OK;
}

static int32_t p32_call(struct p32 *p)
{
    struct p32_names names = {0};
    struct mk_text arguments;
    struct mk_view name = {"", 0};
    int32_t rc;

    mk_text_init(&arguments, p->a);
    mk_text_adds(&arguments, "{");
    p32_until(p, P32_PARAMETER, P32_INVOKE_END);
    rc = p32_name(p->read, &name);
    if (rc == MINKE_OK)
        rc = p32_parameters(p, &arguments, &names);
    mk_text_adds(&arguments, "}");
    if (rc == MINKE_OK) {
        if (p->calls.len > 0)
            mk_text_adds(&p->calls, ", ");
        mk_text_adds(&p->calls, "{\"type\": \"function\", \"function\": {\"name\": ");
        mk_text_add_quoted(&p->calls, name.data, name.len);
        mk_text_adds(&p->calls, ", \"arguments\": ");
        mk_text_add_quoted(&p->calls, arguments.data, arguments.len);
        mk_text_adds(&p->calls, "}}");
        p->calls.failed |= arguments.failed;
    }
    mk_free(p->a, names.items);
    mk_text_free(&arguments);
    return rc;
}

static int32_t p32_calls(struct p32 *p)
{
    p->stop = NULL;
    while (p->at < p->len) {
        int32_t rc;

        p32_until(p, P32_INVOKE, P32_CALLS_END);
        if (!p32_is(p->read, ">\n"))
            return p32_fail("Tool call format error");
        if (p->stop == NULL)
            return p32_fail("Missing special token");
        if (strcmp(p->stop, P32_CALLS_END) == 0)
            break;
        if ((rc = p32_call(p)) < 0)
            return rc;
    }
    return MINKE_OK;
}

static int p32_stray(struct mk_view s)
{
    static const char *const special[] = {
        MK_CHAT_BOS, MK_CHAT_EOS, MK_CHAT_THINK, MK_CHAT_THINK_END, MK_CHAT_DSML};

    for (size_t i = 0; i < MK_COUNT(special); i++)
        if (p32_find(s, 0, special[i]) != SIZE_MAX)
            return 1;
    return 0;
}

static int32_t p32_message(struct p32 *p, struct mk_view *reasoning, struct mk_view *content,
                           int thinking)
{
    int32_t rc;

    if (thinking) {
        p32_until(p, MK_CHAT_THINK_END, P32_CALLS);
        *reasoning = p->read;
        if (p->stop == NULL || strcmp(p->stop, MK_CHAT_THINK_END) != 0)
            return p32_fail("Invalid thinking format");
    }
    p32_until(p, MK_CHAT_EOS, P32_CALLS);
    *content = p->read;
    if (p->stop == NULL)
        return p32_fail("Invalid summary format");
    if (strcmp(p->stop, P32_CALLS) == 0) {
        if ((rc = p32_calls(p)) < 0)
            return rc;
        p32_until(p, MK_CHAT_EOS, NULL);
        if (p->read.len > 0)
            return p32_fail("Unexpected content after tool calls");
    }
    if (p->at != p->len)
        return p32_fail("Unexpected content at end");
    if (p32_stray(*content) || p32_stray(*reasoning))
        return p32_fail("Unexpected special token in content");
    return MINKE_OK;
}

int32_t mk_reply_parse_v32(struct mk_text *out, const struct mk_allocator *a, const char *text,
                           size_t len, int thinking)
{
    struct mk_view reasoning = {"", 0}, content = {"", 0};
    struct p32 p = {.text = text, .len = len, .a = a};
    int32_t rc;

    mk_text_init(&p.calls, a);
    rc = p32_message(&p, &reasoning, &content, thinking);
    if (rc == MINKE_OK) {
        mk_text_adds(out, "{\"role\": \"assistant\", \"content\": ");
        mk_text_add_quoted(out, content.data, content.len);
        mk_text_adds(out, ", \"reasoning_content\": ");
        mk_text_add_quoted(out, reasoning.data, reasoning.len);
        mk_text_adds(out, ", \"tool_calls\": [");
        mk_text_add(out, p.calls.data, p.calls.len);
        mk_text_adds(out, "]}");
        if (out->failed || p.calls.failed)
            rc = mk_fail_memory(len, "a parsed reply");
    }
    mk_text_free(&p.calls);
    return rc;
}
