/* A bounded JSON reader (RFC 8259) into a tree, and a writer as Python's json.dumps. */
#ifndef MK_JSON_H
#define MK_JSON_H

#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/text.h"

enum mk_json_type {
    MK_JSON_NULL, MK_JSON_FALSE, MK_JSON_TRUE, MK_JSON_NUMBER, MK_JSON_STRING,
    MK_JSON_ARRAY, MK_JSON_OBJECT
};

/* text: a string's decoded UTF-8 (may hold NUL bytes) or a number's source digits.  key: of
 * a member, decoded.  Both NUL-terminated beside their length. */
struct mk_json {
    enum mk_json_type type;
    struct mk_view key, text;
    size_t n_items;                  /* of an array or object */
    const struct mk_json *first;     /* its first item */
    const struct mk_json *next;      /* the following sibling, NULL at the end */
    const struct mk_json_index *index;   /* of a parsed object with many members, else NULL */
};

#define MK_JSON_MAX_DEPTH 256

/* Parse len bytes of UTF-8 into the arena.  what names the text in messages
 * ("config.json").  MINKE_EFORMAT "what: byte N: ..." for anything that is not one JSON
 * value, nests deeper than MK_JSON_MAX_DEPTH, repeats a key in one object, is not UTF-8, or
 * escapes a lone surrogate; MINKE_ENOMEM.  No recursion; time linear in len. */
int32_t mk_json_parse(const struct mk_json **out, struct mk_arena *arena, const char *text,
                      size_t len, const char *what);

/* Member by name, NULL if absent or obj is NULL or no object.  Constant time. */
const struct mk_json *mk_json_get(const struct mk_json *obj, const char *key);
int mk_json_is(const struct mk_json *string, const char *text);

/* Number readers.  0, or -1 when it is not a number of that kind and range (1e3 and 3.0
 * count as integers when exact). */
int mk_json_int(const struct mk_json *v, int64_t *out);
int mk_json_double(const struct mk_json *v, double *out);

/* Decimal text to the nearest double, independent of locale and rounding mode.  Returns the
 * number of bytes read, 0 if text does not begin with a JSON number. */
size_t mk_number_read(const char *text, size_t len, double *out);
/* Shortest text that reads back as v, in Python's repr style ("1.0", "1e+16", "nan",
 * "inf"); buffer of 32 bytes.  Returns the length. */
size_t mk_number_write(char *buffer, double v);

/* A JSON string literal, quotes included, as json.dumps(ensure_ascii=False) writes it. */
void mk_text_add_quoted(struct mk_text *t, const char *bytes, size_t n);
/* A value as json.dumps(ensure_ascii=False) writes it: ", " and ": ", integers digit for
 * digit, other numbers as Python's repr of the double. */
void mk_text_add_json(struct mk_text *t, const struct mk_json *v);

#endif
