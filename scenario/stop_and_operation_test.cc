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

// --- The scheduler's stop.

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
