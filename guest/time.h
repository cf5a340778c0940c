// SPDX-License-Identifier: Apache-2.0
//
// Guest time. The agent knows no other: no wall clock, no host time, so that a run repeats.

#ifndef KTSTR_GUEST_TIME_H_
#define KTSTR_GUEST_TIME_H_

#include <cstdint>
#include <ctime>

namespace ktstr::guest {

inline constexpr uint64_t kNsPerMs = 1'000'000;
inline constexpr uint64_t kNsPerSecond = 1'000'000'000;

// CLOCK_MONOTONIC, in nanoseconds.
inline uint64_t MonotonicNs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * kNsPerSecond + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_TIME_H_
