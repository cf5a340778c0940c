// SPDX-License-Identifier: Apache-2.0
//
// A Machine without an engine: the test plays guest and engine. Events come from a queue.

#ifndef KTSTR_VMM_TESTING_FAKE_MACHINE_H_
#define KTSTR_VMM_TESTING_FAKE_MACHINE_H_

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vmm/machine.h"

namespace ktstr::vmm::testing {

class FakeMachine : public Machine {
 public:
  explicit FakeMachine(uint64_t memory_bytes)
      : memory_(*SharedMemory::Create({memory_bytes})), console_(*Console::Create()) {}

  std::vector<int> PollFds() const override { return {}; }
  absl::StatusOr<std::optional<MachineEvent>> NextEvent() override {
    if (!broken.ok()) return broken;
    if (events.empty()) return std::optional<MachineEvent>();
    MachineEvent event = std::move(events.front());
    events.pop_front();
    return std::optional<MachineEvent>(std::move(event));
  }
  absl::Status Resume() override {
    ++resumes;
    return absl::OkStatus();
  }
  absl::StatusOr<Snapshot> TakeSnapshot() override {
    return absl::UnimplementedError("a fake machine has no device state");
  }
  absl::Status Rewind() override {
    return absl::UnimplementedError("a fake machine has no device state");
  }
  bool CanRewind() const override { return can_rewind; }
  void Stop() override { ++stops; }
  absl::Status SetVcpuTurn(absl::Duration turn) override {
    vcpu_turn = turn;
    return absl::OkStatus();
  }
  bool HasBoundedTurns() const override { return bounded_turns; }
  absl::Status SetRendezvous(absl::Duration guest_time) override {
    rendezvous = guest_time;
    return absl::OkStatus();
  }
  std::optional<absl::Duration> GuestTime() const override { return guest_time; }
  std::vector<v1::VcpuState> HaltAndLook() override { return vcpus; }
  SharedMemory& Memory() override { return *memory_; }
  const Console& GuestConsole() const override { return console_; }
  std::string EngineNote() const override { return {}; }
  std::string EngineOutput() override { return output; }
  const std::string& EngineVersion() const override { return version; }

  std::deque<MachineEvent> events;
  absl::Status broken;
  std::optional<absl::Duration> guest_time;
  std::vector<v1::VcpuState> vcpus;
  std::string output;
  std::string version = "FAKE 1.0";
  absl::Duration vcpu_turn = absl::ZeroDuration();
  bool bounded_turns = true;
  bool can_rewind = false;
  absl::Duration rendezvous = absl::InfiniteDuration();
  int resumes = 0;
  int stops = 0;

 private:
  std::unique_ptr<SharedMemory> memory_;
  Console console_;
};

}  // namespace ktstr::vmm::testing

#endif  // KTSTR_VMM_TESTING_FAKE_MACHINE_H_
