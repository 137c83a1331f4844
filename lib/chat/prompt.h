/* Conversations as an encoding's writer sees them, and what it writes. */
#ifndef MK_PROMPT_H
#define MK_PROMPT_H

#include "base/json.h"
#include "chat/encoding.h"

enum mk_chat_role {
    MK_ROLE_SYSTEM, MK_ROLE_DEVELOPER, MK_ROLE_USER, MK_ROLE_ASSISTANT, MK_ROLE_TOOL
};

/* One message, its members looked up once; a member that is absent or null is NULL. */
struct mk_chat_message {
    enum mk_chat_role role;
    size_t place;                     /* index as the caller gave it, for messages */
    const struct mk_json *content, *reasoning, *calls, *tools, *format, *ids;
    int has_calls;                    /* tool_calls is there, be it null */
    int prefix;
    int dropped;                      /* the retention rule took its reasoning */
};

struct mk_chat {
    const struct mk_encoding *encoding;
    int thinking;
    int generation;                   /* end with the generation prompt */
    int bos;
    int drop;                         /* DeepSeek's drop_thinking */
    uint32_t retention;               /* MINKE_RETAIN_*, never 0 */
    struct mk_chat_message *messages; /* (n,) context first */
    size_t n, n_context;
    int32_t think_end;                /* token behind the reasoning, or -1 when not known */
    const struct mk_json *tools, *format;   /* given beside the messages */
};

/* What a retention rule cuts off in front of a message's own ids. */
enum mk_chat_cut { MK_CUT_NONE, MK_CUT_FIRST, MK_CUT_LAST };   /* up to which end of reasoning */

/* Bytes [begin, end) of the text that stand for this message's own ids. */
struct mk_chat_ids {
    size_t begin, end;
    const struct mk_chat_message *message;
    enum mk_chat_cut cut;
};

/* What an encoding writes: text, which of its bytes are not to be trusted, and which have
 * their own ids. */
struct mk_chat_out {
    const struct mk_allocator *a;
    const char *const *guarded;       /* of the encoding's marks */
    struct mk_text text;
    struct mk_span *plain;
    size_t n_plain, plain_capacity;
    struct mk_chat_ids *ids;
    size_t n_ids, ids_capacity;
    int32_t *tokens;                  /* of mk_chat_tokenize */
    size_t n_tokens, tokens_capacity;
    int32_t rc;
};

/* Text of the encoding itself; of who wrote the system message: trusted; from a user or a tool:
 * plain; from the model or a tool's maker, in which only what every marker holds is plain. */
void mk_chat_adds(struct mk_chat_out *out, const char *text);
void mk_chat_add_trusted(struct mk_chat_out *out, struct mk_view text);
void mk_chat_add_plain(struct mk_chat_out *out, struct mk_view text);
void mk_chat_add_model(struct mk_chat_out *out, struct mk_view text);
void mk_chat_add_json(struct mk_chat_out *out, const struct mk_json *v);
/* From begin to here stands the message's own ids, when it carries them. */
void mk_chat_own_ids(struct mk_chat_out *out, const struct mk_chat_message *m, size_t begin,
                     enum mk_chat_cut cut);
void mk_chat_out_free(struct mk_chat_out *out);

/* Tokens of what was written, closed with the token that ends texts where a message carries its
 * own ids.  Once: it moves the spans. */
int32_t mk_chat_tokenize(struct mk_chat_out *out, const struct mk_tokenizer *tok,
                         int32_t think_end);

/* Whether the model was thinking when it wrote this message.  Of a message without reasoning
 * its ids tell, else whether it says that it has none, in a conversation that thinks. */
int mk_chat_reasoned(const struct mk_chat *c, const struct mk_chat_message *m);
/* Its content, or NULL with the error set where that is null. */
const struct mk_json *mk_chat_content(const struct mk_chat_message *m);
/* Name and arguments of one of its calls; MINKE_EINVAL unless both are text. */
struct mk_chat_call {
    struct mk_view name, arguments;
};
int32_t mk_chat_read_call(struct mk_chat_call *out, const struct mk_chat_message *m,
                          const struct mk_json *call);

#endif
