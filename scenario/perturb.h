// SPDX-License-Identifier: Apache-2.0
//
// Disturbances and seed forks: what a scenario may ask for, and what that means in numbers. The
// table of intensities is here and nowhere else.

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
// Each disturbance is reported. More of a kind than this would fill the ring in a long scenario:
// there they come less often.
inline constexpr uint32_t kMaxDisturbancesPerKind = 1000;
// No disturbance keeps a CPU for longer.
inline constexpr uint64_t kMaxBurstNs = 4'000'000;

// Field below Scenario ("perturb.intensity", "seed_fork[1]"), message.
using FieldProblems = std::vector<std::pair<std::string, std::string>>;

// `topology` is null when the scenario's own is not valid.
FieldProblems PerturbProblems(const v1::Scenario& scenario, const Topology* topology);

// Of a valid scenario that has `perturb`; `length_ns` is that of all steps.
v1::GuestPerturb MakeGuestPerturb(const v1::Scenario& scenario, const Topology& topology,
                                  uint64_t length_ns);

// Whether there are delay points, and a scheduler whose callbacks they delay.
bool HasDelayProbe(const v1::Scenario& scenario);
// Of a valid scenario for which that is so.
v1::GuestProbe MakeDelayProbe(const v1::Scenario& scenario);

// The scenario's forks and, up to kMaxSeedForks, some that never come.
std::vector<v1::GuestSeedFork> MakeSeedForks(const v1::Scenario& scenario);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_PERTURB_H_
