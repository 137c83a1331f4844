/* How much of the exact selection 8-bit index keys find, on random keys and keys with structure,
 * beside DeepSeek's own e4m3 form; and that scoring again finds all of it.  Usage: tokens, 16384
 * by default. */
#include "layer.h"

#include <math.h>

#include "test.h"

#define H 64u
#define D 128u
#define TOP_K 2048u
#define QUERIES 4u

static size_t n_tokens = 16384;

/* Mean 0 and variance 1. */
static float normal(void)
{
    float sum = 0.0f;

    for (int i = 0; i < 12; i++)
        sum += kd_float();
    return 0.5f * sum;
}

enum { GAUSSIAN, LOW_RANK, OUTLIERS, CLUSTERS, COMMON_MEAN, N_SETS };
static const struct {
    const char *name;
    double least;
} sets[N_SETS] = {
    {"gaussian", 0.985}, {"low rank", 0.975}, {"outliers", 0.975}, {"clusters", 0.975},
    {"common mean", 0.975},
};

static float basis[64 * D];

/* A key, or a query of one head. */
static void draw(float *x, int set, int is_query)
{
    const float *centre = basis + kd_u32() % 64 * D;

    for (size_t i = 0; i < D; i++)
        x[i] = normal();
    if (set == LOW_RANK) {
        for (size_t i = 0; i < D; i++)
            x[i] *= 0.1f;
        for (size_t r = 0; r < 12; r++) {
            const float z = normal();

            for (size_t i = 0; i < D; i++)
                x[i] += z * basis[r * D + i];
        }
    } else if (set == OUTLIERS) {
        for (size_t i = 0; i < D; i += 32)
            x[i] *= 20.0f;
    } else if (set == CLUSTERS) {
        for (size_t i = 0; i < D; i++)
            x[i] = centre[i] + 0.5f * x[i];
    } else if (set == COMMON_MEAN && !is_query) {
        for (size_t i = 0; i < D; i++)
            x[i] += 3.0f * basis[i];
    }
    /* Index keys come in bf16. */
    for (size_t i = 0; i < D && !is_query; i++)
        x[i] = mk_bf16_to_f32(mk_f32_to_bf16(x[i]));
}

/* Rounded as act_quant does, after the rotation: e4m3 with a power of two as scale. */
static void round_e4m3(float *x)
{
    int8_t unused[D];
    float max = 1e-4f;
    int e;

    mk_kv_round_index(unused, x, D);
    for (size_t i = 0; i < D; i++)
        max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
    if (frexpf(max / 448.0f, &e) == 0.5f)
        e--;
    for (size_t i = 0; i < D; i++)
        x[i] = ldexpf(mk_e4m3_to_f32(mk_f32_to_e4m3(ldexpf(x[i], -e))), e);
}

static size_t common(const int32_t *a, const int32_t *b)
{
    size_t n = 0;

    for (size_t i = 0, j = 0; i < TOP_K && j < TOP_K;) {
        n += a[i] == b[j];
        if (a[i] <= b[j])
            i++;
        else
            j++;
    }
    return n;
}

static void ask(struct layer *b, const float *q, const float *w, int32_t *selected)
{
    memcpy(b->work.index_q, q, H * D * sizeof(float));
    memcpy(b->work.index_w, w, H * sizeof(float));
    layer_rows(b, n_tokens - 1, 1, NULL);
    mk_dsa_run(&b->f, 0);
    CHECK_INT(b->work.n_selected[0], TOP_K);
    memcpy(selected, b->work.selected, TOP_K * sizeof(*selected));
}

/* Shares of the exact selection that the forms find. */
static void measure(int set)
{
    enum { EXACT, INT8, RESCORED, E4M3, N_FORMS };
    static const uint32_t types[] = {MINKE_INDEX_F32, MINKE_INDEX_INT8, MINKE_INDEX_RESCORED,
                                     MINKE_INDEX_F32};
    struct layer b[N_FORMS];
    int32_t *ids[N_FORMS];
    float key[D], w[H], *q = malloc(H * D * sizeof(*q));
    double found[N_FORMS] = {0};

    for (int i = 0; i < N_FORMS; i++) {
        layer_open(&b[i], 2, n_tokens, 16, MINKE_CACHE_FP8, types[i], 1, 0);
        ids[i] = malloc(TOP_K * sizeof(**ids));
    }
    for (size_t i = 0; i < 64 * D; i++)
        basis[i] = normal();
    for (size_t t = 0; t < n_tokens; t++) {
        draw(key, set, 0);
        for (int i = 0; i < N_FORMS; i++) {
            float copy[D];

            memcpy(copy, key, sizeof(key));
            if (i == E4M3)
                round_e4m3(copy);
            mk_kv_put_index(&b[i].kv, t, copy);
        }
    }
    for (size_t r = 0; r < QUERIES; r++) {
        for (size_t h = 0; h < H; h++) {
            draw(q + h * D, set, 1);
            w[h] = normal();
        }
        for (int i = 0; i < N_FORMS; i++) {
            for (size_t h = 0; i == E4M3 && h < H; h++)
                round_e4m3(q + h * D);
            ask(&b[i], q, w, ids[i]);
            found[i] += (double)common(ids[0], ids[i]) / TOP_K / QUERIES;
        }
        CHECK(memcmp(ids[EXACT], ids[RESCORED], TOP_K * sizeof(**ids)) == 0);
    }
    printf("%-12s int8 %.4f  e4m3 %.4f  scored again %.4f\n", sets[set].name, found[INT8],
           found[E4M3], found[RESCORED]);
    CHECK(found[INT8] >= sets[set].least);
    CHECK(found[INT8] > found[E4M3]);
    for (int i = 0; i < N_FORMS; i++) {
        layer_close(&b[i]);
        free(ids[i]);
    }
    free(q);
}

TEST(int8_keys_find_nearly_all_and_scoring_again_finds_all)
{
    for (int set = 0; set < N_SETS; set++)
        measure(set);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        n_tokens = (size_t)atoi(argv[1]);
    RUN(int8_keys_find_nearly_all_and_scoring_again_finds_all);
    return test_failures ? 1 : 0;
}
