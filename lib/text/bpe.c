/*
 * Byte-pair encoding.
 *
 * Reference: Sennrich et al. 2016 (arXiv:1508.07909), in the byte-level form of GPT-2, with the
 * order of joins of Hugging Face tokenizers 0.23: the pair of lowest rank first, the leftmost
 * of equal ones.
 *
 * Pieces are short as a rule, and many are a token of the vocabulary.  Three ways, one result:
 * a look-up of the whole piece, a scan for the lowest rank in short pieces, and a heap of pairs in
 * longer ones, which takes very long ones window by window.
 */
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "text/bpe.h"

#define BPE_NONE       UINT32_MAX
#define BPE_SHORT      128     /* bytes up to which scanning is the fastest */
#define BPE_WINDOW     16384   /* bytes of a long piece that are joined at a time; */
#define BPE_OVERLAP    1024    /* the last of them, two longest tokens, are joined again */
#define BPE_MAX_PROBES 1024    /* tables are at most half full: only crafted keys come near */

/* ---- Lists of ids ---- */

int32_t mk_ids_add(struct mk_ids *out, int32_t id)
{
    const size_t n = out->n++;
    void *more = out->more;

    if (n >= out->limit)
        return MINKE_OK;
    if (n < MK_COUNT(out->few)) {
        out->few[n] = id;
        return MINKE_OK;
    }
    const size_t at = n - MK_COUNT(out->few);
    const int32_t rc = mk_grow(out->a, &more, &out->capacity, at + 1, sizeof(*out->more));

    out->more = more;
    if (rc == MINKE_OK)
        out->more[at] = id;
    return rc;
}

void mk_ids_copy(const struct mk_ids *out, int32_t *ids)
{
    const size_t n = mk_min(out->n, out->limit), few = mk_min(n, MK_COUNT(out->few));

    memcpy(ids, out->few, few * sizeof(*ids));
    if (n > few)
        memcpy(ids + few, out->more, (n - few) * sizeof(*ids));
}

/* ---- Tables ---- */

/* The finalizer of MurmurHash3 (Appleby, public domain). */
static uint64_t bpe_mix(uint64_t h)
{
    h = (h ^ (h >> 33)) * UINT64_C(0xFF51AFD7ED558CCD);
    h = (h ^ (h >> 33)) * UINT64_C(0xC4CEB9FE1A85EC53);
    return h ^ (h >> 33);
}

static uint64_t bpe_hash(struct mk_view v)
{
    uint64_t h = v.len * UINT64_C(0x9E3779B97F4A7C15), word;

    for (; v.len >= 8; v = mk_view_part(v, 8, v.len)) {
        memcpy(&word, v.data, 8);
        h = bpe_mix(h ^ word);
    }
    word = 0;
    for (size_t i = 0; i < v.len; i++)
        word |= (uint64_t)(unsigned char)v.data[i] << 8 * i;
    return bpe_mix(h ^ word);
}

/* Slot of the token with these bytes, or the empty slot where it belongs. */
static size_t bpe_slot(const struct mk_bpe *bpe, struct mk_view bytes, uint64_t hash)
{
    size_t at = hash & bpe->slot_mask;

    for (; bpe->slots[at] != 0; at = (at + 1) & bpe->slot_mask) {
        const struct mk_bpe_token *t = &bpe->tokens[(uint32_t)bpe->slots[at] - 1];

        if (bpe->slots[at] >> 32 == hash >> 32 && mk_view_equal(mk_bpe_view(t), bytes))
            break;
    }
    return at;
}

int32_t mk_bpe_find(const struct mk_bpe *bpe, struct mk_view bytes)
{
    return bytes.len > bpe->max_len ? -1
         : (int32_t)(uint32_t)bpe->slots[bpe_slot(bpe, bytes, bpe_hash(bytes))] - 1;
}

/* Of a byte-level token, or -1. */
static int32_t bpe_find_mapped(const struct mk_bpe *bpe, struct mk_view bytes)
{
    const int32_t id = mk_bpe_find(bpe, bytes);

    return id >= 0 && (bpe->tokens[id].flags & MK_BPE_MAPPED) != 0 ? id : -1;
}

/* Distance from where a key would like to be. */
static int bpe_is_crowded(size_t at, uint64_t hash, size_t mask)
{
    return ((at - hash) & mask) > BPE_MAX_PROBES;
}

static int32_t bpe_index_token(struct mk_bpe *bpe, uint32_t id)
{
    const struct mk_bpe_token *t = &bpe->tokens[id];
    const uint64_t hash = bpe_hash(mk_bpe_view(t));
    const size_t at = bpe_slot(bpe, mk_bpe_view(t), hash);

    if (bpe_is_crowded(at, hash, bpe->slot_mask))
        return mk_fail(MINKE_EFORMAT, "vocabulary: token %u: crafted to collide", id);
    if (bpe->slots[at] == 0) {
        bpe->slots[at] = (hash >> 32 << 32) | (id + 1);
        bpe->max_len = t->len > bpe->max_len ? t->len : bpe->max_len;
        return MINKE_OK;
    }
    /* Text that is no byte-level token may spell the bytes of one that is. */
    if ((t->flags & MK_BPE_MAPPED) == 0)
        return MINKE_OK;
    return mk_fail(MINKE_EFORMAT, "vocabulary: tokens %u and %u are the same",
                   (uint32_t)bpe->slots[at] - 1, id);
}

/* All tokens of the vocabulary that have, or have not, MK_BPE_MAPPED. */
static int32_t bpe_index(struct mk_bpe *bpe, uint32_t mapped)
{
    int32_t rc = MINKE_OK;

    for (uint32_t id = 0; id < bpe->n_tokens && rc == MINKE_OK; id++)
        if ((bpe->tokens[id].flags & (MK_BPE_VOCAB | MK_BPE_MAPPED)) == (MK_BPE_VOCAB | mapped))
            rc = bpe_index_token(bpe, id);
    return rc;
}

/* Power of two at least twice n. */
static size_t bpe_table_size(size_t n)
{
    size_t size = 16;

    while (size < 2 * n)
        size *= 2;
    return size;
}

int32_t mk_bpe_init(struct mk_bpe *bpe, struct mk_arena *arena, uint32_t n_merges)
{
    const size_t n_slots = bpe_table_size(bpe->n_tokens), n_pairs = bpe_table_size(n_merges);
    int32_t rc;

    bpe->slots = mk_arena_alloc(arena, n_slots, sizeof(*bpe->slots));
    bpe->pairs = mk_arena_alloc(arena, n_pairs, sizeof(*bpe->pairs));
    bpe->merged = mk_arena_alloc(arena, n_merges, sizeof(*bpe->merged));
    if (bpe->slots == NULL || bpe->pairs == NULL || bpe->merged == NULL)
        return MINKE_ENOMEM;
    bpe->slot_mask = n_slots - 1;
    bpe->pair_mask = n_pairs - 1;
    bpe->n_merges = n_merges;
    memset(bpe->pairs, 0xFF, n_pairs * sizeof(*bpe->pairs));
    if ((rc = bpe_index(bpe, MK_BPE_MAPPED)) < 0 || (rc = bpe_index(bpe, 0)) < 0)
        return rc;
    for (int c = 0; c < 256; c++) {
        const char byte = (char)c;

        bpe->byte_id[c] = bpe_find_mapped(bpe, (struct mk_view){&byte, 1});
    }
    return MINKE_OK;
}

/* ---- Merges ---- */

static uint64_t bpe_pair_key(uint32_t left, uint32_t right)
{
    return (uint64_t)left << 20 | right;
}

static size_t bpe_pair_at(const struct mk_bpe *bpe, uint64_t key, uint64_t hash)
{
    size_t at = hash & bpe->pair_mask;

    while (bpe->pairs[at] != UINT64_MAX && bpe->pairs[at] >> 24 != key)
        at = (at + 1) & bpe->pair_mask;
    return at;
}

/* Rank of the merge of two tokens, or BPE_NONE. */
static uint32_t bpe_rank(const struct mk_bpe *bpe, uint32_t left, uint32_t right)
{
    const uint64_t key = bpe_pair_key(left, right);
    const uint64_t pair = bpe->pairs[bpe_pair_at(bpe, key, bpe_mix(key))];

    return pair == UINT64_MAX ? BPE_NONE : (uint32_t)(pair & 0xFFFFFF);
}

/* What a merge makes of its parts. */
static int32_t bpe_merge_id(const struct mk_bpe *bpe, uint32_t rank, struct mk_view left,
                            struct mk_view right)
{
    char text[512];
    const struct mk_view joined = {text, left.len + right.len};

    if (joined.len > sizeof(text))
        return mk_fail(MINKE_EUNSUPPORTED, "merge %u: a token of %zu bytes; %zu are accepted",
                       rank, joined.len, sizeof(text));
    memcpy(text, left.data, left.len);
    memcpy(text + left.len, right.data, right.len);
    const int32_t id = bpe_find_mapped(bpe, joined);

    return id >= 0 ? id
         : mk_fail(MINKE_EFORMAT, "merge %u: \"%.*s\" \"%.*s\" makes no token", rank,
                   MK_SHOW(left), MK_SHOW(right));
}

int32_t mk_bpe_add_merge(struct mk_bpe *bpe, uint32_t rank, struct mk_view left,
                         struct mk_view right)
{
    const int32_t a = bpe_find_mapped(bpe, left), b = bpe_find_mapped(bpe, right);

    if (a < 0 || b < 0 || left.len + right.len > bpe->max_len)
        return mk_fail(MINKE_EFORMAT, "merge %u: \"%.*s\" \"%.*s\" names no token", rank,
                       MK_SHOW(left), MK_SHOW(right));
    const int32_t id = bpe_merge_id(bpe, rank, left, right);
    const uint64_t key = bpe_pair_key((uint32_t)a, (uint32_t)b), hash = bpe_mix(key);
    const size_t at = bpe_pair_at(bpe, key, hash);

    if (id < 0)
        return id;
    if (bpe_is_crowded(at, hash, bpe->pair_mask))
        return mk_fail(MINKE_EFORMAT, "merge %u: crafted to collide", rank);
    bpe->pairs[at] = key << 24 | rank;
    bpe->merged[rank] = id;
    return MINKE_OK;
}

/* Whether every merge comes after all merges that make its parts, as training writes them.
 * made (n_tokens,) receives 1 + the highest rank that makes each token. */
static int bpe_is_ordered(const struct mk_bpe *bpe, uint32_t *made)
{
    for (uint32_t rank = 0; rank < bpe->n_merges; rank++)
        made[bpe->merged[rank]] = rank + 1;
    for (size_t i = 0; i <= bpe->pair_mask; i++) {
        const uint64_t pair = bpe->pairs[i];

        if (pair != UINT64_MAX && (made[pair >> 44] > (pair & 0xFFFFFF)
                                   || made[pair >> 24 & MK_BPE_MAX_ID] > (pair & 0xFFFFFF)))
            return 0;
    }
    return 1;
}

/* Whether a token is one that merges could make. */
static int bpe_is_makeable(const struct mk_bpe *bpe, const struct mk_bpe_token *t)
{
    const uint32_t wanted = MK_BPE_VOCAB | MK_BPE_MAPPED;

    if ((t->flags & wanted) != wanted || t->len == 0)
        return 0;
    for (size_t i = 0; i < t->len; i++)
        if (bpe->byte_id[(unsigned char)t->bytes[i]] < 0)
            return 0;
    return 1;
}

int32_t mk_bpe_finish(struct mk_bpe *bpe, const struct mk_allocator *a)
{
    uint32_t *made = mk_alloc(a, bpe->n_tokens, sizeof(*made));
    struct mk_bpe_work work = {.bpe = bpe, .out = {.a = a, .limit = 1}};
    int32_t rc = MINKE_OK;

    if (made == NULL)
        return MINKE_ENOMEM;
    bpe->ordered = bpe_is_ordered(bpe, made);
    mk_free(a, made);
    for (uint32_t id = 0; id < bpe->n_tokens && rc == MINKE_OK; id++) {
        struct mk_bpe_token *t = &bpe->tokens[id];

        if (!bpe_is_makeable(bpe, t))
            continue;
        work.out.n = 0;
        rc = mk_bpe_encode(&work, mk_bpe_view(t));
        if (rc == MINKE_OK && work.out.n == 1 && work.out.few[0] == (int32_t)id)
            t->flags |= MK_BPE_WHOLE;
    }
    mk_bpe_work_free(&work);
    return rc;
}

/* ---- Joining ---- */

/* Token of a byte; a tokenizer without it cannot encode the text. */
static int32_t bpe_byte(const struct mk_bpe *bpe, char byte, uint32_t *id)
{
    const unsigned char c = (unsigned char)byte;

    if (bpe->byte_id[c] < 0)
        return mk_fail(MINKE_EUNSUPPORTED, "byte 0x%x has no token", (unsigned)c);
    *id = (uint32_t)bpe->byte_id[c];
    return MINKE_OK;
}

/* Join ids (n,), whose pairs have the given ranks (n - 1,), until no merge applies; returns how
 * many are left. */
static size_t bpe_scan(const struct mk_bpe *bpe, uint32_t *ids, uint32_t *ranks, size_t n)
{
    while (n > 1) {
        uint32_t best = BPE_NONE;
        size_t at = 0;

        for (size_t i = 0; i + 1 < n; i++) {
            if (ranks[i] < best) {
                best = ranks[i];
                at = i;
            }
        }
        if (best == BPE_NONE)
            break;
        ids[at] = (uint32_t)bpe->merged[best];
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof(*ids));
        memmove(ranks + at, ranks + at + 1, (n - at - 2) * sizeof(*ranks));
        n--;
        if (at > 0)
            ranks[at - 1] = bpe_rank(bpe, ids[at - 1], ids[at]);
        if (at + 1 < n)
            ranks[at] = bpe_rank(bpe, ids[at], ids[at + 1]);
    }
    return n;
}

/* A short piece: find the lowest rank, join, look again. */
static int32_t bpe_short(struct mk_bpe_work *work, struct mk_view piece)
{
    uint32_t ids[BPE_SHORT], ranks[BPE_SHORT];
    int32_t rc = MINKE_OK;

    for (size_t i = 0; i < piece.len; i++)
        if ((rc = bpe_byte(work->bpe, piece.data[i], &ids[i])) < 0)
            return rc;
    for (size_t i = 0; i + 1 < piece.len; i++)
        ranks[i] = bpe_rank(work->bpe, ids[i], ids[i + 1]);
    const size_t n = bpe_scan(work->bpe, ids, ranks, piece.len);

    for (size_t i = 0; i < n && rc == MINKE_OK; i++)
        rc = mk_ids_add(&work->out, (int32_t)ids[i]);
    return rc;
}

/* A long piece's symbol; positions count from 1, and 0 is none.  rank: of the pair with the
 * next symbol. */
struct bpe_symbol {
    uint32_t id, prev, next, rank;
};

void mk_bpe_work_free(struct mk_bpe_work *work)
{
    mk_free(work->out.a, work->symbols);
    mk_free(work->out.a, work->heap);
    mk_free(work->out.a, work->out.more);
}

/* The number at i moves towards the root of a heap whose root is the least. */
static void bpe_sift_up(uint64_t *heap, size_t i, uint64_t value)
{
    while (i > 0 && heap[(i - 1) / 2] > value) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = value;
}

/* Take the least of n numbers. */
static uint64_t bpe_heap_pop(uint64_t *heap, size_t n)
{
    const uint64_t least = heap[0], value = heap[n - 1];
    size_t i = 0;

    for (size_t child = 1; child < n - 1; child = 2 * i + 1) {
        if (child + 1 < n - 1 && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= value)
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = value;
    return least;
}

/* Symbols 1..n of a piece, each a byte, without pairs yet; symbol 0 stands at both ends. */
static int32_t bpe_symbols(struct mk_bpe_work *work, struct mk_view piece)
{
    void *items = work->symbols;
    int32_t rc;

    if (piece.len >= BPE_NONE / 4)
        return mk_fail(MINKE_EUNSUPPORTED, "a word of %zu bytes", piece.len);
    rc = mk_grow(work->out.a, &items, &work->n_symbols, piece.len + 1, sizeof(*work->symbols));
    if (rc < 0)
        return rc;
    work->symbols = items;
    work->symbols[0] = (struct bpe_symbol){.rank = BPE_NONE};
    for (size_t i = 1; i <= piece.len; i++) {
        struct bpe_symbol *s = &work->symbols[i];

        if ((rc = bpe_byte(work->bpe, piece.data[i - 1], &s->id)) < 0)
            return rc;
        s->prev = (uint32_t)(i - 1);
        s->next = i < piece.len ? (uint32_t)(i + 1) : 0;
        s->rank = BPE_NONE;
    }
    return MINKE_OK;
}

/* Symbol p takes in the next one. */
static void bpe_join(const struct mk_bpe *bpe, struct bpe_symbol *symbols, uint32_t p,
                     uint32_t rank)
{
    const uint32_t q = symbols[p].next;

    symbols[p].id = (uint32_t)bpe->merged[rank];
    symbols[p].next = symbols[q].next;
    if (symbols[q].next != 0)
        symbols[symbols[q].next].prev = p;
    symbols[q].rank = BPE_NONE;
}

/* ---- Long pieces: a heap of rank << 32 | position ---- */

/* The pair that begins with symbol p, if there is a merge for it. */
static void bpe_heap_add(struct mk_bpe_work *work, uint32_t p, size_t *n_heap)
{
    struct bpe_symbol *s = &work->symbols[p];

    s->rank = s->next == 0 ? BPE_NONE : bpe_rank(work->bpe, s->id, work->symbols[s->next].id);
    if (s->rank != BPE_NONE)
        bpe_sift_up(work->heap, (*n_heap)++, (uint64_t)s->rank << 32 | p);
}

/* Join all that merges join in a piece, leaving the tokens in the work's symbols. */
static int32_t bpe_by_heap(struct mk_bpe_work *work, struct mk_view piece)
{
    void *heap = work->heap;
    size_t n_heap = 0;
    int32_t rc = bpe_symbols(work, piece);

    /* n - 1 pairs at first, and two more for each of at most n - 1 joins. */
    if (rc < 0 || (rc = mk_grow(work->out.a, &heap, &work->n_heap, 3 * piece.len,
                                sizeof(*work->heap))) < 0)
        return rc;
    work->heap = heap;
    for (uint32_t p = 1; p < piece.len; p++)
        bpe_heap_add(work, p, &n_heap);
    while (n_heap > 0) {
        const uint64_t least = bpe_heap_pop(work->heap, n_heap--);
        const uint32_t rank = (uint32_t)(least >> 32), p = (uint32_t)least;

        /* The pair has changed since. */
        if (work->symbols[p].rank != rank)
            continue;
        bpe_join(work->bpe, work->symbols, p, rank);
        bpe_heap_add(work, p, &n_heap);
        if (work->symbols[p].prev != 0)
            bpe_heap_add(work, work->symbols[p].prev, &n_heap);
    }
    return MINKE_OK;
}

/*
 * A long piece, window by window.  Each window is joined alone; its tokens are kept but for the
 * last few, where the next window begins.
 *
 * Where merges are in order, this is exact if the next window's first token is the one that was
 * left there: two tokens that stand side by side in one text stay apart in every text.  For
 * ranks are joined in ascending order, each side of the border takes the same steps as it took
 * there, and so no pair across the border ever meets.  *exact tells.
 */
static int32_t bpe_by_windows(struct mk_bpe_work *work, struct mk_view piece, size_t window,
                              int *exact)
{
    uint32_t expected = BPE_NONE, p;
    int32_t rc;

    *exact = 1;
    for (size_t begin = 0; begin < piece.len; begin = p != 0 ? begin + p - 1 : piece.len) {
        const size_t n = mk_min(piece.len - begin, window);
        const size_t keep = begin + n == piece.len ? n : n - BPE_OVERLAP;

        if ((rc = bpe_by_heap(work, mk_view_part(piece, begin, begin + n))) < 0)
            return rc;
        *exact = expected == BPE_NONE || work->symbols[1].id == expected;
        if (!*exact)
            return MINKE_OK;
        for (p = 1; p != 0 && p <= keep; p = work->symbols[p].next)
            if ((rc = mk_ids_add(&work->out, (int32_t)work->symbols[p].id)) < 0)
                return rc;
        expected = work->symbols[p].id;
    }
    return MINKE_OK;
}

int32_t mk_bpe_encode(struct mk_bpe_work *work, struct mk_view piece)
{
    const struct mk_bpe *bpe = work->bpe;
    const int32_t whole = mk_bpe_find(bpe, piece);
    const size_t n_before = work->out.n;
    size_t window = bpe->ordered ? BPE_WINDOW : piece.len;

    if (piece.len == 0)
        return MINKE_OK;
    if (whole >= 0 && (bpe->tokens[whole].flags & MK_BPE_WHOLE) != 0)
        return mk_ids_add(&work->out, whole);
    if (piece.len <= BPE_SHORT)
        return bpe_short(work, piece);
    for (;; window = window > piece.len / 8 ? piece.len : window * 8) {
        int exact;
        const int32_t rc = bpe_by_windows(work, piece, window, &exact);

        if (rc < 0 || exact)
            return rc;
        work->out.n = n_before;
    }
}
