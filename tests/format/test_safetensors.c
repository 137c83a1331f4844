/* The safetensors container: what it may hold, and every way in which a header can lie. */
#include "base/error.h"
#include "format/safetensors.h"
#include "test.h"

struct memory {
    const unsigned char *data;
    size_t size;             /* as told to the library */
    size_t real;             /* as there is */
};

static int32_t memory_open(void *user, const char *path, void **file, uint64_t *size)
{
    (void)path;
    *file = user;
    *size = ((struct memory *)user)->size;
    return 0;
}

static int32_t memory_read(void *user, void *file, uint64_t offset, void *buffer, size_t n)
{
    const struct memory *m = file;

    (void)user;
    if (offset > m->real || n > m->real - offset)
        return -1;
    memcpy(buffer, m->data + offset, n);
    return 0;
}

static void memory_close(void *user, void *file)
{
    (void)user;
    (void)file;
}

static struct mk_st_tensor *tensors;
static size_t n_tensors;
static struct mk_arena arena;

static int32_t read_bytes(const void *data, size_t size, size_t real)
{
    static const struct mk_allocator plain = {NULL, NULL, NULL};
    struct memory m = {data, size, real};
    const struct mk_env env = {.reader_open = memory_open, .reader_read = memory_read,
                               .reader_close = memory_close, .reader_user = &m};
    struct mk_file *file = NULL;

    mk_arena_free(&arena);
    mk_arena_init(&arena, &plain);
    tensors = NULL;
    n_tensors = 99;
    CHECK_INT(mk_file_open(&file, &env, "m.safetensors"), MINKE_OK);
    const int32_t status = mk_st_read(&tensors, &n_tensors, &arena, file);

    CHECK((tensors != NULL && n_tensors != 99) == (status == MINKE_OK));
    mk_file_close(file);
    return status;
}

static unsigned char image[65536];

/* Header and n_data zero bytes behind it; returns the size. */
static size_t build(const char *header, size_t n_data)
{
    const size_t n = strlen(header);

    memset(image, 0, sizeof image);
    image[0] = (unsigned char)n;
    image[1] = (unsigned char)(n >> 8);
    memcpy(image + 8, header, n);
    return 8 + n + n_data;
}

static int32_t read_header(const char *header, size_t n_data)
{
    const size_t size = build(header, n_data);

    return read_bytes(image, size, size);
}

static void check_bad(const char *header, size_t n_data, const char *message)
{
    CHECK_INT(read_header(header, n_data), MINKE_EFORMAT);
    CHECK_HAS(minke_last_error(), "m.safetensors");
    CHECK_HAS(minke_last_error(), message);
}

static const char good[] =
    "{\"__metadata__\":{\"format\":\"pt\"},"
    "\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[4,28]},"
    "\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]},"
    "\"scalar\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[28,36]},"
    "\"empty\":{\"dtype\":\"F16\",\"shape\":[0,7],\"data_offsets\":[36,36]},"
    "\"q\":{\"data_offsets\":[36,40],\"shape\":[4],\"dtype\":\"F8_E4M3\"}}   ";

TEST(tensors_come_in_the_order_of_their_bytes)
{
    CHECK_INT(read_header(good, 40), MINKE_OK);
    CHECK_INT(n_tensors, 5);
    CHECK_STR(tensors[0].name, "a");
    CHECK_STR(tensors[1].name, "b");
    CHECK_STR(tensors[1].dtype, "F32");
    CHECK(tensors[1].n_dims == 2 && tensors[1].shape[0] == 2 && tensors[1].shape[1] == 3);
    CHECK_INT(tensors[1].offset, 8 + strlen(good) + 4);
    CHECK_INT(tensors[1].size, 24);
    CHECK_INT(tensors[2].n_dims, 0);
    CHECK_STR(tensors[3].name, "empty");
    CHECK_STR(tensors[4].name, "q");
    CHECK_INT(read_header("{}", 0), MINKE_OK);
    CHECK_INT(n_tensors, 0);
}

TEST(a_file_cut_at_any_byte_is_refused)
{
    const size_t size = build(good, 40);

    for (size_t n = 0; n < size; n++) {
        unsigned char *copy = malloc(n + (n == 0));

        memcpy(copy, image, n);
        CHECK_INT(read_bytes(copy, n, n), MINKE_EFORMAT);
        free(copy);
        /* The same when only reading finds out. */
        CHECK(n >= 8 + strlen(good) || read_bytes(image, size, n) == MINKE_EIO);
    }
    CHECK_INT(read_bytes(image, size, size), MINKE_OK);
}

TEST(a_header_that_lies_about_its_size_is_refused)
{
    const size_t size = build(good, 40);

    for (int bit = 0; bit < 64; bit++) {
        image[bit / 8] ^= (unsigned char)(1 << bit % 8);
        CHECK_INT(read_bytes(image, size, size), MINKE_EFORMAT);
        image[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    CHECK_INT(read_bytes(image, size, size), MINKE_OK);
    memset(image, 0xFF, 8);
    CHECK_INT(read_bytes(image, size, size), MINKE_EFORMAT);
    memset(image, 0, 8);
    CHECK_INT(read_bytes(image, size, size), MINKE_EFORMAT);
}

/* A header of more than 100 MB is refused before it is read, however large the file. */
TEST(an_enormous_header_is_refused_unread)
{
    static const unsigned char head[8] = {0x01, 0xE1, 0xF5, 0x05};   /* 100000001 */

    CHECK_INT(read_bytes(head, SIZE_MAX / 2, 8), MINKE_EFORMAT);
    CHECK_HAS(minke_last_error(), "header of 100000001 bytes");
}

TEST(headers_that_are_no_table_are_refused)
{
    check_bad("[]", 0, "no JSON object");
    check_bad(" {}", 0, "no JSON object");
    check_bad("{", 0, "byte 1");
    check_bad("{}x", 0, "byte 2");
    check_bad("{\"a\":5}", 0, "tensor a: dtype is missing");
    check_bad("{\"a\":{}}", 0, "tensor a: dtype is missing");
    check_bad("{\"\":{}}", 0, "empty or holds NUL");
    check_bad("{\"x\\u0000y\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, "NUL");
    check_bad("{\"__metadata__\":[]}", 0, "__metadata__");
    check_bad("{\"__metadata__\":{\"a\":1}}", 0, "__metadata__: a");
}

TEST(entries_that_lie_are_refused)
{
    check_bad("{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "F33");
    check_bad("{\"a\":{\"dtype\":4,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype");
    check_bad("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "shape");
    check_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":4,\"data_offsets\":[0,4]}}", 4, "shape");
    check_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "no size");
    check_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", 4, "no size");
    check_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[\"1\"],\"data_offsets\":[0,4]}}", 4, "size");
    check_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}",
              4, "9 dimensions");
    check_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "data_offsets");
    check_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "data_offsets");
    check_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,4]}}", 4, "data_off");
    check_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "bytes 4");
    check_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, "data_off");
    check_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", 4, "of 4");
    check_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "match");
    check_bad("{\"a\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "match");
    check_bad("{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, "match");
}

TEST(products_of_sizes_that_wrap_are_refused)
{
    check_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],"
              "\"data_offsets\":[0,0]}}", 0, "match");
    check_bad("{\"a\":{\"dtype\":\"U8\",\"shape\":[2305843009213693952,8],"
              "\"data_offsets\":[0,0]}}", 0, "match");
    check_bad("{\"a\":{\"dtype\":\"U8\",\"shape\":[9223372036854775807],"
              "\"data_offsets\":[0,9223372036854775807]}}", 4, "of 4");
    CHECK_INT(read_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[9223372036854775807,"
                          "9223372036854775807,0],\"data_offsets\":[0,0]}}", 0), MINKE_OK);
}

TEST(gaps_overlaps_and_repetitions_are_refused)
{
    check_bad("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
              "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}", 6, "overlap");
    check_bad("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
              "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "overlap");
    check_bad("{\"a\":{\"dtype\":\"U8\",\"shape\":[6],\"data_offsets\":[0,6]},"
              "\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[2,2]}}", 6, "overlap");
    check_bad("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
              "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[5,9]}}", 9, "gap");
    check_bad("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[1,5]}}", 5, "gap");
    check_bad("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 5, "behind");
    check_bad("{}", 1, "behind");
    check_bad("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
              "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2, "repeated");
}

/* Whatever one byte of the header becomes, the answer is yes or a message. */
TEST(any_changed_byte_is_survived)
{
    const size_t size = build(good, 40), n = 8 + strlen(good);

    for (size_t i = 0; i < n; i++)
        for (int bit = 0; bit < 8; bit++) {
            image[i] ^= (unsigned char)(1 << bit);
            const int32_t status = read_bytes(image, size, size);

            CHECK(status == MINKE_OK || status == MINKE_EFORMAT);
            for (size_t k = 0; status == MINKE_OK && k < n_tensors; k++)
                CHECK(tensors[k].offset + tensors[k].size <= size);
            image[i] ^= (unsigned char)(1 << bit);
        }
}

TEST_MAIN(RUN(tensors_come_in_the_order_of_their_bytes), RUN(a_file_cut_at_any_byte_is_refused),
          RUN(a_header_that_lies_about_its_size_is_refused),
          RUN(an_enormous_header_is_refused_unread), RUN(headers_that_are_no_table_are_refused),
          RUN(entries_that_lie_are_refused), RUN(products_of_sizes_that_wrap_are_refused),
          RUN(gaps_overlaps_and_repetitions_are_refused), RUN(any_changed_byte_is_survived),
          mk_arena_free(&arena))
