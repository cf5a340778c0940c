// SPDX-License-Identifier: Apache-2.0
#include "base/cpu_list.h"

#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/string_view.h"

namespace ktstr::base {
namespace {

constexpr int kMaxCpu = 65535;

bool ParseCpu(absl::string_view text, int* cpu) {
  return !text.empty() && text.find_first_not_of("0123456789") == absl::string_view::npos &&
         absl::SimpleAtoi(text, cpu) && *cpu <= kMaxCpu;
}

}  // namespace

absl::StatusOr<std::vector<int>> ParseCpuList(std::string_view input) {
  const absl::string_view text = ToAbsl(input);
  std::set<int> cpus;
  absl::string_view list = absl::StripAsciiWhitespace(text);
  if (list.empty()) return std::vector<int>();
  for (absl::string_view part : absl::StrSplit(list, ',')) {
    std::pair<absl::string_view, absl::string_view> ends =
        absl::StrSplit(part, absl::MaxSplits('-', 1));
    int first = 0;
    int last = 0;
    bool range = part.find('-') != absl::string_view::npos;
    if (!ParseCpu(ends.first, &first) || (range && !ParseCpu(ends.second, &last))) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", text, "' is not a CPU list such as 0-3,7: cannot read '", part, "'"));
    }
    if (!range) last = first;
    if (last < first) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", text, "' is not a CPU list: range ", part, " descends"));
    }
    for (int cpu = first; cpu <= last; ++cpu) cpus.insert(cpu);
  }
  return std::vector<int>(cpus.begin(), cpus.end());
}

std::string FormatCpuList(const std::vector<int>& cpus) {
  std::string text;
  for (size_t i = 0; i < cpus.size();) {
    size_t end = i + 1;
    while (end < cpus.size() && cpus[end] == cpus[end - 1] + 1) ++end;
    absl::StrAppend(&text, text.empty() ? "" : ",", cpus[i]);
    if (end - i > 1) absl::StrAppend(&text, "-", cpus[end - 1]);
    i = end;
  }
  return text;
}

}  // namespace ktstr::base
