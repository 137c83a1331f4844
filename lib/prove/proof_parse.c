/* The sections and scores of a proof that judges itself.
 * Reference: DeepSeek-Math-V2 inference/utils.py @665c840 and its uses in main.py: what its
 * patterns match, found here by hand in linear time.  Differs: scores are digits of ASCII. */
#include <math.h>

#include "base/checked.h"
#include "base/utf8.h"
#include "learn/reward.h"
#include "prove/proof.h"
#include "text/unicode.h"

#define PROOF_SOLUTION "## Solution"
#define PROOF_SELF "## Self Evaluation"
#define PROOF_TITLE 3u       /* bytes in front of a heading's title */

/* ---- White space --------------------------------------------------------- */

/* Bytes of the white-space character at i, 0 when there is another. */
static size_t proof_space(struct mk_view s, size_t i)
{
    size_t len;

    if ((unsigned char)s.data[i] < 0x80)
        return (size_t)mk_is_space(s.data[i]);
    const int32_t c = mk_utf8_read(s.data + i, s.len - i, &len);

    return c >= 0 && (mk_unicode_class((uint32_t)c) & MK_UNICODE_SPACE) ? len : 0;
}

/* End of the white space that begins at i. */
static size_t proof_skip(struct mk_view s, size_t i)
{
    size_t len;

    while (i < s.len && (len = proof_space(s, i)) > 0)
        i += len;
    return i;
}

/* Behind the last line break of the white space that begins at i; 0 when it has none. */
static size_t proof_line_end(struct mk_view s, size_t i)
{
    size_t last = proof_skip(s, i);

    while (last > i && s.data[last - 1] != '\n')
        last--;
    return last > i ? last : 0;
}

/* str.strip also takes the four separators of ASCII, which patterns do not. */
static size_t proof_blank(struct mk_view s, size_t i)
{
    return s.data[i] >= 0x1C && s.data[i] <= 0x1F ? 1 : proof_space(s, i);
}

struct mk_view mk_proof_strip(struct mk_view s)
{
    size_t begin = 0, n;

    while (begin < s.len && (n = proof_blank(s, begin)) > 0)
        begin += n;
    while (s.len > begin) {
        size_t at = s.len - 1;

        while (at > begin && s.len - at < 4 && ((unsigned char)s.data[at] & 0xC0) == 0x80)
            at--;
        if (proof_blank(s, at) != s.len - at)
            break;
        s.len = at;
    }
    return s.data != NULL ? mk_view_part(s, begin, s.len) : mk_view("");
}

/* What a model ended with: without its reasoning. */
static struct mk_view proof_answer(struct mk_view text)
{
    return mk_proof_strip(mk_reward_behind_thinking(text));
}

/* ---- Boxes --------------------------------------------------------------- */

/* Content of a box that begins with s.  An open box holds nothing; in front of '%' the closing
 * brace counts to the content, which is no number then. */
static struct mk_view proof_box(struct mk_view s)
{
    size_t depth = 0;

    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] == '{')
            depth++;
        else if (s.data[i] == '}' && depth-- == 0)
            return mk_proof_strip(mk_view_part(s, 0, i + (i + 1 < s.len && s.data[i + 1] == '%')));
    }
    return mk_view("");
}

struct mk_view mk_proof_boxed(struct mk_view text)
{
    const struct mk_view mark = MK_VIEW("boxed{");
    struct mk_view last = {NULL, 0};
    size_t at = mk_view_find(text, 0, mark);

    while (at < text.len) {
        const size_t from = at + mark.len;

        at = mk_view_find(text, from, mark);
        const struct mk_view box = proof_box(mk_view_part(text, from, at));

        if (box.len > 0)
            last = box;
    }
    return last;
}

/* ---- Numbers ------------------------------------------------------------- */

#define PROOF_DIGITS 330u    /* more before the point are beyond any double */

/* A number of Python's, and as mk_number_read takes it. */
struct proof_number {
    struct mk_view s;
    size_t i, n;             /* read of s, written to out */
    char out[3 * PROOF_DIGITS + 8];
};

static int proof_at(const struct proof_number *p, char c)
{
    return p->i < p->s.len && p->s.data[p->i] == c;
}

/* Copy c when it stands there. */
static int proof_take(struct proof_number *p, char c)
{
    if (!proof_at(p, c))
        return 0;
    p->out[p->n++] = c;
    p->i++;
    return 1;
}

/* Copy digits: the first PROOF_DIGITS of them, but for leading zeros with trim and for single
 * underscores between them.  Whether there are any. */
static int proof_digits(struct proof_number *p, int trim)
{
    const size_t begin = p->i, first = p->n;

    for (;;) {
        const size_t i = p->i + (p->i > begin && proof_at(p, '_'));
        const char c = i < p->s.len ? p->s.data[i] : '\0';

        if (c < '0' || c > '9')
            return p->i > begin;
        if (!(trim && c == '0' && p->n == first) && p->n - first < PROOF_DIGITS)
            p->out[p->n++] = c;
        p->i = i + 1;
    }
}

static int proof_word(struct mk_view s, const char *lower)
{
    size_t i = 0;

    while (i < s.len && (s.data[i] | 0x20) == lower[i])
        i++;
    return i == s.len && lower[i] == '\0';
}

int mk_proof_number(struct mk_view s, double *out)
{
    struct proof_number p = {.s = s};
    const int negative = proof_take(&p, '-');

    p.i += !negative && proof_at(&p, '+');
    const struct mk_view word = mk_view_part(s, p.i, s.len);

    if (proof_word(word, "nan")) {
        *out = (double)NAN;
        return 0;
    }
    if (proof_word(word, "inf") || proof_word(word, "infinity")) {
        *out = negative ? -(double)INFINITY : (double)INFINITY;
        return 0;
    }
    int some = proof_digits(&p, 1);

    if (p.n == (size_t)negative)
        p.out[p.n++] = '0';
    if (proof_take(&p, '.')) {
        const int places = proof_digits(&p, 0);

        p.n -= !places;
        some |= places;
    }
    if (some && (proof_take(&p, 'e') || proof_take(&p, 'E'))) {
        if (!proof_take(&p, '-'))
            proof_take(&p, '+');
        some = proof_digits(&p, 0);
    }
    return some && p.i == s.len && mk_number_read(p.out, p.n, out) == p.n ? 0 : -1;
}

/* ---- Scores -------------------------------------------------------------- */

/* The phrases in front of an evaluation and of its score; of an analysis of one. */
static const struct proof_form {
    const char *head, *tails[2];
} proof_forms[] = {
    {"Here is my evaluation of the solution:",
     {"Based on my evaluation, the final overall score should be:",
      "Based on my evaluation, the final overal score should be:"}},
    {"Here is my analysis of the \"solution evaluation\":",
     {"Based on my analysis, I will rate the \"solution evaluation\" as:", NULL}}};

/* What stands behind the phrase that announces the score; data NULL when a phrase is missing.
 * *head: where the first phrase begins. */
static struct mk_view proof_behind_phrases(struct mk_view s, const struct proof_form *form,
                                           size_t *head)
{
    struct mk_view behind = {NULL, 0};

    *head = mk_view_find(s, 0, mk_view(form->head));
    s = mk_view_part(s, *head, s.len);
    for (size_t i = 0; i < 2 && form->tails[i] != NULL; i++) {
        const struct mk_view rest = mk_view_behind_last(s, mk_view(form->tails[i]));

        if (rest.len < s.len && (behind.data == NULL || rest.len < behind.len))
            behind = rest;
    }
    return behind;
}

static int proof_strict_score(struct mk_view s, double *score)
{
    static const struct {
        const char *text;
        double score;
    } known[] = {{"\\boxed{0}", 0}, {"\\boxed{0.5}", 0.5}, {"\\boxed{1}", 1}};

    for (size_t k = 0; k < MK_COUNT(proof_forms); k++) {
        size_t head;
        const struct mk_view behind = proof_behind_phrases(s, &proof_forms[k], &head);

        for (size_t i = 0; head == 0 && i < MK_COUNT(known); i++)
            if (mk_view_is(mk_proof_strip(behind), known[i].text)) {
                *score = known[i].score;
                return 0;
            }
    }
    return -1;
}

int mk_proof_score(struct mk_view text, uint32_t mode, double *score)
{
    const struct mk_view s = proof_answer(text), box = mk_proof_boxed(s);
    double value;

    if (mode == MINKE_PROOF_MODE_STRICT)
        return proof_strict_score(s, score);
    if (box.data == NULL || mk_proof_number(box, &value) != 0)
        return -1;
    if (mode == MINKE_PROOF_MODE_DEFAULT && !(value >= 0 && value <= 1))
        return -1;
    *score = value;
    return 0;
}

int mk_proof_has_form(struct mk_view text, double *score)
{
    const struct mk_view s = proof_answer(text);

    for (size_t k = 0; k < MK_COUNT(proof_forms); k++) {
        size_t head;
        const struct mk_view behind = proof_behind_phrases(s, &proof_forms[k], &head);

        if (behind.data != NULL)
            return mk_proof_score(behind, MINKE_PROOF_MODE_DEFAULT, score) == 0;
    }
    return 0;
}

/* ---- Sections ------------------------------------------------------------ */

struct proof_heading {
    const char *line;           /* "## Solution" */
    int stars;                  /* find "**Solution**" on a line, with white space around */
    int first;                  /* it may begin the text */
};

/* Behind the stars at i, with white space in front of them or not; 0 when there are none. */
static size_t proof_stars(struct mk_view s, size_t i)
{
    const size_t from = proof_skip(s, i);

    for (i = from; i < s.len && s.data[i] == '*';)
        i++;
    return i > from ? i : 0;
}

/* Where a heading that begins at i ends, behind its line breaks; 0 when there is none. */
static size_t proof_heading_end(struct mk_view s, size_t i, const struct proof_heading *h)
{
    const struct mk_view what = mk_view(h->stars ? h->line + PROOF_TITLE : h->line);

    if (h->stars && (i = proof_stars(s, i)) == 0)
        return 0;
    if (h->stars)
        i = proof_skip(s, i);
    if (!mk_view_has(s, i, what))
        return 0;
    i += what.len;
    if (h->stars && (i = proof_stars(s, i)) == 0)
        return 0;
    return proof_line_end(s, i);
}

/* The first heading at i or later, and where it ends: *end, or s.len for both.  What fails at the
 * first line break of some white space fails at each of it. */
static size_t proof_next_heading(struct mk_view s, size_t i, const struct proof_heading *h,
                                 size_t *end)
{
    if (i == 0 && h->first && s.len > 0 && (*end = proof_heading_end(s, 0, h)) > 0)
        return 0;
    while (i < s.len) {
        if (s.data[i] != '\n')
            i++;
        else if ((*end = proof_heading_end(s, i + 1, h)) > 0)
            return i;
        else
            i = h->stars ? mk_max(i + 1, proof_skip(s, i)) : i + 1;
    }
    return *end = s.len;
}

/* Append s, with every such heading as a line of its own. */
static void proof_normalise(struct mk_text *out, struct mk_view s, const struct proof_heading *h)
{
    size_t from = 0, end, at;

    while ((at = proof_next_heading(s, from, h, &end)) < s.len) {
        mk_text_add_view(out, mk_view_part(s, from, at));
        mk_text_addf(out, "\n%s\n", h->line);
        from = end;
    }
    mk_text_add_view(out, mk_view_part(s, from, s.len));
}

/* The first "## Solution" at from or later, in the middle of a line too, and where it ends. */
static size_t proof_solution_mark(struct mk_view s, size_t from, size_t *end)
{
    const struct mk_view mark = MK_VIEW(PROOF_SOLUTION);

    for (; (from = mk_view_find(s, from, mark)) < s.len; from += mark.len)
        if ((*end = proof_line_end(s, from + mark.len)) > 0)
            return from;
    return *end = s.len;
}

static int32_t proof_cut(struct mk_sections *out, struct mk_view s)
{
    const struct proof_heading self = {PROOF_SELF, 0, 0};
    size_t self_end, next, end, from;
    const size_t self_at = proof_next_heading(s, 0, &self, &self_end);
    const struct mk_view front = mk_view_part(s, 0, self_at);

    if (self_at == s.len || proof_solution_mark(front, 0, &from) == self_at)
        return MINKE_EFORMAT;
    next = proof_solution_mark(front, from, &end);
    out->solution = mk_proof_strip(mk_view_part(s, from, next));
    /* A heading directly behind this one has no line break left to begin with. */
    next = proof_next_heading(s, self_end, &self, &end);
    out->evaluation = mk_proof_strip(mk_view_part(s, self_end, next));
    return MINKE_OK;
}

static int32_t proof_split_released(struct mk_sections *out, struct mk_view s)
{
    static const struct proof_heading passes[] = {
        {PROOF_SOLUTION, 1, 1}, {PROOF_SELF, 1, 0}, {PROOF_SOLUTION, 0, 1}, {PROOF_SELF, 0, 0}};
    struct mk_text other;

    mk_text_init(&other, out->work.a);
    for (size_t i = 0; i < MK_COUNT(passes); i++) {
        struct mk_text *to = i % 2 == 0 ? &other : &out->work;

        to->len = 0;
        proof_normalise(to, s, &passes[i]);
        s = mk_text_view(to);
    }
    mk_text_free(&other);
    return other.failed || out->work.failed ? MINKE_ENOMEM : proof_cut(out, mk_proof_strip(s));
}

/* The one line of s that is exactly what, at *at; 0 when there is none or another one. */
static int proof_only_line(struct mk_view s, struct mk_view what, size_t *at)
{
    int found = 0;

    for (size_t i = 0; (i = mk_view_find(s, i, what)) < s.len; i += what.len)
        if ((i == 0 || s.data[i - 1] == '\n') && i + what.len < s.len
            && s.data[i + what.len] == '\n') {
            *at = i;
            found++;
        }
    return found == 1;
}

static int32_t proof_split_strict(struct mk_sections *out, struct mk_view s)
{
    const struct mk_view first = MK_VIEW(PROOF_SOLUTION), second = MK_VIEW(PROOF_SELF);
    size_t begin = 0, at = 0;
    double score;

    if (!proof_only_line(s, first, &begin) || !proof_only_line(s, second, &at) || begin != 0)
        return MINKE_EFORMAT;
    out->solution = mk_proof_strip(mk_view_part(s, first.len, at));
    out->evaluation = mk_proof_strip(mk_view_part(s, at + second.len, s.len));
    return out->solution.len > 0 && proof_strict_score(out->evaluation, &score) == 0
               ? MINKE_OK : MINKE_EFORMAT;
}

int32_t mk_proof_split(struct mk_sections *out, const struct mk_allocator *a, struct mk_view text,
                       uint32_t mode)
{
    const struct mk_view s = proof_answer(text);

    mk_text_init(&out->work, a);
    return mode == MINKE_PROOF_MODE_STRICT ? proof_split_strict(out, s)
                                           : proof_split_released(out, s);
}
