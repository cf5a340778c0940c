// SPDX-License-Identifier: Apache-2.0
//
// Snapshots of guests on disk, so that runs start warm also after a restart of the daemon. This is
// a cache: it removes and never returns an entry that is damaged, cut or of another version; the
// next run makes a new one.
//
//   DIR/KEY/metadata.json   v1::SnapshotMetadata; its modification time is the last use
//   DIR/KEY/state, ram-N    the files
//   DIR/.tmp/NAME           an unfinished entry; renamed when it is complete
//
// Above its budget the store removes what is worth least: a snapshot is worth the time that it
// saves a run, and half as much for each day since its last use. One process (ktstrd) uses a store;
// any thread.

#ifndef KTSTR_CACHE_SNAPSHOT_STORE_H_
#define KTSTR_CACHE_SNAPSHOT_STORE_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/fd.h"
#include "base/mutex.h"
#include "ktstr/v1/snapshot.pb.h"

namespace ktstr::cache {

// Sealed memfds.
struct SnapshotFiles {
  base::UniqueFd state;
  std::vector<base::UniqueFd> ram;  // One per NUMA node.
};

// What is known of a snapshot besides its files.
struct SnapshotInfo {
  std::string identity;
  std::string label;           // For people.
  std::optional<uid_t> owner;  // Whose files it holds.
  uint32_t saves_ms = 0;       // SnapshotMetadata.saves_ms
};

class SnapshotStore {
 public:
  // Name of a snapshot with this identity.
  static std::string KeyOf(std::string_view identity);

  // Removes what killed writers left, and evicts down to `budget_bytes`. `dir` need not exist:
  // Store makes it (0700).
  SnapshotStore(std::string dir, uint64_t budget_bytes);

  // The whole snapshot; every byte is checked. NotFound when there is none. DataLoss with the
  // reason when the entry could not be read: the store has removed it.
  absl::StatusOr<SnapshotFiles> Load(std::string_view identity) ABSL_LOCKS_EXCLUDED(mutex_);
  // Stores a copy of a snapshot, in place of one with the same identity. Errors leave that one in
  // place, unless the final rename fails: ResourceExhausted on a full disk; FailedPrecondition or
  // PermissionDenied when the directory is not writable; FailedPrecondition when the snapshot alone
  // exceeds the budget.
  absl::Status Store(const SnapshotInfo& info, int state, const std::vector<int>& ram)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Remove(std::string_view identity) ABSL_LOCKS_EXCLUDED(mutex_);

  // Most recently used first.
  absl::StatusOr<std::vector<v1::SnapshotEntry>> List() ABSL_LOCKS_EXCLUDED(mutex_);
  // Removes all snapshots and returns what there was.
  absl::StatusOr<std::vector<v1::SnapshotEntry>> Clean() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  absl::Status Prepare() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Evict(std::string_view keep_key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::vector<v1::SnapshotEntry>> ListLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::string EntryDir(std::string_view key) const;

  const std::string dir_;
  const uint64_t budget_bytes_;
  base::Mutex mutex_;
};

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_SNAPSHOT_STORE_H_
