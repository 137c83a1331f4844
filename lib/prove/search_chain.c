/* Refining one solution step by step, and choosing among independent ones. */
#include <string.h>

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

/* One more attempt of a chain: the last solution with its own evaluation goes into the prompt. */
static int32_t chain_step(struct minke_search *s, uint32_t chain, uint32_t last,
                          minke_complete_fn complete, void *user)
{
    struct mk_view proof = {"", 0};
    void *items = s->shown;
    size_t first;
    int32_t rc = mk_grow(&s->env.alloc, &items, &s->max_shown, 1, sizeof(*s->shown));

    s->shown = items;
    s->n_shown = 0;
    if (rc < 0)
        return rc;
    if (last > 0) {
        proof = s->found[last - 1].solution;
        s->shown[0] = s->found[last - 1].evaluation;
        s->n_shown = s->shown[0].len > 0;
    }
    rc = mk_search_request(s, last > 0 ? MINKE_ASK_REFINE : MINKE_ASK_PROOF, 1, proof,
                           complete, user, &first);
    return rc < 0 ? rc : mk_search_collect(s, first, 1, last, chain, 0, 0);
}

/* Of every chain its last solution counts; the best of these by its own score. */
static void chain_choose(struct minke_search *s)
{
    s->choice = 0;
    for (uint32_t c = 0; c < s->p.n_first; c++) {
        const uint32_t last = chain_last(s, c);

        if (last > 0 && (s->choice == 0 || s->found[last - 1].self_score > s->score)) {
            s->choice = last;
            s->score = s->found[last - 1].self_score;
        }
    }
    s->solved = s->choice > 0 && s->score > CHAIN_SOLVED;
}

/* Reference: DeepSeekMath-V2, section 3.3, sequential refinement.  Differs: an answer without
 * both sections leaves its chain where it was. */
int32_t mk_search_sequential(struct minke_search *s, minke_complete_fn complete, void *user)
{
    size_t first;
    int32_t rc = MINKE_OK;
    uint32_t n_open = 1;

    for (s->round = 1; s->round <= s->p.max_rounds && n_open > 0; s->round++) {
        n_open = s->p.n_first;
        if (s->round == 1) {
            s->n_shown = 0;
            rc = mk_search_request(s, MINKE_ASK_PROOF, n_open, (struct mk_view){"", 0},
                                   complete, user, &first);
            if (rc == MINKE_OK)
                rc = mk_search_collect(s, first, n_open, 0, 0, 0, 0);
        }
        n_open = 0;
        for (uint32_t c = 0; c < s->p.n_first && rc == MINKE_OK; c++) {
            uint32_t last = chain_last(s, c);

            if (s->round > 1 && (last == 0 || s->found[last - 1].self_score <= CHAIN_SOLVED)) {
                rc = chain_step(s, c, last, complete, user);
                last = chain_last(s, c);
            }
            n_open += last == 0 || s->found[last - 1].self_score <= CHAIN_SOLVED;
        }
        if (rc < 0)
            return rc;
        chain_choose(s);
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

static int sample_same(const struct mk_view *a, const struct mk_view *b)
{
    double x, y;

    if (a->len == b->len && memcmp(a->data, b->data, a->len) == 0)
        return 1;
    return mk_proof_number(a->data, a->len, &x) == 0 && mk_proof_number(b->data, b->len, &y) == 0
           && x == y;
}

/* Votes of every answer, counted at the first solution that gives it. */
static void sample_vote(struct minke_search *s)
{
    for (size_t i = 0; i < s->n_found; i++) {
        size_t k = 0;

        while (k < i && !(s->found[k].n_votes > 0
                          && sample_same(&s->found[i].answer, &s->found[k].answer)))
            k++;
        s->found[k].n_votes++;
    }
}

/* Majority vote over the answers, best self-score, or longest reasoning; ties to the first. */
int32_t mk_search_sample(struct minke_search *s, minke_complete_fn complete, void *user)
{
    size_t first;
    int32_t rc;
    double best = -2;

    s->round = 1;
    s->n_shown = 0;
    rc = mk_search_request(s, MINKE_ASK_PROOF, s->p.n_first, (struct mk_view){"", 0}, complete,
                           user, &first);
    if (rc == MINKE_OK)
        rc = mk_search_collect(s, first, s->p.n_first, 0, 0, 0, 1);
    if (rc < 0)
        return rc;
    if (s->p.driver == MINKE_SEARCH_VOTE)
        sample_vote(s);
    for (size_t i = 0; i < s->n_found; i++) {
        const struct mk_candidate *c = &s->found[i];
        const double v = s->p.driver == MINKE_SEARCH_VOTE ? (double)c->n_votes
                       : s->p.driver == MINKE_SEARCH_BEST ? c->self_score
                       : (double)c->n_thinking;

        if (v <= best)
            continue;
        best = v;
        s->choice = (uint32_t)i + 1;
        s->score = s->p.driver == MINKE_SEARCH_VOTE ? v / (double)s->n_found : c->self_score;
    }
    s->solved = s->p.driver == MINKE_SEARCH_BEST && s->score > CHAIN_SOLVED;
    mk_log(&s->env, MINKE_LOG_INFO, "%zu of %u samples usable", s->n_found, s->p.n_first);
    return MINKE_OK;
}
