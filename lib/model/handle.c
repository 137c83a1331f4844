/* The handle of a loaded model. */
#include "model/handle.h"

#include "kernels/onednn.h"

int32_t mk_context_check(const minke_context *ctx)
{
    if (ctx == NULL)
        return mk_fail(MINKE_EINVAL, "context is NULL");
    if (ctx->process_id != mk_process_id())
        return mk_fail(MINKE_EFORK, "the context was opened by process %lld",
                       (long long)ctx->process_id);
    return MINKE_OK;
}

void mk_context_ref(minke_context *ctx)
{
    mk_atomic_add(&ctx->refs, 1);
}

void mk_context_unref(minke_context *ctx)
{
    const struct mk_allocator a = ctx->env.alloc;

    if (mk_atomic_add(&ctx->refs, -1) > 0)
        return;
    if (ctx->tokenizer != NULL)
        ctx->tokenizer_free(ctx->tokenizer);
    mk_weights_free(&ctx->weights, &ctx->env);
    mk_onednn_free(ctx->onednn);
    mk_pool_free(ctx->pool);
    mk_free(&a, ctx);
}
