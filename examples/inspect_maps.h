/* minke-inspect's drawings: what a model looks at while it reads a prompt. */
#ifndef EXAMPLES_INSPECT_MAPS_H
#define EXAMPLES_INSPECT_MAPS_H

#include "common.h"

/* A prompt from a file, a folder's name for the title, and where the SVG goes: NULL is
 * standard output. */
struct drawing {
    const struct program *program;
    minke_context *ctx;
    const char *model, *prompt, *out;
    const minke_session_params *session;     /* how caches are kept */
};

/* A heat map per layer: which past tokens each query selected.  For models with an indexer. */
void draw_attention(const struct drawing *d);

/* A heat map of layers by experts: how often each was used, against an even share. */
void draw_experts(const struct drawing *d);

#endif
