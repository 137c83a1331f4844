/* Tensors bound to fields: each name, shape and field stands in one table. */
#include "model/weights.h"

#include <string.h>

#include "base/checked.h"
#include "model/weights_internal.h"
#include "kernels/matmul.h"

/* ---- What belongs where -------------------------------------------------- */

/* Sizes that shapes are made of; see weights.h for the letters. */
enum weights_dim {
    WDIM_D, WDIM_2D, WDIM_Q, WDIM_HK, WDIM_LR, WDIM_L, WDIM_HKV, WDIM_HV, WDIM_I, WDIM_E,
    WDIM_XHD, WDIM_XD, WDIM_XH, WDIM_VOCAB, WDIM_COUNT
};

/* When a model has the tensor. */
#define WHEN_ALWAYS    0u
#define WHEN_Q_LORA    1u
#define WHEN_NO_Q_LORA 2u
#define WHEN_SPARSE    4u
#define WHEN_MOE       8u
#define WHEN_BIAS      16u

struct weights_field {
    const char *name;        /* behind "model.layers.3." and the like */
    size_t offset;           /* of the field in its struct */
    uint8_t kind, n_out, n_in;       /* enum mk_weights_kind, enum weights_dim */
    uint8_t when, part;
};

#define ATTN(f) offsetof(struct mk_layer_weights, self_attn.f)
#define LAYER(f) offsetof(struct mk_layer_weights, f)

static const struct weights_field weights_layer_fields[] = {
    {"input_layernorm.weight", LAYER(input_layernorm), MK_WEIGHTS_VECTOR, WDIM_D, 0,
     WHEN_ALWAYS, MK_PART_OTHER},
    {"post_attention_layernorm.weight", LAYER(post_attention_layernorm), MK_WEIGHTS_VECTOR,
     WDIM_D, 0, WHEN_ALWAYS, MK_PART_OTHER},
    {"self_attn.q_proj.weight", ATTN(q_proj), MK_WEIGHTS_MATRIX, WDIM_HK, WDIM_D,
     WHEN_NO_Q_LORA, MK_PART_ATTENTION},
    {"self_attn.q_a_proj.weight", ATTN(q_a_proj), MK_WEIGHTS_MATRIX, WDIM_Q, WDIM_D,
     WHEN_Q_LORA, MK_PART_ATTENTION},
    {"self_attn.q_a_layernorm.weight", ATTN(q_a_layernorm), MK_WEIGHTS_VECTOR, WDIM_Q, 0,
     WHEN_Q_LORA, MK_PART_ATTENTION},
    {"self_attn.q_b_proj.weight", ATTN(q_b_proj), MK_WEIGHTS_MATRIX, WDIM_HK, WDIM_Q,
     WHEN_Q_LORA, MK_PART_ATTENTION},
    {"self_attn.kv_a_proj_with_mqa.weight", ATTN(kv_a_proj_with_mqa), MK_WEIGHTS_MATRIX,
     WDIM_LR, WDIM_D, WHEN_ALWAYS, MK_PART_ATTENTION},
    {"self_attn.kv_a_layernorm.weight", ATTN(kv_a_layernorm), MK_WEIGHTS_VECTOR, WDIM_L, 0,
     WHEN_ALWAYS, MK_PART_ATTENTION},
    {"self_attn.kv_b_proj.weight", LAYER(self_attn), MK_WEIGHTS_KV_B, WDIM_HKV, WDIM_L,
     WHEN_ALWAYS, MK_PART_ATTENTION},
    {"self_attn.o_proj.weight", ATTN(o_proj), MK_WEIGHTS_MATRIX, WDIM_D, WDIM_HV,
     WHEN_ALWAYS, MK_PART_ATTENTION},
    {"self_attn.indexer.wq_b.weight", ATTN(indexer.wq_b), MK_WEIGHTS_MATRIX, WDIM_XHD, WDIM_Q,
     WHEN_SPARSE, MK_PART_ATTENTION},
    {"self_attn.indexer.wk.weight", ATTN(indexer.wk), MK_WEIGHTS_MATRIX, WDIM_XD, WDIM_D,
     WHEN_SPARSE, MK_PART_ATTENTION},
    {"self_attn.indexer.k_norm.weight", ATTN(indexer.k_norm), MK_WEIGHTS_VECTOR, WDIM_XD, 0,
     WHEN_SPARSE, MK_PART_ATTENTION},
    {"self_attn.indexer.k_norm.bias", ATTN(indexer.k_norm_bias), MK_WEIGHTS_VECTOR, WDIM_XD, 0,
     WHEN_SPARSE, MK_PART_ATTENTION},
    {"self_attn.indexer.weights_proj.weight", ATTN(indexer.weights_proj), MK_WEIGHTS_MATRIX,
     WDIM_XH, WDIM_D, WHEN_SPARSE, MK_PART_ATTENTION},
    {"mlp.gate.weight", LAYER(gate), MK_WEIGHTS_MATRIX, WDIM_E, WDIM_D, WHEN_MOE,
     MK_PART_OTHER},
    {"mlp.gate.e_score_correction_bias", LAYER(e_score_correction_bias), MK_WEIGHTS_VECTOR,
     WDIM_E, 0, WHEN_MOE | WHEN_BIAS, MK_PART_OTHER},
};

#define MLP(f) offsetof(struct mk_mlp_weights, f)

static const struct weights_field weights_mlp_fields[] = {
    {"gate_proj.weight", MLP(gate_proj), MK_WEIGHTS_MATRIX, WDIM_I, WDIM_D, WHEN_ALWAYS, 0},
    {"up_proj.weight", MLP(up_proj), MK_WEIGHTS_MATRIX, WDIM_I, WDIM_D, WHEN_ALWAYS, 0},
    {"down_proj.weight", MLP(down_proj), MK_WEIGHTS_MATRIX, WDIM_D, WDIM_I, WHEN_ALWAYS, 0},
};

#define MTP(f) offsetof(struct mk_mtp_weights, f)

static const struct weights_field weights_mtp_fields[] = {
    {"enorm.weight", MTP(enorm), MK_WEIGHTS_VECTOR, WDIM_D, 0, WHEN_ALWAYS, MK_PART_OTHER},
    {"hnorm.weight", MTP(hnorm), MK_WEIGHTS_VECTOR, WDIM_D, 0, WHEN_ALWAYS, MK_PART_OTHER},
    {"eh_proj.weight", MTP(eh_proj), MK_WEIGHTS_MATRIX, WDIM_D, WDIM_2D, WHEN_ALWAYS,
     MK_PART_OTHER},
    {"shared_head.norm.weight", MTP(shared_head_norm), MK_WEIGHTS_VECTOR, WDIM_D, 0,
     WHEN_ALWAYS, MK_PART_OTHER},
};

#define MODEL(f) offsetof(struct mk_weights, f)

static const struct weights_field weights_embed_field = {
    "model.embed_tokens.weight", MODEL(embed_tokens), MK_WEIGHTS_MATRIX, WDIM_VOCAB, WDIM_D,
    WHEN_ALWAYS, MK_PART_EMBED
};
static const struct weights_field weights_model_fields[] = {
    {"model.norm.weight", MODEL(norm), MK_WEIGHTS_VECTOR, WDIM_D, 0, WHEN_ALWAYS,
     MK_PART_OTHER},
    {"lm_head.weight", MODEL(lm_head), MK_WEIGHTS_MATRIX, WDIM_VOCAB, WDIM_D, WHEN_ALWAYS,
     MK_PART_EMBED},
};

/* ---- Binding ------------------------------------------------------------- */

struct weights_binder {
    const struct mk_env *env;
    const struct mk_config *config;
    const struct mk_source *source;
    struct mk_weights *w;
    struct mk_weights_plan plan;
    size_t dims[WDIM_COUNT];
    uint64_t type_bytes[MK_N_TYPES];
    int is_mtp, is_idle;         /* not of the main model; not used for every token */
};

static void weights_dims(size_t dims[WDIM_COUNT], const struct mk_config *c)
{
    const size_t H = c->num_attention_heads, N = c->qk_nope_head_dim;

    dims[WDIM_D] = c->hidden_size;
    dims[WDIM_2D] = 2 * (size_t)c->hidden_size;
    dims[WDIM_Q] = c->q_lora_rank;
    dims[WDIM_HK] = H * (N + c->qk_rope_head_dim);
    dims[WDIM_LR] = (size_t)c->kv_lora_rank + c->qk_rope_head_dim;
    dims[WDIM_L] = c->kv_lora_rank;
    dims[WDIM_HKV] = H * (N + c->v_head_dim);
    dims[WDIM_HV] = H * c->v_head_dim;
    dims[WDIM_I] = 0;
    dims[WDIM_E] = c->n_routed_experts;
    dims[WDIM_XHD] = (size_t)c->index_n_heads * c->index_head_dim;
    dims[WDIM_XD] = c->index_head_dim;
    dims[WDIM_XH] = c->index_n_heads;
    dims[WDIM_VOCAB] = c->vocab_size;
}

/* "(256, 7168)" */
static const char *weights_shape(char text[128], const uint64_t *shape, uint32_t n)
{
    size_t len = mk_format(text, 128, "(");

    for (uint32_t d = 0; d < n; d++)
        len += mk_format(text + len, 128 - len, d > 0 ? ", %llu" : "%llu",
                         (unsigned long long)shape[d]);
    mk_format(text + len, 128 - len, n == 1 ? ",)" : ")");
    return text;
}

/* Find a tensor of exactly this shape; n_in 0 means a vector. */
static int32_t weights_find(struct weights_binder *b, const char *name, size_t n_out,
                            size_t n_in, struct mk_stored *out)
{
    const uint64_t expected[2] = {n_out, n_in};
    const uint32_t n_dims = n_in > 0 ? 2 : 1;
    const int32_t found = b->source->find(b->source->self, name, out);
    char a[128], c[128];

    if (found < 0)
        return found;
    if (found == 0)
        return mk_fail(MINKE_EFORMAT, "tensor %s: missing", name);
    if (out->n_dims != n_dims || out->shape[0] != n_out || (n_in > 0 && out->shape[1] != n_in))
        return mk_fail(MINKE_EFORMAT, "tensor %s: shape %s expected, %s found", name,
                       weights_shape(a, expected, n_dims),
                       weights_shape(c, out->shape, out->n_dims));
    const size_t row = mk_type_row_bytes(out->type, n_in > 0 ? n_in : n_out);
    size_t bytes = row;

    if (row == 0 || (n_in > 0 && mk_mul(&bytes, row, n_out) != 0))
        return mk_fail(MINKE_EFORMAT, "tensor %s: rows of %zu do not fit type %s", name, n_in,
                       mk_type_info(out->type)->name);
    if (bytes != out->size)
        return mk_fail(MINKE_EFORMAT, "tensor %s: %zu bytes expected, %llu found", name, bytes,
                       (unsigned long long)out->size);
    return MINKE_OK;
}

/* The scales of an FP8 tensor: one per tile of 128 x 128, those at the edges included. */
static int32_t weights_find_scale(struct weights_binder *b, const char *name,
                                  struct mk_weights_item *item)
{
    char text[256];

    mk_format(text, sizeof(text), "%s_scale_inv", name);
    const int32_t rc = weights_find(b, text, mk_ceil_div(item->n_out, 128),
                                    mk_ceil_div(item->n_in, 128), &item->scale);

    if (rc == MINKE_OK && item->scale.type == MK_F8_E4M3)
        return mk_fail(MINKE_EFORMAT, "tensor %s: type F8_E4M3 for scales", text);
    return rc;
}

static void weights_count(struct weights_binder *b, const struct mk_weights_item *item)
{
    const uint64_t n = (uint64_t)item->n_out * (item->n_in > 0 ? item->n_in : 1);

    b->type_bytes[item->t.type] += item->t.size;
    if (item->kind == MK_WEIGHTS_HEADS)
        b->type_bytes[item->values.type] += item->values.size;
    if (b->is_mtp)
        return;
    b->w->n_params += n;
    if (!b->is_idle && !item->keep_rows)
        b->w->n_params_active += n;
}

/* A head's matrices in one tensor (H, n_out, n_in). */
static int32_t weights_find_heads(struct weights_binder *b, const char *prefix,
                                  const char *suffix, size_t n_out, size_t n_in,
                                  struct mk_stored *out)
{
    const uint64_t expected[3] = {b->config->num_attention_heads, n_out, n_in};
    char name[192], a[128], c[128];
    int32_t found;

    mk_format(name, sizeof(name), "%s%s", prefix, suffix);
    found = b->source->find(b->source->self, name, out);
    if (found < 0)
        return found;
    if (found == 0)
        return mk_fail(MINKE_EFORMAT, "tensor %s: missing", name);
    if (out->n_dims != 3 || memcmp(out->shape, expected, sizeof(expected)) != 0
        || out->size != expected[0] * n_out * mk_type_row_bytes(out->type, n_in))
        return mk_fail(MINKE_EFORMAT, "tensor %s: shape %s expected, %s found", name,
                       weights_shape(a, expected, 3), weights_shape(c, out->shape, out->n_dims));
    return MINKE_OK;
}

/* kv_b_proj as two tensors, where a container holds it so; 0 when it does not. */
static int32_t weights_find_split(struct weights_binder *b, const char *prefix,
                                  struct mk_weights_item *item)
{
    const struct mk_config *c = b->config;
    struct mk_stored whole;
    char name[192];
    int32_t rc;

    mk_format(name, sizeof(name), "%sself_attn.kv_b_proj.weight", prefix);
    if (b->source->find(b->source->self, name, &whole) != 0)
        return 0;
    mk_format(name, sizeof(name), "%sself_attn.k_b_proj.weight", prefix);
    if (b->source->find(b->source->self, name, &whole) == 0)
        return 0;
    rc = weights_find_heads(b, prefix, "self_attn.k_b_proj.weight", c->kv_lora_rank,
                            c->qk_nope_head_dim, &item->t);
    if (rc == MINKE_OK)
        rc = weights_find_heads(b, prefix, "self_attn.v_b_proj.weight", c->v_head_dim,
                                c->kv_lora_rank, &item->values);
    if (rc < 0)
        return rc;
    item->kind = MK_WEIGHTS_HEADS;
    return 1;
}

/* One row of a table, its struct at base, its name behind prefix. */
static int32_t weights_bind(struct weights_binder *b, const char *prefix,
                            const struct weights_field *f, void *base, enum mk_part part)
{
    struct mk_weights_item item;
    void *items = b->plan.items;
    char name[192];
    int32_t rc;

    memset(&item, 0, sizeof(item));
    mk_format(name, sizeof(name), "%s%s", prefix, f->name);
    item.n_out = b->dims[f->n_out];
    item.n_in = f->kind == MK_WEIGHTS_VECTOR ? 0 : b->dims[f->n_in];
    item.field = (char *)base + f->offset;
    item.kind = f->kind;
    item.part = (uint8_t)part;
    item.group = b->plan.n_groups;
    item.keep_rows = f == &weights_embed_field;
    rc = f->kind == MK_WEIGHTS_KV_B ? weights_find_split(b, prefix, &item) : 0;
    if (rc == 0)
        rc = weights_find(b, name, item.n_out, item.n_in, &item.t);
    if (rc < 0)
        return rc;
    if (item.t.type == MK_F8_E4M3) {
        if (item.n_in == 0)
            return mk_fail(MINKE_EUNSUPPORTED, "tensor %s: type F8_E4M3 for a vector", name);
        rc = weights_find_scale(b, name, &item);
        if (rc < 0)
            return rc;
    }
    rc = mk_grow(&b->env->alloc, &items, &b->plan.capacity, b->plan.n + 1, sizeof(item));
    b->plan.items = items;
    if (rc < 0)
        return rc;
    b->plan.items[b->plan.n++] = item;
    weights_count(b, &item);
    return MINKE_OK;
}

/* Rows of a table whose condition holds. */
static int32_t weights_bind_all(struct weights_binder *b, const char *prefix,
                                const struct weights_field *fields, size_t n, void *base,
                                unsigned holds)
{
    for (size_t i = 0; i < n; i++) {
        if ((fields[i].when & ~holds) != 0)
            continue;
        const int32_t rc = weights_bind(b, prefix, &fields[i], base,
                                        (enum mk_part)fields[i].part);

        if (rc < 0)
            return rc;
    }
    return MINKE_OK;
}

static int32_t weights_bind_mlp(struct weights_binder *b, const char *prefix,
                                struct mk_mlp_weights *mlp, size_t inner, enum mk_part part)
{
    b->dims[WDIM_I] = inner;
    for (size_t i = 0; i < 3; i++) {
        const int32_t rc = weights_bind(b, prefix, &weights_mlp_fields[i], mlp, part);

        if (rc < 0)
            return rc;
    }
    return MINKE_OK;
}

static int32_t weights_bind_experts(struct weights_binder *b, const char *prefix,
                                    struct mk_layer_weights *layer)
{
    const struct mk_config *c = b->config;
    char name[160];
    int32_t rc = MINKE_OK;

    layer->experts = mk_arena_alloc(&b->w->arena, c->n_routed_experts, sizeof(*layer->experts));
    if (layer->experts == NULL)
        return MINKE_ENOMEM;
    for (uint32_t e = 0; e < c->n_routed_experts && rc == MINKE_OK; e++) {
        mk_format(name, sizeof(name), "%smlp.experts.%u.", prefix, e);
        b->is_idle = e >= c->num_experts_per_tok;
        rc = weights_bind_mlp(b, name, &layer->experts[e], c->moe_intermediate_size,
                              MK_PART_EXPERTS);
    }
    b->is_idle = 0;
    if (rc < 0 || c->n_shared_experts == 0)
        return rc;
    mk_format(name, sizeof(name), "%smlp.shared_experts.", prefix);
    return weights_bind_mlp(b, name, &layer->shared_experts,
                            (size_t)c->n_shared_experts * c->moe_intermediate_size,
                            MK_PART_OTHER);
}

static int32_t weights_bind_layer(struct weights_binder *b, const char *prefix, uint32_t l,
                                  struct mk_layer_weights *layer)
{
    const struct mk_config *c = b->config;
    struct mk_attention_weights *attn = &layer->self_attn;
    const int is_moe = mk_config_is_moe(c, l);
    const unsigned holds = (c->q_lora_rank > 0 ? WHEN_Q_LORA : WHEN_NO_Q_LORA)
                         | (c->index_topk > 0 ? WHEN_SPARSE : 0) | (is_moe ? WHEN_MOE : 0)
                         | (c->topk_method == MK_TOPK_NOAUX ? WHEN_BIAS : 0);
    char name[160];

    attn->k_b = mk_arena_alloc(&b->w->arena, c->num_attention_heads, sizeof(*attn->k_b));
    attn->v_b = mk_arena_alloc(&b->w->arena, c->num_attention_heads, sizeof(*attn->v_b));
    attn->k_up = mk_arena_alloc(&b->w->arena, c->num_attention_heads, sizeof(*attn->k_up));
    if (attn->k_b == NULL || attn->v_b == NULL || attn->k_up == NULL)
        return MINKE_ENOMEM;
    layer->gate.exact = attn->indexer.wq_b.exact = attn->indexer.wk.exact = 1;
    attn->indexer.weights_proj.exact = 1;
    const int32_t rc = weights_bind_all(
        b, prefix, weights_layer_fields,
        MK_COUNT(weights_layer_fields), layer, holds);

    if (rc < 0)
        return rc;
    if (is_moe)
        return weights_bind_experts(b, prefix, layer);
    mk_format(name, sizeof(name), "%smlp.", prefix);
    return weights_bind_mlp(b, name, &layer->mlp, c->intermediate_size, MK_PART_OTHER);
}

/* Whether the checkpoint has the tensor; counts as used. */
static int weights_has(struct weights_binder *b, const char *prefix, const char *suffix)
{
    struct mk_stored t;
    char name[192];

    mk_format(name, sizeof(name), "%s%s", prefix, suffix);
    return b->source->find(b->source->self, name, &t) != 0;
}

/* The prediction layer follows the last one.  Its embedding and head are copies of the
 * model's own: known, but not loaded. */
static int32_t weights_bind_mtp(struct weights_binder *b)
{
    const uint32_t l = b->config->num_hidden_layers;
    char prefix[64];
    int32_t rc;

    mk_format(prefix, sizeof(prefix), "model.layers.%u.", l);
    if (b->config->num_nextn_predict_layers == 0
        || !(weights_has(b, prefix, "eh_proj.weight") | weights_has(b, prefix, "enorm.weight")))
        return MINKE_OK;
    b->w->mtp = mk_arena_alloc(&b->w->arena, 1, sizeof(*b->w->mtp));
    if (b->w->mtp == NULL)
        return MINKE_ENOMEM;
    b->is_mtp = 1;
    rc = weights_bind_all(b, prefix, weights_mtp_fields,
                          MK_COUNT(weights_mtp_fields),
                          b->w->mtp, 0);
    if (rc == MINKE_OK)
        rc = weights_bind_layer(b, prefix, l, &b->w->mtp->layer);
    (void)weights_has(b, prefix, "embed_tokens.weight");
    (void)weights_has(b, prefix, "shared_head.head.weight");
    b->is_mtp = 0;
    b->plan.n_groups++;
    return rc;
}

static int32_t weights_bind_model(struct weights_binder *b)
{
    const struct mk_config *c = b->config;
    const size_t n = c->tie_word_embeddings ? 1 : 2;
    int32_t rc;
    char prefix[64];

    b->w->layers = mk_arena_alloc(&b->w->arena, c->num_hidden_layers, sizeof(*b->w->layers));
    if (b->w->layers == NULL)
        return MINKE_ENOMEM;
    rc = weights_bind(b, "", &weights_embed_field, b->w, MK_PART_EMBED);
    if (rc == MINKE_OK)
        rc = weights_bind_all(b, "", weights_model_fields, n, b->w, 0);
    if (rc < 0)
        return rc;
    if (c->tie_word_embeddings) {
        (void)weights_has(b, "", "lm_head.weight");
        b->plan.items[0].keep_rows = 0;
        b->w->n_params_active += (uint64_t)c->vocab_size * c->hidden_size;
    }
    b->plan.n_groups++;
    for (uint32_t l = 0; l < c->num_hidden_layers; l++) {
        mk_format(prefix, sizeof(prefix), "model.layers.%u.", l);
        rc = weights_bind_layer(b, prefix, l, &b->w->layers[l]);
        if (rc < 0)
            return rc;
        b->plan.n_groups++;
    }
    return weights_bind_mtp(b);
}

/* ---- Sizes --------------------------------------------------------------- */

static uint64_t weights_mat_bytes(const struct mk_mat *m)
{
    const uint64_t scales = m->scale == NULL ? 0
        : (uint64_t)mk_ceil_div(m->n_out, 128) * mk_ceil_div(m->n_in, 128) * sizeof(float);

    if (m->data == NULL)
        return 0;
    if (m->layout == MK_LAYOUT_PACKED)
        return mk_mat_packed_bytes(m->type, m->n_out, m->n_in) + scales;
    return (uint64_t)m->n_out * m->row_bytes + scales;
}

static uint64_t weights_mlp_bytes(const struct mk_mlp_weights *m)
{
    return weights_mat_bytes(&m->gate_proj) + weights_mat_bytes(&m->up_proj)
         + weights_mat_bytes(&m->down_proj);
}

static uint64_t weights_attention_bytes(const struct mk_attention_weights *a, uint32_t n_heads)
{
    uint64_t bytes = weights_mat_bytes(&a->q_proj) + weights_mat_bytes(&a->q_a_proj)
                   + weights_mat_bytes(&a->q_b_proj) + weights_mat_bytes(&a->kv_a_proj_with_mqa)
                   + weights_mat_bytes(&a->o_proj) + weights_mat_bytes(&a->indexer.wq_b)
                   + weights_mat_bytes(&a->indexer.wk)
                   + weights_mat_bytes(&a->indexer.weights_proj);

    for (uint32_t h = 0; h < n_heads; h++)
        bytes += weights_mat_bytes(&a->k_b[h]) + weights_mat_bytes(&a->v_b[h]);
    return bytes;
}

uint64_t mk_weights_decode_bytes(const struct mk_weights *w, const struct mk_config *config)
{
    uint64_t bytes = weights_mat_bytes(&w->lm_head);

    for (uint32_t l = 0; w->layers != NULL && l < config->num_hidden_layers; l++) {
        const struct mk_layer_weights *layer = &w->layers[l];
        uint64_t experts = 0;

        for (uint32_t e = 0; layer->experts != NULL && e < config->n_routed_experts; e++)
            experts += weights_mlp_bytes(&layer->experts[e]);
        if (experts > 0)
            bytes += experts * config->num_experts_per_tok / config->n_routed_experts;
        bytes += weights_attention_bytes(&layer->self_attn, config->num_attention_heads)
               + weights_mlp_bytes(&layer->mlp) + weights_mat_bytes(&layer->gate)
               + weights_mlp_bytes(&layer->shared_experts);
    }
    return bytes;
}

/* ---- What no field takes ------------------------------------------------- */

#define WEIGHTS_LOGGED 16u   /* names told to the log; the info has all */

static int32_t weights_list_surplus(struct weights_binder *b, uint32_t flags)
{
    const struct mk_source *s = b->source;
    size_t i = 0, n = 0;
    const char *name;

    while (s->unused(s->self, &i) != NULL)
        n++;
    b->w->surplus = mk_arena_alloc(&b->w->arena, n, sizeof(*b->w->surplus));
    if (b->w->surplus == NULL)
        return MINKE_ENOMEM;
    for (i = 0; (name = s->unused(s->self, &i)) != NULL;) {
        if (flags & MINKE_CONTEXT_STRICT)
            return mk_fail(MINKE_EFORMAT, "tensor %s: the model has no use for it (%zu in all)",
                           name, n);
        if (b->w->n_surplus < WEIGHTS_LOGGED)
            mk_log(b->env, MINKE_LOG_WARN, "tensor %s is not used", name);
        const char *copy = mk_arena_text(&b->w->arena, name, strlen(name));

        if (copy == NULL)
            return MINKE_ENOMEM;
        b->w->surplus[b->w->n_surplus++] = copy;
    }
    if (n > WEIGHTS_LOGGED)
        mk_log(b->env, MINKE_LOG_WARN, "%zu more tensors are not used", n - WEIGHTS_LOGGED);
    return MINKE_OK;
}

/* ---- Loading ------------------------------------------------------------- */

int32_t mk_weights_bind(struct mk_weights *out, const struct mk_env *env,
                        const struct mk_config *config, const struct mk_source *source,
                        const struct mk_load_options *options)
{
    struct weights_binder b;
    int32_t rc;

    memset(out, 0, sizeof(*out));
    memset(&b, 0, sizeof(b));
    mk_arena_init(&out->arena, &env->alloc);
    b.env = env;
    b.config = config;
    b.source = source;
    b.w = out;
    weights_dims(b.dims, config);
    rc = weights_bind_model(&b);
    if (rc == MINKE_OK)
        rc = weights_list_surplus(&b, options->flags);
    if (rc == MINKE_OK)
        rc = mk_weights_fill(out, env, config, &b.plan, options);
    if (rc == MINKE_OK && (options->flags & MINKE_CONTEXT_MMAP))
        rc = source->keep_files(source->self, &out->files, &out->n_files);
    for (int t = 0; t < MK_N_TYPES; t++)
        if (b.type_bytes[t] > b.type_bytes[out->main_type])
            out->main_type = (enum mk_type)t;
    if (config->tie_word_embeddings)
        out->lm_head = out->embed_tokens;
    mk_free(&env->alloc, b.plan.items);
    if (rc < 0)
        mk_weights_free(out, env);
    return rc;
}

int32_t mk_weights_load(struct mk_weights *out, const struct mk_env *env,
                        const struct mk_config *config, const char *path,
                        const struct mk_load_options *options)
{
    struct mk_source source;
    int32_t rc = mk_st_source_open(&source, env, path);

    if (rc < 0)
        return rc;
    rc = mk_weights_bind(out, env, config, &source, options);
    source.free(source.self);
    return rc;
}

void mk_weights_free(struct mk_weights *w, const struct mk_env *env)
{
    for (size_t i = 0; i < w->n_blocks; i++)
        mk_block_free(&w->blocks[i], &env->alloc);
    for (size_t i = 0; i < w->n_files; i++)
        mk_file_close(w->files[i]);
    mk_free(&env->alloc, w->files);
    if (w->arena.a != NULL)
        mk_arena_free(&w->arena);
    memset(w, 0, sizeof(*w));
}
