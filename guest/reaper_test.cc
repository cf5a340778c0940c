// SPDX-License-Identifier: Apache-2.0
//
// Each test runs in a child: a Reaper blocks SIGCHLD for good and reaps every child of its process.
#include "guest/reaper.h"

#include <gtest/gtest.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>

namespace ktstr::guest {
namespace {

constexpr int kRight = 0;
constexpr int kWrong = 1;
constexpr int kCannot = 2;  // The test needs what this machine does not allow.

pid_t Sleeper() {
  const pid_t pid = fork();
  if (pid == 0) {
    for (;;) pause();
  }
  return pid;
}

// Until `pid` has ended and was reaped.
ChildEnd EndOf(Reaper* reaper, pid_t pid) {
  while (true) {
    reaper->Reap();
    if (const std::optional<ChildEnd> end = reaper->Take(pid)) return *end;
    pollfd poll_fd = {.fd = reaper->fd(), .events = POLLIN, .revents = 0};
    poll(&poll_fd, 1, -1);
  }
}

// Whether no signal has ended it: a SIGKILL that was sent before acts before the SIGSTOP.
bool Lives(pid_t pid) {
  int status = 0;
  kill(pid, SIGSTOP);
  return waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status);
}

void KillAndReap(pid_t pid) {
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
}

TEST(ReaperTest, SignalsWhatItWatches) {
  const auto in_child = [] {
    auto reaper = Reaper::Make();
    const pid_t pid = Sleeper();
    reaper->Watch(pid);
    reaper->Signal(pid, SIGTERM);
    return EndOf(&*reaper, pid).signal == SIGTERM ? kRight : kWrong;
  };
  EXPECT_EXIT(_exit(in_child()), testing::ExitedWithCode(kRight), "");
}

TEST(ReaperTest, SignalsNothingElse) {
  const auto in_child = [] {
    auto reaper = Reaper::Make();
    const pid_t pid = Sleeper();
    reaper->Signal(pid, SIGKILL);
    const bool lives = Lives(pid);
    KillAndReap(pid);
    return lives ? kRight : kWrong;
  };
  EXPECT_EXIT(_exit(in_child()), testing::ExitedWithCode(kRight), "");
}

// The pid of a child that has been reaped belongs to another process now.
TEST(ReaperTest, DoesNotSignalTheNextProcessOfAPid) {
  const auto in_child = [] {
    auto reaper = Reaper::Make();
    const pid_t pid = fork();
    if (pid == 0) _exit(3);
    reaper->Watch(pid);
    // The end is kept, not taken.
    do {
      pollfd poll_fd = {.fd = reaper->fd(), .events = POLLIN, .revents = 0};
      poll(&poll_fd, 1, -1);
      reaper->Reap();
    } while (kill(pid, 0) == 0);
    pid_t wanted = pid;
    clone_args args = {};
    args.exit_signal = SIGCHLD;
    args.set_tid = reinterpret_cast<uint64_t>(&wanted);
    args.set_tid_size = 1;
    const long next = syscall(SYS_clone3, &args, sizeof(args));
    if (next == 0) {
      for (;;) pause();
    }
    if (next < 0) return kCannot;
    reaper->Signal(pid, SIGKILL);
    const bool lives = Lives(pid);
    KillAndReap(pid);
    return lives && reaper->Take(pid).value_or(ChildEnd()).code == 3 ? kRight : kWrong;
  };
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) _exit(in_child());
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == kCannot) {
    GTEST_SKIP() << "clone3 with set_tid is refused here (it needs CAP_CHECKPOINT_RESTORE)";
  }
  EXPECT_EQ(WEXITSTATUS(status), kRight);
}

}  // namespace
}  // namespace ktstr::guest
