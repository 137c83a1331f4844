/* Metadata of a converted file: another GGUF file's, or made from config.json and the
 * tokenizer's files.  Keys: llama.cpp's conversion/deepseek.py. */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "convert/quantize.h"
#include "text/tokenizer.h"

#define QMETA_MAX_JSON 100000000u

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

/* tokenizer.json, tokenizer_config.json and chat_template.jinja, each NULL when absent. */
struct qmeta_files {
    const struct mk_allocator *alloc;
    struct mk_arena arena;
    char *json, *config, *chat;
    size_t json_len, config_len, chat_len;
    const struct mk_json *root, *config_root;
    struct mk_view *tokens;  /* (n,) */
    int32_t *types;
    struct mk_view *merges;
    size_t n, n_merges;
};

static int32_t qmeta_load(char **data, size_t *len, const struct mk_env *env, const char *dir,
                          const char *name)
{
    char *path = mk_path_join(&env->alloc, dir, name);
    const int32_t rc = path == NULL ? MINKE_ENOMEM
                     : mk_file_load(data, len, env, path, QMETA_MAX_JSON);

    mk_free(&env->alloc, path);
    return rc;
}

/* Token id of a vocabulary entry or added token; -1 when out of range. */
static int64_t qmeta_id(const struct qmeta_files *f, const struct mk_json *v)
{
    int64_t id;

    return mk_json_int(v, &id) == 0 && id >= 0 && (uint64_t)id < f->n ? id : -1;
}

/* Ids without a token are named so that no two are alike. */
static int32_t qmeta_fill_gaps(struct qmeta_files *f)
{
    for (size_t i = 0; i < f->n; i++) {
        char name[32];
        if (f->tokens[i].data != NULL)
            continue;
        f->tokens[i].len = mk_format(name, sizeof(name), "[PAD%zu]", i);
        f->tokens[i].data = mk_arena_text(&f->arena, name, f->tokens[i].len);
        f->types[i] = MK_TOKEN_UNUSED;
        if (f->tokens[i].data == NULL)
            return MINKE_ENOMEM;
    }
    return MINKE_OK;
}

static int32_t qmeta_tokens(struct qmeta_files *f)
{
    const struct mk_json *vocab = mk_json_get(mk_json_get(f->root, "model"), "vocab");
    const struct mk_json *added = mk_json_get(f->root, "added_tokens");

    f->tokens = mk_arena_alloc(&f->arena, f->n, sizeof(*f->tokens));
    f->types = mk_arena_alloc(&f->arena, f->n, sizeof(*f->types));
    if (f->tokens == NULL || f->types == NULL)
        return MINKE_ENOMEM;
    for (const struct mk_json *v = vocab == NULL ? NULL : vocab->first; v != NULL; v = v->next) {
        const int64_t id = qmeta_id(f, v);
        if (id < 0)
            return mk_fail(MINKE_EFORMAT, "tokenizer.json: token %s: id out of range", v->key.data);
        f->tokens[id].data = v->key.data;
        f->tokens[id].len = v->key.len;
        f->types[id] = MK_TOKEN_NORMAL;
    }
    for (const struct mk_json *v = added == NULL ? NULL : added->first; v != NULL; v = v->next) {
        const struct mk_json *content = mk_json_get(v, "content");
        const struct mk_json *special = mk_json_get(v, "special");
        const int64_t id = qmeta_id(f, mk_json_get(v, "id"));
        if (id < 0 || content == NULL || content->type != MK_JSON_STRING)
            return mk_fail(MINKE_EFORMAT, "tokenizer.json: added token without id and content");
        f->tokens[id].data = content->text.data;
        f->tokens[id].len = content->text.len;
        f->types[id] = special != NULL && special->type == MK_JSON_TRUE ? MK_TOKEN_CONTROL
                                                                        : MK_TOKEN_USER;
    }
    return qmeta_fill_gaps(f);
}

/* Merges are "left right", or pairs. */
static int32_t qmeta_merges(struct qmeta_files *f)
{
    const struct mk_json *list = mk_json_get(mk_json_get(f->root, "model"), "merges");

    f->merges = mk_arena_alloc(&f->arena, list == NULL ? 0 : list->n_items, sizeof(*f->merges));
    if (f->merges == NULL)
        return MINKE_ENOMEM;
    for (const struct mk_json *v = list == NULL ? NULL : list->first; v != NULL; v = v->next) {
        struct mk_view *m = &f->merges[f->n_merges++];
        m->data = v->text.data;
        m->len = v->text.len;
        if (v->type == MK_JSON_STRING)
            continue;
        if (v->type != MK_JSON_ARRAY || v->n_items != 2 || v->first->type != MK_JSON_STRING
            || v->first->next->type != MK_JSON_STRING)
            return mk_fail(MINKE_EFORMAT, "tokenizer.json: merge %zu: no pair", f->n_merges - 1);
        const struct mk_json *left = v->first, *right = left->next;
        char *text = mk_arena_alloc(&f->arena, left->text.len + right->text.len + 2, 1);
        if (text == NULL)
            return MINKE_ENOMEM;
        memcpy(text, left->text.data, left->text.len);
        text[left->text.len] = ' ';
        memcpy(text + left->text.len + 1, right->text.data, right->text.len);
        m->data = text;
        m->len = left->text.len + 1 + right->text.len;
    }
    return MINKE_OK;
}

static void qmeta_put_tokenizer(struct mk_gguf_writer *w, const struct qmeta_files *f,
                                const struct mk_tokenizer *tok)
{
    const struct mk_json *add_bos = mk_json_get(f->config_root, "add_bos_token");
    const struct mk_view chat = mk_tokenizer_template(tok);
    const char *kind = mk_tokenizer_kind(tok);

    mk_gguf_put_string(w, "tokenizer.ggml.model", "gpt2", 4);
    mk_gguf_put_string(w, "tokenizer.ggml.pre", kind, strlen(kind));
    mk_gguf_put_string_array(w, "tokenizer.ggml.tokens", f->tokens, f->n);
    mk_gguf_put_i32_array(w, "tokenizer.ggml.token_type", f->types, f->n);
    mk_gguf_put_string_array(w, "tokenizer.ggml.merges", f->merges, f->n_merges);
    if (mk_tokenizer_bos(tok) >= 0)
        mk_gguf_put_u32(w, "tokenizer.ggml.bos_token_id", (uint32_t)mk_tokenizer_bos(tok));
    if (mk_tokenizer_eos(tok) >= 0)
        mk_gguf_put_u32(w, "tokenizer.ggml.eos_token_id", (uint32_t)mk_tokenizer_eos(tok));
    if (add_bos != NULL && (add_bos->type == MK_JSON_TRUE || add_bos->type == MK_JSON_FALSE))
        mk_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", add_bos->type == MK_JSON_TRUE);
    if (chat.data != NULL)
        mk_gguf_put_string(w, "tokenizer.chat_template", chat.data, chat.len);
}

static int32_t qmeta_convert_tokenizer(struct mk_gguf_writer *w, struct qmeta_files *f,
                                       const struct mk_q_source *s)
{
    struct mk_tokenizer *tok = NULL;
    int32_t rc = mk_tokenizer_open(&tok, s->env, f->json, f->json_len, f->config,
                                   f->config_len, s->config.bos_token_id,
                                   s->config.eos_token_id);

    if (rc < 0)
        return rc;
    f->n = s->config.vocab_size;
    if (f->chat != NULL)                    /* a file of its own is the one that counts */
        rc = mk_tokenizer_set_template(tok, (struct mk_view){f->chat, f->chat_len});
    if (rc == MINKE_OK)
        rc = mk_json_parse(&f->root, &f->arena, f->json, f->json_len, "tokenizer.json");
    if (rc == MINKE_OK && f->config != NULL)
        rc = mk_json_parse(&f->config_root, &f->arena, f->config, f->config_len,
                           "tokenizer_config.json");
    if (rc == MINKE_OK)
        rc = qmeta_tokens(f);
    if (rc == MINKE_OK)
        rc = qmeta_merges(f);
    if (rc == MINKE_OK)
        qmeta_put_tokenizer(w, f, tok);
    mk_tokenizer_free(tok);
    return rc;
}

/* A directory without tokenizer gives a file without; so does one of another family, which
 * the log says. */
static int32_t qmeta_tokenizer(struct mk_gguf_writer *w, const struct mk_q_source *s,
                               const char *dir)
{
    struct qmeta_files f = {.alloc = &s->env->alloc};
    char before[512];
    int32_t rc;

    mk_format(before, sizeof(before), "%s", minke_last_error());
    mk_arena_init(&f.arena, f.alloc);
    rc = qmeta_load(&f.json, &f.json_len, s->env, dir, "tokenizer.json");
    if (rc == MINKE_OK)
        rc = qmeta_load(&f.config, &f.config_len, s->env, dir, "tokenizer_config.json");
    if (rc == MINKE_OK)
        rc = qmeta_load(&f.chat, &f.chat_len, s->env, dir, "chat_template.jinja");
    if (rc == MINKE_OK && f.json != NULL)
        rc = qmeta_convert_tokenizer(w, &f, s);
    if (rc == MINKE_EUNSUPPORTED) {
        mk_log(s->env, MINKE_LOG_WARN, "no tokenizer is written: %s", minke_last_error());
        mk_fail(rc, "%s", before);   /* a call that succeeds leaves no message */
    }
    if (rc == MINKE_EUNSUPPORTED || (rc == MINKE_OK && f.json == NULL)) {
        mk_gguf_put_string(w, "tokenizer.ggml.model", "no_vocab", 8);
        rc = MINKE_OK;
    }
    mk_free(f.alloc, f.json);
    mk_free(f.alloc, f.config);
    mk_free(f.alloc, f.chat);
    mk_arena_free(&f.arena);
    return rc;
}

int32_t mk_q_metadata(struct mk_gguf_writer *w, const struct mk_q_source *s, const char *path,
                      uint32_t file_type)
{
    struct qmeta m = {w, s->config.index_topk > 0 ? "deepseek32" : "deepseek2"};
    int32_t rc = MINKE_OK;

    if (s->is_gguf) {
        qmeta_copy(w, &s->gguf);
    } else {
        mk_gguf_put_string(w, "general.architecture", m.arch, strlen(m.arch));
        mk_gguf_put_string(w, "general.name", s->config.model_type,
                           strlen(s->config.model_type));
        qmeta_shape(&m, &s->config);
        qmeta_experts(&m, &s->config);
        qmeta_rope(&m, &s->config);
        rc = qmeta_tokenizer(w, s, path);
    }
    mk_gguf_put_u32(w, "general.quantization_version", 2);
    mk_gguf_put_u32(w, "general.file_type", file_type);
    return rc;
}
