/* Proofs that judge themselves: their parts and scores, prompts, rewards. */
#ifndef MK_PROOF_H
#define MK_PROOF_H

#include <stddef.h>
#include <stdint.h>

#include "base/json.h"

/* Without white space at both ends, as Python's str.strip. */
struct mk_view mk_proof_strip(const char *text, size_t len);

/* What stands behind the last "</think>", stripped.  *n_before: bytes up to there, 0 when there is
 * none; may be NULL. */
struct mk_view mk_proof_answer(const char *text, size_t len, size_t *n_before);

/* Content of the last \boxed{} that is not blank, stripped; text NULL when there is none. */
struct mk_view mk_proof_boxed(const char *text, size_t len);

/* A stripped text that Python's float() takes.  0, or -1 when it is another. */
int mk_proof_number(const char *s, size_t n, double *out);

/* The score of an evaluation; mode as in minke_proof_score.  0, or -1 when it has none. */
int mk_proof_score(const char *text, size_t len, uint32_t mode, double *score);

/* Whether an evaluation holds its two key phrases and behind them a score in [0, 1]. */
int mk_proof_format(const char *text, size_t len, double *score);

/* Both sections, appended.  MINKE_OK, MINKE_EFORMAT when a section is missing, MINKE_ENOMEM;
 * the first two do not touch the thread's error. */
int32_t mk_proof_split(struct mk_text *solution, struct mk_text *evaluation, const char *text,
                       size_t len, uint32_t mode);

/* ---- Prompts ---- */

enum mk_prompt {
    MK_PROMPT_PROOF, MK_PROMPT_VERIFY, MK_PROMPT_META, MK_PROMPT_REFINE,
    MK_PROMPT_SOLUTION, MK_PROMPT_EVALUATION,     /* parts of {candidates} */
    MK_PROMPTS
};

struct mk_prompts {
    struct mk_view part[MK_PROMPTS];
};

/* What takes the place of {name}. */
struct mk_fill {
    const char *name;
    struct mk_view value;
};

/* The prompts of a file's text, which must outlive them; NULL or missing ones are our own.
 * MINKE_EFORMAT names what is wrong. */
int32_t mk_prompts_read(struct mk_prompts *out, const char *text, size_t len);

/* Append a prompt with its names replaced; what was put in is not looked at again. */
void mk_prompts_fill(struct mk_text *out, struct mk_view prompt, const struct mk_fill *fills,
                     size_t n);

/* Append one evaluated solution to candidates; solution and evaluation count from 0. */
void mk_prompts_solution(struct mk_text *out, const struct mk_prompts *p, uint32_t solution,
                         struct mk_view proof);
void mk_prompts_evaluation(struct mk_text *out, const struct mk_prompts *p, uint32_t solution,
                           uint32_t evaluation, struct mk_view rating);

/* Append the prompt for MINKE_ASK_PROOF to MINKE_ASK_REFINE; for the last, rating holds the
 * candidates. */
void mk_prompts_write(struct mk_text *out, const struct mk_prompts *p, int32_t ask,
                      struct mk_view problem, struct mk_view proof, struct mk_view rating);

#endif
