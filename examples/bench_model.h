/* A model of any shape with random weights, as a GGUF file that exists only in the memory of
 * a file reader: the context reads it as it would read a real one. */
#ifndef EXAMPLES_BENCH_MODEL_H
#define EXAMPLES_BENCH_MODEL_H

#include "minke.h"

struct random_model;

/* shape: path of a config.json.  type: "q8_0", "q4_k" and the like, or "q4_k_m" for
 * llama.cpp's mixture; rows that are no multiple of the type's block get q5_0 or q8_0 as there.
 * layers: 0 = all.  NULL with *why set when it cannot be made, and *value to
 * the type or path that is why. */
struct random_model *random_model_open(const char *shape, const char *type, uint32_t layers,
                                       const char **why, const char **value);
void random_model_free(struct random_model *m);

/* Write it as a real file; 0, or -1 when that fails. */
int random_model_save(struct random_model *m, const char *path);

/* What to open, and the reader that serves it. */
const char *random_model_path(const struct random_model *m);
void random_model_reader(struct random_model *m, minke_context_params *params);

#endif
