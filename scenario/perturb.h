// SPDX-License-Identifier: Apache-2.0
//
// Disturbances and seed forks: what a scenario may set, and what the agent then does. perturb.cc
// has the one table of intensities. Pure; any thread.

#ifndef KTSTR_SCENARIO_PERTURB_H_
#define KTSTR_SCENARIO_PERTURB_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ktstr/v1/guest.pb.h"
#include "ktstr/v1/scenario.pb.h"
#include "scenario/limits.h"
#include "scenario/topology.h"

namespace ktstr::scenario {

inline constexpr uint32_t kMaxIntensity = LimitOf("Perturb.intensity").max;
inline constexpr uint32_t kDefaultIntensity = 1;
inline constexpr uint32_t kMaxChangePoints = LimitOf("Perturb.Pct.change_points").max;
inline constexpr uint32_t kDefaultChangePoints = 3;
inline constexpr int kMaxSeedForks = LimitOf("Scenario.seed_fork").max;
inline constexpr int kMaxDelayPoints = LimitOf("Perturb.delay_point").max;
inline constexpr uint32_t kMaxDelayUs = LimitOf("Perturb.DelayPoint.max_us").max;
inline constexpr uint32_t kDefaultDelayUs = 200;
inline constexpr uint32_t kMaxDelayOneIn = LimitOf("Perturb.DelayPoint.one_in").max;
// The program that delays callbacks (bpf/scx_delay.cc), and its place in the bundle.
inline constexpr char kDelayProgram[] = "scx_delay";
inline constexpr char kDelayGuestPath[] = "bin/scx_delay";
// The agent reports each disturbance; more than this of a kind would fill the ring. So in a long
// scenario disturbances come less often.
inline constexpr uint32_t kMaxDisturbancesPerKind = 1000;
// The longest burst.
inline constexpr uint64_t kMaxBurstNs = 4'000'000;

// Field of Scenario ("perturb.intensity", "seed_fork[1]") and message.
using FieldProblems = std::vector<std::pair<std::string, std::string>>;

// `topology` is null when that of the scenario is invalid.
FieldProblems PerturbProblems(const v1::Scenario& scenario, const Topology* topology);

// For a valid scenario that has `perturb`; `length_ns` is the length of all steps.
v1::GuestPerturb MakeGuestPerturb(const v1::Scenario& scenario, const Topology& topology,
                                  uint64_t length_ns);

// Whether there are delay points, and a scheduler whose callbacks they delay.
bool HasDelayProbe(const v1::Scenario& scenario);
// For a valid scenario with HasDelayProbe().
v1::GuestProbe MakeDelayProbe(const v1::Scenario& scenario);

// The scenario's forks, filled up to kMaxSeedForks with some that never happen.
std::vector<v1::GuestSeedFork> MakeSeedForks(const v1::Scenario& scenario);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_PERTURB_H_
