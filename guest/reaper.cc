// SPDX-License-Identifier: Apache-2.0
#include "guest/reaper.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "base/status_macros.h"

namespace ktstr::guest {

absl::StatusOr<Reaper> Reaper::Make() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  if (sigprocmask(SIG_BLOCK, &set, nullptr) != 0) return base::ErrnoStatus(errno, "block SIGCHLD");
  base::UniqueFd fd(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
  if (!fd.valid()) return base::ErrnoStatus(errno, "signalfd of SIGCHLD");
  return Reaper(std::move(fd));
}

void Reaper::Reap() {
  signalfd_siginfo info;
  while (read(fd_.get(), &info, sizeof(info)) > 0) {
  }
  while (true) {
    int status = 0;
    const pid_t pid = waitpid(-1, &status, WNOHANG);
    if (pid <= 0) return;
    auto it = watched_.find(pid);
    if (it == watched_.end()) continue;
    it->second = WIFSIGNALED(status) ? ChildEnd{.code = 0, .signal = WTERMSIG(status)}
                                     : ChildEnd{.code = WEXITSTATUS(status), .signal = 0};
  }
}

void Reaper::Signal(pid_t pid, int signal, bool group) const {
  const auto it = watched_.find(pid);
  if (it != watched_.end() && !it->second.has_value()) kill(group ? -pid : pid, signal);
}

std::optional<ChildEnd> Reaper::Take(pid_t pid) {
  auto it = watched_.find(pid);
  if (it == watched_.end() || !it->second.has_value()) return std::nullopt;
  const ChildEnd end = *it->second;
  watched_.erase(it);
  return end;
}

void ResetSignals(int keep_blocked) {
  for (int signal : {SIGPIPE, SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGUSR1})
    ::signal(signal, SIG_DFL);
  sigset_t mask;
  sigemptyset(&mask);
  if (keep_blocked != 0) sigaddset(&mask, keep_blocked);
  sigprocmask(SIG_SETMASK, &mask, nullptr);
}

}  // namespace ktstr::guest
