/* What a tokenizer is made from: the texts of a folder, or the lists of a GGUF file. */
#ifndef MK_VOCABULARY_H
#define MK_VOCABULARY_H

#include <stddef.h>
#include <stdint.h>

#include "base/view.h"

/* Kinds of tokens in GGUF metadata (tokenizer.ggml.token_type). */
#define MK_TOKEN_NORMAL  1
#define MK_TOKEN_CONTROL 3      /* matched as a whole; special */
#define MK_TOKEN_USER    4      /* matched as a whole */
#define MK_TOKEN_UNUSED  5      /* no token; other kinds count as normal */

/* Borrowed from whoever opened the model; texts that are absent have data NULL. */
struct mk_vocabulary {
    struct mk_view json;             /* tokenizer.json; absent: the lists below count */
    struct mk_view config;           /* tokenizer_config.json */
    struct mk_view chat_template;    /* counts before that of config */
    int32_t bos, eos;                /* -1 = not said.  With json, config's and the family's own
                                      * texts count before these */
    const char *pre;                 /* pre-tokenizer: "deepseek-v3" or "deepseek-llm" */
    const struct mk_view *tokens;    /* (n_tokens,) by id, in byte-level characters */
    const int32_t *types;            /* (n_tokens,) MK_TOKEN_*, or NULL: all normal */
    size_t n_tokens;
    const struct mk_view *merges;    /* (n_merges,) "left right", by rank */
    size_t n_merges;
};

#endif
