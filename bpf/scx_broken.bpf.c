/* SPDX-License-Identifier: GPL-2.0 */
/*
 * scx_broken: the scheduler of fifo.bpf.h with the faults of struct fifo_config. Without a fault it
 * schedules as scx_ktstr does.
 */
#include "fifo.bpf.h"

/* Tasks of the CPU that --starve-cpu names wait here; no CPU ever takes from it. */
#define DEAD_QUEUE FIFO_MAX_LLCS
#define PID_OF_INIT 1
#define ENOMEM 12
/* PF_KTHREAD of include/linux/sched.h: macros are not in BTF. */
#define TASK_IS_KTHREAD 0x00200000

static u64 started_ns;

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 1);
  __type(key, u32);
  __type(value, u64);
} never_filled SEC(".maps");

static __always_inline bool passed(u64 after_ns) {
  return after_ns && bpf_ktime_get_ns() - started_ns >= after_ns;
}

static __always_inline bool stalled(void) { return passed(conf.stall_after_ns); }

static __always_inline void maybe_fail(void) {
  if (passed(conf.error_after_ns)) {
    static char text[] = "injected error%s, %llu ms after the start";
    unsigned long long arguments[] = {(unsigned long)conf.error_text,
                                      conf.error_after_ns / 1000000};
    scx_bpf_error_bstr___ktstr(text, arguments, sizeof(arguments));
  }
}

/* Kernel threads, PID 1 and the scheduler's own process are spared: the guest stays able to report
 * what it sees. */
static __always_inline bool starved(struct task_struct* p, s32 cpu) {
  return conf.starve_cpu >= 0 && cpu == conf.starve_cpu && !(p->flags & TASK_IS_KTHREAD) &&
         p->tgid != PID_OF_INIT && p->tgid != conf.own_tgid;
}

SEC("struct_ops/broken_select_cpu")
s32 BPF_PROG(broken_select_cpu, struct task_struct* p, s32 prev_cpu, u64 wake_flags) {
  bool idle = false;
  s32 cpu = fifo_select_cpu(p, prev_cpu, wake_flags, &idle);
  if (idle && !stalled() && !starved(p, cpu)) {
    dsq_insert(p, SCX_DSQ_LOCAL, conf.slice_ns, 0);
  }
  return cpu;
}

SEC("struct_ops/broken_enqueue")
void BPF_PROG(broken_enqueue, struct task_struct* p, u64 enq_flags) {
  maybe_fail();
  if (starved(p, scx_bpf_task_cpu___ktstr(p))) {
    dsq_insert(p, DEAD_QUEUE, conf.slice_ns, enq_flags);
    return;
  }
  /* SCX_OPS_ENQ_LAST: the last task of a CPU comes here too, instead of running on; in a stall it
   * must wait. */
  if ((enq_flags & SCX_ENQ_LAST) && !stalled()) {
    dsq_insert(p, SCX_DSQ_LOCAL, conf.slice_ns, enq_flags);
    return;
  }
  fifo_enqueue(p, enq_flags);
}

SEC("struct_ops/broken_dispatch")
void BPF_PROG(broken_dispatch, s32 cpu, struct task_struct* prev) {
  maybe_fail();
  if (conf.verifier_reject) {
    /* The result of the look-up is not checked for NULL: every verifier rejects this. */
    u32 key = 0;
    u64* value = bpf_map_lookup_elem(&never_filled, &key);
    *value += 1;
  }
  if (!stalled()) {
    fifo_dispatch(cpu);
  }
}

/* Called for every task when the scheduler is enabled, then for each fork. */
SEC("struct_ops.s/broken_init_task")
s32 BPF_PROG(broken_init_task, struct task_struct* p, struct scx_init_task_args* args) {
  return conf.fail_init_task && args->fork ? -ENOMEM : 0;
}

SEC("struct_ops.s/broken_init")
s32 BPF_PROG(broken_init) {
  started_ns = bpf_ktime_get_ns();
  s32 err = scx_bpf_create_dsq___ktstr(DEAD_QUEUE, -1);
  return err ? err : fifo_init();
}

SEC("struct_ops/broken_exit")
void BPF_PROG(broken_exit, struct scx_exit_info* info) { fifo_record_exit(info); }

SEC(".struct_ops.link")
struct sched_ext_ops scheduler_ops = {
    .select_cpu = (void*)broken_select_cpu,
    .enqueue = (void*)broken_enqueue,
    .dispatch = (void*)broken_dispatch,
    .init_task = (void*)broken_init_task,
    .init = (void*)broken_init,
    .exit = (void*)broken_exit,
    .flags = SCX_OPS_ENQ_LAST,
    .name = "scx_broken",
};
