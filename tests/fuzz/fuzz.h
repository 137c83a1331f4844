/* What a fuzz target defines, for libFuzzer or for replay.c. */
#ifndef MK_FUZZ_H
#define MK_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold for every input. */
#define FUZZ_CHECK(x)                                                                  \
    do {                                                                               \
        if (!(x))                                                                      \
            abort();                                                                   \
    } while (0)

#endif
