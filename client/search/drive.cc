// SPDX-License-Identifier: Apache-2.0
#include "client/search/drive.h"

#include <poll.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "scenario/finding_kinds.h"

namespace ktstr::client {
namespace {

constexpr int kTickMs = 200;

const char* Reason(DriveEnd end) {
  switch (end) {
    case DriveEnd::kInterrupted:
      return "interrupted by the user";
    case DriveEnd::kBudget:
      return "the time allowed is over";
    default:
      return "no longer needed";
  }
}

// Keeps the records of one batch.
class Collector : public RunObserver {
 public:
  explicit Collector(size_t runs) : records_(runs) {}

  void Submitted(size_t index, const std::string& run_id) override {
    base::MutexLock lock(&mutex_);
    index_[run_id] = index;
  }
  void Event(const std::string&, const v1::RunEvent&) override {}
  void Finished(const v1::RunRecord& record) override {
    base::MutexLock lock(&mutex_);
    records_[index_[record.run_id()]] = record;
    ++done_;
  }
  void Known(size_t index, const v1::RunRecord& record) override {
    base::MutexLock lock(&mutex_);
    records_[index] = record;
    ++done_;
  }
  void Failed(const std::string&, const absl::Status& status) override {
    base::MutexLock lock(&mutex_);
    if (first_problem_.ok()) first_problem_ = status;
  }
  void Reconnecting(const absl::Status&) override {}

  absl::Status problem() {
    base::MutexLock lock(&mutex_);
    return first_problem_;
  }
  std::vector<v1::RunRecord> Take() {
    base::MutexLock lock(&mutex_);
    return std::move(records_);
  }
  size_t done() {
    base::MutexLock lock(&mutex_);
    return done_;
  }

 private:
  base::Mutex mutex_;
  std::map<std::string, size_t> index_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::RunRecord> records_ ABSL_GUARDED_BY(mutex_);
  size_t done_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status first_problem_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

DriveEnd Drive(RunFlow* flow, Terminal* terminal, SignalFd* signals, const DriveOptions& options) {
  DriveEnd end = DriveEnd::kDone;
  while (!flow->done()) {
    if (options.tick) options.tick();
    pollfd fds[3] = {{signals->fd(), POLLIN, 0},
                     {flow->done_fd(), POLLIN, 0},
                     {end == DriveEnd::kDone ? options.enough_fd : -1, POLLIN, 0}};
    int wait_ms = kTickMs;
    if (end == DriveEnd::kDone) {
      const absl::Duration left = options.deadline - base::RealClock()->Monotonic();
      wait_ms = static_cast<int>(std::clamp<int64_t>(absl::ToInt64Milliseconds(left), 0, kTickMs));
    }
    poll(fds, 3, wait_ms);
    const bool signal = signals->Take();
    if (signal && end == DriveEnd::kInterrupted) {
      flow->Leave();
      return end;
    }
    const DriveEnd before = end;
    if (signal) {
      end = DriveEnd::kInterrupted;
      terminal->Note("cancelling; waiting for the records (interrupt again to leave at once)");
    } else if (end == DriveEnd::kDone && (fds[2].revents & POLLIN) != 0) {
      end = DriveEnd::kEnough;
    } else if (end == DriveEnd::kDone && base::RealClock()->Monotonic() >= options.deadline) {
      end = DriveEnd::kBudget;
    }
    if (end != before) flow->Cancel(Reason(end));
  }
  return end;
}

bool WasCancelled(const v1::RunRecord& record) {
  if (record.verdict() != v1::ERROR) return false;
  for (const v1::Finding& finding : record.findings()) {
    const scenario::FindingKindInfo* info = scenario::InfoOf(finding);
    if (info != nullptr && info->stopped) return true;
  }
  return false;
}

absl::StatusOr<std::vector<v1::RunRecord>> Trials::Run(std::vector<v1::RunSpec> specs,
                                                       const std::string& doing) {
  const size_t count = specs.size();
  const absl::Duration start = base::RealClock()->Monotonic();
  Collector collector(count);
  RunFlowOptions flow_options;
  flow_options.in_flight = jobs_;
  flow_options.reuse = reuse_;
  DriveOptions options;
  options.deadline = deadline_;
  options.tick = [&] {
    const absl::Duration time = base::RealClock()->Monotonic() - start;
    terminal_->Live(absl::StrCat(
        doing, count > 1 ? absl::StrCat("  ", collector.done(), " of ", count, " runs") : "",
        absl::StrFormat("  %.1f s", absl::ToDoubleSeconds(time))));
  };
  DriveEnd end;
  {
    RunFlow flow(session_, &collector, flow_options);
    flow.Submit(std::move(specs));
    end = Drive(&flow, terminal_, signals_, options);
  }
  if (end == DriveEnd::kInterrupted) return absl::CancelledError("interrupted");
  if (end == DriveEnd::kBudget) return absl::DeadlineExceededError("the time allowed is over");
  if (absl::Status problem = collector.problem(); !problem.ok()) return problem;
  runs_ += count;
  return collector.Take();
}

}  // namespace ktstr::client
