/* Records of what a session drew: complete, replayed bit for bit, and refused when damaged. */
#define _GNU_SOURCE 1 /* mkdtemp */
#include <math.h>
#include <unistd.h>

#include "base/json.h"
#include "minke.h"
#include "test.h"

#define N_PROMPT 150u
#define N_REPLY 40u
#define ROOM 256u

static const char *const models[] = {"tests/golden/v32", "examples/calf"};
static char folder[] = "/tmp/minke-rollout-XXXXXX";

static const char *path_of(const char *name)
{
    static char path[96];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static minke_context *open_model(const char *path, uint32_t n_threads)
{
    minke_context_params p;
    minke_context *ctx = NULL;

    minke_context_params_init(&p, sizeof p);
    p.n_threads = n_threads;
    p.flags = MINKE_CONTEXT_DETERMINISTIC;
    if (minke_context_open(&ctx, path, &p) < 0) {
        fprintf(stderr, "%s: %s\n", path, minke_last_error());
        exit(1);
    }
    return ctx;
}

static minke_session *open_session(minke_context *ctx, uint32_t chunk)
{
    minke_session_params p;
    minke_session *s = NULL;

    minke_session_params_init(&p, sizeof p);
    p.max_tokens = ROOM;
    p.prefill_chunk = chunk;
    CHECK_INT(minke_session_open(&s, ctx, &p), MINKE_OK);
    return s;
}

static minke_sampler *open_sampler_at(float temperature, uint32_t top_k, float top_p,
                                      uint64_t seed)
{
    minke_sampler_params p;
    minke_sampler *s = NULL;

    minke_sampler_params_init(&p, sizeof p);
    p.temperature = temperature;
    p.top_k = top_k;
    p.top_p = top_p;
    p.seed = seed;
    CHECK_INT(minke_sampler_open(&s, &p), MINKE_OK);
    return s;
}

static minke_sampler *open_sampler(uint32_t top_k, float top_p, uint64_t seed)
{
    return open_sampler_at(1.0f, top_k, top_p, seed);
}

static minke_rollout *open_rollout(minke_context *ctx, uint32_t flags, uint64_t max_allowed)
{
    minke_rollout_params p;
    minke_rollout *r = NULL;

    minke_rollout_params_init(&p, sizeof p);
    p.flags = flags;
    p.max_tokens = ROOM;
    p.max_allowed = max_allowed;
    CHECK_INT(minke_rollout_open(&r, ctx, &p), MINKE_OK);
    return r;
}

static int64_t info(minke_context *ctx, int32_t key)
{
    int64_t v = 0;

    CHECK_INT(minke_context_info(ctx, key, &v), MINKE_OK);
    return v;
}

static void make_prompt(minke_context *ctx, int32_t *tokens, size_t n)
{
    const int64_t vocab = info(ctx, MINKE_INFO_N_VOCAB);

    for (size_t i = 0; i < n; i++)
        tokens[i] = (int32_t)((i * i * 31 + i * 7 + 5) % (size_t)vocab);
}

static const void *array_of(const minke_rollout *r, int32_t key, uint64_t *shape)
{
    uint64_t own[3] = {0, 0, 0};
    const void *data = NULL;

    CHECK_INT(minke_rollout_array(r, key, NULL, NULL, shape != NULL ? shape : own, NULL, &data),
              MINKE_OK);
    return data;
}

static size_t length_of(const minke_rollout *r)
{
    uint64_t shape[3] = {0, 0, 0};

    array_of(r, MINKE_ROLLOUT_ARRAY_TOKENS, shape);
    return (size_t)shape[0];
}

/* A prompt and a reply drawn at temperature 1 and top-p 0.95 in a loop of the host's. */
static minke_rollout *write_rollout(minke_context *ctx, uint32_t flags)
{
    minke_rollout *r = open_rollout(ctx, flags, 0);
    minke_session *s = open_session(ctx, 64);
    minke_sampler *sampler = open_sampler(0, 0.95f, 7);
    int32_t prompt[N_PROMPT], token = -1;

    make_prompt(ctx, prompt, N_PROMPT);
    CHECK_INT(minke_rollout_record(s, r), MINKE_OK);
    CHECK_INT(minke_session_eval(s, prompt, N_PROMPT), MINKE_OK);
    for (size_t i = 0; i < N_REPLY; i++) {
        CHECK_INT(minke_rollout_sample(s, sampler, &token), MINKE_OK);
        if (i + 1 < N_REPLY)
            CHECK_INT(minke_session_eval(s, &token, 1), MINKE_OK);
    }
    CHECK_INT(minke_rollout_finish(r, MINKE_FINISH_LENGTH), MINKE_OK);
    minke_sampler_free(sampler);
    minke_session_free(s);
    return r;
}

/* ---- What is written ---------------------------------------------------- */

TEST(every_drawn_token_has_its_row)
{
    minke_context *ctx = open_model(models[0], 1);
    minke_rollout *r = write_rollout(ctx, MINKE_ROLLOUT_SELECTED);
    const uint64_t n = N_PROMPT + N_REPLY;
    uint64_t shape[3] = {0, 0, 0};
    const int64_t *offsets = array_of(r, MINKE_ROLLOUT_ARRAY_ALLOWED_OFFSETS, shape);
    const int32_t *tokens = array_of(r, MINKE_ROLLOUT_ARRAY_TOKENS, NULL);
    const int32_t *allowed = array_of(r, MINKE_ROLLOUT_ARRAY_ALLOWED, NULL);
    const uint8_t *sampled = array_of(r, MINKE_ROLLOUT_ARRAY_SAMPLED, NULL);
    const float *masked = array_of(r, MINKE_ROLLOUT_ARRAY_LOGPROBS, NULL);
    const float *full = array_of(r, MINKE_ROLLOUT_ARRAY_LOGPROBS_FULL, NULL);

    CHECK_INT(shape[0], n + 1);
    for (size_t t = 0; t < n; t++) {
        int found = 0;

        CHECK_INT(sampled[t], t >= N_PROMPT);
        for (int64_t i = offsets[t]; i < offsets[t + 1]; i++)
            found += allowed[i] == tokens[t];
        CHECK_INT(found, t >= N_PROMPT && offsets[t] < offsets[t + 1]);
        /* Fewer tokens share the same mass. */
        CHECK(t < N_PROMPT ? masked[t] == 0 && full[t] == 0 : masked[t] >= full[t]);
    }
    array_of(r, MINKE_ROLLOUT_ARRAY_EXPERTS, shape);
    CHECK_INT(shape[0], n - 1);
    CHECK_INT(shape[1], info(ctx, MINKE_INFO_N_LAYERS) - info(ctx, MINKE_INFO_N_DENSE_LAYERS));
    CHECK_INT(shape[2], info(ctx, MINKE_INFO_N_EXPERTS_USED));
    array_of(r, MINKE_ROLLOUT_ARRAY_SELECTED, shape);
    CHECK_INT(shape[0], n - 1);
    CHECK_INT(shape[2], info(ctx, MINKE_INFO_INDEX_TOPK));
    minke_rollout_free(r);
    minke_context_free(ctx);
}

/* What an observer sees is what the record holds. */
struct seen {
    const uint8_t *experts;
    const int32_t *selected;
    size_t n_moe, n_layers, k, top_k, first, wrong, calls;
};

static int32_t compare(void *user, uint32_t kind, uint32_t layer, uint64_t token,
                       const int32_t *ids, const float *values, size_t n)
{
    struct seen *seen = user;

    (void)values;
    seen->calls++;
    for (size_t i = 0; i < n; i++)
        if (kind == MINKE_OBSERVE_EXPERTS)
            seen->wrong += seen->experts[(token * seen->n_moe + layer - seen->first) * seen->k + i]
                        != ids[i];
        else
            seen->wrong += seen->selected[(token * seen->n_layers + layer) * seen->top_k + i]
                        != ids[i];
    return 0;
}

TEST(the_record_is_what_an_observer_sees)
{
    minke_context *ctx = open_model(models[0], 1);
    minke_rollout *r = write_rollout(ctx, MINKE_ROLLOUT_SELECTED);
    struct seen seen = {array_of(r, MINKE_ROLLOUT_ARRAY_EXPERTS, NULL),
                        array_of(r, MINKE_ROLLOUT_ARRAY_SELECTED, NULL),
                        (size_t)(info(ctx, MINKE_INFO_N_LAYERS) - info(ctx, MINKE_INFO_N_DENSE_LAYERS)),
                        (size_t)info(ctx, MINKE_INFO_N_LAYERS),
                        (size_t)info(ctx, MINKE_INFO_N_EXPERTS_USED),
                        (size_t)info(ctx, MINKE_INFO_INDEX_TOPK),
                        (size_t)info(ctx, MINKE_INFO_N_DENSE_LAYERS), 0, 0};
    minke_session_params p;
    minke_session *s = NULL;

    minke_session_params_init(&p, sizeof p);
    p.max_tokens = ROOM;
    p.observe = MINKE_OBSERVE_EXPERTS | MINKE_OBSERVE_SELECTED;
    p.observer = compare;
    p.observer_user = &seen;
    CHECK_INT(minke_session_open(&s, ctx, &p), MINKE_OK);
    CHECK_INT(minke_session_eval(s, array_of(r, MINKE_ROLLOUT_ARRAY_TOKENS, NULL), length_of(r) - 1),
              MINKE_OK);
    CHECK(seen.calls > 0);
    CHECK_INT(seen.wrong, 0);
    minke_session_free(s);
    minke_rollout_free(r);
    minke_context_free(ctx);
}

TEST(a_truncated_session_takes_its_tokens_out_of_the_record)
{
    minke_context *ctx = open_model(models[0], 1);
    minke_rollout *r = open_rollout(ctx, 0, 0);
    minke_session *s = open_session(ctx, 0);
    minke_sampler *sampler = open_sampler(5, 1.0f, 1);
    int32_t prompt[8], token = -1, first[3];
    const int32_t *tokens;

    make_prompt(ctx, prompt, 8);
    CHECK_INT(minke_rollout_record(s, r), MINKE_OK);
    CHECK_INT(minke_session_eval(s, prompt, 8), MINKE_OK);
    for (size_t i = 0; i < 3; i++) {
        CHECK_INT(minke_rollout_sample(s, sampler, &first[i]), MINKE_OK);
        CHECK_INT(minke_session_eval(s, &first[i], 1), MINKE_OK);
    }
    CHECK_INT(minke_session_truncate(s, 9), MINKE_OK);
    token = (first[1] + 1) % 100;
    CHECK_INT(minke_session_eval(s, &token, 1), MINKE_OK);
    CHECK_INT(length_of(r), 10);
    tokens = array_of(r, MINKE_ROLLOUT_ARRAY_TOKENS, NULL);
    CHECK_INT(tokens[8], first[0]);
    CHECK_INT(tokens[9], token);
    CHECK_INT(((const uint8_t *)array_of(r, MINKE_ROLLOUT_ARRAY_SAMPLED, NULL))[8], 1);
    CHECK_INT(((const uint8_t *)array_of(r, MINKE_ROLLOUT_ARRAY_SAMPLED, NULL))[9], 0);
    CHECK_INT(minke_rollout_sample(s, sampler, &token), MINKE_OK);
    CHECK_INT(length_of(r), 11);
    /* 5 ids for each of the two tokens that were drawn and are still there. */
    CHECK_INT(((const int64_t *)array_of(r, MINKE_ROLLOUT_ARRAY_ALLOWED_OFFSETS, NULL))[11], 10);
    minke_sampler_free(sampler);
    minke_session_free(s);
    minke_rollout_free(r);
    minke_context_free(ctx);
}

TEST(a_snapshot_goes_back_in_the_record_or_ends_it)
{
    minke_context *ctx = open_model(models[0], 1);
    minke_rollout *r = open_rollout(ctx, 0, 0), *again = NULL;
    minke_session *s = open_session(ctx, 0), *other = open_session(ctx, 0);
    minke_sampler *sampler = open_sampler(5, 1.0f, 1);
    int32_t prompt[8], token = -1;

    make_prompt(ctx, prompt, 8);
    CHECK_INT(minke_session_eval(other, prompt + 1, 7), MINKE_OK);
    CHECK_INT(minke_session_save(other, path_of("other.snapshot")), MINKE_OK);
    CHECK_INT(minke_rollout_record(s, r), MINKE_OK);
    CHECK_INT(minke_session_eval(s, prompt, 8), MINKE_OK);
    CHECK_INT(minke_session_save(s, path_of("own.snapshot")), MINKE_OK);
    for (size_t i = 0; i < 3; i++) {
        CHECK_INT(minke_rollout_sample(s, sampler, &token), MINKE_OK);
        CHECK_INT(minke_session_eval(s, &token, 1), MINKE_OK);
    }
    CHECK_INT(minke_session_load(s, path_of("own.snapshot")), MINKE_OK);
    CHECK_INT(minke_rollout_sample(s, sampler, &token), MINKE_OK);
    CHECK_INT(length_of(r), 9);
    CHECK_INT(minke_rollout_save(r, path_of("back")), MINKE_OK);
    CHECK_INT(minke_rollout_load(&again, ctx, path_of("back")), MINKE_OK);
    /* As many tokens, but others. */
    CHECK_INT(minke_session_load(s, path_of("other.snapshot")), MINKE_OK);
    CHECK_INT(minke_rollout_sample(s, sampler, &token), MINKE_EINVAL);
    CHECK_INT(minke_rollout_save(r, path_of("mixed")), MINKE_EINVAL);
    CHECK_INT(minke_rollout_replay(other, r, 0), MINKE_EINVAL);
    minke_rollout_free(again);
    again = open_rollout(ctx, 0, 0);
    CHECK_INT(minke_session_truncate(other, 0), MINKE_OK);
    CHECK_INT(minke_rollout_record(other, again), MINKE_OK);
    CHECK_INT(minke_session_fill(other, 4, 1), MINKE_OK);
    CHECK_INT(minke_session_eval(other, prompt, 1), MINKE_OK);
    CHECK_INT(minke_rollout_sample(other, sampler, &token), MINKE_EINVAL);
    minke_sampler_free(sampler);
    minke_session_free(other);
    minke_session_free(s);
    minke_rollout_free(again);
    minke_rollout_free(r);
    minke_context_free(ctx);
}

TEST(generated_tokens_are_recorded_and_forced_ones_are_not_drawn)
{
    static const char text[] = "<｜begin▁of▁sentence｜><｜User｜>What is 12 + 30?<｜Assistant｜><think>";
    minke_context *ctx = open_model(models[1], 1);
    minke_rollout *r = open_rollout(ctx, 0, 0);
    minke_session *s = open_session(ctx, 0);
    minke_sampler *sampler = open_sampler(0, 0.95f, 3);
    minke_generate_params p;
    const uint8_t *sampled;
    const int32_t *tokens;
    int32_t prompt[64], reason = 0, think = -1;
    size_t n = 0, n_forced = 0;
    char facts[1024];

    minke_generate_params_init(&p, sizeof p);
    p.thinking = MINKE_THINKING_ON;
    p.max_thinking = 4;
    p.max_tokens = 30;
    CHECK_INT(minke_token_find(ctx, "</think>", 8, &think), MINKE_OK);
    CHECK_INT(minke_tokenize(ctx, text, sizeof text - 1, MINKE_TOKENIZE_SPECIAL, prompt, 64, &n),
              MINKE_OK);
    CHECK_INT(minke_rollout_record(s, r), MINKE_OK);
    CHECK_INT(minke_generate(s, sampler, prompt, n, &p, &reason), MINKE_OK);
    sampled = array_of(r, MINKE_ROLLOUT_ARRAY_SAMPLED, NULL);
    tokens = array_of(r, MINKE_ROLLOUT_ARRAY_TOKENS, NULL);
    CHECK(length_of(r) > n + 5);
    for (size_t t = n; t < length_of(r); t++) {
        n_forced += !sampled[t];
        CHECK(sampled[t] || tokens[t] == think);
    }
    CHECK_INT(n_forced, 1);
    CHECK_INT(minke_rollout_facts(r, facts, sizeof facts, &n), MINKE_OK);
    facts[n] = 0;
    CHECK_HAS(facts, reason == MINKE_FINISH_STOP ? "\"finish_reason\": \"stop\""
                                                 : "\"finish_reason\": \"length\"");
    CHECK_HAS(facts, "\"seed\": \"3\"");
    minke_sampler_free(sampler);
    minke_session_free(s);
    minke_rollout_free(r);
    minke_context_free(ctx);
}

TEST(a_full_record_stops_the_draw_and_nothing_else)
{
    minke_context *ctx = open_model(models[0], 1);
    minke_rollout *r = open_rollout(ctx, 0, 12);
    minke_session *s = open_session(ctx, 0);
    minke_sampler *sampler = open_sampler(5, 1.0f, 1);
    int32_t prompt[8], token = -1;

    make_prompt(ctx, prompt, 8);
    CHECK_INT(minke_rollout_record(s, r), MINKE_OK);
    CHECK_INT(minke_session_eval(s, prompt, 8), MINKE_OK);
    for (size_t i = 0; i < 2; i++) {
        CHECK_INT(minke_rollout_sample(s, sampler, &token), MINKE_OK);
        CHECK_INT(minke_session_eval(s, &token, 1), MINKE_OK);
    }
    token = -1;
    CHECK_INT(minke_rollout_sample(s, sampler, &token), MINKE_EFULL);
    CHECK_HAS(minke_last_error(), "10 of 12 allowed ids, 5 more");
    CHECK_INT(token, -1);
    CHECK_INT(length_of(r), 10);
    CHECK_INT(minke_rollout_record(s, NULL), MINKE_OK);
    CHECK_INT(minke_session_eval(s, prompt, 1), MINKE_OK);
    CHECK_INT(length_of(r), 10);
    minke_sampler_free(sampler);
    minke_session_free(s);
    minke_rollout_free(r);
    minke_context_free(ctx);
}

/* ---- Replay ------------------------------------------------------------- */

static void check_same_bits(const minke_rollout *r, const float *masked, const float *full)
{
    const size_t n = length_of(r);

    CHECK(memcmp(masked, array_of(r, MINKE_ROLLOUT_ARRAY_LOGPROBS, NULL), n * sizeof(float)) == 0);
    CHECK(memcmp(full, array_of(r, MINKE_ROLLOUT_ARRAY_LOGPROBS_FULL, NULL), n * sizeof(float)) == 0);
}

TEST(scored_again_the_probabilities_are_the_same_bits)
{
    for (size_t m = 0; m < 2; m++) {
        minke_context *ctx = open_model(models[m], 1), *other = open_model(models[m], 2);
        minke_rollout *r = write_rollout(ctx, MINKE_ROLLOUT_SELECTED), *loaded = NULL;
        float masked[ROOM], full[ROOM];

        CHECK_INT(minke_rollout_save(r, path_of("r")), MINKE_OK);
        CHECK_INT(minke_rollout_load(&loaded, other, path_of("r")), MINKE_OK);
        for (uint32_t chunk = 0; chunk < 14; chunk += 7)
            for (uint32_t flags = 0; flags < 5; flags++) {
                minke_session *s = open_session(other, chunk);

                /* 4: free choices, which are the same ones. */
                CHECK_INT(minke_rollout_replay(s, flags == 4 ? NULL : loaded, flags % 4), MINKE_OK);
                memset(masked, 0xff, sizeof masked);
                CHECK_INT(minke_rollout_score(loaded, s, masked, full, ROOM), MINKE_OK);
                check_same_bits(r, masked, full);
                minke_session_free(s);
            }
        minke_rollout_free(r);
        minke_rollout_free(loaded);
        minke_context_free(ctx);
        minke_context_free(other);
    }
}

/* Mean distance of scored log-probabilities from the record's, over the tokens drawn. */
static double mismatch(minke_context *ctx, const minke_rollout *r, int replayed, int masked)
{
    const float *own = array_of(r, masked ? MINKE_ROLLOUT_ARRAY_LOGPROBS : MINKE_ROLLOUT_ARRAY_LOGPROBS_FULL,
                                NULL);
    minke_session *s = open_session(ctx, 0);
    float now[ROOM];
    double sum = 0;

    CHECK_INT(minke_rollout_replay(s, replayed ? r : NULL, 0), MINKE_OK);
    CHECK_INT(minke_rollout_score(r, s, masked ? now : NULL, masked ? NULL : now, ROOM), MINKE_OK);
    for (size_t t = N_PROMPT; t < length_of(r); t++)
        sum += fabs((double)now[t] - (double)own[t]);
    minke_session_free(s);
    return sum / N_REPLY;
}

TEST(under_changed_weights_the_recorded_routing_keeps_closer)
{
    double with = 0, without = 0;

    for (size_t m = 0; m < 2; m++) {
        minke_context *ctx = open_model(models[m], 1), *changed;
        minke_rollout *r = write_rollout(ctx, MINKE_ROLLOUT_SELECTED), *loaded = NULL;
        minke_quantize_params p;
        char path[96];

        snprintf(path, sizeof path, "%s", path_of("changed.gguf"));
        minke_quantize_params_init(&p, sizeof p);
        p.preset = "q4_0";
        CHECK_INT(minke_quantize(path, models[m], &p), MINKE_OK);
        changed = open_model(path, 1);
        CHECK_INT(minke_rollout_save(r, path_of("r")), MINKE_OK);
        CHECK_INT(minke_rollout_load(&loaded, changed, path_of("r")), MINKE_OK);
        with = mismatch(changed, loaded, 1, 1);
        without = mismatch(changed, loaded, 0, 1);
        printf("%s as Q4_0: mean distance %.4f replayed, %.4f not; full softmax %.4f, %.4f\n",
               models[m], with, without, mismatch(changed, loaded, 1, 0),
               mismatch(changed, loaded, 0, 0));
        CHECK(with > 0);
        CHECK(with < without);
        minke_rollout_free(r);
        minke_rollout_free(loaded);
        minke_context_free(ctx);
        minke_context_free(changed);
    }
}

/* ---- Files and mistakes ------------------------------------------------- */

static char *read_all(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    char *data;

    CHECK(f != NULL);
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    data = malloc(*n + 1);
    CHECK(fread(data, 1, *n, f) == *n);
    fclose(f);
    return data;
}

static int32_t load_bytes(minke_context *ctx, const char *data, size_t n)
{
    minke_rollout *r = NULL;
    FILE *f = fopen(path_of("bad"), "wb");
    int32_t rc;

    CHECK(f != NULL && fwrite(data, 1, n, f) == n && fclose(f) == 0);
    rc = minke_rollout_load(&r, ctx, path_of("bad"));
    CHECK((rc == MINKE_OK) == (r != NULL));
    minke_rollout_free(r);
    return rc;
}

TEST(a_damaged_file_is_refused_or_harmless)
{
    minke_context *ctx = open_model(models[0], 1);
    minke_rollout *r = open_rollout(ctx, MINKE_ROLLOUT_SELECTED, 0);
    minke_session *s = open_session(ctx, 0);
    minke_sampler *sampler = open_sampler(3, 1.0f, 1);
    int32_t prompt[4], token = -1;
    size_t n, n_refused = 0;
    char *data;

    make_prompt(ctx, prompt, 4);
    CHECK_INT(minke_rollout_record(s, r), MINKE_OK);
    CHECK_INT(minke_session_eval(s, prompt, 4), MINKE_OK);
    CHECK_INT(minke_rollout_sample(s, sampler, &token), MINKE_OK);
    CHECK_INT(minke_rollout_save(r, path_of("r")), MINKE_OK);
    data = read_all(path_of("r"), &n);
    CHECK_INT(load_bytes(ctx, data, n), MINKE_OK);
    for (size_t cut = 0; cut < n; cut += 1 + cut / 64)
        CHECK(load_bytes(ctx, data, cut) == MINKE_EFORMAT);
    for (size_t at = 0; at < n; at += at < 2000 ? 1 : 13)
        for (int bit = 0; bit < 8; bit += 7) {
            data[at] = (char)(data[at] ^ 1 << bit);
            const int32_t rc = load_bytes(ctx, data, n);

            n_refused += rc < 0;
            CHECK(rc == MINKE_OK || rc == MINKE_EFORMAT || rc == MINKE_EINVAL);
            data[at] = (char)(data[at] ^ 1 << bit);
        }
    CHECK(n_refused > 1000);
    free(data);
    minke_sampler_free(sampler);
    minke_session_free(s);
    minke_rollout_free(r);
    minke_context_free(ctx);
}

/* How a record came about, and what is kept of it. */
struct origin {
    float temperature, top_p;
    enum { EMPTY, PROMPT, REPLY, EVALUATED } end;    /* EVALUATED: the last token, too */
    uint32_t flags;
};

static minke_rollout *write_as(minke_context *ctx, const struct origin *o)
{
    minke_rollout *r = open_rollout(ctx, o->flags, 65536);
    minke_session *s = open_session(ctx, 0);
    minke_sampler *sampler = open_sampler_at(o->temperature, 0, o->top_p, UINT64_MAX);
    int32_t prompt[9], token = -1;

    make_prompt(ctx, prompt, 9);
    CHECK_INT(minke_rollout_record(s, r), MINKE_OK);
    if (o->end >= PROMPT)
        CHECK_INT(minke_session_eval(s, prompt, 9), MINKE_OK);
    for (size_t i = 0; i < 3 && o->end >= REPLY; i++) {
        CHECK_INT(minke_rollout_sample(s, sampler, &token), MINKE_OK);
        if (i < 2 || o->end == EVALUATED)
            CHECK_INT(minke_session_eval(s, &token, 1), MINKE_OK);
    }
    if (o->end == EVALUATED)
        CHECK_INT(minke_rollout_finish(r, MINKE_FINISH_FULL), MINKE_OK);
    minke_sampler_free(sampler);
    minke_session_free(s);
    return r;
}

static void check_same_array(const minke_rollout *a, const minke_rollout *b, int32_t key)
{
    uint64_t shape[2][3] = {{0, 1, 1}, {0, 1, 1}};
    const char *name[2] = {"", ""}, *dtype[2] = {"", ""};
    const void *data[2] = {NULL, NULL};
    uint32_t n_dims[2] = {0, 0};
    const int32_t kept = minke_rollout_array(a, key, &name[0], &dtype[0], shape[0], &n_dims[0],
                                             &data[0]);

    CHECK_INT(minke_rollout_array(b, key, &name[1], &dtype[1], shape[1], &n_dims[1], &data[1]),
              kept);
    CHECK_STR(name[0], name[1]);
    CHECK_STR(dtype[0], dtype[1]);
    CHECK_INT(n_dims[0], n_dims[1]);
    CHECK(memcmp(shape[0], shape[1], sizeof shape[0]) == 0);
    if (kept != MINKE_OK)
        return;
    const size_t item = (size_t)atoi(dtype[0] + 1) / 8;
    const size_t bytes = (size_t)(shape[0][0] * shape[0][1] * shape[0][2]) * item;

    CHECK(data[0] != NULL && data[1] != NULL && memcmp(data[0], data[1], bytes) == 0);
}

static void check_same_record(const minke_rollout *a, const minke_rollout *b)
{
    char facts[2][1024];
    size_t n[2] = {0, 0};

    for (int32_t key = MINKE_ROLLOUT_ARRAY_ALLOWED_OFFSETS; key <= MINKE_ROLLOUT_ARRAY_SAMPLED; key++)
        check_same_array(a, b, key);
    CHECK_INT(minke_rollout_facts(a, facts[0], sizeof facts[0], &n[0]), MINKE_OK);
    CHECK_INT(minke_rollout_facts(b, facts[1], sizeof facts[1], &n[1]), MINKE_OK);
    CHECK(n[0] == n[1] && memcmp(facts[0], facts[1], n[0]) == 0);
}

/* Loaded, it is followed and scored as the one that was saved. */
static void check_round_trip(minke_context *ctx, const struct origin *o)
{
    minke_rollout *r = write_as(ctx, o), *loaded = NULL;
    minke_session *s = open_session(ctx, 0);
    const int cut = o->temperature < 0.5f || o->top_p < 1.0f;
    float masked[ROOM], full[ROOM];

    CHECK_INT(minke_rollout_save(r, path_of("r")), MINKE_OK);
    CHECK_INT(minke_rollout_load(&loaded, ctx, path_of("r")), MINKE_OK);
    if (loaded == NULL) {
        fprintf(stderr, "%s\n", minke_last_error());
    } else {
        check_same_record(r, loaded);
        CHECK_INT(minke_rollout_replay(s, loaded, 0), MINKE_OK);
        CHECK_INT(minke_rollout_score(loaded, s, masked, full, ROOM),
                  o->end < REPLY ? MINKE_EINVAL
                  : cut && (o->flags & MINKE_ROLLOUT_NO_ALLOWED) ? MINKE_EUNSUPPORTED : MINKE_OK);
        if (o->end >= REPLY && !(cut && (o->flags & MINKE_ROLLOUT_NO_ALLOWED)))
            check_same_bits(r, masked, full);
    }
    minke_session_free(s);
    minke_rollout_free(loaded);
    minke_rollout_free(r);
}

TEST(every_record_that_is_saved_is_loaded)
{
    for (size_t m = 0; m < 2; m++) {
        minke_context *ctx = open_model(models[m], 1);

        for (uint32_t i = 0; i < 128; i++) {
            const struct origin o = {.temperature = i & 1 ? 1.0f : 0.0f,
                                     .top_p = i & 2 ? 1.0f : 0.9f, .end = (int)(i >> 2 & 3),
                                     .flags = i >> 4};
            const int before = test_failures;

            check_round_trip(ctx, &o);
            if (test_failures > before)
                fprintf(stderr, "%s: temperature %g, top-p %g, end %d, flags %u\n", models[m],
                        (double)o.temperature, (double)o.top_p, (int)o.end, o.flags);
        }
        minke_context_free(ctx);
    }
}

/* An allocator whose n-th call fails, once it is told to. */
struct meagre {
    int64_t left, live;
};

static void *meagre_alloc(void *user, size_t size, size_t align)
{
    struct meagre *m = user;
    void *p = NULL;

    if (m->left-- == 0 || posix_memalign(&p, align < sizeof(void *) ? sizeof(void *) : align, size))
        return NULL;
    m->live++;
    return p;
}

static void meagre_free(void *user, void *ptr, size_t size)
{
    (void)size;
    if (ptr != NULL)
        ((struct meagre *)user)->live--;
    free(ptr);
}

TEST(any_allocation_may_fail)
{
    struct meagre m = {-1, 0};
    minke_context_params p;
    minke_context *ctx = NULL, *plain = open_model(models[0], 1);
    minke_rollout *written = write_rollout(plain, MINKE_ROLLOUT_SELECTED), *r = NULL;
    float row[ROOM];
    int64_t live;
    int32_t rc;

    CHECK_INT(minke_rollout_save(written, path_of("r")), MINKE_OK);
    minke_context_params_init(&p, sizeof p);
    p.n_threads = 1;
    p.alloc = meagre_alloc;
    p.free = meagre_free;
    p.alloc_user = &m;
    CHECK_INT(minke_context_open(&ctx, models[0], &p), MINKE_OK);
    live = m.live;
    for (int64_t n = 0; r == NULL; n++) {
        m.left = n;
        rc = minke_rollout_load(&r, ctx, path_of("r"));
        m.left = -1;
        CHECK(rc == MINKE_OK || (rc == MINKE_ENOMEM && m.live == live));
        CHECK(n < 1000);
    }
    minke_session *s = open_session(ctx, 0);

    m.left = 0;
    CHECK_INT(minke_rollout_replay(s, r, 0), MINKE_ENOMEM);
    m.left = 0;
    CHECK_INT(minke_rollout_score(r, s, row, NULL, ROOM), MINKE_ENOMEM);
    m.left = -1;
    CHECK_INT(minke_rollout_score(r, s, row, NULL, ROOM), MINKE_OK);
    minke_session_free(s);
    minke_rollout_free(r);
    CHECK_INT(m.live, live);
    minke_context_free(ctx);
    CHECK_INT(m.live, 0);
    minke_rollout_free(written);
    minke_context_free(plain);
}

TEST(wrong_arguments_are_named)
{
    minke_context *ctx = open_model(models[0], 1), *calf = open_model(models[1], 1);
    minke_rollout *r = open_rollout(ctx, 0, 0), *small = NULL, *bare, *selected;
    minke_session *s = open_session(ctx, 0);
    minke_sampler *sampler = open_sampler(3, 1.0f, 1), *other = open_sampler(4, 1.0f, 1);
    minke_rollout_params p;
    int32_t prompt[4], token = -1;
    float row[ROOM];

    make_prompt(ctx, prompt, 4);
    CHECK_INT(minke_rollout_load(&small, ctx, path_of("none")), MINKE_EIO);
    CHECK_INT(minke_rollout_array(r, 99, NULL, NULL, NULL, NULL, NULL), MINKE_EVERSION);
    CHECK_INT(minke_rollout_array(r, MINKE_ROLLOUT_ARRAY_SELECTED, NULL, NULL, NULL, NULL, NULL),
              MINKE_EINVAL);
    CHECK_INT(minke_rollout_replay(s, r, MINKE_ROLLOUT_REPLAY_SELECTED), MINKE_EINVAL);
    CHECK_INT(minke_rollout_replay(s, r, 8), MINKE_EVERSION);
    CHECK_INT(minke_rollout_finish(r, 0), MINKE_EINVAL);
    CHECK_INT(minke_rollout_score(r, s, row, NULL, ROOM), MINKE_EINVAL);
    CHECK_HAS(minke_last_error(), "no token");
    CHECK_INT(minke_session_eval(s, prompt, 4), MINKE_OK);
    CHECK_INT(minke_rollout_sample(s, sampler, &token), MINKE_EINVAL);
    CHECK_HAS(minke_last_error(), "not recorded");
    CHECK_INT(minke_rollout_record(s, r), MINKE_EINVAL);
    CHECK_HAS(minke_last_error(), "holds 4 tokens");
    CHECK_INT(minke_session_truncate(s, 0), MINKE_OK);

    minke_rollout_params_init(&p, sizeof p);
    p.max_tokens = ROOM - 1;
    CHECK_INT(minke_rollout_open(&small, ctx, &p), MINKE_OK);
    CHECK_INT(minke_rollout_record(s, small), MINKE_EINVAL);
    CHECK_HAS(minke_last_error(), "room for 255 tokens");
    minke_rollout_free(small);
    bare = open_rollout(calf, 0, 0);
    CHECK_INT(minke_rollout_record(s, bare), MINKE_EINVAL);
    CHECK_HAS(minke_last_error(), "another shape");
    minke_rollout_free(bare);

    CHECK_INT(minke_rollout_record(s, r), MINKE_OK);
    CHECK_INT(minke_session_eval(s, prompt, 4), MINKE_OK);
    CHECK_INT(minke_rollout_sample(s, sampler, &token), MINKE_OK);
    CHECK_INT(minke_session_eval(s, &token, 1), MINKE_OK);
    CHECK_INT(minke_rollout_sample(s, other, &token), MINKE_EINVAL);
    CHECK_HAS(minke_last_error(), "other parameters");
    CHECK_INT(minke_rollout_score(r, s, row, NULL, ROOM), MINKE_EBUSY);
    CHECK_INT(minke_rollout_record(s, NULL), MINKE_OK);
    CHECK_INT(minke_rollout_score(r, s, row, NULL, 4), MINKE_ENOSPC);
    CHECK_INT(minke_rollout_score(r, s, row, NULL, 5), MINKE_OK);

    /* Cut, without the sets that were left. */
    selected = open_rollout(ctx, MINKE_ROLLOUT_NO_ALLOWED | MINKE_ROLLOUT_NO_EXPERTS, 0);
    CHECK_INT(minke_session_truncate(s, 0), MINKE_OK);
    CHECK_INT(minke_rollout_record(s, selected), MINKE_OK);
    CHECK_INT(minke_session_eval(s, prompt, 4), MINKE_OK);
    CHECK_INT(minke_rollout_sample(s, sampler, &token), MINKE_OK);
    CHECK_INT(minke_rollout_record(s, NULL), MINKE_OK);
    CHECK_INT(minke_rollout_score(selected, s, row, NULL, ROOM), MINKE_EUNSUPPORTED);
    CHECK_INT(minke_rollout_replay(s, selected, MINKE_ROLLOUT_REPLAY_EXPERTS), MINKE_EINVAL);
    minke_rollout_free(selected);

    minke_sampler_free(sampler);
    minke_sampler_free(other);
    minke_session_free(s);
    minke_rollout_free(r);
    minke_context_free(ctx);
    minke_context_free(calf);
}

/* A session outlives its record's owner, and the other way round. */
TEST(handles_are_freed_in_any_order)
{
    minke_context *ctx = open_model(models[0], 1);
    minke_rollout *r = open_rollout(ctx, 0, 0);
    minke_session *s = open_session(ctx, 0), *follower = open_session(ctx, 0);
    minke_sampler *sampler = open_sampler(3, 1.0f, 1);
    int32_t prompt[4], token = -1;

    make_prompt(ctx, prompt, 4);
    CHECK_INT(minke_rollout_record(s, r), MINKE_OK);
    CHECK_INT(minke_session_eval(s, prompt, 4), MINKE_OK);
    CHECK_INT(minke_rollout_replay(follower, r, 0), MINKE_OK);
    minke_rollout_free(r);
    minke_context_free(ctx);
    CHECK_INT(minke_rollout_sample(s, sampler, &token), MINKE_OK);
    CHECK_INT(minke_session_eval(follower, prompt, 4), MINKE_OK);
    minke_session_free(s);
    minke_sampler_free(sampler);
    minke_session_free(follower);
}

static int32_t all(void)
{
    char command[64];

    if (mkdtemp(folder) == NULL)
        return 1;
    RUN(every_drawn_token_has_its_row);
    RUN(the_record_is_what_an_observer_sees);
    RUN(a_truncated_session_takes_its_tokens_out_of_the_record);
    RUN(a_snapshot_goes_back_in_the_record_or_ends_it);
    RUN(generated_tokens_are_recorded_and_forced_ones_are_not_drawn);
    RUN(a_full_record_stops_the_draw_and_nothing_else);
    RUN(scored_again_the_probabilities_are_the_same_bits);
    RUN(under_changed_weights_the_recorded_routing_keeps_closer);
    RUN(a_damaged_file_is_refused_or_harmless);
    RUN(every_record_that_is_saved_is_loaded);
    RUN(any_allocation_may_fail);
    RUN(wrong_arguments_are_named);
    RUN(handles_are_freed_in_any_order);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

TEST_MAIN(CHECK_INT(all(), 0))
