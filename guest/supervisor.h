// SPDX-License-Identifier: Apache-2.0
//
// Starts, follows and stops the scheduler under test. It never blocks: the agent's loop calls Poll
// at every wake-up and at least every 50 ms of guest time, and Poll goes through these phases:
//
// clang-format off
//                           kRestarting
//                             ^    |
//                    disabled |    | enabled again
//                             |    v
//   kStarting --enabled--> kEnabled --Stop()--> kStopping --> kEnded
//       |                     |
//       +---- died, timed out, ejected by the kernel -------> kFailing --> kEnded
// clang-format on
//
// Reports SchedulerOutput, SchedulerState and exactly one SchedulerExit. Poll reads the output out
// of a pipe of 1 MiB: a scheduler that prints without end fills its pipe and waits; the agent does
// not. Reports the first 256 KiB as they come, and the last 768 KiB of what follows when the
// scheduler has ended. One thread.

#ifndef KTSTR_GUEST_SUPERVISOR_H_
#define KTSTR_GUEST_SUPERVISOR_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/fd.h"
#include "base/head_tail.h"
#include "guest/attach_watch.h"
#include "guest/kmsg.h"
#include "guest/reaper.h"
#include "guest/reporter.h"
#include "guest/sched_ext.h"
#include "ktstr/v1/guest.pb.h"

namespace ktstr::guest {

// Where the run stands, for SchedulerExit; the plan runner keeps it current.
struct RunProgress {
  uint32_t steps_completed = 0;
  uint32_t steps_total = 0;
  bool during_steps = false;
  uint64_t scenario_start_ns = 0;  // 0: no step has begun.
};

struct SupervisorPaths {
  std::string bundle = "/run/ktstr/bundle";
  std::string sched_ext = "/sys/kernel/sched_ext";
  std::string kmsg = "/dev/kmsg";
  std::string root;  // Where HasKernelConfig looks.
};

inline constexpr size_t kMaxOutputPiece = 32 << 10;

class Supervisor {
 public:
  enum class Phase { kStarting, kEnabled, kRestarting, kStopping, kFailing, kEnded };

  // Starts it. A program that cannot be executed is no error of the agent: reports EXEC_FAILED, and
  // the phase is kEnded. The pointers outlive the supervisor.
  static absl::StatusOr<std::unique_ptr<Supervisor>> Start(const v1::GuestScheduler& scheduler,
                                                           const SupervisorPaths& paths,
                                                           const RunProgress* progress,
                                                           Reaper* reaper, Reporter* reporter);
  // Kills and reaps nothing: the agent powers the machine off.
  ~Supervisor() = default;

  Phase phase() const { return phase_; }
  pid_t pid() const { return pid_; }
  // It is under test and has not failed.
  bool alive() const {
    return phase_ == Phase::kStarting || phase_ == Phase::kEnabled || phase_ == Phase::kRestarting;
  }

  void Poll();
  // Sends SIGINT, and after the stop time-out SIGKILL; to one that is restarting SIGKILL at once.
  // Call Poll until kEnded.
  void Stop();

 private:
  Supervisor(const v1::GuestScheduler& scheduler, const SupervisorPaths& paths,
             const RunProgress* progress, Reaper* reaper, Reporter* reporter);

  // The errno of execve(2), 0 when it runs.
  absl::StatusOr<int> Spawn();
  void DrainOutput();
  void TakeOutput(std::string_view data);
  void ReportOutput(std::string_view data, uint64_t missing_before);
  void ReportOutputTail();
  void WatchState();
  void FollowAttach(uint64_t now);
  // Goes from the kernel's state to the phase of a scheduler that is alive.
  void Follow(uint64_t now);
  void BeginRestart(uint64_t now);
  void ReportRestart(uint64_t now, bool unfinished = false);
  uint64_t ScenarioNs(uint64_t now) const;
  // Records the facts of the end as they are now, or as they were when a restart began that failed.
  // `first_signal_in_ns`: how long the scheduler may take to end by itself.
  void BeginEnd(v1::SchedulerExit::Cause cause, uint64_t now, uint64_t first_signal_in_ns);
  void PushToEnd(uint64_t now);
  void Finish(std::optional<ChildEnd> end);
  void AddMissingConfig(v1::SchedulerExit* exit) const;

  const v1::GuestScheduler scheduler_;
  const SupervisorPaths paths_;
  const RunProgress* progress_;
  Reaper* reaper_;
  Reporter* reporter_;
  KmsgReader kmsg_;
  DisableWatcher watcher_;
  AttachWatch attach_watch_;

  Phase phase_ = Phase::kStarting;
  pid_t pid_ = -1;  // -1: it has been reaped.
  base::UniqueFd output_;
  size_t output_sent_ = 0;                            // Of its beginning.
  base::HeadTail output_tail_{0, base::kOutputTail};  // What came after it.
  SchedExtState state_;
  uint64_t started_ns_ = 0;
  uint32_t restarts_reported_ = 0;
  // Of kRestarting: when it began, and where the run stood.
  uint64_t restart_began_ns_ = 0;
  RunProgress restart_progress_;
  // How kStopping and kFailing bring it down.
  enum class Push { kNone, kInterrupted, kKilled };
  Push push_ = Push::kNone;
  uint64_t next_push_ns_ = 0;
  v1::Observation exit_;  // Filled at the failure or stop, reported at kEnded.
};

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_SUPERVISOR_H_
