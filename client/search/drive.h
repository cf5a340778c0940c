// SPDX-License-Identifier: Apache-2.0
//
// Follows the runs of a search to their end, to a signal, to the end of the time allowed, or until
// the caller has enough of them.

#ifndef KTSTR_CLIENT_SEARCH_DRIVE_H_
#define KTSTR_CLIENT_SEARCH_DRIVE_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/connect.h"
#include "client/run_flow.h"
#include "client/signals.h"
#include "client/terminal.h"
#include "ktstr/v1/run.pb.h"

namespace ktstr::client {

enum class DriveEnd {
  kDone,
  kInterrupted,  // A signal came.
  kBudget,       // The time allowed is over.
  kEnough,       // `enough_fd` became readable.
};

struct DriveOptions {
  absl::Duration deadline = absl::InfiniteDuration();  // Of the monotonic clock.
  int enough_fd = -1;
  std::function<void()> tick;  // A few times a second; may be empty.
};

// Returns when the flow is done. Whatever ends it early cancels the runs in flight and waits for
// their records; a second signal leaves at once. Main thread.
DriveEnd Drive(RunFlow* flow, Terminal* terminal, SignalFd* signals, const DriveOptions& options);

// True for a run that was stopped before it could end by itself: it has no result.
bool WasCancelled(const v1::RunRecord& record);

// Batches of runs, one batch at a time. Main thread.
class Trials {
 public:
  // All outlive the trials. `deadline`: of the monotonic clock. `reuse`: as RunFlowOptions.
  Trials(Session* session, Terminal* terminal, SignalFd* signals, size_t jobs,
         absl::Duration deadline, bool reuse = false)
      : session_(session),
        terminal_(terminal),
        signals_(signals),
        jobs_(jobs),
        deadline_(deadline),
        reuse_(reuse) {}

  // The records of these specs, in their order. Cancelled after a signal, DeadlineExceeded when the
  // time allowed is over, the error of the first run that could not be submitted or followed.
  absl::StatusOr<std::vector<v1::RunRecord>> Run(std::vector<v1::RunSpec> specs,
                                                 const std::string& doing);
  size_t jobs() const { return jobs_; }
  uint64_t runs() const { return runs_; }  // So far.

 private:
  Session* const session_;
  Terminal* const terminal_;
  SignalFd* const signals_;
  const size_t jobs_;
  const absl::Duration deadline_;
  const bool reuse_;
  uint64_t runs_ = 0;
};

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_SEARCH_DRIVE_H_
