/* An editor: a suggestion for the rest of the line, after every change of the text.
 *
 * minke_session_sync makes the session hold the tokens of the text up to the cursor, and
 * evaluates only what follows the longest common prefix: typing at the end costs a token or
 * two, whatever the length of the file.  Standard input plays the typist, line by line.
 * usage: editor MODEL < FILE */
#include <minke.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TEXT 65536
#define MAX_TOKENS 4096
#define MAX_SUGGESTION 24   /* tokens */

struct editor {
    minke_context *model;
    minke_session *session;
    minke_sampler *greedy;
    char text[MAX_TEXT];
    size_t n_text;
    int32_t ids[MAX_TEXT + 1];
    size_t n_ids;
};

/* Bring the session up to date with the text. */
static int32_t follow(struct editor *e, size_t *reused)
{
    const int32_t status = minke_tokenize(e->model, e->text, e->n_text, MINKE_TOKENIZE_BOS,
                                          e->ids, MAX_TEXT + 1, &e->n_ids);
    return status < 0 ? status : minke_session_sync(e->session, e->ids, e->n_ids, reused);
}

/* Print the likeliest rest of the line.  The session forgets it again: it is not text. */
static int32_t suggest(struct editor *e)
{
    int32_t made[MAX_SUGGESTION];
    char line[1024];
    size_t n = 0, len = 0;
    int32_t status = MINKE_OK;
    while (n < MAX_SUGGESTION) {
        const float *logits = NULL;
        size_t n_logits = 0;
        if ((status = minke_session_logits(e->session, &logits, &n_logits)) < 0 ||
            (status = minke_sampler_sample(e->greedy, logits, n_logits, &made[n])) < 0)
            return status;
        n++;
        status = minke_detokenize(e->model, made, n, MINKE_DETOKENIZE_SKIP_SPECIAL |
                                  MINKE_DETOKENIZE_PARTIAL, line, sizeof line, &len, NULL);
        if (status < 0)
            return status;
        if (memchr(line, '\n', len) != NULL)
            break;
        status = minke_session_eval(e->session, &made[n - 1], 1);
        if (status == MINKE_EFULL)
            break;
        if (status < 0)
            return status;
    }
    const char *end = memchr(line, '\n', len);
    printf("  ... %.*s\n", (int)(end != NULL ? end - line : (long)len), line);
    return minke_session_truncate(e->session, e->n_ids);
}

static int32_t edit(struct editor *e)
{
    int32_t status = MINKE_OK;
    while (status >= 0 && e->n_text + 1 < MAX_TEXT &&
           fgets(e->text + e->n_text, (int)(MAX_TEXT - e->n_text), stdin) != NULL) {
        size_t reused = 0;
        /* The typist stops in the middle of the line, waits for a suggestion, goes on. */
        const size_t n = strlen(e->text + e->n_text);
        const size_t start = e->n_text;
        e->n_text = start + n / 2;
        if (e->n_text == 0)
            e->n_text = n;
        if ((status = follow(e, &reused)) < 0)
            break;
        printf("%.*s", (int)(e->n_text - start), e->text + start);
        if ((status = suggest(e)) < 0)
            break;
        printf("      (%zu tokens, %zu of them known)\n", e->n_ids, reused);
        e->n_text = start + n;
    }
    return status;
}

int main(int argc, char **argv)
{
    struct editor *e = calloc(1, sizeof *e);
    minke_session_params params;
    minke_session_params_init(&params, sizeof params);
    params.max_tokens = MAX_TOKENS;
    if (e == NULL || argc != 2 || minke_context_open(&e->model, argv[1], NULL) < 0 ||
        minke_session_open(&e->session, e->model, &params) < 0 ||
        minke_sampler_open(&e->greedy, NULL) < 0) {
        fprintf(stderr, "usage: editor MODEL < FILE\n%s\n", minke_last_error());
        free(e);
        return 1;
    }
    const int32_t status = edit(e);
    if (status < 0)
        fprintf(stderr, "%s\n", minke_last_error());
    minke_sampler_free(e->greedy);
    minke_session_free(e->session);
    minke_context_free(e->model);
    free(e);
    return status < 0;
}
