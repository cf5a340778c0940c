// SPDX-License-Identifier: Apache-2.0
#include "client/run_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <map>

#include "base/file.h"
#include "base/subprocess.h"
#include "client/overrides.h"
#include "client/project.h"
#include "scenario/reproduce.h"

// A program that makes runs from options needs no command line parser.
#ifdef CLI11_VERSION
#error "client/run_plan.h includes CLI11"
#endif

namespace ktstr::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Overrides, Values) {
  EXPECT_EQ(ParseDurationMs("5s").value(), 5000u);
  EXPECT_EQ(ParseDurationMs("1m30s").value(), 90000u);
  for (const char* bad : {"", "5", "-1s", "0s", "soon", "1us", "25h", "inf"})
    EXPECT_FALSE(ParseDurationMs(bad).ok()) << bad;
  EXPECT_EQ(ParseTopology("1,2,2,1")->llcs(), 2u);
  EXPECT_EQ(ParseTopology("tiny-2llc")->preset(), "tiny-2llc");
  for (const char* bad : {"1,2", "1,2,2,x", "2,1,1,1", "0,1,1,1", "tiny", "1,1,1,9", "-1,1,1,1"}) {
    EXPECT_FALSE(ParseTopology(bad).ok()) << bad;
  }
  EXPECT_EQ(ParseSeed("7").value(), 7u);
  EXPECT_GT(ParseSeed("random").value(), 0u);
  for (const char* bad : {"", "0", "-1", "1.5", "99999999999999999999"})
    EXPECT_FALSE(ParseSeed(bad).ok()) << bad;
}

absl::Status ParseSet(const std::string& text, v1::Scenario* scenario) {
  const absl::StatusOr<Setting> setting = Setting::Parse(text);
  return setting.ok() ? setting->Apply(scenario) : setting.status();
}

TEST(Overrides, Set) {
  v1::Scenario scenario;
  EXPECT_TRUE(ParseSet("checks.max_gap_ms=500", &scenario).ok());
  EXPECT_TRUE(ParseSet("checks.max_spread_pct=12.5", &scenario).ok());
  EXPECT_TRUE(ParseSet("checks.not_starved=false", &scenario).ok());
  EXPECT_EQ(scenario.checks().max_gap_ms(), 500u);
  EXPECT_EQ(scenario.checks().max_spread_pct(), 12.5);
  EXPECT_TRUE(scenario.checks().has_not_starved() && !scenario.checks().not_starved());
  EXPECT_TRUE(ParseSet("perturb.intensity=2", &scenario).ok());
  EXPECT_TRUE(ParseSet("perturb.pct.change_points=3", &scenario).ok());
  EXPECT_TRUE(ParseSet("perturb.intensity=0", &scenario).ok());
  EXPECT_TRUE(scenario.perturb().has_intensity());
  EXPECT_EQ(scenario.perturb().intensity(), 0u);
  EXPECT_EQ(scenario.perturb().pct().change_points(), 3u);
  for (const char* bad : {"checks.max_gap_ms", "max_gap_ms=1", "checks.x=1",
                          "checks.max_gap_ms=", "checks.max_gap_ms=x", "checks.max_gap_ms=-1",
                          "checks.max_gap_ms=1 isolation: true", "checks=1", "perturb.pct=1",
                          "perturb.pct.change_points.x=1", "perturb.intensity=", "topology.llcs=x",
                          "checks..x=1", "=", "", "duration_ms=7,perturb<>", "duration_ms=5;"}) {
    EXPECT_FALSE(ParseSet(bad, &scenario).ok()) << bad;
  }
}

TEST(Overrides, SetReachesEveryField) {
  v1::Scenario scenario;
  v1::Work* work = scenario.add_step()->add_cgroup()->add_work();
  work->mutable_bursty()->set_burst_ms(1);
  scenario.mutable_scheduler()->add_args("-v");
  for (const char* good :
       {"name=a b", "memory_mb=700", "topology.preset=smt-3llc",
        "scheduler.attach_timeout_ms=90000", "scheduler.args[0]=a: {b}", "step[0].hold.ms=7",
        "step[0].cgroup[0].weight=50", "step[0].cgroup[0].work[0].nice=-3",
        "step[0].cgroup[0].work[0].bursty.burst_ms=9"}) {
    EXPECT_EQ(ParseSet(good, &scenario), absl::OkStatus()) << good;
  }
  EXPECT_EQ(
      scenario.ShortDebugString(),
      "name: \"a b\" topology { preset: \"smt-3llc\" } memory_mb: 700 "
      "scheduler { args: \"a: {b}\" attach_timeout_ms: 90000 } "
      "step { cgroup { work { bursty { burst_ms: 9 } nice: -3 } weight: 50 } hold { ms: 7 } }");
  const std::pair<const char*, const char*> bad[] = {
      {"step[1].hold.ms=7", "step has 1 elements"},
      {"step[0].cgroup[7].weight=1", "cgroup has 1 elements"},
      {"scheduler.args[1]=x", "args has 1 elements"},
      {"step.hold.ms=7", "step has several elements: name one, as step[0]"},
      {"checks[0].max_gap_ms=7", "checks has one value"},
      {"step[x].hold.ms=7", "'step[x]' is not of the form FIELD[NUMBER]"},
      {"step[0.hold.ms=7", "'step[0' is not of the form FIELD[NUMBER]"},
      {"step[-1].hold.ms=7", "FIELD[NUMBER]"},
      {"step[0]=7", "step is set by its fields: "},
      {"step[0].cgroup[0].name[0]=x", "name has one value"},
      {"step[0].nothing=1", "no field 'nothing'. There are: "}};
  for (const auto& [text, message] : bad) {
    EXPECT_THAT(std::string(ParseSet(text, &scenario).message()), HasSubstr(message)) << text;
  }
}

TEST(Overrides, SeedFork) {
  EXPECT_EQ(ParseSeedFork("1s:7")->at_ms(), 1000u);
  EXPECT_EQ(ParseSeedFork("1s:7")->seed(), 7u);
  for (const char* bad : {"", "7", "1s", "1s:", ":7", "1s:0", "1:7", "1s:random"})
    EXPECT_FALSE(ParseSeedFork(bad).ok()) << bad;
  v1::Scenario scenario;
  scenario.add_seed_fork()->set_at_ms(5);
  Overrides overrides;
  overrides.seed_forks = {*ParseSeedFork("300ms:9")};
  ASSERT_TRUE(Apply(overrides, &scenario).ok());
  ASSERT_EQ(scenario.seed_fork_size(), 1);
  EXPECT_EQ(scenario.seed_fork(0).seed(), 9u);
}

TEST(Overrides, StrictGivesWayToTheScenarioAndSetToNone) {
  v1::Scenario scenario;
  scenario.mutable_checks()->set_max_gap_ms(9000);
  Overrides overrides;
  overrides.strict = true;
  ASSERT_TRUE(Apply(overrides, &scenario).ok());
  EXPECT_EQ(scenario.checks().max_gap_ms(), 9000u);
  EXPECT_EQ(scenario.checks().max_spread_pct(), 15);
  overrides.sets = {*Setting::Parse("checks.max_gap_ms=1")};
  ASSERT_TRUE(Apply(overrides, &scenario).ok());
  EXPECT_EQ(scenario.checks().max_gap_ms(), 1u);
}

TEST(Overrides, SchedulerReplacesArguments) {
  v1::Scenario scenario;
  scenario.mutable_scheduler()->set_name("old");
  scenario.mutable_scheduler()->add_args("--old");
  Overrides overrides;
  overrides.scheduler_args = {"--more"};
  ASSERT_TRUE(Apply(overrides, &scenario).ok());
  EXPECT_THAT(scenario.scheduler().args(), ElementsAre("--old", "--more"));
  overrides.scheduler = "new";
  ASSERT_TRUE(Apply(overrides, &scenario).ok());
  EXPECT_EQ(scenario.scheduler().name(), "new");
  EXPECT_THAT(scenario.scheduler().args(), ElementsAre("--more"));
  scenario.clear_scheduler();
  overrides.scheduler.reset();
  EXPECT_THAT(std::string(Apply(overrides, &scenario).message()), HasSubstr("has no scheduler"));
}

TEST(Choices, DeterministicInsistsOnTcg) {
  RunOptions options;
  options.deterministic = true;
  EXPECT_EQ(ParseChoices(options)->engine, v1::TCG);
  options.engine = "kvm";
  EXPECT_THAT(std::string(ParseChoices(options).status().message()), HasSubstr("--engine tcg"));
}

class PlanTest : public ::testing::Test {
 protected:
  PlanTest() : dir_(*base::TempDir::Make("plan")) {
    places_.discovery.working_directory = dir_.path();
    places_.project_commit = "0123456";
    options_.scenarios = {"steady"};
  }
  absl::StatusOr<RunPlan> Plan() { return MakeRunPlan(options_, *ParseChoices(options_), places_); }
  std::string Write(const std::string& name, const std::string& text, int mode = 0644) {
    std::string path = base::JoinPath(dir_.path(), name);
    EXPECT_TRUE(base::MakeDirs(std::string(base::Dirname(path))).ok());
    EXPECT_TRUE(base::WriteFileAtomic(path, text, mode).ok());
    return path;
  }

  base::TempDir dir_;
  PlanPlaces places_;
  RunOptions options_;
};

TEST_F(PlanTest, KernelsTimesRepetitions) {
  options_.kernels = {"7.3", "6.18"};
  options_.repeat = 3;
  options_.detach = true;
  options_.timeout = "90s";
  places_.ci = true;
  const absl::StatusOr<RunPlan> plan = Plan();
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->specs.size(), 6u);
  EXPECT_EQ(plan->specs[0].kernel(), "7.3");
  EXPECT_EQ(plan->specs[3].kernel(), "6.18");
  EXPECT_EQ(plan->specs[0].run_source(), "ci");
  EXPECT_EQ(plan->specs[0].timeout_ms(), 90000u);
  EXPECT_FALSE(plan->specs[0].cancel_when_unwatched());
  EXPECT_EQ(scenario::ReproduceCommand(plan->specs[0].reproduction()),
            "ktstrctl run steady --kernel 7.3 --seed 1 --timeout 90s");
  EXPECT_TRUE(plan->files.empty());
}

TEST_F(PlanTest, KernelFlagWinsOverVariable) {
  places_.kernel = "6.18";
  EXPECT_EQ(Plan()->specs[0].kernel(), "6.18");
  options_.kernels = {"7.3"};
  EXPECT_EQ(Plan()->specs[0].kernel(), "7.3");
}

TEST_F(PlanTest, SchedulerGoesAlongWithItsLibraries) {
  places_.libraries = HostLibraryPlaces();
  options_.scheduler = "/bin/ls";
  options_.scheduler_args = {"--it's"};
  const absl::StatusOr<RunPlan> plan = Plan();
  ASSERT_TRUE(plan.ok()) << plan.status();
  const v1::RunSpec& spec = plan->specs[0];
  EXPECT_EQ(spec.scheduler_path(), "bin/ls");
  EXPECT_EQ(spec.scenario().scheduler().name(), "ls");
  EXPECT_EQ(static_cast<size_t>(spec.files_size()), plan->files.size());
  EXPECT_EQ(spec.reproduction().scheduler_program(), "/bin/ls");
  EXPECT_EQ(scenario::ReproduceCommand(spec.reproduction()),
            "ktstrctl run steady --scheduler /bin/ls --sched-arg='--it'\\''s' --seed 1");
}

TEST(Reproduce, OfAFileThatHoldsTheChanges) {
  RunOptions options;
  options.topology = "1,1,1,1";
  options.sets = {"checks.max_gap_ms=9"};
  options.scheduler = "./scx";
  options.scheduler_args = {"--x"};
  options.timeout = "15s";
  options.warm = "off";
  v1::Reproduction run = ReproductionOf(options, "steady");
  run.set_seed(3);
  run.set_kernel("7.3");
  const v1::Reproduction of_file = ReproductionOfFile(run, "f");
  const std::string command =
      "ktstrctl run f --kernel 7.3 --deterministic --seed 3 --warm off --timeout 15s";
  EXPECT_EQ(scenario::ReproduceCommand(of_file), command);
  const RunOptions back = OptionsOfFile(of_file);
  v1::Reproduction again = ReproductionOf(back, back.scenarios[0]);
  again.set_kernel(back.kernels[0]);
  again.set_seed(*ParseSeed(back.seed));
  EXPECT_EQ(scenario::ReproduceCommand(again), command);
}

TEST_F(PlanTest, DelayProgramGoesAlong) {
  places_.libraries = HostLibraryPlaces();
  options_.scheduler = "/bin/ls";
  options_.scenarios = {
      Write("d.ktstr.txtpb",
            "name: \"d\" step { cgroup { name: \"a\" work { spin_wait {} workers: 1 "
            "} } } perturb { delay_point { callback: \"enqueue\" } }\n")};
  EXPECT_THAT(std::string(Plan().status().message()),
              HasSubstr("perturb.delay_point needs the program scx_delay"));
  // Any program of this machine stands for it; it shares its libraries with the scheduler.
  const absl::StatusOr<std::string> program = base::ReadFile("/bin/ls");
  ASSERT_TRUE(program.ok()) << program.status();
  Write("programs/scx_delay", *program, 0755);
  places_.discovery.program_directory = base::JoinPath(dir_.path(), "programs");
  const absl::StatusOr<RunPlan> plan = Plan();
  ASSERT_TRUE(plan.ok()) << plan.status();
  std::map<std::string, int> paths;
  for (const v1::FileRef& file : plan->specs[0].files()) ++paths[file.guest_path()];
  EXPECT_EQ(paths["bin/ls"], 1);
  EXPECT_EQ(paths["bin/scx_delay"], 1);
  for (const auto& [path, count] : paths) EXPECT_EQ(count, 1) << path;
}

TEST_F(PlanTest, AllProblemsAtOnceAndOnce) {
  options_.scenarios = {"nope", "steady", "oversubscribed"};
  options_.scheduler = "scx_none";
  options_.kernels = {"./bzImage"};
  const absl::StatusOr<RunPlan> plan = Plan();
  ASSERT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument);
  const std::string text(plan.status().message());
  EXPECT_THAT(text, HasSubstr("unknown scenario 'nope'"));
  EXPECT_THAT(text, HasSubstr("kernel import ./bzImage"));
  const size_t first = text.find("scheduler 'scx_none' not found");
  EXPECT_NE(first, std::string::npos);
  EXPECT_EQ(text.find("scheduler 'scx_none' not found", first + 1), std::string::npos);
}

TEST_F(PlanTest, DirectoryInOrderOfNames) {
  const std::string body = "step { cgroup { name: \"a\" work { spin_wait {} workers: 1 } } }\n";
  Write("d/b.ktstr.txtpb", "name: \"b\"\n" + body);
  Write("d/sub/a.ktstr.txtpb", "name: \"sub\"\n" + body);
  Write("d/a.ktstr.txtpb", "name: \"a\"\n" + body);
  Write("d/other.txt", "no scenario");
  options_.scenarios = {base::JoinPath(dir_.path(), "d")};
  const absl::StatusOr<RunPlan> plan = Plan();
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->specs.size(), 3u);
  EXPECT_EQ(plan->specs[0].scenario().name(), "a");
  EXPECT_EQ(plan->specs[2].scenario().name(), "sub");
}

TEST(Discovery, OrderAndPlaces) {
  DiscoveryPlaces places;
  places.scenario_directory = "tests/sched";
  places.working_directory = "/w";
  places.program_directory = "/opt/bin";
  places.path = "/usr/bin::rel:/w/build";
  EXPECT_THAT(SearchDirectories(places),
              ElementsAre("/w/tests/sched", "/w/tests", "/opt/bin", "/w/build", "/w/build/debug",
                          "/w/build/release", "/w/target/debug", "/w/target/release", "/usr/bin",
                          "/w/rel"));
}

TEST(Discovery, FindsTheFirstThatIsAProgram) {
  const base::TempDir dir = *base::TempDir::Make("disc");
  DiscoveryPlaces places;
  places.working_directory = dir.path();
  const auto make = [&](const std::string& name, int mode) {
    const std::string path = base::JoinPath(dir.path(), name);
    ASSERT_TRUE(base::MakeDirs(std::string(base::Dirname(path))).ok());
    ASSERT_TRUE(base::WriteFileAtomic(path, "x", mode).ok());
  };
  make("build/scx", 0644);
  make("target/debug/scx", 0755);
  EXPECT_EQ(FindScheduler("scx", places).value(), dir.path() + "/target/debug/scx");
  EXPECT_EQ(FindScheduler("./target/debug/scx", places).value(),
            dir.path() + "/./target/debug/scx");
  EXPECT_THAT(std::string(FindScheduler("./build/scx", places).status().message()),
              HasSubstr("is not executable"));
  EXPECT_THAT(std::string(FindScheduler("./build", places).status().message()),
              HasSubstr("is a directory"));
  EXPECT_THAT(std::string(FindScheduler("scx_x", places).status().message()),
              HasSubstr("scheduler 'scx_x' not found. Set KTSTR_SCHEDULER or\nplace it next to"));
  places.variable = dir.path() + "/build/scx";
  EXPECT_THAT(std::string(FindScheduler("scx", places).status().message()),
              HasSubstr("KTSTR_SCHEDULER"));
}

TEST(Project, CommitDirtyAndUnknown) {
  const base::TempDir dir = *base::TempDir::Make("git");
  EXPECT_EQ(ProjectCommit(dir.path()), "unknown");
  base::SpawnOptions options;
  options.argv = {"sh", "-c",
                  "git init -q . && echo a >f && git add f && "
                  "git -c user.name=t -c user.email=t@example.org commit -qm t"};
  options.cwd = dir.path();
  ASSERT_TRUE(base::RunCommand(options, absl::Seconds(30))->status.Success());
  const std::string clean = ProjectCommit(dir.path());
  EXPECT_EQ(clean.size(), 7u);
  ASSERT_TRUE(base::WriteFileAtomic(base::JoinPath(dir.path(), "f"), "b").ok());
  EXPECT_EQ(ProjectCommit(dir.path()), clean + "-dirty");
}

}  // namespace
}  // namespace ktstr::client
