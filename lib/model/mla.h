/* Multi-head latent attention: what its files share. */
#ifndef MK_MLA_H
#define MK_MLA_H

#include "model/forward.h"

/* One layer's attention over rows [row, row + n) of a forward pass. */
struct mk_mla {
    struct mk_forward *f;
    const struct mk_attention_weights *w;
    uint32_t l;
    size_t row, n;
};

/* The cache of row i. */
static inline struct mk_kv *mk_mla_kv(const struct mk_mla *j, size_t i)
{
    return &j->f->rows[i].seq->kv[j->l];
}

/* The first token that row i sees. */
size_t mk_mla_begin(const struct mk_forward *f, size_t i);

/* The tokens that row i attends to: list[0..n), ascending, or begin to begin + n - 1 when list
 * is NULL. */
struct mk_mla_span {
    const int32_t *list;
    size_t begin, n;
};
struct mk_mla_span mk_mla_span(const struct mk_forward *f, size_t i);

/* o from q and the cached latents, in either form.
 * Absorbed: queries meet the latents themselves.  Naive: keys and values are made per head, for
 * rows of one sequence. */
void mk_mla_absorbed(const struct mk_mla *j);
void mk_mla_naive(const struct mk_mla *j);

/* The middle of the absorbed form: work->qa (n, H, L + R) from queries to weighted latents. */
void mk_mla_attend_absorbed(const struct mk_mla *j);

#endif
