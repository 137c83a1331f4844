/* Heapsort of pointers. */
#include "base/sort.h"

/* Let items[i] sink to its place in the heap of the first n. */
static void sort_sink(const void **items, size_t i, size_t n, mk_compare_fn compare)
{
    const void *item = items[i];

    for (;;) {
        size_t child = 2 * i + 1;

        if (child >= n)
            break;
        if (child + 1 < n && compare(items[child], items[child + 1]) < 0)
            child++;
        if (compare(item, items[child]) >= 0)
            break;
        items[i] = items[child];
        i = child;
    }
    items[i] = item;
}

void mk_sort(const void **items, size_t n, mk_compare_fn compare)
{
    for (size_t i = n / 2; i-- > 0;)
        sort_sink(items, i, n, compare);
    for (size_t last = n; last-- > 1;) {
        const void *top = items[0];

        items[0] = items[last];
        items[last] = top;
        sort_sink(items, 0, last, compare);
    }
}
