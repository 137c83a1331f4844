/* A tensor where it lies. */
#ifndef MK_STORED_H
#define MK_STORED_H

#include "base/file.h"
#include "base/view.h"
#include "tensor/tensor.h"

struct mk_stored {
    struct mk_view name;     /* as its file says it, a NUL behind */
    enum mk_type type;       /* MK_N_TYPES: one that weights cannot have, */
    const char *dtype;       /* which the file calls so; NULL for ours in GGUF files */
    uint32_t n_dims;
    uint64_t shape[4];       /* slowest first */
    struct mk_file *file;
    uint64_t offset, size;   /* bytes, from the start of the file */
};

#endif
