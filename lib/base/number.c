/* Decimal text to double and back, exact, in integers alone: neither the locale nor the
 * rounding mode matters. */
#include <string.h>

#include "base/error.h"
#include "base/json.h"

/* ---- Large integers ------------------------------------------------------ */

/* Enough for the 800 digits that are read, times 10^1200. */
#define NUMBER_LIMBS 224

struct number_big {
    uint32_t limb[NUMBER_LIMBS];     /* least first */
    int n;                           /* limbs in use; the last one is not 0 */
};

static void number_set(struct number_big *b, uint64_t v)
{
    b->n = 0;
    for (; v > 0; v >>= 32)
        b->limb[b->n++] = (uint32_t)v;
}

/* b = b * m + add */
static void number_mul(struct number_big *b, uint32_t m, uint32_t add)
{
    uint64_t carry = add;

    for (int i = 0; i < b->n; i++) {
        carry += (uint64_t)b->limb[i] * m;
        b->limb[i] = (uint32_t)carry;
        carry >>= 32;
    }
    if (carry > 0)
        b->limb[b->n++] = (uint32_t)carry;
}

static void number_mul_pow10(struct number_big *b, int e)
{
    for (; e >= 9; e -= 9)
        number_mul(b, 1000000000u, 0);
    for (; e > 0; e--)
        number_mul(b, 10, 0);
}

static void number_shift(struct number_big *b, int bits)
{
    const int limbs = bits / 32, rest = bits % 32;

    if (b->n == 0)
        return;
    if (limbs > 0) {
        memmove(b->limb + limbs, b->limb, (size_t)b->n * sizeof(b->limb[0]));
        memset(b->limb, 0, (size_t)limbs * sizeof(b->limb[0]));
        b->n += limbs;
    }
    if (rest > 0)
        number_mul(b, UINT32_C(1) << rest, 0);
}

static int number_compare(const struct number_big *a, const struct number_big *b)
{
    if (a->n != b->n)
        return a->n < b->n ? -1 : 1;
    for (int i = a->n - 1; i >= 0; i--)
        if (a->limb[i] != b->limb[i])
            return a->limb[i] < b->limb[i] ? -1 : 1;
    return 0;
}

/* a = a - b, with a >= b. */
static void number_sub(struct number_big *a, const struct number_big *b)
{
    uint64_t borrow = 0;

    for (int i = 0; i < a->n; i++) {
        const uint64_t d = (uint64_t)a->limb[i] - (i < b->n ? b->limb[i] : 0) - borrow;

        a->limb[i] = (uint32_t)d;
        borrow = d >> 63;
    }
    while (a->n > 0 && a->limb[a->n - 1] == 0)
        a->n--;
}

/* Compare a + b with c. */
static int number_compare_sum(const struct number_big *a, const struct number_big *b,
                              const struct number_big *c)
{
    struct number_big sum;
    const int n = a->n > b->n ? a->n : b->n;
    uint64_t carry = 0;

    for (int i = 0; i < n; i++) {
        carry += (uint64_t)(i < a->n ? a->limb[i] : 0) + (i < b->n ? b->limb[i] : 0);
        sum.limb[i] = (uint32_t)carry;
        carry >>= 32;
    }
    sum.n = n;
    if (carry > 0)
        sum.limb[sum.n++] = (uint32_t)carry;
    return number_compare(&sum, c);
}

static int number_bits(const struct number_big *b)
{
    int bits = 32 * (b->n - 1);

    for (uint32_t top = b->limb[b->n - 1]; top > 0; top >>= 1)
        bits++;
    return bits;
}

/* ---- Reading ------------------------------------------------------------- */

/* Digits beyond these can only break ties: a double and the middle between two have at most
 * 768 significant ones. */
#define NUMBER_DIGITS 800

/* The parts of a JSON number: 0.d1 d2 ... dn * 10^point, leading zeros dropped. */
struct number_parts {
    int negative, n_digits, sticky;  /* sticky: a digit other than 0 was dropped */
    int64_t point;
    uint8_t digit[NUMBER_DIGITS];
};

static int number_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static void number_digit(struct number_parts *p, char c)
{
    if (p->n_digits < NUMBER_DIGITS)
        p->digit[p->n_digits++] = (uint8_t)(c - '0');
    else
        p->sticky |= c != '0';
}

/* Read the exponent part at text[i], if there is one; returns the index behind it. */
static size_t number_exponent(const char *text, size_t len, size_t i, int64_t *exponent)
{
    size_t j = i + 1;
    int negative = 0;
    int64_t e = 0;

    *exponent = 0;
    if (i >= len || (text[i] != 'e' && text[i] != 'E'))
        return i;
    if (j < len && (text[j] == '+' || text[j] == '-'))
        negative = text[j++] == '-';
    if (j >= len || !number_is_digit(text[j]))
        return i;
    for (; j < len && number_is_digit(text[j]); j++)
        if (e < INT64_C(1) << 50)
            e = e * 10 + (text[j] - '0');
    *exponent = negative ? -e : e;
    return j;
}

/* Returns the bytes read, 0 if text does not begin with a JSON number. */
static size_t number_parse(struct number_parts *p, const char *text, size_t len)
{
    size_t i = 0;
    int64_t exponent;

    p->negative = len > 0 && text[0] == '-';
    p->n_digits = p->sticky = 0;
    p->point = 0;
    i += (size_t)p->negative;
    if (i >= len || !number_is_digit(text[i]))
        return 0;
    if (text[i] == '0')
        i++;
    else
        for (; i < len && number_is_digit(text[i]); i++, p->point++)
            number_digit(p, text[i]);
    if (i + 1 < len && text[i] == '.' && number_is_digit(text[i + 1]))
        for (i++; i < len && number_is_digit(text[i]); i++) {
            if (p->n_digits == 0 && text[i] == '0')
                p->point--;
            else
                number_digit(p, text[i]);
        }
    i = number_exponent(text, len, i, &exponent);
    p->point += exponent;
    while (p->n_digits > 0 && !p->sticky && p->digit[p->n_digits - 1] == 0)
        p->n_digits--;
    return i;
}

/* The double of m * 2^e, m with its highest bit set, and a little more if sticky. */
static uint64_t number_round(uint64_t m, int e, int sticky)
{
    const int top = e + 63;              /* exponent of the highest bit */
    int drop = 11, biased = top + 1023;

    if (top > 1023)
        return UINT64_C(0x7FF) << 52;
    if (top < -1022) {                   /* fewer bits are left, perhaps none */
        drop += -1022 - top;
        biased = 0;
    }
    if (drop > 64)
        return 0;
    const uint64_t kept = drop == 64 ? 0 : m >> drop;
    const uint64_t half = UINT64_C(1) << (drop - 1);
    const uint64_t rest = drop == 64 ? m : m & ((UINT64_C(1) << drop) - 1);
    const int up = rest > half || (rest == half && (sticky || (kept & 1)));

    /* The hidden bit adds 1 to the exponent; a carry out of the fraction too, rightly. */
    return ((uint64_t)(biased > 0 ? biased - 1 : 0) << 52) + kept + (uint64_t)up;
}

/* The double of num / den, both positive. */
static uint64_t number_divide(struct number_big *num, struct number_big *den, int sticky)
{
    int e = number_bits(num) - number_bits(den);
    uint64_t m = 0;

    if (e < 0)
        number_shift(num, -e);
    else
        number_shift(den, e);
    if (number_compare(num, den) < 0) {
        number_shift(num, 1);
        e--;
    }
    for (int i = 0; i < 64; i++) {
        m <<= 1;
        if (number_compare(num, den) >= 0) {
            number_sub(num, den);
            m |= 1;
        }
        number_shift(num, 1);
    }
    return number_round(m, e - 63, sticky || num->n > 0);
}

size_t mk_number_read(const char *text, size_t len, double *out)
{
    struct number_parts p;
    struct number_big num, den;
    const size_t n = number_parse(&p, text, len);
    uint64_t bits;

    if (n == 0)
        return 0;
    if (p.n_digits == 0 || p.point < -330) {
        bits = 0;
    } else if (p.point > 310) {
        bits = UINT64_C(0x7FF) << 52;
    } else {
        const int scale = (int)p.point - p.n_digits;

        num.n = 0;
        for (int i = 0; i < p.n_digits; i++)
            number_mul(&num, 10, p.digit[i]);
        number_set(&den, 1);
        number_mul_pow10(scale >= 0 ? &num : &den, scale >= 0 ? scale : -scale);
        bits = number_divide(&num, &den, p.sticky);
    }
    bits |= (uint64_t)p.negative << 63;
    memcpy(out, &bits, sizeof(bits));
    return n;
}

int mk_json_double(const struct mk_json *v, double *out)
{
    double d;
    uint64_t bits;

    if (v == NULL || v->type != MK_JSON_NUMBER)
        return -1;
    if (mk_number_read(v->text.data, v->text.len, &d) != v->text.len)
        return -1;
    memcpy(&bits, &d, sizeof(bits));
    if ((bits >> 52 & 0x7FF) == 0x7FF)
        return -1;
    *out = d;
    return 0;
}

int mk_json_int(const struct mk_json *v, int64_t *out)
{
    struct number_parts p;
    uint64_t m = 0;

    if (v == NULL || v->type != MK_JSON_NUMBER)
        return -1;
    if (number_parse(&p, v->text.data, v->text.len) != v->text.len)
        return -1;
    if (p.n_digits > 0 && (p.sticky || p.point < p.n_digits || p.point > 19))
        return -1;
    for (int i = 0; p.n_digits > 0 && i < p.point; i++) {
        const uint64_t d = i < p.n_digits ? p.digit[i] : 0;

        if (m > (UINT64_MAX - d) / 10)
            return -1;
        m = m * 10 + d;
    }
    if (m > (uint64_t)INT64_MAX + (uint64_t)p.negative)
        return -1;
    *out = p.negative ? (int64_t)(0 - m) : (int64_t)m;
    return 0;
}

/* ---- Writing ------------------------------------------------------------- */

/* The value is r / s; what rounds to it reaches from r - low to r + high, over s. */
struct number_range {
    struct number_big r, s, low, high;
    int even;                /* the ends round to it too */
};

static void number_range_init(struct number_range *g, uint64_t fraction, int biased)
{
    const uint64_t m = biased > 0 ? fraction | UINT64_C(1) << 52 : fraction;
    const int e = (biased > 0 ? biased : 1) - 1075;
    const int narrow = fraction == 0 && biased > 1;  /* the gap below is half as wide */

    number_set(&g->r, m);
    number_set(&g->s, 1);
    number_set(&g->low, 1);
    number_set(&g->high, 1);
    g->even = (m & 1) == 0;
    number_shift(&g->r, (e > 0 ? e : 0) + 1 + narrow);
    number_shift(&g->s, (e < 0 ? -e : 0) + 1 + narrow);
    number_shift(&g->low, e > 0 ? e : 0);
    number_shift(&g->high, (e > 0 ? e : 0) + narrow);
}

/* Whether r + high reaches s, that is whether the next digit up is still in range. */
static int number_reaches(const struct number_range *g)
{
    const int c = number_compare_sum(&g->r, &g->high, &g->s);

    return g->even ? c >= 0 : c > 0;
}

/* Scale so that the first digit of r / s is behind the point; returns its place. */
static int number_scale(struct number_range *g)
{
    int k = 0;
    const int bits = number_bits(&g->r) - number_bits(&g->s);

    /* log10(2) is between 0.30102 and 0.30103: a guess that is never too high. */
    k = bits >= 0 ? bits * 30102 / 100000 - 1 : bits * 30103 / 100000 - 2;
    if (k >= 0) {
        number_mul_pow10(&g->s, k);
    } else {
        number_mul_pow10(&g->r, -k);
        number_mul_pow10(&g->low, -k);
        number_mul_pow10(&g->high, -k);
    }
    while (number_reaches(g)) {
        number_mul(&g->s, 10, 0);
        k++;
    }
    return k;
}

/* The shortest digits that round to the number, the nearest of these to it.  Returns their
 * count; value = 0.d1 d2 ... * 10^*point.
 * Reference: Steele and White, "How to Print Floating-Point Numbers Accurately", PLDI 1990,
 * algorithm FPP2 with the scaling of Burger and Dybvig, PLDI 1996. */
static int number_shortest(char *digits, int *point, uint64_t fraction, int biased)
{
    struct number_range g;
    int n = 0;

    number_range_init(&g, fraction, biased);
    *point = number_scale(&g);
    for (;;) {
        int d = 0, low, high, c;

        number_mul(&g.r, 10, 0);
        number_mul(&g.low, 10, 0);
        number_mul(&g.high, 10, 0);
        while (number_compare(&g.r, &g.s) >= 0) {
            number_sub(&g.r, &g.s);
            d++;
        }
        c = number_compare(&g.r, &g.low);
        low = g.even ? c <= 0 : c < 0;
        high = number_reaches(&g);
        if (low && high) {
            c = number_compare_sum(&g.r, &g.r, &g.s);
            high = c > 0 || (c == 0 && (d & 1));
        }
        if (low || high) {
            digits[n++] = (char)('0' + d + high);
            return n;
        }
        digits[n++] = (char)('0' + d);
    }
}

/* Digits (n,) as Python's repr lays them out. */
static size_t number_layout(char *out, size_t size, const char *digits, int n, int point)
{
    const int whole = n < point ? n : point, rest = n - whole;

    if (point > -4 && point <= 0)
        return mk_format(out, size, "0.%.*s%.*s", -point, "000", n, digits);
    if (point > 0 && point <= 16)
        return mk_format(out, size, "%.*s%.*s.%.*s", whole, digits, point - whole,
                         "0000000000000000", rest > 0 ? rest : 1,
                         rest > 0 ? digits + whole : "0");
    const int e = point > 0 ? point - 1 : 1 - point;

    return mk_format(out, size, "%c%s%.*se%c%s%d", digits[0], n > 1 ? "." : "", n - 1, digits + 1,
                     point > 0 ? '+' : '-', e < 10 ? "0" : "", e);
}

size_t mk_number_write(char *buffer, double v)
{
    char digits[24];
    int point;
    uint64_t bits;

    memcpy(&bits, &v, sizeof(bits));
    const int biased = (int)(bits >> 52 & 0x7FF);
    const uint64_t fraction = bits & ((UINT64_C(1) << 52) - 1);
    const size_t sign = bits >> 63 && (biased < 0x7FF || fraction == 0);

    buffer[0] = '-';
    if (biased == 0x7FF)
        return sign + mk_format(buffer + sign, 31, "%s", fraction != 0 ? "nan" : "inf");
    if (biased == 0 && fraction == 0)
        return sign + mk_format(buffer + sign, 31, "0.0");
    const int n = number_shortest(digits, &point, fraction, biased);

    return sign + number_layout(buffer + sign, 31, digits, n, point);
}
