// SPDX-License-Identifier: Apache-2.0
//
// The host's side of the window (layout and rules: vmm/window_abi.h): fills header and bundle
// before the guest starts, then reads the ring. The guest may write anything at any time; whatever
// does not obey the rules is an error, found in bounded time, and never a crash: a frame is copied
// out of the ring first, and the copy is checked.
//
// One thread. The memory must outlive the object.

#ifndef KTSTR_VMM_WINDOW_H_
#define KTSTR_VMM_WINDOW_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/guest_memory.h"
#include "vmm/window_abi.h"

namespace ktstr::vmm {

// Bytes of a window with room for a bundle of this size: a multiple of window::kAlignment.
uint64_t WindowSize(uint64_t bundle_size);

// A checked frame of the ring, with the parts that came before it.
struct WindowFrame {
  uint32_t type = 0;
  uint64_t sequence = 0;
  uint64_t guest_time_ns = 0;
  std::string payload;  // At most window::kMaxObservation bytes.
};

class Window {
 public:
  // Of a guest that has not started: writes the header, without a bundle. The window is `size`
  // bytes of `memory` at `address`. `flags`: window::kFlag*. InvalidArgument when it is too small.
  static absl::StatusOr<Window> Create(GuestMemory* memory, uint64_t address, uint64_t size,
                                       uint32_t flags = 0);
  // Of a guest that stands still at its first doorbell, restored from a snapshot: nothing of its
  // ring has been read.
  static Window Attach(GuestMemory* memory, uint64_t address, uint64_t size) {
    return Window(memory, address, size);
  }

  // Copies the bundle, the whole file, into its place. Before the guest starts, or while it stands
  // still at kDoorbellReady. InvalidArgument when it has no room.
  absl::Status WriteBundle(int fd);

  // The next whole observation, nullopt when the ring holds none (parts of one that goes on later
  // are kept). InvalidArgument when the guest broke a rule,
  // with the rule and the values; the ring is not readable any more then, and the error repeats.
  // Unavailable when the engine is gone.
  absl::StatusOr<std::optional<WindowFrame>> Next();
  // Bytes of ring read so far.
  uint64_t bytes_read() const { return position_; }

  // Valid while the guest stands still. One of window::kDoorbell*, or anything.
  absl::StatusOr<uint32_t> Doorbell() const;
  // What the guest claims to have reached: a number that may be no v1::Stage.
  absl::StatusOr<uint32_t> Stage() const;
  // Gives the bytes that were read back to the guest, and clears the doorbell. Only while the guest
  // stands still at a doorbell: a definite instruction.
  absl::Status AnswerDoorbell();

 private:
  Window(GuestMemory* memory, uint64_t address, uint64_t size)
      : memory_(memory), address_(address), size_(size) {}

  absl::StatusOr<std::optional<WindowFrame>> ReadFrame();
  absl::Status CopyFromRing(uint64_t position, void* to, uint64_t size) const;

  GuestMemory* memory_;
  uint64_t address_;
  uint64_t size_;
  uint64_t position_ = 0;   // Next byte to read; the guest cannot reach it.
  uint64_t last_head_ = 0;  // Highest head seen.
  uint64_t next_sequence_ = 0;
  std::string parts_;    // Of the observation that is not complete.
  absl::Status broken_;  // First rule that the guest broke.
};

}  // namespace ktstr::vmm

#endif  // KTSTR_VMM_WINDOW_H_
