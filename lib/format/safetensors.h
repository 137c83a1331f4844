/* The safetensors container. */
#ifndef MK_SAFETENSORS_H
#define MK_SAFETENSORS_H

#include "base/file.h"
#include "base/json.h"

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

/* Names of the files in the weight_map of an index (NULL: missing), each once, ascending, in the
 * arena as the names in map.  MINKE_EFORMAT when one is not the name of a file beside the index,
 * or when there are more than 4096. */
int32_t mk_st_shards(const char ***names, size_t *n, struct mk_arena *arena,
                     const struct mk_json *map);

#endif
