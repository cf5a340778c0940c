// SPDX-License-Identifier: Apache-2.0
#include "cache/kernel_cache.h"

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

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/sha256.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "base/utf8.h"
#include "cache/cache_error.h"
#include "cache/deb.h"
#include "cache/kernel_entry.h"
#include "cache/kernel_image.h"
#include "cache/version_order.h"

namespace ktstr::cache {
namespace {

// An exclusive lock is held for the time of writing or replacing one entry; a shared one for a run.
constexpr absl::Duration kReadLockTimeout = absl::Seconds(60);
constexpr absl::Duration kWriteLockTimeout = absl::Minutes(5);
constexpr uint64_t kMaxConfigBytes = uint64_t{4} << 20;
constexpr char kTemporaryLock[] = ".tmp.lock";
constexpr char kArch[] = "x86_64";
constexpr char kHowToImport[] =
    "Kernels come from a Debian package (linux-image-* or linux-binary-*), a bzImage or a vmlinux "
    "ELF file.";

// A directory under .tmp, locked while it is being filled so that no other process takes it for
// abandoned.
struct Temporary {
  std::string path;
  base::UniqueFd lock;
  ~Temporary() {
    if (path.empty()) return;
    if (absl::Status status = base::RemoveAll(path); !status.ok()) {
      KTSTR_LOG(WARNING) << status.message();
    }
  }
};

absl::Status MakeTemporary(const std::string& parent, const std::string& lock_path,
                           Temporary* temporary) {
  // Against RemoveAbandoned between the two steps.
  KTSTR_ASSIGN_OR_RETURN(base::FileLock guard,
                         base::FileLock::Acquire(lock_path, base::LockMode::kExclusive,
                                                 kReadLockTimeout, "temporary kernel entries"));
  std::string path = base::JoinPath(parent, "entry.XXXXXX");
  if (mkdtemp(path.data()) == nullptr)
    return base::ErrnoStatus(errno, absl::StrCat("mkdir ", path));
  temporary->path = path;
  if (chmod(path.c_str(), 0755) != 0) return base::ErrnoStatus(errno, absl::StrCat("chmod ", path));
  KTSTR_ASSIGN_OR_RETURN(temporary->lock, base::Open(path, O_RDONLY | O_DIRECTORY));
  if (flock(temporary->lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return base::ErrnoStatus(errno, absl::StrCat("flock ", path));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadStart(int fd, const std::string& name) {
  struct stat info {};
  if (fstat(fd, &info) != 0) return base::ErrnoStatus(errno, name);
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": not a regular file"));
  }
  std::string start(4096, '\0');
  ssize_t got = pread(fd, start.data(), start.size(), 0);
  if (got < 0) return base::ErrnoStatus(errno, absl::StrCat("read ", name));
  start.resize(static_cast<size_t>(got));
  if (lseek(fd, 0, SEEK_SET) != 0) return base::ErrnoStatus(errno, absl::StrCat("seek ", name));
  return start;
}

// A file that is too large is wrong input: no waiting helps, as it does where something is full.
template <typename T>
absl::StatusOr<T> AsInput(absl::StatusOr<T> read) {
  if (!absl::IsResourceExhausted(read.status())) return read;
  return absl::InvalidArgumentError(read.status().message());
}

// `fd`: a regular file, at its start.
absl::StatusOr<std::string> ReadImageFile(int fd, const std::string& name) {
  struct stat info {};
  if (fstat(fd, &info) != 0) return base::ErrnoStatus(errno, name);
  if (static_cast<uint64_t>(info.st_size) > kMaxVmlinuxBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": ", info.st_size, " bytes are too large for a kernel image; at most ",
                     kMaxVmlinuxBytes));
  }
  return AsInput(base::ReadFd(fd, name, kMaxVmlinuxBytes));
}

absl::Status CheckConfig(const std::string& config, absl::string_view name) {
  if (config.empty()) return absl::OkStatus();
  if (config.size() > kMaxConfigBytes || config.find('\0') != std::string::npos ||
      !absl::StrContains(config, "CONFIG_")) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, ": the configuration is no kernel .config (text with CONFIG_ lines, at most ",
        kMaxConfigBytes >> 20, " MiB)"));
  }
  return absl::OkStatus();
}

bool HasFile(const v1::KernelMetadata& metadata, std::string_view name) {
  return std::any_of(metadata.files().begin(), metadata.files().end(),
                     [&](const v1::KernelFile& file) { return file.name() == name; });
}

bool NewerEntry(const v1::KernelEntry& a, const v1::KernelEntry& b) {
  if (a.error_kind().empty() != b.error_kind().empty()) return a.error_kind().empty();
  if (int order = CompareVersions(a.metadata().version(), b.metadata().version()); order != 0) {
    return order > 0;
  }
  if (int order = CompareVersions(a.metadata().release(), b.metadata().release()); order != 0) {
    return order > 0;
  }
  return a.metadata().key() < b.metadata().key();
}

bool NewerRow(const KernelIndex::Row& a, const KernelIndex::Row& b) {
  if (int order = CompareVersions(a.version, b.version); order != 0) return order > 0;
  if (a.created_unix_s != b.created_unix_s) return a.created_unix_s > b.created_unix_s;
  return a.key < b.key;
}

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

absl::Status NoKernel(const std::string& id, size_t cached) {
  std::string which = id.empty() ? "" : absl::StrCat(" for '", id, "'");
  std::string among =
      cached == 0 ? " (the cache is empty)" : absl::StrCat(" among the ", cached, " in the cache");
  return absl::NotFoundError(absl::StrCat(
      "no kernel found", which, among,
      "\n  hint: set KTSTR_KERNEL to a version (e.g. `6.14.2`) or a cache key (see `ktstrctl "
      "kernel list`), or run `ktstrctl kernel fetch deb:PACKAGE` to populate the cache"
      "\n  hint: or run `ktstrctl kernel import /path/to/bzImage` to use a pre-built bootable "
      "image or a kernel package"));
}

std::string Quoted(const std::string& id) {
  return id.empty() ? "in the cache" : absl::StrCat("that matches '", id, "'");
}

}  // namespace

struct KernelCache::Match {
  std::vector<KernelIndex::Row> rows;  // Newest first.
  std::string what;                    // "named by its key", "newest that matches '7.3'", ...
  size_t cached;
};

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

absl::Status KernelCache::Explain(absl::Status status) const {
  return ExplainCacheError(std::move(status), absl::StrCat("kernel cache ", cache_dir_));
}

absl::StatusOr<std::unique_ptr<KernelCache>> KernelCache::Open(const std::string& cache_dir) {
  std::unique_ptr<KernelCache> cache(new KernelCache(cache_dir));
  for (const std::string& dir : {cache->kernels_dir_, cache->locks_dir_, cache->temporary_dir_}) {
    if (absl::Status status = base::MakeDirs(dir); !status.ok()) return cache->Explain(status);
  }
  // A read-only or full cache can still be listed.
  if (absl::Status status = cache->RemoveAbandoned(); !status.ok()) {
    KTSTR_LOG(WARNING) << status.message();
  }
  return cache;
}

absl::Status KernelCache::RemoveAbandoned() {
  KTSTR_ASSIGN_OR_RETURN(std::vector<std::string> names, base::ListDir(temporary_dir_));
  if (names.empty()) return absl::OkStatus();
  KTSTR_ASSIGN_OR_RETURN(base::FileLock guard,
                         base::FileLock::Acquire(base::JoinPath(locks_dir_, kTemporaryLock),
                                                 base::LockMode::kExclusive, kReadLockTimeout,
                                                 "temporary kernel entries"));
  for (const std::string& name : names) {
    std::string path = base::JoinPath(temporary_dir_, name);
    absl::StatusOr<base::UniqueFd> fd = base::Open(path, O_RDONLY | O_NOFOLLOW);
    if (fd.ok() && flock(fd->get(), LOCK_EX | LOCK_NB) != 0) continue;  // Being filled.
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
                       << "; the directories are read instead";
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
      index_.reset();  // Opened, and if need be made, anew by the next call.
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
  std::sort(entries.begin(), entries.end(), NewerEntry);
  return entries;
}

absl::StatusOr<KernelCache::Imported> KernelCache::Import(int fd, const std::string& file_name,
                                                          const std::string& config_text) {
  KTSTR_RETURN_IF_ERROR(CheckConfig(config_text, file_name));
  KTSTR_ASSIGN_OR_RETURN(std::string start, ReadStart(fd, file_name));
  FileKind kind = FileKindOf(start);
  if (kind == FileKind::kOther) {
    return absl::InvalidArgumentError(
        absl::StrCat(file_name, ": not a kernel but ", DescribeOther(start), ". ", kHowToImport));
  }
  if (kind == FileKind::kDeb) {
    KTSTR_ASSIGN_OR_RETURN(DebKernel deb, AsInput(ReadDeb(fd, file_name)));
    return ImportDeb(deb, file_name, config_text);
  }
  KTSTR_ASSIGN_OR_RETURN(std::string file, ReadImageFile(fd, file_name));
  absl::StatusOr<KernelImage> image = AsInput(DecodeKernel(file));
  if (!image.ok()) return base::Annotate(image.status(), file_name);
  std::string identity =
      image->build_id.empty() ? base::Sha256Hex(image->vmlinux) : image->build_id;
  v1::KernelMetadata metadata;
  metadata.set_key(absl::StrCat("image-", identity.substr(0, 8), "-", kArch));
  metadata.set_source("image");
  metadata.set_source_detail(base::SanitizeUtf8(base::Basename(file_name)));
  return ImportImage(*image, kind == FileKind::kBzImage ? file : std::string_view(), config_text,
                     std::move(metadata));
}

absl::StatusOr<KernelCache::Imported> KernelCache::ImportPackages(
    const std::vector<std::string>& deb_paths) {
  std::vector<DebKernel> debs;
  for (const std::string& path : deb_paths) {
    KTSTR_ASSIGN_OR_RETURN(base::UniqueFd fd, base::Open(path, O_RDONLY));
    KTSTR_ASSIGN_OR_RETURN(DebKernel deb, AsInput(ReadDeb(fd.get(), path)));
    debs.push_back(std::move(deb));
  }
  for (size_t i = 0; i < debs.size(); ++i) {
    if (debs[i].image.empty()) continue;
    std::string config;
    for (const DebKernel& other : debs) {
      if (!other.config.empty() && absl::StrContains(debs[i].image_path, other.config_release)) {
        config = other.config;
      }
    }
    return ImportDeb(debs[i], deb_paths[i], config);
  }
  return absl::InvalidArgumentError(
      absl::StrCat(absl::StrJoin(deb_paths, ", "), ": no kernel image in it. ", kHowToImport));
}

absl::StatusOr<KernelCache::Imported> KernelCache::ImportDeb(const DebKernel& deb,
                                                             const std::string& file_name,
                                                             const std::string& config_text) {
  if (deb.architecture != "amd64" && deb.architecture != "all") {
    return absl::InvalidArgumentError(absl::StrCat(file_name, ": package ", deb.package, " is for ",
                                                   base::SanitizeUtf8(deb.architecture),
                                                   "; only amd64 (x86_64) kernels can be used"));
  }
  if (deb.image_path.empty()) {
    if (!deb.config.empty()) return AddConfigOfDeb(deb, file_name);
    return absl::InvalidArgumentError(absl::StrCat(
        file_name, ": package ", base::SanitizeUtf8(deb.package),
        " holds no kernel image (boot/vmlinuz-* or usr/lib/modules/*/vmlinuz). ", kHowToImport));
  }
  absl::StatusOr<KernelImage> image = AsInput(DecodeKernel(deb.image));
  if (!image.ok()) {
    return base::Annotate(image.status(), absl::StrCat(file_name, ": ", deb.image_path));
  }
  v1::KernelMetadata metadata;
  metadata.set_key(MakeKernelKey(absl::StrCat("deb-", deb.package, "-", deb.version, "-", kArch)));
  metadata.set_source("deb");
  metadata.set_source_detail(base::SanitizeUtf8(absl::StrCat(deb.package, " ", deb.version)));
  const std::string& config = deb.config.empty() ? config_text : deb.config;
  KTSTR_RETURN_IF_ERROR(CheckConfig(config, file_name));
  bool compressed = FileKindOf(deb.image) == FileKind::kBzImage;
  return ImportImage(*image, compressed ? deb.image : std::string_view(), config,
                     std::move(metadata));
}

absl::StatusOr<KernelCache::Imported> KernelCache::AddConfigOfDeb(const DebKernel& deb,
                                                                  const std::string& file_name) {
  KTSTR_RETURN_IF_ERROR(CheckConfig(deb.config, file_name));
  KTSTR_ASSIGN_OR_RETURN(std::vector<std::string> keys, Keys());
  for (const KernelIndex::Row& row : SyncedRows(keys)) {
    if (row.release == deb.config_release) return AddConfig(row.key, deb.config);
  }
  return absl::InvalidArgumentError(
      absl::StrCat(file_name, ": package ", base::SanitizeUtf8(deb.package),
                   " holds the configuration of ", base::SanitizeUtf8(deb.config_release),
                   " but no kernel image. Import the package with the image first (linux-binary-",
                   base::SanitizeUtf8(deb.config_release), ")."));
}

absl::StatusOr<KernelCache::Imported> KernelCache::AddConfig(const std::string& key,
                                                             const std::string& config) {
  std::string dir = EntryDir(key);
  absl::StatusOr<base::FileLock> lock = base::FileLock::Acquire(
      LockPath(key), base::LockMode::kExclusive, kWriteLockTimeout, absl::StrCat("kernel ", key));
  if (!lock.ok()) return Explain(lock.status());
  EntryCheck check = CheckEntry(dir, key);
  if (!check.ok()) return absl::FailedPreconditionError(check.entry.error());
  if (HasFile(check.entry.metadata(), kConfigFile)) return Imported{check.entry, true};
  v1::KernelMetadata metadata = check.entry.metadata();
  // The file first: without its line in metadata.json it is not part of the entry.
  if (absl::Status status = base::WriteFileAtomic(base::JoinPath(dir, kConfigFile), config);
      !status.ok()) {
    return Explain(status);
  }
  *metadata.add_files() = DescribeFile({kConfigFile, config});
  if (absl::Status status = WriteMetadata(dir, metadata); !status.ok()) return Explain(status);
  check = CheckEntry(dir, key);
  Record(check, /*content_checked=*/false);
  return Imported{check.entry, false};
}

absl::StatusOr<KernelCache::Imported> KernelCache::ImportImage(const KernelImage& image,
                                                               std::string_view bzimage,
                                                               const std::string& config,
                                                               v1::KernelMetadata metadata) {
  const std::string key = metadata.key();
  const std::string dir = EntryDir(key);
  // A sound entry is found without waiting for the runs that hold it.
  if (EntryCheck check = CheckEntry(dir, key); check.ok()) {
    if (config.empty() || HasFile(check.entry.metadata(), kConfigFile)) {
      return Imported{check.entry, true};
    }
    return AddConfig(key, config);
  }
  absl::StatusOr<base::FileLock> lock = base::FileLock::Acquire(
      LockPath(key), base::LockMode::kExclusive, kWriteLockTimeout, absl::StrCat("kernel ", key));
  if (!lock.ok()) return Explain(lock.status());
  if (EntryCheck check = CheckEntry(dir, key); check.ok()) return Imported{check.entry, true};

  metadata.set_schema_version(kMetadataSchema);
  metadata.set_version(image.version);
  metadata.set_release(image.release);
  metadata.set_arch(kArch);
  metadata.set_created_unix_s(absl::ToUnixSeconds(absl::Now()));
  metadata.set_sched_ext(image.sched_ext);
  metadata.set_build_id(image.build_id);
  std::vector<EntryFile> files;
  if (!bzimage.empty()) files.push_back({"bzImage", bzimage});
  files.push_back({kVmlinuxFile, image.vmlinux});
  if (!image.btf.empty()) files.push_back({"vmlinux.btf", image.btf});
  if (!config.empty()) files.push_back({kConfigFile, config});

  Temporary temporary;
  absl::Status status =
      MakeTemporary(temporary_dir_, base::JoinPath(locks_dir_, kTemporaryLock), &temporary);
  if (status.ok()) status = WriteEntry(temporary.path, files, &metadata);
  if (status.ok()) status = Place(temporary.path, key);
  if (!status.ok()) return Explain(status);
  EntryCheck check = CheckEntry(dir, key);
  if (!check.ok()) return absl::InternalError(check.entry.error());
  Record(check, /*content_checked=*/true);
  return Imported{check.entry, false};
}

// Under the exclusive lock of `key`. What was there is corrupt: it goes to where RemoveAbandoned
// would find it.
absl::Status KernelCache::Place(const std::string& temporary, const std::string& key) const {
  std::string dir = EntryDir(key);
  std::string old = absl::StrCat(temporary, ".old");
  if (rename(dir.c_str(), old.c_str()) != 0 && errno != ENOENT) {
    return base::ErrnoStatus(errno, absl::StrCat("rename ", dir));
  }
  if (rename(temporary.c_str(), dir.c_str()) != 0) {
    return base::ErrnoStatus(errno, absl::StrCat("rename ", temporary, " to ", dir));
  }
  KTSTR_RETURN_IF_ERROR(base::RemoveAll(old));
  return base::FsyncDir(kernels_dir_);
}

absl::StatusOr<ResolvedKernel> KernelCache::Take(const std::string& key, std::string why) {
  absl::StatusOr<base::FileLock> lock = base::FileLock::Acquire(
      LockPath(key), base::LockMode::kShared, kReadLockTimeout, absl::StrCat("kernel ", key));
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

absl::StatusOr<KernelCache::Match> KernelCache::FindMatches(const std::string& id) {
  Match match;
  KTSTR_ASSIGN_OR_RETURN(std::vector<std::string> keys, Keys());
  match.cached = keys.size();
  std::vector<KernelIndex::Row> rows = SyncedRows(keys);
  auto take = [&](auto&& matches) {
    std::copy_if(rows.begin(), rows.end(), std::back_inserter(match.rows), matches);
    return !match.rows.empty();
  };
  if (id.empty()) {
    take([](const KernelIndex::Row&) { return true; });
    match.what = "newest in the cache";
  } else if (take([&](const KernelIndex::Row& row) { return row.release == id; })) {
    match.what = absl::StrCat("its release is '", id, "'");
  } else if (take([&](const KernelIndex::Row& row) { return row.version == id; })) {
    match.what = absl::StrCat("its version is '", id, "'");
  } else {
    take([&](const KernelIndex::Row& row) { return IsVersionPrefix(id, row.version); });
    match.what = absl::StrCat("newest in the cache that matches '", id, "'");
  }
  std::sort(match.rows.begin(), match.rows.end(), NewerRow);
  return match;
}

absl::StatusOr<ResolvedKernel> KernelCache::Resolve(const std::string& id, bool needs_sched_ext) {
  constexpr absl::string_view kGetSchedExt =
      "the scenario starts a sched_ext scheduler: it needs a kernel with CONFIG_SCHED_CLASS_EXT=y "
      "(6.12 or newer), e.g. `ktstrctl kernel fetch deb:PACKAGE`; `ktstrctl kernel list` shows "
      "what is there";
  struct stat info {};
  if (IsKernelKey(id) && lstat(EntryDir(id).c_str(), &info) == 0) {
    KTSTR_ASSIGN_OR_RETURN(ResolvedKernel kernel, Take(id, "named by its key"));
    if (needs_sched_ext && !kernel.metadata.sched_ext()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "kernel ", id, " has no sched_ext (no sched_ext_ops in its BTF), and ", kGetSchedExt));
    }
    return kernel;
  }
  KTSTR_ASSIGN_OR_RETURN(Match match, FindMatches(id));
  if (match.rows.empty()) return NoKernel(id, match.cached);
  size_t able = 0;
  absl::Status corrupt;
  for (const KernelIndex::Row& row : match.rows) {
    // The row of a corrupt entry has no version; it is reported, never taken.
    absl::StatusOr<ResolvedKernel> kernel = Take(row.key, match.what);
    if (!kernel.ok()) {
      if (!absl::IsFailedPrecondition(kernel.status())) return kernel.status();
      if (corrupt.ok()) corrupt = kernel.status();
      continue;
    }
    ++able;
    if (needs_sched_ext && !kernel->metadata.sched_ext()) continue;
    if (needs_sched_ext) absl::StrAppend(&kernel->why, ", can do sched_ext");
    if (!corrupt.ok()) absl::StrAppend(&kernel->why, "; passed over: ", corrupt.message());
    return kernel;
  }
  if (able == 0) return corrupt;
  return absl::FailedPreconditionError(absl::StrCat(
      "no kernel ", Quoted(id), " has sched_ext (sched_ext_ops in its BTF), and ", kGetSchedExt));
}

}  // namespace ktstr::cache
