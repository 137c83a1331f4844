/* The released tokenizers against the reference's ids, pieces and texts.  The data is
 * DeepSeek's and lies beside the project; without it these tests are skipped. */
#include "text_data.h"

#include "base/error.h"
#include "base/utf8.h"
#include "text/unicode.h"

#define MAX_IDS 400000
#define NO_DATA "needs " TEXT_SHARED

static struct text_heap heap;
static struct mk_env env;
static int32_t ids[MAX_IDS];

/* Call check for each line of a file of JSON lines; returns how many, 0 where it is absent. */
static size_t each_line(const char *path, void (*check)(const struct mk_json *row, void *user),
                        void *user)
{
    size_t len = 0, n = 0;
    char *lines = text_load(path, &len);

    env = text_env(&heap);
    for (char *line = lines; lines != NULL && line < lines + len; n++) {
        char *next = memchr(line, '\n', (size_t)(lines + len - line));
        struct mk_arena arena;
        const struct mk_json *row = NULL;

        next = next != NULL ? next + 1 : lines + len;
        mk_arena_init(&arena, &env.alloc);
        CHECK_INT(mk_json_parse(&row, &arena, line, (size_t)(next - line), path), MINKE_OK);
        if (row != NULL)
            check(row, user);
        mk_arena_free(&arena);
        line = next;
    }
    free(lines);
    return n;
}

/* A tokenizer and the name of its ids in the rows. */
struct subject {
    const char *name, *instead;
    struct mk_tokenizer *tok;
};

/* R1's tokenizer: V3's, in which two placeholders became <think> and </think>. */
static struct mk_tokenizer *open_r1(void)
{
    static const char *const from[] = {"no\342\226\201798\357\275\234>", "no\342\226\201799"};
    static const char *const to[] = {
        "\"id\":128798,\"content\":\"<think>\"", "\"id\":128799,\"content\":\"</think>\""
    };
    struct mk_tokenizer *tok = NULL;
    size_t len = 0;
    char *json = text_load(TEXT_SHARED "/deepseek-v3/tokenizer.json", &len);

    for (int i = 0; i < 2 && json != NULL; i++) {
        char *begin = strstr(json, from[i]), *end;
        char text[256];
        int n;

        CHECK(begin != NULL);
        if (begin == NULL)
            break;
        end = strchr(begin, '}');
        while (*begin != '{')
            begin--;
        n = snprintf(text, sizeof(text), "{%s,\"single_word\":false,\"lstrip\":false,"
                     "\"rstrip\":false,\"normalized\":true,\"special\":false", to[i]);
        CHECK(n < end - begin);
        if (n < 0 || n >= end - begin)
            break;
        memcpy(begin, text, (size_t)n);
        memset(begin + n, ' ', (size_t)(end - begin - n));
    }
    if (json != NULL)
        CHECK_INT(text_read(&tok, &env, json, len, NULL, -1), MINKE_OK);
    free(json);
    return tok;
}

static int open_subjects(struct subject s[4])
{
    static const char *const names[] = {"v31", "v2", "v3", "r1"};
    static const char *const folders[] = {"deepseek-v3.1", "deepseek-v2", "deepseek-v3"};

    env = text_env(&heap);
    for (int i = 0; i < 4; i++) {
        char path[256];

        snprintf(path, sizeof(path), TEXT_SHARED "/%s/tokenizer.json", folders[i % 3]);
        s[i].name = names[i];
        s[i].instead = i == 1 ? NULL : names[0];
        s[i].tok = i < 3 ? text_open(path, &env) : open_r1();
        if (s[i].tok == NULL)
            return -1;
    }
    return 0;
}

static void close_subjects(struct subject s[4])
{
    for (int i = 0; i < 4; i++)
        mk_tokenizer_free(s[i].tok);
}

static void check_ids(const struct mk_json *row, const struct subject *s, const char *text,
                      size_t len)
{
    const struct mk_json *expected = mk_json_get(row, s->name);
    const size_t n = text_encode(s->tok, text, len, ids, MAX_IDS);

    if (expected == NULL && s->instead != NULL)
        expected = mk_json_get(row, s->instead);
    if (!text_same_ids(expected, ids, n))
        fprintf(stderr, "%s: %.80s\n", s->name, text);
    CHECK(text_same_ids(expected, ids, n));
}

static void check_vector(const struct mk_json *row, void *user)
{
    const struct mk_json *text = mk_json_get(row, "text");
    const struct subject *s = user;

    for (int i = 0; i < 4; i++)
        check_ids(row, &s[i], text->text.data, text->text.len);
}

TEST(every_vector_matches_the_reference)
{
    struct subject s[4] = {{NULL, NULL, NULL}};

    if (open_subjects(s) == 0)
        CHECK_INT(each_line(TEXT_SHARED "/vectors.jsonl", check_vector, s), 8960);
    close_subjects(s);
    if (s[0].tok == NULL)
        SKIP(NO_DATA);
}

static void check_broken(const struct mk_json *row, void *user)
{
    const struct mk_json *hex = mk_json_get(row, "hex");
    const struct subject *s = user;
    char text[4096];
    size_t n = 0;

    for (; 2 * n < hex->text.len && n < sizeof(text); n++) {
        const char digits[3] = {hex->text.data[2 * n], hex->text.data[2 * n + 1], '\0'};

        text[n] = (char)strtoul(digits, NULL, 16);
    }
    check_ids(row, &s[0], text, n);
    check_ids(row, &s[1], text, n);
}

TEST(broken_utf8_encodes_as_its_replacement)
{
    struct subject s[4] = {{NULL, NULL, NULL}};

    if (open_subjects(s) == 0)
        CHECK_INT(each_line(TEXT_SHARED "/invalid_utf8.jsonl", check_broken, s), 151);
    close_subjects(s);
    if (s[0].tok == NULL)
        SKIP(NO_DATA);
}

/* The pieces of a text side by side, each behind a byte that no UTF-8 holds. */
struct pieces {
    char out[1 << 20];
    size_t n;
};

static int32_t add_piece(void *user, struct mk_view piece)
{
    struct pieces *p = user;

    p->out[p->n++] = '\xFF';
    memcpy(p->out + p->n, piece.data, piece.len);
    p->n += piece.len;
    return MINKE_OK;
}

/* The rows do not repeat the text: it is the pieces together. */
static void check_pieces(const struct mk_json *row, void *user)
{
    static const char *const names[] = {"v31", "v2"};
    static struct pieces p;
    static char text[1 << 20], expected[1 << 20];

    (void)user;
    for (int k = 0; k < 2; k++) {
        const struct mk_json *list = mk_json_get(row, names[k]);
        size_t len = 0, n = 0;

        CHECK(list != NULL && list->n_items > 0);
        for (const struct mk_json *v = list->first; v != NULL; v = v->next) {
            memcpy(text + len, v->text.data, v->text.len);
            len += v->text.len;
            expected[n++] = '\xFF';
            memcpy(expected + n, v->text.data, v->text.len);
            n += v->text.len;
        }
        p.n = 0;
        CHECK_INT(mk_pretoken_split(k == 0 ? MK_PRETOKEN_V3 : MK_PRETOKEN_LLM,
                                    (struct mk_view){text, len}, add_piece, &p), MINKE_OK);
        if (p.n != n || memcmp(p.out, expected, n) != 0)
            fprintf(stderr, "%s: row %s\n", names[k], mk_json_get(row, "id")->text.data);
        CHECK(p.n == n && memcmp(p.out, expected, n) == 0);
    }
}

TEST(every_text_is_cut_as_the_reference_cuts_it)
{
    const size_t n = each_line(TEXT_SHARED "/pretokens.jsonl", check_pieces, NULL);

    if (n == 0)
        SKIP(NO_DATA);
    CHECK_INT(n, 8421);
}

/* Decoded text of ids: their bytes with U+FFFD for what is broken. */
static size_t decode(const struct mk_tokenizer *tok, const struct mk_json *list, int skip,
                     char *out)
{
    static char bytes[1 << 16];
    size_t len = 0, n = 0, m;

    for (const struct mk_json *v = list->first; v != NULL; v = v->next) {
        int64_t id = -1;
        struct mk_view token;

        CHECK_INT(mk_json_int(v, &id), 0);
        token = mk_tokenizer_bytes(tok, (int32_t)id);
        if (skip && mk_tokenizer_is_special(tok, (int32_t)id))
            continue;
        memcpy(bytes + len, token.data, token.len);
        len += token.len;
    }
    for (size_t i = 0; i < len; i += m) {
        enum mk_utf8_state state;

        m = mk_utf8_unit(bytes + i, len - i, &state);
        memcpy(out + n, state == MK_UTF8_VALID ? bytes + i : "\357\277\275",
               state == MK_UTF8_VALID ? m : 3);
        n += state == MK_UTF8_VALID ? m : 3;
    }
    return n;
}

static void check_decode(const struct mk_json *row, void *user)
{
    static char out[1 << 18];
    const struct subject *s = user;
    const struct mk_tokenizer *tok = s[mk_json_is(mk_json_get(row, "tok"), "v2")].tok;

    for (int skip = 0; skip < 2; skip++) {
        const struct mk_json *expected = mk_json_get(row, skip ? "skip" : "keep");
        const size_t n = decode(tok, mk_json_get(row, "ids"), skip, out);

        CHECK(n == expected->text.len && memcmp(out, expected->text.data, n) == 0);
    }
}

TEST(every_list_of_ids_decodes_as_the_reference_does)
{
    struct subject s[4] = {{NULL, NULL, NULL}};

    if (open_subjects(s) == 0)
        CHECK_INT(each_line(TEXT_SHARED "/decode.jsonl", check_decode, s), 7278);
    close_subjects(s);
    if (s[0].tok == NULL)
        SKIP(NO_DATA);
}

TEST(character_classes_are_those_of_unicode_16)
{
    static const char *const names[] = {"L", "M", "N", "P", "S", "s"};
    size_t len = 0;
    char *json = text_load(TEXT_SHARED "/unicode-16-classes.json", &len);
    const struct mk_json *root = NULL;
    struct mk_arena arena;

    if (json == NULL)
        SKIP(NO_DATA);
    env = text_env(&heap);
    mk_arena_init(&arena, &env.alloc);
    CHECK_INT(mk_json_parse(&root, &arena, json, len, "classes"), MINKE_OK);
    for (int k = 0; k < 6; k++) {
        const struct mk_json *ranges = mk_json_get(mk_json_get(root, names[k]), "ranges");
        uint32_t last = 0;

        CHECK(ranges != NULL && ranges->n_items > 0);
        /* Up to each range's end: no before it begins, yes from there on. */
        for (const struct mk_json *v = ranges->first; v != NULL; v = v->next) {
            int64_t ends[2] = {0, 0};

            CHECK(mk_json_int(v->first, &ends[0]) == 0
                  && mk_json_int(v->first->next, &ends[1]) == 0);
            for (uint32_t c = last; c <= (uint32_t)ends[1]; c++)
                if (((mk_unicode_class(c) >> k & 1) != 0) != (c >= (uint32_t)ends[0]))
                    CHECK_INT(c, -1);
            last = (uint32_t)ends[1] + 1;
        }
        for (uint32_t c = last; c < 0x110000; c++)
            if ((mk_unicode_class(c) >> k & 1) != 0)
                CHECK_INT(c, -1);
    }
    mk_arena_free(&arena);
    free(json);
}

TEST_MAIN(
    RUN(every_vector_matches_the_reference);
    RUN(broken_utf8_encodes_as_its_replacement);
    RUN(every_text_is_cut_as_the_reference_cuts_it);
    RUN(every_list_of_ids_decodes_as_the_reference_does);
    RUN(character_classes_are_those_of_unicode_16))
