// SPDX-License-Identifier: Apache-2.0
//
// Findings about the end of a scheduler and their messages, both when they must and when they must
// not come.

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "scenario/testing/run_texts.h"

namespace ktstr::scenario {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// How messages describe the time of a death.
TEST(SchedulerDied, WordingSaysWhen) {
  struct Case {
    std::vector<std::string> before;
    const char* exit;
    const char* message;
  };
  const Case cases[] = {
      {{}, "exit_code: 1", "scheduler process died unexpectedly while attaching: exited with 1"},
      {{kEnabled},
       "was_enabled: true signal: 11 steps_total: 2",
       "scheduler process died unexpectedly after attaching, before the first step: killed by "
       "signal 11 "
       "(Segmentation fault)"},
      {{kEnabled, kBegin0},
       "was_enabled: true exit_code: 2 during_steps: true steps_total: 5 scenario_time_ns: "
       "520000000",
       "scheduler process died unexpectedly during the workload, in step 1 of 5 (0.5s into test): "
       "exited "
       "with 2"},
      {{kEnabled, kBegin0, kEnd0},
       "was_enabled: true exit_code: 2 during_steps: true steps_completed: 2 steps_total: 5 "
       "scenario_time_ns: 12300000000",
       "scheduler process died unexpectedly after completing step 2 of 5 (12.3s into test): exited "
       "with "
       "2"},
      {{kEnabled, kBegin0, kEnd0, kBegin1},
       "was_enabled: true signal: 9 during_steps: true steps_completed: 1 steps_total: 2 "
       "scenario_time_ns: 1000000000",
       "scheduler process died unexpectedly after completing step 1 of 2 (1.0s into test), during "
       "the "
       "workload of step 2: killed by signal 9 (Killed)"},
      {{kEnabled, kBegin0, kEnd0, kBegin1, kEnd1},
       "was_enabled: true steps_completed: 2 steps_total: 2 scenario_time_ns: 2000000000",
       "scheduler process died unexpectedly after completing all 2 steps (2.0s into test): exited "
       "with 0"},
  };
  for (const Case& c : cases) {
    std::vector<std::string> run = c.before;
    run.push_back(Exit(absl::StrCat("cause: PROCESS_EXITED ", c.exit)));
    run.push_back(kDone);
    const v1::Judgement judgement = Judge(run);
    EXPECT_EQ(judgement.verdict(), v1::FAIL);
    EXPECT_THAT(Lines(judgement),
                ElementsAre(absl::StrCat("SCHEDULER_DIED scheduler: ", c.message)));
  }
}

TEST(SchedulerDied, EjectedWithTheKernelsReason) {
  const v1::Judgement judgement = Judge(
      {kEnabled, kBegin0,
       Exit("cause: EJECTED was_enabled: true during_steps: true steps_total: 2 scenario_time_ns: "
            "5500000000 detail: 'runnable task stall (worker[77] failed to run for 5.024s)'"),
       Report(0, "max_gap_ns: 5010000000 max_gap_cpu: 3 max_gap_at_ns: 5511000000"),
       "worker_report { index: 1 wall_time_ns: 5600000000 }",
       Exit("cause: PROCESS_EXITED exit_code: 1"), kDone});
  EXPECT_EQ(judgement.verdict(), v1::FAIL);
  // The pause began before the kernel ejected the scheduler: both have the same cause, so it is no
  // consequence.
  EXPECT_THAT(
      Lines(judgement),
      ElementsAre("SCHEDULER_DIED scheduler: scheduler was ejected by the kernel during the "
                  "workload, in step 1 of 2 (5.5s into test): runnable task stall (worker[77] "
                  "failed to run for 5.024s)",
                  "STUCK cgroup left: stuck 5010ms on cpu3 at +5511ms (threshold 3000ms)",
                  "> STARVED cgroup left: worker 1 (spin_wait) did no work in 5600ms"));
  EXPECT_EQ(judgement.findings(0).guest_time_ms(), 5500u);
}

TEST(SchedulerDied, TheKernelsBacktraceStaysOutOfTheMessage) {
  const v1::Judgement judgement = Judge(
      {kEnabled, kBegin0,
       Exit("cause: EJECTED was_enabled: true during_steps: true steps_total: 2 scenario_time_ns: "
            "1000000000 detail: 'sched_ext: BPF scheduler \"x\" disabled (runnable task stall)\\n"
            "sched_ext: x: watchdog failed to check in for 1.004s\\n   scx_tick+0xa4/0xb0'"),
       Report(0), Report(1), kDone});
  EXPECT_THAT(
      Lines(judgement),
      ElementsAre("SCHEDULER_DIED scheduler: scheduler was ejected by the kernel during the "
                  "workload, in step 1 of 2 (1.0s into test): sched_ext: BPF scheduler "
                  "\"x\" disabled (runnable task stall); watchdog failed to check in for "
                  "1.004s"));
}

// A run that another cause ended early was not too short.
TEST(SchedulerDied, TooLittleTimeAfterItIsNoFindingOfItsOwn) {
  const auto lines =
      Lines(Judge({kEnabled, kBegin0,
                   Exit("cause: EJECTED was_enabled: true during_steps: true steps_total: 2"),
                   "worker_report { index: 0 wall_time_ns: 5000000 }", Report(1), kDone}));
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], StartsWith("SCHEDULER_DIED"));
}

// Kernel lines about a scheduler that starts again after its end, and about other schedulers,
// belong to other events.
TEST(SchedulerDied, LaterLinesOfTheKernelAreNoPartOfTheReason) {
  const v1::Judgement judgement = Judge(
      {kEnabled, kBegin0,
       Exit("cause: EJECTED was_enabled: true during_steps: true steps_total: 2 scenario_time_ns: "
            "1000000000 detail: 'sched_ext: BPF scheduler \"x\" disabled (unregistered from the "
            "main kernel)\\nsched_ext: BPF scheduler \"x\" enabled\\nsched_ext: y: late'"),
       Report(0), Report(1), kDone});
  EXPECT_THAT(
      Lines(judgement),
      ElementsAre("SCHEDULER_DIED scheduler: scheduler was ejected by the kernel during the "
                  "workload, in step 1 of 2 (1.0s into test): sched_ext: BPF scheduler "
                  "\"x\" disabled (unregistered from the main kernel)"));
}

// The kernel prints no message unless it is an error; the scheduler's own output has it.
TEST(SchedulerDied, TheExitMessageOutOfTheSchedulersOutput) {
  const auto message = [](const std::string& output) {
    const v1::Judgement judgement =
        Judge({kEnabled, kBegin0, absl::StrCat("scheduler_output { data: '", output, "' }"),
               Exit("cause: EJECTED was_enabled: true during_steps: true steps_total: 2 "
                    "scenario_time_ns: 1000000000 detail: 'sched_ext: BPF scheduler \"x\" disabled "
                    "(unregistered from the main kernel)'"),
               Report(0), Report(1), kDone});
    return judgement.findings(0).message();
  };
  const std::string bare = "\"x\" disabled (unregistered from the main kernel)";
  EXPECT_THAT(message("EXIT: unregistered from the main kernel (cpu 1 going offline, exiting "
                      "scheduler)\\n"),
              EndsWith(bare + "; cpu 1 going offline, exiting scheduler"));
  EXPECT_THAT(message("EXIT: unregistered from the main kernel (cpu 1 (of 4) going) on CPU 1\\n"),
              EndsWith(bare + "; cpu 1 (of 4) going"));
  EXPECT_THAT(message("EXIT: unregistered from the main kernel (task (1) on CPU 3)\\n"),
              EndsWith(bare + "; task (1) on CPU 3"));
  // A restarted scheduler prints several; the last one counts.
  EXPECT_THAT(message("EXIT: unregistered from the main kernel (a)\\n"
                      "EXIT: unregistered from the main kernel (b)\\n"),
              EndsWith(bare + "; b"));
  EXPECT_THAT(message("EXIT: runtime error (x)\\n"), EndsWith(bare));
  EXPECT_THAT(message("EXIT: unregistered from the main kernel\\n"), EndsWith(bare));
}

// It tries to come back, and its process ends over it.
TEST(SchedulerDied, RestartThatFailed) {
  const auto message = [](const std::string& output, const std::string& end) {
    const v1::Judgement judgement =
        Judge({kEnabled, kBegin0, absl::StrCat("scheduler_output { data: \"", output, "\" }"),
               Exit("cause: EJECTED was_enabled: true during_steps: true steps_total: 2 "
                    "scenario_time_ns: 1000000000 detail: 'sched_ext: BPF scheduler \"x\" disabled "
                    "(unregistered from the main kernel)' " +
                    end),
               Report(0), Report(1), kDone});
    return judgement.findings(0).message();
  };
  const std::string output =
      "Error: of the first start\\n"
      "EXIT: unregistered from the main kernel (cpu 2 going offline, exiting scheduler) on CPU 2\\n"
      "00:00:12 [INFO] NUMA nodes: 1\\n\\n"
      "thread 'main' (113) panicked at /root/.cargo/registry/src/index-1949cf/scx_utils-1.1.4/src/"
      "topology.rs:143:32:\\n"
      "called `Result::unwrap()` on an `Err` value: Failed to open file: cluster_id\\n\\n"
      "Caused by:\\n    No such file or directory (os error 2)\\n"
      "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\\n";
  EXPECT_THAT(
      message(output, "exit_code: 101"),
      EndsWith("; cpu 2 going offline, exiting scheduler; its process then ended (exited with "
               "101): thread 'main' (113) panicked at scx_utils-1.1.4/src/topology.rs:143:32: "
               "called `Result::unwrap()` on an `Err` value: Failed to open file: "
               "cluster_id: No such file or directory (os error 2)"));
  // The harness ended it, or it ended in order.
  for (const char* end : {"signal: 2", "signal: 9 killed: true", "exit_code: 0"}) {
    EXPECT_THAT(message(output, end), EndsWith("exiting scheduler")) << end;
  }
  // No error of its own is told.
  EXPECT_THAT(message("EXIT: unregistered from the main kernel (a)\\nbye\\n", "exit_code: 1"),
              EndsWith("; a"));
  EXPECT_THAT(
      message("EXIT: unregistered from the main kernel (a)\\nlibbpf: map 'm': failed to "
              "create: -EPERM\\n",
              "exit_code: 1"),
      EndsWith("; a; its process then ended (exited with 1): libbpf: map 'm': failed to create: "
               "-EPERM"));
}

TEST(SchedulerDied, RestartThatDidNotCome) {
  const v1::Judgement judgement =
      Judge({kEnabled, kBegin0, "scheduler_restart { scenario_time_ns: 1000 length_ns: 30000000 }",
             Exit("cause: EJECTED was_enabled: true during_steps: true steps_total: 2 "
                  "restart_timeout_ms: 10000 scenario_time_ns: 1000000000"),
             Report(0), Report(1), kDone});
  ASSERT_EQ(judgement.findings_size(), 1);
  EXPECT_THAT(judgement.findings(0).message(),
              EndsWith("; it did not restart within 10000ms (scheduler.restart_timeout_ms)"));
}

TEST(SchedulerDied, ARestartIsNone) {
  auto run = With(GoodRun(), kBegin0, kBegin0);
  run.insert(run.begin() + 2, "scheduler_restart { scenario_time_ns: 1000 length_ns: 30000000 }");
  EXPECT_EQ(Judge(run).verdict(), v1::PASS);
}

TEST(SchedulerDied, QuotesWithoutTheColorsOfTheLog) {
  const v1::Judgement judgement =
      Judge({"scheduler_output { data: '\\033[31mError: \\033[1mno such cpu\\033[0m\\n' }",
             Exit("cause: PROCESS_EXITED exit_code: 1"), kDone});
  EXPECT_THAT(judgement.findings(0).message(), EndsWith("; its output: Error: no such cpu"));
}

TEST(SchedulerDied, TheHarnesssOwnHotplugIsNamed) {
  v1::Scenario scenario = MakeScenario();
  scenario.mutable_perturb()->set_hotplug(true);
  const v1::Judgement judgement = Judge(
      {kEnabled, kBegin0,
       Exit("cause: EJECTED was_enabled: true during_steps: true steps_total: 2 scenario_time_ns: "
            "1000000000 detail: 'sched_ext: BPF scheduler \"x\" disabled (unregistered from the "
            "main kernel)'"),
       "perturbation { kind: HOTPLUG cpu: 2 begin_ns: 100000000 length_ns: 20000000 }",
       "perturbation { kind: HOTPLUG cpu: 3 begin_ns: 990000000 length_ns: 20000000 }",
       "perturbation { kind: HOTPLUG cpu: 1 begin_ns: 1500000000 length_ns: 20000000 }", Report(0),
       Report(1), kDone},
      scenario);
  ASSERT_EQ(judgement.findings_size(), 1);
  EXPECT_THAT(judgement.findings(0).message(),
              HasSubstr("disabled (unregistered from the main kernel); the harness took CPU 3 "
                        "offline at +990ms (perturb.hotplug): the scheduler has no ops.cpu_online "
                        "and ops.cpu_offline"));
}

// The finding quotes the line that names the cause, not the last one.
TEST(SchedulerDied, QuotesTheCauseNotTheLastLine) {
  const struct {
    const char* output;
    const char* quoted;
  } cases[] = {
      {"libbpf: struct_ops ops: member dump_cid not found in kernel, skipping it as it is zero\\n"
       "libbpf: extern (func ksym) \"gone\": not found in kernel or module BTFs\\n"
       "libbpf: failed to load object \"x\"\\nscx_x: cannot load: -22",
       "; its output: libbpf: extern (func ksym) \"gone\": not found in kernel or module BTFs"},
      {"libbpf: extern (func ksym) \"bad\": func_proto [12] incompatible with vmlinux [345]\\n"
       "libbpf: failed to load BPF skeleton \"x\": -EINVAL\\n",
       "; its output: libbpf: extern (func ksym) \"bad\": func_proto [12] incompatible with "
       "vmlinux "
       "[345]"},
      {"error: unexpected argument \"--nope\" found\\n\\nUsage: scx_x [OPTIONS]\\n\\nFor more "
       "information, try --help.",
       "; its output: error: unexpected argument \"--nope\" found"},
      {"scx_x: unrecognized option \"--nope\"\\nUsage: scx_x [-v]\\n  -v  more",
       "; its output: scx_x: unrecognized option \"--nope\""},
      {"loading\\nno such CPU: 99\\nusage: scx_x CPU\\n  CPU  a number",
       "; its output: no such CPU: 99"},
      {"Error: cannot open map\\n\\nCaused by:\\n    No such file",
       "; its output: Error: cannot open map: No such file"},
      {"Error: Failed to load BPF program\\n\\nCaused by:\\n    0: libbpf\\n    1: Invalid "
       "argument "
       "(os error 22)\\n\\nStack backtrace:",
       "; its output: Error: Failed to load BPF program: libbpf: Invalid argument (os error 22)"},
      {"thread \\'main\\' panicked at src/main.rs:7:9:\\nno such CPU: 99\\nnote: run with "
       "`RUST_BACKTRACE=1` environment variable to display a backtrace",
       "; its output: thread 'main' panicked at src/main.rs:7:9: no such CPU: 99"},
      {"thread \\'main\\' panicked at \\'no such CPU\\', /a/registry/src/i/c/main.rs:7:9\\nnote: "
       "run with",
       "; its output: thread 'main' panicked at 'no such CPU', /a/registry/src/i/c/main.rs:7:9"},
      {"thread \\'a\\' (9) panicked at /rustc/5980/library/std/src/x.rs:1:2:\\nfailed",
       "; its output: thread 'a' (9) panicked at library/std/src/x.rs:1:2: failed"},
      {"Error: 8 CPUs wanted\\n22:10:03 [INFO] bye", "; its output: Error: 8 CPUs wanted"},
      {"libbpf: failed to load object \"x\"\\nscx_x: no CPU 99\\n",
       "; its last output: scx_x: no CPU 99"},
      {"loading\\nbye", "; its last output: bye"},
      {"cannot go on\\n22:10:03 [INFO] Unregister scx_x\\n[2026-11-28T22:10:03Z DEBUG scx_x] bye\\n"
       "2026-11-28T22:10:03.1Z  INFO scx_x: bye\\nINFO bye",
       "; its last output: cannot go on"},
      {"22:10:03 [WARN] no INFO is there", "; its last output: 22:10:03 [WARN] no INFO is there"},
      {"22:10:03 [INFO] bye", "exited with 1"},
  };
  for (const auto& c : cases) {
    const v1::Judgement judgement =
        Judge({absl::StrCat("scheduler_output { data: '", c.output, "' }"),
               Exit("cause: PROCESS_EXITED exit_code: 1"), kDone});
    ASSERT_EQ(judgement.findings_size(), 1) << c.output;
    EXPECT_THAT(judgement.findings(0).message(), testing::EndsWith(c.quoted)) << c.output;
  }
}

TEST(SchedulerDied, QuotesTheEndOfALongOutput) {
  v1::Observation output;
  std::string* data = output.mutable_scheduler_output()->mutable_data();
  while (data->size() < size_t{3} << 20) data->append("still going on\n");
  data->append("cannot go on\n");
  const v1::Judgement judgement = Evaluate(
      MakeScenario(), {output, Make(Exit("cause: PROCESS_EXITED exit_code: 1")), Make(kDone)});
  ASSERT_EQ(judgement.findings_size(), 1);
  EXPECT_THAT(judgement.findings(0).message(),
              testing::EndsWith("; its last output: cannot go on"));
}

TEST(SchedulerDied, ReasonOutOfTheSchedulersOwnOutput) {
  EXPECT_THAT(
      Lines(
          Judge({kEnabled, kBegin0, "scheduler_output { data: 'hello\\nEXIT: runtime err' }",
                 "scheduler_output { data: 'or (bad dsq)\\nbye\\n' }",
                 Exit("cause: PROCESS_EXITED was_enabled: true during_steps: true steps_total: 2"),
                 kDone})),
      ElementsAre(
          "SCHEDULER_DIED scheduler: scheduler process died unexpectedly during the workload, in "
          "step 1 of 2 (0.0s into test): exited with 0; kernel: EXIT: runtime error (bad dsq)"));
}

TEST(SchedulerDied, PauseAfterTheDeathFollowsFromIt) {
  const auto lines = Lines(Judge({kEnabled, kBegin0,
                                  Exit("cause: PROCESS_EXITED was_enabled: true during_steps: true "
                                       "steps_total: 2 scenario_time_ns: "
                                       "1000000000"),
                                  Report(0, "max_gap_ns: 4000000000 max_gap_at_ns: 5500000000"),
                                  "worker_lost { index: 1 signal: 9 }", kDone}));
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_THAT(lines[0], StartsWith("SCHEDULER_DIED"));
  EXPECT_THAT(lines[1], StartsWith("> STUCK"));
  EXPECT_THAT(lines[2], StartsWith("> WORKER_DIED"));
}

// The agent reports an ejection when the process is gone, with the time at which the ejection
// began.
TEST(SchedulerDied, ComesBeforeWhatItBrokeThoughToldLater) {
  const v1::Judgement judgement =
      Judge({kEnabled, "guest_time_ns: 900 guest_error { message: 'cannot start a worker' }",
             "guest_time_ns: 800 scheduler_exit { cause: EJECTED was_enabled: true }", kDone});
  EXPECT_EQ(judgement.verdict(), v1::FAIL);
  ASSERT_EQ(judgement.findings_size(), 2);
  EXPECT_EQ(judgement.findings(0).kind(), "SCHEDULER_DIED");
  EXPECT_EQ(judgement.findings(1).kind(), "HARNESS");
  EXPECT_TRUE(judgement.findings(1).consequence());
}

TEST(SchedulerDied, StoppedByTheAgentIsNoDeath) {
  auto run =
      With(GoodRun(), kStopped, "scheduler_exit { cause: STOPPED was_enabled: true signal: 2 }");
  EXPECT_EQ(Judge(run).verdict(), v1::PASS);
  // An exit after the stop is part of the stop.
  run.insert(run.end() - 1, Exit("cause: PROCESS_EXITED was_enabled: true"));
  EXPECT_EQ(Judge(run).verdict(), v1::PASS);
}

TEST(SchedulerDied, KernelCachedWithoutItsConfiguration) {
  const std::string libbpf =
      "scheduler_output { data: 'libbpf: failed to open system Kconfig\\n"
      "libbpf: failed to load object\\n' }";
  const std::string reason =
      "; this kernel came without its configuration file, and the scheduler reads it: import the "
      "kernel again with --config FILE (`ktstrctl kernel list`)";
  auto lines = Lines(Judge({libbpf, Exit("cause: PROCESS_EXITED exit_code: 1"), kDone}));
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], EndsWith(reason));
  lines = Lines(Judge({libbpf, Exit("cause: ATTACH_TIMEOUT"), kDone}));
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], EndsWith(reason));
  // One that hides libbpf's lines: the agent names the options.
  const std::string named =
      "; this kernel came without its configuration file, and the scheduler reads it (CONFIG_HZ, "
      "CONFIG_PREEMPT_RCU): import the kernel again with --config FILE (`ktstrctl kernel list`)";
  const std::string exit = Exit(
      "cause: PROCESS_EXITED exit_code: 1 missing_config: 'CONFIG_HZ' "
      "missing_config: 'CONFIG_PREEMPT_RCU'");
  const auto of_output = [&](const std::string& output) {
    return Lines(Judge({absl::StrCat("scheduler_output { data: '", output, "' }"), exit, kDone}));
  };
  EXPECT_THAT(of_output("Error: Failed to load BPF program\\n\\nCaused by:\\n    Invalid argument "
                        "(os error 22)\\n")[0],
              EndsWith("Invalid argument (os error 22)" + named));
  const std::string rejected =
      "libbpf: prog \\'p\\': -- BEGIN PROG LOAD LOG --\\nbad\\n-- END PROG LOAD LOG --\\n"
      "libbpf: failed to load: -EINVAL\\n";
  for (const std::string& line : of_output(rejected)) EXPECT_THAT(line, Not(EndsWith(named)));
  EXPECT_THAT(of_output("Error: no such layer\\n")[0], EndsWith("Error: no such layer"));
  // A scheduler that was enabled did not die because of the configuration.
  lines = Lines(Judge(
      With(GoodRun(), kStopped, Exit("cause: PROCESS_EXITED was_enabled: true exit_code: 1"))));
  ASSERT_FALSE(lines.empty());
  EXPECT_THAT(lines[0], Not(EndsWith(reason)));
}

// A line of information is no cause, but it shows how far the scheduler came.
TEST(SchedulerNotAttached, ShowsTheLastInformation) {
  const auto lines = Lines(Judge({"scheduler_output { data: '22:10:03 [INFO] loading\\n' }",
                                  Exit("cause: ATTACH_TIMEOUT"), kDone}));
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], EndsWith("; its last output: 22:10:03 [INFO] loading"));
}

TEST(SchedulerNotAttached, TimeOut) {
  const v1::Judgement judgement = Judge(
      {"scheduler_output { data: 'loading...\\n\\n' }", Exit("cause: ATTACH_TIMEOUT"), kDone});
  EXPECT_EQ(judgement.verdict(), v1::FAIL);
  EXPECT_THAT(
      Lines(judgement),
      ElementsAre("SCHEDULER_NOT_ATTACHED scheduler: the kernel did not report scheduler scx_mine "
                  "enabled within 1800000ms; its last output: loading..."));
  EXPECT_EQ(judgement.findings(0).threshold(), "1800000ms");
}

TEST(SchedulerNotAttached, SaysWhatItDid) {
  const auto message = [](const std::string& more) {
    return Judge({Exit("cause: ATTACH_TIMEOUT " + more), kDone}).findings(0);
  };
  const std::string begin = "the kernel did not report scheduler scx_mine enabled";
  EXPECT_EQ(message("attach { cpu_ns: 33120000000 programs: 7 newest_program: 'mine_enqueue' }")
                .message(),
            begin +
                " within 1800000ms, after 33.1s of CPU time and 7 BPF programs, the newest "
                "mine_enqueue");
  const v1::Finding still = message("still_ns: 60800000000 attach { cpu_ns: 310000000 }");
  EXPECT_EQ(still.message(), begin +
                                 ": its process stood still for 60800ms, after 0.3s of CPU time "
                                 "and no BPF program");
  EXPECT_EQ(still.threshold(), "60000ms");
  EXPECT_THAT(message("attach { programs: 1 newest_program: 'a\\nb' }").message(),
              EndsWith("0.0s of CPU time and 1 BPF program, the newest a b"));
}

TEST(SchedulerNotAttached, KernelWithoutSchedExt) {
  EXPECT_THAT(
      Lines(Judge({"guest_info {}", Exit("cause: ATTACH_TIMEOUT"), kDone})),
      ElementsAre("SCHEDULER_NOT_ATTACHED scheduler: the kernel did not report scheduler scx_mine "
                  "enabled within 1800000ms: the guest's kernel has no sched_ext"));
}

TEST(SchedulerNotAttached, CannotBeExecuted) {
  EXPECT_THAT(
      Lines(Judge({Exit("cause: EXEC_FAILED detail: 'bin/scx_mine: Exec format error'"), kDone})),
      ElementsAre("SCHEDULER_NOT_ATTACHED scheduler: scheduler scx_mine could not be executed: "
                  "bin/scx_mine: Exec format error"));
}

TEST(SchedulerNotAttached, NeverEnabledInAnOtherwiseGoodRun) {
  std::vector<std::string> run = With(GoodRun(), kEnabled, "stage { stage: SCHEDULER_STARTED }");
  run = With(run, kStopped, "scheduler_exit { cause: STOPPED }");
  const v1::Judgement judgement = Judge(run);
  EXPECT_EQ(judgement.verdict(), v1::FAIL);
  EXPECT_THAT(Lines(judgement),
              ElementsAre("SCHEDULER_NOT_ATTACHED scheduler: the kernel never reported "
                          "scheduler scx_mine enabled"));
}

constexpr char kVerifierLog[] =
    "scheduler_output { data: \"libbpf: prog 'mine_enqueue': BPF program load failed: Permission "
    "denied\\n"
    "libbpf: prog 'mine_enqueue': -- BEGIN PROG LOAD LOG --\\n"
    "0: R1=ctx() R10=fp0\\n"
    "; int x = *p;\\n"
    "R1 invalid mem access 'scalar'\\n"
    "processed 7 insns (limit 1000000) max_states_per_insn 0\\n"
    "-- END PROG LOAD LOG --\\n"
    "libbpf: failed to load object\\n\" }";

TEST(VerifierRejected, NamesProgramAndReason) {
  const v1::Judgement judgement =
      Judge({kVerifierLog, Exit("cause: PROCESS_EXITED exit_code: 1"), kDone});
  EXPECT_EQ(judgement.verdict(), v1::FAIL);
  EXPECT_THAT(
      Lines(judgement),
      ElementsAre("VERIFIER_REJECTED scheduler: the kernel's verifier rejected program "
                  "'mine_enqueue': R1 invalid mem access 'scalar'",
                  "> SCHEDULER_DIED scheduler: scheduler process died unexpectedly while "
                  "attaching: exited with 1; its output: libbpf: prog 'mine_enqueue': BPF program "
                  "load failed: Permission denied"));
}

TEST(VerifierRejected, CutLogAndHangingScheduler) {
  const auto lines = Lines(
      Judge({"scheduler_output { data: 'x -- BEGIN PROG LOAD LOG --\\nback-edge from 3 to 1' }",
             Exit("cause: ATTACH_TIMEOUT"), kDone}));
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0],
            "VERIFIER_REJECTED scheduler: the kernel's verifier rejected program (unnamed): "
            "back-edge from 3 to 1");
  EXPECT_THAT(lines[1], StartsWith("> SCHEDULER_NOT_ATTACHED"));
}

TEST(VerifierRejected, ReasonStandsBeforeTheExplanation) {
  const auto lines = Lines(
      Judge({"scheduler_output { data: \"libbpf: prog 'qmap_dequeue': -- BEGIN PROG LOAD LOG --\\n"
             "97: (7b) *(u64 *)(r7 +16) = r1\\nR7 invalid mem access 'scalar'\\n\\n"
             "Verification failed: Register Type Safety: Invalid dereference\\n\\nReason:\\n"
             "  R7 is an integer scalar here, not a pointer to memory.\\n\\nSuggestion:\\n"
             "  Preserve a pointer-valued register where needed.\\n\\n"
             "processed 71 insns (limit 1000000)\\n-- END PROG LOAD LOG --\\n\" }",
             Exit("cause: PROCESS_EXITED exit_code: 1"), kDone}));
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0],
            "VERIFIER_REJECTED scheduler: the kernel's verifier rejected program "
            "'qmap_dequeue': R7 invalid mem access 'scalar'");
}

TEST(VerifierRejected, NotWhenItWasEnabled) {
  const auto lines =
      Lines(Judge({kVerifierLog, kEnabled,
                   Exit("cause: PROCESS_EXITED was_enabled: true exit_code: 1"), kDone}));
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], StartsWith("SCHEDULER_DIED"));
}

}  // namespace
}  // namespace ktstr::scenario
