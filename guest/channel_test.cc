// SPDX-License-Identifier: Apache-2.0
#include "guest/channel.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/crc32c.h"
#include "base/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "guest/console.h"
#include "guest/quiet.h"
#include "guest/window.h"

namespace ktstr::guest {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kWindowSize = 4 << 20;

TEST(WindowRangeTest, FindsTheRangeAmongOtherWords) {
  auto range =
      ParseWindowRange("quiet memmap=32M$0x1c000000 ktstr.window=0x1c000000,0x2000000 x=1\n");
  ASSERT_TRUE(range.ok()) << range.status();
  EXPECT_EQ(range->address, 0x1c000000u);
  EXPECT_EQ(range->size, 0x2000000u);
}

TEST(WindowRangeTest, RefusesWhatIsNoRange) {
  EXPECT_EQ(ParseWindowRange("quiet xktstr.window=0x1000,0x1000").status().code(),
            absl::StatusCode::kNotFound);
  for (const char* bad :
       {"ktstr.window=", "ktstr.window=0x1000", "ktstr.window=0x1000,", "ktstr.window=0x1000,zz",
        "ktstr.window=0x1001,0x1000", "ktstr.window=0x1000,0x0",
        "ktstr.window=0x1000,0x1000,0x1000", "ktstr.window=0xfffffffffffff000,0x2000",
        "ktstr.window=0x1ffffffffffffffff,0x1000"}) {
    auto range = ParseWindowRange(bad);
    EXPECT_EQ(range.status().code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_THAT(std::string(range.status().message()), HasSubstr(bad));
  }
}

// A window in a file, and the host's end of it.
class ChannelTest : public testing::Test {
 protected:
  void SetUp() override {
    auto dir = base::TempDir::Make("channel");
    ASSERT_TRUE(dir.ok());
    dir_ = std::make_unique<base::TempDir>(std::move(*dir));
    path_ = base::JoinPath(dir_->path(), "mem");
    base::UniqueFd fd(open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    ASSERT_EQ(ftruncate(fd.get(), kWindowSize), 0);
    void* memory = mmap(nullptr, kWindowSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    ASSERT_NE(memory, MAP_FAILED);
    memory_ = static_cast<char*>(memory);
    header() = {.magic = window::kMagic,
                .version = window::kVersion,
                .header_size = sizeof(window::WindowHeader),
                .window_size = kWindowSize,
                .ring_size = 8192,
                .bundle_offset = window::kAlignment,
                .bundle_size = 100};
  }
  void TearDown() override { munmap(memory_, kWindowSize); }

  window::WindowHeader& header() { return *reinterpret_cast<window::WindowHeader*>(memory_); }
  absl::StatusOr<Window> Map() { return Window::Map(path_, {.address = 0, .size = kWindowSize}); }

  std::string FromRing(uint64_t position, size_t size) {
    std::string bytes;
    for (size_t i = 0; i < size; ++i)
      bytes += memory_[window::kRingOffset + (position + i) % header().ring_size];
    return bytes;
  }
  // Reads as the host does, checks each frame, and moves the tail.
  void Drain() {
    while (read_ < header().head) {
      window::FrameHeader frame;
      memcpy(&frame, FromRing(read_, sizeof(frame)).data(), sizeof(frame));
      ASSERT_EQ(frame.magic, window::kFrameMagic);
      ASSERT_EQ(frame.sequence, frames_++);
      const std::string payload = FromRing(read_ + sizeof(frame), frame.length);
      const uint32_t crc = frame.crc32c;
      frame.crc32c = 0;
      ASSERT_EQ(base::Crc32c(payload.data(), payload.size(), base::Crc32c(&frame, sizeof(frame))),
                crc);
      read_ += window::FrameSpan(frame.length);
      parts_ += payload;
      if (frame.type == window::kFramePart) continue;
      ASSERT_EQ(frame.type, window::kFrameObservation);
      v1::Observation observation;
      ASSERT_TRUE(observation.ParseFromString(parts_));
      parts_.clear();
      received_.push_back(observation);
    }
    ASSERT_EQ(read_, header().head);
    header().tail = read_;
  }
  static v1::Observation Output(char fill, size_t size) {
    v1::Observation observation;
    observation.mutable_scheduler_output()->set_data(std::string(size, fill));
    return observation;
  }

  // A machine without a bell.
  static Channel::Ports StopOnly(std::function<absl::Status()> stop) {
    return {[] { return absl::OkStatus(); }, std::move(stop)};
  }

  std::unique_ptr<base::TempDir> dir_;
  std::string path_;
  char* memory_ = nullptr;
  uint64_t read_ = 0;
  uint64_t frames_ = 0;
  std::string parts_;
  std::vector<v1::Observation> received_;
};

TEST_F(ChannelTest, FramesArriveInOrderWithTime) {
  auto window = Map();
  ASSERT_TRUE(window.ok()) << window.status();
  Channel channel(&*window, StopOnly([] { return absl::InternalError("no doorbell expected"); }));
  channel.ReportStage(v1::READY);
  channel.ReportError("bad \xff byte");
  Drain();
  ASSERT_EQ(received_.size(), 2u);
  EXPECT_EQ(received_[0].stage().stage(), v1::READY);
  EXPECT_GT(received_[0].guest_time_ns(), 0u);
  EXPECT_EQ(received_[1].guest_error().message(), "bad \xef\xbf\xbd byte");
  EXPECT_EQ(header().stage, static_cast<uint32_t>(v1::READY));
}

TEST_F(ChannelTest, FullRingWaitsAtTheDoorbellAndWraps) {
  auto window = Map();
  ASSERT_TRUE(window.ok());
  std::vector<uint32_t> reasons;
  Channel channel(&*window, StopOnly([&] {
    reasons.push_back(header().doorbell);
    Drain();
    return absl::OkStatus();
  }));
  for (int i = 0; i < 200; ++i)
    channel.Report(Output(static_cast<char>('a' + i % 26), 1 + i * 13 % 999));
  Drain();
  ASSERT_EQ(received_.size(), 200u);
  for (int i = 0; i < 200; ++i) {
    EXPECT_EQ(received_[i].scheduler_output().data(),
              std::string(1 + i * 13 % 999, static_cast<char>('a' + i % 26)));
  }
  EXPECT_GT(header().head, 5 * header().ring_size);
  EXPECT_EQ(channel.frames(), 200u);
  EXPECT_EQ(channel.full_waits(), reasons.size());
  EXPECT_EQ(header().full_waits, reasons.size());
  EXPECT_THAT(reasons, testing::Each(window::kDoorbellRingFull));
}

// The host answers, and the machine does not stop.
TEST_F(ChannelTest, FullRingWaitsAtTheBell) {
  auto window = Map();
  ASSERT_TRUE(window.ok());
  int rings = 0;
  Channel channel(&*window, {[&] {
                               EXPECT_EQ(header().doorbell, window::kDoorbellRingFull);
                               ++rings;
                               Drain();
                               header().doorbell = window::kDoorbellNone;
                               return absl::OkStatus();
                             },
                             [] { return absl::InternalError("no stop expected"); }});
  for (int i = 0; i < 50; ++i) channel.Report(Output('x', 900));
  Drain();
  EXPECT_EQ(received_.size(), 50u);
  EXPECT_GT(rings, 5);
  EXPECT_EQ(channel.full_waits(), 0u);
  const auto done = channel.Bell(window::kDoorbellRingFull);
  ASSERT_TRUE(done.ok());
  EXPECT_TRUE(*done);
}

TEST_F(ChannelTest, FirstStepRingsTheBell) {
  auto window = Map();
  ASSERT_TRUE(window.ok());
  int rings = 0;
  Channel channel(&*window, {[&] {
                               EXPECT_EQ(header().doorbell, window::kDoorbellFirstStep);
                               ++rings;
                               header().doorbell = window::kDoorbellNone;
                               return absl::OkStatus();
                             },
                             [] { return absl::InternalError("no stop expected"); }});
  channel.ReportFirstStep();
  EXPECT_EQ(rings, 1);
  Drain();
  EXPECT_THAT(received_, testing::IsEmpty());
}

// The host of a machine without a bell does not look: no stop.
TEST_F(ChannelTest, FirstStepWithoutABell) {
  auto window = Map();
  ASSERT_TRUE(window.ok());
  Channel channel(&*window, StopOnly([] { return absl::InternalError("no stop expected"); }));
  channel.ReportFirstStep();
  EXPECT_EQ(header().doorbell, window::kDoorbellNone);
  Drain();
  EXPECT_THAT(received_, testing::IsEmpty());
}

TEST_F(ChannelTest, BellThatNobodyAnswersIsNone) {
  auto window = Map();
  ASSERT_TRUE(window.ok());
  Channel channel(&*window, StopOnly([] { return absl::OkStatus(); }));
  const auto answered = channel.Bell(window::kDoorbellDone);
  ASSERT_TRUE(answered.ok());
  EXPECT_FALSE(*answered);
  // A panic that follows is no end.
  EXPECT_EQ(header().doorbell, window::kDoorbellNone);
}

TEST_F(ChannelTest, LongObservationsGoInParts) {
  auto window = Map();
  ASSERT_TRUE(window.ok());
  Channel channel(&*window, StopOnly([&] {
    Drain();
    return absl::OkStatus();
  }));
  const std::vector<size_t> sizes = {window::kMaxFramePayload - 40, window::kMaxFramePayload + 1,
                                     3 * window::kMaxFramePayload + 5, 900'000};
  for (const size_t size : sizes) channel.Report(Output('p', size));
  Drain();
  ASSERT_EQ(received_.size(), sizes.size());
  for (size_t i = 0; i < sizes.size(); ++i) {
    EXPECT_EQ(received_[i].scheduler_output().data(), std::string(sizes[i], 'p'));
  }
}

// The loss is an error of the run, and the channel stays usable.
TEST_F(ChannelTest, WhatIsTooLongIsNamedAndTheNextGoesThrough) {
  auto window = Map();
  ASSERT_TRUE(window.ok());
  Channel channel(&*window, StopOnly([&] {
    Drain();
    return absl::OkStatus();
  }));
  channel.Report(Output('x', window::kMaxObservation));
  channel.ReportError(std::string(2 << 20, 'e'));
  channel.ReportStage(v1::DONE);
  Drain();
  ASSERT_EQ(received_.size(), 3u);
  EXPECT_THAT(received_[0].guest_error().message(), HasSubstr("cannot be sent"));
  EXPECT_LT(received_[1].guest_error().message().size(), size_t{64} << 10);
  EXPECT_EQ(received_[2].stage().stage(), v1::DONE);
}

TEST_F(ChannelTest, HostThatNeverReadsEndsTheWaiting) {
  auto window = Map();
  ASSERT_TRUE(window.ok());
  int bells = 0;
  Channel channel(&*window, StopOnly([&] {
    ++bells;
    return absl::OkStatus();
  }));
  for (int i = 0; i < 50; ++i) channel.Report(Output('x', 900));
  EXPECT_EQ(bells, 3);
  // What had been written stays whole; nothing follows the gap.
  const uint64_t frames = channel.frames();
  Drain();
  EXPECT_EQ(received_.size(), frames);
  channel.Report(Output('y', 1));
  Drain();
  EXPECT_EQ(received_.size(), frames);
}

TEST_F(ChannelTest, DoorbellStoresItsReasonFirst) {
  auto window = Map();
  ASSERT_TRUE(window.ok());
  uint32_t seen = 0;
  Channel channel(&*window, StopOnly([&] {
    seen = header().doorbell;
    return absl::OkStatus();
  }));
  EXPECT_TRUE(channel.Doorbell(window::kDoorbellDone).ok());
  EXPECT_EQ(seen, window::kDoorbellDone);
}

TEST_F(ChannelTest, WindowThatIsNotOursIsRefused) {
  const window::WindowHeader good = header();
  header().magic = 1;
  EXPECT_THAT(std::string(Map().status().message()), HasSubstr("magic"));
  header() = good;
  header().version = 9;
  EXPECT_THAT(std::string(Map().status().message()), HasSubstr("version 9"));
  for (uint64_t ring : {uint64_t{0}, uint64_t{4100}, kWindowSize, ~uint64_t{7}}) {
    header() = good;
    header().ring_size = ring;
    EXPECT_EQ(Map().status().code(), absl::StatusCode::kFailedPrecondition) << ring;
  }
  header() = good;
  header().window_size = kWindowSize * 2;
  EXPECT_FALSE(Map().ok());
}

TEST_F(ChannelTest, BundleMustLieInTheWindow) {
  auto window = Map();
  ASSERT_TRUE(window.ok());
  EXPECT_EQ(window->Bundle()->size(), 100u);
  header().bundle_size = kWindowSize;
  EXPECT_FALSE(window->Bundle().ok());
  header().bundle_size = 0;
  EXPECT_FALSE(window->Bundle().ok());
  header().bundle_size = 8;
  for (uint64_t offset : {uint64_t{0}, kWindowSize - 4, ~uint64_t{0}}) {
    header().bundle_offset = offset;
    EXPECT_FALSE(window->Bundle().ok()) << offset;
  }
}

TEST(ConsoleTest, LinesAreShortAndPlain) {
  char buffer[64];
  EXPECT_EQ(ConsoleText("a\x1b[31m\nb", buffer, sizeof(buffer)), "ktstr-agent: a [31m b\n");
  EXPECT_LE(ConsoleText(std::string(5000, 'x'), buffer, sizeof(buffer)).size(), sizeof(buffer));
  // Both ends of a long text.
  char large[1014];
  const std::string text = "begin" + std::string(5000, 'x') + "end";
  const std::string line(ConsoleText(text, large, sizeof(large)));
  EXPECT_LE(line.size(), sizeof(large));
  EXPECT_THAT(line, ::testing::StartsWith("ktstr-agent: beginx"));
  EXPECT_THAT(line, ::testing::HasSubstr("x[4072 bytes are left out here]x"));
  EXPECT_THAT(line, ::testing::EndsWith("xend\n"));
}

TEST(QuietTest, ReadsTheRunningTasks) {
  EXPECT_EQ(RunningTasks("cpu 1 2\nprocs_running 3\nprocs_blocked 0\n"), 3);
  EXPECT_EQ(RunningTasks("cpu 1 2\nprocs_running 3"), 3);
  EXPECT_EQ(RunningTasks("cpu 1 2\nprocs_running x\n"), -1);
  EXPECT_EQ(RunningTasks(""), -1);
}

}  // namespace
}  // namespace ktstr::guest
