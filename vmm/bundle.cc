// SPDX-License-Identifier: Apache-2.0
#include "vmm/bundle.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace ktstr::vmm {
namespace {

constexpr uint64_t kMaxFile = 0xffffffffULL;  // Eight hex digits.
constexpr char kName[] = "bundle";
constexpr char kTrailer[] = "TRAILER!!!";

bool ValidPath(const std::string& path) {
  if (path.empty() || path.size() > 1000 || path.find('\0') != std::string::npos) return false;
  for (absl::string_view part : absl::StrSplit(path, '/')) {
    if (part.empty() || part == "." || part == "..") return false;
  }
  return true;
}

std::string Padding(uint64_t size) { return std::string((4 - size % 4) % 4, '\0'); }

std::string Header(const std::string& path, uint32_t inode, uint32_t mode, uint64_t size) {
  // magic, ino, mode, uid, gid, nlink, mtime, filesize, four device numbers, namesize, check
  std::string header =
      absl::StrFormat("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", inode, mode, 0,
                      0, 1, 0, size, 0, 0, 0, 0, path.size() + 1, 0);
  header += path;
  header.push_back('\0');
  return header + Padding(header.size());
}

uint64_t EntryBytes(const std::string& path, uint64_t size) {
  return Header(path, 0, 0, size).size() + size + Padding(size).size();
}

absl::Status CheckFile(int fd, uint64_t size, const std::string& path) {
  struct stat info;
  if (fstat(fd, &info) != 0) return base::ErrnoStatus(errno, absl::StrCat("bundle: ", path));
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat("bundle: ", path, " is not a regular file"));
  }
  if (static_cast<uint64_t>(info.st_size) == size) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("bundle: ", path, " has ", info.st_size, " bytes, not ", size));
}

absl::Status CopyFile(int from, uint64_t size, const std::string& path, int to) {
  std::vector<char> buffer(size_t{1} << 20);
  for (uint64_t done = 0; done < size;) {
    const size_t piece = std::min<uint64_t>(buffer.size(), size - done);
    KTSTR_ASSIGN_OR_RETURN(const size_t got, base::ReadAt(from, buffer.data(), piece, done, path));
    if (got < piece) {
      return absl::DataLossError(
          absl::StrCat("bundle: ", path, " ends after ", done + got, " of ", size, " bytes"));
    }
    KTSTR_RETURN_IF_ERROR(base::WriteAll(to, {buffer.data(), piece}, kName));
    done += piece;
  }
  return absl::OkStatus();
}

}  // namespace

void BundleBuilder::Add(std::string path, Entry entry) {
  if (!error_.ok()) return;
  if (!ValidPath(path)) {
    error_ = absl::InvalidArgumentError(
        absl::StrCat("bundle: path \"", path, "\" is not a plain relative path"));
    return;
  }
  if (entry.size > kMaxFile) {
    error_ = absl::InvalidArgumentError(absl::StrCat("bundle: ", path, " has 4 GiB or more"));
    return;
  }
  auto [at, added] = entries_.emplace(std::move(path), std::move(entry));
  if (!added) {
    error_ = absl::InvalidArgumentError(absl::StrCat("bundle: path ", at->first, " comes twice"));
  }
}

void BundleBuilder::AddData(std::string path, std::string data, int mode) {
  Entry entry;
  entry.mode = S_IFREG | static_cast<uint32_t>(mode);
  entry.size = data.size();
  entry.data = std::move(data);
  Add(std::move(path), std::move(entry));
}

void BundleBuilder::AddDirectory(std::string path, int mode) {
  Entry entry;
  entry.mode = S_IFDIR | static_cast<uint32_t>(mode);
  Add(std::move(path), std::move(entry));
}

void BundleBuilder::AddFile(std::string path, uint64_t size, int mode, Opener open) {
  Entry entry;
  entry.mode = S_IFREG | static_cast<uint32_t>(mode);
  entry.size = size;
  entry.open = std::move(open);
  Add(std::move(path), std::move(entry));
}

absl::Status BundleBuilder::AddParents() {
  std::vector<std::string> paths;
  for (const auto& [path, entry] : entries_) paths.push_back(path);
  for (const std::string& path : paths) {
    for (size_t slash = path.find('/'); slash != std::string::npos;
         slash = path.find('/', slash + 1)) {
      auto [at, added] = entries_.try_emplace(path.substr(0, slash));
      if (added) at->second.mode = S_IFDIR | 0755;
      if (!S_ISDIR(at->second.mode)) {
        return absl::InvalidArgumentError(
            absl::StrCat("bundle: ", at->first, " is a file, but ", path, " is below it"));
      }
    }
  }
  return absl::OkStatus();
}

uint64_t BundleBuilder::ArchiveBytes() const {
  uint64_t bytes = EntryBytes(kTrailer, 0);
  for (const auto& [path, entry] : entries_) bytes += EntryBytes(path, entry.size);
  return bytes;
}

absl::StatusOr<uint64_t> BundleBuilder::Bytes(uint64_t max_bytes) {
  KTSTR_RETURN_IF_ERROR(error_);
  KTSTR_RETURN_IF_ERROR(AddParents());
  const uint64_t bytes = ArchiveBytes();
  if (bytes <= max_bytes) return bytes;
  return absl::InvalidArgumentError(absl::StrCat("bundle: ", bytes, " bytes of ", entries_.size(),
                                                 " files and directories, at most ", max_bytes));
}

absl::StatusOr<base::UniqueFd> BundleBuilder::Finish(uint64_t max_bytes) {
  KTSTR_RETURN_IF_ERROR(Bytes(max_bytes).status());
  KTSTR_ASSIGN_OR_RETURN(base::UniqueFd memfd, base::MakeMemfd("ktstr-bundle", 0));
  uint32_t inode = 0;
  // A directory sorts before what is below it.
  for (const auto& [path, entry] : entries_) {
    KTSTR_RETURN_IF_ERROR(
        base::WriteAll(memfd.get(), Header(path, ++inode, entry.mode, entry.size), kName));
    if (entry.open) {
      KTSTR_ASSIGN_OR_RETURN(const base::UniqueFd file, entry.open());
      KTSTR_RETURN_IF_ERROR(CheckFile(file.get(), entry.size, path));
      KTSTR_RETURN_IF_ERROR(CopyFile(file.get(), entry.size, path, memfd.get()));
    } else {
      KTSTR_RETURN_IF_ERROR(base::WriteAll(memfd.get(), entry.data, kName));
    }
    KTSTR_RETURN_IF_ERROR(base::WriteAll(memfd.get(), Padding(entry.size), kName));
  }
  KTSTR_RETURN_IF_ERROR(base::WriteAll(memfd.get(), Header(kTrailer, 0, 0, 0), kName));
  return memfd;
}

}  // namespace ktstr::vmm
