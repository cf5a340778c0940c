// SPDX-License-Identifier: Apache-2.0
//
// One blob store per user, in CACHE/blobs/UID: no user can see or use another user's uploads. Any
// thread.

#ifndef KTSTR_DAEMON_USER_BLOBS_H_
#define KTSTR_DAEMON_USER_BLOBS_H_

#include <sys/types.h>

#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "cache/blob_store.h"

namespace ktstr::daemon {

class UserBlobs {
 public:
  UserBlobs(std::string dir, uint64_t budget_bytes)
      : dir_(std::move(dir)), budget_bytes_(budget_bytes) {}
  // Opened at first use; lives as long as this object. FailedPrecondition, with the remedy, when
  // the directory cannot be made (full, read-only).
  absl::StatusOr<cache::BlobStore*> Of(uid_t uid) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  const std::string dir_;
  const uint64_t budget_bytes_;
  base::Mutex mutex_;
  std::map<uid_t, std::unique_ptr<cache::BlobStore>> stores_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_USER_BLOBS_H_
