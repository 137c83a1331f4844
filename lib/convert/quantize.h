/* The parts of minke_quantize: reading a model of either container, deciding types and names,
 * and the metadata of the file written. */
#ifndef MK_QUANTIZE_H
#define MK_QUANTIZE_H

#include "base/pool.h"
#include "format/config.h"
#include "format/gguf.h"
#include "format/gguf_names.h"
#include "format/gguf_write.h"
#include "tensor/tensor.h"

/* ---- Reading (quantize_source.c) --------------------------------------------------------- */

struct mk_q_tensor {
    struct mk_view name;     /* as the file has it */
    enum mk_type type;
    uint32_t n_dims;
    uint64_t dims[4];               /* as GGUF counts: dims[0] is the length of a row */
    uint64_t rows;                  /* all other dimensions multiplied */
    struct mk_file *file;
    uint64_t offset;
};

struct mk_q_source {
    const struct mk_env *env;
    struct mk_arena arena;
    int is_gguf;
    struct mk_gguf gguf;
    struct mk_file **files;         /* of safetensors */
    size_t n_files;
    struct mk_q_tensor *tensors;    /* by name */
    size_t n_tensors;
    struct mk_config config;
    char *config_json;              /* of safetensors */
    size_t config_json_len;
};

int32_t mk_q_source_open(struct mk_q_source *out, const struct mk_env *env, const char *path);
void mk_q_source_close(struct mk_q_source *s);
const struct mk_q_tensor *mk_q_source_find(const struct mk_q_source *s, const char *name);
/* Stored rows [row, row + n) of t. */
int32_t mk_q_source_read(const struct mk_q_tensor *t, uint64_t row, size_t n, void *out);

/* ---- Deciding (quantize_plan.c) ---------------------------------------------------------- */

/* Which of a kv_b_proj's rows an output takes, and how. */
enum mk_q_how { MK_Q_ROWS, MK_Q_K_B, MK_Q_V_B };

struct mk_q_output {
    char name[64];
    enum mk_type type;
    enum mk_q_how how;
    uint32_t n_dims;
    uint64_t dims[4];
    const struct mk_q_tensor **from;        /* one, or one per expert */
    uint32_t n_from;
};

struct mk_q_plan {
    struct mk_q_output *outputs;
    size_t n, capacity;
    enum mk_type types[MK_GGUF_N_PARTS + 1];
    uint32_t file_type;             /* general.file_type */
};

/* Types of all parts from a preset's name ("q4_k_m"), or a type's. */
int32_t mk_q_preset(struct mk_q_plan *plan, const char *name);
/* A type by its name in any case. */
int32_t mk_q_type(enum mk_type *out, const char *name);
/* Every tensor of the source as an output; the arrays come from its arena. */
int32_t mk_q_plan(struct mk_q_plan *plan, struct mk_q_source *s);

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

int32_t mk_q_metadata(struct mk_gguf_writer *w, const struct mk_q_source *s, const char *path,
                      uint32_t file_type);

#endif
