/* What tells two models apart. */
#ifndef MK_IDENTITY_H
#define MK_IDENTITY_H

#include "model/weights.h"

/* A hash over what of the config decides the results, all vectors, and a sample of rows of the
 * other weights, decoded: cheap enough for every opening, also of mapped files (a few pages a
 * layer are touched), and the same however the weights are laid out in memory.  0 with the
 * error set when memory runs out. */
uint64_t mk_identity(const struct mk_allocator *a, const struct mk_config *config,
                     struct mk_weights *weights);

#endif
