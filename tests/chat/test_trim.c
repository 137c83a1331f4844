/* Trimming: tool calls leave together with their results. */
#include "minke.h"
#include "test.h"

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
    minke_chat_trim_params p;
    int32_t action = -1;
    size_t n = 0;

    minke_chat_trim_params_init(&p, sizeof(p));
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

    CHECK_INT(trim(MINKE_TRIM_STRATEGY_ALL, 88, text, sizeof(text)), MINKE_TRIM_ACTION_KEPT);
    CHECK_HAS(text, "\"3\"");
    CHECK_INT(trim(MINKE_TRIM_STRATEGY_ALL, 80, text, sizeof(text)), MINKE_TRIM_ACTION_TRIMMED);
    CHECK_STR(text, "[{\"role\": \"user\", \"content\": \"q\"}, "
                    "{\"role\": \"user\", \"content\": \"r\"}]");
    CHECK_INT(trim(MINKE_TRIM_STRATEGY_SUMMARY, 80, text, sizeof(text)), MINKE_TRIM_ACTION_SUMMARIZE);
    CHECK_HAS(text, "\"3\"");
    CHECK_INT(trim(MINKE_TRIM_STRATEGY_OLDEST, 20, text, sizeof(text)), MINKE_TRIM_ACTION_OVER);
    CHECK(strstr(text, "tool") == NULL);
}

TEST_MAIN(RUN(calls_leave_with_their_results))
