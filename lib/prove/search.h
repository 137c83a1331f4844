/* Searching for a proof: what was asked and answered, the proofs made of it, and its journal.
 *
 * A search is a function of its settings and of the completions in their order.  It keeps the
 * completions; a run begins at the beginning, takes those that are there, and asks the host for
 * what is missing.  So it is resumed from memory and from a journal alike. */
#ifndef MK_SEARCH_H
#define MK_SEARCH_H

#include "base/env.h"
#include "base/file.h"
#include "prove/proof.h"

/* What the host answered. */
struct mk_completion {
    struct mk_view text;        /* without reasoning; empty when unfinished */
    uint64_t n_thinking;
    uint32_t request, index;     /* of the request, and in it */
    int32_t reason;              /* MINKE_FINISH_* */
};

struct mk_rating {
    struct mk_view text;
    double score;                /* in [0, 1] */
    double quality;              /* mean of the analyses of it, -1 = none */
};

struct mk_candidate {
    struct mk_view solution, evaluation;   /* the latter may be empty */
    struct mk_view answer;      /* last box of the solution, or else all of it */
    double self_score;           /* -1 = none */
    double mean;                 /* of its ratings, -1 = none */
    uint64_t hash, n_thinking;
    uint32_t round, chain;       /* from 1, from 0 */
    uint32_t parent;             /* index + 1 of what it was made from, 0 = nothing */
    uint32_t n_ratings;
    size_t first_rating;
    uint32_t n_votes;
};

/* Something to be sorted: by a, then b, then key, all ascending. */
struct mk_order {
    double a, b;
    uint64_t key;
    size_t index;
};

struct minke_search {
    struct mk_env env;
    minke_search_params p;       /* with nothing left at 0 that has a default; texts are copies */
    struct mk_arena arena;       /* as long as the search: texts given and taken */
    struct mk_arena derived;     /* as long as a run */
    struct mk_view problem;
    struct mk_prompts prompts;
    uint64_t prompts_hash, n_bytes;

    minke_complete_fn complete;  /* of this run */
    void *user;
    struct mk_completion *taken; /* (n_taken,) */
    size_t n_taken, max_taken;
    size_t next;                 /* of these, used by this run */
    uint32_t n_requests;         /* of this run */

    struct mk_candidate *found;  /* (n_found,) */
    size_t n_found, max_found;
    struct mk_rating *ratings;
    size_t n_ratings, max_ratings;
    struct mk_order *order;      /* (n_order,) */
    const void **sorted;         /* (n_order,) pointers into order, in their order */
    size_t n_order, max_order, max_sorted;
    size_t *best;                /* (n_best,) candidates to be refined */
    size_t n_best, max_best;
    struct mk_view *shown;      /* (n_shown,) evaluations in the next prompt */
    size_t n_shown, max_shown;
    size_t n_unreadable;         /* finished, but without both sections */
    uint32_t round;
    uint32_t choice;             /* index + 1 of the best, 0 = none */
    double score;                /* of the best */
    int solved, finished, busy;

    struct mk_append *journal;   /* at p.journal; NULL = none */
    uint64_t journal_check;      /* of its last line */
};

/* ---- search.c ---- */

#define MK_SEARCH_DRIVERS 5

/* By MINKE_SEARCH_DRIVER_*. */
extern const struct mk_search_driver {
    const char *name;
    int32_t (*run)(struct minke_search *s);
    int distinct;               /* solutions that are there already are left out */
    int whole;                  /* what has no sections is a solution as a whole */
} mk_search_drivers[MK_SEARCH_DRIVERS];

/* The i-th of the settings that decide what a search asks for, which are all uint32_t: its name,
 * NULL behind the last, and *value. */
const char *mk_search_setting(const minke_search_params *p, size_t i, uint32_t *value);

/* Room for need items in one of the arrays above, whose pointer stands at items. */
int32_t mk_search_grow(struct minke_search *s, void *items, size_t *capacity, size_t need,
                       size_t item_size);

/* Keep a completion that came or was read; its text is copied. */
int32_t mk_search_keep(struct minke_search *s, const struct mk_completion *c);

/* Show an evaluation in the next prompt, beside those that are shown already. */
int32_t mk_search_show(struct minke_search *s, struct mk_view evaluation);

/* Ask for n completions: *first is the first of them in taken.  proof, and what is shown, go into
 * the prompt; behind it nothing is shown. */
int32_t mk_search_request(struct minke_search *s, int32_t ask, uint32_t n, struct mk_view proof,
                          size_t *first);

/* Ask for n solutions, each made from parent (0 = first ones) in its chain, counted on from
 * chain, and keep those that have what the driver needs. */
int32_t mk_search_solve(struct minke_search *s, uint32_t n, uint32_t parent, uint32_t chain);

/* Order n items, whose order[0..n) is filled in except for index. */
int32_t mk_search_order(struct minke_search *s, size_t n);
void mk_search_sort(struct minke_search *s);

/* A random number that depends on the seed and these alone. */
uint64_t mk_search_random(const struct minke_search *s, uint64_t a, uint64_t b, uint64_t c);

/* ---- search_pool.c, search_chain.c ---- */

int32_t mk_search_pool(struct minke_search *s);
int32_t mk_search_sequential(struct minke_search *s);
int32_t mk_search_sample(struct minke_search *s);

/* ---- search_journal.c ---- */

/* Read what the journal at s->p.journal holds, and open it for more. */
int32_t mk_journal_open(struct minke_search *s);
int32_t mk_journal_add(struct minke_search *s, const struct mk_completion *c);

#endif
