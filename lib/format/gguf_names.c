/* A GGUF file as a source of the checkpoint's tensors.  Names: llama.cpp's
 * gguf-py/gguf/tensor_mapping.py and src/llama-arch.cpp. */
#include "format/gguf_names.h"

#include <string.h>

#include "base/error.h"

const struct mk_gguf_name mk_gguf_layer_names[] = {
    {"input_layernorm.weight", "attn_norm.weight", MK_GGUF_EXACT},
    {"self_attn.q_proj.weight", "attn_q.weight", MK_GGUF_ATTENTION},
    {"self_attn.q_a_proj.weight", "attn_q_a.weight", MK_GGUF_ATTENTION},
    {"self_attn.q_a_layernorm.weight", "attn_q_a_norm.weight", MK_GGUF_EXACT},
    {"self_attn.q_b_proj.weight", "attn_q_b.weight", MK_GGUF_ATTENTION},
    {"self_attn.kv_a_proj_with_mqa.weight", "attn_kv_a_mqa.weight", MK_GGUF_ATTENTION},
    {"self_attn.kv_a_layernorm.weight", "attn_kv_a_norm.weight", MK_GGUF_EXACT},
    {"self_attn.o_proj.weight", "attn_output.weight", MK_GGUF_ATTENTION},
    {"self_attn.indexer.k_norm.weight", "indexer.k_norm.weight", MK_GGUF_EXACT},
    {"self_attn.indexer.k_norm.bias", "indexer.k_norm.bias", MK_GGUF_EXACT},
    {"self_attn.indexer.weights_proj.weight", "indexer.proj.weight", MK_GGUF_EXACT},
    {"self_attn.indexer.wk.weight", "indexer.attn_k.weight", MK_GGUF_ATTENTION},
    {"self_attn.indexer.wq_b.weight", "indexer.attn_q_b.weight", MK_GGUF_ATTENTION},
    {"post_attention_layernorm.weight", "ffn_norm.weight", MK_GGUF_EXACT},
    {"mlp.gate_proj.weight", "ffn_gate.weight", MK_GGUF_DENSE},
    {"mlp.up_proj.weight", "ffn_up.weight", MK_GGUF_DENSE},
    {"mlp.down_proj.weight", "ffn_down.weight", MK_GGUF_DENSE},
    {"mlp.gate.weight", "ffn_gate_inp.weight", MK_GGUF_EXACT},
    {"mlp.gate.e_score_correction_bias", "exp_probs_b.bias", MK_GGUF_EXACT},
    {"mlp.shared_experts.gate_proj.weight", "ffn_gate_shexp.weight", MK_GGUF_SHARED},
    {"mlp.shared_experts.up_proj.weight", "ffn_up_shexp.weight", MK_GGUF_SHARED},
    {"mlp.shared_experts.down_proj.weight", "ffn_down_shexp.weight", MK_GGUF_SHARED},
    {"mlp.experts.%u.gate_proj.weight", "ffn_gate_exps.weight", MK_GGUF_GATE_UP},
    {"mlp.experts.%u.up_proj.weight", "ffn_up_exps.weight", MK_GGUF_GATE_UP},
    {"mlp.experts.%u.down_proj.weight", "ffn_down_exps.weight", MK_GGUF_DOWN},
    {"enorm.weight", "nextn.enorm.weight", MK_GGUF_EXACT},
    {"hnorm.weight", "nextn.hnorm.weight", MK_GGUF_EXACT},
    {"eh_proj.weight", "nextn.eh_proj.weight", MK_GGUF_ATTENTION},
    {"shared_head.norm.weight", "nextn.shared_head_norm.weight", MK_GGUF_EXACT},
    {NULL, NULL, 0},
};

const struct mk_gguf_name mk_gguf_top_names[] = {
    {"model.embed_tokens.weight", "token_embd.weight", MK_GGUF_EMBED},
    {"model.norm.weight", "output_norm.weight", MK_GGUF_EXACT},
    {"lm_head.weight", "output.weight", MK_GGUF_HEAD},
    {NULL, NULL, 0},
};

struct ggufsrc {
    struct mk_allocator alloc;
    struct mk_gguf *g;
    const struct mk_config *config;
    uint8_t *used;                  /* (g->n_tensors,) */
};

/* Digits at *p as a number below 2^24, with *p behind them; -1 if there are none. */
static int32_t ggufsrc_number(const char **p)
{
    const char *begin = *p;
    int32_t v = 0;

    for (; **p >= '0' && **p <= '9' && v < 1 << 20; (*p)++)
        v = v * 10 + (**p - '0');
    return *p == begin || (**p >= '0' && **p <= '9') ? -1 : v;
}

/* Whether name fits the pattern, whose %u stands for *index. */
static int ggufsrc_match(const char *pattern, const char *name, int32_t *index)
{
    const char *mark = strstr(pattern, "%u");
    const size_t head = mark == NULL ? 0 : (size_t)(mark - pattern);

    *index = -1;
    if (mark == NULL)
        return strcmp(pattern, name) == 0;
    if (strncmp(pattern, name, head) != 0)
        return 0;
    name += head;
    *index = ggufsrc_number(&name);
    return *index >= 0 && strcmp(mark + 2, name) == 0;
}

/* The file's name of a tensor and which slice of it, -1 = all; 0 when there is no such name. */
static int ggufsrc_translate(const char *name, char *out, size_t size, int32_t *slice)
{
    const char *p = name + sizeof("model.layers.") - 1;
    const char *theirs;
    int32_t layer;

    for (size_t i = 0; mk_gguf_top_names[i].hf != NULL; i++) {
        if (ggufsrc_match(mk_gguf_top_names[i].hf, name, slice)) {
            mk_format(out, size, "%s", mk_gguf_top_names[i].gguf);
            return 1;
        }
    }
    if (strncmp(name, "model.layers.", sizeof("model.layers.") - 1) != 0
        || (layer = ggufsrc_number(&p)) < 0 || *p++ != '.')
        return 0;
    for (size_t i = 0; mk_gguf_layer_names[i].hf != NULL; i++) {
        if (ggufsrc_match(mk_gguf_layer_names[i].hf, p, slice)) {
            mk_format(out, size, "blk.%d.%s", layer, mk_gguf_layer_names[i].gguf);
            return 1;
        }
    }
    /* Not written, but read or known. */
    theirs = strcmp(p, "self_attn.kv_b_proj.weight") == 0 ? "attn_kv_b"
           : strcmp(p, "self_attn.k_b_proj.weight") == 0 ? "attn_k_b"
           : strcmp(p, "self_attn.v_b_proj.weight") == 0 ? "attn_v_b"
           : strcmp(p, "embed_tokens.weight") == 0 ? "nextn.embed_tokens"
           : strcmp(p, "shared_head.head.weight") == 0 ? "nextn.shared_head_head" : NULL;
    if (theirs == NULL)
        return 0;
    mk_format(out, size, "blk.%d.%s.weight", layer, theirs);
    return 1;
}

/* gate_proj and up_proj of experts may share a tensor: gate's rows first, then up's. */
static const struct mk_gguf_tensor *ggufsrc_fused(const struct ggufsrc *s, const char *name,
                                                  int *second)
{
    const char *gate = strstr(name, "ffn_gate_exps"), *up = strstr(name, "ffn_up_exps");
    char fused[96];

    if (gate == NULL && up == NULL)
        return NULL;
    *second = up != NULL;
    mk_format(fused, sizeof(fused), "%.*sffn_gate_up_exps.weight",
              (int)((gate != NULL ? gate : up) - name), name);
    return mk_gguf_tensor(s->g, fused);
}

/* Part k of n equal parts along the slowest dimension. */
static int32_t ggufsrc_slice(struct mk_stored *out, uint64_t n, uint64_t k, int drop)
{
    if (out->n_dims < 2 || n == 0 || out->shape[0] % n != 0 || k >= n)
        return mk_fail(MINKE_EFORMAT, "tensor %s: part %llu of %llu expected in %llu", out->name,
                       (unsigned long long)k + 1, (unsigned long long)n,
                       (unsigned long long)(out->n_dims < 2 ? 1 : out->shape[0]));
    out->size /= n;
    out->offset += k * out->size;
    out->shape[0] /= n;
    if (drop) {
        out->n_dims--;
        memmove(out->shape, out->shape + 1, out->n_dims * sizeof(*out->shape));
    }
    return 1;
}

static void ggufsrc_stored(struct mk_stored *out, const struct ggufsrc *s,
                           const struct mk_gguf_tensor *t)
{
    memset(out, 0, sizeof(*out));
    out->name = t->name.data;
    out->type = t->type;
    out->n_dims = t->n_dims;
    for (uint32_t d = 0; d < t->n_dims; d++)
        out->shape[d] = t->dims[t->n_dims - 1 - d];
    out->file = s->g->files[t->part];
    out->offset = t->offset;
    out->size = t->size;
}

static int32_t ggufsrc_find(void *self, const char *name, struct mk_stored *out)
{
    struct ggufsrc *s = self;
    const struct mk_gguf_tensor *t;
    char file_name[96];
    int32_t slice, found;
    int second = -1;

    if (!ggufsrc_translate(name, file_name, sizeof(file_name), &slice))
        return 0;
    t = mk_gguf_tensor(s->g, file_name);
    if (t == NULL && slice >= 0)
        t = ggufsrc_fused(s, file_name, &second);
    if (t == NULL)
        return 0;
    s->used[t - s->g->tensors] = 1;
    ggufsrc_stored(out, s, t);
    if (slice < 0)
        return 1;
    if (out->n_dims != 3 || out->shape[0] != s->config->n_routed_experts)
        return mk_fail(MINKE_EFORMAT, "tensor %s: %u dimensions of %llu, 3 of %u expected",
                       out->name, out->n_dims, (unsigned long long)out->shape[0],
                       s->config->n_routed_experts);
    found = ggufsrc_slice(out, out->shape[0], (uint64_t)slice, 1);
    return found < 0 || second < 0 ? found : ggufsrc_slice(out, 2, (uint64_t)second, 0);
}

static const char *ggufsrc_unused(void *self, size_t *i)
{
    const struct ggufsrc *s = self;

    while (*i < s->g->n_tensors)
        if (!s->used[(*i)++])
            return s->g->tensors[*i - 1].name.data;
    return NULL;
}

static int32_t ggufsrc_keep_files(void *self, struct mk_file ***files, size_t *n_files)
{
    struct ggufsrc *s = self;
    struct mk_file **kept = mk_alloc(&s->alloc, s->g->n_files, sizeof(*kept));

    if (kept == NULL)
        return MINKE_ENOMEM;
    memcpy(kept, s->g->files, s->g->n_files * sizeof(*kept));
    *files = kept;
    *n_files = s->g->n_files;
    s->g->n_files = 0;
    return MINKE_OK;
}

static void ggufsrc_free(void *self)
{
    struct ggufsrc *s = self;

    if (s == NULL)
        return;
    const struct mk_allocator alloc = s->alloc;
    mk_free(&alloc, s->used);
    mk_free(&alloc, s);
}

int32_t mk_gguf_source_open(struct mk_source *out, const struct mk_env *env, struct mk_gguf *g,
                            const struct mk_config *config)
{
    struct ggufsrc *s = mk_alloc(&env->alloc, 1, sizeof(*s));

    if (s == NULL)
        return MINKE_ENOMEM;
    s->alloc = env->alloc;
    s->g = g;
    s->config = config;
    s->used = mk_alloc(&env->alloc, g->n_tensors, 1);
    if (s->used == NULL) {
        ggufsrc_free(s);
        return MINKE_ENOMEM;
    }
    out->self = s;
    out->find = ggufsrc_find;
    out->unused = ggufsrc_unused;
    out->keep_files = ggufsrc_keep_files;
    out->free = ggufsrc_free;
    return MINKE_OK;
}
