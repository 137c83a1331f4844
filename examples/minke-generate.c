/* minke-generate: a prompt in, the model's continuation out, as it is made. */
#include <stdlib.h>
#include <string.h>

#include "common.h"

/* The command line. */
struct settings {
    const char *model, *prompt, *file, *ids, *cache, *attention;
    uint32_t max_tokens, context, threads, chunk, window;
    minke_sampler_params sampling;
    minke_session_params session;   /* caches */
    int json, quiet, no_bos, no_special, ignore_eos, mmap, deterministic, exact;
};

struct ids {
    int32_t *at;
    size_t n;
};

/* What happened, for the summary. */
struct result {
    struct ids prompt, made;
    const char *finish;   /* "stop", "length", "full" or "canceled" */
    double load_s, prefill_s, decode_s;
    size_t n_decoded;     /* tokens evaluated one by one */
};

static struct program program = {
    "minke-generate", "[MODEL [PROMPT]] [options]",
    "Continue PROMPT with the model in the folder MODEL.  Without PROMPT, --file or --ids,\n"
    "the prompt is read from standard input.  Without MODEL, or with 'calf', it is the small\n"
    "model that comes with minke, or the one that MINKE_MODEL names.", NULL};

static void read_settings(struct settings *set, int argc, char **argv)
{
    const struct option options[] = {
        {"--max-tokens", OPTION_COUNT, &set->max_tokens, "N", "tokens to make at most (128)"},
        {"--temperature", OPTION_NUMBER, &set->sampling.temperature, "X", "0 is greedy (0)"},
        {"--top-k", OPTION_COUNT, &set->sampling.top_k, "N", "of the N likeliest; 0 is off (0)"},
        {"--top-p", OPTION_NUMBER, &set->sampling.top_p, "X", "of the likeliest that sum to X (1)"},
        {"--min-p", OPTION_NUMBER, &set->sampling.min_p, "X", "X times the likeliest at least (0)"},
        {"--repetition-penalty", OPTION_NUMBER, &set->sampling.repetition_penalty, "X",
         "1 is off (1)"},
        {"--presence-penalty", OPTION_NUMBER, &set->sampling.presence_penalty, "X", "(0)"},
        {"--frequency-penalty", OPTION_NUMBER, &set->sampling.frequency_penalty, "X", "(0)"},
        {"--seed", OPTION_SEED, &set->sampling.seed, "N", "equal seeds give equal text (0)"},
        {"--file", OPTION_TEXT, &set->file, "PATH", "read the prompt from a file; - is stdin"},
        {"--ids", OPTION_TEXT, &set->ids, "LIST", "the prompt as token ids: 0,17,4"},
        {"--no-bos", OPTION_FLAG, &set->no_bos, NULL, "no beginning-of-sentence token in front"},
        {"--no-special", OPTION_FLAG, &set->no_special, NULL,
         "read special tokens in the prompt as text"},
        {"--ignore-eos", OPTION_FLAG, &set->ignore_eos, NULL, "go on after the end of sentence"},
        {"--context", OPTION_COUNT, &set->context, "N", "session size (prompt + max tokens)"},
        {"--chunk", OPTION_COUNT, &set->chunk, "N", "prompt tokens per step"},
        CACHE_OPTION(&set->cache),
        EXACT_OPTION(&set->exact),
        ATTENTION_OPTIONS(&set->attention, &set->window),
        {"--threads", OPTION_COUNT, &set->threads, "N", "0 is what the machine allows (0)"},
        {"--mmap", OPTION_FLAG, &set->mmap, NULL, "map the weights instead of reading them"},
        {"--deterministic", OPTION_FLAG, &set->deterministic, NULL, "same bits for any chunking"},
        {"--quiet", OPTION_FLAG, &set->quiet, NULL, "nothing on stderr but errors"},
        {"--json", OPTION_FLAG, &set->json, NULL, "one JSON object instead of text"},
        {NULL, OPTION_FLAG, NULL, NULL, NULL}};
    const char *words[2] = {NULL, NULL};
    program.options = options;
    read_options(&program, argc, argv, words, 2);
    set->model = words[0];
    set->prompt = words[1];
    set->model = find_model(&program, set->model);
    if ((set->prompt != NULL) + (set->file != NULL) + (set->ids != NULL) > 1)
        usage_error(&program, "more than one prompt given", NULL);
    minke_session_params_init(&set->session, sizeof set->session);
    set_cache(&program, &set->session,
              set->cache == NULL && set->exact ? "f32" : set->cache);
    set_attention(&program, &set->session, set->attention, set->window);
    program.options = NULL;
}

static int32_t on_progress(void *user, uint64_t done, uint64_t total)
{
    progress_draw(user, done, total);
    return interrupted();
}

static void on_log(void *user, int32_t level, const char *text)
{
    const struct settings *set = user;
    if (level == MINKE_LOG_ERROR || (level == MINKE_LOG_WARN && !set->quiet))
        fprintf(stderr, "%s: %s\n", program.name, text);
}

static int64_t info(const minke_context *ctx, int32_t key)
{
    int64_t value = 0;
    if (minke_context_info(ctx, key, &value) < 0)
        return -1;
    return value;
}

static minke_context *open_model(const struct settings *set, struct result *out)
{
    struct progress bar = {.label = "loading", .bytes = 1,
                           .shown = !set->quiet && is_terminal(stderr)};
    minke_context_params params;
    minke_context *ctx = NULL;
    minke_context_params_init(&params, sizeof params);
    params.n_threads = set->threads;
    params.flags = (set->mmap ? MINKE_CONTEXT_MMAP : 0) |
                   (set->deterministic ? MINKE_CONTEXT_DETERMINISTIC : 0) |
                   (set->exact ? 0 : MINKE_CONTEXT_FAST);
    params.progress = on_progress;
    params.progress_user = &bar;
    params.log = on_log;
    params.log_user = (void *)set;
    const double start = seconds();
    const int32_t status = minke_context_open(&ctx, set->model, &params);
    progress_end(&bar);
    if (status < 0)
        fail_call(&program, set->model);
    out->load_s = seconds() - start;
    return ctx;
}

/* "0,17,4" -> ids. */
static struct ids parse_ids(const char *list)
{
    struct ids ids = {need_memory(NULL, strlen(list), sizeof(int32_t)), 0};
    for (const char *p = list; *p != '\0';) {
        char *end = NULL;
        const long long id = strtoll(p, &end, 10);
        if (end == p || id < INT32_MIN || id > INT32_MAX || (*end != ',' && *end != '\0'))
            usage_error(&program, "--ids: ids with commas between them expected, not", list);
        ids.at[ids.n++] = (int32_t)id;
        p = *end == ',' ? end + 1 : end;
    }
    return ids;
}

static struct ids read_prompt(const struct settings *set, const minke_context *ctx)
{
    if (set->ids != NULL)
        return parse_ids(set->ids);
    char *read = NULL;
    size_t len = set->prompt != NULL ? strlen(set->prompt) : 0;
    if (set->prompt == NULL)
        read = read_file(&program, set->file != NULL ? set->file : "-", &len);
    const char *text = read != NULL ? read : set->prompt;
    const uint32_t flags = set->no_special ? 0 : MINKE_TOKENIZE_SPECIAL;
    struct ids ids = {NULL, 0};
    const int32_t bos = (int32_t)info(ctx, MINKE_INFO_TOKEN_BOS);
    const int32_t asked = minke_tokenize(ctx, text, len, flags, NULL, 0, &ids.n);
    if (asked < 0 && asked != MINKE_ENOSPC)
        fail_call(&program, "prompt");
    ids.at = need_memory(NULL, ids.n + 1, sizeof *ids.at);
    if (minke_tokenize(ctx, text, len, flags, ids.at + 1, ids.n, &ids.n) < 0)
        fail_call(&program, "prompt");
    if (!set->no_bos && bos >= 0 && (ids.n == 0 || ids.at[1] != bos)) {
        ids.at[0] = bos;
        ids.n++;
    } else {
        memmove(ids.at, ids.at + 1, ids.n * sizeof *ids.at);
    }
    free(read);
    if (ids.n == 0)
        fail_text(&program, "the prompt is empty", NULL);
    return ids;
}

/* Text of ids as UTF-8 in fresh memory; NULL when the model has no tokenizer. */
static char *decode(const minke_context *ctx, const int32_t *ids, size_t n, uint32_t flags,
                    size_t *len, size_t *used)
{
    if (minke_detokenize(ctx, ids, n, flags, NULL, 0, len, used) == MINKE_EUNSUPPORTED)
        return NULL;
    char *text = need_memory(NULL, *len + 1, 1);
    if (minke_detokenize(ctx, ids, n, flags, text, *len + 1, len, used) < 0)
        fail_call(&program, "text");
    return text;
}

/* Print the tokens from *shown on that end no later than a character does; their ids when
 * there is no tokenizer. */
static void stream(const minke_context *ctx, const struct ids *made, size_t *shown, int last)
{
    size_t len = 0, used = 0;
    char *text = decode(ctx, made->at + *shown, made->n - *shown,
                        last ? 0 : MINKE_DETOKENIZE_PARTIAL, &len, &used);
    if (text == NULL) {
        for (; *shown < made->n; ++*shown)
            printf("%s%ld", *shown > 0 ? " " : "", (long)made->at[*shown]);
    } else {
        fwrite(text, 1, len, stdout);
        *shown = last ? made->n : *shown + used;
    }
    free(text);
    fflush(stdout);
}

static minke_session *prefill(const struct settings *set, minke_context *ctx,
                              struct progress *bar, struct result *out)
{
    minke_session_params params = set->session;
    minke_session *s = NULL;
    const uint64_t longest = (uint64_t)info(ctx, MINKE_INFO_MAX_TOKENS);
    uint64_t wanted = (uint64_t)out->prompt.n + set->max_tokens;
    if (wanted > longest)
        wanted = longest;
    params.max_tokens = set->context != 0 ? set->context : (uint32_t)wanted;
    params.prefill_chunk = set->chunk;
    params.progress = on_progress;
    params.progress_user = bar;
    if (minke_session_open(&s, ctx, &params) < 0)
        fail_call(&program, "session");
    const double start = seconds();
    const int32_t status = minke_session_eval(s, out->prompt.at, out->prompt.n);
    progress_end(bar);
    bar->shown = 0;   /* no bar while decoding */
    if (status == MINKE_ECANCELED)
        out->finish = "canceled";
    else if (status < 0)
        fail_call(&program, "prompt");
    out->prefill_s = seconds() - start;
    return s;
}

static void append(struct ids *ids, int32_t id)
{
    if ((ids->n & (ids->n - 1)) == 0)   /* full at every power of two */
        ids->at = need_memory(ids->at, 2 * ids->n + 1, sizeof *ids->at);
    ids->at[ids->n++] = id;
}

/* Sample and evaluate until there is a reason to stop. */
static void generate(const struct settings *set, minke_context *ctx, minke_session *s,
                     minke_sampler *sampler, struct result *out)
{
    const int32_t eos = set->ignore_eos ? -1 : (int32_t)info(ctx, MINKE_INFO_TOKEN_EOS);
    const double start = seconds();
    size_t shown = 0;
    while (out->finish == NULL) {
        const float *logits = NULL;
        size_t n = 0;
        int32_t token = -1;
        if (minke_session_logits(s, &logits, &n) < 0 ||
            minke_sampler_sample(sampler, logits, n, &token) < 0 ||
            minke_sampler_accept(sampler, token) < 0)
            fail_call(&program, "sampling");
        if (token == eos) {
            out->finish = "stop";
            break;
        }
        append(&out->made, token);
        if (!set->json)
            stream(ctx, &out->made, &shown, 0);
        if (out->made.n == set->max_tokens) {
            out->finish = "length";
            break;
        }
        const int32_t status = minke_session_eval(s, &token, 1);
        if (status == MINKE_ECANCELED || interrupted())
            out->finish = "canceled";
        else if (status == MINKE_EFULL)
            out->finish = "full";
        else if (status < 0)
            fail_call(&program, "evaluation");
        out->n_decoded += status >= 0;
    }
    out->decode_s = seconds() - start;
    if (!set->json) {
        stream(ctx, &out->made, &shown, 1);
        putchar('\n');
    }
}

static double rate(size_t n, double s)
{
    return s > 0 ? (double)n / s : 0;
}

static void print_ids(const char *name, const struct ids *ids)
{
    printf("\"%s\": [", name);
    for (size_t i = 0; i < ids->n; i++)
        printf("%s%ld", i > 0 ? ", " : "", (long)ids->at[i]);
    printf("]");
}

static void print_json(const struct settings *set, const minke_context *ctx,
                       const struct result *r)
{
    size_t len = 0;
    char *text = decode(ctx, r->made.at, r->made.n, 0, &len, NULL);
    printf("{\"model\": ");
    json_string(stdout, set->model, strlen(set->model));
    printf(", \"text\": ");
    if (text != NULL)
        json_string(stdout, text, len);
    else
        printf("null");
    printf(", \"finish\": \"%s\", ", r->finish);
    print_ids("prompt_ids", &r->prompt);
    printf(", ");
    print_ids("ids", &r->made);
    printf(", \"threads\": %lld, \"load_s\": %.4f, \"prefill_s\": %.4f, \"decode_s\": %.4f, "
           "\"prefill_tok_s\": %.2f, \"decode_tok_s\": %.2f}\n",
           (long long)info(ctx, MINKE_INFO_N_THREADS), r->load_s, r->prefill_s, r->decode_s,
           rate(r->prompt.n, r->prefill_s), rate(r->n_decoded, r->decode_s));
    free(text);
}

static void print_summary(const struct result *r)
{
    fprintf(stderr, "\nloaded in %.2f s; prompt: %zu tokens, %.1f tokens/s; "
            "made: %zu tokens, %.1f tokens/s (%s)\n", r->load_s, r->prompt.n,
            rate(r->prompt.n, r->prefill_s), r->made.n, rate(r->n_decoded, r->decode_s),
            r->finish);
}

int main(int argc, char **argv)
{
    struct settings set = {.max_tokens = 128};
    struct result result = {.finish = NULL};
    minke_sampler_params_init(&set.sampling, sizeof set.sampling);
    read_settings(&set, argc, argv);
    minke_sampler *sampler = NULL;
    if (minke_sampler_open(&sampler, &set.sampling) < 0)
        usage_error(&program, minke_last_error(), NULL);

    catch_interrupt();
    minke_context *ctx = open_model(&set, &result);
    result.prompt = read_prompt(&set, ctx);
    struct progress bar = {.label = "reading", .shown = !set.quiet && is_terminal(stderr)};
    minke_session *s = prefill(&set, ctx, &bar, &result);
    if (set.max_tokens == 0 && result.finish == NULL)
        result.finish = "length";
    generate(&set, ctx, s, sampler, &result);
    if (set.json)
        print_json(&set, ctx, &result);
    if (!set.quiet && !set.json)
        print_summary(&result);

    minke_session_free(s);
    minke_sampler_free(sampler);
    minke_context_free(ctx);
    free(result.prompt.at);
    free(result.made.at);
    end_output(&program);
    return interrupted();
}
