/* What GGUF metadata says of a tokenizer: byte-level BPE is the model "gpt2". */
#include <string.h>

#include "base/error.h"
#include "format/gguf.h"

/* A list of strings; NULL and 0 when the key is absent. */
static int32_t vocab_list(const struct mk_view **out, size_t *n, const struct mk_gguf *g,
                          const char *key)
{
    const struct mk_gguf_value *v = mk_gguf_find(g, key);

    if (v != NULL && (!v->is_array || v->type != MK_GGUF_STRING))
        return mk_fail(MINKE_EFORMAT, "%s: no list of strings", key);
    *out = v == NULL ? NULL : v->strings;
    *n = v == NULL ? 0 : (size_t)v->n;
    return MINKE_OK;
}

static int32_t vocab_types(const int32_t **out, size_t n, struct mk_arena *arena,
                           const struct mk_gguf *g)
{
    const struct mk_gguf_value *v = mk_gguf_find(g, "tokenizer.ggml.token_type");
    int32_t *types;
    int64_t type;

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

int32_t mk_gguf_vocabulary(struct mk_vocabulary *out, struct mk_arena *arena,
                           const struct mk_gguf *g)
{
    const struct mk_view *model = mk_gguf_text(mk_gguf_find(g, "tokenizer.ggml.model"));
    const struct mk_view *pre = mk_gguf_text(mk_gguf_find(g, "tokenizer.ggml.pre"));
    const struct mk_view *chat = mk_gguf_text(mk_gguf_find(g, "tokenizer.chat_template"));
    int32_t rc;

    memset(out, 0, sizeof(*out));
    if (model == NULL)
        return mk_fail(MINKE_EUNSUPPORTED, "the file has no tokenizer");
    if (strcmp(model->data, "gpt2") != 0)
        return mk_fail(MINKE_EUNSUPPORTED, "tokenizer.ggml.model: %s; gpt2 is read", model->data);
    out->pre = pre == NULL ? "" : pre->data;
    out->bos = mk_gguf_token(g, "tokenizer.ggml.bos_token_id");
    out->eos = mk_gguf_token(g, "tokenizer.ggml.eos_token_id");
    if (chat != NULL)
        out->chat_template = *chat;
    if ((rc = vocab_list(&out->tokens, &out->n_tokens, g, "tokenizer.ggml.tokens")) < 0
        || (rc = vocab_list(&out->merges, &out->n_merges, g, "tokenizer.ggml.merges")) < 0)
        return rc;
    return vocab_types(&out->types, out->n_tokens, arena, g);
}
