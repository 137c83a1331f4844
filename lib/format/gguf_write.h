/* Writing GGUF version 3: metadata and tensors are announced first, data follows in order. */
#ifndef MK_GGUF_WRITE_H
#define MK_GGUF_WRITE_H

#include "base/file.h"
#include "base/json.h"
#include "format/gguf.h"

struct mk_gguf_writer {
    const struct mk_allocator *alloc;
    struct mk_text values, tensors;     /* the two lists of the header, as bytes */
    uint64_t n_values, n_tensors;
    uint64_t next;                      /* offset of the next tensor in the data */
    struct mk_writer *file;             /* from mk_gguf_write_header on */
};

void mk_gguf_writer_init(struct mk_gguf_writer *w, const struct mk_allocator *a);
/* Whatever was not committed is removed. */
void mk_gguf_writer_free(struct mk_gguf_writer *w);

/* Metadata.  A failed allocation is reported by mk_gguf_write_header. */
void mk_gguf_put_u32(struct mk_gguf_writer *w, const char *key, uint32_t v);
void mk_gguf_put_f32(struct mk_gguf_writer *w, const char *key, float v);
void mk_gguf_put_bool(struct mk_gguf_writer *w, const char *key, int v);
void mk_gguf_put_string(struct mk_gguf_writer *w, const char *key, const char *v, size_t len);
void mk_gguf_put_i32_array(struct mk_gguf_writer *w, const char *key, const int32_t *v, size_t n);
void mk_gguf_put_string_array(struct mk_gguf_writer *w, const char *key,
                              const struct mk_view *v, size_t n);
/* A value as another file holds it. */
void mk_gguf_put_value(struct mk_gguf_writer *w, const struct mk_gguf_value *v);

/* Announce a tensor; dims[0] is the length of a row, a multiple of the type's block. */
int32_t mk_gguf_put_tensor(struct mk_gguf_writer *w, const char *name, enum mk_type type,
                           const uint64_t *dims, uint32_t n_dims);

/* Open path, beside which a temporary file grows, and write the header. */
int32_t mk_gguf_write_header(struct mk_gguf_writer *w, const char *path);
/* The next bytes of the tensor at hand, and zeros up to the next tensor. */
int32_t mk_gguf_write_data(struct mk_gguf_writer *w, const void *data, size_t n);
int32_t mk_gguf_write_pad(struct mk_gguf_writer *w);
/* All was written: flush and rename. */
int32_t mk_gguf_write_commit(struct mk_gguf_writer *w);

#endif
