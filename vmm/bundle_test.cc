// SPDX-License-Identifier: Apache-2.0
// bundle.h, boot_image.h and kvm_probe.h
#include "vmm/bundle.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "base/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/boot_image.h"
#include "vmm/kvm_probe.h"

namespace ktstr::vmm {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr uint64_t kLimit = 1 << 20;

std::string Content(int fd) {
  struct stat info;
  EXPECT_EQ(fstat(fd, &info), 0);
  std::string text(static_cast<size_t>(info.st_size), '\0');
  EXPECT_EQ(pread(fd, text.data(), text.size(), 0), info.st_size);
  return text;
}

std::string Field(const std::string& archive, size_t entry, int index) {
  return archive.substr(entry + 6 + 8 * static_cast<size_t>(index), 8);
}

TEST(Bundle, IsAFunctionOfItsContent) {
  std::string archives[2];
  for (int i = 0; i < 2; ++i) {
    BundleBuilder builder;
    base::UniqueFd file = *base::MakeMemfd("file", 0);
    ASSERT_TRUE(base::WriteAll(file.get(), "program", "file").ok());
    if (i == 0) builder.AddData("plan.pb", "12345", 0644);
    builder.AddFile("bin/prog", 7, 0755, [&file] { return base::Reopen(file.get(), "file"); });
    if (i == 1) builder.AddData("plan.pb", "12345", 0644);
    auto memfd = builder.Finish(kLimit);
    ASSERT_TRUE(memfd.ok()) << memfd.status();
    archives[i] = Content(memfd->get());
  }
  EXPECT_EQ(archives[0], archives[1]);
  const std::string& archive = archives[0];
  EXPECT_EQ(archive.size() % 4, 0u);
  EXPECT_THAT(archive, StartsWith("070701"));
  EXPECT_EQ(archive.substr(110, 4), std::string("bin\0", 4));
  EXPECT_EQ(Field(archive, 0, 1), "000041ED");  // A directory, 0755.
  EXPECT_EQ(Field(archive, 0, 5), "00000000");  // mtime
  const size_t program = archive.find("070701", 6);
  EXPECT_EQ(Field(archive, program, 1), "000081ED");
  EXPECT_EQ(Field(archive, program, 6), "00000007");
  EXPECT_LT(archive.find("bin/prog"), archive.find("plan.pb"));
  EXPECT_THAT(archive, HasSubstr(std::string("TRAILER!!!\0", 11)));
}

TEST(Bundle, BadPathsAreRefused) {
  for (const char* path : {"", "/abs", "a/../b", "..", "a//b", "a/", ".", "./a"}) {
    BundleBuilder builder;
    builder.AddData(path, "x", 0644);
    EXPECT_TRUE(absl::IsInvalidArgument(builder.Finish(kLimit).status())) << path;
  }
  BundleBuilder twice;
  twice.AddData("a", "x", 0644);
  twice.AddData("a", "y", 0644);
  EXPECT_THAT(std::string(twice.Finish(kLimit).status().message()), HasSubstr("a comes twice"));
  BundleBuilder below;
  below.AddData("a", "x", 0644);
  below.AddData("a/b", "y", 0644);
  EXPECT_THAT(std::string(below.Finish(kLimit).status().message()), HasSubstr("a is a file"));
}

TEST(Bundle, OnlyRegularFilesOfTheirSize) {
  BundleBuilder device;
  device.AddFile("x", 0, 0644, [] { return base::Open("/dev/null", O_RDONLY); });
  EXPECT_THAT(std::string(device.Finish(kLimit).status().message()),
              HasSubstr("x is not a regular file"));
  base::UniqueFd file = *base::MakeMemfd("file", 5);
  BundleBuilder other;
  other.AddFile("x", 4, 0644, [&file] { return base::Reopen(file.get(), "file"); });
  EXPECT_THAT(std::string(other.Finish(kLimit).status().message()),
              HasSubstr("x has 5 bytes, not 4"));
  BundleBuilder gone;
  gone.AddFile("x", 4, 0644,
               [] { return absl::StatusOr<base::UniqueFd>(absl::NotFoundError("gone")); });
  EXPECT_TRUE(absl::IsNotFound(gone.Finish(kLimit).status()));
}

// Finish() refuses what is too large before it opens a file or takes memory.
TEST(Bundle, LimitIsExact) {
  auto make = [](uint64_t limit) {
    BundleBuilder builder;
    builder.AddData("a/b", "12345", 0644);
    return builder.Finish(limit);
  };
  const auto whole = make(kLimit);
  ASSERT_TRUE(whole.ok());
  const uint64_t bytes = Content(whole->get()).size();
  EXPECT_TRUE(make(bytes).ok());
  const absl::Status status = make(bytes - 1).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("bytes of 2 files and directories, at most"));
  BundleBuilder bomb;
  bool opened = false;
  for (int i = 0; i < 1024; ++i) {
    bomb.AddFile(std::to_string(i), uint64_t{512} << 20, 0644, [&opened] {
      opened = true;
      return absl::StatusOr<base::UniqueFd>(absl::InternalError("opened"));
    });
  }
  EXPECT_TRUE(absl::IsInvalidArgument(bomb.Finish(uint64_t{1} << 30).status()));
  EXPECT_FALSE(opened);
}

TEST(BootImage, HoldsAgentAndConfig) {
  auto dir = base::TempDir::Make("boot-image");
  ASSERT_TRUE(dir.ok());
  const std::string agent = dir->path() + "/agent";
  ASSERT_TRUE(base::WriteFileAtomic(agent, "AGENT", 0755).ok());
  auto image = MakeBootImage(agent, "7.3.4", "CONFIG_X=y\n");
  ASSERT_TRUE(image.ok()) << image.status();
  const std::string archive = Content(image->get());
  EXPECT_THAT(archive, HasSubstr("boot/config-7.3.4"));
  EXPECT_THAT(archive, HasSubstr("CONFIG_X=y\n"));
  EXPECT_THAT(archive, HasSubstr("AGENT"));
  EXPECT_THAT(Content(MakeBootImage(agent, "7.3.4", "")->get()),
              ::testing::Not(HasSubstr("config-")));
}

TEST(BootImage, WithoutAgentNamesThePath) {
  auto image = MakeBootImage("/nonexistent/agent", "1", "");
  EXPECT_TRUE(absl::IsNotFound(image.status()));
  EXPECT_THAT(std::string(image.status().message()), HasSubstr("/nonexistent/agent"));
}

TEST(KvmProbe, MissingDevice) {
  const absl::Status status = CheckKvm("/nonexistent/kvm");
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_THAT(std::string(status.message()),
              StartsWith("/nonexistent/kvm not found. KVM requires:\n  - Linux kernel with KVM"));
}

TEST(KvmProbe, UnreadableDevice) {
  if (geteuid() == 0) GTEST_SKIP() << "root may open everything";
  auto dir = base::TempDir::Make("kvm");
  const std::string path = dir->path() + "/kvm";
  ASSERT_TRUE(base::WriteFileAtomic(path, "", 0000).ok());
  const absl::Status status = CheckKvm(path);
  EXPECT_TRUE(absl::IsPermissionDenied(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("permission denied. Add your user"));
}

TEST(KvmProbe, SomethingElse) { EXPECT_TRUE(absl::IsFailedPrecondition(CheckKvm("/dev/null"))); }

}  // namespace
}  // namespace ktstr::vmm
