/* Times attention and the indexer on one layer's real shape against the floating-point and the
 * integer peak measured right before.  The rows are random; best of several rounds.
 * Usage: bench_attend [threads] [tokens] for decoding, with [rows] for prefill,
 * rows 0 for where forms cross over.  A last argument "16" for 16-bit products. */
#include "layer.h"
#include "peaks.h"

static int bench_attend16;

static double bench_seconds(uint64_t start)
{
    return 1e-9 * (double)(mk_time_ns() - start);
}

struct bench_peak {
    int integer;
    volatile int64_t sink;
};

static void bench_peak_job(void *arg, size_t begin, size_t end, uint32_t w)
{
    struct bench_peak *p = arg;

    (void)w;
    for (size_t i = begin; i < end; i++)
        p->sink += p->integer ? peak_int8(1000000) : peak_float(1000000);
}

/* Operations a second of all threads. */
static double bench_peak(const struct mk_team *team, int integer)
{
    struct bench_peak p = {integer, 0};
    double best = 0.0;

    for (int i = 0; i < 3; i++) {
        const uint64_t start = mk_time_ns();

        mk_team_run(team, bench_peak_job, &p, team->n, 1);
        const double rate = 1e6 * (integer ? PEAK_INT8_OPS : PEAK_FLOAT_OPS) * team->n
                          / bench_seconds(start);
        best = rate > best ? rate : best;
    }
    return best;
}

/* A layer that holds n random tokens. */
static void bench_open(struct layer *b, uint32_t n_threads, size_t n, uint32_t heads,
                       uint32_t cache_type, uint32_t index_type, size_t n_rows)
{
    float row[576];

    layer_open(b, n_threads, n, heads, cache_type, index_type, n_rows,
               bench_attend16);
    for (size_t t = 0; t < n; t++) {
        for (size_t i = 0; i < 576; i++)
            row[i] = kd_float();
        mk_kv_put_latent(&b->kv, t, row);
        mk_kv_put_index(&b->kv, t, row);
    }
    for (size_t i = 0; i < n_rows * heads * 576; i++)
        b->work.qa[i] = 0.3f * kd_float();
    for (size_t i = 0; i < n_rows * heads * 192; i++)
        b->work.q[i] = 0.3f * kd_float();
}

/* New queries, as index keys are spread, and a choice among n tokens. */
static void bench_queries(struct layer *b)
{
    const size_t n_rows = b->work.shape.n_rows;

    for (size_t i = 0; i < n_rows * 64 * 128; i++)
        b->work.index_q[i] = kd_float();
    for (size_t i = 0; i < n_rows * 64; i++)
        b->work.index_w[i] = kd_float();
}

static void bench_decode(uint32_t n_threads, size_t n, uint32_t cache_type, uint32_t index_type,
                         const char *name)
{
    struct layer b;
    struct mk_mla j;
    double best[3] = {1e9, 1e9, 1e9};

    bench_open(&b, n_threads, n, 128, cache_type, index_type, 1);
    j = layer_rows(&b, n - 1, 1, NULL);
    for (int r = 0; r < 15; r++) {
        struct mk_times t = b.work.times;

        bench_queries(&b);
        mk_dsa_run(&b.f, 0);
        const double index = 1e-6 * (double)(b.work.times.index - t.index);
        const double select = 1e-6 * (double)(b.work.times.select - t.select);
        const uint64_t start = mk_time_ns();
        mk_mla_attend_absorbed(&j);
        const double attend = 1e3 * bench_seconds(start);
        best[0] = index < best[0] ? index : best[0];
        best[1] = select < best[1] ? select : best[1];
        best[2] = attend < best[2] ? attend : best[2];
    }
    const double fp32 = bench_peak(&b.f.ops.team, 0), int8 = bench_peak(&b.f.ops.team, 1);
    printf("%-10s index %.3f ms (%.2f of int8 peak), select %.3f, attention %.3f (%.2f of fp32 "
           "peak)\n", name, best[0], 2.0 * 64 * 128 * (double)n / best[0] / int8 * 1e3, best[1],
           best[2], 2.0 * 128 * 1088 * 2048 / best[2] / fp32 * 1e3);
    layer_close(&b);
}

/* Dense absorbed decode: 16 or 128 heads over all tokens. */
static void bench_dense(uint32_t n_threads, size_t n, uint32_t heads, uint32_t cache_type,
                        const char *name)
{
    struct layer b;
    struct mk_mla j;
    double best = 1e9;

    bench_open(&b, n_threads, n, heads, cache_type, MINKE_INDEX_INT8, 1);
    b.seq.index_topk = 0;
    j = layer_rows(&b, n - 1, 1, NULL);
    for (int r = 0; r < 7; r++) {
        const uint64_t start = mk_time_ns();

        mk_mla_attend_absorbed(&j);
        const double ms = 1e3 * bench_seconds(start);
        best = ms < best ? ms : best;
    }
    const double fp32 = bench_peak(&b.f.ops.team, 0);
    printf("dense %zu, %u heads, %s: %.3f ms (%.2f of fp32 peak)\n", n, heads, name, best,
           2.0 * heads * 1088 * (double)n / best / fp32 * 1e3);
    layer_close(&b);
}

struct bench_prefill {
    struct mk_mat k_up[128], v_b[128];
    struct mk_attention_weights w;
    struct layer b;
    struct mk_mla j;
};

/* n_rows rows behind `first` tokens; keys and values are made from weights of this type. */
static void bench_prefill_open(struct bench_prefill *p, uint32_t n_threads, size_t first,
                               size_t n_rows, enum mk_type type)
{
    struct mk_mat rows;

    bench_open(&p->b, n_threads, first + n_rows, 128, MINKE_CACHE_FP8, MINKE_INDEX_INT8, n_rows);
    kd_matrix(&rows, &p->k_up[0], type, 128, 512, p->b.f.ops.k);
    kd_matrix(&rows, &p->v_b[0], type, 128, 512, p->b.f.ops.k);
    for (size_t h = 1; h < 128; h++) {
        p->k_up[h] = p->k_up[0];
        p->v_b[h] = p->v_b[0];
    }
    p->w.k_up = p->k_up;
    p->w.v_b = p->v_b;
    p->j = layer_rows(&p->b, first, n_rows, &p->w);
}

/* Milliseconds of the indexer, of the absorbed form, of the naive form. */
static void bench_forms(struct bench_prefill *p, uint32_t index_topk, double ms[3])
{
    uint64_t start = mk_time_ns();

    p->b.seq.index_topk = index_topk;
    if (index_topk > 0) {
        bench_queries(&p->b);
        start = mk_time_ns();
        mk_dsa_run(&p->b.f, 0);
    }
    ms[0] = 1e3 * bench_seconds(start);
    start = mk_time_ns();
    mk_mla_attend_absorbed(&p->j);
    ms[1] = 1e3 * bench_seconds(start);
    start = mk_time_ns();
    mk_mla_naive(&p->j);
    ms[2] = 1e3 * bench_seconds(start);
}

/* Prefill of rows in the middle of n tokens, which stands for the mean of a whole prefill: dense
 * per head, and by the indexer with gathered latents. */
static void bench_prefill(uint32_t n_threads, size_t n, size_t n_rows)
{
    static struct bench_prefill p;
    double ms[3], dense;
    uint64_t start;

    bench_prefill_open(&p, n_threads, n / 2, n_rows, MK_Q8_0);
    p.b.seq.index_topk = 0;
    start = mk_time_ns();
    mk_mla_naive(&p.j);
    dense = 1e3 * bench_seconds(start);
    p.b.seq.index_topk = 2048;
    bench_queries(&p.b);
    start = mk_time_ns();
    mk_dsa_run(&p.b.f, 0);
    ms[0] = 1e3 * bench_seconds(start);
    start = mk_time_ns();
    mk_mla_attend_absorbed(&p.j);
    ms[1] = 1e3 * bench_seconds(start);
    const double fp32 = bench_peak(&p.b.f.ops.team, 0) * 1e-3;
    printf("prefill %zu, %zu rows: dense %.0f ms (%.2f of fp32 peak for attention alone), index "
           "%.0f, gathered %.0f (%.2f of fp32 peak), %.2f times cheaper\n", n, n_rows, dense,
           2.0 * 128 * 320 * (double)n_rows * (double)(n / 2 + n_rows / 2) / dense / fp32,
           ms[0], ms[1], 2.0 * 128 * 1088 * 2048 * (double)n_rows / ms[1] / fp32,
           dense / (ms[0] + ms[1]));
    layer_close(&p.b);
}

/* Where one form overtakes the other. */
static void bench_crossover(uint32_t n_threads)
{
    static const size_t dense_rows[] = {16, 32, 64, 96, 128, 192};
    static const size_t first[] = {2048, 3072, 4096, 6144};
    static const enum mk_type types[] = {MK_Q8_0, MK_BF16};
    static struct bench_prefill p;
    double ms[3];

    for (size_t t = 0; t < 2; t++)
        for (size_t i = 0; i < 6; i++) {
            bench_prefill_open(&p, n_threads, 2048, dense_rows[i], types[t]);
            bench_forms(&p, 0, ms);
            printf("dense, %s, 2048 tokens, %zu rows: absorbed %.1f ms, naive %.1f\n",
                   mk_type_info(types[t])->name, dense_rows[i], ms[1], ms[2]);
            layer_close(&p.b);
        }
    for (size_t i = 0; i < 4; i++) {
        bench_prefill_open(&p, n_threads, first[i], 256, MK_Q8_0);
        bench_forms(&p, 2048, ms);
        printf("selected, Q8_0, %zu tokens, 256 rows: gathered %.0f ms, masked %.0f\n",
               first[i], ms[1], ms[2]);
        layer_close(&p.b);
    }
}

int main(int argc, char **argv)
{
    bench_attend16 = argc > 2 && strcmp(argv[argc - 1], "16") == 0;
    argc -= bench_attend16;
    const uint32_t n_threads = argc > 1 ? (uint32_t)atoi(argv[1]) : mk_cpu_threads();
    const size_t n = argc > 2 ? (size_t)atoi(argv[2]) : 131072;

    /* The loops that find the peaks have no other form. */
    if ((mk_cpu_features() & (MK_CPU_AVX512 | MK_CPU_VNNI)) != (MK_CPU_AVX512 | MK_CPU_VNNI)) {
        fprintf(stderr, "AVX-512 with VNNI is needed\n");
        return 77;
    }
    printf("%u threads, %zu tokens%s\n", n_threads, n,
           bench_attend16 ? ", 16-bit products" : "");
    if (argc > 3 && atoi(argv[3]) == 0) {
        bench_crossover(n_threads);
        return 0;
    }
    if (argc > 3) {
        bench_prefill(n_threads, n, (size_t)atoi(argv[3]));
        return 0;
    }
    bench_decode(n_threads, n, MINKE_CACHE_FP8, MINKE_INDEX_INT8, "fp8 int8");
    bench_decode(n_threads, n, MINKE_CACHE_FP8, MINKE_INDEX_RESCORED, "rescored");
    bench_decode(n_threads, n, MINKE_CACHE_BF16, MINKE_INDEX_F32, "bf16 f32");
    bench_decode(n_threads, n, MINKE_CACHE_F32, MINKE_INDEX_F32, "f32 f32");
    bench_dense(n_threads, n / 4, 16, MINKE_CACHE_BF16, "bf16");
    bench_dense(n_threads, n / 4, 16, MINKE_CACHE_F32, "f32");
    bench_dense(n_threads, n / 4, 128, MINKE_CACHE_FP8, "fp8");
    return 0;
}
