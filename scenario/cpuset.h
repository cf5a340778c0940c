// SPDX-License-Identifier: Apache-2.0
//
// Resolves cpusets by meaning to CPU numbers, for the validator, the plan and the checks alike.
// Pure; any thread.

#ifndef KTSTR_SCENARIO_CPUSET_H_
#define KTSTR_SCENARIO_CPUSET_H_

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "ktstr/v1/scenario.pb.h"
#include "scenario/topology.h"

namespace ktstr::scenario {

// CPUs of one cpuset, ascending, at least one. InvalidArgument has the reason, the numbers, the
// text of the cpuset and the label of the topology: "not enough usable CPUs (4) for 8 partitions
// (disjoint { of: 8 }, topology 1n1l5c1t)".
//
// With n usable CPUs: `range` is [floor(start*n), floor(end*n)), at least one CPU. `disjoint` gives
// each part n/of CPUs, rounded down; the rest stays unused. `overlap` extends a part by
// fraction*(n/of) CPUs of the next one, rounded up; the last part has no next one.
absl::StatusOr<std::vector<int>> ResolveCpuset(const v1::Cpuset& cpuset, const Topology& topology);

// The CPUs that each cgroup of a valid scenario may use: its own cpuset, else that of the nearest
// ancestor with one. Cgroups without either are absent.
std::map<std::string, std::vector<int>> AllowedCpus(const v1::Scenario& scenario,
                                                    const Topology& topology);

// "a/b" -> "a"; "a" -> "".
std::string_view ParentCgroup(std::string_view name);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_CPUSET_H_
