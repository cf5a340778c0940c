// SPDX-License-Identifier: Apache-2.0
#include "guest/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/fd.h"
#include "base/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "guest/fake_reporter.h"
#include "guest/time.h"

namespace ktstr::guest {
namespace {

using ::testing::HasSubstr;

// Shell scripts stand for schedulers; a directory stands for /sys/kernel/sched_ext.
class SupervisorTest : public testing::Test {
 protected:
  void SetUp() override {
    auto dir = base::TempDir::Make("supervisor");
    ASSERT_TRUE(dir.ok());
    dir_ = std::make_unique<base::TempDir>(std::move(*dir));
    paths_ = {.bundle = dir_->path(),
              .sched_ext = base::JoinPath(dir_->path(), "sx"),
              .kmsg = "/dev/null"};
    ASSERT_TRUE(base::MakeDirs(base::JoinPath(paths_.sched_ext, "root")).ok());
    SetState("disabled", "");
    auto reaper = Reaper::Make();
    ASSERT_TRUE(reaper.ok());
    reaper_ = std::make_unique<Reaper>(std::move(*reaper));
    scheduler_.set_path("s");
    scheduler_.set_display_name("scx_test");
    scheduler_.set_attach_timeout_ms(30'000);
    scheduler_.set_stop_timeout_ms(30'000);
  }
  void TearDown() override {
    // A test that failed half-way must leave no script behind.
    if (supervisor_ == nullptr || supervisor_->phase() == Supervisor::Phase::kEnded) return;
    supervisor_->Stop();
    PollUntil(Supervisor::Phase::kEnded);
  }

  void SetState(const std::string& state, const std::string& ops) {
    ASSERT_TRUE(
        base::WriteFileAtomic(base::JoinPath(paths_.sched_ext, "root/ops"), absl::StrCat(ops, "\n"))
            .ok());
    ASSERT_TRUE(
        base::WriteFileAtomic(base::JoinPath(paths_.sched_ext, "state"), absl::StrCat(state, "\n"))
            .ok());
  }
  void Start(const std::string& script) {
    const std::string path = base::JoinPath(dir_->path(), "s");
    ASSERT_TRUE(base::WriteFileAtomic(path, absl::StrCat("#!/bin/sh\n", script, "\n"), 0755).ok());
    auto started = Supervisor::Start(scheduler_, paths_, &progress_, reaper_.get(), &reporter_);
    ASSERT_TRUE(started.ok()) << started.status();
    supervisor_ = *std::move(started);
  }
  // The kernel has let go of it, and the agent waits for its restart.
  void StartAndLetGo(const std::string& script) {
    scheduler_.set_restart_timeout_ms(30'000);
    SetState("enabled", "x");
    Start(script);
    ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnabled));
    SetState("disabled", "");
    supervisor_->Poll();
    ASSERT_EQ(supervisor_->phase(), Supervisor::Phase::kRestarting);
  }
  template <typename Done>
  bool PollFor(Done done) {
    const uint64_t end = MonotonicNs() + 30 * kNsPerSecond;
    while (true) {
      supervisor_->Poll();
      if (done()) return true;
      if (MonotonicNs() >= end) return false;
      pollfd fd = {.fd = reaper_->fd(), .events = POLLIN};
      poll(&fd, 1, 10);
    }
  }
  bool PollUntil(Supervisor::Phase phase) {
    return PollFor([&] { return supervisor_->phase() == phase; });
  }
  bool PollUntilOutput(const std::string& text) {
    return PollFor([&] { return reporter_.SchedulerOutput().find(text) != std::string::npos; });
  }
  v1::SchedulerExit Exit() {
    auto exits = reporter_.Of(v1::Observation::kSchedulerExit);
    EXPECT_EQ(exits.size(), 1u);
    return exits.empty() ? v1::SchedulerExit() : exits[0].scheduler_exit();
  }

  std::unique_ptr<base::TempDir> dir_;
  SupervisorPaths paths_;
  v1::GuestScheduler scheduler_;
  RunProgress progress_;
  std::unique_ptr<Reaper> reaper_;
  FakeReporter reporter_;
  std::unique_ptr<Supervisor> supervisor_;
};

TEST_F(SupervisorTest, RunsIsEnabledAndStops) {
  scheduler_.add_args("--slice-us");
  scheduler_.add_args("a b");
  Start(
      "trap 'echo bye; exit 3' INT; echo \"args: $1|$2\"; echo err >&2; while :; do sleep 0.02; "
      "done");
  ASSERT_TRUE(PollUntilOutput("err"));
  EXPECT_EQ(supervisor_->phase(), Supervisor::Phase::kStarting);
  SetState("enabled", "scx_test");
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnabled));
  EXPECT_THAT(reporter_.Stages(), testing::ElementsAre(v1::SCHEDULER_ENABLED));
  progress_ = {.steps_completed = 2,
               .steps_total = 2,
               .during_steps = false,
               .scenario_start_ns = MonotonicNs()};
  supervisor_->Stop();
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnded));
  const v1::SchedulerExit exit = Exit();
  EXPECT_EQ(exit.cause(), v1::SchedulerExit::STOPPED);
  EXPECT_TRUE(exit.was_enabled());
  EXPECT_EQ(exit.exit_code(), 3);
  EXPECT_EQ(exit.steps_completed(), 2u);
  EXPECT_THAT(reporter_.SchedulerOutput(), HasSubstr("args: --slice-us|a b"));
  EXPECT_THAT(reporter_.SchedulerOutput(), HasSubstr("bye"));
  auto states = reporter_.Of(v1::Observation::kSchedulerState);
  ASSERT_EQ(states.size(), 2u);
  EXPECT_EQ(states[1].scheduler_state().ops(), "scx_test");
  EXPECT_FALSE(states[1].scheduler_state().has_switch_all());  // The file is not there.
}

TEST_F(SupervisorTest, ReportsWhetherAllTasksWereSwitched) {
  Start("trap 'exit 0' INT; while :; do sleep 0.02; done");
  ASSERT_TRUE(base::WriteFileAtomic(base::JoinPath(paths_.sched_ext, "switch_all"), "0\n").ok());
  SetState("enabled", "scx_test");
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnabled));
  auto states = reporter_.Of(v1::Observation::kSchedulerState);
  ASSERT_FALSE(states.empty());
  EXPECT_TRUE(states.back().scheduler_state().has_switch_all());
  EXPECT_FALSE(states.back().scheduler_state().switch_all());
  supervisor_->Stop();
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnded));
}

TEST_F(SupervisorTest, ExitBeforeAttach) {
  Start("echo 'cannot load' >&2; exit 1");
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnded));
  EXPECT_EQ(Exit().cause(), v1::SchedulerExit::PROCESS_EXITED);
  EXPECT_EQ(Exit().exit_code(), 1);
  EXPECT_FALSE(Exit().was_enabled());
  EXPECT_THAT(reporter_.SchedulerOutput(), HasSubstr("cannot load"));
}

TEST_F(SupervisorTest, OptionsThatTheKernelsConfigurationLacks) {
  paths_.root = dir_->path();
  Start("exit 1; # " + std::string{"\0CONFIG_HZ\0.kconfig\0", 20});
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnded));
  EXPECT_THAT(Exit().missing_config(), testing::ElementsAre("CONFIG_HZ"));
}

TEST_F(SupervisorTest, OptionsOfAKernelWithItsConfigurationAreNotAsked) {
  paths_.root = dir_->path();
  ASSERT_TRUE(base::MakeDirs(base::JoinPath(paths_.root, "proc")).ok());
  ASSERT_TRUE(base::WriteFileAtomic(base::JoinPath(paths_.root, "proc/config.gz"), "").ok());
  Start("exit 1; # " + std::string{"\0CONFIG_HZ\0.kconfig\0", 20});
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnded));
  EXPECT_TRUE(Exit().missing_config().empty());
}

TEST_F(SupervisorTest, DeathBySignalMidRun) {
  SetState("enabled", "scx_test");
  progress_ = {.steps_completed = 1,
               .steps_total = 5,
               .during_steps = true,
               .scenario_start_ns = MonotonicNs()};
  Start("while [ ! -e \"$0.go\" ]; do sleep 0.02; done; kill -SEGV $$");
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnabled));
  ASSERT_TRUE(base::WriteFileAtomic(base::JoinPath(dir_->path(), "s.go"), "").ok());
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnded));
  EXPECT_EQ(Exit().cause(), v1::SchedulerExit::PROCESS_EXITED);
  EXPECT_EQ(Exit().signal(), static_cast<uint32_t>(SIGSEGV));
  EXPECT_TRUE(Exit().was_enabled());
  EXPECT_TRUE(Exit().during_steps());
  EXPECT_EQ(Exit().steps_completed(), 1u);
  EXPECT_GT(Exit().scenario_time_ns(), 0u);
}

TEST_F(SupervisorTest, NeverAttaches) {
  scheduler_.set_attach_timeout_ms(100);
  Start("exec sleep 3600");
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnded));
  EXPECT_EQ(Exit().cause(), v1::SchedulerExit::ATTACH_TIMEOUT);
  EXPECT_FALSE(Exit().was_enabled());
  EXPECT_EQ(Exit().still_ns(), 0u);
  EXPECT_TRUE(Exit().has_attach());
}

TEST_F(SupervisorTest, StandsStillBeforeItIsEnabled) {
  scheduler_.set_still_timeout_ms(1500);
  scheduler_.set_attach_timeout_ms(3'600'000);
  Start("exec sleep 3600");
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnded));
  EXPECT_EQ(Exit().cause(), v1::SchedulerExit::ATTACH_TIMEOUT);
  EXPECT_GE(Exit().still_ns(), 1500 * kNsPerMs);
}

TEST_F(SupervisorTest, WorksBeforeItIsEnabled) {
  scheduler_.set_still_timeout_ms(1500);
  scheduler_.set_attach_timeout_ms(4000);
  Start("while :; do :; done");
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnded));
  EXPECT_EQ(Exit().still_ns(), 0u);
  EXPECT_GT(Exit().attach().cpu_ns(), 0u);
}

TEST_F(SupervisorTest, KernelLetsGoWhileTheProcessGoesOn) {
  SetState("enabled", "scx_test");
  Start("exec sleep 3600");
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnabled));
  SetState("disabled", "");
  ASSERT_TRUE(PollFor([&] { return !supervisor_->alive(); }));
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnded));
  EXPECT_EQ(Exit().cause(), v1::SchedulerExit::EJECTED);
  EXPECT_TRUE(Exit().was_enabled());
}

// The kernel's log in a file.
class RestartTest : public SupervisorTest {
 protected:
  void SetUp() override {
    SupervisorTest::SetUp();
    paths_.kmsg = base::JoinPath(dir_->path(), "kmsg");
    ASSERT_TRUE(base::WriteFileAtomic(paths_.kmsg, "").ok());
    scheduler_.set_restart_timeout_ms(30'000);
    progress_ = {.steps_completed = 1,
                 .steps_total = 5,
                 .during_steps = true,
                 .scenario_start_ns = MonotonicNs()};
    SetState("enabled", "x");
    Start("trap 'exit 0' INT; while :; do sleep 0.02; done");
    ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnabled));
  }
  // Each read of a file is one record of the log here.
  void Log(const std::string& what) {
    const base::UniqueFd log(open(paths_.kmsg.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
    const std::string record = absl::StrCat("6,1,2,-;sched_ext: BPF scheduler \"x\" ", what, "\n");
    ASSERT_EQ(write(log.get(), record.data(), record.size()), static_cast<ssize_t>(record.size()));
    supervisor_->Poll();
  }
  std::vector<v1::Observation> Restarts() {
    return reporter_.Of(v1::Observation::kSchedulerRestart);
  }
  const std::string kGone = "disabled (unregistered from the main kernel)";
};

TEST_F(RestartTest, ComesBackAndIsNoDeath) {
  for (size_t i = 1; i <= 2; ++i) {
    SetState("disabled", "");
    ASSERT_TRUE(PollUntil(Supervisor::Phase::kRestarting));
    EXPECT_TRUE(supervisor_->alive());
    Log(kGone);
    EXPECT_EQ(supervisor_->phase(), Supervisor::Phase::kRestarting);
    SetState("enabled", "x");
    Log("enabled");
    EXPECT_EQ(supervisor_->phase(), Supervisor::Phase::kEnabled);
    ASSERT_EQ(Restarts().size(), i);
    EXPECT_GT(Restarts().back().scheduler_restart().length_ns(), 0u);
    EXPECT_GT(Restarts().back().scheduler_restart().scenario_time_ns(), 0u);
  }
  supervisor_->Stop();
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnded));
  EXPECT_EQ(Exit().cause(), v1::SchedulerExit::STOPPED);
}

TEST_F(RestartTest, BetweenTwoPolls) {
  Log(kGone);
  Log("enabled");
  EXPECT_EQ(supervisor_->phase(), Supervisor::Phase::kEnabled);
  EXPECT_EQ(Restarts().size(), 1u);
}

TEST_F(RestartTest, AnErrorIsNone) {
  SetState("disabling", "x");
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kRestarting));
  progress_.steps_completed = 2;
  Log("disabled (runtime error)");
  EXPECT_FALSE(supervisor_->alive());
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnded));
  EXPECT_EQ(Exit().cause(), v1::SchedulerExit::EJECTED);
  EXPECT_EQ(Exit().steps_completed(), 1u);  // When it began.
  EXPECT_EQ(Exit().restart_timeout_ms(), 0u);
  EXPECT_TRUE(Restarts().empty());
}

TEST_F(RestartTest, EndOfTheProcessIsADeath) {
  SetState("disabled", "");
  Log(kGone);
  kill(supervisor_->pid(), SIGKILL);
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnded));
  EXPECT_EQ(Exit().cause(), v1::SchedulerExit::EJECTED);
  EXPECT_TRUE(Exit().was_enabled());
}

// It may be in the kernel's verifier, which SIGINT does not hurry: nothing is judged by its end.
TEST_F(SupervisorTest, AStopInARestartIsAKill) {
  scheduler_.set_stop_timeout_ms(600'000);
  StartAndLetGo("trap '' INT; while :; do sleep 0.02; done");
  supervisor_->Stop();
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnded));
  const v1::SchedulerExit exit = Exit();
  EXPECT_EQ(exit.cause(), v1::SchedulerExit::STOPPED);
  EXPECT_TRUE(exit.in_restart());
  EXPECT_FALSE(exit.killed());
  EXPECT_EQ(exit.signal(), static_cast<uint32_t>(SIGKILL));
  const auto restarts = reporter_.Of(v1::Observation::kSchedulerRestart);
  ASSERT_EQ(restarts.size(), 1u);
  EXPECT_TRUE(restarts[0].scheduler_restart().unfinished());
}

TEST_F(SupervisorTest, ARestartThatEndedBeforeTheStopIsADeath) {
  StartAndLetGo("until [ -e \"$0.end\" ]; do sleep 0.01; done; exit 3");
  ASSERT_TRUE(base::WriteFileAtomic(base::JoinPath(dir_->path(), "s.end"), "").ok());
  siginfo_t ended{};  // Left for the reaper.
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(supervisor_->pid()), &ended, WEXITED | WNOWAIT), 0);
  supervisor_->Stop();
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnded));
  EXPECT_EQ(Exit().cause(), v1::SchedulerExit::PROCESS_EXITED);
  EXPECT_EQ(Exit().exit_code(), 3);
  EXPECT_FALSE(Exit().in_restart());
}

// Under virtual time the kernel's verifier takes long: while it works the time-out does not run.
TEST_F(SupervisorTest, RestartThatWorksTakesItsTime) {
  scheduler_.set_restart_timeout_ms(300);
  SetState("enabled", "x");
  Start("trap 'exit 0' INT; until [ -e \"$0.rest\" ]; do :; done; exec sleep 3600");
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnabled));
  SetState("disabled", "");
  const uint64_t end = MonotonicNs() + 1500 * kNsPerMs;
  ASSERT_TRUE(PollFor([&] { return MonotonicNs() > end; }));
  EXPECT_EQ(supervisor_->phase(), Supervisor::Phase::kRestarting);
  ASSERT_TRUE(base::WriteFileAtomic(base::JoinPath(dir_->path(), "s.rest"), "").ok());
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnded));
  EXPECT_EQ(Exit().restart_timeout_ms(), 300u);
}

// The attach's limit alone is none for a restart: the stand-still of `restart_timeout_ms` is
// longer.
TEST_F(SupervisorTest, RestartMayTakeBothLimits) {
  scheduler_.set_restart_timeout_ms(1200);
  scheduler_.set_attach_timeout_ms(300);
  SetState("enabled", "x");
  Start("trap 'exit 0' INT; while :; do :; done");
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnabled));
  SetState("disabled", "");
  const uint64_t began = MonotonicNs();
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnded));
  EXPECT_GE(MonotonicNs() - began, 1500 * kNsPerMs - 50 * kNsPerMs);
  EXPECT_EQ(Exit().restart_timeout_ms(), 1500u);
}

TEST_F(SupervisorTest, RestartThatTakesTooLong) {
  scheduler_.set_restart_timeout_ms(50);
  SetState("enabled", "x");
  Start("exec sleep 3600");
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnabled));
  SetState("disabled", "");
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnded));
  EXPECT_EQ(Exit().cause(), v1::SchedulerExit::EJECTED);
  EXPECT_EQ(Exit().restart_timeout_ms(), 50u);
}

TEST_F(SupervisorTest, StopThatIsIgnoredEndsByKill) {
  scheduler_.set_stop_timeout_ms(50);
  SetState("enabled", "scx_test");
  Start("trap '' INT; echo up; while :; do sleep 0.02; done");
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnabled));
  ASSERT_TRUE(PollUntilOutput("up"));
  supervisor_->Stop();
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnded));
  EXPECT_EQ(Exit().cause(), v1::SchedulerExit::STOPPED);
  EXPECT_EQ(Exit().signal(), static_cast<uint32_t>(SIGKILL));
  EXPECT_TRUE(Exit().killed());
  EXPECT_FALSE(Exit().still_running());
  EXPECT_GE(Exit().stop_ns(), 50 * kNsPerMs);
}

TEST_F(SupervisorTest, StopInOrderIsNoKill) {
  SetState("enabled", "scx_test");
  Start("trap 'exit 5' INT; echo up; while :; do sleep 0.02; done");
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnabled));
  ASSERT_TRUE(PollUntilOutput("up"));
  supervisor_->Stop();
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnded));
  EXPECT_EQ(Exit().cause(), v1::SchedulerExit::STOPPED);
  EXPECT_EQ(Exit().exit_code(), 5);
  EXPECT_FALSE(Exit().killed());
  EXPECT_GT(Exit().stop_ns(), 0u);
}

TEST_F(SupervisorTest, OfLongOutputBothEndsAreReported) {
  Start("echo first; yes 0123456789abcdef | head -c 3000000; echo last words; exit 3");
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnded));
  const std::string output = reporter_.SchedulerOutput();
  EXPECT_EQ(output.size(), base::kOutputHead + base::kOutputTail);
  EXPECT_EQ(output.substr(0, 6), "first\n");
  EXPECT_EQ(output.substr(output.size() - 11), "last words\n");
  size_t before_gap = 0;
  uint64_t gap = 0;
  for (const v1::Observation& piece : reporter_.Of(v1::Observation::kSchedulerOutput)) {
    EXPECT_LE(piece.scheduler_output().data().size(), kMaxOutputPiece);
    EXPECT_EQ(piece.scheduler_output().truncated(), piece.scheduler_output().dropped_bytes() > 0);
    gap += piece.scheduler_output().dropped_bytes();
    if (gap == 0) before_gap += piece.scheduler_output().data().size();
  }
  EXPECT_EQ(before_gap, base::kOutputHead);
  EXPECT_EQ(gap, 3'000'000 + 17 - base::kOutputHead - base::kOutputTail);
}

TEST_F(SupervisorTest, EndlessOutputIsBounded) {
  SetState("enabled", "scx_test");
  Start("exec yes 0123456789abcdef0123456789abcdef");
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnabled));
  ASSERT_TRUE(PollFor([&] { return reporter_.SchedulerOutput().size() == base::kOutputHead; }));
  supervisor_->Stop();
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnded));
  EXPECT_LE(reporter_.SchedulerOutput().size(), base::kOutputHead + base::kOutputTail);
}

TEST_F(SupervisorTest, ProgramThatCannotBeExecuted) {
  scheduler_.set_path("missing/program");
  auto started = Supervisor::Start(scheduler_, paths_, &progress_, reaper_.get(), &reporter_);
  ASSERT_TRUE(started.ok());
  EXPECT_EQ((*started)->phase(), Supervisor::Phase::kEnded);
  EXPECT_EQ(Exit().cause(), v1::SchedulerExit::EXEC_FAILED);
  EXPECT_THAT(Exit().detail(), HasSubstr("missing/program: No such file or directory"));
}

TEST_F(SupervisorTest, LibrariesOfTheBundleAreFound) {
  Start("echo \"path=$LD_LIBRARY_PATH\"");
  ASSERT_TRUE(PollUntil(Supervisor::Phase::kEnded));
  EXPECT_THAT(reporter_.SchedulerOutput(), HasSubstr(absl::StrCat("path=", dir_->path(), "/lib")));
}

}  // namespace
}  // namespace ktstr::guest
