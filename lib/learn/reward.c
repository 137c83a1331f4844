/* Rewards that follow from exact rules. */
#include "learn/reward.h"

#include "base/error.h"

/* ---- Length -------------------------------------------------------------- */

double mk_reward_overlong(uint64_t n, uint64_t max, uint64_t cache)
{
    if (n <= max - cache)
        return 0;
    if (n > max)
        return -1;
    return -(double)(n - (max - cache)) / (double)cache;
}

int32_t minke_reward_overlong(uint64_t length, uint64_t max, uint64_t cache, double *reward)
{
    if (reward == NULL)
        return mk_fail(MINKE_EINVAL, "reward is NULL");
    if (cache > max)
        return mk_fail(MINKE_EINVAL, "cache is %llu, more than max, %llu",
                       (unsigned long long)cache, (unsigned long long)max);
    *reward = mk_reward_overlong(length, max, cache);
    return MINKE_OK;
}
