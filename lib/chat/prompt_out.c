/* What encodings write: text, whom its bytes come from, and the ids that some of them have. */
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "chat/prompt.h"

/* ---- Text ---------------------------------------------------------------- */

/* Bytes [begin, end) of the text are plain. */
static void out_span(struct mk_chat_out *out, size_t begin, size_t end)
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

/* What markers hold is plain from begin on, so that a model that repeats a user's forged marker
 * does not make it real. */
static void out_guard(struct mk_chat_out *out, size_t begin)
{
    const struct mk_view text = mk_text_view(&out->text);

    for (size_t at = begin; at < text.len; at++)
        for (const char *const *part = out->guarded; *part != NULL; part++)
            if (text.data[at] == **part && mk_view_has(text, at, mk_view(*part))) {
                out_span(out, at, at + strlen(*part));
                at += strlen(*part) - 1;
                break;
            }
}

void mk_chat_adds(struct mk_chat_out *out, const char *text)
{
    mk_text_adds(&out->text, text);
}

void mk_chat_add_trusted(struct mk_chat_out *out, struct mk_view text)
{
    mk_text_add_view(&out->text, text);
}

void mk_chat_add_plain(struct mk_chat_out *out, struct mk_view text)
{
    const size_t begin = out->text.len;

    mk_text_add_view(&out->text, text);
    out_span(out, begin, out->text.len);
}

void mk_chat_add_model(struct mk_chat_out *out, struct mk_view text)
{
    const size_t begin = out->text.len;

    mk_text_add_view(&out->text, text);
    out_guard(out, begin);
}

void mk_chat_add_json(struct mk_chat_out *out, const struct mk_json *v)
{
    const size_t begin = out->text.len;

    mk_text_add_json(&out->text, v);
    out_guard(out, begin);
}

static int out_is_empty(const struct mk_json *string)
{
    return string == NULL || string->text.len == 0;
}

void mk_chat_own_ids(struct mk_chat_out *out, const struct mk_chat_message *m, size_t begin,
                     enum mk_chat_cut cut)
{
    if (m->ids == NULL || out->rc < 0)
        return;
    out->rc = mk_grow(out->a, (void **)&out->ids, &out->ids_capacity, out->n_ids + 1,
                      sizeof(*out->ids));
    if (out->rc == MINKE_OK)
        out->ids[out->n_ids++] = (struct mk_chat_ids){begin, out->text.len, m, cut};
}

void mk_chat_out_free(struct mk_chat_out *out)
{
    mk_text_free(&out->text);
    mk_free(out->a, out->plain);
    mk_free(out->a, out->ids);
    mk_free(out->a, out->tokens);
}

/* ---- Messages ------------------------------------------------------------ */

/* Whether ids begin with a reasoning that is empty: </think>, or <think></think>. */
static int out_opens_empty(const struct mk_json *ids, int32_t think_end)
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
    if (!out_is_empty(m->reasoning))
        return 1;
    if (m->ids == NULL || c->think_end < 0)
        return m->reasoning != NULL && c->thinking;
    return out_opens_empty(m->ids, c->think_end);
}

const struct mk_json *mk_chat_content(const struct mk_chat_message *m)
{
    if (m->content == NULL)
        mk_fail(MINKE_EINVAL, "message %zu: content is null", m->place);
    return m->content;
}

int32_t mk_chat_read_call(struct mk_chat_call *out, const struct mk_chat_message *m,
                          const struct mk_json *call)
{
    const struct mk_json *function = mk_json_get(call, "function");
    const struct mk_json *name = mk_json_get(function, "name");
    const struct mk_json *arguments = mk_json_get(function, "arguments");
    const int no_arguments = arguments == NULL || arguments->type != MK_JSON_STRING;

    if (no_arguments || name == NULL || name->type != MK_JSON_STRING)
        return mk_fail(MINKE_EINVAL, "message %zu: a tool call's function.%s is no text", m->place,
                       no_arguments ? "arguments" : "name");
    *out = (struct mk_chat_call){name->text, arguments->text};
    return MINKE_OK;
}

/* ---- Tokens -------------------------------------------------------------- */

/* How far the tokens have come. */
struct out_job {
    struct mk_chat_out *out;
    const struct mk_tokenizer *tok;
    int32_t think_end;
    size_t span;            /* first plain one that is not behind us */
};

static int32_t out_room(struct mk_chat_out *out, size_t n)
{
    return mk_grow(out->a, (void **)&out->tokens, &out->tokens_capacity, out->n_tokens + n,
                   sizeof(*out->tokens));
}

/* The plain spans within [begin, end) of the text, which then count from begin: *n of them. */
static const struct mk_span *out_spans(struct out_job *job, size_t begin, size_t end, size_t *n)
{
    struct mk_span *const all = job->out->plain;
    size_t first, i = job->span;

    while (i < job->out->n_plain && all[i].end <= begin)
        i++;
    for (first = i; i < job->out->n_plain && all[i].begin < end; i++) {
        all[i].begin -= mk_min(begin, all[i].begin);
        all[i].end = mk_min(all[i].end, end) - begin;
    }
    job->span = i;
    *n = i - first;
    return *n > 0 ? all + first : NULL;
}

/* Text [begin, end). */
static int32_t out_tokenize(struct out_job *job, size_t begin, size_t end)
{
    struct mk_chat_out *out = job->out;
    struct mk_tokenize in = {.text = mk_view_part(mk_text_view(&out->text), begin, end),
                             .flags = MINKE_TOKENIZE_SPECIAL};
    size_t n = 0, room = in.text.len / 3 + 16;
    int32_t rc;

    in.plain = out_spans(job, begin, end, &in.n_plain);
    do {
        if ((rc = out_room(out, room)) < 0)
            return rc;
        rc = mk_tokenizer_encode(job->tok, &in, out->tokens + out->n_tokens,
                                 out->tokens_capacity - out->n_tokens, &n);
        room = n;
    } while (rc == MINKE_ENOSPC);
    if (rc == MINKE_OK)
        out->n_tokens += n;
    return rc;
}

/* Where ids may be cut.  A message that says that it has no reasoning has none to cut, unless
 * its ids begin with an empty one. */
static enum mk_chat_cut out_cut(const struct out_job *job, const struct mk_chat_ids *own)
{
    const struct mk_chat_message *m = own->message;

    return m->reasoning != NULL && out_is_empty(m->reasoning)
           && !out_opens_empty(m->ids, job->think_end) ? MK_CUT_NONE : own->cut;
}

/* The ids that a message carries, closed with the token that ends texts. */
static int32_t out_take_ids(struct out_job *job, const struct mk_chat_ids *own)
{
    const struct mk_chat_message *m = own->message;
    const enum mk_chat_cut cut = out_cut(job, own);
    const int32_t eos = mk_tokenizer_eos(job->tok);
    struct mk_chat_out *out = job->out;
    const size_t begin = out->n_tokens;
    size_t i = 0;
    int64_t id = -1;
    int32_t rc = out_room(out, m->ids->n_items + 1);
    int was_cut = 0;

    for (const struct mk_json *v = m->ids->first; v != NULL && rc == MINKE_OK; v = v->next, i++) {
        if (mk_json_int(v, &id) != 0 || id < 0 || (size_t)id >= mk_tokenizer_size(job->tok))
            return mk_fail(MINKE_EINVAL, "token_ids: item %zu is no token of the model", i);
        out->tokens[out->n_tokens++] = (int32_t)id;
        if (id == job->think_end && (cut == MK_CUT_LAST || (cut == MK_CUT_FIRST && !was_cut))) {
            out->n_tokens = begin;
            was_cut = 1;
        }
    }
    /* Reasoning that was not finished, and no answer: all is cut. */
    if (cut != MK_CUT_NONE && !was_cut && m->calls == NULL && out_is_empty(m->content)
        && !out_is_empty(m->reasoning)) {
        out->n_tokens = begin;
        id = -1;
    }
    if (rc == MINKE_OK && eos >= 0 && id != eos)
        out->tokens[out->n_tokens++] = eos;
    return rc;
}

int32_t mk_chat_tokenize(struct mk_chat_out *out, const struct mk_tokenizer *tok,
                         int32_t think_end)
{
    struct out_job job = {out, tok, think_end, 0};
    size_t at = 0;
    int32_t rc = MINKE_OK;

    for (size_t i = 0; i <= out->n_ids && rc == MINKE_OK; i++) {
        const struct mk_chat_ids *own = i < out->n_ids ? &out->ids[i] : NULL;
        const size_t end = own != NULL ? own->begin : out->text.len;

        if (end > at)
            rc = out_tokenize(&job, at, end);
        if (rc == MINKE_OK && own != NULL) {
            rc = out_take_ids(&job, own);
            at = own->end;
        }
    }
    return rc;
}
