/* A checkpoint of either container: opened, and its tensors found. */
#include "format/checkpoint.h"

#include <string.h>

#include "base/checked.h"
#include "base/sort.h"
#include "format/safetensors.h"

#define CKPT_MAX_CONFIG    ((uint64_t)16 << 20)      /* bytes of config.json and the like */
#define CKPT_MAX_TOKENIZER ((uint64_t)256 << 20)     /* bytes of tokenizer.json */

/* ---- Opening ------------------------------------------------------------- */

/* A file of the folder; *data NULL when it is not there. */
static int32_t ckpt_load(char **data, size_t *size, const struct mk_checkpoint *c,
                         const char *name, uint64_t limit)
{
    char *path = mk_path_join(&c->env->alloc, c->path, name);
    const int32_t rc = path == NULL ? MINKE_ENOMEM
                                    : mk_file_load(data, size, c->env, path, limit);

    mk_free(&c->env->alloc, path);
    return rc;
}

static int32_t ckpt_read_config(struct mk_checkpoint *c)
{
    const struct mk_json *json = NULL;
    struct mk_arena arena;
    char *text = NULL;
    size_t len = 0;
    int32_t rc = ckpt_load(&text, &len, c, "config.json", CKPT_MAX_CONFIG);

    if (rc == MINKE_OK && text == NULL)
        rc = mk_fail(MINKE_EIO, "%s/config.json: no such file", c->path);
    if (rc < 0)
        return rc;
    mk_arena_init(&arena, &c->env->alloc);
    rc = mk_json_parse(&json, &arena, text, len, "config.json");
    if (rc == MINKE_OK)
        rc = mk_config_read(&c->config, json);
    mk_arena_free(&arena);
    mk_free(&c->env->alloc, text);
    return rc;
}

static int32_t ckpt_open_folder(struct mk_checkpoint *c, int has_weights)
{
    struct mk_st_folder folder = {.arena = &c->arena};
    int32_t rc;

    if (!mk_path_is_dir(c->env, c->path))
        return mk_fail(MINKE_EIO, "%s: no directory, nor a file named .gguf", c->path);
    if (!has_weights)
        return MINKE_OK;
    if ((rc = ckpt_read_config(c)) < 0)
        return rc;
    rc = mk_st_open(&folder, c->env, c->path);
    c->files = folder.files;
    c->n_files = folder.n_files;
    c->tensors = folder.tensors;
    c->n_tensors = folder.n_tensors;
    return rc;
}

static int32_t ckpt_open_gguf(struct mk_checkpoint *c, int has_weights)
{
    const int32_t rc = mk_gguf_open(&c->gguf, c->env, c->path);

    if (rc < 0 || !has_weights)
        return rc;
    c->files = c->gguf.files;
    c->n_files = c->gguf.n_files;
    c->tensors = c->gguf.tensors;
    c->n_tensors = c->gguf.n_tensors;
    c->gguf.files = NULL;
    c->gguf.n_files = 0;
    return mk_gguf_config(&c->config, &c->gguf);
}

int32_t mk_checkpoint_open(struct mk_checkpoint *out, const struct mk_env *env, const char *path,
                           int has_weights)
{
    int32_t rc;

    memset(out, 0, sizeof(*out));
    out->env = env;
    out->path = path;
    out->is_gguf = mk_gguf_is_path(path);
    out->config.bos_token_id = out->config.eos_token_id = -1;
    mk_arena_init(&out->arena, &env->alloc);
    rc = out->is_gguf ? ckpt_open_gguf(out, has_weights) : ckpt_open_folder(out, has_weights);
    if (rc == MINKE_OK) {
        out->used = mk_arena_alloc(&out->arena, out->n_tensors, 1);
        rc = out->used == NULL ? MINKE_ENOMEM : MINKE_OK;
    }
    if (rc < 0)
        mk_checkpoint_close(out);
    return rc;
}

void mk_checkpoint_close(struct mk_checkpoint *c)
{
    const struct mk_allocator *a;

    if (c->env == NULL)
        return;
    a = &c->env->alloc;
    for (size_t i = 0; i < c->n_files; i++)
        mk_file_close(c->files[i]);
    mk_free(a, c->files);
    for (size_t i = 0; i < MK_COUNT(c->texts); i++)
        mk_free(a, c->texts[i]);
    mk_gguf_close(&c->gguf);
    mk_arena_free(&c->arena);
    memset(c, 0, sizeof(*c));
}

/* ---- The tokenizer's material -------------------------------------------- */

int32_t mk_checkpoint_vocabulary(struct mk_checkpoint *c, struct mk_vocabulary *out)
{
    const struct {
        const char *name;
        uint64_t limit;
        struct mk_view *text;
    } files[] = {
        {"tokenizer.json", CKPT_MAX_TOKENIZER, &out->json},
        {"tokenizer_config.json", CKPT_MAX_CONFIG, &out->config},
        {"chat_template.jinja", CKPT_MAX_CONFIG, &out->chat_template},
    };
    int32_t rc = MINKE_OK;

    memset(out, 0, sizeof(*out));
    if (c->is_gguf)
        return mk_gguf_vocabulary(out, &c->arena, &c->gguf);
    for (size_t i = 0; i < MK_COUNT(files) && rc == MINKE_OK; i++) {
        if (i > 0 && c->texts[0] == NULL)
            break;
        rc = ckpt_load(&c->texts[i], &files[i].text->len, c, files[i].name, files[i].limit);
        files[i].text->data = c->texts[i];
    }
    out->bos = c->config.bos_token_id;
    out->eos = c->config.eos_token_id;
    return rc;
}

/* ---- Tensors ------------------------------------------------------------- */

/* By the file's own name: 1, 0, or why weights cannot have it. */
static int32_t ckpt_find(struct mk_checkpoint *c, const char *name, struct mk_stored *out)
{
    const struct mk_stored *t = mk_names_find(c->tensors, c->n_tensors, sizeof(*t), name);

    if (t == NULL)
        return 0;
    if (t->type == MK_N_TYPES)
        return mk_fail(MINKE_EUNSUPPORTED,
                       "tensor %s: type %s; F32, F16, BF16 and F8_E4M3 are accepted", name,
                       t->dtype);
    if (t->n_dims > MK_COUNT(t->shape))
        return mk_fail(MINKE_EFORMAT, "tensor %s: %u dimensions", name, t->n_dims);
    c->used[t - c->tensors] = 1;
    *out = *t;
    return 1;
}

static int32_t ckpt_find_gguf(struct mk_checkpoint *c, struct mk_tensor_id id,
                              struct mk_stored *out)
{
    char name[MK_TENSOR_NAME];

    mk_tensor_gguf_name(name, id);
    return ckpt_find(c, name, out);
}

/* One of all experts (E, I, D); gate's rows may stand before up's in the same tensor. */
static int32_t ckpt_find_expert(struct mk_checkpoint *c, struct mk_tensor_id id,
                                struct mk_stored *out)
{
    const uint64_t n_experts = c->config.n_routed_experts;
    const uint64_t half = id.tensor == MK_T_EXPERT_UP_PROJ;
    int32_t found = ckpt_find_gguf(c, id, out);
    int is_fused = 0;

    if (found == 0 && id.tensor != MK_T_EXPERT_DOWN_PROJ) {
        id.tensor = MK_T_EXPERT_GATE_UP_PROJ;
        found = ckpt_find_gguf(c, id, out);
        is_fused = 1;
    }
    if (found <= 0)
        return found;
    if (out->n_dims != 3 || out->shape[0] != n_experts)
        return mk_fail(MINKE_EFORMAT, "tensor %s: %u dimensions of %llu, 3 of %llu expected",
                       out->name.data, out->n_dims, (unsigned long long)out->shape[0],
                       (unsigned long long)n_experts);
    out->n_dims = 2;
    out->shape[0] = out->shape[1] >> is_fused;
    out->shape[1] = out->shape[2];
    out->offset += out->size / n_experts * id.expert;
    out->size = out->size / n_experts >> is_fused;
    out->offset += is_fused ? half * out->size : 0;
    return 1;
}

int32_t mk_checkpoint_find(struct mk_checkpoint *c, struct mk_tensor_id id,
                           struct mk_stored *out)
{
    char name[MK_TENSOR_NAME];

    if (c->is_gguf)
        return mk_tensors[id.tensor].of == MK_OF_EXPERT ? ckpt_find_expert(c, id, out)
                                                        : ckpt_find_gguf(c, id, out);
    mk_tensor_name(name, id);
    return ckpt_find(c, name, out);
}

/* "(256, 7168)" */
static const char *ckpt_shape(char text[128], const uint64_t *shape, uint32_t n)
{
    size_t len = mk_format(text, 128, "(");

    for (uint32_t d = 0; d < n; d++)
        len += mk_format(text + len, 128 - len, d > 0 ? ", %llu" : "%llu",
                         (unsigned long long)shape[d]);
    mk_format(text + len, 128 - len, n == 1 ? ",)" : ")");
    return text;
}

/* What find said of name, held against the shape that it should have. */
static int32_t ckpt_check(int32_t found, const struct mk_stored *t, const char *name,
                          const uint64_t *shape, uint32_t n_dims)
{
    char expected[128], is[128];
    size_t bytes;

    if (found < 0)
        return found;
    if (found == 0)
        return mk_fail(MINKE_EFORMAT, "tensor %s: missing", name);
    if (t->n_dims != n_dims || memcmp(t->shape, shape, n_dims * sizeof(*shape)) != 0)
        return mk_fail(MINKE_EFORMAT, "tensor %s: shape %s expected, %s found", name,
                       ckpt_shape(expected, shape, n_dims), ckpt_shape(is, t->shape, t->n_dims));
    bytes = mk_type_row_bytes(t->type, (size_t)shape[n_dims - 1]);
    for (uint32_t d = 0; d + 1 < n_dims && bytes > 0; d++)
        if (mk_mul(&bytes, bytes, (size_t)shape[d]))
            bytes = 0;
    if (bytes == 0)
        return mk_fail(MINKE_EFORMAT, "tensor %s: rows of %llu do not fit type %s", name,
                       (unsigned long long)shape[n_dims - 1], mk_type_info(t->type)->name);
    if (bytes != t->size)
        return mk_fail(MINKE_EFORMAT, "tensor %s: %zu bytes expected, %llu found", name, bytes,
                       (unsigned long long)t->size);
    return MINKE_OK;
}

int32_t mk_checkpoint_take(struct mk_checkpoint *c, struct mk_tensor_id id,
                           struct mk_stored *out)
{
    uint64_t shape[3];
    const uint32_t n_dims = mk_tensor_shape(shape, id.tensor, &c->config);
    char name[MK_TENSOR_NAME];

    mk_tensor_name(name, id);
    return ckpt_check(mk_checkpoint_find(c, id, out), out, name, shape, n_dims);
}

int32_t mk_checkpoint_take_scale(struct mk_checkpoint *c, const struct mk_stored *t,
                                 struct mk_stored *out)
{
    const uint64_t shape[2] = {mk_ceil_div((size_t)t->shape[0], MK_SCALE_TILE),
                               mk_ceil_div((size_t)t->shape[1], MK_SCALE_TILE)};
    char name[256];
    int32_t rc;

    mk_format(name, sizeof(name), "%s_scale_inv", t->name.data);
    rc = ckpt_check(ckpt_find(c, name, out), out, name, shape, 2);
    if (rc == MINKE_OK && out->type == MK_F8_E4M3)
        return mk_fail(MINKE_EFORMAT, "tensor %s: type F8_E4M3 for scales", name);
    return rc;
}

int32_t mk_stored_floats(float *out, const struct mk_stored *t, const struct mk_allocator *a)
{
    void *stored = mk_alloc(a, (size_t)t->size, 1);
    const int32_t rc = stored == NULL ? MINKE_ENOMEM
                                      : mk_file_read(t->file, t->offset, stored,
                                                     (size_t)t->size);

    if (rc == MINKE_OK)
        mk_decode(out, stored, mk_stored_count(t), t->type);
    mk_free(a, stored);
    return rc;
}
