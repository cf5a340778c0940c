// SPDX-License-Identifier: Apache-2.0
#include "daemon/kernel_imports.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/time/clock.h"

namespace ktstr::daemon {
namespace {

using testing::ElementsAre;

TEST(TurnTest, WhoeverWaitsIsToldForWhomOnceAMinute) {
  base::FakeClock clock(absl::Now());
  Turn turn(&clock);
  std::vector<std::string> lines;
  const auto progress = [&](const std::string& line) { lines.push_back(line); };
  const auto never = [] { return false; };
  ASSERT_TRUE(turn.Take("the import of a.deb by anna", never, progress).ok());
  EXPECT_THAT(lines, ElementsAre());

  int looks = 0;
  const absl::Status status = turn.Take(
      "the import of b.deb by ben",
      [&] {
        clock.Advance(absl::Seconds(25));
        return ++looks == 6;  // After 150 s.
      },
      progress);
  EXPECT_EQ(status,
            absl::CancelledError("cancelled while waiting for the import of a.deb by anna"));
  const std::string line = "waiting for the import of a.deb by anna";
  EXPECT_THAT(lines, ElementsAre(line, line));

  turn.End();
  lines.clear();
  EXPECT_TRUE(turn.Take("the import of b.deb by ben", never, progress).ok());
  EXPECT_THAT(lines, ElementsAre());
}

}  // namespace
}  // namespace ktstr::daemon
