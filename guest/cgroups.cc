// SPDX-License-Identifier: Apache-2.0
#include "guest/cgroups.h"

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "guest/operation.h"

namespace ktstr::guest {
namespace {

constexpr const char* kRunRoot = "ktstr";

absl::Status EnableControllers(const std::string& directory) {
  for (const char* controller : {"cpu", "cpuset"}) {
    absl::Status written = base::WriteExisting(base::JoinPath(directory, "cgroup.subtree_control"),
                                               absl::StrCat("+", controller));
    if (!written.ok()) {
      return base::Annotate(
          written, absl::StrCat("cgroup controller ", controller,
                                " (the kernel needs CONFIG_CGROUP_SCHED and CONFIG_CPUSETS)"));
    }
  }
  return absl::OkStatus();
}

absl::Status WriteUnlessEmpty(const std::string& path, const std::string& value) {
  if (value.empty()) return absl::OkStatus();
  return base::Annotate(base::WriteExisting(path, value), absl::StrCat("set to '", value, "'"));
}

bool IsSafeName(std::string_view name) {
  while (true) {
    const size_t slash = name.find('/');
    const std::string_view component = name.substr(0, slash);
    if (component.empty() || component == "." || component == "..") return false;
    if (slash == std::string_view::npos) return true;
    name.remove_prefix(slash + 1);
  }
}

}  // namespace

absl::StatusOr<CgroupTree> CgroupTree::Make(const std::string& mount) {
  KTSTR_RETURN_IF_ERROR(EnableControllers(mount));
  const std::string root = base::JoinPath(mount, kRunRoot);
  KTSTR_RETURN_IF_ERROR(base::MakeDirs(root));
  return CgroupTree(root);
}

std::string CgroupTree::PathOf(std::string_view name) const { return base::JoinPath(root_, name); }

absl::Status CgroupTree::Create(const v1::GuestCgroup& cgroup) const {
  if (!IsSafeName(cgroup.name())) {
    return absl::InvalidArgumentError(
        absl::StrCat("cgroup '", cgroup.name(),
                     "': a name is components joined by '/', without empty ones, '.' and '..'"));
  }
  std::string parent = root_;
  for (size_t slash = 0; slash != std::string::npos;) {
    KTSTR_RETURN_IF_ERROR(
        MarkOperation(EnableControllers(parent), v1::OperationFailed::CGROUP_CREATE));
    slash = cgroup.name().find('/', slash == 0 ? 0 : slash + 1);
    parent = PathOf(std::string_view(cgroup.name()).substr(0, slash));
    KTSTR_RETURN_IF_ERROR(
        MarkOperation(base::MakeDirs(parent), v1::OperationFailed::CGROUP_CREATE));
  }
  const std::string path = PathOf(cgroup.name());
  KTSTR_RETURN_IF_ERROR(WriteUnlessEmpty(base::JoinPath(path, "cpuset.cpus"), cgroup.cpus()));
  KTSTR_RETURN_IF_ERROR(WriteUnlessEmpty(base::JoinPath(path, "cpuset.mems"), cgroup.mems()));
  return WriteUnlessEmpty(base::JoinPath(path, "cpu.weight"),
                          cgroup.weight() == 0 ? "" : absl::StrCat(cgroup.weight()));
}

absl::Status CgroupTree::Place(std::string_view name, pid_t pid) const {
  const std::string file = base::JoinPath(PathOf(name), "cgroup.procs");
  absl::Status written = base::WriteExisting(file, absl::StrCat(pid));
  if (written.ok()) return written;
  // The one rule of cgroup v2 that refuses a move; the kernel calls no scheduler then.
  const absl::StatusOr<std::string> children =
      base::ReadFile(base::JoinPath(PathOf(name), "cgroup.subtree_control"), 4096);
  if (children.ok() && children->size() > 1) {
    return base::Annotate(
        written,
        "place a worker (cgroup v2 keeps processes out of a cgroup that has children with "
        "processes: give workers to its leaves only)");
  }
  return MarkOperation(base::Annotate(written, "place a worker"), v1::OperationFailed::CGROUP_MOVE);
}

}  // namespace ktstr::guest
