/* UTF-8 from strangers: nothing else in the library knows how it is made. */
#ifndef MK_UTF8_H
#define MK_UTF8_H

#include <stddef.h>
#include <stdint.h>

#include "base/view.h"

/* U+FFFD, which stands for what is broken. */
#define MK_UTF8_REPLACEMENT "\357\277\275"

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

/* The character that ends at s[end], behind s[begin]: where it begins.  Of broken text at most
 * four bytes back. */
static inline size_t mk_utf8_before(const char *s, size_t begin, size_t end)
{
    size_t at = end - 1;

    while (at > begin && end - at < 4 && ((unsigned char)s[at] & 0xC0) == 0x80)
        at--;
    return at;
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

/* Bytes at the beginning of text that are valid UTF-8. */
size_t mk_utf8_valid(const char *text, size_t len);

/* Bytes that a code point takes, and these at out. */
size_t mk_utf8_encode(char out[4], uint32_t c);

/* A text that comes in parts: a character that has begun is held back until the rest comes.
 * Begins as zeros; text is held back while n_held > 0. */
struct mk_utf8_stream {
    char held[4], out[4];
    size_t n_held;
};

/* The next piece of valid UTF-8 of the stream, with U+FFFD for what is broken: taken from the
 * front of *text, which becomes the rest of it.  Empty when there is nothing more to give; last:
 * the stream ends behind *text, and what is incomplete is broken.  Holds until the next call. */
struct mk_view mk_utf8_next(struct mk_utf8_stream *s, struct mk_view *text, int last);

#endif
