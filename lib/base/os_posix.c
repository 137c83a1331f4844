#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* O_CLOEXEC, madvise, sched_getaffinity */
#endif
#if !defined(_FILE_OFFSET_BITS)
#define _FILE_OFFSET_BITS 64
#endif
/* The operating system where it is POSIX. */
#include "base/os.h"

#if !defined(_WIN32)

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sched.h>
#include <sys/auxv.h>
#endif

#include "base/checked.h"

/* ---- Memory -------------------------------------------------------------- */

void *mk_os_alloc(size_t size, size_t align)
{
    void *p = NULL;

    return posix_memalign(&p, align, size) == 0 ? p : NULL;
}

void mk_os_free(void *p)
{
    free(p);
}

/* More is reserved, and the ends given back. */
void *mk_os_pages(size_t size)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t whole;

    if (mk_add(&whole, size, MK_OS_HUGE + page) != 0)
        return NULL;
    const size_t used = mk_round_up(size, page);
    unsigned char *p = mmap(NULL, used + MK_OS_HUGE, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return NULL;
    const size_t head = (MK_OS_HUGE - (size_t)((uintptr_t)p % MK_OS_HUGE)) % MK_OS_HUGE;

    if (head > 0)
        munmap(p, head);
    if (MK_OS_HUGE - head > 0)
        munmap(p + head + used, MK_OS_HUGE - head);
#if defined(MADV_HUGEPAGE)
    if (size >= MK_OS_HUGE)
        madvise(p + head, used, MADV_HUGEPAGE);
#endif
    return p + head;
}

void mk_os_pages_free(void *pages, size_t size)
{
    munmap(pages, size);
}

/* ---- Files --------------------------------------------------------------- */

#define OS_MOST ((size_t)1 << 30)    /* bytes asked for at once */

static int os_stat(struct mk_os_stat *out, const struct stat *s, int rc)
{
    if (rc == 0)
        *out = (struct mk_os_stat){s->st_size > 0 ? (uint64_t)s->st_size : 0,
                                   S_ISREG(s->st_mode), S_ISDIR(s->st_mode)};
    return rc;
}

int mk_os_stat(struct mk_os_stat *out, const char *path)
{
    struct stat s;

    return os_stat(out, &s, stat(path, &s));
}

/* O_NONBLOCK: a named pipe is refused later, and must not stop us here. */
int mk_os_open(struct mk_os_stat *out, const char *path, enum mk_os_mode mode)
{
    static const int flags[] = {O_RDONLY, O_RDWR | O_CREAT | O_EXCL, O_RDWR | O_CREAT};
    struct stat s;
    int fd;

    do
        fd = open(path, flags[mode] | O_NONBLOCK | O_CLOEXEC, 0666);
    while (fd < 0 && errno == EINTR);
    if (fd < 0 || os_stat(out, &s, fstat(fd, &s)) == 0)
        return fd;
    close(fd);
    return -1;
}

void mk_os_close(int fd)
{
    close(fd);
}

int64_t mk_os_read(int fd, void *buffer, size_t n, uint64_t offset)
{
    ssize_t got;

    do
        got = pread(fd, buffer, mk_min(n, OS_MOST), (off_t)offset);
    while (got < 0 && errno == EINTR);
    return got;
}

int64_t mk_os_write(int fd, const void *data, size_t n, uint64_t offset)
{
    ssize_t put;

    do
        put = pwrite(fd, data, mk_min(n, OS_MOST), (off_t)offset);
    while (put < 0 && errno == EINTR);
    return put;
}

int mk_os_sync(int fd)
{
    return fsync(fd);
}

int mk_os_cut(int fd, uint64_t size)
{
    return ftruncate(fd, (off_t)size);
}

int mk_os_remove(const char *path)
{
    return unlink(path);
}

int mk_os_rename(const char *from, const char *to)
{
    return rename(from, to);
}

void *mk_os_map(int fd, size_t size)
{
    void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);

    return map != MAP_FAILED ? map : NULL;
}

void mk_os_unmap(void *map, size_t size)
{
    munmap(map, size);
}

/* ---- Process, time, processors ------------------------------------------- */

int64_t mk_process_id(void)
{
    return (int64_t)getpid();
}

uint64_t mk_time_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#if defined(__linux__)
/* The kernel's mask may be larger than the C library's type, so that the call is repeated with
 * more room. */
uint32_t mk_os_processors(void)
{
    for (int n = 1024; n <= 1 << 18; n *= 4) {
        cpu_set_t *set = CPU_ALLOC((size_t)n);
        const size_t size = CPU_ALLOC_SIZE((size_t)n);

        if (set == NULL)
            return 1;
        const int failed = sched_getaffinity(0, size, set);
        const int count = failed ? 0 : CPU_COUNT_S(size, set);

        CPU_FREE(set);
        if (!failed)
            return count > 0 ? (uint32_t)count : 1;
        if (errno != EINVAL)
            break;
    }
    return 1;
}

void mk_os_hwcap(uint64_t words[2])
{
    words[0] = getauxval(AT_HWCAP);
    words[1] = getauxval(AT_HWCAP2);
}
#else
uint32_t mk_os_processors(void)
{
    const long n = sysconf(_SC_NPROCESSORS_ONLN);

    return n > 0 ? (uint32_t)n : 1;
}

void mk_os_hwcap(uint64_t words[2])
{
    words[0] = words[1] = 0;
}
#endif

/* ---- Threads ------------------------------------------------------------- */

struct os_lock {
    pthread_mutex_t mutex;
    pthread_cond_t event[2];
};
_Static_assert(sizeof(struct os_lock) <= sizeof(struct mk_lock)
               && sizeof(pthread_t) <= sizeof(((struct mk_thread *)0)->id), "room in os.h");

static struct os_lock *os_lock(struct mk_lock *l)
{
    return (struct os_lock *)(void *)l->space;
}

void mk_lock_init(struct mk_lock *l)
{
    pthread_mutex_init(&os_lock(l)->mutex, NULL);
    pthread_cond_init(&os_lock(l)->event[0], NULL);
    pthread_cond_init(&os_lock(l)->event[1], NULL);
}

void mk_lock_free(struct mk_lock *l)
{
    pthread_cond_destroy(&os_lock(l)->event[0]);
    pthread_cond_destroy(&os_lock(l)->event[1]);
    pthread_mutex_destroy(&os_lock(l)->mutex);
}

void mk_lock_enter(struct mk_lock *l)
{
    pthread_mutex_lock(&os_lock(l)->mutex);
}

void mk_lock_leave(struct mk_lock *l)
{
    pthread_mutex_unlock(&os_lock(l)->mutex);
}

void mk_lock_wait(struct mk_lock *l, int event)
{
    pthread_cond_wait(&os_lock(l)->event[event], &os_lock(l)->mutex);
}

void mk_lock_wake(struct mk_lock *l, int event)
{
    pthread_cond_broadcast(&os_lock(l)->event[event]);
}

static void *os_thread_main(void *arg)
{
    struct mk_thread *t = arg;

    t->run(t->arg);
    return NULL;
}

/* A thread begins with the mask of signals of the one that starts it. */
int mk_thread_start(struct mk_thread *t, void (*run)(void *), void *arg)
{
    sigset_t all, old;

    t->run = run;
    t->arg = arg;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    const int code = pthread_create((pthread_t *)(void *)&t->id, NULL, os_thread_main, t);

    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return code == 0 ? 0 : -1;
}

void mk_thread_join(struct mk_thread *t)
{
    pthread_join(*(pthread_t *)(void *)&t->id, NULL);
}

#endif
