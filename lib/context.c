/* Open, free, facts: what ties the rooms together. */
#include <string.h>

#include "base/cpu.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/params.h"
#include "format/checkpoint.h"
#include "kernels/matmul.h"
#include "kernels/onednn.h"
#include "model/handle.h"
#include "model/identity.h"
#include "text/tokenizer.h"

#define CONTEXT_MAX_THREADS 1024u
#define CONTEXT_FLAGS                                                                            \
    (MINKE_CONTEXT_MMAP | MINKE_CONTEXT_VERIFY | MINKE_CONTEXT_STRICT                            \
     | MINKE_CONTEXT_TOKENIZER_ONLY | MINKE_CONTEXT_DETERMINISTIC | MINKE_CONTEXT_FAST)

/* ---- Opening ------------------------------------------------------------- */

void minke_context_params_init(minke_context_params *params, size_t size)
{
    mk_params_init(params, size);
}

static int32_t context_params(minke_context_params *p, const minke_context_params *params)
{
    const int32_t rc = mk_params_read(p, sizeof(*p), params, sizeof(*p));
    int n_reader;

    if (rc < 0)
        return rc;
    n_reader = (p->reader_open != NULL) + (p->reader_read != NULL) + (p->reader_close != NULL);
    if (p->flags & ~CONTEXT_FLAGS)
        return mk_fail(MINKE_EVERSION, "flags 0x%x: this build knows 0x%x", p->flags,
                       CONTEXT_FLAGS);
    if (p->n_threads > CONTEXT_MAX_THREADS)
        return mk_fail(MINKE_EINVAL, "n_threads: %u; at most %u expected", p->n_threads,
                       CONTEXT_MAX_THREADS);
    if ((p->alloc == NULL) != (p->free == NULL))
        return mk_fail(MINKE_EINVAL, "alloc and free: set both or neither");
    if (n_reader != 0 && n_reader != 3)
        return mk_fail(MINKE_EINVAL, "reader_open, _read and _close: set all or none");
    if (n_reader == 3 && (p->flags & MINKE_CONTEXT_MMAP))
        return mk_fail(MINKE_EINVAL, "MINKE_CONTEXT_MMAP: a reader's files cannot be mapped");
    return MINKE_OK;
}

static struct mk_env context_env(const minke_context_params *p)
{
    return (struct mk_env){
        .alloc = {p->alloc, p->free, p->alloc_user},
        .log = p->log,
        .log_user = p->log_user,
        .reader_open = p->reader_open,
        .reader_read = p->reader_read,
        .reader_close = p->reader_close,
        .reader_user = p->reader_user,
    };
}

/* With a model, a tokenizer that is missing or none of ours only silences text functions. */
static int32_t context_open_tokenizer(minke_context *ctx, struct mk_checkpoint *c)
{
    const int alone = (ctx->flags & MINKE_CONTEXT_TOKENIZER_ONLY) != 0;
    struct mk_vocabulary vocabulary;
    char before[sizeof(ctx->tokenizer_error)];
    int32_t rc;

    mk_format(before, sizeof(before), "%s", minke_last_error());
    rc = mk_checkpoint_vocabulary(c, &vocabulary);
    if (rc == MINKE_OK && !c->is_gguf && vocabulary.json.data == NULL)
        rc = mk_fail(alone ? MINKE_EIO : MINKE_EUNSUPPORTED, "%s/tokenizer.json: no such file",
                     c->path);
    if (rc == MINKE_OK)
        rc = mk_tokenizer_open(&ctx->tokenizer, &ctx->env, &vocabulary);
    if (rc != MINKE_EUNSUPPORTED || alone)
        return rc;
    mk_format(ctx->tokenizer_error, sizeof(ctx->tokenizer_error), "%s", minke_last_error());
    mk_log(&ctx->env, MINKE_LOG_WARN, "no tokenizer: %s", ctx->tokenizer_error);
    return mk_fail(MINKE_OK, "%s", before);   /* a call that succeeds leaves no message */
}

/* What is decoded row by row whenever it is multiplied: types without a packed form. */
static void context_list_slow(minke_context *ctx)
{
    size_t n = 0;

    for (int i = 0; i < MK_N_TYPES; i++) {
        const enum mk_type type = (enum mk_type)i;

        if ((ctx->weights.types >> i & 1) && mk_mat_packed_bytes(type, 16, 256) == 0)
            n += mk_format(ctx->slow_types + n, sizeof(ctx->slow_types) - n, "%s%s",
                           n > 0 ? " " : "", mk_type_info(type)->name);
    }
}

/* The model's identity: of its weights, and of its tokenizer where it has one. */
static int32_t context_identify(minke_context *ctx)
{
    const size_t n = ctx->tokenizer != NULL ? mk_tokenizer_size(ctx->tokenizer) : 0;
    uint64_t h = mk_identity(&ctx->env.alloc, &ctx->config, &ctx->weights);

    if (h == 0)
        return MINKE_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        const struct mk_view bytes = mk_tokenizer_bytes(ctx->tokenizer, (int32_t)i);

        h = mk_hash(h, bytes.data, bytes.len);
    }
    ctx->identity = h;
    mk_hex(ctx->identity_text, h);
    return MINKE_OK;
}

/* Kernels, workers and weights. */
static int32_t context_open_model(minke_context *ctx, struct mk_checkpoint *c,
                                  const minke_context_params *p)
{
    const uint32_t n_threads = p->n_threads > 0 ? p->n_threads : mk_cpu_threads();
    struct mk_load_options options = {
        .flags = p->flags,
        .progress = p->progress,
        .progress_user = p->progress_user,
        .kernels = &ctx->kernels,
    };
    int32_t rc = mk_pool_open(&ctx->pool, &ctx->env.alloc, n_threads, p->executor,
                              p->executor_user);

    if (rc < 0)
        return rc;
    mk_kernels_init(&ctx->kernels, mk_cpu_features());
    if ((p->flags & (MINKE_CONTEXT_FAST | MINKE_CONTEXT_DETERMINISTIC)) == MINKE_CONTEXT_FAST)
        rc = mk_onednn_open(&ctx->onednn, &ctx->env.alloc, ctx->kernels.features, 0);
    mk_rope_init(&ctx->rope, &ctx->config);
    options.pool = ctx->pool;
    if (rc < 0 || (rc = mk_weights_load(&ctx->weights, c, &options)) < 0
        || (rc = context_identify(ctx)) < 0)
        return rc;
    context_list_slow(ctx);
    mk_log(&ctx->env, MINKE_LOG_INFO, "%s: %s, %llu parameters, %llu bytes, %u threads", c->path,
           ctx->config.model_type, (unsigned long long)ctx->weights.n_params,
           (unsigned long long)ctx->weights.bytes, mk_pool_threads(ctx->pool));
    return MINKE_OK;
}

static int32_t context_open(minke_context **out, const char *path,
                            const minke_context_params *p)
{
    const int has_weights = (p->flags & MINKE_CONTEXT_TOKENIZER_ONLY) == 0;
    const struct mk_env env = context_env(p);
    minke_context *ctx = mk_alloc(&env.alloc, 1, sizeof(*ctx));
    struct mk_checkpoint checkpoint;
    int32_t rc;

    if (ctx == NULL)
        return MINKE_ENOMEM;
    ctx->env = env;
    ctx->flags = p->flags;
    ctx->process_id = mk_process_id();
    ctx->refs = 1;
    ctx->tokenizer_free = mk_tokenizer_free;
    if ((rc = mk_checkpoint_open(&checkpoint, &ctx->env, path, has_weights)) >= 0) {
        ctx->config = checkpoint.config;
        if ((rc = context_open_tokenizer(ctx, &checkpoint)) >= 0 && has_weights)
            rc = context_open_model(ctx, &checkpoint, p);
        mk_checkpoint_close(&checkpoint);
    }
    if (rc < 0)
        mk_context_unref(ctx);
    else
        *out = ctx;
    return rc;
}

int32_t minke_context_open(minke_context **out, const char *path,
                           const minke_context_params *params)
{
    minke_context_params p;
    struct mk_fpu fpu;
    int32_t rc;

    if (out == NULL || path == NULL)
        return mk_fail(MINKE_EINVAL, "%s is NULL", out == NULL ? "out" : "path");
    rc = context_params(&p, params);
    if (rc < 0)
        return rc;
    mk_fpu_enter(&fpu);
    rc = context_open(out, path, &p);
    mk_fpu_leave(&fpu);
    return rc;
}

void minke_context_free(minke_context *ctx)
{
    if (ctx != NULL)
        mk_context_unref(ctx);
}

/* ---- Facts --------------------------------------------------------------- */

static int64_t context_dense_layers(const struct mk_config *c)
{
    int64_t n = 0;

    for (uint32_t l = 0; l < c->num_hidden_layers; l++)
        n += !mk_config_is_moe(c, l);
    return n;
}

static int64_t context_special(const minke_context *ctx, int eos)
{
    const struct mk_tokenizer *tok = ctx->tokenizer;
    const struct mk_config *c = &ctx->config;

    if (tok != NULL)
        return eos ? mk_tokenizer_eos(tok) : mk_tokenizer_bos(tok);
    return eos ? c->eos_token_id : c->bos_token_id;
}

/* 0, or -1 when there is no such key. */
static int context_fact(const minke_context *ctx, int32_t key, int64_t *v)
{
    const struct mk_config *c = &ctx->config;
    const struct mk_weights *w = &ctx->weights;
    const uint64_t embed = w->part_bytes[MK_PART_EMBED] + w->part_bytes[MK_PART_HEAD];
    const uint64_t experts = w->part_bytes[MK_PART_GATE_UP] + w->part_bytes[MK_PART_DOWN];
    const uint64_t attention = w->part_bytes[MK_PART_ATTENTION];

    switch (key) {
    case MINKE_INFO_N_VOCAB: *v = c->vocab_size; return 0;
    case MINKE_INFO_N_LAYERS: *v = c->num_hidden_layers; return 0;
    case MINKE_INFO_MAX_TOKENS: *v = c->max_position_embeddings; return 0;
    case MINKE_INFO_TOKEN_BOS: *v = context_special(ctx, 0); return 0;
    case MINKE_INFO_TOKEN_EOS: *v = context_special(ctx, 1); return 0;
    case MINKE_INFO_WEIGHT_BYTES: *v = (int64_t)w->bytes; return 0;
    case MINKE_INFO_N_DENSE_LAYERS: *v = context_dense_layers(c); return 0;
    case MINKE_INFO_N_MTP_LAYERS: *v = w->mtp != NULL; return 0;
    case MINKE_INFO_HIDDEN_SIZE: *v = c->hidden_size; return 0;
    case MINKE_INFO_N_HEADS: *v = c->num_attention_heads; return 0;
    case MINKE_INFO_KV_LORA_RANK: *v = c->kv_lora_rank; return 0;
    case MINKE_INFO_ROPE_HEAD_DIM: *v = c->qk_rope_head_dim; return 0;
    case MINKE_INFO_N_EXPERTS: *v = c->n_routed_experts; return 0;
    case MINKE_INFO_N_EXPERTS_USED: *v = c->num_experts_per_tok; return 0;
    case MINKE_INFO_N_SHARED_EXPERTS: *v = c->n_shared_experts; return 0;
    case MINKE_INFO_INDEX_TOPK: *v = c->index_topk; return 0;
    case MINKE_INFO_INDEX_N_HEADS: *v = c->index_n_heads; return 0;
    case MINKE_INFO_INDEX_HEAD_DIM: *v = c->index_head_dim; return 0;
    case MINKE_INFO_N_PARAMS: *v = (int64_t)w->n_params; return 0;
    case MINKE_INFO_N_PARAMS_ACTIVE: *v = (int64_t)w->n_params_active; return 0;
    case MINKE_INFO_N_SURPLUS: *v = (int64_t)w->n_surplus; return 0;
    case MINKE_INFO_N_THREADS: *v = ctx->pool != NULL ? mk_pool_threads(ctx->pool) : 1; return 0;
    case MINKE_INFO_N_TOKENS:
        *v = ctx->tokenizer != NULL ? (int64_t)mk_tokenizer_size(ctx->tokenizer) : 0;
        return 0;
    case MINKE_INFO_BYTES_EMBED: *v = (int64_t)embed; return 0;
    case MINKE_INFO_BYTES_ATTENTION: *v = (int64_t)attention; return 0;
    case MINKE_INFO_BYTES_EXPERTS: *v = (int64_t)experts; return 0;
    case MINKE_INFO_BYTES_OTHER: *v = (int64_t)(w->bytes - embed - attention - experts); return 0;
    case MINKE_INFO_BYTES_DECODE: *v = (int64_t)w->decode_bytes; return 0;
    default: return -1;
    }
}

int32_t minke_context_info(const minke_context *ctx, int32_t key, int64_t *value)
{
    const int32_t rc = mk_context_check(ctx);
    int64_t v = 0;

    if (rc < 0)
        return rc;
    if (value == NULL)
        return mk_fail(MINKE_EINVAL, "value is NULL");
    if (context_fact(ctx, key, &v) != 0)
        return mk_fail(MINKE_EVERSION, "info key %d is unknown", key);
    *value = v;
    return MINKE_OK;
}

/* NULL when there is no such key. */
static const char *context_text(const minke_context *ctx, int32_t key)
{
    const struct mk_tokenizer *tok = ctx->tokenizer;
    const struct mk_weights *w = &ctx->weights;

    switch (key) {
    case MINKE_TEXT_MODEL_TYPE: return ctx->config.model_type;
    case MINKE_TEXT_TOKENIZER: return tok != NULL ? mk_tokenizer_kind(tok) : "";
    case MINKE_TEXT_CPU:
        return mk_cpu_name(ctx->pool != NULL ? ctx->kernels.features : mk_cpu_features());
    case MINKE_TEXT_WEIGHT_TYPE: return w->bytes > 0 ? mk_type_info(w->main_type)->name : "";
    case MINKE_TEXT_TOKENIZER_ERROR: return ctx->tokenizer_error;
    case MINKE_TEXT_IDENTITY: return ctx->identity_text;
    case MINKE_TEXT_SLOW_TYPES: return ctx->slow_types;
    default: return NULL;
    }
}

int32_t minke_context_text(const minke_context *ctx, int32_t key, const char **text)
{
    const int32_t rc = mk_context_check(ctx);
    const char *found;

    if (rc < 0)
        return rc;
    if (text == NULL)
        return mk_fail(MINKE_EINVAL, "text is NULL");
    found = context_text(ctx, key);
    if (found == NULL)
        return mk_fail(MINKE_EVERSION, "text key %d is unknown", key);
    *text = found;
    return MINKE_OK;
}

const char *minke_context_surplus(const minke_context *ctx, size_t i)
{
    return ctx != NULL && i < ctx->weights.n_surplus ? ctx->weights.surplus[i] : NULL;
}
