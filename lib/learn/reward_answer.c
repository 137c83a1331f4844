/* Boxed answers, and whether two of them are the same: exact rationals, or else texts. */
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "learn/reward.h"

static int answer_is(struct mk_view s, size_t i, const char *what)
{
    return i < s.len && s.data[i] == what[0] && mk_view_has(s, i, mk_view(what));
}

static int answer_holds(struct mk_view s, const char *what)
{
    return mk_view_find(s, 0, mk_view(what)) < s.len;
}

/* ---- Boxes --------------------------------------------------------------- */

/* The brace that closes what was opened in front of i; s.len when none does. */
static size_t answer_close(struct mk_view s, size_t i)
{
    size_t depth = 1;

    for (; i < s.len; i++) {
        if (s.data[i] == '\\')
            i++;
        else if (s.data[i] == '{')
            depth++;
        else if (s.data[i] == '}' && --depth == 0)
            return i;
    }
    return s.len;
}

struct mk_view mk_reward_behind_thinking(struct mk_view text)
{
    return mk_view_behind_last(text, mk_view("</think>"));
}

/* A box that does not close holds no brace that could close one around it, so that those in front
 * need not be looked for beyond it: every byte is seen twice at most. */
struct mk_view mk_reward_boxed(struct mk_view text)
{
    struct mk_view s = mk_reward_behind_thinking(text);

    if (s.len == text.len && answer_holds(text, "<think>"))
        s.len = 0;                       /* thinking never ends */
    for (size_t i = s.len; i-- > 0;) {
        const size_t skip = s.data[i] != '\\' ? 0 : answer_is(s, i, "\\boxed{") ? 7
                          : answer_is(s, i, "\\fbox{") ? 6 : 0;
        const size_t close = skip > 0 ? answer_close(s, i + skip) : s.len;

        if (close < s.len)
            return mk_view_trim(mk_view_part(s, i + skip, close));
        if (skip > 0)
            s.len = i;
    }
    return (struct mk_view){NULL, 0};
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
    size_t skip;             /* bytes of "x =" in front, */
    char letter;             /* and its letter, else 0 */
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

/* What opens a brace, and what it and the brace that closes it become; 0 is nothing. */
static const struct answer_brace {
    const char *from;
    char open, close;
} answer_braces[] = {
    {"{", '{', '}'}, {"\\text{", ANSWER_OPEN, ANSWER_CLOSE},
    {"\\textrm{", ANSWER_OPEN, ANSWER_CLOSE}, {"\\mathrm{", ANSWER_OPEN, ANSWER_CLOSE},
    {"\\mbox{", ANSWER_OPEN, ANSWER_CLOSE}, {"\\textit{", ANSWER_OPEN, ANSWER_CLOSE},
    {"\\operatorname{", ANSWER_OPEN, ANSWER_CLOSE}, {"\\textbf{", 0, 0}, {"\\mathbf{", 0, 0},
    {"\\boldsymbol{", 0, 0}, {"\\bm{", 0, 0},
};

static int answer_letter(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
           || ((unsigned char)c & 0x80) != 0;
}

/* One byte more; 0 is none, and a space waits for letters on both sides. */
static void answer_put(struct answer_text *t, char c)
{
    t->space |= c == ' ';
    if (c == ' ' || c == '\0')
        return;
    if (t->space && t->n > 0 && answer_letter(c) && answer_letter(t->s[t->n - 1])
        && t->n < ANSWER_MAX)
        t->s[t->n++] = ' ';
    t->space = 0;
    if (t->n < ANSWER_MAX)
        t->s[t->n++] = c;
}

/* One rule at i; returns the bytes that it takes, 0 when none applies. */
static size_t answer_rule(struct answer_text *t, struct mk_view s, size_t i)
{
    for (size_t k = 0; k < MK_COUNT(answer_rules); k++) {
        if (!answer_is(s, i, answer_rules[k].from))
            continue;
        for (const char *c = answer_rules[k].to; *c != '\0'; c++)
            answer_put(t, *c);
        return strlen(answer_rules[k].from);
    }
    return 0;
}

/* What opens a brace at i, or NULL. */
static const struct answer_brace *answer_brace(struct mk_view s, size_t i)
{
    if (answer_is(s, i, "{,}"))          /* a rule */
        return NULL;
    for (size_t k = 0; k < MK_COUNT(answer_braces); k++)
        if (answer_is(s, i, answer_braces[k].from))
            return &answer_braces[k];
    return NULL;
}

/* s, of at most ANSWER_MAX / 2 bytes, into t.  Braces deeper than 64 close as ordinary ones. */
static void answer_clean(struct answer_text *t, struct mk_view s)
{
    char close_at[64];
    size_t depth = 0, taken;

    t->n = 0;
    t->space = 0;
    for (size_t i = 0; i < s.len; i += taken) {
        const struct answer_brace *brace = answer_brace(s, i);
        const char c = s.data[i];

        taken = 1;
        if (brace != NULL) {
            taken = strlen(brace->from);
            if (depth < sizeof(close_at))
                close_at[depth] = brace->close;
            depth++;
            answer_put(t, brace->open);
        } else if (c == '}') {
            answer_put(t, depth > 0 && depth <= sizeof(close_at) ? close_at[depth - 1] : '}');
            depth -= depth > 0;
        } else if ((taken = answer_rule(t, s, i)) == 0) {
            taken = 1;
            answer_put(t, mk_is_space(c) ? ' ' : (unsigned char)c > ANSWER_CURRENCY ? c : '\0');
        }
    }
    if (t->n > 0 && t->s[t->n - 1] == '.')
        t->n--;
}

/* ---- Large integers ------------------------------------------------------ */

#define ANSWER_DIGITS 400
/* num * den * 10^shift: (400 + 1 + 400) + 400 + 2 (2 * 400 + 400) digits, 9 in each limb. */
#define ANSWER_LIMBS 420
#define ANSWER_BASE 1000000000u

struct answer_big {
    uint32_t limb[ANSWER_LIMBS];     /* base 10^9, least first */
    int n;                           /* limbs in use; the last one is not 0 */
};

/* b = b * m + add */
static void answer_scale(struct answer_big *b, uint32_t m, uint32_t add)
{
    uint64_t carry = add;

    for (int i = 0; i < b->n; i++) {
        carry += (uint64_t)b->limb[i] * m;
        b->limb[i] = (uint32_t)(carry % ANSWER_BASE);
        carry /= ANSWER_BASE;
    }
    if (carry > 0 && b->n < ANSWER_LIMBS)
        b->limb[b->n++] = (uint32_t)carry;
}

/* out = out + a * b */
static void answer_add_product(struct answer_big *out, const struct answer_big *a,
                               const struct answer_big *b)
{
    for (int i = 0; i < a->n; i++) {
        uint64_t carry = 0;

        for (int k = 0; i + k < ANSWER_LIMBS && (k < b->n || carry > 0); k++) {
            if (i + k == out->n)
                out->limb[out->n++] = 0;
            carry += out->limb[i + k] + (k < b->n ? (uint64_t)a->limb[i] * b->limb[k] : 0);
            out->limb[i + k] = (uint32_t)(carry % ANSWER_BASE);
            carry /= ANSWER_BASE;
        }
    }
}

/* ---- Numbers ------------------------------------------------------------- */

/* (-1)^negative * num / den * 10^e, with a unit. */
struct answer_number {
    struct answer_big num, den;
    int e, negative;
    struct mk_view unit;     /* empty: none */
};

struct answer_reader {
    struct mk_view s;
    size_t i;
};

static int answer_at(const struct answer_reader *r, char c)
{
    return r->i < r->s.len && r->s.data[r->i] == c;
}

static int answer_take(struct answer_reader *r, const char *what)
{
    const int found = answer_is(r->s, r->i, what);

    r->i += found ? strlen(what) : 0;
    return found;
}

/* Take a sign, if there is one; whether it is a minus. */
static int answer_minus(struct answer_reader *r)
{
    return !answer_take(r, "+") && answer_take(r, "-");
}

static int answer_digit(const struct answer_reader *r, size_t ahead)
{
    return ahead < r->s.len - r->i && r->s.data[r->i + ahead] >= '0'
           && r->s.data[r->i + ahead] <= '9';
}

/* The digit at the reader, taken. */
static uint32_t answer_take_digit(struct answer_reader *r)
{
    return (uint32_t)(r->s.data[r->i++] - '0');
}

/* One more digit of b; -1 when there are too many. */
static int answer_add_digit(struct answer_reader *r, struct answer_big *b, int *digits)
{
    const uint32_t d = answer_take_digit(r);

    if (b->n == 0 && d == 0)
        return 0;
    if (++*digits > ANSWER_DIGITS)
        return -1;
    answer_scale(b, 10, d);
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
    for (; answer_digit(r, 0); n++) {
        if (answer_add_digit(r, b, &digits) != 0)
            return -1;
        if (separator == 0 && n < 3 && (answer_group(r, ',') || answer_group(r, ' ')))
            separator = r->s.data[r->i];
        if (separator != 0 && answer_group(r, separator))
            r->i++;
    }
    *whole = !answer_take(r, ".");
    for (; !*whole && answer_digit(r, 0); places++)
        if (places > ANSWER_DIGITS || answer_add_digit(r, b, &digits) != 0)
            return -1;
    *e = -places;
    return n + places > 0 ? 0 : -1;
}

/* {a} or one digit: an argument of \frac.  a may have a sign, which turns *negative. */
static int answer_argument(struct answer_reader *r, struct answer_big *b, int *e, int *negative)
{
    int whole;

    answer_take(r, " ");
    if (answer_take(r, "{")) {
        *negative ^= answer_minus(r);
        return answer_decimal(r, b, e, &whole) == 0 && answer_take(r, "}") ? 0 : -1;
    }
    if (!answer_digit(r, 0))
        return -1;
    *e = b->n = 0;
    answer_scale(b, 1, answer_take_digit(r));
    return 0;
}

static int answer_fraction(struct answer_reader *r, struct answer_number *x)
{
    int low, whole;

    if (answer_take(r, "\\frac")) {
        if (answer_argument(r, &x->num, &x->e, &x->negative) != 0
            || answer_argument(r, &x->den, &low, &x->negative) != 0)
            return -1;
    } else if (answer_decimal(r, &x->num, &x->e, &whole) != 0 || !answer_take(r, "/")
               || answer_decimal(r, &x->den, &low, &whole) != 0) {
        return -1;
    }
    x->e -= low;
    return x->den.n > 0 ? 0 : -1;
}

/* e3, *10^{3}, *10^3: added to the exponent. */
static int answer_exponent(struct answer_reader *r, int *e)
{
    const int braces = answer_take(r, "*10^{"), power = braces || answer_take(r, "*10^");
    int v = 0, n = 0;

    if (!power && !answer_digit(r, 1) && !answer_digit(r, 2))
        return 0;
    if (!power && !answer_take(r, "e") && !answer_take(r, "E"))
        return 0;
    const int negative = answer_minus(r);

    for (; answer_digit(r, 0) && v <= ANSWER_DIGITS && !(power && !braces && n == 1); n++)
        v = v * 10 + (int)answer_take_digit(r);
    if (n == 0 || v > ANSWER_DIGITS || (braces && !answer_take(r, "}")))
        return -1;
    *e += negative ? -v : v;
    return 0;
}

/* A whole number in front of the fraction x that is about to be read. */
static int answer_mixed(struct answer_reader *r, struct answer_number *x,
                        const struct answer_big *whole)
{
    const int negative = x->negative;

    if (answer_fraction(r, x) != 0 || x->e != 0 || x->negative != negative)
        return -1;
    answer_add_product(&x->num, whole, &x->den);
    return 0;
}

static int answer_value(struct answer_reader *r, struct answer_number *x)
{
    const size_t start = r->i;
    struct answer_big first;
    int whole;

    if (answer_is(r->s, r->i, "\\frac"))
        return answer_fraction(r, x);
    if (answer_decimal(r, &first, &x->e, &whole) != 0)
        return -1;
    if (answer_at(r, '/')) {
        r->i = start;
        return answer_fraction(r, x);
    }
    if (whole && (answer_is(r->s, r->i, "\\frac")
                  || (answer_digit(r, 1) && answer_take(r, " "))))
        return answer_mixed(r, x, &first);
    x->num = first;
    return answer_exponent(r, &x->e);
}

static int answer_scales(struct mk_view s)
{
    static const char *const words[] = {"hundred", "thousand", "million", "billion", "trillion",
                                        "dozen", "percent", "base"};
    size_t k = 0;

    while (k < MK_COUNT(words) && !answer_holds(s, words[k]))
        k++;
    return k < MK_COUNT(words);
}

/* What stands behind the value, up to the end. */
static int answer_unit(struct answer_reader *r, struct answer_number *x, uint32_t flags)
{
    if (answer_take(r, "%")) {
        if (x->unit.len > 0)
            return -1;
        if (flags & MINKE_REWARD_PERCENT_UNIT)
            x->unit = mk_view("%");
        else
            x->e -= 2;
    } else if (answer_at(r, ANSWER_OPEN)) {
        const char *from = r->s.data + r->i + 1;
        const char *close = memchr(from, ANSWER_CLOSE, r->s.len - r->i - 1);
        const struct mk_view unit = {from, close != NULL ? (size_t)(close - from) : 0};

        if (close == NULL || x->unit.len > 0 || answer_scales(unit))
            return -1;
        x->unit = unit;
        r->i += unit.len + 2;
    }
    return r->i == r->s.len ? 0 : -1;
}

/* Take away braces and \text{} around all. */
static struct answer_reader answer_peel(struct mk_view s)
{
    struct answer_reader r = {s, 0};

    while (r.s.len - r.i >= 2) {
        const char *last = r.s.data + r.s.len - 1;

        if (!(answer_at(&r, '{') && r.s.data + answer_close(r.s, r.i + 1) == last)
            && !(answer_at(&r, ANSWER_OPEN)
                 && memchr(r.s.data + r.i, ANSWER_CLOSE, r.s.len - r.i) == last))
            break;
        r.i++;
        r.s.len--;
    }
    return r;
}

/* 0, or -1 when it is no number. */
static int answer_number(struct answer_number *x, struct mk_view s, uint32_t flags)
{
    struct answer_reader r = answer_peel(s);

    x->den.n = x->e = x->negative = 0;
    x->unit = mk_view("");
    answer_scale(&x->den, 1, 1);
    for (int sign = 0; r.i < r.s.len; r.i++) {
        if (!sign && (answer_at(&r, '-') || answer_at(&r, '+'))) {
            x->negative = answer_at(&r, '-');
            sign = 1;
        } else if (x->unit.len == 0 && answer_at(&r, ANSWER_CURRENCY)) {
            x->unit = mk_view("$");
        } else {
            break;
        }
    }
    return answer_value(&r, x) != 0 ? -1 : answer_unit(&r, x, flags);
}

/* Whether a = b: a.num b.den 10^a.e against b.num a.den 10^b.e. */
static int answer_same_value(const struct answer_number *a, const struct answer_number *b)
{
    struct answer_big x = {.n = 0}, y = {.n = 0}, *shifted = a->e > b->e ? &x : &y;
    int shift = a->e > b->e ? a->e - b->e : b->e - a->e;

    if (a->num.n == 0 || b->num.n == 0)
        return a->num.n == b->num.n;
    if (a->negative != b->negative)
        return 0;
    answer_add_product(&x, &a->num, &b->den);
    answer_add_product(&y, &b->num, &a->den);
    for (; shift >= 9; shift -= 9)
        answer_scale(shifted, ANSWER_BASE, 0);
    for (; shift > 0; shift--)
        answer_scale(shifted, 10, 0);
    return x.n == y.n && memcmp(x.limb, y.limb, (size_t)x.n * sizeof(x.limb[0])) == 0;
}

static int answer_same_units(struct mk_view a, struct mk_view b, uint32_t flags)
{
    return ((a.len == 0 || b.len == 0) && !(flags & MINKE_REWARD_SAME_UNITS))
           || mk_view_equal(a, b);
}

/* ---- Comparing ----------------------------------------------------------- */

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

/* The answer without \boxed{} around all, cleaned. */
static void answer_prepare(struct answer_text *t, struct mk_view s)
{
    s = mk_view_trim(s);
    while (answer_is(s, 0, "\\boxed{") && answer_close(s, 7) == s.len - 1)
        s = mk_view_part(s, 7, s.len - 1);
    answer_clean(t, s);
    t->letter = 0;
    if (t->n > 2 && t->s[1] == '=' && answer_letter(t->s[0]) && !(t->s[0] & 0x80)
        && !(t->s[0] >= '0' && t->s[0] <= '9'))
        t->letter = t->s[0];
    t->skip = t->letter != 0 ? 2 : 0;
}

/* What stands behind "x =". */
static struct mk_view answer_rest(const struct answer_text *t)
{
    return (struct mk_view){t->s + t->skip, t->n - t->skip};
}

static int answer_equal(struct mk_view a, struct mk_view b, uint32_t flags)
{
    struct answer_text s, t;
    struct answer_number x, y;

    if (a.len == 0 || b.len == 0)
        return 0;
    /* A rule makes four bytes of two at most. */
    if (a.len > ANSWER_MAX / 2 || b.len > ANSWER_MAX / 2)
        return mk_view_equal(a, b);
    answer_prepare(&s, a);
    answer_prepare(&t, b);
    if (s.letter != t.letter && s.letter != 0 && t.letter != 0)
        return 0;
    if (answer_number(&x, answer_rest(&s), flags) == 0
        && answer_number(&y, answer_rest(&t), flags) == 0)
        return answer_same_value(&x, &y) && answer_same_units(x.unit, y.unit, flags);
    answer_unmark(&s);
    answer_unmark(&t);
    return s.n > s.skip && mk_view_equal(answer_rest(&s), answer_rest(&t));
}

/* ---- The calls ----------------------------------------------------------- */

int32_t minke_reward_boxed(const char *text, size_t text_len, size_t *begin, size_t *length)
{
    if ((text == NULL && text_len > 0) || begin == NULL || length == NULL)
        return mk_fail(MINKE_EINVAL, "text, begin or length is NULL");
    const struct mk_view box = mk_reward_boxed((struct mk_view){text, text_len});

    if (box.data == NULL)
        return mk_fail(MINKE_EFORMAT, "no box in the answer");
    *begin = (size_t)(box.data - text);
    *length = box.len;
    return MINKE_OK;
}

/* out, which must not be NULL, is called what. */
static int32_t answer_check(struct mk_view a, struct mk_view b, uint32_t flags, const void *out,
                            const char *what)
{
    if ((a.data == NULL && a.len > 0) || (b.data == NULL && b.len > 0))
        return mk_fail(MINKE_EINVAL, "an answer is NULL");
    if (flags & ~(MINKE_REWARD_PERCENT_UNIT | MINKE_REWARD_SAME_UNITS))
        return mk_fail(MINKE_EVERSION, "flags %x: this build does not know them", flags);
    if (out == NULL)
        return mk_fail(MINKE_EINVAL, "%s is NULL", what);
    return MINKE_OK;
}

int32_t minke_reward_equal(const char *a, size_t a_len, const char *b, size_t b_len,
                           uint32_t flags, int32_t *equal)
{
    const struct mk_view one = {a, a_len}, two = {b, b_len};
    const int32_t rc = answer_check(one, two, flags, equal, "equal");

    if (rc == MINKE_OK)
        *equal = answer_equal(one, two, flags);
    return rc;
}

int32_t minke_reward_answer(const char *text, size_t text_len, const char *gold, size_t gold_len,
                            uint32_t flags, double *reward)
{
    const struct mk_view reply = {text, text_len}, right = {gold, gold_len};
    const int32_t rc = answer_check(reply, right, flags, reward, "reward");

    if (rc == MINKE_OK)
        *reward = answer_equal(mk_reward_boxed(reply), right, flags);
    return rc;
}
