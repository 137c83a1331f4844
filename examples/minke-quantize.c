/* minke-quantize: a checkpoint or GGUF file in, a GGUF file in smaller types out. */
#include <stdlib.h>
#include <string.h>

#include "common.h"

static struct program program = {
    "minke-quantize", "MODEL OUT.gguf [options]",
    "Write the model (a folder with config.json and safetensors files, or a GGUF file) as\n"
    "the GGUF file OUT, its weights in other types.  Types: f32 f16 bf16 q8_0 q4_0 q4_1 q5_0\n"
    "q5_1 q2_k q3_k q4_k q5_k q6_k iq4_nl iq4_xs.  Presets that mix them by part: q2_k_m\n"
    "q3_k_m q4_k_s q4_k_m q5_k_m.", NULL};

struct settings {
    minke_quantize_params params;
    const char *in, *out, *text;
    uint32_t threads;
    int quiet;
};

static void read_settings(struct settings *set, int argc, char **argv)
{
    minke_quantize_params *p = &set->params;
    const struct option options[] = {
        {"--type", OPTION_TEXT, &p->preset, "NAME", "a preset or a type for all parts (q8_0)"},
        {"--embed", OPTION_TEXT, &p->embed, "TYPE", "token embedding"},
        {"--head", OPTION_TEXT, &p->head, "TYPE", "output head"},
        {"--attention", OPTION_TEXT, &p->attention, "TYPE", "attention, with the indexer"},
        {"--dense", OPTION_TEXT, &p->dense, "TYPE", "feed-forward part of dense layers"},
        {"--shared", OPTION_TEXT, &p->shared, "TYPE", "shared experts"},
        {"--gate-up", OPTION_TEXT, &p->gate_up, "TYPE", "routed experts, gate and up"},
        {"--down", OPTION_TEXT, &p->down, "TYPE", "routed experts, down"},
        {"--importance", OPTION_TEXT, &p->importance, "FILE",
         "weigh columns: a file made by --make-importance, or llama.cpp's imatrix"},
        {"--make-importance", OPTION_TEXT, &set->text, "FILE",
         "write OUT.gguf as such a file instead, from this text"},
        {"--threads", OPTION_COUNT, &set->threads, "N", "worker threads (all there are)"},
        {"--quiet", OPTION_FLAG, &set->quiet, NULL, "no progress bar"},
        {NULL, OPTION_FLAG, NULL, NULL, NULL}};
    const char *words[2] = {NULL, NULL};
    program.options = options;
    read_options(&program, argc, argv, words, 2);
    set->in = words[0];
    set->out = words[1];
    if (set->in == NULL || set->out == NULL)
        usage_error(&program, "a model and a file to write expected", NULL);
    if (set->text != NULL && (p->preset != NULL || p->importance != NULL))
        usage_error(&program, "--make-importance writes no weights: no --type or --importance",
                    NULL);
    program.options = NULL;
    p->n_threads = set->threads;
}

static int32_t on_progress(void *user, uint64_t done, uint64_t total)
{
    progress_draw(user, done, total);
    return interrupted();
}

static void on_log(void *user, int32_t level, const char *text)
{
    (void)level;
    progress_end(user);
    fprintf(stderr, "minke-quantize: %s\n", text);
}

/* Run the model over a text and write what weighs its columns. */
static int32_t make_importance(const struct settings *set, struct progress *bar)
{
    minke_context *ctx = NULL;
    minke_context_params params;
    size_t n = 0, n_tokens = 0;
    char *text = read_file(&program, set->text, &n);
    int32_t *tokens = need_memory(NULL, n + 1, sizeof *tokens);
    minke_context_params_init(&params, sizeof params);
    params.n_threads = set->threads;
    int32_t status = minke_context_open(&ctx, set->in, &params);
    if (status == MINKE_OK)
        status = minke_tokenize(ctx, text, n, 0, tokens, n + 1, &n_tokens);
    bar->label = "reading";
    bar->bytes = 0;
    if (status == MINKE_OK && n_tokens > 0)
        status = minke_importance(ctx, tokens, n_tokens, 0, set->out, on_progress, bar);
    if (status == MINKE_OK && n_tokens == 0)
        fail_text(&program, "nothing to read in", set->text);
    minke_context_free(ctx);
    free(tokens);
    free(text);
    return status;
}

int main(int argc, char **argv)
{
    struct progress bar = {.label = "writing", .bytes = 1};
    struct settings set = {0};
    minke_quantize_params_init(&set.params, sizeof set.params);
    read_settings(&set, argc, argv);
    bar.shown = !set.quiet && is_terminal(stderr);
    set.params.progress = on_progress;
    set.params.progress_user = &bar;
    set.params.log = on_log;
    set.params.log_user = &bar;
    catch_interrupt();
    const double begin = seconds();
    const int32_t status = set.text != NULL ? make_importance(&set, &bar)
                         : minke_quantize(set.out, set.in, &set.params);
    progress_end(&bar);
    if (status < 0)
        fail_call(&program, set.in);
    if (!set.quiet)
        fprintf(stderr, "%s written in %.1f s\n", set.out, seconds() - begin);
    return 0;
}
