// SPDX-License-Identifier: Apache-2.0
#include "guest/oom_watcher.h"

#include <string>

#include "gtest/gtest.h"

namespace ktstr::guest {
namespace {

constexpr char kSizes[] =
    " total-vm:912345kB, anon-rss:100kB, file-rss:20kB, shmem-rss:3kB, UID:0 pgtables:96kB "
    "oom_score_adj:0";

TEST(OomKillTest, NamesTheKilledProcess) {
  const auto kill =
      ParseOomKill(std::string("Out of memory: Killed process 123 (scx_layered)") + kSizes);
  ASSERT_TRUE(kill.has_value());
  EXPECT_EQ(kill->process(), "scx_layered");
  EXPECT_EQ(kill->pid(), 123u);
  EXPECT_EQ(kill->resident_bytes(), uint64_t{123} << 10);
}

TEST(OomKillTest, NamesAreTheGuests) {
  const auto kill =
      ParseOomKill(std::string("Out of memory: Killed process 7 (a) (b) total-vm:\xff)") + kSizes);
  ASSERT_TRUE(kill.has_value());
  EXPECT_EQ(kill->process(), "a) (b) total-vm");
  const auto bytes = ParseOomKill(std::string("Out of memory: Killed process 7 (\xff)") + kSizes);
  ASSERT_TRUE(bytes.has_value());
  EXPECT_EQ(bytes->process(), "\xef\xbf\xbd");
}

TEST(OomKillTest, OtherLinesAreNone) {
  for (const char* line :
       {"", "Out of memory", "Out of memory: Killed process 12",
        "Out of memory: Killed process x (y", "Out of memory: Killed process x (y) total-vm:1kB",
        "x Out of memory: Killed process 1 (y)", "Out of memory: Killed process 1) total-vm:1kB (",
        "Memory cgroup out of memory: Killed process 1 (y) total-vm:1kB, anon-rss:1kB"}) {
    EXPECT_FALSE(ParseOomKill(line).has_value()) << line;
  }
}

TEST(OomKillTest, SizesThatCannotBeAreLeftOut) {
  const auto kill = ParseOomKill(
      "Out of memory: Killed process 1 (y) total-vm:1kB, anon-rss:18446744073709551615kB, "
      "file-rss:99999999999999999999999kB, shmem-rss:xkB");
  ASSERT_TRUE(kill.has_value());
  EXPECT_EQ(kill->resident_bytes(), 0u);
}

}  // namespace
}  // namespace ktstr::guest
