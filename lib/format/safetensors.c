/* The safetensors container: headers read, checked, and found by name. */
#include "format/safetensors.h"

#include <string.h>

#include "base/checked.h"
#include "base/sort.h"
#include "format/source.h"

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

static int32_t st_tensor(struct mk_st_tensor *t, const struct st_reader *r,
                         const struct mk_json *v)
{
    const struct mk_json *dtype = mk_json_get(v, "dtype");
    const struct mk_json *offsets = mk_json_get(v, "data_offsets");
    uint64_t begin, end, bytes;
    uint32_t bits;

    t->name = v->key.data;
    if (strlen(v->key.data) != v->key.len || v->key.len == 0)
        return mk_fail(MINKE_EFORMAT, "%s: a tensor's name is empty or holds NUL", r->path);
    if (v->type != MK_JSON_OBJECT || dtype == NULL || dtype->type != MK_JSON_STRING)
        return mk_fail(MINKE_EFORMAT, "%s: tensor %s: dtype is missing", r->path, t->name);
    t->dtype = st_dtype_find(&bits, dtype->text.data);
    if (t->dtype == NULL)
        return mk_fail(MINKE_EFORMAT, "%s: tensor %s: unknown dtype \"%s\"", r->path, t->name,
                       dtype->text.data);
    const int32_t rc = st_shape(t, r, mk_json_get(v, "shape"));

    if (rc < 0)
        return rc;
    if (offsets == NULL || offsets->type != MK_JSON_ARRAY || offsets->n_items != 2
        || st_unsigned(offsets->first, &begin) != 0
        || st_unsigned(offsets->first->next, &end) != 0)
        return mk_fail(MINKE_EFORMAT, "%s: tensor %s: data_offsets are no two sizes", r->path,
                       t->name);
    if (begin > end || end > r->data_size)
        return mk_fail(MINKE_EFORMAT, "%s: tensor %s: bytes %llu to %llu of %llu", r->path,
                       t->name, (unsigned long long)begin, (unsigned long long)end,
                       (unsigned long long)r->data_size);
    if (st_bytes(t, bits, &bytes) != 0 || bytes != end - begin)
        return mk_fail(MINKE_EFORMAT, "%s: tensor %s: %llu bytes do not match its shape and type",
                       r->path, t->name, (unsigned long long)(end - begin));
    t->offset = r->data_offset + begin;
    t->size = bytes;
    return MINKE_OK;
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

    if (header->type != MK_JSON_OBJECT)
        return mk_fail(MINKE_EFORMAT, "%s: header is no JSON object", r->path);
    tensors = mk_arena_alloc(r->arena, header->n_items, sizeof(*tensors));
    sorted = mk_arena_alloc(r->arena, header->n_items, sizeof(*sorted));
    order = mk_arena_alloc(r->arena, header->n_items, sizeof(*order));
    if (tensors == NULL || sorted == NULL || order == NULL)
        return MINKE_ENOMEM;
    for (const struct mk_json *v = header->first; v != NULL; v = v->next) {
        const int is_metadata = strcmp(v->key.data, "__metadata__") == 0;
        const int32_t rc = is_metadata ? st_check_metadata(r, v)
                                       : st_tensor(&tensors[n], r, v);

        if (rc < 0)
            return rc;
        if (!is_metadata) {
            order[n] = &tensors[n];
            n++;
        }
    }
    mk_sort(order, n, st_by_offset);
    for (size_t i = 0; i < n; i++)
        sorted[i] = *(const struct mk_st_tensor *)order[i];
    *out = sorted;
    *n_out = n;
    return st_check_order(r, sorted, n);
}

int32_t mk_st_read(struct mk_st_tensor **out, size_t *n, struct mk_arena *arena,
                   struct mk_file *file)
{
    struct st_reader r = {arena, mk_file_path(file), 0, 0};
    const uint64_t size = mk_file_size(file);
    struct mk_st_tensor *tensors = NULL;
    const struct mk_json *header = NULL;
    unsigned char head[8];
    uint64_t len = 0;
    size_t n_tensors = 0;
    int32_t rc;

    if (size < sizeof(head))
        return mk_fail(MINKE_EFORMAT, "%s: %llu bytes are too few for a header", r.path,
                       (unsigned long long)size);
    rc = mk_file_read(file, 0, head, sizeof(head));
    if (rc < 0)
        return rc;
    for (int i = 7; i >= 0; i--)
        len = len << 8 | head[i];
    if (len > MK_ST_MAX_HEADER || len > size - sizeof(head))
        return mk_fail(MINKE_EFORMAT, "%s: header of %llu bytes in a file of %llu", r.path,
                       (unsigned long long)len, (unsigned long long)size);
    char *text = mk_alloc(arena->a, (size_t)len + 1, 1);

    if (text == NULL)
        return MINKE_ENOMEM;
    r.data_offset = sizeof(head) + len;
    r.data_size = size - r.data_offset;
    rc = mk_file_read(file, sizeof(head), text, (size_t)len);
    if (rc == MINKE_OK && text[0] != '{')
        rc = mk_fail(MINKE_EFORMAT, "%s: header is no JSON object", r.path);
    if (rc == MINKE_OK)
        rc = mk_json_parse(&header, arena, text, (size_t)len, r.path);
    if (rc == MINKE_OK)
        rc = st_tensors(&tensors, &n_tensors, &r, header);
    mk_free(arena->a, text);
    if (rc < 0)
        return rc;
    *out = tensors;
    *n = n_tensors;
    return MINKE_OK;
}

/* ---- A directory of files ------------------------------------------------ */

#define ST_MAX_SHARDS 4096u
#define ST_MAX_INDEX ((uint64_t)1 << 28)     /* bytes of the index */

struct st_entry {
    struct mk_st_tensor tensor;
    uint32_t shard;
    int used;
};

struct st_source {
    struct mk_env env;
    struct mk_arena arena;
    const char **shards;     /* (n_shards,) names of files, in the arena, ascending */
    struct mk_file **files;  /* (n_shards,) */
    size_t n_shards, n_files;
    const struct st_entry **entries;     /* (n_entries,) by name */
    size_t n_entries;
};

static void st_source_free(void *self)
{
    struct st_source *s = self;

    if (s == NULL)
        return;
    const struct mk_allocator a = s->env.alloc;

    for (size_t i = 0; i < s->n_files; i++)
        mk_file_close(s->files[i]);
    mk_free(&a, s->files);
    mk_arena_free(&s->arena);
    mk_free(&a, s);
}

/* A stranger's file name: one in the same directory, and nothing else. */
static int st_shard_is_plain(const struct mk_json *name)
{
    return name->type == MK_JSON_STRING && name->text.len > 0 && name->text.len < 256
        && strlen(name->text.data) == name->text.len && strpbrk(name->text.data, "/\\:") == NULL
        && strcmp(name->text.data, ".") != 0 && strcmp(name->text.data, "..") != 0;
}

/* Where name stands among the ascending names, or belongs; *is_there says which. */
static size_t st_shard_place(const char *const *names, size_t n, const char *name, int *is_there)
{
    size_t low = 0, high = n;

    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        const int c = strcmp(names[mid], name);

        if (c == 0) {
            *is_there = 1;
            return mid;
        }
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    *is_there = 0;
    return low;
}

int32_t mk_st_shards(const char ***out, size_t *n_out, struct mk_arena *arena,
                     const struct mk_json *map)
{
    const char **names;
    size_t n = 0;

    if (map == NULL || map->type != MK_JSON_OBJECT)
        return mk_fail(MINKE_EFORMAT, "model.safetensors.index.json: weight_map is missing");
    names = mk_arena_alloc(arena, mk_min(map->n_items, ST_MAX_SHARDS), sizeof(*names));
    if (names == NULL)
        return MINKE_ENOMEM;
    for (const struct mk_json *v = map->first; v != NULL; v = v->next) {
        int is_there;

        if (!st_shard_is_plain(v))
            return mk_fail(MINKE_EFORMAT, "model.safetensors.index.json: tensor %s: \"%s\" is no "
                           "name of a file beside it", v->key.data,
                           v->type == MK_JSON_STRING ? v->text.data : "");
        const size_t at = st_shard_place(names, n, v->text.data, &is_there);

        if (is_there)
            continue;
        if (n == ST_MAX_SHARDS)
            return mk_fail(MINKE_EFORMAT, "model.safetensors.index.json: more than %u files",
                           ST_MAX_SHARDS);
        memmove(names + at + 1, names + at, (n - at) * sizeof(*names));
        names[at] = v->text.data;
        n++;
    }
    *out = names;
    *n_out = n;
    return MINKE_OK;
}

static int32_t st_read_index(struct st_source *s, const struct mk_json **map, const char *path)
{
    const struct mk_json *root = NULL;
    char *text = NULL;
    size_t len = 0;
    int32_t rc = mk_file_load(&text, &len, &s->env, path, ST_MAX_INDEX);

    if (rc < 0)
        return rc;
    if (text == NULL)
        return mk_fail(MINKE_EIO, "%s: neither model.safetensors nor this index is there", path);
    rc = mk_json_parse(&root, &s->arena, text, len, "model.safetensors.index.json");
    mk_free(&s->env.alloc, text);
    if (rc < 0)
        return rc;
    *map = mk_json_get(root, "weight_map");
    return mk_st_shards(&s->shards, &s->n_shards, &s->arena, *map);
}

static int32_t st_open_shard(struct st_source *s, const char *dir, const char *name)
{
    struct mk_file *file = NULL;
    char *path = mk_path_join(&s->env.alloc, dir, name);
    int32_t rc;

    if (path == NULL)
        return MINKE_ENOMEM;
    rc = mk_file_open(&file, &s->env, path);
    if (rc == MINKE_OK && file == NULL)
        rc = mk_fail(MINKE_EIO, "%s: no such file, but the index names it", path);
    mk_free(&s->env.alloc, path);
    if (rc == MINKE_OK)
        s->files[s->n_files++] = file;
    return rc;
}

static int st_by_name(const void *a, const void *b)
{
    const struct st_entry *x = a, *y = b;

    return strcmp(x->tensor.name, y->tensor.name);
}

static struct st_entry *st_lookup(const struct st_source *s, const char *name)
{
    size_t low = 0, high = s->n_entries;

    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        const int c = strcmp(s->entries[mid]->tensor.name, name);

        if (c == 0)
            return (struct st_entry *)(uintptr_t)s->entries[mid];
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

/* The headers of all files, as one list by name. */
static int32_t st_collect(struct st_source *s)
{
    struct mk_st_tensor **lists = mk_arena_alloc(&s->arena, s->n_files, sizeof(*lists));
    size_t *counts = mk_arena_alloc(&s->arena, s->n_files, sizeof(*counts));
    size_t n = 0, k = 0;

    if (lists == NULL || counts == NULL)
        return MINKE_ENOMEM;
    for (size_t i = 0; i < s->n_files; i++) {
        const int32_t rc = mk_st_read(&lists[i], &counts[i], &s->arena, s->files[i]);

        if (rc < 0)
            return rc;
        n += counts[i];
    }
    struct st_entry *entries = mk_arena_alloc(&s->arena, n, sizeof(*entries));

    s->entries = mk_arena_alloc(&s->arena, n, sizeof(*s->entries));
    if (entries == NULL || s->entries == NULL)
        return MINKE_ENOMEM;
    for (size_t i = 0; i < s->n_files; i++)
        for (size_t j = 0; j < counts[i]; j++, k++) {
            entries[k].tensor = lists[i][j];
            entries[k].shard = (uint32_t)i;
            s->entries[k] = &entries[k];
        }
    s->n_entries = n;
    mk_sort((const void **)s->entries, n, st_by_name);
    for (size_t i = 1; i < n; i++)
        if (strcmp(s->entries[i - 1]->tensor.name, s->entries[i]->tensor.name) == 0)
            return mk_fail(MINKE_EFORMAT, "tensor %s: in %s and again in %s",
                           s->entries[i]->tensor.name,
                           mk_file_path(s->files[s->entries[i - 1]->shard]),
                           mk_file_path(s->files[s->entries[i]->shard]));
    return MINKE_OK;
}

/* The index and the files must say the same. */
static int32_t st_check_index(const struct st_source *s, const struct mk_json *map)
{
    for (const struct mk_json *v = map == NULL ? NULL : map->first; v != NULL; v = v->next) {
        const struct st_entry *e = strlen(v->key.data) == v->key.len ? st_lookup(s, v->key.data) : NULL;

        if (e == NULL || strcmp(s->shards[e->shard], v->text.data) != 0)
            return mk_fail(MINKE_EFORMAT, "tensor %s: the index puts it into %s, where it is not",
                           v->key.data, v->text.data);
    }
    return MINKE_OK;
}

static int32_t st_source_find(void *self, const char *name, struct mk_stored *out)
{
    const struct st_source *s = self;
    struct st_entry *e = st_lookup(s, name);

    if (e == NULL)
        return 0;
    const struct mk_st_tensor *t = &e->tensor;
    const enum mk_type type = mk_type_of_dtype(t->dtype);

    if (type == MK_N_TYPES)
        return mk_fail(MINKE_EUNSUPPORTED,
                       "tensor %s: type %s; F32, F16, BF16 and F8_E4M3 are accepted", name,
                       t->dtype);
    if (t->n_dims > MK_SOURCE_MAX_DIMS)
        return mk_fail(MINKE_EFORMAT, "tensor %s: %u dimensions", name, t->n_dims);
    e->used = 1;
    memset(out, 0, sizeof(*out));
    out->name = t->name;
    out->type = type;
    out->n_dims = t->n_dims;
    memcpy(out->shape, t->shape, sizeof(out->shape));
    out->file = s->files[e->shard];
    out->offset = t->offset;
    out->size = t->size;
    return 1;
}

static const char *st_source_unused(void *self, size_t *i)
{
    const struct st_source *s = self;

    while (*i < s->n_entries) {
        const struct st_entry *e = s->entries[(*i)++];

        if (!e->used)
            return e->tensor.name;
    }
    return NULL;
}

static int32_t st_source_keep_files(void *self, struct mk_file ***files, size_t *n_files)
{
    struct st_source *s = self;

    *files = s->files;
    *n_files = s->n_files;
    s->files = NULL;
    s->n_files = 0;
    return MINKE_OK;
}

int32_t mk_st_source_open(struct mk_source *out, const struct mk_env *env, const char *path)
{
    static const char single[] = "model.safetensors";
    struct st_source *s = mk_alloc(&env->alloc, 1, sizeof(*s));
    const struct mk_json *map = NULL;
    struct mk_file *file = NULL;
    char *name = NULL;
    int32_t rc = MINKE_ENOMEM;

    if (s == NULL)
        return MINKE_ENOMEM;
    s->env = *env;
    mk_arena_init(&s->arena, &s->env.alloc);
    name = mk_path_join(&env->alloc, path, single);
    if (name == NULL || (rc = mk_file_open(&file, env, name)) < 0)
        goto done;
    if (file == NULL) {
        mk_free(&env->alloc, name);
        rc = MINKE_ENOMEM;
        name = mk_path_join(&env->alloc, path, "model.safetensors.index.json");
        if (name == NULL || (rc = st_read_index(s, &map, name)) < 0)
            goto done;
    }
    rc = MINKE_ENOMEM;
    s->files = mk_alloc(&env->alloc, file != NULL ? 1 : s->n_shards, sizeof(*s->files));
    if (s->files == NULL)
        goto done;
    if (file != NULL) {
        s->files[s->n_files++] = file;
        file = NULL;
    }
    for (size_t i = 0; i < s->n_shards; i++)
        if ((rc = st_open_shard(s, path, s->shards[i])) < 0)
            goto done;
    rc = st_collect(s);
    if (rc == MINKE_OK)
        rc = st_check_index(s, map);
    if (rc == MINKE_OK)
        *out = (struct mk_source){s, st_source_find, st_source_unused, st_source_keep_files,
                              st_source_free};

done:
    mk_free(&env->alloc, name);
    mk_file_close(file);
    if (rc < 0)
        st_source_free(s);
    return rc;
}
