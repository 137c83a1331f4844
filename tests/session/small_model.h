/* A small model of every part, written anew: nothing but the source tree is needed. */
#ifndef MK_SMALL_MODEL_H
#define MK_SMALL_MODEL_H

#ifndef _GNU_SOURCE
#  define _GNU_SOURCE 1 /* mkdtemp, fork, posix_memalign */
#endif
#include <sys/stat.h>
#include <unistd.h>

#include "minke.h"
#include "test.h"

#include "checkpoint.h"

/* A folder that small_model_end removes. */
static char small_folder[64];

static inline void small_begin(void)
{
    strcpy(small_folder, "/tmp/minke-session-XXXXXX");
    if (mkdtemp(small_folder) == NULL)
        exit(1);
}

static inline void small_end(void)
{
    char command[128];

    snprintf(command, sizeof command, "rm -rf %s", small_folder);
    if (system(command) != 0)
        exit(1);
}

/* Path of a file or folder in it; good until the fourth call from now. */
static inline const char *small_path(const char *name)
{
    static char paths[4][128];
    static size_t next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof paths[0], "%s/%s", small_folder, name);
    return path;
}

/* Write a model with one changed weight per variant; variant 0 has none. */
static inline void small_write(const char *name, int sparse, int mtp, int variant)
{
    struct ck *c = ck_new(MK_BF16, 1, sparse, 1, mtp);
    const char *path = small_path(name);

    if (variant > 0)
        ck_find(c, "model.layers.1.self_attn.q_a_proj.weight")->data[0] ^= (uint8_t)variant;
    if (mkdir(path, 0700) != 0)
        exit(1);
    ck_write(c, path);
    ck_free(c);
}

static inline minke_context *small_open(const char *name, uint32_t n_threads, uint32_t flags)
{
    minke_context_params p;
    minke_context *ctx = NULL;

    minke_context_params_init(&p, sizeof p);
    p.n_threads = n_threads;
    p.flags = flags;
    if (minke_context_open(&ctx, small_path(name), &p) < 0) {
        fprintf(stderr, "%s: %s\n", name, minke_last_error());
        exit(1);
    }
    return ctx;
}

/* The i-th token of a text without end. */
static inline int32_t small_token(size_t i)
{
    return (int32_t)(ck_hash("text", i) >> 9) % CK_VOCAB;
}

static inline void small_text(int32_t *tokens, size_t n)
{
    for (size_t i = 0; i < n; i++)
        tokens[i] = small_token(i);
}

#endif
