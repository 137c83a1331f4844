/* How fast a tokenizer opens and encodes, on one thread:
 *
 *     bench_tokenizer [tokenizer.json [text file]]
 *
 * Without arguments: the small tokenizer, or DeepSeek-V3.1's where it lies beside the project,
 * and the licences that a Debian machine holds. */
#include <time.h>

#include "text_data.h"

#define ROUNDS  20
#define REPEATS 5     /* of a text per round */

/* Processor time, which other programs do not lengthen. */
static double now(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

/* Encode ROUNDS times and tell the best. */
static void bench(const struct mk_tokenizer *tok, const char *text, size_t len)
{
    int32_t *ids = malloc((len + 1) * sizeof(*ids));
    double best = 1e9;
    size_t n = 0;

    for (int round = 0; ids != NULL && round < ROUNDS; round++) {
        const double begin = now();
        double time;

        for (int i = 0; i < REPEATS; i++)
            n = text_encode(tok, text, len, ids, len + 1);
        time = (now() - begin) / REPEATS;
        best = time < best ? time : best;
    }
    printf("%zu bytes, %zu tokens, %.1f MB/s\n", len, n, (double)len / best / 1e6);
    free(ids);
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : TEXT_SHARED "/deepseek-v3.1/tokenizer.json";
    const char *file = argc > 2 ? argv[2] : "/usr/share/common-licenses/GPL-3";
    struct text_heap heap;
    struct mk_env env = text_env(&heap);
    double begin = now();
    struct mk_tokenizer *tok = text_open(path, &env);
    size_t len = 0;
    char *text = text_load(file, &len);

    if (tok == NULL && argc < 2) {
        path = TEXT_SMALL "/tokenizer.json";
        begin = now();
        tok = text_open(path, &env);
    }
    if (tok == NULL || text == NULL) {
        fprintf(stderr, "%s: cannot be read\n", tok == NULL ? path : file);
        return 1;
    }
    printf("%s: opened in %.3f s\n", path, now() - begin);
    bench(tok, text, len);
    mk_tokenizer_free(tok);
    free(text);
    return test_failures + test_skips + test_runs > 0;
}
