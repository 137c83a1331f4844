/* Files: the operating system's, or the host's reader. */
#include "base/file.h"

#include <errno.h>
#include <string.h>

#include "base/checked.h"
#include "base/os.h"

/* What an open file is, read or written: the first member of each kind. */
struct file_base {
    struct mk_allocator alloc;
    char *path;              /* behind the kind's own struct, in one block with it */
    int fd;                  /* -1 = none */
    uint64_t size;           /* of the file; of one that is written, the bytes in it */
};

/* A zeroed struct of size bytes that begins with file_base; room for more bytes behind its path.
 * NULL with the error set. */
static void *file_new(const struct mk_allocator *a, size_t size, const char *path, size_t room)
{
    const size_t n = strlen(path) + 1;
    struct file_base *f = mk_alloc(a, 1, size + n + room);

    if (f != NULL) {
        f->alloc = *a;
        f->fd = -1;
        f->path = (char *)f + size;
        memcpy(f->path, path, n);
    }
    return f;
}

static void file_free(struct file_base *f)
{
    const struct mk_allocator a = f->alloc;

    if (f->fd >= 0)
        mk_os_close(f->fd);
    mk_free(&a, f);
}

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

static int32_t file_fail(const struct file_base *f, const char *action)
{
    const int code = errno;

    return mk_fail(MINKE_EIO, "%s: %s: %s (errno %d)", f->path, action, file_reason(code), code);
}

/* ---- Reading ------------------------------------------------------------- */

struct mk_file {
    struct file_base base;
    struct mk_env env;
    void *handle;            /* of the host's reader */
    int is_open;             /* fd or handle is ours to close */
    void *map;
};

/* MINKE_OK without is_open: there is no such file. */
static int32_t file_open_system(struct mk_file *f)
{
    struct mk_os_stat s;

    f->base.fd = mk_os_open(&s, f->base.path, MK_OS_READ);
    if (f->base.fd < 0)
        return errno == ENOENT || errno == ENOTDIR ? MINKE_OK
                                                   : file_fail(&f->base, "cannot be opened");
    if (!s.is_file)
        return mk_fail(MINKE_EIO, "%s: not a regular file", f->base.path);
    f->base.size = s.size;
    f->is_open = 1;
    return MINKE_OK;
}

static int32_t file_open_reader(struct mk_file *f)
{
    const int32_t r = f->env.reader_open(f->env.reader_user, f->base.path, &f->handle,
                                         &f->base.size);

    if (r != 0 && r != 1)
        return mk_fail(MINKE_EIO, "%s: the host's reader cannot open it (%d)", f->base.path, r);
    f->is_open = r == 0;
    return MINKE_OK;
}

int32_t mk_file_open(struct mk_file **out, const struct mk_env *env, const char *path)
{
    struct mk_file *f = file_new(&env->alloc, sizeof(*f), path, 0);

    if (f == NULL)
        return MINKE_ENOMEM;
    f->env = *env;
    const int32_t rc = env->reader_open != NULL ? file_open_reader(f) : file_open_system(f);

    if (rc == MINKE_OK)
        *out = f->is_open ? f : NULL;
    if (rc < 0 || !f->is_open)
        mk_file_close(f);
    return rc;
}

void mk_file_close(struct mk_file *f)
{
    if (f == NULL)
        return;
    if (f->map != NULL)
        mk_os_unmap(f->map, (size_t)f->base.size);
    if (f->is_open && f->env.reader_open != NULL)
        f->env.reader_close(f->env.reader_user, f->handle);
    file_free(&f->base);
}

uint64_t mk_file_size(const struct mk_file *f)
{
    return f->base.size;
}

const char *mk_file_path(const struct mk_file *f)
{
    return f->base.path;
}

static int32_t file_read_system(const struct file_base *f, uint64_t offset, void *buffer,
                                size_t n)
{
    for (unsigned char *p = buffer; n > 0;) {
        const int64_t got = mk_os_read(f->fd, p, n, offset);

        if (got < 0)
            return file_fail(f, "cannot be read");
        if (got == 0)
            return mk_fail(MINKE_EIO, "%s: ends at byte %llu; it had %llu when it was opened",
                           f->path, (unsigned long long)offset, (unsigned long long)f->size);
        p += got;
        n -= (size_t)got;
        offset += (uint64_t)got;
    }
    return MINKE_OK;
}

int32_t mk_file_read(struct mk_file *f, uint64_t offset, void *buffer, size_t n)
{
    const uint64_t size = f->base.size;

    if (offset > size || n > size - offset)
        return mk_fail(MINKE_EIO, "%s: %zu bytes at %llu: the file ends at %llu", f->base.path, n,
                       (unsigned long long)offset, (unsigned long long)size);
    if (f->env.reader_open == NULL)
        return file_read_system(&f->base, offset, buffer, n);
    if (n == 0 || f->env.reader_read(f->env.reader_user, f->handle, offset, buffer, n) == 0)
        return MINKE_OK;
    return mk_fail(MINKE_EIO, "%s: the host's reader failed at byte %llu", f->base.path,
                   (unsigned long long)offset);
}

int mk_file_is_shared(const struct mk_file *f)
{
    return f->env.reader_open == NULL;
}

int32_t mk_file_map(struct mk_file *f, const void **data)
{
    if (f->env.reader_open != NULL)
        return mk_fail(MINKE_EUNSUPPORTED, "%s: a host's reader cannot map files", f->base.path);
    if (f->map == NULL) {
        if (f->base.size == 0 || f->base.size > SIZE_MAX)
            return mk_fail(MINKE_EUNSUPPORTED, "%s: %llu bytes cannot be mapped", f->base.path,
                           (unsigned long long)f->base.size);
        f->map = mk_os_map(f->base.fd, (size_t)f->base.size);
        if (f->map == NULL)
            return file_fail(&f->base, "cannot be mapped");
    }
    *data = f->map;
    return MINKE_OK;
}

int32_t mk_file_load(char **data, size_t *size, const struct mk_env *env, const char *path,
                     uint64_t limit)
{
    struct mk_file *f = NULL;
    char *text = NULL;
    int32_t rc = mk_file_open(&f, env, path);

    if (rc < 0)
        return rc;
    const uint64_t n = f != NULL ? f->base.size : 0;

    if (n > limit || n >= SIZE_MAX)
        rc = mk_fail(MINKE_EFORMAT, "%s: %llu bytes, at most %llu expected", path,
                     (unsigned long long)n, (unsigned long long)limit);
    else if (f != NULL)
        rc = (text = mk_alloc(&env->alloc, (size_t)n + 1, 1)) == NULL
           ? MINKE_ENOMEM : mk_file_read(f, 0, text, (size_t)n);
    mk_file_close(f);
    if (rc < 0) {
        mk_free(&env->alloc, text);
        return rc;
    }
    *data = text;
    *size = (size_t)n;
    return MINKE_OK;
}

char *mk_path_join(const struct mk_allocator *a, const char *dir, const char *name)
{
    const size_t size = strlen(dir) + strlen(name) + 2;
    char *path = mk_alloc(a, size, 1);

    if (path != NULL)
        mk_format(path, size, "%s/%s", dir, name);
    return path;
}

int mk_path_is_dir(const struct mk_env *env, const char *path)
{
    struct mk_os_stat s;

    return env->reader_open != NULL || (mk_os_stat(&s, path) == 0 && s.is_folder);
}

/* ---- Writing ------------------------------------------------------------- */

/* Behind what is in the file, which grows by it. */
static int32_t file_put(struct file_base *f, const void *data, size_t n)
{
    const unsigned char *p = data;
    uint64_t at = f->size;

    while (n > 0) {
        const int64_t put = mk_os_write(f->fd, p, n, at);

        if (put <= 0)
            return file_fail(f, "cannot be written");
        p += put;
        n -= (size_t)put;
        at += (uint64_t)put;
    }
    f->size = at;
    return MINKE_OK;
}

static int32_t file_sync(const struct file_base *f)
{
    return mk_os_sync(f->fd) == 0 ? MINKE_OK : file_fail(f, "cannot be flushed to disk");
}

/* Make the name itself durable; file systems that cannot are no reason to fail. */
static void file_sync_name(const struct file_base *f)
{
    const char *slash = strrchr(f->path, '/');
    const size_t n = slash == NULL ? 0 : (size_t)(slash - f->path) + (slash == f->path);
    const char was = f->path[n];
    struct mk_os_stat s;

    f->path[n] = '\0';
    const int fd = mk_os_open(&s, n > 0 ? f->path : ".", MK_OS_READ);

    f->path[n] = was;
    if (fd >= 0) {
        mk_os_sync(fd);
        mk_os_close(fd);
    }
}

#define WRITER_BUFFER ((size_t)1 << 16)
#define WRITER_NAMES 100u    /* names tried for the temporary file */
#define WRITER_SUFFIX 48u    /* bytes of what is added to the path for it */

struct mk_writer {
    struct file_base base;
    char *temporary;         /* behind the path; empty when there is none to remove */
    size_t used;             /* bytes in the buffer, behind those in the file */
    unsigned char buffer[WRITER_BUFFER];
};

static int32_t writer_create(struct mk_writer *w, size_t size)
{
    struct mk_os_stat s;

    for (uint32_t i = 0; i < WRITER_NAMES; i++) {
        mk_format(w->temporary, size, "%s.part-%lld-%u", w->base.path,
                  (long long)mk_process_id(), i);
        w->base.fd = mk_os_open(&s, w->temporary, MK_OS_NEW);
        if (w->base.fd >= 0)
            return MINKE_OK;
        if (errno != EEXIST)
            break;
    }
    w->temporary[0] = '\0';      /* not ours to remove */
    return file_fail(&w->base, "cannot be written");
}

int32_t mk_writer_open(struct mk_writer **out, const struct mk_allocator *a, const char *path)
{
    const size_t n = strlen(path) + 1;
    struct mk_os_stat s;

    /* Renaming would put a file in the place of a device: of /dev/null, for instance. */
    if (mk_os_stat(&s, path) == 0 && !s.is_file)
        return mk_fail(MINKE_EIO, "%s: not a regular file", path);
    struct mk_writer *w = file_new(a, sizeof(*w), path, n + WRITER_SUFFIX);

    if (w == NULL)
        return MINKE_ENOMEM;
    w->temporary = w->base.path + n;
    const int32_t rc = writer_create(w, n + WRITER_SUFFIX);

    if (rc < 0)
        mk_writer_free(w);
    else
        *out = w;
    return rc;
}

static int32_t writer_flush(struct mk_writer *w)
{
    const int32_t rc = file_put(&w->base, w->buffer, w->used);

    w->used = rc == MINKE_OK ? 0 : w->used;
    return rc;
}

int32_t mk_writer_write(struct mk_writer *w, const void *data, size_t n)
{
    int32_t rc;

    if (n > WRITER_BUFFER - w->used && (rc = writer_flush(w)) < 0)
        return rc;
    if (n > WRITER_BUFFER)
        return file_put(&w->base, data, n);
    if (n > 0)
        memcpy(w->buffer + w->used, data, n);
    w->used += n;
    return MINKE_OK;
}

uint64_t mk_writer_size(const struct mk_writer *w)
{
    return w->base.size + w->used;
}

int32_t mk_writer_commit(struct mk_writer *w)
{
    int32_t rc;

    if ((rc = writer_flush(w)) < 0 || (rc = file_sync(&w->base)) < 0)
        return rc;
    mk_os_close(w->base.fd);
    w->base.fd = -1;
    if (mk_os_rename(w->temporary, w->base.path) != 0)
        return file_fail(&w->base, "cannot be renamed into place");
    w->temporary[0] = '\0';
    file_sync_name(&w->base);
    return MINKE_OK;
}

void mk_writer_free(struct mk_writer *w)
{
    if (w == NULL)
        return;
    if (w->base.fd >= 0)
        mk_os_close(w->base.fd);     /* some systems remove no open file */
    w->base.fd = -1;
    if (w->temporary[0] != '\0')
        mk_os_remove(w->temporary);
    file_free(&w->base);
}

/* ---- Appending ----------------------------------------------------------- */

struct mk_append {
    struct file_base base;
};

static int32_t append_cut(struct file_base *f, uint64_t keep)
{
    struct mk_os_stat s;

    f->size = keep;
    f->fd = mk_os_open(&s, f->path, MK_OS_EDIT);
    if (f->fd < 0)
        return file_fail(f, "cannot be opened for writing");
    if (!s.is_file || s.size < keep)
        return mk_fail(MINKE_EIO, "%s: not a regular file of %llu bytes or more", f->path,
                       (unsigned long long)keep);
    if (mk_os_cut(f->fd, keep) != 0)
        return file_fail(f, "cannot be cut");
    file_sync_name(f);
    return MINKE_OK;
}

int32_t mk_append_open(struct mk_append **out, const struct mk_allocator *a, const char *path,
                       uint64_t keep)
{
    struct mk_append *w = file_new(a, sizeof(*w), path, 0);

    if (w == NULL)
        return MINKE_ENOMEM;
    const int32_t rc = append_cut(&w->base, keep);

    if (rc < 0)
        mk_append_free(w);
    else
        *out = w;
    return rc;
}

int32_t mk_append_write(struct mk_append *w, const void *data, size_t n)
{
    const uint64_t before = w->base.size;
    int32_t rc;

    if ((rc = file_put(&w->base, data, n)) < 0 || (rc = file_sync(&w->base)) < 0) {
        w->base.size = before;
        (void)!mk_os_cut(w->base.fd, before);   /* where it fails, the next write goes over it */
    }
    return rc;
}

void mk_append_free(struct mk_append *w)
{
    if (w != NULL)
        file_free(&w->base);
}
