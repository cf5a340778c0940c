// SPDX-License-Identifier: Apache-2.0
#include "client/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/string_view.h"

namespace ktstr::client {
namespace {

// A path of the wrong kind is an error of the user, as a missing path is: not Internal.
absl::Status Unusable(int error, absl::string_view what) {
  absl::Status status = base::ErrnoStatus(error, base::ToStd(what));
  return absl::IsInternal(status) ? absl::FailedPreconditionError(status.message()) : status;
}

std::string DirectoryOf(const std::string& path) { return std::string(base::Dirname(path)); }

// The path of the file that `path` leads to: follows symbolic links, also to a missing file.
absl::StatusOr<std::string> Target(std::string path) {
  for (int links = 0; links < 40; ++links) {
    char next[PATH_MAX];
    const ssize_t size = readlink(path.c_str(), next, sizeof(next));
    if (size < 0) return path;
    path = base::JoinPath(DirectoryOf(path), std::string(next, static_cast<size_t>(size)));
  }
  return Unusable(ELOOP, path);
}

mode_t ModeOfNewFiles() {
  const mode_t mask = umask(0);
  umask(mask);
  return 0666 & ~mask;
}

}  // namespace

absl::Status CheckOutputFile(absl::string_view flag, const std::string& path) {
  if (path.empty()) return absl::OkStatus();
  const std::string what = absl::StrCat(flag, ": ", path);
  struct stat info {};
  if (stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    if (S_ISDIR(info.st_mode)) return Unusable(EISDIR, what);
    if (access(path.c_str(), W_OK) != 0) return Unusable(errno, what);
    return absl::OkStatus();
  }
  KTSTR_ASSIGN_OR_RETURN(const std::string target, Target(path));
  const std::string directory = DirectoryOf(target);
  if (stat(directory.c_str(), &info) != 0) return Unusable(errno, what);
  if (!S_ISDIR(info.st_mode)) return Unusable(ENOTDIR, what);
  if (access(directory.c_str(), W_OK | X_OK) != 0) return Unusable(errno, what);
  return absl::OkStatus();
}

absl::Status CheckOutputDirectory(absl::string_view flag, const std::string& path) {
  if (path.empty()) return absl::OkStatus();
  const std::string what = absl::StrCat(flag, ": ", path);
  std::string at = path;
  struct stat info {};
  while (stat(at.c_str(), &info) != 0) {
    if (errno != ENOENT) return Unusable(errno, what);
    at = DirectoryOf(at);
  }
  if (!S_ISDIR(info.st_mode)) return Unusable(ENOTDIR, what);
  if (access(at.c_str(), W_OK | X_OK) != 0) return Unusable(errno, what);
  return absl::OkStatus();
}

absl::Status WriteOutputFile(const std::string& path, absl::string_view data) {
  struct stat info {};
  if (stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    KTSTR_ASSIGN_OR_RETURN(base::UniqueFd fd, base::Open(path, O_WRONLY));
    return OutputError(base::WriteAll(fd.get(), base::ToStd(data), path));
  }
  KTSTR_ASSIGN_OR_RETURN(const std::string target, Target(path));
  return OutputError(
      base::WriteFileAtomic(target, base::ToStd(data), static_cast<int>(ModeOfNewFiles())));
}

absl::Status OutputError(const absl::Status& status) {
  if (!absl::IsResourceExhausted(status)) return status;
  return absl::FailedPreconditionError(
      absl::StrCat(status.message(), ". Free space there, or name another place"));
}

}  // namespace ktstr::client
