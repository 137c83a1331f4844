/* Sessions in files.
 *
 * A snapshot is a head and then sections: tokens, logits, hidden state, and the rows of every
 * cache, plane by plane.  A section is cut into blocks, each with a checksum behind it that
 * also counts the blocks and depends on the head, so that no part can be taken for another.
 * Numbers are little-endian. */
#include "session/session.h"

#include <string.h>

#include "base/checked.h"
#include "base/file.h"
#include "base/hash.h"

#define SNAPSHOT_VERSION 1u
#define SNAPSHOT_BLOCK ((size_t)1 << 20)     /* bytes between checksums */
#define SNAPSHOT_MAGIC "minke\r\n\x1a"       /* as PNG's, it tells text-mode copies */

struct snapshot_head {
    char magic[8];
    uint32_t version, head_bytes;
    uint64_t file_bytes;
    uint64_t identity;               /* of the model */
    uint64_t length;                 /* tokens */
    uint32_t n_layers, mtp;          /* with caches; whether the last is for prediction */
    uint32_t attention, window;
    uint32_t cache_type, index_type;
    uint32_t row_bytes[MK_KV_N_PLANES];
    uint32_t n_vocab, hidden_size;
    uint32_t has_logits, has_hidden;
    uint64_t checksum;               /* of all before it */
};
_Static_assert(sizeof(struct snapshot_head) == 104, "no padding, the same in every build");

/* Where blocks go to or come from. */
struct snapshot_io {
    struct mk_writer *writer;        /* either */
    struct mk_file *file;
    uint8_t *verify;                 /* of SNAPSHOT_BLOCK bytes: read to here, store nothing */
    uint64_t at;                     /* in the file */
    uint64_t sum;                    /* of the last block */
    uint32_t n_vocab;                /* what tokens must be below */
};

/* ---- The head ------------------------------------------------------------ */

/* Bytes that a section of n takes with its checksums; 0 and -1 when it wraps. */
static int snapshot_add_section(uint64_t *total, uint64_t n)
{
    const uint64_t sums = (n / SNAPSHOT_BLOCK + (n % SNAPSHOT_BLOCK != 0)) * sizeof(uint64_t);

    if (n > INT64_MAX / 2 || *total > INT64_MAX / 2 - sums)
        return -1;
    *total += n + sums;
    return 0;
}

/* Rows of layer l that hold something: the prediction layer's last waits for the token that
 * comes next. */
static uint64_t snapshot_rows(const struct snapshot_head *h, size_t l)
{
    return h->mtp && l + 1 == h->n_layers && h->length > 0 ? h->length - 1 : h->length;
}

static int snapshot_size(uint64_t *total, const struct snapshot_head *h)
{
    int bad = 0;

    *total = sizeof(*h);
    bad |= snapshot_add_section(total, h->length * sizeof(int32_t));
    if (h->has_logits)
        bad |= snapshot_add_section(total, (uint64_t)h->n_vocab * sizeof(float));
    if (h->has_hidden)
        bad |= snapshot_add_section(total, (uint64_t)h->hidden_size * sizeof(float));
    for (size_t l = 0; l < h->n_layers; l++)
        for (int p = 0; p < MK_KV_N_PLANES; p++)
            bad |= snapshot_add_section(total, snapshot_rows(h, l) * h->row_bytes[p]);
    return bad ? -1 : 0;
}

/* What a snapshot of s begins with, but for length, sizes and checksum. */
static struct snapshot_head snapshot_kind(const struct minke_session *s)
{
    struct snapshot_head h = {
        .magic = SNAPSHOT_MAGIC,
        .version = SNAPSHOT_VERSION,
        .head_bytes = sizeof(h),
        .identity = s->model->identity,
        .n_layers = (uint32_t)s->n_layers,
        .mtp = (s->params.flags & MINKE_SESSION_MTP) != 0,
        .attention = s->params.attention,
        .window = s->params.window,
        .cache_type = (uint32_t)s->kv_format.cache_type,
        .index_type = (uint32_t)s->kv_format.index_type,
        .n_vocab = s->model->config.vocab_size,
        .hidden_size = s->model->config.hidden_size,
    };

    for (int p = 0; p < MK_KV_N_PLANES; p++)
        h.row_bytes[p] = (uint32_t)s->kv_format.row_bytes[p];
    return h;
}

static uint64_t snapshot_head_sum(const struct snapshot_head *h)
{
    return mk_hash(SNAPSHOT_VERSION, h, offsetof(struct snapshot_head, checksum));
}

/* ---- Blocks -------------------------------------------------------------- */

static int32_t snapshot_put(struct snapshot_io *io, const void *data, size_t n)
{
    int32_t rc;

    io->sum = mk_hash(io->sum, data, n);
    rc = mk_writer_write(io->writer, data, n);
    return rc < 0 ? rc : mk_writer_write(io->writer, &io->sum, sizeof(io->sum));
}

static int32_t snapshot_get(struct snapshot_io *io, void *data, size_t n)
{
    uint64_t sum;
    int32_t rc = mk_file_read(io->file, io->at, data, n);

    if (rc == MINKE_OK)
        rc = mk_file_read(io->file, io->at + n, &sum, sizeof(sum));
    if (rc < 0)
        return rc;
    io->sum = mk_hash(io->sum, data, n);
    if (sum != io->sum)
        return mk_fail(MINKE_ESNAPSHOT, "%s: damaged in the %zu bytes at %llu",
                       mk_file_path(io->file), n, (unsigned long long)io->at);
    io->at += n + sizeof(sum);
    return MINKE_OK;
}

static int32_t snapshot_section(struct snapshot_io *io, void *data, uint64_t size)
{
    uint8_t *bytes = data;
    int32_t rc = MINKE_OK;

    for (uint64_t at = 0; rc == MINKE_OK && at < size; at += SNAPSHOT_BLOCK) {
        const size_t n = (size_t)(size - at < SNAPSHOT_BLOCK ? size - at : SNAPSHOT_BLOCK);

        if (io->writer != NULL)
            rc = snapshot_put(io, bytes + at, n);
        else
            rc = snapshot_get(io, io->verify != NULL ? io->verify : bytes + at, n);
    }
    return rc;
}

/* Blocks never part a token, so that each can be looked at by itself. */
static int32_t snapshot_tokens(struct snapshot_io *io, int32_t *tokens, uint64_t n)
{
    const uint64_t step = SNAPSHOT_BLOCK / sizeof(*tokens);
    int32_t rc = MINKE_OK;

    for (uint64_t at = 0; rc == MINKE_OK && at < n; at += step) {
        const size_t now = (size_t)(n - at < step ? n - at : step);
        const int32_t *seen = io->verify != NULL ? (const int32_t *)(const void *)io->verify
                                                 : tokens + at;

        rc = snapshot_section(io, tokens + at, now * sizeof(*tokens));
        for (size_t i = 0; rc == MINKE_OK && i < now; i++)
            if (seen[i] < 0 || (uint32_t)seen[i] >= io->n_vocab)
                rc = mk_fail(MINKE_ESNAPSHOT, "token %llu: id %d is not in [0, %u)",
                             (unsigned long long)(at + i), seen[i], io->n_vocab);
    }
    return rc;
}

/* Everything behind the head, to or from the buffers of s. */
static int32_t snapshot_body(struct snapshot_io *io, const struct minke_session *s,
                             const struct snapshot_head *h)
{
    int32_t rc;

    io->at = sizeof(*h);
    io->sum = h->checksum;
    io->n_vocab = h->n_vocab;
    rc = snapshot_tokens(io, s->tokens, h->length);
    if (rc == MINKE_OK && h->has_logits)
        rc = snapshot_section(io, s->logits, (uint64_t)h->n_vocab * sizeof(float));
    if (rc == MINKE_OK && h->has_hidden)
        rc = snapshot_section(io, io->writer != NULL ? mk_session_hidden(s) : s->hidden,
                              (uint64_t)h->hidden_size * sizeof(float));
    for (size_t l = 0; rc == MINKE_OK && l < h->n_layers; l++)
        for (int p = 0; rc == MINKE_OK && p < MK_KV_N_PLANES; p++)
            rc = snapshot_section(io, s->seq.kv[l].plane[p], snapshot_rows(h, l) * h->row_bytes[p]);
    return rc;
}

/* ---- Saving -------------------------------------------------------------- */

int32_t minke_session_save(const minke_session *s, const char *path)
{
    struct snapshot_io io = {.writer = NULL};
    struct snapshot_head h;
    int32_t rc = mk_session_check(s);

    if (rc < 0)
        return rc;
    if (path == NULL)
        return mk_fail(MINKE_EINVAL, "path is NULL");
    h = snapshot_kind(s);
    h.length = s->length;
    h.has_logits = s->has_logits != 0;
    h.has_hidden = h.mtp && mk_session_hidden(s) != NULL;
    if (snapshot_size(&h.file_bytes, &h) < 0)
        return mk_fail(MINKE_ENOMEM, "a snapshot of %zu tokens does not fit a file", s->length);
    h.checksum = snapshot_head_sum(&h);
    rc = mk_writer_open(&io.writer, &s->model->env.alloc, path);
    if (rc == MINKE_OK)
        rc = mk_writer_write(io.writer, &h, sizeof(h));
    if (rc == MINKE_OK)
        rc = snapshot_body(&io, s, &h);
    if (rc == MINKE_OK)
        rc = mk_writer_commit(io.writer);
    mk_writer_free(io.writer);
    return rc;
}

/* ---- Loading ------------------------------------------------------------- */

/* Whether the head is whole, and of a snapshot that this build reads. */
static int32_t snapshot_check_file(struct mk_file *f, const struct snapshot_head *h)
{
    const char *path = mk_file_path(f);
    uint64_t bytes;

    if (memcmp(h->magic, SNAPSHOT_MAGIC, sizeof(h->magic)) != 0)
        return mk_fail(MINKE_ESNAPSHOT, "%s: no snapshot of a session", path);
    if (h->version != SNAPSHOT_VERSION || h->head_bytes != sizeof(*h))
        return mk_fail(MINKE_ESNAPSHOT, "%s: version %u; %u expected", path, h->version,
                       SNAPSHOT_VERSION);
    if (h->checksum != snapshot_head_sum(h))
        return mk_fail(MINKE_ESNAPSHOT, "%s: damaged in its first %zu bytes", path, sizeof(*h));
    if (h->file_bytes != mk_file_size(f))
        return mk_fail(MINKE_ESNAPSHOT, "%s: %llu bytes; %llu expected", path,
                       (unsigned long long)mk_file_size(f), (unsigned long long)h->file_bytes);
    if (h->length > INT32_MAX || h->n_layers > UINT16_MAX || snapshot_size(&bytes, h) < 0
        || bytes != h->file_bytes)
        return mk_fail(MINKE_ESNAPSHOT, "%s: its sizes disagree", path);
    return MINKE_OK;
}

/* Whether the snapshot is of this model and of such a session as s. */
static int32_t snapshot_check_kind(const struct minke_session *s, const char *path,
                                   const struct snapshot_head *h)
{
    const struct snapshot_head own = snapshot_kind(s);

    if (h->identity != own.identity)
        return mk_fail(MINKE_ESNAPSHOT, "%s: of model %llx; this one is %llx", path,
                       (unsigned long long)h->identity, (unsigned long long)own.identity);
    if (h->n_layers != own.n_layers || h->mtp != own.mtp)
        return mk_fail(MINKE_ESNAPSHOT, "%s: %s the prediction layer's caches", path,
                       h->mtp ? "with" : "without");
    if (h->attention != own.attention || h->window != own.window)
        return mk_fail(MINKE_ESNAPSHOT, "%s: attention %u, window %u; %u and %u expected", path,
                       h->attention, h->window, own.attention, own.window);
    if (h->cache_type != own.cache_type || h->index_type != own.index_type
        || memcmp(h->row_bytes, own.row_bytes, sizeof(own.row_bytes)) != 0)
        return mk_fail(MINKE_ESNAPSHOT, "%s: caches of type %u, %u; %u, %u expected", path,
                       h->cache_type, h->index_type, own.cache_type, own.index_type);
    if (h->n_vocab != own.n_vocab || h->hidden_size != own.hidden_size || h->has_logits > 1
        || h->has_hidden > h->mtp || (h->length == 0 && (h->has_logits || h->has_hidden)))
        return mk_fail(MINKE_ESNAPSHOT, "%s: its head disagrees with itself", path);
    if (h->length > s->params.max_tokens)
        return mk_fail(MINKE_EFULL, "%s: %llu tokens do not fit %u", path,
                       (unsigned long long)h->length, s->params.max_tokens);
    return MINKE_OK;
}

/* Read everything once without storing it, so that the session only changes when all is well.
 * An empty session has nothing to lose. */
static int32_t snapshot_verify(struct snapshot_io *io, const struct minke_session *s,
                               const struct snapshot_head *h)
{
    int32_t rc;

    if (s->length == 0)
        return MINKE_OK;
    io->verify = mk_alloc(&s->model->env.alloc, SNAPSHOT_BLOCK, 1);
    if (io->verify == NULL)
        return MINKE_ENOMEM;
    rc = snapshot_body(io, s, h);
    mk_free(&s->model->env.alloc, io->verify);
    io->verify = NULL;
    return rc;
}

static int32_t snapshot_load(struct minke_session *s, struct mk_file *f)
{
    struct snapshot_io io = {.file = f};
    struct snapshot_head h;
    int32_t rc;

    if (mk_file_size(f) < sizeof(h))
        return mk_fail(MINKE_ESNAPSHOT, "%s: %llu bytes, too short for a snapshot",
                       mk_file_path(f), (unsigned long long)mk_file_size(f));
    rc = mk_file_read(f, 0, &h, sizeof(h));
    if (rc == MINKE_OK)
        rc = snapshot_check_file(f, &h);
    if (rc == MINKE_OK)
        rc = snapshot_check_kind(s, mk_file_path(f), &h);
    if (rc == MINKE_OK)
        rc = snapshot_verify(&io, s, &h);
    if (rc < 0)
        return rc;
    /* Should the file change between the two readings, the session ends up empty. */
    s->length = 0;
    s->has_logits = 0;
    rc = snapshot_body(&io, s, &h);
    if (rc < 0)
        return rc;
    s->length = (size_t)h.length;
    s->has_logits = h.has_logits != 0;
    s->hidden_end = 0;
    if (h.has_hidden)
        mk_session_put_hidden(s);
    if (s->recorder.replaced != NULL)
        s->recorder.replaced(s->recorder.user, s->tokens, s->length);
    return MINKE_OK;
}

int32_t minke_session_load(minke_session *s, const char *path)
{
    struct mk_env env = {.log = NULL};
    struct mk_file *f = NULL;
    int32_t rc = mk_session_check(s);

    if (rc < 0)
        return rc;
    if (path == NULL)
        return mk_fail(MINKE_EINVAL, "path is NULL");
    /* Snapshots are the system's files even where models come from a host's reader. */
    env.alloc = s->model->env.alloc;
    rc = mk_file_open(&f, &env, path);
    if (rc == MINKE_OK && f == NULL)
        rc = mk_fail(MINKE_EIO, "%s: no such file", path);
    if (rc == MINKE_OK)
        rc = snapshot_load(s, f);
    mk_file_close(f);
    return rc;
}
