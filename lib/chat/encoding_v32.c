/* The encoding of V3.2 and V3.2-Speciale: tools in DSML, reasoning kept while tools are used.
 * Reference: DeepSeek-V3.2 encoding/encoding_dsv32.py, encode_messages.  Differs: content that
 * is neither text nor null is refused, and so is a key repeated in arguments. */
#include "base/error.h"
#include "chat/deepseek.h"

static const char v32_tools_head[] =
    "## Tools\n\n"
    "You have access to a set of tools you can use to answer the user's question.\n"
    "You can invoke functions by writing a \"" MK_DSML_OPEN "function_calls>\" block like the "
    "following as part of your reply to the user:\n"
    MK_DSML_OPEN "function_calls>\n"
    MK_DSML_OPEN "invoke name=\"$FUNCTION_NAME\">\n"
    MK_DSML_OPEN "parameter name=\"$PARAMETER_NAME\" string=\"true|false\">$PARAMETER_VALUE"
    MK_DSML_CLOSE "parameter>\n"
    "...\n"
    MK_DSML_CLOSE "invoke>\n"
    MK_DSML_OPEN "invoke name=\"$FUNCTION_NAME2\">\n"
    "...\n"
    MK_DSML_CLOSE "invoke>\n"
    MK_DSML_CLOSE "function_calls>\n\n";

static const char v32_tools_rules[] =
    "String and scalar parameters should be specified as is without any escaping or quotes, while "
    "lists and objects should use JSON format. The \"string\" attribute should be set to \"true\" "
    "for string type parameters and \"false\" for other types (numbers, booleans, arrays, "
    "objects).\n\n"
    "If the thinking_mode is enabled, then after function results you should strongly consider "
    "outputting a thinking block. Here is an example:\n\n"
    MK_DSML_OPEN "function_calls>\n"
    "...\n"
    MK_DSML_CLOSE "function_calls>\n\n"
    "<function_results>\n"
    "...\n"
    "</function_results>\n\n"
    MK_DS_THINK "...thinking about results" MK_DS_THINK_END "\n\n"
    "Here are the functions available in JSONSchema format:\n"
    "<functions>\n";

/* An empty list or object, an empty string, false and 0 are nothing, as in Python. */
static int v32_truthy(const struct mk_json *v)
{
    double number;

    if (v == NULL)
        return 0;
    switch (v->type) {
    case MK_JSON_TRUE:
        return 1;
    case MK_JSON_NUMBER:
        return mk_json_double(v, &number) != 0 || number < 0 || number > 0;
    case MK_JSON_STRING:
        return v->text.len > 0;
    case MK_JSON_ARRAY:
    case MK_JSON_OBJECT:
        return v->n_items > 0;
    default:
        return 0;
    }
}

static int32_t v32_tools(const struct mk_json *tools, struct mk_chat_out *out)
{
    mk_chat_adds(out, "\n\n");
    mk_chat_adds(out, v32_tools_head);
    mk_chat_adds(out, v32_tools_rules);
    for (const struct mk_json *tool = tools->first; tool != NULL; tool = tool->next) {
        const struct mk_json *function = mk_json_get(tool, "function");

        if (function == NULL)
            return mk_fail(MINKE_EINVAL, "tools: a tool has no function");
        if (tool != tools->first)
            mk_chat_adds(out, "\n");
        mk_chat_add_json(out, function);
    }
    mk_chat_adds(out, "\n</functions>\n");
    return MINKE_OK;
}

/* Tools and the wanted form of the answer, behind a system text or before a developer's. */
static int32_t v32_extras(const struct mk_json *tools, const struct mk_json *format,
                          struct mk_chat_out *out)
{
    int32_t rc = MINKE_OK;

    if (v32_truthy(tools))
        rc = v32_tools(tools, out);
    if (rc == MINKE_OK && v32_truthy(format)) {
        mk_chat_adds(out, "\n\n## Response Format:\n\nYou MUST strictly adhere to the following "
                          "schema to reply:\n");
        mk_chat_add_json(out, format);
    }
    return rc;
}

/* A conversation on its way; messages up to last_user (-1 = none) are of earlier turns. */
struct v32 {
    const struct mk_chat *c;
    struct mk_chat_out *out;
    ptrdiff_t last_user;
};

/* Index of the last user or developer message, -1 without one. */
static ptrdiff_t v32_last_user(const struct mk_chat *c)
{
    ptrdiff_t i = (ptrdiff_t)c->n - 1;

    while (i >= 0 && c->messages[i].role != MK_ROLE_USER
           && c->messages[i].role != MK_ROLE_DEVELOPER)
        i--;
    return i;
}

/* Whether the assistant message at i shows its reasoning. */
static int v32_shows(const struct v32 *w, size_t i)
{
    const struct mk_chat *c = w->c;
    const struct mk_chat_message *m = &c->messages[i];
    const int old = (ptrdiff_t)i <= w->last_user;

    if (c->retention == MINKE_RETAIN_ALL && (m->ids != NULL || old))
        return mk_chat_reasoned(c, m);
    return c->thinking && c->retention != MINKE_RETAIN_NONE && !old;
}

/* <think> or </think> behind the message at i, which the assistant answers. */
static void v32_opening(const struct v32 *w, size_t i)
{
    const struct mk_chat *c = w->c;
    const int answered = i + 1 < c->n && c->messages[i + 1].role == MK_ROLE_ASSISTANT;
    int thinks = c->thinking && (ptrdiff_t)i >= w->last_user;

    if (c->retention == MINKE_RETAIN_NONE)
        thinks = c->thinking && i + 1 == c->n;
    else if (c->retention == MINKE_RETAIN_ALL && answered)
        thinks = v32_shows(w, i + 1);
    mk_chat_adds(w->out, thinks ? MK_DS_THINK : MK_DS_THINK_END);
}

/* A text of the user or a tool; null is written as the reference writes it. */
static void v32_plain(const struct mk_json *content, struct mk_chat_out *out)
{
    if (content == NULL)
        mk_chat_adds(out, "None");
    else
        mk_chat_add_plain(out, content->text);
}

static int32_t v32_user(const struct v32 *w, size_t i)
{
    const struct mk_chat_message *m = &w->c->messages[i];

    mk_chat_adds(w->out, MK_DS_USER);
    if (m->role == MK_ROLE_DEVELOPER) {
        if (!v32_truthy(m->content))
            return mk_fail(MINKE_EINVAL, "message %zu: a developer message needs content",
                           m->place);
        if (v32_extras(m->tools, m->format, w->out) < 0)
            return MINKE_EINVAL;
        mk_chat_adds(w->out, "\n\n# The user's message is: ");
    }
    v32_plain(m->content, w->out);
    mk_chat_adds(w->out, MK_DS_ASSISTANT);
    v32_opening(w, i);
    return MINKE_OK;
}

static int32_t v32_tool(const struct v32 *w, size_t i)
{
    const struct mk_chat *c = w->c;
    const struct mk_chat_message *m = &c->messages[i], *caller;
    ptrdiff_t at = (ptrdiff_t)i - 1;
    size_t order, n_calls;

    while (at >= 0 && c->messages[at].role == MK_ROLE_TOOL)
        at--;
    /* Before the first message the reference's index wraps to the last. */
    caller = at >= 0 ? &c->messages[at] : &c->messages[c->n - 1];
    if (i > 0 && (at < 0 || caller->role != MK_ROLE_ASSISTANT))
        return mk_fail(MINKE_EINVAL, "message %zu: a tool result follows no assistant message",
                       m->place);
    order = (size_t)((ptrdiff_t)i - at);
    n_calls = caller->calls != NULL ? caller->calls->n_items : 0;
    if (n_calls < order)
        return mk_fail(MINKE_EINVAL, "message %zu: No tool calls but found tool output",
                       m->place);
    mk_chat_adds(w->out, order == 1 ? "\n\n<function_results>\n<result>" : "\n<result>");
    v32_plain(m->content, w->out);
    mk_chat_adds(w->out, "</result>");
    if (order == n_calls) {
        mk_chat_adds(w->out, "\n</function_results>\n\n");
        v32_opening(w, i);
    }
    return MINKE_OK;
}

static void v32_parameter(const struct mk_json *v, struct mk_chat_out *out)
{
    const int string = v->type == MK_JSON_STRING;

    mk_chat_adds(out, MK_DSML_OPEN "parameter name=\"");
    mk_chat_add_model(out, v->key);
    mk_chat_adds(out, string ? "\" string=\"true\">" : "\" string=\"false\">");
    if (string)
        mk_chat_add_model(out, v->text);
    else
        mk_chat_add_json(out, v);
    mk_chat_adds(out, MK_DSML_CLOSE "parameter>");
}

/* Arguments, JSON in a string, as one DSML parameter a line. */
static int32_t v32_arguments(const struct mk_chat_message *m, struct mk_view text,
                             struct mk_chat_out *out)
{
    const struct mk_json *arguments;
    struct mk_arena arena;
    int32_t rc;

    mk_arena_init(&arena, out->a);
    rc = mk_json_parse(&arguments, &arena, text.data, text.len, "arguments");
    if (rc == MINKE_OK && arguments->type != MK_JSON_OBJECT)
        rc = mk_fail(MINKE_EINVAL, "message %zu: arguments are no object", m->place);
    for (const struct mk_json *v = rc == MINKE_OK ? arguments->first : NULL; v != NULL;
         v = v->next) {
        v32_parameter(v, out);
        if (v->next != NULL)
            mk_chat_adds(out, "\n");
    }
    mk_arena_free(&arena);
    return rc == MINKE_EFORMAT ? MINKE_EINVAL : rc;
}

static int32_t v32_calls(const struct mk_chat_message *m, struct mk_chat_out *out)
{
    mk_chat_adds(out, "\n\n" MK_DSML_OPEN "function_calls>\n");
    for (const struct mk_json *v = m->calls->first; v != NULL; v = v->next) {
        struct mk_chat_call call;
        int32_t rc;

        if (mk_chat_read_call(&call, m, v) < 0)
            return MINKE_EINVAL;
        mk_chat_adds(out, MK_DSML_OPEN "invoke name=\"");
        mk_chat_add_model(out, call.name);
        mk_chat_adds(out, "\">\n");
        if ((rc = v32_arguments(m, call.arguments, out)) < 0)
            return rc;
        mk_chat_adds(out, "\n" MK_DSML_CLOSE "invoke>\n");
    }
    mk_chat_adds(out, MK_DSML_CLOSE "function_calls>");
    return MINKE_OK;
}

static int32_t v32_assistant(const struct v32 *w, size_t i)
{
    const struct mk_chat_message *m = &w->c->messages[i];
    const struct mk_json *reasoning = m->dropped ? NULL : m->reasoning;
    const int shows = v32_shows(w, i);
    const size_t begin = w->out->text.len;
    int32_t rc = MINKE_OK;

    if (shows) {
        if (!v32_truthy(reasoning) && m->calls == NULL && m->ids == NULL
            && !(w->c->retention == MINKE_RETAIN_ALL && reasoning != NULL))
            return mk_fail(MINKE_EINVAL, "message %zu: thinking, but neither reasoning_content "
                                         "nor tool_calls after the last user message", m->place);
        if (reasoning != NULL)
            mk_chat_add_model(w->out, reasoning->text);
        mk_chat_adds(w->out, MK_DS_THINK_END);
    }
    if (m->content != NULL)
        mk_chat_add_model(w->out, m->content->text);
    if (m->calls != NULL)
        rc = v32_calls(m, w->out);
    mk_chat_adds(w->out, MK_DS_EOS);
    mk_chat_own_ids(w->out, m, begin, shows ? MK_CUT_NONE : MK_CUT_FIRST);
    return rc;
}

static int32_t v32_message(const struct v32 *w, size_t i)
{
    const struct mk_chat_message *m = &w->c->messages[i];

    switch (m->role) {
    case MK_ROLE_SYSTEM:
        if (m->content != NULL)
            mk_chat_add_trusted(w->out, m->content->text);
        return v32_extras(m->tools, m->format, w->out);
    case MK_ROLE_DEVELOPER:
    case MK_ROLE_USER:
        return v32_user(w, i);
    case MK_ROLE_TOOL:
        return v32_tool(w, i);
    default:
        return v32_assistant(w, i);
    }
}

/* Reasoning of messages before the last user's goes, and so do developer messages there,
 * which shifts those behind: the reference does it. */
static void v32_drop(struct mk_chat *c)
{
    const ptrdiff_t last_user = v32_last_user(c);
    size_t kept = 0;

    for (size_t i = 0; i < c->n; i++) {
        struct mk_chat_message *m = &c->messages[i];

        if ((ptrdiff_t)i < last_user && m->role == MK_ROLE_DEVELOPER)
            continue;
        if ((ptrdiff_t)i < last_user && m->role == MK_ROLE_ASSISTANT)
            m->dropped = 1;
        c->messages[kept++] = *m;
    }
    c->n = kept;
}

/* Tools and format given beside the messages belong to the first system message, or to an
 * empty one in front. */
static int32_t v32_given(struct mk_chat *c, struct mk_chat_out *out)
{
    if (!v32_truthy(c->tools) && !v32_truthy(c->format))
        return MINKE_OK;
    for (size_t i = 0; i < c->n; i++) {
        struct mk_chat_message *m = &c->messages[i];

        if (m->role != MK_ROLE_SYSTEM)
            continue;
        m->tools = v32_truthy(m->tools) ? m->tools : c->tools;
        m->format = v32_truthy(m->format) ? m->format : c->format;
        return MINKE_OK;
    }
    return c->n_context == 0 ? v32_extras(c->tools, c->format, out) : MINKE_OK;
}

int32_t mk_chat_write_v32(struct mk_chat *c, struct mk_chat_out *out)
{
    const struct mk_encoding *e = c->encoding;
    struct v32 w = {.c = c, .out = out};
    const size_t n_all = c->n;
    int32_t rc = MINKE_OK;

    for (size_t i = 0; i < c->n && e->no_tools != NULL; i++)
        if (v32_truthy(c->messages[i].tools) || c->messages[i].calls != NULL)
            return mk_fail(MINKE_EUNSUPPORTED, "message %zu: %s %s tools", c->messages[i].place,
                           e->names[0], e->no_tools);
    if (c->bos && c->n_context == 0)
        mk_chat_adds(out, MK_DS_BOS);
    rc = v32_given(c, out);
    if (c->thinking && c->drop && c->retention != MINKE_RETAIN_ALL)
        v32_drop(c);
    w.last_user = v32_last_user(c);
    for (size_t i = c->n_context; i < n_all && rc == MINKE_OK; i++) {
        if (i >= c->n)
            return mk_fail(MINKE_EINVAL, "message %zu: a developer message before the last user "
                                         "message is dropped, and one is missing here", i);
        rc = v32_message(&w, i);
    }
    return rc;
}
