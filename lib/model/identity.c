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

/* All of a vector; rows spread over the embedding and the head; of other tensors the first row,
 * of one head or expert of a layer. */
static int32_t identity_weight(void *user, const struct mk_weight *w)
{
    struct identity *id = user;
    const enum mk_part part = (enum mk_part)mk_tensors[w->id.tensor].part;
    const int is_vocab = part == MK_PART_EMBED || part == MK_PART_HEAD;
    const struct mk_mat *mat;
    size_t n;

    if (w->vector != NULL) {
        id->h = mk_hash(id->h, w->vector, w->n * sizeof(*w->vector));
        return MINKE_OK;
    }
    mat = mk_weight_mat(w, w->id.layer % w->n);
    n = mk_min(is_vocab ? IDENTITY_ROWS : 1, mat->n_out);
    for (size_t i = 0; i < n; i++) {
        mk_mat_row(id->row, mat, i * (mat->n_out / n));
        id->h = mk_hash(id->h, id->row, mat->n_in * sizeof(*id->row));
    }
    return MINKE_OK;
}

uint64_t mk_identity(const struct mk_allocator *a, const struct mk_config *c,
                     struct mk_weights *w)
{
    struct identity id = {.h = identity_config(c)};
    size_t widest = 0;

    for (uint32_t t = 0; t < MK_N_TENSORS; t++) {
        uint64_t shape[3];
        const uint32_t n_dims = mk_tensor_shape(shape, t, c);

        widest = mk_max(widest, n_dims > 1 ? (size_t)shape[n_dims - 1] : 0);
    }
    id.row = mk_alloc(a, widest, sizeof(float));
    if (id.row == NULL)
        return 0;
    (void)mk_weights_walk(w, c, identity_weight, &id);
    mk_free(a, id.row);
    return id.h == 0 ? 1 : id.h;
}
