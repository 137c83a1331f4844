/* Number types: the table, every code of single numbers; block types against rows that ggml's
 * own reference quantizer wrote (tests/golden/quant/ggml-types.safetensors, see the README there). */
#include <math.h>

#include "test.h"
#include "tensor/tensor.h"

#define ROWS 8u
#define LEN 512u

static uint8_t *golden;
static size_t golden_size;

/* Data of the tensor name; the header is one line of json.dumps. */
static const void *golden_tensor(const char *name)
{
    uint64_t header, at;
    char key[64];
    const char *found;

    memcpy(&header, golden, 8);
    snprintf(key, sizeof key, "\"%s\":", name);
    found = strstr((const char *)golden + 8, key);
    if (found == NULL || (uint64_t)(found - (const char *)golden) > header + 8)
        return NULL;
    found = strstr(found, "\"data_offsets\":");
    found = strchr(found, '[') + 1;
    at = strtoull(found, NULL, 10);
    return golden + 8 + header + at;
}

static void golden_open(void)
{
    FILE *f = fopen("tests/golden/quant/ggml-types.safetensors", "rb");

    CHECK(f != NULL);
    if (f == NULL)
        exit(1);
    golden = calloc(1, 1u << 20);
    golden_size = fread(golden, 1, (1u << 20) - 1, f);
    fclose(f);
}

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

TEST(every_half_survives_the_way_to_f32_and_back)
{
    for (uint32_t h = 0; h < 65536; h++) {
        const float f = mk_f16_to_f32((uint16_t)h);
        const uint32_t e = h >> 10 & 31, m = h & 1023;
        const double s = h >> 15 ? -1.0 : 1.0;
        if (e == 31) {
            CHECK(m ? isnan(f) : isinf(f) && (f < 0) == (h >> 15));
            continue;
        }
        CHECK((double)f == s * (e ? ldexp(1024.0 + m, (int)e - 25) : ldexp(m, -24)));
        CHECK_INT(mk_f32_to_f16(f), h);
    }
}

/* Between every two neighbours: below the middle, the middle, and above it. */
TEST(f16_rounds_to_nearest_even)
{
    for (uint32_t h = 0; h < 0x7bff; h++) {
        const float a = mk_f16_to_f32((uint16_t)h), b = mk_f16_to_f32((uint16_t)(h + 1));
        const float middle = (a + b) * 0.5f;
        CHECK_INT(mk_f32_to_f16(middle), h + (h & 1));
        CHECK_INT(mk_f32_to_f16(float_of(bits_of(middle) - 1)), h);
        CHECK_INT(mk_f32_to_f16(float_of(bits_of(middle) + 1)), h + 1);
        CHECK_INT(mk_f32_to_f16(-middle), 0x8000u + h + (h & 1));
    }
    CHECK_INT(mk_f32_to_f16(65519.99f), 0x7bff);
    CHECK_INT(mk_f32_to_f16(65520.0f), 0x7c00);
    CHECK_INT(mk_f32_to_f16(1e30f), 0x7c00);
    CHECK_INT(mk_f32_to_f16(-INFINITY), 0xfc00);
    CHECK_INT(mk_f32_to_f16(0x1p-25f), 0);
    CHECK_INT(mk_f32_to_f16(1e-40f), 0);
    CHECK(isnan(mk_f16_to_f32(mk_f32_to_f16(NAN))));
    CHECK(isnan(mk_f16_to_f32(mk_f32_to_f16(float_of(0x7f800001u)))));
}

TEST(bf16_rounds_to_nearest_even)
{
    for (uint32_t h = 0; h < 65536; h++) {
        const float f = mk_bf16_to_f32((uint16_t)h);
        CHECK_INT(bits_of(f), h << 16);
        if (isnan(f)) {
            CHECK(isnan(mk_bf16_to_f32(mk_f32_to_bf16(f))));
            continue;
        }
        CHECK_INT(mk_f32_to_bf16(f), h);
        if (isinf(f))
            continue;
        CHECK_INT(mk_f32_to_bf16(float_of(h << 16 | 0x7fff)), h);
        CHECK_INT(mk_f32_to_bf16(float_of(h << 16 | 0x8000)), h + (h & 1));
        CHECK_INT(mk_f32_to_bf16(float_of(h << 16 | 0x8001)), h + 1);
    }
    CHECK(isnan(mk_bf16_to_f32(mk_f32_to_bf16(float_of(0x7f800001u)))));
}

TEST(e4m3_codes_and_rounding)
{
    for (uint32_t c = 0; c < 256; c++) {
        const float f = mk_e4m3_to_f32((uint8_t)c);
        const uint32_t e = c >> 3 & 15, m = c & 7;
        const double s = c >> 7 ? -1.0 : 1.0;
        if ((c & 127) == 127) {
            CHECK(isnan(f));
            continue;
        }
        CHECK((double)f == s * (e ? ldexp(8.0 + m, (int)e - 10) : ldexp(m, -9)));
        CHECK_INT(mk_f32_to_e4m3(f), c);
        if ((c & 127) == 126)
            continue;
        const float next = mk_e4m3_to_f32((uint8_t)(c + 1)), middle = (f + next) * 0.5f;
        CHECK_INT(mk_f32_to_e4m3(middle), c + (c & 1));
        CHECK_INT(mk_f32_to_e4m3(float_of(bits_of(middle) - 1)), c);
        CHECK_INT(mk_f32_to_e4m3(float_of(bits_of(middle) + 1)), c + 1);
    }
    CHECK_INT(mk_f32_to_e4m3(448.0f), 0x7e);
    CHECK_INT(mk_f32_to_e4m3(1e9f), 0x7e);
    CHECK_INT(mk_f32_to_e4m3(-INFINITY), 0xfe);
    CHECK_INT(mk_f32_to_e4m3(NAN) & 127, 127);
}

TEST(rows_of_the_table_agree_with_each_other)
{
    for (int i = 0; i < MK_N_TYPES; i++) {
        const struct mk_type_info *info = mk_type_info((enum mk_type)i);
        enum mk_type t = (enum mk_type)i;

        CHECK_INT(info->decode_numbers != NULL, info->block_len == 1);
        CHECK_INT(info->encode_numbers != NULL, info->block_len == 1);
        CHECK_INT(info->decode_block != NULL, info->block_len > 1);
        /* A file of one type is of one that GGUF knows and that can be written. */
        if (info->file_type >= 0)
            CHECK(info->gguf >= 0 && (info->encode_numbers || info->encode_block));
        if (info->gguf >= 0)
            CHECK_INT(mk_type_of_gguf((uint32_t)info->gguf), i);
        CHECK_INT(mk_type_of_dtype(info->name), info->block_len == 1 ? i : MK_N_TYPES);
        for (int step = 0; step < 3 && mk_type_info(t)->block_len > 1; step++) {
            CHECK(mk_type_info(mk_type_info(t)->instead)->block_len < mk_type_info(t)->block_len);
            t = mk_type_info(t)->instead;
        }
        CHECK_INT(mk_type_info(t)->block_len, 1);
    }
    CHECK_INT(mk_type_of_gguf(4), MK_N_TYPES);
    CHECK_INT(mk_type_of_gguf(UINT32_MAX), MK_N_TYPES);
    CHECK_INT(mk_type_of_dtype("F8_E5M2"), MK_N_TYPES);
}

TEST(what_is_no_finite_number_is_found_anywhere)
{
    for (int i = 0; i < MK_N_TYPES; i++) {
        const struct mk_type_info *info = mk_type_info((enum mk_type)i);
        uint8_t row[LEN * 4] = {0};
        const size_t bytes = mk_type_row_bytes((enum mk_type)i, LEN);
        float out[LEN];

        CHECK(mk_all_finite(row, LEN, (enum mk_type)i));
        for (size_t at = 0; at < bytes; at += info->block_bytes) {
            int finite = 1;

            memset(row + at, 0xff, info->block_bytes);
            mk_decode(out, row, LEN, (enum mk_type)i);
            for (uint32_t k = 0; k < LEN; k++)
                finite &= isfinite(out[k]) != 0;
            CHECK_INT(mk_all_finite(row, LEN, (enum mk_type)i), finite);
            memset(row + at, 0, info->block_bytes);
        }
    }
}

TEST(row_sizes_refuse_partial_blocks_and_wraps)
{
    CHECK_INT(mk_type_row_bytes(MK_Q4_K, 512), 288);
    CHECK_INT(mk_type_row_bytes(MK_Q4_K, 1408), 0);
    CHECK_INT(mk_type_row_bytes(MK_Q5_0, 1408), 968);
    CHECK_INT(mk_type_row_bytes(MK_F32, SIZE_MAX), 0);
    CHECK_INT(mk_type_row_bytes(MK_Q8_0, SIZE_MAX / 32 * 32), 0);
}

/* F32 and F8_E4M3 have no rows in the file: the tests above cover them. */
static int has_rows(int type)
{
    return type != MK_F32 && type != MK_F8_E4M3;
}

TEST(every_block_type_decodes_bit_for_bit)
{
    for (int type = 0; type < MK_N_TYPES; type++) {
        const struct mk_type_info *info = mk_type_info((enum mk_type)type);
        const size_t row = mk_type_row_bytes((enum mk_type)type, LEN);
        const uint8_t *stored;
        const float *decoded;
        float out[LEN];
        char name[32];
        if (!has_rows(type))
            continue;
        snprintf(name, sizeof name, "%s.bytes", info->name);
        stored = golden_tensor(name);
        snprintf(name, sizeof name, "%s.decoded", info->name);
        decoded = golden_tensor(name);
        CHECK(stored != NULL && decoded != NULL && row > 0);
        if (stored == NULL || decoded == NULL)
            continue;
        for (uint32_t r = 0; r < ROWS; r++) {
            mk_decode(out, stored + r * row, LEN, (enum mk_type)type);
            if (memcmp(out, decoded + r * LEN, sizeof out) != 0) {
                fprintf(stderr, "%s row %u differs\n", info->name, r);
                test_failures++;
            }
        }
    }
}

static double square_error(const float *a, const float *b, const float *w)
{
    double sum = 0.0;

    for (uint32_t i = 0; i < LEN; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i])
             * (w == NULL ? 1.0 : (double)w[i]);
    return sum;
}

static int is_written(int type)
{
    const struct mk_type_info *info = mk_type_info((enum mk_type)type);

    return has_rows(type) && (info->encode_numbers != NULL || info->encode_block != NULL);
}

TEST(encoding_is_as_close_as_the_reference)
{
    const float *input = golden_tensor("input");

    for (int k = 0; k < MK_N_TYPES; k++) {
        double ours = 0.0, theirs = 0.0;
        const float *decoded;
        uint8_t row[LEN * 4];
        float out[LEN];
        char name[32];
        if (!is_written(k))
            continue;
        snprintf(name, sizeof name, "%s.decoded", mk_type_info((enum mk_type)k)->name);
        decoded = golden_tensor(name);
        for (uint32_t r = 0; r < ROWS; r++) {
            CHECK_INT(mk_encode(row, input + r * LEN, LEN, (enum mk_type)k, NULL), MINKE_OK);
            mk_decode(out, row, LEN, (enum mk_type)k);
            ours += square_error(out, input + r * LEN, NULL);
            theirs += square_error(decoded + r * LEN, input + r * LEN, NULL);
        }
        printf("%-8s squared error %.4f of the reference's\n", mk_type_info((enum mk_type)k)->name,
               ours / theirs);
        CHECK(ours <= 1.05 * theirs);
    }
}

TEST(importance_moves_the_error_to_columns_without_it)
{
    const float *input = golden_tensor("input");
    float weight[LEN];

    for (uint32_t i = 0; i < LEN; i++)
        weight[i] = i % 5 == 0 ? 50.0f : 0.1f;
    for (int k = 0; k < MK_N_TYPES; k++) {
        double with = 0.0, without = 0.0;
        uint8_t row[LEN * 4];
        float out[LEN];
        if (!is_written(k) || mk_type_info((enum mk_type)k)->block_len == 1 || k == MK_Q8_0)
            continue;
        for (uint32_t r = 0; r < ROWS; r++) {
            mk_encode(row, input + r * LEN, LEN, (enum mk_type)k, weight);
            mk_decode(out, row, LEN, (enum mk_type)k);
            with += square_error(out, input + r * LEN, weight);
            mk_encode(row, input + r * LEN, LEN, (enum mk_type)k, NULL);
            mk_decode(out, row, LEN, (enum mk_type)k);
            without += square_error(out, input + r * LEN, weight);
        }
        CHECK(with < without);
    }
}

TEST(rows_of_zeros_and_of_one_value_come_back)
{
    static const float values[] = {0.0f, -0.0f, 1e-30f, 0.25f, -3.0f, 65504.0f, -65504.0f};

    for (int k = 0; k < MK_N_TYPES; k++) {
        for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
            uint8_t row[LEN * 4];
            float in[LEN], out[LEN];
            if (!is_written(k))
                continue;
            for (uint32_t i = 0; i < LEN; i++)
                in[i] = values[v];
            CHECK_INT(mk_encode(row, in, LEN, (enum mk_type)k, NULL), MINKE_OK);
            mk_decode(out, row, LEN, (enum mk_type)k);
            for (uint32_t i = 0; i < LEN; i++)
                CHECK(fabsf(out[i] - in[i]) <= 0.03f * fabsf(in[i]) + 1e-20f);
        }
    }
}

TEST(weights_that_do_not_fit_are_refused)
{
    float in[256] = {0};
    uint8_t row[512];

    in[7] = NAN;
    CHECK_INT(mk_encode(row, in, 256, MK_Q4_K, NULL), MINKE_EFORMAT);
    CHECK_HAS(minke_last_error(), "weight 7");
    in[7] = 1e6f;
    CHECK_INT(mk_encode(row, in, 256, MK_Q8_0, NULL), MINKE_EFORMAT);
    in[7] = 1.0f;
    CHECK_INT(mk_encode(row, in, 256, MK_IQ2_XS, NULL), MINKE_EUNSUPPORTED);
    CHECK_HAS(minke_last_error(), "IQ2_XS");
}

TEST_MAIN(golden_open(); RUN(every_half_survives_the_way_to_f32_and_back);
          RUN(f16_rounds_to_nearest_even); RUN(bf16_rounds_to_nearest_even);
          RUN(e4m3_codes_and_rounding); RUN(row_sizes_refuse_partial_blocks_and_wraps);
          RUN(rows_of_the_table_agree_with_each_other);
          RUN(what_is_no_finite_number_is_found_anywhere);
          RUN(every_block_type_decodes_bit_for_bit); RUN(encoding_is_as_close_as_the_reference);
          RUN(importance_moves_the_error_to_columns_without_it);
          RUN(rows_of_zeros_and_of_one_value_come_back);
          RUN(weights_that_do_not_fit_are_refused); free(golden))
