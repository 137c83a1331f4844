/* Text that grows, and its way to a caller's buffer. */
#ifndef MK_TEXT_H
#define MK_TEXT_H

#include <stdint.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/view.h"

/* Owned by whoever called init. */
struct mk_text {
    const struct mk_allocator *a;
    char *data;          /* NUL-terminated once anything was added */
    size_t len, capacity;
    int failed;          /* an allocation failed; later calls do nothing */
};
void mk_text_init(struct mk_text *t, const struct mk_allocator *a);
void mk_text_free(struct mk_text *t);
void mk_text_add(struct mk_text *t, const char *bytes, size_t n);
void mk_text_adds(struct mk_text *t, const char *nul_terminated);
void mk_text_add_view(struct mk_text *t, struct mk_view v);
/* As mk_format writes it. */
void mk_text_addf(struct mk_text *t, const char *format, ...) MK_PRINTF(2, 3);
struct mk_view mk_text_view(const struct mk_text *t);

/* For the last line of public functions that write text: frees t.  *n_out (bytes) also on
 * MINKE_ENOSPC, which a capacity below it gives; MINKE_ENOMEM when t had failed. */
int32_t mk_text_deliver(struct mk_text *t, char *out, size_t capacity, size_t *n_out);

/* 16 digits and a NUL. */
void mk_hex(char out[17], uint64_t v);

#endif
