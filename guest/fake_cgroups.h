// SPDX-License-Identifier: Apache-2.0
//
// A directory that looks like a mounted cgroup2 to CgroupTree, for tests: the files that the kernel
// would make are there.

#ifndef KTSTR_GUEST_FAKE_CGROUPS_H_
#define KTSTR_GUEST_FAKE_CGROUPS_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace ktstr::guest {

class FakeCgroups {
 public:
  // `names`: the cgroups below the run's root that will be used.
  static absl::StatusOr<FakeCgroups> Make(const std::vector<std::string>& names) {
    KTSTR_ASSIGN_OR_RETURN(base::TempDir dir, base::TempDir::Make("cgroups"));
    FakeCgroups fake(std::move(dir));
    KTSTR_RETURN_IF_ERROR(
        base::WriteFileAtomic(base::JoinPath(fake.mount(), "cgroup.subtree_control"), ""));
    KTSTR_RETURN_IF_ERROR(fake.Populate(""));
    for (const std::string& name : names) KTSTR_RETURN_IF_ERROR(fake.Populate(name));
    return fake;
  }

  const std::string& mount() const { return dir_.path(); }
  // Last value written to `file` below the run's root.
  std::string Read(const std::string& file) const {
    return base::ReadFile(base::JoinPath(base::JoinPath(mount(), "ktstr"), file))
        .value_or("(no file)");
  }
  // Empties `file`: writes to it do not truncate, as in the kernel's.
  absl::Status Clear(const std::string& file) const {
    return base::WriteFileAtomic(base::JoinPath(base::JoinPath(mount(), "ktstr"), file), "");
  }

 private:
  explicit FakeCgroups(base::TempDir dir) : dir_(std::move(dir)) {}

  absl::Status Populate(const std::string& name) {
    std::string directory = base::JoinPath(mount(), "ktstr");
    if (!name.empty()) directory = base::JoinPath(directory, name);
    KTSTR_RETURN_IF_ERROR(base::MakeDirs(directory));
    for (const char* file :
         {"cgroup.subtree_control", "cgroup.procs", "cpuset.cpus", "cpuset.mems", "cpu.weight"}) {
      KTSTR_RETURN_IF_ERROR(base::WriteFileAtomic(base::JoinPath(directory, file), ""));
    }
    return absl::OkStatus();
  }

  base::TempDir dir_;
};

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_FAKE_CGROUPS_H_
