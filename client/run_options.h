// SPDX-License-Identifier: Apache-2.0
//
// From the options of `run` to the runs to submit: scenarios × kernels × repetitions, each
// self-contained. No daemon is needed for it, so that every mistake of the user is met before one
// is started. Any thread.

#ifndef KTSTR_CLIENT_RUN_OPTIONS_H_
#define KTSTR_CLIENT_RUN_OPTIONS_H_

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/bundle/closure.h"
#include "client/bundle/discovery.h"
#include "client/connect.h"
#include "client/exit_codes.h"
#include "client/overrides.h"
#include "client/terminal.h"
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
  std::string duration;
  uint32_t workers = 0;
  std::string engine = "auto";
  bool deterministic = false;
  std::string seed;
  std::vector<std::string> seed_forks;
  uint32_t repeat = 1;
  uint32_t jobs = 16;
  std::vector<std::string> sets;
  bool strict = false;
  std::string junit;
  bool ktap = false;
  std::string output_directory;
  bool warm = true;
  bool dmesg = false;
  bool detach = false;
  std::string timeout;
  FailurePolicy policy;
};

// Adds the options that say what is run, to any command that makes runs: kernel, scheduler,
// machine, duration, checks. `options` outlives the command line.
void AddVariantOptions(CLI::App* command, RunOptions* options);
// Makes an empty value of these options an error.
void RefuseEmptyValues(CLI::App* command, const std::vector<std::string>& names);

// Adds `run`; `use` gets the options when the command line names it.
void AddRunOptions(CLI::App* app, std::function<void(const RunOptions&)> use);

// The options with their values understood. InvalidArgument (exit code 64) names the option.
struct RunChoices {
  Overrides overrides;
  bool seed_drawn = false;
  v1::Engine engine = v1::AUTO;
  uint32_t timeout_ms = 0;
};
absl::StatusOr<RunChoices> ParseChoices(const RunOptions& options);

// What the plan takes from its surroundings.
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

// Sends the plan's files that the daemon lacks, and says on the terminal how far it is.
absl::Status UploadPlan(const Session& session, const RunPlan& plan, Terminal* terminal);

// The command line that runs one variant again. `argument` names the scenario.
std::string ReproduceCommand(const RunOptions& options, const std::string& argument,
                             const std::string& kernel, uint64_t seed);

// The options of a command line that ReproduceCommand made. InvalidArgument when it is no `run`.
absl::StatusOr<RunOptions> ParseReproduce(const std::string& command);

// The options that run a scenario file which holds all that the command line had changed of it.
RunOptions OptionsForFile(const RunOptions& options, const v1::Scenario& scenario,
                          const std::string& path);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_RUN_OPTIONS_H_
