/* Encoding takes time in proportion to the text: twice as much of one character, twice the
 * time.  Processor time, and the best of as many runs as a busy machine needs. */
#include <time.h>

#include "text_data.h"

#define SIZE ((size_t)1 << 18)   /* bytes of the shorter text */
#define ROUNDS 40
#define LIMIT 2.3

static struct text_heap heap;
static struct mk_env env;

static double seconds(const struct mk_tokenizer *tok, const char *text, size_t len,
                      int32_t *ids)
{
    const clock_t begin = clock();

    text_encode(tok, text, len, ids, 2 * SIZE + 64);
    return (double)(clock() - begin) / CLOCKS_PER_SEC;
}

static void check_linear(const struct mk_tokenizer *tok, const char *character, char *text,
                         int32_t *ids)
{
    const size_t n = strlen(character), whole = SIZE / n * n;
    double once = 1e9, twice = 1e9;

    for (size_t i = 0; i < 2 * whole; i += n)
        memcpy(text + i, character, n);
    for (int round = 0; round < ROUNDS; round++) {
        const double a = seconds(tok, text, whole, ids);
        const double b = seconds(tok, text, 2 * whole, ids);

        once = a < once ? a : once;
        twice = b < twice ? b : twice;
        if (round > 0 && twice <= LIMIT * once)
            return;
    }
    fprintf(stderr, "\"%s\": %.4f s, and %.4f s for twice as much\n", character, once, twice);
    CHECK(twice <= LIMIT * once);
}

static void check_tokenizer(const char *path, size_t step)
{
    static const char *const characters[] = {
        "a", "e", "Q", " ", "0", "!", "=", "<", "\n", "\t", "\001", "\303\251",
        "\344\275\240", "\343\201\256", "\343\203\273", "\314\201", "\360\237\230\200"
    };
    struct mk_tokenizer *tok;
    char *text = malloc(2 * SIZE + 8);
    int32_t *ids = malloc((2 * SIZE + 64) * sizeof(*ids));

    env = text_env(&heap);
    tok = text_open(path, &env);
    for (size_t i = 0; tok != NULL && i < sizeof(characters) / sizeof(characters[0]);
         i += step)
        check_linear(tok, characters[i], text, ids);
    mk_tokenizer_free(tok);
    free(text);
    free(ids);
}

TEST(twice_the_text_takes_twice_the_time)
{
    check_tokenizer(TEXT_SMALL "/tokenizer.json", 1);
    check_tokenizer(TEXT_SHARED "/deepseek-v3.1/tokenizer.json", 4);
    check_tokenizer(TEXT_SHARED "/deepseek-v2/tokenizer.json", 5);
}

TEST_MAIN(RUN(twice_the_text_takes_twice_the_time))
