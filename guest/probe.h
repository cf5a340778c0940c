// SPDX-License-Identifier: Apache-2.0
//
// Runs one of our programs beside the scheduler under test. It never blocks: the agent's loop calls
// Poll at every wake-up. Reports the program's output as SchedulerOutput; its lines begin with the
// program's name. A probe that does not get into place, or ends too early, is an error of the
// harness, except when it refuses its input (refused()).
//
//   kStarting --first line--> kInPlace --Stop()--> kStopping --> kEnded
//       +---- ended, timed out ----+-------------------------------^
//
// One thread.

#ifndef KTSTR_GUEST_PROBE_H_
#define KTSTR_GUEST_PROBE_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/fd.h"
#include "guest/reaper.h"
#include "guest/reporter.h"
#include "ktstr/v1/guest.pb.h"

namespace ktstr::guest {

class Probe {
 public:
  enum class Phase { kStarting, kInPlace, kStopping, kEnded };

  // `bundle` is the bundle's directory. The pointers outlive the probe. Internal when it cannot be
  // executed.
  static absl::StatusOr<std::unique_ptr<Probe>> Start(const v1::GuestProbe& plan,
                                                      const std::string& bundle, Reaper* reaper,
                                                      Reporter* reporter);

  Phase phase() const { return phase_; }
  void Poll();
  // Sends SIGINT, after the stop time-out SIGKILL, and gives up on the probe 5 s later. Call Poll
  // until kEnded.
  void Stop();
  // Of a probe that has ended: OK, or what was wrong with its end.
  const absl::Status& status() const { return status_; }
  // It ended with EX_DATAERR before Stop(): the scheduler or the kernel lacks what it was to probe.
  bool refused() const { return refused_; }

 private:
  Probe(const v1::GuestProbe& plan, Reaper* reaper, Reporter* reporter)
      : plan_(plan), reaper_(reaper), reporter_(reporter) {}
  // True when the output completed a line.
  bool DrainOutput();
  void Kill(std::string_view why);
  void End(const ChildEnd& end);

  const v1::GuestProbe plan_;
  Reaper* reaper_;
  Reporter* reporter_;
  Phase phase_ = Phase::kStarting;
  pid_t pid_ = -1;
  base::UniqueFd output_;
  std::string last_line_;
  bool line_ended_ = false;
  uint64_t deadline_ns_ = 0;  // Of kStarting and kStopping, and of the end after SIGKILL.
  bool killed_ = false;
  bool refused_ = false;
  absl::Status status_;
};

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_PROBE_H_
