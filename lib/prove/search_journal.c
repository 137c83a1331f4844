/* The journal of a search: one line of JSON for its settings, one for every completion.
 *
 * A line ends with a checksum of itself and of the line before.  A search that was killed while
 * it wrote leaves a last line that is cut or damaged, which is left out; anything else that does
 * not fit is an error, so that no journal is ever overwritten by mistake. */
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "prove/search.h"

#define JOURNAL_CHECK ", \"check\": \""
#define JOURNAL_TAIL (sizeof(JOURNAL_CHECK) - 1 + 16 + 2)   /* with "} behind the digits */

static void journal_number(struct mk_text *t, const char *name, uint64_t v)
{
    char buffer[64];

    mk_text_add(t, buffer, mk_format(buffer, sizeof(buffer), ", \"%s\": %llu", name,
                                     (unsigned long long)v));
}

static void journal_hex(char *out, uint64_t v)
{
    for (size_t i = 0; i < 16; i++)
        out[i] = "0123456789abcdef"[v >> (60 - 4 * i) & 15];
}

/* End a line; check becomes its checksum. */
static void journal_end(struct mk_text *t, uint64_t *check)
{
    char digits[16];

    if (t->failed)
        return;
    *check = mk_hash(*check, t->data, t->len);
    journal_hex(digits, *check);
    mk_text_adds(t, JOURNAL_CHECK);
    mk_text_add(t, digits, sizeof(digits));
    mk_text_adds(t, "\"}\n");
}

/* The first line.  What it holds decides what the completions mean. */
static void journal_head(struct mk_text *t, const struct minke_search *s, uint64_t *check)
{
    const minke_search_params *p = &s->p;
    char hash[16];

    mk_text_adds(t, "{\"minke_search\": 1");
    journal_number(t, "driver", p->driver);
    journal_number(t, "preset", p->preset);
    journal_number(t, "mode", p->mode);
    journal_number(t, "n_first", p->n_first);
    journal_number(t, "n_verifications", p->n_verifications);
    journal_number(t, "n_meta", p->n_meta);
    journal_number(t, "n_best", p->n_best);
    journal_number(t, "n_analyses", p->n_analyses);
    journal_number(t, "n_samples", p->n_samples);
    journal_number(t, "max_rounds", p->max_rounds);
    journal_number(t, "seed", p->seed);
    journal_hex(hash, s->prompts_hash);
    mk_text_adds(t, ", \"prompts\": \"");
    mk_text_add(t, hash, sizeof(hash));
    mk_text_adds(t, "\", \"problem\": ");
    mk_text_add_quoted(t, s->problem.data, s->problem.len);
    *check = 0;
    journal_end(t, check);
}

/* ---- Writing ------------------------------------------------------------- */

int32_t mk_journal_add(struct minke_search *s, const struct mk_completion *c)
{
    uint64_t check = s->journal_check;
    struct mk_text line;
    char buffer[64];
    int32_t rc;

    mk_text_init(&line, &s->env.alloc);
    mk_text_add(&line, buffer, mk_format(buffer, sizeof(buffer), "{\"request\": %u", c->request));
    journal_number(&line, "i", c->index);
    journal_number(&line, "reason", (uint64_t)c->reason);
    journal_number(&line, "thinking", c->n_thinking);
    mk_text_adds(&line, ", \"text\": ");
    mk_text_add_quoted(&line, c->text.data, c->text.len);
    journal_end(&line, &check);
    rc = line.failed ? mk_fail_memory(line.len, "a line of the journal")
                     : mk_append_write(s->journal, line.data, line.len);
    if (rc == MINKE_OK)
        s->journal_check = check;
    mk_text_free(&line);
    return rc;
}

/* ---- Reading ------------------------------------------------------------- */

/* Whether a line, without its break, has the right checksum behind the one of the line before. */
static int journal_is_whole(const char *line, size_t n, uint64_t *check)
{
    char tail[JOURNAL_TAIL];
    uint64_t sum;

    if (n < JOURNAL_TAIL)
        return 0;
    sum = mk_hash(*check, line, n - JOURNAL_TAIL);
    memcpy(tail, JOURNAL_CHECK, sizeof(JOURNAL_CHECK) - 1);
    journal_hex(tail + sizeof(JOURNAL_CHECK) - 1, sum);
    memcpy(tail + JOURNAL_TAIL - 2, "\"}", 2);
    if (memcmp(line + n - JOURNAL_TAIL, tail, JOURNAL_TAIL) != 0)
        return 0;
    *check = sum;
    return 1;
}

static int journal_field(const struct mk_json *v, const char *name, int64_t most, int64_t *out)
{
    return mk_json_int(mk_json_get(v, name), out) == 0 && *out >= 0 && *out <= most;
}

static int32_t journal_keep(struct minke_search *s, const char *line, size_t n, size_t number)
{
    struct mk_arena arena;
    const struct mk_json *v, *text;
    int64_t request, index, reason, thinking;
    int32_t rc;

    mk_arena_init(&arena, &s->env.alloc);
    rc = mk_json_parse(&v, &arena, line, n, "journal");
    if (rc == MINKE_OK) {
        text = mk_json_get(v, "text");
        if (text == NULL || text->type != MK_JSON_STRING
            || !journal_field(v, "request", UINT32_MAX, &request)
            || !journal_field(v, "i", UINT32_MAX, &index)
            || !journal_field(v, "reason", MINKE_FINISH_FULL, &reason)
            || !journal_field(v, "thinking", INT64_MAX, &thinking))
            rc = mk_fail(MINKE_EFORMAT, "%s: line %zu is no completion", s->journal_path,
                         number);
    }
    if (rc == MINKE_OK) {
        const struct mk_completion c = {{text->text.data, text->text.len}, (uint64_t)thinking,
                                        (uint32_t)request, (uint32_t)index, (int32_t)reason};

        rc = mk_search_keep(s, &c);
    }
    mk_arena_free(&arena);
    return rc;
}

/* Why a first line is not ours. */
static int32_t journal_other(struct minke_search *s, const char *line, size_t n)
{
    struct mk_arena arena;
    const struct mk_json *v = NULL, *problem;
    int32_t rc;

    mk_arena_init(&arena, &s->env.alloc);
    rc = mk_json_parse(&v, &arena, line, n, s->journal_path);
    problem = rc == MINKE_OK ? mk_json_get(v, "problem") : NULL;
    if (rc == MINKE_EFORMAT
        || (rc == MINKE_OK && (mk_json_get(v, "minke_search") == NULL || problem == NULL
                               || problem->type != MK_JSON_STRING)))
        rc = mk_fail(MINKE_EFORMAT, "%s: not the journal of a search", s->journal_path);
    else if (rc == MINKE_OK && (problem->text.len != s->problem.len
                                || memcmp(problem->text.data, s->problem.data, s->problem.len)))
        rc = mk_fail(MINKE_EINVAL, "%s: the journal of another problem", s->journal_path);
    else if (rc == MINKE_OK)
        rc = mk_fail(MINKE_EINVAL, "%s: the journal of other settings or prompts, or damaged",
                     s->journal_path);
    mk_arena_free(&arena);
    return rc;
}

/* The completions of text; *used: bytes of whole lines, 0 when not even the first is. */
static int32_t journal_read(struct minke_search *s, const char *text, size_t n,
                            const struct mk_text *head, size_t *used)
{
    size_t at = head->len, number = 2;

    *used = 0;
    if (n < head->len && memcmp(text, head->data, n) == 0)
        return MINKE_OK;         /* cut while the first line was written */
    if (n < head->len || memcmp(text, head->data, head->len) != 0) {
        const char *end = memchr(text, '\n', n);

        return journal_other(s, text, end != NULL ? (size_t)(end - text) : n);
    }
    for (; at < n; number++) {
        const char *end = memchr(text + at, '\n', n - at);
        const size_t len = end != NULL ? (size_t)(end - (text + at)) : n - at;
        int32_t rc;

        if (end == NULL)
            break;
        if (!journal_is_whole(text + at, len, &s->journal_check)) {
            if (at + len + 1 == n)
                break;           /* the last line */
            return mk_fail(MINKE_EFORMAT, "%s: line %zu is damaged", s->journal_path, number);
        }
        if ((rc = journal_keep(s, text + at, len, number)) < 0)
            return rc;
        at += len + 1;
    }
    *used = at;
    return MINKE_OK;
}

int32_t mk_journal_open(struct minke_search *s)
{
    struct mk_text head;
    char *text = NULL;
    size_t n = 0, used = 0;
    int32_t rc;

    mk_text_init(&head, &s->env.alloc);
    journal_head(&head, s, &s->journal_check);
    if (head.failed)
        rc = mk_fail_memory(head.len, "the journal");
    else
        rc = mk_file_load(&text, &n, &s->env, s->journal_path, SIZE_MAX / 2);
    if (rc == MINKE_OK && text != NULL)
        rc = journal_read(s, text, n, &head, &used);
    if (rc == MINKE_OK)
        rc = mk_append_open(&s->journal, &s->env.alloc, s->journal_path, used);
    if (rc == MINKE_OK && used == 0)
        rc = mk_append_write(s->journal, head.data, head.len);
    mk_free(&s->env.alloc, text);
    mk_text_free(&head);
    return rc;
}
