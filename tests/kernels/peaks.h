/* What the machine can do at best, from loops that do nothing else.  The arithmetic ones keep
 * twelve sums in registers (written so that compilers cannot spill them). */
#ifndef MK_PEAKS_H
#define MK_PEAKS_H

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define PEAK_12(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define PEAK_INT8_OPS (12 * 128.0)    /* per round; 64 multiply-adds per instruction */
#define PEAK_FLOAT_OPS (12 * 32.0)

__attribute__((target("avx512f,avx512bw,avx512vnni")))
static int64_t peak_int8(long rounds)
{
    const __m512i x = _mm512_set1_epi8((char)(rounds & 3)), y = _mm512_set1_epi8(2);
#define X(i) __m512i s##i = _mm512_set1_epi32(i);
    PEAK_12(X)
#undef X
    for (long r = 0; r < rounds; r++) {
#define X(i) __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(s##i) : "v"(x), "v"(y));
        PEAK_12(X)
#undef X
    }
    __m512i sum = _mm512_setzero_si512();
#define X(i) sum = _mm512_add_epi32(sum, s##i);
    PEAK_12(X)
#undef X
    return _mm512_reduce_add_epi32(sum);
}

__attribute__((target("avx512f")))
static int64_t peak_float(long rounds)
{
    const __m512 x = _mm512_set1_ps((float)(rounds & 3)), y = _mm512_set1_ps(0.5f);
#define X(i) __m512 s##i = _mm512_set1_ps(i);
    PEAK_12(X)
#undef X
    for (long r = 0; r < rounds; r++) {
#define X(i) __asm__ volatile("vfmadd231ps %2, %1, %0" : "+v"(s##i) : "v"(x), "v"(y));
        PEAK_12(X)
#undef X
    }
    __m512 sum = _mm512_setzero_ps();
#define X(i) sum = _mm512_add_ps(sum, s##i);
    PEAK_12(X)
#undef X
    return (int64_t)_mm512_reduce_add_ps(sum);
}

__attribute__((target("avx512f"), unused))
static int64_t peak_read(const uint8_t *p, size_t size)
{
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;

    for (size_t i = 0; i + 256 <= size; i += 256) {
        for (int j = 0; j < 4; j++)
            _mm_prefetch((const char *)p + i + 8192 + 64 * j, _MM_HINT_T1);
        a = _mm512_xor_si512(a, _mm512_loadu_si512(p + i));
        b = _mm512_xor_si512(b, _mm512_loadu_si512(p + i + 64));
        c = _mm512_xor_si512(c, _mm512_loadu_si512(p + i + 128));
        d = _mm512_xor_si512(d, _mm512_loadu_si512(p + i + 192));
    }
    return _mm512_reduce_add_epi32(_mm512_xor_si512(_mm512_xor_si512(a, b),
                                                    _mm512_xor_si512(c, d)));
}
#endif
#endif
