// SPDX-License-Identifier: Apache-2.0
//
// Executes a plan: cgroups, scheduler, steps, collecting. One loop waits for everything: it wakes
// for an ended child, for the end of a hold, for the perturber, and every 50 ms of guest time to
// look at the scheduler. Whatever goes wrong, the runner stops the workers and reports on them; a
// scheduler that dies ends the steps early. One thread.

#ifndef KTSTR_GUEST_PLAN_RUNNER_H_
#define KTSTR_GUEST_PLAN_RUNNER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "guest/cgroups.h"
#include "guest/cpu_disturber.h"
#include "guest/oom_watcher.h"
#include "guest/perturber.h"
#include "guest/probe.h"
#include "guest/random.h"
#include "guest/reaper.h"
#include "guest/reporter.h"
#include "guest/supervisor.h"
#include "guest/worker_pool.h"
#include "ktstr/v1/guest.pb.h"

namespace ktstr::guest {

struct RunnerPaths {
  SupervisorPaths supervisor;
  std::string cgroup_mount = "/sys/fs/cgroup";
  CpuDisturberOptions disturber;
  std::string random = "/dev/random";
  std::string threads_max = "/proc/sys/kernel/threads-max";
};

class PlanRunner {
 public:
  // The plan that an `attach_only` one waits for, called once its scheduler is enabled. Blocks.
  using NextPlan = std::function<absl::StatusOr<v1::GuestPlan>()>;
  // `reporter` outlives the runner. `next_plan`: unset for a plan that is not `attach_only`.
  static absl::StatusOr<std::unique_ptr<PlanRunner>> Make(const v1::GuestPlan& plan,
                                                          const RunnerPaths& paths,
                                                          Reporter* reporter,
                                                          NextPlan next_plan = {});

  // Runs from CGROUPS_READY to the end of COLLECTING, once. Reports a failure as OperationFailed
  // where a scheduler can be the cause, else as GuestError.
  void Run();

 private:
  PlanRunner(const RunnerPaths& paths, Reaper reaper, Reporter* reporter, NextPlan next_plan)
      : paths_(paths),
        next_plan_(std::move(next_plan)),
        reaper_(std::move(reaper)),
        reporter_(reporter),
        oom_watcher_(paths.supervisor.kmsg, reporter) {}
  // Before the first step.
  absl::Status SetPlan(const v1::GuestPlan& plan);

  void ReportFailure(const absl::Status& status);
  // Everything up to the steps' end.
  absl::Status RunUntilCollecting();
  absl::Status StartDisturber();
  absl::Status TakeNextPlan();
  void MakePerturber();
  absl::Status StartScheduler();
  absl::Status StartProbe();
  void StopProbe();
  absl::Status RunStep(uint32_t index);
  absl::Status CreateCgroup(const v1::GuestCgroup& cgroup);
  void StopPerturber();
  // Seeds the kernel's random pool again after a fork of the seed.
  void FollowForks(uint64_t now_ns);
  uint64_t ScenarioNs(uint64_t now_ns) const;
  void Collect();
  bool SchedulerFailed() const { return supervisor_ != nullptr && !supervisor_->alive(); }
  // Polls until `done` returns true, and returns true; false when `until_ns` comes first, or the
  // run's limit.
  template <typename Done>
  bool WaitUntil(uint64_t until_ns, Done done);
  bool WaitForWorkers();

  v1::GuestPlan plan_;
  const RunnerPaths paths_;
  const NextPlan next_plan_;
  Random random_{0};  // Of plan_.
  Reaper reaper_;
  Reporter* reporter_;
  OomWatcher oom_watcher_;
  RunProgress progress_;
  std::optional<CgroupTree> cgroups_;
  std::optional<WorkerPool> workers_;
  std::unique_ptr<Supervisor> supervisor_;
  std::unique_ptr<Probe> probe_;             // Null: the plan has none, or it failed to start.
  std::unique_ptr<CpuDisturber> disturber_;  // With perturber_.
  std::unique_ptr<WorkerControl> control_;   // With perturber_.
  std::unique_ptr<Perturber> perturber_;     // Null: the plan has no disturbances.
  size_t forks_followed_ = 0;
  uint32_t limit_ms_ = 0;  // The one of `deadline_ns_`.
  uint64_t deadline_ns_ = 0;
  bool overrun_ = false;
  bool bad_input_ = false;  // The plan asks for what the scheduler does not have.
};

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_PLAN_RUNNER_H_
