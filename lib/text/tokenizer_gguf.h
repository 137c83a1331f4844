/* The tokenizer that a GGUF file carries. */
#ifndef MK_TOKENIZER_GGUF_H
#define MK_TOKENIZER_GGUF_H

#include "format/gguf.h"
#include "text/tokenizer.h"

/* From the keys tokenizer.*; as mk_tokenizer_open_lists.  MINKE_EUNSUPPORTED also when the
 * file has none or one of another model. */
int32_t mk_tokenizer_open_gguf(struct mk_tokenizer **out, const struct mk_env *env,
                               const struct mk_gguf *g);

#endif
