/* SPDX-License-Identifier: GPL-2.0 */
/* scx_ktstr: the correct scheduler. All of it is in fifo.bpf.h. */
#include "fifo.bpf.h"

SEC("struct_ops/ktstr_select_cpu")
s32 BPF_PROG(ktstr_select_cpu, struct task_struct* p, s32 prev_cpu, u64 wake_flags) {
  bool idle = false;
  s32 cpu = fifo_select_cpu(p, prev_cpu, wake_flags, &idle);
  if (idle) {
    dsq_insert(p, SCX_DSQ_LOCAL, conf.slice_ns, 0);
  }
  return cpu;
}

SEC("struct_ops/ktstr_enqueue")
void BPF_PROG(ktstr_enqueue, struct task_struct* p, u64 enq_flags) { fifo_enqueue(p, enq_flags); }

SEC("struct_ops/ktstr_dispatch")
void BPF_PROG(ktstr_dispatch, s32 cpu, struct task_struct* prev) { fifo_dispatch(cpu); }

/* These two callbacks tell the kernel that CPUs may come and go. They do nothing: all CPUs serve
 * every queue. */
SEC("struct_ops.s/ktstr_cpu_online")
void BPF_PROG(ktstr_cpu_online, s32 cpu) {}

SEC("struct_ops.s/ktstr_cpu_offline")
void BPF_PROG(ktstr_cpu_offline, s32 cpu) {}

SEC("struct_ops.s/ktstr_init")
s32 BPF_PROG(ktstr_init) { return fifo_init(); }

SEC("struct_ops/ktstr_exit")
void BPF_PROG(ktstr_exit, struct scx_exit_info* info) { fifo_record_exit(info); }

SEC(".struct_ops.link")
struct sched_ext_ops scheduler_ops = {
    .select_cpu = (void*)ktstr_select_cpu,
    .enqueue = (void*)ktstr_enqueue,
    .dispatch = (void*)ktstr_dispatch,
    .cpu_online = (void*)ktstr_cpu_online,
    .cpu_offline = (void*)ktstr_cpu_offline,
    .init = (void*)ktstr_init,
    .exit = (void*)ktstr_exit,
    .name = "scx_ktstr",
};
