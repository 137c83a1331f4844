#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* sched_getaffinity, getauxval */
#endif
/* CPU features, and how many threads the system lets us run. */
#include "base/cpu.h"

#include <stddef.h>
#include <string.h>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif
#if defined(_WIN32)
#include <windows.h>
#else
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#endif
#if defined(__linux__)
#include <sched.h>
#include <stdlib.h>
#include <sys/auxv.h>
#endif

#include "base/error.h"

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

#if defined(__linux__)
    /* HWCAP_ASIMDDP and HWCAP2_I8MM of Linux' asm/hwcap.h. */
    if (getauxval(AT_HWCAP) & 1ul << 20)
        features |= MK_CPU_DOTPROD;
    if (getauxval(AT_HWCAP2) & 1ul << 13)
        features |= MK_CPU_I8MM;
#else
#if defined(__ARM_FEATURE_DOTPROD)
    features |= MK_CPU_DOTPROD;
#endif
#if defined(__ARM_FEATURE_MATMUL_INT8)
    features |= MK_CPU_I8MM;
#endif
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

#if defined(__linux__)
/* CPUs in the affinity mask.  The kernel's mask may be larger than the C library's type, so
 * that the call is repeated with more room. */
static uint32_t cpu_affinity(void)
{
    for (int n = 1024; n <= 1 << 18; n *= 4) {
        cpu_set_t *set = CPU_ALLOC((size_t)n);
        const size_t size = CPU_ALLOC_SIZE((size_t)n);

        if (set == NULL)
            return 1;
        const int failed = sched_getaffinity(0, size, set);
        const int count = failed ? 0 : CPU_COUNT_S(size, set);

        CPU_FREE(set);
        if (!failed)
            return count > 0 ? (uint32_t)count : 1;
        if (errno != EINVAL)
            break;
    }
    return 1;
}

/* The beginning of a small file as text; -1 when it cannot be read. */
static int cpu_read_text(char *text, size_t size, const char *path)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t n = 0;

    if (fd < 0)
        return -1;
    while (n < size - 1) {
        const ssize_t got = read(fd, text + n, size - 1 - n);

        if (got <= 0)
            break;
        n += (size_t)got;
    }
    close(fd);
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

static uint32_t cpu_quota(int64_t quota, int64_t period)
{
    if (quota <= 0 || period <= 0)
        return CPU_MAX_THREADS;
    const int64_t n = (quota + period - 1) / period;

    return n < CPU_MAX_THREADS ? (uint32_t)n : CPU_MAX_THREADS;
}

/* The quota of one cgroup folder; v1 keeps its two numbers in two files. */
static uint32_t cpu_quota_at(const char *dir, int v2)
{
    char path[1200], text[128];
    const char *s = text;
    int64_t quota, period;

    mk_format(path, sizeof(path), "%s/%s", dir, v2 ? "cpu.max" : "cpu.cfs_quota_us");
    if (cpu_read_text(text, sizeof(text), path) != 0)
        return CPU_MAX_THREADS;
    quota = cpu_number(&s);
    if (!v2) {
        mk_format(path, sizeof(path), "%s/cpu.cfs_period_us", dir);
        if (cpu_read_text(text, sizeof(text), path) != 0)
            return CPU_MAX_THREADS;
        s = text;
    }
    period = cpu_number(&s);
    return cpu_quota(quota, period);
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
            const uint32_t q = cpu_quota_at(dir, v2);

            least = q < least ? q : least;
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
    uint32_t least = CPU_MAX_THREADS;

    if (cpu_read_text(text, sizeof(text), list) != 0)
        return least;
    for (const char *line = text; *line != '\0';) {
        const size_t len = strcspn(line, "\n");
        const char *first = memchr(line, ':', len);
        const char *second = first == NULL ? NULL
                             : memchr(first + 1, ':', len - (size_t)(first + 1 - line));

        if (second != NULL) {
            const size_t n = (size_t)(second - first - 1);
            const size_t group_len = len - (size_t)(second + 1 - line);
            uint32_t q = CPU_MAX_THREADS;

            if (n == 0) {
                q = cpu_quota_up(root, second + 1, group_len, 1);
            } else if (cpu_is_controller(first + 1, n)) {
                mk_format(mount, sizeof(mount), "%s/cpu", root);
                q = cpu_quota_up(mount, second + 1, group_len, 0);
            }
            least = q < least ? q : least;
        }
        line += len + (line[len] == '\n');
    }
    return least;
}

uint32_t mk_cpu_threads(void)
{
    const uint32_t cpus = cpu_affinity();
    const uint32_t quota = mk_cpu_cgroup_threads("/proc/self/cgroup", "/sys/fs/cgroup");
    const uint32_t n = cpus < quota ? cpus : quota;

    return n > 0 ? n : 1;
}
#elif defined(_WIN32)
uint32_t mk_cpu_cgroup_threads(const char *list, const char *root)
{
    (void)list;
    (void)root;
    return CPU_MAX_THREADS;
}

uint32_t mk_cpu_threads(void)
{
    SYSTEM_INFO info;

    GetSystemInfo(&info);
    return info.dwNumberOfProcessors > 0 ? (uint32_t)info.dwNumberOfProcessors : 1;
}
#else
uint32_t mk_cpu_cgroup_threads(const char *list, const char *root)
{
    (void)list;
    (void)root;
    return CPU_MAX_THREADS;
}

uint32_t mk_cpu_threads(void)
{
    const long n = sysconf(_SC_NPROCESSORS_ONLN);

    return n < 1 ? 1 : n < (long)CPU_MAX_THREADS ? (uint32_t)n : CPU_MAX_THREADS;
}
#endif
