// SPDX-License-Identifier: Apache-2.0
#include "vmm/snapshot.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/file_size.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "vmm/window_abi.h"

namespace ktstr::vmm {
namespace {

constexpr uint64_t kSmallestWindow = uint64_t{8} << 20;

absl::Status CheckFile(int fd, std::string_view what) {
  if (base::IsSealed(fd)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("snapshot: its ", base::ToAbsl(what), " is not sealed"));
}

}  // namespace

absl::Status CheckSnapshot(const Snapshot& snapshot, const v1::LaunchPlan& plan) {
  KTSTR_RETURN_IF_ERROR(CheckFile(snapshot.state.get(), "device state"));
  if (snapshot.ram.size() != static_cast<size_t>(plan.node_memory_size())) {
    return absl::InvalidArgumentError(absl::StrCat("snapshot: RAM of ", snapshot.ram.size(),
                                                   " nodes instead of ", plan.node_memory_size()));
  }
  for (size_t i = 0; i < snapshot.ram.size(); ++i) {
    KTSTR_RETURN_IF_ERROR(CheckFile(snapshot.ram[i].get(), "RAM"));
    KTSTR_ASSIGN_OR_RETURN(const uint64_t size, base::SizeOf(snapshot.ram[i].get(), "snapshot"));
    if (size != plan.node_memory(static_cast<int>(i))) {
      return absl::InvalidArgumentError(absl::StrCat("snapshot: node ", i, " has ", size,
                                                     " bytes instead of ",
                                                     plan.node_memory(static_cast<int>(i))));
    }
  }
  return absl::OkStatus();
}

std::vector<NamedFd> SnapshotFds(const Snapshot& snapshot) {
  std::vector<NamedFd> fds = {{kStateName, snapshot.state.get()}};
  for (size_t i = 0; i < snapshot.ram.size(); ++i) {
    fds.push_back({RamName(i), snapshot.ram[i].get()});
  }
  return fds;
}

absl::StatusOr<Snapshot> TakeSnapshotFds(Descriptors* descriptors) {
  Snapshot snapshot;
  KTSTR_ASSIGN_OR_RETURN(snapshot.state, descriptors->Take(kStateName));
  do {
    KTSTR_ASSIGN_OR_RETURN(base::UniqueFd ram, descriptors->Take(RamName(snapshot.ram.size())));
    snapshot.ram.push_back(std::move(ram));
  } while (descriptors->Has(RamName(snapshot.ram.size())));
  return snapshot;
}

uint64_t BundleCapacity(uint64_t bundle_bytes) {
  uint64_t window = kSmallestWindow;
  while (window - window::kAlignment < bundle_bytes) window *= 2;
  return window - window::kAlignment;
}

}  // namespace ktstr::vmm
