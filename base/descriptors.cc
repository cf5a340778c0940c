// SPDX-License-Identifier: Apache-2.0
#include "base/descriptors.h"

#include <fcntl.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <vector>

#include "base/fd.h"
#include "base/status_macros.h"

namespace ktstr::base {
namespace {

std::optional<rlimit>& Original() {
  static std::optional<rlimit> original;
  return original;
}

}  // namespace

absl::Status RaiseDescriptorLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return ErrnoStatus(errno, "getrlimit RLIMIT_NOFILE");
  if (limit.rlim_cur == limit.rlim_max) return absl::OkStatus();
  const rlimit raised = {limit.rlim_max, limit.rlim_max};
  if (setrlimit(RLIMIT_NOFILE, &raised) != 0) return ErrnoStatus(errno, "setrlimit RLIMIT_NOFILE");
  if (!Original().has_value()) Original() = limit;
  return absl::OkStatus();
}

std::optional<rlimit> OriginalDescriptorLimit() { return Original(); }

bool CanOpenDescriptors(int count) {
  std::vector<UniqueFd> opened;
  opened.emplace_back(eventfd(0, EFD_CLOEXEC));
  while (opened.back().valid() && opened.size() < static_cast<size_t>(count)) {
    opened.emplace_back(fcntl(opened.front().get(), F_DUPFD_CLOEXEC, 0));
  }
  return opened.back().valid();
}

}  // namespace ktstr::base
