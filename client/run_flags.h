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

// What `run` takes: what is run, and what becomes of the records.
struct RunFlags {
  RunOptions run;
  uint32_t jobs = 16;  // Runs in flight at once, 1 to 256.
  std::string junit;
  bool ktap = false;
  std::string output_directory;
  FailurePolicy policy;
};

// Adds the options that say what is run, to any command that makes runs: kernel, scheduler,
// machine, duration, checks. `options` outlives the command line.
void AddVariantFlags(CLI::App* command, RunOptions* options);

// Adds `run`; `use` gets the flags when the command line names it.
void AddRunFlags(CLI::App* app, std::function<void(const RunFlags&)> use);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_RUN_FLAGS_H_
