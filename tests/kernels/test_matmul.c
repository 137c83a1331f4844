/* Products: the same bits however they are split, and the right numbers. */
#include "ops.h"

#include <math.h>

#include "base/cpu.h"
#include "kernels/kernels_math.h"
#include "kernels/packed.h"

static int types[MK_N_TYPES + 1];    /* all with a packed form, and one without */
static size_t n_types;

static struct mk_kernels level;

static size_t n_in_of(int type)
{
    return mk_type_info(type)->block_len == 256 ? 768
         : mk_type_info(type)->block_len == 32 ? 608 : 205;
}

static int is_float(int type)
{
    return mk_pack_info(type)->kind == MK_PANEL_NONE;
}

/* Rows alone, among many, by two threads, from the file's layout, and through scratch that
 * holds only a few rows. */
static void check_bits(int round16)
{
    enum { M = 14, N_OUT = 137 };

    for (size_t i = 0; i < n_types; i++) {
        if (round16 && !is_float(types[i]))
            continue;
        const size_t n_in = n_in_of(types[i]), ldx = n_in + 3, ldy = N_OUT + 2;
        struct mk_ops one = ops_open(&level, 1, M, n_in), two = ops_open(&level, 2, M, n_in);
        struct mk_ops small = ops_open(&level, 1, 3, n_in);
        struct mk_mat rows, packed;

        one.round16 = two.round16 = small.round16 = round16;
        float *x = kd_floats(M * ldx, 1.0f), *want = kd_floats(M * ldy, 0.0f);
        float *y = kd_floats(M * ldy, 0.0f);

        kd_matrix(&rows, &packed, types[i], N_OUT, n_in, &level);
        if (packed.data == NULL)
            packed = rows;
        mk_matmul(&one, want, ldy, &packed, x, ldx, M);
        mk_matmul(&two, y, ldy, &packed, x, ldx, M);
        CHECK(memcmp(y, want, M * ldy * sizeof(*y)) == 0);
        mk_matmul(&one, y, ldy, &rows, x, ldx, M);
        CHECK(memcmp(y, want, M * ldy * sizeof(*y)) == 0);
        memset(y, 0, M * ldy * sizeof(*y));
        mk_matmul(&small, y, ldy, &packed, x, ldx, M);
        CHECK(memcmp(y, want, M * ldy * sizeof(*y)) == 0);
        /* Four rows are the fewest that are rounded to 16 bits. */
        for (size_t t = 0, n = round16 ? 4 : 1; t + n <= M; t++) {
            memset(y, 0, n * ldy * sizeof(*y));
            mk_matmul(t % 2 ? &one : &two, y, ldy, &packed, x + t * ldx, ldx, n);
            for (size_t u = 0; u < n; u++)
                CHECK(memcmp(y + u * ldy, want + (t + u) * ldy, N_OUT * sizeof(*y)) == 0);
        }
        ops_close(&one);
        ops_close(&two);
        ops_close(&small);
    }
}

TEST(a_row_gives_the_same_bits_alone_and_among_many)
{
    check_bits(0);
}

TEST(a_rounded_row_gives_the_same_bits_among_few_and_many)
{
    check_bits(1);
}

/* Panels of several lengths, and all that a prompt's chunk holds. */
TEST(a_rounded_row_gives_the_same_bits_among_512)
{
    enum { M = 512, N_OUT = 75 };
    static const size_t sizes[] = {3, 128, 200, 389, 512};

    for (size_t i = 0; i < 4 * 5; i++) {
        const size_t n_in = sizes[i / 4];
        struct mk_ops one = ops_open(&level, 1, M, n_in), two = ops_open(&level, 2, M, n_in);
        struct mk_mat rows, packed;
        float *x = kd_floats(M * n_in, 1.0f), *want = kd_floats(M * N_OUT, 0.0f);
        float *y = kd_floats(M * N_OUT, 0.0f), *z = kd_floats(M * N_OUT, 0.0f);

        one.round16 = two.round16 = 1;
        kd_matrix(&rows, &packed, types[i % 4], N_OUT, n_in, &level);
        mk_matmul(&one, want, N_OUT, &packed, x, n_in, M);
        mk_matmul(&two, y, N_OUT, &packed, x, n_in, M);
        CHECK(memcmp(y, want, M * N_OUT * sizeof(*y)) == 0);
        for (size_t t = 0; t < M - 4; t += 73) {
            mk_matmul(&two, y, N_OUT, &packed, x + t * n_in, n_in, 4);
            CHECK(memcmp(y, want + t * N_OUT, 4 * N_OUT * sizeof(*y)) == 0);
        }
        /* What decides is never rounded, nor are few rows. */
        packed.exact = 1;
        mk_matmul(&two, y, N_OUT, &packed, x, n_in, M);
        two.round16 = 0;
        mk_matmul(&two, z, N_OUT, &packed, x, n_in, M);
        CHECK(memcmp(y, z, M * N_OUT * sizeof(*y)) == 0);
        packed.exact = 0;
        mk_matmul(&one, y, N_OUT, &packed, x, n_in, 3);
        CHECK(memcmp(y, z, 3 * N_OUT * sizeof(*y)) == 0);
        ops_close(&one);
        ops_close(&two);
    }
}

/* Rounded to 16 bits both, against double sums over what they were: an error of 1e-4 of the
 * panels' norms.  With rows whose weights and activations are of all sizes. */
TEST(rounded_products_are_near_double_sums)
{
    enum { M = 5, N_OUT = 45, N_IN = 389 };
    double worst = 0.0;

    for (size_t i = 0; i < 4; i++) {
        struct mk_ops ops = ops_open(&level, 2, M, N_IN);
        struct mk_mat rows, packed;
        float *x = kd_floats(M * N_IN, 1.0f), *y = kd_floats(M * N_OUT, 0.0f);
        float *w = kd_floats(N_IN, 0.0f);

        ops.round16 = 1;
        for (size_t k = 0; k < M * N_IN; k++)
            x[k] *= powf(10.0f, (float)(k / N_IN) * 3.0f - 6.0f) * (kd_u32() % 50 ? 1.0f : 20.0f);
        kd_matrix(&rows, &packed, types[i], N_OUT, N_IN, &level);
        mk_matmul(&ops, y, N_OUT, &packed, x, N_IN, M);
        for (size_t j = 0; j < M * N_OUT; j++) {
            const float *a = x + j / N_OUT * N_IN;
            double sum = 0.0, norms = 0.0, aa = 0.0, ww = 0.0;

            mk_mat_row(w, &rows, j % N_OUT);
            for (size_t k = 0; k < N_IN; k++) {
                sum += (double)w[k] * (double)a[k];
                aa += (double)a[k] * (double)a[k];
                ww += (double)w[k] * (double)w[k];
                if (k % MK_PANEL_FLOATS == MK_PANEL_FLOATS - 1 || k == N_IN - 1) {
                    norms += sqrt(aa * ww);
                    aa = ww = 0.0;
                }
            }
            worst = fmax(worst, fabs(sum - (double)y[j]) / norms);
        }
        ops_close(&ops);
    }
    printf("off by %.1e of the norms at most\n", worst);
    CHECK(worst <= 1e-4);
}

/* Against double sums over the decoded weights and the activations as rounded. */
TEST(products_match_double_sums)
{
    enum { M = 7, N_OUT = 45 };

    for (size_t i = 0; i < n_types; i++) {
        const size_t n_in = n_in_of(types[i]);
        struct mk_ops ops = ops_open(&level, 2, M, n_in);
        struct mk_mat rows, packed;
        float *x = kd_floats(M * n_in, 1.0f), *y = kd_floats(M * N_OUT, 0.0f);
        float *w = kd_floats(n_in, 0.0f);
        struct mk_act *a = kd_guarded(n_in / 32 * sizeof(*a) + 64);

        kd_matrix(&rows, &packed, types[i], N_OUT, n_in, &level);
        mk_matmul(&ops, y, N_OUT, packed.data ? &packed : &rows, x, n_in, M);
        for (size_t t = 0; t < M; t++) {
            const int rounded = !is_float(types[i]);

            if (rounded)
                level.quantize(a, x + t * n_in, n_in / 32);
            for (size_t r = 0; r < N_OUT; r++) {
                double sum = 0.0, size = 0.0;

                mk_mat_row(w, &rows, r);
                for (size_t k = 0; k < n_in; k++) {
                    const double v = rounded ? (double)a[k / 32].d * a[k / 32].q[k % 32]
                                             : (double)x[t * n_in + k];
                    sum += v * (double)w[k];
                    size += fabs(v * (double)w[k]);
                }
                CHECK(fabs(sum - (double)y[t * N_OUT + r]) <= 3e-6 * size);
            }
        }
        ops_close(&ops);
    }
}

/* Several products of different types and sizes in one job. */
TEST(many_products_match_one_by_one)
{
    enum { N = 300, MAX_IN = 768 };
    struct mk_ops ops = ops_open(&level, 2, 40, MAX_IN);
    struct mk_product p[N];
    float *x = kd_floats(16 * MAX_IN, 1.0f);
    struct mk_mat rows[MK_N_TYPES + 1], packed[MK_N_TYPES + 1];
    float *y = kd_floats(N * 8 * 64, 0.0f), *z = kd_floats(8 * 64, 0.0f);

    for (size_t i = 0; i < n_types; i++) {
        kd_matrix(&rows[i], &packed[i], types[i], 50, n_in_of(types[i]), &level);
        if (packed[i].data == NULL)
            packed[i] = rows[i];
    }
    for (size_t i = 0; i < N; i++) {
        const struct mk_mat *w = &packed[i / 2 % n_types];
        p[i] = (struct mk_product){y + i * 8 * 64, 64, w, x + i / 2 % 8 * w->n_in, w->n_in,
                                   i / 2 % 9};
    }
    mk_matmul_many(&ops, p, N);
    for (size_t i = 0; i < N; i++) {
        memset(z, 0, 8 * 64 * sizeof(*z));
        if (p[i].n_rows > 0)
            mk_matmul(&ops, z, 64, p[i].w, p[i].x, p[i].ldx, p[i].n_rows);
        CHECK(memcmp(z, p[i].y, 8 * 64 * sizeof(*z)) == 0);
    }
    ops_close(&ops);
}

/* Denormal numbers make products many times slower, so scales never become any: neither the
 * smallest that f16 has nor the smallest activations that are not rounded to zero. */
TEST(tiny_scales_make_no_denormal_numbers)
{
    enum { M = 4, N_OUT = 33 };
    static const float sizes[] = {0.5f * MK_ACT_TINY, 1.01f * MK_ACT_TINY, 1.0f};
    const uint16_t least = 1;    /* 2^-24 */

    for (size_t i = 0; i < n_types; i++) {
        const size_t n_in = n_in_of(types[i]);
        const struct mk_type_info *info = mk_type_info(types[i]);
        struct mk_ops ops = ops_open(&level, 1, M, n_in);
        struct mk_mat rows, packed;
        int at[2];

        if (mk_pack_info(types[i])->kind == MK_PANEL_NONE)
            continue;
        kd_matrix(&rows, &packed, types[i], N_OUT, n_in, &level);
        kd_scales(types[i], at);
        for (size_t b = 0; b < N_OUT * rows.row_bytes; b += info->block_bytes)
            for (int j = 0; j < 2; j++)
                if (at[j] >= 0)
                    memcpy((uint8_t *)(uintptr_t)rows.data + b + at[j], &least, 2);
        mk_mat_pack((void *)(uintptr_t)packed.data, &rows, rows.data, 0, N_OUT, &level);
        for (size_t z = 0; z < 3; z++) {
            float *x = kd_floats(M * n_in, sizes[z]), *y = kd_floats(M * N_OUT, 0.0f);

            for (size_t t = 0; t < M; t++)
                x[t * n_in] = sizes[z];   /* kd_floats stays below */
            mk_matmul(&ops, y, N_OUT, &packed, x, n_in, 1);
            mk_matmul(&ops, y, N_OUT, &packed, x, n_in, M);
            for (size_t j = 0; j < M * N_OUT; j++)
                CHECK(y[j] == 0.0f || fabsf(y[j]) >= 0x1p-126f);
            for (size_t b = 0; z == 0 && b < M * N_OUT; b++)
                CHECK(y[b] == 0.0f);
        }
        ops_close(&ops);
    }
}

static void run_level(uint32_t features)
{
    printf("level %s\n", features == 0 ? "plain C" : mk_cpu_name(features));
    mk_kernels_init(&level, features);
    RUN(a_row_gives_the_same_bits_alone_and_among_many);
    RUN(a_rounded_row_gives_the_same_bits_among_few_and_many);
    RUN(a_rounded_row_gives_the_same_bits_among_512);
    RUN(rounded_products_are_near_double_sums);
    RUN(products_match_double_sums);
    RUN(many_products_match_one_by_one);
    RUN(tiny_scales_make_no_denormal_numbers);
}

static void run_levels(void)
{
    const uint32_t have = mk_cpu_features();

    n_types = kd_packed_types(types);
    types[n_types++] = MK_Q4_1;
    run_level(0);
    if (have & MK_CPU_AVX2)
        run_level(have & MK_CPU_AVX2);
    if (have & MK_CPU_NEON)
        run_level(MK_CPU_NEON);
    if (have != 0)
        run_level(have);
}

TEST_MAIN(run_levels())
