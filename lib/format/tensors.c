/* What the list of tensors says of a model.  Names: the published checkpoints, and llama.cpp's
 * gguf-py/gguf/tensor_mapping.py and src/llama-arch.cpp. */
#include "format/tensors.h"

#include <string.h>

#include "base/error.h"

/* Sizes that shapes are made of; see model/weights.h for the letters. */
enum tensor_size {
    TENSOR_ONE, TENSOR_VOCAB, TENSOR_D, TENSOR_DD, TENSOR_Q, TENSOR_HK, TENSOR_LR, TENSOR_L,
    TENSOR_HKV, TENSOR_HV, TENSOR_N, TENSOR_V, TENSOR_I, TENSOR_SI, TENSOR_EI, TENSOR_E,
    TENSOR_XHD, TENSOR_XD, TENSOR_XH
};

enum tensor_when {
    TENSOR_ALWAYS = 0, TENSOR_UNTIED = 1, TENSOR_PLAIN_Q = 2, TENSOR_LORA_Q = 4,
    TENSOR_SPARSE = 8, TENSOR_DENSE = 16, TENSOR_MOE = 32, TENSOR_BIAS = 64,
    TENSOR_SHARED = 128, TENSOR_NEVER = 256
};

#define TENSOR_ROW(of, id, field, kind, rows, cols, when, part, name, gguf)                      \
    {name, gguf, MK_OF_##of, MK_KIND_##kind, TENSOR_##rows, TENSOR_##cols, TENSOR_##when,        \
     MK_PART_##part},
#define TENSOR_NAMES(of, id, kind, part, name, gguf)                                             \
    {name, gguf, MK_OF_##of, MK_KIND_##kind, 0, 0, TENSOR_NEVER, MK_PART_##part},

const struct mk_tensor mk_tensors[MK_N_TENSORS] = {MK_TENSORS(TENSOR_ROW, TENSOR_NAMES)};

void mk_tensor_name(char out[MK_TENSOR_NAME], struct mk_tensor_id id)
{
    const struct mk_tensor *t = &mk_tensors[id.tensor];

    if (t->of == MK_OF_MODEL)
        mk_format(out, MK_TENSOR_NAME, "%s", t->name);
    else if (t->of == MK_OF_EXPERT)
        mk_format(out, MK_TENSOR_NAME, "model.layers.%u.mlp.experts.%u.%s", id.layer, id.expert,
                  t->name);
    else
        mk_format(out, MK_TENSOR_NAME, "model.layers.%u.%s", id.layer, t->name);
}

void mk_tensor_gguf_name(char out[MK_TENSOR_NAME], struct mk_tensor_id id)
{
    const struct mk_tensor *t = &mk_tensors[id.tensor];

    if (t->of == MK_OF_MODEL)
        mk_format(out, MK_TENSOR_NAME, "%s", t->gguf);
    else
        mk_format(out, MK_TENSOR_NAME, "blk.%u.%s", id.layer, t->gguf);
}

const struct mk_tensor *mk_tensor_of_gguf(const char *name)
{
    const char *behind = strncmp(name, "blk.", 4) == 0 ? strchr(name + 4, '.') : NULL;

    for (const struct mk_tensor *t = mk_tensors; t < mk_tensors + MK_N_TENSORS; t++)
        if (t->of == MK_OF_MODEL ? strcmp(name, t->gguf) == 0
                                 : behind != NULL && strcmp(behind + 1, t->gguf) == 0)
            return t;
    return NULL;
}

uint32_t mk_tensor_next(uint32_t tensor, uint32_t of, const struct mk_config *c, uint32_t layer)
{
    const int is_moe = mk_config_is_moe(c, layer);
    const uint32_t holds =
        (c->tie_word_embeddings ? 0 : TENSOR_UNTIED)
        | (c->q_lora_rank > 0 ? TENSOR_LORA_Q : TENSOR_PLAIN_Q)
        | (c->index_topk > 0 ? TENSOR_SPARSE : 0) | (is_moe ? TENSOR_MOE : TENSOR_DENSE)
        | (is_moe && c->topk_method == MK_TOPK_NOAUX ? TENSOR_BIAS : 0)
        | (is_moe && c->n_shared_experts > 0 ? TENSOR_SHARED : 0);

    while (tensor < MK_N_TENSORS
           && ((mk_tensors[tensor].of & of) == 0 || (mk_tensors[tensor].when & ~holds) != 0))
        tensor++;
    return tensor;
}

uint32_t mk_tensor_shape(uint64_t shape[3], uint32_t tensor, const struct mk_config *c)
{
    const struct mk_tensor *t = &mk_tensors[tensor];
    const uint64_t H = c->num_attention_heads, N = c->qk_nope_head_dim;
    const uint64_t sizes[] = {
        [TENSOR_ONE] = 1,
        [TENSOR_VOCAB] = c->vocab_size,
        [TENSOR_D] = c->hidden_size,
        [TENSOR_DD] = 2 * (uint64_t)c->hidden_size,
        [TENSOR_Q] = c->q_lora_rank,
        [TENSOR_HK] = H * (N + c->qk_rope_head_dim),
        [TENSOR_LR] = (uint64_t)c->kv_lora_rank + c->qk_rope_head_dim,
        [TENSOR_L] = c->kv_lora_rank,
        [TENSOR_HKV] = H * (N + c->v_head_dim),
        [TENSOR_HV] = H * c->v_head_dim,
        [TENSOR_N] = N,
        [TENSOR_V] = c->v_head_dim,
        [TENSOR_I] = c->intermediate_size,
        [TENSOR_SI] = (uint64_t)c->n_shared_experts * c->moe_intermediate_size,
        [TENSOR_EI] = c->moe_intermediate_size,
        [TENSOR_E] = c->n_routed_experts,
        [TENSOR_XHD] = (uint64_t)c->index_n_heads * c->index_head_dim,
        [TENSOR_XD] = c->index_head_dim,
        [TENSOR_XH] = c->index_n_heads,
    };
    uint32_t n = 0;

    if (t->kind == MK_KIND_HEADS)
        shape[n++] = H;
    shape[n++] = sizes[t->rows];
    if (t->kind != MK_KIND_VECTOR)
        shape[n++] = sizes[t->cols];
    return n;
}
