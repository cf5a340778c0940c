// SPDX-License-Identifier: Apache-2.0
//
// One ktstr-vm process seen from the daemon: start, hand over, collect, stop, reap. Checks that
// everything that the process sends is well-formed and within limits.

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

// The end of a run that was stopped for this reason.
void MarkStopped(const StopRequest& why, v1::VmEnd* end);
v1::Observation StopObservation(const StopRequest& why);

struct VmLaunch {
  std::string program;  // ktstr-vm
  v1::VmStart start;
  std::vector<vmm::NamedFd> fds;  // Of VmStart.
  v1::VmRun run;
  int bundle = -1;
  // Limits of one run: more is a flood.
  uint64_t max_observations = 200'000;
  uint64_t max_bytes = uint64_t{80} << 20;
  // Between VmStop and SIGKILL: when a user cancels, and when the daemon ends.
  absl::Duration cancel_patience = absl::Seconds(10);
  absl::Duration interrupt_patience = absl::Seconds(2);
  absl::Duration timeout_patience =
      absl::Seconds(60);  // Beyond run.timeout_ms; longer than done_patience.
};

// A ktstr-vm that has its VmStart and takes a VmRun next.
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
  // A sealed snapshot of the machine; `attached`: as VmSnapshot.attached. Unset: none is expected.
  std::function<void(vmm::Snapshot, bool attached)> snapshot;
};

struct VmResult {
  // The last one is the only VmEnd, made by RunVm when the process did not send one. Empty with
  // `no_snapshot`, and where the process has ended with an attached snapshot
  // (VmStart.until_attached).
  std::vector<v1::Observation> observations;
  // Why the snapshot could not be taken or restored. The run has not begun.
  std::optional<std::string> no_snapshot;
  // As in VmNoSnapshot.
  bool not_attached = false;
  bool may_pass = false;
  // The process takes another VmRun (VmRun.rewind).
  std::optional<VmProcess> rewound;
};

// Runs the VM to its end. Blocks; the calling thread must live as long as the call (the child dies
// with it). At return the process is gone, or in VmResult.rewound. `prepared`: taken instead of
// starting one; when it ends before its first observation, the result is a `no_snapshot`.
VmResult RunVm(const VmLaunch& launch, const RunReporter& reporter, const VmListener& listener,
               std::optional<VmProcess> prepared = std::nullopt);

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_VM_CHILD_H_
