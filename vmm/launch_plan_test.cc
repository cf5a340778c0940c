// SPDX-License-Identifier: Apache-2.0
// launch_plan.h, engine.h, memory_map.h and snapshot.h: a launch is a value.
#include "vmm/launch_plan.h"

#include <optional>
#include <string>
#include <string_view>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/engine.h"
#include "vmm/memory_map.h"
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

const Engine& Tcg() { return **FindEngine(v1::TCG); }
absl::StatusOr<v1::LaunchPlan> Plan(const LaunchRequest& request) {
  return MakeLaunchPlan(request, Tcg());
}
std::string Error(const LaunchRequest& request) {
  return std::string(Plan(request).status().message());
}

constexpr char kOptions[] =
    "console=ttyS0 quiet loglevel=4 cryptomgr.notests tsc=reliable no_timer_check nokaslr "
    "mitigations=off random.trust_cpu=on oops=panic panic=-1 init_on_alloc=0 lsm=capability "
    "audit=0 "
    "ipv6.disable=1 rcupdate.rcu_expedited=1 initcall_blacklist=load_system_certificate_list ";

// The whole value.
TEST(LaunchPlan, OfFourCpus) {
  auto plan = Plan(Request(1, 2, 2, 1, 512));
  ASSERT_TRUE(plan.ok()) << plan.status();
  v1::LaunchPlan expected;
  v1::Topology* topology = expected.mutable_topology();
  topology->set_numa_nodes(1);
  topology->set_llcs(2);
  topology->set_cores_per_llc(2);
  topology->set_threads_per_core(1);
  expected.add_node_memory(512 * kMiB);
  expected.set_window_size(4 * kMiB);
  expected.set_window_address(502 * kMiB);  // 512 - 4 - 3 - 2, down to 2 MiB.
  expected.set_command_line(std::string(kOptions) +
                            "memmap=4096K$0x1f600000 ktstr.window=0x1f600000,0x400000");
  expected.mutable_tcg()->set_icount_shift(2);
  EXPECT_EQ(plan->DebugString(), expected.DebugString());
}

TEST(LaunchPlan, DmesgIsAVerboseKernel) {
  LaunchRequest request = Request(1, 2, 2, 1, 512);
  request.dmesg = true;
  const std::string line = Plan(request)->command_line();
  EXPECT_THAT(line, ::testing::StartsWith("console=ttyS0 loglevel=7 cryptomgr.notests "));
  EXPECT_THAT(line, ::testing::Not(::testing::HasSubstr("quiet")));
}

TEST(LaunchPlan, WindowStaysInLowRam) {
  auto plan = Plan(Request(1, 1, 1, 1, 16384));
  ASSERT_TRUE(plan.ok());
  EXPECT_LE(plan->window_address() + plan->window_size(), 2048 * kMiB);
  EXPECT_EQ(plan->window_address() % window::kAlignment, 0u);
}

TEST(LaunchPlan, MemoryIsRaisedToTheNeedOfTheImages) {
  LaunchRequest request = Request(1, 1, 1, 1, 256);
  request.bundle_bytes = 300 * kMiB;
  auto plan = Plan(request);
  ASSERT_TRUE(plan.ok());
  EXPECT_GT(MemoryBytes(*plan), 700 * kMiB);
  EXPECT_EQ(plan->window_size(), 302 * kMiB);
}

TEST(LaunchPlan, MemoryIsSplitOverNodes) {
  auto plan = Plan(Request(3, 3, 2, 1, 1024));
  ASSERT_TRUE(plan.ok());
  EXPECT_THAT(plan->node_memory(), ElementsAre(340 * kMiB, 340 * kMiB, 344 * kMiB));
}

TEST(LaunchPlan, ShiftKeepsVcpuSpeed) {
  struct Case {
    uint32_t asked, cpus, shift, got;
  };
  for (const Case& c :
       {Case{62, 1, 4, 62}, Case{62, 2, 3, 62}, Case{62, 4, 2, 62}, Case{62, 8, 1, 62},
        Case{62, 16, 0, 62}, Case{62, 64, 0, 15}, Case{31, 4, 3, 31}, Case{40, 4, 3, 31},
        Case{50, 4, 2, 62}, Case{0, 4, 0, 250}, Case{1000, 4, 0, 250}, Case{1, 1, 10, 1}}) {
    LaunchRequest request = Request(1, 1, static_cast<int>(c.cpus), 1, 8192);
    request.vcpu_mips = c.asked;
    const auto plan = Plan(request);
    ASSERT_TRUE(plan.ok());
    EXPECT_EQ(plan->tcg().icount_shift(), c.shift) << c.asked << " " << c.cpus;
    EXPECT_EQ((*FindEngine(v1::TCG))->VcpuMips(*plan), c.got) << c.asked << " " << c.cpus;
  }
}

TEST(LaunchPlan, LimitsAreErrors) {
  LaunchRequest request = Request(1, 1, 1, 1, 16385);
  EXPECT_THAT(Error(request), HasSubstr("memory_mb: 16385"));
  request = Request(1, 1, 1, 1, 512);
  request.bundle_bytes = 1025 * kMiB;
  EXPECT_THAT(Error(request), HasSubstr("bundle: "));
  request = Request(1, 1, 1, 1, 512);
  request.boot_image_bytes = 3000 * kMiB;
  EXPECT_THAT(Error(request), HasSubstr("boot image: "));
  request.kernel_bytes = 20000 * kMiB;
  EXPECT_THAT(Error(request), HasSubstr("need "));
}

// A plan that was made passes the check, and an error names the invalid field.
TEST(LaunchPlan, IsCheckedWhenItComes) {
  for (const uint32_t mib : {256u, 2048u, 2560u, 3072u, 16384u}) {
    EXPECT_TRUE(CheckLaunchPlan(*Plan(Request(2, 4, 2, 1, mib))).ok()) << mib;
  }
  const auto error_after = [](void (*change)(v1::LaunchPlan*)) {
    v1::LaunchPlan plan = *Plan(Request(2, 4, 2, 1, 3072));
    change(&plan);
    return std::string(CheckLaunchPlan(plan).message());
  };
  EXPECT_THAT(error_after([](v1::LaunchPlan* plan) { plan->mutable_topology()->set_llcs(0); }),
              HasSubstr("llcs"));
  EXPECT_THAT(error_after([](v1::LaunchPlan* plan) { plan->add_node_memory(2 * kMiB); }),
              HasSubstr("node_memory has 3 entries for 2 NUMA nodes"));
  EXPECT_THAT(error_after([](v1::LaunchPlan* plan) { plan->set_node_memory(0, 4096); }),
              HasSubstr("node_memory 4096"));
  EXPECT_THAT(error_after([](v1::LaunchPlan* plan) { plan->set_node_memory(1, 0); }),
              HasSubstr("node_memory 0"));
  EXPECT_THAT(error_after([](v1::LaunchPlan* plan) { plan->set_node_memory(1, ~uint64_t{0}); }),
              HasSubstr("node_memory 18446744073709551615"));
  EXPECT_THAT(error_after([](v1::LaunchPlan* plan) { plan->set_node_memory(1, 16384 * kMiB); }),
              HasSubstr("17920 MiB together"));
  EXPECT_THAT(error_after([](v1::LaunchPlan* plan) { plan->set_window_address(2048 * kMiB); }),
              HasSubstr("at 0x80000000, is not in low RAM, which ends at 0x80000000"));
  EXPECT_THAT(error_after([](v1::LaunchPlan* plan) { plan->set_window_address(4097); }),
              HasSubstr("at 0x1001, is not in low RAM"));
  EXPECT_THAT(error_after([](v1::LaunchPlan* plan) { plan->set_window_size(~uint64_t{0} << 21); }),
              HasSubstr("is not in low RAM"));
}

TEST(MemoryMap, LowAndHighRam) {
  const uint64_t size = 3072 * kMiB;
  EXPECT_EQ(AddressOfRam(0), 0u);
  EXPECT_EQ(AddressOfRam(2048 * kMiB - 1), 0x7fffffffu);
  EXPECT_EQ(AddressOfRam(2048 * kMiB), 0x100000000u);
  EXPECT_EQ(RamAtAddress(0x7fffffff, size), 2048 * kMiB - 1);
  EXPECT_EQ(RamAtAddress(0x80000000, size), std::nullopt);
  EXPECT_EQ(RamAtAddress(0xffffffff, size), std::nullopt);
  EXPECT_EQ(RamAtAddress(0x100000000, size), 2048 * kMiB);
  EXPECT_EQ(RamAtAddress(0x13fffffff, size), size - 1);
  EXPECT_EQ(RamAtAddress(0x140000000, size), std::nullopt);
  EXPECT_EQ(RamAtAddress(512 * kMiB, 512 * kMiB), std::nullopt);
  EXPECT_EQ(RamAtAddress(0x100000000, 2048 * kMiB), std::nullopt);
  EXPECT_EQ(RamAtAddress(~uint64_t{0}, size), std::nullopt);
}

TEST(Engines, AreFoundByKind) {
  EXPECT_TRUE(FindEngine(v1::TCG).ok());
  EXPECT_EQ(EngineLabel(v1::TCG), "tcg");
  const absl::Status kvm = FindEngine(v1::KVM).status();
  EXPECT_TRUE(absl::IsUnimplemented(kvm));
  EXPECT_THAT(std::string(kvm.message()), HasSubstr("the kvm engine is not in this version"));
  EXPECT_FALSE(FindEngine(v1::AUTO).ok());
}

TEST(Engines, RefuseAPlanOfAnother) {
  v1::LaunchPlan plan = *Plan(Request(1, 1, 1, 1, 256));
  plan.clear_tcg();
  const EngineFile file;
  const std::string version = "QEMU 7.2.0";
  const Launch launch{plan, file, version, -1, -1};
  EXPECT_TRUE(
      absl::IsInvalidArgument(Tcg().Restore(launch, Snapshot(), RestoredRam::kShared).status()));
  plan.mutable_tcg()->set_icount_shift(11);
  EXPECT_TRUE(
      absl::IsInvalidArgument(Tcg().Restore(launch, Snapshot(), RestoredRam::kShared).status()));
}

TEST(SnapshotIdentity, HoldsEveryFact) {
  v1::LaunchPlan plan = *Plan(Request(1, 1, 2, 1, 512));
  const EngineIdentity identity{"QEMU 7.2.22 (Debian)", "/usr/bin/q 1 2"};
  const auto of = [&](std::string_view kernel, std::string_view boot) {
    return *SnapshotIdentity(Tcg(), plan, identity, kernel, boot);
  };
  const std::string one = of("k", "b");
  EXPECT_THAT(one, HasSubstr("engine QEMU 7.2.22 (Debian)\nprogram /usr/bin/q 1 2\nkernel k\n"
                             "boot image b\nmemory 536870912\narguments -nodefaults "));
  EXPECT_NE(of("k2", "b"), one);
  EXPECT_NE(of("k", "b2"), one);
  plan.set_command_line(plan.command_line() + " x");
  EXPECT_NE(of("k", "b"), one);
}

TEST(BundleCapacity, HasFewSteps) {
  EXPECT_EQ(BundleCapacity(0), 6 * kMiB);
  EXPECT_EQ(BundleCapacity(6 * kMiB), 6 * kMiB);
  EXPECT_EQ(BundleCapacity(6 * kMiB + 1), 14 * kMiB);
  EXPECT_EQ(BundleCapacity(512 * kMiB), 1022 * kMiB);
}

}  // namespace
}  // namespace ktstr::vmm
