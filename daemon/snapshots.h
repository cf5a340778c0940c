// SPDX-License-Identifier: Apache-2.0
//
// The snapshots that runs start from: recently used ones in memory, all of them on disk
// (cache/snapshot_store.h). A snapshot in memory is a set of sealed memfds, which every VM of it
// maps: one copy, however many run.
//
// Any thread. One thread of the object's own writes new snapshots to disk.

#ifndef KTSTR_DAEMON_SNAPSHOTS_H_
#define KTSTR_DAEMON_SNAPSHOTS_H_

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "cache/snapshot_store.h"
#include "vmm/snapshot.h"

namespace ktstr::daemon {

class Snapshots {
 public:
  struct Options {
    std::string dir;
    uint64_t disk_budget = 0;    // Bytes.
    uint64_t memory_budget = 0;  // Bytes; the snapshot used last stays in any case.
  };
  explicit Snapshots(const Options& options);
  // Waits until added snapshots are on disk.
  ~Snapshots();

  using Handle = std::shared_ptr<const vmm::Snapshot>;
  // Null when there is none. `*note`: why an existing one is unusable; else empty.
  Handle Find(const std::string& identity, std::string* note) ABSL_LOCKS_EXCLUDED(mutex_);
  // Keeps the snapshot in memory and writes it to disk later. Returns the one to use: two runs may
  // have booted the same machine at the same time.
  Handle Add(const std::string& identity, const std::string& label, vmm::Snapshot snapshot)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Why the snapshot of this machine could not be kept on disk. Returns each reason once; else
  // empty.
  std::string TakeUnkept(const std::string& identity) ABSL_LOCKS_EXCLUDED(mutex_);
  // Removes an unusable snapshot.
  void Drop(const std::string& identity) ABSL_LOCKS_EXCLUDED(mutex_);

  absl::StatusOr<std::vector<v1::SnapshotEntry>> List() { return store_.List(); }
  // Removes all of them; VMs that run on one keep it.
  absl::StatusOr<std::vector<v1::SnapshotEntry>> Clean() ABSL_LOCKS_EXCLUDED(mutex_);
  // Waits until every added snapshot is on disk or has failed to get there.
  void AwaitWritten() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Hot {
    std::string identity;
    Handle snapshot;
  };
  struct Pending {
    std::string identity;
    std::string label;
    Handle snapshot;
  };
  void Remember(const std::string& identity, Handle snapshot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Forget(const std::string& identity) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Waits for one; nullopt at the end.
  std::optional<Pending> NextPending() ABSL_LOCKS_EXCLUDED(mutex_);
  void WriterLoop();

  const Options options_;
  cache::SnapshotStore store_;
  base::Mutex load_mutex_;  // One thread at a time reads from disk, so no snapshot is read twice.
  base::Mutex mutex_;
  base::CondVar changed_;
  std::list<Hot> hot_ ABSL_GUARDED_BY(mutex_);  // Used last first.
  std::list<Pending> pending_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string> unkept_ ABSL_GUARDED_BY(mutex_);  // By identity: why.
  std::string writing_ ABSL_GUARDED_BY(mutex_);  // Identity of what the writer stores; empty: none.
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread writer_;
};

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_SNAPSHOTS_H_
