/* Conversations written down as each model of the family was taught to read them. */
#ifndef MK_CHAT_H
#define MK_CHAT_H

#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/json.h"
#include "text/tokenizer.h"

enum mk_chat_kind {
    MK_CHAT_V2, MK_CHAT_V3, MK_CHAT_V3_0324, MK_CHAT_R1_HF, MK_CHAT_R1_DOCS, MK_CHAT_R1_0528,
    MK_CHAT_V31, MK_CHAT_V31_TERMINUS, MK_CHAT_V32, MK_CHAT_SPECIALE, MK_CHAT_N
};

#define MK_CHAT_BOS "<｜begin▁of▁sentence｜>"
#define MK_CHAT_EOS "<｜end▁of▁sentence｜>"
#define MK_CHAT_USER "<｜User｜>"
#define MK_CHAT_ASSISTANT "<｜Assistant｜>"
#define MK_CHAT_THINK "<think>"
#define MK_CHAT_THINK_END "</think>"
#define MK_CHAT_CALLS "<｜tool▁calls▁begin｜>"
#define MK_CHAT_CALLS_END "<｜tool▁calls▁end｜>"
#define MK_CHAT_CALL "<｜tool▁call▁begin｜>"
#define MK_CHAT_CALL_END "<｜tool▁call▁end｜>"
#define MK_CHAT_SEP "<｜tool▁sep｜>"
#define MK_CHAT_OUTPUTS "<｜tool▁outputs▁begin｜>"
#define MK_CHAT_OUTPUTS_END "<｜tool▁outputs▁end｜>"
#define MK_CHAT_OUTPUT "<｜tool▁output▁begin｜>"
#define MK_CHAT_OUTPUT_END "<｜tool▁output▁end｜>"
#define MK_CHAT_DSML "｜DSML｜"

enum mk_chat_role { MK_ROLE_SYSTEM, MK_ROLE_DEVELOPER, MK_ROLE_USER, MK_ROLE_ASSISTANT, MK_ROLE_TOOL };

/* One message, its members looked up once; a member that is absent or null is NULL. */
struct mk_chat_message {
    enum mk_chat_role role;
    size_t place;                     /* index as the caller gave it, for messages */
    const struct mk_json *content, *reasoning, *calls, *tools, *format, *ids;
    int has_calls;                    /* tool_calls is there, be it null */
    int prefix;
    int dropped;                      /* the retention rule took its reasoning */
};

/* Bytes [begin, end) of the text that stand for these ids. */
struct mk_chat_ids {
    size_t begin, end;
    const struct mk_json *ids;
    int cut;             /* 1 = after the first </think>, 2 = after the last, 0 = all */
    int unfinished;      /* reasoning without an answer: a cut leaves nothing */
    int unreasoned;      /* the message says that it has no reasoning */
};

/* What an encoding writes: text, which of its bytes are not to be trusted, and which have
 * their own ids. */
struct mk_chat_out {
    const struct mk_allocator *a;
    struct mk_text text;
    struct mk_span *plain;
    size_t n_plain, plain_capacity;
    struct mk_chat_ids *ids;
    size_t n_ids, ids_capacity;
    int32_t rc;
};

struct mk_chat {
    enum mk_chat_kind kind;
    int thinking;
    int generation;                   /* end with the generation prompt */
    int bos;
    int drop;                         /* DeepSeek's drop_thinking */
    uint32_t retention;               /* MINKE_RETAIN_*, never 0 */
    struct mk_chat_message *messages; /* (n,) context first */
    size_t n, n_context;
    int32_t think_end;                /* token of </think>, or -1 when not known */
    const struct mk_json *tools, *format;   /* given beside the messages */
};

/* Name to kind, or -1; every name that is known, by index. */
int mk_chat_find(const char *name);
const char *mk_chat_name(int kind);
/* The encoding of a model; MINKE_EUNSUPPORTED listing the known names. */
int32_t mk_chat_choose(int *kind, const minke_context *ctx, const char *name);
/* From a template's text; -1 when it is none of the family's. */
int mk_chat_match(const char *text, size_t len);
/* Whether replies of this encoding begin inside the reasoning, thinking being
 * MINKE_THINKING_*. */
int mk_chat_thinks(int kind, uint32_t thinking);

void mk_chat_adds(struct mk_chat_out *out, const char *text);
/* Text of a string value: trusted; from a user or a tool; from the model or a tool's maker, in
 * which only the bar that every marker holds is taken literally. */
void mk_chat_add_trusted(struct mk_chat_out *out, const char *text, size_t n);
void mk_chat_add_plain(struct mk_chat_out *out, const char *text, size_t n);
void mk_chat_add_model(struct mk_chat_out *out, const char *text, size_t n);
void mk_chat_add_json(struct mk_chat_out *out, const struct mk_json *v);
/* Whether the model was thinking when it wrote this message.  Of a message without reasoning
 * its ids tell, else whether it says that it has none, in a conversation that thinks. */
int mk_chat_reasoned(const struct mk_chat *c, const struct mk_chat_message *m);
/* From begin to here stands the message's own ids, when it carries them. */
void mk_chat_own_ids(struct mk_chat_out *out, const struct mk_chat_message *m, size_t begin,
                     int cut);
/* A member of a call's "function"; NULL with the error set unless it is a string. */
const struct mk_json *mk_chat_call_text(const struct mk_chat_message *m,
                                        const struct mk_json *call, const char *key);

int32_t mk_chat_write_v2(const struct mk_chat *c, struct mk_chat_out *out);
int32_t mk_chat_write_v3(const struct mk_chat *c, struct mk_chat_out *out);
int32_t mk_chat_write_v31(const struct mk_chat *c, struct mk_chat_out *out);
int32_t mk_chat_write_v32(struct mk_chat *c, struct mk_chat_out *out);

#endif
