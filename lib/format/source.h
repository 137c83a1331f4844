/* Where weights come from: a container that knows tensors by the checkpoint's names. */
#ifndef MK_SOURCE_H
#define MK_SOURCE_H

#include "base/file.h"
#include "tensor/tensor.h"

#define MK_SOURCE_MAX_DIMS 4u

/* A tensor where it lies. */
struct mk_stored {
    const char *name;        /* as its file says it; lives as long as the source */
    enum mk_type type;
    uint32_t n_dims;
    uint64_t shape[MK_SOURCE_MAX_DIMS];  /* slowest first */
    struct mk_file *file;
    uint64_t offset, size;   /* bytes, from the start of the file */
};

/* Names asked for are those of a Hugging Face checkpoint, "model.norm.weight" for instance; a
 * container with names of its own translates.  A tensor that is part of a larger one (an
 * expert among others) is found as its slice. */
struct mk_source {
    void *self;
    /* 1 and *out; 0 when there is none; negative: MINKE_E* (a type that weights cannot have).
     * What was found counts as used. */
    int32_t (*find)(void *self, const char *name, struct mk_stored *out);
    /* The first name at or after *i that was never found, with *i behind it; NULL: no more. */
    const char *(*unused)(void *self, size_t *i);
    /* Keep the files open for mappings: *files, an array from env's allocator, passes to the
     * caller. */
    int32_t (*keep_files)(void *self, struct mk_file ***files, size_t *n_files);
    void (*free)(void *self);
};

/* The safetensors files of the directory path. */
int32_t mk_st_source_open(struct mk_source *out, const struct mk_env *env, const char *path);

#endif
