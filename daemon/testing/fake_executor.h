// SPDX-License-Identifier: Apache-2.0
//
// A RunExecutor whose runs end when the test releases them. Any thread.

#ifndef KTSTR_DAEMON_TESTING_FAKE_EXECUTOR_H_
#define KTSTR_DAEMON_TESTING_FAKE_EXECUTOR_H_

#include <poll.h>

#include <atomic>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "daemon/run_executor.h"
#include "daemon/run_store.h"
#include "scenario/finding_kinds.h"

namespace ktstr::daemon {

class FakeExecutor : public RunExecutor {
 public:
  // `claims` is the number of claims that live.
  absl::StatusOr<std::unique_ptr<RunClaim>> Claim(uid_t uid, const v1::RunSpec& spec) override {
    if (refuse_claims) return absl::NotFoundError("blob is gone");
    struct Counted : RunClaim {
      explicit Counted(std::atomic<int>* count) : count(count) { ++*count; }
      ~Counted() override { --*count; }
      std::atomic<int>* const count;
    };
    return std::make_unique<Counted>(&claims);
  }
  std::atomic<int> claims = 0;
  std::atomic<bool> refuse_claims = false;
  std::atomic<int> lines = 0;  // Of progress of each run.

  // Blocks until Release() or a stop. The record is a PASS, or an ERROR with the stop's reason.
  RunOutcome Execute(const RunJob& job, RunReporter& reporter) override {
    {
      base::MutexLock lock(&mutex_);
      started_.push_back(job.number);
      changed_.SignalAll();
    }
    reporter.Phase(v1::RunPhase::RUNNING, "fake");
    for (int i = 0; i < lines; ++i) {
      v1::RunProgress line;
      line.set_text(absl::StrCat("line ", i));
      reporter.Progress(line);
    }
    while (true) {
      {
        base::MutexLock lock(&mutex_);
        if (released_ > 0) {
          --released_;
          RunOutcome outcome;
          outcome.record.set_run_id(RunId(job.number));
          outcome.record.set_verdict(v1::PASS);
          return outcome;
        }
      }
      pollfd stop = {reporter.stop_fd(), POLLIN, 0};
      if (poll(&stop, 1, 5) > 0) return Abandoned(job, *reporter.stop());
    }
  }
  RunOutcome Abandoned(const RunJob& job, const StopRequest& why) override {
    RunOutcome outcome;
    outcome.record.set_run_id(RunId(job.number));
    outcome.record.set_verdict(v1::ERROR);
    v1::Finding* finding = outcome.record.add_findings();
    scenario::SetKind(
        why.interrupted ? scenario::FindingKind::kInterrupted : scenario::FindingKind::kCancelled,
        finding);
    finding->set_message(why.reason);
    return outcome;
  }

  // Lets `count` runs end.
  void Release(int count) {
    base::MutexLock lock(&mutex_);
    released_ += count;
  }
  // Blocks until `count` runs have started; returns the numbers of all that have.
  std::vector<int64_t> WaitForStarts(size_t count) {
    base::MutexLock lock(&mutex_);
    while (started_.size() < count) changed_.Wait(&mutex_);
    return started_;
  }
  size_t starts() {
    base::MutexLock lock(&mutex_);
    return started_.size();
  }

 private:
  base::Mutex mutex_;
  base::CondVar changed_;
  int released_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<int64_t> started_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_TESTING_FAKE_EXECUTOR_H_
