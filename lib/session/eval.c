/* Evaluating: tokens in, chunk by chunk and stage by stage, logits out. */
#include "session/session.h"

#include <string.h>

#include "base/checked.h"

/* ---- What is given ------------------------------------------------------ */

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

/* ---- Stages ------------------------------------------------------------- */

static void session_begin(struct minke_session *s)
{
    s->busy = 1;
    mk_evaluator_begin(&s->evaluator, s->model, &s->seq, &s->cancel);
}

static int32_t session_end(struct minke_session *s, int32_t rc)
{
    s->busy = 0;
    return mk_evaluator_end(&s->evaluator, rc);
}

/* Where logits of every row go, if anywhere. */
struct session_sink {
    float *all;                  /* (n, vocab_size) of the caller */
    minke_row_fn on_row;
    void *user;
};

/* Hidden rows of the chunk, behind that of the token before it, which is then row 0. */
static void session_keep_hidden(struct minke_session *s, size_t n)
{
    const size_t D = s->model->config.hidden_size;
    const float *last = mk_session_hidden(s);
    float *rows = s->hidden;

    if (last != NULL) {
        memmove(mk_session_put_hidden(s), last, D * sizeof(*rows));
        rows += D;
    } else {
        s->hidden_first = s->hidden_end = s->length;
    }
    memcpy(rows, s->evaluator.work.hidden, n * D * sizeof(*rows));
}

/* Cache rows of the prediction layer whose next token is known by now: of the token before
 * the chunk, and of all of the chunk but its last. */
static int32_t session_mtp_rows(struct minke_session *s, size_t n)
{
    struct mk_evaluator *e = &s->evaluator;
    const size_t first = s->length > 0 ? s->length - 1 : 0, rows = s->length + n - 1 - first;

    session_keep_hidden(s, n);
    mk_evaluator_rows(e, &s->seq, first, s->tokens + first + 1, rows);
    return rows > 0 ? mk_mtp_run(&e->f, s->hidden) : MINKE_OK;
}

/* Logits of the chunk's rows, done of them already delivered in this call. */
static int32_t session_deliver(struct minke_session *s, const struct session_sink *sink,
                               size_t done, int last)
{
    struct mk_evaluator *e = &s->evaluator;
    const size_t D = s->model->config.hidden_size, n_vocab = s->model->config.vocab_size;
    const size_t n_rows = s->pending.n, first = s->length - n_rows;
    const float *hidden = e->work.hidden, *row = s->logits;

    if (sink->all != NULL) {
        mk_forward_logits(&e->f, sink->all + done * n_vocab, hidden, n_rows);
        row = sink->all + (done + n_rows - 1) * n_vocab;
    } else if (sink->on_row != NULL) {
        for (size_t i = 0; i < n_rows; i++) {
            row = e->logits + i % MK_LOGIT_ROWS * n_vocab;
            if (i % MK_LOGIT_ROWS == 0)
                mk_forward_logits(&e->f, e->logits, hidden + i * D,
                                  mk_min(MK_LOGIT_ROWS, n_rows - i));
            if (sink->on_row(sink->user, first + i, row, n_vocab) != 0)
                return mk_fail(MINKE_ECANCELED, "stopped by the row callback");
        }
    } else if (last) {
        mk_forward_logits(&e->f, s->logits, hidden + (n_rows - 1) * D, 1);
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
    if (mtp && mk_session_hidden(s) == NULL && s->length > 0)
        s->pending.stage = MK_STAGE_RECOVER;
}

/* Where truncation took the hidden state of the last token kept, which the prediction layer
 * needs, that token runs once more. */
static int32_t session_recover(struct minke_session *s)
{
    struct mk_evaluator *e = &s->evaluator;
    int32_t rc;

    mk_evaluator_rows(e, &s->seq, s->length - 1, s->tokens + s->length - 1, 1);
    e->rows[0].again = 1;
    rc = mk_forward_run(&e->f);
    s->pending.layer = e->f.layer;
    if (rc < 0 || e->f.layer < s->model->config.num_hidden_layers)
        return rc;
    memcpy(mk_session_put_hidden(s), e->work.hidden,
           s->model->config.hidden_size * sizeof(float));
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
static int32_t session_layers(struct minke_session *s, uint64_t budget)
{
    struct mk_session_pending *p = &s->pending;
    struct mk_forward *f = &s->evaluator.f;
    int32_t rc;

    if (p->n == 0) {
        p->n = mk_min(s->params.prefill_chunk, p->queued);
        if (f->deadline != 0)
            p->n = mk_min(p->n, s->pace = mk_max(s->pace, 1));
        p->slowest = 0;
    }
    mk_evaluator_rows(&s->evaluator, &s->seq, s->length, s->tokens + s->length, p->n);
    f->slowest = p->slowest;
    rc = mk_forward_run(f);
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
static int32_t session_commit(struct minke_session *s)
{
    const size_t first = s->length, n = s->pending.n;
    int32_t rc = MINKE_OK;

    if (s->params.flags & MINKE_SESSION_MTP)
        rc = session_mtp_rows(s, n);
    if (rc < 0)
        return rc;
    s->length += n;
    s->hidden_end = s->length;
    if (s->recorder.evaluated != NULL)
        s->recorder.evaluated(s->recorder.user, s->tokens + first, first, n);
    s->pending.stage = MK_STAGE_HEAD;
    return MINKE_OK;
}

/* What the caller gets of the chunk. */
static int32_t session_finish(struct minke_session *s, const struct session_sink *sink)
{
    struct mk_session_pending *p = &s->pending;
    const size_t done = p->total - p->queued;
    int32_t rc = session_deliver(s, sink, done, p->queued == p->n);

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

/* What comes next of a chunk. */
static int32_t session_stage(struct minke_session *s, uint64_t budget,
                             const struct session_sink *sink)
{
    switch (s->pending.stage) {
    case MK_STAGE_RECOVER: return session_recover(s);
    case MK_STAGE_LAYERS: return session_layers(s, budget);
    case MK_STAGE_MTP: return session_commit(s);
    default: return session_finish(s, sink);
    }
}

/* Go on with what is pending until it is done or the deadline (0 = none) is over. */
static int32_t session_work(struct minke_session *s, uint64_t deadline, uint64_t budget,
                            const struct session_sink *sink)
{
    struct mk_forward *f = &s->evaluator.f;
    int32_t rc = MINKE_OK;

    session_begin(s);
    f->deadline = deadline;
    while (rc == MINKE_OK && s->pending.queued > 0) {
        f->layer = s->pending.layer;
        rc = session_stage(s, budget, sink);
        if (deadline != 0 && mk_time_ns() >= deadline)
            break;
    }
    if (rc < 0)
        mk_session_drop(s);
    return session_end(s, rc);
}

/* Append n checked tokens that fit. */
static int32_t session_append(struct minke_session *s, const int32_t *tokens, size_t n,
                              const struct session_sink *sink)
{
    session_queue(s, tokens, n);
    return session_work(s, 0, 0, sink);
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

/* ---- The prediction layer ----------------------------------------------- */

int32_t minke_session_mtp(minke_session *s, int32_t next, float *logits, size_t n)
{
    struct mk_evaluator *e;
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
    session_begin(s);
    /* The layer's row of the last token is a guess until its successor is evaluated, which
     * writes it again. */
    e = &s->evaluator;
    mk_evaluator_rows(e, &s->seq, s->length - 1, &next, 1);
    rc = mk_mtp_run(&e->f, mk_session_hidden(s));
    if (rc == MINKE_OK)
        mk_forward_logits(&e->f, logits, e->work.h, 1);
    return session_end(s, rc);
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
    const int32_t rc = mk_session_usable(s);

    return rc < 0 ? rc : session_work(s, deadline, budget, &sink);
}
