/* What the machine can do at best, measured in the run that it is compared with. */
#ifndef EXAMPLES_BENCH_MACHINE_H
#define EXAMPLES_BENCH_MACHINE_H

#include <stddef.h>
#include <stdint.h>

/* A buffer to read, in huge pages where the system gives them: as large as asked for, or a
 * third of what is free when that is less.  NULL when there is no memory. */
struct machine {
    uint32_t n_threads;
    uint8_t *data;
    size_t size;
    double read_gb_s, int8_gop_s;   /* best so far */
};
void machine_open(struct machine *m, uint32_t n_threads, size_t size);
void machine_free(struct machine *m);

/* One pass of all threads over the buffer: GB/s, also kept when it is the best. */
double machine_read(struct machine *m);

/* All threads multiply 8-bit integers in registers for about 20 ms: 10^9 operations a second
 * (a multiply-add is two), also kept when it is the best.  0 where no such loop is known. */
double machine_int8(struct machine *m);

/* GB/s at which n_threads (0: as many as there are processors) read a file, or its first 4 GB,
 * into fresh memory: from the page cache if it is shorter than that.  0 where path is no file. */
double machine_file(const char *path, uint32_t n_threads);

/* Name of the processor. */
void machine_cpu(char *name, size_t size);

/* Largest resident memory of this process so far, in bytes. */
uint64_t machine_peak_bytes(void);

#endif
