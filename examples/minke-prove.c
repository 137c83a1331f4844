/* minke-prove: a problem in, a solution out that the model has judged and improved itself. */
#define _POSIX_C_SOURCE 200809L /* open_memstream */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"

static struct program program = {
    "minke-prove", "[MODEL [PROBLEM]] [options]",
    "Solve PROBLEM, which may ask for a proof or for an answer, with the model in the folder\n"
    "MODEL.  Without PROBLEM or --file it is read from standard input.  Without MODEL, or with\n"
    "'calf', it is the small model that comes with minke, or the one that MINKE_MODEL names.\n"
    "Drivers: sequential (refine until the solution gives itself 1), pool (many solutions, each\n"
    "verified many times, the best refined in rounds), and of several samples vote (the answer of\n"
    "most), best (self-score) or longest (reasoning).\n"
    "With --journal a search that was stopped goes on where it was.", NULL};

static const char *const drivers[] = {"sequential", "pool", "vote", "best", "longest"};
static const char *const presets[] = {"paper", "repository"};
static const char *const asks[] = {"", "solve", "verify", "analyse", "refine", "judge"};

struct prover {
    const char *model, *problem, *file, *driver, *preset, *prompts, *cache;
    uint32_t max_tokens, max_thinking, context, threads;
    int think, strict, json, quiet, exact;
    minke_sampler_params sampling;
    minke_search_params search;
    minke_context *ctx;
    minke_session *session;
    int talks;                  /* stderr is a terminal: show what is going on */
    double last_shown;
    uint64_t n_requests, n_completions, n_tokens, n_cut;
    char *text;                 /* the answer being made */
    size_t n_text;
};

/* ---- The command line ---------------------------------------------------- */

static uint32_t choice(const char *option, const char *value, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (value == NULL || strcmp(value, names[i]) == 0)
            return (uint32_t)i;
    usage_error(&program, option, value);
    return 0;
}

static void read_settings(struct prover *p, int argc, char **argv)
{
    const struct option options[] = {
        {"--driver", OPTION_TEXT, &p->driver, "NAME", "sequential, pool, vote, best or longest"},
        {"--preset", OPTION_TEXT, &p->preset, "NAME", "of the pool: paper or repository (paper)"},
        {"--first", OPTION_COUNT, &p->search.n_first, "N", "first solutions, chains or samples"},
        {"--rounds", OPTION_COUNT, &p->search.max_rounds, "N", "at most, the first included"},
        {"--verifications", OPTION_COUNT, &p->search.n_verifications, "N", "of each in the pool"},
        {"--meta", OPTION_COUNT, &p->search.n_meta, "N", "analyses of each low evaluation (0)"},
        {"--best", OPTION_COUNT, &p->search.n_best, "N", "solutions refined in a round"},
        {"--analyses", OPTION_COUNT, &p->search.n_analyses, "N", "evaluations used of each"},
        {"--samples", OPTION_COUNT, &p->search.n_samples, "N", "per prompt that refines"},
        {"--strict", OPTION_FLAG, &p->strict, NULL, "take no answer that leaves the asked form"},
        {"--file", OPTION_TEXT, &p->file, "PATH", "read the problem from a file; - is stdin"},
        {"--prompts", OPTION_TEXT, &p->prompts, "FILE",
         "other wording; 'minke' is the built-in one (prompts.txt of MODEL, if there is one)"},
        {"--journal", OPTION_TEXT, &p->search.journal, "FILE", "keep all answers; go on there"},
        {"--think", OPTION_FLAG, &p->think, NULL, "let the model think first"},
        {"--max-tokens", OPTION_COUNT, &p->max_tokens, "N", "of an answer (while there is room)"},
        {"--max-thinking", OPTION_COUNT, &p->max_thinking, "N", "tokens; 0 is no cap (0)"},
        {"--temperature", OPTION_NUMBER, &p->sampling.temperature, "X", "(the model's)"},
        {"--top-p", OPTION_NUMBER, &p->sampling.top_p, "X", "(the model's)"},
        {"--top-k", OPTION_COUNT, &p->sampling.top_k, "N", "0 is off (0)"},
        {"--min-p", OPTION_NUMBER, &p->sampling.min_p, "X", "0 is off (0)"},
        {"--seed", OPTION_SEED, &p->search.seed, "N", "equal seeds give equal searches (0)"},
        {"--context", OPTION_COUNT, &p->context, "N", "tokens of prompt and answer (the model's)"},
        CACHE_OPTION(&p->cache),
        EXACT_OPTION(&p->exact),
        {"--threads", OPTION_COUNT, &p->threads, "N", "0 is what the machine allows (0)"},
        {"--quiet", OPTION_FLAG, &p->quiet, NULL, "nothing on stderr but errors"},
        {"--json", OPTION_FLAG, &p->json, NULL, "all that was found, as one JSON object"},
        {NULL, OPTION_FLAG, NULL, NULL, NULL}};
    const char *words[2] = {NULL, NULL};

    program.options = options;
    read_options(&program, argc, argv, words, 2);
    p->model = find_model(&program, words[0]);
    p->problem = words[1];
    if (p->problem != NULL && p->file != NULL)
        usage_error(&program, "more than one problem given", NULL);
    p->search.driver = choice("--driver: sequential, pool, vote, best or longest expected, not",
                              p->driver, drivers, 5);
    p->search.preset = choice("--preset: paper or repository expected, not", p->preset, presets, 2);
    p->search.mode = p->strict ? MINKE_PROOF_MODE_STRICT : MINKE_PROOF_MODE_DEFAULT;
    p->talks = !p->quiet && is_terminal(stderr);
    program.options = NULL;
}

/* The wording: the file named, or the one beside the model. */
static void read_prompts(struct prover *p)
{
    const size_t n = strlen(p->model) + sizeof "/prompts.txt";
    char *beside = need_memory(NULL, n, 1);

    snprintf(beside, n, "%s/prompts.txt", p->model);
    if (p->prompts == NULL && access(beside, R_OK) == 0)
        p->prompts = beside;
    if (p->prompts != NULL && strcmp(p->prompts, "minke") != 0)
        p->search.prompts = read_file(&program, p->prompts, &p->search.prompts_len);
    free(beside);
    p->prompts = NULL;
}

/* ---- The model ----------------------------------------------------------- */

static int32_t on_reading(void *user, uint64_t done, uint64_t total)
{
    (void)user, (void)done, (void)total;
    return interrupted();
}

static int32_t on_loading(void *user, uint64_t done, uint64_t total)
{
    progress_draw(user, done, total);
    return interrupted();
}

static void open_model(struct prover *p)
{
    struct progress bar = {.label = "loading", .bytes = 1, .shown = p->talks};
    const float temperature = p->sampling.temperature, top_p = p->sampling.top_p;
    minke_context_params params;
    minke_session_params session;
    int64_t longest = 0;

    minke_context_params_init(&params, sizeof params);
    params.n_threads = p->threads;
    params.flags = p->exact ? 0 : MINKE_CONTEXT_FAST;
    params.progress = on_loading;
    params.progress_user = &bar;
    if (minke_context_open(&p->ctx, p->model, &params) < 0)
        fail_call(&program, p->model);
    progress_end(&bar);
    minke_context_info(p->ctx, MINKE_INFO_MAX_TOKENS, &longest);
    minke_session_params_init(&session, sizeof session);
    session.max_tokens = p->context != 0 ? p->context : longest < 16384 ? (uint32_t)longest : 16384;
    session.progress = on_reading;
    set_cache(&program, &session, p->cache == NULL && p->exact ? "f32" : p->cache);
    if (minke_session_open(&p->session, p->ctx, &session) < 0)
        fail_call(&program, "session");
    if (minke_chat_sampling(p->ctx, NULL, &p->sampling.temperature, &p->sampling.top_p) < 0)
        fail_call(&program, "sampling");
    if (!isnan(temperature))
        p->sampling.temperature = temperature;
    if (!isnan(top_p))
        p->sampling.top_p = top_p;
}

/* The tokens that ask for an answer to a prompt, in fresh memory. */
static int32_t *encode(const struct prover *p, const char *prompt, size_t len, size_t *n)
{
    char *json = NULL;
    size_t json_len = 0;
    minke_chat_params params;
    FILE *out = open_memstream(&json, &json_len);

    if (out == NULL)
        fail_text(&program, "out of memory", NULL);
    fputs("[{\"role\": \"user\", \"content\": ", out);
    json_string(out, prompt, len);
    fputs("}]", out);
    fclose(out);
    minke_chat_params_init(&params, sizeof params);
    params.thinking = p->think ? MINKE_THINKING_ON : MINKE_THINKING_DEFAULT;
    if (minke_chat_encode(p->ctx, json, json_len, &params, NULL, 0, n) != MINKE_ENOSPC)
        fail_call(&program, "prompt");
    int32_t *ids = need_memory(NULL, *n, sizeof *ids);
    if (minke_chat_encode(p->ctx, json, json_len, &params, ids, *n, n) < 0)
        fail_call(&program, "prompt");
    free(json);
    return ids;
}

static int32_t on_event(void *user, int32_t event, uint32_t call, const char *text, size_t len)
{
    struct prover *p = user;

    (void)call;
    if (event == MINKE_REPLY_EVENT_CONTENT) {
        p->text = need_memory(p->text, p->n_text + len + 1, 1);
        memcpy(p->text + p->n_text, text, len);
        p->n_text += len;
    }
    return interrupted();
}

/* One completion; MINKE_FINISH_*. */
static int32_t complete_one(struct prover *p, const int32_t *ids, size_t n_ids, uint64_t seed,
                            int64_t *n_thinking)
{
    minke_generate_params params;
    minke_generator *g = NULL;
    minke_sampler *sampler = NULL;
    int32_t reason = MINKE_FINISH_CANCELED, status;
    int64_t n_tokens = 0;

    p->sampling.seed = seed;
    if (minke_sampler_open(&sampler, &p->sampling) < 0)
        fail_call(&program, "sampler");
    minke_generate_params_init(&params, sizeof params);
    params.thinking = p->think ? MINKE_THINKING_ON : MINKE_THINKING_DEFAULT;
    params.max_tokens = p->max_tokens;
    params.max_thinking = p->max_thinking;
    params.on_event = on_event;
    params.user = p;
    p->n_text = 0;
    *n_thinking = 0;
    status = minke_generator_open(&g, p->session, sampler, ids, n_ids, &params);
    if (status >= 0)
        status = minke_generator_step(g, UINT64_MAX, &reason, NULL);
    if (status == MINKE_EFULL)
        reason = MINKE_FINISH_FULL;
    else if (status < 0 && status != MINKE_ECANCELED)
        fail_call(&program, "evaluation");
    if (g != NULL) {
        minke_generator_info(g, MINKE_GENERATOR_N_THINKING, n_thinking);
        minke_generator_info(g, MINKE_GENERATOR_N_TOKENS, &n_tokens);
    }
    p->n_tokens += (uint64_t)n_tokens;
    minke_generator_free(g);
    minke_sampler_free(sampler);
    return reason;
}

/* ---- The search ---------------------------------------------------------- */

static void show(struct prover *p, int32_t ask, uint32_t done, uint32_t n)
{
    const double now = p->talks ? seconds() : 0;

    if (!p->talks || now - p->last_shown < 0.1)
        return;
    p->last_shown = now;
    fprintf(stderr, "\rrequest %llu: %s, %u of %u; %llu completions, %llu tokens\033[K",
            (unsigned long long)p->n_requests, asks[ask], done, n,
            (unsigned long long)p->n_completions, (unsigned long long)p->n_tokens);
    fflush(stderr);
}

static int32_t complete(void *user, int32_t ask, uint64_t seed, const char *prompt,
                        size_t prompt_len, uint32_t n, minke_take_fn take, void *sink)
{
    struct prover *p = user;
    size_t n_ids;
    int32_t *ids = encode(p, prompt, prompt_len, &n_ids);

    p->n_requests++;
    for (uint32_t i = 0; i < n && !interrupted(); i++) {
        int64_t n_thinking;

        show(p, ask, i, n);
        const int32_t reason = complete_one(p, ids, n_ids, seed + i, &n_thinking);

        if (interrupted())
            break;
        p->n_completions++;
        p->n_cut += reason != MINKE_FINISH_STOP;
        if (take(sink, p->text, p->n_text, reason, (uint64_t)n_thinking) != 0)
            break;
    }
    free(ids);
    return interrupted();
}

static void on_log(void *user, int32_t level, const char *text)
{
    const struct prover *p = user;

    (void)level;
    if (!p->quiet)
        fprintf(stderr, "%s%s\n", p->talks ? "\r\033[K" : "", text);
}

static minke_search *open_search(struct prover *p)
{
    minke_search *s = NULL;
    char *read = NULL;
    size_t len = p->problem != NULL ? strlen(p->problem) : 0;

    if (p->problem == NULL)
        read = read_file(&program, p->file != NULL ? p->file : "-", &len);
    if (len == 0)
        fail_text(&program, "the problem is empty", NULL);
    p->search.log = on_log;
    p->search.log_user = p;
    if (minke_search_open(&s, read != NULL ? read : p->problem, len, &p->search) < 0)
        fail_call(&program, "search");
    free(read);
    return s;
}

static void print_json(const minke_search *s)
{
    size_t n = 0;

    if (minke_search_result(s, NULL, 0, &n) != MINKE_ENOSPC)
        fail_call(&program, "result");
    char *text = need_memory(NULL, n, 1);
    if (minke_search_result(s, text, n, &n) < 0)
        fail_call(&program, "result");
    fwrite(text, 1, n, stdout);
    putchar('\n');
    free(text);
}

/* Returns the exit status. */
static int report(const struct prover *p, const minke_search *s, double start)
{
    const char *solution = NULL;
    size_t n = 0;
    double score = -1;

    if (minke_search_best(s, &solution, &n, &score) < 0)
        fail_call(&program, "result");
    if (p->json)
        print_json(s);
    else if (solution != NULL)
        printf("%.*s\n", (int)n, solution);
    if (!p->quiet && solution == NULL && p->n_cut > 0)
        fprintf(stderr, "%s: %llu of %llu answers had no room to end: see --context and"
                " --max-tokens\n", program.name, (unsigned long long)p->n_cut,
                (unsigned long long)p->n_completions);
    else if (!p->quiet && solution == NULL)
        fprintf(stderr, "%s: no answer had the form that was asked for\n", program.name);
    if (!p->quiet && !p->json) {
        fprintf(stderr, "%llu completions, %llu tokens in %.1f s",
                (unsigned long long)p->n_completions, (unsigned long long)p->n_tokens,
                seconds() - start);
        if (score >= 0)
            fprintf(stderr, "; score %.3g", score);
        fputs("\n", stderr);
    }
    return solution == NULL;
}

int main(int argc, char **argv)
{
    struct prover p = {.driver = NULL};
    int status;

    minke_sampler_params_init(&p.sampling, sizeof p.sampling);
    p.sampling.temperature = p.sampling.top_p = NAN;   /* not given */
    minke_search_params_init(&p.search, sizeof p.search);
    read_settings(&p, argc, argv);
    read_prompts(&p);
    minke_search *s = open_search(&p);

    catch_interrupt();
    open_model(&p);
    const double start = seconds();
    const int32_t ran = minke_search_run(s, complete, &p);

    if (p.talks)
        fputs("\r\033[K", stderr);
    if (ran < 0 && !interrupted())
        fail_call(&program, "search");
    if (interrupted()) {
        fprintf(stderr, "%s: stopped%s\n", program.name,
                p.search.journal != NULL ? "; the same command goes on" : "");
        status = interrupted();
    } else {
        status = report(&p, s, start);
    }
    minke_search_free(s);
    minke_session_free(p.session);
    minke_context_free(p.ctx);
    free((void *)p.search.prompts);
    free(p.text);
    end_output(&program);
    return status;
}
