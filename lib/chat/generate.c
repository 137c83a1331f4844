/* Replies from a prompt to their end: prefill, draw, read, stop; at once or in steps. */
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/env.h"
#include "base/params.h"
#include "base/utf8.h"
#include "session/session.h"
#include "chat/reply.h"
#include "text/tokenizer.h"

struct minke_generator {
    minke_session *s;
    minke_sampler *sampler;
    struct mk_allocator a;
    struct mk_arena arena;         /* copies of what the caller gave */
    minke_reply *reply;
    minke_generate_params p;
    int32_t eos, think_end, calls; /* tokens, or -1 */
    int32_t *forced;               /* the closing sentence and </think> */
    size_t n_forced, at_forced;    /* of these, to be taken, and taken */
    size_t n_closing;              /* length of forced */
    float *masked;                 /* (vocab_size,) for a minimum of thinking */
    int32_t *ids;                  /* (max_ids,) what was taken */
    size_t n_ids, max_ids, n_thinking;
    size_t n_prompt, n_reused;
    int32_t reason;                /* MINKE_FINISH_*, 0 while it goes on */
    int waiting;                   /* tokens are queued in the session */
    size_t length;                 /* of the session between steps */
    int busy;
};

void minke_generate_params_init(minke_generate_params *params, size_t size)
{
    mk_params_init(params, size);
}

/* ---- Opening ------------------------------------------------------------ */

static int32_t generate_params(minke_generate_params *p, const minke_generate_params *given)
{
    const int32_t rc = mk_params_read(p, sizeof(*p), given, sizeof(*p));

    if (rc < 0)
        return rc;
    if ((p->flags & ~MINKE_GENERATE_PLAIN) != 0 || p->thinking > MINKE_THINKING_OFF)
        return mk_fail(MINKE_EVERSION, "flags 0x%x or thinking %u unknown", p->flags, p->thinking);
    if (p->max_thinking > 0 && p->min_thinking > p->max_thinking)
        return mk_fail(MINKE_EINVAL, "min_thinking %u is above max_thinking %u", p->min_thinking,
                       p->max_thinking);
    if ((p->n_stops > 0 && p->stops == NULL) || (p->n_stop_tokens > 0 && p->stop_tokens == NULL)
        || (p->closing_len > 0 && p->closing == NULL))
        return mk_fail(MINKE_EINVAL, "stops, stop_tokens or closing is NULL");
    return MINKE_OK;
}

/* Copies of the texts and tokens that end the reply. */
static int32_t generate_stops(struct minke_generator *g)
{
    minke_generate_params *p = &g->p;
    size_t *lens = mk_arena_alloc(&g->arena, p->n_stops + 1, sizeof(*lens));
    char **texts = mk_arena_alloc(&g->arena, p->n_stops + 1, sizeof(*texts));
    int32_t *tokens = mk_arena_alloc(&g->arena, p->n_stop_tokens + 1, sizeof(*tokens));

    if (lens == NULL || texts == NULL || tokens == NULL)
        return MINKE_ENOMEM;
    for (size_t i = 0; i < p->n_stops; i++) {
        const char *text = p->stops[i];

        if (text == NULL)
            return mk_fail(MINKE_EINVAL, "stop %zu is NULL", i);
        lens[i] = p->stop_lens != NULL ? p->stop_lens[i] : strlen(text);
        if (lens[i] == 0 || mk_utf8_valid(text, lens[i]) != lens[i])
            return mk_fail(MINKE_EINVAL, "stop %zu is %s", i, lens[i] == 0 ? "empty" : "not UTF-8");
        if ((texts[i] = mk_arena_text(&g->arena, text, lens[i])) == NULL)
            return MINKE_ENOMEM;
    }
    if (p->n_stop_tokens > 0)
        memcpy(tokens, p->stop_tokens, p->n_stop_tokens * sizeof(*tokens));
    p->stop_tokens = tokens;
    mk_reply_set_stops(g->reply, &(struct mk_reply_stops){(const char *const *)texts, lens,
                                                          p->n_stops});
    return MINKE_OK;
}

/* The tokens that end the reasoning when its cap is reached. */
static int32_t generate_closing(struct minke_generator *g, const struct mk_tokenizer *tok)
{
    const size_t len = g->p.closing_len;
    struct mk_text text;
    const struct mk_span plain = {0, len};
    size_t n = 0;
    int32_t rc;

    mk_text_init(&text, &g->a);
    mk_text_add(&text, g->p.closing, len);
    mk_text_adds(&text, MK_CHAT_THINK_END);
    g->forced = mk_arena_alloc(&g->arena, text.len, sizeof(*g->forced));
    const struct mk_tokenize in = {mk_text_view(&text), MINKE_TOKENIZE_SPECIAL, &plain, len > 0};

    rc = text.failed || g->forced == NULL ? MINKE_ENOMEM
       : mk_tokenizer_encode(tok, &in, g->forced, text.len, &n);
    mk_text_free(&text);
    g->n_closing = n;
    return rc;
}

static int32_t generate_thinking(struct minke_generator *g, const struct mk_tokenizer *tok)
{
    const uint32_t n_vocab = g->s->model->config.vocab_size;

    if (!minke_reply_thinking(g->reply))
        return MINKE_OK;
    if (g->p.min_thinking > 0) {
        if (g->think_end < 0 || (uint32_t)g->think_end >= n_vocab)
            return mk_fail(MINKE_EUNSUPPORTED, "min_thinking: the model has no token "
                                               MK_CHAT_THINK_END);
        g->masked = mk_arena_alloc(&g->arena, n_vocab, sizeof(float));
        if (g->masked == NULL)
            return MINKE_ENOMEM;
    }
    return g->p.max_thinking > 0 ? generate_closing(g, tok) : MINKE_OK;
}

/* Whether the prompt ends where no reasoning begins: behind </think>, or behind the results of
 * tools, which all encodings but V3.2 answer as they stand. */
static int generate_answers(const struct minke_generator *g, const struct mk_tokenizer *tok,
                            const int32_t *prompt, size_t n)
{
    static const char *const ends[] = {MK_CHAT_THINK_END, MK_CHAT_OUTPUT_END, MK_CHAT_OUTPUTS_END};

    if (n == 0) {
        prompt = g->s->tokens;
        n = g->s->length;
    }
    for (size_t i = 0; n > 0 && i < MK_COUNT(ends); i++) {
        const int32_t id = mk_tokenizer_find(tok, mk_view(ends[i]));

        if (id >= 0 && prompt[n - 1] == id)
            return 1;
    }
    return 0;
}

static int32_t generate_tokens_of(struct minke_generator *g, const int32_t *prompt, size_t n)
{
    const struct mk_tokenizer *tok = mk_context_tokenizer(g->s->model);
    int64_t eos = -1;

    if (tok == NULL)
        return MINKE_EUNSUPPORTED;
    minke_context_info(g->s->model, MINKE_INFO_TOKEN_EOS, &eos);
    g->eos = (int32_t)eos;
    g->think_end = mk_tokenizer_find(tok, mk_view(MK_CHAT_THINK_END));
    g->calls = mk_tokenizer_find(tok, mk_view(MK_CHAT_CALLS));
    if (generate_answers(g, tok, prompt, n))
        mk_reply_answers(g->reply);
    return generate_thinking(g, tok);
}

static int32_t generate_reply(struct minke_generator *g)
{
    const int is_plain = (g->p.flags & MINKE_GENERATE_PLAIN) != 0;
    minke_reply_params p;
    int32_t rc;

    minke_reply_params_init(&p, sizeof(p));
    p.thinking = g->p.thinking;
    p.encoding = is_plain ? "deepseek-v2" : g->p.encoding;
    p.on_event = g->p.on_event;
    p.user = g->p.user;
    rc = minke_reply_open(&g->reply, g->s->model, &p);
    if (rc == MINKE_OK && is_plain)
        mk_reply_plain(g->reply);
    return rc;
}

/* What the session makes of the prompt, and room for the reply. */
static int32_t generate_prompt(struct minke_generator *g, const int32_t *prompt, size_t n)
{
    const size_t room = g->s->params.max_tokens;
    int32_t rc = MINKE_OK;

    if (n == 0 && !g->s->has_logits)
        return mk_fail(MINKE_EINVAL, "no prompt, and no logits to go on from");
    g->n_prompt = n > 0 ? n : g->s->length;
    if (g->n_prompt > room)
        return mk_fail(MINKE_EFULL, "a prompt of %zu tokens does not fit %zu", n, room);
    g->max_ids = room - g->n_prompt + 1;
    if (g->p.max_tokens > 0)
        g->max_ids = mk_min(g->max_ids, g->p.max_tokens);
    g->ids = mk_arena_alloc(&g->arena, g->max_ids, sizeof(*g->ids));
    if (g->ids == NULL)
        return MINKE_ENOMEM;
    g->n_reused = g->n_prompt;
    if (n > 0)
        rc = mk_session_queue_sync(g->s, prompt, n, &g->n_reused, g);
    g->waiting = g->s->pending.queued > 0;
    g->length = g->s->length;
    return rc;
}

int32_t minke_generate_open(minke_generator **out, minke_session *s, minke_sampler *sampler,
                            const int32_t *prompt, size_t n_prompt,
                            const minke_generate_params *params)
{
    struct minke_generator *g;
    minke_generate_params p;
    int32_t rc = mk_session_check(s);

    if (rc < 0 || (rc = generate_params(&p, params)) < 0)
        return rc;
    if (out == NULL || sampler == NULL || (prompt == NULL && n_prompt > 0))
        return mk_fail(MINKE_EINVAL, "out, sampler or prompt is NULL");
    g = mk_alloc(&s->model->env.alloc, 1, sizeof(*g));
    if (g == NULL)
        return MINKE_ENOMEM;
    g->s = s;
    g->sampler = sampler;
    g->a = s->model->env.alloc;
    g->p = p;
    mk_arena_init(&g->arena, &g->a);
    if ((rc = generate_reply(g)) < 0 || (rc = generate_stops(g)) < 0
        || (rc = generate_tokens_of(g, prompt, n_prompt)) < 0
        || (rc = generate_prompt(g, prompt, n_prompt)) < 0)
        goto fail;
    *out = g;
    return MINKE_OK;
fail:
    minke_generate_free(g);
    return rc;
}

/* Whether the session's pending tokens are this generator's. */
static int generate_owns(const struct minke_generator *g)
{
    return g->waiting && g->s->pending.queued > 0 && g->s->pending.owner == g;
}

void minke_generate_free(minke_generator *g)
{
    struct mk_allocator a;

    if (g == NULL || g->busy)
        return;
    if (generate_owns(g))
        mk_session_drop(g->s);
    minke_reply_free(g->reply);
    mk_arena_free(&g->arena);
    a = g->a;
    mk_free(&a, g);
}

/* ---- One token ---------------------------------------------------------- */

/* The reply's callback may not use the session. */
static void generate_hold(struct minke_generator *g, int on)
{
    g->busy = on;
    g->s->busy = on;
}

static int32_t generate_finish(struct minke_generator *g, int32_t reason)
{
    static const char *const texts[] = {
        NULL, NULL, "length", "thinking_length", NULL, "cancelled", "full"};
    int32_t rc;

    if (generate_owns(g))
        mk_session_drop(g->s);
    g->reason = reason;
    generate_hold(g, 1);
    rc = minke_reply_finish(g->reply, texts[reason]);
    generate_hold(g, 0);
    if (reason == MINKE_FINISH_STOP && mk_reply_calls(g->reply) > 0
        && mk_reply_stop(g->reply) < 0)
        g->reason = MINKE_FINISH_TOOL_CALLS;
    if (g->s->recorder.finished != NULL)
        g->s->recorder.finished(g->s->recorder.user, g->reason);
    return rc == MINKE_ECANCELED ? MINKE_OK : rc;
}

static int generate_is_stop(const struct minke_generator *g, int32_t token)
{
    for (size_t i = 0; i < g->p.n_stop_tokens; i++)
        if (token == g->p.stop_tokens[i])
            return 1;
    return 0;
}

/* The session's logits, without what would end the reasoning before its minimum. */
static const float *generate_logits(struct minke_generator *g, int thinking)
{
    const size_t n_vocab = g->s->model->config.vocab_size;
    const int32_t ends[3] = {g->think_end, g->eos, g->calls};

    if (!thinking || g->n_thinking >= g->p.min_thinking)
        return g->s->logits;
    memcpy(g->masked, g->s->logits, n_vocab * sizeof(float));
    for (int i = 0; i < 3; i++)
        if (ends[i] >= 0 && (size_t)ends[i] < n_vocab)
            g->masked[ends[i]] = -INFINITY;
    for (size_t i = 0; i < g->p.n_stop_tokens; i++)
        if (g->p.stop_tokens[i] >= 0 && (size_t)g->p.stop_tokens[i] < n_vocab)
            g->masked[g->p.stop_tokens[i]] = -INFINITY;
    return g->masked;
}

/* The next token: forced or drawn. */
static int32_t generate_choose(struct minke_generator *g, int thinking, int32_t *token)
{
    if (thinking && g->p.max_thinking > 0 && g->n_thinking >= g->p.max_thinking
        && g->n_forced == 0)
        g->n_forced = g->n_closing;
    if (g->at_forced < g->n_forced) {
        *token = g->forced[g->at_forced++];
        return MINKE_OK;
    }
    return minke_sampler_sample(g->sampler, generate_logits(g, thinking),
                                g->s->model->config.vocab_size, token);
}

static int32_t generate_token(struct minke_generator *g)
{
    const int thinking = minke_reply_thinking(g->reply);
    const struct mk_recorder *r = &g->s->recorder;
    const size_t n_forced = g->at_forced;
    int32_t token = -1, rc = generate_choose(g, thinking, &token);

    if (rc < 0 || (rc = minke_sampler_accept(g->sampler, token)) < 0)
        return rc;
    if (g->at_forced == n_forced && generate_is_stop(g, token))
        return generate_finish(g, MINKE_FINISH_STOP);
    if (g->at_forced == n_forced && r->sampled != NULL
        && (rc = r->sampled(r->user, g->s, generate_logits(g, thinking), g->sampler, token)) < 0)
        return rc;
    g->ids[g->n_ids++] = token;
    g->n_thinking += thinking != 0;
    generate_hold(g, 1);
    rc = minke_reply_token(g->reply, token);
    generate_hold(g, 0);
    if (rc < 0)
        return rc;
    if (token == g->eos || minke_reply_ended(g->reply) || mk_reply_stop(g->reply) >= 0)
        return generate_finish(g, MINKE_FINISH_STOP);
    if (g->p.max_tokens > 0 && g->n_ids == g->p.max_tokens)
        return generate_finish(g, minke_reply_thinking(g->reply) ? MINKE_FINISH_THINKING_LENGTH
                                                                 : MINKE_FINISH_LENGTH);
    if (g->s->length == g->s->params.max_tokens)
        return generate_finish(g, MINKE_FINISH_FULL);
    rc = mk_session_queue(g->s, &token, 1, g);
    g->waiting = rc == MINKE_OK;
    return rc;
}

/* ---- Steps -------------------------------------------------------------- */

static int32_t generate_check(const struct minke_generator *g)
{
    int32_t rc;

    if (g == NULL)
        return mk_fail(MINKE_EINVAL, "generator is NULL");
    if ((rc = mk_context_check(g->s->model)) < 0)
        return rc;
    return g->busy ? mk_fail(MINKE_EBUSY, "the generator is in use by its callback") : MINKE_OK;
}

/* Whether the session is as the last step left it. */
static int generate_goes_on(const struct minke_generator *g)
{
    const struct minke_session *s = g->s;

    if (g->waiting)
        return generate_owns(g);
    return s->pending.queued == 0 && s->has_logits && s->length == g->length;
}

static int32_t generate_work(struct minke_generator *g, uint64_t deadline, uint64_t budget)
{
    int32_t rc;

    do {
        rc = g->waiting ? mk_session_step(g->s, deadline, budget) : generate_token(g);
        if (rc == MINKE_ECANCELED)
            rc = generate_finish(g, MINKE_FINISH_CANCELLED);
        g->waiting = g->s->pending.queued > 0;
    } while (rc == MINKE_OK && g->reason == 0 && (deadline == 0 || mk_time_ns() < deadline));
    g->length = g->s->length;
    return rc;
}

int32_t minke_generate_step(minke_generator *g, uint64_t microseconds, int32_t *reason,
                            uint64_t *over)
{
    const uint64_t begin = mk_time_ns();
    const uint64_t budget = microseconds < UINT64_MAX / 2000 ? microseconds * 1000 : UINT64_MAX / 2;
    const uint64_t deadline = budget == UINT64_MAX / 2 ? 0 : begin + budget;
    int32_t rc = generate_check(g);
    uint64_t end;

    if (rc < 0)
        return rc;
    if (g->s->busy)
        return mk_fail(MINKE_EBUSY, "the session is in use by the calling callback");
    if (reason == NULL)
        return mk_fail(MINKE_EINVAL, "reason is NULL");
    if (g->reason == 0) {
        if (!generate_goes_on(g))
            return mk_fail(MINKE_EINVAL, "the session is not as the last step left it");
        rc = generate_work(g, deadline, budget);
    }
    if (rc < 0)
        return rc;
    *reason = g->reason;
    end = mk_time_ns();
    if (over != NULL)
        *over = deadline != 0 && end > deadline ? (end - deadline) / 1000 : 0;
    return MINKE_OK;
}

int32_t minke_generate(minke_session *s, minke_sampler *sampler, const int32_t *prompt,
                       size_t n_prompt, const minke_generate_params *params, int32_t *reason)
{
    minke_generator *g = NULL;
    int32_t why = 0, rc = minke_generate_open(&g, s, sampler, prompt, n_prompt, params);

    if (rc < 0)
        return rc;
    rc = minke_generate_step(g, UINT64_MAX, &why, NULL);
    minke_generate_free(g);
    if (rc == MINKE_OK && reason != NULL)
        *reason = why;
    return rc;
}

/* ---- Reading ------------------------------------------------------------ */

int32_t minke_generate_info(const minke_generator *g, int32_t key, int64_t *value)
{
    int32_t rc = generate_check(g);
    size_t n;

    if (rc < 0)
        return rc;
    if (value == NULL)
        return mk_fail(MINKE_EINVAL, "value is NULL");
    switch (key) {
    case MINKE_GENERATE_REASON:
        *value = g->reason;
        return MINKE_OK;
    case MINKE_GENERATE_FORCED:
        *value = g->at_forced > 0;
        return MINKE_OK;
    case MINKE_GENERATE_STOP:
        *value = mk_reply_stop(g->reply);
        return MINKE_OK;
    case MINKE_GENERATE_N_PROMPT:
        n = g->n_prompt;
        break;
    case MINKE_GENERATE_N_REUSED:
        n = g->n_reused;
        break;
    case MINKE_GENERATE_N_HELD:
        n = mk_min(g->s->length, g->n_prompt);
        break;
    case MINKE_GENERATE_N_TOKENS:
        n = g->n_ids;
        break;
    case MINKE_GENERATE_N_THINKING:
        n = g->n_thinking;
        break;
    default:
        return mk_fail(MINKE_EVERSION, "generate key %d: this build knows 1 to %d", key,
                       MINKE_GENERATE_N_THINKING);
    }
    *value = (int64_t)n;
    return MINKE_OK;
}

const int32_t *minke_generate_tokens(const minke_generator *g, size_t *n)
{
    if (g == NULL || n == NULL)
        return NULL;
    *n = g->n_ids;
    return g->ids;
}

/* A whole number in decimal. */
static void generate_add_id(struct mk_text *t, int32_t id)
{
    char digits[16];

    mk_text_add(t, digits, mk_format(digits, sizeof(digits), "%d", id));
}

int32_t minke_generate_message(const minke_generator *g, char *text, size_t capacity,
                               size_t *n_out)
{
    struct mk_text t;
    int32_t rc = generate_check(g);

    if (rc < 0)
        return rc;
    if (n_out == NULL || (text == NULL && capacity > 0))
        return mk_fail(MINKE_EINVAL, "text or n_out is NULL");
    mk_text_init(&t, &g->a);
    mk_reply_write(g->reply, &t, 1);
    /* Tokens of a stop text are not the message's. */
    if (mk_reply_stop(g->reply) < 0) {
        mk_text_adds(&t, ", \"token_ids\": [");
        for (size_t i = 0; i < g->n_ids; i++) {
            if (i > 0)
                mk_text_adds(&t, ", ");
            generate_add_id(&t, g->ids[i]);
        }
        mk_text_adds(&t, "]");
    }
    mk_text_adds(&t, "}");
    if (t.failed) {
        rc = mk_fail_memory(t.len, "a message");
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
