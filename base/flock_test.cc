// SPDX-License-Identifier: Apache-2.0
#include "base/flock.h"

#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/wait_scope.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ktstr::base {
namespace {

using ::testing::HasSubstr;

class FlockTest : public ::testing::Test {
 protected:
  TempDir dir_ = *TempDir::Make("flock_test");
  std::string path_ = JoinPath(dir_.path(), "a.lock");
};

TEST_F(FlockTest, ExclusiveKeepsOthersOutAndNamesTheHolder) {
  auto held = FileLock::TryAcquire(path_, LockMode::kExclusive);
  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_EQ(FileLock::TryAcquire(path_, LockMode::kShared).status().code(),
            absl::StatusCode::kUnavailable);
  auto late = FileLock::Acquire(path_, LockMode::kExclusive, absl::Milliseconds(10), "run-dir x");
  EXPECT_EQ(late.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(late.status().message(),
              HasSubstr("flock LOCK_EX on run-dir x timed out after 10ms"));
  EXPECT_THAT(late.status().message(), HasSubstr(absl::StrCat("pid=", getpid())));
}

TEST_F(FlockTest, SharedAdmitsShared) {
  auto a = FileLock::TryAcquire(path_, LockMode::kShared);
  auto b = FileLock::TryAcquire(path_, LockMode::kShared);
  EXPECT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(LockHolders(path_).size(), 2u);
}

TEST_F(FlockTest, IsFreeAfterTheHolder) {
  { auto held = FileLock::TryAcquire(path_, LockMode::kExclusive); }
  EXPECT_TRUE(FileLock::TryAcquire(path_, LockMode::kExclusive).ok());
}

TEST_F(FlockTest, DoesNotFollowLinks) {
  ASSERT_EQ(symlink("/dev/null", path_.c_str()), 0);
  EXPECT_FALSE(FileLock::TryAcquire(path_, LockMode::kExclusive).ok());
}

TEST_F(FlockTest, MissingDirectoryNamesThePath) {
  auto lock = FileLock::TryAcquire(JoinPath(dir_.path(), "no/a.lock"), LockMode::kShared);
  EXPECT_EQ(lock.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(lock.status().message(), HasSubstr("no/a.lock"));
}

TEST(FileLock, AWaitIsToldAndCanBeCancelled) {
  auto dir = TempDir::Make("flock");
  ASSERT_TRUE(dir.ok());
  const std::string path = dir->path() + "/x.lock";
  const auto held = FileLock::TryAcquire(path, LockMode::kExclusive);
  ASSERT_TRUE(held.ok()) << held.status();
  std::vector<std::string> told;
  const WaitScope outer([] { return false; });
  {
    const WaitScope scope([&told] { return !told.empty(); },
                          [&told](const std::string& text) { told.push_back(text); });
    const auto lock = FileLock::Acquire(path, LockMode::kShared, absl::Minutes(5), "kernel x");
    EXPECT_TRUE(absl::IsCancelled(lock.status())) << lock.status();
    ASSERT_EQ(told.size(), 1u);
    EXPECT_EQ(told[0].rfind("waiting for kernel x (lockfile " + path, 0), 0u) << told[0];
    EXPECT_TRUE(WaitScope::Cancelled());
  }
  EXPECT_FALSE(WaitScope::Cancelled());  // The outer one counts again.
}

}  // namespace
}  // namespace ktstr::base
