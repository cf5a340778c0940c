// SPDX-License-Identifier: Apache-2.0
//
// What the command line changes in a scenario, and the parsers of its values. Pure functions, any
// thread. Parsers return InvalidArgument with the value and the accepted form; commands turn that
// into exit code 64.

#ifndef KTSTR_CLIENT_OVERRIDES_H_
#define KTSTR_CLIENT_OVERRIDES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/setting.h"
#include "ktstr/v1/run.pb.h"
#include "ktstr/v1/scenario.pb.h"

namespace ktstr::client {

// Unset members leave the scenario as it is.
struct Overrides {
  std::optional<v1::Topology> topology;
  std::optional<uint32_t> memory_mb;
  std::optional<uint32_t> vcpu_mips;
  std::optional<uint32_t> duration_ms;
  std::optional<uint32_t> workers;  // Of every work group.
  std::optional<uint64_t> seed;
  std::optional<std::string> scheduler;     // Replaces the scenario's scheduler and its arguments.
  std::vector<std::string> scheduler_args;  // Appended.
  bool strict = false;                      // Sets what scenario::SetStrict() sets.
  std::vector<v1::SeedFork> seed_forks;     // Replace the scenario's.
  std::vector<Setting> sets;                // Applied last, in order.
};

// InvalidArgument when scheduler_args are given and there is no scheduler to take them, or when one
// of `sets` is wrong.
absl::Status Apply(const Overrides& overrides, v1::Scenario* scenario);

// "5s", "500ms", "2m", "1m30s": at least 1 ms, at most 24 h.
absl::StatusOr<uint32_t> ParseDurationMs(absl::string_view text);
// "N,L,C,T" or the name of a preset.
absl::StatusOr<v1::Topology> ParseTopology(absl::string_view text);
// A number from 1 on; "random" draws one.
absl::StatusOr<uint64_t> ParseSeed(absl::string_view text);
absl::StatusOr<v1::Engine> ParseEngine(absl::string_view text);
// "AT:SEED", as 500ms:7: from there on, random draws come from that seed.
absl::StatusOr<v1::SeedFork> ParseSeedFork(absl::string_view text);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_OVERRIDES_H_
