// SPDX-License-Identifier: Apache-2.0
#include "cache/deb.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cache/test_kernel.h"

namespace ktstr::cache {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

absl::StatusOr<DebKernel> Read(const std::string& deb) { return ReadDebFromMemory(deb, "x.deb"); }

class DebCompressionTest : public ::testing::TestWithParam<Compression> {};

TEST_P(DebCompressionTest, BothPlacesOfTheImage) {
  for (const char* image :
       {"./boot/vmlinuz-7.3.4", "./usr/lib/modules/7.3.4/vmlinuz", "./lib/modules/7.3.4/vmlinuz"}) {
    absl::StatusOr<DebKernel> deb = Read(MakeDeb({.version = "1:7.3.4-1~bpo13+1",
                                                  .files = {{image, "IMAGE"},
                                                            {"./boot/config-7.3.4", "CONFIG_A=y\n"},
                                                            {"./usr/share/doc/x", "text"}},
                                                  .compression = GetParam()}));
    ASSERT_TRUE(deb.ok()) << deb.status();
    EXPECT_EQ(deb->package, "linux-image-7.3.4+test-amd64");
    EXPECT_EQ(deb->version, "1:7.3.4-1~bpo13+1");
    EXPECT_EQ(deb->architecture, "amd64");
    EXPECT_EQ(deb->image, "IMAGE");
    EXPECT_EQ(deb->config, "CONFIG_A=y\n");
    EXPECT_EQ(deb->config_release, "7.3.4");
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, DebCompressionTest,
                         ::testing::Values(Compression::kNone, Compression::kGzip, Compression::kXz,
                                           Compression::kZstd),
                         [](const auto& info) { return CompressionName(info.param); });

TEST(DebTest, ConfigAlone) {
  absl::StatusOr<DebKernel> deb =
      Read(MakeDeb({.files = {{"./usr/lib/modules/7.3.4+x/config", "CONFIG_A=y\n"}}}));
  ASSERT_TRUE(deb.ok()) << deb.status();
  EXPECT_EQ(deb->image_path, "");
  EXPECT_EQ(deb->config_release, "7.3.4+x");
}

TEST(DebTest, EveryTruncationIsAnError) {
  std::string deb = MakeDeb({.files = {{"./boot/vmlinuz-7", std::string(3000, 'k')}}});
  for (size_t size = 0; size + 1 < deb.size(); size += 3) {
    absl::StatusOr<DebKernel> read = Read(deb.substr(0, size));
    ASSERT_FALSE(read.ok()) << size << " of " << deb.size();
    EXPECT_THAT(std::string(read.status().message()), StartsWith("x.deb: "));
  }
}

TEST(DebTest, HostilePaths) {
  for (const char* path : {"/etc/passwd", "./boot/../../etc/passwd", "../x"}) {
    absl::StatusOr<DebKernel> deb = Read(MakeDeb({.files = {{path, "x"}}}));
    EXPECT_TRUE(absl::IsInvalidArgument(deb.status())) << path << deb.status();
  }
  // A release is one component.
  absl::StatusOr<DebKernel> deb = Read(MakeDeb({.files = {{"./boot/vmlinuz-7/x", "x"}}}));
  ASSERT_TRUE(deb.ok());
  EXPECT_EQ(deb->image_path, "");
}

TEST(DebTest, TwoKernels) {
  absl::StatusOr<DebKernel> deb =
      Read(MakeDeb({.files = {{"./boot/vmlinuz-7", "x"}, {"./boot/vmlinuz-8", "y"}}}));
  EXPECT_THAT(std::string(deb.status().message()), HasSubstr("two kernels"));
}

TEST(DebTest, ImageIsCapped) {
  std::string deb = MakeDeb({.files = {{"./boot/vmlinuz-7", std::string(1 << 20, 'k')}}});
  EXPECT_TRUE(absl::IsResourceExhausted(ReadDebFromMemory(deb, "x.deb", 1 << 19).status()));
}

TEST(DebTest, MissingMembers) {
  EXPECT_THAT(std::string(Read(MakeAr({{"debian-binary", "2.0\n"}})).status().message()),
              HasSubstr("no control file"));
  std::string control = MakeTar({{"control", "Package: a\nVersion: 1\n"}}, Compression::kNone);
  EXPECT_THAT(std::string(Read(MakeAr({{"control.tar", control}})).status().message()),
              HasSubstr("no data archive"));
}

}  // namespace
}  // namespace ktstr::cache
