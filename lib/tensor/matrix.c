/* What rows of matrices need, whatever their type. */
#include <string.h>

#include "base/checked.h"
#include "tensor/tensor.h"

void mk_scale_row(float *x, const float *scale, size_t row, size_t n)
{
    if (scale == NULL)
        return;
    scale += row / MK_SCALE_TILE * mk_ceil_div(n, MK_SCALE_TILE);
    for (size_t i = 0; i < n; i++)
        x[i] *= scale[i / MK_SCALE_TILE];
}

/* A few columns at a time, so that what is written stays in the cache. */
void mk_transpose(void *out, const void *in, size_t n_out, size_t n_in, size_t size)
{
    const uint8_t *from = in;
    uint8_t *to = out;

    for (size_t begin = 0; begin < n_in; begin += 16) {
        const size_t end = mk_min(begin + 16, n_in);

        for (size_t r = 0; r < n_out; r++)
            for (size_t c = begin; c < end; c++) {
                if (size == 4)
                    memcpy(to + (c * n_out + r) * 4, from + (r * n_in + c) * 4, 4);
                else
                    memcpy(to + (c * n_out + r) * 2, from + (r * n_in + c) * 2, 2);
            }
    }
}
