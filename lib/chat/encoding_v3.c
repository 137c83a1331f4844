/* The encodings of V3, R1 and V3.1: what their published templates write, byte for byte.
 * Reference: chat_template in tokenizer_config.json of DeepSeek-V3, -V3-0324, -R1, -R1-0528,
 * -V3.1 and -V3.1-Terminus. */
#include "base/error.h"
#include "chat/deepseek.h"

/* All system messages, joined, in front of everything. */
static int32_t v3_system(const struct mk_chat *c, struct mk_chat_out *out)
{
    int first = 1;

    if (c->bos)
        mk_chat_adds(out, MK_DS_BOS);
    for (size_t i = 0; i < c->n; i++) {
        const struct mk_chat_message *m = &c->messages[i];

        if (m->role != MK_ROLE_SYSTEM)
            continue;
        if (mk_chat_content(m) == NULL)
            return MINKE_EINVAL;
        if (!first)
            mk_chat_adds(out, "\n\n");
        mk_chat_add_trusted(out, m->content->text);
        first = 0;
    }
    return MINKE_OK;
}

/* The answer in content: what stands behind the first or the last </think>, all without one. */
static struct mk_view v3_after_think(struct mk_view content, enum mk_chat_cut cut)
{
    const struct mk_view end = MK_VIEW(MK_DS_THINK_END);
    const size_t at = cut == MK_CUT_LAST ? mk_view_find_last(content, 0, end)
                                         : mk_view_find(content, 0, end);

    return at < content.len ? mk_view_part(content, at + end.len, content.len) : content;
}

/* Where a conversation stands, in the names of the templates. */
struct v3_state {
    int is_first;          /* a call was written */
    int is_tool;           /* the last message was a tool's */
    int is_output_first;   /* the next result is the first */
    int is_last_user, is_only_sys, is_prefix;
    size_t last_user;      /* index of the last user message */
};

static int v3_keeps(const struct mk_chat *c, const struct v3_state *s, size_t i)
{
    return c->retention == MINKE_RETAIN_ALL
           || (c->retention == MINKE_RETAIN_TURN && i > s->last_user);
}

static int v3_asks(const struct mk_chat *c)
{
    return (c->encoding->style & MK_V3_ASKS) != 0;
}

static int v3_reasons(const struct mk_chat *c)
{
    return c->encoding->thinks[MINKE_THINKING_ON];
}

/* The template of the first R1, which closes calls and results in its own way. */
static int v3_is_r1(const struct mk_chat *c)
{
    return v3_reasons(c) && !v3_asks(c);
}

/* What a prompt ends in that asks for an answer here.  In front of ids that a message carries
 * it stands again, also where the template writes an old message otherwise. */
static void v3_ask(const struct mk_chat *c, const struct v3_state *s, struct mk_chat_out *out)
{
    if (s->is_tool)
        mk_chat_adds(out, MK_DS_OUTPUTS_END);
    else if (!s->is_last_user)
        mk_chat_adds(out, MK_DS_ASSISTANT);
    if (!s->is_tool && c->encoding->think_by == MK_THINK_BY_BOTH)
        mk_chat_adds(out, MK_DS_THINK "\n");
}

/* Whether this message shows its reasoning; the R1s think in every answer to a user. */
static int v3_shows(const struct mk_chat *c, const struct v3_state *s, size_t i)
{
    const struct mk_chat_message *m = &c->messages[i];

    if (!v3_reasons(c) || !v3_keeps(c, s, i))
        return 0;
    return m->reasoning != NULL && (m->reasoning->text.len > 0 || !s->is_tool);
}

/* The reasoning, with the marks around it that no prompt holds. */
static void v3_reasoning(const struct mk_chat *c, size_t i, struct mk_chat_out *out)
{
    const struct mk_chat_message *m = &c->messages[i];

    if (c->encoding->think_by == MK_THINK_BY_MODEL)
        mk_chat_adds(out, MK_DS_THINK);
    mk_chat_add_model(out, m->reasoning->text);
    mk_chat_adds(out, MK_DS_THINK_END);
}

static void v3_begin(const struct mk_chat *c, struct v3_state *s)
{
    *s = (struct v3_state){.is_output_first = 1};
    for (size_t i = 0; i < c->n; i++) {
        if (c->messages[i].role == MK_ROLE_USER)
            s->last_user = i;
        s->is_only_sys |= c->messages[i].role == MK_ROLE_SYSTEM;
    }
}

/* One call with its fenced arguments. */
static int32_t v3_call(const struct mk_chat_message *m, const struct mk_json *call,
                       struct mk_chat_out *out)
{
    const struct mk_json *type = mk_json_get(call, "type");
    const struct mk_json *name = mk_chat_call_text(m, call, "name");
    const struct mk_json *arguments = mk_chat_call_text(m, call, "arguments");

    if (name == NULL || arguments == NULL)
        return MINKE_EINVAL;
    if (type == NULL || type->type != MK_JSON_STRING)
        return mk_fail(MINKE_EINVAL, "message %zu: a tool call has no type", m->place);
    mk_chat_adds(out, MK_DS_CALL);
    mk_chat_add_model(out, type->text);
    mk_chat_adds(out, MK_DS_SEP);
    mk_chat_add_model(out, name->text);
    mk_chat_adds(out, "\n```json\n");
    mk_chat_add_model(out, arguments->text);
    mk_chat_adds(out, "\n```" MK_DS_CALL_END);
    return MINKE_OK;
}

static void v3_result(const struct mk_chat_message *m, struct mk_chat_out *out)
{
    mk_chat_adds(out, MK_DS_OUTPUT);
    mk_chat_add_plain(out, m->content->text);
    mk_chat_adds(out, MK_DS_OUTPUT_END);
}

/* V3 of December 2024: calls only where content is null, closed from the second call on. */
static int32_t v3_dec24_calls(const struct mk_chat *c, const struct mk_chat_message *m,
                              struct v3_state *s, struct mk_chat_out *out)
{
    size_t begin;

    if (m->calls == NULL)
        return mk_fail(MINKE_EINVAL, "message %zu: neither content nor tool_calls", m->place);
    if (m->ids != NULL)
        v3_ask(c, s, out);
    else if (!s->is_first)
        mk_chat_adds(out, MK_DS_ASSISTANT);
    s->is_tool = 0;
    begin = out->text.len;
    for (const struct mk_json *call = m->calls->first; call != NULL; call = call->next) {
        const int later = s->is_first;

        mk_chat_adds(out, later ? "\n" : MK_DS_CALLS);
        if (v3_call(m, call, out) < 0)
            return MINKE_EINVAL;
        s->is_first = 1;
        if (later)
            mk_chat_adds(out, MK_DS_CALLS_END MK_DS_EOS);
    }
    mk_chat_own_ids(out, m, begin, MK_CUT_NONE);
    return MINKE_OK;
}

/* What stands in front of a message that calls, asks: as a prompt would ask for it. */
static void v3_before_calls(const struct mk_chat *c, struct v3_state *s, int asks,
                            struct mk_chat_out *out)
{
    const int r1 = v3_is_r1(c);

    if (asks)
        v3_ask(c, s, out);
    else if (!r1 && s->is_tool)
        mk_chat_adds(out, MK_DS_OUTPUTS_END);
    else if (r1 && !s->is_first)
        mk_chat_adds(out, MK_DS_ASSISTANT);
    if (!r1)
        s->is_first = 0, s->is_output_first = 1;
    s->is_tool = 0;
}

/* V3-0324 and the R1s: all calls of a message, its content in front of the first. */
static int32_t v3_calls(const struct mk_chat *c, size_t i, struct v3_state *s,
                        struct mk_chat_out *out)
{
    const struct mk_chat_message *m = &c->messages[i];
    const int shows = v3_shows(c, s, i), cuts = v3_reasons(c) && !v3_keeps(c, s, i);
    struct mk_view content = m->content != NULL ? m->content->text : (struct mk_view){"", 0};
    size_t begin;

    if (m->calls == NULL)
        return mk_fail(MINKE_EINVAL, "message %zu: tool_calls is null", m->place);
    v3_before_calls(c, s, m->ids != NULL || (shows && !s->is_first), out);
    if (v3_reasons(c) && !v3_is_r1(c) && !shows)
        content = v3_after_think(content, MK_CUT_LAST);
    begin = out->text.len;
    if (shows)
        v3_reasoning(c, i, out);
    for (const struct mk_json *call = m->calls->first; call != NULL; call = call->next) {
        if (!s->is_first)
            mk_chat_add_model(out, content);
        mk_chat_adds(out, s->is_first ? "\n" : MK_DS_CALLS);
        s->is_first = 1;
        if (v3_call(m, call, out) < 0)
            return MINKE_EINVAL;
    }
    mk_chat_adds(out, MK_DS_CALLS_END MK_DS_EOS);
    mk_chat_own_ids(out, m, begin, cuts ? MK_CUT_LAST : MK_CUT_NONE);
    return MINKE_OK;
}

/* An answer, without its reasoning where the template cuts it. */
static int32_t v3_answer(const struct mk_chat *c, size_t i, struct v3_state *s,
                         struct mk_chat_out *out)
{
    const struct mk_chat_message *m = &c->messages[i];
    const int shows = v3_shows(c, s, i), cuts = v3_reasons(c) && !v3_keeps(c, s, i);
    struct mk_view content;
    size_t begin;

    if (mk_chat_content(m) == NULL)
        return MINKE_EINVAL;
    content = m->content->text;
    if (shows || (m->ids != NULL && !cuts))
        v3_ask(c, s, out);
    else if (s->is_tool)
        mk_chat_adds(out, MK_DS_OUTPUTS_END);
    else if (!v3_asks(c))
        mk_chat_adds(out, MK_DS_ASSISTANT);
    begin = out->text.len;
    if (shows)
        v3_reasoning(c, i, out);
    else if (cuts && !(v3_is_r1(c) && s->is_tool))
        content = v3_after_think(content, MK_CUT_LAST);
    mk_chat_add_model(out, content);
    mk_chat_adds(out, MK_DS_EOS);
    mk_chat_own_ids(out, m, begin, cuts ? MK_CUT_LAST : MK_CUT_NONE);
    s->is_tool = 0;
    return MINKE_OK;
}

static int32_t v3_tool(const struct mk_chat *c, const struct mk_chat_message *m,
                       struct v3_state *s, struct mk_chat_out *out)
{
    if (mk_chat_content(m) == NULL)
        return MINKE_EINVAL;
    s->is_last_user = 0;
    s->is_tool = 1;
    if (s->is_output_first)
        mk_chat_adds(out, MK_DS_OUTPUTS);
    else if (!v3_is_r1(c))
        mk_chat_adds(out, "\n");
    s->is_output_first = 0;
    v3_result(m, out);
    return MINKE_OK;
}

static int32_t v3_assistant(const struct mk_chat *c, size_t i, struct v3_state *s,
                            struct mk_chat_out *out)
{
    const struct mk_chat_message *m = &c->messages[i];
    int32_t rc;

    if (v3_reasons(c) && v3_asks(c) && mk_chat_content(m) == NULL)
        return MINKE_EINVAL;
    if (c->encoding->null_content)
        rc = m->content == NULL ? v3_dec24_calls(c, m, s, out) : v3_answer(c, i, s, out);
    else if (v3_is_r1(c) ? m->has_calls : m->calls != NULL)
        rc = v3_calls(c, i, s, out);
    else
        rc = v3_answer(c, i, s, out);
    s->is_last_user = 0;
    return rc;
}

static int32_t v3_user(const struct mk_chat *c, const struct mk_chat_message *m,
                       struct v3_state *s, struct mk_chat_out *out)
{
    if (mk_chat_content(m) == NULL)
        return MINKE_EINVAL;
    s->is_tool = 0;
    s->is_last_user = v3_asks(c);
    s->is_first &= !v3_asks(c);
    mk_chat_adds(out, MK_DS_USER);
    mk_chat_add_plain(out, m->content->text);
    if (v3_asks(c))
        mk_chat_adds(out, MK_DS_ASSISTANT);
    return MINKE_OK;
}

int32_t mk_chat_write_v3(struct mk_chat *c, struct mk_chat_out *out)
{
    struct v3_state s;
    int32_t rc = v3_system(c, out);

    v3_begin(c, &s);
    for (size_t i = 0; i < c->n && rc == MINKE_OK; i++) {
        const struct mk_chat_message *m = &c->messages[i];

        if (m->role == MK_ROLE_ASSISTANT)
            rc = v3_assistant(c, i, &s, out);
        else if (m->role == MK_ROLE_TOOL)
            rc = v3_tool(c, m, &s, out);
        else if (m->role == MK_ROLE_USER)
            rc = v3_user(c, m, &s, out);
    }
    if (rc < 0)
        return rc;
    if (c->generation)
        v3_ask(c, &s, out);
    else if (s.is_tool)
        mk_chat_adds(out, MK_DS_OUTPUTS_END);
    return MINKE_OK;
}

/* ---- V3.1 ---------------------------------------------------------------- */

/* Reference: DeepSeek-V3.1 README.md, "ToolCall". */
static int32_t v31_tools(const struct mk_json *tools, struct mk_chat_out *out)
{
    mk_chat_adds(out, "\n\n## Tools\nYou have access to the following tools:\n");
    for (const struct mk_json *tool = tools->first; tool != NULL; tool = tool->next) {
        const struct mk_json *function = mk_json_get(tool, "function");
        const struct mk_json *name = mk_json_get(function, "name");
        const struct mk_json *description = mk_json_get(function, "description");
        const struct mk_json *parameters = mk_json_get(function, "parameters");

        if (name == NULL || name->type != MK_JSON_STRING)
            return mk_fail(MINKE_EINVAL, "tools: a tool has no function name");
        mk_chat_adds(out, "\n### ");
        mk_chat_add_model(out, name->text);
        mk_chat_adds(out, "\nDescription: ");
        if (description != NULL && description->type == MK_JSON_STRING)
            mk_chat_add_model(out, description->text);
        mk_chat_adds(out, "\n\nParameters: ");
        if (parameters != NULL)
            mk_chat_add_json(out, parameters);
        else
            mk_chat_adds(out, "{}");
        mk_chat_adds(out, "\n");
    }
    mk_chat_adds(out, "\nIMPORTANT: ALWAYS adhere to this exact format for tool use:\n"
        MK_DS_CALLS MK_DS_CALL "tool_call_name" MK_DS_SEP "tool_call_arguments"
        MK_DS_CALL_END "{{additional_tool_calls}}" MK_DS_CALLS_END "\n\nWhere:\n"
        "- `tool_call_name` must be an exact match to one of the available tools\n"
        "- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters "
        "Schema\n"
        "- For multiple tool calls, chain them directly without separators or spaces");
    return MINKE_OK;
}

static int v31_repeats(const struct mk_chat *c)
{
    return (c->encoding->style & MK_V31_REPEATS) != 0;
}

/* Whether a prompt that ends here asks for an answer. */
static int v31_asks(const struct mk_chat *c, const struct v3_state *s)
{
    return !s->is_tool
           && (s->is_last_user || (v31_repeats(c) && (s->is_only_sys || !s->is_prefix)));
}

/* Whether this message shows its reasoning; behind results no prompt opens one. */
static int v31_shows(const struct mk_chat *c, const struct v3_state *s, size_t i)
{
    const struct mk_chat_message *m = &c->messages[i];

    if (!v3_keeps(c, s, i))
        return 0;
    if (s->is_tool && m->ids == NULL)
        return m->reasoning != NULL && m->reasoning->text.len > 0;
    return mk_chat_reasoned(c, m);
}

static int32_t v31_calls(const struct mk_chat_message *m, struct mk_chat_out *out)
{
    mk_chat_adds(out, MK_DS_CALLS);
    for (const struct mk_json *call = m->calls->first; call != NULL; call = call->next) {
        const struct mk_json *name = mk_chat_call_text(m, call, "name");
        const struct mk_json *arguments = mk_chat_call_text(m, call, "arguments");

        if (name == NULL || arguments == NULL)
            return MINKE_EINVAL;
        mk_chat_adds(out, MK_DS_CALL);
        mk_chat_add_model(out, name->text);
        mk_chat_adds(out, MK_DS_SEP);
        mk_chat_add_model(out, arguments->text);
        mk_chat_adds(out, MK_DS_CALL_END);
    }
    mk_chat_adds(out, MK_DS_CALLS_END);
    return MINKE_OK;
}

/* The mark that asks for the message at i, where one stands, and how it begins. */
static void v31_ask(const struct mk_chat *c, size_t i, const struct v3_state *s,
                    struct mk_chat_out *out)
{
    const struct mk_chat_message *m = &c->messages[i];
    const int calls = m->calls != NULL;

    if (m->ids != NULL ? v31_asks(c, s)
                       : s->is_last_user || (calls && v31_repeats(c) && s->is_only_sys)) {
        const int thinks = v31_shows(c, s, i) || (!calls && m->prefix && c->thinking);

        mk_chat_adds(out, MK_DS_ASSISTANT);
        mk_chat_adds(out, thinks ? MK_DS_THINK : MK_DS_THINK_END);
    }
}

static int32_t v31_assistant(const struct mk_chat *c, size_t i, struct v3_state *s,
                             struct mk_chat_out *out)
{
    const struct mk_chat_message *m = &c->messages[i];
    const int shows = v31_shows(c, s, i), calls = m->calls != NULL;
    size_t begin;

    if (!calls && mk_chat_content(m) == NULL)
        return MINKE_EINVAL;
    v31_ask(c, i, s, out);
    begin = out->text.len;
    if (shows && m->reasoning != NULL)
        mk_chat_add_model(out, m->reasoning->text);
    if (shows)
        mk_chat_adds(out, MK_DS_THINK_END);
    if (m->content != NULL)
        mk_chat_add_model(out, shows || calls || s->is_tool
                                   ? m->content->text
                                   : v3_after_think(m->content->text, MK_CUT_FIRST));
    if (calls && v31_calls(m, out) < 0)
        return MINKE_EINVAL;
    mk_chat_adds(out, MK_DS_EOS);
    mk_chat_own_ids(out, m, begin, v3_keeps(c, s, i) ? MK_CUT_NONE : MK_CUT_FIRST);
    s->is_prefix |= !calls && m->prefix;
    s->is_last_user = 0;
    s->is_tool = 0;
    return MINKE_OK;
}

static int32_t v31_message(const struct mk_chat *c, size_t i, struct v3_state *s,
                           struct mk_chat_out *out)
{
    const struct mk_chat_message *m = &c->messages[i];
    int32_t rc = MINKE_OK;

    if (m->role == MK_ROLE_SYSTEM)
        return MINKE_OK;
    if (m->role == MK_ROLE_ASSISTANT) {
        rc = v31_assistant(c, i, s, out);
    } else {
        if (mk_chat_content(m) == NULL)
            return MINKE_EINVAL;
        s->is_last_user = m->role == MK_ROLE_USER;
        s->is_tool = m->role == MK_ROLE_TOOL;
        if (m->role == MK_ROLE_TOOL) {
            v3_result(m, out);
        } else {
            mk_chat_adds(out, MK_DS_USER);
            mk_chat_add_plain(out, m->content->text);
        }
    }
    s->is_only_sys = 0;
    return rc;
}

int32_t mk_chat_write_v31(struct mk_chat *c, struct mk_chat_out *out)
{
    struct v3_state s;
    int32_t rc = v3_system(c, out);

    if (rc == MINKE_OK && c->tools != NULL && c->tools->first != NULL)
        rc = v31_tools(c->tools, out);
    v3_begin(c, &s);
    for (size_t i = 0; i < c->n && rc == MINKE_OK; i++)
        rc = v31_message(c, i, &s, out);
    if (rc < 0)
        return rc;
    if (c->generation && v31_asks(c, &s)) {
        mk_chat_adds(out, MK_DS_ASSISTANT);
        mk_chat_adds(out, c->thinking ? MK_DS_THINK : MK_DS_THINK_END);
    }
    return MINKE_OK;
}
