// SPDX-License-Identifier: Apache-2.0
#include "daemon/daemon.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/log.h"
#include "base/sha256.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "cache/apt_fetch.h"
#include "cache/cache_error.h"
#include "daemon/engine_choice.h"
#include "daemon/spec_check.h"

namespace ktstr::daemon {
namespace {

constexpr int kMaxNames = 4096;
constexpr absl::Duration kFetchTurnPoll = absl::Milliseconds(200);
constexpr int kMaxSuites = 8;
constexpr size_t kMaxConfigBytes = size_t{2} << 20;

// What a cache that cannot be written looks like to the user.
absl::Status CacheError(absl::Status status, const std::string& cache_dir) {
  const std::string what = "cache directory " + cache_dir;
  // It was just being made: what is not there is a place to make it.
  if (absl::IsNotFound(status)) status = absl::FailedPreconditionError(status.message());
  if (absl::IsInternal(status)) return base::Annotate(std::move(status), what);
  return cache::ExplainCacheError(std::move(status), what);
}

bool IsDebianName(const std::string& text) {
  return text.size() >= 2 && text.size() <= 128 &&
         (absl::ascii_islower(text[0]) || absl::ascii_isdigit(text[0])) &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '+' || c == '-' ||
                  c == '.';
         });
}

absl::StatusOr<std::string> PackageOf(const std::string& source) {
  const std::string prefix = "deb:";
  if (!absl::StartsWith(source, prefix) || !IsDebianName(source.substr(prefix.size()))) {
    return absl::InvalidArgumentError(absl::StrCat("source '", source.substr(0, 128),
                                                   "': must be deb:PACKAGE, such as "
                                                   "deb:linux-image-cloud-amd64"));
  }
  return source.substr(prefix.size());
}

}  // namespace

absl::Status KernelUpload::Append(std::string_view data) {
  received_ += data.size();
  if (received_ > header_.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(header_.file_name(), ": more than the ", header_.size(), " bytes announced"));
  }
  absl::Status written = base::WriteAll(file_.get(), data, header_.file_name());
  return written.ok() ? written : CacheError(std::move(written), cache_dir_);
}

absl::StatusOr<cache::KernelCache::Imported> KernelUpload::Finish() {
  if (received_ != header_.size()) {
    return absl::InvalidArgumentError(absl::StrCat(header_.file_name(), ": ", received_, " of ",
                                                   header_.size(), " bytes announced"));
  }
  if (lseek(file_.get(), 0, SEEK_SET) != 0) return base::ErrnoStatus(errno, header_.file_name());
  return kernels_->Import(file_.get(), header_.file_name(), header_.config());
}

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Create(const ServerOptions& options) {
  const std::string& cache_dir = options.cache_dir;
  const std::string runs_root = base::JoinPath(cache_dir, "runs");
  const std::string locks = base::JoinPath(runs_root, ".locks");
  if (absl::Status made = base::MakeDirs(locks, 0700); !made.ok()) {
    return CacheError(made, cache_dir);
  }
  absl::StatusOr<base::FileLock> lock =
      base::FileLock::TryAcquire(base::JoinPath(locks, "ktstrd.lock"), base::LockMode::kExclusive);
  if (absl::IsUnavailable(lock.status())) {
    return absl::AlreadyExistsError(absl::StrCat(
        "another ktstrd uses the cache directory ", cache_dir, " with another socket: ",
        lock.status().message(), ". Use its socket (--socket), or another KTSTR_CACHE_DIR"));
  }
  if (!lock.ok()) return CacheError(lock.status(), cache_dir);
  std::unique_ptr<Daemon> daemon(new Daemon(options, *std::move(lock)));
  daemon->runs_root_ = runs_root;
  auto kernels = cache::KernelCache::Open(cache_dir);
  if (!kernels.ok()) return kernels.status();
  daemon->kernels_ = *std::move(kernels);
  KTSTR_ASSIGN_OR_RETURN(daemon->store_, RunStore::Open(base::JoinPath(runs_root, "runs.db")));
  const v1::DaemonConfig& config = options.config;
  daemon->blobs_ = std::make_unique<UserBlobs>(base::JoinPath(cache_dir, "blobs"),
                                               uint64_t{config.blob_budget_mb()} << 20);
  daemon->boot_ =
      std::make_unique<BootImages>(base::JoinPath(cache_dir, "boot"), options.agent_program);
  daemon->snapshots_ = std::make_unique<Snapshots>(Snapshots::Options{
      base::JoinPath(cache_dir, "snapshots"), uint64_t{config.snapshot_budget_mb()} << 20,
      uint64_t{config.snapshot_memory_mb()} << 20});
  daemon->prepared_ = std::make_unique<PreparedVms>(config.prepared_vms());
  daemon->executor_ = std::make_unique<VmRunExecutor>(
      runs_root, MachineRunner::Options{options.vm_program, EnginePaths(config)},
      daemon->kernels_.get(), daemon->blobs_.get(), daemon->boot_.get(), daemon->snapshots_.get(),
      daemon->prepared_.get());
  RunManagerOptions run_options;
  run_options.slots = config.max_running_vms();
  run_options.max_queued = config.max_queued_runs();
  run_options.max_kept = config.max_kept_runs();
  run_options.unwatched_grace = options.unwatched_grace;
  run_options.restart_grace = options.restart_grace;
  KTSTR_ASSIGN_OR_RETURN(daemon->runs_, RunManager::Create(run_options, daemon->store_.get(),
                                                           daemon->executor_.get()));
  return daemon;
}

Daemon::~Daemon() { Stop(); }

void Daemon::Stop() {
  stopping_ = true;
  if (runs_ != nullptr) runs_->Stop();
}

absl::StatusOr<v1::HandshakeResponse> Daemon::Handshake(const Caller& caller,
                                                        const v1::HandshakeRequest& request) {
  if (request.protocol_version() != kProtocolVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("protocol version ", request.protocol_version(), " of the client (",
                     request.client_version().substr(0, 64), ") is not version ", kProtocolVersion,
                     " of ktstrd " KTSTR_VERSION
                     ": install client and daemon from one build; a running daemon "
                     "of an earlier build ends with 'kill ",
                     getpid(), "'"));
  }
  v1::HandshakeResponse response;
  response.set_protocol_version(kProtocolVersion);
  response.set_daemon_version("ktstrd " KTSTR_VERSION);
  response.set_uid(caller.uid);
  response.set_daemon_pid(getpid());
  response.set_private_daemon(true);
  response.set_cache_dir(options_.cache_dir);
  response.set_runs_dir(base::JoinPath(runs_root_, caller.user));
  return response;
}

absl::StatusOr<std::vector<std::string>> Daemon::FindMissingBlobs(
    const Caller& caller, const std::vector<std::string>& names) {
  if (names.size() > kMaxNames) {
    return absl::InvalidArgumentError(
        absl::StrCat("sha256: ", names.size(), " names, at most ", kMaxNames));
  }
  for (const std::string& name : names) {
    if (!base::IsSha256Hex(name)) {
      return absl::InvalidArgumentError(
          absl::StrCat("sha256: '", name.substr(0, 80), "' is not 64 lower-case hex digits"));
    }
  }
  KTSTR_ASSIGN_OR_RETURN(cache::BlobStore * blobs, blobs_->Of(caller.uid));
  return blobs->FindMissing(names);
}

absl::StatusOr<std::unique_ptr<cache::BlobWriter>> Daemon::BeginBlob(const Caller& caller,
                                                                     const std::string& sha256,
                                                                     uint64_t size) {
  if (!base::IsSha256Hex(sha256)) {
    return absl::InvalidArgumentError("sha256: not 64 lower-case hex digits");
  }
  if (size > kMaxFileBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("size: ", size, " bytes, at most ", kMaxFileBytes));
  }
  KTSTR_ASSIGN_OR_RETURN(cache::BlobStore * blobs, blobs_->Of(caller.uid));
  return blobs->Begin(sha256, size);
}

absl::StatusOr<std::string> Daemon::SubmitRun(const Caller& caller, const v1::RunSpec& spec) {
  KTSTR_RETURN_IF_ERROR(CheckRunSpec(spec));
  KTSTR_RETURN_IF_ERROR(CheckEngine(spec.engine(), options_.config));
  KTSTR_RETURN_IF_ERROR(kernels_->Resolve(spec.kernel(), spec.scenario().has_scheduler()).status());
  return runs_->Submit(caller, spec);
}

absl::StatusOr<std::unique_ptr<KernelUpload>> Daemon::BeginKernel(
    const v1::ImportKernelRequest::ImportHeader& header) {
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
  absl::StatusOr<base::UniqueFd> file = base::Open(options_.cache_dir, O_RDWR | O_TMPFILE, 0600);
  if (!file.ok()) return CacheError(file.status(), options_.cache_dir);
  return std::unique_ptr<KernelUpload>(
      new KernelUpload(kernels_.get(), options_.cache_dir, *std::move(file), header));
}

bool Daemon::TakeFetchTurn() {
  base::MutexLock lock(&fetch_mutex_);
  if (fetching_) fetch_ended_.WaitFor(&fetch_mutex_, kFetchTurnPoll);
  return !std::exchange(fetching_, true);
}

void Daemon::EndFetchTurn() {
  base::MutexLock lock(&fetch_mutex_);
  fetching_ = false;
  fetch_ended_.SignalAll();
}

absl::StatusOr<v1::KernelEntry> Daemon::FetchKernel(
    const v1::FetchKernelRequest& request, const std::function<void(const std::string&)>& progress,
    const std::function<bool()>& cancelled) {
  cache::AptFetchOptions fetch;
  KTSTR_ASSIGN_OR_RETURN(fetch.package, PackageOf(request.source()));
  fetch.suites.assign(request.suites().begin(), request.suites().end());
  if (fetch.suites.empty()) {
    fetch.suites.assign(options_.config.kernel_suites().begin(),
                        options_.config.kernel_suites().end());
  }
  if (fetch.suites.size() > kMaxSuites) {
    return absl::InvalidArgumentError(
        absl::StrCat("suites: ", fetch.suites.size(), ", at most ", kMaxSuites));
  }
  for (const std::string& suite : fetch.suites) {
    if (!IsDebianName(suite)) {
      return absl::InvalidArgumentError(
          absl::StrCat("suites: '", suite.substr(0, 64), "' is not the name of a suite"));
    }
  }
  struct Counted {
    explicit Counted(std::atomic<int>* count) : count(count) { ++*count; }
    ~Counted() { --*count; }
    std::atomic<int>* count;
  } counted(&fetches_);
  fetch.state_dir = base::JoinPath(options_.cache_dir, "apt");
  fetch.dest_dir = base::JoinPath(options_.cache_dir, "fetched");
  fetch.progress = progress;
  fetch.cancelled = [&] { return stopping_.load() || cancelled(); };
  for (bool told = false; !TakeFetchTurn(); told = true) {
    if (fetch.cancelled()) return absl::CancelledError("cancelled while waiting for another fetch");
    if (!told) progress("waiting for another fetch");
  }
  const absl::Cleanup end_turn = [this] { EndFetchTurn(); };
  absl::Status made = base::MakeDirs(fetch.dest_dir, 0755);
  if (!made.ok()) return CacheError(made, options_.cache_dir);
  const absl::StatusOr<std::vector<std::string>> paths = cache::FetchPackages(fetch);
  if (absl::IsResourceExhausted(paths.status())) {
    return CacheError(paths.status(), options_.cache_dir);
  }
  KTSTR_RETURN_IF_ERROR(paths.status());
  progress(absl::StrCat("importing ", fetch.package));
  absl::StatusOr<cache::KernelCache::Imported> imported = kernels_->ImportPackages(*paths);
  // The entry is the cache; the packages were the way to it.
  if (absl::Status removed = base::RemoveAll(fetch.dest_dir); !removed.ok()) {
    KTSTR_LOG(WARNING) << removed;
  }
  KTSTR_RETURN_IF_ERROR(imported.status());
  return std::move(imported->entry);
}

absl::StatusOr<std::vector<v1::SnapshotEntry>> Daemon::ListSnapshots() {
  auto snapshots = snapshots_->List();
  if (!snapshots.ok()) return CacheError(snapshots.status(), options_.cache_dir);
  return snapshots;
}

absl::StatusOr<std::vector<v1::SnapshotEntry>> Daemon::CleanSnapshots(const Caller& caller) {
  if (caller.uid != geteuid() && !caller.admin) {
    return absl::PermissionDeniedError("snapshots: other users' runs start from them too");
  }
  prepared_->DropAll();
  auto removed = snapshots_->Clean();
  if (!removed.ok()) return CacheError(removed.status(), options_.cache_dir);
  return removed;
}

}  // namespace ktstr::daemon
