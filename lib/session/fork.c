/* Two sessions of one. */
#include "session/session.h"

#include <string.h>

/* Whether a fork of s with the params of child could go on as s would. */
static int32_t fork_check(const struct minke_session *s, const struct minke_session *child)
{
    const minke_session_params *a = &s->params, *b = &child->params;

    if (a->attention != b->attention || a->window != b->window)
        return mk_fail(MINKE_EINVAL, "attention %u, window %u; %u and %u expected, as forked",
                       b->attention, b->window, a->attention, a->window);
    if (s->kv_format.cache_type != child->kv_format.cache_type
        || s->kv_format.index_type != child->kv_format.index_type)
        return mk_fail(MINKE_EINVAL, "cache_type %u, index_type %u; %u and %u expected, as forked",
                       b->cache_type, b->index_type, a->cache_type, a->index_type);
    if (s->n_layers != child->n_layers)
        return mk_fail(MINKE_EINVAL, "MINKE_SESSION_MTP: set in one session and not in the other");
    if (s->length > b->max_tokens)
        return mk_fail(MINKE_EFULL, "%zu tokens held do not fit %u", s->length, b->max_tokens);
    return MINKE_OK;
}

struct fork_job {
    struct minke_session *child;
    const struct minke_session *s;
};

/* Caches of the layers [begin, end). */
static void fork_layers(void *arg, size_t begin, size_t end, uint32_t worker)
{
    const struct fork_job *j = arg;
    const struct minke_session *s = j->s;

    (void)worker;
    for (size_t l = begin; l < end; l++)
        for (int p = 0; p < MK_KV_N_PLANES; p++)
            if (s->kv_format.row_bytes[p] > 0)
                memcpy(j->child->seq.kv[l].plane[p], s->seq.kv[l].plane[p],
                       s->length * s->kv_format.row_bytes[p]);
}

static void fork_copy(struct minke_session *child, const struct minke_session *s)
{
    const struct mk_config *c = &s->model->config;
    struct fork_job job = {child, s};
    struct mk_team team;

    memcpy(child->tokens, s->tokens, s->length * sizeof(*s->tokens));
    mk_team_begin(&team, s->model->pool);
    mk_team_run(&team, fork_layers, &job, s->n_layers, 1);
    mk_team_end(&team);
    if (s->has_logits)
        memcpy(child->logits, s->logits, c->vocab_size * sizeof(float));
    child->length = s->length;
    child->has_logits = s->has_logits;
    if (child->hidden != NULL && mk_session_hidden(s) != NULL)
        memcpy(mk_session_put_hidden(child), mk_session_hidden(s),
               c->hidden_size * sizeof(float));
}

int32_t minke_session_fork(minke_session **out, const minke_session *s,
                           const minke_session_params *params)
{
    minke_session_params same;
    minke_session *child = NULL;
    int32_t rc = mk_session_check(s);

    if (rc < 0)
        return rc;
    if (out == NULL)
        return mk_fail(MINKE_EINVAL, "out is NULL");
    same = s->params;
    same.struct_size = sizeof(same);
    rc = minke_session_open(&child, s->model, params != NULL ? params : &same);
    if (rc == MINKE_OK)
        rc = fork_check(s, child);
    if (rc < 0) {
        minke_session_free(child);
        return rc;
    }
    fork_copy(child, s);
    *out = child;
    return MINKE_OK;
}
