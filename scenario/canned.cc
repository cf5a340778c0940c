// SPDX-License-Identifier: Apache-2.0

#include "scenario/canned.h"

namespace ktstr::scenario {
namespace {

constexpr CannedScenario kCanned[] = {
    {"steady", "Two cgroups on one LLC, one computing, one in bursts; fewer workers than CPUs",
     R"(name: "steady"
description: "Two cgroups on one LLC, one computing, one in bursts; fewer workers than CPUs"
topology { preset: "tiny-1llc" }
duration_ms: 2000
step {
  cgroup { name: "left" work { spin_wait {} workers: 2 } }
  cgroup { name: "right" work { bursty { burst_ms: 50 sleep_ms: 100 } workers: 2 } }
}
)"},
    {"steady_llc", "Two cgroups, each confined to an LLC of its own",
     R"(name: "steady_llc"
description: "Two cgroups, each confined to an LLC of its own"
topology { preset: "tiny-2llc" }
duration_ms: 2000
step {
  cgroup { name: "llc0" cpuset { llc: 0 } work { spin_wait {} workers: 2 } }
  cgroup { name: "llc1" cpuset { llc: 1 } work { spin_wait {} workers: 2 } }
}
checks { isolation: true }
)"},
    {"oversubscribed", "Three computing workers per CPU, all in competition",
     R"(name: "oversubscribed"
description: "Three computing workers per CPU, all in competition"
topology { preset: "tiny-1llc" }
duration_ms: 4000
step {
  cgroup { name: "crowd" work { spin_wait {} workers: 12 } }
}
)"},
    {"mixed_workloads", "Computing and bursting workers side by side in each of two cgroups",
     R"(name: "mixed_workloads"
description: "Computing and bursting workers side by side in each of two cgroups"
topology { preset: "tiny-2llc" }
duration_ms: 3000
step {
  cgroup {
    name: "batch"
    work { spin_wait {} workers: 2 }
    work { bursty { burst_ms: 20 sleep_ms: 20 } workers: 2 }
  }
  cgroup {
    name: "interactive"
    work { bursty { burst_ms: 2 sleep_ms: 20 } workers: 4 }
  }
}
)"},
    {"cpuset_apply", "A free cgroup first, then two confined to halves of the CPUs join it",
     R"(name: "cpuset_apply"
description: "A free cgroup first, then two confined to halves of the CPUs join it"
topology { preset: "smt-2llc" }
duration_ms: 3000
step {
  cgroup { name: "free" work { spin_wait {} workers: 2 } }
  hold { fraction: 0.4 }
}
step {
  cgroup { name: "low" cpuset { range { start: 0 end: 0.5 } } work { spin_wait {} workers: 2 } }
  cgroup { name: "high" cpuset { range { start: 0.5 end: 1 } } work { spin_wait {} workers: 2 } }
}
checks { isolation: true }
)"},
    {"cpuset_overlap", "Three cgroups whose cpusets share CPUs with their neighbours",
     R"(name: "cpuset_overlap"
description: "Three cgroups whose cpusets share CPUs with their neighbours"
topology { preset: "odd-3llc" }
duration_ms: 3000
step {
  cgroup {
    name: "first"
    cpuset { overlap { index: 0 of: 3 fraction: 0.5 } }
    work { spin_wait {} workers: 2 }
  }
  cgroup {
    name: "second"
    cpuset { overlap { index: 1 of: 3 fraction: 0.5 } }
    work { spin_wait {} workers: 2 }
  }
  cgroup {
    name: "third"
    cpuset { overlap { index: 2 of: 3 fraction: 0.5 } }
    work { bursty {} workers: 2 }
  }
}
checks { isolation: true }
)"},
    {"cgroup_add", "Cgroups arrive one after another while the earlier ones compute",
     R"(name: "cgroup_add"
description: "Cgroups arrive one after another while the earlier ones compute"
topology { preset: "tiny-1llc" }
duration_ms: 3000
step { cgroup { name: "first" work { spin_wait {} workers: 1 } } }
step { cgroup { name: "second" work { spin_wait {} workers: 1 } } }
step { cgroup { name: "third" work { bursty {} workers: 2 } } }
)"},
    {"nested_steady", "Cgroups inside cgroups, the inner ones confined within the outer cpuset",
     R"(name: "nested_steady"
description: "Cgroups inside cgroups, the inner ones confined within the outer cpuset"
topology { preset: "smt-2llc" }
duration_ms: 2000
step {
  cgroup { name: "app" cpuset { llc: 0 } }
  cgroup { name: "app/web" cpuset { exact { cpus: "0-1" } } work { bursty {} workers: 2 } }
  cgroup { name: "app/db" work { spin_wait {} workers: 2 } }
  cgroup { name: "other" cpuset { llc: 1 } work { spin_wait {} workers: 2 } }
}
checks { isolation: true }
)"},
    {"weighted", "Two cgroups of different weight and niceness compete for all CPUs",
     R"(name: "weighted"
description: "Two cgroups of different weight and niceness compete for all CPUs"
topology { preset: "tiny-1llc" }
duration_ms: 4000
step {
  cgroup { name: "heavy" weight: 400 work { spin_wait {} workers: 4 } }
  cgroup { name: "light" weight: 100 work { spin_wait {} workers: 4 nice: 5 } }
}
)"},
    {"numa_steady", "One cgroup on each of two NUMA nodes",
     R"(name: "numa_steady"
description: "One cgroup on each of two NUMA nodes"
topology { preset: "numa2-4llc" }
duration_ms: 2000
step {
  cgroup { name: "node0" cpuset { numa: 0 } work { spin_wait {} workers: 4 } }
  cgroup { name: "node1" cpuset { numa: 1 } work { bursty {} workers: 4 } }
}
checks { isolation: true }
)"},
};

}  // namespace

absl::Span<const CannedScenario> CannedScenarios() { return kCanned; }

const CannedScenario* FindCanned(std::string_view name) {
  for (const CannedScenario& canned : kCanned) {
    if (canned.name == name) return &canned;
  }
  return nullptr;
}

}  // namespace ktstr::scenario
