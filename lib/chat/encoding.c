/* The table of encodings, and which of them a model has.
 * Reference: tokenizer_config.json, generation_config.json and README.md of each model. */
#include "chat/encoding.h"

#include <string.h>

#include "base/checked.h"
#include "chat/deepseek.h"
#include "model/handle.h"

/* ---- The rows ------------------------------------------------------------ */

static const struct mk_chat_marks deepseek_marks = {
    .think_end = MK_DS_THINK_END,
    .foreign = (const char *const[]){"tojson", "macro ", "{% include", "{% import",
                                     "raise_exception", "strftime_now", "<|", NULL},
    .guarded = (const char *const[]){"｜", NULL},
    .answered = (const char *const[]){MK_DS_THINK_END, MK_DS_OUTPUT_END, MK_DS_OUTPUTS_END, NULL},
    .unthinking = (const char *const[]){MK_DS_THINK_END, MK_DS_CALLS, NULL},
};

static const char encoding_no_place[] = "has no place for them; describe them in a system message";

/* In the order in which templates are tried. */
static const struct mk_encoding encodings[] = {
    {.names = {"deepseek-v2"},
     .has = {"'User: ' + message['content'] + '", "'Assistant: ' + message['content']",
             "{{ 'Assistant:' }}"},
     .lacks = {"｜"},
     .thinks = MK_THINKS_NEVER, .retention = MINKE_RETAIN_NONE, .temperature = 0.3f, .top_p = 0.95f,
     .no_tools = encoding_no_place,
     .write = mk_chat_write_v2, .grammar = &mk_reply_v2, .marks = &deepseek_marks},
    {.names = {"deepseek-v3"},
     .has = {"'<｜User｜>' + message['content']}}", "message['content'] is none",
             "tool['type']", "is_output_first=true", "{{'<｜Assistant｜>'}}"},
     .lacks = {"is_last_user", "</think>", "<think>"},
     .thinks = MK_THINKS_NEVER, .retention = MINKE_RETAIN_NONE, .temperature = 0.3f, .top_p = 0.95f,
     .no_tools = encoding_no_place, .null_content = 1,
     .write = mk_chat_write_v3, .grammar = &mk_reply_v3, .marks = &deepseek_marks},
    {.names = {"deepseek-v3-0324"},
     .has = {"'<｜User｜>' + message['content'] + '<｜Assistant｜>'", "is_last_user",
             "tool['type']", "ns.is_output_first = true"},
     .lacks = {"think>"},
     .thinks = MK_THINKS_NEVER, .retention = MINKE_RETAIN_NONE, .temperature = 0.3f, .top_p = 0.95f,
     .no_tools = encoding_no_place, .style = MK_V3_ASKS,
     .write = mk_chat_write_v3, .grammar = &mk_reply_v3, .marks = &deepseek_marks},
    {.names = {"deepseek-r1.hf", "deepseek-r1"},
     .has = {"'tool_calls' in message", "content.split('</think>')[-1]", "tool['type']",
             "'<｜Assistant｜><think>"},
     .lacks = {"is_last_user"},
     .thinks = MK_THINKS_ALWAYS, .think_by = MK_THINK_BY_BOTH, .no_tools = encoding_no_place,
     .retention = MINKE_RETAIN_NONE, .temperature = 0.6f, .top_p = 0.95f,
     .write = mk_chat_write_v3, .grammar = &mk_reply_v3, .marks = &deepseek_marks},
    {.names = {"deepseek-r1.api-docs"},
     .has = {"'tool_calls' in message", "content.split('</think>')[-1]", "tool['type']",
             "{{'<｜Assistant｜>'}}"},
     .lacks = {"is_last_user", "'<think>"},
     .thinks = MK_THINKS_ALWAYS, .think_by = MK_THINK_BY_MODEL, .no_tools = encoding_no_place,
     .retention = MINKE_RETAIN_NONE, .temperature = 0.6f, .top_p = 0.95f,
     .write = mk_chat_write_v3, .grammar = &mk_reply_v3, .marks = &deepseek_marks},
    {.names = {"deepseek-r1-0528"},
     .has = {"+ '<｜Assistant｜>'", "is_last_user", "tool['type']",
             "content.split('</think>')[-1]"},
     .lacks = {"<think>"},
     .thinks = MK_THINKS_ALWAYS, .think_by = MK_THINK_BY_MODEL, .no_tools = encoding_no_place,
     .retention = MINKE_RETAIN_NONE, .temperature = 0.6f, .top_p = 0.95f, .style = MK_V3_ASKS,
     .write = mk_chat_write_v3, .grammar = &mk_reply_v3, .marks = &deepseek_marks},
    {.names = {"deepseek-v3.1"},
     .has = {"is_last_user", "split('</think>', 1)[1]", "'<｜Assistant｜></think>'",
             "message['prefix']"},
     .lacks = {"is_only_sys", "tool['type']"},
     .thinks = MK_THINKS_ASKED, .retention = MINKE_RETAIN_NONE, .temperature = 0.6f, .top_p = 0.95f,
     .write = mk_chat_write_v31, .grammar = &mk_reply_v31, .marks = &deepseek_marks},
    {.names = {"deepseek-v3.1-terminus", "deepseek-v3.2-exp"},
     .has = {"is_last_user", "split('</think>', 1)[1]", "is_only_sys", "not ns.is_prefix"},
     .lacks = {"tool['type']"},
     .thinks = MK_THINKS_ASKED, .retention = MINKE_RETAIN_NONE, .temperature = 0.6f, .top_p = 0.95f,
     .style = MK_V31_REPEATS,
     .write = mk_chat_write_v31, .grammar = &mk_reply_v31, .marks = &deepseek_marks},
    {.names = {"deepseek-v3.2"},
     .has = {"function_calls>", "｜DSML｜", "# The user"},
     .model_type = "deepseek_v32", .tokenizer = "deepseek-v3",
     .thinks = MK_THINKS_ASKED, .retention = MINKE_RETAIN_TURN, .temperature = 1.0f, .top_p = 0.95f,
     .takes = MK_TAKES_FORMAT | MK_TAKES_CONTEXT | MK_TAKES_DEVELOPER,
     .write = mk_chat_write_v32, .grammar = &mk_reply_dsml, .marks = &deepseek_marks},
    {.names = {"deepseek-v3.2-speciale"},
     .thinks = MK_THINKS_ALWAYS, .no_tools = "was not taught to call",
     .retention = MINKE_RETAIN_TURN, .temperature = 1.0f, .top_p = 0.95f,
     .takes = MK_TAKES_FORMAT | MK_TAKES_CONTEXT | MK_TAKES_DEVELOPER,
     .write = mk_chat_write_v32, .grammar = &mk_reply_dsml, .marks = &deepseek_marks},
};

/* ---- Which one ----------------------------------------------------------- */

const struct mk_encoding *mk_encoding_find(const char *name)
{
    for (size_t i = 0; i < MK_COUNT(encodings); i++)
        for (size_t k = 0; k < MK_COUNT(encodings[i].names) && encodings[i].names[k] != NULL; k++)
            if (strcmp(encodings[i].names[k], name) == 0)
                return &encodings[i];
    return NULL;
}

/* How many texts of a list that ends in NULL stand in text. */
static size_t encoding_holds(struct mk_view text, const char *const *parts)
{
    size_t n = 0;

    for (; *parts != NULL; parts++)
        n += mk_view_find(text, 0, mk_view(*parts)) < text.len;
    return n;
}

const struct mk_encoding *mk_encoding_match(struct mk_view text)
{
    for (const struct mk_encoding *e = encodings; e < encodings + MK_COUNT(encodings); e++) {
        size_t n = 0;

        while (e->has[n] != NULL)
            n++;
        if (n > 0 && encoding_holds(text, e->has) == n && encoding_holds(text, e->lacks) == 0
            && encoding_holds(text, e->marks->foreign) == 0)
            return e;
    }
    return NULL;
}

/* The encoding of a model that has no template. */
static const struct mk_encoding *encoding_of_type(const minke_context *ctx,
                                                  const struct mk_tokenizer *tok)
{
    const char *type;

    if (minke_context_text(ctx, MINKE_TEXT_MODEL_TYPE, &type) != MINKE_OK)
        return NULL;
    for (size_t i = 0; i < MK_COUNT(encodings); i++)
        if (encodings[i].model_type != NULL && strcmp(encodings[i].model_type, type) == 0
            && strcmp(encodings[i].tokenizer, mk_tokenizer_kind(tok)) == 0)
            return &encodings[i];
    return NULL;
}

/* The error that says what names there are. */
static int32_t encoding_unknown(const char *what, const char *detail)
{
    char list[512] = "";   /* as long as a message is */
    size_t n = 0;

    for (size_t i = 0; i < MK_COUNT(encodings) && n < sizeof(list); i++)
        n += mk_format(list + n, sizeof(list) - n, "%s%s", i > 0 ? ", " : "",
                       encodings[i].names[0]);
    return mk_fail(MINKE_EUNSUPPORTED, "%s%s; known encodings: %s", what, detail, list);
}

int32_t mk_encoding_choose(const struct mk_encoding **e, const minke_context *ctx,
                           const char *name)
{
    const char *why = "no encoding ";
    const struct mk_encoding *found;
    const struct mk_tokenizer *tok;
    struct mk_view text = {0};

    if (name != NULL) {
        found = mk_encoding_find(name);
    } else {
        if (ctx == NULL)
            return mk_fail(MINKE_EINVAL, "neither a context nor the name of an encoding");
        if ((tok = mk_context_tokenizer(ctx)) == NULL)
            return MINKE_EUNSUPPORTED;
        text = mk_tokenizer_template(tok);
        found = text.data != NULL ? mk_encoding_match(text) : encoding_of_type(ctx, tok);
        why = text.data != NULL ? "the model's chat template is none of the family's"
                                : "the model has no chat template";
    }
    if (found == NULL)
        return encoding_unknown(why, name != NULL ? name : "");
    *e = found;
    return MINKE_OK;
}

/* ---- Public -------------------------------------------------------------- */

const char *minke_chat_encoding_name(size_t i)
{
    return i < MK_COUNT(encodings) ? encodings[i].names[0] : NULL;
}

int32_t minke_chat_encoding(const minke_context *ctx, const char **name)
{
    const struct mk_encoding *e = NULL;
    int32_t rc = mk_context_check(ctx);

    if (rc < 0)
        return rc;
    if (name == NULL)
        return mk_fail(MINKE_EINVAL, "name is NULL");
    if ((rc = mk_encoding_choose(&e, ctx, NULL)) < 0)
        return rc;
    *name = e->names[0];
    return MINKE_OK;
}

int32_t minke_chat_sampling(const minke_context *ctx, const char *encoding, float *temperature,
                            float *top_p)
{
    const struct mk_encoding *e;
    int32_t rc = ctx != NULL ? mk_context_check(ctx) : MINKE_OK;

    if (rc < 0)
        return rc;
    if (temperature == NULL || top_p == NULL)
        return mk_fail(MINKE_EINVAL, "temperature or top_p is NULL");
    if ((rc = mk_encoding_choose(&e, ctx, encoding)) < 0)
        return rc;
    *temperature = e->temperature;
    *top_p = e->top_p;
    return MINKE_OK;
}
