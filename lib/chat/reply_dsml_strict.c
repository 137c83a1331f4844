/* DeepSeek's parser of V3.2 replies, error for error.
 * Reference: DeepSeek-V3.2 encoding/encoding_dsv32.py, parse_message_from_completion_text. */
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "chat/deepseek.h"

static const char strict_calls[] = "\n\n" MK_DSML_OPEN "function_calls";
static const char strict_calls_end[] = MK_DSML_CLOSE "function_calls>";
static const char strict_invoke[] = MK_DSML_OPEN "invoke";
static const char strict_invoke_end[] = MK_DSML_CLOSE "invoke";
static const char strict_param[] = MK_DSML_OPEN "parameter";
static const char strict_param_end[] = "/" MK_DSML "parameter";

struct strict {
    struct mk_view text;
    size_t at;
    struct mk_view read;         /* what the last read passed over */
    const char *stop;            /* the marker it ended at, NULL at the end of the text */
    struct mk_text calls;        /* items of tool_calls, joined */
    struct mk_view *names;       /* of one call's parameters, to refuse a second of the same */
    size_t n_names, names_capacity;
};

static int32_t strict_fail(const char *why)
{
    return mk_fail(MINKE_EFORMAT, "%s", why);
}

/* Read up to and over the first of two markers (b may be NULL). */
static void strict_until(struct strict *p, const char *a, const char *b)
{
    const struct mk_view marker = mk_view(a), other = mk_view(b != NULL ? b : a);
    size_t end = p->at;

    while (end < p->text.len && !mk_view_has(p->text, end, marker)
           && !mk_view_has(p->text, end, other))
        end++;
    p->read = mk_view_part(p->text, p->at, end);
    p->stop = end == p->text.len ? NULL : mk_view_has(p->text, end, marker) ? a : b;
    p->at = end + (p->stop != NULL ? strlen(p->stop) : 0);
}

static int strict_is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1C && c <= 0x1F);
}

/* ' name="NAME">\n': Python's ^\s*name="(.*?)">\n$, where $ also stands before a last line
 * feed. */
static int32_t strict_name(struct mk_view s, struct mk_view *name)
{
    const struct mk_view head = MK_VIEW("name=\""), tail = MK_VIEW("\">\n");
    size_t begin = 0, end;

    while (begin < s.len && strict_is_space(s.data[begin]))
        begin++;
    if (!mk_view_has(s, begin, head))
        return strict_fail("Tool name format error");
    begin += head.len;
    end = mk_view_find(s, begin, tail);
    while (end < s.len && end + 3 != s.len && !(end + 4 == s.len && s.data[end + 3] == '\n'))
        end = mk_view_find(s, end + 1, tail);
    if (end == s.len)
        return strict_fail("Tool name format error");
    *name = mk_view_part(s, begin, end);
    return MINKE_OK;
}

struct strict_parameter {
    struct mk_view name, value;
    int string;
};

/* ' name="NAME" string="true">VALUE<': ^ name="(.*?)" string="(true|false)">(.*?)<$ */
static int32_t strict_parameter(struct mk_view s, struct strict_parameter *out)
{
    const struct mk_view head = MK_VIEW(" name=\""), yes = MK_VIEW("\" string=\"true\">"),
                         no = MK_VIEW("\" string=\"false\">");
    const size_t at_yes = mk_view_find(s, head.len, yes), at_no = mk_view_find(s, head.len, no);
    const size_t at = mk_min(at_yes, at_no);
    size_t begin, end = s.len;

    if (!mk_view_has(s, 0, head) || at == s.len)
        return strict_fail("Parameter format error");
    out->string = at_yes < at_no;
    begin = at + (out->string ? yes.len : no.len);
    if (end > begin + 1 && s.data[end - 1] == '\n' && s.data[end - 2] == '<')
        end--;
    if (end <= begin || s.data[end - 1] != '<')
        return strict_fail("Parameter format error");
    out->name = mk_view_part(s, head.len, at);
    out->value = mk_view_part(s, begin, end - 1);
    return MINKE_OK;
}

static int32_t strict_take_name(struct strict *p, struct mk_view name)
{
    int32_t rc;

    for (size_t i = 0; i < p->n_names; i++)
        if (mk_view_equal(p->names[i], name))
            return strict_fail("Duplicate parameter name");
    rc = mk_grow(p->calls.a, (void **)&p->names, &p->names_capacity, p->n_names + 1,
                 sizeof(*p->names));
    if (rc == MINKE_OK)
        p->names[p->n_names++] = name;
    return rc;
}

static int32_t strict_parameters(struct strict *p, struct mk_text *arguments)
{
    p->n_names = 0;
    while (p->stop == strict_param) {
        struct strict_parameter param = {0};
        int32_t rc;

        strict_until(p, strict_param_end, NULL);
        if ((rc = strict_parameter(p->read, &param)) < 0
            || (rc = strict_take_name(p, param.name)) < 0)
            return rc;
        if (p->n_names > 1)
            mk_text_adds(arguments, ", ");
        mk_text_add_quoted(arguments, param.name.data, param.name.len);
        mk_text_adds(arguments, ": ");
        if (param.string)
            mk_text_add_quoted(arguments, param.value.data, param.value.len);
        else
            mk_text_add_view(arguments, param.value);
        strict_until(p, strict_param, strict_invoke_end);
        if (!mk_view_is(p->read, ">\n"))
            return strict_fail("Parameter format error");
    }
    return MINKE_OK;
}

static int32_t strict_call(struct strict *p)
{
    struct mk_view name = {"", 0};
    struct mk_text arguments;
    int32_t rc;

    mk_text_init(&arguments, p->calls.a);
    mk_text_adds(&arguments, "{");
    strict_until(p, strict_param, strict_invoke_end);
    if ((rc = strict_name(p->read, &name)) == MINKE_OK)
        rc = strict_parameters(p, &arguments);
    mk_text_adds(&arguments, "}");
    if (rc == MINKE_OK)
        mk_reply_write_call(&p->calls, name, mk_text_view(&arguments));
    p->calls.failed |= arguments.failed;
    mk_text_free(&arguments);
    return rc;
}

static int32_t strict_all_calls(struct strict *p)
{
    int32_t rc = MINKE_OK;

    p->stop = NULL;
    while (p->at < p->text.len && rc == MINKE_OK) {
        strict_until(p, strict_invoke, strict_calls_end);
        if (!mk_view_is(p->read, ">\n"))
            return strict_fail("Tool call format error");
        if (p->stop == NULL)
            return strict_fail("Missing special token");
        if (p->stop == strict_calls_end)
            break;
        rc = strict_call(p);
    }
    return rc;
}

static int strict_is_stray(struct mk_view s)
{
    static const char *const special[] = {MK_DS_BOS, MK_DS_EOS, MK_DS_THINK, MK_DS_THINK_END,
                                          MK_DSML};

    for (size_t i = 0; i < MK_COUNT(special); i++)
        if (mk_view_find(s, 0, mk_view(special[i])) < s.len)
            return 1;
    return 0;
}

static int32_t strict_message(struct strict *p, struct mk_view *reasoning, struct mk_view *content,
                              int thinking)
{
    static const char think_end[] = MK_DS_THINK_END;
    int32_t rc;

    if (thinking) {
        strict_until(p, think_end, strict_calls);
        *reasoning = p->read;
        if (p->stop != think_end)
            return strict_fail("Invalid thinking format");
    }
    strict_until(p, MK_DS_EOS, strict_calls);
    *content = p->read;
    if (p->stop == NULL)
        return strict_fail("Invalid summary format");
    if (p->stop == strict_calls) {
        if ((rc = strict_all_calls(p)) < 0)
            return rc;
        strict_until(p, MK_DS_EOS, NULL);
        if (p->read.len > 0)
            return strict_fail("Unexpected content after tool calls");
    }
    if (p->at != p->text.len)
        return strict_fail("Unexpected content at end");
    if (strict_is_stray(*content) || strict_is_stray(*reasoning))
        return strict_fail("Unexpected special token in content");
    return MINKE_OK;
}

int32_t mk_reply_strict_dsml(struct minke_reply *r)
{
    struct mk_view reasoning = {"", 0}, content = {"", 0};
    struct strict p = {.text = mk_text_view(&r->raw)};
    int32_t rc;

    mk_text_init(&p.calls, &r->a);
    rc = strict_message(&p, &reasoning, &content, r->thinking);
    if (rc == MINKE_OK) {
        r->reasoning.len = r->content.len = r->calls.len = r->malformed.len = 0;
        mk_text_add_view(&r->reasoning, reasoning);
        mk_text_add_view(&r->content, content);
        mk_text_add_view(&r->calls, mk_text_view(&p.calls));
        r->calls.failed |= p.calls.failed;
        r->n_given = r->content.len;
    }
    mk_text_free(&p.calls);
    mk_free(&r->a, p.names);
    return rc;
}
