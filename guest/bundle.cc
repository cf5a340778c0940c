// SPDX-License-Identifier: Apache-2.0
#include "guest/bundle.h"

#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "guest/cpio.h"

namespace ktstr::guest {
namespace {

constexpr const char* kLoaderInBundle = "lib/ld-linux-x86-64.so.2";

}  // namespace

absl::StatusOr<v1::GuestPlan> LoadBundle(std::string_view archive, const std::string& root,
                                         const std::string& loader) {
  KTSTR_RETURN_IF_ERROR(UnpackCpio(archive, root));
  const std::string brought = base::JoinPath(root, kLoaderInBundle);
  if (base::Exists(brought)) {
    KTSTR_RETURN_IF_ERROR(base::MakeDirs(std::string(base::Dirname(loader))));
    if (symlink(brought.c_str(), loader.c_str()) != 0 && errno != EEXIST) {
      return base::ErrnoStatus(errno, absl::StrCat("link ", loader, " to ", brought));
    }
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
