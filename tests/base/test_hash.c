/* The checksum: every change within a word is seen, and results never change. */
#include "base/hash.h"
#include "test.h"

TEST(every_flipped_bit_changes_the_result)
{
    unsigned char data[300];

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 37 + i / 9);
    for (size_t n = 0; n <= sizeof data; n += n < 70 ? 1 : 23) {
        const uint64_t h = mk_hash(7, data, n);

        for (size_t i = 0; i < 8 * n; i++) {
            data[i / 8] ^= (unsigned char)(1u << i % 8);
            CHECK(mk_hash(7, data, n) != h);
            data[i / 8] ^= (unsigned char)(1u << i % 8);
        }
        CHECK(mk_hash(7, data, n) == h);
    }
}

TEST(length_beginning_and_order_count)
{
    const unsigned char zeros[80] = {0};
    const uint64_t pair[2] = {1, 2}, swapped[2] = {2, 1};

    for (size_t n = 0; n < sizeof zeros; n++)
        CHECK(mk_hash(7, zeros, n) != mk_hash(7, zeros, n + 1));
    CHECK(mk_hash(7, zeros, 40) != mk_hash(8, zeros, 40));
    CHECK(mk_hash(7, pair, 16) != mk_hash(7, swapped, 16));
    CHECK(mk_hash_u64(mk_hash_u64(0, 1), 2) != mk_hash_u64(mk_hash_u64(0, 2), 1));
    CHECK(mk_hash_u64(0, 0) != mk_hash_u64(0, 1));
}

/* Files hold these numbers. */
TEST(results_are_the_same_in_every_version)
{
    unsigned char data[101];

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)i;
    CHECK(mk_hash(0, data, 0) == 0x40abbe6052181acau);
    CHECK(mk_hash(0, data, 101) == 0xbd9694b7dd1ff67au);
    CHECK(mk_hash_u64(1, 2) == 0x18d0143a43ba2b79u);
}

TEST_MAIN(RUN(every_flipped_bit_changes_the_result), RUN(length_beginning_and_order_count),
          RUN(results_are_the_same_in_every_version))
