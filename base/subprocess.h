// SPDX-License-Identifier: Apache-2.0
//
// The one way to start a program. The child gets only the descriptors that SpawnOptions names, an
// empty signal mask and default signal handlers. With `die_with_parent` the kernel kills it when
// the thread that started it ends (PR_SET_PDEATHSIG), so that thread must outlive the child. Any
// thread.

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
  std::vector<std::string> argv;                // Spawn looks for an argv[0] without "/" on PATH.
  std::optional<std::vector<std::string>> env;  // "K=V"; unset: the parent's.
  // child descriptor <- parent descriptor. 0, 1 and 2 are /dev/null unless named here.
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

// A started program. Only the destructor reaps it, and the kernel does not give its pid to another
// process before. So pid() means this child, running or ended, as long as the object exists:
// code that uses the pid shares the object.
class Child {
 public:
  // A child of this process that the caller forked.
  static absl::StatusOr<Child> Adopt(pid_t pid);
  Child(Child&& other) noexcept;
  Child& operator=(Child&&) = delete;
  ~Child();  // Kills the child when it still runs, and reaps it.

  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }  // Readable when the child has ended.
  void Kill(int signal);
  // nullopt when it still runs after `timeout`. Once it has ended, all calls return the same.
  std::optional<ExitStatus> Wait(absl::Duration timeout);
  // Gives up ownership: the destructor then leaves the child alone.
  pid_t Detach();

 private:
  friend absl::StatusOr<Child> Spawn(const SpawnOptions& options);
  Child(pid_t pid, UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  pid_t pid_ = -1;
  UniqueFd pidfd_;
  std::optional<ExitStatus> status_;
};

// NotFound, PermissionDenied or the status of another errno of execve(2), with the program's name,
// when the program cannot be executed.
absl::StatusOr<Child> Spawn(const SpawnOptions& options);

struct RunResult {
  ExitStatus status;
  // Of more than `max_output` bytes the first quarter and the last three quarters of that number
  // (base/head_tail.h).
  std::string out;
  std::string err;
};
// Runs the program to its end and feeds it `input`. After `timeout`, kills it: DeadlineExceeded.
absl::StatusOr<RunResult> RunCommand(SpawnOptions options, absl::Duration timeout,
                                     std::string_view input = {},
                                     size_t max_output = size_t{16} << 20);

// Absolute path of `program` on PATH; NotFound names it.
absl::StatusOr<std::string> FindProgram(const std::string& program);

}  // namespace ktstr::base

#endif  // KTSTR_BASE_SUBPROCESS_H_
