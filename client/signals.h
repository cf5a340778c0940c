// SPDX-License-Identifier: Apache-2.0
//
// SIGINT and SIGTERM as a descriptor to poll. Make one before any thread starts: threads inherit
// the blocked mask.

#ifndef KTSTR_CLIENT_SIGNALS_H_
#define KTSTR_CLIENT_SIGNALS_H_

#include <csignal>

#include "base/fd.h"

namespace ktstr::client {

class SignalFd {
 public:
  SignalFd();
  ~SignalFd();  // Drops pending signals and restores the mask of the thread.
  SignalFd(const SignalFd&) = delete;
  SignalFd& operator=(const SignalFd&) = delete;
  int fd() const { return fd_.get(); }
  // Takes one pending signal; false when there is none.
  bool Take();

 private:
  sigset_t old_mask_;
  base::UniqueFd fd_;
};

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_SIGNALS_H_
