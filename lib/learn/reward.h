/* Rewards that follow from exact rules. */
#ifndef MK_REWARD_H
#define MK_REWARD_H

#include <stdint.h>

#include "base/view.h"

/* Soft overlong punishment of n tokens, in [-1, 0]; cache is at most max.
 * Reference: DAPO arXiv 2503.14476, equation 13. */
double mk_reward_overlong(uint64_t n, uint64_t max, uint64_t cache);

/* What stands behind the last "</think>"; all of text when there is none. */
struct mk_view mk_reward_behind_thinking(struct mk_view text);

/* Content of the last box of a reply, as minke_reward_boxed; data NULL when there is none. */
struct mk_view mk_reward_boxed(struct mk_view text);

#endif
