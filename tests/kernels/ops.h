/* What products need, for tests of them: a team, a kernel table, and guarded scratch. */
#ifndef TEST_OPS_H
#define TEST_OPS_H

#include "kernel_data.h"   /* first: it asks for more than C11 of the system */

#include "base/pool.h"
#include "test.h"

/* For up to n_rows activations of n_in numbers. */
static struct mk_ops ops_open(const struct mk_kernels *k, uint32_t n_threads, size_t n_rows,
                              size_t n_in)
{
    static const struct mk_allocator heap = {NULL, NULL, NULL};
    struct mk_ops ops = {.k = k};
    struct mk_pool *pool = NULL;

    if (n_threads > 1)
        CHECK_INT(mk_pool_open(&pool, &heap, n_threads, NULL, NULL), MINKE_OK);
    mk_team_begin(&ops.team, pool);
    ops.scratch_bytes = mk_matmul_scratch(n_rows, n_in, n_threads);
    ops.scratch = kd_guarded(ops.scratch_bytes);
    return ops;
}

static void ops_close(struct mk_ops *ops)
{
    struct mk_pool *pool = ops->team.pool;

    mk_team_end(&ops->team);
    mk_pool_free(pool);
}

#endif
