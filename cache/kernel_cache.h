// SPDX-License-Identifier: Apache-2.0
//
// The kernels on disk. ktstrd imports into it, lists it, and takes kernels out of it for runs.
//
//   CACHE/kernels/KEY/   bzImage (when the source was one), vmlinux (the uncompressed ELF, entered
//   by PVH), vmlinux.btf
//                        (when it has BTF), config (when known), metadata.json (JSON of
//                        v1::KernelMetadata)
//   CACHE/.locks/        KEY.lock: shared by who reads an entry, exclusive for who writes it
//   CACHE/.tmp/          entries in the making; moved into place when complete and synced
//   CACHE/index.db       sqlite; can be deleted at any time
//
// Several processes may use one cache. Any thread.

#ifndef KTSTR_CACHE_KERNEL_CACHE_H_
#define KTSTR_CACHE_KERNEL_CACHE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/flock.h"
#include "base/mutex.h"
#include "cache/kernel_index.h"
#include "ktstr/v1/kernel.pb.h"

namespace ktstr::cache {

struct DebKernel;
struct EntryCheck;
struct KernelImage;

// A kernel that stays as long as this lives.
struct ResolvedKernel {
  v1::KernelMetadata metadata;
  std::string dir;
  base::FileLock lock;  // Shared.
  std::string why;      // "newest in the cache that can do sched_ext", for the user.
};

class KernelCache {
 public:
  // Makes the directories and removes what killed imports left. An existing cache on a read-only
  // file system opens; then only List works.
  static absl::StatusOr<std::unique_ptr<KernelCache>> Open(const std::string& cache_dir);

  // Newest version first, corrupt ones last. Checks metadata and sizes, not contents.
  absl::StatusOr<std::vector<v1::KernelEntry>> List();

  struct Imported {
    v1::KernelEntry entry;
    bool already_there;  // The cache had this kernel, whole; nothing was changed.
  };
  // `fd`: a regular file or memfd that holds a .deb package, a bzImage or a vmlinux ELF file, told
  // apart by content; read from its start. `file_name` is for messages and the record.
  // `config_text`: the kernel's .config, or empty; a package that has its own keeps its own. A
  // package with only a configuration (Debian's linux-base-*) adds it to the kernel of that
  // release. A corrupt entry is replaced. On an error nothing is left behind. Errors:
  // InvalidArgument (not a kernel, too large, or for another machine), DataLoss (damaged or cut
  // short), FailedPrecondition (no PVH entry; a cache that is full or may not be written).
  absl::StatusOr<Imported> Import(int fd, const std::string& file_name,
                                  const std::string& config_text);
  // One kernel from packages that belong together (FetchPackages): image and configuration may be
  // in different ones.
  absl::StatusOr<Imported> ImportPackages(const std::vector<std::string>& deb_paths);

  // `id`: a key, a release, a version, a version's prefix ("7.3", "7"), or "": any. Takes the
  // newest sound entry that matches and, with `needs_sched_ext`, can do sched_ext. NotFound when
  // there is none, FailedPrecondition when those that match are corrupt or lack sched_ext; each
  // with the remedy. Compares contents with their SHA-256 when the files have changed since the
  // last time.
  absl::StatusOr<ResolvedKernel> Resolve(const std::string& id, bool needs_sched_ext);

 private:
  struct Match;
  explicit KernelCache(const std::string& cache_dir);

  std::string EntryDir(const std::string& key) const;
  std::string LockPath(const std::string& key) const;
  // With the remedy, for errors of writing below the cache directory.
  absl::Status Explain(absl::Status status) const;
  absl::Status RemoveAbandoned();
  absl::StatusOr<std::vector<std::string>> Keys() const;

  absl::StatusOr<Imported> ImportImage(const KernelImage& image, std::string_view bzimage,
                                       const std::string& config, v1::KernelMetadata metadata);
  absl::StatusOr<Imported> ImportDeb(const DebKernel& deb, const std::string& file_name,
                                     const std::string& config_text);
  absl::StatusOr<Imported> AddConfigOfDeb(const DebKernel& deb, const std::string& file_name);
  absl::StatusOr<Imported> AddConfig(const std::string& key, const std::string& config);
  absl::Status Place(const std::string& temporary, const std::string& key) const;

  // Locks, checks and takes one entry. FailedPrecondition when it is corrupt.
  absl::StatusOr<ResolvedKernel> Take(const std::string& key, std::string why);
  absl::StatusOr<Match> FindMatches(const std::string& id);

  // The index, opened again when its file is gone; null when it cannot be used.
  KernelIndex* IndexLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Rows for exactly the directories there are, from the index as far as it is usable.
  std::vector<KernelIndex::Row> SyncedRows(const std::vector<std::string>& keys)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Record(const EntryCheck& check, bool content_checked) ABSL_LOCKS_EXCLUDED(mutex_);

  const std::string cache_dir_;
  const std::string kernels_dir_;
  const std::string locks_dir_;
  const std::string temporary_dir_;
  const std::string index_path_;
  base::Mutex mutex_;
  std::unique_ptr<KernelIndex> index_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_KERNEL_CACHE_H_
