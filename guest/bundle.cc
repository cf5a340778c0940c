// SPDX-License-Identifier: Apache-2.0
#include "guest/bundle.h"

#include <unistd.h>

#include <cerrno>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "guest/cpio.h"

namespace ktstr::guest {
namespace {

constexpr std::string_view kAbsolute = "root/";

// Makes `path` a symbolic link to `target`, with its missing parents.
absl::Status Link(const std::string& target, const std::string& path) {
  KTSTR_RETURN_IF_ERROR(base::MakeDirs(std::string(base::Dirname(path))));
  if (symlink(target.c_str(), path.c_str()) == 0) return absl::OkStatus();
  return base::ErrnoStatus(errno, absl::StrCat("link ", path, " to ", target));
}

}  // namespace

absl::StatusOr<v1::GuestPlan> LoadBundle(std::string_view archive, const std::string& root,
                                         const std::string& system_root) {
  KTSTR_ASSIGN_OR_RETURN(const std::vector<CpioEntry> entries, ParseCpio(archive));
  KTSTR_RETURN_IF_ERROR(UnpackCpio(archive, root));
  for (const CpioEntry& entry : entries) {
    if (entry.directory || entry.name.substr(0, kAbsolute.size()) != kAbsolute) continue;
    const std::string_view path = entry.name.substr(kAbsolute.size());
    KTSTR_RETURN_IF_ERROR(
        Link(base::JoinPath(root, entry.name), absl::StrCat(system_root, "/", base::ToAbsl(path))));
  }
  const std::string plan_path = base::JoinPath(root, "plan.pb");
  KTSTR_ASSIGN_OR_RETURN(const std::string bytes, base::ReadFile(plan_path));
  v1::GuestPlan plan;
  if (!plan.ParseFromString(bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat(plan_path, ": not a serialized ktstr.v1.GuestPlan"));
  }
  return plan;
}

}  // namespace ktstr::guest
