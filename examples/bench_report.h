/* What minke-bench found: as a table, as JSON, as a chart. */
#ifndef EXAMPLES_BENCH_REPORT_H
#define EXAMPLES_BENCH_REPORT_H

#include <stdint.h>
#include <stdio.h>

#define MAX_RESULTS 64

/* Where the time of a token went. */
enum part { PART_INDEX, PART_SELECT, PART_ATTENTION, PART_MOE, PART_REST, N_PARTS };
extern const char *const part_names[N_PARTS];

struct result {
    const char *name;            /* "load", "prefill", "decode", "tokenize" */
    uint64_t depth, tokens;      /* of "load" bytes instead of tokens */
    double rate, spread;         /* tokens a second, of "load" bytes: the median, and
                                  * (best - worst) / median */
    double limit;                /* of the rate; 0: none known */
    double ms[N_PARTS];          /* of a token; below 0: not known */
};

struct report {
    double read_gb_s, int8_gop_s;
    uint32_t n_threads;
    const char *kernels, *model_type, *weights;
    int64_t n_params, n_params_active, weight_bytes, decode_bytes, peak_bytes;
    double prefill_ops;          /* of a token */
    struct result results[MAX_RESULTS];
    int n_results;
};

void report_json(const struct report *r, FILE *out);
void report_table(const struct report *r, FILE *out);

/* A bar a result: the limit in grey, what was reached over it, parts of the time beside. */
void report_plot(const struct report *r, FILE *out);

#endif
