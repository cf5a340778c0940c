// SPDX-License-Identifier: Apache-2.0
//
// What RunManager needs of the code that executes a run, and what that code reports meanwhile.
// VmRunExecutor (vm_run_executor.h) and fakes in tests implement it.

#ifndef KTSTR_DAEMON_RUN_EXECUTOR_H_
#define KTSTR_DAEMON_RUN_EXECUTOR_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "ktstr/v1/run.pb.h"
#include "ktstr/v1/service.pb.h"

namespace ktstr::daemon {

// Why a run has to end before its time.
struct StopRequest {
  bool interrupted = false;  // The daemon ends; else a user cancelled the run.
  std::string reason;
};

struct RunJob {
  int64_t number = 0;
  uid_t uid = 0;
  v1::RunSpec spec;
  int64_t submitted_ms = 0;
};

// Given to the executor for one run; used by the executing thread only.
class RunReporter {
 public:
  virtual ~RunReporter() = default;
  virtual void Phase(v1::RunPhase::Phase phase, const std::string& detail) = 0;
  virtual void Progress(const v1::RunProgress& progress) = 0;
  virtual void Console(const std::string& text) = 0;  // RunConsole.text
  // Readable (eventfd, never read) from the moment the run has to stop. Valid during Execute.
  virtual int stop_fd() const = 0;
  virtual std::optional<StopRequest> stop() const = 0;
};

struct RunOutcome {
  v1::RunRecord record;
  v1::RunObservations observations;
  std::string record_file;  // RecordFiles::PathOf; empty: there is no file of this run.
};

// What a run owns from submit to its end. Released by the destructor; any thread.
class RunClaim {
 public:
  virtual ~RunClaim() = default;
};

class RunExecutor {
 public:
  virtual ~RunExecutor() = default;
  // Reserves what the run needs when it starts (its blobs), without taking a descriptor. Called for
  // a checked spec at submit, and again by a daemon that takes the run up. NotFound when something
  // is missing, InvalidArgument when the spec does not match it.
  virtual absl::StatusOr<std::unique_ptr<RunClaim>> Claim(uid_t uid, const v1::RunSpec& spec) = 0;
  // Executes the run on the calling thread; several runs at once on several threads. Every run has
  // a record, which holds the error if there is one. Returns soon after `reporter.stop_fd()`
  // becomes readable.
  virtual RunOutcome Execute(const RunJob& job, RunReporter& reporter) = 0;
  // The record of a run that was not executed to its end: cancelled in the queue, or lost with a
  // daemon.
  virtual RunOutcome Abandoned(const RunJob& job, const StopRequest& why) = 0;
};

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_RUN_EXECUTOR_H_
