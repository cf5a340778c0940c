// SPDX-License-Identifier: Apache-2.0
//
// The bundle: a cpio archive in the "newc" format (kernel
// Documentation/driver-api/early-userspace/buffer-format.rst), read in place and unpacked. Regular
// files and directories only; a path stays below its root. Any thread.

#ifndef KTSTR_GUEST_CPIO_H_
#define KTSTR_GUEST_CPIO_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace ktstr::guest {

inline constexpr size_t kMaxCpioEntries = 8192;
inline constexpr size_t kMaxCpioName = 1024;

struct CpioEntry {
  std::string_view name;  // Relative; components neither empty, "." nor "..".
  bool directory = false;
  uint32_t permissions = 0;  // 0 to 0777.
  std::string_view data;     // Points into the archive.
};

// Entries in archive order up to the trailer; ignores what follows it. InvalidArgument names the
// offset and the reason.
absl::StatusOr<std::vector<CpioEntry>> ParseCpio(std::string_view archive);

// Makes `root` and unpacks the entries below it. AlreadyExists when a file comes twice.
absl::Status UnpackCpio(std::string_view archive, const std::string& root);

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_CPIO_H_
