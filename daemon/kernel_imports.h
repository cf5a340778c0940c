// SPDX-License-Identifier: Apache-2.0
//
// Brings kernels into the cache of a daemon: a client sends them, or the daemon fetches them from a
// source (cache/kernel_source.h). Daemon owns one. Any thread.

#ifndef KTSTR_DAEMON_KERNEL_IMPORTS_H_
#define KTSTR_DAEMON_KERNEL_IMPORTS_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/mutex.h"
#include "cache/kernel_cache.h"
#include "daemon/caller.h"
#include "ktstr/v1/service.pb.h"

namespace ktstr::daemon {

// One caller at a time has the turn; the others wait, and know for whom. Any thread.
class Turn {
 public:
  explicit Turn(const base::Clock* clock = base::RealClock()) : clock_(clock) {}
  // Waits for the turn. `who` names the caller to those that wait: "the import of a.deb by anna".
  // `progress` gets a line for each turn before this one, again each minute. Cancelled when
  // `cancelled` returns true.
  absl::Status Take(const std::string& who, const std::function<bool()>& cancelled,
                    const std::function<void(const std::string&)>& progress)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void End() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  const base::Clock* const clock_;
  base::Mutex mutex_;
  base::CondVar ended_;
  std::string who_ ABSL_GUARDED_BY(mutex_);  // Empty: nobody has it.
};

class KernelImports;

// Kernel files that a client sends, one after the other: appends their pieces to unnamed files and
// imports all files together at the end. One thread.
class KernelUpload {
 public:
  // Begins the next file. InvalidArgument when the header is wrong or above a limit, and when the
  // previous file is not complete.
  absl::Status Begin(const v1::ImportKernelRequest::ImportHeader& header);
  // InvalidArgument beyond the size in the header; FailedPrecondition on a full disk.
  absl::Status Append(std::string_view data);
  // Waits for earlier imports, then imports the files. InvalidArgument when the last one is not
  // complete.
  absl::StatusOr<std::vector<cache::KernelCache::Imported>> Finish(
      const std::function<bool()>& cancelled,
      const std::function<void(const std::string&)>& progress);

 private:
  friend class KernelImports;
  struct File {
    base::UniqueFd fd;
    std::string name;
    uint64_t size;
    uint64_t received;
  };
  KernelUpload(KernelImports* imports, Caller caller)
      : imports_(imports), caller_(std::move(caller)) {}
  absl::Status CheckComplete() const;

  KernelImports* const imports_;
  const Caller caller_;
  uint64_t announced_ = 0;  // Bytes of all files.
  std::string config_;
  std::vector<File> files_;
};

class KernelImports {
 public:
  // `suites`: where sources look besides the host's suites, unless a request names others.
  // `kernels` outlives the object.
  KernelImports(cache::KernelCache* kernels, std::string cache_dir, std::vector<std::string> suites)
      : kernels_(kernels), cache_dir_(std::move(cache_dir)), suites_(std::move(suites)) {}

  // The object outlives the upload.
  std::unique_ptr<KernelUpload> BeginUpload(const Caller& caller);
  // `progress` gets lines for people; Fetch polls `cancelled`. One fetch at a time, and one import.
  absl::StatusOr<v1::KernelEntry> Fetch(const Caller& caller, const v1::FetchKernelRequest& request,
                                        const std::function<void(const std::string&)>& progress,
                                        const std::function<bool()>& cancelled);

  bool Fetching() const { return fetches_.load() > 0; }
  // Fetches and imports that wait end soon, with Cancelled.
  void Stop() { stopping_ = true; }

 private:
  friend class KernelUpload;
  using Progress = std::function<void(const std::string&)>;
  // One at a time: an import holds whole kernels in memory.
  absl::StatusOr<std::vector<cache::KernelCache::Imported>> Import(
      const Caller& caller, const std::vector<cache::KernelCache::File>& files,
      const std::string& config, const std::function<bool()>& cancelled, const Progress& progress);
  absl::StatusOr<v1::KernelEntry> ImportFetched(const Caller& caller,
                                                const std::vector<std::string>& paths,
                                                const std::function<bool()>& cancelled,
                                                const Progress& progress);

  cache::KernelCache* const kernels_;
  const std::string cache_dir_;
  const std::vector<std::string> suites_;
  std::atomic<bool> stopping_ = false;
  std::atomic<int> fetches_ = 0;
  Turn fetch_turn_;  // A source has one state directory.
  Turn import_turn_;
};

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_KERNEL_IMPORTS_H_
