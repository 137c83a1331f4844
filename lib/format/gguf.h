/* The GGUF container: versions 2 and 3, little-endian, one file or numbered parts. */
#ifndef MK_GGUF_H
#define MK_GGUF_H

#include "format/config.h"
#include "format/stored.h"
#include "format/vocabulary.h"

/* Types of metadata values. */
#define MK_GGUF_UINT8   0u
#define MK_GGUF_INT8    1u
#define MK_GGUF_UINT16  2u
#define MK_GGUF_INT16   3u
#define MK_GGUF_UINT32  4u
#define MK_GGUF_INT32   5u
#define MK_GGUF_FLOAT32 6u
#define MK_GGUF_BOOL    7u
#define MK_GGUF_STRING  8u
#define MK_GGUF_ARRAY   9u
#define MK_GGUF_UINT64  10u
#define MK_GGUF_INT64   11u
#define MK_GGUF_FLOAT64 12u

#define MK_GGUF_ALIGNMENT 32u       /* unless general.alignment says otherwise */
#define MK_GGUF_MAX_PARTS 999u

struct mk_gguf_value {
    struct mk_view key;
    uint32_t type;                  /* MK_GGUF_*, of an array's items */
    uint32_t is_array;
    uint64_t n;                     /* items; 1 unless an array */
    const uint8_t *numbers;         /* as stored, or NULL for strings */
    const struct mk_view *strings;
};

struct mk_gguf {
    struct mk_arena arena;
    const struct mk_allocator *alloc;
    struct mk_file **files;         /* the parts, in order; from alloc */
    uint32_t n_files;
    struct mk_gguf_value *values;   /* of the first part, by key */
    size_t n_values;
    struct mk_stored *tensors;      /* of all parts, by name; each in its part's file */
    size_t n_tensors;
};

/* Read and check the headers of the file and of its further parts (path ends in
 * -00001-of-0000N.gguf then).  Every tensor lies inside its file, aligned, and overlaps no
 * other; names and keys are unique.  MINKE_EFORMAT names the file and what is wrong with it;
 * MINKE_EUNSUPPORTED a version, byte order or tensor type.  On error nothing is left. */
int32_t mk_gguf_open(struct mk_gguf *out, const struct mk_env *env, const char *path);
void mk_gguf_close(struct mk_gguf *g);

/* By name; NULL when there is none. */
const struct mk_gguf_value *mk_gguf_find(const struct mk_gguf *g, const char *key);
const struct mk_stored *mk_gguf_tensor(const struct mk_gguf *g, const char *name);

/* Bytes of a number by MK_GGUF_* type; 0 for strings and arrays. */
size_t mk_gguf_number_size(uint32_t type);

/* Item i of a value.  0, or -1 when v is NULL, i out of range, or the item no such number. */
int mk_gguf_int(const struct mk_gguf_value *v, uint64_t i, int64_t *out);
int mk_gguf_double(const struct mk_gguf_value *v, uint64_t i, double *out);
/* The token id that is the value of key, or -1. */
int32_t mk_gguf_token(const struct mk_gguf *g, const char *key);
/* A single string, or NULL. */
const struct mk_view *mk_gguf_text(const struct mk_gguf_value *v);

/* The model's description, from llama.cpp's keys for deepseek2 and deepseek32, checked as any
 * other.  MINKE_EFORMAT, MINKE_EUNSUPPORTED: as mk_config_read. */
int32_t mk_gguf_config(struct mk_config *out, const struct mk_gguf *g);

/* The tokenizer of the keys tokenizer.*, its lists in the arena or borrowed from g.
 * MINKE_EUNSUPPORTED also when the file has none or one of another model. */
int32_t mk_gguf_vocabulary(struct mk_vocabulary *out, struct mk_arena *arena,
                           const struct mk_gguf *g);

/* Whether path names a GGUF file: ends in ".gguf". */
int mk_gguf_is_path(const char *path);

#endif
