/* Golden cases: small checkpoints and what a float64 reference computes from them. */
#ifndef MK_TEST_GOLDEN_H
#define MK_TEST_GOLDEN_H

#include <math.h>

#include "base/json.h"
#include "test.h"

struct golden_tensor {
    size_t rows, cols;           /* cols 1 for vectors */
    const float *f;              /* either */
    const int32_t *i;
};

struct golden {
    char path[256];
    struct mk_allocator a;
    struct mk_arena arena;
    char *data;                  /* expected.safetensors */
    const struct mk_json *head, *info;
    size_t first_row;            /* token of the first stored row */
    double dsa_gap, expert_gap;  /* smallest on the way; 1 when there was no choice */
    struct golden_tensor prompt, greedy, logits, mtp_logits;
};

static inline char *golden_file(const char *dir, const char *name, size_t *size)
{
    char path[512];
    FILE *f;
    long n;
    char *data;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    f = fopen(path, "rb");
    if (f == NULL)
        return NULL;
    fseek(f, 0, SEEK_END);
    n = ftell(f);
    rewind(f);
    data = malloc((size_t)n + 1);
    *size = fread(data, 1, (size_t)n, f);
    data[*size] = 0;
    fclose(f);
    return data;
}

/* Tensor by name; rows 0 when there is none. */
static inline struct golden_tensor golden_get(const struct golden *g, const char *name)
{
    const struct mk_json *t = mk_json_get(g->head, name), *shape = mk_json_get(t, "shape");
    const struct mk_json *offsets = mk_json_get(t, "data_offsets");
    struct golden_tensor out = {0, 1, NULL, NULL};
    uint64_t head_size;
    int64_t v = 0;

    if (shape == NULL || offsets == NULL)
        return out;
    mk_json_int(shape->first, &v);
    out.rows = (size_t)v;
    if (shape->n_items > 1) {
        mk_json_int(shape->first->next, &v);
        out.cols = (size_t)v;
    }
    mk_json_int(offsets->first, &v);
    memcpy(&head_size, g->data, 8);
    out.f = (const float *)(const void *)(g->data + 8 + head_size + v);
    out.i = (const int32_t *)(const void *)(g->data + 8 + head_size + v);
    return out;
}

static inline struct golden_tensor golden_layer(const struct golden *g, uint32_t l,
                                                const char *what)
{
    char name[64];

    snprintf(name, sizeof(name), "layer.%u.%s", l, what);
    return golden_get(g, name);
}

static inline double golden_number(const struct mk_json *obj, const char *key, double otherwise)
{
    double v;

    return mk_json_double(mk_json_get(obj, key), &v) == 0 ? v : otherwise;
}

static inline void golden_free(struct golden *g)
{
    mk_arena_free(&g->arena);
    free(g->data);
}

/* 0, or -1 when there is no such case. */
static inline int golden_load(struct golden *g, const char *dir)
{
    const struct mk_json *gaps;
    uint64_t head_size;
    size_t size;
    char *text;
    double group;

    memset(g, 0, sizeof(*g));
    mk_arena_init(&g->arena, &g->a);
    snprintf(g->path, sizeof(g->path), "%s", dir);
    g->data = golden_file(dir, "expected.safetensors", &size);
    if (g->data == NULL)
        return -1;
    memcpy(&head_size, g->data, 8);
    text = golden_file(dir, "case.json", &size);
    if (text == NULL
        || mk_json_parse(&g->head, &g->arena, g->data + 8, (size_t)head_size, "expected") < 0
        || mk_json_parse(&g->info, &g->arena, text, size, "case.json") < 0) {
        fprintf(stderr, "%s: %s\n", dir, minke_last_error());
        exit(1);
    }
    free(text);
    gaps = mk_json_get(g->info, "smallest_selection_gap");
    g->first_row = (size_t)golden_number(g->info, "first_row", 0);
    g->dsa_gap = golden_number(gaps, "dsa", 1);
    g->expert_gap = golden_number(gaps, "expert", 1);
    group = golden_number(gaps, "group", 1);
    g->expert_gap = group < g->expert_gap ? group : g->expert_gap;
    g->prompt = golden_get(g, "prompt");
    g->greedy = golden_get(g, "greedy");
    g->logits = golden_get(g, "logits");
    g->mtp_logits = golden_get(g, "mtp_logits");
    return 0;
}

static inline float golden_worst(const float *a, const float *b, size_t n)
{
    float worst = 0.0f;

    for (size_t i = 0; i < n; i++) {
        const float d = fabsf(a[i] - b[i]);

        if (!(d <= worst))
            worst = d;
    }
    return worst;
}

/* Whether every choice on the way is beyond what f32 rounding could turn. */
static inline int golden_is_clear(const struct golden *g)
{
    return g->dsa_gap >= 1e-5 && g->expert_gap >= 1e-5;
}

static inline float golden_bound(const struct golden *g)
{
    return golden_is_clear(g) ? 2e-4f : 5e-2f;
}

/* Cases of the tree, then those of the shared folder where it is present. */
static const char *const golden_cases[] = {
    "tests/golden/v2-lite", "tests/golden/v2", "tests/golden/v3", "tests/golden/v3-fp8",
    "tests/golden/v32", "tests/golden/v32-fp8",
    "../shared/golden/v2-lite", "../shared/golden/v2", "../shared/golden/v3",
    "../shared/golden/v3-norope-scaling", "../shared/golden/v3-fp8", "../shared/golden/v32",
    "../shared/golden/v32-fp8", "../shared/golden/v32-gguf", "../shared/golden/v32-long",
};
#define GOLDEN_N (sizeof(golden_cases) / sizeof(golden_cases[0]))

static inline minke_context *golden_open(const char *dir, uint32_t n_threads, uint32_t flags)
{
    minke_context_params p;
    minke_context *ctx = NULL;

    minke_context_params_init(&p, sizeof(p));
    p.n_threads = n_threads;
    p.flags = flags;
    if (minke_context_open(&ctx, dir, &p) < 0) {
        fprintf(stderr, "%s: %s\n", dir, minke_last_error());
        exit(1);
    }
    return ctx;
}

static inline minke_session *golden_session(minke_context *ctx, uint32_t max_tokens, uint32_t chunk,
                                     uint32_t flags)
{
    minke_session_params p;
    minke_session *s = NULL;

    minke_session_params_init(&p, sizeof(p));
    p.max_tokens = max_tokens;
    p.prefill_chunk = chunk;
    p.flags = flags;
    if (minke_session_open(&s, ctx, &p) < 0) {
        fprintf(stderr, "session: %s\n", minke_last_error());
        exit(1);
    }
    return s;
}

#endif
