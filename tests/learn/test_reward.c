/* Rewards: exact rules. */
#include <math.h>

#include "minke.h"
#include "test.h"

TEST(overlong_answers_cost_up_to_one)
{
    static const uint64_t n[7] = {0, 16384, 16385, 18432, 20480, 20481, UINT64_MAX};
    static const double expected[7] = {0, 0, -1.0 / 4096, -0.5, -1, -1, -1};
    double r = 5;

    for (int i = 0; i < 7; i++) {
        CHECK_INT(minke_reward_overlong(n[i], 20480, 4096, &r), MINKE_OK);
        CHECK(fabs(r - expected[i]) < 1e-15);
    }
    CHECK_INT(minke_reward_overlong(10, 10, 0, &r), MINKE_OK);
    CHECK(fabs(r) < 1e-15);
    r = 5;
    CHECK_INT(minke_reward_overlong(10, 10, 11, &r), MINKE_EINVAL);
    CHECK(r > 4);
    CHECK_INT(minke_reward_overlong(10, 10, 1, NULL), MINKE_EINVAL);
}

TEST_MAIN(RUN(overlong_answers_cost_up_to_one))
