/* One attention layer of a real shape without weights: caches, work space, a forward pass. */
#ifndef MK_TEST_LAYER_H
#define MK_TEST_LAYER_H

#include "kernels/kernel_data.h"

#include "base/checked.h"
#include "base/cpu.h"
#include "base/env.h"
#include "minke.h"
#include "model/mla.h"

struct layer {
    struct minke_context model;
    struct mk_work work;
    struct mk_kv kv;
    struct mk_sequence seq;
    struct mk_row *rows;
    struct mk_forward f;
    void *memory;
    size_t size;
};

/* Room for n tokens; V3.2's dimensions with so many heads; attend16: 16-bit products.  Caches are
 * empty. */
static inline void layer_open(struct layer *b, uint32_t n_threads, size_t n, uint32_t heads,
                              uint32_t cache_type, uint32_t index_type, size_t n_rows,
                              int attend16)
{
    const struct mk_allocator a = {NULL, NULL, NULL};
    struct mk_config *c = &b->model.config;
    struct mk_carve carve = {.base = NULL};
    struct mk_work_shape shape = {.n_rows = n_rows, .max_tokens = n, .n_threads = n_threads,
                                  .attend16 = attend16};

    memset(b, 0, sizeof(*b));
    *c = (struct mk_config){.hidden_size = 64, .num_attention_heads = heads,
        .kv_lora_rank = 512, .qk_nope_head_dim = 128, .qk_rope_head_dim = 64, .v_head_dim = 128,
        .index_n_heads = 64, .index_head_dim = 128, .index_topk = 2048, .vocab_size = 16,
        .intermediate_size = 64};
    mk_kernels_init(&b->model.kernels, mk_cpu_features());
    b->model.rope.softmax_scale = 0.1352338f;
    if (mk_pool_open(&b->model.pool, &a, n_threads, NULL, NULL) != MINKE_OK)
        exit(1);
    mk_kv_format_init(&b->kv.format, c, cache_type, index_type, 1);
    shape.index_topk = c->index_topk;
    shape.index_type = b->kv.format.index_type;
    for (int pass = 0; pass < 2; pass++) {
        for (int p = 0; p < MK_KV_N_PLANES; p++)
            b->kv.plane[p] = mk_carve(&carve, n, b->kv.format.row_bytes[p]);
        mk_work_init(&b->work, &carve, c, &shape);
        if (pass == 0) {
            b->size = carve.size + (2 << 20);
            b->memory = mmap(NULL, b->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                             -1, 0);
            madvise(b->memory, b->size, MADV_HUGEPAGE);
            carve = (struct mk_carve){.base = (uint8_t *)mk_round_up((uintptr_t)b->memory,
                                                                     2 << 20)};
        }
    }
    b->seq = (struct mk_sequence){.kv = &b->kv, .index_topk = c->index_topk};
    b->rows = calloc(n_rows, sizeof(*b->rows));
    b->f = (struct mk_forward){.model = &b->model, .work = &b->work, .rows = b->rows,
        .ops = {.k = &b->model.kernels, .scratch = b->work.scratch,
                .scratch_bytes = b->work.scratch_bytes}};
    mk_team_begin(&b->f.ops.team, b->model.pool);
}

/* The pass is over n rows from `first` on; the job of its attention. */
static inline struct mk_mla layer_rows(struct layer *b, size_t first, size_t n,
                                       const struct mk_attention_weights *w)
{
    for (size_t i = 0; i < n; i++)
        b->rows[i] = (struct mk_row){.seq = &b->seq, .pos = first + i};
    b->f.n = n;
    return (struct mk_mla){&b->f, w, 0, 0, n};
}

static inline void layer_close(struct layer *b)
{
    mk_team_end(&b->f.ops.team);
    free(b->rows);
    mk_pool_free(b->model.pool);
    munmap(b->memory, b->size);
}

#endif
