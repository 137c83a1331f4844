/* UTF-8 from strangers: what is valid, and where U+FFFD stands for what is not. */
#include "base/utf8.h"

#include <string.h>

/* Bytes of the character that a lead byte announces, 0 if it is none; the second byte's range
 * keeps out overlong forms, surrogates and what lies above U+10FFFF.
 * Reference: The Unicode Standard 16.0, table 3-7. */
static size_t utf8_lead(unsigned char c, unsigned char *low, unsigned char *high)
{
    *low = 0x80;
    *high = 0xBF;
    if (c < 0x80)
        return 1;
    if (c < 0xC2 || c > 0xF4)
        return 0;
    if (c == 0xE0)
        *low = 0xA0;
    if (c == 0xED)
        *high = 0x9F;
    if (c == 0xF0)
        *low = 0x90;
    if (c == 0xF4)
        *high = 0x8F;
    return c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

size_t mk_utf8_unit(const char *s, size_t n, enum mk_utf8_state *state)
{
    const unsigned char *u = (const unsigned char *)s;
    unsigned char low, high;
    const size_t need = utf8_lead(u[0], &low, &high);

    *state = MK_UTF8_BROKEN;
    if (need == 0)
        return 1;
    for (size_t i = 1; i < need; i++) {
        if (i == n) {
            *state = MK_UTF8_INCOMPLETE;
            return n;
        }
        if (u[i] < low || u[i] > high)
            return i;
        low = 0x80;
        high = 0xBF;
    }
    *state = MK_UTF8_VALID;
    return need;
}

size_t mk_utf8_valid(const char *text, size_t len)
{
    enum mk_utf8_state state;
    size_t i = 0;

    while (i < len) {
        uint64_t word;

        if (len - i >= sizeof(word)) {
            memcpy(&word, text + i, sizeof(word));
            if ((word & UINT64_C(0x8080808080808080)) == 0) {
                i += sizeof(word);
                continue;
            }
        }
        const size_t n = mk_utf8_unit(text + i, len - i, &state);
        if (state != MK_UTF8_VALID)
            return i;
        i += n;
    }
    return len;
}
