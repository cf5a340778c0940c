/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The sched_ext kernel functions that our schedulers call, under one name for every kernel
 * from 6.12 on.
 *
 * The kernel renames its functions now and then and keeps the old name for some releases. Each
 * generation is declared here as a weak symbol with a suffix of ours: libbpf cuts `___ktstr...` off
 * before it looks the name up, and the verifier skips code behind bpf_ksym_exists() of a function
 * that the kernel lacks.
 *
 *                   6.12               6.13                        7.x
 *   queue a task    scx_bpf_dispatch   scx_bpf_dsq_insert          scx_bpf_dsq_insert___v2
 *   take a task     scx_bpf_consume    scx_bpf_dsq_move_to_local   scx_bpf_dsq_move_to_local___v2
 *
 * Each program is built twice: for all kernels, and with KTSTR_SCX_LATEST for 7.x alone.
 */
#ifndef BPF_SCX_COMPAT_BPF_H_
#define BPF_SCX_COMPAT_BPF_H_

/* bpftool 7.5 and later put prototypes of the one kernel's functions into vmlinux.h; ours fit all
 * kernels. */
#define BPF_NO_KFUNC_PROTOTYPES
// The kernel's types must come first:
// clang-format off
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
// clang-format on

#ifndef __weak
#define __weak __attribute__((weak))
#endif

s32 scx_bpf_create_dsq___ktstr(u64 dsq_id, s32 node) __ksym;
s32 scx_bpf_select_cpu_dfl___ktstr(struct task_struct* p, s32 prev_cpu, u64 wake_flags,
                                   bool* is_idle) __ksym;
s32 scx_bpf_task_cpu___ktstr(const struct task_struct* p) __ksym;
bool bpf_cpumask_test_cpu___ktstr(u32 cpu, const struct cpumask* cpumask) __ksym;
s32 scx_bpf_dsq_nr_queued___ktstr(u64 dsq_id) __ksym;
void scx_bpf_kick_cpu___ktstr(s32 cpu, u64 flags) __ksym;
void scx_bpf_error_bstr___ktstr(char* fmt, unsigned long long* data, u32 data__sz) __ksym;

#ifdef KTSTR_SCX_LATEST

/* libbpf looks up each declared name among all types of the kernel, used or not: fewer names make
 * the scheduler start sooner. */
bool scx_bpf_dsq_insert___v2___ktstr(struct task_struct* p, u64 dsq_id, u64 slice,
                                     u64 enq_flags) __ksym;
bool scx_bpf_dsq_move_to_local___v2___ktstr(u64 dsq_id, u64 enq_flags) __ksym;

static __always_inline void dsq_insert(struct task_struct* p, u64 dsq_id, u64 slice,
                                       u64 enq_flags) {
  scx_bpf_dsq_insert___v2___ktstr(p, dsq_id, slice, enq_flags);
}

static __always_inline bool dsq_move_to_local(u64 dsq_id) {
  return scx_bpf_dsq_move_to_local___v2___ktstr(dsq_id, 0);
}

#else

void scx_bpf_dispatch___ktstr612(struct task_struct* p, u64 dsq_id, u64 slice,
                                 u64 enq_flags) __ksym __weak;
void scx_bpf_dsq_insert___ktstr613(struct task_struct* p, u64 dsq_id, u64 slice,
                                   u64 enq_flags) __ksym __weak;
bool scx_bpf_dsq_insert___v2___ktstr(struct task_struct* p, u64 dsq_id, u64 slice,
                                     u64 enq_flags) __ksym __weak;

bool scx_bpf_consume___ktstr612(u64 dsq_id) __ksym __weak;
bool scx_bpf_dsq_move_to_local___ktstr613(u64 dsq_id) __ksym __weak;
bool scx_bpf_dsq_move_to_local___v2___ktstr(u64 dsq_id, u64 enq_flags) __ksym __weak;

static __always_inline void dsq_insert(struct task_struct* p, u64 dsq_id, u64 slice,
                                       u64 enq_flags) {
  if (bpf_ksym_exists(scx_bpf_dsq_insert___v2___ktstr)) {
    scx_bpf_dsq_insert___v2___ktstr(p, dsq_id, slice, enq_flags);
  } else if (bpf_ksym_exists(scx_bpf_dsq_insert___ktstr613)) {
    scx_bpf_dsq_insert___ktstr613(p, dsq_id, slice, enq_flags);
  } else {
    scx_bpf_dispatch___ktstr612(p, dsq_id, slice, enq_flags);
  }
}

static __always_inline bool dsq_move_to_local(u64 dsq_id) {
  if (bpf_ksym_exists(scx_bpf_dsq_move_to_local___v2___ktstr)) {
    return scx_bpf_dsq_move_to_local___v2___ktstr(dsq_id, 0);
  }
  if (bpf_ksym_exists(scx_bpf_dsq_move_to_local___ktstr613)) {
    return scx_bpf_dsq_move_to_local___ktstr613(dsq_id);
  }
  return scx_bpf_consume___ktstr612(dsq_id);
}

#endif /* KTSTR_SCX_LATEST */

#endif /* BPF_SCX_COMPAT_BPF_H_ */
