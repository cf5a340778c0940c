// SPDX-License-Identifier: Apache-2.0
//
// Topology, cpusets, work types, holds, the plan, canned scenarios, names and JSON.

#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "ktstr/v1/kernel.pb.h"
#include "scenario/canned.h"
#include "scenario/cpuset.h"
#include "scenario/json.h"
#include "scenario/nearest.h"
#include "scenario/parse.h"
#include "scenario/plan.h"
#include "scenario/topology.h"
#include "scenario/validate.h"
#include "scenario/work_types.h"

namespace ktstr::scenario {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

template <typename T>
T Text(const std::string& text) {
  T message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message)) << text;
  return message;
}

Topology MakeTopology(const std::string& text) {
  auto topology = Topology::FromProto(Text<v1::Topology>(text));
  EXPECT_TRUE(topology.ok()) << topology.status();
  return *topology;
}

TEST(TopologyTest, PresetsAreWhatTheirLabelsSay) {
  EXPECT_EQ(Presets().size(), 24u);
  std::set<std::string> names;
  for (const Preset& preset : Presets()) {
    const std::string name(preset.name);
    EXPECT_TRUE(names.insert(name).second) << name;
    const Topology topology = MakeTopology("preset: '" + name + "'");
    EXPECT_EQ(topology.Label(), preset.label) << name;
    EXPECT_EQ(topology.num_cpus(), preset.cpus) << name;
    const Topology again = *Topology::FromProto(topology.ToProto());
    EXPECT_EQ(again.Label(), preset.label) << name;
  }
}

TEST(TopologyTest, UnsetIsTiny) { EXPECT_EQ(MakeTopology("").Label(), "1n1l4c1t"); }

TEST(TopologyTest, CpusAreNumberedNodeLlcCoreThread) {
  const Topology topology =
      MakeTopology("numa_nodes: 2 llcs: 4 cores_per_llc: 2 threads_per_core: 2");
  EXPECT_EQ(topology.num_cpus(), 16);
  EXPECT_THAT(topology.CpusOfLlc(1), ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(topology.CpusOfNode(1), ElementsAre(8, 9, 10, 11, 12, 13, 14, 15));
  EXPECT_EQ(topology.NodeOfCpu(7), 0);
  EXPECT_EQ(topology.NodeOfCpu(8), 1);
  EXPECT_EQ(topology.AllCpus().size(), 16u);
  EXPECT_EQ(topology.UsableCpus().back(), 14);
}

TEST(TopologyTest, UpToTwoCpusAllAreUsable) {
  EXPECT_THAT(
      MakeTopology("numa_nodes: 1 llcs: 1 cores_per_llc: 2 threads_per_core: 1").UsableCpus(),
      ElementsAre(0, 1));
  EXPECT_THAT(
      MakeTopology("numa_nodes: 1 llcs: 1 cores_per_llc: 3 threads_per_core: 1").UsableCpus(),
      ElementsAre(0, 1));
}

TEST(TopologyTest, ErrorListsEveryProblem) {
  const auto topology =
      Topology::FromProto(Text<v1::Topology>("numa_nodes: 99 threads_per_core: 7"));
  ASSERT_FALSE(topology.ok());
  EXPECT_EQ(topology.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(topology.status().message()), HasSubstr("numa_nodes 99"));
  EXPECT_THAT(std::string(topology.status().message()), HasSubstr("threads_per_core 7"));
}

// 2 nodes, 4 LLCs, 4 cores: 16 CPUs, 15 usable.
std::vector<int> Resolve(const std::string& cpuset) {
  const auto cpus = ResolveCpuset(Text<v1::Cpuset>(cpuset), MakeTopology("preset: 'numa2-4llc'"));
  EXPECT_TRUE(cpus.ok()) << cpuset << ": " << cpus.status();
  return cpus.ok() ? *cpus : std::vector<int>();
}

TEST(CpusetTest, SixKinds) {
  EXPECT_THAT(Resolve("llc: 3"), ElementsAre(12, 13, 14, 15));
  EXPECT_THAT(Resolve("numa: 1"), ElementsAre(8, 9, 10, 11, 12, 13, 14, 15));
  EXPECT_THAT(Resolve("range { start: 0.2 end: 0.4 }"), ElementsAre(3, 4, 5));
  EXPECT_THAT(Resolve("disjoint { index: 2 of: 5 }"), ElementsAre(6, 7, 8));
  EXPECT_THAT(Resolve("overlap { index: 0 of: 5 fraction: 0.5 }"), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(Resolve("exact { cpus: '0-1,15' }"), ElementsAre(0, 1, 15));
}

TEST(CpusetTest, Edges) {
  EXPECT_EQ(Resolve("range { start: 0 end: 1 }").size(), 15u);
  // A range is never empty.
  EXPECT_THAT(Resolve("range { start: 0.99 end: 1 }"), ElementsAre(14));
  EXPECT_THAT(Resolve("range { start: 0.01 end: 0.02 }"), ElementsAre(0));
  // 15 CPUs in 4 parts of 3; the rest stays unused. The last part has no next one.
  EXPECT_THAT(Resolve("disjoint { index: 3 of: 4 }"), ElementsAre(9, 10, 11));
  EXPECT_THAT(Resolve("overlap { index: 4 of: 5 fraction: 1 }"), ElementsAre(12, 13, 14));
  EXPECT_THAT(Resolve("overlap { index: 1 of: 5 fraction: 0 }"), ElementsAre(3, 4, 5));
  EXPECT_EQ(Resolve("disjoint { index: 14 of: 15 }"), std::vector<int>{14});
}

TEST(CpusetTest, DisjointPartsCoverNothingTwice) {
  for (int of = 1; of <= 15; ++of) {
    std::set<int> seen;
    for (int index = 0; index < of; ++index) {
      for (int cpu : Resolve("disjoint { index: " + std::to_string(index) +
                             " of: " + std::to_string(of) + " }")) {
        EXPECT_TRUE(seen.insert(cpu).second) << cpu << " in two of " << of;
      }
    }
    EXPECT_EQ(seen.size(), static_cast<size_t>(15 / of * of));
  }
}

TEST(CpusetTest, AllowedCpusAreInherited) {
  const v1::Scenario scenario = Text<v1::Scenario>(
      "name: 'x' step { cgroup { name: 'free' } cgroup { name: 'a' cpuset { exact { cpus: '0-1' } "
      "} } "
      "cgroup { name: 'a/b/c' } } step { cgroup { name: 'a/d' cpuset { exact { cpus: '1' } } } }");
  const auto allowed = AllowedCpus(scenario, MakeTopology(""));
  EXPECT_EQ(allowed.count("free"), 0u);
  EXPECT_THAT(allowed.at("a"), ElementsAre(0, 1));
  EXPECT_THAT(allowed.at("a/b/c"), ElementsAre(0, 1));
  EXPECT_THAT(allowed.at("a/d"), ElementsAre(1));
}

TEST(WorkTypesTest, TableMatchesTheProto) {
  const auto* oneof = v1::Work::descriptor()->FindOneofByName("type");
  ASSERT_EQ(static_cast<size_t>(oneof->field_count()), WorkTypes().size());
  for (int i = 0; i < oneof->field_count(); ++i) {
    EXPECT_EQ(WorkTypes()[i].name, oneof->field(i)->name());
    v1::Work work;
    work.GetReflection()->MutableMessage(&work, oneof->field(i));
    EXPECT_EQ(WorkTypeOf(work), &WorkTypes()[i]);
  }
  EXPECT_EQ(WorkTypeOf(v1::Work()), nullptr);
}

TEST(WorkTypesTest, WorkersAreWholeGroups) {
  const WorkType pipe_io = {99, "pipe_io", "PipeIo", 2, {}, ""};
  EXPECT_EQ(WorkerCountProblem(pipe_io, 3), "PipeIo requires num_workers divisible by 2, got 3");
  EXPECT_EQ(WorkerCountProblem(pipe_io, 4), "");
  EXPECT_EQ(WorkerCountProblem(pipe_io, 0), "PipeIo requires at least 2 workers, got 0");
  const WorkType fan_out = {99, "futex_fan_out", "FutexFanOut", 5, {}, ""};
  EXPECT_EQ(WorkerCountProblem(fan_out, 12),
            "FutexFanOut requires num_workers divisible by 5, got 12");
  EXPECT_EQ(WorkerCountProblem(WorkTypes()[0], 1), "");
  EXPECT_EQ(WorkerCountProblem(WorkTypes()[0], 1024), "");
  EXPECT_NE(WorkerCountProblem(WorkTypes()[0], 1025), "");
}

TEST(WorkTypesTest, DeclaredWorkersAreBounded) {
  v1::Scenario scenario = Text<v1::Scenario>(
      "step { cgroup { name: 'a' work { bursty {} workers: 2 } work { workers: 4000000000 } } }");
  const auto workers = DeclaredWorkers(scenario);
  EXPECT_EQ(workers.size(), kMaxWorkers);
  EXPECT_EQ(workers[1].work_type, "bursty");
}

std::vector<uint64_t> HoldsMs(const std::string& text) {
  Holds holds = ResolveHolds(Text<v1::Scenario>(text));
  EXPECT_THAT(holds.problems, IsEmpty()) << text;
  for (uint64_t& ns : holds.ns) ns /= 1'000'000;
  return holds.ns;
}

TEST(HoldsTest, SharesOfWhatIsLeft) {
  EXPECT_THAT(HoldsMs("step {}"), ElementsAre(2000));
  EXPECT_THAT(HoldsMs("duration_ms: 1000 step {} step {}"), ElementsAre(500, 500));
  EXPECT_THAT(HoldsMs("step { hold { fraction: 0.5 } } step {} step { hold { ms: 400 } } step {}"),
              ElementsAre(1000, 300, 400, 300));
  EXPECT_THAT(HoldsMs("step { hold { ms: 1 } }"), ElementsAre(1));
  // The sum is not exactly 1 in binary.
  EXPECT_THAT(HoldsMs("step { hold { fraction: 0.7 } } step { hold { fraction: 0.2 } } "
                      "step { hold { fraction: 0.1 } }"),
              ElementsAre(1400, 400, 200));
  EXPECT_THAT(HoldsMs("duration_ms: 100 step { hold { fraction: 0.333333333333 } } "
                      "step { hold { fraction: 0.666666666667 } }"),
              ElementsAre(33, 66));
}

TEST(PlanTest, ResolvesEverything) {
  const v1::Scenario scenario = Text<v1::Scenario>(R"(
    name: "x" topology { preset: "numa2-4llc" } duration_ms: 4000 seed: 7
    scheduler { name: "./build/scx_mine" args: "-x" }
    checks { max_gap_ms: 9000 }
    step { cgroup { name: "a" weight: 50 cpuset { exact { cpus: "6-8" } }
                    work { bursty { burst_ms: 1 } workers: 2 nice: -5 } } hold { ms: 1000 } }
    step { cgroup { name: "b" work { spin_wait {} workers: 1 } } })");
  const auto plan = MakeGuestPlan(scenario, "bin/scx_mine");
  ASSERT_TRUE(plan.ok()) << plan.status();
  const v1::GuestPlan expected = Text<v1::GuestPlan>(R"(
    seed: 7
    scheduler { path: "bin/scx_mine" display_name: "scx_mine" args: "-x"
                attach_timeout_ms: 1800000 still_timeout_ms: 60000 stop_timeout_ms: 10000
                restart_timeout_ms: 10000 }
    step { cgroup { name: "a" cpus: "6-8" mems: "0-1" weight: 50
                    work { type: "bursty" workers: 2 nice: -5
                           burst_ns: 1000000 sleep_ns: 100000000 } }
           hold_ns: 1000000000 start_jitter_ns: 2000000 }
    step { cgroup { name: "b" work { type: "spin_wait" workers: 1 } } hold_ns: 3000000000
           start_jitter_ns: 2000000 }
    report_timeout_ms: 10000 overrun_ms: 1854002
    seed_fork { at_ns: 18446744073709551615 seed: 1 }
    seed_fork { at_ns: 18446744073709551615 seed: 1 }
    seed_fork { at_ns: 18446744073709551615 seed: 1 }
    seed_fork { at_ns: 18446744073709551615 seed: 1 })");
  EXPECT_EQ(plan->ShortDebugString(), expected.ShortDebugString());
  EXPECT_EQ(WorkTypes(scenario), "bursty+spin_wait");
}

// One snapshot serves all runs that attach in the same way.
TEST(PlanTest, AttachPlanHasWhatTheAttachDependsOn) {
  v1::Scenario scenario = Text<v1::Scenario>(R"(
    name: "x" topology { preset: "numa2-4llc" } duration_ms: 4000 seed: 7
    scheduler { name: "./build/scx_mine" args: "-x" }
    step { cgroup { name: "a" work { spin_wait {} workers: 1 } } })");
  const auto attach = [&scenario] {
    return MakeAttachPlan(*MakeGuestPlan(scenario, "bin/scx_mine")).ShortDebugString();
  };
  const v1::GuestPlan expected = Text<v1::GuestPlan>(R"(
    seed: 1
    scheduler { path: "bin/scx_mine" display_name: "scx_mine" args: "-x"
                attach_timeout_ms: 1800000 still_timeout_ms: 60000 stop_timeout_ms: 10000
                restart_timeout_ms: 10000 }
    report_timeout_ms: 5000 overrun_ms: 1830000 attach_only: true)");
  const std::string plain = attach();
  EXPECT_EQ(plain, expected.ShortDebugString());
  scenario.set_seed(8);
  scenario.set_duration_ms(9000);
  scenario.mutable_checks()->set_max_gap_ms(20000);
  *scenario.add_step() = scenario.step(0);
  scenario.mutable_perturb()->mutable_pct()->set_change_points(3);
  scenario.mutable_perturb()->set_intensity(0);
  EXPECT_EQ(attach(), plain);
  // Bursts, by children that start before the scheduler.
  scenario.mutable_perturb()->set_intensity(1);
  const std::string disturbed = attach();
  EXPECT_NE(disturbed, plain);
  scenario.set_duration_ms(3000);
  EXPECT_EQ(attach(), disturbed);
  scenario.mutable_scheduler()->add_args("-y");
  EXPECT_NE(attach(), disturbed);
}

TEST(PlanTest, GivesUpLaterThanAnythingItWaitsFor) {
  for (const CannedScenario& canned : CannedScenarios()) {
    const auto parsed = ParseScenario(canned.text, canned.name);
    const auto plan = MakeGuestPlan(parsed.scenario, "");
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_GT(plan->overrun_ms(), DurationMs(parsed.scenario) + plan->report_timeout_ms());
    EXPECT_GT(GuestLimitMs(parsed.scenario), plan->overrun_ms() + kStopTimeoutMs);
    EXPECT_GT(plan->report_timeout_ms(), MaxGapMs(parsed.scenario));
  }
}

TEST(PlanTest, RefusesWhatDoesNotFit) {
  v1::Scenario scenario = Text<v1::Scenario>("name: 'x' step {}");
  EXPECT_TRUE(MakeGuestPlan(scenario, "").ok());
  EXPECT_EQ(MakeGuestPlan(scenario, "bin/s").status().code(), absl::StatusCode::kInvalidArgument);
  scenario.mutable_scheduler()->set_name("s");
  EXPECT_TRUE(MakeGuestPlan(scenario, "bin/s").ok());
  EXPECT_EQ(MakeGuestPlan(scenario, "").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(PlanTest, Defaults) {
  v1::Scenario scenario;
  EXPECT_EQ(SeedOf(scenario), 1u);
  EXPECT_EQ(DurationMs(scenario), 2000u);
  EXPECT_EQ(MemoryMb(scenario, MakeTopology("")), 1024u);
  EXPECT_EQ(MemoryMb(scenario,
                     MakeTopology("numa_nodes: 1 llcs: 4 cores_per_llc: 8 threads_per_core: 1")),
            2048u);
  scenario.set_memory_mb(300);
  EXPECT_EQ(MemoryMb(scenario, MakeTopology("preset: 'smt-2llc'")), 300u);
}

TEST(ValidateTest, StatusHoldsAllProblems) {
  const absl::Status status = ValidationStatus(Text<v1::Scenario>("seed: 1 memory_mb: 1"));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(std::string(status.message()),
            "name: name is missing; 1 to 64 of [A-Za-z0-9_.-]\n"
            "memory_mb: memory_mb 1 is out of range; allowed: 256 to 16384\n"
            "step: scenario has no step; at least one is needed");
  EXPECT_TRUE(ValidationStatus(Text<v1::Scenario>("name: 'x' step {}")).ok());
}

TEST(CannedTest, AllAreValidAndDescribed) {
  EXPECT_GE(CannedScenarios().size(), 8u);
  for (const CannedScenario& canned : CannedScenarios()) {
    const ParseResult result = ParseScenario(canned.text, canned.name);
    for (const Problem& problem : result.problems) ADD_FAILURE() << problem.ToString();
    EXPECT_EQ(result.scenario.name(), canned.name);
    EXPECT_EQ(result.scenario.description(), canned.description);
    EXPECT_FALSE(result.scenario.has_scheduler()) << canned.name;
    EXPECT_EQ(FindCanned(canned.name), &canned);
  }
  EXPECT_EQ(FindCanned("nope"), nullptr);
  ASSERT_NE(FindCanned("steady"), nullptr);
}

TEST(NearestTest, OnlyTypingErrors) {
  EXPECT_EQ(NearestName("wrok", {"name", "work"}), "work");
  EXPECT_EQ(NearestName("duration", {"duration_ms", "name"}), "");
  EXPECT_EQ(NearestName("durations_ms", {"duration_ms", "name"}), "duration_ms");
  EXPECT_EQ(NearestName("xyz", {"name", "work"}), "");
  EXPECT_EQ(NearestName("", {"of"}), "");
  EXPECT_EQ(NearestName("zz", {"of"}), "");
  EXPECT_EQ(NearestName(std::string(1000, 'a'), {"aaa"}), "");
  EXPECT_EQ(DidYouMean("wrok", {"work"}), "; did you mean 'work'?");
  EXPECT_EQ(DidYouMean("xyz", {"work"}), "");
}

TEST(JsonTest, CanonicalMapping) {
  v1::KernelMetadata metadata;
  metadata.set_schema_version(1);
  metadata.set_key("deb-x");
  metadata.set_created_unix_s(5);
  const auto json = ToJson(metadata, /*pretty=*/false);
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ(
      *json,
      R"({"schemaVersion":1,"key":"deb-x","version":"","release":"","source":"","sourceDetail":"",)"
      R"("arch":"","files":[],"createdUnixS":"5","schedExt":false,"buildId":""})");
  v1::KernelMetadata back;
  ASSERT_TRUE(FromJson(*json, &back).ok());
  EXPECT_EQ(back.ShortDebugString(), metadata.ShortDebugString());
  EXPECT_THAT(*ToJson(metadata, /*pretty=*/true), ::testing::EndsWith("}\n"));
}

TEST(JsonTest, NewerFieldsAreSkippedAndBadInputIsRefused) {
  v1::KernelMetadata metadata;
  metadata.set_key("old");
  EXPECT_TRUE(FromJson(R"({"schemaVersion": 9, "shinyNew": [1]})", &metadata).ok());
  EXPECT_EQ(metadata.schema_version(), 9u);
  EXPECT_EQ(metadata.key(), "");
  for (const char* bad : {"", "{", "[]", R"({"schemaVersion": "x"})", R"({"files": 5})", "\xff"}) {
    EXPECT_EQ(FromJson(bad, &metadata).code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

}  // namespace
}  // namespace ktstr::scenario
