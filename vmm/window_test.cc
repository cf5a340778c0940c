// SPDX-License-Identifier: Apache-2.0
#include "vmm/window.h"

#include <unistd.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>

#include "base/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/testing/ring_writer.h"

namespace ktstr::vmm {
namespace {

using ::testing::HasSubstr;
using window::FrameHeader;
using window::kRingSize;

constexpr uint64_t kAt = 2 << 20;  // Where the window is.

class WindowTest : public ::testing::Test {
 protected:
  std::unique_ptr<SharedMemory> memory_ = *SharedMemory::Create({WindowSize(0) + kAt});
  Window window_ = *Window::Create(memory_.get(), kAt, WindowSize(0));
  testing::RingWriter guest_{memory_->At(kAt, 1)->data()};

  void ExpectBroken(const std::string& text) {
    for (int repeat = 0; repeat < 2; ++repeat) {
      auto frame = window_.Next();
      ASSERT_TRUE(absl::IsInvalidArgument(frame.status())) << frame.status();
      EXPECT_THAT(std::string(frame.status().message()), HasSubstr(text));
    }
  }
};

TEST_F(WindowTest, HeaderIsWhatTheGuestChecks) {
  const window::WindowHeader& header = *guest_.header();
  EXPECT_EQ(header.magic, window::kMagic);
  EXPECT_EQ(header.version, window::kVersion);
  EXPECT_EQ(header.header_size, sizeof(header));
  EXPECT_EQ(header.window_size, WindowSize(0));
  EXPECT_EQ(header.flags, 0u);
  EXPECT_EQ(header.ring_size, kRingSize);
  EXPECT_EQ(header.bundle_offset, window::kAlignment);
  EXPECT_EQ(header.bundle_size, 0u);
  EXPECT_EQ(header.head + header.tail + header.doorbell, 0u);
}

TEST_F(WindowTest, FramesComeInOrderThenNothing) {
  guest_.Write("one", 7);
  guest_.Write("four", 8);
  auto first = window_.Next();
  ASSERT_TRUE(first.ok() && first->has_value());
  EXPECT_EQ((*first)->payload, "one");
  EXPECT_EQ((*first)->guest_time_ns, 7u);
  auto second = window_.Next();
  ASSERT_TRUE(second.ok() && second->has_value());
  EXPECT_EQ((*second)->payload, "four");
  EXPECT_EQ((*second)->sequence, 1u);
  auto none = window_.Next();
  ASSERT_TRUE(none.ok());
  EXPECT_FALSE(none->has_value());
  // Reading writes nothing: the guest cannot see how fast the host is.
  EXPECT_EQ(guest_.header()->tail, 0u);
}

TEST_F(WindowTest, FramesWrapAroundTheEnd) {
  const std::string payload(window::kMaxFramePayload, 'x');
  for (int i = 0; i < 200; ++i) {
    guest_.Write(payload + "", 1);
    auto frame = window_.Next();
    ASSERT_TRUE(frame.ok() && frame->has_value()) << i << frame.status();
    ASSERT_EQ((*frame)->payload, payload);
  }
  EXPECT_GT(window_.bytes_read(), 4 * kRingSize);
}

TEST_F(WindowTest, PartsBecomeOneAcrossAFullRing) {
  const std::string part(window::kMaxFramePayload, 'p');
  guest_.WritePart(part);
  guest_.WritePart(part);
  auto none = window_.Next();
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_FALSE(none->has_value());
  ASSERT_TRUE(window_.AnswerDoorbell().ok());  // The ring was full; the guest goes on.
  guest_.Write("end", 5);
  guest_.Write("next", 6);
  auto whole = window_.Next();
  ASSERT_TRUE(whole.ok() && whole->has_value());
  EXPECT_EQ((*whole)->payload, part + part + "end");
  EXPECT_EQ((*whole)->guest_time_ns, 5u);
  EXPECT_EQ((*whole)->sequence, 2u);
  EXPECT_EQ((*window_.Next())->payload, "next");
}

// The host bounds an observation that the guest never ends.
TEST_F(WindowTest, EndlessPartsAreRefused) {
  const std::string part(window::kMaxFramePayload, 'p');
  for (uint64_t sent = 0; sent <= window::kMaxObservation; sent += part.size()) {
    guest_.WritePart(part);
  }
  ExpectBroken("an observation of more than 1048576 bytes");
}

TEST_F(WindowTest, TheLastPartCountsAgainstTheLimit) {
  const std::string part(window::kMaxFramePayload, 'p');
  for (uint64_t sent = 0; sent + part.size() <= window::kMaxObservation; sent += part.size()) {
    guest_.WritePart(part);
  }
  guest_.Write(part);
  ExpectBroken("an observation of more than");
}

TEST_F(WindowTest, AnswerGivesSpaceBackAndClearsDoorbell) {
  guest_.Write("x");
  ASSERT_TRUE(window_.Next().ok());
  guest_.header()->doorbell = window::kDoorbellRingFull;
  EXPECT_EQ(*window_.Doorbell(), window::kDoorbellRingFull);
  ASSERT_TRUE(window_.AnswerDoorbell().ok());
  EXPECT_EQ(*window_.Doorbell(), window::kDoorbellNone);
  EXPECT_EQ(guest_.header()->tail, 40u);
}

TEST_F(WindowTest, BrokenFramesAreErrors) {
  struct Case {
    std::function<void(FrameHeader*)> damage;
    std::string text;
  };
  const Case cases[] = {
      {[](FrameHeader* f) { f->magic ^= 1; }, "magic 0x"},
      {[](FrameHeader* f) { f->length = 0; }, "length 0 is not in 1.."},
      {[](FrameHeader* f) { f->length = window::kMaxFramePayload + 1; }, "is not in 1.."},
      {[](FrameHeader* f) { f->length = 0xffffffffU; }, "is not in 1.."},
      {[](FrameHeader* f) { f->length = 4096; }, "goes beyond head"},
      {[](FrameHeader* f) { f->type = 0; }, "unknown type 0"},
      {[](FrameHeader* f) { f->type = 3; }, "unknown type 3"},
      {[](FrameHeader* f) { f->sequence = 1; }, "sequence number 1"},
      {[](FrameHeader* f) { f->crc32c ^= 1; }, "CRC-32C"},
      {[](FrameHeader* f) { f->guest_time_ns ^= 1; }, "CRC-32C"},
  };
  for (const Case& c : cases) {
    auto memory = *SharedMemory::Create({WindowSize(0)});
    Window window = *Window::Create(memory.get(), 0, WindowSize(0));
    testing::RingWriter guest(memory->At(0, 1)->data());
    FrameHeader frame = guest.HeaderFor("payload");
    c.damage(&frame);
    guest.WriteRaw(frame, "payload");
    auto got = window.Next();
    ASSERT_TRUE(absl::IsInvalidArgument(got.status())) << c.text;
    EXPECT_THAT(std::string(got.status().message()), HasSubstr(c.text));
  }
}

TEST_F(WindowTest, HeadBeyondTheRing) {
  guest_.header()->head = kRingSize + 8;
  ExpectBroken("more than one ring ahead");
}

TEST_F(WindowTest, HeadNotAligned) {
  guest_.header()->head = 41;
  ExpectBroken("not a multiple of 8");
}

TEST_F(WindowTest, HeadWithinAHeader) {
  guest_.header()->head = 8;
  ExpectBroken("less than a header");
}

TEST_F(WindowTest, HeadGoesBack) {
  guest_.Write("x");
  guest_.Write("y");
  ASSERT_TRUE(window_.Next().ok());
  guest_.header()->head = 40;
  ExpectBroken("head went back from 80 to 40");
}

TEST_F(WindowTest, RingOfGarbageIsAnError) {
  absl::Span<uint8_t> ring = *memory_->At(kAt + window::kRingOffset, kRingSize);
  for (size_t i = 0; i < kRingSize; ++i) {
    ring[i] = static_cast<uint8_t>(i * 131 + i / 251);
  }
  guest_.header()->head = kRingSize;
  ExpectBroken("magic");
}

// A restored guest has written frames that the host has not read yet.
TEST_F(WindowTest, AttachReadsFromTheStart) {
  guest_.Write("one", 7);
  guest_.header()->doorbell = window::kDoorbellReady;
  Window later = Window::Attach(memory_.get(), kAt, WindowSize(0));
  EXPECT_EQ(*later.Doorbell(), window::kDoorbellReady);
  EXPECT_EQ((*later.Next())->payload, "one");
  EXPECT_FALSE((*later.Next()).has_value());
}

TEST(WindowBundle, IsCopiedBehindTheRing) {
  auto memfd = base::MakeMemfd("bundle", 0);
  ASSERT_TRUE(memfd.ok());
  const std::string bundle((3 << 20) + 5, 'b');  // More than is copied at once.
  ASSERT_TRUE(base::WriteAll(memfd->get(), bundle, "bundle").ok());
  const uint64_t size = WindowSize(bundle.size());
  EXPECT_EQ(size, 3 * window::kAlignment);
  auto memory = *SharedMemory::Create({size});
  auto window = Window::Create(memory.get(), 0, size, window::kFlagStopAtReady);
  ASSERT_TRUE(window.ok());
  const auto* header = reinterpret_cast<window::WindowHeader*>(memory->At(0, 1)->data());
  EXPECT_EQ(header->flags, window::kFlagStopAtReady);
  ASSERT_TRUE(window->WriteBundle(memfd->get()).ok());
  EXPECT_EQ(header->bundle_size, bundle.size());
  absl::Span<uint8_t> copy = *memory->At(window::kAlignment, bundle.size());
  EXPECT_TRUE(std::equal(copy.begin(), copy.end(), bundle.begin()));
}

TEST(WindowBundle, WithoutRoomIsRefused) {
  auto memfd = base::MakeMemfd("bundle", 1);
  auto memory = *SharedMemory::Create({WindowSize(0)});
  auto window = Window::Create(memory.get(), 0, WindowSize(0));
  ASSERT_TRUE(window.ok());
  EXPECT_TRUE(absl::IsInvalidArgument(window->WriteBundle(memfd->get())));
  EXPECT_FALSE(Window::Create(memory.get(), 0, 4096).ok());
}

}  // namespace
}  // namespace ktstr::vmm
