/*
 * Byte-pair encoding.
 *
 * Reference: Sennrich et al. 2016 (arXiv:1508.07909), in the byte-level form of GPT-2, with the
 * order of joins of Hugging Face tokenizers 0.23: the pair of lowest rank first, the leftmost
 * of equal ones.
 *
 * Pieces are short as a rule, and many are a token of the vocabulary.  Three ways, one result:
 * a look-up of the whole piece, a scan for the lowest rank in short pieces, a heap of pairs in
 * longer ones, and lists of positions by rank in very long ones.
 */
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "text/bpe.h"

#define BPE_NONE       UINT32_MAX
#define BPE_SHORT      128     /* bytes up to which scanning is the fastest */
#define BPE_LONG       8192    /* bytes from which lists are worth their setting up */
#define BPE_MAX_PROBES 1024    /* tables are at most half full: only crafted keys come near */

/* ---- Lists of ids ---- */

int32_t mk_ids_add(struct mk_ids *out, int32_t id)
{
    if (out->n < out->limit) {
        if (out->n == out->capacity) {
            void *ids = out->ids;
            const int32_t status = mk_grow(out->a, &ids, &out->capacity,
                                           mk_max(out->n + 1, 64), sizeof(*out->ids));

            if (status < 0)
                return status;
            out->ids = ids;
        }
        out->ids[out->n] = id;
    }
    out->n++;
    return MINKE_OK;
}

void mk_ids_free(struct mk_ids *out)
{
    mk_free(out->a, out->ids);
    out->ids = NULL;
    out->capacity = 0;
}

/* ---- Tables ---- */

/* The finalizer of MurmurHash3 (Appleby, public domain). */
static uint64_t bpe_mix(uint64_t h)
{
    h = (h ^ (h >> 33)) * UINT64_C(0xFF51AFD7ED558CCD);
    h = (h ^ (h >> 33)) * UINT64_C(0xC4CEB9FE1A85EC53);
    return h ^ (h >> 33);
}

static uint64_t bpe_hash(const char *bytes, size_t len)
{
    uint64_t h = len * UINT64_C(0x9E3779B97F4A7C15), word;

    while (len >= 8) {
        memcpy(&word, bytes, 8);
        h = bpe_mix(h ^ word);
        bytes += 8;
        len -= 8;
    }
    word = 0;
    for (size_t i = 0; i < len; i++)
        word |= (uint64_t)(unsigned char)bytes[i] << 8 * i;
    return bpe_mix(h ^ word);
}

/* Slot of the token with these bytes, or the empty slot where it belongs. */
static size_t bpe_slot(const struct mk_bpe *bpe, const char *bytes, size_t len, uint64_t hash)
{
    size_t at = hash & bpe->slot_mask;

    for (; bpe->slots[at] != 0; at = (at + 1) & bpe->slot_mask) {
        const struct mk_bpe_token *t = &bpe->tokens[(uint32_t)bpe->slots[at] - 1];

        if (bpe->slots[at] >> 32 == hash >> 32 && t->len == len
            && memcmp(t->bytes, bytes, len) == 0)
            break;
    }
    return at;
}

int32_t mk_bpe_find(const struct mk_bpe *bpe, const char *bytes, size_t len)
{
    if (len > bpe->max_len)
        return -1;
    return (int32_t)(uint32_t)bpe->slots[bpe_slot(bpe, bytes, len, bpe_hash(bytes, len))] - 1;
}

/* Distance from where a key would like to be. */
static int bpe_is_crowded(size_t at, uint64_t hash, size_t mask)
{
    return ((at - hash) & mask) > BPE_MAX_PROBES;
}

static int32_t bpe_index_token(struct mk_bpe *bpe, uint32_t id)
{
    const struct mk_bpe_token *t = &bpe->tokens[id];
    const uint64_t hash = bpe_hash(t->bytes, t->len);
    const size_t at = bpe_slot(bpe, t->bytes, t->len, hash);

    if (bpe_is_crowded(at, hash, bpe->slot_mask))
        return mk_fail(MINKE_EFORMAT, "vocabulary: token %u: crafted to collide", id);
    if (bpe->slots[at] != 0) {
        const uint32_t first = (uint32_t)bpe->slots[at] - 1;

        /* Text that is no byte-level token may spell the bytes of one that is. */
        if ((t->flags & MK_BPE_MAPPED) == 0)
            return MINKE_OK;
        return mk_fail(MINKE_EFORMAT, "vocabulary: tokens %u and %u are the same", first, id);
    }
    bpe->slots[at] = (hash >> 32 << 32) | (id + 1);
    if (t->len > bpe->max_len)
        bpe->max_len = t->len;
    return MINKE_OK;
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
    const uint32_t wanted[2] = {MK_BPE_VOCAB | MK_BPE_MAPPED, MK_BPE_VOCAB};

    bpe->slots = mk_arena_alloc(arena, n_slots, sizeof(*bpe->slots));
    bpe->pairs = mk_arena_alloc(arena, n_pairs, sizeof(*bpe->pairs));
    bpe->merged = mk_arena_alloc(arena, n_merges, sizeof(*bpe->merged));
    if (bpe->slots == NULL || bpe->pairs == NULL || bpe->merged == NULL)
        return MINKE_ENOMEM;
    bpe->slot_mask = n_slots - 1;
    bpe->pair_mask = n_pairs - 1;
    bpe->n_merges = n_merges;
    memset(bpe->pairs, 0xFF, n_pairs * sizeof(*bpe->pairs));
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t id = 0; id < bpe->n_tokens; id++) {
            const struct mk_bpe_token *t = &bpe->tokens[id];

            if ((t->flags & (MK_BPE_VOCAB | MK_BPE_MAPPED)) == wanted[pass]) {
                const int32_t status = bpe_index_token(bpe, id);

                if (status < 0)
                    return status;
            }
        }
    }
    for (int c = 0; c < 256; c++) {
        const char byte = (char)c;
        const int32_t id = mk_bpe_find(bpe, &byte, 1);

        bpe->byte_id[c] = id >= 0 && (bpe->tokens[id].flags & MK_BPE_MAPPED) != 0 ? id : -1;
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

/* Id of a byte-level token, or -1. */
static int32_t bpe_find_mapped(const struct mk_bpe *bpe, const char *bytes, size_t len)
{
    const int32_t id = mk_bpe_find(bpe, bytes, len);

    return id >= 0 && (bpe->tokens[id].flags & MK_BPE_MAPPED) != 0 ? id : -1;
}

int32_t mk_bpe_add_merge(struct mk_bpe *bpe, uint32_t rank, const char *left, size_t left_len,
                         const char *right, size_t right_len)
{
    const int32_t a = bpe_find_mapped(bpe, left, left_len);
    const int32_t b = bpe_find_mapped(bpe, right, right_len);
    char joined[512], *text = joined;
    int32_t id = -1;

    if (a < 0 || b < 0 || left_len + right_len > bpe->max_len)
        return mk_fail(MINKE_EFORMAT, "merge %u: \"%.*s\" \"%.*s\" names no token", rank,
                       (int)mk_min(left_len, 100), left, (int)mk_min(right_len, 100), right);
    if (left_len + right_len > sizeof(joined))
        return mk_fail(MINKE_EUNSUPPORTED, "merge %u: a token of %zu bytes; %zu are accepted",
                       rank, left_len + right_len, sizeof(joined));
    memcpy(text, left, left_len);
    memcpy(text + left_len, right, right_len);
    id = bpe_find_mapped(bpe, text, left_len + right_len);
    if (id < 0)
        return mk_fail(MINKE_EFORMAT, "merge %u: \"%.*s\" \"%.*s\" makes no token", rank,
                       (int)mk_min(left_len, 100), left, (int)mk_min(right_len, 100), right);

    const uint64_t key = bpe_pair_key((uint32_t)a, (uint32_t)b), hash = bpe_mix(key);
    const size_t at = bpe_pair_at(bpe, key, hash);

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
    struct mk_bpe_work work = {.a = a};
    int32_t ids[2], status = MINKE_OK;

    if (made == NULL)
        return MINKE_ENOMEM;
    bpe->ordered = bpe_is_ordered(bpe, made);
    mk_free(a, made);
    for (uint32_t id = 0; id < bpe->n_tokens && status >= 0; id++) {
        struct mk_bpe_token *t = &bpe->tokens[id];
        struct mk_ids out = {.a = a, .ids = ids, .capacity = 2, .limit = 2};

        if (!bpe_is_makeable(bpe, t))
            continue;
        status = mk_bpe_encode(bpe, &work, t->bytes, t->len, &out);
        if (status == MINKE_OK && out.n == 1 && ids[0] == (int32_t)id)
            t->flags |= MK_BPE_WHOLE;
    }
    mk_bpe_work_free(&work);
    return status;
}

/* ---- Joining ---- */

/* Token of a byte; a tokenizer without it cannot encode the text. */
static int32_t bpe_byte(const struct mk_bpe *bpe, const char *bytes, size_t i, uint32_t *id)
{
    const unsigned char c = (unsigned char)bytes[i];

    if (bpe->byte_id[c] < 0)
        return mk_fail(MINKE_EUNSUPPORTED, "byte 0x%x has no token", (unsigned)c);
    *id = (uint32_t)bpe->byte_id[c];
    return MINKE_OK;
}

/* A short piece: find the lowest rank, join, look again. */
static int32_t bpe_scan(const struct mk_bpe *bpe, const char *bytes, size_t n,
                        struct mk_ids *out)
{
    uint32_t ids[BPE_SHORT], ranks[BPE_SHORT];
    int32_t status = MINKE_OK;

    for (size_t i = 0; i < n; i++)
        if ((status = bpe_byte(bpe, bytes, i, &ids[i])) < 0)
            return status;
    for (size_t i = 0; i + 1 < n; i++)
        ranks[i] = bpe_rank(bpe, ids[i], ids[i + 1]);
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
    for (size_t i = 0; i < n && status >= 0; i++)
        status = mk_ids_add(out, (int32_t)ids[i]);
    return status;
}

/* A long piece's symbol; positions count from 1, and 0 is none.  rank: of the pair with the
 * next symbol, which says in which list the position is. */
struct bpe_symbol {
    uint32_t id, prev, next;
    uint32_t rank, list_prev, list_next;
};

/* Positions whose pair has this rank. */
struct bpe_list {
    uint32_t head, tail;
    uint32_t queued;     /* the rank is in the queue */
    uint32_t mixed;      /* positions are not ascending */
};

void mk_bpe_work_free(struct mk_bpe_work *work)
{
    mk_free(work->a, work->symbols);
    mk_free(work->a, work->lists);
    mk_free(work->a, work->ranks);
    mk_free(work->a, work->heap);
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
static int32_t bpe_symbols(const struct mk_bpe *bpe, struct mk_bpe_work *work,
                           const char *bytes, size_t n)
{
    void *items = work->symbols;
    int32_t status;

    if (n >= BPE_NONE / 4)
        return mk_fail(MINKE_EUNSUPPORTED, "a word of %zu bytes", n);
    status = mk_grow(work->a, &items, &work->n_symbols, n + 1, sizeof(*work->symbols));
    if (status < 0)
        return status;
    work->symbols = items;
    work->symbols[0] = (struct bpe_symbol){.rank = BPE_NONE};
    for (size_t i = 1; i <= n; i++) {
        struct bpe_symbol *s = &work->symbols[i];

        if ((status = bpe_byte(bpe, bytes, i - 1, &s->id)) < 0)
            return status;
        s->prev = (uint32_t)(i - 1);
        s->next = i < n ? (uint32_t)(i + 1) : 0;
        s->rank = BPE_NONE;
    }
    return MINKE_OK;
}

static uint32_t bpe_rank_at(const struct mk_bpe *bpe, const struct bpe_symbol *symbols,
                            uint32_t p)
{
    const uint32_t next = symbols[p].next;

    return next == 0 ? BPE_NONE : bpe_rank(bpe, symbols[p].id, symbols[next].id);
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

static int32_t bpe_output(const struct bpe_symbol *symbols, struct mk_ids *out)
{
    int32_t status = MINKE_OK;

    for (uint32_t p = 1; p != 0 && status >= 0; p = symbols[p].next)
        status = mk_ids_add(out, (int32_t)symbols[p].id);
    return status;
}

/* ---- Very long pieces: lists of positions by rank, where merges are in order ----
 *
 * A join makes a token whose merges all rank higher than the join itself.  So once a rank is
 * taken up, its list only shrinks, and ranks are taken up in ascending order.  Pairs of one
 * rank overlap only where both parts are the same token; only there does the order matter. */

/* Put p into the list of its pair's rank; the queue holds the ranks whose list has members. */
static void bpe_list_add(const struct mk_bpe *bpe, struct mk_bpe_work *work, uint32_t p,
                         size_t *n_queue)
{
    struct bpe_symbol *s = &work->symbols[p];
    const uint32_t rank = bpe_rank_at(bpe, work->symbols, p);
    struct bpe_list *list;

    s->rank = rank;
    if (rank == BPE_NONE)
        return;
    list = &work->lists[rank];
    s->list_prev = list->tail;
    s->list_next = 0;
    if (list->tail != 0)
        work->symbols[list->tail].list_next = p;
    else
        list->head = p;
    list->mixed = list->tail != 0 && (list->mixed || p < list->tail);
    list->tail = p;
    if (!list->queued) {
        list->queued = 1;
        bpe_sift_up(work->heap, (*n_queue)++, rank);
    }
}

static void bpe_list_remove(struct mk_bpe_work *work, uint32_t p)
{
    struct bpe_symbol *symbols = work->symbols, *s = &symbols[p];
    struct bpe_list *list;

    if (s->rank == BPE_NONE)
        return;
    list = &work->lists[s->rank];
    if (s->list_prev != 0)
        symbols[s->list_prev].list_next = s->list_next;
    else
        list->head = s->list_next;
    if (s->list_next != 0)
        symbols[s->list_next].list_prev = s->list_prev;
    else
        list->tail = s->list_prev;
    s->rank = BPE_NONE;
}

/* Two ascending lists into one; returns its head. */
static uint32_t bpe_list_merge(struct bpe_symbol *symbols, uint32_t a, uint32_t b)
{
    uint32_t head = 0, *end = &head;

    while (a != 0 && b != 0) {
        uint32_t *least = a < b ? &a : &b;

        *end = *least;
        end = &symbols[*least].list_next;
        *least = *end;
    }
    *end = a != 0 ? a : b;
    return head;
}

/* Positions ascending: merge sort of the list's ascending runs, bins doubling in size. */
static void bpe_list_sort(struct mk_bpe_work *work, struct bpe_list *list)
{
    struct bpe_symbol *symbols = work->symbols;
    uint32_t bins[33] = {0}, rest = list->head, sorted = 0, last = 0;

    while (rest != 0) {
        uint32_t run = rest, end = rest;
        size_t k = 0;

        while (symbols[end].list_next > end)
            end = symbols[end].list_next;
        rest = symbols[end].list_next;
        symbols[end].list_next = 0;
        for (; k < 32 && bins[k] != 0; k++) {
            run = bpe_list_merge(symbols, bins[k], run);
            bins[k] = 0;
        }
        bins[k] = bpe_list_merge(symbols, bins[k], run);
    }
    for (size_t k = 0; k < 33; k++)
        sorted = bpe_list_merge(symbols, bins[k], sorted);
    list->head = sorted;
    list->mixed = 0;
    for (uint32_t p = sorted; p != 0; last = p, p = symbols[p].list_next)
        symbols[p].list_prev = last;
    list->tail = last;
}

static void bpe_join_rank(const struct mk_bpe *bpe, struct mk_bpe_work *work, uint32_t rank,
                          size_t *n_queue)
{
    struct bpe_symbol *symbols = work->symbols;
    struct bpe_list *list = &work->lists[rank];

    list->queued = 0;
    if (list->head != 0 && list->mixed
        && symbols[list->head].id == symbols[symbols[list->head].next].id)
        bpe_list_sort(work, list);
    while (list->head != 0) {
        const uint32_t p = list->head, before = symbols[p].prev;

        bpe_list_remove(work, p);
        bpe_list_remove(work, symbols[p].next);
        bpe_list_remove(work, before);
        bpe_join(bpe, symbols, p, rank);
        if (before != 0)
            bpe_list_add(bpe, work, before, n_queue);
        bpe_list_add(bpe, work, p, n_queue);
    }
}

static int32_t bpe_by_lists(const struct mk_bpe *bpe, struct mk_bpe_work *work, size_t n,
                            struct mk_ids *out)
{
    void *heap = work->heap;
    size_t n_queue = 0;
    int32_t status;

    if (work->lists == NULL
        && (work->lists = mk_alloc(work->a, bpe->n_merges, sizeof(*work->lists))) == NULL)
        return MINKE_ENOMEM;
    status = mk_grow(work->a, &heap, &work->n_heap, bpe->n_merges, sizeof(*work->heap));
    if (status < 0)
        return status;
    work->heap = heap;
    for (uint32_t p = 1; p < n; p++)
        bpe_list_add(bpe, work, p, &n_queue);
    while (n_queue > 0) {
        const uint32_t rank = (uint32_t)bpe_heap_pop(work->heap, n_queue--);

        bpe_join_rank(bpe, work, rank, &n_queue);
    }
    return bpe_output(work->symbols, out);
}

/* ---- Long pieces: a heap of rank << 32 | position ---- */

static void bpe_heap_add(const struct mk_bpe *bpe, struct mk_bpe_work *work, uint32_t p,
                         size_t *n_heap)
{
    const uint32_t rank = bpe_rank_at(bpe, work->symbols, p);

    work->symbols[p].rank = rank;
    if (rank != BPE_NONE)
        bpe_sift_up(work->heap, (*n_heap)++, (uint64_t)rank << 32 | p);
}

static int32_t bpe_by_heap(const struct mk_bpe *bpe, struct mk_bpe_work *work, size_t n,
                           struct mk_ids *out)
{
    struct bpe_symbol *symbols = work->symbols;
    void *heap = work->heap;
    size_t n_heap = 0;
    int32_t status;

    /* n - 1 pairs at first, and two more for each of at most n - 1 joins. */
    status = mk_grow(work->a, &heap, &work->n_heap, 3 * n, sizeof(*work->heap));
    if (status < 0)
        return status;
    work->heap = heap;
    for (uint32_t p = 1; p < n; p++)
        bpe_heap_add(bpe, work, p, &n_heap);
    while (n_heap > 0) {
        const uint64_t least = bpe_heap_pop(work->heap, n_heap--);
        const uint32_t rank = (uint32_t)(least >> 32), p = (uint32_t)least;

        /* The pair has changed since. */
        if (symbols[p].rank != rank)
            continue;
        bpe_join(bpe, symbols, p, rank);
        bpe_heap_add(bpe, work, p, &n_heap);
        if (symbols[p].prev != 0)
            bpe_heap_add(bpe, work, symbols[p].prev, &n_heap);
    }
    return bpe_output(symbols, out);
}

int32_t mk_bpe_encode(const struct mk_bpe *bpe, struct mk_bpe_work *work, const char *bytes,
                      size_t len, struct mk_ids *out)
{
    const int32_t whole = mk_bpe_find(bpe, bytes, len);
    int32_t status;

    if (len == 0)
        return MINKE_OK;
    if (whole >= 0 && (bpe->tokens[whole].flags & MK_BPE_WHOLE) != 0)
        return mk_ids_add(out, whole);
    if (len <= BPE_SHORT)
        return bpe_scan(bpe, bytes, len, out);
    if ((status = bpe_symbols(bpe, work, bytes, len)) < 0)
        return status;
    if (len >= BPE_LONG && bpe->ordered)
        return bpe_by_lists(bpe, work, len, out);
    return bpe_by_heap(bpe, work, len, out);
}
