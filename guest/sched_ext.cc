// SPDX-License-Identifier: Apache-2.0
#include "guest/sched_ext.h"

#include <string_view>

#include "base/file.h"
#include "base/utf8.h"

namespace ktstr::guest {
namespace {

// One line of a sysfs file, or nothing: a missing `root/ops` only means that no scheduler is
// loaded.
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

std::optional<bool> ReadSwitchAll(const std::string& root) {
  const std::string line = ReadLine(base::JoinPath(root, "switch_all"));
  if (line.empty()) return std::nullopt;
  return line != "0";
}

std::optional<bool> InExtClass(std::string_view proc_sched) {
  // "ext.enabled                                  :                    1"
  constexpr std::string_view kName = "\next.enabled ";
  const size_t at = proc_sched.find(kName);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view line = proc_sched.substr(at + 1, proc_sched.find('\n', at + 1) - at - 1);
  const size_t value = line.find_last_of(" :");
  if (value + 1 >= line.size()) return std::nullopt;
  return line.substr(value + 1) != "0";
}

}  // namespace ktstr::guest
