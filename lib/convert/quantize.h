/* The parts of minke_quantize: deciding types and names, what weighs columns, and the metadata of
 * the file written. */
#ifndef MK_QUANTIZE_H
#define MK_QUANTIZE_H

#include "format/checkpoint.h"
#include "format/gguf_write.h"

/* ---- Deciding (quantize_plan.c) ---------------------------------------------------------- */

/* Rows that an output takes of each of its tensors: n_runs runs of n, the first one at first, the
 * others `apart` rows behind each other. */
struct mk_q_rows {
    uint64_t first, n, apart, n_runs;
    int is_turned;                  /* each run is transposed */
};

struct mk_q_output {
    char name[64];
    enum mk_type type;
    uint32_t n_dims;
    uint64_t dims[4];               /* as GGUF counts: dims[0] is the length of a row */
    struct mk_q_rows rows;
    const struct mk_stored *from;   /* one, or one per expert */
    uint32_t n_from;
};

struct mk_q_plan {
    struct mk_q_output *outputs;    /* for mk_free */
    size_t n, capacity;
    enum mk_type types[MK_N_PARTS];
    uint32_t file_type;             /* general.file_type */
};

/* Types of all parts from a preset's name ("q4_k_m"), or a type's. */
int32_t mk_q_preset(struct mk_q_plan *plan, const char *name);
/* A type by its name in any case. */
int32_t mk_q_type(enum mk_type *out, const char *name);
/* Every tensor of the checkpoint as an output, the arrays from its arena.  Prediction layers that
 * the config counts but the checkpoint leaves out are not counted any more. */
int32_t mk_q_plan(struct mk_q_plan *plan, struct mk_checkpoint *c);

/* ---- Importance (importance_read.c) -------------------------------------------------- */

/* Mean squared inputs of a tensor's columns, (mats, cols). */
struct mk_q_importance_item {
    struct mk_view name;     /* of the tensor in GGUF files */
    size_t n;
    float *values;
};

struct mk_q_importance {
    struct mk_arena arena;
    struct mk_q_importance_item *items;     /* by name */
    size_t n, capacity;
};

/* What weighs a tensor's columns: row r by matrix r / rows of n_mats, or by the only one. */
struct mk_q_columns {
    const float *values;            /* NULL: all alike */
    size_t n_mats, rows;
};

int32_t mk_q_importance_open(struct mk_q_importance *out, const struct mk_env *env,
                             const char *path);
void mk_q_importance_close(struct mk_q_importance *m);
int32_t mk_q_importance_find(const struct mk_q_importance *m, const struct mk_q_output *o,
                             struct mk_q_columns *out);

/* ---- Metadata (quantize_meta.c) ---------------------------------------------------------- */

int32_t mk_q_metadata(struct mk_gguf_writer *w, struct mk_checkpoint *c, uint32_t file_type);

#endif
