/* Long conversations with tools: what leaves when the window fills.
 * Reference: DeepSeek-V3.2 technical report, section 4.4 (Summary, Discard-75%, Discard-all).
 * An item there is taken to be an assistant message that calls tools with the results behind
 * it; its reasoning goes with it. */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/params.h"

/* One message: which item it belongs to, counted from 1, or 0. */
struct trim_message {
    const struct mk_json *json;
    size_t item;
};

static int trim_has_role(const struct mk_json *message, const char *role)
{
    const struct mk_json *v = mk_json_get(message, "role");

    return v != NULL && v->type == MK_JSON_STRING && mk_json_is(v, role);
}

/* Messages with their items; returns how many items there are. */
static size_t trim_items(struct trim_message *messages, const struct mk_json *json)
{
    size_t n_items = 0, i = 0;
    int open = 0;

    for (const struct mk_json *v = json->first; v != NULL; v = v->next, i++) {
        const struct mk_json *calls = mk_json_get(v, "tool_calls");
        const int tool = trim_has_role(v, "tool");

        messages[i].json = v;
        if (trim_has_role(v, "assistant") && calls != NULL && calls->type == MK_JSON_ARRAY
            && calls->n_items > 0) {
            messages[i].item = ++n_items;
            open = 1;
        } else if (tool && open) {
            messages[i].item = n_items;
        } else {
            open = 0;
        }
    }
    return n_items;
}

/* Tokens of the messages that stay when items [1, n_gone] go. */
static double trim_tokens(const struct trim_message *messages, const uint32_t *counts, size_t n,
                          size_t n_gone)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        if (messages[i].item == 0 || messages[i].item > n_gone)
            sum += counts[i];
    return sum;
}

static void trim_write(struct mk_text *out, const struct trim_message *messages, size_t n,
                       size_t n_gone)
{
    int first = 1;

    mk_text_adds(out, "[");
    for (size_t i = 0; i < n; i++) {
        if (messages[i].item != 0 && messages[i].item <= n_gone)
            continue;
        if (!first)
            mk_text_adds(out, ", ");
        mk_text_add_json(out, messages[i].json);
        first = 0;
    }
    mk_text_adds(out, "]");
}

/* How many of the oldest items go, and what that comes to. */
static size_t trim_decide(const minke_trim_params *p, const struct trim_message *messages,
                          size_t n, size_t n_items, int32_t *action)
{
    const double threshold = p->threshold > 0 ? (double)p->threshold : 0.8;
    const double limit = threshold * p->window;
    size_t n_gone = 0;

    *action = MINKE_TRIM_KEPT;
    if (trim_tokens(messages, p->counts, n, 0) <= limit)
        return 0;
    *action = MINKE_TRIM_SUMMARIZE;
    if (p->strategy == MINKE_TRIM_SUMMARY)
        return 0;
    /* Three quarters of what is left, rounded up, until it fits. */
    do {
        const size_t left = n_items - n_gone;

        n_gone += p->strategy == MINKE_TRIM_ALL ? left : left - left / 4;
    } while (n_gone < n_items && trim_tokens(messages, p->counts, n, n_gone) > limit);
    *action = trim_tokens(messages, p->counts, n, n_gone) > limit ? MINKE_TRIM_OVER
                                                                 : MINKE_TRIM_TRIMMED;
    return n_gone;
}

static int32_t trim_run(struct mk_arena *arena, struct mk_text *out, const char *text, size_t len,
                        const minke_trim_params *p, int32_t *action)
{
    struct trim_message *messages;
    const struct mk_json *json;
    size_t n_gone, n_items;
    int32_t rc = mk_json_parse(&json, arena, text, len, "messages");

    if (rc < 0)
        return rc;
    if (json->type != MK_JSON_ARRAY)
        return mk_fail(MINKE_EINVAL, "messages: an array expected");
    if (json->n_items != p->n_counts)
        return mk_fail(MINKE_EINVAL, "%zu counts for %zu messages", p->n_counts, json->n_items);
    messages = mk_arena_alloc(arena, json->n_items, sizeof(*messages));
    if (messages == NULL)
        return MINKE_ENOMEM;
    n_items = trim_items(messages, json);
    n_gone = trim_decide(p, messages, json->n_items, n_items, action);
    trim_write(out, messages, json->n_items, n_gone);
    return out->failed ? mk_fail_memory(out->len, "messages") : MINKE_OK;
}

void minke_trim_params_init(minke_trim_params *params, size_t size)
{
    mk_params_init(params, size);
}

int32_t minke_chat_trim(const char *messages, size_t messages_len, const minke_trim_params *params,
                        char *text, size_t capacity, size_t *n_out, int32_t *action)
{
    struct mk_allocator a = {0};
    struct mk_arena arena;
    struct mk_text out;
    minke_trim_params p;
    int32_t rc, what = MINKE_TRIM_KEPT;

    if (messages == NULL || params == NULL || n_out == NULL || action == NULL
        || (text == NULL && capacity > 0))
        return mk_fail(MINKE_EINVAL, "messages, params, text, n_out or action is NULL");
    if ((rc = mk_params_read(&p, sizeof(p), params, sizeof(p))) < 0)
        return rc;
    if (p.strategy < MINKE_TRIM_ALL || p.strategy > MINKE_TRIM_SUMMARY)
        return mk_fail(MINKE_EVERSION, "strategy %u: this build knows 1 to 3", p.strategy);
    if (p.window == 0 || !(p.threshold >= 0 && p.threshold <= 1))
        return mk_fail(MINKE_EINVAL, "window %u, threshold %g: out of range", p.window,
                       (double)p.threshold);
    if (p.counts == NULL && p.n_counts > 0)
        return mk_fail(MINKE_EINVAL, "counts is NULL");
    mk_arena_init(&arena, &a);
    mk_text_init(&out, &a);
    rc = trim_run(&arena, &out, messages, messages_len, &p, &what);
    if (rc == MINKE_OK) {
        *n_out = out.len;
        if (out.len > capacity) {
            rc = mk_fail(MINKE_ENOSPC, "%zu bytes, room for %zu", out.len, capacity);
        } else {
            memcpy(text, out.data, out.len);
            *action = what;
        }
    }
    mk_text_free(&out);
    mk_arena_free(&arena);
    return rc;
}
