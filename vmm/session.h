// SPDX-License-Identifier: Apache-2.0
//
// The course of one VM, apart from sockets: what a stop, a frame, a flood or a time-out means. It
// takes a running Machine with its Window and makes observations and one VmEnd out of it.
//
// A machine that stands still at kDoorbellReady, just restored, is let go by Begin(). The boot that
// leads to a snapshot is a session of its own (`until_ready`), whose observations are not the
// run's: they are in the ring of the snapshot, and come again from each restored guest.
//
// One thread. The machine must outlive the object.

#ifndef KTSTR_VMM_SESSION_H_
#define KTSTR_VMM_SESSION_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "ktstr/v1/observation.pb.h"
#include "vmm/machine.h"
#include "vmm/window.h"

namespace ktstr::vmm {

class Session {
 public:
  struct Options {
    absl::Duration timeout;  // Of the host, from now.
    // In guest time, where the machine gives it: what a boot may take until the agent reports
    // READY, and the run from there on.
    absl::Duration boot_limit = absl::InfiniteDuration();
    absl::Duration run_limit = absl::InfiniteDuration();
    // What a guest that has reported DONE gets for its last doorbell, in guest time and of the
    // host, whichever is over first. Then it is ended as DONE, without a digest.
    absl::Duration done_limit = absl::Seconds(5);
    absl::Duration done_patience = absl::Seconds(30);
    bool take_digest = false;
    // The guest is to stop at kDoorbellReady, and that is all.
    bool until_ready = false;
    // A checked observation. An error means that nobody listens any more.
    std::function<absl::Status(v1::Observation)> observe;
    std::function<void(std::string)> progress;
    // What the console said, as RunConsole.text. Unset: not wanted. An error as of `observe`.
    std::function<absl::Status(std::string)> console;
    const base::Clock* clock = base::RealClock();
  };
  // `started`: clock->Monotonic() when the engine was started.
  Session(Machine* machine, Window window, absl::Duration started, Options options);

  // Lets a restored guest go: takes what its ring holds, writes the bundle, resumes. An error is
  // the one of `observe`; anything else is in end().
  absl::Status Begin(int bundle_fd);
  enum class State {
    kRuns,
    kReady,  // With `until_ready`: the guest stands still at its doorbell, and stays so.
    kEnded,  // The machine has been stopped, and end() is valid.
  };
  // One look at everything: events of the machine, ring, console, time limit. An error is the one
  // of `observe` or `console`.
  absl::StatusOr<State> Step();
  // Ends the run from outside.
  void Cancel(const std::string& reason);
  // Host time until the time limit.
  absl::Duration TimeLeft() const;
  const v1::VmEnd& end() const { return *end_; }

 private:
  absl::Status HandleEvent(const MachineEvent& event);
  absl::Status HandleStop();
  void HandleDone();
  void ResumeFromDoorbell();
  absl::Status DrainRing();
  void NoteTimes(const v1::Observation& observation);
  void CheckLimits();
  void CheckAfterDone();
  // True when the run has ended for it.
  bool CheckGuestTime();
  // New whole lines. Of a console over its cap, the last of it comes at the end, behind a line that
  // says how much is missing.
  absl::Status TellConsole();
  // Up to byte `end`; `last`: also a line that has no end.
  absl::Status TellConsoleTo(uint64_t end, bool last);
  void Misbehaved(std::string_view what);
  void EngineLost(std::string_view what);
  void Finish(v1::VmEnd::Cause cause, std::string detail);
  void FillTimes(v1::VmEnd* end) const;

  Machine* machine_;
  Window window_;
  Options options_;
  absl::Duration started_;
  absl::Duration deadline_;
  bool ready_stop_ = false;
  uint32_t claimed_stage_ = 0;  // By the guest.
  uint64_t console_told_ = 0;   // Bytes.
  std::optional<absl::Duration> ready_;
  std::optional<absl::Duration> first_step_;
  std::optional<absl::Duration> last_step_end_;
  std::optional<absl::Duration> done_;  // The agent reported DONE.
  // Guest time, as far as it was known, when the agent reported READY and DONE.
  std::optional<absl::Duration> guest_ready_;
  std::optional<absl::Duration> guest_done_;
  v1::Stage last_stage_ = v1::STAGE_UNSPECIFIED;
  std::string digest_;
  std::optional<v1::VmEnd> end_;
};

}  // namespace ktstr::vmm

#endif  // KTSTR_VMM_SESSION_H_
