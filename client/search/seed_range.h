// SPDX-License-Identifier: Apache-2.0
//
// "A..B", the seeds of a search. Pure functions, any thread.

#ifndef KTSTR_CLIENT_SEARCH_SEED_RANGE_H_
#define KTSTR_CLIENT_SEARCH_SEED_RANGE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ktstr::client {

inline constexpr uint64_t kMaxSeeds = 1'000'000;

// Both ends belong to it; 1 <= first <= last.
struct SeedRange {
  uint64_t first = 1;
  uint64_t last = 1;
  uint64_t size() const { return last - first + 1; }
};

// "1..100", or "7" for one seed; at most kMaxSeeds seeds. InvalidArgument names the value and the
// form.
absl::StatusOr<SeedRange> ParseSeedRange(absl::string_view text);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_SEARCH_SEED_RANGE_H_
