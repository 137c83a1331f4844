/* What tells two models apart. */
#include "model/identity.h"

#include <string.h>

#include "base/checked.h"
#include "base/hash.h"
#include "kernels/matmul.h"

#define IDENTITY_ROWS 64u      /* sampled of the embedding and of the head */

struct identity {
    uint64_t h;
    float *row;                /* room for the widest */
};

static uint64_t identity_double(uint64_t h, double v)
{
    uint64_t bits;

    memcpy(&bits, &v, sizeof(bits));
    return mk_hash_u64(h, bits);
}

/* What decides which numbers the weights lead to. */
static uint64_t identity_config(const struct mk_config *c)
{
    const uint64_t facts[] = {
        c->vocab_size, c->hidden_size, c->num_hidden_layers, c->first_k_dense_replace,
        c->moe_layer_freq, c->intermediate_size, c->moe_intermediate_size,
        c->num_attention_heads, c->q_lora_rank, c->kv_lora_rank, c->qk_nope_head_dim,
        c->qk_rope_head_dim, c->v_head_dim, c->n_routed_experts, c->n_shared_experts,
        c->num_experts_per_tok, c->n_group, c->topk_group, (uint64_t)c->scoring_func,
        (uint64_t)c->topk_method, c->norm_topk_prob != 0, c->rope_yarn != 0,
        c->rope_original_max_position_embeddings, c->index_n_heads, c->index_head_dim,
        c->index_topk, c->indexer_rope_interleave != 0};
    const double reals[] = {
        c->routed_scaling_factor, c->rms_norm_eps, c->rope_theta, c->rope_factor,
        c->rope_beta_fast, c->rope_beta_slow, c->rope_mscale, c->rope_mscale_all_dim};
    uint64_t h = mk_hash(1, facts, sizeof(facts));

    for (size_t i = 0; i < MK_COUNT(reals); i++)
        h = identity_double(h, reals[i]);
    return h;
}

static void identity_vector(struct identity *id, const float *v, size_t n)
{
    if (v != NULL)
        id->h = mk_hash(id->h, v, n * sizeof(*v));
}

/* n rows spread over the matrix. */
static void identity_rows(struct identity *id, const struct mk_mat *w, size_t n)
{
    if (w->data == NULL)
        return;
    n = mk_min(n, w->n_out);
    for (size_t i = 0; i < n; i++) {
        mk_mat_row(id->row, w, i * (w->n_out / n));
        identity_vector(id, id->row, w->n_in);
    }
}

static void identity_mlp(struct identity *id, const struct mk_mlp_weights *w)
{
    identity_rows(id, &w->gate_proj, 1);
    identity_rows(id, &w->up_proj, 1);
    identity_rows(id, &w->down_proj, 1);
}

static void identity_layer(struct identity *id, const struct mk_layer_weights *w,
                           const struct mk_config *c, uint32_t l)
{
    const struct mk_attention_weights *a = &w->self_attn;

    identity_vector(id, w->input_layernorm, c->hidden_size);
    identity_vector(id, w->post_attention_layernorm, c->hidden_size);
    identity_vector(id, a->q_a_layernorm, c->q_lora_rank);
    identity_vector(id, a->kv_a_layernorm, c->kv_lora_rank);
    identity_rows(id, &a->q_proj, 1);
    identity_rows(id, &a->q_a_proj, 1);
    identity_rows(id, &a->q_b_proj, 1);
    identity_rows(id, &a->kv_a_proj_with_mqa, 1);
    identity_rows(id, &a->o_proj, 1);
    identity_rows(id, &a->indexer.wq_b, 1);
    identity_rows(id, &a->indexer.wk, 1);
    identity_rows(id, &a->indexer.weights_proj, 1);
    if (w->experts == NULL) {
        identity_mlp(id, &w->mlp);
        return;
    }
    identity_rows(id, &w->gate, 1);
    identity_vector(id, w->e_score_correction_bias, c->n_routed_experts);
    identity_mlp(id, &w->experts[l % c->n_routed_experts]);
    identity_mlp(id, &w->shared_experts);
}

uint64_t mk_identity(const struct mk_allocator *a, const struct mk_config *c,
                     const struct mk_weights *w)
{
    struct identity id = {identity_config(c), NULL};
    size_t widest = mk_max(2 * (size_t)c->hidden_size, c->intermediate_size);

    widest = mk_max(widest, (size_t)c->num_attention_heads * c->v_head_dim);
    widest = mk_max(widest, (size_t)c->n_shared_experts * c->moe_intermediate_size);
    widest = mk_max(widest, mk_max(c->moe_intermediate_size, c->q_lora_rank));
    id.row = mk_alloc(a, widest, sizeof(float));
    if (id.row == NULL)
        return 0;
    identity_rows(&id, &w->embed_tokens, IDENTITY_ROWS);
    identity_rows(&id, &w->lm_head, IDENTITY_ROWS);
    identity_vector(&id, w->norm, c->hidden_size);
    for (uint32_t l = 0; l < c->num_hidden_layers; l++)
        identity_layer(&id, &w->layers[l], c, l);
    if (w->mtp != NULL) {
        identity_rows(&id, &w->mtp->eh_proj, 1);
        identity_layer(&id, &w->mtp->layer, c, c->num_hidden_layers);
    }
    mk_free(a, id.row);
    return id.h == 0 ? 1 : id.h;
}
