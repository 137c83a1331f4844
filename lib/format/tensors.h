/* The tensors of the family, each one once: where it is bound, its shape, when a model has it,
 * and what files call it. */
#ifndef MK_TENSORS_H
#define MK_TENSORS_H

#include "format/config.h"

/* X(struct, id, field, kind, rows, columns, condition, part, name in checkpoints, in GGUF files),
 * and Y(struct, id, kind, part, names) for what no field takes.  In the order of written files.
 *
 * Names of a layer stand behind "model.layers.3." and "blk.3.".  Those of an expert stand behind
 * "model.layers.3.mlp.experts.5." in checkpoints; GGUF files hold all experts in one tensor. */
#define MK_TENSORS(X, Y)                                                                         \
    X(MODEL, EMBED_TOKENS, embed_tokens, MATRIX, VOCAB, D, ALWAYS, EMBED,                        \
      "model.embed_tokens.weight", "token_embd.weight")                                          \
    X(MODEL, NORM, norm, VECTOR, D, ONE, ALWAYS, OTHER,                                          \
      "model.norm.weight", "output_norm.weight")                                                 \
    X(MODEL, LM_HEAD, lm_head, MATRIX, VOCAB, D, UNTIED, HEAD,                                   \
      "lm_head.weight", "output.weight")                                                         \
    X(LAYER, INPUT_LAYERNORM, input_layernorm, VECTOR, D, ONE, ALWAYS, OTHER,                    \
      "input_layernorm.weight", "attn_norm.weight")                                              \
    X(LAYER, Q_PROJ, self_attn.q_proj, MATRIX, HK, D, PLAIN_Q, ATTENTION,                        \
      "self_attn.q_proj.weight", "attn_q.weight")                                                \
    X(LAYER, Q_A_PROJ, self_attn.q_a_proj, MATRIX, Q, D, LORA_Q, ATTENTION,                      \
      "self_attn.q_a_proj.weight", "attn_q_a.weight")                                            \
    X(LAYER, Q_A_LAYERNORM, self_attn.q_a_layernorm, VECTOR, Q, ONE, LORA_Q, ATTENTION,          \
      "self_attn.q_a_layernorm.weight", "attn_q_a_norm.weight")                                  \
    X(LAYER, Q_B_PROJ, self_attn.q_b_proj, MATRIX, HK, Q, LORA_Q, ATTENTION,                     \
      "self_attn.q_b_proj.weight", "attn_q_b.weight")                                            \
    X(LAYER, KV_A_PROJ, self_attn.kv_a_proj_with_mqa, MATRIX, LR, D, ALWAYS, ATTENTION,          \
      "self_attn.kv_a_proj_with_mqa.weight", "attn_kv_a_mqa.weight")                             \
    X(LAYER, KV_A_LAYERNORM, self_attn.kv_a_layernorm, VECTOR, L, ONE, ALWAYS, ATTENTION,        \
      "self_attn.kv_a_layernorm.weight", "attn_kv_a_norm.weight")                                \
    X(LAYER, KV_B_PROJ, self_attn, KV_B, HKV, L, ALWAYS, ATTENTION,                              \
      "self_attn.kv_b_proj.weight", "attn_kv_b.weight")                                          \
    X(LAYER, K_B_PROJ, self_attn.k_b, HEADS, L, N, ALWAYS, ATTENTION,                            \
      "self_attn.k_b_proj.weight", "attn_k_b.weight")                                            \
    X(LAYER, V_B_PROJ, self_attn.v_b, HEADS, V, L, ALWAYS, ATTENTION,                            \
      "self_attn.v_b_proj.weight", "attn_v_b.weight")                                            \
    X(LAYER, O_PROJ, self_attn.o_proj, MATRIX, D, HV, ALWAYS, ATTENTION,                         \
      "self_attn.o_proj.weight", "attn_output.weight")                                           \
    X(LAYER, K_NORM, self_attn.indexer.k_norm, VECTOR, XD, ONE, SPARSE, ATTENTION,               \
      "self_attn.indexer.k_norm.weight", "indexer.k_norm.weight")                                \
    X(LAYER, K_NORM_BIAS, self_attn.indexer.k_norm_bias, VECTOR, XD, ONE, SPARSE, ATTENTION,     \
      "self_attn.indexer.k_norm.bias", "indexer.k_norm.bias")                                    \
    X(LAYER, WEIGHTS_PROJ, self_attn.indexer.weights_proj, SCORES, XH, D, SPARSE, ATTENTION,     \
      "self_attn.indexer.weights_proj.weight", "indexer.proj.weight")                            \
    X(LAYER, WK, self_attn.indexer.wk, DECIDES, XD, D, SPARSE, ATTENTION,                        \
      "self_attn.indexer.wk.weight", "indexer.attn_k.weight")                                    \
    X(LAYER, WQ_B, self_attn.indexer.wq_b, DECIDES, XHD, Q, SPARSE, ATTENTION,                   \
      "self_attn.indexer.wq_b.weight", "indexer.attn_q_b.weight")                                \
    X(LAYER, POST_LAYERNORM, post_attention_layernorm, VECTOR, D, ONE, ALWAYS, OTHER,            \
      "post_attention_layernorm.weight", "ffn_norm.weight")                                      \
    X(LAYER, GATE_PROJ, mlp.gate_proj, MATRIX, I, D, DENSE, DENSE,                               \
      "mlp.gate_proj.weight", "ffn_gate.weight")                                                 \
    X(LAYER, UP_PROJ, mlp.up_proj, MATRIX, I, D, DENSE, DENSE,                                   \
      "mlp.up_proj.weight", "ffn_up.weight")                                                     \
    X(LAYER, DOWN_PROJ, mlp.down_proj, MATRIX, D, I, DENSE, DENSE,                               \
      "mlp.down_proj.weight", "ffn_down.weight")                                                 \
    X(LAYER, GATE, gate, SCORES, E, D, MOE, OTHER,                                               \
      "mlp.gate.weight", "ffn_gate_inp.weight")                                                  \
    X(LAYER, GATE_BIAS, e_score_correction_bias, VECTOR, E, ONE, BIAS, OTHER,                    \
      "mlp.gate.e_score_correction_bias", "exp_probs_b.bias")                                    \
    X(LAYER, SHARED_GATE_PROJ, shared_experts.gate_proj, MATRIX, SI, D, SHARED, SHARED,          \
      "mlp.shared_experts.gate_proj.weight", "ffn_gate_shexp.weight")                            \
    X(LAYER, SHARED_UP_PROJ, shared_experts.up_proj, MATRIX, SI, D, SHARED, SHARED,              \
      "mlp.shared_experts.up_proj.weight", "ffn_up_shexp.weight")                                \
    X(LAYER, SHARED_DOWN_PROJ, shared_experts.down_proj, MATRIX, D, SI, SHARED, SHARED,          \
      "mlp.shared_experts.down_proj.weight", "ffn_down_shexp.weight")                            \
    X(EXPERT, EXPERT_GATE_PROJ, gate_proj, MATRIX, EI, D, MOE, GATE_UP,                          \
      "gate_proj.weight", "ffn_gate_exps.weight")                                                \
    X(EXPERT, EXPERT_UP_PROJ, up_proj, MATRIX, EI, D, MOE, GATE_UP,                              \
      "up_proj.weight", "ffn_up_exps.weight")                                                    \
    X(EXPERT, EXPERT_DOWN_PROJ, down_proj, MATRIX, D, EI, MOE, DOWN,                             \
      "down_proj.weight", "ffn_down_exps.weight")                                                \
    Y(EXPERT, EXPERT_GATE_UP_PROJ, FUSED, GATE_UP,                                               \
      "gate_up_proj.weight", "ffn_gate_up_exps.weight")                                          \
    X(MTP, ENORM, enorm, VECTOR, D, ONE, ALWAYS, MTP, "enorm.weight", "nextn.enorm.weight")      \
    X(MTP, HNORM, hnorm, VECTOR, D, ONE, ALWAYS, MTP, "hnorm.weight", "nextn.hnorm.weight")      \
    X(MTP, EH_PROJ, eh_proj, MATRIX, D, DD, ALWAYS, MTP,                                         \
      "eh_proj.weight", "nextn.eh_proj.weight")                                                  \
    X(MTP, MTP_NORM, shared_head_norm, VECTOR, D, ONE, ALWAYS, MTP,                              \
      "shared_head.norm.weight", "nextn.shared_head_norm.weight")                                \
    Y(MTP, MTP_EMBED_TOKENS, COPY, MTP, "embed_tokens.weight", "nextn.embed_tokens.weight")      \
    Y(MTP, MTP_LM_HEAD, COPY, MTP, "shared_head.head.weight", "nextn.shared_head_head.weight")

#define TENSOR_ID(of, id, ...) MK_T_##id,
enum { MK_TENSORS(TENSOR_ID, TENSOR_ID) MK_N_TENSORS };
#undef TENSOR_ID

/* Structs that have the fields; a set of them is their sum. */
enum { MK_OF_MODEL = 1, MK_OF_LAYER = 2, MK_OF_EXPERT = 4, MK_OF_MTP = 8 };

enum mk_tensor_kind {
    MK_KIND_VECTOR,      /* f32 in memory and in files */
    MK_KIND_MATRIX,
    MK_KIND_DECIDES,     /* a matrix whose product decides what is looked at: never rounded */
    MK_KIND_SCORES,      /* the same, and f32 in files */
    MK_KIND_KV_B,        /* a matrix that is bound as those of its heads */
    MK_KIND_HEADS,       /* these, as files have them that took it apart: (H, rows, columns) */
    MK_KIND_FUSED,       /* the rows of gate_proj, then those of up_proj */
    MK_KIND_COPY         /* of one of the model's own: known, but not read */
};

/* Parts of a model, of which types can be chosen up to MK_N_CHOSEN. */
enum mk_part {
    MK_PART_EMBED, MK_PART_HEAD, MK_PART_ATTENTION, MK_PART_DENSE, MK_PART_SHARED,
    MK_PART_GATE_UP, MK_PART_DOWN,
    MK_N_CHOSEN,
    MK_PART_MTP = MK_N_CHOSEN, MK_PART_OTHER,
    MK_N_PARTS
};

struct mk_tensor {
    const char *name, *gguf;
    uint8_t of, kind, rows, cols;
    uint16_t when;
    uint8_t part;
};
extern const struct mk_tensor mk_tensors[MK_N_TENSORS];

/* One tensor of a model; layer and expert where it has them. */
struct mk_tensor_id {
    uint32_t tensor;         /* MK_T_* */
    uint32_t layer, expert;
};

#define MK_TENSOR_NAME 96u   /* bytes that a name takes at most */

void mk_tensor_name(char out[MK_TENSOR_NAME], struct mk_tensor_id id);
void mk_tensor_gguf_name(char out[MK_TENSOR_NAME], struct mk_tensor_id id);
/* The row of a tensor in a GGUF file, NULL when it has none. */
const struct mk_tensor *mk_tensor_of_gguf(const char *name);

/* The tensors of these structs that layer has fields for, in order: the one at or behind tensor,
 * or MK_N_TENSORS. */
uint32_t mk_tensor_next(uint32_t tensor, uint32_t of, const struct mk_config *c, uint32_t layer);

/* Slowest first; returns the number of dimensions. */
uint32_t mk_tensor_shape(uint64_t shape[3], uint32_t tensor, const struct mk_config *c);

#endif
