// SPDX-License-Identifier: Apache-2.0
#include "vmm/snapshot.h"

#include <sys/stat.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "base/file.h"
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

absl::Status CheckSnapshot(const Snapshot& snapshot, const LaunchPlan& plan) {
  KTSTR_RETURN_IF_ERROR(CheckFile(snapshot.state.get(), "device state"));
  if (snapshot.ram.size() != plan.node_memory.size()) {
    return absl::InvalidArgumentError(absl::StrCat("snapshot: RAM of ", snapshot.ram.size(),
                                                   " nodes instead of ", plan.node_memory.size()));
  }
  for (size_t i = 0; i < snapshot.ram.size(); ++i) {
    KTSTR_RETURN_IF_ERROR(CheckFile(snapshot.ram[i].get(), "RAM"));
    struct stat info;
    if (fstat(snapshot.ram[i].get(), &info) != 0) return base::ErrnoStatus(errno, "snapshot");
    if (static_cast<uint64_t>(info.st_size) != plan.node_memory[i]) {
      return absl::InvalidArgumentError(absl::StrCat("snapshot: node ", i, " has ", info.st_size,
                                                     " bytes instead of ", plan.node_memory[i]));
    }
  }
  return absl::OkStatus();
}

uint64_t BundleCapacity(uint64_t bundle_bytes) {
  uint64_t window = kSmallestWindow;
  while (window - window::kAlignment < bundle_bytes) window *= 2;
  return window - window::kAlignment;
}

}  // namespace ktstr::vmm
