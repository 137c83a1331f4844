/* Replies: a grammar knows the markers of an encoding, one row each, and what they mean; the
 * reply finds them, and passes on what stands between. */
#ifndef MK_REPLY_H
#define MK_REPLY_H

#include "base/json.h"
#include "base/utf8.h"
#include "chat/encoding.h"

/* Where a reply stands. */
enum mk_reply_state {
    MK_REPLY_SAME,       /* in a marker's row: where it was */
    MK_REPLY_REASONING, MK_REPLY_CONTENT,
    MK_REPLY_VALUE,      /* inside of arguments, or of a part of them */
    MK_REPLY_AFTER,      /* behind the calls */
    MK_REPLY_DONE,       /* behind the end */
    /* From here on text is held until the next marker. */
    MK_REPLY_CALLS,      /* between calls */
    MK_REPLY_HEAD,       /* from the beginning of a call to its name's end */
    MK_REPLY_OWN         /* the first of a grammar's own */
};
#define MK_IN(state) (1u << (state))
#define MK_IN_ALL (~0u)

#define MK_MARKER_TOKEN  (1u << 0)   /* a token of its own where the vocabulary has it */
#define MK_MARKER_THINKS (1u << 1)   /* ordinary text where an encoding never thinks */

struct mk_reply_marker {
    const char *text;
    uint32_t flags;      /* MK_MARKER_* */
    uint32_t states;     /* MK_IN(...) where it means something */
    void (*read)(minke_reply *r);   /* what is done with what was held in front of it */
    enum mk_reply_state next;       /* where the reply stands then */
};

#define MK_REPLY_MARKERS 32u   /* of a grammar, at most */

struct mk_reply_grammar {
    const struct mk_reply_marker *markers;   /* (n_markers,) the first that fits counts */
    size_t n_markers;
    int blank;           /* the blank in front of an answer is the prompt's */
    int by_parameter;    /* arguments are an object that is put together here */
    /* Text in MK_REPLY_VALUE, and its end where the reply ends in it (NULL = nothing). */
    void (*value)(minke_reply *r, struct mk_view text);
    void (*value_end)(minke_reply *r);
    /* The makers' own parser, which puts what it read in place of what was read here, or gives
     * MINKE_EFORMAT with its message.  NULL = any malformed reply is an error. */
    int32_t (*strict)(minke_reply *r);
};

/* Texts that end the content in front of them: n of them, UTF-8, none empty. */
struct mk_reply_stops {
    const char *const *text;
    const size_t *len;
    size_t n;
};

struct minke_reply {
    minke_context *ctx;              /* referenced, or NULL */
    const struct mk_tokenizer *tok;
    struct mk_allocator a;
    minke_event_fn on_event;
    void *user;
    const struct mk_encoding *encoding;
    int thinking, strict;
    int32_t ids[MK_REPLY_MARKERS];   /* of the markers, or -1 */
    enum mk_reply_state state;
    const struct mk_reply_marker *marker;   /* that is being read */
    int busy, stopped, begun, finished;
    int surplus;                     /* text behind the end was told */
    struct mk_utf8_stream stream;
    struct mk_text raw;              /* everything, for the strict parser */
    struct mk_text pending, origin;  /* undecided bytes, and where each came from */
    struct mk_text held;             /* the inside of what is no text: headers, gaps */
    struct mk_text reasoning, content, calls, malformed;
    size_t n_given;                  /* bytes of content that were passed on; the rest may be the
                                      * beginning of a stop text */
    struct mk_text name, arguments, valid;   /* of the call that is open; valid: its arguments
                                              * as they are when all is well */
    size_t value;                    /* where the value begins in arguments */
    size_t valid_value;              /* and in valid */
    int call_open, call_bad, string;
    uint32_t n_calls, n_params;
    struct mk_reply_stops stops;     /* borrowed */
    int32_t stop;                    /* the one that was read, or -1 */
};

/* ---- For grammars ---- */

void mk_reply_event(minke_reply *r, int32_t event, struct mk_view text);
void mk_reply_malformed(minke_reply *r, const char *why);
void mk_reply_content(minke_reply *r, struct mk_view text);
/* The held text was expected to be just this; anything else is told, and kept as content. */
void mk_reply_expect(minke_reply *r, const char *text, const char *why);

void mk_reply_call_begin(minke_reply *r, struct mk_view name);
void mk_reply_call_end(minke_reply *r);   /* of the call that is open, if any */
/* A piece of arguments, which are passed on as they are written. */
void mk_reply_arguments(minke_reply *r, struct mk_view text);
/* Arguments by parameter: a value that is text (string), or JSON. */
void mk_reply_param_begin(minke_reply *r, struct mk_view key, int string);
void mk_reply_param_text(minke_reply *r, struct mk_view text);
void mk_reply_param_end(minke_reply *r);
/* One call as OpenAI's JSON, in a list that has others already when it is not empty. */
void mk_reply_write_call(struct mk_text *list, struct mk_view name, struct mk_view arguments);

/* ---- Markers that mean the same everywhere ---- */

void mk_reply_read_end(minke_reply *r);
void mk_reply_read_think(minke_reply *r);
void mk_reply_read_think_end(minke_reply *r);
void mk_reply_read_calls(minke_reply *r);
void mk_reply_read_stray(minke_reply *r);   /* told, and kept as text */

/* The message so far without its closing brace; bare: without parts that hold nothing. */
void mk_reply_write(const minke_reply *r, struct mk_text *t, int bare);

#endif
