// SPDX-License-Identifier: Apache-2.0
//
// Snapshots of guests on disk, so that runs start warm also after a restart of the daemon. A cache:
// an entry that is damaged, cut short or of another version is removed and made again, and never
// used.
//
//   DIR/KEY/metadata.json   v1::SnapshotMetadata; its modification time is the last use
//   DIR/KEY/state, ram-N    the files
//   DIR/.tmp/NAME           one being written; renamed when it is whole
//
// Above the budget the least recently used go. One process (ktstrd) has the store; any thread.

#ifndef KTSTR_CACHE_SNAPSHOT_STORE_H_
#define KTSTR_CACHE_SNAPSHOT_STORE_H_

#include <cstdint>
#include <memory>
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

class SnapshotStore {
 public:
  // Name of a snapshot with this identity.
  static std::string KeyOf(std::string_view identity);

  // Makes `dir` (0700) when it can, removes what killed writers left, evicts down to
  // `budget_bytes`. A directory that cannot be made is an error of each later call.
  SnapshotStore(std::string dir, uint64_t budget_bytes);

  // The whole snapshot, every byte checked. NotFound when there is none. DataLoss, with what is
  // wrong, when there was one of no use: it is removed.
  absl::StatusOr<SnapshotFiles> Load(std::string_view identity) ABSL_LOCKS_EXCLUDED(mutex_);
  // Keeps a snapshot, whose files are borrowed; one of the same identity is replaced.
  // ResourceExhausted on a full disk; FailedPrecondition when the directory cannot be written, or
  // the snapshot alone is above the budget. What was there before stands then.
  absl::Status Store(std::string_view identity, std::string_view label, int state,
                     const std::vector<int>& ram) ABSL_LOCKS_EXCLUDED(mutex_);
  void Remove(std::string_view identity) ABSL_LOCKS_EXCLUDED(mutex_);

  // Most recently used first.
  absl::StatusOr<std::vector<v1::SnapshotEntry>> List() ABSL_LOCKS_EXCLUDED(mutex_);
  // Removes all of them. Returns what was there.
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
