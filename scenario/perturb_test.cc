// SPDX-License-Identifier: Apache-2.0
//
// Intensities and seed forks in the plan.

#include "scenario/perturb.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "scenario/plan.h"
#include "scenario/validate.h"

namespace ktstr::scenario {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using v1::Perturbation;

constexpr uint64_t kNsPerMs = 1'000'000;

v1::GuestPlan PlanOf(const std::string& more) {
  v1::Scenario scenario;
  const std::string text = absl::StrCat("name: 'x' step {} ", more);
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &scenario)) << text;
  auto plan = MakeGuestPlan(scenario, "");
  EXPECT_TRUE(plan.ok()) << plan.status();
  return plan.ok() ? *plan : v1::GuestPlan();
}

std::vector<int> Kinds(const v1::GuestPlan& plan) {
  std::vector<int> kinds;
  for (const v1::GuestDisturbance& disturbance : plan.perturb().disturbance())
    kinds.push_back(disturbance.kind());
  return kinds;
}

TEST(Perturb, NotThereIsNotPlanned) { EXPECT_FALSE(PlanOf("").has_perturb()); }

TEST(Perturb, KindsFollowTheIntensity) {
  EXPECT_THAT(Kinds(PlanOf("perturb { intensity: 0 }")), IsEmpty());
  EXPECT_THAT(Kinds(PlanOf("perturb {}")), ElementsAre(Perturbation::BURST, Perturbation::TIMERS));
  EXPECT_THAT(Kinds(PlanOf("perturb { intensity: 1 }")),
              ElementsAre(Perturbation::BURST, Perturbation::TIMERS));
  EXPECT_THAT(Kinds(PlanOf("perturb { intensity: 2 }")),
              ElementsAre(Perturbation::BURST, Perturbation::TIMERS, Perturbation::IPIS,
                          Perturbation::MOVE));
  EXPECT_THAT(Kinds(PlanOf("perturb { intensity: 3 }")),
              ElementsAre(Perturbation::BURST, Perturbation::TIMERS, Perturbation::IPIS,
                          Perturbation::MOVE, Perturbation::HOTPLUG));
}

TEST(Perturb, EachKindCanBeSwitched) {
  EXPECT_THAT(Kinds(PlanOf("perturb { intensity: 3 bursts: false timers: false ipis: false moves: "
                           "false hotplug: false }")),
              IsEmpty());
  EXPECT_THAT(Kinds(PlanOf("perturb { bursts: false timers: false hotplug: true ipis: true }")),
              ElementsAre(Perturbation::IPIS, Perturbation::HOTPLUG));
}

TEST(Perturb, MoreIntensityIsMoreOften) {
  for (int kind = 0; kind < 5; ++kind) {
    uint64_t last = ~uint64_t{0};
    for (int intensity = 1; intensity <= 3; ++intensity) {
      const v1::GuestPlan plan =
          PlanOf(absl::StrCat("perturb { intensity: ", intensity,
                              " bursts: true timers: true ipis: true moves: true hotplug: true }"));
      const v1::GuestDisturbance& disturbance = plan.perturb().disturbance(kind);
      EXPECT_LT(disturbance.period_ns(), last);
      EXPECT_LT(disturbance.min_length_ns(), disturbance.max_length_ns());
      if (disturbance.kind() != Perturbation::HOTPLUG && disturbance.kind() != Perturbation::MOVE) {
        EXPECT_LE(disturbance.max_length_ns(), kMaxBurstNs);
      }
      last = disturbance.period_ns();
    }
  }
}

TEST(Perturb, LongScenariosAreDisturbedLessOften) {
  const v1::GuestPlan plan = PlanOf("duration_ms: 3600000 perturb { intensity: 3 }");
  EXPECT_EQ(plan.perturb().length_ns(), 3'600'000 * kNsPerMs);
  for (const v1::GuestDisturbance& disturbance : plan.perturb().disturbance())
    EXPECT_GE(disturbance.period_ns(), 3600 * kNsPerMs);
}

TEST(Perturb, HotplugSparesCpu0AndOnlyCpusOfCpusets) {
  const v1::GuestPlan plan = PlanOf(
      "step { cgroup { name: 'a' cpuset { exact { cpus: '2' } } }"
      " cgroup { name: 'b' cpuset { exact { cpus: '0-1' } } } } perturb { intensity: 3 }");
  EXPECT_EQ(plan.perturb().cpus(), 4u);
  EXPECT_THAT(plan.perturb().hotplug_cpus(), ElementsAre(1, 3));
}

TEST(Perturb, HotplugIsLeftOutWhereNoCpuMayGo) {
  EXPECT_THAT(Kinds(PlanOf("topology { numa_nodes: 1 llcs: 1 cores_per_llc: 1 threads_per_core: 1 }"
                           " perturb { intensity: 3 ipis: false moves: false }")),
              ElementsAre(Perturbation::BURST, Perturbation::TIMERS));
}

TEST(Perturb, PrioritiesDoNotNeedAnIntensity) {
  v1::GuestPlan plan = PlanOf("perturb { intensity: 0 pct {} }");
  EXPECT_TRUE(plan.perturb().random_nice());
  EXPECT_EQ(plan.perturb().change_points(), kDefaultChangePoints);
  plan = PlanOf("perturb { pct { change_points: 0 } }");
  EXPECT_TRUE(plan.perturb().random_nice());
  EXPECT_EQ(plan.perturb().change_points(), 0u);
  EXPECT_FALSE(PlanOf("perturb {}").perturb().random_nice());
}

// A fork must not change how long the agent reads the plan: the runs would differ before the fork.
TEST(SeedForks, PlansOfAnyForksHaveOneSize) {
  const v1::GuestPlan none = PlanOf("");
  const v1::GuestPlan one = PlanOf("seed_fork { at_ms: 800 seed: 18446744073709551615 }");
  const v1::GuestPlan two = PlanOf("seed_fork { at_ms: 1 } seed_fork { at_ms: 3600000 seed: 2 }");
  EXPECT_EQ(none.SerializeAsString().size(), one.SerializeAsString().size());
  EXPECT_EQ(none.SerializeAsString().size(), two.SerializeAsString().size());
  ASSERT_EQ(two.seed_fork_size(), kMaxSeedForks);
  EXPECT_EQ(two.seed_fork(0).at_ns(), kNsPerMs);
  EXPECT_EQ(two.seed_fork(0).seed(), 1u);
  EXPECT_EQ(two.seed_fork(1).at_ns(), 3'600'000 * kNsPerMs);
  EXPECT_EQ(two.seed_fork(1).seed(), 2u);
  EXPECT_EQ(two.seed_fork(2).at_ns(), ~uint64_t{0});
}

TEST(StartJitter, IsShortAgainstTheHold) {
  const v1::GuestPlan plan = PlanOf("step { hold { ms: 1 } } duration_ms: 1000");
  EXPECT_EQ(plan.step(0).start_jitter_ns(), 2 * kNsPerMs);
  EXPECT_EQ(plan.step(1).start_jitter_ns(), kNsPerMs / 16);
}

std::string ProblemOf(const std::string& more) {
  v1::Scenario scenario;
  const std::string text = absl::StrCat("name: 'x' step {} ", more);
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &scenario)) << text;
  return std::string(ValidationStatus(scenario).message());
}

TEST(DelayPoint, BecomesAProbe) {
  v1::Scenario scenario;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "name: 'x' step {} scheduler { name: 's' } seed: 18446744073709551615 perturb { intensity: 0 "
      "delay_point { callback: 'dispatch' at_end: true max_us: 1000 one_in: 4 } "
      "delay_point { callback: 'update_idle' } }",
      &scenario));
  const auto plan = MakeGuestPlan(scenario, "bin/s");
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->probe().path(), "bin/scx_delay");
  EXPECT_THAT(plan->probe().args(),
              ElementsAre("--point", "dispatch:end,1000000,4", "--point", "update_idle,200000,1",
                          "--wait-ms", "0", "--seed", "18446744073709551615"));
  EXPECT_GT(plan->probe().start_timeout_ms(), 0u);
  EXPECT_GT(plan->probe().stop_timeout_ms(), 0u);
  EXPECT_FALSE(PlanOf("perturb {}").has_probe());
  // There is nothing to delay.
  EXPECT_FALSE(PlanOf("perturb { delay_point { callback: 'enqueue' } }").has_probe());
}

TEST(DelayPoint, BadValuesAreNamed) {
  const std::string with = "scheduler { name: 's' } perturb { delay_point { ";
  EXPECT_THAT(ProblemOf(with + "} }"), testing::HasSubstr("callback '' is not the name"));
  EXPECT_THAT(ProblemOf(with + "callback: 'a,b' } }"), testing::HasSubstr("'a,b' is not the name"));
  for (const char* max_us : {"0", "10001"}) {
    EXPECT_THAT(ProblemOf(absl::StrCat(with, "callback: 'enqueue' max_us: ", max_us, " } }")),
                testing::HasSubstr(
                    absl::StrCat("max_us ", max_us, " is out of range; allowed: 1 to 10000")));
  }
  for (const char* one_in : {"0", "1000001"}) {
    EXPECT_THAT(ProblemOf(absl::StrCat(with, "callback: 'enqueue' one_in: ", one_in, " } }")),
                testing::HasSubstr(absl::StrCat("one_in ", one_in, " is out of range")));
  }
  std::string nine = "scheduler { name: 's' } perturb { ";
  for (int i = 0; i < kMaxDelayPoints + 1; ++i) nine += "delay_point { callback: 'enqueue' } ";
  EXPECT_THAT(ProblemOf(nine + "}"), testing::HasSubstr("9 delay points, at most 8"));
  EXPECT_EQ(ProblemOf(with + "callback: 'enqueue' max_us: 10000 one_in: 1000000 } }"), "");
}

}  // namespace
}  // namespace ktstr::scenario
