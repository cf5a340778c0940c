// SPDX-License-Identifier: Apache-2.0
#include "cache/kernel_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "cache/cache_error.h"
#include "cache/kernel_entry.h"
#include "scenario/kernel_choice.h"

namespace ktstr::cache {
namespace {

constexpr absl::Duration kReadLockTimeout = absl::Seconds(60);  // An import may hold the entry.

KernelIndex::Row RowOf(const EntryCheck& check) {
  const v1::KernelMetadata& metadata = check.entry.metadata();
  KernelIndex::Row row;
  row.key = metadata.key();
  row.version = metadata.version();
  row.release = metadata.release();
  row.sched_ext = metadata.sched_ext();
  row.created_unix_s = metadata.created_unix_s();
  return row;
}

}  // namespace

KernelCache::KernelCache(const std::string& cache_dir)
    : cache_dir_(cache_dir),
      kernels_dir_(base::JoinPath(cache_dir, "kernels")),
      locks_dir_(base::JoinPath(cache_dir, ".locks")),
      temporary_dir_(base::JoinPath(cache_dir, ".tmp")),
      index_path_(base::JoinPath(cache_dir, "index.db")) {}

std::string KernelCache::EntryDir(const std::string& key) const {
  return base::JoinPath(kernels_dir_, key);
}

std::string KernelCache::LockPath(const std::string& key) const {
  return base::JoinPath(locks_dir_, absl::StrCat(key, ".lock"));
}

std::string KernelCache::TemporaryLockPath() const {
  return base::JoinPath(locks_dir_, ".tmp.lock");
}

absl::Status KernelCache::Explain(absl::Status status) const {
  return ExplainCacheError(std::move(status), absl::StrCat("kernel cache ", cache_dir_));
}

absl::StatusOr<std::unique_ptr<KernelCache>> KernelCache::Open(const std::string& cache_dir) {
  std::unique_ptr<KernelCache> cache(new KernelCache(cache_dir));
  for (const std::string& dir : {cache->kernels_dir_, cache->locks_dir_, cache->temporary_dir_}) {
    if (absl::Status status = base::MakeDirs(dir); !status.ok()) return cache->Explain(status);
  }
  // Not an error: List works in a read-only or full cache, too.
  if (absl::Status status = cache->RemoveAbandoned(); !status.ok()) {
    KTSTR_LOG(WARNING) << status.message();
  }
  return cache;
}

absl::Status KernelCache::RemoveAbandoned() {
  KTSTR_ASSIGN_OR_RETURN(std::vector<std::string> names, base::ListDir(temporary_dir_));
  if (names.empty()) return absl::OkStatus();
  KTSTR_ASSIGN_OR_RETURN(base::FileLock guard,
                         base::FileLock::Acquire(TemporaryLockPath(), base::LockMode::kExclusive,
                                                 kReadLockTimeout, "temporary kernel entries"));
  for (const std::string& name : names) {
    std::string path = base::JoinPath(temporary_dir_, name);
    absl::StatusOr<base::UniqueFd> fd = base::Open(path, O_RDONLY | O_NOFOLLOW);
    if (fd.ok() && flock(fd->get(), LOCK_EX | LOCK_NB) != 0) continue;  // An import fills it.
    KTSTR_RETURN_IF_ERROR(base::RemoveAll(path));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> KernelCache::Keys() const {
  KTSTR_ASSIGN_OR_RETURN(std::vector<std::string> names, base::ListDir(kernels_dir_));
  names.erase(std::remove_if(names.begin(), names.end(),
                             [](const std::string& name) { return !IsKernelKey(name); }),
              names.end());
  return names;
}

KernelIndex* KernelCache::IndexLocked() {
  if (index_ != nullptr && !index_->Replaced()) return index_.get();
  index_.reset();
  absl::StatusOr<std::unique_ptr<KernelIndex>> index = KernelIndex::Open(index_path_);
  if (!index.ok()) {
    KTSTR_LOG(WARNING) << "kernel index: " << index.status().message()
                       << "; reading the directories instead";
    return nullptr;
  }
  index_ = *std::move(index);
  return index_.get();
}

std::vector<KernelIndex::Row> KernelCache::SyncedRows(const std::vector<std::string>& keys) {
  base::MutexLock lock(&mutex_);
  KernelIndex* index = IndexLocked();
  std::map<std::string, KernelIndex::Row> known;
  if (index != nullptr) {
    absl::StatusOr<std::vector<KernelIndex::Row>> all = index->All();
    if (!all.ok()) {
      KTSTR_LOG(WARNING) << "kernel index: " << all.status().message();
      index_.reset();  // The next call opens it again, or makes a new one.
      index = nullptr;
    } else {
      for (KernelIndex::Row& row : *all) known.emplace(row.key, std::move(row));
    }
  }
  std::vector<KernelIndex::Row> rows;
  for (const std::string& key : keys) {
    if (auto found = known.find(key); found != known.end()) {
      rows.push_back(std::move(found->second));
      known.erase(found);
      continue;
    }
    EntryCheck check = CheckEntry(EntryDir(key), key);
    KernelIndex::Row row = RowOf(check);
    if (index != nullptr && check.ok()) index->Put(row).IgnoreError();
    rows.push_back(std::move(row));
  }
  for (const auto& [key, row] : known) index->Remove(key).IgnoreError();
  return rows;
}

void KernelCache::Record(const EntryCheck& check, bool content_checked) {
  base::MutexLock lock(&mutex_);
  KernelIndex* index = IndexLocked();
  if (index == nullptr) return;
  KernelIndex::Row row = RowOf(check);
  if (content_checked) row.stamp = check.stamp;
  if (absl::Status status = index->Put(row); !status.ok()) {
    KTSTR_LOG(WARNING) << "kernel index: " << status.message();
    index_.reset();
  }
}

absl::StatusOr<std::vector<v1::KernelEntry>> KernelCache::List() {
  KTSTR_ASSIGN_OR_RETURN(std::vector<std::string> keys, Keys());
  std::map<std::string, int64_t> last_used;
  for (const KernelIndex::Row& row : SyncedRows(keys)) last_used[row.key] = row.last_used_unix_s;
  std::vector<v1::KernelEntry> entries;
  for (const std::string& key : keys) {
    v1::KernelEntry entry = CheckEntry(EntryDir(key), key).entry;
    entry.set_last_used_unix_s(last_used[key]);
    entries.push_back(std::move(entry));
  }
  std::sort(entries.begin(), entries.end(), [](const v1::KernelEntry& a, const v1::KernelEntry& b) {
    return scenario::ListedBefore(scenario::CachedKernelOf(a), scenario::CachedKernelOf(b));
  });
  return entries;
}

absl::StatusOr<ResolvedKernel> KernelCache::Take(const std::string& key, std::string why,
                                                 bool wait) {
  absl::StatusOr<base::FileLock> lock =
      wait ? base::FileLock::Acquire(LockPath(key), base::LockMode::kShared, kReadLockTimeout,
                                     absl::StrCat("kernel ", key))
           : base::FileLock::TryAcquire(LockPath(key), base::LockMode::kShared);
  if (!lock.ok()) return Explain(lock.status());
  std::string dir = EntryDir(key);
  EntryCheck check = CheckEntry(dir, key);
  if (check.ok()) {
    std::string known;
    {
      base::MutexLock guard(&mutex_);
      if (KernelIndex* index = IndexLocked(); index != nullptr) {
        absl::StatusOr<std::optional<KernelIndex::Row>> row = index->Find(key);
        if (row.ok() && row->has_value()) known = (*row)->stamp;
      }
    }
    if (known != check.stamp) {
      CheckContent(dir, &check);
      if (check.ok()) Record(check, /*content_checked=*/true);
    }
  }
  if (!check.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("kernel ", key, " is corrupt (", check.entry.error_kind(),
                     "): ", check.entry.error(), ". Import or fetch it again, which replaces it."));
  }
  {
    base::MutexLock guard(&mutex_);
    if (KernelIndex* index = IndexLocked(); index != nullptr) {
      index->Touch(key, absl::ToUnixSeconds(absl::Now())).IgnoreError();
    }
  }
  return ResolvedKernel{check.entry.metadata(), dir, *std::move(lock), std::move(why)};
}

absl::StatusOr<ResolvedKernel> KernelCache::Resolve(const std::string& name, bool needs_sched_ext) {
  return Resolve(name, needs_sched_ext, /*wait=*/true);
}

absl::Status KernelCache::CanResolve(const std::string& name, bool needs_sched_ext) {
  absl::Status status = Resolve(name, needs_sched_ext, /*wait=*/false).status();
  return absl::IsUnavailable(status) ? absl::OkStatus() : status;
}

absl::StatusOr<ResolvedKernel> KernelCache::Resolve(const std::string& name, bool needs_sched_ext,
                                                    bool wait) {
  // A key is the first rule of ChooseKernel: the other entries do not matter.
  struct stat info {};
  if (IsKernelKey(name) && lstat(EntryDir(name).c_str(), &info) == 0) {
    KTSTR_ASSIGN_OR_RETURN(ResolvedKernel kernel, Take(name, "", wait));
    v1::KernelEntry entry;
    *entry.mutable_metadata() = kernel.metadata;
    KTSTR_ASSIGN_OR_RETURN(
        const scenario::KernelChoice choice,
        scenario::ChooseKernel({scenario::CachedKernelOf(entry)}, name, needs_sched_ext));
    kernel.why = choice.why;
    return kernel;
  }
  KTSTR_ASSIGN_OR_RETURN(std::vector<std::string> keys, Keys());
  std::vector<scenario::CachedKernel> kernels;
  for (const KernelIndex::Row& row : SyncedRows(keys)) {
    kernels.push_back({row.key, row.version, row.release, row.sched_ext, row.created_unix_s});
  }
  absl::Status corrupt;
  for (;;) {
    absl::StatusOr<scenario::KernelChoice> choice =
        scenario::ChooseKernel(kernels, name, needs_sched_ext);
    if (!choice.ok()) {
      if (!absl::IsNotFound(choice.status())) return choice.status();
      // When all entries are corrupt, that is the error.
      if (corrupt.ok() && name.empty() && !kernels.empty()) {
        corrupt = Take(kernels[0].key, "", wait).status();
      }
      return corrupt.ok() ? choice.status() : corrupt;
    }
    scenario::CachedKernel& chosen = kernels[choice->index];
    absl::StatusOr<ResolvedKernel> kernel = Take(chosen.key, choice->why, wait);
    if (kernel.ok()) {
      if (!corrupt.ok()) absl::StrAppend(&kernel->why, "; passed over: ", corrupt.message());
      return kernel;
    }
    if (!absl::IsFailedPrecondition(kernel.status()) || chosen.version.empty()) {
      return kernel.status();
    }
    if (corrupt.ok()) corrupt = kernel.status();
    chosen.version.clear();  // Corrupt: not chosen again.
  }
}

}  // namespace ktstr::cache
