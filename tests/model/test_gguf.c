/* GGUF files through the whole library: another program's, and minke's own. */
#include "golden.h"

#define OUT "/tmp/minke-test-gguf.gguf"

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

TEST(golden_files_give_the_references_logits)
{
    static const char *const names[] = {"v2-lite", "v3", "v32-gguf"};
    char dir[128], path[128];

    for (int i = 0; i < 3; i++) {
        snprintf(dir, sizeof dir, "../shared/golden/%s", names[i]);
        snprintf(path, sizeof path, "../shared/golden/gguf/%s.gguf", names[i]);
        if (golden_load(&g, dir) != 0)
            SKIP("../shared/golden is absent");
        CHECK(worst_of(path, 0) <= 2e-4f);
        CHECK(worst_of(path, MINKE_CONTEXT_MMAP | MINKE_CONTEXT_VERIFY) <= 2e-4f);
        golden_free(&g);
    }
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
    remove(OUT);
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
    remove(OUT);
}

int main(void)
{
    (void)golden_layer;
    RUN(golden_files_give_the_references_logits);
    RUN(what_minke_writes_gives_the_references_logits);
    RUN(eight_bits_keep_most_best_tokens);
    printf("%d tests, %d skipped, %d checks failed\n", test_runs, test_skips, test_failures);
    return test_failures ? 1 : test_skips == test_runs ? 77 : 0;
}
