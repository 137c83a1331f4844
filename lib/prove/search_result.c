/* What a search found, as JSON. */
#include <string.h>

#include "base/error.h"
#include "prove/search.h"

static const char *const result_drivers[] = {"sequential", "pool", "vote", "best", "longest"};

/* A number, null where it is negative. */
static void result_number(struct mk_text *t, const char *name, double v)
{
    char buffer[32];

    mk_text_adds(t, ", \"");
    mk_text_adds(t, name);
    mk_text_adds(t, "\": ");
    if (v < 0)
        mk_text_adds(t, "null");
    else
        mk_text_add(t, buffer, mk_number_write(buffer, v));
}

static void result_count(struct mk_text *t, const char *name, uint64_t v)
{
    char buffer[64];

    mk_text_add(t, buffer, mk_format(buffer, sizeof(buffer), ", \"%s\": %llu", name,
                                     (unsigned long long)v));
}

static void result_text(struct mk_text *t, const char *name, struct mk_view v)
{
    mk_text_adds(t, ", \"");
    mk_text_adds(t, name);
    mk_text_adds(t, "\": ");
    mk_text_add_quoted(t, v.data, v.len);
}

static void result_ratings(struct mk_text *t, const struct minke_search *s,
                           const struct mk_candidate *c)
{
    int analysed = 0;

    mk_text_adds(t, ", \"ratings\": [");
    for (uint32_t i = 0; i < c->n_ratings; i++) {
        const struct mk_rating *r = &s->ratings[c->first_rating + i];
        char buffer[32];

        analysed |= r->quality >= 0;
        mk_text_adds(t, i > 0 ? ", " : "");
        mk_text_add(t, buffer, mk_number_write(buffer, r->score));
    }
    mk_text_adds(t, "]");
    for (uint32_t i = 0; analysed && i < c->n_ratings; i++) {
        const struct mk_rating *r = &s->ratings[c->first_rating + i];
        char buffer[32];

        mk_text_adds(t, i > 0 ? ", " : ", \"qualities\": [");
        if (r->quality < 0)
            mk_text_adds(t, "null");
        else
            mk_text_add(t, buffer, mk_number_write(buffer, r->quality));
        mk_text_adds(t, i + 1 == c->n_ratings ? "]" : "");
    }
}

static void result_candidate(struct mk_text *t, const struct minke_search *s, size_t i)
{
    const struct mk_candidate *c = &s->found[i];
    char buffer[64];

    mk_text_add(t, buffer, mk_format(buffer, sizeof(buffer), "%s{\"id\": %zu", i > 0 ? ", " : "",
                                     i + 1));
    result_count(t, "round", c->round);
    result_count(t, "chain", c->chain);
    if (c->parent > 0)
        result_count(t, "parent", c->parent);
    result_number(t, "self_score", c->self_score);
    if (s->p.driver == MINKE_SEARCH_POOL) {
        result_number(t, "mean", c->mean);
        result_ratings(t, s, c);
    }
    if (s->p.driver == MINKE_SEARCH_VOTE)
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
    mk_text_adds(t, "{\"driver\": \"");
    mk_text_adds(t, result_drivers[s->p.driver]);
    mk_text_adds(t, s->solved ? "\", \"solved\": true" : "\", \"solved\": false");
    mk_text_adds(t, s->finished ? ", \"finished\": true" : ", \"finished\": false");
    result_count(t, "rounds", s->round);
    result_count(t, "requests", s->n_requests);
    result_count(t, "completions", s->n_taken);
    result_count(t, "unfinished", n_unfinished);
    result_count(t, "unreadable", s->n_unreadable);
    if (s->choice > 0) {
        result_count(t, "best", s->choice);
        result_number(t, "score", s->score);
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
    int32_t rc = MINKE_OK;

    if (s == NULL || n_out == NULL || (text == NULL && capacity > 0))
        return mk_fail(MINKE_EINVAL, "search, text or n_out is NULL");
    if (s->busy)
        return mk_fail(MINKE_EBUSY, "the search is running");
    mk_text_init(&t, &s->env.alloc);
    result_write(&t, s);
    if (t.failed) {
        rc = mk_fail_memory(t.len, "the result");
    } else {
        *n_out = t.len;
        if (t.len > capacity)
            rc = mk_fail(MINKE_ENOSPC, "%zu bytes, room for %zu", t.len, capacity);
        else
            memcpy(text, t.data, t.len);
    }
    mk_text_free(&t);
    return rc;
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
