// SPDX-License-Identifier: Apache-2.0
#include "guest/kmsg.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ktstr::guest {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(KmsgTest, TextIsBetweenSemicolonAndNewline) {
  EXPECT_EQ(KmsgText("6,1234,5678,-;sched_ext: a;b\n SUBSYSTEM=x\n"), "sched_ext: a;b");
  EXPECT_EQ(KmsgText("no record"), "");
  EXPECT_EQ(KmsgText("6,1,2,-;"), "");
}

// A program's record has facility 1 (user) or above, whatever it asks for.
TEST(KmsgTest, OnlyTheKernelsOwnRecordsCount) {
  EXPECT_EQ(KmsgText("0,1,2,-;emergency"), "emergency");
  EXPECT_EQ(KmsgText("7,1,2,-;debug"), "debug");
  for (const char* prefix : {"8", "12", "14", "-1", "", "x", "6x", "99999999999"}) {
    EXPECT_EQ(KmsgText(absl::StrCat(prefix, ",1,2,-;forged")), "") << prefix;
  }
  DisableWatcher watcher;
  watcher.Line(
      KmsgText(R"(12,1,2,-;sched_ext: BPF scheduler "x" disabled (unregistered from user space))"));
  EXPECT_FALSE(watcher.seen());
  watcher.Line(KmsgText(R"(3,1,2,-;sched_ext: BPF scheduler "x" disabled (runnable task stall))"));
  EXPECT_TRUE(watcher.kernel_ejected());
}

TEST(KmsgTest, EscapesAreBytesAgain) {
  struct {
    const char* escaped;
    const char* text;
  } const cases[] = {
      {R"(cake \xf0\x9f\x8d\xb0 \xc3\xbc)", "cake \xf0\x9f\x8d\xb0 \xc3\xbc"},
      {R"(\x09tab, \x5cx41 is no escape)", "\ttab, \\x41 is no escape"},
      {R"(\xC3\xBC)", "\xc3\xbc"},  // No kernel writes capitals.
      {R"(\xff alone)", "\xff alone"},
      {R"(bad: \xg0 \x4 \y \)", R"(bad: \xg0 \x4 \y \)"},
      {R"(cut: \xf)", R"(cut: \xf)"},
      {R"(cut: \x)", R"(cut: \x)"},
      {R"(\x0asecond line)", "\nsecond line"},
  };
  for (const auto& each : cases) {
    EXPECT_EQ(KmsgText(absl::StrCat("3,1,2,-;", each.escaped, "\n")), each.text) << each.escaped;
  }
  EXPECT_EQ(KmsgText(R"(3,1,2,-;\x00)"), std::string_view("\0", 1));
}

// What a scheduler puts into its message cannot make the detail invalid UTF-8, nor begin a
// paragraph from within a line.
TEST(DisableWatcherTest, DecodedTextIsUtf8) {
  DisableWatcher watcher;
  watcher.Line(KmsgText(R"(3,1,2,-;sched_ext: BPF scheduler "x" disabled (scx_bpf_error))"));
  watcher.Line(KmsgText(R"(3,1,2,-;sched_ext: x: \xf0\x9f\x8d\xb0 \xff\xc3)"));
  EXPECT_EQ(watcher.detail(),
            "sched_ext: BPF scheduler \"x\" disabled (scx_bpf_error)\n"
            "sched_ext: x: \xf0\x9f\x8d\xb0 \xef\xbf\xbd\xef\xbf\xbd");
  DisableWatcher other;
  other.Line(KmsgText(R"(3,1,2,-;user\x0asched_ext: BPF scheduler "x" disabled (forged))"));
  EXPECT_FALSE(other.seen());
}

TEST(DisableWatcherTest, KeepsTheParagraph) {
  DisableWatcher watcher;
  watcher.Line("sched_ext: BPF scheduler \"x\" enabled");
  EXPECT_TRUE(watcher.enabled_seen());
  EXPECT_FALSE(watcher.seen());
  watcher.Line("sched_ext: BPF scheduler \"x\" disabled (runnable task stall)");
  watcher.Line("sched_ext: x: worker[12] failed to run for 1.5s");
  watcher.Line("usb: something else");
  watcher.Line("   scx_watchdog_workfn+0x1/0x2");
  EXPECT_TRUE(watcher.kernel_ejected());
  EXPECT_EQ(watcher.reason(), "runnable task stall");
  EXPECT_EQ(watcher.detail(),
            "sched_ext: BPF scheduler \"x\" disabled (runnable task stall)\n"
            "sched_ext: x: worker[12] failed to run for 1.5s\n"
            "   scx_watchdog_workfn+0x1/0x2");
}

TEST(DisableWatcherTest, EndByUserIsNoEjection) {
  DisableWatcher watcher;
  watcher.Line("sched_ext: BPF scheduler \"x\" disabled (unregistered from user space)");
  EXPECT_TRUE(watcher.seen());
  EXPECT_FALSE(watcher.kernel_ejected());
}

TEST(DisableWatcherTest, FirstCauseStays) {
  DisableWatcher watcher;
  watcher.Line("sched_ext: BPF scheduler \"x\" disabled (scx_bpf_error)");
  watcher.Line("sched_ext: BPF scheduler \"x\" disabled (unregistered from user space)");
  watcher.Line("sched_ext: x: more");
  EXPECT_EQ(watcher.reason(), "scx_bpf_error");
  EXPECT_THAT(watcher.detail(), Not(HasSubstr("unregistered")));
  EXPECT_THAT(watcher.detail(), Not(HasSubstr("more")));
}

TEST(DisableWatcherTest, FollowsRestarts) {
  DisableWatcher watcher(/*follow_restarts=*/true);
  const std::string enabled = "sched_ext: BPF scheduler \"x\" enabled";
  const std::string gone =
      "sched_ext: BPF scheduler \"x\" disabled (unregistered from the main kernel)";
  watcher.Line(enabled);
  EXPECT_EQ(watcher.restarts(), 0u);
  const std::string left = "sched_ext: BPF scheduler \"x\" disabled (unregistered from BPF)";
  for (uint32_t i = 1; i <= 3; ++i) {
    watcher.Line(i == 2 ? left : gone);
    EXPECT_TRUE(watcher.seen());
    EXPECT_TRUE(watcher.may_restart());
    watcher.Line(enabled);
    EXPECT_FALSE(watcher.seen());
    EXPECT_FALSE(watcher.may_restart());
    EXPECT_EQ(watcher.detail(), "");
    EXPECT_EQ(watcher.restarts(), i);
  }
  // After an error it does not restart, whatever it does.
  const std::string error = "sched_ext: BPF scheduler \"x\" disabled (runtime error)";
  watcher.Line(error);
  EXPECT_FALSE(watcher.may_restart());
  watcher.Line(enabled);
  EXPECT_TRUE(watcher.kernel_ejected());
  EXPECT_EQ(watcher.detail(), error);
  EXPECT_EQ(watcher.restarts(), 3u);
}

TEST(DisableWatcherTest, FloodIsBounded) {
  DisableWatcher watcher;
  watcher.Line("sched_ext: BPF scheduler \"x\" disabled (runtime error)");
  for (int i = 0; i < 1000; ++i) watcher.Line(absl::StrCat(" ", i, std::string(5000, 'x')));
  EXPECT_LE(watcher.detail().size(), size_t{24} * 1100);
}

// Why it ended stands at the end as often as at the beginning.
TEST(DisableWatcherTest, BothEndsOfALongParagraphAreKept) {
  DisableWatcher watcher;
  watcher.Line("sched_ext: BPF scheduler \"x\" disabled (runtime error)");
  for (int i = 1; i <= 100; ++i) watcher.Line(absl::StrCat(" frame", i));
  watcher.Line(absl::StrCat(" begin", std::string(5000, 'x'), "end"));
  const std::string detail = watcher.detail();
  EXPECT_THAT(detail, HasSubstr("\n frame11\n[78 lines are left out here]\n frame90\n"));
  EXPECT_THAT(detail, HasSubstr("\n begin"));
  EXPECT_THAT(detail, HasSubstr("bytes are left out here]"));
  EXPECT_THAT(detail, testing::EndsWith("xend"));
}

TEST(DisableWatcherTest, ASchedulerThatStartsAgainEndsTheParagraph) {
  DisableWatcher watcher;
  const std::string end =
      "sched_ext: BPF scheduler \"x\" disabled (unregistered from the main kernel)";
  watcher.Line(end);
  watcher.Line("sched_ext: BPF scheduler \"x\" enabled");
  watcher.Line("sched_ext: x: no part");
  EXPECT_EQ(watcher.detail(), end);
}

TEST(DisableWatcherTest, OtherLinesAreNoPart) {
  DisableWatcher watcher;
  watcher.Line("fake: sched_ext: BPF scheduler \"x\" disabled (runtime error)");
  watcher.Line("sched_ext: BPF sub-scheduler \"x\" disabled (runtime error)");
  watcher.Line("");
  EXPECT_FALSE(watcher.seen());
}

}  // namespace
}  // namespace ktstr::guest
