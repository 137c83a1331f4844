/* The memory of a forward pass: one block, laid out once, named pieces. */
#ifndef MK_WORK_H
#define MK_WORK_H

#include "model/model.h"
#include "tensor/matmul.h"

/* Takes aligned pieces off a block; with base NULL it only counts. */
struct mk_carve {
    uint8_t *base;
    size_t size;       /* taken so far */
    int failed;        /* a size wrapped */
};
void *mk_carve(struct mk_carve *c, size_t count, size_t item_size);

#define MK_KEY_BLOCK 64u       /* keys that attention works through at a time */
#define MK_INDEX_ROWS 16u      /* query rows whose index scores are held at a time */

/* T rows of a chunk, D hidden_size, H heads, N qk_nope_head_dim, R qk_rope_head_dim,
 * V v_head_dim, L kv_lora_rank, Q q_lora_rank, E experts, K experts per token, I width. */
struct mk_work_shape {
    size_t n_rows;             /* T */
    size_t max_tokens;
    uint32_t n_threads;
    uint32_t index_topk;       /* 0 = no room for the indexer */
    int mtp;                   /* room for the prediction layer's input */
    int index_scores;          /* keep the scores of what was selected */
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
    float *qa;                 /* absorbed: (T, H, L + R) queries, then weighted latents */
    float *k_block, *v_block;  /* naive: (MK_KEY_BLOCK, H, N), (MK_KEY_BLOCK, H, V) */
    float *stats;              /* (T, H, 2) running maximum and sum */
    float *block;              /* a worker each: (MK_KEY_BLOCK, L + R) decoded latents */
    float *acc;                /* a worker each: (H, L + 2) */

    float *index_q;            /* (T, index_n_heads, index_head_dim) */
    float *index_w;            /* (T, index_n_heads) */
    float *index_k;            /* (T, index_head_dim) */
    float *scores;             /* (MK_INDEX_ROWS, max_tokens) */
    float *select;             /* a worker each: (max_tokens,) */
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
};

/* Lay the workspace out in c.  MINKE_ENOMEM when its size does not fit size_t. */
int32_t mk_work_init(struct mk_work *w, struct mk_carve *c, const struct mk_config *config,
                     const struct mk_work_shape *shape);

#endif
