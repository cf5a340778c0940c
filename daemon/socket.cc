// SPDX-License-Identifier: Apache-2.0
#include "daemon/socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace ktstr::daemon {
namespace {

// Between two looks at another process's lock and socket: poll() cannot wait for them.
constexpr int kLookAgainMs = 20;
constexpr int kBacklog = 64;

absl::StatusOr<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "socket path '", path, "' has ", path.size(), " bytes, must have 1 to ",
        sizeof(address.sun_path) - 1, ": choose another one (--socket, XDG_RUNTIME_DIR)"));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

absl::StatusOr<base::UniqueFd> MakeSocket(int flags) {
  base::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
  if (!fd.valid()) return base::ErrnoStatus(errno, "socket");
  return fd;
}

bool Answers(const sockaddr_un& address) {
  absl::StatusOr<base::UniqueFd> fd = MakeSocket(SOCK_NONBLOCK);
  if (!fd.ok()) return false;
  const int rc = connect(fd->get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  return rc == 0 || errno == EAGAIN;  // EAGAIN: its backlog is full, so it listens.
}

absl::Status PrepareDirectory(const std::string& dir) {
  KTSTR_RETURN_IF_ERROR(base::MakeDirs(dir, 0700));
  struct stat info;
  if (lstat(dir.c_str(), &info) != 0) return base::ErrnoStatus(errno, dir);
  // Anybody may have made /tmp/ktstr-UID before us.
  if (!absl::StartsWith(dir, "/tmp/ktstr-")) return absl::OkStatus();
  if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid() || (info.st_mode & 077) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(dir, ": must be a directory of uid ",
                                                      geteuid(),
                                                      " with mode 0700; remove it, or set "
                                                      "XDG_RUNTIME_DIR"));
  }
  return absl::OkStatus();
}

absl::StatusOr<base::UniqueFd> Listen(const std::string& path) {
  // Under another name until it listens: a client finds a listening socket, or none.
  const std::string making = path + ".new";
  KTSTR_ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(making));
  KTSTR_ASSIGN_OR_RETURN(base::UniqueFd fd, MakeSocket(SOCK_NONBLOCK));
  unlink(making.c_str());
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return base::ErrnoStatus(errno, "bind " + making);
  }
  if (chmod(making.c_str(), 0600) != 0) return base::ErrnoStatus(errno, "chmod " + making);
  if (listen(fd.get(), kBacklog) != 0) return base::ErrnoStatus(errno, "listen on " + making);
  if (rename(making.c_str(), path.c_str()) != 0)
    return base::ErrnoStatus(errno, "rename " + making);
  return fd;
}

}  // namespace

absl::StatusOr<ListeningSocket> ListeningSocket::Claim(const std::string& path,
                                                       absl::Duration patience) {
  KTSTR_ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  KTSTR_RETURN_IF_ERROR(PrepareDirectory(std::string(base::Dirname(path))));
  const std::string stem = absl::EndsWith(path, ".sock") ? path.substr(0, path.size() - 5) : path;
  const absl::Duration deadline = base::RealClock()->Monotonic() + patience;
  while (true) {
    absl::StatusOr<base::FileLock> lock =
        base::FileLock::TryAcquire(stem + ".lock", base::LockMode::kExclusive);
    if (lock.ok()) {
      KTSTR_ASSIGN_OR_RETURN(base::UniqueFd fd, Listen(path));
      return ListeningSocket(path, *std::move(lock), std::move(fd));
    }
    if (!absl::IsUnavailable(lock.status())) return lock.status();
    if (Answers(address)) {
      return absl::AlreadyExistsError(absl::StrCat("another ktstrd serves ", path));
    }
    if (base::RealClock()->Monotonic() >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat(path, " accepts no connection, but ", lock.status().message()));
    }
    poll(nullptr, 0, kLookAgainMs);
  }
}

void ListeningSocket::Remove() {
  if (!fd_.valid()) return;
  unlink(path_.c_str());
  fd_.Reset();
}

}  // namespace ktstr::daemon
