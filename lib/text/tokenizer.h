/* Byte-level BPE of the DeepSeek family. */
#ifndef MK_TOKENIZER_H
#define MK_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "base/env.h"
#include "base/json.h"
#include "format/vocabulary.h"

struct mk_tokenizer;

/* Bytes [begin, end) of a text. */
struct mk_span {
    size_t begin, end;
};

/* From a folder's texts or a GGUF file's lists.  MINKE_EUNSUPPORTED for a tokenizer that is none
 * of ours, naming its pre-tokenizer; MINKE_EFORMAT for a damaged one. */
int32_t mk_tokenizer_open(struct mk_tokenizer **out, const struct mk_env *env,
                          const struct mk_vocabulary *vocabulary);
void mk_tokenizer_free(struct mk_tokenizer *tok);

/* Fill in the lists from the texts; ids without a token are MK_TOKEN_UNUSED. */
int32_t mk_vocabulary_list(struct mk_vocabulary *v, struct mk_arena *arena);

/* "deepseek-v3" or "deepseek-llm". */
const char *mk_tokenizer_kind(const struct mk_tokenizer *tok);
size_t mk_tokenizer_size(const struct mk_tokenizer *tok);        /* 1 + largest id */
int32_t mk_tokenizer_bos(const struct mk_tokenizer *tok);        /* -1 = none */
int32_t mk_tokenizer_eos(const struct mk_tokenizer *tok);
/* data NULL = none. */
struct mk_view mk_tokenizer_template(const struct mk_tokenizer *tok);

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
