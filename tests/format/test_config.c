/* config.json: the released ones are read as they are meant, attacks are refused by name. */
#include "base/error.h"
#include "base/file.h"
#include "format/config.h"
#include "test.h"

static const struct mk_env env;
static struct mk_config config;

static int32_t read_text(const char *text, size_t n)
{
    const struct mk_json *json = NULL;
    struct mk_arena arena;

    mk_arena_init(&arena, &env.alloc);
    int32_t status = mk_json_parse(&json, &arena, text, n, "config.json");

    if (status == MINKE_OK)
        status = mk_config_read(&config, json);
    mk_arena_free(&arena);
    return status;
}

static int read_file(const char *path)
{
    char *text = NULL;
    size_t n = 0;

    CHECK_INT(mk_file_load(&text, &n, &env, path, 1 << 20), MINKE_OK);
    if (text == NULL)
        return 0;
    memset(&config, 0, sizeof config);
    CHECK_INT(read_text(text, n), MINKE_OK);
    mk_free(&env.alloc, text);
    return 1;
}

/* ---- A small V3.2, key by key -------------------------------------------- */

struct key {
    const char *name, *value;
};

static const struct key base[] = {
    {"model_type", "\"deepseek_v32\""}, {"vocab_size", "1000"}, {"hidden_size", "64"},
    {"num_hidden_layers", "4"}, {"first_k_dense_replace", "1"}, {"intermediate_size", "96"},
    {"moe_intermediate_size", "32"}, {"num_attention_heads", "4"},
    {"num_key_value_heads", "4"}, {"q_lora_rank", "48"}, {"kv_lora_rank", "32"},
    {"qk_nope_head_dim", "16"}, {"qk_rope_head_dim", "8"}, {"v_head_dim", "16"},
    {"n_routed_experts", "8"}, {"n_shared_experts", "1"}, {"num_experts_per_tok", "2"},
    {"n_group", "4"}, {"topk_group", "2"}, {"moe_layer_freq", "1"}, {"rms_norm_eps", "1e-6"},
    {"rope_theta", "10000"}, {"max_position_embeddings", "4096"}, {"hidden_act", "\"silu\""},
    {"tie_word_embeddings", "false"}, {"attention_bias", "false"},
    {"scoring_func", "\"sigmoid\""}, {"topk_method", "\"noaux_tc\""},
    {"norm_topk_prob", "true"}, {"routed_scaling_factor", "2.5"}, {"index_n_heads", "8"},
    {"index_head_dim", "16"}, {"index_topk", "16"}, {"num_nextn_predict_layers", "1"},
    {"bos_token_id", "0"}, {"eos_token_id", "1"},
    {"rope_scaling", "{\"type\":\"yarn\",\"factor\":8,\"original_max_position_embeddings\":512,"
                     "\"mscale\":1.0,\"mscale_all_dim\":1.0}"},
    {"quantization_config", "{\"quant_method\":\"fp8\",\"fmt\":\"e4m3\","
                            "\"weight_block_size\":[128,128],\"scale_fmt\":\"ue8m0\"}"},
};
#define N_BASE (sizeof base / sizeof base[0])

/* The base with one key replaced (value NULL: left out), or another added. */
static int32_t read_with(const char *name, const char *value)
{
    static char text[65536];
    size_t n = mk_format(text, sizeof text, "{\"architectures\": []");
    int found = 0;

    for (size_t i = 0; i < N_BASE; i++) {
        const int here = name != NULL && strcmp(base[i].name, name) == 0;
        const char *v = here ? value : base[i].value;

        found |= here;
        if (v != NULL)
            n += mk_format(text + n, sizeof text - n, ",\"%s\":%s", base[i].name, v);
    }
    if (name != NULL && !found)
        n += mk_format(text + n, sizeof text - n, ",\"%s\":%s", name, value);
    n += mk_format(text + n, sizeof text - n, "}");
    return read_text(text, n);
}

static void check_refused(const char *name, const char *value, int32_t status, const char *said)
{
    const struct mk_config before = config;
    const int32_t got = read_with(name, value);

    if (got != status)
        CHECK_STR(name, value);
    CHECK_INT(got, status);
    CHECK_HAS(minke_last_error(), said);
    CHECK(memcmp(&before, &config, sizeof config) == 0);
}

TEST(the_small_config_is_read)
{
    memset(&config, 0, sizeof config);
    CHECK_INT(read_with(NULL, NULL), MINKE_OK);
    CHECK_STR(config.model_type, "deepseek_v32");
    CHECK(config.vocab_size == 1000 && config.hidden_size == 64 && config.q_lora_rank == 48);
    CHECK(config.n_group == 4 && config.topk_group == 2 && config.norm_topk_prob == 1);
    CHECK(config.scoring_func == MK_SCORING_SIGMOID && config.topk_method == MK_TOPK_NOAUX);
    CHECK(config.rope_yarn && config.rope_factor == 8.0 && config.rope_beta_fast == 32.0);
    CHECK(config.rope_original_max_position_embeddings == 512);
    CHECK(config.fp8_block[0] == 128 && config.fp8_scale_ue8m0 == 1);
    CHECK(config.index_topk == 16 && !config.indexer_rope_interleave);
    CHECK(config.bos_token_id == 0 && config.eos_token_id == 1 && config.n_eos_token_ids == 1);
    CHECK(!mk_config_is_moe(&config, 0) && mk_config_is_moe(&config, 1));
}

TEST(sizes_must_be_there_and_sane)
{
    static const char *const sizes[] = {
        "vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size",
        "max_position_embeddings", "num_attention_heads", "kv_lora_rank", "qk_nope_head_dim",
        "qk_rope_head_dim", "v_head_dim", "n_routed_experts", "moe_intermediate_size",
        "num_experts_per_tok", "index_n_heads", "index_head_dim", "index_topk", "q_lora_rank"
    };
    static const char *const absurd[] = {
        "1152921504606846976", "18446744073709551616", "4294967297", "-1", "1.5", "\"64\"",
        "true", "[64]", "{}", "1e300"
    };

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        check_refused(sizes[i], NULL, MINKE_EFORMAT, sizes[i]);
        CHECK_HAS(minke_last_error(), "missing");
        for (size_t k = 0; k < sizeof absurd / sizeof absurd[0]; k++)
            check_refused(sizes[i], absurd[k], MINKE_EFORMAT, sizes[i]);
        if (strcmp(sizes[i], "q_lora_rank") != 0 && strcmp(sizes[i], "n_routed_experts") != 0)
            check_refused(sizes[i], "0", MINKE_EFORMAT, sizes[i]);
    }
    check_refused("hidden_size", "1152921504606846976", MINKE_EFORMAT,
                  "config.json: hidden_size: 1152921504606846976; a whole number from 1 to");
    check_refused("hidden_size", "\"big\"", MINKE_EFORMAT, "hidden_size: \"big\"");
    check_refused("hidden_size", "null", MINKE_EFORMAT, "hidden_size: missing");
}

TEST(what_is_not_run_is_refused_by_name)
{
    check_refused("model_type", "\"llama\"", MINKE_EUNSUPPORTED, "model_type: \"llama\"");
    check_refused("model_type", NULL, MINKE_EFORMAT, "model_type: missing");
    check_refused("model_type", "5", MINKE_EFORMAT, "model_type: 5");
    check_refused("attention_bias", "true", MINKE_EUNSUPPORTED, "attention_bias: true; false");
    check_refused("attention_bias", "1", MINKE_EFORMAT, "attention_bias: 1");
    check_refused("mlp_bias", "true", MINKE_EUNSUPPORTED, "mlp_bias: true; false");
    check_refused("hidden_act", "\"gelu\"", MINKE_EUNSUPPORTED, "hidden_act: \"gelu\"; silu");
    check_refused("num_key_value_heads", "2", MINKE_EUNSUPPORTED, "num_key_value_heads: 2");
    check_refused("scoring_func", "\"tanh\"", MINKE_EUNSUPPORTED, "scoring_func: \"tanh\"");
    check_refused("topk_method", "\"aux\"", MINKE_EUNSUPPORTED, "topk_method: \"aux\"");
    check_refused("rope_interleave", "false", MINKE_EUNSUPPORTED, "rope_interleave: false");
    check_refused("index_topk_freq", "4", MINKE_EUNSUPPORTED, "index_topk_freq: 4; 1");
    check_refused("indexer_types", "[\"full\",\"shared\"]", MINKE_EUNSUPPORTED,
                  "indexer_types: \"shared\"; full");
    check_refused("qk_head_dim", "25", MINKE_EUNSUPPORTED, "qk_head_dim: 25");
    check_refused("mlp_layer_types", "[\"dense\",\"sparse\",\"dense\",\"sparse\"]",
                  MINKE_EUNSUPPORTED, "mlp_layer_types");
    CHECK_INT(read_with("mlp_layer_types", "[\"dense\",\"sparse\",\"sparse\",\"sparse\"]"),
              MINKE_OK);
    CHECK_INT(read_with("indexer_types", "[\"full\",\"full\"]"), MINKE_OK);
    CHECK_INT(read_with("index_topk_freq", "1"), MINKE_OK);
}

TEST(rope_scaling_is_none_or_yarn)
{
    check_refused("rope_scaling", "{\"type\":\"linear\",\"factor\":2}", MINKE_EUNSUPPORTED,
                  "rope_scaling.type: \"linear\"; default or yarn");
    check_refused("rope_scaling", "{\"rope_type\":\"llama3\"}", MINKE_EUNSUPPORTED,
                  "rope_scaling.rope_type: \"llama3\"");
    check_refused("rope_scaling", "{\"factor\":8}", MINKE_EFORMAT, "rope_scaling.type: missing");
    check_refused("rope_scaling", "{\"type\":\"yarn\"}", MINKE_EFORMAT, "factor: missing");
    check_refused("rope_scaling", "{\"type\":\"yarn\",\"factor\":0.5}", MINKE_EFORMAT, "factor");
    check_refused("rope_scaling", "{\"type\":\"yarn\",\"factor\":1e999}", MINKE_EFORMAT, "factor");
    check_refused("rope_scaling", "{\"type\":\"yarn\",\"factor\":\"8\"}", MINKE_EFORMAT, "factor");
    check_refused("rope_scaling", "{\"type\":\"yarn\",\"factor\":8,\"beta_fast\":0}",
                  MINKE_EFORMAT, "beta_fast: 0");
    check_refused("rope_scaling", "{\"type\":\"yarn\",\"factor\":8,\"attention_factor\":2}",
                  MINKE_EUNSUPPORTED, "attention_factor: 2");
    check_refused("rope_scaling", "7", MINKE_EFORMAT, "rope_scaling: 7");
    check_refused("rope_theta", "0", MINKE_EFORMAT, "rope_theta: 0");
    CHECK_INT(read_with("rope_scaling", "{\"rope_type\":\"yarn\",\"factor\":8}"), MINKE_OK);
    CHECK(config.rope_yarn && config.rope_mscale == 1.0 && config.rope_mscale_all_dim == 0.0);
    CHECK(config.rope_original_max_position_embeddings == 4096);
    CHECK_INT(read_with("rope_scaling", "null"), MINKE_OK);
    CHECK(!config.rope_yarn);
}

TEST(newer_rope_parameters_are_read)
{
    CHECK_INT(read_with("rope_scaling", NULL), MINKE_OK);
    CHECK(!config.rope_yarn && config.rope_theta == 10000.0);
    CHECK_INT(read_with("rope_parameters", "{\"rope_theta\": 5}"), MINKE_OK);
    CHECK(config.rope_yarn && config.rope_theta == 10000.0);     /* rope_scaling goes first */
    CHECK_INT(read_with("rope_scaling", "null, \"rope_parameters\": {\"rope_theta\": 5e5,"
                                        "\"rope_type\": \"default\"}"), MINKE_OK);
    CHECK(!config.rope_yarn && config.rope_theta == 5e5);
    CHECK_INT(read_with("rope_scaling", "null, \"rope_parameters\": {\"rope_theta\": 5e5,"
                                        "\"rope_type\": \"yarn\", \"factor\": 4}"), MINKE_OK);
    CHECK(config.rope_yarn && config.rope_theta == 5e5 && config.rope_factor == 4.0);
    check_refused("rope_scaling", "null, \"rope_parameters\": {\"rope_type\": \"linear\"}",
                  MINKE_EUNSUPPORTED, "rope_parameters.rope_type: \"linear\"");
}

TEST(quantization_is_fp8_in_128_tiles)
{
    check_refused("quantization_config", "{\"quant_method\":\"gptq\"}", MINKE_EUNSUPPORTED,
                  "quantization_config.quant_method: \"gptq\"; fp8");
    check_refused("quantization_config", "{\"quant_method\":\"fp8\",\"fmt\":\"e5m2\"}",
                  MINKE_EUNSUPPORTED, "fmt: \"e5m2\"");
    check_refused("quantization_config",
                  "{\"quant_method\":\"fp8\",\"weight_block_size\":[64,64]}",
                  MINKE_EUNSUPPORTED, "weight_block_size");
    check_refused("quantization_config", "{\"quant_method\":\"fp8\"}", MINKE_EFORMAT,
                  "weight_block_size: missing");
    check_refused("quantization_config",
                  "{\"quant_method\":\"fp8\",\"weight_block_size\":[128]}", MINKE_EFORMAT,
                  "weight_block_size");
    check_refused("quantization_config", "[]", MINKE_EFORMAT, "quantization_config");
    CHECK_INT(read_with("quantization_config", "null"), MINKE_OK);
    CHECK_INT(config.fp8_block[0], 0);
}

TEST(experts_and_groups_must_fit)
{
    check_refused("num_experts_per_tok", "9", MINKE_EFORMAT, "num_experts_per_tok: 9");
    check_refused("num_experts_per_tok", "5", MINKE_EFORMAT, "num_experts_per_tok: 5");
    check_refused("n_group", "3", MINKE_EFORMAT, "n_group: 3");
    check_refused("n_group", "9", MINKE_EFORMAT, "n_group: 9");
    check_refused("topk_group", "5", MINKE_EFORMAT, "topk_group: 5");
    check_refused("n_shared_experts", "65537", MINKE_EFORMAT, "n_shared_experts: 65537");
}

TEST(products_of_sizes_stay_in_bounds)
{
    check_refused("num_attention_heads", "65536", MINKE_EUNSUPPORTED, "num_key_value_heads");
    check_refused("v_head_dim", "65537", MINKE_EFORMAT, "v_head_dim");
    check_refused("qk_rope_head_dim", "7", MINKE_EFORMAT, "qk_rope_head_dim: 7");
    check_refused("qk_rope_head_dim", "258", MINKE_EFORMAT, "qk_rope_head_dim: 258");
    check_refused("index_head_dim", "4", MINKE_EFORMAT, "index_head_dim: 4");
    check_refused("q_lora_rank", "null", MINKE_EUNSUPPORTED, "q_lora_rank");
    struct mk_config c = config;

    c.num_attention_heads = 60000;
    c.v_head_dim = 60000;
    CHECK_INT(mk_config_check(&c), MINKE_EFORMAT);
    CHECK_HAS(minke_last_error(), "num_attention_heads");
    c = config;
    c.n_shared_experts = 60000;
    c.moe_intermediate_size = 60000;
    CHECK_INT(mk_config_check(&c), MINKE_EFORMAT);
    CHECK_HAS(minke_last_error(), "n_shared_experts");
}

TEST(token_ids_may_be_numbers_lists_or_null)
{
    CHECK_INT(read_with("eos_token_id", "[5, 7, 9]"), MINKE_OK);
    CHECK(config.eos_token_id == 5 && config.n_eos_token_ids == 3 && config.eos_token_ids[2] == 9);
    CHECK_INT(read_with("eos_token_id", "null"), MINKE_OK);
    CHECK(config.eos_token_id == -1 && config.n_eos_token_ids == 0);
    CHECK_INT(read_with("bos_token_id", NULL), MINKE_OK);
    CHECK_INT(config.bos_token_id, -1);
    check_refused("eos_token_id", "[1,2,3,4,5,6,7,8,9]", MINKE_EFORMAT, "at most 8");
    check_refused("eos_token_id", "\"</s>\"", MINKE_EFORMAT, "eos_token_id");
    check_refused("bos_token_id", "4294967296", MINKE_EFORMAT, "bos_token_id");
}

TEST(no_object_is_no_config)
{
    CHECK_INT(read_text("[]", 2), MINKE_EFORMAT);
    CHECK_INT(read_text("{}", 2), MINKE_EFORMAT);
    CHECK_INT(read_text("3", 1), MINKE_EFORMAT);
}

#define RELEASED "../shared/data/configs/"

TEST(released_configs_are_read_as_they_are_meant)
{
    FILE *f = fopen(RELEASED "deepseek-v3.2.json", "rb");

    if (f == NULL)
        SKIP("no ../shared/data/configs");
    fclose(f);
    if (read_file(RELEASED "deepseek-v2-lite.json")) {
        CHECK(config.q_lora_rank == 0 && config.n_routed_experts == 64);
        CHECK(config.scoring_func == MK_SCORING_SOFTMAX && config.topk_method == MK_TOPK_GREEDY);
        CHECK(config.rope_mscale == 0.707 && config.rope_mscale_all_dim == 0.707);
        CHECK(config.norm_topk_prob == 0 && config.num_nextn_predict_layers == 0);
    }
    if (read_file(RELEASED "deepseek-v2.5_236b.json"))
        CHECK(config.topk_method == MK_TOPK_GROUP_LIMITED && config.routed_scaling_factor == 16.0
              && config.n_group == 8 && config.topk_group == 3);
    if (read_file(RELEASED "deepseek-v3_r1.json"))
        CHECK(config.fp8_block[1] == 128 && !config.fp8_scale_ue8m0
              && config.topk_method == MK_TOPK_NOAUX && config.num_nextn_predict_layers == 1);
    if (read_file(RELEASED "deepseek-v3.1.derived.json"))
        CHECK(config.fp8_scale_ue8m0 == 1);
    if (read_file(RELEASED "deepseek-v3.2.json"))
        CHECK(config.index_topk == 2048 && config.index_n_heads == 64
              && config.index_head_dim == 128 && !config.indexer_rope_interleave);
    if (read_file(RELEASED "moonlight-16b-a3b-instruct.json"))
        CHECK(!config.rope_yarn && config.rope_theta == 50000.0 && config.rms_norm_eps == 1e-5);
    if (read_file(RELEASED "kimi-k2-instruct.composed.json"))
        CHECK(config.rope_beta_fast == 1.0 && config.rope_beta_slow == 1.0
              && config.n_routed_experts == 384);
    if (read_file(RELEASED "glm-5.1_glm_moe_dsa.composed.json"))
        CHECK(config.indexer_rope_interleave && !config.rope_yarn && config.rope_theta == 1e6
              && config.n_eos_token_ids == 3 && config.rms_norm_eps == 1e-5);
}

TEST_MAIN(RUN(the_small_config_is_read), RUN(sizes_must_be_there_and_sane),
          RUN(what_is_not_run_is_refused_by_name), RUN(rope_scaling_is_none_or_yarn),
          RUN(newer_rope_parameters_are_read), RUN(quantization_is_fp8_in_128_tiles),
          RUN(experts_and_groups_must_fit), RUN(products_of_sizes_stay_in_bounds),
          RUN(token_ids_may_be_numbers_lists_or_null), RUN(no_object_is_no_config),
          RUN(released_configs_are_read_as_they_are_meant))
