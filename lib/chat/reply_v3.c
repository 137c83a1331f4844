/* Replies of V2, V3, R1 and V3.1: calls between marks that are tokens.
 * Reference: chat_template in tokenizer_config.json of DeepSeek-V2-Chat, -V3, -R1 and -V3.1,
 * which write calls as the models were taught to. */
#include "base/checked.h"
#include "chat/deepseek.h"

#define V3_NAME MK_REPLY_OWN   /* between separator and fence */

/* Between two calls, and behind the last. */
static void v3_between(struct minke_reply *r)
{
    if (!mk_view_is(mk_text_view(&r->held), "\n"))
        mk_reply_expect(r, "", "Tool call format error");
    r->held.len = 0;
}

/* The type stands in front of the separator, the name behind it. */
static void v3_type(struct minke_reply *r)
{
    if (!mk_view_is(mk_text_view(&r->held), "function"))
        mk_reply_malformed(r, "a tool call of another type than function");
    r->held.len = 0;
}

static void v3_name(struct minke_reply *r)
{
    mk_reply_call_begin(r, mk_text_view(&r->held));
    r->held.len = 0;
}

/* The call is complete, or ends where its arguments have not begun: then its first line is the
 * name, and the rest the arguments. */
static void v3_call_end(struct minke_reply *r)
{
    const struct mk_view held = mk_text_view(&r->held);

    if (r->state != MK_REPLY_VALUE) {
        const size_t name = mk_view_find(held, 0, mk_view("\n"));

        mk_reply_malformed(r, "Tool call format error");
        mk_reply_call_begin(r, mk_view_part(held, 0, name));
        if (name < held.len)
            mk_reply_arguments(r, mk_view_part(held, name + 1, held.len));
        r->held.len = 0;
    }
    mk_reply_call_end(r);
}

static void v3_unfenced(struct minke_reply *r)
{
    if (r->state == MK_REPLY_VALUE)
        mk_reply_malformed(r, "the fence around arguments has no end");
    v3_call_end(r);
}

#define V3_CALLS MK_IN(MK_REPLY_CALLS)
#define V3_HEAD  MK_IN(MK_REPLY_HEAD)
#define V3_VALUE MK_IN(MK_REPLY_VALUE)

static const struct mk_reply_marker v2_markers[] = {
    {MK_DS_EOS, MK_MARKER_TOKEN, MK_IN_ALL, mk_reply_read_end, MK_REPLY_DONE},
};

/* Type, name, and arguments in a fence. */
static const struct mk_reply_marker v3_markers[] = {
    MK_DS_MARKERS,
    {MK_DS_CALLS, MK_MARKER_TOKEN, MK_DS_ANSWER, mk_reply_read_calls, MK_REPLY_CALLS},
    {MK_DS_CALLS_END, MK_MARKER_TOKEN, V3_CALLS, v3_between, MK_REPLY_AFTER},
    {MK_DS_CALL, MK_MARKER_TOKEN, V3_CALLS, v3_between, MK_REPLY_HEAD},
    {MK_DS_CALL_END, MK_MARKER_TOKEN, V3_HEAD | MK_IN(V3_NAME) | V3_VALUE, v3_unfenced,
     MK_REPLY_CALLS},
    {MK_DS_SEP, MK_MARKER_TOKEN, V3_HEAD, v3_type, V3_NAME},
    {"\n```json\n", 0, MK_IN(V3_NAME), v3_name, MK_REPLY_VALUE},
    {"\n```" MK_DS_CALL_END, 0, V3_VALUE, v3_call_end, MK_REPLY_CALLS},
};

/* Name and arguments. */
static const struct mk_reply_marker v31_markers[] = {
    MK_DS_MARKERS,
    {MK_DS_CALLS, MK_MARKER_TOKEN, MK_DS_ANSWER, mk_reply_read_calls, MK_REPLY_CALLS},
    {MK_DS_CALLS_END, MK_MARKER_TOKEN, V3_CALLS, v3_between, MK_REPLY_AFTER},
    {MK_DS_CALL, MK_MARKER_TOKEN, V3_CALLS, v3_between, MK_REPLY_HEAD},
    {MK_DS_CALL_END, MK_MARKER_TOKEN, V3_HEAD | V3_VALUE, v3_call_end, MK_REPLY_CALLS},
    {MK_DS_SEP, MK_MARKER_TOKEN, V3_HEAD, v3_name, MK_REPLY_VALUE},
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
