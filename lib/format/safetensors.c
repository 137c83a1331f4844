/* The safetensors container: headers read, checked, and found by name. */
#include "format/safetensors.h"

#include <string.h>

#include "base/checked.h"
#include "base/sort.h"

/* ---- One file ------------------------------------------------------------ */

/* What tensors of no number type of ours are made of. */
static const struct {
    const char *name;
    uint32_t bits;
} st_others[] = {
    {"BOOL", 8}, {"U8", 8}, {"I8", 8}, {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"I16", 16}, {"U16", 16},
    {"I32", 32}, {"U32", 32}, {"F64", 64}, {"I64", 64}, {"U64", 64}, {"C64", 64}, {"F4", 4},
    {"F6_E2M3", 6}, {"F6_E3M2", 6},
};

/* A dtype's name that stays, and its bits; NULL when the format has none of this name. */
static const char *st_dtype_find(uint32_t *bits, const char *name)
{
    const enum mk_type type = mk_type_of_dtype(name);

    if (type != MK_N_TYPES) {
        *bits = 8 * mk_type_info(type)->block_bytes;
        return mk_type_info(type)->name;
    }
    for (size_t i = 0; i < MK_COUNT(st_others); i++)
        if (strcmp(st_others[i].name, name) == 0) {
            *bits = st_others[i].bits;
            return st_others[i].name;
        }
    return NULL;
}

struct st_reader {
    struct mk_arena *arena;
    const char *path;
    uint64_t data_offset, data_size;     /* of the part behind the header */
};

static int st_unsigned(const struct mk_json *v, uint64_t *out)
{
    int64_t i;

    if (mk_json_int(v, &i) != 0 || i < 0)
        return -1;
    *out = (uint64_t)i;
    return 0;
}

/* Bytes that shape and type come to; -1 when they do not fit. */
static int st_bytes(const struct mk_st_tensor *t, uint64_t bits, uint64_t *out)
{
    for (uint32_t d = 0; d < t->n_dims; d++)
        if (t->shape[d] == 0) {
            *out = 0;
            return 0;
        }
    for (uint32_t d = 0; d < t->n_dims; d++) {
        if (t->shape[d] > UINT64_MAX / bits)
            return -1;
        bits *= t->shape[d];
    }
    if (bits % 8 != 0)
        return -1;
    *out = bits / 8;
    return 0;
}

/* The shape of a header's entry. */
static int32_t st_shape(struct mk_st_tensor *t, const struct st_reader *r,
                        const struct mk_json *shape)
{
    if (shape == NULL || shape->type != MK_JSON_ARRAY)
        return mk_fail(MINKE_EFORMAT, "%s: tensor %s: shape is missing", r->path, t->name);
    if (shape->n_items > 8)
        return mk_fail(MINKE_EFORMAT, "%s: tensor %s: %zu dimensions, at most 8 expected",
                       r->path, t->name, shape->n_items);
    for (const struct mk_json *d = shape->first; d != NULL; d = d->next)
        if (st_unsigned(d, &t->shape[t->n_dims++]) != 0)
            return mk_fail(MINKE_EFORMAT, "%s: tensor %s: dimension %u of its shape is no size",
                           r->path, t->name, t->n_dims - 1);
    return MINKE_OK;
}

/* Its bytes: those that shape and type ask for, inside the file. */
static int32_t st_place(struct mk_st_tensor *t, const struct st_reader *r,
                        const struct mk_json *offsets, uint32_t bits)
{
    uint64_t begin, end;

    if (offsets == NULL || offsets->type != MK_JSON_ARRAY || offsets->n_items != 2
        || st_unsigned(offsets->first, &begin) != 0
        || st_unsigned(offsets->first->next, &end) != 0)
        return mk_fail(MINKE_EFORMAT, "%s: tensor %s: data_offsets are no two sizes", r->path,
                       t->name);
    if (begin > end || end > r->data_size)
        return mk_fail(MINKE_EFORMAT, "%s: tensor %s: bytes %llu to %llu of %llu", r->path,
                       t->name, (unsigned long long)begin, (unsigned long long)end,
                       (unsigned long long)r->data_size);
    if (st_bytes(t, bits, &t->size) != 0 || t->size != end - begin)
        return mk_fail(MINKE_EFORMAT, "%s: tensor %s: %llu bytes do not match its shape and type",
                       r->path, t->name, (unsigned long long)(end - begin));
    t->offset = r->data_offset + begin;
    return MINKE_OK;
}

static int32_t st_tensor(struct mk_st_tensor *t, const struct st_reader *r,
                         const struct mk_json *v)
{
    const struct mk_json *dtype = mk_json_get(v, "dtype");
    uint32_t bits;
    int32_t rc;

    t->name = v->key.data;
    if (strlen(v->key.data) != v->key.len || v->key.len == 0)
        return mk_fail(MINKE_EFORMAT, "%s: a tensor's name is empty or holds NUL", r->path);
    if (v->type != MK_JSON_OBJECT || dtype == NULL || dtype->type != MK_JSON_STRING)
        return mk_fail(MINKE_EFORMAT, "%s: tensor %s: dtype is missing", r->path, t->name);
    t->dtype = st_dtype_find(&bits, dtype->text.data);
    if (t->dtype == NULL)
        return mk_fail(MINKE_EFORMAT, "%s: tensor %s: unknown dtype \"%s\"", r->path, t->name,
                       dtype->text.data);
    rc = st_shape(t, r, mk_json_get(v, "shape"));
    return rc < 0 ? rc : st_place(t, r, mk_json_get(v, "data_offsets"), bits);
}

/* By offset, empty tensors before what begins at the same byte. */
static int st_by_offset(const void *a, const void *b)
{
    const struct mk_st_tensor *x = a, *y = b;

    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    if (x->size != y->size)
        return x->size < y->size ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* No gap and no overlap: each tensor begins where the one before ends. */
static int32_t st_check_order(const struct st_reader *r, const struct mk_st_tensor *tensors,
                              size_t n)
{
    uint64_t at = r->data_offset;

    for (size_t i = 0; i < n; i++) {
        const uint64_t begin = tensors[i].offset;

        if (begin != at)
            return mk_fail(MINKE_EFORMAT, "%s: tensor %s: %s at byte %llu of the data", r->path,
                           tensors[i].name, begin < at ? "overlap" : "gap",
                           (unsigned long long)((begin < at ? begin : at) - r->data_offset));
        at += tensors[i].size;
    }
    if (at != r->data_offset + r->data_size)
        return mk_fail(MINKE_EFORMAT, "%s: %llu bytes behind the last tensor", r->path,
                       (unsigned long long)(r->data_offset + r->data_size - at));
    return MINKE_OK;
}

static int32_t st_check_metadata(const struct st_reader *r, const struct mk_json *v)
{
    if (v->type != MK_JSON_OBJECT)
        return mk_fail(MINKE_EFORMAT, "%s: __metadata__ is no object", r->path);
    for (const struct mk_json *m = v->first; m != NULL; m = m->next)
        if (m->type != MK_JSON_STRING)
            return mk_fail(MINKE_EFORMAT, "%s: __metadata__: %s is no text", r->path, m->key.data);
    return MINKE_OK;
}

/* All entries of the header, in ascending offset. */
static int32_t st_tensors(struct mk_st_tensor **out, size_t *n_out, const struct st_reader *r,
                          const struct mk_json *header)
{
    struct mk_st_tensor *sorted, *tensors;
    const void **order;
    size_t n = 0;
    int32_t rc = MINKE_OK;

    if (header->type != MK_JSON_OBJECT)
        return mk_fail(MINKE_EFORMAT, "%s: header is no JSON object", r->path);
    tensors = mk_arena_alloc(r->arena, header->n_items, sizeof(*tensors));
    sorted = mk_arena_alloc(r->arena, header->n_items, sizeof(*sorted));
    order = mk_arena_alloc(r->arena, header->n_items, sizeof(*order));
    if (tensors == NULL || sorted == NULL || order == NULL)
        return MINKE_ENOMEM;
    for (const struct mk_json *v = header->first; v != NULL && rc == MINKE_OK; v = v->next) {
        if (strcmp(v->key.data, "__metadata__") == 0) {
            rc = st_check_metadata(r, v);
        } else {
            rc = st_tensor(&tensors[n], r, v);
            order[n] = &tensors[n];
            n++;
        }
    }
    if (rc < 0)
        return rc;
    mk_sort(order, n, st_by_offset);
    for (size_t i = 0; i < n; i++)
        sorted[i] = *(const struct mk_st_tensor *)order[i];
    *out = sorted;
    *n_out = n;
    return st_check_order(r, sorted, n);
}

/* The header's text, for mk_free; the data follow it. */
static int32_t st_header(char **text, size_t *len_out, struct st_reader *r, struct mk_file *file)
{
    const uint64_t size = mk_file_size(file);
    unsigned char head[8];
    uint64_t len = 0;
    int32_t rc;

    if (size < sizeof(head))
        return mk_fail(MINKE_EFORMAT, "%s: %llu bytes are too few for a header", r->path,
                       (unsigned long long)size);
    if ((rc = mk_file_read(file, 0, head, sizeof(head))) < 0)
        return rc;
    for (int i = 7; i >= 0; i--)
        len = len << 8 | head[i];
    if (len > MK_ST_MAX_HEADER || len > size - sizeof(head))
        return mk_fail(MINKE_EFORMAT, "%s: header of %llu bytes in a file of %llu", r->path,
                       (unsigned long long)len, (unsigned long long)size);
    r->data_offset = sizeof(head) + len;
    r->data_size = size - r->data_offset;
    *len_out = (size_t)len;
    *text = mk_alloc(r->arena->a, (size_t)len + 1, 1);
    return *text == NULL ? MINKE_ENOMEM : mk_file_read(file, sizeof(head), *text, (size_t)len);
}

int32_t mk_st_read(struct mk_st_tensor **out, size_t *n, struct mk_arena *arena,
                   struct mk_file *file)
{
    struct st_reader r = {arena, mk_file_path(file), 0, 0};
    struct mk_st_tensor *tensors = NULL;
    const struct mk_json *header = NULL;
    char *text = NULL;
    size_t len = 0, n_tensors = 0;
    int32_t rc = st_header(&text, &len, &r, file);

    if (rc == MINKE_OK && text[0] != '{')
        rc = mk_fail(MINKE_EFORMAT, "%s: header is no JSON object", r.path);
    if (rc == MINKE_OK)
        rc = mk_json_parse(&header, arena, text, len, r.path);
    if (rc == MINKE_OK)
        rc = st_tensors(&tensors, &n_tensors, &r, header);
    mk_free(arena->a, text);
    if (rc < 0)
        return rc;
    *out = tensors;
    *n = n_tensors;
    return MINKE_OK;
}

/* ---- A folder of files ---------------------------------------------------- */

#define ST_INDEX "model.safetensors.index.json"
#define ST_MAX_FILES 4096u
#define ST_MAX_INDEX ((uint64_t)1 << 28)     /* bytes of the index */

/* A stranger's file name: one in the same directory, and nothing else. */
static int st_is_plain(const struct mk_json *name)
{
    return name->type == MK_JSON_STRING && name->text.len > 0 && name->text.len < 256
        && strlen(name->text.data) == name->text.len && strpbrk(name->text.data, "/\\:") == NULL
        && strcmp(name->text.data, ".") != 0 && strcmp(name->text.data, "..") != 0;
}

/* Names of the files in the index's map, ascending, each once. */
static int32_t st_names(struct mk_view **out, size_t *n_out, struct mk_arena *arena,
                        const struct mk_json *map)
{
    struct mk_view *names;
    size_t n = 0, n_names = 0;

    if (map == NULL || map->type != MK_JSON_OBJECT)
        return mk_fail(MINKE_EFORMAT, ST_INDEX ": weight_map is missing");
    *out = names = mk_arena_alloc(arena, map->n_items, sizeof(*names));
    if (names == NULL)
        return MINKE_ENOMEM;
    for (const struct mk_json *v = map->first; v != NULL; v = v->next) {
        if (!st_is_plain(v))
            return mk_fail(MINKE_EFORMAT, ST_INDEX ": tensor %s: \"%s\" is no name of a file "
                           "beside it", v->key.data,
                           v->type == MK_JSON_STRING ? v->text.data : "");
        names[n++] = v->text;
    }
    (void)mk_names_sort(names, n, sizeof(*names));
    for (size_t i = 0; i < n; i++)
        if (n_names == 0 || !mk_view_equal(names[i], names[n_names - 1]))
            names[n_names++] = names[i];
    if (n_names > ST_MAX_FILES)
        return mk_fail(MINKE_EFORMAT, ST_INDEX ": more than %u files", ST_MAX_FILES);
    *n_out = n_names;
    return MINKE_OK;
}

/* The file of this name, behind the others; without one *is_there is 0. */
static int32_t st_open_file(struct mk_st_folder *f, const struct mk_env *env, const char *dir,
                            const char *name, int *is_there)
{
    char *path = mk_path_join(&env->alloc, dir, name);
    const int32_t rc = path == NULL ? MINKE_ENOMEM
                                    : mk_file_open(&f->files[f->n_files], env, path);

    mk_free(&env->alloc, path);
    *is_there = rc == MINKE_OK && f->files[f->n_files] != NULL;
    f->n_files += (size_t)*is_there;
    return rc;
}

static int32_t st_open_indexed(struct mk_st_folder *f, const struct mk_env *env, const char *dir,
                               const struct mk_json **map, struct mk_view **names)
{
    char *path = mk_path_join(&env->alloc, dir, ST_INDEX), *text = NULL;
    const struct mk_json *root = NULL;
    size_t len = 0, n = 0;
    int is_there;
    int32_t rc = path == NULL ? MINKE_ENOMEM : mk_file_load(&text, &len, env, path, ST_MAX_INDEX);

    if (rc == MINKE_OK && text == NULL)
        rc = mk_fail(MINKE_EIO, "%s: neither model.safetensors nor this index is there", path);
    if (rc == MINKE_OK)
        rc = mk_json_parse(&root, f->arena, text, len, ST_INDEX);
    mk_free(&env->alloc, text);
    mk_free(&env->alloc, path);
    *map = mk_json_get(root, "weight_map");
    if (rc == MINKE_OK)
        rc = st_names(names, &n, f->arena, *map);
    for (size_t i = 0; i < n && rc == MINKE_OK; i++) {
        rc = st_open_file(f, env, dir, (*names)[i].data, &is_there);
        if (rc == MINKE_OK && !is_there)
            rc = mk_fail(MINKE_EIO, "%s/%s: no such file, but the index names it", dir,
                         (*names)[i].data);
    }
    return rc;
}

/* A header's entry as weights see it. */
static void st_stored(struct mk_stored *out, const struct mk_st_tensor *t, struct mk_file *file)
{
    *out = (struct mk_stored){.name = mk_view(t->name), .type = mk_type_of_dtype(t->dtype),
                              .dtype = t->dtype, .n_dims = t->n_dims, .file = file,
                              .offset = t->offset, .size = t->size};
    memcpy(out->shape, t->shape, sizeof(out->shape));
}

/* The headers of all files, as one list by name. */
static int32_t st_collect(struct mk_st_folder *f)
{
    struct mk_st_tensor **lists = mk_arena_alloc(f->arena, f->n_files, sizeof(*lists));
    size_t *counts = mk_arena_alloc(f->arena, f->n_files, sizeof(*counts)), n = 0;
    const struct mk_stored *twice;

    if (lists == NULL || counts == NULL)
        return MINKE_ENOMEM;
    for (size_t i = 0; i < f->n_files; i++) {
        const int32_t rc = mk_st_read(&lists[i], &counts[i], f->arena, f->files[i]);

        if (rc < 0)
            return rc;
        n += counts[i];
    }
    f->tensors = mk_arena_alloc(f->arena, n, sizeof(*f->tensors));
    if (f->tensors == NULL)
        return MINKE_ENOMEM;
    for (size_t i = 0; i < f->n_files; i++)
        for (size_t k = 0; k < counts[i]; k++)
            st_stored(&f->tensors[f->n_tensors++], &lists[i][k], f->files[i]);
    twice = mk_names_sort(f->tensors, n, sizeof(*f->tensors));
    if (twice != NULL)
        return mk_fail(MINKE_EFORMAT, "tensor %s: in %s and again in %s", twice->name.data,
                       mk_file_path(twice[-1].file), mk_file_path(twice->file));
    return MINKE_OK;
}

/* The index and the files must say the same. */
static int32_t st_check_index(const struct mk_st_folder *f, const struct mk_json *map,
                              const struct mk_view *names)
{
    for (const struct mk_json *v = map == NULL ? NULL : map->first; v != NULL; v = v->next) {
        const struct mk_stored *t = strlen(v->key.data) != v->key.len ? NULL
            : mk_names_find(f->tensors, f->n_tensors, sizeof(*t), v->key.data);
        const struct mk_view *name = mk_names_find(names, f->n_files, sizeof(*names),
                                                   v->text.data);

        if (t == NULL || name == NULL || t->file != f->files[name - names])
            return mk_fail(MINKE_EFORMAT, "tensor %s: the index puts it into %s, where it is not",
                           v->key.data, v->text.data);
    }
    return MINKE_OK;
}

int32_t mk_st_open(struct mk_st_folder *out, const struct mk_env *env, const char *path)
{
    const struct mk_json *map = NULL;
    struct mk_view *names = NULL;
    int is_there;
    int32_t rc;

    out->files = mk_alloc(&env->alloc, ST_MAX_FILES, sizeof(*out->files));
    if (out->files == NULL)
        return MINKE_ENOMEM;
    rc = st_open_file(out, env, path, "model.safetensors", &is_there);
    if (rc == MINKE_OK && !is_there)
        rc = st_open_indexed(out, env, path, &map, &names);
    if (rc == MINKE_OK)
        rc = st_collect(out);
    return rc < 0 ? rc : st_check_index(out, map, names);
}
