// SPDX-License-Identifier: Apache-2.0
#include "guest/bundle.h"

#include <unistd.h>

#include <algorithm>
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
constexpr const char* kPlan = "plan.pb";

// Makes `path` a symbolic link to `target`, with its missing parents.
absl::Status Link(const std::string& target, const std::string& path) {
  KTSTR_RETURN_IF_ERROR(base::MakeDirs(std::string(base::Dirname(path))));
  if (symlink(target.c_str(), path.c_str()) == 0) return absl::OkStatus();
  return base::ErrnoStatus(errno, absl::StrCat("link ", path, " to ", target));
}

absl::StatusOr<v1::GuestPlan> PlanOf(const std::vector<CpioEntry>& entries) {
  const auto found = std::find_if(entries.begin(), entries.end(),
                                  [](const CpioEntry& entry) { return entry.name == kPlan; });
  if (found == entries.end()) return absl::NotFoundError(absl::StrCat("bundle: no ", kPlan));
  v1::GuestPlan plan;
  if (!plan.ParseFromArray(found->data.data(), static_cast<int>(found->data.size()))) {
    return absl::InvalidArgumentError(
        absl::StrCat("bundle: ", kPlan, " is not a serialized ktstr.v1.GuestPlan"));
  }
  return plan;
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
  return PlanOf(entries);
}

absl::StatusOr<v1::GuestPlan> ReadPlan(std::string_view archive) {
  KTSTR_ASSIGN_OR_RETURN(const std::vector<CpioEntry> entries, ParseCpio(archive));
  return PlanOf(entries);
}

}  // namespace ktstr::guest
