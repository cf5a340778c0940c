// SPDX-License-Identifier: Apache-2.0
#include "guest/quiet.h"

#include <string>

#include "base/file.h"
#include "gtest/gtest.h"

namespace ktstr::guest {
namespace {

TEST(QuietTest, ReadsTheNumberOfRunningTasks) {
  EXPECT_EQ(RunningTasks("cpu 1 2\nprocs_running 3\nprocs_blocked 0\n"), 3);
  EXPECT_EQ(RunningTasks("cpu 1 2\nprocs_running 12"), 12);
  EXPECT_EQ(RunningTasks("cpu 1 2\n"), -1);
  EXPECT_EQ(RunningTasks("\nprocs_running many\n"), -1);
}

TEST(QuietTest, AllButTheFirstCpuGo) {
  auto dir = base::TempDir::Make("quiet");
  ASSERT_TRUE(dir.ok());
  for (const char* cpu : {"cpu0", "cpu1", "cpu2", "cpu3"})
    ASSERT_TRUE(base::MakeDirs(base::JoinPath(dir->path(), cpu)).ok());
  // A CPU that cannot go offline has no such file.
  for (const char* file : {"cpu0/online", "cpu1/online", "cpu3/online"})
    ASSERT_TRUE(base::WriteFileAtomic(base::JoinPath(dir->path(), file), "1").ok());
  EXPECT_EQ(TakeOthersOffline(dir->path()), 2);
  EXPECT_EQ(*base::ReadFile(base::JoinPath(dir->path(), "cpu0/online")), "1");
  EXPECT_EQ(*base::ReadFile(base::JoinPath(dir->path(), "cpu1/online")), "0");
  EXPECT_EQ(*base::ReadFile(base::JoinPath(dir->path(), "cpu3/online")), "0");
  EXPECT_EQ(TakeOthersOffline(base::JoinPath(dir->path(), "none")), 0);
}

}  // namespace
}  // namespace ktstr::guest
