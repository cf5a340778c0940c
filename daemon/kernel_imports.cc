// SPDX-License-Identifier: Apache-2.0
#include "daemon/kernel_imports.h"

#include <fcntl.h>
#include <unistd.h>

#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/unnamed_file.h"
#include "cache/kernel_source.h"
#include "daemon/cache_status.h"

namespace ktstr::daemon {
namespace {

constexpr absl::Duration kTurnPoll = absl::Milliseconds(200);
constexpr size_t kMaxConfigBytes = size_t{2} << 20;

}  // namespace

absl::Status KernelUpload::CheckComplete() const {
  if (files_.empty()) return absl::InvalidArgumentError("no file was sent");
  const File& last = files_.back();
  if (last.received == last.size) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(last.name, ": ", last.received, " of ", last.size, " bytes announced"));
}

absl::Status KernelUpload::Begin(const v1::ImportKernelRequest::ImportHeader& header) {
  if (!files_.empty()) KTSTR_RETURN_IF_ERROR(CheckComplete());
  if (files_.size() == kMaxKernelFiles) {
    return absl::InvalidArgumentError(
        absl::StrCat("at most ", kMaxKernelFiles, " files are imported together"));
  }
  if (header.size() == 0 || header.size() > kMaxKernelFileBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("size: ", header.size(), " bytes, must be 1 to ", kMaxKernelFileBytes));
  }
  if (header.file_name().empty() || header.file_name().size() > 255 ||
      absl::StrContains(header.file_name(), "/")) {
    return absl::InvalidArgumentError("file_name: must be a base name of at most 255 bytes");
  }
  if (header.config().size() > kMaxConfigBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("config: ", header.config().size(), " bytes, at most ", kMaxConfigBytes));
  }
  if (!header.config().empty()) config_ = header.config();
  absl::StatusOr<base::UniqueFd> file = base::MakeUnnamedFile(cache_dir_);
  if (!file.ok()) return CacheError(file.status(), cache_dir_);
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
  return written.ok() ? written : CacheError(std::move(written), cache_dir_);
}

absl::StatusOr<std::vector<cache::KernelCache::Imported>> KernelUpload::Finish() {
  KTSTR_RETURN_IF_ERROR(CheckComplete());
  std::vector<cache::KernelCache::File> files;
  for (const File& file : files_) files.push_back({file.fd.get(), file.name});
  return kernels_->Import(files, config_, owner_);
}

std::unique_ptr<KernelUpload> KernelImports::BeginUpload(const Caller& caller) {
  return std::unique_ptr<KernelUpload>(new KernelUpload(kernels_, cache_dir_, caller.uid));
}

bool KernelImports::TakeTurn() {
  base::MutexLock lock(&mutex_);
  if (fetching_) ended_.WaitFor(&mutex_, kTurnPoll);
  return !std::exchange(fetching_, true);
}

void KernelImports::EndTurn() {
  base::MutexLock lock(&mutex_);
  fetching_ = false;
  ended_.SignalAll();
}

absl::StatusOr<v1::KernelEntry> KernelImports::ImportFetched(const std::vector<std::string>& paths,
                                                             uid_t owner) {
  std::vector<base::UniqueFd> fds;
  std::vector<cache::KernelCache::File> files;
  for (const std::string& path : paths) {
    KTSTR_ASSIGN_OR_RETURN(base::UniqueFd fd, base::Open(path, O_RDONLY));
    files.push_back({fd.get(), path});
    fds.push_back(std::move(fd));
  }
  KTSTR_ASSIGN_OR_RETURN(std::vector<cache::KernelCache::Imported> imported,
                         kernels_->Import(files, /*config_text=*/"", owner));
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
  for (bool reported = false; !TakeTurn(); reported = true) {
    if (fetch.cancelled()) return absl::CancelledError("cancelled while waiting for another fetch");
    if (!reported) progress("waiting for another fetch");
  }
  const absl::Cleanup end_turn = [this] { EndTurn(); };
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
  return ImportFetched(*paths, caller.uid);
}

}  // namespace ktstr::daemon
