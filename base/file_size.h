// SPDX-License-Identifier: Apache-2.0
//
// Size of an open file. Any thread.

#ifndef KTSTR_BASE_FILE_SIZE_H_
#define KTSTR_BASE_FILE_SIZE_H_

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"

namespace ktstr::base {

// In bytes, by fstat(2); errors name `name`.
absl::StatusOr<uint64_t> SizeOf(int fd, std::string_view name);

}  // namespace ktstr::base

#endif  // KTSTR_BASE_FILE_SIZE_H_
