// SPDX-License-Identifier: Apache-2.0
#include "daemon/kernel_imports.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/unnamed_file.h"
#include "base/utf8.h"
#include "base/wait_scope.h"
#include "cache/kernel_source.h"
#include "daemon/cache_status.h"
#include "scenario/limits.h"

namespace ktstr::daemon {
namespace {

constexpr absl::Duration kTurnPoll = absl::Milliseconds(200);
// The client gives a daemon up that is silent for 10 minutes.
constexpr absl::Duration kSayAgain = absl::Minutes(1);
constexpr size_t kShownName = 64;  // Of a file, to another client.

using scenario::CheckLimit;
using scenario::LimitOf;

// "a.deb", "a.deb and 2 more"; there is at least one.
std::string Named(const std::vector<cache::KernelCache::File>& files) {
  const std::string first = base::OneLine(base::Basename(files.front().name), kShownName);
  return files.size() == 1 ? first : absl::StrCat(first, " and ", files.size() - 1, " more");
}

}  // namespace

absl::Status Turn::Take(const std::string& who, const std::function<bool()>& cancelled,
                        const std::function<void(const std::string&)>& progress) {
  std::string told;
  absl::Duration say_again = absl::ZeroDuration();
  while (true) {
    std::string before;
    {
      base::MutexLock lock(&mutex_);
      if (who_.empty()) {
        who_ = who;
        return absl::OkStatus();
      }
      before = who_;
      if (before == told) ended_.WaitFor(&mutex_, kTurnPoll);
    }
    if (cancelled()) {
      return absl::CancelledError(absl::StrCat("cancelled while waiting for ", before));
    }
    const absl::Duration now = clock_->Monotonic();
    if (before == told && now < say_again) continue;
    told = before;
    say_again = now + kSayAgain;
    progress(absl::StrCat("waiting for ", before));
  }
}

void Turn::End() {
  base::MutexLock lock(&mutex_);
  who_.clear();
  ended_.SignalAll();
}

absl::Status KernelUpload::CheckComplete() const {
  if (files_.empty()) return absl::InvalidArgumentError("no file was sent");
  const File& last = files_.back();
  if (last.received == last.size) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(last.name, ": ", last.received, " of ", last.size, " bytes announced"));
}

absl::Status KernelUpload::Begin(const v1::ImportKernelRequest::ImportHeader& header) {
  if (!files_.empty()) KTSTR_RETURN_IF_ERROR(CheckComplete());
  KTSTR_RETURN_IF_ERROR(
      CheckLimit(LimitOf("ImportKernelRequest.header"), "header", files_.size() + 1));
  if (header.size() == 0) return absl::InvalidArgumentError("size: 0 bytes, at least 1");
  // No overflow: what was announced before is within the limit.
  constexpr uint64_t kMaxBytes = LimitOf("ImportKernelRequest.ImportHeader.size").max;
  announced_ += std::min(header.size(), kMaxBytes + 1);
  KTSTR_RETURN_IF_ERROR(
      CheckLimit(LimitOf("ImportKernelRequest.ImportHeader.size"), "size", announced_));
  KTSTR_RETURN_IF_ERROR(CheckLimit(LimitOf("ImportKernelRequest.ImportHeader.file_name"),
                                   "file_name", header.file_name().size()));
  if (header.file_name().empty() || absl::StrContains(header.file_name(), "/")) {
    return absl::InvalidArgumentError("file_name: must be a base name");
  }
  KTSTR_RETURN_IF_ERROR(CheckLimit(LimitOf("ImportKernelRequest.ImportHeader.config"), "config",
                                   header.config().size()));
  if (!header.config().empty()) config_ = header.config();
  absl::StatusOr<base::UniqueFd> file = base::MakeUnnamedFile(imports_->cache_dir_);
  if (!file.ok()) return CacheError(file.status(), imports_->cache_dir_);
  files_.push_back({*std::move(file), header.file_name(), header.size(), 0});
  return absl::OkStatus();
}

absl::Status KernelUpload::Append(std::string_view data) {
  if (data.empty()) return absl::OkStatus();
  if (files_.empty()) return absl::InvalidArgumentError("data before the header of a file");
  File& file = files_.back();
  file.received += data.size();
  if (file.received > file.size) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.name, ": more than the ", file.size, " bytes announced"));
  }
  absl::Status written = base::WriteAll(file.fd.get(), data, file.name);
  return written.ok() ? written : CacheError(std::move(written), imports_->cache_dir_);
}

absl::StatusOr<std::vector<cache::KernelCache::Imported>> KernelUpload::Finish(
    const std::function<bool()>& cancelled,
    const std::function<void(const std::string&)>& progress) {
  KTSTR_RETURN_IF_ERROR(CheckComplete());
  std::vector<cache::KernelCache::File> files;
  for (const File& file : files_) files.push_back({file.fd.get(), file.name});
  return imports_->Import(caller_, files, config_, cancelled, progress);
}

std::unique_ptr<KernelUpload> KernelImports::BeginUpload(const Caller& caller) {
  return std::unique_ptr<KernelUpload>(new KernelUpload(this, caller));
}

absl::StatusOr<std::vector<cache::KernelCache::Imported>> KernelImports::Import(
    const Caller& caller, const std::vector<cache::KernelCache::File>& files,
    const std::string& config, const std::function<bool()>& cancelled, const Progress& progress) {
  const auto stopped = [&] { return stopping_.load() || cancelled(); };
  KTSTR_RETURN_IF_ERROR(import_turn_.Take(
      absl::StrCat("the import of ", Named(files), " by ", caller.user), stopped, progress));
  const absl::Cleanup end_turn = [this] { import_turn_.End(); };
  const base::WaitScope waits(stopped, progress);
  return kernels_->Import(files, config, caller.uid, progress);
}

absl::StatusOr<v1::KernelEntry> KernelImports::ImportFetched(const Caller& caller,
                                                             const std::vector<std::string>& paths,
                                                             const std::function<bool()>& cancelled,
                                                             const Progress& progress) {
  std::vector<base::UniqueFd> fds;
  std::vector<cache::KernelCache::File> files;
  for (const std::string& path : paths) {
    KTSTR_ASSIGN_OR_RETURN(base::UniqueFd fd, base::Open(path, O_RDONLY));
    files.push_back({fd.get(), path});
    fds.push_back(std::move(fd));
  }
  KTSTR_ASSIGN_OR_RETURN(std::vector<cache::KernelCache::Imported> imported,
                         Import(caller, files, /*config=*/"", cancelled, progress));
  if (imported.empty()) return absl::InternalError("the source brought no file");
  return std::move(imported.front().entry);
}

absl::StatusOr<v1::KernelEntry> KernelImports::Fetch(
    const Caller& caller, const v1::FetchKernelRequest& request,
    const std::function<void(const std::string&)>& progress,
    const std::function<bool()>& cancelled) {
  KTSTR_ASSIGN_OR_RETURN(const cache::KernelSource* source,
                         cache::FindKernelSource(request.source()));
  cache::FetchRequest fetch;
  fetch.what = cache::WithoutPrefix(*source, request.source());
  fetch.suites.assign(request.suites().begin(), request.suites().end());
  if (fetch.suites.empty()) fetch.suites = suites_;
  KTSTR_RETURN_IF_ERROR(source->Check(fetch));
  fetch.state_dir = base::JoinPath(cache_dir_, "apt");
  fetch.dest_dir = base::JoinPath(cache_dir_, "fetched");
  fetch.progress = progress;
  fetch.cancelled = [&] { return stopping_.load() || cancelled(); };
  ++fetches_;
  const absl::Cleanup counted = [this] { --fetches_; };
  KTSTR_RETURN_IF_ERROR(
      fetch_turn_.Take(absl::StrCat("the fetch of ", request.source(), " by ", caller.user),
                       fetch.cancelled, progress));
  const absl::Cleanup end_turn = [this] { fetch_turn_.End(); };
  if (absl::Status made = base::MakeDirs(fetch.dest_dir, 0755); !made.ok()) {
    return CacheError(made, cache_dir_);
  }
  // The cache entry has the contents; nothing needs the fetched files any more.
  const absl::Cleanup remove = [&fetch] {
    if (absl::Status removed = base::RemoveAll(fetch.dest_dir); !removed.ok()) {
      KTSTR_LOG(WARNING) << removed;
    }
  };
  const absl::StatusOr<std::vector<std::string>> paths = source->Obtain(fetch);
  if (absl::IsResourceExhausted(paths.status())) return CacheError(paths.status(), cache_dir_);
  KTSTR_RETURN_IF_ERROR(paths.status());
  progress(absl::StrCat("importing ", fetch.what));
  return ImportFetched(caller, *paths, cancelled, progress);
}

}  // namespace ktstr::daemon
