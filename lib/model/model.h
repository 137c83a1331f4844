/* A loaded model: what sessions, text and learning share of a context. */
#ifndef MK_MODEL_H
#define MK_MODEL_H

#include "base/env.h"
#include "base/pool.h"
#include "format/config.h"
#include "format/weights.h"
#include "model/rope.h"
#include "tensor/kernels.h"

struct mk_model {
    struct mk_env env;
    uint32_t flags;              /* MINKE_CONTEXT_* */
    struct mk_pool *pool;
    struct mk_kernels kernels;
    struct mk_onednn *onednn;    /* takes products of many rows; mostly NULL */
    struct mk_config config;
    struct mk_weights weights;   /* empty when opened for its tokenizer alone */
    struct mk_rope rope;         /* frequencies, softmax scale */
    uint64_t identity;           /* of weights, config and tokenizer; 0 without weights */
    int64_t process_id;
    int32_t refs;                /* atomic: the caller's, and one per session */
};

/* A context is a model with its text room; context.c knows both.  The rooms between reach
 * what they need of the handle through these. */
struct mk_model *mk_context_model(const minke_context *ctx);
void mk_context_ref(minke_context *ctx);
void mk_context_unref(minke_context *ctx);

/* MINKE_OK, MINKE_EINVAL for NULL, or MINKE_EFORK in a child process; for the first line of
 * public functions. */
int32_t mk_context_check(const minke_context *ctx);

#endif
