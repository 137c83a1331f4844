/* Views of text, characters of UTF-8, and text that grows. */
#include "base/text.h"
#include "base/utf8.h"
#include "minke.h"
#include "test.h"

static int is(struct mk_view v, const char *text)
{
    return mk_view_is(v, text);
}

TEST(parts_are_found_from_both_ends)
{
    const struct mk_view v = MK_VIEW("abcabca"), none = {NULL, 0};

    CHECK_INT(mk_view_find(v, 0, mk_view("abca")), 0);
    CHECK_INT(mk_view_find(v, 1, mk_view("abca")), 3);
    CHECK_INT(mk_view_find(v, 4, mk_view("abca")), v.len);
    CHECK_INT(mk_view_find(v, 9, mk_view("a")), v.len);
    CHECK_INT(mk_view_find_last(v, 0, mk_view("bc")), 4);
    CHECK_INT(mk_view_find_last(v, 5, mk_view("bc")), v.len);
    CHECK_INT(mk_view_find(none, 0, mk_view("a")), 0);
    CHECK_INT(mk_view_find_last(none, 0, mk_view("a")), 0);
}

TEST(what_stands_behind_the_last_part_is_the_rest_or_all)
{
    CHECK(is(mk_view_behind_last(mk_view("a--b--c"), mk_view("--")), "c"));
    CHECK(is(mk_view_behind_last(mk_view("a--"), mk_view("--")), ""));
    CHECK(is(mk_view_behind_last(mk_view("a---b"), mk_view("--")), "-b"));
    CHECK(is(mk_view_behind_last(mk_view("abc"), mk_view("--")), "abc"));
    CHECK(is(mk_view_behind_last(mk_view(""), mk_view("--")), ""));
    CHECK(mk_view_behind_last((struct mk_view){NULL, 0}, mk_view("--")).data == NULL);
}

TEST(white_space_of_ascii_is_trimmed)
{
    const struct mk_view blank = MK_VIEW(" \t\n");

    CHECK(is(mk_view_trim(mk_view("\v\f\r\n\t a b \n")), "a b"));
    CHECK(is(mk_view_trim(mk_view("\xC2\xA0")), "\xC2\xA0"));
    CHECK(mk_view_trim(blank).len == 0 && mk_view_trim(blank).data == blank.data + 3);
    CHECK(mk_view_trim((struct mk_view){NULL, 0}).len == 0);
}

TEST(a_character_is_read_or_none_of_its_unit)
{
    static const struct {
        const char *text;
        int32_t c;
        size_t len;
    } cases[] = {{"a", 'a', 1}, {"\xC3\xA4z", 0xE4, 2}, {"\xE9\xB2\xB8", 0x9CB8, 3},
                 {"\xF0\x9F\x90\x8B", 0x1F40B, 4}, {"\xFFz", -1, 1}, {"\xE9\xB2z", -1, 2},
                 {"\xED\xA0\x80", -1, 1}, {"\xC3", -1, 1}};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t len = 0;

        CHECK_INT(mk_utf8_read(cases[i].text, strlen(cases[i].text), &len), cases[i].c);
        CHECK_INT(len, cases[i].len);
    }
}

TEST(a_format_is_added_to_a_text_and_delivered)
{
    const struct mk_allocator plain = {NULL, NULL, NULL};
    struct mk_text t;
    char out[64], nothing[1] = "";
    size_t n = 0;

    mk_text_init(&t, &plain);
    mk_text_adds(&t, "<");
    for (int i = 0; i < 5; i++)
        mk_text_addf(&t, "%d%s", i, i < 4 ? ", " : "");
    mk_text_addf(&t, "%s", "");
    mk_text_adds(&t, ">");
    CHECK_STR(t.data, "<0, 1, 2, 3, 4>");
    CHECK_INT(mk_text_deliver(&t, out, sizeof out, &n), MINKE_OK);
    CHECK(n == 15 && memcmp(out, "<0, 1, 2, 3, 4>", n) == 0);
    mk_text_addf(&t, "%zu", n);
    CHECK_INT(mk_text_deliver(&t, nothing, 1, &n), MINKE_ENOSPC);
    CHECK_INT(n, 2);
}

/* An allocator that has nothing left. */
static void *no_memory(void *user, size_t size, size_t align)
{
    (void)user, (void)size, (void)align;
    return NULL;
}

static void free_nothing(void *user, void *ptr, size_t size)
{
    (void)user, (void)ptr, (void)size;
}

TEST(a_text_without_memory_says_so_once_it_is_delivered)
{
    const struct mk_allocator none = {no_memory, free_nothing, NULL};
    struct mk_text t;
    size_t n = 7;

    mk_text_init(&t, &none);
    mk_text_addf(&t, "%d", 1);
    mk_text_adds(&t, "x");
    CHECK(t.failed && t.len == 0);
    CHECK_INT(mk_text_deliver(&t, NULL, 0, &n), MINKE_ENOMEM);
    CHECK_INT(n, 7);
}

TEST_MAIN(RUN(parts_are_found_from_both_ends),
          RUN(what_stands_behind_the_last_part_is_the_rest_or_all),
          RUN(white_space_of_ascii_is_trimmed), RUN(a_character_is_read_or_none_of_its_unit),
          RUN(a_format_is_added_to_a_text_and_delivered),
          RUN(a_text_without_memory_says_so_once_it_is_delivered))
