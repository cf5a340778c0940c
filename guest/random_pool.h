// SPDX-License-Identifier: Apache-2.0
//
// The guest kernel's random pool, fed from the run's seed alone, so that a run repeats. Once per
// run.

#ifndef KTSTR_GUEST_RANDOM_POOL_H_
#define KTSTR_GUEST_RANDOM_POOL_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace ktstr::guest {

// `path`: /dev/random.
absl::Status SeedRandomPool(const std::string& path, uint64_t seed);

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_RANDOM_POOL_H_
