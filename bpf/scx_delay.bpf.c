/* SPDX-License-Identifier: GPL-2.0 */
/* scx_delay: spins at the entry or the end of one callback of the scheduler that runs. */
// The kernel's types must come first:
// clang-format off
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "delay_abi.h"
// clang-format on

/* bpf_loop() accepts at most 1 << 23 iterations. Each reads the clock, which takes far more than
 * 1.2 ns: that is enough for the longest delay (DELAY_MAX_NS). */
#define MAX_TURNS (1 << 23)

char LICENSE[] SEC("license") = "GPL";

const volatile struct delay_config conf SEC(".rodata.config") = {};
struct delay_counts counts SEC(".data.counts") = {};

struct spin {
  u64 begin_ns;
  u64 length_ns;
};

static long keep_spinning(u32 turn, struct spin* spin) {
  return bpf_ktime_get_ns() - spin->begin_ns >= spin->length_ns;
}

/* splitmix64: the number of the call is all the state it needs, so CPUs share it without a lock. */
static __always_inline u64 draw(u64 call) {
  u64 x = conf.seed + (call + 1) * 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

static __always_inline void delay(void) {
  u64 drawn = draw(__sync_fetch_and_add(&counts.calls, 1));
  struct spin spin = {};

  if ((u32)drawn % (conf.one_in ? conf.one_in : 1) != 0) {
    return;
  }
  spin.length_ns = 1 + (drawn >> 32) % (conf.max_ns ? conf.max_ns : 1);
  spin.begin_ns = bpf_ktime_get_ns();
  bpf_loop(MAX_TURNS, keep_spinning, &spin, 0);
  __sync_fetch_and_add(&counts.delays, 1);
  __sync_fetch_and_add(&counts.delayed_ns, bpf_ktime_get_ns() - spin.begin_ns);
}

SEC("fentry")
int BPF_PROG(at_entry) {
  delay();
  return 0;
}

SEC("fexit")
int BPF_PROG(at_end) {
  delay();
  return 0;
}
