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
#include "base/fd.h"
#include "base/mutex.h"
#include "cache/kernel_cache.h"
#include "daemon/caller.h"
#include "ktstr/v1/service.pb.h"

namespace ktstr::daemon {

inline constexpr uint64_t kMaxKernelFileBytes = uint64_t{1} << 30;
inline constexpr size_t kMaxKernelFiles = 16;

// Kernel files that a client sends, one after the other: appends their pieces to unnamed files and
// imports all files together at the end. One thread.
class KernelUpload {
 public:
  // Begins the next file. InvalidArgument when the header is wrong, when the previous file is not
  // complete, or for one more than kMaxKernelFiles.
  absl::Status Begin(const v1::ImportKernelRequest::ImportHeader& header);
  // InvalidArgument beyond the size in the header; FailedPrecondition on a full disk.
  absl::Status Append(std::string_view data);
  // Imports the files. InvalidArgument when the last one is not complete.
  absl::StatusOr<std::vector<cache::KernelCache::Imported>> Finish();

 private:
  friend class KernelImports;
  struct File {
    base::UniqueFd fd;
    std::string name;
    uint64_t size;
    uint64_t received;
  };
  KernelUpload(cache::KernelCache* kernels, std::string cache_dir, uid_t owner)
      : kernels_(kernels), cache_dir_(std::move(cache_dir)), owner_(owner) {}
  absl::Status CheckComplete() const;

  cache::KernelCache* const kernels_;
  const std::string cache_dir_;
  const uid_t owner_;
  std::string config_;
  std::vector<File> files_;
};

class KernelImports {
 public:
  // `suites`: where sources look besides the host's suites, unless a request names others.
  // `kernels` outlives the object.
  KernelImports(cache::KernelCache* kernels, std::string cache_dir, std::vector<std::string> suites)
      : kernels_(kernels), cache_dir_(std::move(cache_dir)), suites_(std::move(suites)) {}

  std::unique_ptr<KernelUpload> BeginUpload(const Caller& caller);
  // `progress` gets lines for people; Fetch polls `cancelled`. One fetch at a time.
  absl::StatusOr<v1::KernelEntry> Fetch(const Caller& caller, const v1::FetchKernelRequest& request,
                                        const std::function<void(const std::string&)>& progress,
                                        const std::function<bool()>& cancelled);

  bool Fetching() const { return fetches_.load() > 0; }
  // Fetches end soon, with Cancelled.
  void Stop() { stopping_ = true; }

 private:
  // Takes the turn to fetch, and waits for it shortly. False: another fetch still has it.
  bool TakeTurn();
  void EndTurn();
  absl::StatusOr<v1::KernelEntry> ImportFetched(const std::vector<std::string>& paths, uid_t owner);

  cache::KernelCache* const kernels_;
  const std::string cache_dir_;
  const std::vector<std::string> suites_;
  std::atomic<bool> stopping_ = false;
  std::atomic<int> fetches_ = 0;
  // One fetch at a time: a source has one state directory.
  base::Mutex mutex_;
  base::CondVar ended_;
  bool fetching_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_KERNEL_IMPORTS_H_
