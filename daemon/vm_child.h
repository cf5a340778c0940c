// SPDX-License-Identifier: Apache-2.0
//
// One ktstr-vm process seen from the daemon: start, hand over, collect, stop, bury. Nothing that
// the process sends is believed beyond being well-formed and within limits.

#ifndef KTSTR_DAEMON_VM_CHILD_H_
#define KTSTR_DAEMON_VM_CHILD_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/fd.h"
#include "base/subprocess.h"
#include "daemon/run_executor.h"
#include "ktstr/v1/vm.pb.h"
#include "vmm/descriptors.h"
#include "vmm/snapshot.h"

namespace ktstr::daemon {

// How a run ended that was stopped for this reason.
void MarkStopped(const StopRequest& why, v1::VmEnd* end);
v1::Observation StopObservation(const StopRequest& why);

struct VmLaunch {
  std::string program;  // ktstr-vm
  v1::VmStart start;
  std::vector<vmm::NamedFd> fds;  // Of VmStart.
  v1::VmRun run;
  int bundle = -1;
  // Of one run: more is a flood.
  uint64_t max_observations = 200'000;
  uint64_t max_bytes = uint64_t{80} << 20;
  // After VmStop, before SIGKILL: when somebody cancels, and when the daemon ends.
  absl::Duration cancel_patience = absl::Seconds(10);
  absl::Duration interrupt_patience = absl::Seconds(2);
  absl::Duration timeout_patience = absl::Seconds(30);  // Beyond run.timeout_ms.
};

// A ktstr-vm that has its VmStart, and waits for VmRun or will.
struct VmProcess {
  base::Child child;
  base::UniqueFd socket;
};

// The thread that calls it must live as long as the process.
absl::StatusOr<VmProcess> StartVm(const std::string& program, const v1::VmStart& start,
                                  const std::vector<vmm::NamedFd>& fds);

struct VmListener {
  std::function<void(const v1::Observation&)> observation;
  std::function<void(const v1::VmProgress&)> progress;
  std::function<void(const std::string&)> console;  // Only with VmStart.send_console.
  // A sealed snapshot of the machine. Unset: none is expected.
  std::function<void(vmm::Snapshot)> snapshot;
};

struct VmResult {
  // Exactly the last one is a VmEnd, made here when the process did not send one; empty with
  // `no_snapshot`.
  std::vector<v1::Observation> observations;
  // The snapshot could not be taken or restored: why. Nothing of the run has happened.
  std::optional<std::string> no_snapshot;
};

// Runs the VM to its end. Blocks; the calling thread must live as long as the call (the child dies
// with it). At return the process is gone. `prepared`: instead of the one that `launch` would
// start; one that is gone before its first observation counts as `no_snapshot`.
VmResult RunVm(const VmLaunch& launch, const RunReporter& reporter, const VmListener& listener,
               std::optional<VmProcess> prepared = std::nullopt);

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_VM_CHILD_H_
