/* Sorting without memory of its own, in n log n for any input. */
#ifndef MK_SORT_H
#define MK_SORT_H

#include <stddef.h>

typedef int (*mk_compare_fn)(const void *a, const void *b);

/* Sort pointers so that compare says <= 0 for neighbours.  Not stable. */
void mk_sort(const void **items, size_t n, mk_compare_fn compare);

/* Arrays of items of size bytes, at most 128, that begin with a struct mk_view: sort by it
 * (returns the second of two items of the same name, or NULL), and look one up. */
const void *mk_names_sort(void *array, size_t n, size_t size);
const void *mk_names_find(const void *array, size_t n, size_t size, const char *name);

#endif
