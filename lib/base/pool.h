/* Worker threads: a static, contiguous partition of the items, the caller working too. */
#ifndef MK_POOL_H
#define MK_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"

struct mk_pool;

/* n_threads >= 1 counts the calling thread.  executor NULL = own threads, which block all
 * signals, spin briefly and then sleep. */
int32_t mk_pool_open(struct mk_pool **out, const struct mk_allocator *a, uint32_t n_threads,
                     minke_executor_fn executor, void *executor_user);
void mk_pool_free(struct mk_pool *pool);
uint32_t mk_pool_threads(const struct mk_pool *pool);

/* The workers for the length of one public call.  n is 1 when another call holds them:
 * the work then runs on the caller's thread, with the same bits. */
struct mk_team {
    struct mk_pool *pool;
    uint32_t n;
};
void mk_team_begin(struct mk_team *team, struct mk_pool *pool);
void mk_team_end(struct mk_team *team);

/* Items [begin, end) of a job, on worker w < team->n. */
typedef void (*mk_job_fn)(void *arg, size_t begin, size_t end, uint32_t w);

/* Split n_items into at most team->n contiguous parts, each a multiple of grain (the last
 * may be shorter), run them and wait.  No item's result may depend on the split. */
void mk_team_run(const struct mk_team *team, mk_job_fn job, void *arg, size_t n_items,
                 size_t grain);

#endif
