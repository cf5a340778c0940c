// SPDX-License-Identifier: Apache-2.0
#include "guest/mounts.h"

#include <sys/mount.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace ktstr::guest {
namespace {

constexpr MountPoint kMountPoints[] = {
    {"devtmpfs", "/dev", "mode=0755", true},
    {"proc", "/proc", "", true},
    {"sysfs", "/sys", "", true},
    {"tmpfs", "/run", "mode=0755", true},
    {"tmpfs", "/tmp", "mode=1777", true},
    {"cgroup2", "/sys/fs/cgroup", "", true},
    {"bpf", "/sys/fs/bpf", "", false},
    {"debugfs", "/sys/kernel/debug", "", false},
    {"tracefs", "/sys/kernel/tracing", "", false},
};

absl::Status Mount(const MountPoint& point) {
  absl::Status made = base::MakeDirs(point.target);
  if (!made.ok()) return point.required ? made : absl::OkStatus();
  if (mount(point.type, point.target, point.type, MS_NOSUID, point.options) == 0)
    return absl::OkStatus();
  const int error = errno;
  if (error == EBUSY || !point.required) return absl::OkStatus();
  return base::ErrnoStatus(
      error, absl::StrCat("mount ", point.type, " on ", point.target,
                          " (the kernel needs support for this file system built in)"));
}

}  // namespace

absl::Span<const MountPoint> MountPoints() { return kMountPoints; }

absl::Status MountAll() {
  for (const MountPoint& point : kMountPoints) KTSTR_RETURN_IF_ERROR(Mount(point));
  return absl::OkStatus();
}

}  // namespace ktstr::guest
