#define _GNU_SOURCE 1 /* mkdtemp */
/* Any bytes as a rollout's file: refused, or loaded, and then good to be replayed and scored. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint.h"
#include "fuzz.h"

static char folder[] = "/tmp/minke-fuzz-XXXXXX";
static char path[64];
static minke_context *ctx;
static minke_session *session;

static void end(void)
{
    char command[64];

    minke_session_free(session);
    minke_context_free(ctx);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command) != 0)
        abort();
}

static void begin(void)
{
    struct ck *c = ck_new(MK_BF16, 1, 1, 1, 1);
    minke_session_params p;
    minke_context_params cp;

    FUZZ_CHECK(mkdtemp(folder) != NULL);
    ck_write(c, folder);
    ck_free(c);
    snprintf(path, sizeof path, "%s/rollout", folder);
    minke_context_params_init(&cp, sizeof cp);
    cp.n_threads = 1;
    FUZZ_CHECK(minke_context_open(&ctx, folder, &cp) == MINKE_OK);
    minke_session_params_init(&p, sizeof p);
    p.max_tokens = 16;
    FUZZ_CHECK(minke_session_open(&session, ctx, &p) == MINKE_OK);
    atexit(end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    minke_rollout *r = NULL;
    float row[64];
    FILE *f;
    int32_t rc;

    if (ctx == NULL)
        begin();
    f = fopen(path, "wb");
    FUZZ_CHECK(f != NULL && fwrite(data, 1, size, f) == size && fclose(f) == 0);
    rc = minke_rollout_load(&r, ctx, path);
    FUZZ_CHECK(rc == MINKE_OK || rc == MINKE_EFORMAT || rc == MINKE_EINVAL);
    if (rc < 0)
        return 0;
    rc = minke_rollout_replay(session, r, 0);
    FUZZ_CHECK(rc == MINKE_OK);
    rc = minke_rollout_score(r, session, row, NULL, 64);
    FUZZ_CHECK(rc == MINKE_OK || rc == MINKE_EINVAL || rc == MINKE_EUNSUPPORTED
               || rc == MINKE_ENOSPC || rc == MINKE_EFULL);
    FUZZ_CHECK(minke_rollout_replay(session, NULL, 0) == MINKE_OK);
    minke_rollout_free(r);
    return 0;
}
