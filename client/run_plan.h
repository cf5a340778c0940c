// SPDX-License-Identifier: Apache-2.0
//
// From the options of `run` to the runs to submit: scenarios × kernels × repetitions, each
// self-contained. Needs no daemon, so that mistakes of the user show before one starts, and no
// command line: run_flags.h makes the options from one. Any thread.

#ifndef KTSTR_CLIENT_RUN_PLAN_H_
#define KTSTR_CLIENT_RUN_PLAN_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/bundle/closure.h"
#include "client/bundle/discovery.h"
#include "client/overrides.h"
#include "ktstr/v1/run.pb.h"

namespace ktstr::client {

// As typed.
struct RunOptions {
  std::vector<std::string> scenarios;
  std::vector<std::string> kernels;
  std::string scheduler;
  std::vector<std::string> scheduler_args;
  std::string topology;
  uint32_t memory_mb = 0;
  std::optional<uint32_t> vcpu_mips;
  std::optional<uint32_t> vcpu_turn_us;
  std::string confirm = "auto";
  std::string duration;
  uint32_t workers = 0;
  std::string engine = "auto";
  bool deterministic = false;
  std::string seed;
  std::vector<std::string> seed_forks;
  uint32_t repeat = 1;
  std::vector<std::string> sets;
  bool strict = false;
  std::string warm;  // "boot", "attached", "off"; empty: as the command has it.
  bool dmesg = false;
  bool detach = false;
  std::string timeout;
};

// The options with parsed values. InvalidArgument (exit code 64) names the option.
struct RunChoices {
  Overrides overrides;
  bool seed_drawn = false;
  v1::Engine engine = v1::AUTO;
  uint32_t timeout_ms = 0;
};
absl::StatusOr<RunChoices> ParseChoices(const RunOptions& options);

// What the plan takes from the environment of the process.
struct PlanPlaces {
  DiscoveryPlaces discovery;  // Without `scenario_directory`.
  LibraryPlaces libraries;
  std::string kernel;  // KTSTR_KERNEL
  bool ci = false;     // KTSTR_CI
  std::string project_commit;
};
PlanPlaces PlanPlacesOfProcess();

struct RunPlan {
  std::vector<v1::RunSpec> specs;
  std::vector<BundleFile> files;  // To upload first; every FileRef of `specs` is among them.
  std::vector<std::string> warnings;
};
// InvalidArgument (exit code 65) with all problems, one a line.
absl::StatusOr<RunPlan> MakeRunPlan(const RunOptions& options, const RunChoices& choices,
                                    const PlanPlaces& places);

// How a user runs one variant of the options again, all but its kernel and seed. `argument` names
// the scenario.
v1::Reproduction ReproductionOf(const RunOptions& options, const std::string& argument);

// How a user runs the scenario file at `path`, which holds the path of the scheduler and all that
// the command line of `run` changed in the scenario.
v1::Reproduction ReproductionOfFile(const v1::Reproduction& run, const std::string& path);

// The options of a command line that ReproductionOfFile() describes.
RunOptions OptionsOfFile(const v1::Reproduction& run);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_RUN_PLAN_H_
