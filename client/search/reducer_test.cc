// SPDX-License-Identifier: Apache-2.0
#include "client/search/reducer.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <set>
#include <string>

#include "scenario/plan.h"
#include "scenario/topology.h"
#include "scenario/validate.h"
#include "scenario/work_types.h"

namespace ktstr::client {
namespace {

using ::testing::IsEmpty;

v1::Scenario Parse(const std::string& text) {
  v1::Scenario scenario;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &scenario)) << text;
  EXPECT_THAT(scenario::Validate(scenario), IsEmpty());
  return scenario;
}

v1::Scenario Big() {
  return Parse(R"(
    name: "big" topology { numa_nodes: 2 llcs: 4 cores_per_llc: 3 threads_per_core: 2 }
    duration_ms: 4000 scheduler { name: "scx_racy" args: "--x" }
    step {
      cgroup { name: "a" cpuset { llc: 0 } work { spin_wait {} workers: 6 nice: 3 } }
      cgroup { name: "b" weight: 50 work { bursty {} workers: 8 } work { spin_wait {} workers: 2 } }
      hold { ms: 1500 }
    }
    step { cgroup { name: "n" cpuset { numa: 1 } } cgroup { name: "n/x" work { bursty {} workers: 4 } } }
    step { cgroup { name: "c" work { spin_wait {} workers: 1 } } cgroup { name: "d" } }
    checks { max_gap_ms: 500 }
    perturb { intensity: 3 pct { change_points: 5 } }
    seed_fork { at_ms: 500 seed: 7 }
    seed: 42)");
}

using Oracle = std::function<bool(const v1::Scenario&)>;

struct Result {
  v1::Scenario best;
  int asked = 0;
};

// Reduces to the end; checks what must hold for every candidate.
Result Reduce(const v1::Scenario& start, const Oracle& fails) {
  Reducer reducer(start);
  Result result;
  std::set<std::string> seen;
  while (auto candidate = reducer.Next()) {
    EXPECT_THAT(scenario::Validate(*candidate), IsEmpty()) << candidate->DebugString();
    EXPECT_TRUE(seen.insert(candidate->SerializeAsString()).second)
        << "proposed twice: " << reducer.change();
    EXPECT_NE(reducer.change(), "");
    const bool yes = fails(*candidate);
    reducer.Report(yes);
    if (yes) {
      EXPECT_EQ(reducer.best().SerializeAsString(), candidate->SerializeAsString());
    }
    if (++result.asked > 5000) {
      ADD_FAILURE() << "no end";
      break;
    }
  }
  EXPECT_EQ(reducer.Next(), std::nullopt);
  result.best = reducer.best();
  return result;
}

int Workers(const v1::Scenario& scenario) {
  return static_cast<int>(scenario::DeclaredWorkers(scenario).size());
}
int Cpus(const v1::Scenario& scenario) {
  return scenario::Topology::FromProto(scenario.topology())->num_cpus();
}
int WorkersIn(const v1::Scenario& scenario, const std::string& cgroup) {
  int count = 0;
  for (const auto& worker : scenario::DeclaredWorkers(scenario)) count += worker.cgroup == cgroup;
  return count;
}

TEST(Reducer, EverythingGoesWhenEverythingFails) {
  const Result result = Reduce(Big(), [](const v1::Scenario&) { return true; });
  EXPECT_EQ(result.best.step_size(), 1);
  EXPECT_EQ(result.best.step(0).cgroup_size(), 0);
  EXPECT_FALSE(result.best.step(0).has_hold());
  EXPECT_EQ(result.best.duration_ms(), 100u);
  EXPECT_FALSE(result.best.has_perturb());
  EXPECT_EQ(result.best.seed_fork_size(), 0);
  EXPECT_EQ(Cpus(result.best), 1);
  // The checks and the scheduler under test stay.
  EXPECT_EQ(result.best.checks().max_gap_ms(), 500u);
  EXPECT_EQ(result.best.scheduler().args(0), "--x");
  EXPECT_EQ(result.best.seed(), 42u);
  EXPECT_LT(result.asked, 40);
}

TEST(Reducer, NothingGoesWhenNothingElseFails) {
  const Result result = Reduce(Big(), [](const v1::Scenario&) { return false; });
  EXPECT_EQ(result.best.SerializeAsString(), Big().SerializeAsString());
  EXPECT_LT(result.asked, 120);
}

TEST(Reducer, FindsTheSmallestOfAMonotoneFailure) {
  const Result result = Reduce(Big(), [](const v1::Scenario& s) {
    return WorkersIn(s, "b") >= 3 && WorkersIn(s, "n/x") >= 1 && Cpus(s) >= 2 &&
           scenario::DurationMs(s) >= 730 && s.perturb().has_pct() &&
           s.perturb().pct().change_points() >= 2;
  });
  EXPECT_EQ(Workers(result.best), 4);
  EXPECT_EQ(WorkersIn(result.best, "b"), 3);
  EXPECT_EQ(Cpus(result.best), 2);
  EXPECT_LE(scenario::DurationMs(result.best), 830u);
  EXPECT_GE(scenario::DurationMs(result.best), 730u);
  EXPECT_EQ(result.best.perturb().pct().change_points(), 2u);
  EXPECT_EQ(result.best.perturb().intensity(), 0u);
  EXPECT_LT(result.asked, 200);
}

TEST(Reducer, FewWorkersBeforeAShortRun) {
  // A short run fails only with many workers, a long one with few.
  const v1::Scenario crowd = Parse(R"(
    name: "crowd" duration_ms: 4000
    topology { numa_nodes: 1 llcs: 1 cores_per_llc: 1 threads_per_core: 1 }
    step { cgroup { name: "a" work { spin_wait {} workers: 16 } } })");
  const Result result = Reduce(crowd, [](const v1::Scenario& s) {
    return Workers(s) >= 12 || (Workers(s) >= 2 && scenario::DurationMs(s) >= 1000);
  });
  EXPECT_EQ(Workers(result.best), 2);
  EXPECT_EQ(scenario::DurationMs(result.best), 1000u);
}

TEST(Reducer, KindsOfDisturbances) {
  const Result result = Reduce(Big(), [](const v1::Scenario& s) {
    return s.has_perturb() && s.perturb().intensity() >= 2 &&
           (!s.perturb().has_moves() || s.perturb().moves());
  });
  const v1::Perturb& perturb = result.best.perturb();
  EXPECT_EQ(perturb.intensity(), 2u);
  EXPECT_FALSE(perturb.has_moves());
  EXPECT_FALSE(perturb.has_pct());
  for (bool off :
       {perturb.has_bursts() && !perturb.bursts(), perturb.has_timers() && !perturb.timers(),
        perturb.has_ipis() && !perturb.ipis()})
    EXPECT_TRUE(off) << perturb.DebugString();
}

TEST(Reducer, CpusetsThatNeedTheTopologyHoldIt) {
  const Result result = Reduce(Big(), [](const v1::Scenario& s) {
    for (const v1::Step& step : s.step()) {
      for (const v1::Cgroup& cgroup : step.cgroup()) {
        if (cgroup.name() == "n" && cgroup.has_cpuset()) return true;
      }
    }
    return false;
  });
  EXPECT_EQ(scenario::Topology::FromProto(result.best.topology())->numa_nodes(), 2);
  EXPECT_EQ(Cpus(result.best), 2);
}

// Asks the oracle directly: no single element can go, and no worker.
void ExpectMinimal(const v1::Scenario& best, const Oracle& fails) {
  const auto check = [&](const v1::Scenario& smaller, const std::string& what) {
    if (scenario::Validate(smaller).empty()) {
      EXPECT_FALSE(fails(smaller)) << what;
    }
  };
  for (int s = 0; s < best.step_size(); ++s) {
    v1::Scenario without = best;
    without.mutable_step()->DeleteSubrange(s, 1);
    check(without, "step");
    for (int c = 0; c < best.step(s).cgroup_size(); ++c) {
      without = best;
      without.mutable_step(s)->mutable_cgroup()->DeleteSubrange(c, 1);
      check(without, "cgroup");
      for (int w = 0; w < best.step(s).cgroup(c).work_size(); ++w) {
        without = best;
        v1::Cgroup* cgroup = without.mutable_step(s)->mutable_cgroup(c);
        cgroup->mutable_work(w)->set_workers(cgroup->work(w).workers() - 1);
        check(without, "worker");
        cgroup->mutable_work()->DeleteSubrange(w, 1);
        check(without, "work");
      }
    }
  }
  v1::Scenario without = best;
  without.clear_perturb();
  if (best.has_perturb()) check(without, "perturb");
  without = best;
  without.clear_seed_fork();
  if (best.seed_fork_size() > 0) check(without, "fork");
}

// Deterministic oracles that are otherwise arbitrary: a hash of the scenario decides whether it
// fails.
TEST(Reducer, EndsOneMinimalWithOraclesThatAreNotMonotone) {
  for (uint64_t salt = 1; salt <= 30; ++salt) {
    const uint64_t percent = salt % 3 == 0 ? 5 : salt % 3 == 1 ? 30 : 80;
    const Oracle fails = [&](const v1::Scenario& s) {
      std::mt19937_64 random(std::hash<std::string>()(s.SerializeAsString()) ^ salt);
      return random() % 100 < percent;
    };
    const Result result = Reduce(Big(), fails);
    ExpectMinimal(result.best, fails);
  }
}

TEST(Reducer, OneOfTwoCgroupsIsEnough) {
  const Oracle fails = [](const v1::Scenario& s) {
    // Fails with either cgroup alone, but only with odd numbers of workers (and the initial one),
    // so the bisection meets numbers that pass.
    const int a = WorkersIn(s, "a"), b = WorkersIn(s, "b");
    return (a > 0 && (a % 2 == 1 || a == 6)) || (b > 0 && (b % 2 == 1 || b == 10));
  };
  const Result result = Reduce(Big(), fails);
  EXPECT_EQ(Workers(result.best), 1);
  ExpectMinimal(result.best, fails);
}

TEST(Reducer, SmallestScenarioHasNoCandidate) {
  Reducer reducer(Parse(R"(name: "s" duration_ms: 100 step { }
      topology { numa_nodes: 1 llcs: 1 cores_per_llc: 1 threads_per_core: 1 })"));
  EXPECT_EQ(reducer.Next(), std::nullopt);
}

}  // namespace
}  // namespace ktstr::client
