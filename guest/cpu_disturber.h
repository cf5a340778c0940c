// SPDX-License-Identifier: Apache-2.0
//
// Disturbs CPUs with child processes at SCHED_FIFO: one pinned to each CPU, and one more that takes
// CPUs offline and back. They sleep until they get a command. They rank below the agent and above
// everything that the scheduler under test can have, and start before it: it never schedules one.
//
// clang-format off
//   BURST    computes for the length
//   TIMERS   sets off a one-shot timer on the CPU every 50 us
//   IPIS     calls membarrier(2) every 50 us: an interrupt to each CPU that runs a process forked
//            from the agent after Make
//   HOTPLUG  takes the CPU offline, waits for the length, brings it back
// clang-format on
//
// A disturbance takes somewhat longer than its length (BURST only where CPUs run in turn); the
// report has the time that it took.
//
// One thread, the agent's.

#ifndef KTSTR_GUEST_CPU_DISTURBER_H_
#define KTSTR_GUEST_CPU_DISTURBER_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "guest/perturber.h"
#include "guest/reaper.h"
#include "ktstr/v1/guest.pb.h"

namespace ktstr::guest {

struct CpuDisturberOptions {
  // Of SCHED_FIFO, below the agent's. 0: children stay ordinary tasks, for tests.
  int priority = 5;
  std::string cpus = "/sys/devices/system/cpu";  // Where cpuN/online is.
};

class CpuDisturber : public Disturber {
 public:
  // Starts the children that `plan` needs. `reaper` outlives it.
  static absl::StatusOr<std::unique_ptr<CpuDisturber>> Make(const v1::GuestPerturb& plan,
                                                            const CpuDisturberOptions& options,
                                                            Reaper* reaper);
  ~CpuDisturber() override;  // Kills what is left, and waits for none.

  bool Start(const Disturbance& disturbance) override;
  std::vector<EndedDisturbance> TakeEnded() override;
  // No disturbance is running.
  bool Idle() const;
  // Makes the children end, each after its current disturbance.
  void End();
  // All children have ended.
  bool Ended();
  // After a time-out: kills the children, and brings a CPU back that was left offline.
  void Kill();

 private:
  struct Slot;  // In memory shared with one child.
  struct Child {
    pid_t pid = -1;  // -1: it has ended.
    Disturbance asked;
    uint32_t commands = 0;  // Given.
    uint32_t taken = 0;     // Of these, ended and returned by TakeEnded.
  };

  CpuDisturber(const CpuDisturberOptions& options, Reaper* reaper, Slot* slots, size_t count)
      : options_(options), reaper_(reaper), slots_(slots), children_(count) {}
  absl::Status Fork(size_t index, uint32_t cpu);
  bool Busy(size_t index) const;
  [[noreturn]] static void Serve(const CpuDisturberOptions& options, Slot* slot);

  const CpuDisturberOptions options_;
  Reaper* reaper_;
  Slot* slots_;
  std::vector<Child> children_;  // By CPU; the last one is for HOTPLUG.
};

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_CPU_DISTURBER_H_
