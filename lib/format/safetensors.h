/* The safetensors container. */
#ifndef MK_SAFETENSORS_H
#define MK_SAFETENSORS_H

#include "base/file.h"
#include "base/json.h"
#include "format/stored.h"

#define MK_ST_MAX_HEADER 100000000u   /* bytes, the format's own limit */

struct mk_st_tensor {
    const char *name;
    const char *dtype;       /* "BF16" */
    uint32_t n_dims;         /* 0 to 8 */
    uint64_t shape[8];
    uint64_t offset, size;   /* bytes, from the start of the file */
};

/* Read and check the header of a file: sizes match shape and type, no gap, no overlap, no
 * duplicate name, nothing outside the file.  Tensors are in ascending offset; names live in
 * the arena.  MINKE_EFORMAT naming file and tensor. */
int32_t mk_st_read(struct mk_st_tensor **out, size_t *n, struct mk_arena *arena,
                   struct mk_file *file);

/* The tensors of a folder: those of model.safetensors, or of the files that its index names. */
struct mk_st_folder {
    struct mk_arena *arena;          /* set by the caller: names, and the list */
    struct mk_file **files;          /* open, from env's allocator: the caller's, also on error */
    size_t n_files;
    struct mk_stored *tensors;       /* by name */
    size_t n_tensors;
};

/* MINKE_EIO: there are none, or one is missing; MINKE_EFORMAT: as mk_st_read, or a tensor appears
 * twice, the index names what is no file beside it, more than 4096 of them, or a tensor that is
 * not where it says. */
int32_t mk_st_open(struct mk_st_folder *out, const struct mk_env *env, const char *path);

#endif
