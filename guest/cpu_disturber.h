// SPDX-License-Identifier: Apache-2.0
//
// Disturbances of CPUs, by child processes at SCHED_FIFO: one pinned to each CPU, and one more that
// takes CPUs offline and back. They sleep until they are told. They rank below the agent, above all
// that the scheduler under test can have, and are made before that is started: it never schedules
// one.
//
//   BURST    computes for the length.
//   TIMERS   one one-shot timer on the CPU every 50 us.
//   IPIS     membarrier(2) every 50 us: an interrupt to each CPU that runs a process forked from
//   the
//            agent after Make.
//   HOTPLUG  CPU offline, the length passes, online.
//
// All but BURST take somewhat longer than they are asked to, and so does that where CPUs run in
// turn; what is reported is what they took.
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
  int priority =
      5;  // Of SCHED_FIFO, below the agent's. 0: children stay ordinary tasks, for tests.
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
  // Nothing is going on.
  bool Idle() const;
  // Tells the children to end, each after what it is doing.
  void End();
  // All children have ended.
  bool Ended();
  // After a time-out: SIGKILL, and a CPU that was left offline comes back.
  void Kill();

 private:
  struct Slot;  // In memory shared with one child.
  struct Child {
    pid_t pid = -1;  // -1: it has ended.
    Disturbance asked;
    uint32_t commands = 0;  // Given.
    uint32_t taken = 0;     // Of these, ended and taken.
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
