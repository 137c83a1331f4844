/* The least that generates: cc generate.c $(pkg-config --cflags --libs minke) */
#include <minke.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    minke_context *model = NULL;
    minke_session *session = NULL;
    minke_sampler *greedy = NULL;
    minke_session_params params;
    int32_t ids[1024], token;
    const float *logits;
    const char *text;
    int64_t end = -1;
    size_t n;

    minke_session_params_init(&params, sizeof params);
    params.max_tokens = 2048;
    if (argc != 3 || minke_context_open(&model, argv[1], NULL) < 0 ||
        minke_tokenize(model, argv[2], strlen(argv[2]), MINKE_TOKENIZE_BOS, ids, 1024, &n) < 0 ||
        minke_session_open(&session, model, &params) < 0 ||
        minke_session_eval(session, ids, n) < 0 || minke_sampler_open(&greedy, NULL) < 0) {
        fprintf(stderr, "usage: generate MODEL PROMPT\n%s\n", minke_last_error());
        return 1;
    }
    minke_context_info(model, MINKE_INFO_TOKEN_EOS, &end);
    for (int i = 0; i < 64 && minke_session_logits(session, &logits, &n) == MINKE_OK; i++) {
        minke_sampler_sample(greedy, logits, n, &token);
        if (token == end)
            break;
        minke_token_bytes(model, token, &text, &n);
        fwrite(text, 1, n, stdout);
        minke_session_eval(session, &token, 1);
    }
    minke_sampler_free(greedy);
    minke_session_free(session);
    minke_context_free(model);
    return 0;
}
