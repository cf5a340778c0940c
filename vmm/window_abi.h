// SPDX-License-Identifier: Apache-2.0
//
// The window: a piece of guest RAM that the guest kernel leaves alone, shared by the VM process and
// the agent. The only channel between them besides the console. Included by both sides;
// C-compatible layout, little endian.
//
// clang-format off
//   window base (physical address and size on the guest command line: ktstr.window=0xADDR,0xSIZE)
//   +----------------------------+ 0
//   | WindowHeader (4096 bytes)  |  the host's words and the guest's words, in separate cache lines
//   +----------------------------+ kRingOffset = 4096
//   | ring, ring_size bytes      |  guest -> host, frames
//   +----------------------------+ bundle_offset (2 MiB aligned)
//   | bundle, bundle_size bytes  |  host -> guest, a cpio archive (newc), written before the guest
//   |                            |  starts, or while it stands still at kDoorbellReady or
//   |                            |  kDoorbellAttached (bundle_size is valid from then on)
//   +----------------------------+ window size
// clang-format on
//
// Ring: byte positions `head` (guest) and `tail` (host) only grow; position p is at byte
// p % ring_size of the ring. Frames are 8-byte aligned and may wrap at the end of the ring. The
// guest has one producer: it copies the frame, then publishes `head` with release order. The host
// loads `head` with acquire order at any time, writes nothing while it reads, and keeps its own
// read position.
//
// The host moves `tail` only while the guest stands still at a doorbell, a definite instruction. So
// the guest cannot observe how fast the host reads, and runs stay equal bit for bit. When the ring
// is full, the guest rings kDoorbellRingFull; the host reads everything, sets `tail` and resumes
// the guest.
//
// Doorbell: the agent stores the reason in `doorbell` and writes to an I/O port. The host clears
// the word before it lets the guest go on.
//
// - kBellPort, for kDoorbellRingFull, kDoorbellFirstStep and kDoorbellDone: the instruction lasts
//   until the host has answered, and the whole guest stands still meanwhile. It does not stop, so
//   its execution does not depend on the host. On a machine without such a port the word stays as
//   it is, and the agent clears it and uses the other one, if at all.
// - kPvpanicPort, with kPvpanicPanicked: the machine stops. A stop with `doorbell` == 0 comes from
//   the kernel's own panic notifier.
//
// Compatibility: both sides come from one build and check `magic` and `version`; any change of
// layout raises kVersion. Everything the guest writes is hostile until checked: head, lengths,
// types, CRCs.

#ifndef KTSTR_VMM_WINDOW_ABI_H_
#define KTSTR_VMM_WINDOW_ABI_H_

#include <cstddef>
#include <cstdint>

namespace ktstr::window {

inline constexpr uint64_t kMagic = 0x31574e525453544bULL;  // "KTSTRNW1", little endian
inline constexpr uint32_t kVersion = 2;
inline constexpr uint64_t kRingOffset = 4096;
inline constexpr uint64_t kAlignment = 2ULL << 20;
inline constexpr uint64_t kRingSize = kAlignment - kRingOffset;  // Frames fill up to the bundle.
inline constexpr char kCommandLineKey[] = "ktstr.window=";  // "ktstr.window=0x1c000000,0x2000000"

inline constexpr uint16_t kBellPort = 0x506;
inline constexpr uint16_t kPvpanicPort = 0x505;
inline constexpr uint8_t kPvpanicPanicked = 1;

// Values of WindowHeader::doorbell.
inline constexpr uint32_t kDoorbellNone = 0;
inline constexpr uint32_t kDoorbellReady = 1;  // The agent is ready; the host may take a snapshot.
inline constexpr uint32_t kDoorbellRingFull = 2;  // The host must empty the ring.
// The agent has reported everything; the host takes the memory digest.
inline constexpr uint32_t kDoorbellDone = 3;
// The scheduler is enabled; the host may take a snapshot, and puts the bundle of a run in place of
// the one that attached it.
inline constexpr uint32_t kDoorbellAttached = 5;
// The first step begins: from here on the host may look at the guest.
inline constexpr uint32_t kDoorbellFirstStep = 6;
// Stored without ringing: the agent cannot go on, and powers the machine off.
inline constexpr uint32_t kDoorbellGaveUp = 4;

// Bits of WindowHeader::flags. The agent rings Ready only when this bit asks for it, to take a
// snapshot: the emulator does not resume at one definite place in its order of vCPUs, so a run that
// goes on after a stop may have one of two executions. All runs from one snapshot have the same.
inline constexpr uint32_t kFlagStopAtReady = 1;

struct WindowHeader {
  // Written by the host before the guest starts.
  uint64_t magic;          // 0
  uint32_t version;        // 8
  uint32_t header_size;    // 12: sizeof(WindowHeader)
  uint64_t window_size;    // 16
  uint64_t ring_size;      // 24
  uint64_t bundle_offset;  // 32
  uint64_t bundle_size;    // 40
  uint32_t flags;          // 48: kFlag* bits
  uint32_t reserved0[3];
  // Written by the host at doorbells only.
  uint64_t tail;  // 64
  uint64_t reserved1[7];
  // Written by the guest.
  uint64_t head;        // 128
  uint32_t doorbell;    // 136
  uint32_t stage;       // 140: v1::Stage last reached
  uint64_t full_waits;  // 144
  uint64_t reserved2[5];
};
static_assert(sizeof(WindowHeader) == 192);
static_assert(offsetof(WindowHeader, flags) == 48);
static_assert(offsetof(WindowHeader, tail) == 64);
static_assert(offsetof(WindowHeader, head) == 128);
static_assert(offsetof(WindowHeader, stage) == 140);

// Precedes each payload. A frame takes sizeof(FrameHeader) + length bytes, rounded up to 8.
struct FrameHeader {
  uint32_t magic;     // kFrameMagic
  uint32_t length;    // Payload bytes, 1 to kMaxFramePayload.
  uint32_t type;      // kFrameObservation or kFramePart
  uint32_t crc32c;    // CRC-32C (Castagnoli) over this header with crc32c = 0, then the payload.
  uint64_t sequence;  // From 0, no gaps.
  uint64_t guest_time_ns;  // CLOCK_MONOTONIC
};
static_assert(sizeof(FrameHeader) == 32);

inline constexpr uint32_t kFrameMagic = 0x4652544bU;  // "KTRF", little endian
// Payload: a serialized ktstr.v1.Observation, or the last part of one.
inline constexpr uint32_t kFrameObservation = 1;
// Payload: a part of a serialized observation that is too long for one frame; the next frame
// continues it.
inline constexpr uint32_t kFramePart = 2;
inline constexpr uint32_t kMaxFramePayload = 48 << 10;
inline constexpr uint32_t kMaxObservation = 1 << 20;  // Bytes of all parts together.

// Bytes of ring that a frame with this payload occupies.
constexpr uint64_t FrameSpan(uint64_t payload) {
  return (sizeof(FrameHeader) + payload + 7) & ~uint64_t{7};
}

}  // namespace ktstr::window

#endif  // KTSTR_VMM_WINDOW_ABI_H_
