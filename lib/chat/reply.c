/* Replies, piece by piece: a grammar's markers, and text between them that is passed on as soon
 * as it cannot be the beginning of one.  Here are events, stop texts, the search for markers,
 * and the handle. */
#include "chat/reply.h"

#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/params.h"
#include "model/handle.h"

/* Where bytes came from: unknown, a token that is no marker, a token that is one. */
#define REPLY_TEXT  0
#define REPLY_PLAIN 1
#define REPLY_TOKEN 2

/* ---- Events -------------------------------------------------------------- */

/* Pass content on up to end. */
static void reply_give(struct minke_reply *r, size_t end)
{
    const struct mk_view text = mk_view_part(mk_text_view(&r->content), r->n_given, end);

    r->n_given = end;
    if (text.len > 0)
        mk_reply_event(r, MINKE_REPLY_EVENT_CONTENT, text);
}

void mk_reply_event(struct minke_reply *r, int32_t event, struct mk_view text)
{
    if (event != MINKE_REPLY_EVENT_CONTENT)
        reply_give(r, r->content.len);
    if (r->on_event == NULL || r->stopped || (r->stop >= 0 && event != MINKE_REPLY_EVENT_FINISHED
                                              && event != MINKE_REPLY_EVENT_CONTENT))
        return;
    r->busy = 1;
    r->stopped = r->on_event(r->user, event, r->n_calls, text.len > 0 ? text.data : "",
                             text.len) != 0;
    r->busy = 0;
}

void mk_reply_malformed(struct minke_reply *r, const char *why)
{
    if (r->malformed.len > 0)
        mk_text_adds(&r->malformed, ", ");
    mk_text_add_quoted(&r->malformed, why, strlen(why));
    mk_reply_event(r, MINKE_REPLY_EVENT_MALFORMED, mk_view(why));
}

/* ---- Content, up to a stop text ------------------------------------------ */

static struct mk_view reply_stop(const struct minke_reply *r, size_t k)
{
    return (struct mk_view){r->stops.text[k], r->stops.len[k]};
}

/* The longest stop text that text ends in, or -1. */
static int32_t reply_stop_at(const struct minke_reply *r, struct mk_view text)
{
    int32_t best = -1;

    for (size_t k = 0; k < r->stops.n; k++)
        if (mk_view_has(text, text.len - r->stops.len[k], reply_stop(r, k))
            && (best < 0 || r->stops.len[k] > r->stops.len[best]))
            best = (int32_t)k;
    return best;
}

/* Bytes at the end of text that may be the beginning of a stop text. */
static size_t reply_stop_begun(const struct minke_reply *r, struct mk_view text)
{
    size_t most = 0;

    for (size_t k = 0; k < r->stops.n; k++)
        for (size_t n = most + 1; n < r->stops.len[k] && n <= text.len; n++)
            if (mk_view_has(text, text.len - n, mk_view_part(reply_stop(r, k), 0, n)))
                most = n;
    return most;
}

void mk_reply_content(struct minke_reply *r, struct mk_view text)
{
    const size_t before = r->content.len;
    struct mk_view all;

    if (r->encoding->grammar->blank && !r->begun && mk_view_has(text, 0, mk_view(" "))) {
        r->begun = 1;
        text = mk_view_part(text, 1, text.len);
    }
    if (text.len == 0 || r->stop >= 0)
        return;
    r->begun = 1;
    mk_text_add_view(&r->content, text);
    all = mk_text_view(&r->content);
    for (size_t end = before + 1; r->stops.n > 0 && end <= all.len && r->stop < 0; end++) {
        r->stop = reply_stop_at(r, mk_view_part(all, r->n_given, end));
        if (r->stop >= 0)
            r->content.len = end - r->stops.len[r->stop];
    }
    all = mk_view_part(all, r->n_given, r->content.len);
    reply_give(r, r->content.len - (r->stop < 0 ? reply_stop_begun(r, all) : 0));
}

/* ---- What stands between markers ----------------------------------------- */

static void reply_take(struct minke_reply *r, struct mk_view text)
{
    if (text.len == 0)
        return;
    switch (r->state) {
    case MK_REPLY_REASONING:
        r->begun = 1;
        mk_text_add_view(&r->reasoning, text);
        mk_reply_event(r, MINKE_REPLY_EVENT_REASONING, text);
        break;
    case MK_REPLY_VALUE:
        r->encoding->grammar->value(r, text);
        break;
    case MK_REPLY_CONTENT:
        mk_reply_content(r, text);
        break;
    case MK_REPLY_AFTER:
    case MK_REPLY_DONE:
        if (!r->surplus)
            mk_reply_malformed(r, r->state == MK_REPLY_AFTER ? "Unexpected content after tool calls"
                                                             : "Unexpected content at end");
        r->surplus = 1;
        mk_reply_content(r, text);
        break;
    default:
        mk_text_add_view(&r->held, text);
    }
}

/* Close whatever is open when the reply ends inside of it. */
static void reply_abandon(struct minke_reply *r)
{
    const struct mk_view held = mk_text_view(&r->held), line = MK_VIEW(">\n");
    const uint32_t closed = MK_IN(MK_REPLY_REASONING) | MK_IN(MK_REPLY_CONTENT)
                          | MK_IN(MK_REPLY_AFTER) | MK_IN(MK_REPLY_DONE);

    if ((closed & MK_IN(r->state)) != 0)
        return;
    mk_reply_malformed(r, r->state == MK_REPLY_CALLS ? "Missing special token"
                                                     : "a tool call has no end");
    if (r->state == MK_REPLY_VALUE && r->encoding->grammar->value_end != NULL)
        r->encoding->grammar->value_end(r);
    /* What remains of the line that opens calls is nobody's text. */
    if (r->state != MK_REPLY_CALLS || !mk_view_has(line, 0, held))
        mk_reply_content(r, held);
    r->held.len = 0;
    mk_reply_call_end(r);
    r->state = MK_REPLY_AFTER;
}

/* ---- Markers ------------------------------------------------------------- */

void mk_reply_read_stray(struct minke_reply *r)
{
    mk_reply_malformed(r, "Unexpected special token in content");
    reply_take(r, mk_view(r->marker->text));
}

void mk_reply_read_end(struct minke_reply *r)
{
    if (r->state == MK_REPLY_DONE)
        reply_take(r, mk_view(r->marker->text));
    else if (r->state == MK_REPLY_REASONING)
        mk_reply_malformed(r, "Invalid thinking format");
    reply_abandon(r);
}

void mk_reply_read_think(struct minke_reply *r)
{
    const enum mk_think_by by = r->encoding->think_by;

    if (r->begun || by == MK_THINK_BY_PROMPT
        || (by == MK_THINK_BY_BOTH && r->state != MK_REPLY_CONTENT))
        mk_reply_read_stray(r);
    else
        r->state = MK_REPLY_REASONING;
    r->begun = 1;
}

void mk_reply_read_think_end(struct minke_reply *r)
{
    if (r->state != MK_REPLY_REASONING)
        mk_reply_read_stray(r);
    r->begun = 1;
}

void mk_reply_read_calls(struct minke_reply *r)
{
    if (r->state == MK_REPLY_REASONING)
        mk_reply_malformed(r, "Invalid thinking format");
}

/* The grammar's markers that mean something in this state, bit by bit. */
static uint32_t reply_set(const struct minke_reply *r)
{
    const struct mk_reply_grammar *g = r->encoding->grammar;
    const int thinks = r->encoding->thinks[MINKE_THINKING_ON];
    uint32_t set = 0;

    for (size_t k = 0; k < g->n_markers; k++)
        if ((g->markers[k].states & MK_IN(r->state)) != 0
            && (thinks || (g->markers[k].flags & MK_MARKER_THINKS) == 0))
            set |= 1u << k;
    return set;
}

/* Whether the grammar's marker k may be what begins at i: 1 = it is, -1 = it may become it, 0 =
 * no. */
static int reply_fits(const struct minke_reply *r, size_t k, size_t i)
{
    const struct mk_reply_marker *m = &r->encoding->grammar->markers[k];
    const struct mk_view text = mk_view(m->text);
    const size_t have = mk_min(text.len, r->pending.len - i);
    const char origin = r->origin.data[i];

    if (memcmp(r->pending.data + i, text.data, have) != 0)
        return 0;
    if (r->ids[k] >= 0 && origin == REPLY_PLAIN)
        return 0;
    /* In a value this may be a text that speaks of the marker. */
    if (m->read == mk_reply_read_end && r->state == MK_REPLY_VALUE && origin != REPLY_TOKEN)
        return 0;
    return have == text.len ? 1 : -1;
}

/* First place at or behind from where a marker stands (r->marker) or may be about to (NULL). */
static size_t reply_find(struct minke_reply *r, size_t from, int last)
{
    const struct mk_reply_grammar *g = r->encoding->grammar;
    const uint32_t set = reply_set(r);

    r->marker = NULL;
    for (size_t i = from; i < r->pending.len; i++) {
        for (size_t k = 0; k < g->n_markers; k++) {
            int fits;

            if ((set >> k & 1) == 0 || r->pending.data[i] != g->markers[k].text[0])
                continue;
            fits = reply_fits(r, k, i);
            if (fits > 0)
                r->marker = &g->markers[k];
            if (fits > 0 || (fits < 0 && !last))
                return i;
        }
    }
    return r->pending.len;
}

/* Work off what is decided; last: nothing will follow. */
static void reply_run(struct minke_reply *r, int last)
{
    const struct mk_view text = mk_text_view(&r->pending);
    size_t at = 0;

    while (at < text.len && r->stop < 0) {
        const size_t end = reply_find(r, at, last);

        reply_take(r, mk_view_part(text, at, end));
        at = end;
        if (r->marker == NULL)
            break;
        at += strlen(r->marker->text);
        r->marker->read(r);
        if (r->marker->next != MK_REPLY_SAME)
            r->state = r->marker->next;
    }
    if (r->stop >= 0)
        at = text.len;   /* nothing counts behind a stop */
    if (at > 0) {
        memmove(r->pending.data, r->pending.data + at, text.len - at);
        memmove(r->origin.data, r->origin.data + at, text.len - at);
        r->pending.len = r->origin.len = text.len - at;
    }
}

/* ---- Bytes in ------------------------------------------------------------ */

/* The k-th text of a reply, NULL behind the last. */
static struct mk_text *reply_text(struct minke_reply *r, size_t k)
{
    struct mk_text *const texts[] = {
        &r->raw, &r->pending, &r->origin, &r->held, &r->reasoning, &r->content, &r->calls,
        &r->malformed, &r->name, &r->arguments, &r->valid};

    return k < MK_COUNT(texts) ? texts[k] : NULL;
}

/* Of every call that takes something in: whether memory was short, or on_event said stop. */
static int32_t reply_status(struct minke_reply *r)
{
    const struct mk_text *t;
    const int stopped = r->stopped;

    r->stopped = 0;
    for (size_t k = 0; (t = reply_text(r, k)) != NULL; k++)
        if (t->failed)
            return mk_fail_memory(r->pending.len, "a reply");
    return stopped ? mk_fail(MINKE_ECANCELED, "stopped by on_event") : MINKE_OK;
}

/* Take text in; last: nothing will follow. */
static void reply_feed(struct minke_reply *r, struct mk_view text, char origin, int last)
{
    for (struct mk_view part; (part = mk_utf8_next(&r->stream, &text, last)).len > 0;) {
        mk_text_add_view(&r->pending, part);
        mk_text_add_view(&r->origin, part);
        if (!r->origin.failed)
            memset(r->origin.data + r->origin.len - part.len, origin, part.len);
        if (r->strict)
            mk_text_add_view(&r->raw, part);
    }
    if (!r->pending.failed && !r->origin.failed)
        reply_run(r, last);
}

/* For the first line of every call; takes: it takes something in. */
static int32_t reply_check(const struct minke_reply *r, int takes)
{
    int32_t rc;

    if (r == NULL)
        return mk_fail(MINKE_EINVAL, "reply is NULL");
    if (r->ctx != NULL && (rc = mk_context_check(r->ctx)) < 0)
        return rc;
    if (r->busy)
        return mk_fail(MINKE_EBUSY, "the reply is in use by its callback");
    return takes && r->finished ? mk_fail(MINKE_EINVAL, "the reply is finished") : MINKE_OK;
}

int32_t minke_reply_text(minke_reply *r, const char *text, size_t len)
{
    int32_t rc = reply_check(r, 1);

    if (rc < 0)
        return rc;
    if (text == NULL && len > 0)
        return mk_fail(MINKE_EINVAL, "text is NULL");
    reply_feed(r, (struct mk_view){text, len}, REPLY_TEXT, 0);
    return reply_status(r);
}

int32_t minke_reply_token(minke_reply *r, int32_t token)
{
    struct mk_view text;
    char origin = REPLY_PLAIN;
    int32_t rc = reply_check(r, 1);

    if (rc < 0)
        return rc;
    if (r->tok == NULL)
        return mk_fail(MINKE_EINVAL, "the reply was opened without a context");
    if ((rc = minke_token_bytes(r->ctx, token, &text.data, &text.len)) < 0)
        return rc;
    for (size_t k = 0; k < r->encoding->grammar->n_markers; k++)
        if (token == r->ids[k]) {
            text = mk_view(r->encoding->grammar->markers[k].text);
            origin = REPLY_TOKEN;
        }
    reply_feed(r, text, origin, 0);
    return reply_status(r);
}

/* ---- The end ------------------------------------------------------------- */

/* The makers' parser has the last word. */
static int32_t reply_strict(struct minke_reply *r)
{
    const struct mk_reply_grammar *g = r->encoding->grammar;

    if (g->strict != NULL)
        return g->strict(r);
    if (r->malformed.len > 0)
        return mk_fail(MINKE_EFORMAT, "malformed reply: %s", r->malformed.data);
    return MINKE_OK;
}

int32_t minke_reply_finish(minke_reply *r, const char *reason)
{
    int32_t rc = reply_check(r, 1);

    if (rc < 0)
        return rc;
    reply_feed(r, (struct mk_view){"", 0}, REPLY_TEXT, 1);
    reply_abandon(r);
    r->finished = 1;
    if (r->strict && (rc = reply_strict(r)) < 0)
        return rc;
    if (reason == NULL)
        reason = r->n_calls > 0 ? "tool_calls" : "stop";
    mk_reply_event(r, MINKE_REPLY_EVENT_FINISHED, mk_view(reason));
    return reply_status(r);
}

int32_t minke_reply_thinking(const minke_reply *r)
{
    return r != NULL && r->state == MK_REPLY_REASONING;
}

int32_t minke_reply_ended(const minke_reply *r)
{
    return r != NULL && r->state == MK_REPLY_DONE;
}

void mk_reply_write(const struct minke_reply *r, struct mk_text *t, int bare)
{
    mk_text_adds(t, "{\"role\": \"assistant\", \"content\": ");
    if (r->encoding->null_content && r->content.len == 0 && r->n_calls > 0)
        mk_text_adds(t, "null");
    else
        mk_text_add_quoted(t, r->content.data, r->content.len);
    if (!bare || r->reasoning.len > 0 || r->thinking) {
        mk_text_adds(t, ", \"reasoning_content\": ");
        mk_text_add_quoted(t, r->reasoning.data, r->reasoning.len);
    }
    if (!bare || r->n_calls > 0) {
        mk_text_adds(t, ", \"tool_calls\": [");
        mk_text_add(t, r->calls.data, r->calls.len);
        mk_text_adds(t, "]");
    }
    if (r->malformed.len > 0) {
        mk_text_adds(t, ", \"malformed\": [");
        mk_text_add(t, r->malformed.data, r->malformed.len);
        mk_text_adds(t, "]");
    }
}

int32_t minke_reply_message(const minke_reply *r, char *text, size_t capacity, size_t *n_out)
{
    struct mk_text t;
    int32_t rc = reply_check(r, 0);

    if (rc < 0)
        return rc;
    if (n_out == NULL || (text == NULL && capacity > 0))
        return mk_fail(MINKE_EINVAL, "text or n_out is NULL");
    mk_text_init(&t, &r->a);
    mk_reply_write(r, &t, 0);
    mk_text_adds(&t, "}");
    return mk_text_deliver(&t, text, capacity, n_out);
}

/* ---- The handle ---------------------------------------------------------- */

void minke_reply_params_init(minke_reply_params *params, size_t size)
{
    mk_params_init(params, size);
}

static void reply_init(struct minke_reply *r, minke_context *ctx, const minke_reply_params *p)
{
    const struct mk_reply_grammar *g = r->encoding->grammar;
    struct mk_text *t;

    for (size_t k = 0; (t = reply_text(r, k)) != NULL; k++)
        mk_text_init(t, &r->a);
    r->stop = -1;
    r->on_event = p->on_event;
    r->user = p->user;
    r->strict = (p->flags & MINKE_REPLY_STRICT) != 0;
    r->thinking = r->encoding->thinks[p->thinking];
    r->state = r->thinking ? MK_REPLY_REASONING : MK_REPLY_CONTENT;
    for (size_t k = 0; k < g->n_markers; k++)
        r->ids[k] = r->tok == NULL || (g->markers[k].flags & MK_MARKER_TOKEN) == 0 ? -1
            : mk_chat_token(r->tok, g->markers[k].text);
    r->ctx = ctx;
    if (ctx != NULL)
        mk_context_ref(ctx);
}

static int32_t reply_params(minke_reply_params *p, const minke_reply_params *given)
{
    const int32_t rc = mk_params_read(p, sizeof(*p), given, sizeof(*p));

    if (rc < 0)
        return rc;
    if ((p->flags & ~MINKE_REPLY_STRICT) != 0 || p->thinking > MINKE_THINKING_OFF)
        return mk_fail(MINKE_EVERSION, "flags 0x%x or thinking %u unknown", p->flags, p->thinking);
    return MINKE_OK;
}

int32_t minke_reply_open(minke_reply **out, minke_context *ctx, const minke_reply_params *params)
{
    const struct mk_allocator a = ctx != NULL ? ctx->env.alloc : (struct mk_allocator){0};
    const struct mk_tokenizer *tok = NULL;
    const struct mk_encoding *e;
    struct minke_reply *r;
    minke_reply_params p;
    int32_t rc;

    if (out == NULL)
        return mk_fail(MINKE_EINVAL, "out is NULL");
    if (ctx != NULL && (rc = mk_context_check(ctx)) < 0)
        return rc;
    if ((rc = reply_params(&p, params)) < 0
        || (rc = mk_encoding_choose(&e, ctx, p.encoding)) < 0)
        return rc;
    if (ctx != NULL && (tok = mk_context_tokenizer(ctx)) == NULL)
        return MINKE_EUNSUPPORTED;
    if ((r = mk_alloc(&a, 1, sizeof(*r))) == NULL)
        return MINKE_ENOMEM;
    r->a = a;
    r->tok = tok;
    r->encoding = e;
    reply_init(r, ctx, &p);
    *out = r;
    return MINKE_OK;
}

void minke_reply_free(minke_reply *r)
{
    struct mk_allocator a;
    minke_context *ctx;
    struct mk_text *t;

    if (r == NULL || r->busy)
        return;
    for (size_t k = 0; (t = reply_text(r, k)) != NULL; k++)
        mk_text_free(t);
    a = r->a;
    ctx = r->ctx;
    mk_free(&a, r);
    if (ctx != NULL)
        mk_context_unref(ctx);
}
