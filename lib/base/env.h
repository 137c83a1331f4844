/* What the host supplied, handed through the rooms; and the guard of a public call. */
#ifndef MK_ENV_H
#define MK_ENV_H

#include <stdint.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/os.h"
#include "minke.h"

struct mk_env {
    struct mk_allocator alloc;
    minke_log_fn log;
    void *log_user;
    minke_reader_open_fn reader_open;
    minke_reader_read_fn reader_read;
    minke_reader_close_fn reader_close;
    void *reader_user;
};

/* One line to the host's log, if it has one. */
void mk_log(const struct mk_env *env, int32_t level, const char *format, ...) MK_PRINTF(3, 4);

/* Floating-point control of the calling thread, set aside on entry to a public function
 * that computes and put back on return: round to nearest, no flush-to-zero, no traps. */
struct mk_fpu {
    uint64_t state;
};
void mk_fpu_enter(struct mk_fpu *saved);
void mk_fpu_leave(const struct mk_fpu *saved);

/* Atomics for flags and reference counts, sequentially consistent. */
static inline int32_t mk_atomic_load(const int32_t *p)
{
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static inline void mk_atomic_store(int32_t *p, int32_t v)
{
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);
}

/* Returns the new value. */
static inline int32_t mk_atomic_add(int32_t *p, int32_t d)
{
    return __atomic_add_fetch(p, d, __ATOMIC_SEQ_CST);
}

/* Returns the old value. */
static inline int32_t mk_atomic_swap(int32_t *p, int32_t v)
{
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);
}

#endif
