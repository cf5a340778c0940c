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
  // `ring_doorbell` stops the machine until the host resumes it. `window` outlives the channel.
  Channel(Window* window, std::function<absl::Status()> ring_doorbell);

  void Report(v1::Observation observation) override;
  void ReportStage(v1::Stage stage) override;
  void ReportError(std::string_view message, bool bad_input) override;
  using Reporter::ReportError;

  // Stores the reason, then stops at the doorbell.
  absl::Status Doorbell(uint32_t reason);

  uint64_t frames() const { return sequence_; }
  uint64_t full_waits() const { return full_waits_; }

 private:
  // Sends one frame, or as many as the payload takes.
  absl::Status Send(std::string_view payload, uint64_t guest_time_ns);
  absl::Status SendFrame(uint32_t type, std::string_view payload, uint64_t guest_time_ns);
  // Waits at the doorbell until `span` bytes are free.
  absl::Status MakeRoom(uint64_t span);
  void Copy(const void* data, size_t size);

  Window* window_;
  std::function<absl::Status()> ring_doorbell_;
  uint64_t head_;
  uint64_t sequence_ = 0;
  uint64_t full_waits_ = 0;
  // The console has the error. Drops later frames: the host refuses a gap in the sequence.
  bool broken_ = false;
};

// The real doorbell: one byte to the pvpanic port. The port is opened for this instruction only, so
// that no child inherits it.
absl::Status RingPvpanic();

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_CHANNEL_H_
