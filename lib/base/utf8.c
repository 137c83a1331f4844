/* UTF-8 from strangers: what is valid, and where U+FFFD stands for what is not. */
#include "base/utf8.h"

#include <string.h>

/* The second byte's range keeps out overlong forms, surrogates and what lies above U+10FFFF.
 * Reference: The Unicode Standard 16.0, table 3-7. */
size_t mk_utf8_unit(const char *s, size_t n, enum mk_utf8_state *state)
{
    const unsigned char *u = (const unsigned char *)s, lead = u[0];
    const size_t need = lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3
                      : lead < 0xF5 ? 4 : 0;
    unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;

    *state = MK_UTF8_BROKEN;
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
    *state = need > 0 ? MK_UTF8_VALID : MK_UTF8_BROKEN;
    return need > 0 ? need : 1;
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

size_t mk_utf8_encode(char out[4], uint32_t c)
{
    const size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[5] = {0, 0, 0xC0, 0xE0, 0xF0};

    for (size_t i = n; i-- > 1; c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)(lead[n] | c);
    return n;
}

struct mk_view mk_utf8_next(struct mk_utf8_stream *s, struct mk_view *text, int last)
{
    const struct mk_view replacement = MK_VIEW(MK_UTF8_REPLACEMENT);
    const size_t valid = s->n_held == 0 ? mk_utf8_valid(text->data, text->len) : 0;
    const struct mk_view whole = {text->data, valid};

    if (valid > 0) {
        *text = mk_view_part(*text, valid, text->len);
        return whole;
    }
    for (;;) {
        enum mk_utf8_state state = MK_UTF8_INCOMPLETE;
        const size_t n = s->n_held > 0 ? mk_utf8_unit(s->held, s->n_held, &state) : 0;

        if (state != MK_UTF8_INCOMPLETE || (last && text->len == 0 && n > 0)) {
            memcpy(s->out, s->held, sizeof(s->out));
            s->n_held -= n;
            memmove(s->held, s->held + n, s->n_held);
            return state == MK_UTF8_VALID ? (struct mk_view){s->out, n} : replacement;
        }
        if (text->len == 0)
            return (struct mk_view){"", 0};
        s->held[s->n_held++] = text->data[0];
        *text = mk_view_part(*text, 1, text->len);
    }
}
