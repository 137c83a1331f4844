/* Metadata of a converted file: another GGUF file's, or made from config.json and the
 * tokenizer's files.  Keys: llama.cpp's conversion/deepseek.py. */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "convert/quantize.h"
#include "text/tokenizer.h"

/* ---- From another GGUF file ---------------------------------------------------------------- */

static int qmeta_keeps(const char *key)
{
    return strncmp(key, "split.", 6) != 0 && strcmp(key, "general.file_type") != 0
        && strcmp(key, "general.quantization_version") != 0
        && strcmp(key, "general.alignment") != 0;
}

static void qmeta_copy(struct mk_gguf_writer *w, const struct mk_gguf *g)
{
    const struct mk_gguf_value *arch = mk_gguf_find(g, "general.architecture");

    mk_gguf_put_value(w, arch);
    for (size_t i = 0; i < g->n_values; i++)
        if (&g->values[i] != arch && qmeta_keeps(g->values[i].key.data))
            mk_gguf_put_value(w, &g->values[i]);
}

/* ---- From config.json ---------------------------------------------------------------------- */

/* Keys of one architecture. */
struct qmeta {
    struct mk_gguf_writer *w;
    const char *arch;
};

static void qmeta_u32(const struct qmeta *m, const char *suffix, uint32_t v)
{
    char key[96];

    mk_format(key, sizeof(key), "%s.%s", m->arch, suffix);
    mk_gguf_put_u32(m->w, key, v);
}

static void qmeta_f32(const struct qmeta *m, const char *suffix, double v)
{
    char key[96];

    mk_format(key, sizeof(key), "%s.%s", m->arch, suffix);
    mk_gguf_put_f32(m->w, key, (float)v);
}

static void qmeta_shape(const struct qmeta *m, const struct mk_config *c)
{
    qmeta_u32(m, "block_count", c->num_hidden_layers + c->num_nextn_predict_layers);
    if (c->num_nextn_predict_layers > 0)
        qmeta_u32(m, "nextn_predict_layers", c->num_nextn_predict_layers);
    qmeta_u32(m, "context_length", c->max_position_embeddings);
    qmeta_u32(m, "embedding_length", c->hidden_size);
    qmeta_u32(m, "feed_forward_length", c->intermediate_size);
    qmeta_u32(m, "vocab_size", c->vocab_size);
    qmeta_u32(m, "attention.head_count", c->num_attention_heads);
    qmeta_u32(m, "attention.head_count_kv", 1);    /* the latent is shared by all heads */
    qmeta_f32(m, "attention.layer_norm_rms_epsilon", c->rms_norm_eps);
    qmeta_u32(m, "attention.q_lora_rank", c->q_lora_rank);
    qmeta_u32(m, "attention.kv_lora_rank", c->kv_lora_rank);
    qmeta_u32(m, "attention.key_length", c->kv_lora_rank + c->qk_rope_head_dim);
    qmeta_u32(m, "attention.value_length", c->kv_lora_rank);
    qmeta_u32(m, "attention.key_length_mla", c->qk_nope_head_dim + c->qk_rope_head_dim);
    qmeta_u32(m, "attention.value_length_mla", c->v_head_dim);
    if (c->index_topk > 0) {
        qmeta_u32(m, "attention.indexer.head_count", c->index_n_heads);
        qmeta_u32(m, "attention.indexer.key_length", c->index_head_dim);
        qmeta_u32(m, "attention.indexer.top_k", c->index_topk);
    }
}

static void qmeta_experts(const struct qmeta *m, const struct mk_config *c)
{
    char key[96];

    qmeta_u32(m, "leading_dense_block_count", c->n_routed_experts == 0 ? c->num_hidden_layers
                                                                       : c->first_k_dense_replace);
    qmeta_u32(m, "expert_shared_count", c->n_shared_experts);
    qmeta_u32(m, "expert_feed_forward_length",
              c->n_routed_experts == 0 ? c->intermediate_size : c->moe_intermediate_size);
    if (c->n_routed_experts == 0)
        return;
    qmeta_u32(m, "expert_count", c->n_routed_experts);
    qmeta_u32(m, "expert_used_count", c->num_experts_per_tok);
    qmeta_f32(m, "expert_weights_scale", c->routed_scaling_factor);
    mk_format(key, sizeof(key), "%s.expert_weights_norm", m->arch);
    mk_gguf_put_bool(m->w, key, c->norm_topk_prob);
    qmeta_u32(m, "expert_gating_func", c->scoring_func == MK_SCORING_SIGMOID ? 2 : 1);
    if (c->n_group > 1 && c->topk_method != MK_TOPK_GREEDY) {
        qmeta_u32(m, "expert_group_count", c->n_group);
        qmeta_u32(m, "expert_group_used_count", c->topk_group);
    }
}

static void qmeta_rope(const struct qmeta *m, const struct mk_config *c)
{
    char key[96];

    qmeta_u32(m, "rope.dimension_count", c->qk_rope_head_dim);
    qmeta_f32(m, "rope.freq_base", c->rope_theta);
    if (!c->rope_yarn)
        return;
    mk_format(key, sizeof(key), "%s.rope.scaling.type", m->arch);
    mk_gguf_put_string(m->w, key, "yarn", 4);
    qmeta_f32(m, "rope.scaling.factor", c->rope_factor);
    qmeta_u32(m, "rope.scaling.original_context_length",
              c->rope_original_max_position_embeddings);
    qmeta_f32(m, "rope.scaling.yarn_beta_fast", c->rope_beta_fast);
    qmeta_f32(m, "rope.scaling.yarn_beta_slow", c->rope_beta_slow);
    if (c->rope_mscale_all_dim > 0.0)
        qmeta_f32(m, "rope.scaling.yarn_log_multiplier", 0.1 * c->rope_mscale_all_dim);
}

/* ---- The tokenizer ------------------------------------------------------------------------- */

/* Ids that have no token are named so that no two are alike. */
static int32_t qmeta_put_tokens(struct mk_gguf_writer *w, const struct mk_vocabulary *v,
                                struct mk_arena *arena, size_t n)
{
    struct mk_view *tokens = mk_arena_alloc(arena, n, sizeof(*tokens));
    int32_t *types = mk_arena_alloc(arena, n, sizeof(*types));

    if (tokens == NULL || types == NULL)
        return MINKE_ENOMEM;
    if (v->n_tokens > n)
        return mk_fail(MINKE_EFORMAT, "tokenizer.json: %zu tokens for a vocabulary of %zu",
                       v->n_tokens, n);
    for (size_t i = 0; i < n; i++) {
        const int is_there = i < v->n_tokens && v->types[i] != MK_TOKEN_UNUSED;
        char name[32];

        types[i] = is_there ? v->types[i] : MK_TOKEN_UNUSED;
        if (is_there) {
            tokens[i] = v->tokens[i];
            continue;
        }
        tokens[i].len = mk_format(name, sizeof(name), "[PAD%zu]", i);
        tokens[i].data = mk_arena_text(arena, name, tokens[i].len);
        if (tokens[i].data == NULL)
            return MINKE_ENOMEM;
    }
    mk_gguf_put_string_array(w, "tokenizer.ggml.tokens", tokens, n);
    mk_gguf_put_i32_array(w, "tokenizer.ggml.token_type", types, n);
    mk_gguf_put_string_array(w, "tokenizer.ggml.merges", v->merges, v->n_merges);
    return MINKE_OK;
}

/* Whether text begins with BOS, where tokenizer_config.json says it. */
static int32_t qmeta_put_add_bos(struct mk_gguf_writer *w, struct mk_arena *arena,
                                 struct mk_view config)
{
    const struct mk_json *root = NULL, *add;
    int32_t rc = MINKE_OK;

    if (config.data != NULL)
        rc = mk_json_parse(&root, arena, config.data, config.len, "tokenizer_config.json");
    add = mk_json_get(root, "add_bos_token");
    if (add != NULL && (add->type == MK_JSON_TRUE || add->type == MK_JSON_FALSE))
        mk_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", add->type == MK_JSON_TRUE);
    return rc;
}

static int32_t qmeta_put_tokenizer(struct mk_gguf_writer *w, struct mk_checkpoint *c,
                                   const struct mk_tokenizer *tok, struct mk_vocabulary *v)
{
    const struct mk_view chat = mk_tokenizer_template(tok);
    const char *kind = mk_tokenizer_kind(tok);
    int32_t rc = mk_vocabulary_list(v, &c->arena);

    mk_gguf_put_string(w, "tokenizer.ggml.model", "gpt2", 4);
    mk_gguf_put_string(w, "tokenizer.ggml.pre", kind, strlen(kind));
    if (rc == MINKE_OK)
        rc = qmeta_put_tokens(w, v, &c->arena, c->config.vocab_size);
    if (mk_tokenizer_bos(tok) >= 0)
        mk_gguf_put_u32(w, "tokenizer.ggml.bos_token_id", (uint32_t)mk_tokenizer_bos(tok));
    if (mk_tokenizer_eos(tok) >= 0)
        mk_gguf_put_u32(w, "tokenizer.ggml.eos_token_id", (uint32_t)mk_tokenizer_eos(tok));
    if (rc == MINKE_OK)
        rc = qmeta_put_add_bos(w, &c->arena, v->config);
    if (chat.data != NULL)
        mk_gguf_put_string(w, "tokenizer.chat_template", chat.data, chat.len);
    return rc;
}

/* A folder without tokenizer gives a file without; so does one of another family, which the log
 * says. */
static int32_t qmeta_tokenizer(struct mk_gguf_writer *w, struct mk_checkpoint *c)
{
    struct mk_tokenizer *tok = NULL;
    struct mk_vocabulary v;
    char before[512];
    int32_t rc = mk_checkpoint_vocabulary(c, &v);

    mk_format(before, sizeof(before), "%s", minke_last_error());
    if (rc == MINKE_OK && v.json.data != NULL)
        rc = mk_tokenizer_open(&tok, c->env, &v);
    if (rc == MINKE_EUNSUPPORTED) {
        mk_log(c->env, MINKE_LOG_WARN, "no tokenizer is written: %s", minke_last_error());
        rc = mk_fail(MINKE_OK, "%s", before);   /* a call that succeeds leaves no message */
    }
    if (tok != NULL)
        rc = qmeta_put_tokenizer(w, c, tok, &v);
    else if (rc == MINKE_OK)
        mk_gguf_put_string(w, "tokenizer.ggml.model", "no_vocab", 8);
    mk_tokenizer_free(tok);
    return rc;
}

int32_t mk_q_metadata(struct mk_gguf_writer *w, struct mk_checkpoint *c, uint32_t file_type)
{
    const struct mk_config *config = &c->config;
    const struct qmeta m = {w, config->index_topk > 0 ? "deepseek32" : "deepseek2"};
    int32_t rc = MINKE_OK;

    if (c->is_gguf) {
        qmeta_copy(w, &c->gguf);
    } else {
        mk_gguf_put_string(w, "general.architecture", m.arch, strlen(m.arch));
        mk_gguf_put_string(w, "general.name", config->model_type, strlen(config->model_type));
        qmeta_shape(&m, config);
        qmeta_experts(&m, config);
        qmeta_rope(&m, config);
        rc = qmeta_tokenizer(w, c);
    }
    mk_gguf_put_u32(w, "general.quantization_version", 2);
    mk_gguf_put_u32(w, "general.file_type", file_type);
    return rc;
}
