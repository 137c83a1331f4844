#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* mkdtemp */
#endif
/* Loading: every field gets its tensor, whatever the type, the layout and the packing; what
 * is missing, bent, spoiled or superfluous is named. */
#include <time.h>
#include <unistd.h>

#include "model/weights.h"
#include "kernels/matmul.h"
#include "test.h"

#include "checkpoint.h"

static struct mk_env env;
static char folder[64];
static struct mk_pool *pool;
static struct mk_kernels kernels;
static struct mk_weights weights;

static void new_folder(void)
{
    char command[128];

    if (folder[0] != '\0') {
        snprintf(command, sizeof command, "rm -rf %s", folder);
        if (system(command) != 0)
            exit(1);
    }
    strcpy(folder, "/tmp/minke-weights-XXXXXX");
    if (mkdtemp(folder) == NULL)
        exit(1);
}

/* The folder's weights. */
static int32_t load_with(const struct mk_env *host, const struct mk_load_options *options)
{
    struct mk_checkpoint checkpoint;
    int32_t status = mk_checkpoint_open(&checkpoint, host, folder, 1);

    if (status < 0)
        return status;
    status = mk_weights_load(&weights, &checkpoint, options);
    mk_checkpoint_close(&checkpoint);
    return status;
}

static int32_t load(uint32_t flags, int packed)
{
    const struct mk_load_options options = {.flags = flags, .pool = pool,
                                            .kernels = packed ? &kernels : NULL};

    return load_with(&env, &options);
}

/* ---- Every field --------------------------------------------------------- */

static void check_matrix(struct ck *c, const struct mk_mat *m, const char *prefix,
                         const char *name)
{
    static float row[2 * CK_D + CK_L];
    char full[96];
    int bad = 0;

    snprintf(full, sizeof full, "%s%s", prefix, name);
    const struct ck_tensor *t = ck_find(c, full);

    CHECK(m->data != NULL && m->n_out == t->shape[0] && m->n_in == t->shape[1]);
    CHECK(m->type == t->type && (m->scale != NULL) == (t->type == MK_F8_E4M3));
    for (size_t r = 0; r < m->n_out; r++) {
        mk_mat_row(row, m, r);
        for (size_t k = 0; k < m->n_in; k++)
            bad += row[k] != ck_element(c, full, r, k);
    }
    if (bad > 0)
        CHECK_STR(full, "loaded");
}

static void check_vector(struct ck *c, const float *v, const char *prefix, const char *name)
{
    char full[96];

    snprintf(full, sizeof full, "%s%s", prefix, name);
    const struct ck_tensor *t = ck_find(c, full);

    CHECK(v != NULL);
    for (size_t i = 0; i < t->shape[0]; i++)
        CHECK(v[i] == ck_value(full, i));
}

static void check_mlp(struct ck *c, const struct mk_mlp_weights *m, const char *prefix,
                      const char *name)
{
    char full[96];

    snprintf(full, sizeof full, "%s%s", prefix, name);
    check_matrix(c, &m->gate_proj, full, "gate_proj.weight");
    check_matrix(c, &m->up_proj, full, "up_proj.weight");
    check_matrix(c, &m->down_proj, full, "down_proj.weight");
}

/* kv_b_proj in its three forms. */
static void check_heads(struct ck *c, const struct mk_attention_weights *a, const char *prefix)
{
    static float row[CK_L];
    char name[96];
    int bad = 0;

    snprintf(name, sizeof name, "%sself_attn.kv_b_proj.weight", prefix);
    for (size_t h = 0; h < CK_H; h++) {
        const size_t first = h * (CK_N + CK_V);

        CHECK(a->k_b[h].n_out == CK_L && a->k_b[h].n_in == CK_N);
        CHECK(a->v_b[h].n_out == CK_V && a->v_b[h].n_in == CK_L);
        CHECK(a->k_up[h].n_out == CK_N && a->k_up[h].n_in == CK_L);
        for (size_t l = 0; l < CK_L; l++) {
            mk_mat_row(row, &a->k_b[h], l);
            for (size_t n = 0; n < CK_N; n++)
                bad += row[n] != ck_element(c, name, first + n, l);
        }
        for (size_t n = 0; n < CK_N; n++) {
            mk_mat_row(row, &a->k_up[h], n);
            for (size_t l = 0; l < CK_L; l++)
                bad += row[l] != ck_element(c, name, first + n, l);
        }
        for (size_t v = 0; v < CK_V; v++) {
            mk_mat_row(row, &a->v_b[h], v);
            for (size_t l = 0; l < CK_L; l++)
                bad += row[l] != ck_element(c, name, first + CK_N + v, l);
        }
    }
    CHECK_INT(bad, 0);
}

static void check_layer(struct ck *c, const struct mk_layer_weights *w, int l, int is_moe)
{
    const struct mk_attention_weights *a = &w->self_attn;
    char p[64], name[64];

    snprintf(p, sizeof p, "model.layers.%d.", l);
    check_vector(c, w->input_layernorm, p, "input_layernorm.weight");
    check_vector(c, w->post_attention_layernorm, p, "post_attention_layernorm.weight");
    if (c->q_lora) {
        check_matrix(c, &a->q_a_proj, p, "self_attn.q_a_proj.weight");
        check_vector(c, a->q_a_layernorm, p, "self_attn.q_a_layernorm.weight");
        check_matrix(c, &a->q_b_proj, p, "self_attn.q_b_proj.weight");
    } else {
        check_matrix(c, &a->q_proj, p, "self_attn.q_proj.weight");
    }
    check_matrix(c, &a->kv_a_proj_with_mqa, p, "self_attn.kv_a_proj_with_mqa.weight");
    check_vector(c, a->kv_a_layernorm, p, "self_attn.kv_a_layernorm.weight");
    check_heads(c, a, p);
    check_matrix(c, &a->o_proj, p, "self_attn.o_proj.weight");
    CHECK((a->indexer.wq_b.data != NULL) == c->sparse);
    if (c->sparse) {
        check_matrix(c, &a->indexer.wq_b, p, "self_attn.indexer.wq_b.weight");
        check_matrix(c, &a->indexer.wk, p, "self_attn.indexer.wk.weight");
        check_vector(c, a->indexer.k_norm, p, "self_attn.indexer.k_norm.weight");
        check_vector(c, a->indexer.k_norm_bias, p, "self_attn.indexer.k_norm.bias");
        check_matrix(c, &a->indexer.weights_proj, p, "self_attn.indexer.weights_proj.weight");
    }
    if (!is_moe) {
        check_mlp(c, &w->mlp, p, "mlp.");
        CHECK(w->experts == NULL);
        return;
    }
    check_matrix(c, &w->gate, p, "mlp.gate.weight");
    CHECK((w->e_score_correction_bias != NULL) == c->sigmoid);
    if (c->sigmoid)
        check_vector(c, w->e_score_correction_bias, p, "mlp.gate.e_score_correction_bias");
    for (int e = 0; e < CK_EXPERTS; e++) {
        snprintf(name, sizeof name, "mlp.experts.%d.", e);
        check_mlp(c, &w->experts[e], p, name);
    }
    check_mlp(c, &w->shared_experts, p, "mlp.shared_experts.");
}

static void check_all(struct ck *c)
{
    char p[64];

    check_matrix(c, &weights.embed_tokens, "", "model.embed_tokens.weight");
    check_vector(c, weights.norm, "", "model.norm.weight");
    check_matrix(c, &weights.lm_head, "", "lm_head.weight");
    for (int l = 0; l < CK_LAYERS; l++)
        check_layer(c, &weights.layers[l], l, l > 0);
    CHECK((weights.mtp != NULL) == c->mtp);
    if (weights.mtp != NULL) {
        snprintf(p, sizeof p, "model.layers.%d.", CK_LAYERS);
        check_layer(c, &weights.mtp->layer, CK_LAYERS, 1);
        check_vector(c, weights.mtp->enorm, p, "enorm.weight");
        check_vector(c, weights.mtp->hnorm, p, "hnorm.weight");
        check_matrix(c, &weights.mtp->eh_proj, p, "eh_proj.weight");
        check_vector(c, weights.mtp->shared_head_norm, p, "shared_head.norm.weight");
    }
    CHECK_INT(weights.n_surplus, 0);
    CHECK(weights.main_type == c->type);
}

TEST(every_field_gets_its_tensor_in_every_type_and_layout)
{
    static const enum mk_type types[] = {MK_F32, MK_F16, MK_BF16, MK_F8_E4M3};

    for (int kind = 0; kind < 3; kind++)
        for (size_t t = 0; t < 4; t++) {
            struct ck *c = ck_new(types[t], kind > 0, kind > 1, kind > 0, kind > 1);

            new_folder();
            if (t % 2)
                ck_write_shards(c, folder);
            else
                ck_write(c, folder);
            for (uint32_t way = 0; way < 4; way++) {
                const uint32_t flags = MINKE_CONTEXT_VERIFY | MINKE_CONTEXT_STRICT
                                     | (way & 1 ? MINKE_CONTEXT_MMAP : 0);

                CHECK_INT(load(flags, way > 1), MINKE_OK);
                check_all(c);
                mk_weights_free(&weights, &env);
            }
            ck_free(c);
        }
}

TEST(mapped_tensors_at_odd_addresses_are_copied)
{
    struct ck *c = ck_new(MK_F32, 1, 0, 1, 0);

    for (size_t pad = 1; pad < 8; pad += 2) {
        new_folder();
        ck_write(c, folder);
        ck_write_file(c, folder, "model.safetensors", 0, c->n, pad);
        CHECK_INT(load(MINKE_CONTEXT_MMAP, 0), MINKE_OK);
        CHECK((uintptr_t)weights.layers[0].mlp.gate_proj.data % 4 == 0);
        check_all(c);
        mk_weights_free(&weights, &env);
    }
    ck_free(c);
}

TEST(tied_embeddings_serve_as_head)
{
    struct ck *c = ck_new(MK_BF16, 0, 0, 0, 0);
    char *end = strrchr(c->config, '}');

    strcpy(end, ", \"tie_word_embeddings\": true}");
    ck_remove(c, "lm_head.weight");
    new_folder();
    ck_write(c, folder);
    CHECK_INT(load(0, 1), MINKE_OK);
    check_matrix(c, &weights.lm_head, "", "model.embed_tokens.weight");
    CHECK(weights.lm_head.data == weights.embed_tokens.data);
    mk_weights_free(&weights, &env);
    ck_free(c);
}

TEST(parameters_and_bytes_are_counted)
{
    struct ck *c = ck_new(MK_BF16, 1, 0, 1, 0);
    const uint64_t expert = 3 * CK_INNER * CK_D;
    uint64_t n = 0, bytes = 0;

    for (size_t i = 0; i < c->n; i++)
        n += c->t[i].shape[0] * (c->t[i].n_dims == 2 ? c->t[i].shape[1] : 1);
    new_folder();
    ck_write(c, folder);
    CHECK_INT(load(0, 0), MINKE_OK);
    CHECK_INT(weights.n_params, n);
    CHECK_INT(weights.n_params_active, n - 2 * expert - CK_VOCAB * CK_D);
    for (int p = 0; p < MK_N_PARTS; p++)
        bytes += weights.part_bytes[p];
    CHECK_INT(weights.bytes, bytes);
    CHECK(weights.part_bytes[MK_PART_EMBED] + weights.part_bytes[MK_PART_HEAD]
          >= 2 * 2 * CK_VOCAB * CK_D);
    CHECK(weights.part_bytes[MK_PART_GATE_UP] + weights.part_bytes[MK_PART_DOWN]
          >= CK_EXPERTS * expert * 2);
    mk_weights_free(&weights, &env);
    ck_free(c);
}

/* ---- What is wrong is named ---------------------------------------------- */

static void check_refused(struct ck *c, uint32_t flags, int32_t status, const char *message)
{
    new_folder();
    ck_write(c, folder);
    for (int packed = 0; packed < 2; packed++) {
        CHECK_INT(load(flags, packed), status);
        CHECK_HAS(minke_last_error(), message);
    }
    ck_free(c);
}

TEST(each_missing_tensor_is_named)
{
    struct ck *all = ck_new(MK_F8_E4M3, 1, 1, 1, 1);

    for (size_t i = 0; i < all->n; i++) {
        struct ck *c = ck_new(MK_F8_E4M3, 1, 1, 1, 1);
        char name[96], message[128];

        snprintf(name, sizeof name, "%s", all->t[i].name);
        if (strstr(name, "layers.2.embed_tokens") != NULL || strstr(name, "head.head") != NULL) {
            ck_free(c);
            continue;    /* copies, which nobody reads */
        }
        ck_remove(c, name);
        snprintf(message, sizeof message, "tensor %s: missing", name);
        new_folder();
        ck_write(c, folder);
        CHECK_INT(load(0, 0), MINKE_EFORMAT);
        CHECK_STR(minke_last_error(), message);
        ck_free(c);
    }
    ck_free(all);
}

TEST(a_bent_shape_is_named_with_both_shapes)
{
    struct ck *c = ck_new(MK_BF16, 1, 0, 1, 0);
    struct ck_tensor *t = ck_find(c, "model.layers.1.mlp.gate.weight");

    t->shape[0] = CK_D;
    t->shape[1] = CK_EXPERTS;
    check_refused(c, 0, MINKE_EFORMAT,
                  "tensor model.layers.1.mlp.gate.weight: shape (4, 160) expected, (160, 4) found");
    c = ck_new(MK_BF16, 1, 0, 1, 0);
    t = ck_find(c, "model.norm.weight");
    t->n_dims = 2;
    t->shape[1] = 1;
    check_refused(c, 0, MINKE_EFORMAT,
                  "tensor model.norm.weight: shape (160,) expected, (160, 1) found");
    c = ck_new(MK_F8_E4M3, 1, 0, 1, 0);
    t = ck_find(c, "model.layers.0.mlp.up_proj.weight_scale_inv");
    t->shape[0] = 1;
    t->shape[1] = 4;
    check_refused(c, 0, MINKE_EFORMAT, "weight_scale_inv: shape (2, 2) expected, (1, 4) found");
}

TEST(surplus_tensors_are_listed_or_refused)
{
    struct ck *c = ck_new(MK_BF16, 1, 0, 1, 0);

    ck_plain(c, "", "model.layers.0.self_attn.rotary_emb.inv_freq", MK_F32, 4, 0);
    ck_plain(c, "", "extra.weight", MK_BF16, 3, 5);
    new_folder();
    ck_write(c, folder);
    CHECK_INT(load(0, 1), MINKE_OK);
    CHECK_INT(weights.n_surplus, 2);
    CHECK_STR(weights.surplus[0], "extra.weight");
    CHECK_STR(weights.surplus[1], "model.layers.0.self_attn.rotary_emb.inv_freq");
    mk_weights_free(&weights, &env);
    check_refused(c, MINKE_CONTEXT_STRICT, MINKE_EFORMAT, "tensor extra.weight");
}

static void spoil(struct ck *c, const char *name, size_t i, uint32_t bits)
{
    struct ck_tensor *t = ck_find(c, name);

    memcpy(t->data + i * ck_width(t->type), &bits, ck_width(t->type));
}

TEST(nan_and_infinity_are_found_by_the_verify_flag)
{
    static const struct {
        enum mk_type type;
        const char *name;
        size_t i;
        uint32_t bits;
    } cases[] = {
        {MK_BF16, "model.layers.1.mlp.experts.3.down_proj.weight", 77, 0x7FC0},
        {MK_BF16, "model.layers.0.self_attn.kv_b_proj.weight", CK_L - 1, 0xFF80},
        {MK_F16, "model.layers.0.self_attn.o_proj.weight", 0, 0x7C00},
        {MK_F32, "model.layers.1.self_attn.q_a_proj.weight", CK_Q * CK_D - 1, 0xFFC00001},
        {MK_F8_E4M3, "model.layers.0.mlp.gate_proj.weight", 4000, 0xFF},
        {MK_F8_E4M3, "model.layers.0.mlp.gate_proj.weight_scale_inv", 3, 0x7F800000},
        {MK_BF16, "model.layers.0.input_layernorm.weight", CK_D - 1, 0x7F80},
        {MK_BF16, "lm_head.weight", 5, 0x7FFF},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ck *c = ck_new(cases[i].type, 1, 0, 1, 0);

        spoil(c, cases[i].name, cases[i].i, cases[i].bits);
        new_folder();
        ck_write(c, folder);
        CHECK_INT(load(0, 1), MINKE_OK);
        mk_weights_free(&weights, &env);
        CHECK_INT(load(MINKE_CONTEXT_VERIFY | MINKE_CONTEXT_MMAP, 0), MINKE_EFORMAT);
        check_refused(c, MINKE_CONTEXT_VERIFY, MINKE_EFORMAT, cases[i].name);
        CHECK_HAS(minke_last_error(), "NaN or infinity");
    }
}

TEST(types_that_weights_cannot_have_are_named)
{
    struct ck *c = ck_new(MK_BF16, 1, 0, 1, 0);
    char path[256], text[64] = "";
    FILE *f;

    new_folder();
    ck_write(c, folder);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    f = fopen(path, "r+b");
    fseek(f, 8, SEEK_SET);
    CHECK(fread(text, 1, 60, f) == 60);
    const char *at = strstr(text, "BF16");

    CHECK(at != NULL);
    fseek(f, 8 + (at - text), SEEK_SET);
    fwrite("I16\"", 1, 4, f);    /* the quote behind becomes a stray one */
    fclose(f);
    CHECK_INT(load(0, 0), MINKE_EFORMAT);
    ck_free(c);
    c = ck_new(MK_BF16, 1, 0, 1, 0);
    ck_find(c, "model.norm.weight")->type = MK_F8_E4M3;
    ck_find(c, "model.norm.weight")->size = CK_D;
    check_refused(c, 0, MINKE_EUNSUPPORTED, "tensor model.norm.weight: type F8_E4M3");
}

/* ---- Shards -------------------------------------------------------------- */

static void write_index(const char *json)
{
    ck_write_text(folder, "model.safetensors.index.json", json, strlen(json));
}

static void check_index(const char *json, int32_t status, const char *message)
{
    write_index(json);
    CHECK_INT(load(0, 0), status);
    CHECK_HAS(minke_last_error(), message);
}

TEST(an_index_names_files_beside_it_and_nothing_else)
{
    static const char *const names[] = {"../model-1.safetensors", "/etc/passwd", "..", ".", "",
                                        "a/b", "a\\\\b", "c:x", "x\\u0000y"};
    struct ck *c = ck_new(MK_BF16, 1, 0, 1, 0);
    char json[256];

    new_folder();
    ck_write_shards(c, folder);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(json, sizeof json, "{\"weight_map\": {\"t\": \"%s\"}}", names[i]);
        check_index(json, MINKE_EFORMAT, "is no name of a file beside it");
    }
    check_index("{\"weight_map\": {\"t\": 5}}", MINKE_EFORMAT, "tensor t");
    check_index("{}", MINKE_EFORMAT, "weight_map is missing");
    check_index("[]", MINKE_EFORMAT, "weight_map is missing");
    check_index("{", MINKE_EFORMAT, "model.safetensors.index.json: byte 1");
    check_index("{\"weight_map\": {\"t\": \"gone.safetensors\"}}", MINKE_EIO,
                "gone.safetensors");
    check_index("{\"weight_map\": {\"t\": \"model-1.safetensors\"}}", MINKE_EFORMAT,
                "tensor t: the index puts it into model-1.safetensors");
    check_index("{\"weight_map\": {\"model.norm.weight\": \"model-1.safetensors\"}}",
                MINKE_EFORMAT, "missing");
    ck_free(c);
}

/* Seconds to find out that an index of n tensors in so many files is none of ours. */
static double index_seconds(size_t n, size_t n_files, int32_t status)
{
    char *json = malloc(40 * n + 32);
    size_t len = (size_t)sprintf(json, "{\"weight_map\": {");
    clock_t begin;

    for (size_t i = 0; i < n; i++)
        len += (size_t)sprintf(json + len, "%s\"%zu\": \"file-%zu\"", i > 0 ? ", " : "", i,
                               i % n_files);
    memcpy(json + len, "}}", 3);
    write_index(json);
    free(json);
    begin = clock();
    CHECK_INT(load(0, 0), status);
    return (double)(clock() - begin) / CLOCKS_PER_SEC;
}

TEST(an_index_of_many_files_takes_no_longer_than_of_few)
{
    const size_t n = 100000;
    struct ck *c = ck_new(MK_BF16, 1, 0, 1, 0);

    new_folder();
    ck_write_text(folder, "config.json", c->config, strlen(c->config));
    const double few = index_seconds(n, 1, MINKE_EIO);
    const double many = index_seconds(n, 4096, MINKE_EIO);
    CHECK(many <= 8 * few + 0.1);
    index_seconds(5000, 4097, MINKE_EFORMAT);
    CHECK_HAS(minke_last_error(), "more than 4096 files");
    ck_free(c);
}

TEST(a_tensor_in_two_shards_is_refused)
{
    struct ck *c = ck_new(MK_BF16, 1, 0, 1, 0);

    new_folder();
    ck_write_shards(c, folder);
    ck_write_file(c, folder, "model-2.safetensors", c->n / 2 - 1, c->n, 0);
    CHECK_INT(load(0, 0), MINKE_EFORMAT);
    CHECK_HAS(minke_last_error(), "again in");
    ck_free(c);
}

TEST(an_empty_folder_has_no_weights)
{
    struct ck *c = ck_new(MK_BF16, 1, 0, 1, 0);

    new_folder();
    ck_write_text(folder, "config.json", c->config, strlen(c->config));
    CHECK_INT(load(0, 0), MINKE_EIO);
    CHECK_HAS(minke_last_error(), folder);
    CHECK_HAS(minke_last_error(), "neither model.safetensors nor this index is there");
    ck_free(c);
}

/* ---- Progress and memory ------------------------------------------------- */

struct watch {
    uint64_t last, total;
    int calls, stop_at;
};

static int32_t watch(void *user, uint64_t done, uint64_t total)
{
    struct watch *w = user;

    CHECK(done >= w->last && done <= total);
    w->last = done;
    w->total = total;
    return ++w->calls == w->stop_at;
}

TEST(progress_reaches_the_end_and_can_stop)
{
    struct ck *c = ck_new(MK_BF16, 1, 0, 1, 0);
    struct watch w = {0};
    struct mk_load_options options = {.pool = pool, .progress = watch, .progress_user = &w};

    new_folder();
    ck_write(c, folder);
    CHECK_INT(load_with(&env, &options), MINKE_OK);
    mk_weights_free(&weights, &env);
    CHECK(w.calls > 2 && w.last == w.total && w.total > 100000);
    const int calls = w.calls;

    for (int stop = 1; stop <= calls; stop += 3) {
        w = (struct watch){.stop_at = stop};
        CHECK_INT(load_with(&env, &options), MINKE_ECANCELED);
        CHECK_INT(w.calls, stop);
    }
    ck_free(c);
}

struct counts {
    size_t held, calls, fail_at;
};

static void *count_alloc(void *user, size_t size, size_t align)
{
    struct counts *c = user;
    void *p = NULL;

    if (c->calls++ == c->fail_at || posix_memalign(&p, align, size) != 0)
        return NULL;
    c->held += size;
    return p;
}

static void count_free(void *user, void *p, size_t size)
{
    struct counts *c = user;

    c->held -= size;
    free(p);
}

TEST(each_failing_allocation_is_told_and_leaks_nothing)
{
    struct ck *c = ck_new(MK_F8_E4M3, 1, 1, 1, 1);
    int32_t status = MINKE_ENOMEM;
    struct counts counts = {0};
    struct mk_env host = {.alloc = {count_alloc, count_free, &counts}};

    ck_plain(c, "", "extra.weight", MK_BF16, 3, 5);
    new_folder();
    ck_write_shards(c, folder);
    for (size_t n = 0; status != MINKE_OK && n < 5000; n++) {
        const struct mk_load_options options = {
            .kernels = &kernels, .flags = n % 2 ? MINKE_CONTEXT_MMAP : 0};

        counts.calls = 0;
        counts.fail_at = n;
        status = load_with(&host, &options);
        CHECK(status == MINKE_OK || status == MINKE_ENOMEM);
        CHECK(status == MINKE_OK || counts.held == 0);
    }
    CHECK_INT(status, MINKE_OK);
    mk_weights_free(&weights, &host);
    CHECK_INT(counts.held, 0);
    ck_free(c);
}

static void begin(void)
{
    if (mk_pool_open(&pool, &env.alloc, 2, NULL, NULL) != MINKE_OK)
        exit(1);
    mk_kernels_init(&kernels, 0);
}

static void end(void)
{
    char command[128];

    mk_pool_free(pool);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command) != 0)
        exit(1);
}

TEST_MAIN(begin(), RUN(every_field_gets_its_tensor_in_every_type_and_layout),
          RUN(mapped_tensors_at_odd_addresses_are_copied), RUN(tied_embeddings_serve_as_head),
          RUN(parameters_and_bytes_are_counted), RUN(each_missing_tensor_is_named),
          RUN(a_bent_shape_is_named_with_both_shapes),
          RUN(surplus_tensors_are_listed_or_refused),
          RUN(nan_and_infinity_are_found_by_the_verify_flag),
          RUN(types_that_weights_cannot_have_are_named),
          RUN(an_index_names_files_beside_it_and_nothing_else),
          RUN(an_index_of_many_files_takes_no_longer_than_of_few),
          RUN(a_tensor_in_two_shards_is_refused), RUN(an_empty_folder_has_no_weights),
          RUN(progress_reaches_the_end_and_can_stop),
          RUN(each_failing_allocation_is_told_and_leaks_nothing), end())
