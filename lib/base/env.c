/* The host's services and the floating-point state. */
#include "base/env.h"

#include <fenv.h>
#include <stdarg.h>

void mk_log(const struct mk_env *env, int32_t level, const char *format, ...)
{
    char text[512];
    va_list args;

    if (env->log == NULL)
        return;
    va_start(args, format);
    mk_vformat_line(text, sizeof(text), format, args);
    va_end(args);
    env->log(env->log_user, level, text);
}

/* ---- Floating-point state ------------------------------------------------ */

#if defined(__x86_64__)
/* MXCSR and, for the C library's sake, the control word of the x87 unit; both to what they
 * are after reset: nearest, nothing flushed, no traps. */
void mk_fpu_enter(struct mk_fpu *saved)
{
    const uint32_t plain = 0x1F80;
    const uint16_t plain_x87 = 0x037F;
    uint32_t old;
    uint16_t old_x87;

    __asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(old), "=m"(old_x87));
    saved->state = (uint64_t)old_x87 << 32 | old;
    __asm__ volatile("ldmxcsr %0\n\tfldcw %1" : : "m"(plain), "m"(plain_x87) : "memory");
}

void mk_fpu_leave(const struct mk_fpu *saved)
{
    const uint32_t old = (uint32_t)saved->state;
    const uint16_t old_x87 = (uint16_t)(saved->state >> 32);

    __asm__ volatile("ldmxcsr %0\n\tfldcw %1" : : "m"(old), "m"(old_x87) : "memory");
}
#elif defined(__aarch64__)
void mk_fpu_enter(struct mk_fpu *saved)
{
    const uint64_t plain = 0;
    uint64_t old;

    __asm__ volatile("mrs %0, fpcr" : "=r"(old));
    saved->state = old;
    __asm__ volatile("msr fpcr, %0" : : "r"(plain) : "memory");
}

void mk_fpu_leave(const struct mk_fpu *saved)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(saved->state) : "memory");
}
#else
void mk_fpu_enter(struct mk_fpu *saved)
{
    saved->state = (uint64_t)fegetround();
    fesetround(FE_TONEAREST);
}

void mk_fpu_leave(const struct mk_fpu *saved)
{
    fesetround((int)saved->state);
}
#endif
