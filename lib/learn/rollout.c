/* Records of what a session does while it writes. */
#include "learn/rollout.h"

#include <string.h>

#include "base/alloc.h"
#include "base/checked.h"
#include "base/json.h"
#include "base/params.h"
#include "sample/sampler.h"
#include "session/session.h"

#define ROLLOUT_ALLOWED 32u          /* ids for each token by default */
/* The size of the params struct in ABI 1. */
#define ROLLOUT_PARAMS_MIN (offsetof(minke_rollout_params, max_allowed) + sizeof(uint64_t))

/* ---- Opening ------------------------------------------------------------ */

void minke_rollout_params_init(minke_rollout_params *params, size_t size)
{
    mk_params_init(params, size);
}

static int32_t rollout_params(minke_rollout_params *p, const minke_context *ctx,
                              const minke_rollout_params *params)
{
    const struct mk_config *c;
    int32_t rc = mk_context_check(ctx);

    if (rc < 0 || (rc = mk_params_read(p, sizeof(*p), params, ROLLOUT_PARAMS_MIN)) < 0)
        return rc;
    c = &ctx->config;
    if (ctx->flags & MINKE_CONTEXT_TOKENIZER_ONLY)
        return mk_fail(MINKE_EUNSUPPORTED, "the context was opened for its tokenizer alone");
    if (p->flags & ~(MINKE_ROLLOUT_NO_ALLOWED | MINKE_ROLLOUT_NO_EXPERTS | MINKE_ROLLOUT_SELECTED))
        return mk_fail(MINKE_EVERSION, "rollout flags 0x%x: unknown bits", p->flags);
    if (p->reserved0 != 0)
        return mk_fail(MINKE_EVERSION, "rollout reserved0 is %u, not 0", p->reserved0);
    if ((p->flags & MINKE_ROLLOUT_SELECTED) && c->index_topk == 0)
        return mk_fail(MINKE_EUNSUPPORTED, "%s has no indexer whose selection could be kept",
                       c->model_type);
    if (p->max_tokens == 0)
        p->max_tokens = c->max_position_embeddings;
    if (p->max_tokens > INT32_MAX)
        return mk_fail(MINKE_EINVAL, "max_tokens %u is above %d", p->max_tokens, INT32_MAX);
    if (p->max_allowed == 0)
        p->max_allowed = (uint64_t)ROLLOUT_ALLOWED * p->max_tokens;
    if (p->flags & MINKE_ROLLOUT_NO_ALLOWED)
        p->max_allowed = 0;
    return MINKE_OK;
}

static void rollout_shape(struct minke_rollout *r, const minke_context *m)
{
    const struct mk_config *c = &m->config;

    r->n_vocab = c->vocab_size;
    r->n_routed = c->n_routed_experts;
    r->trail = (struct mk_trail){.n_layers = c->num_hidden_layers, .top_k = c->index_topk,
                                 .n_experts = c->num_experts_per_tok};
    for (uint32_t l = 0; l < c->num_hidden_layers; l++)
        r->trail.n_moe += m->weights.layers[l].experts != NULL;
    mk_format(r->model_type, sizeof(r->model_type), "%s", c->model_type);
    memcpy(r->identity, m->identity_text, sizeof(r->identity));
}

/* One array of a * b items; counted in *bytes, and made when r is not NULL. */
static int32_t rollout_part(struct minke_rollout *r, void *out, uint64_t a, size_t b, size_t size,
                            uint64_t *bytes)
{
    size_t count;
    void *data;

    if (a > SIZE_MAX || mk_mul(&count, (size_t)a, b) != 0 || count > SIZE_MAX / size
        || count * size > UINT64_MAX - *bytes)
        return mk_fail(MINKE_ENOMEM, "a rollout of %llu items does not fit", (unsigned long long)a);
    *bytes += count * size;
    if (r == NULL || count == 0)
        return MINKE_OK;
    data = mk_alloc(&r->alloc, count, size);
    if (data == NULL)
        return MINKE_ENOMEM;
    memcpy(out, &data, sizeof(data));
    return MINKE_OK;
}

int32_t mk_rollout_layout(struct minke_rollout *r, const minke_context *m,
                          const minke_rollout_params *p, uint64_t *bytes)
{
    struct minke_rollout shape = {.refs = 0}, *to = r != NULL ? r : &shape;
    const struct mk_trail *trail = &to->trail;
    const int experts = !(p->flags & MINKE_ROLLOUT_NO_EXPERTS);
    const uint64_t n = (uint64_t)p->max_tokens + 1;
    size_t row;
    int32_t rc;

    rollout_shape(to, m);
    row = experts ? (size_t)trail->n_moe * trail->n_experts : 0;
    *bytes = sizeof(*r);
    to->p = *p;
    to->capacity = (size_t)n;
    if ((rc = rollout_part(r, &to->tokens, n, 1, sizeof(*to->tokens), bytes)) < 0
        || (rc = rollout_part(r, &to->sampled, n, 1, sizeof(*to->sampled), bytes)) < 0
        || (rc = rollout_part(r, &to->logprobs, n, 1, sizeof(*to->logprobs), bytes)) < 0
        || (rc = rollout_part(r, &to->logprobs_full, n, 1, sizeof(float), bytes)) < 0)
        return rc;
    if (!(p->flags & MINKE_ROLLOUT_NO_ALLOWED)
        && ((rc = rollout_part(r, &to->offsets, n + 1, 1, sizeof(*to->offsets), bytes)) < 0
            || (rc = rollout_part(r, &to->allowed, p->max_allowed, 1, sizeof(*to->allowed),
                                  bytes)) < 0))
        return rc;
    rc = to->n_routed > 256
              ? rollout_part(r, &to->trail.experts16, n, row, sizeof(uint16_t), bytes)
              : rollout_part(r, &to->trail.experts8, n, row, sizeof(uint8_t), bytes);
    if (rc == MINKE_OK && (p->flags & MINKE_ROLLOUT_SELECTED))
        rc = rollout_part(r, &to->trail.selected, n, (size_t)trail->n_layers * trail->top_k,
                          sizeof(int32_t), bytes);
    return rc;
}

int32_t minke_rollout_memory(const minke_context *ctx, const minke_rollout_params *params,
                             uint64_t *bytes)
{
    minke_rollout_params p;
    uint64_t total = 0;
    int32_t rc = rollout_params(&p, ctx, params);

    if (rc < 0)
        return rc;
    if (bytes == NULL)
        return mk_fail(MINKE_EINVAL, "bytes is NULL");
    rc = mk_rollout_layout(NULL, ctx, &p, &total);
    if (rc == MINKE_OK)
        *bytes = total;
    return rc;
}

int32_t minke_rollout_open(minke_rollout **out, const minke_context *ctx,
                           const minke_rollout_params *params)
{
    minke_rollout_params p;
    struct minke_rollout *r;
    uint64_t bytes;
    int32_t rc = rollout_params(&p, ctx, params);

    if (rc < 0)
        return rc;
    if (out == NULL)
        return mk_fail(MINKE_EINVAL, "out is NULL");
    r = mk_alloc(&ctx->env.alloc, 1, sizeof(*r));
    if (r == NULL)
        return MINKE_ENOMEM;
    r->alloc = ctx->env.alloc;
    r->refs = 1;
    rc = mk_rollout_layout(r, ctx, &p, &bytes);
    if (rc < 0)
        goto fail;
    *out = r;
    return MINKE_OK;
fail:
    minke_rollout_free(r);
    return rc;
}

void mk_rollout_unref(struct minke_rollout *r)
{
    struct mk_allocator alloc;

    if (mk_atomic_add(&r->refs, -1) > 0)
        return;
    alloc = r->alloc;
    mk_free(&alloc, r->tokens);
    mk_free(&alloc, r->sampled);
    mk_free(&alloc, r->logprobs);
    mk_free(&alloc, r->logprobs_full);
    mk_free(&alloc, r->offsets);
    mk_free(&alloc, r->allowed);
    mk_free(&alloc, r->trail.experts8);
    mk_free(&alloc, r->trail.experts16);
    mk_free(&alloc, r->trail.selected);
    mk_free(&alloc, r);
}

void minke_rollout_free(minke_rollout *r)
{
    if (r != NULL)
        mk_rollout_unref(r);
}

/* ---- Writing down ------------------------------------------------------- */

/* Token t, of which nothing else is known. */
static void rollout_put(struct minke_rollout *r, size_t t, int32_t token)
{
    r->tokens[t] = token;
    r->sampled[t] = 0;
    r->logprobs[t] = r->logprobs_full[t] = 0.0f;
    if (r->offsets != NULL)
        r->offsets[t + 1] = r->offsets[t];
    r->n = t + 1;
}

static void rollout_evaluated(void *user, const int32_t *tokens, size_t first, size_t n)
{
    struct minke_rollout *r = user;

    if (first > r->n || n > r->capacity - first)
        r->lost = 1;
    for (size_t t = first; !r->lost && t < first + n; t++)
        if (t >= r->n || r->tokens[t] != tokens[t - first])
            rollout_put(r, t, tokens[t - first]);
    if (!r->lost)
        r->n = r->trail.n = first + n;
}

/* Whether r has seen these tokens of a session evaluated. */
static int rollout_holds(const struct minke_rollout *r, const int32_t *tokens, size_t n)
{
    return !r->lost && n <= r->trail.n && memcmp(r->tokens, tokens, n * sizeof(*tokens)) == 0;
}

static void rollout_replaced(void *user, const int32_t *tokens, size_t n)
{
    struct minke_rollout *r = user;

    r->lost = !rollout_holds(r, tokens, n);
}

/* The parameters of the record's first draw are those of all. */
static int32_t rollout_sampling(struct minke_rollout *r, const minke_sampler *sampler)
{
    minke_sampler_params p = *mk_sampler_params(sampler);

    p.struct_size = sizeof(p);
    p.bias_tokens = NULL;
    p.bias_values = NULL;
    if (r->sampling.struct_size != 0 && memcmp(&r->sampling, &p, sizeof(p)) != 0)
        return mk_fail(MINKE_EINVAL, "an earlier token was drawn with other parameters");
    r->sampling = p;
    return MINKE_OK;
}

/* The allowed set of token t, and its probability over it. */
static int32_t rollout_probability(struct minke_rollout *r, size_t t, const float *logits,
                                   const minke_sampler *sampler, int32_t token, float *logprob)
{
    int32_t *row = r->allowed != NULL ? r->allowed + r->offsets[t] : NULL;
    size_t n = 0;
    int32_t rc;

    if (r->offsets == NULL)
        return minke_sampler_logprob(sampler, logprob, NULL);
    rc = minke_sampler_allowed(sampler, row, (size_t)r->p.max_allowed - (size_t)r->offsets[t], &n);
    if (rc == MINKE_ENOSPC)
        return mk_fail(MINKE_EFULL, "the rollout holds %llu of %llu allowed ids, %zu more do not "
                                    "fit", (unsigned long long)r->offsets[t],
                       (unsigned long long)r->p.max_allowed, n);
    const struct mk_sampler_set set = {logits, r->n_vocab, r->sampling.temperature, row, n};

    if (rc == MINKE_OK && mk_sampler_is_plain(&r->sampling))
        rc = mk_sampler_score(logprob, &set, token);
    else if (rc == MINKE_OK)
        rc = minke_sampler_logprob(sampler, logprob, NULL);
    if (rc == MINKE_OK)
        r->offsets[t + 1] = r->offsets[t] + (int64_t)n;
    return rc;
}

static int32_t rollout_sampled(void *user, const struct minke_session *s, const float *logits,
                               const minke_sampler *sampler, int32_t token)
{
    struct minke_rollout *r = user;
    const struct mk_sampler_set all = {s->logits, r->n_vocab, 1.0f, NULL, 0};
    const size_t t = s->length;
    float logprob = 0.0f, full = 0.0f;
    int32_t rc;

    if (r->lost || r->trail.n < t || t >= r->capacity)
        return mk_fail(MINKE_EINVAL, "the session holds %zu tokens that the rollout has not seen",
                       r->lost ? t : t - r->trail.n);
    /* The sampler may have seen the logits with some tokens forbidden. */
    if ((rc = rollout_sampling(r, sampler)) < 0
        || (rc = logits == s->logits
               ? minke_sampler_logprob(sampler, NULL, &full)
               : mk_sampler_score(&full, &all, token)) < 0
        || (rc = rollout_probability(r, t, logits, sampler, token, &logprob)) < 0)
        return rc;
    r->tokens[t] = token;
    r->sampled[t] = 1;
    r->logprobs[t] = logprob;
    r->logprobs_full[t] = full;
    r->n = t + 1;
    r->trail.n = t;              /* less than before where a snapshot went back */
    return MINKE_OK;
}

static void rollout_finished(void *user, int32_t reason)
{
    ((struct minke_rollout *)user)->finish = reason;
}

static void rollout_release(void *user)
{
    mk_rollout_unref(user);
}

int32_t minke_session_record(minke_session *s, minke_rollout *r)
{
    struct mk_recorder recorder = {r, NULL, rollout_evaluated, rollout_replaced, rollout_sampled,
                                   rollout_finished, rollout_release};
    int32_t rc = mk_session_check(s);

    if (rc < 0)
        return rc;
    if (r == NULL) {
        mk_session_set_recorder(&s->recorder, NULL);
        return MINKE_OK;
    }
    if ((rc = mk_rollout_fits(r, s)) < 0)
        return rc;
    if (r->p.max_tokens < s->params.max_tokens)
        return mk_fail(MINKE_EINVAL, "the rollout has room for %u tokens, the session for %u",
                       r->p.max_tokens, s->params.max_tokens);
    if (r->trail.selected != NULL && s->params.attention != MINKE_ATTENTION_DSA)
        return mk_fail(MINKE_EINVAL, "the session does not select tokens");
    if (!rollout_holds(r, s->tokens, s->length))
        return mk_fail(MINKE_EINVAL, "the session holds %zu tokens, which the rollout does not",
                       s->length);
    recorder.trail = &r->trail;
    mk_atomic_add(&r->refs, 1);
    mk_session_set_recorder(&s->recorder, &recorder);
    return MINKE_OK;
}

int32_t minke_rollout_sample(minke_session *s, minke_sampler *sampler, int32_t *token)
{
    const float *logits = NULL;
    int32_t drawn = -1, rc = minke_session_logits(s, &logits, NULL);

    if (rc < 0)
        return rc;
    if (sampler == NULL || token == NULL)
        return mk_fail(MINKE_EINVAL, "sampler or token is NULL");
    if (s->recorder.sampled == NULL)
        return mk_fail(MINKE_EINVAL, "the session is not recorded");
    if ((rc = minke_sampler_sample(sampler, logits, s->model->config.vocab_size, &drawn)) < 0
        || (rc = s->recorder.sampled(s->recorder.user, s, logits, sampler, drawn)) < 0
        || (rc = minke_sampler_accept(sampler, drawn)) < 0)
        return rc;
    *token = drawn;
    return MINKE_OK;
}

int32_t minke_rollout_finish(minke_rollout *r, int32_t reason)
{
    if (r == NULL)
        return mk_fail(MINKE_EINVAL, "rollout is NULL");
    if (reason < MINKE_FINISH_STOP || reason > MINKE_FINISH_FULL)
        return mk_fail(MINKE_EINVAL, "finish reason %d: unknown", reason);
    r->finish = reason;
    return MINKE_OK;
}
