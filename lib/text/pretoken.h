/* Pre-tokenizers: the cuts that byte-pair encoding never joins across. */
#ifndef MK_PRETOKEN_H
#define MK_PRETOKEN_H

#include <stddef.h>
#include <stdint.h>

#include "base/json.h"

enum mk_pretoken_kind {
    MK_PRETOKEN_V3,      /* "deepseek-v3": V3, R1, V3.1, V3.2 */
    MK_PRETOKEN_LLM      /* "deepseek-llm": V2, V2-Lite, deepseek-llm */
};

/* "deepseek-v3" or "deepseek-llm". */
const char *mk_pretoken_name(enum mk_pretoken_kind kind);

/* Kind by its name, as GGUF says it; MINKE_EUNSUPPORTED for any other. */
int32_t mk_pretoken_named(enum mk_pretoken_kind *out, const char *name);

/* Kind by the pre_tokenizer of a tokenizer.json (NULL if it has none), which must be exactly
 * the splits of one; MINKE_EUNSUPPORTED, naming it, for any other. */
int32_t mk_pretoken_recognise(enum mk_pretoken_kind *out, const struct mk_json *pre_tokenizer);

/* One piece of the text; a negative return stops. */
typedef int32_t (*mk_pretoken_fn)(void *user, struct mk_view piece);

/* Cut text, valid UTF-8, into pieces, in order and without gaps.  Returns what the callback said
 * last, or MINKE_OK.  Time linear in the length. */
int32_t mk_pretoken_split(enum mk_pretoken_kind kind, struct mk_view text, mk_pretoken_fn emit,
                          void *user);

#endif
