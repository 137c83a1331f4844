/* Any bytes as a proof, an evaluation, and a file of prompts: what the stricter mode takes, the
 * other ones take too, with the same score. */
#include <string.h>

#include "fuzz.h"
#include "minke.h"

static int score_of(const char *text, size_t n, uint32_t mode, double *score)
{
    const int32_t status = minke_proof_score(text, n, mode, score);

    FUZZ_CHECK(status == MINKE_OK || status == MINKE_EFORMAT);
    return status == MINKE_OK;
}

static size_t split_of(const char *text, size_t n, uint32_t mode, char *parts, size_t size)
{
    size_t a = 0, b = 0;
    const int32_t status = minke_proof_split(text, n, mode, parts, size, &a, &b);

    FUZZ_CHECK(status == MINKE_OK || status == MINKE_EFORMAT || status == MINKE_ENOSPC);
    FUZZ_CHECK(status != MINKE_OK || a + b <= size);
    return status == MINKE_OK ? 1 + a + b : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char one[1 << 16], two[1 << 16];
    const char *text = (const char *)data;
    double strict, plain, released, reward;
    size_t n = 0;

    if (score_of(text, size, MINKE_PROOF_MODE_STRICT, &strict))
        FUZZ_CHECK(score_of(text, size, MINKE_PROOF_MODE_DEFAULT, &plain) && plain == strict);
    if (score_of(text, size, MINKE_PROOF_MODE_DEFAULT, &plain))
        FUZZ_CHECK(score_of(text, size, MINKE_PROOF_MODE_RELEASED, &released) && plain == released);
    if (split_of(text, size, MINKE_PROOF_MODE_STRICT, one, sizeof one) > 0)
        FUZZ_CHECK(split_of(text, size, MINKE_PROOF_MODE_DEFAULT, two, sizeof two) > 0);
    n = split_of(text, size, MINKE_PROOF_MODE_DEFAULT, one, sizeof one);
    FUZZ_CHECK(n == split_of(text, size, MINKE_PROOF_MODE_RELEASED, two, sizeof two));
    FUZZ_CHECK(n == 0 || memcmp(one, two, n - 1) == 0);
    FUZZ_CHECK(minke_proof_generator_reward(text, size, 0.5, 1, &reward) == MINKE_OK);
    FUZZ_CHECK(reward >= 0 && reward <= 1);
    minke_proof_prompt_params p = {.struct_size = sizeof p, .ask = MINKE_ASK_REFINE,
                                   .problem = text, .problem_len = size, .proof = text,
                                   .proof_len = size, .rating = text, .rating_len = size,
                                   .prompts = text, .prompts_len = size};
    const int32_t status = minke_proof_prompt(&p, one, sizeof one, &n);
    FUZZ_CHECK(status == MINKE_OK || status == MINKE_EFORMAT || status == MINKE_ENOSPC);
    return 0;
}
