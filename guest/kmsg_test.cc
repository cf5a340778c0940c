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

TEST(DisableWatcherTest, FloodIsBounded) {
  DisableWatcher watcher;
  watcher.Line("sched_ext: BPF scheduler \"x\" disabled (runtime error)");
  for (int i = 0; i < 1000; ++i) watcher.Line(absl::StrCat(" ", std::string(500, 'x')));
  EXPECT_LE(watcher.detail().size(), 4096u);
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
