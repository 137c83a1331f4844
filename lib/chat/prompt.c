/* From messages in JSON to a prompt, as text or as tokens.
 * Reference: the schema of messages and tools is OpenAI's, "Create chat completion". */
#include "chat/prompt.h"

#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/params.h"
#include "model/handle.h"

/* ---- Messages ------------------------------------------------------------ */

static int32_t prompt_role(struct mk_chat_message *m, const struct mk_json *json,
                           const struct mk_encoding *e)
{
    static const char *const roles[] = {"system", "developer", "user", "assistant", "tool"};
    const struct mk_json *role = mk_json_get(json, "role");

    if (role == NULL || role->type != MK_JSON_STRING)
        return mk_fail(MINKE_EINVAL, "message %zu: no role", m->place);
    for (size_t i = 0; i < MK_COUNT(roles); i++)
        if (mk_view_is(role->text, roles[i])
            && (i != MK_ROLE_DEVELOPER || (e->takes & MK_TAKES_DEVELOPER) != 0)) {
            m->role = (enum mk_chat_role)i;
            return MINKE_OK;
        }
    return mk_fail(MINKE_EINVAL, "message %zu: Unknown role: %s (%s)", m->place, role->text.data,
                   e->names[0]);
}

/* Members of a message, each of its type or null. */
static int32_t prompt_members(struct mk_chat_message *m, const struct mk_json *json)
{
    const struct {
        const struct mk_json **out;
        const char *key;
        enum mk_json_type type;
    } members[] = {
        {&m->content, "content", MK_JSON_STRING},
        {&m->reasoning, "reasoning_content", MK_JSON_STRING},
        {&m->calls, "tool_calls", MK_JSON_ARRAY},
        {&m->tools, "tools", MK_JSON_ARRAY},
        {&m->ids, "token_ids", MK_JSON_ARRAY}};

    for (size_t i = 0; i < MK_COUNT(members); i++) {
        const struct mk_json *v = mk_json_get(json, members[i].key);

        if (v == NULL || v->type == MK_JSON_NULL)
            continue;
        if (v->type != members[i].type)
            return mk_fail(MINKE_EINVAL, "message %zu: %s: %s or null expected", m->place,
                           members[i].key,
                           members[i].type == MK_JSON_STRING ? "text" : "an array");
        *members[i].out = v;
    }
    return MINKE_OK;
}

/* m is zero but for its place. */
static int32_t prompt_message(struct mk_chat_message *m, const struct mk_json *json,
                              const struct mk_encoding *e)
{
    const struct mk_json *format = mk_json_get(json, "response_format");
    const struct mk_json *prefix = mk_json_get(json, "prefix");
    int32_t rc;

    if (json->type != MK_JSON_OBJECT)
        return mk_fail(MINKE_EINVAL, "message %zu: an object expected", m->place);
    if ((rc = prompt_role(m, json, e)) < 0 || (rc = prompt_members(m, json)) < 0)
        return rc;
    if (m->role != MK_ROLE_ASSISTANT)
        m->ids = NULL;
    /* A list of no calls calls nothing, though some templates would write its borders. */
    if (m->calls != NULL && m->calls->n_items == 0)
        m->calls = NULL;
    else
        m->has_calls = mk_json_get(json, "tool_calls") != NULL;
    m->prefix = prefix != NULL && prefix->type == MK_JSON_TRUE;
    if (format != NULL && format->type != MK_JSON_NULL)
        m->format = format;
    return MINKE_OK;
}

/* ---- One call ------------------------------------------------------------ */

/* Everything one call needs, freed together. */
struct prompt_job {
    struct mk_allocator a;
    struct mk_arena arena;
    struct mk_chat chat;
    struct mk_chat_out out;
};

static void prompt_end(struct prompt_job *job)
{
    mk_chat_out_free(&job->out);
    mk_arena_free(&job->arena);
}

/* Messages of a list, which may be NULL, to m. */
static int32_t prompt_messages(struct mk_chat_message *m, const struct mk_json *list,
                               const struct mk_encoding *e)
{
    int32_t rc = MINKE_OK;
    size_t i = 0;

    for (const struct mk_json *v = list != NULL ? list->first : NULL;
         v != NULL && rc == MINKE_OK; v = v->next, i++) {
        m[i].place = i;
        rc = prompt_message(&m[i], v, e);
    }
    return rc;
}

/* A JSON text, an array unless it may be anything; NULL where there is none. */
static int32_t prompt_json(struct prompt_job *job, const struct mk_json **out, struct mk_view text,
                           const char *what, int anything)
{
    int32_t rc;

    *out = NULL;
    if (text.data == NULL)
        return MINKE_OK;
    if ((rc = mk_json_parse(out, &job->arena, text.data, text.len, what)) < 0)
        return rc;
    if ((*out)->type != MK_JSON_ARRAY && !anything)
        return mk_fail(MINKE_EINVAL, "%s: an array expected", what);
    return MINKE_OK;
}

static int32_t prompt_read(struct prompt_job *job, struct mk_view messages,
                           const minke_chat_params *p)
{
    const struct mk_view given_context = {p->context, p->context_len};
    const struct mk_view given_tools = {p->tools, p->tools_len};
    const struct mk_view given_format = {p->response_format, p->response_format_len};
    const struct mk_json *json, *context;
    struct mk_chat *c = &job->chat;
    int32_t rc;

    if ((rc = prompt_json(job, &json, messages, "messages", 0)) < 0
        || (rc = prompt_json(job, &context, given_context, "context", 0)) < 0
        || (rc = prompt_json(job, &c->tools, given_tools, "tools", 0)) < 0
        || (rc = prompt_json(job, &c->format, given_format, "response_format", 1)) < 0)
        return rc;
    c->n_context = context != NULL ? context->n_items : 0;
    c->n = c->n_context + json->n_items;
    c->messages = mk_arena_alloc(&job->arena, c->n, sizeof(*c->messages));
    if (c->messages == NULL)
        return MINKE_ENOMEM;
    if ((rc = prompt_messages(c->messages, context, c->encoding)) < 0)
        return rc;
    return prompt_messages(c->messages + c->n_context, json, c->encoding);
}

/* What the encoding cannot write must not be lost without a word. */
static int32_t prompt_check_extras(const struct mk_chat *c)
{
    const struct mk_encoding *e = c->encoding;

    if (c->tools != NULL && c->tools->n_items > 0 && e->no_tools != NULL)
        return mk_fail(MINKE_EUNSUPPORTED, "tools: %s %s", e->names[0], e->no_tools);
    if (c->format != NULL && (e->takes & MK_TAKES_FORMAT) == 0)
        return mk_fail(MINKE_EUNSUPPORTED, "response_format: %s has no place for it", e->names[0]);
    if (c->n_context > 0 && (e->takes & MK_TAKES_CONTEXT) == 0)
        return mk_fail(MINKE_EUNSUPPORTED, "context: %s is always written as a whole",
                       e->names[0]);
    return MINKE_OK;
}

static int32_t prompt_check(const minke_chat_params *p)
{
    if ((p->flags & ~15u) != 0)
        return mk_fail(MINKE_EVERSION, "flags 0x%x: this build knows 0xf", p->flags);
    if (p->thinking > MINKE_THINKING_OFF)
        return mk_fail(MINKE_EVERSION, "thinking %u: this build knows 0 to 2", p->thinking);
    if (p->retention > MINKE_RETAIN_ALL)
        return mk_fail(MINKE_EVERSION, "retention %u: this build knows 0 to 3", p->retention);
    return MINKE_OK;
}

static void prompt_options(struct mk_chat *c, const minke_chat_params *p)
{
    c->thinking = c->encoding->thinks[p->thinking];
    c->generation = (p->flags & MINKE_CHAT_NO_GENERATION) == 0;
    c->bos = (p->flags & MINKE_CHAT_NO_BOS) == 0;
    c->drop = (p->flags & MINKE_CHAT_NO_DROP) == 0;
    c->retention = p->retention != MINKE_RETAIN_DEFAULT ? p->retention : c->encoding->retention;
}

/* Read the arguments and write the prompt; job is to be ended in any case.  tok NULL = for its
 * text alone. */
static int32_t prompt_begin(struct prompt_job *job, const minke_context *ctx,
                            const struct mk_tokenizer *tok, struct mk_view messages,
                            const minke_chat_params *given)
{
    struct mk_chat *c = &job->chat;
    struct mk_chat_out *out = &job->out;
    const struct mk_chat_marks *marks;
    minke_chat_params p;
    int32_t rc;

    memset(job, 0, sizeof(*job));
    out->a = &job->a;
    if (ctx != NULL && (rc = mk_context_check(ctx)) < 0)
        return rc;
    if (ctx != NULL)
        job->a = ctx->env.alloc;
    mk_arena_init(&job->arena, &job->a);
    mk_text_init(&out->text, &job->a);
    if (messages.data == NULL)
        return mk_fail(MINKE_EINVAL, "messages is NULL");
    if ((rc = mk_params_read(&p, sizeof(p), given, sizeof(p))) < 0 || (rc = prompt_check(&p)) < 0
        || (rc = mk_encoding_choose(&c->encoding, ctx, p.encoding)) < 0)
        return rc;
    prompt_options(c, &p);
    marks = c->encoding->marks;
    out->guarded = marks->guarded;
    c->think_end = tok == NULL ? -1 : mk_chat_token(tok, marks->think_end);
    if ((rc = prompt_read(job, messages, &p)) < 0 || (rc = prompt_check_extras(c)) < 0
        || (rc = c->encoding->write(c, out)) < 0)
        return rc;
    if ((p.flags & MINKE_CHAT_TRUST_TEXT) != 0)
        out->n_plain = 0;
    return out->text.failed ? mk_fail_memory(out->text.len, "a prompt") : out->rc;
}

/* ---- Public -------------------------------------------------------------- */

void minke_chat_params_init(minke_chat_params *params, size_t size)
{
    mk_params_init(params, size);
}

int32_t minke_chat_render(const minke_context *ctx, const char *messages, size_t messages_len,
                          const minke_chat_params *params, char *text, size_t capacity,
                          size_t *n_out)
{
    struct prompt_job job;
    int32_t rc;

    if (n_out == NULL || (text == NULL && capacity > 0))
        return mk_fail(MINKE_EINVAL, "text or n_out is NULL");
    rc = prompt_begin(&job, ctx, NULL, (struct mk_view){messages, messages_len}, params);
    if (rc == MINKE_OK)
        rc = mk_text_deliver(&job.out.text, text, capacity, n_out);
    prompt_end(&job);
    return rc;
}

int32_t minke_chat_encode(const minke_context *ctx, const char *messages, size_t messages_len,
                          const minke_chat_params *params, int32_t *tokens, size_t capacity,
                          size_t *n_out)
{
    const struct mk_tokenizer *tok;
    struct prompt_job job;
    int32_t rc;

    if (n_out == NULL || (tokens == NULL && capacity > 0))
        return mk_fail(MINKE_EINVAL, "tokens or n_out is NULL");
    if ((rc = mk_context_check(ctx)) < 0)
        return rc;
    if ((tok = mk_context_tokenizer(ctx)) == NULL)
        return MINKE_EUNSUPPORTED;
    rc = prompt_begin(&job, ctx, tok, (struct mk_view){messages, messages_len}, params);
    if (rc == MINKE_OK)
        rc = mk_chat_tokenize(&job.out, tok, job.chat.think_end);
    if (rc == MINKE_OK) {
        *n_out = job.out.n_tokens;
        if (job.out.n_tokens > capacity)
            rc = mk_fail(MINKE_ENOSPC, "%zu tokens, room for %zu", job.out.n_tokens, capacity);
        else if (job.out.n_tokens > 0)
            memcpy(tokens, job.out.tokens, job.out.n_tokens * sizeof(*tokens));
    }
    prompt_end(&job);
    return rc;
}
