// SPDX-License-Identifier: Apache-2.0
#include "vmm/console.h"

#include <unistd.h>

#include <string>

#include "base/file.h"
#include "base/head_tail.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ktstr::vmm {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
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

TEST(PanicLine, SaysWhy) {
  EXPECT_EQ(PanicLine(""), "");
  EXPECT_EQ(PanicLine("all is well\n"), "");
  EXPECT_EQ(PanicLine("[    1.5] Kernel panic - not syncing: Attempted to kill init! "
                      "exitcode=0x00000000\r\n[    1.6] CPU: 0\n[    1.7] ---[ end Kernel panic - "
                      "not syncing: Attempted to kill init! exitcode=0x00000000 ]---\n"),
            "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000000");
  EXPECT_EQ(PanicLine("[    1.5][   T12] BUG: kernel NULL pointer dereference, address: 0\n"
                      "[    1.5][   T12] Oops: 0002 [#1]\n"
                      "[    1.6][   T12] Kernel panic - not syncing: Fatal exception\n"),
            "Kernel panic - not syncing: Fatal exception (BUG: kernel NULL pointer dereference, "
            "address: 0)");
}

TEST(PanicLine, OfEmulationFault) {
  EXPECT_TRUE(IsEmulationFault("[    1.2] Oops: int3: 0000 [#1] SMP\n"));
  EXPECT_FALSE(IsEmulationFault("[    1.2] Oops: 0002 [#1] SMP\n"));
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
