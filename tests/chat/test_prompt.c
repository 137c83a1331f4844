/* Every encoding against the published templates' output, and hostile messages.
 * Vectors: tests/golden/chat/render.jsonl, whose ids are checked with the published
 * tokenizers where ../shared/data has them. */
#include "base/json.h"
#include "minke.h"
#include "test.h"
#include "text/text_data.h"

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
    char *data = text_load("tests/golden/chat/render.jsonl", &n), *at = data;

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

TEST_MAIN(RUN(every_prompt_is_what_the_template_writes);
          RUN(messages_of_the_wrong_type_are_refused); RUN(deep_nesting_is_refused);
          RUN(a_null_byte_in_content_is_kept); RUN(speciale_refuses_tools);
          RUN(a_small_buffer_is_told_the_size))
