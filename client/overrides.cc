// SPDX-License-Identifier: Apache-2.0
#include "client/overrides.h"

#include <random>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "scenario/checks.h"
#include "scenario/topology.h"

namespace ktstr::client {

absl::Status Apply(const Overrides& overrides, v1::Scenario* scenario) {
  if (overrides.topology) *scenario->mutable_topology() = *overrides.topology;
  if (overrides.memory_mb) scenario->set_memory_mb(*overrides.memory_mb);
  if (overrides.vcpu_mips) scenario->set_vcpu_mips(*overrides.vcpu_mips);
  if (overrides.duration_ms) scenario->set_duration_ms(*overrides.duration_ms);
  if (overrides.seed) scenario->set_seed(*overrides.seed);
  if (overrides.workers) {
    for (v1::Step& step : *scenario->mutable_step()) {
      for (v1::Cgroup& cgroup : *step.mutable_cgroup()) {
        for (v1::Work& work : *cgroup.mutable_work()) work.set_workers(*overrides.workers);
      }
    }
  }
  if (overrides.scheduler) {
    scenario->mutable_scheduler()->set_name(*overrides.scheduler);
    scenario->mutable_scheduler()->clear_args();
  }
  if (!overrides.scheduler_args.empty() && !scenario->has_scheduler()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--sched-arg ", overrides.scheduler_args[0], ": scenario '", scenario->name(),
                     "' has no scheduler that could take it. Name one with --scheduler, or in the "
                     "scenario file"));
  }
  for (const std::string& arg : overrides.scheduler_args)
    scenario->mutable_scheduler()->add_args(arg);
  if (overrides.strict) {
    scenario::SetStrict(scenario->mutable_checks());
  }
  if (!overrides.seed_forks.empty()) {
    scenario->mutable_seed_fork()->Assign(overrides.seed_forks.begin(), overrides.seed_forks.end());
  }
  for (const Setting& set : overrides.sets) KTSTR_RETURN_IF_ERROR(set.Apply(scenario));
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> ParseDurationMs(absl::string_view text) {
  absl::Duration duration;
  if (!absl::ParseDuration(text, &duration) || duration < absl::Milliseconds(1) ||
      duration > absl::Hours(24)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", text, "' is not a duration from 1ms to 24h. Write it as 500ms, 5s, or 1m30s"));
  }
  return static_cast<uint32_t>(absl::ToInt64Milliseconds(duration));
}

absl::StatusOr<v1::Topology> ParseTopology(absl::string_view text) {
  v1::Topology topology;
  const std::vector<absl::string_view> parts = absl::StrSplit(text, ',');
  if (parts.size() == 4) {
    uint32_t counts[4];
    for (int i = 0; i < 4; ++i) {
      if (!absl::SimpleAtoi(parts[i], &counts[i])) {
        return absl::InvalidArgumentError(
            absl::StrCat("'", text, "': '", parts[i],
                         "' is not a number. Write NODES,LLCS,CORES_PER_LLC,THREADS, as 1,2,2,1"));
      }
    }
    topology.set_numa_nodes(counts[0]);
    topology.set_llcs(counts[1]);
    topology.set_cores_per_llc(counts[2]);
    topology.set_threads_per_core(counts[3]);
  } else {
    topology.set_preset(std::string(text));
  }
  if (absl::StatusOr<scenario::Topology> checked = scenario::Topology::FromProto(topology);
      !checked.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", text, "': ", checked.status().message(),
                     ". Write NODES,LLCS,CORES_PER_LLC,THREADS, as 1,2,2,1, or a name from "
                     "`ktstrctl list presets`"));
  }
  return topology;
}

absl::StatusOr<uint64_t> ParseSeed(absl::string_view text) {
  if (text == "random") {
    std::random_device device;
    // 32 bits: enough to search, and short enough to type again.
    const uint64_t seed = device();
    return seed == 0 ? 1 : seed;
  }
  uint64_t seed = 0;
  if (!absl::SimpleAtoi(text, &seed) || seed == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", text, "' is not a seed. Write a number from 1 on, or random"));
  }
  return seed;
}

absl::StatusOr<v1::Engine> ParseEngine(absl::string_view text) {
  if (text == "auto") return v1::AUTO;
  if (text == "kvm") return v1::KVM;
  if (text == "tcg") return v1::TCG;
  return absl::InvalidArgumentError(
      absl::StrCat("'", text, "' is not an engine. Choose auto, kvm, or tcg"));
}

absl::StatusOr<v1::SeedFork> ParseSeedFork(absl::string_view text) {
  const std::pair<absl::string_view, absl::string_view> halves =
      absl::StrSplit(text, absl::MaxSplits(':', 1));
  const absl::StatusOr<uint32_t> at = ParseDurationMs(halves.first);
  // A drawn seed would not be the one that the command to reproduce the run names.
  const absl::StatusOr<uint64_t> seed = ParseSeed(halves.second);
  if (!at.ok() || !seed.ok() || halves.second == "random") {
    return absl::InvalidArgumentError(
        absl::StrCat("'", text, "' is not of the form AT:SEED, as 500ms:7"));
  }
  v1::SeedFork fork;
  fork.set_at_ms(*at);
  fork.set_seed(*seed);
  return fork;
}

}  // namespace ktstr::client
