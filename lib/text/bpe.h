/* Byte-pair encoding: vocabulary, merges, and the greedy join of one piece. */
#ifndef MK_BPE_H
#define MK_BPE_H

#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/view.h"

#define MK_BPE_MAX_ID     ((1 << 20) - 1)   /* ids and ranks are packed into one word */
#define MK_BPE_MAX_MERGES ((1u << 24) - 1)

#define MK_BPE_MAPPED    1u   /* every character stands for a byte, so that merges reach it */
#define MK_BPE_WHOLE     2u   /* its own bytes encode to it alone */
#define MK_BPE_VOCAB     4u   /* of the vocabulary, and not only added to it */
#define MK_BPE_SPECIAL   8u   /* left out by "skip special tokens" */

/* bytes NULL: an id without token. */
struct mk_bpe_token {
    const char *bytes;
    uint32_t len, flags;
};

static inline struct mk_view mk_bpe_view(const struct mk_bpe_token *t)
{
    return (struct mk_view){t->bytes, t->len};
}

struct mk_bpe {
    struct mk_bpe_token *tokens;  /* (n_tokens,) by id */
    uint32_t n_tokens, n_merges, max_len;
    uint64_t *slots;              /* token by bytes: high half of the hash, 1 + id */
    uint64_t *pairs;              /* merge by its parts: left << 44 | right << 24 | rank */
    size_t slot_mask, pair_mask;
    int32_t *merged;              /* (n_merges,) token by rank */
    int32_t byte_id[256];         /* -1 = no token */
    int ordered;                  /* every merge comes after those that make its parts */
};

/* A list of ids, which stores up to limit of them; n counts on beyond it, and may be set back.
 * Set a and limit, and zero the rest. */
struct mk_ids {
    const struct mk_allocator *a;
    size_t n, limit;
    int32_t few[64];             /* the first ids */
    int32_t *more;               /* (capacity,) those behind them */
    size_t capacity;
};

/* Append; MINKE_ENOMEM when there is no room. */
int32_t mk_ids_add(struct mk_ids *out, int32_t id);
/* The stored ids, min(n, limit) of them. */
void mk_ids_copy(const struct mk_ids *out, int32_t *ids);

/* Index the tokens of the vocabulary, whose ids, bytes and flags (MK_BPE_VOCAB, MK_BPE_MAPPED)
 * are set, and make room for n_merges merges.  Memory comes from the arena. */
int32_t mk_bpe_init(struct mk_bpe *bpe, struct mk_arena *arena, uint32_t n_merges);

/* The merge of the given rank, its parts as raw bytes.  A pair given again takes the later rank.
 * MINKE_EFORMAT when a part or the result is no token. */
int32_t mk_bpe_add_merge(struct mk_bpe *bpe, uint32_t rank, struct mk_view left,
                         struct mk_view right);

/* After the last merge: the order of the merges, and the tokens that stand for themselves. */
int32_t mk_bpe_finish(struct mk_bpe *bpe, const struct mk_allocator *a);

/* Id by bytes, or -1. */
int32_t mk_bpe_find(const struct mk_bpe *bpe, struct mk_view bytes);

/* Encodes piece after piece; set bpe and out, and zero the rest.  Owns out. */
struct mk_bpe_work {
    const struct mk_bpe *bpe;
    struct mk_ids out;
    struct bpe_symbol *symbols;
    uint64_t *heap;
    size_t n_symbols, n_heap;   /* capacities */
};
void mk_bpe_work_free(struct mk_bpe_work *work);

/* Append the ids of one piece.  Joins the pair of lowest rank, the leftmost of equals, until
 * no merge applies.  MINKE_EUNSUPPORTED for a byte without token.  Time linear in
 * its length, and len * log(len) for texts made against it. */
int32_t mk_bpe_encode(struct mk_bpe_work *work, struct mk_view piece);

#endif
