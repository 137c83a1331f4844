/* GGUF files through the whole library: another program's, and minke's own. */
#define _GNU_SOURCE 1 /* mkdtemp */
#include "golden.h"
#include "folder.h"

#define OUT test_file("model.gguf")

static struct golden g;

/* The largest difference to the reference of the file at path. */
static float worst_of(const char *path, uint32_t flags)
{
    const size_t vocab = g.logits.cols, n = g.prompt.rows;
    minke_context *ctx = golden_open(path, 2, flags);
    minke_session *s = golden_session(ctx, (uint32_t)n, 0, 0);
    float *rows = malloc(n * vocab * sizeof(float));
    float worst = INFINITY;

    if (minke_session_eval_all(s, g.prompt.i, n, rows, n * vocab) == MINKE_OK)
        worst = golden_worst(rows + g.first_row * vocab, g.logits.f, g.logits.rows * vocab);
    printf("%s: %g\n", path, (double)worst);
    free(rows);
    minke_session_free(s);
    minke_context_free(ctx);
    return worst;
}

/* Files of make_gguf.py beside the cases they hold, then those of llama.cpp's converter, where
 * the shared folder is present. */
static const char *const files[][2] = {
    {"v2-lite", GOLDEN_GGUF "/v2-lite.gguf"},
    {"v2", GOLDEN_GGUF "/v2.gguf"},
    {"v3", GOLDEN_GGUF "/v3.gguf"},
    {"v32", GOLDEN_GGUF "/v32.gguf"},
    {"v2-lite", GOLDEN_GGUF "/v2-lite-older.gguf"},
    {"v3", GOLDEN_GGUF "/v3-older.gguf"},
    {"v3", GOLDEN_GGUF "/v3-fused.gguf"},
    {"v32", GOLDEN_GGUF "/v32-fused.gguf"},
    {"v3", GOLDEN_GGUF "/v3-parts-00001-of-00003.gguf"},
    {"v32-fp8", GOLDEN_GGUF "/v32-fp8-00001-of-00002.gguf"},
    {"v2-lite", "../shared/golden/gguf/v2-lite.gguf"},
    {"v3", "../shared/golden/gguf/v3.gguf"},
    {"v32-gguf", "../shared/golden/gguf/v32-gguf.gguf"},
};

/* Logits of the prediction layer, a few rows of them; 0 when the case has none. */
static float worst_prediction_of(const char *path)
{
    const size_t vocab = g.logits.cols, n = g.prompt.rows;
    minke_context *ctx;
    minke_session *s;
    float *row, worst = 0.0f;

    if (g.mtp_logits.rows == 0)
        return 0.0f;
    ctx = golden_open(path, 2, 0);
    s = golden_session(ctx, (uint32_t)n, 0, MINKE_SESSION_MTP);
    row = malloc(vocab * sizeof *row);
    for (size_t i = 0; i + 1 < n; i += 31) {
        CHECK_INT(minke_session_sync(s, g.prompt.i, i + 1, NULL), MINKE_OK);
        CHECK_INT(minke_session_mtp(s, g.prompt.i[i + 1], row, vocab), MINKE_OK);
        const float now = golden_worst(row, g.mtp_logits.f + i * vocab, vocab);
        worst = now <= worst ? worst : now;
    }
    free(row);
    minke_session_free(s);
    minke_context_free(ctx);
    return worst;
}

TEST(golden_files_give_the_references_logits)
{
    char dir[128];

    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        const int is_shared = strncmp(files[i][1], "../shared", 9) == 0;

        snprintf(dir, sizeof dir, "%s/golden/%s", is_shared ? "../shared" : "tests", files[i][0]);
        if (golden_load(&g, dir) != 0) {
            CHECK(is_shared);
            continue;
        }
        CHECK(golden_is_clear(&g));
        CHECK(worst_of(files[i][1], 0) <= 2e-4f);
        CHECK(worst_of(files[i][1], MINKE_CONTEXT_MMAP | MINKE_CONTEXT_VERIFY) <= 2e-4f);
        CHECK(worst_prediction_of(files[i][1]) <= 5e-4f);
        golden_free(&g);
    }
}

/* The prediction layer's copies of embedding and head are known, though not read. */
TEST(strictly_only_what_no_model_uses_is_surplus)
{
    minke_context *ctx = NULL;
    minke_context_params p;

    minke_context_params_init(&p, sizeof p);
    p.flags = MINKE_CONTEXT_STRICT;
    CHECK_INT(minke_context_open(&ctx, GOLDEN_GGUF "/v32-fp8-00001-of-00002.gguf", &p), MINKE_OK);
    minke_context_free(ctx);
    CHECK_INT(minke_context_open(&ctx, GOLDEN_GGUF "/v3-fused.gguf", &p), MINKE_EFORMAT);
    CHECK_HAS(minke_last_error(), "rope_freqs.weight: the model has no use for it (1 in all)");
}

/* A part that is not the first says which one is. */
TEST(the_second_part_alone_is_refused)
{
    minke_context *ctx = NULL;

    CHECK_INT(minke_context_open(&ctx, GOLDEN_GGUF "/v3-parts-00002-of-00003.gguf", NULL),
              MINKE_EFORMAT);
    CHECK_HAS(minke_last_error(), "-00001-of-00003.gguf");
    CHECK(ctx == NULL);
}

TEST(what_minke_writes_gives_the_references_logits)
{
    minke_quantize_params p;
    size_t n_seen = 0;

    minke_quantize_params_init(&p, sizeof p);
    p.preset = "f32";
    for (size_t i = 0; i < GOLDEN_N; i++) {
        if (golden_load(&g, golden_cases[i]) != 0)
            continue;
        n_seen++;
        CHECK_INT(minke_quantize(OUT, golden_cases[i], &p), MINKE_OK);
        CHECK(worst_of(OUT, 0) <= golden_bound(&g));
        CHECK(worst_of(OUT, MINKE_CONTEXT_MMAP | MINKE_CONTEXT_VERIFY) <= golden_bound(&g));
        golden_free(&g);
    }
    if (n_seen == 0)
        SKIP("no golden case is here");
}

/* 8-bit weights of these tiny random models move logits by about one; more is a wrong layout. */
TEST(eight_bits_keep_most_best_tokens)
{
    minke_quantize_params p;

    minke_quantize_params_init(&p, sizeof p);
    CHECK_INT(golden_load(&g, "tests/golden/v2-lite"), 0);
    CHECK_INT(minke_quantize(OUT, "tests/golden/v2-lite", &p), MINKE_OK);
    CHECK(worst_of(OUT, 0) <= 3.0f);
    golden_free(&g);
}

int main(void)
{
    (void)golden_layer;
    RUN(golden_files_give_the_references_logits);
    RUN(strictly_only_what_no_model_uses_is_surplus);
    RUN(the_second_part_alone_is_refused);
    RUN(what_minke_writes_gives_the_references_logits);
    RUN(eight_bits_keep_most_best_tokens);
    printf("%d tests, %d skipped, %d checks failed\n", test_runs, test_skips, test_failures);
    return test_failures ? 1 : test_skips == test_runs ? 77 : 0;
}
