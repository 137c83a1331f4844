/* Byte-level BPE of the DeepSeek family. */
#ifndef MK_TOKENIZER_H
#define MK_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "base/env.h"
#include "base/json.h"

struct mk_tokenizer;

/* Bytes [begin, end) of a text. */
struct mk_span {
    size_t begin, end;
};

/* From tokenizer.json and, where present (NULL otherwise), tokenizer_config.json.
 * MINKE_EUNSUPPORTED for a tokenizer that is none of ours, naming its pre-tokenizer;
 * MINKE_EFORMAT for a damaged one.  config_bos / config_eos: ids of config.json or -1, the
 * last resort for the special ids. */
int32_t mk_tokenizer_open(struct mk_tokenizer **out, const struct mk_env *env,
                          const char *json, size_t json_len, const char *config_json,
                          size_t config_json_len, int32_t config_bos, int32_t config_eos);

/* Kinds of tokens in GGUF metadata (tokenizer.ggml.token_type). */
#define MK_TOKEN_NORMAL  1
#define MK_TOKEN_CONTROL 3      /* matched as a whole; special */
#define MK_TOKEN_USER    4      /* matched as a whole */
#define MK_TOKEN_UNUSED  5      /* no token; other kinds count as normal */

/* A tokenizer as lists, borrowed for the call. */
struct mk_tokenizer_lists {
    const char *pre;                 /* pre-tokenizer: "deepseek-v3" or "deepseek-llm" */
    const struct mk_view *tokens;   /* (n_tokens,) by id, in byte-level characters */
    const int32_t *types;            /* (n_tokens,) MK_TOKEN_*, or NULL: all normal */
    size_t n_tokens;
    const struct mk_view *merges;   /* (n_merges,) "left right", by rank */
    size_t n_merges;
    int32_t bos, eos;                /* -1 = look for the family's own */
    const char *chat_template;       /* or NULL */
    size_t chat_template_len;
};

/* As mk_tokenizer_open, from lists. */
int32_t mk_tokenizer_open_lists(struct mk_tokenizer **out, const struct mk_env *env,
                                const struct mk_tokenizer_lists *lists);
void mk_tokenizer_free(struct mk_tokenizer *tok);

/* "deepseek-v3" or "deepseek-llm". */
const char *mk_tokenizer_kind(const struct mk_tokenizer *tok);
size_t mk_tokenizer_size(const struct mk_tokenizer *tok);        /* 1 + largest id */
int32_t mk_tokenizer_bos(const struct mk_tokenizer *tok);        /* -1 = none */
int32_t mk_tokenizer_eos(const struct mk_tokenizer *tok);
/* The chat_template of tokenizer_config.json, or the one set since; data NULL = none. */
struct mk_view mk_tokenizer_template(const struct mk_tokenizer *tok);
int32_t mk_tokenizer_set_template(struct mk_tokenizer *tok, struct mk_view text);

/* What to encode.  Added tokens are matched with MINKE_TOKENIZE_SPECIAL, but never where a match
 * would touch a byte of one of the plain spans (ascending, disjoint): there they are ordinary
 * text, pre-tokenized together with their surroundings. */
struct mk_tokenize {
    struct mk_view text;
    uint32_t flags;
    const struct mk_span *plain;     /* (n_plain,) */
    size_t n_plain;
};

/* *n_out counts all tokens, also those beyond capacity (MINKE_ENOSPC then).  tokens is written
 * only on success.  Thread-safe. */
int32_t mk_tokenizer_encode(const struct mk_tokenizer *tok, const struct mk_tokenize *in,
                            int32_t *tokens, size_t capacity, size_t *n_out);

/* Bytes of a token, with a NUL behind; length 0 for an id without one.  Borrowed. */
struct mk_view mk_tokenizer_bytes(const struct mk_tokenizer *tok, int32_t id);
/* Whether decoding with "skip special tokens" leaves it out. */
int mk_tokenizer_is_special(const struct mk_tokenizer *tok, int32_t id);
/* Id of an added token or vocabulary entry with exactly this text, or -1. */
int32_t mk_tokenizer_find(const struct mk_tokenizer *tok, struct mk_view text);

/* Of a context; NULL with the error set when it has none that this library knows. */
const struct mk_tokenizer *mk_context_tokenizer(const minke_context *ctx);

#endif
