// SPDX-License-Identifier: Apache-2.0
//
// The host's side of the window (layout and rules: vmm/window_abi.h): fills header and bundle
// before the guest starts, then reads the ring. The guest may write anything at any time; a broken
// rule is an error, found in bounded time, and never a crash: the reader copies a frame out of the
// ring, then checks the copy.
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
  // For a guest that has not started: writes the header, without a bundle. The window is `size`
  // bytes of `memory` at `address`. `flags`: window::kFlag*. InvalidArgument when `size` is too
  // small.
  static absl::StatusOr<Window> Create(GuestMemory* memory, uint64_t address, uint64_t size,
                                       uint32_t flags = 0);
  // For a guest restored from a snapshot, which stands still at its first doorbell: reading starts
  // at the beginning of its ring.
  static Window Attach(GuestMemory* memory, uint64_t address, uint64_t size) {
    return Window(memory, address, size);
  }

  // Copies the whole file to the bundle's place. Before the guest starts, or while it stands still
  // at kDoorbellReady or kDoorbellAttached. InvalidArgument when the bundle does not fit.
  absl::Status WriteBundle(int fd);

  // The next whole observation; nullopt when the ring holds none (the window keeps the parts of an
  // incomplete one). InvalidArgument names the rule that the guest broke, and the values; the ring
  // is unreadable from then on, and every later call returns the same error. Unavailable when the
  // engine is gone.
  absl::StatusOr<std::optional<WindowFrame>> Next();
  // Bytes of ring read so far.
  uint64_t bytes_read() const { return position_; }

  // Valid while the guest stands still. One of window::kDoorbell*; a hostile guest may store
  // anything else.
  absl::StatusOr<uint32_t> Doorbell() const;
  // The stage that the guest claims to have reached; the number may be no v1::Stage.
  absl::StatusOr<uint32_t> Stage() const;
  // Returns the ring space of the bytes read so far to the guest, and clears the doorbell. Only
  // while the guest stands still at a doorbell.
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
