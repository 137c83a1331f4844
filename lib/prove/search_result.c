/* What a search found, as JSON. */
#include "base/error.h"
#include "prove/search.h"

/* A number, null where it is negative. */
static void result_number(struct mk_text *t, double v)
{
    char buffer[32] = "null";

    if (v >= 0)
        mk_number_write(buffer, v);
    mk_text_adds(t, buffer);
}

static void result_real(struct mk_text *t, const char *name, double v)
{
    mk_text_addf(t, ", \"%s\": ", name);
    result_number(t, v);
}

static void result_count(struct mk_text *t, const char *name, uint64_t v)
{
    mk_text_addf(t, ", \"%s\": %llu", name, (unsigned long long)v);
}

static void result_text(struct mk_text *t, const char *name, struct mk_view v)
{
    mk_text_addf(t, ", \"%s\": ", name);
    mk_text_add_quoted(t, v.data, v.len);
}

static void result_ratings(struct mk_text *t, const struct minke_search *s,
                           const struct mk_candidate *c)
{
    const size_t end = c->first_rating + c->n_ratings;
    int analysed = 0;

    mk_text_adds(t, ", \"ratings\": [");
    for (size_t i = c->first_rating; i < end; i++) {
        analysed |= s->ratings[i].quality >= 0;
        mk_text_adds(t, i > c->first_rating ? ", " : "");
        result_number(t, s->ratings[i].score);
    }
    mk_text_adds(t, "]");
    for (size_t i = c->first_rating; analysed && i < end; i++) {
        mk_text_adds(t, i > c->first_rating ? ", " : ", \"qualities\": [");
        result_number(t, s->ratings[i].quality);
    }
    mk_text_adds(t, analysed ? "]" : "");
}

static void result_candidate(struct mk_text *t, const struct minke_search *s, size_t i)
{
    const struct mk_candidate *c = &s->found[i];

    mk_text_addf(t, "%s{\"id\": %zu", i > 0 ? ", " : "", i + 1);
    result_count(t, "round", c->round);
    result_count(t, "chain", c->chain);
    if (c->parent > 0)
        result_count(t, "parent", c->parent);
    result_real(t, "self_score", c->self_score);
    if (s->p.driver == MINKE_SEARCH_DRIVER_POOL) {
        result_real(t, "mean", c->mean);
        result_ratings(t, s, c);
    }
    if (s->p.driver == MINKE_SEARCH_DRIVER_VOTE)
        result_count(t, "votes", c->n_votes);
    result_count(t, "thinking", c->n_thinking);
    result_text(t, "solution", c->solution);
    result_text(t, "evaluation", c->evaluation);
    mk_text_adds(t, "}");
}

static void result_write(struct mk_text *t, const struct minke_search *s)
{
    uint64_t n_unfinished = 0;

    for (size_t i = 0; i < s->n_taken; i++)
        n_unfinished += s->taken[i].reason != MINKE_FINISH_STOP;
    mk_text_addf(t, "{\"driver\": \"%s\", \"solved\": %s, \"finished\": %s",
                 mk_search_drivers[s->p.driver].name, s->solved ? "true" : "false",
                 s->finished ? "true" : "false");
    result_count(t, "rounds", s->round);
    result_count(t, "requests", s->n_requests);
    result_count(t, "completions", s->n_taken);
    result_count(t, "unfinished", n_unfinished);
    result_count(t, "unreadable", s->n_unreadable);
    if (s->choice > 0) {
        result_count(t, "best", s->choice);
        result_real(t, "score", s->score);
        result_text(t, "answer", s->found[s->choice - 1].answer);
    } else {
        mk_text_adds(t, ", \"best\": null, \"score\": null, \"answer\": null");
    }
    mk_text_adds(t, ", \"proofs\": [");
    for (size_t i = 0; i < s->n_found; i++)
        result_candidate(t, s, i);
    mk_text_adds(t, "]}");
}

int32_t minke_search_result(const minke_search *s, char *text, size_t capacity, size_t *n_out)
{
    struct mk_text t;

    if (s == NULL || n_out == NULL || (text == NULL && capacity > 0))
        return mk_fail(MINKE_EINVAL, "search, text or n_out is NULL");
    if (s->busy)
        return mk_fail(MINKE_EBUSY, "the search is running");
    mk_text_init(&t, &s->env.alloc);
    result_write(&t, s);
    return mk_text_deliver(&t, text, capacity, n_out);
}

int32_t minke_search_best(const minke_search *s, const char **solution, size_t *solution_len,
                          double *score)
{
    if (s == NULL || solution == NULL || solution_len == NULL)
        return mk_fail(MINKE_EINVAL, "search, solution or solution_len is NULL");
    if (s->busy)
        return mk_fail(MINKE_EBUSY, "the search is running");
    *solution = s->choice > 0 ? s->found[s->choice - 1].solution.data : NULL;
    *solution_len = s->choice > 0 ? s->found[s->choice - 1].solution.len : 0;
    if (score != NULL)
        *score = s->choice > 0 ? s->score : -1;
    return MINKE_OK;
}
