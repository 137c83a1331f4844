/* Tensors bound to fields, and fields walked, by the list of format/tensors.h. */
#include "model/weights.h"

#include <string.h>

#include "base/checked.h"
#include "kernels/matmul.h"
#include "model/weights_internal.h"

/* Where the fields of a tensor's struct are. */
#define WEIGHTS_IN_MODEL  struct mk_weights
#define WEIGHTS_IN_LAYER  struct mk_layer_weights
#define WEIGHTS_IN_EXPERT struct mk_mlp_weights
#define WEIGHTS_IN_MTP    struct mk_mtp_weights
#define WEIGHTS_OFFSET(of, id, field, ...) [MK_T_##id] = offsetof(WEIGHTS_IN_##of, field),
#define WEIGHTS_NO_OFFSET(of, id, ...)

static const size_t weights_offsets[MK_N_TENSORS] = {
    MK_TENSORS(WEIGHTS_OFFSET, WEIGHTS_NO_OFFSET)
};

static void *weights_field(void *base, uint32_t tensor)
{
    return (char *)base + weights_offsets[tensor];
}

/* ---- Binding ------------------------------------------------------------- */

struct weights_binder {
    struct mk_checkpoint *checkpoint;
    const struct mk_config *config;
    const struct mk_allocator *alloc;
    struct mk_weights *w;
    struct mk_weights_plan plan;
    uint64_t type_bytes[MK_N_TYPES];
};

static void weights_count(struct weights_binder *b, const struct mk_weights_item *item,
                          struct mk_tensor_id id)
{
    const uint64_t n = (uint64_t)item->n_out * (item->n_in > 0 ? item->n_in : 1);
    const int is_idle = mk_tensors[id.tensor].of == MK_OF_EXPERT
                     && id.expert >= b->config->num_experts_per_tok;

    b->type_bytes[item->t.type] += item->t.size;
    b->type_bytes[item->values.type] += item->values.size;
    if (id.layer == b->config->num_hidden_layers)
        return;
    b->w->n_params += n;
    if (!is_idle && !item->keep_rows)
        b->w->n_params_active += n;
}

/* kv_b_proj, or the two tensors that it was taken apart into. */
static int32_t weights_take_kv_b(struct weights_binder *b, struct mk_tensor_id id,
                                 struct mk_weights_item *item)
{
    struct mk_tensor_id k_b = id, v_b = id;
    struct mk_stored t;
    int32_t rc;

    k_b.tensor = MK_T_K_B_PROJ;
    v_b.tensor = MK_T_V_B_PROJ;
    if (mk_checkpoint_find(b->checkpoint, id, &t) != 0
        || mk_checkpoint_find(b->checkpoint, k_b, &t) == 0)
        return mk_checkpoint_take(b->checkpoint, id, &item->t);
    item->kind = MK_KIND_HEADS;
    rc = mk_checkpoint_take(b->checkpoint, k_b, &item->t);
    return rc < 0 ? rc : mk_checkpoint_take(b->checkpoint, v_b, &item->values);
}

/* One tensor, into its field of the struct at base. */
static int32_t weights_bind(struct weights_binder *b, struct mk_tensor_id id, void *base)
{
    const struct mk_tensor *row = &mk_tensors[id.tensor];
    struct mk_weights_item item = {
        .field = weights_field(base, id.tensor), .group = b->plan.n_groups, .kind = row->kind,
        .part = row->part,
        .keep_rows = row->part == MK_PART_EMBED && !b->config->tie_word_embeddings,
    };
    uint64_t shape[3];
    int32_t rc;

    mk_tensor_shape(shape, id.tensor, b->config);
    item.n_out = (size_t)shape[0];
    item.n_in = row->kind == MK_KIND_VECTOR ? 0 : (size_t)shape[1];
    rc = row->kind == MK_KIND_KV_B ? weights_take_kv_b(b, id, &item)
                                   : mk_checkpoint_take(b->checkpoint, id, &item.t);
    if (rc == MINKE_OK && item.t.type == MK_F8_E4M3)
        rc = item.n_in > 0 ? mk_checkpoint_take_scale(b->checkpoint, &item.t, &item.scale)
           : mk_fail(MINKE_EUNSUPPORTED, "tensor %s: type F8_E4M3 for a vector",
                     item.t.name.data);
    if (rc == MINKE_OK)
        rc = mk_grow(b->alloc, (void **)&b->plan.items, &b->plan.capacity, b->plan.n + 1,
                     sizeof(item));
    if (rc < 0)
        return rc;
    b->plan.items[b->plan.n++] = item;
    weights_count(b, &item, id);
    return MINKE_OK;
}

/* All tensors of the struct at base, one of these. */
static int32_t weights_bind_all(struct weights_binder *b, uint32_t of, struct mk_tensor_id id,
                                void *base)
{
    int32_t rc = MINKE_OK;

    for (id.tensor = 0; rc == MINKE_OK; id.tensor++) {
        id.tensor = mk_tensor_next(id.tensor, of, b->config, id.layer);
        if (id.tensor == MK_N_TENSORS)
            return MINKE_OK;
        if (mk_tensors[id.tensor].kind != MK_KIND_HEADS)
            rc = weights_bind(b, id, base);
    }
    return rc;
}

/* What a layer's struct points to; zeros as long as nothing is bound. */
static int32_t weights_room(struct weights_binder *b, uint32_t l, struct mk_layer_weights *layer)
{
    const struct mk_config *c = b->config;
    struct mk_attention_weights *attn = &layer->self_attn;
    struct mk_mat **const heads[] = {&attn->k_b, &attn->v_b, &attn->k_up};

    for (size_t i = 0; i < MK_COUNT(heads); i++) {
        *heads[i] = mk_arena_alloc(&b->w->arena, c->num_attention_heads, sizeof(**heads[i]));
        if (*heads[i] == NULL)
            return MINKE_ENOMEM;
    }
    if (!mk_config_is_moe(c, l))
        return MINKE_OK;
    layer->experts = mk_arena_alloc(&b->w->arena, c->n_routed_experts, sizeof(*layer->experts));
    return layer->experts == NULL ? MINKE_ENOMEM : MINKE_OK;
}

static int32_t weights_bind_layer(struct weights_binder *b, uint32_t l,
                                  struct mk_layer_weights *layer)
{
    struct mk_tensor_id id = {.layer = l};
    int32_t rc = weights_room(b, l, layer);

    if (rc == MINKE_OK)
        rc = weights_bind_all(b, MK_OF_LAYER, id, layer);
    /* An expert's matrices lie together, as in checkpoints. */
    for (; layer->experts != NULL && id.expert < b->config->n_routed_experts && rc == MINKE_OK;
         id.expert++)
        rc = weights_bind_all(b, MK_OF_EXPERT, id, &layer->experts[id.expert]);
    b->plan.n_groups++;
    return rc;
}

/* Whether the checkpoint has a tensor, which counts as used. */
static int weights_has(struct weights_binder *b, uint32_t tensor)
{
    const struct mk_tensor_id id = {tensor, b->config->num_hidden_layers, 0};
    struct mk_stored t;

    return mk_checkpoint_find(b->checkpoint, id, &t) != 0;
}

/* The prediction layer follows the last one.  Its embedding and head are copies of the
 * model's own: known, but not loaded. */
static int32_t weights_bind_mtp(struct weights_binder *b)
{
    const struct mk_tensor_id id = {.layer = b->config->num_hidden_layers};
    int32_t rc;

    if (b->config->num_nextn_predict_layers == 0
        || !(weights_has(b, MK_T_EH_PROJ) | weights_has(b, MK_T_ENORM)))
        return MINKE_OK;
    b->w->mtp = mk_arena_alloc(&b->w->arena, 1, sizeof(*b->w->mtp));
    if (b->w->mtp == NULL)
        return MINKE_ENOMEM;
    rc = weights_bind_all(b, MK_OF_MTP, id, b->w->mtp);
    if (rc == MINKE_OK)
        rc = weights_bind_layer(b, id.layer, &b->w->mtp->layer);
    (void)weights_has(b, MK_T_MTP_EMBED_TOKENS);
    (void)weights_has(b, MK_T_MTP_LM_HEAD);
    return rc;
}

static int32_t weights_bind_model(struct weights_binder *b)
{
    const struct mk_config *c = b->config;
    int32_t rc;

    b->w->layers = mk_arena_alloc(&b->w->arena, c->num_hidden_layers, sizeof(*b->w->layers));
    if (b->w->layers == NULL)
        return MINKE_ENOMEM;
    rc = weights_bind_all(b, MK_OF_MODEL, (struct mk_tensor_id){0}, b->w);
    b->plan.n_groups++;
    if (c->tie_word_embeddings)
        (void)weights_has(b, MK_T_LM_HEAD);
    for (uint32_t l = 0; l < c->num_hidden_layers && rc == MINKE_OK; l++)
        rc = weights_bind_layer(b, l, &b->w->layers[l]);
    return rc < 0 ? rc : weights_bind_mtp(b);
}

/* ---- Walking ------------------------------------------------------------- */

struct weights_walk {
    const struct mk_config *config;
    mk_weight_fn visit;
    void *user;
};

/* The fields of n structs at base that are bound. */
static int32_t weights_walk_all(const struct weights_walk *k, uint32_t of, uint32_t l, void *base,
                                size_t n)
{
    int32_t rc = MINKE_OK;

    for (uint32_t t = 0; t < MK_N_TENSORS && rc == MINKE_OK; t++) {
        const struct mk_tensor *row = &mk_tensors[t];
        struct mk_weight w = {.id = {t, l, 0}, .mats = weights_field(base, t), .n = n,
                              .stride = sizeof(struct mk_mlp_weights)};
        uint64_t shape[3];

        if (row->of != of || row->kind >= MK_KIND_FUSED || row->kind == MK_KIND_KV_B)
            continue;
        mk_tensor_shape(shape, t, k->config);
        if (row->kind == MK_KIND_HEADS) {
            w.mats = *(struct mk_mat *const *)weights_field(base, t);
            w.n = k->config->num_attention_heads;
            w.stride = sizeof(struct mk_mat);
        } else if (row->kind == MK_KIND_VECTOR) {
            w.mats = NULL;
            w.vector = *(const float *const *)weights_field(base, t);
            w.n = (size_t)shape[0];
        }
        if (w.vector != NULL || (w.mats != NULL && w.mats->data != NULL))
            rc = k->visit(k->user, &w);
    }
    return rc;
}

static int32_t weights_walk_layer(const struct weights_walk *k, uint32_t l,
                                  struct mk_layer_weights *layer)
{
    const int32_t rc = weights_walk_all(k, MK_OF_LAYER, l, layer, 1);

    return rc < 0 || layer->experts == NULL
         ? rc : weights_walk_all(k, MK_OF_EXPERT, l, layer->experts, k->config->n_routed_experts);
}

int32_t mk_weights_walk(struct mk_weights *w, const struct mk_config *config, mk_weight_fn visit,
                        void *user)
{
    const struct weights_walk k = {config, visit, user};
    const uint32_t n = config->num_hidden_layers;
    int32_t rc = weights_walk_all(&k, MK_OF_MODEL, 0, w, 1);

    for (uint32_t l = 0; l < n && rc == MINKE_OK; l++)
        rc = weights_walk_layer(&k, l, &w->layers[l]);
    if (rc < 0 || w->mtp == NULL)
        return rc;
    rc = weights_walk_all(&k, MK_OF_MTP, n, w->mtp, 1);
    return rc < 0 ? rc : weights_walk_layer(&k, n, &w->mtp->layer);
}

/* ---- Sizes --------------------------------------------------------------- */

static uint64_t weights_mat_bytes(const struct mk_mat *m)
{
    const uint64_t scales = m->scale == NULL ? 0
        : (uint64_t)mk_ceil_div(m->n_out, MK_SCALE_TILE) * mk_ceil_div(m->n_in, MK_SCALE_TILE)
          * sizeof(float);

    if (m->layout == MK_LAYOUT_PACKED)
        return mk_mat_packed_bytes(m->type, m->n_out, m->n_in) + scales;
    return (uint64_t)m->n_out * m->row_bytes + scales;
}

/* Of what one token meets: not the prediction layer, no more experts than it is sent to, and of
 * the embedding no more than a row. */
static int32_t weights_add_bytes(void *user, const struct mk_weight *w)
{
    struct weights_binder *b = user;
    const struct mk_tensor *row = &mk_tensors[w->id.tensor];
    const size_t n = row->of == MK_OF_EXPERT ? mk_min(w->n, b->config->num_experts_per_tok)
                                             : w->n;

    if (w->mats == NULL || w->id.layer == b->config->num_hidden_layers
        || row->part == MK_PART_EMBED)
        return MINKE_OK;
    for (size_t i = 0; i < n; i++)
        b->w->decode_bytes += weights_mat_bytes(mk_weight_mat(w, i));
    return MINKE_OK;
}

/* ---- What no field takes ------------------------------------------------- */

#define WEIGHTS_LOGGED 16u   /* names told to the log; the info has all */

static int32_t weights_list_surplus(struct weights_binder *b, uint32_t flags)
{
    const struct mk_checkpoint *c = b->checkpoint;
    size_t n = 0;

    for (size_t i = 0; i < c->n_tensors; i++)
        n += !c->used[i];
    b->w->surplus = mk_arena_alloc(&b->w->arena, n, sizeof(*b->w->surplus));
    if (b->w->surplus == NULL)
        return MINKE_ENOMEM;
    for (size_t i = 0; i < c->n_tensors; i++) {
        const char *name = c->tensors[i].name.data;

        if (c->used[i])
            continue;
        if (flags & MINKE_CONTEXT_STRICT)
            return mk_fail(MINKE_EFORMAT, "tensor %s: the model has no use for it (%zu in all)",
                           name, n);
        if (b->w->n_surplus < WEIGHTS_LOGGED)
            mk_log(c->env, MINKE_LOG_WARN, "tensor %s is not used", name);
        b->w->surplus[b->w->n_surplus] = mk_arena_text(&b->w->arena, name,
                                                       c->tensors[i].name.len);
        if (b->w->surplus[b->w->n_surplus++] == NULL)
            return MINKE_ENOMEM;
    }
    if (n > WEIGHTS_LOGGED)
        mk_log(c->env, MINKE_LOG_WARN, "%zu more tensors are not used", n - WEIGHTS_LOGGED);
    return MINKE_OK;
}

/* ---- Loading ------------------------------------------------------------- */

int32_t mk_weights_load(struct mk_weights *out, struct mk_checkpoint *c,
                        const struct mk_load_options *options)
{
    struct weights_binder b = {.checkpoint = c, .config = &c->config, .alloc = &c->env->alloc,
                               .w = out};
    int32_t rc;

    memset(out, 0, sizeof(*out));
    mk_arena_init(&out->arena, b.alloc);
    rc = weights_bind_model(&b);
    if (rc == MINKE_OK)
        rc = weights_list_surplus(&b, options->flags);
    if (rc == MINKE_OK)
        rc = mk_weights_fill(out, c->env, b.config, &b.plan, options);
    mk_free(b.alloc, b.plan.items);
    if (rc < 0) {
        mk_weights_free(out, c->env);
        return rc;
    }
    if (options->flags & MINKE_CONTEXT_MMAP) {
        out->files = c->files;
        out->n_files = c->n_files;
        c->files = NULL;
        c->n_files = 0;
    }
    for (int t = 0; t < MK_N_TYPES; t++)
        if (b.type_bytes[t] > b.type_bytes[out->main_type])
            out->main_type = (enum mk_type)t;
    if (b.config->tie_word_embeddings)
        out->lm_head = out->embed_tokens;
    return mk_weights_walk(out, b.config, weights_add_bytes, &b);
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
