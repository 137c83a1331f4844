/* From logits to a token. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/checked.h"
#include "base/env.h"
#include "base/error.h"
#include "base/params.h"
#include "sample/sampler.h"

#define SAMPLER_WINDOW 64u

struct sampler_item {
    double value;                  /* logit after bias, penalties, temperature */
    int32_t token;
};

struct minke_sampler {
    struct mk_allocator alloc;     /* the C library's */
    minke_sampler_params params;
    int32_t *bias_tokens;          /* (n_bias,) copies */
    float *bias_values;
    int32_t *window;               /* (penalty_window,) a ring of accepted tokens */
    size_t n_accepted;
    uint64_t state[4];             /* xoshiro256++ */
    struct sampler_item *items;    /* (capacity,) */
    size_t capacity;
    size_t n_items, n_kept;        /* of the last sample: its candidates end items (n_items,) */
    double best;                   /* value of the likeliest */
    int32_t chosen;
    int has_sample;
    float logprob, logprob_full;   /* of the last sample */
};

/* ---- Random numbers ----------------------------------------------------- */

/* Reference: Blackman and Vigna, xoshiro256++ 1.0; seeded by splitmix64 as they advise. */
static uint64_t sampler_splitmix(uint64_t *x)
{
    uint64_t z = (*x += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t sampler_rotate(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

static uint64_t sampler_next(uint64_t s[4])
{
    const uint64_t result = sampler_rotate(s[0] + s[3], 23) + s[0], t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = sampler_rotate(s[3], 45);
    return result;
}

/* In [0, 1), 53 bits. */
static double sampler_uniform(uint64_t s[4])
{
    return (double)(sampler_next(s) >> 11) * (1.0 / 9007199254740992.0);
}

/* ---- Opening ------------------------------------------------------------ */

void minke_sampler_params_init(minke_sampler_params *params, size_t size)
{
    mk_params_init(params, size);
}

static int32_t sampler_range(const char *name, float value, double low, double high)
{
    if (value >= low && value <= high)
        return MINKE_OK;
    return mk_fail(MINKE_EINVAL, "%s is %g, not in [%g, %g]", name, (double)value, low, high);
}

static int32_t sampler_check(const minke_sampler_params *p)
{
    const double big = 1e30;
    int32_t rc;

    if ((rc = sampler_range("temperature", p->temperature, 0, big)) < 0
        || (rc = sampler_range("top_p", p->top_p, 0, 1)) < 0
        || (rc = sampler_range("min_p", p->min_p, 0, 1)) < 0
        || (rc = sampler_range("repetition_penalty", p->repetition_penalty, 0, big)) < 0
        || (rc = sampler_range("presence_penalty", p->presence_penalty, -big, big)) < 0
        || (rc = sampler_range("frequency_penalty", p->frequency_penalty, -big, big)) < 0)
        return rc;
    if (p->n_bias > 0 && (p->bias_tokens == NULL || p->bias_values == NULL))
        return mk_fail(MINKE_EINVAL, "n_bias is %u, but bias_tokens or bias_values is NULL",
                       p->n_bias);
    for (uint32_t i = 0; i < p->n_bias; i++) {
        if (p->bias_tokens[i] < 0)
            return mk_fail(MINKE_EINVAL, "bias_tokens[%u] is %d", i, p->bias_tokens[i]);
        if (!(p->bias_values[i] <= big))
            return mk_fail(MINKE_EINVAL, "bias_values[%u] is %g", i, (double)p->bias_values[i]);
    }
    return MINKE_OK;
}

/* The sampler's own copies of what p points to. */
static int32_t sampler_own(minke_sampler *s, const minke_sampler_params *p)
{
    s->window = mk_alloc(&s->alloc, p->penalty_window, sizeof(*s->window));
    s->bias_tokens = mk_alloc(&s->alloc, p->n_bias, sizeof(*s->bias_tokens));
    s->bias_values = mk_alloc(&s->alloc, p->n_bias, sizeof(*s->bias_values));
    if (s->window == NULL || s->bias_tokens == NULL || s->bias_values == NULL)
        return MINKE_ENOMEM;
    if (p->n_bias > 0) {
        memcpy(s->bias_tokens, p->bias_tokens, p->n_bias * sizeof(*s->bias_tokens));
        memcpy(s->bias_values, p->bias_values, p->n_bias * sizeof(*s->bias_values));
    }
    return MINKE_OK;
}

int32_t minke_sampler_open(minke_sampler **out, const minke_sampler_params *params)
{
    const struct mk_allocator alloc = {NULL, NULL, NULL};
    minke_sampler_params p;
    minke_sampler *s;
    int32_t rc = mk_params_read(&p, sizeof(p), params, sizeof(p));

    if (rc < 0 || (rc = sampler_check(&p)) < 0)
        return rc;
    if (out == NULL)
        return mk_fail(MINKE_EINVAL, "out is NULL");
    p.penalty_window = p.penalty_window > 0 ? p.penalty_window : SAMPLER_WINDOW;
    s = mk_alloc(&alloc, 1, sizeof(*s));
    if (s == NULL)
        return MINKE_ENOMEM;
    s->params = p;
    for (int i = 0; i < 4; i++)
        s->state[i] = sampler_splitmix(&p.seed);
    rc = sampler_own(s, &p);
    if (rc < 0)
        minke_sampler_free(s);
    else
        *out = s;
    return rc;
}

void minke_sampler_free(minke_sampler *sampler)
{
    struct mk_allocator alloc;

    if (sampler == NULL)
        return;
    alloc = sampler->alloc;
    mk_free(&alloc, sampler->bias_tokens);
    mk_free(&alloc, sampler->bias_values);
    mk_free(&alloc, sampler->window);
    mk_free(&alloc, sampler->items);
    mk_free(&alloc, sampler);
}

/* ---- Bias, penalties, temperature --------------------------------------- */

/* Whether the i-th token of the window also occurs before i; *count of all occurrences. */
static int sampler_seen_before(const minke_sampler *s, size_t n, size_t i, size_t *count)
{
    *count = 0;
    for (size_t j = 0; j < n; j++) {
        if (s->window[j] != s->window[i])
            continue;
        if (j < i)
            return 1;
        (*count)++;
    }
    return 0;
}

static void sampler_penalize(const minke_sampler *s, size_t n_vocab)
{
    const minke_sampler_params *p = &s->params;
    const size_t n = mk_min(s->n_accepted, p->penalty_window);
    const double repetition = p->repetition_penalty > 0.0f ? (double)p->repetition_penalty : 1.0;

    if (repetition == 1.0 && p->presence_penalty == 0.0f && p->frequency_penalty == 0.0f)
        return;
    for (size_t i = 0; i < n; i++) {
        size_t count;
        double *v;

        if ((size_t)s->window[i] >= n_vocab || sampler_seen_before(s, n, i, &count))
            continue;
        v = &s->items[s->window[i]].value;
        *v = *v > 0.0 ? *v / repetition : *v * repetition;
        *v -= (double)p->presence_penalty + (double)p->frequency_penalty * (double)count;
    }
}

/* items = logits after bias, penalties and temperature. */
static int32_t sampler_fill(minke_sampler *s, const float *logits, size_t n)
{
    const double temperature = s->params.temperature > 0.0f ? (double)s->params.temperature : 1.0;
    int32_t rc = MINKE_OK;

    if (n > s->capacity)
        rc = mk_grow(&s->alloc, (void **)&s->items, &s->capacity, n, sizeof(*s->items));
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < n; i++)
        s->items[i] = (struct sampler_item){(double)logits[i], (int32_t)i};
    for (uint32_t i = 0; i < s->params.n_bias; i++)
        if ((size_t)s->bias_tokens[i] < n)
            s->items[s->bias_tokens[i]].value += (double)s->bias_values[i];
    sampler_penalize(s, n);
    for (size_t i = 0; i < n; i++)
        s->items[i].value /= temperature;
    return MINKE_OK;
}

/* ---- Choosing ----------------------------------------------------------- */

/* Whether a comes before b: larger value, then lower id. */
static int sampler_before(const struct sampler_item *a, const struct sampler_item *b)
{
    return a->value > b->value || (a->value == b->value && a->token < b->token);
}

/* Restore the heap (best on top) below item i. */
static void sampler_sift(struct sampler_item *heap, size_t n, size_t i)
{
    const struct sampler_item item = heap[i];

    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && sampler_before(&heap[child + 1], &heap[child]))
            child++;
        if (!sampler_before(&heap[child], &item))
            break;
        heap[i] = heap[child];
    }
    heap[i] = item;
}

/* Move the best of heap (n,) to its end; the heap is then one shorter. */
static void sampler_pop(struct sampler_item *heap, size_t n)
{
    const struct sampler_item best = heap[0];

    heap[0] = heap[n - 1];
    heap[n - 1] = best;
    sampler_sift(heap, n - 1, 0);
}

/* Keep what top-k and top-p leave: the best items, best last, at the end of items (n,).
 * Returns how many. */
static size_t sampler_cut(const minke_sampler *s, size_t n, double best)
{
    const minke_sampler_params *p = &s->params;
    const size_t k = p->top_k > 0 && p->top_k < n ? p->top_k : n;
    const double top_p = p->top_p > 0.0f ? (double)p->top_p : 1.0;
    struct sampler_item *items = s->items;
    double total = 0.0, sum = 0.0;
    size_t sorted = 0, kept;

    if (k == n && top_p >= 1.0)
        return n;
    for (size_t i = n / 2; i-- > 0;)
        sampler_sift(items, n, i);
    while (k < n && sorted < k)
        sampler_pop(items, n - sorted++);
    if (top_p >= 1.0)
        return k;
    for (size_t i = 0; i < k; i++)
        total += exp(items[sorted > 0 ? n - 1 - i : i].value - best);
    /* The fewest best tokens that hold top_p of the mass. */
    for (kept = 0; kept < k && sum < top_p * total; kept++) {
        if (kept >= sorted)
            sampler_pop(items, n - kept);
        sum += exp(items[n - 1 - kept].value - best);
    }
    return mk_max(kept, 1);
}

/* Values this far below the best are what min_p leaves. */
static double sampler_least(const minke_sampler *s)
{
    return s->params.min_p > 0.0f ? log((double)s->params.min_p) : -INFINITY;
}

static int sampler_can_draw(const struct sampler_item *item, double best, double least)
{
    return item->value - best >= least && item->value > -INFINITY;
}

/* Draw among items [n - kept, n), those below min_p of the best left out. */
static const struct sampler_item *sampler_draw(minke_sampler *s, size_t n, size_t kept,
                                               double best, double *total)
{
    const double least = sampler_least(s);
    const struct sampler_item *chosen = NULL;
    double sum = 0.0, at;

    for (size_t i = n; i-- > n - kept;)
        if (sampler_can_draw(&s->items[i], best, least))
            sum += exp(s->items[i].value - best);
    *total = sum;
    at = sampler_uniform(s->state) * sum;
    sum = 0.0;
    for (size_t i = n; i-- > n - kept && (chosen == NULL || at >= sum);) {
        if (!sampler_can_draw(&s->items[i], best, least))
            continue;
        chosen = &s->items[i];
        sum += exp(chosen->value - best);
    }
    return chosen;
}

/* ---- Probabilities ------------------------------------------------------ */

static double sampler_value(const struct mk_sampler_set *set, size_t id)
{
    const double v = (double)set->logits[id];

    return set->temperature > 0.0f && set->temperature != 1.0f ? v / (double)set->temperature : v;
}

/* log of the sum of exp(value); MINKE_EINVAL for NaN, +inf or nothing finite. */
static int32_t sampler_log_sum(double *out, const struct mk_sampler_set *set)
{
    const size_t count = set->n_allowed > 0 ? set->n_allowed : set->n;
    double max = -INFINITY, sum = 0.0;

    for (size_t i = 0; i < count; i++) {
        const size_t id = set->n_allowed > 0 ? (size_t)set->allowed[i] : i;
        const double v = sampler_value(set, id);

        if (v != v || v == INFINITY)
            return mk_fail(MINKE_EINVAL, "logit %zu is %g", id, (double)set->logits[id]);
        max = v > max ? v : max;
    }
    if (max == -INFINITY)
        return mk_fail(MINKE_EINVAL, "no token left to choose: all %zu logits are -inf", count);
    for (size_t i = 0; i < count; i++)
        sum += exp(sampler_value(set, set->n_allowed > 0 ? (size_t)set->allowed[i] : i) - max);
    *out = max + log(sum);
    return MINKE_OK;
}

int32_t mk_sampler_score(float *out, const struct mk_sampler_set *set, int32_t token)
{
    double log_sum = 0.0;
    const int32_t rc = sampler_log_sum(&log_sum, set);

    if (rc == MINKE_OK)
        *out = (float)(sampler_value(set, (size_t)token) - log_sum);
    return rc;
}

static int32_t sampler_choose(minke_sampler *s, const float *logits, size_t n, int32_t *token)
{
    const struct sampler_item *best = NULL, *chosen;
    const struct mk_sampler_set all = {logits, n, 1.0f, NULL, 0};
    double log_sum = 0.0, top, total;
    int32_t rc = sampler_log_sum(&log_sum, &all);

    if (rc < 0 || (rc = sampler_fill(s, logits, n)) < 0)
        return rc;
    for (size_t i = 0; i < n; i++)
        if (best == NULL || s->items[i].value > best->value)
            best = &s->items[i];
    if (best->value == -INFINITY)
        return mk_fail(MINKE_EINVAL, "no token left to choose: bias forbids all %zu", n);
    chosen = best;
    total = 1.0;
    top = best->value;
    s->n_items = s->n_kept = n;
    s->best = top;
    if (s->params.temperature > 0.0f) {
        s->n_kept = sampler_cut(s, n, top);
        chosen = sampler_draw(s, n, s->n_kept, top, &total);
    }
    s->chosen = chosen->token;
    s->logprob = (float)(chosen->value - top - log(total));
    s->logprob_full = (float)((double)logits[chosen->token] - log_sum);
    s->has_sample = 1;
    *token = chosen->token;
    return MINKE_OK;
}

int32_t minke_sampler_sample(minke_sampler *sampler, const float *logits, size_t n,
                             int32_t *token)
{
    struct mk_fpu fpu;
    int32_t rc;

    if (sampler == NULL || logits == NULL || token == NULL)
        return mk_fail(MINKE_EINVAL, "sampler, logits or token is NULL");
    if (n == 0 || n > INT32_MAX)
        return mk_fail(MINKE_EINVAL, "%zu logits to choose from", n);
    mk_fpu_enter(&fpu);
    rc = sampler_choose(sampler, logits, n, token);
    mk_fpu_leave(&fpu);
    return rc;
}

int32_t minke_sampler_accept(minke_sampler *sampler, int32_t token)
{
    if (sampler == NULL)
        return mk_fail(MINKE_EINVAL, "sampler is NULL");
    if (token < 0)
        return mk_fail(MINKE_EINVAL, "token is %d", token);
    sampler->window[sampler->n_accepted++ % sampler->params.penalty_window] = token;
    return MINKE_OK;
}

int32_t minke_sampler_logprob(const minke_sampler *sampler, float *chosen, float *chosen_full)
{
    if (sampler == NULL)
        return mk_fail(MINKE_EINVAL, "sampler is NULL");
    if (!sampler->has_sample)
        return mk_fail(MINKE_EINVAL, "nothing was sampled yet");
    if (chosen != NULL)
        *chosen = sampler->logprob;
    if (chosen_full != NULL)
        *chosen_full = sampler->logprob_full;
    return MINKE_OK;
}

/* ---- What could have been drawn ----------------------------------------- */

/* Whether token a comes behind b: lower logits behind higher ones and equals by id, or all by id
 * where there are no logits. */
static int sampler_behind(const float *logits, int32_t a, int32_t b)
{
    if (logits != NULL && logits[a] != logits[b])
        return logits[a] < logits[b];
    return a > b;
}

/* Restore the heap of tokens (the hindmost on top) below item i. */
static void sampler_sink(int32_t *heap, size_t n, size_t i, const float *logits)
{
    const int32_t token = heap[i];

    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && sampler_behind(logits, heap[child + 1], heap[child]))
            child++;
        if (!sampler_behind(logits, heap[child], token))
            break;
        heap[i] = heap[child];
    }
    heap[i] = token;
}

/* Make a heap, and move the hindmost to the end again and again. */
static void sampler_sort(int32_t *tokens, size_t n, const float *logits)
{
    for (size_t i = n / 2; i-- > 0;)
        sampler_sink(tokens, n, i, logits);
    for (size_t left = n; left > 1; left--) {
        const int32_t last = tokens[0];

        tokens[0] = tokens[left - 1];
        tokens[left - 1] = last;
        sampler_sink(tokens, left - 1, 0, logits);
    }
}

/* Stores up to capacity of the tokens that could have been drawn; returns how many there are. */
static size_t sampler_drawable(const minke_sampler *s, int32_t *tokens, size_t capacity)
{
    const double least = sampler_least(s);
    const struct sampler_item *last = s->items + s->n_items;
    size_t count = 0;

    if (s->params.temperature == 0.0f) {
        if (capacity > 0)
            tokens[0] = s->chosen;
        return 1;
    }
    for (const struct sampler_item *item = last - s->n_kept; item < last; item++) {
        if (!sampler_can_draw(item, s->best, least))
            continue;
        if (count < capacity)
            tokens[count] = item->token;
        count++;
    }
    return count;
}

int32_t minke_sampler_allowed(const minke_sampler *sampler, int32_t *tokens, size_t capacity,
                              size_t *n)
{
    if (sampler == NULL || n == NULL || (tokens == NULL && capacity > 0))
        return mk_fail(MINKE_EINVAL, "sampler, tokens or n is NULL");
    if (!sampler->has_sample)
        return mk_fail(MINKE_EINVAL, "nothing was sampled yet");
    const size_t count = sampler_drawable(sampler, tokens, capacity);

    *n = count < sampler->n_items ? count : 0;
    if (*n > capacity)
        return mk_fail(MINKE_ENOSPC, "%zu tokens allowed, room for %zu", *n, capacity);
    sampler_sort(tokens, *n, NULL);
    return MINKE_OK;
}

const minke_sampler_params *mk_sampler_params(const minke_sampler *s)
{
    return &s->params;
}

int mk_sampler_is_plain(const minke_sampler_params *p)
{
    return p->n_bias == 0 && (p->repetition_penalty == 0.0f || p->repetition_penalty == 1.0f)
        && p->presence_penalty == 0.0f && p->frequency_penalty == 0.0f;
}

/* ---- The n best --------------------------------------------------------- */

/* The n best of all tokens, in order. */
static void sampler_best(int32_t *tokens, size_t n, const struct mk_sampler_set *all)
{
    for (size_t i = 0; i < n; i++)
        tokens[i] = (int32_t)i;
    for (size_t i = n / 2; i-- > 0;)
        sampler_sink(tokens, n, i, all->logits);
    for (size_t i = n; i < all->n; i++)
        if (sampler_behind(all->logits, tokens[0], (int32_t)i)) {
            tokens[0] = (int32_t)i;
            sampler_sink(tokens, n, 0, all->logits);
        }
    sampler_sort(tokens, n, all->logits);
}

int32_t minke_logprobs_best(const float *logits, size_t n_vocab, size_t n, int32_t *tokens,
                            float *logprobs)
{
    const struct mk_sampler_set all = {logits, n_vocab, 1.0f, NULL, 0};
    struct mk_fpu fpu;
    double log_sum = 0.0;
    int32_t rc;

    if (logits == NULL || tokens == NULL || logprobs == NULL)
        return mk_fail(MINKE_EINVAL, "logits, tokens or logprobs is NULL");
    if (n == 0 || n > n_vocab || n_vocab > INT32_MAX)
        return mk_fail(MINKE_EINVAL, "the %zu best of %zu tokens", n, n_vocab);
    mk_fpu_enter(&fpu);
    rc = sampler_log_sum(&log_sum, &all);
    if (rc == MINKE_OK) {
        sampler_best(tokens, n, &all);
        for (size_t i = 0; i < n; i++)
            logprobs[i] = (float)((double)logits[tokens[i]] - log_sum);
    }
    mk_fpu_leave(&fpu);
    return rc;
}
