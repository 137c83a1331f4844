/* Every encoding against the published templates' output, hostile messages, trimming.
 * Vectors: tests/golden/chat/render.jsonl, whose ids are checked with the published
 * tokenizers where ../shared/data has them. */
#define _GNU_SOURCE 1 /* mkdtemp, strdup */
#include "base/json.h"
#include "minke.h"
#include "test.h"
#include "chat/chat.h"

static char *load(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    char *data;

    *n = 0;
    if (f == NULL)
        return NULL;
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    data = malloc(*n + 1);
    if (fread(data, 1, *n, f) != *n)
        exit(1);
    data[*n] = '\0';
    fclose(f);
    return data;
}

/* A member of a line, as JSON text. */
static char *member(const struct mk_json *line, const char *key, size_t *n)
{
    const struct mk_json *v = mk_json_get(line, key);
    const struct mk_allocator a = {0};
    struct mk_text t;
    char *copy;

    *n = 0;
    if (v == NULL || v->type == MK_JSON_NULL)
        return NULL;
    mk_text_init(&t, &a);
    mk_text_add_json(&t, v);
    copy = malloc(t.len + 1);
    memcpy(copy, t.data, t.len + 1);
    *n = t.len;
    mk_text_free(&t);
    return copy;
}

static int is_true(const struct mk_json *obj, const char *key, int otherwise)
{
    const struct mk_json *v = mk_json_get(obj, key);

    return v == NULL ? otherwise : v->type == MK_JSON_TRUE;
}

/* The parameters that a line of render.jsonl stands for. */
static void line_params(minke_chat_params *p, const struct mk_json *line)
{
    const struct mk_json *mode = mk_json_get(line, "thinking_mode");

    minke_chat_params_init(p, sizeof(*p));
    p->encoding = mk_json_get(line, "template")->text.data;
    p->flags = MINKE_CHAT_TRUST_TEXT;
    if (!is_true(line, "add_generation_prompt", 1))
        p->flags |= MINKE_CHAT_NO_GENERATION;
    if (!is_true(line, "add_default_bos_token", 1))
        p->flags |= MINKE_CHAT_NO_BOS;
    if (!is_true(line, "drop_thinking", 1))
        p->flags |= MINKE_CHAT_NO_DROP;
    p->thinking = MINKE_THINKING_OFF;
    if (mode != NULL ? mk_json_is(mode, "thinking")
                     : is_true(mk_json_get(line, "kwargs"), "thinking", 0))
        p->thinking = MINKE_THINKING_ON;
}

static void check_line(const struct mk_json *line)
{
    const struct mk_json *prompt = mk_json_get(line, "prompt");
    static char text[1 << 18];
    minke_chat_params p;
    size_t n, n_messages, n_context;
    char *messages = member(line, "messages", &n_messages);
    char *context = member(line, "context", &n_context);
    int32_t status;

    line_params(&p, line);
    p.context = context;
    p.context_len = n_context;
    status = minke_chat_render(NULL, messages, n_messages, &p, text, sizeof(text), &n);
    if (prompt == NULL) {
        CHECK_INT(status, MINKE_EINVAL);
    } else if (status != MINKE_OK || n != prompt->text.len || memcmp(text, prompt->text.data, n) != 0) {
        test_failures++;
        fprintf(stderr, "%s %s: another prompt\n", p.encoding, mk_json_get(line, "case")->text.data);
    }
    free(messages);
    free(context);
}

TEST(every_prompt_is_what_the_template_writes)
{
    const struct mk_allocator a = {0};
    size_t n, n_lines = 0;
    char *data = load("tests/golden/chat/render.jsonl", &n), *at = data;

    CHECK(data != NULL);
    while (at != NULL && at < data + n) {
        char *end = strchr(at, '\n');
        const struct mk_json *line;
        struct mk_arena arena;

        mk_arena_init(&arena, &a);
        CHECK_INT(mk_json_parse(&line, &arena, at, (size_t)(end - at), "line"), MINKE_OK);
        check_line(line);
        mk_arena_free(&arena);
        n_lines++;
        at = end + 1;
    }
    CHECK_INT(n_lines, 578);
    free(data);
}

/* Status of rendering messages in every encoding; the worst that came. */
static int32_t render_all(const char *messages, size_t n)
{
    int32_t worst = 0;

    for (size_t i = 0; minke_chat_encoding_name(i) != NULL; i++) {
        static char text[1 << 16];
        minke_chat_params p;
        size_t n_out;
        int32_t status;

        minke_chat_params_init(&p, sizeof(p));
        p.encoding = minke_chat_encoding_name(i);
        status = minke_chat_render(NULL, messages, n, &p, text, sizeof(text), &n_out);
        if (status < worst)
            worst = status;
    }
    return worst;
}

TEST(messages_of_the_wrong_type_are_refused)
{
    static const char *const wrong[] = {
        "", "nul", "{}", "[1]", "[[]]", "[{}]", "[{\"role\": 1}]", "[{\"role\": \"king\"}]",
        "[{\"role\": \"user\", \"content\": 1}]", "[{\"role\": \"user\", \"content\": []}]",
        "[{\"role\": \"assistant\", \"content\": \"\", \"tool_calls\": {}}]",
        "[{\"role\": \"assistant\", \"content\": \"\\ud800\"}]",
        "[{\"role\": \"user\", \"content\": \"\xff\"}]"};

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        CHECK(render_all(wrong[i], strlen(wrong[i])) < 0);
}

TEST(deep_nesting_is_refused)
{
    static char deep[20001];

    memset(deep, '[', 10000);
    memset(deep + 10000, ']', 10000);
    CHECK_INT(render_all(deep, 20000), MINKE_EFORMAT);
}

TEST(a_null_byte_in_content_is_kept)
{
    static const char messages[] = "[{\"role\": \"user\", \"content\": \"a\\u0000b\"}]";
    char text[256];
    minke_chat_params p;
    size_t n;

    minke_chat_params_init(&p, sizeof(p));
    p.encoding = "deepseek-v2";
    CHECK_INT(minke_chat_render(NULL, messages, strlen(messages), &p, text, sizeof(text), &n),
              MINKE_OK);
    CHECK_INT(n, strlen("<｜begin▁of▁sentence｜>User: a.b\n\nAssistant:"));
    CHECK(memcmp(text + strlen("<｜begin▁of▁sentence｜>User: "), "a\0b", 3) == 0);
}

TEST(an_unknown_encoding_is_refused_with_the_known_names)
{
    minke_chat_params p;
    char text[8];
    size_t n = 7;

    minke_chat_params_init(&p, sizeof(p));
    p.encoding = "chatml";
    CHECK_INT(minke_chat_render(NULL, "[]", 2, &p, text, sizeof(text), &n), MINKE_EUNSUPPORTED);
    CHECK_HAS(minke_last_error(), "chatml");
    for (size_t i = 0; minke_chat_encoding_name(i) != NULL; i++)
        CHECK_HAS(minke_last_error(), minke_chat_encoding_name(i));
    CHECK_INT(n, 7);
}

TEST(speciale_refuses_tools)
{
    static const char messages[] = "[{\"role\": \"user\", \"content\": \"q\"}]";
    static const char tools[] = "[{\"type\": \"function\", \"function\": {\"name\": \"f\"}}]";
    char text[8192];
    minke_chat_params p;
    size_t n;

    minke_chat_params_init(&p, sizeof(p));
    p.encoding = "deepseek-v3.2-speciale";
    p.tools = tools;
    p.tools_len = strlen(tools);
    CHECK_INT(minke_chat_render(NULL, messages, strlen(messages), &p, text, sizeof(text), &n),
              MINKE_EUNSUPPORTED);
    CHECK_HAS(minke_last_error(), "speciale");
    p.encoding = "deepseek-v3.2";
    CHECK_INT(minke_chat_render(NULL, messages, strlen(messages), &p, text, sizeof(text), &n),
              MINKE_OK);
}

TEST(a_small_buffer_is_told_the_size)
{
    static const char messages[] = "[{\"role\": \"user\", \"content\": \"q\"}]";
    char text[256];
    minke_chat_params p;
    size_t n = 0, m = 0;

    minke_chat_params_init(&p, sizeof(p));
    p.encoding = "deepseek-v3.2";
    CHECK_INT(minke_chat_render(NULL, messages, strlen(messages), &p, NULL, 0, &n), MINKE_ENOSPC);
    CHECK_INT(minke_chat_render(NULL, messages, strlen(messages), &p, text, n, &m), MINKE_OK);
    CHECK_INT(n, m);
}

static const char history[] =
    "[{\"role\": \"user\", \"content\": \"q\"},"
    "{\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"id\": \"a\"}]},"
    "{\"role\": \"tool\", \"content\": \"1\"},"
    "{\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"id\": \"b\"}]},"
    "{\"role\": \"tool\", \"content\": \"2\"},"
    "{\"role\": \"tool\", \"content\": \"3\"},"
    "{\"role\": \"user\", \"content\": \"r\"}]";

static int32_t trim(uint32_t strategy, uint32_t window, char *text, size_t size)
{
    static const uint32_t counts[7] = {10, 10, 10, 10, 10, 10, 10};
    minke_trim_params p;
    int32_t action = -1;
    size_t n = 0;

    minke_trim_params_init(&p, sizeof(p));
    p.strategy = strategy;
    p.window = window;
    p.counts = counts;
    p.n_counts = 7;
    CHECK_INT(minke_chat_trim(history, strlen(history), &p, text, size - 1, &n, &action),
              MINKE_OK);
    text[n] = '\0';
    return action;
}

TEST(calls_leave_with_their_results)
{
    char text[1024];

    CHECK_INT(trim(MINKE_TRIM_ALL, 88, text, sizeof(text)), MINKE_TRIM_KEPT);
    CHECK_HAS(text, "\"3\"");
    CHECK_INT(trim(MINKE_TRIM_ALL, 80, text, sizeof(text)), MINKE_TRIM_TRIMMED);
    CHECK_STR(text, "[{\"role\": \"user\", \"content\": \"q\"}, "
                    "{\"role\": \"user\", \"content\": \"r\"}]");
    CHECK_INT(trim(MINKE_TRIM_SUMMARY, 80, text, sizeof(text)), MINKE_TRIM_SUMMARIZE);
    CHECK_HAS(text, "\"3\"");
    CHECK_INT(trim(MINKE_TRIM_OLDEST, 20, text, sizeof(text)), MINKE_TRIM_OVER);
    CHECK(strstr(text, "tool") == NULL);
}

/* A template of ../shared/data, NUL-terminated, or NULL. */
static char *published_template(const char *name)
{
    char path[256], *json, *text = NULL;
    const struct mk_allocator a = {0};
    const struct mk_json *v;
    struct mk_arena arena;
    size_t n;

    snprintf(path, sizeof(path), "../shared/data/tokenizers/%s/tokenizer_config.json", name);
    if ((json = load(path, &n)) == NULL)
        return NULL;
    mk_arena_init(&arena, &a);
    CHECK_INT(mk_json_parse(&v, &arena, json, n, "config"), MINKE_OK);
    v = mk_json_get(v, "chat_template");
    if (v != NULL && (text = malloc(v->text.len + 64)) != NULL)
        strcpy(text, v->text.data);
    mk_arena_free(&arena);
    free(json);
    return text;
}

TEST(published_templates_are_known_and_changed_ones_are_not)
{
    static const struct { const char *name; int kind; } known[] = {
        {"deepseek-v2", MK_CHAT_V2}, {"deepseek-v3", MK_CHAT_V3}};
    static const char *const changes[] = {"User", "Assistant", "message['content']"};
    int n_found = 0;

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        char *text = published_template(known[i].name);

        if (text == NULL)
            continue;
        n_found++;
        CHECK_INT(mk_chat_match(text, strlen(text)), known[i].kind);
        CHECK_INT(mk_chat_match(text, strlen(text) / 2), -1);
        for (size_t k = 0; k < 3; k++) {
            char *copy = strdup(text);

            for (char *at = copy; (at = strstr(at, changes[k])) != NULL;)
                at[1] = '_';
            CHECK_INT(mk_chat_match(copy, strlen(copy)), -1);
            free(copy);
        }
        strcat(text, "{% macro f() %}{% endmacro %}");
        CHECK_INT(mk_chat_match(text, strlen(text)), -1);
        free(text);
    }
    CHECK_INT(mk_chat_match("", 0), -1);
    CHECK_INT(mk_chat_match("{{ bos_token }}", 15), -1);
    if (n_found == 0)
        SKIP("no ../shared/data/tokenizers");
}

/* A folder with the small tokenizer and a chat_template.jinja. */
TEST(a_template_in_a_file_of_its_own_counts)
{
    char folder[] = "/tmp/minke-chat-XXXXXX", command[256], path[64];
    const char *name = NULL;
    minke_context_params p;
    minke_context *ctx = NULL;
    char *text = published_template("deepseek-v3");
    FILE *f;

    CHECK(mkdtemp(folder) != NULL);
    snprintf(command, sizeof(command), "cp tests/golden/tokenizer/tokenizer*.json %s", folder);
    CHECK_INT(system(command), 0);
    snprintf(path, sizeof(path), "%s/chat_template.jinja", folder);
    minke_context_params_init(&p, sizeof(p));
    p.flags = MINKE_CONTEXT_TOKENIZER_ONLY;
    for (int round = 0; round < (text != NULL ? 2 : 1); round++) {
        CHECK((f = fopen(path, "w")) != NULL);
        fputs(round == 0 ? "{{ somebody's }}" : text, f);
        fclose(f);
        CHECK_INT(minke_context_open(&ctx, folder, &p), MINKE_OK);
        if (round == 0) {
            CHECK_INT(minke_chat_encoding(ctx, &name), MINKE_EUNSUPPORTED);
            CHECK_HAS(minke_last_error(), "known encodings: deepseek-v2, deepseek-v3,");
        } else {
            CHECK_INT(minke_chat_encoding(ctx, &name), MINKE_OK);
            CHECK_STR(name, "deepseek-v3");
        }
        minke_context_free(ctx);
    }
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    CHECK_INT(system(command), 0);
    free(text);
}

TEST_MAIN(RUN(published_templates_are_known_and_changed_ones_are_not);
          RUN(a_template_in_a_file_of_its_own_counts); RUN(every_prompt_is_what_the_template_writes);
          RUN(messages_of_the_wrong_type_are_refused); RUN(deep_nesting_is_refused);
          RUN(a_null_byte_in_content_is_kept);
          RUN(an_unknown_encoding_is_refused_with_the_known_names); RUN(speciale_refuses_tools);
          RUN(a_small_buffer_is_told_the_size); RUN(calls_leave_with_their_results))
