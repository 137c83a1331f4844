/* A text that somebody else holds, and need not end in NUL. */
#ifndef MK_VIEW_H
#define MK_VIEW_H

#include <stddef.h>
#include <string.h>

struct mk_view {
    const char *data;
    size_t len;
};

/* Of a literal, also where a constant is needed; and of any text that ends in NUL. */
#define MK_VIEW(literal) {"" literal, sizeof(literal) - 1}

static inline struct mk_view mk_view(const char *text)
{
    return (struct mk_view){text, strlen(text)};
}

/* Two arguments for "%.*s" of a message: no more than 100 bytes of v. */
#define MK_SHOW(v) (int)((v).len < 100 ? (v).len : 100), (v).data

/* Bytes [begin, end) of v, which has as many. */
static inline struct mk_view mk_view_part(struct mk_view v, size_t begin, size_t end)
{
    return (struct mk_view){v.data + begin, end - begin};
}

static inline int mk_view_equal(struct mk_view a, struct mk_view b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline int mk_view_is(struct mk_view v, const char *text)
{
    return mk_view_equal(v, mk_view(text));
}

/* Whether v has part at `at`. */
static inline int mk_view_has(struct mk_view v, size_t at, struct mk_view part)
{
    return at <= v.len && part.len <= v.len - at
        && (part.len == 0 || memcmp(v.data + at, part.data, part.len) == 0);
}

/* Where part stands first at or behind `from`, and last at or behind it; v.len when nowhere. */
size_t mk_view_find(struct mk_view v, size_t from, struct mk_view part);
size_t mk_view_find_last(struct mk_view v, size_t from, struct mk_view part);

#endif
