// SPDX-License-Identifier: Apache-2.0
#include "guest/attach_watch.h"

#include <unistd.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "gtest/gtest.h"
#include "guest/time.h"

namespace ktstr::guest {
namespace {

class AttachWatchTest : public testing::Test {
 protected:
  void SetUp() override {
    auto dir = base::TempDir::Make("attach");
    ASSERT_TRUE(dir.ok());
    dir_ = std::make_unique<base::TempDir>(std::move(*dir));
    watch_ = std::make_unique<AttachWatch>(dir_->path());
    Process(10, "S", 0);
    watch_->Begin(0);
    watch_->Follow(10);
  }
  // In proc_pid_stat(5)'s format; a quarter of the time in each of its four fields.
  void Process(pid_t pid, const std::string& state, uint64_t cpu_ms,
               const std::string& children = "") {
    const std::string task = absl::StrCat(dir_->path(), "/", pid, "/task/", pid);
    ASSERT_TRUE(base::MakeDirs(task).ok());
    const uint64_t ticks = cpu_ms * sysconf(_SC_CLK_TCK) / 1000 / 4;
    ASSERT_TRUE(base::WriteFileAtomic(
                    absl::StrCat(dir_->path(), "/", pid, "/stat"),
                    absl::StrCat(pid, " (a) R (b) ", state, " 1 1 1 0 -1 4194560 499 0 0 0 ", ticks,
                                 " ", ticks, " ", ticks, " ", ticks, " 20 0 1 0 1350\n"))
                    .ok());
    ASSERT_TRUE(base::WriteFileAtomic(task + "/children", children).ok());
  }
  // Looks every second from `from_s` to `to_s`, and counts the reports.
  int Poll(uint64_t from_s, uint64_t to_s) {
    int reports = 0;
    for (uint64_t s = from_s; s <= to_s; ++s) reports += watch_->Poll(s * kNsPerSecond) ? 1 : 0;
    return reports;
  }
  std::unique_ptr<base::TempDir> dir_;
  std::unique_ptr<AttachWatch> watch_;
};

TEST_F(AttachWatchTest, StandsStillAfterTheLastWork) {
  Poll(1, 3);
  EXPECT_EQ(watch_->still_ns(), 3 * kNsPerSecond);
  Process(10, "S", 400);
  Poll(4, 4);
  EXPECT_EQ(watch_->still_ns(), 0u);
  EXPECT_EQ(watch_->progress().cpu_ns(), 400 * kNsPerMs);
  Poll(5, 20);
  EXPECT_EQ(watch_->still_ns(), 16 * kNsPerSecond);
}

// One that looks for something every second has not stood still by the clock, and does not get on.
TEST_F(AttachWatchTest, LessThanAHundredthOfACpuIsStandingStill) {
  for (uint64_t s = 1; s <= 50; ++s) {
    Process(10, "S", s * 4 / 10 * 10);
    Poll(s, s);
  }
  EXPECT_EQ(watch_->still_ns(), 50 * kNsPerSecond);
  for (uint64_t s = 51; s <= 150; ++s) {
    Process(10, "S", 200 + (s - 50) * 80);
    Poll(s, s);
  }
  EXPECT_EQ(watch_->still_ns(), 0u);
}

TEST_F(AttachWatchTest, RunnableIsNotStill) {
  Process(10, "R", 0);
  Poll(1, 9);
  EXPECT_EQ(watch_->still_ns(), 0u);
}

TEST_F(AttachWatchTest, ChildrenCount) {
  Process(10, "S", 40, "11 12 ");
  Process(11, "S", 80);
  Process(12, "S", 0, "13 ");
  Process(13, "R", 120);
  Poll(1, 4);
  EXPECT_EQ(watch_->progress().cpu_ns(), 240 * kNsPerMs);
  EXPECT_EQ(watch_->still_ns(), 0u);
  // A child that ended and was not waited for takes its time along.
  Process(10, "S", 40);
  Poll(5, 5);
  EXPECT_EQ(watch_->progress().cpu_ns(), 240 * kNsPerMs);
}

// A loop of parents, as a hostile guest may show it.
TEST_F(AttachWatchTest, DepthIsBounded) {
  Process(10, "S", 40, "10 ");
  Poll(1, 1);
  EXPECT_EQ(watch_->progress().cpu_ns(), 200 * kNsPerMs);
}

TEST_F(AttachWatchTest, ReportsEveryFiveSeconds) { EXPECT_EQ(Poll(1, 20), 4); }

TEST_F(AttachWatchTest, WithoutTheProcessNothingMoves) {
  watch_->Follow(99);
  EXPECT_EQ(Poll(1, 5), 1);
  EXPECT_EQ(watch_->still_ns(), 5 * kNsPerSecond);
}

}  // namespace
}  // namespace ktstr::guest
