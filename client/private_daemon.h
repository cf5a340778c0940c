// SPDX-License-Identifier: Apache-2.0
//
// Starts the user's own daemon when none serves its socket, and prepares the directory of the
// socket. The daemon outlives the client that started it and ends by itself when idle. Any thread.

#ifndef KTSTR_CLIENT_PRIVATE_DAEMON_H_
#define KTSTR_CLIENT_PRIVATE_DAEMON_H_

#include <sys/types.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace ktstr::client {

// Makes the socket's directory (0700) or checks the one that is there: a directory, no link, of
// user `uid`, closed to others.
absl::Status PrepareSocketDirectory(const std::string& directory, uid_t uid);

struct DaemonStart {
  std::string socket;
  std::string program;  // ktstrd
  absl::Duration timeout = absl::Seconds(30);
  int interrupt_fd = -1;  // Readable: give up with Cancelled.
};

// Starts the daemon in a session of its own, its messages in ktstrd.log beside the socket, and
// waits until it reports that it serves. Returns the socket to connect to: `start.socket`, also
// when another daemon serves it already, or that of the daemon that uses the same cache directory.
absl::StatusOr<std::string> StartDaemon(const DaemonStart& start);

// Checks the socket that a lock file named. Unavailable when it does not exist, FailedPrecondition
// when it is no socket or belongs to another user.
absl::Status CheckOwnSocket(const std::string& path);

// ktstrd beside this program, else on PATH.
absl::StatusOr<std::string> FindDaemonProgram();

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_PRIVATE_DAEMON_H_
