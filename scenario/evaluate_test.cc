// SPDX-License-Identifier: Apache-2.0
//
// Findings about workers and their messages, both when they must and when they must not come. A gap
// in the observations or a guest that lies never gives PASS.

#include "scenario/evaluate.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "scenario/testing/run_texts.h"

namespace ktstr::scenario {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using v1::Observation;

TEST(Evaluate, GoodRunPasses) {
  const v1::Judgement judgement = Judge(GoodRun());
  EXPECT_EQ(judgement.verdict(), v1::PASS);
  EXPECT_THAT(Lines(judgement), IsEmpty());
}

std::vector<std::string> WithReports(const std::string& more) {
  std::vector<std::string> run = GoodRun();
  for (int i = 0; i < 4; ++i) run = With(run, Report(i), Report(i, more));
  return run;
}

TEST(NotTested, NoWorkerInTheSubjectsClassIsNoPass) {
  const v1::Judgement judgement = Judge(WithReports("ext_class: false"));
  EXPECT_EQ(judgement.verdict(), v1::INCONCLUSIVE);
  EXPECT_THAT(Lines(judgement),
              ElementsAre("NOT_TESTED scheduler: scheduler scx_mine scheduled none of the 4 "
                          "workers: they stayed with the kernel's own scheduler"));
}

TEST(NotTested, SwitchPartialIsNamed) {
  const std::string partial = "scheduler_state { state: 'enabled' ops: 'mine' switch_all: false }";
  for (const std::string more : {"ext_class: false", ""}) {
    const v1::Judgement judgement = Judge(With(WithReports(more), kEnabled, partial));
    EXPECT_EQ(judgement.verdict(), v1::INCONCLUSIVE) << more;
    ASSERT_EQ(judgement.findings_size(), 1) << more;
    EXPECT_THAT(judgement.findings(0).message(), HasSubstr("SCX_OPS_SWITCH_PARTIAL"));
  }
  // The scheduler's user space gave policy SCHED_EXT to some tasks.
  EXPECT_EQ(Judge(With(WithReports("ext_class: true"), kEnabled, partial)).verdict(), v1::PASS);
}

TEST(NotTested, OneWorkerOfTheSubjectIsEnough) {
  std::vector<std::string> run = WithReports("ext_class: false");
  run = With(run, Report(2, "ext_class: false"), Report(2, "ext_class: true"));
  EXPECT_EQ(Judge(run).verdict(), v1::PASS);
}

// Some kernels report neither class nor switch_all, and older records lack both.
TEST(NotTested, UnknownClassIsNotHeldAgainstTheRun) {
  EXPECT_EQ(Judge(GoodRun()).verdict(), v1::PASS);
  EXPECT_EQ(Judge(With(GoodRun(), kEnabled,
                       "scheduler_state { state: 'enabled' ops: 'mine' switch_all: true }"))
                .verdict(),
            v1::PASS);
}

// Workers that never ran could not read their class: that is the scheduler's fault, so the run
// counts as a test.
TEST(NotTested, StarvedWorkersStayAFailure) {
  std::vector<std::string> run = GoodRun();
  for (int i = 0; i < 4; ++i) {
    run = With(
        run, Report(i),
        absl::StrCat("worker_report { index: ", i, " wall_time_ns: 2000000000 ext_class: false }"));
  }
  const v1::Judgement judgement = Judge(run);
  EXPECT_EQ(judgement.verdict(), v1::FAIL);
  for (const v1::Finding& finding : judgement.findings()) EXPECT_EQ(finding.kind(), "STARVED");
}

// The scheduler under test is not at fault for what workers met under the kernel's own one.
TEST(NotTested, FindingsOfWorkersFollowFromIt) {
  std::vector<std::string> run = WithReports("ext_class: false");
  run = With(run, Report(1, "ext_class: false"),
             Report(1, "ext_class: false max_gap_ns: 4000000000 max_gap_at_ns: 4100000000"));
  const v1::Judgement judgement = Judge(run);
  EXPECT_EQ(judgement.verdict(), v1::INCONCLUSIVE);
  ASSERT_EQ(judgement.findings_size(), 2);
  EXPECT_TRUE(judgement.findings(1).consequence());
}

TEST(NotTested, UnderTheKernelsOwnSchedulerTheClassIsNotAsked) {
  v1::Scenario scenario = MakeScenario();
  scenario.clear_scheduler();
  std::vector<std::string> run = WithReports("ext_class: false");
  run = With(With(run, kEnabled, "stage { stage: READY }"), kStopped, "stage { stage: READY }");
  EXPECT_EQ(Judge(run, scenario).verdict(), v1::PASS);
}

// Nine tenths of the scenario's 2 s; of a restart at its end, only the part before it counts.
TEST(NotTested, SchedulerThatWasAwayForMostOfTheTime) {
  const auto away = [](const std::vector<std::string>& restarts) {
    std::vector<std::string> run = GoodRun();
    run.insert(run.begin() + 2, restarts.begin(), restarts.end());
    return Judge(run);
  };
  const std::string most = "scheduler_restart { scenario_time_ns: 1000 in_steps_ns: 1800000000 }";
  const std::string late =
      "scheduler_restart { scenario_time_ns: 2000000000 in_steps_ns: 5000000 }";
  const std::string more =
      "scheduler_restart { scenario_time_ns: 1900000000 in_steps_ns: 5000000 }";
  const std::string endless =
      "scheduler_restart { scenario_time_ns: 5 in_steps_ns: 18446744073709551615 }";
  EXPECT_EQ(away({most}).verdict(), v1::PASS);
  EXPECT_EQ(away({most, late}).verdict(), v1::PASS);
  EXPECT_EQ(away({most, more}).verdict(), v1::INCONCLUSIVE);
  EXPECT_THAT(Lines(away({most, more})),
              ElementsAre("NOT_TESTED scheduler: the scheduler was away for 1805 of 2000ms (2 "
                          "restarts): the workers were with the kernel's own scheduler meanwhile"));
  EXPECT_THAT(Lines(away({endless, endless})), ElementsAre(HasSubstr("away for 2000 of 2000ms")));
}

TEST(NotTested, FailuresBesideASchedulerThatWasAwayStand) {
  std::vector<std::string> run =
      With(GoodRun(), Report(1), Report(1, "max_gap_ns: 4000000000 max_gap_at_ns: 4100000000"));
  run.insert(run.begin() + 2, "scheduler_restart { scenario_time_ns: 0 in_steps_ns: 1500000000 }");
  EXPECT_EQ(Judge(run).verdict(), v1::FAIL);
}

// Time before the first step is none without the scheduler.
TEST(NotTested, RestartsBeforeTheStepsDoNotCount) {
  std::vector<std::string> run = GoodRun();
  run.insert(run.begin() + 2, "scheduler_restart { length_ns: 1900000000 in_steps_ns: 5 }");
  EXPECT_EQ(Judge(run).verdict(), v1::PASS);
}

TEST(NotTested, RestartThatDidNotEnd) {
  std::vector<std::string> run = GoodRun();
  run.insert(run.begin() + 2,
             "scheduler_restart { scenario_time_ns: 1200000000 length_ns: 20000000000 in_steps_ns: "
             "20000000000 unfinished: true }");
  EXPECT_THAT(Lines(Judge(run)),
              ElementsAre("NOT_TESTED scheduler: the scheduler, disabled at +1200ms, had not "
                          "restarted when it was stopped: from there on the workers were with the "
                          "kernel's own scheduler. It had tried for 20000ms: a longer duration "
                          "gives it time"));
  EXPECT_EQ(Judge(run).verdict(), v1::INCONCLUSIVE);
}

TEST(NotTested, NoWorkerAtAllIsNoPass) {
  v1::Scenario scenario = MakeScenario("name: 'x' step {}");
  EXPECT_THAT(Lines(Judge({kBegin0, kEnd0, kDone}, scenario)),
              ElementsAre("NOT_TESTED scenario: the scenario has no worker: nothing was "
                          "scheduled"));
  EXPECT_EQ(Judge({kBegin0, kEnd0, kDone}, scenario).verdict(), v1::INCONCLUSIVE);
}

TEST(Evaluate, NothingSeenIsNoPass) {
  const v1::Judgement judgement = Judge({});
  EXPECT_EQ(judgement.verdict(), v1::ERROR);
  EXPECT_THAT(Lines(judgement),
              ElementsAre("HARNESS guest: the end of the virtual machine was not observed"));
}

// A run that lacks any one fact that PASS needs does not pass, and neither does any cut-off run.
TEST(Evaluate, EveryGapIsNoPass) {
  const std::vector<std::string> good = GoodRun();
  for (const std::string& needed :
       {std::string(kEnabled), std::string(kEnd0), std::string(kEnd1), Report(0), Report(1),
        Report(2), Report(3), std::string(kStopped), std::string(kDone)}) {
    std::vector<std::string> run;
    for (const std::string& entry : good) {
      // STOPPED also reports that the scheduler was enabled.
      if (entry != needed) run.push_back(entry);
    }
    if (needed == kEnabled) run = With(run, kStopped, "scheduler_exit { cause: STOPPED }");
    EXPECT_NE(Judge(run).verdict(), v1::PASS) << "without " << needed;
  }
  for (size_t length = 0; length < good.size(); ++length) {
    const std::vector<std::string> run(good.begin(), good.begin() + length);
    EXPECT_EQ(Judge(run).verdict(), v1::ERROR) << length;
  }
}

TEST(Evaluate, MissingReportsStepsAndExitAreNamed) {
  const v1::Judgement judgement =
      Judge({kEnabled, kBegin0, kEnd0, kBegin1, Report(0), Report(3), kDone});
  EXPECT_EQ(judgement.verdict(), v1::ERROR);
  EXPECT_THAT(
      Lines(judgement),
      ElementsAre("HARNESS guest: how the scheduler ended was not observed",
                  "HARNESS guest: only 1 of 2 steps were seen to end",
                  "HARNESS guest: no report of 2 of 4 workers, the first is worker 1 in cgroup "
                  "left"));
}

TEST(Evaluate, KernelSchedulerNeedsNoAttach) {
  const v1::Scenario scenario =
      MakeScenario("name: 'x' step { cgroup { name: 'a' work { spin_wait {} workers: 1 } } }");
  EXPECT_EQ(Judge({kBegin0, kEnd0, Report(0), kDone}, scenario).verdict(), v1::PASS);
  EXPECT_EQ(Judge({kBegin0, Report(0), kDone}, scenario).verdict(), v1::ERROR);
}

TEST(Starved, WorkerWithoutWork) {
  const auto starved = "worker_report { index: 1 wall_time_ns: 2000000000 max_gap_ns: 1999000000 }";
  const auto run = With(GoodRun(), Report(1), starved);
  const v1::Judgement judgement = Judge(run);
  EXPECT_EQ(judgement.verdict(), v1::FAIL);
  EXPECT_THAT(Lines(judgement),
              ElementsAre("STARVED cgroup left: worker 1 (spin_wait) did no work in 2000ms"));
  EXPECT_EQ(judgement.findings(0).observed(), "0");
  EXPECT_EQ(Judge(run, MakeScenario(std::string(kScheduled) + " checks { not_starved: false }"))
                .verdict(),
            v1::PASS);
}

TEST(Starved, OneFindingPerCgroup) {
  auto run = With(GoodRun(), Report(0), "worker_report { index: 0 wall_time_ns: 500000000 }");
  run = With(run, Report(1), "worker_report { index: 1 wall_time_ns: 500000000 }");
  EXPECT_THAT(Lines(Judge(run)),
              ElementsAre("STARVED cgroup left: worker 0 (spin_wait) did no work in 500ms; 2 of 2 "
                          "workers"));
}

// A worker runs late when many share a CPU.
TEST(Starved, TooLittleTimeIsNoFailure) {
  auto run = With(GoodRun(), Report(1), "worker_report { index: 1 wall_time_ns: 279000000 }");
  const v1::Judgement judgement = Judge(run);
  EXPECT_EQ(judgement.verdict(), v1::INCONCLUSIVE);
  // 4 CPUs: half a worker on each of the two idle ones, one and a half on those of `right`.
  EXPECT_THAT(
      Lines(judgement),
      ElementsAre("TOO_SHORT cgroup left: not_starved cannot be judged: the workers ran for "
                  "279ms, and it takes 280ms; worker 1 (spin_wait) did no work in 279ms"));
  v1::Scenario crowd = MakeScenario();
  crowd.mutable_step(0)->mutable_cgroup(0)->mutable_work(0)->set_workers(1000);
  std::vector<std::string> crowded = {kEnabled, kEnd0, kEnd1};
  for (int i = 0; i < 1002; ++i) crowded.push_back(Report(i));
  crowded = With(crowded, Report(1), "worker_report { index: 1 wall_time_ns: 5000000000 }");
  crowded.push_back(kStopped);
  crowded.push_back(kDone);
  EXPECT_EQ(Judge(crowded, crowd).verdict(), v1::INCONCLUSIVE);
  crowded = With(crowded, "worker_report { index: 1 wall_time_ns: 5000000000 }",
                 "worker_report { index: 1 wall_time_ns: 6000000000 }");
  EXPECT_EQ(Judge(crowded, crowd).verdict(), v1::FAIL);
}

TEST(Stuck, PauseAboveTheThreshold) {
  const std::string gap = "max_gap_ns: 4500999999 max_gap_cpu: 2 max_gap_at_ns: 3200000000";
  const v1::Judgement judgement = Judge(With(GoodRun(), Report(0), Report(0, gap)));
  EXPECT_EQ(judgement.verdict(), v1::FAIL);
  EXPECT_THAT(Lines(judgement),
              ElementsAre("STUCK cgroup left: stuck 4500ms on cpu2 at +3200ms (threshold 3000ms)"));
  EXPECT_EQ(judgement.findings(0).observed(), "4500ms");
  EXPECT_EQ(judgement.findings(0).threshold(), "3000ms");
  EXPECT_EQ(judgement.findings(0).guest_time_ms(), 3200u);
}

TEST(Stuck, ThresholdItselfIsAllowed) {
  EXPECT_EQ(Judge(With(GoodRun(), Report(0), Report(0, "max_gap_ns: 3000999999"))).verdict(),
            v1::PASS);
  EXPECT_EQ(Judge(With(GoodRun(), Report(0), Report(0, "max_gap_ns: 3001000000"))).verdict(),
            v1::FAIL);
  const auto strict = MakeScenario(std::string(kScheduled) + " checks { max_gap_ms: 100 }");
  EXPECT_EQ(Judge(With(GoodRun(), Report(0), Report(0, "max_gap_ns: 101000000")), strict).verdict(),
            v1::FAIL);
}

TEST(Stuck, WorstOfTheCgroupSpeaks) {
  auto run = With(GoodRun(), Report(0), Report(0, "max_gap_ns: 4000000000"));
  run = With(run, Report(1),
             Report(1, "max_gap_ns: 5000000000 max_gap_cpu: 1 max_gap_at_ns: 6000000000"));
  EXPECT_THAT(
      Lines(Judge(run)),
      ElementsAre(
          "STUCK cgroup left: stuck 5000ms on cpu1 at +6000ms (threshold 3000ms); 2 of 2 workers"));
}

std::string Disturb(const char* kind, int cpu, uint64_t begin_ms, uint64_t length_ms) {
  return absl::StrCat("perturbation { kind: ", kind, " cpu: ", cpu, " begin_ns: ", begin_ms,
                      "000000 length_ns: ", length_ms, "000000 }");
}

// A pause of 120 ms that ends at +500 ms on CPU 1; 100 ms are allowed.
v1::Judgement JudgeDisturbedPause(const std::vector<std::string>& disturbances) {
  auto run = With(GoodRun(), Report(0),
                  Report(0, "max_gap_ns: 120000000 max_gap_cpu: 1 max_gap_at_ns: 500000000"));
  run.insert(run.begin() + 4, disturbances.begin(), disturbances.end());
  return Judge(run,
               MakeScenario(std::string(kScheduled) + " checks { max_gap_ms: 100 } perturb {}"));
}

TEST(Stuck, WhatDisturbancesTookIsNotTheSchedulers) {
  EXPECT_EQ(JudgeDisturbedPause({}).verdict(), v1::FAIL);
  EXPECT_EQ(JudgeDisturbedPause({Disturb("BURST", 1, 400, 20)}).verdict(), v1::PASS);
  EXPECT_EQ(
      JudgeDisturbedPause({Disturb("BURST", 1, 400, 10), Disturb("TIMERS", 1, 420, 10)}).verdict(),
      v1::PASS);
  EXPECT_EQ(JudgeDisturbedPause({Disturb("HOTPLUG", 3, 470, 30)}).verdict(), v1::PASS);
  EXPECT_THAT(Lines(JudgeDisturbedPause({Disturb("IPIS", 1, 400, 18)})),
              ElementsAre("STUCK cgroup left: stuck 102ms on cpu1 at +500ms (threshold 100ms), "
                          "18ms of disturbances taken off"));
}

TEST(Stuck, DisturbancesElsewhereExcuseNothing) {
  for (const std::string& one :
       {Disturb("BURST", 2, 400, 50), Disturb("BURST", 1, 300, 80), Disturb("BURST", 1, 500, 50),
        Disturb("MOVE", 1, 400, 50), Disturb("PRIORITY", 1, 400, 50),
        // Only the part within the pause counts.
        Disturb("BURST", 1, 370, 20), Disturb("BURST", 1, 490, 4000)}) {
    EXPECT_EQ(JudgeDisturbedPause({one}).verdict(), v1::FAIL) << one;
  }
  // The two overlap.
  EXPECT_EQ(
      JudgeDisturbedPause({Disturb("BURST", 1, 400, 12), Disturb("IPIS", 1, 401, 11)}).verdict(),
      v1::FAIL);
}

TEST(Stuck, ImpossibleLengthsExcuseNoMoreThanThePause) {
  const std::string huge =
      "perturbation { kind: BURST cpu: 1 begin_ns: 400000000 length_ns: 18446744073709551615 }";
  EXPECT_EQ(JudgeDisturbedPause({huge}).verdict(), v1::PASS);
  const std::string late =
      "perturbation { kind: BURST cpu: 1 begin_ns: 18446744073709551615 length_ns: 5 }";
  EXPECT_EQ(JudgeDisturbedPause({late}).verdict(), v1::FAIL);
}

TEST(Evaluate, ADisturbanceThatNobodyAskedForIsImpossible) {
  auto run = GoodRun();
  run.insert(run.begin() + 4, Disturb("BURST", 1, 1, 1));
  EXPECT_THAT(Lines(Judge(run)),
              ElementsAre("GUEST_CHANNEL guest: the guest's reports contradict the scenario: a "
                          "disturbance that the scenario does not ask for"));
}

TEST(Stuck, WorkerThatLivesButSaysNothing) {
  const v1::Judgement judgement =
      Judge(With(GoodRun(), Report(2), "worker_lost { index: 2 silent: true }"));
  EXPECT_EQ(judgement.verdict(), v1::FAIL);
  EXPECT_THAT(
      Lines(judgement),
      ElementsAre("STUCK cgroup right: stuck 5000ms: worker 2 (bursty) lives, but did not run "
                  "after the stop signal (threshold 3000ms)"));
}

TEST(WorkerDied, BySignalAndByExit) {
  auto run = With(GoodRun(), Report(0), "worker_lost { index: 0 signal: 9 }");
  run = With(run, Report(2), "worker_lost { index: 2 exit_code: 3 }");
  const v1::Judgement judgement = Judge(run);
  EXPECT_EQ(judgement.verdict(), v1::FAIL);
  EXPECT_THAT(
      Lines(judgement),
      ElementsAre("WORKER_DIED cgroup left: worker 0 (spin_wait) died without a report: killed by "
                  "signal 9 (Killed)",
                  "WORKER_DIED cgroup right: worker 2 (bursty) died without a report: exited "
                  "with 3"));
}

std::string Off(int index, int percent, const char* cpus) {
  return absl::StrCat("worker_report { index: ", index, " work_units: 5 wall_time_ns: 1000000000",
                      " off_cpu_ns: ", percent, "0000000 cpus_used: [", cpus, "] }");
}

TEST(Unfair, SpreadAboveTheThreshold) {
  const v1::Scenario scenario =
      MakeScenario("name: 'x' step { cgroup { name: 'left' work { spin_wait {} workers: 4 } } }");
  const std::vector<std::string> run = {
      kBegin0, kEnd0, Off(0, 8, "0"), Off(1, 20, "1"), Off(2, 50, "2, 3"), Off(3, 30, "3"), kDone};
  const v1::Judgement judgement = Judge(run, scenario);
  EXPECT_EQ(judgement.verdict(), v1::FAIL);
  EXPECT_THAT(
      Lines(judgement),
      ElementsAre(
          "UNFAIR cgroup left: unfair cgroup: spread=42% (8-50%) 4 workers on 4 cpus (threshold "
          "35%)"));
  EXPECT_EQ(judgement.findings(0).observed(), "42%");
  EXPECT_EQ(judgement.findings(0).threshold(), "35%");
  v1::Scenario tolerant = scenario;
  tolerant.mutable_checks()->set_max_spread_pct(42);
  EXPECT_EQ(Judge(run, tolerant).verdict(), v1::PASS);
}

TEST(Unfair, UnlikePrioritiesNeedAThreshold) {
  const std::string text =
      "name: 'x' step { cgroup { name: 'left' work { spin_wait {} workers: 2 } } } perturb { pct "
      "{} "
      "} ";
  const std::vector<std::string> run = {kBegin0, kEnd0, Off(0, 8, "0"), Off(1, 60, "1"), kDone};
  EXPECT_EQ(Judge(run, MakeScenario(text)).verdict(), v1::PASS);
  EXPECT_EQ(Judge(run, MakeScenario(text + "checks { max_spread_pct: 35 }")).verdict(), v1::FAIL);
}

TEST(Unfair, RoundingDoesNotHideTheReason) {
  const v1::Scenario scenario =
      MakeScenario("name: 'x' step { cgroup { name: 'a' work { spin_wait {} workers: 2 } } }");
  const std::string off =
      "worker_report { index: 1 work_units: 5 wall_time_ns: 1000000000 off_cpu_ns: 352000000 "
      "cpus_used: 1 }";
  EXPECT_THAT(
      Lines(Judge({kEnd0, Off(0, 0, "0"), off, kDone}, scenario)),
      ElementsAre("UNFAIR cgroup a: unfair cgroup: spread=35.2% (0.0-35.2%) 2 workers on 2 cpus "
                  "(threshold 35%)"));
}

TEST(Unfair, CgroupsAreNotComparedWithEachOther) {
  const v1::Scenario scenario = MakeScenario(
      "name: 'x' step { cgroup { name: 'a' work { spin_wait {} workers: 1 } } "
      "cgroup { name: 'b' work { spin_wait {} workers: 1 } } }");
  EXPECT_EQ(Judge({kEnd0, Off(0, 0, "0"), Off(1, 90, "1"), kDone}, scenario).verdict(), v1::PASS);
}

TEST(Isolation, OutsideTheCpuset) {
  const auto isolated = MakeScenario(std::string(kScheduled) + " checks { isolation: true }");
  EXPECT_EQ(Judge(GoodRun(), isolated).verdict(), v1::PASS);
  const auto run = With(GoodRun(), Report(2), Report(2, "cpus_used: [2, 3]"));
  EXPECT_EQ(Judge(run).verdict(), v1::PASS);  // Off by default.
  const v1::Judgement judgement = Judge(run, isolated);
  EXPECT_EQ(judgement.verdict(), v1::FAIL);
  EXPECT_THAT(Lines(judgement),
              ElementsAre("ISOLATION cgroup right: worker 2 (bursty) ran on cpu 2-3 "
                          "outside its cpuset 0-1"));
  // A cgroup without a cpuset may use all CPUs.
  EXPECT_EQ(Judge(With(GoodRun(), Report(0), Report(0, "cpus_used: [3]")), isolated).verdict(),
            v1::PASS);
}

TEST(Isolation, EnclosingCpusetCounts) {
  const auto scenario = MakeScenario(
      "name: 'x' checks { isolation: true } step { cgroup { name: 'a' cpuset { exact { cpus: '1' } "
      "} } "
      "cgroup { name: 'a/b' work { spin_wait {} workers: 1 } } }");
  EXPECT_THAT(
      Lines(Judge({kEnd0, Report(0), kDone}, scenario)),
      ElementsAre("ISOLATION cgroup a/b: worker 0 (spin_wait) ran on cpu 0 outside its cpuset 1"));
}

TEST(HostileGuest, ContradictionsAreNoPass) {
  for (const std::string& lie :
       {Report(4), std::string("worker_report { index: 4000000000 }"), Report(0),
        std::string("worker_lost { index: 1 }"), std::string("step_mark { step: 2 edge: END }"),
        std::string("worker_lost { index: 9 }")}) {
    std::vector<std::string> run = GoodRun();
    run.insert(run.end() - 1, lie);
    const v1::Judgement judgement = Judge(run);
    EXPECT_EQ(judgement.verdict(), v1::ERROR) << lie;
    ASSERT_EQ(judgement.findings_size(), 1);
    EXPECT_EQ(judgement.findings(0).kind(), "GUEST_CHANNEL");
  }
}

TEST(HostileGuest, AStepThatEndsTwiceDoesNotStandForAnother) {
  EXPECT_EQ(Judge(With(GoodRun(), kEnd1, kEnd0)).verdict(), v1::ERROR);
}

TEST(HostileGuest, TextIsOnePrintableLine) {
  Observation error;
  error.mutable_guest_error()->set_message("a\x1b[31mb\r\nc\t" + std::string(10000, 'x'));
  const v1::Judgement judgement = Evaluate(MakeScenario(), {error});
  const std::string& message = judgement.findings(0).message();
  EXPECT_LT(message.size(), 400u);
  for (char c : message) EXPECT_GE(c, ' ');
}

TEST(HostileGuest, ExtremeNumbersAreTaken) {
  const std::string wild =
      "max_gap_ns: 18446744073709551615 max_gap_cpu: 4294967295 max_gap_at_ns: "
      "18446744073709551615 "
      "cpus_used: [4294967295]";
  const auto isolated = MakeScenario(std::string(kScheduled) + " checks { isolation: true }");
  const v1::Judgement judgement = Judge(With(GoodRun(), Report(2), Report(2, wild)), isolated);
  EXPECT_EQ(judgement.verdict(), v1::FAIL);
  EXPECT_EQ(judgement.findings_size(), 2);
}

TEST(Evaluate, IsAFunctionOfItsInput) {
  const auto run = With(GoodRun(), Report(0), "worker_lost { index: 0 silent: true }");
  EXPECT_EQ(Judge(run).SerializeAsString(), Judge(run).SerializeAsString());
}

}  // namespace
}  // namespace ktstr::scenario
