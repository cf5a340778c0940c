// SPDX-License-Identifier: Apache-2.0
#include "client/connect.h"

#include <fcntl.h>
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/grpcpp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/flock.h"
#include "base/protocol.h"
#include "base/status_macros.h"
#include "client/private_daemon.h"

namespace ktstr::client {
namespace {

static_assert(kProtocolVersion == base::kProtocolVersion);

constexpr absl::Duration kHandshakeTimeout = absl::Seconds(20);
// How long a daemon may take to end, and the pause between attempts meanwhile.
constexpr absl::Duration kEndingDaemon = absl::Seconds(5);
constexpr absl::Duration kAttemptPause = absl::Milliseconds(10);
// A start under way elsewhere: the daemon's own limit and some more.
constexpr absl::Duration kStartLockTimeout = absl::Seconds(60);

// gRPC's own limit is 4 MiB. The record of 4096 workers on 252 CPUs with the longest log is larger,
// and so is what was observed in such a run. The daemon is our own or root's (CheckPeer).
constexpr int kMaxMessageBytes = 1 << 30;

// Only oneself or root may stand behind the socket: what the client sends includes its files.
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

absl::StatusOr<std::shared_ptr<Connection>> Shake(base::UniqueFd fd, const std::string& path) {
  KTSTR_RETURN_IF_ERROR(CheckPeer(fd.get(), path));
  const int flags = fcntl(fd.get(), F_GETFL);
  if (flags < 0 || fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0)
    return base::ErrnoStatus(errno, path);
  grpc::ChannelArguments arguments;
  arguments.SetUserAgentPrefix(base::ProtocolAgent());
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  const std::shared_ptr<grpc::Channel> channel =
      grpc::CreateCustomInsecureChannelFromFd("ktstrd", fd.Release(), arguments);
  const std::unique_ptr<v1::Ktstr::Stub> stub = v1::Ktstr::NewStub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       absl::ToChronoMilliseconds(kHandshakeTimeout));
  v1::HandshakeRequest request;
  request.set_protocol_version(kProtocolVersion);
  request.set_client_version(absl::StrCat("ktstrctl ", KTSTR_VERSION));
  v1::HandshakeResponse response;
  const absl::Status status = FromGrpc(stub->Handshake(&context, request, &response));
  if (!status.ok())
    return base::Annotate(status, absl::StrCat("handshake with the daemon at ", path));
  return std::make_shared<Connection>(channel, std::move(response), path);
}

// The private daemon's socket; starts the daemon when none listens there.
absl::StatusOr<base::UniqueFd> ReachPrivate(const ConnectOptions& options) {
  const std::string& path = options.private_socket;
  const std::string directory(base::Dirname(path));
  absl::StatusOr<base::UniqueFd> fd = ConnectSocket(path);
  if (!fd.ok() && absl::IsUnavailable(fd.status())) {
    KTSTR_ASSIGN_OR_RETURN(
        const base::FileLock lock,
        base::FileLock::Acquire(base::JoinPath(directory, "start.lock"), base::LockMode::kExclusive,
                                kStartLockTimeout, "the start of the private daemon"));
    fd = ConnectSocket(path);  // Another client may have started it while this one waited.
    if (!fd.ok() && absl::IsUnavailable(fd.status())) {
      DaemonStart start;
      start.socket = path;
      start.program = options.daemon_program;
      start.interrupt_fd = options.interrupt_fd;
      if (start.program.empty()) {
        KTSTR_ASSIGN_OR_RETURN(start.program, FindDaemonProgram());
      }
      KTSTR_RETURN_IF_ERROR(StartDaemon(start));
      fd = ConnectSocket(path);
    }
  }
  if (fd.ok()) return fd;
  return base::Annotate(fd.status(), "the private daemon runs, but cannot be reached");
}

// A daemon that was killed, or that ends because it was idle, may take a connection still, and
// close it: the next attempt starts another one. There is nothing to be told its end by.
absl::StatusOr<std::shared_ptr<Connection>> ConnectPrivate(const ConnectOptions& options) {
  const std::string& path = options.private_socket;
  KTSTR_RETURN_IF_ERROR(PrepareSocketDirectory(std::string(base::Dirname(path)), geteuid()));
  const absl::Time deadline = absl::Now() + kEndingDaemon;
  while (true) {
    KTSTR_ASSIGN_OR_RETURN(base::UniqueFd fd, ReachPrivate(options));
    absl::StatusOr<std::shared_ptr<Connection>> connection = Shake(std::move(fd), path);
    if (!absl::IsUnavailable(connection.status()) || absl::Now() >= deadline) return connection;
    absl::SleepFor(kAttemptPause);
  }
}

}  // namespace

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  // The numbers are the same by definition (google.rpc.Code).
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

absl::StatusOr<base::UniqueFd> ConnectSocket(const std::string& path) {
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
  base::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return base::ErrnoStatus(errno, "socket");
  while (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    if (errno == EINTR) continue;
    if (errno == ENOENT) return absl::UnavailableError(absl::StrCat(path, ": no such socket"));
    if (errno == ECONNREFUSED)
      return absl::UnavailableError(absl::StrCat(path, ": no daemon listens there"));
    return base::ErrnoStatus(errno, absl::StrCat("cannot connect to ", path));
  }
  return fd;
}

absl::StatusOr<std::shared_ptr<Connection>> Connect(const ConnectOptions& options) {
  if (!options.socket.empty()) {
    absl::StatusOr<base::UniqueFd> fd = ConnectSocket(options.socket);
    if (!fd.ok()) {
      return absl::Status(fd.status().code(),
                          absl::StrCat(fd.status().message(),
                                       ". Start ktstrd with this socket, or leave --socket and "
                                       "KTSTR_SOCKET out to use the system's or a private daemon"));
    }
    return Shake(*std::move(fd), options.socket);
  }
  if (absl::StatusOr<base::UniqueFd> fd = ConnectSocket(options.system_socket); fd.ok()) {
    return Shake(*std::move(fd), options.system_socket);
  }
  return ConnectPrivate(options);
}

absl::StatusOr<std::unique_ptr<Session>> Session::Open(Connector connector) {
  KTSTR_ASSIGN_OR_RETURN(std::shared_ptr<Connection> connection, connector());
  return std::unique_ptr<Session>(new Session(std::move(connector), std::move(connection)));
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
