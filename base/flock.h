// SPDX-License-Identifier: Apache-2.0
//
// Advisory locks by flock(2) on files of their own. An open descriptor holds the lock, so a crash
// frees it; the file stays. Refuses file systems on which flock(2) is unreliable (NFS, CIFS, SMB,
// CephFS, AFS, FUSE). Any thread.

#ifndef KTSTR_BASE_FLOCK_H_
#define KTSTR_BASE_FLOCK_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/fd.h"

namespace ktstr::base {

enum class LockMode { kShared, kExclusive };

class FileLock {
 public:
  // Makes the file (0644, O_NOFOLLOW) when it is missing and polls until `timeout`. Cancelled when
  // the thread's WaitScope is.
  // DeadlineExceeded names the holders: "flock LOCK_EX on WHAT timed out after 30s (lockfile PATH,
  // holders: pid=1 cmd=...)".
  static absl::StatusOr<FileLock> Acquire(const std::string& path, LockMode mode,
                                          absl::Duration timeout, std::string_view what);
  // Does not wait: Unavailable when another descriptor holds the lock.
  static absl::StatusOr<FileLock> TryAcquire(const std::string& path, LockMode mode);
  int fd() const { return fd_.get(); }

 private:
  explicit FileLock(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

struct LockHolder {
  pid_t pid;
  std::string command;  // Command line, spaces between arguments; empty when the process is gone.
};
// From /proc/locks, by device and inode of `path`.
std::vector<LockHolder> LockHolders(const std::string& path);

}  // namespace ktstr::base

#endif  // KTSTR_BASE_FLOCK_H_
