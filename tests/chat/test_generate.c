/* Replies at once and in steps: the same bits, stops, caps, reasons, and sessions that stay
 * usable.  The model is examples/calf; what it says does not matter here. */
#include <math.h>

#include "base/utf8.h"
#include "minke.h"
#include "test.h"
#include "text/text_data.h"

#define MODEL "examples/calf"
#define CONTEXT 640u

static minke_context *ctx, *exact;   /* 2 threads; the deterministic flag as well */
static int32_t think_end, eos;

/* ---- Events as one text ---- */

struct told {
    char content[4096], reasoning[4096], reason[32];
    size_t n_content, n_reasoning;
    int n_finished, n_behind, n_events, stop_at;
    minke_session *s;
    minke_generator *g;
};

static int32_t on_event(void *user, int32_t event, uint32_t call, const char *text, size_t len)
{
    struct told *t = user;

    (void)call;
    t->n_behind += t->n_finished;
    if (event == MINKE_REPLY_EVENT_CONTENT && t->n_content + len < sizeof t->content) {
        memcpy(t->content + t->n_content, text, len);
        t->n_content += len;
    }
    if (event == MINKE_REPLY_EVENT_REASONING && t->n_reasoning + len < sizeof t->reasoning) {
        memcpy(t->reasoning + t->n_reasoning, text, len);
        t->n_reasoning += len;
    }
    if (event == MINKE_REPLY_EVENT_FINISHED) {
        t->n_finished++;
        memcpy(t->reason, text, len + 1 < sizeof t->reason ? len : 0);
    }
    if (t->s != NULL)
        CHECK_INT(minke_session_truncate(t->s, 0), MINKE_EBUSY);
    if (t->g != NULL) {
        int32_t reason;

        CHECK_INT(minke_generator_step(t->g, 0, &reason, NULL), MINKE_EBUSY);
    }
    return ++t->n_events == t->stop_at;
}

/* ---- Handles ---- */

static minke_session *open_session(minke_context *c, uint32_t chunk, uint32_t max_tokens,
                                   uint32_t flags)
{
    minke_session_params p;
    minke_session *s = NULL;

    minke_session_params_init(&p, sizeof p);
    p.max_tokens = max_tokens;
    p.prefill_chunk = chunk;
    p.flags = flags;
    CHECK_INT(minke_session_open(&s, c, &p), MINKE_OK);
    return s;
}

/* Greedy, with one token raised or forbidden by bias (0 = none). */
static minke_sampler *open_sampler(int32_t token, float bias)
{
    const int32_t tokens[2] = {token, eos};
    const float values[2] = {bias, -INFINITY};   /* no reply ends by itself */
    minke_sampler_params p;
    minke_sampler *s = NULL;

    minke_sampler_params_init(&p, sizeof p);
    p.bias_tokens = tokens;
    p.bias_values = values;
    p.n_bias = 2;
    if (token == eos)
        p.n_bias = 1;
    CHECK_INT(minke_sampler_open(&s, &p), MINKE_OK);
    return s;
}

static size_t make_prompt(uint32_t thinking, int32_t *ids, size_t capacity)
{
    static const char text[] =
        "[{\"role\": \"user\", \"content\": \"What is 27 + 35? Also: a 3, b 9, c 4, d 8, e 1, "
        "f 7, g 5, h 2. Sort 9 4 6 2 and reverse x y z. Hello, and who are you?\"}]";
    minke_chat_params p;
    size_t n = 0;

    minke_chat_params_init(&p, sizeof p);
    p.thinking = thinking;
    p.encoding = "deepseek-v3.2";
    CHECK_INT(minke_chat_encode(ctx, text, strlen(text), &p, ids, capacity, &n), MINKE_OK);
    return n;
}

static void init_params(minke_generate_params *p, struct told *t)
{
    memset(t, 0, sizeof *t);
    minke_generate_params_init(p, sizeof *p);
    p->encoding = "deepseek-v3.2";
    p->thinking = MINKE_THINKING_OFF;
    p->max_tokens = 40;
    p->on_event = on_event;
    p->user = t;
}

/* One reply at once, in a session of its own; the reason. */
static int32_t reply_once(const minke_generate_params *p, int32_t token, float bias)
{
    int32_t ids[256], reason = -1;
    const size_t n = make_prompt(p->thinking, ids, 256);
    minke_session *s = open_session(ctx, 0, CONTEXT, 0);
    minke_sampler *sampler = open_sampler(token, bias);

    CHECK_INT(minke_generate(s, sampler, ids, n, p, &reason), MINKE_OK);
    minke_sampler_free(sampler);
    minke_session_free(s);
    return reason;
}

/* ---- Bits ---- */

/* A reply in steps of so many microseconds; how many steps it took. */
static size_t reply_in_steps(minke_session *s, const minke_generate_params *p, uint64_t budget)
{
    int32_t ids[256], reason = 0;
    const size_t n = make_prompt(p->thinking, ids, 256);
    minke_sampler *sampler = open_sampler(0, 0);
    minke_generator *g = NULL;
    size_t steps = 0;

    CHECK_INT(minke_generator_open(&g, s, sampler, ids, n, p), MINKE_OK);
    while (reason == 0 && steps < 100000) {
        uint64_t over = UINT64_MAX;

        CHECK_INT(minke_generator_step(g, budget, &reason, &over), MINKE_OK);
        CHECK(over < 60000000);
        steps++;
    }
    CHECK_INT(reason, MINKE_FINISH_LENGTH);
    minke_generator_free(g);
    minke_sampler_free(sampler);
    return steps;
}

static int same_state(minke_session *a, minke_session *b)
{
    const size_t n = minke_session_length(a);
    const float *x, *y;
    size_t n_vocab;
    const int32_t next = 300;

    if (n != minke_session_length(b)
        || memcmp(minke_session_tokens(a), minke_session_tokens(b), n * sizeof(int32_t)) != 0)
        return 0;
    /* A further token sees every row of the caches. */
    CHECK_INT(minke_session_eval(a, &next, 1), MINKE_OK);
    CHECK_INT(minke_session_eval(b, &next, 1), MINKE_OK);
    CHECK_INT(minke_session_logits(a, &x, &n_vocab), MINKE_OK);
    CHECK_INT(minke_session_logits(b, &y, &n_vocab), MINKE_OK);
    return memcmp(x, y, n_vocab * sizeof(float)) == 0;
}

TEST(steps_of_any_length_give_the_bits_of_a_reply_at_once)
{
    static const uint64_t budgets[] = {0, 300, 5000, UINT64_MAX};
    minke_generate_params p;
    struct told once, told;
    minke_session *whole = open_session(exact, 0, CONTEXT, MINKE_SESSION_MTP);

    init_params(&p, &once);
    CHECK_INT(reply_in_steps(whole, &p, UINT64_MAX), 1);
    for (size_t i = 0; i < sizeof budgets / sizeof budgets[0]; i++) {
        minke_session *s = open_session(exact, 0, CONTEXT, MINKE_SESSION_MTP);
        const int32_t other[3] = {300, 301, 302};

        init_params(&p, &told);
        if (i == 1) {   /* the hidden state of a token that is kept comes first */
            CHECK_INT(minke_session_eval(s, minke_session_tokens(whole), 20), MINKE_OK);
            CHECK_INT(minke_session_eval(s, other, 3), MINKE_OK);
        }
        const size_t steps = reply_in_steps(s, &p, budgets[i]);

        /* At no time at all, a step is a layer of a token, the head, or a draw. */
        CHECK(i > 0 || steps > 100 * 4);
        CHECK_STR(told.content, once.content);
        CHECK(same_state(whole, s));
        CHECK_INT(minke_session_truncate(whole, minke_session_length(whole) - 1), MINKE_OK);
        minke_session_free(s);
    }
    minke_session_free(whole);
}

TEST(without_the_flag_the_same_chunks_give_the_same_bits)
{
    minke_generate_params p;
    struct told once, told;
    minke_session *whole = open_session(ctx, 1, CONTEXT, 0);
    minke_session *s = open_session(ctx, 0, CONTEXT, 0);

    init_params(&p, &once);
    reply_in_steps(whole, &p, UINT64_MAX);
    init_params(&p, &told);
    reply_in_steps(s, &p, 0);
    CHECK_STR(told.content, once.content);
    CHECK(same_state(whole, s));
    minke_session_free(whole);
    minke_session_free(s);
}

/* Layers of a token that ended. */
static int32_t count_layers(void *user, uint32_t kind, uint32_t layer, uint64_t token,
                            const int32_t *ids, const float *values, size_t n)
{
    (void)kind, (void)layer, (void)token, (void)ids, (void)values, (void)n;
    ++*(int *)user;
    return 0;
}

TEST(a_step_goes_over_its_time_by_one_layer_at_most)
{
    int32_t ids[256], reason = 0;
    const size_t n = make_prompt(MINKE_THINKING_OFF, ids, 256);
    minke_session_params sp;
    minke_session *s = NULL;
    minke_sampler *sampler = open_sampler(0, 0);
    minke_generator *g = NULL;
    minke_generate_params p;
    struct told told;
    int layers = 0, most = 0, total = 0;
    int64_t n_layers = 0;

    minke_session_params_init(&sp, sizeof sp);
    sp.max_tokens = CONTEXT;
    sp.flags = MINKE_SESSION_MTP;
    sp.observer = count_layers;
    sp.observer_user = &layers;
    sp.observe = MINKE_OBSERVE_RESIDUAL;
    CHECK_INT(minke_session_open(&s, ctx, &sp), MINKE_OK);
    init_params(&p, &told);
    CHECK_INT(minke_generator_open(&g, s, sampler, ids, n, &p), MINKE_OK);
    while (reason == 0) {
        layers = 0;
        CHECK_INT(minke_generator_step(g, 0, &reason, NULL), MINKE_OK);
        most = layers > most ? layers : most;
        total += layers;
    }
    minke_context_info(ctx, MINKE_INFO_N_LAYERS, &n_layers);
    CHECK_INT(most, 1);
    /* Every token but the last has its layers, and one of the prediction layer but the first. */
    CHECK_INT(total, (int)(n + 39) * (int)n_layers + (int)(n + 38));
    minke_generator_free(g);
    minke_sampler_free(sampler);
    minke_session_free(s);
}

/* ---- Suspended ---- */

TEST(a_suspended_session_refuses_other_work_until_it_is_dropped)
{
    int32_t ids[256], reason = 0;
    const size_t n = make_prompt(MINKE_THINKING_OFF, ids, 256);
    minke_session *s = open_session(ctx, 0, CONTEXT, 0), *child = NULL;
    minke_sampler *sampler = open_sampler(0, 0);
    minke_generator *g = NULL, *h = NULL;
    minke_generate_params p;
    struct told told;
    const float *logits;

    init_params(&p, &told);
    CHECK_INT(minke_generator_open(&g, s, sampler, ids, n, &p), MINKE_OK);
    for (int i = 0; i < 7; i++)
        CHECK_INT(minke_generator_step(g, 0, &reason, NULL), MINKE_OK);
    CHECK_INT(reason, 0);
    CHECK_INT(minke_session_eval(s, ids, 1), MINKE_EBUSY);
    CHECK_HAS(minke_last_error(), "suspended at layer");
    CHECK_INT(minke_session_sync(s, ids, n, NULL), MINKE_EBUSY);
    CHECK_INT(minke_session_logits(s, &logits, NULL), MINKE_EBUSY);
    CHECK_INT(minke_session_fork(&child, s, NULL), MINKE_EBUSY);
    CHECK_INT(minke_generator_open(&h, s, sampler, ids, n, &p), MINKE_EBUSY);
    CHECK(minke_session_length(s) < n);
    CHECK_INT(minke_session_truncate(s, 1), MINKE_OK);
    CHECK_INT(minke_session_eval(s, ids + 1, n - 1), MINKE_OK);
    CHECK_INT(minke_generator_step(g, 0, &reason, NULL), MINKE_EINVAL);
    minke_generator_free(g);

    /* A generator that is freed takes what it began with it. */
    CHECK_INT(minke_session_truncate(s, 0), MINKE_OK);
    CHECK_INT(minke_generator_open(&g, s, sampler, ids, n, &p), MINKE_OK);
    for (int i = 0; i < 7; i++)
        CHECK_INT(minke_generator_step(g, 0, &reason, NULL), MINKE_OK);
    minke_generator_free(g);
    CHECK_INT(minke_session_sync(s, ids, n, NULL), MINKE_OK);
    CHECK_INT(told.n_events, 0);
    minke_sampler_free(sampler);
    minke_session_free(s);
}

TEST(a_cancel_ends_the_reply_and_the_session_goes_on)
{
    int32_t ids[256], reason = 0;
    const size_t n = make_prompt(MINKE_THINKING_OFF, ids, 256);
    minke_session *s = open_session(ctx, 0, CONTEXT, 0);
    minke_sampler *sampler = open_sampler(0, 0);
    minke_generate_params p;
    struct told told;

    init_params(&p, &told);
    minke_session_cancel(s);
    CHECK_INT(minke_generate(s, sampler, ids, n, &p, &reason), MINKE_OK);
    CHECK_INT(reason, MINKE_FINISH_CANCELED);
    CHECK_STR(told.reason, "canceled");

    init_params(&p, &told);
    told.stop_at = 3;
    told.s = s;
    CHECK_INT(minke_generate(s, sampler, ids, n, &p, &reason), MINKE_OK);
    CHECK_INT(reason, MINKE_FINISH_CANCELED);
    CHECK_INT(told.n_finished, 1);
    CHECK_INT(told.n_behind, 0);
    CHECK_INT(minke_session_sync(s, ids, n, NULL), MINKE_OK);
    minke_sampler_free(sampler);
    minke_session_free(s);
}

TEST(a_callback_may_not_use_the_generator)
{
    int32_t ids[256], reason = 0;
    const size_t n = make_prompt(MINKE_THINKING_OFF, ids, 256);
    minke_session *s = open_session(ctx, 0, CONTEXT, 0);
    minke_sampler *sampler = open_sampler(0, 0);
    minke_generate_params p;
    struct told told;

    init_params(&p, &told);
    CHECK_INT(minke_generator_open(&told.g, s, sampler, ids, n, &p), MINKE_OK);
    CHECK_INT(minke_generator_step(told.g, UINT64_MAX, &reason, NULL), MINKE_OK);
    CHECK_INT(reason, MINKE_FINISH_LENGTH);
    CHECK_INT(minke_generator_step(told.g, 0, &reason, NULL), MINKE_OK);
    CHECK_INT(reason, MINKE_FINISH_LENGTH);
    minke_generator_free(told.g);
    minke_sampler_free(sampler);
    minke_session_free(s);
}

/* ---- Ends ---- */

TEST(a_stop_text_across_tokens_is_not_given)
{
    minke_generate_params p;
    struct told whole, told;
    char stop[8] = "", twin[8] = "";
    const char *stops[3] = {"no such text", stop, twin};

    init_params(&p, &whole);
    CHECK_INT(reply_once(&p, 0, 0), MINKE_FINISH_LENGTH);
    CHECK(whole.n_content > 20);
    for (size_t at = 0; at + 4 < whole.n_content; at++) {
        const char *text = whole.content + at;

        if ((unsigned char)text[0] >> 6 == 2 || (unsigned char)text[4] >> 6 == 2)
            continue;
        memcpy(stop, text, 4);
        memcpy(twin, text + 1, 3);   /* is complete with it; the longer one counts */
        init_params(&p, &told);
        p.stops = stops;
        p.n_stops = (unsigned char)text[1] >> 6 == 2 ? 2 : 3;
        CHECK_INT(reply_once(&p, 0, 0), MINKE_FINISH_STOP);
        CHECK_STR(told.reason, "stop");
        CHECK(told.n_content <= at);
        CHECK(memcmp(told.content, whole.content, told.n_content) == 0);
        CHECK(strstr(told.content, stop) == NULL);
        at += 6;
    }
    stop[0] = '\0';
    init_params(&p, &told);
    p.stops = stops;
    p.n_stops = 2;
    minke_session *s = open_session(ctx, 0, CONTEXT, 0);
    minke_sampler *sampler = open_sampler(0, 0);
    CHECK_INT(minke_generate(s, sampler, &eos, 1, &p, NULL), MINKE_EINVAL);
    minke_sampler_free(sampler);
    minke_session_free(s);
}

TEST(text_held_back_for_a_stop_is_given_in_the_end)
{
    minke_generate_params p;
    struct told whole, told;
    char stop[64];
    const char *stops[1] = {stop};

    init_params(&p, &whole);
    reply_once(&p, 0, 0);
    /* The whole end of the text may be the beginning of this. */
    snprintf(stop, sizeof stop, "%.40s-", whole.content + (whole.n_content > 40
                                                          ? whole.n_content - 40 : 0));
    init_params(&p, &told);
    p.stops = stops;
    p.n_stops = mk_utf8_valid(stop, strlen(stop)) == strlen(stop);
    CHECK_INT(reply_once(&p, 0, 0), MINKE_FINISH_LENGTH);
    CHECK_STR(told.content, whole.content);
}

TEST(a_stop_token_ends_the_reply_and_is_not_in_it)
{
    minke_generate_params p;
    struct told told;
    int32_t ids[256], reason;
    const size_t n = make_prompt(MINKE_THINKING_OFF, ids, 256), five = 5;
    minke_session *s = open_session(ctx, 0, CONTEXT, 0);
    minke_sampler *sampler = open_sampler(0, 0);
    minke_generator *g = NULL;
    const int32_t *made;
    int32_t stop;
    size_t n_made = 0, n_before = 0;

    init_params(&p, &told);
    CHECK_INT(minke_generator_open(&g, s, sampler, ids, n, &p), MINKE_OK);
    CHECK_INT(minke_generator_step(g, UINT64_MAX, &reason, NULL), MINKE_OK);
    made = minke_generator_tokens(g, &n_made);
    CHECK_INT(n_made, 40);
    stop = made[five];
    while (made[n_before] != stop)
        n_before++;
    minke_generator_free(g);
    init_params(&p, &told);
    p.stop_tokens = &stop;
    p.n_stop_tokens = 1;
    CHECK_INT(minke_generator_open(&g, s, sampler, ids, n, &p), MINKE_OK);
    CHECK_INT(minke_generator_step(g, UINT64_MAX, &reason, NULL), MINKE_OK);
    CHECK_INT(reason, MINKE_FINISH_STOP);
    minke_generator_tokens(g, &n_made);
    CHECK_INT(n_made, n_before);
    minke_generator_free(g);
    minke_sampler_free(sampler);
    minke_session_free(s);
}

TEST(a_full_session_ends_the_reply)
{
    minke_generate_params p;
    struct told told;
    int32_t ids[256], reason;
    const size_t n = make_prompt(MINKE_THINKING_OFF, ids, 256);
    minke_session *s = open_session(ctx, 0, (uint32_t)n + 3, 0);
    minke_sampler *sampler = open_sampler(0, 0);

    init_params(&p, &told);
    p.max_tokens = 0;
    CHECK_INT(minke_generate(s, sampler, ids, n, &p, &reason), MINKE_OK);
    CHECK_INT(reason, MINKE_FINISH_FULL);
    CHECK_STR(told.reason, "full");
    CHECK_INT(minke_session_length(s), n + 3);
    minke_sampler_free(sampler);
    minke_session_free(s);
}

/* ---- Thinking ---- */

struct thought {
    int64_t reason, forced, n_thinking, n_tokens;
    char message[8192];
};

static struct thought think(const minke_generate_params *p, int32_t token, float bias)
{
    static struct thought out;
    int32_t ids[256], reason;
    const size_t n = make_prompt(MINKE_THINKING_ON, ids, 256);
    minke_session *s = open_session(ctx, 0, CONTEXT, 0);
    minke_sampler *sampler = open_sampler(token, bias);
    minke_generator *g = NULL;
    size_t len = 0;

    CHECK_INT(minke_generator_open(&g, s, sampler, ids, n, p), MINKE_OK);
    CHECK_INT(minke_generator_step(g, UINT64_MAX, &reason, NULL), MINKE_OK);
    CHECK_INT(minke_generator_info(g, MINKE_GENERATOR_REASON, &out.reason), MINKE_OK);
    CHECK_INT(minke_generator_info(g, MINKE_GENERATOR_FORCED, &out.forced), MINKE_OK);
    CHECK_INT(minke_generator_info(g, MINKE_GENERATOR_N_THINKING, &out.n_thinking), MINKE_OK);
    CHECK_INT(minke_generator_info(g, MINKE_GENERATOR_N_TOKENS, &out.n_tokens), MINKE_OK);
    CHECK_INT(minke_generator_message(g, out.message, sizeof out.message - 1, &len), MINKE_OK);
    out.message[len] = '\0';
    minke_generator_free(g);
    minke_sampler_free(sampler);
    minke_session_free(s);
    return out;
}

TEST(the_cap_closes_the_reasoning_and_the_answer_follows)
{
    minke_generate_params p;
    struct told told;
    struct thought t;

    init_params(&p, &told);
    p.thinking = MINKE_THINKING_ON;
    p.max_thinking = 10;
    p.closing = " Enough, <｜User｜>.";
    p.closing_len = strlen(p.closing);
    p.max_tokens = 60;
    t = think(&p, think_end, -INFINITY);
    CHECK_INT(t.reason, MINKE_FINISH_LENGTH);
    CHECK_INT(t.forced, 1);
    CHECK(t.n_thinking > 10 && t.n_thinking < 50);
    CHECK(told.n_reasoning > p.closing_len);
    CHECK_STR(told.reasoning + told.n_reasoning - p.closing_len, p.closing);
    CHECK(told.n_content > 0);
    CHECK(strstr(told.content, "</think>") == NULL);
    CHECK_HAS(t.message, "\"token_ids\": [");
    CHECK(strstr(t.message, "malformed") == NULL);

    init_params(&p, &told);
    p.thinking = MINKE_THINKING_ON;
    p.max_thinking = 10;
    p.max_tokens = 60;
    t = think(&p, think_end, -INFINITY);
    CHECK_INT(t.n_thinking, 11);
    CHECK_INT(t.forced, 1);
}

TEST(reasoning_does_not_end_before_its_minimum)
{
    minke_generate_params p;
    struct told told;
    struct thought t;

    init_params(&p, &told);
    p.thinking = MINKE_THINKING_ON;
    t = think(&p, think_end, 1e6f);
    CHECK_INT(t.n_thinking, 1);
    init_params(&p, &told);
    p.thinking = MINKE_THINKING_ON;
    p.min_thinking = 12;
    t = think(&p, think_end, 1e6f);
    CHECK_INT(t.n_thinking, 13);
    CHECK_INT(t.forced, 0);
    init_params(&p, &told);
    p.thinking = MINKE_THINKING_ON;
    p.min_thinking = 12;
    t = think(&p, eos, 1e6f);
    CHECK_INT(t.reason, MINKE_FINISH_STOP);
    CHECK(t.n_thinking >= 12);
}

TEST(a_reply_that_only_thought_says_so)
{
    minke_generate_params p;
    struct told told;
    struct thought t;

    init_params(&p, &told);
    p.thinking = MINKE_THINKING_ON;
    p.max_tokens = 7;
    t = think(&p, think_end, -INFINITY);
    CHECK_INT(t.reason, MINKE_FINISH_THINKING_LENGTH);
    CHECK_INT(t.n_tokens, 7);
    CHECK_INT(told.n_content, 0);
    CHECK_STR(told.reason, "thinking_length");
}

/* The closing sentence writes a call, which a model would write itself. */
TEST(a_reply_that_calls_tools_says_so)
{
    minke_generate_params p;
    struct told told;
    struct thought t;

    init_params(&p, &told);
    p.thinking = MINKE_THINKING_ON;
    p.max_thinking = 1;
    p.min_thinking = 1;
    p.max_tokens = 0;
    p.closing = "\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"clock\">\n\n"
                "</｜DSML｜invoke>\n</｜DSML｜function_calls>";
    p.closing_len = strlen(p.closing);
    t = think(&p, eos, 1e6f);
    CHECK_INT(t.reason, MINKE_FINISH_TOOL_CALLS);
    CHECK_STR(told.reason, "tool_calls");
    CHECK_HAS(t.message, "\"name\": \"clock\"");
}

TEST(plain_text_is_generated_without_a_chat)
{
    minke_generate_params p;
    struct told told;

    init_params(&p, &told);
    p.flags = MINKE_GENERATE_PLAIN;
    p.encoding = NULL;
    CHECK_INT(reply_once(&p, think_end, 1e6f), MINKE_FINISH_LENGTH);
    CHECK_HAS(told.content, "</think></think>");
}

/* ---- Failing ---- */

/* A caller that was compiled against a later header. */
struct newer_params { minke_generate_params known; uint64_t later; };

TEST(params_of_a_later_header_must_be_zero_there)
{
    minke_session *s = open_session(ctx, 0, CONTEXT, 0);
    minke_sampler *sampler = open_sampler(0, 0);
    minke_generator *g = NULL;
    struct newer_params p;

    minke_generate_params_init(&p.known, sizeof p);
    CHECK_INT(minke_generator_open(&g, s, sampler, &eos, 1, &p.known), MINKE_OK);
    minke_generator_free(g);
    p.later = 1;
    CHECK_INT(minke_generator_open(&g, s, sampler, &eos, 1, &p.known), MINKE_EVERSION);
    p.known.struct_size = 8;
    CHECK_INT(minke_generator_open(&g, s, sampler, &eos, 1, &p.known), MINKE_EINVAL);
    minke_sampler_free(sampler);
    minke_session_free(s);
}

TEST(wrong_arguments_are_refused)
{
    minke_session *s = open_session(ctx, 0, CONTEXT, 0);
    minke_sampler *sampler = open_sampler(0, 0);
    minke_generator *g = NULL;
    minke_generate_params p;
    minke_reply_params of_reply;
    minke_reply *r = NULL;
    struct told told;
    const int32_t bad = 1 << 30;
    int64_t value = 5;

    init_params(&p, &told);
    CHECK_INT(minke_generator_open(&g, s, sampler, NULL, 0, &p), MINKE_EINVAL);
    CHECK_HAS(minke_last_error(), "no prompt");
    CHECK_INT(minke_generator_open(&g, s, NULL, &eos, 1, &p), MINKE_EINVAL);
    CHECK_INT(minke_generator_open(&g, NULL, sampler, &eos, 1, &p), MINKE_EINVAL);
    CHECK_INT(minke_generator_open(&g, s, sampler, &bad, 1, &p), MINKE_EINVAL);
    p.min_thinking = 9;
    p.max_thinking = 8;
    CHECK_INT(minke_generator_open(&g, s, sampler, &eos, 1, &p), MINKE_EINVAL);
    init_params(&p, &told);
    p.encoding = "chatml";
    CHECK_INT(minke_generator_open(&g, s, sampler, &eos, 1, &p), MINKE_EUNSUPPORTED);
    p.flags = 2;
    CHECK_INT(minke_generator_open(&g, s, sampler, &eos, 1, &p), MINKE_EVERSION);
    CHECK(g == NULL);
    init_params(&p, &told);
    CHECK_INT(minke_generator_open(&g, s, sampler, &eos, 1, &p), MINKE_OK);
    CHECK_INT(minke_generator_info(g, 99, &value), MINKE_EVERSION);
    CHECK_INT(value, 5);
    minke_generator_free(g);
    minke_generator_free(NULL);
    minke_reply_params_init(&of_reply, sizeof of_reply);
    of_reply.encoding = "deepseek-v3";
    CHECK_INT(minke_reply_open(&r, ctx, &of_reply), MINKE_OK);
    CHECK_INT(minke_reply_token(r, bad), MINKE_EINVAL);
    CHECK_HAS(minke_last_error(), "1073741824");
    CHECK_INT(minke_reply_token(r, -1), MINKE_EINVAL);
    minke_reply_free(r);
    minke_sampler_free(sampler);
    minke_session_free(s);
}

TEST(memory_that_runs_out_leaks_nothing)
{
    struct text_heap heap = {0, -1};
    minke_context_params cp;
    minke_session_params sp;
    minke_context *c = NULL;
    minke_session *s = NULL;
    minke_sampler *sampler = open_sampler(0, 0);
    minke_generate_params p;
    struct told told;
    int32_t status = MINKE_ENOMEM, reason = 0;
    long held;

    minke_context_params_init(&cp, sizeof cp);
    cp.alloc = text_heap_alloc;
    cp.free = text_heap_free;
    cp.alloc_user = &heap;
    cp.n_threads = 1;
    CHECK_INT(minke_context_open(&c, MODEL, &cp), MINKE_OK);
    minke_session_params_init(&sp, sizeof sp);
    sp.max_tokens = 64;
    CHECK_INT(minke_session_open(&s, c, &sp), MINKE_OK);
    held = heap.held;
    for (long left = 0; status == MINKE_ENOMEM && left < 1000; left++) {
        init_params(&p, &told);
        p.max_tokens = 4;
        p.stops = (const char *const[]){"never"};
        p.n_stops = 1;
        heap.left = left;
        status = minke_generate(s, sampler, &eos, 1, &p, &reason);
        heap.left = -1;
        CHECK_INT(heap.held, held);
    }
    CHECK_INT(status, MINKE_OK);
    CHECK_INT(reason, MINKE_FINISH_LENGTH);
    minke_session_free(s);
    minke_context_free(c);
    CHECK_INT(heap.held, 0);
    minke_sampler_free(sampler);
}

int main(void)
{
    minke_context_params p;
    int64_t value = -1;

    minke_context_params_init(&p, sizeof p);
    p.n_threads = 2;
    CHECK_INT(minke_context_open(&ctx, MODEL, &p), MINKE_OK);
    p.flags = MINKE_CONTEXT_DETERMINISTIC;
    CHECK_INT(minke_context_open(&exact, MODEL, &p), MINKE_OK);
    if (test_failures > 0)
        return test_result();
    minke_context_info(ctx, MINKE_INFO_TOKEN_EOS, &value);
    eos = (int32_t)value;
    minke_token_find(ctx, "</think>", 8, &think_end);
    RUN(steps_of_any_length_give_the_bits_of_a_reply_at_once);
    RUN(without_the_flag_the_same_chunks_give_the_same_bits);
    RUN(a_step_goes_over_its_time_by_one_layer_at_most);
    RUN(a_suspended_session_refuses_other_work_until_it_is_dropped);
    RUN(a_cancel_ends_the_reply_and_the_session_goes_on);
    RUN(a_callback_may_not_use_the_generator);
    RUN(a_stop_text_across_tokens_is_not_given);
    RUN(text_held_back_for_a_stop_is_given_in_the_end);
    RUN(a_stop_token_ends_the_reply_and_is_not_in_it);
    RUN(a_full_session_ends_the_reply);
    RUN(the_cap_closes_the_reasoning_and_the_answer_follows);
    RUN(reasoning_does_not_end_before_its_minimum);
    RUN(a_reply_that_only_thought_says_so);
    RUN(a_reply_that_calls_tools_says_so);
    RUN(plain_text_is_generated_without_a_chat);
    RUN(params_of_a_later_header_must_be_zero_there);
    RUN(wrong_arguments_are_refused);
    RUN(memory_that_runs_out_leaks_nothing);
    minke_context_free(ctx);
    minke_context_free(exact);
    return test_result();
}
