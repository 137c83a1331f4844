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
void mk_tokenizer_free(struct mk_tokenizer *tok);

const char *mk_tokenizer_kind(const struct mk_tokenizer *tok);   /* "deepseek-v3" or "deepseek-llm" */
size_t mk_tokenizer_size(const struct mk_tokenizer *tok);        /* 1 + largest id */
int32_t mk_tokenizer_bos(const struct mk_tokenizer *tok);        /* -1 = none */
int32_t mk_tokenizer_eos(const struct mk_tokenizer *tok);
/* The chat_template of tokenizer_config.json, or NULL. */
const char *mk_tokenizer_template(const struct mk_tokenizer *tok, size_t *len);

#define MK_TOKENIZE_SPECIAL (1u << 0)    /* = MINKE_TOKENIZE_SPECIAL */

/* Encode.  Added tokens are matched with MK_TOKENIZE_SPECIAL, but never where a match would
 * touch a byte of one of the plain spans (ascending, disjoint): there they are ordinary
 * text, pre-tokenized together with their surroundings.  *n_out counts all tokens, also those
 * beyond capacity (MINKE_ENOSPC then).  Thread-safe. */
int32_t mk_tokenizer_encode(const struct mk_tokenizer *tok, const char *text, size_t len,
                            uint32_t flags, const struct mk_span *plain, size_t n_plain,
                            int32_t *tokens, size_t capacity, size_t *n_out);

/* Bytes of a token; length 0 for an id without one.  Borrowed. */
const char *mk_tokenizer_bytes(const struct mk_tokenizer *tok, int32_t id, size_t *len);
/* Whether decoding with "skip special tokens" leaves it out. */
int mk_tokenizer_is_special(const struct mk_tokenizer *tok, int32_t id);
/* Id of an added token or vocabulary entry with exactly this text, or -1. */
int32_t mk_tokenizer_find(const struct mk_tokenizer *tok, const char *text, size_t len);

/* Of a context; NULL with the error set when it has none that this library knows. */
const struct mk_tokenizer *mk_context_tokenizer(const minke_context *ctx);

#endif
