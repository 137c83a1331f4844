/* A game: sixty frames a second on one thread, a character who talks on another.
 *
 * The frame never waits for the model.  It takes what text is there, draws it, and may stop
 * the character in mid-sentence: minke_session_cancel is the one session call that another
 * thread may make.  usage: game_loop MODEL [LINE] */
#define _POSIX_C_SOURCE 200809L /* nanosleep */
#include <minke.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FRAMES 240        /* four seconds of play */
#define FRAME_NS 16666667
#define WALKS_AWAY 180    /* the frame in which the player loses interest */
#define MAX_PROMPT 512
#define MAX_REPLY 200

/* A character: its mind, and the text between the two threads. */
struct character {
    minke_context *model;
    minke_session *mind;
    minke_sampler *voice;
    pthread_mutex_t lock;
    char said[4096];      /* by the talking thread, guarded by lock */
    size_t n_said;
    int done, failed;     /* guarded by lock */
    const char *line;     /* what the player said */
};

static void say(struct character *c, const char *text, size_t n)
{
    pthread_mutex_lock(&c->lock);
    if (n <= sizeof c->said - c->n_said) {
        memcpy(c->said + c->n_said, text, n);
        c->n_said += n;
    }
    pthread_mutex_unlock(&c->lock);
}

/* One reply, token by token, until it ends or somebody cancels. */
static int32_t reply(struct character *c)
{
    int32_t prompt[MAX_PROMPT];
    size_t n = 0;
    int64_t eos = -1;
    minke_context_info(c->model, MINKE_INFO_TOKEN_EOS, &eos);
    int32_t status = minke_tokenize(c->model, c->line, strlen(c->line), MINKE_TOKENIZE_BOS,
                                    prompt, MAX_PROMPT, &n);
    if (status >= 0)
        status = minke_session_eval(c->mind, prompt, n);
    for (int i = 0; status >= 0 && i < MAX_REPLY; i++) {
        const float *logits = NULL;
        const char *text = NULL;
        int32_t token = -1;
        if ((status = minke_session_logits(c->mind, &logits, &n)) < 0 ||
            (status = minke_sampler_sample(c->voice, logits, n, &token)) < 0 || token == eos)
            break;
        if ((status = minke_token_bytes(c->model, token, &text, &n)) >= 0) {
            say(c, text, n);
            status = minke_session_eval(c->mind, &token, 1);
        }
    }
    return status;
}

static void *talk(void *arg)
{
    struct character *c = arg;
    const int32_t status = reply(c);
    if (status < 0 && status != MINKE_ECANCELED)
        fprintf(stderr, "%s\n", minke_last_error());   /* messages belong to their thread */
    pthread_mutex_lock(&c->lock);
    c->failed = status < 0 && status != MINKE_ECANCELED;
    c->done = 1;
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* What a frame does: draw what is new.  Returns whether the character has finished. */
static int frame(struct character *c, size_t *drawn)
{
    pthread_mutex_lock(&c->lock);
    fwrite(c->said + *drawn, 1, c->n_said - *drawn, stdout);
    *drawn = c->n_said;
    const int done = c->done;
    pthread_mutex_unlock(&c->lock);
    fflush(stdout);
    return done;
}

static void play(struct character *c)
{
    const struct timespec pause = {0, FRAME_NS};
    size_t drawn = 0;
    pthread_t thread;
    if (pthread_create(&thread, NULL, talk, c) != 0)
        return;
    for (int i = 0; i < FRAMES && !frame(c, &drawn); i++) {
        if (i == WALKS_AWAY)
            minke_session_cancel(c->mind);
        nanosleep(&pause, NULL);
    }
    minke_session_cancel(c->mind);
    pthread_join(thread, NULL);
    frame(c, &drawn);
    putchar('\n');
}

int main(int argc, char **argv)
{
    struct character c = {.line = argc > 2 ? argv[2] : "Who goes there?"};
    minke_session_params session;
    minke_sampler_params voice;
    minke_session_params_init(&session, sizeof session);
    session.max_tokens = MAX_PROMPT + MAX_REPLY;
    session.prefill_chunk = 32;   /* small steps: a cancel is noticed sooner */
    minke_sampler_params_init(&voice, sizeof voice);
    voice.temperature = 0.8f;
    voice.top_p = 0.95f;
    if (argc < 2 || minke_context_open(&c.model, argv[1], NULL) < 0 ||
        minke_session_open(&c.mind, c.model, &session) < 0 ||
        minke_sampler_open(&c.voice, &voice) < 0) {
        fprintf(stderr, "usage: game_loop MODEL [LINE]\n%s\n", minke_last_error());
        return 1;
    }
    pthread_mutex_init(&c.lock, NULL);
    play(&c);
    pthread_mutex_destroy(&c.lock);
    minke_sampler_free(c.voice);
    minke_session_free(c.mind);
    minke_context_free(c.model);
    return c.failed;
}
