/* The search with a pool of proofs: verified many times each, the best refined in rounds.
 * Reference: DeepSeekMath-V2, section 3.3 ("paper"), and its released main.py @665c840
 * ("repository").  Differs: a solution that is in the pool already is not verified again; where
 * no proof was usable so far, a round asks for first ones again. */
#include "prove/search.h"

#define POOL_PASSED 0.99999
#define POOL_SHOWN 8u        /* evaluations in a prompt of the repository's, more or less */
#define POOL_DOUBT 0.75      /* scores above are not worth an analysis */

/* ---- Verifying ----------------------------------------------------------- */

/* The score that the i-th completion holds; 0, or -1 when it has none. */
static int pool_score(const struct minke_search *s, size_t i, double *score)
{
    const struct mk_completion *c = &s->taken[i];

    return c->reason == MINKE_FINISH_STOP ? mk_proof_score(c->text, s->p.mode, score) : -1;
}

/* Analyses of one evaluation; they are reported and choose nothing. */
static int32_t pool_meta(struct minke_search *s, struct mk_view solution, struct mk_rating *r)
{
    double sum = 0, score;
    uint32_t n = 0;
    size_t first;
    int32_t rc;

    if ((rc = mk_search_show(s, r->text)) < 0
        || (rc = mk_search_request(s, MINKE_ASK_META, s->p.n_meta, solution, &first)) < 0)
        return rc;
    for (size_t i = first; i < first + s->p.n_meta; i++)
        if (pool_score(s, i, &score) == 0) {
            sum += score;
            n++;
        }
    r->quality = n > 0 ? sum / n : -1;
    return MINKE_OK;
}

static int32_t pool_rate(struct minke_search *s, struct mk_candidate *c)
{
    double sum = 0, score;
    size_t first;
    int32_t rc;

    c->first_rating = s->n_ratings;
    rc = mk_search_request(s, MINKE_ASK_VERIFY, s->p.n_verifications, c->solution, &first);
    for (size_t i = first; rc == MINKE_OK && i < first + s->p.n_verifications; i++) {
        if (pool_score(s, i, &score) != 0)
            continue;
        rc = mk_search_grow(s, &s->ratings, &s->max_ratings, s->n_ratings + 1,
                            sizeof(*s->ratings));
        if (rc == MINKE_OK)
            s->ratings[s->n_ratings++] = (struct mk_rating){s->taken[i].text, score, -1};
        sum += score;
    }
    if (rc < 0)
        return rc;
    c->n_ratings = (uint32_t)(s->n_ratings - c->first_rating);
    c->mean = c->n_ratings > 0 ? sum / c->n_ratings : -1;
    for (size_t i = c->first_rating; s->p.n_meta > 0 && i < s->n_ratings && rc == MINKE_OK; i++)
        if (s->ratings[i].score <= POOL_DOUBT)
            rc = pool_meta(s, c->solution, &s->ratings[i]);
    return rc;
}

/* Rate the candidates from begin on; those that nobody could rate leave. */
static int32_t pool_verify(struct minke_search *s, size_t begin)
{
    size_t kept = begin;

    for (size_t i = begin; i < s->n_found; i++) {
        const int32_t rc = pool_rate(s, &s->found[i]);

        if (rc < 0)
            return rc;
        if (s->found[i].n_ratings > 0)
            s->found[kept++] = s->found[i];
    }
    s->n_found = kept;
    return MINKE_OK;
}

/* ---- Choosing ------------------------------------------------------------ */

/* The i-th in order. */
static const struct mk_order *pool_at(const struct minke_search *s, size_t i)
{
    return s->sorted[i];
}

/* The n_best by mean, then by their own score, then by chance, anew in every round. */
static int32_t pool_order(struct minke_search *s)
{
    int32_t rc = mk_search_order(s, s->n_found);

    s->n_best = s->n_found < s->p.n_best ? s->n_found : s->p.n_best;
    if (rc == MINKE_OK)
        rc = mk_search_grow(s, &s->best, &s->max_best, s->n_best, sizeof(*s->best));
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < s->n_found; i++) {
        const double own = s->found[i].self_score;

        s->order[i].a = -s->found[i].mean;
        s->order[i].b = own > 0 ? -own : 0;
        s->order[i].key = mk_search_random(s, s->round, 0, i);
    }
    mk_search_sort(s);
    for (size_t i = 0; i < s->n_best; i++)
        s->best[i] = pool_at(s, i)->index;
    return MINKE_OK;
}

/* A candidate's ratings in s->sorted, by chance: all by their scores, or only those below 1 in
 * front of the others. */
static int32_t pool_order_ratings(struct minke_search *s, const struct mk_candidate *c,
                                  int by_score)
{
    const int32_t rc = mk_search_order(s, c->n_ratings);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < c->n_ratings; i++) {
        const double score = s->ratings[c->first_rating + i].score;

        s->order[i].a = by_score ? score : score >= 1;
        s->order[i].b = 0;
        s->order[i].key = mk_search_random(s, s->round, 1 + (uint64_t)(c - s->found), i);
    }
    mk_search_sort(s);
    return MINKE_OK;
}

static struct mk_view pool_rating(const struct minke_search *s, const struct mk_candidate *c,
                                  size_t i)
{
    return s->ratings[c->first_rating + pool_at(s, i)->index].text;
}

/* What the repository shows: scores ascending, n_analyses of each, 8 where there is but one
 * score.  It stops a score when 8 are shown in all, but goes on with the next score, so that
 * three scores show 4 + 4 + 4. */
static int32_t pool_show(struct minke_search *s, const struct mk_candidate *c)
{
    uint32_t most = s->p.n_analyses, n = 0;
    int full = 0;
    int32_t rc = pool_order_ratings(s, c, 1);

    if (rc == MINKE_OK && pool_at(s, 0)->a >= pool_at(s, c->n_ratings - 1)->a)
        most = POOL_SHOWN;
    for (size_t i = 0; i < c->n_ratings && rc == MINKE_OK; i++) {
        if (i > 0 && pool_at(s, i)->a > pool_at(s, i - 1)->a) {
            n = 0;
            full = 0;
        }
        if (full || n == most)
            continue;
        rc = mk_search_show(s, pool_rating(s, c, i));
        n++;
        full = s->n_shown == POOL_SHOWN;
    }
    return rc;
}

/* ---- Refining ------------------------------------------------------------ */

/* One prompt a proof, with several evaluations. */
static int32_t pool_refine_repository(struct minke_search *s, size_t parent)
{
    const int32_t rc = pool_show(s, &s->found[parent]);

    return rc < 0 ? rc : mk_search_solve(s, s->p.n_samples, (uint32_t)parent + 1, 0);
}

/* One prompt a pair of proof and evaluation. */
static int32_t pool_refine_paper(struct minke_search *s, size_t parent)
{
    const uint32_t n = s->found[parent].n_ratings;
    int32_t rc = pool_order_ratings(s, &s->found[parent], 0);

    for (uint32_t i = 0; i < n && i < s->p.n_analyses && rc == MINKE_OK; i++) {
        rc = mk_search_show(s, pool_rating(s, &s->found[parent], i));
        if (rc == MINKE_OK)
            rc = mk_search_solve(s, s->p.n_samples, (uint32_t)parent + 1, 0);
    }
    return rc;
}

static int32_t pool_refine(struct minke_search *s)
{
    int32_t rc = pool_order(s);

    for (size_t i = 0; i < s->n_best && rc == MINKE_OK; i++)
        rc = s->p.preset == MINKE_SEARCH_PRESET_REPOSITORY
                 ? pool_refine_repository(s, s->best[i]) : pool_refine_paper(s, s->best[i]);
    return rc;
}

/* ---- Rounds -------------------------------------------------------------- */

/* The best so far, first come; whether it passed: in the paper's way all of its verifications
 * must have finished, too. */
static void pool_choose(struct minke_search *s)
{
    s->choice = 0;
    s->solved = 0;
    for (size_t i = 0; i < s->n_found; i++) {
        const struct mk_candidate *c = &s->found[i];
        const int passed = c->mean > POOL_PASSED
                           && (s->p.preset == MINKE_SEARCH_PRESET_REPOSITORY
                               || c->n_ratings == s->p.n_verifications);

        if (s->choice > 0 && (passed ? s->solved : s->solved || c->mean <= s->score))
            continue;
        s->choice = (uint32_t)i + 1;
        s->score = c->mean;
        s->solved = passed;
    }
}

int32_t mk_search_pool(struct minke_search *s)
{
    for (uint32_t round = 1; round <= s->p.max_rounds && !s->solved; round++) {
        const size_t begin = s->n_found;
        int32_t rc;

        s->round = round;
        rc = begin == 0 ? mk_search_solve(s, s->p.n_first, 0, 0) : pool_refine(s);
        if (rc == MINKE_OK)
            rc = pool_verify(s, begin);
        if (rc < 0)
            return rc;
        pool_choose(s);
        if (s->choice == 0)
            mk_log(&s->env, MINKE_LOG_INFO, "round %u: no proof yet", round);
        else
            mk_log(&s->env, MINKE_LOG_INFO, "round %u: %zu new proofs, %zu in the pool, best mean"
                   " %g", round, s->n_found - begin, s->n_found, s->score);
    }
    return MINKE_OK;
}
