// SPDX-License-Identifier: Apache-2.0

#include "scenario/problem.h"

#include "absl/strings/str_cat.h"

namespace ktstr::scenario {

std::string Problem::ToString() const {
  if (!file.empty() && line > 0) return absl::StrCat(file, ":", line, ":", column, ": ", message);
  if (!file.empty()) return absl::StrCat(file, ": ", message);
  if (!field.empty()) return absl::StrCat(field, ": ", message);
  return message;
}

}  // namespace ktstr::scenario
