/* CPU features, and how many threads the system lets us run. */
#include "base/cpu.h"

#include <stddef.h>
#include <string.h>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

#include "base/checked.h"
#include "base/error.h"
#include "base/os.h"
#include "base/view.h"

/* ---- Features ------------------------------------------------------------ */

#if defined(__x86_64__) || defined(__i386__)
/* State that the operating system saves: XCR0 (Intel SDM volume 1, 13.3). */
static uint64_t cpu_saved_state(void)
{
    uint32_t low, high;

    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

uint32_t mk_cpu_features(void)
{
    const uint32_t fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28, f16c = 1u << 29;
    uint32_t a, b, c, d, features = 0;

    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & osxsave) == 0 || (c & avx) == 0)
        return 0;
    const uint32_t leaf1 = c;
    const uint64_t state = cpu_saved_state();

    if ((state & 0x06) != 0x06 || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return 0;
    if ((b & 1u << 5) && (leaf1 & fma) && (leaf1 & f16c))
        features |= MK_CPU_AVX2;
    /* AVX-512 F, DQ, BW and VL, with mask and upper registers saved. */
    const uint32_t avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;

    if (features == 0 || (b & avx512) != avx512 || (state & 0xE0) != 0xE0)
        return features;
    features |= MK_CPU_AVX512;
    if (c & 1u << 11)
        features |= MK_CPU_VNNI;
    if (c & 1u << 1)
        features |= MK_CPU_VBMI;
    if (d & 1u << 23)
        features |= MK_CPU_FP16;
    /* AMX-BF16 and AMX-TILE, with tile configuration and data saved. */
    const uint32_t amx = 1u << 22 | 1u << 24;

    if ((d & amx) == amx && (state & 0x60000) == 0x60000)
        features |= MK_CPU_AMX_BF16;
    return features;
}
#elif defined(__aarch64__)
uint32_t mk_cpu_features(void)
{
    uint32_t features = MK_CPU_NEON;
    uint64_t words[2];

    /* HWCAP_ASIMDDP and HWCAP2_I8MM of Linux' asm/hwcap.h; elsewhere what is compiled for. */
    mk_os_hwcap(words);
    if (words[0] & 1u << 20)
        features |= MK_CPU_DOTPROD;
    if (words[1] & 1u << 13)
        features |= MK_CPU_I8MM;
#if defined(__ARM_FEATURE_DOTPROD)
    features |= MK_CPU_DOTPROD;
#endif
#if defined(__ARM_FEATURE_MATMUL_INT8)
    features |= MK_CPU_I8MM;
#endif
    return features;
}
#else
uint32_t mk_cpu_features(void)
{
    return 0;
}
#endif

const char *mk_cpu_name(uint32_t features)
{
    static const char *const avx512[8] = {
        "avx512", "avx512+vnni", "avx512+fp16", "avx512+vnni+fp16", "avx512+vbmi",
        "avx512+vnni+vbmi", "avx512+fp16+vbmi", "avx512+vnni+fp16+vbmi"
    };
    static const char *const neon[4] = {
        "neon", "neon+dotprod", "neon+i8mm", "neon+dotprod+i8mm"
    };

    if (features & MK_CPU_AVX512)
        return avx512[((features & MK_CPU_VNNI) ? 1 : 0) | ((features & MK_CPU_FP16) ? 2 : 0)
                      | ((features & MK_CPU_VBMI) ? 4 : 0)];
    if (features & MK_CPU_AVX2)
        return "avx2";
    if (features & MK_CPU_NEON)
        return neon[((features & MK_CPU_DOTPROD) ? 1 : 0) | ((features & MK_CPU_I8MM) ? 2 : 0)];
    return "c";
}

/* ---- Threads ------------------------------------------------------------- */

#define CPU_MAX_THREADS 1024u

/* The beginning of a small file as text; -1 when it cannot be read. */
static int cpu_read_text(char *text, size_t size, const char *path)
{
    struct mk_os_stat s;
    const int fd = mk_os_open(&s, path, MK_OS_READ);
    size_t n = 0;

    if (fd < 0)
        return -1;
    for (int64_t got = 1; n < size - 1 && got > 0;) {
        got = mk_os_read(fd, text + n, size - 1 - n, n);
        n += got > 0 ? (size_t)got : 0;
    }
    mk_os_close(fd);
    text[n] = '\0';
    return 0;
}

/* A decimal number at *s, which moves behind it; -1 if there is none ("max", "-1"). */
static int64_t cpu_number(const char **s)
{
    int64_t v = 0;

    while (**s == ' ')
        (*s)++;
    if (**s < '0' || **s > '9')
        return -1;
    for (; **s >= '0' && **s <= '9'; (*s)++)
        if (v < INT64_C(1) << 50)
            v = v * 10 + (**s - '0');
    return v;
}

/* The quota of one cgroup folder; v1 keeps its two numbers in two files. */
static uint32_t cpu_quota_at(const char *dir, int v2)
{
    static const char *const names[2][2] = {{"cpu.cfs_quota_us", "cpu.cfs_period_us"},
                                            {"cpu.max", NULL}};
    char path[1200], text[128];
    const char *s = text;
    int64_t number[2];

    for (int i = 0; i < 2; i++) {
        mk_format(path, sizeof(path), "%s/%s", dir, names[v2][i]);
        if (names[v2][i] != NULL && cpu_read_text(text, sizeof(text), path) != 0)
            return CPU_MAX_THREADS;
        s = names[v2][i] != NULL ? text : s;
        number[i] = cpu_number(&s);
        if (number[i] <= 0)
            return CPU_MAX_THREADS;
    }
    return (uint32_t)mk_min((size_t)((number[0] + number[1] - 1) / number[1]), CPU_MAX_THREADS);
}

/* The least quota of a cgroup and of those above it; dir ends where the mount begins. */
static uint32_t cpu_quota_up(const char *mount, const char *group, size_t group_len, int v2)
{
    char dir[1100];
    const size_t base = strlen(mount);
    uint32_t least = CPU_MAX_THREADS;

    if (base + group_len + 1 > sizeof(dir))
        group_len = 0;
    mk_format(dir, sizeof(dir), "%s%.*s", mount, (int)group_len, group);
    for (size_t n = base + group_len;; n--) {
        if (n == base || dir[n] == '/' || n == base + group_len) {
            dir[n] = '\0';
            least = (uint32_t)mk_min(least, cpu_quota_at(dir, v2));
        }
        if (n == base)
            return least;
    }
}

/* Whether the controllers "cpu,cpuacct" include cpu. */
static int cpu_is_controller(const char *list, size_t n)
{
    for (size_t i = 0; i + 3 <= n; i++)
        if ((i == 0 || list[i - 1] == ',') && memcmp(list + i, "cpu", 3) == 0
            && (i + 3 == n || list[i + 3] == ','))
            return 1;
    return 0;
}

/* Lines of /proc/self/cgroup are "id:controllers:path"; v2 has no controllers. */
uint32_t mk_cpu_cgroup_threads(const char *list, const char *root)
{
    char text[4096], mount[512];
    const struct mk_view colon = MK_VIEW(":"), newline = MK_VIEW("\n");
    uint32_t least = CPU_MAX_THREADS;

    if (cpu_read_text(text, sizeof(text), list) != 0)
        return least;
    const struct mk_view all = mk_view(text);

    for (size_t at = 0, end; at < all.len; at = end + 1) {
        end = mk_view_find(all, at, newline);
        const struct mk_view line = mk_view_part(all, at, end);
        const size_t a = mk_view_find(line, 0, colon), b = mk_view_find(line, a + 1, colon);
        const int v2 = b == a + 1;

        if (b == line.len || !(v2 || cpu_is_controller(line.data + a + 1, b - a - 1)))
            continue;
        mk_format(mount, sizeof(mount), v2 ? "%s" : "%s/cpu", root);
        least = (uint32_t)mk_min(least, cpu_quota_up(mount, line.data + b + 1, line.len - b - 1,
                                                     v2));
    }
    return least;
}

uint32_t mk_cpu_threads(void)
{
    return (uint32_t)mk_min(mk_os_processors(),
                            mk_cpu_cgroup_threads("/proc/self/cgroup", "/sys/fs/cgroup"));
}
