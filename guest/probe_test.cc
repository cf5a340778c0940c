// SPDX-License-Identifier: Apache-2.0
#include "guest/probe.h"

#include <poll.h>
#include <sys/wait.h>

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
using Phase = Probe::Phase;

// Shell scripts stand for probes.
class ProbeTest : public testing::Test {
 protected:
  void SetUp() override {
    auto dir = base::TempDir::Make("probe");
    ASSERT_TRUE(dir.ok());
    dir_ = std::make_unique<base::TempDir>(std::move(*dir));
    auto reaper = Reaper::Make();
    ASSERT_TRUE(reaper.ok());
    reaper_ = std::make_unique<Reaper>(std::move(*reaper));
    plan_.set_path("p");
    plan_.set_start_timeout_ms(30'000);
    plan_.set_stop_timeout_ms(30'000);
  }
  void TearDown() override {
    // A test that failed half-way must leave no script behind.
    if (probe_ == nullptr || probe_->phase() == Phase::kEnded) return;
    probe_->Stop();
    PollUntil(Phase::kEnded);
  }

  void Start(const std::string& script) {
    const std::string path = base::JoinPath(dir_->path(), "p");
    ASSERT_TRUE(base::WriteFileAtomic(path, absl::StrCat("#!/bin/sh\n", script, "\n"), 0755).ok());
    auto started = Probe::Start(plan_, dir_->path(), reaper_.get(), &reporter_);
    ASSERT_TRUE(started.ok()) << started.status();
    probe_ = *std::move(started);
  }
  bool PollUntil(Phase phase) {
    const uint64_t end = MonotonicNs() + 60 * kNsPerSecond;
    while (true) {
      probe_->Poll();
      if (probe_->phase() == phase) return true;
      if (MonotonicNs() >= end) return false;
      pollfd fd = {.fd = reaper_->fd(), .events = POLLIN};
      poll(&fd, 1, 10);
    }
  }
  std::string Reason() const { return std::string(probe_->status().message()); }

  std::unique_ptr<base::TempDir> dir_;
  v1::GuestProbe plan_;
  std::unique_ptr<Reaper> reaper_;
  FakeReporter reporter_;
  std::unique_ptr<Probe> probe_;
};

TEST_F(ProbeTest, IsInPlaceAndStops) {
  plan_.add_args("--point");
  plan_.add_args("a b");
  Start("trap 'echo counts; exit 0' INT; echo \"args: $1|$2\"; while :; do sleep 0.02; done");
  ASSERT_TRUE(PollUntil(Phase::kInPlace));
  EXPECT_THAT(reporter_.SchedulerOutput(), HasSubstr("args: --point|a b\n"));
  probe_->Stop();
  ASSERT_TRUE(PollUntil(Phase::kEnded));
  EXPECT_TRUE(probe_->status().ok()) << probe_->status();
  EXPECT_THAT(reporter_.SchedulerOutput(), HasSubstr("counts\n"));
}

TEST_F(ProbeTest, HalfALineIsNotInPlace) {
  plan_.set_start_timeout_ms(1);
  Start("printf 'half a line'; exec sleep 60");
  ASSERT_TRUE(PollUntil(Phase::kEnded));
  EXPECT_EQ(Reason(), "probe p was not in place after 1 ms");
}

TEST_F(ProbeTest, EndAtStartSaysWhy) {
  Start("echo first; echo 'no such callback'; exit 64");
  ASSERT_TRUE(PollUntil(Phase::kEnded));
  EXPECT_EQ(Reason(), "probe p ended with code 64 before it was told to: no such callback");
}

TEST_F(ProbeTest, WhatTheSchedulerLacksIsTheInputsFault) {
  Start("echo 'no such callback'; exit 65");
  ASSERT_TRUE(PollUntil(Phase::kEnded));
  EXPECT_TRUE(probe_->refused());
  EXPECT_EQ(Reason(), "no such callback");
}

TEST_F(ProbeTest, EndBySignal) {
  Start("kill -SEGV $$");
  ASSERT_TRUE(PollUntil(Phase::kEnded));
  EXPECT_EQ(Reason(), "probe p ended by signal 11 before it was told to");
}

TEST_F(ProbeTest, CodeAfterStopCounts) {
  Start("trap 'echo lost; exit 1' INT; echo here; while :; do sleep 0.02; done");
  ASSERT_TRUE(PollUntil(Phase::kInPlace));
  probe_->Stop();
  ASSERT_TRUE(PollUntil(Phase::kEnded));
  EXPECT_EQ(Reason(), "probe p ended with code 1: lost");
}

TEST_F(ProbeTest, IsKilledWhenItDoesNotStop) {
  plan_.set_stop_timeout_ms(1);
  Start("trap '' INT; echo here; while :; do sleep 0.02; done");
  ASSERT_TRUE(PollUntil(Phase::kInPlace));
  probe_->Stop();
  ASSERT_TRUE(PollUntil(Phase::kEnded));
  EXPECT_EQ(Reason(), "probe p did not end within 1 ms of SIGINT");
}

// Stands for a probe that is stuck in the kernel: another reaper takes its end, so that the probe
// never sees one.
TEST_F(ProbeTest, GivesUpAfterSigkill) {
  plan_.set_stop_timeout_ms(1);
  Start("exit 0");
  while (waitpid(-1, nullptr, 0) > 0) {
  }
  probe_->Stop();
  ASSERT_TRUE(PollUntil(Phase::kEnded));
  EXPECT_EQ(Reason(), "probe p did not end within 1 ms of SIGINT, nor within 5000 ms of SIGKILL");
}

TEST_F(ProbeTest, CannotBeExecuted) {
  auto started = Probe::Start(plan_, dir_->path(), reaper_.get(), &reporter_);
  ASSERT_FALSE(started.ok());
  EXPECT_THAT(std::string(started.status().message()), HasSubstr("cannot execute p: No such file"));
}

}  // namespace
}  // namespace ktstr::guest
