// SPDX-License-Identifier: Apache-2.0
//
// One VM from its start to its end, without sockets: what a stop, a frame, a flood or a time-out
// means. A session turns a running Machine and its Window into observations and one VmEnd.
//
// Begin() resumes a machine that was just restored and stands still at kDoorbellReady or
// kDoorbellAttached. What leads to a snapshot is a session of its own (`until`). Its observations
// do not belong to the run: they stay in the snapshot's ring, and each restored guest's session
// reads them again.
//
// One thread. The machine must outlive the object.

#ifndef KTSTR_VMM_SESSION_H_
#define KTSTR_VMM_SESSION_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "ktstr/v1/observation.pb.h"
#include "vmm/kernel_symbols.h"
#include "vmm/machine.h"
#include "vmm/window.h"

namespace ktstr::vmm {

class Session {
 public:
  struct Options {
    absl::Duration timeout;  // Host time from `started` on.
    // In guest time, where the machine reports it: how long the boot may take until the agent
    // reports READY, and the run from there on. Once the first step has begun the run ends at a
    // definite instruction, on a machine with bounded turns.
    absl::Duration boot_limit = absl::InfiniteDuration();
    absl::Duration run_limit = absl::InfiniteDuration();
    // Of `run_limit`, what the attach may take: once the scheduler is enabled only the rest counts.
    absl::Duration attach_limit;
    // How long a guest that has reported DONE may take to its last doorbell, in guest time and in
    // host time, whichever is over first. Then the session ends it as DONE, without a digest.
    absl::Duration done_limit = absl::Seconds(5);
    absl::Duration done_patience = absl::Seconds(30);
    bool take_digest = false;
    // A machine that can be rewound is not stopped when its guest reaches the last doorbell: it
    // stands still there.
    bool keep_machine = false;
    std::string turns;       // VmEnd.turns
    uint32_t vcpu_mips = 0;  // VmEnd.vcpu_mips
    // The session is over when the guest stops at this doorbell, kDoorbellReady or
    // kDoorbellAttached. 0: at neither.
    uint32_t until = 0;
    // Looks at the guest, which stands still and cannot observe it; `now`: guest time. The first
    // look comes when the first step begins, each later one at the end of the first turn at or
    // after a multiple of `look_period`, which is at least 1 ms. Errors as of `observe`. Unset, or
    // on a machine without bounded turns: there are none.
    std::function<absl::Status(absl::Duration now)> look;
    absl::Duration look_period = absl::InfiniteDuration();
    // Takes a checked observation. An error means that nobody listens any more.
    std::function<absl::Status(v1::Observation)> observe;
    std::function<void(std::string)> progress;
    // Takes the console's text, as RunConsole.text. Unset: not wanted. Errors as of `observe`.
    std::function<absl::Status(std::string)> console;
    // Reads the symbols of the guest's kernel, for a machine that hangs. Unset: there are none.
    std::function<KernelSymbols()> symbols;
    const base::Clock* clock = base::RealClock();
  };
  // `started`: clock->Monotonic() when the engine was started.
  Session(Machine* machine, Window window, absl::Duration started, Options options);

  // Starts a restored guest: reads its ring, writes the bundle, resumes. Returns an error of
  // `observe` only; any other failure is in end().
  absl::Status Begin(int bundle_fd);
  enum class State {
    kRuns,
    kStopped,  // At the doorbell `until`: the guest stands still there, and stays so.
    kEnded,    // end() is valid, and the machine has been stopped, or is kept.
  };
  // Handles what has come since the last call: machine events, ring, console, time limits. Returns
  // an error of `observe` or `console` only.
  absl::StatusOr<State> Step();
  // Ends the run from outside.
  void Cancel(const std::string& reason);
  // Host time until the time limit.
  absl::Duration TimeLeft() const;
  // Whether the ring still holds all that the guest ever wrote to it.
  bool RingIsWhole() const;
  // Whether the machine stands still at its last doorbell (Options::keep_machine).
  bool MachineIsKept() const { return kept_; }
  const v1::VmEnd& end() const { return *end_; }

 private:
  absl::Status HandleEvent(const MachineEvent& event);
  // `rang`: at the bell, where the guest waits without a stop.
  absl::Status HandleDoorbell(bool rang);
  absl::Status HandleFirstStep();
  absl::Status HandleRendezvous();
  // A look at the guest, which stands still at `now`; then sets the next rendezvous.
  absl::Status Look(absl::Duration now);
  void HandleDone(bool rang);
  void ResumeFromDoorbell();
  void Resume();
  absl::Status DrainRing();
  void NoteTimes(const v1::Observation& observation);
  void CheckLimits();
  void CheckAfterDone();
  // True when it ended the run.
  bool CheckGuestTime();
  void EndAtLimit(absl::Duration limit, bool after_attach);
  // Passes new whole lines on. Of a console over its cap, the end follows when the run has ended,
  // behind a line that says how much is missing.
  absl::Status TellConsole();
  // Up to byte `end`; `last`: also a line that has no end.
  absl::Status TellConsoleTo(uint64_t end, bool last);
  void Misbehaved(std::string_view what);
  void EngineLost(std::string_view what);
  void Finish(v1::VmEnd::Cause cause, std::string detail);
  // The same for a machine that hangs: looks first where each vCPU stands.
  void FinishHung(v1::VmEnd::Cause cause, std::string detail);
  void AddVcpus(v1::VmEnd* end);
  void FillTimes(v1::VmEnd* end) const;

  Machine* machine_;
  Window window_;
  Options options_;
  absl::Duration started_;
  absl::Duration deadline_;
  bool kept_ = false;
  bool attached_ = false;  // Began at kDoorbellAttached.
  bool stopped_ = false;
  bool ring_was_full_ = false;
  uint32_t claimed_stage_ = 0;  // By the guest.
  uint64_t console_told_ = 0;   // Bytes.
  std::optional<absl::Duration> ready_;
  std::optional<absl::Duration> first_step_;
  std::optional<absl::Duration> last_step_end_;
  std::optional<absl::Duration> done_;  // The agent reported DONE.
  // Guest time, as last published, when the agent reported READY and DONE.
  std::optional<absl::Duration> guest_ready_;
  std::optional<absl::Duration> guest_enabled_;
  std::optional<absl::Duration> guest_done_;
  bool first_step_rang_ = false;
  // From the first step on: the guest time at which the run ends, exactly.
  std::optional<absl::Duration> ends_at_;
  v1::Stage last_stage_ = v1::STAGE_UNSPECIFIED;
  std::string digest_;
  std::vector<v1::VcpuState> vcpus_;
  std::optional<v1::VmEnd> end_;
};

}  // namespace ktstr::vmm

#endif  // KTSTR_VMM_SESSION_H_
