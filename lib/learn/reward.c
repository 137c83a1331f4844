/* Rewards that follow from exact rules: length, format, language, rubrics. */
#include "learn/reward.h"

#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/env.h"
#include "base/error.h"
#include "base/utf8.h"
#include "text/unicode.h"

/* ---- Length -------------------------------------------------------------- */

double mk_reward_overlong(uint64_t n, uint64_t max, uint64_t cache)
{
    if (n <= max - cache)
        return 0;
    if (n > max)
        return -1;
    return -(double)(n - (max - cache)) / (double)cache;
}

int32_t minke_reward_overlong(uint64_t length, uint64_t max, uint64_t cache, double *reward)
{
    if (reward == NULL)
        return mk_fail(MINKE_EINVAL, "reward is NULL");
    if (cache > max)
        return mk_fail(MINKE_EINVAL, "cache is %llu, more than max, %llu",
                       (unsigned long long)cache, (unsigned long long)max);
    *reward = mk_reward_overlong(length, max, cache);
    return MINKE_OK;
}

/* ---- Format -------------------------------------------------------------- */

static int reward_is_blank(struct mk_view s)
{
    return mk_view_trim(s).len == 0;
}

/* Behind the one place where tag stands; 0 when there is none or another. */
static size_t reward_once(struct mk_view s, const char *tag)
{
    const struct mk_view part = mk_view(tag);
    const size_t at = mk_view_find(s, 0, part);

    return at == s.len || mk_view_find(s, at + 1, part) < s.len ? 0 : at + part.len;
}

/* Reference: TRL rewards/format_rewards.py @f2cd577, the pattern that minke.h quotes. */
static int reward_format(struct mk_view s, uint32_t rule)
{
    const size_t think = reward_once(s, "<think>");
    const size_t end = mk_view_find(s, think, mk_view("</think>"));
    const size_t open = reward_once(s, "<answer>"), close = reward_once(s, "</answer>");

    if (think != 7 || end == s.len || rule == MINKE_REWARD_FORMAT_THINK)
        return think == 7 && end < s.len;
    return open >= end + 16 && close >= open + 9
           && reward_is_blank(mk_view_part(s, end + 8, open - 8))
           && reward_is_blank(mk_view_part(s, close, s.len));
}

int32_t minke_reward_format(const char *text, size_t text_len, uint32_t rule, double *reward)
{
    if ((text == NULL && text_len > 0) || reward == NULL)
        return mk_fail(MINKE_EINVAL, "text or reward is NULL");
    if (rule > MINKE_REWARD_FORMAT_ANSWER)
        return mk_fail(MINKE_EINVAL, "rule is %u, at most %u expected", rule,
                       MINKE_REWARD_FORMAT_ANSWER);
    *reward = reward_format((struct mk_view){text, text_len}, rule);
    return MINKE_OK;
}

/* ---- Language ------------------------------------------------------------ */

enum reward_script {
    REWARD_OTHER, REWARD_LATIN, REWARD_GREEK, REWARD_CYRILLIC, REWARD_HEBREW, REWARD_ARABIC,
    REWARD_DEVANAGARI, REWARD_THAI, REWARD_HANGUL, REWARD_HAN, REWARD_KANA
};

/* Blocks of Unicode 16.0 by script, ascending. */
static const struct {
    uint32_t first, last;
    enum reward_script script;
} reward_blocks[] = {
    {0x41, 0x24F, REWARD_LATIN}, {0x250, 0x2AF, REWARD_LATIN}, {0x370, 0x3FF, REWARD_GREEK},
    {0x400, 0x52F, REWARD_CYRILLIC}, {0x590, 0x5FF, REWARD_HEBREW},
    {0x600, 0x6FF, REWARD_ARABIC}, {0x750, 0x77F, REWARD_ARABIC}, {0x8A0, 0x8FF, REWARD_ARABIC},
    {0x900, 0x97F, REWARD_DEVANAGARI}, {0xE00, 0xE7F, REWARD_THAI},
    {0x1100, 0x11FF, REWARD_HANGUL}, {0x1C80, 0x1C8F, REWARD_CYRILLIC},
    {0x1D00, 0x1DBF, REWARD_LATIN}, {0x1E00, 0x1EFF, REWARD_LATIN},
    {0x1F00, 0x1FFF, REWARD_GREEK}, {0x2C60, 0x2C7F, REWARD_LATIN},
    {0x2DE0, 0x2DFF, REWARD_CYRILLIC}, {0x3005, 0x3007, REWARD_HAN},
    {0x3041, 0x30FF, REWARD_KANA}, {0x3131, 0x318E, REWARD_HANGUL},
    {0x31F0, 0x31FF, REWARD_KANA}, {0x3400, 0x4DBF, REWARD_HAN}, {0x4E00, 0x9FFF, REWARD_HAN},
    {0xA640, 0xA69F, REWARD_CYRILLIC}, {0xA720, 0xA7FF, REWARD_LATIN},
    {0xA960, 0xA97F, REWARD_HANGUL}, {0xAB30, 0xAB6F, REWARD_LATIN},
    {0xAC00, 0xD7FF, REWARD_HANGUL}, {0xF900, 0xFAFF, REWARD_HAN},
    {0xFB00, 0xFB06, REWARD_LATIN}, {0xFB1D, 0xFB4F, REWARD_HEBREW},
    {0xFB50, 0xFDFF, REWARD_ARABIC}, {0xFE70, 0xFEFF, REWARD_ARABIC},
    {0xFF21, 0xFF5A, REWARD_LATIN}, {0xFF66, 0xFF9F, REWARD_KANA},
    {0xFFA0, 0xFFDC, REWARD_HANGUL}, {0x1B000, 0x1B16F, REWARD_KANA},
    {0x20000, 0x323AF, REWARD_HAN},
};

static const struct {
    const char *name;
    enum reward_script script, other;
} reward_names[] = {
    {"latin", REWARD_LATIN, REWARD_LATIN}, {"greek", REWARD_GREEK, REWARD_GREEK},
    {"cyrillic", REWARD_CYRILLIC, REWARD_CYRILLIC}, {"hebrew", REWARD_HEBREW, REWARD_HEBREW},
    {"arabic", REWARD_ARABIC, REWARD_ARABIC}, {"thai", REWARD_THAI, REWARD_THAI},
    {"devanagari", REWARD_DEVANAGARI, REWARD_DEVANAGARI},
    {"hangul", REWARD_HANGUL, REWARD_HANGUL}, {"han", REWARD_HAN, REWARD_HAN},
    {"kana", REWARD_KANA, REWARD_KANA}, {"en", REWARD_LATIN, REWARD_LATIN},
    {"de", REWARD_LATIN, REWARD_LATIN}, {"fr", REWARD_LATIN, REWARD_LATIN},
    {"es", REWARD_LATIN, REWARD_LATIN}, {"it", REWARD_LATIN, REWARD_LATIN},
    {"pt", REWARD_LATIN, REWARD_LATIN}, {"ru", REWARD_CYRILLIC, REWARD_CYRILLIC},
    {"el", REWARD_GREEK, REWARD_GREEK}, {"he", REWARD_HEBREW, REWARD_HEBREW},
    {"ar", REWARD_ARABIC, REWARD_ARABIC}, {"hi", REWARD_DEVANAGARI, REWARD_DEVANAGARI},
    {"th", REWARD_THAI, REWARD_THAI}, {"ko", REWARD_HANGUL, REWARD_HANGUL},
    {"zh", REWARD_HAN, REWARD_HAN}, {"ja", REWARD_HAN, REWARD_KANA},
};

static enum reward_script reward_script(uint32_t c)
{
    for (size_t k = 0; k < MK_COUNT(reward_blocks); k++)
        if (c <= reward_blocks[k].last)
            return c >= reward_blocks[k].first ? reward_blocks[k].script : REWARD_OTHER;
    return REWARD_OTHER;
}

/* A reader of words.  none: texts known not to come any more, so that a text full of openings
 * is read in linear time. */
struct reward_reader {
    struct mk_view s;
    size_t i;
    unsigned none;
};

/* Pairs between which nothing counts, longer ones first. */
static const struct {
    const char *open, *close;
} reward_pairs[] = {
    {"```", "```"}, {"`", "`"}, {"$$", "$$"}, {"\\(", "\\)"}, {"\\[", "\\]"},
};
#define REWARD_NO_DOLLAR (1u << MK_COUNT(reward_pairs))

/* Bytes of what when it stands at the reader, else 0. */
static size_t reward_at(const struct reward_reader *r, const char *what)
{
    const struct mk_view part = mk_view(what);

    return mk_view_has(r->s, r->i, part) ? part.len : 0;
}

static int reward_skip_pair(struct reward_reader *r)
{
    for (size_t k = 0; k < MK_COUNT(reward_pairs); k++) {
        const size_t open = r->none & 1u << k ? 0 : reward_at(r, reward_pairs[k].open);
        const struct mk_view end = mk_view(reward_pairs[k].close);
        const size_t close = open > 0 ? mk_view_find(r->s, r->i + open, end) : r->s.len;

        if (close < r->s.len) {
            r->i = close + end.len;
            return 1;
        }
        if (open > 0)
            r->none |= 1u << k;
    }
    return 0;
}

/* $...$: nothing blank behind the first and in front of the last, and no digit behind that. */
static int reward_skip_dollar(struct reward_reader *r)
{
    const struct mk_view s = r->s;
    size_t i = r->i + 1;

    if ((r->none & REWARD_NO_DOLLAR) || i >= s.len || mk_is_space(s.data[i]))
        return 0;
    for (; i < s.len; i++) {
        if (s.data[i] == '\\') {
            i++;
        } else if (s.data[i] == '$' && !mk_is_space(s.data[i - 1])
                   && !(i + 1 < s.len && s.data[i + 1] >= '0' && s.data[i + 1] <= '9')) {
            r->i = i + 1;
            return 1;
        }
    }
    r->none |= REWARD_NO_DOLLAR;
    return 0;
}

/* Skip what does not count; 0 when nothing of that begins here. */
static int reward_skip(struct reward_reader *r)
{
    static const char *const tags[] = {"<think>", "</think>", "<answer>", "</answer>"};
    const char *s = r->s.data;
    size_t taken = 0;

    if (reward_skip_pair(r) || (s[r->i] == '$' && reward_skip_dollar(r)))
        return 1;
    for (size_t k = 0; k < MK_COUNT(tags) && taken == 0; k++)
        taken = reward_at(r, tags[k]);
    if (s[r->i] == '\\')                         /* a TeX command, letters of ASCII */
        for (taken = 1; r->i + taken < r->s.len && (s[r->i + taken] | 32) >= 'a'
                        && (s[r->i + taken] | 32) <= 'z'; taken++)
            ;
    r->i += taken;
    return taken > 0;
}

/* Script of the character at i, its bytes and its class, 0 for what is neither letter nor mark. */
static enum reward_script reward_letter(const struct reward_reader *r, size_t i, size_t *len,
                                        uint32_t *class)
{
    const int32_t c = mk_utf8_read(r->s.data + i, r->s.len - i, len);

    *class = c < 0 ? 0 : mk_unicode_class((uint32_t)c) & (MK_UNICODE_L | MK_UNICODE_M);
    return c < 0 ? REWARD_OTHER : reward_script((uint32_t)c);
}

/* The next word's script; 0 at the end of the text. */
static int reward_word(struct reward_reader *r, enum reward_script *script)
{
    uint32_t class = 0;
    size_t len;

    while (!(class & MK_UNICODE_L)) {
        if (r->i >= r->s.len)
            return 0;
        if (reward_skip(r))
            continue;
        *script = reward_letter(r, r->i, &len, &class);
        r->i += len;
    }
    while (r->i < r->s.len) {
        const size_t apostrophe = reward_at(r, "'") + reward_at(r, "\xE2\x80\x99");
        enum reward_script s;

        if (r->i + apostrophe == r->s.len)
            break;
        s = reward_letter(r, r->i + apostrophe, &len, &class);
        if (class == 0 || (apostrophe > 0 && !(class & MK_UNICODE_L)))
            break;
        if ((class & MK_UNICODE_L)
            && (s != *script || *script == REWARD_HAN || *script == REWARD_KANA))
            break;
        r->i += apostrophe + len;
    }
    return 1;
}

int32_t minke_reward_language(const char *text, size_t text_len, const char *script, double *share)
{
    struct reward_reader r = {{text, text_len}, 0, 0};
    enum reward_script found = REWARD_OTHER;
    uint64_t words = 0, right = 0;
    size_t k = 0;

    if ((text == NULL && text_len > 0) || script == NULL || share == NULL)
        return mk_fail(MINKE_EINVAL, "text, script or share is NULL");
    while (k < MK_COUNT(reward_names) && strcmp(reward_names[k].name, script) != 0)
        k++;
    if (k == MK_COUNT(reward_names))
        return mk_fail(MINKE_EINVAL, "script \"%s\": no script or language that this build knows",
                       script);
    while (reward_word(&r, &found)) {
        words++;
        right += found == reward_names[k].script || found == reward_names[k].other;
    }
    *share = words > 0 ? (double)right / (double)words : 0;
    return MINKE_OK;
}

/* ---- Rubrics ------------------------------------------------------------- */

static int32_t reward_rubric(const double *scores, const double *weights, size_t n,
                             double *reward)
{
    double sum = 0, weight = 0;

    for (size_t i = 0; i < n; i++) {
        const double w = weights != NULL ? weights[i] : 1;

        if (!isfinite(scores[i]) || !isfinite(w))
            return mk_fail(MINKE_EINVAL, "scores[%zu] is %g, weights[%zu] %g", i, scores[i], i, w);
        sum += w * scores[i];
        weight += fabs(w);
    }
    if (!(weight > 0) || !isfinite(weight) || !isfinite(sum))
        return mk_fail(MINKE_EINVAL, "the weights add up to %g, weighted scores to %g", weight,
                       sum);
    *reward = sum / weight;
    return MINKE_OK;
}

int32_t minke_reward_rubric(const double *scores, const double *weights, size_t n, double *reward)
{
    struct mk_fpu fpu;
    int32_t rc;

    if (scores == NULL || reward == NULL || n == 0)
        return mk_fail(MINKE_EINVAL, "n is %zu, or scores or reward is NULL", n);
    mk_fpu_enter(&fpu);
    rc = reward_rubric(scores, weights, n, reward);
    mk_fpu_leave(&fpu);
    return rc;
}
