/* Replies of V3.2: calls in DSML, one parameter a line.  What is malformed is told and kept.
 * Reference: DeepSeek-V3.2 encoding/encoding_dsv32.py, which writes calls as the model was taught
 * to; what is told here bears the names that its parser gives. */
#include "base/checked.h"
#include "chat/deepseek.h"

#define DSML_PARAMETER MK_REPLY_OWN        /* a parameter's name and kind */
#define DSML_GAP       (MK_REPLY_OWN + 1)  /* behind a parameter */

#define DSML_STRING "\" string=\"true\">"

static const struct mk_view dsml_name = MK_VIEW(" name=\"");

static void dsml_bare(struct minke_reply *r)
{
    mk_reply_read_calls(r);
    mk_reply_malformed(r, "Tool calls without a blank line");
}

/* The end of the line that opens calls or a call's end is on. */
static void dsml_line(struct minke_reply *r)
{
    mk_reply_expect(r, ">\n", "Tool call format error");
}

/* name="NAME"> behind <DSML invoke, and an empty line where no parameter follows. */
static void dsml_call(struct minke_reply *r)
{
    const struct mk_view end = MK_VIEW("\">\n");
    struct mk_view held = mk_text_view(&r->held);
    size_t at = dsml_name.len;

    if (mk_view_has(held, held.len - 2, mk_view("\n\n")))
        held.len--;
    if (!mk_view_has(held, 0, dsml_name) || held.len == at) {
        mk_reply_malformed(r, "Tool name format error");
        mk_reply_call_begin(r, held);
    } else if (held.len >= at + end.len && mk_view_has(held, held.len - end.len, end)) {
        mk_reply_call_begin(r, mk_view_part(held, at, held.len - end.len));
    } else {
        mk_reply_malformed(r, "Tool name format error");
        while (at < held.len && held.data[at] != '"' && held.data[at] != '\n')
            at++;
        /* What follows the name belongs nowhere, and is not lost. */
        mk_reply_content(r, mk_view_part(held, at, held.len));
        mk_reply_call_begin(r, mk_view_part(held, dsml_name.len, at));
    }
    r->held.len = 0;
}

/* Behind the head of a call, or behind a parameter. */
static void dsml_next(struct minke_reply *r)
{
    if (r->state == MK_REPLY_HEAD)
        dsml_call(r);
    else
        mk_reply_expect(r, ">\n", "Parameter format error");
}

static void dsml_call_end(struct minke_reply *r)
{
    dsml_next(r);
    mk_reply_call_end(r);
}

/* What is held of a parameter, behind name=". */
static struct mk_view dsml_key(struct minke_reply *r)
{
    const struct mk_view held = mk_text_view(&r->held);

    return mk_view_has(held, 0, dsml_name) ? mk_view_part(held, dsml_name.len, held.len) : held;
}

static void dsml_value(struct minke_reply *r)
{
    const struct mk_view key = dsml_key(r);

    if (key.len == r->held.len)
        mk_reply_malformed(r, "Parameter format error");
    mk_reply_param_begin(r, key, mk_view_is(mk_view(r->marker->text), DSML_STRING));
    r->held.len = 0;
}

/* Where the value begins behind a key that ends at `at`: behind  string="word">, or whatever
 * stands there in its place. */
static size_t dsml_value_at(struct mk_view text, size_t at)
{
    const struct mk_view kind = MK_VIEW("\" string=\"");
    size_t end = at + kind.len;

    if (mk_view_has(text, at, kind)) {
        while (end < text.len && text.data[end] >= 'a' && text.data[end] <= 'z')
            end++;
        if (mk_view_has(text, end, mk_view("\">")))
            return end + 2;
    }
    return mk_min(at + 1, text.len);
}

/* A parameter whose kind is none of the two: its value is taken as text, and so is all that
 * stands where the kind should. */
static void dsml_broken(struct minke_reply *r)
{
    const struct mk_view text = dsml_key(r);
    size_t key = 0, value, end = text.len;

    mk_reply_malformed(r, "Parameter format error");
    while (key < end && text.data[key] != '"' && text.data[key] != '>')
        key++;
    value = dsml_value_at(text, key);
    mk_reply_param_begin(r, mk_view_part(text, 0, key), 1);
    if (value < end)
        mk_reply_param_text(r, mk_view_part(text, value, end - (text.data[end - 1] == '<')));
    r->held.len = 0;
    mk_reply_param_end(r);
}

#define DSML_NEXT (MK_IN(MK_REPLY_HEAD) | MK_IN(DSML_GAP))

static const struct mk_reply_marker dsml_markers[] = {
    MK_DS_MARKERS,
    {"\n\n" MK_DSML_OPEN "function_calls", 0, MK_DS_ANSWER, mk_reply_read_calls, MK_REPLY_CALLS},
    {MK_DSML_OPEN "function_calls", 0, MK_DS_ANSWER, dsml_bare, MK_REPLY_CALLS},
    {MK_DSML_CLOSE "function_calls>", 0, MK_IN(MK_REPLY_CALLS), dsml_line, MK_REPLY_AFTER},
    {MK_DSML_OPEN "invoke", 0, MK_IN(MK_REPLY_CALLS), dsml_line, MK_REPLY_HEAD},
    {MK_DSML_CLOSE "invoke", 0, DSML_NEXT, dsml_call_end, MK_REPLY_CALLS},
    {MK_DSML_OPEN "parameter", 0, DSML_NEXT, dsml_next, DSML_PARAMETER},
    {MK_DSML_CLOSE "parameter", 0, MK_IN(MK_REPLY_VALUE), mk_reply_param_end, DSML_GAP},
    {"/" MK_DSML "parameter", 0, MK_IN(DSML_PARAMETER), dsml_broken, DSML_GAP},
    {DSML_STRING, 0, MK_IN(DSML_PARAMETER), dsml_value, MK_REPLY_VALUE},
    {"\" string=\"false\">", 0, MK_IN(DSML_PARAMETER), dsml_value, MK_REPLY_VALUE},
    {MK_DSML, 0, MK_IN(MK_REPLY_CONTENT), mk_reply_read_stray, MK_REPLY_SAME},
};

const struct mk_reply_grammar mk_reply_dsml = {
    .markers = dsml_markers,
    .n_markers = MK_COUNT(dsml_markers),
    .by_parameter = 1,
    .value = mk_reply_param_text,
    .value_end = mk_reply_param_end,
    .strict = mk_reply_strict_dsml,
};
