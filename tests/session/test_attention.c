/* Dense attention, a sliding window and the indexer's selection, on every model. */
#include "golden.h"

#define N_TOKENS 150u

static const char *path;
static minke_context *ctx;           /* deterministic: rows compare bit for bit */
static int64_t n_vocab, n_layers, top_k;
static int32_t prompt[N_TOKENS];

static int64_t info(int32_t key)
{
    int64_t v = 0;

    CHECK_INT(minke_context_info(ctx, key, &v), MINKE_OK);
    return v;
}

static minke_session *open_with(uint32_t attention, uint32_t window, uint32_t chunk,
                                uint32_t flags)
{
    minke_session_params p;
    minke_session *s = NULL;

    minke_session_params_init(&p, sizeof(p));
    p.max_tokens = N_TOKENS;
    p.prefill_chunk = chunk;
    p.flags = flags;
    p.attention = attention;
    p.window = window;
    CHECK_INT(minke_session_open(&s, ctx, &p), MINKE_OK);
    return s;
}

static float *rows(const int32_t *tokens, uint32_t attention, uint32_t window, uint32_t chunk,
                   uint32_t flags)
{
    const size_t size = N_TOKENS * (size_t)n_vocab;
    float *logits = malloc(size * sizeof(float));
    minke_session *s = open_with(attention, window, chunk, flags);

    CHECK_INT(minke_session_eval_all(s, tokens, N_TOKENS, logits, size), MINKE_OK);
    minke_session_free(s);
    return logits;
}

/* Whether the rows [begin, end) are the same bits. */
static int same(const float *a, const float *b, size_t begin, size_t end)
{
    const size_t n = (size_t)n_vocab;

    return memcmp(a + begin * n, b + begin * n, (end - begin) * n * sizeof(float)) == 0;
}

TEST(a_window_that_holds_everything_is_dense)
{
    float *dense = rows(prompt, MINKE_ATTENTION_DENSE, 0, 0, 0);
    float *window = rows(prompt, MINKE_ATTENTION_WINDOW, N_TOKENS, 0, 0);
    float *narrow = rows(prompt, MINKE_ATTENTION_WINDOW, 20, 0, 0);

    CHECK(same(dense, window, 0, N_TOKENS));
    CHECK(same(dense, narrow, 0, 20));
    CHECK(!same(dense, narrow, 20, 21));
    free(dense);
    free(window);
    free(narrow);
}

TEST(a_window_of_one_token_knows_no_position)
{
    const size_t n = (size_t)n_vocab;
    float *logits = rows(prompt, MINKE_ATTENTION_WINDOW, 1, 0, 0);

    /* The prompt repeats its tokens 97 positions apart. */
    CHECK_INT(prompt[3], prompt[100]);
    CHECK(memcmp(logits + 3 * n, logits + 100 * n, n * sizeof(float)) == 0);
    free(logits);
}

TEST(what_left_the_window_of_every_layer_has_no_influence)
{
    const uint32_t w = 8;
    const size_t reach = (size_t)n_layers * (w - 1) + 1;
    int32_t other[N_TOKENS];
    float *before, *after;

    memcpy(other, prompt, sizeof(other));
    other[0] = (prompt[0] + 1) % (int32_t)n_vocab;
    before = rows(prompt, MINKE_ATTENTION_WINDOW, w, 0, 0);
    after = rows(other, MINKE_ATTENTION_WINDOW, w, 0, 0);
    CHECK(!same(before, after, 1, 2));
    CHECK(reach >= N_TOKENS || same(before, after, reach, N_TOKENS));
    free(before);
    free(after);
}

TEST(windows_give_the_same_bits_in_any_chunking)
{
    static const uint32_t chunks[] = {1, 7, 64};
    float *all = rows(prompt, MINKE_ATTENTION_WINDOW, 33, 0, 0);

    for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
        float *other = rows(prompt, MINKE_ATTENTION_WINDOW, 33, chunks[i], 0);

        CHECK(same(all, other, 0, N_TOKENS));
        free(other);
    }
    free(all);
}

TEST(both_forms_agree_on_windows)
{
    static const uint32_t chunks[] = {0, 50, 3};
    float *absorbed = rows(prompt, MINKE_ATTENTION_WINDOW, 21, 0, MINKE_SESSION_ABSORBED);

    for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
        float *naive = rows(prompt, MINKE_ATTENTION_WINDOW, 21, chunks[i], MINKE_SESSION_NAIVE);

        CHECK(golden_worst(absorbed, naive, N_TOKENS * (size_t)n_vocab) < 1e-3f);
        free(naive);
    }
    free(absorbed);
}

TEST(the_default_is_the_models_own)
{
    const uint32_t own = top_k > 0 ? MINKE_ATTENTION_DSA : MINKE_ATTENTION_DENSE;
    float *named = rows(prompt, own, 0, 0, 0);
    float *unnamed = rows(prompt, MINKE_ATTENTION_DEFAULT, 0, 0, 0);
    float *dense = rows(prompt, MINKE_ATTENTION_DENSE, 0, 0, 0);

    CHECK(same(named, unnamed, 0, N_TOKENS));
    if (top_k > 0 && top_k < N_TOKENS) {
        CHECK(same(named, dense, 0, (size_t)top_k));
        CHECK(!same(named, dense, (size_t)top_k, N_TOKENS));
    }
    free(named);
    free(unnamed);
    free(dense);
}

TEST(only_sessions_with_the_indexer_keep_its_keys)
{
    minke_session_params p;
    uint64_t own = 0, dense = 0, window = 0;

    minke_session_params_init(&p, sizeof(p));
    p.max_tokens = 100000;
    p.prefill_chunk = 1;
    CHECK_INT(minke_session_memory(ctx, &p, &own), MINKE_OK);
    p.attention = MINKE_ATTENTION_DENSE;
    CHECK_INT(minke_session_memory(ctx, &p, &dense), MINKE_OK);
    p.attention = MINKE_ATTENTION_WINDOW;
    p.window = 64;
    CHECK_INT(minke_session_memory(ctx, &p, &window), MINKE_OK);
    CHECK_INT(dense, window);
    CHECK(top_k > 0 ? dense < own : dense == own);
}

static int32_t refused(uint32_t attention, uint32_t window)
{
    minke_session_params p;
    minke_session *s = NULL;
    int32_t rc;

    minke_session_params_init(&p, sizeof(p));
    p.attention = attention;
    p.window = window;
    rc = minke_session_open(&s, ctx, &p);
    CHECK((s != NULL) == (rc == MINKE_OK));
    minke_session_free(s);
    return rc;
}

TEST(patterns_that_make_no_sense_are_refused)
{
    CHECK_INT(refused(MINKE_ATTENTION_WINDOW, 0), MINKE_EINVAL);
    CHECK_HAS(minke_last_error(), "window: 0 tokens");
    CHECK_INT(refused(MINKE_ATTENTION_DENSE, 5), MINKE_EINVAL);
    CHECK_INT(refused(MINKE_ATTENTION_DEFAULT, 5), MINKE_EINVAL);
    CHECK_INT(refused(MINKE_ATTENTION_DSA + 1, 0), MINKE_EVERSION);
    CHECK_HAS(minke_last_error(), "attention 4");
    CHECK_INT(refused(MINKE_ATTENTION_WINDOW, UINT32_MAX), MINKE_OK);
    CHECK_INT(refused(MINKE_ATTENTION_DSA, 0), top_k > 0 ? MINKE_OK : MINKE_EUNSUPPORTED);
    if (top_k == 0)
        CHECK_HAS(minke_last_error(), "has no indexer");
}

static void run_all(void)
{
    ctx = golden_open(path, 1, MINKE_CONTEXT_DETERMINISTIC);
    n_vocab = info(MINKE_INFO_N_VOCAB);
    n_layers = info(MINKE_INFO_N_LAYERS);
    top_k = info(MINKE_INFO_INDEX_TOPK);
    for (uint32_t i = 0; i < N_TOKENS; i++)
        prompt[i] = (int32_t)((i % 97 * 2654435761u >> 7) % (uint32_t)n_vocab);
    RUN(a_window_that_holds_everything_is_dense);
    RUN(a_window_of_one_token_knows_no_position);
    RUN(what_left_the_window_of_every_layer_has_no_influence);
    RUN(windows_give_the_same_bits_in_any_chunking);
    RUN(both_forms_agree_on_windows);
    RUN(the_default_is_the_models_own);
    RUN(only_sessions_with_the_indexer_keep_its_keys);
    RUN(patterns_that_make_no_sense_are_refused);
    minke_context_free(ctx);
}

int main(void)
{
    static const char *const models[] = {"examples/calf", "tests/golden/v32", "tests/golden/v2-lite",
                                         "tests/golden/v3", "../shared/golden/v32",
                                         "../shared/golden/v2-lite", "../shared/golden/v3"};
    size_t n_seen = 0;

    for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
        char file[256];
        FILE *f;

        snprintf(file, sizeof(file), "%s/config.json", models[i]);
        f = fopen(file, "rb");
        if (f == NULL)
            continue;
        fclose(f);
        path = models[i];
        n_seen++;
        run_all();
    }
    printf("%zu models, %d checks failed\n", n_seen, test_failures);
    return test_failures ? 1 : n_seen ? 0 : 77;
}
