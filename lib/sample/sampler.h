/* What records of samples need of samplers. */
#ifndef MK_SAMPLER_H
#define MK_SAMPLER_H

#include <stddef.h>
#include <stdint.h>

#include "minke.h"

/* As given when it was opened, defaults filled in; the pointers are the sampler's own. */
const minke_sampler_params *mk_sampler_params(const minke_sampler *s);

/* Whether the distribution follows from the logits, the temperature and the allowed tokens alone:
 * no penalties, no bias. */
int mk_sampler_is_plain(const minke_sampler_params *p);

/* Logits, of which some tokens count, at a temperature. */
struct mk_sampler_set {
    const float *logits;         /* (n,) */
    size_t n;
    float temperature;           /* 0 counts as 1 */
    const int32_t *allowed;      /* (n_allowed,) ascending; n_allowed 0: all n tokens */
    size_t n_allowed;
};

/* *out = log softmax(logits / temperature)[token] over the set.  Sums run by ascending token, so
 * that equal inputs give equal bits; over all tokens at temperature 1 those of
 * minke_sampler_logprob's chosen_full.  MINKE_EINVAL: NaN or +infinity among the logits, or none
 * finite. */
int32_t mk_sampler_score(float *out, const struct mk_sampler_set *set, int32_t token);

#endif
