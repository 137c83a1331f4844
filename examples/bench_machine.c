#define _GNU_SOURCE /* madvise */
#include "bench_machine.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common.h"

#define MAX_THREADS 256u

struct machine_job {
    pthread_t thread;
    const uint8_t *data;
    size_t size;
    int64_t result;
};

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

/* Twelve sums in registers, in instructions that a compiler cannot spill. */
#define REPEAT12(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define INT8_ROUNDS 1000000

__attribute__((target("avx512f,avx512bw,avx512vnni")))
static int64_t int8_avx512(void)
{
    const __m512i x = _mm512_set1_epi8(3), y = _mm512_set1_epi8(2);
    __m512i sum = _mm512_setzero_si512();
#define X(i) __m512i s##i = _mm512_set1_epi32(i);
    REPEAT12(X)
#undef X
    for (long r = 0; r < INT8_ROUNDS; r++) {
#define X(i) __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(s##i) : "v"(x), "v"(y));
        REPEAT12(X)
#undef X
    }
#define X(i) sum = _mm512_add_epi32(sum, s##i);
    REPEAT12(X)
#undef X
    return _mm_cvtsi128_si32(_mm512_castsi512_si128(sum));   /* all lanes wrap around */
}

/* Without VNNI a product of bytes takes three instructions. */
__attribute__((target("avx2")))
static int64_t int8_avx2(void)
{
    const __m256i x = _mm256_set1_epi8(3), one = _mm256_set1_epi16(1);
    __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0, y = _mm256_set1_epi8(2);

    for (long r = 0; r < INT8_ROUNDS; r++) {
        __asm__ volatile("" : "+x"(y));
        s0 = _mm256_add_epi32(s0, _mm256_madd_epi16(_mm256_maddubs_epi16(x, y), one));
        s1 = _mm256_sub_epi32(s1, _mm256_madd_epi16(_mm256_maddubs_epi16(y, x), one));
        __asm__ volatile("" : "+x"(y));
        s2 = _mm256_add_epi32(s2, _mm256_madd_epi16(_mm256_maddubs_epi16(x, y), one));
        s3 = _mm256_sub_epi32(s3, _mm256_madd_epi16(_mm256_maddubs_epi16(y, x), one));
    }
    s0 = _mm256_add_epi32(_mm256_add_epi32(s0, s1), _mm256_add_epi32(s2, s3));
    return _mm256_extract_epi32(s0, 0);
}

static double int8_ops(void)
{
    if (__builtin_cpu_supports("avx512vnni"))
        return INT8_ROUNDS * 12.0 * 128.0;
    return __builtin_cpu_supports("avx2") ? INT8_ROUNDS * 4.0 * 64.0 : 0.0;
}

static int64_t int8_loop(void)
{
    return __builtin_cpu_supports("avx512vnni") ? int8_avx512() : int8_avx2();
}

__attribute__((target("avx2")))
static int64_t read_avx2(const uint8_t *p, size_t size)
{
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;

    for (size_t i = 0; i + 128 <= size; i += 128) {
        _mm_prefetch((const char *)p + i + 2048, _MM_HINT_T1);
        _mm_prefetch((const char *)p + i + 2112, _MM_HINT_T1);
        a = _mm256_xor_si256(a, _mm256_loadu_si256((const __m256i *)(const void *)(p + i)));
        b = _mm256_xor_si256(b, _mm256_loadu_si256((const __m256i *)(const void *)(p + i + 32)));
        c = _mm256_xor_si256(c, _mm256_loadu_si256((const __m256i *)(const void *)(p + i + 64)));
        d = _mm256_xor_si256(d, _mm256_loadu_si256((const __m256i *)(const void *)(p + i + 96)));
    }
    a = _mm256_xor_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(c, d));
    return _mm256_extract_epi32(a, 0);
}
#else
static double int8_ops(void)
{
    return 0.0;
}

static int64_t int8_loop(void)
{
    return 0;
}
#endif

static int64_t read_plain(const uint8_t *p, size_t size)
{
    uint64_t s[4] = {0}, x[4];

    for (size_t i = 0; i + 32 <= size; i += 32) {
        memcpy(x, p + i, 32);
        for (int j = 0; j < 4; j++)
            s[j] ^= x[j];
    }
    return (int64_t)(s[0] ^ s[1] ^ s[2] ^ s[3]);
}

static void *machine_work(void *arg)
{
    struct machine_job *job = arg;

    if (job->data == NULL) {
        job->result = int8_loop();
        return NULL;
    }
#if defined(__x86_64__) && defined(__GNUC__)
    if (__builtin_cpu_supports("avx2")) {
        job->result = read_avx2(job->data, job->size);
        return NULL;
    }
#endif
    job->result = read_plain(job->data, job->size);
    return NULL;
}

/* Seconds that all threads take for the buffer, or for the integer loop. */
static double machine_run(const struct machine *m, int read)
{
    static struct machine_job jobs[MAX_THREADS];
    const uint32_t n = m->n_threads < MAX_THREADS ? m->n_threads : MAX_THREADS;
    const size_t part = m->size / n / 4096 * 4096;
    const double start = seconds();

    for (uint32_t i = 0; i < n; i++) {
        jobs[i].data = read ? m->data + i * part : NULL;
        jobs[i].size = part;
        if (i > 0 && pthread_create(&jobs[i].thread, NULL, machine_work, &jobs[i]) != 0)
            exit(1);
    }
    machine_work(&jobs[0]);
    for (uint32_t i = 1; i < n; i++)
        pthread_join(jobs[i].thread, NULL);
    return seconds() - start;
}

void machine_open(struct machine *m, uint32_t n_threads, size_t size)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t available = (size_t)sysconf(_SC_AVPHYS_PAGES) * page;
    const size_t huge = (size_t)2 << 20;

    memset(m, 0, sizeof *m);
    m->n_threads = n_threads > 0 ? n_threads : 1;
    m->size = size / huge * huge;
    if (m->size > available / 3)
        m->size = available / 3 / huge * huge;
    m->data = mmap(NULL, m->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m->data == MAP_FAILED) {
        m->data = NULL;
        m->size = 0;
        return;
    }
#ifdef MADV_HUGEPAGE
    madvise(m->data, m->size, MADV_HUGEPAGE);
#endif
    for (size_t i = 0; i < m->size; i += page)
        m->data[i] = (uint8_t)(i >> 12);
}

void machine_free(struct machine *m)
{
    if (m->data != NULL)
        munmap(m->data, m->size);
    m->data = NULL;
}

double machine_read(struct machine *m)
{
    if (m->data == NULL)
        return 0.0;
    const double rate = (double)m->size / machine_run(m, 1) * 1e-9;

    m->read_gb_s = rate > m->read_gb_s ? rate : m->read_gb_s;
    return rate;
}

double machine_int8(struct machine *m)
{
    const double ops = int8_ops();

    if (ops == 0.0)
        return 0.0;
    const double rate = ops * m->n_threads / machine_run(m, 0) * 1e-9;
    m->int8_gop_s = rate > m->int8_gop_s ? rate : m->int8_gop_s;
    return rate;
}

#define FILE_PART ((size_t)4 << 30)   /* bytes of a file that are read */

struct file_job {
    pthread_t thread;
    int file;
    uint8_t *to;
    size_t begin, end;
};

static void *file_work(void *arg)
{
    struct file_job *job = arg;

    for (size_t at = job->begin; at < job->end;) {
        const size_t left = job->end - at, step = left < 4u << 20 ? left : 4u << 20;
        const ssize_t n = pread(job->file, job->to + at, step, (off_t)at);

        if (n <= 0)
            break;
        at += (size_t)n;
    }
    return NULL;
}

/* Rate of one pass over the first size bytes, 0 where there is no memory. */
static double file_pass(int file, size_t size, uint32_t n)
{
    static struct file_job jobs[MAX_THREADS];
    uint8_t *to = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const double start = seconds();

    if (to == MAP_FAILED)
        return 0.0;
#ifdef MADV_HUGEPAGE
    madvise(to, size, MADV_HUGEPAGE);
#endif
    for (uint32_t i = 0; i < n; i++) {
        jobs[i].file = file;
        jobs[i].to = to;
        jobs[i].begin = size / n * i;
        jobs[i].end = i + 1 < n ? size / n * (i + 1) : size;
        if (i > 0 && pthread_create(&jobs[i].thread, NULL, file_work, &jobs[i]) != 0)
            exit(1);
    }
    file_work(&jobs[0]);
    for (uint32_t i = 1; i < n; i++)
        pthread_join(jobs[i].thread, NULL);
    const double taken = seconds() - start;
    munmap(to, size);
    return (double)size / taken * 1e-9;
}

double machine_file(const char *path, uint32_t n_threads)
{
    const uint32_t all = n_threads > 0 ? n_threads : (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
    const int file = open(path, O_RDONLY);
    struct stat about;
    const int plain = file >= 0 && fstat(file, &about) == 0 && S_ISREG(about.st_mode);
    const size_t whole = plain ? (size_t)about.st_size : 0;
    const size_t size = whole < FILE_PART ? whole : FILE_PART;
    double rate = 0.0;

    /* The first pass brings the file into the page cache, and memory from the host of a virtual
     * machine: a second one is what a file that fits is compared with. */
    for (int pass = 0; pass < (whole > FILE_PART ? 1 : 2) && size > 0; pass++)
        rate = file_pass(file, size, all < MAX_THREADS ? all : MAX_THREADS);
    if (file >= 0)
        close(file);
    return rate;
}

/* The text behind "key :" in a file of the system, or "". */
static void system_text(char *out, size_t size, const char *path, const char *key)
{
    char line[512];
    FILE *f = fopen(path, "r");

    out[0] = '\0';
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        const char *colon = strchr(line, ':');

        if (colon == NULL || strncmp(line, key, strlen(key)) != 0)
            continue;
        colon += strspn(colon, ": \t");
        snprintf(out, size, "%.*s", (int)strcspn(colon, "\n"), colon);
        break;
    }
    if (f != NULL)
        fclose(f);
}

void machine_cpu(char *name, size_t size)
{
    system_text(name, size, "/proc/cpuinfo", "model name");
    if (name[0] == '\0')
        snprintf(name, size, "unknown");
}

uint64_t machine_peak_bytes(void)
{
    struct rusage used;

    getrusage(RUSAGE_SELF, &used);
#ifdef __APPLE__
    return (uint64_t)used.ru_maxrss;
#else
    return (uint64_t)used.ru_maxrss * 1024;
#endif
}
