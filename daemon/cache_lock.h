// SPDX-License-Identifier: Apache-2.0
//
// One daemon per cache directory. The lock is a flock on CACHE/runs/.locks/ktstrd.lock; the file
// names its holder ("pid 123", "socket /run/user/1000/ktstr/ktstrd.sock", a line each), so that a
// client with another runtime directory finds the daemon that serves its cache. Any thread.

#ifndef KTSTR_DAEMON_CACHE_LOCK_H_
#define KTSTR_DAEMON_CACHE_LOCK_H_

#include <string>

#include "absl/status/statusor.h"
#include "base/flock.h"

namespace ktstr::daemon {

// Takes the lock and writes into it that `socket` serves the cache. AlreadyExists when another
// ktstrd uses the cache; SocketElsewhere() of that status is its socket. FailedPrecondition or
// PermissionDenied when the directory is unusable; the message names an owner that is another user.
absl::StatusOr<base::FileLock> TakeCacheLock(const std::string& cache_dir,
                                             const std::string& socket);

// The socket of the daemon that holds the lock, from a status of TakeCacheLock(). Empty when it is
// not known: the file is another user's, or damaged.
std::string SocketElsewhere(const absl::Status& status);

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_CACHE_LOCK_H_
