/* Objectives: values derived by hand, edges of the clips, and input that is refused. */
#include <math.h>

#include "minke.h"
#include "test.h"

#define NEAR(a, b) CHECK(fabs((a) - (b)) < 1e-12)

/* Two groups, lengths 3, 5, 1 and 0.  Group 7 holds sequences 0 and 2 with rewards 1 and 0, so
 * that their advantages are 1/2 and -1/2 (with std 1/2: 1 and -1); group 4 holds 1 and 3 with
 * rewards 0 and 3: -3/2 and 3/2 (std 3/2: -1 and 1).  old is 0 and lp the logarithm of r:
 *   sequence 0, A > 0: r = 1.1 (inside), 1.5 (clipped), 0.5 (outside, but min keeps it)
 *   sequence 1, A < 0: r = 0.9 (inside), 0.5 (clipped), 1.5 (outside, kept), 1, 1
 *   sequence 2, A < 0: r = 2 */
static const int32_t groups[4] = {7, 4, 7, 4};
static const double rewards[4] = {1, 0, 0, 3};
static const size_t lengths[4] = {3, 5, 1, 0};
static const double ratios[9] = {1.1, 1.5, 0.5, 0.9, 0.5, 1.5, 1, 1, 2};
static const double zeros[9];

struct result {
    int32_t status;
    double loss, grad[9], advantages[4];
    minke_objective_stats stats;
    double logp[9];
};

static minke_objective_batch base_batch(struct result *r)
{
    minke_objective_batch b;

    for (int t = 0; t < 9; t++)
        r->logp[t] = log(ratios[t]);
    minke_objective_batch_init(&b, sizeof b);
    b.n_sequences = 4;
    b.n_tokens = 9;
    b.groups = groups;
    b.rewards = rewards;
    b.lengths = lengths;
    b.logp = r->logp;
    b.old = zeros;
    return b;
}

static minke_objective_params preset(const char *name)
{
    minke_objective_params p;

    minke_objective_params_init(&p, sizeof p);
    p.preset = name;
    return p;
}

static void run(struct result *r, const minke_objective_params *p, const minke_objective_batch *b)
{
    minke_objective_stats_init(&r->stats, sizeof r->stats);
    r->status = minke_objective(p, b, &r->loss, r->grad, r->advantages, &r->stats);
    if (r->status < 0)
        fprintf(stderr, "%s\n", minke_last_error());
}

static struct result run_preset(const char *name)
{
    struct result r;
    const minke_objective_batch b = base_batch(&r);
    const minke_objective_params p = preset(name);

    run(&r, &p, &b);
    CHECK_INT(r.status, MINKE_OK);
    return r;
}

TEST(grpo_divides_by_the_groups_std)
{
    /* A = 1, -1, -1, 1.  Terms min(r A, clip(r, 0.8, 1.2) A):
     *   sequence 0: 1.1 + 1.2 + 0.5 = 2.8, mean 14/15
     *   sequence 1: -(0.9 + 0.8 + 1.5 + 1 + 1) = -5.2, mean -1.04
     *   sequence 2: -2; sequence 3: nothing
     * loss = -(14/15 - 1.04 - 2) / 4; gradient -r A c where not clipped. */
    const struct result r = run_preset("grpo");
    const double c[4] = {1.0 / 12, 1.0 / 20, 1.0 / 4, 0};

    NEAR(r.loss, -(14.0 / 15 - 1.04 - 2) / 4);
    NEAR(r.advantages[0], 1);
    NEAR(r.advantages[1], -1);
    NEAR(r.advantages[3], 1);
    NEAR(r.grad[0], -1.1 * c[0]);
    NEAR(r.grad[1], 0);
    NEAR(r.grad[2], -0.5 * c[0]);
    NEAR(r.grad[3], 0.9 * c[1]);
    NEAR(r.grad[4], 0);
    NEAR(r.grad[5], 1.5 * c[1]);
    NEAR(r.grad[8], 2 * c[2]);
    CHECK_INT(r.stats.groups, 2);
    CHECK_INT(r.stats.sequences, 4);
    CHECK_INT(r.stats.tokens, 9);
    NEAR(r.stats.clip_fraction_low, 1.0 / 9);
    NEAR(r.stats.clip_fraction_high, 1.0 / 9);
    NEAR(r.stats.ratio_mean, 10.0 / 9);
    NEAR(r.stats.reward_mean, 1);
}

TEST(v32_takes_the_mean_alone)
{
    /* A = 1/2, -3/2, -1/2: sequence 0 0.5 * 14/15, 1 -1.5 * 1.04, 2 -0.5 * 2. */
    const struct result r = run_preset("v3.2");

    NEAR(r.loss, -(7.0 / 15 - 1.56 - 1) / 4);
    NEAR(r.grad[8], 2 * 0.5 / 4);
    NEAR(r.grad[3], 0.9 * 1.5 / 20);
    CHECK_INT(r.stats.masked_sequences, 0);
}

TEST(dapo_is_a_mean_over_tokens_with_a_higher_clip)
{
    /* As grpo's terms, but 1.5 is clipped to 1.28: 1.1 + 1.28 + 0.5 - 5.2 - 2 over 9 tokens. */
    const struct result r = run_preset("dapo");

    NEAR(r.loss, -(2.88 - 5.2 - 2) / 9);
    NEAR(r.grad[0], -1.1 / 9);
}

TEST(olmo3_is_a_mean_over_tokens_without_std)
{
    const struct result r = run_preset("olmo3");

    NEAR(r.loss, -(0.5 * (1.1 + 1.272 + 0.5) - 1.5 * 5.2 - 0.5 * 2) / 9);
}

TEST(dr_grpo_sums_over_a_constant_length)
{
    struct result r;
    const minke_objective_batch b = base_batch(&r);
    minke_objective_params p = preset("dr_grpo");
    const double sum = 0.5 * 2.8 - 1.5 * 5.2 - 0.5 * 2;

    run(&r, &p, &b);
    NEAR(r.loss, -sum / 4);
    p.constant_length = 10;
    run(&r, &p, &b);
    NEAR(r.loss, -sum / 40);
    p.preset = "grpo";              /* the length alone chooses the aggregation */
    run(&r, &p, &b);
    NEAR(r.loss, -(2.8 - 5.2 - 2) / 40);
}

TEST(tokens_are_averaged_within_groups_and_then_over_groups)
{
    /* Group 7: (2.8 - 2) / 4 tokens; group 4: -5.2 / 5. */
    struct result r;
    const minke_objective_batch b = base_batch(&r);
    minke_objective_params p = preset("grpo");

    p.aggregation = MINKE_AGGREGATION_GROUP_TOKENS;
    run(&r, &p, &b);
    NEAR(r.loss, -(0.8 / 4 - 5.2 / 5) / 2);
    NEAR(r.grad[8], 2.0 / 8);
}

TEST(std_takes_ddof_and_eps)
{
    /* Rewards 1 and 0: std with n - 1 is sqrt(1/2); A = 0.5 / (sqrt(0.5) + 0.1). */
    struct result r;
    const minke_objective_batch b = base_batch(&r);
    minke_objective_params p = preset("grpo");

    p.given = MINKE_OBJECTIVE_STD_DDOF | MINKE_OBJECTIVE_STD_EPS;
    p.std_ddof = 1;
    p.std_eps = 0.1;
    run(&r, &p, &b);
    NEAR(r.advantages[0], 0.5 / (sqrt(0.5) + 0.1));
    NEAR(r.advantages[1], -1.5 / (sqrt(4.5) + 0.1));
}

TEST(the_mask_is_strict_and_spares_the_kl_term)
{
    /* Sequence 2, A < 0, one token: rollout - lp = 0.25 exactly. */
    static const double lp[1 + 1] = {-1, -1.25}, rollout[2] = {-1, -1}, ref[2] = {-1, -1};
    static const int32_t one[2] = {1, 1};
    static const double reward[2] = {1, 0};
    static const size_t length[2] = {1, 1};
    struct result r;
    minke_objective_batch b = base_batch(&r);
    minke_objective_params p = preset("v3.2");

    b.n_sequences = 2;
    b.n_tokens = 2;
    b.groups = one;
    b.rewards = reward;
    b.lengths = length;
    b.logp = b.old = lp;             /* r = 1: the mask looks at rollout */
    b.rollout = rollout;
    b.ref = ref;
    p.kl_weight = 0.1;
    p.given = MINKE_OBJECTIVE_OFF_POLICY_DELTA;
    p.off_policy_delta = 0.25;
    run(&r, &p, &b);
    CHECK_INT(r.stats.masked_sequences, 0);
    NEAR(r.stats.policy_loss, 0);    /* -(0.5 - 0.5) / 2 */
    p.off_policy_delta = nextafter(0.25, 0);
    run(&r, &p, &b);
    CHECK_INT(r.stats.masked_sequences, 1);
    NEAR(r.stats.policy_loss, -0.25);
    /* k3 of x = -1/4, r = 1, of two sequences; its gradient r x. */
    NEAR(r.stats.kl_loss, 0.1 * (exp(0.25) - 0.25 - 1) / 2);
    NEAR(r.grad[1], 0.1 * -0.25 / 2);
    p.off_policy_delta = -1;         /* a positive advantage is never masked */
    run(&r, &p, &b);
    CHECK_INT(r.stats.masked_sequences, 1);
    NEAR(r.grad[0], -0.25);
}

TEST(kl_estimates_and_their_gradients)
{
    /* One token, A = 0: x = lp - ref = 0.5, r = exp(lp - old) = exp(-0.5). */
    static const double lp[1] = {-1}, old[1] = {-0.5}, ref[1] = {-1.5};
    const double k3 = exp(-0.5) + 0.5 - 1, ratio = exp(-0.5);
    const double value[4] = {0.5, 0.125, k3, ratio * k3};
    const double slope[4] = {1, 0.5, 1 - exp(-0.5), ratio * 0.5};
    struct result r;
    minke_objective_batch b = base_batch(&r);
    minke_objective_params p = preset("grpo");

    b.n_sequences = b.n_tokens = 1;
    b.lengths = &lengths[2];
    b.logp = lp;
    b.old = old;
    b.ref = ref;
    p.kl_weight = 2;
    for (uint32_t i = 0; i < 4; i++) {
        p.kl = MINKE_KL_K1 + i;
        run(&r, &p, &b);
        CHECK_INT(r.stats.zero_variance_groups, 1);
        NEAR(r.advantages[0], 0);
        NEAR(r.loss, 2 * value[i]);
        NEAR(r.grad[0], 2 * slope[i]);
        NEAR(r.stats.kl, value[i]);
    }
    p.kl = MINKE_KL_NONE;
    run(&r, &p, &b);
    NEAR(r.loss, 0);
}

TEST(kl_weights_are_per_sequence)
{
    static const double weights[4] = {0, 0.5, 0, 1};
    struct result r;
    minke_objective_batch b = base_batch(&r);
    minke_objective_params p = preset("v3.2");
    double kl = 0;

    b.ref = zeros;
    b.kl_weights = weights;
    p.kl = MINKE_KL_K1;
    run(&r, &p, &b);
    for (int t = 3; t < 8; t++)
        kl += log(ratios[t]);
    NEAR(r.stats.kl_loss, 0.5 * kl / 20);
}

TEST(truncated_importance_sampling_weighs_the_clipped_term)
{
    /* old - rollout = log 3 where rollout is -log 3, and 0 elsewhere. */
    struct result r;
    double rollout[9] = {0};
    minke_objective_batch b = base_batch(&r);
    minke_objective_params p = preset("grpo");

    rollout[1] = -log(3);            /* clipped: 1.2 becomes 2.4 at cap 2 */
    rollout[8] = log(2);             /* w = 1/2 */
    b.rollout = rollout;
    p.tis_cap = 2;
    run(&r, &p, &b);
    NEAR(r.loss, -((1.1 + 2.4 + 0.5) / 3 - 1.04 - 1) / 4);
    NEAR(r.grad[1], 0);
    NEAR(r.grad[8], 1.0 / 4);
    NEAR(r.stats.tis_mean, (7 + 2 + 0.5) / 9);
    NEAR(r.stats.tis_fraction, 1.0 / 9);
}

TEST(groups_of_equal_rewards_are_dropped_and_not_counted)
{
    /* 0.1 three times: the rounded mean is not 0.1. */
    static const double same[4] = {0.1, 0, 0.1, 0.1};
    static const int32_t ids[4] = {1, 2, 1, 1};
    struct result r;
    minke_objective_batch b = base_batch(&r);
    minke_objective_params p = preset("grpo");

    b.rewards = same;
    b.groups = ids;
    run(&r, &p, &b);
    NEAR(r.loss, 0);
    CHECK_INT(r.stats.zero_variance_groups, 2);   /* one has a single sample */
    CHECK_INT(r.stats.dropped_groups, 0);
    p.filter = MINKE_FILTER_DROP;
    b.groups = groups;
    static const double half[4] = {0.1, 0, 0.1, 3};
    b.rewards = half;
    run(&r, &p, &b);
    CHECK_INT(r.stats.dropped_groups, 1);
    CHECK_INT(r.stats.sequences, 2);
    CHECK_INT(r.stats.tokens, 5);
    NEAR(r.loss, 5.2 / 5 / 2);
    NEAR(r.grad[0], 0);
    b.rewards = zeros;
    run(&r, &p, &b);
    NEAR(r.loss, 0);
    CHECK_INT(r.stats.tokens, 0);
}

TEST(overlong_shaping_comes_before_the_mean_and_behind_the_filter)
{
    /* max 5, cache 4: lengths 3, 5, 1, 0 cost 1/2, 1, 0, 0. */
    struct result r;
    const minke_objective_batch b = base_batch(&r);
    minke_objective_params p = preset("v3.2");

    p.overlong_max = 5;
    p.overlong_cache = 4;
    run(&r, &p, &b);
    NEAR(r.advantages[0], 0.25);
    NEAR(r.advantages[1], -2);
    NEAR(r.stats.reward_mean, 0.625);
    minke_objective_batch c = b;
    c.rewards = zeros;
    run(&r, &p, &c);
    NEAR(r.advantages[0], -0.25);
    CHECK_INT(r.stats.zero_variance_groups, 0);
    p.filter = MINKE_FILTER_DROP;
    run(&r, &p, &c);
    CHECK_INT(r.stats.dropped_groups, 2);
    NEAR(r.loss, 0);
}

TEST(the_edge_of_a_clip_is_inside)
{
    static const double lp[2] = {0, 0};
    static const int32_t one[2] = {1, 1};
    static const double reward[2] = {1, 0};
    static const size_t length[2] = {1, 1};
    struct result r;
    minke_objective_batch b = base_batch(&r);
    minke_objective_params p = preset("v3.2");

    b.n_sequences = b.n_tokens = 2;
    b.groups = one;
    b.rewards = reward;
    b.lengths = length;
    b.logp = b.old = lp;
    p.given = MINKE_OBJECTIVE_CLIP_LOW | MINKE_OBJECTIVE_CLIP_HIGH;   /* both 0: 1 is the edge */
    run(&r, &p, &b);
    NEAR(r.grad[0], -0.25);
    NEAR(r.grad[1], 0.25);
    p.clip_low = p.clip_high = INFINITY;
    run(&r, &p, &b);
    NEAR(r.stats.clip_fraction_low, 0);
}

TEST(gradient_may_take_the_place_of_logp)
{
    struct result r, in_place;
    const minke_objective_params p = preset("grpo");
    minke_objective_batch b = base_batch(&r);

    run(&r, &p, &b);
    b = base_batch(&in_place);
    CHECK_INT(minke_objective(&p, &b, &in_place.loss, in_place.logp, NULL, NULL), MINKE_OK);
    CHECK(memcmp(in_place.logp, r.grad, sizeof r.grad) == 0);
    CHECK(memcmp(&in_place.loss, &r.loss, sizeof r.loss) == 0);
}

/* ---- Refusals ------------------------------------------------------------ */

static void refused(const minke_objective_params *p, const minke_objective_batch *b,
                    int32_t status, const char *part)
{
    double loss = 5, grad[9], advantages[4];
    minke_objective_stats stats;

    for (int t = 0; t < 9; t++)
        grad[t] = 5;
    advantages[0] = 5;
    minke_objective_stats_init(&stats, sizeof stats);
    CHECK_INT(minke_objective(p, b, &loss, grad, advantages, &stats), status);
    CHECK_HAS(minke_last_error(), part);
    NEAR(loss, 5);
    for (int t = 0; t < 9; t++)
        NEAR(grad[t], 5);
    NEAR(advantages[0], 5);
    CHECK_INT(stats.groups, 0);
}

TEST(numbers_that_are_not_finite_are_named)
{
    static const double bad_rewards[4] = {1, 0, INFINITY, 3}, huge[4] = {1e308, 0, -1e308, 3};
    static const double wide[4] = {1e200, 0, -1e200, 3};
    static const double bad_weights[4] = {0, -1, 0, 0};
    struct result r;
    double bad[9] = {0};
    minke_objective_batch b = base_batch(&r);
    const minke_objective_params p = preset("grpo");

    b.rewards = bad_rewards;
    refused(&p, &b, MINKE_EINVAL, "rewards[2] is inf");
    b.rewards = huge;
    refused(&p, &b, MINKE_EINVAL, "overflow");
    b.rewards = wide;
    refused(&p, &b, MINKE_EINVAL, "deviation of group");
    b = base_batch(&r);
    bad[5] = NAN;
    b.old = bad;
    refused(&p, &b, MINKE_EINVAL, "old[1][2] is nan");
    b = base_batch(&r);
    b.rollout = bad;
    refused(&p, &b, MINKE_EINVAL, "rollout[1][2] is nan");
    b.rollout = NULL;
    b.ref = bad;
    refused(&p, &b, MINKE_EINVAL, "ref[1][2] is nan");
    b.ref = NULL;
    r.logp[8] = -INFINITY;
    refused(&p, &b, MINKE_EINVAL, "logp[2][0] is -inf");
    r.logp[8] = 800;
    refused(&p, &b, MINKE_EINVAL, "logp[2][0] is 800");
    b = base_batch(&r);
    b.kl_weights = bad_weights;
    refused(&p, &b, MINKE_EINVAL, "kl_weights[1] is -1");
}

TEST(lengths_that_lie_are_refused)
{
    static const size_t wraps[4] = {SIZE_MAX, 10, 0, 0}, many[4] = {SIZE_MAX / 8 + 9, 0, 0, 0};
    static const size_t more[4] = {3, 5, 2, 0};
    struct result r;
    minke_objective_batch b = base_batch(&r);
    const minke_objective_params p = preset("grpo");

    b.lengths = wraps;
    refused(&p, &b, MINKE_EINVAL, "lengths[0]");
    b.lengths = many;
    refused(&p, &b, MINKE_EINVAL, "overflows");
    b.lengths = more;
    refused(&p, &b, MINKE_EINVAL, "lengths add up to 10, but n_tokens is 9");
    b.n_sequences = 0;
    refused(&p, &b, MINKE_EINVAL, "n_sequences is 0");
    b = base_batch(&r);
    b.n_sequences = SIZE_MAX / 64;
    b.n_tokens = 0;
    b.groups = NULL;
    refused(&p, &b, MINKE_EINVAL, "groups is NULL");
}

TEST(switches_out_of_range_are_refused)
{
    struct result r;
    const minke_objective_batch b = base_batch(&r);
    minke_objective_params p = preset("ppo");

    refused(&p, &b, MINKE_EINVAL, "preset \"ppo\": grpo, dapo, dr_grpo, olmo3 or v3.2");
    p = preset("grpo");
    p.kl_weight = 0.1;
    refused(&p, &b, MINKE_EINVAL, "ref is NULL");
    p.kl_weight = NAN;
    refused(&p, &b, MINKE_EINVAL, "kl_weight is nan");
    p = preset("grpo");
    p.kl = 6;
    refused(&p, &b, MINKE_EINVAL, "kl is 6");
    p = preset("grpo");
    p.given = MINKE_OBJECTIVE_STD_DDOF | MINKE_OBJECTIVE_CLIP_LOW;
    p.std_ddof = 2;
    refused(&p, &b, MINKE_EINVAL, "std_ddof is 2");
    p.std_ddof = 0;
    p.clip_low = -0.1;
    refused(&p, &b, MINKE_EINVAL, "clip_low is -0.1");
    p = preset("grpo");
    p.constant_length = -3;
    refused(&p, &b, MINKE_EINVAL, "constant_length is -3");
    p = preset("grpo");
    p.overlong_cache = 1;
    refused(&p, &b, MINKE_EINVAL, "overlong_cache is 1");
    p = preset("grpo");
    p.given = 1u << 30;
    refused(&p, &b, MINKE_EVERSION, "given");
}

TEST(structs_grow_as_the_others)
{
    struct { minke_objective_params known; uint64_t later; } p;
    struct { minke_objective_batch known; uint64_t later; } b;
    struct result r;

    minke_objective_params_init(&p.known, sizeof p);
    b.known = base_batch(&r);
    b.known.struct_size = sizeof b;
    b.later = 0;
    run(&r, &p.known, &b.known);
    CHECK_INT(r.status, MINKE_OK);
    p.later = 1;
    refused(&p.known, &b.known, MINKE_EVERSION, "struct_size");
    p.later = 0;
    b.later = 1;
    refused(&p.known, &b.known, MINKE_EVERSION, "struct_size");
    b.known.struct_size = 4;
    refused(&p.known, &b.known, MINKE_EINVAL, "struct_size");
    CHECK_INT(minke_objective(NULL, NULL, &r.loss, NULL, NULL, NULL), MINKE_EINVAL);
}

TEST_MAIN(RUN(grpo_divides_by_the_groups_std), RUN(v32_takes_the_mean_alone),
          RUN(dapo_is_a_mean_over_tokens_with_a_higher_clip),
          RUN(olmo3_is_a_mean_over_tokens_without_std),
          RUN(dr_grpo_sums_over_a_constant_length),
          RUN(tokens_are_averaged_within_groups_and_then_over_groups),
          RUN(std_takes_ddof_and_eps), RUN(the_mask_is_strict_and_spares_the_kl_term),
          RUN(kl_estimates_and_their_gradients), RUN(kl_weights_are_per_sequence),
          RUN(truncated_importance_sampling_weighs_the_clipped_term),
          RUN(groups_of_equal_rewards_are_dropped_and_not_counted),
          RUN(overlong_shaping_comes_before_the_mean_and_behind_the_filter),
          RUN(the_edge_of_a_clip_is_inside), RUN(gradient_may_take_the_place_of_logp),
          RUN(numbers_that_are_not_finite_are_named), RUN(lengths_that_lie_are_refused),
          RUN(switches_out_of_range_are_refused), RUN(structs_grow_as_the_others))
