// SPDX-License-Identifier: Apache-2.0
// launch_plan.h and qemu/argv.h: a launch is a value.
#include "vmm/launch_plan.h"

#include <string>

#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/qemu/argv.h"
#include "vmm/snapshot.h"
#include "vmm/window_abi.h"

namespace ktstr::vmm {
namespace {

using ::testing::ElementsAre;
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

constexpr char kOptions[] =
    "console=ttyS0 quiet loglevel=4 cryptomgr.notests tsc=reliable no_timer_check nokaslr "
    "mitigations=off random.trust_cpu=on oops=panic panic=-1 init_on_alloc=0 lsm=capability "
    "audit=0 "
    "ipv6.disable=1 rcupdate.rcu_expedited=1 initcall_blacklist=load_system_certificate_list ";

TEST(LaunchPlan, OfFourCpus) {
  auto plan = MakeLaunchPlan(Request(1, 2, 2, 1, 512));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->node_memory, ElementsAre(512 * kMiB));
  EXPECT_EQ(plan->window_size, 4 * kMiB);
  EXPECT_EQ(plan->window_address, 502 * kMiB);  // 512 - 4 - 3 - 2, down to 2 MiB.
  EXPECT_EQ(plan->icount_shift, 3);
  EXPECT_EQ(plan->command_line,
            std::string(kOptions) + "memmap=4096K$0x1f600000 ktstr.window=0x1f600000,0x400000");
}

TEST(LaunchPlan, DmesgIsALouderKernel) {
  LaunchRequest request = Request(1, 2, 2, 1, 512);
  request.dmesg = true;
  const std::string line = MakeLaunchPlan(request)->command_line;
  EXPECT_THAT(line, ::testing::StartsWith("console=ttyS0 loglevel=7 cryptomgr.notests "));
  EXPECT_THAT(line, ::testing::Not(::testing::HasSubstr("quiet")));
}

TEST(LaunchPlan, WindowStaysBelowTwoGiB) {
  auto plan = MakeLaunchPlan(Request(1, 1, 1, 1, 16384));
  ASSERT_TRUE(plan.ok());
  EXPECT_LE(plan->window_address + plan->window_size, 2048 * kMiB);
  EXPECT_EQ(plan->window_address % window::kAlignment, 0u);
}

TEST(LaunchPlan, MemoryIsRaisedToTheNeedOfTheImages) {
  LaunchRequest request = Request(1, 1, 1, 1, 256);
  request.bundle_bytes = 300 * kMiB;
  auto plan = MakeLaunchPlan(request);
  ASSERT_TRUE(plan.ok());
  EXPECT_GT(plan->memory_bytes(), 700 * kMiB);
  EXPECT_EQ(plan->window_size, 302 * kMiB);
}

TEST(LaunchPlan, MemoryIsSplitOverNodes) {
  auto plan = MakeLaunchPlan(Request(3, 3, 2, 1, 1024));
  ASSERT_TRUE(plan.ok());
  EXPECT_THAT(plan->node_memory, ElementsAre(340 * kMiB, 340 * kMiB, 344 * kMiB));
}

TEST(LaunchPlan, ShiftKeepsVcpuSpeed) {
  const std::pair<int, int> cases[] = {{1, 5}, {2, 4}, {4, 3}, {8, 2}, {16, 1}, {32, 0}, {64, 0}};
  for (auto [cpus, shift] : cases) {
    EXPECT_EQ(MakeLaunchPlan(Request(1, 1, cpus, 1, 8192))->icount_shift, shift) << cpus;
  }
}

TEST(LaunchPlan, LimitsAreErrors) {
  LaunchRequest request = Request(1, 1, 1, 1, 16385);
  EXPECT_THAT(std::string(MakeLaunchPlan(request).status().message()),
              HasSubstr("memory_mb: 16385"));
  request = Request(1, 1, 1, 1, 512);
  request.bundle_bytes = 1025 * kMiB;
  EXPECT_THAT(std::string(MakeLaunchPlan(request).status().message()), HasSubstr("bundle: "));
  request = Request(1, 1, 1, 1, 512);
  request.boot_image_bytes = 3000 * kMiB;
  EXPECT_THAT(std::string(MakeLaunchPlan(request).status().message()), HasSubstr("boot image: "));
  request.kernel_bytes = 20000 * kMiB;
  EXPECT_THAT(std::string(MakeLaunchPlan(request).status().message()), HasSubstr("need "));
}

std::string Arguments(const LaunchPlan& plan, int major, qemu::Start start = qemu::Start::kBoot) {
  qemu::Version version;
  version.major = major;
  return absl::StrJoin(qemu::MakeArguments(plan, version, start), " ");
}

TEST(QemuArguments, OfOneNode) {
  LaunchPlan plan = *MakeLaunchPlan(Request(1, 2, 2, 1, 512));
  plan.command_line = "CMDLINE";
  EXPECT_EQ(
      Arguments(plan, 7),
      "-nodefaults -no-user-config -name ktstr,debug-threads=on -display none -accel "
      "tcg,thread=single "
      "-icount shift=3,sleep=off -rtc base=2026-01-01,clock=vm "
      "-cpu max,vendor=GenuineIntel,-rdrand,-rdseed -machine q35,memory-backend=ram0 "
      "-smp 4,sockets=1,dies=2,cores=2,threads=1 -m 512M "
      "-object memory-backend-file,id=ram0,size=536870912,mem-path=/proc/self/fd/10,share=on "
      "-kernel /proc/self/fd/4 -initrd /proc/self/fd/5 -append CMDLINE -device pvpanic "
      "-action panic=pause -no-reboot -no-shutdown -chardev file,id=console,path=/proc/self/fd/6 "
      "-serial chardev:console -chardev socket,id=qmp,fd=3 -mon chardev=qmp,mode=control -S");
}

TEST(QemuArguments, OfTwoNodes) {
  const LaunchPlan plan = *MakeLaunchPlan(Request(2, 4, 2, 2, 512));
  const std::string arguments = Arguments(plan, 7);
  EXPECT_THAT(arguments,
              HasSubstr("-machine q35 -smp 16,sockets=2,dies=2,cores=2,threads=2 -m 512M"));
  EXPECT_THAT(arguments,
              HasSubstr("-numa node,nodeid=1,memdev=ram1 -numa cpu,node-id=0,socket-id=0 "
                        "-numa cpu,node-id=1,socket-id=1 "));
  EXPECT_THAT(arguments, HasSubstr("id=ram1,size=268435456,mem-path=/proc/self/fd/11,share=on"));
}

TEST(QemuArguments, OfARestore) {
  const LaunchPlan plan = *MakeLaunchPlan(Request(1, 1, 2, 1, 512));
  std::string expected = Arguments(plan, 7) + " -incoming defer";
  EXPECT_EQ(Arguments(plan, 7, qemu::Start::kRestoreCopy), expected);
  expected.replace(expected.find("share=on"), 8, "share=off");
  EXPECT_EQ(Arguments(plan, 7, qemu::Start::kRestore), expected);
}

TEST(SnapshotIdentity, HoldsEveryFact) {
  LaunchPlan plan = *MakeLaunchPlan(Request(1, 1, 2, 1, 512));
  qemu::Version version;
  version.text = "QEMU 7.2.22";
  const std::string one = qemu::SnapshotIdentity(plan, version, "/usr/bin/q 1 2", "k", "b");
  EXPECT_THAT(one,
              HasSubstr("engine QEMU 7.2.22\nprogram /usr/bin/q 1 2\nkernel k\nboot image b\n"));
  EXPECT_NE(qemu::SnapshotIdentity(plan, version, "/usr/bin/q 1 2", "k2", "b"), one);
  plan.command_line += " x";
  EXPECT_NE(qemu::SnapshotIdentity(plan, version, "/usr/bin/q 1 2", "k", "b"), one);
}

TEST(BundleCapacity, HasFewSteps) {
  EXPECT_EQ(BundleCapacity(0), 6 * kMiB);
  EXPECT_EQ(BundleCapacity(6 * kMiB), 6 * kMiB);
  EXPECT_EQ(BundleCapacity(6 * kMiB + 1), 14 * kMiB);
  EXPECT_EQ(BundleCapacity(512 * kMiB), 1022 * kMiB);
}

TEST(QemuArguments, NewVersionsNeedTheCpuidLevel) {
  const LaunchPlan plan = *MakeLaunchPlan(Request(1, 1, 1, 1, 256));
  EXPECT_THAT(Arguments(plan, 10), HasSubstr("-rdseed,level=0x1b "));
}

TEST(QemuVersion, IsParsed) {
  auto version = qemu::ParseVersion(
      "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright\n");
  ASSERT_TRUE(version.ok());
  EXPECT_EQ(version->major, 7);
  EXPECT_EQ(version->minor, 2);
  EXPECT_EQ(version->text, "QEMU 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)");
}

TEST(QemuVersion, OthersAreRefused) {
  EXPECT_THAT(std::string(qemu::ParseVersion("bash 5.2").status().message()),
              HasSubstr("bash 5.2"));
  EXPECT_FALSE(qemu::ParseVersion("").ok());
  EXPECT_THAT(std::string(qemu::ParseVersion("QEMU emulator version 6.2.0\n").status().message()),
              HasSubstr("too old"));
}

}  // namespace
}  // namespace ktstr::vmm
