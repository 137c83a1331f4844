#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* fork, mkfifo, sched_getaffinity */
#endif
/* Messages, memory, parameters, processor, files and sorting. */
#include <fenv.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/cpu.h"
#include "base/env.h"
#include "base/error.h"
#include "base/file.h"
#include "base/params.h"
#include "base/sort.h"
#include "comma.h"
#include "test.h"

static const struct mk_env env;
static char folder[64] = "/tmp/minke-base-XXXXXX";

static const char *in_folder(char path[256], const char *name)
{
    mk_format(path, 256, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");

    CHECK(f != NULL);
    if (f != NULL) {
        fwrite(text, 1, strlen(text), f);
        fclose(f);
    }
}

/* ---- Messages ------------------------------------------------------------ */

TEST(formats_are_those_of_printf)
{
    char a[256], b[256];
    const size_t n = mk_format(a, sizeof a, "%s|%.*s|%c|%d|%u|%x|%ld|%lld|%zu|%llu|%g|%%", "s", 2,
                               "abc", 'c', -5, 7u, 255u, -6l, INT64_MIN + 0ll, (size_t)9,
                               (unsigned long long)UINT64_MAX, 0.1);

    snprintf(b, sizeof b, "%s|%.*s|%c|%d|%u|%x|%ld|%lld|%zu|%llu|%g|%%", "s", 2, "abc", 'c', -5,
             7u, 255u, -6l, (long long)INT64_MIN, (size_t)9, (unsigned long long)UINT64_MAX, 0.1);
    CHECK_STR(a, b);
    CHECK_INT(n, strlen(b));
    CHECK_INT(mk_format(NULL, 0, "%d", 12345), 5);
    CHECK_INT(mk_format(a, 4, "%d", 12345), 5);
    CHECK_STR(a, "123");
}

TEST(numbers_in_messages_ignore_the_locale)
{
    char text[32];

    if (!locale_with_comma())
        SKIP("no locale with a decimal comma can be made here");
    mk_format(text, sizeof text, "%g", 1234.5);
    locale_leave();
    CHECK_STR(text, "1234.5");
}

TEST(a_message_is_one_clean_line)
{
    static char longer[2000];

    CHECK_INT(mk_fail(MINKE_EIO, "a\nb\tc\x7F %s \xFF\xC3[", "\xC3\xA9\xE2\x82\xAC"), MINKE_EIO);
    CHECK_STR(minke_last_error(), "a?b?c? \xC3\xA9\xE2\x82\xAC ?" "?[");
    mk_fail(MINKE_EIO, "\xC2\x85 \xE2\x80\xA8 %s", "x");
    CHECK(strchr(minke_last_error(), '\xE2') == NULL);
    for (size_t i = 0; i + 2 < sizeof longer; i += 2)
        memcpy(longer + i, "\xC3\xA9", 2);
    for (size_t shift = 0; shift < 4; shift++) {
        mk_fail(MINKE_EIO, "%.*s%s", (int)shift, "xyz", longer);
        CHECK(strlen(minke_last_error()) <= 511 && strlen(minke_last_error()) >= 508);
        CHECK(strchr(minke_last_error(), '?') == NULL);
    }
    mk_fail(MINKE_EIO, "%s again", minke_last_error());
    CHECK(strlen(minke_last_error()) <= 511);
}

TEST(statuses_have_names)
{
    CHECK_STR(minke_status_name(MINKE_OK), "MINKE_OK");
    CHECK_STR(minke_status_name(MINKE_EFORMAT), "MINKE_EFORMAT");
    CHECK_STR(minke_status_name(MINKE_EFORK), "MINKE_EFORK");
    CHECK(minke_status_name(1) != NULL && minke_status_name(-1000) != NULL);
    CHECK(minke_status_name(INT32_MIN) != NULL);
}

/* ---- Memory -------------------------------------------------------------- */

struct counts {
    size_t held, calls, fail_at;
};

static void *count_alloc(void *user, size_t size, size_t align)
{
    struct counts *c = user;
    void *p = NULL;

    CHECK(align != 0 && (align & (align - 1)) == 0);
    if (c->calls++ == c->fail_at || posix_memalign(&p, align, size) != 0)
        return NULL;
    memset(p, 0xAA, size);
    c->held += size;
    return p;
}

static void count_free(void *user, void *p, size_t size)
{
    struct counts *c = user;

    CHECK(c->held >= size);
    c->held -= size;
    free(p);
}

TEST(memory_is_zero_aligned_and_freed_with_its_size)
{
    struct counts c = {.fail_at = SIZE_MAX};
    const struct mk_allocator a = {count_alloc, count_free, &c};
    unsigned char *p = mk_alloc(&a, 1000, 3);
    void *empty = mk_alloc(&a, 0, 8);
    unsigned char any = 0;

    CHECK(p != NULL && empty != NULL && (uintptr_t)p % 64 == 0);
    for (size_t i = 0; i < 3000; i++)
        any |= p[i];
    CHECK_INT(any, 0);
    mk_free(&a, p);
    mk_free(&a, empty);
    mk_free(&a, NULL);
    CHECK_INT(c.held, 0);
}

TEST(sizes_that_wrap_are_out_of_memory)
{
    const struct mk_allocator a = {NULL, NULL, NULL};
    struct mk_arena arena;

    mk_arena_init(&arena, &a);
    CHECK(mk_alloc(&a, SIZE_MAX / 2, 4) == NULL);
    CHECK(mk_alloc(&a, SIZE_MAX, 1) == NULL);
    CHECK(mk_arena_alloc(&arena, SIZE_MAX / 2, 4) == NULL);
    CHECK(mk_arena_alloc(&arena, SIZE_MAX - 8, 1) == NULL);
    CHECK_HAS(minke_last_error(), "out of memory");
    mk_arena_free(&arena);
}

TEST(arrays_grow_and_stay_when_memory_ends)
{
    struct counts c = {.fail_at = 2};
    const struct mk_allocator a = {count_alloc, count_free, &c};
    size_t capacity = 0;
    void *items = NULL;

    CHECK_INT(mk_grow(&a, &items, &capacity, 1, 4), MINKE_OK);
    ((int *)items)[0] = 42;
    CHECK_INT(mk_grow(&a, &items, &capacity, 100, 4), MINKE_OK);
    CHECK(capacity >= 100 && ((int *)items)[0] == 42 && ((int *)items)[99] == 0);
    const size_t before = capacity;
    CHECK_INT(mk_grow(&a, &items, &capacity, 10000, 4), MINKE_ENOMEM);
    CHECK(capacity == before && ((int *)items)[0] == 42);
    mk_free(&a, items);
    CHECK_INT(c.held, 0);
}

TEST(blocks_are_aligned_to_huge_pages)
{
    struct counts c = {.fail_at = SIZE_MAX};
    const struct mk_allocator own = {NULL, NULL, NULL}, host = {count_alloc, count_free, &c};
    static const size_t sizes[] = {0, 1, 4096, 5000, 2097152, 5000000};

    for (size_t i = 0; i < 12; i++) {
        const struct mk_allocator *a = i % 2 ? &own : &host;
        const size_t size = sizes[i / 2];
        struct mk_block b = {NULL, 0};

        CHECK_INT(mk_block_alloc(&b, a, size), MINKE_OK);
        CHECK((uintptr_t)b.data % (2u << 20) == 0);
        memset(b.data, 1, size);
        mk_block_free(&b, a);
        CHECK(b.data == NULL);
        mk_block_free(&b, a);
    }
    CHECK_INT(c.held, 0);
    struct mk_block none;
    CHECK_INT(mk_block_alloc(&none, &own, SIZE_MAX - 100), MINKE_ENOMEM);
}

TEST(arenas_hold_small_and_large_things)
{
    struct counts c = {.fail_at = SIZE_MAX};
    const struct mk_allocator a = {count_alloc, count_free, &c};
    struct mk_arena arena;
    unsigned char *last = NULL;

    mk_arena_init(&arena, &a);
    for (size_t i = 1; i < 3000; i++) {
        unsigned char *p = mk_arena_alloc(&arena, i % 97, i % 5 + 1);

        CHECK(p != NULL && p != last && (uintptr_t)p % 16 == 0);
        for (size_t k = 0; k < i % 97 * (i % 5 + 1); k++)
            CHECK(p[k] == 0);
        memset(p, 0xFF, i % 97 * (i % 5 + 1));
        last = p;
    }
    unsigned char *big = mk_arena_alloc(&arena, 5000000, 1);
    CHECK(big != NULL && big[4999999] == 0);
    CHECK_STR(mk_arena_text(&arena, "hello", 4), "hell");
    mk_arena_free(&arena);
    CHECK_INT(c.held, 0);
}

/* ---- Parameters ---------------------------------------------------------- */

struct old_params { uint32_t size, a; };
struct params { uint32_t size, a, b, c; };
struct new_params { uint32_t size, a, b, c, d; };

TEST(params_of_older_and_newer_callers_are_read)
{
    struct old_params old = {sizeof old, 1};
    struct new_params new = {sizeof new, 1, 2, 3, 0};
    struct params p = {9, 9, 9, 9};

    CHECK_INT(mk_params_read(&p, sizeof p, &old, sizeof old), MINKE_OK);
    CHECK(p.a == 1 && p.b == 0 && p.c == 0);
    CHECK_INT(mk_params_read(&p, sizeof p, &new, sizeof old), MINKE_OK);
    CHECK(p.a == 1 && p.b == 2 && p.c == 3);
    new.d = 1;
    p.a = 9;
    CHECK_INT(mk_params_read(&p, sizeof p, &new, sizeof old), MINKE_EVERSION);
    CHECK_INT(p.a, 9);
    old.size = 4;
    CHECK_INT(mk_params_read(&p, sizeof p, &old, sizeof old), MINKE_EINVAL);
    old.size = UINT32_MAX;
    CHECK_INT(mk_params_read(&p, sizeof p, &old, sizeof old), MINKE_EINVAL);
    CHECK_INT(mk_params_read(&p, sizeof p, NULL, sizeof old), MINKE_OK);
    CHECK(p.a == 0 && p.c == 0);
}

/* ---- Processor and floating-point state ---------------------------------- */

TEST(floating_point_state_is_set_aside_and_put_back)
{
    struct mk_fpu saved;
    volatile double one = 1.0, three = 3.0;

    const double nearest = one / three;
    fesetround(FE_UPWARD);
    const double upward = one / three;
    mk_fpu_enter(&saved);
    CHECK_INT(fegetround(), FE_TONEAREST);
    CHECK(one / three == nearest);
    mk_fpu_leave(&saved);
    CHECK_INT(fegetround(), FE_UPWARD);
    CHECK(one / three == upward);
    fesetround(FE_TONEAREST);
}

TEST(threads_follow_affinity)
{
    cpu_set_t old, one;
    const uint32_t n = mk_cpu_threads();

    CHECK(n >= 1 && n <= 1024);
    CHECK_INT(sched_getaffinity(0, sizeof old, &old), 0);
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &old)) {
            CPU_SET(i, &one);
            break;
        }
    if (sched_setaffinity(0, sizeof one, &one) != 0)
        SKIP("affinity cannot be set here");
    CHECK_INT(mk_cpu_threads(), 1);
    sched_setaffinity(0, sizeof old, &old);
    CHECK_INT(mk_cpu_threads(), n);
}

TEST(threads_follow_the_quota_of_control_groups)
{
    char list[256], path[256];

    in_folder(list, "cgroup");
    write_file(list, "0::/a/b\n");
    CHECK_INT(mk_cpu_cgroup_threads(list, folder), 1024);
    mkdir(in_folder(path, "a"), 0700);
    mkdir(in_folder(path, "a/b"), 0700);
    write_file(in_folder(path, "a/b/cpu.max"), "max 100000\n");
    CHECK_INT(mk_cpu_cgroup_threads(list, folder), 1024);
    write_file(in_folder(path, "a/cpu.max"), "250000 100000\n");
    CHECK_INT(mk_cpu_cgroup_threads(list, folder), 3);
    write_file(in_folder(path, "cpu.max"), "50000 100000\n");
    CHECK_INT(mk_cpu_cgroup_threads(list, folder), 1);
    write_file(list, "12:memory:/x\n4:cpu,cpuacct:/c\n3:cpuset:/d\n");
    mkdir(in_folder(path, "cpu"), 0700);
    mkdir(in_folder(path, "cpu/c"), 0700);
    write_file(in_folder(path, "cpu/c/cpu.cfs_quota_us"), "-1\n");
    write_file(in_folder(path, "cpu/c/cpu.cfs_period_us"), "100000\n");
    CHECK_INT(mk_cpu_cgroup_threads(list, folder), 1024);
    write_file(in_folder(path, "cpu/c/cpu.cfs_quota_us"), "400000\n");
    CHECK_INT(mk_cpu_cgroup_threads(list, folder), 4);
    CHECK_INT(mk_cpu_cgroup_threads("/no/such/file", folder), 1024);
}

TEST(features_have_a_name)
{
    CHECK(strlen(mk_cpu_name(mk_cpu_features())) > 0);
    CHECK_STR(mk_cpu_name(0), "c");
    CHECK_STR(mk_cpu_name(MK_CPU_AVX2), "avx2");
    CHECK_STR(mk_cpu_name(MK_CPU_AVX2 | MK_CPU_AVX512 | MK_CPU_VNNI), "avx512+vnni");
    CHECK_STR(mk_cpu_name(MK_CPU_NEON | MK_CPU_DOTPROD), "neon+dotprod");
}

/* ---- Files --------------------------------------------------------------- */

TEST(files_are_read_and_mapped)
{
    char path[256], part[4] = "";
    struct mk_file *f = NULL;
    const void *map = NULL;
    char *text;
    size_t n;

    write_file(in_folder(path, "file"), "0123456789");
    CHECK_INT(mk_file_open(&f, &env, path), MINKE_OK);
    CHECK(f != NULL && mk_file_size(f) == 10);
    CHECK_INT(mk_file_read(f, 4, part, 3), MINKE_OK);
    CHECK_STR(part, "456");
    CHECK_INT(mk_file_read(f, 8, part, 3), MINKE_EIO);
    CHECK_INT(mk_file_read(f, UINT64_MAX, part, 1), MINKE_EIO);
    CHECK_INT(mk_file_map(f, &map), MINKE_OK);
    CHECK(map != NULL && memcmp(map, "0123456789", 10) == 0);
    CHECK_INT(truncate(path, 5), 0);
    CHECK_INT(mk_file_read(f, 4, part, 3), MINKE_EIO);
    CHECK_HAS(minke_last_error(), path);
    mk_file_close(f);
    CHECK_INT(mk_file_load(&text, &n, &env, path, 5), MINKE_OK);
    CHECK(n == 5 && strcmp(text, "01234") == 0);
    mk_free(&env.alloc, text);
    CHECK_INT(mk_file_load(&text, &n, &env, path, 4), MINKE_EFORMAT);
}

TEST(what_is_no_file_is_told_apart)
{
    char path[256];
    struct mk_file *f = (struct mk_file *)path;

    CHECK_INT(mk_file_open(&f, &env, in_folder(path, "none")), MINKE_OK);
    CHECK(f == NULL);
    CHECK_INT(mk_file_open(&f, &env, folder), MINKE_EIO);
    CHECK_HAS(minke_last_error(), folder);
    CHECK_INT(mkfifo(in_folder(path, "pipe"), 0600), 0);
    CHECK_INT(mk_file_open(&f, &env, path), MINKE_EIO);
    CHECK(mk_path_is_dir(&env, folder) && !mk_path_is_dir(&env, path));
    CHECK(!mk_path_is_dir(&env, "/no/such"));
}

static int32_t host_open(void *user, const char *path, void **file, uint64_t *size)
{
    *file = user;
    *size = 6;
    return strstr(path, "bad") != NULL ? -3 : strstr(path, "none") != NULL;
}

static int32_t host_read(void *user, void *file, uint64_t offset, void *buffer, size_t n)
{
    CHECK(user == file);
    CHECK(offset + n <= 6);
    memcpy(buffer, &"reader"[offset], n);
    return offset == 5 ? -1 : 0;
}

static void host_close(void *user, void *file)
{
    CHECK(user == file);
    ++*(int *)user;
}

TEST(a_hosts_reader_is_used_and_closed)
{
    int closed = 0;
    const struct mk_env host = {.reader_open = host_open, .reader_read = host_read,
                                .reader_close = host_close, .reader_user = &closed};
    struct mk_file *f = NULL;
    const void *map;
    char text[7] = "";

    CHECK_INT(mk_file_open(&f, &host, "x/good"), MINKE_OK);
    CHECK(f != NULL && mk_file_size(f) == 6);
    CHECK_INT(mk_file_read(f, 0, text, 5), MINKE_OK);
    CHECK_STR(text, "reade");
    CHECK_INT(mk_file_read(f, 5, text, 1), MINKE_EIO);
    CHECK_INT(mk_file_read(f, 5, text, 2), MINKE_EIO);
    CHECK_INT(mk_file_map(f, &map), MINKE_EUNSUPPORTED);
    CHECK(mk_path_is_dir(&host, "anything"));
    mk_file_close(f);
    CHECK_INT(closed, 1);
    CHECK_INT(mk_file_open(&f, &host, "x/none"), MINKE_OK);
    CHECK(f == NULL);
    CHECK_INT(mk_file_open(&f, &host, "x/bad"), MINKE_EIO);
    CHECK_INT(closed, 1);
}

TEST(a_written_file_appears_whole_or_not_at_all)
{
    char path[256], command[512];
    static char big[200000];
    struct mk_writer *w = NULL;
    char *text;
    size_t n;

    memset(big, 'x', sizeof big);
    in_folder(path, "written");
    CHECK_INT(mk_writer_open(&w, &env.alloc, path), MINKE_OK);
    CHECK_INT(mk_writer_write(w, "head", 4), MINKE_OK);
    mk_writer_free(w);
    CHECK(access(path, F_OK) != 0);
    CHECK_INT(mk_writer_open(&w, &env.alloc, path), MINKE_OK);
    CHECK_INT(mk_writer_write(w, "head", 4), MINKE_OK);
    CHECK_INT(mk_writer_write(w, big, sizeof big), MINKE_OK);
    CHECK_INT(mk_writer_write(w, "tail", 4), MINKE_OK);
    CHECK_INT(mk_writer_size(w), sizeof big + 8);
    CHECK(access(path, F_OK) != 0);
    CHECK_INT(mk_writer_commit(w), MINKE_OK);
    mk_writer_free(w);
    CHECK_INT(mk_file_load(&text, &n, &env, path, 1 << 20), MINKE_OK);
    CHECK(n == sizeof big + 8 && memcmp(text, "headx", 5) == 0
          && memcmp(text + n - 5, "xtail", 5) == 0);
    mk_free(&env.alloc, text);
    CHECK_INT(mk_writer_open(&w, &env.alloc, "/no/such/dir/file"), MINKE_EIO);
    snprintf(command, sizeof command, "ls %s | grep -q part", folder);
    CHECK(system(command) != 0);
}

/* ---- Sorting ------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
    const int x = *(const int *)a, y = *(const int *)b;

    return (x > y) - (x < y);
}

TEST(pointers_are_sorted)
{
    static int numbers[1000];
    static const void *items[1000];

    for (size_t n = 0; n < 1000; n += n < 10 ? 1 : 97) {
        for (size_t i = 0; i < n; i++) {
            numbers[i] = (int)(i * 7919 % 31 * (n % 3) + i % 5);
            items[i] = &numbers[i];
        }
        mk_sort(items, n, by_number);
        for (size_t i = 1; i < n; i++)
            CHECK(by_number(items[i - 1], items[i]) <= 0);
    }
}

static void make_folder(void)
{
    if (mkdtemp(folder) == NULL)
        exit(1);
}

static void remove_folder(void)
{
    char command[128];

    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command) != 0)
        exit(1);
}

TEST_MAIN(make_folder(), RUN(formats_are_those_of_printf),
          RUN(numbers_in_messages_ignore_the_locale), RUN(a_message_is_one_clean_line),
          RUN(statuses_have_names), RUN(memory_is_zero_aligned_and_freed_with_its_size),
          RUN(sizes_that_wrap_are_out_of_memory), RUN(arrays_grow_and_stay_when_memory_ends),
          RUN(blocks_are_aligned_to_huge_pages), RUN(arenas_hold_small_and_large_things),
          RUN(params_of_older_and_newer_callers_are_read),
          RUN(floating_point_state_is_set_aside_and_put_back), RUN(threads_follow_affinity),
          RUN(threads_follow_the_quota_of_control_groups), RUN(features_have_a_name),
          RUN(files_are_read_and_mapped), RUN(what_is_no_file_is_told_apart),
          RUN(a_hosts_reader_is_used_and_closed),
          RUN(a_written_file_appears_whole_or_not_at_all), RUN(pointers_are_sorted),
          remove_folder())
