/* minke-chat: talk to a model in a terminal or through a pipe. */
#include <stdlib.h>
#include <string.h>

#include "common.h"

static struct program program = {
    "minke-chat", "MODEL [options]",
    "Talk to the model in the folder MODEL.  A line is a message; these are commands:\n"
    "  /think on|off   let the model think first     /system TEXT   what it is told first\n"
    "  /save FILE      write the messages as JSON    /load FILE     go on with saved ones\n"
    "  /reset          forget the conversation       /help          this\n"
    "Ctrl-C stops the answer; Ctrl-D ends the program.", NULL};

struct chat {
    const char *model, *encoding, *cache, *attention;
    uint32_t max_tokens, context, threads, thinking, window;
    float temperature;
    uint64_t seed;
    int color;
    minke_context *ctx;
    minke_session *session;
    char *messages;        /* the items of the JSON array, joined */
    size_t n_messages;
    int in_reasoning;
};

/* text as a JSON string in fresh memory. */
static char *quoted(const char *text, size_t n)
{
    char *data = NULL;
    size_t size = 0;
    FILE *out = tmpfile();

    if (out == NULL)
        fail_text(&program, "no temporary file", NULL);
    json_string(out, text, n);
    size = (size_t)ftell(out);
    rewind(out);
    data = need_memory(NULL, size + 1, 1);
    if (fread(data, 1, size, out) != size)
        fail_text(&program, "cannot read a temporary file", NULL);
    data[size] = '\0';
    fclose(out);
    return data;
}

static void add_json(struct chat *c, const char *json, size_t n)
{
    const size_t gap = c->n_messages > 0;

    c->messages = need_memory(c->messages, c->n_messages + gap + n + 1, 1);
    if (gap)
        c->messages[c->n_messages++] = ',';
    memcpy(c->messages + c->n_messages, json, n);
    c->n_messages += n;
    c->messages[c->n_messages] = '\0';
}

static void add_message(struct chat *c, const char *role, const char *text, size_t n)
{
    char *content = quoted(text, n);
    const size_t size = strlen(content) + strlen(role) + 64;
    char *json = need_memory(NULL, size, 1);
    const int len = snprintf(json, size, "{\"role\": \"%s\", \"content\": %s}", role, content);

    add_json(c, json, (size_t)len);
    free(json);
    free(content);
}

/* The array of all messages in fresh memory. */
static char *all_messages(const struct chat *c, size_t *n)
{
    char *json = need_memory(NULL, c->n_messages + 3, 1);

    *n = (size_t)sprintf(json, "[%s]", c->n_messages > 0 ? c->messages : "");
    return json;
}

static int32_t on_event(void *user, int32_t event, uint32_t call, const char *text, size_t len)
{
    struct chat *c = user;

    (void)call;
    if (event == MINKE_REPLY_REASONING && c->color && !c->in_reasoning)
        fputs("\033[2m", stdout);
    if (event != MINKE_REPLY_REASONING && c->in_reasoning)
        fputs(c->color ? "\033[0m\n\n" : "\n\n", stdout);
    c->in_reasoning = event == MINKE_REPLY_REASONING;
    if (event == MINKE_REPLY_CALL)
        fputs("\n[call ", stdout);
    if (event <= MINKE_REPLY_ARGUMENTS)
        fwrite(text, 1, len, stdout);
    if (event == MINKE_REPLY_CALL)
        putchar(' ');
    if (event == MINKE_REPLY_CALL_END)
        fputs("]\n", stdout);
    fflush(stdout);
    return 0;
}

static int32_t on_progress(void *user, uint64_t done, uint64_t total)
{
    progress_draw(user, done, total);
    return interrupted();
}

static void open_chat(struct chat *c)
{
    struct progress bar = {.label = "loading", .bytes = 1, .shown = is_terminal(stderr)};
    minke_context_params params;
    minke_session_params session;

    minke_session_params_init(&session, sizeof session);
    session.max_tokens = c->context;
    set_cache(&program, &session, c->cache);
    set_attention(&program, &session, c->attention, c->window);
    minke_context_params_init(&params, sizeof params);
    params.n_threads = c->threads;
    params.progress = on_progress;
    params.progress_user = &bar;
    if (minke_context_open(&c->ctx, c->model, &params) < 0)
        fail_call(&program, c->model);
    progress_end(&bar);
    if (c->encoding == NULL && minke_chat_encoding(c->ctx, &c->encoding) < 0)
        fail_call(&program, "chat");
    if (minke_session_open(&c->session, c->ctx, &session) < 0)
        fail_call(&program, "session");
}

/* Sample until the reply ends; returns the tokens made. */
static size_t answer(struct chat *c, minke_sampler *sampler, minke_reply *reply)
{
    size_t n = 0;

    while (n < c->max_tokens && !minke_reply_ended(reply) && !interrupted()) {
        const float *logits;
        size_t n_vocab;
        int32_t token;

        if (minke_session_logits(c->session, &logits, &n_vocab) < 0
            || minke_sampler_sample(sampler, logits, n_vocab, &token) < 0
            || minke_sampler_accept(sampler, token) < 0
            || minke_reply_token(reply, token) < 0)
            fail_call(&program, "answer");
        n++;
        if (!minke_reply_ended(reply) && minke_session_eval(c->session, &token, 1) < 0)
            break;
    }
    return n;
}

static int prefill(struct chat *c, const minke_chat_params *params)
{
    size_t n_json, n = 0;
    char *json = all_messages(c, &n_json);
    int32_t *ids, status = minke_chat_encode(c->ctx, json, n_json, params, NULL, 0, &n);

    if (status == MINKE_ENOSPC) {
        ids = need_memory(NULL, n, sizeof *ids);
        status = minke_chat_encode(c->ctx, json, n_json, params, ids, n, &n);
        if (status >= 0)
            status = minke_session_sync(c->session, ids, n, NULL);
        free(ids);
    }
    free(json);
    if (status < 0)
        fprintf(stderr, "%s: %s\n", program.name, minke_last_error());
    return status >= 0;
}

static void reply_to(struct chat *c, minke_sampler *sampler)
{
    minke_chat_params params;
    minke_reply_params reading;
    minke_reply *reply = NULL;
    size_t n, size = 0;
    double start;
    char *message;

    minke_chat_params_init(&params, sizeof params);
    params.encoding = c->encoding;
    params.thinking = c->thinking;
    if (!prefill(c, &params))
        return;
    minke_reply_params_init(&reading, sizeof reading);
    reading.encoding = c->encoding;
    reading.thinking = c->thinking;
    reading.on_event = on_event;
    reading.user = c;
    if (minke_reply_open(&reply, c->ctx, &reading) < 0)
        fail_call(&program, "reply");
    start = seconds();
    n = answer(c, sampler, reply);
    minke_reply_finish(reply, NULL);
    putchar('\n');
    if (is_terminal(stderr))
        fprintf(stderr, "(%zu tokens, %.1f/s)\n", n, (double)n / (seconds() - start + 1e-9));
    minke_reply_message(reply, NULL, 0, &size);
    message = need_memory(NULL, size + 1, 1);
    if (minke_reply_message(reply, message, size, &size) >= 0) {
        message[size] = '\0';
        /* An answer that calls nothing has no tool_calls in OpenAI's schema. */
        char *none = strstr(message, ", \"tool_calls\": []");
        if (none != NULL)
            memmove(none, none + 18, strlen(none + 18) + 1);
        add_json(c, message, strlen(message));
    }
    free(message);
    minke_reply_free(reply);
}

/* A line that begins with a slash. */
static void command(struct chat *c, char *line)
{
    char *word = strchr(line, ' ');
    FILE *file;

    if (word != NULL)
        *word++ = '\0';
    if (strcmp(line, "/reset") == 0) {
        c->n_messages = 0;
    } else if (strcmp(line, "/think") == 0 && word != NULL) {
        c->thinking = strcmp(word, "on") == 0 ? MINKE_THINKING_ON : MINKE_THINKING_OFF;
    } else if (strcmp(line, "/system") == 0 && word != NULL) {
        c->n_messages = 0;
        add_message(c, "system", word, strlen(word));
    } else if (strcmp(line, "/save") == 0 && word != NULL && (file = fopen(word, "w")) != NULL) {
        fprintf(file, "[%s]\n", c->n_messages > 0 ? c->messages : "");
        fclose(file);
    } else if (strcmp(line, "/load") == 0 && word != NULL && (file = fopen(word, "r")) != NULL) {
        size_t n;
        fclose(file);
        char *text = read_file(&program, word, &n);
        char *end = strrchr(text, ']');
        c->n_messages = 0;
        if (text[0] == '[' && end > text + 1)
            add_json(c, text + 1, (size_t)(end - text) - 1);
        free(text);
    } else {
        fprintf(stderr, "%s\n", program.about);
    }
}

int main(int argc, char **argv)
{
    struct chat c = {.max_tokens = 1024, .context = 4096, .temperature = -1};
    const struct option options[] = {
        {"--encoding", OPTION_TEXT, &c.encoding, "NAME", "chat encoding (the model's own)"},
        {"--max-tokens", OPTION_COUNT, &c.max_tokens, "N", "of an answer (1024)"},
        {"--context", OPTION_COUNT, &c.context, "N", "tokens of the conversation (4096)"},
        CACHE_OPTION(&c.cache),
        ATTENTION_OPTIONS(&c.attention, &c.window),
        {"--threads", OPTION_COUNT, &c.threads, "N", "0 is what the machine allows (0)"},
        {"--temperature", OPTION_NUMBER, &c.temperature, "X", "0 is greedy (as advised)"},
        {"--seed", OPTION_SEED, &c.seed, "N", "equal seeds give equal text (0)"},
        {NULL, OPTION_FLAG, NULL, NULL, NULL}};
    minke_sampler_params sampling;
    minke_sampler *sampler = NULL;
    char line[65536];
    float advised;

    program.options = options;
    read_options(&program, argc, argv, &c.model, 1);
    if (c.model == NULL)
        usage_error(&program, "no model given", NULL);
    open_chat(&c);
    minke_sampler_params_init(&sampling, sizeof sampling);
    if (minke_chat_sampling(c.ctx, c.encoding, &advised, &sampling.top_p) < 0)
        fail_call(&program, "sampling");
    sampling.temperature = c.temperature >= 0 ? c.temperature : advised;
    sampling.seed = c.seed;
    if (minke_sampler_open(&sampler, &sampling) < 0)
        fail_call(&program, "sampler");
    c.color = is_terminal(stdout);
    for (;;) {
        if (is_terminal(stdin)) {
            fputs("> ", stdout);
            fflush(stdout);
        }
        if (fgets(line, sizeof line, stdin) == NULL)
            break;
        line[strcspn(line, "\n")] = '\0';
        if (line[0] == '/') {
            command(&c, line);
        } else if (line[0] != '\0') {
            add_message(&c, "user", line, strlen(line));
            catch_interrupt();
            reply_to(&c, sampler);
        }
    }
    minke_sampler_free(sampler);
    minke_session_free(c.session);
    minke_context_free(c.ctx);
    free(c.messages);
    return 0;
}
