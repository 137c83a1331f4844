/* Worker threads: a static, contiguous partition of the items. */
#include "base/pool.h"

#include "base/checked.h"
#include "base/cpu.h"
#include "base/env.h"
#include "base/os.h"

/* Looks at a flag before sleeping: some tens of microseconds, the length of a gap between
 * two jobs of one call.  Nobody spins when there are more threads than processors. */
#define POOL_SPIN 2000

struct pool_job {
    mk_job_fn fn;
    void *arg;
    size_t n_items, grain, n_units;
    uint32_t n_parts;
};

struct pool_worker {
    struct mk_pool *pool;
    uint32_t index;
    struct mk_thread thread;
};

struct mk_pool {
    struct mk_allocator alloc;
    uint32_t n_threads, n_started;
    minke_executor_fn executor;
    void *executor_user;
    int64_t process_id;
    int spin;
    int32_t busy;            /* atomic: held by a team */

    struct pool_worker *workers;     /* (n_threads - 1,) */
    struct pool_job job;
    int32_t generation;      /* atomic: counts jobs */
    int32_t pending;         /* atomic: workers that have not finished this one */
    int32_t sleepers;        /* atomic: workers waiting for wake */
    int32_t waiting;         /* atomic: the caller waits for done */
    int stop;                /* under the lock */
    struct mk_lock lock;
};

/* What is waited for under the lock. */
#define POOL_WAKE 0
#define POOL_DONE 1

static void pool_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Part w: units [n w / parts, n (w + 1) / parts), without overflow. */
static size_t pool_unit(const struct pool_job *job, uint32_t w)
{
    const size_t each = job->n_units / job->n_parts, rest = job->n_units % job->n_parts;

    return each * w + mk_min(w, rest);
}

static void pool_run_part(const struct pool_job *job, uint32_t w)
{
    if (w >= job->n_parts)
        return;
    const size_t begin = pool_unit(job, w) * job->grain;
    const size_t last = pool_unit(job, w + 1);
    const size_t end = last == job->n_units ? job->n_items : last * job->grain;

    job->fn(job->arg, begin, end, w);
}

/* ---- Workers ------------------------------------------------------------- */

/* Wait for a job after the given one; returns its number, or the same number to stop. */
static int32_t pool_wait(struct mk_pool *pool, int32_t seen)
{
    int32_t now;

    for (int i = 0; i < pool->spin; i++) {
        now = mk_atomic_load(&pool->generation);
        if (now != seen)
            return now;
        pool_pause();
    }
    mk_lock_enter(&pool->lock);
    /* The caller counts the job first and looks for sleepers then; here the other way. */
    mk_atomic_add(&pool->sleepers, 1);
    while ((now = mk_atomic_load(&pool->generation)) == seen && !pool->stop)
        mk_lock_wait(&pool->lock, POOL_WAKE);
    mk_atomic_add(&pool->sleepers, -1);
    mk_lock_leave(&pool->lock);
    return now;
}

static void pool_finish(struct mk_pool *pool)
{
    if (mk_atomic_add(&pool->pending, -1) > 0)
        return;
    if (mk_atomic_load(&pool->waiting)) {
        mk_lock_enter(&pool->lock);
        mk_lock_wake(&pool->lock, POOL_DONE);
        mk_lock_leave(&pool->lock);
    }
}

static void pool_main(void *arg)
{
    struct pool_worker *worker = arg;
    struct mk_pool *pool = worker->pool;
    struct mk_fpu fpu;
    int32_t seen = 0;

    mk_fpu_enter(&fpu);      /* a new thread inherits its maker's modes */
    for (;;) {
        const int32_t now = pool_wait(pool, seen);

        if (now == seen)
            return;
        seen = now;
        pool_run_part(&pool->job, worker->index);
        pool_finish(pool);
    }
}

static int32_t pool_start(struct mk_pool *pool)
{
    const uint32_t n = pool->n_threads - 1;

    pool->workers = mk_alloc(&pool->alloc, n, sizeof(*pool->workers));
    if (pool->workers == NULL)
        return MINKE_ENOMEM;
    for (uint32_t i = 0; i < n; i++, pool->n_started++) {
        struct pool_worker *worker = &pool->workers[i];

        worker->pool = pool;
        worker->index = i + 1;
        if (mk_thread_start(&worker->thread, pool_main, worker) != 0)
            return mk_fail(MINKE_ENOMEM, "thread %u of %u cannot be started", i + 2, n + 1);
    }
    return MINKE_OK;
}

int32_t mk_pool_open(struct mk_pool **out, const struct mk_allocator *a, uint32_t n_threads,
                     minke_executor_fn executor, void *executor_user)
{
    struct mk_pool *pool = mk_alloc(a, 1, sizeof(*pool));

    if (pool == NULL)
        return MINKE_ENOMEM;
    pool->alloc = *a;
    pool->n_threads = n_threads > 0 ? n_threads : 1;
    pool->executor = executor;
    pool->executor_user = executor_user;
    pool->process_id = mk_process_id();
    pool->spin = pool->n_threads <= mk_cpu_threads() ? POOL_SPIN : 0;
    mk_lock_init(&pool->lock);
    const int32_t rc = executor == NULL && n_threads > 1 ? pool_start(pool) : MINKE_OK;

    if (rc < 0)
        mk_pool_free(pool);
    else
        *out = pool;
    return rc;
}

void mk_pool_free(struct mk_pool *pool)
{
    if (pool == NULL)
        return;
    const struct mk_allocator a = pool->alloc;

    /* In a child after fork there are no threads, and the lock may be held for ever. */
    if (pool->process_id == mk_process_id()) {
        mk_lock_enter(&pool->lock);
        pool->stop = 1;
        mk_lock_wake(&pool->lock, POOL_WAKE);
        mk_lock_leave(&pool->lock);
        for (uint32_t i = 0; i < pool->n_started; i++)
            mk_thread_join(&pool->workers[i].thread);
        mk_lock_free(&pool->lock);
    }
    mk_free(&a, pool->workers);
    mk_free(&a, pool);
}

uint32_t mk_pool_threads(const struct mk_pool *pool)
{
    return pool->n_threads;
}

/* ---- Teams --------------------------------------------------------------- */

void mk_team_begin(struct mk_team *team, struct mk_pool *pool)
{
    const int is_ours = pool != NULL && pool->n_threads > 1
                        && pool->process_id == mk_process_id()
                        && mk_atomic_swap(&pool->busy, 1) == 0;

    team->pool = is_ours ? pool : NULL;
    team->n = is_ours ? pool->n_threads : 1;
}

void mk_team_end(struct mk_team *team)
{
    if (team->pool != NULL)
        mk_atomic_store(&team->pool->busy, 0);
    team->pool = NULL;
    team->n = 1;
}

/* One part on a thread of the host, which has modes of its own. */
static void pool_task(void *arg, uint32_t index)
{
    struct mk_fpu fpu;

    mk_fpu_enter(&fpu);
    pool_run_part(arg, index);
    mk_fpu_leave(&fpu);
}

static void pool_run_threads(struct mk_pool *pool)
{
    mk_atomic_store(&pool->pending, (int32_t)pool->n_started);
    mk_atomic_add(&pool->generation, 1);
    if (mk_atomic_load(&pool->sleepers) > 0) {
        mk_lock_enter(&pool->lock);
        mk_lock_wake(&pool->lock, POOL_WAKE);
        mk_lock_leave(&pool->lock);
    }
    pool_run_part(&pool->job, 0);
    for (int i = 0; i < pool->spin; i++) {
        if (mk_atomic_load(&pool->pending) == 0)
            return;
        pool_pause();
    }
    mk_lock_enter(&pool->lock);
    mk_atomic_store(&pool->waiting, 1);
    while (mk_atomic_load(&pool->pending) > 0)
        mk_lock_wait(&pool->lock, POOL_DONE);
    mk_atomic_store(&pool->waiting, 0);
    mk_lock_leave(&pool->lock);
}

void mk_team_run(const struct mk_team *team, mk_job_fn job, void *arg, size_t n_items,
                 size_t grain)
{
    struct mk_pool *pool = team->pool;
    const size_t unit = grain > 0 ? grain : 1;
    const size_t n_units = mk_ceil_div(n_items, unit);

    if (n_items == 0)
        return;
    if (pool == NULL || team->n <= 1 || n_units <= 1) {
        job(arg, 0, n_items, 0);
        return;
    }
    pool->job = (struct pool_job){job, arg, n_items, unit, n_units,
                                  (uint32_t)mk_min(team->n, n_units)};
    if (pool->executor != NULL)
        pool->executor(pool->executor_user, pool_task, &pool->job, pool->job.n_parts);
    else
        pool_run_threads(pool);
}
