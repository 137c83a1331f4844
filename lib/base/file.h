/* Files: the operating system's, or the host's reader. */
#ifndef MK_FILE_H
#define MK_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/env.h"

struct mk_file;

/* Open for reading.  MINKE_EIO naming the path when it cannot be read; *out = NULL and
 * MINKE_OK when there is no such file. */
int32_t mk_file_open(struct mk_file **out, const struct mk_env *env, const char *path);
void mk_file_close(struct mk_file *f);
uint64_t mk_file_size(const struct mk_file *f);
const char *mk_file_path(const struct mk_file *f);

/* Exactly n bytes from offset; MINKE_EIO otherwise (a file that shrank included). */
int32_t mk_file_read(struct mk_file *f, uint64_t offset, void *buffer, size_t n);

/* Whether several threads may read at once. */
int mk_file_is_shared(const struct mk_file *f);

/* Map the whole file read-only; valid until mk_file_close.  MINKE_EUNSUPPORTED with a
 * reader or where the system cannot. */
int32_t mk_file_map(struct mk_file *f, const void **data);

/* Whole file into memory of env's allocator, with a NUL behind (not counted), for mk_free.
 * *data = NULL when there is no such file.  MINKE_EFORMAT when larger than limit bytes. */
int32_t mk_file_load(char **data, size_t *size, const struct mk_env *env, const char *path,
                     uint64_t limit);

/* dir + '/' + name, for mk_free. */
char *mk_path_join(const struct mk_allocator *a, const char *dir, const char *name);

/* Whether path is a directory (always true with a reader, whose paths are its own). */
int mk_path_is_dir(const struct mk_env *env, const char *path);

/* Writing: to a temporary file beside path, renamed into place by commit, which flushes
 * to disk first.  free without commit removes the temporary file.  Not through readers. */
struct mk_writer;
int32_t mk_writer_open(struct mk_writer **out, const struct mk_allocator *a, const char *path);
int32_t mk_writer_write(struct mk_writer *w, const void *data, size_t n);
uint64_t mk_writer_size(const struct mk_writer *w);
int32_t mk_writer_commit(struct mk_writer *w);
void mk_writer_free(struct mk_writer *w);

/* A file that grows: the one at path, created where there is none, without what stands behind its
 * first keep bytes.  What was written is on disk when write returns; a part of what could not be
 * written is taken off again.  Not through readers. */
struct mk_append;
int32_t mk_append_open(struct mk_append **out, const struct mk_allocator *a, const char *path,
                       uint64_t keep);
int32_t mk_append_write(struct mk_append *w, const void *data, size_t n);
void mk_append_free(struct mk_append *w);

#endif
