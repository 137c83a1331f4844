/* Not a test: hashes of logits, for comparing two builds whose bits should be the same.
 *
 *   build/tests/bits MODEL...    a line for each kernel level, kind of session and thread count
 *
 * Linked with --wrap=mk_cpu_features, so that a context believes in a lesser processor. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "base/hash.h"
#include "minke.h"

#define BITS_PROMPT 40       /* tokens evaluated at once */
#define BITS_FILLED 1100     /* tokens that are there before, the second time */
#define BITS_PIECES 14       /* tokens behind these, in pieces */
#define BITS_DECODE 3        /* one by one behind all */

static uint32_t bits_level;  /* features that the next context may use */

uint32_t __real_mk_cpu_features(void);
uint32_t __wrap_mk_cpu_features(void);

uint32_t __wrap_mk_cpu_features(void)
{
    return __real_mk_cpu_features() & bits_level;
}

static void check(int32_t rc)
{
    if (rc == MINKE_OK)
        return;
    fprintf(stderr, "%s\n", minke_last_error());
    exit(1);
}

static int64_t info(const minke_context *m, int32_t key)
{
    int64_t v = 0;

    check(minke_context_info(m, key, &v));
    return v;
}

/* Hash of the logits of n tokens, in chunks of `chunk`, behind `filled` others, of the decoded
 * tokens' and, where the session keeps the prediction layer, of its. */
static uint64_t run(minke_context *m, minke_session_params p, uint32_t filled, size_t n,
                    uint32_t chunk)
{
    const size_t n_vocab = (size_t)info(m, MINKE_INFO_N_VOCAB);
    float *rows = calloc(n * n_vocab, sizeof(*rows));
    minke_session *s = NULL;
    uint64_t h = 1;
    int32_t tokens[BITS_PROMPT], next;

    p.max_tokens = (uint32_t)(filled + n + BITS_DECODE);
    p.prefill_chunk = chunk;
    check(minke_session_open(&s, m, &p));
    if (filled > 0)
        check(minke_session_fill(s, filled, 3));
    for (size_t i = 0; i < n; i++)
        tokens[i] = (int32_t)(mk_hash_u64(7, i) % n_vocab);
    check(minke_session_eval_all(s, tokens, n, rows, n * n_vocab));
    h = mk_hash(h, rows, n * n_vocab * sizeof(*rows));
    for (int i = 0; i < BITS_DECODE; i++) {
        const float *logits = NULL;
        size_t best = 0;

        check(minke_session_logits(s, &logits, NULL));
        for (size_t t = 1; t < n_vocab; t++)
            best = logits[t] > logits[best] ? t : best;
        h = mk_hash(h, logits, n_vocab * sizeof(*logits));
        next = (int32_t)best;
        if (p.flags & MINKE_SESSION_MTP) {
            check(minke_session_mtp(s, next, rows, n_vocab));
            h = mk_hash(h, rows, n_vocab * sizeof(*rows));
        }
        check(minke_session_eval(s, &next, 1));
    }
    minke_session_free(s);
    free(rows);
    return h;
}

/* All kinds of session over one context. */
static void sessions(minke_context *m, const char *name)
{
    static const uint32_t forms[] = {0, MINKE_SESSION_NAIVE, MINKE_SESSION_ABSORBED};
    const uint32_t n_index = info(m, MINKE_INFO_INDEX_TOPK) > 0 ? 3 : 1;
    const uint32_t mtp = info(m, MINKE_INFO_N_MTP_LAYERS) > 0 ? MINKE_SESSION_MTP : 0;

    for (uint32_t cache = MINKE_CACHE_F32; cache < MINKE_CACHE_NATIVE; cache++)
        for (uint32_t index = 0; index < n_index; index++)
            for (size_t form = 0; form < 3; form++) {
                minke_session_params p;

                if (form > 0 && cache + index > 0)
                    continue;
                minke_session_params_init(&p, sizeof(p));
                p.flags = forms[form] | mtp;
                p.cache_type = cache;
                p.index_type = index;
                printf("%s cache=%u index=%u form=%zu %016llx %016llx\n", name, cache, index,
                       form, (unsigned long long)run(m, p, 0, BITS_PROMPT, 0),
                       (unsigned long long)run(m, p, BITS_FILLED, BITS_PIECES, 7));
                fflush(stdout);
            }
}

int main(int argc, char **argv)
{
    static const uint32_t levels[] = {
        0, MK_CPU_NEON, MK_CPU_NEON | MK_CPU_DOTPROD, MK_CPU_AVX2,
        MK_CPU_AVX2 | MK_CPU_AVX512, MK_CPU_AVX2 | MK_CPU_AVX512 | MK_CPU_VNNI, UINT32_MAX};
    static const uint32_t flags[] = {
        0, MINKE_CONTEXT_DETERMINISTIC, MINKE_CONTEXT_FAST,
        MINKE_CONTEXT_DETERMINISTIC | MINKE_CONTEXT_FAST};
    uint32_t seen = UINT32_MAX;

    for (size_t l = 0; l < sizeof(levels) / sizeof(levels[0]); l++) {
        bits_level = levels[l];
        if (__wrap_mk_cpu_features() == seen)
            continue;
        seen = __wrap_mk_cpu_features();
        for (int i = 1; i < argc; i++)
            for (size_t f = 0; f < 4; f++)
                for (uint32_t threads = 1; threads <= 2; threads++) {
                    minke_context_params p;
                    minke_context *m = NULL;
                    char name[512];

                    minke_context_params_init(&p, sizeof(p));
                    p.n_threads = threads;
                    p.flags = flags[f];
                    check(minke_context_open(&m, argv[i], &p));
                    snprintf(name, sizeof(name), "%s %s flags=0x%x threads=%u",
                             mk_cpu_name(seen), argv[i], flags[f], threads);
                    sessions(m, name);
                    minke_context_free(m);
                }
    }
    return 0;
}
