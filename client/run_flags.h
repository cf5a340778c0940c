// SPDX-License-Identifier: Apache-2.0
//
// The command line of `run`, and the options that other commands share with it. Main thread only.

#ifndef KTSTR_CLIENT_RUN_FLAGS_H_
#define KTSTR_CLIENT_RUN_FLAGS_H_

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "client/exit_codes.h"
#include "client/run_plan.h"

namespace ktstr::client {

// The flags of `run`: what to run, and where the records go.
struct RunFlags {
  RunOptions run;
  uint32_t jobs = 16;  // Runs in flight at once, 1 to 256.
  std::string junit;
  bool ktap = false;
  std::string output_directory;
  bool reuse = false;  // SubmitRunRequest.reuse
  FailurePolicy policy;
};

// Adds to a command the options that select what runs: kernel, scheduler, machine, duration,
// checks. `options` outlives the command line.
void AddVariantFlags(CLI::App* command, RunOptions* options);

// Adds --warm; `otherwise` says what the command does without it.
void AddWarmFlag(CLI::App* command, const char* otherwise, RunOptions* options);

// Adds `run`; `use` gets the flags when the command line names it.
void AddRunFlags(CLI::App* app, std::function<void(const RunFlags&)> use);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_RUN_FLAGS_H_
