/* Sessions: open, forget tokens, hand out what they hold. */
#include "session/session.h"

#include <string.h>

#include "base/checked.h"
#include "base/params.h"

/* ---- Opening ------------------------------------------------------------ */

void minke_session_params_init(minke_session_params *params, size_t size)
{
    mk_params_init(params, size);
}

/* Which past tokens attention sees. */
static int32_t session_params_attention(minke_session_params *p, const minke_context *m)
{
    if (p->attention > MINKE_ATTENTION_DSA)
        return mk_fail(MINKE_EVERSION, "attention %u: this build knows 0 to %d", p->attention,
                       MINKE_ATTENTION_DSA);
    if (p->attention == MINKE_ATTENTION_DSA && m->config.index_topk == 0)
        return mk_fail(MINKE_EUNSUPPORTED, "attention: %s has no indexer, which DSA needs",
                       m->config.model_type);
    if ((p->attention == MINKE_ATTENTION_WINDOW) != (p->window > 0))
        return mk_fail(MINKE_EINVAL, p->window > 0 ? "window: attention is not by window"
                                                   : "window: 0 tokens, at least 1 expected");
    if (p->attention == MINKE_ATTENTION_DEFAULT)
        p->attention = m->config.index_topk > 0 ? MINKE_ATTENTION_DSA : MINKE_ATTENTION_DENSE;
    return MINKE_OK;
}

/* Defaults and limits of params for this model. */
static int32_t session_params(minke_session_params *p, const minke_context *m,
                              const minke_session_params *params)
{
    int32_t rc = mk_context_check(m);

    if (rc < 0 || (rc = mk_params_read(p, sizeof(*p), params, sizeof(*p))) < 0)
        return rc;
    if (m->flags & MINKE_CONTEXT_TOKENIZER_ONLY)
        return mk_fail(MINKE_EUNSUPPORTED, "the context was opened for its tokenizer alone");
    if (p->flags & ~(MINKE_SESSION_MTP | MINKE_SESSION_NAIVE | MINKE_SESSION_ABSORBED))
        return mk_fail(MINKE_EVERSION, "session flags 0x%x: unknown bits", p->flags);
    if ((p->flags & MINKE_SESSION_NAIVE) && (p->flags & MINKE_SESSION_ABSORBED))
        return mk_fail(MINKE_EINVAL, "session flags: naive and absorbed exclude each other");
    if (p->observe & ~(MINKE_OBSERVE_EXPERTS | MINKE_OBSERVE_SELECTED | MINKE_OBSERVE_RESIDUAL))
        return mk_fail(MINKE_EVERSION, "observe 0x%x: unknown bits", p->observe);
    if ((p->flags & MINKE_SESSION_MTP) && m->weights.mtp == NULL)
        return mk_fail(MINKE_EUNSUPPORTED, "the model has no multi-token-prediction layer");
    if (p->max_tokens == 0)
        p->max_tokens = m->config.max_position_embeddings;
    if (p->max_tokens > INT32_MAX)
        return mk_fail(MINKE_EINVAL, "max_tokens %u is above %d", p->max_tokens, INT32_MAX);
    if (p->prefill_chunk == 0)
        p->prefill_chunk = MK_SESSION_CHUNK;
    if (p->prefill_chunk > p->max_tokens)
        p->prefill_chunk = p->max_tokens;
    if (p->observer == NULL)
        p->observe = 0;
    if (p->cache_type > MINKE_CACHE_NATIVE || p->index_type > MINKE_INDEX_NATIVE)
        return mk_fail(MINKE_EVERSION, "cache_type %u, index_type %u: this build knows 0 to %d",
                       p->cache_type, p->index_type, MINKE_CACHE_NATIVE);
    return session_params_attention(p, m);
}

/* The host's observer, row by row. */
static int32_t session_observe(void *user, const struct mk_seen *seen)
{
    const minke_session_params *p = &((struct minke_session *)user)->params;
    int32_t stop = 0;

    if ((p->observe & MINKE_OBSERVE_SELECTED) && seen->selected != NULL)
        stop = p->observer(p->observer_user, MINKE_OBSERVE_SELECTED, seen->layer, seen->pos,
                           seen->selected, seen->scores, seen->n_selected);
    if (!stop && (p->observe & MINKE_OBSERVE_EXPERTS) && seen->experts != NULL)
        stop = p->observer(p->observer_user, MINKE_OBSERVE_EXPERTS, seen->layer, seen->pos,
                           seen->experts, seen->expert_weights, seen->n_experts);
    if (!stop && (p->observe & MINKE_OBSERVE_RESIDUAL))
        stop = p->observer(p->observer_user, MINKE_OBSERVE_RESIDUAL, seen->layer, seen->pos, NULL,
                           seen->residual, seen->hidden_size);
    return stop ? mk_fail(MINKE_ECANCELED, "stopped by the observer at layer %u", seen->layer)
                : MINKE_OK;
}

/* What the params say of attention, and who listens. */
static void session_sequence(struct minke_session *s, const minke_context *m)
{
    const minke_session_params *p = &s->params;
    const int one_form = (p->flags & MINKE_SESSION_ABSORBED)
                      || (m->flags & MINKE_CONTEXT_DETERMINISTIC);

    s->seq.form = p->flags & MINKE_SESSION_NAIVE ? MK_FORM_NAIVE
                : one_form ? MK_FORM_ABSORBED : MK_FORM_AUTO;
    s->seq.index_topk = p->attention == MINKE_ATTENTION_DSA ? m->config.index_topk : 0;
    s->seq.window = p->window;
    s->observer = (struct mk_tap){.user = s, .scores = (p->observe & MINKE_OBSERVE_SELECTED) != 0,
                                  .seen = session_observe};
    s->seq.taps = p->observe != 0 ? &s->observer : NULL;
}

/* Lay a session of the model m out in the block at base, or with base NULL only count its
 * bytes. */
static int32_t session_layout(struct minke_session *s, const minke_context *m, void *base,
                              size_t *bytes)
{
    const struct mk_config *c = &m->config;
    const size_t max_tokens = s->params.max_tokens;
    const int mtp = (s->params.flags & MINKE_SESSION_MTP) != 0;
    struct mk_carve carve = {.base = base};
    struct mk_work_shape shape = {
        .n_rows = s->params.prefill_chunk,
        .max_tokens = max_tokens,
        .n_threads = mk_pool_threads(m->pool),
        .mtp = mtp,
        .index_scores = (s->params.observe & MINKE_OBSERVE_SELECTED) != 0,
        .attend16 = (m->flags & MINKE_CONTEXT_FAST) && m->kernels.attend16,
    };
    int32_t rc;

    session_sequence(s, m);
    shape.index_topk = s->seq.index_topk;
    s->n_layers = (size_t)c->num_hidden_layers + (mtp ? 1 : 0);
    s->seq.kv = mk_carve(&carve, s->n_layers, sizeof(*s->seq.kv));
    s->tokens = mk_carve(&carve, max_tokens, sizeof(*s->tokens));
    s->logits = mk_carve(&carve, c->vocab_size, sizeof(float));
    if (mtp)
        s->hidden = mk_carve2(&carve, shape.n_rows + 1, c->hidden_size, sizeof(float));
    mk_kv_format_init(&s->kv_format, c, s->params.cache_type, s->params.index_type,
                      shape.index_topk > 0);
    shape.index_type = s->kv_format.index_type;
    mk_kv_layout(s->seq.kv, &carve, &s->kv_format, s->n_layers, max_tokens);
    rc = mk_evaluator_layout(&s->evaluator, &carve, m, &shape);
    if (rc == MINKE_OK)
        *bytes = carve.size;
    return rc;
}

int32_t minke_session_memory(const minke_context *ctx, const minke_session_params *params,
                             uint64_t *bytes)
{
    struct minke_session s = {.model = NULL};
    size_t block;
    int32_t rc = session_params(&s.params, ctx, params);

    if (rc < 0)
        return rc;
    if (bytes == NULL)
        return mk_fail(MINKE_EINVAL, "bytes is NULL");
    rc = session_layout(&s, ctx, NULL, &block);
    if (rc == MINKE_OK)
        *bytes = (uint64_t)block + sizeof(s);
    return rc;
}

int32_t minke_session_open(minke_session **out, minke_context *ctx,
                           const minke_session_params *params)
{
    minke_session_params p;
    struct minke_session *s;
    size_t bytes = 0;
    int32_t rc = session_params(&p, ctx, params);

    if (rc < 0)
        return rc;
    if (out == NULL)
        return mk_fail(MINKE_EINVAL, "out is NULL");
    s = mk_alloc(&ctx->env.alloc, 1, sizeof(*s));
    if (s == NULL)
        return MINKE_ENOMEM;
    s->model = ctx;
    mk_context_ref(ctx);
    s->params = p;
    rc = session_layout(s, ctx, NULL, &bytes);
    if (rc == MINKE_OK)
        rc = mk_block_alloc(&s->block, &s->model->env.alloc, bytes);
    if (rc < 0)
        goto fail;
    session_layout(s, ctx, s->block.data, &bytes);
    *out = s;
    return MINKE_OK;
fail:
    minke_session_free(s);
    return rc;
}

/* Link the taps of all who go along. */
static void session_link_taps(struct minke_session *s)
{
    struct mk_recorder *const recorders[] = {&s->recorder, &s->replay};

    s->seq.taps = s->params.observe != 0 ? &s->observer : NULL;
    for (size_t i = 0; i < MK_COUNT(recorders); i++) {
        recorders[i]->tap.next = s->seq.taps;
        if (recorders[i]->user != NULL)
            s->seq.taps = &recorders[i]->tap;
    }
}

void mk_session_set_recorder(struct minke_session *s, struct mk_recorder *held,
                             const struct mk_recorder *next)
{
    const struct mk_recorder old = *held;

    *held = next != NULL ? *next : (struct mk_recorder){.user = NULL};
    session_link_taps(s);
    if (old.release != NULL)
        old.release(old.user);
}

void minke_session_free(minke_session *s)
{
    minke_context *model;

    if (s == NULL || s->busy)
        return;
    model = s->model;
    mk_session_set_recorder(s, &s->recorder, NULL);
    mk_session_set_recorder(s, &s->replay, NULL);
    mk_block_free(&s->block, &model->env.alloc);
    mk_free(&model->env.alloc, s);
    mk_context_unref(model);
}

/* ---- Checks ------------------------------------------------------------- */

/* Whether the session is there and no callback of its own is calling. */
int32_t mk_session_usable(const struct minke_session *s)
{
    int32_t rc;

    if (s == NULL)
        return mk_fail(MINKE_EINVAL, "session is NULL");
    rc = mk_context_check(s->model);
    if (rc < 0)
        return rc;
    return s->busy ? mk_fail(MINKE_EBUSY, "the session is in use by the calling callback")
                   : MINKE_OK;
}

int32_t mk_session_check(const struct minke_session *s)
{
    const int32_t rc = mk_session_usable(s);

    if (rc == MINKE_OK && s->pending.queued > 0)
        return mk_fail(MINKE_EBUSY, "%zu tokens are suspended at layer %u: go on with them, or "
                                    "truncate", s->pending.queued, s->pending.layer);
    return rc;
}

/* ---- Hidden states -------------------------------------------------------- */

float *mk_session_hidden(const struct minke_session *s)
{
    const size_t D = s->model->config.hidden_size;

    return s->length > s->hidden_first && s->length <= s->hidden_end
         ? s->hidden + (s->length - 1 - s->hidden_first) * D : NULL;
}

float *mk_session_put_hidden(struct minke_session *s)
{
    s->hidden_first = s->length - 1;
    s->hidden_end = s->length;
    return s->hidden;
}

/* ---- Forgetting --------------------------------------------------------- */

int32_t minke_session_truncate(minke_session *s, size_t n)
{
    const int32_t rc = mk_session_usable(s);

    if (rc < 0)
        return rc;
    mk_session_drop(s);
    if (n >= s->length)
        return MINKE_OK;
    s->length = n;
    s->hidden_end = mk_min(s->hidden_end, n);
    s->has_logits = 0;
    return MINKE_OK;
}

void mk_session_drop(struct minke_session *s)
{
    s->pending = (struct mk_session_pending){.queued = 0};
}

/* ---- Reading ------------------------------------------------------------ */

size_t minke_session_length(const minke_session *s)
{
    return s == NULL ? 0 : s->length;
}

const int32_t *minke_session_tokens(const minke_session *s)
{
    return s == NULL ? NULL : s->tokens;
}

int32_t minke_session_logits(const minke_session *s, const float **logits, size_t *n)
{
    const int32_t rc = mk_session_check(s);

    if (rc < 0)
        return rc;
    if (logits == NULL)
        return mk_fail(MINKE_EINVAL, "logits is NULL");
    if (!s->has_logits)
        return mk_fail(MINKE_EINVAL, "no logits: evaluate a token first");
    *logits = s->logits;
    if (n != NULL)
        *n = s->model->config.vocab_size;
    return MINKE_OK;
}

int32_t minke_session_time(const minke_session *s, int32_t key, uint64_t *ns)
{
    const int32_t rc = mk_session_usable(s);

    if (rc < 0)
        return rc;
    if (ns == NULL)
        return mk_fail(MINKE_EINVAL, "ns is NULL");
    switch (key) {
    case MINKE_TIME_TOTAL: *ns = s->evaluator.work.times.total; return MINKE_OK;
    case MINKE_TIME_INDEX: *ns = s->evaluator.work.times.index; return MINKE_OK;
    case MINKE_TIME_SELECT: *ns = s->evaluator.work.times.select; return MINKE_OK;
    case MINKE_TIME_ATTENTION: *ns = s->evaluator.work.times.attention; return MINKE_OK;
    case MINKE_TIME_FFN: *ns = s->evaluator.work.times.ffn; return MINKE_OK;
    default: return mk_fail(MINKE_EVERSION, "session time key %d: unknown", key);
    }
}

void minke_session_cancel(minke_session *s)
{
    if (s != NULL)
        mk_atomic_store(&s->cancel, 1);
}
