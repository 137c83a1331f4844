/*
 * The pre-tokenizers of the DeepSeek family, without a regular-expression engine.
 *
 * Reference: the pre_tokenizer sections of the released tokenizer.json files, as Hugging Face
 * tokenizers 0.23 runs them.  Each is a sequence of splits; a split's matches and the gaps
 * between them all become pieces, and the next split sees each piece alone, so look-ahead and
 * end of text stop at its borders.
 */
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/utf8.h"
#include "text/pretoken.h"
#include "text/unicode.h"

#define PRE_LM (MK_UNICODE_L | MK_UNICODE_M)
#define PRE_PS (MK_UNICODE_P | MK_UNICODE_S)

/* Leftmost match of a split in s[i..e): returns its beginning and sets *end, or returns e. */
typedef size_t (*pre_find_fn)(const unsigned char *s, size_t i, size_t e, size_t *end);

/* A set of code points. */
typedef int (*pre_set_fn)(uint32_t c);

static uint32_t pre_class(const unsigned char *s, size_t i, size_t *n)
{
    return mk_unicode_class(mk_utf8_decode(s + i, n));
}

/* End of the run of characters of any of the classes that begins at i. */
static size_t pre_run(const unsigned char *s, size_t i, size_t e, uint32_t classes)
{
    for (size_t n; i < e && (pre_class(s, i, &n) & classes) != 0; i += n)
        ;
    return i;
}

/* End of the run of characters of a set that begins at i. */
static inline size_t pre_run_of(const unsigned char *s, size_t i, size_t e, pre_set_fn is)
{
    for (size_t n; i < e && is(mk_utf8_decode(s + i, &n)); i += n)
        ;
    return i;
}

/* The first character of a set, of n bytes. */
static inline size_t pre_first_of(const unsigned char *s, size_t i, size_t e, pre_set_fn is,
                                  size_t *n)
{
    for (; i < e && !is(mk_utf8_decode(s + i, n)); i += *n)
        ;
    return i;
}

/* [...]+ */
static inline size_t pre_runs(const unsigned char *s, size_t i, size_t e, size_t *end,
                              pre_set_fn is)
{
    size_t n = 0;

    i = pre_first_of(s, i, e, is, &n);
    *end = pre_run_of(s, i, e, is);
    return i;
}

static int pre_is_newline(unsigned char c)
{
    return c == '\r' || c == '\n';
}

static int pre_is_ascii_letter(unsigned char c)
{
    return (unsigned char)((c | 0x20) - 'a') < 26;
}

/* ---- deepseek-v3 ---- */

/* \p{N}{1,3} */
static size_t pre_v3_digits(const unsigned char *s, size_t i, size_t e, size_t *end)
{
    for (size_t n, last; i < e; i += n) {
        n = 1;
        if ((s[i] < 0x80 && (unsigned char)(s[i] - '0') > 9)
            || (pre_class(s, i, &n) & MK_UNICODE_N) == 0)
            continue;
        last = i;
        for (int k = 0; k < 3 && last < e && (pre_class(s, last, &n) & MK_UNICODE_N) != 0; k++)
            last += n;
        *end = last;
        return i;
    }
    return e;
}

static int pre_is_cjk(uint32_t c)
{
    return (c >= 0x4E00 && c <= 0x9FA5) || (c >= 0x3040 && c <= 0x30FF);
}

/* [U+4E00-U+9FA5 U+3040-U+30FF]+ */
static size_t pre_v3_cjk(const unsigned char *s, size_t i, size_t e, size_t *end)
{
    return pre_runs(s, i, e, end, pre_is_cjk);
}

/* \s*[\r\n]+|\s+(?!\S)|\s+ at i, which is white space: to the last line break of the run; else
 * all of it at the end of the piece; else all but its last character, if it has two. */
static size_t pre_v3_space(const unsigned char *s, size_t i, size_t e)
{
    size_t j = i, line = i, last = i;

    for (size_t n; j < e && (pre_class(s, j, &n) & MK_UNICODE_SPACE) != 0; j += n) {
        last = j;
        if (pre_is_newline(s[j]))
            line = j + 1;
    }
    if (line > i)
        return line;
    return j == e || last == i ? j : last;
}

/* End of the match of the third split at i, or i.  Its alternatives in order:
 *     [!-/:-@\[-`{-~][A-Za-z]+
 *     [^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+
 *      ?[\p{P}\p{S}]+[\r\n]*
 *     white space */
static size_t pre_v3_match(const unsigned char *s, size_t i, size_t e)
{
    size_t n, m, j = i;
    const uint32_t class = pre_class(s, i, &n);

    if (s[i] < 0x80 && (class & PRE_PS) != 0 && i + 1 < e && pre_is_ascii_letter(s[i + 1])) {
        for (j = i + 2; j < e && pre_is_ascii_letter(s[j]);)
            j++;
        return j;
    }
    if ((class & (MK_UNICODE_L | PRE_PS)) == 0 && !pre_is_newline(s[i]) && i + n < e
        && (pre_class(s, i + n, &m) & PRE_LM) != 0)
        return pre_run(s, i + n + m, e, PRE_LM);
    if ((class & PRE_LM) != 0)
        return pre_run(s, i + n, e, PRE_LM);
    if (s[i] == ' ')
        j++;
    if (j < e && (pre_class(s, j, &m) & PRE_PS) != 0) {
        j = pre_run(s, j + m, e, PRE_PS);
        while (j < e && pre_is_newline(s[j]))
            j++;
        return j;
    }
    return (class & MK_UNICODE_SPACE) != 0 ? pre_v3_space(s, i, e) : i;
}

static size_t pre_v3_words(const unsigned char *s, size_t i, size_t e, size_t *end)
{
    for (size_t n; i < e && (*end = pre_v3_match(s, i, e)) == i; i += n)
        mk_utf8_decode(s + i, &n);
    return i;
}

/* ---- deepseek-llm ---- */

/* [\r\n] */
static size_t pre_llm_lines(const unsigned char *s, size_t i, size_t e, size_t *end)
{
    while (i < e && !pre_is_newline(s[i]))
        i++;
    *end = i + 1;
    return i;
}

static int pre_is_llm_letter(uint32_t c)
{
    return (mk_unicode_class(c) & MK_UNICODE_LLM_LETTER) != 0;
}

/* [!-/:-~ U+FF01-U+FF0F U+FF1A-U+FF5E U+2018-U+201F U+3000-U+3002], which holds the ASCII and
 * the full-width letters too. */
static int pre_is_llm_mark(uint32_t c)
{
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '~') || (c >= 0xFF01 && c <= 0xFF0F)
        || (c >= 0xFF1A && c <= 0xFF5E) || (c >= 0x2018 && c <= 0x201F)
        || (c >= 0x3000 && c <= 0x3002);
}

/* \s?[...]+ for the set that is() tells. */
static inline size_t pre_spaced(const unsigned char *s, size_t i, size_t e, size_t *end,
                                pre_set_fn is)
{
    for (size_t n; i < e; i += n) {
        const uint32_t c = mk_utf8_decode(s + i, &n);
        const size_t j = is(c) ? i : i + n;

        if (j > i && (mk_unicode_class(c) & MK_UNICODE_SPACE) == 0)
            continue;
        *end = pre_run_of(s, j, e, is);
        if (*end > j)
            return i;
    }
    return e;
}

static size_t pre_llm_letters(const unsigned char *s, size_t i, size_t e, size_t *end)
{
    return pre_spaced(s, i, e, end, pre_is_llm_letter);
}

static size_t pre_llm_marks(const unsigned char *s, size_t i, size_t e, size_t *end)
{
    return pre_spaced(s, i, e, end, pre_is_llm_mark);
}

/* \s+$ : the white space that the piece ends with. */
static size_t pre_llm_trailing(const unsigned char *s, size_t i, size_t e, size_t *end)
{
    size_t at = e, n;

    *end = e;
    for (size_t j = e; j > i; at = j) {
        j = mk_utf8_before((const char *)s, i, j);
        if ((pre_class(s, j, &n) & MK_UNICODE_SPACE) == 0)
            break;
    }
    return at;
}

static int pre_is_llm_cjk(uint32_t c)
{
    return (c >= 0x0800 && c <= 0x9FA5) || (c >= 0xAC00 && c <= 0xD7FF);
}

/* [U+4E00-U+9FA5 U+0800-U+4E00 U+AC00-U+D7FF]+ */
static size_t pre_llm_cjk(const unsigned char *s, size_t i, size_t e, size_t *end)
{
    return pre_runs(s, i, e, end, pre_is_llm_cjk);
}

/* Numbers as the Digits pre-tokenizer sees them: it follows Unicode 17.0, which adds these two
 * ranges, while the splits' \p{N} is that of Unicode 16.0. */
static int pre_is_llm_digit(uint32_t c)
{
    return (mk_unicode_class(c) & MK_UNICODE_N) != 0 || (c >= 0x11DE0 && c <= 0x11DE9)
        || (c >= 0x16FF4 && c <= 0x16FF6);
}

/* Numbers, one by one. */
static size_t pre_llm_digits(const unsigned char *s, size_t i, size_t e, size_t *end)
{
    size_t n = 0;

    i = pre_first_of(s, i, e, pre_is_llm_digit, &n);
    *end = i + n;
    return i;
}

/* ---- The kinds ---- */

#define PRE_MAX_STAGES 6

/* A stage whose pattern is NULL is the Digits pre-tokenizer with individual_digits. */
struct pre_kind {
    const char *name;
    size_t n_stages;
    pre_find_fn find[PRE_MAX_STAGES];
    const char *pattern[PRE_MAX_STAGES];
};

static const struct pre_kind pre_kinds[] = {
    [MK_PRETOKEN_V3] = {
        "deepseek-v3", 3,
        {pre_v3_digits, pre_v3_cjk, pre_v3_words},
        {"\\p{N}{1,3}",
         "[\344\270\200-\351\276\245\343\201\200-\343\202\237\343\202\240-\343\203\277]+",
         "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
         "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*"
         "|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"}
    },
    [MK_PRETOKEN_LLM] = {
        "deepseek-llm", 6,
        {pre_llm_lines, pre_llm_letters, pre_llm_marks, pre_llm_trailing, pre_llm_cjk,
         pre_llm_digits},
        {"[\r\n]", mk_unicode_llm_letters,
         "\\s?[!-/:-~\357\274\201-\357\274\217\357\274\232-\357\275\236"
         "\342\200\230-\342\200\237\343\200\200-\343\200\202]+",
         "\\s+$",
         "[\344\270\200-\351\276\245\340\240\200-\344\270\200\352\260\200-\355\237\277]+", NULL}
    }
};

#define PRE_N_KINDS (MK_COUNT(pre_kinds))

const char *mk_pretoken_name(enum mk_pretoken_kind kind)
{
    return pre_kinds[kind].name;
}

int32_t mk_pretoken_named(enum mk_pretoken_kind *out, const char *name)
{
    for (size_t k = 0; k < PRE_N_KINDS; k++) {
        if (strcmp(pre_kinds[k].name, name) == 0) {
            *out = (enum mk_pretoken_kind)k;
            return MINKE_OK;
        }
    }
    return mk_fail(MINKE_EUNSUPPORTED,
                   "pre-tokenizer %s: only deepseek-v3 and deepseek-llm are known", name);
}

/* Whether a member of an object is the given truth value. */
static int pre_is_flag(const struct mk_json *object, const char *key, enum mk_json_type value)
{
    const struct mk_json *flag = mk_json_get(object, key);

    return flag != NULL && flag->type == value;
}

static int pre_is_stage(const struct mk_json *item, const char *pattern)
{
    const struct mk_json *regex = mk_json_get(mk_json_get(item, "pattern"), "Regex");

    if (pattern == NULL)
        return mk_json_is(mk_json_get(item, "type"), "Digits")
            && pre_is_flag(item, "individual_digits", MK_JSON_TRUE);
    return mk_json_is(mk_json_get(item, "type"), "Split") && mk_json_is(regex, pattern)
        && mk_json_is(mk_json_get(item, "behavior"), "Isolated")
        && !pre_is_flag(item, "invert", MK_JSON_TRUE);
}

static int pre_is_kind(const struct mk_json *list, const struct pre_kind *kind)
{
    const struct mk_json *item = list->first;

    if (list->n_items != kind->n_stages + 1)
        return 0;
    for (size_t k = 0; k < kind->n_stages; k++, item = item->next)
        if (!pre_is_stage(item, kind->pattern[k]))
            return 0;
    return mk_json_is(mk_json_get(item, "type"), "ByteLevel")
        && pre_is_flag(item, "add_prefix_space", MK_JSON_FALSE)
        && pre_is_flag(item, "use_regex", MK_JSON_FALSE);
}

/* What a message calls a pre-tokenizer: its first pattern, or its first type. */
static int32_t pre_refuse(const struct mk_json *pre)
{
    const struct mk_json *item = mk_json_get(pre, "pretokenizers"), *name;

    item = item != NULL && item->first != NULL ? item->first : pre;
    name = mk_json_get(mk_json_get(item, "pattern"), "Regex");
    if (name == NULL)
        name = mk_json_get(item, "type");
    if (name == NULL || name->type != MK_JSON_STRING)
        return mk_fail(MINKE_EUNSUPPORTED, "tokenizer.json: no pre_tokenizer that is known; "
                       "only deepseek-v3 and deepseek-llm are");
    return mk_fail(MINKE_EUNSUPPORTED, "tokenizer.json: pre_tokenizer %.*s: only those of "
                   "deepseek-v3 and deepseek-llm are known",
                   (int)mk_min(name->text.len, 200), name->text.data);
}

int32_t mk_pretoken_recognise(enum mk_pretoken_kind *out, const struct mk_json *pre_tokenizer)
{
    const struct mk_json *list = mk_json_get(pre_tokenizer, "pretokenizers");

    if (!mk_json_is(mk_json_get(pre_tokenizer, "type"), "Sequence") || list == NULL
        || list->type != MK_JSON_ARRAY)
        return pre_refuse(pre_tokenizer);
    for (size_t k = 0; k < PRE_N_KINDS; k++) {
        if (pre_is_kind(list, &pre_kinds[k])) {
            *out = (enum mk_pretoken_kind)k;
            return MINKE_OK;
        }
    }
    return pre_refuse(pre_tokenizer);
}

struct pre_split {
    const struct pre_kind *kind;
    struct mk_view text;
    mk_pretoken_fn emit;
    void *user;
};

/* Stage k and those behind it on the piece [i, e); as deep as there are stages. */
static int32_t pre_stage(const struct pre_split *run, size_t k, size_t i, size_t e)
{
    int32_t rc = MINKE_OK;

    if (k == run->kind->n_stages)
        return run->emit(run->user, mk_view_part(run->text, i, e));
    while (i < e && rc >= 0) {
        size_t end = e;
        const size_t at = run->kind->find[k]((const unsigned char *)run->text.data, i, e, &end);

        if (at > i)
            rc = pre_stage(run, k + 1, i, at);
        if (at < e && rc >= 0)
            rc = pre_stage(run, k + 1, at, end);
        i = at < e ? end : e;
    }
    return rc;
}

int32_t mk_pretoken_split(enum mk_pretoken_kind kind, struct mk_view text, mk_pretoken_fn emit,
                          void *user)
{
    const struct pre_split run = {&pre_kinds[kind], text, emit, user};

    return pre_stage(&run, 0, 0, text.len);
}
