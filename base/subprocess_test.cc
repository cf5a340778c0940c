// SPDX-License-Identifier: Apache-2.0
#include "base/subprocess.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "base/descriptors.h"
#include "base/file.h"
#include "base/head_tail.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ktstr::base {
namespace {

using ::testing::HasSubstr;

SpawnOptions Shell(const std::string& script) {
  SpawnOptions options;
  options.argv = {"/bin/sh", "-c", script};
  return options;
}

TEST(RunCommand, LongOutputKeepsBothEnds) {
  const auto result = RunCommand(Shell("echo first; seq 100000; echo last; exec >&2; seq 1000"),
                                 absl::Seconds(30), {}, 4096);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_LE(result->out.size(), 4096u + 64);
  EXPECT_EQ(result->out.substr(0, 6), "first\n");
  EXPECT_EQ(result->out.substr(result->out.size() - 5), "last\n");
  EXPECT_NE(result->out.find(" bytes of output are left out here]\n"), std::string::npos);
  EXPECT_EQ(result->err.substr(0, 4), "1\n2\n");
  EXPECT_EQ(result->err.size(), 3893u);
}

TEST(RunCommand, CollectsBothStreamsAndTheExitCode) {
  auto result = RunCommand(Shell("echo out; echo err >&2; exit 3"), absl::Seconds(30));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->out, "out\n");
  EXPECT_EQ(result->err, "err\n");
  EXPECT_EQ(result->status.code, 3);
}

TEST(RunCommand, FeedsInputLargerThanAPipe) {
  std::string input(1 << 20, 'x');
  SpawnOptions options;
  options.argv = {"cat"};
  auto result = RunCommand(options, absl::Seconds(30), input);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->out, input);
}

TEST(RunCommand, SurvivesAChildThatDoesNotReadItsInput) {
  auto result =
      RunCommand(Shell("exec 0<&-; exit 4"), absl::Seconds(30), std::string(1 << 20, 'x'));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->status.code, 4);
}

TEST(RunCommand, BoundsOutput) {
  auto result = RunCommand(Shell("head -c 100000 /dev/zero"), absl::Seconds(30), {}, 1000);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->out.size(), 1000 + LeftOutLine(99000).size() + 2);
}

TEST(RunCommand, KillsAtTheDeadline) {
  auto result = RunCommand(Shell("exec sleep 1000"), absl::Milliseconds(50));
  EXPECT_EQ(result.status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(Spawn, SaysWhichProgramCannotBeExecuted) {
  SpawnOptions options;
  options.argv = {"/no/such/program"};
  auto child = Spawn(options);
  EXPECT_EQ(child.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(child.status().message(), HasSubstr("/no/such/program"));
  options.argv = {"ktstr-no-such-program"};
  EXPECT_THAT(Spawn(options).status().message(), HasSubstr("not found on PATH"));
}

TEST(Spawn, GivesNoOtherDescriptors) {
  auto extra = MakeMemfd("extra", 0);
  ASSERT_TRUE(extra.ok());
  ASSERT_EQ(dup2(extra->get(), 77), 77);  // Not close-on-exec.
  auto result = RunCommand(Shell("ls /proc/self/fd"), absl::Seconds(30));
  close(77);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->out, "0\n1\n2\n3\n");  // 3 is ls's own, of the directory.
}

TEST(Spawn, ARaisedDescriptorLimitStaysHere) {
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const absl::Cleanup restore = [&before] { setrlimit(RLIMIT_NOFILE, &before); };
  if (before.rlim_max < 101) GTEST_SKIP() << "hard RLIMIT_NOFILE of " << before.rlim_max;
  const rlimit low = {100, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  EXPECT_FALSE(CanOpenDescriptors(100));  // Some are open.
  EXPECT_TRUE(CanOpenDescriptors(32));
  EXPECT_EQ(OriginalDescriptorLimit(), std::nullopt);
  ASSERT_TRUE(RaiseDescriptorLimit().ok());
  rlimit raised;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &raised), 0);
  EXPECT_EQ(raised.rlim_cur, before.rlim_max);
  EXPECT_TRUE(CanOpenDescriptors(100));
  const auto result = RunCommand(Shell("ulimit -Sn; ulimit -Hn"), absl::Seconds(30));
  ASSERT_TRUE(result.ok()) << result.status();
  const std::string hard =
      before.rlim_max == RLIM_INFINITY ? "unlimited" : absl::StrCat(before.rlim_max);
  EXPECT_EQ(result->out, absl::StrCat("100\n", hard, "\n"));
}

TEST(Spawn, SwapsDescriptors) {
  auto a = MakeMemfd("a", 0);
  auto b = MakeMemfd("b", 0);
  ASSERT_TRUE(a.ok() && b.ok());
  SpawnOptions options = Shell("echo to-first >&8; echo to-second >&9");
  UniqueFd eight(dup2(a->get(), 8));
  UniqueFd nine(dup2(b->get(), 9));
  options.fds = {{8, 9}, {9, 8}};
  auto child = Spawn(options);
  ASSERT_TRUE(child.ok()) << child.status();
  ASSERT_TRUE(child->Wait(absl::Seconds(30))->Success());
  char text[16] = {};
  ASSERT_GT(pread(b->get(), text, sizeof(text), 0), 0);
  EXPECT_STREQ(text, "to-first\n");
}

TEST(Child, ReportsTheSignal) {
  auto child = Spawn(Shell("kill -TERM $$"));
  ASSERT_TRUE(child.ok()) << child.status();
  auto status = child->Wait(absl::Seconds(30));
  ASSERT_TRUE(status.has_value());
  EXPECT_EQ(status->signal, SIGTERM);
  EXPECT_THAT(status->ToString(), HasSubstr("killed by signal 15"));
  EXPECT_EQ(child->Wait(absl::ZeroDuration())->signal, SIGTERM);
}

// While the object exists, no other process can get this pid: code that uses the pid after Wait()
// reaches its own child or fails.
TEST(Child, KeepsItsPidUntilTheObjectIsGone) {
  pid_t pid = -1;
  {
    auto child = Spawn({.argv = {"true"}});
    ASSERT_TRUE(child.ok());
    pid = child->pid();
    ASSERT_TRUE(child->Wait(absl::Seconds(30))->Success());
    EXPECT_EQ(kill(pid, 0), 0);
    EXPECT_TRUE(child->Wait(absl::ZeroDuration())->Success());
    const Child moved = *std::move(child);
    EXPECT_EQ(kill(pid, 0), 0);
  }
  EXPECT_EQ(waitpid(pid, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

TEST(Child, AdoptsWhatTheCallerForked) {
  const pid_t pid = fork();
  if (pid == 0) _exit(7);
  ASSERT_GT(pid, 0);
  auto child = Child::Adopt(pid);
  ASSERT_TRUE(child.ok()) << child.status();
  auto status = child->Wait(absl::Seconds(30));
  ASSERT_TRUE(status.has_value());
  EXPECT_EQ(status->code, 7);
  EXPECT_FALSE(Child::Adopt(-1).ok());
}

TEST(Child, DestructorKillsAndReaps) {
  pid_t pid = 0;
  {
    auto child = Spawn(Shell("exec sleep 1000"));
    ASSERT_TRUE(child.ok());
    pid = child->pid();
    EXPECT_FALSE(child->Wait(absl::ZeroDuration()).has_value());
  }
  EXPECT_EQ(kill(pid, 0), -1);
}

}  // namespace
}  // namespace ktstr::base
