/* What weighs columns: collected over tokens, read from both kinds of file, and used. */
#define _GNU_SOURCE 1 /* mkdtemp */
#include "test.h"
#include "checkpoint.h"
#include "folder.h"
#include "format/gguf.h"

#include <math.h>

#define DIR test_folder()
#define OUT test_file("model.gguf")
#define IMP test_file("importance.gguf")
#define DAT test_file("importance.dat")
#define N_TOKENS 40

static void write_model(void)
{
    struct ck *c = ck_new(MK_BF16, 1, 0, 1, 0);

    ck_write(c, DIR);
    ck_free(c);
}

static minke_context *open_model(void)
{
    minke_context_params p;
    minke_context *ctx = NULL;

    minke_context_params_init(&p, sizeof p);
    p.n_threads = 2;
    CHECK_INT(minke_context_open(&ctx, DIR, &p), MINKE_OK);
    return ctx;
}

static void collect(uint32_t chunk)
{
    minke_context *ctx;
    int32_t tokens[N_TOKENS];

    for (int i = 0; i < N_TOKENS; i++)
        tokens[i] = i * 7 % CK_VOCAB;
    write_model();
    ctx = open_model();
    CHECK_INT(minke_importance(ctx, tokens, N_TOKENS, chunk, IMP, NULL, NULL), MINKE_OK);
    minke_context_free(ctx);
}

/* A tensor of floats of a GGUF file, for free(); *n of them. */
static float *floats_of(const char *path, const char *name, size_t *n)
{
    const struct mk_env env = {0};
    struct mk_gguf g;
    float *out = NULL;

    *n = 0;
    CHECK_INT(mk_gguf_open(&g, &env, path), MINKE_OK);
    const struct mk_stored *t = mk_gguf_tensor(&g, name);
    CHECK(t != NULL);
    if (t != NULL) {
        uint8_t *stored = malloc((size_t)t->size);

        *n = (size_t)t->size / mk_type_info(t->type)->block_bytes
           * mk_type_info(t->type)->block_len;
        out = malloc(*n * sizeof *out);
        CHECK_INT(mk_file_read(t->file, t->offset, stored, (size_t)t->size), MINKE_OK);
        mk_decode(out, stored, *n, t->type);
        free(stored);
    }
    mk_gguf_close(&g);
    return out;
}

TEST(squares_and_rows_are_counted)
{
    size_t n = 0, n_gate = 0, n_up = 0;

    const float rows = N_TOKENS + 3;

    collect(16);     /* BOS and 15 tokens twice, BOS and 10 */
    float *counts = floats_of(IMP, "blk.0.attn_q_a.weight.counts", &n);
    CHECK_INT(n, 1);
    CHECK(counts[0] == rows);
    free(counts);
    /* Each token goes to so many experts, which see the same rows for gate and up. */
    counts = floats_of(IMP, "blk.1.ffn_gate_exps.weight.counts", &n);
    float total = 0.0f;
    for (size_t e = 0; e < n; e++)
        total += counts[e];
    CHECK_INT(n, CK_EXPERTS);
    CHECK(total == 2 * rows);
    free(counts);
    float *gate = floats_of(IMP, "blk.1.ffn_gate_exps.weight.in_sum2", &n_gate);
    float *up = floats_of(IMP, "blk.1.ffn_up_exps.weight.in_sum2", &n_up);
    CHECK_INT(n_gate, CK_EXPERTS * CK_D);
    CHECK(n_gate == n_up && memcmp(gate, up, n_up * sizeof *up) == 0);
    free(gate);
    free(up);
    /* A head's columns are those of q_nope. */
    float *heads = floats_of(IMP, "blk.0.attn_k_b.weight.in_sum2", &n);
    CHECK_INT(n, CK_H * CK_N);
    CHECK(n > 0 && heads[0] > 0.0f);
    free(heads);
}

/* sum of importance * (written - original)^2 over attn_q_a. */
static double weighted_error(const char *importance)
{
    minke_quantize_params p;
    size_t n = 0, n_weights = 0, n_exact = 0;
    double sum = 0.0;

    minke_quantize_params_init(&p, sizeof p);
    p.preset = "f32";
    CHECK_INT(minke_quantize(OUT, DIR, &p), MINKE_OK);
    float *exact = floats_of(OUT, "blk.0.attn_q_a.weight", &n_exact);
    p.preset = "q4_0";
    p.importance = importance;
    CHECK_INT(minke_quantize(OUT, DIR, &p), MINKE_OK);
    float *weights = floats_of(OUT, "blk.0.attn_q_a.weight", &n_weights);
    float *columns = floats_of(IMP, "blk.0.attn_q_a.weight.in_sum2", &n);
    CHECK(n == CK_D && n_weights == n_exact && n_exact == CK_D * CK_Q);
    for (size_t i = 0; i < n_exact && i < n_weights; i++)
        sum += (double)columns[i % CK_D] * pow((double)(weights[i] - exact[i]), 2.0);
    free(exact);
    free(weights);
    free(columns);
    return sum;
}

TEST(important_columns_lose_less)
{
    collect(0);
    const double alike = weighted_error(NULL), weighed = weighted_error(IMP);

    CHECK(weighed > 0.0 && weighed < 0.98 * alike);
}

static uint8_t *file_of(const char *path, size_t *n)
{
    uint8_t *data = malloc(8u << 20);
    FILE *f = fopen(path, "rb");

    *n = f == NULL ? 0 : fread(data, 1, 8u << 20, f);
    if (f != NULL)
        fclose(f);
    return data;
}

static void put_i32(FILE *f, int32_t v)
{
    CHECK(fwrite(&v, 4, 1, f) == 1);
}

/* One entry in the older format. */
static void write_dat(const char *name, int32_t calls, int32_t n_values, float first)
{
    FILE *f = fopen(DAT, "wb");

    put_i32(f, 1);
    put_i32(f, (int32_t)strlen(name));
    CHECK(fwrite(name, 1, strlen(name), f) == strlen(name));
    put_i32(f, calls);
    put_i32(f, n_values);
    for (int i = 0; i < CK_D; i++) {
        const float v = i == 0 ? first : (float)(i % 9 * i);

        CHECK(fwrite(&v, 4, 1, f) == 1);
    }
    put_i32(f, calls);
    put_i32(f, 0);
    fclose(f);
}

TEST(older_files_weigh_the_tensors_they_name)
{
    minke_quantize_params p;
    size_t n[2] = {0};
    uint8_t *file[2];

    write_model();
    minke_quantize_params_init(&p, sizeof p);
    p.preset = "q4_0";
    for (int i = 0; i < 2; i++) {
        p.importance = i == 0 ? NULL : DAT;
        write_dat("blk.0.attn_q_a.weight", 4, CK_D, 1.0f);
        CHECK_INT(minke_quantize(OUT, DIR, &p), MINKE_OK);
        file[i] = file_of(OUT, &n[i]);
    }
    CHECK(n[0] > 0 && n[0] == n[1] && memcmp(file[0], file[1], n[0]) != 0);
    free(file[0]);
    free(file[1]);
}

TEST(damaged_files_are_refused)
{
    minke_quantize_params p;
    uint8_t *data;
    size_t n;

    write_model();
    minke_quantize_params_init(&p, sizeof p);
    p.importance = test_file("absent");
    CHECK_INT(minke_quantize(OUT, DIR, &p), MINKE_EIO);
    p.importance = DAT;
    write_dat("blk.0.attn_q_a.weight", 4, CK_D, NAN);
    CHECK_INT(minke_quantize(OUT, DIR, &p), MINKE_EFORMAT);
    write_dat("blk.0.attn_q_a.weight", 4, CK_D, -1.0f);
    CHECK_INT(minke_quantize(OUT, DIR, &p), MINKE_EFORMAT);
    write_dat("blk.0.attn_q_a.weight", -4, CK_D, 1.0f);
    CHECK_INT(minke_quantize(OUT, DIR, &p), MINKE_EFORMAT);
    write_dat("blk.0.attn_q_a.weight", 4, 1 << 30, 1.0f);
    CHECK_INT(minke_quantize(OUT, DIR, &p), MINKE_EFORMAT);
    write_dat("blk.0.attn_q_a.weight", 4, CK_D - 1, 1.0f);
    CHECK_INT(minke_quantize(OUT, DIR, &p), MINKE_EFORMAT);
    CHECK_HAS(minke_last_error(), "attn_q_a");
    write_dat("blk.0.attn_q_a.weight", 4, CK_D, 1.0f);
    data = file_of(DAT, &n);
    for (size_t cut = 0; cut + 8 < n; cut += cut < 64 ? 1 : 61) {
        FILE *f = fopen(DAT, "wb");

        CHECK(fwrite(data, 1, cut, f) == cut);
        fclose(f);
        CHECK_INT(minke_quantize(OUT, DIR, &p), MINKE_EFORMAT);
    }
    free(data);
}

TEST(damaged_gguf_importance_is_refused)
{
    minke_quantize_params p;
    uint8_t *data;
    size_t n;

    collect(0);
    minke_quantize_params_init(&p, sizeof p);
    p.importance = DAT;
    data = file_of(IMP, &n);
    for (size_t i = 0; i < 2000 && i < n; i += 3) {
        FILE *f = fopen(DAT, "wb");
        const uint8_t old = data[i];

        data[i] ^= 0x55;
        CHECK(fwrite(data, 1, n, f) == n);
        fclose(f);
        data[i] = old;
        const int32_t status = minke_quantize(OUT, DIR, &p);
        CHECK(status == MINKE_OK || status == MINKE_EFORMAT || status == MINKE_EUNSUPPORTED);
    }
    free(data);
}

static int32_t stop(void *user, uint64_t done, uint64_t total)
{
    (void)user;
    return done == total;
}

TEST(nothing_is_left_of_a_stopped_run)
{
    const int32_t tokens[3] = {1, 2, 3}, outside[2] = {1, CK_VOCAB};

    write_model();
    remove(IMP);
    minke_context *ctx = open_model();
    CHECK_INT(minke_importance(ctx, tokens, 3, 0, IMP, stop, NULL), MINKE_ECANCELED);
    CHECK_INT(minke_importance(ctx, tokens, 0, 0, IMP, NULL, NULL), MINKE_EINVAL);
    CHECK_INT(minke_importance(ctx, tokens, 3, 1, IMP, NULL, NULL), MINKE_EINVAL);
    CHECK_INT(minke_importance(ctx, outside, 2, 0, IMP, NULL, NULL), MINKE_EINVAL);
    CHECK_INT(minke_importance(NULL, tokens, 3, 0, IMP, NULL, NULL), MINKE_EINVAL);
    CHECK(fopen(IMP, "rb") == NULL);
    minke_context_free(ctx);
}

TEST_MAIN(RUN(squares_and_rows_are_counted); RUN(important_columns_lose_less);
          RUN(older_files_weigh_the_tensors_they_name); RUN(damaged_files_are_refused);
          RUN(damaged_gguf_importance_is_refused); RUN(nothing_is_left_of_a_stopped_run))
