// SPDX-License-Identifier: Apache-2.0
//
// Which cgroups and works compete for CPU time, and the share that each should get by weight. Pure;
// any thread.
//
// Cgroups compete when they may use the same CPUs. Siblings share in proportion to their weights:
// cgroups of one parent by cpu.weight, the `work`s of one cgroup by the kernel's weight of their
// nice value. A worker can use at most one CPU; the others share what it leaves. Workers live from
// their step to the end of the scenario, so the shares change from step to step.

#ifndef KTSTR_SCENARIO_COMPETITION_H_
#define KTSTR_SCENARIO_COMPETITION_H_

#include <cstddef>
#include <string>
#include <vector>

#include "ktstr/v1/scenario.pb.h"
#include "scenario/topology.h"

namespace ktstr::scenario {

struct Competitor {
  std::string name;             // "cgroup heavy (weight 1000)", "work 2 of cgroup a (nice 5)"
  std::vector<size_t> workers;  // Indexes in DeclaredWorkers.
  double expected_ns = 0;       // CPU time by weight, over the whole scenario.
};

// Siblings that compete; at least two.
struct Contest {
  std::string where;  // The parent, "cgroup a"; "scenario" at the top.
  std::vector<Competitor> competitors;
};

struct Competition {
  std::vector<Contest> contests;
  std::string why_none;  // Set when there is no contest.
};

// `scenario` is valid except perhaps for its checks, and `topology` is its own. Leaves out what it
// cannot judge: cgroups that share only some of their CPUs with others, that compete with workers
// that sleep, or whose parent's weight is spread over several sets of CPUs; and siblings that have
// as many CPUs as they can use.
Competition CompetitionOf(const v1::Scenario& scenario, const Topology& topology);

// The kernel's weight of a nice value, -20 to 19: sched_prio_to_weight in kernel/sched/core.c.
int WeightOfNice(int nice);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_COMPETITION_H_
