// SPDX-License-Identifier: Apache-2.0
//
// The kernels on disk. ktstrd imports into it, lists it, and takes kernels out of it for runs.
//
// clang-format off
//   CACHE/kernels/KEY/   bzImage        when the source was one
//                        vmlinux        the uncompressed ELF, entered by PVH
//                        vmlinux.btf    when it has BTF
//                        config         when known
//                        metadata.json  JSON of v1::KernelMetadata
//   CACHE/.locks/        KEY.lock: shared by who reads an entry, exclusive for who writes it
//   CACHE/.tmp/          entries in the making; moved into place when complete and synced
//   CACHE/index.db       sqlite; can be deleted at any time
// clang-format on
//
// KEY is RELEASE-x86_64-DIGEST: 16 digits of the SHA-256 of vmlinux. A kernel is its content: the
// same one imported from a package and from an image is one entry, and no file can take the entry
// of another. Where it came from and who imported it is metadata. Entries of earlier versions have
// other keys ("deb-PACKAGE-VERSION-x86_64"); they work as they are.
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
  // A regular file or memfd, open for reading.
  struct File {
    int fd;
    std::string name;  // For messages and the record.
  };
  // Imports the kernels in `files`, which belong together: packages (kernel_package.h), bzImages
  // and vmlinux ELF files, told apart by content, read from their start. The configuration of a
  // kernel is the one in its package, that of another package of the same release, or `config_text`
  // (may be empty). A package with only a configuration (Debian's linux-base-*) adds it to the
  // cached kernel of that release when no file holds it. A corrupt entry of the same key is
  // replaced. `owner` goes into the metadata. `progress` gets lines for people: what is read and
  // written, with bytes. One result for each kernel; on an error nothing of the file in question is
  // left behind. Ends when the thread's base::WaitScope is cancelled. Errors: Cancelled,
  // InvalidArgument (no kernel, too large, or for
  // another machine), DataLoss (damaged or cut short), FailedPrecondition (no PVH entry; cached
  // with another configuration; a cache that is full or may not be written).
  using Progress = std::function<void(const std::string&)>;
  absl::StatusOr<std::vector<Imported>> Import(const std::vector<File>& files,
                                               const std::string& config_text, uid_t owner,
                                               const Progress& progress = {});

  // `name`: see scenario/kernel_choice.h. Takes a sound entry; NotFound when none matches,
  // InvalidArgument when several do, FailedPrecondition when those that match are corrupt or lack
  // sched_ext; each with the remedy. Compares contents with their SHA-256 when the files have
  // changed since the last time.
  absl::StatusOr<ResolvedKernel> Resolve(const std::string& name, bool needs_sched_ext);
  // The errors of Resolve, as far as they can be known at once: a kernel that somebody writes,
  // which Resolve waits for, is taken for a sound one.
  absl::Status CanResolve(const std::string& name, bool needs_sched_ext);

 private:
  explicit KernelCache(const std::string& cache_dir);

  std::string EntryDir(const std::string& key) const;
  std::string LockPath(const std::string& key) const;
  std::string TemporaryLockPath() const;  // Against RemoveAbandoned while a directory is made.
  // With the remedy, for errors of writing below the cache directory.
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
  // The sound entry, of whatever key, that holds this vmlinux; empty: none.
  absl::StatusOr<std::string> KeyOfContent(const std::string& key, const std::string& sha256) const;
  absl::Status Place(const std::string& temporary, const std::string& key) const;

  absl::StatusOr<ResolvedKernel> Resolve(const std::string& name, bool needs_sched_ext, bool wait);
  // Locks, checks and takes one entry. FailedPrecondition when it is corrupt; without `wait`,
  // Unavailable when somebody writes it.
  absl::StatusOr<ResolvedKernel> Take(const std::string& key, std::string why, bool wait);

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
