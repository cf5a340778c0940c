// SPDX-License-Identifier: Apache-2.0
//
// Files and directories. Every error names its path. Any thread.

#ifndef KTSTR_BASE_FILE_H_
#define KTSTR_BASE_FILE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/fd.h"

namespace ktstr::base {

// open(2) with O_CLOEXEC added.
absl::StatusOr<UniqueFd> Open(const std::string& path, int flags, int mode = 0);

// Whole content. ResourceExhausted when it is larger than `max_bytes`. Works for /proc and /sys.
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes = size_t{64} << 20);
absl::StatusOr<std::string> ReadFd(int fd, std::string_view name, size_t max_bytes);

// pread(2) from `offset` until `size` bytes are there or the file ends; returns how many there are.
absl::StatusOr<size_t> ReadAt(int fd, void* to, size_t size, uint64_t offset,
                              std::string_view name);
// pwrite(2) until all is written.
absl::Status WriteAt(int fd, std::string_view data, uint64_t offset, std::string_view name);

// Calls write(2) until all is written.
absl::Status WriteAll(int fd, std::string_view data, std::string_view name);
// Neither creates nor truncates the file: for /proc, /sys and cgroup files.
absl::Status WriteExisting(const std::string& path, std::string_view data);

// ftruncate(2).
absl::Status Resize(int fd, uint64_t size, std::string_view name);

// Temporary file in the same directory, fsync, rename, fsync of the directory. Whichever step
// fails, and wherever the process or the machine ends, `path` holds the whole old content or the
// whole new content. A process that is killed may leave the temporary file, PATH.XXXXXX.
absl::Status WriteFileAtomic(const std::string& path, std::string_view data, int mode = 0644);

// mkdir -p; new directories get `mode`, and are on the disk when it returns.
absl::Status MakeDirs(const std::string& path, int mode = 0755);
// rm -r without following links; a missing path is no error.
absl::Status RemoveAll(const std::string& path);
absl::Status FsyncDir(const std::string& path);
// Names without "." and "..", sorted.
absl::StatusOr<std::vector<std::string>> ListDir(const std::string& path);
bool Exists(const std::string& path);

// Joins with one "/"; an absolute `b` replaces `a`.
std::string JoinPath(std::string_view a, std::string_view b);
std::string_view Basename(std::string_view path);
std::string_view Dirname(std::string_view path);  // "." when there is none.

// Close-on-exec, `size` bytes (sparse), without seals.
absl::StatusOr<UniqueFd> MakeMemfd(const std::string& name, uint64_t size);
// Makes content and size final (F_SEAL_WRITE and others). FailedPrecondition while a shared
// writable mapping of it exists.
absl::Status SealMemfd(int fd, std::string_view name);
// True after SealMemfd.
bool IsSealed(int fd);
// Opens the same file again, for reading, with an offset of its own.
absl::StatusOr<UniqueFd> Reopen(int fd, std::string_view name);

// A private directory under $TMPDIR or /tmp; the destructor removes it with its content.
class TempDir {
 public:
  static absl::StatusOr<TempDir> Make(std::string_view prefix);
  TempDir(TempDir&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TempDir& operator=(TempDir&&) = delete;
  ~TempDir();
  const std::string& path() const { return path_; }

 private:
  explicit TempDir(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

}  // namespace ktstr::base

#endif  // KTSTR_BASE_FILE_H_
