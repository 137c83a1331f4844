/* Searches: their settings, what they ask for, and what is kept of the answers. */
#include "prove/search.h"

#include <string.h>

#include "base/checked.h"
#include "base/hash.h"
#include "base/params.h"
#include "base/sort.h"
#include "base/utf8.h"

#define SEARCH_MOST 16384u   /* of anything in one round */

void minke_search_params_init(minke_search_params *params, size_t size)
{
    mk_params_init(params, size);
}

/* ---- Settings ------------------------------------------------------------ */

static void search_default(uint32_t *field, uint32_t value)
{
    if (*field == 0)
        *field = value;
}

/* Reference: DeepSeekMath-V2, section 3.3, and its released main.py and run.sh @665c840. */
static void search_preset(minke_search_params *p)
{
    const int pool = p->driver == MINKE_SEARCH_POOL;
    const int released = p->preset == MINKE_PRESET_REPOSITORY;

    if (p->driver == MINKE_SEARCH_SEQUENTIAL)
        search_default(&p->n_first, 1);
    search_default(&p->n_first, !pool ? 8 : released ? 128 : 64);
    search_default(&p->n_verifications, 64);
    search_default(&p->n_best, released ? 32 : 64);
    search_default(&p->n_analyses, released ? 4 : 8);
    search_default(&p->n_samples, released ? 4 : 1);
    search_default(&p->max_rounds, !pool ? 8 : released ? 16 : 17);
    if (p->max_bytes == 0)
        p->max_bytes = SIZE_MAX > UINT32_MAX ? (uint64_t)4 << 30 : (uint64_t)1 << 30;
}

static int32_t search_check(const minke_search_params *p)
{
    const struct {
        const char *name;
        uint32_t value;
    } counts[] = {{"n_first", p->n_first}, {"n_verifications", p->n_verifications},
                  {"n_meta", p->n_meta}, {"n_best", p->n_best}, {"n_analyses", p->n_analyses},
                  {"n_samples", p->n_samples}, {"max_rounds", p->max_rounds}};

    if (p->driver > MINKE_SEARCH_LONGEST || p->preset > MINKE_PRESET_REPOSITORY)
        return mk_fail(MINKE_EVERSION, "driver %u or preset %u unknown", p->driver, p->preset);
    if (p->mode != MINKE_PROOF_DEFAULT && p->mode != MINKE_PROOF_STRICT)
        return mk_fail(MINKE_EINVAL, "mode %u: MINKE_PROOF_DEFAULT or _STRICT expected", p->mode);
    for (size_t i = 0; i < MK_COUNT(counts); i++)
        if (counts[i].value > SEARCH_MOST)
            return mk_fail(MINKE_EINVAL, "%s %u: at most %u", counts[i].name, counts[i].value,
                           SEARCH_MOST);
    if (p->reserved0 != 0)
        return mk_fail(MINKE_EVERSION, "reserved0 is %u", p->reserved0);
    if ((p->prompts == NULL && p->prompts_len > 0) || (p->alloc == NULL) != (p->free == NULL))
        return mk_fail(MINKE_EINVAL, "prompts, or one of alloc and free, is NULL");
    return MINKE_OK;
}

/* ---- Opening ------------------------------------------------------------- */

static int32_t search_texts(struct minke_search *s, const char *problem, size_t len)
{
    const struct mk_view given = mk_proof_strip(problem, len);
    const minke_search_params *p = &s->p;

    s->problem.len = given.len;
    s->problem.data = mk_arena_text(&s->arena, given.data, given.len);
    if (s->problem.data == NULL)
        return MINKE_ENOMEM;
    if (p->prompts != NULL) {
        const char *copy = mk_arena_text(&s->arena, p->prompts, p->prompts_len);

        if (copy == NULL)
            return MINKE_ENOMEM;
        s->p.prompts = copy;
    }
    if (p->journal != NULL
        && (s->journal_path = mk_arena_text(&s->arena, p->journal, strlen(p->journal))) == NULL)
        return MINKE_ENOMEM;
    for (size_t k = 0; k < MK_PROMPTS; k++)
        s->prompts.part[k] = (struct mk_view){NULL, 0};
    const int32_t rc = mk_prompts_read(&s->prompts, s->p.prompts, p->prompts_len);

    for (size_t k = 0; k < MK_PROMPTS; k++)
        s->prompts_hash = mk_hash(s->prompts_hash, s->prompts.part[k].data,
                                  s->prompts.part[k].len);
    return rc;
}

int32_t minke_search_open(minke_search **out, const char *problem, size_t problem_len,
                          const minke_search_params *params)
{
    struct mk_allocator a = {NULL, NULL, NULL};
    struct minke_search *s;
    minke_search_params p;
    int32_t rc = mk_params_read(&p, sizeof(p), params, sizeof(p));

    if (rc < 0)
        return rc;
    if (out == NULL || (problem == NULL && problem_len > 0))
        return mk_fail(MINKE_EINVAL, "out or problem is NULL");
    search_preset(&p);
    if ((rc = search_check(&p)) < 0)
        return rc;
    if (mk_utf8_valid(problem, problem_len) != problem_len)
        return mk_fail(MINKE_EINVAL, "the problem is not UTF-8");
    a.alloc = p.alloc;
    a.free = p.free;
    a.user = p.alloc_user;
    if ((s = mk_alloc(&a, 1, sizeof(*s))) == NULL)
        return MINKE_ENOMEM;
    s->env.alloc = a;
    s->env.log = p.log;
    s->env.log_user = p.log_user;
    s->p = p;
    mk_arena_init(&s->arena, &s->env.alloc);
    mk_arena_init(&s->derived, &s->env.alloc);
    rc = search_texts(s, problem, problem_len);
    if (rc == MINKE_OK && s->journal_path != NULL)
        rc = mk_journal_open(s);
    if (rc < 0) {
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
    void *items = s->taken;
    struct mk_completion kept = *c;
    const int32_t rc = mk_grow(&s->env.alloc, &items, &s->max_taken, s->n_taken + 1,
                               sizeof(*s->taken));

    s->taken = items;
    if (rc < 0)
        return rc;
    if (c->text.len > s->p.max_bytes - s->n_bytes)
        return mk_fail(MINKE_ENOMEM, "the texts take more than max_bytes, %llu",
                       (unsigned long long)s->p.max_bytes);
    kept.text.data = mk_arena_text(&s->arena, c->text.data, c->text.len);
    if (kept.text.data == NULL)
        return MINKE_ENOMEM;
    s->n_bytes += c->text.len;
    s->taken[s->n_taken++] = kept;
    return MINKE_OK;
}

/* Text with U+FFFD for what is not UTF-8. */
static void search_utf8(struct mk_text *out, const char *text, size_t len)
{
    size_t i = 0;

    while (i < len) {
        const size_t n = mk_utf8_valid(text + i, len - i);
        enum mk_utf8_state state;

        mk_text_add(out, text + i, n);
        i += n;
        if (i < len) {
            mk_text_adds(out, "\xEF\xBF\xBD");
            i += mk_utf8_unit(text + i, len - i, &state);
        }
    }
}

/* Where a request's completions go. */
struct search_sink {
    struct minke_search *s;
    uint32_t request, index, n;  /* the next one, and how many there are */
    int32_t rc;
};

static int32_t search_store(struct search_sink *sink, const char *text, size_t len,
                            int32_t reason, uint64_t n_thinking)
{
    struct minke_search *s = sink->s;
    struct mk_completion c = {{"", 0}, n_thinking, sink->request, sink->index, reason};
    struct mk_text clean;
    int32_t rc = MINKE_OK;

    if (reason < MINKE_FINISH_STOP || reason > MINKE_FINISH_FULL)
        c.reason = MINKE_FINISH_CANCELLED;
    mk_text_init(&clean, &s->env.alloc);
    if (c.reason == MINKE_FINISH_STOP) {
        size_t n_before;

        c.text = mk_proof_answer(text, len, &n_before);
        if (n_thinking == 0)
            c.n_thinking = n_before;
        if (mk_utf8_valid(c.text.data, c.text.len) != c.text.len) {
            search_utf8(&clean, c.text.data, c.text.len);
            c.text = (struct mk_view){clean.data, clean.len};
        }
    }
    if (c.n_thinking > INT64_MAX)
        c.n_thinking = INT64_MAX;
    if (clean.failed)
        rc = mk_fail_memory(len, "a completion");
    else
        rc = mk_search_keep(s, &c);
    mk_text_free(&clean);
    if (rc == MINKE_OK && s->journal != NULL) {
        rc = mk_journal_add(s, &s->taken[s->n_taken - 1]);
        if (rc < 0)
            s->n_taken--;
    }
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
        sink->rc = search_store(sink, text != NULL ? text : "", len, reason, n_thinking);
    if (sink->rc < 0)
        return 1;
    return ++sink->index == sink->n;
}

static int32_t search_prompt(struct minke_search *s, struct mk_text *out, int32_t ask,
                             struct mk_view proof)
{
    struct mk_view rating = s->n_shown > 0 ? s->shown[0] : (struct mk_view){"", 0};
    struct mk_text candidates;

    mk_text_init(&candidates, out->a);
    if (ask == MINKE_ASK_REFINE) {
        mk_prompts_solution(&candidates, &s->prompts, 0, proof);
        for (size_t i = 0; i < s->n_shown; i++)
            mk_prompts_evaluation(&candidates, &s->prompts, 0, (uint32_t)i, s->shown[i]);
        rating = (struct mk_view){candidates.data, candidates.len};
    }
    if (!candidates.failed)
        mk_prompts_write(out, &s->prompts, ask, s->problem, proof, rating);
    const int failed = candidates.failed || out->failed;

    mk_text_free(&candidates);
    return failed ? mk_fail_memory(out->len, "a prompt") : MINKE_OK;
}

/* Ask the host for what is missing of a request, and count what it does not give as
 * unfinished. */
static int32_t search_ask(struct minke_search *s, struct search_sink *sink, int32_t ask,
                          struct mk_view proof, minke_complete_fn complete, void *user)
{
    const uint64_t seed = mk_hash_u64(s->p.seed, sink->request) + sink->index;
    struct mk_text prompt;
    int32_t rc;

    mk_text_init(&prompt, &s->env.alloc);
    rc = search_prompt(s, &prompt, ask, proof);
    if (rc == MINKE_OK) {
        const int32_t said = complete(user, ask, seed, prompt.data, prompt.len,
                                      sink->n - sink->index, search_take, sink);

        rc = sink->rc;
        if (rc == MINKE_OK && said != 0)
            rc = mk_fail(MINKE_ECANCELED, "the host stopped at request %u", sink->request);
    }
    mk_text_free(&prompt);
    for (; rc == MINKE_OK && sink->index < sink->n; sink->index++)
        rc = search_store(sink, "", 0, MINKE_FINISH_CANCELLED, 0);
    return rc;
}

int32_t mk_search_request(struct minke_search *s, int32_t ask, uint32_t n, struct mk_view proof,
                          minke_complete_fn complete, void *user, size_t *first)
{
    struct search_sink sink = {s, s->n_requests++, 0, n, MINKE_OK};
    int32_t rc = MINKE_OK;

    *first = s->next;
    while (s->next < s->n_taken && sink.index < n) {
        const struct mk_completion *c = &s->taken[s->next];

        if (c->request != sink.request || c->index != sink.index)
            return mk_fail(MINKE_EFORMAT, "journal: completion %u of request %u expected, not %u of"
                           " %u", sink.index, sink.request, c->index, c->request);
        s->next++;
        sink.index++;
    }
    if (sink.index < n)
        rc = search_ask(s, &sink, ask, proof, complete, user);
    if (rc == MINKE_OK)
        s->next = *first + n;
    return rc;
}

/* ---- Candidates ---------------------------------------------------------- */

static int search_is_known(const struct minke_search *s, const struct mk_candidate *c)
{
    for (size_t i = 0; i < s->n_found; i++)
        if (s->found[i].hash == c->hash && s->found[i].solution.len == c->solution.len
            && memcmp(s->found[i].solution.data, c->solution.data, c->solution.len) == 0)
            return 1;
    return 0;
}

static int32_t search_derived(struct minke_search *s, struct mk_view *out,
                              const struct mk_text *text)
{
    out->len = text->len;
    out->data = mk_arena_text(&s->derived, text->data, text->len);
    return out->data != NULL ? MINKE_OK : MINKE_ENOMEM;
}

/* Both sections of a completion.  MINKE_EFORMAT when it has none. */
static int32_t search_sections(struct minke_search *s, struct mk_candidate *c,
                               struct mk_view text)
{
    struct mk_text solution, evaluation;
    int32_t rc;

    mk_text_init(&solution, &s->env.alloc);
    mk_text_init(&evaluation, &s->env.alloc);
    rc = mk_proof_split(&solution, &evaluation, text.data, text.len, s->p.mode);
    if (rc == MINKE_OK)
        rc = search_derived(s, &c->solution, &solution);
    if (rc == MINKE_OK)
        rc = search_derived(s, &c->evaluation, &evaluation);
    if (rc == MINKE_OK
        && mk_proof_score(c->evaluation.data, c->evaluation.len, s->p.mode, &c->self_score) != 0)
        c->self_score = -1;
    mk_text_free(&solution);
    mk_text_free(&evaluation);
    return rc;
}

int32_t mk_search_collect(struct minke_search *s, size_t first, uint32_t n, uint32_t parent,
                          uint32_t chain, int distinct, int whole)
{
    for (size_t i = first; i < first + n; i++) {
        const struct mk_completion *t = &s->taken[i];
        struct mk_candidate c = {.self_score = -1, .mean = -1, .n_thinking = t->n_thinking,
                                 .round = s->round, .chain = chain + (uint32_t)(i - first),
                                 .parent = parent};
        void *items = s->found;
        int32_t rc;

        if (t->reason != MINKE_FINISH_STOP)
            continue;
        rc = search_sections(s, &c, t->text);
        if (rc == MINKE_EFORMAT && whole && t->text.len > 0) {
            c.solution = t->text;
            c.evaluation = (struct mk_view){"", 0};
            rc = MINKE_OK;
        }
        if (rc == MINKE_EFORMAT || (rc == MINKE_OK && c.solution.len == 0)) {
            s->n_unreadable++;
            continue;
        }
        if (rc < 0)
            return rc;
        c.answer = mk_proof_boxed(c.solution.data, c.solution.len);
        if (c.answer.data == NULL)
            c.answer = c.solution;
        c.hash = mk_hash(0, c.solution.data, c.solution.len);
        if (distinct && search_is_known(s, &c))
            continue;
        rc = mk_grow(&s->env.alloc, &items, &s->max_found, s->n_found + 1, sizeof(*s->found));
        s->found = items;
        if (rc < 0)
            return rc;
        s->found[s->n_found++] = c;
    }
    return MINKE_OK;
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
    void *items = s->order, *pointers = s->sorted;
    int32_t rc = mk_grow(&s->env.alloc, &items, &s->max_order, n, sizeof(*s->order));

    s->order = items;
    if (rc == MINKE_OK)
        rc = mk_grow(&s->env.alloc, &pointers, &s->max_sorted, n, sizeof(*s->sorted));
    s->sorted = pointers;
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
    s->next = s->n_found = s->n_ratings = s->n_unreadable = s->n_shown = 0;
    s->n_requests = s->round = s->choice = 0;
    s->solved = s->finished = 0;
    s->score = -1;
    mk_arena_free(&s->derived);
    if (s->p.driver == MINKE_SEARCH_POOL)
        rc = mk_search_pool(s, complete, user);
    else if (s->p.driver == MINKE_SEARCH_SEQUENTIAL)
        rc = mk_search_sequential(s, complete, user);
    else
        rc = mk_search_sample(s, complete, user);
    if (rc == MINKE_OK && s->next < s->n_taken)
        rc = mk_fail(MINKE_EFORMAT, "journal: %zu completions more than the search asks for",
                     s->n_taken - s->next);
    s->finished = rc == MINKE_OK;
    s->busy = 0;
    return rc;
}
