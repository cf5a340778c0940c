// SPDX-License-Identifier: Apache-2.0
//
// The kernels on disk. ktstrd imports into it, lists it, and takes kernels out of it for runs.
//
// clang-format off
//   CACHE/kernels/KEY/   bzImage        when the source was one
//                        vmlinux        the uncompressed ELF, which engines enter by PVH
//                        vmlinux.btf    when it has BTF
//                        config         when known
//                        metadata.json  JSON of v1::KernelMetadata
//   CACHE/.locks/        KEY.lock: shared for readers of an entry, exclusive for writers
//   CACHE/.tmp/          unfinished entries; moved into place when complete and synced
//   CACHE/index.db       sqlite; can be deleted at any time
// clang-format on
//
// KEY is RELEASE-x86_64-DIGEST, with 16 digits of the SHA-256 of vmlinux. Its content identifies a
// kernel: imported from a package and from an image it is one entry, and no file can take the entry
// of another. Origin and owner are metadata. Entries of earlier versions have other keys
// ("deb-PACKAGE-VERSION-x86_64") and still work.
//
// Several processes may use one cache. Any thread.

#ifndef KTSTR_CACHE_KERNEL_CACHE_H_
#define KTSTR_CACHE_KERNEL_CACHE_H_

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/flock.h"
#include "base/mutex.h"
#include "cache/kernel_index.h"
#include "ktstr/v1/kernel.pb.h"

namespace ktstr::cache {

struct EntryCheck;
struct KernelImage;
struct KernelPackage;

// A kernel that stays as long as this object exists.
struct ResolvedKernel {
  v1::KernelMetadata metadata;
  std::string dir;
  base::FileLock lock;  // Shared.
  std::string why;      // KernelChoice.why, for the user.
};

class KernelCache {
 public:
  // Makes the directories and removes what killed imports left. It also opens an existing cache on
  // a read-only file system, of which only List works.
  static absl::StatusOr<std::unique_ptr<KernelCache>> Open(const std::string& cache_dir);

  // Newest version first, corrupt entries last. Checks metadata and sizes, not contents.
  absl::StatusOr<std::vector<v1::KernelEntry>> List();

  struct Imported {
    v1::KernelEntry entry;
    bool already_there;  // The cache had this kernel, sound, and did not change.
  };
  // A regular file or memfd, open for reading.
  struct File {
    int fd;
    std::string name;  // For messages and the record.
  };
  // Imports the kernels in `files`, which belong together: packages (kernel_package.h), bzImages
  // and vmlinux ELF files, recognized by content and read from their start. The configuration of a
  // kernel is that of its package, else that of another package of the same release, else
  // `config_text` (may be empty). A package with only a configuration (Debian's linux-base-*) adds
  // it to the cached kernel of that release, unless `files` has that kernel. Replaces a corrupt
  // entry of the same key. `owner` goes into the metadata. `progress` gets lines for people: what
  // the import reads, writes and waits for. One result per kernel; a file with an error leaves
  // nothing behind, but the kernels of files before it stay. The thread's base::WaitScope can
  // cancel it. Errors: Cancelled, InvalidArgument (no kernel, too large, or for another machine),
  // DataLoss (damaged or cut), FailedPrecondition (no PVH entry; cached with another configuration;
  // the cache is full or not writable).
  using Progress = std::function<void(const std::string&)>;
  absl::StatusOr<std::vector<Imported>> Import(const std::vector<File>& files,
                                               const std::string& config_text, uid_t owner,
                                               const Progress& progress = {});

  // `name`: see scenario/kernel_choice.h. Returns a sound entry. Errors, each with the remedy:
  // NotFound when none matches, InvalidArgument when several match, FailedPrecondition when the
  // matches are corrupt or lack sched_ext. Compares contents with their SHA-256 when the files have
  // changed since the last comparison.
  absl::StatusOr<ResolvedKernel> Resolve(const std::string& name, bool needs_sched_ext);
  // The errors of Resolve, as far as they can be known at once: a kernel that somebody writes,
  // which Resolve waits for, is taken for a sound one.
  absl::Status CanResolve(const std::string& name, bool needs_sched_ext);

 private:
  explicit KernelCache(const std::string& cache_dir);

  std::string EntryDir(const std::string& key) const;
  std::string LockPath(const std::string& key) const;
  std::string TemporaryLockPath() const;  // Keeps RemoveAbandoned out while a directory is made.
  // Adds the remedy to errors of writing below the cache directory.
  absl::Status Explain(absl::Status status) const;
  absl::Status RemoveAbandoned();
  absl::StatusOr<std::vector<std::string>> Keys() const;

  struct Source;
  absl::StatusOr<Imported> ImportOne(const File& file, const Source& source);
  absl::StatusOr<Imported> ImportPackage(const KernelPackage& package, const std::string& file_name,
                                         const Source& source);
  absl::StatusOr<Imported> ImportImage(const KernelImage& image, std::string_view bzimage,
                                       const std::string& config, v1::KernelMetadata metadata,
                                       const Source& source);
  absl::StatusOr<Imported> AddConfigOfPackage(const KernelPackage& package,
                                              const std::string& file_name);
  absl::StatusOr<Imported> AddConfig(const std::string& key, const std::string& config);
  // Key of the sound entry with this vmlinux; empty: none.
  absl::StatusOr<std::string> KeyOfContent(const std::string& key, const std::string& sha256) const;
  absl::Status Place(const std::string& temporary, const std::string& key) const;

  absl::StatusOr<ResolvedKernel> Resolve(const std::string& name, bool needs_sched_ext, bool wait);
  // Locks, checks and returns one entry. FailedPrecondition when it is corrupt; without `wait`,
  // Unavailable when somebody writes it.
  absl::StatusOr<ResolvedKernel> Take(const std::string& key, std::string why, bool wait);

  // The index, opened again when its file has been removed; null when it is unusable.
  KernelIndex* IndexLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Rows for `keys`, from the index or, where it lacks them, from the directories.
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
