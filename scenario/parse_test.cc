// SPDX-License-Identifier: Apache-2.0
//
// Bad scenario files, each with all lines that the user sees.

#include "scenario/parse.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ktstr::scenario {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

std::vector<std::string> ProblemsIn(std::string_view text) {
  std::vector<std::string> lines;
  for (const Problem& problem : ParseScenario(text, "f").problems)
    lines.push_back(problem.ToString());
  return lines;
}

struct Case {
  const char* name;
  const char* text;
  std::vector<std::string> problems;
};

// A scenario around the fields of one cgroup, which begin at 2:3.
std::string InCgroup(const std::string& fields) {
  return "name: \"x\" step { cgroup {\n  " + fields + "\n} }\n";
}

std::string InCgroup(const std::string& fields, const std::string& topology) {
  return "name: \"x\" topology { " + topology + " } step { cgroup {\n  " + fields + "\n} }\n";
}

class BadText : public ::testing::TestWithParam<Case> {};

TEST_P(BadText, ReportsEveryProblemAtItsPlace) {
  EXPECT_THAT(ProblemsIn(GetParam().text), ElementsAreArray(GetParam().problems));
}

const Case kBadText[] = {
    {"Empty", "", {"f:1:1: the file is empty; a scenario needs at least a name and a step"}},
    {"Blank",
     " \n\t\r\n",
     {"f:1:1: the file is empty; a scenario needs at least a name and a step"}},
    {"CommentsOnly",
     "# nothing\n",
     {"f:1:1: name is missing; 1 to 64 of [A-Za-z0-9_.-]",
      "f:1:1: scenario has no step; at least one is needed"}},
    {"InvalidUtf8",
     "name: \"\xff\xfe\" step {}",
     {"f:1:1: this is a binary file, not a scenario in protobuf text format (UTF-8)"}},
    {"UnknownFieldNear",
     "nme: \"x\"\nstep {}\n",
     {"f:1:1: Scenario has no field 'nme'; did you mean 'name'?"}},
    {"UnknownFieldFar",
     "name: \"x\" step {}\nwidgets { a: 1 }\n",
     {"f:2:1: Scenario has no field 'widgets'; it has name, description, topology, memory_mb, "
      "duration_ms, scheduler, step, checks, seed, perturb, seed_fork, vcpu_mips"}},
    {"UnknownFieldInEmptyMessage",
     "name: \"x\" step { cgroup { name: \"a\" work { spin_wait { spins: 1 } workers: 1 } } }",
     {"f:1:56: SpinWait has no field 'spins'; it has none"}},
    {"SeveralUnknown",
     "name: \"x\"\nfoo_bar_baz: [1, 2]\nstep { hlod { ms: 5 } cgroup { name: \"a\" cpuest {} } }\n",
     {"f:2:1: Scenario has no field 'foo_bar_baz'; it has name, description, topology, memory_mb, "
      "duration_ms, scheduler, step, checks, seed, perturb, seed_fork, vcpu_mips",
      "f:3:8: Step has no field 'hlod'; did you mean 'hold'?",
      "f:3:42: Cgroup has no field 'cpuest'; did you mean 'cpuset'?"}},
    {"UnknownTypeDoesNotAddMissingType",
     "name: \"x\" step { cgroup { name: \"a\" work { spinwait {} workers: 1 } } }",
     {"f:1:44: Work has no field 'spinwait'; did you mean 'spin_wait'?"}},
    {"Extension",
     "name: \"x\" step {}\n[foo.bar]: 5",
     {"f:2:10: a scenario has no extension 'foo.bar'"}},
    {"WrongTypes",
     "name: 5\nduration_ms: \"long\"\nstep { cgroup { name: \"a\" weight: -1 } hold { fraction: "
     "half } }\n"
     "checks { isolation: maybe max_gap_ms: 1.5 }\n",
     {"f:1:7: Expected string, got: 5", "f:2:14: Expected integer, got: \"long\"",
      "f:3:35: Expected integer, got: -", "f:3:57: Expected double, got: half",
      "f:4:21: Invalid value for boolean field \"isolation\". Value: \"maybe\".",
      "f:4:39: Expected integer, got: 1.5"}},
    {"WrongTypeBesideWrongMeaning",
     "name: \"x\"\nstep { cgroup { name: \"a\" work { spin_wait {} workers: two nice: 99 } } }\n",
     {"f:2:56: Expected integer, got: two", "f:2:60: nice 99 is out of range; allowed: -20 to 19"}},
    {"WrongTypeInList",
     "name: \"x\" step {}\nscheduler { name: \"s\" args: [\"a\", 5] }",
     {"f:2:35: Expected string, got: 5"}},
    {"ListForSingular",
     "name: \"x\" step {}\nscheduler { name: \"s\" attach_timeout_ms: [1, 2] }",
     {"f:2:42: Expected integer, got: ["}},
    {"MessageExpected",
     "name: \"x\" step {}\ntopology: 5",
     {"f:2:11: Expected \"{\", found \"5\"."}},
    {"IntegerTooBig",
     "name: \"x\" step {}\nseed: 99999999999999999999999",
     {"f:2:7: Integer out of range (99999999999999999999999)"}},
    {"GivenTwice",
     "name: \"x\"\nname: \"y\"\nstep {}\n",
     {"f:2:1: Non-repeated field \"name\" is specified multiple times."}},
    {"TwoOfOneof",
     "name: \"x\" step { cgroup { name: \"a\" work {\n spin_wait {} bursty {} workers: 1 } } }",
     {"f:2:15: Field \"bursty\" is specified along with field \"spin_wait\", another member of "
      "oneof "
      "\"type\"."}},
    {"Unclosed",
     "name: \"x\"\nstep {\n",
     {"f:3:1: the file ends inside a message: a closing brace is missing"}},
    {"ClosedTwice", "name: \"x\" step {} }", {"f:1:19: Expected identifier, got: }"}},
    {"OpenString", "name: \"x\n", {"f:1:9: String literals cannot cross line boundaries."}},
    {"NoValue", "step {}\nname: ", {"f:2:7: the file ends where a value is expected"}},
    {"Json", "{\"name\": \"x\"}", {"f:1:1: Expected identifier, got: {"}},
    {"TabsCountToEight", "name: \"x\" step {}\n\tseed: x", {"f:2:15: Expected integer, got: x"}},
};

INSTANTIATE_TEST_SUITE_P(Text, BadText, ::testing::ValuesIn(kBadText),
                         [](const auto& info) { return std::string(info.param.name); });

class BadMeaning : public ::testing::TestWithParam<Case> {};

TEST_P(BadMeaning, ReportsEveryProblemAtItsPlace) {
  EXPECT_THAT(ProblemsIn(GetParam().text), ElementsAreArray(GetParam().problems));
}

const Case kBadMeaning[] = {
    {"NameMissing", "step {}\n", {"f:1:1: name is missing; 1 to 64 of [A-Za-z0-9_.-]"}},
    {"NameNotAllowed",
     "step {}\nname: \"a/b\"",
     {"f:2:1: name 'a/b' is not allowed; 1 to 64 of [A-Za-z0-9_.-]"}},
    {"NameDots",
     "step {} name: \"..\"",
     {"f:1:9: name '..' is not allowed; 1 to 64 of [A-Za-z0-9_.-]"}},
    {"NoStep", "name: \"x\"", {"f:1:1: scenario has no step; at least one is needed"}},
    {"HeadRanges",
     "name: \"x\" step {}\nmemory_mb: 255\nduration_ms: 99\ndescription: \"a\\nb\"",
     {"f:2:1: memory_mb 255 is out of range; allowed: 256 to 16384",
      "f:3:1: duration_ms 99 is out of range; allowed: 100 to 3600000",
      "f:4:1: description has more than one line"}},
    {"BytesInStrings",
     "name: \"x\" step {}\ndescription: \"\\377\"\nscheduler { name: \"\\376\" args: \"a\" args: "
     "\"\\000\" }",
     {"f:2:1: description is not valid UTF-8", "f:3:13: scheduler name is not valid UTF-8",
      "f:3:36: scheduler argument holds a NUL byte"}},
    {"Scheduler",
     "name: \"x\" step {}\nscheduler { attach_timeout_ms: 3600001 }",
     {"f:2:1: scheduler name is missing; leave the scheduler out to test the kernel's own (EEVDF)",
      "f:2:13: attach_timeout_ms 3600001 is out of range; allowed: 1 to 3600000"}},
    {"PresetUnknown",
     "name: \"x\" step {}\ntopology { preset: \"tiny-2lcl\" }",
     {"f:2:12: no topology preset 'tiny-2lcl'; did you mean 'tiny-2llc'?; see 'ktstrctl list "
      "presets'"}},
    {"PresetAndCounts",
     "name: \"x\" step {}\ntopology { preset: \"tiny-2llc\" llcs: 2 }",
     {"f:2:12: preset 'tiny-2llc' excludes the four counts; give one or the other"}},
    {"CountsMissing",
     "name: \"x\" step {}\ntopology { llcs: 2 cores_per_llc: 2 threads_per_core: 3 }",
     {"f:2:1: numa_nodes is missing or 0; a topology without a preset needs all four counts, each "
      "at "
      "least 1",
      "f:2:37: threads_per_core 3 is out of range; allowed: 1 or 2"}},
    {"LlcsNotMultiple",
     "name: \"x\" step {}\ntopology { numa_nodes: 2 llcs: 3 cores_per_llc: 2 threads_per_core: 1 }",
     {"f:2:26: llcs 3 is not a multiple of numa_nodes 2; llcs counts the whole machine"}},
    {"TooManyCpus",
     "name: \"x\" step {}\n"
     "topology { numa_nodes: 1 llcs: 16 cores_per_llc: 4294967295 threads_per_core: 2 }",
     {"f:2:1: topology has 16 LLCs of 4294967295 cores with 2 threads; at most 255 CPUs are "
      "possible"}},
    {"TooManyNodes",
     "name: \"x\" step {}\ntopology { numa_nodes: 17 llcs: 17 cores_per_llc: 1 threads_per_core: 1 "
     "}",
     {"f:2:12: numa_nodes 17 is out of range; allowed: 1 to 16"}},
    {"CgroupNameMissing",
     "name: \"x\"\nstep {\n  cgroup { weight: 10001 }\n}",
     {"f:3:3: cgroup name is missing",
      "f:3:12: weight 10001 is out of range; allowed: 1 to 10000"}},
    {"CgroupNames",
     "name: \"x\" step {\ncgroup { name: \"/a\" }\ncgroup { name: \"a//b\" }\ncgroup { name: "
     "\"../b\" }\n"
     "cgroup { name: \"a b\" }\ncgroup { name: \"cgroup.procs\" }\n}",
     {"f:2:10: cgroup name '/a' is not allowed; components are 1 to 64 of [A-Za-z0-9_.-], joined "
      "by '/'",
      "f:3:10: cgroup name 'a//b' is not allowed; components are 1 to 64 of [A-Za-z0-9_.-], joined "
      "by "
      "'/'",
      "f:4:10: cgroup name '../b' is not allowed; components are 1 to 64 of [A-Za-z0-9_.-], joined "
      "by "
      "'/'",
      "f:5:10: cgroup name 'a b' is not allowed; components are 1 to 64 of [A-Za-z0-9_.-], joined "
      "by '/'",
      "f:6:10: cgroup name 'cgroup.procs' is not allowed: the kernel's own files begin with "
      "'cgroup.'"}},
    {"CgroupTwice",
     "name: \"x\" step { cgroup { name: \"a\" } }\nstep { cgroup { name: \"a\" } }",
     {"f:2:17: cgroup 'a' exists already; names are unique in the scenario"}},
    {"WorkInParent",
     "name: \"x\" step {\ncgroup { name: \"a/b/c\" }\n"
     "cgroup { name: \"a\" work { spin_wait {} workers: 1 } } }",
     {"f:2:10: cgroup 'a' has work and a child 'a/b/c'; cgroup v2 keeps processes in leaves: move "
      "the "
      "work into a child of its own"}},
    {"ChildOutsideParent",
     "name: \"x\" step { cgroup { name: \"a\" cpuset { exact { cpus: \"0-1\" } } }\n"
     "cgroup { name: \"a/b\" cpuset { exact { cpus: \"1-2\" } } } }",
     {"f:2:22: cgroup 'a/b': cpuset validation failed: CPUs 1-2 are not all among the CPUs 0-1 of "
      "the "
      "enclosing cgroup 'a' (topology 1n1l4c1t)"}},
    {"NoWorkers",
     "name: \"x\" step { cgroup { name: \"a\"\nwork { spin_wait {} }\nwork { bursty {} workers: 0 "
     "}\n"
     "work { spin_wait {} workers: 1025 } } }",
     {"f:2:1: cgroup 'a': SpinWait requires at least 1 worker, got 0",
      "f:3:18: cgroup 'a': Bursty requires at least 1 worker, got 0",
      "f:4:21: cgroup 'a': SpinWait allows at most 1024 workers, got 1025"}},
    {"TooManyWorkers",
     "name: \"x\" step { cgroup { name: \"a\" work { spin_wait {} workers: 1024 }\n"
     "work { spin_wait {} workers: 1024 } work { spin_wait {} workers: 1024 }\n"
     "work { spin_wait {} workers: 1024 } work { spin_wait {} workers: 1 } } }",
     {"f:1:1: scenario has 4097 workers; at most 4096"}},
    {"WorkFields",
     "name: \"x\" step { cgroup { name: \"a\"\nwork { workers: 1 nice: -21 }\n"
     "work { bursty { burst_ms: 0 sleep_ms: 60001 } workers: 1 nice: 20 } } }",
     {"f:2:1: cgroup 'a': work has no type; give one of spin_wait, bursty",
      "f:2:19: nice -21 is out of range; allowed: -20 to 19",
      "f:3:17: burst_ms 0 is out of range; allowed: 1 to 60000",
      "f:3:29: sleep_ms 60001 is out of range; allowed: 1 to 60000",
      "f:3:58: nice 20 is out of range; allowed: -20 to 19"}},
    {"HoldValues",
     "name: \"x\"\nstep { hold { fraction: 0 } }\nstep { hold { fraction: 1.5 } }\nstep { hold { "
     "fraction: nan } "
     "}\nstep { hold { ms: 0 } }\nstep { hold {} }",
     {"f:2:8: hold fraction must lie in (0.0, 1.0], got 0",
      "f:3:8: hold fraction must lie in (0.0, 1.0], got 1.5",
      "f:4:8: hold fraction must lie in (0.0, 1.0], got nan",
      "f:5:8: hold ms must be at least 1, got 0",
      "f:6:8: hold is empty; give fraction or ms, or leave it out for an equal share of the rest"}},
    {"HoldFractionsOverOne",
     "name: \"x\"\nstep { hold { fraction: 0.75 } }\nstep { hold { fraction: 0.5 } }",
     {"f:3:8: hold fractions add up to 1.25, more than 1"}},
    {"HoldsTooLong",
     "name: \"x\"\nstep { hold { fraction: 0.75 } }\nstep { hold { ms: 501 } }",
     {"f:3:8: holds add up to 2001ms, more than duration_ms 2000"}},
    {"HoldsLeaveNothing",
     "name: \"x\"\nstep { hold { ms: 2000 } }\nstep {}\nstep {}",
     {"f:2:8: holds leave nothing of duration_ms 2000 for the 2 steps without a hold"}},
    {"Checks",
     "name: \"x\" step {}\nchecks { max_gap_ms: 0 max_spread_pct: 100.5 }",
     {"f:2:10: max_gap_ms 0 is out of range; allowed: 1 to 3600000",
      "f:2:24: max_spread_pct 100.5 is out of range; allowed: 0 to 100"}},
    {"Perturb",
     "name: \"x\" step {}\nperturb { intensity: 4 pct { change_points: 9 } }",
     {"f:2:11: intensity 4 is out of range; allowed: 0 to 3",
      "f:2:30: change_points 9 is out of range; allowed: 0 to 8"}},
    {"PerturbKindsWithoutIntensity",
     "name: \"x\" step {}\nperturb { intensity: 0\n bursts: true moves: false timers: true }",
     {"f:3:2: bursts is on, but intensity 0 turns all disturbances off; give intensity 1 to 3",
      "f:3:28: timers is on, but intensity 0 turns all disturbances off; give intensity 1 to 3"}},
    {"HotplugOfOneCpu",
     "name: \"x\" step {}\nperturb { hotplug: true }\n"
     "topology { numa_nodes: 1 llcs: 1 cores_per_llc: 1 threads_per_core: 1 }",
     {"f:2:11: hotplug needs a CPU besides CPU 0 that is not the only one of a cpuset; there is "
      "none (topology 1n1l1c1t)"}},
    {"SeedForks",
     "name: \"x\" step {}\nseed_fork { seed: 3 }\nseed_fork { at_ms: 9 seed: 3 }\n"
     "seed_fork { at_ms: 9 }\nseed_fork { at_ms: 3600001 }\nseed_fork { at_ms: 10 }",
     {"f:2:1: at_ms 0 is out of range; allowed: 1 to 3600000",
      "f:4:13: at_ms 9 does not lie after the fork before, 9",
      "f:5:13: at_ms 3600001 is out of range; allowed: 1 to 3600000",
      "f:6:1: 5 seed forks, at most 4"}},
};

std::string Repeated(const std::string& text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

// At the limit nothing is wrong; one beyond is named with its place, its value and the limit.
TEST(ParseScenario, LimitsOfCountsAndLengths) {
  const auto steps = [](int n) {
    return "name: \"x\" duration_ms: 60000" + Repeated("\nstep {}", n);
  };
  EXPECT_THAT(ProblemsIn(steps(1000)), IsEmpty());
  EXPECT_THAT(ProblemsIn(steps(1001)), ElementsAre("f:1002:1: step: 1001 steps, at most 1000"));
  const auto cgroups = [](int n) {
    std::string text = "name: \"x\"\nstep {";
    for (int i = 0; i < n; ++i) text += "\ncgroup { name: \"c" + std::to_string(i) + "\" }";
    return text + "}";
  };
  EXPECT_THAT(ProblemsIn(cgroups(1024)), IsEmpty());
  EXPECT_THAT(ProblemsIn(cgroups(1025)),
              ElementsAre("f:1027:1: cgroup: 1025 cgroups in all steps, at most 1024"));
  const auto work = [](int n) {
    return "name: \"x\"\nstep { cgroup { name: \"a\"" +
           Repeated("\nwork { spin_wait {} workers: 1 }", n) + "} }";
  };
  EXPECT_THAT(ProblemsIn(work(4096)), IsEmpty());
  EXPECT_THAT(ProblemsIn(work(4097)),
              ElementsAre("f:4099:1: work: 4097 work entries in all, at most 4096"));
  const auto texts = [](int more) {
    return "name: \"" + std::string(64 + more, 'n') + "\"\ndescription: \"" +
           std::string(1024 + more, 'd') + "\"\nscheduler {\nname: \"" +
           std::string(1024 + more, 's') + "\"" + Repeated("\nargs: \"\"", 1024 + more) +
           "}\nstep {}";
  };
  EXPECT_THAT(ProblemsIn(texts(0)), IsEmpty());
  EXPECT_THAT(ProblemsIn(texts(1)),
              ElementsAre("f:1:1: name: 65 bytes, at most 64",
                          "f:2:1: description: 1025 bytes, at most 1024",
                          "f:4:1: scheduler name: 1025 bytes, at most 1024",
                          "f:1029:1: scheduler args: 1025 arguments, at most 1024"));
  const auto args = [](int more) {
    return "name: \"x\" step {} scheduler { name: \"s\"\nargs: \"" + std::string(32000, 'a') +
           "\"\nargs: \"" + std::string(766 + more, 'b') + "\" }";
  };
  EXPECT_THAT(ProblemsIn(args(0)), IsEmpty());
  EXPECT_THAT(ProblemsIn(args(1)),
              ElementsAre("f:3:1: scheduler args: 32769 bytes together, at most 32768"));
  const auto cpus = [](int more) {
    return "name: \"x\" step { cgroup { name: \"a\"\ncpuset { exact { cpus: \"" +
           std::string(4095 + more, '0') + "1\" } } } }";
  };
  EXPECT_THAT(ProblemsIn(cpus(0)), IsEmpty());
  EXPECT_THAT(ProblemsIn(cpus(1)), ElementsAre("f:2:1: cgroup 'a': cpuset validation failed: "
                                               "cpus: 4097 bytes, at most 4096"));
}

INSTANTIATE_TEST_SUITE_P(Meaning, BadMeaning, ::testing::ValuesIn(kBadMeaning),
                         [](const auto& info) { return std::string(info.param.name); });

struct CpusetCase {
  const char* name;
  const char* cpuset;
  const char* message;
};

class BadCpuset : public ::testing::TestWithParam<CpusetCase> {};

// One LLC of five CPUs: four are usable.
TEST_P(BadCpuset, NamesCgroupSpecTopologyAndNumbers) {
  const std::string text =
      InCgroup("name: \"cg_0\"\n  cpuset { " + std::string(GetParam().cpuset) + " }",
               "numa_nodes: 1 llcs: 1 cores_per_llc: 5 threads_per_core: 1");
  const std::string spec = GetParam().cpuset[0] == '\0' ? "no kind set" : GetParam().cpuset;
  EXPECT_THAT(ProblemsIn(text),
              ElementsAre("f:3:3: cgroup 'cg_0': cpuset validation failed: " +
                          std::string(GetParam().message) + " (" + spec + ", topology 1n1l5c1t)"));
}

const CpusetCase kBadCpusets[] = {
    {"Empty", "",
     "cpuset is empty; give one of llc, numa, range, disjoint, overlap, exact, or leave it out for "
     "all "
     "CPUs"},
    {"Llc", "llc: 1", "no LLC 1: the topology has 1, from 0"},
    {"Numa", "numa: 4294967295", "no NUMA node 4294967295: the topology has 1, from 0"},
    {"TooFewForPartitions", "disjoint { of: 8 }", "not enough usable CPUs (4) for 8 partitions"},
    {"IndexPastPartitions", "disjoint { index: 3 of: 3 }", "index 3 >= partition count 3"},
    {"NoPartitions", "disjoint { index: 1 }", "partition count must be at least 1, got 0"},
    {"OverlapTooFew", "overlap { of: 5 fraction: 0.5 }",
     "not enough usable CPUs (4) for 5 partitions"},
    {"OverlapIndex", "overlap { index: 2 of: 2 fraction: 0.5 }", "index 2 >= partition count 2"},
    {"OverlapFraction", "overlap { of: 2 fraction: 1.5 }",
     "overlap fraction must lie in [0.0, 1.0]: fraction=1.5"},
    {"OverlapNan", "overlap { of: 2 fraction: nan }",
     "overlap fraction must lie in [0.0, 1.0]: fraction=nan"},
    {"RangeNegative", "range { start: -1 end: 0.5 }",
     "range fractions must lie in [0.0, 1.0]: start=-1, end=0.5"},
    {"RangeInfinite", "range { end: inf }",
     "range fractions must lie in [0.0, 1.0]: start=0, end=inf"},
    {"RangeBackwards", "range { start: 0.5 end: 0.25 }",
     "range start must lie below its end: start=0.5, end=0.25"},
    {"RangeEmpty", "range { start: 0.5 end: 0.5 }",
     "range start must lie below its end: start=0.5, end=0.5"},
    {"ExactBeyond", "exact { cpus: \"0-5\" }", "no CPU 5: the topology has CPUs 0-4"},
    {"ExactNone", "exact { }", "exact names no CPU"},
};

INSTANTIATE_TEST_SUITE_P(Cpuset, BadCpuset, ::testing::ValuesIn(kBadCpusets),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Parse, ExactCpuListSyntaxNamesTheCgroup) {
  const auto problems = ProblemsIn(InCgroup("name: \"a\" cpuset { exact { cpus: \"0-\" } }"));
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_THAT(problems[0], ::testing::StartsWith("f:2:13: cgroup 'a': cpuset validation failed: "));
}

TEST(Parse, BinaryFileWithNulByte) {
  const std::string elf(
      "\x7f"
      "ELF\x02\x01\x01\0\0\0",
      10);
  EXPECT_THAT(
      ProblemsIn(elf),
      ElementsAre("f:1:1: this is a binary file, not a scenario in protobuf text format (UTF-8)"));
}

TEST(Parse, ByteOrderMarkIsSkipped) {
  EXPECT_THAT(ProblemsIn("\xef\xbb\xbfname: \"x\" step {}"), IsEmpty());
  EXPECT_THAT(ProblemsIn("\xef\xbb\xbfname: 5 step {}"),
              ElementsAre(::testing::StartsWith("f:1:7: ")));
  EXPECT_THAT(ProblemsIn("\xef\xbb\xbf"),
              ElementsAre("f:1:1: the file is empty; a scenario needs at least a name and a step"));
}

TEST(Parse, OneByteTooLarge) {
  std::string text = "name: \"x\" step {}";
  text.resize(kMaxScenarioBytes, ' ');
  EXPECT_THAT(ProblemsIn(text), IsEmpty());
  text += ' ';
  EXPECT_THAT(
      ProblemsIn(text),
      ElementsAre("f:1:1: file of 1048577 bytes is too large for a scenario; at most 1048576"));
}

TEST(Parse, MoreStepsThanMilliseconds) {
  std::string text = "name: \"x\" duration_ms: 100\n";
  for (int i = 0; i < 101; ++i) text += "step {} ";
  EXPECT_THAT(ProblemsIn(text),
              ElementsAre("f:2:1: duration_ms 100 is too short for 101 steps; each is held for at "
                          "least 1ms"));
}

TEST(Parse, DeepNestingIsRefused) {
  std::string text;
  for (int i = 0; i < 100000; ++i) text += "a{";
  const auto problems = ProblemsIn(text);
  ASSERT_FALSE(problems.empty());
  EXPECT_THAT(problems.back(), ::testing::HasSubstr("too deep"));
}

// The number of problems is bounded, and with it the time that they take.
TEST(Parse, ManyWrongValuesEnd) {
  std::string text = "name: \"x\"\n";
  while (text.size() < kMaxScenarioBytes - 100) text += "step { hold { ms: x } }\n";
  EXPECT_LE(ProblemsIn(text).size(), 30u);
}

TEST(Parse, ReadsWhatIsThere) {
  const ParseResult result = ParseScenario(
      "# a comment\nname: 'x' topology < preset: \"tiny-2llc\" >\n"
      "step [ { cgroup { name: \"a\" } }, { hold { ms: 5 } } ]\n",
      "f");
  EXPECT_THAT(result.problems, IsEmpty());
  EXPECT_EQ(result.scenario.name(), "x");
  EXPECT_EQ(result.scenario.topology().preset(), "tiny-2llc");
  EXPECT_EQ(result.scenario.step_size(), 2);
  EXPECT_EQ(result.scenario.step(1).hold().ms(), 5u);
}

TEST(Parse, ProblemWithoutPlaceOrFile) {
  EXPECT_EQ((Problem{"f", 0, 0, "step", "m"}).ToString(), "f: m");
  EXPECT_EQ((Problem{"", 0, 0, "step", "m"}).ToString(), "step: m");
  EXPECT_EQ((Problem{"", 0, 0, "", "m"}).ToString(), "m");
}

}  // namespace
}  // namespace ktstr::scenario
