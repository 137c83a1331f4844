/* Open, free, facts: what ties the rooms together. */
#include <string.h>

#include "base/cpu.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/params.h"
#include "format/gguf_names.h"
#include "model/handle.h"
#include "model/identity.h"
#include "kernels/matmul.h"
#include "kernels/onednn.h"
#include "text/tokenizer.h"
#include "text/tokenizer_gguf.h"

#define CONTEXT_MAX_THREADS 1024u
#define CONTEXT_MAX_CONFIG  ((uint64_t)16 << 20)     /* bytes of config.json */
#define CONTEXT_MAX_TOKENIZER ((uint64_t)256 << 20)  /* bytes of tokenizer.json */
#define CONTEXT_FLAGS                                                                    \
    (MINKE_CONTEXT_MMAP | MINKE_CONTEXT_VERIFY | MINKE_CONTEXT_STRICT                    \
     | MINKE_CONTEXT_TOKENIZER_ONLY | MINKE_CONTEXT_DETERMINISTIC                   \
     | MINKE_CONTEXT_FAST)

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

/* A file of the model's directory; *data NULL when it is not there. */
static int32_t context_load(char **data, size_t *size, const struct mk_env *env,
                            const char *dir, const char *name, uint64_t limit)
{
    char *path = mk_path_join(&env->alloc, dir, name);
    const int32_t rc = path == NULL ? MINKE_ENOMEM
                                    : mk_file_load(data, size, env, path, limit);

    mk_free(&env->alloc, path);
    return rc;
}

static int32_t context_read_config(minke_context *ctx, const char *dir)
{
    const struct mk_env *env = &ctx->env;
    const struct mk_json *json = NULL;
    struct mk_arena arena;
    char *text = NULL;
    size_t len = 0;
    int32_t rc = context_load(&text, &len, env, dir, "config.json", CONTEXT_MAX_CONFIG);

    if (rc == MINKE_OK && text == NULL)
        rc = mk_fail(MINKE_EIO, "%s/config.json: no such file", dir);
    if (rc < 0)
        return rc;
    mk_arena_init(&arena, &env->alloc);
    rc = mk_json_parse(&json, &arena, text, len, "config.json");
    if (rc == MINKE_OK)
        rc = mk_config_read(&ctx->config, json);
    mk_arena_free(&arena);
    mk_free(&env->alloc, text);
    return rc;
}

static int32_t context_read_tokenizer(minke_context *ctx, const char *dir,
                                      const struct mk_gguf *gguf)
{
    const struct mk_env *env = &ctx->env;
    const struct mk_config *c = &ctx->config;
    char *json = NULL, *config = NULL, *chat = NULL;
    size_t json_len = 0, config_len = 0, chat_len = 0;
    int32_t rc;

    if (gguf != NULL)
        return mk_tokenizer_open_gguf(&ctx->tokenizer, env, gguf);
    rc = context_load(&json, &json_len, env, dir, "tokenizer.json",
                      CONTEXT_MAX_TOKENIZER);
    if (rc == MINKE_OK && json == NULL)
        rc = mk_fail(ctx->flags & MINKE_CONTEXT_TOKENIZER_ONLY ? MINKE_EIO
                                                                    : MINKE_EUNSUPPORTED,
                     "%s/tokenizer.json: no such file", dir);
    if (rc == MINKE_OK)
        rc = context_load(&config, &config_len, env, dir, "tokenizer_config.json",
                          CONTEXT_MAX_CONFIG);
    if (rc == MINKE_OK)
        rc = mk_tokenizer_open(&ctx->tokenizer, env, json, json_len, config, config_len,
                               c->bos_token_id, c->eos_token_id);
    /* Where the template has a file of its own, that is the one that counts. */
    if (rc == MINKE_OK)
        rc = context_load(&chat, &chat_len, env, dir, "chat_template.jinja",
                          CONTEXT_MAX_CONFIG);
    if (rc == MINKE_OK && chat != NULL)
        rc = mk_tokenizer_set_template(ctx->tokenizer, (struct mk_view){chat, chat_len});
    mk_free(&env->alloc, chat);
    mk_free(&env->alloc, config);
    mk_free(&env->alloc, json);
    return rc;
}

/* With a model, a tokenizer that is missing or none of ours only silences text functions. */
static int32_t context_open_tokenizer(minke_context *ctx, const char *dir,
                                      const struct mk_gguf *gguf)
{
    const int alone = (ctx->flags & MINKE_CONTEXT_TOKENIZER_ONLY) != 0;
    char before[sizeof(ctx->tokenizer_error)];

    mk_format(before, sizeof(before), "%s", minke_last_error());
    const int32_t rc = context_read_tokenizer(ctx, dir, gguf);

    if (rc != MINKE_EUNSUPPORTED || alone)
        return rc;
    mk_format(ctx->tokenizer_error, sizeof(ctx->tokenizer_error), "%s", minke_last_error());
    mk_log(&ctx->env, MINKE_LOG_WARN, "no tokenizer: %s", ctx->tokenizer_error);
    return mk_fail(MINKE_OK, "%s", before);   /* a call that succeeds leaves no message */
}

static int32_t context_load_gguf(minke_context *ctx, struct mk_gguf *gguf,
                                 const struct mk_load_options *options)
{
    struct mk_source source;
    int32_t rc = mk_gguf_source_open(&source, &ctx->env, gguf, &ctx->config);

    if (rc < 0)
        return rc;
    rc = mk_weights_bind(&ctx->weights, &ctx->env, &ctx->config, &source, options);
    source.free(source.self);
    return rc;
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

/* gguf: the open file, or NULL for a directory. */
static int32_t context_open_model(minke_context *ctx, const char *dir, struct mk_gguf *gguf,
                                  const minke_context_params *p)
{
    struct mk_load_options options = {
        .flags = p->flags,
        .progress = p->progress,
        .progress_user = p->progress_user,
        .kernels = &ctx->kernels,
    };
    int32_t rc = gguf != NULL ? mk_gguf_config(&ctx->config, gguf)
                              : context_read_config(ctx, dir);

    if (rc == MINKE_OK)
        rc = context_open_tokenizer(ctx, dir, gguf);
    if (rc == MINKE_OK)
        rc = mk_pool_open(&ctx->pool, &ctx->env.alloc,
                          p->n_threads > 0 ? p->n_threads : mk_cpu_threads(), p->executor,
                          p->executor_user);
    if (rc < 0)
        return rc;
    mk_kernels_init(&ctx->kernels, mk_cpu_features());
    if ((p->flags & (MINKE_CONTEXT_FAST | MINKE_CONTEXT_DETERMINISTIC)) == MINKE_CONTEXT_FAST)
        rc = mk_onednn_open(&ctx->onednn, &ctx->env.alloc, ctx->kernels.features, 0);
    if (rc < 0)
        return rc;
    mk_rope_init(&ctx->rope, &ctx->config);
    options.pool = ctx->pool;
    rc = gguf != NULL ? context_load_gguf(ctx, gguf, &options)
                      : mk_weights_load(&ctx->weights, &ctx->env, &ctx->config, dir, &options);
    if (rc == MINKE_OK)
        rc = context_identify(ctx);
    context_list_slow(ctx);
    if (rc == MINKE_OK)
        mk_log(&ctx->env, MINKE_LOG_INFO, "%s: %s, %llu parameters, %llu bytes, %u threads", dir,
               ctx->config.model_type, (unsigned long long)ctx->weights.n_params,
               (unsigned long long)ctx->weights.bytes, mk_pool_threads(ctx->pool));
    return rc;
}

static int32_t context_open(minke_context **out, const char *path,
                            const minke_context_params *p)
{
    const struct mk_env env = context_env(p);
    struct mk_gguf file = {0}, *gguf = NULL;
    minke_context *ctx;
    int32_t rc;

    if (mk_gguf_is_path(path)) {
        gguf = &file;
        rc = mk_gguf_open(gguf, &env, path);
        if (rc < 0)
            return rc;
    } else if (!mk_path_is_dir(&env, path)) {
        return mk_fail(MINKE_EIO, "%s: no directory, nor a file named .gguf", path);
    }
    ctx = mk_alloc(&env.alloc, 1, sizeof(*ctx));
    if (ctx == NULL) {
        mk_gguf_close(&file);
        return MINKE_ENOMEM;
    }
    ctx->env = env;
    ctx->flags = p->flags;
    ctx->process_id = mk_process_id();
    ctx->refs = 1;
    ctx->tokenizer_free = mk_tokenizer_free;
    ctx->config.bos_token_id = ctx->config.eos_token_id = -1;
    rc = p->flags & MINKE_CONTEXT_TOKENIZER_ONLY
           ? context_open_tokenizer(ctx, path, gguf) : context_open_model(ctx, path, gguf, p);
    mk_gguf_close(&file);
    if (rc < 0) {
        mk_context_unref(ctx);
        return rc;
    }
    *out = ctx;
    return MINKE_OK;
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
    case MINKE_INFO_BYTES_EMBED: *v = (int64_t)w->part_bytes[MK_PART_EMBED]; return 0;
    case MINKE_INFO_BYTES_ATTENTION: *v = (int64_t)w->part_bytes[MK_PART_ATTENTION]; return 0;
    case MINKE_INFO_BYTES_EXPERTS: *v = (int64_t)w->part_bytes[MK_PART_EXPERTS]; return 0;
    case MINKE_INFO_BYTES_OTHER: *v = (int64_t)w->part_bytes[MK_PART_OTHER]; return 0;
    case MINKE_INFO_BYTES_DECODE: *v = (int64_t)mk_weights_decode_bytes(w, c); return 0;
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

int32_t minke_context_text(const minke_context *ctx, int32_t key, const char **text)
{
    const int32_t rc = mk_context_check(ctx);
    const struct mk_tokenizer *tok;

    if (rc < 0)
        return rc;
    if (text == NULL)
        return mk_fail(MINKE_EINVAL, "text is NULL");
    tok = ctx->tokenizer;
    switch (key) {
    case MINKE_TEXT_MODEL_TYPE:
        *text = ctx->config.model_type;
        return MINKE_OK;
    case MINKE_TEXT_TOKENIZER:
        *text = tok != NULL ? mk_tokenizer_kind(tok) : "";
        return MINKE_OK;
    case MINKE_TEXT_CPU:
        *text = mk_cpu_name(ctx->pool != NULL ? ctx->kernels.features
                                                    : mk_cpu_features());
        return MINKE_OK;
    case MINKE_TEXT_WEIGHT_TYPE:
        *text = ctx->weights.bytes > 0 ? mk_type_info(ctx->weights.main_type)->name
                                             : "";
        return MINKE_OK;
    case MINKE_TEXT_TOKENIZER_ERROR:
        *text = ctx->tokenizer_error;
        return MINKE_OK;
    case MINKE_TEXT_IDENTITY:
        *text = ctx->identity_text;
        return MINKE_OK;
    case MINKE_TEXT_SLOW_TYPES:
        *text = ctx->slow_types;
        return MINKE_OK;
    default:
        return mk_fail(MINKE_EVERSION, "text key %d is unknown", key);
    }
}

const char *minke_context_surplus(const minke_context *ctx, size_t i)
{
    return ctx != NULL && i < ctx->weights.n_surplus ? ctx->weights.surplus[i]
                                                           : NULL;
}
