/* Replies: what the model wrote, taken apart while it writes. */
#ifndef MK_REPLY_H
#define MK_REPLY_H

#include "base/json.h"
#include "text/chat.h"

/* DeepSeek's own parser of a whole V3.2 reply: the message as JSON, or MINKE_EFORMAT with the
 * parser's message. */
int32_t mk_reply_parse_v32(struct mk_text *out, const struct mk_allocator *a, const char *text,
                           size_t len, int thinking);

#endif
