#define _GNU_SOURCE 1 /* mkdtemp */
/* Any bytes as a snapshot of a session: refused, with the session as it was, or loaded, and
 * then good to go on with.  The first byte chooses the session, and whether the head is made
 * to fit, so that what lies behind its checksum is reached. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint.h"
#include "base/hash.h"
#include "fuzz.h"
#include "session/session.h"

#define HEAD_BYTES 104u
#define N_KINDS 4u

static char folder[] = "/tmp/minke-fuzz-XXXXXX";
static char path[64];
static minke_context *ctx;
static minke_session *sessions[N_KINDS];

static void end(void)
{
    char command[64];

    for (size_t i = 0; i < N_KINDS; i++)
        minke_session_free(sessions[i]);
    minke_context_free(ctx);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command) != 0)
        abort();
}

static void begin(void)
{
    static const uint32_t caches[N_KINDS] = {MINKE_CACHE_F32, MINKE_CACHE_BF16, MINKE_CACHE_NATIVE,
                                             MINKE_CACHE_FP8};
    struct ck *c = ck_new(MK_BF16, 1, 1, 1, 1);
    minke_context_params cp;

    FUZZ_CHECK(mkdtemp(folder) != NULL);
    ck_write(c, folder);
    ck_free(c);
    snprintf(path, sizeof path, "%s/snapshot", folder);
    minke_context_params_init(&cp, sizeof cp);
    cp.n_threads = 1;
    FUZZ_CHECK(minke_context_open(&ctx, folder, &cp) == MINKE_OK);
    atexit(end);
    for (uint32_t i = 0; i < N_KINDS; i++) {
        minke_session_params p;

        minke_session_params_init(&p, sizeof p);
        p.max_tokens = 16;
        p.cache_type = caches[i];
        p.index_type = i == 2 ? MINKE_INDEX_NATIVE : MINKE_INDEX_F32;
        p.attention = i == 3 ? MINKE_ATTENTION_DENSE : MINKE_ATTENTION_DEFAULT;
        p.flags = i % 2 == 0 ? MINKE_SESSION_MTP : 0;
        FUZZ_CHECK(minke_session_open(&sessions[i], ctx, &p) == MINKE_OK);
    }
}

/* The model's identity, the file's size and the head's checksum, as they should be. */
static void mend(uint8_t *data, size_t size)
{
    const uint64_t bytes = size, identity = sessions[0]->model->identity;
    uint64_t sum;

    memcpy(data + 16, &bytes, 8);
    memcpy(data + 24, &identity, 8);
    sum = mk_hash(1, data, HEAD_BYTES - 8);
    memcpy(data + HEAD_BYTES - 8, &sum, 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int32_t tokens[5] = {1, 2, 3, 4, 5};
    minke_session *s;
    uint8_t *copy;
    int32_t rc;
    FILE *f;

    if (ctx == NULL)
        begin();
    if (size == 0)
        return 0;
    copy = malloc(size);
    memcpy(copy, data + 1, size - 1);
    if (data[0] & 0x80 && size > HEAD_BYTES)
        mend(copy, size - 1);
    f = fopen(path, "wb");
    FUZZ_CHECK(f != NULL && fwrite(copy, 1, size - 1, f) == size - 1 && fclose(f) == 0);
    free(copy);
    s = sessions[data[0] % N_KINDS];
    FUZZ_CHECK(minke_session_sync(s, tokens, 5, NULL) == MINKE_OK);
    rc = minke_session_load(s, path);
    if (rc < 0) {
        FUZZ_CHECK(rc == MINKE_ESNAPSHOT || rc == MINKE_EFULL);
        FUZZ_CHECK(minke_session_length(s) == 5);
    } else {
        FUZZ_CHECK(minke_session_length(s) <= 16);
        FUZZ_CHECK(minke_session_truncate(s, 12) == MINKE_OK);
    }
    FUZZ_CHECK(minke_session_eval(s, tokens, 1) == MINKE_OK);
    return 0;
}
