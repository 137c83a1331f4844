/* Public functions of proofs, and what they earn in training.
 * Reference: DeepSeekMath-V2, section 2: equations 1 to 6. */
#include "prove/proof.h"

#include "base/params.h"

#define PROOF_ALPHA 0.76   /* equation 5: of the proof, */
#define PROOF_BETA  0.24   /* and of its self-evaluation */

static const struct mk_allocator proof_alloc = {NULL, NULL, NULL};

static int32_t proof_check_mode(struct mk_view text, uint32_t mode)
{
    if (text.data == NULL && text.len > 0)
        return mk_fail(MINKE_EINVAL, "text is NULL");
    if (mode > MINKE_PROOF_MODE_STRICT)
        return mk_fail(MINKE_EVERSION, "mode %u: this build knows 0 to 2", mode);
    return MINKE_OK;
}

/* ---- Reading ------------------------------------------------------------- */

int32_t minke_proof_score(const char *text, size_t text_len, uint32_t mode, double *score)
{
    const struct mk_view given = {text, text_len};
    const int32_t rc = proof_check_mode(given, mode);

    if (rc < 0)
        return rc;
    if (score == NULL)
        return mk_fail(MINKE_EINVAL, "score is NULL");
    if (mk_proof_score(given, mode, score) != 0)
        return mk_fail(MINKE_EFORMAT, "%zu bytes of text without a score", text_len);
    return MINKE_OK;
}

int32_t minke_proof_split(const char *text, size_t text_len, uint32_t mode, char *parts,
                          size_t capacity, size_t *n_solution, size_t *n_evaluation)
{
    const struct mk_view given = {text, text_len};
    struct mk_sections sections;
    struct mk_text both;
    int32_t rc = proof_check_mode(given, mode);

    if (rc < 0)
        return rc;
    if (n_solution == NULL || n_evaluation == NULL || (parts == NULL && capacity > 0))
        return mk_fail(MINKE_EINVAL, "parts, n_solution or n_evaluation is NULL");
    rc = mk_proof_split(&sections, &proof_alloc, given, mode);
    if (rc == MINKE_EFORMAT)
        mk_fail(rc, "%zu bytes of text without ## Solution and ## Self Evaluation", text_len);
    mk_text_init(&both, &proof_alloc);
    if (rc == MINKE_OK) {
        size_t n = 0;

        mk_text_add_view(&both, sections.solution);
        mk_text_add_view(&both, sections.evaluation);
        rc = mk_text_deliver(&both, parts, capacity, &n);
        if (rc == MINKE_OK || rc == MINKE_ENOSPC) {
            *n_solution = sections.solution.len;
            *n_evaluation = sections.evaluation.len;
        }
    }
    mk_text_free(&sections.work);
    return rc;
}

/* ---- Prompts ------------------------------------------------------------- */

void minke_proof_prompt_params_init(minke_proof_prompt_params *params, size_t size)
{
    mk_params_init(params, size);
}

int32_t minke_proof_prompt(const minke_proof_prompt_params *params, char *text, size_t capacity,
                           size_t *n_out)
{
    minke_proof_prompt_params p;
    struct mk_prompts prompts;
    struct mk_text out;
    int32_t rc = mk_params_read(&p, sizeof(p), params, sizeof(p));

    if (rc < 0)
        return rc;
    if ((p.problem == NULL && p.problem_len > 0) || (p.proof == NULL && p.proof_len > 0)
        || (p.rating == NULL && p.rating_len > 0) || (p.prompts == NULL && p.prompts_len > 0)
        || (text == NULL && capacity > 0) || n_out == NULL)
        return mk_fail(MINKE_EINVAL, "prompts, problem, proof, rating, text or n_out is NULL");
    if (p.ask < MINKE_ASK_PROOF || p.ask > MINKE_ASK_REFINE)
        return mk_fail(MINKE_EINVAL, "ask %d: 1 to 4 expected", p.ask);
    if ((rc = mk_prompts_read(&prompts, (struct mk_view){p.prompts, p.prompts_len})) < 0)
        return rc;
    const struct mk_view rating = mk_proof_strip((struct mk_view){p.rating, p.rating_len});
    const struct mk_asked asked = {p.ask,
                                   mk_proof_strip((struct mk_view){p.problem, p.problem_len}),
                                   mk_proof_strip((struct mk_view){p.proof, p.proof_len}),
                                   &rating, rating.len > 0};

    mk_text_init(&out, &proof_alloc);
    mk_prompts_write(&out, &prompts, &asked);
    return mk_text_deliver(&out, text, capacity, n_out);
}

/* ---- Rewards ------------------------------------------------------------- */

static int32_t proof_check_reward(struct mk_view text, double score, double meta,
                                  const double *reward)
{
    if ((text.data == NULL && text.len > 0) || reward == NULL)
        return mk_fail(MINKE_EINVAL, "text or reward is NULL");
    if (!(score >= 0 && score <= 1) || !(meta >= 0 && meta <= 1))
        return mk_fail(MINKE_EINVAL, "score %g, meta %g: outside [0, 1]", score, meta);
    return MINKE_OK;
}

/* R_score R_meta, with R_score = 1 - |s' - s|. */
static double proof_agreement(double own, double score, double meta)
{
    return (1 - (own > score ? own - score : score - own)) * meta;
}

int32_t minke_proof_verifier_reward(const char *evaluation, size_t evaluation_len, double score,
                                    double meta, double *reward)
{
    const struct mk_view text = {evaluation, evaluation_len};
    const int32_t rc = proof_check_reward(text, score, meta, reward);
    double own;

    if (rc == MINKE_OK)
        *reward = mk_proof_has_form(text, &own) ? proof_agreement(own, score, meta) : 0;
    return rc;
}

int32_t minke_proof_generator_reward(const char *text, size_t text_len, double score, double meta,
                                     double *reward)
{
    const struct mk_view given = {text, text_len};
    struct mk_sections sections;
    double own, r = 0;
    int32_t rc = proof_check_reward(given, score, meta, reward);

    if (rc < 0)
        return rc;
    rc = mk_proof_split(&sections, &proof_alloc, given, MINKE_PROOF_MODE_DEFAULT);
    if (rc == MINKE_OK && mk_proof_has_form(sections.evaluation, &own))
        r = PROOF_ALPHA * score + PROOF_BETA * proof_agreement(own, score, meta);
    mk_text_free(&sections.work);
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
    *label = n == 0 || (lowest < 1 && n_lowest < (k > 0 ? k : 1)) ? -1 : lowest;
    return MINKE_OK;
}
