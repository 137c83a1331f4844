/* The policy objectives of the GRPO family, their gradients and statistics.
 *
 * References: DeepSeekMath arXiv 2402.03300 equation 3 (grpo), DAPO 2503.14476 equations 8 to 13,
 * Dr. GRPO 2503.20783, DeepSeek-V3.2 2512.02556 equations 5 (objective), 7 (unbiased KL) and 9
 * (mask), Olmo 3 2512.13961; truncated importance sampling as Yao et al., "Your Efficient RL
 * Framework Secretly Brings You Off-Policy RL Training", 2025. */
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/env.h"
#include "base/params.h"
#include "base/sort.h"
#include "learn/reward.h"

struct objective_preset {
    const char *name;
    uint32_t advantage, aggregation, kl, filter;
    double clip_low, clip_high;
};

static const struct objective_preset objective_presets[] = {
    {"grpo", MINKE_ADVANTAGE_MEAN_STD, MINKE_AGGREGATION_SEQUENCE_MEAN, MINKE_KL_K3,
     MINKE_FILTER_NONE, 0.2, 0.2},
    {"dapo", MINKE_ADVANTAGE_MEAN_STD, MINKE_AGGREGATION_TOKEN_MEAN, MINKE_KL_K3,
     MINKE_FILTER_DROP, 0.2, 0.28},
    {"dr_grpo", MINKE_ADVANTAGE_MEAN, MINKE_AGGREGATION_CONSTANT_LENGTH, MINKE_KL_K3,
     MINKE_FILTER_NONE, 0.2, 0.2},
    {"olmo3", MINKE_ADVANTAGE_MEAN, MINKE_AGGREGATION_TOKEN_MEAN, MINKE_KL_K3,
     MINKE_FILTER_DROP, 0.2, 0.272},
    {"v3.2", MINKE_ADVANTAGE_MEAN, MINKE_AGGREGATION_SEQUENCE_MEAN, MINKE_KL_UNBIASED,
     MINKE_FILTER_NONE, 0.2, 0.2},
};

/* What is computed of one sequence before any of its tokens is. */
struct objective_row {
    int32_t group;
    uint8_t kept, masked;
    size_t index, begin;     /* in the batch; of its tokens */
    double reward;           /* with overlong shaping */
    double advantage;
    double scale;            /* c: what each of its tokens counts in the loss */
};

struct objective {
    minke_objective_params p;        /* with nothing left to the preset */
    minke_objective_batch b;
    struct objective_row *rows;      /* (n_sequences,) */
    const void **sorted;             /* (n_sequences,) rows by group, then index */
};

/* One token: its terms, each without c. */
struct objective_token {
    double ratio, tis;               /* r, w */
    double policy, kl;               /* -w M min(r A, clip(r) A), D */
    double grad;                     /* of policy + b D by lp */
    int low, high;                   /* clipped there */
};

/* ---- Parameters ---------------------------------------------------------- */

void minke_objective_params_init(minke_objective_params *params, size_t size)
{
    mk_params_init(params, size);
}

void minke_objective_batch_init(minke_objective_batch *batch, size_t size)
{
    mk_params_init(batch, size);
}

void minke_objective_stats_init(minke_objective_stats *stats, size_t size)
{
    mk_params_init(stats, size);
}

static const struct objective_preset *objective_find(const char *name)
{
    for (size_t i = 0; i < MK_COUNT(objective_presets); i++)
        if (strcmp(objective_presets[i].name, name) == 0)
            return &objective_presets[i];
    mk_fail(MINKE_EINVAL, "preset \"%s\": grpo, dapo, dr_grpo, olmo3 or v3.2 expected", name);
    return NULL;
}

static void objective_default(uint32_t *field, uint32_t value)
{
    if (*field == 0)
        *field = value;
}

/* Fill in what is left to the preset. */
static int32_t objective_resolve(minke_objective_params *p)
{
    const struct objective_preset *preset = objective_find(p->preset ? p->preset : "v3.2");
    const uint32_t given = p->given;

    if (preset == NULL)
        return MINKE_EINVAL;
    objective_default(&p->aggregation, p->constant_length != 0 ? MINKE_AGGREGATION_CONSTANT_LENGTH
                                                               : preset->aggregation);
    objective_default(&p->advantage, preset->advantage);
    objective_default(&p->kl, preset->kl);
    objective_default(&p->filter, preset->filter);
    if (p->constant_length == 0)
        p->constant_length = 1;
    if (!(given & MINKE_OBJECTIVE_STD_DDOF))
        p->std_ddof = 0;
    if (!(given & MINKE_OBJECTIVE_STD_EPS))
        p->std_eps = 0;
    if (!(given & MINKE_OBJECTIVE_CLIP_LOW))
        p->clip_low = preset->clip_low;
    if (!(given & MINKE_OBJECTIVE_CLIP_HIGH))
        p->clip_high = preset->clip_high;
    if (!(given & MINKE_OBJECTIVE_OFF_POLICY_DELTA))
        p->off_policy_delta = INFINITY;
    return MINKE_OK;
}

/* After objective_resolve. */
static int32_t objective_check_params(const minke_objective_params *p)
{
    const uint32_t all = 2 * MINKE_OBJECTIVE_OFF_POLICY_DELTA - 1;
    const struct {
        const char *name;
        uint32_t value, max;
    } choices[] = {{"advantage", p->advantage, MINKE_ADVANTAGE_MEAN_STD},
                   {"aggregation", p->aggregation, MINKE_AGGREGATION_CONSTANT_LENGTH},
                   {"kl", p->kl, MINKE_KL_UNBIASED}, {"filter", p->filter, MINKE_FILTER_DROP},
                   {"std_ddof", p->std_ddof, 1}};
    const struct {
        const char *name;
        double value;
        int above, finite;       /* only above 0; not infinity */
    } numbers[] = {{"std_eps", p->std_eps, 0, 1}, {"constant_length", p->constant_length, 1, 1},
                   {"clip_low", p->clip_low, 0, 0}, {"clip_high", p->clip_high, 0, 0},
                   {"tis_cap", p->tis_cap, 0, 0}, {"kl_weight", p->kl_weight, 0, 1}};

    if ((p->given & ~all) != 0)
        return mk_fail(MINKE_EVERSION, "given 0x%x: this build knows 0x%x", p->given, all);
    for (size_t i = 0; i < MK_COUNT(choices); i++)
        if (choices[i].value > choices[i].max)
            return mk_fail(MINKE_EINVAL, "%s is %u, at most %u expected", choices[i].name,
                           choices[i].value, choices[i].max);
    for (size_t i = 0; i < MK_COUNT(numbers); i++) {
        const double v = numbers[i].value;

        if (!(v >= 0) || (numbers[i].above && v <= 0) || (numbers[i].finite && isinf(v)))
            return mk_fail(MINKE_EINVAL, "%s is %g: %s%s expected", numbers[i].name, v,
                           numbers[i].above ? "above 0" : "0 or more",
                           numbers[i].finite ? ", finite" : "");
    }
    if (isnan(p->off_policy_delta))
        return mk_fail(MINKE_EINVAL, "off_policy_delta is nan");
    if (p->overlong_cache > p->overlong_max)
        return mk_fail(MINKE_EINVAL, "overlong_cache is %llu, more than overlong_max, %llu",
                       (unsigned long long)p->overlong_cache,
                       (unsigned long long)p->overlong_max);
    return MINKE_OK;
}

/* ---- Batch --------------------------------------------------------------- */

static int32_t objective_check_pointers(const minke_objective_batch *b)
{
    const int no_tokens = b->n_tokens > 0 && (b->logp == NULL || b->old == NULL);

    if (b->n_sequences == 0)
        return mk_fail(MINKE_EINVAL, "n_sequences is 0");
    if (b->groups == NULL || b->rewards == NULL || b->lengths == NULL || no_tokens)
        return mk_fail(MINKE_EINVAL, "%s is NULL",
                       b->groups == NULL ? "groups" : b->rewards == NULL ? "rewards"
                       : b->lengths == NULL ? "lengths" : b->logp == NULL ? "logp" : "old");
    return MINKE_OK;
}

static int32_t objective_check_lengths(const minke_objective_batch *b)
{
    size_t n = 0, bytes;

    for (size_t i = 0; i < b->n_sequences; i++)
        if (mk_add(&n, n, b->lengths[i]) != 0 || mk_mul(&bytes, n, sizeof(double)) != 0)
            return mk_fail(MINKE_EINVAL, "lengths[%zu] is %zu: the sum overflows", i,
                           b->lengths[i]);
    if (n != b->n_tokens)
        return mk_fail(MINKE_EINVAL, "lengths add up to %zu, but n_tokens is %zu", n,
                       b->n_tokens);
    return MINKE_OK;
}

/* name[i] or, of tokens, name[sequence][t]: all finite. */
static int32_t objective_check_tokens(const minke_objective_batch *b, const char *name,
                                      const double *values)
{
    size_t k = 0;

    if (values == NULL)
        return MINKE_OK;
    for (size_t i = 0; i < b->n_sequences; i++)
        for (size_t t = 0; t < b->lengths[i]; t++, k++)
            if (!isfinite(values[k]))
                return mk_fail(MINKE_EINVAL, "%s[%zu][%zu] is %g", name, i, t, values[k]);
    return MINKE_OK;
}

static double objective_kl_weight(const struct objective *o, size_t i)
{
    if (o->p.kl == MINKE_KL_NONE)
        return 0;
    return o->b.kl_weights != NULL ? o->b.kl_weights[i] : o->p.kl_weight;
}

static int32_t objective_check_batch(const struct objective *o)
{
    const minke_objective_batch *b = &o->b;
    int32_t rc;

    if ((rc = objective_check_lengths(b)) < 0)
        return rc;
    for (size_t i = 0; i < b->n_sequences; i++) {
        if (!isfinite(b->rewards[i]))
            return mk_fail(MINKE_EINVAL, "rewards[%zu] is %g", i, b->rewards[i]);
        if (b->kl_weights != NULL && !(b->kl_weights[i] >= 0 && isfinite(b->kl_weights[i])))
            return mk_fail(MINKE_EINVAL, "kl_weights[%zu] is %g: 0 or more expected", i,
                           b->kl_weights[i]);
        if (b->ref == NULL && b->lengths[i] > 0 && objective_kl_weight(o, i) > 0)
            return mk_fail(MINKE_EINVAL, "ref is NULL, but the KL weight of sequence %zu is %g",
                           i, objective_kl_weight(o, i));
    }
    if ((rc = objective_check_tokens(b, "logp", b->logp)) < 0
        || (rc = objective_check_tokens(b, "old", b->old)) < 0
        || (rc = objective_check_tokens(b, "ref", b->ref)) < 0
        || (rc = objective_check_tokens(b, "rollout", b->rollout)) < 0)
        return rc;
    return MINKE_OK;
}

/* ---- Groups -------------------------------------------------------------- */

static int objective_compare(const void *a, const void *b)
{
    const struct objective_row *x = a, *y = b;

    if (x->group != y->group)
        return x->group < y->group ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static void objective_rows(struct objective *o)
{
    size_t begin = 0;

    for (size_t i = 0; i < o->b.n_sequences; i++) {
        struct objective_row *row = &o->rows[i];

        *row = (struct objective_row){.group = o->b.groups[i], .index = i, .begin = begin};
        row->reward = o->b.rewards[i];
        if (o->p.overlong_max > 0)
            row->reward += mk_reward_overlong(o->b.lengths[i], o->p.overlong_max,
                                              o->p.overlong_cache);
        o->sorted[i] = row;
        begin += o->b.lengths[i];
    }
    mk_sort(o->sorted, o->b.n_sequences, objective_compare);
}

/* The row of this place in the order of groups. */
static struct objective_row *objective_at(const struct objective *o, size_t k)
{
    return &o->rows[((const struct objective_row *)o->sorted[k])->index];
}

/* Place behind the group that begins at place first. */
static size_t objective_group_end(const struct objective *o, size_t first)
{
    size_t end = first + 1;

    while (end < o->b.n_sequences && objective_at(o, end)->group == objective_at(o, first)->group)
        end++;
    return end;
}

/* Whether the group at [first, end) of the order has equal rewards: as given, or shaped.  Told by
 * comparison: their rounded mean may differ from them, which divided by a std as small would be
 * anything. */
static int objective_equal(const struct objective *o, size_t first, size_t end, int shaped)
{
    double lowest = INFINITY, highest = -INFINITY;

    for (size_t k = first; k < end; k++) {
        const struct objective_row *row = objective_at(o, k);
        const double r = shaped ? row->reward : o->b.rewards[row->index];

        lowest = fmin(lowest, r);
        highest = fmax(highest, r);
    }
    return lowest >= highest;
}

/* A of the group at [first, end) of the order, which stays 0 where rewards are equal. */
static int32_t objective_advantages(const struct objective *o, size_t first, size_t end)
{
    const double n = (double)(end - first);
    const double shift = objective_at(o, first)->reward;
    double mean = 0, square = 0, divisor = 1;

    for (size_t k = first; k < end; k++)
        mean += (objective_at(o, k)->reward - shift) / n;
    for (size_t k = first; k < end; k++) {
        struct objective_row *row = objective_at(o, k);

        row->advantage = row->reward - shift - mean;
        square += row->advantage * row->advantage;
    }
    if (o->p.advantage == MINKE_ADVANTAGE_MEAN_STD)
        divisor = sqrt(square / (n - o->p.std_ddof)) + o->p.std_eps;
    if (!isfinite(divisor))
        return mk_fail(MINKE_EINVAL, "rewards[%zu] is %g: the deviation of group %d overflows",
                       objective_at(o, first)->index, shift, objective_at(o, first)->group);
    for (size_t k = first; k < end; k++) {
        struct objective_row *row = objective_at(o, k);

        row->advantage /= divisor;
        if (!isfinite(row->advantage))
            return mk_fail(MINKE_EINVAL, "rewards[%zu] is %g: the advantages of group %d overflow",
                           row->index, row->reward, row->group);
    }
    return MINKE_OK;
}

/* Advantages, and what is dropped.  scale: for now 1 / tokens of the group. */
static int32_t objective_groups(const struct objective *o, minke_objective_stats *s)
{
    size_t end;

    for (size_t first = 0; first < o->b.n_sequences; first = end) {
        size_t tokens = 0;
        int32_t rc;

        end = objective_group_end(o, first);
        const int dropped = o->p.filter == MINKE_FILTER_DROP && objective_equal(o, first, end, 0);
        const int equal = objective_equal(o, first, end, 1);

        if (!equal && (rc = objective_advantages(o, first, end)) < 0)
            return rc;
        s->groups++;
        s->zero_variance_groups += (uint64_t)equal;
        s->dropped_groups += (uint64_t)dropped;
        for (size_t k = first; k < end; k++)
            tokens += o->b.lengths[objective_at(o, k)->index];
        for (size_t k = first; k < end; k++) {
            struct objective_row *row = objective_at(o, k);

            row->kept = !dropped;
            row->scale = tokens > 0 ? 1.0 / (double)tokens : 0;
            if (dropped)
                row->advantage = 0;
        }
        s->sequences += dropped ? 0 : end - first;
        s->tokens += dropped ? 0 : tokens;
    }
    return MINKE_OK;
}

/* c of each row, and V3.2's mask M: (1 / |o|) sum of (rollout - lp) > delta where A < 0. */
static void objective_weights(const struct objective *o, minke_objective_stats *s)
{
    const double *rollout = o->b.rollout != NULL ? o->b.rollout : o->b.old;
    const double n = (double)s->sequences;

    for (size_t i = 0; i < o->b.n_sequences; i++) {
        struct objective_row *row = &o->rows[i];
        const size_t length = o->b.lengths[i];
        double drift = 0;

        if (!row->kept || length == 0)
            continue;
        for (size_t t = row->begin; t < row->begin + length; t++)
            drift += rollout[t] - o->b.logp[t];
        s->off_policy_kl += drift;
        row->masked = row->advantage < 0 && drift / (double)length > o->p.off_policy_delta;
        s->masked_sequences += row->masked;
        if (o->p.aggregation == MINKE_AGGREGATION_SEQUENCE_MEAN)
            row->scale = 1 / (n * (double)length);
        else if (o->p.aggregation == MINKE_AGGREGATION_TOKEN_MEAN)
            row->scale = 1 / (double)s->tokens;
        else if (o->p.aggregation == MINKE_AGGREGATION_GROUP_TOKENS)
            row->scale /= (double)(s->groups - s->dropped_groups);
        else
            row->scale = 1 / (n * o->p.constant_length);
    }
}

/* ---- Tokens -------------------------------------------------------------- */

/* D and its derivative by lp. */
static double objective_kl(uint32_t kind, double ratio, double lp, double ref, double *grad)
{
    const double x = lp - ref;
    double k3;

    if (kind == MINKE_KL_K1) {
        *grad = 1;
        return x;
    }
    if (kind == MINKE_KL_K2) {
        *grad = x;
        return x * x / 2;
    }
    k3 = expm1(-x) + x;                  /* exp(-x) + x - 1 */
    if (kind == MINKE_KL_K3) {
        *grad = -expm1(-x);              /* 1 - exp(-x) */
        return k3;
    }
    *grad = ratio * x;                   /* r (k3 + 1 - exp(-x)) */
    return ratio * k3;
}

static void objective_token(const struct objective *o, const struct objective_row *row, size_t t,
                            struct objective_token *out)
{
    const minke_objective_params *p = &o->p;
    const double lp = o->b.logp[t], old = o->b.old[t], a = row->advantage;
    const double r = exp(lp - old), b = objective_kl_weight(o, row->index);
    double bounded = r, kl_grad = 0;

    out->ratio = r;
    out->tis = 1;
    if (p->tis_cap > 0)
        out->tis = fmin(o->b.rollout != NULL ? exp(old - o->b.rollout[t]) : 1, p->tis_cap);
    /* min(r A, clip(r) A) is bounded above for A > 0 and below for A < 0. */
    out->high = a > 0 && r > 1 + p->clip_high;
    out->low = a < 0 && r < 1 - p->clip_low;
    if (out->high)
        bounded = 1 + p->clip_high;
    if (out->low)
        bounded = 1 - p->clip_low;
    out->policy = row->masked || !(a < 0 || a > 0) ? 0 : -out->tis * bounded * a;
    out->grad = out->high || out->low ? 0 : out->policy;     /* dr / dlp = r */
    out->kl = 0;
    if (o->b.ref != NULL && p->kl != MINKE_KL_NONE)
        out->kl = objective_kl(p->kl, r, lp, o->b.ref[t], &kl_grad);
    if (b > 0)
        out->grad += b * kl_grad;
}

static void objective_count(minke_objective_stats *s, const struct objective_token *k,
                            double tis_cap)
{
    s->kl += k->kl;
    s->ratio_mean += k->ratio;
    s->tis_mean += k->tis;
    s->tis_fraction += tis_cap > 0 && k->tis >= tis_cap;
    s->clip_fraction_low += k->low;
    s->clip_fraction_high += k->high;
}

/* Sums over all tokens.  Every one is looked at before an output is written. */
static int32_t objective_sum(const struct objective *o, minke_objective_stats *s)
{
    struct objective_token k;

    for (size_t i = 0; i < o->b.n_sequences; i++) {
        const struct objective_row *row = &o->rows[i];
        const double b = objective_kl_weight(o, i);
        double policy = 0, kl = 0;

        for (size_t t = 0; row->kept && t < o->b.lengths[i]; t++) {
            objective_token(o, row, row->begin + t, &k);
            if (!isfinite(k.ratio) || !isfinite(k.kl) || !isfinite(k.grad * row->scale)
                || !isfinite(k.policy) || !isfinite(k.tis))
                return mk_fail(MINKE_EINVAL, "logp[%zu][%zu] is %g, old %g, ref %g: overflow", i,
                               t, o->b.logp[row->begin + t], o->b.old[row->begin + t],
                               o->b.ref != NULL ? o->b.ref[row->begin + t] : 0.0);
            policy += k.policy;
            kl += k.kl;
            objective_count(s, &k, o->p.tis_cap);
        }
        s->policy_loss += policy * row->scale;
        if (b > 0)
            s->kl_loss += b * kl * row->scale;
    }
    if (!isfinite(s->policy_loss + s->kl_loss) || !isfinite(s->kl) || !isfinite(s->ratio_mean)
        || !isfinite(s->off_policy_kl) || !isfinite(s->tis_mean))
        return mk_fail(MINKE_EINVAL, "the loss, %g, or a mean overflows",
                       s->policy_loss + s->kl_loss);
    return MINKE_OK;
}

/* From sums to means. */
static void objective_means(const struct objective *o, minke_objective_stats *s)
{
    const double tokens = s->tokens > 0 ? (double)s->tokens : 1;

    s->kl /= tokens;
    s->ratio_mean /= tokens;
    s->tis_mean /= tokens;
    s->tis_fraction /= tokens;
    s->clip_fraction_low /= tokens;
    s->clip_fraction_high /= tokens;
    s->off_policy_kl /= tokens;
    for (size_t i = 0; i < o->b.n_sequences; i++)
        s->reward_mean += o->rows[i].reward / (double)o->b.n_sequences;
}

/* ---- The call ------------------------------------------------------------ */

static void objective_write(const struct objective *o, double *grad, double *advantages)
{
    for (size_t i = 0; i < o->b.n_sequences; i++) {
        const struct objective_row *row = &o->rows[i];

        if (advantages != NULL)
            advantages[i] = row->advantage;
        for (size_t t = row->begin; grad != NULL && t < row->begin + o->b.lengths[i]; t++) {
            struct objective_token k = {.grad = 0};

            if (row->kept)
                objective_token(o, row, t, &k);
            grad[t] = k.grad * row->scale;
        }
    }
}

static int32_t objective_run(struct objective *o, double *loss, double *grad, double *advantages,
                             minke_objective_stats *stats)
{
    minke_objective_stats s = {.struct_size = sizeof(s)};
    uint32_t size = 0;
    int32_t rc;

    if (stats != NULL)
        memcpy(&size, stats, sizeof(size));
    if (stats != NULL && size < sizeof(s))
        return mk_fail(MINKE_EINVAL, "struct_size %u of stats: %zu or more expected", size,
                       sizeof(s));
    objective_rows(o);
    if ((rc = objective_groups(o, &s)) < 0)
        return rc;
    objective_weights(o, &s);
    if ((rc = objective_sum(o, &s)) < 0)
        return rc;
    objective_means(o, &s);
    objective_write(o, grad, advantages);
    *loss = s.policy_loss + s.kl_loss;
    if (stats != NULL) {
        s.struct_size = size;
        memcpy(stats, &s, sizeof(s));
    }
    return MINKE_OK;
}

int32_t minke_objective(const minke_objective_params *params, const minke_objective_batch *batch,
                        double *loss, double *grad, double *advantages,
                        minke_objective_stats *stats)
{
    const struct mk_allocator a = {NULL, NULL, NULL};
    struct objective o = {.rows = NULL};
    struct mk_fpu fpu;
    int32_t rc;

    if (batch == NULL || loss == NULL)
        return mk_fail(MINKE_EINVAL, "%s is NULL", batch == NULL ? "batch" : "loss");
    if ((rc = mk_params_read(&o.p, sizeof(o.p), params, sizeof(o.p))) < 0
        || (rc = mk_params_read(&o.b, sizeof(o.b), batch, sizeof(o.b))) < 0)
        return rc;
    mk_fpu_enter(&fpu);
    if ((rc = objective_resolve(&o.p)) < 0 || (rc = objective_check_params(&o.p)) < 0
        || (rc = objective_check_pointers(&o.b)) < 0 || (rc = objective_check_batch(&o)) < 0)
        goto end;
    rc = MINKE_ENOMEM;
    o.rows = mk_alloc(&a, o.b.n_sequences, sizeof(*o.rows));
    o.sorted = mk_alloc(&a, o.b.n_sequences, sizeof(*o.sorted));
    if (o.rows != NULL && o.sorted != NULL)
        rc = objective_run(&o, loss, grad, advantages, stats);
    mk_free(&a, o.rows);
    mk_free(&a, o.sorted);
end:
    mk_fpu_leave(&fpu);
    return rc;
}
