/* minke-chat: talk to a model in a terminal or through a pipe. */
#define _POSIX_C_SOURCE 200809L /* sigaction, open_memstream */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "chat_line.h"
#include "chat_tools.h"
#include "common.h"

static const char commands[] =
    "  /think on|off let the model think first  /fold      hide or show the thinking\n"
    "  /system TEXT  what it is told first      /thoughts  what it thought last\n"
    "  /tools on|off a calculator and a clock   /reset     forget the conversation\n"
    "  /save FILE    keep the conversation      /load FILE go on with a kept one\n"
    "  /help         this                       /quit      end (also Ctrl-D)\n"
    "Ctrl-C stops the answer.  A line that begins with // is a message with one /.";

static struct program program = {
    "minke-chat", "[MODEL] [options]",
    "Talk to the model in the folder MODEL, by default calf, the small one that comes with\n"
    "minke, or the one that MINKE_MODEL names.  A line is a message; these are commands:\n"
    "  /think on|off let the model think first  /fold      hide or show the thinking\n"
    "  /system TEXT  what it is told first      /thoughts  what it thought last\n"
    "  /tools on|off a calculator and a clock   /reset     forget the conversation\n"
    "  /save FILE    keep the conversation      /load FILE go on with a kept one\n"
    "  /help         this                       /quit      end (also Ctrl-D)\n"
    "Ctrl-C stops the answer.  In a pipe, only answers are written.", NULL};

#define MAX_ROUNDS 16   /* calls of tools that one question may lead to */

struct text {
    char *data;
    size_t n;
};

struct chat {
    const char *model, *encoding, *cache;
    uint32_t max_tokens, context, threads, thinking, max_thinking;
    float temperature;
    uint64_t seed;
    int color, talks;       /* stdout is a terminal; so is stderr */
    int folded, tools, think, exact;
    int failed;             /* something that was asked for did not come */
    minke_context *ctx;
    minke_session *session;
    minke_sampler *sampler;
    struct text messages;   /* the items of the JSON array, joined */
    struct text results;    /* those of the tools that the answer called */
    struct text thoughts;   /* the last reasoning */
    struct progress bar;
    int in_reasoning, n_content;
    size_t n_thoughts;      /* pieces of it */
    double start, first;    /* of the answer: when it was asked for, and the prompt read */
};

/* ---- Text ---------------------------------------------------------------- */

static void add(struct text *t, const char *data, size_t n)
{
    t->data = need_memory(t->data, t->n + n + 1, 1);
    memcpy(t->data + t->n, data, n);
    t->n += n;
    t->data[t->n] = '\0';
}

static void clear(struct text *t)
{
    t->n = 0;
    add(t, "", 0);
}

/* One more item of a JSON array. */
static void add_item(struct text *list, const char *json, size_t n)
{
    if (list->n > 0)
        add(list, ", ", 2);
    add(list, json, n);
}

static void add_message(struct text *list, const char *role, const char *content)
{
    char *json = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&json, &n);

    if (out == NULL)
        fail_text(&program, "out of memory", NULL);
    fprintf(out, "{\"role\": \"%s\", \"content\": ", role);
    json_string(out, content, strlen(content));
    putc('}', out);
    fclose(out);
    add_item(list, json, n);
    free(json);
}

/* ---- Interrupt ----------------------------------------------------------- */

static minke_session *answering;   /* what Ctrl-C stops; NULL between answers */
static volatile sig_atomic_t stopped;

static void on_interrupt(int number)
{
    (void)number;
    stopped = 1;
    /* It only sets a flag, which a handler may do. */
    minke_session_cancel(answering);
}

/* Ctrl-C is for the answer of s.  Between answers it is a key of the editor, and one that comes
 * a moment early or late ends nothing. */
static void watch_interrupt(minke_session *s)
{
    struct sigaction action;

    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_handler = s != NULL ? on_interrupt : lines_are_edited() ? SIG_IGN : SIG_DFL;
    answering = s;
    stopped = 0;
    sigaction(SIGINT, &action, NULL);
}

/* A cancel that came too late would stop the next answer: use it up. */
static void forget_interrupt(struct chat *c)
{
    const size_t n = minke_session_length(c->session);
    int32_t last;

    if (n == 0)
        return;
    last = minke_session_tokens(c->session)[n - 1];
    minke_session_truncate(c->session, n - 1);
    minke_session_eval(c->session, &last, 1);
}

/* ---- Events -------------------------------------------------------------- */

/* Leave the reasoning: what it was, in a line, when it is folded. */
static void end_reasoning(struct chat *c)
{
    if (!c->in_reasoning)
        return;
    c->in_reasoning = 0;
    if (c->folded && c->color)
        printf("\r\033[2mthought for %.1f s (/thoughts shows it)\033[0m\033[K\n",
               seconds() - (c->first > 0 ? c->first : c->start));
    else if (!c->folded)
        fputs(c->color ? "\033[0m\n\n" : "\n\n", stdout);
}

static void on_reasoning(struct chat *c, const char *text, size_t len)
{
    if (!c->in_reasoning) {
        clear(&c->thoughts);
        c->n_thoughts = 0;
        if (!c->folded && c->color)
            fputs("\033[2m", stdout);
    }
    c->in_reasoning = 1;
    add(&c->thoughts, text, len);
    c->n_thoughts++;
    if (!c->folded)
        fwrite(text, 1, len, stdout);
    else if (c->color)
        printf("\r\033[2mthinking, %zu pieces\033[0m\033[K", c->n_thoughts);
}

/* A whole call: run it, and keep the result for the model. */
static void on_call(struct chat *c, const char *call, size_t len)
{
    char *name = json_member(call, len, "name"), *arguments = json_member(call, len, "arguments");
    char *result = run_tool(name != NULL ? name : "", arguments != NULL ? arguments : "{}");

    if (c->color)
        printf("\033[36m%s %s = %s\033[0m\n", name != NULL ? name : "", arguments != NULL
                                                                        ? arguments : "", result);
    add_message(&c->results, "tool", result);
    free(name);
    free(arguments);
    free(result);
}

static int32_t on_event(void *user, int32_t event, uint32_t call, const char *text, size_t len)
{
    struct chat *c = user;

    (void)call;
    progress_end(&c->bar);
    if (event != MINKE_REPLY_EVENT_REASONING)
        end_reasoning(c);
    if (event == MINKE_REPLY_EVENT_REASONING)
        on_reasoning(c, text, len);
    else if (event == MINKE_REPLY_EVENT_CALL_END)
        on_call(c, text, len);
    else if (event == MINKE_REPLY_EVENT_MALFORMED && c->talks)
        fprintf(stderr, "(%.*s)\n", (int)len, text);
    if (event == MINKE_REPLY_EVENT_CONTENT) {
        fwrite(text, 1, len, stdout);
        c->n_content++;
    }
    fflush(stdout);
    return 0;
}

static int32_t on_loading(void *user, uint64_t done, uint64_t total)
{
    progress_draw(user, done, total);
    return 0;
}

/* Tokens of the prompt; those of the answer come one at a time. */
static int32_t on_reading(void *user, uint64_t done, uint64_t total)
{
    struct chat *c = user;

    if (total > 1)
        progress_draw(&c->bar, done, total);
    if (done == total && c->first == 0)
        c->first = seconds();
    return 0;
}

/* ---- Answering ----------------------------------------------------------- */

static void open_chat(struct chat *c)
{
    struct progress bar = {.label = "loading", .bytes = 1, .shown = c->talks};
    minke_context_params params;
    minke_session_params session;
    minke_sampler_params sampling;
    float advised;

    minke_context_params_init(&params, sizeof params);
    params.n_threads = c->threads;
    params.flags = c->exact ? 0 : MINKE_CONTEXT_FAST;
    params.progress = on_loading;
    params.progress_user = &bar;
    if (minke_context_open(&c->ctx, c->model, &params) < 0)
        fail_call(&program, c->model);
    progress_end(&bar);
    if (c->encoding == NULL && minke_chat_encoding(c->ctx, &c->encoding) < 0)
        fail_call(&program, "chat");
    minke_session_params_init(&session, sizeof session);
    session.max_tokens = c->context;
    session.progress = on_reading;
    session.progress_user = c;
    set_cache(&program, &session, c->cache == NULL && c->exact ? "f32" : c->cache);
    if (minke_session_open(&c->session, c->ctx, &session) < 0)
        fail_call(&program, "session");
    minke_sampler_params_init(&sampling, sizeof sampling);
    if (minke_chat_sampling(c->ctx, c->encoding, &advised, &sampling.top_p) < 0)
        fail_call(&program, "sampling");
    sampling.temperature = isnan(c->temperature) ? advised : c->temperature;
    sampling.seed = c->seed;
    if (minke_sampler_open(&c->sampler, &sampling) < 0)
        fail_call(&program, "sampler");
}

/* The prompt's tokens in fresh memory, NULL when these messages give none. */
static int32_t *encode(const struct chat *c, const struct text *messages, size_t *n)
{
    struct text json = {NULL, 0};
    minke_chat_params params;
    int32_t *ids = NULL, status;

    add(&json, "[", 1);
    add(&json, messages->data, messages->n);
    add(&json, "]", 1);
    minke_chat_params_init(&params, sizeof params);
    params.encoding = c->encoding;
    params.thinking = c->thinking;
    params.retention = MINKE_RETAIN_DEFAULT;
    params.tools = c->tools ? chat_tools : NULL;
    params.tools_len = c->tools ? strlen(chat_tools) : 0;
    *n = 0;
    status = minke_chat_encode(c->ctx, json.data, json.n, &params, NULL, 0, n);
    if (status == MINKE_ENOSPC) {
        ids = need_memory(NULL, *n, sizeof *ids);
        status = minke_chat_encode(c->ctx, json.data, json.n, &params, ids, *n, n);
    }
    free(json.data);
    if (status < 0) {
        free(ids);
        return NULL;
    }
    return ids;
}

static void complain(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, minke_last_error());
}

/* What there is to say about an answer. */
static void report(const struct chat *c, const minke_generator *g, int32_t reason)
{
    static const char *const why[] = {
        "", "", ", cut at --max-tokens", ", cut at --max-tokens while thinking", "", ", stopped",
        ", no room left: /reset or a larger --context"};
    int64_t n = 0, n_prompt = 0, n_reused = 0;
    const double time = seconds() - (c->first > 0 ? c->first : c->start);

    minke_generator_info(g, MINKE_GENERATOR_N_TOKENS, &n);
    minke_generator_info(g, MINKE_GENERATOR_N_PROMPT, &n_prompt);
    minke_generator_info(g, MINKE_GENERATOR_N_REUSED, &n_reused);
    if (!c->talks)
        return;
    fprintf(stderr, c->color ? "\033[2m" : "");
    fprintf(stderr, "%lld tokens, %.1f/s; %lld read in %.1f s, %lld of them new%s",
            (long long)n, (double)n / (time + 1e-9), (long long)n_prompt,
            c->first > 0 ? c->first - c->start : time, (long long)(n_prompt - n_reused),
            why[reason]);
    fprintf(stderr, c->color ? "\033[0m\n" : "\n");
}

static void keep_message(struct chat *c, const minke_generator *g)
{
    size_t n = 0;
    char *json;

    if (minke_generator_message(g, NULL, 0, &n) != MINKE_ENOSPC)
        return;
    json = need_memory(NULL, n, 1);
    if (minke_generator_message(g, json, n, &n) >= 0)
        add_item(&c->messages, json, n);
    free(json);
}

/* One reply to the messages; MINKE_FINISH_*, or negative when nothing came of it. */
static int32_t reply(struct chat *c)
{
    minke_generate_params params;
    minke_generator *g = NULL;
    int32_t reason = -1, *ids, status;
    size_t n;

    if ((ids = encode(c, &c->messages, &n)) == NULL) {
        complain("no prompt");
        return -1;
    }
    minke_generate_params_init(&params, sizeof params);
    params.encoding = c->encoding;
    params.thinking = c->thinking;
    params.max_tokens = c->max_tokens;
    params.max_thinking = c->max_thinking;
    params.on_event = on_event;
    params.user = c;
    clear(&c->results);
    c->start = seconds();
    c->first = 0;
    c->n_content = 0;
    c->bar.last = 0;
    status = minke_generator_open(&g, c->session, c->sampler, ids, n, &params);
    free(ids);
    if (status >= 0)
        status = minke_generator_step(g, UINT64_MAX, &reason, NULL);
    progress_end(&c->bar);
    if (status < 0) {
        complain(status == MINKE_EFULL ? "no room, try /reset or a larger --context" : "no answer");
        reason = -1;
    } else {
        if (c->n_content > 0 || c->in_reasoning || reason != MINKE_FINISH_TOOL_CALLS)
            putchar('\n');
        fflush(stdout);
        report(c, g, reason);
        if (minke_generator_tokens(g, &n) != NULL && n > 0)
            keep_message(c, g);
        else if (reason == MINKE_FINISH_CANCELED)
            reason = -1;   /* before the first token: as if nothing had been asked */
    }
    minke_generator_free(g);
    return reason;
}

/* Answer the user, with what tools say, until the model has done.  What cannot be answered must
 * not stay in front of the next question. */
static void answer(struct chat *c, const char *question)
{
    const size_t before = c->messages.n;
    int32_t reason;
    int round = 0;

    add_message(&c->messages, "user", question);
    watch_interrupt(c->session);
    do {
        reason = reply(c);
        if (reason == MINKE_FINISH_TOOL_CALLS)
            add_item(&c->messages, c->results.data, c->results.n);
    } while (reason == MINKE_FINISH_TOOL_CALLS && !stopped && ++round < MAX_ROUNDS);
    if (stopped && reason != MINKE_FINISH_CANCELED && reason >= 0)
        forget_interrupt(c);
    watch_interrupt(NULL);
    c->failed |= reason < 0;
    if (reason < 0 && round == 0) {
        c->messages.n = before;
        c->messages.data[before] = '\0';
    }
}

/* ---- Commands ------------------------------------------------------------ */

/* path and what follows its name, in fresh memory. */
static char *beside(const char *path, const char *end)
{
    const size_t n = strlen(path) + strlen(end) + 1;
    char *text = need_memory(NULL, n, 1);

    snprintf(text, n, "%s%s", path, end);
    return text;
}

/* Whole, or not at all: an older file stays where the new one cannot be written. */
static int save_messages(const struct chat *c, const char *path)
{
    char *part = beside(path, ".part");
    struct stat s;
    FILE *file;
    int ok = 0;

    if (stat(path, &s) == 0 && !S_ISREG(s.st_mode)) {
        errno = S_ISDIR(s.st_mode) ? EISDIR : EINVAL;
    } else if ((file = fopen(part, "w")) != NULL) {
        ok = finish_file(file, part, fprintf(file, "[%s]\n", c->messages.data) >= 0);
        if (ok && rename(part, path) != 0) {
            ok = 0;
            remove(part);
        }
    }
    free(part);
    return ok;
}

static void save(struct chat *c, const char *path)
{
    char *cache;

    if (!save_messages(c, path)) {
        fprintf(stderr, "cannot write %s: %s\n", path, strerror(errno));
        c->failed = 1;
        return;
    }
    cache = beside(path, ".cache");
    if (minke_session_save(c->session, cache) < 0)
        complain("saved without what the model read");
    else if (c->talks)
        fprintf(stderr, "saved in %s; %s saves reading it again\n", path, cache);
    free(cache);
}

/* What the model had read, where it was kept. */
static void load_cache(struct chat *c, const char *path)
{
    char *cache = beside(path, ".cache");
    FILE *file = fopen(cache, "rb");

    if (file != NULL) {
        fclose(file);
        if (minke_session_load(c->session, cache) < 0)
            complain("loaded without what the model read");
    }
    free(cache);
}

static void load(struct chat *c, const char *path)
{
    struct text read = {NULL, 0};
    char *text, *end;
    int32_t *ids = NULL;
    size_t n;

    if ((text = read_text(path, &n)) == NULL) {
        fprintf(stderr, "cannot read %s: %s\n", path, strerror(errno));
        c->failed = 1;
        return;
    }
    end = strrchr(text, ']');
    if (text[0] == '[' && end != NULL)
        add(&read, text + 1, (size_t)(end - text) - 1);
    free(text);
    if (read.data == NULL || (ids = encode(c, &read, &n)) == NULL) {
        fprintf(stderr, "%s: %s\n", path, read.data == NULL ? "no list of messages"
                                                            : minke_last_error());
        c->failed = 1;
        free(read.data);
        return;
    }
    free(ids);
    free(c->messages.data);
    c->messages = read;
    load_cache(c, path);
    if (c->talks)
        fprintf(stderr, "loaded %s\n", path);
}

/* A switch by "on" or "off", or turned over without a word. */
static void turn(struct chat *c, const char *what, const char *word, int *now)
{
    if (word == NULL || word[0] == '\0') {
        *now = !*now;
    } else if (strcmp(word, "on") == 0 || strcmp(word, "off") == 0) {
        *now = word[1] == 'n';
    } else {
        fprintf(stderr, "on or off expected, not %s\n", word);
        c->failed = 1;
        return;
    }
    if (c->talks)
        fprintf(stderr, "%s %s\n", what, *now ? "on" : "off");
}

static void forget(struct chat *c, const char *system)
{
    clear(&c->messages);
    if (system != NULL && system[0] != '\0')
        add_message(&c->messages, "system", system);
    if (c->talks)
        fprintf(stderr, "a new conversation\n");
}

/* A line that begins with a slash; 0 to end. */
static int command(struct chat *c, char *line)
{
    char *word = strchr(line, ' ');

    if (word != NULL)
        *word++ = '\0';
    if (strcmp(line, "/quit") == 0 || strcmp(line, "/exit") == 0)
        return 0;
    if (strcmp(line, "/reset") == 0) {
        forget(c, NULL);
    } else if (strcmp(line, "/system") == 0) {
        forget(c, word);
    } else if (strcmp(line, "/think") == 0) {
        turn(c, "thinking is", word, &c->think);
        c->thinking = c->think ? MINKE_THINKING_ON : MINKE_THINKING_OFF;
    } else if (strcmp(line, "/tools") == 0) {
        turn(c, "calculator and clock are", word, &c->tools);
    } else if (strcmp(line, "/fold") == 0) {
        turn(c, "folding is", word, &c->folded);
    } else if (strcmp(line, "/thoughts") == 0) {
        printf("%s\n", c->thoughts.n > 0 ? c->thoughts.data : "(none)");
    } else if (strcmp(line, "/save") == 0 && word != NULL && *word != '\0') {
        save(c, word);
    } else if (strcmp(line, "/load") == 0 && word != NULL && *word != '\0') {
        load(c, word);
    } else {
        c->failed |= strcmp(line, "/help") != 0;
        if (strcmp(line, "/help") != 0)
            fprintf(stderr, "%s is no command%s\n", line,
                    strcmp(line, "/save") == 0 || strcmp(line, "/load") == 0
                        ? " without a FILE" : "; these are:");
        fprintf(stderr, "%s\n", commands);
    }
    return 1;
}

static void talk(struct chat *c)
{
    char *line;

    while ((line = read_line("> ")) != NULL) {
        int go_on = 1;

        if (line[0] == '/' && line[1] != '/') {
            go_on = command(c, line);
        } else if (line[strspn(line, " \t")] != '\0') {
            answer(c, line + (line[0] == '/'));
        }
        free(line);
        if (!go_on)
            break;
    }
}

int main(int argc, char **argv)
{
    struct chat c = {.max_tokens = 1024, .context = 4096, .temperature = NAN,
                     .bar = {.label = "reading"}};
    const struct option options[] = {
        {"--encoding", OPTION_TEXT, &c.encoding, "NAME", "chat encoding (the model's own)"},
        {"--think", OPTION_FLAG, &c.think, NULL, "let the model think first"},
        {"--tools", OPTION_FLAG, &c.tools, NULL, "give it a calculator and a clock"},
        {"--fold", OPTION_FLAG, &c.folded, NULL, "hide the thinking"},
        {"--max-tokens", OPTION_COUNT, &c.max_tokens, "N", "of an answer (1024)"},
        {"--max-thinking", OPTION_COUNT, &c.max_thinking, "N", "of its thinking (no limit)"},
        {"--context", OPTION_COUNT, &c.context, "N", "tokens of the conversation (4096)"},
        {"--threads", OPTION_COUNT, &c.threads, "N", "0 is what the machine allows (0)"},
        {"--temperature", OPTION_NUMBER, &c.temperature, "X", "0 is greedy (as advised)"},
        {"--seed", OPTION_SEED, &c.seed, "N", "equal seeds give equal text (0)"},
        CACHE_OPTION(&c.cache),
        EXACT_OPTION(&c.exact),
        {NULL, OPTION_FLAG, NULL, NULL, NULL}};

    program.options = options;
    read_options(&program, argc, argv, &c.model, 1);
    c.model = find_model(&program, c.model);
    c.color = is_terminal(stdout);
    c.talks = is_terminal(stderr) && is_terminal(stdin);
    c.bar.shown = is_terminal(stderr);
    c.folded |= !c.color;   /* in a pipe, only answers */
    c.thinking = c.think ? MINKE_THINKING_ON : MINKE_THINKING_DEFAULT;
    clear(&c.messages);
    clear(&c.thoughts);
    open_chat(&c);
    if (is_terminal(stdin))
        history_open();
    if (c.talks)
        fprintf(stderr, "%s; /help lists commands\n", c.encoding);
    talk(&c);
    history_close();
    if (ferror(stdin))
        fail_text(&program, "cannot read standard input", NULL);
    end_output(&program);
    minke_sampler_free(c.sampler);
    minke_session_free(c.session);
    minke_context_free(c.ctx);
    free(c.messages.data);
    free(c.results.data);
    free(c.thoughts.data);
    return c.failed && !is_terminal(stdin);   /* at a terminal it was said, and dealt with */
}
