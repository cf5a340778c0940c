// SPDX-License-Identifier: Apache-2.0
#include "scenario/limits.h"

#include "absl/strings/str_cat.h"
#include "base/string_view.h"

namespace ktstr::scenario {

std::string AboveLimit(const Limit& limit, uint64_t value) {
  if (value <= limit.max) return {};
  return absl::StrCat(value, limit.unit.empty() ? "" : " ", base::ToAbsl(limit.unit), ", at most ",
                      limit.max);
}

absl::Status CheckLimit(const Limit& limit, std::string_view name, uint64_t value) {
  const std::string problem = AboveLimit(limit, value);
  if (problem.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(base::ToAbsl(name), ": ", problem));
}

}  // namespace ktstr::scenario
