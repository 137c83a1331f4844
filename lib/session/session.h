/* One sequence: its caches, its position, its workspace. */
#ifndef MK_SESSION_H
#define MK_SESSION_H

#include "model/forward.h"
#include "session/cache.h"

#define MK_SESSION_CHUNK 256u      /* tokens per prefill step by default */
#define MK_SESSION_ROWS 16u        /* rows of logits computed at a time for callbacks */

struct minke_session {
    minke_context *ctx;            /* referenced */
    struct mk_model *model;
    minke_session_params params;   /* with defaults filled in */
    size_t n_layers;               /* with caches: the prediction layer counts if kept */
    struct mk_block block;         /* everything below points into it */
    struct mk_work work;
    struct mk_kv_format kv_format; /* how cached rows are stored */
    struct mk_kv *kv;              /* (n_layers,) */
    int32_t *tokens;               /* (max_tokens,) */
    float *logits;                 /* (vocab_size,) of the last token */
    float *rows;                   /* (MK_SESSION_ROWS, vocab_size) */
    float *hidden;                 /* (hidden_size,) of the last token, after the final norm */

    size_t length;                 /* tokens held */
    int has_logits;
    int has_hidden;                /* hidden belongs to token length - 1 */
    int busy;                      /* a public call is under way */
    int32_t cancel;                /* atomic */
};

/* Whether the session may be used by a public call; for its first line. */
int32_t mk_session_check(const struct minke_session *s);

#endif
