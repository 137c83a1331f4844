#define _POSIX_C_SOURCE 200809L /* isatty, fileno, clock_gettime, sigaction */
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- Options ------------------------------------------------------------- */

static void print_help(const struct program *program)
{
    printf("usage: %s %s\n\n%s\n\noptions:\n", program->name, program->usage, program->about);
    for (const struct option *o = program->options; o->name != NULL; o++) {
        char left[64];
        snprintf(left, sizeof left, "%s%s%s", o->name, o->value != NULL ? " " : "",
                 o->value != NULL ? o->value : "");
        printf("  %-28s %s\n", left, o->help);
    }
    printf("  %-28s %s\n  %-28s %s\n", "--help", "print this and exit", "--version",
           "print the version and exit");
}

void usage_error(const struct program *program, const char *what, const char *value)
{
    fprintf(stderr, "%s: %s%s%s (see %s --help)\n", program->name, what,
            value != NULL ? " " : "", value != NULL ? value : "", program->name);
    exit(2);
}

/* Store text in the option's target; 0, or -1 when it is not such a value. */
static int set_option(const struct option *o, const char *text)
{
    char *end = NULL;
    errno = 0;
    if (o->kind == OPTION_TEXT) {
        *(const char **)o->target = text;
        return 0;
    }
    if (o->kind == OPTION_NUMBER) {
        const float x = (float)strtod(text, &end);
        if (end == text || *end != '\0' || !isfinite(x))
            return -1;
        *(float *)o->target = x;
        return 0;
    }
    if (text[0] < '0' || text[0] > '9')
        return -1;
    const unsigned long long x = strtoull(text, &end, 10);
    if (*end != '\0' || errno != 0 || (o->kind == OPTION_COUNT && x > UINT32_MAX))
        return -1;
    if (o->kind == OPTION_COUNT)
        *(uint32_t *)o->target = (uint32_t)x;
    else
        *(uint64_t *)o->target = (uint64_t)x;
    return 0;
}

static const struct option *find_option(const struct program *program, const char *text,
                                        size_t n)
{
    for (const struct option *o = program->options; o->name != NULL; o++)
        if (strlen(o->name) == n && memcmp(o->name, text, n) == 0)
            return o;
    return NULL;
}

/* Read the option at argv[i]; returns how many arguments it took. */
static int read_option(const struct program *program, int argc, char **argv, int i)
{
    const char *equals = strchr(argv[i], '=');
    const size_t n = equals != NULL ? (size_t)(equals - argv[i]) : strlen(argv[i]);
    const struct option *o = find_option(program, argv[i], n);
    if (o == NULL)
        usage_error(program, "unknown option", argv[i]);
    if (o->kind == OPTION_FLAG) {
        if (equals != NULL)
            usage_error(program, "no value expected:", argv[i]);
        *(int *)o->target = 1;
        return 1;
    }
    if (equals == NULL && i + 1 >= argc)
        usage_error(program, "value expected after", argv[i]);
    const char *value = equals != NULL ? equals + 1 : argv[i + 1];
    if (set_option(o, value) != 0) {
        char what[128];
        snprintf(what, sizeof what, "%s: %s expected, not", o->name,
                 o->kind == OPTION_NUMBER ? "a number" : "a whole number in range");
        usage_error(program, what, value);
    }
    return equals != NULL ? 1 : 2;
}

/* A stream that the caller closed must not become the next file that is opened, into which
 * messages would then be written: hold its place with something that refuses it. */
static void hold_streams(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) < 0)
            exit(1);
}

int read_options(const struct program *program, int argc, char **argv, const char **words,
                 int max_words)
{
    int n = 0, options = 1;
    hold_streams();
    for (int i = 1; i < argc;) {
        if (options && strcmp(argv[i], "--help") == 0) {
            print_help(program);
            end_output(program);
            exit(0);
        }
        if (options && strcmp(argv[i], "--version") == 0) {
            const uint32_t v = minke_version();
            printf("%s %u.%u.%u\n", program->name, (unsigned)(v >> 16),
                   (unsigned)(v >> 8 & 255), (unsigned)(v & 255));
            end_output(program);
            exit(0);
        }
        if (options && strcmp(argv[i], "--") == 0) {
            options = 0;
            i++;
        } else if (options && argv[i][0] == '-' && argv[i][1] != '\0') {
            i += read_option(program, argc, argv, i);
        } else {
            if (n == max_words)
                usage_error(program, "one argument too many:", argv[i]);
            words[n++] = argv[i++];
        }
    }
    return n;
}

const char *find_model(const struct program *program, const char *word)
{
    const char *named = getenv("MINKE_MODEL"), *model = named;

    if (word != NULL && (strcmp(word, "calf") != 0 || access(word, R_OK) == 0))
        return word;
#ifdef MINKE_CALF
    if (named == NULL && access(MINKE_CALF "/config.json", R_OK) == 0)
        model = MINKE_CALF;
#endif
    if (model == NULL || *model == '\0')
        usage_error(program, "no model given, and calf is not installed", NULL);
    return model;
}

void set_cache(const struct program *program, minke_session_params *params, const char *type)
{
    static const char *const names[] = {"f32", "bf16", "fp8", "native"};
    static const uint32_t types[] = {MINKE_CACHE_F32, MINKE_CACHE_BF16, MINKE_CACHE_FP8,
                                     MINKE_CACHE_NATIVE};
    size_t i = 0;
    while (i < 4 && strcmp(names[i], type != NULL ? type : "native") != 0)
        i++;
    if (i == 4)
        usage_error(program, "--cache: f32, bf16, fp8 or native expected, not", type);
    params->cache_type = types[i];
    params->index_type = i == 0 ? MINKE_INDEX_F32 : MINKE_INDEX_NATIVE;
}

void set_attention(const struct program *program, minke_session_params *params, const char *type,
                   uint32_t window)
{
    if (type == NULL)
        params->attention = window > 0 ? MINKE_ATTENTION_WINDOW : MINKE_ATTENTION_DEFAULT;
    else if (strcmp(type, "dsa") == 0)
        params->attention = MINKE_ATTENTION_DSA;
    else if (strcmp(type, "dense") == 0)
        params->attention = MINKE_ATTENTION_DENSE;
    else if (strcmp(type, "window") == 0)
        params->attention = MINKE_ATTENTION_WINDOW;
    else
        usage_error(program, "--attention: dsa, dense or window expected, not", type);
    if ((params->attention == MINKE_ATTENTION_WINDOW) != (window > 0))
        usage_error(program, "--attention window and --window N go together", NULL);
    params->window = window;
}

/* ---- Failing ------------------------------------------------------------- */

void fail_call(const struct program *program, const char *what)
{
    const char *why = minke_last_error();
    if (interrupted()) {
        fprintf(stderr, "%s: stopped\n", program->name);
        exit(interrupted());
    }
    if (strncmp(why, what, strlen(what)) == 0)   /* it names the file itself */
        fprintf(stderr, "%s: %s\n", program->name, why);
    else
        fprintf(stderr, "%s: %s: %s\n", program->name, what, why);
    exit(1);
}

void fail_text(const struct program *program, const char *what, const char *value)
{
    fprintf(stderr, "%s: %s%s%s\n", program->name, what, value != NULL ? " " : "",
            value != NULL ? value : "");
    exit(1);
}

void end_output(const struct program *program)
{
    if (fflush(stdout) != 0 || ferror(stdout))
        fail_text(program, "cannot write the output", NULL);
}

int finish_file(FILE *file, const char *path, int ok)
{
    struct stat s;
    const int regular = fstat(fileno(file), &s) == 0 && S_ISREG(s.st_mode);
    ok = ok && fflush(file) == 0 && !ferror(file);
    const int why = errno;
    ok = fclose(file) == 0 && ok;
    if (!ok && regular)
        remove(path);
    if (!ok && why != 0)
        errno = why;
    return ok;
}

void *need_memory(void *old, size_t count, size_t size)
{
    if (size != 0 && count > SIZE_MAX / size)
        count = SIZE_MAX / size;
    void *block = realloc(old, count * size + 1);
    if (block == NULL) {
        fputs("out of memory\n", stderr);
        exit(1);
    }
    return block;
}

/* ---- Terminal ------------------------------------------------------------ */

int is_terminal(FILE *stream)
{
    return isatty(fileno(stream));
}

double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void progress_draw(struct progress *p, uint64_t done, uint64_t total)
{
    static const char full[] = "##############################";
    static const char rest[] = "------------------------------";
    const int width = (int)sizeof full - 1;
    const double now = p->shown ? seconds() : 0;
    if (!p->shown || total == 0)
        return;
    if (p->last == 0)   /* what is over in a moment needs no bar */
        p->last = now + 0.1;
    if (now - p->last < 0.1)
        return;
    const double part = done < total ? (double)done / (double)total : 1.0;
    const int n = (int)(part * width);
    char a[32], b[32];
    if (p->bytes) {
        bytes_text(a, done);
        bytes_text(b, total);
    } else {
        snprintf(a, sizeof a, "%llu", (unsigned long long)done);
        snprintf(b, sizeof b, "%llu tokens", (unsigned long long)total);
    }
    fprintf(stderr, "\r%-9s [%.*s%.*s] %3d %%  %s of %s\033[K", p->label, n, full, width - n,
            rest, (int)(100 * part), a, b);
    fflush(stderr);
    p->last = now;
    p->drawn = 1;
}

void progress_end(struct progress *p)
{
    if (p->drawn)
        fputs("\r\033[K", stderr);
    p->drawn = 0;
}

/* ---- Interrupt ----------------------------------------------------------- */

static volatile sig_atomic_t interrupt_seen;

static void on_interrupt(int signal_number)
{
    interrupt_seen = signal_number;
}

void catch_interrupt(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    interrupt_seen = 0;
    action.sa_handler = on_interrupt;
    sigemptyset(&action.sa_mask);
    action.sa_flags = (int)SA_RESETHAND | SA_RESTART;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);   /* as Ctrl-C: nothing half written stays */
}

int interrupted(void)
{
    return interrupt_seen != 0 ? 128 + interrupt_seen : 0;
}

/* ---- Text ---------------------------------------------------------------- */

const char *bytes_text(char *buffer, uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double x = (double)bytes;
    int unit = 0;
    while (x >= 1024 && unit < 4) {
        x /= 1024;
        unit++;
    }
    snprintf(buffer, 32, unit == 0 ? "%.0f %s" : "%.1f %s", x, units[unit]);
    return buffer;
}

const char *count_text(char *buffer, int64_t count)
{
    const double x = (double)count;
    if (x >= 1e9)
        snprintf(buffer, 32, "%.1f B", x / 1e9);
    else if (x >= 1e6)
        snprintf(buffer, 32, "%.1f M", x / 1e6);
    else if (x >= 1e4)
        snprintf(buffer, 32, "%.1f K", x / 1e3);
    else
        snprintf(buffer, 32, "%lld", (long long)count);
    return buffer;
}

/* Bytes of the well-formed UTF-8 character that text begins with; 0 when it does not. */
static size_t utf8_length(const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text, c = p[0];
    const size_t length = c < 0x80 ? 1 : c < 0xc2 || c > 0xf4 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    if (length > n)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((c == 0xe0 && p[1] < 0xa0) || (c == 0xed && p[1] > 0x9f) || (c == 0xf0 && p[1] < 0x90) ||
        (c == 0xf4 && p[1] > 0x8f))
        return 0;
    return length;
}

void json_string(FILE *out, const char *text, size_t n)
{
    putc('"', out);
    for (size_t i = 0, length; i < n; i += length) {
        const unsigned char c = (unsigned char)text[i];
        length = utf8_length(text + i, n - i);
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c == '\n')
            fputs("\\n", out);
        else if (c < 0x20 || c == 0x7f)
            fprintf(out, "\\u%04x", c);
        else if (length > 0)
            fwrite(text + i, 1, length, out);
        else
            fputs("\xef\xbf\xbd", out);
        length += length == 0;
    }
    putc('"', out);
}

char *read_text(const char *path, size_t *n)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    if (file == NULL)
        return NULL;
    char *text = NULL;
    size_t size = 0, got;
    do {
        text = need_memory(text, size + 65536, 1);
        got = fread(text + size, 1, 65536, file);
        size += got;
    } while (got > 0);
    const int failed = ferror(file), why = errno;
    if (file != stdin)
        fclose(file);
    if (failed) {
        free(text);
        errno = why;
        return NULL;
    }
    text[size] = '\0';   /* the last piece was empty */
    *n = size;
    return text;
}

char *read_file(const struct program *program, const char *path, size_t *n)
{
    char *text = read_text(path, n);
    if (text == NULL) {
        fprintf(stderr, "%s: cannot read %s: %s\n", program->name,
                strcmp(path, "-") == 0 ? "standard input" : path, strerror(errno));
        exit(1);
    }
    return text;
}
