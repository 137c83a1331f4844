/* Replies: DeepSeek's parser line by line, the same events however the text is cut, and
 * nothing lost of what is malformed.  Vectors: tests/golden/chat/parse-v3.2.jsonl. */
#include "base/json.h"
#include "minke.h"
#include "test.h"

/* Events as one text; neighbours of a kind run together. */
struct log {
    char text[8192];
    size_t n;
    int32_t last;
    uint32_t last_call;
};

static int32_t on_event(void *user, int32_t event, uint32_t call, const char *text, size_t len)
{
    struct log *log = user;
    const int joins = event == MINKE_REPLY_EVENT_REASONING || event == MINKE_REPLY_EVENT_CONTENT
                      || event == MINKE_REPLY_EVENT_ARGUMENTS;

    if (!joins || event != log->last || call != log->last_call)
        log->n += (size_t)snprintf(log->text + log->n, sizeof(log->text) - log->n, "|%d.%u:",
                                   (int)event, (unsigned)call);
    if (log->n + len < sizeof(log->text)) {
        memcpy(log->text + log->n, text, len);
        log->n += len;
        log->text[log->n] = '\0';
    }
    log->last = event;
    log->last_call = call;
    return 0;
}

static minke_reply *open_reply(const char *encoding, int thinking, uint32_t flags, struct log *log)
{
    minke_reply_params p;
    minke_reply *r = NULL;

    memset(log, 0, sizeof(*log));
    minke_reply_params_init(&p, sizeof(p));
    p.encoding = encoding;
    p.thinking = thinking ? MINKE_THINKING_ON : MINKE_THINKING_OFF;
    p.flags = flags;
    p.on_event = on_event;
    p.user = log;
    CHECK_INT(minke_reply_open(&r, NULL, &p), MINKE_OK);
    return r;
}

/* Feed text cut at a place and see the log. */
static int32_t feed(const char *encoding, int thinking, uint32_t flags, const char *text,
                    size_t cut, struct log *log, char *message, size_t size)
{
    minke_reply *r = open_reply(encoding, thinking, flags, log);
    const size_t len = strlen(text);
    size_t n = 0;
    int32_t status;

    CHECK_INT(minke_reply_text(r, text, cut), MINKE_OK);
    CHECK_INT(minke_reply_text(r, text + cut, len - cut), MINKE_OK);
    status = minke_reply_finish(r, NULL);
    if (status == MINKE_OK) {
        CHECK_INT(minke_reply_message(r, message, size - 1, &n), MINKE_OK);
        message[n] = '\0';
    }
    minke_reply_free(r);
    return status;
}

static void check_line(const struct mk_json *line)
{
    const struct mk_json *text = mk_json_get(line, "text"), *error = mk_json_get(line, "error");
    const int thinking = mk_json_is(mk_json_get(line, "thinking_mode"), "thinking");
    static struct log whole, cut;
    static char message[8192];
    const struct mk_allocator a = {0};
    int32_t status = feed("deepseek-v3.2", thinking, MINKE_REPLY_STRICT, text->text.data, 0, &whole,
                          message, sizeof(message));

    if (error != NULL) {
        CHECK_INT(status, MINKE_EFORMAT);
        CHECK_STR(minke_last_error(), error->text.data + strlen("AssertionError: "));
    } else {
        struct mk_text expected;

        mk_text_init(&expected, &a);
        mk_text_add_json(&expected, mk_json_get(line, "result"));
        CHECK_INT(status, MINKE_OK);
        CHECK_STR(message, expected.data);
        mk_text_free(&expected);
    }
    feed("deepseek-v3.2", thinking, 0, text->text.data, 0, &whole, message, sizeof(message));
    for (size_t i = 1; i <= text->text.len; i++) {
        feed("deepseek-v3.2", thinking, 0, text->text.data, i, &cut, message, sizeof(message));
        CHECK_STR(cut.text, whole.text);
    }
}

TEST(strict_is_the_official_parser_and_cuts_do_not_matter)
{
    const struct mk_allocator a = {0};
    FILE *f = fopen("tests/golden/chat/parse-v3.2.jsonl", "rb");
    static char data[65536];
    size_t n, n_lines = 0;

    CHECK(f != NULL);
    n = f != NULL ? fread(data, 1, sizeof(data) - 1, f) : 0;
    if (f != NULL)
        fclose(f);
    for (char *at = data, *end; at < data + n; at = end + 1) {
        const struct mk_json *line;
        struct mk_arena arena;

        end = strchr(at, '\n');
        mk_arena_init(&arena, &a);
        CHECK_INT(mk_json_parse(&line, &arena, at, (size_t)(end - at), "line"), MINKE_OK);
        check_line(line);
        mk_arena_free(&arena);
        n_lines++;
    }
    CHECK_INT(n_lines, 34);
}

/* A reply of each encoding and the message that it is. */
static const struct {
    const char *encoding;
    int thinking;
    const char *text, *message;
} replies[] = {
    {"deepseek-v2", 0, " Hello<｜end▁of▁sentence｜>",
     "{\"role\": \"assistant\", \"content\": \"Hello\", \"reasoning_content\": \"\", "
     "\"tool_calls\": []}"},
    {"deepseek-v3", 0,
     "Look<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": 1}\n"
     "```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{}\n"
     "```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>",
     "{\"role\": \"assistant\", \"content\": \"Look\", \"reasoning_content\": \"\", "
     "\"tool_calls\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": "
     "\"{\\\"a\\\": 1}\"}}, {\"type\": \"function\", \"function\": {\"name\": \"g\", "
     "\"arguments\": \"{}\"}}]}"},
    {"deepseek-r1.hf", 1, "Hm.\n</think>\n\nYes<｜end▁of▁sentence｜>",
     "{\"role\": \"assistant\", \"content\": \"\\n\\nYes\", \"reasoning_content\": \"Hm.\\n\", "
     "\"tool_calls\": []}"},
    {"deepseek-r1-0528", 1, "<think>\nHm</think>Yes",
     "{\"role\": \"assistant\", \"content\": \"Yes\", \"reasoning_content\": \"\\nHm\", "
     "\"tool_calls\": []}"},
    {"deepseek-v3.1", 0,
     "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"q\": \"ü\"}<｜tool▁call▁end｜>"
     "<｜tool▁call▁begin｜>g<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
     "<｜end▁of▁sentence｜>",
     "{\"role\": \"assistant\", \"content\": \"\", \"reasoning_content\": \"\", \"tool_calls\": "
     "[{\"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": \"{\\\"q\\\": "
     "\\\"ü\\\"}\"}}, {\"type\": \"function\", \"function\": {\"name\": \"g\", \"arguments\": "
     "\"{}\"}}]}"},
    {"deepseek-v3.1-terminus", 1, "a</think>b<｜end▁of▁sentence｜>",
     "{\"role\": \"assistant\", \"content\": \"b\", \"reasoning_content\": \"a\", "
     "\"tool_calls\": []}"},
};

TEST(replies_of_every_encoding_are_read_however_cut)
{
    static struct log whole, cut;
    static char message[4096];

    for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
        const char *text = replies[i].text;

        CHECK_INT(feed(replies[i].encoding, replies[i].thinking, 0, text, 0, &whole, message,
                       sizeof(message)), MINKE_OK);
        CHECK_STR(message, replies[i].message);
        for (size_t k = 1; k <= strlen(text); k++) {
            feed(replies[i].encoding, replies[i].thinking, 0, text, k, &cut, message,
                 sizeof(message));
            CHECK_STR(cut.text, whole.text);
        }
    }
}

/* What was read goes back into a prompt that ends in the text that was read. */
TEST(a_parsed_reply_renders_as_it_was_written)
{
    static struct log log;
    static char message[4096], messages[8192], prompt[16384];

    for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
        const size_t n_text = strlen(replies[i].text);
        minke_chat_params p;
        size_t n;

        if (strstr(replies[i].text, "<｜end") == NULL || i == 1)
            continue;
        feed(replies[i].encoding, replies[i].thinking, 0, replies[i].text, 0, &log, message,
             sizeof(message));
        snprintf(messages, sizeof(messages), "[{\"role\": \"user\", \"content\": \"q\"}, %s]",
                 message);
        if (strstr(message, "\"tool_calls\": []") != NULL) {
            strcpy(strstr(messages, ", \"tool_calls\": []"), "}]");
        }
        minke_chat_params_init(&p, sizeof(p));
        p.encoding = replies[i].encoding;
        p.thinking = replies[i].thinking ? MINKE_THINKING_ON : MINKE_THINKING_OFF;
        p.retention = MINKE_RETAIN_ALL;
        p.flags = MINKE_CHAT_NO_GENERATION;
        CHECK_INT(minke_chat_render(NULL, messages, strlen(messages), &p, prompt, sizeof(prompt),
                                    &n), MINKE_OK);
        CHECK(n > n_text && memcmp(prompt + n - n_text, replies[i].text, n_text) == 0);
    }
}

TEST(a_stream_is_handed_on_at_once)
{
    static struct log log;
    minke_reply *r = open_reply("deepseek-v3.2", 0, 0, &log);

    minke_reply_text(r, "ab", 2);
    CHECK_STR(log.text, "|2.0:ab");
    minke_reply_text(r, "\xF0\x9F\x98", 3);
    CHECK_STR(log.text, "|2.0:ab");
    minke_reply_text(r, "\x80", 1);
    CHECK_STR(log.text, "|2.0:ab\xF0\x9F\x98\x80");
    minke_reply_text(r, "<", 1);
    CHECK_STR(log.text, "|2.0:ab\xF0\x9F\x98\x80");
    minke_reply_text(r, "b>", 2);
    CHECK_STR(log.text, "|2.0:ab\xF0\x9F\x98\x80<b>");
    minke_reply_free(r);
}

TEST(unterminated_calls_lose_no_text)
{
    static const char text[] = "x\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\">\n"
                               "<｜DSML｜parameter name=\"k\" string=\"true\">val";
    static struct log log;
    static char message[4096];

    for (size_t n = 1; n < sizeof(text); n++) {
        char part[sizeof(text)];

        memcpy(part, text, n);
        part[n] = '\0';
        CHECK_INT(feed("deepseek-v3.2", 0, 0, part, 0, &log, message, sizeof(message)), MINKE_OK);
        CHECK_HAS(message, "x");
    }
    CHECK_HAS(message, "{\\\"k\\\": \\\"val\\\"}");
    CHECK_HAS(message, "malformed");
}

/* Calls everything on its own handle. */
static int32_t on_event_meddle(void *user, int32_t event, uint32_t call, const char *text,
                               size_t len)
{
    minke_reply *r = *(minke_reply **)user;

    (void)event, (void)call, (void)text, (void)len;
    CHECK_INT(minke_reply_text(r, "x", 1), MINKE_EBUSY);
    CHECK_INT(minke_reply_finish(r, NULL), MINKE_EBUSY);
    minke_reply_free(r);
    return 0;
}

TEST(use_inside_the_callback_and_after_the_end_is_refused)
{
    static struct log log;
    minke_reply_params p;
    minke_reply *r = NULL;

    minke_reply_params_init(&p, sizeof(p));
    p.encoding = "deepseek-v3";
    p.on_event = on_event_meddle;
    p.user = &r;
    CHECK_INT(minke_reply_open(&r, NULL, &p), MINKE_OK);
    CHECK_INT(minke_reply_text(r, "Hello", 5), MINKE_OK);
    CHECK_INT(minke_reply_finish(r, NULL), MINKE_OK);
    minke_reply_free(r);

    r = open_reply("deepseek-v3", 0, 0, &log);
    CHECK_INT(minke_reply_finish(r, "length"), MINKE_OK);
    CHECK_HAS(log.text, "|7.0:length");
    CHECK_INT(minke_reply_text(r, "x", 1), MINKE_EINVAL);
    CHECK_INT(minke_reply_finish(r, NULL), MINKE_EINVAL);
    minke_reply_free(r);
    minke_reply_free(NULL);
}

TEST_MAIN(RUN(strict_is_the_official_parser_and_cuts_do_not_matter);
          RUN(replies_of_every_encoding_are_read_however_cut);
          RUN(a_parsed_reply_renders_as_it_was_written); RUN(a_stream_is_handed_on_at_once);
          RUN(unterminated_calls_lose_no_text);
          RUN(use_inside_the_callback_and_after_the_end_is_refused))
