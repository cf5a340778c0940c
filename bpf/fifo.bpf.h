/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The scheduler of scx_ktstr, and of scx_broken with a fault added: first in, first out, with one
 * queue for the machine or one per LLC.
 *
 * A woken task goes straight to an idle CPU if there is one, else to the tail of the queue of its
 * CPU's LLC. A CPU that needs work takes the first task it may run from its own LLC's queue, else
 * from the others in turn. Nothing starves: a task waits in the queue of a CPU that it may run on,
 * every CPU of that LLC serves that queue first and in order, and a task whose slice ends goes to
 * the tail.
 *
 * These functions are the bodies of the sched_ext operations; each .bpf.c wraps them into its
 * struct_ops.
 */
#ifndef BPF_FIFO_BPF_H_
#define BPF_FIFO_BPF_H_

// The kernel's types must come first:
// clang-format off
#include "scx_compat.bpf.h"
#include "fifo_abi.h"
// clang-format on

char LICENSE[] SEC("license") = "GPL";

const volatile struct fifo_config conf SEC(".rodata.config") = {};
struct fifo_exit exit_record SEC(".data.exit") = {};

static __always_inline u64 fifo_queue_of_cpu(s32 cpu) {
  if (cpu < 0 || cpu >= FIFO_MAX_CPUS) {
    return 0;
  }
  return conf.cpu_to_llc[cpu];
}

static __always_inline s32 fifo_init(void) {
  u32 i;
  for (i = 0; i < FIFO_MAX_LLCS && i < conf.nr_llcs; i++) {
    s32 err = scx_bpf_create_dsq___ktstr(i, -1);
    if (err) {
      return err;
    }
  }
  return 0;
}

/* `*idle` is set when the chosen CPU was idle and is now reserved for the task. */
static __always_inline s32 fifo_select_cpu(struct task_struct* p, s32 prev_cpu, u64 wake_flags,
                                           bool* idle) {
  return scx_bpf_select_cpu_dfl___ktstr(p, prev_cpu, wake_flags, idle);
}

static __always_inline void fifo_enqueue(struct task_struct* p, u64 enq_flags) {
  dsq_insert(p, fifo_queue_of_cpu(scx_bpf_task_cpu___ktstr(p)), conf.slice_ns, enq_flags);
}

static __always_inline void fifo_dispatch(s32 cpu) {
  u32 own = fifo_queue_of_cpu(cpu);
  u32 i;

  if (dsq_move_to_local(own)) {
    return;
  }
  for (i = 1; i < FIFO_MAX_LLCS && i < conf.nr_llcs; i++) {
    u32 other = own + i;
    if (other >= conf.nr_llcs) {
      other -= conf.nr_llcs;
    }
    if (dsq_move_to_local(other)) {
      return;
    }
  }
}

/* `kind` is written last: user space reads the texts once it is not 0. */
static __always_inline void fifo_record_exit(struct scx_exit_info* info) {
  bpf_probe_read_kernel_str(exit_record.reason, sizeof(exit_record.reason), info->reason);
  bpf_probe_read_kernel_str(exit_record.msg, sizeof(exit_record.msg), info->msg);
  exit_record.exit_code = info->exit_code;
  __sync_fetch_and_add(&exit_record.kind, info->kind);
}

#endif /* BPF_FIFO_BPF_H_ */
