// SPDX-License-Identifier: Apache-2.0
//
// The agent's one source of randomness. A draw is a function of the seed, the name of a stream, an
// index in it and the time: there is no state. So a consumer that is added, or draws more often,
// changes no number of another one, and the order of their draws does not matter. What each stream
// drives: docs/guide/determinism.md.
//
// Times are those of the scenario: ns since the first step began, 0 before. From a fork's time on,
// draws come from its seed. Immutable; any thread.

#ifndef KTSTR_GUEST_RANDOM_H_
#define KTSTR_GUEST_RANDOM_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "ktstr/v1/guest.pb.h"

namespace ktstr::guest {

// Names of the streams. The comment says what the index counts.
namespace stream {
inline constexpr std::string_view kKernelPool = "kernel-pool";      // Words given to the kernel.
inline constexpr std::string_view kStartJitter = "start-jitter";    // Workers.
inline constexpr std::string_view kReleaseOrder = "release-order";  // Workers.
// For these five, see perturber.cc.
inline constexpr std::string_view kBurst = "perturb.burst";
inline constexpr std::string_view kTimers = "perturb.timers";
inline constexpr std::string_view kIpis = "perturb.ipis";
inline constexpr std::string_view kMove = "perturb.move";
inline constexpr std::string_view kHotplug = "perturb.hotplug";
inline constexpr std::string_view kPriority = "pct.priority";   // Workers.
inline constexpr std::string_view kChangePoint = "pct.change";  // Two per change point.
}  // namespace stream

class Random {
 public:
  explicit Random(uint64_t seed) : seed_(seed) {}
  // Seed and forks of the plan.
  explicit Random(const v1::GuestPlan& plan);

  uint64_t Draw(std::string_view stream, uint64_t index, uint64_t at_ns) const;
  // In [0, bound); 0 when `bound` is 0.
  uint64_t Below(uint64_t bound, std::string_view stream, uint64_t index, uint64_t at_ns) const;
  // In [low, high]; `low` when `high` lies below.
  uint64_t Between(uint64_t low, uint64_t high, std::string_view stream, uint64_t index,
                   uint64_t at_ns) const;
  // How many forks there are up to that time.
  size_t ForksUntil(uint64_t at_ns) const;

 private:
  uint64_t SeedAt(uint64_t at_ns) const;

  uint64_t seed_;
  std::vector<v1::GuestSeedFork> forks_;
};

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_RANDOM_H_
