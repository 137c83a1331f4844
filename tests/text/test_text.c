/* The public text functions, on a context opened for its tokenizer alone. */
#include "text_data.h"

static minke_context *ctx;

static void open_small(void)
{
    minke_context_params params;

    minke_context_params_init(&params, sizeof(params));
    params.flags = MINKE_CONTEXT_TOKENIZER_ONLY;
    CHECK_INT(minke_context_open(&ctx, TEXT_SMALL, &params), MINKE_OK);
}

TEST(text_comes_back_from_its_tokens)
{
    const char *text = "The whale, \345\260\217\351\262\270\351\261\274, is 12 m \360\237\220\213.";
    int32_t ids[128];
    char back[256];
    size_t n = 0, len = 0, used = 0;

    CHECK_INT(minke_tokenize(ctx, text, strlen(text), 0, NULL, 0, &n), MINKE_ENOSPC);
    CHECK(n > 4 && n < 128);
    CHECK_INT(minke_tokenize(ctx, text, strlen(text), 0, ids, n, &n), MINKE_OK);
    CHECK_INT(minke_detokenize(ctx, ids, n, 0, NULL, 0, &len, NULL), MINKE_ENOSPC);
    CHECK_INT(len, strlen(text));
    CHECK_INT(minke_detokenize(ctx, ids, n, 0, back, sizeof(back), &len, &used), MINKE_OK);
    CHECK(len == strlen(text) && memcmp(back, text, len) == 0);
    CHECK_INT(used, n);
}

TEST(begin_and_special_tokens_are_choices)
{
    const char *text = "<think>he";
    int32_t ids[32] = {-5};
    size_t n = 0;

    CHECK_INT(minke_tokenize(ctx, text, 9, MINKE_TOKENIZE_SPECIAL | MINKE_TOKENIZE_BOS, ids, 32,
                             &n), MINKE_OK);
    CHECK(n == 3 && ids[0] == 0 && ids[1] == 509 && ids[2] == 259);
    CHECK_INT(minke_tokenize(ctx, text, 9, 0, ids, 32, &n), MINKE_OK);
    CHECK(n > 3 && ids[0] != 509);
    CHECK_INT(minke_tokenize(ctx, "", 0, MINKE_TOKENIZE_BOS, ids, 1, &n), MINKE_OK);
    CHECK(n == 1 && ids[0] == 0);
    ids[0] = -5;
    CHECK_INT(minke_tokenize(ctx, text, 9, MINKE_TOKENIZE_BOS, ids, 1, &n), MINKE_ENOSPC);
    CHECK(n > 4 && ids[0] == -5);
    CHECK_INT(minke_tokenize(ctx, text, 9, 1u << 30, ids, 32, &n), MINKE_EVERSION);
}

TEST(special_tokens_can_be_left_out)
{
    const int32_t ids[] = {0, 259, 509, 511, 1, 507};
    char text[256];
    size_t len = 0;
    const char *kept = "he<think><\357\275\234User\357\275\234>";

    CHECK_INT(minke_detokenize(ctx, ids, 6, MINKE_DETOKENIZE_SKIP_SPECIAL, text, sizeof(text),
                               &len, NULL), MINKE_OK);
    CHECK(len == strlen(kept) && memcmp(text, kept, len) == 0);
}

/* Bytes one by one, each a token. */
static size_t bytes_as_ids(const char *text, int32_t *ids)
{
    size_t n = 0;

    for (; text[n] != '\0'; n++)
        ids[n] = 3 + (unsigned char)text[n];
    return n;
}

TEST(a_stream_never_splits_a_code_point)
{
    const char *text = "a\303\251\344\275\240\360\237\220\213z\377\344\275z";
    const char *lossy = "a\303\251\344\275\240\360\237\220\213z\357\277\275\357\277\275z";
    int32_t ids[64], held[64];
    char out[256];
    size_t n = bytes_as_ids(text, ids), n_held = 0, at = 0;

    for (size_t i = 0; i < n; i++) {
        size_t len = 0, used = 99;

        held[n_held++] = ids[i];
        CHECK_INT(minke_detokenize(ctx, held, n_held, MINKE_DETOKENIZE_PARTIAL, out + at,
                                   sizeof(out) - at, &len, &used), MINKE_OK);
        CHECK(used <= n_held && (len > 0) == (used > 0));
        at += len;
        n_held -= used;
        memmove(held, held + used, n_held * sizeof(*held));
        CHECK(n_held <= 3);
    }
    CHECK(at == strlen(lossy) && memcmp(out, lossy, at) == 0);
}

TEST(an_unfinished_code_point_waits_or_is_replaced)
{
    int32_t ids[8];
    char out[16] = {'?', '?', '?', '?'};
    size_t n = bytes_as_ids("x\344\275", ids), len = 0, used = 0;

    CHECK_INT(minke_detokenize(ctx, ids, n, MINKE_DETOKENIZE_PARTIAL, out, 16, &len, &used),
              MINKE_OK);
    CHECK(len == 1 && used == 1 && out[0] == 'x');
    CHECK_INT(minke_detokenize(ctx, ids, n, 0, out, 16, &len, &used), MINKE_OK);
    CHECK(len == 4 && used == 3 && memcmp(out, "x\357\277\275", 4) == 0);
}

TEST(tokens_are_found_and_spelt)
{
    const char *bytes = NULL;
    size_t len = 0;
    int32_t id = -7;

    CHECK_INT(minke_token_find(ctx, " the", 4, &id), MINKE_OK);
    CHECK(id > 258);
    CHECK_INT(minke_token_bytes(ctx, id, &bytes, &len), MINKE_OK);
    CHECK(len == 4 && memcmp(bytes, " the", 4) == 0);
    CHECK_INT(minke_token_find(ctx, "there is no such token", 22, &id), MINKE_OK);
    CHECK_INT(id, -1);
}

TEST(ids_outside_the_vocabulary_are_refused)
{
    const int32_t ids[] = {5, 512}, negative = -1;
    const char *bytes = NULL;
    char out[16];
    size_t len = 77;

    CHECK_INT(minke_detokenize(ctx, ids, 2, 0, out, 16, &len, NULL), MINKE_EINVAL);
    CHECK_HAS(minke_last_error(), "512");
    CHECK_INT(minke_detokenize(ctx, &negative, 1, 0, out, 16, &len, NULL), MINKE_EINVAL);
    CHECK_INT(minke_token_bytes(ctx, 512, &bytes, &len), MINKE_EINVAL);
    CHECK_INT(minke_token_bytes(ctx, -1, &bytes, &len), MINKE_EINVAL);
    CHECK(len == 77 && bytes == NULL);
}

TEST(missing_arguments_are_refused)
{
    int32_t id = 3;
    size_t n = 0;
    char c;

    CHECK_INT(minke_tokenize(NULL, "a", 1, 0, &id, 1, &n), MINKE_EINVAL);
    CHECK_INT(minke_tokenize(ctx, NULL, 1, 0, &id, 1, &n), MINKE_EINVAL);
    CHECK_INT(minke_tokenize(ctx, "a", 1, 0, NULL, 1, &n), MINKE_EINVAL);
    CHECK_INT(minke_tokenize(ctx, "a", 1, 0, &id, 1, NULL), MINKE_EINVAL);
    CHECK_INT(minke_detokenize(ctx, NULL, 1, 0, &c, 1, &n, NULL), MINKE_EINVAL);
    CHECK_INT(minke_detokenize(ctx, &id, 1, 0, NULL, 1, &n, NULL), MINKE_EINVAL);
    CHECK_INT(minke_detokenize(ctx, &id, 1, 0, &c, 1, NULL, NULL), MINKE_EINVAL);
    CHECK_INT(minke_token_find(ctx, "a", 1, NULL), MINKE_EINVAL);
    CHECK_INT(minke_token_bytes(ctx, 3, NULL, &n), MINKE_EINVAL);
}

TEST_MAIN(
    open_small();
    RUN(text_comes_back_from_its_tokens);
    RUN(begin_and_special_tokens_are_choices);
    RUN(special_tokens_can_be_left_out);
    RUN(a_stream_never_splits_a_code_point);
    RUN(an_unfinished_code_point_waits_or_is_replaced);
    RUN(tokens_are_found_and_spelt);
    RUN(ids_outside_the_vocabulary_are_refused);
    RUN(missing_arguments_are_refused);
    minke_context_free(ctx))
