/* The thread's last error message, and a formatter that knows no locale. */
#include "base/error.h"

#include <string.h>

#include "base/checked.h"
#include "base/json.h"

#define ERROR_SIZE 512

static _Thread_local char error_text[ERROR_SIZE];

const char *minke_last_error(void)
{
    return error_text;
}

const char *minke_status_name(int32_t rc)
{
    static const char *const names[] = {
        "MINKE_OK", "MINKE_EINVAL", "MINKE_ENOMEM", "MINKE_EIO", "MINKE_EFORMAT",
        "MINKE_EUNSUPPORTED", "MINKE_ENOSPC", "MINKE_EFULL", "MINKE_ECANCELED",
        "MINKE_EVERSION", "MINKE_EINTERNAL", "MINKE_EBUSY", "MINKE_EFORK", "MINKE_ESNAPSHOT"
    };
    const int32_t n = (int32_t)(MK_COUNT(names));

    if (rc > 0 || rc <= -n)
        return "MINKE_E?";
    return names[-rc];
}

/* ---- Formatter ----------------------------------------------------------- */

struct format_out {
    char *buffer;
    size_t size, len;        /* len counts on beyond size */
};

static void format_put(struct format_out *o, const char *text, size_t n)
{
    if (o->len < o->size) {
        const size_t room = o->size - o->len;

        memcpy(o->buffer + o->len, text, n < room ? n : room);
    }
    o->len += n;
}

static void format_unsigned(struct format_out *o, uint64_t v, unsigned base, int negative)
{
    char digits[24];
    size_t i = sizeof(digits);

    do {
        digits[--i] = "0123456789abcdef"[v % base];
        v /= base;
    } while (v > 0);
    if (negative)
        digits[--i] = '-';
    format_put(o, digits + i, sizeof(digits) - i);
}

/* A conversion of va_list arguments: the precision of %.*s (-1 = none), and the number of l
 * before the letter, 3 for z. */
struct format_spec {
    int precision, size;
    char letter;
};

static const char *format_parse(struct format_spec *spec, const char *f)
{
    spec->precision = -1;
    spec->size = 0;
    if (f[0] == '.' && f[1] == '*') {
        spec->precision = 0;
        f += 2;
    }
    for (; *f == 'l'; f++)
        spec->size++;
    if (*f == 'z') {
        spec->size = 3;
        f++;
    }
    spec->letter = *f;
    return f;
}

static size_t format_length(const char *text, int limit)
{
    size_t n = 0;

    if (limit < 0)
        return strlen(text);
    while (n < (size_t)limit && text[n] != '\0')
        n++;
    return n;
}

size_t mk_vformat(char *buffer, size_t size, const char *format, va_list args)
{
    struct format_out o = {buffer, size > 0 ? size - 1 : 0, 0};
    va_list ap;

    va_copy(ap, args);
    for (const char *f = format; *f != '\0'; f++) {
        struct format_spec spec;
        const char *end = f;

        while (*end != '\0' && *end != '%')
            end++;
        format_put(&o, f, (size_t)(end - f));
        if (*end == '\0')
            break;
        f = format_parse(&spec, end + 1);
        if (spec.precision == 0)
            spec.precision = va_arg(ap, int);
        if (spec.letter == 's') {
            const char *text = va_arg(ap, const char *);

            if (text == NULL)
                text = "(null)";
            format_put(&o, text, format_length(text, spec.precision));
        } else if (spec.letter == 'c') {
            const char c = (char)va_arg(ap, int);

            format_put(&o, &c, 1);
        } else if (spec.letter == 'd') {
            const int64_t v = spec.size == 0   ? va_arg(ap, int)
                              : spec.size == 1 ? va_arg(ap, long)
                              : spec.size == 2 ? va_arg(ap, long long)
                                               : (int64_t)va_arg(ap, size_t);

            format_unsigned(&o, v < 0 ? 0 - (uint64_t)v : (uint64_t)v, 10, v < 0);
        } else if (spec.letter == 'u' || spec.letter == 'x') {
            const uint64_t v = spec.size == 0   ? va_arg(ap, unsigned)
                               : spec.size == 1 ? va_arg(ap, unsigned long)
                               : spec.size == 2 ? va_arg(ap, unsigned long long)
                                                : va_arg(ap, size_t);

            format_unsigned(&o, v, spec.letter == 'x' ? 16 : 10, 0);
        } else if (spec.letter == 'g') {
            char number[32];

            format_put(&o, number, mk_number_write(number, va_arg(ap, double)));
        } else if (spec.letter == '%') {
            format_put(&o, "%", 1);
        } else {
            mk_assert(!"unknown conversion");
            break;
        }
    }
    va_end(ap);
    if (size > 0)
        buffer[o.len < o.size ? o.len : o.size] = '\0';
    return o.len;
}

size_t mk_format(char *buffer, size_t size, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    const size_t n = mk_vformat(buffer, size, format, args);
    va_end(args);
    return n;
}

/* ---- Messages ------------------------------------------------------------ */

/* Bytes of the UTF-8 character at s, or 0 when none of a printable one begins there. */
static size_t error_char(const unsigned char *s)
{
    if (s[0] < 0x80)
        return s[0] >= 0x20 && s[0] != 0x7F;
    if (s[0] < 0xC2 || s[0] > 0xF4 || (s[1] & 0xC0) != 0x80)
        return 0;
    if (s[0] < 0xE0)
        return s[0] > 0xC2 || s[1] >= 0xA0 ? 2 : 0;    /* U+0080 to U+009F are controls */
    if ((s[2] & 0xC0) != 0x80 || (s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F))
        return 0;
    if (s[0] < 0xF0)    /* U+2028 and U+2029 break lines */
        return s[0] == 0xE2 && s[1] == 0x80 && (s[2] == 0xA8 || s[2] == 0xA9) ? 0 : 3;
    if ((s[3] & 0xC0) != 0x80 || (s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F))
        return 0;
    return 4;
}

/* Make text (NUL-terminated) one line of valid UTF-8.  cut: it was cut at its end, where an
 * unfinished character is dropped instead of replaced. */
static void error_clean(char *text, int cut)
{
    unsigned char *s = (unsigned char *)text;
    const size_t len = strlen(text);

    for (size_t i = 0; i < len;) {
        const size_t n = error_char(s + i);

        if (n == 0 && cut && i + 4 > len && s[i] >= 0xC2) {
            s[i] = '\0';
            return;
        }
        if (n == 0)
            s[i] = '?';
        i += n > 0 ? n : 1;
    }
}

int32_t mk_fail(int32_t code, const char *format, ...)
{
    char text[ERROR_SIZE];   /* the arguments may point into the old message */
    va_list args;

    va_start(args, format);
    const size_t n = mk_vformat(text, sizeof(text), format, args);
    va_end(args);
    error_clean(text, n >= sizeof(text));
    memcpy(error_text, text, sizeof(text));
    return code;
}

int32_t mk_fail_memory(size_t size, const char *what)
{
    return mk_fail(MINKE_ENOMEM, "out of memory: %zu bytes for %s", size, what);
}
