// SPDX-License-Identifier: Apache-2.0
#include "guest/supervisor.h"

#include <poll.h>
#include <signal.h>
#include <sys/stat.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
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
