/* Parameter structs that grow. */
#include "base/params.h"

#include <string.h>

#include "base/error.h"

/* No struct of ours will ever be larger; a larger size is an uninitialised field. */
#define PARAMS_MAX 4096u

int32_t mk_params_read(void *dst, size_t dst_size, const void *src, size_t min_size)
{
    const unsigned char *bytes = src;
    uint32_t size;

    if (src == NULL) {
        mk_params_init(dst, dst_size);
        return MINKE_OK;
    }
    memcpy(&size, src, sizeof(size));
    if (size < min_size || size > PARAMS_MAX)
        return mk_fail(MINKE_EINVAL, "struct_size %u: %zu or more expected; use the _init function",
                       size, min_size);
    for (size_t i = dst_size; i < size; i++)
        if (bytes[i] != 0)
            return mk_fail(MINKE_EVERSION, "struct_size %u: byte %zu is set, this build knows %zu",
                           size, i, dst_size);
    memset(dst, 0, dst_size);
    memcpy(dst, src, size < dst_size ? size : dst_size);
    return MINKE_OK;
}

void mk_params_init(void *params, size_t size)
{
    const uint32_t n = size <= PARAMS_MAX ? (uint32_t)size : 0;

    if (params == NULL || n < sizeof(n))
        return;
    memset(params, 0, n);
    memcpy(params, &n, sizeof(n));
}
