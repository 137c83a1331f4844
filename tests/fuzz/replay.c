#define _POSIX_C_SOURCE 200809L /* opendir */
/* Without libFuzzer: run a target over the seeds in a folder, over each of them cut short,
 * and over each with one byte changed. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "fuzz.h"

#define MAX_SEED 65536
#define STEPS 200   /* cuts and changes per seed */

static unsigned char seed[MAX_SEED];
static unsigned char work[MAX_SEED];

/* A copy of its own size, so that a sanitizer sees a read beyond its end. */
static void run(const unsigned char *data, size_t size)
{
    unsigned char *copy = malloc(size + (size == 0));
    if (copy == NULL)
        abort();
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static void replay(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return;
    const size_t n = fread(seed, 1, sizeof seed, file);
    fclose(file);
    run(seed, n);
    const size_t step = n / STEPS + 1;
    for (size_t i = 0; i < n; i += step) {
        run(seed, i);
        memcpy(work, seed, n);
        work[i] = (unsigned char)(work[i] ^ (1u << (i / step & 7)));
        run(work, n);
    }
}

int main(int argc, char **argv)
{
    int n = 0;
    DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
    if (folder == NULL) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    for (const struct dirent *e; (e = readdir(folder)) != NULL;) {
        char path[4096];
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", argv[1], e->d_name);
        replay(path);
        n++;
    }
    closedir(folder);
    printf("%d seeds\n", n);
    return n == 0;
}
