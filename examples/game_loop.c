/* A game: sixty frames a second on one thread, and a character who talks in what is left of them.
 *
 * Each frame gives the character a few milliseconds to think.  minke_generator_step works for so
 * long and returns, in the midst of a token if need be: between two layers.  The player may walk
 * away in mid-sentence.  usage: game_loop MODEL [LINE] */
#define _POSIX_C_SOURCE 200809L /* nanosleep */
#include <minke.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FRAMES 240        /* four seconds of play */
#define FRAME_NS 16666667
#define BUDGET_US 8000    /* of a frame, for the character */
#define WALKS_AWAY 180    /* the frame in which the player loses interest */
#define MAX_PROMPT 512
#define MAX_REPLY 200

/* A character: its mind, its voice, and what it is saying. */
struct character {
    minke_context *model;
    minke_session *mind;
    minke_sampler *voice;
    minke_generator *speech;
};

/* What the character says goes to the screen as it comes. */
static int32_t on_event(void *user, int32_t event, uint32_t call, const char *text, size_t n)
{
    (void)user;
    (void)call;
    if (event == MINKE_REPLY_EVENT_CONTENT)
        fwrite(text, 1, n, stdout);
    return 0;
}

/* The player speaks: nothing is computed yet. */
static int32_t hear(struct character *c, const char *line)
{
    int32_t prompt[MAX_PROMPT];
    size_t n = 0;
    minke_generate_params params;
    minke_generate_params_init(&params, sizeof params);
    params.flags = MINKE_GENERATE_PLAIN;   /* text that goes on, not a chat */
    params.max_tokens = MAX_REPLY;
    params.on_event = on_event;
    const int32_t status = minke_tokenize(c->model, line, strlen(line), MINKE_TOKENIZE_BOS,
                                          prompt, MAX_PROMPT, &n);
    return status < 0 ? status
                      : minke_generator_open(&c->speech, c->mind, c->voice, prompt, n, &params);
}

/* The rest of a frame: here, the game would draw. */
static void draw(void)
{
    const struct timespec rest = {0, FRAME_NS - BUDGET_US * 1000L};
    fflush(stdout);
    nanosleep(&rest, NULL);
}

static int32_t play(struct character *c)
{
    int32_t reason = 0, status = 0;
    uint64_t over = 0, most = 0;
    int i;
    for (i = 0; i < FRAMES && reason == 0 && status >= 0; i++) {
        if (i == WALKS_AWAY)
            minke_session_cancel(c->mind);
        status = minke_generator_step(c->speech, BUDGET_US, &reason, &over);
        most = over > most ? over : most;
        draw();
    }
    printf("\n(%d frames, at most %.1f ms late)\n", i, (double)most / 1000);
    minke_generator_free(c->speech);   /* what it was about to say is dropped */
    return status;
}

int main(int argc, char **argv)
{
    struct character c = {NULL, NULL, NULL, NULL};
    minke_session_params session;
    minke_sampler_params voice;
    minke_session_params_init(&session, sizeof session);
    session.max_tokens = MAX_PROMPT + MAX_REPLY;
    minke_sampler_params_init(&voice, sizeof voice);
    voice.temperature = 0.8f;
    voice.top_p = 0.95f;
    if (argc < 2 || minke_context_open(&c.model, argv[1], NULL) < 0 ||
        minke_session_open(&c.mind, c.model, &session) < 0 ||
        minke_sampler_open(&c.voice, &voice) < 0 ||
        hear(&c, argc > 2 ? argv[2] : "Who goes there?") < 0) {
        fprintf(stderr, "usage: game_loop MODEL [LINE]\n%s\n", minke_last_error());
        return 1;
    }
    const int32_t status = play(&c);
    if (status < 0)
        fprintf(stderr, "%s\n", minke_last_error());
    minke_sampler_free(c.voice);
    minke_session_free(c.mind);
    minke_context_free(c.model);
    return status < 0;
}
