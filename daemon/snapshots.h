// SPDX-License-Identifier: Apache-2.0
//
// The snapshots that runs start from, by their identities: recently used ones in memory, all of
// them on disk (cache/snapshot_store.h). A snapshot in memory is a set of sealed memfds, which
// every VM of it maps: one copy, however many run.
//
// Any thread. One thread of the object's own writes new snapshots to disk.

#ifndef KTSTR_DAEMON_SNAPSHOTS_H_
#define KTSTR_DAEMON_SNAPSHOTS_H_

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
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
  Handle Add(cache::SnapshotInfo info, vmm::Snapshot snapshot) ABSL_LOCKS_EXCLUDED(mutex_);

  // The right to make a snapshot that takes long, so that of several runs that want it one makes it
  // and the others wait. Waits until no other run has it, or `stopped` returns true; then null.
  class Turn;
  std::unique_ptr<Turn> AwaitTurn(const std::string& identity, const std::function<bool()>& stopped)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Remembers, until the daemon ends, that this snapshot cannot be made.
  void MarkImpossible(const std::string& identity) ABSL_LOCKS_EXCLUDED(mutex_);
  bool Impossible(const std::string& identity) ABSL_LOCKS_EXCLUDED(mutex_);
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
    cache::SnapshotInfo info;
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
  std::set<std::string> making_ ABSL_GUARDED_BY(mutex_);               // Somebody has their Turn.
  std::list<std::string> impossible_ ABSL_GUARDED_BY(mutex_);          // Oldest first.
  std::map<std::string, std::string> unkept_ ABSL_GUARDED_BY(mutex_);  // By identity: why.
  std::string writing_ ABSL_GUARDED_BY(mutex_);  // Identity of what the writer stores; empty: none.
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread writer_;
};

// Ends with the object.
class Snapshots::Turn {
 public:
  Turn(Snapshots* snapshots, std::string identity)
      : snapshots_(snapshots), identity_(std::move(identity)) {}
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn();

 private:
  Snapshots* const snapshots_;
  const std::string identity_;
};

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_SNAPSHOTS_H_
