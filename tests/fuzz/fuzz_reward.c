/* Any bytes as a reply and as two answers: what the rules of rewards promise of all texts. */
#include <stdio.h>
#include <string.h>

#include "fuzz.h"
#include "minke.h"

static int equal(const char *a, size_t a_len, const char *b, size_t b_len, uint32_t flags)
{
    int32_t one = -1, two = -1;

    FUZZ_CHECK(minke_reward_equal(a, a_len, b, b_len, flags, &one) == MINKE_OK);
    FUZZ_CHECK(minke_reward_equal(b, b_len, a, a_len, flags, &two) == MINKE_OK);
    FUZZ_CHECK(one == two && (one == 0 || one == 1));
    return one;
}

/* Whether fractions are equal, against products of 64 bits. */
static void check_fractions(const uint8_t *data, size_t size)
{
    uint16_t v[5] = {0};
    char a[64], b[64];
    int n, m;

    memcpy(v, data, size < sizeof v ? size : sizeof v);
    v[1] |= 1, v[3] |= 1, v[4] |= 1;
    n = snprintf(a, sizeof a, "\\frac{%u}{%u}", v[0], v[1]);
    m = snprintf(b, sizeof b, "%u/%u", v[2], v[3]);
    FUZZ_CHECK(equal(a, (size_t)n, b, (size_t)m, 0)
               == ((uint64_t)v[0] * v[3] == (uint64_t)v[2] * v[1]));
    m = snprintf(b, sizeof b, "-%u/-%u", v[0], v[1]);
    FUZZ_CHECK(!equal(a, (size_t)n, b, (size_t)m, 0));     /* a text */
    m = snprintf(b, sizeof b, "%llu/%llu", (unsigned long long)v[0] * v[4] * v[4],
                 (unsigned long long)v[1] * v[4] * v[4]);
    FUZZ_CHECK(equal(a, (size_t)n, b, (size_t)m, 0));
}

/* An answer with space around it is the same one. */
static void check_answers(const char *a, size_t a_len, const char *b, size_t b_len)
{
    static char padded[2048];
    const int same = equal(a, a_len, b, b_len, 0);

    if (equal(a, a_len, b, b_len, MINKE_REWARD_SAME_UNITS))
        FUZZ_CHECK(same);
    equal(a, a_len, b, b_len, MINKE_REWARD_PERCENT_UNIT);
    if (a_len == 0 || a_len + 2 > sizeof padded)
        return;
    padded[0] = ' ';
    memcpy(padded + 1, a, a_len);
    padded[a_len + 1] = '\n';
    FUZZ_CHECK(equal(padded, a_len + 2, b, b_len, 0) == same);
    FUZZ_CHECK(equal(padded, a_len + 2, a, a_len, 0) == equal(a, a_len, a, a_len, 0));
}

static void check_reply(const char *text, size_t n)
{
    static const char *const scripts[] = {"latin", "han", "ja"};
    double reward = -1, strict = -1;
    size_t begin = 0, length = 0;

    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
        FUZZ_CHECK(minke_reward_language(text, n, scripts[i], &reward) == MINKE_OK);
        FUZZ_CHECK(reward >= 0 && reward <= 1);
    }
    FUZZ_CHECK(minke_reward_format(text, n, MINKE_REWARD_FORMAT_ANSWER, &strict) == MINKE_OK);
    FUZZ_CHECK(minke_reward_format(text, n, MINKE_REWARD_FORMAT_THINK, &reward) == MINKE_OK);
    FUZZ_CHECK(strict <= reward);
    if (minke_reward_boxed(text, n, &begin, &length) != MINKE_OK) {
        FUZZ_CHECK(minke_reward_answer(text, n, text, n, 0, &reward) == MINKE_OK && reward <= 0);
        return;
    }
    FUZZ_CHECK(begin >= 6 && length < n && begin < n - length);
    FUZZ_CHECK(memchr(text + begin + length, '}', n - begin - length) != NULL);
    FUZZ_CHECK(minke_reward_answer(text, n, text + begin, length, 0, &reward) == MINKE_OK);
    FUZZ_CHECK((reward > 0) == equal(text + begin, length, text + begin, length, 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    const char *line = size == 0 ? NULL : memchr(text, '\n', size);
    const size_t first = line == NULL ? size / 2 : (size_t)(line - text);
    const size_t second = line == NULL ? first : first + 1;

    check_reply(text, size);
    check_answers(text, first, text + second, size - second);
    check_fractions(data, size);
    return 0;
}
