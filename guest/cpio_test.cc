// SPDX-License-Identifier: Apache-2.0
#include "guest/cpio.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "guest/bundle.h"

namespace ktstr::guest {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kFile = 0100644;

std::string Entry(const std::string& name, uint32_t mode, const std::string& data) {
  std::string entry =
      absl::StrFormat("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", 1, mode, 0, 0,
                      1, 0, data.size(), 0, 0, 0, 0, name.size() + 1, 0);
  entry += name;
  entry += '\0';
  entry.resize((entry.size() + 3) & ~size_t{3});
  entry += data;
  entry.resize((entry.size() + 3) & ~size_t{3});
  return entry;
}
std::string Trailer() { return Entry("TRAILER!!!", 0, ""); }

TEST(CpioTest, UnpacksFilesAndDirectories) {
  auto dir = base::TempDir::Make("cpio");
  ASSERT_TRUE(dir.ok());
  const std::string root = base::JoinPath(dir->path(), "run/bundle");
  const std::string archive =
      absl::StrCat(Entry("bin", 0040755, ""), Entry("bin/s", 0100755, "#!x"),
                   Entry("lib/deep/l.so", kFile, ""), Trailer(), "rest");
  ASSERT_TRUE(UnpackCpio(archive, root).ok());
  EXPECT_EQ(*base::ReadFile(base::JoinPath(root, "bin/s")), "#!x");
  EXPECT_EQ(*base::ReadFile(base::JoinPath(root, "lib/deep/l.so")), "");
  struct stat info;
  ASSERT_EQ(stat(base::JoinPath(root, "bin/s").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0755u);
}

TEST(CpioTest, EmptyArchiveHoldsNothing) {
  auto entries = ParseCpio(Trailer());
  ASSERT_TRUE(entries.ok());
  EXPECT_TRUE(entries->empty());
}

TEST(CpioTest, PathsThatLeaveTheRootAreRefused) {
  for (const char* name : {"/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/", "a/.", ".."}) {
    auto entries = ParseCpio(absl::StrCat(Entry(name, kFile, "x"), Trailer()));
    EXPECT_EQ(entries.status().code(), absl::StatusCode::kInvalidArgument) << name;
  }
  EXPECT_FALSE(ParseCpio(absl::StrCat(Entry(std::string("a\0b", 3), kFile, ""), Trailer())).ok());
}

TEST(CpioTest, OtherKindsOfFileAreRefused) {
  for (uint32_t mode : {0120777u, 0020600u, 0060600u, 0010600u, 0140600u, 0u}) {
    EXPECT_FALSE(ParseCpio(absl::StrCat(Entry("a", mode, "x"), Trailer())).ok()) << mode;
  }
}

TEST(CpioTest, EveryCutIsRefusedAndNothingIsReadBeyondIt) {
  const std::string archive =
      absl::StrCat(Entry("a", kFile, "12345"), Entry("b", kFile, "678"), Trailer());
  for (size_t size = 0; size < archive.size() - 1; ++size) {
    const std::string cut =
        archive.substr(0, size);  // Its own allocation: a sanitizer sees any read past it.
    EXPECT_FALSE(ParseCpio(cut).ok()) << size;
  }
}

TEST(CpioTest, SizesThatLieAreRefused) {
  std::string archive = absl::StrCat(Entry("a", kFile, "12345"), Trailer());
  for (size_t field : {6u, 11u}) {
    for (const char* value : {"ffffffff", "7fffffff", "00000000", "0000000g"}) {
      if (field == 6 && std::string(value) == "00000000")
        continue;  // A smaller file: the next header is then wrong.
      std::string bad = archive;
      bad.replace(6 + field * 8, 8, value);
      auto entries = ParseCpio(bad);
      ASSERT_FALSE(entries.ok());
      EXPECT_THAT(std::string(entries.status().message()), HasSubstr("entry at byte 0"));
    }
  }
}

TEST(CpioTest, TooManyEntriesAreRefused) {
  std::string archive;
  for (size_t i = 0; i <= kMaxCpioEntries; ++i) archive += Entry("a", kFile, "");
  archive += Trailer();
  EXPECT_THAT(std::string(ParseCpio(archive).status().message()), HasSubstr("more than"));
}

TEST(CpioTest, FileThatComesTwiceIsRefused) {
  auto dir = base::TempDir::Make("cpio");
  ASSERT_TRUE(dir.ok());
  const std::string archive =
      absl::StrCat(Entry("a", kFile, "1"), Entry("a", kFile, "2"), Trailer());
  EXPECT_EQ(UnpackCpio(archive, dir->path()).code(), absl::StatusCode::kAlreadyExists);
}

TEST(BundleTest, ReadsThePlanAndLinksWhatProgramsNameByAbsolutePaths) {
  auto dir = base::TempDir::Make("bundle");
  ASSERT_TRUE(dir.ok());
  v1::GuestPlan plan;
  plan.set_seed(7);
  const std::string archive = absl::StrCat(
      Entry("plan.pb", kFile, plan.SerializeAsString()),
      Entry("root/lib64/ld-linux-x86-64.so.2", 0100755, "loader"),
      Entry("root/nix/store/x-glibc/lib/ld-linux-x86-64.so.2", 0100755, "other"), Trailer());
  auto loaded = LoadBundle(archive, base::JoinPath(dir->path(), "b"), dir->path());
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->seed(), 7u);
  EXPECT_EQ(*base::ReadFile(base::JoinPath(dir->path(), "lib64/ld-linux-x86-64.so.2")), "loader");
  EXPECT_EQ(
      *base::ReadFile(base::JoinPath(dir->path(), "nix/store/x-glibc/lib/ld-linux-x86-64.so.2")),
      "other");
}

// An existing file stays as it is, and the error names it.
TEST(BundleTest, AbsolutePathsReplaceNothing) {
  auto dir = base::TempDir::Make("bundle");
  ASSERT_TRUE(base::WriteFileAtomic(base::JoinPath(dir->path(), "init"), "agent").ok());
  for (const char* name : {"root/init", "root/init/x"}) {
    auto loaded =
        LoadBundle(absl::StrCat(Entry(name, kFile, "evil"), Trailer()),
                   base::JoinPath(dir->path(), absl::StrCat("b", strlen(name))), dir->path());
    EXPECT_THAT(std::string(loaded.status().message()), HasSubstr(dir->path() + "/init")) << name;
  }
  EXPECT_EQ(*base::ReadFile(base::JoinPath(dir->path(), "init")), "agent");
  EXPECT_FALSE(LoadBundle(absl::StrCat(Entry("root/../x", kFile, "evil"), Trailer()),
                          base::JoinPath(dir->path(), "c"), dir->path())
                   .ok());
}

TEST(BundleTest, MissingOrBrokenPlanIsNamed) {
  auto dir = base::TempDir::Make("bundle");
  ASSERT_TRUE(dir.ok());
  auto missing =
      LoadBundle(Trailer(), base::JoinPath(dir->path(), "a"), base::JoinPath(dir->path(), "l"));
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("plan.pb"));
  auto broken = LoadBundle(absl::StrCat(Entry("plan.pb", kFile, "\xff\xff\xff"), Trailer()),
                           base::JoinPath(dir->path(), "b"), base::JoinPath(dir->path(), "l"));
  EXPECT_THAT(std::string(broken.status().message()), HasSubstr("plan.pb"));
}

}  // namespace
}  // namespace ktstr::guest
