#include "bench_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

#define PATTERN_BLOCKS 4099u   /* a prime: rows do not repeat */
#define MAX_TENSORS 8192u

/* Types by their number in GGUF; scale: of the block's f16 numbers, for weights of about
 * 0.02; at: where those are. */
struct kind {
    const char *name;
    uint32_t number, len, bytes;
    double scale[2];
    int at[2];
    const char *fallback;        /* for rows that are no multiple of len */
};
static const struct kind kinds[] = {
    {"f32", 0, 1, 4, {0, 0}, {-1, -1}, NULL},
    {"f16", 1, 1, 2, {0.03, 0}, {0, -1}, NULL},
    {"bf16", 30, 1, 2, {0, 0}, {-1, -1}, NULL},
    {"q4_0", 2, 32, 18, {4e-3, 0}, {0, -1}, NULL},
    {"q5_0", 6, 32, 22, {2e-3, 0}, {0, -1}, NULL},
    {"q8_0", 8, 32, 34, {2.7e-4, 0}, {0, -1}, NULL},
    {"q4_k", 12, 256, 144, {1e-4, 7.5e-4}, {0, 2}, "q5_0"},
    {"q5_k", 13, 256, 176, {5e-5, 7.5e-4}, {0, 2}, "q8_0"},
    {"q6_k", 14, 256, 210, {1.5e-5, 0}, {208, -1}, "q8_0"},
    {"iq4_xs", 23, 256, 136, {1.6e-5, 0}, {0, -1}, "q5_0"},
};
#define N_KINDS (sizeof kinds / sizeof kinds[0])

struct tensor {
    const struct kind *kind;
    int ones;                    /* a norm */
    uint64_t offset, size;       /* within the data */
};

struct random_model {
    char *config;
    uint8_t *header;             /* metadata and tensor list, padded */
    size_t header_size, header_capacity;
    uint64_t n_values, data_size;
    struct tensor *tensors;
    size_t n_tensors;
    uint8_t *patterns[N_KINDS];
    int mixture;
    uint32_t n_layers;
};

static uint32_t random_state = 12345;
static uint32_t random_u32(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

static const struct kind *find_kind(const char *name)
{
    for (size_t i = 0; i < N_KINDS; i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    return NULL;
}

/* ---- config.json --------------------------------------------------------- */

/* The number behind "key":, wherever it is; config.json repeats no key that is read here. */
static double config_number(const struct random_model *m, const char *key, double otherwise)
{
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\"", key);
    const char *at = strstr(m->config, quoted);
    if (at == NULL)
        return otherwise;
    at += strlen(quoted);
    at += strspn(at, " \t\r\n:");
    if (strncmp(at, "true", 4) == 0)
        return 1;
    char *end = NULL;
    const double x = strtod(at, &end);
    return end == at ? otherwise : x;
}

static uint32_t config_count(const struct random_model *m, const char *key)
{
    const double x = config_number(m, key, 0);
    return x > 0 && x < 1e9 ? (uint32_t)x : 0;
}

static int config_has(const struct random_model *m, const char *text)
{
    return strstr(m->config, text) != NULL;
}

/* ---- The header ---------------------------------------------------------- */

static void put(struct random_model *m, const void *bytes, size_t n)
{
    if (m->header_size + n > m->header_capacity) {
        m->header_capacity = 2 * (m->header_size + n);
        m->header = need_memory(m->header, m->header_capacity, 1);
    }
    memcpy(m->header + m->header_size, bytes, n);
    m->header_size += n;
}

static void put_number(struct random_model *m, uint64_t x, size_t n)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(x >> 8 * i);
    put(m, bytes, n);
}

static void put_text(struct random_model *m, const char *text)
{
    put_number(m, strlen(text), 8);
    put(m, text, strlen(text));
}

static void put_key(struct random_model *m, const char *arch, const char *suffix, uint32_t type)
{
    char key[128];
    snprintf(key, sizeof key, "%s.%s", arch, suffix);
    put_text(m, key);
    put_number(m, type, 4);
    m->n_values++;
}

static void put_count(struct random_model *m, const char *arch, const char *suffix, uint32_t x)
{
    put_key(m, arch, suffix, 4);
    put_number(m, x, 4);
}

static void put_float(struct random_model *m, const char *arch, const char *suffix, double x)
{
    const float f = (float)x;
    uint32_t bits;
    memcpy(&bits, &f, 4);
    put_key(m, arch, suffix, 6);
    put_number(m, bits, 4);
}

static void put_string(struct random_model *m, const char *arch, const char *suffix,
                       const char *text)
{
    put_key(m, arch, suffix, 8);
    put_text(m, text);
}

static void put_attention_values(struct random_model *m, const char *a)
{
    const uint32_t N = config_count(m, "qk_nope_head_dim"), R = config_count(m, "qk_rope_head_dim");
    const uint32_t L = config_count(m, "kv_lora_rank"), V = config_count(m, "v_head_dim");
    put_count(m, a, "attention.head_count", config_count(m, "num_attention_heads"));
    put_count(m, a, "attention.head_count_kv", 1);
    if (config_count(m, "q_lora_rank") > 0)
        put_count(m, a, "attention.q_lora_rank", config_count(m, "q_lora_rank"));
    put_count(m, a, "attention.kv_lora_rank", L);
    put_count(m, a, "attention.key_length", L + R);
    put_count(m, a, "attention.value_length", L);
    put_count(m, a, "attention.key_length_mla", N + R);
    put_count(m, a, "attention.value_length_mla", V);
    put_float(m, a, "attention.layer_norm_rms_epsilon", config_number(m, "rms_norm_eps", 1e-6));
    put_count(m, a, "rope.dimension_count", R);
    put_float(m, a, "rope.freq_base", config_number(m, "rope_theta", 10000));
    if (config_has(m, "\"yarn\"")) {
        put_string(m, a, "rope.scaling.type", "yarn");
        put_float(m, a, "rope.scaling.factor", config_number(m, "factor", 1));
        put_count(m, a, "rope.scaling.original_context_length",
                  config_count(m, "original_max_position_embeddings"));
        put_float(m, a, "rope.scaling.yarn_log_multiplier",
                  0.1 * config_number(m, "mscale_all_dim", 0));
    }
    if (config_count(m, "index_n_heads") > 0) {
        put_count(m, a, "attention.indexer.head_count", config_count(m, "index_n_heads"));
        put_count(m, a, "attention.indexer.key_length", config_count(m, "index_head_dim"));
        put_count(m, a, "attention.indexer.top_k", config_count(m, "index_topk"));
    }
}

static void put_values(struct random_model *m)
{
    const char *a = config_count(m, "index_n_heads") > 0 ? "deepseek32" : "deepseek2";
    put_string(m, "general", "architecture", a);
    put_string(m, "tokenizer", "ggml.model", "no_vocab");
    put_count(m, a, "block_count", m->n_layers);
    put_count(m, a, "vocab_size", config_count(m, "vocab_size"));
    put_count(m, a, "context_length", config_count(m, "max_position_embeddings"));
    put_count(m, a, "embedding_length", config_count(m, "hidden_size"));
    put_count(m, a, "feed_forward_length", config_count(m, "intermediate_size"));
    put_attention_values(m, a);
    if (config_count(m, "n_routed_experts") == 0)
        return;
    put_count(m, a, "leading_dense_block_count", config_count(m, "first_k_dense_replace"));
    put_count(m, a, "expert_count", config_count(m, "n_routed_experts"));
    put_count(m, a, "expert_used_count", config_count(m, "num_experts_per_tok"));
    put_count(m, a, "expert_shared_count", config_count(m, "n_shared_experts"));
    put_count(m, a, "expert_feed_forward_length", config_count(m, "moe_intermediate_size"));
    put_count(m, a, "expert_group_count", config_count(m, "n_group"));
    put_count(m, a, "expert_group_used_count", config_count(m, "topk_group"));
    put_count(m, a, "expert_gating_func", config_has(m, "\"sigmoid\"") ? 2 : 1);
    put_key(m, a, "expert_weights_norm", 7);
    put_number(m, config_number(m, "norm_topk_prob", 0) != 0, 1);
    put_float(m, a, "expert_weights_scale", config_number(m, "routed_scaling_factor", 1));
}

/* ---- Tensors ------------------------------------------------------------- */

/* dims: row length first, 0 ends them. */
static void put_tensor(struct random_model *m, int layer, const char *name,
                       const struct kind *kind, uint64_t d0, uint64_t d1, uint64_t d2)
{
    const uint64_t dims[3] = {d0, d1, d2};
    char full[96];
    if (layer < 0)
        snprintf(full, sizeof full, "%s", name);
    else
        snprintf(full, sizeof full, "blk.%d.%s", layer, name);
    while (d0 % kind->len != 0)
        kind = find_kind(kind->fallback != NULL ? kind->fallback : "f16");
    struct tensor *t = &m->tensors[m->n_tensors++];
    const uint32_t n_dims = d1 == 0 ? 1 : d2 == 0 ? 2 : 3;
    t->kind = kind;
    t->ones = strstr(name, "norm.weight") != NULL;
    t->offset = m->data_size;
    t->size = d0 / kind->len * kind->bytes * (d1 ? d1 : 1) * (d2 ? d2 : 1);
    m->data_size += (t->size + 31) / 32 * 32;
    put_text(m, full);
    put_number(m, n_dims, 4);
    for (uint32_t i = 0; i < n_dims; i++)
        put_number(m, dims[i], 8);
    put_number(m, kind->number, 4);
    put_number(m, t->offset, 8);
}

static void put_attention(struct random_model *m, int l, const struct kind *k)
{
    const struct kind *f32 = &kinds[0];
    const uint64_t D = config_count(m, "hidden_size"), H = config_count(m, "num_attention_heads");
    const uint64_t N = config_count(m, "qk_nope_head_dim"), R = config_count(m, "qk_rope_head_dim");
    const uint64_t L = config_count(m, "kv_lora_rank"), V = config_count(m, "v_head_dim");
    const uint64_t Q = config_count(m, "q_lora_rank"), HI = config_count(m, "index_n_heads");
    const uint64_t DI = config_count(m, "index_head_dim");
    put_tensor(m, l, "attn_norm.weight", f32, D, 0, 0);
    if (Q > 0) {
        put_tensor(m, l, "attn_q_a.weight", k, D, Q, 0);
        put_tensor(m, l, "attn_q_a_norm.weight", f32, Q, 0, 0);
        put_tensor(m, l, "attn_q_b.weight", k, Q, H * (N + R), 0);
    } else {
        put_tensor(m, l, "attn_q.weight", k, D, H * (N + R), 0);
    }
    put_tensor(m, l, "attn_kv_a_mqa.weight", k, D, L + R, 0);
    put_tensor(m, l, "attn_kv_a_norm.weight", f32, L, 0, 0);
    put_tensor(m, l, "attn_k_b.weight", k, N, L, H);
    put_tensor(m, l, "attn_v_b.weight", k, L, V, H);
    put_tensor(m, l, "attn_output.weight", k, H * V, D, 0);
    if (HI > 0) {
        put_tensor(m, l, "indexer.attn_q_b.weight", k, Q, HI * DI, 0);
        put_tensor(m, l, "indexer.attn_k.weight", k, D, DI, 0);
        put_tensor(m, l, "indexer.k_norm.weight", f32, DI, 0, 0);
        put_tensor(m, l, "indexer.k_norm.bias", f32, DI, 0, 0);
        put_tensor(m, l, "indexer.proj.weight", k, D, HI, 0);
    }
}

/* llama.cpp's Q4_K_M gives these layers' down projections more bits. */
static int more_bits(const struct random_model *m, uint32_t l)
{
    const uint32_t n = m->n_layers;
    return l < n / 8 || l >= 7 * n / 8 || (l - n / 8) % 3 == 2;
}

static void put_ffn(struct random_model *m, uint32_t layer, const struct kind *k)
{
    const struct kind *f32 = &kinds[0];
    const struct kind *down = m->mixture && more_bits(m, layer) ? find_kind("q6_k") : k;
    const uint64_t D = config_count(m, "hidden_size"), E = config_count(m, "n_routed_experts");
    const uint64_t I = config_count(m, "intermediate_size");
    const uint64_t M = config_count(m, "moe_intermediate_size");
    const uint64_t S = M * config_count(m, "n_shared_experts");
    const int l = (int)layer;
    put_tensor(m, l, "ffn_norm.weight", f32, D, 0, 0);
    if (E == 0 || layer < config_count(m, "first_k_dense_replace")) {
        put_tensor(m, l, "ffn_gate.weight", k, D, I, 0);
        put_tensor(m, l, "ffn_up.weight", k, D, I, 0);
        put_tensor(m, l, "ffn_down.weight", down, I, D, 0);
        return;
    }
    put_tensor(m, l, "ffn_gate_inp.weight", f32, D, E, 0);
    if (config_has(m, "\"noaux_tc\""))
        put_tensor(m, l, "exp_probs_b.bias", f32, E, 0, 0);
    put_tensor(m, l, "ffn_gate_exps.weight", k, D, M, E);
    put_tensor(m, l, "ffn_up_exps.weight", k, D, M, E);
    put_tensor(m, l, "ffn_down_exps.weight", down, M, D, E);
    if (S > 0) {
        put_tensor(m, l, "ffn_gate_shexp.weight", k, D, S, 0);
        put_tensor(m, l, "ffn_up_shexp.weight", k, D, S, 0);
        put_tensor(m, l, "ffn_down_shexp.weight", down, S, D, 0);
    }
}

static void put_tensors(struct random_model *m, const struct kind *k)
{
    const uint64_t D = config_count(m, "hidden_size"), V = config_count(m, "vocab_size");
    put_tensor(m, -1, "token_embd.weight", k, D, V, 0);
    for (uint32_t l = 0; l < m->n_layers; l++) {
        put_attention(m, (int)l, k);
        put_ffn(m, l, k);
    }
    put_tensor(m, -1, "output_norm.weight", &kinds[0], D, 0, 0);
    put_tensor(m, -1, "output.weight", m->mixture ? find_kind("q6_k") : k, D, V, 0);
}

/* ---- Contents ------------------------------------------------------------ */

static uint16_t half_of(double x)
{
    /* x in (0, 1): 2^e (1 + m), rounded down; small ones as multiples of 2^-24. */
    int e;
    const double f = frexp(x, &e);
    if (e - 1 < -14)
        return (uint16_t)(x * 16777216.0);
    return (uint16_t)((e - 1 + 15) << 10 | (int)((2 * f - 1) * 1024));
}

/* Plain floats of about 0.02. */
static void random_floats(uint8_t *p, const struct kind *k)
{
    const float f = (float)((int32_t)random_u32() / 2147483648.0 * 0.03);
    uint32_t bits;
    memcpy(&bits, &f, 4);
    if (k->bytes == 4) {
        memcpy(p, &bits, 4);
    } else if (k->number == 30) {
        const uint16_t h = (uint16_t)(bits >> 16);
        memcpy(p, &h, 2);
    } else {
        const uint16_t h = (uint16_t)(half_of(fabs((double)f)) | (bits >> 31) << 15);
        memcpy(p, &h, 2);
    }
}

static uint8_t *random_pattern(const struct kind *k)
{
    uint8_t *p = need_memory(NULL, PATTERN_BLOCKS, k->bytes);
    for (size_t i = 0; i < (size_t)PATTERN_BLOCKS * k->bytes; i++)
        p[i] = (uint8_t)(random_u32() >> 11);
    for (uint8_t *b = p; b < p + (size_t)PATTERN_BLOCKS * k->bytes; b += k->bytes) {
        if (k->len == 1) {
            random_floats(b, k);
            continue;
        }
        for (int i = 0; i < 2; i++)
            if (k->at[i] >= 0) {
                const uint16_t h = half_of(k->scale[i] * (0.75 + random_u32() % 512 / 1024.0));
                memcpy(b + k->at[i], &h, 2);
            }
    }
    return p;
}

/* n bytes of a tensor from offset: its type's pattern over and over. */
static void fill_tensor(struct random_model *m, const struct tensor *t, uint64_t offset,
                        uint8_t *out, size_t n)
{
    const size_t i = (size_t)(t->kind - kinds);
    if (t->ones) {
        const float one = 1.0f;
        uint8_t bytes[4];
        memcpy(bytes, &one, 4);
        for (size_t j = 0; j < n; j++)
            out[j] = bytes[(offset + j) % 4];
        return;
    }
    const size_t period = (size_t)PATTERN_BLOCKS * t->kind->bytes;
    while (n > 0) {
        const size_t at = (size_t)(offset % period);
        const size_t part = n < period - at ? n : period - at;
        memcpy(out, m->patterns[i] + at, part);
        out += part;
        offset += part;
        n -= part;
    }
}

static int32_t random_open(void *user, const char *path, void **file, uint64_t *size)
{
    struct random_model *m = user;
    if (strcmp(path, random_model_path(m)) != 0)
        return 1;
    *file = m;
    *size = m->header_size + m->data_size;
    return 0;
}

static int32_t random_read(void *user, void *file, uint64_t offset, void *buffer, size_t n)
{
    struct random_model *m = user;
    uint8_t *out = buffer;
    size_t lo = 0, hi = m->n_tensors;
    (void)file;
    if (offset < m->header_size) {
        const size_t left = m->header_size - (size_t)offset, part = n < left ? n : left;
        memcpy(out, m->header + offset, part);
        out += part;
        n -= part;
        offset += part;
    }
    offset -= m->header_size;
    while (lo + 1 < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (m->tensors[mid].offset <= offset)
            lo = mid;
        else
            hi = mid;
    }
    for (; n > 0 && lo < m->n_tensors; lo++) {
        const struct tensor *t = &m->tensors[lo];
        const uint64_t end = lo + 1 < m->n_tensors ? t[1].offset : m->data_size;
        const size_t part = n < end - offset ? n : (size_t)(end - offset);
        const uint64_t used = t->offset + t->size > offset ? t->offset + t->size - offset : 0;
        const size_t filled = part < used ? part : (size_t)used;
        fill_tensor(m, t, offset - t->offset, out, filled);
        memset(out + filled, 0, part - filled);
        out += part;
        offset += part;
        n -= part;
    }
    return n == 0 ? 0 : -1;
}

static void random_close(void *user, void *file)
{
    (void)user;
    (void)file;
}

/* ---- All of it ----------------------------------------------------------- */

static char *load_text(const char *path)
{
    FILE *f = fopen(path, "rb");
    char *text = need_memory(NULL, 1 << 20, 1);
    const size_t n = f != NULL ? fread(text, 1, (1 << 20) - 1, f) : 0;
    text[n] = '\0';
    if (f != NULL)
        fclose(f);
    return text;
}

/* Header: magic, version, counts, metadata, tensor list, padding.  Counts come first, so the
 * parts are written to one buffer and the counts put in afterwards. */
static void write_header(struct random_model *m, const struct kind *k)
{
    put(m, "GGUF", 4);
    put_number(m, 3, 4);
    put_number(m, 0, 8);
    put_number(m, 0, 8);
    put_values(m);
    put_tensors(m, k);
    while (m->header_size % 32 != 0)
        put_number(m, 0, 1);
    for (size_t i = 0; i < 8; i++) {
        m->header[8 + i] = (uint8_t)((uint64_t)m->n_tensors >> 8 * i);
        m->header[16 + i] = (uint8_t)(m->n_values >> 8 * i);
    }
}

struct random_model *random_model_open(const char *shape, const char *type, uint32_t layers,
                                       const char **why, const char **value)
{
    struct random_model *m = need_memory(NULL, 1, sizeof *m);
    memset(m, 0, sizeof *m);
    m->mixture = strcmp(type, "q4_k_m") == 0;
    const struct kind *k = find_kind(m->mixture ? "q4_k" : type);
    m->config = load_text(shape);
    m->n_layers = config_count(m, "num_hidden_layers");
    if (layers > 0 && layers < m->n_layers)
        m->n_layers = layers;
    *why = k == NULL ? "this type cannot be made:" : m->n_layers == 0 || m->n_layers > 400
         ? "not a config.json:" : NULL;
    *value = k == NULL ? type : shape;
    if (*why != NULL) {
        random_model_free(m);
        return NULL;
    }
    m->tensors = need_memory(NULL, MAX_TENSORS, sizeof *m->tensors);
    write_header(m, k);
    for (size_t i = 0; i < N_KINDS; i++)
        m->patterns[i] = random_pattern(&kinds[i]);
    return m;
}

void random_model_free(struct random_model *m)
{
    for (size_t i = 0; m != NULL && i < N_KINDS; i++)
        free(m->patterns[i]);
    if (m != NULL) {
        free(m->config);
        free(m->header);
        free(m->tensors);
    }
    free(m);
}

int random_model_save(struct random_model *m, const char *path)
{
    const size_t step = (size_t)4 << 20;
    const uint64_t size = m->header_size + m->data_size;
    uint8_t *buffer = need_memory(NULL, step, 1);
    FILE *f = fopen(path, "wb");
    int ok = f != NULL;
    for (uint64_t at = 0; ok && at < size; at += step) {
        const size_t n = size - at < step ? (size_t)(size - at) : step;
        ok = random_read(m, m, at, buffer, n) == 0 && fwrite(buffer, 1, n, f) == n;
    }
    if (f != NULL)
        ok = finish_file(f, path, ok);
    free(buffer);
    return ok ? 0 : -1;
}

const char *random_model_path(const struct random_model *m)
{
    (void)m;
    return "random.gguf";
}

void random_model_reader(struct random_model *m, minke_context_params *params)
{
    params->reader_open = random_open;
    params->reader_read = random_read;
    params->reader_close = random_close;
    params->reader_user = m;
}
