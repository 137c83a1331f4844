/* A model to convert: a GGUF file, or a directory of safetensors files. */
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/json.h"
#include "format/safetensors.h"
#include "convert/quantize.h"

#define QSRC_MAX_JSON 100000000u

/* Whole file of the directory; missing ones are an error. */
static int32_t qsrc_load(char **data, size_t *size, const struct mk_env *env, const char *dir,
                         const char *name)
{
    char *path = mk_path_join(&env->alloc, dir, name);
    int32_t rc = path == NULL ? MINKE_ENOMEM
                              : mk_file_load(data, size, env, path, QSRC_MAX_JSON);

    mk_free(&env->alloc, path);
    if (rc == MINKE_OK && *data == NULL)
        return mk_fail(MINKE_EIO, "%s/%s: no such file", dir, name);
    return rc;
}

/* The tensors of one safetensors file, behind those of the files before it. */
static int32_t qsrc_add_file(struct mk_q_source *s, const char *dir, const char *name,
                             size_t *capacity)
{
    char *path = mk_path_join(&s->env->alloc, dir, name);
    struct mk_st_tensor *found = NULL;
    struct mk_file *file = NULL;
    size_t n = 0;
    int32_t rc = path == NULL ? MINKE_ENOMEM : mk_file_open(&file, s->env, path);

    mk_free(&s->env->alloc, path);
    if (rc < 0)
        return rc;
    if (file == NULL)
        return mk_fail(MINKE_EIO, "%s/%s: no such file", dir, name);
    s->files[s->n_files++] = file;
    rc = mk_st_read(&found, &n, &s->arena, file);
    if (rc == MINKE_OK)
        rc = mk_grow(&s->env->alloc, (void **)&s->tensors, capacity, s->n_tensors + n,
                     sizeof(*s->tensors));
    for (size_t i = 0; i < n && rc == MINKE_OK; i++) {
        struct mk_q_tensor *t = &s->tensors[s->n_tensors];
        t->name.data = found[i].name;
        t->name.len = strlen(found[i].name);
        t->file = file;
        t->offset = found[i].offset;
        t->n_dims = found[i].n_dims;
        if (t->n_dims > 2)
            return mk_fail(MINKE_EUNSUPPORTED, "tensor %s: %u dimensions", t->name.data,
                           t->n_dims);
        t->dims[0] = t->n_dims > 0 ? found[i].shape[t->n_dims - 1] : 1;
        t->dims[1] = t->rows = t->n_dims == 2 ? found[i].shape[0] : 1;
        t->dims[2] = t->dims[3] = 1;
        t->type = mk_type_of_dtype(found[i].dtype);
        if (t->type == MK_N_TYPES)
            return mk_fail(MINKE_EUNSUPPORTED, "tensor %s: type %s", found[i].name,
                           found[i].dtype);
        s->n_tensors++;
    }
    return rc;
}

static int32_t qsrc_open_safetensors(struct mk_q_source *s, const char *dir)
{
    static const char *const single[1] = {"model.safetensors"};
    const char **names = NULL;
    const struct mk_json *json = NULL;
    char *index_path = mk_path_join(&s->env->alloc, dir, "model.safetensors.index.json");
    char *index = NULL;
    size_t size = 0, n = 1, capacity = 0;
    int32_t rc = index_path == NULL ? MINKE_ENOMEM
               : mk_file_load(&index, &size, s->env, index_path, QSRC_MAX_JSON);

    mk_free(&s->env->alloc, index_path);
    if (rc == MINKE_OK && index != NULL) {
        rc = mk_json_parse(&json, &s->arena, index, size, "model.safetensors.index.json");
        if (rc == MINKE_OK)
            rc = mk_st_shards(&names, &n, &s->arena, mk_json_get(json, "weight_map"));
    }
    if (rc == MINKE_OK) {
        s->files = mk_arena_alloc(&s->arena, n, sizeof(*s->files));
        rc = s->files == NULL ? MINKE_ENOMEM : MINKE_OK;
    }
    for (size_t i = 0; i < n && rc == MINKE_OK; i++)
        rc = qsrc_add_file(s, dir, names == NULL ? single[0] : names[i], &capacity);
    mk_free(&s->env->alloc, index);
    return rc;
}

static int32_t qsrc_open_directory(struct mk_q_source *s, const char *dir)
{
    const struct mk_json *json = NULL;
    const char *twice;
    int32_t rc = qsrc_load(&s->config_json, &s->config_json_len, s->env, dir, "config.json");

    if (rc == MINKE_OK)
        rc = mk_json_parse(&json, &s->arena, s->config_json, s->config_json_len,
                           "config.json");
    if (rc == MINKE_OK)
        rc = mk_config_read(&s->config, json);
    if (rc == MINKE_OK)
        rc = qsrc_open_safetensors(s, dir);
    if (rc < 0)
        return rc;
    twice = mk_names_sort(s->tensors, s->n_tensors, sizeof(*s->tensors));
    return twice == NULL ? MINKE_OK
                         : mk_fail(MINKE_EFORMAT, "tensor %s appears twice", twice);
}

static int32_t qsrc_open_gguf(struct mk_q_source *s, const char *path)
{
    size_t capacity = 0;
    int32_t rc = mk_gguf_open(&s->gguf, s->env, path);

    if (rc < 0)
        return rc;
    s->is_gguf = 1;
    rc = mk_gguf_config(&s->config, &s->gguf);
    if (rc == MINKE_OK)
        rc = mk_grow(&s->env->alloc, (void **)&s->tensors, &capacity, s->gguf.n_tensors,
                     sizeof(*s->tensors));
    for (size_t i = 0; i < s->gguf.n_tensors && rc == MINKE_OK; i++) {
        const struct mk_gguf_tensor *g = &s->gguf.tensors[i];
        struct mk_q_tensor *t = &s->tensors[s->n_tensors++];
        t->name = g->name;
        t->type = g->type;
        t->n_dims = g->n_dims;
        memcpy(t->dims, g->dims, sizeof(t->dims));
        t->rows = g->dims[1] * g->dims[2] * g->dims[3];     /* below the file's size */
        t->file = s->gguf.files[g->part];
        t->offset = g->offset;
    }
    return rc;
}

int32_t mk_q_source_open(struct mk_q_source *out, const struct mk_env *env, const char *path)
{
    int32_t rc;

    memset(out, 0, sizeof(*out));
    out->env = env;
    mk_arena_init(&out->arena, &env->alloc);
    rc = mk_gguf_is_path(path) ? qsrc_open_gguf(out, path) : qsrc_open_directory(out, path);
    if (rc < 0)
        mk_q_source_close(out);
    return rc;
}

void mk_q_source_close(struct mk_q_source *s)
{
    if (s->env == NULL)
        return;
    for (size_t i = 0; i < s->n_files; i++)
        mk_file_close(s->files[i]);
    if (s->is_gguf)
        mk_gguf_close(&s->gguf);
    mk_free(&s->env->alloc, s->tensors);
    mk_free(&s->env->alloc, s->config_json);
    mk_arena_free(&s->arena);
    memset(s, 0, sizeof(*s));
}

const struct mk_q_tensor *mk_q_source_find(const struct mk_q_source *s, const char *name)
{
    return mk_names_find(s->tensors, s->n_tensors, sizeof(*s->tensors), name);
}

int32_t mk_q_source_read(const struct mk_q_tensor *t, uint64_t row, size_t n, void *out)
{
    const size_t bytes = mk_type_row_bytes(t->type, (size_t)t->dims[0]);

    return mk_file_read(t->file, t->offset + row * bytes, out, n * bytes);
}
