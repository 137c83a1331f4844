/* The thread's last error message, and a formatter that knows no locale. */
#include "base/error.h"

#include <string.h>

#include "base/checked.h"
#include "base/json.h"
#include "base/utf8.h"

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
    va_list args;
};

static void format_put(struct format_out *o, const char *text, size_t n)
{
    if (o->len < o->size)
        memcpy(o->buffer + o->len, text, mk_min(n, o->size - o->len));
    o->len += n;
}

/* A conversion: the precision of %.*s (-1 = none), and the number of l before the letter, 3 for
 * z. */
struct format_spec {
    int precision, size;
    char letter;
};

/* The one at f, behind its per cent; returns where its letter stands. */
static const char *format_parse(struct format_spec *spec, struct format_out *o, const char *f)
{
    spec->precision = -1;
    spec->size = 0;
    if (f[0] == '.' && f[1] == '*') {
        spec->precision = va_arg(o->args, int);
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

static void format_string(struct format_out *o, const char *text, int limit)
{
    size_t n = 0;

    if (text == NULL)
        text = "(null)";
    while ((limit < 0 || n < (size_t)limit) && text[n] != '\0')
        n++;
    format_put(o, text, n);
}

static void format_integer(struct format_out *o, const struct format_spec *spec)
{
    const unsigned base = spec->letter == 'x' ? 16 : 10;
    char digits[24];
    size_t i = sizeof(digits);
    uint64_t v;
    int negative = 0;

    if (spec->letter == 'd') {
        const int64_t d = spec->size == 0   ? va_arg(o->args, int)
                          : spec->size == 1 ? va_arg(o->args, long)
                          : spec->size == 2 ? va_arg(o->args, long long)
                                            : (int64_t)va_arg(o->args, size_t);
        negative = d < 0;
        v = negative ? 0 - (uint64_t)d : (uint64_t)d;
    } else {
        v = spec->size == 0   ? va_arg(o->args, unsigned)
            : spec->size == 1 ? va_arg(o->args, unsigned long)
            : spec->size == 2 ? va_arg(o->args, unsigned long long)
                              : va_arg(o->args, size_t);
    }
    do {
        digits[--i] = "0123456789abcdef"[v % base];
        v /= base;
    } while (v > 0);
    if (negative)
        digits[--i] = '-';
    format_put(o, digits + i, sizeof(digits) - i);
}

/* The next argument; -1 for a conversion that is none of ours. */
static int format_argument(struct format_out *o, const struct format_spec *spec)
{
    char text[32] = "%";

    switch (spec->letter) {
    case 's':
        format_string(o, va_arg(o->args, const char *), spec->precision);
        return 0;
    case 'd':
    case 'u':
    case 'x':
        format_integer(o, spec);
        return 0;
    case 'g':
        format_put(o, text, mk_number_write(text, va_arg(o->args, double)));
        return 0;
    case 'c':
        text[0] = (char)va_arg(o->args, int);
        format_put(o, text, 1);
        return 0;
    case '%':
        format_put(o, text, 1);
        return 0;
    default:
        mk_assert(!"unknown conversion");
        return -1;
    }
}

size_t mk_vformat(char *buffer, size_t size, const char *format, va_list args)
{
    struct format_out o = {.buffer = buffer, .size = size > 0 ? size - 1 : 0};
    struct format_spec spec;

    va_copy(o.args, args);
    for (const char *f = format;; f++) {
        const size_t plain = strcspn(f, "%");

        format_put(&o, f, plain);
        if (f[plain] == '\0')
            break;
        f = format_parse(&spec, &o, f + plain + 1);
        if (format_argument(&o, &spec) != 0)
            break;
    }
    va_end(o.args);
    if (size > 0)
        buffer[mk_min(o.len, o.size)] = '\0';
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

/* Neither a control character nor a break of lines. */
static int error_is_shown(uint32_t c)
{
    return c >= 0x20 && (c < 0x7F || c > 0x9F) && c != 0x2028 && c != 0x2029;
}

/* Of what is not shown each byte becomes a '?'; where the text was cut, a character that the cut
 * goes through is dropped. */
void mk_vformat_line(char *buffer, size_t size, const char *format, va_list args)
{
    const size_t whole = mk_vformat(buffer, size, format, args);
    const size_t len = mk_min(whole, size - 1);
    enum mk_utf8_state state;

    for (size_t i = 0, n; i < len; i += n) {
        n = mk_utf8_unit(buffer + i, len - i, &state);
        if (state == MK_UTF8_INCOMPLETE && whole > len) {
            buffer[i] = '\0';
            return;
        }
        if (state != MK_UTF8_VALID
            || !error_is_shown(mk_utf8_decode((unsigned char *)buffer + i, &n))) {
            buffer[i] = '?';
            n = 1;
        }
    }
}

int32_t mk_fail(int32_t code, const char *format, ...)
{
    char text[ERROR_SIZE];   /* the arguments may point into the old message */
    va_list args;

    va_start(args, format);
    mk_vformat_line(text, sizeof(text), format, args);
    va_end(args);
    memcpy(error_text, text, sizeof(text));
    return code;
}

int32_t mk_fail_memory(size_t size, const char *what)
{
    return mk_fail(MINKE_ENOMEM, "out of memory: %zu bytes for %s", size, what);
}
