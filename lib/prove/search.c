/* Searches: their settings, what they ask for, and what is kept of the answers. */
#include "prove/search.h"

#include <string.h>

#include "base/checked.h"
#include "base/hash.h"
#include "base/params.h"
#include "base/sort.h"
#include "base/utf8.h"
#include "learn/reward.h"

#define SEARCH_MOST 16384u   /* of anything in one round */

const struct mk_search_driver mk_search_drivers[MK_SEARCH_DRIVERS] = {
    [MINKE_SEARCH_DRIVER_SEQUENTIAL] = {"sequential", mk_search_sequential, 0, 0},
    [MINKE_SEARCH_DRIVER_POOL] = {"pool", mk_search_pool, 1, 0},
    [MINKE_SEARCH_DRIVER_VOTE] = {"vote", mk_search_sample, 0, 1},
    [MINKE_SEARCH_DRIVER_BEST] = {"best", mk_search_sample, 0, 1},
    [MINKE_SEARCH_DRIVER_LONGEST] = {"longest", mk_search_sample, 0, 1},
};

/* ---- Settings ------------------------------------------------------------ */

#define SEARCH_SETTING(name) #name, offsetof(minke_search_params, name)

/* All that decides what a search asks for, but its seed and texts, as journals name it; and what
 * 0 stands for: by the preset, or outside the pool where that differs.
 * Reference: DeepSeekMath-V2, section 3.3, and its released main.py and run.sh @665c840. */
static const struct search_setting {
    const char *name;
    size_t at;
    uint32_t preset[2], outside;
} search_settings[] = {
    {SEARCH_SETTING(driver), {0, 0}, 0},
    {SEARCH_SETTING(preset), {0, 0}, 0},
    {SEARCH_SETTING(mode), {0, 0}, 0},
    {SEARCH_SETTING(n_first), {64, 128}, 8},
    {SEARCH_SETTING(n_verifications), {64, 64}, 0},
    {SEARCH_SETTING(n_meta), {0, 0}, 0},
    {SEARCH_SETTING(n_best), {64, 32}, 0},
    {SEARCH_SETTING(n_analyses), {8, 4}, 0},
    {SEARCH_SETTING(n_samples), {1, 4}, 0},
    {SEARCH_SETTING(max_rounds), {17, 16}, 8},
};

const char *mk_search_setting(const minke_search_params *p, size_t i, uint32_t *value)
{
    if (i >= MK_COUNT(search_settings))
        return NULL;
    memcpy(value, (const char *)p + search_settings[i].at, sizeof(*value));
    return search_settings[i].name;
}

void minke_search_params_init(minke_search_params *params, size_t size)
{
    mk_params_init(params, size);
}

static void search_defaults(minke_search_params *p)
{
    const int pool = p->driver == MINKE_SEARCH_DRIVER_POOL;
    const int released = p->preset == MINKE_SEARCH_PRESET_REPOSITORY;
    uint32_t value;

    if (p->driver == MINKE_SEARCH_DRIVER_SEQUENTIAL && p->n_first == 0)
        p->n_first = 1;
    for (size_t i = 0; mk_search_setting(p, i, &value) != NULL; i++) {
        const struct search_setting *k = &search_settings[i];

        if (value == 0)
            value = !pool && k->outside > 0 ? k->outside : k->preset[released];
        memcpy((char *)p + k->at, &value, sizeof(value));
    }
    if (p->max_bytes == 0)
        p->max_bytes = SIZE_MAX > UINT32_MAX ? (uint64_t)4 << 30 : (uint64_t)1 << 30;
}

static int32_t search_check(const minke_search_params *p)
{
    const char *name;
    uint32_t value;

    if (p->driver >= MK_SEARCH_DRIVERS || p->preset > MINKE_SEARCH_PRESET_REPOSITORY)
        return mk_fail(MINKE_EVERSION, "driver %u or preset %u unknown", p->driver, p->preset);
    if (p->mode != MINKE_PROOF_MODE_DEFAULT && p->mode != MINKE_PROOF_MODE_STRICT)
        return mk_fail(MINKE_EINVAL, "mode %u: MINKE_PROOF_MODE_DEFAULT or _STRICT expected",
                       p->mode);
    for (size_t i = 0; (name = mk_search_setting(p, i, &value)) != NULL; i++)
        if (value > SEARCH_MOST)
            return mk_fail(MINKE_EINVAL, "%s %u: at most %u", name, value, SEARCH_MOST);
    if ((p->prompts == NULL && p->prompts_len > 0) || (p->alloc == NULL) != (p->free == NULL))
        return mk_fail(MINKE_EINVAL, "prompts, or one of alloc and free, is NULL");
    return MINKE_OK;
}

/* ---- Opening ------------------------------------------------------------- */

int32_t mk_search_grow(struct minke_search *s, void *items, size_t *capacity, size_t need,
                       size_t item_size)
{
    void *data;

    memcpy(&data, items, sizeof(data));
    const int32_t rc = mk_grow(&s->env.alloc, &data, capacity, need, item_size);

    memcpy(items, &data, sizeof(data));
    return rc;
}

/* v becomes a view of a copy, with a NUL behind. */
static int32_t search_copy(struct mk_arena *arena, struct mk_view *v)
{
    v->data = mk_arena_text(arena, v->data, v->len);
    return v->data != NULL ? MINKE_OK : MINKE_ENOMEM;
}

/* Copies of what the caller's problem and params point to. */
static int32_t search_texts(struct minke_search *s, struct mk_view problem)
{
    struct mk_view prompts = {s->p.prompts, s->p.prompts_len}, path = {NULL, 0};
    int32_t rc;

    s->problem = mk_proof_strip(problem);
    if ((rc = search_copy(&s->arena, &s->problem)) < 0
        || (prompts.data != NULL && (rc = search_copy(&s->arena, &prompts)) < 0))
        return rc;
    if (s->p.journal != NULL) {
        path = mk_view(s->p.journal);
        if ((rc = search_copy(&s->arena, &path)) < 0)
            return rc;
    }
    s->p.prompts = prompts.data;
    s->p.journal = path.data;
    rc = mk_prompts_read(&s->prompts, prompts);
    for (size_t k = 0; k < MK_PROMPTS && rc == MINKE_OK; k++)
        s->prompts_hash = mk_hash(s->prompts_hash, s->prompts.part[k].data,
                                  s->prompts.part[k].len);
    return rc;
}

int32_t minke_search_open(minke_search **out, const char *problem, size_t problem_len,
                          const minke_search_params *params)
{
    struct minke_search *s;
    minke_search_params p;
    int32_t rc = mk_params_read(&p, sizeof(p), params, sizeof(p));

    if (rc < 0)
        return rc;
    if (out == NULL || (problem == NULL && problem_len > 0))
        return mk_fail(MINKE_EINVAL, "out or problem is NULL");
    search_defaults(&p);
    if ((rc = search_check(&p)) < 0)
        return rc;
    if (mk_utf8_valid(problem, problem_len) != problem_len)
        return mk_fail(MINKE_EINVAL, "the problem is not UTF-8");
    const struct mk_env env = {.alloc = {p.alloc, p.free, p.alloc_user}, .log = p.log,
                               .log_user = p.log_user};

    if ((s = mk_alloc(&env.alloc, 1, sizeof(*s))) == NULL)
        return MINKE_ENOMEM;
    s->env = env;
    s->p = p;
    mk_arena_init(&s->arena, &s->env.alloc);
    mk_arena_init(&s->derived, &s->env.alloc);
    rc = search_texts(s, (struct mk_view){problem, problem_len});
    if (rc < 0 || (s->p.journal != NULL && (rc = mk_journal_open(s)) < 0)) {
        minke_search_free(s);
        return rc;
    }
    *out = s;
    return MINKE_OK;
}

void minke_search_free(minke_search *s)
{
    if (s == NULL || s->busy)
        return;
    const struct mk_allocator a = s->env.alloc;

    mk_append_free(s->journal);
    mk_arena_free(&s->arena);
    mk_arena_free(&s->derived);
    mk_free(&a, s->taken);
    mk_free(&a, s->found);
    mk_free(&a, s->ratings);
    mk_free(&a, s->order);
    mk_free(&a, s->sorted);
    mk_free(&a, s->best);
    mk_free(&a, s->shown);
    mk_free(&a, s);
}

/* ---- Completions --------------------------------------------------------- */

int32_t mk_search_keep(struct minke_search *s, const struct mk_completion *c)
{
    struct mk_completion kept = *c;
    int32_t rc = mk_search_grow(s, &s->taken, &s->max_taken, s->n_taken + 1, sizeof(*s->taken));

    if (rc < 0)
        return rc;
    if (c->text.len > s->p.max_bytes - s->n_bytes)
        return mk_fail(MINKE_ENOMEM, "the texts take more than max_bytes, %llu",
                       (unsigned long long)s->p.max_bytes);
    if ((rc = search_copy(&s->arena, &kept.text)) < 0)
        return rc;
    s->n_bytes += c->text.len;
    s->taken[s->n_taken++] = kept;
    return MINKE_OK;
}

/* The text with U+FFFD for what is not UTF-8, which clean then holds. */
static struct mk_view search_clean(struct mk_text *clean, struct mk_view text)
{
    enum mk_utf8_state state;
    size_t n = mk_utf8_valid(text.data, text.len), i = 0;

    if (n == text.len)
        return text;
    while (i < text.len) {
        mk_text_add(clean, text.data + i, n);
        i += n;
        if (i < text.len) {
            mk_text_adds(clean, "\xEF\xBF\xBD");
            i += mk_utf8_unit(text.data + i, text.len - i, &state);
            n = mk_utf8_valid(text.data + i, text.len - i);
        }
    }
    return mk_text_view(clean);
}

/* Where a request's completions go. */
struct search_sink {
    struct minke_search *s;
    uint32_t request, index, n;  /* the next one, and how many there are */
    int32_t rc;
};

static int32_t search_store(const struct search_sink *sink, struct mk_view text, int32_t reason,
                            uint64_t n_thinking)
{
    struct minke_search *s = sink->s;
    const struct mk_view answer = mk_reward_behind_thinking(text);
    struct mk_completion c = {mk_view(""), n_thinking, sink->request, sink->index, reason};
    struct mk_text clean;
    int32_t rc;

    if (reason < MINKE_FINISH_STOP || reason > MINKE_FINISH_FULL)
        c.reason = MINKE_FINISH_CANCELED;
    mk_text_init(&clean, &s->env.alloc);
    if (c.reason == MINKE_FINISH_STOP) {
        c.text = search_clean(&clean, mk_proof_strip(answer));
        if (n_thinking == 0)
            c.n_thinking = text.len - answer.len;
    }
    if (c.n_thinking > INT64_MAX)
        c.n_thinking = INT64_MAX;
    rc = clean.failed ? mk_fail_memory(text.len, "a completion") : mk_search_keep(s, &c);
    mk_text_free(&clean);
    if (rc == MINKE_OK && s->journal != NULL
        && (rc = mk_journal_add(s, &s->taken[s->n_taken - 1])) < 0)
        s->n_taken--;
    return rc;
}

static int32_t search_take(void *user, const char *text, size_t len, int32_t reason,
                           uint64_t n_thinking)
{
    struct search_sink *sink = user;

    if (sink->rc < 0 || sink->index == sink->n)
        return 1;
    if (text == NULL && len > 0)
        sink->rc = mk_fail(MINKE_EINVAL, "a completion of %zu bytes is NULL", len);
    else
        sink->rc = search_store(sink, (struct mk_view){text, len}, reason, n_thinking);
    if (sink->rc < 0)
        return 1;
    return ++sink->index == sink->n;
}

/* Ask the host for what is missing of a request, and count what it does not give as
 * unfinished. */
static int32_t search_ask(struct search_sink *sink, const struct mk_asked *asked)
{
    struct minke_search *s = sink->s;
    const uint64_t seed = mk_hash_u64(s->p.seed, sink->request) + sink->index;
    struct mk_text prompt;
    int32_t rc = MINKE_OK;

    mk_text_init(&prompt, &s->env.alloc);
    mk_prompts_write(&prompt, &s->prompts, asked);
    if (prompt.failed)
        rc = mk_fail_memory(prompt.len, "a prompt");
    else if (s->complete(s->user, asked->ask, seed, prompt.data, prompt.len,
                         sink->n - sink->index, search_take, sink) != 0 && sink->rc == MINKE_OK)
        rc = mk_fail(MINKE_ECANCELED, "the host stopped at request %u", sink->request);
    else
        rc = sink->rc;
    mk_text_free(&prompt);
    for (; rc == MINKE_OK && sink->index < sink->n; sink->index++)
        rc = search_store(sink, mk_view(""), MINKE_FINISH_CANCELED, 0);
    return rc;
}

int32_t mk_search_show(struct minke_search *s, struct mk_view evaluation)
{
    const int32_t rc = mk_search_grow(s, &s->shown, &s->max_shown, s->n_shown + 1,
                                      sizeof(*s->shown));

    if (rc == MINKE_OK)
        s->shown[s->n_shown++] = evaluation;
    return rc;
}

int32_t mk_search_request(struct minke_search *s, int32_t ask, uint32_t n, struct mk_view proof,
                          size_t *first)
{
    const struct mk_asked asked = {ask, s->problem, proof, s->shown, s->n_shown};
    struct search_sink sink = {s, s->n_requests++, 0, n, MINKE_OK};
    int32_t rc = MINKE_OK;

    s->n_shown = 0;
    *first = s->next;
    for (; s->next < s->n_taken && sink.index < n; s->next++, sink.index++) {
        const struct mk_completion *c = &s->taken[s->next];

        if (c->request != sink.request || c->index != sink.index)
            return mk_fail(MINKE_EFORMAT, "journal: completion %u of request %u expected, not %u of"
                           " %u", sink.index, sink.request, c->index, c->request);
    }
    if (sink.index < n)
        rc = search_ask(&sink, &asked);
    if (rc == MINKE_OK)
        s->next = *first + n;
    return rc;
}

/* ---- Candidates ---------------------------------------------------------- */

static int search_is_known(const struct minke_search *s, const struct mk_candidate *c)
{
    for (size_t i = 0; i < s->n_found; i++)
        if (s->found[i].hash == c->hash && mk_view_equal(s->found[i].solution, c->solution))
            return 1;
    return 0;
}

/* Both sections of a completion.  MINKE_EFORMAT when it has none. */
static int32_t search_sections(struct minke_search *s, struct mk_candidate *c,
                               struct mk_view text)
{
    struct mk_sections sections;
    int32_t rc = mk_proof_split(&sections, &s->env.alloc, text, s->p.mode);

    if (rc == MINKE_OK) {
        c->solution = sections.solution;
        c->evaluation = sections.evaluation;
        if ((rc = search_copy(&s->derived, &c->solution)) == MINKE_OK
            && (rc = search_copy(&s->derived, &c->evaluation)) == MINKE_OK
            && mk_proof_score(c->evaluation, s->p.mode, &c->self_score) != 0)
            c->self_score = -1;
    }
    mk_text_free(&sections.work);
    return rc;
}

static int32_t search_collect(struct minke_search *s, const struct mk_completion *t,
                              uint32_t parent, uint32_t chain)
{
    const struct mk_search_driver *driver = &mk_search_drivers[s->p.driver];
    struct mk_candidate c = {.self_score = -1, .mean = -1, .n_thinking = t->n_thinking,
                             .round = s->round, .chain = chain, .parent = parent};
    int32_t rc = search_sections(s, &c, t->text);

    if (rc == MINKE_EFORMAT && driver->whole) {
        c.solution = t->text;
        c.evaluation = mk_view("");
        rc = MINKE_OK;
    }
    if (rc == MINKE_EFORMAT || (rc == MINKE_OK && c.solution.len == 0)) {
        s->n_unreadable++;
        return MINKE_OK;
    }
    if (rc < 0)
        return rc;
    c.answer = mk_proof_boxed(c.solution);
    if (c.answer.data == NULL)
        c.answer = c.solution;
    c.hash = mk_hash(0, c.solution.data, c.solution.len);
    if (driver->distinct && search_is_known(s, &c))
        return MINKE_OK;
    rc = mk_search_grow(s, &s->found, &s->max_found, s->n_found + 1, sizeof(*s->found));
    if (rc == MINKE_OK)
        s->found[s->n_found++] = c;
    return rc;
}

int32_t mk_search_solve(struct minke_search *s, uint32_t n, uint32_t parent, uint32_t chain)
{
    const struct mk_view proof = parent > 0 ? s->found[parent - 1].solution : mk_view("");
    size_t first;
    int32_t rc = mk_search_request(s, parent > 0 ? MINKE_ASK_REFINE : MINKE_ASK_PROOF, n, proof,
                                   &first);

    for (uint32_t i = 0; i < n && rc == MINKE_OK; i++)
        if (s->taken[first + i].reason == MINKE_FINISH_STOP)
            rc = search_collect(s, &s->taken[first + i], parent, chain + i);
    return rc;
}

/* ---- Order --------------------------------------------------------------- */

uint64_t mk_search_random(const struct minke_search *s, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t h = mk_hash_u64(s->p.seed, 0x6f72646572u);   /* apart from the seeds of requests */

    h = mk_hash_u64(h, a);
    h = mk_hash_u64(h, b);
    return mk_hash_u64(h, c);
}

int32_t mk_search_order(struct minke_search *s, size_t n)
{
    int32_t rc = mk_search_grow(s, &s->order, &s->max_order, n, sizeof(*s->order));

    if (rc == MINKE_OK)
        rc = mk_search_grow(s, &s->sorted, &s->max_sorted, n, sizeof(*s->sorted));
    if (rc == MINKE_OK)
        s->n_order = n;
    return rc;
}

static int search_compare(const void *x, const void *y)
{
    const struct mk_order *p = x, *q = y;

    if (p->a != q->a)
        return p->a < q->a ? -1 : 1;
    if (p->b != q->b)
        return p->b < q->b ? -1 : 1;
    if (p->key != q->key)
        return p->key < q->key ? -1 : 1;
    return p->index < q->index ? -1 : p->index > q->index;
}

void mk_search_sort(struct minke_search *s)
{
    for (size_t i = 0; i < s->n_order; i++) {
        s->order[i].index = i;
        s->sorted[i] = &s->order[i];
    }
    mk_sort(s->sorted, s->n_order, search_compare);
}

/* ---- Running ------------------------------------------------------------- */

int32_t minke_search_run(minke_search *s, minke_complete_fn complete, void *user)
{
    int32_t rc;

    if (s == NULL || complete == NULL)
        return mk_fail(MINKE_EINVAL, "search or complete is NULL");
    if (s->busy)
        return mk_fail(MINKE_EBUSY, "the search is running");
    s->busy = 1;
    s->complete = complete;
    s->user = user;
    s->next = s->n_found = s->n_ratings = s->n_unreadable = s->n_shown = 0;
    s->n_requests = s->round = s->choice = 0;
    s->solved = s->finished = 0;
    s->score = -1;
    mk_arena_free(&s->derived);
    rc = mk_search_drivers[s->p.driver].run(s);
    if (rc == MINKE_OK && s->next < s->n_taken)
        rc = mk_fail(MINKE_EFORMAT, "journal: %zu completions more than the search asks for",
                     s->n_taken - s->next);
    s->finished = rc == MINKE_OK;
    s->busy = 0;
    return rc;
}
