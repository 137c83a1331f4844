/* The memory of a forward pass: one block, laid out once, named pieces. */
#ifndef MK_WORK_H
#define MK_WORK_H

#include "model/kv.h"
#include "model/handle.h"
#include "kernels/matmul.h"

/* Takes aligned pieces off a block; with base NULL it only counts. */
struct mk_carve {
    uint8_t *base;
    size_t size;       /* taken so far */
    int failed;        /* a size wrapped */
};
void *mk_carve(struct mk_carve *c, size_t count, size_t item_size);

#define MK_HEAD_VECS 4u        /* vectors of MK_LANES that a worker takes at a time */
#define MK_KEY_BLOCK 64u       /* keys that attention works through at a time */
#define MK_KEY_BLOCK16 64u     /* the same with 16-bit products */
#define MK_EXPAND 512u          /* naive: keys made per head at a time */
#define MK_EXPAND_HEADS 32u    /* naive: heads that they are made for at a time */
#define MK_SPLIT 1024u         /* absorbed: keys after which a softmax begins anew */
#define MK_WAVE 16u            /* absorbed: splits of a row under way at a time */
#define MK_INDEX_ROWS 16u      /* query rows whose index scores are held at a time */
#define MK_INDEX_BLOCK 64u     /* keys whose exact index scores are made at a time */

/* T rows of a chunk, D hidden_size, H heads, N qk_nope_head_dim, R qk_rope_head_dim,
 * V v_head_dim, L kv_lora_rank, Q q_lora_rank, E experts, K experts per token, I width. */
struct mk_work_shape {
    size_t n_rows;             /* T */
    size_t max_tokens;
    uint32_t n_threads;
    uint32_t index_topk;       /* 0 = no room for the indexer */
    enum mk_kv_index index_type;
    int mtp;                   /* room for the prediction layer's input */
    int index_scores;          /* keep the scores of what was selected */
    int attend16;              /* attention with 16-bit products */
};

/* Dwords of a row of dim numbers in 16 bits. */
static inline size_t mk_words16(size_t dim)
{
    return (dim + 31) / 32 * 16;
}

/* A worker's own memory in attention. */
struct mk_attend {
    float *q;                  /* (MK_HEAD_VECS, L + R, MK_LANES) queries, lanes are heads */
    float *keys;               /* (MK_KEY_BLOCK, L + R) widened latents */
    float *s;                  /* (MK_KEY_BLOCK, MK_HEAD_VECS, MK_LANES) scores */
    uint32_t *q16;             /* with 16 bits: (MK_HEAD_VECS, words, MK_LANES), words a dword
                                * for two numbers of L + R, as kernels.h says */
    uint32_t *keys16;          /* (MK_KEY_BLOCK16, words); naive: (MK_EXPAND, words of N + R) */
    uint32_t *pairs;           /* (MK_KEY_BLOCK16 / 2, L in vectors) values;
                                * naive: (MK_EXPAND / 2, V in vectors) */
    float *q_step, *key_step;  /* (MK_HEAD_VECS * MK_LANES,), (MK_EXPAND,) */
    float *value_step;         /* naive: (MK_EXPAND,) */
    float *sums;               /* (2, MK_HEAD_VECS * MK_LANES, L + 2) sums, maxima */
    float *index_s;            /* (MK_INDEX_BLOCK, index heads in vectors) */
    float *index_keys;         /* (MK_INDEX_BLOCK, index_head_dim) */
    int32_t *select;           /* (2, max_tokens + 32) */
};

/* Nanoseconds spent so far. */
struct mk_times {
    uint64_t index, select, attention, ffn, total;
};

struct mk_work {
    struct mk_work_shape shape;
    float *x;                  /* (T, D) residual stream */
    float *h;                  /* (T, D) its norm, input of a part */
    float *y;                  /* (T, D) output of a part */
    float *hidden;             /* (T + 1, D) after the final norm; row 0: the token before */
    float *rope;               /* (T, R) cosines, sines */

    float *qr;                 /* (T, Q) normed query latent */
    float *q;                  /* (T, H, N + R) */
    float *kv;                 /* (T, L + R) */
    float *o;                  /* (T, H, V) */
    float *qa;                 /* absorbed: (T, H, L + R) queries, then weighted latents;
                                * naive: (H, T, N + R) queries, lanes are rows */
    float *q_step;             /* naive, with 16 bits: (H, T) */
    float *k_block, *v_block;  /* naive: (MK_EXPAND_HEADS, MK_EXPAND, N + R or V) */
    float *block;              /* naive: (MK_EXPAND, L + R) widened latents */
    float *acc;                /* naive: (H, T, V) weighted values */
    float *stats;              /* naive: (H, 2, T) running maximum and sum */
    float *bias;               /* naive: (T, MK_EXPAND) 0 or -inf, by groups of rows */
    int32_t *bias_kind;        /* naive: of each group of rows */
    float *parts;              /* absorbed: (MK_WAVE + 1, H, L + 2) */
    struct mk_attend *attend;  /* a worker each */

    float *index_q;            /* (T, index_n_heads, index_head_dim) */
    float *index_w;            /* (T, index_n_heads) */
    float *index_k;            /* (T, index_head_dim) */
    struct mk_index_query *queries;      /* (MK_INDEX_ROWS,) of the rows at hand */
    float *scores;             /* (MK_INDEX_ROWS, max_tokens) */
    int32_t *candidates;       /* (MK_INDEX_ROWS, n_candidates) to be scored again */
    float *exact;              /* (MK_INDEX_ROWS, n_candidates) */
    size_t n_candidates;       /* 0 = index keys are not scored again */
    int32_t *selected;         /* (T, index_topk) ascending */
    float *selected_scores;    /* (T, index_topk) if shape.index_scores */
    size_t *n_selected;        /* (T,) */
    size_t selected_stride;    /* min(index_topk, max_tokens) */

    float *router;             /* (T, E) scores */
    float *choice;             /* (T, E) what selection looks at */
    float *group_scores;       /* (T, n_group) */
    int32_t *experts;          /* (T, K) best first */
    float *expert_weights;     /* (T, K) */
    int32_t *first_pair;       /* (E + 1) of each expert among the sorted pairs */
    int32_t *pair_token;       /* (T K) */
    float *pair_weight;        /* (T K) */
    int32_t *token_pairs;      /* (T, K) a token's pairs, by ascending expert */
    int32_t *n_token_pairs;    /* (T,) */
    float *pairs;              /* (T K, D) gathered inputs, then outputs */
    float *gate, *up;          /* widest of (T, I) and (T K + T shared, I) */
    struct mk_product *products;         /* 2 (min(E, T K) + 1), at least 2 H */
    float *mtp;                /* (T, 2 D) */

    uint8_t *scratch;          /* of products */
    size_t scratch_bytes;
    struct mk_times times;
};

/* Lay the workspace out in c.  MINKE_ENOMEM when its size does not fit size_t. */
int32_t mk_work_init(struct mk_work *w, struct mk_carve *c, const struct mk_config *config,
                     const struct mk_work_shape *shape);

#endif
