// SPDX-License-Identifier: Apache-2.0
// Real machines: ktstr-vm, QEMU, the kernel that KTSTR_TEST_VMLINUX names, the real agent, and a
// guest program that breaks the rules.
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/file_size.h"
#include "base/status_macros.h"
#include "base/subprocess.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "ktstr/v1/guest.pb.h"
#include "scenario/topology.h"
#include "vmm/boot_image.h"
#include "vmm/bundle.h"
#include "vmm/descriptors.h"
#include "vmm/engine.h"
#include "vmm/kernel_symbols.h"
#include "vmm/launch_plan.h"
#include "vmm/snapshot.h"
#include "vmm/testing/vm_driver.h"
#include "vmm/window_abi.h"

namespace ktstr::vmm {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using testing::VmDriver;

constexpr absl::Duration kSilence = absl::Seconds(500);

struct Outcome {
  v1::VmEnd end;
  std::vector<v1::Observation> observations;
  std::string Stream() const {  // Without the host's part.
    std::string stream;
    for (const v1::Observation& o : observations) {
      if (!o.has_vm_end()) stream += o.SerializeAsString() + "|";
    }
    return stream;
  }
};

class VmTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* path = getenv("KTSTR_TEST_VMLINUX");
    if (path == nullptr) GTEST_SKIP() << "KTSTR_TEST_VMLINUX names no kernel (uncompressed ELF)";
    auto program = base::FindProgram("qemu-system-x86_64");
    if (!program.ok()) GTEST_SKIP() << program.status();
    program_path_ = *program;
    kernel_ = *base::Open(path, O_RDONLY);
    program_ = *base::Open(program_path_, O_RDONLY);
  }

  // The machine to start.
  struct Machine {
    v1::VmStart::Mode mode = v1::VmStart::BOOT;
    uint32_t nodes = 1;
    uint32_t llcs = 2;
    uint32_t cores_per_llc = 2;
    uint32_t memory_mb = 256;
  };
  absl::StatusOr<v1::VmRequest> Start(const Machine& machine, int image) {
    v1::Topology counts;
    counts.set_numa_nodes(machine.nodes);
    counts.set_llcs(machine.llcs);
    counts.set_cores_per_llc(machine.cores_per_llc);
    counts.set_threads_per_core(1);
    KTSTR_ASSIGN_OR_RETURN(scenario::Topology topology, scenario::Topology::FromProto(counts));
    LaunchRequest launch{topology};
    launch.memory_mb = machine.memory_mb;
    KTSTR_ASSIGN_OR_RETURN(launch.kernel_bytes, base::SizeOf(kernel_.get(), "kernel"));
    KTSTR_ASSIGN_OR_RETURN(launch.boot_image_bytes, base::SizeOf(image, "boot image"));
    launch.bundle_bytes = BundleCapacity(0);
    KTSTR_ASSIGN_OR_RETURN(const Engine* engine, FindEngine(v1::TCG));
    v1::VmRequest request;
    v1::VmStart& start = *request.mutable_start();
    start.set_mode(machine.mode);
    start.set_engine(v1::TCG);
    start.set_engine_path(program_path_);
    KTSTR_ASSIGN_OR_RETURN(*start.mutable_plan(), MakeLaunchPlan(launch, *engine));
    return request;
  }

  base::UniqueFd AgentImage() {
    return *MakeBootImage(absl::StrCat(KTSTR_BIN_DIR, "/ktstr-agent"), "test", "");
  }
  base::UniqueFd HostileImage() {
    return *MakeBootImage(absl::StrCat(KTSTR_BIN_DIR, "/../tests/hostile_init"), "test", "");
  }
  // A spin_wait cgroup without a scheduler.
  base::UniqueFd PlanBundle(uint64_t seed) {
    v1::GuestPlan plan;
    plan.set_seed(seed);
    plan.set_report_timeout_ms(5000);
    plan.set_overrun_ms(60000);
    v1::GuestStep* step = plan.add_step();
    step->set_hold_ns(300000000);
    v1::GuestCgroup* cgroup = step->add_cgroup();
    cgroup->set_name("left");
    cgroup->set_cpus("0-1");
    v1::GuestWork* work = cgroup->add_work();
    work->set_type("spin_wait");
    work->set_workers(2);
    BundleBuilder bundle;
    bundle.AddData("plan.pb", plan.SerializeAsString(), 0644);
    return *bundle.Finish(1 << 20);
  }
  // The hostile program reads its fault from the start of the bundle.
  base::UniqueFd Fault(const std::string& name) {
    base::UniqueFd fd = *base::MakeMemfd("fault", 0);
    EXPECT_TRUE(base::WriteAll(fd.get(), name + std::string(64, '\0'), "fault").ok());
    return fd;
  }

  absl::StatusOr<VmDriver> Launch(const Machine& machine, const base::UniqueFd& image,
                                  const base::UniqueFd& bundle) {
    auto driver = VmDriver::Start(wrapper_);
    if (!driver.ok()) return driver;
    std::vector<NamedFd> fds;
    if (machine.mode == v1::VmStart::RESTORE) fds = SnapshotFds(*snapshot_);
    fds.push_back({kKernelName, kernel_.get()});
    fds.push_back({kBootImageName, image.get()});
    fds.push_back({kEngineName, program_.get()});
    KTSTR_ASSIGN_OR_RETURN(const v1::VmRequest request, Start(machine, image.get()));
    auto sent = driver->Send(request, fds);
    v1::VmRequest run;
    run.mutable_run()->set_run_id("r-test");
    run.mutable_run()->set_timeout_ms(timeout_ms_);
    run.mutable_run()->set_take_digest(true);
    if (sent.ok()) sent = driver->Send(run, {{kBundleName, bundle.get()}});
    if (!sent.ok()) return sent;
    return driver;
  }
  Outcome Execute(const Machine& machine, const base::UniqueFd& image,
                  const base::UniqueFd& bundle) {
    Outcome run;
    auto driver = Launch(machine, image, bundle);
    EXPECT_TRUE(driver.ok()) << driver.status();
    auto end = driver->AwaitEnd(kSilence);
    EXPECT_TRUE(end.ok()) << end.status();
    if (end.ok()) run.end = *end;
    run.observations = driver->observations();
    if (auto taken = driver->TakeSnapshot()) snapshot_ = std::move(taken);
    auto status = driver->child().Wait(absl::Seconds(10));
    EXPECT_TRUE(status.has_value() && status->Success());
    return run;
  }

  std::string program_path_;
  std::string wrapper_;               // Of ktstr-vm.
  uint32_t timeout_ms_ = 400000;      // 16 vCPUs boot in a minute or two on a loaded host.
  std::optional<Snapshot> snapshot_;  // The last one that was taken.
  base::UniqueFd kernel_;
  base::UniqueFd program_;
};

// Each generation of the table of symbols: of the kernels of the vm stage beside the one that
// boots.
TEST_F(VmTest, RealKernelsHaveSymbols) {
  const char* vmlinux = getenv("KTSTR_TEST_VMLINUX");
  ASSERT_NE(vmlinux, nullptr);
  const std::string kernels(base::Dirname(base::Dirname(vmlinux)));
  std::vector<std::string> images = {vmlinux};
  for (const char* variable : {"KTSTR_TEST_SECOND_KERNEL_KEY", "KTSTR_TEST_DEBIAN12_KERNEL_KEY"}) {
    if (const char* key = getenv(variable)) images.push_back(kernels + "/" + key + "/vmlinux");
  }
  for (const std::string& image : images) {
    SCOPED_TRACE(image);
    const auto file = base::Open(image, O_RDONLY);
    ASSERT_TRUE(file.ok()) << file.status();
    const KernelSymbols symbols = KernelSymbols::Read(file->get());
    EXPECT_GT(symbols.size(), 50000u);
    int named = 0;
    constexpr uint64_t kText = 0xffffffff81000000;
    for (uint64_t page = 0; page < 1000; ++page) named += !symbols.At(kText + page * 4096).empty();
    EXPECT_GT(named, 990);
    EXPECT_EQ(symbols.At(0xffffffffc0000000), "");  // A module.
  }
}

TEST_F(VmTest, RunsThePlanAndRepeatsBitForBitUnderLoad) {
  const base::UniqueFd image = AgentImage();
  const base::UniqueFd bundle = PlanBundle(1);
  const Outcome first = Execute({}, image, bundle);
  ASSERT_EQ(first.end.cause(), v1::VmEnd::DONE) << first.end.DebugString();
  EXPECT_EQ(first.end.last_stage(), v1::DONE);
  EXPECT_THAT(first.end.engine_version(), HasSubstr("QEMU "));
  EXPECT_GT(first.end.host_boot_ns(), 0u);
  int reports = 0;
  for (const v1::Observation& o : first.observations) {
    if (o.has_guest_info()) {
      EXPECT_EQ(o.guest_info().online_cpus(), 4u);
    }
    if (o.has_worker_report()) {
      ++reports;
      EXPECT_GT(o.worker_report().work_units(), 0u);
    }
  }
  EXPECT_EQ(reports, 2);
  const std::pair<const char*, uint64_t> times[] = {{"boot_ms", first.end.host_boot_ns()},
                                                    {"attach_ms", first.end.host_attach_ns()},
                                                    {"scenario_ms", first.end.host_scenario_ns()},
                                                    {"teardown_ms", first.end.host_teardown_ns()}};
  for (auto [name, ns] : times) RecordProperty(name, static_cast<int>(ns / 1000000));

  std::atomic<bool> stop = false;
  std::vector<std::thread> load;
  for (int i = 0; i < 3; ++i) {
    load.emplace_back([&stop] {
      while (!stop.load(std::memory_order_relaxed)) {
      }
    });
  }
  const Outcome loaded = Execute({}, image, bundle);
  stop = true;
  for (std::thread& thread : load) thread.join();
  EXPECT_EQ(first.end.guest_digest().size(), 64u);
  EXPECT_EQ(loaded.end.guest_digest(), first.end.guest_digest());
  EXPECT_TRUE(loaded.Stream() == first.Stream());

  const Outcome other_seed = Execute({}, image, PlanBundle(2));
  EXPECT_NE(other_seed.end.guest_digest(), first.end.guest_digest());
}

TEST_F(VmTest, NumaNodesAndTheirMemoryRepeatToo) {
  const base::UniqueFd image = AgentImage();
  const base::UniqueFd bundle = PlanBundle(1);
  const Outcome first = Execute({.nodes = 2}, image, bundle);
  ASSERT_EQ(first.end.cause(), v1::VmEnd::DONE) << first.end.DebugString();
  EXPECT_EQ(Execute({.nodes = 2}, image, bundle).end.guest_digest(), first.end.guest_digest());
}

// Takes a snapshot and runs from it, then restores it again: the same execution each time.
TEST_F(VmTest, RestoredGuestsRepeatBitForBit) {
  const base::UniqueFd image = AgentImage();
  Machine machine;
  machine.mode = v1::VmStart::SNAPSHOT;
  const Outcome first = Execute(machine, image, PlanBundle(1));
  ASSERT_EQ(first.end.cause(), v1::VmEnd::DONE) << first.end.DebugString();
  ASSERT_TRUE(snapshot_.has_value());
  machine.mode = v1::VmStart::RESTORE;
  for (int i = 0; i < 3; ++i) {
    const Outcome again = Execute(machine, image, PlanBundle(1));
    ASSERT_EQ(again.end.cause(), v1::VmEnd::DONE) << again.end.DebugString();
    EXPECT_EQ(again.end.guest_digest(), first.end.guest_digest()) << i;
    EXPECT_TRUE(again.Stream() == first.Stream()) << i;
    RecordProperty("restore_ms", static_cast<int>(again.end.host_boot_ns() / 1000000));
  }
  const Outcome other = Execute(machine, image, PlanBundle(2));
  EXPECT_EQ(other.end.cause(), v1::VmEnd::DONE);
  EXPECT_NE(other.end.guest_digest(), first.end.guest_digest());
}

// More observations than the ring holds: the guest waits at the bell, and repeats all the same.
TEST_F(VmTest, AFullRingCostsNoRepeatability) {
  const base::UniqueFd image = AgentImage();
  v1::GuestPlan plan;
  plan.set_seed(1);
  plan.set_report_timeout_ms(5000);
  plan.set_overrun_ms(600000);
  for (int i = 0; i < 24000; ++i) plan.add_step()->set_hold_ns(1);
  BundleBuilder builder;
  builder.AddData("plan.pb", plan.SerializeAsString(), 0644);
  const base::UniqueFd bundle = *builder.Finish(1 << 20);
  Machine machine;
  machine.mode = v1::VmStart::SNAPSHOT;
  const Outcome first = Execute(machine, image, bundle);
  ASSERT_EQ(first.end.cause(), v1::VmEnd::DONE) << first.end.DebugString();
  uint64_t bytes = 0;
  for (const v1::Observation& o : first.observations) {
    bytes += window::FrameSpan(o.ByteSizeLong());
    if (o.has_channel_stats()) {
      EXPECT_EQ(o.channel_stats().full_waits(), 0u);
    }
  }
  EXPECT_GT(bytes, window::kRingSize);
  machine.mode = v1::VmStart::RESTORE;
  for (int i = 0; i < 2; ++i) {
    const Outcome again = Execute(machine, image, bundle);
    EXPECT_EQ(again.end.guest_digest(), first.end.guest_digest());
    EXPECT_TRUE(again.Stream() == first.Stream());
  }
}

// The largest number of descriptors: RAM of 16 nodes beside the rest.
TEST_F(VmTest, SixteenNumaNodesAreRestored) {
  const base::UniqueFd image = AgentImage();
  Machine machine = {.mode = v1::VmStart::SNAPSHOT, .nodes = 16, .llcs = 16, .cores_per_llc = 1};
  machine.memory_mb = 512;
  const Outcome first = Execute(machine, image, PlanBundle(1));
  ASSERT_EQ(first.end.cause(), v1::VmEnd::DONE) << first.end.DebugString();
  ASSERT_TRUE(snapshot_.has_value());
  EXPECT_EQ(snapshot_->ram.size(), 16u);
  machine.mode = v1::VmStart::RESTORE;
  const Outcome again = Execute(machine, image, PlanBundle(1));
  ASSERT_EQ(again.end.cause(), v1::VmEnd::DONE) << again.end.DebugString();
  EXPECT_EQ(again.end.guest_digest(), first.end.guest_digest());
}

// Where ktstr-vm may not look into QEMU's memory, QEMU gets a copy that both map.
TEST_F(VmTest, RestoreOntoACopyTakesTheSameCourse) {
  const base::UniqueFd image = AgentImage();
  Machine machine;
  machine.mode = v1::VmStart::SNAPSHOT;
  const Outcome first = Execute(machine, image, PlanBundle(1));
  ASSERT_EQ(first.end.cause(), v1::VmEnd::DONE) << first.end.DebugString();
  machine.mode = v1::VmStart::RESTORE;
  wrapper_ = absl::StrCat(KTSTR_BIN_DIR, "/../tests/deny_peeking");
  auto driver = Launch(machine, image, PlanBundle(1));
  ASSERT_TRUE(driver.ok()) << driver.status();
  std::string memory;
  while (memory.empty()) {  // Until the first observation: QEMU runs then.
    const auto event = driver->Next(kSilence);
    ASSERT_TRUE(event.ok()) << event.status();
    if (!event->has_observation()) continue;
    const std::vector<pid_t> engine = testing::ChildrenOf(driver->child().pid());
    ASSERT_EQ(engine.size(), 1u);
    memory = *base::ReadFile(absl::StrCat("/proc/", engine[0], "/cmdline"));
  }
  EXPECT_THAT(memory, HasSubstr("share=on"));
  const auto end = driver->AwaitEnd(kSilence);
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(end->cause(), v1::VmEnd::DONE) << end->DebugString();
  EXPECT_EQ(end->guest_digest(), first.end.guest_digest());
}

// Each VM has its own view of the snapshot's memory: VMs that share its pages do not change it.
TEST_F(VmTest, TwentyRestoresAtOnceDoNotInfluenceOneAnother) {
  constexpr uint64_t kMachines = 20;
  const base::UniqueFd image = AgentImage();
  Machine machine;
  machine.mode = v1::VmStart::SNAPSHOT;
  ASSERT_EQ(Execute(machine, image, PlanBundle(1)).end.cause(), v1::VmEnd::DONE);
  machine.mode = v1::VmStart::RESTORE;
  std::vector<std::string> alone;
  for (const uint64_t seed : {1, 2, 20}) {
    alone.push_back(Execute(machine, image, PlanBundle(seed)).end.guest_digest());
  }
  std::vector<VmDriver> drivers;
  for (uint64_t seed = 1; seed <= kMachines; ++seed) {
    auto driver = Launch(machine, image, PlanBundle(seed));
    ASSERT_TRUE(driver.ok()) << driver.status();
    drivers.push_back(std::move(*driver));
  }
  std::vector<std::string> digests;
  for (VmDriver& driver : drivers) {
    const auto end = driver.AwaitEnd(kSilence);
    ASSERT_TRUE(end.ok()) << end.status();
    EXPECT_EQ(end->cause(), v1::VmEnd::DONE) << end->DebugString();
    digests.push_back(end->guest_digest());
  }
  EXPECT_EQ(digests[0], alone[0]);
  EXPECT_EQ(digests[1], alone[1]);
  EXPECT_EQ(digests[kMachines - 1], alone[2]);
  EXPECT_EQ(std::set<std::string>(digests.begin(), digests.end()).size(), kMachines);
}

TEST_F(VmTest, PanicHasTheKernelsWords) {
  const Outcome run = Execute({}, HostileImage(), Fault("return"));
  EXPECT_EQ(run.end.cause(), v1::VmEnd::GUEST_RESET) << run.end.DebugString();
  EXPECT_THAT(run.end.crash_line(),
              Contains(HasSubstr("Kernel panic - not syncing: Attempted to kill init!")));
  EXPECT_THAT(run.end.console_tail(), HasSubstr("Kernel Offset: disabled"));  // Its last line.
}

TEST_F(VmTest, ConsoleFloodEndsTheRun) {
  const Outcome run = Execute({}, HostileImage(), Fault("console"));
  EXPECT_EQ(run.end.cause(), v1::VmEnd::GUEST_MISBEHAVED);
  EXPECT_THAT(run.end.detail(), HasSubstr("console flood"));
  EXPECT_TRUE(run.end.console_truncated());
}

TEST_F(VmTest, RingGarbageEndsTheRun) {
  const Outcome run = Execute({}, HostileImage(), Fault("ring"));
  EXPECT_EQ(run.end.cause(), v1::VmEnd::GUEST_MISBEHAVED);
  EXPECT_THAT(run.end.detail(), HasSubstr("ring, frame 0 at byte 0: magic"));
}

TEST_F(VmTest, WrongDoorbellsEndTheRun) {
  const Outcome unknown = Execute({}, HostileImage(), Fault("doorbell"));
  EXPECT_EQ(unknown.end.cause(), v1::VmEnd::GUEST_MISBEHAVED);
  EXPECT_THAT(unknown.end.detail(), HasSubstr("unknown doorbell 77"));
  const Outcome unasked = Execute({}, HostileImage(), Fault("ready"));
  EXPECT_EQ(unasked.end.cause(), v1::VmEnd::GUEST_MISBEHAVED);
  EXPECT_THAT(unasked.end.detail(), HasSubstr("unasked"));
}

TEST_F(VmTest, EarlyPowerOffIsNotDone) {
  const Outcome run = Execute({}, HostileImage(), Fault("off"));
  EXPECT_EQ(run.end.cause(), v1::VmEnd::GUEST_POWERED_OFF);
}

TEST_F(VmTest, SpinningGuestMeetsTheHostsTimeLimit) {
  timeout_ms_ = 1500;
  const Outcome run = Execute({}, HostileImage(), Fault("spin"));
  EXPECT_EQ(run.end.cause(), v1::VmEnd::TIMEOUT);
  EXPECT_THAT(run.end.detail(), HasSubstr("1.5s"));
  ASSERT_EQ(run.end.vcpu_size(), 4);  // However far the boot came: the host may be slow.
  EXPECT_EQ(run.end.vcpu(3).cpu(), 3u);
}

// Idle time is skipped: the limit in guest time is reached long before the host's.
TEST_F(VmTest, IdleGuestThatNeverGetsReadyMeetsTheLimitInGuestTime) {
  const Outcome run = Execute({}, HostileImage(), Fault("hang"));
  EXPECT_EQ(run.end.cause(), v1::VmEnd::GUEST_HUNG) << run.end.DebugString();
  EXPECT_THAT(run.end.detail(), HasSubstr("the boot's limit"));
  EXPECT_EQ(run.end.vcpu_size(), 4);
  for (const v1::VcpuState& vcpu : run.end.vcpu()) {
    EXPECT_TRUE(vcpu.halted());
    EXPECT_THAT(vcpu.symbol(), MatchesRegex("[a-z_0-9.]+\\+0x[0-9a-f]+"));
  }
}

TEST_F(VmTest, ResetIsNoPowerOff) {
  const Outcome run = Execute({}, HostileImage(), Fault("reset"));
  EXPECT_EQ(run.end.cause(), v1::VmEnd::GUEST_RESET);
}

TEST_F(VmTest, CancelEndsTheRun) {
  const base::UniqueFd image = HostileImage();
  auto driver = Launch({}, image, Fault("hang"));
  ASSERT_TRUE(driver.ok());
  ASSERT_TRUE(driver->Next(kSilence).ok());  // It boots.
  v1::VmRequest stop;
  stop.mutable_stop()->set_reason("the user pressed Ctrl-C");
  ASSERT_TRUE(driver->Send(stop).ok());
  auto end = driver->AwaitEnd(kSilence);
  ASSERT_TRUE(end.ok());
  EXPECT_EQ(end->cause(), v1::VmEnd::CANCELLED);
  EXPECT_EQ(end->detail(), "the user pressed Ctrl-C");
}

// Waits until the guest is ready, and returns the engine's process.
pid_t EngineOf(VmDriver* driver) {
  while (true) {
    auto event = driver->Next(kSilence);
    if (!event.ok()) return -1;
    if (absl::StrContains(event->progress().text(), "guest ready")) break;
  }
  std::vector<pid_t> children = testing::ChildrenOf(driver->child().pid());
  return children.size() == 1 ? children[0] : -1;
}

TEST_F(VmTest, EngineDiesWithItsDaemonAndWithItsProcess) {
  for (bool kill_process : {false, true}) {
    auto driver = Launch({}, AgentImage(), PlanBundle(1));
    ASSERT_TRUE(driver.ok());
    const pid_t engine = EngineOf(&*driver);
    ASSERT_GT(engine, 0);
    if (kill_process) {
      driver->child().Kill(SIGKILL);
    } else {
      driver->CloseControl();
    }
    EXPECT_TRUE(driver->child().Wait(absl::Seconds(10)).has_value());
    EXPECT_TRUE(testing::IsGone(engine, absl::Seconds(10)));
  }
}

TEST_F(VmTest, KilledEngineIsReported) {
  auto driver = Launch({}, AgentImage(), PlanBundle(1));
  ASSERT_TRUE(driver.ok());
  const pid_t engine = EngineOf(&*driver);
  ASSERT_GT(engine, 0);
  kill(engine, SIGKILL);
  auto end = driver->AwaitEnd(kSilence);
  ASSERT_TRUE(end.ok());
  EXPECT_EQ(end->cause(), v1::VmEnd::ENGINE_FAILED);
  EXPECT_THAT(end->detail(), HasSubstr("killed by signal 9"));
  EXPECT_GE(end->last_stage(), v1::READY);
}

}  // namespace
}  // namespace ktstr::vmm
