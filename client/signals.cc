// SPDX-License-Identifier: Apache-2.0
#include "client/signals.h"

#include <sys/signalfd.h>
#include <unistd.h>

#include "base/log.h"

namespace ktstr::client {

SignalFd::SignalFd() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, &old_mask_);
  fd_.Reset(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  KTSTR_CHECK(fd_.valid()) << "signalfd";
}

SignalFd::~SignalFd() {
  // Unblocked, a pending signal would end the program without its exit code.
  while (Take()) {
  }
  pthread_sigmask(SIG_SETMASK, &old_mask_, nullptr);
}

bool SignalFd::Take() {
  signalfd_siginfo info;
  return read(fd_.get(), &info, sizeof(info)) == sizeof(info);
}

}  // namespace ktstr::client
