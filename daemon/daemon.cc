// SPDX-License-Identifier: Apache-2.0
#include "daemon/daemon.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/log.h"
#include "base/protocol.h"
#include "base/sha256.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "daemon/cache_lock.h"
#include "daemon/cache_status.h"
#include "daemon/engine_choice.h"
#include "daemon/spec_check.h"
#include "scenario/limits.h"

namespace ktstr::daemon {
namespace {

using scenario::CheckLimit;
using scenario::LimitOf;

}  // namespace

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Create(const ServerOptions& options) {
  const std::string& cache_dir = options.cache_dir;
  const std::string runs_root = base::JoinPath(cache_dir, "runs");
  absl::StatusOr<base::FileLock> lock = TakeCacheLock(cache_dir, options.socket);
  if (absl::IsAlreadyExists(lock.status())) return lock.status();
  if (!lock.ok()) return CacheError(lock.status(), cache_dir);
  std::unique_ptr<Daemon> daemon(new Daemon(options, *std::move(lock)));
  daemon->runs_root_ = runs_root;
  auto kernels = cache::KernelCache::Open(cache_dir);
  if (!kernels.ok()) return kernels.status();
  daemon->kernels_ = *std::move(kernels);
  KTSTR_ASSIGN_OR_RETURN(daemon->store_, RunStore::Open(base::JoinPath(runs_root, "runs.db")));
  const v1::DaemonConfig& config = options.config;
  daemon->imports_ = std::make_unique<KernelImports>(
      daemon->kernels_.get(), cache_dir,
      std::vector<std::string>(config.kernel_suites().begin(), config.kernel_suites().end()));
  daemon->blobs_ = std::make_unique<UserBlobs>(base::JoinPath(cache_dir, "blobs"),
                                               uint64_t{config.blob_budget_mb()} << 20);
  daemon->boot_ =
      std::make_unique<BootImages>(base::JoinPath(cache_dir, "boot"), options.agent_program);
  daemon->snapshots_ = std::make_unique<Snapshots>(Snapshots::Options{
      base::JoinPath(cache_dir, "snapshots"), uint64_t{config.snapshot_budget_mb()} << 20,
      uint64_t{config.snapshot_memory_mb()} << 20});
  daemon->prepared_ = std::make_unique<PreparedVms>(config.prepared_vms());
  daemon->executor_ = std::make_unique<VmRunExecutor>(
      MachineRunner::Options{options.vm_program, EnginePaths(config)}, daemon->kernels_.get(),
      daemon->blobs_.get(), daemon->boot_.get(), daemon->snapshots_.get(), daemon->prepared_.get());
  daemon->record_files_ = std::make_unique<RecordFiles>(runs_root);
  RunManagerOptions run_options;
  run_options.slots = config.max_running_vms();
  run_options.max_queued = config.max_queued_runs();
  run_options.max_kept = config.max_kept_runs();
  run_options.max_bytes = uint64_t{config.run_budget_mb()} << 20;
  run_options.unwatched_grace = options.unwatched_grace;
  run_options.restart_grace = options.restart_grace;
  KTSTR_ASSIGN_OR_RETURN(
      daemon->runs_, RunManager::Create(run_options, daemon->store_.get(), daemon->executor_.get(),
                                        daemon->record_files_.get()));
  return daemon;
}

Daemon::~Daemon() { Stop(); }

void Daemon::Stop() {
  if (imports_ != nullptr) imports_->Stop();
  if (runs_ != nullptr) runs_->Stop();
}

absl::StatusOr<v1::HandshakeResponse> Daemon::Handshake(const Caller& caller,
                                                        const v1::HandshakeRequest& request) {
  KTSTR_RETURN_IF_ERROR(CheckLimit(LimitOf("HandshakeRequest.client_version"), "client_version",
                                   request.client_version().size()));
  if (request.protocol_version() != base::kProtocolVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        "protocol version ", request.protocol_version(), " of the client (",
        request.client_version().substr(0, 64), ") is not version ", base::kProtocolVersion,
        " of ktstrd " KTSTR_VERSION
        ": install client and daemon from one build; a running daemon "
        "of an earlier build ends with 'kill ",
        getpid(), "'"));
  }
  v1::HandshakeResponse response;
  response.set_protocol_version(base::kProtocolVersion);
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
  KTSTR_RETURN_IF_ERROR(
      CheckLimit(LimitOf("FindMissingBlobsRequest.sha256"), "sha256", names.size()));
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
  KTSTR_RETURN_IF_ERROR(CheckLimit(LimitOf("PutBlobRequest.size"), "size", size));
  KTSTR_ASSIGN_OR_RETURN(cache::BlobStore * blobs, blobs_->Of(caller.uid));
  return blobs->Begin(sha256, size);
}

std::optional<int64_t> Daemon::FindKnown(const Caller& caller, const v1::RunSpec& spec) {
  const absl::StatusOr<std::string> fingerprint = executor_->FingerprintOf(caller.uid, spec);
  if (!fingerprint.ok() || fingerprint->empty()) return std::nullopt;
  absl::StatusOr<std::optional<int64_t>> known = store_->FindKnown(caller.uid, *fingerprint);
  if (!known.ok()) KTSTR_LOG(WARNING) << known.status();
  return known.ok() ? *known : std::nullopt;
}

absl::StatusOr<v1::SubmitRunResponse> Daemon::SubmitRun(const Caller& caller,
                                                        const v1::SubmitRunRequest& request) {
  const v1::RunSpec& spec = request.spec();
  KTSTR_RETURN_IF_ERROR(CheckRunSpec(spec));
  KTSTR_RETURN_IF_ERROR(CheckEngine(spec.engine(), options_.config));
  KTSTR_RETURN_IF_ERROR(kernels_->CanResolve(spec.kernel(), spec.scenario().has_scheduler()));
  v1::SubmitRunResponse response;
  const std::optional<int64_t> known = request.reuse() ? FindKnown(caller, spec) : std::nullopt;
  response.set_known(known.has_value());
  if (known.has_value()) {
    response.set_run_id(RunId(*known));
  } else {
    KTSTR_ASSIGN_OR_RETURN(*response.mutable_run_id(), runs_->Submit(caller, spec));
  }
  return response;
}

absl::StatusOr<Page<v1::KernelEntry>> Daemon::ListKernels(const Caller& caller, int32_t page_size,
                                                          const std::string& page_token) {
  KTSTR_ASSIGN_OR_RETURN(std::vector<v1::KernelEntry> kernels, kernels_->List());
  return PageOf(std::move(kernels), page_size, page_token,
                [](const v1::KernelEntry& entry) { return entry.metadata().key(); });
}

absl::StatusOr<Page<v1::SnapshotEntry>> Daemon::ListSnapshots(const Caller& caller,
                                                              int32_t page_size,
                                                              const std::string& page_token) {
  auto snapshots = snapshots_->List();
  if (!snapshots.ok()) return CacheError(snapshots.status(), options_.cache_dir);
  // The label of an attached one names what its owner tests.
  snapshots->erase(std::remove_if(snapshots->begin(), snapshots->end(),
                                  [&caller](const v1::SnapshotEntry& entry) {
                                    return entry.has_owner() && !caller.MayUse(entry.owner());
                                  }),
                   snapshots->end());
  return PageOf(*std::move(snapshots), page_size, page_token,
                [](const v1::SnapshotEntry& entry) { return entry.key(); });
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
