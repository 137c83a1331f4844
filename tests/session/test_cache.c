/* Caches of long contexts: every row has its own bytes, also beyond 2^31 of them. */
#include "small_model.h"

#include <math.h>
#include <sys/mman.h>

#include "session/session.h"
#include "kernels/kernels.h"

#define V32_LAYERS 61u
#define V32_TOKENS 163840u
#define HUGE_TOKENS 4200000u     /* 2^31 bytes and more in one plane */

/* What of V3.2's config.json decides its caches. */
static const struct mk_config v32 = {
    .num_hidden_layers = V32_LAYERS, .kv_lora_rank = 512, .qk_rope_head_dim = 64,
    .index_n_heads = 64, .index_head_dim = 128, .index_topk = 2048,
};

static const struct {
    uint32_t cache, index;
    size_t bytes;                /* of a token in one layer, as minke.h says */
} types[] = {
    {MINKE_CACHE_F32, MINKE_INDEX_F32, 2304 + 512},
    {MINKE_CACHE_BF16, MINKE_INDEX_INT8, 1152 + 132},
    {MINKE_CACHE_FP8, MINKE_INDEX_RESCORED, 656 + 388},
    {MINKE_CACHE_NATIVE, MINKE_INDEX_NATIVE, 656 + 132},
};
#define N_TYPES (sizeof types / sizeof *types)

TEST(v32_at_163840_tokens_takes_what_the_header_says)
{
    static struct mk_kv kv[V32_LAYERS];

    for (size_t i = 0; i < N_TYPES; i++) {
        struct mk_carve carve = {.base = NULL};
        struct mk_kv_format format;

        mk_kv_format_init(&format, &v32, types[i].cache, types[i].index, 1);
        CHECK_INT(mk_kv_token_bytes(&format), types[i].bytes);
        mk_kv_layout(kv, &carve, &format, V32_LAYERS, V32_TOKENS);
        CHECK_INT(carve.size, types[i].bytes * V32_LAYERS * V32_TOKENS);
        CHECK_INT(carve.failed, 0);
        CHECK(carve.size > UINT32_MAX);
    }
}

/* Pages that take memory only once they are written. */
static void *reserve(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static void mark(float *row, size_t n, size_t layer, size_t t)
{
    for (size_t i = 0; i < n; i++)
        row[i] = (float)((layer * 31 + t * 7 + i) % 15) - 7.0f;
}

/* Write rows far apart in all layers, then read them all. */
static void check_rows(const struct mk_kv *kv, size_t n_layers, const int32_t *at, size_t n)
{
    struct mk_kernels k;
    float row[576], out[576];

    mk_kernels_init(&k, 0);
    for (size_t l = 0; l < n_layers; l++)
        for (size_t i = 0; i < n; i++) {
            mark(row, 576, l, (size_t)at[i]);
            mk_kv_put_latent(&kv[l], (size_t)at[i], row);
            mark(row, 128, l, (size_t)at[i]);
            if (kv[l].format.index_type == MK_KV_INDEX_F32)
                mk_kv_put_index(&kv[l], (size_t)at[i], row);
        }
    for (size_t l = 0; l < n_layers; l++)
        for (size_t i = 0; i < n; i++) {
            mark(row, 576, l, (size_t)at[i]);
            CHECK(memcmp(mk_kv_latents(&kv[l], &k, out, NULL, (size_t)at[i], 1), row,
                         sizeof row) == 0);
            CHECK(memcmp(mk_kv_latents(&kv[l], &k, out, at + i, 0, 1), row, sizeof row) == 0);
            mark(row, 128, l, (size_t)at[i]);
            if (kv[l].format.index_type == MK_KV_INDEX_F32)
                CHECK(memcmp(mk_kv_indices(&kv[l], &k, out, NULL, (size_t)at[i], 1), row,
                             128 * sizeof(float)) == 0);
        }
}

TEST(rows_of_v32_do_not_meet_in_28_gigabytes)
{
    static const int32_t at[] = {0, 1, 65535, 65536, 131071, 131072, 163838, 163839};
    static struct mk_kv kv[V32_LAYERS];

    for (size_t i = 0; i < N_TYPES; i++) {
        struct mk_carve carve = {.base = NULL};
        struct mk_kv_format format;
        const size_t bytes = types[i].bytes * V32_LAYERS * V32_TOKENS;

        carve.base = reserve(bytes);
        if (carve.base == NULL)
            SKIP("no address space");
        mk_kv_format_init(&format, &v32, types[i].cache, types[i].index, 1);
        mk_kv_layout(kv, &carve, &format, V32_LAYERS, V32_TOKENS);
        check_rows(kv, V32_LAYERS, at, sizeof at / sizeof *at);
        munmap(carve.base, bytes);
    }
}

TEST(rows_beyond_two_gigabytes_of_one_layer_are_found)
{
    static const int32_t at[] = {0, 932066, 932067, 932068, 1864135, 1864136, 3728270, 3728271,
                                 3728272, HUGE_TOKENS - 1};

    for (size_t i = 0; i < N_TYPES; i++) {
        struct mk_carve carve = {.base = NULL};
        struct mk_kv_format format;
        struct mk_kv kv;
        const size_t bytes = types[i].bytes * HUGE_TOKENS + 256;

        carve.base = reserve(bytes);
        if (carve.base == NULL)
            SKIP("no address space");
        mk_kv_format_init(&format, &v32, types[i].cache, types[i].index, 1);
        mk_kv_layout(&kv, &carve, &format, 1, HUGE_TOKENS);
        check_rows(&kv, 1, at, sizeof at / sizeof *at);
        munmap(carve.base, bytes);
    }
}

/* ---- Sessions ------------------------------------------------------------ */

static minke_context *ctx;

static minke_session *open_long(uint32_t attention, uint32_t window, uint32_t flags)
{
    minke_session_params p;
    minke_session *s = NULL;

    minke_session_params_init(&p, sizeof p);
    p.max_tokens = HUGE_TOKENS;
    p.prefill_chunk = 4;
    p.attention = attention;
    p.window = window;
    p.flags = flags;
    if (minke_session_open(&s, ctx, &p) < 0)
        CHECK_INT(minke_session_open(&s, ctx, &p), MINKE_ENOMEM);
    return s;
}

/* As if it held n tokens whose caches are zero: their memory is never written. */
static void pretend(minke_session *s, size_t n)
{
    s->length = n;
}

TEST(a_session_goes_on_at_four_million_tokens)
{
    static const struct {
        uint32_t attention, window, flags;
    } ways[] = {{MINKE_ATTENTION_WINDOW, 6, MINKE_SESSION_ABSORBED},
                {MINKE_ATTENTION_WINDOW, 6, MINKE_SESSION_NAIVE},
                {MINKE_ATTENTION_DSA, 0, 0}};
    float rows[3][CK_VOCAB];
    int32_t tokens[10];

    small_text(tokens, 10);
    for (size_t i = 0; i < 3; i++) {
        minke_session *s = open_long(ways[i].attention, ways[i].window, ways[i].flags);
        const float *logits;

        if (s == NULL)
            SKIP("no address space");
        pretend(s, HUGE_TOKENS - 10);
        CHECK_INT(minke_session_eval(s, tokens, 10), MINKE_OK);
        CHECK_INT(minke_session_eval(s, tokens, 1), MINKE_EFULL);
        CHECK_INT(minke_session_length(s), HUGE_TOKENS);
        CHECK_INT(minke_session_logits(s, &logits, NULL), MINKE_OK);
        memcpy(rows[i], logits, sizeof rows[i]);
        for (size_t j = 0; j < CK_VOCAB; j++)
            CHECK(isfinite(logits[j]));
        minke_session_free(s);
    }
    for (size_t j = 0; j < CK_VOCAB; j++)
        CHECK(fabsf(rows[0][j] - rows[1][j]) < 1e-3f);
}

TEST(memory_grows_by_the_same_for_every_token)
{
    minke_session_params p;
    uint64_t a = 0, b = 0, c = 0;

    minke_session_params_init(&p, sizeof p);
    p.prefill_chunk = 1;
    p.attention = MINKE_ATTENTION_DENSE;
    p.max_tokens = 1 << 20;
    CHECK_INT(minke_session_memory(ctx, &p, &a), MINKE_OK);
    p.max_tokens = 2 << 20;
    CHECK_INT(minke_session_memory(ctx, &p, &b), MINKE_OK);
    p.max_tokens = INT32_MAX;
    CHECK_INT(minke_session_memory(ctx, &p, &c), MINKE_OK);
    /* Caches of two layers, and the token itself. */
    CHECK_INT(b - a, (CK_LAYERS * (CK_L + CK_R) * 4 + 4) * (uint64_t)(1 << 20));
    const uint64_t expected = (b - a) / (1 << 20) * (INT32_MAX - (2u << 20));

    CHECK(c - b <= expected + 512 && expected <= c - b + 512);
}

struct counter {
    uint64_t bytes;
};

static void *count_alloc(void *user, size_t size, size_t align)
{
    void *p = NULL;

    ((struct counter *)user)->bytes += size;
    return posix_memalign(&p, align < 16 ? 16 : align, size) == 0 ? p : NULL;
}

static void count_free(void *user, void *ptr, size_t size)
{
    (void)user, (void)size;
    free(ptr);
}

TEST(memory_is_told_for_every_kind_of_session)
{
    struct counter c = {0};
    minke_context_params cp;
    minke_context *own = NULL;

    minke_context_params_init(&cp, sizeof cp);
    cp.alloc = count_alloc;
    cp.free = count_free;
    cp.alloc_user = &c;
    CHECK_INT(minke_context_open(&own, small_path("model"), &cp), MINKE_OK);
    for (uint32_t i = 0; i < 4 * 4 * 3 * 2; i++) {
        minke_session_params p;
        minke_session *s = NULL, *child = NULL;
        uint64_t told = 0;

        minke_session_params_init(&p, sizeof p);
        p.max_tokens = 777;
        p.cache_type = i % 4;
        p.index_type = i / 4 % 4;
        p.attention = i / 16 % 3;
        p.window = p.attention == MINKE_ATTENTION_WINDOW ? 50 : 0;
        p.flags = i / 48 ? MINKE_SESSION_MTP : 0;
        CHECK_INT(minke_session_memory(own, &p, &told), MINKE_OK);
        c.bytes = 0;
        CHECK_INT(minke_session_open(&s, own, &p), MINKE_OK);
        CHECK(c.bytes >= told && c.bytes <= told + 4096);
        c.bytes = 0;
        CHECK_INT(minke_session_fork(&child, s, NULL), MINKE_OK);
        CHECK(c.bytes >= told && c.bytes <= told + 4096);
        minke_session_free(s);
        minke_session_free(child);
    }
    minke_context_free(own);
}

int main(void)
{
    small_begin();
    small_write("model", 1, 1, 0);
    ctx = small_open("model", 2, 0);
    RUN(v32_at_163840_tokens_takes_what_the_header_says);
    RUN(rows_of_v32_do_not_meet_in_28_gigabytes);
    RUN(rows_beyond_two_gigabytes_of_one_layer_are_found);
    RUN(a_session_goes_on_at_four_million_tokens);
    RUN(memory_grows_by_the_same_for_every_token);
    RUN(memory_is_told_for_every_kind_of_session);
    minke_context_free(ctx);
    small_end();
    return test_result();
}
