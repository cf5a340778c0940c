// SPDX-License-Identifier: Apache-2.0
#include "base/flock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "base/wait_scope.h"

namespace ktstr::base {
namespace {

struct BadFileSystem {
  uint32_t magic;  // statfs(2), linux/magic.h; CephFS and SMB2 from their sources' super.c
  const char* name;
};
constexpr BadFileSystem kBadFileSystems[] = {
    {0x6969, "NFS"},        {0xff534d42, "CIFS"}, {0xfe534d42, "SMB2"}, {0x517b, "SMB"},
    {0x00c36400, "CephFS"}, {0x5346414f, "AFS"},  {0x6b414653, "AFS"},  {0x65735546, "FUSE"},
};

// flock(2) has no time-out of its own: Acquire tries again after each interval.
constexpr absl::Duration kPollInterval = absl::Milliseconds(50);

absl::Status CheckFileSystem(int fd, const std::string& path) {
  struct statfs fs {};
  if (fstatfs(fd, &fs) != 0) return ErrnoStatus(errno, absl::StrCat("statfs ", path));
  for (const BadFileSystem& bad : kBadFileSystems) {
    if (static_cast<uint32_t>(fs.f_type) == bad.magic) {
      return absl::FailedPreconditionError(absl::StrCat(
          path, ": filesystem ", bad.name,
          " is not supported for ktstr lockfiles (flock(2) is not reliable there). Move the "
          "lockfile path to a local filesystem (tmpfs, ext4, xfs, btrfs, f2fs, bcachefs)."));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> OpenLockFile(const std::string& path) {
  KTSTR_ASSIGN_OR_RETURN(UniqueFd fd, Open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0644));
  KTSTR_RETURN_IF_ERROR(CheckFileSystem(fd.get(), path));
  return fd;
}

// True: taken. False: another descriptor holds it.
absl::StatusOr<bool> TryLock(int fd, LockMode mode, const std::string& path) {
  int operation = (mode == LockMode::kShared ? LOCK_SH : LOCK_EX) | LOCK_NB;
  while (flock(fd, operation) != 0) {
    if (errno == EINTR) continue;
    if (errno == EWOULDBLOCK) return false;
    return ErrnoStatus(errno, absl::StrCat("flock ", path));
  }
  return true;
}

std::string DescribeHolders(const std::string& path) {
  std::vector<std::string> parts;
  for (const LockHolder& holder : LockHolders(path)) {
    parts.push_back(absl::StrCat("pid=", holder.pid, " cmd=", holder.command));
  }
  return parts.empty() ? "unknown" : absl::StrJoin(parts, ", ");
}

}  // namespace

absl::StatusOr<FileLock> FileLock::Acquire(const std::string& path, LockMode mode,
                                           absl::Duration timeout, std::string_view what) {
  KTSTR_ASSIGN_OR_RETURN(UniqueFd fd, OpenLockFile(path));
  const absl::Duration deadline = RealClock()->Monotonic() + timeout;
  for (bool told = false;; told = true) {
    KTSTR_ASSIGN_OR_RETURN(bool taken, TryLock(fd.get(), mode, path));
    if (taken) return FileLock(std::move(fd));
    if (RealClock()->Monotonic() >= deadline) break;
    if (!told) {
      WaitScope::Waiting(absl::StrCat("waiting for ", ToAbsl(what), " (lockfile ", path,
                                      ", holders: ", DescribeHolders(path), ")"));
    }
    if (WaitScope::Cancelled()) {
      return absl::CancelledError(
          absl::StrCat("cancelled while waiting for ", ToAbsl(what), " (lockfile ", path, ")"));
    }
    absl::SleepFor(std::min(kPollInterval, deadline - RealClock()->Monotonic()));
  }
  return absl::DeadlineExceededError(absl::StrCat(
      "flock ", mode == LockMode::kShared ? "LOCK_SH" : "LOCK_EX", " on ", ToAbsl(what),
      " timed out after ", absl::FormatDuration(timeout), " (lockfile ", path, ", holders: ",
      DescribeHolders(path), "). Wait for the holder to finish or end it, then retry."));
}

absl::StatusOr<FileLock> FileLock::TryAcquire(const std::string& path, LockMode mode) {
  KTSTR_ASSIGN_OR_RETURN(UniqueFd fd, OpenLockFile(path));
  KTSTR_ASSIGN_OR_RETURN(bool taken, TryLock(fd.get(), mode, path));
  if (!taken) {
    return absl::UnavailableError(
        absl::StrCat(path, " is held (holders: ", DescribeHolders(path), ")"));
  }
  return FileLock(std::move(fd));
}

std::vector<LockHolder> LockHolders(const std::string& path) {
  std::vector<LockHolder> holders;
  struct stat info {};
  absl::StatusOr<std::string> locks = ReadFile("/proc/locks");
  if (stat(path.c_str(), &info) != 0 || !locks.ok()) return holders;
  // "1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF"; waiters have "->" after the first number.
  std::string wanted = absl::StrFormat("%02x:%02x:%d", major(info.st_dev), minor(info.st_dev),
                                       static_cast<long long>(info.st_ino));
  for (absl::string_view line : absl::StrSplit(*locks, '\n')) {
    std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    pid_t pid = 0;
    if (words.size() < 6 || words[1] != "FLOCK" || words[5] != wanted ||
        !absl::SimpleAtoi(words[4], &pid)) {
      continue;
    }
    absl::StatusOr<std::string> command =
        ReadFile(absl::StrCat("/proc/", pid, "/cmdline"), size_t{1} << 20);
    std::string text = command.ok() ? *command : "";
    while (!text.empty() && text.back() == '\0') text.pop_back();
    std::replace(text.begin(), text.end(), '\0', ' ');
    holders.push_back({pid, text});
  }
  return holders;
}

}  // namespace ktstr::base
