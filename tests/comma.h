/* A locale with a decimal comma, made where the system has none.  Needs setenv and mkdtemp. */
#ifndef MK_TEST_COMMA_H
#define MK_TEST_COMMA_H

#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"

static char locale_folder[32];

static inline int locale_set(void)
{
    return setlocale(LC_ALL, "de_DE.UTF-8") != NULL
        && strcmp(localeconv()->decimal_point, ",") == 0;
}

static inline void locale_leave(void)
{
    char command[64];

    setlocale(LC_ALL, "C");
    unsetenv("LOCPATH");
    if (locale_folder[0] != '\0') {
        snprintf(command, sizeof(command), "rm -rf %s", locale_folder);
        if (system(command) != 0)
            fprintf(stderr, "%s stays\n", locale_folder);
    }
    locale_folder[0] = '\0';
}

/* 1 when the process now writes 0,5; 0 where there is no way to. */
static inline int locale_with_comma(void)
{
    char command[160];

    if (locale_set())
        return 1;
    strcpy(locale_folder, "/tmp/minke-locale-XXXXXX");
    if (mkdtemp(locale_folder) == NULL)
        exit(1);
    snprintf(command, sizeof(command),
             "localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 >%s/said 2>&1", locale_folder,
             locale_folder);
    if (system(command) == 0 && setenv("LOCPATH", locale_folder, 1) == 0 && locale_set())
        return 1;
    locale_leave();
    return 0;
}

#endif
