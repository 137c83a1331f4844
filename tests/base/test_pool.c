#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* fork, pthread_sigmask */
#endif
/* Worker threads: every item once, no blocking, no trouble with signals and fork. */
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/env.h"
#include "base/pool.h"
#include "test.h"

#define MAX_ITEMS 1000

static const struct mk_allocator plain = {NULL, NULL, NULL};

struct marks {
    int32_t seen[MAX_ITEMS], worker[MAX_ITEMS];
    size_t grain, n_items;
    int32_t bad, parts;
};

static void mark(void *arg, size_t begin, size_t end, uint32_t w)
{
    struct marks *m = arg;

    if (begin % m->grain != 0 || (end % m->grain != 0 && end != m->n_items) || begin >= end
        || fegetround() != FE_TONEAREST)
        mk_atomic_add(&m->bad, 1);
    mk_atomic_add(&m->parts, 1);
    for (size_t i = begin; i < end; i++) {
        mk_atomic_add(&m->seen[i], 1);
        m->worker[i] = (int32_t)w;
    }
}

static void check_run(const struct mk_team *team, size_t n, size_t grain)
{
    static struct marks m;

    memset(&m, 0, sizeof m);
    m.grain = grain;
    m.n_items = n;
    mk_team_run(team, mark, &m, n, grain);
    for (size_t i = 0; i < n; i++) {
        CHECK_INT(m.seen[i], 1);
        CHECK(m.worker[i] >= 0 && (uint32_t)m.worker[i] < team->n);
        CHECK(i == 0 || m.worker[i] >= m.worker[i - 1]);
    }
    CHECK_INT(m.bad, 0);
    CHECK(m.parts <= (int32_t)team->n);
}

TEST(every_item_runs_once_in_contiguous_parts)
{
    for (uint32_t threads = 1; threads <= 5; threads += 2) {
        struct mk_pool *pool = NULL;
        struct mk_team team;

        CHECK_INT(mk_pool_open(&pool, &plain, threads, NULL, NULL), MINKE_OK);
        CHECK_INT(mk_pool_threads(pool), threads);
        mk_team_begin(&team, pool);
        CHECK_INT(team.n, threads);
        for (size_t n = 0; n < 40; n++)
            for (size_t grain = 1; grain < 20; grain += 3)
                check_run(&team, n, grain);
        check_run(&team, MAX_ITEMS, 16);
        mk_team_end(&team);
        mk_pool_free(pool);
    }
}

TEST(workers_sleep_and_wake_again)
{
    struct mk_pool *pool = NULL;
    struct mk_team team;

    CHECK_INT(mk_pool_open(&pool, &plain, 3, NULL, NULL), MINKE_OK);
    mk_team_begin(&team, pool);
    for (int i = 0; i < 20; i++) {
        check_run(&team, 30, 1);
        usleep(i < 10 ? 3000 : 50);
    }
    mk_team_end(&team);
    mk_pool_free(pool);
}

TEST(a_second_team_works_alone)
{
    struct mk_pool *pool = NULL;
    struct mk_team first, second;

    CHECK_INT(mk_pool_open(&pool, &plain, 2, NULL, NULL), MINKE_OK);
    mk_team_begin(&first, pool);
    mk_team_begin(&second, pool);
    CHECK_INT(first.n, 2);
    CHECK_INT(second.n, 1);
    check_run(&second, 100, 7);
    mk_team_end(&second);
    check_run(&first, 100, 7);
    mk_team_end(&first);
    mk_team_begin(&second, pool);
    CHECK_INT(second.n, 2);
    mk_team_end(&second);
    mk_pool_free(pool);
}

static void *own_calls(void *arg)
{
    for (int i = 0; i < 200; i++) {
        struct mk_team team;
        struct marks *m = calloc(1, sizeof *m);

        m->grain = 3;
        m->n_items = 50;
        mk_team_begin(&team, arg);
        mk_team_run(&team, mark, m, 50, 3);
        mk_team_end(&team);
        for (size_t k = 0; k < 50; k++)
            if (m->seen[k] != 1)
                test_failures++;
        free(m);
    }
    return NULL;
}

TEST(several_threads_share_a_pool)
{
    struct mk_pool *pool = NULL;
    pthread_t threads[3];

    CHECK_INT(mk_pool_open(&pool, &plain, 2, NULL, NULL), MINKE_OK);
    for (int i = 0; i < 3; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, own_calls, pool), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    mk_pool_free(pool);
}

/* An executor of the host: two threads with modes of their own. */
struct host_task {
    minke_task_fn task;
    void *arg;
    uint32_t begin, end;
};

static void *host_run(void *arg)
{
    struct host_task *t = arg;

    fesetround(FE_UPWARD);
    for (uint32_t i = t->begin; i < t->end; i++)
        t->task(t->arg, i);
    if (fegetround() != FE_UPWARD)
        test_failures++;
    fesetround(FE_TONEAREST);
    return NULL;
}

static void host_executor(void *user, minke_task_fn task, void *arg, uint32_t n)
{
    struct host_task a = {task, arg, 0, n / 2}, b = {task, arg, n / 2, n};
    pthread_t thread;

    ++*(int *)user;
    pthread_create(&thread, NULL, host_run, &a);
    host_run(&b);
    pthread_join(thread, NULL);
}

TEST(a_hosts_executor_runs_the_parts)
{
    struct mk_pool *pool = NULL;
    struct mk_team team;
    int calls = 0;

    CHECK_INT(mk_pool_open(&pool, &plain, 4, host_executor, &calls), MINKE_OK);
    mk_team_begin(&team, pool);
    CHECK_INT(team.n, 4);
    check_run(&team, 100, 3);
    check_run(&team, 2, 1);
    CHECK_INT(calls, 2);
    mk_team_end(&team);
    mk_pool_free(pool);
}

static pthread_t main_thread;
static volatile sig_atomic_t on_main, elsewhere;

static void on_signal(int number)
{
    (void)number;
    if (pthread_equal(pthread_self(), main_thread))
        on_main++;
    else
        elsewhere++;
}

TEST(workers_never_see_a_signal)
{
    struct mk_pool *pool = NULL;
    struct mk_team team;
    sigset_t before, after;

    main_thread = pthread_self();
    signal(SIGUSR1, on_signal);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    CHECK_INT(mk_pool_open(&pool, &plain, 3, NULL, NULL), MINKE_OK);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int n = 1; n < 32; n++)
        CHECK_INT(sigismember(&after, n), sigismember(&before, n));
    mk_team_begin(&team, pool);
    for (int i = 0; i < 50; i++) {
        kill(getpid(), SIGUSR1);
        check_run(&team, 20, 1);
    }
    mk_team_end(&team);
    CHECK(on_main > 0);
    CHECK_INT(elsewhere, 0);
    mk_pool_free(pool);
    signal(SIGUSR1, SIG_DFL);
}

TEST(a_child_after_fork_works_alone_and_frees_without_hanging)
{
    struct mk_pool *pool = NULL;
    struct mk_team team;
    int status = -1;

    CHECK_INT(mk_pool_open(&pool, &plain, 3, NULL, NULL), MINKE_OK);
    mk_team_begin(&team, pool);
    check_run(&team, 20, 1);
    mk_team_end(&team);
    const pid_t child = fork();

    if (child == 0) {
        alarm(10);
        mk_team_begin(&team, pool);
        const int alone = team.n == 1;

        check_run(&team, 20, 1);
        mk_team_end(&team);
        mk_pool_free(pool);
        _exit(alone && test_failures == 0 ? 0 : 1);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    mk_team_begin(&team, pool);
    check_run(&team, 20, 1);
    mk_team_end(&team);
    mk_pool_free(pool);
}

TEST_MAIN(RUN(every_item_runs_once_in_contiguous_parts), RUN(workers_sleep_and_wake_again),
          RUN(a_second_team_works_alone), RUN(several_threads_share_a_pool),
          RUN(a_hosts_executor_runs_the_parts), RUN(workers_never_see_a_signal),
          RUN(a_child_after_fork_works_alone_and_frees_without_hanging))
