/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/*
 * What scx_delay's BPF side and its user space share.
 *
 *   .rodata.config  struct delay_config  written before the load, constant afterwards
 *   .data.counts    struct delay_counts  written by the BPF side, read by user space
 */
#ifndef BPF_DELAY_ABI_H_
#define BPF_DELAY_ABI_H_

#ifndef __bpf__
#include <stdint.h>
typedef uint32_t u32;
typedef uint64_t u64;
#endif

/* A callback runs under its run queue's lock; a longer delay would be a fault of its own. */
#define DELAY_MAX_NS 10000000

struct delay_config {
  u64 seed;
  u64 max_ns; /* each delay is drawn from 1 to this */
  u32 one_in; /* 1: every call is delayed, N: one in N on average */
};

struct delay_counts {
  u64 calls;
  u64 delays;
  u64 delayed_ns;
};

#endif /* BPF_DELAY_ABI_H_ */
