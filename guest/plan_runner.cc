// SPDX-License-Identifier: Apache-2.0
#include "guest/plan_runner.h"

#include <poll.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "guest/operation.h"
#include "guest/random_pool.h"
#include "guest/time.h"

namespace ktstr::guest {
namespace {

constexpr uint64_t kTickNs = 50 * kNsPerMs;
constexpr uint64_t kNever = ~uint64_t{0};
// No name in a scenario contains this character.
constexpr const char* kSiblingSuffix = "@moved";

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

bool HasKind(const v1::GuestPlan& plan, v1::Perturbation::Kind kind) {
  const auto& all = plan.perturb().disturbance();
  return std::any_of(all.begin(), all.end(),
                     [kind](const v1::GuestDisturbance& one) { return one.kind() == kind; });
}

class PoolControl : public WorkerControl {
 public:
  PoolControl(WorkerPool* pool, const CgroupTree* cgroups) : pool_(pool), cgroups_(cgroups) {}

  uint32_t Count() const override { return pool_->size(); }
  bool Alive(uint32_t worker) override {
    pool_->Poll();
    return !pool_->ended(worker);
  }
  int DeclaredNice(uint32_t worker) const override { return pool_->nice(worker); }
  absl::Status SetNice(uint32_t worker, int nice) override { return pool_->SetNice(worker, nice); }
  absl::Status MoveAway(uint32_t worker) override {
    return pool_->Move(worker, *cgroups_, absl::StrCat(pool_->cgroup(worker), kSiblingSuffix));
  }
  absl::Status MoveHome(uint32_t worker) override {
    return pool_->Move(worker, *cgroups_, pool_->cgroup(worker));
  }

 private:
  WorkerPool* pool_;
  const CgroupTree* cgroups_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<PlanRunner>> PlanRunner::Make(const v1::GuestPlan& plan,
                                                             const RunnerPaths& paths,
                                                             Reporter* reporter,
                                                             NextPlan next_plan) {
  KTSTR_ASSIGN_OR_RETURN(Reaper reaper, Reaper::Make());
  std::unique_ptr<PlanRunner> runner(
      new PlanRunner(paths, std::move(reaper), reporter, std::move(next_plan)));
  KTSTR_RETURN_IF_ERROR(runner->SetPlan(plan));
  return runner;
}

absl::Status PlanRunner::SetPlan(const v1::GuestPlan& plan) {
  plan_ = plan;
  random_ = Random(plan_);
  // At least one: mmap(2) refuses an empty mapping.
  KTSTR_ASSIGN_OR_RETURN(WorkerPool workers, WorkerPool::Make(std::max(1U, CountWorkers(plan_)),
                                                              &random_, &reaper_, reporter_));
  workers_.emplace(std::move(workers));
  progress_.steps_total = static_cast<uint32_t>(plan_.step_size());
  limit_ms_ = plan_.overrun_ms();
  deadline_ns_ = plan_.overrun_ms() == 0 ? kNever : MonotonicNs() + plan_.overrun_ms() * kNsPerMs;
  return absl::OkStatus();
}

template <typename Done>
bool PlanRunner::WaitUntil(uint64_t until_ns, Done done) {
  while (true) {
    reaper_.Reap();
    // Before the end of what was killed is reported.
    oom_watcher_.Poll(supervisor_ == nullptr ? -1 : supervisor_->pid(), progress_.during_steps);
    if (supervisor_ != nullptr) supervisor_->Poll();
    if (probe_ != nullptr) probe_->Poll();
    if (done()) return true;
    uint64_t now = MonotonicNs();
    FollowForks(now);
    uint64_t wake_ns = std::min(until_ns, deadline_ns_);
    if (perturber_ != nullptr) {
      perturber_->Poll(now);
      wake_ns = std::min(wake_ns, perturber_->next_ns());
      now = MonotonicNs();
    }
    if (now >= until_ns) return false;
    if (now >= deadline_ns_) {
      if (!overrun_) {
        v1::Observation observation;
        observation.mutable_guest_overrun()->set_limit_ms(limit_ms_);
        reporter_->Report(std::move(observation));
      }
      overrun_ = true;
      return false;
    }
    SleepUntilSignal(reaper_.fd(), std::min(wake_ns - std::min(wake_ns, now), kTickNs));
  }
}

void PlanRunner::Run() {
  if (const absl::Status status = RunUntilCollecting(); !status.ok()) ReportFailure(status);
  StopPerturber();
  Collect();
}

void PlanRunner::ReportFailure(const absl::Status& status) {
  if (OperationOf(status) == v1::OperationFailed::OPERATION_UNSPECIFIED) {
    reporter_->ReportError(std::string(status.message()), bad_input_);
    return;
  }
  const bool enabled =
      supervisor_ != nullptr && supervisor_->phase() == Supervisor::Phase::kEnabled;
  v1::Observation observation;
  *observation.mutable_operation_failed() = DescribeFailure(status, enabled, paths_.threads_max);
  reporter_->Report(std::move(observation));
}

absl::Status PlanRunner::RunUntilCollecting() {
  KTSTR_ASSIGN_OR_RETURN(CgroupTree cgroups, CgroupTree::Make(paths_.cgroup_mount));
  cgroups_.emplace(std::move(cgroups));
  reporter_->ReportStage(v1::CGROUPS_READY);
  if (plan_.has_perturb()) KTSTR_RETURN_IF_ERROR(StartDisturber());
  if (plan_.has_scheduler()) KTSTR_RETURN_IF_ERROR(StartScheduler());
  if (SchedulerFailed() || overrun_) return absl::OkStatus();
  if (plan_.attach_only()) KTSTR_RETURN_IF_ERROR(TakeNextPlan());
  if (plan_.has_perturb()) MakePerturber();
  if (plan_.has_probe()) KTSTR_RETURN_IF_ERROR(StartProbe());
  if (SchedulerFailed() || overrun_) return absl::OkStatus();

  reporter_->ReportStage(v1::STEPS_RUNNING);
  progress_.scenario_start_ns = MonotonicNs();
  // What the attach did not take is no time for the steps.
  const uint64_t after_attach_ms =
      limit_ms_ - std::min(limit_ms_, plan_.scheduler().attach_timeout_ms());
  if (plan_.has_scheduler() &&
      deadline_ns_ > progress_.scenario_start_ns + after_attach_ms * kNsPerMs &&
      deadline_ns_ != kNever) {
    limit_ms_ = static_cast<uint32_t>(after_attach_ms);
    deadline_ns_ = progress_.scenario_start_ns + after_attach_ms * kNsPerMs;
  }
  progress_.during_steps = true;
  if (perturber_ != nullptr) perturber_->Begin(progress_.scenario_start_ns);
  absl::Status status;
  for (uint32_t i = 0; i < progress_.steps_total && status.ok() && !SchedulerFailed() && !overrun_;
       ++i)
    status = RunStep(i);
  progress_.during_steps = false;
  return status;
}

absl::Status PlanRunner::StartDisturber() {
  KTSTR_ASSIGN_OR_RETURN(disturber_,
                         CpuDisturber::Make(plan_.perturb(), paths_.disturber, &reaper_));
  return absl::OkStatus();
}

absl::Status PlanRunner::TakeNextPlan() {
  KTSTR_ASSIGN_OR_RETURN(const v1::GuestPlan next, next_plan_());
  if (next.attach_only() ||
      next.scheduler().SerializeAsString() != plan_.scheduler().SerializeAsString()) {
    return absl::InternalError("the plan of the run does not fit the one of its attach");
  }
  KTSTR_RETURN_IF_ERROR(SetPlan(next));
  // Without children, or they have been started before the scheduler.
  return plan_.has_perturb() && disturber_ == nullptr ? StartDisturber() : absl::OkStatus();
}

void PlanRunner::MakePerturber() {
  control_ = std::make_unique<PoolControl>(&*workers_, &*cgroups_);
  perturber_ = std::make_unique<Perturber>(plan_.perturb(), &random_, disturber_.get(),
                                           control_.get(), reporter_);
}

void PlanRunner::StopPerturber() {
  if (disturber_ == nullptr) return;
  deadline_ns_ = kNever;  // The waits below have bounds of their own.
  if (perturber_ != nullptr) perturber_->Stop(MonotonicNs());
  const uint64_t until_ns = MonotonicNs() + plan_.perturb().stop_timeout_ms() * kNsPerMs;
  WaitUntil(until_ns, [this] { return disturber_->Idle(); });
  if (perturber_ != nullptr) perturber_->ReportTotals();
  disturber_->End();
  if (WaitUntil(until_ns, [this] { return disturber_->Ended(); })) return;
  disturber_->Kill();
  reporter_->ReportError("the perturber's children did not end after the steps");
}

uint64_t PlanRunner::ScenarioNs(uint64_t now_ns) const {
  const uint64_t start_ns = progress_.scenario_start_ns;
  return start_ns == 0 ? 0 : now_ns - std::min(now_ns, start_ns);
}

void PlanRunner::FollowForks(uint64_t now_ns) {
  const size_t forks = random_.ForksUntil(ScenarioNs(now_ns));
  if (forks == forks_followed_) return;
  forks_followed_ = forks;
  absl::Status seeded = SeedRandomPool(paths_.random, random_, ScenarioNs(now_ns));
  if (!seeded.ok()) reporter_->ReportError(std::string(seeded.message()));
}

absl::Status PlanRunner::CreateCgroup(const v1::GuestCgroup& cgroup) {
  KTSTR_RETURN_IF_ERROR(cgroups_->Create(cgroup));
  if (cgroup.work().empty() || !HasKind(plan_, v1::Perturbation::MOVE)) return absl::OkStatus();
  v1::GuestCgroup sibling = cgroup;
  sibling.set_name(absl::StrCat(cgroup.name(), kSiblingSuffix));
  return cgroups_->Create(sibling);
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

absl::Status PlanRunner::StartProbe() {
  KTSTR_ASSIGN_OR_RETURN(
      probe_, Probe::Start(plan_.probe(), paths_.supervisor.bundle, &reaper_, reporter_));
  WaitUntil(kNever,
            [this] { return probe_->phase() != Probe::Phase::kStarting || SchedulerFailed(); });
  if (probe_->phase() != Probe::Phase::kEnded) return absl::OkStatus();
  // Without a scheduler there is nothing to probe: the run reports the scheduler's end.
  absl::Status status = SchedulerFailed() ? absl::OkStatus() : probe_->status();
  bad_input_ = probe_->refused();
  probe_.reset();
  return status;
}

void PlanRunner::StopProbe() {
  if (probe_ == nullptr) return;
  probe_->Stop();
  WaitUntil(kNever, [this] { return probe_->phase() == Probe::Phase::kEnded; });
  // A probe that prints its error in one poll and ends in a later one counts as in place in
  // between: its error comes here.
  if (!probe_->status().ok()) {
    reporter_->ReportError(std::string(probe_->status().message()), probe_->refused());
  }
}

absl::Status PlanRunner::RunStep(uint32_t index) {
  const v1::GuestStep& step = plan_.step(static_cast<int>(index));
  v1::Observation mark;
  mark.mutable_step_mark()->set_step(index);
  mark.mutable_step_mark()->set_edge(v1::StepMark::BEGIN);
  reporter_->Report(mark);
  if (index == 0) reporter_->ReportFirstStep();
  for (const v1::GuestCgroup& cgroup : step.cgroup()) KTSTR_RETURN_IF_ERROR(CreateCgroup(cgroup));
  for (const v1::GuestCgroup& cgroup : step.cgroup()) {
    for (const v1::GuestWork& work : cgroup.work())
      KTSTR_RETURN_IF_ERROR(workers_->Add(*cgroups_, cgroup.name(), work));
  }
  const uint64_t now = MonotonicNs();
  if (perturber_ != nullptr) perturber_->SetPriorities(now);
  workers_->Release(step.start_jitter_ns(), ScenarioNs(now));
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
  // Each wait below has a bound of its own.
  deadline_ns_ = kNever;
  workers_->Stop();
  const bool complete = WaitForWorkers();
  if (!complete) workers_->NoteLate();
  StopProbe();
  if (supervisor_ != nullptr) {
    // A restart that has begun counts, and so does one in which the scheduler stands still for too
    // long; one that works for longer is stopped.
    WaitUntil(MonotonicNs() + plan_.scheduler().restart_timeout_ms() * (2 * kNsPerMs),
              [this] { return supervisor_->phase() != Supervisor::Phase::kRestarting; });
    supervisor_->Stop();
    WaitUntil(kNever, [this] { return supervisor_->phase() == Supervisor::Phase::kEnded; });
  }
  // A worker that the scheduler did not let run can report now, under the kernel's own scheduler.
  if (!complete) WaitForWorkers();
  workers_->ReportAll(progress_.scenario_start_ns);
  workers_->Kill();
}

}  // namespace ktstr::guest
