// SPDX-License-Identifier: Apache-2.0
//
// Whose fault it is when a scheduler does not stop in order, or an operation of the agent fails.

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
using ::testing::StartsWith;

constexpr char kScheduled[] =
    "name: 'x' scheduler { name: 'build/scx_mine' } "
    "step { cgroup { name: 'left' work { spin_wait {} workers: 2 } } }";
constexpr char kEnabled[] = "scheduler_state { state: 'enabled' ops: 'mine' }";
constexpr char kStopped[] = "scheduler_exit { cause: STOPPED was_enabled: true }";
constexpr char kBegin0[] = "step_mark { step: 0 edge: BEGIN }";
constexpr char kEnd0[] = "step_mark { step: 0 edge: END }";
constexpr char kDone[] = "vm_end { cause: DONE last_stage: DONE }";

v1::Scenario MakeScenario(const std::string& text = kScheduled) {
  v1::Scenario scenario;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &scenario)) << text;
  return scenario;
}

std::string Report(int index, const std::string& more = "") {
  return absl::StrCat("worker_report { index: ", index, " work_units: 1000 iterations: 10",
                      " wall_time_ns: 2000000000 cpu_time_ns: 1900000000 off_cpu_ns: 100000000",
                      " cpus_used: [0, 1] ", more, " }");
}

// A run that passes.
std::vector<std::string> GoodRun() {
  return {kEnabled, kBegin0, kEnd0, Report(0), Report(1), kStopped, "stage { stage: DONE }", kDone};
}

std::vector<std::string> With(std::vector<std::string> run, const std::string& from,
                              const std::string& to) {
  for (std::string& entry : run) {
    if (entry == from) entry = to;
  }
  return run;
}

v1::Judgement Judge(const std::vector<std::string>& run,
                    const v1::Scenario& scenario = MakeScenario()) {
  std::vector<v1::Observation> observations;
  for (const std::string& text : run) {
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &observations.emplace_back()))
        << text;
  }
  return Evaluate(scenario, observations);
}

// "KIND where: message", with "> " before consequences.
std::vector<std::string> Lines(const v1::Judgement& judgement) {
  std::vector<std::string> lines;
  for (const v1::Finding& finding : judgement.findings()) {
    lines.push_back(absl::StrCat(finding.consequence() ? "> " : "", finding.kind(), " ",
                                 finding.where(), ": ", finding.message()));
  }
  return lines;
}

TEST(StopAndOperations, GoodRunPasses) { EXPECT_EQ(Judge(GoodRun()).verdict(), v1::PASS); }

// --- Memory.

std::string Killed(const std::string& what) {
  return absl::StrCat("out_of_memory { process: 'scx_mine' pid: 9 resident_bytes: 199229440 ",
                      "total_bytes: 242221056 ", what, " }");
}

TEST(OutOfMemory, WhileAttachingTheMachineIsTooSmall) {
  const v1::Judgement judgement =
      Judge({Killed("scheduler: true"), "scheduler_exit { cause: PROCESS_EXITED signal: 9 }",
             "stage { stage: DONE }", kDone});
  EXPECT_EQ(judgement.verdict(), v1::ERROR);
  const auto lines = Lines(judgement);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0],
            "OUT_OF_MEMORY scheduler: the guest ran out of memory: its kernel killed scx_mine (the "
            "scheduler under test, 190 MiB in memory); the guest has 231 MiB. memory_mb "
            "(`--memory-mb`) gives it more");
  EXPECT_THAT(lines[1], StartsWith("> SCHEDULER_DIED"));
}

TEST(OutOfMemory, InTheStepsItIsTheSchedulers) {
  const v1::Judgement judgement =
      Judge({"stage { stage: STEPS_RUNNING }", kEnabled, kBegin0,
             Killed("scheduler: true during_steps: true"), Killed("during_steps: true"),
             "scheduler_exit { cause: PROCESS_EXITED signal: 9 was_enabled: true during_steps: "
             "true steps_total: 1 }",
             Report(0), Report(1), kDone});
  EXPECT_EQ(judgement.verdict(), v1::FAIL);
  const auto lines = Lines(judgement);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0],
            "OUT_OF_MEMORY scheduler: the guest ran out of memory during the workload: its kernel "
            "killed scx_mine (the scheduler under test, 190 MiB in memory) and 1 more; the guest "
            "has 231 MiB. memory_mb (`--memory-mb`) gives it more");
  EXPECT_THAT(lines[1], StartsWith("> SCHEDULER_DIED"));
}

TEST(OutOfMemory, WhileItStops) {
  const v1::Judgement judgement =
      Judge({"stage { stage: STEPS_RUNNING }", kEnabled, kBegin0, kEnd0, Report(0), Report(1),
             "scheduler_exit { cause: STOPPED was_enabled: true signal: 9 }",
             Killed("scheduler: true"), kDone});
  EXPECT_EQ(judgement.verdict(), v1::FAIL);
  const auto lines = Lines(judgement);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_THAT(lines[0], StartsWith("OUT_OF_MEMORY scheduler: the guest ran out of memory: "));
  EXPECT_THAT(lines[1], StartsWith("> SCHEDULER_STOP"));
}

TEST(OutOfMemory, OfAnotherProcessIsTheMachines) {
  const v1::Judgement judgement =
      Judge({kEnabled, kBegin0, Killed("during_steps: true"),
             "worker_lost { index: 1 cgroup: 'left' work_type: 'spin_wait' signal: 9 }", kEnd0,
             Report(0), kStopped, kDone});
  EXPECT_EQ(judgement.verdict(), v1::ERROR);
  const auto lines = Lines(judgement);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_THAT(lines[0], StartsWith("OUT_OF_MEMORY guest: "));
  EXPECT_THAT(lines[1], StartsWith("> WORKER_DIED"));
}

// The kernel kills nobody for an allocation that may fail, as of a BPF map.
TEST(OutOfMemory, ALoadWithEnomemIsTheMachines) {
  for (const char* output : {
           "libbpf: map 'tasks': failed to create: -ENOMEM",
           "libbpf: Error in bpf_create_map_xattr(tasks): Cannot allocate memory(-12)",
           "Error: Failed to load BPF program\\n\\nCaused by:\\n    Cannot allocate memory (os "
           "error 12)",
       }) {
    const v1::Judgement judgement = Judge(
        {absl::StrCat("scheduler_output { data: \"", output, "\\n\" }"),
         "scheduler_exit { cause: PROCESS_EXITED exit_code: 1 }", "stage { stage: DONE }", kDone});
    EXPECT_EQ(judgement.verdict(), v1::ERROR) << output;
    const auto lines = Lines(judgement);
    ASSERT_EQ(lines.size(), 2u) << output;
    EXPECT_THAT(lines[0],
                StartsWith("OUT_OF_MEMORY scheduler: the kernel had no memory for what the "
                           "scheduler loads: "));
    EXPECT_THAT(lines[0], testing::HasSubstr("emory"));
    EXPECT_THAT(lines[0], testing::EndsWith("; the guest has 1024 MiB. memory_mb (`--memory-mb`) "
                                            "gives it more"));
    EXPECT_THAT(lines[1], StartsWith("> SCHEDULER_DIED"));
  }
}

TEST(OutOfMemory, AnotherEndThanByTheEnomemStands) {
  for (const char* end : {"cause: PROCESS_EXITED signal: 11", "cause: ATTACH_TIMEOUT",
                          "cause: EJECTED exit_code: 1 detail: 'disabled (runtime error)'"}) {
    const v1::Judgement judgement =
        Judge({"scheduler_output { data: \"mlockall: Cannot allocate memory (os error 12)\\n\" }",
               absl::StrCat("scheduler_exit { ", end, " }"), "stage { stage: DONE }", kDone});
    EXPECT_EQ(judgement.verdict(), v1::FAIL) << end;
    EXPECT_EQ(judgement.findings_size(), 1) << end;
  }
}

TEST(OutOfMemory, EnomemOnceItIsEnabledIsTheSchedulers) {
  const v1::Judgement judgement = Judge(
      {"stage { stage: STEPS_RUNNING }", kEnabled, kBegin0,
       "scheduler_output { data: \"Error: Cannot allocate memory (os error 12)\\n\" }",
       "scheduler_exit { cause: PROCESS_EXITED exit_code: 1 was_enabled: true during_steps: true "
       "steps_total: 1 }",
       Report(0), Report(1), kDone});
  EXPECT_EQ(judgement.verdict(), v1::FAIL);
  ASSERT_FALSE(Lines(judgement).empty());
  EXPECT_THAT(Lines(judgement)[0], StartsWith("SCHEDULER_DIED"));
}

// --- The scheduler's stop.

TEST(StopAndOperations, AStopInARestartIsNotJudged) {
  const std::string killed = "scheduler_exit { cause: STOPPED was_enabled: true signal: 9 ";
  EXPECT_EQ(Judge(With(GoodRun(), kStopped, killed + "in_restart: true }")).verdict(), v1::PASS);
  EXPECT_EQ(Judge(With(GoodRun(), kStopped, killed + "}")).verdict(), v1::FAIL);
  EXPECT_EQ(
      Judge(With(GoodRun(), kStopped, killed + "in_restart: true still_running: true }")).verdict(),
      v1::FAIL);
}

TEST(StopAndOperations, SchedulerThatDoesNotStopInOrder) {
  const struct {
    const char* exit;
    const char* finding;  // Empty: none.
  } cases[] = {
      {"exit_code: 0", ""},
      {"signal: 2", ""},       // SIGINT's default action.
      {"exit_code: 130", ""},  // The same, reported by a shell.
      {"exit_code: 5", "exited with 5 when it was told to stop"},
      {"exit_code: -1", "exited with -1 when it was told to stop"},
      {"signal: 11", "killed by signal 11 (Segmentation fault) when it was told to stop"},
      {"signal: 9 killed: true", "did not end within 10000ms of SIGINT and had to be killed"},
      {"exit_code: 0 killed: true", "did not end within 10000ms of SIGINT and had to be killed"},
      {"killed: true still_running: true",
       "did not end within 10000ms of SIGINT and had to be killed; SIGKILL did not end it either"},
  };
  for (const auto& each : cases) {
    const std::string exit =
        absl::StrCat("scheduler_exit { cause: STOPPED was_enabled: true ", each.exit, " }");
    const v1::Judgement judged = Judge(With(GoodRun(), kStopped, exit));
    v1::Scenario off = MakeScenario();
    off.mutable_checks()->set_scheduler_stop(false);
    EXPECT_EQ(Judge(With(GoodRun(), kStopped, exit), off).verdict(), v1::PASS) << each.exit;
    if (*each.finding == '\0') {
      EXPECT_EQ(judged.verdict(), v1::PASS) << each.exit;
      continue;
    }
    EXPECT_EQ(judged.verdict(), v1::FAIL) << each.exit;
    EXPECT_THAT(Lines(judged), ElementsAre(absl::StrCat("SCHEDULER_STOP scheduler: the scheduler ",
                                                        each.finding)));
  }
}

TEST(StopAndOperations, StopQuotesTheLastOutput) {
  std::vector<std::string> run =
      With(GoodRun(), kStopped, "scheduler_exit { cause: STOPPED was_enabled: true exit_code: 5 }");
  run.insert(run.begin() + 3, "scheduler_output { data: 'up\\nError: no statistics\\n' }");
  EXPECT_THAT(Lines(Judge(run)),
              ElementsAre("SCHEDULER_STOP scheduler: the scheduler exited with 5 when it was told "
                          "to stop; its last output: Error: no statistics"));
}

// The end that follows a death is no stop.
TEST(StopAndOperations, DeathIsJudgedAsDeathOnly) {
  const v1::Judgement judged = Judge(With(
      GoodRun(), kStopped,
      "scheduler_exit { cause: EJECTED was_enabled: true killed: true signal: 9 during_steps: true "
      "steps_total: 1 }"));
  ASSERT_EQ(judged.findings_size(), 1);
  EXPECT_EQ(judged.findings(0).kind(), "SCHEDULER_DIED");
}

TEST(StopAndOperations, WorkerThatRanOnlyAfterTheSchedulerIsStuck) {
  const v1::Judgement judged = Judge(With(GoodRun(), Report(1), Report(1, "late: true")));
  EXPECT_EQ(judged.verdict(), v1::FAIL);
  EXPECT_THAT(Lines(judged),
              ElementsAre("STUCK cgroup left: stuck 5000ms: worker 1 (spin_wait) did not run after "
                          "the stop signal until the scheduler was gone (threshold 3000ms)"));
}

// --- Operations that fail.

std::string Failed(const std::string& more) {
  return absl::StrCat(
      "operation_failed { message: 'fork of worker 1 for cgroup left: Cannot allocate memory' ",
      more, " }");
}

// The agent ends the steps there; its worker did nothing.
std::vector<std::string> FailedRun(const std::string& more) {
  return {
      kEnabled,     kBegin0,
      Failed(more), "worker_report { index: 0 wall_time_ns: 2000000000 off_cpu_ns: 2000000000 }",
      kStopped,     "stage { stage: DONE }",
      kDone};
}

constexpr char kRoom[] =
    " scheduler_enabled: true free_memory_bytes: 400000000 tasks: 80 max_tasks: 4000";

TEST(StopAndOperations, OperationThatTheSchedulerRefuses) {
  const struct {
    const char* operation;
    const char* callback;
  } cases[] = {{"FORK", "ops.init_task"},
               {"CGROUP_CREATE", "ops.cgroup_init"},
               {"CGROUP_MOVE", "ops.cgroup_prep_move"}};
  for (const auto& each : cases) {
    const v1::Judgement judged =
        Judge(FailedRun(absl::StrCat("operation: ", each.operation, kRoom)));
    EXPECT_EQ(judged.verdict(), v1::FAIL);
    EXPECT_THAT(
        Lines(judged),
        ElementsAre(absl::StrCat("OPERATION_FAILED scheduler: fork of worker 1 for cgroup left: "
                                 "Cannot allocate memory; scheduler scx_mine was enabled, and its ",
                                 each.callback, " can refuse this"),
                    "> STARVED cgroup left: worker 0 (spin_wait) did no work in 2000ms"));
  }
}

// It is the harness's fault when the scheduler is not enabled, the guest has nothing left, there is
// no scheduler, or no callback can refuse the operation.
TEST(StopAndOperations, OperationThatFailsForOtherReasonsIsTheHarnesss) {
  for (const char* more :
       {"operation: FORK free_memory_bytes: 400000000 tasks: 80 max_tasks: 4000",
        "operation: FORK scheduler_enabled: true free_memory_bytes: 4000000 tasks: 80",
        "operation: FORK scheduler_enabled: true free_memory_bytes: 400000000 tasks: 3950 "
        "max_tasks: 4000",
        "scheduler_enabled: true free_memory_bytes: 400000000"}) {
    const v1::Judgement judged = Judge(FailedRun(more));
    EXPECT_EQ(judged.verdict(), v1::ERROR) << more;
    EXPECT_THAT(Lines(judged)[0], StartsWith("HARNESS guest: the guest agent failed: fork of "))
        << more;
  }
  const v1::Scenario eevdf = MakeScenario(
      "name: 'x' step { cgroup { name: 'left' "
      "work { spin_wait {} workers: 2 } } }");
  EXPECT_EQ(
      Judge({kBegin0, Failed(absl::StrCat("operation: FORK", kRoom)), kDone}, eevdf).verdict(),
      v1::ERROR);
}

}  // namespace
}  // namespace ktstr::scenario
