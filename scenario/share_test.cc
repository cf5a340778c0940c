// SPDX-License-Identifier: Apache-2.0
//
// Checks of shares: who competes, what is judged, and how long workers must run.

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "scenario/competition.h"
#include "scenario/evaluate.h"
#include "scenario/time_union.h"
#include "scenario/topology.h"
#include "scenario/validate.h"

namespace ktstr::scenario {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

v1::Scenario Parse(const std::string& text) {
  v1::Scenario scenario;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &scenario)) << text;
  return scenario;
}

constexpr char kTwoCpus[] =
    "name: 'x' duration_ms: 4000 topology { numa_nodes: 1 llcs: 1 cores_per_llc: 2 "
    "threads_per_core: 1 } ";

struct Worker {
  double cpu_ms, off_cpu_ms, wall_ms;
};

v1::Judgement Judge(const v1::Scenario& scenario, const std::vector<Worker>& workers) {
  std::vector<v1::Observation> observations(scenario.step_size() + workers.size() + 1);
  int at = 0;
  for (int step = 0; step < scenario.step_size(); ++step) {
    v1::StepMark* mark = observations[at++].mutable_step_mark();
    mark->set_step(step);
    mark->set_edge(v1::StepMark::END);
  }
  for (size_t i = 0; i < workers.size(); ++i) {
    v1::WorkerReport* report = observations[at++].mutable_worker_report();
    report->set_index(i);
    report->set_work_units(workers[i].cpu_ms > 0 ? 1000 : 0);
    report->set_cpu_time_ns(static_cast<uint64_t>(workers[i].cpu_ms * 1e6));
    report->set_off_cpu_ns(static_cast<uint64_t>(workers[i].off_cpu_ms * 1e6));
    report->set_wall_time_ns(static_cast<uint64_t>(workers[i].wall_ms * 1e6));
    report->add_cpus_used(0);
  }
  observations[at].mutable_vm_end()->set_cause(v1::VmEnd::DONE);
  return Evaluate(scenario, observations);
}

std::vector<std::string> Lines(const v1::Judgement& judgement) {
  std::vector<std::string> lines;
  for (const v1::Finding& finding : judgement.findings())
    lines.push_back(absl::StrCat(finding.kind(), " ", finding.where(), ": ", finding.message()));
  return lines;
}

// Off-CPU shares of 10 % and 90 % are right for nice -20 beside 19, and for spinners beside
// sleepers.
TEST(Spread, UnlikeWorkersAreNotCompared) {
  const std::vector<Worker> apart = {{3600, 400, 4000}, {400, 3600, 4000}};
  const auto two_works = [](const std::string& first, const std::string& second) {
    return Parse(absl::StrCat(kTwoCpus, "step { cgroup { name: 'a' work { workers: 1 ", first,
                              " } work { workers: 1 ", second, " } } }"));
  };
  EXPECT_THAT(Lines(Judge(two_works("spin_wait {} nice: -20", "spin_wait {} nice: 19"), apart)),
              IsEmpty());
  EXPECT_THAT(Lines(Judge(two_works("spin_wait {}", "bursty {}"), apart)), IsEmpty());
  const v1::Scenario alike = Parse(
      absl::StrCat(kTwoCpus, "step { cgroup { name: 'a' work { workers: 2 spin_wait {} } } }"));
  EXPECT_THAT(Lines(Judge(alike, apart)),
              ElementsAre("UNFAIR cgroup a: unfair cgroup: spread=80% (10-90%) 2 workers on 1 cpus "
                          "(threshold 35%)"));
}

TEST(Spread, TheWorstWorkSpeaksForTheCgroup) {
  const v1::Scenario scenario =
      Parse(absl::StrCat(kTwoCpus,
                         "step { cgroup { name: 'a' work { workers: 2 spin_wait {} } work { "
                         "workers: 2 spin_wait {} nice: 5 } } }"));
  EXPECT_THAT(
      Lines(Judge(scenario,
                  {{2400, 1600, 4000}, {800, 3200, 4000}, {400, 3600, 4000}, {2400, 1600, 4000}})),
      ElementsAre(HasSubstr("spread=50% (40-90%) 2 workers")));
}

// EEVDF on 6.18.15: two of three workers shared a CPU for all of the 74 ms.
TEST(Spread, TooLittleTimeIsNoFailure) {
  v1::Scenario scenario = Parse(
      absl::StrCat(kTwoCpus, "step { cgroup { name: 'a' work { workers: 2 spin_wait {} } } }"));
  const std::vector<Worker> apart = {{126, 74, 200}, {200, 0, 200}};
  const v1::Judgement judgement = Judge(scenario, apart);
  EXPECT_EQ(judgement.verdict(), v1::INCONCLUSIVE);
  EXPECT_THAT(
      Lines(judgement),
      ElementsAre("TOO_SHORT cgroup a: max_spread_pct cannot be judged: the workers ran for "
                  "200ms, and it takes 715ms; spread=37% (0-37%) 2 workers on 1 cpus "
                  "(threshold 35%)"));
  // A default check that passes reports nothing; a check that the scenario sets reports that the
  // time was too short.
  const std::vector<Worker> close = {{190, 10, 200}, {200, 0, 200}};
  EXPECT_EQ(Judge(scenario, close).verdict(), v1::PASS);
  scenario.mutable_checks()->set_max_spread_pct(35);
  EXPECT_EQ(Judge(scenario, close).verdict(), v1::INCONCLUSIVE);
  // A lower threshold takes a longer time.
  scenario.mutable_checks()->set_max_spread_pct(5);
  EXPECT_EQ(Judge(scenario, {{4900, 99, 4999}, {4999, 0, 4999}}).verdict(), v1::INCONCLUSIVE);
  EXPECT_EQ(Judge(scenario, {{4900, 100, 5000}, {5000, 0, 5000}}).verdict(), v1::PASS);
  // 100 switches the check off.
  scenario.mutable_checks()->set_max_spread_pct(100);
  EXPECT_EQ(Judge(scenario, apart).verdict(), v1::PASS);
}

TEST(Gap, ACheckThatWasAskedForNeedsALongerLife) {
  v1::Scenario scenario = Parse(
      absl::StrCat(kTwoCpus, "step { cgroup { name: 'a' work { workers: 1 spin_wait {} } } }"));
  EXPECT_EQ(Judge(scenario, {{2000, 0, 2000}}).verdict(), v1::PASS);
  scenario.mutable_checks()->set_max_gap_ms(2500);
  EXPECT_THAT(Lines(Judge(scenario, {{2000, 0, 2000}})),
              ElementsAre("TOO_SHORT scenario: max_gap_ms cannot be judged: the workers ran for "
                          "2000ms, and it takes 2501ms"));
  EXPECT_EQ(Judge(scenario, {{2600, 0, 2600}}).verdict(), v1::PASS);
}

// EEVDF on 7.3.4: of four workers that others outweigh ten to one, two did not run in 1.1 s.
TEST(Starved, AWorkerOfLittleWeightWaitsLonger) {
  const v1::Scenario scenario = Parse(
      absl::StrCat(kTwoCpus,
                   "step { cgroup { name: 'heavy' weight: 1000 work { spin_wait {} workers: 4 } } "
                   "cgroup { name: 'light' work { spin_wait {} workers: 4 nice: 5 } } "
                   "cgroup { name: 'equal' work { spin_wait {} workers: 4 } } }"));
  const auto judge = [&](size_t idle, double wall_ms) {
    std::vector<Worker> workers(12, {100, 0, wall_ms});
    workers[idle].cpu_ms = 0;
    return Judge(scenario, workers).verdict();
  };
  // (250 + 6 * 20) ms for the heaviest; 10 times and 10 * 1024 / 335 times that for others.
  EXPECT_EQ(judge(0, 369), v1::INCONCLUSIVE);
  EXPECT_EQ(judge(0, 370), v1::FAIL);
  EXPECT_EQ(judge(8, 3699), v1::INCONCLUSIVE);
  EXPECT_EQ(judge(8, 3700), v1::FAIL);
  EXPECT_EQ(judge(4, 11300), v1::INCONCLUSIVE);
  EXPECT_EQ(judge(4, 11311), v1::FAIL);
}

// 8 workers on 2 CPUs, 10:1 by weight.
const char kTenToOne[] =
    "step { cgroup { name: 'heavy' weight: 1000 work { spin_wait {} workers: 4 } } "
    "cgroup { name: 'light' weight: 100 work { spin_wait {} workers: 4 } } } "
    "checks { max_weight_error_pct: 10 max_spread_pct: 100 }";

std::vector<Worker> Shares(double heavy_ms, double light_ms) {
  std::vector<Worker> workers(4, {heavy_ms / 4, 0, 4000});
  workers.resize(8, {light_ms / 4, 0, 4000});
  return workers;
}

TEST(Weight, SharesFollowCpuWeight) {
  const v1::Scenario scenario = Parse(absl::StrCat(kTwoCpus, kTenToOne));
  EXPECT_THAT(Validate(scenario), IsEmpty());
  EXPECT_THAT(Lines(Judge(scenario, Shares(7273, 727))), IsEmpty());
  EXPECT_THAT(Lines(Judge(scenario, Shares(6800, 1200))), IsEmpty());
  const v1::Judgement judgement = Judge(scenario, Shares(4000, 4000));
  EXPECT_EQ(judgement.verdict(), v1::FAIL);
  EXPECT_THAT(
      Lines(judgement),
      ElementsAre("WEIGHT scenario: cgroup heavy (weight 1000) got 50.0% of the CPU time of "
                  "2 siblings, 90.9% by weight (threshold 10%)"));
}

TEST(Weight, TooLittleTimeIsNoFailure) {
  const v1::Scenario scenario = Parse(absl::StrCat(kTwoCpus, kTenToOne));
  std::vector<Worker> workers = Shares(1000, 1000);
  for (Worker& worker : workers) worker.wall_ms = 2499;
  EXPECT_EQ(Judge(scenario, workers).verdict(), v1::INCONCLUSIVE);
}

TEST(Weight, SharesFollowNiceWithinACgroup) {
  const v1::Scenario scenario =
      Parse(absl::StrCat(kTwoCpus,
                         "step { cgroup { name: 'a' work { spin_wait {} workers: 4 } work { "
                         "spin_wait {} workers: 4 nice: 5 } } } "
                         "checks { max_weight_error_pct: 10 }"));
  // 1024 to 335.
  EXPECT_THAT(Lines(Judge(scenario, Shares(6028, 1972))), IsEmpty());
  EXPECT_THAT(Lines(Judge(scenario, Shares(4000, 4000))),
              ElementsAre(HasSubstr("work 1 of cgroup a (nice 0) got 50.0% of the CPU time of 2 "
                                    "siblings, 75.3% by weight")));
}

Competition Compete(const std::string& text) {
  const v1::Scenario scenario = Parse(absl::StrCat(kTwoCpus, text));
  return CompetitionOf(scenario, *Topology::FromProto(scenario.topology()));
}

std::vector<int64_t> Expected(const Contest& contest) {
  std::vector<int64_t> ms;
  for (const Competitor& one : contest.competitors)
    ms.push_back(std::llround(one.expected_ns / 1e6));
  return ms;
}

// A worker uses at most one CPU; the others share what the heavy one leaves.
TEST(CompetitionTest, WhatAWorkerCannotUseGoesToTheOthers) {
  const Competition competition = Compete(
      "step { cgroup { name: 'h' weight: 10000 work { spin_wait {} workers: 1 } } "
      "cgroup { name: 'l' weight: 1 work { spin_wait {} workers: 3 } } }");
  ASSERT_EQ(competition.contests.size(), 1u);
  EXPECT_THAT(Expected(competition.contests[0]), ElementsAre(4000, 4000));
}

TEST(CompetitionTest, LaterStepsTakeFromEarlierOnes) {
  const Competition competition = Compete(
      "step { cgroup { name: 'first' work { spin_wait {} workers: 2 } } hold { fraction: 0.5 } } "
      "step { cgroup { name: 'second' work { spin_wait {} workers: 2 } } }");
  ASSERT_EQ(competition.contests.size(), 1u);
  EXPECT_THAT(Expected(competition.contests[0]), ElementsAre(6000, 2000));
}

// A parent's weight counts among its siblings; how its children share it does not matter.
TEST(CompetitionTest, ParentsCompeteFirst) {
  const Competition competition = Compete(
      "step { cgroup { name: 'p' weight: 300 } "
      "cgroup { name: 'p/a' weight: 100 work { spin_wait {} workers: 2 } } "
      "cgroup { name: 'p/b' weight: 200 work { spin_wait {} workers: 2 } } "
      "cgroup { name: 'q' weight: 100 work { spin_wait {} workers: 4 } } }");
  ASSERT_EQ(competition.contests.size(), 2u);
  EXPECT_EQ(competition.contests[0].where, "scenario");
  EXPECT_THAT(Expected(competition.contests[0]), ElementsAre(6000, 2000));
  EXPECT_EQ(competition.contests[1].where, "cgroup p");
  EXPECT_THAT(Expected(competition.contests[1]), ElementsAre(2000, 4000));
}

TEST(CompetitionTest, WhereNothingCompetesNothingIsJudged) {
  const struct {
    const char* text;
    const char* why;
  } cases[] = {
      {"cgroup { name: 'a' work { spin_wait {} workers: 1 } } cgroup { name: 'b' work { spin_wait "
       "{} "
       "workers: 1 } }",
       "no two cgroups or works want more CPUs"},
      {"cgroup { name: 'a' work { spin_wait {} workers: 9 } }",
       "no two cgroups or works want more"},
      {"cgroup { name: 'a' work { spin_wait {} workers: 4 } } cgroup { name: 'b' work { bursty {} "
       "workers: 4 } }",
       "cgroup 'b' has workers that sleep (bursty)"},
      {"cgroup { name: 'a' cpuset { exact { cpus: '0' } } work { spin_wait {} workers: 4 } } "
       "cgroup "
       "{ name: 'b' work { spin_wait {} workers: 4 } }",
       "cgroup 'a' shares only some of its CPUs with another"},
      {"cgroup { name: 'p/a' cpuset { exact { cpus: '0' } } work { spin_wait {} workers: 4 } } "
       "cgroup { name: 'p/b' cpuset { exact { cpus: '1' } } work { spin_wait {} workers: 4 } }",
       "the weight of cgroup 'p' is spread over several sets of CPUs"},
  };
  for (const auto& c : cases) {
    const std::string step = absl::StrCat("step { ", c.text, " }");
    const Competition competition = Compete(step);
    EXPECT_THAT(competition.contests, IsEmpty()) << c.text;
    EXPECT_THAT(competition.why_none, HasSubstr(c.why)) << c.text;
    const auto problems =
        Validate(Parse(absl::StrCat(kTwoCpus, step, "checks { max_weight_error_pct: 10 }")));
    ASSERT_EQ(problems.size(), 1u) << c.text;
    EXPECT_THAT(problems[0].ToString(), HasSubstr("max_weight_error_pct has nothing to judge: "));
  }
  const auto problems = Validate(Parse(absl::StrCat(kTwoCpus, kTenToOne, " perturb { pct {} }")));
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_THAT(problems[0].message, HasSubstr("excludes perturb.pct"));
}

TEST(CompetitionTest, WeightsOfNiceValues) {
  EXPECT_EQ(WeightOfNice(-20), 88761);
  EXPECT_EQ(WeightOfNice(0), 1024);
  EXPECT_EQ(WeightOfNice(5), 335);
  EXPECT_EQ(WeightOfNice(19), 15);
}

// A number that counts its comparisons.
struct Counted {
  uint64_t value = 0;
  static inline uint64_t comparisons = 0;
  friend bool operator<(Counted a, Counted b) {
    ++comparisons;
    return a.value < b.value;
  }
  friend Counted operator+(Counted a, Counted b) { return {a.value + b.value}; }
  friend Counted operator-(Counted a, Counted b) { return {a.value - b.value}; }
};

TEST(TimeUnionTest, OverlapsAndOthersCountOnce) {
  TimeUnion<> others, own;
  others.Add(10, 20);
  others.Add(15, 30);
  others.Add(40, 40);
  others.Seal();
  EXPECT_EQ(others.In(0, 100), 20u);
  EXPECT_EQ(others.In(12, 18), 6u);
  EXPECT_EQ(others.In(30, 31), 0u);
  own.Add(0, 12);
  own.Add(25, 50);
  own.Seal(&others);
  EXPECT_EQ(own.In(0, 100), 10u + 20u);
  EXPECT_EQ(own.In(5, 26), 5u);
  EXPECT_EQ(own.In(50, 10), 0u);
}

// A hostile guest sends many disturbances, each as long as the run, and many workers whose pauses
// cover all of them.
TEST(TimeUnionTest, ManyIntervalsAndQuestionsTakeNearLinearSteps) {
  constexpr uint64_t kMany = 20'000;
  constexpr uint64_t kLog = 15;
  Counted::comparisons = 0;
  TimeUnion<Counted> others, own;
  for (uint64_t i = 0; i < kMany; ++i) {
    others.Add({4 * i}, {4 * i + 2});
    own.Add({4 * ((i * 7919) % kMany) + 1}, {4 * ((i * 7919) % kMany) + 3});
  }
  others.Seal();
  own.Seal(&others);
  for (uint64_t i = 0; i < kMany; ++i) {
    EXPECT_EQ(own.In({4 * i}, {4 * kMany}).value, kMany - i);
  }
  EXPECT_LT(Counted::comparisons, 20 * kMany * kLog);
}

}  // namespace
}  // namespace ktstr::scenario
