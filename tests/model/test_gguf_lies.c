/* A real file whose header lies, one field after the other, through the whole library: refused
 * with a message, or run as what it says; never a crash, nor more memory than a file deserves. */
#include "golden.h"

#define MAX_FIELDS 8192u
#define MAX_PEAK ((uint64_t)96 << 20)    /* the file is 2 MB, of vocabulary 192 */

/* ---- The file in memory, and what is allocated -------------------------------------------- */

static uint8_t *file;
static size_t file_size;
static uint64_t live, peak;

static int32_t lies_open(void *user, const char *path, void **handle, uint64_t *size)
{
    (void)user;
    *handle = file;
    *size = file_size;
    return strcmp(path, "lies.gguf") != 0;
}

static int32_t lies_read(void *user, void *handle, uint64_t offset, void *buffer, size_t n)
{
    (void)user;
    (void)handle;
    CHECK(offset <= file_size && n <= file_size - offset);
    if (offset > file_size || n > file_size - offset)
        return -1;
    memcpy(buffer, file + offset, n);
    return 0;
}

static void lies_close(void *user, void *handle)
{
    (void)user;
    (void)handle;
}

static void *lies_alloc(void *user, size_t size, size_t align)
{
    void *p = size > MAX_PEAK ? NULL : aligned_alloc(align, (size + align - 1) / align * align);

    (void)user;
    live += size;
    peak = live > peak ? live : peak;
    if (p == NULL)
        live -= size;
    return p;
}

static void lies_free(void *user, void *ptr, size_t size)
{
    (void)user;
    live -= size;
    free(ptr);
}

/* ---- Where the header's fields are -------------------------------------------------------- */

enum lies_kind { LIES_COUNT, LIES_LENGTH, LIES_TEXT, LIES_TYPE, LIES_NUMBER, LIES_SHAPE,
                 LIES_OFFSET };

struct field {
    size_t at, bytes;
    enum lies_kind kind;
};

static struct field fields[MAX_FIELDS];
static size_t n_fields, at;

static uint64_t take(size_t bytes, enum lies_kind kind, int is_listed)
{
    uint64_t v = 0;

    memcpy(&v, file + at, bytes);
    if (is_listed && n_fields < MAX_FIELDS)
        fields[n_fields++] = (struct field){at, bytes, kind};
    at += bytes;
    return v;
}

static void take_text(int is_listed)
{
    const size_t n = (size_t)take(8, LIES_LENGTH, is_listed);

    if (n > 0 && is_listed && n_fields < MAX_FIELDS)
        fields[n_fields++] = (struct field){at, 1, LIES_TEXT};
    at += n;
}

static void take_item(uint32_t type, int is_listed)
{
    static const uint8_t sizes[13] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

    if (type == 8)
        take_text(is_listed);
    else
        take(sizes[type], LIES_NUMBER, is_listed);
}

/* Of long lists the first item, of tensors every third one after the first ten. */
static void find_fields(void)
{
    n_fields = 0;
    at = 8;
    const uint64_t n_tensors = take(8, LIES_COUNT, 1), n_values = take(8, LIES_COUNT, 1);

    for (uint64_t i = 0; i < n_values; i++) {
        take_text(1);
        uint32_t type = (uint32_t)take(4, LIES_TYPE, 1);
        uint64_t n = 1;
        if (type == 9) {
            type = (uint32_t)take(4, LIES_TYPE, 1);
            n = take(8, LIES_COUNT, 1);
        }
        for (uint64_t k = 0; k < n; k++)
            take_item(type, k == 0);
    }
    for (uint64_t i = 0; i < n_tensors; i++) {
        const int is_listed = i < 10 || i % 3 == 0 || i + 1 == n_tensors;
        take_text(is_listed);
        const uint64_t n_dims = take(4, LIES_SHAPE, is_listed);
        for (uint64_t d = 0; d < n_dims; d++)
            take(8, LIES_SHAPE, is_listed);
        take(4, LIES_TYPE, is_listed);
        take(8, LIES_OFFSET, is_listed);
    }
}

/* ---- Opening ------------------------------------------------------------------------------ */

/* Open, and when that works, run: what comes out is the file's own business. */
static int32_t try_file(void)
{
    static const int32_t tokens[6] = {1, 2, 3, 4, 5, 6};
    minke_context_params p;
    minke_session_params sp;
    minke_context *ctx = NULL;
    minke_session *s = NULL;
    int32_t status;

    minke_context_params_init(&p, sizeof p);
    p.n_threads = 1;
    p.alloc = lies_alloc;
    p.free = lies_free;
    p.reader_open = lies_open;
    p.reader_read = lies_read;
    p.reader_close = lies_close;
    peak = live;
    status = minke_context_open(&ctx, "lies.gguf", &p);
    if (status == MINKE_OK) {
        minke_session_params_init(&sp, sizeof sp);
        sp.max_tokens = 8;
        if (minke_session_open(&s, ctx, &sp) == MINKE_OK)
            (void)minke_session_eval(s, tokens, 6);
        minke_session_free(s);
    } else {
        CHECK(strlen(minke_last_error()) > 0);
        CHECK(ctx == NULL);
    }
    minke_context_free(ctx);
    CHECK_INT(live, 0);
    CHECK(peak <= MAX_PEAK);
    return status;
}

/* ---- Lies --------------------------------------------------------------------------------- */

/* The i-th lie about a value of so many bytes; 0 when there are no more. */
static int lie(uint64_t *out, uint64_t v, const struct field *f, size_t i)
{
    const uint64_t wide[] = {0, v + 1, v - 1, 2 * v, v << 32, (uint64_t)1 << 31,
                             (uint64_t)1 << 63, UINT64_MAX, UINT64_MAX / (v | 1) + 1, v + 32};
    const uint64_t narrow[] = {0, 1, v + 1, v - 1, 5, 8, 9, 13, 30, 0x7fffffffu, 0xffffffffu,
                               0x7fc00000u, 0x7f800000u, 0xff7fffffu, 0x00000001u, 65536};
    const uint64_t byte[] = {0, 1, '\n', 0xff, v + 1};

    if (i >= (f->bytes == 8 ? 10u : f->bytes == 1 ? 5u : 16u))
        return 0;
    *out = f->bytes == 8 ? wide[i] : f->bytes == 1 ? byte[i] : narrow[i];
    if (f->bytes < 8)
        *out &= ((uint64_t)1 << 8 * f->bytes) - 1;
    return 1;
}

/* What the header itself must not get away with. */
static int must_be_refused(enum lies_kind kind)
{
    return kind == LIES_COUNT || kind == LIES_LENGTH || kind == LIES_SHAPE || kind == LIES_OFFSET;
}

static void lie_everywhere(const char *path)
{
    size_t n_refused = 0, n_run = 0;

    file = (uint8_t *)golden_file(GOLDEN_GGUF, path, &file_size);
    CHECK(file != NULL);
    if (file == NULL)
        return;
    CHECK_INT(try_file(), MINKE_OK);
    find_fields();
    CHECK(n_fields > 300 && n_fields < MAX_FIELDS);
    for (size_t k = 0; k < n_fields; k++) {
        const struct field *f = &fields[k];
        uint64_t truth = 0, other;
        memcpy(&truth, file + f->at, f->bytes);
        for (size_t i = 0; lie(&other, truth, f, i); i++) {
            if (other == truth)
                continue;
            memcpy(file + f->at, &other, f->bytes);
            const int refused = try_file() < 0;
            n_refused += (size_t)refused;
            n_run += (size_t)!refused;
            if (!refused && must_be_refused(f->kind)) {
                test_failures++;
                fprintf(stderr, "%s: byte %zu: %llu instead of %llu is accepted\n", path, f->at,
                        (unsigned long long)other, (unsigned long long)truth);
            }
        }
        memcpy(file + f->at, &truth, f->bytes);
    }
    CHECK_INT(try_file(), MINKE_OK);
    printf("%s: %zu lies refused, %zu run\n", path, n_refused, n_run);
    free(file);
}

TEST(each_field_of_a_header_may_lie)
{
    lie_everywhere("v32.gguf");
}

TEST(each_field_of_an_older_header_may_lie)
{
    lie_everywhere("v3-older.gguf");
}

TEST_MAIN((void)golden_layer, RUN(each_field_of_a_header_may_lie),
          RUN(each_field_of_an_older_header_may_lie))
