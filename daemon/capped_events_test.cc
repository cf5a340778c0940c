// SPDX-License-Identifier: Apache-2.0
#include "daemon/capped_events.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace ktstr::daemon {
namespace {

using testing::ElementsAre;

class CappedEventsTest : public testing::Test {
 protected:
  void Progress(const std::string& text) {
    v1::RunProgress progress;
    progress.set_text(text);
    events_.Progress(1, progress);
  }
  // What was handed out since the last call: texts of progress and console.
  std::vector<std::string> Take() { return std::exchange(seen_, {}); }

  std::vector<std::string> seen_;
  CappedEvents events_{
      {.first_lines = 2, .last_lines = 3, .first_bytes = 20, .last_bytes = 12},
      [this](v1::RunEvent event) {
        seen_.push_back(event.has_console() ? event.console().text() : event.progress().text());
      }};
};

TEST_F(CappedEventsTest, LinesOfProgress) {
  for (int i = 1; i <= 5; ++i) Progress(std::to_string(i));
  EXPECT_THAT(Take(), ElementsAre("1", "2"));  // At once.
  events_.End(2);
  EXPECT_THAT(Take(), ElementsAre("3", "4", "5"));  // Nothing is missing.
}

TEST_F(CappedEventsTest, TheLastLinesOfProgressAreKept) {
  for (int i = 1; i <= 9; ++i) Progress(std::to_string(i));
  EXPECT_THAT(Take(), ElementsAre("1", "2"));
  events_.End(2);
  EXPECT_THAT(Take(), ElementsAre("[4 lines are left out here]", "7", "8", "9"));
}

TEST_F(CappedEventsTest, TheLastOfTheConsoleIsKept) {
  events_.Console(1, "first line\n");
  events_.Console(1, "a line too much\n");
  events_.Console(1, "short\n");  // Behind what is held back.
  EXPECT_THAT(Take(), ElementsAre("first line\n"));
  events_.Console(1, "last words\n");
  events_.End(2);
  EXPECT_THAT(Take(), ElementsAre("[21 bytes of output are left out here]\n\nlast words\n"));
}

TEST_F(CappedEventsTest, AShortConsoleIsWhole) {
  events_.Console(1, "one\n");
  events_.Console(1, "two");
  EXPECT_THAT(Take(), ElementsAre("one\n", "two"));
  events_.End(2);
  EXPECT_THAT(Take(), ElementsAre());
}

TEST(CappedEvents, LongConsoleComesInPieces) {
  std::vector<std::string> pieces;
  CappedEvents events(EventCaps(), [&](v1::RunEvent event) {
    pieces.push_back(event.console().text());
    EXPECT_LE(event.ByteSizeLong(), size_t{33} << 10);
  });
  const std::string line = std::string(1000, '\xff') + "\n";
  for (int i = 0; i < 17000; ++i) events.Console(1, line);
  pieces.clear();
  events.End(2);
  ASSERT_GT(pieces.size(), 2u);
  EXPECT_THAT(pieces.front(), testing::StartsWith("["));
  EXPECT_EQ(pieces.front().find(" bytes of output are left out here]\n"), 7u);
  for (const std::string& piece : pieces) EXPECT_EQ(piece.back(), '\n');
}

}  // namespace
}  // namespace ktstr::daemon
