// SPDX-License-Identifier: Apache-2.0
//
// Whole `explore` commands against a daemon that lets runs fail by their seed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <set>
#include <thread>

#include "client/search/speed_check.h"
#include "client/testing/command_test.h"

namespace ktstr::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::SizeIs;

class ExploreTest : public CommandTest {
 protected:
  ExploreTest() {
    service_.judge = [](const v1::RunSpec& spec, v1::RunRecord* record) {
      const uint64_t seed = spec.scenario().seed();
      const bool pct = spec.scenario().perturb().pct().has_change_points();
      if (seed % 10 == 7) FailWith("STUCK", absl::StrCat("stuck ", seed, "ms"), record);
      if (pct && seed == 3) FailWith("STARVED", "worker 1 did no work", record);
    };
  }
};

TEST_F(ExploreTest, NoFailure) {
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "1..6"}), kOk) << err_;
  EXPECT_THAT(out_, HasSubstr("uniform: no failure, 0 of 6 (0.0 %, 95 % interval 0.0 to 39.0 %)"));
  std::set<uint64_t> seeds;
  for (const v1::RunSpec& spec : service_.specs()) {
    seeds.insert(spec.scenario().seed());
    EXPECT_EQ(spec.engine(), v1::TCG);
    EXPECT_TRUE(spec.cancel_when_unwatched());
    EXPECT_FALSE(spec.scenario().has_perturb());
  }
  EXPECT_THAT(seeds, SizeIs(6));
}

TEST_F(ExploreTest, FailuresAsCommands) {
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "1..20", "-j", "3", "--duration", "1s"}), kFail);
  EXPECT_THAT(
      out_,
      HasSubstr("STUCK (cgroup left): stuck Nms\n"
                "  uniform: 2 of 20 (10.0 %, 95 % interval 2.8 to 30.1 %)\n"
                "    ktstrctl run steady --duration 1s --deterministic --seed 7 --confirm off\n"
                "    the same with --seed 17\n"));
  EXPECT_THAT(out_, HasSubstr("1 distinct finding; 18 passed, 2 failed"));
  EXPECT_THAT(err_, HasSubstr("seed 17 FAIL STUCK (cgroup left)"));
}

TEST_F(ExploreTest, StrategiesApart) {
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "1..6", "--strategy", "both"}), kFail);
  EXPECT_THAT(out_, HasSubstr("  uniform: 0 of 6"));
  EXPECT_THAT(out_, HasSubstr("  pct: 1 of 6"));
  EXPECT_THAT(out_,
              HasSubstr("ktstrctl run steady --deterministic --seed 3 --set "
                        "perturb.intensity=0 --set perturb.pct.change_points=3 --confirm off\n"));
  EXPECT_THAT(service_.specs(), SizeIs(12));
}

TEST_F(ExploreTest, PctKeepsTheDisturbancesOfTheScenario) {
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "3", "--strategy", "pct", "--set",
                 "perturb.intensity=2", "--set", "perturb.pct.change_points=5"}),
            kFail);
  ASSERT_THAT(service_.specs(), SizeIs(1));
  EXPECT_EQ(service_.specs()[0].scenario().perturb().intensity(), 2u);
  EXPECT_EQ(service_.specs()[0].scenario().perturb().pct().change_points(), 5u);
}

TEST_F(ExploreTest, StopAfter) {
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "1..100000", "-j", "1", "--stop-after", "2"}),
            kFail);
  EXPECT_THAT(service_.specs(), SizeIs(17));
  EXPECT_THAT(out_, HasSubstr("2 failed"));
  EXPECT_THAT(out_, HasSubstr("of 100000 not made: their seeds were not tried"));
  EXPECT_THAT(err_, HasSubstr("stopped by --stop-after 2"));
}

TEST_F(ExploreTest, BudgetEndsWithASummary) {
  service_.hold = true;
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "1..4", "--budget-secs", "1"}), kInconclusive);
  EXPECT_THAT(out_, HasSubstr("4 runs of 4 not made"));
  EXPECT_THAT(err_, HasSubstr("stopped by --budget-secs"));
  EXPECT_EQ(service_.cancelled()["r-0001"], "the time allowed is over");
}

TEST_F(ExploreTest, InterruptCancelsAndSumsUp) {
  service_.hold = true;
  std::thread user([this] {
    while (service_.cursors().size() < 3) usleep(1000);
    kill(getpid(), SIGINT);
  });
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "1..9", "-j", "3"}), kInterrupted);
  user.join();
  EXPECT_THAT(service_.cancelled(), SizeIs(3));
  EXPECT_THAT(out_, HasSubstr("9 runs of 9 not made"));
}

TEST_F(ExploreTest, HarnessThatFailsEndsTheSearch) {
  service_.judge = [](const v1::RunSpec&, v1::RunRecord* record) {
    record->set_verdict(v1::ERROR);
    record->add_findings()->set_kind("ENGINE");
    record->mutable_findings(0)->set_message("QEMU did not start");
  };
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "1..1000", "-j", "2"}), kHarness);
  EXPECT_LE(service_.specs().size(), 6u);
  EXPECT_THAT(out_, HasSubstr("ended as ERROR, the first with ENGINE: QEMU did not start"));
  EXPECT_THAT(err_, HasSubstr("stopped by the first runs all ended as ERROR"));
}

TEST_F(ExploreTest, RefusedRunsEndTheSearch) {
  service_.submit_status = {grpc::StatusCode::NOT_FOUND, "no kernel"};
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "1..1000"}), kUnavailable);
  EXPECT_THAT(err_, HasSubstr("ktstrctl: no kernel"));
  EXPECT_EQ(out_, "");
}

TEST_F(ExploreTest, Json) {
  EXPECT_EQ(Run({"--json", "explore", "steady", "--seeds", "7..8", "-j", "1"}), kFail);
  EXPECT_THAT(out_, MatchesRegex("\\{.*\"seed\":\"7\".*\\}\n\\{.*\"seed\":\"8\".*\\}\n"
                                 "\\{\"summary\":\\{.*\\}\\}\n"));
  EXPECT_THAT(err_, HasSubstr("1 distinct finding"));
}

// The same search again: seeds that were tried cost no run, others are tried.
TEST_F(ExploreTest, GoesOnWhereItStopped) {
  service_.known_seeds = {5, 6, 7};
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "5..8", "-j", "2"}), kFail);
  EXPECT_THAT(service_.specs(), SizeIs(1));
  EXPECT_THAT(out_, HasSubstr("uniform: 1 of 4"));
  EXPECT_THAT(out_, HasSubstr("4 seeds, 3 known, "));
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "5..7"}), kFail);
  EXPECT_THAT(out_, HasSubstr("3 seeds, 3 known; 1 distinct finding; 2 passed, 1 failed"));
  EXPECT_THAT(service_.specs(), SizeIs(1));
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "5..7", "--fresh"}), kFail);
  EXPECT_THAT(service_.specs(), SizeIs(4));
  EXPECT_THAT(out_, Not(HasSubstr("known")));
  EXPECT_EQ(Run({"--json", "explore", "steady", "--seeds", "7"}), kFail);
  EXPECT_THAT(out_, HasSubstr("\"knownFrom\":\"r-9"));
  EXPECT_THAT(out_, HasSubstr("\"known\":1"));
}

// A failure that is known ends the search as one that was made.
TEST_F(ExploreTest, KnownFailuresStopToo) {
  service_.known_seeds = {7};
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "7..100000", "-j", "1", "--stop-after", "1"}),
            kFail);
  EXPECT_THAT(service_.specs(), SizeIs(0));
  EXPECT_THAT(err_, HasSubstr("stopped by --stop-after 1"));
}

// Seeds that end with 7 fail, or every second one; at a higher speed only those of `fails_fast_`.
class SpeedCheckTest : public ExploreTest {
 protected:
  SpeedCheckTest() {
    service_.judge = [this](const v1::RunSpec& spec, v1::RunRecord* record) {
      const uint64_t seed = spec.scenario().seed();
      const uint32_t mips = spec.scenario().has_vcpu_mips() ? spec.scenario().vcpu_mips() : 62;
      record->set_vcpu_mips(mips);
      fast_ += mips > 62 ? 1 : 0;
      if (mips > 62 ? fails_fast_.count(seed) > 0 : seed % every_ == (every_ == 10 ? 7 : 0))
        FailWith(kind_, absl::StrCat("stuck ", seed, "ms"), record);
    };
  }
  std::string kind_ = "STUCK";
  uint64_t every_ = 10;
  std::set<uint64_t> fails_fast_;
  std::atomic<int> fast_ = 0;
};

TEST_F(SpeedCheckTest, WhatNoFastRunShowsIsUnconfirmed) {
  every_ = 2;  // Every second seed fails.
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "1..20"}), kInconclusive) << err_;
  EXPECT_THAT(out_, HasSubstr("STUCK (cgroup left): stuck Nms\n  uniform: 10 of 20 (50.0 %"));
  EXPECT_THAT(out_, HasSubstr("    UNCONFIRMED at 248 MIPS a CPU: 0 of 9 (0.0 %, 95 % interval 0.0 "
                              "to 29.9 %); "));
  EXPECT_THAT(out_, HasSubstr("10 passed, 0 failed, 0 skipped, 10 inconclusive"));
  EXPECT_EQ(fast_, 9);
  std::set<uint64_t> seeds;
  for (const v1::RunSpec& spec : service_.specs()) {
    if (!spec.scenario().has_vcpu_mips()) continue;
    EXPECT_EQ(spec.reproduction().vcpu_mips(), 248u);
    EXPECT_EQ(spec.reproduction().seed(), spec.scenario().seed());
    seeds.insert(spec.scenario().seed());
  }
  EXPECT_THAT(seeds, ElementsAre(2, 4, 6, 8, 10, 12, 14, 16, 18));
  EXPECT_EQ(Run({"--json", "explore", "steady", "--seeds", "1..20"}), kInconclusive) << err_;
  for (const char* field : {R"("failures":0)", R"("inconclusive":10)", R"("unconfirmed":true)"})
    EXPECT_THAT(out_, HasSubstr(field));
}

// At a rate of 2.8 % none of 32 runs shows it with a probability of 40 %.
TEST_F(SpeedCheckTest, ARareFindingStaysAFailure) {
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "1..20"}), kFail) << err_;
  EXPECT_THAT(out_, HasSubstr("    at 248 MIPS a CPU: 0 of 32 (0.0 %, 95 % interval 0.0 to 10.7 "
                              "%), which at the rate above proves nothing\n"));
  EXPECT_THAT(out_, HasSubstr("18 passed, 2 failed"));
  EXPECT_EQ(fast_, 32);
}

TEST_F(SpeedCheckTest, EachStrategyForItself) {
  every_ = 2;
  // Those of pct show it at any speed.
  service_.judge = [this, judge = service_.judge](const v1::RunSpec& spec, v1::RunRecord* record) {
    const bool pct = spec.scenario().perturb().pct().has_change_points();
    if (pct && spec.scenario().seed() % 2 == 0) fails_fast_.insert(spec.scenario().seed());
    judge(spec, record);
    if (!pct && spec.scenario().has_vcpu_mips()) {
      record->set_verdict(v1::PASS);
      record->clear_findings();
    }
  };
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "1..20", "--strategy", "both", "-j", "1"}), kFail);
  EXPECT_THAT(out_, HasSubstr("    UNCONFIRMED at 248 MIPS a CPU: 0 of 9"));
  EXPECT_THAT(out_, HasSubstr("    at 248 MIPS a CPU: shown with seed 2 "));
  EXPECT_THAT(out_, HasSubstr("20 passed, 10 failed, 0 skipped, 10 inconclusive"));
}

TEST_F(SpeedCheckTest, OneFastRunConfirms) {
  fails_fast_ = {17};
  EXPECT_EQ(Run({"--json", "explore", "steady", "--seeds", "1..20", "-j", "1"}), kFail) << err_;
  EXPECT_THAT(err_, HasSubstr("    at 248 MIPS a CPU: shown with seed 17 (r-00022), in 2 runs\n"));
  EXPECT_THAT(err_, HasSubstr("18 passed, 2 failed"));
  EXPECT_THAT(out_, HasSubstr(R"("speedCheck":{)"));
  for (const char* field : {R"("vcpuMips":248)", R"("shown":1)", R"("runId":"r-00022")"})
    EXPECT_THAT(out_, HasSubstr(field));
  EXPECT_EQ(fast_, 2);
}

TEST_F(SpeedCheckTest, WhatTheKernelReportsHoldsAtAnySpeed) {
  kind_ = "SCHEDULER_DIED";
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "1..8"}), kFail);
  kind_ = "STUCK";
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "1..8", "--confirm", "off"}), kFail);
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "1..8", "--vcpu-mips", "250"}), kOk);
  EXPECT_EQ(fast_, 8);  // Those of the last search.
}

TEST_F(SpeedCheckTest, NoFasterMachine) {
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "1..8", "--topology", "1,2,8,1"}), kFail);
  EXPECT_EQ(fast_, 0);
}

TEST_F(SpeedCheckTest, EndsWithTheTimeAllowedAndWithASignal) {
  service_.hold_runs = [](const v1::RunSpec& spec) { return spec.scenario().has_vcpu_mips(); };
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "7..8", "--budget-secs", "2"}), kFail);
  EXPECT_THAT(err_, HasSubstr("stopped by --budget-secs"));
  EXPECT_THAT(out_, Not(HasSubstr("UNCONFIRMED")));
  const size_t before = service_.specs().size();
  std::thread user([this, before] {
    // The first two are the search.
    while (service_.specs().size() < before + 3) usleep(1000);
    kill(getpid(), SIGINT);
  });
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "7..8"}), kInterrupted);
  user.join();
  EXPECT_THAT(out_, HasSubstr("STUCK (cgroup left)"));
}

TEST(SpeedCheckRunsTest, FollowTheRate) {
  Suspect suspect;
  suspect.seeds = {7};
  suspect.runs = 100;
  EXPECT_EQ(SpeedCheckRuns(suspect), 1694u);
  suspect.runs = 1;
  EXPECT_EQ(SpeedCheckRuns(suspect), 13u);  // Of 1 of 1 the interval begins at 20.7 %.
  suspect.seeds = {1, 2, 3, 4, 5, 6, 7, 8};
  suspect.runs = 24;
  EXPECT_EQ(SpeedCheckRuns(suspect), 16u);
  suspect.runs = 8;
  EXPECT_EQ(SpeedCheckRuns(suspect), 4u);
}

TEST_F(ExploreTest, WrongUse) {
  EXPECT_EQ(Run({"explore", "steady"}), kUsage);
  EXPECT_THAT(err_, HasSubstr("--seeds"));
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "5..1"}), kUsage);
  EXPECT_THAT(err_, HasSubstr("Write 1..5"));
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "1..2", "--strategy", "luck"}), kUsage);
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "1..2", "--kernel", "6", "--kernel", "7"}),
            kUsage);
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "1..2", "--engine", "kvm"}), kUsage);
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "1..2", "--set", "perturb.x=1"}), kUsage);
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "1..2", "--stop-after", "0"}), kUsage);
  EXPECT_EQ(Run({"explore", "nosuch", "--seeds", "1..2"}), kBadInput);
  EXPECT_EQ(Run({"explore", "steady", "--seeds", "1..2", "--set", "perturb.intensity=9"}),
            kBadInput)
      << "the seeds' runs would all be refused: " << err_;
  ASSERT_TRUE(base::WriteFileAtomic(dir_.path() + "/a.ktstr.txtpb",
                                    "name: \"a\" step { cgroup { name: \"c\" } }")
                  .ok());
  ASSERT_TRUE(base::WriteFileAtomic(dir_.path() + "/b.ktstr.txtpb",
                                    "name: \"b\" step { cgroup { name: \"c\" } }")
                  .ok());
  EXPECT_EQ(Run({"explore", dir_.path(), "--seeds", "1..2"}), kBadInput);
  EXPECT_THAT(err_, HasSubstr("2 scenarios; explore searches one at a time"));
  EXPECT_THAT(service_.specs(), SizeIs(0));
  EXPECT_THAT(out_, Not(HasSubstr("summary")));
}

}  // namespace
}  // namespace ktstr::client
