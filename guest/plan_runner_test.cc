// SPDX-License-Identifier: Apache-2.0
#include "guest/plan_runner.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "guest/fake_cgroups.h"
#include "guest/fake_reporter.h"
#include "guest/operation.h"
#include "guest/time.h"

namespace ktstr::guest {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class PlanRunnerTest : public testing::Test {
 protected:
  void SetUp() override {
    auto dir = base::TempDir::Make("runner");
    ASSERT_TRUE(dir.ok());
    dir_ = std::make_unique<base::TempDir>(std::move(*dir));
    auto fake = FakeCgroups::Make({"g", "g@moved"});
    ASSERT_TRUE(fake.ok());
    cgroups_ = std::make_unique<FakeCgroups>(std::move(*fake));
    paths_ = {.supervisor = {.bundle = dir_->path(),
                             .sched_ext = base::JoinPath(dir_->path(), "sx"),
                             .kmsg = "/dev/null"},
              .cgroup_mount = cgroups_->mount(),
              .disturber = {.priority = 0},
              .random = "/dev/null"};
    ASSERT_TRUE(base::MakeDirs(base::JoinPath(dir_->path(), "sx/root")).ok());
    ASSERT_TRUE(base::WriteFileAtomic(base::JoinPath(dir_->path(), "sx/state"), "enabled\n").ok());
    ASSERT_TRUE(base::WriteFileAtomic(base::JoinPath(dir_->path(), "sx/root/ops"), "x\n").ok());
    plan_.set_report_timeout_ms(20'000);
    plan_.set_overrun_ms(60'000);
  }
  void AddScheduler(const std::string& script) {
    ASSERT_TRUE(base::WriteFileAtomic(base::JoinPath(dir_->path(), "s"),
                                      absl::StrCat("#!/bin/sh\n", script, "\n"), 0755)
                    .ok());
    plan_.mutable_scheduler()->set_path("s");
    plan_.mutable_scheduler()->set_attach_timeout_ms(20'000);
    plan_.mutable_scheduler()->set_stop_timeout_ms(20'000);
  }
  v1::GuestStep* AddStep(uint64_t hold_ns, const std::string& cgroup = "") {
    v1::GuestStep* step = plan_.add_step();
    step->set_hold_ns(hold_ns);
    if (cgroup.empty()) return step;
    step->add_cgroup()->set_name(cgroup);
    v1::GuestWork* work = step->mutable_cgroup(0)->add_work();
    work->set_type("spin_wait");
    work->set_workers(1);
    return step;
  }
  void Run() {
    auto runner = PlanRunner::Make(plan_, paths_, &reporter_);
    ASSERT_TRUE(runner.ok()) << runner.status();
    (*runner)->Run();
  }
  std::string Marks() const {
    std::string marks;
    for (const v1::Observation& o : reporter_.Of(v1::Observation::kStepMark)) {
      absl::StrAppend(&marks, o.step_mark().step(),
                      o.step_mark().edge() == v1::StepMark::BEGIN ? "<" : ">");
    }
    return marks;
  }

  void AddDisturbance(v1::Perturbation::Kind kind, uint64_t length_ns) {
    v1::GuestPerturb* perturb = plan_.mutable_perturb();
    perturb->set_cpus(1);
    perturb->set_length_ns(3600 * kNsPerSecond);
    perturb->set_stop_timeout_ms(20'000);
    v1::GuestDisturbance* disturbance = perturb->add_disturbance();
    disturbance->set_kind(kind);
    disturbance->set_period_ns(20 * kNsPerMs);
    disturbance->set_min_length_ns(length_ns);
    disturbance->set_max_length_ns(length_ns);
  }
  v1::PerturbationTotal Total(v1::Perturbation::Kind kind) const {
    for (const v1::Observation& o : reporter_.Of(v1::Observation::kPerturbationTotal)) {
      if (o.perturbation_total().kind() == kind) return o.perturbation_total();
    }
    return {};
  }

  std::unique_ptr<base::TempDir> dir_;
  std::unique_ptr<FakeCgroups> cgroups_;
  RunnerPaths paths_;
  v1::GuestPlan plan_;
  FakeReporter reporter_;
};

TEST_F(PlanRunnerTest, StepsHoldAndWorkersReport) {
  AddStep(30 * kNsPerMs, "g");
  AddStep(30 * kNsPerMs);
  Run();
  EXPECT_EQ(Marks(), "0<0>1<1>");
  EXPECT_THAT(reporter_.Stages(),
              ElementsAre(v1::CGROUPS_READY, v1::STEPS_RUNNING, v1::COLLECTING));
  ASSERT_EQ(reporter_.reports_before_first_step.size(), 1u);
  EXPECT_TRUE(reporter_.observations[reporter_.reports_before_first_step[0] - 1].has_step_mark());
  auto reports = reporter_.Of(v1::Observation::kWorkerReport);
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_GE(reports[0].worker_report().wall_time_ns(), 60 * kNsPerMs);
  EXPECT_TRUE(reporter_.Of(v1::Observation::kGuestError).empty());
}

TEST_F(PlanRunnerTest, SchedulerIsEnabledBeforeAndStoppedAfterTheSteps) {
  AddScheduler("exec sleep 3600");
  AddStep(30 * kNsPerMs, "g");
  Run();
  EXPECT_THAT(reporter_.Stages(),
              ElementsAre(v1::CGROUPS_READY, v1::SCHEDULER_STARTED, v1::SCHEDULER_ENABLED,
                          v1::STEPS_RUNNING, v1::COLLECTING));
  auto exits = reporter_.Of(v1::Observation::kSchedulerExit);
  ASSERT_EQ(exits.size(), 1u);
  EXPECT_EQ(exits[0].scheduler_exit().cause(), v1::SchedulerExit::STOPPED);
  EXPECT_EQ(exits[0].scheduler_exit().steps_completed(), 1u);
}

// An attach-only plan: the steps come with the next one.
TEST_F(PlanRunnerTest, AttachOnlyGoesOnWithTheNextPlan) {
  AddScheduler("exec sleep 3600");
  const v1::GuestPlan attach = [this] {
    v1::GuestPlan plan = plan_;
    plan.set_attach_only(true);
    return plan;
  }();
  AddStep(30 * kNsPerMs, "g");
  int asked = 0;
  auto runner =
      PlanRunner::Make(attach, paths_, &reporter_, [&]() -> absl::StatusOr<v1::GuestPlan> {
        ++asked;
        EXPECT_EQ(reporter_.Stages().back(), v1::SCHEDULER_ENABLED);
        return plan_;
      });
  ASSERT_TRUE(runner.ok()) << runner.status();
  (*runner)->Run();
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(Marks(), "0<0>");
  EXPECT_EQ(reporter_.Of(v1::Observation::kWorkerReport).size(), 1u);
  EXPECT_TRUE(reporter_.Of(v1::Observation::kGuestError).empty());
}

TEST_F(PlanRunnerTest, ANextPlanWithAnotherSchedulerIsAnError) {
  AddScheduler("exec sleep 3600");
  plan_.set_attach_only(true);
  v1::GuestPlan next = plan_;
  next.set_attach_only(false);
  next.mutable_scheduler()->add_args("--other");
  auto runner = PlanRunner::Make(plan_, paths_, &reporter_,
                                 [&]() -> absl::StatusOr<v1::GuestPlan> { return next; });
  ASSERT_TRUE(runner.ok()) << runner.status();
  (*runner)->Run();
  auto errors = reporter_.Of(v1::Observation::kGuestError);
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_THAT(errors[0].guest_error().message(), HasSubstr("does not fit"));
  EXPECT_EQ(Marks(), "");
}

TEST_F(PlanRunnerTest, AttachOnlyAsksForNoPlanAfterAFailedAttach) {
  AddScheduler("exit 3");
  ASSERT_TRUE(base::WriteFileAtomic(base::JoinPath(dir_->path(), "sx/state"), "disabled\n").ok());
  plan_.set_attach_only(true);
  auto runner = PlanRunner::Make(plan_, paths_, &reporter_, []() -> absl::StatusOr<v1::GuestPlan> {
    ADD_FAILURE() << "asked for";
    return absl::InternalError("");
  });
  ASSERT_TRUE(runner.ok()) << runner.status();
  (*runner)->Run();
  EXPECT_EQ(reporter_.Of(v1::Observation::kSchedulerExit).size(), 1u);
}

// Such a worker's report comes once the scheduler is gone, and says so.
TEST_F(PlanRunnerTest, WorkerThatTheSchedulerDoesNotRunIsLate) {
  const std::string procs = cgroups_->mount() + "/ktstr/g/cgroup.procs";
  AddScheduler(absl::StrCat("p=", procs,
                            "\ntrap 'kill -CONT $(cat $p); exit 0' INT\n"
                            "until [ -s $p ]; do sleep 0.01; done\nkill -STOP $(cat $p)\n"
                            "while :; do sleep 0.02; done"));
  plan_.set_report_timeout_ms(300);
  AddStep(200 * kNsPerMs, "g");
  Run();
  auto reports = reporter_.Of(v1::Observation::kWorkerReport);
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_TRUE(reports[0].worker_report().late());
}

TEST_F(PlanRunnerTest, SchedulerThatDiesEndsTheStepsAndReportsStillCome) {
  AddScheduler("sleep 0.3; exit 7");
  AddStep(3600 * kNsPerSecond, "g");
  AddStep(kNsPerMs);
  Run();
  EXPECT_EQ(Marks(), "0<");
  auto exits = reporter_.Of(v1::Observation::kSchedulerExit);
  ASSERT_EQ(exits.size(), 1u);
  EXPECT_EQ(exits[0].scheduler_exit().cause(), v1::SchedulerExit::PROCESS_EXITED);
  EXPECT_EQ(exits[0].scheduler_exit().exit_code(), 7);
  EXPECT_TRUE(exits[0].scheduler_exit().during_steps());
  EXPECT_EQ(exits[0].scheduler_exit().steps_total(), 2u);
  EXPECT_EQ(reporter_.Of(v1::Observation::kWorkerReport).size(), 1u);
}

TEST_F(PlanRunnerTest, NoStepsWithoutTheScheduler) {
  plan_.mutable_scheduler()->set_path("missing");
  AddStep(kNsPerMs, "g");
  Run();
  EXPECT_EQ(Marks(), "");
  EXPECT_EQ(reporter_.Of(v1::Observation::kSchedulerExit).size(), 1u);
  EXPECT_TRUE(reporter_.Of(v1::Observation::kWorkerReport).empty());
}

// What the attach may take is no time for the steps.
TEST_F(PlanRunnerTest, OverrunAfterTheAttach) {
  AddScheduler("trap 'exit 0' INT; while :; do sleep 0.02; done");
  plan_.mutable_scheduler()->set_attach_timeout_ms(3'600'000);
  plan_.set_overrun_ms(3'600'300);
  AddStep(3600 * kNsPerSecond, "g");
  Run();
  const auto overruns = reporter_.Of(v1::Observation::kGuestOverrun);
  ASSERT_EQ(overruns.size(), 1u);
  EXPECT_EQ(overruns[0].guest_overrun().limit_ms(), 300u);
}

TEST_F(PlanRunnerTest, OverrunIsAnObservation) {
  plan_.set_overrun_ms(80);
  AddStep(3600 * kNsPerSecond, "g");
  Run();
  EXPECT_THAT(reporter_.Of(v1::Observation::kGuestError), ::testing::IsEmpty());
  auto overruns = reporter_.Of(v1::Observation::kGuestOverrun);
  ASSERT_EQ(overruns.size(), 1u);
  EXPECT_EQ(overruns[0].guest_overrun().limit_ms(), 80u);
  EXPECT_EQ(Marks(), "0<");
  EXPECT_EQ(reporter_.Of(v1::Observation::kWorkerReport).size(), 1u);
}

TEST_F(PlanRunnerTest, DisturbancesEndBeforeCollecting) {
  AddDisturbance(v1::Perturbation::BURST, kNsPerMs);
  AddDisturbance(v1::Perturbation::MOVE, kNsPerMs);
  AddStep(200 * kNsPerMs, "g");
  AddStep(200 * kNsPerMs);
  Run();
  EXPECT_EQ(Marks(), "0<0>1<1>");
  EXPECT_THAT(reporter_.Of(v1::Observation::kGuestError), ::testing::IsEmpty());
  EXPECT_GT(Total(v1::Perturbation::BURST).done(), 0u);
  EXPECT_GT(Total(v1::Perturbation::MOVE).done(), 0u);
  EXPECT_EQ(Total(v1::Perturbation::MOVE).failed(), 0u);
  EXPECT_NE(cgroups_->Read("g@moved/cgroup.procs"), "");
  bool collecting = false;
  size_t reported = 0;
  for (const v1::Observation& o : reporter_.observations) {
    collecting |= o.stage().stage() == v1::COLLECTING;
    if (!o.has_perturbation()) continue;
    EXPECT_FALSE(collecting);
    ++reported;
  }
  EXPECT_EQ(reported, Total(v1::Perturbation::BURST).done() + Total(v1::Perturbation::MOVE).done());
}

TEST_F(PlanRunnerTest, DisturbancesEndWithADeadScheduler) {
  AddScheduler("sleep 0.3; exit 7");
  AddDisturbance(v1::Perturbation::BURST, kNsPerMs);
  AddStep(3600 * kNsPerSecond, "g");
  Run();
  EXPECT_EQ(reporter_.Of(v1::Observation::kSchedulerExit).size(), 1u);
  EXPECT_EQ(reporter_.Of(v1::Observation::kWorkerReport).size(), 1u);
  EXPECT_GT(Total(v1::Perturbation::BURST).done(), 0u);
  EXPECT_THAT(reporter_.Of(v1::Observation::kGuestError), ::testing::IsEmpty());
}

// A write to cpu0/online that waits, as it does for the kernel's threads: nobody reads the pipe.
class BlockedHotplugTest : public PlanRunnerTest {
 protected:
  void SetUp() override {
    PlanRunnerTest::SetUp();
    const std::string cpu = base::JoinPath(dir_->path(), "cpus/cpu0");
    ASSERT_TRUE(base::MakeDirs(cpu).ok());
    pipe_ = base::JoinPath(cpu, "online");
    ASSERT_EQ(mkfifo(pipe_.c_str(), 0600), 0);
    paths_.disturber.cpus = base::JoinPath(dir_->path(), "cpus");
    AddDisturbance(v1::Perturbation::HOTPLUG, kNsPerMs);
    plan_.mutable_perturb()->add_hotplug_cpus(0);
    AddStep(100 * kNsPerMs, "g");
  }
  std::string pipe_;
};

TEST_F(BlockedHotplugTest, WaitsLongerThanTheStepsForTheScheduler) {
  AddScheduler(absl::StrCat("trap 'exit 0' INT; sleep 1; exec 3<> ", pipe_,
                            "; while :; do sleep 0.02; done"));
  Run();
  EXPECT_THAT(reporter_.Of(v1::Observation::kGuestError), ::testing::IsEmpty());
  EXPECT_EQ(Total(v1::Perturbation::HOTPLUG).done(), 1u);
}

TEST_F(BlockedHotplugTest, HasALimit) {
  plan_.mutable_perturb()->set_stop_timeout_ms(300);
  Run();
  const auto errors = reporter_.Of(v1::Observation::kGuestError);
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_THAT(errors[0].guest_error().message(), HasSubstr("did not end after the steps"));
  // A process of its own, whose write waits as well, brings the CPU back.
  const base::UniqueFd reader(open(pipe_.c_str(), O_RDONLY | O_CLOEXEC));
  char written = 0;
  EXPECT_EQ(read(reader.get(), &written, 1), 1);
  EXPECT_EQ(written, '1');
}

// /dev/null refuses entropy, and the error shows that the agent tried.
TEST_F(PlanRunnerTest, TheKernelsPoolFollowsAFork) {
  AddStep(60 * kNsPerMs, "g");
  v1::GuestSeedFork* fork = plan_.add_seed_fork();
  fork->set_at_ns(3600 * kNsPerSecond);
  Run();
  EXPECT_THAT(reporter_.Of(v1::Observation::kGuestError), ::testing::IsEmpty());
  fork->set_at_ns(kNsPerMs);
  Run();
  auto errors = reporter_.Of(v1::Observation::kGuestError);
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_THAT(errors[0].guest_error().message(), HasSubstr("RNDADDENTROPY on /dev/null"));
}

TEST_F(PlanRunnerTest, OperationThatFailsEndsTheRunWithItsPath) {
  AddStep(kNsPerMs, "unknown");
  AddStep(kNsPerMs);
  Run();
  auto failed = reporter_.Of(v1::Observation::kOperationFailed);
  ASSERT_EQ(failed.size(), 1u);
  EXPECT_EQ(failed[0].operation_failed().operation(), v1::OperationFailed::CGROUP_MOVE);
  EXPECT_THAT(failed[0].operation_failed().message(), HasSubstr("unknown/cgroup.procs"));
  EXPECT_FALSE(failed[0].operation_failed().scheduler_enabled());
  EXPECT_GT(failed[0].operation_failed().free_memory_bytes(), 0u);
  EXPECT_GT(failed[0].operation_failed().tasks(), 0u);
  EXPECT_GT(failed[0].operation_failed().max_tasks(), 0u);
  EXPECT_THAT(reporter_.Of(v1::Observation::kGuestError), ::testing::IsEmpty());
  EXPECT_EQ(Marks(), "0<");
}

// A fake cgroup has no files of its own: enabling a controller in it fails.
TEST_F(PlanRunnerTest, FailureUnderTheSchedulerSaysSo) {
  AddScheduler("exec sleep 3600");
  AddStep(kNsPerMs, "unknown/deep");
  Run();
  auto failed = reporter_.Of(v1::Observation::kOperationFailed);
  ASSERT_EQ(failed.size(), 1u);
  EXPECT_EQ(failed[0].operation_failed().operation(), v1::OperationFailed::CGROUP_CREATE);
  EXPECT_TRUE(failed[0].operation_failed().scheduler_enabled());
}

// The leaf rule of cgroup v2 refuses the move, and no scheduler takes part.
TEST_F(PlanRunnerTest, CgroupThatCannotBeMadeIsAFailedOperation) {
  const std::string root = cgroups_->mount() + "/ktstr";
  ASSERT_TRUE(base::MakeDirs(root).ok());
  ASSERT_TRUE(base::WriteFileAtomic(root + "/taken", "").ok());
  AddStep(30 * kNsPerMs, "taken");
  Run();
  auto failed = reporter_.Of(v1::Observation::kOperationFailed);
  ASSERT_EQ(failed.size(), 1u);
  EXPECT_EQ(failed[0].operation_failed().operation(), v1::OperationFailed::CGROUP_CREATE);
}

TEST_F(PlanRunnerTest, MoveThatCgroupsThemselvesRefuseIsTheAgents) {
  ASSERT_TRUE(base::WriteFileAtomic(
                  base::JoinPath(cgroups_->mount(), "ktstr/g/cgroup.subtree_control"), "cpu\n")
                  .ok());
  ASSERT_EQ(unlink(base::JoinPath(cgroups_->mount(), "ktstr/g/cgroup.procs").c_str()), 0);
  AddStep(kNsPerMs, "g");
  Run();
  EXPECT_THAT(reporter_.Of(v1::Observation::kOperationFailed), ::testing::IsEmpty());
  auto errors = reporter_.Of(v1::Observation::kGuestError);
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_THAT(errors[0].guest_error().message(), HasSubstr("leaves only"));
}

// A mark survives what is added to the message.
TEST(OperationTest, MarkStaysOnTheStatus) {
  EXPECT_TRUE(MarkOperation(absl::OkStatus(), v1::OperationFailed::FORK).ok());
  const absl::Status marked =
      MarkOperation(absl::InternalError("x"), v1::OperationFailed::CGROUP_CREATE);
  EXPECT_EQ(OperationOf(base::Annotate(marked, "more")), v1::OperationFailed::CGROUP_CREATE);
  EXPECT_EQ(OperationOf(absl::InternalError("x")), v1::OperationFailed::OPERATION_UNSPECIFIED);
}

}  // namespace
}  // namespace ktstr::guest
