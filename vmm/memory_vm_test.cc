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
#include "gtest/gtest.h"
#include "vmm/engine.h"
#include "vmm/launch_plan.h"
#include "vmm/memory_map.h"
#include "vmm/testing/real_launch.h"
#include "vmm/window.h"

namespace ktstr::vmm {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kPlace = 2 * kMiB;  // Reserved for each word.
constexpr uint64_t kMagic = 0x5a17c0de5a17c0deULL;
constexpr absl::Duration kPatience = absl::Seconds(240);

class GuestMemoryVmTest : public ::testing::TestWithParam<testing::MachineShape> {
 protected:
  void SetUp() override {
    auto launch = testing::RealLaunch::Make(
        GetParam(), absl::StrCat(KTSTR_BIN_DIR, "/../tests/hostile_init"), /*bundle_bytes=*/4096);
    if (!launch.ok()) GTEST_SKIP() << launch.status();
    launch_ = *std::move(launch);
    Reserve();
  }

  void Reserve() {
    size_ = MemoryBytes(plan());
    // Low RAM: above what the kernel's image takes, and directly below the window, which is at its
    // end. High RAM: its first and its last bytes.
    addresses_ = {512 * kMiB, plan().window_address() - kPlace};
    if (size_ > kMaxLowRam) {
      addresses_.push_back(kHighRamAddress);
      addresses_.push_back(kHighRamAddress + size_ - kMaxLowRam - kPlace);
    }
    for (const uint64_t address : addresses_) {
      absl::StrAppend(plan().mutable_command_line(),
                      absl::StrFormat(" memmap=2M$%#x pattern=%#x", address, address));
    }
  }

  v1::LaunchPlan& plan() { return launch_->plan(); }

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

  std::optional<testing::RealLaunch> launch_;
  uint64_t size_ = 0;
  std::vector<uint64_t> addresses_;
};

TEST_P(GuestMemoryVmTest, IsWhereTheMapPutsIt) {
  const auto window_of = [&](GuestMemory* memory) {
    return Window::Attach(memory, plan().window_address(), plan().window_size());
  };
  Snapshot snapshot;
  {
    auto memory = *SharedMemory::Create({plan().node_memory().begin(), plan().node_memory().end()});
    ASSERT_EQ(memory->size(), size_);
    Window window = *Window::Create(memory.get(), plan().window_address(), plan().window_size());
    const base::UniqueFd fault = *base::MakeMemfd("fault", 0);
    ASSERT_TRUE(
        base::WriteAll(fault.get(), std::string("pattern") + std::string(64, '\0'), "fault").ok());
    ASSERT_TRUE(window.WriteBundle(fault.get()).ok());
    HostWrites(*memory, 1);
    auto machine = launch_->engine().Boot(launch_->launch(), std::move(memory));
    ASSERT_TRUE(machine.ok()) << machine.status();
    window = window_of(&(*machine)->Memory());
    ASSERT_EQ(AwaitDoorbell(machine->get(), window), window::kDoorbellReady);
    HostFinds((*machine)->Memory(), 1);
    auto taken = (*machine)->TakeSnapshot();
    ASSERT_TRUE(taken.ok()) << taken.status();
    snapshot = *std::move(taken);
  }
  auto machine = launch_->engine().Restore(launch_->launch(), snapshot, RestoredRam::kShared);
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
                         ::testing::ValuesIn(std::vector<testing::MachineShape>{
                             {.memory_mb = 2560},
                             {.memory_mb = 3072},
                             {.memory_mb = 6144},
                             {.nodes = 2, .llcs = 2, .memory_mb = 3072},
                             {.nodes = 2, .llcs = 2, .memory_mb = 6144}}),
                         [](const ::testing::TestParamInfo<testing::MachineShape>& info) {
                           return absl::StrCat(info.param.memory_mb, "MiB", info.param.nodes,
                                               "Nodes");
                         });

}  // namespace
}  // namespace ktstr::vmm
