/* A model's description from GGUF metadata.  Reference: llama.cpp's conversion/deepseek.py and
 * src/models/deepseek2.cpp, deepseek32.cpp. */
#include <string.h>

#include "base/error.h"
#include "format/gguf.h"

/* Metadata of one architecture: keys are "arch.suffix". */
struct gguf_meta {
    const struct mk_gguf *g;
    const char *arch;
    int32_t rc;             /* the first failure; later reads do nothing */
};

static const struct mk_gguf_value *meta_find(const struct gguf_meta *m, char *key, size_t size,
                                             const char *suffix)
{
    mk_format(key, size, "%s.%s", m->arch, suffix);
    return mk_gguf_find(m->g, key);
}

/* A count in [0, 2^31), also when it is given per layer and the same for all.  fallback < 0:
 * must be there. */
static uint32_t meta_count(struct gguf_meta *m, const char *suffix, int64_t fallback)
{
    char key[96];
    const struct mk_gguf_value *v = meta_find(m, key, sizeof(key), suffix);
    int64_t first = fallback, other;

    if (m->rc < 0)
        return 0;
    if (v == NULL && fallback < 0) {
        m->rc = mk_fail(MINKE_EFORMAT, "%s: missing", key);
        return 0;
    }
    if (v == NULL)
        return (uint32_t)fallback;
    for (uint64_t i = 0; i < v->n || i == 0; i++) {
        if (mk_gguf_int(v, i, &other) < 0 || other < 0 || other > INT32_MAX) {
            m->rc = mk_fail(MINKE_EFORMAT, "%s: no number from 0 to 2147483647", key);
            return 0;
        }
        if (i > 0 && other != first) {
            m->rc = mk_fail(MINKE_EUNSUPPORTED, "%s: %lld and %lld; layers must be alike",
                                key, (long long)first, (long long)other);
            return 0;
        }
        first = other;
    }
    return (uint32_t)first;
}

static double meta_number(struct gguf_meta *m, const char *suffix, double fallback)
{
    char key[96];
    const struct mk_gguf_value *v = meta_find(m, key, sizeof(key), suffix);
    double number = fallback;

    if (m->rc == MINKE_OK && v != NULL && mk_gguf_double(v, 0, &number) < 0)
        m->rc = mk_fail(MINKE_EFORMAT, "%s: no number", key);
    return number;
}

static int meta_has(const struct gguf_meta *m, const char *suffix)
{
    char key[96];

    return meta_find(m, key, sizeof(key), suffix) != NULL;
}

static void meta_sizes(struct gguf_meta *m, struct mk_config *c)
{
    const struct mk_gguf_value *tokens = mk_gguf_find(m->g, "tokenizer.ggml.tokens");
    const int64_t n_tokens = tokens != NULL && tokens->n < INT32_MAX ? (int64_t)tokens->n : -1;
    const uint32_t rope = meta_count(m, "rope.dimension_count", -1);
    /* Files before the split of kv_b give the sizes of plain heads. */
    const int split = meta_has(m, "attention.key_length_mla");
    const uint32_t key = meta_count(m, split ? "attention.key_length_mla"
                                             : "attention.key_length", -1);
    const uint32_t value = meta_count(m, split ? "attention.value_length_mla"
                                               : "attention.value_length", -1);
    const uint32_t blocks = meta_count(m, "block_count", -1);
    const uint32_t nextn = meta_count(m, "nextn_predict_layers", 0);

    c->vocab_size = meta_count(m, "vocab_size", n_tokens);
    c->hidden_size = meta_count(m, "embedding_length", -1);
    c->num_nextn_predict_layers = nextn;
    c->num_attention_heads = meta_count(m, "attention.head_count", -1);
    c->q_lora_rank = meta_count(m, "attention.q_lora_rank", 0);
    c->kv_lora_rank = meta_count(m, "attention.kv_lora_rank", -1);
    c->qk_rope_head_dim = rope;
    c->v_head_dim = value;
    c->max_position_embeddings = meta_count(m, "context_length", -1);
    c->intermediate_size = meta_count(m, "feed_forward_length", -1);
    c->rms_norm_eps = meta_number(m, "attention.layer_norm_rms_epsilon", 1e-6);
    if (m->rc == MINKE_OK && (key <= rope || blocks <= nextn))
        m->rc = mk_fail(MINKE_EFORMAT, "%s: %u of %u blocks, %u of %u rotated", m->arch,
                            nextn, blocks, rope, key);
    c->qk_nope_head_dim = key - rope;
    c->num_hidden_layers = blocks - nextn;
}

static void meta_experts(struct gguf_meta *m, struct mk_config *c)
{
    const uint32_t gating = meta_count(m, "expert_gating_func", 0);
    const double scale = meta_number(m, "expert_weights_scale", 1.0);

    c->n_routed_experts = meta_count(m, "expert_count", 0);
    c->moe_layer_freq = 1;
    c->n_group = c->topk_group = 1;
    c->routed_scaling_factor = 1.0;
    c->first_k_dense_replace = meta_count(m, "leading_dense_block_count", 0);
    if (c->n_routed_experts == 0)
        return;
    c->moe_intermediate_size = meta_count(m, "expert_feed_forward_length", -1);
    c->n_shared_experts = meta_count(m, "expert_shared_count", 0);
    c->num_experts_per_tok = meta_count(m, "expert_used_count", -1);
    c->n_group = meta_count(m, "expert_group_count", 1);
    c->topk_group = meta_count(m, "expert_group_used_count", 1);
    c->n_group = c->n_group == 0 ? 1 : c->n_group;
    c->topk_group = c->topk_group == 0 ? 1 : c->topk_group;
    c->norm_topk_prob = meta_count(m, "expert_weights_norm", 0) != 0;
    c->routed_scaling_factor = scale == 0.0 ? 1.0 : scale;
    /* Files older than the key are V2's. */
    if (m->rc == MINKE_OK && gating > 2)
        m->rc = mk_fail(MINKE_EUNSUPPORTED,
                            "%s.expert_gating_func: %u; 1 (softmax) and 2 (sigmoid) are run",
                            m->arch, gating);
    c->scoring_func = gating == 2 ? MK_SCORING_SIGMOID : MK_SCORING_SOFTMAX;
    c->topk_method = gating == 2 ? MK_TOPK_NOAUX
                   : c->n_group > 1 ? MK_TOPK_GROUP_LIMITED : MK_TOPK_GREEDY;
}

static void meta_rope(struct gguf_meta *m, struct mk_config *c)
{
    char key[96];
    const struct mk_view *type = mk_gguf_text(meta_find(m, key, sizeof(key),
                                                               "rope.scaling.type"));

    c->rope_theta = meta_number(m, "rope.freq_base", 10000.0);
    if (m->rc < 0 || type == NULL || strcmp(type->data, "none") == 0)
        return;
    if (strcmp(type->data, "yarn") != 0) {
        m->rc = mk_fail(MINKE_EUNSUPPORTED, "%s: %s; none and yarn are run", key, type->data);
        return;
    }
    c->rope_yarn = 1;
    c->rope_factor = meta_number(m, "rope.scaling.factor", 1.0);
    c->rope_beta_fast = meta_number(m, "rope.scaling.yarn_beta_fast", 32.0);
    c->rope_beta_slow = meta_number(m, "rope.scaling.yarn_beta_slow", 1.0);
    c->rope_original_max_position_embeddings =
        meta_count(m, "rope.scaling.original_context_length", c->max_position_embeddings);
    /* The file holds a tenth of mscale_all_dim, and mscale not at all: in every model of the
     * family the two are the same where the first is given. */
    c->rope_mscale_all_dim = meta_number(m, "rope.scaling.yarn_log_multiplier", 0.0) * 10.0;
    c->rope_mscale = c->rope_mscale_all_dim > 0.0 ? c->rope_mscale_all_dim : 1.0;
    if (m->rc == MINKE_OK && meta_number(m, "rope.scaling.yarn_attn_factor", 1.0) != 1.0)
        m->rc = mk_fail(MINKE_EUNSUPPORTED, "%s.rope.scaling.yarn_attn_factor: only 1 is run",
                            m->arch);
}

static void meta_tokens(const struct mk_gguf *g, struct mk_config *c)
{
    const int32_t turn = mk_gguf_token(g, "tokenizer.ggml.eot_token_id");

    c->bos_token_id = mk_gguf_token(g, "tokenizer.ggml.bos_token_id");
    c->eos_token_id = mk_gguf_token(g, "tokenizer.ggml.eos_token_id");
    if (c->eos_token_id >= 0)
        c->eos_token_ids[c->n_eos_token_ids++] = c->eos_token_id;
    if (turn >= 0 && turn != c->eos_token_id)
        c->eos_token_ids[c->n_eos_token_ids++] = turn;
}

int32_t mk_gguf_config(struct mk_config *out, const struct mk_gguf *g)
{
    const struct mk_view *arch = mk_gguf_text(mk_gguf_find(g, "general.architecture"));
    struct mk_config c = {.bos_token_id = -1, .eos_token_id = -1};
    struct gguf_meta m = {.g = g};
    int sparse;
    int32_t rc;

    if (arch == NULL)
        return mk_fail(MINKE_EFORMAT, "general.architecture: missing");
    sparse = strcmp(arch->data, "deepseek32") == 0;
    if (!sparse && strcmp(arch->data, "deepseek2") != 0)
        return mk_fail(MINKE_EUNSUPPORTED,
                       "general.architecture: %s; deepseek2 and deepseek32 are run", arch->data);
    m.arch = arch->data;
    meta_sizes(&m, &c);
    meta_experts(&m, &c);
    meta_rope(&m, &c);
    meta_tokens(g, &c);
    if (sparse) {
        c.index_n_heads = meta_count(&m, "attention.indexer.head_count", -1);
        c.index_head_dim = meta_count(&m, "attention.indexer.key_length", -1);
        c.index_topk = meta_count(&m, "attention.indexer.top_k", -1);
    }
    if (m.rc < 0)
        return m.rc;
    c.tie_word_embeddings = mk_gguf_tensor(g, "output.weight") == NULL;
    mk_format(c.model_type, sizeof(c.model_type), "deepseek_v%s",
              sparse ? "32" : c.scoring_func == MK_SCORING_SIGMOID ? "3" : "2");
    rc = mk_config_check(&c);
    if (rc == MINKE_OK)
        *out = c;
    return rc;
}
