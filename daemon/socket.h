// SPDX-License-Identifier: Apache-2.0
//
// The daemon's address: a unix socket and the lock beside it. One daemon per socket, for as long as
// it holds the lock. One thread.

#ifndef KTSTR_DAEMON_SOCKET_H_
#define KTSTR_DAEMON_SOCKET_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/fd.h"
#include "base/flock.h"

namespace ktstr::daemon {

class ListeningSocket {
 public:
  // Takes PATH's lock ("x.sock": "x.lock" beside it) and then puts a listening socket of mode 0600
  // at PATH, over what a dead daemon left there. AlreadyExists when another daemon holds the lock
  // and accepts connections; while one that is just starting or ending holds it, waits up to
  // `patience`. Makes a missing directory with mode 0700. Refuses a directory /tmp/ktstr-* that
  // another user owns or may access.
  static absl::StatusOr<ListeningSocket> Claim(const std::string& path, absl::Duration patience);
  ListeningSocket(ListeningSocket&&) = default;
  ListeningSocket& operator=(ListeningSocket&&) = delete;
  ~ListeningSocket() { Remove(); }

  int fd() const { return fd_.get(); }
  // Unlinks the socket and stops listening; the lock stays until the destructor.
  void Remove();

 private:
  ListeningSocket(std::string path, base::FileLock lock, base::UniqueFd fd)
      : path_(std::move(path)), lock_(std::move(lock)), fd_(std::move(fd)) {}
  std::string path_;
  base::FileLock lock_;
  base::UniqueFd fd_;
};

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_SOCKET_H_
