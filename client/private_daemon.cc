// SPDX-License-Identifier: Apache-2.0
#include "client/private_daemon.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/paths.h"
#include "base/status_macros.h"
#include "base/subprocess.h"
#include "base/utf8.h"
#include "client/call.h"

namespace ktstr::client {
namespace {

constexpr size_t kMaxWord = 64 << 10;
constexpr size_t kLogLinesShown = 5;

// The end of the log from `start` on: the messages of the daemon that this call started.
std::string LastWords(int log_fd, off_t start) {
  std::string text(16 << 10, '\0');
  struct stat st;
  if (fstat(log_fd, &st) == 0 && st.st_size - start > static_cast<off_t>(text.size()))
    start = st.st_size - text.size();
  text.resize(base::ReadAt(log_fd, text.data(), text.size(), start, "the log").value_or(0));
  return std::string(absl::StripAsciiWhitespace(base::PrintableTail(text, kLogLinesShown)));
}

// Reads one line, or to the end of the pipe.
absl::StatusOr<std::string> ReadWord(int pipe_fd, const DaemonStart& start) {
  const absl::Duration deadline = base::RealClock()->Monotonic() + start.timeout;
  std::string word;
  while (!absl::StrContains(word, '\n') && word.size() < kMaxWord) {
    const int64_t left = absl::ToInt64Milliseconds(deadline - base::RealClock()->Monotonic());
    pollfd fds[2] = {{pipe_fd, POLLIN, 0}, {start.interrupt_fd, POLLIN, 0}};
    const int n = left <= 0 ? 0 : poll(fds, 2, static_cast<int>(left));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return base::ErrnoStatus(errno, "poll");
    if (n == 0) {
      return absl::DeadlineExceededError(
          absl::StrCat("ktstrd did not serve within ", absl::FormatDuration(start.timeout)));
    }
    if (fds[1].revents != 0) return Interrupted();
    char buffer[4096];
    const ssize_t got = read(pipe_fd, buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    word.append(buffer, static_cast<size_t>(got));
  }
  return word;
}

}  // namespace

absl::Status PrepareSocketDirectory(const std::string& directory, uid_t uid) {
  if (mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
    return base::ErrnoStatus(
        errno, absl::StrCat("cannot make ", directory, " for the private daemon's socket"));
  }
  struct stat st;
  if (lstat(directory.c_str(), &st) != 0) return base::ErrnoStatus(errno, directory);
  std::string wrong;
  if (!S_ISDIR(st.st_mode)) {
    wrong = "is not a directory";
  } else if (st.st_uid != uid) {
    wrong = absl::StrCat("belongs to user ", st.st_uid, ", not to you (", uid, ")");
  } else if ((st.st_mode & 077) != 0) {
    wrong =
        absl::StrFormat("has mode %04o: other users could reach your daemon", st.st_mode & 07777);
  }
  if (wrong.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      directory, " ", wrong,
      ". Remove it or give it to you with mode 0700, or set XDG_RUNTIME_DIR to a directory "
      "of your own"));
}

absl::StatusOr<std::string> StartDaemon(const DaemonStart& start) {
  const std::string log_path = base::JoinPath(base::Dirname(start.socket), "ktstrd.log");
  KTSTR_ASSIGN_OR_RETURN(const base::UniqueFd log,
                         base::Open(log_path, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW, 0600));
  const off_t log_start = lseek(log.get(), 0, SEEK_END);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return base::ErrnoStatus(errno, "pipe");
  const base::UniqueFd read_end(ends[0]);
  base::UniqueFd write_end(ends[1]);

  base::SpawnOptions options;
  options.argv = {start.program, "--private", "--socket", start.socket, "--ready-fd", "3"};
  options.fds = {{1, log.get()}, {2, log.get()}, {3, write_end.get()}};
  options.cwd = "/";
  options.die_with_parent = false;
  options.new_session = true;
  absl::StatusOr<base::Child> child = base::Spawn(options);
  if (!child.ok())
    return absl::FailedPreconditionError(
        absl::StrCat("cannot start ktstrd: ", child.status().message()));
  write_end.Reset();

  absl::StatusOr<std::string> word = ReadWord(read_end.get(), start);
  if (!word.ok()) {
    child->Kill(SIGTERM);
    if (absl::IsCancelled(word.status())) return word.status();
    return base::Annotate(word.status(), absl::StrCat(start.program, " (log: ", log_path, ")"));
  }
  if (*word == "ready\n" || *word == "running\n") {
    child->Detach();
    return start.socket;
  }
  absl::string_view error = *word;
  const std::optional<base::ExitStatus> status = child->Wait(absl::Seconds(5));
  if (absl::ConsumePrefix(&error, "elsewhere: ")) {
    return std::string(absl::StripTrailingAsciiWhitespace(error));
  }
  if (absl::ConsumePrefix(&error, "error: ")) {
    return absl::FailedPreconditionError(absl::StripTrailingAsciiWhitespace(error));
  }
  const std::string words = LastWords(log.get(), log_start);
  return absl::FailedPreconditionError(absl::StrCat(
      start.program, " ", status ? status->ToString() : "closed its readiness pipe",
      " before it served", words.empty() ? ", without a message" : absl::StrCat(": ", words),
      " (log: ", log_path, ")"));
}

absl::Status CheckOwnSocket(const std::string& path) {
  struct stat st;
  if (lstat(path.c_str(), &st) != 0) {
    return absl::UnavailableError(absl::StrCat(
        path, ": the socket of the ktstrd that uses your ",
        "cache directory is not there. End that daemon, or set another ", "KTSTR_CACHE_DIR"));
  }
  if (S_ISSOCK(st.st_mode) && st.st_uid == geteuid()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      path, ": the lock of your cache directory names it as the socket of its ktstrd, ",
      S_ISSOCK(st.st_mode) ? absl::StrCat("but it belongs to user ", st.st_uid)
                           : std::string("but it is no socket"),
      ". Set another KTSTR_CACHE_DIR"));
}

absl::StatusOr<std::string> FindDaemonProgram() {
  const std::string directory = base::ProgramDirectory();
  const std::string beside = base::JoinPath(directory, "ktstrd");
  if (!directory.empty() && access(beside.c_str(), X_OK) == 0) return beside;
  absl::StatusOr<std::string> found = base::FindProgram("ktstrd");
  if (found.ok()) return found;
  return absl::FailedPreconditionError(
      absl::StrCat("ktstrd not found: no daemon serves on this machine, and the program to start a "
                   "private one is neither ",
                   beside,
                   " nor on PATH. Install ktstr whole, or name a running daemon's socket with "
                   "--socket or KTSTR_SOCKET"));
}

}  // namespace ktstr::client
