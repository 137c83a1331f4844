/* Character classes of Unicode 16.0. */
#ifndef MK_UNICODE_H
#define MK_UNICODE_H

#include <stddef.h>
#include <stdint.h>

/* Classes, as bits. */
#define MK_UNICODE_L  1u    /* letters */
#define MK_UNICODE_M  2u    /* marks */
#define MK_UNICODE_N  4u    /* numbers */
#define MK_UNICODE_P  8u    /* punctuation */
#define MK_UNICODE_S 16u    /* symbols */
#define MK_UNICODE_SPACE 32u       /* White_Space */
#define MK_UNICODE_LLM_LETTER 64u  /* the letters that deepseek-llm's pre-tokenizer lists */

extern const uint8_t mk_unicode_index[];        /* (0x110000 / 128,)  block of 128 code points */
extern const uint8_t mk_unicode_blocks[];       /* (blocks, 128)  classes */
extern const char mk_unicode_llm_letters[];     /* that pre-tokenizer's pattern of letters */

/* Classes of code point c, at most 0x10FFFF. */
static inline uint32_t mk_unicode_class(uint32_t c)
{
    return mk_unicode_blocks[mk_unicode_index[c >> 7] * 128u + (c & 127u)];
}

#endif
