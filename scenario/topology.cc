// SPDX-License-Identifier: Apache-2.0

#include "scenario/topology.h"

#include <array>
#include <cstdint>
#include <numeric>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "scenario/nearest.h"

namespace ktstr::scenario {
namespace {

struct PresetCounts {
  Preset preset;
  int numa_nodes, llcs, cores_per_llc, threads_per_core;
};

constexpr std::array<PresetCounts, 24> kPresetCounts = {{
    {{"tiny-1llc", "1n1l4c1t", 4}, 1, 1, 4, 1},
    {{"tiny-2llc", "1n2l2c1t", 4}, 1, 2, 2, 1},
    {{"odd-3llc", "1n3l3c1t", 9}, 1, 3, 3, 1},
    {{"odd-5llc", "1n5l3c1t", 15}, 1, 5, 3, 1},
    {{"odd-7llc", "1n7l2c1t", 14}, 1, 7, 2, 1},
    {{"smt-2llc", "1n2l2c2t", 8}, 1, 2, 2, 2},
    {{"smt-3llc", "1n3l2c2t", 12}, 1, 3, 2, 2},
    {{"medium-4llc", "1n4l4c2t", 32}, 1, 4, 4, 2},
    {{"medium-8llc", "1n8l4c2t", 64}, 1, 8, 4, 2},
    {{"large-4llc", "1n4l16c2t", 128}, 1, 4, 16, 2},
    {{"large-8llc", "1n8l8c2t", 128}, 1, 8, 8, 2},
    {{"near-max-llc", "1n15l8c2t", 240}, 1, 15, 8, 2},
    {{"max-cpu", "1n14l9c2t", 252}, 1, 14, 9, 2},
    {{"medium-4llc-nosmt", "1n4l8c1t", 32}, 1, 4, 8, 1},
    {{"medium-8llc-nosmt", "1n8l8c1t", 64}, 1, 8, 8, 1},
    {{"large-4llc-nosmt", "1n4l32c1t", 128}, 1, 4, 32, 1},
    {{"large-8llc-nosmt", "1n8l16c1t", 128}, 1, 8, 16, 1},
    {{"near-max-llc-nosmt", "1n15l16c1t", 240}, 1, 15, 16, 1},
    {{"max-cpu-nosmt", "1n14l18c1t", 252}, 1, 14, 18, 1},
    {{"numa2-4llc", "2n4l4c1t", 16}, 2, 4, 4, 1},
    {{"numa2-8llc", "2n8l8c2t", 128}, 2, 8, 8, 2},
    {{"numa2-8llc-nosmt", "2n8l16c1t", 128}, 2, 8, 16, 1},
    {{"numa4-8llc", "4n8l4c1t", 32}, 4, 8, 4, 1},
    {{"numa4-12llc", "4n12l8c2t", 192}, 4, 12, 8, 2},
}};

constexpr std::array<Preset, kPresetCounts.size()> MakePresets() {
  std::array<Preset, kPresetCounts.size()> presets{};
  for (size_t i = 0; i < presets.size(); ++i) presets[i] = kPresetCounts[i].preset;
  return presets;
}
constexpr std::array<Preset, kPresetCounts.size()> kPresets = MakePresets();

const PresetCounts* FindPreset(std::string_view name) {
  for (const PresetCounts& candidate : kPresetCounts) {
    if (candidate.preset.name == name) return &candidate;
  }
  return nullptr;
}

bool HasCounts(const v1::Topology& proto) {
  return proto.numa_nodes() != 0 || proto.llcs() != 0 || proto.cores_per_llc() != 0 ||
         proto.threads_per_core() != 0;
}

std::vector<int> CpuRange(int first, int count) {
  std::vector<int> cpus(count);
  std::iota(cpus.begin(), cpus.end(), first);
  return cpus;
}

std::vector<std::pair<std::string, std::string>> ProblemsOfCounts(const v1::Topology& proto) {
  std::vector<std::pair<std::string, std::string>> problems;
  auto missing = [&](const char* field, uint32_t value) {
    if (value == 0) {
      problems.emplace_back(
          field, absl::StrCat(
                     field, " is missing or 0; a topology without a preset needs all four counts, ",
                     "each at least 1"));
    }
    return value == 0;
  };
  bool bad = missing("numa_nodes", proto.numa_nodes());
  bad |= missing("llcs", proto.llcs());
  bad |= missing("cores_per_llc", proto.cores_per_llc());
  bad |= missing("threads_per_core", proto.threads_per_core());
  if (proto.numa_nodes() > kMaxNumaNodes) {
    problems.emplace_back("numa_nodes",
                          absl::StrCat("numa_nodes ", proto.numa_nodes(),
                                       " is out of range; allowed: 1 to ", kMaxNumaNodes));
    bad = true;
  }
  if (proto.threads_per_core() > 2) {
    problems.emplace_back("threads_per_core",
                          absl::StrCat("threads_per_core ", proto.threads_per_core(),
                                       " is out of range; allowed: 1 or 2"));
    bad = true;
  }
  if (bad) return problems;
  if (proto.llcs() % proto.numa_nodes() != 0) {
    problems.emplace_back("llcs",
                          absl::StrCat("llcs ", proto.llcs(), " is not a multiple of numa_nodes ",
                                       proto.numa_nodes(), "; llcs counts the whole machine"));
  }
  // Bounds each factor, so that the product cannot overflow.
  const bool huge = proto.llcs() > kMaxCpus || proto.cores_per_llc() > kMaxCpus;
  const uint64_t cpus = uint64_t{proto.llcs()} * proto.cores_per_llc() * proto.threads_per_core();
  if (huge || cpus > kMaxCpus) {
    problems.emplace_back(
        "", absl::StrCat("topology has ", proto.llcs(), " LLCs of ", proto.cores_per_llc(),
                         " cores with ", proto.threads_per_core(), " threads; at most ", kMaxCpus,
                         " CPUs are possible"));
  }
  return problems;
}

}  // namespace

absl::Span<const Preset> Presets() { return kPresets; }

std::vector<std::pair<std::string, std::string>> Topology::ProblemsOf(const v1::Topology& proto) {
  if (proto.preset().empty()) {
    if (!HasCounts(proto)) return {};
    return ProblemsOfCounts(proto);
  }
  std::vector<std::pair<std::string, std::string>> problems;
  if (FindPreset(proto.preset()) == nullptr) {
    std::vector<std::string_view> names;
    for (const Preset& preset : Presets()) names.push_back(preset.name);
    problems.emplace_back(
        "preset", absl::StrCat("no topology preset '", proto.preset(), "'",
                               DidYouMean(proto.preset(), names), "; see 'ktstrctl list presets'"));
  }
  if (HasCounts(proto)) {
    problems.emplace_back("preset",
                          absl::StrCat("preset '", proto.preset(),
                                       "' excludes the four counts; give one or the other"));
  }
  return problems;
}

absl::StatusOr<Topology> Topology::FromProto(const v1::Topology& proto) {
  std::string text;
  for (const auto& [field, message] : ProblemsOf(proto)) {
    absl::StrAppend(&text, text.empty() ? "" : "; ", message);
  }
  if (!text.empty()) return absl::InvalidArgumentError(absl::StrCat("topology: ", text));
  if (!HasCounts(proto)) {
    const PresetCounts* preset = FindPreset(proto.preset().empty() ? "tiny-1llc" : proto.preset());
    return Topology(preset->numa_nodes, preset->llcs, preset->cores_per_llc,
                    preset->threads_per_core);
  }
  return Topology(static_cast<int>(proto.numa_nodes()), static_cast<int>(proto.llcs()),
                  static_cast<int>(proto.cores_per_llc()),
                  static_cast<int>(proto.threads_per_core()));
}

std::string Topology::Label() const {
  return absl::StrCat(numa_nodes_, "n", llcs_, "l", cores_per_llc_, "c", threads_per_core_, "t");
}

std::vector<int> Topology::AllCpus() const { return CpuRange(0, num_cpus()); }

std::vector<int> Topology::UsableCpus() const {
  return CpuRange(0, num_cpus() > 2 ? num_cpus() - 1 : num_cpus());
}

std::vector<int> Topology::CpusOfLlc(int llc) const {
  const int per_llc = cores_per_llc_ * threads_per_core_;
  return CpuRange(llc * per_llc, per_llc);
}

std::vector<int> Topology::CpusOfNode(int node) const {
  const int per_node = num_cpus() / numa_nodes_;
  return CpuRange(node * per_node, per_node);
}

int Topology::NodeOfCpu(int cpu) const { return cpu / (num_cpus() / numa_nodes_); }

v1::Topology Topology::ToProto() const {
  v1::Topology proto;
  proto.set_numa_nodes(numa_nodes_);
  proto.set_llcs(llcs_);
  proto.set_cores_per_llc(cores_per_llc_);
  proto.set_threads_per_core(threads_per_core_);
  return proto;
}

}  // namespace ktstr::scenario
