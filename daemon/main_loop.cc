// SPDX-License-Identifier: Apache-2.0
#include "daemon/main_loop.h"

#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"
#include "base/descriptors.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "daemon/cache_lock.h"
#include "daemon/config.h"
#include "daemon/server.h"

namespace ktstr::daemon {
namespace {

constexpr int kExitUsage = 64;
constexpr int kExitUnavailable = 69;
constexpr int kExitSoftware = 70;

absl::StatusOr<base::UniqueFd> BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGHUP, SIG_IGN);  // The terminal of the client that started the daemon may close.
  base::UniqueFd fd(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) return base::ErrnoStatus(errno, "signalfd");
  return fd;
}

// The starter may have ended already and read nothing: no reason for the daemon to end.
void Tell(base::UniqueFd* ready, std::string line) {
  if (!ready->valid()) return;
  std::replace(line.begin(), line.end(), '\n', ' ');
  absl::Status told = base::WriteAll(ready->get(), line + "\n", "--ready-fd");
  if (!told.ok()) KTSTR_LOG(WARNING) << told;
  ready->Reset();
}

int ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      return kExitUsage;
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kPermissionDenied:
      return kExitUnavailable;
    default:
      return kExitSoftware;
  }
}

int Fail(base::UniqueFd* ready, const absl::Status& status) {
  const std::string text = absl::StrCat("ktstrd: ", status.message(), "\n");
  if (!base::WriteAll(STDERR_FILENO, text, "stderr").ok()) return kExitSoftware;
  Tell(ready, absl::StrCat("error: ", status.message()));
  return ExitCodeOf(status);
}

absl::StatusOr<std::unique_ptr<Server>> StartServer(const CommandLine& line) {
  if (!line.private_daemon) {
    return absl::InvalidArgumentError(
        "this version has no system daemon: start it with --private, for the calling user only; "
        "see ktstrd --help");
  }
  KTSTR_ASSIGN_OR_RETURN(const ServerOptions options, MakeServerOptions(line));
  return Server::Start(options);
}

}  // namespace

int RunDaemon(const std::vector<std::string>& args) {
  base::UniqueFd ready;
  const absl::StatusOr<CommandLine> line = ParseCommandLine(args);
  if (!line.ok()) return Fail(&ready, line.status());
  if (line->help || line->version) {
    const std::string text =
        line->help ? std::string(UsageText()) : std::string("ktstrd " KTSTR_VERSION "\n");
    return base::WriteAll(STDOUT_FILENO, text, "stdout").ok() ? 0 : kExitSoftware;
  }
  ready.Reset(line->ready_fd);
  const absl::StatusOr<base::UniqueFd> signals = BlockSignals();
  if (!signals.ok()) return Fail(&ready, signals.status());
  // No reason to end: with too few descriptors, runs and clients wait.
  if (absl::Status raised = base::RaiseDescriptorLimit(); !raised.ok()) {
    KTSTR_LOG(WARNING) << raised;
  }
  absl::StatusOr<std::unique_ptr<Server>> server = StartServer(*line);
  if (absl::IsAlreadyExists(server.status())) {
    Tell(&ready, "running");
    return 0;
  }
  // The client that waits for this daemon can use the one that has the cache.
  if (const std::string socket = SocketElsewhere(server.status());
      !socket.empty() && ready.valid()) {
    Tell(&ready, absl::StrCat("elsewhere: ", socket));
    return 0;
  }
  if (!server.ok()) return Fail(&ready, server.status());
  Tell(&ready, "ready");
  (*server)->Serve(signals->get());
  return 0;
}

}  // namespace ktstr::daemon
