/* SPDX-License-Identifier: GPL-2.0 */
/*
 * scx_racy: one queue per CPU, and a race between a CPU that goes idle and a task that is queued
 * for it. It has no random choice and no artificial delay: the fault is a mistake in the design,
 * of a kind that real schedulers have had.
 *
 * A runnable task joins the shortest queue among the CPUs it may use, the lowest CPU among equals,
 * so load packs on the first CPUs. A CPU takes tasks from its own queue only. Looking into a queue
 * costs its lock and kicking a CPU costs an interrupt; has_work[] saves both: the first task that
 * is queued for a CPU sets it and kicks the CPU, and the CPU clears it when it goes idle.
 *
 *   CPU X                                       CPU Y
 *   dispatch: own queue is empty
 *                                               enqueue: X has the shortest queue
 *                                               has_work[X] is 1 already: X will look: no kick
 *                                               the task is in X's queue
 *   update_idle: has_work[X] = 0, sleeps
 *
 * X looked just before. The task waits until another one is queued for X; a queue that holds a task
 * is not the shortest, so that can take long. With --fixed there is no has_work[]: the kernel
 * decides whether to kick X (SCX_KICK_IDLE), after the task is queued and under X's lock.
 */
#include "fifo.bpf.h"

#define QUEUE_OF(cpu) ((u64)(cpu))

struct cpu_state {
  u32 running; /* a task of ours is on it */
  u32 has_work;
};

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, FIFO_MAX_CPUS);
  __type(key, u32);
  __type(value, struct cpu_state);
} cpu_states SEC(".maps");

static __always_inline struct cpu_state* state_of(s32 cpu) {
  u32 key = cpu;
  return bpf_map_lookup_elem(&cpu_states, &key);
}

/* In half slices: a waiting task takes a whole slice, the running one half a slice more on
 * average. */
static __always_inline u32 load_of(s32 cpu) {
  struct cpu_state* state = state_of(cpu);
  return 2 * scx_bpf_dsq_nr_queued___ktstr(QUEUE_OF(cpu)) + (state ? state->running : 0);
}

static __always_inline s32 least_loaded(struct task_struct* p) {
  s32 best = scx_bpf_task_cpu___ktstr(p);
  u32 best_load = ~0U;
  s32 cpu;

  bpf_for(cpu, 0, conf.nr_cpus) {
    u32 load;
    if (!bpf_cpumask_test_cpu___ktstr(cpu, p->cpus_ptr)) {
      continue;
    }
    load = load_of(cpu);
    if (load < best_load) {
      best = cpu;
      best_load = load;
    }
  }
  return best;
}

/* Only enqueue chooses the queue: a task that just changes its class or priority does not come
 * here. */
SEC("struct_ops/racy_select_cpu")
s32 BPF_PROG(racy_select_cpu, struct task_struct* p, s32 prev_cpu, u64 wake_flags) {
  return prev_cpu;
}

SEC("struct_ops/racy_enqueue")
void BPF_PROG(racy_enqueue, struct task_struct* p, u64 enq_flags) {
  s32 cpu = least_loaded(p);
  struct cpu_state* state = state_of(cpu);

  dsq_insert(p, QUEUE_OF(cpu), conf.slice_ns, enq_flags);
  if (!conf.use_has_work) {
    scx_bpf_kick_cpu___ktstr(cpu, SCX_KICK_IDLE);
  } else if (state && !state->has_work) {
    state->has_work = 1;
    scx_bpf_kick_cpu___ktstr(cpu, 0);
  }
}

SEC("struct_ops/racy_dispatch")
void BPF_PROG(racy_dispatch, s32 cpu, struct task_struct* prev) {
  struct cpu_state* state = state_of(cpu);
  if (!conf.use_has_work || (state && state->has_work)) {
    dsq_move_to_local(QUEUE_OF(cpu));
  }
}

SEC("struct_ops/racy_running")
void BPF_PROG(racy_running, struct task_struct* p) {
  struct cpu_state* state = state_of(scx_bpf_task_cpu___ktstr(p));
  if (state) {
    state->running = 1;
  }
}

SEC("struct_ops/racy_stopping")
void BPF_PROG(racy_stopping, struct task_struct* p, bool runnable) {
  struct cpu_state* state = state_of(scx_bpf_task_cpu___ktstr(p));
  if (state) {
    state->running = 0;
  }
}

SEC("struct_ops/racy_update_idle")
void BPF_PROG(racy_update_idle, s32 cpu, bool idle) {
  struct cpu_state* state = state_of(cpu);
  if (state && idle) {
    state->has_work = 0;
  }
}

SEC("struct_ops.s/racy_init")
s32 BPF_PROG(racy_init) {
  s32 cpu;
  bpf_for(cpu, 0, conf.nr_cpus) {
    s32 err = scx_bpf_create_dsq___ktstr(QUEUE_OF(cpu), -1);
    if (err) {
      return err;
    }
  }
  return 0;
}

SEC("struct_ops/racy_exit")
void BPF_PROG(racy_exit, struct scx_exit_info* info) { fifo_record_exit(info); }

SEC(".struct_ops.link")
struct sched_ext_ops scheduler_ops = {
    .select_cpu = (void*)racy_select_cpu,
    .enqueue = (void*)racy_enqueue,
    .dispatch = (void*)racy_dispatch,
    .running = (void*)racy_running,
    .stopping = (void*)racy_stopping,
    .update_idle = (void*)racy_update_idle,
    .init = (void*)racy_init,
    .exit = (void*)racy_exit,
    .name = "scx_racy",
};
