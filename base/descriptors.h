// SPDX-License-Identifier: Apache-2.0
//
// How many descriptors this process may open (RLIMIT_NOFILE).

#ifndef KTSTR_BASE_DESCRIPTORS_H_
#define KTSTR_BASE_DESCRIPTORS_H_

#include <sys/resource.h>

#include <optional>

#include "absl/status/status.h"

namespace ktstr::base {

// Raises the soft limit to the hard one. Programs that Spawn starts get the soft limit of before: a
// program that uses select(2) breaks above 1024. Called by `main`, before other threads exist.
absl::Status RaiseDescriptorLimit();

// The limit of before; nullopt when it was not raised. Any thread.
std::optional<rlimit> OriginalDescriptorLimit();

// Whether `count` more descriptors can be opened now. Opens and closes them. Any thread.
bool CanOpenDescriptors(int count);

}  // namespace ktstr::base

#endif  // KTSTR_BASE_DESCRIPTORS_H_
