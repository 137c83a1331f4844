#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L /* posix_memalign */
#endif
/* The JSON reader on conforming and broken texts, and the writer. */
#include "base/env.h"
#include "base/error.h"
#include "base/json.h"
#include "test.h"

static const struct mk_allocator plain = {NULL, NULL, NULL};
static struct mk_arena arena;

static const struct mk_json *parse_n(const char *text, size_t n)
{
    const struct mk_json *v = NULL;

    return mk_json_parse(&v, &arena, text, n, "t.json") == MINKE_OK ? v : NULL;
}

static const struct mk_json *parse(const char *text)
{
    return parse_n(text, strlen(text));
}

static void check_bad(const char *text, const char *message)
{
    const struct mk_json *v = NULL;

    CHECK_INT(mk_json_parse(&v, &arena, text, strlen(text), "t.json"), MINKE_EFORMAT);
    CHECK(v == NULL);
    CHECK_HAS(minke_last_error(), "t.json: byte ");
    CHECK_HAS(minke_last_error(), message);
}

static void check_text(const char *text, const char *expected, size_t n)
{
    const struct mk_json *v = parse(text);

    CHECK(v != NULL && v->type == MK_JSON_STRING);
    if (v != NULL) {
        CHECK_INT(v->text.len, n);
        CHECK(memcmp(v->text.data, expected, n + 1) == 0);
    }
}

static void check_rewrite(const char *text, const char *expected)
{
    const struct mk_json *v = parse(text);
    struct mk_text t;

    mk_text_init(&t, &plain);
    CHECK(v != NULL);
    if (v != NULL) {
        mk_text_add_json(&t, v);
        CHECK(!t.failed);
        CHECK_STR(t.data, expected);
    }
    mk_text_free(&t);
}

TEST(values_of_every_kind_are_read)
{
    const struct mk_json *v = parse(" { \"a\" : [ 1 , -2.5e3, true,false , null, \"x\" ] , "
                                    "\"b\":{}, \"c\":[] }\r\n\t");
    const struct mk_json *a = mk_json_get(v, "a");
    int64_t i;
    double d;

    CHECK(v != NULL && v->type == MK_JSON_OBJECT && v->n_items == 3);
    CHECK(a != NULL && a->type == MK_JSON_ARRAY && a->n_items == 6);
    CHECK(mk_json_int(a->first, &i) == 0 && i == 1);
    CHECK(mk_json_int(a->first->next, &i) == 0 && i == -2500);
    CHECK(mk_json_double(a->first->next, &d) == 0 && d == -2500.0);
    CHECK(a->first->next->next->type == MK_JSON_TRUE);
    CHECK(mk_json_get(v, "b")->n_items == 0 && mk_json_get(v, "b")->first == NULL);
    CHECK(mk_json_get(v, "d") == NULL && mk_json_get(a, "a") == NULL);
    CHECK(mk_json_get(NULL, "a") == NULL);
    CHECK(mk_json_is(a->first->next->next->next->next->next, "x"));
}

TEST(broken_texts_are_refused_with_the_byte)
{
    check_bad("", "value expected");
    check_bad("  ", "value expected");
    check_bad("nul", "value expected");
    check_bad("nulll", "nothing expected behind");
    check_bad("1 2", "nothing expected behind");
    check_bad("[1,]", "value expected");
    check_bad("[,1]", "value expected");
    check_bad("[1 2]", "expected");
    check_bad("[1", "expected");
    check_bad("[", "expected");
    check_bad("]", "value expected");
    check_bad("[1}", "expected");
    check_bad("{\"a\":1,}", "key expected");
    check_bad("{,}", "key expected");
    check_bad("{a:1}", "key expected");
    check_bad("{\"a\" 1}", "':' expected");
    check_bad("{\"a\":}", "value expected");
    check_bad("{\"a\":1", "expected");
    check_bad("{\"a\":1]", "expected");
    check_bad("\"a", "string without end");
    check_bad("\"a\nb\"", "control character");
    check_bad("\"\\x\"", "unknown escape");
    check_bad("\"\\", "escape");
    check_bad("\"\\u12\"", "hexadecimal");
    check_bad("\"\\u12g4\"", "hexadecimal");
    check_bad("\xEF\xBB\xBF{}", "value expected");
    check_bad("'a'", "value expected");
    check_bad("NaN", "value expected");
    check_bad("Infinity", "value expected");
    check_bad("/* */1", "value expected");
}

TEST(numbers_follow_the_grammar)
{
    check_bad("01", "nothing expected");
    check_bad("-", "digit expected");
    check_bad("+1", "value expected");
    check_bad(".5", "value expected");
    check_bad("1.", "digit expected");
    check_bad("1.e5", "digit expected");
    check_bad("1e", "digit expected");
    check_bad("1e+", "digit expected");
    check_bad("-a", "digit expected");
    check_bad("0x10", "nothing expected");
    CHECK(parse("-0") != NULL && parse("0.0") != NULL && parse("1E-2") != NULL);
    CHECK(parse("0e5") != NULL && parse("-0.0e-0") != NULL);
}

TEST(only_whole_numbers_in_range_are_ints)
{
    int64_t i = 77;

    CHECK(mk_json_int(parse("1e3"), &i) == 0 && i == 1000);
    CHECK(mk_json_int(parse("3.0"), &i) == 0 && i == 3);
    CHECK(mk_json_int(parse("1.5e1"), &i) == 0 && i == 15);
    CHECK(mk_json_int(parse("0e99999999999999999999"), &i) == 0 && i == 0);
    CHECK(mk_json_int(parse("9223372036854775807"), &i) == 0 && i == INT64_MAX);
    CHECK(mk_json_int(parse("-9223372036854775808"), &i) == 0 && i == INT64_MIN);
    i = 77;
    CHECK(mk_json_int(parse("9223372036854775808"), &i) != 0);
    CHECK(mk_json_int(parse("-9223372036854775809"), &i) != 0);
    CHECK(mk_json_int(parse("18446744073709551616"), &i) != 0);
    CHECK(mk_json_int(parse("1e19"), &i) != 0);
    CHECK(mk_json_int(parse("1e99999999999999999999"), &i) != 0);
    CHECK(mk_json_int(parse("1.5"), &i) != 0);
    CHECK(mk_json_int(parse("1e-1"), &i) != 0);
    CHECK(mk_json_int(parse("\"1\""), &i) != 0);
    CHECK(mk_json_int(NULL, &i) != 0);
    CHECK_INT(i, 77);
    double d = 5.0;
    CHECK(mk_json_double(parse("1e999"), &d) != 0 && d == 5.0);
}

TEST(strings_are_decoded)
{
    check_text("\"\"", "", 0);
    check_text("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8);
    check_text("\"\\u0041\\u00e9\\u20AC\"", "A\xC3\xA9\xE2\x82\xAC", 6);
    check_text("\"\\ud83d\\ude00\"", "\xF0\x9F\x98\x80", 4);
    check_text("\"a\\u0000b\"", "a\0b", 3);
    check_text("\"twelve chars, and \\n more than sixteen\"",
               "twelve chars, and \n more than sixteen", 37);
    check_text("\"\x7F \xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80\"",
               "\x7F \xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80", 13);
}

TEST(lone_surrogates_and_broken_utf8_are_refused)
{
    check_bad("\"\\ud800\"", "lone surrogate");
    check_bad("\"\\udc00\"", "lone surrogate");
    check_bad("\"\\ud800\\ud800\"", "lone surrogate");
    check_bad("\"\\ud800x\"", "lone surrogate");
    check_bad("\"\\ud800\\n\"", "lone surrogate");
    check_bad("\"\x80\"", "not UTF-8");
    check_bad("\"\xC0\x80\"", "not UTF-8");
    check_bad("\"\xC3\"", "not UTF-8");
    check_bad("\"\xE0\x80\x80\"", "not UTF-8");
    check_bad("\"\xED\xA0\x80\"", "not UTF-8");
    check_bad("\"\xF0\x80\x80\x80\"", "not UTF-8");
    check_bad("\"\xF4\x90\x80\x80\"", "not UTF-8");
    check_bad("\"\xF8\x88\x80\x80\x80\"", "not UTF-8");
    check_bad("{\"\xFF\":1}", "not UTF-8");
}

TEST(repeated_keys_are_refused_in_small_and_large_objects)
{
    char text[8192];
    size_t n;

    check_bad("{\"a\":1,\"a\":2}", "\"a\" is repeated");
    check_bad("{\"a\":1,\"\\u0061\":2}", "\"a\" is repeated");
    CHECK(parse("{\"a\":{\"a\":1},\"b\":{\"a\":1}}") != NULL);
    n = mk_format(text, sizeof text, "{");
    for (int i = 0; i < 300; i++)
        n += mk_format(text + n, sizeof text - n, "\"k%d\":%d,", i, i);
    mk_format(text + n, sizeof text - n, "\"end\":0}");
    const struct mk_json *v = parse(text);

    CHECK(v != NULL && v->n_items == 301);
    for (int i = 0; i < 300; i++) {
        char key[16];
        int64_t value = -1;

        mk_format(key, sizeof key, "k%d", i);
        CHECK(mk_json_int(mk_json_get(v, key), &value) == 0 && value == i);
    }
    CHECK(mk_json_get(v, "k300") == NULL);
    mk_format(text + n, sizeof text - n, "\"k7\":0}");
    check_bad(text, "\"k7\" is repeated");
}

TEST(nesting_stops_at_the_limit)
{
    static char text[2 * 100000 + 1];

    memset(text, '[', MK_JSON_MAX_DEPTH);
    memset(text + MK_JSON_MAX_DEPTH, ']', MK_JSON_MAX_DEPTH);
    CHECK(parse_n(text, 2 * MK_JSON_MAX_DEPTH) != NULL);
    memset(text, '[', sizeof text - 1);
    CHECK(parse_n(text, 100000) == NULL);
    CHECK_HAS(minke_last_error(), "nested too deeply");
}

/* Copies of exact length, so that a sanitizer sees a read behind the end. */
TEST(every_prefix_of_a_document_is_refused)
{
    const char text[] = "{\"a\": [1.5e+3, \"\\ud83d\\ude00\xE2\x82\xAC\", true], \"b\": null}";

    for (size_t n = 0; n + 1 < sizeof text; n++) {
        char *copy = malloc(n + (n == 0));

        memcpy(copy, text, n);
        CHECK(parse_n(copy, n) == NULL);
        free(copy);
    }
    CHECK(parse(text) != NULL);
}

TEST(large_objects_take_linear_time)
{
    uint64_t times[2] = {UINT64_MAX, UINT64_MAX};

    for (int size = 0; size < 2; size++) {
        const size_t n = size == 0 ? 65536 : 131072, room = n * 24;
        char *text = malloc(room);
        size_t len = mk_format(text, room, "{");

        for (size_t i = 0; i < n; i++)
            len += mk_format(text + len, room - len, "%s\"key%zu\":%zu", i > 0 ? "," : "", i, i);
        len += mk_format(text + len, room - len, "}");
        for (int run = 0; run < 5; run++) {
            struct mk_arena own;
            const struct mk_json *v = NULL;
            const uint64_t start = mk_time_ns();

            mk_arena_init(&own, &plain);
            CHECK_INT(mk_json_parse(&v, &own, text, len, "big"), MINKE_OK);
            CHECK(mk_json_get(v, "key65535") != NULL);
            const uint64_t took = mk_time_ns() - start;

            times[size] = took < times[size] ? took : times[size];
            mk_arena_free(&own);
        }
        free(text);
    }
    CHECK(times[1] < 6 * times[0]);
}

TEST(values_are_written_as_python_does)
{
    check_rewrite("{\"a\":[1,2.50,-0,1e2,true,null],\"b\":{}}",
                  "{\"a\": [1, 2.5, 0, 100.0, true, null], \"b\": {}}");
    check_rewrite("[]", "[]");
    check_rewrite("[[[]],{\"x\":[{}]}]", "[[[]], {\"x\": [{}]}]");
    check_rewrite("123456789012345678901234567890", "123456789012345678901234567890");
    check_rewrite("1E400", "1E400");
    check_rewrite("\"\\u00e9\\u0001\\u001f\\n\\\"\\\\/\x7F\"",
                  "\"\xC3\xA9\\u0001\\u001f\\n\\\"\\\\/\x7F\"");
    check_rewrite("\"\\b\\f\\r\\t\\u000b\"", "\"\\b\\f\\r\\t\\u000b\"");
}

static void *fail_alloc(void *user, size_t size, size_t align)
{
    int *left = user;
    void *p = NULL;

    return (*left)-- > 0 && posix_memalign(&p, align, size) == 0 ? p : NULL;
}

static void fail_free(void *user, void *p, size_t size)
{
    (void)user;
    (void)size;
    free(p);
}

TEST(a_failing_allocation_is_told_and_leaks_nothing)
{
    for (int n = 0; n < 20; n++) {
        int left = n;
        const struct mk_allocator a = {fail_alloc, fail_free, &left};
        const struct mk_json *v = NULL;
        struct mk_arena own;
        struct mk_text t;

        mk_arena_init(&own, &a);
        mk_text_init(&t, &a);
        const int32_t status = mk_json_parse(&v, &own, "[[1],{\"a\":\"b\"}]", 15, "t");

        CHECK(status == MINKE_OK || status == MINKE_ENOMEM);
        if (status == MINKE_OK) {
            mk_text_add_json(&t, v);
            CHECK(t.failed || strcmp(t.data, "[[1], {\"a\": \"b\"}]") == 0);
        }
        mk_text_free(&t);
        mk_arena_free(&own);
    }
}

TEST_MAIN(mk_arena_init(&arena, &plain), RUN(values_of_every_kind_are_read),
          RUN(broken_texts_are_refused_with_the_byte), RUN(numbers_follow_the_grammar),
          RUN(only_whole_numbers_in_range_are_ints), RUN(strings_are_decoded),
          RUN(lone_surrogates_and_broken_utf8_are_refused),
          RUN(repeated_keys_are_refused_in_small_and_large_objects),
          RUN(nesting_stops_at_the_limit), RUN(every_prefix_of_a_document_is_refused),
          RUN(large_objects_take_linear_time), RUN(values_are_written_as_python_does),
          RUN(a_failing_allocation_is_told_and_leaks_nothing), mk_arena_free(&arena))
