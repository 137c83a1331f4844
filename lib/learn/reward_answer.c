/* Boxed answers, and whether two of them are the same: exact rationals, or else texts. */
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "learn/reward.h"

/* ---- Boxes --------------------------------------------------------------- */

size_t mk_reward_find(const char *s, size_t n, size_t from, const char *what)
{
    const size_t len = strlen(what);

    while (from < n && n - from >= len) {
        const char *at = memchr(s + from, what[0], n - from - len + 1);

        if (at == NULL)
            break;
        from = (size_t)(at - s);
        if (memcmp(at, what, len) == 0)
            return from;
        from++;
    }
    return n;
}

static int answer_is(const char *s, size_t n, size_t i, const char *what)
{
    const size_t len = strlen(what);

    return n - i >= len && memcmp(s + i, what, len) == 0;
}

/* The brace that closes what was opened in front of i; end when none does. */
static size_t answer_close(const char *s, size_t i, size_t end)
{
    size_t depth = 1;

    for (; i < end; i++) {
        if (s[i] == '\\')
            i++;
        else if (s[i] == '{')
            depth++;
        else if (s[i] == '}' && --depth == 0)
            return i;
    }
    return end;
}

static int answer_space(char c)
{
    return c == ' ' || (c >= 9 && c <= 13);
}

/* Behind the last "</think>"; n when thinking never ends. */
static size_t answer_begin(const char *s, size_t n)
{
    size_t from = 0, at = 0;

    while ((at = mk_reward_find(s, n, at, "</think>")) < n)
        from = at += 8;
    return from == 0 && mk_reward_find(s, n, 0, "<think>") < n ? n : from;
}

/* A box that is not closed by end holds no brace that could close one around it, so that those
 * in front need not be looked for beyond it: every byte is seen twice at most. */
int mk_reward_boxed(const char *text, size_t n, size_t *begin, size_t *length)
{
    const size_t first = answer_begin(text, n);
    size_t end = n;

    for (size_t i = n; i-- > first;) {
        const size_t skip = text[i] != '\\' ? 0 : answer_is(text, n, i, "\\boxed{") ? 7
                            : answer_is(text, n, i, "\\fbox{") ? 6 : 0;
        size_t from = i + skip, close;

        if (skip == 0)
            continue;
        close = answer_close(text, from, end);
        if (close == end) {
            end = i;
            continue;
        }
        while (from < close && answer_space(text[from]))
            from++;
        while (close > from && answer_space(text[close - 1]))
            close--;
        *begin = from;
        *length = close - from;
        return 0;
    }
    return -1;
}

/* ---- Cleaning ------------------------------------------------------------ */

#define ANSWER_MAX 4096u

/* Bytes that stand for what the notation says. */
#define ANSWER_OPEN 1        /* begin and end of \text{} and its like */
#define ANSWER_CLOSE 2
#define ANSWER_CURRENCY 3    /* \$ */

struct answer_text {
    char s[ANSWER_MAX + 1];
    size_t n;
    int space;               /* one is pending */
};

/* Commands and characters, and what takes their place.  Longer ones stand in front of those that
 * they begin with. */
static const struct {
    const char *from, *to;
} answer_rules[] = {
    {"\\displaystyle", ""}, {"\\left", ""}, {"\\right", ""}, {"\\quad", " "},
    {"\\dfrac", "\\frac"}, {"\\tfrac", "\\frac"}, {"\\cfrac", "\\frac"},
    {"\\times", "*"}, {"\\cdot", "*"}, {"\xC3\x97", "*"}, {"\xC2\xB7", "*"},
    {"^{\\circ}", "\1\xC2\xB0\2"}, {"^\\circ", "\1\xC2\xB0\2"}, {"\xC2\xB0", "\1\xC2\xB0\2"},
    {"\\%", "%"}, {"\\$", "\3"}, {"$", ""}, {"\\(", ""}, {"\\)", ""}, {"\\[", ""}, {"\\]", ""},
    {"\\,", ""}, {"\\!", ""}, {"\\;", " "}, {"\\:", " "}, {"\\ ", " "}, {"~", " "},
    {"\xC2\xA0", " "}, {"\xE2\x80\x89", " "}, {"\xE2\x80\xAF", " "}, {"{,}", ","},
    {"\xE2\x88\x92", "-"},
};
#define ANSWER_RULES (MK_COUNT(answer_rules))

static const char *const answer_wrappers[] = {"\\text{", "\\textrm{", "\\mathrm{", "\\mbox{",
                                              "\\textit{", "\\operatorname{"};
static const char *const answer_fonts[] = {"\\textbf{", "\\mathbf{", "\\boldsymbol{", "\\bm{"};

static int answer_letter(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
           || ((unsigned char)c & 0x80) != 0;
}

static void answer_put(struct answer_text *t, char c)
{
    if (t->space && t->n > 0 && answer_letter(c) && answer_letter(t->s[t->n - 1])
        && t->n < ANSWER_MAX)
        t->s[t->n++] = ' ';
    t->space = 0;
    if (t->n < ANSWER_MAX)
        t->s[t->n++] = c;
}

/* Length of the wrapper that begins at i and its class, 1 or 2; 0 when none does. */
static size_t answer_wrapper(const char *s, size_t n, size_t i, int *class)
{
    for (size_t k = 0; k < MK_COUNT(answer_wrappers); k++)
        if (*class = 1, answer_is(s, n, i, answer_wrappers[k]))
            return strlen(answer_wrappers[k]);
    for (size_t k = 0; k < MK_COUNT(answer_fonts); k++)
        if (*class = 2, answer_is(s, n, i, answer_fonts[k]))
            return strlen(answer_fonts[k]);
    return 0;
}

/* One rule at i; returns the bytes that it takes, 0 when none applies. */
static size_t answer_rule(struct answer_text *t, const char *s, size_t n, size_t i)
{
    for (size_t k = 0; k < ANSWER_RULES; k++) {
        if (!answer_is(s, n, i, answer_rules[k].from))
            continue;
        for (const char *c = answer_rules[k].to; *c != '\0'; c++)
            if (*c == ' ')
                t->space = 1;
            else
                answer_put(t, *c);
        return strlen(answer_rules[k].from);
    }
    return 0;
}

/* s, of at most ANSWER_MAX / 2 bytes, into t.  class_at remembers what each open brace belongs
 * to; deeper ones than 64 are ordinary. */
static void answer_clean(struct answer_text *t, const char *s, size_t n)
{
    uint8_t class_at[64];
    size_t depth = 0, taken;

    t->n = 0;
    t->space = 0;
    for (size_t i = 0; i < n; i += taken) {
        int class = 0;

        if ((taken = answer_wrapper(s, n, i, &class)) > 0 || s[i] == '{') {
            if (taken == 0 && answer_is(s, n, i, "{,}")) {
                taken = answer_rule(t, s, n, i);
                continue;
            }
            class = taken > 0 ? class : 0;
            if (depth < 64)
                class_at[depth] = (uint8_t)class;
            depth++;
            taken += taken == 0;
            if (class != 2)
                answer_put(t, class == 1 ? ANSWER_OPEN : '{');
        } else if (s[i] == '}') {
            class = depth > 0 && depth <= 64 ? class_at[depth - 1] : 0;
            depth -= depth > 0;
            taken = 1;
            if (class != 2)
                answer_put(t, class == 1 ? ANSWER_CLOSE : '}');
        } else if ((taken = answer_rule(t, s, n, i)) == 0) {
            taken = 1;
            if (answer_space(s[i]))
                t->space = 1;
            else if ((unsigned char)s[i] > ANSWER_CURRENCY)
                answer_put(t, s[i]);
        }
    }
    if (t->n > 0 && t->s[t->n - 1] == '.')
        t->n--;
}

/* ---- Large integers ------------------------------------------------------ */

#define ANSWER_DIGITS 400
/* num * den * 10^shift: (400 + 1 + 400) + 400 + 2 (2 * 400 + 400) digits, 9 in each limb. */
#define ANSWER_LIMBS 420

struct answer_big {
    uint32_t limb[ANSWER_LIMBS];     /* base 10^9, least first */
    int n;                           /* limbs in use; the last one is not 0 */
};

/* b = b * m + add */
static void answer_mul_small(struct answer_big *b, uint32_t m, uint32_t add)
{
    uint64_t carry = add;

    for (int i = 0; i < b->n; i++) {
        carry += (uint64_t)b->limb[i] * m;
        b->limb[i] = (uint32_t)(carry % 1000000000u);
        carry /= 1000000000u;
    }
    if (carry > 0 && b->n < ANSWER_LIMBS)
        b->limb[b->n++] = (uint32_t)carry;
}

static void answer_mul_pow10(struct answer_big *b, int e)
{
    const int limbs = e / 9;

    if (b->n == 0 || b->n + limbs > ANSWER_LIMBS)
        return;
    memmove(b->limb + limbs, b->limb, (size_t)b->n * sizeof(b->limb[0]));
    memset(b->limb, 0, (size_t)limbs * sizeof(b->limb[0]));
    b->n += limbs;
    for (e %= 9; e > 0; e--)
        answer_mul_small(b, 10, 0);
}

static void answer_mul(struct answer_big *out, const struct answer_big *a,
                       const struct answer_big *b)
{
    memset(out->limb, 0, sizeof(out->limb));
    out->n = 0;
    for (int i = 0; i < a->n; i++) {
        uint64_t carry = 0;

        for (int k = 0; i + k < ANSWER_LIMBS && (k < b->n || carry > 0); k++) {
            carry += out->limb[i + k];
            if (k < b->n)
                carry += (uint64_t)a->limb[i] * b->limb[k];
            out->limb[i + k] = (uint32_t)(carry % 1000000000u);
            carry /= 1000000000u;
            if (i + k >= out->n)
                out->n = i + k + 1;
        }
    }
    while (out->n > 0 && out->limb[out->n - 1] == 0)
        out->n--;
}

static void answer_add(struct answer_big *a, const struct answer_big *b)
{
    uint32_t carry = 0;

    for (int i = 0; i < ANSWER_LIMBS && (i < a->n || i < b->n || carry > 0); i++) {
        carry += (i < a->n ? a->limb[i] : 0) + (i < b->n ? b->limb[i] : 0);
        a->limb[i] = carry % 1000000000u;
        carry /= 1000000000u;
        if (i >= a->n)
            a->n = i + 1;
    }
    while (a->n > 0 && a->limb[a->n - 1] == 0)
        a->n--;
}

/* ---- Numbers ------------------------------------------------------------- */

/* (-1)^negative * num / den * 10^e, with a unit. */
struct answer_number {
    struct answer_big num, den;
    int e, negative;
    const char *unit;
    size_t unit_len;
};

struct answer_reader {
    const char *s;
    size_t n, i;
};

static int answer_at(const struct answer_reader *r, char c)
{
    return r->i < r->n && r->s[r->i] == c;
}

static int answer_take(struct answer_reader *r, const char *what)
{
    if (!answer_is(r->s, r->n, r->i, what))
        return 0;
    r->i += strlen(what);
    return 1;
}

static int answer_digit(const struct answer_reader *r, size_t ahead)
{
    return r->i + ahead < r->n && r->s[r->i + ahead] >= '0' && r->s[r->i + ahead] <= '9';
}

/* One more digit; -1 when there are too many. */
static int answer_add_digit(struct answer_reader *r, struct answer_big *b, int *digits)
{
    const uint32_t d = (uint32_t)(r->s[r->i++] - '0');

    if (b->n == 0 && d == 0)
        return 0;
    if (++*digits > ANSWER_DIGITS)
        return -1;
    answer_mul_small(b, 10, d);
    return 0;
}

/* Whether a separator and a group of three digits begin at the reader. */
static int answer_group(const struct answer_reader *r, char separator)
{
    return answer_at(r, separator) && answer_digit(r, 1) && answer_digit(r, 2)
           && answer_digit(r, 3) && !answer_digit(r, 4);
}

/* Digits with groups and a point: b * 10^*e.  whole: no point was there.  -1 when no decimal
 * begins here. */
static int answer_decimal(struct answer_reader *r, struct answer_big *b, int *e, int *whole)
{
    int digits = 0, n = 0, places = 0;
    char separator = 0;

    b->n = 0;
    *e = 0;
    for (; answer_digit(r, 0); n++) {
        if (answer_add_digit(r, b, &digits) != 0)
            return -1;
        if (separator == 0 && n < 3 && (answer_group(r, ',') || answer_group(r, ' ')))
            separator = r->s[r->i];
        if (separator != 0 && answer_group(r, separator))
            r->i++;
    }
    *whole = !answer_at(r, '.');
    if (!*whole) {
        r->i++;
        for (; answer_digit(r, 0); places++)
            if (places > ANSWER_DIGITS || answer_add_digit(r, b, &digits) != 0)
                return -1;
        *e = -places;
    }
    return n + places > 0 ? 0 : -1;
}

/* {a} or one digit: an argument of \frac.  a may have a sign, which turns *negative. */
static int answer_argument(struct answer_reader *r, struct answer_big *b, int *e, int *negative)
{
    int whole;

    if (answer_at(r, ' '))
        r->i++;
    if (answer_at(r, '{')) {
        r->i++;
        if (answer_at(r, '-') || answer_at(r, '+'))
            *negative ^= r->s[r->i++] == '-';
        if (answer_decimal(r, b, e, &whole) != 0 || !answer_at(r, '}'))
            return -1;
        r->i++;
        return 0;
    }
    if (!answer_digit(r, 0))
        return -1;
    b->n = 0;
    *e = 0;
    answer_mul_small(b, 1, (uint32_t)(r->s[r->i++] - '0'));
    return 0;
}

static int answer_fraction(struct answer_reader *r, struct answer_number *x)
{
    int low, whole;

    if (answer_take(r, "\\frac")) {
        if (answer_argument(r, &x->num, &x->e, &x->negative) != 0
            || answer_argument(r, &x->den, &low, &x->negative) != 0)
            return -1;
    } else {
        if (answer_decimal(r, &x->num, &x->e, &whole) != 0 || !answer_take(r, "/")
            || answer_decimal(r, &x->den, &low, &whole) != 0)
            return -1;
    }
    x->e -= low;
    return x->den.n > 0 ? 0 : -1;
}

/* e3, *10^{3}, *10^3: added to the exponent. */
static int answer_exponent(struct answer_reader *r, int *e)
{
    const int braces = answer_take(r, "*10^{"), power = braces || answer_take(r, "*10^");
    int negative = 0, v = 0, n = 0;

    if (!power && !(answer_digit(r, 1) || answer_digit(r, 2)))
        return 0;
    if (!power && !answer_take(r, "e") && !answer_take(r, "E"))
        return 0;
    if (answer_at(r, '-') || answer_at(r, '+'))
        negative = r->s[r->i++] == '-';
    for (; answer_digit(r, 0) && v <= ANSWER_DIGITS && !(power && !braces && n == 1); n++)
        v = v * 10 + (r->s[r->i++] - '0');
    if (n == 0 || v > ANSWER_DIGITS || (braces && !answer_take(r, "}")))
        return -1;
    *e += negative ? -v : v;
    return 0;
}

/* A whole number whole in front of the fraction x that is about to be read. */
static int answer_mixed(struct answer_reader *r, struct answer_number *x,
                        const struct answer_big *whole)
{
    struct answer_big product;
    const int negative = x->negative;

    if (answer_fraction(r, x) != 0 || x->e != 0 || x->negative != negative)
        return -1;
    answer_mul(&product, whole, &x->den);
    answer_add(&x->num, &product);
    return 0;
}

static int answer_value(struct answer_reader *r, struct answer_number *x)
{
    const size_t start = r->i;
    struct answer_big first;
    int e, whole;

    x->den.n = 0;
    answer_mul_small(&x->den, 1, 1);
    if (answer_is(r->s, r->n, r->i, "\\frac"))
        return answer_fraction(r, x);
    if (answer_decimal(r, &first, &e, &whole) != 0)
        return -1;
    if (answer_at(r, '/')) {
        r->i = start;
        return answer_fraction(r, x);
    }
    if (whole && answer_is(r->s, r->n, r->i, "\\frac"))
        return answer_mixed(r, x, &first);
    if (whole && answer_at(r, ' ') && answer_digit(r, 1)) {
        r->i++;
        return answer_mixed(r, x, &first);
    }
    x->num = first;
    x->e = e;
    return answer_exponent(r, &x->e);
}

static int answer_scales(const char *s, size_t n)
{
    static const char *const words[] = {"hundred", "thousand", "million", "billion", "trillion",
                                        "dozen", "percent", "base"};

    for (size_t k = 0; k < MK_COUNT(words); k++)
        if (mk_reward_find(s, n, 0, words[k]) < n)
            return 1;
    return 0;
}

/* What stands behind the value, up to the end. */
static int answer_unit(struct answer_reader *r, struct answer_number *x, uint32_t flags)
{
    if (answer_take(r, "%")) {
        if (x->unit != NULL)
            return -1;
        if (flags & MINKE_ANSWER_PERCENT_UNIT)
            x->unit = "%", x->unit_len = 1;
        else
            x->e -= 2;
    } else if (answer_at(r, ANSWER_OPEN)) {
        const size_t from = r->i + 1;

        while (r->i < r->n && r->s[r->i] != ANSWER_CLOSE)
            r->i++;
        if (r->i == r->n || x->unit != NULL || answer_scales(r->s + from, r->i - from))
            return -1;
        if (r->i > from) {
            x->unit = r->s + from;
            x->unit_len = r->i - from;
        }
        r->i++;
    }
    return r->i == r->n ? 0 : -1;
}

/* Take away braces and \text{} around all. */
static struct answer_reader answer_peel(const char *s, size_t n)
{
    size_t from = 0, close;

    while (n - from >= 2) {
        if (s[from] == '{' && answer_close(s, from + 1, n) == n - 1) {
            from++, n--;
        } else if (s[from] == ANSWER_OPEN) {
            for (close = from + 1; close < n && s[close] != ANSWER_CLOSE; close++)
                ;
            if (close + 1 != n)
                break;
            from++, n--;
        } else {
            break;
        }
    }
    return (struct answer_reader){s, n, from};
}

/* 0, or -1 when it is no number. */
static int answer_number(struct answer_number *x, const char *s, size_t n, uint32_t flags)
{
    struct answer_reader r = answer_peel(s, n);

    x->negative = 0;
    x->e = 0;
    x->unit = NULL;
    x->unit_len = 0;
    for (int sign = 0; r.i < r.n; r.i++) {
        if (!sign && (answer_at(&r, '-') || answer_at(&r, '+'))) {
            x->negative = answer_at(&r, '-');
            sign = 1;
        } else if (x->unit == NULL && answer_at(&r, ANSWER_CURRENCY)) {
            x->unit = "$";
            x->unit_len = 1;
        } else {
            break;
        }
    }
    if (answer_value(&r, x) != 0)
        return -1;
    return answer_unit(&r, x, flags);
}

/* Whether a = b, a.num b.den 10^a.e against b.num a.den 10^b.e. */
static int answer_same_value(const struct answer_number *a, const struct answer_number *b)
{
    struct answer_big x, y;

    if (a->num.n == 0 || b->num.n == 0)
        return a->num.n == b->num.n;
    if (a->negative != b->negative)
        return 0;
    answer_mul(&x, &a->num, &b->den);
    answer_mul(&y, &b->num, &a->den);
    answer_mul_pow10(a->e > b->e ? &x : &y, a->e > b->e ? a->e - b->e : b->e - a->e);
    return x.n == y.n && memcmp(x.limb, y.limb, (size_t)x.n * sizeof(x.limb[0])) == 0;
}

/* ---- Comparing ----------------------------------------------------------- */

static int answer_same_text(const struct answer_reader *a, const struct answer_reader *b)
{
    return a->n - a->i == b->n - b->i && memcmp(a->s + a->i, b->s + b->i, a->n - a->i) == 0;
}

/* Marks of \text{} away; between two letters a space takes their place. */
static void answer_unmark(struct answer_text *t)
{
    size_t n = 0;
    int mark = 0;

    for (size_t i = 0; i < t->n; i++) {
        const char c = t->s[i];

        if (c == ANSWER_OPEN || c == ANSWER_CLOSE) {
            mark = 1;
            continue;
        }
        if (mark && n > 0 && answer_letter(c) && answer_letter(t->s[n - 1]))
            t->s[n++] = ' ';     /* there is room: a mark was left out */
        t->s[n++] = c;
        mark = 0;
    }
    t->n = n;
}

/* The answer without \boxed{} around all, cleaned; *letter: of "x =" in front, else 0. */
static struct answer_reader answer_prepare(struct answer_text *t, const char *s, size_t n,
                                           char *letter)
{
    struct answer_reader r;

    while (n > 0 && answer_space(s[0]))
        s++, n--;
    while (n > 0 && answer_space(s[n - 1]))
        n--;
    while (answer_is(s, n, 0, "\\boxed{") && answer_close(s, 7, n) == n - 1)
        s += 7, n -= 8;
    answer_clean(t, s, n);
    r = (struct answer_reader){t->s, t->n, 0};
    *letter = 0;
    if (t->n > 2 && t->s[1] == '=' && answer_letter(t->s[0]) && !(t->s[0] & 0x80)
        && !(t->s[0] >= '0' && t->s[0] <= '9')) {
        *letter = t->s[0];
        r.i = 2;
    }
    return r;
}

static int answer_same_units(const struct answer_number *a, const struct answer_number *b,
                             uint32_t flags)
{
    if ((a->unit_len == 0 || b->unit_len == 0) && !(flags & MINKE_ANSWER_SAME_UNITS))
        return 1;
    return a->unit_len == b->unit_len
           && (a->unit_len == 0 || memcmp(a->unit, b->unit, a->unit_len) == 0);
}

int mk_reward_equal(const char *a, size_t a_len, const char *b, size_t b_len, uint32_t flags)
{
    struct answer_text s, t;
    struct answer_reader x, y;
    struct answer_number p, q;
    char letter, other;
    size_t skip;

    /* A rule makes four bytes of two at most. */
    if (a_len > ANSWER_MAX / 2 || b_len > ANSWER_MAX / 2)
        return a_len == b_len && memcmp(a, b, a_len) == 0;
    x = answer_prepare(&s, a, a_len, &letter);
    y = answer_prepare(&t, b, b_len, &other);
    if (letter != other && letter != 0 && other != 0)
        return 0;
    if (answer_number(&p, x.s + x.i, x.n - x.i, flags) == 0
        && answer_number(&q, y.s + y.i, y.n - y.i, flags) == 0)
        return answer_same_value(&p, &q) && answer_same_units(&p, &q, flags);
    skip = x.i;
    answer_unmark(&s);
    answer_unmark(&t);
    x = (struct answer_reader){s.s, s.n, skip};
    y.n = t.n;
    return x.n > x.i && answer_same_text(&x, &y);
}

/* ---- The calls ----------------------------------------------------------- */

int32_t minke_reward_boxed(const char *text, size_t text_len, size_t *begin, size_t *length)
{
    size_t at, n;

    if ((text == NULL && text_len > 0) || begin == NULL || length == NULL)
        return mk_fail(MINKE_EINVAL, "text, begin or length is NULL");
    if (text_len == 0 || mk_reward_boxed(text, text_len, &at, &n) != 0)
        return mk_fail(MINKE_EFORMAT, "no box in the answer");
    *begin = at;
    *length = n;
    return MINKE_OK;
}

static int32_t answer_check(const char *a, size_t a_len, const char *b, size_t b_len,
                            uint32_t flags)
{
    if ((a == NULL && a_len > 0) || (b == NULL && b_len > 0))
        return mk_fail(MINKE_EINVAL, "an answer is NULL");
    if (flags & ~(MINKE_ANSWER_PERCENT_UNIT | MINKE_ANSWER_SAME_UNITS))
        return mk_fail(MINKE_EVERSION, "flags %x: this build does not know them", flags);
    return MINKE_OK;
}

int32_t minke_reward_equal(const char *a, size_t a_len, const char *b, size_t b_len,
                           uint32_t flags, int32_t *equal)
{
    const int32_t rc = answer_check(a, a_len, b, b_len, flags);

    if (rc < 0)
        return rc;
    if (equal == NULL)
        return mk_fail(MINKE_EINVAL, "equal is NULL");
    *equal = a_len > 0 && b_len > 0 && mk_reward_equal(a, a_len, b, b_len, flags);
    return MINKE_OK;
}

int32_t minke_reward_answer(const char *text, size_t text_len, const char *gold, size_t gold_len,
                            uint32_t flags, double *reward)
{
    const int32_t rc = answer_check(text, text_len, gold, gold_len, flags);
    size_t at, n;

    if (rc < 0)
        return rc;
    if (reward == NULL)
        return mk_fail(MINKE_EINVAL, "reward is NULL");
    *reward = text_len > 0 && mk_reward_boxed(text, text_len, &at, &n) == 0 && n > 0
              && gold_len > 0 && mk_reward_equal(text + at, n, gold, gold_len, flags);
    return MINKE_OK;
}
