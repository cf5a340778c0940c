// SPDX-License-Identifier: Apache-2.0
#include "guest/channel.h"

#include <sys/io.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/crc32c.h"
#include "base/head_tail.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "guest/console.h"
#include "guest/time.h"

namespace ktstr::guest {
namespace {

// The host empties the ring in one stop. The agent tolerates a few more, but does not wait for
// ever.
constexpr int kMaxFullWaits = 3;
constexpr size_t kMaxErrorBytes = 32 << 10;

template <typename T>
void StoreRelease(T& word, T value) {
  std::atomic_ref<T>(word).store(value, std::memory_order_release);
}
template <typename T>
T LoadAcquire(T& word) {
  return std::atomic_ref<T>(word).load(std::memory_order_acquire);
}

absl::Status WritePort(uint16_t port, uint8_t value) {
  if (ioperm(port, 1, 1) != 0) {
    return base::ErrnoStatus(errno, absl::StrCat("ioperm of port 0x", absl::Hex(port)));
  }
  outb(value, port);
  ioperm(port, 1, 0);
  return absl::OkStatus();
}

}  // namespace

Channel::Ports RealPorts() {
  return {[] { return WritePort(window::kBellPort, 0); },
          [] { return WritePort(window::kPvpanicPort, window::kPvpanicPanicked); }};
}

Channel::Channel(Window* window, Ports ports)
    : window_(window), ports_(std::move(ports)), head_(window->header().head) {}

absl::Status Channel::Doorbell(uint32_t reason) {
  StoreRelease(window_->header().doorbell, reason);
  return ports_.stop();
}

absl::StatusOr<bool> Channel::Bell(uint32_t reason) {
  StoreRelease(window_->header().doorbell, reason);
  KTSTR_RETURN_IF_ERROR(ports_.bell());
  if (LoadAcquire(window_->header().doorbell) == window::kDoorbellNone) return true;
  // A stop from here on is not for this reason.
  StoreRelease(window_->header().doorbell, window::kDoorbellNone);
  return false;
}

absl::Status Channel::MakeRoom(uint64_t span) {
  const uint64_t ring_size = window_->header().ring_size;
  for (int wait = 0;; ++wait) {
    const uint64_t tail = LoadAcquire(window_->header().tail);
    if (tail > head_) {
      return absl::InternalError(
          absl::StrCat("ring: the host's tail ", tail, " is past the head ", head_));
    }
    if (head_ + span - tail <= ring_size) return absl::OkStatus();
    if (wait == kMaxFullWaits) {
      return absl::DeadlineExceededError(absl::StrCat("ring: still full (head ", head_, ", tail ",
                                                      tail, ") after ", wait,
                                                      " stops at the doorbell"));
    }
    KTSTR_ASSIGN_OR_RETURN(const bool answered, Bell(window::kDoorbellRingFull));
    if (answered) continue;
    ++full_waits_;
    StoreRelease(window_->header().full_waits, full_waits_);
    KTSTR_RETURN_IF_ERROR(Doorbell(window::kDoorbellRingFull));
  }
}

void Channel::Copy(const void* data, size_t size) {
  const uint64_t ring_size = window_->header().ring_size;
  const char* from = static_cast<const char*>(data);
  while (size > 0) {
    const uint64_t at = head_ % ring_size;
    const size_t piece = std::min<uint64_t>(size, ring_size - at);
    memcpy(window_->ring() + at, from, piece);
    head_ += piece;
    from += piece;
    size -= piece;
  }
}

absl::Status Channel::Send(std::string_view payload, uint64_t guest_time_ns) {
  const uint64_t ring_size = window_->header().ring_size;
  // A frame must fit into an empty ring.
  const size_t most =
      std::min<uint64_t>(window::kMaxFramePayload, ring_size - sizeof(window::FrameHeader) - 8);
  while (payload.size() > most) {
    KTSTR_RETURN_IF_ERROR(SendFrame(window::kFramePart, payload.substr(0, most), guest_time_ns));
    payload.remove_prefix(most);
  }
  return SendFrame(window::kFrameObservation, payload, guest_time_ns);
}

absl::Status Channel::SendFrame(uint32_t type, std::string_view payload, uint64_t guest_time_ns) {
  const uint64_t span = window::FrameSpan(payload.size());
  KTSTR_RETURN_IF_ERROR(MakeRoom(span));
  window::FrameHeader frame{};
  frame.magic = window::kFrameMagic;
  frame.length = static_cast<uint32_t>(payload.size());
  frame.type = type;
  frame.sequence = sequence_;
  frame.guest_time_ns = guest_time_ns;
  frame.crc32c = base::Crc32c(payload.data(), payload.size(), base::Crc32c(&frame, sizeof(frame)));
  constexpr char kPadding[8] = {};
  Copy(&frame, sizeof(frame));
  Copy(payload.data(), payload.size());
  Copy(kPadding, span - sizeof(frame) - payload.size());
  StoreRelease(window_->header().head, head_);
  ++sequence_;
  return absl::OkStatus();
}

void Channel::Report(v1::Observation observation) {
  if (broken_) return;
  const uint64_t now = MonotonicNs();
  if (observation.guest_time_ns() == 0) observation.set_guest_time_ns(now);
  const std::string payload = observation.SerializeAsString();
  // None of it has been written: the channel stays usable, and the loss is an error of the run.
  if (payload.empty() || payload.size() > window::kMaxObservation) {
    ReportError(absl::StrCat("observation of ", payload.size(), " bytes (fact ",
                             static_cast<int>(observation.fact_case()),
                             ") cannot be sent; at most ", window::kMaxObservation, " bytes"));
    return;
  }
  absl::Status sent = Send(payload, now);
  if (sent.ok()) return;
  broken_ = true;
  ConsoleLine(absl::StrCat("error: channel lost: ", sent.message()));
}

void Channel::ReportStage(v1::Stage stage) {
  StoreRelease(window_->header().stage, static_cast<uint32_t>(stage));
  ConsoleLine(absl::StrCat("stage ", v1::Stage_Name(stage)));
  v1::Observation observation;
  observation.mutable_stage()->set_stage(stage);
  Report(std::move(observation));
}

void Channel::ReportFirstStep() {
  if (broken_) return;
  const absl::Status rung = Bell(window::kDoorbellFirstStep).status();
  if (!rung.ok()) ReportError(absl::StrCat("the bell of the first step: ", rung.message()));
}

void Channel::ReportError(std::string_view message, bool bad_input) {
  ConsoleLine(absl::StrCat("error: ", absl::string_view(message.data(), message.size())));
  v1::Observation observation;
  observation.mutable_guest_error()->set_message(
      base::SanitizeUtf8(base::CutLine(message, kMaxErrorBytes)));
  observation.mutable_guest_error()->set_bad_input(bad_input);
  Report(std::move(observation));
}

}  // namespace ktstr::guest
