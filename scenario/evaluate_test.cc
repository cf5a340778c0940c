// SPDX-License-Identifier: Apache-2.0
//
// Every kind of finding, provoked and not provoked, with its words; and that no gap in the
// observations gives PASS.

#include "scenario/evaluate.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"

namespace ktstr::scenario {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;
using v1::Observation;

constexpr char kScheduled[] = R"(
  name: "x" scheduler { name: "build/scx_mine" }
  step { cgroup { name: "left" work { spin_wait {} workers: 2 } } }
  step {
    cgroup { name: "right" cpuset { exact { cpus: "0-1" } } work { bursty {} workers: 2 } }
  })";

v1::Scenario MakeScenario(const std::string& text = kScheduled) {
  v1::Scenario scenario;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &scenario)) << text;
  return scenario;
}

Observation Make(const std::string& text) {
  Observation observation;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &observation)) << text;
  return observation;
}

std::string Report(int index, const std::string& more = "") {
  return absl::StrCat("worker_report { index: ", index, " work_units: 1000 iterations: 10",
                      " wall_time_ns: 2000000000 cpu_time_ns: 1900000000 off_cpu_ns: 100000000",
                      " cpus_used: [0, 1] ", more, " }");
}

const char kEnabled[] = "scheduler_state { state: 'enabled' ops: 'mine' }";
const char kStopped[] = "scheduler_exit { cause: STOPPED was_enabled: true }";
const char kDone[] = "vm_end { cause: DONE last_stage: DONE }";
const char kBegin0[] = "step_mark { step: 0 edge: BEGIN }";
const char kEnd0[] = "step_mark { step: 0 edge: END }";
const char kBegin1[] = "step_mark { step: 1 edge: BEGIN }";
const char kEnd1[] = "step_mark { step: 1 edge: END }";

// A run in which all is well.
std::vector<std::string> GoodRun() {
  return {"stage { stage: READY }",
          "guest_info { has_sched_ext: true }",
          kEnabled,
          kBegin0,
          kEnd0,
          kBegin1,
          kEnd1,
          Report(0),
          Report(1),
          Report(2),
          Report(3),
          kStopped,
          "stage { stage: DONE }",
          "channel_stats { frames: 9 }",
          kDone};
}

v1::Judgement Judge(const std::vector<std::string>& run,
                    const v1::Scenario& scenario = MakeScenario()) {
  std::vector<Observation> observations;
  for (const std::string& text : run) observations.push_back(Make(text));
  return Evaluate(scenario, observations);
}

// "KIND where: message", with a "> " before what follows from an earlier finding.
std::vector<std::string> Lines(const v1::Judgement& judgement) {
  std::vector<std::string> lines;
  for (const v1::Finding& finding : judgement.findings()) {
    lines.push_back(absl::StrCat(finding.consequence() ? "> " : "", finding.kind(), " ",
                                 finding.where(), ": ", finding.message()));
  }
  return lines;
}

// The good run with every entry that equals `from` replaced.
std::vector<std::string> With(std::vector<std::string> run, const std::string& from,
                              const std::string& to) {
  for (std::string& entry : run) {
    if (entry == from) entry = to;
  }
  return run;
}

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
  // Its user space gave some tasks policy SCHED_EXT.
  EXPECT_EQ(Judge(With(WithReports("ext_class: true"), kEnabled, partial)).verdict(), v1::PASS);
}

TEST(NotTested, OneWorkerOfTheSubjectIsEnough) {
  std::vector<std::string> run = WithReports("ext_class: false");
  run = With(run, Report(2, "ext_class: false"), Report(2, "ext_class: true"));
  EXPECT_EQ(Judge(run).verdict(), v1::PASS);
}

// A kernel that reports neither, and records of before: nothing to hold against the run.
TEST(NotTested, UnknownClassIsNotHeldAgainstTheRun) {
  EXPECT_EQ(Judge(GoodRun()).verdict(), v1::PASS);
  EXPECT_EQ(Judge(With(GoodRun(), kEnabled,
                       "scheduler_state { state: 'enabled' ops: 'mine' switch_all: true }"))
                .verdict(),
            v1::PASS);
}

// Workers that never ran did not look at their class: that is the subject's fault, not a lack of
// a test.
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

// What workers met under the kernel's own scheduler is not the subject's fault.
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

// Whatever single fact that PASS rests on is missing, it is no PASS; nor is any cut-off run.
TEST(Evaluate, EveryGapIsNoPass) {
  const std::vector<std::string> good = GoodRun();
  for (const std::string& needed :
       {std::string(kEnabled), std::string(kEnd0), std::string(kEnd1), Report(0), Report(1),
        Report(2), Report(3), std::string(kStopped), std::string(kDone)}) {
    std::vector<std::string> run;
    for (const std::string& entry : good) {
      // STOPPED also says that it was enabled.
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

// The turn of a worker comes late when many share a CPU.
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

// A pause of 120 ms up to +500 ms on CPU 1, of which 100 ms are allowed.
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
        // Before, within and after; only what lies within counts.
        Disturb("BURST", 1, 370, 20), Disturb("BURST", 1, 490, 4000)}) {
    EXPECT_EQ(JudgeDisturbedPause({one}).verdict(), v1::FAIL) << one;
  }
  // The same time twice.
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
  // A cgroup without a cpuset may use all.
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

std::string Exit(const std::string& fields) { return "scheduler_exit { " + fields + " }"; }

// What the messages say of the time of a death.
TEST(SchedulerDied, WordingSaysWhen) {
  struct Case {
    std::vector<std::string> before;
    const char* exit;
    const char* message;
  };
  const Case cases[] = {
      {{}, "exit_code: 1", "scheduler process died unexpectedly while attaching: exited with 1"},
      {{kEnabled},
       "was_enabled: true signal: 11 steps_total: 2",
       "scheduler process died unexpectedly after attaching, before the first step: killed by "
       "signal 11 "
       "(Segmentation fault)"},
      {{kEnabled, kBegin0},
       "was_enabled: true exit_code: 2 during_steps: true steps_total: 5 scenario_time_ns: "
       "520000000",
       "scheduler process died unexpectedly during the workload, in step 1 of 5 (0.5s into test): "
       "exited "
       "with 2"},
      {{kEnabled, kBegin0, kEnd0},
       "was_enabled: true exit_code: 2 during_steps: true steps_completed: 2 steps_total: 5 "
       "scenario_time_ns: 12300000000",
       "scheduler process died unexpectedly after completing step 2 of 5 (12.3s into test): exited "
       "with "
       "2"},
      {{kEnabled, kBegin0, kEnd0, kBegin1},
       "was_enabled: true signal: 9 during_steps: true steps_completed: 1 steps_total: 2 "
       "scenario_time_ns: 1000000000",
       "scheduler process died unexpectedly after completing step 1 of 2 (1.0s into test), during "
       "the "
       "workload of step 2: killed by signal 9 (Killed)"},
      {{kEnabled, kBegin0, kEnd0, kBegin1, kEnd1},
       "was_enabled: true steps_completed: 2 steps_total: 2 scenario_time_ns: 2000000000",
       "scheduler process died unexpectedly after completing all 2 steps (2.0s into test): exited "
       "with 0"},
  };
  for (const Case& c : cases) {
    std::vector<std::string> run = c.before;
    run.push_back(Exit(absl::StrCat("cause: PROCESS_EXITED ", c.exit)));
    run.push_back(kDone);
    const v1::Judgement judgement = Judge(run);
    EXPECT_EQ(judgement.verdict(), v1::FAIL);
    EXPECT_THAT(Lines(judgement),
                ElementsAre(absl::StrCat("SCHEDULER_DIED scheduler: ", c.message)));
  }
}

TEST(SchedulerDied, EjectedWithTheKernelsReason) {
  const v1::Judgement judgement = Judge(
      {kEnabled, kBegin0,
       Exit("cause: EJECTED was_enabled: true during_steps: true steps_total: 2 scenario_time_ns: "
            "5500000000 detail: 'runnable task stall (worker[77] failed to run for 5.024s)'"),
       Report(0, "max_gap_ns: 5010000000 max_gap_cpu: 3 max_gap_at_ns: 5511000000"),
       "worker_report { index: 1 wall_time_ns: 5600000000 }",
       Exit("cause: PROCESS_EXITED exit_code: 1"), kDone});
  EXPECT_EQ(judgement.verdict(), v1::FAIL);
  // The pause began before the scheduler was thrown out: it has the same root and is no
  // consequence.
  EXPECT_THAT(
      Lines(judgement),
      ElementsAre("SCHEDULER_DIED scheduler: scheduler was ejected by the kernel during the "
                  "workload, in step 1 of 2 (5.5s into test): runnable task stall (worker[77] "
                  "failed to run for 5.024s)",
                  "STUCK cgroup left: stuck 5010ms on cpu3 at +5511ms (threshold 3000ms)",
                  "> STARVED cgroup left: worker 1 (spin_wait) did no work in 5600ms"));
  EXPECT_EQ(judgement.findings(0).guest_time_ms(), 5500u);
}

TEST(SchedulerDied, TheKernelsBacktraceStaysOutOfTheMessage) {
  const v1::Judgement judgement = Judge(
      {kEnabled, kBegin0,
       Exit("cause: EJECTED was_enabled: true during_steps: true steps_total: 2 scenario_time_ns: "
            "1000000000 detail: 'sched_ext: BPF scheduler \"x\" disabled (runnable task stall)\\n"
            "sched_ext: x: watchdog failed to check in for 1.004s\\n   scx_tick+0xa4/0xb0'"),
       Report(0), Report(1), kDone});
  EXPECT_THAT(
      Lines(judgement),
      ElementsAre("SCHEDULER_DIED scheduler: scheduler was ejected by the kernel during the "
                  "workload, in step 1 of 2 (1.0s into test): sched_ext: BPF scheduler "
                  "\"x\" disabled (runnable task stall); watchdog failed to check in for "
                  "1.004s"));
}

// A run that another cause ended early was not too short.
TEST(SchedulerDied, TooLittleTimeAfterItIsNoFindingOfItsOwn) {
  const auto lines =
      Lines(Judge({kEnabled, kBegin0,
                   Exit("cause: EJECTED was_enabled: true during_steps: true steps_total: 2"),
                   "worker_report { index: 0 wall_time_ns: 5000000 }", Report(1), kDone}));
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], StartsWith("SCHEDULER_DIED"));
}

// A scheduler that started again after the kernel ended it: what the kernel logs then is another
// event, as are lines about other schedulers.
TEST(SchedulerDied, LaterLinesOfTheKernelAreNoPartOfTheReason) {
  const v1::Judgement judgement = Judge(
      {kEnabled, kBegin0,
       Exit("cause: EJECTED was_enabled: true during_steps: true steps_total: 2 scenario_time_ns: "
            "1000000000 detail: 'sched_ext: BPF scheduler \"x\" disabled (unregistered from the "
            "main kernel)\\nsched_ext: BPF scheduler \"x\" enabled\\nsched_ext: y: late'"),
       Report(0), Report(1), kDone});
  EXPECT_THAT(
      Lines(judgement),
      ElementsAre("SCHEDULER_DIED scheduler: scheduler was ejected by the kernel during the "
                  "workload, in step 1 of 2 (1.0s into test): sched_ext: BPF scheduler "
                  "\"x\" disabled (unregistered from the main kernel)"));
}

TEST(SchedulerDied, TheHarnesssOwnHotplugIsNamed) {
  v1::Scenario scenario = MakeScenario();
  scenario.mutable_perturb()->set_hotplug(true);
  const v1::Judgement judgement = Judge(
      {kEnabled, kBegin0,
       Exit("cause: EJECTED was_enabled: true during_steps: true steps_total: 2 scenario_time_ns: "
            "1000000000 detail: 'sched_ext: BPF scheduler \"x\" disabled (unregistered from the "
            "main kernel)'"),
       "perturbation { kind: HOTPLUG cpu: 2 begin_ns: 100000000 length_ns: 20000000 }",
       "perturbation { kind: HOTPLUG cpu: 3 begin_ns: 990000000 length_ns: 20000000 }",
       "perturbation { kind: HOTPLUG cpu: 1 begin_ns: 1500000000 length_ns: 20000000 }", Report(0),
       Report(1), kDone},
      scenario);
  ASSERT_EQ(judgement.findings_size(), 1);
  EXPECT_THAT(judgement.findings(0).message(),
              HasSubstr("disabled (unregistered from the main kernel); the harness took CPU 3 "
                        "offline at +990ms (perturb.hotplug): the scheduler has no ops.cpu_online "
                        "and ops.cpu_offline"));
}

// The line that names the cause, not the last one.
TEST(SchedulerDied, QuotesTheCauseNotTheLastLine) {
  const struct {
    const char* output;
    const char* quoted;
  } cases[] = {
      {"libbpf: struct_ops ops: member dump_cid not found in kernel, skipping it as it is zero\\n"
       "libbpf: extern (func ksym) \"gone\": not found in kernel or module BTFs\\n"
       "libbpf: failed to load object \"x\"\\nscx_x: cannot load: -22",
       "; its output: libbpf: extern (func ksym) \"gone\": not found in kernel or module BTFs"},
      {"libbpf: extern (func ksym) \"bad\": func_proto [12] incompatible with vmlinux [345]\\n"
       "libbpf: failed to load BPF skeleton \"x\": -EINVAL\\n",
       "; its output: libbpf: extern (func ksym) \"bad\": func_proto [12] incompatible with "
       "vmlinux "
       "[345]"},
      {"error: unexpected argument \"--nope\" found\\n\\nUsage: scx_x [OPTIONS]\\n\\nFor more "
       "information, try --help.",
       "; its output: error: unexpected argument \"--nope\" found"},
      {"scx_x: unrecognized option \"--nope\"\\nUsage: scx_x [-v]\\n  -v  more",
       "; its output: scx_x: unrecognized option \"--nope\""},
      {"loading\\nno such CPU: 99\\nusage: scx_x CPU\\n  CPU  a number",
       "; its output: no such CPU: 99"},
      {"Error: cannot open map\\n\\nCaused by:\\n    No such file",
       "; its output: Error: cannot open map"},
      {"loading\\nbye", "; its last output: bye"},
  };
  for (const auto& c : cases) {
    const v1::Judgement judgement =
        Judge({absl::StrCat("scheduler_output { data: '", c.output, "' }"),
               Exit("cause: PROCESS_EXITED exit_code: 1"), kDone});
    ASSERT_EQ(judgement.findings_size(), 1) << c.output;
    EXPECT_THAT(judgement.findings(0).message(), testing::EndsWith(c.quoted)) << c.output;
  }
}

TEST(SchedulerDied, ReasonOutOfTheSchedulersOwnOutput) {
  EXPECT_THAT(
      Lines(
          Judge({kEnabled, kBegin0, "scheduler_output { data: 'hello\\nEXIT: runtime err' }",
                 "scheduler_output { data: 'or (bad dsq)\\nbye\\n' }",
                 Exit("cause: PROCESS_EXITED was_enabled: true during_steps: true steps_total: 2"),
                 kDone})),
      ElementsAre(
          "SCHEDULER_DIED scheduler: scheduler process died unexpectedly during the workload, in "
          "step 1 of 2 (0.0s into test): exited with 0; kernel: EXIT: runtime error (bad dsq)"));
}

TEST(SchedulerDied, PauseAfterTheDeathFollowsFromIt) {
  const auto lines = Lines(Judge({kEnabled, kBegin0,
                                  Exit("cause: PROCESS_EXITED was_enabled: true during_steps: true "
                                       "steps_total: 2 scenario_time_ns: "
                                       "1000000000"),
                                  Report(0, "max_gap_ns: 4000000000 max_gap_at_ns: 5500000000"),
                                  "worker_lost { index: 1 signal: 9 }", kDone}));
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_THAT(lines[0], StartsWith("SCHEDULER_DIED"));
  EXPECT_THAT(lines[1], StartsWith("> STUCK"));
  EXPECT_THAT(lines[2], StartsWith("> WORKER_DIED"));
}

// The agent tells of an ejection when the process is gone, with the time at which it began.
TEST(SchedulerDied, ComesBeforeWhatItBrokeThoughToldLater) {
  const v1::Judgement judgement =
      Judge({kEnabled, "guest_time_ns: 900 guest_error { message: 'cannot start a worker' }",
             "guest_time_ns: 800 scheduler_exit { cause: EJECTED was_enabled: true }", kDone});
  EXPECT_EQ(judgement.verdict(), v1::FAIL);
  ASSERT_EQ(judgement.findings_size(), 2);
  EXPECT_EQ(judgement.findings(0).kind(), "SCHEDULER_DIED");
  EXPECT_EQ(judgement.findings(1).kind(), "HARNESS");
  EXPECT_TRUE(judgement.findings(1).consequence());
}

TEST(SchedulerDied, StoppedByTheAgentIsNoDeath) {
  auto run =
      With(GoodRun(), kStopped, "scheduler_exit { cause: STOPPED was_enabled: true signal: 2 }");
  EXPECT_EQ(Judge(run).verdict(), v1::PASS);
  // An exit that is seen again after the stop is the stop.
  run.insert(run.end() - 1, Exit("cause: PROCESS_EXITED was_enabled: true"));
  EXPECT_EQ(Judge(run).verdict(), v1::PASS);
}

TEST(SchedulerDied, KernelCachedWithoutItsConfiguration) {
  const std::string libbpf =
      "scheduler_output { data: 'libbpf: failed to open system Kconfig\\n"
      "libbpf: failed to load object\\n' }";
  const std::string reason =
      "; the guest has no kernel configuration, which the scheduler needs: the kernel was cached "
      "without it (`ktstrctl kernel list`). Import it again with --config FILE";
  auto lines = Lines(Judge({libbpf, Exit("cause: PROCESS_EXITED exit_code: 1"), kDone}));
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], EndsWith(reason));
  lines = Lines(Judge({libbpf, Exit("cause: ATTACH_TIMEOUT"), kDone}));
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], EndsWith(reason));
  // A scheduler that was enabled died of something else.
  lines = Lines(Judge(
      With(GoodRun(), kStopped, Exit("cause: PROCESS_EXITED was_enabled: true exit_code: 1"))));
  ASSERT_FALSE(lines.empty());
  EXPECT_THAT(lines[0], Not(EndsWith(reason)));
}

TEST(SchedulerNotAttached, TimeOut) {
  const v1::Judgement judgement = Judge(
      {"scheduler_output { data: 'loading...\\n\\n' }", Exit("cause: ATTACH_TIMEOUT"), kDone});
  EXPECT_EQ(judgement.verdict(), v1::FAIL);
  EXPECT_THAT(
      Lines(judgement),
      ElementsAre("SCHEDULER_NOT_ATTACHED scheduler: the kernel did not report scheduler scx_mine "
                  "enabled within 60000ms; its last output: loading..."));
  EXPECT_EQ(judgement.findings(0).threshold(), "60000ms");
}

TEST(SchedulerNotAttached, KernelWithoutSchedExt) {
  EXPECT_THAT(
      Lines(Judge({"guest_info {}", Exit("cause: ATTACH_TIMEOUT"), kDone})),
      ElementsAre("SCHEDULER_NOT_ATTACHED scheduler: the kernel did not report scheduler scx_mine "
                  "enabled within 60000ms: the guest's kernel has no sched_ext"));
}

TEST(SchedulerNotAttached, CannotBeExecuted) {
  EXPECT_THAT(
      Lines(Judge({Exit("cause: EXEC_FAILED detail: 'bin/scx_mine: Exec format error'"), kDone})),
      ElementsAre("SCHEDULER_NOT_ATTACHED scheduler: scheduler scx_mine could not be executed: "
                  "bin/scx_mine: Exec format error"));
}

TEST(SchedulerNotAttached, NeverEnabledInAnOtherwiseGoodRun) {
  std::vector<std::string> run = With(GoodRun(), kEnabled, "stage { stage: SCHEDULER_STARTED }");
  run = With(run, kStopped, "scheduler_exit { cause: STOPPED }");
  const v1::Judgement judgement = Judge(run);
  EXPECT_EQ(judgement.verdict(), v1::FAIL);
  EXPECT_THAT(Lines(judgement),
              ElementsAre("SCHEDULER_NOT_ATTACHED scheduler: the kernel never reported "
                          "scheduler scx_mine enabled"));
}

constexpr char kVerifierLog[] =
    "scheduler_output { data: \"libbpf: prog 'mine_enqueue': BPF program load failed: Permission "
    "denied\\n"
    "libbpf: prog 'mine_enqueue': -- BEGIN PROG LOAD LOG --\\n"
    "0: R1=ctx() R10=fp0\\n"
    "; int x = *p;\\n"
    "R1 invalid mem access 'scalar'\\n"
    "processed 7 insns (limit 1000000) max_states_per_insn 0\\n"
    "-- END PROG LOAD LOG --\\n"
    "libbpf: failed to load object\\n\" }";

TEST(VerifierRejected, NamesProgramAndReason) {
  const v1::Judgement judgement =
      Judge({kVerifierLog, Exit("cause: PROCESS_EXITED exit_code: 1"), kDone});
  EXPECT_EQ(judgement.verdict(), v1::FAIL);
  EXPECT_THAT(
      Lines(judgement),
      ElementsAre("VERIFIER_REJECTED scheduler: the kernel's verifier rejected program "
                  "'mine_enqueue': R1 invalid mem access 'scalar'",
                  "> SCHEDULER_DIED scheduler: scheduler process died unexpectedly while "
                  "attaching: exited with 1; its output: libbpf: prog 'mine_enqueue': BPF program "
                  "load failed: Permission denied"));
}

TEST(VerifierRejected, CutLogAndHangingScheduler) {
  const auto lines = Lines(
      Judge({"scheduler_output { data: 'x -- BEGIN PROG LOAD LOG --\\nback-edge from 3 to 1' }",
             Exit("cause: ATTACH_TIMEOUT"), kDone}));
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0],
            "VERIFIER_REJECTED scheduler: the kernel's verifier rejected program (unnamed): "
            "back-edge from 3 to 1");
  EXPECT_THAT(lines[1], StartsWith("> SCHEDULER_NOT_ATTACHED"));
}

TEST(VerifierRejected, ReasonStandsBeforeTheExplanation) {
  const auto lines = Lines(
      Judge({"scheduler_output { data: \"libbpf: prog 'qmap_dequeue': -- BEGIN PROG LOAD LOG --\\n"
             "97: (7b) *(u64 *)(r7 +16) = r1\\nR7 invalid mem access 'scalar'\\n\\n"
             "Verification failed: Register Type Safety: Invalid dereference\\n\\nReason:\\n"
             "  R7 is an integer scalar here, not a pointer to memory.\\n\\nSuggestion:\\n"
             "  Preserve a pointer-valued register where needed.\\n\\n"
             "processed 71 insns (limit 1000000)\\n-- END PROG LOAD LOG --\\n\" }",
             Exit("cause: PROCESS_EXITED exit_code: 1"), kDone}));
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0],
            "VERIFIER_REJECTED scheduler: the kernel's verifier rejected program "
            "'qmap_dequeue': R7 invalid mem access 'scalar'");
}

TEST(VerifierRejected, NotWhenItWasEnabled) {
  const auto lines =
      Lines(Judge({kVerifierLog, kEnabled,
                   Exit("cause: PROCESS_EXITED was_enabled: true exit_code: 1"), kDone}));
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], StartsWith("SCHEDULER_DIED"));
}

std::string End(const std::string& fields) { return "vm_end { " + fields + " }"; }

// A guest whose agent was there.
const char kReady[] = "stage { stage: READY }";

TEST(KernelPanic, WithTheKernelsLine) {
  for (const char* cause : {"PANIC", "GUEST_RESET"}) {
    const v1::Judgement judgement = Judge(
        {kReady, kEnabled, kBegin0,
         End(absl::StrCat("cause: ", cause,
                          " last_stage: STEPS_RUNNING crash_line: '[ 3.1][ T5] BUG: x' "
                          "crash_line: '[ 3.2] Kernel panic - not syncing: Fatal exception'"))});
    EXPECT_EQ(judgement.verdict(), v1::FAIL);
    EXPECT_THAT(Lines(judgement),
                ElementsAre("KERNEL_PANIC guest: the guest's kernel panicked at stage "
                            "STEPS_RUNNING: Kernel panic - not syncing: Fatal exception (BUG: x)"));
  }
}

TEST(KernelPanic, WithoutWords) {
  EXPECT_THAT(Lines(Judge({kReady, End("cause: PANIC last_stage: READY")})),
              ElementsAre("KERNEL_PANIC guest: the guest's kernel panicked at stage READY"));
}

TEST(KernelPanic, OfAnOlderRecord) {
  EXPECT_THAT(Lines(Judge({kReady, End("cause: PANIC last_stage: READY detail: 'Kernel panic - not "
                                       "syncing: hung_task'")})),
              ElementsAre(StartsWith("KERNEL_PANIC guest: the guest's kernel panicked at stage "
                                     "READY: Kernel panic - not syncing: hung_task")));
}

TEST(KernelPanic, AfterADeathItFollows) {
  const auto lines = Lines(
      Judge({kReady, kEnabled, Exit("cause: EJECTED was_enabled: true"), End("cause: PANIC")}));
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_THAT(lines[0], StartsWith("SCHEDULER_DIED"));
  EXPECT_THAT(lines[1], StartsWith("> KERNEL_PANIC"));
}

TEST(KernelPanic, DeathOfTheAgentIsOurs) {
  const v1::Judgement judgement =
      Judge({kReady, End("cause: GUEST_RESET last_stage: READY crash_line: 'Kernel panic - not "
                         "syncing: Attempted to kill init! exitcode=0xb'")});
  EXPECT_EQ(judgement.verdict(), v1::ERROR);
  EXPECT_THAT(Lines(judgement),
              ElementsAre(StartsWith("HARNESS guest: the guest agent died at stage READY: ")));
}

// Whatever a program of the guest writes, wherever it is seen: the verdict is that of the run
// without it.
class GuestText : public ::testing::TestWithParam<const char*> {
 protected:
  // The text in every place where a guest's text can come to be.
  std::vector<std::string> Everywhere(const std::vector<std::string>& run) const {
    std::vector<std::string> with = run;
    with.insert(with.begin(), absl::StrCat("scheduler_output { data: '", GetParam(), "\\n' }"));
    std::string& end = with.back();
    end.insert(end.rfind('}'), absl::StrCat(" console_tail: '[    1.0] ", GetParam(),
                                            "\\n[    1.1] sched_ext: x: ", GetParam(),
                                            "\\n' crash_line: '[    1.0] ", GetParam(),
                                            "' agent_error: '", GetParam(), "' "));
    return with;
  }
};

TEST_P(GuestText, DoesNotChangeADoneRun) {
  EXPECT_EQ(Judge(Everywhere(GoodRun())).verdict(), v1::PASS);
  for (const char* cause : {"EJECTED", "PROCESS_EXITED"}) {
    const v1::Judgement judgement = Judge(Everywhere(
        {kReady, kEnabled,
         Exit(absl::StrCat("cause: ", cause, " was_enabled: true detail: '", GetParam(), "'")),
         "stage { stage: DONE }", kDone}));
    EXPECT_EQ(judgement.verdict(), v1::FAIL);
    ASSERT_EQ(judgement.findings_size(), 1);
    EXPECT_EQ(judgement.findings(0).kind(), "SCHEDULER_DIED");
  }
}

TEST_P(GuestText, DoesNotMakeAnotherEnd) {
  const std::vector<std::pair<const char*, const char*>> ends = {
      {"TIMEOUT", "HOST_TIMEOUT"},
      {"GUEST_HUNG", "GUEST_TIMEOUT"},
      {"GUEST_MISBEHAVED", "GUEST_CHANNEL"},
      {"ENGINE_FAILED", "ENGINE"},
      {"CANCELLED", "CANCELLED"},
      {"INTERRUPTED", "INTERRUPTED"}};
  for (const auto& [cause, kind] : ends) {
    const v1::Judgement judgement =
        Judge(Everywhere({kReady, kEnabled, End(absl::StrCat("cause: ", cause))}));
    ASSERT_EQ(judgement.findings_size(), 1) << cause;
    EXPECT_EQ(judgement.findings(0).kind(), kind);
  }
}

// A program that writes the text and reboots: the kernel's own line about that comes later.
TEST_P(GuestText, BeforeAReboot) {
  const v1::Judgement judgement =
      Judge({kReady, kEnabled,
             End(absl::StrCat("cause: GUEST_RESET crash_line: '[ 1.0] ", GetParam(),
                              "' crash_line: '[ 1.1] Kernel panic - not syncing: Fatal exception' "
                              "crash_line: '[ 1.2] sysrq: Resetting'"))});
  EXPECT_EQ(judgement.verdict(), v1::FAIL);
  EXPECT_THAT(Lines(judgement), ElementsAre(StartsWith("GUEST_ENDED")));
}

INSTANTIATE_TEST_SUITE_P(All, GuestText,
                         ::testing::Values("Oops: int3: 0000 [#1]", "int3: 0000 [#1] SMP",
                                           "Kernel panic - not syncing: Fatal exception",
                                           "Kernel panic - not syncing: Attempted to kill init!",
                                           "BUG: kernel NULL pointer dereference",
                                           "reboot: Restarting system"));

TEST(GuestEnded, ResetAndPowerOffByAProgram) {
  const v1::Judgement reset = Judge({kReady, End("cause: GUEST_RESET last_stage: STEPS_RUNNING")});
  EXPECT_EQ(reset.verdict(), v1::FAIL);
  EXPECT_THAT(Lines(reset),
              ElementsAre("GUEST_ENDED guest: the guest reset the machine at stage STEPS_RUNNING"));
  const v1::Judgement off =
      Judge({kReady, End("cause: GUEST_POWERED_OFF last_stage: STEPS_RUNNING")});
  EXPECT_EQ(off.verdict(), v1::FAIL);
  EXPECT_THAT(Lines(off),
              ElementsAre("GUEST_ENDED guest: something in the guest powered the machine off at "
                          "stage STEPS_RUNNING"));
}

TEST(GuestEnded, ByTheAgentItIsOurs) {
  const v1::Judgement judgement =
      Judge({kReady, End("cause: GUEST_POWERED_OFF last_stage: READY agent_gave_up: true "
                         "agent_error: 'window: bad magic'")});
  EXPECT_EQ(judgement.verdict(), v1::ERROR);
  EXPECT_THAT(Lines(judgement), ElementsAre("HARNESS guest: the agent ended the machine at stage "
                                            "READY; the agent reported: window: bad magic"));
}

TEST(GuestTimeout, OfTheHostIsNobodysFault) {
  const v1::Judgement judgement =
      Judge({kReady, kEnabled, End("cause: TIMEOUT last_stage: STEPS_RUNNING detail: '120s'")});
  EXPECT_EQ(judgement.verdict(), v1::ERROR);
  EXPECT_THAT(Lines(judgement),
              ElementsAre("HOST_TIMEOUT guest: the run did not finish within the host's time "
                          "limit; the guest stood at stage STEPS_RUNNING: 120s"));
}

TEST(GuestTimeout, OfTheGuestIsAFail) {
  const v1::Judgement overrun =
      Judge({kReady, kEnabled, "guest_overrun { limit_ms: 62000 }", kDone});
  EXPECT_EQ(overrun.verdict(), v1::FAIL);
  EXPECT_THAT(Lines(overrun),
              ElementsAre("GUEST_TIMEOUT guest: the run took more than its limit of "
                          "62000 ms of guest time"));
  const v1::Judgement hang = Judge(
      {kReady, kEnabled,
       End("cause: GUEST_HUNG last_stage: STEPS_RUNNING vcpu { cpu: 0 rip: 0xffffffff81000000 } "
           "vcpu { cpu: 1 rip: 4096 halted: true } vcpu { cpu: 2 rip: 7 user_space: true }")});
  EXPECT_EQ(hang.verdict(), v1::FAIL);
  EXPECT_THAT(
      Lines(hang),
      ElementsAre("GUEST_TIMEOUT guest: the guest hung; it stood at stage STEPS_RUNNING; "
                  "vCPUs: cpu0 in the kernel at 0xffffffff81000000, cpu1 halted at 0x1000, cpu2 in "
                  "user space at 0x7"));
}

TEST(GuestTimeout, AfterADeathItFollows) {
  const auto lines = Lines(Judge({kReady, kEnabled, Exit("cause: EJECTED was_enabled: true"),
                                  End("cause: GUEST_HUNG last_stage: COLLECTING")}));
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_THAT(lines[0], StartsWith("SCHEDULER_DIED"));
  EXPECT_THAT(lines[1], StartsWith("> GUEST_TIMEOUT"));
}

// The stage of the window and of the console may be anybody's word; that of observations counts.
TEST(Boot, AGuestThatNeverReachedTheAgentIsAnError) {
  for (const char* cause : {"PANIC", "GUEST_RESET", "GUEST_POWERED_OFF", "GUEST_HUNG", "TIMEOUT"}) {
    const v1::Judgement judgement =
        Judge({End(absl::StrCat("cause: ", cause,
                                " last_stage: DONE crash_line: 'Kernel panic - not "
                                "syncing: VFS: Unable to mount root fs'"))});
    EXPECT_EQ(judgement.verdict(), v1::ERROR) << cause;
    EXPECT_EQ(judgement.findings_size(), 1);
  }
}

TEST(AfterDone, NoEndOfTheMachineCounts) {
  for (const char* cause : {"PANIC", "TIMEOUT", "GUEST_RESET", "GUEST_POWERED_OFF", "GUEST_HUNG",
                            "ENGINE_FAILED", "EARLY_POWER_OFF"}) {
    EXPECT_EQ(Judge(With(GoodRun(), kDone, End(absl::StrCat("cause: ", cause)))).verdict(),
              v1::PASS)
        << cause;
  }
  for (const char* cause : {"CANCELLED", "GUEST_MISBEHAVED", "INTERRUPTED"}) {
    EXPECT_EQ(Judge(With(GoodRun(), kDone, End(absl::StrCat("cause: ", cause)))).verdict(),
              v1::ERROR)
        << cause;
  }
}

// Kind and verdict of each way in which the harness fails.
TEST(Errors, KindsOfTheEnd) {
  struct Case {
    const char* cause;
    const char* line;
  };
  const Case cases[] = {
      {"ENGINE_FAILED", "ENGINE guest: the engine failed at stage READY: why"},
      {"CANCELLED", "CANCELLED guest: the run was cancelled at stage READY: why"},
      {"INTERRUPTED", "INTERRUPTED guest: the run was interrupted at stage READY: why"},
      {"GUEST_MISBEHAVED",
       "GUEST_CHANNEL guest: the guest broke the rules of the channel at stage READY: "
       "why"},
      {"EARLY_POWER_OFF",
       "HARNESS guest: the virtual machine powered off or reset at stage READY: why"},
      {"CAUSE_UNSPECIFIED", "HARNESS guest: how the virtual machine ended is not known"},
  };
  for (const Case& c : cases) {
    const v1::Judgement judgement =
        Judge({End(absl::StrCat("cause: ", c.cause, " last_stage: READY detail: 'why'"))});
    EXPECT_EQ(judgement.verdict(), v1::ERROR) << c.cause;
    EXPECT_THAT(Lines(judgement), ElementsAre(c.line));
  }
}

TEST(Errors, GuestErrorExplainsWhatIsMissing) {
  const v1::Judgement judgement =
      Judge({"guest_error { message: 'mkdir /run/cg/a: Device or resource busy' }", kDone});
  EXPECT_EQ(judgement.verdict(), v1::ERROR);
  EXPECT_THAT(
      Lines(judgement),
      ElementsAre(
          "HARNESS guest: the guest agent failed: mkdir /run/cg/a: Device or resource busy"));
}

TEST(Errors, GoodRunWithABadEndIsNoPass) {
  const std::string done = "stage { stage: DONE }";
  for (const char* cause :
       {"PANIC", "TIMEOUT", "EARLY_POWER_OFF", "ENGINE_FAILED", "CANCELLED", "GUEST_MISBEHAVED",
        "INTERRUPTED", "CAUSE_UNSPECIFIED", "GUEST_RESET", "GUEST_POWERED_OFF", "GUEST_HUNG"}) {
    std::vector<std::string> run = With(GoodRun(), kDone, End(absl::StrCat("cause: ", cause)));
    run.erase(std::find(run.begin(), run.end(), done));
    EXPECT_NE(Judge(run).verdict(), v1::PASS) << cause;
  }
}

// A failure that was seen stays one, however the machine ends after it.
TEST(Errors, FailureOutranksTheHarness) {
  const v1::Judgement judgement = Judge({kEnabled, Exit("cause: EJECTED was_enabled: true"),
                                         End("cause: CANCELLED last_stage: COLLECTING")});
  EXPECT_EQ(judgement.verdict(), v1::FAIL);
  EXPECT_EQ(judgement.findings(0).kind(), "SCHEDULER_DIED");
  EXPECT_EQ(judgement.findings(1).kind(), "CANCELLED");
  EXPECT_FALSE(judgement.findings(1).consequence());
}

TEST(EmulationFault, VoidsEverythingElse) {
  for (const char* oops :
       {"[ 2.0] Oops: int3: 0000 [#1] SMP", "[ 2.0] int3: 0000 [#1] PREEMPT SMP"}) {
    for (const char* cause : {"PANIC", "GUEST_RESET"}) {
      const v1::Judgement judgement =
          Judge({kReady, kEnabled, Exit("cause: EJECTED was_enabled: true"),
                 End(absl::StrCat(
                     "cause: ", cause, " last_stage: COLLECTING crash_line: '", oops,
                     "' crash_line: '[ 2.1] Kernel panic - not syncing: Fatal exception'"))});
      EXPECT_EQ(judgement.verdict(), v1::ERROR) << oops << cause;
      ASSERT_EQ(judgement.findings_size(), 2);
      EXPECT_EQ(judgement.findings(0).kind(), "ENGINE");
      EXPECT_FALSE(judgement.findings(0).consequence());
      EXPECT_EQ(judgement.findings(1).kind(), "SCHEDULER_DIED");
      EXPECT_TRUE(judgement.findings(1).consequence());
    }
  }
}

TEST(EmulationFault, OtherOopsesAreTheKernels) {
  EXPECT_EQ(Judge({kReady, End("cause: GUEST_RESET crash_line: 'Oops: 0002 [#1] SMP' crash_line: "
                               "'Kernel panic - not syncing: Fatal exception'")})
                .verdict(),
            v1::FAIL);
}

TEST(EmulationFault, NotWhenTheKernelPanickedForAnotherReason) {
  EXPECT_EQ(Judge({kReady, End("cause: GUEST_RESET crash_line: 'Oops: int3: 0000 [#1] SMP' "
                               "crash_line: 'Kernel panic - not syncing: sysrq triggered crash'")})
                .verdict(),
            v1::FAIL);
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
