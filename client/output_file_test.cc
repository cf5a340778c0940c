// SPDX-License-Identifier: Apache-2.0
#include "client/output_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/file.h"

namespace ktstr::client {
namespace {

using ::testing::HasSubstr;

class OutputFileTest : public ::testing::Test {
 protected:
  std::string In(const std::string& name) const { return base::JoinPath(dir_.path(), name); }
  static std::string Why(const absl::Status& status) { return std::string(status.message()); }
  std::vector<std::string> Files() const { return *base::ListDir(dir_.path()); }

  base::TempDir dir_ = *base::TempDir::Make("output");
};

TEST_F(OutputFileTest, WritesAndReplacesARegularFile) {
  ASSERT_TRUE(CheckOutputFile("-o", In("new")).ok());
  EXPECT_TRUE(Files().empty());
  ASSERT_TRUE(WriteOutputFile(In("new"), "one").ok());
  ASSERT_TRUE(CheckOutputFile("-o", In("new")).ok());
  ASSERT_TRUE(WriteOutputFile(In("new"), "two").ok());
  EXPECT_EQ(*base::ReadFile(In("new")), "two");
  EXPECT_THAT(Files(), testing::ElementsAre("new"));
}

TEST_F(OutputFileTest, ModeFollowsTheUmask) {
  const mode_t before = umask(0077);
  const absl::Status status = WriteOutputFile(In("private"), "x");
  umask(before);
  ASSERT_TRUE(status.ok()) << status;
  struct stat info {};
  ASSERT_EQ(stat(In("private").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(OutputFileTest, ALinkStaysALink) {
  ASSERT_EQ(symlink("target", In("link").c_str()), 0);
  ASSERT_TRUE(CheckOutputFile("-o", In("link")).ok());
  ASSERT_TRUE(WriteOutputFile(In("link"), "one").ok());
  ASSERT_TRUE(WriteOutputFile(In("link"), "two").ok());
  EXPECT_EQ(*base::ReadFile(In("target")), "two");
  EXPECT_THAT(Files(), testing::UnorderedElementsAre("link", "target"));
  struct stat info {};
  ASSERT_EQ(lstat(In("link").c_str(), &info), 0);
  EXPECT_TRUE(S_ISLNK(info.st_mode));
}

TEST_F(OutputFileTest, LinksInACircleAreAnError) {
  ASSERT_EQ(symlink("b", In("a").c_str()), 0);
  ASSERT_EQ(symlink("a", In("b").c_str()), 0);
  EXPECT_THAT(Why(CheckOutputFile("-o", In("a"))), HasSubstr("symbolic links"));
  EXPECT_FALSE(WriteOutputFile(In("a"), "x").ok());
}

// The pipe stands for everything but regular files: to replace /dev/stdout breaks the machine.
TEST_F(OutputFileTest, APipeIsWrittenToAndStays) {
  ASSERT_EQ(mkfifo(In("pipe").c_str(), 0600), 0);
  auto reader = base::Open(In("pipe"), O_RDONLY | O_NONBLOCK);
  ASSERT_TRUE(reader.ok());
  ASSERT_TRUE(CheckOutputFile("-o", In("pipe")).ok());
  ASSERT_TRUE(WriteOutputFile(In("pipe"), "through").ok());
  char got[16] = {};
  EXPECT_EQ(read(reader->get(), got, sizeof(got)), 7);
  EXPECT_STREQ(got, "through");
  struct stat info {};
  ASSERT_EQ(lstat(In("pipe").c_str(), &info), 0);
  EXPECT_TRUE(S_ISFIFO(info.st_mode));
}

TEST_F(OutputFileTest, AFullDiskIsSomethingMissing) {
  const absl::Status status = WriteOutputFile("/dev/full", "x");
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_THAT(Why(status), HasSubstr("Free space there"));
}

TEST_F(OutputFileTest, TellsBeforehandWhatCannotBeWritten) {
  EXPECT_THAT(Why(CheckOutputFile("--junit", In("no/such"))),
              HasSubstr("--junit: " + In("no/such")));
  EXPECT_THAT(Why(CheckOutputFile("--junit", dir_.path())), HasSubstr("Is a directory"));
  ASSERT_TRUE(base::WriteFileAtomic(In("file"), "").ok());
  EXPECT_THAT(Why(CheckOutputFile("--junit", In("file/x"))), HasSubstr("Not a directory"));
  EXPECT_THAT(Why(CheckOutputDirectory("-o", In("file"))), HasSubstr("Not a directory"));
  EXPECT_THAT(Why(CheckOutputDirectory("-o", In("file/x"))), HasSubstr("Not a directory"));
  EXPECT_TRUE(CheckOutputDirectory("-o", In("a/b/c")).ok());
  EXPECT_TRUE(CheckOutputDirectory("-o", "relative/missing").ok());
  EXPECT_TRUE(CheckOutputFile("--junit", "").ok());
  EXPECT_THAT(Files(), testing::ElementsAre("file"));
}

}  // namespace
}  // namespace ktstr::client
