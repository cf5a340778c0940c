// SPDX-License-Identifier: Apache-2.0
#include "daemon/caller.h"

#include <pwd.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace ktstr::daemon {
namespace {

bool IsFileName(absl::string_view name) {
  return !name.empty() && name[0] != '.' && name.find('/') == absl::string_view::npos;
}

}  // namespace

std::string UserName(uid_t uid) {
  passwd entry;
  passwd* found = nullptr;
  char buffer[4096];
  if (getpwuid_r(uid, &entry, buffer, sizeof(buffer), &found) == 0 && found != nullptr &&
      IsFileName(found->pw_name)) {
    return found->pw_name;
  }
  return absl::StrCat("uid-", uid);
}

Caller CallerOf(uid_t uid) { return {.uid = uid, .user = UserName(uid), .admin = uid == 0}; }

}  // namespace ktstr::daemon
