/* Replies, piece by piece: a state that knows its markers, and text between them that is
 * passed on as soon as it cannot be the beginning of one. */
#include "chat/reply.h"

#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/params.h"
#include "base/utf8.h"
#include "model/handle.h"

enum reply_state {
    REPLY_REASONING, REPLY_CONTENT,
    REPLY_CALLS,        /* between calls */
    REPLY_HEAD,         /* from the beginning of a call to its name's end */
    REPLY_NAME,         /* V3: between separator and fence */
    REPLY_PARAMETER,    /* V3.2: a parameter's name and kind */
    REPLY_VALUE,        /* V3.2: its value; others: all arguments */
    REPLY_GAP,          /* V3.2: behind a parameter */
    REPLY_AFTER,        /* behind the calls */
    REPLY_DONE
};

/* Markers that are tokens of their own come first. */
enum reply_marker {
    RM_EOS, RM_BOS, RM_THINK, RM_THINK_END, RM_CALLS, RM_CALLS_END, RM_CALL, RM_CALL_END, RM_SEP,
    RM_N_TOKENS,
    RM_DSML_CALLS = RM_N_TOKENS, RM_DSML_CALLS_BARE, RM_DSML_CALLS_END, RM_INVOKE, RM_INVOKE_END,
    RM_PARAM, RM_PARAM_END, RM_PARAM_BROKEN, RM_STRING, RM_OTHER, RM_DSML, RM_FENCE,
    RM_FENCE_END, RM_N
};

static const char *const reply_markers[RM_N] = {
    MK_CHAT_EOS, MK_CHAT_BOS, MK_CHAT_THINK, MK_CHAT_THINK_END, MK_CHAT_CALLS, MK_CHAT_CALLS_END,
    MK_CHAT_CALL, MK_CHAT_CALL_END, MK_CHAT_SEP,
    "\n\n<" MK_CHAT_DSML "function_calls", "<" MK_CHAT_DSML "function_calls",
    "</" MK_CHAT_DSML "function_calls>", "<" MK_CHAT_DSML "invoke", "</" MK_CHAT_DSML "invoke",
    "<" MK_CHAT_DSML "parameter", "</" MK_CHAT_DSML "parameter", "/" MK_CHAT_DSML "parameter",
    "\" string=\"true\">", "\" string=\"false\">", MK_CHAT_DSML, "\n```json\n",
    ("\n```" MK_CHAT_CALL_END)
};

/* Where bytes came from: unknown, a token that is no marker, a token that is one. */
#define REPLY_TEXT  0
#define REPLY_PLAIN 1
#define REPLY_TOKEN 2

struct minke_reply {
    minke_context *ctx;
    const struct mk_tokenizer *tok;
    struct mk_allocator a;
    minke_reply_fn on_event;
    void *user;
    int kind, thinking, strict;
    int32_t ids[RM_N_TOKENS];        /* of the markers, or -1 */
    enum reply_state state;
    int busy, stopped, begun, finished;
    int surplus;                     /* text behind the end was told */
    char partial[4];                 /* a character that has begun */
    size_t n_partial;
    struct mk_text raw;              /* everything, for the strict parser */
    struct mk_text pending, origin;  /* undecided bytes, and where each came from */
    struct mk_text held;             /* the inside of what is no text: headers, gaps */
    struct mk_text reasoning, content, calls, malformed;
    struct mk_text name, arguments, valid;   /* of the call that is open */
    size_t value;                    /* where the value begins in arguments */
    size_t valid_value;              /* and in valid */
    int call_open, call_bad, string;
    uint32_t n_calls, n_params;
    struct mk_text strict_message;
    struct mk_reply_stops stops;     /* borrowed */
    struct mk_text tail;             /* content that may be the beginning of one */
    int32_t stop;                    /* the one that was read, or -1 */
};

/* ---- Events ---- */

static void reply_flush(struct minke_reply *r);

static void reply_event(struct minke_reply *r, int32_t event, const char *text, size_t n)
{
    if (event != MINKE_REPLY_CONTENT)
        reply_flush(r);
    if (r->on_event == NULL || r->stopped || (r->stop >= 0 && event != MINKE_REPLY_FINISHED
                                              && event != MINKE_REPLY_CONTENT))
        return;
    r->busy = 1;
    r->stopped = r->on_event(r->user, event, r->n_calls, text != NULL ? text : "", n) != 0;
    r->busy = 0;
}

static void reply_malformed(struct minke_reply *r, const char *why)
{
    if (r->malformed.len > 0)
        mk_text_adds(&r->malformed, ", ");
    mk_text_add_quoted(&r->malformed, why, strlen(why));
    reply_event(r, MINKE_REPLY_MALFORMED, why, strlen(why));
}

static void reply_give(struct minke_reply *r, const char *text, size_t n)
{
    if (n == 0)
        return;
    mk_text_add(&r->content, text, n);
    reply_event(r, MINKE_REPLY_CONTENT, text, n);
}

/* What was held back for a stop text is none. */
static void reply_flush(struct minke_reply *r)
{
    const size_t n = r->tail.len;

    r->tail.len = 0;
    reply_give(r, r->tail.data, n);
}

/* The longest stop text that the first end bytes of the tail end in, or -1. */
static int32_t reply_stop_at(const struct minke_reply *r, size_t end)
{
    int32_t best = -1;

    for (size_t k = 0; k < r->stops.n; k++) {
        const size_t n = r->stops.len[k];

        if (n <= end && memcmp(r->tail.data + end - n, r->stops.text[k], n) == 0
            && (best < 0 || n > r->stops.len[best]))
            best = (int32_t)k;
    }
    return best;
}

/* Bytes at the tail's end that may be the beginning of a stop text. */
static size_t reply_stop_begun(const struct minke_reply *r)
{
    size_t most = 0;

    for (size_t k = 0; k < r->stops.n; k++)
        for (size_t n = most + 1; n < r->stops.len[k] && n <= r->tail.len; n++)
            if (memcmp(r->tail.data + r->tail.len - n, r->stops.text[k], n) == 0)
                most = n;
    return most;
}

/* Content up to the stop text that is complete first. */
static void reply_until_stop(struct minke_reply *r, const char *text, size_t n)
{
    const size_t before = r->tail.len;
    size_t len;

    mk_text_add(&r->tail, text, n);
    if (r->tail.failed)
        return;
    for (size_t end = before + 1; end <= r->tail.len && r->stop < 0; end++) {
        r->stop = reply_stop_at(r, end);
        if (r->stop >= 0)
            r->tail.len = end - r->stops.len[r->stop];
    }
    len = r->tail.len - (r->stop < 0 ? reply_stop_begun(r) : 0);
    reply_give(r, r->tail.data, len);
    memmove(r->tail.data, r->tail.data + len, r->tail.len - len);
    r->tail.len -= len;
}

static void reply_content(struct minke_reply *r, const char *text, size_t n)
{
    /* V2 answers begin with the blank that the prompt leaves out. */
    if (r->kind == MK_CHAT_V2 && !r->begun && n > 0 && text[0] == ' ') {
        r->begun = 1;
        text++, n--;
    }
    if (n == 0 || r->stop >= 0)
        return;
    r->begun = 1;
    if (r->stops.n > 0)
        reply_until_stop(r, text, n);
    else
        reply_give(r, text, n);
}

static void reply_reasoning(struct minke_reply *r, const char *text, size_t n)
{
    if (n == 0)
        return;
    r->begun = 1;
    mk_text_add(&r->reasoning, text, n);
    reply_event(r, MINKE_REPLY_REASONING, text, n);
}

/* A piece of arguments, as written and as it is when all is well. */
static void reply_arguments(struct minke_reply *r, const char *text, size_t n)
{
    if (n == 0)
        return;
    mk_text_add(&r->arguments, text, n);
    mk_text_add(&r->valid, text, n);
    reply_event(r, MINKE_REPLY_ARGUMENTS, text, n);
}

static void reply_clear(struct mk_text *t)
{
    t->len = 0;
}

/* ---- Calls ---- */

static int reply_is_json(struct minke_reply *r, const char *text, size_t n)
{
    const struct mk_json *v;
    struct mk_arena arena;
    int32_t rc;

    mk_arena_init(&arena, &r->a);
    rc = mk_json_parse(&v, &arena, text != NULL ? text : "", n, "arguments");
    mk_arena_free(&arena);
    return rc == MINKE_OK;
}

static void reply_call_begin(struct minke_reply *r, const char *name, size_t n)
{
    reply_clear(&r->name);
    mk_text_add(&r->name, name, n);
    reply_clear(&r->arguments);
    reply_clear(&r->valid);
    r->call_open = 1;
    r->call_bad = 0;
    r->n_params = 0;
    reply_event(r, MINKE_REPLY_CALL, r->name.data, r->name.len);
    if (r->kind >= MK_CHAT_V32)
        reply_arguments(r, "{", 1);
}

static void reply_call_end(struct minke_reply *r)
{
    struct mk_text call;

    if (!r->call_open)
        return;
    if (r->kind >= MK_CHAT_V32)
        reply_arguments(r, "}", 1);
    if (!reply_is_json(r, r->valid.data, r->valid.len)) {
        if (!r->call_bad)
            reply_malformed(r, "arguments are not JSON");
        reply_clear(&r->valid);
        mk_text_add_quoted(&r->valid, r->arguments.data, r->arguments.len);
    }
    mk_text_init(&call, &r->a);
    mk_text_adds(&call, "{\"type\": \"function\", \"function\": {\"name\": ");
    mk_text_add_quoted(&call, r->name.data, r->name.len);
    mk_text_adds(&call, ", \"arguments\": ");
    mk_text_add_quoted(&call, r->valid.data, r->valid.len);
    mk_text_adds(&call, "}}");
    if (r->n_calls > 0)
        mk_text_adds(&r->calls, ", ");
    mk_text_add(&r->calls, call.data, call.len);
    r->calls.failed |= call.failed;
    reply_event(r, MINKE_REPLY_CALL_END, call.data, call.len);
    mk_text_free(&call);
    r->call_open = 0;
    r->n_calls++;
}

/* The held text was expected to be just this; anything else is told, and kept as content. */
static void reply_expect(struct minke_reply *r, const char *text, const char *why)
{
    const size_t n = strlen(text);

    if (r->held.len != n || memcmp(r->held.data != NULL ? r->held.data : "", text, n) != 0) {
        reply_malformed(r, why);
        if (r->held.len >= n && n > 0 && memcmp(r->held.data, text, n) == 0)
            reply_content(r, r->held.data + n, r->held.len - n);
        else
            reply_content(r, r->held.data, r->held.len);
    }
    reply_clear(&r->held);
}

/* name="NAME"> behind <DSML invoke, and an empty line where no parameter follows. */
static void reply_invoke_name(struct minke_reply *r)
{
    const char *begin = " name=\"", *end = "\">\n";
    size_t n = r->held.len;

    if (n >= 2 && memcmp(r->held.data + n - 2, "\n\n", 2) == 0)
        n--;
    if (n >= 10 && memcmp(r->held.data, begin, 7) == 0
        && memcmp(r->held.data + n - 3, end, 3) == 0) {
        reply_call_begin(r, r->held.data + 7, n - 10);
    } else {
        reply_malformed(r, "Tool name format error");
        if (n > 7 && memcmp(r->held.data, begin, 7) == 0) {
            size_t m = 7;

            while (m < n && r->held.data[m] != '"' && r->held.data[m] != '\n')
                m++;
            /* What follows the name belongs nowhere, and is not lost. */
            reply_content(r, r->held.data + m, n - m);
            reply_call_begin(r, r->held.data + 7, m - 7);
        } else {
            reply_call_begin(r, r->held.data, n);
        }
    }
    reply_clear(&r->held);
}

/* A parameter's value begins: its key goes out. */
static void reply_value_begin(struct minke_reply *r, const char *key, size_t n, int string)
{
    struct mk_text head;

    mk_text_init(&head, &r->a);
    if (r->n_params++ > 0)
        mk_text_adds(&head, ", ");
    mk_text_add_quoted(&head, key, n);
    mk_text_adds(&head, string ? ": \"" : ": ");
    r->arguments.failed |= head.failed;
    reply_arguments(r, head.data, head.len);
    mk_text_free(&head);
    r->string = string;
    r->value = r->arguments.len;
    r->valid_value = r->valid.len;
    r->state = REPLY_VALUE;
}

static void reply_param_head(struct minke_reply *r, int string)
{
    const size_t skip = r->held.len >= 7 && memcmp(r->held.data, " name=\"", 7) == 0 ? 7 : 0;

    if (skip == 0)
        reply_malformed(r, "Parameter format error");
    reply_value_begin(r, r->held.data != NULL ? r->held.data + skip : "", r->held.len - skip,
                      string);
    reply_clear(&r->held);
}

static void reply_value_text(struct minke_reply *r, const char *text, size_t n)
{
    struct mk_text quoted;

    if (r->kind < MK_CHAT_V32 || !r->string) {
        reply_arguments(r, text, n);
        return;
    }
    mk_text_init(&quoted, &r->a);
    mk_text_add_quoted(&quoted, text, n);
    r->arguments.failed |= quoted.failed;
    if (quoted.len > 2)
        reply_arguments(r, quoted.data + 1, quoted.len - 2);
    mk_text_free(&quoted);
}

static void reply_value_end(struct minke_reply *r)
{
    if (r->kind >= MK_CHAT_V32 && r->string) {
        reply_arguments(r, "\"", 1);
    } else if (r->kind >= MK_CHAT_V32
               && !reply_is_json(r, r->arguments.data + r->value, r->arguments.len - r->value)) {
        reply_malformed(r, "a parameter is not JSON");
        r->call_bad = 1;
        r->valid.len = r->valid_value;
        mk_text_add_quoted(&r->valid, r->arguments.data + r->value, r->arguments.len - r->value);
    }
    r->state = REPLY_GAP;
}

/* Length of what begins as  string="word">, 0 where it is something else. */
static size_t reply_kind_length(const char *text, size_t n)
{
    static const char begin[] = "\" string=\"";
    size_t at = sizeof(begin) - 1;

    if (n < at || memcmp(text, begin, at) != 0)
        return 0;
    while (at < n && text[at] >= 'a' && text[at] <= 'z')
        at++;
    return at + 1 < n && text[at] == '"' && text[at + 1] == '>' ? at + 2 : 0;
}

/* A parameter whose kind is none of the two: its value is taken as text, and so is all that
 * stands where the kind should. */
static void reply_param_broken(struct minke_reply *r)
{
    const size_t skip = r->held.len >= 7 && memcmp(r->held.data, " name=\"", 7) == 0 ? 7 : 0;
    const char *text = r->held.data != NULL ? r->held.data : "";
    size_t key = skip, value;

    reply_malformed(r, "Parameter format error");
    while (key < r->held.len && text[key] != '"' && text[key] != '>')
        key++;
    value = key + reply_kind_length(text + key, r->held.len - key);
    if (value == key && value < r->held.len)
        value++;
    reply_value_begin(r, text + skip, key - skip, 1);
    if (r->held.len > value)
        reply_value_text(r, text + value,
                         r->held.len - value - (text[r->held.len - 1] == '<'));
    reply_clear(&r->held);
    reply_value_end(r);
}

/* ---- Markers ---- */

#define RM(m) (1u << (m))

/* Markers that mean something in this state. */
static uint32_t reply_set(const struct minke_reply *r)
{
    const int v32 = r->kind >= MK_CHAT_V32, v31 = r->kind >= MK_CHAT_V31;
    const uint32_t open = v32 ? RM(RM_DSML_CALLS) | RM(RM_DSML_CALLS_BARE) : RM(RM_CALLS);
    const uint32_t stray = v31 || r->thinking ? RM(RM_THINK) | RM(RM_THINK_END) | RM(RM_BOS) : 0;

    if (r->kind == MK_CHAT_V2)
        return RM(RM_EOS);
    switch (r->state) {
    case REPLY_REASONING:
        return RM(RM_EOS) | open | RM(RM_THINK) | RM(RM_THINK_END);
    case REPLY_CONTENT:
        return RM(RM_EOS) | open | stray | (v32 ? RM(RM_DSML) : 0);
    case REPLY_CALLS:
        return v32 ? RM(RM_INVOKE) | RM(RM_DSML_CALLS_END) | RM(RM_EOS)
                   : RM(RM_CALL) | RM(RM_CALLS_END) | RM(RM_EOS);
    case REPLY_HEAD:
        return v32 ? RM(RM_PARAM) | RM(RM_INVOKE_END) | RM(RM_EOS)
                   : RM(RM_SEP) | RM(RM_CALL_END) | RM(RM_EOS);
    case REPLY_NAME:
        return RM(RM_FENCE) | RM(RM_CALL_END) | RM(RM_EOS);
    case REPLY_PARAMETER:
        return RM(RM_STRING) | RM(RM_OTHER) | RM(RM_PARAM_BROKEN) | RM(RM_EOS);
    case REPLY_VALUE:
        return v32 ? RM(RM_PARAM_END) | RM(RM_EOS)
                   : (v31 ? 0 : RM(RM_FENCE_END)) | RM(RM_CALL_END) | RM(RM_EOS);
    case REPLY_GAP:
        return RM(RM_PARAM) | RM(RM_INVOKE_END) | RM(RM_EOS);
    default:
        return RM(RM_EOS);
    }
}

/* What stands between markers. */
static void reply_take(struct minke_reply *r, const char *text, size_t n)
{
    if (n == 0)
        return;
    switch (r->state) {
    case REPLY_REASONING:
        reply_reasoning(r, text, n);
        break;
    case REPLY_VALUE:
        reply_value_text(r, text, n);
        break;
    case REPLY_CONTENT:
        reply_content(r, text, n);
        break;
    case REPLY_AFTER:
    case REPLY_DONE:
        if (!r->surplus)
            reply_malformed(r, r->state == REPLY_AFTER ? "Unexpected content after tool calls"
                                                       : "Unexpected content at end");
        r->surplus = 1;
        reply_content(r, text, n);
        break;
    default:
        mk_text_add(&r->held, text, n);
    }
}

/* Close whatever is open when the reply ends inside of it. */
static void reply_abandon(struct minke_reply *r)
{
    switch (r->state) {
    case REPLY_REASONING:
    case REPLY_CONTENT:
    case REPLY_AFTER:
    case REPLY_DONE:
        return;
    case REPLY_CALLS:
        reply_malformed(r, "Missing special token");
        if (r->held.len > 2
            || (r->held.len > 0 && memcmp(r->held.data, ">\n", r->held.len) != 0))
            reply_content(r, r->held.data, r->held.len);
        break;
    case REPLY_VALUE:
        reply_malformed(r, "a tool call has no end");
        if (r->kind >= MK_CHAT_V32)
            reply_value_end(r);
        break;
    default:
        reply_malformed(r, "a tool call has no end");
        reply_content(r, r->held.data, r->held.len);
    }
    reply_clear(&r->held);
    reply_call_end(r);
    r->state = REPLY_AFTER;
}

/* </think> and <think>: the border of the reasoning, or a stray. */
static void reply_think(struct minke_reply *r, enum reply_marker m)
{
    const char *text = reply_markers[m];

    if (m == RM_THINK_END && r->state == REPLY_REASONING) {
        r->state = REPLY_CONTENT;
        r->begun = 1;
    } else if (m == RM_THINK && !r->begun
               && (r->kind == MK_CHAT_R1_DOCS || r->kind == MK_CHAT_R1_0528
                   || (r->kind == MK_CHAT_R1_HF && r->state == REPLY_CONTENT))) {
        r->state = REPLY_REASONING;
        r->begun = 1;
    } else {
        reply_malformed(r, "Unexpected special token in content");
        reply_take(r, text, strlen(text));
    }
}

static void reply_open_calls(struct minke_reply *r, enum reply_marker m)
{
    if (r->state == REPLY_REASONING)
        reply_malformed(r, "Invalid thinking format");
    if (m == RM_DSML_CALLS_BARE)
        reply_malformed(r, "Tool calls without a blank line");
    r->state = REPLY_CALLS;
}

/* Markers of V3.2's calls. */
static void reply_dsml(struct minke_reply *r, enum reply_marker m)
{
    switch (m) {
    case RM_INVOKE:
        reply_expect(r, ">\n", "Tool call format error");
        r->state = REPLY_HEAD;
        break;
    case RM_DSML_CALLS_END:
        reply_expect(r, ">\n", "Tool call format error");
        r->state = REPLY_AFTER;
        break;
    case RM_PARAM:
        if (r->state == REPLY_HEAD)
            reply_invoke_name(r);
        else
            reply_expect(r, ">\n", "Parameter format error");
        r->state = REPLY_PARAMETER;
        break;
    case RM_INVOKE_END:
        if (r->state == REPLY_HEAD)
            reply_invoke_name(r);
        else
            reply_expect(r, ">\n", "Parameter format error");
        reply_call_end(r);
        r->state = REPLY_CALLS;
        break;
    case RM_PARAM_END:
        reply_value_end(r);
        break;
    case RM_PARAM_BROKEN:
        reply_param_broken(r);
        break;
    default:
        reply_param_head(r, m == RM_STRING);
    }
}

/* Markers of the earlier calls. */
static void reply_v3(struct minke_reply *r, enum reply_marker m)
{
    switch (m) {
    case RM_CALL:
    case RM_CALLS_END:
        if (r->held.len > 0 && !(r->held.len == 1 && r->held.data[0] == '\n'))
            reply_expect(r, "", "Tool call format error");
        reply_clear(&r->held);
        r->state = m == RM_CALL ? REPLY_HEAD : REPLY_AFTER;
        break;
    case RM_SEP:
        if (r->kind >= MK_CHAT_V31) {
            reply_call_begin(r, r->held.data, r->held.len);
            r->state = REPLY_VALUE;
        } else {
            if (r->held.len != 8 || memcmp(r->held.data, "function", 8) != 0)
                reply_malformed(r, "a tool call of another type than function");
            r->state = REPLY_NAME;
        }
        reply_clear(&r->held);
        break;
    case RM_FENCE:
        reply_call_begin(r, r->held.data, r->held.len);
        reply_clear(&r->held);
        r->state = REPLY_VALUE;
        break;
    default:
        if (r->state == REPLY_VALUE) {
            if (m == RM_CALL_END && r->kind < MK_CHAT_V31)
                reply_malformed(r, "the fence around arguments has no end");
        } else {
            const char *text = r->held.data != NULL ? r->held.data : "";
            size_t n = 0;

            reply_malformed(r, "Tool call format error");
            while (n < r->held.len && text[n] != '\n')
                n++;
            reply_call_begin(r, text, n);
            if (n < r->held.len)
                reply_arguments(r, text + n + 1, r->held.len - n - 1);
            reply_clear(&r->held);
        }
        reply_call_end(r);
        r->state = REPLY_CALLS;
    }
}

static void reply_marker(struct minke_reply *r, enum reply_marker m)
{
    switch (m) {
    case RM_EOS:
        if (r->state == REPLY_DONE) {
            reply_take(r, MK_CHAT_EOS, strlen(MK_CHAT_EOS));
            break;
        }
        if (r->state == REPLY_REASONING)
            reply_malformed(r, "Invalid thinking format");
        reply_abandon(r);
        r->state = REPLY_DONE;
        break;
    case RM_THINK:
    case RM_THINK_END:
        reply_think(r, m);
        break;
    case RM_BOS:
    case RM_DSML:
        reply_malformed(r, "Unexpected special token in content");
        reply_take(r, reply_markers[m], strlen(reply_markers[m]));
        break;
    case RM_CALLS:
    case RM_DSML_CALLS:
    case RM_DSML_CALLS_BARE:
        reply_open_calls(r, m);
        break;
    default:
        if (r->kind >= MK_CHAT_V32)
            reply_dsml(r, m);
        else
            reply_v3(r, m);
    }
}

/* Whether marker m may be what begins at i: 1 = it is, -1 = it may become it, 0 = no. */
static int reply_fits(const struct minke_reply *r, enum reply_marker m, size_t i)
{
    const char *text = reply_markers[m];
    const size_t n = strlen(text), have = r->pending.len - i;
    const char origin = r->origin.data[i];

    if (memcmp(r->pending.data + i, text, have < n ? have : n) != 0)
        return 0;
    if (m < RM_N_TOKENS && r->ids[m] >= 0 && origin == REPLY_PLAIN)
        return 0;
    /* In a value this may be a text that speaks of the marker. */
    if (m == RM_EOS && r->state == REPLY_VALUE && origin != REPLY_TOKEN)
        return 0;
    return have >= n ? 1 : -1;
}

/* First place at or behind from where a marker stands (*m) or may be about to (*m = RM_N). */
static size_t reply_find(const struct minke_reply *r, size_t from, int last,
                         enum reply_marker *m)
{
    const uint32_t set = reply_set(r);

    *m = RM_N;
    for (size_t i = from; i < r->pending.len; i++) {
        for (int k = 0; k < RM_N; k++) {
            int fits;

            if ((set & RM(k)) == 0 || r->pending.data[i] != reply_markers[k][0])
                continue;
            fits = reply_fits(r, (enum reply_marker)k, i);
            if (fits > 0)
                *m = (enum reply_marker)k;
            if (fits > 0 || (fits < 0 && !last))
                return i;
        }
    }
    return r->pending.len;
}

/* Work off what is decided; last: nothing will follow. */
static void reply_run(struct minke_reply *r, int last)
{
    size_t at = 0;

    while (at < r->pending.len && r->stop < 0) {
        enum reply_marker m;
        const size_t end = reply_find(r, at, last, &m);

        reply_take(r, r->pending.data + at, end - at);
        at = end;
        if (m == RM_N)
            break;
        at += strlen(reply_markers[m]);
        reply_marker(r, m);
    }
    if (r->stop >= 0)
        at = r->pending.len;   /* nothing counts behind a stop */
    if (at > 0) {
        memmove(r->pending.data, r->pending.data + at, r->pending.len - at);
        memmove(r->origin.data, r->origin.data + at, r->pending.len - at);
        r->pending.len -= at;
        r->origin.len = r->pending.len;
    }
}

/* ---- Bytes in ---- */

static void reply_add(struct minke_reply *r, const char *text, size_t n, char origin)
{
    mk_text_add(&r->pending, text, n);
    mk_text_add(&r->origin, text, n);
    if (!r->origin.failed && n > 0)
        memset(r->origin.data + r->origin.len - n, origin, n);
    if (r->strict)
        mk_text_add(&r->raw, text, n);
}

/* The characters that partial holds in full; last: also what is incomplete. */
static void reply_settle(struct minke_reply *r, char origin, int last)
{
    while (r->n_partial > 0) {
        enum mk_utf8_state state;
        const size_t n = mk_utf8_unit(r->partial, r->n_partial, &state);

        if (state == MK_UTF8_INCOMPLETE && !last)
            return;
        if (state == MK_UTF8_VALID)
            reply_add(r, r->partial, n, origin);
        else
            reply_add(r, "\357\277\275", 3, origin);
        r->n_partial -= n;
        memmove(r->partial, r->partial + n, r->n_partial);
    }
}

static int32_t reply_status(struct minke_reply *r)
{
    const int stopped = r->stopped;

    r->stopped = 0;
    if (r->pending.failed || r->origin.failed || r->raw.failed || r->held.failed
        || r->reasoning.failed || r->content.failed || r->calls.failed || r->malformed.failed
        || r->name.failed || r->arguments.failed || r->valid.failed || r->tail.failed)
        return mk_fail_memory(r->pending.len, "a reply");
    return stopped ? mk_fail(MINKE_ECANCELED, "stopped by on_event") : MINKE_OK;
}

static int32_t reply_feed(struct minke_reply *r, const char *text, size_t n, char origin)
{
    for (size_t i = 0; i < n;) {
        const size_t valid = r->n_partial == 0 ? mk_utf8_valid(text + i, n - i) : 0;

        reply_add(r, text + i, valid, origin);
        i += valid;
        if (i < n) {
            r->partial[r->n_partial++] = text[i++];
            reply_settle(r, origin, 0);
        }
    }
    if (!r->pending.failed && !r->origin.failed)
        reply_run(r, 0);
    return reply_status(r);
}

static int32_t reply_check(const struct minke_reply *r)
{
    int32_t rc;

    if (r == NULL)
        return mk_fail(MINKE_EINVAL, "reply is NULL");
    if (r->ctx != NULL && (rc = mk_context_check(r->ctx)) < 0)
        return rc;
    if (r->busy)
        return mk_fail(MINKE_EBUSY, "the reply is in use by its callback");
    return MINKE_OK;
}

int32_t minke_reply_text(minke_reply *r, const char *text, size_t len)
{
    int32_t rc = reply_check(r);

    if (rc < 0)
        return rc;
    if (r->finished)
        return mk_fail(MINKE_EINVAL, "the reply is finished");
    if (text == NULL && len > 0)
        return mk_fail(MINKE_EINVAL, "text is NULL");
    return reply_feed(r, text, len, REPLY_TEXT);
}

int32_t minke_reply_token(minke_reply *r, int32_t token)
{
    const char *bytes;
    size_t len;
    int32_t rc = reply_check(r);

    if (rc < 0)
        return rc;
    if (r->finished)
        return mk_fail(MINKE_EINVAL, "the reply is finished");
    if (r->tok == NULL)
        return mk_fail(MINKE_EINVAL, "the reply was opened without a context");
    if ((rc = minke_token_bytes(r->ctx, token, &bytes, &len)) < 0)
        return rc;
    for (int m = 0; m < RM_N_TOKENS; m++)
        if (token == r->ids[m])
            return reply_feed(r, reply_markers[m], strlen(reply_markers[m]), REPLY_TOKEN);
    return reply_feed(r, bytes, len, REPLY_PLAIN);
}

/* ---- The end ---- */

/* DeepSeek's parser has the last word. */
static int32_t reply_strict(struct minke_reply *r)
{
    if (r->kind >= MK_CHAT_V32) {
        return mk_reply_parse_v32(&r->strict_message, &r->a,
                                  r->raw.data != NULL ? r->raw.data : "", r->raw.len,
                                  r->thinking);
    }
    if (r->malformed.len > 0)
        return mk_fail(MINKE_EFORMAT, "malformed reply: %s", r->malformed.data);
    return MINKE_OK;
}

int32_t minke_reply_finish(minke_reply *r, const char *reason)
{
    int32_t rc = reply_check(r);

    if (rc < 0)
        return rc;
    if (r->finished)
        return mk_fail(MINKE_EINVAL, "the reply is finished");
    reply_settle(r, REPLY_TEXT, 1);
    if (!r->pending.failed && !r->origin.failed)
        reply_run(r, 1);
    reply_abandon(r);
    r->finished = 1;
    if (r->strict && (rc = reply_strict(r)) < 0)
        return rc;
    if (reason == NULL)
        reason = r->n_calls > 0 ? "tool_calls" : "stop";
    reply_event(r, MINKE_REPLY_FINISHED, reason, strlen(reason));
    return reply_status(r);
}

int32_t minke_reply_thinking(const minke_reply *r)
{
    return r != NULL && r->state == REPLY_REASONING;
}

int32_t minke_reply_ended(const minke_reply *r)
{
    return r != NULL && r->state == REPLY_DONE;
}

void mk_reply_write(const struct minke_reply *r, struct mk_text *t, int bare)
{
    struct mk_text content;

    mk_text_init(&content, &r->a);
    mk_text_add(&content, r->content.data, r->content.len);
    mk_text_add(&content, r->tail.data, r->tail.len);
    t->failed |= content.failed;
    mk_text_adds(t, "{\"role\": \"assistant\", \"content\": ");
    /* V3's template writes calls only where content is null. */
    if (r->kind == MK_CHAT_V3 && content.len == 0 && r->n_calls > 0)
        mk_text_adds(t, "null");
    else
        mk_text_add_quoted(t, content.data, content.len);
    mk_text_free(&content);
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
    int32_t rc = reply_check(r);

    if (rc < 0)
        return rc;
    if (n_out == NULL || (text == NULL && capacity > 0))
        return mk_fail(MINKE_EINVAL, "text or n_out is NULL");
    mk_text_init(&t, &r->a);
    if (r->strict_message.len > 0) {
        mk_text_add(&t, r->strict_message.data, r->strict_message.len);
    } else {
        mk_reply_write(r, &t, 0);
        mk_text_adds(&t, "}");
    }
    if (t.failed) {
        rc = mk_fail_memory(t.len, "a message");
    } else {
        *n_out = t.len;
        if (t.len > capacity)
            rc = mk_fail(MINKE_ENOSPC, "%zu bytes, room for %zu", t.len, capacity);
        else
            memcpy(text, t.data, t.len);
    }
    mk_text_free(&t);
    return rc;
}

/* ---- For generating ---- */

void mk_reply_plain(struct minke_reply *r)
{
    r->kind = MK_CHAT_V2;
    r->thinking = 0;
    r->begun = 1;
    r->state = REPLY_CONTENT;
}

void mk_reply_answers(struct minke_reply *r)
{
    r->state = REPLY_CONTENT;
}

void mk_reply_set_stops(struct minke_reply *r, const struct mk_reply_stops *stops)
{
    r->stops = *stops;
}

int32_t mk_reply_stop(const struct minke_reply *r)
{
    return r->stop;
}

uint32_t mk_reply_calls(const struct minke_reply *r)
{
    return r->n_calls;
}

/* ---- Opening ---- */

void minke_reply_params_init(minke_reply_params *params, size_t size)
{
    mk_params_init(params, size);
}

static void reply_init(struct minke_reply *r, minke_context *ctx, const minke_reply_params *p)
{
    struct mk_text *const texts[] = {
        &r->raw, &r->pending, &r->origin, &r->held, &r->reasoning, &r->content, &r->calls,
        &r->malformed, &r->name, &r->arguments, &r->valid, &r->strict_message, &r->tail};

    for (size_t i = 0; i < MK_COUNT(texts); i++)
        mk_text_init(texts[i], &r->a);
    r->stop = -1;
    r->on_event = p->on_event;
    r->user = p->user;
    r->strict = (p->flags & MINKE_REPLY_STRICT) != 0;
    r->thinking = mk_chat_thinks(r->kind, p->thinking);
    r->state = r->thinking ? REPLY_REASONING : REPLY_CONTENT;
    for (int m = 0; m < RM_N_TOKENS; m++)
        r->ids[m] = r->tok == NULL ? -1
            : mk_tokenizer_find(r->tok, mk_view(reply_markers[m]));
    r->ctx = ctx;
    if (ctx != NULL)
        mk_context_ref(ctx);
}

int32_t minke_reply_open(minke_reply **out, minke_context *ctx, const minke_reply_params *params)
{
    struct mk_allocator a = {0};
    const struct mk_tokenizer *tok = NULL;
    struct minke_reply *r;
    minke_reply_params p;
    int32_t rc;
    int kind;

    if (out == NULL)
        return mk_fail(MINKE_EINVAL, "out is NULL");
    if (ctx != NULL && (rc = mk_context_check(ctx)) < 0)
        return rc;
    if ((rc = mk_params_read(&p, sizeof(p), params, sizeof(p))) < 0)
        return rc;
    if ((p.flags & ~MINKE_REPLY_STRICT) != 0 || p.thinking > MINKE_THINKING_OFF
        || p.reserved0 != 0)
        return mk_fail(MINKE_EVERSION, "flags 0x%x, thinking %u or reserved0 unknown", p.flags,
                       p.thinking);
    if ((rc = mk_chat_choose(&kind, ctx, p.encoding)) < 0)
        return rc;
    if (ctx != NULL) {
        a = ctx->env.alloc;
        if ((tok = mk_context_tokenizer(ctx)) == NULL)
            return MINKE_EUNSUPPORTED;
    }
    if ((r = mk_alloc(&a, 1, sizeof(*r))) == NULL)
        return MINKE_ENOMEM;
    r->a = a;
    r->tok = tok;
    r->kind = kind;
    reply_init(r, ctx, &p);
    *out = r;
    return MINKE_OK;
}

void minke_reply_free(minke_reply *r)
{
    struct mk_allocator a;
    minke_context *ctx;

    if (r == NULL || r->busy)
        return;
    mk_text_free(&r->raw);
    mk_text_free(&r->pending);
    mk_text_free(&r->origin);
    mk_text_free(&r->held);
    mk_text_free(&r->reasoning);
    mk_text_free(&r->content);
    mk_text_free(&r->calls);
    mk_text_free(&r->malformed);
    mk_text_free(&r->name);
    mk_text_free(&r->arguments);
    mk_text_free(&r->valid);
    mk_text_free(&r->strict_message);
    mk_text_free(&r->tail);
    a = r->a;
    ctx = r->ctx;
    mk_free(&a, r);
    if (ctx != NULL)
        mk_context_unref(ctx);
}
