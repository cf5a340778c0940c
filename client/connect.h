// SPDX-License-Identifier: Apache-2.0
//
// Finds a daemon and connects to it: at --socket or KTSTR_SOCKET; else at the system's socket, when
// a daemon accepts there; else at the socket of the private daemon, which the client starts when
// needed. Two clients at once start one daemon: a lock beside the socket guards the start, and only
// one daemon serves a socket. When another daemon of the user has the user's cache, with another
// socket (another XDG_RUNTIME_DIR: ssh, su, cron, a container), the client takes that one.

#ifndef KTSTR_CLIENT_CONNECT_H_
#define KTSTR_CLIENT_CONNECT_H_

#include <grpcpp/channel.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/fd.h"
#include "base/mutex.h"
#include "ktstr/v1/service.grpc.pb.h"

namespace ktstr::client {

inline constexpr char kSystemSocket[] = "/run/ktstr/ktstrd.sock";

// A connection after its handshake. Any thread.
class Connection {
 public:
  Connection(const std::shared_ptr<grpc::Channel>& channel, v1::HandshakeResponse daemon,
             std::string socket)
      : stub_(v1::Ktstr::NewStub(channel)),
        daemon_(std::move(daemon)),
        socket_(std::move(socket)) {}
  v1::Ktstr::StubInterface* stub() const { return stub_.get(); }
  const v1::HandshakeResponse& daemon() const { return daemon_; }
  const std::string& socket() const { return socket_; }

 private:
  std::unique_ptr<v1::Ktstr::StubInterface> stub_;
  v1::HandshakeResponse daemon_;
  std::string socket_;
};

struct ConnectOptions {
  std::string socket;  // --socket or KTSTR_SOCKET; empty: system, then private.
  std::string system_socket = kSystemSocket;
  std::string private_socket;  // base::PrivateSocketPath().
  std::string daemon_program;  // Empty: FindDaemonProgram().
  int interrupt_fd = -1;       // Readable: give up with Cancelled.
};

// connect(2) on a unix socket. Unavailable when nobody listens there (missing or stale),
// PermissionDenied, and FailedPrecondition when the path is too long for a unix socket. Waits for a
// daemon whose backlog is full: DeadlineExceeded after 20 s, Cancelled when `interrupt_fd` becomes
// readable.
absl::StatusOr<base::UniqueFd> ConnectSocket(const std::string& path, int interrupt_fd = -1);

absl::StatusOr<std::shared_ptr<Connection>> Connect(const ConnectOptions& options);

// The connection of a command, which Reconnect() replaces when it is lost. Any thread.
class Session {
 public:
  using Connector = std::function<absl::StatusOr<std::shared_ptr<Connection>>()>;
  // `interrupt_fd`, where there is one, outlives the session.
  static absl::StatusOr<std::unique_ptr<Session>> Open(Connector connector, int interrupt_fd = -1);

  std::shared_ptr<Connection> connection() const;
  // Readable: the user wants the command to end. -1: the user cannot end it.
  int interrupt_fd() const { return interrupt_fd_; }
  // Connects again unless another thread has already replaced `lost`.
  absl::Status Reconnect(const std::shared_ptr<Connection>& lost);

 private:
  Session(Connector connector, int interrupt_fd, std::shared_ptr<Connection> connection)
      : connector_(std::move(connector)),
        interrupt_fd_(interrupt_fd),
        connection_(std::move(connection)) {}

  const Connector connector_;
  const int interrupt_fd_;
  base::Mutex connecting_;  // Held while a new connection is made.
  mutable base::Mutex mutex_;
  std::shared_ptr<Connection> connection_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_CONNECT_H_
