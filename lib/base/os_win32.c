/* The operating system where it is Windows. */
#include "base/os.h"

#if defined(_WIN32)

#include <errno.h>
#include <fcntl.h>
#include <io.h>
#include <malloc.h>
#include <sys/stat.h>
#include <windows.h>

#include "base/checked.h"

/* ---- Memory -------------------------------------------------------------- */

void *mk_os_alloc(size_t size, size_t align)
{
    return _aligned_malloc(size, align);
}

void mk_os_free(void *p)
{
    _aligned_free(p);
}

void *mk_os_pages(size_t size)
{
    return _aligned_malloc(size, MK_OS_HUGE);
}

void mk_os_pages_free(void *pages, size_t size)
{
    (void)size;
    _aligned_free(pages);
}

/* ---- Files --------------------------------------------------------------- */

#define OS_MOST ((size_t)1 << 30)    /* bytes asked for at once */
#define OS_PATH 1024

static int os_wide(wchar_t wide[OS_PATH], const char *path)
{
    if (MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, wide, OS_PATH) > 0)
        return 0;
    errno = EINVAL;
    return -1;
}

/* What a call of Windows itself says, as the C library's calls would. */
static int os_result(BOOL done, int code)
{
    if (!done)
        errno = code;
    return done ? 0 : -1;
}

static int os_stat(struct mk_os_stat *out, const struct _stat64 *s, int rc)
{
    if (rc == 0)
        *out = (struct mk_os_stat){s->st_size > 0 ? (uint64_t)s->st_size : 0,
                                   (s->st_mode & _S_IFMT) == _S_IFREG,
                                   (s->st_mode & _S_IFMT) == _S_IFDIR};
    return rc;
}

int mk_os_stat(struct mk_os_stat *out, const char *path)
{
    wchar_t wide[OS_PATH];
    struct _stat64 s;

    return os_wide(wide, path) != 0 ? -1 : os_stat(out, &s, _wstat64(wide, &s));
}

int mk_os_open(struct mk_os_stat *out, const char *path, enum mk_os_mode mode)
{
    static const int flags[] = {_O_RDONLY, _O_RDWR | _O_CREAT | _O_EXCL, _O_RDWR | _O_CREAT};
    wchar_t wide[OS_PATH];
    struct _stat64 s;

    if (os_wide(wide, path) != 0)
        return -1;
    const int fd = _wopen(wide, flags[mode] | _O_BINARY | _O_NOINHERIT, _S_IREAD | _S_IWRITE);

    if (fd < 0 || os_stat(out, &s, _fstat64(fd, &s)) == 0)
        return fd;
    _close(fd);
    return -1;
}

void mk_os_close(int fd)
{
    _close(fd);
}

static OVERLAPPED os_at(uint64_t offset)
{
    return (OVERLAPPED){.Offset = (DWORD)offset, .OffsetHigh = (DWORD)(offset >> 32)};
}

int64_t mk_os_read(int fd, void *buffer, size_t n, uint64_t offset)
{
    OVERLAPPED at = os_at(offset);
    DWORD got = 0;

    if (ReadFile((HANDLE)_get_osfhandle(fd), buffer, (DWORD)mk_min(n, OS_MOST), &got, &at)
        || GetLastError() == ERROR_HANDLE_EOF)
        return got;
    return os_result(0, EIO);
}

int64_t mk_os_write(int fd, const void *data, size_t n, uint64_t offset)
{
    OVERLAPPED at = os_at(offset);
    DWORD put = 0;

    if (WriteFile((HANDLE)_get_osfhandle(fd), data, (DWORD)mk_min(n, OS_MOST), &put, &at))
        return put;
    return os_result(0, GetLastError() == ERROR_DISK_FULL ? ENOSPC : EIO);
}

int mk_os_sync(int fd)
{
    return _commit(fd);
}

int mk_os_cut(int fd, uint64_t size)
{
    return _chsize_s(fd, (int64_t)size) == 0 ? 0 : -1;
}

int mk_os_remove(const char *path)
{
    wchar_t wide[OS_PATH];

    return os_wide(wide, path) != 0 ? -1 : _wunlink(wide);
}

int mk_os_rename(const char *from, const char *to)
{
    wchar_t a[OS_PATH], b[OS_PATH];

    if (os_wide(a, from) != 0 || os_wide(b, to) != 0)
        return -1;
    return os_result(MoveFileExW(a, b, MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH),
                     EACCES);
}

void *mk_os_map(int fd, size_t size)
{
    HANDLE section = CreateFileMappingW((HANDLE)_get_osfhandle(fd), NULL, PAGE_READONLY, 0, 0,
                                        NULL);
    void *map = section != NULL ? MapViewOfFile(section, FILE_MAP_READ, 0, 0, size) : NULL;

    if (section != NULL)
        CloseHandle(section);    /* the view keeps it */
    os_result(map != NULL, ENOMEM);
    return map;
}

void mk_os_unmap(void *map, size_t size)
{
    (void)size;
    UnmapViewOfFile(map);
}

/* ---- Process, time, processors ------------------------------------------- */

int64_t mk_process_id(void)
{
    return (int64_t)GetCurrentProcessId();
}

uint64_t mk_time_ns(void)
{
    LARGE_INTEGER count, rate;

    QueryPerformanceCounter(&count);
    QueryPerformanceFrequency(&rate);
    const uint64_t c = (uint64_t)count.QuadPart, r = (uint64_t)rate.QuadPart;

    return c / r * 1000000000u + c % r * 1000000000u / r;
}

uint32_t mk_os_processors(void)
{
    SYSTEM_INFO info;

    GetSystemInfo(&info);
    return info.dwNumberOfProcessors > 0 ? (uint32_t)info.dwNumberOfProcessors : 1;
}

void mk_os_hwcap(uint64_t words[2])
{
    words[0] = words[1] = 0;
}

/* ---- Threads ------------------------------------------------------------- */

struct os_lock {
    SRWLOCK lock;
    CONDITION_VARIABLE event[2];
};
_Static_assert(sizeof(struct os_lock) <= sizeof(struct mk_lock), "room in os.h");

static struct os_lock *os_lock(struct mk_lock *l)
{
    return (struct os_lock *)(void *)l->space;
}

void mk_lock_init(struct mk_lock *l)
{
    *os_lock(l) = (struct os_lock){SRWLOCK_INIT,
                                   {CONDITION_VARIABLE_INIT, CONDITION_VARIABLE_INIT}};
}

void mk_lock_free(struct mk_lock *l)
{
    (void)l;
}

void mk_lock_enter(struct mk_lock *l)
{
    AcquireSRWLockExclusive(&os_lock(l)->lock);
}

void mk_lock_leave(struct mk_lock *l)
{
    ReleaseSRWLockExclusive(&os_lock(l)->lock);
}

void mk_lock_wait(struct mk_lock *l, int event)
{
    SleepConditionVariableSRW(&os_lock(l)->event[event], &os_lock(l)->lock, INFINITE, 0);
}

void mk_lock_wake(struct mk_lock *l, int event)
{
    WakeAllConditionVariable(&os_lock(l)->event[event]);
}

static DWORD WINAPI os_thread_main(void *arg)
{
    struct mk_thread *t = arg;

    t->run(t->arg);
    return 0;
}

int mk_thread_start(struct mk_thread *t, void (*run)(void *), void *arg)
{
    t->run = run;
    t->arg = arg;
    HANDLE thread = CreateThread(NULL, 0, os_thread_main, t, 0, NULL);

    t->id = (uint64_t)(uintptr_t)thread;
    return thread != NULL ? 0 : -1;
}

void mk_thread_join(struct mk_thread *t)
{
    HANDLE thread = (HANDLE)(uintptr_t)t->id;

    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
}

#endif
