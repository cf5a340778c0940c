// SPDX-License-Identifier: Apache-2.0
#include "guest/sched_ext.h"

#include <string_view>

#include "base/file.h"
#include "base/utf8.h"

namespace ktstr::guest {
namespace {

// One line of a sysfs file, or nothing: a missing `root/ops` only says that no scheduler is loaded.
std::string ReadLine(const std::string& path) {
  absl::StatusOr<std::string> text = base::ReadFile(path, 4096);
  if (!text.ok()) return "";
  return base::SanitizeUtf8(std::string_view(*text).substr(0, text->find('\n')));
}

}  // namespace

SchedExtState ReadSchedExtState(const std::string& root) {
  return {.state = ReadLine(base::JoinPath(root, "state")),
          .ops = ReadLine(base::JoinPath(root, "root/ops"))};
}

}  // namespace ktstr::guest
