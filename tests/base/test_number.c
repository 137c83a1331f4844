#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* mkdtemp, setenv */
#endif
/* Decimal text to double and back, against the C library and known hard cases. */
#include <fenv.h>
#include <math.h>

#include "base/json.h"
#include "comma.h"
#include "test.h"

static uint64_t state = 88172645463325252u;

static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static double from_bits(uint64_t bits)
{
    double v;

    memcpy(&v, &bits, sizeof v);
    return v;
}

static uint64_t to_bits(double v)
{
    uint64_t bits;

    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static double read_all(const char *text)
{
    double v = -12345.0;

    CHECK_INT(mk_number_read(text, strlen(text), &v), strlen(text));
    return v;
}

static void check_write(double v, const char *expected)
{
    char text[32];
    const size_t n = mk_number_write(text, v);

    CHECK_STR(text, expected);
    CHECK_INT(n, strlen(expected));
}

TEST(random_doubles_read_as_strtod_does)
{
    for (int i = 0; i < 200000; i++) {
        const double v = from_bits(next_random());
        char text[64];

        if (!isfinite(v))
            continue;
        snprintf(text, sizeof text, i % 2 ? "%.17e" : "%.12e", v);
        if (to_bits(read_all(text)) != to_bits(strtod(text, NULL)))
            CHECK_STR(text, "the same double");
    }
}

TEST(short_decimals_read_as_strtod_does)
{
    for (int i = 0; i < 200000; i++) {
        char text[64];
        const uint64_t r = next_random();

        snprintf(text, sizeof text, "%llu.%04llue%d", (unsigned long long)(r >> 40),
                 (unsigned long long)(r & 0xFFFF) % 10000, (int)(r >> 20 & 0x3FF) - 512);
        if (to_bits(read_all(text)) != to_bits(strtod(text, NULL)))
            CHECK_STR(text, "the same double");
    }
}

/* The shortest text: it reads back, and no text of fewer digits does. */
TEST(written_doubles_read_back_and_are_shortest)
{
    for (int i = 0; i < 100000; i++) {
        const uint64_t r = next_random();
        const double v = i % 3 == 0   ? from_bits(r)
                         : i % 3 == 1 ? (double)(int64_t)(r >> 30) / 1000.0
                                      : from_bits(r & ~(UINT64_C(0x7FF) << 52) % 4096);
        char text[32], shorter[64];
        int digits = 0, seen = 0;

        if (!isfinite(v) || v == 0)
            continue;
        mk_number_write(text, v);
        CHECK(to_bits(read_all(text)) == to_bits(v));
        for (const char *c = text; *c != '\0' && *c != 'e'; c++)
            if (*c >= '0' && *c <= '9') {
                seen |= *c != '0';
                digits += seen;
            }
        const char *point = strchr(text, '.');

        if (point != NULL && point[1] == '0' && (point[2] == '\0' || point[2] == 'e'))
            continue;    /* "120.0": digits that only hold the place */
        if (digits > 1) {
            snprintf(shorter, sizeof shorter, "%.*e", digits - 2, v);
            CHECK(to_bits(strtod(shorter, NULL)) != to_bits(v));
        }
    }
}

TEST(doubles_are_written_as_python_does)
{
    check_write(0.0, "0.0");
    check_write(-0.0, "-0.0");
    check_write(1.0, "1.0");
    check_write(-1.5, "-1.5");
    check_write(0.1, "0.1");
    check_write(0.3, "0.3");
    check_write(0.1 + 0.2, "0.30000000000000004");
    check_write(100.0, "100.0");
    check_write(123456.789, "123456.789");
    check_write(0.0001, "0.0001");
    check_write(0.00012345, "0.00012345");
    check_write(0.00001, "1e-05");
    check_write(1e15, "1000000000000000.0");
    check_write(1e16, "1e+16");
    check_write(12345678901234567.0, "1.2345678901234568e+16");
    check_write(9007199254740992.0, "9007199254740992.0");
    check_write(1e22, "1e+22");
    check_write(1e23, "1e+23");
    check_write(1e100, "1e+100");
    check_write(5e-324, "5e-324");
    check_write(2.2250738585072014e-308, "2.2250738585072014e-308");
    check_write(1.7976931348623157e308, "1.7976931348623157e+308");
    check_write(5.684341886080802e-14, "5.684341886080802e-14");
    check_write(9.5367431640625e-07, "9.5367431640625e-07");
    check_write((double)INFINITY, "inf");
    check_write(-(double)INFINITY, "-inf");
    check_write((double)NAN, "nan");
}

TEST(hard_cases_round_to_nearest_even)
{
    CHECK(read_all("9007199254740993") == 9007199254740992.0);
    CHECK(read_all("9007199254740993.0000000000000000000000000001") == 9007199254740994.0);
    CHECK(read_all("9007199254740995") == 9007199254740996.0);
    CHECK(read_all("2.2250738585072011e-308") == from_bits(0x000FFFFFFFFFFFFFu));
    CHECK(read_all("2.4703282292062327e-324") == 0.0);
    CHECK(read_all("2.4703282292062328e-324") == from_bits(1));
    CHECK(read_all("1.7976931348623158e308") == 1.7976931348623157e308);
    CHECK(read_all("1.7976931348623159e308") == (double)INFINITY);
    CHECK(read_all("1e999999999999999999999") == (double)INFINITY);
    CHECK(read_all("-1e-999999999999999999999") == 0.0);
    CHECK(read_all("0e999999999999") == 0.0);
    CHECK(to_bits(read_all("-0")) == UINT64_C(1) << 63);
}

TEST(digits_far_behind_break_a_tie)
{
    char text[3000];

    memset(text, '0', sizeof text);
    memcpy(text, "9007199254740993.", 17);
    text[2998] = '1';
    text[2999] = '\0';
    CHECK(read_all(text) == 9007199254740994.0);
    text[2998] = '0';
    CHECK(read_all(text) == 9007199254740992.0);
}

TEST(only_the_number_is_read)
{
    double v = 7.0;

    CHECK_INT(mk_number_read("1.5,", 4, &v), 3);
    CHECK_INT(mk_number_read("1.x", 3, &v), 1);
    CHECK_INT(mk_number_read("1e+", 3, &v), 1);
    CHECK_INT(mk_number_read("012", 3, &v), 1);
    v = 7.0;
    CHECK_INT(mk_number_read("", 0, &v), 0);
    CHECK_INT(mk_number_read("-", 1, &v), 0);
    CHECK_INT(mk_number_read(".5", 2, &v), 0);
    CHECK_INT(mk_number_read("+1", 2, &v), 0);
    CHECK_INT(mk_number_read("nan", 3, &v), 0);
    CHECK(v == 7.0);
}

TEST(neither_rounding_mode_nor_locale_matters)
{
    static const int modes[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    const int comma = locale_with_comma();

    for (size_t m = 0; m < 3; m++) {
        char text[32];

        fesetround(modes[m]);
        CHECK(to_bits(read_all("0.1")) == UINT64_C(0x3FB999999999999A));
        CHECK(to_bits(read_all("1e23")) == UINT64_C(0x44B52D02C7E14AF6));
        mk_number_write(text, from_bits(UINT64_C(0x3FD3333333333334)));
        CHECK_STR(text, "0.30000000000000004");
        fesetround(FE_TONEAREST);
    }
    if (comma)
        locale_leave();
    else
        printf("no locale with a decimal comma can be made here\n");
}

TEST_MAIN(RUN(random_doubles_read_as_strtod_does), RUN(short_decimals_read_as_strtod_does),
          RUN(written_doubles_read_back_and_are_shortest),
          RUN(doubles_are_written_as_python_does), RUN(hard_cases_round_to_nearest_even),
          RUN(digits_far_behind_break_a_tie), RUN(only_the_number_is_read),
          RUN(neither_rounding_mode_nor_locale_matters))
