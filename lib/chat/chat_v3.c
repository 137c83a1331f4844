/* The encodings of V2, V3, R1 and V3.1: what their published templates write, byte for byte.
 * Reference: chat_template in tokenizer_config.json of DeepSeek-V2, -V3, -V3-0324, -R1,
 * -R1-0528, -V3.1 and -V3.1-Terminus. */
#include <string.h>

#include "base/error.h"
#include "chat/chat.h"

/* The content, which these templates need to be text. */
static const struct mk_json *v3_content(const struct mk_chat_message *m)
{
    if (m->content == NULL)
        mk_fail(MINKE_EINVAL, "message %zu: content is null", m->place);
    return m->content;
}

int32_t mk_chat_write_v2(const struct mk_chat *c, struct mk_chat_out *out)
{
    if (c->bos)
        mk_chat_adds(out, MK_CHAT_BOS);
    for (size_t i = c->n_context; i < c->n; i++) {
        const struct mk_chat_message *m = &c->messages[i];
        size_t begin;

        if (m->role == MK_ROLE_TOOL)
            continue;
        if (v3_content(m) == NULL)
            return MINKE_EINVAL;
        if (m->role == MK_ROLE_ASSISTANT) {
            mk_chat_adds(out, "Assistant:");
            begin = out->text.len;
            mk_chat_adds(out, " ");
            mk_chat_add_model(out, m->content->text.data, m->content->text.len);
            mk_chat_adds(out, MK_CHAT_EOS);
            mk_chat_own_ids(out, m, begin, 0);
            continue;
        }
        if (m->role == MK_ROLE_USER) {
            mk_chat_adds(out, "User: ");
            mk_chat_add_plain(out, m->content->text.data, m->content->text.len);
        } else {
            mk_chat_add_trusted(out, m->content->text.data, m->content->text.len);
        }
        mk_chat_adds(out, "\n\n");
    }
    if (c->generation)
        mk_chat_adds(out, "Assistant:");
    return MINKE_OK;
}

/* All system messages, joined, in front of everything. */
static int32_t v3_system(const struct mk_chat *c, struct mk_chat_out *out)
{
    int first = 1;

    if (c->bos)
        mk_chat_adds(out, MK_CHAT_BOS);
    for (size_t i = c->n_context; i < c->n; i++) {
        const struct mk_chat_message *m = &c->messages[i];

        if (m->role != MK_ROLE_SYSTEM)
            continue;
        if (v3_content(m) == NULL)
            return MINKE_EINVAL;
        if (!first)
            mk_chat_adds(out, "\n\n");
        mk_chat_add_trusted(out, m->content->text.data, m->content->text.len);
        first = 0;
    }
    return MINKE_OK;
}

/* Where the answer begins in content: behind the first or the last </think>, 0 without one. */
static size_t v3_after_think(const struct mk_json *content, int last)
{
    const size_t n = strlen(MK_CHAT_THINK_END);
    size_t found = 0;

    for (size_t i = 0; i + n <= content->text.len; i++)
        if (memcmp(content->text.data + i, MK_CHAT_THINK_END, n) == 0) {
            found = i + n;
            if (!last)
                break;
        }
    return found;
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

static int v3_is_r1(const struct mk_chat *c)
{
    return c->kind == MK_CHAT_R1_HF || c->kind == MK_CHAT_R1_DOCS;
}

/* What a prompt ends in that asks for an answer here.  In front of ids that a message carries
 * it stands again, also where the template writes an old message otherwise. */
static void v3_ask(const struct mk_chat *c, const struct v3_state *s, struct mk_chat_out *out)
{
    if (s->is_tool)
        mk_chat_adds(out, MK_CHAT_OUTPUTS_END);
    else if (!s->is_last_user)
        mk_chat_adds(out, MK_CHAT_ASSISTANT);
    if (!s->is_tool && c->kind == MK_CHAT_R1_HF)
        mk_chat_adds(out, MK_CHAT_THINK "\n");
}

/* Whether this message shows its reasoning; the R1s think in every answer to a user. */
static int v3_shows(const struct mk_chat *c, const struct v3_state *s, size_t i)
{
    const struct mk_chat_message *m = &c->messages[i];

    if (c->kind < MK_CHAT_R1_HF || !v3_keeps(c, s, i))
        return 0;
    return m->reasoning != NULL && (m->reasoning->text.len > 0 || !s->is_tool);
}

/* The reasoning, with the marks around it that no prompt holds. */
static void v3_reasoning(const struct mk_chat *c, size_t i, struct mk_chat_out *out)
{
    const struct mk_chat_message *m = &c->messages[i];

    if (c->kind != MK_CHAT_R1_HF)
        mk_chat_adds(out, MK_CHAT_THINK);
    mk_chat_add_model(out, m->reasoning->text.data, m->reasoning->text.len);
    mk_chat_adds(out, MK_CHAT_THINK_END);
}

static void v3_begin(const struct mk_chat *c, struct v3_state *s)
{
    memset(s, 0, sizeof(*s));
    s->is_output_first = 1;
    for (size_t i = c->n_context; i < c->n; i++) {
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
    mk_chat_adds(out, MK_CHAT_CALL);
    mk_chat_add_model(out, type->text.data, type->text.len);
    mk_chat_adds(out, MK_CHAT_SEP);
    mk_chat_add_model(out, name->text.data, name->text.len);
    mk_chat_adds(out, "\n```json\n");
    mk_chat_add_model(out, arguments->text.data, arguments->text.len);
    mk_chat_adds(out, "\n```" MK_CHAT_CALL_END);
    return MINKE_OK;
}

static void v3_result(const struct mk_chat_message *m, struct mk_chat_out *out)
{
    mk_chat_adds(out, MK_CHAT_OUTPUT);
    mk_chat_add_plain(out, m->content->text.data, m->content->text.len);
    mk_chat_adds(out, MK_CHAT_OUTPUT_END);
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
        mk_chat_adds(out, MK_CHAT_ASSISTANT);
    s->is_tool = 0;
    begin = out->text.len;
    for (const struct mk_json *call = m->calls->first; call != NULL; call = call->next) {
        const int later = s->is_first;

        mk_chat_adds(out, later ? "\n" : MK_CHAT_CALLS);
        if (v3_call(m, call, out) < 0)
            return MINKE_EINVAL;
        s->is_first = 1;
        if (later)
            mk_chat_adds(out, MK_CHAT_CALLS_END MK_CHAT_EOS);
    }
    mk_chat_own_ids(out, m, begin, 0);
    return MINKE_OK;
}

/* V3-0324 and the R1s: all calls of a message, its content in front of the first. */
static int32_t v3_calls(const struct mk_chat *c, size_t i, struct v3_state *s,
                        struct mk_chat_out *out)
{
    const struct mk_chat_message *m = &c->messages[i];
    const int r1 = v3_is_r1(c), shows = v3_shows(c, s, i);
    size_t begin, skip = 0;

    if (m->calls == NULL)
        return mk_fail(MINKE_EINVAL, "message %zu: tool_calls is null", m->place);
    if (m->ids != NULL || (shows && !s->is_first))
        v3_ask(c, s, out);
    else if (!r1 && s->is_tool)
        mk_chat_adds(out, MK_CHAT_OUTPUTS_END);
    else if (r1 && !s->is_first)
        mk_chat_adds(out, MK_CHAT_ASSISTANT);
    if (!r1)
        s->is_first = 0, s->is_output_first = 1;
    s->is_tool = 0;
    if (c->kind == MK_CHAT_R1_0528 && !shows)
        skip = v3_after_think(m->content, 1);
    begin = out->text.len;
    if (shows)
        v3_reasoning(c, i, out);
    for (const struct mk_json *call = m->calls->first; call != NULL; call = call->next) {
        if (s->is_first) {
            mk_chat_adds(out, "\n");
        } else {
            if (m->content != NULL)
                mk_chat_add_model(out, m->content->text.data + skip, m->content->text.len - skip);
            mk_chat_adds(out, MK_CHAT_CALLS);
        }
        s->is_first = 1;
        if (v3_call(m, call, out) < 0)
            return MINKE_EINVAL;
    }
    mk_chat_adds(out, MK_CHAT_CALLS_END MK_CHAT_EOS);
    mk_chat_own_ids(out, m, begin, c->kind == MK_CHAT_V3_0324 || v3_keeps(c, s, i) ? 0 : 2);
    return MINKE_OK;
}

/* An answer, without its reasoning where the template cuts it. */
static int32_t v3_answer(const struct mk_chat *c, size_t i, struct v3_state *s,
                         struct mk_chat_out *out)
{
    const struct mk_chat_message *m = &c->messages[i];
    const int r1 = v3_is_r1(c), shows = v3_shows(c, s, i);
    const int reasons = r1 || c->kind == MK_CHAT_R1_0528, keeps = reasons && v3_keeps(c, s, i);
    size_t begin, skip = 0;

    if (v3_content(m) == NULL)
        return MINKE_EINVAL;
    if (shows || (m->ids != NULL && (keeps || !reasons)))
        v3_ask(c, s, out);
    else if (s->is_tool)
        mk_chat_adds(out, MK_CHAT_OUTPUTS_END);
    else if (r1 || c->kind == MK_CHAT_V3)
        mk_chat_adds(out, MK_CHAT_ASSISTANT);
    begin = out->text.len;
    if (shows)
        v3_reasoning(c, i, out);
    else if (reasons && !keeps && !(r1 && s->is_tool))
        skip = v3_after_think(m->content, 1);
    mk_chat_add_model(out, m->content->text.data + skip, m->content->text.len - skip);
    mk_chat_adds(out, MK_CHAT_EOS);
    mk_chat_own_ids(out, m, begin, reasons && !keeps ? 2 : 0);
    s->is_tool = 0;
    return MINKE_OK;
}

static int32_t v3_tool(const struct mk_chat *c, const struct mk_chat_message *m,
                       struct v3_state *s, struct mk_chat_out *out)
{
    if (v3_content(m) == NULL)
        return MINKE_EINVAL;
    s->is_last_user = 0;
    s->is_tool = 1;
    if (s->is_output_first)
        mk_chat_adds(out, MK_CHAT_OUTPUTS);
    else if (c->kind != MK_CHAT_R1_HF && c->kind != MK_CHAT_R1_DOCS)
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

    if (c->kind == MK_CHAT_R1_0528 && v3_content(m) == NULL)
        return MINKE_EINVAL;
    if (c->kind == MK_CHAT_V3)
        rc = m->content == NULL ? v3_dec24_calls(c, m, s, out) : v3_answer(c, i, s, out);
    else if (v3_is_r1(c) ? m->has_calls : m->calls != NULL)
        rc = v3_calls(c, i, s, out);
    else
        rc = v3_answer(c, i, s, out);
    s->is_last_user = 0;
    return rc;
}

int32_t mk_chat_write_v3(const struct mk_chat *c, struct mk_chat_out *out)
{
    const int opens = c->kind == MK_CHAT_V3_0324 || c->kind == MK_CHAT_R1_0528;
    struct v3_state s;
    int32_t rc = v3_system(c, out);

    v3_begin(c, &s);
    for (size_t i = c->n_context; i < c->n && rc == MINKE_OK; i++) {
        const struct mk_chat_message *m = &c->messages[i];

        if (m->role == MK_ROLE_ASSISTANT) {
            rc = v3_assistant(c, i, &s, out);
        } else if (m->role == MK_ROLE_TOOL) {
            rc = v3_tool(c, m, &s, out);
        } else if (m->role == MK_ROLE_USER) {
            if (v3_content(m) == NULL)
                return MINKE_EINVAL;
            s.is_tool = 0;
            s.is_last_user = opens;
            if (opens)
                s.is_first = 0;
            mk_chat_adds(out, MK_CHAT_USER);
            mk_chat_add_plain(out, m->content->text.data, m->content->text.len);
            if (opens)
                mk_chat_adds(out, MK_CHAT_ASSISTANT);
        }
    }
    if (rc < 0)
        return rc;
    if (c->generation)
        v3_ask(c, &s, out);
    else if (s.is_tool)
        mk_chat_adds(out, MK_CHAT_OUTPUTS_END);
    return MINKE_OK;
}

/* ---- V3.1 ---- */

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
        mk_chat_add_model(out, name->text.data, name->text.len);
        mk_chat_adds(out, "\nDescription: ");
        if (description != NULL && description->type == MK_JSON_STRING)
            mk_chat_add_model(out, description->text.data, description->text.len);
        mk_chat_adds(out, "\n\nParameters: ");
        if (parameters != NULL)
            mk_chat_add_json(out, parameters);
        else
            mk_chat_adds(out, "{}");
        mk_chat_adds(out, "\n");
    }
    mk_chat_adds(out, "\nIMPORTANT: ALWAYS adhere to this exact format for tool use:\n"
        MK_CHAT_CALLS MK_CHAT_CALL "tool_call_name" MK_CHAT_SEP "tool_call_arguments"
        MK_CHAT_CALL_END "{{additional_tool_calls}}" MK_CHAT_CALLS_END "\n\nWhere:\n"
        "- `tool_call_name` must be an exact match to one of the available tools\n"
        "- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters "
        "Schema\n"
        "- For multiple tool calls, chain them directly without separators or spaces");
    return MINKE_OK;
}

/* Whether a prompt that ends here asks for an answer. */
static int v31_asks(const struct mk_chat *c, const struct v3_state *s)
{
    if (s->is_tool)
        return 0;
    if (c->kind == MK_CHAT_V31_TERMINUS)
        return s->is_last_user || s->is_only_sys || !s->is_prefix;
    return s->is_last_user;
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

static int32_t v31_calls(const struct mk_chat *c, size_t i, struct v3_state *s,
                         struct mk_chat_out *out)
{
    const struct mk_chat_message *m = &c->messages[i];
    const int keeps = v3_keeps(c, s, i), shows = v31_shows(c, s, i);
    const int opens = m->ids != NULL ? v31_asks(c, s)
                    : s->is_last_user || (c->kind == MK_CHAT_V31_TERMINUS && s->is_only_sys);
    size_t begin;

    if (opens)
        mk_chat_adds(out, shows ? MK_CHAT_ASSISTANT MK_CHAT_THINK
                                : MK_CHAT_ASSISTANT MK_CHAT_THINK_END);
    begin = out->text.len;
    if (shows && m->reasoning != NULL)
        mk_chat_add_model(out, m->reasoning->text.data, m->reasoning->text.len);
    if (shows)
        mk_chat_adds(out, MK_CHAT_THINK_END);
    s->is_last_user = 0;
    s->is_tool = 0;
    if (m->calls->first != NULL && m->content != NULL)
        mk_chat_add_model(out, m->content->text.data, m->content->text.len);
    if (m->calls->first != NULL)
        mk_chat_adds(out, MK_CHAT_CALLS);
    for (const struct mk_json *call = m->calls->first; call != NULL; call = call->next) {
        const struct mk_json *name = mk_chat_call_text(m, call, "name");
        const struct mk_json *arguments = mk_chat_call_text(m, call, "arguments");

        if (name == NULL || arguments == NULL)
            return MINKE_EINVAL;
        mk_chat_adds(out, MK_CHAT_CALL);
        mk_chat_add_model(out, name->text.data, name->text.len);
        mk_chat_adds(out, MK_CHAT_SEP);
        mk_chat_add_model(out, arguments->text.data, arguments->text.len);
        mk_chat_adds(out, MK_CHAT_CALL_END);
    }
    mk_chat_adds(out, MK_CHAT_CALLS_END MK_CHAT_EOS);
    mk_chat_own_ids(out, m, begin, keeps ? 0 : 1);
    return MINKE_OK;
}

static int32_t v31_answer(const struct mk_chat *c, size_t i, struct v3_state *s,
                          struct mk_chat_out *out)
{
    const struct mk_chat_message *m = &c->messages[i];
    const int keeps = v3_keeps(c, s, i), shows = v31_shows(c, s, i);
    size_t begin, skip = 0;

    if (v3_content(m) == NULL)
        return MINKE_EINVAL;
    if (m->ids != NULL ? v31_asks(c, s) : s->is_last_user) {
        mk_chat_adds(out, MK_CHAT_ASSISTANT);
        mk_chat_adds(out, shows || (m->prefix && c->thinking) ? MK_CHAT_THINK
                                                              : MK_CHAT_THINK_END);
    }
    s->is_prefix |= m->prefix;
    begin = out->text.len;
    if (shows && m->reasoning != NULL)
        mk_chat_add_model(out, m->reasoning->text.data, m->reasoning->text.len);
    if (shows)
        mk_chat_adds(out, MK_CHAT_THINK_END);
    else if (!s->is_tool)
        skip = v3_after_think(m->content, 0);
    mk_chat_add_model(out, m->content->text.data + skip, m->content->text.len - skip);
    mk_chat_adds(out, MK_CHAT_EOS);
    mk_chat_own_ids(out, m, begin, keeps ? 0 : 1);
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
        rc = m->calls != NULL ? v31_calls(c, i, s, out) : v31_answer(c, i, s, out);
    } else {
        if (v3_content(m) == NULL)
            return MINKE_EINVAL;
        s->is_last_user = m->role == MK_ROLE_USER;
        s->is_tool = m->role == MK_ROLE_TOOL;
        if (m->role == MK_ROLE_TOOL) {
            v3_result(m, out);
        } else {
            mk_chat_adds(out, MK_CHAT_USER);
            mk_chat_add_plain(out, m->content->text.data, m->content->text.len);
        }
    }
    s->is_only_sys = 0;
    return rc;
}

int32_t mk_chat_write_v31(const struct mk_chat *c, struct mk_chat_out *out)
{
    struct v3_state s;
    int32_t rc = v3_system(c, out);

    if (rc == MINKE_OK && c->tools != NULL && c->tools->first != NULL)
        rc = v31_tools(c->tools, out);
    v3_begin(c, &s);
    for (size_t i = c->n_context; i < c->n && rc == MINKE_OK; i++)
        rc = v31_message(c, i, &s, out);
    if (rc < 0)
        return rc;
    if (c->generation && v31_asks(c, &s)) {
        mk_chat_adds(out, MK_CHAT_ASSISTANT);
        mk_chat_adds(out, c->thinking ? MK_CHAT_THINK : MK_CHAT_THINK_END);
    }
    return MINKE_OK;
}
