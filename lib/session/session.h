/* One sequence: its tokens, its caches, where it stands. */
#ifndef MK_SESSION_H
#define MK_SESSION_H

#include "session/evaluator.h"

#define MK_SESSION_CHUNK 256u      /* tokens per prefill step by default */

/* What comes next of a chunk. */
enum mk_session_stage {
    MK_STAGE_RECOVER,              /* the last token once more, for its hidden state */
    MK_STAGE_LAYERS,
    MK_STAGE_MTP,                  /* rows of the prediction layer */
    MK_STAGE_HEAD                  /* logits */
};

/* Tokens that are stored behind the session's length and not evaluated yet. */
struct mk_session_pending {
    size_t queued;                 /* 0 = nothing is pending */
    size_t total;                  /* as they were queued */
    size_t n;                      /* rows of the chunk under way; 0 = between chunks */
    enum mk_session_stage stage;
    uint32_t layer;                /* of the chunk, that comes next */
    uint64_t slowest;              /* nanoseconds of the chunk's slowest layer */
    const void *owner;             /* who steps */
};

/* Who goes along with a session, on its thread.  Any function may be NULL. */
struct mk_recorder {
    void *user;                    /* referenced until release */
    struct mk_tap tap;             /* on the forward pass */
    /* Tokens [first, first + n) of the session were evaluated. */
    void (*evaluated)(void *user, const int32_t *tokens, size_t first, size_t n);
    /* The session holds these n tokens now, without having evaluated all of them. */
    void (*replaced)(void *user, const int32_t *tokens, size_t n);
    /* token was drawn by the sampler from logits and will be the session's next.  An error stops
     * the generator. */
    int32_t (*sampled)(void *user, const struct minke_session *s, const float *logits,
                       const minke_sampler *sampler, int32_t token);
    void (*finished)(void *user, int32_t reason);   /* MINKE_FINISH_* */
    void (*release)(void *user);
};

struct minke_session {
    minke_context *model;          /* referenced */
    minke_session_params params;   /* with defaults filled in */
    size_t n_layers;               /* with caches: the prediction layer counts if kept */
    struct mk_block block;         /* everything below points into it */
    struct mk_evaluator evaluator;
    struct mk_kv_format kv_format; /* how cached rows are stored */
    struct mk_sequence seq;        /* caches, (n_layers,) of them; how attention works; taps */
    int32_t *tokens;               /* (max_tokens,) */
    float *logits;                 /* (vocab_size,) of the last token */
    float *hidden;                 /* (prefill_chunk + 1, hidden_size) after the final norm, of the
                                    * last chunk and the token before it; NULL without MTP */

    size_t length;                 /* tokens held */
    size_t hidden_first, hidden_end;     /* positions whose hidden rows are there */
    int has_logits;
    int busy;                      /* a public call is under way */
    int32_t cancel;                /* atomic */
    struct mk_tap observer;        /* the host's */
    struct mk_recorder recorder, replay;   /* all NULL = nobody */
    struct mk_session_pending pending;
    size_t pace;                   /* rows of a chunk that suit the budget of steps */
};

/* Whether the session may be used by a public call; for its first line. */
int32_t mk_session_check(const struct minke_session *s);
/* The same, but tokens may be pending. */
int32_t mk_session_usable(const struct minke_session *s);

/* Put a recorder (NULL = nobody) in place of *held, of s, which is released. */
void mk_session_set_recorder(struct minke_session *s, struct mk_recorder *held,
                             const struct mk_recorder *next);

/* Hidden state of the last token, (hidden_size,); NULL where it is not there. */
float *mk_session_hidden(const struct minke_session *s);
/* Where it is to be written, and then the only one that is there. */
float *mk_session_put_hidden(struct minke_session *s);

/* Evaluation in steps.  queue: begin to append n tokens; sync: begin to hold exactly these,
 * *n_reused of them from before.  Nothing is evaluated yet, and other public calls are refused
 * until all is, or is dropped.  MINKE_EBUSY where another owner's tokens are queued. */
int32_t mk_session_queue(struct minke_session *s, const int32_t *tokens, size_t n,
                         const void *owner);
int32_t mk_session_queue_sync(struct minke_session *s, const int32_t *tokens, size_t n,
                              size_t *n_reused, const void *owner);
/* Work until pending.queued is 0 or the deadline of mk_time_ns is over (0 = none); budget in
 * nanoseconds is what chunks are measured by.  An error drops what is pending. */
int32_t mk_session_step(struct minke_session *s, uint64_t deadline, uint64_t budget);
void mk_session_drop(struct minke_session *s);

#endif
