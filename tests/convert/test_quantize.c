/* Files that minke writes: what they hold, what they compute, and what is left after errors. */
#ifndef _GNU_SOURCE
#  define _GNU_SOURCE 1 /* mkdtemp */
#endif
#include "test.h"
#include "folder.h"
#include "format/gguf.h"

#define OUT test_file("model.gguf")
#define MODEL "tests/golden/v3"

/* Checkpoints beside the files that other writers made of them in F32: the tree's, and those of
 * llama.cpp's converter, where the shared folder is present. */
static const char *const twins[][2] = {
    {"tests/golden/v2-lite", GOLDEN_GGUF "/v2-lite.gguf"},
    {"tests/golden/v2", GOLDEN_GGUF "/v2.gguf"},
    {"tests/golden/v3", GOLDEN_GGUF "/v3.gguf"},
    {"tests/golden/v32", GOLDEN_GGUF "/v32.gguf"},
    {"tests/golden/v3", GOLDEN_GGUF "/v3-parts-00001-of-00003.gguf"},
    {"../shared/golden/v2-lite", "../shared/golden/gguf/v2-lite.gguf"},
    {"../shared/golden/v3", "../shared/golden/gguf/v3.gguf"},
    {"../shared/golden/v32-gguf", "../shared/golden/gguf/v32-gguf.gguf"},
};

static int exists(const char *path)
{
    FILE *f = fopen(path, "rb");

    if (f != NULL)
        fclose(f);
    return f != NULL;
}

/* Tensor data of an open file, for free(). */
static uint8_t *data_of(const struct mk_stored *t)
{
    uint8_t *data = malloc((size_t)t->size);

    CHECK_INT(mk_file_read(t->file, t->offset, data, (size_t)t->size), MINKE_OK);
    return data;
}

/* What a says of the model, b says too, in the same type. */
static void check_same_description(const struct mk_gguf *a, const struct mk_gguf *b)
{
    size_t n_seen = 0;

    for (size_t i = 0; i < a->n_values; i++) {
        const struct mk_gguf_value *x = &a->values[i], *y = mk_gguf_find(b, x->key.data);
        double p = 0.0, q = 1.0;
        if (strncmp(x->key.data, "deepseek", 8) != 0)
            continue;
        n_seen++;
        if (y == NULL || y->type != x->type
            || (x->type == MK_GGUF_STRING
                    ? strcmp(mk_gguf_text(x)->data, mk_gguf_text(y)->data) != 0
                    : mk_gguf_double(x, 0, &p) < 0 || mk_gguf_double(y, 0, &q) < 0 || p != q)) {
            test_failures++;
            fprintf(stderr, "%s: %s\n", x->key.data, y == NULL ? "absent" : "differs");
        }
    }
    CHECK(n_seen > 20);
}

static void check_same_tensors(const char *a_path, const char *b_path)
{
    const struct mk_env env = {0};
    struct mk_gguf a, b;

    CHECK_INT(mk_gguf_open(&a, &env, a_path), MINKE_OK);
    CHECK_INT(mk_gguf_open(&b, &env, b_path), MINKE_OK);
    CHECK_INT(a.n_tensors, b.n_tensors);
    for (size_t i = 0; i < a.n_tensors; i++) {
        const struct mk_stored *x = &a.tensors[i], *y = mk_gguf_tensor(&b, x->name.data);
        CHECK(y != NULL && y->size == x->size && memcmp(x->shape, y->shape, sizeof x->shape) == 0);
        if (y == NULL || y->size != x->size)
            continue;
        uint8_t *p = data_of(x), *q = data_of(y);
        if (memcmp(p, q, (size_t)x->size) != 0) {
            test_failures++;
            fprintf(stderr, "%s: %s differs\n", b_path, x->name.data);
        }
        free(p);
        free(q);
    }
    check_same_description(&a, &b);
    mk_gguf_close(&a);
    mk_gguf_close(&b);
}

TEST(a_checkpoint_becomes_the_same_tensors_as_elsewhere)
{
    minke_quantize_params p;

    minke_quantize_params_init(&p, sizeof p);
    p.preset = "F32";
    for (size_t i = 0; i < sizeof twins / sizeof twins[0]; i++) {
        if (strncmp(twins[i][1], "../shared", 9) == 0 && !exists(twins[i][1]))
            continue;
        for (size_t from = 0; from < 2; from++) {
            CHECK_INT(minke_quantize(OUT, twins[i][from], &p), MINKE_OK);
            check_same_tensors(twins[i][1], OUT);
        }
    }
    remove(OUT);
}

TEST(any_number_of_threads_writes_the_same_bytes)
{
    minke_quantize_params p;
    uint8_t *files[2];
    size_t sizes[2] = {0};

    minke_quantize_params_init(&p, sizeof p);
    p.preset = "q4_0";
    for (uint32_t i = 0; i < 2; i++) {
        p.n_threads = 1 + 2 * i;
        CHECK_INT(minke_quantize(OUT, MODEL, &p), MINKE_OK);
        FILE *f = fopen(OUT, "rb");
        files[i] = malloc(4u << 20);
        sizes[i] = f == NULL ? 0 : fread(files[i], 1, 4u << 20, f);
        if (f != NULL)
            fclose(f);
    }
    CHECK(sizes[0] > 0 && sizes[0] == sizes[1]);
    CHECK(memcmp(files[0], files[1], sizes[0]) == 0);
    free(files[0]);
    free(files[1]);
    remove(OUT);
}

TEST(parts_get_their_types_and_norms_stay_exact)
{
    const struct mk_env env = {0};
    minke_quantize_params p;
    struct mk_gguf g;

    minke_quantize_params_init(&p, sizeof p);
    p.preset = "q8_0";
    p.gate_up = "Q4_0";
    p.head = "f16";
    p.shared = "q4_k";      /* rows of 64: falls back to Q5_0 */
    CHECK_INT(minke_quantize(OUT, MODEL, &p), MINKE_OK);
    CHECK_INT(mk_gguf_open(&g, &env, OUT), MINKE_OK);
    CHECK_INT(mk_gguf_tensor(&g, "blk.2.ffn_up_exps.weight")->type, MK_Q4_0);
    CHECK_INT(mk_gguf_tensor(&g, "output.weight")->type, MK_F16);
    CHECK_INT(mk_gguf_tensor(&g, "token_embd.weight")->type, MK_Q8_0);
    CHECK_INT(mk_gguf_tensor(&g, "blk.2.ffn_up_shexp.weight")->type, MK_Q5_0);
    CHECK_INT(mk_gguf_tensor(&g, "blk.2.ffn_down_exps.weight")->type, MK_F16);
    CHECK_INT(mk_gguf_tensor(&g, "blk.2.ffn_gate_inp.weight")->type, MK_F32);
    CHECK_INT(mk_gguf_tensor(&g, "blk.2.exp_probs_b.bias")->type, MK_F32);
    CHECK_INT(mk_gguf_tensor(&g, "output_norm.weight")->type, MK_F32);
    mk_gguf_close(&g);
    remove(OUT);
}

static int32_t stop_halfway(void *user, uint64_t done, uint64_t total)
{
    (void)user;
    return done > total / 2;
}

TEST(slow_types_are_named)
{
    minke_quantize_params p;
    minke_context *ctx = NULL;
    const char *text = NULL, *in = GOLDEN_GGUF "/v3.gguf";

    minke_quantize_params_init(&p, sizeof p);
    CHECK_INT(minke_quantize(OUT, in, &p), MINKE_OK);
    CHECK_INT(minke_context_open(&ctx, OUT, NULL), MINKE_OK);
    CHECK_INT(minke_context_text(ctx, MINKE_TEXT_SLOW_TYPES, &text), MINKE_OK);
    CHECK_STR(text, "");
    minke_context_free(ctx);
    p.gate_up = "q4_1";
    CHECK_INT(minke_quantize(OUT, in, &p), MINKE_OK);
    CHECK_INT(minke_context_open(&ctx, OUT, NULL), MINKE_OK);
    CHECK_INT(minke_context_text(ctx, MINKE_TEXT_SLOW_TYPES, &text), MINKE_OK);
    CHECK_STR(text, "Q4_1");
    minke_context_free(ctx);
    remove(OUT);
}

TEST(a_template_in_a_file_of_its_own_is_carried_along)
{
    char folder[] = "/tmp/minke-quantize-XXXXXX", command[256];
    const char *name = NULL;
    minke_context *ctx = NULL;

    CHECK(mkdtemp(folder) != NULL);
    snprintf(command, sizeof command, "cp examples/calf/*.json examples/calf/*.safetensors %s && "
             "echo \"{{ somebody's }}\" > %s/chat_template.jinja", folder, folder);
    CHECK_INT(system(command), 0);
    for (int round = 0; round < 2; round++) {
        CHECK_INT(minke_quantize(OUT, round == 0 ? folder : "examples/calf", NULL), MINKE_OK);
        CHECK_INT(minke_context_open(&ctx, OUT, NULL), MINKE_OK);
        CHECK_INT(minke_chat_encoding(ctx, &name), round == 0 ? MINKE_EUNSUPPORTED : MINKE_OK);
        if (round == 1)
            CHECK_STR(name, "deepseek-v3.2");
        minke_context_free(ctx);
    }
    snprintf(command, sizeof command, "rm -rf %s", folder);
    CHECK_INT(system(command), 0);
    remove(OUT);
}

TEST(an_index_names_files_beside_it_and_nothing_else)
{
    static const char *const names[] = {"../x", "..", "", "a\\\\b", "c:x", "x\\u0000y"};
    char folder[] = "/tmp/minke-quantize-XXXXXX", text[256];

    CHECK(mkdtemp(folder) != NULL);
    snprintf(text, sizeof text, "cp " MODEL "/config.json %s", folder);
    CHECK_INT(system(text), 0);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(text, sizeof text, "%s/model.safetensors.index.json", folder);
        FILE *f = fopen(text, "wb");
        CHECK(f != NULL && fprintf(f, "{\"weight_map\": {\"t\": \"%s\"}}", names[i]) > 0);
        if (f != NULL)
            fclose(f);
        CHECK_INT(minke_quantize(OUT, folder, NULL), MINKE_EFORMAT);
        CHECK_HAS(minke_last_error(), "is no name of a file beside it");
    }
    snprintf(text, sizeof text, "rm -rf %s", folder);
    CHECK_INT(system(text), 0);
    CHECK(!exists(OUT));
}

TEST(what_fails_leaves_the_older_file_alone)
{
    char line[16] = "";
    minke_quantize_params p;
    FILE *f;

    f = fopen(OUT, "wb");
    CHECK(f != NULL && fputs("older", f) >= 0);
    if (f != NULL)
        fclose(f);
    minke_quantize_params_init(&p, sizeof p);
    p.progress = stop_halfway;
    CHECK_INT(minke_quantize(OUT, MODEL, &p), MINKE_ECANCELED);
    f = fopen(OUT, "rb");
    CHECK(f != NULL && fgets(line, sizeof line, f) != NULL);
    if (f != NULL)
        fclose(f);
    CHECK_STR(line, "older");
    remove(OUT);
    CHECK_INT(minke_quantize(OUT, MODEL, &p), MINKE_ECANCELED);
    CHECK(!exists(OUT));
}

/* An allocator whose n-th call fails. */
struct meagre {
    uint32_t left, live;
};

static void *meagre_alloc(void *user, size_t size, size_t align)
{
    struct meagre *m = user;
    char *block;

    if (m->left == 0)
        return NULL;
    m->left--;
    m->live++;
    block = malloc(size + align + sizeof(void *));
    if (block == NULL)
        return NULL;
    uintptr_t at = (uintptr_t)(block + sizeof(void *) + align - 1) / align * align;
    memcpy((char *)at - sizeof(void *), &block, sizeof(void *));
    return (void *)at;
}

static void meagre_free(void *user, void *ptr, size_t size)
{
    struct meagre *m = user;
    void *block;

    (void)size;
    memcpy(&block, (char *)ptr - sizeof(void *), sizeof(void *));
    m->live--;
    free(block);
}

TEST(any_allocation_may_fail)
{
    struct meagre m = {0, 0};
    minke_quantize_params p;
    int32_t status = MINKE_ENOMEM;

    minke_quantize_params_init(&p, sizeof p);
    p.n_threads = 1;
    p.alloc = meagre_alloc;
    p.free = meagre_free;
    p.alloc_user = &m;
    for (uint32_t n = 0; n < 5000 && status == MINKE_ENOMEM; n += n < 400 ? 1 : 37) {
        m.left = n;
        status = minke_quantize(OUT, MODEL, &p);
        CHECK(status == MINKE_ENOMEM || status == MINKE_OK);
        CHECK_INT(m.live, 0);
        CHECK(status == MINKE_OK || !exists(OUT));
    }
    CHECK_INT(status, MINKE_OK);
    remove(OUT);
}

TEST(wrong_arguments_are_named)
{
    minke_quantize_params p;

    minke_quantize_params_init(&p, sizeof p);
    CHECK_INT(minke_quantize(NULL, "x", &p), MINKE_EINVAL);
    p.preset = "q9_k";
    CHECK_INT(minke_quantize(OUT, "x", &p), MINKE_EUNSUPPORTED);
    CHECK_HAS(minke_last_error(), "q9_k");
    p.preset = NULL;
    p.down = "iq2_xs";
    CHECK_INT(minke_quantize(OUT, "x", &p), MINKE_EUNSUPPORTED);
    CHECK_HAS(minke_last_error(), "iq2_xs");
    p.down = NULL;
    CHECK_INT(minke_quantize(OUT, "/nowhere/model", &p), MINKE_EIO);
    CHECK_INT(minke_quantize(OUT, "/nowhere/model.gguf", &p), MINKE_EIO);
    CHECK_HAS(minke_last_error(), "/nowhere/model.gguf");
    p.n_threads = 5000;
    CHECK_INT(minke_quantize(OUT, "x", &p), MINKE_EINVAL);
    CHECK(!exists(OUT));
}

TEST_MAIN(RUN(a_checkpoint_becomes_the_same_tensors_as_elsewhere);
          RUN(any_number_of_threads_writes_the_same_bytes);
          RUN(parts_get_their_types_and_norms_stay_exact);
          RUN(slow_types_are_named); RUN(a_template_in_a_file_of_its_own_is_carried_along);
          RUN(an_index_names_files_beside_it_and_nothing_else);
          RUN(what_fails_leaves_the_older_file_alone); RUN(any_allocation_may_fail);
          RUN(wrong_arguments_are_named))
