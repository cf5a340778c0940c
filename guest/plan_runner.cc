// SPDX-License-Identifier: Apache-2.0
#include "guest/plan_runner.h"

#include <poll.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "guest/time.h"

namespace ktstr::guest {
namespace {

constexpr uint64_t kTickNs = 50 * kNsPerMs;
constexpr uint64_t kNever = ~uint64_t{0};

void SleepUntilSignal(int fd, uint64_t ns) {
  pollfd poll_fd = {.fd = fd, .events = POLLIN};
  const timespec length = {.tv_sec = static_cast<time_t>(ns / kNsPerSecond),
                           .tv_nsec = static_cast<long>(ns % kNsPerSecond)};
  ppoll(&poll_fd, 1, &length, nullptr);
}

uint32_t CountWorkers(const v1::GuestPlan& plan) {
  uint32_t count = 0;
  for (const v1::GuestStep& step : plan.step()) {
    for (const v1::GuestCgroup& cgroup : step.cgroup()) {
      for (const v1::GuestWork& work : cgroup.work()) count += work.workers();
    }
  }
  return count;
}

}  // namespace

absl::StatusOr<std::unique_ptr<PlanRunner>> PlanRunner::Make(const v1::GuestPlan& plan,
                                                             const RunnerPaths& paths,
                                                             Reporter* reporter) {
  KTSTR_ASSIGN_OR_RETURN(Reaper reaper, Reaper::Make());
  std::unique_ptr<PlanRunner> runner(new PlanRunner(plan, paths, std::move(reaper), reporter));
  KTSTR_ASSIGN_OR_RETURN(WorkerPool workers,
                         WorkerPool::Make(CountWorkers(plan), &runner->reaper_, reporter));
  runner->workers_.emplace(std::move(workers));
  runner->progress_.steps_total = static_cast<uint32_t>(plan.step_size());
  runner->deadline_ns_ =
      plan.overrun_ms() == 0 ? kNever : MonotonicNs() + plan.overrun_ms() * kNsPerMs;
  return runner;
}

template <typename Done>
bool PlanRunner::WaitUntil(uint64_t until_ns, Done done) {
  while (true) {
    reaper_.Reap();
    if (supervisor_ != nullptr) supervisor_->Poll();
    if (done()) return true;
    const uint64_t now = MonotonicNs();
    if (now >= until_ns) return false;
    if (now >= deadline_ns_) {
      if (!overrun_) {
        reporter_->ReportError(
            absl::StrCat("the agent gave up: the run took more than its limit of ",
                         plan_.overrun_ms(), " ms of guest time"));
      }
      overrun_ = true;
      return false;
    }
    SleepUntilSignal(reaper_.fd(), std::min({until_ns - now, deadline_ns_ - now, kTickNs}));
  }
}

void PlanRunner::Run() {
  absl::Status status = RunUntilCollecting();
  if (!status.ok()) reporter_->ReportError(std::string(status.message()));
  Collect();
}

absl::Status PlanRunner::RunUntilCollecting() {
  KTSTR_ASSIGN_OR_RETURN(CgroupTree cgroups, CgroupTree::Make(paths_.cgroup_mount));
  cgroups_.emplace(std::move(cgroups));
  reporter_->ReportStage(v1::CGROUPS_READY);
  if (plan_.has_scheduler()) KTSTR_RETURN_IF_ERROR(StartScheduler());
  if (SchedulerFailed() || overrun_) return absl::OkStatus();

  reporter_->ReportStage(v1::STEPS_RUNNING);
  progress_.scenario_start_ns = MonotonicNs();
  progress_.during_steps = true;
  absl::Status status;
  for (uint32_t i = 0; i < progress_.steps_total && status.ok() && !SchedulerFailed() && !overrun_;
       ++i)
    status = RunStep(i);
  progress_.during_steps = false;
  return status;
}

absl::Status PlanRunner::StartScheduler() {
  KTSTR_ASSIGN_OR_RETURN(supervisor_, Supervisor::Start(plan_.scheduler(), paths_.supervisor,
                                                        &progress_, &reaper_, reporter_));
  if (SchedulerFailed()) return absl::OkStatus();
  reporter_->ReportStage(v1::SCHEDULER_STARTED);
  // The supervisor keeps the attach time-out itself.
  WaitUntil(kNever, [this] { return supervisor_->phase() != Supervisor::Phase::kStarting; });
  return absl::OkStatus();
}

absl::Status PlanRunner::RunStep(uint32_t index) {
  const v1::GuestStep& step = plan_.step(static_cast<int>(index));
  v1::Observation mark;
  mark.mutable_step_mark()->set_step(index);
  mark.mutable_step_mark()->set_edge(v1::StepMark::BEGIN);
  reporter_->Report(mark);
  for (const v1::GuestCgroup& cgroup : step.cgroup())
    KTSTR_RETURN_IF_ERROR(cgroups_->Create(cgroup));
  for (const v1::GuestCgroup& cgroup : step.cgroup()) {
    for (const v1::GuestWork& work : cgroup.work())
      KTSTR_RETURN_IF_ERROR(workers_->Add(*cgroups_, cgroup.name(), work));
  }
  workers_->Release();
  if (WaitUntil(MonotonicNs() + step.hold_ns(), [this] { return SchedulerFailed(); }) || overrun_)
    return absl::OkStatus();
  ++progress_.steps_completed;
  mark.mutable_step_mark()->set_edge(v1::StepMark::END);
  reporter_->Report(std::move(mark));
  return absl::OkStatus();
}

bool PlanRunner::WaitForWorkers() {
  return WaitUntil(MonotonicNs() + plan_.report_timeout_ms() * kNsPerMs,
                   [this] { return workers_->Poll(); });
}

void PlanRunner::Collect() {
  reporter_->ReportStage(v1::COLLECTING);
  deadline_ns_ = kNever;  // Each wait from here on has a bound of its own.
  workers_->Stop();
  bool complete = WaitForWorkers();
  if (supervisor_ != nullptr) {
    supervisor_->Stop();
    WaitUntil(kNever, [this] { return supervisor_->phase() == Supervisor::Phase::kEnded; });
  }
  // A worker that the scheduler did not let run can say so now, under the kernel's own scheduler.
  if (!complete) WaitForWorkers();
  workers_->ReportAll(progress_.scenario_start_ns);
  workers_->Kill();
}

}  // namespace ktstr::guest
