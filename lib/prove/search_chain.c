/* Refining one solution step by step, and choosing among independent ones. */
#include "prove/search.h"

#define CHAIN_SOLVED 0.99999

/* ---- Sequential refinement ----------------------------------------------- */

/* The last candidate of a chain, index + 1; 0 when it has none. */
static uint32_t chain_last(const struct minke_search *s, uint32_t chain)
{
    for (size_t i = s->n_found; i-- > 0;)
        if (s->found[i].chain == chain)
            return (uint32_t)i + 1;
    return 0;
}

static int chain_is_open(const struct minke_search *s, uint32_t chain)
{
    const uint32_t last = chain_last(s, chain);

    return last == 0 || s->found[last - 1].self_score <= CHAIN_SOLVED;
}

/* One more attempt of a chain: the last solution with its own evaluation goes into the prompt. */
static int32_t chain_step(struct minke_search *s, uint32_t chain)
{
    const uint32_t last = chain_last(s, chain);
    int32_t rc = MINKE_OK;

    if (last > 0 && s->found[last - 1].evaluation.len > 0)
        rc = mk_search_show(s, s->found[last - 1].evaluation);
    return rc < 0 ? rc : mk_search_solve(s, 1, last, chain);
}

static int32_t chain_round(struct minke_search *s)
{
    int32_t rc = MINKE_OK;

    if (s->round == 1)
        return mk_search_solve(s, s->p.n_first, 0, 0);
    for (uint32_t c = 0; c < s->p.n_first && rc == MINKE_OK; c++)
        if (chain_is_open(s, c))
            rc = chain_step(s, c);
    return rc;
}

/* Of every chain its last solution counts; the best of these by its own score.  Returns how many
 * are still open. */
static uint32_t chain_choose(struct minke_search *s)
{
    uint32_t n_open = 0;

    s->choice = 0;
    for (uint32_t c = 0; c < s->p.n_first; c++) {
        const uint32_t last = chain_last(s, c);

        n_open += (uint32_t)chain_is_open(s, c);
        if (last > 0 && (s->choice == 0 || s->found[last - 1].self_score > s->score)) {
            s->choice = last;
            s->score = s->found[last - 1].self_score;
        }
    }
    s->solved = s->choice > 0 && s->score > CHAIN_SOLVED;
    return n_open;
}

/* Reference: DeepSeekMath-V2, section 3.3, sequential refinement.  Differs: an answer without
 * both sections leaves its chain where it was. */
int32_t mk_search_sequential(struct minke_search *s)
{
    uint32_t n_open = 1;

    for (s->round = 1; s->round <= s->p.max_rounds && n_open > 0; s->round++) {
        const int32_t rc = chain_round(s);

        if (rc < 0)
            return rc;
        n_open = chain_choose(s);
        if (s->choice == 0)
            mk_log(&s->env, MINKE_LOG_INFO, "iteration %u: no solution yet", s->round);
        else
            mk_log(&s->env, MINKE_LOG_INFO, "iteration %u: best self-score %g, %u of %u still open",
                   s->round, s->score > 0 ? s->score : 0.0, n_open, s->p.n_first);
    }
    s->round--;
    return MINKE_OK;
}

/* ---- Independent samples ------------------------------------------------- */

/* Whether two answers are one: as texts or as numbers. */
static int sample_agree(struct mk_view a, struct mk_view b)
{
    double x, y;

    return mk_view_equal(a, b)
        || (mk_proof_number(a, &x) == 0 && mk_proof_number(b, &y) == 0 && x == y);
}

/* Votes of every answer, counted at the first solution that gives it. */
static void sample_vote(struct minke_search *s)
{
    for (size_t i = 0; i < s->n_found; i++) {
        size_t k = 0;

        while (k < i && !(s->found[k].n_votes > 0
                          && sample_agree(s->found[i].answer, s->found[k].answer)))
            k++;
        s->found[k].n_votes++;
    }
}

/* Majority vote over the answers, best self-score, or longest reasoning; ties to the first. */
int32_t mk_search_sample(struct minke_search *s)
{
    const uint32_t driver = s->p.driver;
    double best = -2;
    int32_t rc;

    s->round = 1;
    if ((rc = mk_search_solve(s, s->p.n_first, 0, 0)) < 0)
        return rc;
    if (driver == MINKE_SEARCH_DRIVER_VOTE)
        sample_vote(s);
    for (size_t i = 0; i < s->n_found; i++) {
        const struct mk_candidate *c = &s->found[i];
        const double v = driver == MINKE_SEARCH_DRIVER_VOTE ? (double)c->n_votes
                       : driver == MINKE_SEARCH_DRIVER_BEST ? c->self_score
                       : (double)c->n_thinking;

        if (v <= best)
            continue;
        best = v;
        s->choice = (uint32_t)i + 1;
        s->score = driver == MINKE_SEARCH_DRIVER_VOTE ? v / (double)s->n_found : c->self_score;
    }
    s->solved = driver == MINKE_SEARCH_DRIVER_BEST && s->score > CHAIN_SOLVED;
    mk_log(&s->env, MINKE_LOG_INFO, "%zu of %u samples usable", s->n_found, s->p.n_first);
    return MINKE_OK;
}
