/* Reading GGUF headers.  Reference: ggml's docs/gguf.md. */
#include "format/gguf.h"

#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/sort.h"

#define GGUF_WINDOW 65536u
#define GGUF_MAGIC  0x46554747u     /* "GGUF" */

/* Where a file is read; what is kept goes to the arena. */
struct gguf_cursor {
    struct mk_file *file;
    struct mk_arena *arena;
    const char *path;
    uint64_t at, size;              /* of the file */
    uint8_t *window;                /* GGUF_WINDOW bytes: [window_at, window_at + window_n) */
    uint64_t window_at;
    size_t window_n;
};

static uint64_t gguf_left(const struct gguf_cursor *c)
{
    return c->size - c->at;
}

/* The next n bytes. */
static int32_t gguf_take(struct gguf_cursor *c, void *out, size_t n)
{
    uint8_t *to = out;

    if (n > gguf_left(c))
        return mk_fail(MINKE_EFORMAT, "%s: header ends at byte %llu, inside a field of %zu",
                       c->path, (unsigned long long)c->size, n);
    while (n > 0) {
        const uint64_t inside = c->at - c->window_at;
        if (c->at < c->window_at || inside >= c->window_n) {
            const size_t fill = (size_t)(gguf_left(c) < GGUF_WINDOW ? gguf_left(c) : GGUF_WINDOW);
            const int32_t rc = mk_file_read(c->file, c->at, c->window, fill);
            if (rc < 0)
                return rc;
            c->window_at = c->at;
            c->window_n = fill;
            continue;
        }
        const size_t part = mk_min(n, c->window_n - (size_t)inside);
        memcpy(to, c->window + inside, part);
        to += part;
        n -= part;
        c->at += part;
    }
    return MINKE_OK;
}

static int32_t gguf_take_u32(struct gguf_cursor *c, uint32_t *out)
{
    uint8_t b[4];
    const int32_t rc = gguf_take(c, b, sizeof(b));

    if (rc == MINKE_OK)
        *out = b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
    return rc;
}

static int32_t gguf_take_u64(struct gguf_cursor *c, uint64_t *out)
{
    uint32_t low = 0, high = 0;
    int32_t rc;

    if ((rc = gguf_take_u32(c, &low)) < 0 || (rc = gguf_take_u32(c, &high)) < 0)
        return rc;
    *out = low | (uint64_t)high << 32;
    return MINKE_OK;
}

static int32_t gguf_take_string(struct gguf_cursor *c, struct mk_view *out,
                                const char *what)
{
    uint64_t len = 0;
    char *text;
    int32_t rc = gguf_take_u64(c, &len);

    if (rc < 0)
        return rc;
    if (len > gguf_left(c))
        return mk_fail(MINKE_EFORMAT, "%s: %s at byte %llu: length %llu runs past the end",
                       c->path, what, (unsigned long long)c->at, (unsigned long long)len);
    text = mk_arena_alloc(c->arena, (size_t)len + 1, 1);
    if (text == NULL)
        return MINKE_ENOMEM;
    rc = gguf_take(c, text, (size_t)len);
    out->data = text;
    out->len = (size_t)len;
    return rc;
}

size_t mk_gguf_number_size(uint32_t type)
{
    static const uint8_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

    return type < sizeof(sizes) ? sizes[type] : 0;
}

/* The items of a value whose type and count were read. */
static int32_t gguf_take_items(struct gguf_cursor *c, struct mk_gguf_value *v)
{
    const size_t item = v->type == MK_GGUF_STRING ? 8 : mk_gguf_number_size(v->type);
    struct mk_view *strings;
    uint8_t *numbers;
    int32_t rc = MINKE_OK;

    if (item == 0)
        return mk_fail(MINKE_EFORMAT, "%s: key %s: value type %u", c->path, v->key.data, v->type);
    if (v->n > gguf_left(c) / item)
        return mk_fail(MINKE_EFORMAT, "%s: key %s: %llu items run past the end", c->path,
                       v->key.data, (unsigned long long)v->n);
    if (v->type != MK_GGUF_STRING) {
        numbers = mk_arena_alloc(c->arena, (size_t)v->n, item);
        v->numbers = numbers;
        return numbers == NULL ? MINKE_ENOMEM : gguf_take(c, numbers, (size_t)v->n * item);
    }
    strings = mk_arena_alloc(c->arena, (size_t)v->n, sizeof(*strings));
    if (strings == NULL)
        return MINKE_ENOMEM;
    v->strings = strings;
    for (uint64_t i = 0; i < v->n && rc == MINKE_OK; i++)
        rc = gguf_take_string(c, &strings[i], v->key.data);
    return rc;
}

static int32_t gguf_take_value(struct gguf_cursor *c, struct mk_gguf_value *v)
{
    int32_t rc;

    v->n = 1;
    if ((rc = gguf_take_string(c, &v->key, "key")) < 0 || (rc = gguf_take_u32(c, &v->type)) < 0)
        return rc;
    if (v->key.len == 0)
        return mk_fail(MINKE_EFORMAT, "%s: key of no length", c->path);
    if (strlen(v->key.data) != v->key.len)
        return mk_fail(MINKE_EFORMAT, "%s: key %s: holds a zero byte", c->path, v->key.data);
    if (v->type != MK_GGUF_ARRAY)
        return gguf_take_items(c, v);
    v->is_array = 1;
    if ((rc = gguf_take_u32(c, &v->type)) < 0 || (rc = gguf_take_u64(c, &v->n)) < 0)
        return rc;
    if (v->type == MK_GGUF_ARRAY)
        return mk_fail(MINKE_EUNSUPPORTED, "%s: key %s: array of arrays", c->path, v->key.data);
    return gguf_take_items(c, v);
}

/* ---- Tensors ------------------------------------------------------------------------------ */

/* Dimensions stand in the file with the length of a row first. */
static int32_t gguf_take_shape(struct gguf_cursor *c, struct mk_stored *t, uint64_t dims[4])
{
    int32_t rc = gguf_take_u32(c, &t->n_dims);

    if (rc == MINKE_OK && t->n_dims > 4)
        return mk_fail(MINKE_EFORMAT, "%s: tensor %s: %u dimensions", c->path, t->name.data,
                       t->n_dims);
    for (uint32_t d = 0; d < t->n_dims && rc == MINKE_OK; d++) {
        rc = gguf_take_u64(c, &dims[d]);
        t->shape[t->n_dims - 1 - d] = dims[d];
    }
    return rc;
}

/* Bytes of the data from type and dimensions. */
static int32_t gguf_tensor_size(struct mk_stored *t, const uint64_t dims[4], const char *path)
{
    size_t size = dims[0] > SIZE_MAX ? 0 : mk_type_row_bytes(t->type, (size_t)dims[0]);

    for (uint32_t d = 1; d < 4 && size > 0; d++)
        if (dims[d] > SIZE_MAX || mk_mul(&size, size, (size_t)dims[d]))
            size = 0;
    if (size == 0)
        return mk_fail(MINKE_EFORMAT, "%s: tensor %s: %llu x %llu x %llu x %llu of type %s", path,
                       t->name.data, (unsigned long long)dims[0], (unsigned long long)dims[1],
                       (unsigned long long)dims[2], (unsigned long long)dims[3],
                       mk_type_info(t->type)->name);
    t->size = size;
    return MINKE_OK;
}

static int32_t gguf_take_tensor(struct gguf_cursor *c, struct mk_stored *t)
{
    uint64_t dims[4] = {1, 1, 1, 1};
    uint32_t number = 0;
    int32_t rc = gguf_take_string(c, &t->name, "tensor name");

    t->file = c->file;
    if (rc < 0 || (rc = gguf_take_shape(c, t, dims)) < 0 || (rc = gguf_take_u32(c, &number)) < 0
        || (rc = gguf_take_u64(c, &t->offset)) < 0)
        return rc;
    if (t->name.len == 0 || strlen(t->name.data) != t->name.len)
        return mk_fail(MINKE_EFORMAT, "%s: tensor %s: name is empty or holds a zero byte",
                       c->path, t->name.data);
    t->type = mk_type_of_gguf(number);
    if (t->type == MK_N_TYPES)
        return mk_fail(MINKE_EUNSUPPORTED, "%s: tensor %s: type %u", c->path, t->name.data,
                       number);
    return gguf_tensor_size(t, dims, c->path);
}

/* Offsets become the file's; each must be aligned and inside. */
static int32_t gguf_place(struct gguf_cursor *c, struct mk_stored *t, size_t n,
                          uint64_t alignment)
{
    const uint64_t begin = c->at % alignment == 0 ? c->at
                                                  : c->at + (alignment - c->at % alignment);

    for (size_t i = 0; i < n; i++) {
        if (t[i].offset % alignment != 0)
            return mk_fail(MINKE_EFORMAT, "%s: tensor %s: offset %llu is not aligned to %llu",
                           c->path, t[i].name.data, (unsigned long long)t[i].offset,
                           (unsigned long long)alignment);
        if (begin > c->size || t[i].offset > c->size - begin
            || t[i].size > c->size - begin - t[i].offset)
            return mk_fail(MINKE_EFORMAT, "%s: tensor %s: %llu bytes at %llu run past the end",
                           c->path, t[i].name.data, (unsigned long long)t[i].size,
                           (unsigned long long)t[i].offset);
        t[i].offset += begin;
    }
    return MINKE_OK;
}

static int gguf_by_offset(const void *a, const void *b)
{
    const struct mk_stored *x = a, *y = b;

    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* Tensors of one part must not share bytes.  order (n,) is scratch. */
static int32_t gguf_check_overlap(const struct mk_stored *t, size_t n, const void **order,
                                  const char *path)
{
    for (size_t i = 0; i < n; i++)
        order[i] = &t[i];
    mk_sort(order, n, gguf_by_offset);
    for (size_t i = 1; i < n; i++) {
        const struct mk_stored *before = order[i - 1], *next = order[i];

        if (next->offset - before->offset < before->size)
            return mk_fail(MINKE_EFORMAT, "%s: tensors %s and %s overlap", path,
                           before->name.data, next->name.data);
    }
    return MINKE_OK;
}

/* ---- Files -------------------------------------------------------------------------------- */

/* What one part holds. */
struct gguf_part {
    struct mk_gguf_value *values;
    size_t n_values;
    struct mk_stored *tensors;
    size_t n_tensors;
};

static const struct mk_gguf_value *gguf_part_find(const struct gguf_part *p, const char *key)
{
    return mk_names_find(p->values, p->n_values, sizeof(*p->values), key);
}

static int32_t gguf_take_counts(struct gguf_cursor *c, uint64_t *n_tensors, uint64_t *n_values)
{
    uint32_t magic = 0, version = 0;
    int32_t rc;

    if ((rc = gguf_take_u32(c, &magic)) < 0)
        return rc;
    if (magic != GGUF_MAGIC)
        return mk_fail(MINKE_EFORMAT, "%s: not a GGUF file", c->path);
    if ((rc = gguf_take_u32(c, &version)) < 0)
        return rc;
    if (version != 0 && (version & 0xffffu) == 0)
        return mk_fail(MINKE_EUNSUPPORTED, "%s: big-endian; only little-endian is read", c->path);
    if (version != 2 && version != 3)
        return mk_fail(MINKE_EUNSUPPORTED, "%s: version %u; 2 and 3 are read", c->path, version);
    if ((rc = gguf_take_u64(c, n_tensors)) < 0 || (rc = gguf_take_u64(c, n_values)) < 0)
        return rc;
    /* The least a tensor's description takes is 24 bytes, a value's 13. */
    if (*n_tensors > gguf_left(c) / 24 || *n_values > gguf_left(c) / 13)
        return mk_fail(MINKE_EFORMAT, "%s: %llu tensors and %llu keys in %llu bytes", c->path,
                       (unsigned long long)*n_tensors, (unsigned long long)*n_values,
                       (unsigned long long)c->size);
    return MINKE_OK;
}

static int32_t gguf_alignment(const struct gguf_cursor *c, const struct gguf_part *p,
                              uint64_t *out)
{
    const struct mk_gguf_value *v = gguf_part_find(p, "general.alignment");
    int64_t a = MK_GGUF_ALIGNMENT;

    if (v != NULL && (v->is_array || v->type != MK_GGUF_UINT32 || mk_gguf_int(v, 0, &a) < 0))
        return mk_fail(MINKE_EFORMAT, "%s: general.alignment: no 32-bit number", c->path);
    if (a <= 0 || (a & (a - 1)) != 0)
        return mk_fail(MINKE_EFORMAT, "%s: general.alignment: %lld is no power of two", c->path,
                       (long long)a);
    *out = (uint64_t)a;
    return MINKE_OK;
}

/* The header of one file. */
static int32_t gguf_take_part(struct gguf_cursor *c, struct gguf_part *p)
{
    uint64_t n_tensors = 0, n_values = 0, alignment = 0;
    const void **order;
    const struct mk_gguf_value *twice;
    int32_t rc = gguf_take_counts(c, &n_tensors, &n_values);

    if (rc < 0)
        return rc;
    p->n_values = (size_t)n_values;
    p->n_tensors = (size_t)n_tensors;
    p->values = mk_arena_alloc(c->arena, p->n_values, sizeof(*p->values));
    p->tensors = mk_arena_alloc(c->arena, p->n_tensors, sizeof(*p->tensors));
    order = mk_arena_alloc(c->arena, p->n_tensors, sizeof(*order));
    if (p->values == NULL || p->tensors == NULL || order == NULL)
        return MINKE_ENOMEM;
    for (size_t i = 0; i < p->n_values && rc == MINKE_OK; i++)
        rc = gguf_take_value(c, &p->values[i]);
    if (rc < 0)
        return rc;
    twice = mk_names_sort(p->values, p->n_values, sizeof(*p->values));
    if (twice != NULL)
        return mk_fail(MINKE_EFORMAT, "%s: key %s appears twice", c->path, twice->key.data);
    rc = gguf_alignment(c, p, &alignment);
    for (size_t i = 0; i < p->n_tensors && rc == MINKE_OK; i++)
        rc = gguf_take_tensor(c, &p->tensors[i]);
    if (rc < 0 || (rc = gguf_place(c, p->tensors, p->n_tensors, alignment)) < 0)
        return rc;
    return gguf_check_overlap(p->tensors, p->n_tensors, order, c->path);
}

static int32_t gguf_open_part(struct mk_gguf *g, const struct mk_env *env, const char *path,
                              uint32_t part, struct gguf_part *p)
{
    struct gguf_cursor c = {.arena = &g->arena, .path = path};
    int32_t rc = mk_file_open(&g->files[part], env, path);

    if (rc < 0)
        return rc;
    if (g->files[part] == NULL)
        return mk_fail(part == 0 ? MINKE_EIO : MINKE_EFORMAT, "%s: no such file", path);
    g->n_files = part + 1;
    c.file = g->files[part];
    c.size = mk_file_size(c.file);
    c.window = mk_alloc(g->alloc, 1, GGUF_WINDOW);
    rc = c.window == NULL ? MINKE_ENOMEM : gguf_take_part(&c, p);
    mk_free(g->alloc, c.window);
    return rc;
}

/* A number of a part's metadata that has to be there. */
static int32_t gguf_split_number(const struct gguf_part *p, const char *key, const char *path,
                                 int64_t *out)
{
    if (mk_gguf_int(gguf_part_find(p, key), 0, out) < 0)
        return mk_fail(MINKE_EFORMAT, "%s: %s is missing or no number", path, key);
    return MINKE_OK;
}

/* Digits of -0000i-of-0000n.gguf at the end of the path; 0 when it does not end so. */
static size_t gguf_split_suffix(const char *path, uint32_t *index, uint32_t *count)
{
    static const char form[] = "-00000-of-00000.gguf";
    const size_t len = strlen(path), tail = sizeof(form) - 1;

    *index = *count = 0;
    if (len < tail)
        return 0;
    for (size_t i = 0; i < tail; i++) {
        const char c = path[len - tail + i];
        if (form[i] == '0' ? c < '0' || c > '9' : c != form[i])
            return 0;
        if (form[i] == '0' && i < 6)
            *index = *index * 10 + (uint32_t)(c - '0');
        else if (form[i] == '0')
            *count = *count * 10 + (uint32_t)(c - '0');
    }
    return len - tail;
}

/* Check what a part says about itself against its place. */
static int32_t gguf_check_split(const struct gguf_part *p, const char *path, uint32_t part,
                                uint32_t n_parts)
{
    int64_t no = 0, count = 0;
    int32_t rc;

    if ((rc = gguf_split_number(p, "split.no", path, &no)) < 0
        || (rc = gguf_split_number(p, "split.count", path, &count)) < 0)
        return rc;
    if (no != part || count != n_parts)
        return mk_fail(MINKE_EFORMAT, "%s: says part %lld of %lld, expected %u of %u", path,
                       (long long)no + 1, (long long)count, part + 1, n_parts);
    return MINKE_OK;
}

/* The parts after the first; all of them into parts[0 .. n). */
static int32_t gguf_open_rest(struct mk_gguf *g, const struct mk_env *env, const char *path,
                              struct gguf_part *parts, uint32_t n, size_t stem)
{
    char *name = mk_arena_alloc(&g->arena, stem + 32, 1);
    int64_t total = 0;
    size_t n_tensors = parts[0].n_tensors;
    int32_t rc = name == NULL ? MINKE_ENOMEM
                              : gguf_split_number(&parts[0], "split.tensors.count", path,
                                                  &total);

    for (uint32_t i = 1; i < n && rc == MINKE_OK; i++) {
        char digits[12];
        memcpy(name, path, stem);
        memcpy(name + stem, path + stem, sizeof("-00000-of-00000.gguf"));
        mk_format(digits, sizeof(digits), "%u", 100000u + i + 1);
        memcpy(name + stem + 1, digits + 1, 5);
        rc = gguf_open_part(g, env, name, i, &parts[i]);
        if (rc == MINKE_OK)
            rc = gguf_check_split(&parts[i], name, i, n);
        n_tensors += parts[i].n_tensors;
    }
    if (rc == MINKE_OK && (total < 0 || (uint64_t)total != n_tensors))
        return mk_fail(MINKE_EFORMAT, "%s: split.tensors.count is %lld, the parts hold %zu", path,
                       (long long)total, n_tensors);
    return rc;
}

/* All tensors by name. */
static int32_t gguf_join(struct mk_gguf *g, const struct gguf_part *parts, uint32_t n,
                         const char *path)
{
    const struct mk_stored *twice;

    for (uint32_t i = 0; i < n; i++)
        g->n_tensors += parts[i].n_tensors;
    g->tensors = mk_arena_alloc(&g->arena, g->n_tensors, sizeof(*g->tensors));
    if (g->tensors == NULL)
        return MINKE_ENOMEM;
    for (size_t i = 0, at = 0; i < n; at += parts[i++].n_tensors)
        if (parts[i].n_tensors > 0)
            memcpy(g->tensors + at, parts[i].tensors,
                   parts[i].n_tensors * sizeof(*g->tensors));
    twice = mk_names_sort(g->tensors, g->n_tensors, sizeof(*g->tensors));
    if (twice != NULL)
        return mk_fail(MINKE_EFORMAT, "%s: tensor %s appears twice", path, twice->name.data);
    g->values = parts[0].values;
    g->n_values = parts[0].n_values;
    return MINKE_OK;
}

/* How many parts the first says there are, and the length of the path before the digits. */
static int32_t gguf_count_parts(const struct gguf_part *first, const char *path, uint32_t *n,
                                size_t *stem)
{
    int64_t count = 1;
    uint32_t index, named;

    *n = 1;
    if (gguf_part_find(first, "split.count") != NULL
        && gguf_split_number(first, "split.count", path, &count) < 0)
        return MINKE_EFORMAT;
    if (count <= 1)
        return MINKE_OK;
    if (count > MK_GGUF_MAX_PARTS)
        return mk_fail(MINKE_EFORMAT, "%s: split.count: %lld parts", path, (long long)count);
    *n = (uint32_t)count;
    *stem = gguf_split_suffix(path, &index, &named);
    if (index != 1 || named != *n)
        return mk_fail(MINKE_EFORMAT, "%s: of %u parts, the first is named -00001-of-%s%u.gguf",
                       path, *n, *n < 10 ? "0000" : *n < 100 ? "000" : "00", *n);
    return gguf_check_split(first, path, 0, *n);
}

int32_t mk_gguf_open(struct mk_gguf *out, const struct mk_env *env, const char *path)
{
    struct mk_gguf g = {.alloc = &env->alloc};
    struct gguf_part *parts;
    uint32_t n = 1;
    size_t stem = 0;
    int32_t rc = MINKE_ENOMEM;

    mk_arena_init(&g.arena, &env->alloc);
    g.files = mk_alloc(g.alloc, MK_GGUF_MAX_PARTS, sizeof(*g.files));
    parts = mk_arena_alloc(&g.arena, MK_GGUF_MAX_PARTS, sizeof(*parts));
    if (g.files == NULL || parts == NULL)
        goto fail;
    if ((rc = gguf_open_part(&g, env, path, 0, &parts[0])) < 0
        || (rc = gguf_count_parts(&parts[0], path, &n, &stem)) < 0
        || (n > 1 && (rc = gguf_open_rest(&g, env, path, parts, n, stem)) < 0)
        || (rc = gguf_join(&g, parts, n, path)) < 0)
        goto fail;
    *out = g;
    return MINKE_OK;

fail:
    mk_gguf_close(&g);
    return rc;
}

void mk_gguf_close(struct mk_gguf *g)
{
    for (uint32_t i = 0; i < g->n_files; i++)
        mk_file_close(g->files[i]);
    if (g->alloc != NULL) {
        mk_free(g->alloc, g->files);
        mk_arena_free(&g->arena);
    }
    memset(g, 0, sizeof(*g));
}

/* ---- Looking up --------------------------------------------------------------------------- */

const struct mk_gguf_value *mk_gguf_find(const struct mk_gguf *g, const char *key)
{
    return mk_names_find(g->values, g->n_values, sizeof(*g->values), key);
}

const struct mk_stored *mk_gguf_tensor(const struct mk_gguf *g, const char *name)
{
    return mk_names_find(g->tensors, g->n_tensors, sizeof(*g->tensors), name);
}

int mk_gguf_int(const struct mk_gguf_value *v, uint64_t i, int64_t *out)
{
    const size_t size = v == NULL ? 0 : mk_gguf_number_size(v->type);
    uint64_t bits = 0;
    int is_signed;

    if (size == 0 || i >= v->n || v->type == MK_GGUF_FLOAT32 || v->type == MK_GGUF_FLOAT64)
        return -1;
    for (size_t b = 0; b < size; b++)
        bits |= (uint64_t)v->numbers[i * size + b] << 8 * b;
    is_signed = v->type == MK_GGUF_INT8 || v->type == MK_GGUF_INT16 || v->type == MK_GGUF_INT32
             || v->type == MK_GGUF_INT64;
    if (is_signed && size < 8 && bits >> (8 * size - 1))
        bits |= ~(uint64_t)0 << 8 * size;
    if (!is_signed && bits > INT64_MAX)
        return -1;
    memcpy(out, &bits, sizeof(*out));
    return 0;
}

int mk_gguf_double(const struct mk_gguf_value *v, uint64_t i, double *out)
{
    int64_t integer;
    float single;

    if (mk_gguf_int(v, i, &integer) == 0) {
        *out = (double)integer;
        return 0;
    }
    if (v == NULL || i >= v->n)
        return -1;
    if (v->type == MK_GGUF_FLOAT64) {
        memcpy(out, v->numbers + 8 * i, 8);
        return 0;
    }
    if (v->type != MK_GGUF_FLOAT32)
        return -1;
    memcpy(&single, v->numbers + 4 * i, 4);
    *out = (double)single;
    return 0;
}

int32_t mk_gguf_token(const struct mk_gguf *g, const char *key)
{
    int64_t id;

    return mk_gguf_int(mk_gguf_find(g, key), 0, &id) == 0 && id >= 0 && id < INT32_MAX
         ? (int32_t)id : -1;
}

const struct mk_view *mk_gguf_text(const struct mk_gguf_value *v)
{
    return v == NULL || v->is_array || v->type != MK_GGUF_STRING ? NULL : v->strings;
}

int mk_gguf_is_path(const char *path)
{
    const size_t len = strlen(path);

    return len > 5 && strcmp(path + len - 5, ".gguf") == 0;
}
