#define _DEFAULT_SOURCE 1 /* getline, termios, ioctl, mkdir */
#include "chat_line.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "common.h"

/* ---- History ------------------------------------------------------------- */

#define HISTORY_MAX 1000

static char *history[HISTORY_MAX];   /* oldest first */
static int n_history;
static FILE *history_file;

static void history_add(const char *text, size_t n)
{
    char *copy;

    if (n == 0 || (n_history > 0 && strlen(history[n_history - 1]) == n
                   && memcmp(history[n_history - 1], text, n) == 0))
        return;
    if (n_history == HISTORY_MAX) {
        free(history[0]);
        memmove(history, history + 1, (HISTORY_MAX - 1) * sizeof *history);
        n_history--;
    }
    copy = need_memory(NULL, n + 1, 1);
    memcpy(copy, text, n);
    copy[n] = '\0';
    history[n_history++] = copy;
}

/* Make every folder on the way to the last '/'. */
static void make_folders(char *path)
{
    for (char *at = strchr(path + 1, '/'); at != NULL; at = strchr(at + 1, '/')) {
        *at = '\0';
        mkdir(path, 0700);
        *at = '/';
    }
}

void history_open(void)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char path[1024], *line = NULL;
    size_t size = 0;
    ssize_t n;
    FILE *old;

    if (state != NULL && state[0] == '/')
        snprintf(path, sizeof path, "%s/minke/history", state);
    else if (home != NULL && home[0] == '/')
        snprintf(path, sizeof path, "%s/.local/state/minke/history", home);
    else
        return;
    if ((old = fopen(path, "r")) != NULL) {
        while ((n = getline(&line, &size, old)) > 0)
            history_add(line, (size_t)(n - (line[n - 1] == '\n')));
        free(line);
        fclose(old);
    }
    make_folders(path);
    history_file = fopen(path, "a");
}

void history_close(void)
{
    if (history_file != NULL)
        fclose(history_file);
    history_file = NULL;
    while (n_history > 0)
        free(history[--n_history]);
}

static void history_keep(const char *text, size_t n)
{
    history_add(text, n);
    if (history_file == NULL || n == 0)
        return;
    fwrite(text, 1, n, history_file);
    putc('\n', history_file);
    fflush(history_file);
}

/* ---- Editor -------------------------------------------------------------- */

struct edit {
    const char *prompt;
    char *text;
    size_t n, at, capacity;   /* bytes; at is the cursor's place */
    int place;                /* in the history; n_history = the line being written */
};

/* Bytes of the character before or behind a place. */
static size_t before(const struct edit *e)
{
    size_t n = 0;

    while (n < e->at && ((unsigned char)e->text[e->at - ++n] & 0xc0) == 0x80)
        ;
    return n;
}

static size_t behind(const struct edit *e)
{
    size_t n = e->at < e->n;

    while (e->at + n < e->n && ((unsigned char)e->text[e->at + n] & 0xc0) == 0x80)
        n++;
    return n;
}

/* Columns of a character: none for accents that combine, two for East Asian ones and emoji. */
static int code_columns(unsigned long c)
{
    static const unsigned long wide[][2] = {
        {0x1100, 0x115f}, {0x2e80, 0xa4cf}, {0xac00, 0xd7a3}, {0xf900, 0xfaff}, {0xfe30, 0xfe6f},
        {0xff00, 0xff60}, {0xffe0, 0xffe6}, {0x1f300, 0x1f64f}, {0x1f680, 0x1f6ff},
        {0x1f900, 0x1faff}, {0x20000, 0x3fffd}};

    if ((c >= 0x300 && c <= 0x36f) || (c >= 0x200b && c <= 0x200f) || (c >= 0xfe00 && c <= 0xfe0f))
        return 0;
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        if (c >= wide[i][0] && c <= wide[i][1])
            return 2;
    return 1;
}

/* Columns that text takes. */
static int columns(const char *text, size_t n)
{
    int width = 0;

    for (size_t i = 0; i < n; ) {
        const unsigned char c = (unsigned char)text[i++];
        unsigned long code = c < 0x80 ? c : c < 0xe0 ? c & 0x1f : c < 0xf0 ? c & 0x0f : c & 0x07;

        for (; i < n && ((unsigned char)text[i] & 0xc0) == 0x80; i++)
            code = (code << 6 | ((unsigned char)text[i] & 0x3f)) & 0x1fffff;
        width += code_columns(code);
    }
    return width;
}

static void edit_insert(struct edit *e, const char *text, size_t n)
{
    if (e->n + n + 1 > e->capacity)
        e->text = need_memory(e->text, e->capacity = 2 * (e->n + n + 64), 1);
    memmove(e->text + e->at + n, e->text + e->at, e->n - e->at);
    memcpy(e->text + e->at, text, n);
    e->n += n;
    e->at += n;
    e->text[e->n] = '\0';
}

/* Remove n bytes that begin at from; the cursor is there then. */
static void edit_remove(struct edit *e, size_t from, size_t n)
{
    memmove(e->text + from, e->text + from + n, e->n - from - n);
    e->n -= n;
    e->at = from;
    e->text[e->n] = '\0';
}

static void edit_set(struct edit *e, const char *text)
{
    edit_remove(e, 0, e->n);
    edit_insert(e, text, strlen(text));
}

/* The line, or as much of it around the cursor as fits. */
static void edit_draw(const struct edit *e)
{
    struct winsize size = {0};
    const int width = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0
                    ? size.ws_col : 80;
    int room = width - columns(e->prompt, strlen(e->prompt)) - 2, back = 0;
    size_t first = e->at, last = e->at;

    /* From the cursor to the left, then to the right, so that long lines cost no more. */
    room = room < 2 ? 2 : room;
    for (size_t n; first > 0 && room > 0; room -= columns(e->text + first, n)) {
        for (n = 1; n < first && ((unsigned char)e->text[first - n] & 0xc0) == 0x80; n++)
            ;
        if (columns(e->text + first - n, n) > room)
            break;
        first -= n;
    }
    for (size_t n; last < e->n; last += n) {
        for (n = 1; last + n < e->n && ((unsigned char)e->text[last + n] & 0xc0) == 0x80; n++)
            ;
        if (columns(e->text + last, n) > room - back)
            break;
        back += columns(e->text + last, n);
    }
    printf("\r%s%.*s\033[K", e->prompt, (int)(last - first), e->text + first);
    if (back > 0)
        printf("\033[%dD", back);
    fflush(stdout);
}

static void edit_history(struct edit *e, int step)
{
    const int place = e->place + step;

    if (place < 0 || place > n_history)
        return;
    e->place = place;
    edit_set(e, place < n_history ? history[place] : "");
}

static int next_byte(void)
{
    unsigned char c;
    ssize_t n;

    do n = read(STDIN_FILENO, &c, 1); while (n < 0 && errno == EINTR);
    return n == 1 ? c : -1;
}

/* What follows an escape: arrows, home, end, delete. */
static void edit_escape(struct edit *e)
{
    int c = next_byte(), digit = 0;

    if (c != '[' && c != 'O')
        return;
    c = next_byte();
    while (c >= '0' && c <= ';') {
        digit = c;
        c = next_byte();
    }
    if (c == 'A' || c == 'B')
        edit_history(e, c == 'A' ? -1 : 1);
    else if (c == 'C')
        e->at += behind(e);
    else if (c == 'D')
        e->at -= before(e);
    else if (c == 'H' || (c == '~' && (digit == '1' || digit == '7')))
        e->at = 0;
    else if (c == 'F' || (c == '~' && (digit == '4' || digit == '8')))
        e->at = e->n;
    else if (c == '~' && digit == '3')
        edit_remove(e, e->at, behind(e));
}

static void edit_erase_word(struct edit *e)
{
    size_t from = e->at;

    while (from > 0 && e->text[from - 1] == ' ')
        from--;
    while (from > 0 && e->text[from - 1] != ' ')
        from--;
    edit_remove(e, from, e->at - from);
}

#define CONTROL(c) ((c) & 31)

/* One key; 1 when the line is complete, -1 at the end of all. */
static int edit_key(struct edit *e, int c)
{
    const char byte = (char)c;

    if (c < 0 || (c == CONTROL('d') && e->n == 0))
        return -1;
    if (c == '\r' || c == '\n')
        return 1;
    if (c == 127 || c == CONTROL('h')) {
        const size_t n = before(e);
        edit_remove(e, e->at - n, n);
    } else if (c == CONTROL('d')) {
        edit_remove(e, e->at, behind(e));
    } else if (c == CONTROL('c')) {
        fputs("^C\r\n", stdout);
        edit_set(e, "");
        e->place = n_history;
    } else if (c == CONTROL('a') || c == CONTROL('e')) {
        e->at = c == CONTROL('a') ? 0 : e->n;
    } else if (c == CONTROL('b') || c == CONTROL('f')) {
        e->at = c == CONTROL('b') ? e->at - before(e) : e->at + behind(e);
    } else if (c == CONTROL('p') || c == CONTROL('n')) {
        edit_history(e, c == CONTROL('p') ? -1 : 1);
    } else if (c == CONTROL('u')) {
        edit_remove(e, 0, e->at);
    } else if (c == CONTROL('k')) {
        edit_remove(e, e->at, e->n - e->at);
    } else if (c == CONTROL('w')) {
        edit_erase_word(e);
    } else if (c == CONTROL('l')) {
        fputs("\033[H\033[2J", stdout);
    } else if (c == 27) {
        edit_escape(e);
    } else if (c >= 32 || c == '\t') {
        edit_insert(e, c == '\t' ? " " : &byte, 1);
    }
    return 0;
}

static char *edit_line(const char *prompt, const struct termios *cooked)
{
    struct termios raw = *cooked;
    struct edit e = {.prompt = prompt, .place = n_history};
    int done = 0;

    raw.c_iflag &= ~(tcflag_t)(ICRNL | IXON);
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ISIG | IEXTEN);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
    edit_insert(&e, "", 0);
    while (done == 0) {
        edit_draw(&e);
        done = edit_key(&e, next_byte());
    }
    e.at = e.n;
    edit_draw(&e);
    fputs("\r\n", stdout);
    fflush(stdout);
    tcsetattr(STDIN_FILENO, TCSADRAIN, cooked);
    if (done > 0) {
        history_keep(e.text, e.n);
        return e.text;
    }
    free(e.text);
    return NULL;
}

int lines_are_edited(void)
{
    const char *kind = getenv("TERM");

    return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && kind != NULL
        && strcmp(kind, "dumb") != 0;
}

char *read_line(const char *prompt)
{
    struct termios cooked;
    char *line = NULL;
    size_t size = 0;
    ssize_t n;

    if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && tcgetattr(STDIN_FILENO, &cooked) == 0) {
        if (lines_are_edited())
            return edit_line(prompt, &cooked);
        fputs(prompt, stdout);
        fflush(stdout);
    }
    n = getline(&line, &size, stdin);
    if (n < 0) {
        free(line);
        return NULL;
    }
    while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
        line[--n] = '\0';
    for (char *at; n > 0 && (at = memchr(line, '\0', (size_t)n)) != NULL; )
        *at = ' ';   /* what follows is part of the line */
    return line;
}
