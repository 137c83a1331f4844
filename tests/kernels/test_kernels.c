/* Every slot of the kernel table, at every level this machine has, against its C twin. */
#include "kernel_data.h"

#include <math.h>

#include "base/cpu.h"
#include "kernels/packed.h"
#include "test.h"

static struct mk_kernels twin, level;

static int close_to(float a, float b, float scale)
{
    return fabsf(a - b) <= 2e-6f * scale || (a != a && b != b) || a == b;
}

TEST(vectors_match_their_twins)
{
    for (size_t n = 1; n < 200; n += n < 70 ? 1 : 13) {
        float *a = kd_floats(n, 3.0f), *b = kd_floats(n, 3.0f), *w = kd_floats(n, 1.0f);
        float *y0 = kd_floats(n, 0.0f), *y1 = kd_floats(n, 0.0f);

        CHECK(close_to(twin.dot(a, b, n), level.dot(a, b, n), 9.0f * (float)n));
        twin.axpy(y0, 0.7f, a, n);
        level.axpy(y1, 0.7f, a, n);
        for (size_t i = 0; i < n; i++)
            CHECK(close_to(y0[i], y1[i], 3.0f));
        twin.rms_norm(y0, a, w, 1e-6f, n);
        level.rms_norm(y1, a, w, 1e-6f, n);
        for (size_t i = 0; i < n; i++)
            CHECK(close_to(y0[i], y1[i], 3.0f));
        twin.swiglu(y0, a, b, n);
        level.swiglu(y1, a, b, n);
        for (size_t i = 0; i < n; i++)
            CHECK(close_to(y0[i], y1[i], 9.0f));
        memcpy(y0, a, n * sizeof(*a));
        memcpy(y1, a, n * sizeof(*a));
        twin.softmax(y0, n);
        level.softmax(y1, n);
        for (size_t i = 0; i < n; i++)
            CHECK(close_to(y0[i], y1[i], 1.0f));
        munmap((void *)((uintptr_t)a / 4096 * 4096), 4096);
    }
}

TEST(exp_is_within_its_bound)
{
    double worst = 0.0;

    for (int i = 0; i < 100000; i++) {
        /* softmax of {0, -x} is 1 / (1 + e^-x), e^-x / (1 + e^-x): their ratio is e^-x. */
        float x[2] = {0.0f, -86.0f * (float)i / 100000.0f};
        const double want = exp((double)x[1]);

        level.softmax(x, 2);
        const double got = (double)x[1] / (double)x[0], error = fabs(got - want) / want;
        worst = error > worst ? error : worst;
    }
    CHECK(worst < 3e-7);
}

TEST(softmax_handles_infinities)
{
    float a[3] = {-INFINITY, 0.0f, -INFINITY}, b[2] = {-INFINITY, -INFINITY};
    float c[2] = {1e30f, -1e30f}, g[4] = {-1e4f, 1e4f, 0.0f, -88.5f}, one[4] = {1, 1, 1, 1};

    level.softmax(a, 3);
    CHECK(a[0] == 0.0f && a[1] == 1.0f && a[2] == 0.0f);
    level.softmax(b, 2);
    CHECK(b[0] == 0.0f && b[1] == 0.0f);
    level.softmax(c, 2);
    CHECK(c[0] == 1.0f && c[1] == 0.0f);
    level.swiglu(g, g, one, 4);
    CHECK(fabsf(g[0]) < 1e-30f && g[1] == 1e4f && g[2] == 0.0f && fabsf(g[3]) < 1e-30f);
}

TEST(rounding_matches_its_twin_bit_for_bit)
{
    enum { N = 64 };
    float *x = kd_floats(32 * N, 1.0f);
    struct mk_act *a = kd_guarded(N * sizeof(*a)), *b = kd_guarded(N * sizeof(*b));

    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < 32; j++)
            x[32 * i + j] *= powf(2.0f, (float)i * 4.0f - 128.0f);
    memset(x, 0, 32 * sizeof(*x));
    twin.quantize(a, x, N);
    level.quantize(b, x, N);
    CHECK(memcmp(a, b, N * sizeof(*a)) == 0);
    for (size_t i = 40; i < N; i++)
        for (size_t j = 0; j < 32; j++)
            CHECK(fabsf(a[i].d * a[i].q[j] - x[32 * i + j]) <= 0.501f * a[i].d);
}

TEST(interleaving_matches_its_twin)
{
    for (size_t n_words = 1; n_words < 70; n_words += n_words < 20 ? 1 : 7)
        for (size_t n_rows = 1; n_rows <= 16; n_rows += 3) {
            const size_t stride = 4 * n_words + 3;
            uint8_t *in = kd_guarded(stride * (n_rows - 1) + 4 * n_words);
            uint32_t *a = kd_guarded(64 * n_words), *b = kd_guarded(64 * n_words);

            for (size_t i = 0; i < stride * (n_rows - 1) + 4 * n_words; i++)
                in[i] = (uint8_t)kd_u32();
            memset(a, 1, 64 * n_words);
            memset(b, 2, 64 * n_words);
            twin.interleave(a, in, stride, n_rows, n_words);
            level.interleave(b, in, stride, n_rows, n_words);
            CHECK(memcmp(a, b, 64 * n_words) == 0);
        }
}

TEST(rows_come_back_from_packed_form)
{
    for (int type = 0; type < MK_N_TYPES; type++) {
        const size_t n_in = mk_type_info(type)->block_len == 256 ? 768
                          : mk_type_info(type)->block_len == 32 ? 224 : 77, n_out = 37;
        struct mk_mat rows, packed;
        float *a = kd_floats(n_in, 0.0f), *b = kd_floats(n_in, 0.0f);

        if (mk_pack_info(type)->unit == 0)
            continue;
        kd_matrix(&rows, &packed, type, n_out, n_in, &level);
        for (size_t r = 0; r < n_out; r++) {
            mk_mat_row(a, &rows, r);
            mk_mat_row(b, &packed, r);
            CHECK(memcmp(a, b, n_in * sizeof(*a)) == 0);
        }
    }
}

/* The panel's weights are the decoded ones: exactly, as products of its scale and integers. */
TEST(panels_hold_the_decoded_weights)
{
    for (int type = 0; type < MK_N_TYPES; type++) {
        const struct mk_pack_info *info = mk_pack_info(type);
        const size_t n_in = 768, n_blocks = 24;
        struct mk_mat rows, packed;
        float *want = kd_floats(n_in, 0.0f);
        uint8_t *q0 = kd_guarded(MK_PANEL_BYTES), *q1 = kd_guarded(MK_PANEL_BYTES);
        float *s0 = kd_floats(512, 0), *s1 = kd_floats(512, 0);
        float *m0 = kd_floats(256, 0), *m1 = kd_floats(256, 0);

        if (info->kind == MK_PANEL_NONE)
            continue;
        kd_matrix(&rows, &packed, type, 16, n_in, &level);
        for (size_t b = 0; b < n_blocks; b += 16) {
            const size_t n = n_blocks - b < 16 ? n_blocks - b : 16;
            const size_t n_s = info->kind == MK_PANEL_HALVES ? 32 : 16;
            struct mk_panel p0, p1;

            twin.expand[type](&p0, packed.data, b, n, q0, s0, m0);
            level.expand[type](&p1, packed.data, b, n, q1, s1, m1);
            for (size_t j = 0; j < n; j++)
                CHECK(memcmp(p0.q + mk_panel_at(j), p1.q + mk_panel_at(j), 512) == 0);
            CHECK(memcmp(p0.s, p1.s, n * n_s * 4) == 0);
            if (info->kind == MK_PANEL_MIN)
                CHECK(memcmp(p0.m, p1.m, n * 64) == 0);
            for (size_t r = 0; r < 16; r++) {
                mk_mat_row(want, &rows, r);
                for (size_t k = 0; k < n * 32; k++) {
                    const size_t j = k / 32, i = k % 32;
                    const int q = p1.q[mk_panel_at(j) + i / 4 * 64 + r * 4 + i % 4]
                                - (info->kind == MK_PANEL_MIN ? 0 : 128);
                    const float s = p1.s[n_s == 32 ? j * 32 + i / 16 * 16 + r : j * 16 + r];
                    const float m = info->kind == MK_PANEL_MIN ? p1.m[j * 16 + r] : 0.0f;

                    CHECK(s * (float)q - m == want[b * 32 + k]);
                }
            }
        }
    }
}

/* Same calls at both levels; results agree closely, and nothing beyond n_rows is touched. */
TEST(integer_tiles_match_their_twins)
{
    static const size_t row_counts[] = {1, 15, 16, 17, 31, 32};

    for (int kind = MK_PANEL_SIGNED; kind <= MK_PANEL_HALVES; kind++)
        for (size_t n_tokens = 1; n_tokens <= MK_TILE_TOKENS; n_tokens++)
            for (size_t i = 0; i < 6; i++) {
                const size_t n_rows = row_counts[i], n = 3, lda = 4, ldy = n_rows + 1;
                float *x = kd_floats(n_tokens * lda * 32, 2.0f);
                struct mk_act *a = kd_guarded(n_tokens * lda * sizeof(*a));
                float *y0 = kd_floats(n_tokens * ldy, 1.0f);
                float *y1 = kd_guarded(n_tokens * ldy * sizeof(*y1));
                uint8_t *q = kd_guarded(2 * mk_panel_at(n + 1));
                float *s = kd_floats(2 * n * 32, 0.01f), *m = kd_floats(2 * n * 16, 0.5f);
                const struct mk_panel p[2] = {
                    {q, s, m}, {q + mk_panel_at(n + 1), s + n * 32, m + n * 16}};

                for (size_t j = 0; j < 2 * mk_panel_at(n + 1); j++)
                    q[j] = (uint8_t)(kd_u32() >> 8) & (kind == MK_PANEL_MIN ? 31 : 255);
                twin.quantize(a, x, n_tokens * lda);
                memcpy(y1, y0, n_tokens * ldy * sizeof(*y0));
                for (int first = 1; first >= 0; first--) {
                    twin.tile[kind](y0, ldy, p, a, lda, n_tokens, n, n_rows, first);
                    level.tile[kind](y1, ldy, p, a, lda, n_tokens, n, n_rows, first);
                    CHECK(memcmp(y0, y1, n_tokens * ldy * sizeof(*y0)) == 0);
                }
            }
}

TEST(float_tiles_match_their_twins)
{
    for (size_t n_tokens = 1; n_tokens <= MK_TILE_FLOAT_TOKENS; n_tokens++)
        for (size_t n_rows = 1; n_rows <= 32; n_rows += n_rows == 1 ? 14 : 1) {
            const size_t n = 17, ldx = 19, ldy = n_rows + 1;
            float *x = kd_floats(n_tokens * ldx, 2.0f), *w = kd_floats(2 * n * 16, 1.0f);
            float *y0 = kd_floats(n_tokens * ldy, 1.0f);
            float *y1 = kd_guarded(n_tokens * ldy * sizeof(*y1));

            memcpy(y1, y0, n_tokens * ldy * sizeof(*y0));
            for (int first = 1; first >= 0; first--) {
                twin.tile_float(y0, ldy, w, w + n * 16, x, ldx, n_tokens, n, n_rows, 0.3f, first);
                level.tile_float(y1, ldy, w, w + n * 16, x, ldx, n_tokens, n, n_rows, 0.3f,
                                 first);
                CHECK(memcmp(y0, y1, n_tokens * ldy * sizeof(*y0)) == 0);
            }
        }
}

TEST(float_panels_match_their_twins)
{
    for (int type = 0; type < MK_N_TYPES; type++) {
        const size_t n_in = 77;
        struct mk_mat rows, packed;
        float *a = kd_floats(16 * 128, 0), *b = kd_floats(16 * 128, 0);

        if (twin.expand_float[type] == NULL)
            continue;
        kd_matrix(&rows, &packed, type, 16, n_in, &level);
        const float *p0 = twin.expand_float[type](a, packed.data, 4, n_in - 4);
        const float *p1 = level.expand_float[type](b, packed.data, 4, n_in - 4);
        CHECK(memcmp(p0, p1, 16 * (n_in - 4) * sizeof(*a)) == 0);
    }
}

/* Weights of a panel with rows of their own sizes, one of zeros; bad: one is not finite. */
static void sized_weights(struct mk_mat *rows, struct mk_mat *packed, int type, size_t n_in,
                          int bad)
{
    static const uint8_t not_finite[MK_F8_E4M3 + 1][4] = {
        {0, 0, 0x80, 0x7F}, {0, 0xFC}, {0xC0, 0x7F}, {0xFF}};
    const size_t size = mk_type_info(type)->block_bytes;

    kd_matrix(rows, packed, type, 16, n_in, &level);
    uint8_t *data = (uint8_t *)(uintptr_t)rows->data;
    for (size_t i = 0; i < 16 * n_in; i++) {
        const float f = kd_float() * powf(2.0f, (float)(kd_u32() % 5) * -2.0f - (float)(i / n_in));
        const uint16_t b16 = mk_f32_to_bf16(f), h16 = mk_f32_to_f16(f);

        if (type == MK_F32)
            memcpy(data + 4 * i, &f, 4);
        else if (type != MK_F8_E4M3)
            memcpy(data + 2 * i, type == MK_BF16 ? &b16 : &h16, 2);
        else if (n_in % 3 == 0)      /* smaller than an FP8 block's scale leaves them */
            data[i] = mk_f32_to_e4m3(f);
    }
    memset(data + 5 * n_in * size, 0, n_in * size);
    if (bad)
        memcpy(data + (2 * n_in + kd_u32() % n_in) * size, not_finite[type], size);
    mk_mat_pack((void *)(uintptr_t)packed->data, rows, data, 0, 16, &level);
}

TEST(panels_of_16_bits_match_their_twins_within_half_a_step)
{
    static const size_t sizes[] = {1, 2, 3, 4, 5, 77, 126, 127, 128};

    for (int type = 0; type <= MK_F8_E4M3; type++)
        for (size_t i = 0; i < 9 * 4; i++) {
            const size_t n = sizes[i % 9], n_in = n + (i / 9 % 2) * 128, words = (n + 1) / 2;
            const int bad = i / 18 == 1;
            struct mk_mat rows, packed;
            float s0[16], s1[16], *w = kd_floats(n_in, 0.0f);
            uint32_t *q0 = kd_guarded(((n + 3) / 4) * 128), *q1 = kd_guarded(((n + 3) / 4) * 128);

            sized_weights(&rows, &packed, type, n_in, bad);
            twin.expand16[type](q0, s0, packed.data, n_in - n, n, 0.75f, packed.data);
            level.expand16[type](q1, s1, packed.data, n_in - n, n, 0.75f, packed.data);
            for (size_t r = 0; r < 16; r++) {
                CHECK((s0[r] != s0[r] && s1[r] != s1[r]) || memcmp(&s0[r], &s1[r], 4) == 0);
                CHECK(bad || s0[r] == s0[r]);
                if (s0[r] != s0[r])
                    continue;
                mk_mat_row(w, &(struct mk_mat){rows.type, rows.layout, 16, n_in, rows.row_bytes,
                                               rows.data, NULL, 0}, r);
                for (size_t k = 0; k < n; k++) {
                    const int16_t q = (int16_t)(q1[k / 2 * 16 + r] >> (k % 2 ? 16 : 0));

                    CHECK(abs(q) <= 4096);
                    CHECK(fabs((double)w[n_in - n + k] - (double)s1[r] / 0.75 * q)
                          <= 0.5 * (double)s1[r] / 0.75);
                }
                for (size_t k = 0; k < words; k++)
                    CHECK(q0[k * 16 + r] == q1[k * 16 + r]);
            }
            if (bad && n == n_in)
                CHECK(s1[2] != s1[2]);
        }
}

/* The largest sums that panels can give do not wrap. */
TEST(tiles_of_16_bits_match_their_twins_bit_for_bit)
{
    for (size_t n_tokens = 1; n_tokens <= MK_TILE_FLOAT_TOKENS; n_tokens++)
        for (size_t n_rows = 1; n_rows <= 32; n_rows += n_rows == 1 ? 14 : 1) {
            const size_t words = n_rows % 2 ? 64 : 39, lda = 71, ldy = n_rows + 1;
            uint32_t *a = kd_guarded(n_tokens * lda * 4), *w = kd_guarded(2 * words * 64);
            float *steps = kd_floats(n_tokens * lda, 0.01f), *w_step = kd_floats(32, 0.01f);
            float *y0 = kd_floats(n_tokens * ldy, 1.0f);
            float *y1 = kd_guarded(n_tokens * ldy * sizeof(*y1));

            for (size_t i = 0; i < n_tokens * lda; i++)
                a[i] = words == 64 ? 0x0FE20FE2u : kd_u32() & 0x0FFF0FFFu;
            for (size_t i = 0; i < 2 * words * 16; i++)
                w[i] = words == 64 ? 0xF000F000u : (kd_u32() & 0x0FFF0FFFu) - 0x08000800u;
            memcpy(y1, y0, n_tokens * ldy * sizeof(*y0));
            for (int first = 1; first >= 0; first--) {
                twin.tile16(y0, ldy, w, w + words * 16, w_step, a, steps, lda, n_tokens, words,
                            n_rows, first);
                level.tile16(y1, ldy, w, w + words * 16, w_step, a, steps, lda, n_tokens, words,
                             n_rows, first);
                CHECK(memcmp(y0, y1, n_tokens * ldy * sizeof(*y0)) == 0);
            }
        }
}

static void run_level(uint32_t features)
{
    printf("level %s\n", features == 0 ? "plain C" : mk_cpu_name(features));
    mk_kernels_init(&twin, 0);
    mk_kernels_init(&level, features);
    RUN(vectors_match_their_twins);
    RUN(exp_is_within_its_bound);
    RUN(softmax_handles_infinities);
    RUN(rounding_matches_its_twin_bit_for_bit);
    RUN(interleaving_matches_its_twin);
    RUN(rows_come_back_from_packed_form);
    RUN(panels_hold_the_decoded_weights);
    RUN(integer_tiles_match_their_twins);
    RUN(float_tiles_match_their_twins);
    RUN(float_panels_match_their_twins);
    RUN(panels_of_16_bits_match_their_twins_within_half_a_step);
    RUN(tiles_of_16_bits_match_their_twins_bit_for_bit);
}

static void run_levels(void)
{
    static const uint32_t levels[] = {
        0, MK_CPU_NEON, MK_CPU_NEON | MK_CPU_DOTPROD,
        MK_CPU_NEON | MK_CPU_DOTPROD | MK_CPU_I8MM, MK_CPU_AVX2,
        MK_CPU_AVX2 | MK_CPU_AVX512, MK_CPU_AVX2 | MK_CPU_AVX512 | MK_CPU_VNNI,
        MK_CPU_AVX2 | MK_CPU_AVX512 | MK_CPU_VNNI | MK_CPU_VBMI,
        MK_CPU_AVX2 | MK_CPU_AVX512 | MK_CPU_VNNI | MK_CPU_VBMI | MK_CPU_FP16,
    };
    const uint32_t have = mk_cpu_features();

    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
        if ((levels[i] & have) == levels[i])
            run_level(levels[i]);
}

TEST_MAIN(run_levels())
