// SPDX-License-Identifier: Apache-2.0
#include "cache/blob_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "base/utf8.h"
#include "cache/cache_error.h"

namespace ktstr::cache {
namespace {

absl::Status NotThere(const std::string& sha256) {
  return absl::NotFoundError(absl::StrCat(
      "blob ", base::PrintableTail(std::string_view(sha256).substr(0, 80), 1),
      " is not in the store: it was never sent, or was evicted; send it with PutBlob"));
}

}  // namespace

// What a store, its writers and its holds share: the blobs in the order of their use.
class BlobStoreState {
 public:
  BlobStoreState(std::string dir, uint64_t budget, const base::Clock* clock)
      : dir_(std::move(dir)),
        temporary_dir_(base::JoinPath(dir_, ".tmp")),
        budget_(budget),
        clock_(clock) {}

  const std::string& temporary_dir() const { return temporary_dir_; }
  std::string PathOf(const std::string& sha256) const { return base::JoinPath(dir_, sha256); }

  absl::Status Explain(absl::Status status) const {
    return ExplainCacheError(std::move(status), absl::StrCat("blob store ", dir_));
  }

  absl::Status Load() ABSL_LOCKS_EXCLUDED(mutex_);
  bool Use(const std::string& sha256) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Reserve(const std::string& sha256, uint64_t size) ABSL_LOCKS_EXCLUDED(mutex_);
  void Unreserve(uint64_t size) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Put(const std::string& sha256, uint64_t size, const std::string& temporary)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Forget(const std::string& sha256) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<std::map<std::string, uint64_t>> Hold(const std::vector<std::string>& sha256s)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Release(const std::map<std::string, uint64_t>& held) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Blob {
    uint64_t size;
    uint64_t use;         // Key in by_use_.
    absl::Duration when;  // Monotonic time of the last use.
  };
  bool UseLocked(const std::string& sha256) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool MayGo(const std::string& sha256, const Blob& blob) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EvictLocked(uint64_t needed) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ForgetLocked(const std::string& sha256) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AddLocked(const std::string& sha256, uint64_t size, absl::Duration when)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string dir_;
  const std::string temporary_dir_;
  const uint64_t budget_;
  const base::Clock* const clock_;
  base::Mutex mutex_;
  std::map<std::string, Blob> blobs_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, std::string> by_use_ ABSL_GUARDED_BY(mutex_);  // Least recent first.
  std::map<std::string, int> holds_ ABSL_GUARDED_BY(mutex_);        // Number of holds per blob.
  uint64_t next_use_ ABSL_GUARDED_BY(mutex_) = 1;
  uint64_t stored_ ABSL_GUARDED_BY(mutex_) = 0;    // Bytes of blobs_.
  uint64_t reserved_ ABSL_GUARDED_BY(mutex_) = 0;  // Bytes announced by writers.
};

absl::Status BlobStoreState::Load() {
  KTSTR_ASSIGN_OR_RETURN(std::vector<std::string> names, base::ListDir(dir_));
  std::vector<std::pair<timespec, std::string>> found;
  std::map<std::string, uint64_t> sizes;
  for (const std::string& name : names) {
    struct stat info {};
    if (!base::IsSha256Hex(name) || lstat(PathOf(name).c_str(), &info) != 0 ||
        !S_ISREG(info.st_mode)) {
      continue;
    }
    found.emplace_back(info.st_mtim, name);
    sizes[name] = static_cast<uint64_t>(info.st_size);
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
    return std::tie(a.first.tv_sec, a.first.tv_nsec, a.second) <
           std::tie(b.first.tv_sec, b.first.tv_nsec, b.second);
  });
  base::MutexLock lock(&mutex_);
  for (const auto& [time, name] : found) {
    const absl::Duration age = clock_->Now() - absl::TimeFromTimespec(time);
    // A time in the future, after the clock was set back, counts as now.
    AddLocked(name, sizes[name], clock_->Monotonic() - std::max(age, absl::ZeroDuration()));
  }
  return absl::OkStatus();
}

void BlobStoreState::AddLocked(const std::string& sha256, uint64_t size, absl::Duration when) {
  blobs_[sha256] = {size, next_use_, when};
  by_use_[next_use_++] = sha256;
  stored_ += size;
}

void BlobStoreState::ForgetLocked(const std::string& sha256) {
  auto found = blobs_.find(sha256);
  if (found == blobs_.end()) return;
  stored_ -= found->second.size;
  by_use_.erase(found->second.use);
  blobs_.erase(found);
}

bool BlobStoreState::MayGo(const std::string& sha256, const Blob& blob) const {
  return !holds_.contains(sha256) && clock_->Monotonic() - blob.when >= kBlobGrace;
}

void BlobStoreState::EvictLocked(uint64_t needed) {
  for (auto it = by_use_.begin(); it != by_use_.end() && stored_ + reserved_ + needed > budget_;) {
    const std::string oldest = (it++)->second;
    if (!MayGo(oldest, blobs_.at(oldest))) continue;
    if (unlink(PathOf(oldest).c_str()) != 0 && errno != ENOENT) {
      KTSTR_LOG(WARNING) << base::ErrnoStatus(errno, PathOf(oldest)).message();
    }
    ForgetLocked(oldest);
  }
}

void BlobStoreState::Forget(const std::string& sha256) {
  base::MutexLock lock(&mutex_);
  ForgetLocked(sha256);
}

bool BlobStoreState::Use(const std::string& sha256) {
  base::MutexLock lock(&mutex_);
  return UseLocked(sha256);
}

bool BlobStoreState::UseLocked(const std::string& sha256) {
  auto found = blobs_.find(sha256);
  if (found == blobs_.end()) return false;
  // ENOENT: somebody else has removed the file.
  const timespec now = absl::ToTimespec(clock_->Now());
  const timespec times[2] = {now, now};
  if (utimensat(AT_FDCWD, PathOf(sha256).c_str(), times, AT_SYMLINK_NOFOLLOW) != 0 &&
      errno == ENOENT) {
    ForgetLocked(sha256);
    return false;
  }
  by_use_.erase(found->second.use);
  found->second.use = next_use_;
  found->second.when = clock_->Monotonic();
  by_use_[next_use_++] = sha256;
  return true;
}

absl::StatusOr<std::map<std::string, uint64_t>> BlobStoreState::Hold(
    const std::vector<std::string>& sha256s) {
  base::MutexLock lock(&mutex_);
  std::map<std::string, uint64_t> sizes;
  for (const std::string& sha256 : sha256s) {
    if (sizes.contains(sha256)) continue;
    if (!UseLocked(sha256)) return NotThere(sha256);
    sizes[sha256] = blobs_.at(sha256).size;
  }
  for (const auto& [sha256, size] : sizes) ++holds_[sha256];
  return sizes;
}

void BlobStoreState::Release(const std::map<std::string, uint64_t>& held) {
  base::MutexLock lock(&mutex_);
  for (const auto& [sha256, size] : held) {
    auto hold = holds_.find(sha256);
    if (--hold->second == 0) holds_.erase(hold);
  }
}

absl::Status BlobStoreState::Reserve(const std::string& sha256, uint64_t size) {
  base::MutexLock lock(&mutex_);
  if (size > budget_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("size: blob ", sha256, " has ", size,
                     " bytes; blob_budget_mb of ktstrd's configuration ", "allows ", budget_));
  }
  uint64_t held = 0, young = 0;
  for (const auto& [name, blob] : blobs_) {
    if (!MayGo(name, blob)) (holds_.contains(name) ? held : young) += blob.size;
  }
  if (held + young + reserved_ > budget_ - size) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "size: blob ", sha256, " of ", size, " bytes finds no room: of the ", budget_,
        " bytes that blob_budget_mb of ktstrd's configuration allows, queued and running runs "
        "hold ",
        held, ", ", young, " were used within the last ", absl::FormatDuration(kBlobGrace),
        ", and ", reserved_, " are being received; try again later, or raise blob_budget_mb"));
  }
  EvictLocked(size);
  reserved_ += size;
  return absl::OkStatus();
}

void BlobStoreState::Unreserve(uint64_t size) {
  base::MutexLock lock(&mutex_);
  reserved_ -= size;
}

absl::Status BlobStoreState::Put(const std::string& sha256, uint64_t size,
                                 const std::string& temporary) {
  base::MutexLock lock(&mutex_);
  if (rename(temporary.c_str(), PathOf(sha256).c_str()) != 0) {
    return Explain(
        base::ErrnoStatus(errno, absl::StrCat("rename ", temporary, " to ", PathOf(sha256))));
  }
  ForgetLocked(sha256);  // Another client may have sent the same blob.
  AddLocked(sha256, size, clock_->Monotonic());
  return absl::OkStatus();
}

BlobWriter::BlobWriter(std::shared_ptr<BlobStoreState> state, std::string sha256, uint64_t size,
                       std::string path, base::UniqueFd fd)
    : state_(std::move(state)),
      sha256_(std::move(sha256)),
      size_(size),
      temporary_path_(std::move(path)),
      fd_(std::move(fd)) {}

BlobWriter::~BlobWriter() {
  if (!temporary_path_.empty()) unlink(temporary_path_.c_str());
  state_->Unreserve(size_);
}

absl::Status BlobWriter::Append(std::string_view data) {
  if (data.size() > size_ - received_) {
    return absl::InvalidArgumentError(
        absl::StrCat("blob ", sha256_, ": more than the ", size_, " bytes that were announced"));
  }
  if (absl::Status status = base::WriteAll(fd_.get(), data, temporary_path_); !status.ok()) {
    return state_->Explain(std::move(status));
  }
  digest_.Update(data);
  received_ += data.size();
  return absl::OkStatus();
}

absl::Status BlobWriter::Commit() {
  if (received_ != size_) {
    return absl::InvalidArgumentError(absl::StrCat("blob ", sha256_, ": received ", received_,
                                                   " of ", size_, " bytes; send it again"));
  }
  if (std::string found = digest_.FinishHex(); found != sha256_) {
    return absl::InvalidArgumentError(absl::StrCat(
        "blob ", sha256_, ": the content has SHA-256 ", found,
        ", so the file changed while it was sent, or was damaged on the way; send it again"));
  }
  // Syncs the content first: after a power cut a name must have its whole content.
  if (fchmod(fd_.get(), 0400) != 0 || fdatasync(fd_.get()) != 0) {
    return state_->Explain(base::ErrnoStatus(errno, absl::StrCat("write ", temporary_path_)));
  }
  KTSTR_RETURN_IF_ERROR(state_->Put(sha256_, size_, temporary_path_));
  temporary_path_.clear();
  fd_.Reset();
  // Syncs the name too: an acknowledged run needs the blob.
  absl::Status synced = base::FsyncDir(std::string(base::Dirname(state_->PathOf(sha256_))));
  return synced.ok() ? synced : state_->Explain(std::move(synced));
}

BlobHold::~BlobHold() { state_->Release(sizes_); }

absl::StatusOr<std::unique_ptr<BlobStore>> BlobStore::Open(const std::string& dir,
                                                           uint64_t budget_bytes,
                                                           const base::Clock* clock) {
  auto state = std::make_shared<BlobStoreState>(dir, budget_bytes, clock);
  KTSTR_RETURN_IF_ERROR(base::MakeDirs(dir, 0700));
  KTSTR_RETURN_IF_ERROR(base::RemoveAll(state->temporary_dir()));
  KTSTR_RETURN_IF_ERROR(base::MakeDirs(state->temporary_dir(), 0700));
  KTSTR_RETURN_IF_ERROR(state->Load());
  return std::unique_ptr<BlobStore>(new BlobStore(std::move(state)));
}

std::vector<std::string> BlobStore::FindMissing(const std::vector<std::string>& sha256s) {
  std::vector<std::string> missing;
  std::set<std::string> seen;
  for (const std::string& sha256 : sha256s) {
    if (!seen.insert(sha256).second) continue;
    if (!state_->Use(sha256)) missing.push_back(sha256);
  }
  return missing;
}

absl::StatusOr<std::unique_ptr<BlobHold>> BlobStore::Hold(const std::vector<std::string>& sha256s) {
  KTSTR_ASSIGN_OR_RETURN(auto sizes, state_->Hold(sha256s));
  return std::unique_ptr<BlobHold>(new BlobHold(state_, std::move(sizes)));
}

absl::StatusOr<std::unique_ptr<BlobWriter>> BlobStore::Begin(const std::string& sha256,
                                                             uint64_t size) {
  if (!base::IsSha256Hex(sha256)) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", base::PrintableTail(std::string_view(sha256).substr(0, 80), 1),
                     "' is not a SHA-256 in lower-case hex"));
  }
  KTSTR_RETURN_IF_ERROR(state_->Reserve(sha256, size));
  std::string path = base::JoinPath(state_->temporary_dir(), "blob.XXXXXX");
  base::UniqueFd fd(mkostemp(path.data(), O_CLOEXEC));
  if (!fd.valid()) {
    absl::Status status = base::ErrnoStatus(errno, absl::StrCat("create ", path));
    state_->Unreserve(size);
    return state_->Explain(std::move(status));
  }
  return std::unique_ptr<BlobWriter>(
      new BlobWriter(state_, sha256, size, std::move(path), std::move(fd)));
}

absl::StatusOr<base::UniqueFd> BlobStore::OpenBlob(const std::string& sha256) {
  if (state_->Use(sha256)) {
    absl::StatusOr<base::UniqueFd> fd = base::Open(state_->PathOf(sha256), O_RDONLY | O_NOFOLLOW);
    if (fd.ok() || !absl::IsNotFound(fd.status())) return fd;
    state_->Forget(sha256);
  }
  return NotThere(sha256);
}

}  // namespace ktstr::cache
