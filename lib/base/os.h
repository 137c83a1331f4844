/* The operating system: every call into it stands in os_posix.c or os_win32.c.  Paths are UTF-8;
 * what returns int gives 0, or -1 with the reason in errno. */
#ifndef MK_OS_H
#define MK_OS_H

#include <stddef.h>
#include <stdint.h>

/* ---- Memory ---- */

/* NULL when there is none; align is a power of two. */
void *mk_os_alloc(size_t size, size_t align);
void mk_os_free(void *p);

/* Pages from a boundary of 2 MiB, huge ones where the system has them. */
#define MK_OS_HUGE ((size_t)2 << 20)
void *mk_os_pages(size_t size);
void mk_os_pages_free(void *pages, size_t size);

/* ---- Files ---- */

enum mk_os_mode {
    MK_OS_READ,
    MK_OS_NEW,      /* there must be none */
    MK_OS_EDIT      /* created where there is none */
};

struct mk_os_stat {
    uint64_t size;
    int is_file, is_folder;
};
int mk_os_stat(struct mk_os_stat *out, const char *path);

/* A descriptor, or -1; what it is of in *out.  A named pipe does not make it wait. */
int mk_os_open(struct mk_os_stat *out, const char *path, enum mk_os_mode mode);
void mk_os_close(int fd);

/* Bytes moved, perhaps fewer than n; reading 0 is the end of the file.  Any threads at once. */
int64_t mk_os_read(int fd, void *buffer, size_t n, uint64_t offset);
int64_t mk_os_write(int fd, const void *data, size_t n, uint64_t offset);

int mk_os_sync(int fd);      /* a folder's too: it makes the names in it durable */
int mk_os_cut(int fd, uint64_t size);
int mk_os_remove(const char *path);
int mk_os_rename(const char *from, const char *to);     /* in the place of what is there */

/* The file's first size bytes, read-only; NULL when it cannot be. */
void *mk_os_map(int fd, size_t size);
void mk_os_unmap(void *map, size_t size);

/* ---- Process, time, processors ---- */

/* Identity of the calling process, to tell a child after fork. */
int64_t mk_process_id(void);

/* Monotonic time in nanoseconds. */
uint64_t mk_time_ns(void);

/* Processors that the affinity of this thread allows, at least 1. */
uint32_t mk_os_processors(void);

/* The two words in which Linux tells what the processor has (AT_HWCAP, AT_HWCAP2); else 0. */
void mk_os_hwcap(uint64_t words[2]);

/* ---- Threads ---- */

/* A lock, and two events that are waited for under it.  Room for the system's own, whose headers
 * nobody else includes. */
struct mk_lock {
    uint64_t space[24];
};
void mk_lock_init(struct mk_lock *l);
void mk_lock_free(struct mk_lock *l);
void mk_lock_enter(struct mk_lock *l);
void mk_lock_leave(struct mk_lock *l);
/* Within: leave, sleep until the event (0 or 1) or for no reason at all, and enter again. */
void mk_lock_wait(struct mk_lock *l, int event);
/* All that wait for the event. */
void mk_lock_wake(struct mk_lock *l, int event);

struct mk_thread {
    uint64_t id;
    void (*run)(void *);
    void *arg;
};
/* Runs run(arg), which no signal of the host interrupts.  t stays in place until it is joined. */
int mk_thread_start(struct mk_thread *t, void (*run)(void *), void *arg);
void mk_thread_join(struct mk_thread *t);

#endif
