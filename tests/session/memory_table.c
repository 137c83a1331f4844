/* The README's table of what sessions take: caches of released models, from their config.json.
 *
 *     build/tests/memory_table ../shared/data/configs */
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "format/config.h"
#include "model/kv.h"

struct column {
    const char *file, *name;
    struct mk_config config;
};

static int read_config(struct column *col, const char *folder)
{
    const struct mk_env env = {.log = NULL};
    const struct mk_json *json = NULL;
    struct mk_arena arena;
    char path[512], *text;
    size_t n;
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", folder, col->file);
    f = fopen(path, "rb");
    if (f == NULL) {
        fprintf(stderr, "%s is missing\n", path);
        return -1;
    }
    text = malloc(1 << 20);
    n = fread(text, 1, 1 << 20, f);
    fclose(f);
    mk_arena_init(&arena, &env.alloc);
    if (mk_json_parse(&json, &arena, text, n, path) < 0
        || mk_config_read(&col->config, json) < 0) {
        fprintf(stderr, "%s\n", minke_last_error());
        return -1;
    }
    mk_arena_free(&arena);
    free(text);
    return 0;
}

/* Of the main model's layers. */
static size_t token_bytes(const struct mk_config *c, uint32_t cache_type, uint32_t index_type)
{
    struct mk_kv_format format;

    mk_kv_format_init(&format, c, cache_type, index_type, c->index_topk > 0);
    return mk_kv_token_bytes(&format) * c->num_hidden_layers;
}

/* Keys and values of every head in 16 bits. */
static size_t plain_bytes(const struct mk_config *c)
{
    return (size_t)2 * c->num_hidden_layers * c->num_attention_heads
         * (c->qk_nope_head_dim + c->qk_rope_head_dim + c->v_head_dim);
}

static void print_size(size_t bytes)
{
    const double mib = (double)bytes / (1 << 20);

    if (mib < 1024.0)
        printf(" %.1f MiB |", mib);
    else
        printf(" %.2f GiB |", mib / 1024.0);
}

static void print_row(const struct column *col, const char *caches, size_t bytes)
{
    static const size_t tokens[] = {1024, 32 * 1024, 128 * 1024};

    printf("| %s | %s | %zu |", col->name, caches, bytes);
    for (size_t t = 0; t < sizeof tokens / sizeof *tokens; t++)
        print_size(bytes * tokens[t]);
    printf("\n");
}

static void print_model(const struct column *col)
{
    static const struct {
        const char *name, *sparse_name;
        uint32_t cache, index;
        int sparse_only;
    } rows[] = {{"f32", "f32", MINKE_CACHE_F32, MINKE_INDEX_F32, 0},
                {"bf16 (native)", "bf16, index int8", MINKE_CACHE_BF16, MINKE_INDEX_INT8, 0},
                {"fp8", "fp8, index int8 (native)", MINKE_CACHE_FP8, MINKE_INDEX_INT8, 0},
                {"", "fp8, index re-scored", MINKE_CACHE_FP8, MINKE_INDEX_RESCORED, 1}};
    const struct mk_config *c = &col->config;

    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
        if (c->index_topk > 0 || !rows[r].sparse_only)
            print_row(col, c->index_topk > 0 ? rows[r].sparse_name : rows[r].name,
                      token_bytes(c, rows[r].cache, rows[r].index));
    print_row(col, "*plain multi-head, bf16*", plain_bytes(c));
}

int main(int argc, char **argv)
{
    static struct column columns[] = {{.file = "deepseek-v2-lite.json", .name = "V2-Lite"},
                                      {.file = "deepseek-v3_r1.json", .name = "V3, R1, V3.1"},
                                      {.file = "deepseek-v3.2.json", .name = "V3.2"}};

    printf("| model | caches | bytes per token | 1K tokens | 32K | 128K |\n"
           "| --- | --- | ---: | ---: | ---: | ---: |\n");
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        if (argc != 2 || read_config(&columns[i], argv[1]) < 0)
            return 1;
        print_model(&columns[i]);
    }
    return 0;
}
