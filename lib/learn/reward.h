/* Rewards that follow from exact rules. */
#ifndef MK_REWARD_H
#define MK_REWARD_H

#include <stddef.h>
#include <stdint.h>

/* Soft overlong punishment of n tokens, in [-1, 0]; cache is at most max.
 * Reference: DAPO arXiv 2503.14476, equation 13. */
double mk_reward_overlong(uint64_t n, uint64_t max, uint64_t cache);

/* Where what begins in s, at from or later; n when nowhere. */
size_t mk_reward_find(const char *s, size_t n, size_t from, const char *what);

/* Begin and length of the last box's content in text; 0, or -1 when there is none. */
int mk_reward_boxed(const char *text, size_t n, size_t *begin, size_t *length);

/* Whether two answers are the same; flags as minke_reward_equal. */
int mk_reward_equal(const char *a, size_t a_len, const char *b, size_t b_len, uint32_t flags);

#endif
