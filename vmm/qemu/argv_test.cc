// SPDX-License-Identifier: Apache-2.0
// The command line of a launch, as a value.
#include "vmm/qemu/argv.h"

#include <string>

#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scenario/topology.h"
#include "vmm/launch_plan.h"
#include "vmm/qemu/engine.h"

namespace ktstr::vmm::qemu {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kMiB = 1 << 20;

LaunchRequest Request(int nodes, int llcs, int cores, int threads, uint32_t memory_mb) {
  v1::Topology topology;
  topology.set_numa_nodes(nodes);
  topology.set_llcs(llcs);
  topology.set_cores_per_llc(cores);
  topology.set_threads_per_core(threads);
  LaunchRequest request{*scenario::Topology::FromProto(topology)};
  request.memory_mb = memory_mb;
  request.kernel_bytes = 60 * kMiB;
  request.boot_image_bytes = 3 * kMiB;
  request.bundle_bytes = kMiB;
  return request;
}

absl::StatusOr<v1::LaunchPlan> Plan(const LaunchRequest& request) {
  return MakeLaunchPlan(request, *TcgEngine());
}

std::string Arguments(const v1::LaunchPlan& plan, int major, Start start = Start::kBoot) {
  Version version;
  version.major = major;
  return absl::StrJoin(MakeArguments(plan, version, start), " ");
}

TEST(QemuArguments, OfOneNode) {
  v1::LaunchPlan plan = *Plan(Request(1, 2, 2, 1, 512));
  plan.set_command_line("CMDLINE");
  EXPECT_EQ(
      Arguments(plan, 7),
      "-nodefaults -no-user-config -name ktstr,debug-threads=on -display none -accel "
      "tcg,thread=single "
      "-icount shift=2,sleep=off -rtc base=2026-01-01,clock=vm "
      "-cpu max,vendor=GenuineIntel,-rdrand,-rdseed -machine "
      "q35,max-ram-below-4g=2147483648,memory-backend=ram0 "
      "-smp 4,sockets=1,dies=2,cores=2,threads=1 -m 512M "
      "-object memory-backend-file,id=ram0,size=536870912,mem-path=/proc/self/fd/14,share=on "
      "-kernel /proc/self/fd/4 -initrd /proc/self/fd/5 -append CMDLINE -device pvpanic "
      "-chardev file,id=bell,path=/proc/self/fd/11 -device isa-debugcon,iobase=0x506,chardev=bell "
      "-action panic=pause -no-reboot -no-shutdown -chardev file,id=console,path=/proc/self/fd/6 "
      "-serial chardev:console -chardev socket,id=qmp,fd=3 -mon chardev=qmp,mode=control -S");
}

TEST(QemuArguments, OfTwoNodes) {
  const v1::LaunchPlan plan = *Plan(Request(2, 4, 2, 2, 512));
  const std::string arguments = Arguments(plan, 7);
  EXPECT_THAT(arguments, HasSubstr("-machine q35,max-ram-below-4g=2147483648 -smp "
                                   "16,sockets=2,dies=2,cores=2,threads=2 -m 512M"));
  EXPECT_THAT(arguments,
              HasSubstr("-numa node,nodeid=1,memdev=ram1 -numa cpu,node-id=0,socket-id=0 "
                        "-numa cpu,node-id=1,socket-id=1 "));
  EXPECT_THAT(arguments, HasSubstr("id=ram1,size=268435456,mem-path=/proc/self/fd/15,share=on"));
}

TEST(QemuArguments, OfARestore) {
  const v1::LaunchPlan plan = *Plan(Request(1, 1, 2, 1, 512));
  std::string expected = Arguments(plan, 7) + " -incoming defer";
  EXPECT_EQ(Arguments(plan, 7, Start::kRestoreCopy), expected);
  expected.replace(expected.find("share=on"), 8, "share=off");
  EXPECT_EQ(Arguments(plan, 7, Start::kRestore), expected);
}

TEST(QemuArguments, NewVersionsNeedTheCpuidLevel) {
  const v1::LaunchPlan plan = *Plan(Request(1, 1, 1, 1, 256));
  EXPECT_THAT(Arguments(plan, 10), HasSubstr("-rdseed,level=0x1b "));
}

TEST(QemuVersion, IsParsed) {
  auto version =
      ParseVersion("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright\n");
  ASSERT_TRUE(version.ok());
  EXPECT_EQ(version->major, 7);
  EXPECT_EQ(version->minor, 2);
  EXPECT_EQ(version->text, "QEMU 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)");
  auto again = ParseVersion(version->text);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->text, version->text);
  EXPECT_EQ(again->minor, 2);
}

TEST(QemuVersion, OthersAreRefused) {
  EXPECT_THAT(std::string(ParseVersion("bash 5.2").status().message()), HasSubstr("bash 5.2"));
  EXPECT_FALSE(ParseVersion("").ok());
  EXPECT_THAT(std::string(ParseVersion("QEMU emulator version 6.2.0\n").status().message()),
              HasSubstr("too old"));
}

}  // namespace
}  // namespace ktstr::vmm::qemu
