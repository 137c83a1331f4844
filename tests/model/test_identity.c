#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* mkdtemp */
#endif
/* Identities: the same however a model is opened, another for another model. */
#include <unistd.h>

#include "minke.h"
#include "test.h"

#include "checkpoint.h"

static char folder[] = "/tmp/minke-identity-XXXXXX";

static void identity(char *out, uint32_t flags, uint32_t n_threads)
{
    minke_context_params p;
    minke_context *ctx = NULL;
    const char *t = "";

    minke_context_params_init(&p, sizeof p);
    p.flags = flags;
    p.n_threads = n_threads;
    CHECK_INT(minke_context_open(&ctx, folder, &p), MINKE_OK);
    CHECK_INT(minke_context_text(ctx, MINKE_TEXT_IDENTITY, &t), MINKE_OK);
    CHECK_INT(strlen(t), 16);
    strcpy(out, t);
    minke_context_free(ctx);
}

TEST(threads_and_mapping_do_not_change_it)
{
    static const enum mk_type types[] = {MK_F32, MK_BF16, MK_F16, MK_F8_E4M3};
    char first[17], other[17];

    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct ck *c = ck_new(types[i], 1, 1, 1, 1);

        ck_write(c, folder);
        ck_free(c);
        identity(first, 0, 1);
        identity(other, 0, 3);
        CHECK_STR(first, other);
        identity(other, MINKE_CONTEXT_MMAP, 1);
        CHECK_STR(first, other);
    }
}

TEST(other_weights_or_another_config_change_it)
{
    static const char *const spoiled[] = {
        "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight",
        "model.layers.1.input_layernorm.weight", "model.layers.0.self_attn.q_a_proj.weight",
        "model.layers.1.self_attn.indexer.wk.weight", "model.layers.1.mlp.gate.weight",
        "model.layers.1.mlp.experts.1.down_proj.weight", "model.layers.2.eh_proj.weight",
        "model.layers.0.self_attn.kv_b_proj.weight", "model.layers.2.enorm.weight",
        "model.layers.1.self_attn.indexer.k_norm.bias"};
    char first[17], other[17], *at;
    struct ck *c = ck_new(MK_BF16, 1, 1, 1, 1);

    ck_write(c, folder);
    identity(first, 0, 1);
    for (size_t i = 0; i < sizeof spoiled / sizeof *spoiled; i++) {
        struct ck_tensor *t = ck_find(c, spoiled[i]);

        t->data[0] ^= 1;
        ck_write(c, folder);
        identity(other, 0, 1);
        CHECK(strcmp(first, other) != 0);
        t->data[0] ^= 1;
    }
    at = strstr(c->config, "\"num_experts_per_tok\": 2");
    at[strlen("\"num_experts_per_tok\": ")] = '3';
    ck_write(c, folder);
    identity(other, 0, 1);
    CHECK(strcmp(first, other) != 0);
    ck_free(c);
}

int main(void)
{
    char command[64];

    if (mkdtemp(folder) == NULL)
        return 1;
    RUN(threads_and_mapping_do_not_change_it);
    RUN(other_weights_or_another_config_change_it);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) != 0 ? 1 : test_result();
}
