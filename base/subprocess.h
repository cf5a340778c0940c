// SPDX-License-Identifier: Apache-2.0
//
// The one way to start a program. The child gets only the descriptors that are named (everything
// else is closed), an empty signal mask, and dies with its parent thread's process
// (PR_SET_PDEATHSIG SIGKILL) unless told otherwise. Any thread, but the thread that starts a child
// with `die_with_parent` must outlive it (the kernel binds the signal to the thread).

#ifndef KTSTR_BASE_SUBPROCESS_H_
#define KTSTR_BASE_SUBPROCESS_H_

#include <sys/types.h>

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/fd.h"

namespace ktstr::base {

struct SpawnOptions {
  std::vector<std::string> argv;                // argv[0] without "/" is searched on PATH.
  std::optional<std::vector<std::string>> env;  // "K=V"; unset: the parent's.
  // child descriptor <- parent descriptor. 0, 1, 2 default to /dev/null when not named.
  std::vector<std::pair<int, int>> fds;
  std::string cwd;  // Empty: the parent's.
  bool die_with_parent = true;
  bool new_session = false;        // setsid(2).
  bool new_process_group = false;  // setpgid(0, 0): a terminal's Ctrl-C does not reach it.
  // RLIMIT_* -> value, hard and soft.
  std::map<int, uint64_t> rlimits;
};

struct ExitStatus {
  int code = 0;  // Valid when signal == 0.
  int signal = 0;
  bool Success() const { return code == 0 && signal == 0; }
  std::string ToString() const;  // "exited with 1", "killed by signal 9 (Killed)"
};

// The kernel gives a pid to another process only after the child that had it was reaped, and the
// destructor alone does that. So pid() names this child, running or ended, as long as the object
// lives: whoever uses the pid shares the object.
class Child {
 public:
  // A child of this process that the caller forked.
  static absl::StatusOr<Child> Adopt(pid_t pid);
  Child(Child&& other) noexcept;
  Child& operator=(Child&&) = delete;
  ~Child();  // Kills it when it still runs, and reaps it.

  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }  // Readable when it has ended.
  void Kill(int signal);
  // nullopt when it still runs at the end of `timeout`. Later calls return the same.
  std::optional<ExitStatus> Wait(absl::Duration timeout);
  // Gives up ownership: the child goes on.
  pid_t Detach();

 private:
  friend absl::StatusOr<Child> Spawn(const SpawnOptions& options);
  Child(pid_t pid, UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  pid_t pid_ = -1;
  UniqueFd pidfd_;
  std::optional<ExitStatus> status_;
};

// NotFound / PermissionDenied with the program's name when it cannot be executed (the child's exec
// errno comes back).
absl::StatusOr<Child> Spawn(const SpawnOptions& options);

struct RunResult {
  ExitStatus status;
  // At most `max_output` bytes each, and one line: of more, the first quarter and the end
  // (base/head_tail.h).
  std::string out;
  std::string err;
};
// Runs to the end, feeding `input`. DeadlineExceeded (child killed) after `timeout`.
absl::StatusOr<RunResult> RunCommand(SpawnOptions options, absl::Duration timeout,
                                     std::string_view input = {},
                                     size_t max_output = size_t{16} << 20);

// Absolute path of `program` on PATH; NotFound names it.
absl::StatusOr<std::string> FindProgram(const std::string& program);

}  // namespace ktstr::base

#endif  // KTSTR_BASE_SUBPROCESS_H_
