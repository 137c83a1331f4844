/* Heapsort of pointers, and of things that have a name. */
#include "base/sort.h"

#include <string.h>

#include "base/view.h"

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

/* ---- By name ------------------------------------------------------------- */

static int names_compare(const void *a, const void *b)
{
    const struct mk_view *x = a, *y = b;
    const size_t n = x->len < y->len ? x->len : y->len;
    const int order = memcmp(x->data, y->data, n);

    return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

/* As sort_sink, of the items themselves. */
static void names_sink(char *items, size_t i, size_t n, size_t size)
{
    union {
        struct mk_view name;
        char bytes[128];
    } item;

    memcpy(&item, items + i * size, size);
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && names_compare(items + child * size, items + (child + 1) * size) < 0)
            child++;
        if (names_compare(&item, items + child * size) >= 0)
            break;
        memcpy(items + i * size, items + child * size, size);
    }
    memcpy(items + i * size, &item, size);
}

const void *mk_names_sort(void *array, size_t n, size_t size)
{
    char *items = array, top[128];

    for (size_t i = n / 2; i-- > 0;)
        names_sink(items, i, n, size);
    for (size_t last = n; last-- > 1;) {
        memcpy(top, items, size);
        memcpy(items, items + last * size, size);
        memcpy(items + last * size, top, size);
        names_sink(items, 0, last, size);
    }
    for (size_t i = 1; i < n; i++)
        if (names_compare(items + (i - 1) * size, items + i * size) == 0)
            return items + i * size;
    return NULL;
}

const void *mk_names_find(const void *array, size_t n, size_t size, const char *name)
{
    const struct mk_view want = mk_view(name);
    const char *items = array;
    size_t low = 0, high = n;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = names_compare(items + middle * size, &want);

        if (order == 0)
            return items + middle * size;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}
