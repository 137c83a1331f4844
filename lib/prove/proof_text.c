/* What the model is told: to solve, to judge, to judge a judgement, to improve.
 * Reference: DeepSeekMath-V2, appendix A, for what each prompt must ask and the phrases that an
 * answer must hold.  The wording is our own. */
#include <string.h>

#include "base/error.h"
#include "prove/proof.h"

#define TEXT_MARK "@prompt "

#define TEXT_LEVELS \
    "- 1: everything that was asked is there, every step is right and justified.\n" \
    "- 0.5: the solution holds on the whole, with small errors or gaps that can be mended.\n" \
    "- 0: it does not solve the problem: a decisive error, a decisive gap, or another problem.\n" \
    "A result taken from the literature counts only where its proof is given too; a solution\n" \
    "that leans on one without proof does not deserve 1.\n"

#define TEXT_EVALUATION \
    "Here is my evaluation of the solution:\n" \
    "(go through the key steps and those that you doubted; say of each whether it holds, and of\n" \
    "each error what follows from it)\n" \
    "\n" \
    "Based on my evaluation, the final overall score should be:\n" \
    "\\boxed{...}\n" \
    "\n" \
    "with 0, 0.5 or 1 in the box and nothing behind it.\n"

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
    "\n"
    "---\n"
    "\n"
    "## Problem\n"
    "{problem}";

static const char text_verify[] =
    "## Instruction\n"
    "Judge the solution of the problem below by these levels:\n"
    TEXT_LEVELS
    "\n"
    "Answer in this form, with these phrases word for word:\n"
    "\n"
    TEXT_EVALUATION
    "\n"
    "---\n"
    "\n"
    "## Problem\n"
    "{problem}\n"
    "\n"
    "## Solution\n"
    "{proof}";

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
    "with 0, 0.5 or 1 in the box and nothing behind it.\n"
    "\n"
    "---\n"
    "\n"
    "## Problem\n"
    "{problem}\n"
    "\n"
    "## Solution\n"
    "{proof}\n"
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
    const char *needs[3];
} text_kinds[MK_PROMPTS] = {
    {"proof", text_proof, {"{problem}", NULL, NULL}},
    {"verify", text_verify, {"{problem}", "{proof}", NULL}},
    {"meta", text_meta, {"{proof}", "{rating}", NULL}},
    {"refine", text_refine, {"{candidates}", NULL, NULL}},
    {"solution", "--- Solution {number} ---\n{proof}", {"{proof}", NULL, NULL}},
    {"evaluation", "=== Evaluation {number} of Solution {solution} ===\n{rating}",
     {"{rating}", NULL, NULL}}};

/* ---- Reading ------------------------------------------------------------- */

/* Bytes of the line at s, its break included. */
static size_t text_line(const char *s, size_t n)
{
    const char *end = n > 0 ? memchr(s, '\n', n) : NULL;

    return end != NULL ? (size_t)(end - s) + 1 : n;
}

static int text_holds(struct mk_view s, const char *what)
{
    const size_t len = strlen(what);

    for (size_t i = 0; i + len <= s.len; i++)
        if (memcmp(s.data + i, what, len) == 0)
            return 1;
    return 0;
}

/* The kind that a line "@prompt NAME" begins, MK_PROMPTS when there is none of this name. */
static size_t text_kind(const char *line, size_t n)
{
    const size_t head = sizeof(TEXT_MARK) - 1;
    const struct mk_view name = mk_proof_strip(line + head, n - head);
    size_t k = 0;

    while (k < MK_PROMPTS && (strlen(text_kinds[k].name) != name.len
                              || memcmp(text_kinds[k].name, name.data, name.len) != 0))
        k++;
    return k;
}

static int32_t text_check(const struct mk_prompts *p)
{
    for (size_t k = 0; k < MK_PROMPTS; k++)
        for (size_t i = 0; i < 3 && text_kinds[k].needs[i] != NULL; i++)
            if (!text_holds(p->part[k], text_kinds[k].needs[i]))
                return mk_fail(MINKE_EFORMAT, "prompts: %s lacks %s", text_kinds[k].name,
                               text_kinds[k].needs[i]);
    return MINKE_OK;
}

int32_t mk_prompts_read(struct mk_prompts *out, const char *text, size_t len)
{
    struct mk_prompts p;
    size_t kind = MK_PROMPTS, begin = 0;
    unsigned seen = 0;

    for (size_t k = 0; k < MK_PROMPTS; k++)
        p.part[k] = (struct mk_view){text_kinds[k].text, strlen(text_kinds[k].text)};
    for (size_t i = 0, line = 1; i <= len && text != NULL; line++) {
        const size_t n = text_line(text + i, len - i);
        const int mark = n >= sizeof(TEXT_MARK) - 1
                         && memcmp(text + i, TEXT_MARK, sizeof(TEXT_MARK) - 1) == 0;

        if ((mark || i == len) && kind < MK_PROMPTS)
            p.part[kind] = mk_proof_strip(text + begin, i - begin);
        if (i == len)
            break;
        if (mark) {
            kind = text_kind(text + i, n);
            if (kind == MK_PROMPTS || (seen >> kind & 1))
                return mk_fail(MINKE_EFORMAT, "prompts: line %zu: %s", line,
                               kind == MK_PROMPTS ? "one of proof, verify, meta, refine, solution,"
                                                    " evaluation expected" : "given twice");
            seen |= 1u << kind;
            begin = i + n;
        }
        i += n;
    }
    const int32_t rc = text_check(&p);

    if (rc == MINKE_OK)
        *out = p;
    return rc;
}

/* ---- Filling in ---------------------------------------------------------- */

void mk_prompts_fill(struct mk_text *out, struct mk_view prompt, const struct mk_fill *fills,
                     size_t n)
{
    size_t from = 0, i = 0;

    while (i < prompt.len) {
        size_t k = 0, len = 0;

        for (; prompt.data[i] == '{' && k < n; k++) {
            len = strlen(fills[k].name);
            if (prompt.len - i > len + 1 && prompt.data[i + len + 1] == '}'
                && memcmp(prompt.data + i + 1, fills[k].name, len) == 0)
                break;
        }
        if (prompt.data[i] != '{' || k == n) {
            i++;
            continue;
        }
        mk_text_add(out, prompt.data + from, i - from);
        mk_text_add(out, fills[k].value.data, fills[k].value.len);
        i += len + 2;
        from = i;
    }
    mk_text_add(out, prompt.data + from, prompt.len - from);
}

/* {number} counts from 1, {index} from 0. */
static void text_candidate(struct mk_text *out, struct mk_view prompt, uint32_t number,
                           uint32_t solution, const char *name, struct mk_view value)
{
    char digits[4][16];
    const uint32_t numbers[4] = {number + 1, number, solution + 1, solution};
    static const char *const names[4] = {"number", "index", "solution", "solution_index"};
    struct mk_fill fills[5];

    for (size_t i = 0; i < 4; i++) {
        const size_t n = mk_format(digits[i], sizeof(digits[i]), "%u", numbers[i]);

        fills[i] = (struct mk_fill){names[i], {digits[i], n}};
    }
    fills[4] = (struct mk_fill){name, value};
    mk_prompts_fill(out, prompt, fills, 5);
}

void mk_prompts_solution(struct mk_text *out, const struct mk_prompts *p, uint32_t solution,
                         struct mk_view proof)
{
    if (solution > 0)
        mk_text_adds(out, "\n\n\n");
    text_candidate(out, p->part[MK_PROMPT_SOLUTION], solution, solution, "proof", proof);
}

void mk_prompts_evaluation(struct mk_text *out, const struct mk_prompts *p, uint32_t solution,
                           uint32_t evaluation, struct mk_view rating)
{
    mk_text_adds(out, "\n\n");
    text_candidate(out, p->part[MK_PROMPT_EVALUATION], evaluation, solution, "rating", rating);
}

void mk_prompts_write(struct mk_text *out, const struct mk_prompts *p, int32_t ask,
                      struct mk_view problem, struct mk_view proof, struct mk_view rating)
{
    const size_t kind = ask == MINKE_ASK_VERIFY ? MK_PROMPT_VERIFY
                      : ask == MINKE_ASK_META ? MK_PROMPT_META
                      : ask == MINKE_ASK_REFINE ? MK_PROMPT_REFINE : MK_PROMPT_PROOF;
    struct mk_fill fills[5] = {{"problem", problem}, {"proof", proof}, {"rating", rating},
                               {"candidates", rating}, {"instruction", {"", 0}}};
    struct mk_text instruction;

    mk_text_init(&instruction, out->a);
    if (ask == MINKE_ASK_REFINE) {
        mk_prompts_fill(&instruction, p->part[MK_PROMPT_PROOF], fills, 1);
        fills[4].value = (struct mk_view){instruction.data, instruction.len};
    }
    if (instruction.failed)
        out->failed = 1;
    else
        mk_prompts_fill(out, p->part[kind], fills, 5);
    mk_text_free(&instruction);
}
