// SPDX-License-Identifier: Apache-2.0
#include "cache/kernel_package.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cache/test_kernel.h"

namespace ktstr::cache {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

absl::StatusOr<KernelPackage> Read(const std::string& data,
                                   uint64_t max_image = uint64_t{256} << 20) {
  MemorySource source(data);
  return ReadKernelPackage(&source, "x.deb", max_image);
}

class DebCompressionTest : public ::testing::TestWithParam<Compression> {};

TEST_P(DebCompressionTest, BothPlacesOfTheImage) {
  for (const char* image :
       {"./boot/vmlinuz-7.3.4", "./usr/lib/modules/7.3.4/vmlinuz", "./lib/modules/7.3.4/vmlinuz"}) {
    absl::StatusOr<KernelPackage> deb =
        Read(MakeDeb({.version = "1:7.3.4-1~bpo13+1",
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
  absl::StatusOr<KernelPackage> deb =
      Read(MakeDeb({.files = {{"./usr/lib/modules/7.3.4+x/config", "CONFIG_A=y\n"}}}));
  ASSERT_TRUE(deb.ok()) << deb.status();
  EXPECT_EQ(deb->image_path, "");
  EXPECT_EQ(deb->config_release, "7.3.4+x");
}

TEST(DebTest, EveryTruncationIsAnError) {
  std::string deb = MakeDeb({.files = {{"./boot/vmlinuz-7", std::string(3000, 'k')}}});
  for (size_t size = 0; size + 1 < deb.size(); size += 3) {
    absl::StatusOr<KernelPackage> read = Read(deb.substr(0, size));
    ASSERT_FALSE(read.ok()) << size << " of " << deb.size();
    EXPECT_THAT(std::string(read.status().message()), StartsWith("x.deb: "));
  }
}

TEST(DebTest, HostilePaths) {
  for (const char* path : {"/etc/passwd", "./boot/../../etc/passwd", "../x"}) {
    absl::StatusOr<KernelPackage> deb = Read(MakeDeb({.files = {{path, "x"}}}));
    EXPECT_TRUE(absl::IsInvalidArgument(deb.status())) << path << deb.status();
  }
  // A release is one component.
  absl::StatusOr<KernelPackage> deb = Read(MakeDeb({.files = {{"./boot/vmlinuz-7/x", "x"}}}));
  ASSERT_TRUE(deb.ok());
  EXPECT_EQ(deb->image_path, "");
}

TEST(DebTest, TwoKernels) {
  absl::StatusOr<KernelPackage> deb =
      Read(MakeDeb({.files = {{"./boot/vmlinuz-7", "x"}, {"./boot/vmlinuz-8", "y"}}}));
  EXPECT_THAT(std::string(deb.status().message()), HasSubstr("two kernels"));
}

TEST(DebTest, ImageIsCapped) {
  std::string deb = MakeDeb({.files = {{"./boot/vmlinuz-7", std::string(1 << 20, 'k')}}});
  EXPECT_TRUE(absl::IsResourceExhausted(Read(deb, 1 << 19).status()));
}

TEST(RpmTest, EveryPacking) {
  for (Compression compression : {Compression::kGzip, Compression::kXz, Compression::kZstd}) {
    absl::StatusOr<KernelPackage> rpm =
        Read(MakeRpm({.compressor = CompressionName(compression),
                      .files = {{"./lib/modules/7.3.4-100.fc43.x86_64/vmlinuz", "IMAGE"},
                                {"./lib/modules/7.3.4-100.fc43.x86_64/config", "CONFIG_A=y\n"}},
                      .compression = compression}));
    ASSERT_TRUE(rpm.ok()) << rpm.status();
    EXPECT_EQ(rpm->package, "kernel-core");
    EXPECT_EQ(rpm->version, "7.3.4-100.fc43");
    EXPECT_EQ(rpm->image, "IMAGE");
    EXPECT_EQ(rpm->config_release, "7.3.4-100.fc43.x86_64");
    EXPECT_TRUE(rpm->ForX86());
  }
}

TEST(RpmTest, EveryTruncationIsAnError) {
  const std::string rpm = MakeRpm({.compressor = "",
                                   .files = {{"./boot/vmlinuz-7", "image"}},
                                   .compression = Compression::kNone});
  const size_t end = rpm.find("TRAILER!!!");
  for (size_t size = 0; size < end; ++size) {
    const absl::StatusOr<KernelPackage> read = Read(rpm.substr(0, size));
    ASSERT_FALSE(read.ok()) << size << " of " << rpm.size();
  }
}

TEST(PacmanTest, EveryPacking) {
  for (Compression compression :
       {Compression::kNone, Compression::kGzip, Compression::kXz, Compression::kZstd}) {
    absl::StatusOr<KernelPackage> package =
        Read(MakePacman("# made by makepkg\npkgname = linux-lts\npkgbase = x\npkgver = 7.3.4-1\n"
                        "arch = x86_64\n",
                        {{"usr/lib/modules/7.3.4-1-lts/vmlinuz", "IMAGE"}}, compression));
    ASSERT_TRUE(package.ok()) << package.status();
    EXPECT_EQ(package->package, "linux-lts");
    EXPECT_EQ(package->version, "7.3.4-1");
    EXPECT_EQ(package->image, "IMAGE");
    EXPECT_TRUE(package->ForX86());
  }
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
