/* The tokenizer on the small one of tests/golden. */
#include "text_data.h"

#include "base/error.h"

static struct text_heap heap;
static struct mk_env env;

static struct mk_tokenizer *small(void)
{
    env = text_env(&heap);
    return text_open(TEXT_SMALL "/tokenizer.json", &env);
}

TEST(small_vectors_match_the_reference)
{
    struct mk_tokenizer *tok = small();
    size_t len, n_lines = 0;
    char *lines = text_load(TEXT_SMALL "/vectors.jsonl", &len), *end = lines + len;

    for (char *line = lines, *next; line < end; line = next, n_lines++) {
        struct mk_arena arena;
        const struct mk_json *row = NULL, *text;
        int32_t ids[256];

        next = (char *)memchr(line, '\n', (size_t)(end - line)) + 1;
        mk_arena_init(&arena, &env.alloc);
        CHECK_INT(mk_json_parse(&row, &arena, line, (size_t)(next - line), "vectors"), MINKE_OK);
        text = mk_json_get(row, "text");
        const size_t n = text_encode(tok, text->text.data, text->text.len, ids, 256);
        if (!text_same_ids(mk_json_get(row, "ids"), ids, n))
            fprintf(stderr, "%s", line);
        CHECK(text_same_ids(mk_json_get(row, "ids"), ids, n));
        mk_arena_free(&arena);
    }
    CHECK(n_lines > 30);
    free(lines);
    mk_tokenizer_free(tok);
    CHECK_INT(heap.held, 0);
}

TEST(facts_are_read)
{
    struct mk_tokenizer *tok = small();

    CHECK_STR(mk_tokenizer_kind(tok), "deepseek-v3");
    CHECK_INT(mk_tokenizer_size(tok), 512);
    CHECK_INT(mk_tokenizer_bos(tok), 0);
    CHECK_INT(mk_tokenizer_eos(tok), 1);
    CHECK(mk_tokenizer_template(tok).data == NULL);
    CHECK_INT(mk_tokenizer_find(tok, mk_view("<think>")), 509);
    CHECK_INT(mk_tokenizer_find(tok, mk_view(" t")), 260);
    CHECK_INT(mk_tokenizer_find(tok, mk_view("\xE6")), 3 + 0xE6);
    CHECK_INT(mk_tokenizer_find(tok, mk_view("no such token")), -1);
    CHECK_INT(mk_tokenizer_find(tok, mk_view("")), -1);
    CHECK_STR(mk_tokenizer_bytes(tok, 260).data, " t");
    CHECK_INT(mk_tokenizer_bytes(tok, 260).len, 2);
    CHECK_INT(mk_tokenizer_bytes(tok, 512).len, 0);
    CHECK_INT(mk_tokenizer_bytes(tok, -1).len, 0);
    CHECK(mk_tokenizer_is_special(tok, 0) && mk_tokenizer_is_special(tok, 511));
    CHECK(!mk_tokenizer_is_special(tok, 509) && !mk_tokenizer_is_special(tok, 512));
    mk_tokenizer_free(tok);
}

static int32_t open_with(const char *config, int32_t bos, struct mk_tokenizer **tok)
{
    size_t len;
    char *json = text_load(TEXT_SMALL "/tokenizer.json", &len);
    const int32_t status = text_read(tok, &env, json, len, config, bos);

    free(json);
    return status;
}

TEST(settings_name_special_tokens_by_text)
{
    struct mk_tokenizer *tok = NULL;

    env = text_env(&heap);
    CHECK_INT(open_with("{\"bos_token\": {\"content\": \"<think>\"}, \"eos_token\": \"</think>\","
                        " \"chat_template\": \"{{ bos_token }}\"}", 7, &tok), MINKE_OK);
    CHECK_INT(mk_tokenizer_bos(tok), 509);
    CHECK_INT(mk_tokenizer_eos(tok), 510);
    CHECK_STR(mk_tokenizer_template(tok).data, "{{ bos_token }}");
    CHECK_INT(mk_tokenizer_template(tok).len, 15);
    mk_tokenizer_free(tok);
    CHECK_INT(open_with("{\"bos_token\": null, \"eos_token\": \"unheard of\", \"chat_template\":"
                        " [{\"name\": \"tool_use\", \"template\": \"a\"},"
                        " {\"name\": \"default\", \"template\": \"b\"}]}", 7, &tok), MINKE_OK);
    CHECK_INT(mk_tokenizer_bos(tok), 0);
    CHECK_INT(mk_tokenizer_eos(tok), 1);
    CHECK_STR(mk_tokenizer_template(tok).data, "b");
    mk_tokenizer_free(tok);
    CHECK_INT(open_with("[]", -1, &tok), MINKE_EFORMAT);
    CHECK_INT(open_with("{", -1, &tok), MINKE_EFORMAT);
    CHECK_INT(heap.held, 0);
}

static int32_t encode(const struct mk_tokenizer *tok, struct mk_view text,
                      const struct mk_span *plain, size_t n_plain, int32_t ids[256], size_t *n)
{
    const struct mk_tokenize in = {text, MINKE_TOKENIZE_SPECIAL, plain, n_plain};

    return mk_tokenizer_encode(tok, &in, ids, 256, n);
}

/* Encode with plain spans, and compare with ids up to a negative one. */
static void check_plain(const struct mk_tokenizer *tok, const char *text,
                        const struct mk_span *plain, size_t n_plain, const char *same_as,
                        const int32_t *expected)
{
    int32_t ids[256], plain_ids[256];
    size_t n = 0, m = 0, i = 0;

    CHECK_INT(encode(tok, mk_view(text), plain, n_plain, ids, &n), MINKE_OK);
    if (same_as != NULL) {
        const struct mk_tokenize in = {mk_view(same_as), 0, NULL, 0};

        CHECK_INT(mk_tokenizer_encode(tok, &in, plain_ids, 256, &m), MINKE_OK);
        CHECK(n == m && memcmp(ids, plain_ids, n * sizeof(*ids)) == 0);
        return;
    }
    while (expected[i] >= 0)
        i++;
    CHECK_INT(n, i);
    CHECK(n == i && memcmp(ids, expected, n * sizeof(*ids)) == 0);
}

TEST(added_tokens_match_nothing_of_a_plain_span)
{
    struct mk_tokenizer *tok = small();
    const char *text = "<think><think>";
    const struct mk_span all = {0, 14}, first = {0, 7}, last_byte = {13, 14}, empty = {3, 3};
    const struct mk_span border[2] = {{6, 7}, {7, 8}};
    const struct mk_tokenize half = {{text, 7}, 0, NULL, 0};
    int32_t two[3] = {509, 509, -1}, ids[64], second[64];
    size_t n = 0;

    check_plain(tok, text, NULL, 0, NULL, two);
    check_plain(tok, text, &empty, 1, NULL, two);
    check_plain(tok, text, &all, 1, text, NULL);
    check_plain(tok, text, border, 2, text, NULL);
    CHECK_INT(mk_tokenizer_encode(tok, &half, ids, 64, &n), MINKE_OK);
    ids[n] = 509;
    ids[n + 1] = -1;
    check_plain(tok, text, &first, 1, NULL, ids);
    second[0] = 509;
    memcpy(second + 1, ids, n * sizeof(*ids));
    second[n + 1] = -1;
    check_plain(tok, text, &last_byte, 1, NULL, second);
    mk_tokenizer_free(tok);
}

TEST(plain_spans_move_with_broken_bytes)
{
    struct mk_tokenizer *tok = small();
    const char text[] = "\xFF\xFF<think>\xE4\xBD<think>\xF0";
    const struct mk_span plain = {11, 18}, wide = {0, 3};
    int32_t ids[256], other[256];
    size_t n = 0, m = 0;
    const char lossy[] = "\xEF\xBF\xBD\xEF\xBF\xBD<think>\xEF\xBF\xBD<think>\xEF\xBF\xBD";
    const struct mk_span moved = {16, 23}, wide_moved = {0, 7};

    for (int k = 0; k < 2; k++) {
        CHECK_INT(encode(tok, mk_view(text), k ? &wide : &plain, 1, ids, &n), MINKE_OK);
        CHECK_INT(encode(tok, mk_view(lossy), k ? &wide_moved : &moved, 1, other, &m), MINKE_OK);
        CHECK(n == m && memcmp(ids, other, n * sizeof(*ids)) == 0);
        CHECK(memchr(ids, 0xFD, n * sizeof(*ids)) != NULL);
    }
    mk_tokenizer_free(tok);
}

TEST(too_small_a_buffer_is_left_alone)
{
    struct mk_tokenizer *tok = small();
    const struct mk_tokenize in = {MK_VIEW("<think>x<think>y<think>"), MINKE_TOKENIZE_SPECIAL,
                                   NULL, 0};
    const struct mk_tokenize nothing = {{NULL, 0}, 0, NULL, 0};
    int32_t ids[4] = {-7, -7, -7, -7};
    size_t n = 0;

    CHECK_INT(mk_tokenizer_encode(tok, &in, ids, 4, &n), MINKE_ENOSPC);
    CHECK_INT(n, 5);
    CHECK(ids[0] == -7 && ids[3] == -7);
    CHECK_INT(mk_tokenizer_encode(tok, &nothing, NULL, 0, &n), MINKE_OK);
    CHECK_INT(n, 0);
    mk_tokenizer_free(tok);
    CHECK_INT(heap.held, 0);
}

/* One change of tokenizer.json, and what becomes of it. */
struct change {
    const char *from, *to;
    int32_t status;
    const char *message;
};

static const struct change changes[] = {
    {"\"!\": 36,", "\"!\": 37,", MINKE_EFORMAT, "37"},
    {"\"!\": 36,", "\"!\": 4611686018427387904,", MINKE_EFORMAT, "4611686018427387904"},
    {"\"!\": 36,", "\"!\": -1,", MINKE_EFORMAT, "-1"},
    {"\"!\": 36,", "\"!\": 36.5,", MINKE_EFORMAT, "36.5"},
    {"\"!\": 36,", "\"!\": \"36\",", MINKE_EFORMAT, "!"},
    {"\"!\": 36,", "\"!\": 1048576,", MINKE_EFORMAT, "1048576"},
    {"\"z\": 125,", "\"zzz\": 125,", MINKE_OK, NULL},
    {"\"h e\",", "\"h ezz\",", MINKE_EFORMAT, "ezz"},
    {"\"h e\",", "\"e h\",", MINKE_EFORMAT, "makes no token"},
    {"\"h e\",", "\"he\",", MINKE_EFORMAT, "he"},
    {"\"h e\",", "\"h e x\",", MINKE_EFORMAT, "h e x"},
    {"\"h e\",", "\"h \\uff5c\",", MINKE_EFORMAT, "names no token"},
    {"\"h e\",", "[\"h\", \"e\"],", MINKE_OK, NULL},
    {"\"h e\",", "[\"h\", 1],", MINKE_EFORMAT, "merge 0"},
    {"\"h e\",", "[\"h\"],", MINKE_EFORMAT, "merge 0"},
    {"\"h e\",", "17,", MINKE_EFORMAT, "merge 0"},
    {"\"h e\",", "\"h e\", \"h e\",", MINKE_OK, NULL},
    {"\"merges\": [", "\"merges\": {}, \"other\": [", MINKE_EFORMAT, "merges"},
    {"\"vocab\": {", "\"vocab\": [], \"other\": {", MINKE_EFORMAT, "vocab"},
    {"\"model\": {", "\"other\": {", MINKE_EFORMAT, "model"},
    {"\"type\": \"BPE\"", "\"type\": \"Unigram\"", MINKE_EUNSUPPORTED, "Unigram"},
    {"\"dropout\": null", "\"dropout\": 0.1", MINKE_EUNSUPPORTED, "dropout"},
    {"\"dropout\": null", "\"dropout\": 0.0", MINKE_OK, NULL},
    {"\"byte_fallback\": false", "\"byte_fallback\": true", MINKE_EUNSUPPORTED, "byte_fallback"},
    {"\"unk_token\": null", "\"unk_token\": \"?\"", MINKE_EUNSUPPORTED, "unk_token"},
    {"{1,3}", "{1,4}", MINKE_EUNSUPPORTED, "{1,4}"},
    {"\"Isolated\"", "\"Removed\"", MINKE_EUNSUPPORTED, "{1,3}"},
    {"\"invert\": false", "\"invert\": true", MINKE_EUNSUPPORTED, "{1,3}"},
    {"\"add_prefix_space\": false", "\"add_prefix_space\": true", MINKE_EUNSUPPORTED, "{1,3}"},
    {"\"pre_tokenizer\": {", "\"pre_tokenizer\": {\"type\": \"Metaspace\"}, \"other\": {",
     MINKE_EUNSUPPORTED, "Metaspace"},
    {"\"pre_tokenizer\": {", "\"other\": {", MINKE_EUNSUPPORTED, "pre_tokenizer"},
    {"\"normalizer\": {", "\"normalizer\": {\"type\": \"NFC\"}, \"other\": {",
     MINKE_EUNSUPPORTED, "NFC"},
    {"\"normalizer\": {", "\"normalizer\": null, \"other\": {", MINKE_OK, NULL},
    {"\"decoder\": {", "\"decoder\": {\"type\": \"Metaspace\"}, \"other\": {",
     MINKE_EUNSUPPORTED, "Metaspace"},
    {"\"lstrip\": false", "\"lstrip\": true", MINKE_EUNSUPPORTED, "lstrip"},
    {"\"id\": 509", "\"id\": 510", MINKE_EFORMAT, "510"},
    {"\"id\": 509", "\"id\": 40", MINKE_EFORMAT, "40"},
    {"\"id\": 509", "\"id\": 99999999", MINKE_EFORMAT, "99999999"},
    {"\"id\": 509", "\"ix\": 509", MINKE_EFORMAT, "<think>"},
    {"\"content\": \"<think>\"", "\"content\": \"\"", MINKE_EFORMAT, "content"},
    {"\"content\": \"<think>\"", "\"content\": \"</think>\"", MINKE_EFORMAT, "510"},
    {"\"content\": \"<think>\"", "\"content\": \"he\"", MINKE_EFORMAT, "509"},
    {"\"added_tokens\": [", "\"added_tokens\": 1, \"other\": [", MINKE_EFORMAT, "added_tokens"},
};

static char *changed(const char *json, const struct change *c)
{
    const char *at = strstr(json, c->from);
    const size_t n_to = strlen(c->to), n_from = strlen(c->from);
    char *out = malloc(strlen(json) + n_to + 1);

    if (at == NULL || out == NULL) {
        free(out);
        return NULL;
    }
    memcpy(out, json, (size_t)(at - json));
    memcpy(out + (at - json), c->to, n_to);
    strcpy(out + (at - json) + n_to, at + n_from);
    return out;
}

TEST(damaged_and_foreign_files_are_refused_by_name)
{
    size_t len;
    char *json = text_load(TEXT_SMALL "/tokenizer.json", &len);

    env = text_env(&heap);
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        const struct change *c = &changes[i];
        struct mk_tokenizer *tok = NULL;
        char *other = changed(json, c);
        const int failures = test_failures;

        CHECK(other != NULL);
        if (other == NULL)
            continue;
        const int32_t status = text_read(&tok, &env, other, strlen(other), NULL,
                                                 -1);
        CHECK_INT(status, c->status);
        if (c->message != NULL)
            CHECK_HAS(minke_last_error(), c->message);
        CHECK((status == MINKE_OK) == (tok != NULL));
        mk_tokenizer_free(tok);
        free(other);
        CHECK_INT(heap.held, 0);
        if (test_failures > failures)
            fprintf(stderr, "  case %zu: %s -> %s\n", i, c->from, c->to);
    }
    free(json);
}

TEST(a_file_cut_anywhere_is_refused)
{
    size_t len;
    char *json = text_load(TEXT_SMALL "/tokenizer.json", &len);

    env = text_env(&heap);
    for (size_t n = 0; n + 2 < len; n += 61) {
        struct mk_tokenizer *tok = NULL;

        CHECK_INT(text_read(&tok, &env, json, n, NULL, -1), MINKE_EFORMAT);
        CHECK(tok == NULL && heap.held == 0);
    }
    free(json);
}

TEST(a_byte_without_token_is_named)
{
    const struct change c = {"\"z\": 125,", "\"zzz\": 125,", MINKE_OK, NULL};
    size_t len, n = 77;
    char *json = text_load(TEXT_SMALL "/tokenizer.json", &len), *other = changed(json, &c);
    const struct mk_tokenize in = {MK_VIEW("az"), 0, NULL, 0};
    struct mk_tokenizer *tok = NULL;
    int32_t ids[8];

    env = text_env(&heap);
    CHECK(other != NULL);
    CHECK_INT(text_read(&tok, &env, other, strlen(other), NULL, -1), MINKE_OK);
    CHECK_INT(mk_tokenizer_encode(tok, &in, ids, 8, &n), MINKE_EUNSUPPORTED);
    CHECK_HAS(minke_last_error(), "7a");
    CHECK_INT(n, 77);
    mk_tokenizer_free(tok);
    free(other);
    free(json);
}

/* A piece of n letters, of words that the small vocabulary joins in many ways. */
static char *long_piece(size_t n, uint32_t seed)
{
    static const char *const parts[] = {"the", "whale", "e", "he", "al", "ing", "t", "and", "s"};
    char *text = malloc(n + 8);
    size_t at = 0;

    while (at < n) {
        const char *part;

        seed = seed * 1664525u + 1013904223u;
        part = parts[(seed >> 16) % (sizeof(parts) / sizeof(parts[0]))];
        memcpy(text + at, part, strlen(part));
        at += strlen(part);
    }
    text[n] = '\0';
    return text;
}

/* Lowest rank first, leftmost first, by looking at everything each time. */
static size_t join_naively(const struct mk_tokenizer *tok, const char *text, size_t len,
                           int32_t *ids, const uint32_t *rank_of)
{
    size_t n = len;

    for (size_t i = 0; i < len; i++)
        ids[i] = mk_tokenizer_find(tok, (struct mk_view){text + i, 1});
    for (;;) {
        size_t at = n;
        uint32_t best = UINT32_MAX;

        for (size_t i = 0; i + 1 < n; i++) {
            const uint32_t rank = rank_of[(size_t)ids[i] * 512 + (size_t)ids[i + 1]];

            if (rank < best) {
                best = rank;
                at = i;
            }
        }
        if (at == n)
            return n;
        ids[at] = tok->bpe.merged[best];
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof(*ids));
        n--;
    }
}

TEST(short_long_and_very_long_pieces_join_alike)
{
    static const size_t sizes[] = {2, 3, 60, 128, 129, 700, 3000};
    struct mk_tokenizer *tok = small();
    uint32_t *rank_of = malloc(512 * 512 * sizeof(*rank_of));
    char *text = long_piece(100000, 1);
    int32_t *ids = malloc(100000 * sizeof(*ids)), *other = malloc(100000 * sizeof(*ids));
    size_t n, m;

    memset(rank_of, 0xFF, 512 * 512 * sizeof(*rank_of));
    for (size_t i = 0; i <= tok->bpe.pair_mask; i++)
        if (tok->bpe.pairs[i] != UINT64_MAX)
            rank_of[(tok->bpe.pairs[i] >> 44) * 512 + (tok->bpe.pairs[i] >> 24 & 0xFFFFF)] =
                (uint32_t)(tok->bpe.pairs[i] & 0xFFFFFF);
    CHECK(tok->bpe.ordered);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        n = text_encode(tok, text + i, sizes[i], ids, 100000);
        m = join_naively(tok, text + i, sizes[i], other, rank_of);
        CHECK_INT(n, m);
        CHECK(n == m && memcmp(ids, other, n * sizeof(*ids)) == 0);
    }
    for (int k = 0; k < 2; k++) {
        n = text_encode(tok, text, 100000, ids, 100000);
        tok->bpe.ordered = 0;
        m = text_encode(tok, text, 100000, other, 100000);
        tok->bpe.ordered = 1;
        CHECK_INT(n, m);
        CHECK(n == m && memcmp(ids, other, n * sizeof(*ids)) == 0);
        memset(text, 'e', 100000);
    }
    free(text);
    free(ids);
    free(other);
    free(rank_of);
    mk_tokenizer_free(tok);
    CHECK_INT(heap.held, 0);
}

TEST(every_allocation_may_fail_while_opening)
{
    size_t len;
    char *json = text_load(TEXT_SMALL "/tokenizer.json", &len);
    const char *config = "{\"chat_template\": \"x\"}";
    struct mk_tokenizer *tok = NULL;
    long n = 0;

    env = text_env(&heap);
    for (;; n++) {
        heap.left = n;
        const int32_t status = text_read(&tok, &env, json, len, config, -1);
        if (status == MINKE_OK)
            break;
        CHECK_INT(status, MINKE_ENOMEM);
        CHECK_INT(heap.held, 0);
    }
    CHECK(n > 3);
    heap.left = -1;
    mk_tokenizer_free(tok);
    CHECK_INT(heap.held, 0);
    free(json);
}

TEST(every_allocation_may_fail_while_encoding)
{
    struct mk_tokenizer *tok = small();
    char *text = long_piece(30000, 3);
    const struct mk_tokenize in = {{text, 30000}, 0, NULL, 0};
    int32_t *ids = calloc(30000, sizeof(*ids));
    const long held = heap.held;
    size_t n_ids = 0;
    long n = 0;

    text[29999] = '\xFF';
    for (;; n++) {
        heap.left = n;
        const int32_t status = mk_tokenizer_encode(tok, &in, ids, 30000, &n_ids);

        CHECK_INT(heap.held, held);
        if (status == MINKE_OK)
            break;
        CHECK_INT(status, MINKE_ENOMEM);
        CHECK(n_ids == 0 && ids[0] == 0);
    }
    CHECK(n > 4);
    heap.left = -1;
    free(text);
    free(ids);
    mk_tokenizer_free(tok);
}

TEST(lists_make_the_same_tokenizer)
{
    static const struct mk_view merges[] = {{"h e", 3}, {"\304\240 t", 4}, {"\304\240t he", 6}};
    struct mk_view tokens[270] = {{NULL, 0}};
    char symbols[256][2];
    int32_t types[270], ids[16];
    struct mk_vocabulary lists = {.chat_template = {"t", 1}, .bos = -1, .eos = -1,
                                  .pre = "deepseek-v3", .tokens = tokens, .types = types,
                                  .n_tokens = 266, .merges = merges, .n_merges = 3};
    struct mk_tokenizer *tok = NULL;
    int next = 256;

    for (int b = 0; b < 256; b++) {
        const int printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
        const int c = printable ? b : next++;

        symbols[b][0] = (char)(c < 0x80 ? c : 0xC0 | c >> 6);
        symbols[b][1] = (char)(0x80 | (c & 0x3F));
        tokens[b] = (struct mk_view){symbols[b], c < 0x80 ? 1 : 2};
        types[b] = MK_TOKEN_NORMAL;
    }
    tokens[256] = (struct mk_view){"he", 2};
    tokens[257] = (struct mk_view){"\304\240t", 3};
    tokens[258] = (struct mk_view){"\304\240the", 5};
    tokens[259] = (struct mk_view){"<bos>", 5};
    tokens[260] = (struct mk_view){"<think>", 7};
    for (int i = 261; i < 266; i++)
        tokens[i] = (struct mk_view){"[PAD]", 5};
    for (int i = 256; i < 266; i++)
        types[i] = i < 259 ? MK_TOKEN_NORMAL : i == 259 ? MK_TOKEN_CONTROL
                 : i == 260 ? MK_TOKEN_USER : MK_TOKEN_UNUSED;
    env = text_env(&heap);
    CHECK_INT(mk_tokenizer_open(&tok, &env, &lists), MINKE_OK);
    CHECK_INT(mk_tokenizer_size(tok), 266);
    CHECK_INT(text_encode(tok, "<bos>he the<think>", 18, ids, 16), 4);
    CHECK(ids[0] == 259 && ids[1] == 256 && ids[2] == 258 && ids[3] == 260);
    CHECK(mk_tokenizer_is_special(tok, 259) && !mk_tokenizer_is_special(tok, 260));
    CHECK_INT(mk_tokenizer_bos(tok), -1);
    mk_tokenizer_free(tok);
    lists.pre = "llama-bpe";
    CHECK_INT(mk_tokenizer_open(&tok, &env, &lists), MINKE_EUNSUPPORTED);
    CHECK_HAS(minke_last_error(), "llama-bpe");
    lists.pre = "deepseek-llm";
    tokens[7] = (struct mk_view){"\xFF", 1};
    CHECK_INT(mk_tokenizer_open(&tok, &env, &lists), MINKE_EFORMAT);
    CHECK_INT(heap.held, 0);
}

TEST_MAIN(
    RUN(small_vectors_match_the_reference);
    RUN(facts_are_read);
    RUN(settings_name_special_tokens_by_text);
    RUN(added_tokens_match_nothing_of_a_plain_span);
    RUN(plain_spans_move_with_broken_bytes);
    RUN(too_small_a_buffer_is_left_alone);
    RUN(damaged_and_foreign_files_are_refused_by_name);
    RUN(a_file_cut_anywhere_is_refused);
    RUN(a_byte_without_token_is_named);
    RUN(short_long_and_very_long_pieces_join_alike);
    RUN(every_allocation_may_fail_while_opening);
    RUN(every_allocation_may_fail_while_encoding);
    RUN(lists_make_the_same_tokenizer))
