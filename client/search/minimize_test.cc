// SPDX-License-Identifier: Apache-2.0
//
// Whole `minimize`, `explain` and `run --repeat` commands against a daemon that lets runs fail by
// their spec.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "client/scenario_source.h"
#include "client/testing/command_test.h"
#include "scenario/plan.h"
#include "scenario/work_types.h"

namespace ktstr::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::SizeIs;

int WorkersIn(const v1::Scenario& scenario, const std::string& cgroup) {
  int count = 0;
  for (const auto& worker : scenario::DeclaredWorkers(scenario)) count += worker.cgroup == cgroup;
  return count;
}

class MinimizeTest : public CommandTest {
 protected:
  MinimizeTest() : path_(dir_.path() + "/small.ktstr.txtpb") {
    // Two workers on the left at one seed in three: `steady` has two on either side.
    service_.judge = [](const v1::RunSpec& spec, v1::RunRecord* record) {
      record->mutable_variant()->set_engine("tcg");
      record->mutable_variant()->set_kernel("deb-7.3.4");
      if (WorkersIn(spec.scenario(), "left") >= 2 && spec.scenario().seed() % 3 == 0)
        FailWith("STUCK", "stuck 4500ms on cpu2", record);
    };
  }
  // A failed run r-0001.
  void Failed() {
    ASSERT_EQ(Run({"run", "steady", "--seed", "6"}), kFail) << err_;
    ASSERT_THAT(service_.specs(), SizeIs(1));
  }
  v1::Scenario Written() {
    const SourcedScenarios sources = LoadScenarios({path_});
    EXPECT_THAT(sources.problems, SizeIs(0));
    return sources.scenarios.empty() ? v1::Scenario() : sources.scenarios[0].scenario;
  }
  std::string path_;
};

TEST_F(MinimizeTest, WritesTheSmallestAndVerifiesIt) {
  Failed();
  ASSERT_EQ(Run({"minimize", "r-0001", "-o", path_, "--seeds-per-try", "4"}), kOk) << err_;
  const v1::Scenario best = Written();
  EXPECT_EQ(WorkersIn(best, "left"), 2);
  EXPECT_THAT(scenario::DeclaredWorkers(best), SizeIs(2));
  EXPECT_EQ(best.duration_ms(), 100u);
  EXPECT_EQ(best.seed() % 3, 0u);
  const std::string command =
      absl::StrCat("ktstrctl run ", path_, " --kernel deb-7.3.4 --deterministic --seed ",
                   best.seed(), " --confirm off\n");
  EXPECT_THAT(out_,
              HasSubstr("1 step, 1 cgroup, 2 workers, 1 CPU, 100 ms, from 1 step, 2 cgroups"));
  EXPECT_THAT(out_, HasSubstr(command));
  const std::string text = *base::ReadFile(path_, 1 << 20);
  EXPECT_THAT(text, HasSubstr("# Made by `ktstrctl minimize` from r-0001. Fails with\n"
                              "#   STUCK (cgroup left): stuck Nms on cpuN\n"));
  EXPECT_THAT(text, HasSubstr(command));
  // The last run is that of the file.
  EXPECT_EQ(service_.specs().back().scenario().SerializeAsString(), best.SerializeAsString());
  EXPECT_EQ(service_.specs().back().kernel(), "deb-7.3.4");
  EXPECT_THAT(err_, HasSubstr(": still fails, kept"));
  EXPECT_THAT(err_, HasSubstr(": passes"));
}

TEST_F(MinimizeTest, NoRunWithoutThePlaceOfTheFinding) {
  Failed();
  ASSERT_EQ(Run({"minimize", "r-0001", "-o", path_}), kOk) << err_;
  for (const v1::RunSpec& spec : service_.specs()) EXPECT_GT(WorkersIn(spec.scenario(), "left"), 0);
}

TEST_F(MinimizeTest, OfAScenario) {
  EXPECT_EQ(Run({"--json", "minimize", "steady", "--seed", "3", "--duration", "1s", "-o", path_}),
            kOk)
      << err_;
  EXPECT_EQ(service_.specs()[0].scenario().duration_ms(), 1000u);
  EXPECT_THAT(out_, MatchesRegex("\\{.*\"complete\":true.*\\}\n"));
  EXPECT_EQ(WorkersIn(Written(), "left"), 2);
}

TEST_F(MinimizeTest, AnotherFindingIsNotTheSame) {
  Failed();
  service_.judge = [](const v1::RunSpec& spec, v1::RunRecord* record) {
    record->mutable_variant()->set_engine("tcg");
    const bool whole = scenario::DeclaredWorkers(spec.scenario()).size() == 4;
    FailWith(whole ? "STUCK" : "STARVED", "x", record);
  };
  EXPECT_EQ(Run({"minimize", "r-0001", "-o", path_}), kOk) << err_;
  EXPECT_THAT(scenario::DeclaredWorkers(Written()), SizeIs(4));
}

TEST_F(MinimizeTest, RunsThatCannotBeMinimized) {
  EXPECT_EQ(Run({"minimize", "r-0001"}), kUnavailable);
  ASSERT_EQ(Run({"run", "steady", "--seed", "1"}), kOk);
  EXPECT_EQ(Run({"minimize", "r-0001"}), kUnavailable);
  EXPECT_THAT(err_,
              HasSubstr("r-0001 (steady, seed 1) ended with PASS; minimize and explain need"));
  service_.judge = [](const v1::RunSpec&, v1::RunRecord* record) {
    FailWith("STUCK", "x", record);
    record->mutable_variant()->set_engine("kvm");
  };
  EXPECT_EQ(Run({"minimize", "r-0001"}), kUnavailable);
  EXPECT_THAT(err_, HasSubstr("ran under kvm, where a run does not repeat"));
  EXPECT_EQ(Run({"explain", "r-0001"}), kUnavailable);
}

TEST_F(MinimizeTest, ARunThatDoesNotFailAgain) {
  std::atomic<int> judged = 0;
  Failed();
  service_.judge = [&judged](const v1::RunSpec&, v1::RunRecord* record) {
    record->mutable_variant()->set_engine("tcg");
    // The first record, which GetRun returns, is the failed one.
    if (judged++ == 0) FailWith("STUCK", "x", record);
  };
  EXPECT_EQ(Run({"minimize", "r-0001", "-o", path_}), kHarness);
  EXPECT_THAT(err_, HasSubstr("run again (r-0002) it ended with PASS"));
  EXPECT_FALSE(base::Exists(path_));
}

TEST_F(MinimizeTest, FilesThatAreGone) {
  ASSERT_EQ(Run({"run", "steady", "--seed", "3", "--scheduler", "/bin/true"}), kFail) << err_;
  service_.Forget();
  EXPECT_EQ(Run({"minimize", "r-0001", "-o", path_}), kUnavailable);
  EXPECT_THAT(err_, HasSubstr("r-0001: the daemon no longer keeps "));
  EXPECT_THAT(err_, HasSubstr("files. Run it again (ktstrctl run steady --scheduler /bin/true"));
}

// The file alone finds a scheduler that a relative path named, from every directory.
TEST_F(MinimizeTest, FileRunsAsItIs) {
  const auto program = base::ReadFile("/bin/true");
  ASSERT_TRUE(program.ok()) << program.status();
  const std::string build = dir_.path() + "/build";  // Not where the file is written.
  ASSERT_TRUE(base::MakeDirs(build).ok());
  ASSERT_TRUE(base::WriteFileAtomic(build + "/scx_x", *program, 0755).ok());
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(build);
  EXPECT_EQ(Run({"run", "steady", "--seed", "3", "--scheduler", "./scx_x", "--sched-arg", "",
                 "--timeout", "90s"}),
            kFail)
      << err_;
  EXPECT_EQ(Run({"minimize", "r-0001", "-o", path_}), kOk) << err_;
  std::filesystem::current_path(before);
  const std::string text = *base::ReadFile(path_, 1 << 20);
  EXPECT_THAT(text, HasSubstr(" --deterministic --seed "));
  EXPECT_THAT(text, HasSubstr(" --timeout 90s --confirm off\n"));
  EXPECT_THAT(text, Not(HasSubstr("--scheduler")));
  const size_t runs = service_.specs().size();
  EXPECT_EQ(Run({"run", path_}), kFail) << err_;
  ASSERT_THAT(service_.specs(), SizeIs(runs + 1));
  const v1::RunSpec spec = service_.specs().back();
  EXPECT_EQ(spec.scheduler_path(), "bin/scx_x");
  EXPECT_THAT(spec.scenario().scheduler().args(), ElementsAre(""));
}

// A small scenario fails with another seed than the run: the file has that one.
TEST_F(MinimizeTest, FileHasTheSeedThatFails) {
  service_.judge = [](const v1::RunSpec& spec, v1::RunRecord* record) {
    record->mutable_variant()->set_engine("tcg");
    const bool whole = scenario::DeclaredWorkers(spec.scenario()).size() == 4;
    if (WorkersIn(spec.scenario(), "left") >= 2 && spec.scenario().seed() % 3 == (whole ? 0 : 1))
      FailWith("STUCK", "stuck 4500ms on cpu2", record);
  };
  Failed();
  ASSERT_EQ(Run({"minimize", "r-0001", "-o", path_, "--seeds-per-try", "4"}), kOk) << err_;
  EXPECT_EQ(Written().seed() % 3, 1u);
  EXPECT_EQ(Run({"run", path_}), kFail) << err_;
}

TEST_F(MinimizeTest, BudgetKeepsWhatWasFound) {
  Failed();
  service_.hold = false;
  std::thread user([this] {
    // The daemon stops ending runs after a few tries.
    while (service_.specs().size() < 12) usleep(1000);
    service_.hold = true;
    while (service_.cancelled().empty()) usleep(1000);
    service_.Release();
  });
  EXPECT_EQ(Run({"minimize", "r-0001", "-o", path_, "--budget-secs", "2", "-j", "1"}), kOk) << err_;
  user.join();
  EXPECT_THAT(err_, HasSubstr("holds the smallest scenario found so far"));
  EXPECT_EQ(WorkersIn(Written(), "left"), 2);
}

TEST_F(MinimizeTest, WrongUse) {
  EXPECT_EQ(Run({"minimize"}), kUsage);
  EXPECT_EQ(Run({"minimize", "steady"}), kUsage);
  EXPECT_THAT(err_, HasSubstr("steady: not the id of a run; for a scenario, --seed"));
  EXPECT_EQ(Run({"minimize", "r-0001", "--seed", "7"}), kUsage);
  EXPECT_EQ(Run({"minimize", "r-0001", "--topology", "1,1,1,1"}), kUsage);
  EXPECT_EQ(Run({"minimize", "nosuch", "--seed", "7"}), kBadInput);
  EXPECT_EQ(Run({"explain"}), kUsage);
  EXPECT_EQ(Run({"explain", "r-0001", "--resolution", "soon"}), kUsage);
  EXPECT_EQ(Run({"explain", "r-0001", "--forks", "0"}), kUsage);
  EXPECT_THAT(service_.specs(), SizeIs(0));
}

TEST_F(MinimizeTest, ExplainFindsTheMoment) {
  service_.judge = [](const v1::RunSpec& spec, v1::RunRecord* record) {
    record->mutable_variant()->set_engine("tcg");
    const v1::Scenario& s = spec.scenario();
    const bool forked_late = s.seed_fork_size() == 1 && s.seed_fork(0).at_ms() >= 700;
    const bool own = s.seed_fork_size() == 0 && s.seed() == 6;
    if (!own && !(forked_late && s.seed() == 6)) return;
    FailWith("STUCK", "x", record);
    record->mutable_findings(0)->set_guest_time_ms(1500);
  };
  Failed();
  ASSERT_EQ(Run({"--json", "explain", "r-0001", "--forks", "3", "--resolution", "50ms"}), kOk)
      << err_;
  EXPECT_THAT(err_, HasSubstr("start      0 of 3\n"));
  EXPECT_THAT(err_, HasSubstr("+1500 ms   3 of 3\n"));
  EXPECT_THAT(err_, HasSubstr("on the failure is certain (all 3 forks fail"));
  EXPECT_THAT(out_, MatchesRegex("\\{.*\"certainFromMs\":7[0-4][0-9].*\\}\n"));
}

TEST_F(MinimizeTest, RepeatsThatAreEqual) {
  service_.judge = [](const v1::RunSpec& spec, v1::RunRecord* record) {
    record->mutable_variant()->set_engine("tcg");
    record->set_guest_digest("0123456789abcdef");
    record->set_scenario_digest(absl::StrCat("of seed ", spec.scenario().seed()));
  };
  EXPECT_EQ(Run({"run", "steady", "--repeat", "3"}), kOk);
  EXPECT_THAT(out_, HasSubstr("3 runs from a cold boot left the same guest memory (0123456789ab)"));
}

TEST_F(MinimizeTest, RepeatsThatDiffer) {
  std::atomic<int> number = 0;
  service_.judge = [&number](const v1::RunSpec&, v1::RunRecord* record) {
    record->mutable_variant()->set_engine("tcg");
    record->set_guest_digest(absl::StrCat("digest", number++));
  };
  service_.observe = [&number](const v1::RunSpec&, v1::RunObservations* seen) {
    seen->add_observations()->set_guest_time_ns(uint64_t{1000} * number++);
  };
  EXPECT_EQ(Run({"--json", "run", "steady", "--repeat", "3"}), kHarness);
  EXPECT_THAT(out_, HasSubstr("\"kind\":\"NONDETERMINISM\""));
  EXPECT_THAT(err_, HasSubstr("first difference: event 0:"));
  EXPECT_THAT(err_, HasSubstr("3 passed, 0 failed, 0 skipped, 1 error"));
  EXPECT_EQ(Run({"run", "steady", "--ktap", "--repeat", "2"}), kHarness);
  EXPECT_THAT(out_, HasSubstr("1..2\n"));
  EXPECT_THAT(out_, HasSubstr("\n# "));
}

}  // namespace
}  // namespace ktstr::client
