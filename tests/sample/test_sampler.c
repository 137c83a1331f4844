/* Sampler: what it chooses, how often, and what it refuses. */
#include <math.h>

#include "minke.h"
#include "test.h"

static minke_sampler_params params(void)
{
    minke_sampler_params p;

    minke_sampler_params_init(&p, sizeof(p));
    return p;
}

static minke_sampler *open_with(const minke_sampler_params *p)
{
    minke_sampler *s = NULL;

    CHECK_INT(minke_sampler_open(&s, p), MINKE_OK);
    return s;
}

static int32_t sample(minke_sampler *s, const float *logits, size_t n)
{
    int32_t token = -1;

    CHECK_INT(minke_sampler_sample(s, logits, n, &token), MINKE_OK);
    return token;
}

TEST(greedy_takes_the_best_and_the_lowest_id_of_a_tie)
{
    const float logits[5] = {1, 3, -2, 3, 0};
    minke_sampler *s = open_with(NULL);
    float chosen, full;

    CHECK_INT(sample(s, logits, 5), 1);
    CHECK_INT(minke_sampler_logprob(s, &chosen, &full), MINKE_OK);
    CHECK(chosen == 0.0f);
    CHECK(fabs(full - (3 - log(exp(1) + 2 * exp(3) + exp(-2) + 1))) < 1e-6);
    minke_sampler_free(s);
}

TEST(equal_seeds_give_equal_tokens_and_other_seeds_others)
{
    minke_sampler_params p = params();
    minke_sampler *a, *b, *c;
    float logits[64] = {0};
    int differ = 0;

    p.temperature = 1.0f;
    p.seed = 7;
    a = open_with(&p);
    b = open_with(&p);
    p.seed = 8;
    c = open_with(&p);
    for (int i = 0; i < 200; i++) {
        const int32_t x = sample(a, logits, 64);

        CHECK_INT(sample(b, logits, 64), x);
        differ += sample(c, logits, 64) != x;
    }
    CHECK(differ > 150);
    minke_sampler_free(a);
    minke_sampler_free(b);
    minke_sampler_free(c);
}

/* Share of draws per token must agree with expected[] within five standard errors. */
static void check_shares(const minke_sampler_params *p, const float *logits, size_t n,
                         const double *expected)
{
    enum { DRAWS = 20000 };
    minke_sampler *s = open_with(p);
    int count[16] = {0};
    float logprob;

    for (int i = 0; i < DRAWS; i++) {
        const int32_t token = sample(s, logits, n);

        count[token]++;
        CHECK_INT(minke_sampler_logprob(s, &logprob, NULL), MINKE_OK);
        CHECK(fabs(exp((double)logprob) - expected[token]) < 1e-6);
    }
    for (size_t i = 0; i < n; i++) {
        const double e = expected[i];

        CHECK(fabs(count[i] / (double)DRAWS - e) <= 5 * sqrt(e * (1 - e) / DRAWS));
    }
    minke_sampler_free(s);
}

TEST(draws_follow_the_distribution_that_each_setting_leaves)
{
    /* Probabilities 0.5, 0.25, 0.125, 0.125 in shuffled order. */
    const float l = (float)log(2.0), logits[4] = {-2 * l, 0, -2 * l, -l};
    minke_sampler_params p = params();

    p.temperature = 1.0f;
    check_shares(&p, logits, 4, (double[]){0.125, 0.5, 0.125, 0.25});
    p.top_k = 3;        /* the tie goes to id 0 */
    check_shares(&p, logits, 4, (double[]){0.125 / 0.875, 0.5 / 0.875, 0, 0.25 / 0.875});
    p.top_k = 0;
    p.top_p = 0.7f;
    check_shares(&p, logits, 4, (double[]){0, 2.0 / 3, 0, 1.0 / 3});
    p.top_k = 2;        /* of what top-k leaves, 2/3 and 1/3 */
    p.top_p = 0.6f;
    check_shares(&p, logits, 4, (double[]){0, 1, 0, 0});
    p.top_k = 0;
    p.top_p = 0;
    p.min_p = 0.4f;
    check_shares(&p, logits, 4, (double[]){0, 2.0 / 3, 0, 1.0 / 3});
    p.min_p = 0;
    p.temperature = 0.5f;
    check_shares(&p, logits, 4, (double[]){1.0 / 22, 16.0 / 22, 1.0 / 22, 4.0 / 22});
}

TEST(bias_and_penalties_change_the_logits_as_documented)
{
    const float logits[4] = {2.0f, 1.9f, -1.0f, 1.0f};
    minke_sampler_params p = params();
    minke_sampler *s;

    p.n_bias = 2;
    p.bias_tokens = (int32_t[]){0, 3};
    p.bias_values = (float[]){-INFINITY, 0.5f};
    s = open_with(&p);
    CHECK_INT(sample(s, logits, 4), 1);
    minke_sampler_free(s);

    p = params();
    p.presence_penalty = 0.15f;
    s = open_with(&p);
    minke_sampler_accept(s, 0);
    CHECK_INT(sample(s, logits, 4), 1);
    minke_sampler_accept(s, 1);
    minke_sampler_accept(s, 1);
    CHECK_INT(sample(s, logits, 4), 0);
    minke_sampler_free(s);

    p = params();
    p.frequency_penalty = 0.2f;
    p.penalty_window = 3;
    s = open_with(&p);
    for (int i = 0; i < 3; i++)
        minke_sampler_accept(s, 0);
    CHECK_INT(sample(s, logits, 4), 1);
    for (int i = 0; i < 2; i++)
        minke_sampler_accept(s, 2);
    CHECK_INT(sample(s, logits, 4), 1);      /* 2.0 - 0.2 < 1.9 */
    minke_sampler_accept(s, 2);
    CHECK_INT(sample(s, logits, 4), 0);      /* 0 has left the window */
    minke_sampler_free(s);

    p = params();
    p.repetition_penalty = 2.0f;
    s = open_with(&p);
    minke_sampler_accept(s, 0);
    minke_sampler_accept(s, 1);
    CHECK_INT(sample(s, logits, 4), 0);      /* 1.0, 0.95, -1, 1: the tie to id 0 */
    minke_sampler_accept(s, 3);
    CHECK_INT(sample(s, logits, 4), 0);
    minke_sampler_free(s);
}

TEST(bad_logits_and_bad_params_are_refused_by_name)
{
    minke_sampler_params p = params();
    minke_sampler *s = open_with(NULL), *none = NULL;
    float logits[3] = {0, NAN, 0}, value;
    int32_t token = 99;

    CHECK_INT(minke_sampler_logprob(s, &value, NULL), MINKE_EINVAL);
    CHECK_INT(minke_sampler_sample(s, logits, 3, &token), MINKE_EINVAL);
    CHECK_HAS(minke_last_error(), "logit 1");
    logits[0] = logits[1] = logits[2] = -INFINITY;
    CHECK_INT(minke_sampler_sample(s, logits, 3, &token), MINKE_EINVAL);
    CHECK_HAS(minke_last_error(), "no token left");
    CHECK_INT(minke_sampler_sample(s, logits, 0, &token), MINKE_EINVAL);
    CHECK_INT(token, 99);
    minke_sampler_free(s);
    p.top_p = 1.5f;
    CHECK_INT(minke_sampler_open(&none, &p), MINKE_EINVAL);
    CHECK_STR(minke_last_error(), "top_p is 1.5, not in [0.0, 1.0]");
    p = params();
    p.temperature = NAN;
    CHECK_INT(minke_sampler_open(&none, &p), MINKE_EINVAL);
    CHECK_HAS(minke_last_error(), "temperature");
    CHECK(none == NULL);
}

TEST(the_n_best_are_sorted_with_ties_to_the_lowest_id)
{
    const float logits[8] = {1, 5, 3, 5, -1, 3, 0, 2};
    const int32_t order[8] = {1, 3, 2, 5, 7, 0, 6, 4};
    int32_t tokens[8];
    float logprobs[8];
    double sum;

    for (size_t n = 1; n <= 8; n++) {
        CHECK_INT(minke_logprobs_best(logits, 8, n, tokens, logprobs), MINKE_OK);
        for (size_t i = 0; i < n; i++)
            CHECK_INT(tokens[i], order[i]);
    }
    sum = 0;
    for (int i = 0; i < 8; i++)
        sum += exp((double)logprobs[i]);
    CHECK(fabs(sum - 1) < 1e-6);
    CHECK_INT(minke_logprobs_best(logits, 8, 9, tokens, logprobs), MINKE_EINVAL);
}

TEST_MAIN(RUN(greedy_takes_the_best_and_the_lowest_id_of_a_tie),
          RUN(equal_seeds_give_equal_tokens_and_other_seeds_others),
          RUN(draws_follow_the_distribution_that_each_setting_leaves),
          RUN(bias_and_penalties_change_the_logits_as_documented),
          RUN(bad_logits_and_bad_params_are_refused_by_name),
          RUN(the_n_best_are_sorted_with_ties_to_the_lowest_id))
