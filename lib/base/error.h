/* The thread's last error message, and a formatter that knows no locale. */
#ifndef MK_ERROR_H
#define MK_ERROR_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "minke.h"

#if defined(__MINGW32__) && !defined(__clang__)
#  define MK_PRINTF(f, a) __attribute__((format(gnu_printf, f, a)))
#elif defined(__GNUC__)
#  define MK_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#  define MK_PRINTF(f, a)
#endif

/* Internal checks; never a substitute for validating input. */
#ifdef MK_DEBUG
#  include <assert.h>
#  define mk_assert(x) assert(x)
#else
#  define mk_assert(x) ((void)0)
#endif

/* Set this thread's message and return code.  Formats understood: %s %.*s %c %d %u %x
 * with the length modifiers l, ll, z, %g (shortest form of a double), %%.  The message
 * is one line: control characters and broken UTF-8 are replaced by '?', and it is cut at
 * 511 bytes. */
int32_t mk_fail(int32_t code, const char *format, ...) MK_PRINTF(2, 3);

/* mk_fail(MINKE_ENOMEM, "out of memory: %zu bytes for %s"). */
int32_t mk_fail_memory(size_t size, const char *what);

/* Format into buffer (size bytes, NUL-terminated when size > 0).  Returns the length
 * that the whole text has, as snprintf does. */
size_t mk_format(char *buffer, size_t size, const char *format, ...) MK_PRINTF(3, 4);
size_t mk_vformat(char *buffer, size_t size, const char *format, va_list args);

/* One line for the host, size at least 1: as mk_fail makes it of its message. */
void mk_vformat_line(char *buffer, size_t size, const char *format, va_list args);

#endif
