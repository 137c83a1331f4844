/* Old and new callers: parameter structs shorter and longer than this build's. */
#include "minke.h"
#include "test.h"

/* A caller that was compiled against a later header. */
struct newer_context { minke_context_params known; uint64_t later; };
struct newer_session { minke_session_params known; uint64_t later; };
struct newer_sampler { minke_sampler_params known; uint64_t later; };

/* What a caller of the first release passes. */
#define OLD_CONTEXT sizeof(minke_context_params)
#define OLD_SESSION sizeof(minke_session_params)
#define OLD_SAMPLER sizeof(minke_sampler_params)

static int32_t sampler_status(const void *params)
{
    minke_sampler *s = NULL;
    const int32_t status = minke_sampler_open(&s, params);
    CHECK((s != NULL) == (status == MINKE_OK));
    minke_sampler_free(s);
    return status;
}

/* No such folder: what is wrong with the params is found before it is opened. */
static int32_t context_status(const void *params)
{
    minke_context *ctx = NULL;
    const int32_t status = minke_context_open(&ctx, "tests/abi/no-such-model", params);
    CHECK(ctx == NULL);
    return status;
}

TEST(init_sets_the_callers_size_and_zero_elsewhere)
{
    struct newer_sampler p;
    memset(&p, 0xff, sizeof p);
    minke_sampler_params_init(&p.known, sizeof p);
    CHECK_INT(p.known.struct_size, sizeof p);
    CHECK_INT(p.later, 0);
    const unsigned char *bytes = (const unsigned char *)&p;
    for (size_t i = sizeof p.known.struct_size; i < sizeof p; i++)
        CHECK_INT(bytes[i], 0);
}

TEST(init_leaves_what_is_beyond_the_callers_size)
{
    struct newer_context p;
    memset(&p, 0xff, sizeof p);
    minke_context_params_init(&p.known, sizeof p.known);
    CHECK_INT(p.known.struct_size, sizeof p.known);
    CHECK(p.later == UINT64_MAX);
    struct newer_session q;
    memset(&q, 0xff, sizeof q);
    minke_session_params_init(&q.known, sizeof q.known);
    CHECK_INT(q.known.struct_size, sizeof q.known);
    CHECK(q.later == UINT64_MAX);
}

TEST(the_first_releases_sizes_are_accepted)
{
    minke_sampler_params s;
    minke_sampler_params_init(&s, OLD_SAMPLER);
    CHECK_INT(s.struct_size, OLD_SAMPLER);
    CHECK_INT(sampler_status(&s), MINKE_OK);
    minke_context_params c;
    minke_context_params_init(&c, OLD_CONTEXT);
    const int32_t plain = context_status(NULL);
    CHECK(plain < 0 && plain != MINKE_EINVAL && plain != MINKE_EVERSION);
    CHECK_INT(context_status(&c), plain);
}

TEST(a_newer_callers_zero_tail_is_accepted)
{
    struct newer_sampler s;
    minke_sampler_params_init(&s.known, sizeof s);
    CHECK_INT(sampler_status(&s), MINKE_OK);
    struct newer_context c;
    minke_context_params_init(&c.known, sizeof c);
    CHECK_INT(context_status(&c), context_status(NULL));
}

TEST(a_newer_callers_tail_that_asks_for_something_is_refused)
{
    struct newer_sampler s;
    minke_sampler_params_init(&s.known, sizeof s);
    s.later = 1;
    CHECK_INT(sampler_status(&s), MINKE_EVERSION);
    struct newer_context c;
    minke_context_params_init(&c.known, sizeof c);
    c.later = 1;
    CHECK_INT(context_status(&c), MINKE_EVERSION);
}

TEST(sizes_that_no_version_had_are_refused)
{
    minke_sampler_params s;
    minke_sampler_params_init(&s, sizeof s);
    s.struct_size = 0;
    CHECK_INT(sampler_status(&s), MINKE_EINVAL);
    s.struct_size = 8;
    CHECK_INT(sampler_status(&s), MINKE_EINVAL);
    minke_context_params c;
    minke_context_params_init(&c, sizeof c);
    c.struct_size = 4;
    CHECK_INT(context_status(&c), MINKE_EINVAL);
}

TEST(unknown_flags_are_refused)
{
    minke_context_params c;
    minke_context_params_init(&c, sizeof c);
    c.flags = 1u << 31;
    CHECK(context_status(&c) == MINKE_EINVAL || context_status(&c) == MINKE_EVERSION);
}

/* Structs of chats, as the first release that has them passes them.  Without handles the
 * params are not reached, so that each is read by the call that needs least. */
struct newer_generate { minke_generate_params known; uint64_t later; };
struct newer_chat { minke_chat_params known; uint64_t later; };
struct newer_reply { minke_reply_params known; uint64_t later; };

static int32_t chat_status(void *params)
{
    minke_chat_params *p = params;
    char text[256];
    size_t n;

    p->encoding = "deepseek-v3";
    return minke_chat_render(NULL, "[]", 2, p, text, sizeof text, &n);
}

static int32_t reply_status(void *params)
{
    minke_reply_params *p = params;
    minke_reply *r = NULL;
    int32_t status;

    p->encoding = "deepseek-v3";
    status = minke_reply_open(&r, NULL, p);
    minke_reply_free(r);
    return status;
}

TEST(structs_of_chats_grow_as_the_others)
{
    struct newer_chat c;
    struct newer_reply r;
    struct newer_generate g;

    minke_chat_params_init(&c.known, sizeof c);
    CHECK_INT(chat_status(&c), MINKE_OK);
    c.later = 1;
    CHECK_INT(chat_status(&c), MINKE_EVERSION);
    c.known.struct_size = sizeof c.known - 8;
    CHECK_INT(chat_status(&c), MINKE_EINVAL);
    minke_reply_params_init(&r.known, sizeof r);
    CHECK_INT(reply_status(&r), MINKE_OK);
    r.later = 1;
    CHECK_INT(reply_status(&r), MINKE_EVERSION);
    memset(&g, 0xff, sizeof g);
    minke_generate_params_init(&g.known, sizeof g.known);
    CHECK_INT(g.known.struct_size, sizeof g.known);
    CHECK(g.known.user == NULL && g.later == UINT64_MAX);
}

struct newer_trim { minke_chat_trim_params known; uint64_t later; };
struct newer_quantize { minke_quantize_params known; uint64_t later; };

static int32_t trim_status(minke_chat_trim_params *p)
{
    int32_t action;
    char text[16];
    size_t n;

    p->strategy = MINKE_TRIM_STRATEGY_ALL;
    p->window = 100;
    return minke_chat_trim("[]", 2, p, text, sizeof text, &n, &action);
}

TEST(trimming_takes_newer_structs_with_a_zero_tail)
{
    struct newer_trim p;

    minke_chat_trim_params_init(&p.known, sizeof p);
    CHECK_INT(trim_status(&p.known), MINKE_OK);
    p.later = 1;
    CHECK_INT(trim_status(&p.known), MINKE_EVERSION);
    minke_chat_trim_params_init(&p.known, sizeof p.known);
    CHECK_INT(trim_status(&p.known), MINKE_OK);
    p.known.struct_size -= 8;
    CHECK_INT(trim_status(&p.known), MINKE_EINVAL);
}

/* No such model: what is wrong with the params is found before it is opened. */
static int32_t quantize_status(const void *params)
{
    return minke_quantize("build/no-such-folder/model.gguf", "tests/abi/no-such-model", params);
}

TEST(quantizing_takes_newer_structs_with_a_zero_tail)
{
    struct newer_quantize p;
    const int32_t plain = quantize_status(NULL);

    CHECK_INT(plain, MINKE_EIO);
    minke_quantize_params_init(&p.known, sizeof p);
    CHECK_INT(quantize_status(&p), plain);
    p.later = 1;
    CHECK_INT(quantize_status(&p), MINKE_EVERSION);
    p.known.struct_size = sizeof p.known - 8;
    CHECK_INT(quantize_status(&p), MINKE_EINVAL);
}

struct newer_search { minke_search_params known; uint64_t later; };

static int32_t search_status(const void *params)
{
    minke_search *s = NULL;
    const int32_t status = minke_search_open(&s, "x", 1, params);

    minke_search_free(s);
    return status;
}

TEST(searches_take_newer_structs_with_a_zero_tail)
{
    struct newer_search p;

    minke_search_params_init(&p.known, sizeof p);
    CHECK_INT(search_status(&p), MINKE_OK);
    p.later = 1;
    CHECK_INT(search_status(&p), MINKE_EVERSION);
    minke_search_params_init(&p.known, sizeof p.known);
    CHECK_INT(search_status(&p), MINKE_OK);
    p.known.struct_size -= 8;
    CHECK_INT(search_status(&p), MINKE_EINVAL);
}

struct newer_judge { minke_judge_params known; uint64_t later; };
struct newer_prompt { minke_proof_prompt_params known; uint64_t later; };

static int32_t asks_nobody(void *user, int32_t ask, uint64_t seed, const char *prompt,
                           size_t prompt_len, uint32_t n, minke_take_fn take, void *sink)
{
    (void)user, (void)ask, (void)seed, (void)prompt, (void)prompt_len, (void)n, (void)take;
    (void)sink;
    return 0;
}

TEST(judges_take_newer_structs_with_a_zero_tail)
{
    static const char *const rubrics[1] = {"x"};
    static const size_t lens[1] = {1};
    struct newer_judge p;
    double reward = 5;

    minke_judge_params_init(&p.known, sizeof p);
    p.known.rubrics = rubrics;
    p.known.rubric_lens = lens;
    p.known.n_rubrics = 1;
    p.known.complete = asks_nobody;
    CHECK_INT(minke_judge(&p.known, &reward, NULL), MINKE_OK);
    p.later = 1;
    CHECK_INT(minke_judge(&p.known, &reward, NULL), MINKE_EVERSION);
    p.known.struct_size = sizeof p.known - 8;
    CHECK_INT(minke_judge(&p.known, &reward, NULL), MINKE_EINVAL);
}

TEST(prompts_take_newer_structs_with_a_zero_tail)
{
    struct newer_prompt p;
    char text[4096];
    size_t n = 0;

    minke_proof_prompt_params_init(&p.known, sizeof p);
    p.known.ask = MINKE_ASK_PROOF;
    CHECK_INT(minke_proof_prompt(&p.known, text, sizeof text, &n), MINKE_OK);
    p.later = 1;
    CHECK_INT(minke_proof_prompt(&p.known, text, sizeof text, &n), MINKE_EVERSION);
    p.known.struct_size = sizeof p.known - 8;
    CHECK_INT(minke_proof_prompt(&p.known, text, sizeof text, &n), MINKE_EINVAL);
}

/* ---- With a model ------------------------------------------------------- */

static minke_context *small_model(void)
{
    minke_context *ctx = NULL;

    if (minke_context_open(&ctx, "tests/golden/v2-lite", NULL) < 0)
        fprintf(stderr, "%s\n", minke_last_error());
    return ctx;
}

struct newer_rollout { minke_rollout_params known; uint64_t later; };

TEST(rollouts_take_newer_structs_with_a_zero_tail)
{
    minke_context *ctx = small_model();
    struct newer_rollout p;
    minke_rollout *r = NULL;
    uint64_t bytes = 0;

    minke_rollout_params_init(&p.known, sizeof p);
    p.known.max_tokens = 8;
    CHECK_INT(minke_rollout_memory(ctx, &p.known, &bytes), MINKE_OK);
    CHECK(bytes > 0);
    p.later = 1;
    CHECK_INT(minke_rollout_open(&r, ctx, &p.known), MINKE_EVERSION);
    p.later = 0;
    p.known.flags = 8;
    CHECK_INT(minke_rollout_open(&r, ctx, &p.known), MINKE_EVERSION);
    minke_rollout_params_init(&p.known, sizeof p.known);
    p.known.struct_size -= 8;
    CHECK_INT(minke_rollout_open(&r, ctx, &p.known), MINKE_EINVAL);
    CHECK(r == NULL);
    minke_context_free(ctx);
}

static int32_t session_status(minke_context *ctx, const void *params)
{
    minke_session *s = NULL;
    const int32_t status = minke_session_open(&s, ctx, params);

    CHECK((s != NULL) == (status == MINKE_OK));
    minke_session_free(s);
    return status;
}

TEST(sessions_take_structs_of_the_first_release_and_of_later)
{
    minke_context *ctx = small_model();
    struct newer_session p;
    uint64_t bytes = 0, old_bytes = 1;

    memset(&p, 0xff, sizeof p);
    minke_session_params_init(&p.known, OLD_SESSION);
    CHECK_INT(p.known.struct_size, OLD_SESSION);
    CHECK(p.later == UINT64_MAX);       /* behind the caller's struct: neither written, nor read */
    CHECK_INT(session_status(ctx, &p), MINKE_OK);
    CHECK_INT(minke_session_memory(ctx, &p.known, &old_bytes), MINKE_OK);
    p.known.struct_size = 12;
    CHECK_INT(session_status(ctx, &p), MINKE_EINVAL);
    minke_session_params_init(&p.known, sizeof p);
    CHECK_INT(session_status(ctx, &p), MINKE_OK);
    CHECK_INT(minke_session_memory(ctx, &p.known, &bytes), MINKE_OK);
    CHECK_INT(bytes, old_bytes);
    p.later = 1;
    CHECK_INT(session_status(ctx, &p), MINKE_EVERSION);
    CHECK_INT(minke_session_memory(ctx, &p.known, &bytes), MINKE_EVERSION);
    minke_context_free(ctx);
}

TEST(generators_take_newer_structs_with_a_zero_tail)
{
    minke_context *ctx = small_model();
    minke_session *s = NULL;
    minke_sampler *sampler = NULL;
    struct newer_generate p;
    const int32_t prompt[2] = {5, 6};
    int32_t reason = 0;

    CHECK_INT(minke_session_open(&s, ctx, NULL), MINKE_OK);
    CHECK_INT(minke_sampler_open(&sampler, NULL), MINKE_OK);
    minke_generate_params_init(&p.known, sizeof p);
    p.known.max_tokens = 2;
    p.later = 1;
    CHECK_INT(minke_generate(s, sampler, prompt, 2, &p.known, &reason), MINKE_EVERSION);
    CHECK_INT(reason, 0);
    CHECK_INT(minke_session_length(s), 0);
    p.later = 0;
    p.known.struct_size = 8;
    CHECK_INT(minke_generate(s, sampler, prompt, 2, &p.known, &reason), MINKE_EINVAL);
    minke_sampler_free(sampler);
    minke_session_free(s);
    minke_context_free(ctx);
}

TEST(version_and_abi_are_the_headers)
{
    CHECK_INT(minke_abi(), MINKE_ABI);
    CHECK_INT(minke_version(),
              MINKE_VERSION_MAJOR << 16 | MINKE_VERSION_MINOR << 8 | MINKE_VERSION_PATCH);
}

TEST_MAIN(RUN(init_sets_the_callers_size_and_zero_elsewhere),
          RUN(init_leaves_what_is_beyond_the_callers_size),
          RUN(the_first_releases_sizes_are_accepted), RUN(a_newer_callers_zero_tail_is_accepted),
          RUN(a_newer_callers_tail_that_asks_for_something_is_refused),
          RUN(sizes_that_no_version_had_are_refused),
          RUN(unknown_flags_are_refused),
          RUN(structs_of_chats_grow_as_the_others),
          RUN(trimming_takes_newer_structs_with_a_zero_tail),
          RUN(quantizing_takes_newer_structs_with_a_zero_tail),
          RUN(searches_take_newer_structs_with_a_zero_tail),
          RUN(judges_take_newer_structs_with_a_zero_tail),
          RUN(prompts_take_newer_structs_with_a_zero_tail),
          RUN(sessions_take_structs_of_the_first_release_and_of_later),
          RUN(generators_take_newer_structs_with_a_zero_tail),
          RUN(version_and_abi_are_the_headers),
          RUN(rollouts_take_newer_structs_with_a_zero_tail))
