// SPDX-License-Identifier: Apache-2.0
//
// ktstrd as a library: the socket, the connections, one gRPC server per user, and the Daemon behind
// them. `main` and the tests use it alike.
//
// Server accepts connections itself: it reads the user from SO_PEERCRED, closes a connection that
// does not begin as HTTP/2 within 5 s, and hands the descriptor to the gRPC server of that user.

#ifndef KTSTR_DAEMON_SERVER_H_
#define KTSTR_DAEMON_SERVER_H_

#include <sys/types.h>

#include <list>
#include <map>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/fd.h"
#include "daemon/config.h"
#include "daemon/daemon.h"
#include "daemon/socket.h"

namespace ktstr::daemon {

class Server {
 public:
  // When it returns, clients can connect. AlreadyExists when another daemon serves the socket.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerOptions& options);
  ~Server();

  // Serves on the calling thread until `stop_fd` is readable, or the daemon was idle (without
  // connections, runs and fetches) for idle_exit_seconds, or it is idle and another build has
  // replaced this program. Then, in this order: removes the socket, ends running runs as
  // INTERRUPTED and records them, ends the streams. Once.
  void Serve(int stop_fd);

 private:
  // A connection that has not sent the HTTP/2 preface yet.
  struct Pending {
    base::UniqueFd fd;
    uid_t uid;
    absl::Duration deadline;
    bool partial = false;
  };
  // A connection that gRPC has. `watch` is a duplicate that only shows when it ends.
  struct Open {
    base::UniqueFd watch;
    uid_t uid;
  };
  struct UserServer;

  Server(const ServerOptions& options, ListeningSocket socket, std::unique_ptr<Daemon> daemon);
  bool Idle();
  absl::Duration NextWake() const;
  void Accept();
  void PauseAccept(int error);
  bool Admit(int fd, uid_t* uid) const;
  // False: the connection is no longer pending: closed, or with gRPC.
  bool Examine(Pending* pending);
  void HandOver(Pending* pending);
  UserServer* ServerOf(uid_t uid);
  void CloseEnded(const std::vector<int>& ended);
  void CountChanged(uid_t uid);
  void ShutDown();

  const ServerOptions options_;
  ListeningSocket socket_;
  std::unique_ptr<Daemon> daemon_;
  std::map<uid_t, std::unique_ptr<UserServer>> servers_;
  std::list<Pending> pending_;
  std::list<Open> open_;
  absl::Duration idle_since_;
  // Monotonic. The server accepts no connection until then: the last accept failed for lack of
  // descriptors or memory.
  absl::Duration accept_after_ = -absl::InfiniteDuration();
  absl::Duration accept_logged_ = -absl::InfiniteDuration();
};

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_SERVER_H_
