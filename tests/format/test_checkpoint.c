/* One opened checkpoint: the same tensors, whatever holds them, and what keeps them out. */
#include "base/error.h"
#include "format/checkpoint.h"
#include "test.h"

static const struct mk_env env;

static int open_checkpoint(struct mk_checkpoint *c, const char *path)
{
    const int32_t status = mk_checkpoint_open(c, &env, path, 1);

    CHECK_INT(status, MINKE_OK);
    return status == MINKE_OK;
}

/* Numbers of a tensor of the list, for free(); NULL and 0 when the checkpoint lacks it. */
static float *floats_of(struct mk_checkpoint *c, struct mk_tensor_id id, size_t *n)
{
    struct mk_stored t;
    float *out;

    *n = 0;
    if (mk_checkpoint_take(c, id, &t) != MINKE_OK)
        return NULL;
    *n = mk_stored_count(&t);
    out = malloc(*n * sizeof *out);
    CHECK_INT(mk_stored_floats(out, &t, &env.alloc), MINKE_OK);
    return out;
}

/* Each tensor of the structs in a layer; returns how many. */
static size_t compare_all(struct mk_checkpoint *a, struct mk_checkpoint *b, uint32_t of,
                          struct mk_tensor_id id)
{
    size_t n_same = 0;

    for (;; id.tensor++) {
        size_t n = 0, m = 0;

        id.tensor = mk_tensor_next(id.tensor, of, &a->config, id.layer);
        if (id.tensor == MK_N_TENSORS)
            return n_same;
        if (mk_tensors[id.tensor].kind >= MK_KIND_KV_B)
            continue;
        float *x = floats_of(a, id, &n), *y = floats_of(b, id, &m);

        if (n == 0 || n != m || memcmp(x, y, n * sizeof *x) != 0) {
            test_failures++;
            fprintf(stderr, "%s: layer %u, expert %u: %s differs\n", b->path, id.layer, id.expert,
                    mk_tensors[id.tensor].name);
        }
        free(x);
        free(y);
        n_same++;
    }
}

/* F32 files made of the folder: in one piece, in parts, and with gate and up in one tensor. */
TEST(a_folder_and_a_gguf_file_hold_the_same_tensors)
{
    static const char *const files[] = {"/v3.gguf", "/v3-parts-00001-of-00003.gguf",
                                        "/v3-older.gguf", "/v3-fused.gguf"};

    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct mk_checkpoint a, b;
        struct mk_tensor_id id = {0};
        char path[256];
        size_t n = 0;

        snprintf(path, sizeof path, GOLDEN_GGUF "%s", files[i]);
        if (!open_checkpoint(&a, "tests/golden/v3") || !open_checkpoint(&b, path))
            return;
        CHECK_INT(a.config.n_routed_experts, b.config.n_routed_experts);
        n += compare_all(&a, &b, MK_OF_MODEL, id);
        for (; id.layer < a.config.num_hidden_layers; id.layer++) {
            n += compare_all(&a, &b, MK_OF_LAYER, id);
            for (id.expert = 0; mk_config_is_moe(&a.config, id.layer)
                                && id.expert < a.config.n_routed_experts; id.expert++)
                n += compare_all(&a, &b, MK_OF_EXPERT, id);
        }
        CHECK(n > 100);
        mk_checkpoint_close(&a);
        mk_checkpoint_close(&b);
    }
}

TEST(each_name_leads_to_its_row)
{
    for (uint32_t i = 0; i < MK_N_TENSORS; i++) {
        char name[MK_TENSOR_NAME];

        mk_tensor_gguf_name(name, (struct mk_tensor_id){i, 4095, 0});
        CHECK(mk_tensor_of_gguf(name) == &mk_tensors[i]);
        for (uint32_t k = 0; k < i; k++)
            CHECK(mk_tensors[i].of != mk_tensors[k].of
                  || strcmp(mk_tensors[i].name, mk_tensors[k].name) != 0);
    }
    CHECK(mk_tensor_of_gguf("blk.0.output.weight") == NULL);
    CHECK(mk_tensor_of_gguf("attn_norm.weight") == NULL);
    CHECK(mk_tensor_of_gguf("blk.") == NULL);
}

TEST(a_tensor_that_is_missing_or_bent_is_named)
{
    struct mk_checkpoint c;
    struct mk_stored t;

    if (!open_checkpoint(&c, "tests/golden/v3"))
        return;
    CHECK_INT(mk_checkpoint_find(&c, (struct mk_tensor_id){MK_T_O_PROJ, 77, 0}, &t), 0);
    CHECK_INT(mk_checkpoint_take(&c, (struct mk_tensor_id){MK_T_O_PROJ, 77, 0}, &t),
              MINKE_EFORMAT);
    CHECK_STR(minke_last_error(), "tensor model.layers.77.self_attn.o_proj.weight: missing");
    c.config.hidden_size++;
    CHECK_INT(mk_checkpoint_take(&c, (struct mk_tensor_id){MK_T_NORM, 0, 0}, &t), MINKE_EFORMAT);
    CHECK_HAS(minke_last_error(), "tensor model.norm.weight: shape (");
    mk_checkpoint_close(&c);
    CHECK_INT(mk_checkpoint_open(&c, &env, "/nowhere/model", 1), MINKE_EIO);
    CHECK_HAS(minke_last_error(), "/nowhere/model: no directory");
}

/* A vocabulary is lists or texts, also where nothing else can be read. */
TEST(a_vocabulary_needs_no_weights)
{
    struct mk_vocabulary v;
    struct mk_checkpoint c;

    CHECK_INT(mk_checkpoint_open(&c, &env, "tests/golden/tokenizer", 0), MINKE_OK);
    CHECK_INT(mk_checkpoint_vocabulary(&c, &v), MINKE_OK);
    CHECK(v.json.len > 1000 && v.tokens == NULL && v.bos == -1);
    mk_checkpoint_close(&c);
    CHECK_INT(mk_checkpoint_open(&c, &env, "tests/golden/v3", 0), MINKE_OK);
    CHECK_INT(mk_checkpoint_vocabulary(&c, &v), MINKE_OK);
    CHECK(v.json.data == NULL && c.n_tensors == 0);
    mk_checkpoint_close(&c);
}

TEST_MAIN(RUN(a_folder_and_a_gguf_file_hold_the_same_tensors);
          RUN(each_name_leads_to_its_row);
          RUN(a_tensor_that_is_missing_or_bent_is_named);
          RUN(a_vocabulary_needs_no_weights))
