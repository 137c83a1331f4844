/* A tensor where it lies. */
#ifndef MK_STORED_H
#define MK_STORED_H

#include "base/file.h"
#include "base/view.h"
#include "tensor/tensor.h"

struct mk_stored {
    struct mk_view name;     /* as its file says it, a NUL behind */
    enum mk_type type;
    const char *foreign;     /* the file's word for a type that is none of ours, else NULL */
    uint32_t n_dims;
    uint64_t shape[4];       /* slowest first */
    struct mk_file *file;
    uint64_t offset, size;   /* bytes, from the start of the file */
};

#endif
