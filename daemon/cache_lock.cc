// SPDX-License-Identifier: Apache-2.0
#include "daemon/cache_lock.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "daemon/caller.h"

namespace ktstr::daemon {
namespace {

constexpr char kSocketPayload[] = "ktstr/socket-elsewhere";
constexpr size_t kMaxLockText = 4096;
// A holder writes into its file right after it takes the lock.
constexpr absl::Duration kHolderPatience = absl::Seconds(2);
constexpr int kLookAgainMs = 20;

// The socket that the lock's file names; empty when the file is not ours or names none.
std::string HolderSocket(const std::string& path) {
  const absl::StatusOr<base::UniqueFd> fd = base::Open(path, O_RDONLY | O_NOFOLLOW);
  struct stat info;
  if (!fd.ok() || fstat(fd->get(), &info) != 0 || info.st_uid != geteuid()) return "";
  std::string text(kMaxLockText, '\0');
  text.resize(base::ReadAt(fd->get(), text.data(), text.size(), 0, path).value_or(0));
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::ConsumePrefix(&line, "socket ") && !line.empty() && line[0] == '/') {
      return std::string(line);
    }
  }
  return "";
}

std::string WaitForHolderSocket(const std::string& path) {
  const absl::Duration deadline = base::RealClock()->Monotonic() + kHolderPatience;
  while (true) {
    std::string socket = HolderSocket(path);
    if (!socket.empty() || base::RealClock()->Monotonic() >= deadline) return socket;
    poll(nullptr, 0, kLookAgainMs);
  }
}

absl::Status WriteHolder(const base::FileLock& lock, const std::string& path,
                         const std::string& socket) {
  std::error_code error;
  const std::string text = absl::StrCat("pid ", getpid(), "\nsocket ",
                                        std::filesystem::absolute(socket, error).native(), "\n");
  if (error) return absl::InternalError(absl::StrCat(socket, ": ", error.message()));
  if (ftruncate(lock.fd(), 0) != 0 || lseek(lock.fd(), 0, SEEK_SET) != 0) {
    return base::ErrnoStatus(errno, path);
  }
  return base::WriteAll(lock.fd(), text, path);
}

// "; DIR belongs to user anna, not to you ..." for the first directory that another user owns.
std::string OwnerNote(const std::string& cache_dir) {
  for (const char* below : {"runs", ""}) {
    const std::string path = base::JoinPath(cache_dir, below);
    struct stat info;
    if (stat(path.c_str(), &info) != 0 || info.st_uid == geteuid()) continue;
    return absl::StrCat("; ", path, " belongs to user ", UserName(info.st_uid), ", not to you (",
                        UserName(geteuid()), "): set KTSTR_CACHE_DIR to a directory of your own");
  }
  return "";
}

}  // namespace

absl::StatusOr<base::FileLock> TakeCacheLock(const std::string& cache_dir,
                                             const std::string& socket) {
  const std::string directory = base::JoinPath(cache_dir, "runs/.locks");
  const std::string path = base::JoinPath(directory, "ktstrd.lock");
  absl::Status made = base::MakeDirs(directory, 0700);
  absl::StatusOr<base::FileLock> lock =
      made.ok() ? base::FileLock::TryAcquire(path, base::LockMode::kExclusive)
                : absl::StatusOr<base::FileLock>(made);
  if (absl::IsPermissionDenied(lock.status())) {
    return absl::PermissionDeniedError(absl::StrCat(lock.status().message(), OwnerNote(cache_dir)));
  }
  if (absl::IsUnavailable(lock.status())) {
    const std::string elsewhere = WaitForHolderSocket(path);
    absl::Status taken = absl::AlreadyExistsError(absl::StrCat(
        "another ktstrd uses the cache directory ", cache_dir, " with ",
        elsewhere.empty() ? "another socket" : absl::StrCat("the socket ", elsewhere), ": ",
        lock.status().message(), ". Use its socket (--socket), or another KTSTR_CACHE_DIR"));
    if (!elsewhere.empty()) taken.SetPayload(kSocketPayload, absl::Cord(elsewhere));
    return taken;
  }
  KTSTR_RETURN_IF_ERROR(lock.status());
  KTSTR_RETURN_IF_ERROR(WriteHolder(*lock, path, socket));
  return lock;
}

std::string SocketElsewhere(const absl::Status& status) {
  const auto payload = status.GetPayload(kSocketPayload);
  return payload.has_value() ? std::string(*payload) : "";
}

}  // namespace ktstr::daemon
