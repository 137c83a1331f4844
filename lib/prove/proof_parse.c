/* The sections and scores of a proof that judges itself.
 * Reference: DeepSeek-Math-V2 inference/utils.py @665c840 and its uses in main.py: what its
 * patterns match, found here by hand in linear time.  Differs: scores are digits of ASCII. */
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/utf8.h"
#include "prove/proof.h"
#include "learn/reward.h"
#include "text/unicode.h"

#define PROOF_THINK_END "</think>"
#define PROOF_SOLUTION "## Solution"
#define PROOF_SELF "## Self Evaluation"

/* ---- White space --------------------------------------------------------- */

/* Bytes of the white-space character at i, 0 when there is another. */
static size_t proof_space(const char *s, size_t n, size_t i)
{
    enum mk_utf8_state state;
    const unsigned char c = (unsigned char)s[i];
    size_t len;

    if (c < 0x80)
        return c == ' ' || (c >= 9 && c <= 13);
    len = mk_utf8_unit(s + i, n - i, &state);
    if (state != MK_UTF8_VALID)
        return 0;
    return mk_unicode_class(mk_utf8_decode((const unsigned char *)s + i, &len))
                   & MK_UNICODE_SPACE ? len : 0;
}

/* End of the white space that begins at i. */
static size_t proof_skip(const char *s, size_t n, size_t i)
{
    size_t len;

    while (i < n && (len = proof_space(s, n, i)) > 0)
        i += len;
    return i;
}

/* Behind the last line break of the white space that begins at i; 0 when it has none. */
static size_t proof_line_end(const char *s, size_t n, size_t i)
{
    const size_t end = proof_skip(s, n, i);
    size_t last = end;

    while (last > i && s[last - 1] != '\n')
        last--;
    return last > i ? last : 0;
}

/* str.strip also takes the four separators of ASCII, which patterns do not. */
static size_t proof_blank(const char *s, size_t n, size_t i)
{
    return s[i] >= 0x1C && s[i] <= 0x1F ? 1 : proof_space(s, n, i);
}

struct mk_view mk_proof_strip(const char *text, size_t len)
{
    size_t begin = 0, end = len, n;

    while (begin < end && (n = proof_blank(text, end, begin)) > 0)
        begin += n;
    while (end > begin) {
        size_t at = end - 1;

        while (at > begin && end - at < 4 && ((unsigned char)text[at] & 0xC0) == 0x80)
            at--;
        if (proof_blank(text, end, at) != end - at)
            break;
        end = at;
    }
    return (struct mk_view){text != NULL ? text + begin : "", end - begin};
}

/* ---- Finding ------------------------------------------------------------- */

/* Behind the last occurrence of what; 0 when there is none. */
static size_t proof_behind_last(const char *s, size_t n, const char *what)
{
    size_t behind = 0, at = 0;

    while ((at = mk_reward_find(s, n, at, what)) < n)
        behind = at += strlen(what);
    return behind;
}

struct mk_view mk_proof_answer(const char *text, size_t len, size_t *n_before)
{
    const size_t from = len > 0 ? proof_behind_last(text, len, PROOF_THINK_END) : 0;

    if (n_before != NULL)
        *n_before = from;
    return mk_proof_strip(len > 0 ? text + from : text, len - from);
}

/* ---- Boxes --------------------------------------------------------------- */

/* Content of a box that begins at from and ends before end.  An open box holds nothing; in front
 * of '%' the closing brace counts to the content, which is no number then. */
static struct mk_view proof_box(const char *s, size_t from, size_t end)
{
    size_t depth = 0;

    for (size_t i = from; i < end; i++) {
        if (s[i] == '{')
            depth++;
        else if (s[i] == '}' && depth-- == 0)
            return mk_proof_strip(s + from, i - from + (i + 1 < end && s[i + 1] == '%'));
    }
    return (struct mk_view){"", 0};
}

struct mk_view mk_proof_boxed(const char *text, size_t len)
{
    static const char mark[] = "boxed{";
    struct mk_view last = {NULL, 0};
    size_t at = len > 0 ? mk_reward_find(text, len, 0, mark) : 0;

    while (at < len) {
        const size_t from = at + sizeof(mark) - 1;

        at = mk_reward_find(text, len, from, mark);
        const struct mk_view box = proof_box(text, from, at);

        if (box.len > 0)
            last = box;
    }
    return last;
}

/* ---- Numbers ------------------------------------------------------------- */

#define PROOF_DIGITS 330u    /* more before the point are beyond any double */

/* Digits at i, single underscores between them left out, the first PROOF_DIGITS of them (but for
 * leading zeros with trim) appended to out.  Returns where they end. */
static size_t proof_digits(const char *s, size_t n, size_t i, int trim, char *out, size_t *n_out)
{
    const size_t begin = i, first = *n_out;

    while (i < n) {
        if (s[i] == '_' && i > begin && s[i - 1] != '_' && i + 1 < n) {
            i++;
            if (s[i] < '0' || s[i] > '9')
                return i - 1;
        }
        if (s[i] < '0' || s[i] > '9')
            break;
        if (!(trim && s[i] == '0' && *n_out == first) && *n_out - first < PROOF_DIGITS)
            out[(*n_out)++] = s[i];
        i++;
    }
    return i;
}

static int proof_word(const char *s, size_t n, const char *lower)
{
    if (strlen(lower) != n)
        return 0;
    for (size_t i = 0; i < n; i++)
        if ((s[i] | 0x20) != lower[i])
            return 0;
    return 1;
}

int mk_proof_number(const char *s, size_t n, double *out)
{
    char b[2 * PROOF_DIGITS + PROOF_DIGITS + 8];
    const size_t sign = n > 0 && (s[0] == '+' || s[0] == '-');
    const int negative = sign && s[0] == '-';
    size_t i = sign, k = 0, from, n_digits;

    if (proof_word(s + sign, n - sign, "nan") || proof_word(s + sign, n - sign, "inf")
        || proof_word(s + sign, n - sign, "infinity")) {
        *out = (s[sign] | 0x20) == 'n' ? (double)NAN : negative ? -(double)INFINITY
                                                                : (double)INFINITY;
        return 0;
    }
    if (negative)
        b[k++] = '-';
    from = k;
    i = proof_digits(s, n, i, 1, b, &k);
    n_digits = i - sign;
    if (k == from)
        b[k++] = '0';
    if (i < n && s[i] == '.') {
        b[k++] = '.';
        from = i + 1;
        i = proof_digits(s, n, from, 0, b, &k);
        n_digits += i - from;
        if (i == from)
            k--;
    }
    if (n_digits == 0)
        return -1;
    if (i < n && (s[i] | 0x20) == 'e') {
        b[k++] = 'e';
        i++;
        if (i < n && (s[i] == '+' || s[i] == '-'))
            b[k++] = s[i++];
        from = i;
        i = proof_digits(s, n, from, 0, b, &k);
        if (i == from)
            return -1;
    }
    return i == n && mk_number_read(b, k, out) == k ? 0 : -1;
}

/* ---- Scores -------------------------------------------------------------- */

/* The phrases in front of an evaluation and of its score; of an analysis of one. */
static const char *const proof_heads[2] = {
    "Here is my evaluation of the solution:",
    "Here is my analysis of the \"solution evaluation\":"};
static const char *const proof_tails[3] = {
    "Based on my evaluation, the final overall score should be:",
    "Based on my evaluation, the final overal score should be:",
    "Based on my analysis, I will rate the \"solution evaluation\" as:"};

/* Behind the phrase that announces the score, of an evaluation or an analysis; 0 when a phrase
 * is missing.  *head: where the first phrase begins. */
static size_t proof_phrases(const char *s, size_t n, int analysis, size_t *head)
{
    size_t behind = 0;

    *head = n > 0 ? mk_reward_find(s, n, 0, proof_heads[analysis]) : n;
    if (*head == n)
        return 0;
    for (size_t i = analysis ? 2 : 0; i < (analysis ? 3u : 2u); i++)
        behind = mk_max(behind, proof_behind_last(s + *head, n - *head, proof_tails[i]));
    return behind > 0 ? *head + behind : 0;
}

static int proof_strict_score(const char *s, size_t n, double *score)
{
    static const struct {
        const char *text;
        double score;
    } known[] = {{"\\boxed{0}", 0}, {"\\boxed{0.5}", 0.5}, {"\\boxed{1}", 1}};

    for (int analysis = 0; analysis < 2; analysis++) {
        size_t head;
        const size_t behind = proof_phrases(s, n, analysis, &head);

        if (behind == 0 || head != 0)
            continue;
        const struct mk_view rest = mk_proof_strip(s + behind, n - behind);

        for (size_t i = 0; i < MK_COUNT(known); i++)
            if (rest.len == strlen(known[i].text)
                && memcmp(rest.data, known[i].text, rest.len) == 0) {
                *score = known[i].score;
                return 0;
            }
    }
    return -1;
}

int mk_proof_score(const char *text, size_t len, uint32_t mode, double *score)
{
    const struct mk_view s = mk_proof_answer(text, len, NULL);
    struct mk_view box;
    double value;

    if (mode == MINKE_PROOF_STRICT)
        return proof_strict_score(s.data, s.len, score);
    box = mk_proof_boxed(s.data, s.len);
    if (box.data == NULL || mk_proof_number(box.data, box.len, &value) != 0)
        return -1;
    if (mode == MINKE_PROOF_DEFAULT && !(value >= 0 && value <= 1))
        return -1;
    *score = value;
    return 0;
}

int mk_proof_format(const char *text, size_t len, double *score)
{
    const struct mk_view s = mk_proof_answer(text, len, NULL);

    for (int analysis = 0; analysis < 2; analysis++) {
        size_t head;
        const size_t behind = proof_phrases(s.data, s.len, analysis, &head);

        if (behind > 0)
            return mk_proof_score(s.data + behind, s.len - behind, MINKE_PROOF_DEFAULT, score);
    }
    return -1;
}

/* ---- Sections ------------------------------------------------------------ */

struct proof_heading {
    const char *title, *line;   /* "Solution", "## Solution" */
    int stars;                  /* find "**title**" on a line, with white space around */
    int first;                  /* it may begin the text */
};

/* Where a heading that begins at i ends, behind its line breaks; 0 when there is none. */
static size_t proof_heading_end(const char *s, size_t n, size_t i, const struct proof_heading *h)
{
    const char *what = h->stars ? h->title : h->line;
    const size_t len = strlen(what);
    size_t from;

    if (h->stars) {
        i = proof_skip(s, n, i);
        for (from = i; i < n && s[i] == '*';)
            i++;
        if (i == from)
            return 0;
        i = proof_skip(s, n, i);
    }
    if (n - i < len || memcmp(s + i, what, len) != 0)
        return 0;
    i += len;
    if (h->stars) {
        i = proof_skip(s, n, i);
        for (from = i; i < n && s[i] == '*';)
            i++;
        if (i == from)
            return 0;
    }
    return proof_line_end(s, n, i);
}

/* The first heading at i or later, and where it ends: *end, or n and n.  What fails at the
 * first line break of some white space fails at each of it. */
static size_t proof_next_heading(const char *s, size_t n, size_t i, const struct proof_heading *h,
                                 size_t *end)
{
    if (i == 0 && h->first && n > 0 && (*end = proof_heading_end(s, n, 0, h)) > 0)
        return 0;
    while (i < n) {
        if (s[i] != '\n')
            i++;
        else if ((*end = proof_heading_end(s, n, i + 1, h)) > 0)
            return i;
        else
            i = h->stars ? mk_max(i + 1, proof_skip(s, n, i)) : i + 1;
    }
    return *end = n;
}

/* Every such heading as a line of its own. */
static void proof_normalise(struct mk_text *out, const char *s, size_t n,
                            const struct proof_heading *h)
{
    size_t from = 0, end, at;

    while ((at = proof_next_heading(s, n, from, h, &end)) < n) {
        mk_text_add(out, s + from, at - from);
        mk_text_adds(out, "\n");
        mk_text_adds(out, h->line);
        mk_text_adds(out, "\n");
        from = end;
    }
    mk_text_add(out, s + from, n - from);
}

/* The first "## Solution" of piece, in the middle of a line too, and where it ends. */
static size_t proof_solution_mark(const char *s, size_t n, size_t from, size_t *end)
{
    const size_t len = sizeof(PROOF_SOLUTION) - 1;

    for (; from < n; from += len) {
        from = mk_reward_find(s, n, from, PROOF_SOLUTION);
        if (from < n && (*end = proof_line_end(s, n, from + len)) > 0)
            return from;
        if (from == n)
            break;
    }
    return *end = n;
}

static int32_t proof_cut(struct mk_text *solution, struct mk_text *evaluation, const char *s,
                         size_t n)
{
    const struct proof_heading self = {"Self Evaluation", PROOF_SELF, 0, 0};
    size_t self_end, next, end, from;
    const size_t self_at = proof_next_heading(s, n, 0, &self, &self_end);

    if (self_at == n)
        return MINKE_EFORMAT;
    if (proof_solution_mark(s, self_at, 0, &from) == self_at)
        return MINKE_EFORMAT;
    next = proof_solution_mark(s, self_at, from, &end);
    const struct mk_view a = mk_proof_strip(s + from, next - from);

    /* A heading directly behind this one has no line break left to begin with. */
    next = proof_next_heading(s, n, self_end, &self, &end);
    const struct mk_view b = mk_proof_strip(s + self_end, next - self_end);

    mk_text_add(solution, a.data, a.len);
    mk_text_add(evaluation, b.data, b.len);
    return solution->failed || evaluation->failed ? MINKE_ENOMEM : MINKE_OK;
}

static int32_t proof_split_released(struct mk_text *solution, struct mk_text *evaluation,
                                    struct mk_view s)
{
    static const struct proof_heading passes[4] = {
        {"Solution", PROOF_SOLUTION, 1, 1}, {"Self Evaluation", PROOF_SELF, 1, 0},
        {"Solution", PROOF_SOLUTION, 0, 1}, {"Self Evaluation", PROOF_SELF, 0, 0}};
    struct mk_text text[2];
    int32_t rc = MINKE_ENOMEM;

    mk_text_init(&text[0], solution->a);
    mk_text_init(&text[1], solution->a);
    for (size_t i = 0; i < 4; i++) {
        struct mk_text *out = &text[i & 1];

        out->len = 0;
        proof_normalise(out, s.data, s.len, &passes[i]);
        if (out->failed)
            goto fail;
        s = (struct mk_view){out->data != NULL ? out->data : "", out->len};
    }
    s = mk_proof_strip(s.data, s.len);
    rc = proof_cut(solution, evaluation, s.data, s.len);

fail:
    mk_text_free(&text[0]);
    mk_text_free(&text[1]);
    return rc;
}

/* The one line of s that is exactly what, at *at; 0 when there is none or another one. */
static int proof_only_line(const char *s, size_t n, const char *what, size_t *at)
{
    const size_t len = strlen(what);
    int found = 0;

    for (size_t i = 0; (i = mk_reward_find(s, n, i, what)) < n; i += len)
        if ((i == 0 || s[i - 1] == '\n') && i + len < n && s[i + len] == '\n') {
            *at = i;
            found++;
        }
    return found == 1;
}

static int32_t proof_split_strict(struct mk_text *solution, struct mk_text *evaluation,
                                  struct mk_view s)
{
    size_t first = 0, second = 0;
    double score;

    if (s.len == 0 || !proof_only_line(s.data, s.len, PROOF_SOLUTION, &first)
        || !proof_only_line(s.data, s.len, PROOF_SELF, &second) || first != 0)
        return MINKE_EFORMAT;
    first += sizeof(PROOF_SOLUTION) - 1;
    const struct mk_view a = mk_proof_strip(s.data + first, second - first);

    second += sizeof(PROOF_SELF) - 1;
    const struct mk_view b = mk_proof_strip(s.data + second, s.len - second);

    if (a.len == 0 || proof_strict_score(b.data, b.len, &score) != 0)
        return MINKE_EFORMAT;
    mk_text_add(solution, a.data, a.len);
    mk_text_add(evaluation, b.data, b.len);
    return solution->failed || evaluation->failed ? MINKE_ENOMEM : MINKE_OK;
}

int32_t mk_proof_split(struct mk_text *solution, struct mk_text *evaluation, const char *text,
                       size_t len, uint32_t mode)
{
    const struct mk_view s = mk_proof_answer(text, len, NULL);

    if (mode == MINKE_PROOF_STRICT)
        return proof_split_strict(solution, evaluation, s);
    return proof_split_released(solution, evaluation, s);
}
