/* Products by oneDNN, forced wherever it runs: built with -Donednn=enabled alone.  Its sums run
 * in an order of its own, so that one and two threads need not give the same bits. */
#include "ops.h"

#include <dirent.h>
#include <math.h>

#include "base/cpu.h"
#include "kernels/onednn.h"
#include "kernels/packed.h"

extern int omp_get_max_threads(void);
extern void omp_set_num_threads(int n);

static int types[MK_N_TYPES];
static size_t n_types;

static const struct mk_allocator heap = {NULL, NULL, NULL};
static struct mk_kernels level;
static struct mk_onednn *onednn;

static struct mk_ops open_ops(uint32_t n_threads, size_t n_rows, size_t n_in)
{
    struct mk_ops ops = ops_open(&level, n_threads, n_rows, n_in);

    ops.onednn = onednn;
    return ops;
}

/* Both rounded to bf16, 2^-8 of each at most, and sums in f32. */
static double worst_of(int type, size_t n_rows, size_t n_out, size_t n_in, uint32_t n_threads)
{
    struct mk_ops ops = open_ops(n_threads, n_rows, n_in);
    const size_t ldx = n_in + 3, ldy = n_out + 5;
    float *x = kd_floats(n_rows * ldx, 1.0f), *y = kd_floats(n_rows * ldy, 0.0f);
    float *w = kd_floats(n_in, 0.0f), *want = kd_floats(n_rows * ldy, 0.0f);
    struct mk_mat rows, packed;
    double worst = 0.0;

    kd_matrix(&rows, &packed, type, n_out, n_in, &level);
    memcpy(want, y, n_rows * ldy * sizeof(*y));
    CHECK(mk_onednn_takes(onednn, &packed, n_rows));
    mk_matmul(&ops, y, ldy, &packed, x, ldx, n_rows);
    for (size_t r = 0; r < n_out; r++) {
        mk_mat_row(w, &rows, r);
        for (size_t t = 0; t < n_rows; t++) {
            double sum = 0.0, size = 0.0;

            for (size_t k = 0; k < n_in; k++) {
                const double v = (double)w[k] * (double)x[t * ldx + k];

                sum += v;
                size += fabs(v);
            }
            worst = fmax(worst, size > 0.0 ? fabs(sum - (double)y[t * ldy + r]) / size : 0.0);
        }
    }
    /* Nothing is written between rows. */
    for (size_t t = 0; t < n_rows; t++)
        CHECK(memcmp(y + t * ldy + n_out, want + t * ldy + n_out, 5 * sizeof(*y)) == 0);
    ops_close(&ops);
    return worst;
}

TEST(products_of_every_type_and_of_odd_shapes_are_near_double_sums)
{
    static const size_t float_sizes[] = {1, 31, 205, 1024, 1157};
    static const size_t counts[] = {32, 33, 127, 130, 529};

    for (size_t i = 0; i < n_types; i++) {
        const size_t block = mk_type_info(types[i])->block_len;
        double worst = 0.0;

        for (size_t j = 0; j < 5; j++) {
            const size_t n_in = block == 256 ? 256 * (2 * j + 1) : block == 32 ? 32 + 544 * j
                              : float_sizes[j];

            worst = fmax(worst, worst_of(types[i], counts[j], 45 + 61 * (j % 3), n_in,
                                         1 + j % 2));
        }
        printf("%s: off by %.1e of the sum of magnitudes at most\n",
               mk_type_info(types[i])->name, worst);
        CHECK(worst <= 0x1.02p-7);
        CHECK(worst >= 1e-6);    /* it was oneDNN */
    }
}

TEST(few_rows_and_what_decides_keep_their_own_bits)
{
    enum { M = 40, N_OUT = 75, N_IN = 512 };

    for (size_t i = 0; i < n_types; i++) {
        struct mk_ops ops = open_ops(2, M, N_IN), own = ops;
        float *x = kd_floats(M * N_IN, 1.0f), *y = kd_floats(M * N_OUT, 0.0f);
        float *want = kd_floats(M * N_OUT, 0.0f);
        struct mk_mat rows, packed;

        own.onednn = NULL;
        kd_matrix(&rows, &packed, types[i], N_OUT, N_IN, &level);
        mk_matmul(&own, want, N_OUT, &packed, x, N_IN, M);
        mk_matmul(&ops, y, N_OUT, &packed, x, N_IN, 1);
        CHECK(memcmp(y, want, N_OUT * sizeof(*y)) == 0);
        mk_matmul(&ops, y, N_OUT, &packed, x, N_IN, 31);
        CHECK(memcmp(y, want, 31 * N_OUT * sizeof(*y)) == 0);
        mk_matmul(&ops, y, N_OUT, &packed, x, N_IN, M);
        CHECK(memcmp(y, want, M * N_OUT * sizeof(*y)) != 0);
        packed.exact = 1;
        mk_matmul(&ops, y, N_OUT, &packed, x, N_IN, M);
        CHECK(memcmp(y, want, M * N_OUT * sizeof(*y)) == 0);
        ops_close(&ops);
    }
}

/* Several at once, of the same activations and of others, as experts are. */
TEST(products_in_one_job_match_products_alone)
{
    enum { N = 9, M = 50, N_IN = 256 };
    struct mk_ops ops = open_ops(1, M * 8, N_IN);
    struct mk_mat rows[N], packed[N];
    struct mk_product p[N];
    float *x = kd_floats(M * N_IN * 2, 1.0f), *y = kd_floats(N * M * 64, 0.0f);
    float *z = kd_floats(M * 64, 0.0f);

    for (size_t i = 0; i < N; i++) {
        kd_matrix(&rows[i], &packed[i], types[i], 50, N_IN, &level);
        p[i] = (struct mk_product){y + i * M * 64, 64, &packed[i], x + i % 2 * M * N_IN, N_IN,
                                   i % 3 == 2 ? 7 : M - i};
    }
    mk_matmul_many(&ops, p, N);
    for (size_t i = 0; i < N; i++) {
        memset(z, 0, M * 64 * sizeof(*z));
        mk_matmul(&ops, z, 64, p[i].w, p[i].x, p[i].ldx, p[i].n_rows);
        CHECK(memcmp(z, p[i].y, M * 64 * sizeof(*z)) == 0);
    }
    ops_close(&ops);
}

TEST(numbers_that_are_not_finite_stay_so)
{
    enum { M = 32, N_OUT = 17, N_IN = 96 };
    struct mk_ops ops = open_ops(1, M, N_IN);
    float *x = kd_floats(M * N_IN, 1.0f), *y = kd_floats(M * N_OUT, 0.0f);
    struct mk_mat rows, packed;

    kd_matrix(&rows, &packed, MK_Q8_0, N_OUT, N_IN, &level);
    memset(x + 3 * N_IN + 5, 0xFF, sizeof(*x));    /* a NaN that rounding could carry over */
    mk_matmul(&ops, y, N_OUT, &packed, x, N_IN, M);
    for (size_t t = 0; t < M; t++)
        CHECK(isnan(y[t * N_OUT]) == (t == 3));
    ops_close(&ops);
}

static int count_threads(void)
{
    DIR *dir = opendir("/proc/self/task");
    int n = 0;

    if (dir == NULL)
        return -1;
    for (const struct dirent *e; (e = readdir(dir)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

TEST(no_thread_is_added_and_settings_of_openmp_stay)
{
    omp_set_num_threads(3);
    const int before = count_threads();

    CHECK(worst_of(MK_BF16, 64, 300, 1500, 1) <= 0x1.02p-7);
    CHECK_INT(count_threads(), before);
    CHECK_INT(omp_get_max_threads(), 3);
    mk_onednn_free(onednn);
    CHECK_INT(mk_onednn_open(&onednn, &heap, level.features, 1), MINKE_OK);
    CHECK(onednn != NULL);
    CHECK_INT(count_threads(), before);
    CHECK_INT(omp_get_max_threads(), 3);
}

TEST(it_is_not_chosen_where_it_does_not_win)
{
    struct mk_onednn *d = onednn;
    struct mk_mat rows, packed;

    CHECK_INT(mk_onednn_open(&d, &heap, level.features & ~MK_CPU_AMX_BF16, 0), MINKE_OK);
    CHECK(d == NULL);
    kd_matrix(&rows, &packed, MK_BF16, 32, 256, &level);
    CHECK(mk_onednn_takes(onednn, &packed, 512));
    CHECK(!mk_onednn_takes(onednn, &packed, 31));
    CHECK(!mk_onednn_takes(onednn, &rows, 512));
}

static void run(void)
{
    n_types = kd_packed_types(types);
    mk_kernels_init(&level, mk_cpu_features());
    if (mk_onednn_open(&onednn, &heap, level.features, 1) != MINKE_OK || onednn == NULL) {
        printf("oneDNN has no BF16 matmul for this processor\n");
        exit(77);
    }
    RUN(products_of_every_type_and_of_odd_shapes_are_near_double_sums);
    RUN(few_rows_and_what_decides_keep_their_own_bits);
    RUN(products_in_one_job_match_products_alone);
    RUN(numbers_that_are_not_finite_stay_so);
    RUN(no_thread_is_added_and_settings_of_openmp_stay);
    RUN(it_is_not_chosen_where_it_does_not_win);
    mk_onednn_free(onednn);
}

TEST_MAIN(run())
