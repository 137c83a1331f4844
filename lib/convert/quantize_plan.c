/* Which tensors a converted file holds, in which types, from which tensors of the model. */
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "convert/quantize.h"

/* ---- Types --------------------------------------------------------------------------------- */

/* A preset by parts: embed, head, attention, dense, shared, gate_up, down.  Every token meets
 * attention, dense layers and shared experts, a small part of all bytes: they get more bits
 * than routed experts.  file_type: the nearest of llama.cpp's numbers, for its display. */
static const struct qplan_preset {
    const char *name;
    uint8_t types[MK_N_CHOSEN];
    uint32_t file_type;
} qplan_presets[] = {
    {"q5_k_m", {MK_Q5_K, MK_Q6_K, MK_Q6_K, MK_Q6_K, MK_Q6_K, MK_Q5_K, MK_Q6_K}, 17},
    {"q4_k_m", {MK_Q4_K, MK_Q6_K, MK_Q5_K, MK_Q5_K, MK_Q5_K, MK_Q4_K, MK_Q5_K}, 15},
    {"q4_k_s", {MK_Q4_K, MK_Q6_K, MK_Q4_K, MK_Q4_K, MK_Q4_K, MK_Q4_K, MK_Q4_K}, 14},
    {"q3_k_m", {MK_Q4_K, MK_Q6_K, MK_Q5_K, MK_Q5_K, MK_Q5_K, MK_Q3_K, MK_Q4_K}, 12},
    {"q2_k_m", {MK_Q4_K, MK_Q6_K, MK_Q5_K, MK_Q4_K, MK_Q5_K, MK_Q2_K, MK_Q3_K}, 10},
};

static int qplan_same(const char *a, const char *b)
{
    for (; *a != '\0' && *b != '\0'; a++, b++) {
        const char x = *a >= 'A' && *a <= 'Z' ? (char)(*a - 'A' + 'a') : *a;
        const char y = *b >= 'A' && *b <= 'Z' ? (char)(*b - 'A' + 'a') : *b;
        if (x != y)
            return 0;
    }
    return *a == *b;
}

/* A type that files are written of, by its name in any case; MK_N_TYPES when there is none. */
static enum mk_type qplan_find_type(const char *name)
{
    for (int type = 0; type < MK_N_TYPES; type++) {
        const struct mk_type_info *info = mk_type_info((enum mk_type)type);

        if (info->file_type >= 0 && qplan_same(info->name, name))
            return (enum mk_type)type;
    }
    return MK_N_TYPES;
}

int32_t mk_q_type(enum mk_type *out, const char *name)
{
    const enum mk_type type = qplan_find_type(name);

    if (type == MK_N_TYPES)
        return mk_fail(MINKE_EUNSUPPORTED, "%s: no type that can be written", name);
    *out = type;
    return MINKE_OK;
}

int32_t mk_q_preset(struct mk_q_plan *plan, const char *name)
{
    const enum mk_type type = qplan_find_type(name);

    for (size_t i = 0; i < MK_COUNT(qplan_presets); i++) {
        if (!qplan_same(qplan_presets[i].name, name))
            continue;
        for (int part = 0; part < MK_N_CHOSEN; part++)
            plan->types[part] = (enum mk_type)qplan_presets[i].types[part];
        plan->file_type = qplan_presets[i].file_type;
        return MINKE_OK;
    }
    if (type == MK_N_TYPES)
        return mk_fail(MINKE_EUNSUPPORTED, "%s: no preset and no type that can be written", name);
    for (int part = 0; part < MK_N_CHOSEN; part++)
        plan->types[part] = type;
    plan->file_type = (uint32_t)mk_type_info(type)->file_type;
    return MINKE_OK;
}

/* The wanted type, or what takes its place where rows are no multiple of its block. */
static enum mk_type qplan_fit(enum mk_type type, uint64_t row)
{
    while (row % mk_type_info(type)->block_len != 0)
        type = mk_type_info(type)->instead;
    return type;
}

/* ---- Outputs ------------------------------------------------------------------------------- */

/* An output of the shape and type of from[0], with one more dimension for several. */
static struct mk_q_output *qplan_add(struct mk_q_plan *plan, const struct mk_checkpoint *c,
                                     const char *name, const struct mk_stored *from,
                                     uint32_t n_from)
{
    const uint32_t n_dims = from->n_dims;
    struct mk_q_output *o;

    if (mk_grow(&c->env->alloc, (void **)&plan->outputs, &plan->capacity, plan->n + 1,
                sizeof(*o)) < 0)
        return NULL;
    o = &plan->outputs[plan->n++];
    *o = (struct mk_q_output){.type = from->type, .n_dims = n_dims == 0 ? 1 : n_dims,
                              .dims = {1, 1, 1, 1}, .rows = {.n = 1, .n_runs = 1},
                              .from = from, .n_from = n_from};
    mk_format(o->name, sizeof(o->name), "%s", name);
    for (uint32_t d = 0; d < n_dims; d++) {
        o->dims[d] = from->shape[n_dims - 1 - d];
        o->rows.n *= d > 0 ? o->dims[d] : 1;
    }
    if (n_from > 1)
        o->dims[o->n_dims++] = n_from;
    return o;
}

/* The type that was chosen for a tensor's part. */
static void qplan_choose(const struct mk_q_plan *plan, struct mk_q_output *o,
                         const struct mk_tensor *row)
{
    const uint32_t part = row->part == MK_PART_MTP ? MK_PART_ATTENTION : row->part;
    const int is_exact = o->n_dims == 1 || row->kind == MK_KIND_VECTOR
                      || row->kind == MK_KIND_SCORES;

    o->type = is_exact ? MK_F32 : qplan_fit(plan->types[part], o->dims[0]);
}

/* A tensor, or those of all experts as one. */
static int32_t qplan_add_tensor(struct mk_q_plan *plan, struct mk_checkpoint *c,
                                struct mk_tensor_id id)
{
    const struct mk_tensor *row = &mk_tensors[id.tensor];
    const uint32_t n = row->of == MK_OF_EXPERT ? c->config.n_routed_experts : 1;
    struct mk_stored *from = mk_arena_alloc(&c->arena, n, sizeof(*from));
    struct mk_q_output *o;
    char name[MK_TENSOR_NAME];

    if (from == NULL)
        return MINKE_ENOMEM;
    for (; id.expert < n; id.expert++) {
        const int32_t rc = mk_checkpoint_take(c, id, &from[id.expert]);

        if (rc < 0)
            return rc;
    }
    mk_tensor_gguf_name(name, id);
    o = qplan_add(plan, c, name, from, n);
    if (o == NULL)
        return MINKE_ENOMEM;
    qplan_choose(plan, o, row);
    return MINKE_OK;
}

/* kv_b_proj (H (N + V), L) as attn_k_b (H, L, N), each head's N rows transposed, and attn_v_b
 * (H, V, L). */
static int32_t qplan_add_kv_b(struct mk_q_plan *plan, struct mk_checkpoint *c, uint32_t layer)
{
    const uint64_t N = c->config.qk_nope_head_dim, V = c->config.v_head_dim;
    const struct mk_q_rows rows[2] = {{0, N, N + V, c->config.num_attention_heads, 1},
                                      {N, V, N + V, c->config.num_attention_heads, 0}};
    struct mk_stored *from = mk_arena_alloc(&c->arena, 1, sizeof(*from));
    struct mk_tensor_id id = {MK_T_KV_B_PROJ, layer, 0};
    const int32_t rc = from == NULL ? MINKE_ENOMEM : mk_checkpoint_take(c, id, from);

    if (rc < 0)
        return rc;
    for (uint32_t k = 0; k < 2; k++) {
        struct mk_stored part = *from;
        struct mk_q_output *o;
        char name[MK_TENSOR_NAME];

        id.tensor = k == 0 ? MK_T_K_B_PROJ : MK_T_V_B_PROJ;
        part.n_dims = mk_tensor_shape(part.shape, id.tensor, &c->config);
        mk_tensor_gguf_name(name, id);
        o = qplan_add(plan, c, name, &part, 1);
        if (o == NULL)
            return MINKE_ENOMEM;
        o->from = from;
        o->rows = rows[k];
        qplan_choose(plan, o, &mk_tensors[id.tensor]);
    }
    return MINKE_OK;
}

/* All tensors of these structs, but for kv_b_proj. */
static int32_t qplan_add_all(struct mk_q_plan *plan, struct mk_checkpoint *c, uint32_t of,
                             uint32_t layer)
{
    struct mk_tensor_id id = {0, layer, 0};
    int32_t rc = MINKE_OK;

    for (; rc == MINKE_OK; id.tensor++) {
        id.tensor = mk_tensor_next(id.tensor, of, &c->config, layer);
        if (id.tensor == MK_N_TENSORS)
            return MINKE_OK;
        if (mk_tensors[id.tensor].kind < MK_KIND_KV_B)
            rc = qplan_add_tensor(plan, c, id);
    }
    return rc;
}

static int32_t qplan_from_folder(struct mk_q_plan *plan, struct mk_checkpoint *c)
{
    const uint32_t n = c->config.num_hidden_layers;
    struct mk_stored t;
    int32_t rc = qplan_add_all(plan, c, MK_OF_MODEL, 0);

    if (mk_checkpoint_find(c, (struct mk_tensor_id){MK_T_EH_PROJ, n, 0}, &t) == 0)
        c->config.num_nextn_predict_layers = 0;
    for (uint32_t l = 0; l < n + c->config.num_nextn_predict_layers && rc == MINKE_OK; l++) {
        const uint32_t of = MK_OF_LAYER | MK_OF_EXPERT | (l < n ? 0 : MK_OF_MTP);

        rc = qplan_add_all(plan, c, of, l);
        if (rc == MINKE_OK)
            rc = qplan_add_kv_b(plan, c, l);
    }
    return rc;
}

/* What has no name of ours, or is only a copy, keeps its type. */
static int32_t qplan_from_gguf(struct mk_q_plan *plan, struct mk_checkpoint *c)
{
    for (size_t i = 0; i < c->n_tensors; i++) {
        const struct mk_stored *t = &c->tensors[i];
        const struct mk_tensor *row = mk_tensor_of_gguf(t->name.data);
        struct mk_q_output *o;

        if (t->name.len >= sizeof(o->name))
            return mk_fail(MINKE_EUNSUPPORTED, "tensor %s: name of %zu bytes", t->name.data,
                           t->name.len);
        o = qplan_add(plan, c, t->name.data, t, 1);
        if (o == NULL)
            return MINKE_ENOMEM;
        if (row != NULL && row->kind != MK_KIND_COPY)
            qplan_choose(plan, o, row);
    }
    return MINKE_OK;
}

int32_t mk_q_plan(struct mk_q_plan *plan, struct mk_checkpoint *c)
{
    return c->is_gguf ? qplan_from_gguf(plan, c) : qplan_from_folder(plan, c);
}
