// SPDX-License-Identifier: Apache-2.0
//
// CPU sets in the kernel's list format ("0-3,7"; Documentation/admin-guide/cputopology.rst).

#ifndef KTSTR_BASE_CPU_LIST_H_
#define KTSTR_BASE_CPU_LIST_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace ktstr::base {

// Ascending, no duplicates. InvalidArgument on syntax, on a descending range, or on a number above
// 65535. Empty text: empty.
absl::StatusOr<std::vector<int>> ParseCpuList(std::string_view text);
// `cpus` ascending.
std::string FormatCpuList(const std::vector<int>& cpus);

}  // namespace ktstr::base

#endif  // KTSTR_BASE_CPU_LIST_H_
