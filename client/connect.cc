// SPDX-License-Identifier: Apache-2.0
#include "client/connect.h"

#include <fcntl.h>
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/grpcpp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/flock.h"
#include "base/protocol.h"
#include "base/status_macros.h"
#include "client/call.h"
#include "client/private_daemon.h"

namespace ktstr::client {
namespace {

constexpr absl::Duration kHandshakeTimeout = absl::Seconds(20);
// How long a daemon may take to end, and the pause between attempts.
constexpr absl::Duration kEndingDaemon = absl::Seconds(5);
constexpr absl::Duration kAttemptPause = absl::Milliseconds(10);
// For the start by another client: the limit of StartDaemon() and some more.
constexpr absl::Duration kStartLockTimeout = absl::Seconds(60);
constexpr absl::Duration kLockPause = absl::Milliseconds(50);
// For a daemon whose backlog is full: nothing reports room in it, so the client tries again.
constexpr absl::Duration kBacklogTimeout = absl::Seconds(20);

// Only the user or root may serve the socket: the client sends files to it.
absl::Status CheckPeer(int fd, const std::string& path) {
  ucred peer = {};
  socklen_t size = sizeof(peer);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
    return base::ErrnoStatus(errno, path);
  if (peer.uid == 0 || peer.uid == geteuid()) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrCat(path, ": the daemon there runs as user ",
                                                  peer.uid, ", neither root nor you (", geteuid(),
                                                  ")"));
}

absl::StatusOr<std::shared_ptr<Connection>> Shake(base::UniqueFd fd, const std::string& path,
                                                  int interrupt_fd) {
  KTSTR_RETURN_IF_ERROR(CheckPeer(fd.get(), path));
  const int flags = fcntl(fd.get(), F_GETFL);
  if (flags < 0 || fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0)
    return base::ErrnoStatus(errno, path);
  grpc::ChannelArguments arguments;
  arguments.SetUserAgentPrefix(base::ProtocolAgent());
  const std::shared_ptr<grpc::Channel> channel =
      grpc::CreateCustomInsecureChannelFromFd("ktstrd", fd.Release(), arguments);
  const std::unique_ptr<v1::Ktstr::Stub> stub = v1::Ktstr::NewStub(channel);
  GuardedCall call(interrupt_fd, kHandshakeTimeout);
  v1::HandshakeRequest request;
  request.set_protocol_version(base::kProtocolVersion);
  request.set_client_version(absl::StrCat("ktstrctl ", KTSTR_VERSION));
  v1::HandshakeResponse response;
  absl::Status status = call.Finish(stub->Handshake(call.context(), request, &response));
  if (absl::IsCancelled(status)) return status;
  if (!status.ok())
    return base::Annotate(status, absl::StrCat("handshake with the daemon at ", path));
  return std::make_shared<Connection>(channel, std::move(response), path);
}

// Holds back other clients that would start the same daemon.
absl::StatusOr<base::FileLock> TakeStartLock(const std::string& directory, int interrupt_fd) {
  const std::string path = base::JoinPath(directory, "start.lock");
  const absl::Duration deadline = base::RealClock()->Monotonic() + kStartLockTimeout;
  while (true) {
    absl::StatusOr<base::FileLock> lock =
        base::FileLock::TryAcquire(path, base::LockMode::kExclusive);
    if (!absl::IsUnavailable(lock.status())) return lock;
    if (base::RealClock()->Monotonic() >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("another client has been starting the private daemon for ",
                       absl::FormatDuration(kStartLockTimeout), ": ", lock.status().message()));
    }
    if (WaitReadable(interrupt_fd, kLockPause)) return Interrupted();
  }
}

struct Reached {
  base::UniqueFd fd;
  std::string path;
};

// The user's private daemon; starts it when none listens.
absl::StatusOr<Reached> ReachPrivate(const ConnectOptions& options) {
  std::string path = options.private_socket;
  const std::string directory(base::Dirname(path));
  absl::StatusOr<base::UniqueFd> fd = ConnectSocket(path, options.interrupt_fd);
  if (!fd.ok() && absl::IsUnavailable(fd.status())) {
    KTSTR_ASSIGN_OR_RETURN(const base::FileLock lock,
                           TakeStartLock(directory, options.interrupt_fd));
    // Another client may have started it while this one waited.
    fd = ConnectSocket(path, options.interrupt_fd);
    if (!fd.ok() && absl::IsUnavailable(fd.status())) {
      DaemonStart start;
      start.socket = path;
      start.program = options.daemon_program;
      start.interrupt_fd = options.interrupt_fd;
      if (start.program.empty()) {
        KTSTR_ASSIGN_OR_RETURN(start.program, FindDaemonProgram());
      }
      KTSTR_ASSIGN_OR_RETURN(path, StartDaemon(start));
      if (path != options.private_socket) KTSTR_RETURN_IF_ERROR(CheckOwnSocket(path));
      fd = ConnectSocket(path, options.interrupt_fd);
    }
  }
  if (absl::IsCancelled(fd.status())) return fd.status();
  if (fd.ok()) return Reached{*std::move(fd), path};
  if (path == options.private_socket) {
    return base::Annotate(fd.status(), "the private daemon runs, but cannot be reached");
  }
  return base::Annotate(
      fd.status(),
      "the ktstrd that uses your cache directory serves another socket, which cannot be reached "
      "from here (end it, or set another KTSTR_CACHE_DIR)");
}

// A daemon that was killed, or that ends because it is idle, may still take a connection and close
// it: the next attempt starts another daemon. Nothing reports its end.
absl::StatusOr<std::shared_ptr<Connection>> ConnectPrivate(const ConnectOptions& options) {
  KTSTR_RETURN_IF_ERROR(
      PrepareSocketDirectory(std::string(base::Dirname(options.private_socket)), geteuid()));
  const absl::Duration deadline = base::RealClock()->Monotonic() + kEndingDaemon;
  while (true) {
    absl::Status status;
    if (absl::StatusOr<Reached> reached = ReachPrivate(options); !reached.ok()) {
      status = reached.status();
      // The lock of a daemon that is ending may name a socket that is gone.
      if (!absl::IsUnavailable(status)) return status;
    } else {
      absl::StatusOr<std::shared_ptr<Connection>> connection =
          Shake(std::move(reached->fd), reached->path, options.interrupt_fd);
      if (!absl::IsUnavailable(connection.status())) return connection;
      status = connection.status();
    }
    if (base::RealClock()->Monotonic() >= deadline) return status;
    if (WaitReadable(options.interrupt_fd, kAttemptPause)) return Interrupted();
  }
}

}  // namespace

absl::StatusOr<base::UniqueFd> ConnectSocket(const std::string& path, int interrupt_fd) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::FailedPreconditionError(
        absl::StrCat("socket path ", path, " has ", path.size(),
                     " bytes; a unix socket's has at "
                     "most ",
                     sizeof(address.sun_path) - 1,
                     ". Choose a shorter one by --socket, KTSTR_SOCKET or XDG_RUNTIME_DIR"));
  }
  memcpy(address.sun_path, path.c_str(), path.size() + 1);
  base::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return base::ErrnoStatus(errno, "socket");
  const absl::Duration deadline = base::RealClock()->Monotonic() + kBacklogTimeout;
  while (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    if (errno == EINTR) continue;
    if (errno == EAGAIN) {
      if (base::RealClock()->Monotonic() >= deadline) {
        return absl::DeadlineExceededError(
            absl::StrCat(path, ": the daemon accepted no connection for ",
                         absl::FormatDuration(kBacklogTimeout), "; it hangs, or is stopped"));
      }
      if (WaitReadable(interrupt_fd, kAttemptPause)) return Interrupted();
      continue;
    }
    if (errno == ENOENT) return absl::UnavailableError(absl::StrCat(path, ": no such socket"));
    if (errno == ECONNREFUSED)
      return absl::UnavailableError(absl::StrCat(path, ": no daemon listens there"));
    return base::ErrnoStatus(errno, absl::StrCat("cannot connect to ", path));
  }
  return fd;
}

absl::StatusOr<std::shared_ptr<Connection>> Connect(const ConnectOptions& options) {
  if (!options.socket.empty()) {
    absl::StatusOr<base::UniqueFd> fd = ConnectSocket(options.socket, options.interrupt_fd);
    if (absl::IsCancelled(fd.status())) return fd.status();
    if (!fd.ok()) {
      return absl::Status(fd.status().code(),
                          absl::StrCat(fd.status().message(),
                                       ". Start ktstrd with this socket, or leave --socket and "
                                       "KTSTR_SOCKET out to use the system's or a private daemon"));
    }
    return Shake(*std::move(fd), options.socket, options.interrupt_fd);
  }
  absl::StatusOr<base::UniqueFd> fd = ConnectSocket(options.system_socket, options.interrupt_fd);
  if (absl::IsCancelled(fd.status())) return fd.status();
  if (fd.ok()) return Shake(*std::move(fd), options.system_socket, options.interrupt_fd);
  return ConnectPrivate(options);
}

absl::StatusOr<std::unique_ptr<Session>> Session::Open(Connector connector, int interrupt_fd) {
  KTSTR_ASSIGN_OR_RETURN(std::shared_ptr<Connection> connection, connector());
  return std::unique_ptr<Session>(
      new Session(std::move(connector), interrupt_fd, std::move(connection)));
}

std::shared_ptr<Connection> Session::connection() const {
  base::MutexLock lock(&mutex_);
  return connection_;
}

absl::Status Session::Reconnect(const std::shared_ptr<Connection>& lost) {
  base::MutexLock connecting(&connecting_);
  if (connection() != lost) return absl::OkStatus();
  KTSTR_ASSIGN_OR_RETURN(std::shared_ptr<Connection> fresh, connector_());
  base::MutexLock lock(&mutex_);
  connection_ = std::move(fresh);
  return absl::OkStatus();
}

}  // namespace ktstr::client
