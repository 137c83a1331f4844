/* What the model is told: to solve, to judge, to judge a judgement, to improve.
 * Reference: DeepSeekMath-V2, appendix A, for what each prompt must ask and the phrases that an
 * answer must hold.  The wording is our own. */
#include "base/checked.h"
#include "base/error.h"
#include "prove/proof.h"

#define TEXT_LEVELS \
    "- 1: everything that was asked is there, every step is right and justified.\n" \
    "- 0.5: the solution holds on the whole, with small errors or gaps that can be mended.\n" \
    "- 0: it does not solve the problem: a decisive error, a decisive gap, or another problem.\n" \
    "A result taken from the literature counts only where its proof is given too; a solution\n" \
    "that leans on one without proof does not deserve 1.\n"

#define TEXT_BOX "with 0, 0.5 or 1 in the box and nothing behind it.\n"

#define TEXT_EVALUATION \
    "Here is my evaluation of the solution:\n" \
    "(go through the key steps and those that you doubted; say of each whether it holds, and of\n" \
    "each error what follows from it)\n" \
    "\n" \
    "Based on my evaluation, the final overall score should be:\n" \
    "\\boxed{...}\n" \
    "\n" \
    TEXT_BOX

#define TEXT_PROBLEM \
    "\n" \
    "---\n" \
    "\n" \
    "## Problem\n" \
    "{problem}"

#define TEXT_SOLVED \
    TEXT_PROBLEM \
    "\n" \
    "\n" \
    "## Solution\n" \
    "{proof}"

static const char text_proof[] =
    "## Instruction\n"
    "Solve the problem below.  Where it asks for a value, find it, prove that it is right, and\n"
    "put it in \\boxed{} at the end of the solution.  Write so that a careful reader can check\n"
    "every step.  Then judge your own solution by these levels:\n"
    TEXT_LEVELS
    "\n"
    "Look for errors before you answer and mend those you find.  Give yourself 1 only if none is\n"
    "left.  An open problem that you name costs little; a wrong solution that you call right is\n"
    "the worst answer.\n"
    "\n"
    "Answer in this form, with these headings and phrases word for word:\n"
    "\n"
    "## Solution\n"
    "(your solution)\n"
    "\n"
    "## Self Evaluation\n"
    TEXT_EVALUATION
    TEXT_PROBLEM;

static const char text_verify[] =
    "## Instruction\n"
    "Judge the solution of the problem below by these levels:\n"
    TEXT_LEVELS
    "\n"
    "Answer in this form, with these phrases word for word:\n"
    "\n"
    TEXT_EVALUATION
    TEXT_SOLVED;

static const char text_meta[] =
    "## Instruction\n"
    "Below are a problem, a solution, and an evaluation of that solution.  Judge the evaluation,\n"
    "not the solution.  The evaluator was told to use these levels:\n"
    TEXT_LEVELS
    "\n"
    "Check of the evaluation\n"
    "- whether the solution says what the evaluation claims that it says;\n"
    "- whether each defect that it names is there, and described rightly.  Only defects that are\n"
    "  named count: praise of a wrong step is no fault here;\n"
    "- whether it is free of slips of its own: of the pen, of arithmetic, or calling wrong what\n"
    "  is only left unproved by an earlier error;\n"
    "- whether the score fits the defects that it names.\n"
    "\n"
    "Rate it so:\n"
    "- 0: it names defects, and all of them are unfounded.\n"
    "- 0.5: some of them are unfounded; or none is, but there are slips or the score is off.\n"
    "- 1: nothing is unfounded (or no defect is named), no slips, and the score fits.\n"
    "\n"
    "Answer in this form, with these phrases word for word:\n"
    "\n"
    "Here is my analysis of the \"solution evaluation\":\n"
    "(your analysis)\n"
    "\n"
    "Based on my analysis, I will rate the \"solution evaluation\" as:\n"
    "\\boxed{...}\n"
    "\n"
    TEXT_BOX
    TEXT_SOLVED
    "\n"
    "\n"
    "## Solution Evaluation\n"
    "{rating}";

static const char text_refine[] =
    "{instruction}\n"
    "\n"
    "## Candidate Solution(s) to Refine\n"
    "These solutions were found earlier, with evaluations.  Write a better one: mend what the\n"
    "evaluations find wrong, keep what is good, or take another way.\n"
    "\n"
    "{candidates}\n"
    "\n"
    "## Final Instruction\n"
    "Answer in the form above: `## Solution`, then `## Self Evaluation`.";

static const struct {
    const char *name, *text;
    const char *needs[2];
} text_kinds[MK_PROMPTS] = {
    {"proof", text_proof, {"{problem}", NULL}},
    {"verify", text_verify, {"{problem}", "{proof}"}},
    {"meta", text_meta, {"{proof}", "{rating}"}},
    {"refine", text_refine, {"{candidates}", NULL}},
    {"solution", "--- Solution {number} ---\n{proof}", {"{proof}", NULL}},
    {"evaluation", "=== Evaluation {number} of Solution {solution} ===\n{rating}",
     {"{rating}", NULL}}};

/* ---- Reading ------------------------------------------------------------- */

/* The kind that a line "@prompt NAME" begins, MK_PROMPTS when there is none of this name. */
static size_t text_kind(struct mk_view name)
{
    size_t k = 0;

    while (k < MK_PROMPTS && !mk_view_is(name, text_kinds[k].name))
        k++;
    return k;
}

static int32_t text_check(const struct mk_prompts *p)
{
    for (size_t k = 0; k < MK_PROMPTS; k++)
        for (size_t i = 0; i < 2 && text_kinds[k].needs[i] != NULL; i++)
            if (mk_view_find(p->part[k], 0, mk_view(text_kinds[k].needs[i])) == p->part[k].len)
                return mk_fail(MINKE_EFORMAT, "prompts: %s lacks %s", text_kinds[k].name,
                               text_kinds[k].needs[i]);
    return MINKE_OK;
}

/* The parts of a file, with white space around them. */
static int32_t text_parts(struct mk_prompts *p, struct mk_view text)
{
    const struct mk_view mark = MK_VIEW("@prompt "), newline = MK_VIEW("\n");
    size_t kind = MK_PROMPTS, begin = 0, next;
    unsigned seen = 0;

    for (size_t i = 0, line = 1; i < text.len; i = next, line++) {
        const size_t end = mk_view_find(text, i, newline);

        next = end + (end < text.len);
        if (mk_view_has(text, i, mark)) {
            kind = text_kind(mk_proof_strip(mk_view_part(text, i + mark.len, end)));
            if (kind == MK_PROMPTS)
                return mk_fail(MINKE_EFORMAT, "prompts: line %zu: one of proof, verify, meta, "
                               "refine, solution, evaluation expected", line);
            if (seen >> kind & 1)
                return mk_fail(MINKE_EFORMAT, "prompts: line %zu: given twice", line);
            seen |= 1u << kind;
            begin = next;
        }
        if (kind < MK_PROMPTS)
            p->part[kind] = mk_view_part(text, begin, next);
    }
    return MINKE_OK;
}

int32_t mk_prompts_read(struct mk_prompts *out, struct mk_view text)
{
    struct mk_prompts p;
    int32_t rc;

    for (size_t k = 0; k < MK_PROMPTS; k++)
        p.part[k] = mk_view(text_kinds[k].text);
    if ((rc = text_parts(&p, text)) < 0)
        return rc;
    for (size_t k = 0; k < MK_PROMPTS; k++)
        p.part[k] = mk_proof_strip(p.part[k]);
    if ((rc = text_check(&p)) < 0)
        return rc;
    *out = p;
    return MINKE_OK;
}

/* ---- Filling in ---------------------------------------------------------- */

/* The fill whose {name} stands at i, NULL when none does; *len: its bytes. */
static const struct mk_fill *text_fill(struct mk_view prompt, size_t i, const struct mk_fill *fills,
                                       size_t n, size_t *len)
{
    for (size_t k = 0; prompt.data[i] == '{' && k < n; k++) {
        const struct mk_view name = mk_view(fills[k].name);

        *len = name.len + 2;
        if (mk_view_has(prompt, i + 1, name) && prompt.len - i >= *len
            && prompt.data[i + *len - 1] == '}')
            return &fills[k];
    }
    return NULL;
}

void mk_prompts_fill(struct mk_text *out, struct mk_view prompt, const struct mk_fill *fills,
                     size_t n)
{
    size_t from = 0, len;

    for (size_t i = 0; i < prompt.len; i++) {
        const struct mk_fill *fill = text_fill(prompt, i, fills, n, &len);

        if (fill == NULL)
            continue;
        mk_text_add_view(out, mk_view_part(prompt, from, i));
        mk_text_add_view(out, fill->value);
        from = i + len;
        i = from - 1;
    }
    mk_text_add_view(out, mk_view_part(prompt, from, prompt.len));
}

/* A part of {candidates}, of which there is one.  {number} counts from 1, {index} from 0. */
static void text_candidate(struct mk_text *out, struct mk_view prompt, size_t index,
                           const char *name, struct mk_view value)
{
    char from_1[24], from_0[24];
    const struct mk_view number = {from_1, mk_format(from_1, sizeof(from_1), "%zu", index + 1)};
    const struct mk_view i = {from_0, mk_format(from_0, sizeof(from_0), "%zu", index)};
    const struct mk_fill fills[] = {{"number", number}, {"index", i}, {"solution", MK_VIEW("1")},
                                    {"solution_index", MK_VIEW("0")}, {name, value}};

    mk_prompts_fill(out, prompt, fills, MK_COUNT(fills));
}

static void text_candidates(struct mk_text *out, const struct mk_prompts *p,
                            const struct mk_asked *asked)
{
    text_candidate(out, p->part[MK_PROMPT_SOLUTION], 0, "proof", asked->proof);
    for (size_t i = 0; i < asked->n_ratings; i++) {
        mk_text_adds(out, "\n\n");
        text_candidate(out, p->part[MK_PROMPT_EVALUATION], i, "rating", asked->ratings[i]);
    }
}

void mk_prompts_write(struct mk_text *out, const struct mk_prompts *p,
                      const struct mk_asked *asked)
{
    struct mk_view rating = asked->n_ratings > 0 ? asked->ratings[0] : mk_view("");
    struct mk_fill fills[] = {{"problem", asked->problem}, {"proof", asked->proof},
                              {"rating", rating}, {"candidates", rating},
                              {"instruction", MK_VIEW("")}};
    struct mk_text candidates, instruction;

    mk_text_init(&candidates, out->a);
    mk_text_init(&instruction, out->a);
    if (asked->ask == MINKE_ASK_REFINE) {
        text_candidates(&candidates, p, asked);
        mk_prompts_fill(&instruction, p->part[MK_PROMPT_PROOF], fills, 1);
        fills[2].value = fills[3].value = mk_text_view(&candidates);
        fills[4].value = mk_text_view(&instruction);
    }
    mk_prompts_fill(out, p->part[asked->ask - 1], fills, MK_COUNT(fills));
    out->failed |= candidates.failed || instruction.failed;
    mk_text_free(&candidates);
    mk_text_free(&instruction);
}
