// SPDX-License-Identifier: Apache-2.0
#include "guest/program.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "guest/operation.h"
#include "guest/reaper.h"

namespace ktstr::guest {
namespace {

constexpr int kPipeSize = 1 << 20;

// Runs in the child; returns only when execve() fails.
void Exec(const Program& program, int output) {
  ResetSignals();
  setsid();
  const int null = open("/dev/null", O_RDONLY);
  dup2(null, 0);
  dup2(output, 1);
  dup2(output, 2);
  std::string name = program.name;
  std::vector<std::string> args = program.args;
  std::vector<char*> argv = {name.data()};
  for (std::string& arg : args) argv.push_back(arg.data());
  argv.push_back(nullptr);
  std::string library_path = absl::StrCat("LD_LIBRARY_PATH=", program.lib_dir);
  std::string path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
  std::string home = "HOME=/";
  char* const env[] = {library_path.data(), path.data(), home.data(), nullptr};
  execve(program.path.c_str(), argv.data(), env);
}

}  // namespace

absl::StatusOr<StartedProgram> StartProgram(const Program& program) {
  int output[2];
  int failure[2];
  if (pipe2(output, O_CLOEXEC) != 0)
    return base::ErrnoStatus(errno, absl::StrCat("pipe for the output of ", program.name));
  StartedProgram started;
  started.output.Reset(output[0]);
  base::UniqueFd output_end(output[1]);
  if (pipe2(failure, O_CLOEXEC) != 0)
    return base::ErrnoStatus(errno, absl::StrCat("pipe for the start of ", program.name));
  base::UniqueFd failure_read(failure[0]);
  base::UniqueFd failure_write(failure[1]);
  fcntl(output[0], F_SETFL, O_NONBLOCK);
  // A smaller pipe works too; the program then waits for the agent's polls sooner.
  fcntl(output[0], F_SETPIPE_SZ, kPipeSize);

  const pid_t pid = fork();
  if (pid < 0) {
    return MarkOperation(base::ErrnoStatus(errno, absl::StrCat("fork for ", program.name)),
                         v1::OperationFailed::FORK);
  }
  if (pid == 0) {
    Exec(program, output_end.get());
    const int error = errno;
    if (write(failure_write.get(), &error, sizeof(error)) < 0) _exit(126);
    _exit(127);
  }
  started.pid = pid;
  failure_write.Reset();
  int error = 0;
  const ssize_t got = TEMP_FAILURE_RETRY(read(failure_read.get(), &error, sizeof(error)));
  if (got == sizeof(error)) started.exec_errno = error;
  return started;
}

}  // namespace ktstr::guest
