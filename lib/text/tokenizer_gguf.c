/* Tokenizer from GGUF metadata: byte-level BPE is the model "gpt2". */
#include "text/tokenizer_gguf.h"

#include <string.h>

#include "base/error.h"

/* A list of strings as slices in the arena; NULL and 0 when the key is absent. */
static int32_t tokgguf_list(const struct mk_view **out, size_t *n, struct mk_arena *arena,
                            const struct mk_gguf *g, const char *key)
{
    const struct mk_gguf_value *v = mk_gguf_find(g, key);
    struct mk_view *slices;

    *out = NULL;
    *n = 0;
    if (v == NULL)
        return MINKE_OK;
    if (!v->is_array || v->type != MK_GGUF_STRING)
        return mk_fail(MINKE_EFORMAT, "%s: no list of strings", key);
    slices = mk_arena_alloc(arena, (size_t)v->n, sizeof(*slices));
    if (slices == NULL)
        return MINKE_ENOMEM;
    for (uint64_t i = 0; i < v->n; i++) {
        slices[i].data = v->strings[i].data;
        slices[i].len = v->strings[i].len;
    }
    *out = slices;
    *n = (size_t)v->n;
    return MINKE_OK;
}

static int32_t tokgguf_types(const int32_t **out, size_t n, struct mk_arena *arena,
                             const struct mk_gguf *g)
{
    const struct mk_gguf_value *v = mk_gguf_find(g, "tokenizer.ggml.token_type");
    int32_t *types;
    int64_t type;

    *out = NULL;
    if (v == NULL)
        return MINKE_OK;
    if (v->n != n)
        return mk_fail(MINKE_EFORMAT, "tokenizer.ggml.token_type: %llu items for %zu tokens",
                       (unsigned long long)v->n, n);
    types = mk_arena_alloc(arena, n, sizeof(*types));
    if (types == NULL)
        return MINKE_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        if (mk_gguf_int(v, i, &type) < 0 || type < 0 || type > 100)
            return mk_fail(MINKE_EFORMAT, "tokenizer.ggml.token_type: item %zu", i);
        types[i] = (int32_t)type;
    }
    *out = types;
    return MINKE_OK;
}

static int32_t tokgguf_id(const struct mk_gguf *g, const char *key)
{
    int64_t id;

    return mk_gguf_int(mk_gguf_find(g, key), 0, &id) == 0 && id >= 0 && id < INT32_MAX
         ? (int32_t)id : -1;
}

static int32_t tokgguf_lists(struct mk_tokenizer_lists *lists, struct mk_arena *arena,
                             const struct mk_gguf *g)
{
    const struct mk_view *model = mk_gguf_text(mk_gguf_find(g, "tokenizer.ggml.model"));
    const struct mk_view *pre = mk_gguf_text(mk_gguf_find(g, "tokenizer.ggml.pre"));
    const struct mk_view *chat = mk_gguf_text(mk_gguf_find(g, "tokenizer.chat_template"));
    int32_t rc;

    if (model == NULL)
        return mk_fail(MINKE_EUNSUPPORTED, "the file has no tokenizer");
    if (strcmp(model->data, "gpt2") != 0)
        return mk_fail(MINKE_EUNSUPPORTED, "tokenizer.ggml.model: %s; gpt2 is read", model->data);
    lists->pre = pre == NULL ? "" : pre->data;
    lists->bos = tokgguf_id(g, "tokenizer.ggml.bos_token_id");
    lists->eos = tokgguf_id(g, "tokenizer.ggml.eos_token_id");
    if (chat != NULL) {
        lists->chat_template = chat->data;
        lists->chat_template_len = chat->len;
    }
    rc = tokgguf_list(&lists->tokens, &lists->n_tokens, arena, g, "tokenizer.ggml.tokens");
    if (rc == MINKE_OK)
        rc = tokgguf_list(&lists->merges, &lists->n_merges, arena, g,
                          "tokenizer.ggml.merges");
    if (rc == MINKE_OK)
        rc = tokgguf_types(&lists->types, lists->n_tokens, arena, g);
    return rc;
}

int32_t mk_tokenizer_open_gguf(struct mk_tokenizer **out, const struct mk_env *env,
                               const struct mk_gguf *g)
{
    struct mk_tokenizer_lists lists = {0};
    struct mk_arena arena;
    int32_t rc;

    mk_arena_init(&arena, &env->alloc);
    rc = tokgguf_lists(&lists, &arena, g);
    if (rc == MINKE_OK)
        rc = mk_tokenizer_open_lists(out, env, &lists);
    mk_arena_free(&arena);
    return rc;
}
