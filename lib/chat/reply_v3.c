/* Replies of V2, V3, R1 and V3.1: calls between marks that are tokens.
 * Reference: chat_template in tokenizer_config.json of DeepSeek-V2-Chat, -V3, -R1 and -V3.1,
 * which write calls as the models were taught to. */
#include "base/checked.h"
#include "chat/deepseek.h"

#define V3_NAME MK_REPLY_OWN   /* between separator and fence */

/* Between two calls, and behind the last. */
static void v3_between(struct minke_reply *r, enum mk_reply_state next)
{
    if (!mk_view_is(mk_text_view(&r->held), "\n"))
        mk_reply_expect(r, "", "Tool call format error");
    r->held.len = 0;
    r->state = next;
}

static void v3_call(struct minke_reply *r, const struct mk_reply_marker *m)
{
    (void)m;
    v3_between(r, MK_REPLY_HEAD);
}

static void v3_calls_end(struct minke_reply *r, const struct mk_reply_marker *m)
{
    (void)m;
    v3_between(r, MK_REPLY_AFTER);
}

/* The type stands in front of the separator, the name behind it. */
static void v3_type(struct minke_reply *r, const struct mk_reply_marker *m)
{
    (void)m;
    if (!mk_view_is(mk_text_view(&r->held), "function"))
        mk_reply_malformed(r, "a tool call of another type than function");
    r->held.len = 0;
    r->state = V3_NAME;
}

/* The name is complete. */
static void v3_name(struct minke_reply *r, const struct mk_reply_marker *m)
{
    (void)m;
    mk_reply_call_begin(r, mk_text_view(&r->held));
    r->held.len = 0;
    r->state = MK_REPLY_VALUE;
}

/* The call is complete, or ends where its arguments have not begun: then its first line is the
 * name, and the rest the arguments. */
static void v3_call_end(struct minke_reply *r, const struct mk_reply_marker *m)
{
    const struct mk_view held = mk_text_view(&r->held);

    (void)m;
    if (r->state != MK_REPLY_VALUE) {
        const size_t name = mk_view_find(held, 0, mk_view("\n"));

        mk_reply_malformed(r, "Tool call format error");
        mk_reply_call_begin(r, (struct mk_view){held.data, name});
        if (name < held.len)
            mk_reply_arguments(r, mk_view_part(held, name + 1, held.len));
        r->held.len = 0;
    }
    mk_reply_call_end(r);
    r->state = MK_REPLY_CALLS;
}

static void v3_unfenced(struct minke_reply *r, const struct mk_reply_marker *m)
{
    if (r->state == MK_REPLY_VALUE)
        mk_reply_malformed(r, "the fence around arguments has no end");
    v3_call_end(r, m);
}

#define V3_OPENS (MK_IN(MK_REPLY_REASONING) | MK_IN(MK_REPLY_CONTENT))
#define V3_INSIDE (MK_IN(MK_REPLY_HEAD) | MK_IN(MK_REPLY_VALUE))

static const struct mk_reply_marker v2_markers[] = {
    {MK_DS_EOS, MK_IN_ALL, MK_MARKER_TOKEN, mk_reply_read_end},
};

/* Type, name, and arguments in a fence. */
static const struct mk_reply_marker v3_markers[] = {
    MK_DS_MARKERS,
    {MK_DS_CALLS, V3_OPENS, MK_MARKER_TOKEN, mk_reply_read_calls},
    {MK_DS_CALLS_END, MK_IN(MK_REPLY_CALLS), MK_MARKER_TOKEN, v3_calls_end},
    {MK_DS_CALL, MK_IN(MK_REPLY_CALLS), MK_MARKER_TOKEN, v3_call},
    {MK_DS_CALL_END, V3_INSIDE | MK_IN(V3_NAME), MK_MARKER_TOKEN, v3_unfenced},
    {MK_DS_SEP, MK_IN(MK_REPLY_HEAD), MK_MARKER_TOKEN, v3_type},
    {"\n```json\n", MK_IN(V3_NAME), 0, v3_name},
    {"\n```" MK_DS_CALL_END, MK_IN(MK_REPLY_VALUE), 0, v3_call_end},
};

/* Name and arguments. */
static const struct mk_reply_marker v31_markers[] = {
    MK_DS_MARKERS,
    {MK_DS_CALLS, V3_OPENS, MK_MARKER_TOKEN, mk_reply_read_calls},
    {MK_DS_CALLS_END, MK_IN(MK_REPLY_CALLS), MK_MARKER_TOKEN, v3_calls_end},
    {MK_DS_CALL, MK_IN(MK_REPLY_CALLS), MK_MARKER_TOKEN, v3_call},
    {MK_DS_CALL_END, V3_INSIDE, MK_MARKER_TOKEN, v3_call_end},
    {MK_DS_SEP, MK_IN(MK_REPLY_HEAD), MK_MARKER_TOKEN, v3_name},
};

/* A reply of V2 begins with the blank that its prompt leaves out. */
const struct mk_reply_grammar mk_reply_v2 = {
    .markers = v2_markers, .n_markers = MK_COUNT(v2_markers), .blank = 1,
};
const struct mk_reply_grammar mk_reply_v3 = {
    .markers = v3_markers, .n_markers = MK_COUNT(v3_markers), .value = mk_reply_arguments,
};
const struct mk_reply_grammar mk_reply_v31 = {
    .markers = v31_markers, .n_markers = MK_COUNT(v31_markers), .value = mk_reply_arguments,
};
