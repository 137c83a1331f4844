/* minke-inspect: what is in a checkpoint, what a session of it needs, how it tokenizes, and
 * drawings of what it attends to. */
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "inspect_maps.h"

struct settings {
    const char *model, *tokens, *attention, *experts, *out, *cache;
    uint32_t context, threads;
    minke_session_params session;   /* caches */
    int json;
};

static struct program program = {
    "minke-inspect", "MODEL [options]",
    "Say what is in the checkpoint in the folder MODEL, and what memory it takes.\n"
    "The weights are mapped, not read.", NULL};

static void read_settings(struct settings *set, int argc, char **argv)
{
    const struct option options[] = {
        {"--context", OPTION_COUNT, &set->context, "N",
         "memory for a session of N tokens; 0: the most (4096)"},
        {"--tokens", OPTION_TEXT, &set->tokens, "TEXT",
         "token ids of TEXT, and nothing else: only the tokenizer is read"},
        {"--attention", OPTION_TEXT, &set->attention, "FILE",
         "read the prompt in FILE and draw which tokens each query selected"},
        {"--experts", OPTION_TEXT, &set->experts, "FILE",
         "read the prompt in FILE and draw how often each expert was used"},
        {"-o", OPTION_TEXT, &set->out, "FILE", "where the drawing goes, as SVG (stdout)"},
        CACHE_OPTION(&set->cache),
        {"--threads", OPTION_COUNT, &set->threads, "N",
         "for drawings; 0 is what the machine allows (0)"},
        {"--json", OPTION_FLAG, &set->json, NULL, "one JSON object"},
        {NULL, OPTION_FLAG, NULL, NULL, NULL}};
    const char *words[1] = {NULL};
    program.options = options;
    read_options(&program, argc, argv, words, 1);
    program.options = NULL;
    set->model = words[0];
    if (set->model == NULL)
        usage_error(&program, "no model given", NULL);
    minke_session_params_init(&set->session, sizeof set->session);
    set_cache(&program, &set->session, set->cache);
    if (set->attention != NULL && set->experts != NULL)
        usage_error(&program, "one drawing at a time: --attention or --experts", NULL);
    if (set->out != NULL && set->attention == NULL && set->experts == NULL)
        usage_error(&program, "-o is for --attention or --experts", NULL);
}

static minke_context *open_model(const struct settings *set)
{
    minke_context_params params;
    minke_context *ctx = NULL;
    minke_context_params_init(&params, sizeof params);
    params.n_threads = set->attention != NULL || set->experts != NULL ? set->threads : 1;
    params.flags = set->tokens != NULL ? MINKE_CONTEXT_TOKENIZER_ONLY : MINKE_CONTEXT_MMAP;
    if (minke_context_open(&ctx, set->model, &params) < 0)
        fail_call(&program, set->model);
    return ctx;
}

static int64_t info(const minke_context *ctx, int32_t key)
{
    int64_t value = 0;
    minke_context_info(ctx, key, &value);
    return value;
}

static const char *text(const minke_context *ctx, int32_t key)
{
    const char *value = "";
    minke_context_text(ctx, key, &value);
    return value;
}

/* ---- Tokens -------------------------------------------------------------- */

/* A token's bytes in quotes; those that are no whole characters as \xNN. */
static void print_bytes(const char *bytes, size_t n, int whole)
{
    putchar('"');
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)bytes[i];
        if (c == '\n')
            fputs("\\n", stdout);
        else if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 0x20 || c == 0x7f || (c >= 0x80 && !whole))
            printf("\\x%02x", c);
        else
            putchar(c);
    }
    putchar('"');
}

/* The token's text, U+FFFD where its bytes are part of a character. */
static void print_token_json(const minke_context *ctx, int32_t id)
{
    char part[1024];
    size_t n = 0;
    if (minke_detokenize(ctx, &id, 1, 0, part, sizeof part, &n, NULL) < 0)
        n = 0;
    printf("{\"id\": %ld, \"text\": ", (long)id);
    json_string(stdout, part, n);
    printf("}");
}

static void print_tokens(const struct settings *set, const minke_context *ctx)
{
    const size_t len = strlen(set->tokens);
    size_t n = 0;
    const int32_t status = minke_tokenize(ctx, set->tokens, len, MINKE_TOKENIZE_SPECIAL, NULL,
                                          0, &n);
    if (status < 0 && status != MINKE_ENOSPC)
        fail_call(&program, "--tokens");
    int32_t *ids = need_memory(NULL, n, sizeof *ids);
    if (minke_tokenize(ctx, set->tokens, len, MINKE_TOKENIZE_SPECIAL, ids, n, &n) < 0)
        fail_call(&program, "--tokens");
    if (set->json)
        printf("{\"tokens\": [");
    for (size_t i = 0; i < n; i++) {
        const char *bytes = NULL;
        size_t size = 0, used = 0, whole = 0;
        if (set->json) {
            fputs(i > 0 ? ", " : "", stdout);
            print_token_json(ctx, ids[i]);
            continue;
        }
        if (minke_token_bytes(ctx, ids[i], &bytes, &size) < 0)
            fail_call(&program, "--tokens");
        printf("%7ld  ", (long)ids[i]);
        /* Whole characters decode to just as many bytes and nothing is held back. */
        const int32_t asked = minke_detokenize(ctx, ids + i, 1, MINKE_DETOKENIZE_PARTIAL,
                                               NULL, 0, &whole, &used);
        print_bytes(bytes, size, (asked >= 0 || asked == MINKE_ENOSPC) && whole == size);
        putchar('\n');
    }
    if (set->json)
        printf("]}\n");
    free(ids);
}

/* ---- Model --------------------------------------------------------------- */

static const struct fact {
    const char *name;
    int32_t key;
} facts[] = {
    {"n_params", MINKE_INFO_N_PARAMS}, {"n_params_active", MINKE_INFO_N_PARAMS_ACTIVE},
    {"weight_bytes", MINKE_INFO_WEIGHT_BYTES}, {"bytes_embed", MINKE_INFO_BYTES_EMBED},
    {"bytes_attention", MINKE_INFO_BYTES_ATTENTION},
    {"bytes_experts", MINKE_INFO_BYTES_EXPERTS}, {"bytes_other", MINKE_INFO_BYTES_OTHER},
    {"n_vocab", MINKE_INFO_N_VOCAB}, {"n_layers", MINKE_INFO_N_LAYERS},
    {"n_dense_layers", MINKE_INFO_N_DENSE_LAYERS}, {"n_mtp_layers", MINKE_INFO_N_MTP_LAYERS},
    {"hidden_size", MINKE_INFO_HIDDEN_SIZE}, {"n_heads", MINKE_INFO_N_HEADS},
    {"kv_lora_rank", MINKE_INFO_KV_LORA_RANK}, {"rope_head_dim", MINKE_INFO_ROPE_HEAD_DIM},
    {"n_experts", MINKE_INFO_N_EXPERTS}, {"n_experts_used", MINKE_INFO_N_EXPERTS_USED},
    {"n_shared_experts", MINKE_INFO_N_SHARED_EXPERTS},
    {"index_topk", MINKE_INFO_INDEX_TOPK}, {"index_n_heads", MINKE_INFO_INDEX_N_HEADS},
    {"index_head_dim", MINKE_INFO_INDEX_HEAD_DIM}, {"max_tokens", MINKE_INFO_MAX_TOKENS},
    {"n_tokens", MINKE_INFO_N_TOKENS}, {"token_bos", MINKE_INFO_TOKEN_BOS},
    {"token_eos", MINKE_INFO_TOKEN_EOS}};

static uint64_t session_memory(const minke_context *ctx, const struct settings *set)
{
    minke_session_params params = set->session;
    uint64_t bytes = 0;
    params.max_tokens = set->context;   /* 0 is the model's maximum */
    if (minke_session_memory(ctx, &params, &bytes) < 0)
        fail_call(&program, "--context");
    return bytes;
}

static long long context_tokens(const minke_context *ctx, const struct settings *set)
{
    return set->context != 0 ? (long long)set->context : info(ctx, MINKE_INFO_MAX_TOKENS);
}

static void print_json(const struct settings *set, const minke_context *ctx)
{
    static const struct fact texts[] = {
        {"model_type", MINKE_TEXT_MODEL_TYPE}, {"weight_type", MINKE_TEXT_WEIGHT_TYPE},
        {"tokenizer", MINKE_TEXT_TOKENIZER}, {"tokenizer_error", MINKE_TEXT_TOKENIZER_ERROR},
        {"cpu", MINKE_TEXT_CPU}, {"identity", MINKE_TEXT_IDENTITY},
        {"slow_types", MINKE_TEXT_SLOW_TYPES}};
    const uint64_t session_bytes = session_memory(ctx, set);   /* fails before anything is said */
    printf("{");
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const char *value = text(ctx, texts[i].key);
        printf("%s\"%s\": ", i > 0 ? ", " : "", texts[i].name);
        json_string(stdout, value, strlen(value));
    }
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
        printf(", \"%s\": %lld", facts[i].name, (long long)info(ctx, facts[i].key));
    printf(", \"surplus\": [");
    const char *name = NULL;
    for (size_t i = 0; (name = minke_context_surplus(ctx, i)) != NULL; i++) {
        fputs(i > 0 ? ", " : "", stdout);
        json_string(stdout, name, strlen(name));
    }
    printf("], \"context\": %lld, \"session_bytes\": %llu}\n", context_tokens(ctx, set),
           (unsigned long long)session_bytes);
}

static void print_part(const char *name, const minke_context *ctx, int32_t key)
{
    char size[32];
    const int64_t all = info(ctx, MINKE_INFO_WEIGHT_BYTES), bytes = info(ctx, key);
    printf("  %-18s %12s  %3.0f %%\n", name, bytes_text(size, (uint64_t)bytes),
           all > 0 ? 100.0 * (double)bytes / (double)all : 0.0);
}

static void print_shape(const minke_context *ctx)
{
    const long long layers = info(ctx, MINKE_INFO_N_LAYERS);
    const long long dense = info(ctx, MINKE_INFO_N_DENSE_LAYERS);
    const long long experts = info(ctx, MINKE_INFO_N_EXPERTS);
    char total[32], active[32];
    printf("model      %s\n", text(ctx, MINKE_TEXT_MODEL_TYPE));
    printf("weights    %s, %s for each token, mostly %s\n",
           count_text(total, info(ctx, MINKE_INFO_N_PARAMS)),
           count_text(active, info(ctx, MINKE_INFO_N_PARAMS_ACTIVE)),
           text(ctx, MINKE_TEXT_WEIGHT_TYPE));
    if (text(ctx, MINKE_TEXT_SLOW_TYPES)[0] != '\0')
        printf("           decoded as they are multiplied, slowly: %s\n",
               text(ctx, MINKE_TEXT_SLOW_TYPES));
    printf("layers     %lld: %lld dense, %lld of experts", layers, dense, layers - dense);
    if (info(ctx, MINKE_INFO_N_MTP_LAYERS) > 0)
        printf(", and %lld for multi-token prediction",
               (long long)info(ctx, MINKE_INFO_N_MTP_LAYERS));
    printf("\n");
    if (experts > 0)
        printf("experts    %lld a layer, %lld used and %lld shared for each token\n", experts,
               (long long)info(ctx, MINKE_INFO_N_EXPERTS_USED),
               (long long)info(ctx, MINKE_INFO_N_SHARED_EXPERTS));
    printf("attention  %lld heads, latent %lld + %lld",
           (long long)info(ctx, MINKE_INFO_N_HEADS),
           (long long)info(ctx, MINKE_INFO_KV_LORA_RANK),
           (long long)info(ctx, MINKE_INFO_ROPE_HEAD_DIM));
    if (info(ctx, MINKE_INFO_INDEX_TOPK) > 0)
        printf("; the %lld best of all tokens, by %lld index heads of %lld",
               (long long)info(ctx, MINKE_INFO_INDEX_TOPK),
               (long long)info(ctx, MINKE_INFO_INDEX_N_HEADS),
               (long long)info(ctx, MINKE_INFO_INDEX_HEAD_DIM));
    printf("\nhidden     %lld, vocabulary %lld, context up to %lld tokens\n",
           (long long)info(ctx, MINKE_INFO_HIDDEN_SIZE),
           (long long)info(ctx, MINKE_INFO_N_VOCAB),
           (long long)info(ctx, MINKE_INFO_MAX_TOKENS));
}

static void print_tokenizer(const minke_context *ctx)
{
    const char *why = text(ctx, MINKE_TEXT_TOKENIZER_ERROR);
    if (why[0] != '\0')
        printf("tokenizer  none: %s\n", why);
    else
        printf("tokenizer  %s, %lld tokens, begins with %lld, ends with %lld\n",
               text(ctx, MINKE_TEXT_TOKENIZER), (long long)info(ctx, MINKE_INFO_N_TOKENS),
               (long long)info(ctx, MINKE_INFO_TOKEN_BOS),
               (long long)info(ctx, MINKE_INFO_TOKEN_EOS));
}

/* A name from a file, which must not tell the terminal what to do. */
static void print_name(const char *name)
{
    fputs("  ", stdout);
    for (; *name != '\0'; name++)
        putchar((unsigned char)*name < 0x20 || *name == 0x7f ? '?' : *name);
    putchar('\n');
}

static void print_model(const struct settings *set, const minke_context *ctx)
{
    char size[32];
    const int64_t surplus = info(ctx, MINKE_INFO_N_SURPLUS);
    const uint64_t session_bytes = session_memory(ctx, set);   /* fails before anything is said */
    print_shape(ctx);
    print_tokenizer(ctx);
    printf("cpu        %s\n", text(ctx, MINKE_TEXT_CPU));
    printf("memory     %s of weights\n",
           bytes_text(size, (uint64_t)info(ctx, MINKE_INFO_WEIGHT_BYTES)));
    print_part("embedding, head", ctx, MINKE_INFO_BYTES_EMBED);
    print_part("attention", ctx, MINKE_INFO_BYTES_ATTENTION);
    print_part("routed experts", ctx, MINKE_INFO_BYTES_EXPERTS);
    print_part("the rest", ctx, MINKE_INFO_BYTES_OTHER);
    printf("           and %s for a session of %lld tokens\n", bytes_text(size, session_bytes),
           context_tokens(ctx, set));
    if (surplus > 0)
        printf("surplus    %lld tensors that no layer uses\n", (long long)surplus);
    for (int64_t i = 0; i < surplus && i < 10; i++)
        print_name(minke_context_surplus(ctx, (size_t)i));
    if (surplus > 10)
        printf("  and %lld more\n", (long long)surplus - 10);
}

int main(int argc, char **argv)
{
    struct settings set = {.context = 4096};
    read_settings(&set, argc, argv);
    minke_context *ctx = open_model(&set);
    const char *prompt = set.attention != NULL ? set.attention : set.experts;
    const struct drawing drawing = {&program, ctx, set.model, prompt, set.out, &set.session};
    if (set.attention != NULL)
        draw_attention(&drawing);
    else if (set.experts != NULL)
        draw_experts(&drawing);
    else if (set.tokens != NULL)
        print_tokens(&set, ctx);
    else if (set.json)
        print_json(&set, ctx);
    else
        print_model(&set, ctx);
    minke_context_free(ctx);
    end_output(&program);
    return 0;
}
