/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
// clang-format off
/*
 * What the sample schedulers' BPF side and their user space share: plain structures in two BPF data
 * sections.
 *
 *   .rodata.config  struct fifo_config  User space writes it before the load; constant afterwards, so
 *                                       the verifier knows its values and drops the code of faults
 *                                       that are off.
 *   .data.exit      struct fifo_exit    ops.exit writes it; user space reads it once `kind` is not 0.
 *
 * Both sides are built from the same tree and are linked into one executable, so the layout has no
 * version.
 */
// clang-format on
#ifndef BPF_FIFO_ABI_H_
#define BPF_FIFO_ABI_H_

#ifndef __bpf__
#include <stdint.h>
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
typedef int64_t s64;
#endif

#define FIFO_MAX_CPUS 1024
#define FIFO_MAX_LLCS 128
#define FIFO_REASON_LEN 128
#define FIFO_MSG_LEN 1024
#define FIFO_TEXT_LEN 64

struct fifo_config {
  u64 slice_ns;
  u32 nr_llcs; /* queues in use: 1, or one per LLC; queue ids are 0 .. nr_llcs - 1 */
  u32 cpu_to_llc[FIFO_MAX_CPUS]; /* queue of each CPU */
  u32 nr_cpus;                   /* CPUs that may ever be online */

  /* Faults of scx_broken; all 0 (starve_cpu -1) means a correct scheduler. */
  u64 stall_after_ns; /* from ops.init on; 0: never */
  u64 error_after_ns;
  char error_text[FIFO_TEXT_LEN]; /* in the message of that error */
  u32 fail_init_task;             /* ops.init_task fails for tasks that are forked */
  s32 starve_cpu;                 /* -1: none */
  s32 own_tgid;                   /* process id of the scheduler itself, which starve_cpu spares */
  u32 verifier_reject;

  u32 use_has_work; /* the race of scx_racy; 0: scx_racy --fixed */
};

struct fifo_exit {
  u32 kind; /* enum scx_exit_kind; 0 while the scheduler runs */
  s64 exit_code;
  char reason[FIFO_REASON_LEN];
  char msg[FIFO_MSG_LEN];
};

#endif /* BPF_FIFO_ABI_H_ */
