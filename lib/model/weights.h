/* Weights bound once to named fields.  The names are the checkpoint's. */
#ifndef MK_WEIGHTS_H
#define MK_WEIGHTS_H

#include "base/file.h"
#include "base/pool.h"
#include "format/checkpoint.h"
#include "kernels/kernels.h"
#include "tensor/tensor.h"

/* D hidden_size, H heads, N qk_nope_head_dim, R qk_rope_head_dim, V v_head_dim,
 * L kv_lora_rank, Q q_lora_rank.  Vectors are f32 whatever the file holds. */
struct mk_indexer_weights {
    struct mk_mat wq_b;            /* (index_n_heads * index_head_dim, Q) */
    struct mk_mat wk;              /* (index_head_dim, D) */
    const float *k_norm, *k_norm_bias;   /* (index_head_dim,) */
    struct mk_mat weights_proj;    /* (index_n_heads, D) */
};

struct mk_attention_weights {
    struct mk_mat q_proj;          /* (H * (N + R), D), when q_lora_rank is 0 */
    struct mk_mat q_a_proj;        /* (Q, D) */
    const float *q_a_layernorm;    /* (Q,) */
    struct mk_mat q_b_proj;        /* (H * (N + R), Q) */
    struct mk_mat kv_a_proj_with_mqa;    /* (L + R, D) */
    const float *kv_a_layernorm;   /* (L,) */
    /* kv_b_proj taken apart, a small matrix per head, in the orientations that the two forms
     * of attention multiply by: */
    struct mk_mat *k_b;            /* H x (L, N): q' = k_b q_nope, absorbed */
    struct mk_mat *v_b;            /* H x (V, L): o = v_b o', and v = v_b c */
    struct mk_mat *k_up;           /* H x (N, L): k_nope = k_up c, naive */
    struct mk_mat o_proj;          /* (D, H * V) */
    struct mk_indexer_weights indexer;   /* data NULL when the model has none */
};

struct mk_mlp_weights {
    struct mk_mat gate_proj, up_proj;    /* (I, D) */
    struct mk_mat down_proj;       /* (D, I) */
};

struct mk_layer_weights {
    const float *input_layernorm, *post_attention_layernorm;   /* (D,) */
    struct mk_attention_weights self_attn;
    struct mk_mlp_weights mlp;     /* dense layers */
    struct mk_mat gate;            /* (n_routed_experts, D): the router */
    const float *e_score_correction_bias;    /* (n_routed_experts,) or NULL */
    struct mk_mlp_weights *experts;          /* n_routed_experts of them */
    struct mk_mlp_weights shared_experts;    /* data NULL when there are none */
};

struct mk_mtp_weights {
    const float *enorm, *hnorm;    /* (D,) */
    struct mk_mat eh_proj;         /* (D, 2 D): embedding half first */
    const float *shared_head_norm; /* (D,) */
    struct mk_layer_weights layer;
};

struct mk_weights {
    struct mk_mat embed_tokens;    /* (vocab_size, D) */
    struct mk_layer_weights *layers;     /* num_hidden_layers */
    const float *norm;             /* (D,) */
    struct mk_mat lm_head;         /* (vocab_size, D) */
    struct mk_mtp_weights *mtp;    /* NULL when the checkpoint has none */

    uint64_t n_params, n_params_active, bytes, part_bytes[MK_N_PARTS];
    uint64_t decode_bytes;         /* of the matrices, as they are held, that one token of the
                                    * absorbed form multiplies by; of experts their share */
    enum mk_type main_type;        /* of most bytes */
    uint64_t types;                /* bit 1 << type for each that a product meets */
    const char **surplus;          /* names of tensors that no field takes */
    size_t n_surplus;

    struct mk_arena arena;         /* names, vectors, the arrays above */
    struct mk_block *blocks;       /* what the matrices point into */
    size_t n_blocks;
    struct mk_file **files;        /* kept open while mapped */
    size_t n_files;
};

struct mk_load_options {
    uint32_t flags;                /* MINKE_CONTEXT_* */
    minke_progress_fn progress;
    void *progress_user;
    struct mk_pool *pool;          /* for conversions on load */
    const struct mk_kernels *kernels;    /* the level to pack for; NULL = do not pack */
};

/* Load what the checkpoint holds; it may be closed afterwards, but its env lives as long as the
 * weights.  On error nothing is left. */
int32_t mk_weights_load(struct mk_weights *out, struct mk_checkpoint *c,
                        const struct mk_load_options *options);
void mk_weights_free(struct mk_weights *w, const struct mk_env *env);

/* One tensor of one layer (the prediction layer follows the last one) as it is bound: a vector,
 * or the matrices of all heads, of all experts, or a single one. */
struct mk_weight {
    struct mk_tensor_id id;
    const float *vector;           /* (n,) or NULL */
    const struct mk_mat *mats;     /* the first of n, stride bytes apart, or NULL */
    size_t n, stride;
};
static inline const struct mk_mat *mk_weight_mat(const struct mk_weight *w, size_t i)
{
    return (const struct mk_mat *)(const void *)((const char *)w->mats + i * w->stride);
}

/* Visit all that is bound, in the order of the list, until visit returns an error. */
typedef int32_t (*mk_weight_fn)(void *user, const struct mk_weight *w);
int32_t mk_weights_walk(struct mk_weights *w, const struct mk_config *config, mk_weight_fn visit,
                        void *user);

#endif
