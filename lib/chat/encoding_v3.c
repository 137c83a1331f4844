/* The encodings of V3, R1 and V3.1: what their published templates write, byte for byte.
 * Reference: chat_template in tokenizer_config.json of DeepSeek-V3, -V3-0324, -R1, -R1-0528,
 * -V3.1 and -V3.1-Terminus. */
#include "base/error.h"
#include "chat/deepseek.h"

/* Where a conversation stands, in the names of the templates. */
struct v3 {
    const struct mk_chat *c;
    struct mk_chat_out *out;
    const struct mk_chat_message *m;   /* that is written */
    int is_first;          /* a call was written */
    int is_tool;           /* the last message was a tool's */
    int is_output_first;   /* the next result is the first */
    int is_last_user, is_only_sys, is_prefix;
    int keeps;             /* the retention rule keeps its reasoning */
};

/* All system messages, joined, in front of everything. */
static int32_t v3_system(struct v3 *w)
{
    const struct mk_chat *c = w->c;

    if (c->bos)
        mk_chat_adds(w->out, MK_DS_BOS);
    for (size_t i = 0; i < c->n; i++) {
        const struct mk_chat_message *m = &c->messages[i];

        if (m->role != MK_ROLE_SYSTEM)
            continue;
        if (mk_chat_content(m) == NULL)
            return MINKE_EINVAL;
        if (w->is_only_sys)
            mk_chat_adds(w->out, "\n\n");
        mk_chat_add_trusted(w->out, m->content->text);
        w->is_only_sys = 1;
    }
    return MINKE_OK;
}

/* Write all messages but the system's, one by one. */
static int32_t v3_each(struct v3 *w, int32_t (*write)(struct v3 *w))
{
    const struct mk_chat *c = w->c;
    size_t last_user = 0;
    int32_t rc = MINKE_OK;

    for (size_t i = 0; i < c->n; i++)
        if (c->messages[i].role == MK_ROLE_USER)
            last_user = i;
    for (size_t i = 0; i < c->n && rc == MINKE_OK; i++) {
        w->m = &c->messages[i];
        w->keeps = c->retention == MINKE_RETAIN_ALL
                   || (c->retention == MINKE_RETAIN_TURN && i > last_user);
        if (w->m->role != MK_ROLE_SYSTEM)
            rc = write(w);
    }
    return rc;
}

/* The answer in content: what stands behind the first or the last </think>, all without one. */
static struct mk_view v3_after_think(struct mk_view content, enum mk_chat_cut cut)
{
    const struct mk_view end = MK_VIEW(MK_DS_THINK_END);
    const size_t at = cut == MK_CUT_LAST ? mk_view_find_last(content, 0, end)
                                         : mk_view_find(content, 0, end);

    return at < content.len ? mk_view_part(content, at + end.len, content.len) : content;
}

static void v3_result(struct v3 *w)
{
    mk_chat_adds(w->out, MK_DS_OUTPUT);
    mk_chat_add_plain(w->out, w->m->content->text);
    mk_chat_adds(w->out, MK_DS_OUTPUT_END);
}

/* ---- V3 and R1 ----------------------------------------------------------- */

static int v3_asks(const struct v3 *w)
{
    return (w->c->encoding->style & MK_V3_ASKS) != 0;
}

static int v3_reasons(const struct v3 *w)
{
    return w->c->encoding->thinks[MINKE_THINKING_ON];
}

/* The template of the first R1, which closes calls and results in its own way. */
static int v3_is_r1(const struct v3 *w)
{
    return v3_reasons(w) && !v3_asks(w);
}

/* What a prompt ends in that asks for an answer here.  In front of ids that a message carries
 * it stands again, also where the template writes an old message otherwise. */
static void v3_ask(const struct v3 *w)
{
    if (w->is_tool)
        mk_chat_adds(w->out, MK_DS_OUTPUTS_END);
    else if (!w->is_last_user)
        mk_chat_adds(w->out, MK_DS_ASSISTANT);
    if (!w->is_tool && w->c->encoding->think_by == MK_THINK_BY_BOTH)
        mk_chat_adds(w->out, MK_DS_THINK "\n");
}

/* Whether this message shows its reasoning; the R1s think in every answer to a user. */
static int v3_shows(const struct v3 *w)
{
    return v3_reasons(w) && w->keeps && w->m->reasoning != NULL
           && (w->m->reasoning->text.len > 0 || !w->is_tool);
}

static enum mk_chat_cut v3_cut(const struct v3 *w)
{
    return v3_reasons(w) && !w->keeps ? MK_CUT_LAST : MK_CUT_NONE;
}

/* The reasoning, with the marks around it that no prompt holds. */
static void v3_reasoning(const struct v3 *w)
{
    if (w->c->encoding->think_by == MK_THINK_BY_MODEL)
        mk_chat_adds(w->out, MK_DS_THINK);
    mk_chat_add_model(w->out, w->m->reasoning->text);
    mk_chat_adds(w->out, MK_DS_THINK_END);
}

/* One call with its fenced arguments. */
static int32_t v3_call(struct v3 *w, const struct mk_json *json)
{
    const struct mk_json *type = mk_json_get(json, "type");
    struct mk_chat_call call;

    if (mk_chat_read_call(&call, w->m, json) < 0)
        return MINKE_EINVAL;
    if (type == NULL || type->type != MK_JSON_STRING)
        return mk_fail(MINKE_EINVAL, "message %zu: a tool call has no type", w->m->place);
    mk_chat_adds(w->out, MK_DS_CALL);
    mk_chat_add_model(w->out, type->text);
    mk_chat_adds(w->out, MK_DS_SEP);
    mk_chat_add_model(w->out, call.name);
    mk_chat_adds(w->out, "\n```json\n");
    mk_chat_add_model(w->out, call.arguments);
    mk_chat_adds(w->out, "\n```" MK_DS_CALL_END);
    w->is_first = 1;
    return MINKE_OK;
}

/* V3 of December 2024: calls only where content is null, closed from the second call on. */
static int32_t v3_dec24_calls(struct v3 *w)
{
    size_t begin;

    if (w->m->calls == NULL)
        return mk_fail(MINKE_EINVAL, "message %zu: neither content nor tool_calls", w->m->place);
    if (w->m->ids != NULL)
        v3_ask(w);
    else if (!w->is_first)
        mk_chat_adds(w->out, MK_DS_ASSISTANT);
    w->is_tool = 0;
    begin = w->out->text.len;
    for (const struct mk_json *v = w->m->calls->first; v != NULL; v = v->next) {
        const int later = w->is_first;

        mk_chat_adds(w->out, later ? "\n" : MK_DS_CALLS);
        if (v3_call(w, v) < 0)
            return MINKE_EINVAL;
        if (later)
            mk_chat_adds(w->out, MK_DS_CALLS_END MK_DS_EOS);
    }
    mk_chat_own_ids(w->out, w->m, begin, MK_CUT_NONE);
    return MINKE_OK;
}

/* What stands in front of a message that calls. */
static void v3_before_calls(struct v3 *w)
{
    const int r1 = v3_is_r1(w);

    if (w->m->ids != NULL || (v3_shows(w) && !w->is_first))
        v3_ask(w);
    else if (!r1 && w->is_tool)
        mk_chat_adds(w->out, MK_DS_OUTPUTS_END);
    else if (r1 && !w->is_first)
        mk_chat_adds(w->out, MK_DS_ASSISTANT);
    if (!r1)
        w->is_first = 0, w->is_output_first = 1;
}

/* V3-0324 and the R1s: all calls of a message, its content in front of the first. */
static int32_t v3_calls(struct v3 *w)
{
    const struct mk_chat_message *m = w->m;
    struct mk_view content = m->content != NULL ? m->content->text : (struct mk_view){"", 0};
    const int shows = v3_shows(w);
    size_t begin;

    if (m->calls == NULL)
        return mk_fail(MINKE_EINVAL, "message %zu: tool_calls is null", m->place);
    v3_before_calls(w);
    if (v3_reasons(w) && !v3_is_r1(w) && !shows)
        content = v3_after_think(content, MK_CUT_LAST);
    begin = w->out->text.len;
    if (shows)
        v3_reasoning(w);
    for (const struct mk_json *v = m->calls->first; v != NULL; v = v->next) {
        if (!w->is_first)
            mk_chat_add_model(w->out, content);
        mk_chat_adds(w->out, w->is_first ? "\n" : MK_DS_CALLS);
        if (v3_call(w, v) < 0)
            return MINKE_EINVAL;
    }
    mk_chat_adds(w->out, MK_DS_CALLS_END MK_DS_EOS);
    mk_chat_own_ids(w->out, m, begin, v3_cut(w));
    return MINKE_OK;
}

/* An answer, without its reasoning where the template cuts it. */
static int32_t v3_answer(struct v3 *w)
{
    const struct mk_chat_message *m = w->m;
    const enum mk_chat_cut cut = v3_cut(w);
    const int shows = v3_shows(w);
    const int skips = !shows && cut != MK_CUT_NONE && !(v3_is_r1(w) && w->is_tool);
    size_t begin;

    if (mk_chat_content(m) == NULL)
        return MINKE_EINVAL;
    if (shows || (m->ids != NULL && cut == MK_CUT_NONE))
        v3_ask(w);
    else if (w->is_tool)
        mk_chat_adds(w->out, MK_DS_OUTPUTS_END);
    else if (!v3_asks(w))
        mk_chat_adds(w->out, MK_DS_ASSISTANT);
    begin = w->out->text.len;
    if (shows)
        v3_reasoning(w);
    mk_chat_add_model(w->out, skips ? v3_after_think(m->content->text, cut) : m->content->text);
    mk_chat_adds(w->out, MK_DS_EOS);
    mk_chat_own_ids(w->out, m, begin, cut);
    return MINKE_OK;
}

static int32_t v3_assistant(struct v3 *w)
{
    int32_t rc;

    if (v3_reasons(w) && v3_asks(w) && mk_chat_content(w->m) == NULL)
        return MINKE_EINVAL;
    if (w->c->encoding->null_content)
        rc = w->m->content == NULL ? v3_dec24_calls(w) : v3_answer(w);
    else if (v3_is_r1(w) ? w->m->has_calls : w->m->calls != NULL)
        rc = v3_calls(w);
    else
        rc = v3_answer(w);
    w->is_last_user = 0;
    w->is_tool = 0;
    return rc;
}

static int32_t v3_message(struct v3 *w)
{
    if (w->m->role == MK_ROLE_ASSISTANT)
        return v3_assistant(w);
    if (mk_chat_content(w->m) == NULL)
        return MINKE_EINVAL;
    w->is_tool = w->m->role == MK_ROLE_TOOL;
    w->is_last_user = !w->is_tool && v3_asks(w);
    if (w->is_tool) {
        if (w->is_output_first || !v3_is_r1(w))
            mk_chat_adds(w->out, w->is_output_first ? MK_DS_OUTPUTS : "\n");
        w->is_output_first = 0;
        v3_result(w);
        return MINKE_OK;
    }
    mk_chat_adds(w->out, MK_DS_USER);
    mk_chat_add_plain(w->out, w->m->content->text);
    if (v3_asks(w)) {
        mk_chat_adds(w->out, MK_DS_ASSISTANT);
        w->is_first = 0;
    }
    return MINKE_OK;
}

int32_t mk_chat_write_v3(struct mk_chat *c, struct mk_chat_out *out)
{
    struct v3 w = {.c = c, .out = out, .is_output_first = 1};
    int32_t rc;

    if ((rc = v3_system(&w)) < 0 || (rc = v3_each(&w, v3_message)) < 0)
        return rc;
    if (c->generation)
        v3_ask(&w);
    else if (w.is_tool)
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

static int v31_repeats(const struct v3 *w)
{
    return (w->c->encoding->style & MK_V31_REPEATS) != 0;
}

/* Whether a prompt that ends here asks for an answer. */
static int v31_asks(const struct v3 *w)
{
    return !w->is_tool
           && (w->is_last_user || (v31_repeats(w) && (w->is_only_sys || !w->is_prefix)));
}

/* Whether this message shows its reasoning; behind results no prompt opens one. */
static int v31_shows(const struct v3 *w)
{
    if (!w->keeps)
        return 0;
    if (w->is_tool && w->m->ids == NULL)
        return w->m->reasoning != NULL && w->m->reasoning->text.len > 0;
    return mk_chat_reasoned(w->c, w->m);
}

/* The mark that asks for the message, where one stands, and how it begins. */
static void v31_ask(const struct v3 *w, int thinks)
{
    const int calls = w->m->calls != NULL;

    if (w->m->ids != NULL ? v31_asks(w)
                          : w->is_last_user || (calls && v31_repeats(w) && w->is_only_sys)) {
        mk_chat_adds(w->out, MK_DS_ASSISTANT);
        mk_chat_adds(w->out, thinks || (!calls && w->m->prefix && w->c->thinking)
                                 ? MK_DS_THINK : MK_DS_THINK_END);
    }
}

static int32_t v31_calls(struct v3 *w)
{
    mk_chat_adds(w->out, MK_DS_CALLS);
    for (const struct mk_json *v = w->m->calls->first; v != NULL; v = v->next) {
        struct mk_chat_call call;

        if (mk_chat_read_call(&call, w->m, v) < 0)
            return MINKE_EINVAL;
        mk_chat_adds(w->out, MK_DS_CALL);
        mk_chat_add_model(w->out, call.name);
        mk_chat_adds(w->out, MK_DS_SEP);
        mk_chat_add_model(w->out, call.arguments);
        mk_chat_adds(w->out, MK_DS_CALL_END);
    }
    mk_chat_adds(w->out, MK_DS_CALLS_END);
    return MINKE_OK;
}

static int32_t v31_assistant(struct v3 *w)
{
    const struct mk_chat_message *m = w->m;
    const int shows = v31_shows(w), calls = m->calls != NULL;
    size_t begin;

    if (!calls && mk_chat_content(m) == NULL)
        return MINKE_EINVAL;
    v31_ask(w, shows);
    begin = w->out->text.len;
    if (shows && m->reasoning != NULL)
        mk_chat_add_model(w->out, m->reasoning->text);
    if (shows)
        mk_chat_adds(w->out, MK_DS_THINK_END);
    if (m->content != NULL)
        mk_chat_add_model(w->out, shows || calls || w->is_tool
                                      ? m->content->text
                                      : v3_after_think(m->content->text, MK_CUT_FIRST));
    if (calls && v31_calls(w) < 0)
        return MINKE_EINVAL;
    mk_chat_adds(w->out, MK_DS_EOS);
    mk_chat_own_ids(w->out, m, begin, w->keeps ? MK_CUT_NONE : MK_CUT_FIRST);
    w->is_prefix |= !calls && m->prefix;
    return MINKE_OK;
}

static int32_t v31_message(struct v3 *w)
{
    const enum mk_chat_role role = w->m->role;
    int32_t rc = MINKE_OK;

    if (role == MK_ROLE_ASSISTANT) {
        rc = v31_assistant(w);
    } else if (mk_chat_content(w->m) == NULL) {
        return MINKE_EINVAL;
    } else if (role == MK_ROLE_TOOL) {
        v3_result(w);
    } else {
        mk_chat_adds(w->out, MK_DS_USER);
        mk_chat_add_plain(w->out, w->m->content->text);
    }
    w->is_last_user = role == MK_ROLE_USER;
    w->is_tool = role == MK_ROLE_TOOL;
    w->is_only_sys = 0;
    return rc;
}

int32_t mk_chat_write_v31(struct mk_chat *c, struct mk_chat_out *out)
{
    struct v3 w = {.c = c, .out = out};
    int32_t rc = v3_system(&w);

    if (rc == MINKE_OK && c->tools != NULL && c->tools->first != NULL)
        rc = v31_tools(c->tools, out);
    if (rc < 0 || (rc = v3_each(&w, v31_message)) < 0)
        return rc;
    if (c->generation && v31_asks(&w)) {
        mk_chat_adds(out, MK_DS_ASSISTANT);
        mk_chat_adds(out, c->thinking ? MK_DS_THINK : MK_DS_THINK_END);
    }
    return MINKE_OK;
}
