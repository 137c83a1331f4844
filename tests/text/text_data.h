/* Files, an allocator that counts and fails on demand, and tokenizers to test with. */
#ifndef MK_TEXT_DATA_H
#define MK_TEXT_DATA_H

#include "test.h"

#include "text/tokenizer_internal.h"

#define TEXT_SMALL  "tests/golden/tokenizer"
#define TEXT_SHARED "../shared/data/tokenizers"

/* Whole file with a NUL behind, or NULL. */
static inline char *text_load(const char *path, size_t *len)
{
    FILE *file = fopen(path, "rb");
    char *data = NULL;
    long size;

    if (file == NULL)
        return NULL;
    if (fseek(file, 0, SEEK_END) == 0 && (size = ftell(file)) >= 0) {
        rewind(file);
        data = malloc((size_t)size + 1);
        *len = data != NULL ? fread(data, 1, (size_t)size, file) : 0;
        if (data != NULL)
            data[*len] = '\0';
    }
    fclose(file);
    return data;
}

/* Allocations still held, and how many more may succeed (-1 = all). */
struct text_heap {
    long held, left;
};

static inline void *text_heap_alloc(void *user, size_t size, size_t align)
{
    struct text_heap *heap = user;

    if (heap->left == 0)
        return NULL;
    heap->left -= heap->left > 0;
    heap->held++;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static inline void text_heap_free(void *user, void *ptr, size_t size)
{
    struct text_heap *heap = user;

    (void)size;
    heap->held -= ptr != NULL;
    free(ptr);
}

static inline struct mk_env text_env(struct text_heap *heap)
{
    struct mk_env env = {.alloc = {text_heap_alloc, text_heap_free, heap}};

    heap->held = 0;
    heap->left = -1;
    return env;
}

/* Tokenizer of the two texts, config NULL when it is absent; special: both ids of config.json. */
static inline int32_t text_read(struct mk_tokenizer **tok, const struct mk_env *env,
                                const char *json, size_t len, const char *config,
                                int32_t special)
{
    const struct mk_vocabulary v = {
        .json = {json, len}, .config = {config, config != NULL ? strlen(config) : 0},
        .bos = special, .eos = special,
    };

    return mk_tokenizer_open(tok, env, &v);
}

/* Tokenizer of a tokenizer.json, or NULL where the file is absent. */
static inline struct mk_tokenizer *text_open(const char *path, const struct mk_env *env)
{
    struct mk_tokenizer *tok = NULL;
    size_t len = 0;
    char *json = text_load(path, &len);

    if (json == NULL)
        return NULL;
    CHECK_INT(text_read(&tok, env, json, len, NULL, -1), MINKE_OK);
    free(json);
    return tok;
}

/* Ids of a text, special tokens included; ids holds capacity. */
static inline size_t text_encode(const struct mk_tokenizer *tok, const char *text, size_t len,
                                 int32_t *ids, size_t capacity)
{
    const struct mk_tokenize in = {{text, len}, MINKE_TOKENIZE_SPECIAL, NULL, 0};
    size_t n = 0;

    CHECK_INT(mk_tokenizer_encode(tok, &in, ids, capacity, &n), MINKE_OK);
    return n;
}

/* Whether a JSON array holds exactly these ids. */
static inline int text_same_ids(const struct mk_json *array, const int32_t *ids, size_t n)
{
    const struct mk_json *v;
    size_t i = 0;

    if (array == NULL || array->n_items != n)
        return 0;
    for (v = array->first; v != NULL; v = v->next, i++) {
        int64_t id;

        if (mk_json_int(v, &id) < 0 || id != ids[i])
            return 0;
    }
    return 1;
}

#endif
