/* minke-bench: how fast a model runs, beside what the machine allows. */
#include <stdlib.h>
#include <string.h>

#include "bench_machine.h"
#include "bench_model.h"
#include "bench_report.h"
#include "common.h"

#define MAX_DEPTHS 16
#define MAX_DECODE 1024u

struct settings {
    const char *model, *shape, *type, *save, *depths, *plot, *cache, *index,
               *attention;
    uint32_t threads, prefill, decode, repeats, layers, read_mb, window, chunk;
    int json, fast;
};

struct bench {
    struct settings set;
    struct machine machine;
    struct random_model *random;
    minke_context *ctx;
    minke_session *session;
    minke_session_params params;
    uint32_t token_state;
    struct report report;
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
        {"--chunk", OPTION_COUNT, &set->chunk, "N", "of the prompt evaluated at a time (512)"},
        {"--decode", OPTION_COUNT, &set->decode, "N", "tokens decoded (64); 0: none"},
        {"--depths", OPTION_TEXT, &set->depths, "A,B,..", "tokens held before decoding (0)"},
        {"--cache", OPTION_TEXT, &set->cache, "TYPE", "f32, bf16, fp8 or native (f32)"},
        {"--index", OPTION_TEXT, &set->index, "TYPE", "f32, int8, rescored or native (f32)"},
        {"--fast", OPTION_FLAG, &set->fast, NULL, "round activations where that is faster"},
        ATTENTION_OPTIONS(&set->attention, &set->window),
        {"--repeats", OPTION_COUNT, &set->repeats, "N", "of each measurement (3)"},
        {"--read-mb", OPTION_COUNT, &set->read_mb, "N", "memory to measure reading with (4096)"},
        {"--json", OPTION_FLAG, &set->json, NULL, "one JSON object"},
        {"--plot", OPTION_TEXT, &set->plot, "FILE", "write a chart as SVG"},
        {NULL, OPTION_FLAG, NULL, NULL, NULL}};
    const char *words[1] = {NULL};
    *set = (struct settings){.prefill = 512, .decode = 64, .repeats = 3,
                            .read_mb = 4096, .chunk = 512};
    program.options = options;
    read_options(&program, argc, argv, words, 1);
    set->model = words[0];
    if ((set->model == NULL) == (set->shape == NULL))
        usage_error(&program, "either MODEL or --shape is needed", NULL);
    if (set->repeats == 0 || set->repeats > 32)
        usage_error(&program, "--repeats: 1 to 32", NULL);
    if (set->decode > MAX_DECODE)
        usage_error(&program, "--decode: at most 1024", NULL);
    if (set->shape == NULL && (set->save != NULL || set->layers != 0 || set->type != NULL))
        usage_error(&program, "--type, --layers and --save are for --shape", NULL);
    if (set->type == NULL)
        set->type = "q8_0";
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
    struct report *report = &b->report;
    struct result *r = &report->results[report->n_results];
    if (report->n_results + 1 < MAX_RESULTS)
        report->n_results++;
    qsort(rates, n, sizeof *rates, order_doubles);
    const double median = n % 2 ? rates[n / 2] : (rates[n / 2 - 1] + rates[n / 2]) / 2;
    *r = (struct result){.name = name, .rate = median,
                         .spread = median > 0 ? (rates[n - 1] - rates[0]) / median : 0};
    for (int i = 0; i < N_PARTS; i++)
        r->ms[i] = -1;
    return r;
}

/* Where the session's time went so far, in ms. */
struct clocks { double part[N_PARTS]; };

static struct clocks read_clocks(const struct bench *b)
{
    static const int32_t keys[N_PARTS] = {MINKE_TIME_INDEX, MINKE_TIME_SELECT,
                                          MINKE_TIME_ATTENTION, MINKE_TIME_FFN, MINKE_TIME_TOTAL};
    struct clocks c = {0};
    for (int i = 0; i < N_PARTS; i++) {
        uint64_t ns = 0;
        minke_session_time(b->session, keys[i], &ns);
        c.part[i] = (double)ns * 1e-6;
    }
    for (int i = 0; i < PART_REST; i++)
        c.part[PART_REST] -= c.part[i];
    return c;
}

/* Parts of a token's time since the clocks were read. */
static void set_parts(struct bench *b, struct result *r, const struct clocks *since, size_t n)
{
    const struct clocks now = read_clocks(b);
    for (int i = 0; i < N_PARTS; i++)
        r->ms[i] = (now.part[i] - since->part[i]) / (double)n;
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

/* The head is multiplied for the last token of a prompt alone. */
static void count_work(struct bench *b)
{
    struct report *r = &b->report;
    const double table = (double)info(b, MINKE_INFO_N_VOCAB)
                       * (double)info(b, MINKE_INFO_HIDDEN_SIZE);
    r->kernels = text(b, MINKE_TEXT_CPU);
    r->model_type = text(b, MINKE_TEXT_MODEL_TYPE);
    r->weights = text(b, MINKE_TEXT_WEIGHT_TYPE);
    r->n_params = info(b, MINKE_INFO_N_PARAMS);
    r->n_params_active = info(b, MINKE_INFO_N_PARAMS_ACTIVE);
    r->weight_bytes = info(b, MINKE_INFO_WEIGHT_BYTES);
    r->decode_bytes = info(b, MINKE_INFO_BYTES_DECODE);
    r->prefill_ops = 2 * ((double)r->n_params_active - table);
}

static void run_prefill(struct bench *b)
{
    double rates[32];
    const size_t n = b->set.prefill;
    if (n == 0)
        return;
    const struct clocks since = read_clocks(b);
    for (uint32_t i = 0; i < b->set.repeats; i++) {
        if (minke_session_truncate(b->session, 0) < 0)
            fail_call(&program, "truncate");
        machine_int8(&b->machine);
        rates[i] = (double)n / eval_random(b, n);
        machine_int8(&b->machine);
    }
    struct result *r = add_result(b, "prefill", rates, b->set.repeats);
    r->tokens = n;
    r->limit = b->report.prefill_ops > 0 ? b->machine.int8_gop_s * 1e9 / b->report.prefill_ops : 0;
    set_parts(b, r, &since, n * b->set.repeats);
}

/* Bytes of the caches that a token reads at a depth: latents and rope keys of what it attends
 * to, index keys of all. */
static double cache_bytes(const struct bench *b, double depth)
{
    const double L = (double)info(b, MINKE_INFO_KV_LORA_RANK);
    const double R = (double)info(b, MINKE_INFO_ROPE_HEAD_DIM);
    const double D = (double)info(b, MINKE_INFO_INDEX_HEAD_DIM);
    const double top = (double)info(b, MINKE_INFO_INDEX_TOPK);
    const uint32_t native = top > 0 ? MINKE_CACHE_FP8 : MINKE_CACHE_BF16;
    const uint32_t cache = b->params.cache_type == MINKE_CACHE_NATIVE ? native
                                                                      : b->params.cache_type;
    const double row = cache == MINKE_CACHE_F32 ? 4 * (L + R)
                     : cache == MINKE_CACHE_BF16 ? 2 * (L + R) : L + L / 32 + 2 * R;
    const int sparse = top > 0 && (b->params.attention == MINKE_ATTENTION_DEFAULT
                                   || b->params.attention == MINKE_ATTENTION_DSA);
    const double limit = sparse ? top : b->params.window;
    const double attended = limit > 0 && limit < depth ? limit : depth;
    const double index = !sparse ? 0 : b->params.index_type == MINKE_INDEX_F32 ? 4 * D : D + 4;
    return (attended * row + depth * index) * (double)info(b, MINKE_INFO_N_LAYERS);
}

/* Blocks of 16 tokens, each after a pass over the memory. */
static void run_decode(struct bench *b, size_t depth)
{
    const size_t n_blocks = b->set.decode / 16 > 0 ? b->set.decode / 16 : 1;
    const size_t n = b->set.decode < 16 ? b->set.decode : 16;
    double rates[MAX_DECODE / 16];
    if (n == 0)
        return;
    if (minke_session_truncate(b->session, 0) < 0
        || (depth > 0 && minke_session_fill(b->session, depth, 1) < 0))
        fail_call(&program, "fill");
    eval_random(b, 1);
    const struct clocks since = read_clocks(b);
    size_t i = 0;
    for (; i < n_blocks && i < MAX_DECODE / 16; i++) {
        machine_read(&b->machine);
        double taken = 0;
        for (size_t j = 0; j < n; j++)
            taken += eval_random(b, 1);
        rates[i] = (double)n / taken;
    }
    machine_read(&b->machine);
    struct result *r = add_result(b, "decode", rates, i);
    r->depth = depth;
    r->tokens = n * i;
    r->limit = b->machine.read_gb_s * 1e9
             / ((double)b->report.decode_bytes
                + cache_bytes(b, (double)depth + (double)(n * i) / 2));
    set_parts(b, r, &since, n * i);
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
    while (*at != '\0') {
        char *end = NULL;
        const unsigned long long x = strtoull(at, &end, 10);
        if (n == MAX_DEPTHS)
            usage_error(&program, "--depths: at most 16, not", set->depths);
        if (end == at || x > 10000000 || (*end != ',' && *end != '\0'))
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
    const char *path = b->set.model, *why = NULL, *value = NULL;
    minke_context_params_init(&params, sizeof params);
    params.n_threads = b->set.threads;
    params.flags = b->set.fast ? MINKE_CONTEXT_FAST : 0;
    params.progress = draw_loading;
    params.progress_user = &bar;
    if (b->set.shape != NULL) {
        b->random = random_model_open(b->set.shape, b->set.type, b->set.layers, &why,
                                      &value);
        if (b->random == NULL)
            fail_text(&program, why, value);
        if (b->set.save != NULL) {
            if (random_model_save(b->random, b->set.save) != 0)
                fail_text(&program, "cannot write", b->set.save);
            exit(0);
        }
        random_model_reader(b->random, &params);
        path = random_model_path(b->random);
    }
    const double limit = b->set.model != NULL ? 1e9 * machine_file(path, b->set.threads) : 0;
    const double start = seconds();
    if (minke_context_open(&b->ctx, path, &params) < 0)
        fail_call(&program, path);
    progress_end(&bar);
    const double taken = seconds() - start;
    b->report.n_threads = (uint32_t)info(b, MINKE_INFO_N_THREADS);
    double rate = (double)info(b, MINKE_INFO_WEIGHT_BYTES) / taken;
    struct result *r = add_result(b, "load", &rate, 1);
    r->tokens = (uint64_t)info(b, MINKE_INFO_WEIGHT_BYTES);
    r->limit = limit;
    r->ms[PART_REST] = 1e3 * taken;
    count_work(b);
}

/* Place of the word in a list that ends with NULL; the first for no word. */
static uint32_t find_word(const char *option, const char *word, const char *const *list)
{
    for (uint32_t i = 0; list[i] != NULL; i++)
        if (word == NULL || strcmp(word, list[i]) == 0)
            return i;
    usage_error(&program, option, word);
    return 0;
}

static void open_session(struct bench *b, const size_t *depths, size_t n_depths)
{
    static const char *const caches[] = {"f32", "bf16", "fp8", "native", NULL};
    static const char *const indexes[] = {"f32", "int8", "rescored", "native", NULL};
    size_t most = b->set.prefill;
    for (size_t i = 0; i < n_depths; i++)
        most = depths[i] + b->set.decode + 18 > most ? depths[i] + b->set.decode + 18 : most;
    minke_session_params_init(&b->params, sizeof b->params);
    b->params.max_tokens = (uint32_t)most;
    b->params.prefill_chunk = b->set.chunk;
    b->params.cache_type = find_word("--cache: f32, bf16, fp8 or native expected, not",
                                     b->set.cache, caches);
    b->params.index_type = find_word("--index: f32, int8, rescored or native expected, not",
                                     b->set.index, indexes);
    set_attention(&program, &b->params, b->set.attention, b->set.window);
    if (minke_session_open(&b->session, b->ctx, &b->params) < 0)
        fail_call(&program, "session");
    eval_random(b, b->set.prefill > 0 ? b->set.prefill : 1);   /* warm up */
    b->report.peak_bytes = (int64_t)machine_peak_bytes();
}

static void write_plot(const struct bench *b)
{
    FILE *f = fopen(b->set.plot, "w");
    if (f == NULL)
        fail_text(&program, "cannot write", b->set.plot);
    report_plot(&b->report, f);
    if (!finish_file(f, b->set.plot, 1))
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
    machine_open(&b.machine, b.report.n_threads, (size_t)b.set.read_mb << 20);
    machine_read(&b.machine);
    run_prefill(&b);
    for (size_t i = 0; i < n_depths; i++)
        run_decode(&b, depths[i]);
    run_tokenize(&b);
    b.report.read_gb_s = b.machine.read_gb_s;
    b.report.int8_gop_s = b.machine.int8_gop_s;
    if (b.set.json)
        report_json(&b.report, stdout);
    else
        report_table(&b.report, stdout);
    if (b.set.plot != NULL)
        write_plot(&b);
    end_output(&program);
    machine_free(&b.machine);
    minke_session_free(b.session);
    minke_context_free(b.ctx);
    random_model_free(b.random);
    return 0;
}
