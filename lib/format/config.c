/* config.json of the family, and what every description of a model must satisfy. */
#include "format/config.h"

#include <string.h>

#include "base/checked.h"

/* Rotated dimensions; model/rope.h has room for as many. */
#define CONFIG_MAX_ROPE 256u

/* Larger sizes than any model has; products of two of them fit 64 bits with room. */
#define CONFIG_MAX_VOCAB  (1u << 24)
#define CONFIG_MAX_HIDDEN (1u << 20)
#define CONFIG_MAX_INNER  (1u << 24)     /* rows or columns of any matrix */
#define CONFIG_MAX_LAYERS 4096u
#define CONFIG_MAX_HEADS  65536u
#define CONFIG_MAX_HEAD_DIM 65536u
#define CONFIG_MAX_EXPERTS 65536u
#define CONFIG_MAX_TOKENS ((uint32_t)INT32_MAX)

/* Counts whose bounds are the same in every source. */
#define CONFIG_SIZE(field, min, max) {#field, offsetof(struct mk_config, field), min, max}

static const struct config_size {
    const char *name;
    size_t at;
    uint32_t min, max;
} config_sizes[] = {
    CONFIG_SIZE(vocab_size, 1, CONFIG_MAX_VOCAB),
    CONFIG_SIZE(hidden_size, 1, CONFIG_MAX_HIDDEN),
    CONFIG_SIZE(num_hidden_layers, 1, CONFIG_MAX_LAYERS),
    CONFIG_SIZE(intermediate_size, 1, CONFIG_MAX_INNER),
    CONFIG_SIZE(max_position_embeddings, 1, CONFIG_MAX_TOKENS),
    CONFIG_SIZE(num_attention_heads, 1, CONFIG_MAX_HEADS),
    CONFIG_SIZE(q_lora_rank, 0, CONFIG_MAX_HIDDEN),
    CONFIG_SIZE(kv_lora_rank, 1, CONFIG_MAX_HIDDEN),
    CONFIG_SIZE(qk_nope_head_dim, 1, CONFIG_MAX_HEAD_DIM),
    CONFIG_SIZE(qk_rope_head_dim, 2, CONFIG_MAX_ROPE),
    CONFIG_SIZE(v_head_dim, 1, CONFIG_MAX_HEAD_DIM),
};

enum config_family { CONFIG_V2, CONFIG_V3, CONFIG_V32, CONFIG_GLM };

/* The first failure stays; later reads do nothing. */
struct config_reader {
    const struct mk_json *json;      /* the object that keys are looked up in */
    const char *section;             /* "" or "rope_scaling." and the like */
    enum config_family family;
    int32_t rc;
};

/* ---- Values -------------------------------------------------------------- */

/* A value as it stands in the file, shortened. */
static const char *config_value(char text[64], const struct mk_json *v)
{
    static const char *const words[] = {"null", "false", "true", "", "", "[...]", "{...}"};

    if (v->type == MK_JSON_STRING)
        mk_format(text, 64, "\"%.*s\"", (int)(v->text.len < 40 ? v->text.len : 40), v->text.data);
    else if (v->type == MK_JSON_NUMBER)
        mk_format(text, 64, "%.*s", (int)(v->text.len < 40 ? v->text.len : 40), v->text.data);
    else
        mk_format(text, 64, "%s", words[v->type]);
    return text;
}

/* code: MINKE_EFORMAT or MINKE_EUNSUPPORTED. */
static void config_refuse(struct config_reader *r, int32_t code, const char *key,
                          const struct mk_json *v, const char *accepted)
{
    char text[64];

    if (r->rc == MINKE_OK)
        r->rc = mk_fail(code, "config.json: %s%s: %s; %s expected", r->section, key,
                            config_value(text, v), accepted);
}

static void config_missing(struct config_reader *r, const char *key)
{
    if (r->rc == MINKE_OK)
        r->rc = mk_fail(MINKE_EFORMAT, "config.json: %s%s: missing", r->section, key);
}

/* The member, or NULL when it is absent or null. */
static const struct mk_json *config_get(const struct config_reader *r, const char *key)
{
    const struct mk_json *v = mk_json_get(r->json, key);

    return v == NULL || v->type == MK_JSON_NULL ? NULL : v;
}

/* A count in [min, max].  missing < 0: the key must be there. */
static uint32_t config_count(struct config_reader *r, const char *key, uint32_t min,
                             uint32_t max, int64_t missing)
{
    const struct mk_json *v = config_get(r, key);
    char accepted[64];
    int64_t n;

    if (v == NULL && missing < 0)
        config_missing(r, key);
    if (v == NULL)
        return missing < 0 ? min : (uint32_t)missing;
    if (mk_json_int(v, &n) != 0 || n < (int64_t)min || n > (int64_t)max) {
        mk_format(accepted, sizeof(accepted), "a whole number from %u to %u", min, max);
        config_refuse(r, MINKE_EFORMAT, key, v, accepted);
        return min;
    }
    return (uint32_t)n;
}

/* A number in [min, max].  missing NaN: the key must be there. */
static double config_number(struct config_reader *r, const char *key, double min, double max,
                            double missing)
{
    const struct mk_json *v = config_get(r, key);
    char accepted[96];
    double n;

    if (v == NULL) {
        if (missing != missing)
            config_missing(r, key);
        return missing;
    }
    if (mk_json_double(v, &n) != 0 || !(n >= min) || !(n <= max)) {
        mk_format(accepted, sizeof(accepted), "a number from %g to %g", min, max);
        config_refuse(r, MINKE_EFORMAT, key, v, accepted);
        return min;
    }
    return n;
}

static int config_flag(struct config_reader *r, const char *key, int missing)
{
    const struct mk_json *v = config_get(r, key);

    if (v == NULL)
        return missing;
    if (v->type != MK_JSON_TRUE && v->type != MK_JSON_FALSE)
        config_refuse(r, MINKE_EFORMAT, key, v, "true or false");
    return v->type == MK_JSON_TRUE;
}

/* A flag that must have the one value this library runs. */
static void config_fixed_flag(struct config_reader *r, const char *key, int value)
{
    const struct mk_json *v = config_get(r, key);

    if (config_flag(r, key, value) != value && v != NULL)
        config_refuse(r, MINKE_EUNSUPPORTED, key, v, value ? "true" : "false");
}

/* Index of a text among names, the default being missing (-1: the key must be there). */
static int config_choice(struct config_reader *r, const char *key, const char *const *names,
                         int n, int missing, const char *accepted)
{
    const struct mk_json *v = config_get(r, key);

    if (v == NULL && missing < 0)
        config_missing(r, key);
    if (v == NULL)
        return missing < 0 ? 0 : missing;
    for (int i = 0; i < n; i++)
        if (mk_json_is(v, names[i]))
            return i;
    config_refuse(r, v->type == MK_JSON_STRING ? MINKE_EUNSUPPORTED : MINKE_EFORMAT, key, v,
                  accepted);
    return 0;
}

/* ---- Parts of config.json ------------------------------------------------ */

static void config_family(struct config_reader *r, struct mk_config *c)
{
    static const char *const names[] = {"deepseek_v2", "deepseek_v3", "kimi_k2", "deepseek_v32",
                                        "glm_moe_dsa"};
    static const enum config_family families[] = {CONFIG_V2, CONFIG_V3, CONFIG_V3, CONFIG_V32,
                                                  CONFIG_GLM};
    const int i = config_choice(r, "model_type", names, 5, -1,
                                "deepseek_v2, deepseek_v3, deepseek_v32, kimi_k2 or glm_moe_dsa");

    r->family = families[i];
    mk_format(c->model_type, sizeof(c->model_type), "%s", names[i]);
}

static void config_read_sizes(struct config_reader *r, struct mk_config *c)
{
    for (size_t i = 0; i < MK_COUNT(config_sizes); i++) {
        const struct config_size *size = &config_sizes[i];
        uint32_t *field = (uint32_t *)(void *)((char *)c + size->at);

        *field = config_count(r, size->name, size->min, size->max, size->min > 0 ? -1 : 0);
    }
    if (mk_json_get(r->json, "q_lora_rank") == NULL)
        config_missing(r, "q_lora_rank");    /* null says that there is none */
    c->rms_norm_eps = config_number(r, "rms_norm_eps", 1e-30, 1.0,
                                    r->family == CONFIG_GLM ? 1e-5 : 1e-6);
    c->num_nextn_predict_layers = config_count(r, "num_nextn_predict_layers", 0, 64,
                                               r->family == CONFIG_V2 ? 0 : 1);
    c->tie_word_embeddings = config_flag(r, "tie_word_embeddings", 0);
}

/* Some configs list what each layer is; then the list and the counts must agree. */
static void config_layer_types(struct config_reader *r, struct mk_config *c)
{
    const struct mk_json *types = config_get(r, "mlp_layer_types");
    uint32_t l = 0;

    if (types == NULL)
        return;
    if (types->type != MK_JSON_ARRAY || types->n_items < c->num_hidden_layers) {
        config_refuse(r, MINKE_EFORMAT, "mlp_layer_types", types, "a word for each layer");
        return;
    }
    if (config_get(r, "first_k_dense_replace") == NULL) {
        c->first_k_dense_replace = 0;
        for (const struct mk_json *t = types->first; mk_json_is(t, "dense"); t = t->next)
            c->first_k_dense_replace++;
    }
    for (const struct mk_json *t = types->first; t != NULL && l < c->num_hidden_layers;
         t = t->next, l++)
        if (!mk_json_is(t, mk_config_is_moe(c, l) ? "sparse" : "dense"))
            config_refuse(r, MINKE_EUNSUPPORTED, "mlp_layer_types", types,
                          "dense layers first, then sparse ones");
}

static void config_experts(struct config_reader *r, struct mk_config *c)
{
    static const char *const scorings[] = {"softmax", "sigmoid"};
    static const char *const methods[] = {"greedy", "group_limited_greedy", "noaux_tc"};
    const int is_v2 = r->family == CONFIG_V2, has_groups = !is_v2 && r->family != CONFIG_GLM;

    c->moe_layer_freq = 1;
    c->n_group = c->topk_group = 1;
    c->routed_scaling_factor = 1.0;
    c->n_routed_experts = config_count(r, "n_routed_experts", 0, CONFIG_MAX_EXPERTS,
                                       is_v2 ? 0 : -1);
    if (c->n_routed_experts == 0)
        return;
    c->first_k_dense_replace = config_count(r, "first_k_dense_replace", 0, CONFIG_MAX_LAYERS,
                                            is_v2 ? 0 : 3);
    c->moe_layer_freq = config_count(r, "moe_layer_freq", 1, CONFIG_MAX_LAYERS, 1);
    c->moe_intermediate_size = config_count(r, "moe_intermediate_size", 1, CONFIG_MAX_INNER, -1);
    c->n_shared_experts = config_count(r, "n_shared_experts", 0, CONFIG_MAX_EXPERTS,
                                       is_v2 ? 0 : 1);
    c->num_experts_per_tok = config_count(r, "num_experts_per_tok", 1, c->n_routed_experts, -1);
    c->n_group = config_count(r, "n_group", 1, c->n_routed_experts, has_groups ? 8 : 1);
    c->topk_group = config_count(r, "topk_group", 1, c->n_group, has_groups ? 4 : 1);
    c->scoring_func = (enum mk_scoring)config_choice(r, "scoring_func", scorings, 2,
                                                     is_v2 ? 0 : 1, "softmax or sigmoid");
    c->topk_method = (enum mk_topk)config_choice(r, "topk_method", methods, 3, is_v2 ? 0 : 2,
                                                 "greedy, group_limited_greedy or noaux_tc");
    c->norm_topk_prob = config_flag(r, "norm_topk_prob", !is_v2);
    c->routed_scaling_factor = config_number(r, "routed_scaling_factor", 1e-6, 1e6,
                                             is_v2 ? 1.0 : 2.5);
    config_layer_types(r, c);
}

static void config_yarn(struct config_reader *r, struct mk_config *c)
{
    const struct mk_json *factor = config_get(r, "attention_factor");

    c->rope_factor = config_number(r, "factor", 1.0, 1e6, (double)__builtin_nanf(""));
    c->rope_beta_fast = config_number(r, "beta_fast", 1e-6, 1e6, 32.0);
    c->rope_beta_slow = config_number(r, "beta_slow", 1e-6, 1e6, 1.0);
    c->rope_mscale = config_number(r, "mscale", 0.0, 1e3, 1.0);
    c->rope_mscale_all_dim = config_number(r, "mscale_all_dim", 0.0, 1e3, 0.0);
    c->rope_original_max_position_embeddings =
        config_count(r, "original_max_position_embeddings", 1, CONFIG_MAX_TOKENS,
                     c->max_position_embeddings);
    config_fixed_flag(r, "truncate", 1);
    if (factor != NULL)
        config_refuse(r, MINKE_EUNSUPPORTED, "attention_factor", factor, "null");
}

/* rope_scaling of the released configs, or rope_parameters of newer ones. */
static void config_rope(struct config_reader *r, struct mk_config *c)
{
    static const char *const types[] = {"default", "yarn"};
    const struct mk_json *scaling = config_get(r, "rope_scaling");
    const struct mk_json *parameters = config_get(r, "rope_parameters");
    const struct mk_json *v = scaling != NULL ? scaling : parameters;
    struct config_reader in = *r;

    c->rope_theta = config_number(r, "rope_theta", 1.0 + 1e-6, 1e12, 10000.0);
    if (v == NULL || r->rc < 0)
        return;
    in.json = v;
    in.section = scaling != NULL ? "rope_scaling." : "rope_parameters.";
    if (v->type != MK_JSON_OBJECT) {
        config_refuse(r, MINKE_EFORMAT, scaling != NULL ? "rope_scaling" : "rope_parameters", v,
                      "null or an object");
        return;
    }
    c->rope_theta = config_number(&in, "rope_theta", 1.0 + 1e-6, 1e12, c->rope_theta);
    const char *key = config_get(&in, "rope_type") != NULL ? "rope_type" : "type";

    c->rope_yarn = config_choice(&in, key, types, 2, parameters == v ? 0 : -1,
                                 "default or yarn");
    if (c->rope_yarn)
        config_yarn(&in, c);
    r->rc = in.rc;
}

/* A list of words that must all be the given one. */
static void config_all(struct config_reader *r, const char *key, const char *word)
{
    const struct mk_json *list = config_get(r, key);

    if (list == NULL)
        return;
    if (list->type != MK_JSON_ARRAY)
        config_refuse(r, MINKE_EFORMAT, key, list, "a list");
    for (const struct mk_json *v = list->first; v != NULL; v = v->next)
        if (!mk_json_is(v, word))
            config_refuse(r, MINKE_EUNSUPPORTED, key, v, word);
}

static void config_indexer(struct config_reader *r, struct mk_config *c)
{
    const int sparse = r->family == CONFIG_V32 || r->family == CONFIG_GLM;

    c->indexer_rope_interleave = config_flag(r, "indexer_rope_interleave",
                                             r->family == CONFIG_GLM);
    if (!sparse && config_get(r, "index_topk") == NULL)
        return;
    c->index_topk = config_count(r, "index_topk", 1, CONFIG_MAX_TOKENS, -1);
    c->index_n_heads = config_count(r, "index_n_heads", 1, CONFIG_MAX_HEADS, -1);
    c->index_head_dim = config_count(r, "index_head_dim", 1, CONFIG_MAX_HEAD_DIM, -1);
    /* Layers that reuse the selection of an earlier one. */
    const struct mk_json *freq = config_get(r, "index_topk_freq");

    if (freq != NULL && config_count(r, "index_topk_freq", 1, CONFIG_MAX_LAYERS, 1) != 1)
        config_refuse(r, MINKE_EUNSUPPORTED, "index_topk_freq", freq, "1");
    config_all(r, "indexer_types", "full");
    if (config_get(r, "index_topk_pattern") != NULL)
        config_refuse(r, MINKE_EUNSUPPORTED, "index_topk_pattern",
                      config_get(r, "index_topk_pattern"), "null");
}

static void config_quantization(struct config_reader *r, struct mk_config *c)
{
    static const char *const methods[] = {"fp8"}, *const formats[] = {"e4m3"};
    static const char *const schemes[] = {"dynamic"}, *const scales[] = {"ue8m0"};
    const struct mk_json *v = config_get(r, "quantization_config"), *block;
    struct config_reader in = *r;
    int64_t rows = 0, cols = 0;

    if (v == NULL || r->rc < 0)
        return;
    if (v->type != MK_JSON_OBJECT) {
        config_refuse(r, MINKE_EFORMAT, "quantization_config", v, "null or an object");
        return;
    }
    in.json = v;
    in.section = "quantization_config.";
    config_choice(&in, "quant_method", methods, 1, -1, "fp8");
    config_choice(&in, "fmt", formats, 1, 0, "e4m3");
    config_choice(&in, "activation_scheme", schemes, 1, 0, "dynamic");
    c->fp8_scale_ue8m0 = config_choice(&in, "scale_fmt", scales, 1, 1, "null or ue8m0") == 0;
    block = config_get(&in, "weight_block_size");
    if (block == NULL)
        config_missing(&in, "weight_block_size");
    else if (block->type != MK_JSON_ARRAY || block->n_items != 2
             || mk_json_int(block->first, &rows) != 0
             || mk_json_int(block->first->next, &cols) != 0)
        config_refuse(&in, MINKE_EFORMAT, "weight_block_size", block, "two numbers");
    else if (rows != 128 || cols != 128)
        config_refuse(&in, MINKE_EUNSUPPORTED, "weight_block_size", block, "[128, 128]");
    c->fp8_block[0] = c->fp8_block[1] = 128;
    r->rc = in.rc;
}

/* What would change the arithmetic, and is the same in all models that this library runs. */
static void config_fixed(struct config_reader *r, const struct mk_config *c)
{
    static const char *const acts[] = {"silu"};
    const struct mk_json *kv = config_get(r, "num_key_value_heads");
    const struct mk_json *qk = config_get(r, "qk_head_dim");
    int64_t n;

    config_choice(r, "hidden_act", acts, 1, 0, "silu");
    config_fixed_flag(r, "attention_bias", 0);
    config_fixed_flag(r, "mlp_bias", 0);
    config_fixed_flag(r, "rope_interleave", 1);
    if (kv != NULL && (mk_json_int(kv, &n) != 0 || n != (int64_t)c->num_attention_heads))
        config_refuse(r, MINKE_EUNSUPPORTED, "num_key_value_heads", kv, "num_attention_heads");
    if (qk != NULL && (mk_json_int(qk, &n) != 0
                       || n != (int64_t)c->qk_nope_head_dim + c->qk_rope_head_dim))
        config_refuse(r, MINKE_EUNSUPPORTED, "qk_head_dim", qk,
                      "qk_nope_head_dim + qk_rope_head_dim");
}

static int32_t config_token(struct config_reader *r, const char *key, const struct mk_json *v)
{
    int64_t id;

    if (mk_json_int(v, &id) != 0 || id < -1 || id >= (int64_t)CONFIG_MAX_VOCAB) {
        config_refuse(r, MINKE_EFORMAT, key, v, "a token id");
        return -1;
    }
    return (int32_t)id;
}

static void config_tokens(struct config_reader *r, struct mk_config *c)
{
    const struct mk_json *bos = config_get(r, "bos_token_id");
    const struct mk_json *eos = config_get(r, "eos_token_id");
    const int is_list = eos != NULL && eos->type == MK_JSON_ARRAY;
    const uint32_t max = MK_COUNT(c->eos_token_ids);

    c->bos_token_id = bos != NULL ? config_token(r, "bos_token_id", bos) : -1;
    c->eos_token_id = -1;
    for (const struct mk_json *v = is_list ? eos->first : eos; v != NULL;
         v = is_list ? v->next : NULL) {
        const int32_t id = config_token(r, "eos_token_id", v);

        if (id < 0)
            continue;
        if (c->n_eos_token_ids == max) {
            config_refuse(r, MINKE_EFORMAT, "eos_token_id", eos, "at most 8 token ids");
            return;
        }
        c->eos_token_ids[c->n_eos_token_ids++] = id;
    }
    if (c->n_eos_token_ids > 0)
        c->eos_token_id = c->eos_token_ids[0];
}

int32_t mk_config_read(struct mk_config *out, const struct mk_json *json)
{
    struct config_reader r = {json, "", CONFIG_V2, MINKE_OK};
    struct mk_config c;

    memset(&c, 0, sizeof(c));
    if (json == NULL || json->type != MK_JSON_OBJECT)
        return mk_fail(MINKE_EFORMAT, "config.json: no JSON object");
    config_family(&r, &c);
    if (r.rc < 0)
        return r.rc;
    config_read_sizes(&r, &c);
    if (r.rc == MINKE_OK)
        config_experts(&r, &c);
    config_rope(&r, &c);
    config_indexer(&r, &c);
    config_quantization(&r, &c);
    config_fixed(&r, &c);
    config_tokens(&r, &c);
    if (r.rc == MINKE_OK)
        r.rc = mk_config_check(&c);
    if (r.rc == MINKE_OK)
        *out = c;
    return r.rc;
}

/* ---- Checks for every source --------------------------------------------- */

struct config_limit {
    const char *name;
    uint32_t value, min, max;
};

static int32_t config_limits(const struct config_limit *limits, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (limits[i].value < limits[i].min || limits[i].value > limits[i].max)
            return mk_fail(MINKE_EFORMAT, "config: %s: %u; %u to %u expected", limits[i].name,
                           limits[i].value, limits[i].min, limits[i].max);
    return MINKE_OK;
}

static int32_t config_check_sizes(const struct mk_config *c)
{
    int32_t rc = MINKE_OK;

    for (size_t i = 0; i < MK_COUNT(config_sizes) && rc == MINKE_OK; i++) {
        const struct config_size *size = &config_sizes[i];
        const uint32_t *field = (const uint32_t *)(const void *)((const char *)c + size->at);
        const struct config_limit limit = {size->name, *field, size->min, size->max};

        rc = config_limits(&limit, 1);
    }
    if (rc == MINKE_OK && c->qk_rope_head_dim % 2 != 0)
        return mk_fail(MINKE_EFORMAT, "config: qk_rope_head_dim: %u; an even number expected",
                       c->qk_rope_head_dim);
    return rc;
}

static int32_t config_check_experts(const struct mk_config *c)
{
    const struct config_limit limits[] = {
        {"moe_intermediate_size", c->moe_intermediate_size, 1, CONFIG_MAX_INNER},
        {"moe_layer_freq", c->moe_layer_freq, 1, CONFIG_MAX_LAYERS},
        {"num_experts_per_tok", c->num_experts_per_tok, 1, c->n_routed_experts},
        {"n_group", c->n_group, 1, c->n_routed_experts},
        {"topk_group", c->topk_group, 1, c->n_group},
    };
    const int32_t rc = config_limits(limits, MK_COUNT(limits));

    if (rc < 0)
        return rc;
    if ((uint64_t)c->n_shared_experts * c->moe_intermediate_size > CONFIG_MAX_INNER)
        return mk_fail(MINKE_EFORMAT, "config: n_shared_experts: %u of %u are too many",
                       c->n_shared_experts, c->moe_intermediate_size);
    if (c->topk_method == MK_TOPK_GREEDY)
        return MINKE_OK;
    if (c->n_routed_experts % c->n_group != 0)
        return mk_fail(MINKE_EFORMAT, "config: n_group: %u groups of %u experts", c->n_group,
                       c->n_routed_experts);
    if (c->num_experts_per_tok > c->n_routed_experts / c->n_group * c->topk_group)
        return mk_fail(MINKE_EFORMAT, "config: num_experts_per_tok: %u; %u groups hold %u",
                       c->num_experts_per_tok, c->topk_group,
                       c->n_routed_experts / c->n_group * c->topk_group);
    return MINKE_OK;
}

static int32_t config_check_numbers(const struct mk_config *c)
{
    if (!(c->rms_norm_eps > 0 && c->rms_norm_eps <= 1))
        return mk_fail(MINKE_EFORMAT, "config: rms_norm_eps: %g", c->rms_norm_eps);
    if (!(c->rope_theta > 1 && c->rope_theta <= 1e12))
        return mk_fail(MINKE_EFORMAT, "config: rope_theta: %g", c->rope_theta);
    if (!(c->routed_scaling_factor > 0 && c->routed_scaling_factor <= 1e6))
        return mk_fail(MINKE_EFORMAT, "config: routed_scaling_factor: %g",
                       c->routed_scaling_factor);
    if (!c->rope_yarn)
        return MINKE_OK;
    if (!(c->rope_factor >= 1 && c->rope_factor <= 1e6))
        return mk_fail(MINKE_EFORMAT, "config: rope factor: %g", c->rope_factor);
    if (!(c->rope_beta_fast > 0 && c->rope_beta_fast <= 1e6)
        || !(c->rope_beta_slow > 0 && c->rope_beta_slow <= 1e6))
        return mk_fail(MINKE_EFORMAT, "config: beta_fast %g, beta_slow %g", c->rope_beta_fast,
                       c->rope_beta_slow);
    if (!(c->rope_mscale >= 0 && c->rope_mscale <= 1e3)
        || !(c->rope_mscale_all_dim >= 0 && c->rope_mscale_all_dim <= 1e3))
        return mk_fail(MINKE_EFORMAT, "config: mscale %g, mscale_all_dim %g", c->rope_mscale,
                       c->rope_mscale_all_dim);
    if (c->rope_original_max_position_embeddings == 0)
        return mk_fail(MINKE_EFORMAT, "config: original_max_position_embeddings: 0");
    return MINKE_OK;
}

static int32_t config_check_products(const struct mk_config *c)
{
    const uint64_t heads = c->num_attention_heads;
    const uint64_t key = (uint64_t)c->qk_nope_head_dim + c->qk_rope_head_dim;
    const uint64_t up = (uint64_t)c->qk_nope_head_dim + c->v_head_dim;

    if (heads * key > CONFIG_MAX_INNER || heads * up > CONFIG_MAX_INNER)
        return mk_fail(MINKE_EFORMAT, "config: num_attention_heads: %u of %u and %u are too many",
                       c->num_attention_heads, (unsigned)key, (unsigned)up);
    if (c->index_topk == 0)
        return MINKE_OK;
    if ((uint64_t)c->index_n_heads * c->index_head_dim > CONFIG_MAX_INNER)
        return mk_fail(MINKE_EFORMAT, "config: index_n_heads: %u of %u are too many",
                       c->index_n_heads, c->index_head_dim);
    if (c->q_lora_rank == 0)
        return mk_fail(MINKE_EUNSUPPORTED, "config: q_lora_rank: none, but the indexer needs one");
    return MINKE_OK;
}

int32_t mk_config_check(const struct mk_config *c)
{
    const uint32_t sparse = c->index_topk > 0;
    const struct config_limit limits[] = {
        {"n_routed_experts", c->n_routed_experts, 0, CONFIG_MAX_EXPERTS},
        {"n_shared_experts", c->n_shared_experts, 0, CONFIG_MAX_EXPERTS},
        {"num_nextn_predict_layers", c->num_nextn_predict_layers, 0, 64},
        {"index_topk", c->index_topk, 0, CONFIG_MAX_TOKENS},
        {"index_n_heads", c->index_n_heads, sparse, CONFIG_MAX_HEADS},
        {"index_head_dim", c->index_head_dim, sparse ? c->qk_rope_head_dim : 0,
         CONFIG_MAX_HEAD_DIM},
    };
    int32_t rc;

    if ((rc = config_check_sizes(c)) < 0 || (rc = config_limits(limits, MK_COUNT(limits))) < 0
        || (rc = config_check_products(c)) < 0
        || (c->n_routed_experts > 0 && (rc = config_check_experts(c)) < 0))
        return rc;
    return config_check_numbers(c);
}
