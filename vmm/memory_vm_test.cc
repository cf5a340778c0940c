// SPDX-License-Identifier: Apache-2.0
// memory_map.h on real machines, whose RAM ends below the hole, or goes on above it: guest and host
// write words at both ends of low and of high RAM, and each finds what the other wrote, also across
// a snapshot. The guest is testing/hostile_init.c ("pattern"); the pages are reserved on its
// command line, so that its kernel leaves them alone.
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/file_size.h"
#include "base/status_macros.h"
#include "gtest/gtest.h"
#include "scenario/topology.h"
#include "vmm/boot_image.h"
#include "vmm/engine.h"
#include "vmm/launch_plan.h"
#include "vmm/memory_map.h"
#include "vmm/window.h"

namespace ktstr::vmm {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kPlace = 2 * kMiB;  // Reserved for each word.
constexpr uint64_t kMagic = 0x5a17c0de5a17c0deULL;
constexpr absl::Duration kPatience = absl::Seconds(240);

struct Shape {
  uint32_t memory_mb;
  uint32_t nodes;
};

class GuestMemoryVmTest : public ::testing::TestWithParam<Shape> {
 protected:
  void SetUp() override {
    const char* path = getenv("KTSTR_TEST_VMLINUX");
    if (path == nullptr) GTEST_SKIP() << "KTSTR_TEST_VMLINUX names no kernel (uncompressed ELF)";
    engine_ = *FindEngine(v1::TCG);
    auto file = engine_->Open("qemu-system-x86_64");
    if (!file.ok()) GTEST_SKIP() << file.status();
    file_ = *std::move(file);
    version_ = engine_->Identity(file_)->version;
    kernel_ = *base::Open(path, O_RDONLY);
    image_ = *MakeBootImage(absl::StrCat(KTSTR_BIN_DIR, "/../tests/hostile_init"), "test", "");
    MakePlan();
  }

  void MakePlan() {
    v1::Topology counts;
    counts.set_numa_nodes(GetParam().nodes);
    counts.set_llcs(GetParam().nodes);
    counts.set_cores_per_llc(1);
    counts.set_threads_per_core(1);
    LaunchRequest request{*scenario::Topology::FromProto(counts)};
    request.memory_mb = GetParam().memory_mb;
    request.kernel_bytes = *base::SizeOf(kernel_.get(), "kernel");
    request.boot_image_bytes = *base::SizeOf(image_.get(), "boot image");
    request.bundle_bytes = 4096;
    plan_ = *MakeLaunchPlan(request, *engine_);
    size_ = MemoryBytes(plan_);
    // Low RAM: above what the kernel's image takes, and directly below the window, which is at its
    // end. High RAM: its first and its last bytes.
    addresses_ = {512 * kMiB, plan_.window_address() - kPlace};
    if (size_ > kMaxLowRam) {
      addresses_.push_back(kHighRamAddress);
      addresses_.push_back(kHighRamAddress + size_ - kMaxLowRam - kPlace);
    }
    for (const uint64_t address : addresses_) {
      absl::StrAppend(plan_.mutable_command_line(),
                      absl::StrFormat(" memmap=2M$%#x pattern=%#x", address, address));
    }
  }
  Launch TheLaunch() const { return {plan_, file_, version_, kernel_.get(), image_.get()}; }

  // First and last word of each place; what the guest writes is a function of what it finds.
  std::vector<uint64_t> Words() const {
    std::vector<uint64_t> words;
    for (const uint64_t address : addresses_) {
      words.push_back(address);
      words.push_back(address + kPlace - sizeof(uint64_t));
    }
    return words;
  }
  void HostWrites(GuestMemory& memory, uint64_t round) {
    for (const uint64_t address : Words()) {
      const uint64_t word = address ^ (kMagic + round);
      ASSERT_TRUE(memory.Write(*RamAtAddress(address, size_), &word, sizeof(word)).ok());
    }
  }
  void HostFinds(GuestMemory& memory, uint64_t round) {
    for (const uint64_t address : Words()) {
      uint64_t word = 0;
      ASSERT_TRUE(memory.Read(*RamAtAddress(address, size_), &word, sizeof(word)).ok());
      EXPECT_EQ(word, ~(address ^ (kMagic + round))) << absl::StrFormat("%#x", address);
    }
  }
  // Waits for the guest's next doorbell, and returns it.
  static uint32_t AwaitDoorbell(Machine* machine, const Window& window) {
    const absl::Time deadline = absl::Now() + kPatience;
    while (absl::Now() < deadline) {
      auto event = machine->NextEvent();
      EXPECT_TRUE(event.ok()) << event.status();
      if (!event.ok()) break;
      if (event->has_value()) {
        EXPECT_EQ((*event)->kind, MachineEvent::Kind::kStopped) << (*event)->detail;
        if ((*event)->kind != MachineEvent::Kind::kStopped) break;
        return window.Doorbell().value_or(0);
      }
      std::vector<pollfd> waits;
      for (int fd : machine->PollFds()) waits.push_back({fd, POLLIN, 0});
      poll(waits.data(), waits.size(),
           static_cast<int>(absl::ToInt64Milliseconds(deadline - absl::Now())));
    }
    ADD_FAILURE() << "no doorbell: " << machine->GuestConsole().Text().value_or("") << "\n"
                  << machine->EngineOutput();
    return 0;
  }

  const Engine* engine_ = nullptr;
  EngineFile file_;
  std::string version_;
  base::UniqueFd kernel_;
  base::UniqueFd image_;
  v1::LaunchPlan plan_;
  uint64_t size_ = 0;
  std::vector<uint64_t> addresses_;
};

TEST_P(GuestMemoryVmTest, IsWhereTheMapPutsIt) {
  const auto window_of = [&](GuestMemory* memory) {
    return Window::Attach(memory, plan_.window_address(), plan_.window_size());
  };
  Snapshot snapshot;
  {
    auto memory = *SharedMemory::Create({plan_.node_memory().begin(), plan_.node_memory().end()});
    ASSERT_EQ(memory->size(), size_);
    Window window = *Window::Create(memory.get(), plan_.window_address(), plan_.window_size());
    const base::UniqueFd fault = *base::MakeMemfd("fault", 0);
    ASSERT_TRUE(
        base::WriteAll(fault.get(), std::string("pattern") + std::string(64, '\0'), "fault").ok());
    ASSERT_TRUE(window.WriteBundle(fault.get()).ok());
    HostWrites(*memory, 1);
    auto machine = engine_->Boot(TheLaunch(), std::move(memory));
    ASSERT_TRUE(machine.ok()) << machine.status();
    window = window_of(&(*machine)->Memory());
    ASSERT_EQ(AwaitDoorbell(machine->get(), window), window::kDoorbellReady);
    HostFinds((*machine)->Memory(), 1);
    auto taken = (*machine)->TakeSnapshot();
    ASSERT_TRUE(taken.ok()) << taken.status();
    snapshot = *std::move(taken);
  }
  auto machine = engine_->Restore(TheLaunch(), snapshot, RestoredRam::kShared);
  ASSERT_TRUE(machine.ok()) << machine.status();
  GuestMemory& memory = (*machine)->Memory();
  Window window = window_of(&memory);
  HostFinds(memory, 1);
  HostWrites(memory, 2);
  ASSERT_TRUE(window.AnswerDoorbell().ok());
  ASSERT_TRUE((*machine)->Resume().ok());
  ASSERT_EQ(AwaitDoorbell(machine->get(), window), window::kDoorbellDone);
  HostFinds(memory, 2);
}

// By itself, QEMU would put all of 2.5 GiB into low RAM. With two nodes, the hole splits the second
// one of 3 GiB, and the first one of 6 GiB.
INSTANTIATE_TEST_SUITE_P(Shapes, GuestMemoryVmTest,
                         ::testing::Values(Shape{2560, 1}, Shape{3072, 1}, Shape{6144, 1},
                                           Shape{3072, 2}, Shape{6144, 2}),
                         [](const ::testing::TestParamInfo<Shape>& info) {
                           return absl::StrCat(info.param.memory_mb, "MiB", info.param.nodes,
                                               "Nodes");
                         });

}  // namespace
}  // namespace ktstr::vmm
