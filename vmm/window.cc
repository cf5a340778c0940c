// SPDX-License-Identifier: Apache-2.0
#include "vmm/window.h"

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "base/file_size.h"
#include "base/status_macros.h"

namespace ktstr::vmm {
namespace {

using window::FrameHeader;
using window::WindowHeader;

constexpr uint64_t kPiece = uint64_t{1} << 20;

}  // namespace

uint64_t WindowSize(uint64_t bundle_size) {
  const uint64_t end = window::kAlignment + bundle_size;
  return (end + window::kAlignment - 1) / window::kAlignment * window::kAlignment;
}

absl::StatusOr<Window> Window::Create(GuestMemory* memory, uint64_t address, uint64_t size,
                                      uint32_t flags) {
  if (size < WindowSize(0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("window: ", size, " bytes, at least ", WindowSize(0)));
  }
  WindowHeader header = {};
  header.magic = window::kMagic;
  header.version = window::kVersion;
  header.header_size = sizeof(WindowHeader);
  header.window_size = size;
  header.ring_size = window::kRingSize;
  header.bundle_offset = window::kAlignment;
  header.flags = flags;
  KTSTR_RETURN_IF_ERROR(memory->Write(address, &header, sizeof(header)));
  return Window(memory, address, size);
}

absl::Status Window::WriteBundle(int fd) {
  KTSTR_ASSIGN_OR_RETURN(const uint64_t bundle_size, base::SizeOf(fd, "the bundle"));
  const uint64_t room = size_ - window::kAlignment;
  if (bundle_size > room) {
    return absl::InvalidArgumentError(
        absl::StrCat("window: a bundle of ", bundle_size, " bytes does not fit into ", room));
  }
  std::string buffer(std::min(kPiece, bundle_size), '\0');
  for (uint64_t done = 0; done < bundle_size;) {
    const uint64_t piece = std::min(kPiece, bundle_size - done);
    KTSTR_ASSIGN_OR_RETURN(const size_t got,
                           base::ReadAt(fd, buffer.data(), piece, done, "the bundle"));
    if (got < piece) {
      return absl::DataLossError(
          absl::StrCat("bundle: ends after ", done + got, " of ", bundle_size, " bytes"));
    }
    KTSTR_RETURN_IF_ERROR(
        memory_->Write(address_ + window::kAlignment + done, buffer.data(), piece));
    done += piece;
  }
  return memory_->Write(address_ + offsetof(WindowHeader, bundle_size), &bundle_size,
                        sizeof(bundle_size));
}

absl::Status Window::CopyFromRing(uint64_t position, void* to, uint64_t size) const {
  const uint64_t ring = address_ + window::kRingOffset;
  const uint64_t at = position % window::kRingSize;
  const uint64_t first = std::min(size, window::kRingSize - at);
  KTSTR_RETURN_IF_ERROR(memory_->Read(ring + at, to, first));
  return memory_->Read(ring, static_cast<uint8_t*>(to) + first, size - first);
}

absl::StatusOr<std::optional<WindowFrame>> Window::Next() {
  if (!broken_.ok()) return broken_;
  while (true) {
    absl::StatusOr<std::optional<WindowFrame>> frame = ReadFrame();
    if (absl::IsInvalidArgument(frame.status())) broken_ = frame.status();
    if (!frame.ok() || !frame->has_value()) return frame;
    if (parts_.size() + (*frame)->payload.size() > window::kMaxObservation) {
      broken_ = absl::InvalidArgumentError(absl::StrCat("ring, frame ", (*frame)->sequence,
                                                        ": an observation of more than ",
                                                        window::kMaxObservation, " bytes"));
      return broken_;
    }
    if ((*frame)->type == window::kFramePart) {
      parts_ += (*frame)->payload;
      continue;
    }
    if (!parts_.empty()) (*frame)->payload.insert(0, std::exchange(parts_, {}));
    return frame;
  }
}

absl::StatusOr<std::optional<WindowFrame>> Window::ReadFrame() {
  uint64_t head = 0;
  KTSTR_RETURN_IF_ERROR(
      memory_->Read(address_ + offsetof(WindowHeader, head), &head, sizeof(head)));
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
  KTSTR_RETURN_IF_ERROR(CopyFromRing(position_, &header, sizeof(header)));
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
  if (header.type != window::kFrameObservation && header.type != window::kFramePart) {
    return bad(absl::StrCat("unknown type ", header.type));
  }
  if (header.sequence != next_sequence_) {
    return bad(absl::StrCat("sequence number ", header.sequence));
  }
  WindowFrame frame;
  frame.payload.resize(header.length);
  KTSTR_RETURN_IF_ERROR(
      CopyFromRing(position_ + sizeof(header), frame.payload.data(), header.length));
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

absl::StatusOr<uint32_t> Window::Doorbell() const {
  uint32_t doorbell = 0;
  KTSTR_RETURN_IF_ERROR(
      memory_->Read(address_ + offsetof(WindowHeader, doorbell), &doorbell, sizeof(doorbell)));
  return doorbell;
}

absl::StatusOr<uint32_t> Window::Stage() const {
  uint32_t stage = 0;
  KTSTR_RETURN_IF_ERROR(
      memory_->Read(address_ + offsetof(WindowHeader, stage), &stage, sizeof(stage)));
  return stage;
}

absl::Status Window::AnswerDoorbell() {
  KTSTR_RETURN_IF_ERROR(
      memory_->Write(address_ + offsetof(WindowHeader, tail), &position_, sizeof(position_)));
  const uint32_t none = window::kDoorbellNone;
  return memory_->Write(address_ + offsetof(WindowHeader, doorbell), &none, sizeof(none));
}

}  // namespace ktstr::vmm
