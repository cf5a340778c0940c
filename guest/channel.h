// SPDX-License-Identifier: Apache-2.0
//
// The guest's end of the window's ring (vmm/window_abi.h): observations become frames. The agent's
// one thread is the only producer, so there is no lock. Workers and schedulers never write here.

#ifndef KTSTR_GUEST_CHANNEL_H_
#define KTSTR_GUEST_CHANNEL_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "guest/reporter.h"
#include "guest/window.h"

namespace ktstr::guest {

class Channel : public Reporter {
 public:
  struct Ports {
    std::function<absl::Status()> bell;  // Returns when the host has answered, where it can answer.
    std::function<absl::Status()> stop;  // Stops the machine until the host resumes it.
  };
  // `window` outlives the channel.
  Channel(Window* window, Ports ports);

  void Report(v1::Observation observation) override;
  void ReportStage(v1::Stage stage) override;
  void ReportFirstStep() override;
  void ReportError(std::string_view message, bool bad_input) override;
  using Reporter::ReportError;

  // Stores the reason, then stops the machine.
  absl::Status Doorbell(uint32_t reason);
  // Stores the reason, then waits for the host without a stop. False on a machine that cannot.
  absl::StatusOr<bool> Bell(uint32_t reason);

  uint64_t frames() const { return sequence_; }
  // How often the machine stopped because the ring was full.
  uint64_t full_waits() const { return full_waits_; }

 private:
  // Sends one frame, or as many as the payload takes.
  absl::Status Send(std::string_view payload, uint64_t guest_time_ns);
  absl::Status SendFrame(uint32_t type, std::string_view payload, uint64_t guest_time_ns);
  // Waits for the host until `span` bytes are free.
  absl::Status MakeRoom(uint64_t span);
  void Copy(const void* data, size_t size);

  Window* window_;
  Ports ports_;
  uint64_t head_;
  uint64_t sequence_ = 0;
  uint64_t full_waits_ = 0;
  // The console has the error. Drops later frames: the host refuses a gap in the sequence.
  bool broken_ = false;
};

// The real ports. Each is opened for the one instruction only, so that no child inherits it.
Channel::Ports RealPorts();

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_CHANNEL_H_
