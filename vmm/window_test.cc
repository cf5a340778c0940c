// SPDX-License-Identifier: Apache-2.0
#include "vmm/window.h"

#include <unistd.h>

#include <functional>
#include <string>
#include <vector>

#include "base/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/testing/ring_writer.h"

namespace ktstr::vmm {
namespace {

using ::testing::HasSubstr;
using window::FrameHeader;
using window::kRingSize;

class WindowTest : public ::testing::Test {
 protected:
  std::vector<uint8_t> memory_ = std::vector<uint8_t>(WindowSize(0));
  Window window_ = *Window::Create(absl::MakeSpan(memory_), 0);
  testing::RingWriter guest_{memory_.data()};

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
  EXPECT_EQ(header.window_size, memory_.size());
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

TEST_F(WindowTest, AnswerGivesSpaceBackAndClearsDoorbell) {
  guest_.Write("x");
  ASSERT_TRUE(window_.Next().ok());
  guest_.header()->doorbell = window::kDoorbellRingFull;
  EXPECT_EQ(window_.doorbell(), window::kDoorbellRingFull);
  window_.AnswerDoorbell();
  EXPECT_EQ(window_.doorbell(), window::kDoorbellNone);
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
      {[](FrameHeader* f) { f->type = 2; }, "unknown type 2"},
      {[](FrameHeader* f) { f->sequence = 1; }, "sequence number 1"},
      {[](FrameHeader* f) { f->crc32c ^= 1; }, "CRC-32C"},
      {[](FrameHeader* f) { f->guest_time_ns ^= 1; }, "CRC-32C"},
  };
  for (const Case& c : cases) {
    std::vector<uint8_t> memory(WindowSize(0));
    Window window = *Window::Create(absl::MakeSpan(memory), 0);
    testing::RingWriter guest(memory.data());
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
  for (size_t i = 0; i < kRingSize; ++i) {
    memory_[window::kRingOffset + i] = static_cast<uint8_t>(i * 131 + i / 251);
  }
  guest_.header()->head = kRingSize;
  ExpectBroken("magic");
}

TEST(WindowBundle, IsCopiedBehindTheRing) {
  auto memfd = base::MakeMemfd("bundle", 0);
  ASSERT_TRUE(memfd.ok());
  const std::string bundle(100000, 'b');
  ASSERT_TRUE(base::WriteAll(memfd->get(), bundle, "bundle").ok());
  std::vector<uint8_t> memory(WindowSize(bundle.size()));
  EXPECT_EQ(memory.size(), 2 * window::kAlignment);
  auto window = Window::Create(absl::MakeSpan(memory), bundle.size());
  ASSERT_TRUE(window.ok());
  ASSERT_TRUE(window->WriteBundle(memfd->get()).ok());
  EXPECT_EQ(std::string(memory.begin() + window::kAlignment,
                        memory.begin() + window::kAlignment + 100000),
            bundle);
}

TEST(WindowBundle, OfAnotherSizeIsRefused) {
  auto memfd = base::MakeMemfd("bundle", 10);
  std::vector<uint8_t> memory(WindowSize(11));
  auto window = Window::Create(absl::MakeSpan(memory), 11);
  ASSERT_TRUE(window.ok());
  EXPECT_TRUE(absl::IsInvalidArgument(window->WriteBundle(memfd->get())));
}

TEST(WindowBundle, WithoutRoomIsRefused) {
  std::vector<uint8_t> memory(WindowSize(0));
  EXPECT_FALSE(Window::Create(absl::MakeSpan(memory), 1).ok());
  EXPECT_FALSE(Window::Create(absl::MakeSpan(memory), ~uint64_t{0}).ok());
  EXPECT_FALSE(Window::Create(absl::MakeSpan(memory.data(), 100), 0).ok());
}

}  // namespace
}  // namespace ktstr::vmm
