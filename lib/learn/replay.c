/* Following a record: the same experts and selection, and how likely its tokens are now.
 *
 * Reference: DeepSeek-V3.2 arXiv 2512.02556, 3.1: Keep Routing and Keep Sampling Mask. */
#include <string.h>

#include "base/alloc.h"
#include "learn/rollout.h"
#include "sample/sampler.h"
#include "session/session.h"

int32_t mk_rollout_fits(const struct minke_rollout *r, const struct minke_session *s)
{
    const struct mk_config *c = &s->model->config;
    uint32_t n_moe = 0;

    for (uint32_t l = 0; l < c->num_hidden_layers; l++)
        n_moe += s->model->weights.layers[l].experts != NULL;
    if (r->n_vocab != c->vocab_size || r->n_routed != c->n_routed_experts
        || r->trail.n_layers != c->num_hidden_layers || r->trail.n_moe != n_moe
        || r->trail.n_experts != c->num_experts_per_tok || r->trail.top_k != c->index_topk)
        return mk_fail(MINKE_EINVAL, "the rollout is of a model of another shape");
    if (r->lost)
        return mk_fail(MINKE_EINVAL, "the session held tokens that the rollout has not seen");
    return MINKE_OK;
}

/* ---- Routing and selection ---------------------------------------------- */

/* A record's choices as they were when the replay began. */
struct replay {
    struct mk_trail trail;
    struct minke_rollout *r;     /* referenced */
    struct mk_allocator alloc;
};

static void replay_release(void *user)
{
    struct replay *held = user;
    const struct mk_allocator alloc = held->alloc;

    mk_rollout_unref(held->r);
    mk_free(&alloc, held);
}

int32_t minke_session_replay(minke_session *s, const minke_rollout *r, uint32_t flags)
{
    const uint32_t known = MINKE_REPLAY_EXPERTS | MINKE_REPLAY_SELECTED;
    struct mk_recorder recorder = {.release = replay_release};
    struct replay *held;
    int32_t rc = mk_session_check(s);

    if (rc < 0)
        return rc;
    if (flags & ~known)
        return mk_fail(MINKE_EVERSION, "replay flags 0x%x: unknown bits", flags);
    if (r == NULL) {
        mk_session_set_recorder(&s->replay, NULL);
        return MINKE_OK;
    }
    if ((rc = mk_rollout_fits(r, s)) < 0)
        return rc;
    const int experts = r->trail.experts8 != NULL || r->trail.experts16 != NULL;

    if (((flags & MINKE_REPLAY_EXPERTS) && !experts)
        || ((flags & MINKE_REPLAY_SELECTED) && r->trail.selected == NULL))
        return mk_fail(MINKE_EINVAL, "the rollout does not keep %s",
                       experts ? "what was selected" : "experts");
    if (flags == 0)
        flags = known;
    if ((flags & MINKE_REPLAY_SELECTED) && r->trail.selected != NULL
        && s->params.attention != MINKE_ATTENTION_DSA)
        return mk_fail(MINKE_EINVAL, "the session does not select tokens");
    held = mk_alloc(&s->model->env.alloc, 1, sizeof(*held));
    if (held == NULL)
        return MINKE_ENOMEM;
    held->trail = r->trail;
    if (!(flags & MINKE_REPLAY_EXPERTS)) {
        held->trail.experts8 = NULL;
        held->trail.experts16 = NULL;
    }
    if (!(flags & MINKE_REPLAY_SELECTED))
        held->trail.selected = NULL;
    held->alloc = s->model->env.alloc;
    held->r = mk_unconst(r);     /* to count the reference; else it is only read */
    mk_atomic_add(&held->r->refs, 1);
    recorder.user = held;
    recorder.trail = &held->trail;
    mk_session_set_recorder(&s->replay, &recorder);
    return MINKE_OK;
}

/* ---- Probabilities ------------------------------------------------------ */

struct replay_score {
    const struct minke_rollout *r;
    float *logprobs, *full;      /* (n,) */
    int32_t rc;
};

/* Logits of the row at position tell of the token behind it. */
static int32_t replay_row(void *user, uint64_t position, const float *logits, size_t n)
{
    struct replay_score *job = user;
    const struct minke_rollout *r = job->r;
    const size_t t = (size_t)position + 1;
    const size_t begin = r->offsets != NULL ? (size_t)r->offsets[t] : 0;
    const size_t n_allowed = r->offsets != NULL ? (size_t)r->offsets[t + 1] - begin : 0;
    const struct mk_sampler_set set = {logits, n, r->sampling.temperature,
                                       n_allowed > 0 ? r->allowed + begin : NULL, n_allowed};
    const struct mk_sampler_set all = {logits, n, 1.0f, NULL, 0};

    if (!r->sampled[t])
        return 0;
    job->rc = mk_sampler_score(&job->logprobs[t], &set, r->tokens[t]);
    if (job->rc == MINKE_OK)
        job->rc = mk_sampler_score(&job->full[t], &all, r->tokens[t]);
    return job->rc < 0;
}

/* Whether the kept distribution follows from logits and what r keeps. */
static int32_t replay_check(const struct minke_rollout *r, const struct minke_session *s,
                            size_t capacity)
{
    const minke_sampler_params *p = &r->sampling;
    const int cut = p->top_k > 0 || p->min_p > 0.0f || p->temperature == 0.0f
                 || (p->top_p > 0.0f && p->top_p < 1.0f);
    const int32_t rc = mk_rollout_fits(r, s);

    if (rc < 0)
        return rc;
    if (p->struct_size == 0)
        return mk_fail(MINKE_EINVAL, "no token of the rollout was drawn");
    if (!mk_sampler_is_plain(p))
        return mk_fail(MINKE_EUNSUPPORTED, "the rollout was drawn with penalties or a bias");
    if (cut && r->offsets == NULL)
        return mk_fail(MINKE_EUNSUPPORTED, "the rollout was cut and keeps no allowed sets");
    if (s->recorder.user == r)
        return mk_fail(MINKE_EBUSY, "the session writes to this rollout");
    if (capacity < r->n)
        return mk_fail(MINKE_ENOSPC, "%zu tokens, room for %zu", r->n, capacity);
    if (s->params.max_tokens < r->n - 1)
        return mk_fail(MINKE_EFULL, "%zu tokens do not fit the session's %u", r->n - 1,
                       s->params.max_tokens);
    return MINKE_OK;
}

static int32_t replay_eval(struct replay_score *job, minke_session *s)
{
    const struct minke_rollout *r = job->r;
    size_t first = 1;
    int32_t rc = minke_session_truncate(s, 0);

    while (first < r->n && !r->sampled[first])
        first++;
    if (first == r->n)
        return mk_fail(MINKE_EINVAL, "no token of the rollout was drawn");
    if (rc == MINKE_OK && first > 1)
        rc = minke_session_eval(s, r->tokens, first - 1);
    if (rc == MINKE_OK)
        rc = minke_session_eval_rows(s, r->tokens + first - 1, r->n - first, replay_row, job);
    return job->rc < 0 ? job->rc : rc;
}

int32_t minke_rollout_score(const minke_rollout *r, minke_session *s, float *logprobs,
                            float *logprobs_full, size_t capacity)
{
    struct replay_score job = {.r = r};
    int32_t rc = mk_session_check(s);

    if (rc < 0)
        return rc;
    if (r == NULL)
        return mk_fail(MINKE_EINVAL, "rollout is NULL");
    if ((rc = replay_check(r, s, capacity)) < 0)
        return rc;
    job.logprobs = mk_alloc(&r->alloc, 2 * r->n, sizeof(float));
    if (job.logprobs == NULL)
        return MINKE_ENOMEM;
    job.full = job.logprobs + r->n;
    rc = replay_eval(&job, s);
    if (rc == MINKE_OK && logprobs != NULL)
        memcpy(logprobs, job.logprobs, r->n * sizeof(float));
    if (rc == MINKE_OK && logprobs_full != NULL)
        memcpy(logprobs_full, job.full, r->n * sizeof(float));
    mk_free(&r->alloc, job.logprobs);
    return rc;
}
