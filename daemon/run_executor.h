// SPDX-License-Identifier: Apache-2.0
//
// What RunManager needs of the code that carries a run out, and what that code may say while it
// does. Implemented by VmRunExecutor (vm_run_executor.h) and by fakes in tests.

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
  bool interrupted = false;  // The daemon ends; else somebody cancelled the run.
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
  // Takes what the run needs to be there when it starts (its blobs); takes no descriptor. Called
  // for a checked spec at submit, and again by a daemon that takes the run up. NotFound when
  // something is missing, InvalidArgument when the spec does not fit to it.
  virtual absl::StatusOr<std::unique_ptr<RunClaim>> Claim(uid_t uid, const v1::RunSpec& spec) = 0;
  // Carries the run out on the calling thread; several runs at once on several threads. What goes
  // wrong is in the record: a run always has one. Returns soon after `reporter.stop_fd()` becomes
  // readable.
  virtual RunOutcome Execute(const RunJob& job, RunReporter& reporter) = 0;
  // The record of a run that ended without being executed to its end: cancelled in the queue, or
  // lost with a daemon.
  virtual RunOutcome Abandoned(const RunJob& job, const StopRequest& why) = 0;
};

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_RUN_EXECUTOR_H_
