/* Writing GGUF.  Reference: ggml's docs/gguf.md; tensors lie one behind the other, each
 * padded to the alignment, which is what ggml's reader asks for. */
#include "format/gguf_write.h"

#include <string.h>

#include "base/checked.h"
#include "base/error.h"

void mk_gguf_writer_init(struct mk_gguf_writer *w, const struct mk_allocator *a)
{
    memset(w, 0, sizeof(*w));
    w->alloc = a;
    mk_text_init(&w->values, a);
    mk_text_init(&w->tensors, a);
}

void mk_gguf_writer_free(struct mk_gguf_writer *w)
{
    if (w->alloc == NULL)
        return;
    mk_text_free(&w->values);
    mk_text_free(&w->tensors);
    mk_writer_free(w->file);
    memset(w, 0, sizeof(*w));
}

static void ggufw_little(struct mk_text *t, uint64_t v, uint32_t bytes)
{
    char b[8];

    for (uint32_t i = 0; i < bytes; i++)
        b[i] = (char)(uint8_t)(v >> 8 * i);
    mk_text_add(t, b, bytes);
}

static void ggufw_string(struct mk_text *t, const char *s, size_t len)
{
    ggufw_little(t, len, 8);
    mk_text_add(t, s, len);
}

static void ggufw_key(struct mk_gguf_writer *w, const char *key, uint32_t type)
{
    ggufw_string(&w->values, key, strlen(key));
    ggufw_little(&w->values, type, 4);
    w->n_values++;
}

static void ggufw_array(struct mk_gguf_writer *w, const char *key, uint32_t type, uint64_t n)
{
    ggufw_key(w, key, MK_GGUF_ARRAY);
    ggufw_little(&w->values, type, 4);
    ggufw_little(&w->values, n, 8);
}

void mk_gguf_put_u32(struct mk_gguf_writer *w, const char *key, uint32_t v)
{
    ggufw_key(w, key, MK_GGUF_UINT32);
    ggufw_little(&w->values, v, 4);
}

void mk_gguf_put_f32(struct mk_gguf_writer *w, const char *key, float v)
{
    uint32_t bits;

    memcpy(&bits, &v, sizeof(bits));
    ggufw_key(w, key, MK_GGUF_FLOAT32);
    ggufw_little(&w->values, bits, 4);
}

void mk_gguf_put_bool(struct mk_gguf_writer *w, const char *key, int v)
{
    ggufw_key(w, key, MK_GGUF_BOOL);
    ggufw_little(&w->values, v != 0, 1);
}

void mk_gguf_put_string(struct mk_gguf_writer *w, const char *key, const char *v, size_t len)
{
    ggufw_key(w, key, MK_GGUF_STRING);
    ggufw_string(&w->values, v, len);
}

void mk_gguf_put_i32_array(struct mk_gguf_writer *w, const char *key, const int32_t *v, size_t n)
{
    ggufw_array(w, key, MK_GGUF_INT32, n);
    for (size_t i = 0; i < n; i++)
        ggufw_little(&w->values, (uint32_t)v[i], 4);
}

void mk_gguf_put_string_array(struct mk_gguf_writer *w, const char *key,
                              const struct mk_view *v, size_t n)
{
    ggufw_array(w, key, MK_GGUF_STRING, n);
    for (size_t i = 0; i < n; i++)
        ggufw_string(&w->values, v[i].data, v[i].len);
}

void mk_gguf_put_value(struct mk_gguf_writer *w, const struct mk_gguf_value *v)
{
    if (v->is_array)
        ggufw_array(w, v->key.data, v->type, v->n);
    else
        ggufw_key(w, v->key.data, v->type);
    if (v->type != MK_GGUF_STRING) {
        mk_text_add(&w->values, (const char *)v->numbers, (size_t)v->n * mk_gguf_number_size(v->type));
        return;
    }
    for (uint64_t i = 0; i < v->n; i++)
        ggufw_string(&w->values, v->strings[i].data, v->strings[i].len);
}

int32_t mk_gguf_put_tensor(struct mk_gguf_writer *w, const char *name, enum mk_type type,
                           const uint64_t *dims, uint32_t n_dims)
{
    const int32_t number = mk_type_info(type)->gguf;
    size_t size = mk_type_row_bytes(type, (size_t)dims[0]);

    if (number < 0)
        return mk_fail(MINKE_EUNSUPPORTED, "tensor %s: GGUF has no type %s", name,
                       mk_type_info(type)->name);
    for (uint32_t d = 1; d < n_dims && size > 0; d++)
        if (mk_mul(&size, size, (size_t)dims[d]))
            size = 0;
    if (size == 0 || size > UINT64_MAX / 2 - w->next)
        return mk_fail(MINKE_EINVAL, "tensor %s: rows of %llu do not fit type %s", name,
                       (unsigned long long)dims[0], mk_type_info(type)->name);
    ggufw_string(&w->tensors, name, strlen(name));
    ggufw_little(&w->tensors, n_dims, 4);
    for (uint32_t d = 0; d < n_dims; d++)
        ggufw_little(&w->tensors, dims[d], 8);
    ggufw_little(&w->tensors, (uint64_t)number, 4);
    ggufw_little(&w->tensors, w->next, 8);
    w->next += mk_round_up(size, MK_GGUF_ALIGNMENT);
    w->n_tensors++;
    return MINKE_OK;
}

int32_t mk_gguf_write_header(struct mk_gguf_writer *w, const char *path)
{
    struct mk_text head;
    int32_t rc;

    mk_text_init(&head, w->alloc);
    mk_text_add(&head, "GGUF", 4);
    ggufw_little(&head, 3, 4);
    ggufw_little(&head, w->n_tensors, 8);
    ggufw_little(&head, w->n_values, 8);
    if (head.failed || w->values.failed || w->tensors.failed)
        rc = mk_fail_memory(w->values.len, "the header");
    else if ((rc = mk_writer_open(&w->file, w->alloc, path)) >= 0
             && (rc = mk_writer_write(w->file, head.data, head.len)) >= 0
             && (rc = mk_writer_write(w->file, w->values.data, w->values.len)) >= 0
             && (rc = mk_writer_write(w->file, w->tensors.data, w->tensors.len)) >= 0)
        rc = mk_gguf_write_pad(w);
    mk_text_free(&head);
    return rc;
}

int32_t mk_gguf_write_data(struct mk_gguf_writer *w, const void *data, size_t n)
{
    return mk_writer_write(w->file, data, n);
}

int32_t mk_gguf_write_pad(struct mk_gguf_writer *w)
{
    static const uint8_t zeros[MK_GGUF_ALIGNMENT];
    const size_t over = (size_t)(mk_writer_size(w->file) % MK_GGUF_ALIGNMENT);

    return over == 0 ? MINKE_OK : mk_writer_write(w->file, zeros, MK_GGUF_ALIGNMENT - over);
}

int32_t mk_gguf_write_commit(struct mk_gguf_writer *w)
{
    return mk_writer_commit(w->file);
}
