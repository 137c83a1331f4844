/* Scores, sections, prompts and rewards of proofs.  What the released code reads was found by
 * running it (DeepSeek-Math-V2 inference/utils.py @665c840). */
#include <math.h>

#include "minke.h"
#include "test.h"

#define HERE "Here is my evaluation of the solution:"
#define BASED "Based on my evaluation, the final overall score should be:"
#define OVERAL "Based on my evaluation, the final overal score should be:"

/* -1000 when there is none. */
static double score(const char *text, uint32_t mode)
{
    double s = -1000;

    const int32_t status = minke_proof_score(text, strlen(text), mode, &s);

    CHECK(status == MINKE_OK || status == MINKE_EFORMAT);
    CHECK(status == MINKE_OK || s == -1000);
    return s;
}

static double released(const char *text)
{
    return score(text, MINKE_PROOF_MODE_RELEASED);
}

static char solution[4096], evaluation[4096];

static int split(const char *text, uint32_t mode)
{
    char parts[4096];
    size_t n = 0, m = 0;
    const int32_t status = minke_proof_split(text, strlen(text), mode, parts, sizeof parts, &n, &m);

    solution[0] = evaluation[0] = '\0';
    CHECK(status == MINKE_OK || status == MINKE_EFORMAT);
    if (status != MINKE_OK)
        return 0;
    memcpy(solution, parts, n);
    memcpy(evaluation, parts + n, m);
    solution[n] = evaluation[m] = '\0';
    return 1;
}

#define CHECK_SPLIT(text, a, b)                          \
    do {                                                 \
        CHECK(split(text, MINKE_PROOF_MODE_RELEASED));        \
        CHECK_STR(solution, a);                          \
        CHECK_STR(evaluation, b);                        \
        CHECK(split(text, MINKE_PROOF_MODE_DEFAULT));         \
        CHECK_STR(solution, a);                          \
    } while (0)

/* ---- Scores ---- */

TEST(the_last_box_that_is_not_blank_is_the_score)
{
    CHECK(released("\\boxed{0.5}") == 0.5);
    CHECK(released("\\boxed{0} then \\boxed{1}") == 1);
    CHECK(released("\\boxed{1} then \\boxed{ }") == 1);
    CHECK(released("\\boxed{ 0.5\n}") == 0.5);
    CHECK(released("") == -1000);
    CHECK(released("no box") == -1000);
}

TEST(a_box_needs_no_backslash_and_must_be_closed)
{
    CHECK(released("boxed{1}") == 1);
    CHECK(released("\\fboxed{0.5}") == 0.5);
    CHECK(released("\\boxed{1") == -1000);
    CHECK(released("\\boxed{0} \\boxed{1") == 0);
    CHECK(released("\\boxed {1}") == -1000);
}

TEST(braces_in_a_box_are_matched_and_a_nested_box_is_a_box)
{
    CHECK(released("\\boxed{{0.5}}") == -1000);
    CHECK(released("\\boxed{\\frac{1}{2}}") == -1000);
    CHECK(released("\\boxed{a \\boxed{1} b}") == 1);
}

TEST(a_percent_sign_behind_the_brace_spoils_the_score)
{
    CHECK(released("\\boxed{1}%") == -1000);
    CHECK(released("\\boxed{1} %") == 1);
    CHECK(released("\\boxed{1}%\\boxed{0}") == 0);
    CHECK(released("\\boxed{0} \\boxed{}%") == -1000);   /* "}" is not blank */
}

TEST(scores_are_read_as_python_reads_floats)
{
    static const struct {
        const char *text;
        double value;
    } good[] = {{"1.0", 1}, {".5", .5}, {"1.", 1}, {"2", 2}, {"-1", -1}, {"+0.5", .5},
                {"1e-1", .1}, {"5E-1", .5}, {"1_0", 10}, {"0_0.2_5", .25}, {"00.5", .5},
                {"1e400", INFINITY}, {"inf", INFINITY}, {"-Infinity", -INFINITY}};
    static const char *const bad[] = {"1/2", "{0.5}", "\\frac{1}{2}", "0,5", "1 0", "_1", "1_",
                                      "1__0", ".", "e1", "1e", "0x1", "one", "1.0.0", "--1",
                                      "infinit", "1_.5", "1._5"};
    char text[64];

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        snprintf(text, sizeof text, "\\boxed{%s}", good[i].text);
        CHECK(released(text) == good[i].value);
    }
    CHECK(isnan(released("\\boxed{nan}")) && isnan(released("\\boxed{-NaN}")));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(text, sizeof text, "\\boxed{%s}", bad[i]);
        CHECK(released(text) == -1000);
    }
}

TEST(by_default_a_score_outside_0_to_1_is_none)
{
    CHECK(score("\\boxed{0.75}", MINKE_PROOF_MODE_DEFAULT) == .75);
    CHECK(score("\\boxed{2}", MINKE_PROOF_MODE_DEFAULT) == -1000);
    CHECK(score("\\boxed{-0.5}", MINKE_PROOF_MODE_DEFAULT) == -1000);
    CHECK(score("\\boxed{nan}", MINKE_PROOF_MODE_DEFAULT) == -1000);
    CHECK(score("\\boxed{inf}", MINKE_PROOF_MODE_DEFAULT) == -1000);
}

TEST(reasoning_in_front_is_left_out)
{
    CHECK(released("<think>\\boxed{0}</think>\\boxed{1}") == 1);
    CHECK(released("\\boxed{1}</think> nothing") == -1000);
    CHECK(released("a</think>\\boxed{0}</think>\\boxed{.5}") == .5);
}

TEST(the_strict_score_needs_both_phrases_and_one_of_three_values)
{
    const uint32_t strict = MINKE_PROOF_MODE_STRICT;

    CHECK(score(HERE "\nFine.\n\n" BASED "\n\\boxed{1}", strict) == 1);
    CHECK(score(HERE "\nFine.\n\n" OVERAL "\n\n\\boxed{0.5}\n", strict) == .5);
    CHECK(score("x</think>" HERE BASED "\\boxed{0}", strict) == 0);
    CHECK(score("Here is my analysis of the \"solution evaluation\":\n"
                "Based on my analysis, I will rate the \"solution evaluation\" as:\n\\boxed{1}",
                strict) == 1);
    CHECK(score("So: " HERE BASED "\\boxed{1}", strict) == -1000);
    CHECK(score(HERE "\\boxed{1}", strict) == -1000);
    CHECK(score(BASED "\\boxed{1}", strict) == -1000);
    CHECK(score(HERE BASED "\\boxed{1.0}", strict) == -1000);
    CHECK(score(HERE BASED "\\boxed{0.25}", strict) == -1000);
    CHECK(score(HERE BASED "boxed{1}", strict) == -1000);
    CHECK(score(HERE BASED "\\boxed{1} and no more", strict) == -1000);
    CHECK(score(HERE BASED "\\boxed{0} \\boxed{1}", strict) == -1000);
}

/* ---- Sections ---- */

TEST(sections_stand_under_their_headings)
{
    CHECK_SPLIT("## Solution\nA\nB\n\n## Self Evaluation\nC\n", "A\nB", "C");
    CHECK_SPLIT("Well.\n## Solution \n\n A \n## Self Evaluation\t\nC", "A", "C");
    CHECK_SPLIT("x</think>## Solution\nA\n## Self Evaluation\nC", "A", "C");
}

TEST(headings_in_stars_are_headings)
{
    CHECK_SPLIT("**Solution**\nA\n**Self Evaluation**\nC", "A", "C");
    CHECK_SPLIT("*Solution*\nA\n\n  ** Self Evaluation **  \n\nC", "A", "C");
    CHECK_SPLIT("***Solution*\nA\n* \nSelf Evaluation*\nC", "A", "C");
    CHECK(!split("**Solution\nA\n**Self Evaluation**\nC", MINKE_PROOF_MODE_RELEASED));
    CHECK(!split("**Solution** A\n**Self Evaluation**\nC", MINKE_PROOF_MODE_RELEASED));
    CHECK(!split("**Solution**\nA\n**Self evaluation**\nC", MINKE_PROOF_MODE_RELEASED));
}

TEST(a_heading_may_be_part_of_its_line)
{
    CHECK_SPLIT("### Solution\nA\n## Self Evaluation\nC", "A", "C");
    CHECK_SPLIT("My ## Solution\nA\n## Self Evaluation\nC", "A", "C");
    CHECK(!split("## Solution: A\n## Self Evaluation\nC", MINKE_PROOF_MODE_RELEASED));
    CHECK(!split("## Solution\nA\n### Self Evaluation\nC", MINKE_PROOF_MODE_RELEASED));
}

TEST(of_two_solutions_the_first_counts)
{
    CHECK_SPLIT("## Solution\nA\n## Solution\nB\n## Self Evaluation\nC", "A", "C");
    CHECK_SPLIT("## Solution\nA\n## Self Evaluation\nC\n## Self Evaluation\nD", "A", "C");
    CHECK_SPLIT("## Solution\nA\n## Self Evaluation\nC\n**Solution**\nB", "A",
                "C\n## Solution\nB");
}

TEST(a_missing_section_drops_the_proof)
{
    static const char *const bad[] = {
        "", "## Solution\nA", "## Self Evaluation\nC", "A", "## Self Evaluation\nC\n## Solution\nA",
        "## Solution\nA\n## Self Evaluation", "## Solution\n\n\n## Self Evaluation\nC",
        "## Solution## Self Evaluation"};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(!split(bad[i], MINKE_PROOF_MODE_RELEASED));
    CHECK(split("## Solution\nA\n## Self Evaluation\n\nC", MINKE_PROOF_MODE_RELEASED));
}

TEST(white_space_is_unicodes)
{
    CHECK_SPLIT("\xC2\xA0## Solution\xE3\x80\x80\nA\n\xE2\x80\x83**Self Evaluation**\xC2\x85\n\x1C"
                "C\xC2\xA0", "A", "C");
}

TEST(the_strict_mode_takes_the_form_as_it_was_asked_for)
{
    const uint32_t strict = MINKE_PROOF_MODE_STRICT;

    CHECK(split("## Solution\nA\n\n## Self Evaluation\n" HERE "\nC\n" BASED "\n\\boxed{1}",
                strict));
    CHECK_STR(solution, "A");
    CHECK_HAS(evaluation, HERE);
#define END "\n## Self Evaluation\n" HERE BASED "\\boxed{1}"
    CHECK(!split("Well.\n## Solution\nA" END, strict));
    CHECK(!split("### Solution\nA" END, strict));
    CHECK(!split("**Solution**\nA" END, strict));
    CHECK(!split("## Solution\n\n" END, strict));
    CHECK(!split("## Solution\nA\n## Solution\nB" END, strict));
    CHECK(!split("## Solution\nA" END END, strict));
    CHECK(!split("## Solution\nA\n## Self Evaluation\nC\n\\boxed{1}", strict));
}

TEST(long_runs_of_headings_and_blanks_take_linear_time)
{
    const size_t n = (size_t)1 << 22;
    char *text = malloc(n);
    size_t a, b;
    double s;

    for (size_t k = 0; k < 5; k++) {
        static const char *const unit[] = {"\n", "\n*", "## Solution ", "boxed{",
                                           "\n## Solution\n"};
        const size_t len = strlen(unit[k]);

        for (size_t i = 0; i < n; i++)
            text[i] = unit[k][i % len];
        CHECK_INT(minke_proof_split(text, n, MINKE_PROOF_MODE_RELEASED, NULL, 0, &a, &b),
                  MINKE_EFORMAT);
        CHECK_INT(minke_proof_score(text, n, MINKE_PROOF_MODE_RELEASED, &s), MINKE_EFORMAT);
    }
    free(text);
}

TEST(outputs_stay_untouched_when_there_is_no_room)
{
    char parts[4] = "xyz";
    size_t n = 7, m = 7;
    static const char text[] = "## Solution\nAB\n## Self Evaluation\nCD";

    CHECK_INT(minke_proof_split(text, sizeof text - 1, 0, parts, 3, &n, &m), MINKE_ENOSPC);
    CHECK_INT(n, 2);
    CHECK_INT(m, 2);
    CHECK_STR(parts, "xyz");
    CHECK_INT(minke_proof_split(text, sizeof text - 1, 3, parts, 3, &n, &m), MINKE_EVERSION);
    CHECK_INT(minke_proof_split(NULL, 1, 0, parts, 3, &n, &m), MINKE_EINVAL);
    CHECK_INT(minke_proof_split(text, 3, 0, NULL, 3, &n, &m), MINKE_EINVAL);
}

/* ---- Prompts ---- */

static char prompt[16384];

static int32_t ask(int32_t kind, const char *prompts, const char *problem, const char *proof,
                   const char *rating)
{
    minke_proof_prompt_params p;
    size_t n = 0;
    int32_t status;

    minke_proof_prompt_params_init(&p, sizeof p);
    p.ask = kind;
    p.problem = problem;
    p.problem_len = problem != NULL ? strlen(problem) : 0;
    p.proof = proof;
    p.proof_len = proof != NULL ? strlen(proof) : 0;
    p.rating = rating;
    p.rating_len = rating != NULL ? strlen(rating) : 0;
    p.prompts = prompts;
    p.prompts_len = prompts != NULL ? strlen(prompts) : 0;
    status = minke_proof_prompt(&p, prompt, sizeof prompt - 1, &n);
    if (status == MINKE_OK)
        prompt[n] = '\0';
    return status;
}

TEST(prompts_hold_their_key_phrases)
{
    CHECK_INT(ask(MINKE_ASK_PROOF, NULL, " Show it. \n", NULL, NULL), MINKE_OK);
    CHECK_HAS(prompt, "## Problem\nShow it.");
    CHECK_HAS(prompt, "\n## Solution\n");
    CHECK_HAS(prompt, "\n## Self Evaluation\n" HERE);
    CHECK_HAS(prompt, BASED "\n\\boxed{...}");
    CHECK_INT(ask(MINKE_ASK_VERIFY, NULL, "P", "Q", NULL), MINKE_OK);
    CHECK_HAS(prompt, HERE);
    CHECK_HAS(prompt, "## Problem\nP\n\n## Solution\nQ");
    CHECK_INT(ask(MINKE_ASK_META, NULL, "P", "Q", "R"), MINKE_OK);
    CHECK_HAS(prompt, "Here is my analysis of the \"solution evaluation\":");
    CHECK_HAS(prompt, "Based on my analysis, I will rate the \"solution evaluation\" as:");
    CHECK_HAS(prompt, "## Solution\nQ\n\n## Solution Evaluation\nR");
    CHECK_INT(ask(MINKE_ASK_REFINE, NULL, "P", "Q", "R"), MINKE_OK);
    CHECK_HAS(prompt, "## Problem\nP\n\n## Candidate Solution(s) to Refine\n");
    CHECK_HAS(prompt, "--- Solution 1 ---\nQ\n\n=== Evaluation 1 of Solution 1 ===\nR\n\n## Final");
}

TEST(braces_in_a_problem_are_safe)
{
#define BRACES "{proof} {problem} {} \\frac{1}{2} {{x}}"
    CHECK_INT(ask(MINKE_ASK_VERIFY, NULL, BRACES, "{rating}", "no"), MINKE_OK);
    CHECK_HAS(prompt, "## Problem\n" BRACES "\n\n## Solution\n{rating}");
    CHECK(strstr(prompt, "no\n") == NULL);
    CHECK_INT(ask(MINKE_ASK_REFINE, NULL, "{candidates} {instruction}", "Q", NULL), MINKE_OK);
    CHECK_HAS(prompt, "## Problem\n{candidates} {instruction}\n");
}

TEST(prompts_are_replaced_from_a_file)
{
    static const char file[] = "A comment.\n@prompt proof\n\nSolve {problem}, \\boxed{...}{x}.\n\n"
                               "@prompt solution\n[{index}] {proof}\n"
                               "@prompt evaluation \n<{index}/{solution_index}/{solution}> "
                               "{rating}";

    CHECK_INT(ask(MINKE_ASK_PROOF, file, "P", NULL, NULL), MINKE_OK);
    CHECK_STR(prompt, "Solve P, \\boxed{...}{x}.");
    CHECK_INT(ask(MINKE_ASK_REFINE, file, "P", "Q", "R"), MINKE_OK);
    CHECK_HAS(prompt, "Solve P, \\boxed{...}{x}.\n\n## Candidate");
    CHECK_HAS(prompt, "[0] Q\n\n<0/0/1> R");
    CHECK_INT(ask(MINKE_ASK_VERIFY, file, "P", "Q", NULL), MINKE_OK);
    CHECK_HAS(prompt, HERE);
}

TEST(a_broken_file_of_prompts_is_refused_by_line_or_name)
{
    CHECK_INT(ask(MINKE_ASK_PROOF, "\n@prompt prof\nx", "P", NULL, NULL), MINKE_EFORMAT);
    CHECK_HAS(minke_last_error(), "line 2");
    CHECK_INT(ask(MINKE_ASK_PROOF, "@prompt proof\nno problem", "P", NULL, NULL), MINKE_EFORMAT);
    CHECK_HAS(minke_last_error(), "proof lacks {problem}");
    CHECK_INT(ask(MINKE_ASK_PROOF, "@prompt proof\n{problem}\n@prompt proof\n{problem}", "P", NULL,
                  NULL), MINKE_EFORMAT);
    CHECK_HAS(minke_last_error(), "twice");
    CHECK_INT(ask(MINKE_ASK_JUDGE, NULL, "P", NULL, NULL), MINKE_EINVAL);
    CHECK_INT(ask(MINKE_ASK_PROOF, "@prompt ", "P", NULL, NULL), MINKE_EFORMAT);
}

TEST(a_prompt_says_how_long_it_is_and_needs_a_purpose)
{
    minke_proof_prompt_params p;
    char text[4] = "xyz";
    size_t n = 7;

    CHECK_INT(ask(MINKE_ASK_PROOF, NULL, "P", NULL, NULL), MINKE_OK);
    minke_proof_prompt_params_init(&p, sizeof p);
    CHECK_INT(minke_proof_prompt(&p, text, 3, &n), MINKE_EINVAL);
    CHECK_HAS(minke_last_error(), "ask 0");
    CHECK_INT(minke_proof_prompt(NULL, text, 3, &n), MINKE_EINVAL);
    p.ask = MINKE_ASK_PROOF;
    p.problem_len = 1;
    CHECK_INT(minke_proof_prompt(&p, text, 3, &n), MINKE_EINVAL);
    CHECK_INT(n, 7);
    p.problem = "P";
    CHECK_INT(minke_proof_prompt(&p, text, 3, &n), MINKE_ENOSPC);
    CHECK_INT(n, strlen(prompt));
    CHECK_STR(text, "xyz");
    CHECK_INT(minke_proof_prompt(&p, NULL, 0, &n), MINKE_ENOSPC);
    CHECK_INT(minke_proof_prompt(&p, prompt, n, &n), MINKE_OK);
}

/* ---- Rewards ---- */

static double earned(const char *own, double truth, double meta)
{
    char text[512];
    double r = -1000;

    snprintf(text, sizeof text, "## Solution\nA\n\n## Self Evaluation\n%s", own);
    CHECK_INT(minke_proof_generator_reward(text, strlen(text), truth, meta, &r), MINKE_OK);
    return r;
}

static int near(double a, double b)
{
    return fabs(a - b) < 1e-12;
}

TEST(generators_earn_most_by_honesty)
{
    CHECK(near(earned(HERE BASED "\\boxed{1}", 1, 1), 1));       /* right and honest */
    CHECK(near(earned(HERE OVERAL "\\boxed{0}", 0, 1), .24));    /* wrong and honest */
    CHECK(near(earned(HERE BASED "\\boxed{1}", 0, 1), 0));       /* wrong, and claims 1 */
    CHECK(near(earned(HERE BASED "\\boxed{0.5}", .5, 1), .62));
    CHECK(near(earned(HERE BASED "\\boxed{1}", 1, 0), .76));
    CHECK(near(earned("\\boxed{1}", 1, 1), 0));                  /* phrases are missing */
    CHECK(near(earned(HERE BASED "one", 1, 1), 0));
    CHECK(near(earned(HERE "\\boxed{1}" BASED, 1, 1), 0));       /* the box stands in front */
}

TEST(verifiers_earn_by_agreement)
{
    static const char text[] = HERE "\nx\n" BASED "\n\\boxed{0.5}";
    double r;

    CHECK_INT(minke_proof_verifier_reward(text, sizeof text - 1, .5, 1, &r), MINKE_OK);
    CHECK(near(r, 1));
    CHECK_INT(minke_proof_verifier_reward(text, sizeof text - 1, 0, .5, &r), MINKE_OK);
    CHECK(near(r, .25));
    CHECK_INT(minke_proof_verifier_reward("\\boxed{1}", 9, 1, 1, &r), MINKE_OK);
    CHECK(near(r, 0));
    r = 3;
    CHECK_INT(minke_proof_verifier_reward(text, 4, NAN, 1, &r), MINKE_EINVAL);
    CHECK_INT(minke_proof_verifier_reward(text, 4, 1, 2, &r), MINKE_EINVAL);
    CHECK(r == 3);
}

static double label(const double *scores, const double *confirmed, size_t n, uint32_t k)
{
    double l = -1000;

    CHECK_INT(minke_proof_label(scores, confirmed, n, k, &l), MINKE_OK);
    return l;
}

TEST(labels_follow_the_lowest_score_that_is_confirmed)
{
    const double scores[4] = {1, .5, 0, .5}, all[4] = {0, 1, 1, 1}, none[4] = {1, .5, 0, .2};
    const double some[4] = {0, .6, .5, .9};
    double l = 3;

    CHECK(label(scores, all, 4, 1) == 0);
    CHECK(label(scores, all, 4, 2) == -1);
    CHECK(label(scores, some, 4, 2) == .5);
    CHECK(label(scores, some, 4, 3) == -1);
    CHECK(label(scores, none, 4, 2) == 1);
    CHECK(label(NULL, NULL, 0, 1) == -1);
    CHECK_INT(minke_proof_label((const double[]){NAN}, all, 1, 1, &l), MINKE_EINVAL);
    CHECK(l == 3);
}

TEST_MAIN(
    RUN(the_last_box_that_is_not_blank_is_the_score);
    RUN(a_box_needs_no_backslash_and_must_be_closed);
    RUN(braces_in_a_box_are_matched_and_a_nested_box_is_a_box);
    RUN(a_percent_sign_behind_the_brace_spoils_the_score);
    RUN(scores_are_read_as_python_reads_floats);
    RUN(by_default_a_score_outside_0_to_1_is_none);
    RUN(reasoning_in_front_is_left_out);
    RUN(the_strict_score_needs_both_phrases_and_one_of_three_values);
    RUN(sections_stand_under_their_headings);
    RUN(headings_in_stars_are_headings);
    RUN(a_heading_may_be_part_of_its_line);
    RUN(of_two_solutions_the_first_counts);
    RUN(a_missing_section_drops_the_proof);
    RUN(white_space_is_unicodes);
    RUN(the_strict_mode_takes_the_form_as_it_was_asked_for);
    RUN(long_runs_of_headings_and_blanks_take_linear_time);
    RUN(outputs_stay_untouched_when_there_is_no_room);
    RUN(prompts_hold_their_key_phrases);
    RUN(braces_in_a_problem_are_safe);
    RUN(prompts_are_replaced_from_a_file);
    RUN(a_broken_file_of_prompts_is_refused_by_line_or_name);
    RUN(a_prompt_says_how_long_it_is_and_needs_a_purpose);
    RUN(generators_earn_most_by_honesty);
    RUN(verifiers_earn_by_agreement);
    RUN(labels_follow_the_lowest_score_that_is_confirmed))
