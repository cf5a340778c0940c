// SPDX-License-Identifier: Apache-2.0
//
// Cpusets by meaning -> CPU numbers. Used by the validator, the plan and the ISOLATION check: one
// resolution for all.

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

// CPUs of one spec, ascending, at least one. InvalidArgument says why it cannot hold, with the
// spec's text, the topology's label and the numbers: "not enough usable CPUs (4) for 8 partitions
// (disjoint { of: 8 }, topology 1n1l5c1t)".
//
// With n usable CPUs: `range` is [floor(start*n), floor(end*n)), at least one CPU. `disjoint` gives
// each part n/of CPUs (rounded down; what is left over stays unused). `overlap` extends a part by
// fraction*(n/of) CPUs, rounded up, of the next one; the last part has no next one.
absl::StatusOr<std::vector<int>> ResolveCpuset(const v1::Cpuset& cpuset, const Topology& topology);

// CPUs that the kernel lets each cgroup of a valid scenario use: its own cpuset, else that of the
// nearest ancestor that has one. Cgroups without any are absent.
std::map<std::string, std::vector<int>> AllowedCpus(const v1::Scenario& scenario,
                                                    const Topology& topology);

// "a/b" -> "a"; "a" -> "".
std::string_view ParentCgroup(std::string_view name);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_CPUSET_H_
