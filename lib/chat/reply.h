/* Replies: what the model wrote, taken apart while it writes. */
#ifndef MK_REPLY_H
#define MK_REPLY_H

#include "base/json.h"
#include "chat/chat.h"

/* DeepSeek's own parser of a whole V3.2 reply: the message as JSON, or MINKE_EFORMAT with the
 * parser's message. */
int32_t mk_reply_parse_v32(struct mk_text *out, const struct mk_allocator *a, const char *text,
                           size_t len, int thinking);

/* Texts that end the content in front of them: n of them, UTF-8, none empty. */
struct mk_reply_stops {
    const char *const *text;
    const size_t *len;
    size_t n;
};

/* Read no encoding: all is content, up to the token that ends texts. */
void mk_reply_plain(minke_reply *r);
/* Begin with the answer, or with the <think> that an R1 may write itself. */
void mk_reply_answers(minke_reply *r);
/* Stop before the first of these; they are borrowed. */
void mk_reply_set_stops(minke_reply *r, const struct mk_reply_stops *stops);
/* Index of the stop text that was read, or -1; calls that are complete. */
int32_t mk_reply_stop(const minke_reply *r);
uint32_t mk_reply_calls(const minke_reply *r);
/* The message so far without its closing brace; bare: without parts that hold nothing. */
void mk_reply_write(const minke_reply *r, struct mk_text *t, int bare);

#endif
