/* Sorting without memory of its own, in n log n for any input. */
#ifndef MK_SORT_H
#define MK_SORT_H

#include <stddef.h>

typedef int (*mk_compare_fn)(const void *a, const void *b);

/* Sort pointers so that compare says <= 0 for neighbours.  Not stable. */
void mk_sort(const void **items, size_t n, mk_compare_fn compare);

#endif
