// SPDX-License-Identifier: Apache-2.0
#include "scenario/confirm.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "scenario/evaluate.h"

namespace ktstr::scenario {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

v1::Scenario TwoSpinners() {
  v1::Scenario scenario;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "name: 'x' duration_ms: 4000 seed: 7 topology { numa_nodes: 1 llcs: 1 cores_per_llc: 4 "
      "threads_per_core: 1 } step { cgroup { name: 'a' work { workers: 2 spin_wait {} } } }",
      &scenario));
  return scenario;
}

// The second worker waits for `second_off_ms` of 4 s.
std::vector<v1::Observation> Seen(double second_off_ms, uint32_t mips) {
  std::vector<v1::Observation> observations(4);
  observations[0].mutable_step_mark()->set_edge(v1::StepMark::END);
  for (int i = 0; i < 2; ++i) {
    const double off = i == 0 ? 400 : second_off_ms;
    v1::WorkerReport* report = observations[i + 1].mutable_worker_report();
    report->set_index(i);
    report->set_work_units(1000);
    report->set_cpu_time_ns(static_cast<uint64_t>((4000 - off) * 1e6));
    report->set_off_cpu_ns(static_cast<uint64_t>(off * 1e6));
    report->set_wall_time_ns(4'000'000'000);
    report->add_cpus_used(0);
  }
  observations[3].mutable_vm_end()->set_cause(v1::VmEnd::DONE);
  observations[3].mutable_vm_end()->set_vcpu_mips(mips);
  return observations;
}

std::vector<std::string> Lines(const v1::Judgement& judgement) {
  std::vector<std::string> lines = {v1::Verdict_Name(judgement.verdict())};
  for (const v1::Finding& finding : judgement.findings())
    lines.push_back(absl::StrCat(finding.kind(), " ", finding.message(), "|", finding.speeds()));
  return lines;
}

std::vector<std::string> SpeedsAndSeeds(const std::vector<v1::Scenario>& scenarios) {
  std::vector<std::string> out;
  for (const v1::Scenario& scenario : scenarios)
    out.push_back(absl::StrCat(scenario.vcpu_mips(), "/", scenario.seed()));
  return out;
}

TEST(Confirm, FourTimesTheSpeedAndThreeOtherSeeds) {
  v1::Scenario scenario = TwoSpinners();
  EXPECT_THAT(SpeedsAndSeeds(ConfirmingScenarios(scenario, 62)),
              ElementsAre("248/7", "248/8", "248/9", "248/10"));
  // 4 CPUs cannot be faster than 250: the own seed would give the same run again.
  EXPECT_THAT(SpeedsAndSeeds(ConfirmingScenarios(scenario, 250)),
              ElementsAre("1000/8", "1000/9", "1000/10"));
  EXPECT_THAT(ConfirmingScenarios(scenario, 0), IsEmpty());
  scenario.clear_seed();
  EXPECT_EQ(SpeedsAndSeeds(ConfirmingScenarios(scenario, 31))[1], "124/2");
  scenario.set_seed(~uint64_t{0});
  EXPECT_EQ(SpeedsAndSeeds(ConfirmingScenarios(scenario, 31))[1], "124/1");
}

TEST(Confirm, OnlyThresholdsNeedIt) {
  const v1::Scenario scenario = TwoSpinners();
  v1::Judgement judgement = Evaluate(scenario, Seen(2400, 62));
  EXPECT_TRUE(NeedsConfirmation(judgement));
  EXPECT_FALSE(NeedsConfirmation(Evaluate(scenario, Seen(400, 62))));
  v1::Finding* death = judgement.add_findings();
  death->set_kind("SCHEDULER_DIED");
  EXPECT_FALSE(NeedsConfirmation(judgement));
  death->set_consequence(true);
  EXPECT_TRUE(NeedsConfirmation(judgement));
  judgement.add_findings()->set_kind("TOO_SHORT");
  EXPECT_TRUE(NeedsConfirmation(judgement));
  // By its kind an ERROR, but a FAIL here.
  judgement.add_findings()->set_kind("OUT_OF_MEMORY");
  EXPECT_FALSE(NeedsConfirmation(judgement));
}

TEST(Confirm, UnboundedTurnsProveNothing) {
  const v1::Scenario scenario = TwoSpinners();
  std::vector<v1::Observation> observations = Seen(2400, 62);
  observations[3].mutable_vm_end()->set_turns("100us");
  const v1::Judgement bounded = Evaluate(scenario, observations);
  EXPECT_EQ(bounded.verdict(), v1::FAIL);
  observations[3].mutable_vm_end()->set_turns("unbounded");
  const v1::Judgement unbounded = Evaluate(scenario, observations);
  EXPECT_THAT(Lines(unbounded),
              ElementsAre("INCONCLUSIVE", "UNCONFIRMED UNFAIR with unbounded turns of the vCPUs: " +
                                              bounded.findings(0).message() + "|"));
  EXPECT_FALSE(NeedsConfirmation(unbounded));
}

TEST(Confirm, WhatFasterCpusDoNotShowIsInconclusive) {
  const v1::Scenario scenario = TwoSpinners();
  const v1::Judgement judgement = Evaluate(scenario, Seen(2400, 62));
  std::vector<v1::Confirmation> confirmations;
  for (v1::Scenario& again : ConfirmingScenarios(scenario, 62)) {
    confirmations.push_back(MakeConfirmation(judgement, again, Seen(520, 250)));
    EXPECT_FALSE(ShowsAll(judgement, confirmations.back()));
  }
  confirmations.pop_back();
  confirmations.back() = v1::Confirmation();
  confirmations.back().set_seed(9);
  confirmations.back().set_verdict(v1::ERROR);
  confirmations.back().add_findings()->set_kind("HOST_TIMEOUT");
  EXPECT_THAT(Lines(Confirmed(judgement, 62, confirmations)),
              ElementsAre("INCONCLUSIVE",
                          "UNCONFIRMED UNFAIR at 62 MIPS a CPU, and not at 250: at most 8% with "
                          "seed 7, at most 8% with seed 8, no result (HOST_TIMEOUT) with seed 9: " +
                              judgement.findings(0).message() + "|"));
}

TEST(Confirm, OneRunThatShowsItIsEnough) {
  const v1::Scenario scenario = TwoSpinners();
  const v1::Judgement judgement = Evaluate(scenario, Seen(2400, 62));
  const std::vector<v1::Scenario> again = ConfirmingScenarios(scenario, 62);
  const std::vector<v1::Confirmation> confirmations = {
      MakeConfirmation(judgement, again[0], Seen(400, 250)),
      MakeConfirmation(judgement, again[1], Seen(2200, 250))};
  EXPECT_TRUE(ShowsAll(judgement, confirmations[1]));
  EXPECT_THAT(Lines(Confirmed(judgement, 62, confirmations)),
              ElementsAre("FAIL", "UNFAIR " + judgement.findings(0).message() +
                                      "|at 62 MIPS a CPU; at 250: at most 8% with seed 7, "
                                      "45% with seed 8"));
}

}  // namespace
}  // namespace ktstr::scenario
