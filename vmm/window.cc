// SPDX-License-Identifier: Apache-2.0
#include "vmm/window.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/crc32c.h"
#include "base/status_macros.h"

namespace ktstr::vmm {
namespace {

using window::FrameHeader;
using window::WindowHeader;

// Words that the guest writes at any time are loaded whole, once.
template <typename T>
T Load(const uint8_t* header, size_t offset) {
  return __atomic_load_n(reinterpret_cast<const T*>(header + offset), __ATOMIC_ACQUIRE);
}

template <typename T>
void Store(uint8_t* header, size_t offset, T value) {
  __atomic_store_n(reinterpret_cast<T*>(header + offset), value, __ATOMIC_RELEASE);
}

}  // namespace

uint64_t WindowSize(uint64_t bundle_size) {
  const uint64_t end = window::kAlignment + bundle_size;
  return (end + window::kAlignment - 1) / window::kAlignment * window::kAlignment;
}

absl::StatusOr<Window> Window::Create(absl::Span<uint8_t> memory, uint64_t bundle_size) {
  if (bundle_size > memory.size() || WindowSize(bundle_size) > memory.size()) {
    return absl::InvalidArgumentError(absl::StrCat("window: a bundle of ", bundle_size,
                                                   " bytes does not fit into ", memory.size()));
  }
  WindowHeader header = {};
  header.magic = window::kMagic;
  header.version = window::kVersion;
  header.header_size = sizeof(WindowHeader);
  header.window_size = memory.size();
  header.ring_size = window::kRingSize;
  header.bundle_offset = window::kAlignment;
  header.bundle_size = bundle_size;
  std::memcpy(memory.data(), &header, sizeof(header));
  return Window(memory, header.bundle_offset, bundle_size);
}

absl::Status Window::WriteBundle(int fd) {
  struct stat info;
  if (fstat(fd, &info) != 0) return base::ErrnoStatus(errno, "bundle");
  if (static_cast<uint64_t>(info.st_size) != bundle_size_) {
    return absl::InvalidArgumentError(
        absl::StrCat("bundle: ", info.st_size, " bytes, but ", bundle_size_, " were announced"));
  }
  uint64_t done = 0;
  while (done < bundle_size_) {
    ssize_t got = pread(fd, memory_.data() + bundle_offset_ + done, bundle_size_ - done,
                        static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return base::ErrnoStatus(errno, "bundle: read");
    if (got == 0) {
      return absl::DataLossError(
          absl::StrCat("bundle: ends after ", done, " of ", bundle_size_, " bytes"));
    }
    done += static_cast<uint64_t>(got);
  }
  return absl::OkStatus();
}

void Window::CopyFromRing(uint64_t position, void* to, uint64_t size) const {
  const uint8_t* ring = memory_.data() + window::kRingOffset;
  const uint64_t at = position % window::kRingSize;
  const uint64_t first = std::min(size, window::kRingSize - at);
  std::memcpy(to, ring + at, first);
  std::memcpy(static_cast<uint8_t*>(to) + first, ring, size - first);
}

absl::StatusOr<std::optional<WindowFrame>> Window::Next() {
  if (!broken_.ok()) return broken_;
  absl::StatusOr<std::optional<WindowFrame>> frame = ReadFrame();
  if (!frame.ok()) broken_ = frame.status();
  return frame;
}

absl::StatusOr<std::optional<WindowFrame>> Window::ReadFrame() {
  const uint64_t head = Load<uint64_t>(memory_.data(), offsetof(WindowHeader, head));
  auto bad = [&](const std::string& what) {
    return absl::InvalidArgumentError(
        absl::StrCat("ring, frame ", next_sequence_, " at byte ", position_, ": ", what));
  };
  if (head < last_head_) {
    return bad(absl::StrCat("head went back from ", last_head_, " to ", head));
  }
  if (head - position_ > window::kRingSize) {
    return bad(absl::StrCat("head ", head, " is more than one ring ahead"));
  }
  if (head % 8 != 0) return bad(absl::StrCat("head ", head, " is not a multiple of 8"));
  last_head_ = head;
  if (head == position_) return std::optional<WindowFrame>();

  const uint64_t available = head - position_;
  if (available < sizeof(FrameHeader)) {
    return bad(absl::StrCat("only ", available, " bytes, less than a header"));
  }
  FrameHeader header;
  CopyFromRing(position_, &header, sizeof(header));
  if (header.magic != window::kFrameMagic) {
    return bad(
        absl::StrFormat("magic %#010x instead of %#010x", header.magic, window::kFrameMagic));
  }
  if (header.length == 0 || header.length > window::kMaxFramePayload) {
    return bad(absl::StrCat("length ", header.length, " is not in 1..", window::kMaxFramePayload));
  }
  const uint64_t span = window::FrameSpan(header.length);
  if (span > available) {
    return bad(absl::StrCat("length ", header.length, " goes beyond head ", head));
  }
  if (header.type != window::kFrameObservation) {
    return bad(absl::StrCat("unknown type ", header.type));
  }
  if (header.sequence != next_sequence_) {
    return bad(absl::StrCat("sequence number ", header.sequence));
  }
  WindowFrame frame;
  frame.payload.resize(header.length);
  CopyFromRing(position_ + sizeof(header), frame.payload.data(), header.length);
  FrameHeader unsummed = header;
  unsummed.crc32c = 0;
  const uint32_t crc = base::Crc32c(frame.payload.data(), frame.payload.size(),
                                    base::Crc32c(&unsummed, sizeof(unsummed)));
  if (crc != header.crc32c) {
    return bad(absl::StrFormat("CRC-32C %#010x, computed %#010x", header.crc32c, crc));
  }
  frame.type = header.type;
  frame.sequence = header.sequence;
  frame.guest_time_ns = header.guest_time_ns;
  position_ += span;
  ++next_sequence_;
  return std::optional<WindowFrame>(std::move(frame));
}

uint32_t Window::doorbell() const {
  return Load<uint32_t>(memory_.data(), offsetof(WindowHeader, doorbell));
}

uint32_t Window::stage() const {
  return Load<uint32_t>(memory_.data(), offsetof(WindowHeader, stage));
}

void Window::AnswerDoorbell() {
  Store<uint64_t>(memory_.data(), offsetof(WindowHeader, tail), position_);
  Store<uint32_t>(memory_.data(), offsetof(WindowHeader, doorbell), window::kDoorbellNone);
}

}  // namespace ktstr::vmm
