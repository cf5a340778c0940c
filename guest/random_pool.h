// SPDX-License-Identifier: Apache-2.0
//
// The guest kernel's random pool, fed from the run's seed alone, so that a run repeats: once before
// anything of the run starts, and once after each fork of the seed.

#ifndef KTSTR_GUEST_RANDOM_POOL_H_
#define KTSTR_GUEST_RANDOM_POOL_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "guest/random.h"

namespace ktstr::guest {

// `path`: /dev/random. `at_ns`: time of the scenario, 0 before it begins.
absl::Status SeedRandomPool(const std::string& path, const Random& random, uint64_t at_ns);

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_RANDOM_POOL_H_
