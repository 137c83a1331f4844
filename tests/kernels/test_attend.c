/* Kernels of attention and the indexer, at every level this machine has, against their C twins,
 * and the selection of the best against sorting. */
#include "kernel_data.h"

#include <math.h>

#include "base/cpu.h"
#include "model/forward.h"
#include "test.h"

static struct mk_kernels twin, level;

static int same(const float *a, const float *b, size_t n)
{
    return memcmp(a, b, n * sizeof(*a)) == 0;
}

TEST(widening_matches_its_twin_bit_for_bit)
{
    for (size_t n = 1; n < 100; n++) {
        uint8_t *in = kd_guarded(2 * n), *codes = kd_guarded(n);
        float *a = kd_floats(n, 0.0f), *b = kd_floats(n, 0.0f);

        for (size_t i = 0; i < n; i++) {
            const uint16_t h = mk_f32_to_bf16(kd_float());

            memcpy(in + 2 * i, &h, 2);
            codes[i] = (uint8_t)kd_u32();
            if ((codes[i] & 0x7F) == 0x7F)
                codes[i]--;
        }
        twin.widen_bf16(a, in, n);
        level.widen_bf16(b, in, n);
        CHECK(same(a, b, n));
        twin.widen_e4m3(a, codes, 0.25f, n);
        level.widen_e4m3(b, codes, 0.25f, n);
        CHECK(same(a, b, n));
        codes[n - 1] = 0xFF;
        level.widen_e4m3(b, codes, 0.25f, n);
        CHECK(b[n - 1] != b[n - 1]);
    }
}

TEST(dots_match_their_twin_bit_for_bit)
{
    for (size_t n_vec = 1; n_vec <= 5; n_vec++)
        for (size_t n_keys = 1; n_keys <= 64; n_keys += n_keys < 19 ? 1 : 9) {
            const size_t dim = 150, ldk = 153, lds = 16 * n_vec + 3, ldq = dim * 16;
            float *q = kd_floats(n_vec * ldq, 1.0f), *keys = kd_floats(n_keys * ldk, 1.0f);
            float *a = kd_floats(n_keys * lds, 1.0f), *b = kd_guarded(n_keys * lds * 4);

            memcpy(b, a, n_keys * lds * 4);
            for (int first = 1; first >= 0; first--) {
                twin.attend_dots(a, lds, q, ldq, n_vec, keys, ldk, n_keys, dim, first);
                level.attend_dots(b, lds, q, ldq, n_vec, keys, ldk, n_keys, dim, first);
                CHECK(same(a, b, n_keys * lds));
            }
            /* A key alone and among many: the same bits. */
            level.attend_dots(b, lds, q, ldq, n_vec, keys + (n_keys - 1) * ldk, ldk, 1, dim, 1);
            level.attend_dots(b, lds, q, ldq, n_vec, keys + (n_keys - 1) * ldk, ldk, 1, dim, 0);
            for (size_t i = 0; i < 16 * n_vec; i++)
                CHECK(b[i] == a[(n_keys - 1) * lds + i]);
        }
}

TEST(the_running_softmax_matches_its_twin)
{
    for (size_t n_vec = 1; n_vec <= 3; n_vec++)
        for (size_t n_keys = 1; n_keys <= 20; n_keys += 3) {
            const size_t lds = 16 * n_vec + 2, n = 16 * n_vec;
            float *max[2], *sum[2], *shrink[2], *s[2];

            for (int l = 0; l < 2; l++) {
                max[l] = kd_floats(n, 0.0f);
                sum[l] = kd_floats(n, 0.0f);
                shrink[l] = kd_floats(n, 0.0f);
                s[l] = kd_floats(n_keys * lds, 0.0f);
                for (size_t i = 0; i < n; i++)
                    max[l][i] = -INFINITY;
            }
            for (int round = 0; round < 3; round++) {
                for (size_t i = 0; i < n_keys * lds; i++)
                    s[0][i] = kd_u32() % 8 == 0 ? -INFINITY : 20.0f * kd_float();
                /* Lane 3 has seen nothing until the last round. */
                for (size_t t = 0; round < 2 && t < n_keys; t++)
                    s[0][t * lds + 3] = -INFINITY;
                memcpy(s[1], s[0], n_keys * lds * 4);
                twin.attend_soften(s[0], lds, n_vec, n_keys, 0.3f, max[0], sum[0], shrink[0]);
                level.attend_soften(s[1], lds, n_vec, n_keys, 0.3f, max[1], sum[1], shrink[1]);
                for (size_t i = 0; i < n; i++) {
                    CHECK(max[0][i] == max[1][i]);
                    CHECK(fabsf(sum[0][i] - sum[1][i]) <= 3e-6f * sum[0][i]);
                    CHECK(fabsf(shrink[0][i] - shrink[1][i]) <= 1e-6f);
                    for (size_t t = 0; t < n_keys; t++)
                        CHECK(fabsf(s[0][t * lds + i] - s[1][t * lds + i]) <= 1e-6f);
                }
                if (round < 2)
                    CHECK(sum[1][3] == 0.0f && s[1][3] == 0.0f && max[1][3] == -INFINITY);
            }
        }
}

TEST(weighted_sums_match_their_twin_bit_for_bit)
{
    static const size_t dims[] = {1, 16, 20, 64, 100, 128, 150};

    for (size_t n_heads = 1; n_heads <= 20; n_heads++)
        for (size_t j = 0; j < sizeof(dims) / sizeof(dims[0]); j++) {
            const size_t dim = dims[j], n_keys = 9, lda = dim + 1, ldv = dim + 3, ldp = n_heads;
            float *p = kd_floats(n_keys * ldp, 1.0f), *values = kd_floats(n_keys * ldv, 1.0f);
            float *a = kd_floats(n_heads * lda, 1.0f), *b = kd_guarded(n_heads * lda * 4);
            float *shrink = kd_floats(n_heads, 1.0f);

            memcpy(b, a, n_heads * lda * 4);
            twin.attend_values(a, lda, p, ldp, shrink, n_heads, values, ldv, n_keys, dim);
            level.attend_values(b, lda, p, ldp, shrink, n_heads, values, ldv, n_keys, dim);
            CHECK(same(a, b, n_heads * lda));
        }
}

/* ---- 16-bit integers ---------------------------------------------------- */

/* Rows with outliers, of nothing, and with numbers that are none. */
static float *rounding_rows(size_t n, size_t ldx, size_t dim)
{
    float *x = kd_floats(n * ldx, 1.0f);

    for (size_t t = 0; t < n; t++)
        switch (t % 9) {
        case 2: x[t * ldx + kd_u32() % dim] = 300.0f; break;
        case 3: memset(x + t * ldx, 0, dim * sizeof(*x)); break;
        case 5: x[t * ldx + kd_u32() % dim] = NAN; break;
        case 6: x[t * ldx + kd_u32() % dim] = -INFINITY; break;
        case 7: for (size_t d = 0; d < dim; d++) x[t * ldx + d] *= 1e-17f; break;
        default: break;
        }
    return x;
}

TEST(rounding_to_16_bits_matches_its_twin_bit_for_bit)
{
    static const size_t dims[] = {1, 7, 16, 17, 31, 32, 33, 40, 64, 100, 576};

    for (size_t j = 0; j < sizeof(dims) / sizeof(dims[0]); j++)
        for (size_t n = 1; n <= 12; n += n < 4 ? 1 : 4) {
            const size_t dim = dims[j], ldx = dim + 1, words = (dim + 31) / 32 * 16;
            const size_t ldo = words + 3, n_pairs = dim - dim / 5, wide = (n_pairs + 15) / 16 * 16;
            const size_t ldp = wide + 1, out_size = ((n - 1) * ldo + words) * 4;
            const size_t pair_size = ((n - 1) / 2 * ldp + wide) * 4;
            float *x = rounding_rows(n, ldx, dim), *steps[2];
            uint32_t *out[2], *pairs[2];

            for (int l = 0; l < 2; l++) {
                const struct mk_kernels *k = l ? &level : &twin;

                steps[l] = kd_floats(n, 0.0f);
                out[l] = kd_guarded(out_size);
                pairs[l] = kd_guarded(pair_size);
                memset(out[l], 0, out_size);
                k->round16(out[l], ldo, steps[l], pairs[l], ldp, n_pairs, x, ldx, n, dim);
            }
            for (size_t t = 0; t < n; t++) {
                const int bad = t % 9 == 5 || t % 9 == 6;

                CHECK(bad ? steps[0][t] != steps[0][t] && steps[1][t] != steps[1][t]
                          : memcmp(&steps[0][t], &steps[1][t], 4) == 0);
                CHECK(t % 9 != 3 || steps[0][t] == 0.0f);
            }
            CHECK(memcmp(out[0], out[1], out_size) == 0);
            CHECK(memcmp(pairs[0], pairs[1], pair_size) == 0);
            for (int l = 0; l < 2; l++) {
                const struct mk_kernels *k = l ? &level : &twin;

                memset(out[1], 0, out_size);
                memset(pairs[1], 0, pair_size);
                k->round16(out[1], ldo, steps[1], NULL, 0, 0, x, ldx, n, dim);
                k->round16(NULL, 0, steps[1], pairs[1], ldp, n_pairs, x, ldx, n, dim);
                CHECK(memcmp(out[0], out[1], out_size) == 0);
                CHECK(memcmp(pairs[0], pairs[1], pair_size) == 0);
            }
        }
}

/* Number d of a rounded row. */
static int32_t rounded_at(const uint32_t *row, size_t d)
{
    return (int16_t)(row[d / 2] >> (d % 2 == 0 ? 0 : 16));
}

TEST(rounded_rows_are_within_half_a_step_and_their_products_fit)
{
    const size_t dim = 576, n = 8;
    float *x = rounding_rows(n, dim, dim), *steps = kd_floats(n, 0.0f);
    uint32_t *out = kd_guarded(n * 288 * 4);

    level.round16(out, 288, steps, NULL, 0, 0, x, dim, n, dim);
    for (size_t t = 0; t < 5; t++) {
        double norm = 0.0;

        for (size_t d = 0; d < dim; d++) {
            const int32_t q = rounded_at(out + t * 288, d);

            CHECK(fabs((double)x[t * dim + d] - (double)steps[t] * q)
                  <= 0.5001 * (double)steps[t]);
            norm += (double)q * q;
        }
        CHECK(norm < 0x1p31);
        CHECK(t == 3 || norm > 1e9);
    }
}

TEST(dots_of_16_bits_match_their_twin_bit_for_bit)
{
    for (size_t n_vec = 1; n_vec <= 7; n_vec++)
        for (size_t n_keys = 1; n_keys <= 64; n_keys += n_keys < 19 ? 1 : 9) {
            const size_t words = 80, ldk = 83, lds = 16 * n_vec + 3, ldq = words * 16;
            uint32_t *q = kd_guarded(n_vec * ldq * 4), *keys = kd_guarded(n_keys * ldk * 4);
            float *q_step = kd_floats(16 * n_vec, 1.0f), *key_step = kd_floats(n_keys, 1.0f);
            float *a = kd_floats(n_keys * lds, 1.0f), *b = kd_guarded(n_keys * lds * 4);

            /* Numbers of 13 bits: 160 products stay below 2^31. */
            for (size_t i = 0; i < n_vec * ldq; i++)
                q[i] = (kd_u32() % 7000 - 3500) << 16 | ((kd_u32() % 7000 - 3500) & 0xFFFF);
            for (size_t i = 0; i < n_keys * ldk; i++)
                keys[i] = (kd_u32() % 7000 - 3500) << 16 | ((kd_u32() % 7000 - 3500) & 0xFFFF);
            memcpy(b, a, n_keys * lds * 4);
            twin.attend_dots16(a, lds, q, ldq, q_step, n_vec, keys, ldk, key_step, n_keys, words);
            level.attend_dots16(b, lds, q, ldq, q_step, n_vec, keys, ldk, key_step, n_keys,
                                words);
            CHECK(same(a, b, n_keys * lds));
        }
}

TEST(weights_of_16_bits_match_their_twin_bit_for_bit)
{
    for (size_t n_vec = 1; n_vec <= 3; n_vec++)
        for (size_t n_keys = 1; n_keys <= MK_ATTEND16_KEYS; n_keys += n_keys < 9 ? 1 : 17) {
            const size_t lds = 16 * n_vec + 2, n = n_keys * lds;
            float *a = kd_floats(n, 1.0f), *b = kd_floats(n, 0.0f);
            float *step = kd_floats(n_keys, 1.0f), *back[2];

            for (size_t t = 0; t < n_keys; t++)
                step[t] = fabsf(step[t]);
            /* Lane 1 lies on one key, lane 2 has nothing, lane 3 nearly so, lane 4 no numbers. */
            for (size_t i = 0; i < n; i++) {
                a[i] = fabsf(a[i]);
                a[i] *= i % lds == 1 && i / lds > 0 ? 1e-6f : i % lds == 2 ? 0.0f
                      : i % lds == 3 ? 1e-34f : i % lds == 4 ? NAN : 1.0f;
            }
            memcpy(b, a, n * sizeof(*b));
            for (int l = 0; l < 2; l++)
                back[l] = kd_floats(16 * n_vec, 0.0f);
            twin.attend_weights16(a, lds, n_vec, back[0], step, n_keys);
            level.attend_weights16(b, lds, n_vec, back[1], step, n_keys);
            for (size_t t = 0; t < (n_keys + 1) / 2; t++)
                CHECK(same(a + t * lds, b + t * lds, 16 * n_vec));
            for (size_t i = 0; i < 16 * n_vec; i++)
                CHECK(i == 4 ? back[1][i] != back[1][i] : back[0][i] == back[1][i]);
            CHECK(back[1][2] == 0.0f && back[1][3] == 0.0f);
        }
}

TEST(weighted_sums_of_16_bits_match_their_twin_bit_for_bit)
{
    static const size_t dims[] = {1, 16, 20, 64, 100, 128, 150};

    for (size_t n_heads = 1; n_heads <= 20; n_heads++)
        for (size_t j = 0; j < sizeof(dims) / sizeof(dims[0]); j++) {
            const size_t dim = dims[j], n_pairs = 7, lda = dim + 1, ldv = dim + 3, ldp = n_heads;
            uint32_t *p = kd_guarded(n_pairs * ldp * 4), *values = kd_guarded(n_pairs * ldv * 4);
            float *a = kd_floats(n_heads * lda, 1.0f), *b = kd_guarded(n_heads * lda * 4);
            float *shrink = kd_floats(n_heads, 1.0f), *back = kd_floats(n_heads, 1e-4f);

            for (size_t i = 0; i < n_pairs * ldp; i++)
                p[i] = kd_u32() % 4000 << 16 | kd_u32() % 4000;
            for (size_t i = 0; i < n_pairs * ldv; i++)
                values[i] = kd_u32();
            memcpy(b, a, n_heads * lda * 4);
            twin.attend_values16(a, lda, p, ldp, back, shrink, n_heads, values, ldv, n_pairs,
                                 dim);
            level.attend_values16(b, lda, p, ldp, back, shrink, n_heads, values, ldv, n_pairs,
                                  dim);
            CHECK(same(a, b, n_heads * lda));
        }
}

TEST(index_scores_match_their_twins_bit_for_bit)
{
    for (size_t n_vec = 1; n_vec <= 7; n_vec++)
        for (size_t n_keys = 1; n_keys <= 13; n_keys += 2) {
            const size_t words = 9, n = 16 * n_vec, lds = n + 5;
            struct mk_index_query q = {.n_vec = n_vec, .words = words};
            uint8_t *keys = kd_guarded(n_keys * words * 4);
            float *scale = kd_floats(n_keys, 1.0f), *s = kd_floats(n_keys * lds, 1.0f);
            float *a = kd_floats(n_keys, 0.0f), *b = kd_floats(n_keys, 0.0f);

            q.q8 = kd_guarded(n * words * 4);
            q.start = kd_guarded(n * 4);
            q.w8 = kd_floats(n, 1.0f);
            memset(q.start, 0, n * 4);
            for (size_t i = 0; i < n * words * 4; i++) {
                q.q8[i] = (int8_t)((int)(kd_u32() % 255) - 127);
                q.start[i / (words * 64) * 16 + i % 64 / 4] -= 128 * q.q8[i];
            }
            for (size_t i = 0; i < n_keys * words * 4; i++)
                keys[i] = (uint8_t)(kd_u32() % 255 + 1);
            twin.index_scores(a, &q, keys, scale, n_keys);
            level.index_scores(b, &q, keys, scale, n_keys);
            CHECK(same(a, b, n_keys));
            twin.index_sum(a, s, lds, q.w8, n_vec, n_keys);
            level.index_sum(b, s, lds, q.w8, n_vec, n_keys);
            CHECK(same(a, b, n_keys));
        }
}

struct ranked {
    float score;
    int32_t at;
};

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    return x->score != y->score ? (x->score < y->score) - (x->score > y->score)
                                : x->at - y->at;
}

static int by_index(const void *a, const void *b)
{
    return *(const int32_t *)a - *(const int32_t *)b;
}

/* kept as sorting finds it: larger scores first, among equals the lower index. */
static size_t sorted_choice(int32_t *kept, const float *scores, size_t n, size_t n_keep)
{
    struct ranked *all = malloc(n * sizeof(*all));

    for (size_t i = 0; i < n; i++)
        all[i] = (struct ranked){scores[i], (int32_t)i};
    qsort(all, n, sizeof(*all), by_rank);
    n_keep = n_keep < n ? n_keep : n;
    for (size_t i = 0; i < n_keep; i++)
        kept[i] = all[i].at;
    qsort(kept, n_keep, sizeof(*kept), by_index);
    free(all);
    return n_keep;
}

TEST(the_best_are_those_that_sorting_finds)
{
    static const size_t ns[] = {1, 2, 15, 16, 17, 100, 2049, 8191, 8192, 8193, 30000, 70001};
    static const size_t ks[] = {1, 2, 16, 64, 2048};

    for (size_t i = 0; i < sizeof(ns) / sizeof(ns[0]); i++)
        for (size_t j = 0; j < sizeof(ks) / sizeof(ks[0]); j++)
            for (int kind = 0; kind < 6; kind++) {
                const size_t n = ns[i], k = ks[j];
                float *scores = kd_floats(n, 1.0f);
                int32_t *a = malloc((n + k) * 4), *b = malloc((n + k) * 4);
                int32_t *scratch = malloc(2 * (n + 32) * 4);

                for (size_t t = 0; t < n; t++)
                    switch (kind) {
                    case 1: scores[t] = (float)(kd_u32() % 5); break;
                    case 2: scores[t] = 3.0f; break;
                    case 3: scores[t] = kd_u32() % 2 ? 0.0f : -0.0f; break;
                    /* The sample sees large numbers only: its guess is far too high. */
                    case 4: scores[t] = t % (n / 2048 + 1) == 0 ? 2.0f : scores[t]; break;
                    case 5: scores[t] = t < 5 ? INFINITY : -INFINITY; break;
                    default: break;
                    }
                const size_t n_a = mk_dsa_select(&level, a, scores, n, k, scratch);
                const size_t n_b = sorted_choice(b, scores, n, k);
                CHECK_INT(n_a, n_b);
                CHECK(n_a == n_b && memcmp(a, b, n_a * 4) == 0);
                free(a);
                free(b);
                free(scratch);
            }
}

TEST(a_score_that_is_no_number_is_not_selected)
{
    float scores[40];
    int32_t kept[8], scratch[2 * 72];

    for (int i = 0; i < 40; i++)
        scores[i] = i % 10 == 0 ? NAN : (float)-i;
    CHECK_INT(mk_dsa_select(&level, kept, scores, 40, 8, scratch), 8);
    for (int i = 0; i < 8; i++)
        CHECK_INT(kept[i], i + 1);
    for (int i = 0; i < 37; i++)
        scores[i] = NAN;
    CHECK_INT(mk_dsa_select(&level, kept, scores, 40, 8, scratch), 3);
}

static void run_level(uint32_t features)
{
    printf("level %s\n", features == 0 ? "plain C" : mk_cpu_name(features));
    mk_kernels_init(&twin, 0);
    mk_kernels_init(&level, features);
    RUN(widening_matches_its_twin_bit_for_bit);
    RUN(dots_match_their_twin_bit_for_bit);
    RUN(the_running_softmax_matches_its_twin);
    RUN(weighted_sums_match_their_twin_bit_for_bit);
    RUN(rounding_to_16_bits_matches_its_twin_bit_for_bit);
    RUN(rounded_rows_are_within_half_a_step_and_their_products_fit);
    RUN(dots_of_16_bits_match_their_twin_bit_for_bit);
    RUN(weights_of_16_bits_match_their_twin_bit_for_bit);
    RUN(weighted_sums_of_16_bits_match_their_twin_bit_for_bit);
    RUN(index_scores_match_their_twins_bit_for_bit);
    RUN(the_best_are_those_that_sorting_finds);
    RUN(a_score_that_is_no_number_is_not_selected);
}

static void run_levels(void)
{
    static const uint32_t levels[] = {
        0, MK_CPU_NEON, MK_CPU_AVX2, MK_CPU_AVX2 | MK_CPU_AVX512 | MK_CPU_VNNI,
    };
    const uint32_t have = mk_cpu_features();

    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
        if ((levels[i] & have) == levels[i])
            run_level(levels[i]);
}

TEST_MAIN(run_levels())
