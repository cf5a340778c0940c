// SPDX-License-Identifier: Apache-2.0
//
// The guest's side of the ring for tests: writes frames as the agent does, or wrong on purpose.

#ifndef KTSTR_VMM_TESTING_RING_WRITER_H_
#define KTSTR_VMM_TESTING_RING_WRITER_H_

#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/crc32c.h"
#include "vmm/window_abi.h"

namespace ktstr::vmm::testing {

class RingWriter {
 public:
  // `window` holds a header that the host has filled.
  explicit RingWriter(uint8_t* window) : window_(window) {}

  window::WindowHeader* header() { return reinterpret_cast<window::WindowHeader*>(window_); }

  // A correct frame header for this payload.
  window::FrameHeader HeaderFor(std::string_view payload, uint64_t guest_time_ns = 0,
                                uint32_t type = window::kFrameObservation) {
    window::FrameHeader frame = {};
    frame.magic = window::kFrameMagic;
    frame.length = static_cast<uint32_t>(payload.size());
    frame.type = type;
    frame.sequence = sequence_;
    frame.guest_time_ns = guest_time_ns;
    frame.crc32c =
        base::Crc32c(payload.data(), payload.size(), base::Crc32c(&frame, sizeof(frame)));
    return frame;
  }
  void Write(std::string_view payload, uint64_t guest_time_ns = 0) {
    WriteRaw(HeaderFor(payload, guest_time_ns), payload);
  }
  void WritePart(std::string_view payload) {
    WriteRaw(HeaderFor(payload, 0, window::kFramePart), payload);
  }
  void WriteRaw(const window::FrameHeader& frame, std::string_view payload) {
    Copy(header()->head, &frame, sizeof(frame));
    Copy(header()->head + sizeof(frame), payload.data(), payload.size());
    header()->head += window::FrameSpan(payload.size());
    ++sequence_;
  }

 private:
  void Copy(uint64_t position, const void* data, size_t size) {
    for (size_t i = 0; i < size; ++i) {
      window_[window::kRingOffset + (position + i) % window::kRingSize] =
          static_cast<const uint8_t*>(data)[i];
    }
  }

  uint8_t* window_;
  uint64_t sequence_ = 0;
};

}  // namespace ktstr::vmm::testing

#endif  // KTSTR_VMM_TESTING_RING_WRITER_H_
