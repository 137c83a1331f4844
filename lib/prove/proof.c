/* Public functions of proofs, and what they earn in training.
 * Reference: DeepSeekMath-V2, section 2: equations 1 to 6. */
#include "prove/proof.h"

#include <string.h>

#include "base/error.h"

#define PROOF_ALPHA 0.76   /* equation 5: of the proof, */
#define PROOF_BETA  0.24   /* and of its self-evaluation */

static const struct mk_allocator proof_alloc = {NULL, NULL, NULL};

static int32_t proof_check_mode(const char *text, size_t len, uint32_t mode)
{
    if (text == NULL && len > 0)
        return mk_fail(MINKE_EINVAL, "text is NULL");
    if (mode > MINKE_PROOF_STRICT)
        return mk_fail(MINKE_EVERSION, "mode %u: this build knows 0 to 2", mode);
    return MINKE_OK;
}

/* ---- Reading ------------------------------------------------------------- */

int32_t minke_proof_score(const char *text, size_t text_len, uint32_t mode, double *score)
{
    const int32_t rc = proof_check_mode(text, text_len, mode);

    if (rc < 0)
        return rc;
    if (score == NULL)
        return mk_fail(MINKE_EINVAL, "score is NULL");
    if (mk_proof_score(text, text_len, mode, score) != 0)
        return mk_fail(MINKE_EFORMAT, "%zu bytes of text without a score", text_len);
    return MINKE_OK;
}

int32_t minke_proof_split(const char *text, size_t text_len, uint32_t mode, char *parts,
                          size_t capacity, size_t *n_solution, size_t *n_evaluation)
{
    struct mk_text solution, evaluation;
    int32_t rc = proof_check_mode(text, text_len, mode);

    if (rc < 0)
        return rc;
    if (n_solution == NULL || n_evaluation == NULL || (parts == NULL && capacity > 0))
        return mk_fail(MINKE_EINVAL, "parts, n_solution or n_evaluation is NULL");
    mk_text_init(&solution, &proof_alloc);
    mk_text_init(&evaluation, &proof_alloc);
    rc = mk_proof_split(&solution, &evaluation, text, text_len, mode);
    if (rc == MINKE_EFORMAT)
        mk_fail(rc, "%zu bytes of text without ## Solution and ## Self Evaluation", text_len);
    if (rc == MINKE_OK) {
        *n_solution = solution.len;
        *n_evaluation = evaluation.len;
        if (solution.len > capacity || evaluation.len > capacity - solution.len) {
            rc = mk_fail(MINKE_ENOSPC, "%zu and %zu bytes, room for %zu", solution.len,
                         evaluation.len, capacity);
        } else {
            memcpy(parts, solution.len > 0 ? solution.data : "", solution.len);
            memcpy(parts + solution.len, evaluation.len > 0 ? evaluation.data : "",
                   evaluation.len);
        }
    }
    mk_text_free(&solution);
    mk_text_free(&evaluation);
    return rc;
}

/* ---- Prompts ------------------------------------------------------------- */

static int32_t proof_prompt(struct mk_text *out, int32_t ask, const struct mk_prompts *p,
                            struct mk_view problem, struct mk_view proof,
                            struct mk_view rating)
{
    struct mk_text shown;

    mk_text_init(&shown, out->a);
    if (ask == MINKE_ASK_REFINE) {
        mk_prompts_solution(&shown, p, 0, proof);
        if (rating.len > 0)
            mk_prompts_evaluation(&shown, p, 0, 0, rating);
        rating = (struct mk_view){shown.data, shown.len};
    }
    if (!shown.failed)
        mk_prompts_write(out, p, ask, problem, proof, rating);
    const int failed = shown.failed || out->failed;

    mk_text_free(&shown);
    return failed ? mk_fail_memory(out->len, "a prompt") : MINKE_OK;
}

int32_t minke_proof_prompt(int32_t ask, const char *prompts, size_t prompts_len,
                           const char *problem, size_t problem_len, const char *proof,
                           size_t proof_len, const char *rating, size_t rating_len, char *text,
                           size_t capacity, size_t *n_out)
{
    struct mk_prompts p;
    struct mk_text out;
    int32_t rc;

    if ((problem == NULL && problem_len > 0) || (proof == NULL && proof_len > 0)
        || (rating == NULL && rating_len > 0) || (prompts == NULL && prompts_len > 0)
        || (text == NULL && capacity > 0) || n_out == NULL)
        return mk_fail(MINKE_EINVAL, "prompts, problem, proof, rating, text or n_out is NULL");
    if (ask < MINKE_ASK_PROOF || ask > MINKE_ASK_REFINE)
        return mk_fail(MINKE_EINVAL, "ask %d: 1 to 4 expected", ask);
    if ((rc = mk_prompts_read(&p, prompts, prompts_len)) < 0)
        return rc;
    mk_text_init(&out, &proof_alloc);
    rc = proof_prompt(&out, ask, &p, mk_proof_strip(problem, problem_len),
                      mk_proof_strip(proof, proof_len), mk_proof_strip(rating, rating_len));
    if (rc == MINKE_OK) {
        *n_out = out.len;
        if (out.len > capacity)
            rc = mk_fail(MINKE_ENOSPC, "%zu bytes, room for %zu", out.len, capacity);
        else
            memcpy(text, out.data, out.len);
    }
    mk_text_free(&out);
    return rc;
}

/* ---- Rewards ------------------------------------------------------------- */

static int32_t proof_check_reward(const char *text, size_t len, double score, double meta,
                                  const double *reward)
{
    if ((text == NULL && len > 0) || reward == NULL)
        return mk_fail(MINKE_EINVAL, "text or reward is NULL");
    if (!(score >= 0 && score <= 1) || !(meta >= 0 && meta <= 1))
        return mk_fail(MINKE_EINVAL, "score %g, meta %g: outside [0, 1]", score, meta);
    return MINKE_OK;
}

/* R_format R_score R_meta, with R_score = 1 - |s' - s|. */
static double proof_evaluation_reward(const char *text, size_t len, double score, double meta)
{
    double own;

    if (mk_proof_format(text, len, &own) != 0)
        return 0;
    return (1 - (own > score ? own - score : score - own)) * meta;
}

int32_t minke_proof_verifier_reward(const char *evaluation, size_t evaluation_len, double score,
                                    double meta, double *reward)
{
    const int32_t rc = proof_check_reward(evaluation, evaluation_len, score, meta, reward);

    if (rc == MINKE_OK)
        *reward = proof_evaluation_reward(evaluation, evaluation_len, score, meta);
    return rc;
}

int32_t minke_proof_generator_reward(const char *text, size_t text_len, double score, double meta,
                                     double *reward)
{
    struct mk_text solution, evaluation;
    double own, r = 0;
    int32_t rc = proof_check_reward(text, text_len, score, meta, reward);

    if (rc < 0)
        return rc;
    mk_text_init(&solution, &proof_alloc);
    mk_text_init(&evaluation, &proof_alloc);
    rc = mk_proof_split(&solution, &evaluation, text, text_len, MINKE_PROOF_DEFAULT);
    if (rc == MINKE_OK && mk_proof_format(evaluation.data, evaluation.len, &own) == 0)
        r = PROOF_ALPHA * score
            + PROOF_BETA * proof_evaluation_reward(evaluation.data, evaluation.len, score, meta);
    mk_text_free(&solution);
    mk_text_free(&evaluation);
    if (rc == MINKE_ENOMEM)
        return rc;
    *reward = r;
    return MINKE_OK;
}

int32_t minke_proof_label(const double *scores, const double *confirmed, size_t n, uint32_t k,
                          double *label)
{
    double lowest = 1;
    size_t n_lowest = 0;

    if ((scores == NULL && n > 0) || (confirmed == NULL && n > 0) || label == NULL)
        return mk_fail(MINKE_EINVAL, "scores, confirmed or label is NULL");
    for (size_t i = 0; i < n; i++) {
        if (!(scores[i] >= 0 && scores[i] <= 1) || !(confirmed[i] >= 0 && confirmed[i] <= 1))
            return mk_fail(MINKE_EINVAL, "analysis %zu: score %g, confirmed %g: outside [0, 1]", i,
                           scores[i], confirmed[i]);
        if (scores[i] >= 1 || confirmed[i] <= 0.5)
            continue;
        if (scores[i] < lowest) {
            lowest = scores[i];
            n_lowest = 0;
        }
        n_lowest += scores[i] <= lowest;
    }
    if (n == 0 || (lowest < 1 && n_lowest < (k > 0 ? k : 1)))
        *label = -1;
    else
        *label = lowest;
    return MINKE_OK;
}
