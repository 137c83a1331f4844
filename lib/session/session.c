/* Sessions: append tokens, forget tokens, hand out logits. */
#include "session/session.h"

#include <string.h>

#include "base/checked.h"
#include "base/env.h"
#include "base/params.h"

/* ---- Opening ------------------------------------------------------------ */

void minke_session_params_init(minke_session_params *params, size_t size)
{
    mk_params_init(params, size);
}

/* The size of the params struct in ABI 1. */
#define SESSION_PARAMS_MIN (offsetof(minke_session_params, reserved0) + sizeof(uint32_t))

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

    if (rc < 0 || (rc = mk_params_read(p, sizeof(*p), params, SESSION_PARAMS_MIN)) < 0)
        return rc;
    if (m->flags & MINKE_CONTEXT_TOKENIZER_ONLY)
        return mk_fail(MINKE_EUNSUPPORTED, "the context was opened for its tokenizer alone");
    if (p->flags & ~(MINKE_SESSION_MTP | MINKE_SESSION_NAIVE | MINKE_SESSION_ABSORBED))
        return mk_fail(MINKE_EVERSION, "session flags 0x%x: unknown bits", p->flags);
    if ((p->flags & MINKE_SESSION_NAIVE) && (p->flags & MINKE_SESSION_ABSORBED))
        return mk_fail(MINKE_EINVAL, "session flags: naive and absorbed exclude each other");
    if (p->reserved0 != 0)
        return mk_fail(MINKE_EVERSION, "session reserved0 is %u, not 0", p->reserved0);
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

/* Tokens that the indexer keeps, 0 where it does not run. */
static uint32_t session_topk(const struct minke_session *s, const struct mk_config *c)
{
    return s->params.attention == MINKE_ATTENTION_DSA ? c->index_topk : 0;
}

/* Lay a session of the model m out in the block at base, or with base NULL only count its
 * bytes. */
static int32_t session_layout(struct minke_session *s, const minke_context *m, void *base,
                              size_t *bytes)
{
    const struct mk_config *c = &m->config;
    const size_t max_tokens = s->params.max_tokens;
    struct mk_carve carve = {.base = base};
    struct mk_work_shape shape = {
        .n_rows = s->params.prefill_chunk,
        .max_tokens = max_tokens,
        .n_threads = mk_pool_threads(m->pool),
        .index_topk = session_topk(s, c),
        .mtp = (s->params.flags & MINKE_SESSION_MTP) != 0,
        .index_scores = (s->params.observe & MINKE_OBSERVE_SELECTED) != 0,
        .attend16 = (m->flags & MINKE_CONTEXT_FAST) && m->kernels.attend16,
    };
    int32_t rc;

    s->n_layers = (size_t)c->num_hidden_layers + (shape.mtp ? 1 : 0);
    s->kv = mk_carve(&carve, s->n_layers, sizeof(*s->kv));
    s->tokens = mk_carve(&carve, max_tokens, sizeof(*s->tokens));
    s->logits = mk_carve(&carve, c->vocab_size, sizeof(float));
    s->rows = mk_carve(&carve, (size_t)MK_SESSION_ROWS * c->vocab_size, sizeof(float));
    s->hidden = mk_carve(&carve, c->hidden_size, sizeof(float));
    mk_kv_format_init(&s->kv_format, c, s->params.cache_type, s->params.index_type,
                      shape.index_topk > 0);
    shape.index_type = s->kv_format.index_type;
    mk_cache_init(s->kv, &carve, &s->kv_format, s->n_layers, max_tokens);
    rc = mk_work_init(&s->work, &carve, c, &shape);
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

void mk_session_set_recorder(struct mk_recorder *held, const struct mk_recorder *next)
{
    const struct mk_recorder old = *held;

    *held = next != NULL ? *next : (struct mk_recorder){.user = NULL};
    if (old.release != NULL)
        old.release(old.user);
}

void minke_session_free(minke_session *s)
{
    minke_context *model;

    if (s == NULL || s->busy)
        return;
    model = s->model;
    mk_session_set_recorder(&s->recorder, NULL);
    mk_session_set_recorder(&s->replay, NULL);
    mk_block_free(&s->block, &model->env.alloc);
    mk_free(&model->env.alloc, s);
    mk_context_unref(model);
}

/* ---- Entering and leaving ----------------------------------------------- */

/* Whether the session is there and no callback of its own is calling. */
static int32_t session_usable(const struct minke_session *s)
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
    const int32_t rc = session_usable(s);

    if (rc == MINKE_OK && s->pending.queued > 0)
        return mk_fail(MINKE_EBUSY, "%zu tokens are suspended at layer %u: go on with them, or "
                                    "truncate", s->pending.queued, s->pending.layer);
    return rc;
}

static int32_t session_check_tokens(const struct minke_session *s, const int32_t *tokens,
                                    size_t n)
{
    const uint32_t limit = s->model->config.vocab_size;

    if (tokens == NULL)
        return mk_fail(MINKE_EINVAL, "tokens is NULL");
    if (n == 0)
        return mk_fail(MINKE_EINVAL, "no tokens to evaluate");
    for (size_t i = 0; i < n; i++)
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= limit)
            return mk_fail(MINKE_EINVAL, "token %zu: id %d is not in [0, %u)", i, tokens[i],
                           limit);
    return MINKE_OK;
}

static int32_t session_check_room(const struct minke_session *s, size_t held, size_t n)
{
    if (n > s->params.max_tokens - held)
        return mk_fail(MINKE_EFULL, "%zu tokens held, %zu more do not fit %u", held, n,
                       s->params.max_tokens);
    return MINKE_OK;
}

/* What lives as long as a public call that computes. */
struct session_call {
    uint64_t start;
    struct mk_fpu fpu;
    struct mk_forward f;
};

static void session_enter(struct session_call *call, struct minke_session *s)
{
    const uint32_t flags = s->params.flags;
    const int one_form = (flags & MINKE_SESSION_ABSORBED)
                      || (s->model->flags & MINKE_CONTEXT_DETERMINISTIC);

    *call = (struct session_call){.f = {
        .model = s->model,
        .ops = {.k = &s->model->kernels, .scratch = s->work.scratch,
                .round16 = (s->model->flags & MINKE_CONTEXT_FAST) != 0
                        && !(s->model->flags & MINKE_CONTEXT_DETERMINISTIC),
                .onednn = s->model->onednn,
                .scratch_bytes = s->work.scratch_bytes,
                .watch = s->watch, .watch_user = s->watch_user},
        .work = &s->work,
        .kv = s->kv,
        .form = (flags & MINKE_SESSION_NAIVE) ? MK_FORM_NAIVE
              : one_form ? MK_FORM_ABSORBED : MK_FORM_AUTO,
        .index_topk = session_topk(s, &s->model->config),
        .window = s->params.window,
        .cancel = &s->cancel,
        .observer = s->params.observer,
        .observer_user = s->params.observer_user,
        .observe = s->params.observe,
        .record = s->recorder.trail,
        .replay = s->replay.trail,
    }};
    s->busy = 1;
    call->start = mk_time_ns();
    mk_fpu_enter(&call->fpu);
    mk_team_begin(&call->f.ops.team, s->model->pool);
}

static int32_t session_leave(struct session_call *call, struct minke_session *s, int32_t rc)
{
    mk_team_end(&call->f.ops.team);
    mk_fpu_leave(&call->fpu);
    s->work.times.total += mk_time_ns() - call->start;
    s->busy = 0;
    return rc;
}

/* ---- Evaluating --------------------------------------------------------- */

/* Where logits of every row go, if anywhere. */
struct session_sink {
    float *all;                  /* (n, vocab_size) of the caller */
    minke_row_fn on_row;
    void *user;
};

/* Cache rows of the prediction layer whose next token is known by now: of the token before
 * the chunk, and of all of the chunk but its last. */
static int32_t session_mtp_rows(struct minke_session *s, struct mk_forward *f)
{
    const size_t D = s->model->config.hidden_size, first = f->first, n = f->n;
    const size_t before = first > 0 ? 1 : 0;
    int32_t rc = MINKE_OK;

    if (before)
        memcpy(s->work.hidden, s->hidden, D * sizeof(float));
    f->first = first - before;
    f->n = n - 1 + before;
    if (f->n > 0)
        rc = mk_mtp_run(f, s->work.hidden + (1 - before) * D, s->tokens + f->first + 1);
    f->first = first;
    f->n = n;
    return rc;
}

/* Logits of the chunk's rows, done of them already delivered in this call. */
static int32_t session_deliver(struct minke_session *s, struct mk_forward *f,
                               const struct session_sink *sink, size_t done, int last)
{
    const size_t D = s->model->config.hidden_size, n_vocab = s->model->config.vocab_size;
    const float *hidden = s->work.hidden + D;
    const float *row = s->logits;

    if (sink->all != NULL) {
        mk_forward_logits(f, sink->all + done * n_vocab, hidden, f->n);
        row = sink->all + (done + f->n - 1) * n_vocab;
    } else if (sink->on_row != NULL) {
        for (size_t i = 0; i < f->n; i += MK_SESSION_ROWS) {
            const size_t n = mk_min(MK_SESSION_ROWS, f->n - i);

            mk_forward_logits(f, s->rows, hidden + i * D, n);
            for (size_t j = 0; j < n; j++) {
                row = s->rows + j * n_vocab;
                if (sink->on_row(sink->user, f->first + i + j, row, n_vocab) != 0)
                    return mk_fail(MINKE_ECANCELED, "stopped by the row callback");
            }
        }
    } else if (last) {
        mk_forward_logits(f, s->logits, hidden + (f->n - 1) * D, 1);
    }
    if (last && row != s->logits)
        memcpy(s->logits, row, n_vocab * sizeof(float));
    return MINKE_OK;
}

/* Take n checked tokens that fit, which may be the session's own as minke_session_tokens gives
 * them, for session_work. */
static void session_queue(struct minke_session *s, const int32_t *tokens, size_t n)
{
    const int mtp = (s->params.flags & MINKE_SESSION_MTP) != 0;

    s->has_logits = 0;
    memmove(s->tokens + s->length, tokens, n * sizeof(*tokens));
    s->pending = (struct mk_session_pending){.queued = n, .total = n, .stage = MK_STAGE_LAYERS};
    if (mtp && !s->has_hidden && s->length > 0)
        s->pending.stage = MK_STAGE_RECOVER;
}

/* After truncation the prediction layer lacks the hidden state of the last token kept: that
 * token runs once more, unobserved. */
static int32_t session_recover(struct minke_session *s, struct mk_forward *f)
{
    const size_t D = s->model->config.hidden_size;
    const uint32_t observe = f->observe;
    int32_t rc;

    f->first = s->length - 1;
    f->n = 1;
    f->observe = 0;
    rc = mk_forward_run(f, s->tokens + f->first);
    f->observe = observe;
    s->pending.layer = f->layer;
    if (rc < 0 || f->layer < s->model->config.num_hidden_layers)
        return rc;
    memcpy(s->hidden, s->work.hidden + D, D * sizeof(float));
    s->has_hidden = 1;
    s->pending.layer = 0;
    s->pending.stage = MK_STAGE_LAYERS;
    return MINKE_OK;
}

/* Of rows that suit the budget a layer takes between an eighth and a quarter of it. */
static void session_measure(struct minke_session *s, uint64_t budget)
{
    const struct mk_session_pending *p = &s->pending;

    if (p->slowest < budget / 8 && p->n == s->pace && s->pace < s->params.prefill_chunk)
        s->pace *= 2;
    else if (p->slowest > budget / 4)
        s->pace = mk_max(p->n / 2, 1);
}

/* Layers of a chunk, which begins here. */
static int32_t session_layers(struct minke_session *s, struct mk_forward *f, uint64_t budget)
{
    struct mk_session_pending *p = &s->pending;
    int32_t rc;

    if (p->n == 0) {
        p->n = mk_min(s->params.prefill_chunk, p->queued);
        if (f->deadline != 0)
            p->n = mk_min(p->n, s->pace = mk_max(s->pace, 1));
        p->slowest = 0;
    }
    f->first = s->length;
    f->n = p->n;
    f->slowest = p->slowest;
    rc = mk_forward_run(f, s->tokens + f->first);
    p->layer = f->layer;
    p->slowest = f->slowest;
    if (rc == MINKE_OK && p->layer == s->model->config.num_hidden_layers) {
        p->stage = MK_STAGE_MTP;
        if (f->deadline != 0)
            session_measure(s, budget);
    }
    return rc;
}

/* The rows of the chunk become the session's. */
static int32_t session_commit(struct minke_session *s, struct mk_forward *f)
{
    const size_t D = s->model->config.hidden_size, n = s->pending.n;
    int32_t rc = MINKE_OK;

    f->first = s->length;
    f->n = n;
    if (s->params.flags & MINKE_SESSION_MTP)
        rc = session_mtp_rows(s, f);
    if (rc < 0)
        return rc;
    memcpy(s->hidden, s->work.hidden + n * D, D * sizeof(float));
    s->has_hidden = 1;
    s->length += n;
    if (s->recorder.evaluated != NULL)
        s->recorder.evaluated(s->recorder.user, s->tokens + f->first, f->first, n);
    s->pending.stage = MK_STAGE_HEAD;
    return MINKE_OK;
}

/* What the caller gets of the chunk. */
static int32_t session_finish(struct minke_session *s, struct mk_forward *f,
                              const struct session_sink *sink)
{
    struct mk_session_pending *p = &s->pending;
    const size_t done = p->total - p->queued;
    int32_t rc;

    f->n = p->n;
    f->first = s->length - p->n;
    rc = session_deliver(s, f, sink, done, p->queued == p->n);
    if (rc == MINKE_OK && s->params.progress != NULL
        && s->params.progress(s->params.progress_user, done + p->n, p->total) != 0)
        rc = mk_fail(MINKE_ECANCELED, "stopped by the progress callback");
    p->queued -= p->n;
    p->n = 0;
    p->layer = 0;
    p->stage = MK_STAGE_LAYERS;
    s->has_logits = rc == MINKE_OK && p->queued == 0;
    return rc;
}

/* Go on with what is pending until it is done or the time is over. */
static int32_t session_work(struct minke_session *s, struct mk_forward *f, uint64_t budget,
                            const struct session_sink *sink)
{
    int32_t rc = MINKE_OK;

    while (rc == MINKE_OK && s->pending.queued > 0) {
        f->layer = s->pending.layer;
        switch (s->pending.stage) {
        case MK_STAGE_RECOVER:
            rc = session_recover(s, f);
            break;
        case MK_STAGE_LAYERS:
            rc = session_layers(s, f, budget);
            break;
        case MK_STAGE_MTP:
            rc = session_commit(s, f);
            break;
        default:
            rc = session_finish(s, f, sink);
        }
        if (f->deadline != 0 && mk_time_ns() >= f->deadline)
            break;
    }
    if (rc < 0)
        mk_session_drop(s);
    return rc;
}

/* Append n checked tokens that fit. */
static int32_t session_append(struct minke_session *s, const int32_t *tokens, size_t n,
                              const struct session_sink *sink)
{
    struct session_call call;

    session_enter(&call, s);
    session_queue(s, tokens, n);
    return session_leave(&call, s, session_work(s, &call.f, 0, sink));
}

static int32_t session_eval(struct minke_session *s, const int32_t *tokens, size_t n,
                            const struct session_sink *sink)
{
    int32_t rc = session_check_tokens(s, tokens, n);

    if (rc == MINKE_OK)
        rc = session_check_room(s, s->length, n);
    return rc < 0 ? rc : session_append(s, tokens, n, sink);
}

int32_t minke_session_eval(minke_session *s, const int32_t *tokens, size_t n)
{
    const struct session_sink sink = {NULL, NULL, NULL};
    const int32_t rc = mk_session_check(s);

    return rc < 0 ? rc : session_eval(s, tokens, n, &sink);
}

int32_t minke_session_eval_all(minke_session *s, const int32_t *tokens, size_t n,
                               float *logits, size_t capacity)
{
    const struct session_sink sink = {logits, NULL, NULL};
    const int32_t rc = mk_session_check(s);

    if (rc < 0)
        return rc;
    if (logits == NULL)
        return mk_fail(MINKE_EINVAL, "logits is NULL");
    if (n > capacity / s->model->config.vocab_size)
        return mk_fail(MINKE_ENOSPC, "%zu floats do not hold %zu rows of %u", capacity, n,
                       s->model->config.vocab_size);
    return session_eval(s, tokens, n, &sink);
}

int32_t minke_session_eval_rows(minke_session *s, const int32_t *tokens, size_t n,
                                minke_row_fn on_row, void *user)
{
    const struct session_sink sink = {NULL, on_row, user};
    const int32_t rc = mk_session_check(s);

    if (rc < 0)
        return rc;
    if (on_row == NULL)
        return mk_fail(MINKE_EINVAL, "on_row is NULL");
    return session_eval(s, tokens, n, &sink);
}

/* Forget what is not in tokens; of these, *same stay. */
static int32_t session_common(struct minke_session *s, const int32_t *tokens, size_t n,
                              size_t *same)
{
    int32_t rc = session_check_tokens(s, tokens, n);
    size_t i = 0;

    if (rc < 0 || (rc = session_check_room(s, 0, n)) < 0)
        return rc;
    while (i < n && i < s->length && s->tokens[i] == tokens[i])
        i++;
    if (i == n && (s->length > n || !s->has_logits))
        i--;   /* The last token runs again for its logits. */
    *same = i;
    return minke_session_truncate(s, i);
}

int32_t minke_session_sync(minke_session *s, const int32_t *tokens, size_t n,
                           size_t *n_reused)
{
    const struct session_sink sink = {NULL, NULL, NULL};
    size_t same = 0;
    int32_t rc = mk_session_check(s);

    if (rc < 0 || (rc = session_common(s, tokens, n, &same)) < 0)
        return rc;
    if (same < n)
        rc = session_append(s, tokens + same, n - same, &sink);
    if (rc == MINKE_OK && n_reused != NULL)
        *n_reused = same;
    return rc;
}

int32_t minke_session_truncate(minke_session *s, size_t n)
{
    const int32_t rc = session_usable(s);

    if (rc < 0)
        return rc;
    mk_session_drop(s);
    if (n >= s->length)
        return MINKE_OK;
    s->length = n;
    s->has_logits = 0;
    s->has_hidden = 0;
    return MINKE_OK;
}

/* ---- Steps -------------------------------------------------------------- */

int32_t mk_session_queue(struct minke_session *s, const int32_t *tokens, size_t n,
                         const void *owner)
{
    int32_t rc = mk_session_check(s);

    if (rc < 0 || (rc = session_check_tokens(s, tokens, n)) < 0
        || (rc = session_check_room(s, s->length, n)) < 0)
        return rc;
    session_queue(s, tokens, n);
    s->pending.owner = owner;
    return MINKE_OK;
}

int32_t mk_session_queue_sync(struct minke_session *s, const int32_t *tokens, size_t n,
                              size_t *n_reused, const void *owner)
{
    size_t same = 0;
    int32_t rc = mk_session_check(s);

    if (rc < 0 || (rc = session_common(s, tokens, n, &same)) < 0)
        return rc;
    *n_reused = same;
    if (same < n) {
        session_queue(s, tokens + same, n - same);
        s->pending.owner = owner;
    }
    return MINKE_OK;
}

int32_t mk_session_step(struct minke_session *s, uint64_t deadline, uint64_t budget)
{
    const struct session_sink sink = {NULL, NULL, NULL};
    struct session_call call;
    const int32_t rc = session_usable(s);

    if (rc < 0)
        return rc;
    session_enter(&call, s);
    call.f.deadline = deadline;
    return session_leave(&call, s, session_work(s, &call.f, budget, &sink));
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

int32_t minke_session_mtp(minke_session *s, int32_t next, float *logits, size_t n)
{
    struct session_call call;
    int32_t rc = mk_session_check(s);

    if (rc < 0 || (rc = session_check_tokens(s, &next, 1)) < 0)
        return rc;
    if (!(s->params.flags & MINKE_SESSION_MTP))
        return s->model->weights.mtp == NULL
             ? mk_fail(MINKE_EUNSUPPORTED, "the model has no multi-token-prediction layer")
             : mk_fail(MINKE_EINVAL, "the session was opened without MINKE_SESSION_MTP");
    if (logits == NULL || n < s->model->config.vocab_size)
        return mk_fail(logits == NULL ? MINKE_EINVAL : MINKE_ENOSPC,
                       "%zu floats do not hold %u logits", n, s->model->config.vocab_size);
    if (!s->has_logits)
        return mk_fail(MINKE_EINVAL, "no logits: evaluate a token first");
    session_enter(&call, s);
    /* The layer's row of the last token is a guess until its successor is evaluated, which
     * writes it again. */
    call.f.first = s->length - 1;
    call.f.n = 1;
    rc = mk_mtp_run(&call.f, s->hidden, &next);
    if (rc == MINKE_OK)
        mk_forward_logits(&call.f, logits, s->work.h, 1);
    return session_leave(&call, s, rc);
}

int32_t minke_session_time(const minke_session *s, int32_t key, uint64_t *ns)
{
    const int32_t rc = session_usable(s);

    if (rc < 0)
        return rc;
    if (ns == NULL)
        return mk_fail(MINKE_EINVAL, "ns is NULL");
    switch (key) {
    case MINKE_TIME_TOTAL: *ns = s->work.times.total; return MINKE_OK;
    case MINKE_TIME_INDEX: *ns = s->work.times.index; return MINKE_OK;
    case MINKE_TIME_SELECT: *ns = s->work.times.select; return MINKE_OK;
    case MINKE_TIME_ATTENTION: *ns = s->work.times.attention; return MINKE_OK;
    case MINKE_TIME_FFN: *ns = s->work.times.ffn; return MINKE_OK;
    default: return mk_fail(MINKE_EVERSION, "session time key %d: unknown", key);
    }
}

void minke_session_cancel(minke_session *s)
{
    if (s != NULL)
        mk_atomic_store(&s->cancel, 1);
}
