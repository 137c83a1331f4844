/* One opened checkpoint, whether a folder (config.json, safetensors files, the tokenizer's
 * texts) or a GGUF file of one or several parts. */
#ifndef MK_CHECKPOINT_H
#define MK_CHECKPOINT_H

#include "format/config.h"
#include "format/gguf.h"
#include "format/stored.h"
#include "format/tensors.h"
#include "format/vocabulary.h"

struct mk_checkpoint {
    const struct mk_env *env;
    const char *path;
    struct mk_arena arena;
    struct mk_config config;
    struct mk_file **files;          /* (n_files,) from env's allocator; may be taken away */
    size_t n_files;
    const struct mk_stored *tensors; /* by name */
    size_t n_tensors;
    uint8_t *used;                   /* (n_tensors,) asked for by name */
    int is_gguf;
    struct mk_gguf gguf;             /* metadata */
    char *texts[3];                  /* of a folder's vocabulary */
};

/* env and path live as long as the checkpoint.  has_weights 0: only the vocabulary is wanted, and
 * config and tensors are not read.  On error nothing is left.  MINKE_EIO: a file is missing;
 * MINKE_EFORMAT, MINKE_EUNSUPPORTED: as mk_config_read, mk_st_read, mk_gguf_open. */
int32_t mk_checkpoint_open(struct mk_checkpoint *out, const struct mk_env *env, const char *path,
                           int has_weights);
void mk_checkpoint_close(struct mk_checkpoint *c);

/* What the tokenizer is made from, as long as c is open.  A folder without tokenizer.json has
 * neither json nor tokens; a GGUF file without one, or with one of another model, gives
 * MINKE_EUNSUPPORTED. */
int32_t mk_checkpoint_vocabulary(struct mk_checkpoint *c, struct mk_vocabulary *out);

/* A tensor, an expert's also as a slice of all: 1 and *out, 0 when there is none; negative:
 * MINKE_E* (of a type that weights cannot have).  It counts as used. */
int32_t mk_checkpoint_find(struct mk_checkpoint *c, struct mk_tensor_id id,
                           struct mk_stored *out);
/* The same, which must be there, in the shape that the config says: MINKE_EFORMAT otherwise. */
int32_t mk_checkpoint_take(struct mk_checkpoint *c, struct mk_tensor_id id,
                           struct mk_stored *out);
/* The scales of a matrix t of F8_E4M3, one per tile of MK_SCALE_TILE x MK_SCALE_TILE, those at
 * the edges included. */
int32_t mk_checkpoint_take_scale(struct mk_checkpoint *c, const struct mk_stored *t,
                                 struct mk_stored *out);

/* All numbers of t as floats; a is for the bytes meanwhile. */
int32_t mk_stored_floats(float *out, const struct mk_stored *t, const struct mk_allocator *a);
static inline size_t mk_stored_count(const struct mk_stored *t)
{
    const struct mk_type_info *info = mk_type_info(t->type);

    return (size_t)t->size / info->block_bytes * info->block_len;
}

#endif
