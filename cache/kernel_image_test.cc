// SPDX-License-Identifier: Apache-2.0
#include "cache/kernel_image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cache/btf.h"
#include "cache/elf_image.h"
#include "cache/test_kernel.h"

namespace ktstr::cache {
namespace {

using ::testing::HasSubstr;

std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

class PayloadTest : public ::testing::TestWithParam<Compression> {};

TEST_P(PayloadTest, BzImageByHeaderAndByScan) {
  std::string vmlinux = MakeVmlinux({});
  for (bool header : {true, false}) {
    if (GetParam() == Compression::kNone && !header) continue;  // No magic number to look for.
    absl::StatusOr<KernelImage> image =
        DecodeKernel(MakeBzImage(Pack(GetParam(), vmlinux), header));
    ASSERT_TRUE(image.ok()) << header << ": " << image.status();
    EXPECT_EQ(image->vmlinux, vmlinux);
    EXPECT_STREQ(image->compression, CompressionName(GetParam()));
    EXPECT_EQ(image->release, "7.3.4+test-amd64");
    EXPECT_EQ(image->version, "7.3.4");
    EXPECT_EQ(image->build_id, "303132333435363738396162636465666768696a");
    EXPECT_TRUE(image->sched_ext);
    EXPECT_EQ(image->btf, MakeBtf({"task_struct", "sched_ext_ops"}));
  }
}

TEST_P(PayloadTest, EveryTruncationIsAnError) {
  std::string packed = Pack(GetParam(), MakeVmlinux({.padding = 64}));
  std::string image = MakeBzImage(packed);
  image.resize(image.size() - 512);
  // The appended size, four bytes, may be missing.
  for (size_t cut = 5; cut < packed.size(); cut += 7) {
    EXPECT_FALSE(DecodeKernel(std::string_view(image).substr(0, image.size() - cut)).ok()) << cut;
  }
}

TEST_P(PayloadTest, OutputIsCapped) {
  std::string image = MakeBzImage(Pack(GetParam(), MakeVmlinux({.padding = 4 << 20})));
  absl::StatusOr<KernelImage> kernel = DecodeKernel(image, 1 << 20);
  ASSERT_FALSE(kernel.ok());
  EXPECT_TRUE(absl::IsResourceExhausted(kernel.status())) << kernel.status();
}

INSTANTIATE_TEST_SUITE_P(Formats, PayloadTest,
                         ::testing::Values(Compression::kNone, Compression::kGzip, Compression::kXz,
                                           Compression::kZstd, Compression::kLz4Legacy),
                         [](const auto& info) { return CompressionName(info.param); });

TEST(DecompressTest, Lz4OfSeveralBlocks) {
  std::string data((size_t{8} << 20) * 2 + 12345, 'a');
  for (size_t i = 0; i < data.size(); i += 97) data[i] = static_cast<char>(i);
  std::string packed = Pack(Compression::kLz4Legacy, data);
  MemorySource input(packed);
  absl::StatusOr<std::unique_ptr<ByteSource>> source = Decompress(CompressionOf(packed), &input);
  ASSERT_TRUE(source.ok());
  absl::StatusOr<std::string> out = ReadAll(source->get(), uint64_t{1} << 30);
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_TRUE(*out == data);
}

TEST(KernelImageTest, VmlinuxAsItIs) {
  std::string vmlinux = MakeVmlinux({.release = "6.12.1", .sched_ext = false});
  absl::StatusOr<KernelImage> image = DecodeKernel(vmlinux);
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(image->vmlinux, vmlinux);
  EXPECT_FALSE(image->sched_ext);
  EXPECT_STREQ(image->compression, "uncompressed");
}

TEST(KernelImageTest, NoBtfIsNoSchedExt) {
  absl::StatusOr<KernelImage> image = DecodeKernel(MakeVmlinux({.btf = false}));
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_FALSE(image->sched_ext);
  EXPECT_EQ(image->btf, "");
}

TEST(KernelImageTest, WithoutPvhEntry) {
  absl::StatusOr<KernelImage> image = DecodeKernel(MakeVmlinux({.pvh = false}));
  EXPECT_TRUE(absl::IsFailedPrecondition(image.status())) << image.status();
  EXPECT_THAT(MessageOf(image.status()), HasSubstr("cannot be entered by PVH"));
}

TEST(KernelImageTest, OtherMachinesAndFiles) {
  EXPECT_THAT(MessageOf(DecodeKernel(MakeVmlinux({.machine = 183})).status()),
              HasSubstr("aarch64"));
  EXPECT_THAT(MessageOf(DecodeKernel(MakeVmlinux({.machine = 243})).status()),
              HasSubstr("machine 243"));
  EXPECT_THAT(MessageOf(DecodeKernel(MakeVmlinux({.release = ""})).status()),
              HasSubstr("not a Linux kernel"));
  EXPECT_THAT(MessageOf(DecodeKernel("").status()), HasSubstr("an empty file"));
  EXPECT_THAT(MessageOf(DecodeKernel("\n <!DOCTYPE html><html>404").status()),
              HasSubstr("an HTML page"));
  std::string arm(4096, '\0');
  arm.replace(56, 4, "ARM\x64");
  EXPECT_THAT(MessageOf(DecodeKernel(arm).status()), HasSubstr("a 64-bit Arm kernel image"));
  EXPECT_THAT(MessageOf(DecodeKernel(std::string("\x1f\x8b\x08\0", 4)).status()),
              HasSubstr("a gzip file; unpack it first"));
  EXPECT_THAT(MessageOf(DecodeKernel(MakeBzImage(std::string(100, 'x'))).status()),
              HasSubstr("no kernel payload"));
}

TEST(KernelImageTest, DamagedElfHasNoEffectBeyondAnError) {
  const std::string good = MakeVmlinux({.padding = 16});
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0xff);
    DecodeKernel(bad).status().IgnoreError();
    DecodeKernel(std::string_view(good).substr(0, at)).status().IgnoreError();
  }
}

TEST(BtfTest, FindsStructsByExactName) {
  std::string btf = MakeBtf({"sched_ext_ops_state", "task_struct"});
  EXPECT_FALSE(*BtfHasStruct(btf, "sched_ext_ops"));
  EXPECT_TRUE(*BtfHasStruct(btf, "task_struct"));
  EXPECT_FALSE(*BtfHasStruct(btf, "int"));  // Not the name of a struct.
}

TEST(BtfTest, DamageIsReported) {
  std::string btf = MakeBtf({"a", "b"});
  EXPECT_THAT(MessageOf(BtfHasStruct("", "x").status()), HasSubstr("no header"));
  std::string bad = btf;
  bad[0] = 'x';
  EXPECT_THAT(MessageOf(BtfHasStruct(bad, "x").status()), HasSubstr("bad magic"));
  bad = btf;
  bad[sizeof(uint32_t) * 6 + 7] = 0x1f;  // Kind of type 1.
  EXPECT_THAT(MessageOf(BtfHasStruct(bad, "x").status()), HasSubstr("unknown kind 31"));
  bad = btf.substr(0, btf.size() - 3);
  EXPECT_THAT(MessageOf(BtfHasStruct(bad, "x").status()), HasSubstr("outside"));
}

TEST(VersionTest, OfRelease) {
  EXPECT_EQ(VersionOfRelease("7.3.4+deb13-cloud-amd64"), "7.3.4");
  EXPECT_EQ(VersionOfRelease("7.4-rc2-amd64"), "7.4-rc2");
  EXPECT_EQ(VersionOfRelease("7.4.0-rc2+"), "7.4.0-rc2");
  EXPECT_EQ(VersionOfRelease("6.12"), "6.12");
  EXPECT_EQ(VersionOfRelease("6.12.1.5"), "6.12.1");
  EXPECT_EQ(VersionOfRelease("6"), "");
  EXPECT_EQ(VersionOfRelease("%s"), "");
}

}  // namespace
}  // namespace ktstr::cache
