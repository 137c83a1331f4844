/* The handle of a loaded model: what sessions, text and learning share. */
#ifndef MK_HANDLE_H
#define MK_HANDLE_H

#include "base/env.h"
#include "base/pool.h"
#include "format/config.h"
#include "kernels/kernels.h"
#include "model/rope.h"
#include "model/weights.h"

struct mk_onednn;
struct mk_tokenizer;

struct minke_context {
    struct mk_env env;
    uint32_t flags;              /* MINKE_CONTEXT_* */
    struct mk_pool *pool;
    struct mk_kernels kernels;
    struct mk_onednn *onednn;    /* takes products of many rows; mostly NULL */
    struct mk_config config;
    struct mk_weights weights;   /* empty when opened for its tokenizer alone */
    struct mk_rope rope;         /* frequencies, softmax scale */
    struct mk_tokenizer *tokenizer;      /* of text/; NULL: tokenizer_error says why */
    void (*tokenizer_free)(struct mk_tokenizer *tokenizer);
    char tokenizer_error[512];
    uint64_t identity;           /* of weights, config and tokenizer; 0 without weights */
    char identity_text[17];      /* the same in hexadecimal; "" without weights */
    char slow_types[256];        /* of matrices that no kernel packs, spaces between */
    int64_t process_id;
    int32_t refs;                /* atomic: the caller's, and one per session */
};

/* MINKE_OK, MINKE_EINVAL for NULL, or MINKE_EFORK in a child process; for the first line of
 * public functions. */
int32_t mk_context_check(const minke_context *ctx);

void mk_context_ref(minke_context *ctx);
/* The last reference frees everything, also of a context that was opened halfway. */
void mk_context_unref(minke_context *ctx);

#endif
