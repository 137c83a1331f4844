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
    uint8_t types[MK_GGUF_N_PARTS];
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

    plan->types[MK_GGUF_EXACT] = MK_F32;
    for (size_t i = 0; i < MK_COUNT(qplan_presets); i++) {
        if (!qplan_same(qplan_presets[i].name, name))
            continue;
        for (int part = 0; part < MK_GGUF_N_PARTS; part++)
            plan->types[part] = (enum mk_type)qplan_presets[i].types[part];
        plan->file_type = qplan_presets[i].file_type;
        return MINKE_OK;
    }
    if (type == MK_N_TYPES)
        return mk_fail(MINKE_EUNSUPPORTED, "%s: no preset and no type that can be written", name);
    for (int part = 0; part < MK_GGUF_N_PARTS; part++)
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

static struct mk_q_output *qplan_add(struct mk_q_plan *plan, struct mk_q_source *s,
                                     uint32_t n_from)
{
    struct mk_q_output *o;

    if (plan->n == plan->capacity) {
        /* The arena keeps the smaller arrays too: at most as much again. */
        const size_t capacity = plan->capacity == 0 ? 256 : 2 * plan->capacity;
        struct mk_q_output *grown = mk_arena_alloc(&s->arena, capacity, sizeof(*grown));
        if (grown == NULL)
            return NULL;
        if (plan->n > 0)
            memcpy(grown, plan->outputs, plan->n * sizeof(*grown));
        plan->outputs = grown;
        plan->capacity = capacity;
    }
    o = &plan->outputs[plan->n];
    o->from = mk_arena_alloc(&s->arena, n_from, sizeof(*o->from));
    if (o->from == NULL)
        return NULL;
    o->n_from = n_from;
    plan->n++;
    return o;
}

/* An output of the shape of its source, or with one more dimension for several. */
static int32_t qplan_add_rows(struct mk_q_plan *plan, struct mk_q_source *s, const char *name,
                              const struct mk_q_tensor *const *from, uint32_t n_from,
                              enum mk_gguf_part part)
{
    struct mk_q_output *o = qplan_add(plan, s, n_from);

    if (o == NULL)
        return MINKE_ENOMEM;
    mk_format(o->name, sizeof(o->name), "%s", name);
    o->how = MK_Q_ROWS;
    o->n_dims = from[0]->n_dims == 0 ? 1 : from[0]->n_dims;
    memcpy(o->dims, from[0]->dims, sizeof(o->dims));
    for (uint32_t i = 0; i < n_from; i++) {
        if (from[i]->dims[0] != o->dims[0] || from[i]->rows != from[0]->rows)
            return mk_fail(MINKE_EFORMAT, "tensor %s: not of the shape of %s",
                           from[i]->name.data, from[0]->name.data);
        o->from[i] = from[i];
    }
    if (n_from > 1)
        o->dims[o->n_dims++] = n_from;
    o->type = o->n_dims == 1 ? MK_F32 : qplan_fit(plan->types[part], o->dims[0]);
    return MINKE_OK;
}

/* kv_b_proj (H (N + V), L) as attn_k_b (H, L, N), transposed, and attn_v_b (H, V, L). */
static int32_t qplan_add_kv_b(struct mk_q_plan *plan, struct mk_q_source *s, uint32_t layer,
                              const struct mk_q_tensor *t)
{
    const struct mk_config *c = &s->config;
    const uint64_t heads = c->num_attention_heads, n = c->qk_nope_head_dim, v = c->v_head_dim;

    if (t->rows != heads * (n + v) || t->dims[0] != c->kv_lora_rank)
        return mk_fail(MINKE_EFORMAT, "tensor %s: shape (%llu, %u) expected", t->name.data,
                       (unsigned long long)(heads * (n + v)), c->kv_lora_rank);
    for (int k = 0; k < 2; k++) {
        struct mk_q_output *o = qplan_add(plan, s, 1);
        if (o == NULL)
            return MINKE_ENOMEM;
        mk_format(o->name, sizeof(o->name), "blk.%u.attn_%c_b.weight", layer, k == 0 ? 'k' : 'v');
        o->how = k == 0 ? MK_Q_K_B : MK_Q_V_B;
        o->from[0] = t;
        o->n_dims = 3;
        o->dims[0] = k == 0 ? n : c->kv_lora_rank;
        o->dims[1] = k == 0 ? c->kv_lora_rank : v;
        o->dims[2] = heads;
        o->dims[3] = 1;
        o->type = qplan_fit(plan->types[MK_GGUF_ATTENTION], o->dims[0]);
    }
    return MINKE_OK;
}

/* All experts' tensors of one kind; none of them there is fine. */
static int32_t qplan_add_experts(struct mk_q_plan *plan, struct mk_q_source *s, uint32_t layer,
                                 const struct mk_gguf_name *name)
{
    const uint32_t n = s->config.n_routed_experts;
    const struct mk_q_tensor **from = mk_arena_alloc(&s->arena, n, sizeof(*from));
    char full[128], suffix[64], out[64];

    if (from == NULL)
        return MINKE_ENOMEM;
    for (uint32_t e = 0; e < n; e++) {
        /* The suffix follows "mlp.experts.%u". */
        mk_format(suffix, sizeof(suffix), "%s", name->hf + sizeof("mlp.experts.%u") - 1);
        mk_format(full, sizeof(full), "model.layers.%u.mlp.experts.%u%s", layer, e, suffix);
        from[e] = mk_q_source_find(s, full);
        if (from[e] == NULL && e == 0)
            return MINKE_OK;
        if (from[e] == NULL)
            return mk_fail(MINKE_EFORMAT, "tensor %s: missing", full);
    }
    mk_format(out, sizeof(out), "blk.%u.%s", layer, name->gguf);
    return qplan_add_rows(plan, s, out, from, n, (enum mk_gguf_part)name->part);
}

static int32_t qplan_add_layer(struct mk_q_plan *plan, struct mk_q_source *s, uint32_t layer)
{
    const struct mk_q_tensor *t;
    char full[128], out[64];
    int32_t rc = MINKE_OK;

    for (size_t i = 0; mk_gguf_layer_names[i].hf != NULL && rc == MINKE_OK; i++) {
        const struct mk_gguf_name *name = &mk_gguf_layer_names[i];
        if (strncmp(name->hf, "mlp.experts.", 12) == 0) {
            if (s->config.n_routed_experts > 0)
                rc = qplan_add_experts(plan, s, layer, name);
            continue;
        }
        mk_format(full, sizeof(full), "model.layers.%u.%s", layer, name->hf);
        mk_format(out, sizeof(out), "blk.%u.%s", layer, name->gguf);
        t = mk_q_source_find(s, full);
        if (t != NULL)
            rc = qplan_add_rows(plan, s, out, &t, 1, (enum mk_gguf_part)name->part);
    }
    mk_format(full, sizeof(full), "model.layers.%u.self_attn.kv_b_proj.weight", layer);
    t = mk_q_source_find(s, full);
    if (rc == MINKE_OK && t == NULL)
        return mk_fail(MINKE_EFORMAT, "tensor %s: missing", full);
    return rc < 0 ? rc : qplan_add_kv_b(plan, s, layer, t);
}

static int32_t qplan_from_safetensors(struct mk_q_plan *plan, struct mk_q_source *s)
{
    uint32_t n_layers = s->config.num_hidden_layers;
    char extra[64];
    int32_t rc = MINKE_OK;

    /* Checkpoints may leave the prediction layers out that their config counts. */
    mk_format(extra, sizeof(extra), "model.layers.%u.eh_proj.weight", n_layers);
    if (mk_q_source_find(s, extra) == NULL)
        s->config.num_nextn_predict_layers = 0;
    n_layers += s->config.num_nextn_predict_layers;
    for (size_t i = 0; mk_gguf_top_names[i].hf != NULL && rc == MINKE_OK; i++) {
        const struct mk_gguf_name *name = &mk_gguf_top_names[i];
        const struct mk_q_tensor *t = mk_q_source_find(s, name->hf);
        if (t == NULL && !(s->config.tie_word_embeddings && name->part == MK_GGUF_HEAD))
            return mk_fail(MINKE_EFORMAT, "tensor %s: missing", name->hf);
        if (t != NULL)
            rc = qplan_add_rows(plan, s, name->gguf, &t, 1, (enum mk_gguf_part)name->part);
    }
    for (uint32_t l = 0; l < n_layers && rc == MINKE_OK; l++)
        rc = qplan_add_layer(plan, s, l);
    return rc;
}

/* The part of a GGUF tensor; what has no name of ours keeps its type. */
static int qplan_gguf_part(const char *name, enum mk_gguf_part *part)
{
    for (size_t i = 0; mk_gguf_top_names[i].hf != NULL; i++) {
        if (strcmp(name, mk_gguf_top_names[i].gguf) == 0) {
            *part = (enum mk_gguf_part)mk_gguf_top_names[i].part;
            return 1;
        }
    }
    if (strncmp(name, "blk.", 4) != 0 || (name = strchr(name + 4, '.')) == NULL)
        return 0;
    name++;
    for (size_t i = 0; mk_gguf_layer_names[i].hf != NULL; i++) {
        if (strcmp(name, mk_gguf_layer_names[i].gguf) == 0) {
            *part = (enum mk_gguf_part)mk_gguf_layer_names[i].part;
            return 1;
        }
    }
    *part = strcmp(name, "ffn_gate_up_exps.weight") == 0 ? MK_GGUF_GATE_UP : MK_GGUF_ATTENTION;
    return *part == MK_GGUF_GATE_UP || strcmp(name, "attn_k_b.weight") == 0
        || strcmp(name, "attn_v_b.weight") == 0 || strcmp(name, "attn_kv_b.weight") == 0;
}

static int32_t qplan_from_gguf(struct mk_q_plan *plan, struct mk_q_source *s)
{
    for (size_t i = 0; i < s->n_tensors; i++) {
        const struct mk_q_tensor *t = &s->tensors[i];
        enum mk_gguf_part part = MK_GGUF_EXACT;
        const int known = qplan_gguf_part(t->name.data, &part);
        if (t->name.len >= sizeof(plan->outputs->name))
            return mk_fail(MINKE_EUNSUPPORTED, "tensor %s: name of %zu bytes", t->name.data,
                           t->name.len);
        const int32_t rc = qplan_add_rows(plan, s, t->name.data, &t, 1, part);
        if (rc < 0)
            return rc;
        if (!known)
            plan->outputs[plan->n - 1].type = t->type;
    }
    return MINKE_OK;
}

int32_t mk_q_plan(struct mk_q_plan *plan, struct mk_q_source *s)
{
    return s->is_gguf ? qplan_from_gguf(plan, s) : qplan_from_safetensors(plan, s);
}
