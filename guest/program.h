// SPDX-License-Identifier: Apache-2.0
//
// Starts a program of the bundle: in a session of its own, as an ordinary task, with a small fixed
// environment, its output in a pipe. One thread.

#ifndef KTSTR_GUEST_PROGRAM_H_
#define KTSTR_GUEST_PROGRAM_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/fd.h"

namespace ktstr::guest {

struct Program {
  std::string path;
  std::string lib_dir;
  std::string name;  // argv[0]
  std::vector<std::string> args;
};

struct StartedProgram {
  pid_t pid = -1;         // To be watched by the reaper.
  base::UniqueFd output;  // stdout and stderr; reading does not wait.
  int exec_errno = 0;     // Of execve(2): the child is about to end. 0: it runs.
};

// Internal for pipes and processes that the kernel refuses.
absl::StatusOr<StartedProgram> StartProgram(const Program& program);

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_PROGRAM_H_
