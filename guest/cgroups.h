// SPDX-License-Identifier: Apache-2.0
//
// The run's part of the cgroup v2 tree: ROOT/ktstr/NAME, with the cpu and cpuset controllers
// enabled along the path (kernel Documentation/admin-guide/cgroup-v2.rst). Every error names the
// file. One thread.

#ifndef KTSTR_GUEST_CGROUPS_H_
#define KTSTR_GUEST_CGROUPS_H_

#include <sys/types.h>

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "ktstr/v1/guest.pb.h"

namespace ktstr::guest {

class CgroupTree {
 public:
  // `mount`: where cgroup2 is mounted, "/sys/fs/cgroup". Makes the run's root.
  static absl::StatusOr<CgroupTree> Make(const std::string& mount);

  // Makes the cgroup and its missing ancestors, then applies cpus, mems and weight.
  absl::Status Create(const v1::GuestCgroup& cgroup) const;
  // Moves a process. `name` was created.
  absl::Status Place(std::string_view name, pid_t pid) const;
  std::string PathOf(std::string_view name) const;

 private:
  explicit CgroupTree(std::string root) : root_(std::move(root)) {}
  std::string root_;
};

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_CGROUPS_H_
