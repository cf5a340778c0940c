// SPDX-License-Identifier: Apache-2.0
#include "vmm/console.h"

#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/head_tail.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ktstr::vmm {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

TEST(Console, KeepsTextAndKnowsItsCap) {
  auto console = Console::Create();
  ASSERT_TRUE(console.ok());
  EXPECT_EQ(*console->Text(), "");
  ASSERT_TRUE(base::WriteAll(console->fd(), "hello\n", "console").ok());
  EXPECT_EQ(*console->Text(), "hello\n");
  EXPECT_EQ(*console->Text(), "hello\n");  // Reading does not move the writer.
  EXPECT_FALSE(console->OverCap());
}

TEST(Console, RestartForgetsWhatWasWritten) {
  auto console = Console::Create();
  ASSERT_TRUE(base::WriteAll(console->fd(), "first run\n", "console").ok());
  console->Restart();
  EXPECT_EQ(console->size(), 0u);
  EXPECT_EQ(*console->Text(), "");
  ASSERT_TRUE(base::WriteAll(console->fd(), "second\n", "console").ok());
  EXPECT_EQ(*console->Text(), "second\n");
  EXPECT_EQ(*console->TextFrom(3, 2), "on");
  EXPECT_TRUE(console->CanRestart());
  // What was written before counts against the engine's limit of file size.
  ASSERT_EQ(ftruncate(console->fd(), Console::kCap + 1), 0);
  EXPECT_FALSE(console->CanRestart());
  console->Restart();
  ASSERT_EQ(ftruncate(console->fd(), Console::kHardLimit), 0);
  ASSERT_EQ(pwrite(console->fd(), "last", 4, Console::kHardLimit - 4), 4);
  EXPECT_TRUE(console->OverCap());
  EXPECT_THAT(*console->Text(), EndsWith("last"));
}

TEST(Console, FloodIsCut) {
  auto console = Console::Create();
  ASSERT_EQ(ftruncate(console->fd(), Console::kHardLimit), 0);
  ASSERT_EQ(pwrite(console->fd(), "first", 5, 0), 5);
  ASSERT_EQ(pwrite(console->fd(), "last", 4, Console::kHardLimit - 4), 4);
  EXPECT_TRUE(console->OverCap());
  const std::string text = *console->Text();
  EXPECT_LT(text.size(), Console::kCap + (1 << 17));
  EXPECT_THAT(text, StartsWith("first"));
  EXPECT_THAT(text, HasSubstr(base::LeftOutLine(Console::kHardLimit - Console::kCap)));
  EXPECT_THAT(text, EndsWith("last"));
}

TEST(CrashLines, AsTheyStand) {
  EXPECT_THAT(CrashLines(""), IsEmpty());
  EXPECT_THAT(CrashLines("all is well\nsched_ext: x: Kernel panic - not syncing: no\n"), IsEmpty());
  EXPECT_THAT(CrashLines("[    1.5][   T12] BUG: kernel NULL pointer dereference, address: 0\r\n"
                         "[    1.5][   T12] Call Trace:\n"
                         "[    1.6] INFO: task a:1 blocked for more than 120 seconds.\n"
                         "[    1.6] Kernel panic - not syncing: Fatal exception\n"
                         "[    1.7] ---[ end Kernel panic - not syncing: Fatal exception ]---\n"),
              ElementsAre("[    1.5][   T12] BUG: kernel NULL pointer dereference, address: 0",
                          "[    1.6] INFO: task a:1 blocked for more than 120 seconds.",
                          "[    1.6] Kernel panic - not syncing: Fatal exception"));
}

TEST(CrashLines, FirstAndLastOfMany) {
  std::string console;
  for (int i = 0; i < 100; ++i) console += absl::StrCat("BUG: ", i, "\n");
  const std::vector<std::string> lines = CrashLines(console);
  ASSERT_EQ(lines.size(), 40u);
  EXPECT_EQ(lines[19], "BUG: 19");
  EXPECT_EQ(lines[20], "BUG: 80");
  EXPECT_LT(CrashLines("BUG: " + std::string(100'000, 'x'))[0].size(), 1000u);
}

TEST(Agent, FallsBackToTheConsole) {
  const std::string text =
      "ktstr-agent: stage INIT_STARTED\r\nktstr-agent: error: window: bad magic\r\nmore\n";
  EXPECT_EQ(AgentError(text), "window: bad magic");
  EXPECT_EQ(AgentStage(text), v1::INIT_STARTED);
  EXPECT_EQ(AgentError("nothing"), "");
  EXPECT_EQ(AgentStage("ktstr-agent: stage NO_SUCH\n"), v1::STAGE_UNSPECIFIED);
}

}  // namespace
}  // namespace ktstr::vmm
