/* GGUF headers that lie, one field at a time.  Files are made in memory and read through a
 * host's reader. */
#include "test.h"
#include "format/gguf.h"

/* ---- Files in memory ---------------------------------------------------------------------- */

#define MAX_FILE 4096u

struct blob {
    const char *path;
    uint8_t data[MAX_FILE];
    size_t n;
};

static struct blob blobs[4];
static size_t n_blobs;

static int32_t blob_open(void *user, const char *path, void **file, uint64_t *size)
{
    (void)user;
    for (size_t i = 0; i < n_blobs; i++) {
        if (strcmp(blobs[i].path, path) == 0) {
            *file = &blobs[i];
            *size = blobs[i].n;
            return 0;
        }
    }
    return 1;
}

static int32_t blob_read(void *user, void *file, uint64_t offset, void *buffer, size_t n)
{
    const struct blob *b = file;

    (void)user;
    if (offset > b->n || n > b->n - offset) {
        test_failures++;
        fprintf(stderr, "read of %zu bytes at %llu of %zu\n", n, (unsigned long long)offset, b->n);
        return -1;
    }
    memcpy(buffer, b->data + offset, n);
    return 0;
}

static void blob_close(void *user, void *file)
{
    (void)user;
    (void)file;
}

static const struct mk_env env = {.reader_open = blob_open, .reader_read = blob_read,
                                  .reader_close = blob_close};

static struct blob *blob_new(const char *path)
{
    struct blob *b = &blobs[n_blobs++];

    memset(b, 0, sizeof *b);
    b->path = path;
    return b;
}

static void put(struct blob *b, uint64_t v, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        b->data[b->n++] = (uint8_t)(v >> 8 * i);
}

static void put_text(struct blob *b, const char *text)
{
    put(b, strlen(text), 8);
    memcpy(b->data + b->n, text, strlen(text));
    b->n += strlen(text);
}

static void put_head(struct blob *b, uint64_t n_tensors, uint64_t n_values)
{
    put(b, 0x46554747, 4);
    put(b, 3, 4);
    put(b, n_tensors, 8);
    put(b, n_values, 8);
}

static void put_tensor(struct blob *b, const char *name, uint64_t d0, uint64_t d1, uint32_t type,
                       uint64_t offset)
{
    put_text(b, name);
    put(b, 2, 4);
    put(b, d0, 8);
    put(b, d1, 8);
    put(b, type, 4);
    put(b, offset, 8);
}

static void put_u32(struct blob *b, const char *key, uint32_t v)
{
    put_text(b, key);
    put(b, MK_GGUF_UINT32, 4);
    put(b, v, 4);
}

static void put_data(struct blob *b, size_t n)
{
    while (b->n % 32 != 0)
        put(b, 0, 1);
    for (size_t i = 0; i < n; i++)
        put(b, i, 1);
}

/* What the open says; the message of a refusal must name the file. */
static int32_t try_open(const char *path)
{
    struct mk_gguf g;
    const int32_t status = mk_gguf_open(&g, &env, path);

    if (status == MINKE_OK)
        mk_gguf_close(&g);
    else
        CHECK_HAS(minke_last_error(), ".gguf: ");
    return status;
}

#define REFUSED(path, code, part)                                                      \
    do {                                                                               \
        CHECK_INT(try_open(path), code);                                               \
        CHECK_HAS(minke_last_error(), part);                                           \
    } while (0)

/* Two values and two tensors; where marks the fields that tests overwrite. */
struct where {
    size_t n_tensors, n_values, key_len, value_type, text_len, array_type, array_n, alignment,
        name_len, n_dims, dim, type, offset, second_offset;
};

static struct blob *good_file(struct where *w)
{
    struct blob *b;

    n_blobs = 0;
    b = blob_new("a.gguf");
    put_head(b, 2, 4);
    w->n_tensors = 8;
    w->n_values = 16;
    w->key_len = b->n;
    put_text(b, "general.architecture");
    w->value_type = b->n;
    put(b, MK_GGUF_STRING, 4);
    w->text_len = b->n;
    put_text(b, "deepseek2");
    put_text(b, "list");
    put(b, MK_GGUF_ARRAY, 4);
    w->array_type = b->n;
    put(b, MK_GGUF_STRING, 4);
    w->array_n = b->n;
    put(b, 2, 8);
    put_text(b, "one");
    put_text(b, "two");
    put_u32(b, "general.alignment", 32);
    w->alignment = b->n - 4;
    put_text(b, "negative");
    put(b, MK_GGUF_INT16, 4);
    put(b, 0xfffe, 2);
    w->name_len = b->n;
    put_text(b, "w.weight");
    w->n_dims = b->n;
    put(b, 2, 4);
    w->dim = b->n;
    put(b, 32, 8);
    put(b, 3, 8);
    w->type = b->n;
    put(b, 8, 4);      /* Q8_0: 3 x 34 bytes */
    w->offset = b->n;
    put(b, 0, 8);
    put_tensor(b, "v.weight", 4, 2, 0, 128);
    w->second_offset = b->n - 8;
    put_data(b, 128 + 32);
    return b;
}

static void set(struct blob *b, size_t at, uint64_t v, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        b->data[at + i] = (uint8_t)(v >> 8 * i);
}

/* The good file with another value in one field. */
#define LIE(field, value, bytes)                                                       \
    do {                                                                               \
        struct blob *b_ = good_file(&w);                                               \
        set(b_, w.field, value, bytes);                                                \
    } while (0)

TEST(a_good_file_gives_values_and_tensors)
{
    struct where w;
    struct mk_gguf g;
    int64_t v = 0;
    double d = 0.0;

    good_file(&w);
    CHECK_INT(mk_gguf_open(&g, &env, "a.gguf"), MINKE_OK);
    CHECK_STR(mk_gguf_text(mk_gguf_find(&g, "general.architecture"))->data, "deepseek2");
    CHECK_STR(mk_gguf_find(&g, "list")->strings[1].data, "two");
    CHECK(mk_gguf_text(mk_gguf_find(&g, "list")) == NULL);
    CHECK_INT(mk_gguf_int(mk_gguf_find(&g, "negative"), 0, &v), 0);
    CHECK_INT(v, -2);
    CHECK_INT(mk_gguf_double(mk_gguf_find(&g, "general.alignment"), 0, &d), 0);
    CHECK(d == 32.0);
    CHECK_INT(mk_gguf_int(mk_gguf_find(&g, "list"), 0, &v), -1);
    CHECK_INT(mk_gguf_int(mk_gguf_find(&g, "absent"), 0, &v), -1);
    CHECK_INT(g.n_tensors, 2);
    const struct mk_stored *t = mk_gguf_tensor(&g, "w.weight");
    CHECK(t != NULL && t->type == MK_Q8_0 && t->size == 102 && t->shape[0] == 3);
    CHECK(mk_gguf_tensor(&g, "x.weight") == NULL);
    CHECK_INT(blobs[0].data[t->offset + 5], 5);
    mk_gguf_close(&g);
}

TEST(version_2_is_read_and_others_are_not)
{
    struct where w;
    struct blob *b = good_file(&w);

    set(b, 4, 2, 4);
    CHECK_INT(try_open("a.gguf"), MINKE_OK);
    set(b, 4, 1, 4);
    REFUSED("a.gguf", MINKE_EUNSUPPORTED, "version 1");
    set(b, 4, 4, 4);
    REFUSED("a.gguf", MINKE_EUNSUPPORTED, "version 4");
    set(b, 4, 0x03000000, 4);
    REFUSED("a.gguf", MINKE_EUNSUPPORTED, "big-endian");
    set(b, 4, 3, 4);
    set(b, 0, 0x46554746, 4);
    REFUSED("a.gguf", MINKE_EFORMAT, "not a GGUF file");
}

TEST(lying_counts_are_refused)
{
    static const uint64_t lies[] = {3, 1000, UINT32_MAX, UINT64_MAX / 24, UINT64_MAX};
    struct where w;
    struct blob *b = good_file(&w);

    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        set(b, w.n_tensors, lies[i], 8);
        CHECK(try_open("a.gguf") < 0);
        b = good_file(&w);
        set(b, w.n_values, lies[i] + 2, 8);
        CHECK(try_open("a.gguf") < 0);
        b = good_file(&w);
        set(b, w.array_n, lies[i], 8);
        CHECK(try_open("a.gguf") < 0);
        b = good_file(&w);
    }
    set(b, w.n_tensors, 1, 8);
    CHECK_INT(try_open("a.gguf"), MINKE_OK);      /* the rest is data then */
}

TEST(lying_lengths_are_refused)
{
    static const uint64_t lies[] = {0, 5000, 1ull << 32, UINT64_MAX - 7, UINT64_MAX};
    struct where w;
    struct blob *b;

    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        b = good_file(&w);
        set(b, w.key_len, lies[i], 8);
        CHECK(try_open("a.gguf") < 0);
        b = good_file(&w);
        set(b, w.text_len, lies[i], 8);
        CHECK(try_open("a.gguf") < 0);
        b = good_file(&w);
        set(b, w.name_len, lies[i], 8);
        CHECK(try_open("a.gguf") < 0);
    }
}

/* One key, one value of text, one tensor, with names of any bytes. */
static void named_file(const char *key, size_t key_len, const char *name, size_t name_len)
{
    struct blob *b;

    n_blobs = 0;
    b = blob_new("a.gguf");
    put_head(b, 1, 1);
    put(b, key_len, 8);
    for (size_t i = 0; i < key_len; i++)
        put(b, (uint8_t)key[i], 1);
    put(b, MK_GGUF_STRING, 4);
    put_text(b, "text");
    put(b, name_len, 8);
    for (size_t i = 0; i < name_len; i++)
        put(b, (uint8_t)name[i], 1);
    put(b, 1, 4);
    put(b, 8, 8);
    put(b, 0, 4);
    put(b, 0, 8);
    put_data(b, 32);
}

TEST(names_that_are_no_names_are_refused)
{
    named_file("key", 3, "name", 4);
    CHECK_INT(try_open("a.gguf"), MINKE_OK);
    named_file("", 0, "name", 4);
    REFUSED("a.gguf", MINKE_EFORMAT, "key of no length");
    named_file("key\0y", 5, "name", 4);
    REFUSED("a.gguf", MINKE_EFORMAT, "key key: holds a zero byte");
    named_file("key", 3, "", 0);
    REFUSED("a.gguf", MINKE_EFORMAT, "name is empty or holds a zero byte");
    named_file("key", 3, "name\0", 5);
    REFUSED("a.gguf", MINKE_EFORMAT, "tensor name: name is empty or holds a zero byte");
    named_file("\n\x1b[2J\xff", 6, "", 0);
    CHECK_INT(try_open("a.gguf"), MINKE_EFORMAT);
    CHECK(strpbrk(minke_last_error(), "\n\x1b\xff") == NULL);
}

TEST(lying_types_are_refused)
{
    struct where w;
    struct blob *b = good_file(&w);

    set(b, w.value_type, 13, 4);
    REFUSED("a.gguf", MINKE_EFORMAT, "value type 13");
    b = good_file(&w);
    set(b, w.array_type, MK_GGUF_ARRAY, 4);
    REFUSED("a.gguf", MINKE_EUNSUPPORTED, "array of arrays");
    b = good_file(&w);
    set(b, w.array_type, UINT32_MAX, 4);
    REFUSED("a.gguf", MINKE_EFORMAT, "value type 4294967295");
    for (uint32_t type = 0; type < 64; type++) {
        b = good_file(&w);
        set(b, w.type, type, 4);
        if (type == 4 || type == 5 || type == 9 || type == 15 || type == 28 || type > 40)
            REFUSED("a.gguf", MINKE_EUNSUPPORTED, "w.weight");
    }
    set(b, w.type, UINT32_MAX, 4);
    REFUSED("a.gguf", MINKE_EUNSUPPORTED, "w.weight: type 4294967295");
}

TEST(dimensions_that_wrap_or_are_zero_are_refused)
{
    static const uint64_t pairs[][2] = {
        {1ull << 32, 1ull << 32}, {UINT64_MAX, 1}, {32, UINT64_MAX}, {1ull << 63, 2},
        {0, 3}, {32, 0}, {31, 3}, {UINT64_MAX / 34 * 32, 34}, {1ull << 59, 1ull << 5},
    };
    struct where w;

    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct blob *b = good_file(&w);
        set(b, w.dim, pairs[i][0], 8);
        set(b, w.dim + 8, pairs[i][1], 8);
        REFUSED("a.gguf", MINKE_EFORMAT, "w.weight");
    }
    for (uint64_t last = 0; last < 3; last++) {
        n_blobs = 0;
        struct blob *b = blob_new("a.gguf");
        put_head(b, 1, 0);
        put_text(b, "w.weight");
        put(b, 4, 4);
        for (int d = 0; d < 3; d++)
            put(b, 1u << 16, 8);
        put(b, (1u << 14) - 1 + last, 8);       /* 4 * 2^62 bytes are 0 */
        put(b, 0, 4);
        put(b, 0, 8);
        put_data(b, 64);
        REFUSED("a.gguf", MINKE_EFORMAT, "w.weight");
    }
    LIE(n_dims, 5, 4);
    REFUSED("a.gguf", MINKE_EFORMAT, "5 dimensions");
    LIE(n_dims, UINT32_MAX, 4);
    REFUSED("a.gguf", MINKE_EFORMAT, "dimensions");
}

TEST(offsets_must_be_aligned_inside_and_apart)
{
    struct where w;

    LIE(offset, 4, 8);
    REFUSED("a.gguf", MINKE_EFORMAT, "not aligned to 32");
    LIE(offset, 1u << 20, 8);
    REFUSED("a.gguf", MINKE_EFORMAT, "run past the end");
    LIE(offset, UINT64_MAX - 31, 8);
    REFUSED("a.gguf", MINKE_EFORMAT, "run past the end");
    LIE(second_offset, 96, 8);
    REFUSED("a.gguf", MINKE_EFORMAT, "overlap");
    LIE(second_offset, 0, 8);
    REFUSED("a.gguf", MINKE_EFORMAT, "overlap");
    LIE(second_offset, 160, 8);
    REFUSED("a.gguf", MINKE_EFORMAT, "run past the end");
}

TEST(alignment_must_be_a_power_of_two)
{
    static const uint32_t lies[] = {0, 3, 48, 0x80000001u};
    struct where w;

    for (size_t i = 0; i < 4; i++) {
        LIE(alignment, lies[i], 4);
        REFUSED("a.gguf", MINKE_EFORMAT, "general.alignment");
    }
    LIE(alignment, 0x80000000u, 4);
    CHECK_INT(try_open("a.gguf"), MINKE_EFORMAT);
    LIE(alignment - 4, MK_GGUF_FLOAT32, 4);
    REFUSED("a.gguf", MINKE_EFORMAT, "general.alignment");
}

TEST(names_and_keys_are_unique)
{
    struct blob *b;

    n_blobs = 0;
    b = blob_new("a.gguf");
    put_head(b, 2, 0);
    put_tensor(b, "same", 8, 1, 0, 0);
    put_tensor(b, "same", 8, 1, 0, 32);
    put_data(b, 64);
    REFUSED("a.gguf", MINKE_EFORMAT, "tensor same appears twice");
    n_blobs = 0;
    b = blob_new("a.gguf");
    put_head(b, 0, 3);
    put_u32(b, "x", 1);
    put_u32(b, "y", 1);
    put_u32(b, "x", 2);
    REFUSED("a.gguf", MINKE_EFORMAT, "key x appears twice");
}

TEST(every_truncation_is_refused)
{
    struct where w;
    struct blob *b = good_file(&w);
    const size_t n = b->n;

    for (size_t cut = 0; cut < n; cut++) {
        b = good_file(&w);
        b->n = cut;
        CHECK(try_open("a.gguf") < 0);
    }
}

TEST(every_byte_may_be_anything)
{
    struct where w;
    const size_t n = good_file(&w)->n;

    for (size_t at = 0; at < n; at++) {
        for (uint32_t flip = 1; flip < 256; flip <<= 1) {
            struct mk_gguf g;
            good_file(&w)->data[at] ^= (uint8_t)flip;
            if (mk_gguf_open(&g, &env, "a.gguf") != MINKE_OK)
                continue;
            for (size_t i = 0; i < g.n_tensors; i++)
                CHECK(g.tensors[i].offset <= n && g.tensors[i].size <= n - g.tensors[i].offset);
            mk_gguf_close(&g);
        }
    }
}

/* ---- Parts -------------------------------------------------------------------------------- */

static const char *part_names[3] = {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf",
                                    "m-00003-of-00003.gguf"};

static void good_parts(void)
{
    static const char *tensors[3] = {"a", "b", "c"};

    n_blobs = 0;
    for (uint32_t i = 0; i < 3; i++) {
        struct blob *b = blob_new(part_names[i]);
        put_head(b, 1, 3);
        put_u32(b, "split.no", i);
        put_u32(b, "split.count", 3);
        put_u32(b, "split.tensors.count", 3);
        put_tensor(b, tensors[i], 8, 1, 0, 0);
        put_data(b, 32);
    }
}

TEST(parts_are_joined)
{
    struct mk_gguf g;

    good_parts();
    CHECK_INT(mk_gguf_open(&g, &env, part_names[0]), MINKE_OK);
    CHECK_INT(g.n_files, 3);
    CHECK(mk_gguf_tensor(&g, "c")->file == g.files[2]);
    mk_gguf_close(&g);
}

TEST(missing_swapped_and_repeated_parts_are_refused)
{
    good_parts();
    n_blobs = 2;
    REFUSED(part_names[0], MINKE_EFORMAT, "m-00003-of-00003.gguf: no such file");
    good_parts();
    blobs[1].path = part_names[2];
    blobs[2].path = part_names[1];
    REFUSED(part_names[0], MINKE_EFORMAT, "says part 3 of 3, expected 2 of 3");
    good_parts();
    blobs[2] = blobs[1];
    blobs[2].path = part_names[2];
    REFUSED(part_names[0], MINKE_EFORMAT, "says part 2 of 3, expected 3 of 3");
    good_parts();
    REFUSED(part_names[1], MINKE_EFORMAT, "the first is named");
    good_parts();
    blobs[0].path = "renamed.gguf";
    REFUSED("renamed.gguf", MINKE_EFORMAT, "the first is named -00001-of-00003.gguf");
}

TEST(parts_that_are_damaged_are_refused)
{
    good_parts();
    blobs[1].n = 0;
    REFUSED(part_names[0], MINKE_EFORMAT, "m-00002-of-00003.gguf: header ends at byte 0");
    for (size_t cut = 1; good_parts(), cut < blobs[1].n; cut++) {
        blobs[1].n = cut;
        CHECK_INT(try_open(part_names[0]), MINKE_EFORMAT);
        CHECK_HAS(minke_last_error(), part_names[1]);
    }
    good_parts();
    memset(blobs[2].data, 0xff, blobs[2].n);
    REFUSED(part_names[0], MINKE_EFORMAT, "m-00003-of-00003.gguf: not a GGUF file");
    good_parts();
    blobs[1] = blobs[0];
    blobs[1].path = part_names[1];
    REFUSED(part_names[0], MINKE_EFORMAT, "says part 1 of 3, expected 2 of 3");
}

/* The keys of each part, missing or of a type that is no number. */
TEST(parts_that_do_not_say_which_they_are_are_refused)
{
    static const char *const keys[] = {"split.no", "split.count", "split.tensors.count"};

    for (size_t part = 0; part < 3; part++) {
        for (size_t k = 0; k < 3; k++) {
            for (int missing = 0; missing < 2; missing++) {
                const size_t len = strlen(keys[k]);
                size_t i = 0;
                good_parts();
                while (memcmp(blobs[part].data + i, keys[k], len) != 0)
                    i++;
                set(&blobs[part], missing ? i : i + len, missing ? 'x' : MK_GGUF_FLOAT32,
                    missing ? 1 : 4);
                /* Without a count, the first part is a whole; only it tells the sum. */
                const int is_fine = k == 2 ? part > 0 : part == 0 && k == 1 && missing;
                CHECK_INT(try_open(part_names[0]), is_fine ? MINKE_OK : MINKE_EFORMAT);
                if (!is_fine)
                    CHECK_HAS(minke_last_error(), keys[k]);
            }
        }
    }
}

TEST(parts_that_lie_about_counts_or_share_a_tensor_are_refused)
{
    struct blob *b;

    good_parts();
    n_blobs = 0;
    b = blob_new("m-00001-of-00002.gguf");
    put_head(b, 1, 3);
    put_u32(b, "split.no", 0);
    put_u32(b, "split.count", 2);
    put_u32(b, "split.tensors.count", 3);
    put_tensor(b, "a", 8, 1, 0, 0);
    put_data(b, 32);
    b = blob_new("m-00002-of-00002.gguf");
    put_head(b, 1, 2);
    put_u32(b, "split.no", 1);
    put_u32(b, "split.count", 2);
    put_tensor(b, "a", 8, 1, 0, 0);
    put_data(b, 32);
    REFUSED("m-00001-of-00002.gguf", MINKE_EFORMAT, "split.tensors.count is 3");
    for (size_t at = 0; at + 20 < blobs[0].n; at++)
        if (memcmp(blobs[0].data + at, "split.tensors.count", 19) == 0)
            set(&blobs[0], at + 19 + 4, 2, 4);
    REFUSED("m-00001-of-00002.gguf", MINKE_EFORMAT, "tensor a appears twice");
    for (size_t at = 0; at + 12 < blobs[0].n; at++)
        if (memcmp(blobs[0].data + at, "split.count", 11) == 0)
            set(&blobs[0], at + 11 + 4, 70000, 4);
    REFUSED("m-00001-of-00002.gguf", MINKE_EFORMAT, "70000 parts");
}

/* ---- The description ------------------------------------------------------------------------ */

/* What the cases' config.json says, of the tree's and of the shared folder's. */
TEST(golden_files_give_the_config_of_their_cases)
{
    static const struct {
        const char *path, *model_type;
        uint32_t q_lora_rank, n_group, index_topk;
        double mscale;
    } cases[] = {
        {GOLDEN_GGUF "/v2-lite.gguf", "deepseek_v2", 0, 1, 0, 0.707},
        {GOLDEN_GGUF "/v2-lite-older.gguf", "deepseek_v2", 0, 1, 0, 0.707},
        {GOLDEN_GGUF "/v2.gguf", "deepseek_v2", 48, 4, 0, 0.707},
        {GOLDEN_GGUF "/v3.gguf", "deepseek_v3", 48, 4, 0, 1.0},
        {GOLDEN_GGUF "/v3-older.gguf", "deepseek_v3", 48, 4, 0, 1.0},
        {GOLDEN_GGUF "/v3-parts-00001-of-00003.gguf", "deepseek_v3", 48, 4, 0, 1.0},
        {GOLDEN_GGUF "/v32.gguf", "deepseek_v32", 48, 4, 16, 1.0},
        {"../shared/golden/gguf/v2-lite.gguf", "deepseek_v2", 0, 1, 0, 0.707},
        {"../shared/golden/gguf/v3.gguf", "deepseek_v3", 64, 4, 0, 1.0},
        {"../shared/golden/gguf/v32-gguf.gguf", "deepseek_v32", 64, 4, 16, 1.0},
    };
    const struct mk_env files = {0};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mk_gguf g;
        struct mk_config c;
        const int is_shared = strncmp(cases[i].path, "../shared", 9) == 0;
        const int32_t status = mk_gguf_open(&g, &files, cases[i].path);
        if (status == MINKE_EIO && is_shared)
            continue;
        CHECK_INT(status, MINKE_OK);
        CHECK_INT(mk_gguf_config(&c, &g), MINKE_OK);
        CHECK_STR(c.model_type, cases[i].model_type);
        CHECK_INT(c.num_hidden_layers, 3);
        CHECK_INT(c.first_k_dense_replace, 1);
        CHECK_INT(c.hidden_size, is_shared ? 96 : 64);
        CHECK_INT(c.vocab_size, is_shared ? 320 : 192);
        CHECK_INT(c.num_attention_heads, 4);
        CHECK_INT(c.qk_nope_head_dim, 24);
        CHECK_INT(c.qk_rope_head_dim, 16);
        CHECK_INT(c.v_head_dim, 20);
        CHECK_INT(c.kv_lora_rank, is_shared ? 48 : 40);
        CHECK_INT(c.q_lora_rank, cases[i].q_lora_rank);
        CHECK_INT(c.scoring_func, cases[i].mscale < 1.0 ? MK_SCORING_SOFTMAX : MK_SCORING_SIGMOID);
        CHECK_INT(c.n_group, cases[i].n_group);
        CHECK_INT(c.n_shared_experts, cases[i].mscale < 1.0 ? 2 : 1);
        CHECK_INT(c.index_topk, cases[i].index_topk);
        CHECK(c.rope_yarn && c.rope_factor == 8.0);
        CHECK_INT(c.rope_original_max_position_embeddings, 32);
        CHECK(c.rope_mscale > cases[i].mscale - 1e-6 && c.rope_mscale < cases[i].mscale + 1e-6);
        CHECK_INT(c.bos_token_id, is_shared ? 317 : 189);
        CHECK_INT(c.eos_token_id, is_shared ? 318 : 190);
        mk_gguf_close(&g);
    }
}

TEST(other_architectures_are_refused_by_name)
{
    struct where w;
    struct mk_gguf g;
    struct mk_config c;

    good_file(&w);
    memcpy(blobs[0].data + w.text_len + 8, "deepseek9", 9);
    CHECK_INT(mk_gguf_open(&g, &env, "a.gguf"), MINKE_OK);
    CHECK_INT(mk_gguf_config(&c, &g), MINKE_EUNSUPPORTED);
    CHECK_HAS(minke_last_error(), "deepseek9; deepseek2 and deepseek32 are run");
    mk_gguf_close(&g);
    good_file(&w);
    CHECK_INT(mk_gguf_open(&g, &env, "a.gguf"), MINKE_OK);
    CHECK_INT(mk_gguf_config(&c, &g), MINKE_EFORMAT);
    CHECK_HAS(minke_last_error(), "deepseek2.rope.dimension_count: missing");
    mk_gguf_close(&g);
}

TEST_MAIN(RUN(a_good_file_gives_values_and_tensors); RUN(version_2_is_read_and_others_are_not);
          RUN(lying_counts_are_refused); RUN(lying_lengths_are_refused);
          RUN(names_that_are_no_names_are_refused); RUN(lying_types_are_refused);
          RUN(dimensions_that_wrap_or_are_zero_are_refused);
          RUN(offsets_must_be_aligned_inside_and_apart); RUN(alignment_must_be_a_power_of_two);
          RUN(names_and_keys_are_unique); RUN(every_truncation_is_refused);
          RUN(every_byte_may_be_anything); RUN(parts_are_joined);
          RUN(missing_swapped_and_repeated_parts_are_refused);
          RUN(parts_that_are_damaged_are_refused);
          RUN(parts_that_do_not_say_which_they_are_are_refused);
          RUN(parts_that_lie_about_counts_or_share_a_tensor_are_refused);
          RUN(golden_files_give_the_config_of_their_cases);
          RUN(other_architectures_are_refused_by_name))
