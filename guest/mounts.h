// SPDX-License-Identifier: Apache-2.0
//
// The file systems that schedulers expect of a real system. Called once, by PID 1, before anything
// else.

#ifndef KTSTR_GUEST_MOUNTS_H_
#define KTSTR_GUEST_MOUNTS_H_

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace ktstr::guest {

struct MountPoint {
  const char* type;
  const char* target;
  const char* options;
  bool required;  // Not required: left out silently when the kernel does not know the type.
};

// In mount order.
absl::Span<const MountPoint> MountPoints();

// Makes the directories and mounts; what is mounted already stays.
absl::Status MountAll();

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_MOUNTS_H_
