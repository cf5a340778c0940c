// SPDX-License-Identifier: Apache-2.0

#include "scenario/cpuset.h"

#include <algorithm>
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/cpu_list.h"
#include "base/status_macros.h"
#include "google/protobuf/text_format.h"
#include "scenario/limits.h"

namespace ktstr::scenario {
namespace {

// Products such as 0.29 * 100 are a little off the whole number that they stand for.
constexpr double kRounding = 1e-9;

size_t Floor(double value) { return static_cast<size_t>(std::floor(value + kRounding)); }
size_t Ceil(double value) { return static_cast<size_t>(std::ceil(value - kRounding)); }

bool IsFraction(double value) { return std::isfinite(value) && value >= 0.0 && value <= 1.0; }

std::vector<int> Slice(const std::vector<int>& cpus, size_t begin, size_t end) {
  return std::vector<int>(cpus.begin() + begin, cpus.begin() + std::min(end, cpus.size()));
}

absl::Status CheckPartition(uint32_t index, uint32_t of, size_t usable) {
  if (of == 0) return absl::InvalidArgumentError("partition count must be at least 1, got 0");
  if (of > usable) {
    return absl::InvalidArgumentError(
        absl::StrCat("not enough usable CPUs (", usable, ") for ", of, " partitions"));
  }
  if (index >= of) {
    return absl::InvalidArgumentError(absl::StrCat("index ", index, " >= partition count ", of));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int>> ResolveRange(const v1::Cpuset::Range& range,
                                              const std::vector<int>& usable) {
  if (!IsFraction(range.start()) || !IsFraction(range.end())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "range fractions must lie in [0.0, 1.0]: start=", range.start(), ", end=", range.end()));
  }
  if (range.start() >= range.end()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "range start must lie below its end: start=", range.start(), ", end=", range.end()));
  }
  const double n = static_cast<double>(usable.size());
  const size_t begin = std::min(Floor(range.start() * n), usable.size() - 1);
  return Slice(usable, begin, std::max(Floor(range.end() * n), begin + 1));
}

absl::StatusOr<std::vector<int>> ResolveOverlap(const v1::Cpuset::Overlap& overlap,
                                                const std::vector<int>& usable) {
  KTSTR_RETURN_IF_ERROR(CheckPartition(overlap.index(), overlap.of(), usable.size()));
  if (!IsFraction(overlap.fraction())) {
    return absl::InvalidArgumentError(
        absl::StrCat("overlap fraction must lie in [0.0, 1.0]: fraction=", overlap.fraction()));
  }
  const size_t part = usable.size() / overlap.of();
  const size_t begin = overlap.index() * part;
  const size_t shared =
      overlap.index() + 1 < overlap.of() ? Ceil(overlap.fraction() * static_cast<double>(part)) : 0;
  return Slice(usable, begin, begin + part + shared);
}

absl::StatusOr<std::vector<int>> ResolveExact(const std::string& text, const Topology& topology) {
  KTSTR_ASSIGN_OR_RETURN(std::vector<int> cpus, base::ParseCpuList(text));
  if (cpus.empty()) return absl::InvalidArgumentError("exact names no CPU");
  if (cpus.back() >= topology.num_cpus()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "no CPU ", cpus.back(), ": the topology has CPUs 0-", topology.num_cpus() - 1));
  }
  return cpus;
}

absl::StatusOr<std::vector<int>> Resolve(const v1::Cpuset& cpuset, const Topology& topology) {
  const std::vector<int> usable = topology.UsableCpus();
  switch (cpuset.kind_case()) {
    case v1::Cpuset::kLlc:
      if (cpuset.llc() >= static_cast<uint32_t>(topology.llcs())) {
        return absl::InvalidArgumentError(absl::StrCat(
            "no LLC ", cpuset.llc(), ": the topology has ", topology.llcs(), ", from 0"));
      }
      return topology.CpusOfLlc(static_cast<int>(cpuset.llc()));
    case v1::Cpuset::kNuma:
      if (cpuset.numa() >= static_cast<uint32_t>(topology.numa_nodes())) {
        return absl::InvalidArgumentError(absl::StrCat("no NUMA node ", cpuset.numa(),
                                                       ": the topology has ", topology.numa_nodes(),
                                                       ", from 0"));
      }
      return topology.CpusOfNode(static_cast<int>(cpuset.numa()));
    case v1::Cpuset::kRange:
      return ResolveRange(cpuset.range(), usable);
    case v1::Cpuset::kDisjoint: {
      KTSTR_RETURN_IF_ERROR(
          CheckPartition(cpuset.disjoint().index(), cpuset.disjoint().of(), usable.size()));
      const size_t part = usable.size() / cpuset.disjoint().of();
      const size_t begin = cpuset.disjoint().index() * part;
      return Slice(usable, begin, begin + part);
    }
    case v1::Cpuset::kOverlap:
      return ResolveOverlap(cpuset.overlap(), usable);
    case v1::Cpuset::kExact:
      return ResolveExact(cpuset.exact().cpus(), topology);
    case v1::Cpuset::KIND_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(
      "cpuset is empty; give one of llc, numa, range, disjoint, overlap, exact, or leave it out "
      "for all CPUs");
}

std::string SpecText(const v1::Cpuset& cpuset) {
  google::protobuf::TextFormat::Printer printer;
  printer.SetSingleLineMode(true);
  std::string text;
  printer.PrintToString(cpuset, &text);
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text.empty() ? "no kind set" : text;
}

}  // namespace

absl::StatusOr<std::vector<int>> ResolveCpuset(const v1::Cpuset& cpuset, const Topology& topology) {
  // Longer text is not even quoted.
  KTSTR_RETURN_IF_ERROR(
      CheckLimit(LimitOf("Cpuset.Exact.cpus"), "cpus", cpuset.exact().cpus().size()));
  absl::StatusOr<std::vector<int>> cpus = Resolve(cpuset, topology);
  if (cpus.ok()) return cpus;
  return absl::InvalidArgumentError(absl::StrCat(cpus.status().message(), " (", SpecText(cpuset),
                                                 ", topology ", topology.Label(), ")"));
}

std::string_view ParentCgroup(std::string_view name) {
  const size_t slash = name.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : name.substr(0, slash);
}

std::map<std::string, std::vector<int>> AllowedCpus(const v1::Scenario& scenario,
                                                    const Topology& topology) {
  std::map<std::string, std::vector<int>> own;
  for (const v1::Step& step : scenario.step()) {
    for (const v1::Cgroup& cgroup : step.cgroup()) {
      if (!cgroup.has_cpuset()) continue;
      if (auto cpus = ResolveCpuset(cgroup.cpuset(), topology); cpus.ok())
        own[cgroup.name()] = *cpus;
    }
  }
  std::map<std::string, std::vector<int>> allowed = own;
  for (const v1::Step& step : scenario.step()) {
    for (const v1::Cgroup& cgroup : step.cgroup()) {
      for (std::string_view at = cgroup.name(); !at.empty(); at = ParentCgroup(at)) {
        if (auto it = own.find(std::string(at)); it != own.end()) {
          allowed[cgroup.name()] = it->second;
          break;
        }
      }
    }
  }
  return allowed;
}

}  // namespace ktstr::scenario
