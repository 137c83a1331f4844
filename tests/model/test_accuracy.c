/* What rounding activations to 8 bits costs: the divergence from float arithmetic over the same
 * decoded weights.  The model is random, its rows are multiples of 256 weights.  With as many
 * experts as a token takes, both arithmetics choose the same ones; with more of them a choice
 * may fall the other way, which is no error of the products: that figure is printed beside. */
#define _GNU_SOURCE 1 /* mkdtemp */
#include "test.h"

#include <math.h>

#include "checkpoint.h"
#include "folder.h"

#define QUANTIZED test_file("quantized.gguf")
#define DECODED test_file("decoded.gguf")
#define N_TOKENS 64
#define VOCAB 512
#define HIDDEN 512
#define HEADS 2
#define NOPE 256
#define ROPE 64
#define VALUE 256
#define LORA 256
#define LAYERS 3
#define TAKEN 4

static uint32_t state;

/* About normal, of variance 1. */
static float normal(void)
{
    float sum = 0.0f;

    for (int i = 0; i < 6; i++) {
        state = state * 1664525u + 1013904223u;
        sum += (float)(state >> 8) / 16777216.0f - 0.5f;
    }
    return sum * 1.41421356f;
}

/* Weights that keep the size of what they are multiplied by, or ones for a vector. */
static void add(struct ck *c, const char *name, size_t n_out, size_t n_in)
{
    struct ck_tensor *t = &c->t[c->n++];
    const size_t n = n_out * (n_in > 0 ? n_in : 1);
    const float scale = n_in > 0 ? 1.0f / sqrtf((float)n_in) : 0.0f;
    float *data = malloc(n * sizeof *data);

    snprintf(t->name, sizeof t->name, "%s", name);
    t->type = MK_F32;
    t->n_dims = n_in > 0 ? 2 : 1;
    t->shape[0] = n_out;
    t->shape[1] = n_in;
    t->size = n * sizeof *data;
    for (size_t i = 0; i < n; i++)
        data[i] = n_in > 0 ? normal() * scale : 1.0f;
    t->data = (uint8_t *)data;
}

static void add_layer(struct ck *c, int l, int n_experts)
{
    static const struct {
        const char *name;
        size_t n_out, n_in;
    } parts[] = {
        {"input_layernorm", HIDDEN, 0}, {"post_attention_layernorm", HIDDEN, 0},
        {"self_attn.q_proj", HEADS * (NOPE + ROPE), HIDDEN},
        {"self_attn.kv_a_proj_with_mqa", LORA + ROPE, HIDDEN},
        {"self_attn.kv_a_layernorm", LORA, 0},
        {"self_attn.kv_b_proj", HEADS * (NOPE + VALUE), LORA},
        {"self_attn.o_proj", HIDDEN, HEADS * VALUE},
    };
    static const char *const mlp[] = {"gate_proj", "up_proj", "down_proj"};
    char name[96];

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", l, parts[i].name);
        add(c, name, parts[i].n_out, parts[i].n_in);
    }
    if (l > 0) {
        snprintf(name, sizeof name, "model.layers.%d.mlp.gate.weight", l);
        add(c, name, (size_t)n_experts, HIDDEN);
    }
    for (int e = l > 0 ? -1 : 0; e < (l > 0 ? n_experts : 1); e++)
        for (int i = 0; i < 3; i++) {
            if (l == 0)
                snprintf(name, sizeof name, "model.layers.0.mlp.%s.weight", mlp[i]);
            else if (e < 0)
                snprintf(name, sizeof name, "model.layers.%d.mlp.shared_experts.%s.weight", l,
                         mlp[i]);
            else
                snprintf(name, sizeof name, "model.layers.%d.mlp.experts.%d.%s.weight", l, e,
                         mlp[i]);
            add(c, name, i < 2 ? 256 : HIDDEN, i < 2 ? HIDDEN : 256);
        }
}

static void write_model(int n_experts)
{
    struct ck *c = calloc(1, sizeof *c);

    state = 7;
    snprintf(c->config, sizeof c->config,
             "{\"model_type\": \"deepseek_v2\", \"vocab_size\": %d, \"hidden_size\": %d,"
             "\"num_hidden_layers\": %d, \"first_k_dense_replace\": 1, \"intermediate_size\": 256,"
             "\"moe_intermediate_size\": 256, \"num_attention_heads\": %d, \"q_lora_rank\": null,"
             "\"kv_lora_rank\": %d, \"qk_nope_head_dim\": %d, \"qk_rope_head_dim\": %d,"
             "\"v_head_dim\": %d, \"n_routed_experts\": %d, \"n_shared_experts\": 1,"
             "\"num_experts_per_tok\": %d, \"n_group\": 1, \"topk_group\": 1,"
             "\"topk_method\": \"greedy\", \"scoring_func\": \"softmax\","
             "\"max_position_embeddings\": 256, \"hidden_act\": \"silu\","
             "\"bos_token_id\": 0, \"eos_token_id\": 1}", VOCAB, HIDDEN, LAYERS, HEADS, LORA, NOPE,
             ROPE, VALUE, n_experts, TAKEN);
    add(c, "model.embed_tokens.weight", VOCAB, HIDDEN);
    add(c, "model.norm.weight", HIDDEN, 0);
    add(c, "lm_head.weight", VOCAB, HIDDEN);
    /* Logits as spread as those of trained models. */
    for (size_t i = 0; i < (size_t)VOCAB * HIDDEN; i++)
        ((float *)(void *)c->t[2].data)[i] *= 3.0f;
    for (int l = 0; l < LAYERS; l++)
        add_layer(c, l, n_experts);
    ck_write(c, test_folder());
    ck_free(c);
}

static void logits_of(const char *path, float *out)
{
    minke_context *ctx = NULL;
    minke_session *s = NULL;
    minke_session_params p;
    int32_t tokens[N_TOKENS];

    for (int i = 0; i < N_TOKENS; i++)
        tokens[i] = i * 37 % VOCAB;
    minke_session_params_init(&p, sizeof p);
    p.max_tokens = N_TOKENS;
    CHECK_INT(minke_context_open(&ctx, path, NULL), MINKE_OK);
    CHECK_INT(minke_session_open(&s, ctx, &p), MINKE_OK);
    CHECK_INT(minke_session_eval_all(s, tokens, N_TOKENS, out, (size_t)N_TOKENS * VOCAB),
              MINKE_OK);
    minke_session_free(s);
    minke_context_free(ctx);
}

/* log of the sum of exp. */
static double log_sum(const float *x)
{
    double max = (double)x[0], sum = 0.0;

    for (int i = 1; i < VOCAB; i++)
        max = (double)x[i] > max ? (double)x[i] : max;
    for (int i = 0; i < VOCAB; i++)
        sum += exp((double)x[i] - max);
    return max + log(sum);
}

/* Mean over rows of sum p log(p / q). */
static double divergence(const float *p, const float *q)
{
    double sum = 0.0;

    for (size_t t = 0; t < N_TOKENS; t++, p += VOCAB, q += VOCAB) {
        const double lp = log_sum(p), lq = log_sum(q);

        for (int i = 0; i < VOCAB; i++)
            sum += exp((double)p[i] - lp) * ((double)p[i] - lp - ((double)q[i] - lq));
    }
    return sum / N_TOKENS;
}

static double divergence_of(const char *type)
{
    static float exact[N_TOKENS * VOCAB], rounded[N_TOKENS * VOCAB];
    minke_quantize_params p;

    minke_quantize_params_init(&p, sizeof p);
    p.preset = type;
    CHECK_INT(minke_quantize(QUANTIZED, test_folder(), &p), MINKE_OK);
    p.preset = "f32";
    CHECK_INT(minke_quantize(DECODED, QUANTIZED, &p), MINKE_OK);
    logits_of(DECODED, exact);
    logits_of(QUANTIZED, rounded);
    return divergence(exact, rounded);
}

TEST(rounded_activations_stay_near_float_arithmetic)
{
    static const char *const types[] = {"q8_0", "q4_0", "q5_0", "q4_k", "q6_k", "iq4_xs"};

    write_model(TAKEN);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        const double kl = divergence_of(types[i]);

        printf("%-7s mean divergence %.2e\n", types[i], kl);
        CHECK(kl >= 0.0 && kl <= 2e-2);
    }
}

TEST(a_choice_that_falls_the_other_way_costs_little)
{
    static const char *const types[] = {"q8_0", "q4_k_m"};

    write_model(2 * TAKEN);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        const double kl = divergence_of(types[i]);

        printf("%-7s mean divergence %.2e, routing its own\n", types[i], kl);
        CHECK(kl >= 0.0 && kl <= 5e-2);
    }
}

TEST_MAIN(RUN(rounded_activations_stay_near_float_arithmetic);
          RUN(a_choice_that_falls_the_other_way_costs_little))
