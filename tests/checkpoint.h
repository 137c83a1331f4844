/* Small checkpoints, written tensor by tensor from the published list of names, so that tests
 * can leave one out, bend its shape or spoil its numbers. */
#ifndef CK_CHECKPOINT_H
#define CK_CHECKPOINT_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "tensor/tensor.h"

/* Sizes chosen so that FP8 tiles are cut at both edges. */
#define CK_D 160
#define CK_LAYERS 2      /* the first is dense */
#define CK_I 136
#define CK_INNER 40
#define CK_H 2
#define CK_N 20
#define CK_R 8
#define CK_V 12
#define CK_L 144
#define CK_Q 130
#define CK_EXPERTS 4
#define CK_XH 2
#define CK_XD 16
#define CK_VOCAB 48
#define CK_MAX 256

struct ck_tensor {
    char name[96];
    enum mk_type type;
    uint32_t n_dims;
    size_t shape[2], size;
    uint8_t *data;
};

struct ck {
    struct ck_tensor t[CK_MAX];
    size_t n;
    enum mk_type type;       /* of the linear layers */
    int q_lora, sparse, sigmoid, mtp;
    char config[4096];
};

static inline const char *ck_dtype(enum mk_type type)
{
    return type == MK_F32 ? "F32" : type == MK_F16 ? "F16" : type == MK_BF16 ? "BF16" : "F8_E4M3";
}

static inline size_t ck_width(enum mk_type type)
{
    return type == MK_F32 ? 4 : type == MK_F8_E4M3 ? 1 : 2;
}

static inline uint32_t ck_hash(const char *name, size_t i)
{
    uint32_t h = 2166136261u ^ (uint32_t)i * 2654435761u;

    for (; *name != '\0'; name++)
        h = (h ^ (uint8_t)*name) * 16777619u;
    return h ^ h >> 15;
}

/* Element i of a tensor that is not FP8; exact in every type. */
static inline float ck_value(const char *name, size_t i)
{
    return (float)((int)(ck_hash(name, i) >> 8 & 0xFF) - 128) / 512.0f;
}

static inline uint8_t ck_code(const char *name, size_t i)
{
    const uint8_t code = (uint8_t)(ck_hash(name, i) >> 7);

    return (code & 0x7F) == 0x7F ? 0 : code;
}

static inline struct ck_tensor *ck_add(struct ck *c, enum mk_type type, size_t n_out, size_t n_in,
                                const char *name)
{
    struct ck_tensor *t = &c->t[c->n++];
    const size_t n = n_out * (n_in > 0 ? n_in : 1);

    mk_format(t->name, sizeof t->name, "%s", name);
    t->type = type;
    t->n_dims = n_in > 0 ? 2 : 1;
    t->shape[0] = n_out;
    t->shape[1] = n_in;
    t->size = n * ck_width(type);
    t->data = malloc(t->size + 1);
    for (size_t i = 0; i < n; i++) {
        const float v = ck_value(name, i);

        if (type == MK_F32) {
            memcpy(t->data + 4 * i, &v, 4);
        } else if (type == MK_F8_E4M3) {
            t->data[i] = ck_code(name, i);
        } else {
            const uint16_t h = type == MK_BF16 ? mk_f32_to_bf16(v) : mk_f32_to_f16(v);

            memcpy(t->data + 2 * i, &h, 2);
        }
    }
    return t;
}

/* A linear layer, with its scales if it is FP8. */
static inline void ck_linear(struct ck *c, const char *prefix, const char *name, size_t n_out,
                      size_t n_in)
{
    char full[96];

    mk_format(full, sizeof full, "%s%s.weight", prefix, name);
    ck_add(c, c->type, n_out, n_in, full);
    if (c->type == MK_F8_E4M3) {
        mk_format(full, sizeof full, "%s%s.weight_scale_inv", prefix, name);
        ck_add(c, MK_F32, (n_out + 127) / 128, (n_in + 127) / 128, full);
    }
}

static inline void ck_plain(struct ck *c, const char *prefix, const char *name, enum mk_type type,
                     size_t n_out, size_t n_in)
{
    char full[96];

    mk_format(full, sizeof full, "%s%s", prefix, name);
    ck_add(c, type, n_out, n_in, full);
}

static inline void ck_mlp(struct ck *c, const char *prefix, const char *name, size_t inner)
{
    char full[96];

    mk_format(full, sizeof full, "%s%s", prefix, name);
    ck_linear(c, full, "gate_proj", inner, CK_D);
    ck_linear(c, full, "up_proj", inner, CK_D);
    ck_linear(c, full, "down_proj", CK_D, inner);
}

static inline void ck_layer(struct ck *c, int l, int is_moe)
{
    char p[64], name[64];

    mk_format(p, sizeof p, "model.layers.%d.", l);
    ck_plain(c, p, "input_layernorm.weight", MK_BF16, CK_D, 0);
    ck_plain(c, p, "post_attention_layernorm.weight", MK_F32, CK_D, 0);
    if (c->q_lora) {
        ck_linear(c, p, "self_attn.q_a_proj", CK_Q, CK_D);
        ck_plain(c, p, "self_attn.q_a_layernorm.weight", MK_F16, CK_Q, 0);
        ck_linear(c, p, "self_attn.q_b_proj", CK_H * (CK_N + CK_R), CK_Q);
    } else {
        ck_linear(c, p, "self_attn.q_proj", CK_H * (CK_N + CK_R), CK_D);
    }
    ck_linear(c, p, "self_attn.kv_a_proj_with_mqa", CK_L + CK_R, CK_D);
    ck_plain(c, p, "self_attn.kv_a_layernorm.weight", MK_BF16, CK_L, 0);
    ck_linear(c, p, "self_attn.kv_b_proj", CK_H * (CK_N + CK_V), CK_L);
    ck_linear(c, p, "self_attn.o_proj", CK_D, CK_H * CK_V);
    if (c->sparse) {
        ck_linear(c, p, "self_attn.indexer.wq_b", CK_XH * CK_XD, CK_Q);
        ck_linear(c, p, "self_attn.indexer.wk", CK_XD, CK_D);
        ck_plain(c, p, "self_attn.indexer.k_norm.weight", MK_F32, CK_XD, 0);
        ck_plain(c, p, "self_attn.indexer.k_norm.bias", MK_F32, CK_XD, 0);
        ck_plain(c, p, "self_attn.indexer.weights_proj.weight", MK_BF16, CK_XH, CK_D);
    }
    if (!is_moe) {
        ck_mlp(c, p, "mlp.", CK_I);
        return;
    }
    ck_plain(c, p, "mlp.gate.weight", MK_BF16, CK_EXPERTS, CK_D);
    if (c->sigmoid)
        ck_plain(c, p, "mlp.gate.e_score_correction_bias", MK_F32, CK_EXPERTS, 0);
    for (int e = 0; e < CK_EXPERTS; e++) {
        mk_format(name, sizeof name, "mlp.experts.%d.", e);
        ck_mlp(c, p, name, CK_INNER);
    }
    ck_mlp(c, p, "mlp.shared_experts.", CK_INNER);
}

static inline void ck_config(struct ck *c)
{
    mk_format(c->config, sizeof c->config,
             "{\"model_type\": \"%s\", \"vocab_size\": %d, \"hidden_size\": %d,"
             "\"num_hidden_layers\": %d, \"first_k_dense_replace\": 1, \"intermediate_size\": %d,"
             "\"moe_intermediate_size\": %d, \"num_attention_heads\": %d, \"q_lora_rank\": %s,"
             "\"kv_lora_rank\": %d, \"qk_nope_head_dim\": %d, \"qk_rope_head_dim\": %d,"
             "\"v_head_dim\": %d, \"n_routed_experts\": %d, \"n_shared_experts\": 1,"
             "\"num_experts_per_tok\": 2, \"n_group\": 1, \"topk_group\": 1,"
             "\"max_position_embeddings\": 256, \"hidden_act\": \"silu\","
             "\"index_topk\": %s, \"index_n_heads\": %d, \"index_head_dim\": %d,"
             "\"num_nextn_predict_layers\": %d, \"bos_token_id\": 0, \"eos_token_id\": 1%s}",
             c->sparse ? "deepseek_v32" : c->sigmoid ? "deepseek_v3" : "deepseek_v2", CK_VOCAB,
             CK_D, CK_LAYERS, CK_I, CK_INNER, CK_H, c->q_lora ? "130" : "null", CK_L, CK_N, CK_R,
             CK_V, CK_EXPERTS, c->sparse ? "4" : "null", CK_XH, CK_XD, c->mtp,
             c->type == MK_F8_E4M3 ? ", \"quantization_config\": {\"quant_method\": \"fp8\","
                                     "\"fmt\": \"e4m3\", \"weight_block_size\": [128, 128]}"
                                   : "");
}

static inline struct ck *ck_new(enum mk_type type, int q_lora, int sparse, int sigmoid, int mtp)
{
    struct ck *c = calloc(1, sizeof *c);
    char p[64];

    c->type = type;
    c->q_lora = q_lora;
    c->sparse = sparse;
    c->sigmoid = sigmoid;
    c->mtp = mtp;
    ck_config(c);
    ck_plain(c, "", "model.embed_tokens.weight", MK_BF16, CK_VOCAB, CK_D);
    ck_plain(c, "", "model.norm.weight", MK_F32, CK_D, 0);
    ck_plain(c, "", "lm_head.weight", MK_BF16, CK_VOCAB, CK_D);
    for (int l = 0; l < CK_LAYERS; l++)
        ck_layer(c, l, l > 0);
    if (mtp) {
        ck_layer(c, CK_LAYERS, 1);
        mk_format(p, sizeof p, "model.layers.%d.", CK_LAYERS);
        ck_plain(c, p, "enorm.weight", MK_BF16, CK_D, 0);
        ck_plain(c, p, "hnorm.weight", MK_BF16, CK_D, 0);
        ck_plain(c, p, "eh_proj.weight", MK_BF16, CK_D, 2 * CK_D);
        ck_plain(c, p, "shared_head.norm.weight", MK_BF16, CK_D, 0);
        ck_plain(c, p, "embed_tokens.weight", MK_BF16, CK_VOCAB, CK_D);
        ck_plain(c, p, "shared_head.head.weight", MK_BF16, CK_VOCAB, CK_D);
    }
    return c;
}

static inline void ck_free(struct ck *c)
{
    for (size_t i = 0; i < c->n; i++)
        free(c->t[i].data);
    free(c);
}

static inline struct ck_tensor *ck_find(struct ck *c, const char *name)
{
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->t[i].name, name) == 0)
            return &c->t[i];
    fprintf(stderr, "no tensor %s\n", name);
    exit(1);
}

static inline void ck_remove(struct ck *c, const char *name)
{
    struct ck_tensor *t = ck_find(c, name);

    free(t->data);
    *t = c->t[--c->n];
}

static inline void ck_write_text(const char *dir, const char *name, const char *text, size_t n)
{
    char path[512];
    FILE *f;

    mk_format(path, sizeof path, "%s/%s", dir, name);
    f = fopen(path, "wb");
    if (f == NULL || fwrite(text, 1, n, f) != n || fclose(f) != 0)
        exit(1);
}

/* Tensors [begin, end) as a safetensors file.  pad: spaces behind the header, which set the
 * alignment of the data. */
static inline void ck_write_file(const struct ck *c, const char *dir, const char *name,
                                 size_t begin, size_t end, size_t pad)
{
    char *header = malloc(256 * (end - begin) + 64 + pad), path[512];
    size_t n = 0, at = 0;
    uint8_t len[8];
    FILE *f;

    n += (size_t)sprintf(header + n, "{");
    for (size_t i = begin; i < end; i++) {
        const struct ck_tensor *t = &c->t[i];

        n += (size_t)sprintf(header + n, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%zu",
                             i > begin ? "," : "", t->name, ck_dtype(t->type), t->shape[0]);
        if (t->n_dims == 2)
            n += (size_t)sprintf(header + n, ",%zu", t->shape[1]);
        n += (size_t)sprintf(header + n, "],\"data_offsets\":[%zu,%zu]}", at, at + t->size);
        at += t->size;
    }
    n += (size_t)sprintf(header + n, "}");
    while ((n + pad) % 8 != 0 && pad == 0)
        header[n++] = ' ';
    memset(header + n, ' ', pad);
    n += pad;
    for (int i = 0; i < 8; i++)
        len[i] = (uint8_t)(n >> 8 * i);
    mk_format(path, sizeof path, "%s/%s", dir, name);
    f = fopen(path, "wb");
    if (f == NULL)
        exit(1);
    fwrite(len, 1, 8, f);
    fwrite(header, 1, n, f);
    for (size_t i = begin; i < end; i++)
        fwrite(c->t[i].data, 1, c->t[i].size, f);
    if (fclose(f) != 0)
        exit(1);
    free(header);
}

/* The whole checkpoint in one file. */
static inline void ck_write(const struct ck *c, const char *dir)
{
    ck_write_text(dir, "config.json", c->config, strlen(c->config));
    ck_write_file(c, dir, "model.safetensors", 0, c->n, 0);
}

/* In two files with an index. */
static inline void ck_write_shards(const struct ck *c, const char *dir)
{
    static char index[65536];
    size_t n = (size_t)sprintf(index, "{\"metadata\":{},\"weight_map\":{");
    const size_t half = c->n / 2;

    for (size_t i = 0; i < c->n; i++)
        n += (size_t)sprintf(index + n, "%s\"%s\":\"model-%d.safetensors\"", i > 0 ? "," : "",
                             c->t[i].name, i < half ? 1 : 2);
    n += (size_t)sprintf(index + n, "}}");
    ck_write_text(dir, "config.json", c->config, strlen(c->config));
    ck_write_text(dir, "model.safetensors.index.json", index, n);
    ck_write_file(c, dir, "model-1.safetensors", 0, half, 0);
    ck_write_file(c, dir, "model-2.safetensors", half, c->n, 0);
}

/* Element (r, k) as the model sees it, scale included. */
static inline float ck_element(struct ck *c, const char *name, size_t r, size_t k)
{
    const struct ck_tensor *t = ck_find(c, name);
    const size_t i = r * (t->n_dims == 2 ? t->shape[1] : 1) + k;
    char scale[112];

    if (t->type != MK_F8_E4M3)
        return ck_value(name, i);
    mk_format(scale, sizeof scale, "%s_scale_inv", name);
    return mk_e4m3_to_f32(ck_code(name, i))
         * ck_value(scale, r / 128 * ((t->shape[1] + 127) / 128) + k / 128);
}

#endif
