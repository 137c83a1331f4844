/* Conversations: names of encodings, messages, and the public functions. */
#include "chat/chat.h"

#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/params.h"
#include "model/handle.h"

/* ---- Which encoding ---- */

struct chat_name {
    const char *name;
    int kind;
};

/* The first of a kind is its name; others are taken too. */
static const struct chat_name chat_names[] = {
    {"deepseek-v2", MK_CHAT_V2},
    {"deepseek-v3", MK_CHAT_V3},
    {"deepseek-v3-0324", MK_CHAT_V3_0324},
    {"deepseek-r1.hf", MK_CHAT_R1_HF},
    {"deepseek-r1.api-docs", MK_CHAT_R1_DOCS},
    {"deepseek-r1-0528", MK_CHAT_R1_0528},
    {"deepseek-v3.1", MK_CHAT_V31},
    {"deepseek-v3.1-terminus", MK_CHAT_V31_TERMINUS},
    {"deepseek-v3.2", MK_CHAT_V32},
    {"deepseek-v3.2-speciale", MK_CHAT_SPECIALE},
    {"deepseek-r1", MK_CHAT_R1_HF},
    {"deepseek-v3.2-exp", MK_CHAT_V31_TERMINUS},
};
#define CHAT_N_NAMES (MK_COUNT(chat_names))

int mk_chat_find(const char *name)
{
    for (size_t i = 0; i < CHAT_N_NAMES; i++)
        if (strcmp(chat_names[i].name, name) == 0)
            return chat_names[i].kind;
    return -1;
}

const char *mk_chat_name(int kind)
{
    return chat_names[kind].name;
}

const char *minke_chat_encoding_name(size_t i)
{
    return i < MK_CHAT_N ? chat_names[i].name : NULL;
}

/* What tells a published template from its relatives: all of has, none of lacks, both lists
 * ending in NULL. */
struct chat_template {
    int kind;
    const char *has[6], *lacks[4];
};

static const struct chat_template chat_templates[] = {
    {MK_CHAT_V2, {"'User: ' + message['content'] + '", "'Assistant: ' + message['content']",
                  "{{ 'Assistant:' }}"}, {"｜"}},
    {MK_CHAT_V3, {"'<｜User｜>' + message['content']}}", "message['content'] is none",
                  "tool['type']", "is_output_first=true", "{{'<｜Assistant｜>'}}"},
     {"is_last_user", "</think>", "<think>"}},
    {MK_CHAT_V3_0324, {"'<｜User｜>' + message['content'] + '<｜Assistant｜>'", "is_last_user",
                       "tool['type']", "ns.is_output_first = true"}, {"think>"}},
    {MK_CHAT_R1_HF, {"'tool_calls' in message", "content.split('</think>')[-1]",
                     "tool['type']", "'<｜Assistant｜><think>"}, {"is_last_user"}},
    {MK_CHAT_R1_DOCS, {"'tool_calls' in message", "content.split('</think>')[-1]",
                       "tool['type']", "{{'<｜Assistant｜>'}}"}, {"is_last_user", "'<think>"}},
    {MK_CHAT_R1_0528, {"+ '<｜Assistant｜>'", "is_last_user", "tool['type']",
                       "content.split('</think>')[-1]"}, {"<think>"}},
    {MK_CHAT_V31, {"is_last_user", "split('</think>', 1)[1]", "'<｜Assistant｜></think>'",
                   "message['prefix']"}, {"is_only_sys", "tool['type']"}},
    {MK_CHAT_V31_TERMINUS, {"is_last_user", "split('</think>', 1)[1]", "is_only_sys",
                            "not ns.is_prefix"}, {"tool['type']"}},
    {MK_CHAT_V32, {"function_calls>", "｜DSML｜", "# The user"}, {NULL}},
};

/* Whether text holds part; text may hold anything. */
static int chat_holds(const char *text, size_t len, const char *part)
{
    const size_t n = strlen(part);

    for (size_t i = 0; i + n <= len; i++)
        if (text[i] == part[0] && memcmp(text + i, part, n) == 0)
            return 1;
    return 0;
}

/* What no template of the family has: one that has it was changed by somebody. */
static const char *const chat_foreign[] = {
    "tojson", "macro ", "{% include", "{% import", "raise_exception", "strftime_now", "<|"};

int mk_chat_match(const char *text, size_t len)
{
    for (size_t i = 0; i < MK_COUNT(chat_foreign); i++)
        if (chat_holds(text, len, chat_foreign[i]))
            return -1;
    for (size_t t = 0; t < MK_COUNT(chat_templates); t++) {
        const struct chat_template *c = &chat_templates[t];
        int fits = 1;

        for (size_t i = 0; i < 6 && c->has[i] != NULL; i++)
            fits &= chat_holds(text, len, c->has[i]);
        for (size_t i = 0; i < 4 && c->lacks[i] != NULL; i++)
            fits &= !chat_holds(text, len, c->lacks[i]);
        if (fits)
            return c->kind;
    }
    return -1;
}

/* The error that says what names there are. */
static int32_t chat_unknown(const char *what, const char *detail)
{
    char list[400];
    size_t n = 0;

    for (size_t i = 0; i < MK_CHAT_N; i++)
        n += mk_format(list + n, sizeof(list) - n, "%s%s", i > 0 ? ", " : "",
                       chat_names[i].name);
    return mk_fail(MINKE_EUNSUPPORTED, "%s%s; known encodings: %s", what, detail, list);
}

int32_t mk_chat_choose(int *kind, const minke_context *ctx, const char *name)
{
    const struct mk_tokenizer *tok;
    struct mk_view text;
    const char *type;
    int found = -1;

    if (name != NULL) {
        found = mk_chat_find(name);
        if (found < 0)
            return chat_unknown("no encoding ", name);
        *kind = found;
        return MINKE_OK;
    }
    if (ctx == NULL)
        return mk_fail(MINKE_EINVAL, "neither a context nor the name of an encoding");
    tok = mk_context_tokenizer(ctx);
    if (tok == NULL)
        return MINKE_EUNSUPPORTED;
    text = mk_tokenizer_template(tok);
    if (text.data != NULL) {
        found = mk_chat_match(text.data, text.len);
        if (found < 0)
            return chat_unknown("the model's chat template is none of the family's", "");
    } else {
        /* V3.2 is published without a template. */
        if (minke_context_text(ctx, MINKE_TEXT_MODEL_TYPE, &type) == MINKE_OK
            && strcmp(type, "deepseek_v32") == 0
            && strcmp(mk_tokenizer_kind(tok), "deepseek-v3") == 0)
            found = MK_CHAT_V32;
        if (found < 0)
            return chat_unknown("the model has no chat template", "");
    }
    *kind = found;
    return MINKE_OK;
}

int32_t minke_chat_encoding(const minke_context *ctx, const char **name)
{
    int32_t rc = mk_context_check(ctx);
    int kind = 0;

    if (rc < 0)
        return rc;
    if (name == NULL)
        return mk_fail(MINKE_EINVAL, "name is NULL");
    if ((rc = mk_chat_choose(&kind, ctx, NULL)) < 0)
        return rc;
    *name = mk_chat_name(kind);
    return MINKE_OK;
}

int mk_chat_thinks(int kind, uint32_t thinking)
{
    switch (kind) {
    case MK_CHAT_V2:
    case MK_CHAT_V3:
    case MK_CHAT_V3_0324:
        return 0;
    case MK_CHAT_R1_HF:
    case MK_CHAT_R1_DOCS:
    case MK_CHAT_R1_0528:
    case MK_CHAT_SPECIALE:
        return 1;
    default:
        return thinking == MINKE_THINKING_ON;
    }
}

/* Reference: generation_config.json and README.md of each model. */
int32_t minke_chat_sampling(const minke_context *ctx, const char *encoding, float *temperature,
                            float *top_p)
{
    int32_t rc = ctx != NULL ? mk_context_check(ctx) : MINKE_OK;
    int kind;

    if (rc < 0)
        return rc;
    if (temperature == NULL || top_p == NULL)
        return mk_fail(MINKE_EINVAL, "temperature or top_p is NULL");
    if ((rc = mk_chat_choose(&kind, ctx, encoding)) < 0)
        return rc;
    *temperature = 0.6f;
    *top_p = 0.95f;
    if (kind == MK_CHAT_V2 || kind == MK_CHAT_V3 || kind == MK_CHAT_V3_0324)
        *temperature = 0.3f;
    if (kind == MK_CHAT_V32 || kind == MK_CHAT_SPECIALE)
        *temperature = 1.0f;
    return MINKE_OK;
}

/* ---- What encodings write ---- */

void mk_chat_adds(struct mk_chat_out *out, const char *text)
{
    mk_text_adds(&out->text, text);
}

void mk_chat_add_trusted(struct mk_chat_out *out, const char *text, size_t n)
{
    mk_text_add(&out->text, text, n);
}

static void chat_span(struct mk_chat_out *out, size_t begin, size_t end)
{
    if (begin == end || out->rc < 0)
        return;
    if (out->n_plain > 0 && out->plain[out->n_plain - 1].end == begin) {
        out->plain[out->n_plain - 1].end = end;
        return;
    }
    out->rc = mk_grow(out->a, (void **)&out->plain, &out->plain_capacity, out->n_plain + 1,
                          sizeof(*out->plain));
    if (out->rc == MINKE_OK)
        out->plain[out->n_plain++] = (struct mk_span){begin, end};
}

void mk_chat_add_plain(struct mk_chat_out *out, const char *text, size_t n)
{
    const size_t begin = out->text.len;

    mk_text_add(&out->text, text, n);
    chat_span(out, begin, out->text.len);
}

/* Every bar in bytes [begin, end) of the text is plain: all markers of roles and tools have
 * one, so that a model that repeats a user's forged marker does not make it real. */
static void chat_bars(struct mk_chat_out *out, size_t begin)
{
    const char *text = out->text.data;

    for (size_t i = begin; i + 3 <= out->text.len; i++)
        if (text[i] == '\xEF' && text[i + 1] == '\xBD' && text[i + 2] == '\x9C')
            chat_span(out, i, i + 3);
}

void mk_chat_add_model(struct mk_chat_out *out, const char *text, size_t n)
{
    const size_t begin = out->text.len;

    mk_text_add(&out->text, text, n);
    chat_bars(out, begin);
}

void mk_chat_add_json(struct mk_chat_out *out, const struct mk_json *v)
{
    const size_t begin = out->text.len;

    mk_text_add_json(&out->text, v);
    chat_bars(out, begin);
}

void mk_chat_own_ids(struct mk_chat_out *out, const struct mk_chat_message *m, size_t begin,
                     int cut)
{
    if (m->ids == NULL || out->rc < 0)
        return;
    out->rc = mk_grow(out->a, (void **)&out->ids, &out->ids_capacity, out->n_ids + 1,
                          sizeof(*out->ids));
    if (out->rc == MINKE_OK)
        out->ids[out->n_ids++] = (struct mk_chat_ids){
            begin, out->text.len, m->ids, cut,
            m->reasoning != NULL && m->reasoning->text.len > 0 && m->calls == NULL
                && (m->content == NULL || m->content->text.len == 0),
            m->reasoning != NULL && m->reasoning->text.len == 0};
}

/* Whether ids begin with a reasoning that is empty: </think>, or <think></think>. */
static int chat_opens_empty(const struct mk_json *ids, int32_t think_end)
{
    const struct mk_json *v = ids->first;
    int64_t id;

    for (int i = 0; i < 2 && v != NULL; i++, v = v->next)
        if (mk_json_int(v, &id) == 0 && id == think_end)
            return 1;
    return 0;
}

int mk_chat_reasoned(const struct mk_chat *c, const struct mk_chat_message *m)
{
    if (m->reasoning != NULL && m->reasoning->text.len > 0)
        return 1;
    if (m->ids == NULL || c->think_end < 0)
        return m->reasoning != NULL && c->thinking;
    return chat_opens_empty(m->ids, c->think_end);
}

const struct mk_json *mk_chat_call_text(const struct mk_chat_message *m,
                                        const struct mk_json *call, const char *key)
{
    const struct mk_json *v = mk_json_get(mk_json_get(call, "function"), key);

    if (v == NULL || v->type != MK_JSON_STRING) {
        mk_fail(MINKE_EINVAL, "message %zu: a tool call's function.%s is no text", m->place, key);
        return NULL;
    }
    return v;
}

/* ---- Messages ---- */

/* Member of a message, of this type or null. */
static int32_t chat_member(const struct mk_json **out, const struct mk_json *message, size_t place,
                           const char *key, enum mk_json_type type)
{
    const struct mk_json *v = mk_json_get(message, key);

    *out = NULL;
    if (v == NULL || v->type == MK_JSON_NULL)
        return MINKE_OK;
    if (v->type != type)
        return mk_fail(MINKE_EINVAL, "message %zu: %s: %s or null expected", place, key,
                       type == MK_JSON_STRING ? "text" : "an array");
    *out = v;
    return MINKE_OK;
}

static int32_t chat_role(struct mk_chat_message *m, const struct mk_json *json, int kind)
{
    static const char *const roles[] = {"system", "developer", "user", "assistant", "tool"};
    const struct mk_json *role = mk_json_get(json, "role");

    if (role == NULL || role->type != MK_JSON_STRING)
        return mk_fail(MINKE_EINVAL, "message %zu: no role", m->place);
    for (int i = 0; i < 5; i++)
        if (mk_json_is(role, roles[i])) {
            m->role = (enum mk_chat_role)i;
            if (m->role == MK_ROLE_DEVELOPER && kind < MK_CHAT_V32)
                break;
            return MINKE_OK;
        }
    return mk_fail(MINKE_EINVAL, "message %zu: Unknown role: %s (%s)", m->place, role->text.data,
                   mk_chat_name(kind));
}

static int32_t chat_message(struct mk_chat_message *m, const struct mk_json *json, int kind)
{
    const struct mk_json *format = mk_json_get(json, "response_format");
    const struct mk_json *prefix = mk_json_get(json, "prefix");
    int32_t rc;

    if (json->type != MK_JSON_OBJECT)
        return mk_fail(MINKE_EINVAL, "message %zu: an object expected", m->place);
    if ((rc = chat_role(m, json, kind)) < 0
        || (rc = chat_member(&m->content, json, m->place, "content", MK_JSON_STRING)) < 0
        || (rc = chat_member(&m->reasoning, json, m->place, "reasoning_content",
                             MK_JSON_STRING)) < 0
        || (rc = chat_member(&m->calls, json, m->place, "tool_calls", MK_JSON_ARRAY)) < 0
        || (rc = chat_member(&m->tools, json, m->place, "tools", MK_JSON_ARRAY)) < 0
        || (rc = chat_member(&m->ids, json, m->place, "token_ids", MK_JSON_ARRAY)) < 0)
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

/* Everything one call needs, freed together. */
struct chat_job {
    struct mk_allocator a;
    struct mk_arena arena;
    struct mk_chat chat;
    struct mk_chat_out out;
    uint32_t flags;
};

static void chat_end(struct chat_job *job)
{
    mk_text_free(&job->out.text);
    mk_free(&job->a, job->out.plain);
    mk_free(&job->a, job->out.ids);
    mk_arena_free(&job->arena);
}

static int32_t chat_json(struct chat_job *job, const struct mk_json **out, const char *text,
                         size_t len, const char *what)
{
    int32_t rc;

    *out = NULL;
    if (text == NULL)
        return MINKE_OK;
    if ((rc = mk_json_parse(out, &job->arena, text, len, what)) < 0)
        return rc;
    if ((*out)->type != MK_JSON_ARRAY && strcmp(what, "response_format") != 0)
        return mk_fail(MINKE_EINVAL, "%s: an array expected", what);
    return MINKE_OK;
}

static int32_t chat_messages(struct chat_job *job, const struct mk_json *context,
                             const struct mk_json *messages)
{
    struct mk_chat *c = &job->chat;
    const size_t n_context = context != NULL ? context->n_items : 0;
    size_t i = 0;

    c->n_context = n_context;
    c->n = n_context + messages->n_items;
    c->messages = mk_arena_alloc(&job->arena, c->n, sizeof(*c->messages));
    if (c->messages == NULL)
        return MINKE_ENOMEM;
    for (int part = 0; part < 2; part++) {
        const struct mk_json *list = part == 0 ? context : messages;

        for (const struct mk_json *v = list != NULL ? list->first : NULL; v != NULL; v = v->next) {
            int32_t rc;

            c->messages[i].place = part == 0 ? i : i - n_context;
            if ((rc = chat_message(&c->messages[i], v, (int)c->kind)) < 0)
                return rc;
            i++;
        }
    }
    return MINKE_OK;
}

static int32_t chat_check(const minke_chat_params *p)
{
    if ((p->flags & ~15u) != 0)
        return mk_fail(MINKE_EVERSION, "flags 0x%x: this build knows 0xf", p->flags);
    if (p->thinking > MINKE_THINKING_OFF)
        return mk_fail(MINKE_EVERSION, "thinking %u: this build knows 0 to 2", p->thinking);
    if (p->retention > MINKE_RETAIN_ALL)
        return mk_fail(MINKE_EVERSION, "retention %u: this build knows 0 to 3", p->retention);
    return MINKE_OK;
}

/* What the encoding cannot write must not be lost without a word. */
static int32_t chat_check_extras(const struct mk_chat *c)
{
    if (c->tools != NULL && c->tools->n_items > 0 && c->kind < MK_CHAT_V31)
        return mk_fail(MINKE_EUNSUPPORTED, "tools: %s has no place for them; describe them in a "
                                           "system message", mk_chat_name((int)c->kind));
    if (c->format != NULL && c->kind < MK_CHAT_V32)
        return mk_fail(MINKE_EUNSUPPORTED, "response_format: %s has no place for it",
                       mk_chat_name((int)c->kind));
    if (c->n_context > 0 && c->kind < MK_CHAT_V32)
        return mk_fail(MINKE_EUNSUPPORTED, "context: %s is always written as a whole",
                       mk_chat_name((int)c->kind));
    return MINKE_OK;
}

static int32_t chat_write(struct mk_chat *c, struct mk_chat_out *out)
{
    int32_t rc;

    if (c->kind == MK_CHAT_V2)
        rc = mk_chat_write_v2(c, out);
    else if (c->kind < MK_CHAT_V31)
        rc = mk_chat_write_v3(c, out);
    else if (c->kind < MK_CHAT_V32)
        rc = mk_chat_write_v31(c, out);
    else
        rc = mk_chat_write_v32(c, out);
    if (rc == MINKE_OK && out->text.failed)
        rc = mk_fail_memory(out->text.len, "a prompt");
    return rc < 0 ? rc : out->rc;
}

/* Read the arguments and write the prompt; job is to be ended in any case. */
static int32_t chat_begin(struct chat_job *job, const minke_context *ctx,
                          const struct mk_tokenizer *tok, const char *messages, size_t len,
                          const minke_chat_params *given)
{
    const struct mk_json *json, *context;
    struct mk_chat *c = &job->chat;
    minke_chat_params p;
    int32_t rc;
    int kind;

    memset(job, 0, sizeof(*job));
    if (ctx != NULL && (rc = mk_context_check(ctx)) < 0)
        return rc;
    if (ctx != NULL)
        job->a = ctx->env.alloc;
    mk_arena_init(&job->arena, &job->a);
    mk_text_init(&job->out.text, &job->a);
    job->out.a = &job->a;
    if (messages == NULL)
        return mk_fail(MINKE_EINVAL, "messages is NULL");
    if ((rc = mk_params_read(&p, sizeof(p), given, sizeof(p))) < 0
        || (rc = chat_check(&p)) < 0
        || (rc = mk_chat_choose(&kind, ctx, p.encoding)) < 0)
        return rc;
    c->kind = (enum mk_chat_kind)kind;
    c->think_end = tok == NULL ? -1
                 : mk_tokenizer_find(tok, mk_view(MK_CHAT_THINK_END));
    c->thinking = mk_chat_thinks(kind, p.thinking);
    c->generation = (p.flags & MINKE_CHAT_NO_GENERATION) == 0;
    c->bos = (p.flags & MINKE_CHAT_NO_BOS) == 0;
    c->drop = (p.flags & MINKE_CHAT_NO_DROP) == 0;
    c->retention = p.retention;
    if (p.retention == MINKE_RETAIN_DEFAULT)
        c->retention = kind >= MK_CHAT_V32 ? MINKE_RETAIN_TURN : MINKE_RETAIN_NONE;
    job->flags = p.flags;
    if ((rc = chat_json(job, &json, messages, len, "messages")) < 0
        || (rc = chat_json(job, &context, p.context, p.context_len, "context")) < 0
        || (rc = chat_json(job, &c->tools, p.tools, p.tools_len, "tools")) < 0
        || (rc = chat_json(job, &c->format, p.response_format, p.response_format_len,
                           "response_format")) < 0
        || (rc = chat_messages(job, context, json)) < 0
        || (rc = chat_check_extras(c)) < 0)
        return rc;
    return chat_write(c, &job->out);
}

/* ---- Ids ---- */

/* A growing list of tokens. */
struct chat_tokens {
    int32_t *ids;
    size_t n, capacity;
};

/* Text [begin, end) of the prompt, with the plain spans within it. */
static int32_t chat_encode_text(struct chat_job *job, const struct mk_tokenizer *tok,
                                struct chat_tokens *tokens, size_t begin, size_t end,
                                size_t *span)
{
    struct mk_chat_out *out = &job->out;
    size_t first, n = 0;
    int32_t rc;

    while (*span < out->n_plain && out->plain[*span].end <= begin)
        (*span)++;
    first = *span;
    while (*span < out->n_plain && out->plain[*span].begin < end) {
        out->plain[*span].begin -= mk_min(begin, out->plain[*span].begin);
        out->plain[*span].end = mk_min(out->plain[*span].end, end) - begin;
        (*span)++;
    }
    if ((job->flags & MINKE_CHAT_TRUST_TEXT) == 0)
        n = *span - first;
    const struct mk_tokenize in = {mk_view_part(mk_text_view(&out->text), begin, end),
                                   MINKE_TOKENIZE_SPECIAL, n > 0 ? out->plain + first : NULL, n};

    for (size_t room = (end - begin) / 3 + 16;;) {
        size_t n_new = 0;

        rc = mk_grow(&job->a, (void **)&tokens->ids, &tokens->capacity, tokens->n + room,
                     sizeof(int32_t));
        if (rc < 0)
            return rc;
        room = tokens->capacity - tokens->n;
        rc = mk_tokenizer_encode(tok, &in, tokens->ids + tokens->n, room, &n_new);
        if (rc == MINKE_OK)
            tokens->n += n_new;
        if (rc != MINKE_ENOSPC)
            return rc;
        room = n_new;
    }
}

/* The ids that a message carries, closed with the token that ends texts. */
static int32_t chat_encode_ids(struct chat_job *job, const struct mk_tokenizer *tok,
                               struct chat_tokens *tokens, const struct mk_chat_ids *own)
{
    const int32_t think_end = mk_tokenizer_find(tok, mk_view(MK_CHAT_THINK_END));
    const int32_t eos = mk_tokenizer_eos(tok);
    const struct mk_json *first = own->ids->first;
    size_t n = own->ids->n_items, i = 0;
    const int cuts = own->cut != 0
                     && (!own->unreasoned || chat_opens_empty(own->ids, think_end));
    int64_t id = -1;
    int cut = 0;
    int32_t rc;

    for (const struct mk_json *v = first; v != NULL; v = v->next, i++) {
        if (mk_json_int(v, &id) != 0 || id < 0 || (size_t)id >= mk_tokenizer_size(tok))
            return mk_fail(MINKE_EINVAL, "token_ids: item %zu is no token of the model", i);
        if (cuts && id == think_end && (own->cut == 2 || first == own->ids->first)) {
            first = v->next;
            n = own->ids->n_items - i - 1;
            cut = 1;
        }
    }
    if (cuts && !cut && own->unfinished) {
        first = NULL;
        n = 0;
        id = -1;
    }
    rc = mk_grow(&job->a, (void **)&tokens->ids, &tokens->capacity, tokens->n + n + 1,
                 sizeof(int32_t));
    if (rc < 0)
        return rc;
    for (const struct mk_json *v = first; v != NULL; v = v->next) {
        mk_json_int(v, &id);
        tokens->ids[tokens->n++] = (int32_t)id;
    }
    if (eos >= 0 && id != eos)
        tokens->ids[tokens->n++] = eos;
    return MINKE_OK;
}

static int32_t chat_encode(struct chat_job *job, const struct mk_tokenizer *tok,
                           struct chat_tokens *tokens)
{
    const struct mk_chat_out *out = &job->out;
    size_t at = 0, span = 0;
    int32_t rc = MINKE_OK;

    for (size_t i = 0; i <= out->n_ids && rc == MINKE_OK; i++) {
        const size_t end = i < out->n_ids ? out->ids[i].begin : out->text.len;

        if (end > at)
            rc = chat_encode_text(job, tok, tokens, at, end, &span);
        if (rc == MINKE_OK && i < out->n_ids) {
            rc = chat_encode_ids(job, tok, tokens, &out->ids[i]);
            at = out->ids[i].end;
        }
    }
    return rc;
}

/* ---- Public ---- */

void minke_chat_params_init(minke_chat_params *params, size_t size)
{
    mk_params_init(params, size);
}

int32_t minke_chat_render(const minke_context *ctx, const char *messages, size_t messages_len,
                          const minke_chat_params *params, char *text, size_t capacity,
                          size_t *n_out)
{
    struct chat_job job;
    int32_t rc;

    if (n_out == NULL || (text == NULL && capacity > 0))
        return mk_fail(MINKE_EINVAL, "text or n_out is NULL");
    rc = chat_begin(&job, ctx, NULL, messages, messages_len, params);
    if (rc == MINKE_OK) {
        *n_out = job.out.text.len;
        if (job.out.text.len > capacity)
            rc = mk_fail(MINKE_ENOSPC, "%zu bytes, room for %zu", job.out.text.len, capacity);
        else if (job.out.text.len > 0)
            memcpy(text, job.out.text.data, job.out.text.len);
    }
    chat_end(&job);
    return rc;
}

int32_t minke_chat_encode(const minke_context *ctx, const char *messages, size_t messages_len,
                          const minke_chat_params *params, int32_t *tokens, size_t capacity,
                          size_t *n_out)
{
    struct chat_tokens list = {0};
    const struct mk_tokenizer *tok;
    struct chat_job job;
    int32_t rc;

    if (n_out == NULL || (tokens == NULL && capacity > 0))
        return mk_fail(MINKE_EINVAL, "tokens or n_out is NULL");
    if ((rc = mk_context_check(ctx)) < 0)
        return rc;
    tok = mk_context_tokenizer(ctx);
    if (tok == NULL)
        return MINKE_EUNSUPPORTED;
    rc = chat_begin(&job, ctx, tok, messages, messages_len, params);
    if (rc == MINKE_OK)
        rc = chat_encode(&job, tok, &list);
    if (rc == MINKE_OK) {
        *n_out = list.n;
        if (list.n > capacity)
            rc = mk_fail(MINKE_ENOSPC, "%zu tokens, room for %zu", list.n, capacity);
        else if (list.n > 0)
            memcpy(tokens, list.ids, list.n * sizeof(*tokens));
    }
    mk_free(&job.a, list.ids);
    chat_end(&job);
    return rc;
}
