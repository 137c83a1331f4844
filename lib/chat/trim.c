/* Long conversations with tools: what leaves when the window fills.
 * Reference: DeepSeek-V3.2 technical report, section 4.4 (Summary, Discard-75%, Discard-all).
 * An item there is taken to be an assistant message that calls tools with the results behind
 * it; its reasoning goes with it. */
#include "base/error.h"
#include "base/json.h"
#include "base/params.h"

/* One message: which item it belongs to, counted from 1, or 0. */
struct trim_message {
    const struct mk_json *json;
    size_t item;
};

struct trim {
    struct trim_message *messages;   /* (n,) */
    size_t n, n_items;
    size_t n_gone;                   /* of the oldest items */
};

static int trim_has_role(const struct mk_json *message, const char *role)
{
    const struct mk_json *v = mk_json_get(message, "role");

    return v != NULL && v->type == MK_JSON_STRING && mk_view_is(v->text, role);
}

/* Messages with their items. */
static void trim_items(struct trim *t, const struct mk_json *json)
{
    int open = 0;

    for (const struct mk_json *v = json->first; v != NULL; v = v->next) {
        const struct mk_json *calls = mk_json_get(v, "tool_calls");
        struct trim_message *m = &t->messages[t->n++];

        m->json = v;
        if (trim_has_role(v, "assistant") && calls != NULL && calls->type == MK_JSON_ARRAY
            && calls->n_items > 0) {
            m->item = ++t->n_items;
            open = 1;
        } else if (open && trim_has_role(v, "tool")) {
            m->item = t->n_items;
        } else {
            open = 0;
        }
    }
}

static int trim_stays(const struct trim *t, size_t i)
{
    return t->messages[i].item == 0 || t->messages[i].item > t->n_gone;
}

/* Whether what stays is within the limit, in tokens. */
static int trim_fits(const struct trim *t, const uint32_t *counts, double limit)
{
    double sum = 0;

    for (size_t i = 0; i < t->n; i++)
        if (trim_stays(t, i))
            sum += counts[i];
    return sum <= limit;
}

/* How many items go, and what that comes to. */
static int32_t trim_decide(struct trim *t, const minke_chat_trim_params *p)
{
    const double limit = (p->threshold > 0 ? (double)p->threshold : 0.8) * p->window;

    if (trim_fits(t, p->counts, limit))
        return MINKE_TRIM_ACTION_KEPT;
    if (p->strategy == MINKE_TRIM_STRATEGY_SUMMARY)
        return MINKE_TRIM_ACTION_SUMMARIZE;
    /* Three quarters of what is left, rounded up, until it fits. */
    do {
        const size_t left = t->n_items - t->n_gone;

        t->n_gone += p->strategy == MINKE_TRIM_STRATEGY_ALL ? left : left - left / 4;
    } while (t->n_gone < t->n_items && !trim_fits(t, p->counts, limit));
    return trim_fits(t, p->counts, limit) ? MINKE_TRIM_ACTION_TRIMMED : MINKE_TRIM_ACTION_OVER;
}

static void trim_write(struct mk_text *out, const struct trim *t)
{
    mk_text_adds(out, "[");
    for (size_t i = 0; i < t->n; i++)
        if (trim_stays(t, i)) {
            if (out->len > 1)
                mk_text_adds(out, ", ");
            mk_text_add_json(out, t->messages[i].json);
        }
    mk_text_adds(out, "]");
}

static int32_t trim_run(struct mk_arena *arena, struct mk_text *out, struct mk_view text,
                        const minke_chat_trim_params *p, int32_t *action)
{
    const struct mk_json *json;
    struct trim t = {0};
    int32_t rc = mk_json_parse(&json, arena, text.data, text.len, "messages");

    if (rc < 0)
        return rc;
    if (json->type != MK_JSON_ARRAY)
        return mk_fail(MINKE_EINVAL, "messages: an array expected");
    if (json->n_items != p->n_counts)
        return mk_fail(MINKE_EINVAL, "%zu counts for %zu messages", p->n_counts, json->n_items);
    t.messages = mk_arena_alloc(arena, json->n_items, sizeof(*t.messages));
    if (t.messages == NULL)
        return MINKE_ENOMEM;
    trim_items(&t, json);
    *action = trim_decide(&t, p);
    trim_write(out, &t);
    return MINKE_OK;
}

void minke_chat_trim_params_init(minke_chat_trim_params *params, size_t size)
{
    mk_params_init(params, size);
}

static int32_t trim_params(minke_chat_trim_params *p, const minke_chat_trim_params *given)
{
    const int32_t rc = mk_params_read(p, sizeof(*p), given, sizeof(*p));

    if (rc < 0)
        return rc;
    if (p->strategy < MINKE_TRIM_STRATEGY_ALL || p->strategy > MINKE_TRIM_STRATEGY_SUMMARY)
        return mk_fail(MINKE_EVERSION, "strategy %u: this build knows 1 to 3", p->strategy);
    if (p->window == 0 || !(p->threshold >= 0 && p->threshold <= 1))
        return mk_fail(MINKE_EINVAL, "window %u, threshold %g: out of range", p->window,
                       (double)p->threshold);
    if (p->counts == NULL && p->n_counts > 0)
        return mk_fail(MINKE_EINVAL, "counts is NULL");
    return MINKE_OK;
}

int32_t minke_chat_trim(const char *messages, size_t messages_len,
                        const minke_chat_trim_params *params, char *text, size_t capacity,
                        size_t *n_out, int32_t *action)
{
    const struct mk_allocator a = {0};
    struct mk_arena arena;
    struct mk_text out;
    minke_chat_trim_params p;
    int32_t rc, what = MINKE_TRIM_ACTION_KEPT;

    if (messages == NULL || params == NULL || n_out == NULL || action == NULL
        || (text == NULL && capacity > 0))
        return mk_fail(MINKE_EINVAL, "messages, params, text, n_out or action is NULL");
    if ((rc = trim_params(&p, params)) < 0)
        return rc;
    mk_arena_init(&arena, &a);
    mk_text_init(&out, &a);
    rc = trim_run(&arena, &out, (struct mk_view){messages, messages_len}, &p, &what);
    if (rc == MINKE_OK && (rc = mk_text_deliver(&out, text, capacity, n_out)) == MINKE_OK)
        *action = what;
    mk_text_free(&out);
    mk_arena_free(&arena);
    return rc;
}
