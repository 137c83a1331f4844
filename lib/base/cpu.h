/* CPU features, as levels that kernels are written for. */
#ifndef MK_CPU_H
#define MK_CPU_H

#include <stdint.h>

/* Feature bits.  A level is a set; kernels ask for the bits they need. */
#define MK_CPU_AVX2     (1u << 0)  /* with FMA and F16C */
#define MK_CPU_AVX512   (1u << 1)  /* F, BW, DQ, VL */
#define MK_CPU_VNNI     (1u << 2)  /* AVX-512 VNNI */
#define MK_CPU_FP16     (1u << 3)  /* AVX-512 FP16 */
#define MK_CPU_NEON     (1u << 4)
#define MK_CPU_DOTPROD  (1u << 5)
#define MK_CPU_I8MM     (1u << 6)
#define MK_CPU_VBMI     (1u << 7)  /* AVX-512 VBMI */
#define MK_CPU_AMX_BF16 (1u << 8)  /* AMX tiles of BF16, their state saved where a process asks */

/* What this processor and operating system can run. */
uint32_t mk_cpu_features(void);

/* "avx512+vnni" and the like; static. */
const char *mk_cpu_name(uint32_t features);

/* Threads that affinity and the container's CPU quota allow, at least 1. */
uint32_t mk_cpu_threads(void);

/* Threads that the quotas of the control groups in list (/proc/self/cgroup) and of those above
 * them allow, root being where they are mounted; 1024 when there is no limit. */
uint32_t mk_cpu_cgroup_threads(const char *list, const char *root);

#endif
