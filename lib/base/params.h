/* Parameter structs that grow: an older caller's missing tail is zero, a newer caller's
 * unknown tail must be zero. */
#ifndef MK_PARAMS_H
#define MK_PARAMS_H

#include <stddef.h>
#include <stdint.h>

/* Copy the caller's struct src (NULL = all defaults), whose first four bytes are its size,
 * into dst.  min_size is what the struct took in its first version.  MINKE_EINVAL for a size
 * that no version had, MINKE_EVERSION for a tail that this build does not know. */
int32_t mk_params_read(void *dst, size_t dst_size, const void *src, size_t min_size);

/* Zero the struct and set its size; for the public _init functions. */
void mk_params_init(void *params, size_t size);

#endif
