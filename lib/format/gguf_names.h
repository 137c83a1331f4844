/* Tensor names of GGUF files beside the checkpoint's; and tensors found by the latter. */
#ifndef MK_GGUF_NAMES_H
#define MK_GGUF_NAMES_H

#include "format/gguf.h"
#include "format/source.h"

/* Parts of a model that are quantized alike. */
enum mk_gguf_part {
    MK_GGUF_EMBED, MK_GGUF_HEAD, MK_GGUF_ATTENTION, MK_GGUF_DENSE, MK_GGUF_SHARED,
    MK_GGUF_GATE_UP, MK_GGUF_DOWN,
    MK_GGUF_N_PARTS,
    MK_GGUF_EXACT = MK_GGUF_N_PARTS     /* norms, routers: stay f32 */
};

/* Lists that end with hf NULL.  Of a layer: without "model.layers.3." and "blk.3."; an
 * expert's name holds %u where its GGUF tensor holds all experts.  kv_b_proj is not listed. */
struct mk_gguf_name {
    const char *hf, *gguf;
    uint8_t part;
};
extern const struct mk_gguf_name mk_gguf_top_names[], mk_gguf_layer_names[];

/* Tensors of an open file by the checkpoint's names.  kv_b_proj is found in older files; newer
 * ones have in its stead
 *   model.layers.3.self_attn.k_b_proj.weight   (H, L, N), a head's part transposed
 *   model.layers.3.self_attn.v_b_proj.weight   (H, V, L)
 * g and config live at least as long as the source, which does not close g. */
int32_t mk_gguf_source_open(struct mk_source *out, const struct mk_env *env, struct mk_gguf *g,
                            const struct mk_config *config);

#endif
