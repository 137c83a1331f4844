/* One description of a model, from config.json or from GGUF metadata. */
#ifndef MK_CONFIG_H
#define MK_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include "base/env.h"
#include "base/json.h"

enum mk_scoring { MK_SCORING_SOFTMAX, MK_SCORING_SIGMOID };
enum mk_topk { MK_TOPK_GREEDY, MK_TOPK_GROUP_LIMITED, MK_TOPK_NOAUX };

/* Names are those of config.json. */
struct mk_config {
    char model_type[32];                 /* "deepseek_v32" */
    uint32_t vocab_size, hidden_size, num_hidden_layers, first_k_dense_replace, moe_layer_freq;
    uint32_t intermediate_size, moe_intermediate_size;
    uint32_t num_attention_heads, q_lora_rank /* 0 = plain q_proj */, kv_lora_rank;
    uint32_t qk_nope_head_dim, qk_rope_head_dim, v_head_dim;
    uint32_t n_routed_experts /* 0 = dense model */, n_shared_experts, num_experts_per_tok;
    uint32_t n_group, topk_group;        /* at least 1 */
    enum mk_scoring scoring_func;
    enum mk_topk topk_method;
    int norm_topk_prob;
    double routed_scaling_factor;
    double rms_norm_eps;
    uint32_t max_position_embeddings;
    uint32_t num_nextn_predict_layers;
    int tie_word_embeddings;

    double rope_theta;
    int rope_yarn;                       /* the fields below apply */
    double rope_factor, rope_beta_fast, rope_beta_slow, rope_mscale, rope_mscale_all_dim;
    uint32_t rope_original_max_position_embeddings;

    uint32_t index_n_heads, index_head_dim, index_topk;   /* 0 = no sparse attention */
    int indexer_rope_interleave;

    int32_t bos_token_id, eos_token_id;  /* -1 = none */
    int32_t eos_token_ids[8];            /* all of them */
    uint32_t n_eos_token_ids;

    uint32_t fp8_block[2];               /* quantization_config.weight_block_size, 0 = none */
    int fp8_scale_ue8m0;
};

/* Whether layer l's feed-forward part is a mixture of experts. */
static inline int mk_config_is_moe(const struct mk_config *c, uint32_t l)
{
    return c->n_routed_experts > 0 && l >= c->first_k_dense_replace
        && l % c->moe_layer_freq == 0;
}

/* Read config.json.  MINKE_EFORMAT: a key is missing, has the wrong type or an absurd value;
 * MINKE_EUNSUPPORTED: well formed, but not run by this library (which key, which value, what
 * is accepted). */
int32_t mk_config_read(struct mk_config *out, const struct mk_json *json);

/* The checks that hold for every source of a config. */
int32_t mk_config_check(const struct mk_config *c);

#endif
