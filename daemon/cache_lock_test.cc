// SPDX-License-Identifier: Apache-2.0
#include "daemon/cache_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/file.h"

namespace ktstr::daemon {
namespace {

using testing::HasSubstr;

TEST(CacheLock, NamesTheSocketOfItsHolder) {
  const base::TempDir dir = *base::TempDir::Make("cache-lock");
  {
    const auto first = TakeCacheLock(dir.path(), "/run/a/ktstrd.sock");
    ASSERT_TRUE(first.ok()) << first.status();
    const absl::Status second = TakeCacheLock(dir.path(), "/run/b/ktstrd.sock").status();
    EXPECT_EQ(second.code(), absl::StatusCode::kAlreadyExists);
    EXPECT_THAT(std::string(second.message()), HasSubstr("with the socket /run/a/ktstrd.sock"));
    EXPECT_EQ(SocketElsewhere(second), "/run/a/ktstrd.sock");
  }
  // A shorter text replaces a longer one whole.
  const auto third = TakeCacheLock(dir.path(), "/r/c.sock");
  ASSERT_TRUE(third.ok()) << third.status();
  EXPECT_EQ(SocketElsewhere(TakeCacheLock(dir.path(), "/run/b/ktstrd.sock").status()), "/r/c.sock");
}

TEST(CacheLock, FileThatNamesNoSocket) {
  const base::TempDir dir = *base::TempDir::Make("cache-lock");
  const std::string path = dir.path() + "/runs/.locks/ktstrd.lock";
  ASSERT_TRUE(base::MakeDirs(std::string(base::Dirname(path))).ok());
  ASSERT_TRUE(base::WriteFileAtomic(path, "pid 1\nsocket relative\nsocket \n").ok());
  const auto held = base::FileLock::TryAcquire(path, base::LockMode::kExclusive);
  ASSERT_TRUE(held.ok()) << held.status();
  const absl::Status status = TakeCacheLock(dir.path(), "/run/b/ktstrd.sock").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(SocketElsewhere(status), "");
  EXPECT_THAT(std::string(status.message()), HasSubstr("with another socket"));
}

TEST(CacheLock, FileOfAnotherUserNamesNoSocket) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can give a file away";
  const base::TempDir dir = *base::TempDir::Make("cache-lock");
  const auto first = TakeCacheLock(dir.path(), "/run/a/ktstrd.sock");
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_EQ(chown((dir.path() + "/runs/.locks/ktstrd.lock").c_str(), 1, 1), 0);
  const absl::Status status = TakeCacheLock(dir.path(), "/run/b/ktstrd.sock").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(SocketElsewhere(status), "");
}

}  // namespace
}  // namespace ktstr::daemon
