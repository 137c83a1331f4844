/* Proofs that judge themselves: their parts and scores, prompts, rewards. */
#ifndef MK_PROOF_H
#define MK_PROOF_H

#include <stddef.h>
#include <stdint.h>

#include "base/json.h"

/* Without white space at both ends, as Python's str.strip; never NULL. */
struct mk_view mk_proof_strip(struct mk_view text);

/* Content of the last \boxed{} that is not blank, stripped; data NULL when there is none. */
struct mk_view mk_proof_boxed(struct mk_view text);

/* A stripped text that Python's float() takes.  0, or -1 when it is another. */
int mk_proof_number(struct mk_view s, double *out);

/* The score of an evaluation; mode as in minke_proof_score.  0, or -1 when it has none. */
int mk_proof_score(struct mk_view text, uint32_t mode, double *score);

/* Whether an evaluation holds its two key phrases and behind them a score in [0, 1]. */
int mk_proof_has_form(struct mk_view text, double *score);

/* Parts of a text, or of work where it had to be brought into form. */
struct mk_sections {
    struct mk_view solution, evaluation;
    struct mk_text work;        /* for mk_text_free, also when there are none */
};

/* Both sections.  MINKE_OK, MINKE_EFORMAT when one is missing, MINKE_ENOMEM; the first two do not
 * touch the thread's error. */
int32_t mk_proof_split(struct mk_sections *out, const struct mk_allocator *a, struct mk_view text,
                       uint32_t mode);

/* ---- Prompts ---- */

enum mk_prompt {
    MK_PROMPT_PROOF, MK_PROMPT_VERIFY, MK_PROMPT_META, MK_PROMPT_REFINE,   /* MINKE_ASK_* - 1 */
    MK_PROMPT_SOLUTION, MK_PROMPT_EVALUATION,     /* parts of {candidates} */
    MK_PROMPTS
};

struct mk_prompts {
    struct mk_view part[MK_PROMPTS];
};

/* The prompts of a file's text, which must outlive them; NULL or missing ones are our own.
 * MINKE_EFORMAT names what is wrong. */
int32_t mk_prompts_read(struct mk_prompts *out, struct mk_view text);

/* What takes the place of {name}. */
struct mk_fill {
    const char *name;
    struct mk_view value;
};

/* Append a prompt with its names replaced; what was put in is not looked at again. */
void mk_prompts_fill(struct mk_text *out, struct mk_view prompt, const struct mk_fill *fills,
                     size_t n);

/* What a prompt is about. */
struct mk_asked {
    int32_t ask;                /* MINKE_ASK_PROOF to MINKE_ASK_REFINE */
    struct mk_view problem, proof;
    const struct mk_view *ratings;      /* (n_ratings,) evaluations of proof; one for META */
    size_t n_ratings;
};

/* Append the prompt. */
void mk_prompts_write(struct mk_text *out, const struct mk_prompts *p,
                      const struct mk_asked *asked);

#endif
