/* A record as arrays with names, as facts, and as a safetensors file of both. */
#include <string.h>

#include "base/checked.h"
#include "base/file.h"
#include "base/json.h"
#include "format/safetensors.h"
#include "learn/rollout.h"

#define ROLLOUT_HEADER 65536u    /* bytes of a file's header at most */

/* By MINKE_FINISH_*. */
static const char *const rollout_reasons[] = {
    "", "stop", "length", "thinking_length", "tool_calls", "canceled", "full"};

/* ---- Arrays ------------------------------------------------------------- */

enum rollout_shape {
    ROLLOUT_TOKENS, ROLLOUT_BOUNDS, ROLLOUT_IDS, ROLLOUT_SELECTION, ROLLOUT_CHOICE
};

/* Where a record points to an array, and the bytes of one item. */
#define ROLLOUT_AT(member) \
    offsetof(struct minke_rollout, member), sizeof(*((struct minke_rollout *)NULL)->member)

/* The arrays of a record as files name them, in their order.  Of two with one key it keeps one. */
static const struct rollout_kind {
    int32_t key;
    const char *name, *dtype;
    size_t at, item;
    enum rollout_shape shape;
} rollout_kinds[] = {
    {MINKE_ROLLOUT_ARRAY_ALLOWED_OFFSETS, "allowed_offsets", "I64", ROLLOUT_AT(offsets), ROLLOUT_BOUNDS},
    {MINKE_ROLLOUT_ARRAY_TOKENS, "tokens", "I32", ROLLOUT_AT(tokens), ROLLOUT_TOKENS},
    {MINKE_ROLLOUT_ARRAY_LOGPROBS, "logprobs", "F32", ROLLOUT_AT(logprobs), ROLLOUT_TOKENS},
    {MINKE_ROLLOUT_ARRAY_LOGPROBS_FULL, "logprobs_full", "F32", ROLLOUT_AT(logprobs_full),
     ROLLOUT_TOKENS},
    {MINKE_ROLLOUT_ARRAY_ALLOWED, "allowed", "I32", ROLLOUT_AT(allowed), ROLLOUT_IDS},
    {MINKE_ROLLOUT_ARRAY_SELECTED, "selected", "I32", ROLLOUT_AT(trail.selected), ROLLOUT_SELECTION},
    {MINKE_ROLLOUT_ARRAY_EXPERTS, "experts", "U8", ROLLOUT_AT(trail.experts8), ROLLOUT_CHOICE},
    {MINKE_ROLLOUT_ARRAY_EXPERTS, "experts", "U16", ROLLOUT_AT(trail.experts16), ROLLOUT_CHOICE},
    {MINKE_ROLLOUT_ARRAY_SAMPLED, "sampled", "U8", ROLLOUT_AT(sampled), ROLLOUT_TOKENS},
};

static void *rollout_data(const struct minke_rollout *r, const struct rollout_kind *k)
{
    void *data;

    memcpy(&data, (const char *)r + k->at, sizeof(data));
    return data;
}

/* The array of this key that r keeps, or the first when it keeps none or r is NULL. */
static const struct rollout_kind *rollout_kind(const struct minke_rollout *r, int32_t key)
{
    const struct rollout_kind *found = NULL;

    for (size_t i = 0; i < MK_COUNT(rollout_kinds); i++)
        if (rollout_kinds[i].key == key
            && (found == NULL || (r != NULL && rollout_data(r, &rollout_kinds[i]) != NULL)))
            found = &rollout_kinds[i];
    return found;
}

/* Data and shape of one array; data NULL when it is not kept. */
static void rollout_describe(struct mk_rollout_array *a, const struct minke_rollout *r,
                             int32_t key)
{
    const struct rollout_kind *k = rollout_kind(r, key);
    const struct mk_trail *t = &r->trail;
    const uint64_t n_ids = r->offsets != NULL ? (uint64_t)r->offsets[r->n] : 0;
    const uint64_t shapes[][3] = {
        [ROLLOUT_TOKENS] = {r->n, 1, 1}, [ROLLOUT_BOUNDS] = {r->n + 1, 1, 1},
        [ROLLOUT_IDS] = {n_ids, 1, 1}, [ROLLOUT_SELECTION] = {t->n, t->n_layers, t->top_k},
        [ROLLOUT_CHOICE] = {t->n, t->n_moe, t->n_experts}};
    const uint64_t *shape = shapes[k->shape];

    *a = (struct mk_rollout_array){k->name, k->dtype, rollout_data(r, k), {0, 0, 0},
                                   k->shape < ROLLOUT_SELECTION ? 1 : 3,
                                   (size_t)(shape[0] * shape[1] * shape[2]) * k->item};
    memcpy(a->shape, shape, sizeof(a->shape));
}

int32_t mk_rollout_array(struct mk_rollout_array *out, const struct minke_rollout *r, int32_t key)
{
    struct mk_rollout_array a;

    if (key < 1 || key > MK_ROLLOUT_N_ARRAYS)
        return mk_fail(MINKE_EVERSION, "rollout array %d: unknown", key);
    rollout_describe(&a, r, key);
    if (a.data == NULL)
        return mk_fail(MINKE_EINVAL, "the rollout keeps no array %s", a.name);
    *out = a;
    return MINKE_OK;
}

int32_t minke_rollout_array(const minke_rollout *r, int32_t key, const char **name,
                            const char **dtype, uint64_t *shape, uint32_t *n_dims,
                            const void **data)
{
    struct mk_rollout_array a;
    int32_t rc;

    if (r == NULL)
        return mk_fail(MINKE_EINVAL, "rollout is NULL");
    if ((rc = mk_rollout_array(&a, r, key)) < 0)
        return rc;
    if (name != NULL)
        *name = a.name;
    if (dtype != NULL)
        *dtype = a.dtype;
    if (shape != NULL)
        memcpy(shape, a.shape, a.n_dims * sizeof(*shape));
    if (n_dims != NULL)
        *n_dims = a.n_dims;
    if (data != NULL)
        *data = a.data;
    return MINKE_OK;
}

/* ---- Facts -------------------------------------------------------------- */

/* Sampling parameters by name, as facts and files have them. */
static const struct rollout_setting {
    const char *name;
    size_t at;
    int is_float;
} rollout_settings[] = {
    {"temperature", offsetof(minke_sampler_params, temperature), 1},
    {"top_k", offsetof(minke_sampler_params, top_k), 0},
    {"top_p", offsetof(minke_sampler_params, top_p), 1},
    {"min_p", offsetof(minke_sampler_params, min_p), 1},
    {"repetition_penalty", offsetof(minke_sampler_params, repetition_penalty), 1},
    {"presence_penalty", offsetof(minke_sampler_params, presence_penalty), 1},
    {"frequency_penalty", offsetof(minke_sampler_params, frequency_penalty), 1},
    {"penalty_window", offsetof(minke_sampler_params, penalty_window), 0},
    {"n_bias", offsetof(minke_sampler_params, n_bias), 0},
};

static void rollout_sampling_text(struct mk_text *t, const minke_sampler_params *p)
{
    if (p->struct_size == 0) {
        mk_text_adds(t, "null");
        return;
    }
    for (size_t i = 0; i < MK_COUNT(rollout_settings); i++) {
        const struct rollout_setting *k = &rollout_settings[i];
        uint32_t whole;
        float real;

        memcpy(&whole, (const char *)p + k->at, sizeof(whole));
        memcpy(&real, (const char *)p + k->at, sizeof(real));
        mk_text_addf(t, "%s\"%s\": ", i > 0 ? ", " : "{", k->name);
        if (k->is_float)
            mk_text_addf(t, "%g", (double)real);
        else
            mk_text_addf(t, "%u", whole);
    }
    mk_text_addf(t, ", \"seed\": \"%llu\"}", (unsigned long long)p->seed);
}

static size_t rollout_n_prompt(const struct minke_rollout *r)
{
    size_t n = 0;

    while (n < r->n && !r->sampled[n])
        n++;
    return n;
}

/* The facts as members of an object; quoted: all values as texts, as safetensors wants them. */
static void rollout_facts(struct mk_text *t, const struct minke_rollout *r, int quoted)
{
    const char *quote = quoted ? "\"" : "";
    struct mk_text sampling;

    mk_text_addf(t, "\"model\": \"%s\", \"model_type\": ", r->identity);
    mk_text_add_quoted(t, r->model_type, strlen(r->model_type));
    mk_text_addf(t, ", \"finish_reason\": \"%s\", \"n_prompt\": %s%zu%s, \"sampling\": ",
                 rollout_reasons[r->finish], quote, rollout_n_prompt(r), quote);
    mk_text_init(&sampling, t->a);
    rollout_sampling_text(&sampling, &r->sampling);
    t->failed |= sampling.failed;
    if (quoted)
        mk_text_add_quoted(t, sampling.data, sampling.len);
    else
        mk_text_add_view(t, mk_text_view(&sampling));
    mk_text_free(&sampling);
}

int32_t minke_rollout_facts(const minke_rollout *r, char *text, size_t capacity, size_t *n_out)
{
    struct mk_text t;

    if (r == NULL || n_out == NULL || (text == NULL && capacity > 0))
        return mk_fail(MINKE_EINVAL, "rollout, text or n_out is NULL");
    mk_text_init(&t, &r->alloc);
    mk_text_adds(&t, "{");
    rollout_facts(&t, r, 0);
    mk_text_adds(&t, "}");
    return mk_text_deliver(&t, text, capacity, n_out);
}

/* ---- Writing ------------------------------------------------------------ */

/* JSON, with blanks up to a multiple of 8. */
static void rollout_header(struct mk_text *t, const struct minke_rollout *r)
{
    unsigned long long at = 0;

    mk_text_adds(t, "{\"__metadata__\": {\"format\": \"minke rollout 1\", ");
    rollout_facts(t, r, 1);
    mk_text_adds(t, "}");
    for (int32_t key = 1; key <= MK_ROLLOUT_N_ARRAYS; key++) {
        struct mk_rollout_array a;

        rollout_describe(&a, r, key);
        if (a.data == NULL)
            continue;
        mk_text_addf(t, ", \"%s\": {\"dtype\": \"%s\", \"shape\": [", a.name, a.dtype);
        for (uint32_t d = 0; d < a.n_dims; d++)
            mk_text_addf(t, "%s%llu", d > 0 ? ", " : "", (unsigned long long)a.shape[d]);
        mk_text_addf(t, "], \"data_offsets\": [%llu, %llu]}", at, at + a.bytes);
        at += a.bytes;
    }
    mk_text_adds(t, "}");
    while (!t->failed && t->len % 8 != 0)
        mk_text_adds(t, " ");
}

static int32_t rollout_write(struct mk_writer *w, const struct minke_rollout *r)
{
    uint8_t length[8];
    struct mk_text t;
    int32_t rc;

    mk_text_init(&t, &r->alloc);
    rollout_header(&t, r);
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)((uint64_t)t.len >> 8 * i);
    rc = t.failed ? MINKE_ENOMEM : mk_writer_write(w, length, sizeof(length));
    if (rc == MINKE_OK)
        rc = mk_writer_write(w, t.data, t.len);
    mk_text_free(&t);
    for (int32_t key = 1; rc == MINKE_OK && key <= MK_ROLLOUT_N_ARRAYS; key++) {
        struct mk_rollout_array a;

        rollout_describe(&a, r, key);
        if (a.data != NULL)
            rc = mk_writer_write(w, a.data, a.bytes);
    }
    return rc;
}

int32_t minke_rollout_save(const minke_rollout *r, const char *path)
{
    struct mk_writer *w = NULL;
    int32_t rc;

    if (r == NULL || path == NULL)
        return mk_fail(MINKE_EINVAL, "rollout or path is NULL");
    if (r->lost)
        return mk_fail(MINKE_EINVAL, "the session held tokens that the rollout has not seen");
    rc = mk_writer_open(&w, &r->alloc, path);
    if (rc == MINKE_OK)
        rc = rollout_write(w, r);
    if (rc == MINKE_OK)
        rc = mk_writer_commit(w);
    mk_writer_free(w);
    return rc;
}

/* ---- Reading ------------------------------------------------------------ */

struct rollout_reader {
    struct mk_file *file;
    struct mk_arena arena;
    const char *path;
    struct mk_st_tensor *tensors;
    size_t n_tensors;
    const struct mk_json *facts;
};

static const struct mk_st_tensor *rollout_find(const struct rollout_reader *in, int32_t key)
{
    const char *name = rollout_kind(NULL, key)->name;

    for (size_t i = 0; i < in->n_tensors; i++)
        if (strcmp(in->tensors[i].name, name) == 0)
            return &in->tensors[i];
    return NULL;
}

/* The header's facts; mk_st_read has found it well formed. */
static int32_t rollout_read_header(struct rollout_reader *in)
{
    const struct mk_json *header, *format;
    uint8_t length[8];
    uint64_t n = 0;
    char *text;
    int32_t rc = mk_st_read(&in->tensors, &in->n_tensors, &in->arena, in->file);

    if (rc < 0 || (rc = mk_file_read(in->file, 0, length, sizeof(length))) < 0)
        return rc;
    for (int i = 0; i < 8; i++)
        n |= (uint64_t)length[i] << 8 * i;
    if (n > ROLLOUT_HEADER)
        return mk_fail(MINKE_EFORMAT, "%s: a header of %llu bytes is no rollout's", in->path,
                       (unsigned long long)n);
    text = mk_arena_alloc(&in->arena, (size_t)n + 1, 1);
    if (text == NULL)
        return MINKE_ENOMEM;
    if ((rc = mk_file_read(in->file, sizeof(length), text, (size_t)n)) < 0
        || (rc = mk_json_parse(&header, &in->arena, text, (size_t)n, in->path)) < 0)
        return rc;
    in->facts = mk_json_get(header, "__metadata__");
    format = mk_json_get(in->facts, "format");
    if (format == NULL || !mk_json_is(format, "minke rollout 1"))
        return mk_fail(MINKE_EFORMAT, "%s: no rollout of version 1", in->path);
    return MINKE_OK;
}

/* How many tokens there are, how many of them were evaluated, and what is kept. */
static int32_t rollout_read_counts(const struct rollout_reader *in, minke_rollout_params *p,
                                   uint64_t *n, uint64_t *n_evaluated)
{
    const struct mk_st_tensor *tokens = rollout_find(in, MINKE_ROLLOUT_ARRAY_TOKENS);
    const struct mk_st_tensor *allowed = rollout_find(in, MINKE_ROLLOUT_ARRAY_ALLOWED);
    const struct mk_st_tensor *experts = rollout_find(in, MINKE_ROLLOUT_ARRAY_EXPERTS);
    const struct mk_st_tensor *selected = rollout_find(in, MINKE_ROLLOUT_ARRAY_SELECTED);
    const struct mk_st_tensor *trail = experts != NULL ? experts : selected;

    if (tokens == NULL || tokens->n_dims != 1 || tokens->shape[0] > INT32_MAX)
        return mk_fail(MINKE_EFORMAT, "%s: array tokens is missing, or no list", in->path);
    *n = tokens->shape[0];
    *n_evaluated = trail == NULL ? 0 : trail->n_dims == 3 ? trail->shape[0] : UINT64_MAX;
    if (*n_evaluated > *n)
        return mk_fail(MINKE_EFORMAT, "%s: array %s: shape", in->path, trail->name);
    p->max_tokens = (uint32_t)*n;
    p->max_allowed = allowed != NULL && allowed->n_dims == 1 ? allowed->shape[0] : 0;
    p->max_allowed += p->max_allowed == 0;   /* sets that are all empty are kept too */
    p->flags = (allowed == NULL ? MINKE_ROLLOUT_NO_ALLOWED : 0)
             | (experts == NULL ? MINKE_ROLLOUT_NO_EXPERTS : 0)
             | (selected != NULL ? MINKE_ROLLOUT_SELECTED : 0);
    return MINKE_OK;
}

/* One array into the place that r has for it, when shape and type are what r says: the offsets,
 * which come first, say how many ids are allowed. */
static int32_t rollout_read_array(const struct rollout_reader *in, struct minke_rollout *r,
                                  int32_t key)
{
    const struct rollout_kind *k = rollout_kind(r, key);
    const struct mk_st_tensor *t = rollout_find(in, key);
    struct mk_rollout_array a;

    rollout_describe(&a, r, key);
    if (a.data == NULL && t == NULL)
        return MINKE_OK;
    if (t == NULL || a.data == NULL)
        return mk_fail(MINKE_EFORMAT, "%s: array %s is %s", in->path, a.name,
                       t == NULL ? "missing" : "there without those that belong to it");
    if (strcmp(t->dtype, a.dtype) != 0 || t->n_dims != a.n_dims
        || memcmp(t->shape, a.shape, a.n_dims * sizeof(*a.shape)) != 0)
        return mk_fail(MINKE_EFORMAT, "%s: array %s: type %s or shape is not as expected for this "
                                      "model", in->path, a.name, t->dtype);
    return mk_file_read(in->file, t->offset, rollout_data(r, k), (size_t)t->size);
}

static int32_t rollout_bad(const struct rollout_reader *in, int32_t key, size_t at)
{
    return mk_fail(MINKE_EFORMAT, "%s: array %s: item %zu is out of range", in->path,
                   rollout_kind(NULL, key)->name, at);
}

/* Rows of allowed ids: in order, ascending, the drawn token among them. */
static int32_t rollout_check_allowed(const struct rollout_reader *in, const struct minke_rollout *r)
{
    if (r->offsets == NULL)
        return MINKE_OK;
    for (size_t t = 0; t <= r->n; t++)
        if (t == 0 ? r->offsets[t] != 0 : r->offsets[t] < r->offsets[t - 1])
            return rollout_bad(in, MINKE_ROLLOUT_ARRAY_ALLOWED_OFFSETS, t);
    for (size_t t = 0; t < r->n; t++) {
        const size_t begin = (size_t)r->offsets[t], end = (size_t)r->offsets[t + 1];
        int found = begin == end;

        for (size_t i = begin; i < end; i++) {
            if (r->allowed[i] < 0 || (uint32_t)r->allowed[i] >= r->n_vocab
                || (i > begin && r->allowed[i] <= r->allowed[i - 1]))
                return rollout_bad(in, MINKE_ROLLOUT_ARRAY_ALLOWED, i);
            found |= r->allowed[i] == r->tokens[t];
        }
        if (!found || (begin < end && !r->sampled[t]))
            return rollout_bad(in, MINKE_ROLLOUT_ARRAY_ALLOWED_OFFSETS, t);
    }
    return MINKE_OK;
}

static int32_t rollout_check_trail(const struct rollout_reader *in, const struct minke_rollout *r)
{
    const struct mk_trail *t = &r->trail;
    const int kept = t->experts8 != NULL || t->experts16 != NULL;
    const size_t n_experts = kept ? t->n * t->n_moe * t->n_experts : 0;
    const size_t per_token = (size_t)t->n_layers * t->top_k;

    for (size_t i = 0; i < n_experts; i++)
        if ((t->experts8 != NULL ? t->experts8[i] : t->experts16[i]) >= r->n_routed)
            return rollout_bad(in, MINKE_ROLLOUT_ARRAY_EXPERTS, i);
    for (size_t i = 0; t->selected != NULL && i < t->n * per_token; i++) {
        const int32_t at = t->selected[i], before = i % t->top_k > 0 ? t->selected[i - 1] : -1;
        const int first = i % t->top_k == 0;

        /* Ascending positions up to the token's own, at least one, then -1. */
        if (at < -1 || at > (int32_t)(i / per_token) || (first && at < 0)
            || (!first && at >= 0 && at <= before) || (!first && before < 0 && at >= 0))
            return rollout_bad(in, MINKE_ROLLOUT_ARRAY_SELECTED, i);
    }
    return MINKE_OK;
}

static int32_t rollout_check(const struct rollout_reader *in, const struct minke_rollout *r)
{
    int32_t rc;

    for (size_t t = 0; t < r->n; t++) {
        if (r->tokens[t] < 0 || (uint32_t)r->tokens[t] >= r->n_vocab)
            return rollout_bad(in, MINKE_ROLLOUT_ARRAY_TOKENS, t);
        if (r->sampled[t] > (t > 0))
            return rollout_bad(in, MINKE_ROLLOUT_ARRAY_SAMPLED, t);
        if (!(r->logprobs[t] <= 1e-3f))
            return rollout_bad(in, MINKE_ROLLOUT_ARRAY_LOGPROBS, t);
        if (!(r->logprobs_full[t] <= 1e-3f))
            return rollout_bad(in, MINKE_ROLLOUT_ARRAY_LOGPROBS_FULL, t);
    }
    rc = rollout_check_allowed(in, r);
    return rc < 0 ? rc : rollout_check_trail(in, r);
}

/* A setting's number; -1 when it is none in its field's range. */
static int rollout_read_setting(char *field, const struct rollout_setting *k,
                                const struct mk_json *v)
{
    int64_t whole = 0;
    double real = 0;
    float single;
    uint32_t count;

    if (v == NULL || (k->is_float ? mk_json_double(v, &real) : mk_json_int(v, &whole)) != 0
        || whole < 0 || whole > UINT32_MAX || !(real >= -1e30 && real <= 1e30))
        return -1;
    single = (float)real;
    count = (uint32_t)whole;
    if (k->is_float)
        memcpy(field, &single, sizeof(single));
    else
        memcpy(field, &count, sizeof(count));
    return 0;
}

static int rollout_read_seed(uint64_t *seed, const struct mk_json *v)
{
    *seed = 0;
    if (v == NULL || v->type != MK_JSON_STRING || v->text.len == 0 || v->text.len > 20)
        return -1;
    for (size_t i = 0; i < v->text.len; i++) {
        const uint64_t digit = (uint64_t)(unsigned char)v->text.data[i] - '0';

        if (digit > 9 || *seed > (UINT64_MAX - digit) / 10)
            return -1;
        *seed = *seed * 10 + digit;
    }
    return 0;
}

/* How it was drawn, from the text of an object or of null. */
static int32_t rollout_read_sampling(struct rollout_reader *in, struct minke_rollout *r,
                                     struct mk_view text)
{
    const struct mk_json *v = NULL;
    const int32_t rc = mk_json_parse(&v, &in->arena, text.data, text.len, "sampling");

    if (rc < 0 || v->type == MK_JSON_NULL)
        return rc;
    r->sampling.struct_size = sizeof(r->sampling);
    for (size_t i = 0; i < MK_COUNT(rollout_settings); i++) {
        const struct rollout_setting *k = &rollout_settings[i];

        if (rollout_read_setting((char *)&r->sampling + k->at, k, mk_json_get(v, k->name)) != 0)
            return mk_fail(MINKE_EFORMAT, "%s: sampling: %s is no number in its range", in->path,
                           k->name);
    }
    if (rollout_read_seed(&r->sampling.seed, mk_json_get(v, "seed")) != 0)
        return mk_fail(MINKE_EFORMAT, "%s: sampling: seed is no whole number", in->path);
    return MINKE_OK;
}

/* The facts that r keeps: identity, how it ended, how it was drawn. */
static int32_t rollout_read_facts(struct rollout_reader *in, struct minke_rollout *r)
{
    const struct mk_json *model = mk_json_get(in->facts, "model");
    const struct mk_json *reason = mk_json_get(in->facts, "finish_reason");
    const struct mk_json *sampling = mk_json_get(in->facts, "sampling");
    int32_t finish = 0;

    if (model == NULL || model->text.len != 16
        || strspn(model->text.data, "0123456789abcdef") != 16)
        return mk_fail(MINKE_EFORMAT, "%s: model: no 16 digits", in->path);
    memcpy(r->identity, model->text.data, 16);
    while (finish <= MINKE_FINISH_FULL && !mk_json_is(reason, rollout_reasons[finish]))
        finish++;
    if (finish > MINKE_FINISH_FULL)
        return mk_fail(MINKE_EFORMAT, "%s: finish_reason is none of those known", in->path);
    r->finish = finish;
    if (sampling == NULL)
        return mk_fail(MINKE_EFORMAT, "%s: sampling is missing", in->path);
    return rollout_read_sampling(in, r, sampling->text);
}

/* Room for experts and selection is made by the model's shape: see that it is the file's. */
static int32_t rollout_read_shapes(const struct rollout_reader *in, const minke_context *m,
                                   uint64_t n, uint64_t n_evaluated)
{
    static const int32_t keys[2] = {MINKE_ROLLOUT_ARRAY_SELECTED, MINKE_ROLLOUT_ARRAY_EXPERTS};
    const struct mk_config *c = &m->config;
    uint64_t dims[2][2] = {{c->num_hidden_layers, c->index_topk}, {0, c->num_experts_per_tok}};

    for (uint32_t l = 0; l < c->num_hidden_layers; l++)
        dims[1][0] += m->weights.layers[l].experts != NULL;
    for (size_t i = 0; i < 2; i++) {
        const struct mk_st_tensor *t = rollout_find(in, keys[i]);

        if (t == NULL)
            continue;
        if (t->n_dims != 3 || memcmp(t->shape + 1, dims[i], sizeof(dims[i])) != 0)
            return mk_fail(MINKE_EINVAL, "%s: array %s: shape is not this model's", in->path,
                           t->name);
        if (t->shape[0] != n_evaluated || n_evaluated + 1 < n)
            return mk_fail(MINKE_EFORMAT, "%s: array %s: %llu rows for %llu tokens", in->path,
                           t->name, (unsigned long long)t->shape[0], (unsigned long long)n);
    }
    return MINKE_OK;
}

static int32_t rollout_read(struct minke_rollout *r, struct rollout_reader *in,
                            const minke_context *m)
{
    minke_rollout_params p = {.struct_size = sizeof(p)};
    uint64_t n = 0, n_evaluated = 0, bytes;
    int32_t rc;

    if ((rc = rollout_read_header(in)) < 0
        || (rc = rollout_read_counts(in, &p, &n, &n_evaluated)) < 0
        || (rc = rollout_read_shapes(in, m, n, n_evaluated)) < 0
        || (rc = mk_rollout_layout(r, m, &p, &bytes)) < 0)
        return rc;
    r->n = (size_t)n;
    r->trail.n = (size_t)n_evaluated;
    for (int32_t key = 1; key <= MK_ROLLOUT_N_ARRAYS; key++)
        if ((rc = rollout_read_array(in, r, key)) < 0)
            return rc;
    rc = rollout_check(in, r);
    return rc < 0 ? rc : rollout_read_facts(in, r);
}

int32_t minke_rollout_load(minke_rollout **out, const minke_context *ctx, const char *path)
{
    struct rollout_reader in = {.path = path};
    struct minke_rollout *r = NULL;
    struct mk_env env;
    int32_t rc = mk_context_check(ctx);

    if (rc < 0)
        return rc;
    if (out == NULL || path == NULL)
        return mk_fail(MINKE_EINVAL, "out or path is NULL");
    if (ctx->flags & MINKE_CONTEXT_TOKENIZER_ONLY)
        return mk_fail(MINKE_EUNSUPPORTED, "the context was opened for its tokenizer alone");
    env = (struct mk_env){.alloc = ctx->env.alloc};
    mk_arena_init(&in.arena, &env.alloc);
    rc = mk_file_open(&in.file, &env, path);
    if (rc == MINKE_OK && in.file == NULL)
        rc = mk_fail(MINKE_EIO, "%s: no such file", path);
    if (rc == MINKE_OK && (r = mk_alloc(&env.alloc, 1, sizeof(*r))) == NULL)
        rc = MINKE_ENOMEM;
    if (rc == MINKE_OK) {
        r->alloc = env.alloc;
        r->refs = 1;
        rc = rollout_read(r, &in, ctx);
    }
    mk_file_close(in.file);
    mk_arena_free(&in.arena);
    if (rc == MINKE_OK)
        *out = r;
    else
        minke_rollout_free(r);
    return rc;
}
