// SPDX-License-Identifier: Apache-2.0
//
// How many descriptors this process may open (RLIMIT_NOFILE).

#ifndef KTSTR_BASE_DESCRIPTORS_H_
#define KTSTR_BASE_DESCRIPTORS_H_

#include <sys/resource.h>

#include <optional>

#include "absl/status/status.h"

namespace ktstr::base {

// Raises the soft limit to the hard one. Programs that Spawn starts get the original soft limit: a
// program that uses select(2) breaks above 1024. `main` calls it before other threads exist.
absl::Status RaiseDescriptorLimit();

// The limit before it was raised; nullopt when it was not. Any thread.
std::optional<rlimit> OriginalDescriptorLimit();

// Whether this process can open `count` more descriptors now; opens and closes them. Any thread.
bool CanOpenDescriptors(int count);

}  // namespace ktstr::base

#endif  // KTSTR_BASE_DESCRIPTORS_H_
