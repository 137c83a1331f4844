#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* pread, O_CLOEXEC */
#endif
#if !defined(_FILE_OFFSET_BITS)
#define _FILE_OFFSET_BITS 64
#endif
/* Files: the operating system's, or the host's reader. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>

#if defined(_WIN32)
#include <io.h>
#include <windows.h>
#else
#include <sys/mman.h>
#include <unistd.h>
#endif

#include "base/checked.h"

struct mk_file {
    struct mk_env env;
    char *path;
    uint64_t size;
    void *handle;            /* of the host's reader */
    int fd;                  /* -1 with a reader */
    int is_open;             /* fd or handle is ours to close */
    void *map;
};

/* ---- The operating system ------------------------------------------------ */

/* How files are opened. */
#define OPEN_READ 0
#define OPEN_NEW  1    /* there must be none */
#define OPEN_EDIT 2    /* created where there is none */

/* strerror follows the locale. */
static const char *file_reason(int code)
{
    switch (code) {
    case EACCES:
    case EPERM:  return "permission denied";
    case EEXIST: return "exists already";
    case EFBIG:  return "too large";
    case EIO:    return "input/output error";
    case EISDIR: return "is a directory";
    case EMFILE:
    case ENFILE: return "too many open files";
    case ENAMETOOLONG: return "name too long";
    case ENOENT: return "no such file or directory";
    case ENOMEM: return "out of memory";
    case ENOSPC: return "no space left on the device";
    case ENOTDIR: return "a part of the path is no directory";
    case EROFS:  return "read-only file system";
    default:     return "the system refused";
    }
}

static int32_t file_fail(const char *path, const char *action)
{
    const int code = errno;

    return mk_fail(MINKE_EIO, "%s: %s: %s (errno %d)", path, action, file_reason(code), code);
}

#if defined(_WIN32)
typedef struct _stat64 file_stat;

static int file_wide(wchar_t *wide, size_t n, const char *path)
{
    const int got = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, wide, (int)n);

    if (got <= 0)
        errno = EINVAL;
    return got > 0 ? 0 : -1;
}

static int file_open_fd(const char *path, int how)
{
    wchar_t wide[1024];
    static const int modes[3] = {_O_RDONLY, _O_RDWR | _O_CREAT | _O_EXCL, _O_RDWR | _O_CREAT};
    const int flags = modes[how];

    if (file_wide(wide, 1024, path) != 0)
        return -1;
    return _wopen(wide, flags | _O_BINARY | _O_NOINHERIT, _S_IREAD | _S_IWRITE);
}

static int file_stat_fd(int fd, file_stat *s)
{
    return _fstat64(fd, s);
}

static int file_stat_path(const char *path, file_stat *s)
{
    wchar_t wide[1024];

    return file_wide(wide, 1024, path) != 0 ? -1 : _wstat64(wide, s);
}

static int64_t file_read_at(int fd, void *buffer, size_t n, uint64_t offset)
{
    if (_lseeki64(fd, (int64_t)offset, SEEK_SET) < 0)
        return -1;
    return _read(fd, buffer, (unsigned)mk_min(n, (size_t)1 << 30));
}

static int64_t file_write_at(int fd, const void *data, size_t n, uint64_t offset)
{
    if (_lseeki64(fd, (int64_t)offset, SEEK_SET) < 0)
        return -1;
    return _write(fd, data, (unsigned)mk_min(n, (size_t)1 << 30));
}

static void file_close_fd(int fd)
{
    _close(fd);
}

static int file_sync_fd(int fd)
{
    return _commit(fd);
}

static int file_cut_fd(int fd, uint64_t size)
{
    return _chsize_s(fd, (int64_t)size) == 0 ? 0 : -1;
}

static int file_remove(const char *path)
{
    wchar_t wide[1024];

    return file_wide(wide, 1024, path) != 0 ? -1 : _wunlink(wide);
}

static int file_rename(const char *from, const char *to)
{
    wchar_t a[1024], b[1024];

    if (file_wide(a, 1024, from) != 0 || file_wide(b, 1024, to) != 0)
        return -1;
    if (MoveFileExW(a, b, MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH))
        return 0;
    errno = EACCES;
    return -1;
}
#define FILE_IS_REG(s) (((s).st_mode & _S_IFMT) == _S_IFREG)
#define FILE_IS_DIR(s) (((s).st_mode & _S_IFMT) == _S_IFDIR)
#else
typedef struct stat file_stat;

/* O_NONBLOCK: a named pipe is refused later, and must not stop us here. */
static int file_open_fd(const char *path, int how)
{
    static const int modes[3] = {O_RDONLY, O_RDWR | O_CREAT | O_EXCL, O_RDWR | O_CREAT};
    int fd;

    do
        fd = open(path, modes[how] | O_NONBLOCK | O_CLOEXEC, 0666);
    while (fd < 0 && errno == EINTR);
    return fd;
}

static int file_stat_fd(int fd, file_stat *s)
{
    return fstat(fd, s);
}

static int file_stat_path(const char *path, file_stat *s)
{
    return stat(path, s);
}

static int64_t file_read_at(int fd, void *buffer, size_t n, uint64_t offset)
{
    ssize_t got;

    do
        got = pread(fd, buffer, mk_min(n, (size_t)1 << 30), (off_t)offset);
    while (got < 0 && errno == EINTR);
    return got;
}

static int64_t file_write_at(int fd, const void *data, size_t n, uint64_t offset)
{
    ssize_t put;

    do
        put = pwrite(fd, data, mk_min(n, (size_t)1 << 30), (off_t)offset);
    while (put < 0 && errno == EINTR);
    return put;
}

static void file_close_fd(int fd)
{
    close(fd);
}

static int file_sync_fd(int fd)
{
    return fsync(fd);
}

static int file_cut_fd(int fd, uint64_t size)
{
    return ftruncate(fd, (off_t)size);
}

static int file_remove(const char *path)
{
    return unlink(path);
}

static int file_rename(const char *from, const char *to)
{
    return rename(from, to);
}
#define FILE_IS_REG(s) S_ISREG((s).st_mode)
#define FILE_IS_DIR(s) S_ISDIR((s).st_mode)
#endif

/* ---- Reading ------------------------------------------------------------- */

/* MINKE_OK without is_open: there is no such file. */
static int32_t file_open_system(struct mk_file *f)
{
    file_stat s;

    f->fd = file_open_fd(f->path, OPEN_READ);
    if (f->fd < 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            return MINKE_OK;
        return file_fail(f->path, "cannot be opened");
    }
    f->is_open = 1;
    if (file_stat_fd(f->fd, &s) != 0)
        return file_fail(f->path, "cannot be read");
    if (!FILE_IS_REG(s))
        return mk_fail(MINKE_EIO, "%s: not a regular file", f->path);
    f->size = s.st_size > 0 ? (uint64_t)s.st_size : 0;
    return MINKE_OK;
}

static int32_t file_open_reader(struct mk_file *f)
{
    void *handle = NULL;
    uint64_t size = 0;
    const int32_t r = f->env.reader_open(f->env.reader_user, f->path, &handle, &size);

    if (r != 0 && r != 1)
        return mk_fail(MINKE_EIO, "%s: the host's reader cannot open it (%d)", f->path, r);
    if (r == 0) {
        f->handle = handle;
        f->size = size;
        f->is_open = 1;
    }
    return MINKE_OK;
}

int32_t mk_file_open(struct mk_file **out, const struct mk_env *env, const char *path)
{
    struct mk_file *f = mk_alloc(&env->alloc, 1, sizeof(*f));
    const size_t n = strlen(path);
    int32_t rc = MINKE_ENOMEM;

    if (f == NULL)
        return MINKE_ENOMEM;
    f->env = *env;
    f->fd = -1;
    f->path = mk_alloc(&env->alloc, n + 1, 1);
    if (f->path == NULL)
        goto fail;
    memcpy(f->path, path, n);
    rc = env->reader_open != NULL ? file_open_reader(f) : file_open_system(f);
    if (rc < 0)
        goto fail;
    if (!f->is_open) {
        mk_file_close(f);
        f = NULL;
    }
    *out = f;
    return MINKE_OK;

fail:
    mk_file_close(f);
    return rc;
}

void mk_file_close(struct mk_file *f)
{
    if (f == NULL)
        return;
    const struct mk_allocator a = f->env.alloc;

#if !defined(_WIN32)
    if (f->map != NULL)
        munmap(f->map, (size_t)f->size);
#endif
    if (f->fd >= 0)
        file_close_fd(f->fd);
    else if (f->is_open)
        f->env.reader_close(f->env.reader_user, f->handle);
    mk_free(&a, f->path);
    mk_free(&a, f);
}

uint64_t mk_file_size(const struct mk_file *f)
{
    return f->size;
}

const char *mk_file_path(const struct mk_file *f)
{
    return f->path;
}

int32_t mk_file_read(struct mk_file *f, uint64_t offset, void *buffer, size_t n)
{
    unsigned char *p = buffer;

    if (offset > f->size || n > f->size - offset)
        return mk_fail(MINKE_EIO, "%s: %zu bytes at %llu: the file ends at %llu", f->path, n,
                       (unsigned long long)offset, (unsigned long long)f->size);
    if (f->env.reader_open != NULL) {
        if (n == 0 || f->env.reader_read(f->env.reader_user, f->handle, offset, buffer, n) == 0)
            return MINKE_OK;
        return mk_fail(MINKE_EIO, "%s: the host's reader failed at byte %llu", f->path,
                       (unsigned long long)offset);
    }
    while (n > 0) {
        const int64_t got = file_read_at(f->fd, p, n, offset);

        if (got < 0)
            return file_fail(f->path, "cannot be read");
        if (got == 0)
            return mk_fail(MINKE_EIO, "%s: ends at byte %llu; it had %llu when it was opened",
                           f->path, (unsigned long long)offset, (unsigned long long)f->size);
        p += got;
        n -= (size_t)got;
        offset += (uint64_t)got;
    }
    return MINKE_OK;
}

int mk_file_is_shared(const struct mk_file *f)
{
#if defined(_WIN32)
    (void)f;
    return 0;    /* seeking and reading are two steps */
#else
    return f->env.reader_open == NULL;
#endif
}

int32_t mk_file_map(struct mk_file *f, const void **data)
{
    if (f->env.reader_open != NULL)
        return mk_fail(MINKE_EUNSUPPORTED, "%s: a host's reader cannot map files", f->path);
#if defined(_WIN32)
    (void)data;
    return mk_fail(MINKE_EUNSUPPORTED, "%s: mapping is not available on this system", f->path);
#else
    if (f->map == NULL) {
        if (f->size == 0 || f->size > SIZE_MAX)
            return mk_fail(MINKE_EUNSUPPORTED, "%s: %llu bytes cannot be mapped", f->path,
                           (unsigned long long)f->size);
        void *p = mmap(NULL, (size_t)f->size, PROT_READ, MAP_SHARED, f->fd, 0);

        if (p == MAP_FAILED)
            return file_fail(f->path, "cannot be mapped");
        f->map = p;
    }
    *data = f->map;
    return MINKE_OK;
#endif
}

int32_t mk_file_load(char **data, size_t *size, const struct mk_env *env, const char *path,
                     uint64_t limit)
{
    struct mk_file *f = NULL;
    char *text = NULL;
    int32_t rc = mk_file_open(&f, env, path);

    if (rc < 0)
        return rc;
    if (f == NULL) {
        *data = NULL;
        *size = 0;
        return MINKE_OK;
    }
    if (f->size > limit || f->size >= SIZE_MAX) {
        rc = mk_fail(MINKE_EFORMAT, "%s: %llu bytes, at most %llu expected", path,
                     (unsigned long long)f->size, (unsigned long long)limit);
        goto fail;
    }
    text = mk_alloc(&env->alloc, (size_t)f->size + 1, 1);
    if (text == NULL) {
        rc = MINKE_ENOMEM;
        goto fail;
    }
    rc = mk_file_read(f, 0, text, (size_t)f->size);
    if (rc < 0)
        goto fail;
    *data = text;
    *size = (size_t)f->size;
    mk_file_close(f);
    return MINKE_OK;

fail:
    mk_free(&env->alloc, text);
    mk_file_close(f);
    return rc;
}

char *mk_path_join(const struct mk_allocator *a, const char *dir, const char *name)
{
    const size_t n = strlen(dir), m = strlen(name);
    char *path = mk_alloc(a, n + m + 2, 1);

    if (path == NULL)
        return NULL;
    memcpy(path, dir, n);
    path[n] = '/';
    memcpy(path + n + 1, name, m);
    return path;
}

int mk_path_is_dir(const struct mk_env *env, const char *path)
{
    file_stat s;

    if (env->reader_open != NULL)
        return 1;
    return file_stat_path(path, &s) == 0 && FILE_IS_DIR(s);
}

/* ---- Writing ------------------------------------------------------------- */

#define WRITER_BUFFER ((size_t)1 << 16)
#define WRITER_NAMES 100u    /* names tried for the temporary file */

struct mk_writer {
    struct mk_allocator alloc;
    char *path, *temporary;
    int fd, committed;
    uint64_t flushed;        /* bytes in the file */
    size_t used;             /* bytes in the buffer behind them */
    unsigned char *buffer;
};

static int32_t writer_create(struct mk_writer *w, size_t size)
{
    for (uint32_t i = 0; i < WRITER_NAMES; i++) {
        mk_format(w->temporary, size, "%s.part-%lld-%u", w->path, (long long)mk_process_id(),
                  i);
        w->fd = file_open_fd(w->temporary, OPEN_NEW);
        if (w->fd >= 0)
            return MINKE_OK;
        if (errno != EEXIST)
            break;
    }
    w->temporary[0] = '\0';      /* not ours to remove */
    return file_fail(w->path, "cannot be written");
}

int32_t mk_writer_open(struct mk_writer **out, const struct mk_allocator *a, const char *path)
{
    file_stat s;
    /* Renaming would put a file in the place of a device: of /dev/null, for instance. */
    if (file_stat_path(path, &s) == 0 && !FILE_IS_REG(s))
        return mk_fail(MINKE_EIO, "%s: not a regular file", path);
    struct mk_writer *w = mk_alloc(a, 1, sizeof(*w));
    const size_t n = strlen(path);
    int32_t rc = MINKE_ENOMEM;

    if (w == NULL)
        return MINKE_ENOMEM;
    w->alloc = *a;
    w->fd = -1;
    w->path = mk_alloc(a, n + 1, 1);
    w->temporary = mk_alloc(a, n + 48, 1);
    w->buffer = mk_alloc(a, WRITER_BUFFER, 1);
    if (w->path == NULL || w->temporary == NULL || w->buffer == NULL)
        goto fail;
    memcpy(w->path, path, n);
    rc = writer_create(w, n + 48);
    if (rc < 0)
        goto fail;
    *out = w;
    return MINKE_OK;

fail:
    mk_writer_free(w);
    return rc;
}

static int32_t file_put(int fd, const char *path, uint64_t offset, const void *data, size_t n)
{
    const unsigned char *p = data;

    while (n > 0) {
        const int64_t put = file_write_at(fd, p, n, offset);

        if (put <= 0)
            return file_fail(path, "cannot be written");
        p += put;
        n -= (size_t)put;
        offset += (uint64_t)put;
    }
    return MINKE_OK;
}

static int32_t writer_flush(struct mk_writer *w)
{
    const int32_t rc = file_put(w->fd, w->path, w->flushed, w->buffer, w->used);

    if (rc == MINKE_OK) {
        w->flushed += w->used;
        w->used = 0;
    }
    return rc;
}

int32_t mk_writer_write(struct mk_writer *w, const void *data, size_t n)
{
    int32_t rc;

    if (n > WRITER_BUFFER - w->used && (rc = writer_flush(w)) < 0)
        return rc;
    if (n > WRITER_BUFFER) {
        rc = file_put(w->fd, w->path, w->flushed, data, n);
        if (rc == MINKE_OK)
            w->flushed += n;
        return rc;
    }
    if (n > 0)
        memcpy(w->buffer + w->used, data, n);
    w->used += n;
    return MINKE_OK;
}

int32_t mk_writer_patch(struct mk_writer *w, uint64_t offset, const void *data, size_t n)
{
    const int32_t rc = writer_flush(w);

    if (rc < 0)
        return rc;
    if (offset > w->flushed || n > w->flushed - offset)
        return mk_fail(MINKE_EINTERNAL, "%s: patch at %llu beyond the end", w->path,
                       (unsigned long long)offset);
    return file_put(w->fd, w->path, offset, data, n);
}

uint64_t mk_writer_size(const struct mk_writer *w)
{
    return w->flushed + w->used;
}

/* Make the new name itself durable; file systems that cannot are no reason to fail. */
static void file_sync_dir(char *path)
{
#if !defined(_WIN32)
    char *slash = strrchr(path, '/');
    int fd;

    if (slash == NULL) {
        fd = open(".", O_RDONLY | O_CLOEXEC);
    } else {
        char *end = slash + (slash == path);
        const char was = *end;

        *end = '\0';
        fd = open(path, O_RDONLY | O_CLOEXEC);
        *end = was;
    }
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
#else
    (void)path;
#endif
}

int32_t mk_writer_commit(struct mk_writer *w)
{
    const int32_t rc = writer_flush(w);

    if (rc < 0)
        return rc;
    if (file_sync_fd(w->fd) != 0)
        return file_fail(w->path, "cannot be flushed to disk");
    file_close_fd(w->fd);
    w->fd = -1;
    if (file_rename(w->temporary, w->path) != 0)
        return file_fail(w->path, "cannot be renamed into place");
    w->committed = 1;
    file_sync_dir(w->temporary);
    return MINKE_OK;
}

void mk_writer_free(struct mk_writer *w)
{
    if (w == NULL)
        return;
    const struct mk_allocator a = w->alloc;

    if (w->fd >= 0)
        file_close_fd(w->fd);
    if (!w->committed && w->temporary != NULL && w->temporary[0] != '\0')
        file_remove(w->temporary);
    mk_free(&a, w->buffer);
    mk_free(&a, w->temporary);
    mk_free(&a, w->path);
    mk_free(&a, w);
}

/* ---- Appending ----------------------------------------------------------- */

struct mk_append {
    struct mk_allocator alloc;
    char *path;
    int fd;
    uint64_t size;
};

int32_t mk_append_open(struct mk_append **out, const struct mk_allocator *a, const char *path,
                       uint64_t keep)
{
    struct mk_append *w = mk_alloc(a, 1, sizeof(*w));
    const size_t n = strlen(path);
    int32_t rc = MINKE_ENOMEM;
    file_stat s;

    if (w == NULL)
        return MINKE_ENOMEM;
    w->alloc = *a;
    w->fd = -1;
    w->size = keep;
    w->path = mk_alloc(a, n + 1, 1);
    if (w->path == NULL)
        goto fail;
    memcpy(w->path, path, n);
    w->fd = file_open_fd(w->path, OPEN_EDIT);
    if (w->fd < 0 || file_stat_fd(w->fd, &s) != 0) {
        rc = file_fail(w->path, "cannot be opened for writing");
        goto fail;
    }
    if (!FILE_IS_REG(s) || s.st_size < 0 || (uint64_t)s.st_size < keep) {
        rc = mk_fail(MINKE_EIO, "%s: not a regular file of %llu bytes or more", w->path,
                     (unsigned long long)keep);
        goto fail;
    }
    if (file_cut_fd(w->fd, keep) != 0) {
        rc = file_fail(w->path, "cannot be cut");
        goto fail;
    }
    file_sync_dir(w->path);
    *out = w;
    return MINKE_OK;

fail:
    mk_append_free(w);
    return rc;
}

int32_t mk_append_write(struct mk_append *w, const void *data, size_t n)
{
    int32_t rc = file_put(w->fd, w->path, w->size, data, n);

    if (rc == MINKE_OK && file_sync_fd(w->fd) != 0)
        rc = file_fail(w->path, "cannot be flushed to disk");
    if (rc == MINKE_OK)
        w->size += n;
    else
        (void)!file_cut_fd(w->fd, w->size);   /* where it fails, the next write goes over it */
    return rc;
}

void mk_append_free(struct mk_append *w)
{
    if (w == NULL)
        return;
    const struct mk_allocator a = w->alloc;

    if (w->fd >= 0)
        file_close_fd(w->fd);
    mk_free(&a, w->path);
    mk_free(&a, w);
}
