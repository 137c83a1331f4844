/* NEON kernels. */
#include "tensor/kernels.h"

void mk_kernels_init_neon(struct mk_kernels *k)
{
    (void)k;
}
