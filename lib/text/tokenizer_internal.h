/* What reading a tokenizer and using it share. */
#ifndef MK_TOKENIZER_INTERNAL_H
#define MK_TOKENIZER_INTERNAL_H

#include "text/bpe.h"
#include "text/pretoken.h"
#include "text/tokenizer.h"

/* A token that is matched as a whole; content is its text, which may differ from its decoded
 * bytes. */
struct mk_added {
    struct mk_view content;
    int32_t id;
};

/* Added tokens sorted by content, with the range of those that begin with each byte. */
struct mk_added_set {
    const struct mk_added **items;
    uint32_t n;
    uint32_t first[257];     /* items [first[c], first[c + 1]) begin with byte c */
};

/* Added tokens longer than this are refused, which bounds the time of matching. */
#define MK_ADDED_MAX_LEN 512

struct mk_tokenizer {
    struct mk_allocator alloc;
    struct mk_arena arena;
    enum mk_pretoken_kind kind;
    struct mk_bpe bpe;
    struct mk_added_set added[2];   /* normalized = false is matched before normalized = true */
    int32_t bos, eos;
    struct mk_view chat_template;
};

#endif
