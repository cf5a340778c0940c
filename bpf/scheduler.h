// SPDX-License-Identifier: Apache-2.0
//
// User space of the sample schedulers: loads one embedded BPF object, attaches its `scheduler_ops`,
// waits, and reports why the kernel disabled it. Runs inside the guest, as root, one object per
// process, one thread.
//
// It prints what a test harness looks for:
//
// clang-format off
//   stdout  NAME: enabled
//   stderr  NAME: stopped: REASON                         after SIGINT or SIGTERM; exit code 0
//   stderr  NAME: ejected: REASON: MESSAGE (exit kind K)  the kernel or the BPF side ended it;
//                                                         exit code 1
//   stderr  libbpf's messages and the verifier's log,
//           NAME: cannot load ...                         exit code 1
// clang-format on

#ifndef BPF_SCHEDULER_H_
#define BPF_SCHEDULER_H_

#include <cstddef>
#include <functional>
#include <string_view>

#include "bpf/fifo_abi.h"

struct bpf_object;

namespace ktstr::bpf {

struct SchedulerSpec {
  const char* name;         // as in the messages and in the ops
  std::string_view object;  // the compiled .bpf.o
  std::string_view latest;  // the same for the latest kernels, tried first: it starts sooner
  fifo_config config = {};
  unsigned watchdog_ms = 0;  // ops.timeout_ms; 0: the kernel's default, 30 s
  // Changes the object before it is loaded; may be empty.
  std::function<void(bpf_object*)> before_load;
  // Called every 50 ms while the scheduler is enabled; may be empty.
  std::function<void(unsigned elapsed_ms)> while_enabled;
  bool busy = false;  // call `while_enabled` without a pause
  // Loads it again, this many ms after the kernel disabled it without an error, as when a CPU goes
  // offline; negative: ends instead.
  int restart_after_ms = -1;
};

// The configuration of a correct scheduler. With `per_llc`, one queue per LLC of this machine.
fifo_config MakeConfig(bool per_llc, unsigned slice_us);

// Runs the scheduler until a signal or an ejection. Returns the exit code of the process.
int RunScheduler(const SchedulerSpec& spec);

// Makes SIGINT and SIGTERM wait for TakeStopSignal instead of ending the process. Call before
// anything else.
void HoldStopSignals();
// Waits up to `timeout_ms` for a held signal; true if one came. Negative: without limit.
bool TakeStopSignal(int timeout_ms);

}  // namespace ktstr::bpf

#endif  // BPF_SCHEDULER_H_
