/* The smallest test harness that serves: tests are sentences, checks say what they saw.
 *
 *     TEST(truncate_then_eval_matches_fresh) { CHECK(x == y); CHECK_INT(a, b); }
 *     TEST_MAIN(RUN(truncate_then_eval_matches_fresh))
 *
 * A test program exits with 0, 1 when a check failed, or 77 when everything was skipped. */
#ifndef MK_TEST_H
#define MK_TEST_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int test_failures, test_skips, test_runs;

#define CHECK(x)                                                                       \
    do {                                                                               \
        if (!(x)) {                                                                    \
            test_failures++;                                                           \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                    \
        }                                                                              \
    } while (0)

#define CHECK_INT(a, b)                                                                \
    do {                                                                               \
        const long long a_ = (long long)(a), b_ = (long long)(b);                      \
        if (a_ != b_) {                                                                \
            test_failures++;                                                           \
            fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #a,   \
                    a_, b_);                                                           \
        }                                                                              \
    } while (0)

#define CHECK_STR(a, b)                                                                \
    do {                                                                               \
        const char *a_ = (a), *b_ = (b);                                               \
        if (strcmp(a_, b_) != 0) {                                                     \
            test_failures++;                                                           \
            fprintf(stderr, "%s:%d: %s is \"%s\", not \"%s\"\n", __FILE__, __LINE__,   \
                    #a, a_, b_);                                                       \
        }                                                                              \
    } while (0)

/* Whether text holds part; for error messages. */
#define CHECK_HAS(text, part)                                                          \
    do {                                                                               \
        const char *a_ = (text), *b_ = (part);                                         \
        if (strstr(a_, b_) == NULL) {                                                  \
            test_failures++;                                                           \
            fprintf(stderr, "%s:%d: \"%s\" lacks \"%s\"\n", __FILE__, __LINE__, a_,    \
                    b_);                                                               \
        }                                                                              \
    } while (0)

#define SKIP(why)                                                                      \
    do {                                                                               \
        test_skips++;                                                                  \
        printf("skip: %s: %s\n", __func__, why);                                       \
        return;                                                                        \
    } while (0)

#define TEST(name) static void name(void)
#define RUN(name) (test_runs++, name())

/* Say how it went; the exit status. */
static inline int test_result(void)
{
    if (test_failures > 0)
        printf("%d checks failed\n", test_failures);
    else
        printf("%d tests, %d skipped\n", test_runs, test_skips);
    if (test_failures > 0)
        return 1;
    return test_runs > 0 && test_skips == test_runs ? 77 : 0;
}

#define TEST_MAIN(...)                                                                 \
    int main(void)                                                                     \
    {                                                                                  \
        __VA_ARGS__;                                                                   \
        return test_result();                                                          \
    }

#endif
