/* Calls of tools, put together from what a grammar reads, as OpenAI's JSON. */
#include "base/checked.h"
#include "base/error.h"
#include "chat/reply.h"

static int call_is_json(struct minke_reply *r, struct mk_view text)
{
    const struct mk_json *v;
    struct mk_arena arena;
    int32_t rc;

    mk_arena_init(&arena, &r->a);
    rc = mk_json_parse(&v, &arena, text.len > 0 ? text.data : "", text.len, "arguments");
    mk_arena_free(&arena);
    return rc == MINKE_OK;
}

void mk_reply_arguments(struct minke_reply *r, struct mk_view text)
{
    if (text.len == 0)
        return;
    mk_text_add_view(&r->arguments, text);
    mk_text_add_view(&r->valid, text);
    mk_reply_event(r, MINKE_REPLY_EVENT_ARGUMENTS, text);
}

void mk_reply_call_begin(struct minke_reply *r, struct mk_view name)
{
    r->name.len = r->arguments.len = r->valid.len = 0;
    mk_text_add_view(&r->name, name);
    r->call_open = 1;
    r->call_bad = 0;
    r->n_params = 0;
    mk_reply_event(r, MINKE_REPLY_EVENT_CALL, mk_text_view(&r->name));
    if (r->encoding->grammar->by_parameter)
        mk_reply_arguments(r, mk_view("{"));
}

void mk_reply_write_call(struct mk_text *list, struct mk_view name, struct mk_view arguments)
{
    if (list->len > 0)
        mk_text_adds(list, ", ");
    mk_text_adds(list, "{\"type\": \"function\", \"function\": {\"name\": ");
    mk_text_add_quoted(list, name.data, name.len);
    mk_text_adds(list, ", \"arguments\": ");
    mk_text_add_quoted(list, arguments.data, arguments.len);
    mk_text_adds(list, "}}");
}

void mk_reply_call_end(struct minke_reply *r)
{
    struct mk_view list;
    size_t begin;

    if (!r->call_open)
        return;
    if (r->encoding->grammar->by_parameter)
        mk_reply_arguments(r, mk_view("}"));
    if (!call_is_json(r, mk_text_view(&r->valid))) {
        if (!r->call_bad)
            mk_reply_malformed(r, "arguments are not JSON");
        r->valid.len = 0;
        mk_text_add_quoted(&r->valid, r->arguments.data, r->arguments.len);
    }
    begin = r->calls.len > 0 ? r->calls.len + 2 : 0;   /* behind the comma */
    mk_reply_write_call(&r->calls, mk_text_view(&r->name), mk_text_view(&r->valid));
    list = mk_text_view(&r->calls);
    mk_reply_event(r, MINKE_REPLY_EVENT_CALL_END,
                   mk_view_part(list, mk_min(begin, list.len), list.len));
    r->call_open = 0;
    r->n_calls++;
}

void mk_reply_expect(struct minke_reply *r, const char *text, const char *why)
{
    const struct mk_view held = mk_text_view(&r->held), expected = mk_view(text);

    if (!mk_view_equal(held, expected)) {
        mk_reply_malformed(r, why);
        mk_reply_content(r, mk_view_has(held, 0, expected) && expected.len > 0
                                ? mk_view_part(held, expected.len, held.len) : held);
    }
    r->held.len = 0;
}

/* ---- Parameters ---------------------------------------------------------- */

void mk_reply_param_begin(struct minke_reply *r, struct mk_view key, int string)
{
    struct mk_text head;

    mk_text_init(&head, &r->a);
    if (r->n_params++ > 0)
        mk_text_adds(&head, ", ");
    mk_text_add_quoted(&head, key.data, key.len);
    mk_text_adds(&head, string ? ": \"" : ": ");
    r->arguments.failed |= head.failed;
    mk_reply_arguments(r, mk_text_view(&head));
    mk_text_free(&head);
    r->string = string;
    r->value = r->arguments.len;
    r->valid_value = r->valid.len;
}

void mk_reply_param_text(struct minke_reply *r, struct mk_view text)
{
    struct mk_text quoted;

    if (!r->string) {
        mk_reply_arguments(r, text);
        return;
    }
    mk_text_init(&quoted, &r->a);
    mk_text_add_quoted(&quoted, text.data, text.len);
    r->arguments.failed |= quoted.failed;
    if (quoted.len > 2)
        mk_reply_arguments(r, mk_view_part(mk_text_view(&quoted), 1, quoted.len - 1));
    mk_text_free(&quoted);
}

void mk_reply_param_end(struct minke_reply *r)
{
    const struct mk_view all = mk_text_view(&r->arguments);
    struct mk_view value;

    if (r->string) {
        mk_reply_arguments(r, mk_view("\""));
        return;
    }
    value = mk_view_part(all, r->value, all.len);
    if (call_is_json(r, value))
        return;
    mk_reply_malformed(r, "a parameter is not JSON");
    r->call_bad = 1;
    r->valid.len = r->valid_value;
    mk_text_add_quoted(&r->valid, value.data, value.len);
}
