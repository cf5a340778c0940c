// SPDX-License-Identifier: Apache-2.0
// Whatever a guest writes into its window, the host's reader terminates, and returns checked
// observations, assembled from their parts, or an error. Input: 8 bytes of head, 1 byte of flags,
// then the ring. With flag 1, each frame gets a correct CRC, so that the fuzzer gets past that
// check.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "base/crc32c.h"
#include "ktstr/v1/observation.pb.h"
#include "vmm/window.h"

namespace {

using ktstr::base::Crc32c;
namespace window = ktstr::window;

void RepairChecksums(uint8_t* ring, size_t size) {
  size_t at = 0;
  while (at + sizeof(window::FrameHeader) <= size) {
    window::FrameHeader frame;
    std::memcpy(&frame, ring + at, sizeof(frame));
    if (frame.length > size - at - sizeof(frame)) return;
    frame.crc32c = 0;
    frame.crc32c = Crc32c(ring + at + sizeof(frame), frame.length, Crc32c(&frame, sizeof(frame)));
    std::memcpy(ring + at, &frame, sizeof(frame));
    at += window::FrameSpan(frame.length);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto& memory = *ktstr::vmm::SharedMemory::Create({ktstr::vmm::WindowSize(0)})->release();
  if (size < 9) return 0;
  auto reader = ktstr::vmm::Window::Create(&memory, 0, memory.size());
  if (!reader.ok()) abort();
  uint8_t* bytes_of_window = memory.At(0, memory.size())->data();
  uint8_t* ring = bytes_of_window + window::kRingOffset;
  const size_t bytes = std::min<size_t>(size - 9, window::kRingSize);
  std::memcpy(ring, data + 9, bytes);
  if ((data[8] & 1) != 0) RepairChecksums(ring, bytes);
  std::memcpy(bytes_of_window + offsetof(window::WindowHeader, head), data, 8);

  uint64_t next_sequence = 0;
  while (true) {
    auto frame = reader->Next();
    if (!frame.ok()) {
      if (reader->Next().ok()) abort();  // The error must repeat.
      break;
    }
    if (!frame->has_value()) break;
    if ((*frame)->sequence < next_sequence || (*frame)->payload.empty() ||
        (*frame)->payload.size() > window::kMaxObservation ||
        (*frame)->payload.size() > reader->bytes_read() ||
        reader->bytes_read() > window::kRingSize) {
      abort();
    }
    next_sequence = (*frame)->sequence + 1;
    ktstr::v1::Observation observation;
    observation.ParseFromString((*frame)->payload);
  }
  std::memset(ring, 0, bytes);
  return 0;
}
