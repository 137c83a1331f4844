/* UTF-8 from strangers. */
#ifndef MK_UTF8_H
#define MK_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Code point at s, which is valid UTF-8; *n receives its bytes. */
static inline uint32_t mk_utf8_decode(const unsigned char *s, size_t *n)
{
    if (s[0] < 0x80) {
        *n = 1;
        return s[0];
    }
    if (s[0] < 0xE0) {
        *n = 2;
        return (s[0] & 0x1Fu) << 6 | (s[1] & 0x3Fu);
    }
    if (s[0] < 0xF0) {
        *n = 3;
        return (s[0] & 0x0Fu) << 12 | (s[1] & 0x3Fu) << 6 | (s[2] & 0x3Fu);
    }
    *n = 4;
    return (s[0] & 0x07u) << 18 | (s[1] & 0x3Fu) << 12 | (s[2] & 0x3Fu) << 6 | (s[3] & 0x3Fu);
}

enum mk_utf8_state {
    MK_UTF8_VALID,       /* a character */
    MK_UTF8_BROKEN,      /* bytes that begin no character: one U+FFFD stands for them */
    MK_UTF8_INCOMPLETE   /* the text ends inside a character */
};

/* Length of the unit that s[0..n), n >= 1, begins with: a character, or the longest beginning
 * of one, or one byte that begins none.
 * Reference: The Unicode Standard 16.0, section 3.9, "U+FFFD Substitution of Maximal Subparts",
 * which Python's errors="replace" and Rust's from_utf8_lossy follow. */
size_t mk_utf8_unit(const char *s, size_t n, enum mk_utf8_state *state);

/* The character that s[0..n), n >= 1, begins with, or -1; *len: bytes of that unit. */
static inline int32_t mk_utf8_read(const char *s, size_t n, size_t *len)
{
    enum mk_utf8_state state;

    *len = mk_utf8_unit(s, n, &state);
    return state == MK_UTF8_VALID ? (int32_t)mk_utf8_decode((const unsigned char *)s, len) : -1;
}

/* Bytes at the beginning of text that are valid UTF-8. */
size_t mk_utf8_valid(const char *text, size_t len);

#endif
