// SPDX-License-Identifier: Apache-2.0
#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/string_view.h"

namespace ktstr::base {
namespace {

// RemoveAll enters at most this many levels: each takes a descriptor and stack.
constexpr int kMaxDepth = 256;

constexpr int kFinalSeals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

struct CloseDir {
  void operator()(DIR* dir) const { closedir(dir); }
};

absl::Status RemoveChildren(int dir_fd, const std::string& path, int depth);

absl::Status RemoveOne(int parent, const char* name, const std::string& path, int depth) {
  if (unlinkat(parent, name, 0) == 0 || errno == ENOENT) return absl::OkStatus();
  if (errno != EISDIR && errno != EPERM) return ErrnoStatus(errno, absl::StrCat("remove ", path));
  constexpr int kFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  int fd = openat(parent, name, kFlags);
  while (fd < 0 && errno == EINTR) fd = openat(parent, name, kFlags);
  if (fd < 0) return ErrnoStatus(errno, absl::StrCat("open ", path));
  KTSTR_RETURN_IF_ERROR(RemoveChildren(fd, path, depth + 1));
  if (unlinkat(parent, name, AT_REMOVEDIR) != 0 && errno != ENOENT) {
    return ErrnoStatus(errno, absl::StrCat("remove ", path));
  }
  return absl::OkStatus();
}

// Takes ownership of `dir_fd`.
absl::Status RemoveChildren(int dir_fd, const std::string& path, int depth) {
  std::unique_ptr<DIR, CloseDir> dir(fdopendir(dir_fd));
  if (dir == nullptr) {
    int error = errno;
    close(dir_fd);
    return ErrnoStatus(error, absl::StrCat("read ", path));
  }
  if (depth > kMaxDepth) return absl::InternalError(absl::StrCat(path, ": nested too deep"));
  while (dirent* entry = readdir(dir.get())) {
    std::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    KTSTR_RETURN_IF_ERROR(RemoveOne(dirfd(dir.get()), entry->d_name, JoinPath(path, name), depth));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<UniqueFd> Open(const std::string& path, int flags, int mode) {
  int fd = open(path.c_str(), flags | O_CLOEXEC, mode);
  while (fd < 0 && errno == EINTR) fd = open(path.c_str(), flags | O_CLOEXEC, mode);
  if (fd < 0) return ErrnoStatus(errno, path);
  return UniqueFd(fd);
}

absl::StatusOr<std::string> ReadFd(int fd, std::string_view name, size_t max_bytes) {
  std::string data;
  char buffer[1 << 16];
  for (;;) {
    ssize_t got = read(fd, buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus(errno, absl::StrCat("read ", ToAbsl(name)));
    if (got == 0) return data;
    if (data.size() + static_cast<size_t>(got) > max_bytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat(ToAbsl(name), ": larger than ", max_bytes, " bytes"));
    }
    data.append(buffer, static_cast<size_t>(got));
  }
}

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes) {
  KTSTR_ASSIGN_OR_RETURN(UniqueFd fd, Open(path, O_RDONLY));
  return ReadFd(fd.get(), path, max_bytes);
}

absl::StatusOr<size_t> ReadAt(int fd, void* to, size_t size, uint64_t offset,
                              std::string_view name) {
  size_t done = 0;
  while (done < size) {
    const ssize_t got =
        pread(fd, static_cast<char*>(to) + done, size - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus(errno, absl::StrCat("read ", ToAbsl(name)));
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  return done;
}

absl::Status WriteAt(int fd, std::string_view data, uint64_t offset, std::string_view name) {
  while (!data.empty()) {
    const ssize_t put = pwrite(fd, data.data(), data.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return ErrnoStatus(put < 0 ? errno : EIO, absl::StrCat("write ", ToAbsl(name)));
    data.remove_prefix(static_cast<size_t>(put));
    offset += static_cast<uint64_t>(put);
  }
  return absl::OkStatus();
}

absl::Status WriteAll(int fd, std::string_view data, std::string_view name) {
  while (!data.empty()) {
    ssize_t put = write(fd, data.data(), data.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return ErrnoStatus(errno, absl::StrCat("write ", ToAbsl(name)));
    data.remove_prefix(static_cast<size_t>(put));
  }
  return absl::OkStatus();
}

absl::Status WriteExisting(const std::string& path, std::string_view data) {
  KTSTR_ASSIGN_OR_RETURN(UniqueFd fd, Open(path, O_WRONLY));
  return WriteAll(fd.get(), data, path);
}

absl::Status Resize(int fd, uint64_t size, std::string_view name) {
  int done = ftruncate(fd, static_cast<off_t>(size));
  while (done != 0 && errno == EINTR) done = ftruncate(fd, static_cast<off_t>(size));
  if (done == 0) return absl::OkStatus();
  return ErrnoStatus(errno, absl::StrCat("resize ", ToAbsl(name), " to ", size, " bytes"));
}

absl::Status WriteFileAtomic(const std::string& path, std::string_view data, int mode) {
  std::string temporary = absl::StrCat(path, ".XXXXXX");
  UniqueFd fd(mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, absl::StrCat("create ", temporary));
  absl::Status status = WriteAll(fd.get(), data, temporary);
  if (status.ok() && fchmod(fd.get(), static_cast<mode_t>(mode)) != 0) {
    status = ErrnoStatus(errno, absl::StrCat("chmod ", temporary));
  }
  if (status.ok() && fsync(fd.get()) != 0)
    status = ErrnoStatus(errno, absl::StrCat("fsync ", path));
  if (status.ok() && rename(temporary.c_str(), path.c_str()) != 0) {
    status = ErrnoStatus(errno, absl::StrCat("rename to ", path));
  }
  if (!status.ok()) {
    unlink(temporary.c_str());
    return status;
  }
  return FsyncDir(std::string(Dirname(path)));
}

absl::Status MakeDirs(const std::string& path, int mode) {
  if (path.empty()) return absl::InvalidArgumentError("mkdir: empty path");
  for (size_t at = path.find('/', 1);; at = path.find('/', at + 1)) {
    std::string part = path.substr(0, at);
    if (mkdir(part.c_str(), static_cast<mode_t>(mode)) != 0) {
      int error = errno;
      struct stat info {};
      if (stat(part.c_str(), &info) != 0) return ErrnoStatus(error, absl::StrCat("mkdir ", part));
      if (!S_ISDIR(info.st_mode)) {
        return absl::FailedPreconditionError(absl::StrCat("mkdir ", part, ": not a directory"));
      }
    } else {
      KTSTR_RETURN_IF_ERROR(FsyncDir(std::string(Dirname(part))));
    }
    if (at == std::string::npos) return absl::OkStatus();
  }
}

absl::Status RemoveAll(const std::string& path) {
  return RemoveOne(AT_FDCWD, path.c_str(), path, 0);
}

absl::Status FsyncDir(const std::string& path) {
  KTSTR_ASSIGN_OR_RETURN(UniqueFd fd, Open(path, O_RDONLY | O_DIRECTORY));
  // EINVAL: the kernel's own trees (cgroup, proc) have no disk behind them.
  if (fsync(fd.get()) != 0 && errno != EINVAL) {
    return ErrnoStatus(errno, absl::StrCat("fsync ", path));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> ListDir(const std::string& path) {
  std::unique_ptr<DIR, CloseDir> dir(opendir(path.c_str()));
  if (dir == nullptr) return ErrnoStatus(errno, path);
  std::vector<std::string> names;
  while (dirent* entry = readdir(dir.get())) {
    std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(std::move(name));
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

std::string JoinPath(std::string_view a, std::string_view b) {
  if (a.empty() || (!b.empty() && b.front() == '/')) return std::string(b);
  if (b.empty()) return std::string(a);
  return absl::StrCat(ToAbsl(a), a.back() == '/' ? "" : "/", ToAbsl(b));
}

std::string_view Basename(std::string_view path) {
  size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

std::string_view Dirname(std::string_view path) {
  size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  return slash == 0 ? path.substr(0, 1) : path.substr(0, slash);
}

absl::StatusOr<UniqueFd> MakeMemfd(const std::string& name, uint64_t size) {
  UniqueFd fd(memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return ErrnoStatus(errno, absl::StrCat("memfd_create ", name));
  KTSTR_RETURN_IF_ERROR(Resize(fd.get(), size, absl::StrCat("memfd ", name)));
  return fd;
}

absl::Status SealMemfd(int fd, std::string_view name) {
  if (fcntl(fd, F_ADD_SEALS, kFinalSeals) == 0) return absl::OkStatus();
  if (errno == EBUSY) {
    return absl::FailedPreconditionError(
        absl::StrCat("sealing ", ToAbsl(name), ": it is still mapped for writing"));
  }
  return ErrnoStatus(errno, absl::StrCat("sealing ", ToAbsl(name)));
}

bool IsSealed(int fd) {
  const int seals = fcntl(fd, F_GET_SEALS);
  return seals >= 0 && (seals & kFinalSeals) == kFinalSeals;
}

absl::StatusOr<UniqueFd> Reopen(int fd, std::string_view name) {
  UniqueFd again(open(absl::StrCat("/proc/self/fd/", fd).c_str(), O_RDONLY | O_CLOEXEC));
  if (!again.valid()) return ErrnoStatus(errno, absl::StrCat("opening ", ToAbsl(name), " again"));
  return again;
}

absl::StatusOr<TempDir> TempDir::Make(std::string_view prefix) {
  const char* base = getenv("TMPDIR");
  std::string path = JoinPath(base != nullptr && *base != '\0' ? base : "/tmp",
                              absl::StrCat(ToAbsl(prefix), ".XXXXXX"));
  if (mkdtemp(path.data()) == nullptr) return ErrnoStatus(errno, absl::StrCat("mkdtemp ", path));
  return TempDir(std::move(path));
}

TempDir::~TempDir() {
  if (path_.empty()) return;
  if (absl::Status status = RemoveAll(path_); !status.ok()) KTSTR_LOG(WARNING) << status.message();
}

}  // namespace ktstr::base
