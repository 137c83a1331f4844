/* Times products against what the machine can do at best: an integer dot product loop that
 * touches registers only, the same of FP32, and reading memory.  Every figure is paired with a
 * peak measured right before it; float types a second time with activations of 16 bits, of the
 * same FP32 peak, and all by oneDNN in a build with it.
 * Usage: bench_kernels [threads] [megabytes] [type...] */
#include "kernel_data.h"

#include <time.h>

#include "base/cpu.h"
#include "base/env.h"
#include "base/pool.h"
#include "kernels/onednn.h"
#include "kernels/packed.h"
#include "peaks.h"

static double bench_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int bench_double_order(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

struct bench_peak {
    int kind;
    const uint8_t *data;
    size_t size;
    volatile int64_t sink;
};

static void bench_peak_job(void *arg, size_t begin, size_t end, uint32_t w)
{
    struct bench_peak *p = arg;

    (void)w;
    for (size_t i = begin; i < end; i++) {
        if (p->kind == 0)
            p->sink += peak_int8(2000000);
        else if (p->kind == 1)
            p->sink += peak_float(2000000);
        else
            p->sink += peak_read(p->data + i * p->size, p->size);
    }
}

/* Best of three: operations or bytes a second of all threads. */
static double bench_peak_run(struct mk_ops *ops, int kind, const uint8_t *data, size_t size)
{
    const uint32_t n = ops->team.n;
    struct bench_peak p = {kind, data, size / n / 4096 * 4096, 0};
    double best = 0.0;

    for (int i = 0; i < 3; i++) {
        const double start = bench_now();

        mk_team_run(&ops->team, bench_peak_job, &p, n, 1);
        const double rate = (kind == 0 ? 2e6 * PEAK_INT8_OPS : kind == 1 ? 2e6 * PEAK_FLOAT_OPS
                             : (double)p.size) * n / (bench_now() - start);
        best = rate > best ? rate : best;
    }
    return best;
}

/* Many matrices of 2048 x 2048, more than the caches hold. */
static void bench_type(struct mk_ops *ops, enum mk_type type, size_t megabytes)
{
    const size_t n_in = 2048, n_out = 2048, max_rows = 512;
    const size_t bytes = mk_mat_packed_bytes(type, n_out, n_in);
    const size_t n = (megabytes << 20) / bytes + 1;
    const size_t size = n * bytes;
    uint8_t *data = mmap(NULL, size + (2 << 20), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct mk_mat rows, packed, *w = calloc(n, sizeof(*w));
    float *x = calloc(max_rows * n_in, sizeof(*x)), *y = calloc(max_rows * n_out, sizeof(*y));
    static const size_t row_counts[] = {1, 2, 4, 8, 16, 48, 512};
    const int integer = mk_pack_info(type)->kind != MK_PANEL_NONE;

    data += (2 << 20) - (uintptr_t)data % (2 << 20);
    madvise(data, size, MADV_HUGEPAGE);
    kd_matrix(&rows, &packed, type, n_out, n_in, ops->k);
    for (size_t i = 0; i < n; i++) {
        memcpy(data + i * bytes, packed.data, bytes);
        w[i] = packed;
        w[i].data = data + i * bytes;
    }
    for (size_t i = 0; i < max_rows * n_in; i++)
        x[i] = kd_float();
    printf("%s%-*s", mk_type_info(type)->name, 10 - (int)strlen(mk_type_info(type)->name),
           ops->onednn != NULL ? "/bf16" : ops->round16 ? "/16" : "");
    for (size_t j = 0; j < sizeof(row_counts) / sizeof(row_counts[0]); j++) {
        const size_t n_rows = row_counts[j];
        const size_t n_calls = n_rows < 48 ? n : n_rows == 48 ? 32 : 4;
        double fraction[5], rate[5];

        for (int r = 0; r < 5; r++) {
            const double peak = bench_peak_run(ops, n_rows < 8 ? 2 : integer ? 0 : 1, data, size);
            const double start = bench_now();

            for (size_t i = 0; i < n_calls; i++)
                mk_matmul(ops, y, n_out, &w[i % n], x, n_in, n_rows);
            const double seconds = bench_now() - start;
            rate[r] = n_rows < 8 ? (double)bytes * (double)n_calls / seconds
                    : 2.0 * (double)(n_in * n_out * n_rows * n_calls) / seconds;
            fraction[r] = rate[r] / peak;
        }
        qsort(fraction, 5, sizeof(double), bench_double_order);
        qsort(rate, 5, sizeof(double), bench_double_order);
        printf("  %zu: %.1f %s %.2f", n_rows, rate[2] * 1e-9, n_rows < 8 ? "GB/s" : "GOP/s",
               fraction[2]);
        fflush(stdout);
    }
    printf("\n");
    munmap(data, size);
    free(w);
    free(x);
    free(y);
}

int main(int argc, char **argv)
{
    const struct mk_allocator a = {NULL, NULL, NULL};
    const uint32_t n_threads = argc > 1 ? (uint32_t)atoi(argv[1]) : mk_cpu_threads();
    const size_t megabytes = argc > 2 ? (size_t)atoi(argv[2]) : 1024;
    struct mk_kernels k;
    struct mk_ops ops = {.k = &k};
    struct mk_pool *pool;
    struct mk_onednn *onednn = NULL;

    /* The loops that find the peaks have no other form. */
    if ((mk_cpu_features() & (MK_CPU_AVX512 | MK_CPU_VNNI)) != (MK_CPU_AVX512 | MK_CPU_VNNI)) {
        fprintf(stderr, "AVX-512 with VNNI is needed\n");
        return 77;
    }
    mk_kernels_init(&k, mk_cpu_features());
    if (mk_onednn_open(&onednn, &a, k.features, 1) != MINKE_OK)
        return 1;
    if (mk_pool_open(&pool, &a, n_threads, NULL, NULL) != MINKE_OK)
        return 1;
    mk_team_begin(&ops.team, pool);
    ops.scratch_bytes = mk_matmul_scratch(512, 2048, n_threads);
    ops.scratch = malloc(ops.scratch_bytes);
    printf("%u threads, int8 %.0f GOP/s, fp32 %.0f GFLOP/s\n", ops.team.n,
           bench_peak_run(&ops, 0, NULL, 0) * 1e-9, bench_peak_run(&ops, 1, NULL, 0) * 1e-9);
    for (int type = 0; type < MK_N_TYPES; type++) {
        int wanted = argc <= 3;

        for (int i = 3; i < argc; i++)
            wanted |= mk_type_info(type)->name && strcmp(argv[i], mk_type_info(type)->name) == 0;
        for (ops.round16 = 0; ops.round16 <= (k.expand16[type] != NULL); ops.round16++)
            if (wanted && mk_pack_info(type)->unit != 0)
                bench_type(&ops, (enum mk_type)type, megabytes);
        ops.onednn = onednn;
        if (wanted && mk_pack_info(type)->unit != 0 && onednn != NULL)
            bench_type(&ops, (enum mk_type)type, megabytes);
        ops.onednn = NULL;
    }
    mk_team_end(&ops.team);
    mk_pool_free(pool);
    mk_onednn_free(onednn);
    return 0;
}
