// SPDX-License-Identifier: Apache-2.0
//
// One worker: the loop that makes load, and the memory through which it reports. A worker is a
// process of its own; WorkerPool forks, starts and stops it, and reads its slot when it has ended.
//
// A "look" is a reading of the clock and of the current CPU. Both work types look after every 1024
// spins: that is an iteration.

#ifndef KTSTR_GUEST_WORKER_H_
#define KTSTR_GUEST_WORKER_H_

#include <atomic>
#include <cstdint>

namespace ktstr::guest {

inline constexpr uint32_t kSpinsPerLook = 1024;
inline constexpr uint32_t kMaxCpus = 4096;

struct WorkerSpec {
  enum class Type { kSpinWait, kBursty };
  Type type = Type::kSpinWait;
  uint64_t burst_ns = 0;  // kBursty
  uint64_t sleep_ns = 0;
};

// Whether the worker was a task of the sched_ext class when it began or ended its work.
enum class ExtClass : uint32_t { kUnknown, kNo, kYes };

// In memory that agent and worker share; zero at first.
struct alignas(64) WorkerSlot {
  // Written by the agent.
  std::atomic<uint32_t> go;       // A futex: 1 starts the loop at start_ns, which is valid then.
  uint64_t start_ns;              // CLOCK_MONOTONIC
  std::atomic<uint64_t> stop_ns;  // Set before SIGUSR1 is sent.
  // Written by the worker; valid once `reported` is 1.
  std::atomic<uint32_t> reported;
  uint64_t work_units;
  uint64_t iterations;
  uint64_t cpu_time_ns;
  uint64_t off_cpu_ns;
  uint64_t sleep_ns;
  uint64_t migrations;
  uint64_t max_gap_ns;
  uint64_t max_gap_end_ns;  // CLOCK_MONOTONIC
  uint32_t max_gap_cpu;
  ExtClass ext_class;
  uint64_t cpus_used[kMaxCpus / 64];
};

// From the start to the stop; 0 when the stop came first.
uint64_t WallNs(const WorkerSlot& slot);

// The whole life of the worker's process after fork: waits for `go` and for start_ns, works until
// SIGUSR1, reports, and ends with _exit(0). Expects SIGUSR1 blocked, so that one sent early is not
// lost.
[[noreturn]] void RunWorkerProcess(const WorkerSpec& spec, WorkerSlot* slot);

// Records one worker's looks. Separate from the loop, so that a test can drive it with times of its
// own.
class LookTracker {
 public:
  explicit LookTracker(WorkerSlot* slot) : slot_(slot), last_ns_(slot->start_ns) {}
  // `own_sleep_ns`: how much of the time since the last look the worker slept by itself.
  void Look(uint64_t now_ns, uint32_t cpu, uint64_t own_sleep_ns);

 private:
  static constexpr uint32_t kNoCpu = ~0u;
  WorkerSlot* slot_;
  uint64_t last_ns_;
  uint32_t last_cpu_ = kNoCpu;
};

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_WORKER_H_
