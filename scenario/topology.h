// SPDX-License-Identifier: Apache-2.0
//
// The guest's CPUs: NUMA nodes, last-level caches, cores, threads. A value for the validator, the
// plan and the launch plan of vmm/. CPU numbers ascend by node, LLC, core, thread. Any thread.

#ifndef KTSTR_SCENARIO_TOPOLOGY_H_
#define KTSTR_SCENARIO_TOPOLOGY_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "ktstr/v1/scenario.pb.h"

namespace ktstr::scenario {

inline constexpr int kMaxNumaNodes = 16;
// The limit of QEMU's q35 with the default interrupt controller.
inline constexpr int kMaxCpus = 255;

class Topology {
 public:
  // Resolves presets; an unset message means "tiny-1llc". InvalidArgument lists all problems.
  static absl::StatusOr<Topology> FromProto(const v1::Topology& proto);
  // Field of v1::Topology ("" for the whole message) and what is wrong with it; empty when
  // FromProto succeeds.
  static std::vector<std::pair<std::string, std::string>> ProblemsOf(const v1::Topology& proto);

  int numa_nodes() const { return numa_nodes_; }
  int llcs() const { return llcs_; }  // Of the whole machine.
  int cores_per_llc() const { return cores_per_llc_; }
  int threads_per_core() const { return threads_per_core_; }
  int num_cpus() const { return llcs_ * cores_per_llc_ * threads_per_core_; }

  std::string Label() const;  // "1n2l4c2t"
  std::vector<int> AllCpus() const;
  // All, without the last one when there are more than two: the last is for the root cgroup.
  std::vector<int> UsableCpus() const;
  std::vector<int> CpusOfLlc(int llc) const;    // `llc` below llcs().
  std::vector<int> CpusOfNode(int node) const;  // `node` below numa_nodes().
  int NodeOfCpu(int cpu) const;                 // `cpu` below num_cpus().

  v1::Topology ToProto() const;  // Counts, no preset.

 private:
  Topology(int numa_nodes, int llcs, int cores_per_llc, int threads_per_core)
      : numa_nodes_(numa_nodes),
        llcs_(llcs),
        cores_per_llc_(cores_per_llc),
        threads_per_core_(threads_per_core) {}

  int numa_nodes_;
  int llcs_;
  int cores_per_llc_;
  int threads_per_core_;
};

struct Preset {
  std::string_view name;
  std::string_view label;
  int cpus;
};
// All presets. Constant.
absl::Span<const Preset> Presets();

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_TOPOLOGY_H_
