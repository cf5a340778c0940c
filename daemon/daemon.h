// SPDX-License-Identifier: Apache-2.0
//
// What ktstrd does, as plain C++: the operations of proto/ktstr/v1/service.proto without gRPC.
// KtstrService (service.h) translates calls to it, Server (server.h) owns it together with the
// socket. Any thread, but for Stop().

#ifndef KTSTR_DAEMON_DAEMON_H_
#define KTSTR_DAEMON_DAEMON_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/flock.h"
#include "cache/kernel_cache.h"
#include "daemon/boot_images.h"
#include "daemon/caller.h"
#include "daemon/config.h"
#include "daemon/kernel_imports.h"
#include "daemon/pages.h"
#include "daemon/record_files.h"
#include "daemon/run_manager.h"
#include "daemon/run_store.h"
#include "daemon/user_blobs.h"
#include "daemon/vm_run_executor.h"
#include "ktstr/v1/service.pb.h"

namespace ktstr::daemon {

class Daemon {
 public:
  // Opens everything under `options.cache_dir` and takes up the runs of an earlier daemon.
  // FailedPrecondition, with the path, when the cache cannot be used (full, read-only);
  // AlreadyExists when another ktstrd uses it.
  static absl::StatusOr<std::unique_ptr<Daemon>> Create(const ServerOptions& options);
  ~Daemon();

  // FailedPrecondition for a client of another protocol version.
  absl::StatusOr<v1::HandshakeResponse> Handshake(const Caller& caller,
                                                  const v1::HandshakeRequest& request);
  absl::StatusOr<std::vector<std::string>> FindMissingBlobs(const Caller& caller,
                                                            const std::vector<std::string>& names);
  absl::StatusOr<std::unique_ptr<cache::BlobWriter>> BeginBlob(const Caller& caller,
                                                               const std::string& sha256,
                                                               uint64_t size);
  // Checks what it can before the run starts, stores the run durably, returns its id; or the id of
  // the caller's earlier run, with SubmitRunRequest.reuse. Does not wait for a kernel that an
  // import holds: the run does.
  absl::StatusOr<v1::SubmitRunResponse> SubmitRun(const Caller& caller,
                                                  const v1::SubmitRunRequest& request);
  RunManager& runs() { return *runs_; }

  // All users share the kernels: a key stands for one content, and no import changes another entry.
  absl::StatusOr<Page<v1::KernelEntry>> ListKernels(const Caller& caller, int32_t page_size,
                                                    const std::string& page_token);
  KernelImports& imports() { return *imports_; }

  absl::StatusOr<Page<v1::SnapshotEntry>> ListSnapshots(const Caller& caller, int32_t page_size,
                                                        const std::string& page_token);
  // PermissionDenied for everyone but the daemon's own user and admins.
  absl::StatusOr<std::vector<v1::SnapshotEntry>> CleanSnapshots(const Caller& caller);

  // No run is active and no kernel is being fetched.
  bool Idle() { return runs_->Idle() && !imports_->Fetching(); }
  // Ends fetches and runs; see RunManager::Stop. By the owner.
  void Stop();

 private:
  Daemon(const ServerOptions& options, base::FileLock lock)
      : options_(options), lock_(std::move(lock)) {}
  // The caller's finished run that this one would repeat. nullopt also where that cannot be known:
  // the run itself then reports what is wrong.
  std::optional<int64_t> FindKnown(const Caller& caller, const v1::RunSpec& spec);

  const ServerOptions options_;
  const base::FileLock lock_;  // One daemon per cache: it owns the running runs of runs.db.
  std::string runs_root_;
  std::unique_ptr<cache::KernelCache> kernels_;
  std::unique_ptr<KernelImports> imports_;
  std::unique_ptr<UserBlobs> blobs_;
  std::unique_ptr<BootImages> boot_;
  std::unique_ptr<Snapshots> snapshots_;
  std::unique_ptr<PreparedVms> prepared_;
  std::unique_ptr<RunStore> store_;
  std::unique_ptr<RecordFiles> record_files_;
  std::unique_ptr<VmRunExecutor> executor_;
  std::unique_ptr<RunManager> runs_;
};

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_DAEMON_H_
