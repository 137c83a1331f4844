/* What the programs share: options, a progress bar, time, JSON text.  The programs are
 * written on minke.h alone. */
#ifndef EXAMPLES_COMMON_H
#define EXAMPLES_COMMON_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "minke.h"

/* ---- Options ------------------------------------------------------------- */

enum option_kind {
    OPTION_FLAG,    /* int, set to 1 */
    OPTION_TEXT,    /* const char * */
    OPTION_COUNT,   /* uint32_t */
    OPTION_SEED,    /* uint64_t */
    OPTION_NUMBER   /* float */
};

struct option {
    const char *name;   /* with its dashes; NULL ends the list */
    enum option_kind kind;
    void *target;
    const char *value;  /* what the help calls the argument; NULL for a flag */
    const char *help;
};

struct program {
    const char *name;       /* "minke-generate" */
    const char *usage;      /* what follows the name: "MODEL [PROMPT] [options]" */
    const char *about;      /* a few lines for --help */
    const struct option *options;
};

/* Read the command line.  "--name value" and "--name=value" both work, "--" ends the
 * options; what is left goes to words (at most max_words).  Prints the help or the version
 * and exits with 0; says what is wrong and exits with 2.  Returns the number of words. */
int read_options(const struct program *program, int argc, char **argv, const char **words,
                 int max_words);

/* Say what is wrong with the command line and exit with 2. */
void usage_error(const struct program *program, const char *what, const char *value);

/* The model to open: word itself; where it is NULL, or "calf" and there is no such path, the
 * default model, which is the folder in the environment variable MINKE_MODEL or the calf that was
 * installed with the program.  Exits with 2 when there is none. */
const char *find_model(const struct program *program, const char *word);

/* How a session keeps its caches: "f32" is exact, "bf16" and "fp8" take less memory (index keys
 * then take 8 bits), NULL or "native" is what the model was trained for.  Exits with 2 for
 * anything else. */
void set_cache(const struct program *program, minke_session_params *params, const char *type);
#define CACHE_OPTION(target) {"--cache", OPTION_TEXT, target, "TYPE", \
                              "f32, bf16, fp8, or native: as the model was trained (native)"}

/* Programs let activations be rounded where that is faster; --exact is for nothing rounded: 32
 * bits there, and in caches too unless --cache says otherwise. */
#define EXACT_OPTION(target) {"--exact", OPTION_FLAG, target, NULL, \
                              "round neither activations nor caches"}

/* Which past tokens a session attends to: "dsa" is what the indexer selects, "dense" all of them,
 * "window" (or NULL, where window is not 0) the last window ones, NULL the model's own way.
 * Exits with 2 for anything else. */
void set_attention(const struct program *program, minke_session_params *params, const char *type,
                   uint32_t window);
#define ATTENTION_OPTIONS(type, window) \
    {"--attention", OPTION_TEXT, type, "TYPE", "dsa, dense or window (the model's own)"}, \
    {"--window", OPTION_COUNT, window, "N", "attend to the last N tokens alone"}

/* ---- Failing ------------------------------------------------------------- */

/* Print "minke-generate: WHAT: message of the last error" and exit with 1; or say that the program
 * was interrupted. */
void fail_call(const struct program *program, const char *what);

/* Print "minke-generate: WHAT VALUE" and exit with 1. */
void fail_text(const struct program *program, const char *what, const char *value);

/* What was printed must have arrived: exit with 1 when it did not. */
void end_output(const struct program *program);

/* Close a file that was written.  1 if all of it is there; else 0, errno says why, and there is no
 * half of it: a regular file is removed.  ok 0: it is known to have failed. */
int finish_file(FILE *file, const char *path, int ok);

/* malloc, calloc, realloc that exit with 1 instead of returning NULL. */
void *need_memory(void *old, size_t count, size_t size);

/* ---- Terminal ------------------------------------------------------------ */

/* Whether stream is a terminal. */
int is_terminal(FILE *stream);

/* Seconds of a clock that only grows. */
double seconds(void);

/* A bar on stderr.  Zeroed but for label and bytes, it draws nothing unless shown is 1. */
struct progress {
    const char *label;   /* "loading" */
    int shown;
    int bytes;           /* done and total count bytes: print them as such */
    double last;         /* time of the last drawing */
    int drawn;
};
void progress_draw(struct progress *p, uint64_t done, uint64_t total);
/* Wipe the bar. */
void progress_end(struct progress *p);

/* ---- Interrupt ----------------------------------------------------------- */

/* From now on Ctrl-C or SIGTERM sets a flag instead of ending the program (a second one ends it).
 * interrupted() is 0, or the status to exit with. */
void catch_interrupt(void);
int interrupted(void);

/* ---- Text ---------------------------------------------------------------- */

/* 1536 -> "1.5 KiB".  buffer: 32 bytes at least; returned. */
const char *bytes_text(char *buffer, uint64_t bytes);

/* 15706484224 -> "15.7 B" (billions), millions as M, thousands as K. */
const char *count_text(char *buffer, int64_t count);

/* Write text as a JSON string, quotes included; what is not UTF-8 as U+FFFD. */
void json_string(FILE *out, const char *text, size_t n);

/* Whole file (or stdin for "-") into fresh memory, for free(), with a NUL behind it; NULL, and
 * errno, when it cannot be read. */
char *read_text(const char *path, size_t *n);

/* The same; exits with 1 when it cannot be read. */
char *read_file(const struct program *program, const char *path, size_t *n);

#endif
