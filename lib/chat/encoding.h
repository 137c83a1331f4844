/* Encodings: how a conversation is written for a model of the family and how its reply is
 * read, one row each in encoding.c.  Its writer and the grammar of its replies have a file
 * each. */
#ifndef MK_ENCODING_H
#define MK_ENCODING_H

#include "text/tokenizer.h"

struct mk_chat;
struct mk_chat_out;
struct mk_reply_grammar;

/* What the encodings of one maker share.  Lists end in NULL. */
struct mk_chat_marks {
    const char *think_end;             /* behind the reasoning */
    const char *const *foreign;        /* what no template of theirs has: one that has it was
                                        * changed by somebody */
    const char *const *guarded;        /* each marker of roles and tools holds one of these */
    const char *const *answered;       /* where a prompt ends in one, no reasoning begins: its
                                        * end, and results that are answered as they stand */
    const char *const *unthinking;     /* tokens that end the reasoning */
};

/* What an encoding writes beside messages, or reads in them. */
#define MK_TAKES_FORMAT    (1u << 0)   /* response_format */
#define MK_TAKES_CONTEXT   (1u << 1)   /* messages in front that are not written */
#define MK_TAKES_DEVELOPER (1u << 2)   /* the role */

/* For `thinks`; where the model decides by itself, the switch is ignored. */
#define MK_THINKS_NEVER  {0, 0, 0}
#define MK_THINKS_ASKED  {0, 1, 0}
#define MK_THINKS_ALWAYS {1, 1, 1}

/* Who writes the mark that begins the reasoning. */
enum mk_think_by {
    MK_THINK_BY_PROMPT,
    MK_THINK_BY_MODEL,
    MK_THINK_BY_BOTH                   /* the model where results of tools end the prompt */
};

struct mk_encoding {
    const char *names[3];              /* the first is its own; others are taken too */
    const char *has[6], *lacks[4];     /* a published template has all of these, none of those;
                                        * both end in NULL, no `has` = there is none */
    const char *model_type, *tokenizer;   /* of a model without template, or NULL */
    unsigned char thinks[3];           /* whether replies begin inside the reasoning, by
                                        * MINKE_THINKING_* */
    enum mk_think_by think_by;
    uint32_t retention;                /* MINKE_RETAIN_* of the model's own template */
    float temperature, top_p;          /* advised */
    uint32_t takes;                    /* MK_TAKES_* */
    const char *no_tools;              /* why it takes no tools; NULL = it does */
    int null_content;                  /* calls are written only where content is null */
    uint32_t style;                    /* for its writer alone */
    int32_t (*write)(struct mk_chat *c, struct mk_chat_out *out);
    const struct mk_reply_grammar *grammar;   /* of its replies */
    const struct mk_chat_marks *marks;
};

/* The encoding of that name, or NULL. */
const struct mk_encoding *mk_encoding_find(const char *name);
/* From a template's text; NULL when it is no published one. */
const struct mk_encoding *mk_encoding_match(struct mk_view text);
/* The one named, else the model's; MINKE_EUNSUPPORTED listing the known names. */
int32_t mk_encoding_choose(const struct mk_encoding **e, const minke_context *ctx,
                           const char *name);

/* Token of a mark, or -1. */
static inline int32_t mk_chat_token(const struct mk_tokenizer *tok, const char *mark)
{
    return mk_tokenizer_find(tok, mk_view(mark));
}

#endif
