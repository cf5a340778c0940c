// SPDX-License-Identifier: Apache-2.0
#include "guest/supervisor.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "guest/program.h"
#include "guest/time.h"

namespace ktstr::guest {
namespace {

constexpr int kMaxDrain = 1 << 20;  // At one poll.
// A scheduler that the kernel ejected usually notices, prints why and ends: it gets this long.
constexpr uint64_t kGraceAfterEjection = kNsPerSecond;
// After SIGKILL only a process stuck in the kernel stays.
constexpr uint64_t kGraceAfterKill = 5 * kNsPerSecond;

}  // namespace

Supervisor::Supervisor(const v1::GuestScheduler& scheduler, const SupervisorPaths& paths,
                       const RunProgress* progress, Reaper* reaper, Reporter* reporter)
    : scheduler_(scheduler),
      paths_(paths),
      progress_(progress),
      reaper_(reaper),
      reporter_(reporter),
      kmsg_(paths.kmsg) {}

absl::StatusOr<std::unique_ptr<Supervisor>> Supervisor::Start(const v1::GuestScheduler& scheduler,
                                                              const SupervisorPaths& paths,
                                                              const RunProgress* progress,
                                                              Reaper* reaper, Reporter* reporter) {
  std::unique_ptr<Supervisor> supervisor(
      new Supervisor(scheduler, paths, progress, reaper, reporter));
  KTSTR_ASSIGN_OR_RETURN(const int exec_errno, supervisor->Spawn());
  if (exec_errno != 0) {
    supervisor->BeginEnd(v1::SchedulerExit::EXEC_FAILED, MonotonicNs(), 0);
    supervisor->exit_.mutable_scheduler_exit()->set_detail(
        absl::StrCat("cannot execute ", scheduler.path(), ": ", strerror(exec_errno)));
    supervisor->Finish(std::nullopt);
  }
  return supervisor;
}

absl::StatusOr<int> Supervisor::Spawn() {
  const std::string path = base::JoinPath(paths_.bundle, scheduler_.path());
  started_ns_ = MonotonicNs();
  KTSTR_ASSIGN_OR_RETURN(
      StartedProgram started,
      StartProgram({.path = path,
                    .library_dir = base::JoinPath(paths_.bundle, "lib"),
                    .name = scheduler_.display_name().empty() ? path : scheduler_.display_name(),
                    .args = {scheduler_.args().begin(), scheduler_.args().end()}}));
  pid_ = started.pid;
  output_ = std::move(started.output);
  reaper_->Watch(pid_);
  return started.exec_errno;
}

void Supervisor::ReportOutput(std::string_view data, uint64_t missing_before) {
  v1::Observation observation;
  v1::SchedulerOutput* output = observation.mutable_scheduler_output();
  output->set_data(data.data(), data.size());
  output->set_truncated(missing_before > 0);
  output->set_dropped_bytes(missing_before);
  reporter_->Report(std::move(observation));
}

void Supervisor::TakeOutput(std::string_view data) {
  const size_t now = std::min(data.size(), base::kOutputHead - output_sent_);
  output_sent_ += now;
  if (now > 0) ReportOutput(data.substr(0, now), 0);
  output_tail_.Append(data.substr(now));
}

void Supervisor::ReportOutputTail() {
  const std::string tail = output_tail_.Tail();
  for (size_t at = 0; at < tail.size(); at += kMaxOutputPiece) {
    ReportOutput(std::string_view(tail).substr(at, kMaxOutputPiece),
                 at == 0 ? output_tail_.left_out() : 0);
  }
}

void Supervisor::DrainOutput() {
  // Not on the stack of PID 1; there is one supervisor at a time.
  static char buffer[kMaxOutputPiece];
  for (int total = 0; output_.valid() && total < kMaxDrain;) {
    // Fills a piece before it is sent: a scheduler that writes byte by byte must not become a frame
    // for each byte.
    size_t filled = 0;
    ssize_t got = 0;
    while (filled < sizeof(buffer) &&
           (got = read(output_.get(), buffer + filled, sizeof(buffer) - filled)) > 0)
      filled += got;
    if (filled > 0) TakeOutput({buffer, filled});
    total += static_cast<int>(filled);
    if (got == 0 && filled < sizeof(buffer)) output_.Reset();
    if (filled < sizeof(buffer)) return;
  }
}

void Supervisor::WatchState() {
  kmsg_.Drain(&watcher_);
  SchedExtState now = ReadSchedExtState(paths_.sched_ext);
  if (now == state_) return;
  state_ = std::move(now);
  v1::Observation observation;
  observation.mutable_scheduler_state()->set_state(state_.state);
  observation.mutable_scheduler_state()->set_ops(state_.ops);
  if (const std::optional<bool> all = ReadSwitchAll(paths_.sched_ext); all.has_value())
    observation.mutable_scheduler_state()->set_switch_all(*all);
  reporter_->Report(std::move(observation));
}

void Supervisor::Poll() {
  if (phase_ == Phase::kEnded) return;
  const uint64_t now = MonotonicNs();
  reaper_->Reap();
  const std::optional<ChildEnd> end = reaper_->Take(pid_);
  DrainOutput();
  WatchState();
  if (phase_ == Phase::kStarting && state_.enabled()) {
    phase_ = Phase::kEnabled;
    reporter_->ReportStage(v1::SCHEDULER_ENABLED);
  }
  if (end.has_value()) {
    if (alive()) BeginEnd(v1::SchedulerExit::PROCESS_EXITED, now, 0);
    Finish(end);
    return;
  }
  if (alive() && (watcher_.seen() || (phase_ == Phase::kEnabled && !state_.enabled()))) {
    BeginEnd(v1::SchedulerExit::EJECTED, now, kGraceAfterEjection);
  } else if (phase_ == Phase::kStarting &&
             now - started_ns_ >= scheduler_.attach_timeout_ms() * kNsPerMs) {
    BeginEnd(v1::SchedulerExit::ATTACH_TIMEOUT, now, 0);
  }
  if (!alive()) PushToEnd(now);
}

void Supervisor::Stop() {
  if (!alive()) return;
  const uint64_t now = MonotonicNs();
  BeginEnd(v1::SchedulerExit::STOPPED, now, 0);
  phase_ = Phase::kStopping;
  PushToEnd(now);
}

void Supervisor::BeginEnd(v1::SchedulerExit::Cause cause, uint64_t now,
                          uint64_t first_signal_in_ns) {
  exit_.set_guest_time_ns(now);
  v1::SchedulerExit* exit = exit_.mutable_scheduler_exit();
  exit->set_cause(cause);
  exit->set_was_enabled(phase_ == Phase::kEnabled || watcher_.enabled_seen());
  exit->set_steps_completed(progress_->steps_completed);
  exit->set_steps_total(progress_->steps_total);
  exit->set_during_steps(progress_->during_steps);
  if (progress_->scenario_start_ns != 0)
    exit->set_scenario_time_ns(now - progress_->scenario_start_ns);
  phase_ = Phase::kFailing;
  next_push_ns_ = now + first_signal_in_ns;
}

void Supervisor::PushToEnd(uint64_t now) {
  if (now < next_push_ns_) return;
  switch (push_) {
    case Push::kNone:
      reaper_->Signal(pid_, SIGINT);
      push_ = Push::kInterrupted;
      next_push_ns_ = now + scheduler_.stop_timeout_ms() * kNsPerMs;
      return;
    case Push::kInterrupted:
      reaper_->Signal(pid_, SIGKILL, /*group=*/true);  // Its session: what it started dies too.
      push_ = Push::kKilled;
      next_push_ns_ = now + kGraceAfterKill;
      return;
    case Push::kKilled:
      Finish(std::nullopt);
      return;
  }
}

void Supervisor::Finish(std::optional<ChildEnd> end) {
  DrainOutput();
  WatchState();
  v1::SchedulerExit* exit = exit_.mutable_scheduler_exit();
  const v1::SchedulerExit::Cause seen = exit->cause();
  if (watcher_.kernel_ejected() &&
      (seen == v1::SchedulerExit::PROCESS_EXITED || seen == v1::SchedulerExit::STOPPED)) {
    exit->set_cause(v1::SchedulerExit::EJECTED);
  } else if (seen == v1::SchedulerExit::EJECTED && !watcher_.kernel_ejected() &&
             push_ == Push::kNone) {
    // The process ended by itself; the kernel disabled the scheduler because its owner was gone.
    exit->set_cause(v1::SchedulerExit::PROCESS_EXITED);
  }
  if (end.has_value()) {
    exit->set_exit_code(end->code);
    exit->set_signal(static_cast<uint32_t>(end->signal));
  }
  exit->set_killed(push_ == Push::kKilled);
  exit->set_still_running(push_ == Push::kKilled && !end.has_value());
  if (seen == v1::SchedulerExit::STOPPED) {
    exit->set_stop_ns(MonotonicNs() - exit_.guest_time_ns());
  }
  if (exit->detail().empty()) exit->set_detail(watcher_.detail());
  ReportOutputTail();
  phase_ = Phase::kEnded;
  reporter_->Report(std::move(exit_));
}

}  // namespace ktstr::guest
