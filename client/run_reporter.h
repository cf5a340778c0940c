// SPDX-License-Identifier: Apache-2.0
//
// Shows runs to the user while they happen, and writes their results: transcript, --json, --ktap,
// --junit, sidecars.

#ifndef KTSTR_CLIENT_RUN_REPORTER_H_
#define KTSTR_CLIENT_RUN_REPORTER_H_

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "client/exit_codes.h"
#include "client/reports.h"
#include "client/run_flow.h"
#include "client/terminal.h"

namespace ktstr::client {

struct ReportOptions {
  bool json = false;
  bool ktap = false;
  bool verbose = false;           // Phase lines on a terminal, too.
  std::string junit_file;         // Empty: none.
  std::string sidecar_directory;  // Empty: none.
  FailurePolicy policy;
};

// Any thread; `terminal` outlives it.
class RunReporter : public RunObserver {
 public:
  RunReporter(Terminal* terminal, ReportOptions options, size_t runs);

  void Submitted(size_t index, const std::string& run_id) override;
  void Event(const std::string& run_id, const v1::RunEvent& event) override;
  void Finished(const v1::RunRecord& record) override;
  void Known(size_t index, const v1::RunRecord& record) override;
  void Failed(const std::string& run_id, const absl::Status& status) override;
  void Reconnecting(const absl::Status& why) override;

  // The records so far.
  std::vector<v1::RunRecord> records() const;
  // Adds a record of no single run, which compares runs.
  void Compared(const v1::RunRecord& record);
  // Draws the live line; a few times a second.
  void Tick();
  // Prints the summary, writes the JUnit file, returns the exit code of the command.
  ExitCode Finish();

 private:
  void PrintJson(const v1::RunRecord& record) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WriteOutputs(const v1::RunRecord& record) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Prints an error; nothing for OK.
  void Problem(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Terminal* const terminal_;
  const ReportOptions options_;
  const size_t runs_;
  const absl::Duration start_;
  mutable base::Mutex mutex_;
  RecordDirectory record_directory_ ABSL_GUARDED_BY(mutex_);
  VerdictCounts counts_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::RunRecord> records_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string> active_ ABSL_GUARDED_BY(mutex_);  // Run -> what it does.
  std::string latest_ ABSL_GUARDED_BY(mutex_);                         // Run of the last event.
  std::string header_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> said_ ABSL_GUARDED_BY(mutex_);  // Each problem is printed once.
  absl::Status first_problem_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_RUN_REPORTER_H_
