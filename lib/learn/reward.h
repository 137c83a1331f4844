/* Rewards that follow from exact rules. */
#ifndef MK_REWARD_H
#define MK_REWARD_H

#include <stdint.h>

/* Soft overlong punishment of n tokens, in [-1, 0]; cache is at most max.
 * Reference: DAPO arXiv 2503.14476, equation 13. */
double mk_reward_overlong(uint64_t n, uint64_t max, uint64_t cache);

#endif
