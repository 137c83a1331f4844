/* A folder of the test's own, gone when it ends.  Needs _GNU_SOURCE for mkdtemp. */
#ifndef TEST_FOLDER_H
#define TEST_FOLDER_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char test_folder_path[] = "/tmp/minke-test-XXXXXX";
static pid_t test_folder_owner;

static void test_folder_remove(void)
{
    char command[64];

    snprintf(command, sizeof command, "rm -rf %s", test_folder_path);
    if (getpid() == test_folder_owner && system(command) != 0)
        fprintf(stderr, "%s is left behind\n", test_folder_path);
}

static const char *test_folder(void)
{
    if (test_folder_owner == 0) {
        if (mkdtemp(test_folder_path) == NULL) {
            perror(test_folder_path);
            exit(1);
        }
        test_folder_owner = getpid();
        atexit(test_folder_remove);
    }
    return test_folder_path;
}

/* Path of a name in the folder; the same pointer for the same name.  At most eight names. */
static const char *test_file(const char *name)
{
    static char paths[8][64];
    char path[64];

    snprintf(path, sizeof path, "%s/%s", test_folder(), name);
    for (size_t i = 0; i < 8; i++)
        if (paths[i][0] == '\0' || strcmp(paths[i], path) == 0)
            return strcpy(paths[i], path);
    abort();
}

#endif
