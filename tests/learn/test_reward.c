/* Rewards: exact rules. */
#include <math.h>

#include "minke.h"
#include "test.h"

TEST(overlong_answers_cost_up_to_one)
{
    static const uint64_t n[7] = {0, 16384, 16385, 18432, 20480, 20481, UINT64_MAX};
    static const double expected[7] = {0, 0, -1.0 / 4096, -0.5, -1, -1, -1};
    double r = 5;

    for (int i = 0; i < 7; i++) {
        CHECK_INT(minke_reward_overlong(n[i], 20480, 4096, &r), MINKE_OK);
        CHECK(fabs(r - expected[i]) < 1e-15);
    }
    CHECK_INT(minke_reward_overlong(10, 10, 0, &r), MINKE_OK);
    CHECK(fabs(r) < 1e-15);
    r = 5;
    CHECK_INT(minke_reward_overlong(10, 10, 11, &r), MINKE_EINVAL);
    CHECK(r > 4);
    CHECK_INT(minke_reward_overlong(10, 10, 1, NULL), MINKE_EINVAL);
}

/* ---- Answers ------------------------------------------------------------- */

static const char *boxed(const char *text)
{
    static char out[256];
    size_t begin, length;

    if (minke_reward_boxed(text, strlen(text), &begin, &length) < 0)
        return "none";
    memcpy(out, text + begin, length);
    out[length] = '\0';
    return out;
}

TEST(the_last_closed_box_of_the_answer_counts)
{
    CHECK_STR(boxed("so \\boxed{5}, no: \\boxed{ 6 }."), "6");
    CHECK_STR(boxed("\\boxed{\\frac{1}{2}}"), "\\frac{1}{2}");
    CHECK_STR(boxed("\\boxed{\\{1, 2\\}}"), "\\{1, 2\\}");
    CHECK_STR(boxed("\\boxed{1} and \\boxed{2"), "1");
    CHECK_STR(boxed("\\fbox{7}"), "7");
    CHECK_STR(boxed("\\boxed{a \\boxed{b}}"), "b");
    CHECK_STR(boxed("\\boxed{}"), "");
    CHECK_STR(boxed("no box"), "none");
    CHECK_STR(boxed("boxed{5}"), "none");
    CHECK_STR(boxed(""), "none");
    CHECK_STR(boxed("<think>\\boxed{1}</think>It is \\boxed{2}"), "2");
    CHECK_STR(boxed("\\boxed{1}</think>no answer"), "none");
    CHECK_STR(boxed("<think>perhaps \\boxed{1}"), "none");
}

static int equal(const char *a, const char *b, uint32_t flags)
{
    int32_t one = -1, two = -1;

    CHECK_INT(minke_reward_equal(a, strlen(a), b, strlen(b), flags, &one), MINKE_OK);
    CHECK_INT(minke_reward_equal(b, strlen(b), a, strlen(a), flags, &two), MINKE_OK);
    CHECK_INT(one, two);
    return one;
}

/* Pairs that are the same, then pairs that are not. */
static const char *const same[][2] = {
    {"12", "12.0"}, {"+5", "5"}, {"-0", "0"}, {".5", "0.50"}, {"5.", "5"}, {"007", "7"},
    {"1,234,567", "1234567"}, {"1{,}234", "1234"}, {"1\\,234", "1234"}, {"1 234", "1234"},
    {"1,234.5", "1234.5"}, {"1/2", "0.5"}, {"\\frac{1}{2}", "\\dfrac{2}{4}"}, {"\\frac12", "1/2"},
    {"\\tfrac{-1}{2}", "-0.5"}, {"-\\frac{-1}{2}", "1/2"}, {"\\frac{0.5}{2}", "1/4"},
    {"\\frac 1 2", "0.5"}, {"2\\frac{1}{3}", "7/3"}, {"2 1/3", "\\frac{7}{3}"},
    {"-2\\frac{1}{3}", "-7/3"}, {"1.5e3", "1500"}, {"1.5\\times10^{3}", "1500"},
    {"2\\cdot 10^{-3}", "0.002"}, {"3*10^2", "300"}, {"50%", "1/2"}, {"50\\%", "0.5"},
    {"$5$", "5"}, {"\\(5\\)", "5"}, {"\\text{5}", "5"}, {"{5}", "5"}, {"\\boxed{5}", "5"},
    {"\\boxed{\\boxed{5}}", "5"},
    {"\\mathbf{5}", "5"}, {"x=5", "5"}, {"x = 5", "x=5"}, {"5\\text{ cm}", "5"},
    {"5 \\mathrm{cm}", "5\\text{ cm}"}, {"90^\\circ", "90"}, {"90^{\\circ}", "90\xC2\xB0"},
    {"\\$5", "5.00"}, {"\xE2\x88\x92" "5", "-5"}, {"  5 ", "5."}, {"\\text{ yes }", "yes"},
    {"5 cm", "5\\text{ cm}"}, {"\\left(1,2\\right)", "(1, 2)"}, {"x^2+1", "x^2 + 1"},
    {"\\dfrac{a}{b}", "\\frac{a}{b}"}, {"100000000000000000000001", "100000000000000000000001.0"},
    {"0.1", "\\frac{1}{10}"}, {"1/3", "333/999"}, {"1e400", "10e399"}, {"1/0", "1/0"},
    {"5\\text{ million}", "5\\text{ million}"}, {"north east", "north  east"},
};
static const char *const different[][2] = {
    {"12", "13"}, {"0.333", "1/3"}, {"5", "-5"}, {"50%", "50"}, {"50%", "5%"}, {"3,14", "3.14"},
    {"1,23", "123"}, {"12 34", "1234"}, {"1,2345", "12345"}, {"5\\text{ cm}", "5\\text{ m}"},
    {"5\\text{ million}", "5"}, {"x=5", "y=5"}, {"5x", "5"}, {"2 1/3", "21/3"}, {"1/0", "2/0"},
    {"100000000000000000000001", "100000000000000000000002"}, {"1e400", "1e399"},
    {"", ""}, {"", "0"}, {"(1,2)", "1,2"}, {"a b", "ab"}, {"--5", "5"}, {"5e", "5"},
    {"\\frac{1}{}", "1"}, {"\\frac{1}{2", "1/2"}, {"10^12", "100"}, {"Yes", "yes"},
};

TEST(answers_are_compared_as_exact_numbers_or_as_texts)
{
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++)
        if (!equal(same[i][0], same[i][1], 0)) {
            fprintf(stderr, "%s and %s\n", same[i][0], same[i][1]);
            CHECK(0);
        }
    for (size_t i = 0; i < sizeof different / sizeof different[0]; i++)
        if (equal(different[i][0], different[i][1], 0)) {
            fprintf(stderr, "%s and %s\n", different[i][0], different[i][1]);
            CHECK(0);
        }
    CHECK(equal("50%", "50", MINKE_REWARD_PERCENT_UNIT));
    CHECK(!equal("50%", "0.5", MINKE_REWARD_PERCENT_UNIT));
    CHECK(!equal("5\\text{ cm}", "5", MINKE_REWARD_SAME_UNITS));
    CHECK(!equal("\\$5", "5", MINKE_REWARD_SAME_UNITS));
}

/* What an earlier answer left on the stack says nothing of a brace that closes nothing. */
TEST(a_brace_too_many_stands_for_itself)
{
    for (int i = 0; i < 2; i++) {
        CHECK(equal(i == 0 ? "\\text{a}" : "\\mathbf{a}", "a", 0));
        CHECK(equal("}", "}", 0));
        CHECK(equal("1y}234\\text{ cm}", " 1y}234\\text{ cm} ", 0));
        CHECK(!equal("a}", "a", 0));
        CHECK(!equal("7}", "7", 0));
    }
}

TEST(a_boxed_answer_earns_one)
{
    const char *reply = "<think>\\boxed{3}</think>Thus \\boxed{\\frac{1}{2}}.";
    double r = 5;

    CHECK_INT(minke_reward_answer(reply, strlen(reply), "0.5", 3, 0, &r), MINKE_OK);
    CHECK(fabs(r - 1) < 1e-15);
    CHECK_INT(minke_reward_answer(reply, strlen(reply), "3", 1, 0, &r), MINKE_OK);
    CHECK(fabs(r) < 1e-15);
    CHECK_INT(minke_reward_answer("0.5", 3, "0.5", 3, 0, &r), MINKE_OK);
    CHECK(fabs(r) < 1e-15);
    CHECK_INT(minke_reward_answer(reply, strlen(reply), "3", 1, 4, &r), MINKE_EVERSION);
    CHECK_INT(minke_reward_answer(NULL, 3, "3", 1, 0, &r), MINKE_EINVAL);
}

/* Every piece of these, in any order, must only be read within its bytes. */
TEST(hostile_answers_are_only_different)
{
    static const char *const parts[] = {"\\frac", "{", "}", "\\boxed{", "1", ",", "e9", "\\text{",
                                        "*10^", "/", "%", "\\", "$", " ", "-", ".", "\xC2", "=",
                                        "99999999", "\1", "\2", "\3", "^\\circ", "</think>"};
    const size_t n_parts = sizeof parts / sizeof parts[0];
    uint32_t random = 1;

    for (int round = 0; round < 20000; round++) {
        char *text[2];
        size_t len[2];
        int32_t out = -1;

        for (int k = 0; k < 2; k++) {
            char buffer[512];

            len[k] = 0;
            for (uint32_t n = (uint32_t)round % 24u; n > 0; n--) {
                random = random * 1664525u + 1013904223u;
                const char *part = parts[(random >> 8) % n_parts];
                memcpy(buffer + len[k], part, strlen(part));
                len[k] += strlen(part);
            }
            text[k] = malloc(len[k] + 1);
            memcpy(text[k], buffer, len[k]);
        }
        /* no NUL behind: a sanitizer sees what is read beyond */
        text[0] = realloc(text[0], len[0] > 0 ? len[0] : 1);
        text[1] = realloc(text[1], len[1] > 0 ? len[1] : 1);
        CHECK_INT(minke_reward_equal(text[0], len[0], text[1], len[1], 0, &out), MINKE_OK);
        CHECK(out == 0 || out == 1);
        if (len[0] > 0 && len[0] != len[1]) {
            size_t begin = 0, length = 0;

            if (minke_reward_boxed(text[0], len[0], &begin, &length) == MINKE_OK)
                CHECK(begin + length <= len[0]);
        }
        free(text[0]);
        free(text[1]);
    }
}

TEST(long_texts_take_linear_time)
{
    const size_t n = 700000;
    char *text = malloc(n);
    size_t begin, length;
    double share;

    for (size_t i = 0; i < n; i++)
        text[i] = "\\boxed{"[i % 7];
    CHECK_INT(minke_reward_boxed(text, n, &begin, &length), MINKE_EFORMAT);
    for (size_t i = 0; i < n; i++)
        text[i] = "$a\\(\\[`"[i % 7];
    CHECK_INT(minke_reward_language(text, n, "en", &share), MINKE_OK);
    memset(text, '1', n);
    int32_t out = -1;
    CHECK_INT(minke_reward_equal(text, n, text, n, 0, &out), MINKE_OK);
    CHECK_INT(out, 1);
    CHECK_INT(minke_reward_equal(text, 2048, text, 2047, 0, &out), MINKE_OK);
    CHECK_INT(out, 0);
    free(text);
}

/* ---- Format -------------------------------------------------------------- */

static double format(const char *text, uint32_t rule)
{
    double r = -1;

    CHECK_INT(minke_reward_format(text, strlen(text), rule, &r), MINKE_OK);
    return r;
}

TEST(thinking_stands_in_front_and_once)
{
    CHECK(format("<think>a</think>b", MINKE_REWARD_FORMAT_THINK) > 0);
    CHECK(format("<think></think>", MINKE_REWARD_FORMAT_THINK) > 0);
    CHECK(format("<think>a\nb</think>\n\nc</think>", MINKE_REWARD_FORMAT_THINK) > 0);
    CHECK(format(" <think>a</think>b", MINKE_REWARD_FORMAT_THINK) <= 0);
    CHECK(format("<think>a<think></think>b", MINKE_REWARD_FORMAT_THINK) <= 0);
    CHECK(format("<think>a</think>b<think>", MINKE_REWARD_FORMAT_THINK) <= 0);
    CHECK(format("<think>a", MINKE_REWARD_FORMAT_THINK) <= 0);
    CHECK(format("a</think>b", MINKE_REWARD_FORMAT_THINK) <= 0);
    CHECK(format("", MINKE_REWARD_FORMAT_THINK) <= 0);
}

TEST(answers_stand_behind_thinking)
{
    CHECK(format("<think>a</think>\n<answer>b</answer>\n", MINKE_REWARD_FORMAT_ANSWER) > 0);
    CHECK(format("<think>a</think><answer></answer>", MINKE_REWARD_FORMAT_ANSWER) > 0);
    CHECK(format("<think>a</think>b", MINKE_REWARD_FORMAT_ANSWER) <= 0);
    CHECK(format("<think>a</think>b<answer>b</answer>", MINKE_REWARD_FORMAT_ANSWER) <= 0);
    CHECK(format("<think>a</think><answer>b</answer>c", MINKE_REWARD_FORMAT_ANSWER) <= 0);
    CHECK(format("<think><answer>a</answer></think>", MINKE_REWARD_FORMAT_ANSWER) <= 0);
    CHECK(format("<think>a</think></answer><answer>", MINKE_REWARD_FORMAT_ANSWER) <= 0);
    double r = 5;
    CHECK_INT(minke_reward_format("", 0, 2, &r), MINKE_EINVAL);
    CHECK(r > 4);
}

/* ---- Language ------------------------------------------------------------ */

static double language(const char *text, const char *script)
{
    double r = -1;

    CHECK_INT(minke_reward_language(text, strlen(text), script, &r), MINKE_OK);
    return r;
}

#define SHARE(text, script, share) CHECK(fabs(language(text, script) - (share)) < 1e-15)

TEST(words_are_counted_by_script)
{
    SHARE("The whale dives", "en", 1);
    SHARE("The whale dives", "zh", 0);
    SHARE("don't, na\xC3\xAFve l\xE2\x80\x99" "ami", "latin", 1);
    /* "GPT" and four characters, each a word: 4 of 5 */
    SHARE("GPT\xE6\xA8\xA1\xE5\x9E\x8B\xE5\xBE\x88\xE5\xA4\xA7", "zh", 0.8);
    /* Hiragana two, Han one, Latin one word */
    SHARE("\xE9\xAF\xA8\xE3\x81\xAE\xE3\x81\xAF whale", "ja", 0.75);
    SHARE("\xE9\xAF\xA8\xE3\x81\xAE\xE3\x81\xAF whale", "han", 0.25);
    /* Hangul words are runs: two of three */
    SHARE("\xEA\xB3\xA0\xEB\x9E\x98 \xEA\xB3\xA0\xEB\x9E\x98 whale", "ko", 2.0 / 3);
    SHARE("\xD0\xBA\xD0\xB8\xD1\x82 whale", "ru", 0.5);
    SHARE("", "en", 0);
    SHARE("12 + 3 = 15", "en", 0);
}

TEST(code_and_mathematics_are_no_words)
{
    SHARE("<think>\xE9\xAF\xA8 $x + y$ \\(a b\\) `code` ```more code``` \\alpha</think>", "zh", 1);
    SHARE("\xE9\xAF\xA8 $$x$$ \\[ y \\]", "zh", 1);
    SHARE("\xE9\xAF\xA8 $5 and $6", "zh", 0.5);      /* money: "and" counts */
    SHARE("\xE9\xAF\xA8 `open", "zh", 0.5);
    SHARE("\xE9 \xFF\xFE", "zh", 0);
    double r = 5;
    CHECK_INT(minke_reward_language("a", 1, "klingon", &r), MINKE_EINVAL);
    CHECK_HAS(minke_last_error(), "klingon");
    CHECK(r > 4);
}

/* ---- Rubrics ------------------------------------------------------------- */

TEST(rubrics_are_weighed_by_the_sum_of_absolute_weights)
{
    static const double scores[3] = {1, 0.5, 1}, weights[3] = {3, 2, -1}, none[3];
    static const double bad[3] = {0, NAN, 0};
    double r = 5;

    CHECK_INT(minke_reward_rubric(scores, none, 3, &r), MINKE_EINVAL);
    CHECK_INT(minke_reward_rubric(bad, NULL, 3, &r), MINKE_EINVAL);
    CHECK_HAS(minke_last_error(), "scores[1] is nan");
    CHECK_INT(minke_reward_rubric(scores, bad, 3, &r), MINKE_EINVAL);
    CHECK_INT(minke_reward_rubric(scores, NULL, 0, &r), MINKE_EINVAL);
    CHECK(r > 4);
    CHECK_INT(minke_reward_rubric(scores, weights, 3, &r), MINKE_OK);
    CHECK(fabs(r - (3 + 1 - 1) / 6.0) < 1e-15);
    CHECK_INT(minke_reward_rubric(scores, NULL, 3, &r), MINKE_OK);
    CHECK(fabs(r - 2.5 / 3) < 1e-15);
}

/* ---- Judges -------------------------------------------------------------- */

/* Answers request i with replies[i], cut at "|"; keeps what it was asked. */
struct judge_script {
    const char *const *replies;
    int32_t reason;
    int n_calls, stop_at;
    uint64_t seeds[4];
    char prompt[4096];
};

static int32_t judge_script(void *user, int32_t ask, uint64_t seed, const char *prompt,
                            size_t prompt_len, uint32_t n, minke_take_fn take, void *sink)
{
    struct judge_script *s = user;
    const char *reply = s->replies[s->n_calls];

    (void)n;
    CHECK_INT(ask, MINKE_ASK_JUDGE);
    s->seeds[s->n_calls] = seed;
    CHECK(prompt_len < sizeof s->prompt);
    memcpy(s->prompt, prompt, prompt_len);
    s->prompt[prompt_len] = '\0';
    if (s->n_calls++ == s->stop_at)
        return 1;
    while (*reply != '\0') {             /* all of them, whatever take says */
        const size_t len = strcspn(reply, "|");

        take(sink, reply, len, s->reason, 0);
        reply += len + (reply[len] == '|');
    }
    return 0;
}

static const char *const rubrics[3] = {"It is {answer}.", "It is short.", "It is rude."};
static const size_t rubric_lens[3] = {15, 12, 11};

/* What asks s to judge an answer by the three. */
static minke_judge_params judged_by(struct judge_script *s)
{
    minke_judge_params p;

    minke_judge_params_init(&p, sizeof p);
    p.question = "Why {rubric}?";
    p.question_len = 13;
    p.answer = "Because.";
    p.answer_len = 8;
    p.rubrics = rubrics;
    p.rubric_lens = rubric_lens;
    p.n_rubrics = 3;
    p.complete = judge_script;
    p.user = s;
    return p;
}

TEST(judges_score_each_rubric)
{
    /* 2, (1 + 1.5) / 2 with garbage left out, 0.  A third judgement of two is not taken. */
    static const char *const replies[3] = {"\\boxed{2}|\\boxed{2}|\\boxed{0}",
                                           "\\boxed{1}|<think>\\boxed{2}</think> \\boxed{1.5}",
                                           "\\boxed{3}|\\boxed{0}"};
    static const double weights[3] = {2, 1, -1};
    struct judge_script s = {.replies = replies, .reason = MINKE_FINISH_STOP, .stop_at = -1};
    minke_judge_params p = judged_by(&s);
    double reward = 5, scores[3];

    p.n_samples = 2;
    p.seed = 100;
    p.weights = weights;
    CHECK_INT(minke_judge(&p, &reward, scores), MINKE_OK);
    CHECK(fabs(scores[0] - 1) < 1e-15 && fabs(scores[1] - 0.625) < 1e-15);
    CHECK(fabs(scores[2]) < 1e-15);
    CHECK(fabs(reward - 2.625 / 4) < 1e-15);
    CHECK_INT(s.seeds[1], 102);
    CHECK_HAS(s.prompt, "Why {rubric}?");          /* what was put in is not filled in again */
    CHECK_HAS(s.prompt, "It is rude.");
    CHECK_HAS(s.prompt, "to 2 (met in full)");
}

TEST(judges_that_fail_count_as_nothing_with_their_weight)
{
    static const char *const replies[3] = {"good", "\\boxed{2}", "\\boxed{nan}|\\boxed{-1}"};
    struct judge_script s = {.replies = replies, .reason = MINKE_FINISH_STOP, .stop_at = -1};
    const minke_judge_params p = judged_by(&s);
    double reward = 5, scores[3];

    CHECK_INT(minke_judge(&p, &reward, scores), MINKE_OK);
    CHECK(scores[0] < 0 && fabs(scores[1] - 1) < 1e-15 && scores[2] < 0);
    CHECK(fabs(reward - 1.0 / 3) < 1e-15);
    s = (struct judge_script){.replies = replies, .reason = MINKE_FINISH_LENGTH, .stop_at = -1};
    CHECK_INT(minke_judge(&p, &reward, scores), MINKE_OK);
    CHECK(scores[1] < 0 && fabs(reward) < 1e-15);
}

TEST(judges_are_stopped_and_wrong_input_asks_nobody)
{
    static const char *const replies[3] = {"\\boxed{2}", "", ""};
    static const double weights[3] = {0, 0, 0};
    struct judge_script s = {.replies = replies, .reason = MINKE_FINISH_STOP, .stop_at = 1};
    const minke_judge_params good = judged_by(&s);
    minke_judge_params p = good;
    double reward = 5, scores[3] = {5, 5, 5};

    CHECK_INT(minke_judge(&p, &reward, scores), MINKE_ECANCELED);
    CHECK_INT(s.n_calls, 2);
    s.n_calls = 0;
    p.weights = weights;
    CHECK_INT(minke_judge(&p, &reward, scores), MINKE_EINVAL);
    p = good;
    p.n_rubrics = 0;
    CHECK_INT(minke_judge(&p, &reward, scores), MINKE_EINVAL);
    p = good;
    p.complete = NULL;
    CHECK_INT(minke_judge(&p, &reward, scores), MINKE_EINVAL);
    p = good;
    p.answer = NULL;
    CHECK_INT(minke_judge(&p, &reward, scores), MINKE_EINVAL);
    CHECK_INT(minke_judge(NULL, &reward, scores), MINKE_EINVAL);
    CHECK_INT(minke_judge(&good, NULL, scores), MINKE_EINVAL);
    CHECK_INT(s.n_calls, 0);
    CHECK(reward > 4 && scores[0] > 4);
}

TEST_MAIN(RUN(overlong_answers_cost_up_to_one), RUN(the_last_closed_box_of_the_answer_counts),
          RUN(answers_are_compared_as_exact_numbers_or_as_texts),
          RUN(a_brace_too_many_stands_for_itself), RUN(a_boxed_answer_earns_one),
          RUN(hostile_answers_are_only_different), RUN(long_texts_take_linear_time),
          RUN(thinking_stands_in_front_and_once), RUN(answers_stand_behind_thinking),
          RUN(words_are_counted_by_script), RUN(code_and_mathematics_are_no_words),
          RUN(rubrics_are_weighed_by_the_sum_of_absolute_weights),
          RUN(judges_score_each_rubric), RUN(judges_that_fail_count_as_nothing_with_their_weight),
          RUN(judges_are_stopped_and_wrong_input_asks_nobody))
