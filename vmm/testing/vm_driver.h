// SPDX-License-Identifier: Apache-2.0
//
// The daemon's side of ktstr-vm for tests: starts the real program, sends requests, collects
// events.

#ifndef KTSTR_VMM_TESTING_VM_DRIVER_H_
#define KTSTR_VMM_TESTING_VM_DRIVER_H_

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/fd.h"
#include "base/subprocess.h"
#include "ktstr/v1/vm.pb.h"
#include "vmm/descriptors.h"
#include "vmm/snapshot.h"

namespace ktstr::vmm::testing {

class VmDriver {
 public:
  // `wrapper`: a program that executes what it is given as arguments; empty: none.
  static absl::StatusOr<VmDriver> Start(const std::string& wrapper = "");

  absl::Status Send(const v1::VmRequest& request, const std::vector<NamedFd>& fds = {});
  absl::Status SendBytes(const std::string& bytes, const std::vector<int>& fds = {});
  // The next event, which is also kept for progress(), observations() or TakeSnapshot(). Aborted
  // for a VmNoSnapshot.
  absl::StatusOr<v1::VmEvent> Next(absl::Duration timeout);
  // Receives everything up to the VmEnd. DeadlineExceeded after `timeout` without an event.
  absl::StatusOr<v1::VmEnd> AwaitEnd(absl::Duration timeout);
  // As when the daemon dies.
  void CloseControl() { control_.Reset(); }

  base::Child& child() { return child_; }
  const std::vector<v1::Observation>& observations() const { return observations_; }
  const std::vector<std::string>& progress() const { return progress_; }
  // The snapshot of a VmSnapshot.
  std::optional<Snapshot> TakeSnapshot() { return std::exchange(snapshot_, std::nullopt); }

 private:
  VmDriver(base::Child child, base::UniqueFd control)
      : child_(std::move(child)), control_(std::move(control)) {}

  base::Child child_;
  base::UniqueFd control_;
  std::vector<v1::Observation> observations_;
  std::vector<std::string> progress_;
  std::optional<Snapshot> snapshot_;
};

// Processes whose parent is `pid`, by /proc.
std::vector<pid_t> ChildrenOf(pid_t pid);

// True when process `pid` is gone (or a zombie of somebody else) within `timeout`.
bool IsGone(pid_t pid, absl::Duration timeout);

}  // namespace ktstr::vmm::testing

#endif  // KTSTR_VMM_TESTING_VM_DRIVER_H_
