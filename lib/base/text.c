/* Text that grows, and its way to a caller's buffer. */
#include "base/text.h"

#include "base/checked.h"
#include "base/error.h"

void mk_text_init(struct mk_text *t, const struct mk_allocator *a)
{
    memset(t, 0, sizeof(*t));
    t->a = a;
}

void mk_text_free(struct mk_text *t)
{
    mk_free(t->a, t->data);
    t->data = NULL;
    t->len = t->capacity = 0;
}

/* Room for n more bytes and the NUL. */
static int32_t text_reserve(struct mk_text *t, size_t n)
{
    void *data = t->data;
    size_t need;

    if (mk_add(&need, t->len, n) != 0 || mk_add(&need, need, 1) != 0)
        return MINKE_ENOMEM;
    const int32_t rc = mk_grow(t->a, &data, &t->capacity, need, 1);
    t->data = data;   /* as it was when that failed */
    return rc;
}

void mk_text_add(struct mk_text *t, const char *bytes, size_t n)
{
    if (t->failed)
        return;
    if (text_reserve(t, n) < 0) {
        t->failed = 1;
        return;
    }
    if (n > 0)
        memcpy(t->data + t->len, bytes, n);
    t->len += n;
    t->data[t->len] = '\0';
}

void mk_text_adds(struct mk_text *t, const char *nul_terminated)
{
    mk_text_add(t, nul_terminated, strlen(nul_terminated));
}

void mk_text_add_view(struct mk_text *t, struct mk_view v)
{
    mk_text_add(t, v.data, v.len);
}

void mk_text_addf(struct mk_text *t, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    const size_t n = mk_vformat(NULL, 0, format, args);

    va_end(args);
    if (t->failed || text_reserve(t, n) < 0) {
        t->failed = 1;
        return;
    }
    va_start(args, format);
    mk_vformat(t->data + t->len, n + 1, format, args);
    va_end(args);
    t->len += n;
}

struct mk_view mk_text_view(const struct mk_text *t)
{
    return (struct mk_view){t->data != NULL ? t->data : "", t->len};
}

int32_t mk_text_deliver(struct mk_text *t, char *out, size_t capacity, size_t *n_out)
{
    const size_t len = t->len;
    int32_t rc = MINKE_OK;

    if (t->failed) {
        rc = mk_fail_memory(len, "text");
    } else {
        *n_out = len;
        if (len > capacity)
            rc = mk_fail(MINKE_ENOSPC, "%zu bytes, room for %zu", len, capacity);
        else if (len > 0)
            memcpy(out, t->data, len);
    }
    mk_text_free(t);
    return rc;
}

void mk_hex(char out[17], uint64_t v)
{
    for (int i = 0; i < 16; i++)
        out[i] = "0123456789abcdef"[v >> (60 - 4 * i) & 15];
    out[16] = '\0';
}

/* ---- Views --------------------------------------------------------------- */

size_t mk_view_find(struct mk_view v, size_t from, struct mk_view part)
{
    if (part.len == 0)
        return mk_min(from, v.len);
    while (from <= v.len && part.len <= v.len - from) {
        const char *at = memchr(v.data + from, part.data[0], v.len - from - part.len + 1);

        if (at == NULL)
            break;
        from = (size_t)(at - v.data);
        if (memcmp(at, part.data, part.len) == 0)
            return from;
        from++;
    }
    return v.len;
}

size_t mk_view_find_last(struct mk_view v, size_t from, struct mk_view part)
{
    for (size_t at = part.len <= v.len ? v.len - part.len + 1 : 0; at > from; at--)
        if (mk_view_has(v, at - 1, part))
            return at - 1;
    return v.len;
}

struct mk_view mk_view_behind_last(struct mk_view v, struct mk_view part)
{
    for (size_t at; part.len > 0 && (at = mk_view_find(v, 0, part)) < v.len;)
        v = mk_view_part(v, at + part.len, v.len);
    return v;
}
