/* Size arithmetic that says when it does not fit. */
#ifndef MK_CHECKED_H
#define MK_CHECKED_H

#include <stddef.h>
#include <stdint.h>

/* Items of an array. */
#define MK_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* *out = a * b.  Returns 0, or -1 when the product does not fit (out is untouched). */
static inline int mk_mul(size_t *out, size_t a, size_t b)
{
    if (b != 0 && a > SIZE_MAX / b)
        return -1;
    *out = a * b;
    return 0;
}

/* *out = a + b, same rule. */
static inline int mk_add(size_t *out, size_t a, size_t b)
{
    if (a > SIZE_MAX - b)
        return -1;
    *out = a + b;
    return 0;
}

/* a rounded up to a multiple of m, m a power of two; a must be below SIZE_MAX - m. */
static inline size_t mk_round_up(size_t a, size_t m)
{
    return (a + m - 1) & ~(m - 1);
}

static inline size_t mk_ceil_div(size_t a, size_t b)
{
    return a / b + (a % b != 0);
}

static inline size_t mk_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t mk_max(size_t a, size_t b)
{
    return a > b ? a : b;
}

#endif
