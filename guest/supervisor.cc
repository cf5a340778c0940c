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
#include "guest/kernel_config.h"
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
      kmsg_(paths.kmsg),
      watcher_(/*follow_restarts=*/scheduler.restart_timeout_ms() != 0) {}

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
  attach_watch_.Begin(started_ns_);
  KTSTR_ASSIGN_OR_RETURN(
      StartedProgram started,
      StartProgram({.path = path,
                    .lib_dir = base::JoinPath(paths_.bundle, "lib"),
                    .name = scheduler_.display_name().empty() ? path : scheduler_.display_name(),
                    .args = {scheduler_.args().begin(), scheduler_.args().end()}}));
  pid_ = started.pid;
  output_ = std::move(started.output);
  attach_watch_.Follow(pid_);
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
  kmsg_.Drain([this](std::string_view line) { watcher_.Line(line); });
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
  if (alive()) Follow(now);
  if (!alive()) PushToEnd(now);
}

void Supervisor::FollowAttach(uint64_t now) {
  if (watcher_.seen() && !watcher_.may_restart()) {
    BeginEnd(v1::SchedulerExit::EJECTED, now, kGraceAfterEjection);
    return;
  }
  if (attach_watch_.Poll(now)) {
    v1::Observation observation;
    *observation.mutable_attach_progress() = attach_watch_.progress();
    reporter_->Report(std::move(observation));
  }
  const bool still = scheduler_.still_timeout_ms() != 0 &&
                     attach_watch_.still_ns() >= scheduler_.still_timeout_ms() * kNsPerMs;
  if (!still && now - started_ns_ < scheduler_.attach_timeout_ms() * kNsPerMs) return;
  v1::SchedulerExit* exit = exit_.mutable_scheduler_exit();
  if (still) exit->set_still_ns(attach_watch_.still_ns());
  *exit->mutable_attach() = attach_watch_.progress();
  BeginEnd(v1::SchedulerExit::ATTACH_TIMEOUT, now, 0);
}

void Supervisor::Follow(uint64_t now) {
  if (phase_ == Phase::kStarting) {
    FollowAttach(now);
    return;
  }
  // Several can have come between two polls.
  for (; restarts_reported_ < watcher_.restarts(); ++restarts_reported_) {
    if (phase_ != Phase::kRestarting) BeginRestart(now);
    ReportRestart(now);
  }
  const bool down = watcher_.seen() || !state_.enabled();
  if (!down) {
    // The log may be unreadable.
    if (phase_ == Phase::kRestarting) ReportRestart(now);
    return;
  }
  // The kernel logs the reason only when it has disabled the scheduler.
  const bool may_restart =
      scheduler_.restart_timeout_ms() != 0 && (!watcher_.seen() || watcher_.may_restart());
  if (!may_restart) {
    BeginEnd(v1::SchedulerExit::EJECTED, now, kGraceAfterEjection);
    return;
  }
  if (phase_ != Phase::kRestarting) {
    BeginRestart(now);
    return;
  }
  attach_watch_.Poll(now);
  const uint32_t still_ms = scheduler_.restart_timeout_ms();
  const uint64_t all_ms = uint64_t{still_ms} + scheduler_.attach_timeout_ms();
  const bool still = attach_watch_.idle_ns() >= still_ms * kNsPerMs;
  if (still || now - restart_began_ns_ >= all_ms * kNsPerMs) {
    exit_.mutable_scheduler_exit()->set_restart_timeout_ms(still ? still_ms
                                                                 : static_cast<uint32_t>(all_ms));
    BeginEnd(v1::SchedulerExit::EJECTED, now, 0);
  }
}

void Supervisor::BeginRestart(uint64_t now) {
  phase_ = Phase::kRestarting;
  restart_began_ns_ = now;
  // Its attach is as slow as the first one: only the time in which it stands still counts.
  attach_watch_.Begin(now, std::min(kNsPerSecond, scheduler_.restart_timeout_ms() * kNsPerMs / 4));
  restart_progress_ = *progress_;
}

void Supervisor::ReportRestart(uint64_t now, bool unfinished) {
  v1::Observation observation;
  observation.set_guest_time_ns(restart_began_ns_);
  v1::SchedulerRestart* restart = observation.mutable_scheduler_restart();
  restart->set_scenario_time_ns(ScenarioNs(restart_began_ns_));
  restart->set_length_ns(now - restart_began_ns_);
  restart->set_in_steps_ns(ScenarioNs(now) - ScenarioNs(restart_began_ns_));
  restart->set_unfinished(unfinished);
  reporter_->Report(std::move(observation));
  if (!unfinished) phase_ = Phase::kEnabled;
}

uint64_t Supervisor::ScenarioNs(uint64_t now) const {
  const uint64_t start_ns = progress_->scenario_start_ns;
  return start_ns == 0 ? 0 : now - std::min(now, start_ns);
}

void Supervisor::Stop() {
  if (!alive()) return;
  const uint64_t now = MonotonicNs();
  if (phase_ == Phase::kRestarting) {
    // A process in the kernel's verifier takes SIGINT only when all is loaded.
    exit_.mutable_scheduler_exit()->set_in_restart(true);
    push_ = Push::kInterrupted;
    ReportRestart(now, /*unfinished=*/true);
  }
  BeginEnd(v1::SchedulerExit::STOPPED, now, 0);
  phase_ = Phase::kStopping;
  PushToEnd(now);
}

void Supervisor::BeginEnd(v1::SchedulerExit::Cause cause, uint64_t now,
                          uint64_t first_signal_in_ns) {
  const bool restarting = phase_ == Phase::kRestarting && cause != v1::SchedulerExit::STOPPED;
  const uint64_t began_ns = restarting ? restart_began_ns_ : now;
  const RunProgress& progress = restarting ? restart_progress_ : *progress_;
  exit_.set_guest_time_ns(began_ns);
  v1::SchedulerExit* exit = exit_.mutable_scheduler_exit();
  exit->set_cause(cause);
  exit->set_was_enabled(phase_ == Phase::kEnabled || phase_ == Phase::kRestarting ||
                        watcher_.enabled_seen());
  exit->set_steps_completed(progress.steps_completed);
  exit->set_steps_total(progress.steps_total);
  exit->set_during_steps(progress.during_steps);
  exit->set_scenario_time_ns(ScenarioNs(began_ns));
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

void Supervisor::AddMissingConfig(v1::SchedulerExit* exit) const {
  if (exit->was_enabled() || exit->cause() == v1::SchedulerExit::EXEC_FAILED) return;
  if (HasKernelConfig(paths_.root)) return;
  for (std::string& name : OptionNames(base::JoinPath(paths_.bundle, scheduler_.path())))
    exit->add_missing_config(std::move(name));
}

void Supervisor::Finish(std::optional<ChildEnd> end) {
  DrainOutput();
  WatchState();
  v1::SchedulerExit* exit = exit_.mutable_scheduler_exit();
  // It ended by itself before the signal came.
  if (exit->in_restart() && end.has_value() && end->signal != SIGKILL)
    exit->set_cause(v1::SchedulerExit::PROCESS_EXITED);
  const v1::SchedulerExit::Cause seen = exit->cause();
  const bool in_restart = seen == v1::SchedulerExit::STOPPED && watcher_.may_restart();
  if (watcher_.kernel_ejected() && !in_restart &&
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
  if (exit->cause() != v1::SchedulerExit::STOPPED) exit->set_in_restart(false);
  exit->set_killed(push_ == Push::kKilled && !exit->in_restart());
  exit->set_still_running(push_ == Push::kKilled && !end.has_value());
  if (seen == v1::SchedulerExit::STOPPED) {
    exit->set_stop_ns(MonotonicNs() - exit_.guest_time_ns());
  }
  if (exit->detail().empty()) exit->set_detail(watcher_.detail());
  AddMissingConfig(exit);
  ReportOutputTail();
  phase_ = Phase::kEnded;
  reporter_->Report(std::move(exit_));
}

}  // namespace ktstr::guest
