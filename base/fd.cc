// SPDX-License-Identifier: Apache-2.0
#include "base/fd.h"

#include <unistd.h>

#include <cerrno>

namespace ktstr::base {

void UniqueFd::Reset(int fd) {
  if (fd_ >= 0 && fd_ != fd) {
    int saved = errno;
    close(fd_);
    errno = saved;
  }
  fd_ = fd;
}

}  // namespace ktstr::base
