/* minke-bench: how fast a model runs, beside what the machine allows. */
#include <stdlib.h>
#include <string.h>

#include "bench_machine.h"
#include "bench_model.h"
#include "common.h"

#define MAX_RESULTS 64
#define MAX_DEPTHS 16

struct settings {
    const char *model, *shape, *type, *save, *depths, *plot;
    uint32_t threads, prefill, decode, repeats, layers;
    int json;
};

struct result {
    const char *name;
    uint64_t depth, tokens;
    double tok_s, spread;        /* median; (best - worst) / median */
    double limit_tok_s, ms;      /* 0: none known; ms of a token */
};

struct bench {
    struct settings set;
    struct machine machine;
    struct random_model *random;
    minke_context *ctx;
    minke_session *session;
    uint32_t n_threads;
    uint64_t peak_bytes;
    uint64_t decode_bytes;       /* of weights multiplied per decoded token */
    double prefill_ops;          /* of the linear layers per token */
    uint32_t token_state;
    struct result results[MAX_RESULTS];
    int n_results;
};

static struct program program = {
    "minke-bench", "[MODEL] [options]",
    "Time prefill and decode of MODEL (a folder or a .gguf file), or of random weights in the\n"
    "shape of a config.json, and the memory and integer limits in the same run.", NULL};

static void read_settings(struct settings *set, int argc, char **argv)
{
    const struct option options[] = {
        {"--shape", OPTION_TEXT, &set->shape, "FILE", "random weights in the shape of config.json"},
        {"--type", OPTION_TEXT, &set->type, "TYPE", "of random weights: q8_0, q4_k_m, ... (q8_0)"},
        {"--layers", OPTION_COUNT, &set->layers, "N", "random weights: only the first N layers"},
        {"--save", OPTION_TEXT, &set->save, "FILE", "write the random model as GGUF and end"},
        {"--threads", OPTION_COUNT, &set->threads, "N", "what affinity allows by default"},
        {"--prefill", OPTION_COUNT, &set->prefill, "N", "tokens of a prompt (512); 0: none"},
        {"--decode", OPTION_COUNT, &set->decode, "N", "tokens decoded (64); 0: none"},
        {"--depths", OPTION_TEXT, &set->depths, "A,B,..", "tokens held before decoding (0)"},
        {"--repeats", OPTION_COUNT, &set->repeats, "N", "of each measurement (3)"},
        {"--json", OPTION_FLAG, &set->json, NULL, "one JSON object"},
        {"--plot", OPTION_TEXT, &set->plot, "FILE", "write a chart as SVG"},
        {NULL, OPTION_FLAG, NULL, NULL, NULL}};
    const char *words[1] = {NULL};
    *set = (struct settings){.type = "q8_0", .prefill = 512, .decode = 64, .repeats = 3};
    program.options = options;
    read_options(&program, argc, argv, words, 1);
    set->model = words[0];
    if ((set->model == NULL) == (set->shape == NULL))
        usage_error(&program, "either MODEL or --shape is needed", NULL);
    if (set->repeats == 0 || set->repeats > 32)
        usage_error(&program, "--repeats: 1 to 32", NULL);
    program.options = NULL;
}

static int64_t info(const struct bench *b, int32_t key)
{
    int64_t value = 0;
    minke_context_info(b->ctx, key, &value);
    return value;
}

static const char *text(const struct bench *b, int32_t key)
{
    const char *value = "";
    minke_context_text(b->ctx, key, &value);
    return value;
}

/* ---- Measuring ----------------------------------------------------------- */

static int order_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct result *add_result(struct bench *b, const char *name, double *rates, size_t n)
{
    struct result *r = &b->results[b->n_results < MAX_RESULTS ? b->n_results++ : MAX_RESULTS - 1];
    qsort(rates, n, sizeof *rates, order_doubles);
    const double median = n % 2 ? rates[n / 2] : (rates[n / 2 - 1] + rates[n / 2]) / 2;
    *r = (struct result){.name = name, .tok_s = median,
                         .spread = median > 0 ? (rates[n - 1] - rates[0]) / median : 0};
    r->ms = median > 0 ? 1e3 / median : 0;
    return r;
}

static int32_t random_token(struct bench *b)
{
    b->token_state = b->token_state * 1664525u + 1013904223u;
    return (int32_t)((uint64_t)(b->token_state >> 4) * (uint64_t)info(b, MINKE_INFO_N_VOCAB)
                     >> 28);
}

/* Append n random tokens; seconds. */
static double eval_random(struct bench *b, size_t n)
{
    int32_t *tokens = need_memory(NULL, n, sizeof *tokens);
    for (size_t i = 0; i < n; i++)
        tokens[i] = random_token(b);
    const double start = seconds();
    if (minke_session_eval(b->session, tokens, n) < 0)
        fail_call(&program, "eval");
    const double taken = seconds() - start;
    free(tokens);
    return taken;
}

/* What a decoded token reads and what a prefilled one multiplies, from the model's facts.  The
 * head is multiplied for the last token of a prompt alone. */
static void count_work(struct bench *b)
{
    const double table = (double)info(b, MINKE_INFO_N_VOCAB)
                       * (double)info(b, MINKE_INFO_HIDDEN_SIZE);
    b->decode_bytes = (uint64_t)info(b, MINKE_INFO_BYTES_DECODE);
    b->prefill_ops = 2 * ((double)info(b, MINKE_INFO_N_PARAMS_ACTIVE) - table);
}

static void run_prefill(struct bench *b)
{
    double rates[32];
    const size_t n = b->set.prefill;
    if (n == 0)
        return;
    for (uint32_t i = 0; i < b->set.repeats; i++) {
        if (minke_session_truncate(b->session, 0) < 0)
            fail_call(&program, "truncate");
        machine_int8(&b->machine);
        rates[i] = (double)n / eval_random(b, n);
        machine_int8(&b->machine);
    }
    struct result *r = add_result(b, "prefill", rates, b->set.repeats);
    r->tokens = n;
    r->limit_tok_s = b->prefill_ops > 0 ? b->machine.int8_gop_s * 1e9 / b->prefill_ops : 0;
}

/* Blocks of 16 tokens, each after a pass over the memory. */
static void run_decode(struct bench *b, size_t depth)
{
    const size_t n_blocks = b->set.decode / 16 > 0 ? b->set.decode / 16 : 1;
    const size_t n = b->set.decode < 16 ? b->set.decode : 16;
    double rates[64];
    if (n == 0)
        return;
    if (minke_session_truncate(b->session, 0) < 0)
        fail_call(&program, "truncate");
    if (depth > 0)
        eval_random(b, depth);
    eval_random(b, 1);
    for (size_t i = 0; i < n_blocks && i < 64; i++) {
        machine_read(&b->machine);
        double taken = 0;
        for (size_t j = 0; j < n; j++)
            taken += eval_random(b, 1);
        rates[i] = (double)n / taken;
    }
    machine_read(&b->machine);
    struct result *r = add_result(b, "decode", rates, n_blocks < 64 ? n_blocks : 64);
    /* The cache: latent and rope keys of every layer, as floats. */
    const double cache = 4.0 * (double)depth * (double)info(b, MINKE_INFO_N_LAYERS)
                       * (double)(info(b, MINKE_INFO_KV_LORA_RANK)
                                  + info(b, MINKE_INFO_ROPE_HEAD_DIM));
    r->depth = depth;
    r->tokens = n * n_blocks;
    r->limit_tok_s = b->machine.read_gb_s * 1e9 / ((double)b->decode_bytes + cache);
}

/* A megabyte of plain sentences on one thread. */
static void run_tokenize(struct bench *b)
{
    static const char line[] = "The small whale dives deep, 42 times a day, and it isn't tired.\n";
    const size_t size = 1 << 20;
    char *all = need_memory(NULL, size, 1);
    int32_t *tokens = need_memory(NULL, size, sizeof *tokens);
    double rates[32];
    size_t n = 0;
    if (info(b, MINKE_INFO_N_TOKENS) > 0) {
        for (size_t i = 0; i < size; i++)
            all[i] = line[i % (sizeof line - 1)];
        for (uint32_t i = 0; i < b->set.repeats; i++) {
            const double start = seconds();
            if (minke_tokenize(b->ctx, all, size, 0, tokens, size, &n) < 0)
                fail_call(&program, "tokenize");
            rates[i] = (double)n / (seconds() - start);
        }
        add_result(b, "tokenize", rates, b->set.repeats)->tokens = n;
    }
    free(all);
    free(tokens);
}

static size_t read_depths(const struct settings *set, size_t *depths)
{
    size_t n = 0;
    const char *at = set->depths != NULL ? set->depths : "0";
    while (*at != '\0' && n < MAX_DEPTHS) {
        char *end = NULL;
        const unsigned long long x = strtoull(at, &end, 10);
        if (end == at || x > 10000000)
            usage_error(&program, "--depths: numbers with commas between, not", set->depths);
        depths[n++] = (size_t)x;
        at = *end == ',' ? end + 1 : end;
    }
    return n;
}

static int32_t draw_loading(void *user, uint64_t done, uint64_t total)
{
    progress_draw(user, done, total);
    return 0;
}

static void open_model(struct bench *b)
{
    struct progress bar = {.label = "loading", .shown = is_terminal(stderr), .bytes = 1};
    minke_context_params params;
    const char *path = b->set.model, *why = NULL;
    minke_context_params_init(&params, sizeof params);
    params.n_threads = b->set.threads;
    params.progress = draw_loading;
    params.progress_user = &bar;
    if (b->set.shape != NULL) {
        b->random = random_model_open(b->set.shape, b->set.type, b->set.layers, &why);
        if (b->random == NULL)
            fail_text(&program, why, b->set.shape);
        if (b->set.save != NULL) {
            if (random_model_save(b->random, b->set.save) != 0)
                fail_text(&program, "cannot write", b->set.save);
            exit(0);
        }
        random_model_reader(b->random, &params);
        path = random_model_path(b->random);
    }
    const double start = seconds();
    if (minke_context_open(&b->ctx, path, &params) < 0)
        fail_call(&program, path);
    progress_end(&bar);
    b->n_threads = (uint32_t)info(b, MINKE_INFO_N_THREADS);
    double rate = (double)info(b, MINKE_INFO_WEIGHT_BYTES) / (seconds() - start);
    struct result *r = add_result(b, "load", &rate, 1);
    r->tokens = (uint64_t)info(b, MINKE_INFO_WEIGHT_BYTES);
    r->ms = 1e3 * (seconds() - start);
    count_work(b);
}

static void open_session(struct bench *b, const size_t *depths, size_t n_depths)
{
    minke_session_params params;
    size_t most = b->set.prefill;
    for (size_t i = 0; i < n_depths; i++)
        most = depths[i] + b->set.decode + 18 > most ? depths[i] + b->set.decode + 18 : most;
    minke_session_params_init(&params, sizeof params);
    params.max_tokens = (uint32_t)most;
    if (minke_session_open(&b->session, b->ctx, &params) < 0)
        fail_call(&program, "session");
    eval_random(b, b->set.prefill > 0 ? b->set.prefill : 1);   /* warm up */
    b->peak_bytes = machine_peak_bytes();
}

/* ---- Printing ------------------------------------------------------------ */

static void print_json(const struct bench *b)
{
    char cpu[128];
    machine_cpu(cpu, sizeof cpu);
    printf("{\"machine\": {\"read_gb_s\": %.2f, \"int8_gop_s\": %.1f, \"threads\": %u, \"cpu\": ",
           b->machine.read_gb_s, b->machine.int8_gop_s, (unsigned)b->n_threads);
    json_string(stdout, cpu, strlen(cpu));
    printf(", \"kernels\": \"%s\"}, \"model\": {\"type\": \"%s\", \"weights\": \"%s\", ",
           text(b, MINKE_TEXT_CPU), text(b, MINKE_TEXT_MODEL_TYPE),
           text(b, MINKE_TEXT_WEIGHT_TYPE));
    printf("\"n_params\": %lld, \"n_params_active\": %lld, \"weight_bytes\": %lld, "
           "\"decode_bytes\": %llu}, \"results\": [",
           (long long)info(b, MINKE_INFO_N_PARAMS), (long long)info(b, MINKE_INFO_N_PARAMS_ACTIVE),
           (long long)info(b, MINKE_INFO_WEIGHT_BYTES), (unsigned long long)b->decode_bytes);
    for (int i = 0; i < b->n_results; i++) {
        const struct result *r = &b->results[i];
        const int load = strcmp(r->name, "load") == 0;
        printf("%s{\"name\": \"%s\", \"depth\": %llu, \"tokens\": %llu, \"batch\": 1, "
               "\"threads\": %u, ", i > 0 ? ", " : "", r->name, (unsigned long long)r->depth,
               (unsigned long long)(load ? 0 : r->tokens), (unsigned)b->n_threads);
        if (load)
            printf("\"bytes\": %llu, \"gb_s\": %.3f, \"tok_s\": null, ",
                   (unsigned long long)r->tokens, r->tok_s * 1e-9);
        else
            printf("\"tok_s\": %.3f, ", r->tok_s);
        printf("\"spread\": %.3f, ", r->spread);
        if (r->limit_tok_s > 0)
            printf("\"limit_tok_s\": %.3f, \"fraction\": %.3f, ", r->limit_tok_s,
                   r->tok_s / r->limit_tok_s);
        else
            printf("\"limit_tok_s\": null, \"fraction\": null, ");
        printf("\"peak_bytes\": %llu, \"ms\": {\"index\": null, \"select\": null, "
               "\"attention\": null, \"moe\": null, \"rest\": %.3f}}",
               (unsigned long long)b->peak_bytes, r->ms);
    }
    printf("]}\n");
}

static void print_table(const struct bench *b)
{
    char cpu[128], weights[32], peak[32];
    machine_cpu(cpu, sizeof cpu);
    bytes_text(weights, (uint64_t)info(b, MINKE_INFO_WEIGHT_BYTES));
    bytes_text(peak, b->peak_bytes);
    printf("%s, %u threads, %s: reads %.1f GB/s, int8 %.0f GOP/s\n", cpu, (unsigned)b->n_threads,
           text(b, MINKE_TEXT_CPU), b->machine.read_gb_s, b->machine.int8_gop_s);
    printf("%s, %s: weights %s, peak %s, %.3f GB and %.2f GMAC per token\n\n",
           text(b, MINKE_TEXT_MODEL_TYPE), text(b, MINKE_TEXT_WEIGHT_TYPE), weights, peak,
           (double)b->decode_bytes * 1e-9, b->prefill_ops * 0.5e-9);
    printf("%-10s %8s %8s %10s %7s %10s %9s\n", "", "depth", "tokens", "tok/s", "spread", "limit",
           "fraction");
    for (int i = 0; i < b->n_results; i++) {
        const struct result *r = &b->results[i];
        if (strcmp(r->name, "load") == 0) {
            printf("%-10s %.2f s, %.2f GB/s\n", r->name, r->ms * 1e-3, r->tok_s * 1e-9);
            continue;
        }
        printf("%-10s %8llu %8llu %10.2f %6.1f%%", r->name, (unsigned long long)r->depth,
               (unsigned long long)r->tokens, r->tok_s, 100 * r->spread);
        if (r->limit_tok_s > 0)
            printf(" %10.2f %9.3f", r->limit_tok_s, r->tok_s / r->limit_tok_s);
        putchar('\n');
    }
}

/* One bar a result: the limit in grey, what was reached over it. */
static void write_plot(const struct bench *b)
{
    FILE *f = fopen(b->set.plot, "w");
    int y = 40;
    if (f == NULL)
        fail_text(&program, "cannot write", b->set.plot);
    fprintf(f, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"640\" height=\"%d\" "
            "font-family=\"sans-serif\" font-size=\"13\">\n<text x=\"10\" y=\"22\">%s %s, "
            "tokens per second beside the limit</text>\n", 60 + 34 * b->n_results,
            text(b, MINKE_TEXT_MODEL_TYPE), text(b, MINKE_TEXT_WEIGHT_TYPE));
    for (int i = 0; i < b->n_results; i++) {
        const struct result *r = &b->results[i];
        const double part = r->limit_tok_s > 0 ? r->tok_s / r->limit_tok_s : 0;
        if (r->limit_tok_s <= 0)
            continue;
        fprintf(f, "<text x=\"10\" y=\"%d\">%s at %llu</text>\n<rect x=\"130\" y=\"%d\" "
                "width=\"360\" height=\"20\" fill=\"#ddd\"/>\n<rect x=\"130\" y=\"%d\" "
                "width=\"%.1f\" height=\"20\" fill=\"#2a6f97\"/>\n<text x=\"500\" y=\"%d\">"
                "%.1f of %.1f</text>\n", y + 15, r->name, (unsigned long long)r->depth, y, y,
                360 * (part < 1 ? part : 1), y + 15, r->tok_s, r->limit_tok_s);
        y += 34;
    }
    fprintf(f, "</svg>\n");
    if (fclose(f) != 0)
        fail_text(&program, "cannot write", b->set.plot);
}

int main(int argc, char **argv)
{
    static struct bench b;
    size_t depths[MAX_DEPTHS];
    read_settings(&b.set, argc, argv);
    b.token_state = 1;
    const size_t n_depths = read_depths(&b.set, depths);
    open_model(&b);
    open_session(&b, depths, n_depths);
    machine_open(&b.machine, b.n_threads);
    machine_read(&b.machine);
    run_prefill(&b);
    for (size_t i = 0; i < n_depths; i++)
        run_decode(&b, depths[i]);
    run_tokenize(&b);
    if (b.set.json)
        print_json(&b);
    else
        print_table(&b);
    if (b.set.plot != NULL)
        write_plot(&b);
    machine_free(&b.machine);
    minke_session_free(b.session);
    minke_context_free(b.ctx);
    random_model_free(b.random);
    return 0;
}
