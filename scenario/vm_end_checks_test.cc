// SPDX-License-Identifier: Apache-2.0
//
// Findings about the end of the machine: facts decide, text of the guest does not.

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
using ::testing::HasSubstr;
using ::testing::StartsWith;

// The agent was ready.
const char kReady[] = "stage { stage: READY }";

TEST(KernelPanic, WithTheKernelsLine) {
  for (const char* cause : {"PANIC", "GUEST_RESET"}) {
    const v1::Judgement judgement = Judge(
        {kReady, kEnabled, kBegin0,
         End(absl::StrCat("cause: ", cause,
                          " last_stage: STEPS_RUNNING crash_line: '[ 3.1][ T5] BUG: x' "
                          "crash_line: '[ 3.2] Kernel panic - not syncing: Fatal exception'"))});
    EXPECT_EQ(judgement.verdict(), v1::FAIL);
    EXPECT_THAT(Lines(judgement),
                ElementsAre("KERNEL_PANIC guest: the guest's kernel panicked at stage "
                            "STEPS_RUNNING: Kernel panic - not syncing: Fatal exception (BUG: x)"));
  }
}

TEST(KernelPanic, WithoutWords) {
  EXPECT_THAT(Lines(Judge({kReady, End("cause: PANIC last_stage: READY")})),
              ElementsAre("KERNEL_PANIC guest: the guest's kernel panicked at stage READY"));
}

TEST(KernelPanic, OfAnOlderRecord) {
  EXPECT_THAT(Lines(Judge({kReady, End("cause: PANIC last_stage: READY detail: 'Kernel panic - not "
                                       "syncing: hung_task'")})),
              ElementsAre(StartsWith("KERNEL_PANIC guest: the guest's kernel panicked at stage "
                                     "READY: Kernel panic - not syncing: hung_task")));
}

TEST(KernelPanic, AfterADeathItFollows) {
  const auto lines = Lines(
      Judge({kReady, kEnabled, Exit("cause: EJECTED was_enabled: true"), End("cause: PANIC")}));
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_THAT(lines[0], StartsWith("SCHEDULER_DIED"));
  EXPECT_THAT(lines[1], StartsWith("> KERNEL_PANIC"));
}

TEST(KernelPanic, DeathOfTheAgentIsOurs) {
  const v1::Judgement judgement =
      Judge({kReady, End("cause: GUEST_RESET last_stage: READY crash_line: 'Kernel panic - not "
                         "syncing: Attempted to kill init! exitcode=0xb'")});
  EXPECT_EQ(judgement.verdict(), v1::ERROR);
  EXPECT_THAT(Lines(judgement),
              ElementsAre(StartsWith("HARNESS guest: the guest agent died at stage READY: ")));
}

// Text that a program in the guest writes does not change the verdict, wherever the text appears.
class GuestText : public ::testing::TestWithParam<const char*> {
 protected:
  // Puts the text everywhere where a guest's text can appear.
  std::vector<std::string> Everywhere(const std::vector<std::string>& run) const {
    std::vector<std::string> with = run;
    with.insert(with.begin(), absl::StrCat("scheduler_output { data: '", GetParam(), "\\n' }"));
    std::string& end = with.back();
    end.insert(end.rfind('}'), absl::StrCat(" console_tail: '[    1.0] ", GetParam(),
                                            "\\n[    1.1] sched_ext: x: ", GetParam(),
                                            "\\n' crash_line: '[    1.0] ", GetParam(),
                                            "' crash_line: '[    1.2] Kernel panic - not syncing: "
                                            "Fatal exception' agent_error: '",
                                            GetParam(), "' "));
    return with;
  }
};

TEST_P(GuestText, DoesNotChangeADoneRun) {
  EXPECT_EQ(Judge(Everywhere(GoodRun())).verdict(), v1::PASS);
  for (const char* cause : {"EJECTED", "PROCESS_EXITED"}) {
    const v1::Judgement judgement = Judge(Everywhere(
        {kReady, kEnabled,
         Exit(absl::StrCat("cause: ", cause, " was_enabled: true detail: '", GetParam(), "'")),
         "stage { stage: DONE }", kDone}));
    EXPECT_EQ(judgement.verdict(), v1::FAIL);
    ASSERT_EQ(judgement.findings_size(), 1);
    EXPECT_EQ(judgement.findings(0).kind(), "SCHEDULER_DIED");
  }
}

TEST_P(GuestText, DoesNotMakeAnotherEnd) {
  const std::vector<std::pair<const char*, const char*>> ends = {
      {"TIMEOUT", "HOST_TIMEOUT"},
      {"GUEST_HUNG", "GUEST_TIMEOUT"},
      {"GUEST_MISBEHAVED", "GUEST_CHANNEL"},
      {"ENGINE_FAILED", "ENGINE"},
      {"CANCELLED", "CANCELLED"},
      {"INTERRUPTED", "INTERRUPTED"}};
  for (const auto& [cause, kind] : ends) {
    const v1::Judgement judgement =
        Judge(Everywhere({kReady, kEnabled, End(absl::StrCat("cause: ", cause))}));
    ASSERT_EQ(judgement.findings_size(), 1) << cause;
    EXPECT_EQ(judgement.findings(0).kind(), kind);
  }
}

// A program writes the text and reboots: the kernel's own line about the reboot comes later.
TEST_P(GuestText, BeforeAReboot) {
  const v1::Judgement judgement =
      Judge({kReady, kEnabled,
             End(absl::StrCat("cause: GUEST_RESET crash_line: '[ 1.0] ", GetParam(),
                              "' crash_line: '[ 1.1] Kernel panic - not syncing: Fatal exception' "
                              "crash_line: '[ 1.2] sysrq: Resetting'"))});
  EXPECT_EQ(judgement.verdict(), v1::FAIL);
  EXPECT_THAT(Lines(judgement), ElementsAre(StartsWith("GUEST_ENDED")));
}

INSTANTIATE_TEST_SUITE_P(All, GuestText,
                         ::testing::Values("Oops: int3: 0000 [#1]", "int3: 0000 [#1] SMP",
                                           "Kernel panic - not syncing: Fatal exception",
                                           "Kernel panic - not syncing: Attempted to kill init!",
                                           "BUG: kernel NULL pointer dereference",
                                           "reboot: Restarting system"));

TEST(GuestEnded, ResetAndPowerOffByAProgram) {
  const v1::Judgement reset = Judge({kReady, End("cause: GUEST_RESET last_stage: STEPS_RUNNING")});
  EXPECT_EQ(reset.verdict(), v1::FAIL);
  EXPECT_THAT(Lines(reset),
              ElementsAre("GUEST_ENDED guest: the guest reset the machine at stage STEPS_RUNNING"));
  const v1::Judgement off =
      Judge({kReady, End("cause: GUEST_POWERED_OFF last_stage: STEPS_RUNNING")});
  EXPECT_EQ(off.verdict(), v1::FAIL);
  EXPECT_THAT(Lines(off),
              ElementsAre("GUEST_ENDED guest: something in the guest powered the machine off at "
                          "stage STEPS_RUNNING"));
}

TEST(GuestEnded, ByTheAgentItIsOurs) {
  const v1::Judgement judgement =
      Judge({kReady, End("cause: GUEST_POWERED_OFF last_stage: READY agent_gave_up: true "
                         "agent_error: 'window: bad magic'")});
  EXPECT_EQ(judgement.verdict(), v1::ERROR);
  EXPECT_THAT(Lines(judgement), ElementsAre("HARNESS guest: the agent ended the machine at stage "
                                            "READY; the agent reported: window: bad magic"));
}

TEST(GuestTimeout, OfTheHostIsNobodysFault) {
  const v1::Judgement judgement =
      Judge({kReady, kEnabled, End("cause: TIMEOUT last_stage: STEPS_RUNNING detail: '120s'")});
  EXPECT_EQ(judgement.verdict(), v1::ERROR);
  EXPECT_THAT(Lines(judgement),
              ElementsAre("HOST_TIMEOUT guest: the run did not finish within the host's time "
                          "limit; the guest stood at stage STEPS_RUNNING: 120s"));
}

TEST(GuestTimeout, OfTheGuestIsAFail) {
  const v1::Judgement overrun =
      Judge({kReady, kEnabled, "guest_overrun { limit_ms: 62000 }", kDone});
  EXPECT_EQ(overrun.verdict(), v1::FAIL);
  EXPECT_THAT(Lines(overrun),
              ElementsAre("GUEST_TIMEOUT guest: the run took more than its limit of "
                          "62000 ms of guest time"));
  const v1::Judgement hang = Judge(
      {kReady, kEnabled,
       End("cause: GUEST_HUNG last_stage: STEPS_RUNNING vcpu { cpu: 0 rip: 0xffffffff81000000 } "
           "vcpu { cpu: 1 rip: 4096 halted: true symbol: 'do_idle+0x4f' } "
           "vcpu { cpu: 2 rip: 7 user_space: true } "
           "vcpu { cpu: 3 rip: 4096 halted: true symbol: 'do_idle+0x4f' }")});
  EXPECT_EQ(hang.verdict(), v1::FAIL);
  EXPECT_THAT(Lines(hang),
              ElementsAre("GUEST_TIMEOUT guest: the guest hung; it stood at stage STEPS_RUNNING; "
                          "vCPUs: cpu0 in the kernel at 0xffffffff81000000, cpu1,3 halted at "
                          "do_idle+0x4f (0x1000), cpu2 in user space at 0x7"));
}

TEST(GuestTimeout, NamesTheTasksThatTheKernelCallsBlocked) {
  const v1::Judgement hang = Judge(
      {kReady, kEnabled,
       End("cause: GUEST_HUNG last_stage: STEPS_RUNNING "
           "crash_line: '[  245.9] INFO: task kworker/0:1:11 blocked for more than 120 seconds.' "
           "crash_line: 'INFO: task cpuhp/1:21 blocked for more than 120 seconds.' "
           "crash_line: 'INFO: task cpuhp/1:21 is blocked on a mutex likely owned by task b:2.' "
           "crash_line: 'INFO: task cpuhp/1:21 blocked for more than 241 seconds.'")});
  EXPECT_EQ(hang.verdict(), v1::FAIL);
  EXPECT_THAT(Lines(hang),
              ElementsAre("GUEST_TIMEOUT guest: the guest hung; it stood at stage STEPS_RUNNING; "
                          "the kernel's log has blocked tasks: kworker/0:1, cpuhp/1"));
}

TEST(KernelPanic, ABlockedTaskIsNoCauseOfAnOops) {
  EXPECT_THAT(
      Lines(Judge({kReady, End("cause: PANIC last_stage: READY "
                               "crash_line: 'INFO: task a:1 blocked for more than 120 s' "
                               "crash_line: 'BUG: bad' "
                               "crash_line: 'Kernel panic - not syncing: Fatal exception'")})),
      ElementsAre(testing::EndsWith("Fatal exception (BUG: bad)")));
}

TEST(GuestTimeout, AfterADeathItFollows) {
  const auto lines = Lines(Judge({kReady, kEnabled, Exit("cause: EJECTED was_enabled: true"),
                                  End("cause: GUEST_HUNG last_stage: COLLECTING")}));
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_THAT(lines[0], StartsWith("SCHEDULER_DIED"));
  EXPECT_THAT(lines[1], StartsWith("> GUEST_TIMEOUT"));
}

// Any program in the guest can forge the stage in the window and on the console; only the stage in
// the observations counts.
TEST(Boot, AGuestThatNeverReachedTheAgentIsAnError) {
  for (const char* cause : {"PANIC", "GUEST_RESET", "GUEST_POWERED_OFF", "GUEST_HUNG", "TIMEOUT"}) {
    const v1::Judgement judgement =
        Judge({End(absl::StrCat("cause: ", cause,
                                " last_stage: DONE crash_line: 'Kernel panic - not "
                                "syncing: VFS: Unable to mount root fs' vcpu { cpu: 0 rip: 4096 "
                                "symbol: 'mount_root+0x1' }"))});
    EXPECT_EQ(judgement.verdict(), v1::ERROR) << cause;
    ASSERT_EQ(judgement.findings_size(), 1);
    EXPECT_THAT(judgement.findings(0).message(), HasSubstr("mount_root+0x1")) << cause;
  }
}

TEST(AfterDone, NoEndOfTheMachineCounts) {
  for (const char* cause : {"PANIC", "TIMEOUT", "GUEST_RESET", "GUEST_POWERED_OFF", "GUEST_HUNG",
                            "ENGINE_FAILED", "EARLY_POWER_OFF"}) {
    EXPECT_EQ(Judge(With(GoodRun(), kDone, End(absl::StrCat("cause: ", cause)))).verdict(),
              v1::PASS)
        << cause;
  }
  for (const char* cause : {"CANCELLED", "GUEST_MISBEHAVED", "INTERRUPTED"}) {
    EXPECT_EQ(Judge(With(GoodRun(), kDone, End(absl::StrCat("cause: ", cause)))).verdict(),
              v1::ERROR)
        << cause;
  }
}

// Kind and verdict of each failure of the harness.
TEST(Errors, KindsOfTheEnd) {
  struct Case {
    const char* cause;
    const char* line;
  };
  const Case cases[] = {
      {"ENGINE_FAILED", "ENGINE guest: the engine failed at stage READY: why"},
      {"CANCELLED", "CANCELLED guest: the run was cancelled at stage READY: why"},
      {"INTERRUPTED", "INTERRUPTED guest: the run was interrupted at stage READY: why"},
      {"GUEST_MISBEHAVED",
       "GUEST_CHANNEL guest: the guest broke the rules of the channel at stage READY: "
       "why"},
      {"EARLY_POWER_OFF",
       "HARNESS guest: the virtual machine powered off or reset at stage READY: why"},
      {"CAUSE_UNSPECIFIED", "HARNESS guest: how the virtual machine ended is not known"},
  };
  for (const Case& c : cases) {
    const v1::Judgement judgement =
        Judge({End(absl::StrCat("cause: ", c.cause, " last_stage: READY detail: 'why'"))});
    EXPECT_EQ(judgement.verdict(), v1::ERROR) << c.cause;
    EXPECT_THAT(Lines(judgement), ElementsAre(c.line));
  }
}

TEST(Errors, GuestErrorExplainsWhatIsMissing) {
  const v1::Judgement judgement =
      Judge({"guest_error { message: 'mkdir /run/cg/a: Device or resource busy' }", kDone});
  EXPECT_EQ(judgement.verdict(), v1::ERROR);
  EXPECT_THAT(
      Lines(judgement),
      ElementsAre(
          "HARNESS guest: the guest agent failed: mkdir /run/cg/a: Device or resource busy"));
}

TEST(Errors, WhatTheSchedulerLacksIsTheInputsFault) {
  const v1::Judgement judgement =
      Judge({"guest_error { message: 'no callback dispatch' bad_input: true }", kDone});
  EXPECT_EQ(judgement.verdict(), v1::ERROR);
  EXPECT_THAT(Lines(judgement), ElementsAre("BAD_INPUT guest: no callback dispatch"));
}

TEST(Errors, GoodRunWithABadEndIsNoPass) {
  const std::string done = "stage { stage: DONE }";
  for (const char* cause :
       {"PANIC", "TIMEOUT", "EARLY_POWER_OFF", "ENGINE_FAILED", "CANCELLED", "GUEST_MISBEHAVED",
        "INTERRUPTED", "CAUSE_UNSPECIFIED", "GUEST_RESET", "GUEST_POWERED_OFF", "GUEST_HUNG"}) {
    std::vector<std::string> run = With(GoodRun(), kDone, End(absl::StrCat("cause: ", cause)));
    run.erase(std::find(run.begin(), run.end(), done));
    EXPECT_NE(Judge(run).verdict(), v1::PASS) << cause;
  }
}

// A failure stays a failure, however the machine ends after it.
TEST(Errors, FailureOutranksTheHarness) {
  const v1::Judgement judgement = Judge({kEnabled, Exit("cause: EJECTED was_enabled: true"),
                                         End("cause: CANCELLED last_stage: COLLECTING")});
  EXPECT_EQ(judgement.verdict(), v1::FAIL);
  EXPECT_EQ(judgement.findings(0).kind(), "SCHEDULER_DIED");
  EXPECT_EQ(judgement.findings(1).kind(), "CANCELLED");
  EXPECT_FALSE(judgement.findings(1).consequence());
}

TEST(EmulationFault, VoidsEverythingElse) {
  for (const char* oops :
       {"[ 2.0] Oops: int3: 0000 [#1] SMP", "[ 2.0] int3: 0000 [#1] PREEMPT SMP"}) {
    for (const char* cause : {"PANIC", "GUEST_RESET"}) {
      const v1::Judgement judgement =
          Judge({kReady, kEnabled, Exit("cause: EJECTED was_enabled: true"),
                 End(absl::StrCat(
                     "cause: ", cause, " last_stage: COLLECTING crash_line: '", oops,
                     "' crash_line: '[ 2.1] Kernel panic - not syncing: Fatal exception'"))});
      EXPECT_EQ(judgement.verdict(), v1::ERROR) << oops << cause;
      ASSERT_EQ(judgement.findings_size(), 2);
      EXPECT_EQ(judgement.findings(0).kind(), "ENGINE");
      EXPECT_FALSE(judgement.findings(0).consequence());
      EXPECT_EQ(judgement.findings(1).kind(), "SCHEDULER_DIED");
      EXPECT_TRUE(judgement.findings(1).consequence());
    }
  }
}

TEST(EmulationFault, OtherOopsesAreTheKernels) {
  EXPECT_EQ(Judge({kReady, End("cause: GUEST_RESET crash_line: 'Oops: 0002 [#1] SMP' crash_line: "
                               "'Kernel panic - not syncing: Fatal exception'")})
                .verdict(),
            v1::FAIL);
}

TEST(EmulationFault, NotWhenTheKernelPanickedForAnotherReason) {
  EXPECT_EQ(Judge({kReady, End("cause: GUEST_RESET crash_line: 'Oops: int3: 0000 [#1] SMP' "
                               "crash_line: 'Kernel panic - not syncing: sysrq triggered crash'")})
                .verdict(),
            v1::FAIL);
}

}  // namespace
}  // namespace ktstr::scenario
