// SPDX-License-Identifier: Apache-2.0
#include "cache/snapshot_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <ctime>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/log.h"
#include "base/page_digest.h"
#include "base/sha256.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "scenario/json.h"

namespace ktstr::cache {
namespace {

constexpr uint32_t kSchemaVersion = 1;
constexpr char kMetadataName[] = "metadata.json";
constexpr char kTemporaryDir[] = ".tmp";
constexpr uint64_t kPage = base::PageDigest::kPageSize;
constexpr uint64_t kPiece = 256 * kPage;
constexpr uint64_t kDiskBlock = 512;  // Unit of st_blocks.
constexpr size_t kMaxMetadataBytes = size_t{1} << 20;
constexpr int kMaxNodes = 64;

// Copies the pages of a sparse file that are not zero to the same offsets of another file, and
// takes the digest.
class SparseCopy {
 public:
  SparseCopy(int from, int to, std::string name) : from_(from), to_(to), name_(std::move(name)) {}

  // The digest of v1::SnapshotFile.
  absl::StatusOr<std::string> Run(uint64_t size) {
    uint64_t at = 0;
    while (at < size) {
      const off_t data = lseek(from_, static_cast<off_t>(at), SEEK_DATA);
      if (data < 0 && errno == ENXIO) break;
      const off_t hole = data < 0 ? -1 : lseek(from_, data, SEEK_HOLE);
      if (hole < 0) return base::ErrnoStatus(errno, absl::StrCat("read ", name_));
      const uint64_t begin = static_cast<uint64_t>(data) / kPage * kPage;
      const uint64_t end =
          std::min((static_cast<uint64_t>(hole) + kPage - 1) / kPage * kPage, size);
      for (at = begin; at < end; at += std::min(kPiece, end - at)) {
        KTSTR_RETURN_IF_ERROR(CopyPiece(at, std::min(kPiece, end - at)));
      }
    }
    return digest_.FinishHex();
  }

 private:
  absl::Status CopyPiece(uint64_t at, uint64_t size) {
    KTSTR_ASSIGN_OR_RETURN(const size_t got, base::ReadAt(from_, buffer_.data(), size, at, name_));
    if (got < size) return absl::DataLossError(absl::StrCat(name_, ": ends early"));
    // Neighbours that are not zero are written at once.
    uint64_t run_begin = 0;
    uint64_t run_end = 0;
    for (uint64_t page = 0; page < size; page += kPage) {
      const uint64_t bytes = std::min(kPage, size - page);
      if (!digest_.Add((at + page) / kPage, buffer_.data() + page, bytes)) continue;
      if (page != run_end) {
        KTSTR_RETURN_IF_ERROR(WriteRun(at, run_begin, run_end));
        run_begin = page;
      }
      run_end = page + bytes;
    }
    return WriteRun(at, run_begin, run_end);
  }

  absl::Status WriteRun(uint64_t at, uint64_t begin, uint64_t end) {
    return base::WriteAt(to_, {buffer_.data() + begin, end - begin}, at + begin, name_);
  }

  const int from_;
  const int to_;
  const std::string name_;  // Of the file on disk.
  std::string buffer_ = std::string(kPiece, '\0');
  base::PageDigest digest_;
};

// Writes one file of an entry.
absl::StatusOr<v1::SnapshotFile> WriteFile(const std::string& dir, std::string name, int from) {
  struct stat info;
  if (fstat(from, &info) != 0) return base::ErrnoStatus(errno, "snapshot");
  const std::string path = base::JoinPath(dir, name);
  KTSTR_ASSIGN_OR_RETURN(base::UniqueFd to, base::Open(path, O_RDWR | O_CREAT | O_EXCL, 0600));
  KTSTR_RETURN_IF_ERROR(base::Resize(to.get(), static_cast<uint64_t>(info.st_size), path));
  v1::SnapshotFile file;
  file.set_name(std::move(name));
  file.set_size(static_cast<uint64_t>(info.st_size));
  KTSTR_ASSIGN_OR_RETURN(*file.mutable_sha256(), SparseCopy(from, to.get(), path).Run(file.size()));
  return file;
}

// Reads one file of an entry into a sealed memfd.
absl::StatusOr<base::UniqueFd> ReadSealed(const std::string& dir, const v1::SnapshotFile& file) {
  if (absl::StrContains(file.name(), "/") || file.name().empty()) {
    return absl::DataLossError(absl::StrCat(dir, ": bad file name in ", kMetadataName));
  }
  const std::string path = base::JoinPath(dir, file.name());
  KTSTR_ASSIGN_OR_RETURN(base::UniqueFd from, base::Open(path, O_RDONLY | O_NOFOLLOW));
  struct stat info;
  if (fstat(from.get(), &info) != 0) return base::ErrnoStatus(errno, path);
  if (static_cast<uint64_t>(info.st_size) != file.size()) {
    return absl::DataLossError(
        absl::StrCat(path, ": ", info.st_size, " bytes instead of ", file.size()));
  }
  KTSTR_ASSIGN_OR_RETURN(base::UniqueFd memfd, base::MakeMemfd("ktstr-snapshot", file.size()));
  KTSTR_ASSIGN_OR_RETURN(const std::string sha256,
                         SparseCopy(from.get(), memfd.get(), path).Run(file.size()));
  if (sha256 != file.sha256()) {
    return absl::DataLossError(
        absl::StrCat(path, ": checksum ", sha256, " instead of ", file.sha256()));
  }
  KTSTR_RETURN_IF_ERROR(base::SealMemfd(memfd.get(), path));
  return memfd;
}

absl::StatusOr<v1::SnapshotMetadata> ReadMetadata(const std::string& dir) {
  const std::string path = base::JoinPath(dir, kMetadataName);
  struct stat info;
  if (stat(path.c_str(), &info) == 0 && static_cast<uint64_t>(info.st_size) > kMaxMetadataBytes)
    return absl::DataLossError(absl::StrCat(path, ": ", info.st_size, " bytes"));
  KTSTR_ASSIGN_OR_RETURN(const std::string text, base::ReadFile(path, kMaxMetadataBytes));
  v1::SnapshotMetadata metadata;
  if (absl::Status parsed = scenario::FromJson(text, &metadata); !parsed.ok()) {
    return absl::DataLossError(absl::StrCat(path, ": ", parsed.message()));
  }
  if (metadata.schema_version() != kSchemaVersion) {
    return absl::DataLossError(absl::StrCat(path, ": schema version ", metadata.schema_version(),
                                            " instead of ", kSchemaVersion));
  }
  if (metadata.key() != base::Basename(dir) ||
      metadata.key() != SnapshotStore::KeyOf(metadata.identity())) {
    return absl::DataLossError(absl::StrCat(path, ": is of another snapshot"));
  }
  if (metadata.ram_size() == 0 || metadata.ram_size() > kMaxNodes) {
    return absl::DataLossError(absl::StrCat(path, ": RAM of ", metadata.ram_size(), " nodes"));
  }
  return metadata;
}

absl::StatusOr<SnapshotFiles> ReadEntry(const std::string& dir, std::string_view identity) {
  KTSTR_ASSIGN_OR_RETURN(const v1::SnapshotMetadata metadata, ReadMetadata(dir));
  if (base::ToAbsl(identity) != metadata.identity()) {
    return absl::DataLossError(absl::StrCat(dir, ": is of another machine"));
  }
  SnapshotFiles files;
  KTSTR_ASSIGN_OR_RETURN(files.state, ReadSealed(dir, metadata.state()));
  for (const v1::SnapshotFile& ram : metadata.ram()) {
    KTSTR_ASSIGN_OR_RETURN(base::UniqueFd fd, ReadSealed(dir, ram));
    files.ram.push_back(std::move(fd));
  }
  return files;
}

uint64_t DiskBytes(const std::string& dir) {
  uint64_t blocks = 0;
  for (const std::string& name : base::ListDir(dir).value_or(std::vector<std::string>())) {
    struct stat info;
    if (lstat(base::JoinPath(dir, name).c_str(), &info) == 0) {
      blocks += static_cast<uint64_t>(info.st_blocks);
    }
  }
  return blocks * kDiskBlock;
}

absl::Status WriteEntry(const std::string& dir, const SnapshotInfo& info, int state,
                        const std::vector<int>& ram) {
  v1::SnapshotMetadata metadata;
  metadata.set_schema_version(kSchemaVersion);
  metadata.set_key(SnapshotStore::KeyOf(info.identity));
  metadata.set_identity(info.identity);
  metadata.set_label(info.label);
  if (info.owner.has_value()) metadata.set_owner(*info.owner);
  metadata.set_saves_ms(info.saves_ms);
  metadata.set_created_unix_s(time(nullptr));
  KTSTR_ASSIGN_OR_RETURN(*metadata.mutable_state(), WriteFile(dir, "state", state));
  for (size_t i = 0; i < ram.size(); ++i) {
    KTSTR_ASSIGN_OR_RETURN(*metadata.add_ram(), WriteFile(dir, absl::StrCat("ram-", i), ram[i]));
  }
  KTSTR_ASSIGN_OR_RETURN(const std::string json, scenario::ToJson(metadata, /*pretty=*/true));
  // Without fsync: Load checks what a power cut leaves, like everything else.
  const std::string path = base::JoinPath(dir, kMetadataName);
  KTSTR_ASSIGN_OR_RETURN(base::UniqueFd file, base::Open(path, O_WRONLY | O_CREAT | O_EXCL, 0600));
  return base::WriteAll(file.get(), json, path);
}

// Puts the directory `temporary` in the place of `entry`, whose old content goes to a name beside
// `temporary`. On an error it
// puts the old content back.
absl::Status Replace(const std::string& temporary, const std::string& entry) {
  const std::string old = absl::StrCat(temporary, ".old");
  const bool replaces = base::Exists(entry);
  if (replaces && rename(entry.c_str(), old.c_str()) != 0)
    return base::ErrnoStatus(errno, absl::StrCat("rename ", entry));
  if (rename(temporary.c_str(), entry.c_str()) == 0) return absl::OkStatus();
  const int error = errno;
  if (replaces) rename(old.c_str(), entry.c_str());
  return base::ErrnoStatus(error, absl::StrCat("rename ", temporary));
}

// Whether an error of a reader tells that the entry is damaged. Any other one may pass: too few
// descriptors, too little memory, an error of the disk.
bool IsDamage(const absl::Status& error) {
  return absl::IsDataLoss(error) || absl::IsInvalidArgument(error) || absl::IsNotFound(error);
}

double WorthOf(const v1::SnapshotEntry& entry, int64_t now_unix_s) {
  constexpr double kDay = 86400;
  const auto idle_s =
      static_cast<double>(std::max<int64_t>(0, now_unix_s - entry.last_used_unix_s()));
  return (1.0 + entry.saves_ms()) * std::exp2(-idle_s / kDay);
}

}  // namespace

std::string SnapshotStore::KeyOf(std::string_view identity) { return base::Sha256Hex(identity); }

SnapshotStore::SnapshotStore(std::string dir, uint64_t budget_bytes)
    : dir_(std::move(dir)), budget_bytes_(budget_bytes) {
  base::MutexLock lock(&mutex_);
  absl::Status ready = base::Exists(dir_) ? Prepare() : absl::OkStatus();
  if (ready.ok() && base::Exists(dir_)) ready = Evict({});
  if (!ready.ok()) KTSTR_LOG(WARNING) << "snapshots: " << ready;
}

std::string SnapshotStore::EntryDir(std::string_view key) const {
  return base::JoinPath(dir_, key);
}

absl::Status SnapshotStore::Prepare() {
  const std::string temporary = base::JoinPath(dir_, kTemporaryDir);
  KTSTR_RETURN_IF_ERROR(base::RemoveAll(temporary));
  return base::MakeDirs(temporary, 0700);
}

absl::StatusOr<SnapshotFiles> SnapshotStore::Load(std::string_view identity) {
  base::MutexLock lock(&mutex_);
  const std::string dir = EntryDir(KeyOf(identity));
  if (!base::Exists(dir)) return absl::NotFoundError(absl::StrCat(dir, ": no such snapshot"));
  absl::StatusOr<SnapshotFiles> files = ReadEntry(dir, identity);
  if (files.ok()) {
    utimensat(AT_FDCWD, base::JoinPath(dir, kMetadataName).c_str(), nullptr, 0);
    return files;
  }
  const absl::Status& error = files.status();
  if (!IsDamage(error)) return error;
  if (absl::Status removed = base::RemoveAll(dir); !removed.ok()) {
    KTSTR_LOG(WARNING) << "snapshots: " << removed;
  }
  return absl::DataLossError(error.message());
}

absl::Status SnapshotStore::Store(const SnapshotInfo& info, int state,
                                  const std::vector<int>& ram) {
  base::MutexLock lock(&mutex_);
  KTSTR_RETURN_IF_ERROR(Prepare());
  const std::string key = KeyOf(info.identity);
  const std::string temporary = base::JoinPath(base::JoinPath(dir_, kTemporaryDir), key);
  KTSTR_RETURN_IF_ERROR(base::MakeDirs(temporary, 0700));
  absl::Status written = WriteEntry(temporary, info, state, ram);
  if (written.ok() && DiskBytes(temporary) > budget_bytes_) {
    written = absl::FailedPreconditionError(
        absl::StrCat("snapshot of ", DiskBytes(temporary) >> 20, " MiB is above the budget of ",
                     budget_bytes_ >> 20, " MiB (snapshot_budget_mb)"));
  }
  if (written.ok()) written = Replace(temporary, EntryDir(key));
  // What failed on the way in, or what was replaced.
  absl::Status cleaned = base::RemoveAll(temporary);
  cleaned.Update(base::RemoveAll(absl::StrCat(temporary, ".old")));
  if (written.ok()) cleaned.Update(Evict(key));
  if (!cleaned.ok()) KTSTR_LOG(WARNING) << "snapshots: " << cleaned;
  return written;
}

void SnapshotStore::Remove(std::string_view identity) {
  base::MutexLock lock(&mutex_);
  if (absl::Status removed = base::RemoveAll(EntryDir(KeyOf(identity))); !removed.ok()) {
    KTSTR_LOG(WARNING) << "snapshots: " << removed;
  }
}

absl::StatusOr<std::vector<v1::SnapshotEntry>> SnapshotStore::ListLocked() {
  std::vector<v1::SnapshotEntry> entries;
  if (!base::Exists(dir_)) return entries;
  KTSTR_ASSIGN_OR_RETURN(const std::vector<std::string> names, base::ListDir(dir_));
  for (const std::string& name : names) {
    if (name == kTemporaryDir) continue;
    const std::string dir = EntryDir(name);
    v1::SnapshotEntry entry;
    entry.set_key(name);
    entry.set_disk_bytes(DiskBytes(dir));
    struct stat info;
    if (stat(base::JoinPath(dir, kMetadataName).c_str(), &info) == 0) {
      entry.set_last_used_unix_s(info.st_mtime);
    }
    absl::StatusOr<v1::SnapshotMetadata> metadata = ReadMetadata(dir);
    if (metadata.ok()) {
      entry.set_label(metadata->label());
      entry.set_created_unix_s(metadata->created_unix_s());
      if (metadata->has_owner()) entry.set_owner(metadata->owner());
      entry.set_saves_ms(metadata->saves_ms());
    } else {
      entry.set_error(std::string(metadata.status().message()));
    }
    entries.push_back(std::move(entry));
  }
  std::stable_sort(entries.begin(), entries.end(),
                   [](const v1::SnapshotEntry& a, const v1::SnapshotEntry& b) {
                     return a.last_used_unix_s() > b.last_used_unix_s();
                   });
  return entries;
}

absl::StatusOr<std::vector<v1::SnapshotEntry>> SnapshotStore::List() {
  base::MutexLock lock(&mutex_);
  return ListLocked();
}

absl::StatusOr<std::vector<v1::SnapshotEntry>> SnapshotStore::Clean() {
  base::MutexLock lock(&mutex_);
  KTSTR_ASSIGN_OR_RETURN(std::vector<v1::SnapshotEntry> entries, ListLocked());
  KTSTR_RETURN_IF_ERROR(base::RemoveAll(dir_));
  return entries;
}

// Removes all unusable entries, then those worth least down to the budget; never `keep_key`.
absl::Status SnapshotStore::Evict(std::string_view keep_key) {
  KTSTR_ASSIGN_OR_RETURN(std::vector<v1::SnapshotEntry> entries, ListLocked());
  uint64_t total = 0;
  for (v1::SnapshotEntry& entry : entries) {
    total += entry.disk_bytes();
    if (!entry.error().empty() && !IsDamage(ReadMetadata(EntryDir(entry.key())).status()))
      entry.clear_error();
  }
  const int64_t now = time(nullptr);
  const auto worth = [now](const v1::SnapshotEntry& entry) {
    return entry.error().empty() ? WorthOf(entry, now) : -1;
  };
  std::stable_sort(entries.begin(), entries.end(),
                   [&worth](const v1::SnapshotEntry& a, const v1::SnapshotEntry& b) {
                     return worth(a) > worth(b);
                   });
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
    if (entry->key() == keep_key) continue;
    if (total <= budget_bytes_ && entry->error().empty()) break;
    KTSTR_RETURN_IF_ERROR(base::RemoveAll(EntryDir(entry->key())));
    total -= entry->disk_bytes();
  }
  return absl::OkStatus();
}

}  // namespace ktstr::cache
