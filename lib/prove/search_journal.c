/* The journal of a search: one line of JSON for its settings, one for every completion.
 *
 * A line ends with a checksum of itself and of the line before.  A search that was killed while
 * it wrote leaves a last line that is cut or damaged, which is left out; anything else that does
 * not fit is an error, so that no journal is ever overwritten by mistake. */
#include "base/error.h"
#include "base/hash.h"
#include "prove/search.h"

/* ---- Writing ------------------------------------------------------------- */

#define JOURNAL_TAIL 30u         /* bytes */

static void journal_tail(char out[JOURNAL_TAIL + 1], uint64_t check)
{
    char digits[17];

    mk_hex(digits, check);
    mk_format(out, JOURNAL_TAIL + 1, ", \"check\": \"%s\"}", digits);
}

/* End a line; check becomes its checksum. */
static void journal_end(struct mk_text *t, uint64_t *check)
{
    char tail[JOURNAL_TAIL + 1];

    *check = mk_hash(*check, t->data, t->len);
    journal_tail(tail, *check);
    mk_text_addf(t, "%s\n", tail);
}

/* The first line.  What it holds decides what the completions mean. */
static void journal_head(struct mk_text *t, const struct minke_search *s, uint64_t *check)
{
    const char *name;
    uint32_t value;
    char hash[17];

    mk_text_adds(t, "{\"minke_search\": 1");
    for (size_t i = 0; (name = mk_search_setting(&s->p, i, &value)) != NULL; i++)
        mk_text_addf(t, ", \"%s\": %u", name, value);
    mk_hex(hash, s->prompts_hash);
    mk_text_addf(t, ", \"seed\": %llu, \"prompts\": \"%s\", \"problem\": ",
                 (unsigned long long)s->p.seed, hash);
    mk_text_add_quoted(t, s->problem.data, s->problem.len);
    *check = 0;
    journal_end(t, check);
}

int32_t mk_journal_add(struct minke_search *s, const struct mk_completion *c)
{
    uint64_t check = s->journal_check;
    struct mk_text line;
    int32_t rc;

    mk_text_init(&line, &s->env.alloc);
    mk_text_addf(&line, "{\"request\": %u, \"i\": %u, \"reason\": %d, \"thinking\": %llu, "
                 "\"text\": ", c->request, c->index, c->reason,
                 (unsigned long long)c->n_thinking);
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
static int journal_is_whole(struct mk_view line, uint64_t *check)
{
    char tail[JOURNAL_TAIL + 1];

    if (line.len < JOURNAL_TAIL)
        return 0;
    const uint64_t sum = mk_hash(*check, line.data, line.len - JOURNAL_TAIL);

    journal_tail(tail, sum);
    if (!mk_view_has(line, line.len - JOURNAL_TAIL, mk_view(tail)))
        return 0;
    *check = sum;
    return 1;
}

static int journal_field(const struct mk_json *v, const char *name, int64_t most, int64_t *out)
{
    return mk_json_int(mk_json_get(v, name), out) == 0 && *out >= 0 && *out <= most;
}

static int32_t journal_keep(struct minke_search *s, struct mk_view line, size_t number)
{
    struct mk_arena arena;
    const struct mk_json *v, *text;
    int64_t request, index, reason, thinking;
    int32_t rc;

    mk_arena_init(&arena, &s->env.alloc);
    if ((rc = mk_json_parse(&v, &arena, line.data, line.len, "journal")) < 0)
        goto done;
    text = mk_json_get(v, "text");
    if (text == NULL || text->type != MK_JSON_STRING
        || !journal_field(v, "request", UINT32_MAX, &request)
        || !journal_field(v, "i", UINT32_MAX, &index)
        || !journal_field(v, "reason", MINKE_FINISH_FULL, &reason)
        || !journal_field(v, "thinking", INT64_MAX, &thinking)) {
        rc = mk_fail(MINKE_EFORMAT, "%s: line %zu is no completion", s->p.journal, number);
        goto done;
    }
    const struct mk_completion c = {text->text, (uint64_t)thinking, (uint32_t)request,
                                    (uint32_t)index, (int32_t)reason};

    rc = mk_search_keep(s, &c);
done:
    mk_arena_free(&arena);
    return rc;
}

/* Why a first line is not ours. */
static int32_t journal_other(struct minke_search *s, struct mk_view line)
{
    struct mk_arena arena;
    const struct mk_json *v = NULL, *problem;
    int32_t rc;

    mk_arena_init(&arena, &s->env.alloc);
    rc = mk_json_parse(&v, &arena, line.data, line.len, s->p.journal);
    problem = rc == MINKE_OK ? mk_json_get(v, "problem") : NULL;
    if (rc == MINKE_EFORMAT
        || (rc == MINKE_OK && (mk_json_get(v, "minke_search") == NULL || problem == NULL
                               || problem->type != MK_JSON_STRING)))
        rc = mk_fail(MINKE_EFORMAT, "%s: not the journal of a search", s->p.journal);
    else if (rc == MINKE_OK && !mk_view_equal(problem->text, s->problem))
        rc = mk_fail(MINKE_EINVAL, "%s: the journal of another problem", s->p.journal);
    else if (rc == MINKE_OK)
        rc = mk_fail(MINKE_EINVAL, "%s: the journal of other settings or prompts, or damaged",
                     s->p.journal);
    mk_arena_free(&arena);
    return rc;
}

/* The completions of text; *used: bytes of whole lines, 0 when not even the first is. */
static int32_t journal_read(struct minke_search *s, struct mk_view text, struct mk_view head,
                            size_t *used)
{
    const struct mk_view newline = MK_VIEW("\n");
    size_t at = head.len, number = 2, end;
    int32_t rc;

    *used = 0;
    if (text.len < head.len && mk_view_has(head, 0, text))
        return MINKE_OK;         /* cut while the first line was written */
    if (!mk_view_has(text, 0, head))
        return journal_other(s, mk_view_part(text, 0, mk_view_find(text, 0, newline)));
    for (; (end = mk_view_find(text, at, newline)) < text.len; at = end + 1, number++) {
        const struct mk_view line = mk_view_part(text, at, end);

        if (!journal_is_whole(line, &s->journal_check)) {
            if (end + 1 == text.len)
                break;           /* the last line */
            return mk_fail(MINKE_EFORMAT, "%s: line %zu is damaged", s->p.journal, number);
        }
        if ((rc = journal_keep(s, line, number)) < 0)
            return rc;
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
    rc = head.failed ? mk_fail_memory(head.len, "the journal")
                     : mk_file_load(&text, &n, &s->env, s->p.journal, SIZE_MAX / 2);
    if (rc == MINKE_OK && text != NULL)
        rc = journal_read(s, (struct mk_view){text, n}, mk_text_view(&head), &used);
    if (rc == MINKE_OK)
        rc = mk_append_open(&s->journal, &s->env.alloc, s->p.journal, used);
    if (rc == MINKE_OK && used == 0)
        rc = mk_append_write(s->journal, head.data, head.len);
    mk_free(&s->env.alloc, text);
    mk_text_free(&head);
    return rc;
}
